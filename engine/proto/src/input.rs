//! The doors before and after IP: link addresses, and what TCP and ICMP must satisfy before a socket sees them; UDP's is
//! [`crate::udp::check`].

use ringwire_wire::checksum::Sum;
use ringwire_wire::eth::{Frame, Mac};
use ringwire_wire::{icmp, ipv4, tcp};

use crate::drop_reason::DropReason;
use crate::ip::Scope;

/// Which transport checksums are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumPolicy {
    /// Only right ones.
    #[default]
    Verify,
    /// Also those a local sender left to its device: a kernel peer on veth with transmit offloads on.
    PartialOk,
}

/// Decides whether a frame is for us and from somebody else.
///
/// A frame from our own address is a reflection or a forgery (CVE-2026-7422); nobody sends from a group address.
#[inline]
pub fn check_link(ours: Mac, frame: &Frame<'_>) -> Result<(), DropReason> {
    let dst = frame.dst();
    if dst != ours && !dst.is_multicast() {
        return Err(DropReason::EthNotForUs);
    }
    let src = frame.src();
    if src == ours || src.is_multicast() {
        return Err(DropReason::EthBadSource);
    }
    // Answered without its tag it would come from elsewhere. Identifier 0 is no VLAN (IEEE 802.1Q 9.6).
    if frame.vlan().is_some_and(|id| id != 0) { Err(DropReason::EthVlan) } else { Ok(()) }
}

/// Decides whether a connection or a listener may see this segment; `sum` adds up its payload.
#[inline(always)]
pub fn check_tcp(
    policy: ChecksumPolicy,
    scope: Scope,
    ip: &ipv4::Packet<'_>,
    segment: &tcp::Segment<'_>,
    sum: impl FnOnce(&[u8]) -> Sum,
) -> Result<(), DropReason> {
    // RFC 9293 3.9.2.3 (MUST-57): TCP to a broadcast or multicast address is silently discarded.
    if scope == Scope::Group {
        return Err(DropReason::TcpGroupAddress);
    }
    if segment.src_port() == 0 || segment.dst_port() == 0 {
        return Err(DropReason::TcpPortZero);
    }
    let pseudo = Sum::pseudo_v4(ip.src(), ip.dst(), ip.protocol(), ip.payload_len());
    let is_right = segment.verify_checksum_by(pseudo, sum)
        || policy == ChecksumPolicy::PartialOk && segment.has_partial_checksum(pseudo);
    if is_right { Ok(()) } else { Err(DropReason::TcpChecksum) }
}

/// ICMP has no pseudo header, so no device leaves its checksum unfinished.
#[inline]
pub fn check_icmp(message: &icmp::Message<'_>) -> Result<(), DropReason> {
    if message.verify_checksum() { Ok(()) } else { Err(DropReason::IcmpChecksum) }
}

#[cfg(test)]
mod tests;
