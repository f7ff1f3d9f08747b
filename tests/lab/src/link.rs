//! A link between two nodes, with an address at either end.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_route::link::State;
use ringwire_frame::Plug;

use crate::cable::{Cable, MemorySocket, PacketLayer};
use crate::capture::Capture;
use crate::error::{LabError, Step};
use crate::forward::{Lateness, Wire, new_pool};
use crate::guard::Guard;
use crate::impair::{Counters, Impairment};
use crate::node::{Node, Place};
use crate::raw::RawPort;

/// A link is usable a few milliseconds after both ends are up; this is far beyond any of that.
const CARRIER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the ends of a link may leave undone because no wire is involved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offloads {
    /// Every packet crosses as it would cross a wire: checksum computed, at most MTU-sized, and the
    /// kernel's TCP builds one segment at a time.
    #[default]
    Off,
    /// Linux's defaults: unfinished checksums, and segments of up to 64 KiB.
    On,
}

/// Whether a cable carries a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The cable is in.
    Up,
    /// The cable is out.
    Down,
}

/// One end of a link.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) node: Node,
    pub(crate) ifname: String,
    pub(crate) ifindex: u32,
    /// The forwarder's ends have none.
    pub(crate) addr: Option<Ipv4Addr>,
    pub(crate) addr6: Option<Ipv6Addr>,
    pub(crate) mac: [u8; 6],
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of node '{}'", self.ifname, self.node.name())
    }
}

/// A cable between two nodes.
///
/// Methods that take a node panic if it is not at one of the link's ends.
#[derive(Debug)]
pub struct Link {
    // Before the interfaces: the forwarder reads from them.
    pub(crate) cable: Cable,
    pub(crate) ends: [End; 2],
    /// The forwarder's interfaces, by the node that they lead to.
    pub(crate) far: Option<[End; 2]>,
    pub(crate) mtu_bytes: u32,
    pub(crate) prefix_len: u8,
    /// Takes the interfaces away where their namespace stays.
    pub(crate) _guard: Option<Guard>,
}

impl Link {
    /// The name of the node's interface on this link.
    pub fn name(&self, node: &Node) -> &str {
        &self.end(node).ifname
    }

    /// The index of the node's interface on this link.
    pub fn ifindex(&self, node: &Node) -> u32 {
        self.end(node).ifindex
    }

    /// The address that the node's kernel has on this link.
    pub fn addr(&self, node: &Node) -> IpAddr {
        self.addr_of(node).into()
    }

    /// The IPv6 address that the node's kernel has on this link, if the link was made with
    /// [`LinkBuilder::ipv6`](crate::LinkBuilder::ipv6) or [`LinkBuilder::addrs6`](crate::LinkBuilder::addrs6).
    pub fn addr6(&self, node: &Node) -> Option<Ipv6Addr> {
        self.end(node).addr6
    }

    /// An address on this link that no kernel has, for a stack of the node's own; one per node.
    pub fn spare_addr(&self, node: &Node) -> IpAddr {
        let [a, b, c, host] = self.addr_of(node).octets();
        Ipv4Addr::new(a, b, c, 100 + host).into()
    }

    fn addr_of(&self, node: &Node) -> Ipv4Addr {
        self.end(node).addr.unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// Length of the network prefix that the addresses of this link share, in bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// The longest IP packet that it takes, in bytes.
    pub fn mtu_bytes(&self) -> usize {
        self.mtu_bytes as usize
    }

    /// The hardware address of the node's interface on this link.
    pub fn mac(&self, node: &Node) -> [u8; 6] {
        self.end(node).mac
    }

    /// What carries its packets.
    pub fn packet_layer(&self) -> PacketLayer {
        self.cable.layer()
    }

    /// Why that is not what [`LinkBuilder::packet_layer`](crate::LinkBuilder::packet_layer) asked for.
    pub fn packet_layer_refusal(&self) -> Option<&LabError> {
        self.cable.layer_refusal()
    }

    /// Takes the carrier from the node's interface, or gives it back.
    ///
    /// The interface itself stays up and loses its signal, as when the far side is switched off, which is also how it is
    /// done. On a direct link the far side is the other node's interface, whose kernel forgets its neighbours and all routes
    /// but the link's own.
    pub fn set_carrier(&self, node: &Node, carrier: Carrier) -> Result<(), LabError> {
        let side = self.side(node);
        if node.place() == Place::Nowhere {
            let what = format!("the link of node '{}' is memory and has no carrier", node.name());
            return Err(LabError::misuse(what, "partition() stops all packets"));
        }
        let (near, far) = match &self.far {
            Some(far) => (&self.ends[side], &far[side]),
            None => (&self.ends[side], &self.ends[1 - side]),
        };
        let up = carrier == Carrier::Up;
        far.node
            .route(|route| route.set_up(far.ifindex, up))
            .step(|| format!("cannot set the carrier of node '{}'", node.name()))?;
        if up { [near, far].into_iter().try_for_each(await_carrier) } else { Ok(()) }
    }

    /// Impairs what travels towards `towards` from now on, whatever impairment there was before.
    ///
    /// Works while packets cross; those that are being delayed keep their time. [`Impairment::default()`] does nothing but
    /// count. Packets are numbered anew from 0 and the counters of this direction start again at zero.
    ///
    /// # Errors
    /// The impairment makes no sense, or the link is [direct](crate::LinkBuilder::direct) and can only lose packets, or there
    /// BPF may not be loaded.
    pub fn impair(&self, towards: &Node, impairment: Impairment) -> Result<(), LabError> {
        impairment.check()?;
        self.cable.impair(&self.ends, self.side(towards), impairment)
    }

    /// Cuts the link in both directions; `impair` with anything else mends it.
    ///
    /// # Errors
    /// As [`Link::impair`].
    pub fn partition(&self) -> Result<(), LabError> {
        self.ends.iter().try_for_each(|end| self.impair(&end.node, Impairment::default().partition()))
    }

    /// What the impairment towards this node has done since it was set.
    ///
    /// # Errors
    /// The forwarder or the program cannot be asked.
    pub fn counters(&self, towards: &Node) -> Result<Counters, LabError> {
        self.cable
            .counters(&self.ends, self.side(towards))
            .step(|| format!("cannot read the counters of the link towards '{}'", towards.name()))
    }

    /// How late packets towards this node left since its impairment was set; a test that stands on times may bound it.
    ///
    /// # Errors
    /// The link is direct: nobody measures there.
    pub fn lateness(&self, towards: &Node) -> Result<Lateness, LabError> {
        self.cable.lateness(self.side(towards))
    }

    /// Writes every packet of both directions to a pcapng file, as it came from its node; what was done to it instead of
    /// passing it on is its comment.
    ///
    /// Without that, a test that panics leaves the last packets of each link behind and prints where.
    ///
    /// # Errors
    /// The file cannot be made, or the link is direct.
    pub fn capture(&self, path: impl AsRef<Path>) -> Result<Capture, LabError> {
        self.cable.capture(path.as_ref())
    }

    pub(crate) fn raw(&self, node: &Node) -> Result<RawPort, LabError> {
        /// As many as a script could mean to leave unread.
        const FRAMES: u32 = 2048;
        let end = self.end(node);
        let pool = new_pool(self.mtu_bytes, FRAMES);
        let wire = match node.place() {
            Place::Nowhere => Wire::memory(self.socket(node).plug(Plug::new(&pool))?)
                .step(|| format!("cannot open {end} for raw packets"))?,
            _ => Wire::packet(end, self.mtu_bytes, true, None, &pool)?,
        };
        Ok(RawPort::new(wire, pool, end.mac, self.spare_addr(node)))
    }

    /// The node's end of a link in memory.
    pub(crate) fn socket(&self, node: &Node) -> MemorySocket {
        self.cable.socket(node.name(), self.side(node))
    }

    fn end(&self, node: &Node) -> &End {
        &self.ends[self.side(node)]
    }

    fn side(&self, node: &Node) -> usize {
        self.ends
            .iter()
            .position(|end| end.node == *node)
            .unwrap_or_else(|| panic!("node '{}' is not at this link", node.name()))
    }
}

/// The kernel starts a queue some time after the carrier came: wait for that, or first packets are lost.
pub(crate) fn await_carrier(end: &End) -> Result<(), LabError> {
    let deadline = Instant::now() + CARRIER_TIMEOUT;
    loop {
        let (_, state) = end
            .node
            .route(|route| route.link(&end.ifname))
            .step(|| format!("cannot read the state of {end}"))?;
        if state == State::Up {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let what = format!("{end} stays {state:?} though both ends are up");
            return Err(LabError::misuse(what, "the machine is overloaded, or the kernel's log says more"));
        }
        thread::sleep(Duration::from_micros(200));
    }
}
