//! The conformance tables: one TOML file for each document, one line for each rule, and their check against the sources.
//!
//! ```text
//! MUST-1 = { at = "3.1", rule = "the window is unsigned", done = ["rfc9293_3_1_window_is_unsigned", "sim::a_seed"] }
//! SHLD-9 = { at = "3.8.3", rule = "..", exception = "why not", fails = ["the script that shows it"] }
//! ```
//! A test is named alone if it is a script of this package, else after the short name of its package.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::expected::KnownFailures;
use crate::sources::{PACKAGES, Tests};

/// How binding a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Mandatory.
    Must,
    /// To be followed unless there is a reason.
    Should,
    /// Free to do or leave.
    May,
}

/// One rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The section that states it.
    pub at: String,
    /// What it says, in a line of our own.
    pub rule: String,
    /// How binding it is; may be left out where the identifier says it.
    pub level: Option<Level>,
    /// Tests that prove it.
    #[serde(default)]
    pub done: Vec<String>,
    /// Why it is not followed, not tested, or not ours to follow.
    pub exception: Option<String>,
    /// Scripts that are known to fail because of it.
    #[serde(default)]
    pub fails: Vec<String>,
}

/// The rules of one document.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Name and title of the document.
    pub title: String,
    /// The rules by identifier.
    pub rules: BTreeMap<String, Rule>,
}

/// All tables and what they are checked against.
#[derive(Debug)]
pub struct Conformance {
    tables: BTreeMap<String, Table>,
    tests: Tests,
    known_failures: BTreeSet<String>,
}

/// A count of rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Proved by tests.
    pub done: usize,
    /// With a reason.
    pub exceptions: usize,
    /// Neither: an error.
    pub open: usize,
}

impl Conformance {
    /// Reads the tables of this package and the tests of the workspace.
    ///
    /// # Errors
    /// A file that cannot be read or is not well-formed, with its name.
    pub fn load() -> Result<Conformance, String> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.ancestors().nth(2).ok_or("the package is not in a workspace")?;
        let mut tables = BTreeMap::new();
        for file in toml_files(package)? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text =
                std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let table = toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
            tables.insert(name, table);
        }
        let known_failures = KnownFailures::load().failing.into_keys().collect();
        Ok(Conformance { tables, tests: Tests::scan(root)?, known_failures })
    }

    /// Everything that is wrong with the tables; empty if nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.tests.faults();
        let mut cited = BTreeSet::new();
        let mut named = BTreeSet::new();
        for (name, table) in &self.tables {
            for (id, rule) in &table.rules {
                cited.extend(rule.fails.iter().cloned());
                named.extend(rule.fails.iter().chain(&rule.done).map(String::as_str));
                // An exception names in its words what is tested all the same.
                named.extend(rule.exception.iter().flat_map(|reason| reason.split(is_no_name)));
                let found = self.faults_of(id, rule);
                faults.extend(found.into_iter().map(|fault| format!("{name}.toml, {id}: {fault}")));
            }
        }
        let uncited = self.known_failures.difference(&cited);
        faults.extend(uncited.map(|script| format!("expected_failures.toml: no row names {script}")));
        let idle = self.tests.scripts().filter(|script| !named.contains(script));
        faults.extend(idle.map(|script| format!("no row cites {script}")));
        faults
    }

    fn faults_of(&self, id: &str, rule: &Rule) -> Vec<String> {
        let mut faults = Vec::new();
        if level_of(id, rule).is_none() {
            faults.push("no level".to_owned());
        }
        if rule.rule.trim().is_empty() || rule.at.trim().is_empty() {
            faults.push("no text or no section".to_owned());
        }
        match (&rule.exception, rule.done.is_empty()) {
            (None, true) => faults.push("undecided: neither done nor exception".to_owned()),
            (Some(_), false) => faults.push("both done and exception".to_owned()),
            (Some(reason), true) if reason.trim().is_empty() => faults.push("no reason".to_owned()),
            _ => {}
        }
        if rule.exception.is_none() && !rule.fails.is_empty() {
            faults.push("done, and yet a script fails".to_owned());
        }
        for test in &rule.done {
            let named = self.tests.named(test);
            if named == 0 {
                faults.push(format!("no test is called {test}, or it does not run"));
            } else if named > 1 {
                faults.push(format!("{named} tests are called {test}"));
            } else if self.known_failures.contains(test) {
                faults.push(format!("{test} is known to fail"));
            }
        }
        for script in &rule.fails {
            if !self.known_failures.contains(script) {
                faults.push(format!("{script} is not in expected_failures.toml"));
            }
        }
        faults
    }

    /// How many rules of each level are decided how, in one table or, without a name, in all.
    pub fn tally(&self, table: Option<&str>) -> BTreeMap<Level, Tally> {
        let mut tallies: BTreeMap<Level, Tally> = BTreeMap::new();
        let chosen =
            self.tables.iter().filter(|(name, _)| table.is_none_or(|wanted| wanted == name.as_str()));
        for (id, rule) in chosen.flat_map(|(_, table)| &table.rules) {
            let tally = tallies.entry(level_of(id, rule).unwrap_or(Level::Must)).or_default();
            match (&rule.exception, rule.done.is_empty()) {
                (Some(_), _) => tally.exceptions += 1,
                (None, false) => tally.done += 1,
                (None, true) => tally.open += 1,
            }
        }
        tallies
    }

    /// Rules that are exceptions: table, identifier, rule.
    pub fn exceptions(&self) -> impl Iterator<Item = (&str, &str, &Rule)> {
        self.tables.iter().flat_map(|(name, table)| {
            table
                .rules
                .iter()
                .filter(|(_, rule)| rule.exception.is_some())
                .map(move |(id, rule)| (name.as_str(), id.as_str(), rule))
        })
    }
}

impl fmt::Display for Conformance {
    /// Percentages of each table and of all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<56} {:>20} {:>20} {:>20}", "", "MUST", "SHOULD", "MAY")?;
        for (name, table) in &self.tables {
            line(f, &table.title, &self.tally(Some(name)))?;
        }
        line(f, "all", &self.tally(None))?;
        let known = self.known_failures.len();
        writeln!(f, "{} packet scripts, {known} of them known to fail", self.tests.count(PACKAGES[0].0))
    }
}

fn line(f: &mut fmt::Formatter<'_>, title: &str, tallies: &BTreeMap<Level, Tally>) -> fmt::Result {
    let title: String = title.chars().take(55).collect();
    write!(f, "{title:<56}")?;
    for level in [Level::Must, Level::Should, Level::May] {
        let Tally { done, exceptions, open } = tallies.get(&level).copied().unwrap_or_default();
        let total = done + exceptions + open;
        if total == 0 {
            write!(f, " {:>20}", "-")?;
            continue;
        }
        let percent = done as f64 * 100.0 / total as f64;
        write!(f, " {:>20}", format!("{done}/{total} done, {percent:.0} %"))?;
    }
    writeln!(f)
}

fn is_no_name(c: char) -> bool {
    !(c.is_ascii_alphanumeric() || c == '_')
}

fn level_of(id: &str, rule: &Rule) -> Option<Level> {
    let by_id = match id.split('-').next() {
        Some("MUST") => Some(Level::Must),
        Some("SHLD" | "REC") => Some(Level::Should),
        Some("MAY") => Some(Level::May),
        _ => None,
    };
    rule.level.or(by_id)
}

fn toml_files(package: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(package).map_err(|error| format!("{}: {error}", package.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| !path.ends_with("Cargo.toml") && !path.ends_with("expected_failures.toml"))
        .collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_decided_and_every_test_exists() {
        let conformance = Conformance::load().expect("the tables can be read");
        let faults = conformance.faults();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        let tallies = conformance.tally(None);
        assert!(tallies.values().all(|tally| tally.open == 0));
        assert!(tallies[&Level::Must].done > 100);
    }

    /// One table with these rules against these tests.
    fn checked(rules: &str, scripts: &[&str], known_failures: &[&str]) -> Vec<String> {
        let table = toml::from_str(&format!("title = \"x\"\n[rules]\n{rules}")).expect("well-formed");
        let conformance = Conformance {
            tables: BTreeMap::from([("x".to_owned(), table)]),
            tests: Tests::of_scripts(scripts),
            known_failures: known_failures.iter().map(|name| (*name).to_owned()).collect(),
        };
        conformance.faults()
    }

    #[test]
    fn a_good_table_has_no_faults() {
        let rules = "MUST-1 = { at = \"1\", rule = \"r\", done = [\"a\"] }
            SHLD-1 = { at = \"1\", rule = \"r\", exception = \"why, see c\", fails = [\"b\"] }";
        assert_eq!(checked(rules, &["a", "b", "c"], &["b"]), Vec::<String>::new());
    }

    #[test]
    fn faults_are_found() {
        let cases = [
            ("MUST-1 = { at = \"1\", rule = \"r\" }", "undecided"),
            ("MUST-1 = { at = \"1\", rule = \"r\", done = [\"c\"] }", "no test is called c"),
            ("MUST-1 = { at = \"1\", rule = \"r\", done = [\"proto::a\"] }", "no test is called proto::a"),
            ("MUST-1 = { at = \"1\", rule = \"r\", done = [\"b\"] }", "b is known to fail"),
            ("MUST-1 = { at = \"1\", rule = \"r\", done = [\"a\"], exception = \"e\" }", "both"),
            ("MUST-1 = { at = \"1\", rule = \"r\", exception = \" \" }", "no reason"),
            ("MUST-1 = { at = \"1\", rule = \"\", done = [\"a\"] }", "no text"),
            ("X = { at = \"1\", rule = \"r\", done = [\"a\"] }", "no level"),
            (
                "MUST-1 = { at = \"1\", rule = \"r\", exception = \"e\", fails = [\"a\"] }",
                "not in expected_failures",
            ),
            ("MUST-1 = { at = \"1\", rule = \"r\", done = [\"a\"], fails = [\"b\"] }", "done, and yet"),
            ("MUST-1 = { at = \"1\", rule = \"r\", done = [\"a\"] }", "no row names b"),
            (
                "MUST-1 = { at = \"1\", rule = \"r\", exception = \"as ab\", fails = [\"b\"] }",
                "no row cites a",
            ),
        ];
        for (rules, wanted) in cases {
            let faults = checked(rules, &["a", "b"], &["b"]);
            assert!(faults.iter().any(|fault| fault.contains(wanted)), "{rules}: {faults:?}");
        }
    }
}
