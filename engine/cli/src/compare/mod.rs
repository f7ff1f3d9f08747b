//! `ringwire compare`: contenders and generator as processes of their own in a lab of this command's own.

mod contenders;
mod recovery;
mod testpmd;

use std::time::Duration;

use ringwire_lab::{Lab, LabError, Link, Node, Offloads};
use ringwire_load::compare::{Plan, Row, Step};
use ringwire_load::{Scenario, Work};

use crate::args::{CompareArgs, Extent};
use crate::load::write_result;
use crate::refusal::{Exit, Refusal};
use crate::{cpu, signals};

use contenders::{LabGenerator, REFERENCES, contenders};

/// Two hosts and a cable, on one machine.
pub(crate) struct Bench {
    server: Node,
    client: Node,
    link: Link,
    // Last: it ends what runs in the nodes.
    _lab: Lab,
}

pub(crate) fn run(args: &CompareArgs, quiet: bool) -> Result<Exit, Refusal> {
    if args.extent == Extent::Recovery {
        return recovery::run(args, quiet);
    }
    if !args.paths.is_empty() || !args.parts.is_empty() || args.flows.is_some() || args.pacing.is_some() {
        let what = "--path, --part, --flows and --pacing are for `compare recovery`";
        return Err(Refusal::new(Exit::Usage, what, "ringwire compare recovery --part short-flows"));
    }
    let plan = plan_of(args)?;
    let stop = signals::stop_flag()?;
    let bench = Bench::new().map_err(|error| Refusal::new(Exit::Refused, error, ""))?;
    let mut contenders = contenders(args, &bench, &plan)?;
    let mut generator = LabGenerator::new(&bench)?;
    let comparison = ringwire_load::compare::run(&plan, &mut contenders, &mut generator, &stop, |step| {
        show(step, &plan, quiet)
    });
    write_result(&comparison, &comparison.to_string(), &args.output)?;
    Ok(match (comparison.interrupted, comparison.valid) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Ok,
        (false, false) => Exit::NotValid,
    })
}

impl Bench {
    fn new() -> Result<Bench, LabError> {
        let lab = Lab::new()?;
        let (server, client) = (lab.node("server")?, lab.node("client")?);
        let link = lab.link(&server, &client).direct().queues(1).offloads(Offloads::Off).up()?;
        Ok(Bench { server, client, link, _lab: lab })
    }
}

fn plan_of(args: &CompareArgs) -> Result<Plan, Refusal> {
    let (rounds, duration) = match args.extent {
        Extent::Quick => (3, Duration::from_secs(2)),
        Extent::Full | Extent::Recovery => (9, Duration::from_secs(3)),
    };
    let cores = match &args.cpus {
        Some(cpus) => cpus.0.iter().map(|cpu| *cpu as usize).collect(),
        None => cpu::allowed(),
    };
    let [server_cpu, client_cpu, ..] = cores[..] else {
        let what = "the servers and the generator need a core each, and there is one";
        return Err(Refusal::new(Exit::Refused, what, "--cpus 0,1 on a machine with two cores"));
    };
    let rows = rows_of(args);
    for row in &rows {
        let target = ([127, 0, 0, 1], 1).into();
        let scenario =
            Scenario { in_flight: row.in_flight, size_bytes: args.size, ..Scenario::new(row.work, target) };
        scenario
            .check()
            .map_err(|error| Refusal::new(Exit::Usage, error, "see `ringwire compare --help`"))?;
    }
    let rounds = args.rounds.unwrap_or(rounds);
    let duration = args.duration.unwrap_or(duration);
    if rounds == 0 || duration.is_zero() {
        return Err(Refusal::new(Exit::Usage, "a comparison of no rounds or no time", "--rounds 3 -d 2s"));
    }
    Ok(Plan {
        rows,
        rounds,
        duration,
        warmup: Duration::from_millis(300).min(duration),
        size_bytes: args.size,
        references: REFERENCES.map(str::to_owned).into(),
        server_cpu,
        client_cpu,
    })
}

fn rows_of(args: &CompareArgs) -> Vec<Row> {
    let wanted = |work: &Work| args.works.is_empty() || args.works.contains(work);
    if args.connections.is_empty() {
        return Plan::rows_of_demo().into_iter().filter(|row| wanted(&row.work)).collect();
    }
    let works = Work::ALL.into_iter().filter(wanted);
    works.flat_map(|work| args.connections.iter().map(move |count| Row { work, in_flight: *count })).collect()
}

fn show(step: Step<'_>, plan: &Plan, quiet: bool) {
    if !quiet {
        let Step { row, round, contender, step, steps } = step;
        eprintln!("{:>4}/{steps}  {row}  round {} of {}  {contender}", step + 1, round + 1, plan.rounds);
    }
}
