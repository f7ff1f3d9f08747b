//! The lab: makes nodes and links, and ends the programs started in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::error::LabError;
use crate::link::LinkBuilder;
use crate::node::Node;
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
}

impl Lab {
    /// Makes an empty lab; nothing is asked of the kernel yet.
    ///
    /// # Errors
    /// None at present: every step that needs privilege belongs to a node or a link and says so.
    pub fn new() -> Result<Lab, LabError> {
        Ok(Lab { programs: Arc::new(Programs::default()), links_count: AtomicU16::new(0) })
    }

    /// Makes a node: a fresh network namespace with `lo` up. The name is for messages only.
    pub fn node(&self, name: &str) -> Result<Node, LabError> {
        Node::new(name, Arc::clone(&self.programs))
    }

    /// Starts to build a link between two nodes; [`LinkBuilder::up`] makes it.
    ///
    /// The n-th link of a lab is `10.77.n.0/24`, its first node `.1` and its second `.2`; the
    /// interfaces of a node are `eth0`, `eth1`, .. in the order of its links.
    pub fn link<'l>(&self, a: &'l Node, b: &'l Node) -> LinkBuilder<'l> {
        // Relaxed: only uniqueness matters.
        LinkBuilder::new(self.links_count.fetch_add(1, Ordering::Relaxed), a, b)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.programs.end();
    }
}
