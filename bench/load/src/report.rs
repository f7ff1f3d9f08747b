//! The result of a run: the JSON of schema `ringwire.load/1` and the lines on the terminal.
//!
//! Times are nanoseconds and lengths bytes, both integers. What was not measured is absent, never zero.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::cpu::CoreUse;
use crate::meter::{Ended, Fault, Measured};
use crate::scenario::Scenario;

/// Name and major version of the JSON's shape; within it, fields are only added.
pub const SCHEMA: &str = "ringwire.load/1";

/// A whole result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub schema: String,
    /// Whether the figures mean anything; `invalid_reasons` says why not.
    pub valid: bool,
    pub invalid_reasons: Vec<String>,
    pub interrupted: bool,
    pub command: Vec<String>,
    /// Nanoseconds since the Unix epoch.
    pub started_at: u64,
    pub scenario: String,
    pub target: String,
    pub stack: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    pub load: Load,
    pub latency: Latency,
    /// Time between two turns of the generator: a long one is a stall of its own, not the server's.
    pub loop_gap: Latency,
    pub throughput: Throughput,
    pub errors: Errors,
    /// Answers to requests that had timed out.
    pub late_answers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drops: Option<Drops>,
    pub cpu: Cpu,
    pub system: System,
    pub intervals: Vec<Interval>,
}

/// How the generator's engine sits on its interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// native or generic.
    pub attach: String,
    /// zero-copy or copy.
    pub bind: String,
    pub poll: String,
    pub queues: usize,
    pub workers: usize,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mode { attach, bind, poll, queues, workers } = self;
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (queues_end, workers_end) = (plural(*queues), plural(*workers));
        write!(f, "{attach} {bind}, {queues} queue{queues_end}, {workers} worker{workers_end}, {poll}")
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    #[serde(rename = "loop")]
    pub kind: String,
    pub rate_achieved: f64,
    pub connections: usize,
    pub size_bytes: usize,
    pub requests: u64,
    pub duration_ns: u64,
    pub warmup_ns: u64,
    pub timeout_ns: u64,
}

/// A distribution, in nanoseconds, from an HDR histogram of 3 digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub p99_99: u64,
    pub max: u64,
    pub mean: f64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Latency {
            count: histogram.len(),
            min: histogram.min(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max(),
            mean: histogram.mean(),
        }
    }
}

/// Rates over the window. Bits are those of requests and answers, without headers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    pub requests_per_s: f64,
    pub bits_per_s_tx: f64,
    pub bits_per_s_rx: f64,
}

/// Requests that got no answer, or not theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    pub refused: u64,
    pub timeout: u64,
    pub reset: u64,
    pub short: u64,
    pub corrupt: u64,
}

impl Errors {
    pub(crate) fn count(&mut self, fault: Fault) {
        let counter = match fault {
            Fault::Refused => &mut self.refused,
            Fault::Timeout => &mut self.timeout,
            Fault::Reset => &mut self.reset,
            Fault::Short => &mut self.short,
            Fault::Corrupt => &mut self.corrupt,
        };
        *counter += 1;
    }

    pub fn total(&self) -> u64 {
        let Errors { refused, timeout, reset, short, corrupt } = *self;
        refused + timeout + reset + short + corrupt
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Errors { refused, timeout, reset, short, corrupt } = self;
        write!(f, "refused {refused}  timeout {timeout}  reset {reset}  short {short}  corrupt {corrupt}")
    }
}

/// Packets that ended nowhere, by reason, since the generator's engine started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    pub engine: BTreeMap<String, u64>,
}

/// Shares of whole cores over the window, softirq work included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// The generator's core, if it was pinned to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<CoreUse>,
    /// Every core of this machine.
    pub cores: Vec<CoreUse>,
}

/// Where it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    pub kernel: String,
    pub cpu: String,
    pub ringwire: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub version: String,
}

/// One interval of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Its end, from the start of the window.
    pub t_ns: u64,
    pub length_ns: u64,
    pub requests: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
    pub errors: u64,
}

/// What the caller knows about a run and the loop does not.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub command: Vec<String>,
    pub stack: String,
    pub mode: Option<Mode>,
    pub drops: Option<Drops>,
    /// The core the generator is pinned to.
    pub pinned_cpu: Option<usize>,
    /// Nanoseconds since the Unix epoch.
    pub started_at: u64,
}

impl Report {
    /// Puts together what was measured and what is known.
    pub fn new(scenario: &Scenario, measured: Measured, origin: Origin) -> Report {
        let seconds = measured.duration_ns as f64 / 1e9;
        let per_second = if seconds > 0.0 { measured.requests as f64 / seconds } else { 0.0 };
        let bits_per_second = per_second * scenario.size_bytes as f64 * 8.0;
        let client = measured.cores.iter().find(|core| Some(core.cpu) == origin.pinned_cpu).copied();
        let invalid_reasons = invalid_reasons(&measured);
        Report {
            schema: SCHEMA.to_owned(),
            valid: invalid_reasons.is_empty(),
            invalid_reasons,
            interrupted: measured.ended == Ended::Interrupted,
            command: origin.command,
            started_at: origin.started_at,
            scenario: scenario.work.name().to_owned(),
            target: scenario.target.to_string(),
            stack: origin.stack,
            mode: origin.mode,
            load: Load {
                kind: "closed".to_owned(),
                rate_achieved: per_second,
                connections: scenario.in_flight,
                size_bytes: scenario.size_bytes,
                requests: measured.requests,
                duration_ns: measured.duration_ns,
                warmup_ns: scenario.warmup.as_nanos() as u64,
                timeout_ns: scenario.timeout.as_nanos() as u64,
            },
            latency: measured.latency,
            loop_gap: measured.loop_gap,
            throughput: Throughput {
                requests_per_s: per_second,
                bits_per_s_tx: bits_per_second,
                bits_per_s_rx: bits_per_second,
            },
            errors: measured.errors,
            late_answers: measured.late_answers,
            drops: origin.drops,
            cpu: Cpu { client, cores: measured.cores },
            system: System::read(),
            intervals: measured.intervals,
        }
    }

    /// The lines for a terminal: what ran, the table, the verdict.
    pub fn to_text(&self) -> String {
        let mut text = self.header_line();
        let _ = writeln!(
            text,
            "{:<10}{:>10}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}   cpu user/system/softirq",
            "", "rate/s", "p50", "p90", "p99", "p99.9", "p99.99", "max", "errors"
        );
        let Latency { p50, p90, p99, p99_9, p99_99, max, .. } = self.latency;
        let _ = write!(text, "{:<10}{:>10}", "latency", group_digits(self.throughput.requests_per_s));
        for value_ns in [p50, p90, p99, p99_9, p99_99, max] {
            let _ = write!(text, "{:>9}", format_ns(value_ns));
        }
        let _ = write!(text, "{:>9}   ", self.errors.total());
        for core in &self.cpu.cores {
            let own = if self.cpu.client.is_some_and(|client| client.cpu == core.cpu) { " own" } else { "" };
            let CoreUse { cpu, user, system, softirq, .. } = core;
            let _ = write!(text, "cpu{cpu}{own} {user:.2}/{system:.2}/{softirq:.2}  ");
        }
        let _ = writeln!(
            text,
            "\n{:<10}generator loop gap p50 {} p99.9 {} max {}",
            "",
            format_ns(self.loop_gap.p50),
            format_ns(self.loop_gap.p99_9),
            format_ns(self.loop_gap.max)
        );
        for (reason, count) in self.drops.iter().flat_map(|drops| &drops.engine) {
            let _ = writeln!(text, "{:<10}{reason} {count}", "dropped");
        }
        if self.errors.total() > 0 || self.late_answers > 0 {
            let _ = writeln!(text, "{:<10}{}  late answers {}", "errors", self.errors, self.late_answers);
        }
        let verdict = match self.valid {
            true => "VALID".to_owned(),
            false => format!("NOT VALID: {}", self.invalid_reasons.join("; ")),
        };
        let interrupted = if self.interrupted { "   interrupted: partial" } else { "" };
        let _ = writeln!(text, "{verdict}{interrupted}   replay: {}", self.command.join(" "));
        text
    }

    fn header_line(&self) -> String {
        let mode = self.mode.as_ref().map_or(String::new(), |mode| format!("  {mode}"));
        format!(
            "{} {}  {} in flight  {} bytes  closed loop  {} (+{} warm-up)  {}{mode}\n",
            self.scenario,
            self.target,
            self.load.connections,
            self.load.size_bytes,
            format_ns(self.load.duration_ns),
            format_ns(self.load.warmup_ns),
            self.stack,
        )
    }
}

fn invalid_reasons(measured: &Measured) -> Vec<String> {
    let Errors { short, corrupt, .. } = measured.errors;
    let mut reasons = Vec::new();
    if measured.requests == 0 {
        reasons.push("no request was answered in the measured time".to_owned());
    }
    if short + corrupt > 0 {
        reasons.push(format!("{} answers were not the request", short + corrupt));
    }
    reasons
}

impl System {
    fn read() -> System {
        let uname = rustix::system::uname();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        System {
            kernel: uname.release().to_string_lossy().into_owned(),
            cpu: model.map_or("unknown", |(_, name)| name).to_owned(),
            ringwire: Version { version: env!("CARGO_PKG_VERSION").to_owned() },
        }
    }
}

/// `850ns`, `8.1us`, `4.2ms`, `10s`: two digits behind the point at most, units as people write them.
pub fn format_ns(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if value >= 100.0 { 0 } else { 1 };
    let number = format!("{value:.digits$}");
    format!("{}{unit}", number.strip_suffix(".0").unwrap_or(&number))
}

/// `499998.2` as `499,998`.
pub fn group_digits(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Work;

    fn measured() -> Measured {
        Measured {
            ended: Ended::Complete,
            duration_ns: 2_000_000_000,
            requests: 1000,
            latency: Latency { count: 1000, p50: 8_100, ..Latency::default() },
            loop_gap: Latency::default(),
            errors: Errors::default(),
            late_answers: 0,
            cores: Vec::new(),
            intervals: Vec::new(),
        }
    }

    fn report(measured: Measured) -> Report {
        let scenario = Scenario::new(Work::TcpRr, ([10, 0, 0, 1], 9000).into());
        let origin = Origin { stack: "kernel".to_owned(), ..Origin::default() };
        Report::new(&scenario, measured, origin)
    }

    #[test]
    fn rates_come_from_the_window() {
        let report = report(measured());
        assert_eq!(report.throughput.requests_per_s, 500.0);
        assert_eq!(report.throughput.bits_per_s_tx, 500.0 * 64.0 * 8.0);
        assert!(report.valid);
        assert!(report.to_text().contains("8.1us"));
    }

    #[test]
    fn wrong_answers_and_no_answers_are_not_valid() {
        let errors = Errors { corrupt: 1, ..Errors::default() };
        assert!(!report(Measured { errors, ..measured() }).valid);
        assert!(!report(Measured { requests: 0, ..measured() }).valid);
        let errors = Errors { timeout: 3, ..Errors::default() };
        assert!(report(Measured { errors, ..measured() }).valid);
    }

    #[test]
    fn json_reads_back_and_leaves_out_what_is_not_known() {
        let report = report(measured());
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["schema"], SCHEMA);
        assert_eq!(value["load"]["loop"], "closed");
        assert!(value.get("mode").is_none() && value["cpu"].get("client").is_none());
    }

    #[test]
    fn numbers_as_people_write_them() {
        let written: Vec<_> = [7, 8_100, 41_000, 312_000, 4_200_000, 10_000_000_000].map(format_ns).into();
        assert_eq!(written, ["7ns", "8.1us", "41us", "312us", "4.2ms", "10s"]);
        assert_eq!([0.4, 999.0, 1000.0, 499_998.2].map(group_digits), ["0", "999", "1,000", "499,998"]);
    }
}
