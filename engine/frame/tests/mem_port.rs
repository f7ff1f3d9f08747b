//! The in-memory link: rings, drops, chains, a peer that goes, one thread and two.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringwire_frame::{
    Class, FarEnd, Floors, FrameState, Geometry, Kick, MemPort, Packet, Pool, Port, PortStats, PutError,
    RX_HEADROOM, Region, SendFrame, TxFull,
};

fn pool_of(frame_bytes: u32, frame_count: u32) -> Pool {
    let geometry = Geometry { frame_bytes, frame_count };
    Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(frame_count))
}

/// One end of a link with its pool.
struct End {
    pool: Pool,
    port: MemPort,
}

impl End {
    fn frame(&mut self, bytes: &[u8]) -> SendFrame {
        let mut frame = self.pool.alloc(Class::Send).expect("enough frames");
        frame.append(bytes.len()).copy_from_slice(bytes);
        frame.into_send()
    }

    fn submit(&mut self, frame: &SendFrame) -> Result<(), TxFull> {
        self.port.submit(&mut self.pool, frame)
    }

    fn send(&mut self, bytes: &[u8]) -> SendFrame {
        let frame = self.frame(bytes);
        self.submit(&frame).expect("room in the ring");
        let _ = self.port.kick();
        frame
    }

    fn receive(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        let count = self.port.receive(&mut self.pool, &mut packets, usize::MAX);
        assert_eq!(count, packets.len());
        packets
    }

    fn reap(&mut self) -> usize {
        self.port.reap(&mut self.pool)
    }

    fn refill(&mut self) -> usize {
        self.port.refill(&mut self.pool)
    }

    fn stats(&self) -> PortStats {
        self.port.stats()
    }

    fn count(&self, state: FrameState) -> u32 {
        assert!(self.pool.counts().check());
        self.pool.counts().of(state)
    }
}

fn link_of(ring_frames: u32, mut a: Pool, mut b: Pool) -> (End, End) {
    let (port_a, port_b) = MemPort::pair(ring_frames, &a, &b);
    a.adopt();
    b.adopt();
    let mut ends = (End { pool: a, port: port_a }, End { pool: b, port: port_b });
    ends.0.refill();
    ends.1.refill();
    ends
}

fn link() -> (End, End) {
    link_of(16, pool_of(2048, 64), pool_of(2048, 64))
}

fn contents(packet: &Packet) -> Vec<u8> {
    std::iter::once(&packet.head).chain(&packet.rest).flat_map(|frame| frame.bytes().to_vec()).collect()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|position| u8::try_from(position % 251).expect("below 251")).collect()
}

#[test]
fn packets_cross_in_order_with_one_copy() {
    let (mut a, mut b) = link();
    let sent = [a.send(b"first"), a.send(b"second"), a.send(b"")];
    assert!(sent.iter().all(SendFrame::in_ring));
    let packets = b.receive();
    assert_eq!(packets.iter().map(contents).collect::<Vec<_>>(), [&b"first"[..], b"second", b""]);
    assert!(packets.iter().all(|packet| packet.head.headroom() == RX_HEADROOM && packet.rest.is_empty()));
    assert!(sent[0].in_ring(), "completed by reap only");
    assert_eq!(a.reap(), 3);
    assert!(!sent.iter().any(SendFrame::in_ring));
    let (a, b) = (a.stats(), b.stats());
    assert_eq!((a.tx_packets, a.tx_bytes, a.tx_lost, a.kicks), (3, 11, 0, 3));
    assert_eq!((b.rx_packets, b.rx_bytes, b.rx_dropped), (3, 11, 0));
}

#[test]
fn nothing_leaves_before_the_kick() {
    let (mut a, mut b) = link();
    let frame = a.frame(b"wait");
    a.submit(&frame).expect("room");
    assert!(!b.port.has_packets() && b.receive().is_empty());
    assert_eq!(a.port.kick(), Kick::Pending);
    assert!(b.port.has_packets());
    assert_eq!(b.receive().len(), 1);
    assert_eq!(a.port.kick(), Kick::Idle);
    assert_eq!(a.stats().kicks, 1, "an empty kick wakes nobody");
}

#[test]
fn a_received_packet_goes_back_as_the_reply() {
    let (mut a, mut b) = link();
    let request = a.send(b"ping");
    let mut packet = b.receive().remove(0);
    packet.head.bytes_mut().copy_from_slice(b"pong");
    let reply = packet.head.into_send();
    b.submit(&reply).expect("room");
    let _ = b.port.kick();
    assert_eq!(contents(&a.receive()[0]), b"pong");
    assert_eq!((a.reap(), b.reap()), (1, 1));
    drop((request, reply));
    for end in [&a, &b] {
        assert_eq!(
            (end.count(FrameState::Free), end.count(FrameState::Fill)),
            (49, 15),
            "one fill frame used"
        );
    }
    assert_eq!((a.refill(), b.refill()), (1, 1));
}

#[test]
fn without_fill_frames_the_receiver_drops_and_the_sender_completes() {
    let (mut a, mut b) = link_of(32, pool_of(2048, 64), pool_of(2048, 16));
    assert_eq!(b.count(FrameState::Fill), 8, "all but the control floor");
    let sent: Vec<_> = (0..10_u8).map(|number| a.send(&[number])).collect();
    let packets = b.receive();
    assert_eq!(
        packets.iter().map(contents).collect::<Vec<_>>(),
        (0..8_u8).map(|n| vec![n]).collect::<Vec<_>>()
    );
    assert_eq!((b.stats().rx_dropped, b.stats().rx_fill_empty), (2, 2));
    assert_eq!(a.reap(), sent.len());
    assert_eq!(b.refill(), 0, "everything is held");
    drop(packets);
    assert_eq!(b.refill(), 8);
    let _again = a.send(b"again");
    assert_eq!(b.receive().len(), 1);
}

#[test]
fn the_ring_is_full_until_reaped() {
    let (mut a, mut b) = link_of(4, pool_of(2048, 64), pool_of(2048, 64));
    let sent: Vec<_> = (0..4_u8).map(|number| a.send(&[number])).collect();
    let extra = a.frame(b"extra");
    assert_eq!((a.port.tx_room(), a.submit(&extra)), (0, Err(TxFull)));
    assert!(!extra.in_ring());
    assert_eq!(b.receive().len(), 4);
    assert_eq!(a.submit(&extra), Err(TxFull), "read, but not reaped");
    assert_eq!(a.reap(), 4);
    assert_eq!((a.port.tx_room(), a.submit(&extra)), (4, Ok(())));
    drop(sent);
}

#[test]
fn receive_takes_no_more_than_asked() {
    let (mut a, mut b) = link();
    let _sent: Vec<_> = (0..5_u8).map(|number| a.send(&[number])).collect();
    let mut packets = Vec::new();
    assert_eq!(b.port.receive(&mut b.pool, &mut packets, 2), 2);
    assert_eq!(b.port.receive(&mut b.pool, &mut packets, 0), 0);
    assert_eq!(b.port.receive(&mut b.pool, &mut packets, 64), 3);
    assert_eq!(packets.iter().map(|packet| packet.head.bytes()[0]).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn chains_are_cut_to_the_receivers_frames() {
    for (from, to) in [(2048, 2048), (4096, 2048), (2048, 4096)] {
        let (mut a, mut b) = link_of(64, pool_of(from, 64), pool_of(to, 64));
        let bytes = pattern(9000);
        let frames: Vec<_> = bytes.chunks(1500).map(|chunk| a.frame(chunk)).collect();
        a.port.submit_chain(&mut a.pool, &frames).expect("room");
        let _single = a.send(b"next");
        let packets = b.receive();
        assert_eq!(packets.len(), 2);
        assert_eq!((packets[0].len(), packets[1].len()), (9000, 4));
        assert_eq!(contents(&packets[0]), bytes, "{from} to {to}");
        assert_eq!(1 + packets[0].rest.len(), 9000_usize.div_ceil(b.port.max_frame_bytes()));
        assert_eq!(contents(&packets[1]), b"next");
        assert_eq!(a.reap(), 7);
        assert_eq!((a.stats().tx_packets, a.stats().tx_bytes), (2, 9004));
    }
}

#[test]
fn a_long_frame_arrives_as_a_chain() {
    let (mut a, mut b) = link_of(16, pool_of(4096, 64), pool_of(2048, 64));
    let bytes = pattern(4096);
    let _sent = a.send(&bytes);
    let packets = b.receive();
    assert_eq!(packets[0].rest.iter().map(|frame| frame.len()).collect::<Vec<_>>(), [1792, 512]);
    assert_eq!(contents(&packets[0]), bytes);
}

#[test]
fn a_chain_that_finds_too_few_frames_is_dropped_whole() {
    let (mut a, mut b) = link_of(32, pool_of(4096, 64), pool_of(2048, 10));
    assert_eq!(b.count(FrameState::Fill), 2);
    let bytes = pattern(4096);
    let _long = a.send(&bytes);
    let _short = a.send(b"short");
    let packets = b.receive();
    assert_eq!(packets.iter().map(contents).collect::<Vec<_>>(), [b"short"]);
    assert_eq!(b.stats().rx_dropped, 1);
    assert_eq!(b.count(FrameState::Fill), 1, "the dropped packet used no frame");
}

#[test]
fn chains_go_whole_or_not_at_all() {
    let (mut a, mut b) = link_of(4, pool_of(2048, 64), pool_of(2048, 64));
    let _first = a.send(b"first");
    let chain: Vec<_> = (0..4).map(|_| a.frame(b"part")).collect();
    assert_eq!(a.port.submit_chain(&mut a.pool, &chain), Err(TxFull));
    assert!(!chain.iter().any(SendFrame::in_ring));
    assert_eq!(a.port.submit_chain(&mut a.pool, &chain[..3]), Ok(()));
    assert_eq!(a.port.submit_chain(&mut a.pool, &[]), Ok(()));
    let _ = a.port.kick();
    assert_eq!(b.receive().len(), 2);
}

#[test]
fn what_can_never_be_sent_is_refused_and_counted() {
    let (mut a, mut b) = link_of(4, pool_of(2048, 64), pool_of(2048, 64));
    let too_long: Vec<_> = (0..5).map(|_| a.frame(b"part")).collect();
    assert_eq!(a.port.submit_chain(&mut a.pool, &too_long), Ok(()));
    let foreign = b.frame(b"foreign");
    assert_eq!(a.submit(&foreign), Ok(()));
    assert_eq!(a.port.submit(&mut b.pool, &foreign), Ok(()), "not even with its own pool");
    let twice = a.send(b"twice");
    assert_eq!(a.submit(&twice), Ok(()));
    assert_eq!((a.stats().tx_refused, a.stats().tx_packets), (4, 1));
    assert_eq!(b.receive().len(), 1);
    assert!(!foreign.in_ring());
}

#[test]
fn after_the_peer_went_everything_completes_as_lost() {
    let (mut a, mut b) = link();
    let read = a.send(b"read");
    assert_eq!(b.receive().len(), 1);
    let unread = a.send(b"unread");
    let unkicked = [a.frame(b"unkicked, "), a.frame(b"in two parts")];
    a.port.submit_chain(&mut a.pool, &unkicked).expect("room");
    assert!(!a.port.peer_is_gone());
    drop(b);
    assert!(a.port.peer_is_gone());
    assert_eq!(a.reap(), 4);
    assert_eq!(a.stats().tx_lost, 2);
    let late = a.frame(b"late");
    a.submit(&late).expect("accepted and lost");
    assert!(!late.in_ring());
    assert_eq!((a.stats().tx_packets, a.stats().tx_lost), (4, 3));
    assert_eq!(a.port.kick(), Kick::Idle);
    drop((read, unread, unkicked, late));
    assert_eq!(a.count(FrameState::Free) + a.count(FrameState::Fill), 64);
}

#[test]
fn what_a_peer_sent_before_it_went_arrives() {
    let (mut a, mut b) = link();
    let sent = a.send(b"last words");
    drop(a);
    drop(sent);
    assert!(b.port.peer_is_gone());
    assert_eq!(contents(&b.receive()[0]), b"last words", "the link keeps the sender's memory");
}

#[test]
fn several_links_share_a_pool() {
    let (mut a, mut b) = (pool_of(2048, 256), pool_of(2048, 256));
    let (mut a0, mut b0) = MemPort::pair(8, &a, &b);
    let (mut a1, mut b1) = MemPort::pair(8, &a, &b);
    a.adopt();
    b.adopt();
    assert_eq!((b0.refill(&mut b), b1.refill(&mut b)), (8, 8));
    let mut sent = Vec::new();
    for (port, text) in [(&mut a0, b"queue 0"), (&mut a1, b"queue 1")] {
        let mut frame = a.alloc(Class::Send).expect("fresh pool");
        frame.append(7).copy_from_slice(text);
        sent.push(frame.into_send());
        port.submit(&mut a, &sent[sent.len() - 1]).expect("room");
        let _ = port.kick();
    }
    let mut packets = Vec::new();
    b1.receive(&mut b, &mut packets, 8);
    b0.receive(&mut b, &mut packets, 8);
    assert_eq!(packets.iter().map(contents).collect::<Vec<_>>(), [b"queue 1", b"queue 0"]);
    assert_eq!(a1.reap(&mut a), 1);
    assert!(sent[0].in_ring() && !sent[1].in_ring());
    assert_eq!(a0.reap(&mut a), 1);
}

#[test]
fn a_kick_wakes_the_peer() {
    let (mut a, mut b) = link();
    let woken = Arc::new(AtomicUsize::new(0));
    let wake = Arc::clone(&woken);
    assert!(b.port.set_wake(move || {
        wake.fetch_add(1, Ordering::Relaxed);
    }));
    assert!(!b.port.set_wake(|| ()), "only the first counts");
    let _sent = [a.send(b"one"), a.send(b"two")];
    let _ = a.port.kick();
    assert_eq!(woken.load(Ordering::Relaxed), 2);
}

/// A worker that sends numbered packets of varying length and checks what comes from the other side.
struct Talker {
    end: End,
    sending: Vec<SendFrame>,
    sent: u64,
    received: u64,
    deadline: Instant,
}

impl Talker {
    fn packet(number: u64) -> (usize, u8) {
        let len = 8 + usize::try_from(number * 7919 % 4000).expect("below 4000");
        (len, u8::try_from(number % 251).expect("below 251"))
    }

    fn turn(&mut self, total: u64) {
        self.end.reap();
        self.sending.retain(SendFrame::in_ring);
        for packet in self.end.receive() {
            let bytes = contents(&packet);
            let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
            assert!(number >= self.received, "in order");
            let (len, filler) = Talker::packet(number);
            assert_eq!(bytes.len(), len);
            assert!(bytes[8..].iter().all(|&byte| byte == filler), "packet {number}");
            self.received = number + 1;
        }
        self.end.refill();
        while self.sent < total && self.send_one() {}
        let _ = self.end.port.kick();
        assert!(self.end.pool.counts().check());
        assert!(Instant::now() < self.deadline, "sent {}, received {}", self.sent, self.received);
    }

    fn send_one(&mut self) -> bool {
        let (len, filler) = Talker::packet(self.sent);
        let mut bytes = vec![filler; len];
        bytes[..8].copy_from_slice(&self.sent.to_le_bytes());
        let mut frames = Vec::new();
        for chunk in bytes.chunks(2048) {
            let Some(mut frame) = self.end.pool.alloc(Class::Send) else { return false };
            frame.append(chunk.len()).copy_from_slice(chunk);
            frames.push(frame.into_send());
        }
        if self.end.port.submit_chain(&mut self.end.pool, &frames).is_err() {
            return false;
        }
        self.sent += 1;
        // Half of the frames are dropped while in the ring, half kept until completed.
        if self.sent.is_multiple_of(2) {
            self.sending.append(&mut frames);
        }
        true
    }

    fn run(&mut self, total: u64, peer_turns: &AtomicUsize) {
        while self.sent < total || self.end.port.kick() == Kick::Pending || self.end.port.has_packets() {
            self.turn(total);
            thread::yield_now();
        }
        // Both sides stay until both have sent everything, and then look once more.
        peer_turns.fetch_add(1, Ordering::AcqRel);
        while peer_turns.load(Ordering::Acquire) < 2 {
            self.turn(total);
            thread::yield_now();
        }
        self.turn(total);
    }
}

#[test]
fn two_threads_talk_and_every_packet_is_accounted_for() {
    const TOTAL: u64 = 20_000;
    let (a, b) = (pool_of(2048, 128), pool_of(2048, 128));
    let (port_a, port_b) = MemPort::pair(64, &a, &b);
    let finished = Arc::new(AtomicUsize::new(0));
    let threads = [(a, port_a), (b, port_b)].map(|(mut pool, port)| {
        let finished = Arc::clone(&finished);
        thread::spawn(move || {
            pool.adopt();
            let deadline = Instant::now() + Duration::from_secs(60);
            let mut end = End { pool, port };
            end.refill();
            let mut talker = Talker { end, sending: Vec::new(), sent: 0, received: 0, deadline };
            talker.run(TOTAL, &finished);
            talker.end.stats()
        })
    });
    let [a, b] = threads.map(|thread| thread.join().expect("no panic"));
    for (one, other) in [(a, b), (b, a)] {
        assert_eq!(one.tx_packets, TOTAL);
        assert_eq!(other.rx_packets + other.rx_dropped, TOTAL, "{other:?}");
        assert!(other.rx_packets > TOTAL / 10, "{other:?}");
    }
}

/// Plugs an end of this test into a far end.
fn plug(far: &mut FarEnd) -> End {
    let mut pool = pool_of(2048, 64);
    pool.adopt();
    let mut port = far.attach(&pool);
    port.refill(&mut pool);
    End { pool, port }
}

#[test]
fn a_far_end_carries_bytes_both_ways_and_says_what_it_refuses() {
    let mut far = FarEnd::new(4, 64);
    assert_eq!(far.put(b"early"), Err(PutError::Unplugged));
    assert_eq!(far.take(|_| panic!("nobody sends")), 0);
    let mut near = plug(&mut far);
    assert_eq!(far.put(&[0; 2049]), Err(PutError::TooLong));
    for number in 0..4 {
        assert_eq!(far.put(&[number; 60]), Ok(()));
    }
    assert_eq!(far.put(b"one more"), Err(PutError::Full));
    let received = near.receive();
    assert!(received.iter().map(|packet| packet.head.bytes()).eq([[0; 60], [1; 60], [2; 60], [3; 60]]));
    near.refill();
    // For ever: what is done with comes home.
    for _ in 0..200 {
        assert_eq!(far.put(b"again"), Ok(()));
        drop(near.receive());
        near.refill();
        drop(near.send(b"answer"));
        assert_eq!(far.take(|bytes| assert_eq!(bytes, b"answer")), 1);
        near.reap();
    }
}

#[test]
fn a_far_end_shows_a_chain_as_one_packet() {
    let mut far = FarEnd::new(8, 64);
    let mut near = plug(&mut far);
    let chain = [near.frame(&[1; 1700]), near.frame(&[2; 1700])];
    near.port.submit_chain(&mut near.pool, &chain).unwrap();
    let _ = near.port.kick();
    let mut seen = Vec::new();
    assert_eq!(far.take(|bytes| seen.push(bytes.to_vec())), 1);
    assert_eq!(seen, [[[1; 1700], [2; 1700]].concat()]);
}

#[test]
fn whoever_is_plugged_into_a_far_end_last_has_the_wire() {
    let mut far = FarEnd::new(8, 64);
    let mut first = plug(&mut far);
    let mut second = plug(&mut far);
    drop(first.send(b"nobody hears"));
    drop(second.send(b"heard"));
    assert_eq!(far.take(|bytes| assert_eq!(bytes, b"heard")), 1);
    far.put(b"to the second").unwrap();
    assert_eq!(first.receive().len(), 0);
    assert_eq!(second.receive().len(), 1);
    assert!(first.port.peer_is_gone());
}
