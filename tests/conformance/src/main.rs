//! Checks the conformance tables and prints how much of each document is done; with `--exceptions` also what is not, and why.

use std::process::ExitCode;

use ringwire_conformance::table::Conformance;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shows_exceptions = match arguments.as_slice() {
        [] => false,
        [flag] if flag == "--exceptions" => true,
        _ => {
            eprintln!("usage: ringwire-conformance [--exceptions]");
            return ExitCode::from(2);
        }
    };
    let conformance = match Conformance::load() {
        Ok(conformance) => conformance,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if shows_exceptions {
        for (table, id, rule) in conformance.exceptions() {
            println!(
                "{table} {id} ({}): {}\n    {}",
                rule.at,
                rule.rule,
                rule.exception.as_deref().unwrap_or("")
            );
        }
    }
    print!("{conformance}");
    let faults = conformance.faults();
    for fault in &faults {
        eprintln!("{fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
