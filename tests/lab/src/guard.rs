//! Guards for what outlives this process where a namespace does: they take it away when this process ends, even by SIGKILL.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::node::{Node, join};

/// A shell that waits for the end of its input and then cleans up.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
}

impl Guard {
    /// Guards interfaces of `node`, which need not exist yet.
    pub(crate) fn interfaces(node: &Node, ifnames: &[&str]) -> io::Result<Guard> {
        const SCRIPT: &str = "ip -V >/dev/null || exit 1; echo ready; cat >/dev/null; \
                              for name in \"$@\"; do ip link del \"$name\" 2>/dev/null; done";
        let guard = thread::scope(|scope| {
            join(scope.spawn(|| {
                node.enter()?;
                Guard::start(SCRIPT, ifnames)
            }))
        });
        guard?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "ip (iproute2) is missing"))
    }

    /// Guards all programs that have `marker` in their environment, and so those that they start, whatever session they are in.
    pub(crate) fn programs(marker: &str) -> io::Result<Guard> {
        // Those that are killed may have started others meanwhile; one that cannot be killed must not keep the guard.
        const SCRIPT: &str = "echo ready; cat >/dev/null; for again in $(seq 100); do \
                              found=$(grep -ls -- \"$1\" /proc/[0-9]*/environ); [ -n \"$found\" ] || exit 0; \
                              for file in $found; do pid=${file#/proc/}; kill -9 \"${pid%/environ}\" 2>/dev/null; done; \
                              sleep 0.01; done";
        Guard::start(SCRIPT, &[marker])?.ok_or_else(|| io::Error::other("a shell cannot be started"))
    }

    /// `None` if the script does not say that it is ready.
    fn start(script: &str, args: &[&str]) -> io::Result<Option<Guard>> {
        let mut command = Command::new("sh");
        // A group of its own: Ctrl-C is for the test, and the guard works after it.
        command.args(["-c", script, "guard"]).args(args).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
        let mut shell = command.spawn()?;
        let mut ready = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready)?;
        }
        let guard = Guard { shell };
        Ok((ready.trim() == "ready").then_some(guard))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
