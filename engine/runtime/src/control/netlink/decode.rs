//! From netlink's attribute lists to our types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType,
};

use super::{Link, Neighbour, Route};

pub(super) fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        is_up: flags.contains(LinkFlags::Up),
        has_carrier: flags.contains(LinkFlags::LowerUp),
        kind: None,
        rx_queues: 1,
        tx_queues: 1,
        xdp: None,
        master: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(address) => link.mac = mac(address).unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::NumRxQueues(count) => link.rx_queues = *count,
            LinkAttribute::NumTxQueues(count) => link.tx_queues = *count,
            LinkAttribute::Controller(index) => link.master = Some(*index),
            LinkAttribute::Xdp(attributes) => link.xdp = xdp_program(attributes),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

/// With programs in several modes at once the kernel gives only the ids per mode.
fn xdp_program(attributes: &[LinkXdp]) -> Option<u32> {
    attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
            (*id != 0).then_some(*id)
        }
        _ => None,
    })
}

/// The interface's own address; on a point-to-point link `Address` is the peer's.
pub(super) fn address(message: &AddressMessage) -> Option<(IpAddr, u8)> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    Some((local.or(address)?, message.header.prefix_len))
}

pub(super) fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let mut ip = None;
    let mut link_address = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                ip = Some(IpAddr::V4(*address))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                ip = Some(IpAddr::V6(*address))
            }
            NeighbourAttribute::LinkLayerAddress(address) => link_address = mac(address),
            _ => {}
        }
    }
    let (ifindex, state) = (message.header.ifindex, message.header.state);
    Some(Neighbour { ifindex, ip: ip?, mac: link_address, state })
}

/// A unicast route of the main table, if it leaves by `ifindex`.
pub(super) fn main_route(message: &RouteMessage, ifindex: u32) -> Option<Route> {
    let table = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let is_main = table.unwrap_or(u32::from(message.header.table)) == u32::from(RouteHeader::RT_TABLE_MAIN);
    if !is_main || message.header.kind != RouteType::Unicast {
        return None;
    }
    route(message, Some(ifindex)).filter(|route| route.ifindex == ifindex)
}

/// The answer to a lookup of one destination.
pub(super) fn resolved_route(message: &RouteMessage, dst: IpAddr) -> Option<Route> {
    let host_prefix_len = if dst.is_ipv4() { 32 } else { 128 };
    Some(Route { destination: (dst, host_prefix_len), ..route(message, None)? })
}

/// Of several next hops the one by `preferred`.
fn route(message: &RouteMessage, preferred: Option<u32>) -> Option<Route> {
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut route = Route {
        destination: (unspecified, message.header.destination_prefix_length),
        ifindex: 0,
        gateway: None,
        prefsrc: None,
        mtu: None,
        metric: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.destination.0 = ip(address).unwrap_or(unspecified),
            RouteAttribute::Oif(ifindex) => route.ifindex = *ifindex,
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::PrefSource(address) => route.prefsrc = ip(address),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::MultiPath(hops) => {
                let hop =
                    hops.iter().find(|hop| preferred.is_none_or(|index| hop.interface_index == index))?;
                route.ifindex = hop.interface_index;
                route.gateway = hop.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(address) => ip(address),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn mac(address: &[u8]) -> Option<[u8; 6]> {
    address.try_into().ok()
}
