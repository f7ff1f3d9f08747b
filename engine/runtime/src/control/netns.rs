//! Running set-up code in another network namespace.
//!
//! A namespace belongs to a thread, and what is made there (sockets, netlink sockets, threads) stays in it wherever it
//! is used later. So only a short-lived thread moves; the caller never does. In a moved thread /proc/net and
//! /sys/class/net still show the old namespace: everything about the network is asked through netlink.

use std::io;
use std::os::fd::BorrowedFd;
use std::panic::resume_unwind;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

#[cfg(test)]
pub(super) mod testbed;
#[cfg(test)]
mod tests;

/// Runs `f` on a thread of its own in the network namespace that `netns` refers to, and waits for it.
///
/// A panic in `f` continues in the caller.
///
/// # Errors
/// `setns(2)`: `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` if the descriptor is no network namespace; or that of starting
/// a thread. `f` has not run then.
pub(crate) fn run_in<R: Send>(netns: BorrowedFd<'_>, f: impl FnOnce() -> R + Send) -> io::Result<R> {
    thread::scope(|scope| {
        let moved = thread::Builder::new().name("ringwire-netns".to_owned()).spawn_scoped(scope, || {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
            Ok(f())
        })?;
        moved.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
