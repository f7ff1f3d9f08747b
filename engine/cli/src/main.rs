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

use std::process::ExitCode;

use clap::Parser;
use ringwire::Settings;

use args::{Cli, Command, ServeStack, Stack};
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
    let settings = settings(cli)?;
    match &cli.command {
        Command::Serve(args) => serve::run(args, &settings),
        Command::Load(args) => load::run(args, &settings, cli.quiet),
        Command::Compare(args) => compare::run(args, cli.quiet),
        Command::Doctor(args) => doctor::run(args),
    }
}

/// What --config says, for those commands that can follow it.
fn settings(cli: &Cli) -> Result<Settings, Refusal> {
    let mut settings = Settings::default();
    // Requests and answers leave at once, unless the file says otherwise.
    settings.tcp.nodelay = true;
    let Some(path) = &cli.config else { return Ok(settings) };
    let has_engine = match &cli.command {
        Command::Serve(args) => args.stack == ServeStack::Ringwire,
        Command::Load(args) => args.stack == Stack::Ringwire,
        Command::Compare(_) | Command::Doctor(_) => false,
    };
    if !has_engine {
        let what = "--config is for serve and load over the Ringwire stack";
        return Err(Refusal::new(Exit::Usage, what, "leave it out"));
    }
    Ok(Settings::read(path, settings.tcp)?)
}
