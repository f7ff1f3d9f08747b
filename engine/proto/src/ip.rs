//! IPv4 input checks: is this packet one that a host may act on, and is it for us? (RFC 1122 3.2.1)

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use ringwire_wire::eth::Mac;
use ringwire_wire::ipv4::Packet;

use crate::drop_reason::DropReason;

/// To whom a packet was sent; replies and errors are only ever given to unicast (RFC 1122 3.2.2, 3.2.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// To one address of ours, in a frame for us alone.
    Unicast,
    /// To a broadcast or multicast address.
    Group,
}

/// The addresses that are ours on one link, and the broadcast addresses of their subnets.
///
/// ```
/// use core::net::Ipv4Addr;
/// use ringwire_proto::ip::Addresses;
///
/// let mut addresses = Addresses::default();
/// addresses.insert(Ipv4Addr::new(10, 0, 0, 1), 24);
/// assert!(addresses.is_ours(Ipv4Addr::new(10, 0, 0, 1)));
/// assert!(addresses.is_broadcast(Ipv4Addr::new(10, 0, 0, 255)));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Sorted by address.
    ours: Vec<Subnet>,
    /// Directed broadcast addresses of `ours`, sorted, each once.
    broadcasts: Vec<Ipv4Addr>,
}

#[derive(Debug, Clone, Copy)]
struct Subnet {
    addr: Ipv4Addr,
    prefix_len: u8,
}

impl Addresses {
    /// Adds an address of ours, or changes its prefix length (0 to 32 bits).
    pub fn insert(&mut self, addr: Ipv4Addr, prefix_len: u8) {
        let subnet = Subnet { addr, prefix_len: prefix_len.min(32) };
        match self.ours.binary_search_by_key(&addr, |subnet| subnet.addr) {
            Ok(found) => self.ours[found] = subnet,
            Err(place) => self.ours.insert(place, subnet),
        }
        self.update_broadcasts();
    }

    /// Removes an address; one that is not there is ignored.
    pub fn remove(&mut self, addr: Ipv4Addr) {
        self.ours.retain(|subnet| subnet.addr != addr);
        self.update_broadcasts();
    }

    /// All of ours.
    pub fn iter(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.ours.iter().map(|subnet| subnet.addr)
    }

    /// True if `addr` is one of ours.
    #[inline]
    pub fn is_ours(&self, addr: Ipv4Addr) -> bool {
        match self.ours.as_slice() {
            // Nearly every interface has one, and every packet asks.
            [only] => only.addr == addr,
            many => many.binary_search_by_key(&addr, |subnet| subnet.addr).is_ok(),
        }
    }

    /// True for the limited broadcast address and the directed one of any of our subnets.
    #[inline]
    pub fn is_broadcast(&self, addr: Ipv4Addr) -> bool {
        let is_directed = match self.broadcasts.as_slice() {
            [only] => *only == addr,
            many => many.binary_search(&addr).is_ok(),
        };
        is_directed || addr.is_broadcast()
    }

    /// Decides whether a packet that came in a frame to `eth_dst` is well formed and for us, and to whom it was sent.
    ///
    /// Fragments pass: what is done with them is the caller's choice. So does TTL 0 (RFC 1122 3.2.1.7: a host must not discard for it).
    #[inline(always)]
    pub fn check(&self, eth_dst: Mac, packet: &Packet<'_>) -> Result<Scope, DropReason> {
        // RFC 1122 3.2.1.2: the header checksum is verified on every datagram, before anything else is believed.
        if !packet.verify_checksum() {
            return Err(DropReason::IpChecksum);
        }
        self.check_source(packet.src())?;
        if !packet.options().is_empty() {
            check_options(packet)?;
        }
        self.scope(eth_dst, packet.dst())
    }

    fn check_source(&self, src: Ipv4Addr) -> Result<(), DropReason> {
        // RFC 1122 3.2.1.3 (a, b, c, e, g): net 0, broadcast, loopback and (RFC 1112 7.2) multicast are never sources.
        let is_martian =
            src.octets()[0] == 0 || src.is_loopback() || src.is_multicast() || self.is_broadcast(src);
        if is_martian {
            return Err(DropReason::IpMartianSource);
        }
        if self.is_ours(src) { Err(DropReason::IpOwnSource) } else { Ok(()) }
    }

    /// Decides whether a packet to `dst` in a frame to `eth_dst` is for us, and to whom it was sent.
    pub fn scope(&self, eth_dst: Mac, dst: Ipv4Addr) -> Result<Scope, DropReason> {
        if self.is_ours(dst) {
            // RFC 1122 3.3.6: a link-layer broadcast that is not an IP broadcast or multicast is silently discarded.
            return if eth_dst.is_multicast() { Err(DropReason::IpLinkGroup) } else { Ok(Scope::Unicast) };
        }
        if dst.is_multicast() || self.is_broadcast(dst) {
            Ok(Scope::Group)
        } else {
            Err(DropReason::IpNotForUs)
        }
    }

    fn update_broadcasts(&mut self) {
        self.broadcasts.clear();
        self.broadcasts.extend(self.ours.iter().filter_map(|subnet| subnet.broadcast()));
        self.broadcasts.sort_unstable();
        self.broadcasts.dedup();
    }
}

impl Subnet {
    /// The directed broadcast address. RFC 3021: a /31 has none, and a /32 is no subnet.
    fn broadcast(self) -> Option<Ipv4Addr> {
        let host_bits = u32::MAX.checked_shr(u32::from(self.prefix_len)).filter(|&bits| bits > 1)?;
        Some(Ipv4Addr::from_bits(self.addr.to_bits() | host_bits))
    }
}

/// RFC 1122 3.2.1.8: unknown options are ignored; RFC 7126 4.3, 4.4: source routes are refused.
#[cold]
fn check_options(packet: &Packet<'_>) -> Result<(), DropReason> {
    match packet.source_routed() {
        Ok(false) => Ok(()),
        Ok(true) => Err(DropReason::IpSourceRoute),
        Err(malformed) => Err(malformed.into()),
    }
}

/// The IP identification of one flow's packets: a counter that starts at an unpredictable place.
///
/// RFC 6864 4.1: atomic datagrams may carry anything, so a counter per flow leaks nothing about other flows (no idle scans)
/// and still keeps fragments apart if a middlebox clears the DF bit.
#[derive(Debug, Clone, Copy)]
pub struct Ident(u16);

impl Ident {
    /// Starts at a number from [`crate::prf::Prf::ident`].
    pub const fn new(start: u16) -> Self {
        Self(start)
    }

    /// The identification of the next packet.
    #[inline]
    pub fn next_id(&mut self) -> u16 {
        let id = self.0;
        self.0 = id.wrapping_add(1);
        id
    }
}

#[cfg(test)]
mod tests;
