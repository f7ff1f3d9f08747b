//! Ringwire engines in nodes.

use std::io;

use ringwire::{Backend, Engine, EngineBuilder, Interface};
use ringwire_frame::Plug;

use crate::link::Link;
use crate::node::{Node, Place};

impl Node {
    /// An engine at the node's end of `link`, with [`Link::spare_addr`] as its own address, by the best way that the lab's
    /// level has: AF_XDP (feature `xdp`), AF_PACKET, or memory. To be refined and started.
    ///
    /// # Panics
    /// If the node is not at this link.
    pub fn engine(&self, link: &Link) -> EngineBuilder {
        let address = format!("{}/{}", link.spare_addr(self), link.prefix_len());
        let address = address.parse().expect("a link's addresses are valid");
        let builder = Engine::builder().interface(Interface::new(link.name(self)).address(address));
        match self.place() {
            Place::Nowhere => {
                let socket = link.socket(self);
                builder.wire(move |pool| socket.plug(Plug::new(pool)).map_err(io::Error::other))
            }
            place => {
                let builder = builder.backend(best_backend());
                match self.netns().try_clone_to_owned() {
                    Ok(netns) if place.is_elsewhere() => builder.netns(netns),
                    // Here already; or out of descriptors, which the start will say.
                    _ => builder,
                }
            }
        }
    }
}

#[cfg(feature = "xdp")]
fn best_backend() -> Backend {
    if crate::level::has_bpf() { Backend::Xdp } else { Backend::Packet }
}

#[cfg(not(feature = "xdp"))]
fn best_backend() -> Backend {
    Backend::Packet
}
