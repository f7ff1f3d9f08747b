//! The same calls to the kernel's sockets and to these: results and error numbers are compared, line by line.
//!
//! `scripts.txt` holds the calls; each script has sockets of its own and, for the kernel, a network namespace of its own with both
//! addresses on its loopback. What each row of `differences.txt` explains may differ; every other difference fails, and so does a row that
//! explains nothing any more. Needs root.

mod calls;
mod linux;
mod ours;
mod script;

use std::collections::BTreeSet;

use linux::Linux;
use ours::Ours;
use script::{Script, run};

const SCRIPTS: &str = include_str!("kernel/scripts.txt");
const DIFFERENCES: &str = include_str!("kernel/differences.txt");

/// `script | line | Linux | Ringwire | why`
fn explained() -> BTreeSet<String> {
    let rows = DIFFERENCES.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let what = rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert!(cells.len() == 5 && !cells[4].is_empty(), "five cells, the last one a reason: {row}");
        cells[..4].join(" | ")
    });
    what.collect()
}

#[test]
fn calls_have_the_results_that_they_have_on_linux() {
    let mut found = BTreeSet::new();
    let scripts = Script::all(SCRIPTS);
    for (script, theirs) in scripts.iter().zip(Linux::run_all(&scripts)) {
        let ours = run(script, &mut Ours::new());
        for (at, (linux, ringwire)) in theirs.into_iter().zip(ours).enumerate() {
            if linux != ringwire {
                found.insert(format!("{} | {} | {linux} | {ringwire}", script.name, script.line_name(at)));
            }
        }
    }
    let explained = explained();
    let news: Vec<&String> = found.difference(&explained).collect();
    let gone: Vec<&String> = explained.difference(&found).collect();
    assert!(news.is_empty() && gone.is_empty(), "unexplained: {news:#?}\nexplained for nothing: {gone:#?}");
}
