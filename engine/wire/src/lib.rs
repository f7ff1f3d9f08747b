//! Checked header views, emitters and checksums.
//!
//! Untrusted bytes become a checked view at the door: `parse` looks at every length once and
//! returns either [`Malformed`] or a view whose accessors cannot fail. Nothing here owns memory,
//! keeps state, reads a clock or decides what to do with a packet; checksums are verified only
//! when asked for.
//!
//! | module | parse | emit |
//! |---|---|---|
//! | [`eth`] | [`eth::Frame`], at most two VLAN tags | [`eth::Header`] |
//! | [`arp`] | [`arp::Packet`] | [`arp::Packet`] |
//! | [`ipv4`] | [`ipv4::Packet`] | [`ipv4::Header`] |
//! | [`icmp`] | [`icmp::Message`], [`icmp::Quoted`] | [`icmp::Header`] |
//! | [`udp`] | [`udp::Datagram`] | [`udp::Header`] |
//! | [`tcp`] | [`tcp::Segment`], [`tcp::Options`] | [`tcp::Header`] |
//! | [`packet`] | [`packet::Packet`], a whole frame | |
//!
//! All multi-byte fields are host integers in signatures and big endian on the wire. Lengths are
//! bytes.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod arp;
pub mod checksum;
pub mod eth;
pub mod icmp;
pub mod ipv4;
pub mod packet;
pub mod tcp;
pub mod udp;

#[cfg(test)]
mod tests;

use core::fmt;

/// Why bytes are not the header they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Malformed {
    /// Fewer bytes than the fixed header needs.
    Truncated,
    /// The IP version field does not belong to this parser.
    BadVersion,
    /// IHL or TCP data offset below five words or beyond the packet.
    BadHeaderLen,
    /// The IP total length is below the header or beyond the frame.
    BadTotalLen,
    /// A checksum does not verify.
    BadChecksum,
    /// The UDP length is below eight or beyond the IP payload.
    BadLength,
    /// An IPv4 option whose length is below two or beyond the header.
    BadOption,
    /// ARP for something other than IPv4 over Ethernet.
    BadAddressFormat,
    /// An ARP operation other than request and reply.
    BadOperation,
    /// An ICMP error quotes a later fragment, which has no ports to find a flow by.
    BadQuote,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Truncated => "truncated header",
            Malformed::BadVersion => "bad IP version",
            Malformed::BadHeaderLen => "bad header length",
            Malformed::BadTotalLen => "bad total length",
            Malformed::BadChecksum => "bad checksum",
            Malformed::BadLength => "bad length",
            Malformed::BadOption => "bad IP option",
            Malformed::BadAddressFormat => "not IPv4 over Ethernet",
            Malformed::BadOperation => "bad operation",
            Malformed::BadQuote => "unusable quoted packet",
        })
    }
}

impl core::error::Error for Malformed {}

/// Reads a big-endian u16 out of a fixed header; `N` and `AT` are known to the compiler.
#[inline]
fn be16<const N: usize>(header: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

/// Reads a big-endian u32 out of a fixed header.
#[inline]
fn be32<const N: usize>(header: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}
