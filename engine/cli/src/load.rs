//! `ringwire load`.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ringwire::Settings;
use ringwire_load::report::{Drops, Interval, format_ns, group_digits};
use ringwire_load::{Ended, LoadError, Measured, Origin, Report, Scenario, Waiting, Watch, drive};

use crate::args::{EngineArgs, LoadArgs, OutputArgs, PollMode, Stack};
use crate::engine::{self, Wish};
use crate::refusal::{Exit, Refusal};
use crate::{cpu, signals};

/// With -n and without -d: time enough for any count that somebody waits for.
const COUNTED_DURATION: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn run(args: &LoadArgs, settings: &Settings, quiet: bool) -> Result<Exit, Refusal> {
    let scenario = scenario_of(args)?;
    let stop = signals::stop_flag()?;
    let mut progress = Progress::new(quiet);
    let watch = Watch { stop: &stop, on_interval: &mut |interval| progress.show(interval) };
    let mut origin = Origin {
        command: std::env::args().collect(),
        pinned_cpu: pinned_cpu(&args.engine, settings)?,
        started_at: since_epoch_ns(),
        ..Origin::default()
    };
    let measured = match args.stack {
        Stack::Kernel => run_kernel(args, &scenario, watch, &mut origin),
        Stack::Ringwire => run_ringwire((args, settings), &scenario, watch, &mut origin)?,
    };
    progress.end();
    let measured = measured.map_err(|error| failed(&error, args))?;
    let ended = measured.ended;
    let report = Report::new(&scenario, measured, origin);
    print(&report, &args.output)?;
    Ok(match (ended, report.valid) {
        (Ended::Interrupted, _) => Exit::Interrupted,
        (Ended::Complete, true) => Exit::Ok,
        (Ended::Complete, false) if report.load.requests == 0 => Exit::Failed,
        (Ended::Complete, false) => Exit::NotValid,
    })
}

fn scenario_of(args: &LoadArgs) -> Result<Scenario, Refusal> {
    let default = Scenario::new(args.work, args.target);
    let duration = match (args.duration, args.requests) {
        (Some(duration), _) => duration,
        (None, Some(_)) => COUNTED_DURATION,
        (None, None) => default.duration,
    };
    let scenario = Scenario {
        in_flight: args.connections,
        size_bytes: args.size,
        duration,
        requests: args.requests,
        warmup: args.warmup.unwrap_or(Scenario::auto_warmup(duration)),
        timeout: args.timeout.unwrap_or(default.timeout),
        interval: args.interval,
        ..default
    };
    scenario.check().map_err(|error| Refusal::new(Exit::Usage, error, "see `ringwire load --help`"))?;
    Ok(scenario)
}

fn run_kernel(
    args: &LoadArgs,
    scenario: &Scenario,
    watch: Watch<'_>,
    origin: &mut Origin,
) -> Result<Measured, LoadError> {
    let waiting = waiting(args.engine.poll_mode.unwrap_or(PollMode::Busy));
    origin.stack = match waiting {
        Waiting::Busy => "kernel sockets, busy",
        Waiting::Interrupt => "kernel sockets",
    }
    .to_owned();
    drive::kernel::run(scenario, waiting, watch)
}

fn run_ringwire(
    (args, settings): (&LoadArgs, &Settings),
    scenario: &Scenario,
    watch: Watch<'_>,
    origin: &mut Origin,
) -> Result<Result<Measured, LoadError>, Refusal> {
    let SocketAddr::V4(target) = scenario.target else {
        return Err(Refusal::new(Exit::Usage, "the target is not an IPv4 address", "only IPv4 so far"));
    };
    if let Some(workers @ 2..) = settings.workers {
        let what = format!("the configuration asks for {workers} workers, and load drives one");
        return Err(Refusal::new(Exit::Usage, what, "a configuration of its own, without workers"));
    }
    let wish = Wish { settings, towards: *target.ip(), poll_mode: PollMode::Busy, workers: Some(1) };
    let waiting = waiting(engine::poll_mode(&args.engine, &wish));
    let started = engine::start(&args.engine, &wish)?;
    origin.stack = format!("ringwire on {}", started.interface);
    origin.mode = Some(started.mode);
    let handle = started.engine.handle();
    let mut seeds = started.engine.into_workers();
    let Some(seed) = seeds.pop() else {
        return Err(Refusal::new(Exit::Failed, "the engine has no worker", "report this"));
    };
    let measured = drive::ringwire::run(scenario, seed.start(), &handle.tcp_options(), waiting, watch);
    let drops = handle.metrics().drops;
    let engine = drops.into_iter().map(|(reason, count)| (reason.name().to_owned(), count)).collect();
    origin.drops = Some(Drops { engine });
    Ok(measured)
}

fn waiting(poll_mode: PollMode) -> Waiting {
    match poll_mode {
        PollMode::Busy => Waiting::Busy,
        PollMode::Adaptive => Waiting::Interrupt,
    }
}

/// Pins this thread, which drives the load, to the first of --cpus, or of the configuration's.
fn pinned_cpu(options: &EngineArgs, settings: &Settings) -> Result<Option<usize>, Refusal> {
    let named = options.cpus.as_ref().and_then(|cpus| cpus.0.first()).map(|cpu| *cpu as usize);
    let of_the_file = settings.cpus.as_ref().and_then(|cpus| cpus.first().copied());
    let Some(first) = named.or(of_the_file) else { return Ok(None) };
    cpu::pin(first)?;
    Ok(Some(first))
}

fn failed(error: &LoadError, args: &LoadArgs) -> Refusal {
    let LoadArgs { work, target, .. } = args;
    let hint = match error {
        LoadError::Unanswered { .. } => {
            format!("start the other end: ringwire serve -p {} echo", target.port())
        }
        LoadError::TooLarge { .. } => "a smaller --size, or a larger MTU on the interface".to_owned(),
        _ => "ringwire doctor".to_owned(),
    };
    Refusal::new(Exit::Failed, format_args!("{work} {target}: {error}"), hint)
}

/// JSON to stdout replaces the text, JSON to a file goes beside it.
fn print(report: &Report, output: &OutputArgs) -> Result<(), Refusal> {
    let text = report.to_text();
    write_result(report, &text, output)
}

/// What `load` and `compare` do with a result.
pub(crate) fn write_result(
    result: &impl serde::Serialize,
    text: &str,
    output: &OutputArgs,
) -> Result<(), Refusal> {
    let json = || serde_json::to_string(result).map_err(|error| unwritten(&error.into()));
    match output.json.as_deref() {
        Some("-") => say(&json()?),
        Some(path) => {
            std::fs::write(path, json()? + "\n").map_err(|error| unwritten(&error))?;
            say(text)
        }
        None => say(text),
    }
}

/// A line or more to stdout, whose reader may have left.
pub(crate) fn say(text: &str) -> Result<(), Refusal> {
    writeln!(std::io::stdout(), "{}", text.trim_end()).map_err(|error| unwritten(&error))
}

fn unwritten(error: &std::io::Error) -> Refusal {
    Refusal::new(
        Exit::Failed,
        format_args!("cannot write the result: {error}"),
        "look at the path and the disk",
    )
}

fn since_epoch_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// A line that renews itself on a terminal, and a line an interval elsewhere.
struct Progress {
    is_quiet: bool,
    is_terminal: bool,
}

impl Progress {
    fn new(is_quiet: bool) -> Progress {
        Progress { is_quiet, is_terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, interval: &Interval) {
        if self.is_quiet {
            return;
        }
        let rate = interval.requests as f64 * 1e9 / interval.length_ns.max(1) as f64;
        let line = format!(
            "{:>6}  {:>10}/s  p50 {:>7}  p99 {:>7}  max {:>7}  errors {}",
            format_ns(interval.t_ns),
            group_digits(rate),
            format_ns(interval.p50),
            format_ns(interval.p99),
            format_ns(interval.max),
            interval.errors
        );
        let mut stderr = std::io::stderr();
        // Progress that nobody can see is not worth an error.
        let _ = if self.is_terminal { write!(stderr, "\r{line}\x1b[K") } else { writeln!(stderr, "{line}") };
    }

    fn end(&mut self) {
        if !self.is_quiet && self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
