//! Interleaved comparison: A B C A B C, in one run, on the same two cores.
//!
//! Two runs of one binary on a shared machine differ more than two stacks do, so only rounds that were
//! measured next to each other are compared: each round gives one ratio, and the ratios' median and
//! quartiles are the result. A contender is started for its turn and stopped after it, since an idle
//! spinning server would take the core from the next one.

mod outcome;
mod table;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::report::Report;
use crate::scenario::Work;

pub use outcome::{Cell, Comparison, CoreCost, Ratio, Round, RowOutcome};

/// One row of the table: a kind of work at one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    #[serde(serialize_with = "serialize_work")]
    pub work: Work,
    pub in_flight: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.work, self.in_flight)
    }
}

fn serialize_work<S: serde::Serializer>(work: &Work, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(work.name())
}

/// What is measured, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub rows: Vec<Row>,
    pub rounds: usize,
    pub duration: Duration,
    pub warmup: Duration,
    pub size_bytes: usize,
    /// Contenders, by name, that ratios are taken to; the first one also gives the verdict.
    pub references: Vec<String>,
    /// The servers' core and the generator's.
    pub server_cpu: usize,
    pub client_cpu: usize,
}

impl Plan {
    /// The rows of the demonstration: one and 64 in flight, and connections one and 64 at a time.
    pub fn rows_of_demo() -> Vec<Row> {
        let row = |work, in_flight| Row { work, in_flight };
        vec![
            row(Work::UdpRr, 1),
            row(Work::UdpRr, 64),
            row(Work::TcpRr, 1),
            row(Work::TcpRr, 64),
            row(Work::TcpCrr, 1),
        ]
    }
}

/// A server that takes turns with others.
pub trait Contender {
    /// Its column's name, unique in a comparison.
    fn name(&self) -> &str;
    /// Whether it can do that work at all.
    fn serves(&self, work: Work) -> bool;
    /// Starts it; it answers when this returns, and has stopped when the result is dropped.
    fn start(&mut self, row: &Row) -> Result<Box<dyn Running>, String>;
}

/// A started contender; stops when dropped.
pub trait Running {
    /// Where it answers.
    fn target(&self) -> SocketAddr;
}

/// Puts the load on whoever is running; the same for all contenders.
pub trait Generator {
    /// Measures one turn.
    fn measure(&mut self, target: SocketAddr, row: &Row, plan: &Plan) -> Result<Report, String>;
}

/// One turn that is about to begin.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    pub row: &'a Row,
    /// From 0.
    pub round: usize,
    pub contender: &'a str,
    /// From 0; out of `steps`.
    pub step: usize,
    pub steps: usize,
}

/// Runs the whole plan, one row after the other, the contenders in turn within each round. When `stop` is
/// set it returns what there is.
pub fn run(
    plan: &Plan,
    contenders: &mut [Box<dyn Contender>],
    generator: &mut dyn Generator,
    stop: &AtomicBool,
    mut on_step: impl FnMut(Step<'_>),
) -> Comparison {
    let serving = |row: &Row, all: &[Box<dyn Contender>]| all.iter().filter(|c| c.serves(row.work)).count();
    let steps = plan.rows.iter().map(|row| serving(row, contenders) * plan.rounds).sum();
    let mut step = 0;
    let mut rows = Vec::new();
    for row in &plan.rows {
        let mut cells: Vec<(String, Vec<Result<Round, String>>)> = contenders
            .iter()
            .filter(|contender| contender.serves(row.work))
            .map(|contender| (contender.name().to_owned(), Vec::new()))
            .collect();
        for round in 0..plan.rounds {
            let turns = contenders.iter_mut().filter(|contender| contender.serves(row.work));
            for (contender, (name, results)) in turns.zip(&mut cells) {
                // Relaxed: nothing else is published with the flag.
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                on_step(Step { row, round, contender: name, step, steps });
                results.push(turn(contender.as_mut(), generator, row, plan));
                step += 1;
            }
        }
        rows.push(RowOutcome::new(*row, cells, &plan.references));
    }
    Comparison::new(plan, rows, stop.load(Ordering::Relaxed))
}

fn turn(
    contender: &mut dyn Contender,
    generator: &mut dyn Generator,
    row: &Row,
    plan: &Plan,
) -> Result<Round, String> {
    let running = contender.start(row)?;
    let report = generator.measure(running.target(), row, plan);
    drop(running);
    Ok(Round::of(&report?, plan))
}

#[cfg(test)]
mod tests;
