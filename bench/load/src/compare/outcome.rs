//! What the rounds of a comparison add up to.

use serde::Serialize;

use crate::cpu::CoreUse;
use crate::report::Report;
use crate::stats::{Spread, Verdict};

use super::{Plan, Row};

/// Name and major version of the JSON's shape.
const SCHEMA: &str = "ringwire.compare/1";

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub schema: &'static str,
    /// Whether every turn of every contender was run and valid.
    pub valid: bool,
    pub interrupted: bool,
    pub rounds: usize,
    pub duration_ns: u64,
    pub size_bytes: usize,
    pub server_cpu: usize,
    pub client_cpu: usize,
    pub rows: Vec<RowOutcome>,
}

/// One row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct RowOutcome {
    #[serde(flatten)]
    pub row: Row,
    pub contenders: Vec<Cell>,
}

/// One contender at one row.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub name: String,
    /// One entry a round, also for the failed ones.
    pub rounds: Vec<Option<Round>>,
    /// Why rounds failed or do not count.
    pub faults: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cost: Option<CoreCost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cost: Option<CoreCost>,
    pub ratios: Vec<Ratio>,
}

/// One contender's rate over another's, round by round.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    pub to: String,
    pub rate: Spread,
    /// Below 1 is better.
    pub p99: Spread,
    pub verdict: Verdict,
}

/// What one turn measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Round {
    pub rate: f64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
    pub errors: u64,
    pub invalid_reasons: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<CoreUse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<CoreUse>,
}

/// Microseconds of a core for one request; medians over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CoreCost {
    /// Everything, softirq included.
    pub busy_us: f64,
    pub softirq_us: f64,
}

impl Round {
    pub(super) fn of(report: &Report, plan: &Plan) -> Round {
        let core = |cpu| report.cpu.cores.iter().find(|core| core.cpu == cpu).copied();
        Round {
            rate: report.throughput.requests_per_s,
            p50_ns: report.latency.p50,
            p99_ns: report.latency.p99,
            max_ns: report.latency.max,
            errors: report.errors.total(),
            invalid_reasons: report.invalid_reasons.clone(),
            server: core(plan.server_cpu),
            client: core(plan.client_cpu),
        }
    }
}

impl Comparison {
    pub(super) fn new(plan: &Plan, rows: Vec<RowOutcome>, interrupted: bool) -> Comparison {
        let whole = |cell: &Cell| cell.faults.is_empty() && cell.rounds.len() == plan.rounds;
        Comparison {
            schema: SCHEMA,
            valid: rows.iter().flat_map(|row| &row.contenders).all(whole),
            interrupted,
            rounds: plan.rounds,
            duration_ns: plan.duration.as_nanos() as u64,
            size_bytes: plan.size_bytes,
            server_cpu: plan.server_cpu,
            client_cpu: plan.client_cpu,
            rows,
        }
    }

    /// The ratio of `contender` to `reference` at a row, if both were measured there.
    pub fn ratio(&self, row: &Row, contender: &str, reference: &str) -> Option<&Ratio> {
        let row = self.rows.iter().find(|outcome| outcome.row == *row)?;
        row.contenders.iter().find(|cell| cell.name == contender)?.ratio(reference)
    }
}

impl RowOutcome {
    pub(super) fn new(
        row: Row,
        results: Vec<(String, Vec<Result<Round, String>>)>,
        references: &[String],
    ) -> RowOutcome {
        let mut contenders: Vec<Cell> =
            results.into_iter().map(|(name, rounds)| Cell::new(name, rounds)).collect();
        let ratios: Vec<Vec<Ratio>> =
            contenders.iter().map(|cell| ratios_of(cell, &contenders, references)).collect();
        for (cell, ratios) in contenders.iter_mut().zip(ratios) {
            cell.ratios = ratios;
        }
        RowOutcome { row, contenders }
    }
}

impl Cell {
    /// The ratio to another contender of the same row.
    pub fn ratio(&self, reference: &str) -> Option<&Ratio> {
        self.ratios.iter().find(|ratio| ratio.to == reference)
    }

    fn new(name: String, results: Vec<Result<Round, String>>) -> Cell {
        let mut faults = Vec::new();
        let mut rounds = Vec::new();
        for result in results {
            match result {
                Ok(round) => {
                    faults.extend(round.invalid_reasons.iter().cloned());
                    rounds.push(Some(round));
                }
                Err(fault) => {
                    faults.push(fault);
                    rounds.push(None);
                }
            }
        }
        faults.sort();
        faults.dedup();
        let over = |read: fn(&Round) -> f64| Spread::of(rounds.iter().flatten().map(read));
        Cell {
            rate: over(|round| round.rate),
            p50_ns: over(|round| round.p50_ns as f64),
            p99_ns: over(|round| round.p99_ns as f64),
            server_cost: CoreCost::of(&rounds, |round| round.server),
            client_cost: CoreCost::of(&rounds, |round| round.client),
            ratios: Vec::new(),
            name,
            rounds,
            faults,
        }
    }
}

impl CoreCost {
    fn of(rounds: &[Option<Round>], core: fn(&Round) -> Option<CoreUse>) -> Option<CoreCost> {
        let per_request = |read: fn(&CoreUse) -> f64| {
            let answered = rounds.iter().flatten().filter(|round| round.rate > 0.0);
            let costs = answered.filter_map(|round| Some(read(&core(round)?) * 1e6 / round.rate));
            Some(Spread::of(costs)?.median)
        };
        Some(CoreCost {
            busy_us: per_request(|core| core.busy_ratio)?,
            softirq_us: per_request(|core| core.softirq)?,
        })
    }
}

/// To every reference but itself; a reference that was not measured gives none.
fn ratios_of(cell: &Cell, all: &[Cell], references: &[String]) -> Vec<Ratio> {
    let references = references.iter().filter(|name| **name != cell.name);
    references.filter_map(|name| Ratio::of(cell, all.iter().find(|other| other.name == *name)?)).collect()
}

impl Ratio {
    fn of(cell: &Cell, reference: &Cell) -> Option<Ratio> {
        // Only rounds that both ran, and in which the reference did something.
        let pairs: Vec<(&Round, &Round)> = cell
            .rounds
            .iter()
            .zip(&reference.rounds)
            .filter_map(|(own, other)| Some((own.as_ref()?, other.as_ref()?)))
            .filter(|(_, other)| other.rate > 0.0 && other.p99_ns > 0)
            .collect();
        let rate = Spread::of(pairs.iter().map(|(own, other)| own.rate / other.rate))?;
        let p99 = Spread::of(pairs.iter().map(|(own, other)| own.p99_ns as f64 / other.p99_ns as f64))?;
        Some(Ratio { to: reference.name.clone(), verdict: Verdict::of_ratios(&rate), rate, p99 })
    }
}
