//! Building a link: what it shall be like, and the steps that make it so.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo,
    LinkMessage,
};

use crate::cable::{self, Cable, PacketLayer};
use crate::error::{LabError, Step};
use crate::guard::Guard;
use crate::lab::Between;
use crate::level::Level;
use crate::link::{End, Link, Offloads, await_carrier};
use crate::node::{Node, Place};
use crate::sys::{self, Offload};

const PREFIX_LEN: u8 = 24;
const PREFIX6_LEN: u8 = 64;
const MAX_QUEUES: u32 = 256;

/// Builds a link; made by [`Lab::link`](crate::Lab::link).
#[derive(Debug)]
#[must_use = "a link exists once `up` has returned it"]
pub struct LinkBuilder<'l> {
    number: u16,
    network: [u8; 3],
    nodes: [&'l Node; 2],
    queues: u32,
    mtu_bytes: u32,
    offloads: Offloads,
    is_direct: bool,
    prefix_len: u8,
    by_hand: Option<[Ipv4Addr; 2]>,
    has_ipv6: bool,
    by_hand6: Option<[Ipv6Addr; 2]>,
    prefix6_len: u8,
    layer: Option<PacketLayer>,
    between: &'l Between,
}

impl<'l> LinkBuilder<'l> {
    pub(crate) fn new(number: u16, a: &'l Node, b: &'l Node, between: &'l Between) -> LinkBuilder<'l> {
        let [network_high, network_low] = number.to_be_bytes();
        let network = match between.level {
            Level::OneNamespace => shared_network(),
            _ => [10, 77_u8.wrapping_add(network_high), network_low],
        };
        LinkBuilder {
            number,
            network,
            nodes: [a, b],
            queues: 1,
            mtu_bytes: 1500,
            offloads: Offloads::Off,
            is_direct: false,
            prefix_len: PREFIX_LEN,
            by_hand: None,
            has_ipv6: false,
            by_hand6: None,
            prefix6_len: PREFIX6_LEN,
            layer: None,
            between,
        }
    }

    /// A plain veth pair: as fast as the machine, and with [`Offloads::On`] if so asked, but nothing can be done to its packets
    /// except to lose them ([`Impairment::loss`](crate::Impairment::loss)), and that only where BPF may be loaded.
    pub fn direct(mut self) -> Self {
        self.is_direct = true;
        self
    }

    /// Receive and transmit queues of either end; 1 by default.
    pub fn queues(mut self, count: u32) -> Self {
        self.queues = count;
        self
    }

    /// These IPv4 addresses instead of the lab's own choice; `Ipv4Addr::UNSPECIFIED` leaves a node without.
    pub fn addrs(mut self, a: Ipv4Addr, b: Ipv4Addr, prefix_len: u8) -> Self {
        self.by_hand = Some([a, b]);
        self.prefix_len = prefix_len;
        self
    }

    /// IPv6 addresses, too: [`Link::addr6`]. They work at once, without duplicate address detection.
    pub fn ipv6(mut self) -> Self {
        self.has_ipv6 = true;
        self
    }

    /// These IPv6 addresses instead of the lab's own choice, as [`LinkBuilder::ipv6`] gives them; `Ipv6Addr::UNSPECIFIED` leaves a
    /// node without.
    pub fn addrs6(mut self, a: Ipv6Addr, b: Ipv6Addr, prefix_len: u8) -> Self {
        self.by_hand6 = Some([a, b]);
        self.prefix6_len = prefix_len;
        self
    }

    /// What the forwarder shall stand on, [`PacketLayer::Packet`] or [`PacketLayer::Xdp`]; the first by default. Where AF_XDP
    /// cannot be had it is AF_PACKET: [`Link::packet_layer`] says what it is, and [`Link::packet_layer_refusal`] why.
    pub fn packet_layer(mut self, layer: PacketLayer) -> Self {
        self.layer = Some(layer);
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
        self.check()?;
        let ends = [self.plan(0), self.plan(1)];
        if self.between.level == Level::Memory {
            let names = ends.each_ref().map(|end| end.node.name().to_owned());
            let cable = Cable::memory(names, self.mtu_bytes)?;
            return Ok(Link {
                cable,
                ends,
                far: None,
                mtu_bytes: self.mtu_bytes,
                prefix_len: self.prefix_len,
                _guard: None,
            });
        }
        let guard = self.guard(&ends)?;
        if self.is_direct {
            let ends = self.pair(ends)?;
            return Ok(Link {
                cable: Cable::direct(),
                ends,
                far: None,
                mtu_bytes: self.mtu_bytes,
                prefix_len: self.prefix_len,
                _guard: guard,
            });
        }
        let [a, b] = ends;
        let far = [self.plan_far(0)?, self.plan_far(1)?];
        let [far_a, far_b] = far;
        let ([a, far_a], [b, far_b]) = (self.pair([a, far_a])?, self.pair([b, far_b])?);
        let shape = cable::Shape {
            mtu_bytes: self.mtu_bytes,
            queues: self.queues,
            layer: self.layer.unwrap_or(PacketLayer::Packet),
        };
        let cable = Cable::forwarded([&a, &b], [&far_a, &far_b], shape)?;
        Ok(Link {
            cable,
            ends: [a, b],
            far: Some([far_a, far_b]),
            mtu_bytes: self.mtu_bytes,
            prefix_len: self.prefix_len,
            _guard: guard,
        })
    }

    fn check(&self) -> Result<(), LabError> {
        let names = || format!("the link from '{}' to '{}'", self.nodes[0].name(), self.nodes[1].name());
        if !self.is_direct && self.offloads == Offloads::On {
            let hint = "add .direct(): packets of 64 KiB cannot be delayed or lost like those of a wire";
            return Err(LabError::misuse(format!("{} wants offloads", names()), hint));
        }
        match self.layer {
            Some(layer) if self.is_direct => {
                let hint = "leave .direct() or .packet_layer(..) out";
                return Err(LabError::misuse(format!("{} is direct and wants {layer:?}", names()), hint));
            }
            Some(layer @ (PacketLayer::Memory | PacketLayer::Direct)) => {
                let hint = "Packet or Xdp; the lab's level decides about memory, .direct() about direct";
                return Err(LabError::misuse(format!("{} wants layer {layer:?}", names()), hint));
            }
            Some(PacketLayer::Packet | PacketLayer::Xdp) | None => {}
        }
        if !(68..=65_535).contains(&self.mtu_bytes) {
            let what = format!("{} wants an MTU of {} bytes", names(), self.mtu_bytes);
            return Err(LabError::misuse(what, "68 to 65535 bytes"));
        }
        if !(1..=MAX_QUEUES).contains(&self.queues) {
            let what = format!("{} wants {} queues", names(), self.queues);
            return Err(LabError::misuse(what, "1 to 256 queues"));
        }
        Ok(())
    }

    /// Interfaces in a namespace that outlives the lab must be taken away again.
    fn guard(&self, ends: &[End; 2]) -> Result<Option<Guard>, LabError> {
        let lasts = |end: &&End| end.node.place() != Place::Own;
        // A pair goes with either of its ends, and a forwarder's are in a namespace of the lab wherever there may be one.
        let is_lasting = match self.is_direct {
            true => ends.iter().all(|end| lasts(&end)),
            false => self.between.level == Level::OneNamespace,
        };
        let Some(end) = ends.iter().find(lasts).filter(|_| is_lasting) else { return Ok(None) };
        let names: Vec<&str> =
            ends.iter().filter(|end| end.node.place() != Place::Own).map(|end| end.ifname.as_str()).collect();
        let guard = Guard::interfaces(&end.node, &names);
        guard.map(Some).step(|| format!("cannot guard {end}, which must not outlive this process"))
    }

    /// A veth pair, up and with a signal.
    fn pair(&self, ends: [End; 2]) -> Result<[End; 2], LabError> {
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
        Ok(ends)
    }

    /// The forwarder's interface towards one of the nodes; no kernel speaks there.
    fn plan_far(&self, side: usize) -> Result<End, LabError> {
        let node = self.between.node()?;
        let near = self.plan_mac(side);
        Ok(End {
            ifname: node.next_ifname(),
            node,
            ifindex: 0,
            addr: None,
            addr6: None,
            mac: [near[0], near[1], near[2], near[3], near[4], near[5] | 0x80],
        })
    }

    fn plan(&self, side: usize) -> End {
        let host = if side == 0 { 1 } else { 2 };
        End {
            node: self.nodes[side].clone(),
            ifname: self.nodes[side].next_ifname(),
            ifindex: 0,
            addr: Some(match self.by_hand {
                Some(addrs) => addrs[side],
                None => Ipv4Addr::new(self.network[0], self.network[1], self.network[2], host),
            }),
            addr6: match self.by_hand6 {
                Some(addrs) => Some(addrs[side]).filter(|addr| !addr.is_unspecified()),
                None => self.has_ipv6.then(|| self.addr6(host)),
            },
            mac: self.plan_mac(side),
        }
    }

    /// Unique local (RFC 4193), and of the same numbers as the IPv4 address.
    fn addr6(&self, host: u8) -> Ipv6Addr {
        let [a, b, c] = self.network.map(u16::from);
        Ipv6Addr::new(0xfd52, 0x5700, a, b << 8 | c, 0, 0, 0, u16::from(host))
    }

    /// Locally administered, and the same in every run.
    fn plan_mac(&self, side: usize) -> [u8; 6] {
        let [network_high, network_low] = self.number.to_be_bytes();
        [0x02, 0x52, 0x57, network_high, network_low, if side == 0 { 1 } else { 2 }]
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
            let (node, has_kernel) = (end.node.clone(), end.node.place().has_kernel());
            node.route(|route| {
                end.ifindex = route.link(&end.ifname)?.0;
                if let Some(addr) = end.addr.filter(|addr| has_kernel && !addr.is_unspecified()) {
                    route.add_addr(end.ifindex, addr.into(), self.prefix_len)?;
                }
                if end.node.place() == Place::Far {
                    // This kernel has the address at the other end, and must not answer for it here.
                    route.be_mute(end.ifindex)?;
                }
                // Without a link-local address the kernel sends no neighbour or router
                // solicitations, which would disturb packet counts.
                let quiet = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
                let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![quiet])]);
                match route.set_link(end.ifindex, vec![spec]) {
                    // A kernel without IPv6 is as quiet as can be.
                    Err(cause) if cause.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                    other => other?,
                }
                if let Some(addr) = end.addr6.filter(|_| has_kernel) {
                    // A router asks for its neighbours from a link-local address, or not at all.
                    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(end.mac[5]));
                    route.add_addr(end.ifindex, addr.into(), self.prefix6_len)?;
                    if addr != link_local {
                        route.add_addr(end.ifindex, link_local.into(), PREFIX6_LEN)?;
                    }
                }
                Ok(())
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

/// The next network of this process, among those set apart for benchmarks (RFC 2544): the host's own routes are elsewhere, and
/// labs of other processes begin at another of the 512.
fn shared_network() -> [u8; 3] {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        let random = RandomState::new().hash_one(std::process::id());
        AtomicU16::new((random & 0xffff) as u16)
    });
    // Relaxed: only uniqueness matters.
    let [high, low] = next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    [198, 18 | high & 1, low]
}

fn switch_offloads_off(end: &End) -> io::Result<()> {
    // Any socket of the node will do; the request names the interface.
    let socket = end.node.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    use Offload::{GenericReceive, GenericSegmentation, TcpSegmentation, TransmitChecksum, VlanTags};
    [TransmitChecksum, TcpSegmentation, GenericSegmentation, GenericReceive, VlanTags]
        .into_iter()
        .try_for_each(|offload| sys::set_offload(socket.as_fd(), &end.ifname, offload, false))
}
