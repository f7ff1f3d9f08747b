//! One pass over a whole frame: link, network and transport views together.
//!
//! This is what the worker runs once per received packet, and what the steering program's verdicts
//! are compared with. Checksums are not looked at here: [`Packet::verify`] does.

use crate::checksum::Sum;
use crate::eth::EtherType;
use crate::ipv4::Protocol;
use crate::{Malformed, arp, eth, icmp, ipv4, tcp, udp};

/// A frame with everything in it that we understand.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The link header.
    pub eth: eth::Frame<'a>,
    /// What it carries.
    pub net: Net<'a>,
}

/// Network layer of a [`Packet`].
#[derive(Clone, Copy, Debug)]
pub enum Net<'a> {
    /// Address resolution.
    Arp(arp::Packet),
    /// IPv4 and what it carries.
    Ipv4(ipv4::Packet<'a>, Transport<'a>),
    /// Another ethertype, or more than two VLAN tags.
    Other,
}

/// Transport layer of a [`Packet`].
#[derive(Clone, Copy, Debug)]
pub enum Transport<'a> {
    /// TCP.
    Tcp(tcp::Segment<'a>),
    /// UDP.
    Udp(udp::Datagram<'a>),
    /// ICMP.
    Icmp(icmp::Message<'a>),
    /// A piece of a packet, the first one included: nothing above IP was looked at.
    Fragment,
    /// Another protocol.
    Other,
}

/// Parses a frame down to the transport header.
///
/// # Errors
/// What the first layer that is not well formed says.
///
/// ```
/// use ringwire_wire::{Malformed, packet};
/// assert_eq!(packet::parse(&[0; 13]).unwrap_err(), Malformed::Truncated);
/// let packet = packet::parse(&[0; 60])?;
/// assert!(matches!(packet.net, packet::Net::Other));
/// # Ok::<(), Malformed>(())
/// ```
#[inline]
pub fn parse(frame: &[u8]) -> Result<Packet<'_>, Malformed> {
    let eth = eth::Frame::parse(frame)?;
    let net = match eth.ethertype() {
        EtherType::IPV4 => {
            let packet = ipv4::Packet::parse(eth.payload())?;
            Net::Ipv4(packet, Transport::parse(&packet)?)
        }
        EtherType::ARP => Net::Arp(arp::Packet::parse(eth.payload())?),
        _ => Net::Other,
    };
    Ok(Packet { eth, net })
}

impl Packet<'_> {
    /// Verifies every checksum of the frame: the IPv4 header's and the transport's.
    ///
    /// # Errors
    /// [`Malformed::BadChecksum`].
    #[inline]
    pub fn verify(&self) -> Result<(), Malformed> {
        match &self.net {
            Net::Arp(_) | Net::Other => Ok(()),
            Net::Ipv4(ip, transport) if ip.verify_checksum() && transport.verify_checksum(ip) => Ok(()),
            Net::Ipv4(..) => Err(Malformed::BadChecksum),
        }
    }
}

impl<'a> Transport<'a> {
    #[inline]
    fn parse(packet: &ipv4::Packet<'a>) -> Result<Transport<'a>, Malformed> {
        if packet.is_fragment() {
            return Ok(Transport::Fragment);
        }
        Ok(match packet.protocol() {
            Protocol::TCP => Transport::Tcp(tcp::Segment::parse(packet.payload())?),
            Protocol::UDP => Transport::Udp(udp::Datagram::parse(packet.payload())?),
            Protocol::ICMP => Transport::Icmp(icmp::Message::parse(packet.payload())?),
            _ => Transport::Other,
        })
    }

    /// Whether the transport checksum is right for a packet with these addresses.
    ///
    /// Fragments and other protocols have nothing to verify.
    #[inline]
    pub fn verify_checksum(&self, ip: &ipv4::Packet<'_>) -> bool {
        let pseudo = |len| Sum::pseudo_v4(ip.src(), ip.dst(), ip.protocol(), len);
        match self {
            Transport::Tcp(segment) => segment.verify_checksum(pseudo(ip.payload_len())),
            Transport::Udp(datagram) => datagram.verify_checksum(pseudo(datagram.total_len())),
            Transport::Icmp(message) => message.verify_checksum(),
            Transport::Fragment | Transport::Other => true,
        }
    }

    /// Whether the transport checksum was left to a device (CHECKSUM_PARTIAL): see
    /// [`tcp::Segment::has_partial_checksum`].
    #[inline]
    pub fn has_partial_checksum(&self, ip: &ipv4::Packet<'_>) -> bool {
        let pseudo = |len| Sum::pseudo_v4(ip.src(), ip.dst(), ip.protocol(), len);
        match self {
            Transport::Tcp(segment) => segment.has_partial_checksum(pseudo(ip.payload_len())),
            Transport::Udp(datagram) => datagram.has_partial_checksum(pseudo(datagram.total_len())),
            Transport::Icmp(_) | Transport::Fragment | Transport::Other => false,
        }
    }
}
