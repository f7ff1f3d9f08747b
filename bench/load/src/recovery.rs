//! TCP over impaired paths, one sender's stack against another's: the outcome and its tables.
//!
//! Three parts: goodput over paths that lose and reorder; [the time of short flows](short_flows); [how two flows share a
//! bottleneck](sharing).
//!
//! The same rules as for [`crate::compare`]: the stacks take turns, the ratio is taken within a round, and its median and quartiles are
//! the result. In one round every stack meets the same losses: the impairment's seed is the round's number.

pub mod sharing;
pub mod short_flows;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::stats::Spread;

use sharing::SharingOutcome;
use short_flows::FlowsOutcome;

/// The order of every pair of figures.
const STACKS: [&str; 2] = ["ringwire", "kernel"];

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

/// What each part showed; a part that was not asked for is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Parts {
    /// Goodput over paths that lose and reorder.
    pub paths: Vec<PathOutcome>,
    /// The time of short flows.
    pub short_flows: Vec<FlowsOutcome>,
    /// Two flows through one queue.
    pub sharing: Vec<SharingOutcome>,
}

/// How Ringwire sends; the kernel does with cubic, not paced.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sending {
    /// Name of the congestion control.
    pub congestion_control: &'static str,
    /// Whether segments leave spread over the round trip, by its name; those of a model always do.
    pub pacing: &'static str,
}

/// The whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recovery {
    /// `ringwire.recovery/1`
    pub schema: &'static str,
    /// How Ringwire's sender was set up.
    #[serde(flatten)]
    pub sending: Sending,
    /// How long each turn of the goodput's sent.
    pub duration: Duration,
    /// Outcomes in the order of the plan.
    #[serde(flatten)]
    pub parts: Parts,
    /// A signal ended it early.
    pub interrupted: bool,
}

impl Recovery {
    /// A comparison with these outcomes.
    pub fn new(sending: Sending, duration: Duration, parts: Parts, interrupted: bool) -> Recovery {
        Recovery { schema: "ringwire.recovery/1", sending, duration, parts, interrupted }
    }

    /// Whether every turn gave a figure.
    pub fn is_valid(&self) -> bool {
        let Parts { paths, short_flows, sharing } = &self.parts;
        paths.iter().all(|outcome| outcome.failures.is_empty() && !outcome.rounds.is_empty())
            && short_flows.iter().all(FlowsOutcome::is_valid)
            && sharing.iter().all(SharingOutcome::is_valid)
    }
}

/// A goal: not slower than this share of the kernel's goodput.
const GOAL: f64 = 0.95;

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sending { congestion_control, pacing } = self.sending;
        writeln!(
            f,
            "one sender to a kernel receiver, interleaved; {congestion_control}, pacing {pacing}, against the kernel's cubic"
        )?;
        let Parts { paths, short_flows, sharing } = &self.parts;
        if !paths.is_empty() {
            self.write_goodput(f)?;
        }
        if !short_flows.is_empty() {
            short_flows::write_table(f, short_flows)?;
        }
        if !sharing.is_empty() {
            sharing::write_table(f, sharing)?;
        }
        let verdict = if self.is_valid() { "VALID" } else { "NOT VALID: a turn gave no figure" };
        writeln!(f, "{verdict}")
    }
}

impl Recovery {
    fn write_goodput(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\ngoodput, {:?} a turn", self.duration)?;
        writeln!(f, "{:<24} {:>14} {:>14}   ratio: median [quartiles]", "path", STACKS[0], STACKS[1])?;
        for outcome in &self.parts.paths {
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUBIC: Sending = Sending { congestion_control: "cubic", pacing: "auto" };

    #[test]
    fn the_table_names_the_path_and_marks_what_misses_the_goal() {
        let path = Path::all()[0];
        let outcome = |ours: f64| PathOutcome { path, rounds: vec![[ours, 50e6]; 3], failures: Vec::new() };
        let duration = Duration::from_secs(5);
        let table =
            |paths| Recovery::new(CUBIC, duration, Parts { paths, ..Parts::default() }, false).to_string();
        let both = table(vec![outcome(50e6), outcome(40e6)]);
        assert!(both.contains("100M/20ms/0.1%"), "{both}");
        assert!(
            both.contains("1.00 [1.00..1.00]\n") && both.contains("0.80 [0.80..0.80]  below 0.95"),
            "{both}"
        );
        assert!(both.ends_with("VALID\n") && !both.contains("NOT VALID"), "{both}");
        let mut failed = outcome(1e6);
        failed.failures.push("the receiver heard nothing".to_owned());
        assert!(table(vec![failed]).contains("NOT VALID"));
    }

    #[test]
    fn every_part_can_spoil_the_whole_and_says_why() {
        let flows = FlowsOutcome::new(short_flows::FlowPlan::all()[0], Vec::new(), vec!["no SYN".to_owned()]);
        let sharing = SharingOutcome {
            path: sharing::paths()[0],
            rounds: Vec::new(),
            failures: vec!["no queue".to_owned()],
        };
        for parts in [
            Parts { short_flows: vec![flows], ..Parts::default() },
            Parts { sharing: vec![sharing], ..Parts::default() },
        ] {
            let table = Recovery::new(CUBIC, Duration::from_secs(5), parts, false).to_string();
            assert!(table.contains("NOT VALID") && table.contains("    no "), "{table}");
        }
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
