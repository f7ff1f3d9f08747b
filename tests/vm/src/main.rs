//! The tests that run inside the virtual machine, each in a process of its own; started by `run.sh`.
//!
//! ```text
//!   the guest's own namespace                      node "peer" of the lab
//!   engine or `ringwire`  --  eth0 ==== eth1  --  the kernel's sockets, or another engine
//!        virtio-net, zero-copy                         10.88.0.2
//! ```
//! `ringwire-vm [--recorded] [NAME]..` runs those whose name contains one of the words, or all, and fails when one failed; with the
//! flag it runs the tests whose packets the emulator has to record, without it the others. On the host, `ringwire-vm --list ..` says
//! which these are, and `ringwire-vm --check RECORD OUTPUT` compares the record with what the tests said of it.

mod cases;
mod napi;
mod nic;
mod scene;
mod wire;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ringwire_netns::within;

/// A test: its name, how long it may take, and what it does.
struct Case {
    name: &'static str,
    limit: Duration,
    cable: Cable,
    test: fn(),
}

/// Whether a test needs the emulator's record of the cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cable {
    Unwatched,
    Recorded,
}

/// In front of a test's name: run it in this very process.
const ALONE: &str = "--alone";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [ALONE, name] => {
            let case = cases::ALL.iter().find(|case| case.name == name).expect("a test of that name");
            within(case.limit, case.test);
            ExitCode::SUCCESS
        }
        ["--check", record, output] => check(record.as_ref(), output),
        ["--list", ref rest @ ..] => {
            wanted(rest).iter().for_each(|case| println!("{}", case.name));
            ExitCode::SUCCESS
        }
        _ => run(&wanted(&words)),
    }
}

/// The tests that the command line names.
fn wanted(words: &[&str]) -> Vec<&'static Case> {
    let (cable, words) = match words {
        ["--recorded", rest @ ..] => (Cable::Recorded, rest),
        words => (Cable::Unwatched, words),
    };
    let is_named = |case: &Case| words.is_empty() || words.iter().any(|word| case.name.contains(word));
    cases::ALL.iter().filter(|case| case.cable == cable && is_named(case)).collect()
}

fn run(wanted: &[&Case]) -> ExitCode {
    let failed: Vec<&str> = wanted.iter().filter(|case| !passes(case)).map(|case| case.name).collect();
    println!("{} tests, {} failed: {}", wanted.len(), failed.len(), failed.join(" "));
    // No test at all is a name that was mistyped.
    if failed.is_empty() && !wanted.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(record: &Path, output: &str) -> ExitCode {
    let output = std::fs::read_to_string(output).expect("the output of the tests");
    match wire::check(record, &output) {
        Ok(summary) => println!("the cable: {summary}"),
        Err(fault) => {
            println!("the cable: FAILED: {fault}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs a test in a process of its own, so that it starts afresh and can be left behind.
fn passes(case: &Case) -> bool {
    println!("test {} ..", case.name);
    let started = Instant::now();
    let program = std::env::current_exe().expect("a path");
    let status = Command::new(program).args([ALONE, case.name]).status().expect("a process");
    let result = if status.success() { "ok" } else { "FAILED" };
    println!("test {} .. {result} ({:.1} s)", case.name, started.elapsed().as_secs_f64());
    status.success()
}
