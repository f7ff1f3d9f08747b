//! The slowest stretch of a path, with a queue before it that loses what it cannot hold, and marks before.

use std::collections::VecDeque;

use ringwire_wire::eth::{self, EtherType};
use ringwire_wire::ipv4;

use crate::rng::Rng;

/// A slower stretch on the way to one end.
#[derive(Debug, Clone, Copy)]
pub struct Bottleneck {
    /// The end behind it.
    pub to: usize,
    /// Bits of whole frames per second.
    pub bits_per_second: u64,
    /// Probability that a packet vanishes before it.
    pub loss: f64,
    /// Packets that may wait; more are lost.
    pub queue_packets: usize,
    /// K: a packet that may be marked (RFC 3168) and finds so many waiting is.
    pub mark_at_packets: Option<usize>,
}

/// What happened there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BottleneckCounters {
    /// Packets that vanished by chance.
    pub lost: u64,
    /// Packets that found the queue full.
    pub overflowed: u64,
    /// Packets that were marked.
    pub marked: u64,
    /// Packets that passed, and how many waited before each, added up.
    pub passed: u64,
    /// See `passed`.
    pub waited: u64,
    /// Most packets that waited at once.
    pub longest_queue: usize,
}

/// A bottleneck at work.
#[derive(Debug)]
pub struct Passing {
    bottleneck: Bottleneck,
    rng: Rng,
    /// When those that wait leave.
    leaving_ns: VecDeque<u64>,
    counters: BottleneckCounters,
}

impl Passing {
    pub(crate) fn new(bottleneck: Bottleneck, seed: u64) -> Passing {
        let counters = BottleneckCounters::default();
        Passing { bottleneck, rng: Rng::new(seed), leaving_ns: VecDeque::new(), counters }
    }

    pub(crate) fn is_before(&self, end: usize) -> bool {
        self.bottleneck.to == end
    }

    /// What was counted; it is counted anew from here on.
    pub fn take_counters(&mut self) -> BottleneckCounters {
        std::mem::take(&mut self.counters)
    }

    /// When the packet leaves; none: it is lost.
    pub(crate) fn pass(&mut self, frame: &mut [u8], now_ns: u64) -> Option<u64> {
        while self.leaving_ns.front().is_some_and(|leaves_ns| *leaves_ns <= now_ns) {
            self.leaving_ns.pop_front();
        }
        if self.rng.chance(self.bottleneck.loss) {
            self.counters.lost += 1;
            return None;
        }
        let waiting = self.leaving_ns.len();
        if waiting >= self.bottleneck.queue_packets {
            self.counters.overflowed += 1;
            return None;
        }
        self.counters.passed += 1;
        self.counters.waited += waiting as u64;
        self.counters.longest_queue = self.counters.longest_queue.max(waiting);
        if self.bottleneck.mark_at_packets.is_some_and(|at| waiting >= at) && mark(frame) {
            self.counters.marked += 1;
        }
        let took_ns = frame.len() as u64 * 8 * 1_000_000_000 / self.bottleneck.bits_per_second;
        let leaves_ns = self.leaving_ns.back().copied().unwrap_or(now_ns) + took_ns;
        self.leaving_ns.push_back(leaves_ns);
        Some(leaves_ns)
    }
}

/// Marks what is in an Ethernet frame, if it is an IPv4 packet that may be marked.
pub(crate) fn mark(frame: &mut [u8]) -> bool {
    let is_ipv4 = frame.get(12..eth::HEADER_LEN) == Some(&EtherType::IPV4.0.to_be_bytes());
    is_ipv4 && frame.get_mut(eth::HEADER_LEN..).is_some_and(ipv4::mark_congestion)
}
