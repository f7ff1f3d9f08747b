//! One engine on a wire in memory; the tests are the other end, packet by packet.

mod fast_open;
mod flood;
mod hoard;
mod options;
mod packets;
mod relief;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use packets::{HERE, tagged};
use ringwire::frame::FarEnd;
use ringwire::{
    Batch, CloseReason, ConnError, Datagram, DropReason, Engine, EngineBuilder, Event, Events, Handle,
    Interface, Recv, TcpOptions, Turn, UdpOptions, Worker,
};
use ringwire_wire::packet::{self, Transport};
use ringwire_wire::tcp::Flags;

const PORT: u16 = 7;

/// The engine and what is at the other end of its wire.
struct Wire {
    worker: Option<Worker>,
    handle: Handle,
    events: Events,
    far: FarEnd,
}

impl Wire {
    /// The engine in this thread.
    fn new() -> Wire {
        let (wire, engine) = Wire::to_engine(256);
        let worker = engine.into_workers().remove(0).start();
        Wire { worker: Some(worker), ..wire }
    }

    /// With a ring of this many packets each way; the engine has not started yet.
    fn to_engine(ring_packets: u32) -> (Wire, Engine) {
        Wire::to_engine_of(ring_packets, |builder| builder)
    }

    fn to_engine_of(
        ring_packets: u32,
        choose: impl FnOnce(EngineBuilder) -> EngineBuilder,
    ) -> (Wire, Engine) {
        let interface = Interface::new("memory").address(format!("{HERE}/24").parse().unwrap());
        let mut far = FarEnd::new(ring_packets, 4096);
        let engine = choose(Engine::builder().interface(interface)).start_on(|pool| far.attach(pool));
        let engine = engine.unwrap();
        let (handle, events) = (engine.handle(), Events::with_capacity(1024));
        (Wire { worker: None, handle, events, far }, engine)
    }

    fn turn(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        worker.poll(&mut self.events, Some(Duration::ZERO)).unwrap();
        for _ in self.events.drain() {}
    }

    /// Sends a frame and lets the engine look at it.
    fn send(&mut self, bytes: &[u8]) {
        self.offer(bytes);
        self.turn();
    }

    /// Sends a frame.
    fn offer(&mut self, bytes: &[u8]) {
        self.far.put(bytes).unwrap();
    }

    /// What the engine has sent since the last call.
    fn received(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        self.far.take(|frame| frames.push(frame.to_vec()));
        frames
    }

    fn dropped(&mut self, reason: DropReason) -> u64 {
        std::thread::sleep(Duration::from_millis(1));
        self.turn();
        self.handle.metrics().dropped(reason)
    }

    /// Packets that the engine says it has done something with, and all drops.
    fn accounts(&mut self) -> (u64, u64, u64) {
        std::thread::sleep(Duration::from_millis(1));
        self.turn();
        let metrics = self.handle.metrics();
        let drops = metrics.drops.iter().map(|(_, count)| count).sum();
        let handled = metrics.sum(|worker| worker.delivered + worker.control_packets);
        (metrics.sum(|worker| worker.rx_packets), handled, drops)
    }
}

fn flags(frame: &[u8]) -> Option<Flags> {
    match packet::parse(frame).unwrap().net {
        packet::Net::Ipv4(_, Transport::Tcp(segment)) => Some(segment.flags()),
        _ => None,
    }
}

fn is_reset(frame: &[u8]) -> bool {
    flags(frame).is_some_and(|flags| flags.contains(Flags::RST))
}

#[test]
fn an_icmp_packet_is_handled_or_dropped_and_never_both() {
    let mut wire = Wire::new();
    // Echo, a type that we do not act on, an error about a flow that is not there.
    wire.send(&packets::icmp(8, b"hello"));
    assert_eq!(wire.accounts(), (1, 1, 0));
    wire.send(&packets::icmp(13, &[0; 12]));
    wire.send(&packets::icmp(3, &packets::udp(HERE, (PORT, 9), b"12345678")[14..]));
    assert_eq!(wire.accounts(), (3, 1, 2));
    assert_eq!(wire.dropped(DropReason::IcmpUnknownFlow), 1);
}

#[test]
fn frames_of_a_vlan_are_not_answered_and_those_with_a_priority_are() {
    let mut wire = Wire::new();
    let echo = packets::icmp(8, b"hello");
    wire.send(&tagged(&echo, &[100]));
    wire.send(&tagged(&echo, &[0xa000, 1]));
    assert_eq!(wire.dropped(DropReason::EthVlan), 2);
    wire.received();
    wire.send(&tagged(&echo, &[0xa000]));
    assert_eq!(wire.received().len(), 1);
}

/// What we send to ourselves never was on the wire, and what is there is nobody's but a forger's.
#[test]
fn a_datagram_to_ourselves_arrives_and_one_from_the_wire_that_pretends_to_be_does_not() {
    let mut wire = Wire::new();
    let worker = wire.worker.as_mut().unwrap();
    let [asks, answers] = [9, 10]
        .map(|port| worker.bind_udp((HERE, port).into(), &UdpOptions::default()).expect("the port is free"));
    let mut payload = worker.tx_buf().unwrap();
    payload.put(b"to myself");
    let mut out = Batch::with_capacity(1);
    assert!(out.push(Datagram { peer: (HERE, 10).into(), local: None, tos: 0, ttl: 0, payload }).is_ok());
    assert_eq!(worker.send_batch(asks, &mut out), Ok(1));
    wire.turn();
    wire.send(&packets::from_ourselves((9, 10)));
    assert_eq!(wire.dropped(DropReason::EthBadSource), 1);
    let mut received = Batch::with_capacity(4);
    assert_eq!(wire.worker.as_mut().unwrap().recv_batch(answers, &mut received), Ok(1));
    let datagram = received.drain().next().unwrap();
    assert_eq!((&datagram.payload[..], datagram.peer), (&b"to myself"[..], (HERE, 9).into()));
    let is_arp = |frame: &Vec<u8>| matches!(packet::parse(frame).unwrap().net, packet::Net::Arp(_));
    assert!(wire.received().iter().all(is_arp), "more has left than who we are");
}

#[test]
fn a_syn_to_an_engine_that_shuts_down_is_counted_as_such() {
    let mut wire = Wire::new();
    wire.send(&packets::arp());
    let worker = wire.worker.as_mut().unwrap();
    worker.listen((HERE, PORT).into(), &TcpOptions::default()).unwrap();
    let handle = wire.handle.clone();
    let shutdown = std::thread::spawn(move || handle.shutdown(Duration::from_secs(5)));
    for port in 10_000..11_000 {
        let from = (Ipv4Addr::new(10, 0, 0, 2), port);
        wire.send(&packets::tcp(from, PORT, Flags::SYN, (1000, 0)));
        if wire.dropped(DropReason::ShuttingDown) > 0 {
            break;
        }
        wire.received();
    }
    assert!(wire.dropped(DropReason::ShuttingDown) > 0);
    wire.worker.take();
    shutdown.join().unwrap();
}

/// More connections than the ring has places: each peer hears of the end.
#[test]
fn every_connection_of_a_worker_that_goes_is_reset() {
    const CONNECTIONS: u16 = 300;
    let (mut wire, engine) = Wire::to_engine(64);
    let handle = engine.handle();
    let run = std::thread::spawn(move || {
        let mut worker = engine.into_workers().remove(0).start();
        worker.listen((HERE, PORT).into(), &TcpOptions::default()).unwrap();
        let mut events = Events::with_capacity(64);
        while worker.poll(&mut events, Some(Duration::from_millis(1))).unwrap() != Turn::Stop {}
    });
    wire.send(&packets::arp());
    for port in 0..CONNECTIONS {
        let from = (Ipv4Addr::new(10, 0, 0, 2), 10_000 + port);
        wire.send(&packets::tcp(from, PORT, Flags::SYN, (1000, 0)));
        let seq = wire.await_syn_ack();
        wire.send(&packets::tcp(from, PORT, Flags::ACK, (1001, seq.wrapping_add(1))));
    }
    handle.stop();
    let mut resets = 0;
    while !run.is_finished() {
        resets += wire.resets();
    }
    run.join().unwrap();
    resets += wire.resets();
    assert_eq!(resets, usize::from(CONNECTIONS));
}

/// The last byte read, or thrown away, and the next turn tells of the end, however little time has passed.
#[test]
fn the_end_of_a_connection_follows_the_last_byte_at_once() {
    let mut server = flood::Server::of(64, |builder| builder);
    for round in 0..16 {
        let from = (flood::CLIENT, 2000 + round);
        let seq = server.connect(from.1).unwrap();
        let conn = hoard::accepted(&mut server).unwrap();
        server.exchange(&[packets::data(from, PORT, (1001, seq), b"last words")]);
        server.exchange(&[packets::tcp(from, PORT, Flags::RST, (1011, 0))]);
        let worker = server.wire.worker.as_mut().unwrap();
        if round % 2 == 0 {
            let Ok(Recv::Data(piece)) = worker.recv(conn) else { panic!("it is not there") };
            assert_eq!(piece[..], *b"last words");
            assert!(matches!(worker.recv(conn), Err(ConnError::NotConnected)));
        } else {
            worker.shutdown(conn, std::net::Shutdown::Read).unwrap();
        }
        server.events.clear();
        // Not a moment later.
        worker.poll(&mut server.wire.events, Some(Duration::ZERO)).unwrap();
        server.events.extend(server.wire.events.drain());
        let reason = CloseReason::Reset;
        assert_eq!(server.events, [Event::Closed { conn, reason }], "round {round}");
    }
    assert_eq!(server.counters().connections, 0);
}

impl Wire {
    /// The sequence number of the next one.
    fn await_syn_ack(&mut self) -> u32 {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let answers = self.received();
            if let Some(frame) = answers.iter().find(|frame| flags(frame) == Some(Flags::SYN | Flags::ACK)) {
                return packets::tcp_seq(frame);
            }
            assert!(Instant::now() < deadline, "no answer");
        }
    }

    fn resets(&mut self) -> usize {
        self.received().iter().filter(|frame| is_reset(frame)).count()
    }
}
