//! The doors before and after IP: link addresses, and what every transport protocol must satisfy before a socket sees it.

use ringwire_wire::eth::{Frame, Mac};
use ringwire_wire::packet::Transport;
use ringwire_wire::{icmp, ipv4, tcp};

use crate::drop_reason::DropReason;
use crate::ip::Scope;
use crate::udp;

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
    if src == ours || src.is_multicast() { Err(DropReason::EthBadSource) } else { Ok(()) }
}

/// Decides whether the transport layer of a packet that IP accepted may be looked at by its protocol.
#[inline]
pub fn check_transport(
    policy: ChecksumPolicy,
    scope: Scope,
    ip: &ipv4::Packet<'_>,
    transport: &Transport<'_>,
) -> Result<(), DropReason> {
    match transport {
        Transport::Tcp(segment) => {
            check_tcp(scope, segment)?;
            let is_right = transport.verify_checksum(ip)
                || policy == ChecksumPolicy::PartialOk && transport.has_partial_checksum(ip);
            if is_right { Ok(()) } else { Err(DropReason::TcpChecksum) }
        }
        Transport::Udp(datagram) => udp::check(policy, ip, datagram),
        Transport::Icmp(message) => check_icmp(message),
        Transport::Fragment => Err(DropReason::IpFragment),
        Transport::Other => Err(DropReason::IpUnknownProtocol),
    }
}

fn check_tcp(scope: Scope, segment: &tcp::Segment<'_>) -> Result<(), DropReason> {
    // RFC 9293 3.9.2.3 (MUST-57): TCP to a broadcast or multicast address is silently discarded.
    if scope == Scope::Group {
        return Err(DropReason::TcpGroupAddress);
    }
    let header = segment.header();
    if header.src_port == 0 || header.dst_port == 0 { Err(DropReason::TcpPortZero) } else { Ok(()) }
}

/// ICMP has no pseudo header, so no device leaves its checksum unfinished.
fn check_icmp(message: &icmp::Message<'_>) -> Result<(), DropReason> {
    if message.verify_checksum() { Ok(()) } else { Err(DropReason::IcmpChecksum) }
}

#[cfg(test)]
mod tests;
