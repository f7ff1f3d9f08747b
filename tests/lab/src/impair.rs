//! Impairments: what happens to packets that travel towards one end of a link.
//!
//! Two classifiers share one map per direction. The sender's egress judges every packet that the
//! sender's kernel sends and marks it as judged; the receiver's ingress judges what came without the
//! mark, which is what an AF_XDP socket sent past tc. Either way a packet is judged exactly once, by
//! its number in that direction, so one seed always loses the same packet numbers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::link::End;
use crate::netlink::Hook;
use crate::program::{self, Word};
use crate::sys::{self, Cell};

/// What to do to packets, in tc-netem's words.
///
/// ```
/// use ringwire_lab::Impairment;
/// let five_percent = Impairment::default().loss(0.05).seed(7);
/// let lost: Vec<u64> = (0..50).filter(|&number| five_percent.loses(number)).collect();
/// assert_eq!(lost, [1, 44]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    loss: f64,
    seed: u64,
}

impl Impairment {
    /// Loses each packet with this probability: every kind of packet, also SYN, FIN, ACK and ARP.
    ///
    /// Values outside 0..=1 are taken as the nearer bound, NaN as 0.
    #[must_use]
    pub fn loss(mut self, probability: f64) -> Self {
        self.loss = if probability.is_nan() { 0.0 } else { probability.clamp(0.0, 1.0) };
        self
    }

    /// Chooses among the equally likely patterns; 0 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether the packet with this number, counted from 0 when the impairment was set, is lost.
    pub fn loses(self, number: u64) -> bool {
        program::draw(self.seed, number) < self.threshold()
    }

    /// Draws are 32 bits; those below this are lost. 2^32 loses all.
    fn threshold(self) -> u64 {
        // In 0..=2^32, because the probability is in 0..=1: the cast only rounds down.
        (self.loss * 2f64.powi(32)) as u64
    }

    fn words(self) -> [u64; Word::COUNT] {
        let mut words = [0; Word::COUNT];
        words[Word::Seed as usize] = self.seed;
        words[Word::Threshold as usize] = self.threshold();
        words
    }
}

/// What an impairment did since it was set, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Packets that went on.
    pub passed: u64,
    /// Packets that were lost.
    pub dropped: u64,
}

/// The programs and the map of one direction of a link.
#[derive(Debug)]
pub(crate) struct Injector {
    words: Cell<{ Word::COUNT }>,
}

impl Injector {
    pub(crate) fn attach(from: &End, to: &End, impairment: Impairment) -> io::Result<Injector> {
        let words = Cell::new()?;
        words.store(&impairment.words())?;
        let map_fd = words.as_fd().as_raw_fd();
        let egress = sys::load_classifier("ringwire_egress", &program::egress(map_fd))?;
        let ingress = sys::load_classifier("ringwire_ingress", &program::ingress(map_fd))?;
        // The receiver first: a packet is never judged twice, and both places judge alike.
        hook(to, Hook::Ingress, &ingress)?;
        hook(from, Hook::Egress, &egress)?;
        Ok(Injector { words })
    }

    pub(crate) fn set(&self, impairment: Impairment) -> io::Result<()> {
        self.words.store(&impairment.words())
    }

    pub(crate) fn counters(&self) -> io::Result<Counters> {
        let words = self.words.load()?;
        Ok(Counters { passed: words[Word::Passed as usize], dropped: words[Word::Dropped as usize] })
    }
}

fn hook(end: &End, hook: Hook, program: &OwnedFd) -> io::Result<()> {
    end.node.route(|route| {
        match route.add_clsact(end.ifindex) {
            // The other direction, or an attempt that failed later, put it there.
            Err(cause) if cause.raw_os_error() == Some(libc::EEXIST) => {}
            other => other?,
        }
        route.add_classifier(end.ifindex, hook, program.as_fd(), "ringwire-lab")
    })
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
    fn seeds_lose_different_packets() {
        let lost = |seed| -> Vec<u64> {
            let impairment = Impairment::default().loss(0.1).seed(seed);
            (0..1000).filter(|&number| impairment.loses(number)).collect()
        };
        assert_eq!(lost(1), lost(1));
        assert_ne!(lost(1), lost(2));
    }
}
