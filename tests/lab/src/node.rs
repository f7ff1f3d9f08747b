//! A node: one anonymous network namespace, and what runs inside it.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use rustix::thread::LinkNameSpaceType;

use crate::error::{LabError, Step};
use crate::level::Level;
use crate::link::Link;
use crate::netlink::Route;
use crate::process::{Command, Programs};
use crate::raw::RawPort;
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

/// Where a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a namespace of its own.
    Own,
    /// In one that was there before.
    Adopted,
    /// In the namespace of this process, and its kernel is the node's.
    Shared,
    /// In the namespace of this process, but no kernel is the node's.
    Far,
    /// In memory.
    Nowhere,
}

impl Place {
    /// The place of the lab's `number`-th node.
    pub(crate) fn of(level: Level, number: u16) -> Place {
        match level {
            Level::Namespaces | Level::UserNamespace => Place::Own,
            Level::OneNamespace if number == 0 => Place::Shared,
            Level::OneNamespace => Place::Far,
            Level::Memory => Place::Nowhere,
        }
    }

    pub(crate) fn has_kernel(self) -> bool {
        matches!(self, Place::Own | Place::Adopted | Place::Shared)
    }

    /// Whether this process is not there already.
    pub(crate) fn is_elsewhere(self) -> bool {
        matches!(self, Place::Own | Place::Adopted)
    }
}

struct Inner {
    name: String,
    place: Place,
    netns: OwnedFd,
    route: Mutex<Route>,
    links_count: AtomicU16,
    programs: Arc<Programs>,
}

impl Node {
    pub(crate) fn new(name: &str, place: Place, programs: Arc<Programs>) -> Result<Node, LabError> {
        let what = || format!("cannot make the network namespace of node '{name}'");
        let (netns, route) = match place {
            Place::Own => thread::scope(|scope| join(scope.spawn(make_namespace))),
            Place::Shared | Place::Far | Place::Nowhere => {
                File::open("/proc/thread-self/ns/net").and_then(|netns| Ok((netns.into(), Route::open()?)))
            }
            Place::Adopted => unreachable!("`adopt` names the namespace"),
        }
        .step(what)?;
        Ok(Node::assemble(name, place, (netns, route), programs))
    }

    pub(crate) fn adopt(name: &str, netns: &Path, programs: Arc<Programs>) -> Result<Node, LabError> {
        let open = || {
            let netns = File::open(netns)?;
            thread::scope(|scope| {
                join(scope.spawn(|| {
                    rustix::thread::move_into_link_name_space(
                        netns.as_fd(),
                        Some(LinkNameSpaceType::Network),
                    )?;
                    Route::open()
                }))
            })
            .map(|route| (netns.into(), route))
        };
        let parts = open().step(|| format!("cannot adopt {} as node '{name}'", netns.display()))?;
        Ok(Node::assemble(name, Place::Adopted, parts, programs))
    }

    fn assemble(name: &str, place: Place, (netns, route): (OwnedFd, Route), programs: Arc<Programs>) -> Node {
        let inner = Inner {
            name: name.into(),
            place,
            netns,
            route: Mutex::new(route),
            links_count: AtomicU16::new(0),
            programs,
        };
        Node { inner: Arc::new(inner) }
    }

    pub(crate) fn place(&self) -> Place {
        self.inner.place
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

    /// Makes a router of the node: its kernel forwards IPv4 and IPv6 between its links.
    ///
    /// # Errors
    /// As [`Node::set_sysctl`].
    pub fn forward(&self) -> Result<(), LabError> {
        self.set_sysctl("net/ipv4/ip_forward", "1")?;
        match self.set_sysctl("net/ipv6/conf/all/forwarding", "1") {
            // A kernel without IPv6 has nothing to forward.
            Err(error) if error.errno == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Sends what is for `network` to the router `via`, which is on one of the node's links. `(0.0.0.0, 0)` is everything.
    ///
    /// # Errors
    /// The router is on no link of the node, or there is such a route already.
    pub fn add_route(&self, network: (IpAddr, u8), via: IpAddr) -> Result<(), LabError> {
        self.route(|route| route.add_route(network, via))
            .step(|| format!("cannot route {}/{} of node '{}' via {via}", network.0, network.1, self.name()))
    }

    /// The node's interface on `link`, packet by packet.
    ///
    /// # Errors
    /// A packet socket cannot be had, or, in memory, the node has something at this link already.
    pub fn raw(&self, link: &Link) -> Result<RawPort, LabError> {
        link.raw(self)
    }

    /// Sets a `net.*` sysctl of the node, written as below /proc/sys: `net/ipv4/tcp_sack`.
    ///
    /// # Errors
    /// There is no such sysctl, or the namespace is not the node's own and others would feel it.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<(), LabError> {
        if self.inner.place != Place::Own {
            let what =
                format!("node '{}' has no namespace of its own: {name} would change for others", self.name());
            return Err(LabError::misuse(what, "use a lab of level Namespaces or UserNamespace"));
        }
        self.run(|| fs::write(Path::new("/proc/sys").join(name), value))
            .step(|| format!("cannot set {name} to '{value}' in node '{}'", self.name()))
    }

    /// Moves the calling thread into the node.
    pub(crate) fn enter(&self) -> io::Result<()> {
        if !self.inner.place.is_elsewhere() {
            return Ok(());
        }
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
        let number = self.inner.links_count.fetch_add(1, Ordering::Relaxed);
        match self.inner.place {
            Place::Own | Place::Nowhere => format!("eth{number}"),
            Place::Adopted | Place::Shared | Place::Far => unique_ifname(),
        }
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

/// A name that nobody else will choose, in the 15 characters that Linux allows.
fn unique_ifname() -> String {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    static ORIGIN: OnceLock<u32> = OnceLock::new();
    // Randomly keyed, once per process.
    let origin = ORIGIN.get_or_init(|| RandomState::new().hash_one(std::process::id()) as u32);
    format!("rw{origin:08x}{:x}", COUNT.fetch_add(1, Ordering::Relaxed))
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
