//! The simulated link: a relay between two in-memory ports that delays, loses, doubles, corrupts and reorders, by seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use ringwire::frame::{Class, Floors, Geometry, MemPort, Packet, Pool, Port, Region};

use crate::rng::Rng;

/// What the link does to packets, each with its probability.
#[derive(Debug, Clone, Copy)]
pub struct Impairment {
    /// One-way delay.
    pub delay: Duration,
    /// Added at random, up to this much: reorders.
    pub jitter: Duration,
    /// Packets that vanish.
    pub loss: f64,
    /// Packets that arrive twice.
    pub duplicate: f64,
    /// Packets with one flipped bit.
    pub corrupt: f64,
}

/// What the link did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Packets that came in.
    pub packets: u64,
    /// Packets that vanished.
    pub lost: u64,
    /// Packets that went out twice.
    pub duplicated: u64,
    /// Packets that went out with a flipped bit.
    pub corrupted: u64,
}

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
    pool: Pool,
    ports: Vec<MemPort>,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    impairment: Impairment,
    rng: Rng,
    counters: LinkCounters,
    received: Vec<Packet>,
}

const RING_PACKETS: u32 = 256;
const FRAMES: u32 = 2048;

impl Relay {
    /// A relay without ends.
    pub fn new(impairment: Impairment, seed: u64) -> Relay {
        let geometry = Geometry { frame_bytes: 2048, frame_count: FRAMES };
        let mut pool =
            Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(FRAMES));
        pool.adopt();
        Relay {
            pool,
            ports: Vec::new(),
            in_flight: BinaryHeap::new(),
            impairment,
            rng: Rng::new(seed),
            counters: LinkCounters::default(),
            received: Vec::new(),
        }
    }

    /// Adds an end and returns the engine's side of it.
    pub fn attach(&mut self, engine: &Pool) -> MemPort {
        let (theirs, mut ours) = MemPort::pair(RING_PACKETS, engine, &self.pool);
        ours.refill(&mut self.pool);
        self.ports.push(ours);
        theirs
    }

    /// Changes what happens to packets from now on.
    pub fn set_impairment(&mut self, impairment: Impairment) {
        self.impairment = impairment;
    }

    /// What happened so far.
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// When the next packet is due, if any is on its way.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.in_flight.peek().map(|Reverse(packet)| packet.due_ns)
    }

    /// Takes what the engines sent and delivers what is due; true if anything moved.
    pub fn step(&mut self, now_ns: u64) -> bool {
        let mut moved = false;
        for from in 0..self.ports.len() {
            moved |= self.take_in(from, now_ns);
        }
        while self.next_due_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            let Some(Reverse(packet)) = self.in_flight.pop() else { break };
            self.deliver(&packet);
            moved = true;
        }
        for port in &mut self.ports {
            port.refill(&mut self.pool);
            let _ = port.kick();
        }
        moved
    }

    fn take_in(&mut self, from: usize, now_ns: u64) -> bool {
        let Some(port) = self.ports.get_mut(from) else { return false };
        port.reap(&mut self.pool);
        let mut received = std::mem::take(&mut self.received);
        port.receive(&mut self.pool, &mut received, RING_PACKETS as usize);
        let moved = !received.is_empty();
        for packet in received.drain(..) {
            self.impair(1 - from, packet.head.bytes().to_vec(), now_ns);
        }
        self.received = received;
        moved
    }

    fn impair(&mut self, to: usize, mut bytes: Vec<u8>, now_ns: u64) {
        let Impairment { delay, jitter, loss, duplicate, corrupt } = self.impairment;
        self.counters.packets += 1;
        if self.rng.chance(loss) {
            self.counters.lost += 1;
            return;
        }
        if self.rng.chance(corrupt) {
            self.counters.corrupted += 1;
            let bit = usize::try_from(self.rng.below(bytes.len() as u64 * 8)).unwrap_or(0);
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        let copies = if self.rng.chance(duplicate) { 2 } else { 1 };
        self.counters.duplicated += copies - 1;
        for _ in 0..copies {
            let jitter_ns = self.rng.below(nanos(jitter) + 1);
            let due_ns = now_ns + nanos(delay) + jitter_ns;
            let number = self.counters.packets * 2 + self.in_flight.len() as u64 % 2;
            self.in_flight.push(Reverse(InFlight { due_ns, number, to, bytes: bytes.clone() }));
        }
    }

    fn deliver(&mut self, packet: &InFlight) {
        let Some(port) = self.ports.get_mut(packet.to) else { return };
        // A full ring or an empty pool loses the packet, as a real link's queue does.
        let Some(mut frame) = self.pool.alloc(Class::Control) else {
            self.counters.lost += 1;
            return;
        };
        frame.append(packet.bytes.len()).copy_from_slice(&packet.bytes);
        if port.submit(&mut self.pool, &frame.into_send()).is_err() {
            self.counters.lost += 1;
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
