//! Which interface leads where, asked of the kernel through netlink (never /sys or /proc/net, which show
//! the wrong namespace after setns).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::{AddressFamily, SocketType, connect, getsockname, socket};

/// An address that only a default route leads to (RFC 5737: nobody's network).
pub(crate) const FAR_AWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// One interface as rtnetlink describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) is_up: bool,
    pub(crate) has_carrier: bool,
    pub(crate) is_loopback: bool,
    pub(crate) mtu: u32,
    /// Made with; [`Interface::look_closer`]: used.
    pub(crate) rx_queues: u32,
    /// `veth`, `vlan`, `bond`; absent for most hardware.
    pub(crate) kind: Option<String>,
    /// The id of the XDP program that sits there.
    pub(crate) xdp_program: Option<u32>,
    /// Its name, id and holder in words.
    pub(crate) xdp_incumbent: Option<String>,
    pub(crate) addresses: Vec<(Ipv4Addr, u8)>,
}

impl Interface {
    /// Asks what the list of interfaces does not say: the queues in use, and whose program it is. What the kernel does not tell stays.
    pub(crate) fn look_closer(mut self) -> Interface {
        self.rx_queues = ringwire::Interface::new(&self.name).rx_queue_count().unwrap_or(self.rx_queues);
        let incumbent = ringwire_bpf::incumbent(self.index).ok().flatten();
        self.xdp_incumbent = incumbent.map(|incumbent| incumbent.to_string());
        self
    }
}

/// All interfaces of this network namespace.
pub(crate) fn interfaces() -> io::Result<Vec<Interface>> {
    let mut netlink = Netlink::open()?;
    let mut found = Vec::new();
    for message in netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))? {
        if let RouteNetlinkMessage::NewLink(link) = message {
            found.push(interface_of(&link));
        }
    }
    for message in netlink.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
        let RouteNetlinkMessage::NewAddress(address) = message else { continue };
        let Some(interface) = found.iter_mut().find(|interface| interface.index == address.header.index)
        else {
            continue;
        };
        interface.addresses.extend(local_address(&address).map(|local| (local, address.header.prefix_len)));
    }
    Ok(found)
}

/// The interface whose address the kernel would use towards `peer`.
pub(crate) fn towards(peer: Ipv4Addr) -> io::Result<Option<Interface>> {
    // Connecting a UDP socket sends nothing; it only looks up the route.
    const ANY_PORT: u16 = 9;
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    connect(&socket, &SocketAddrV4::new(peer, ANY_PORT))?;
    let local = std::net::SocketAddr::try_from(getsockname(&socket)?)?;
    Ok(interfaces()?.into_iter().find(|interface| holds(interface, local.ip())))
}

fn holds(interface: &Interface, address: IpAddr) -> bool {
    interface.addresses.iter().any(|(own, _)| IpAddr::V4(*own) == address)
}

fn local_address(message: &AddressMessage) -> Option<Ipv4Addr> {
    let own = |attribute: &AddressAttribute| match attribute {
        // On a point-to-point link `Address` is the other end's.
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    };
    message.attributes.iter().find_map(own)
}

fn interface_of(link: &LinkMessage) -> Interface {
    let flags = link.header.flags;
    let mut interface = Interface {
        index: link.header.index,
        is_up: flags.contains(LinkFlags::Up),
        has_carrier: flags.contains(LinkFlags::LowerUp),
        is_loopback: flags.contains(LinkFlags::Loopback),
        ..Interface::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::NumRxQueues(count) => interface.rx_queues = *count,
            LinkAttribute::LinkInfo(infos) => interface.kind = infos.iter().find_map(kind_of),
            LinkAttribute::Xdp(infos) => interface.xdp_program = infos.iter().find_map(program_of),
            _ => {}
        }
    }
    interface
}

fn kind_of(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Veth) => Some("veth".to_owned()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

fn program_of(info: &LinkXdp) -> Option<u32> {
    match info {
        LinkXdp::ProgId(id) if *id != 0 => Some(*id),
        _ => None,
    }
}

struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    fn dump(&mut self, request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if self.read(&datagram, &mut answers)? == More::No {
                return Ok(answers);
            }
        }
    }

    /// One datagram holds several messages, each padded to four bytes.
    fn read(&self, mut datagram: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<More> {
        while !datagram.is_empty() {
            let message =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram).map_err(io::Error::other)?;
            let len = (message.header.length as usize).next_multiple_of(4).clamp(4, datagram.len());
            datagram = &datagram[len..];
            if message.header.sequence_number != self.sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Done(_) => return Ok(More::No),
                _ => {}
            }
        }
        Ok(More::Yes)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    Yes,
    No,
}
