//! The lab: makes nodes and links, and ends the programs started in it.

use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};

use crate::builder::LinkBuilder;
use crate::error::LabError;
use crate::level::{self, Level};
use crate::node::{Node, Place};
use crate::process::Programs;

/// A set of nodes and links that live and end together.
///
/// Dropping the lab kills every program started in it and waits for them. A namespace and its
/// interfaces go with the last [`Node`] or [`Link`](crate::Link) that names them. Labs are independent: any
/// number may exist at once, on any threads.
#[derive(Debug)]
pub struct Lab {
    programs: Arc<Programs>,
    links_count: AtomicU16,
    nodes_count: AtomicU16,
    level: Level,
    between: Between,
}

/// Where the forwarders' interfaces are: a namespace that no test sees.
#[derive(Debug)]
pub(crate) struct Between {
    programs: Arc<Programs>,
    node: OnceLock<Node>,
    pub(crate) level: Level,
}

impl Between {
    pub(crate) fn node(&self) -> Result<Node, LabError> {
        if let Some(node) = self.node.get() {
            return Ok(node.clone());
        }
        let made = Node::new("(between)", Place::of(self.level, 1), Arc::clone(&self.programs))?;
        // Another thread may have been faster; then this one's goes.
        Ok(self.node.get_or_init(|| made).clone())
    }
}

impl Lab {
    /// Makes an empty lab of the best [`Level`] that this process may have, or that `RINGWIRE_LAB` names.
    ///
    /// # Errors
    /// `RINGWIRE_LAB` asks for what is not allowed, or for what does not exist.
    pub fn new() -> Result<Lab, LabError> {
        Lab::at_least(Level::Memory)
    }

    /// Makes an empty lab that can do what one of `level` can; [`lab!`](crate::lab!) does that and skips the test if so asked.
    ///
    /// # Errors
    /// The process may not have such a lab, or `RINGWIRE_LAB` forbids it.
    pub fn at_least(level: Level) -> Result<Lab, LabError> {
        let level = level::choose(level)?;
        let programs = Arc::new(Programs::new(level));
        let between = Between { programs: Arc::clone(&programs), node: OnceLock::new(), level };
        Ok(Lab { programs, links_count: AtomicU16::new(0), nodes_count: AtomicU16::new(0), level, between })
    }

    /// What the lab is made of.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Makes a node: a fresh network namespace with `lo` up. The name is for messages only.
    ///
    /// Where there is but one namespace, the first node is its kernel and the second has none.
    ///
    /// # Errors
    /// The kernel refuses, or the lab's level has no room for more nodes.
    pub fn node(&self, name: &str) -> Result<Node, LabError> {
        // Relaxed: only uniqueness matters.
        let number = self.nodes_count.fetch_add(1, Ordering::Relaxed);
        if self.level == Level::OneNamespace && number >= 2 {
            return Err(level::too_low(self.level, &format!("{} nodes", number + 1)));
        }
        Node::new(name, Place::of(self.level, number), Arc::clone(&self.programs))
    }

    /// Takes in a namespace that exists, such as a container's: `/proc/PID/ns/net`, or a path below `/run/netns`.
    ///
    /// Links can be made to it and programs run in it; the namespace itself is left as it is when the lab ends, without the
    /// lab's interfaces.
    ///
    /// # Errors
    /// There is no such namespace, or entering it is not allowed.
    pub fn adopt(&self, name: &str, netns: impl AsRef<Path>) -> Result<Node, LabError> {
        if !self.level.has_namespaces() {
            return Err(level::too_low(self.level, "a namespace that exists"));
        }
        Node::adopt(name, netns.as_ref(), Arc::clone(&self.programs))
    }

    /// Starts to build a link between two nodes; [`LinkBuilder::up`] makes it.
    ///
    /// The n-th link of a lab is `10.77.n.0/24`, its first node `.1` and its second `.2`; the
    /// interfaces of a node are `eth0`, `eth1`, .. in the order of its links.
    pub fn link<'l>(&'l self, a: &'l Node, b: &'l Node) -> LinkBuilder<'l> {
        // Relaxed: only uniqueness matters.
        LinkBuilder::new(self.links_count.fetch_add(1, Ordering::Relaxed), a, b, &self.between)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.programs.end();
    }
}
