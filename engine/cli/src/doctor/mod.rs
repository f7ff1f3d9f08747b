//! `ringwire doctor`: the checks that start-up makes, each with what to do.
//!
//! Looks and changes nothing, unless `--probe` asks for a real start.

mod checks;
mod driver;

use std::fmt;
use std::path::Path;

use ringwire::{Engine, Interface};
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::load::write_result;
use crate::refusal::{Exit, Refusal};
use crate::route;

use driver::Driver;

/// How a check came out, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    pub(crate) level: Level,
    pub(crate) name: &'static str,
    /// What is the case.
    pub(crate) fact: String,
    /// What to do about it; a command where there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) remedy: String,
}

impl Check {
    fn ok(name: &'static str, fact: impl Into<String>) -> Check {
        Check { level: Level::Ok, name, fact: fact.into(), remedy: String::new() }
    }

    fn warn(name: &'static str, fact: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { level: Level::Warn, name, fact: fact.into(), remedy: remedy.into() }
    }

    fn fail(name: &'static str, fact: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { level: Level::Fail, name, fact: fact.into(), remedy: remedy.into() }
    }
}

#[derive(Serialize)]
struct Findings {
    schema: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    checks: Vec<Check>,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<Exit, Refusal> {
    let mut checks = vec![checks::kernel_of(&checks::release()), checks::capabilities_now()];
    let interfaces = route::interfaces().map_err(|error| {
        Refusal::new(
            Exit::Refused,
            format_args!("cannot list interfaces: {error}"),
            "is AF_NETLINK allowed here?",
        )
    })?;
    let interface = checks::find(&interfaces, args.interface.as_deref());
    let name = match interface {
        Ok(interface) => {
            let interface = interface.clone().look_closer();
            checks.push(checks::memory(&interface));
            checks.extend(checks::of_interface(&interface));
            let driver = Driver::of(&interface, Path::new("/sys"));
            checks.extend(driver::check(driver.as_ref(), &checks::release()));
            if args.probe && worst(&checks) < Level::Fail {
                checks.push(probe(&interface.name));
            }
            Some(interface.name)
        }
        Err(check) => {
            checks.push(check);
            None
        }
    };
    let findings = Findings { schema: "ringwire.doctor/1", interface: name, checks };
    let exit = if worst(&findings.checks) == Level::Fail { Exit::Refused } else { Exit::Ok };
    write_result(&findings, &findings.to_string(), &args.output)?;
    Ok(exit)
}

fn worst(checks: &[Check]) -> Level {
    checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok)
}

/// Starts an engine and stops it again: what the kernel and the driver really grant.
fn probe(interface: &str) -> Check {
    match Engine::builder().interface(Interface::new(interface)).start() {
        Ok(engine) => {
            let queues = engine.handle().mode();
            let zero_copy = queues.iter().filter(|queue| queue.zero_copy).count();
            let attach = queues.first().map_or("none", |queue| queue.attach);
            Check::ok("start", format!("{attach}, {zero_copy} of {} queues zero-copy", queues.len()))
        }
        Err(error) => Check::fail("start", error.to_string().lines().next().unwrap_or_default(), error.hint),
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check { level, name, fact, remedy } in &self.checks {
            let level = match level {
                Level::Ok => "ok",
                Level::Warn => "warn",
                Level::Fail => "FAIL",
            };
            writeln!(f, "{}", format!("{level:<5} {name:<13} {fact}   {remedy}").trim_end())?;
        }
        let failed = self.checks.iter().filter(|check| check.level == Level::Fail).count();
        match (&self.interface, failed) {
            (Some(interface), 0) => writeln!(f, "ready: ringwire serve -i {interface} echo"),
            (_, 0) => Ok(()),
            (_, failed) => writeln!(f, "{failed} to mend"),
        }
    }
}

#[cfg(test)]
mod tests;
