//! How two flows divide a bottleneck: one of each stack, and beside that two of the kernel's, which shows what chance does.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Path;
use crate::stats::Spread;

/// Goodput of two flows through one queue, bits per second; the first is the one whose share is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair(pub [f64; 2]);

impl Pair {
    /// The first one's part of both.
    pub fn share(self) -> f64 {
        let Pair([first, second]) = self;
        if first + second > 0.0 { first / (first + second) } else { 0.0 }
    }

    /// Both together.
    pub fn sum(self) -> f64 {
        self.0[0] + self.0[1]
    }
}

/// Two flows, one queue.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SharingRound {
    /// Ringwire's flow and the kernel's.
    pub mixed: Pair,
    /// Two of the kernel's; the first began when Ringwire's did in the other turn.
    pub kernel_only: Pair,
}

/// What one path showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SharingOutcome {
    /// The bottleneck, with a queue as long as the path.
    pub path: Path,
    /// Rounds.
    pub rounds: Vec<SharingRound>,
    /// Why a turn gave nothing.
    pub failures: Vec<String>,
}

/// Paths of the comparison: they lose what their queue has no room for, and nothing else.
pub fn paths() -> Vec<Path> {
    let path = |rate_mbit: u64, round_trip_ms| Path {
        rate_bits: rate_mbit * 1_000_000,
        round_trip: Duration::from_millis(round_trip_ms),
        loss: 0.0,
        reorder: 0.0,
    };
    vec![path(20, 50), path(20, 100), path(100, 20), path(100, 100)]
}

/// A goal: neither has less than this of the bottleneck.
const FAIR: std::ops::RangeInclusive<f64> = 0.4..=0.6;

impl SharingOutcome {
    /// Ringwire's part beside the kernel, by round.
    pub fn shares(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(|round| round.mixed.share()))
    }

    /// The first kernel flow's part beside the other, by round.
    pub fn kernel_shares(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(|round| round.kernel_only.share()))
    }

    /// Whether the median share is within 40:60.
    pub fn is_fair(&self) -> bool {
        self.shares().is_some_and(|shares| FAIR.contains(&shares.median))
    }

    pub(super) fn is_valid(&self) -> bool {
        self.failures.is_empty() && !self.rounds.is_empty()
    }

    fn write_row(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |spread: Option<Spread>| match spread {
            Some(Spread { min, median, max, .. }) => {
                format!("{:.0} % [{:.0}..{:.0}]", median * 100.0, min * 100.0, max * 100.0)
            }
            None => "-".to_owned(),
        };
        let used = Spread::of(self.rounds.iter().map(|round| round.mixed.sum() / self.path.rate_bits as f64));
        let (ours, kernel) = (percent(self.shares()), percent(self.kernel_shares()));
        let mark = if self.is_fair() || self.rounds.is_empty() { "" } else { "  outside 40:60" };
        let path = self.path.to_string();
        writeln!(f, "{path:<24} {ours:>18} {kernel:>22} {:>20}{mark}", percent(used))?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "    {failure}"))
    }
}

pub(super) fn write_table(f: &mut fmt::Formatter<'_>, outcomes: &[SharingOutcome]) -> fmt::Result {
    writeln!(
        f,
        "\nshare of a bottleneck with a queue as long as the path, two flows at a time: median [min..max] of the rounds"
    )?;
    writeln!(
        f,
        "{:<24} {:>18} {:>22} {:>20}",
        "path", "ringwire : kernel", "kernel : kernel", "of the link, mixed"
    )?;
    outcomes.iter().try_for_each(|outcome| outcome.write_row(f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_judged_by_its_median() {
        let round = |share: f64| SharingRound {
            mixed: Pair([share * 20e6, (1.0 - share) * 20e6]),
            kernel_only: Pair([10e6, 10e6]),
        };
        let outcome = |shares: [f64; 3]| SharingOutcome {
            path: paths()[0],
            rounds: shares.map(round).to_vec(),
            failures: Vec::new(),
        };
        assert!(outcome([0.1, 0.42, 0.9]).is_fair());
        assert!(!outcome([0.5, 0.39, 0.3]).is_fair());
        assert!(!outcome([0.5, 0.61, 0.7]).is_fair());
        assert_eq!(outcome([0.5; 3]).kernel_shares().unwrap().median, 0.5);
    }

    #[test]
    fn two_silent_flows_share_nothing() {
        assert_eq!(Pair([0.0, 0.0]).share(), 0.0);
    }
}
