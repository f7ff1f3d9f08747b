//! The `ringwire` command: serve, load, compare, doctor.
//!
//! Results go to stdout, progress and errors to stderr. An error is `what: cause`, then a line
//! `hint: ..` that says what to do; exit codes are those of [`Exit`].

#![forbid(unsafe_code)]

mod args;
mod compare;
mod cpu;
mod doctor;
mod engine;
mod load;
mod refusal;
mod route;
mod serve;
mod signals;
mod units;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use refusal::{Exit, Refusal};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(exit) => exit.into(),
        Err(refusal) => {
            eprintln!("{refusal}");
            refusal.exit.into()
        }
    }
}

fn run(cli: &Cli) -> Result<Exit, Refusal> {
    match &cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Load(args) => load::run(args, cli.quiet),
        Command::Compare(args) => compare::run(args, cli.quiet),
        Command::Doctor(args) => doctor::run(args),
    }
}
