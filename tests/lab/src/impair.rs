//! What a link does to packets, in tc-netem's words.
//!
//! Whether a packet is lost, copied, spoilt or delayed longer is decided by its number in its direction and the seed, and by
//! nothing else: the same seed hits the same packet numbers however fast they come.

use std::time::Duration;

use crate::error::LabError;
use crate::program;

/// The shape of the jitter of a delay; netem's `distribution`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distribution {
    /// Anything from `base - jitter` to `base + jitter`, equally likely.
    #[default]
    Uniform,
    /// Standard deviation `jitter`, cut at four of them.
    Normal,
    /// A long tail above: standard deviation `jitter` (shape 3), cut at four of them.
    Pareto,
}

/// What to do to packets that travel one way; the methods are called as in tc-netem(8).
///
/// Each method replaces what was said before in the same words. Probabilities outside 0..=1 are taken as the nearer bound,
/// NaN as 0.
///
/// ```
/// use ringwire_lab::Impairment;
/// let five_percent = Impairment::default().loss(0.05).seed(7);
/// let lost: Vec<u64> = (0..50).filter(|&number| five_percent.loses(number)).collect();
/// assert_eq!(lost, [1, 44]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    pub(crate) seed: u64,
    loss: f64,
    pub(crate) burst_loss: Option<GilbertElliott>,
    pub(crate) duplicate: f64,
    pub(crate) corrupt: f64,
    pub(crate) delay: Delay,
    pub(crate) reorder: Option<Reorder>,
    pub(crate) rate: Option<Rate>,
    /// A packet that finds so many waiting is marked.
    pub(crate) mark_at: Option<u32>,
    /// Longest IP packet that gets through.
    pub(crate) black_hole_above: Option<u32>,
    pub(crate) is_partitioned: bool,
}

/// Probabilities per packet of entering and of leaving the state in which everything is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GilbertElliott {
    pub(crate) to_bad: f64,
    pub(crate) to_good: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) base: Duration,
    pub(crate) jitter: Duration,
    pub(crate) distribution: Distribution,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reorder {
    pub(crate) probability: f64,
    pub(crate) gap: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) bits_per_s: u64,
    pub(crate) limit_packets: u32,
}

impl Impairment {
    /// Delays each packet by `base`, more or less by `jitter`. With jitter, packets may overtake each other.
    #[must_use]
    pub fn delay(mut self, base: Duration, jitter: Duration) -> Self {
        self.delay = Delay { base, jitter, ..self.delay };
        self
    }

    /// The shape of the jitter; uniform unless said otherwise.
    #[must_use]
    pub fn distribution(mut self, distribution: Distribution) -> Self {
        self.delay.distribution = distribution;
        self
    }

    /// Loses each packet with this probability: every kind of packet, also SYN, FIN, ACK and ARP.
    #[must_use]
    pub fn loss(mut self, probability: f64) -> Self {
        self.loss = clamp(probability);
        self
    }

    /// Loses packets in bursts (Gilbert-Elliott, netem's `gemodel p r`): before each packet the link turns bad with
    /// probability `p` when it was good, and good with `r` when it was bad; what comes while it is bad is lost.
    /// The share that is lost is `p / (p + r)`, a burst is `1 / r` packets long.
    #[must_use]
    pub fn loss_gemodel(mut self, p: f64, r: f64) -> Self {
        self.burst_loss = Some(GilbertElliott { to_bad: clamp(p), to_good: clamp(r) });
        self
    }

    /// Sends each packet twice with this probability.
    #[must_use]
    pub fn duplicate(mut self, probability: f64) -> Self {
        self.duplicate = clamp(probability);
        self
    }

    /// Turns one bit of a packet over with this probability, anywhere in the Ethernet frame.
    #[must_use]
    pub fn corrupt(mut self, probability: f64) -> Self {
        self.corrupt = clamp(probability);
        self
    }

    /// Sends packets at once, past those that are being delayed: with `gap` 1 each with this probability, with `gap` N
    /// every N-th. Needs a delay.
    #[must_use]
    pub fn reorder(mut self, probability: f64, gap: u32) -> Self {
        self.reorder = Some(Reorder { probability: clamp(probability), gap });
        self
    }

    /// A bottleneck before the delay: so many bits of Ethernet frames a second, and room for so many packets, the one being
    /// sent included; more are dropped.
    #[must_use]
    pub fn rate(mut self, bits_per_s: u64, limit_packets: u32) -> Self {
        self.rate = Some(Rate { bits_per_s, limit_packets });
        self
    }

    /// Marks IPv4 packets that may be marked (ECN, RFC 3168) and find so many waiting in the queue of [`Impairment::rate`], the one being
    /// sent included; the `K` of RFC 8257, fq_codel's `ce_threshold` in packets. Others pass as before.
    #[must_use]
    pub fn mark(mut self, at_packets: u32) -> Self {
        self.mark_at = Some(at_packets);
        self
    }

    /// Swallows IP packets longer than `mtu_bytes` without a word, as a path does whose ICMP is filtered.
    #[must_use]
    pub fn mtu_black_hole(mut self, mtu_bytes: u32) -> Self {
        self.black_hole_above = Some(mtu_bytes);
        self
    }

    /// Lets nothing through: this way is cut, the other is not.
    #[must_use]
    pub fn partition(mut self) -> Self {
        self.is_partitioned = true;
        self
    }

    /// Chooses among the equally likely patterns; 0 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether the packet with this number, counted from 0 when the impairment was set, falls to [`Impairment::loss`].
    pub fn loses(self, number: u64) -> bool {
        program::draw(self.seed, number) < self.loss_threshold()
    }

    /// Draws are 32 bits; those below this are lost. 2^32 loses all.
    pub(crate) fn loss_threshold(self) -> u64 {
        // In 0..=2^32, because the probability is in 0..=1: the cast only rounds down.
        (self.loss * 2f64.powi(32)) as u64
    }

    /// Whether a direct cable can do it.
    pub(crate) fn is_only_loss(self) -> bool {
        Impairment { seed: 0, loss: 0.0, ..self } == Impairment::default()
    }

    /// What cannot be meant.
    pub(crate) fn check(self) -> Result<(), LabError> {
        if let Some(rate) = self.rate {
            if rate.limit_packets == 0 {
                let what =
                    format!("{} bit/s with a queue of 0 packets lets nothing through", rate.bits_per_s);
                return Err(LabError::misuse(
                    what,
                    "rate(bits_per_s, limit) counts the packet being sent: 1 or more",
                ));
            }
            if rate.limit_packets > MOST_PACKETS {
                let what = format!("a queue of {} packets", rate.limit_packets);
                return Err(LabError::misuse(what, format!("at most {MOST_PACKETS}: they wait in memory")));
            }
            if rate.bits_per_s == 0 {
                return Err(LabError::misuse(
                    "a rate of 0 bit/s lets nothing through",
                    "partition() says that",
                ));
            }
        }
        if let Some(mark_at) = self.mark_at
            && self.rate.is_none_or(|rate| mark_at >= rate.limit_packets)
        {
            let what = format!("marking at {mark_at} packets never happens");
            return Err(LabError::misuse(what, "rate(bits_per_s, limit) makes the queue; limit above it"));
        }
        if let Some(reorder) = self.reorder {
            if self.delay.base.is_zero() {
                let hint = "delay(base, jitter): packets that are not delayed cannot be overtaken";
                return Err(LabError::misuse("reordering without a delay", hint));
            }
            if reorder.gap == 0 {
                return Err(LabError::misuse("reordering with a gap of 0", "a gap of 1 means any packet"));
            }
        }
        if self.delay.base > LONGEST_DELAY || self.delay.jitter > LONGEST_DELAY {
            let what = format!("a delay of {:?} with jitter {:?}", self.delay.base, self.delay.jitter);
            return Err(LabError::misuse(what, "at most an hour; for no packets at all say partition()"));
        }
        Ok(())
    }
}

/// Half of a forwarder's frames; packets of up to 1,792 bytes take one each.
const MOST_PACKETS: u32 = 16_384;
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

fn clamp(probability: f64) -> f64 {
    if probability.is_nan() { 0.0 } else { probability.clamp(0.0, 1.0) }
}

/// What an impairment did since it was set, in packets. Always `received + duplicated == passed + dropped + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Packets that came to be judged.
    pub received: u64,
    /// Packets that went on.
    pub passed: u64,
    /// Packets that did not, for any of the reasons below.
    pub dropped: u64,
    /// Of those: by `loss` or `loss_gemodel`.
    pub lost: u64,
    /// Of those: the queue of `rate` was full.
    pub over_limit: u64,
    /// Of those: longer than `mtu_black_hole`.
    pub black_holed: u64,
    /// Of those: cut off by `partition`.
    pub partitioned: u64,
    /// Of those, and unasked: the receiving interface took none, or there was no memory for a copy.
    pub unsendable: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Packets with a bit turned over.
    pub corrupted: u64,
    /// Packets marked (CE).
    pub marked: u64,
    /// Packets sent past others.
    pub reordered: u64,
    /// Packets being delayed now.
    pub waiting: u64,
    /// Packets that came faster than the forwarder could take them, and were never seen. Not part of the sum.
    pub overrun: u64,
    /// Packets that the sender's kernel dropped on the way to the forwarder: one of its queues was full, or the carrier was
    /// down. Not part of the sum.
    pub uncarried: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_has_its_probability_under_every_seed() {
        for seed in 0..20 {
            let impairment = Impairment::default().loss(0.05).seed(seed);
            let lost = (0..100_000).filter(|&number| impairment.loses(number)).count();
            // Binomial: mean 5000, standard deviation 69; five of them on either side.
            assert!((4_655..=5_345).contains(&lost), "seed {seed}: {lost}");
        }
    }

    #[test]
    fn bounds_lose_all_or_nothing() {
        for (probability, all) in [(0.0, false), (-1.0, false), (f64::NAN, false), (1.0, true), (7.0, true)] {
            let impairment = Impairment::default().loss(probability).seed(3);
            assert!((0..10_000).all(|number| impairment.loses(number) == all), "{probability}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let bad = [
            Impairment::default().rate(1_000_000_000, 0),
            Impairment::default().rate(0, 10),
            Impairment::default().rate(1_000_000, 1_000_000),
            Impairment::default().mark(10),
            Impairment::default().rate(1_000_000, 10).mark(10),
            Impairment::default().reorder(0.1, 1),
            Impairment::default().delay(Duration::from_millis(1), Duration::ZERO).reorder(0.1, 0),
            Impairment::default().delay(Duration::from_secs(4000), Duration::ZERO),
        ];
        for impairment in bad {
            let error = impairment.check().unwrap_err();
            assert!(error.errno.is_none() && !error.hint.is_empty(), "{error}");
        }
        assert!(Impairment::default().loss(0.5).check().is_ok());
        assert!(Impairment::default().rate(1_000_000, 10).mark(9).check().is_ok());
    }

    #[test]
    fn seeds_lose_different_packets() {
        let lost = |seed| -> Vec<u64> {
            let impairment = Impairment::default().loss(0.1).seed(seed);
            (0..1000).filter(|&number| impairment.loses(number)).collect()
        };
        assert_eq!(lost(1), lost(1));
        assert_ne!(lost(1), lost(2));
    }
}
