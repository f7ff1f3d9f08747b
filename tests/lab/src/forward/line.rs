//! One direction: what was judged, and when it is to leave.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use hdrhistogram::Histogram;
use ringwire_frame::{Class, Packet, Pool, SendFrame};
use ringwire_wire::eth::{self, EtherType};
use ringwire_wire::ipv4;

use super::bottleneck::{Bottleneck, Place};
use super::lateness::{Lateness, histogram};
use super::wire::{Arrival, Wire};
use crate::impair::{Counters, Impairment};
use crate::judge::{Cause, Judge, Pass, Verdict};

const ETH_LEN: usize = eth::HEADER_LEN;

/// Packets that travel one way.
#[derive(Debug)]
pub(super) struct Line {
    judge: Judge,
    bottleneck: Bottleneck,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// Equal due times leave in the order in which they came.
    order: u64,
    counters: Counters,
    lateness: Histogram<u64>,
    /// What the wires had counted when the impairment was set.
    overrun_before: u64,
    unsendable_before: u64,
    sending: Vec<SendFrame>,
}

#[derive(Debug)]
struct Waiting {
    due_ns: u64,
    order: u64,
    /// That it came by, and will leave by.
    queue: u32,
    packet: Packet,
}

impl Waiting {
    fn key(&self) -> (u64, u64) {
        (self.due_ns, self.order)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// What became of a packet, for who records it.
pub(super) enum Arrived {
    Goes,
    Ends(&'static str),
}

impl Line {
    pub(super) fn new() -> Line {
        Line {
            judge: Judge::new(Impairment::default()),
            bottleneck: Bottleneck::default(),
            waiting: BinaryHeap::new(),
            order: 0,
            counters: Counters::default(),
            lateness: histogram(),
            overrun_before: 0,
            unsendable_before: 0,
            sending: Vec::new(),
        }
    }

    /// Judges what comes from now on by `impairment`; what waits keeps its time.
    pub(super) fn impair(&mut self, impairment: Impairment, from: &mut Wire, to: &mut Wire) {
        self.judge = Judge::new(impairment);
        self.bottleneck.set(&impairment);
        let waiting = self.waiting.len() as u64;
        self.counters = Counters { received: waiting, waiting, ..Counters::default() };
        self.lateness.reset();
        self.overrun_before = from.losses().0;
        self.unsendable_before = to.losses().1;
    }

    pub(super) fn counters(&self, from: &mut Wire, to: &mut Wire) -> Counters {
        let mut counters = self.counters;
        counters.waiting = self.waiting.len() as u64;
        counters.overrun = from.losses().0.saturating_sub(self.overrun_before);
        // Taken by the port, refused by the interface.
        let refused = to.losses().1.saturating_sub(self.unsendable_before);
        counters.unsendable += refused;
        counters.dropped += refused;
        counters.passed -= refused;
        counters
    }

    pub(super) fn lateness(&self) -> Lateness {
        Lateness::of(&self.lateness)
    }

    /// When the next packet is due.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse(first)| first.due_ns)
    }

    /// Judges a packet and lets it wait.
    pub(super) fn arrive(&mut self, pool: &mut Pool, packet: Packet, arrival: Arrival) -> Arrived {
        self.counters.received += 1;
        let pass = match self.judge.judge(packet.len().saturating_sub(ETH_LEN)) {
            Verdict::Pass(pass) => pass,
            Verdict::Drop(cause) => {
                self.count_drop(cause);
                return Arrived::Ends(cause.name());
            }
        };
        self.pass(pool, packet, arrival, pass)
    }

    fn pass(&mut self, pool: &mut Pool, mut packet: Packet, arrival: Arrival, pass: Pass) -> Arrived {
        let copy = pass.copy_after.map(|delay| (delay, copy_of(pool, &packet)));
        if let Some(bit) = pass.corrupt_bit {
            self.counters.corrupted += 1;
            turn_bit(&mut packet, bit);
        }
        self.counters.reordered += u64::from(pass.is_reordered);
        let arrived = self.admit(packet, arrival, pass.delay);
        if let Some((delay, copy)) = copy {
            self.counters.duplicated += 1;
            match copy {
                Some(copy) => drop(self.admit(copy, arrival, delay)),
                None => {
                    self.counters.dropped += 1;
                    self.counters.unsendable += 1;
                }
            }
        }
        arrived
    }

    fn admit(&mut self, mut packet: Packet, arrival: Arrival, delay: Duration) -> Arrived {
        let Some(Place { sent_ns, is_to_be_marked }) = self.bottleneck.admit(arrival.at_ns, packet.len())
        else {
            self.counters.dropped += 1;
            self.counters.over_limit += 1;
            return Arrived::Ends("the queue was full");
        };
        if is_to_be_marked && mark(&mut packet) {
            self.counters.marked += 1;
        }
        // Delays are bounded by hours.
        let due_ns = sent_ns + delay.as_nanos() as u64;
        self.order += 1;
        self.waiting.push(Reverse(Waiting { due_ns, order: self.order, queue: arrival.queue, packet }));
        Arrived::Goes
    }

    fn count_drop(&mut self, cause: Cause) {
        self.counters.dropped += 1;
        *match cause {
            Cause::Lost => &mut self.counters.lost,
            Cause::BlackHoled => &mut self.counters.black_holed,
            Cause::Partitioned => &mut self.counters.partitioned,
        } += 1;
    }

    /// Hands over what is due, up to `max` packets and as far as `to` has room; returns how many.
    pub(super) fn release(&mut self, now_ns: u64, pool: &mut Pool, to: &mut Wire, max: usize) -> usize {
        let mut released = 0;
        while released < max
            && let Some(first) = self.waiting.peek_mut()
            && first.0.due_ns <= now_ns
            && to.room(first.0.queue) > first.0.packet.rest.len()
        {
            let Reverse(Waiting { due_ns, queue, packet, .. }) =
                std::collections::binary_heap::PeekMut::pop(first);
            released += 1;
            self.lateness.saturating_record(now_ns - due_ns);
            self.sending.push(packet.head.into_send());
            self.sending.extend(packet.rest.into_iter().map(|frame| frame.into_send()));
            if to.is_open() || to.submit(pool, &self.sending, queue).is_err() {
                self.counters.dropped += 1;
                self.counters.unsendable += 1;
            } else {
                self.counters.passed += 1;
            }
            // The port has their addresses; they come home with their completion.
            self.sending.clear();
        }
        released
    }
}

/// The same bytes in frames of their own; `None` when memory is short.
fn copy_of(pool: &mut Pool, packet: &Packet) -> Option<Packet> {
    let mut copy = |frame: &ringwire_frame::Frame| {
        let mut twin = pool.alloc(Class::Receive)?;
        twin.reset(frame.headroom());
        twin.append(frame.len()).copy_from_slice(frame.bytes());
        Some(twin)
    };
    let head = copy(&packet.head)?;
    let rest = packet.rest.iter().map(&mut copy).collect::<Option<Vec<_>>>()?;
    Some(Packet { head, rest })
}

/// Marks an IPv4 packet that may be marked.
fn mark(packet: &mut Packet) -> bool {
    let frame = packet.head.bytes_mut();
    let is_ipv4 = frame.get(12..ETH_LEN) == Some(&EtherType::IPV4.0.to_be_bytes());
    is_ipv4 && frame.get_mut(ETH_LEN..).is_some_and(ipv4::mark_congestion)
}

fn turn_bit(packet: &mut Packet, bit: u64) {
    let len_bits = packet.len() as u64 * 8;
    if len_bits == 0 {
        return;
    }
    let bit = bit % len_bits;
    // Below the packet's length in bytes.
    let mut byte = (bit / 8) as usize;
    for frame in std::iter::once(&mut packet.head).chain(&mut packet.rest) {
        match frame.bytes_mut().get_mut(byte) {
            Some(target) => return *target ^= 1 << (bit % 8),
            None => byte -= frame.len(),
        }
    }
}
