//! What the kernel knows about links, addresses, routes and neighbours: rtnetlink, and ethtool over generic netlink.
//!
//! A [`Netlink`] asks and waits for the answer; a [`Monitor`] tells what changes. Both belong to the network namespace
//! that they were opened in and work from any thread. Nothing here is on the packet path, and nothing reads /proc/net
//! or /sys, which show the wrong namespace after setns(2) in a thread.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{Emitable, NLM_F_CREATE, ParseableParametrized};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use ethtool::Ethtool;
use socket::{Answers, Socket};

mod decode;
mod ethtool;
mod genetlink;
mod monitor;
mod napi;
pub(super) mod sock_diag;
mod socket;
#[cfg(test)]
mod tests;

pub(crate) use monitor::{Change, Monitor};
pub(crate) use napi::PolledNapis;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// All zeros when the link has no Ethernet address.
    pub(crate) mac: [u8; 6],
    /// Bytes of an IP packet.
    pub(crate) mtu: u32,
    /// Administratively up.
    pub(crate) is_up: bool,
    /// The other end is there.
    pub(crate) has_carrier: bool,
    /// The software kind, such as `veth`, `bond`, `vlan`; none for a real device.
    pub(crate) kind: Option<String>,
    /// Queues in use, where the driver tells its channels; else queues that the device was made with.
    pub(crate) rx_queues: u32,
    pub(crate) tx_queues: u32,
    /// Identifier of the attached XDP program, if any.
    pub(crate) xdp: Option<u32>,
    /// Index of the bridge, bond or VRF that it belongs to.
    pub(crate) master: Option<u32>,
}

/// Where packets to a destination go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Network address and prefix length.
    pub(crate) destination: (IpAddr, u8),
    pub(crate) ifindex: u32,
    /// The next hop; none when the destination is on the link.
    pub(crate) gateway: Option<IpAddr>,
    /// The source address the kernel would take.
    pub(crate) prefsrc: Option<IpAddr>,
    /// Bytes of an IP packet, where the route says less than the link.
    pub(crate) mtu: Option<u32>,
    /// Lower wins between equal prefixes.
    pub(crate) metric: u32,
}

/// An entry of the kernel's neighbour table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) ifindex: u32,
    pub(crate) ip: IpAddr,
    /// None while unresolved, and when the entry was deleted.
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) state: NeighbourState,
}

impl Neighbour {
    /// The address to send to, if the entry may be used now (RFC 4861 7.3.2 names the states).
    pub(crate) fn usable_mac(&self) -> Option<[u8; 6]> {
        match self.state {
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp => self.mac,
            _ => None,
        }
    }
}

/// A blocking request socket.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    /// None where the kernel has no ethtool over netlink.
    ethtool: Option<Ethtool>,
}

impl Netlink {
    /// Opens in the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub(crate) fn open() -> io::Result<Netlink> {
        Ok(Netlink { socket: Socket::open(NETLINK_ROUTE)?, ethtool: Ethtool::open().ok() })
    }

    /// # Errors
    /// `ENODEV` if there is none.
    pub(crate) fn link_by_name(&mut self, name: &str) -> io::Result<Link> {
        let mut wanted = LinkMessage::default();
        wanted.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.link(wanted)
    }

    /// # Errors
    /// `ENODEV` if there is none.
    pub(crate) fn link_by_index(&mut self, ifindex: u32) -> io::Result<Link> {
        let mut wanted = LinkMessage::default();
        wanted.header.index = ifindex;
        self.link(wanted)
    }

    /// All of the namespace; queue counts are those the devices were made with.
    ///
    /// # Errors
    /// Those of the request.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut wanted = LinkMessage::default();
        wanted.attributes.push(skip_statistics());
        self.request(RouteNetlinkMessage::GetLink(wanted), Answers::Dump, |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(decode::link(&link)),
            _ => None,
        })
    }

    /// The addresses of a link with their prefix lengths.
    ///
    /// # Errors
    /// Those of the request.
    pub(crate) fn addresses(&mut self, ifindex: u32) -> io::Result<Vec<(IpAddr, u8)>> {
        let wanted = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.request(wanted, Answers::Dump, |answer| match answer {
            RouteNetlinkMessage::NewAddress(address) if address.header.index == ifindex => {
                decode::address(&address)
            }
            _ => None,
        })
    }

    /// The IPv4 addresses of all links of the namespace.
    ///
    /// # Errors
    /// Those of the request.
    pub(crate) fn local_ipv4(&mut self) -> io::Result<Vec<Ipv4Addr>> {
        let wanted = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.request(wanted, Answers::Dump, |answer| match answer {
            RouteNetlinkMessage::NewAddress(address) => match decode::address(&address)? {
                (IpAddr::V4(address), _) => Some(address),
                (IpAddr::V6(_), _) => None,
            },
            _ => None,
        })
    }

    /// The unicast IPv4 routes of the main table that leave by a link, the best metric first.
    ///
    /// # Errors
    /// Those of the request.
    pub(crate) fn routes(&mut self, ifindex: u32) -> io::Result<Vec<Route>> {
        let mut wanted = RouteMessage::default();
        wanted.header.address_family = AddressFamily::Inet;
        let wanted = RouteNetlinkMessage::GetRoute(wanted);
        let mut routes = self.request(wanted, Answers::Dump, |answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => decode::main_route(&route, ifindex),
            _ => None,
        })?;
        routes.sort_by_key(|route| route.metric);
        Ok(routes)
    }

    /// What the kernel's own lookup says for a destination, policy routing included.
    ///
    /// # Errors
    /// `ENETUNREACH`, `EHOSTUNREACH` or `EACCES` as connect(2) would give.
    pub(crate) fn route_to(&mut self, dst: IpAddr, oif: Option<u32>) -> io::Result<Route> {
        let mut wanted = RouteMessage::default();
        (wanted.header.address_family, wanted.header.destination_prefix_length) = family(dst);
        wanted.attributes.push(RouteAttribute::Destination(dst.into()));
        wanted.attributes.extend(oif.map(RouteAttribute::Oif));
        let found =
            self.request(RouteNetlinkMessage::GetRoute(wanted), Answers::One, |answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => decode::resolved_route(&route, dst),
                _ => None,
            })?;
        found.into_iter().next().ok_or_else(|| io::Error::from_raw_os_error(NO_ROUTE))
    }

    /// The neighbour table of a link, in every state.
    ///
    /// # Errors
    /// Those of the request.
    pub(crate) fn neighbours(&mut self, ifindex: u32) -> io::Result<Vec<Neighbour>> {
        let wanted = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        self.request(wanted, Answers::Dump, |answer| match answer {
            RouteNetlinkMessage::NewNeighbour(neighbour) => {
                decode::neighbour(&neighbour).filter(|neighbour| neighbour.ifindex == ifindex)
            }
            _ => None,
        })
    }

    /// Asks the kernel to resolve a neighbour, or to confirm one that has grown stale.
    ///
    /// Returns at once; the result arrives as [`Change::Neighbour`]. The entry is an ordinary one: it ages and is
    /// collected like any other, so it is asked for again while it is needed.
    ///
    /// # Errors
    /// `ENETDOWN` if the link is down, `ENODEV`, `EPERM` without `CAP_NET_ADMIN`.
    pub(crate) fn ask_neighbour(&mut self, ifindex: u32, ip: IpAddr) -> io::Result<()> {
        let mut wanted = NeighbourMessage::default();
        wanted.header.family = family(ip).0;
        wanted.header.ifindex = ifindex;
        wanted.header.flags = NeighbourFlags::Use;
        let destination = match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        };
        wanted.attributes.push(NeighbourAttribute::Destination(destination));
        let wanted = RouteNetlinkMessage::NewNeighbour(wanted);
        self.request(wanted, Answers::Acknowledgement(NLM_F_CREATE), |_| None::<()>).map(drop)
    }

    fn link(&mut self, mut wanted: LinkMessage) -> io::Result<Link> {
        wanted.attributes.push(skip_statistics());
        let found =
            self.request(RouteNetlinkMessage::GetLink(wanted), Answers::One, |answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(decode::link(&link)),
                _ => None,
            })?;
        let mut link = found.into_iter().next().ok_or_else(|| io::Error::from_raw_os_error(NO_DEVICE))?;
        let channels = self.ethtool.as_mut().and_then(|ethtool| ethtool.channels(link.index));
        if let Some(channels) = channels {
            (link.rx_queues, link.tx_queues) = (channels.rx, channels.tx);
        }
        Ok(link)
    }

    fn request<T>(
        &mut self,
        wanted: RouteNetlinkMessage,
        answers: Answers,
        take: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut body = vec![0; wanted.buffer_len()];
        wanted.emit(&mut body);
        self.socket.request(wanted.message_type(), answers, &body, |kind, body| {
            let message = RouteNetlinkMessage::parse_with_param(body, kind).map_err(invalid)?;
            Ok(take(message))
        })
    }
}

const NO_DEVICE: i32 = rustix::io::Errno::NODEV.raw_os_error();
const NO_ROUTE: i32 = rustix::io::Errno::NETUNREACH.raw_os_error();

fn family(ip: IpAddr) -> (AddressFamily, u8) {
    match ip {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    }
}

/// Kilobytes per link that nobody reads.
fn skip_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn invalid(error: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("netlink answer: {error}"))
}
