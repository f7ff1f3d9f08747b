//! How long short flows take over a path that loses packets, from the first SYN to the last byte at the receiver.
//!
//! A percentile that is far out rests on few flows, so the figures are those of all rounds' flows together; the ratio of each round is
//! beside them and gives the verdict, as in [`crate::compare`].

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use super::{Path, STACKS};
use crate::report::Latency;
use crate::stats::{Spread, Verdict};

/// Flows over one path, so many at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FlowPlan {
    /// What they cross.
    pub path: Path,
    /// How many are under way at any time; when one has ended the next begins.
    pub at_a_time: usize,
    /// How many each stack sends in a round.
    pub flows: usize,
}

impl FlowPlan {
    /// Length of every flow.
    pub const FLOW_BYTES: usize = 64 * 1024;

    /// Those that the comparison is defined over.
    pub fn all() -> Vec<FlowPlan> {
        let plan = |round_trip_ms, at_a_time, flows| {
            let round_trip = Duration::from_millis(round_trip_ms);
            let path = Path { rate_bits: 100_000_000, round_trip, loss: 0.02, reorder: 0.0 };
            FlowPlan { path, at_a_time, flows }
        };
        vec![plan(20, 1, 150), plan(20, 8, 300), plan(100, 8, 300)]
    }
}

impl fmt::Display for FlowPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} at a time", self.path, self.at_a_time)
    }
}

/// The times of one stack's flows.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowTimes(Histogram<u64>);

impl FlowTimes {
    /// Three digits; a flow of more than a minute counts as one of a minute.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> FlowTimes {
        const MAX_NS: u64 = 60_000_000_000;
        let mut histogram = Histogram::new_with_max(MAX_NS, 3).expect("the bounds are constant and valid");
        for time in times {
            histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
        FlowTimes(histogram)
    }

    /// So many of them took no longer than this, in nanoseconds.
    pub fn at_ns(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }
}

impl Serialize for FlowTimes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Latency::of(&self.0).serialize(serializer)
    }
}

/// What the flows of one plan showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowsOutcome {
    /// What was to be sent.
    #[serde(flatten)]
    pub plan: FlowPlan,
    /// By round: Ringwire's times, then the kernel's.
    pub rounds: Vec<[FlowTimes; 2]>,
    /// The same, of all rounds together.
    pub all_rounds: [FlowTimes; 2],
    /// Why a turn gave nothing.
    pub failures: Vec<String>,
}

impl FlowsOutcome {
    /// What these rounds add up to.
    pub fn new(plan: FlowPlan, rounds: Vec<[FlowTimes; 2]>, failures: Vec<String>) -> FlowsOutcome {
        let together = |stack: usize| {
            let mut sum = FlowTimes::of([]);
            for round in &rounds {
                sum.0 += &round[stack].0;
            }
            sum
        };
        let all_rounds = [together(0), together(1)];
        FlowsOutcome { plan, rounds, all_rounds, failures }
    }

    /// Ringwire's time over the kernel's, by round; below 1 is better.
    pub fn ratios(&self, quantile: f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(|[ours, kernel]| ratio(ours, kernel, quantile)))
    }

    /// Whether the rounds show that Ringwire's slowest hundredth is faster or slower than the kernel's.
    pub fn verdict(&self) -> Option<Verdict> {
        Spread::of(self.rounds.iter().map(|[ours, kernel]| ratio(kernel, ours, P99)))
            .map(|rates| Verdict::of_ratios(&rates))
    }

    pub(super) fn is_valid(&self) -> bool {
        self.failures.is_empty() && !self.rounds.is_empty()
    }
}

const P99: f64 = 0.99;

fn ratio(over: &FlowTimes, under: &FlowTimes, quantile: f64) -> f64 {
    // No flow takes no time; an empty side makes no round.
    over.at_ns(quantile) as f64 / under.at_ns(quantile).max(1) as f64
}

pub(super) fn write_table(f: &mut fmt::Formatter<'_>, outcomes: &[FlowsOutcome]) -> fmt::Result {
    writeln!(
        f,
        "\ntime of flows of {} KiB from the first SYN to the last byte at a kernel receiver; all rounds' flows of a stack together,\n\
         ratios of time by round: median [quartiles], below 1 is better",
        FlowPlan::FLOW_BYTES / 1024
    )?;
    writeln!(f, "{:<36} {:>6} {:>10} {:>10} {:>10}", "path", "flows", "p50", "p90", "p99")?;
    for outcome in outcomes {
        writeln!(f, "{}", outcome.plan)?;
        for (name, times) in STACKS.iter().zip(&outcome.all_rounds) {
            let at = |quantile| format!("{:.0} ms", times.at_ns(quantile) as f64 / 1e6);
            let (p50, p90, p99) = (at(0.5), at(0.9), at(P99));
            writeln!(f, "  {name:<34} {:>6} {p50:>10} {p90:>10} {p99:>10}", times.count())?;
        }
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", P99)] {
            if let Some(Spread { q1, median, q3, .. }) = outcome.ratios(quantile) {
                write!(f, "  {name} {median:.2} [{q1:.2}..{q3:.2}]")?;
            }
        }
        writeln!(f, "  {}", outcome.verdict().map_or("-", |verdict| verdict.name()))?;
        for failure in &outcome.failures {
            writeln!(f, "    {failure}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(tail_ms: u64) -> FlowTimes {
        let bulk = (0..98).map(|_| Duration::from_millis(100));
        FlowTimes::of(bulk.chain([Duration::from_millis(tail_ms); 2]))
    }

    #[test]
    fn the_tail_gives_the_verdict_and_the_figures_are_those_of_all_rounds() {
        let plan = FlowPlan::all()[0];
        let outcome = |ours: u64| FlowsOutcome::new(plan, vec![[times(ours), times(1000)]; 3], Vec::new());
        assert_eq!(outcome(1000).verdict(), Some(Verdict::NoDifferenceShown));
        assert_eq!(outcome(1300).verdict(), Some(Verdict::Slower));
        assert_eq!(outcome(700).verdict(), Some(Verdict::Faster));
        assert_eq!(outcome(1300).all_rounds[0].count(), 300);
        let ratio = outcome(1300).ratios(0.99).unwrap().median;
        assert!((1.29..1.31).contains(&ratio), "{ratio}");
        assert_eq!(outcome(1300).ratios(0.5).unwrap().median, 1.0);
    }

    #[test]
    fn a_flow_that_never_ends_is_one_of_a_minute() {
        let minutes = FlowTimes::of([Duration::from_secs(600)]).at_ns(1.0) as f64 / 6e10;
        assert!((0.99..1.01).contains(&minutes), "{minutes}");
    }
}
