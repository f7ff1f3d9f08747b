//! A guard for interfaces in a namespace that outlives this process: takes them away when it ends, even by SIGKILL.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::node::{Node, join};

/// A shell that waits for the end of its input and then removes interfaces.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
}

impl Guard {
    /// Guards interfaces of `node`, which need not exist yet.
    pub(crate) fn start(node: &Node, ifnames: &[&str]) -> io::Result<Guard> {
        const SCRIPT: &str = "ip -V >/dev/null || exit 1; echo ready; cat >/dev/null; \
                              for name in \"$@\"; do ip link del \"$name\" 2>/dev/null; done";
        let mut command = Command::new("sh");
        // A group of its own: Ctrl-C is for the test, and the guard works after it.
        command.args(["-c", SCRIPT, "guard"]).args(ifnames).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
        let mut shell = thread::scope(|scope| {
            join(scope.spawn(|| {
                node.enter()?;
                command.spawn()
            }))
        })?;
        let mut ready = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready)?;
        }
        let guard = Guard { shell };
        if ready.trim() != "ready" {
            return Err(io::Error::new(io::ErrorKind::NotFound, "ip (iproute2) is missing"));
        }
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
