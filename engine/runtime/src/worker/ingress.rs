//! The door: bytes from the ring become a checked, `Copy` description, once; nothing after it looks at a header again.

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
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) payload_start: usize,
    pub(crate) payload_len: usize,
    pub(crate) transport: IngressTransport,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum IngressTransport {
    Tcp(SegmentIn),
    Udp { src_port: u16, dst_port: u16 },
}

impl Ingress {
    pub(crate) fn ports(&self) -> (u16, u16) {
        match self.transport {
            IngressTransport::Tcp(segment) => (segment.header.dst_port, segment.header.src_port),
            IngressTransport::Udp { src_port, dst_port } => (dst_port, src_port),
        }
    }

    fn protocol(&self) -> ipv4::Protocol {
        match self.transport {
            IngressTransport::Tcp(_) => ipv4::Protocol::TCP,
            IngressTransport::Udp { .. } => ipv4::Protocol::UDP,
        }
    }

    /// The exact 4-tuple.
    pub(crate) fn key(&self) -> FlowKey {
        let (local_port, remote_port) = self.ports();
        FlowKey::v4(self.protocol().0, (self.dst, local_port), (self.src, remote_port))
    }

    /// The payload alone: headers stay behind in the frame's headroom, padding goes.
    pub(crate) fn strip(&self, mut packet: RxBuf) -> RxBuf {
        packet.advance(self.payload_start);
        tcp::Payload::truncate(&mut packet, self.payload_len);
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
    let (payload, transport) = match transport {
        Transport::Tcp(segment) => {
            let seg = SegmentIn { header: segment.header(), options: segment.options() };
            (segment.payload(), IngressTransport::Tcp(seg))
        }
        Transport::Udp(datagram) => {
            let (src_port, dst_port) = (datagram.src_port(), datagram.dst_port());
            (datagram.payload(), IngressTransport::Udp { src_port, dst_port })
        }
        Transport::Icmp(_) => return Ok(Arrival::Icmp(scope)),
        Transport::Fragment => return Err(DropReason::IpFragment),
        Transport::Other => return Err(DropReason::IpUnknownProtocol),
    };
    Ok(Arrival::Flow(Ingress {
        src_mac: packet.eth.src(),
        src: ip.src(),
        dst: ip.dst(),
        tos: ip.tos(),
        ttl: ip.ttl(),
        payload_start: offset_in(bytes, payload),
        payload_len: payload.len(),
        transport,
    }))
}

/// Where `inner`, a part of `outer`, begins in it.
fn offset_in(outer: &[u8], inner: &[u8]) -> usize {
    inner.as_ptr().addr().wrapping_sub(outer.as_ptr().addr()).min(outer.len())
}
