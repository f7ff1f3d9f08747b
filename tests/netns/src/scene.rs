//! Two nodes, one link, and an engine on the first of them.

use std::net::{IpAddr, SocketAddr};

use ringwire::{Engine, EngineBuilder, Interface};
use ringwire_lab::{Lab, Link, LinkBuilder, Node};

use crate::wire::Wire;

/// Whose address the engine uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// The interface's own, beside the kernel.
    Shared,
    /// One that the kernel does not have.
    Dedicated,
}

impl Addressing {
    /// Both, for tests that must hold under either.
    pub const BOTH: [Addressing; 2] = [Addressing::Shared, Addressing::Dedicated];
}

/// A link between the engine's node and the kernel's.
#[derive(Debug)]
pub struct Scene {
    /// The capture by which the run is judged when the scene ends, if it is; first, so that it ends before its node.
    pub wire: Option<Wire>,
    /// The same of what passes between the programs of `host`.
    pub loopback: Option<Wire>,
    /// Where the engine is.
    pub host: Node,
    /// Where the kernel is on its own.
    pub peer: Node,
    /// From `host` to `peer`.
    pub link: Link,
    /// Whose address the engine uses.
    pub addressing: Addressing,
    /// Last, so that programs end before their namespaces.
    pub lab: Lab,
}

impl Scene {
    /// One queue, MTU 1500, judged.
    pub fn new(addressing: Addressing) -> Scene {
        Scene::shaped(addressing, |link| link)
    }

    /// A link of another shape, judged.
    pub fn shaped(addressing: Addressing, shape: impl FnOnce(LinkBuilder<'_>) -> LinkBuilder<'_>) -> Scene {
        let mut scene = Scene::of(addressing, shape);
        scene.wire = Some(Wire::watch(&scene.peer, &scene.link, scene.ip(), scene.link.mtu_bytes()));
        scene
    }

    /// A link with a forwarder, which does what [`Link::impair`] says and captures too: judged.
    pub fn forwarded(addressing: Addressing) -> Scene {
        let mut scene = Scene::laid(addressing, |link| link);
        scene.wire = Some(Wire::tap(&scene.link, scene.ip(), scene.link.mtu_bytes()));
        scene.may_repeat("the forwarder loses, repeats and reorders")
    }

    /// Nobody watches: for a test of times without a packet, which a capture would only disturb, and where the interface goes while there
    /// is traffic, with which a capture loses what it had.
    pub fn unjudged(addressing: Addressing) -> Scene {
        Scene::of(addressing, |link| link)
    }

    /// The link, or who receives from it, may lose, repeat or reorder, and this is why.
    pub fn may_repeat(mut self, why: &'static str) -> Scene {
        self.wire = self.wire.map(|wire| wire.may_repeat(why));
        self
    }

    /// The same of what passes between the programs of `host` alone.
    pub fn loopback_may_repeat(mut self, why: &'static str) -> Scene {
        self.loopback = self.loopback.map(|wire| wire.may_repeat(why));
        self
    }

    /// Nothing need pass on the link; otherwise an empty capture is a fault.
    pub fn may_be_empty(mut self) -> Scene {
        self.wire = self.wire.map(Wire::may_be_empty);
        self
    }

    /// What the engine's port says to other programs of its host is judged too.
    pub fn with_loopback(mut self, port: u16) -> Scene {
        self.loopback = Some(Wire::watch_loopback(&self.host, self.at(port), self.link.mtu_bytes()));
        self.may_be_empty()
    }

    fn of(addressing: Addressing, shape: impl FnOnce(LinkBuilder<'_>) -> LinkBuilder<'_>) -> Scene {
        Scene::laid(addressing, |link| shape(link.direct()))
    }

    fn laid(addressing: Addressing, shape: impl FnOnce(LinkBuilder<'_>) -> LinkBuilder<'_>) -> Scene {
        let lab = Lab::new().expect("a lab");
        let (host, peer) = (lab.node("host").expect("a node"), lab.node("peer").expect("a node"));
        let link = shape(lab.link(&host, &peer)).up().expect("a link");
        Scene { wire: None, loopback: None, host, peer, link, addressing, lab }
    }

    /// The interface as the engine is to use it.
    pub fn interface(&self) -> Interface {
        let interface = Interface::new(self.link.name(&self.host));
        match self.addressing {
            Addressing::Shared => interface,
            Addressing::Dedicated => {
                let address = format!("{}/{}", self.ip(), self.link.prefix_len());
                interface.address(address.parse().expect("an address of the link"))
            }
        }
    }

    /// An engine in the node `host`, to be refined.
    pub fn builder(&self) -> EngineBuilder {
        let netns = self.host.netns().try_clone_to_owned().expect("a descriptor");
        Engine::builder().netns(netns).interface(self.interface()).max_connections(8192)
    }

    /// The engine of [`Scene::builder`].
    pub fn engine(&self) -> Engine {
        self.builder().start().expect("the engine starts")
    }

    /// The engine's address.
    pub fn ip(&self) -> IpAddr {
        match self.addressing {
            Addressing::Shared => self.link.addr(&self.host),
            Addressing::Dedicated => self.link.spare_addr(&self.host),
        }
    }

    /// A port of the engine's address.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(), port)
    }

    /// The kernel's address at the other end.
    pub fn peer_ip(&self) -> IpAddr {
        self.link.addr(&self.peer)
    }

    /// A port of the kernel's address at the other end.
    pub fn peer_at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.peer_ip(), port)
    }

    /// Pings the engine's address from the peer; ping's own words.
    pub fn ping(&self, count: u32, payload_bytes: usize) -> String {
        let (count, size) = (count.to_string(), payload_bytes.to_string());
        let mut ping = self.peer.command("ping");
        ping.args(["-c", &count, "-i", "0.01", "-W", "2", "-s", &size]).arg(self.ip().to_string());
        let output = ping.output().expect("ping is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
