//! `dpdk-testpmd` over AF_XDP as a peer: the reflector of somebody else, where it is installed.
//!
//! Its program comes from Debian's `dpdk-dev`, its driver from `librte-net-af-xdp23`. It takes every packet of its
//! queue, ARP included, so a client needs a fixed neighbour entry for its address.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;

const PROGRAM: &str = "dpdk-testpmd";

/// Where testpmd forwards.
#[derive(Clone, Debug)]
pub struct TestpmdConfig {
    /// Interface, in the network namespace of the calling thread.
    pub interface: String,
    /// The queue it takes.
    pub queue_id: u32,
    /// Core of its forwarding loop, which it fills.
    pub forward_cpu: usize,
    /// Core of its console, which sleeps.
    pub main_cpu: usize,
}

/// Why testpmd does not forward.
#[derive(Debug)]
#[non_exhaustive]
pub enum TestpmdError {
    /// It is not in `PATH`.
    NotInstalled,
    /// It could not be started.
    Spawn(std::io::Error),
    /// It ended by itself; the text is what it said last.
    Ended(String),
    /// It did not attach to the interface in time.
    NotReady(Duration),
}

impl fmt::Display for TestpmdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TestpmdError::NotInstalled => {
                write!(f, "{PROGRAM} is not installed (Debian: dpdk-dev, librte-net-af-xdp23)")
            }
            TestpmdError::Spawn(error) => write!(f, "{PROGRAM} does not start: {error}"),
            TestpmdError::Ended(said) => write!(f, "{PROGRAM} ended: {said}"),
            TestpmdError::NotReady(within) => write!(f, "{PROGRAM} did not attach within {within:?}"),
        }
    }
}

impl std::error::Error for TestpmdError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TestpmdError::Spawn(error) => Some(error),
            TestpmdError::NotInstalled | TestpmdError::Ended(_) | TestpmdError::NotReady(_) => None,
        }
    }
}

/// The command that forwards with addresses and ports swapped, or `None` where it is not installed. It ends when its
/// standard input does.
pub fn testpmd_command(config: &TestpmdConfig) -> Option<Command> {
    let mut command = Command::new(installed(env::var_os("PATH")?.as_os_str())?);
    let TestpmdConfig { interface, queue_id, forward_cpu, main_cpu } = config;
    // Ordinary pages and no shared files, so that it runs beside others and leaves nothing behind.
    command.args(["--no-pci", "--no-huge", "-m", "512", "--no-shconf", "--no-telemetry"]);
    command.arg("--lcores").arg(format!("0@{main_cpu},1@{forward_cpu}"));
    command.arg("--vdev").arg(format!("net_af_xdp0,iface={interface},start_queue={queue_id},queue_count=1"));
    command.args(["--", "--forward-mode=5tswap", "--nb-cores=1", "--auto-start", "--interactive"]);
    command.args(["--total-num-mbufs=8192", "--no-mlockall"]);
    Some(command)
}

fn installed(path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|folder| folder.join(PROGRAM)).find(|file| file.is_file())
}

/// A running testpmd; stops when dropped.
#[derive(Debug)]
pub struct Testpmd {
    child: Child,
}

impl Testpmd {
    /// Starts it in the calling thread's network namespace and waits until it has attached to the interface. It
    /// forwards some milliseconds later: the first packets may be lost.
    ///
    /// # Errors
    /// It is not installed, or does not come up within `patience`.
    pub fn start(config: &TestpmdConfig, patience: Duration) -> Result<Testpmd, TestpmdError> {
        let mut command = testpmd_command(config).ok_or(TestpmdError::NotInstalled)?;
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut testpmd = Testpmd { child: command.spawn().map_err(TestpmdError::Spawn)? };
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(ended) = testpmd.last_words() {
                return Err(TestpmdError::Ended(ended));
            }
            if is_attached(&config.interface) {
                return Ok(testpmd);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(TestpmdError::NotReady(patience))
    }

    /// What it said last, if it has ended.
    fn last_words(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What cannot be read is not said; the status is still there.
            let _ = stderr.read_to_string(&mut said);
        }
        Some(format!("{status}; {}", said.trim().lines().last().unwrap_or("no message")))
    }
}

/// Whether an XDP program is on the interface.
fn is_attached(interface: &str) -> bool {
    if_nametoindex(interface).is_ok_and(|index| matches!(ringwire_bpf::incumbent(index), Ok(Some(_))))
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // Its console ends at the end of its input; it then takes its program off the interface.
        drop(self.child.stdin.take());
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // Nothing to do about either failure: it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests;
