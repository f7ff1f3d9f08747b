//! Echo servers over kernel sockets: the stack that everybody has.
//!
//! Both come in two forms, because they answer different questions. [`Wait::Blocking`] sleeps in the
//! kernel between requests, as nearly all services do. [`Wait::Spinning`] never sleeps: the least latency
//! that sockets can give for a whole core, and the fair rival of a busy-polling engine.
//!
//! One thread runs one server; the caller pins that thread. Nothing allocates per request.

mod tcp;
mod udp;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use tcp::TcpEcho;
pub use udp::UdpEcho;

/// What a server does while there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Sleeps in the kernel until a packet comes.
    Blocking,
    /// Asks again at once, without end.
    Spinning,
}

/// How soon a blocked server notices that it shall stop.
const STOP_LATENCY: Duration = Duration::from_millis(50);

/// Spinning rounds between two looks at the stop flag; a power of two.
const SPINS_PER_STOP_CHECK: u32 = 1024;

/// Counts spins, so that the flag of another thread is not read on every one.
struct StopCheck<'a> {
    flag: &'a AtomicBool,
    wait: Wait,
    spins: u32,
}

impl<'a> StopCheck<'a> {
    fn new(flag: &'a AtomicBool, wait: Wait) -> StopCheck<'a> {
        StopCheck { flag, wait, spins: 0 }
    }

    fn is_due(&mut self) -> bool {
        self.spins = self.spins.wrapping_add(1);
        let look = self.wait == Wait::Blocking || self.spins.is_multiple_of(SPINS_PER_STOP_CHECK);
        // Relaxed: nothing else is published with the flag.
        look && self.flag.load(Ordering::Relaxed)
    }
}

/// "Nothing there now" and "a signal came" are both "go round once more".
fn is_retry(error: rustix::io::Errno) -> bool {
    matches!(error, rustix::io::Errno::AGAIN | rustix::io::Errno::INTR)
}

fn as_io(error: nix::errno::Errno) -> io::Error {
    io::Error::from_raw_os_error(error as i32)
}
