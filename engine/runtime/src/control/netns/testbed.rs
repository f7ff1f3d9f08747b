//! Two anonymous network namespaces joined by a veth pair; gone when the descriptors are, also after a panic.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::UnshareFlags;

use super::run_in;

/// Both ends of the link are called this.
pub(in crate::control) const LINK: &str = "rw0";

/// One at a time: between fork and exec a child of one test holds the sockets of all others, and a port is free only when
/// the last descriptor is closed.
static ALONE: Mutex<()> = Mutex::new(());

pub(in crate::control) struct Testbed {
    here: OwnedFd,
    peer: OwnedFd,
    _alone: MutexGuard<'static, ()>,
}

impl Testbed {
    pub(in crate::control) const HERE: &str = "10.77.1.1";
    pub(in crate::control) const PEER: &str = "10.77.1.2";

    pub(in crate::control) fn new() -> Testbed {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let bed = Testbed { here: fresh_namespace(), peer: fresh_namespace(), _alone };
        let peer = format!("/proc/{}/fd/{}", std::process::id(), bed.peer.as_raw_fd());
        bed.here(|| {
            ip(&format!(
                "link add {LINK} numrxqueues 4 numtxqueues 4 type veth peer name {LINK} netns {peer}"
            ));
            ip("link set lo up");
            ip(&format!("addr add {}/24 dev {LINK}", Testbed::HERE));
            ip(&format!("link set {LINK} up"));
        });
        bed.peer(|| {
            ip("link set lo up");
            ip(&format!("addr add {}/24 dev {LINK}", Testbed::PEER));
            ip(&format!("link set {LINK} up"));
        });
        bed.here(wait_for_link);
        bed.peer(wait_for_link);
        bed
    }

    /// Runs in the namespace under test.
    pub(in crate::control) fn here<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        run_in(self.here.as_fd(), f).expect("set-up needs root")
    }

    /// Runs at the other end of the link.
    pub(in crate::control) fn peer<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        run_in(self.peer.as_fd(), f).expect("set-up needs root")
    }
}

/// Runs `ip` in the calling thread's namespace.
pub(in crate::control) fn ip(arguments: &str) {
    run("ip", &arguments.split_whitespace().collect::<Vec<_>>());
}

/// Runs many `ip` commands, one a line, in one process.
pub(in crate::control) fn batch(lines: &str) {
    let mut child =
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip is installed");
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("ip reads");
    assert!(child.wait().expect("a child").success(), "ip -batch");
}

/// Sets a sysctl of the calling thread's namespace; a child sees that one in /proc/sys.
pub(in crate::control) fn sysctl(name: &str, value: &str) {
    run("sysctl", &["-qw", &format!("{name}={value}")]);
}

/// A carrier alone is not enough: until the kernel has acted on it, the link's queue drops everything.
fn wait_for_link() {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !run("ip", &["link", "show", LINK]).contains("state UP") {
        assert!(Instant::now() < deadline, "the link does not come up");
        thread::sleep(Duration::from_millis(2));
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("program is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {error}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn fresh_namespace() -> OwnedFd {
    let unshared = thread::spawn(|| {
        #[expect(
            deprecated,
            reason = "only CLONE_FILES is unsafe to unshare, and this crate has no unsafe code"
        )]
        rustix::thread::unshare(UnshareFlags::NEWNET).expect("a network namespace needs root");
        File::open("/proc/thread-self/ns/net").expect("/proc is mounted").into()
    });
    unshared.join().expect("the thread says why")
}
