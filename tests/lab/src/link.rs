//! A link: a veth pair between two nodes, with an address at either end.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo,
    LinkMessage, State,
};

use crate::error::{LabError, Step};
use crate::impair::{Counters, Impairment, Injector};
use crate::node::Node;
use crate::sys::{self, Offload};

/// A link is usable a few milliseconds after both ends are up; this is far beyond any of that.
const CARRIER_TIMEOUT: Duration = Duration::from_secs(5);

const PREFIX_LEN: u8 = 24;

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

/// Builds a link; made by [`Lab::link`](crate::Lab::link).
#[derive(Debug)]
#[must_use = "a link exists once `up` has returned it"]
pub struct LinkBuilder<'l> {
    number: u16,
    nodes: [&'l Node; 2],
    queues: u32,
    mtu_bytes: u32,
    offloads: Offloads,
}

impl<'l> LinkBuilder<'l> {
    pub(crate) fn new(number: u16, a: &'l Node, b: &'l Node) -> LinkBuilder<'l> {
        LinkBuilder { number, nodes: [a, b], queues: 1, mtu_bytes: 1500, offloads: Offloads::Off }
    }

    /// Receive and transmit queues of either end; 1 by default.
    pub fn queues(mut self, count: u32) -> Self {
        self.queues = count;
        self
    }

    /// MTU of either end, in bytes; 1500 by default.
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu_bytes = bytes;
        self
    }

    /// Offloads of either end; off by default.
    pub fn offloads(mut self, offloads: Offloads) -> Self {
        self.offloads = offloads;
        self
    }

    /// Makes the link, gives it its addresses and returns when packets can cross it.
    ///
    /// No end has an IPv6 address or sends anything of its own accord.
    pub fn up(self) -> Result<Link, LabError> {
        if self.nodes[0] == self.nodes[1] {
            let what = format!("both ends of a link are node '{}'", self.nodes[0].name());
            return Err(LabError::misuse(what, "a link joins two nodes; make another one with Lab::node"));
        }
        let ends = [self.plan(0), self.plan(1)];
        self.create(&ends).step(|| {
            format!("cannot make the link from '{}' to '{}'", ends[0].node.name(), ends[1].node.name())
        })?;
        let [a, b] = ends;
        let ends = [self.configure(a)?, self.configure(b)?];
        for end in &ends {
            let fault = || format!("cannot bring up {end}");
            end.node.route(|route| route.set_up(end.ifindex, true)).step(fault)?;
        }
        ends.iter().try_for_each(await_carrier)?;
        Ok(Link { ends, injectors: Default::default() })
    }

    fn plan(&self, side: usize) -> End {
        let [network_high, network_low] = self.number.to_be_bytes();
        let host = if side == 0 { 1 } else { 2 };
        End {
            node: self.nodes[side].clone(),
            ifname: self.nodes[side].next_ifname(),
            ifindex: 0,
            addr: Ipv4Addr::new(10, 77_u8.wrapping_add(network_high), network_low, host),
            // Locally administered, and the same in every run.
            mac: [0x02, 0x52, 0x57, network_high, network_low, host],
        }
    }

    /// One request makes the pair and puts the second end into its node.
    fn create(&self, ends: &[End; 2]) -> io::Result<()> {
        let [a, b] = ends;
        let mut peer = LinkMessage::default();
        peer.attributes = self.attributes(b);
        peer.attributes.push(LinkAttribute::NetNsFd(b.node.netns().as_raw_fd()));
        let mut attributes = self.attributes(a);
        attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        a.node.route(|route| route.new_link(attributes))
    }

    fn attributes(&self, end: &End) -> Vec<LinkAttribute> {
        let mut attributes = vec![
            LinkAttribute::IfName(end.ifname.clone()),
            LinkAttribute::Address(end.mac.to_vec()),
            LinkAttribute::Mtu(self.mtu_bytes),
            LinkAttribute::NumTxQueues(self.queues),
            LinkAttribute::NumRxQueues(self.queues),
        ];
        if self.offloads == Offloads::Off {
            // Linux's TCP builds large segments whatever the device can do, and cuts them only after
            // the hook where an impairment counts packets.
            attributes.push(LinkAttribute::GsoMaxSegs(1));
        }
        attributes
    }

    fn configure(&self, mut end: End) -> Result<End, LabError> {
        let set = |end: &mut End| {
            let node = end.node.clone();
            node.route(|route| {
                end.ifindex = route.link(&end.ifname)?.0;
                route.add_addr(end.ifindex, end.addr, PREFIX_LEN)?;
                // Without a link-local address the kernel sends no neighbour or router
                // solicitations, which would disturb packet counts.
                let quiet = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
                let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![quiet])]);
                match route.set_link(end.ifindex, vec![spec]) {
                    // A kernel without IPv6 is as quiet as can be.
                    Err(cause) if cause.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
                    other => other,
                }
            })?;
            match self.offloads {
                Offloads::Off => switch_offloads_off(end),
                Offloads::On => Ok(()),
            }
        };
        set(&mut end).step(|| format!("cannot configure {end}"))?;
        Ok(end)
    }
}

fn switch_offloads_off(end: &End) -> io::Result<()> {
    // Any socket of the node will do; the request names the interface.
    let socket = end.node.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    use Offload::{GenericReceive, GenericSegmentation, TcpSegmentation, TransmitChecksum};
    [TransmitChecksum, TcpSegmentation, GenericSegmentation, GenericReceive]
        .into_iter()
        .try_for_each(|offload| sys::set_offload(socket.as_fd(), &end.ifname, offload, false))
}

/// The kernel starts a queue some time after the carrier came: wait for that, or first packets are lost.
fn await_carrier(end: &End) -> Result<(), LabError> {
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

/// One end of a link.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) node: Node,
    pub(crate) ifname: String,
    pub(crate) ifindex: u32,
    addr: Ipv4Addr,
    mac: [u8; 6],
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
    ends: [End; 2],
    /// By the index of the end towards which packets travel; made when first asked for.
    injectors: [Mutex<Option<Injector>>; 2],
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
        self.end(node).addr.into()
    }

    /// An address on this link that no kernel has, for a stack of the node's own; one per node.
    pub fn spare_addr(&self, node: &Node) -> IpAddr {
        let [a, b, c, host] = self.end(node).addr.octets();
        Ipv4Addr::new(a, b, c, 100 + host).into()
    }

    /// Length of the network prefix that the addresses of this link share, in bits.
    pub fn prefix_len(&self) -> u8 {
        PREFIX_LEN
    }

    /// The hardware address of the node's interface on this link.
    pub fn mac(&self, node: &Node) -> [u8; 6] {
        self.end(node).mac
    }

    /// Takes the carrier from the node's interface, or gives it back.
    ///
    /// The interface itself stays up and loses its signal, as when the far side is switched off,
    /// which is also how it is done: the far end goes down, and its kernel forgets its neighbours
    /// and all routes but the link's own.
    pub fn set_carrier(&self, node: &Node, carrier: Carrier) -> Result<(), LabError> {
        let far = &self.ends[1 - self.side(node)];
        let up = carrier == Carrier::Up;
        far.node
            .route(|route| route.set_up(far.ifindex, up))
            .step(|| format!("cannot set the carrier of node '{}'", node.name()))?;
        if up { self.ends.iter().try_for_each(await_carrier) } else { Ok(()) }
    }

    /// Impairs what travels towards `towards` from now on, whatever impairment there was before.
    ///
    /// With [`Offloads::On`] a packet is what the kernel hands over as one, up to 64 KiB.
    /// [`Impairment::default()`] loses nothing and only counts. Packets are numbered anew from 0 and
    /// the counters of this direction start again at zero.
    ///
    /// # Errors
    /// The first call per direction loads a program, which needs CAP_BPF, and tc with cls_bpf.
    pub fn impair(&self, towards: &Node, impairment: Impairment) -> Result<(), LabError> {
        let to = self.side(towards);
        let mut slot = self.injectors[to].lock().unwrap_or_else(PoisonError::into_inner);
        let what = || format!("cannot impair the link towards node '{}'", towards.name());
        match &*slot {
            Some(injector) => injector.set(impairment).step(what),
            None => {
                *slot = Some(Injector::attach(&self.ends[1 - to], &self.ends[to], impairment).step(what)?);
                Ok(())
            }
        }
    }

    /// What the impairment towards this node has done since it was set; zeros if none was.
    pub fn counters(&self, towards: &Node) -> Result<Counters, LabError> {
        let slot = self.injectors[self.side(towards)].lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(injector) => injector
                .counters()
                .step(|| format!("cannot read the counters of the link towards '{}'", towards.name())),
            None => Ok(Counters::default()),
        }
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
