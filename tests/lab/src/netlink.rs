//! One rtnetlink socket: a request goes out, its acknowledgement or answer comes back.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// On which side of an interface a classifier sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Ingress,
    Egress,
}

fn family(addr: IpAddr) -> AddressFamily {
    match addr {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// An rtnetlink socket; it speaks for the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Route {
    socket: Socket,
}

impl Route {
    pub(crate) fn open() -> io::Result<Route> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Route { socket })
    }

    /// Creates a link from its attributes.
    pub(crate) fn new_link(&mut self, attributes: Vec<LinkAttribute>) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = attributes;
        self.create(RouteNetlinkMessage::NewLink(message))
    }

    /// Changes attributes of an existing link.
    pub(crate) fn set_link(&mut self, ifindex: u32, attributes: Vec<LinkAttribute>) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes = attributes;
        self.request(RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    pub(crate) fn set_up(&mut self, ifindex: u32, up: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    /// Neither asks nor answers ARP by this interface.
    pub(crate) fn be_mute(&mut self, ifindex: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.flags = LinkFlags::Noarp;
        message.header.change_mask = LinkFlags::Noarp;
        self.request(RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    /// Interface index and operational state of the link with this name.
    pub(crate) fn link(&mut self, ifname: &str) -> io::Result<(u32, State)> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(ifname.into()));
        let answer = self.request(RouteNetlinkMessage::GetLink(message), 0)?;
        let Some(RouteNetlinkMessage::NewLink(link)) = answer else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let state = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::OperState(state) => Some(*state),
            _ => None,
        });
        Ok((link.header.index, state.unwrap_or(State::Unknown)))
    }

    /// Packets that the interface's driver could not hand over.
    pub(crate) fn tx_dropped(&mut self, ifindex: u32) -> io::Result<u64> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let answer = self.request(RouteNetlinkMessage::GetLink(message), 0)?;
        let Some(RouteNetlinkMessage::NewLink(link)) = answer else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let dropped = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats.tx_dropped),
            _ => None,
        });
        dropped.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// IPv6 addresses are usable at once: nobody else on the link could have them.
    pub(crate) fn add_addr(&mut self, ifindex: u32, addr: IpAddr, prefix_len: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(addr);
        message.header.prefix_len = prefix_len;
        message.header.index = ifindex;
        message.attributes = vec![AddressAttribute::Address(addr), AddressAttribute::Local(addr)];
        if addr.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        self.create(RouteNetlinkMessage::NewAddress(message))
    }

    /// Sends what is for a network by way of a router on one of the links.
    pub(crate) fn add_route(&mut self, (network, prefix_len): (IpAddr, u8), via: IpAddr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(network);
        message.header.destination_prefix_length = prefix_len;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        if prefix_len > 0 {
            message.attributes.push(RouteAttribute::Destination(network.into()));
        }
        message.attributes.push(RouteAttribute::Gateway(via.into()));
        self.create(RouteNetlinkMessage::NewRoute(message))
    }

    /// Gives the interface the place where [`Route::add_classifier`] puts programs.
    pub(crate) fn add_clsact(&mut self, ifindex: u32) -> io::Result<()> {
        let header = TcHeader {
            index: ifindex.cast_signed(),
            handle: TcHandle { major: u16::MAX, minor: 0 },
            parent: TcHandle::CLSACT,
            ..TcHeader::default()
        };
        let message = TcMessage::from_parts(header, vec![TcAttribute::Kind("clsact".into())]);
        self.create(RouteNetlinkMessage::NewQueueDiscipline(message))
    }

    pub(crate) fn add_classifier(
        &mut self,
        ifindex: u32,
        hook: Hook,
        program: BorrowedFd<'_>,
        name: &str,
    ) -> io::Result<()> {
        let minor = match hook {
            Hook::Ingress => TcHandle::MIN_INGRESS,
            Hook::Egress => TcHandle::MIN_EGRESS,
        };
        let header = TcHeader {
            index: ifindex.cast_signed(),
            parent: TcHandle { major: u16::MAX, minor },
            // linux/pkt_cls.h: priority in the high half, the protocol (any) in network order below.
            info: 1 << 16 | u32::from((libc::ETH_P_ALL as u16).to_be()),
            ..TcHeader::default()
        };
        let attributes = vec![
            TcAttribute::Kind(TcFilterBpf::KIND.into()),
            TcAttribute::Options(vec![
                TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned())),
                TcOption::Bpf(TcFilterBpfOption::ProgName(name.into())),
                TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
            ]),
        ];
        let message = TcMessage::from_parts(header, attributes);
        self.create(RouteNetlinkMessage::NewTrafficFilter(message))
    }

    fn create(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.request(message, NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Sends one request and waits for its acknowledgement; returns the answer that came before it.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answer = None;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))?;
                // Messages are padded to 4 bytes; the last one may not be.
                let len = (reply.header.length as usize).next_multiple_of(4).clamp(4, rest.len());
                rest = &rest[len..];
                match reply.payload {
                    NetlinkPayload::InnerMessage(message) => answer = Some(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answer),
                    _ => {}
                }
            }
        }
    }
}
