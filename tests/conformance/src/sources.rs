//! Which tests there are: names of test functions, read from the sources of the workspace.

use std::collections::BTreeMap;
use std::path::Path;

/// Short names and directories of the packages whose tests a table may name; the first is this one, whose tests are named alone.
pub(crate) const PACKAGES: [(&str, &str); 12] = [
    ("script", "tests/conformance/tests"),
    ("proto", "engine/proto"),
    ("wire", "engine/wire"),
    ("table", "engine/table"),
    ("frame", "engine/frame"),
    ("runtime", "engine/runtime"),
    ("packet", "engine/packet"),
    ("sim", "tests/sim"),
    ("netns", "tests/netns"),
    ("packetdrill", "tests/packetdrill"),
    ("fuzz", "tests/fuzz"),
    ("capture", "tests/capture"),
];

/// Test functions by package.
#[derive(Debug, Default)]
pub(crate) struct Tests {
    /// How many functions of the package have the name: two of different modules may.
    names: BTreeMap<&'static str, BTreeMap<String, usize>>,
    twice: Vec<String>,
}

impl Tests {
    pub(crate) fn scan(root: &Path) -> Result<Tests, String> {
        let mut tests = Tests::default();
        for (package, dir) in PACKAGES {
            tests.scan_dir(package, &root.join(dir))?;
        }
        Ok(tests)
    }

    fn scan_dir(&mut self, package: &'static str, dir: &Path) -> Result<(), String> {
        let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                self.scan_dir(package, &path)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text =
                    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                for name in test_names(&text) {
                    self.add(package, name);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, package: &'static str, name: String) {
        let is_script = package == PACKAGES[0].0;
        // The list of known failures knows scripts by this name alone.
        let count = self.names.entry(package).or_default().entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 && is_script {
            self.twice.push(format!("two scripts are called {name}"));
        }
    }

    /// How many tests a row means by `name`, for a script, or `package::name`, for the tests of others.
    pub(crate) fn named(&self, test: &str) -> usize {
        let (package, name) = test.split_once("::").unwrap_or((PACKAGES[0].0, test));
        self.names.get(package).and_then(|names| names.get(name)).copied().unwrap_or(0)
    }

    pub(crate) fn count(&self, package: &str) -> usize {
        self.names.get(package).map_or(0, BTreeMap::len)
    }

    /// Names of the scripts of this package.
    pub(crate) fn scripts(&self) -> impl Iterator<Item = &str> {
        self.names.get(PACKAGES[0].0).into_iter().flatten().map(|(name, _)| name.as_str())
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.twice.clone()
    }

    #[cfg(test)]
    pub(crate) fn of_scripts(names: &[&str]) -> Tests {
        let mut tests = Tests::default();
        names.iter().for_each(|name| tests.add(PACKAGES[0].0, (*name).to_owned()));
        tests
    }
}

/// Functions under `#[test]` that run, and the lines `name in State,` of `in_states!`.
fn test_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut is_test, mut is_ignored, mut is_table) = (false, false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") {
            is_test = true;
        } else if line.starts_with("#[") {
            is_ignored |= line.contains("ignore");
        } else if line.starts_with("in_states! {") {
            is_table = true;
        } else if line == "}" {
            is_table = false;
        } else if line.starts_with("fn ") {
            if is_test && !is_ignored {
                names.extend(function_name(line));
            }
            (is_test, is_ignored) = (false, false);
        } else if let (true, Some((name, _))) = (is_table, line.split_once(" in ")) {
            names.push(name.to_owned());
        }
    }
    names
}

fn function_name(line: &str) -> Option<String> {
    let name: String =
        line.strip_prefix("fn ")?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    // `fn $name()` belongs to a macro.
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_functions_are_found_and_others_are_not() {
        let text = "fn plain() {}\n#[test]\nfn $macro() {}\nfn other() {}\n#[test]\n#[cfg(unix)]\nfn one() {}\nfn two() {}\nin_states! { check:\n    three in Closed,\n}\nfor x in y {}\n";
        assert_eq!(test_names(text), ["one", "three"]);
    }

    #[test]
    fn ignored_tests_are_none() {
        let text = "#[test]\n#[ignore]\nfn slow() {}\n#[ignore = \"why\"]\n#[test]\nfn odd() {}\n#[test]\nfn runs() {}\n";
        assert_eq!(test_names(text), ["runs"]);
    }
}
