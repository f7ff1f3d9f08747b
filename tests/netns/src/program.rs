//! The `ringwire` command as a child process, as an operator meets it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ringwire_lab::{Child, Node};

/// The `ringwire` command, built as these tests are, from the sources beside them.
///
/// Call it before [`within`](crate::within) starts to count: the first call may compile.
///
/// # Panics
/// When it cannot be built.
pub fn ringwire() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(build)
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // TARGET/PROFILE/deps/TEST
    let profile = test.ancestors().nth(2).expect("cargo's layout");
    let target = profile.parent().expect("cargo's layout");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "ringwire-cli", "--target-dir"]).arg(target);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(status.success(), "ringwire-cli cannot be built");
    profile.join("ringwire")
}

/// A `ringwire serve` that serves.
#[derive(Debug)]
pub struct Served {
    /// The process; the lab ends it.
    pub child: Child,
    /// From its start until it said that clients may come.
    pub took: Duration,
}

/// Starts `ringwire serve` inside `node` and waits until it serves.
///
/// # Panics
/// When it does not serve within `limit`, with what it said.
pub fn serve(node: &Node, args: &[&str], limit: Duration) -> Served {
    let mut command = node.command(ringwire());
    command.arg("serve").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let started = Instant::now();
    let mut child = command.spawn().expect("ringwire starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let (said, banner) = channel();
    thread::spawn(move || {
        let mut line = String::new();
        // A program that ends without a word is an empty line.
        let _ = lines.read_line(&mut line);
        // Whoever asked has given up by then.
        let _ = said.send(line);
    });
    let line = banner.recv_timeout(limit).unwrap_or_default();
    assert!(line.starts_with("serving "), "no service after {:?}: '{}'", started.elapsed(), line.trim_end());
    Served { child, took: started.elapsed() }
}
