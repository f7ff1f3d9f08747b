//! Goodput over impaired paths, one sender's stack against another's: the outcome and its table.
//!
//! The same rules as for [`crate::compare`]: the stacks take turns, the ratio is taken within a round, and its median and quartiles are
//! the result. In one round every stack meets the same losses: the impairment's seed is the round's number.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::stats::Spread;

/// One path: what the link does to the data. Acknowledgements come back delayed and otherwise unharmed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Path {
    /// Bits per second.
    pub rate_bits: u64,
    /// Round trip without queueing.
    pub round_trip: Duration,
    /// Probability of losing a packet.
    pub loss: f64,
    /// Probability of a packet overtaking those before it.
    pub reorder: f64,
}

impl Path {
    /// Packets of 1,514 bytes that fill the path once, and at least 50: the bottleneck's queue.
    pub fn queue_packets(&self) -> u32 {
        let bits = self.rate_bits as f64 * self.round_trip.as_secs_f64();
        ((bits / 8.0 / 1514.0) as u32).max(50)
    }

    /// All paths that the comparison is defined over.
    pub fn all() -> Vec<Path> {
        let mut paths = Vec::new();
        for rate_bits in [100_000_000, 1_000_000_000] {
            for round_trip_ms in [20, 100] {
                for loss in [0.001, 0.01, 0.03] {
                    for reorder in [0.0, 0.01] {
                        let round_trip = Duration::from_millis(round_trip_ms);
                        paths.push(Path { rate_bits, round_trip, loss, reorder });
                    }
                }
            }
        }
        paths
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, round_trip) = (self.rate_bits / 1_000_000, self.round_trip.as_millis());
        write!(f, "{rate}M/{round_trip}ms/{}%", self.loss * 100.0)?;
        if self.reorder > 0.0 { write!(f, "/reorder") } else { Ok(()) }
    }
}

/// What one path showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathOutcome {
    /// The path.
    pub path: Path,
    /// Goodput in bits per second, by round: Ringwire's, then the kernel's.
    pub rounds: Vec<[f64; 2]>,
    /// Why a turn gave nothing.
    pub failures: Vec<String>,
}

impl PathOutcome {
    /// Ringwire's goodput over the kernel's, by round.
    pub fn ratios(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter(|[_, kernel]| *kernel > 0.0).map(|[ours, kernel]| ours / kernel))
    }

    fn median(&self, stack: usize) -> f64 {
        Spread::of(self.rounds.iter().map(|round| round[stack])).map_or(0.0, |spread| spread.median)
    }
}

/// All paths.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recovery {
    /// `ringwire.recovery/1`
    pub schema: &'static str,
    /// What Ringwire's sender used; the kernel's is cubic.
    pub congestion_control: &'static str,
    /// How long each turn sent.
    pub duration: Duration,
    /// Outcomes in the order of the plan.
    pub paths: Vec<PathOutcome>,
    /// A signal ended it early.
    pub interrupted: bool,
}

impl Recovery {
    /// A comparison with these outcomes.
    pub fn new(
        congestion_control: &'static str,
        duration: Duration,
        paths: Vec<PathOutcome>,
        interrupted: bool,
    ) -> Recovery {
        Recovery { schema: "ringwire.recovery/1", congestion_control, duration, paths, interrupted }
    }

    /// Whether every turn gave a figure.
    pub fn is_valid(&self) -> bool {
        self.paths.iter().all(|outcome| outcome.failures.is_empty() && !outcome.rounds.is_empty())
    }
}

/// A goal: not slower than this share of the kernel's goodput.
const GOAL: f64 = 0.95;

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "goodput of one sender to a kernel receiver, {:?} a turn, interleaved; {} against the kernel's cubic",
            self.duration, self.congestion_control
        )?;
        writeln!(f, "{:<24} {:>14} {:>14}   ratio: median [quartiles]", "path", "ringwire", "kernel")?;
        for outcome in &self.paths {
            let name = outcome.path.to_string();
            let mbit = |stack| format!("{:.1} Mbit/s", outcome.median(stack) / 1e6);
            write!(f, "{name:<24} {:>14} {:>14}   ", mbit(0), mbit(1))?;
            match outcome.ratios() {
                Some(Spread { q1, median, q3, .. }) => {
                    let mark = if median >= GOAL { "" } else { "  below 0.95" };
                    writeln!(f, "{median:.2} [{q1:.2}..{q3:.2}]{mark}")?;
                }
                None => writeln!(f, "-")?,
            }
            for failure in &outcome.failures {
                writeln!(f, "    {failure}")?;
            }
        }
        let verdict = if self.is_valid() { "VALID" } else { "NOT VALID: a turn gave no figure" };
        writeln!(f, "{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_the_path_and_marks_what_misses_the_goal() {
        let path = Path::all()[0];
        let outcome = |ours: f64| PathOutcome { path, rounds: vec![[ours, 50e6]; 3], failures: Vec::new() };
        let duration = Duration::from_secs(5);
        let table = Recovery::new("cubic", duration, vec![outcome(50e6), outcome(40e6)], false).to_string();
        assert!(table.contains("100M/20ms/0.1%"), "{table}");
        assert!(
            table.contains("1.00 [1.00..1.00]\n") && table.contains("0.80 [0.80..0.80]  below 0.95"),
            "{table}"
        );
        assert!(table.ends_with("VALID\n"), "{table}");
        let mut failed = outcome(1e6);
        failed.failures.push("the receiver heard nothing".to_owned());
        assert!(Recovery::new("cubic", duration, vec![failed], false).to_string().contains("NOT VALID"));
    }

    #[test]
    fn a_path_holds_its_bandwidth_delay_product_in_the_queue() {
        let path =
            Path { rate_bits: 100_000_000, round_trip: Duration::from_millis(100), loss: 0.0, reorder: 0.0 };
        assert_eq!(path.queue_packets(), 825);
        assert_eq!(Path { round_trip: Duration::from_millis(1), ..path }.queue_packets(), 50);
        assert_eq!(Path::all().len(), 24);
    }
}
