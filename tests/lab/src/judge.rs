//! What becomes of each packet: a verdict by its number, under the seed.

use std::time::Duration;

use crate::impair::{Delay, Distribution, Impairment};
use crate::program::draw;

/// Each kind of decision draws from a sequence of its own. Plain loss draws with the seed itself, like the program of a
/// direct cable, so both kinds of cable lose the same numbers.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
enum Purpose {
    GilbertElliott = 1,
    Duplicate,
    Corrupt,
    CorruptBit,
    Reorder,
    Delay,
    DelayTwin,
    DelayOfCopy,
}

/// A verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It ends here.
    Drop(Cause),
    Pass(Pass),
}

/// Why a packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Lost,
    BlackHoled,
    Partitioned,
}

impl Cause {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cause::Lost => "lost",
            Cause::BlackHoled => "longer than the path's MTU",
            Cause::Partitioned => "partitioned",
        }
    }
}

/// How a packet goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) delay: Duration,
    /// The bit to be turned over, if any, counted from the first; to be taken modulo the packet's length.
    pub(crate) corrupt_bit: Option<u64>,
    /// A copy goes, too, after this delay.
    pub(crate) copy_after: Option<Duration>,
    pub(crate) is_reordered: bool,
}

/// Judges the packets of one direction, in the order in which they come.
#[derive(Debug)]
pub(crate) struct Judge {
    impairment: Impairment,
    number: u64,
    is_bad: bool,
    /// Packets since the last that was sent past others.
    since_reordered: u32,
}

impl Judge {
    pub(crate) fn new(impairment: Impairment) -> Judge {
        Judge { impairment, number: 0, is_bad: false, since_reordered: 0 }
    }

    /// The next packet, an IP packet of `ip_bytes`.
    pub(crate) fn judge(&mut self, ip_bytes: usize) -> Verdict {
        let number = self.number;
        self.number += 1;
        // The state moves with every packet, whatever else befalls it.
        let is_burst = self.step_burst(number);
        let impairment = &self.impairment;
        if impairment.is_partitioned {
            return Verdict::Drop(Cause::Partitioned);
        }
        if impairment.loses(number) || is_burst {
            return Verdict::Drop(Cause::Lost);
        }
        if impairment.black_hole_above.is_some_and(|mtu_bytes| ip_bytes > mtu_bytes as usize) {
            return Verdict::Drop(Cause::BlackHoled);
        }
        let copy_after = self.falls(Purpose::Duplicate, number, impairment.duplicate);
        let corrupt = self.falls(Purpose::Corrupt, number, impairment.corrupt);
        let is_reordered = self.step_reorder(number);
        let delay = match is_reordered {
            true => Duration::ZERO,
            false => self.delay(number, Purpose::Delay),
        };
        Verdict::Pass(Pass {
            delay,
            corrupt_bit: corrupt.then(|| self.draw(Purpose::CorruptBit, number)),
            copy_after: copy_after.then(|| self.delay(number, Purpose::DelayOfCopy)),
            is_reordered,
        })
    }

    /// Whether the link is in its bad state for this packet; then moves on.
    fn step_burst(&mut self, number: u64) -> bool {
        let Some(model) = self.impairment.burst_loss else { return false };
        let was_bad = self.is_bad;
        let turns = if was_bad { model.to_good } else { model.to_bad };
        if self.falls(Purpose::GilbertElliott, number, turns) {
            self.is_bad = !was_bad;
        }
        was_bad
    }

    /// netem: every `gap`-th packet that is not lost, with the probability.
    fn step_reorder(&mut self, number: u64) -> bool {
        let Some(reorder) = self.impairment.reorder else { return false };
        let is_due = self.since_reordered + 1 >= reorder.gap;
        if is_due && self.falls(Purpose::Reorder, number, reorder.probability) {
            self.since_reordered = 0;
            return true;
        }
        self.since_reordered = self.since_reordered.saturating_add(1);
        false
    }

    fn delay(&self, number: u64, purpose: Purpose) -> Duration {
        let Delay { base, jitter, distribution } = self.impairment.delay;
        if jitter.is_zero() {
            return base;
        }
        let uniform = self.unit(purpose, number);
        let deviations = match distribution {
            Distribution::Uniform => 2.0 * uniform - 1.0,
            Distribution::Normal => normal(uniform, self.unit(Purpose::DelayTwin, number)),
            Distribution::Pareto => pareto(uniform),
        };
        let seconds = base.as_secs_f64() + jitter.as_secs_f64() * deviations;
        // At most base + 4 jitter, both below two hours: never too large for a Duration.
        Duration::from_secs_f64(seconds.max(0.0))
    }

    fn falls(&self, purpose: Purpose, number: u64, probability: f64) -> bool {
        (self.draw(purpose, number) as f64) < probability * 2f64.powi(32)
    }

    /// In 0..1, neither bound included.
    fn unit(&self, purpose: Purpose, number: u64) -> f64 {
        (self.draw(purpose, number) as f64 + 0.5) / 2f64.powi(32)
    }

    fn draw(&self, purpose: Purpose, number: u64) -> u64 {
        // Another mixing keeps the sequences of neighbouring seeds and purposes apart.
        draw(draw(self.impairment.seed, !(purpose as u64)) << 32 ^ self.impairment.seed, number)
    }
}

/// Longest deviation of the two unbounded shapes, as in netem's tables.
const MAX_DEVIATIONS: f64 = 4.0;

/// Box-Muller: mean 0, deviation 1.
fn normal(a: f64, b: f64) -> f64 {
    let value = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
    value.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
}

/// Shape 3, moved and scaled to mean 0 and deviation 1: mean 3/2, variance 3/4.
fn pareto(uniform: f64) -> f64 {
    let value = (uniform.powf(-1.0 / 3.0) - 1.5) / 0.75_f64.sqrt();
    value.min(MAX_DEVIATIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 200_000;

    fn verdicts(impairment: Impairment) -> Vec<Verdict> {
        let mut judge = Judge::new(impairment);
        (0..COUNT).map(|_| judge.judge(1000)).collect()
    }

    fn passes(impairment: Impairment) -> Vec<Pass> {
        let pass = |verdict| match verdict {
            Verdict::Pass(pass) => Some(pass),
            Verdict::Drop(_) => None,
        };
        verdicts(impairment).into_iter().filter_map(pass).collect()
    }

    fn share(count: usize) -> f64 {
        count as f64 / COUNT as f64
    }

    #[test]
    fn a_seed_repeats_every_verdict_and_another_does_not() {
        let busy = |seed| {
            let delay = Duration::from_millis(10);
            Impairment::default()
                .loss(0.1)
                .loss_gemodel(0.01, 0.2)
                .duplicate(0.1)
                .corrupt(0.1)
                .delay(delay, delay)
                .reorder(0.25, 3)
                .seed(seed)
        };
        assert_eq!(verdicts(busy(4)), verdicts(busy(4)));
        assert_ne!(verdicts(busy(4)), verdicts(busy(5)));
    }

    #[test]
    fn plain_loss_falls_on_the_numbers_of_a_direct_cable() {
        let impairment = Impairment::default().loss(0.05).duplicate(0.3).seed(9);
        for (number, verdict) in verdicts(impairment).into_iter().enumerate() {
            assert_eq!(verdict == Verdict::Drop(Cause::Lost), impairment.loses(number as u64));
        }
    }

    #[test]
    fn bursts_have_their_share_and_their_length() {
        let lost: Vec<bool> = verdicts(Impairment::default().loss_gemodel(0.01, 0.25).seed(1))
            .into_iter()
            .map(|verdict| matches!(verdict, Verdict::Drop(Cause::Lost)))
            .collect();
        let count = lost.iter().filter(|&&lost| lost).count();
        let bursts = lost.windows(2).filter(|pair| pair[1] && !pair[0]).count();
        assert!((share(count) - 0.01 / 0.26).abs() < 0.003, "{}", share(count));
        assert!((count as f64 / bursts as f64 - 4.0).abs() < 0.3, "{count} in {bursts}");
    }

    #[test]
    fn copies_and_bits_have_their_probability() {
        let passes = passes(Impairment::default().duplicate(0.02).corrupt(0.03).seed(2));
        let copies = passes.iter().filter(|pass| pass.copy_after.is_some()).count();
        let corrupted = passes.iter().filter(|pass| pass.corrupt_bit.is_some()).count();
        assert!((share(copies) - 0.02).abs() < 0.002, "{copies}");
        assert!((share(corrupted) - 0.03).abs() < 0.002, "{corrupted}");
    }

    #[test]
    fn jitter_has_its_shape() {
        let (base, jitter) = (Duration::from_millis(100), Duration::from_millis(10));
        for (distribution, deviation_ms, skewed) in [
            (Distribution::Uniform, 10.0 / 3f64.sqrt(), false),
            (Distribution::Normal, 10.0, false),
            // The cut tail takes something from both moments.
            (Distribution::Pareto, 7.5, true),
        ] {
            let impairment = Impairment::default().delay(base, jitter).distribution(distribution).seed(3);
            let mut delays: Vec<f64> =
                passes(impairment).iter().map(|pass| pass.delay.as_secs_f64() * 1e3).collect();
            let mean = delays.iter().sum::<f64>() / delays.len() as f64;
            let variance =
                delays.iter().map(|delay| (delay - mean).powi(2)).sum::<f64>() / delays.len() as f64;
            assert!((mean - 100.0).abs() < 0.7, "{distribution:?}: mean {mean}");
            assert!((variance.sqrt() - deviation_ms).abs() < 0.5, "{distribution:?}: {}", variance.sqrt());
            delays.sort_by(f64::total_cmp);
            assert_eq!(
                delays[COUNT / 2] < mean - 1.0,
                skewed,
                "{distribution:?}: median {}",
                delays[COUNT / 2]
            );
        }
    }

    #[test]
    fn a_gap_sends_every_nth_past_the_others() {
        let delay = Duration::from_millis(1);
        let impairment = Impairment::default().delay(delay, Duration::ZERO).reorder(1.0, 5);
        let reordered: Vec<usize> = passes(impairment)
            .iter()
            .enumerate()
            .filter(|(_, pass)| pass.is_reordered && pass.delay.is_zero())
            .map(|(number, _)| number)
            .take(3)
            .collect();
        assert_eq!(reordered, [4, 9, 14]);
        let any = passes(Impairment::default().delay(delay, Duration::ZERO).reorder(0.25, 1).seed(8));
        let count = any.iter().filter(|pass| pass.is_reordered).count();
        assert!((share(count) - 0.25).abs() < 0.005, "{count}");
    }

    #[test]
    fn black_hole_and_partition() {
        let mut judge = Judge::new(Impairment::default().mtu_black_hole(1400));
        assert_eq!(judge.judge(1401), Verdict::Drop(Cause::BlackHoled));
        assert_eq!(judge.judge(1400), Verdict::Pass(Pass::default()));
        let mut judge = Judge::new(Impairment::default().partition());
        assert_eq!(judge.judge(60), Verdict::Drop(Cause::Partitioned));
    }
}
