//! The script: the wire's and the clock's half.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use ringwire::clock::{Clock, ManualClock};
use ringwire::{Conn, Engine, Event, Events, Interface, Listener, Pacing, RxBuf, TcpOptions, Worker};
use ringwire_wire::arp;
use ringwire_wire::eth::{EtherType, Mac};
use ringwire_wire::ipv4::Protocol;
use ringwire_wire::tcp::{Flags, Header, Options, SackBlocks, Timestamps};

use crate::bystander::Bystander;
use crate::host::{Out, Sent, Wire, fix_checksum, ipv4_packet, tcp_bytes};
use crate::segment::{Segment, Spoilt};

/// The address of the worker under test.
pub const WORKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The address of the peer that the script plays.
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The worker's port that scripts listen on and inject to.
pub(crate) const PORT: u16 = 80;
const PEER_PORT: u16 = 40_000;
const MS: u64 = 1_000_000;
const FRAMES: u32 = 4096;
const FRAME_BYTES: u64 = 2048;
/// What sockets may take beside the frames.
pub(crate) const HEAP_BYTES: u64 = 64 << 20;

/// What the peer knows of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    /// The worker's initial sequence number, once it was seen.
    iss: u32,
    /// The peer's initial sequence number.
    irs: u32,
    /// What the peer sends next, relative.
    nxt: u32,
    /// The highest number the worker has sent, relative.
    seen: u32,
    /// The last TSval of the worker.
    ts_seen: u32,
    /// Whether segments of the peer carry timestamps by default.
    pub(crate) has_timestamps: bool,
    pub(crate) worker_port: u16,
}

/// One worker, its peer and its application.
///
/// Every verb panics with the whole history of the exchange when the worker does something else than the script says.
pub struct Script {
    pub(crate) worker: Worker,
    pub(crate) handle: ringwire::Handle,
    events: Events,
    wire: Wire,
    hand: ManualClock,
    pub(crate) sent: VecDeque<Sent>,
    /// Frames that left and are neither TCP nor ARP requests.
    pub others: Vec<Vec<u8>>,
    pub(crate) news: VecDeque<Event>,
    pub(crate) flows: HashMap<u16, Flow>,
    /// The peer's port that segments are from unless they say otherwise.
    pub peer_port: u16,
    /// The peer's initial sequence number for connections that begin from now on.
    pub irs: u32,
    /// The options of the peer's SYN or SYN-ACK.
    pub offer: Options,
    /// The window field of the peer's segments unless they say otherwise.
    pub win: u16,
    /// The options of `listen` and `connect`.
    pub options: TcpOptions,
    pub(crate) listener: Option<Listener>,
    pub(crate) conn: Option<Conn>,
    /// Pieces that the application holds on to.
    pub(crate) held: Vec<RxBuf>,
    pub(crate) bystander: Option<Bystander>,
    /// ARP requests of the worker, which the script answers by itself.
    pub arp_requests: u32,
    history: String,
}

impl Script {
    pub(crate) fn new() -> Script {
        let (clock, hand) = Clock::manual();
        let mut wire = Wire::new();
        let engine = Engine::builder()
            .interface(Interface::new("script").address("10.0.0.1/24".parse().expect("an address")))
            .clock(clock)
            .secret([7; 16])
            .frames_per_worker(FRAMES)
            .memory_ceiling_bytes(u64::from(FRAMES) * FRAME_BYTES + HEAP_BYTES)
            .max_connections(1024)
            .start_on(|pool| wire.attach(pool))
            .expect("in memory nothing can be refused");
        let handle = engine.handle();
        let worker = engine.into_workers().pop().expect("one worker").start();
        let mut options = TcpOptions::default();
        // The scripts say how much leaves, at once; when it leaves has tests of its own.
        options.pacing = Pacing::Off;
        let mut script = Script {
            worker,
            handle,
            events: Events::with_capacity(64),
            wire,
            hand,
            sent: VecDeque::new(),
            others: Vec::new(),
            news: VecDeque::new(),
            flows: HashMap::new(),
            peer_port: PEER_PORT,
            irs: 0x1000_0000,
            offer: Options { mss: Some(1460), ..Options::default() },
            win: u16::MAX,
            options,
            listener: None,
            conn: None,
            held: Vec::new(),
            bystander: None,
            arp_requests: 0,
            history: String::new(),
        };
        script.meet();
        script
    }

    /// The peer asks for the worker's link address, so that both know each other.
    fn meet(&mut self) {
        self.hand.advance(Duration::from_secs(1));
        let request = self.wire.arp(arp::Op::Request, Mac([0; 6]));
        self.wire.inject(&request);
        self.settle();
        let reply = self.others.pop().expect("an ARP reply");
        self.wire.worker_mac = Mac(reply[6..12].try_into().expect("six bytes"));
    }

    /// Virtual time in milliseconds since the script began.
    pub fn now_ms(&self) -> u64 {
        self.hand.now_ns() / MS
    }

    /// Writes a line into the history.
    pub fn note(&mut self, line: &str) {
        let now_ns = self.hand.now_ns();
        let _ = writeln!(self.history, "{:>12.6}  {line}", now_ns as f64 / 1e9);
    }

    /// Ends the script with what went wrong and everything that had happened.
    #[track_caller]
    pub fn fail(&mut self, what: &str) -> ! {
        self.note("FAILED");
        panic!("{what}\n--- history ('>' to the worker, '<' from it) ---\n{}", self.history);
    }

    /// Turns of the worker until nothing moves any more; the clock stands still.
    pub fn settle(&mut self) {
        for _ in 0..64 {
            let mut events = std::mem::replace(&mut self.events, Events::with_capacity(8));
            self.worker.poll(&mut events, Some(Duration::ZERO)).expect("a poll in memory cannot fail");
            let news: Vec<Event> = events.drain().collect();
            self.events = events;
            let outs = self.wire.take(self.hand.now_ns());
            // What the worker has sent to itself comes with its next turn, without being seen.
            let is_at_rest = self.worker.next_timer_ns().is_none_or(|at_ns| at_ns > self.hand.now_ns());
            if news.is_empty() && outs.is_empty() && is_at_rest {
                return;
            }
            for event in news {
                self.note(&format!("  event {event:?}"));
                let is_beside = |conn| self.bystander.as_ref().is_some_and(|bystander| bystander.has(conn));
                if !matches!(event, Event::Readable(conn) | Event::Writable(conn) if is_beside(conn)) {
                    self.news.push_back(event);
                }
            }
            outs.into_iter().for_each(|out| self.on_out(out));
        }
        self.fail("the worker does not come to rest");
    }

    fn on_out(&mut self, out: Out) {
        match out {
            Out::ArpRequest(request) => {
                self.arp_requests += 1;
                let reply = self.wire.arp(arp::Op::Reply, request.sender_mac);
                self.wire.inject(&reply);
            }
            Out::Other(frame) => self.others.push(frame),
            Out::Tcp(mut segment) => {
                let header = segment.header;
                let irs = self.irs;
                let flow = self.flows.entry(header.dst_port).or_insert_with(|| Flow::new(irs));
                flow.on_sent(&header, &segment.options, segment.text.len());
                segment.seq = header.seq.wrapping_sub(flow.iss);
                segment.ack =
                    if header.flags.contains(Flags::ACK) { header.ack.wrapping_sub(flow.irs) } else { 0 };
                let relative = segment.options.sack.as_slice().to_vec();
                segment.options.sack = SackBlocks::NONE;
                for (left, right) in relative {
                    segment.options.sack.push(left.wrapping_sub(flow.irs), right.wrapping_sub(flow.irs));
                }
                let port = header.dst_port;
                self.note(&format!("< {} (to port {port})", segment.show()));
                if !self.bystander.as_mut().is_some_and(|bystander| bystander.takes(&segment)) {
                    self.sent.push_back(segment);
                }
            }
        }
    }

    /// Sends a segment to the worker. Numbers that are not named follow from the exchange: the next byte of the peer, everything
    /// the worker has sent.
    pub fn inject(&mut self, segment: Segment) {
        let port = segment.port.unwrap_or(self.peer_port);
        let bytes = self.bytes_of(port, &segment);
        self.note(&format!("> {segment} [from port {port}]"));
        let tos = segment.tos.unwrap_or(0);
        let packet = ipv4_packet((PEER, WORKER), Protocol::TCP, tos, &bytes);
        self.deliver(&packet);
    }

    /// Several segments in one batch of the worker.
    pub fn inject_all(&mut self, segments: impl IntoIterator<Item = Segment>) {
        for segment in segments {
            let port = segment.port.unwrap_or(self.peer_port);
            let bytes = self.bytes_of(port, &segment);
            self.note(&format!("> {segment} [batch]"));
            let packet = ipv4_packet((PEER, WORKER), Protocol::TCP, segment.tos.unwrap_or(0), &bytes);
            self.put(EtherType::IPV4, &packet);
        }
        self.settle();
        self.exchange_beside();
    }

    /// Sends an IP packet of any kind to the worker.
    pub fn inject_ip(&mut self, addresses: (Ipv4Addr, Ipv4Addr), protocol: u8, payload: &[u8]) {
        self.note(&format!("> protocol {protocol}, {} bytes, {addresses:?}", payload.len()));
        let packet = ipv4_packet(addresses, Protocol(protocol), 0, payload);
        self.deliver(&packet);
    }

    /// The same segment, but between these addresses.
    pub fn inject_between(&mut self, addresses: (Ipv4Addr, Ipv4Addr), segment: &Segment) {
        let mut bytes = self.bytes_of(segment.port.unwrap_or(self.peer_port), segment);
        fix_checksum(addresses, &mut bytes);
        self.inject_ip(addresses, Protocol::TCP.0, &bytes);
    }

    /// A segment whose IP packet the script may change before it goes.
    pub fn inject_changed(&mut self, segment: &Segment, change: impl FnOnce(&mut Vec<u8>)) {
        let bytes = self.bytes_of(segment.port.unwrap_or(self.peer_port), segment);
        let mut packet = ipv4_packet((PEER, WORKER), Protocol::TCP, 0, &bytes);
        change(&mut packet);
        self.note(&format!("> {segment}, changed on the way"));
        self.deliver(&packet);
    }

    /// A frame of any kind to the worker's hardware address.
    pub fn inject_frame(&mut self, ethertype: EtherType, payload: &[u8]) {
        self.note(&format!("> frame of type {ethertype:?}, {} bytes", payload.len()));
        self.put(ethertype, payload);
        self.settle();
        self.exchange_beside();
    }

    /// An IP packet, and what follows from it.
    fn deliver(&mut self, packet: &[u8]) {
        self.put(EtherType::IPV4, packet);
        self.settle();
        self.exchange_beside();
    }

    /// An ICMP error about a packet that the worker sent.
    pub fn inject_icmp_error(&mut self, (kind, code): (u8, u8), mtu: u16, about: &Sent) {
        let mut bytes = vec![kind, code, 0, 0, 0, 0];
        bytes.extend_from_slice(&mtu.to_be_bytes());
        bytes.extend(about.ip.iter().take(28));
        let checksum = ringwire_wire::checksum::Sum::of(&bytes).finish();
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        self.inject_ip((PEER, WORKER), Protocol::ICMP.0, &bytes);
    }

    fn put(&mut self, ethertype: EtherType, payload: &[u8]) {
        let frame = self.wire.frame(ethertype, payload);
        self.wire.inject(&frame);
    }

    /// Fills in what the segment leaves open.
    fn bytes_of(&mut self, port: u16, segment: &Segment) -> Vec<u8> {
        let now_ms = self.now_ms() as u32;
        let (irs, win) = (self.irs, self.win);
        let flow = self.flows.entry(port).or_insert_with(|| Flow::new(irs));
        if segment.flags.contains(Flags::SYN) && segment.seq.is_none() {
            (flow.irs, flow.nxt) = (irs, 0);
        }
        let seq = segment.seq.unwrap_or(flow.nxt);
        if segment.seq.is_none() {
            flow.nxt = flow.nxt.wrapping_add(segment.seq_len());
        }
        let has_ack = segment.flags.contains(Flags::ACK);
        let ack = flow.iss.wrapping_add(segment.ack.unwrap_or(flow.seen));
        let header = Header {
            src_port: port,
            dst_port: flow.worker_port,
            seq: flow.irs.wrapping_add(seq),
            ack: if has_ack { ack } else { 0 },
            flags: segment.flags,
            window: segment.window.unwrap_or(win),
            urgent: segment.urgent.unwrap_or(0),
        };
        let options = match &segment.raw_options {
            Some(raw) => raw.clone(),
            None => flow.options_of(segment, now_ms),
        };
        let text = segment.text.clone().unwrap_or_default();
        let mut bytes = tcp_bytes((PEER, WORKER), &header, &options, &text);
        for spoilt in &segment.spoilt {
            match spoilt {
                Spoilt::DataOffset(words) => bytes[12] = (words << 4) | (bytes[12] & 0x0f),
                Spoilt::ReservedBits => bytes[12] |= 0x0f,
                Spoilt::Checksum => {}
            }
        }
        fix_checksum((PEER, WORKER), &mut bytes);
        if segment.is_spoilt(Spoilt::Checksum) {
            bytes[16] ^= 0x55;
        }
        bytes
    }

    /// The next segment that has left must be this one.
    #[track_caller]
    pub fn expect(&mut self, expected: Segment) -> Sent {
        self.settle();
        self.take_expected(&expected)
    }

    /// These segments have left, in this order, and nothing else.
    #[track_caller]
    pub fn expect_only(&mut self, expected: Segment) -> Sent {
        let sent = self.expect(expected);
        self.expect_nothing();
        sent
    }

    /// Waits for the next segment, which must be this one and must leave within `ms` (from, to) from now.
    #[track_caller]
    pub fn expect_after(&mut self, ms: std::ops::RangeInclusive<u64>, expected: Segment) -> Sent {
        let began_ms = self.now_ms();
        self.settle();
        while self.sent.is_empty() && self.now_ms() - began_ms < *ms.end() {
            self.step(Duration::from_millis(1));
        }
        let took_ms = self.now_ms() - began_ms;
        if !self.sent.is_empty() && took_ms < *ms.start() {
            self.fail(&format!("too early: after {took_ms} ms, not {ms:?} ms: {expected}"));
        }
        if self.sent.is_empty() {
            self.fail(&format!("expected within {ms:?} ms: {expected}\ngot: nothing"));
        }
        self.take_expected(&expected)
    }

    #[track_caller]
    fn take_expected(&mut self, expected: &Segment) -> Sent {
        let Some(sent) = self.sent.pop_front() else {
            self.fail(&format!("expected: {expected}\ngot:      nothing"));
        };
        let port = expected.port.unwrap_or(self.peer_port);
        if let Err(why) = crate::expected::compare(expected, &sent, port) {
            self.fail(&format!("expected: {expected}\ngot:      {}\n({why})", sent.show()));
        }
        sent
    }

    /// Nothing has left that the script has not looked at.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        self.settle();
        if let Some(sent) = self.sent.front() {
            let sent = sent.show();
            self.fail(&format!("expected: nothing\ngot:      {sent}"));
        }
    }

    /// Nothing leaves for so long.
    #[track_caller]
    pub fn expect_nothing_for(&mut self, ms: u64) {
        self.expect_nothing();
        self.wait(ms);
        self.expect_nothing();
    }

    /// Lets time pass.
    pub fn wait(&mut self, ms: u64) {
        self.note(&format!("  wait {ms} ms"));
        for _ in 0..ms {
            self.step(Duration::from_millis(1));
        }
        self.settle();
    }

    /// Lets much time pass in coarse steps.
    pub fn wait_long(&mut self, time: Duration) {
        self.note(&format!("  wait {time:?}"));
        for _ in 0..1000 {
            self.step(time / 1000);
        }
    }

    fn step(&mut self, by: Duration) {
        self.hand.advance(by);
        self.settle();
    }

    /// Everything that has left and was not looked at.
    pub fn take_sent(&mut self) -> Vec<Sent> {
        self.settle();
        self.sent.drain(..).collect()
    }

    /// Goes on without looking at what has left so far.
    pub fn ignore_sent(&mut self) {
        self.take_sent();
    }

    /// The initial sequence number that the worker chose for the connection.
    pub fn worker_iss(&self) -> u32 {
        self.flows.get(&self.peer_port).map_or(0, |flow| flow.iss)
    }

    /// The peer goes on at this number, relative to its SYN.
    pub fn peer_next(&mut self, nxt: u32) {
        let (port, irs) = (self.peer_port, self.irs);
        self.flows.entry(port).or_insert_with(|| Flow::new(irs)).nxt = nxt;
    }
}

impl Drop for Script {
    /// An assertion of the script itself failed: the history helps there too.
    fn drop(&mut self) {
        if std::thread::panicking() && !self.history.ends_with("FAILED\n") {
            eprintln!("--- history ('>' to the worker, '<' from it) ---\n{}", self.history);
        }
    }
}

impl Flow {
    pub(crate) fn new(irs: u32) -> Flow {
        Flow { iss: 0, irs, nxt: 0, seen: 0, ts_seen: 0, has_timestamps: false, worker_port: PORT }
    }

    fn on_sent(&mut self, header: &Header, options: &Options, len: usize) {
        self.worker_port = header.src_port;
        if header.flags.contains(Flags::SYN) {
            (self.iss, self.seen) = (header.seq, 0);
        }
        if header.flags.contains(Flags::RST) {
            return;
        }
        let controls = header.flags.contains(Flags::SYN) as u32 + header.flags.contains(Flags::FIN) as u32;
        let end = header.seq.wrapping_sub(self.iss).wrapping_add(len as u32 + controls);
        if end.wrapping_sub(self.seen).cast_signed() > 0 {
            self.seen = end;
        }
        if let Some(timestamps) = options.timestamps {
            self.ts_seen = timestamps.value;
        }
    }

    fn options_of(&self, segment: &Segment, now_ms: u32) -> Vec<u8> {
        let mut options = segment.options;
        let blocks = options.sack.as_slice().to_vec();
        options.sack = SackBlocks::NONE;
        for (left, right) in blocks {
            options.sack.push(left.wrapping_add(self.iss), right.wrapping_add(self.iss));
        }
        if self.has_timestamps && options.timestamps.is_none() && !segment.has_no_timestamps {
            options.timestamps = Some(Timestamps { value: now_ms, echo: self.ts_seen });
        }
        let mut bytes = vec![0; options.encoded_len()];
        options.emit(&mut bytes);
        bytes
    }
}
