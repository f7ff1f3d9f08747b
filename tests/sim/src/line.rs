//! One direction of the simulated link: what becomes of a packet, by seed.

use std::time::Duration;

use crate::rng::Rng;

/// Bytes of an Ethernet header; the MTU does not count them.
const ETHERNET_LEN: usize = 14;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];

/// Packets that vanish.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Each by itself, with this probability.
    Random(f64),
    /// All of them, for `length` in the mean, every `interval` in the mean: a fade of a radio link.
    Bursts {
        /// Mean time from the end of one to the beginning of the next.
        interval: Duration,
        /// Mean length.
        length: Duration,
    },
}

impl Loss {
    /// The part of packets that vanish, in the long run.
    pub fn probability(self) -> f64 {
        match self {
            Loss::Random(probability) => probability,
            Loss::Bursts { interval, length } => {
                length.as_secs_f64() / (length + interval).as_secs_f64().max(f64::MIN_POSITIVE)
            }
        }
    }
}

/// What a direction does to packets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Impairment {
    /// One-way delay.
    pub delay: Duration,
    /// Added at random, up to this much: reorders neighbours.
    pub jitter: Duration,
    /// Bits per second.
    pub rate_bps: u64,
    /// Bytes that wait for the rate; what finds no room is dropped.
    pub queue_bytes: u64,
    /// Packets that vanish.
    pub loss: Loss,
    /// Probability that a packet is held back by [`Impairment::reorder_by`].
    pub reorder: f64,
    /// How long such a packet is held back.
    pub reorder_by: Duration,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that a bit of an IPv4 packet is flipped. ARP has no checksum of its own and relies on Ethernet's.
    pub corrupt: f64,
    /// Probability that a packet that may be marked (RFC 3168) is.
    pub mark: f64,
    /// Largest IP packet.
    pub mtu: usize,
    /// Whether what is longer is refused by ICMP, as by a router, or vanishes, as where a firewall drops that.
    pub refuses_by_icmp: bool,
}

impl Impairment {
    /// A gigabit link that does nothing wrong.
    pub const CLEAN: Impairment = Impairment {
        delay: Duration::from_micros(10),
        jitter: Duration::ZERO,
        rate_bps: 1_000_000_000,
        queue_bytes: 10_000_000,
        loss: Loss::Random(0.0),
        reorder: 0.0,
        reorder_by: Duration::ZERO,
        duplicate: 0.0,
        corrupt: 0.0,
        mark: 0.0,
        mtu: 1500,
        refuses_by_icmp: true,
    };
}

/// What became of the packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Packets that came in.
    pub packets: u64,
    /// Packets that vanished.
    pub lost: u64,
    /// Packets that found the queue full.
    pub overflowed: u64,
    /// Packets that were held back.
    pub reordered: u64,
    /// Packets that went out twice.
    pub duplicated: u64,
    /// Packets that went out with a flipped bit.
    pub corrupted: u64,
    /// Packets that were marked on the way.
    pub marked: u64,
    /// Packets that did not fit the MTU and were refused.
    pub too_big: u64,
    /// Packets that did not fit the MTU and were lost without a word.
    pub swallowed: u64,
    /// Packets to or from an end that was not there.
    pub unplugged: u64,
    /// Segments whose text goes over the end of the sequence numbers.
    pub wrapped: u64,
}

/// The fate of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives, once or twice, at these times.
    Arrives {
        due_ns: u64,
        again_ns: Option<u64>,
        flipped_bit: Option<usize>,
    },
    Vanishes,
    /// It is too long for a path that does not say so.
    Swallowed,
    Overflows,
    TooBig,
}

/// The state of one direction.
#[derive(Debug)]
pub(crate) struct Line {
    rng: Rng,
    /// Of their own: a seed keeps its losses, whatever is marked.
    marks: Rng,
    /// Packets that were held back.
    pub(crate) reordered: u64,
    /// When the last packet in the queue has left.
    free_at_ns: u64,
    is_in_burst: bool,
    burst_changes_ns: u64,
}

impl Line {
    pub(crate) fn new(seed: u64) -> Line {
        /// Any number.
        const MARKS_SEED: u64 = 0x3168;
        let (rng, marks) = (Rng::new(seed), Rng::new(seed ^ MARKS_SEED));
        Line { rng, marks, reordered: 0, free_at_ns: 0, is_in_burst: true, burst_changes_ns: 0 }
    }

    /// Whether the next packet is marked, if it may be.
    pub(crate) fn is_marked(&mut self, link: &Impairment) -> bool {
        self.marks.chance(link.mark)
    }

    pub(crate) fn fate(&mut self, link: &Impairment, frame: &[u8], now_ns: u64) -> Fate {
        let is_ipv4 = frame.get(12..ETHERNET_LEN) == Some(&ETHERTYPE_IPV4);
        if is_ipv4 && frame.len() > link.mtu + ETHERNET_LEN {
            return if link.refuses_by_icmp { Fate::TooBig } else { Fate::Swallowed };
        }
        let queued_ns = self.free_at_ns.saturating_sub(now_ns);
        if bytes_in(queued_ns, link.rate_bps) + frame.len() as u64 > link.queue_bytes {
            return Fate::Overflows;
        }
        self.free_at_ns = self.free_at_ns.max(now_ns) + nanos_of(frame.len() as u64, link.rate_bps);
        if self.is_lost(link.loss, now_ns) {
            return Fate::Vanishes;
        }
        let flipped_bit = (is_ipv4 && self.rng.chance(link.corrupt))
            .then(|| usize::try_from(self.rng.below(frame.len() as u64 * 8)).unwrap_or(0));
        let due_ns = self.arrival_ns(link);
        let again_ns = self.rng.chance(link.duplicate).then(|| self.arrival_ns(link));
        Fate::Arrives { due_ns, again_ns, flipped_bit }
    }

    fn arrival_ns(&mut self, link: &Impairment) -> u64 {
        let is_held = self.rng.chance(link.reorder);
        self.reordered += u64::from(is_held);
        let held_ns = if is_held { nanos(link.reorder_by) } else { 0 };
        self.free_at_ns + nanos(link.delay) + self.rng.below(nanos(link.jitter) + 1) + held_ns
    }

    fn is_lost(&mut self, loss: Loss, now_ns: u64) -> bool {
        let (interval, length) = match loss {
            Loss::Random(probability) => return self.rng.chance(probability),
            Loss::Bursts { interval, length } => (interval, length),
        };
        while self.burst_changes_ns <= now_ns {
            self.is_in_burst = !self.is_in_burst;
            let mean = if self.is_in_burst { length } else { interval };
            self.burst_changes_ns += self.rng.exponential(nanos(mean)).max(1);
        }
        self.is_in_burst
    }
}

/// How long `bytes` take.
pub(crate) fn nanos_of(bytes: u64, rate_bps: u64) -> u64 {
    bytes * 8 * 1_000_000_000 / rate_bps.max(1)
}

/// How much passes in `ns`.
fn bytes_in(ns: u64, rate_bps: u64) -> u64 {
    u64::try_from(u128::from(ns) * u128::from(rate_bps) / 8_000_000_000).unwrap_or(u64::MAX)
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 1514;

    fn frame() -> Vec<u8> {
        let mut frame = vec![0; FRAME];
        frame[12..14].copy_from_slice(&ETHERTYPE_IPV4);
        frame
    }

    #[test]
    fn a_rate_spaces_packets_and_a_full_queue_drops_them() {
        let link = Impairment { rate_bps: 8_000_000, queue_bytes: 3 * FRAME as u64, ..Impairment::CLEAN };
        let mut line = Line::new(1);
        let mut due = Vec::new();
        for _ in 0..3 {
            let Fate::Arrives { due_ns, .. } = line.fate(&link, &frame(), 0) else { panic!("it has room") };
            due.push(due_ns);
        }
        assert_eq!(due, [1_524_000, 3_038_000, 4_552_000]);
        assert_eq!(line.fate(&link, &frame(), 0), Fate::Overflows);
        assert!(matches!(line.fate(&link, &frame(), 1_514_000), Fate::Arrives { .. }));
    }

    #[test]
    fn losses_have_their_probability() {
        let (interval, length) = (Duration::from_millis(90), Duration::from_millis(10));
        for loss in [Loss::Random(0.1), Loss::Bursts { interval, length }] {
            assert!((loss.probability() - 0.1).abs() < 1e-9);
            let link = Impairment { loss, ..Impairment::CLEAN };
            let mut line = Line::new(7);
            let lost = (0..100_000_u64)
                .filter(|number| line.fate(&link, &frame(), number * 1_000_000) == Fate::Vanishes)
                .count();
            assert!((9_000..11_000).contains(&lost), "{loss:?}: {lost}");
        }
    }

    #[test]
    fn a_packet_above_the_mtu_does_not_pass_and_arp_does() {
        let link = Impairment { mtu: 1000, corrupt: 1.0, ..Impairment::CLEAN };
        let mut line = Line::new(1);
        assert_eq!(line.fate(&link, &frame(), 0), Fate::TooBig);
        let hole = Impairment { refuses_by_icmp: false, ..link };
        assert_eq!(line.fate(&hole, &frame(), 0), Fate::Swallowed);
        let mut arp = frame();
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert!(matches!(line.fate(&link, &arp, 0), Fate::Arrives { flipped_bit: None, .. }));
        let fate = line.fate(&link, &frame()[..1014], 0);
        assert!(matches!(fate, Fate::Arrives { flipped_bit: Some(_), .. }));
    }
}
