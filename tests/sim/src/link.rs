//! The simulated link: a relay between two in-memory ports, with one line for each direction.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;

use ringwire::frame::{FarEnd, MemPort, Pool};
use ringwire_capture::{Recorder, Seen};
use ringwire_wire::checksum::Sum;
use ringwire_wire::packet::{self, Transport};
use ringwire_wire::{icmp, ipv4};

use crate::bottleneck::{Bottleneck, Passing, mark};
use crate::line::{Fate, Impairment, Line, LinkCounters};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    due_ns: u64,
    number: u64,
    to: usize,
    bytes: Vec<u8>,
}

/// A relay with two ends; end 0 and end 1 belong to the two engines.
#[derive(Debug)]
pub struct Relay {
    ends: Vec<FarEnd>,
    lines: [Line; 2],
    in_flight: BinaryHeap<Reverse<InFlight>>,
    impairment: Impairment,
    is_cut: bool,
    counters: LinkCounters,
    numbers: u64,
    recorder: Option<Recorder>,
    bottleneck: Option<Passing>,
}

const RING_PACKETS: u32 = 256;
/// Of each end.
const FRAMES: u32 = 2048;
const ETHERNET_LEN: usize = 14;
/// The router whose link has the small MTU: a neighbour of both ends.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 254);

impl Relay {
    /// A relay without ends.
    pub fn new(impairment: Impairment, seed: u64) -> Relay {
        Relay {
            ends: Vec::new(),
            lines: [Line::new(seed), Line::new(!seed)],
            in_flight: BinaryHeap::new(),
            impairment,
            is_cut: false,
            counters: LinkCounters::default(),
            numbers: 0,
            recorder: None,
            bottleneck: None,
        }
    }

    /// Records every packet from now on, as it came in.
    pub fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// Ends the recording.
    pub fn take_recorder(&mut self) -> Option<Recorder> {
        self.recorder.take()
    }

    /// Adds an end and returns the engine's side of it.
    pub fn attach(&mut self, engine: &Pool) -> MemPort {
        self.ends.push(FarEnd::new(RING_PACKETS, FRAMES));
        self.attach_again(self.ends.len() - 1, engine)
    }

    /// Plugs another engine in at `end`; what the old one still sends goes nowhere.
    ///
    /// # Panics
    /// If nothing was attached there.
    pub fn attach_again(&mut self, end: usize, engine: &Pool) -> MemPort {
        self.ends[end].attach(engine)
    }

    /// Changes what happens to packets from now on.
    pub fn set_impairment(&mut self, impairment: Impairment) {
        self.impairment = impairment;
    }

    /// Puts a bottleneck into the way, before everything else that may happen to a packet; `seed` makes its losses.
    pub fn set_bottleneck(&mut self, bottleneck: Bottleneck, seed: u64) {
        self.bottleneck = Some(Passing::new(bottleneck, seed));
    }

    /// What happened at the bottleneck.
    pub fn bottleneck_mut(&mut self) -> Option<&mut Passing> {
        self.bottleneck.as_mut()
    }

    /// From now on nothing passes, in either direction.
    pub fn cut(&mut self) {
        self.is_cut = true;
    }

    /// What happened so far.
    pub fn counters(&self) -> LinkCounters {
        let reordered = self.lines.iter().map(|line| line.reordered).sum();
        LinkCounters { reordered, ..self.counters }
    }

    /// When the next packet is due, if any is on its way.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.in_flight.peek().map(|Reverse(packet)| packet.due_ns)
    }

    /// Takes what the engines sent and delivers what is due; true if anything moved.
    pub fn step(&mut self, now_ns: u64) -> bool {
        let mut moved = false;
        for from in 0..self.ends.len() {
            moved |= self.take_in(from, now_ns);
        }
        while self.next_due_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            let Some(Reverse(packet)) = self.in_flight.pop() else { break };
            self.deliver(&packet);
            moved = true;
        }
        moved
    }

    fn take_in(&mut self, from: usize, now_ns: u64) -> bool {
        let Some(end) = self.ends.get_mut(from) else { return false };
        let mut frames = Vec::new();
        end.take(|frame| frames.push(frame.to_vec()));
        let moved = !frames.is_empty();
        for frame in frames {
            self.forward(from, frame, now_ns);
        }
        moved
    }

    fn forward(&mut self, from: usize, mut bytes: Vec<u8>, now_ns: u64) {
        self.counters.packets += 1;
        self.counters.wrapped += u64::from(wraps(&bytes));
        let passed_ns = match &mut self.bottleneck {
            Some(bottleneck) if bottleneck.is_before(1 - from) => bottleneck.pass(&mut bytes, now_ns),
            _ => Some(now_ns),
        };
        let Some(now_ns) = passed_ns else { return };
        let Some(line) = self.lines.get_mut(from) else { return };
        let is_marked = line.is_marked(&self.impairment);
        let fate = if self.is_cut { Fate::Vanishes } else { line.fate(&self.impairment, &bytes, now_ns) };
        let said = self.count(fate);
        if let Some(recorder) = &mut self.recorder {
            recorder.record(&Seen { from, at_ns: now_ns, len: bytes.len(), bytes: &bytes, comment: said });
        }
        let (due_ns, again_ns, flipped_bit) = match fate {
            Fate::Arrives { due_ns, again_ns, flipped_bit } => (due_ns, again_ns, flipped_bit),
            Fate::TooBig => return self.refuse(from, &bytes, now_ns),
            Fate::Vanishes | Fate::Swallowed | Fate::Overflows => return,
        };
        self.counters.marked += u64::from(is_marked && mark(&mut bytes));
        if let Some(again_ns) = again_ns {
            self.send_off(1 - from, bytes.clone(), again_ns);
        }
        if let Some(bit) = flipped_bit
            && let Some(byte) = bytes.get_mut(bit / 8)
        {
            *byte ^= 1 << (bit % 8);
        }
        self.send_off(1 - from, bytes, due_ns);
    }

    /// Counts what becomes of a packet, and says it.
    fn count(&mut self, fate: Fate) -> Option<&'static str> {
        let counters = &mut self.counters;
        let (counter, said) = match fate {
            Fate::Arrives { flipped_bit: Some(_), .. } => (&mut counters.corrupted, "a bit is flipped"),
            Fate::Arrives { again_ns: Some(_), .. } => (&mut counters.duplicated, "arrives twice"),
            Fate::Arrives { .. } => return None,
            Fate::Vanishes if self.is_cut => (&mut counters.unplugged, "the link is cut"),
            Fate::Vanishes => (&mut counters.lost, "lost"),
            Fate::Overflows => (&mut counters.overflowed, "the queue is full"),
            Fate::TooBig => (&mut counters.too_big, "too big"),
            Fate::Swallowed => (&mut counters.swallowed, "too big, swallowed"),
        };
        *counter += 1;
        Some(said)
    }

    fn send_off(&mut self, to: usize, bytes: Vec<u8>, due_ns: u64) {
        self.numbers += 1;
        self.in_flight.push(Reverse(InFlight { due_ns, number: self.numbers, to, bytes }));
    }

    /// RFC 1191 4: "fragmentation needed", with the MTU, to who sent it.
    fn refuse(&mut self, from: usize, bytes: &[u8], now_ns: u64) {
        let Some(answer) = too_big(bytes, self.impairment.mtu) else { return };
        let due_ns = now_ns + crate::line::nanos(self.impairment.delay);
        self.send_off(from, answer, due_ns);
    }

    fn deliver(&mut self, packet: &InFlight) {
        let Some(end) = self.ends.get_mut(packet.to) else { return };
        // A full ring or an empty pool loses the packet, as a real link's queue does.
        self.counters.overflowed += u64::from(end.put(&packet.bytes).is_err());
    }
}

/// Whether the text of a segment goes over the end of the sequence numbers.
fn wraps(frame: &[u8]) -> bool {
    let Ok(packet::Net::Ipv4(_, Transport::Tcp(segment))) = packet::parse(frame).map(|packet| packet.net)
    else {
        return false;
    };
    let len = u32::try_from(segment.payload().len()).unwrap_or(0);
    segment.header().seq.checked_add(len).is_none()
}

/// The router's answer to a frame with too long a packet.
fn too_big(frame: &[u8], mtu: usize) -> Option<Vec<u8>> {
    /// RFC 792: the header and 8 bytes; more helps nobody here.
    const QUOTED_LEN: usize = 28;
    let (ethernet, packet) = (frame.get(..ETHERNET_LEN)?, frame.get(ETHERNET_LEN..)?);
    let source = <[u8; 4]>::try_from(packet.get(12..16)?).ok()?;
    let quoted = packet.get(..QUOTED_LEN)?;
    let mut ip = [0; ipv4::HEADER_LEN];
    let payload_len = u16::try_from(icmp::HEADER_LEN + QUOTED_LEN).ok()?;
    let header = ipv4::Header {
        src: ROUTER,
        dst: source.into(),
        protocol: ipv4::Protocol::ICMP,
        tos: 0,
        ttl: 64,
        id: 0,
        dont_fragment: true,
        payload_len,
    };
    header.emit(&mut ip);
    let mut message = [0; icmp::HEADER_LEN];
    let needed = icmp::Header::Unreachable {
        code: icmp::unreachable::FRAGMENTATION_NEEDED,
        next_hop_mtu: u16::try_from(mtu).ok()?,
    };
    needed.emit(&mut message, Sum::of(quoted));
    let macs = [ethernet.get(6..12)?, ethernet.get(..6)?, ethernet.get(12..)?];
    Some([&macs.concat()[..], &ip, &message, quoted].concat())
}
