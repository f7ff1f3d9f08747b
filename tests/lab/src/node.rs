//! A node: one anonymous network namespace, and what runs inside it.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::thread::LinkNameSpaceType;

use crate::error::{LabError, Step};
use crate::netlink::Route;
use crate::process::{Command, Programs};
use crate::sys;

/// Linux gives the loopback interface of every network namespace this index.
const LOOPBACK_IFINDEX: u32 = 1;

/// A host of the lab: an anonymous network namespace, held by a file descriptor.
///
/// Cloning names the same namespace again; it ends with the last handle.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    netns: OwnedFd,
    route: Mutex<Route>,
    links_count: AtomicU16,
    programs: Arc<Programs>,
}

impl Node {
    pub(crate) fn new(name: &str, programs: Arc<Programs>) -> Result<Node, LabError> {
        let (netns, route) = thread::scope(|scope| join(scope.spawn(make_namespace)))
            .step(|| format!("cannot make the network namespace of node '{name}'"))?;
        let inner = Inner {
            name: name.into(),
            netns,
            route: Mutex::new(route),
            links_count: AtomicU16::new(0),
            programs,
        };
        Ok(Node { inner: Arc::new(inner) })
    }

    /// The name given at [`Lab::node`](crate::Lab::node).
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The namespace, for whoever enters it by setns(2); not its name, for it has none.
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.inner.netns.as_fd()
    }

    /// Runs `f` in the node on a thread of its own and returns its result.
    ///
    /// Sockets opened and threads started by `f` belong to the node for good; the calling thread
    /// stays where it is. A panic in `f` goes on in the caller.
    ///
    /// # Panics
    /// If the kernel refuses entry to the namespace, which takes the privilege that made it.
    pub fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        let inside = || {
            self.enter().unwrap_or_else(|cause| panic!("cannot enter node '{}': {cause}", self.name()));
            f()
        };
        thread::scope(|scope| join(scope.spawn(inside)))
    }

    /// Prepares a program that will run inside the node and end with the lab.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(program.as_ref(), self.clone())
    }

    /// Sets a `net.*` sysctl of the node, written as below /proc/sys: `net/ipv4/tcp_sack`.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<(), LabError> {
        self.run(|| fs::write(Path::new("/proc/sys").join(name), value))
            .step(|| format!("cannot set {name} to '{value}' in node '{}'", self.name()))
    }

    /// Moves the calling thread into the node.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(rustix::thread::move_into_link_name_space(self.netns(), Some(LinkNameSpaceType::Network))?)
    }

    /// Speaks rtnetlink for the node.
    pub(crate) fn route<T>(&self, ask: impl FnOnce(&mut Route) -> io::Result<T>) -> io::Result<T> {
        // A panic between request and answer leaves at worst an unread answer, and no ask panics.
        ask(&mut self.inner.route.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.inner.programs
    }

    pub(crate) fn next_ifname(&self) -> String {
        // Relaxed: only uniqueness matters.
        format!("eth{}", self.inner.links_count.fetch_add(1, Ordering::Relaxed))
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Node {}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

/// Makes a namespace around the calling thread and returns what holds it and what speaks for it.
fn make_namespace() -> io::Result<(OwnedFd, Route)> {
    sys::unshare_network()?;
    let netns = File::open("/proc/thread-self/ns/net")?;
    let mut route = Route::open()?;
    route.set_up(LOOPBACK_IFINDEX, true)?;
    for conf in ["all", "default"] {
        // New namespaces copy the host's setting. Where /proc/sys is read-only it stays; between the
        // two ends of one link, reverse-path filtering has nothing to object to anyway.
        let _ = fs::write(format!("/proc/sys/net/ipv4/conf/{conf}/rp_filter"), "0");
    }
    Ok((netns.into(), route))
}

/// The result of a thread; its panic goes on in the caller.
pub(crate) fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
}
