//! The door: bytes from the ring become a checked, `Copy` description. It says where everything lies; only the fields of a TCP header
//! are read later, by the connection that wants them.

use std::net::Ipv4Addr;

use ringwire_proto::ip::Scope;
use ringwire_proto::tcp::{self, SegmentIn};
use ringwire_proto::{DropReason, input};
use ringwire_table::FlowKey;
use ringwire_wire::eth::Mac;
use ringwire_wire::packet::{self, Transport};
use ringwire_wire::{arp, ipv4};

use super::net::Net;
use crate::buffer::RxBuf;

/// One received TCP segment or UDP datagram: who, and where in the frame its payload lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ingress {
    pub(crate) src_mac: Mac,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    /// Offsets and length are below 64 KiB and a few headers.
    transport_start: u32,
    payload_start: u32,
    payload_len: u32,
    pub(crate) transport: Transported,
}

/// Which batch path a packet takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transported {
    Tcp,
    Udp,
}

impl Ingress {
    fn protocol(&self) -> ipv4::Protocol {
        match self.transport {
            Transported::Tcp => ipv4::Protocol::TCP,
            Transported::Udp => ipv4::Protocol::UDP,
        }
    }

    /// The exact 4-tuple.
    #[inline]
    pub(crate) fn key(&self) -> FlowKey {
        FlowKey::v4(self.protocol().0, (self.dst, self.dst_port), (self.src, self.src_port))
    }

    pub(crate) fn payload_len(&self) -> usize {
        self.payload_len as usize
    }

    /// The header of the TCP segment in `packet`, which this describes.
    #[inline]
    pub(crate) fn segment(&self, packet: &[u8]) -> Option<SegmentIn> {
        let header = packet.get(self.transport_start as usize..self.payload_start as usize)?;
        let segment = ringwire_wire::tcp::Segment::parse(header).ok()?;
        Some(SegmentIn { header: segment.header(), options: segment.options() })
    }

    /// The payload alone: headers stay behind in the frame's headroom, padding goes.
    #[inline]
    pub(crate) fn strip(&self, mut packet: RxBuf) -> RxBuf {
        packet.advance(self.payload_start as usize);
        tcp::Payload::truncate(&mut packet, self.payload_len as usize);
        packet
    }
}

/// What came in.
pub(crate) enum Arrival {
    /// TCP and UDP: the batch path.
    Flow(Ingress),
    /// For the neighbour machine.
    Arp(arp::Packet),
    /// For the ICMP responder, which reads the frame again: rare.
    Icmp(Scope),
    Drop(DropReason),
}

/// Parses one packet and checks everything that can be checked without a socket.
#[inline]
pub(crate) fn classify(bytes: &[u8], net: &Net) -> Arrival {
    match packet::parse(bytes) {
        Ok(packet) => classify_packet(bytes, &packet, net).unwrap_or_else(Arrival::Drop),
        Err(malformed) => Arrival::Drop(malformed.into()),
    }
}

#[inline]
fn classify_packet(bytes: &[u8], packet: &packet::Packet<'_>, net: &Net) -> Result<Arrival, DropReason> {
    input::check_link(net.mac(), &packet.eth)?;
    let (ip, transport) = match &packet.net {
        packet::Net::Ipv4(ip, transport) => (ip, transport),
        packet::Net::Arp(arp) => return Ok(Arrival::Arp(*arp)),
        packet::Net::Other => return Err(DropReason::EthUnknownType),
    };
    let scope = net.addresses().check(packet.eth.dst(), ip)?;
    input::check_transport(net.checksum_policy(), scope, ip, transport)?;
    let (payload, ports, transport) = match transport {
        Transport::Tcp(segment) => {
            (segment.payload(), (segment.src_port(), segment.dst_port()), Transported::Tcp)
        }
        Transport::Udp(datagram) => {
            (datagram.payload(), (datagram.src_port(), datagram.dst_port()), Transported::Udp)
        }
        Transport::Icmp(_) => return Ok(Arrival::Icmp(scope)),
        Transport::Fragment => return Err(DropReason::IpFragment),
        Transport::Other => return Err(DropReason::IpUnknownProtocol),
    };
    Ok(Arrival::Flow(Ingress {
        src_mac: packet.eth.src(),
        tos: ip.tos(),
        ttl: ip.ttl(),
        src: ip.src(),
        dst: ip.dst(),
        src_port: ports.0,
        dst_port: ports.1,
        transport_start: offset_in(bytes, ip.payload()),
        payload_start: offset_in(bytes, payload),
        // A part of an IP packet.
        payload_len: payload.len() as u32,
        transport,
    }))
}

/// Where `inner`, a part of `outer`, begins in it.
#[inline]
fn offset_in(outer: &[u8], inner: &[u8]) -> u32 {
    // At most the length of one packet.
    inner.as_ptr().addr().wrapping_sub(outer.as_ptr().addr()).min(outer.len()) as u32
}
