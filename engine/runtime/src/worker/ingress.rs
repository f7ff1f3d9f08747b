//! The door: bytes from the ring become a checked, `Copy` description. It says where everything lies; only the fields of a TCP header
//! are read later, by the connection that wants them.

use std::net::Ipv4Addr;

use ringwire_proto::ip::Scope;
use ringwire_proto::tcp::{Payload, SegmentIn};
use ringwire_proto::{DropReason, input};
use ringwire_table::FlowKey;
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::{icmp, ipv4, tcp, udp};

use super::link::sum;
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
    /// Index of the port it came in by, or [`NO_QUEUE`], or [`OWN_QUEUE`].
    pub(crate) queue: u16,
}

/// The queue of a packet that another worker, or the kernel, has received.
pub(crate) const NO_QUEUE: u16 = u16::MAX;
/// The queue of a packet that this worker has sent to itself: unlike with [`NO_QUEUE`], nobody has looked for another worker's socket yet.
pub(crate) const OWN_QUEUE: u16 = u16::MAX - 1;

/// Which batch path a packet takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transported {
    Tcp,
    Udp,
}

impl Ingress {
    /// To be filled in by [`classify`].
    #[inline]
    pub(crate) const fn from_queue(queue: u16) -> Ingress {
        Ingress {
            src_mac: Mac([0; 6]),
            tos: 0,
            ttl: 0,
            src: Ipv4Addr::UNSPECIFIED,
            dst: Ipv4Addr::UNSPECIFIED,
            src_port: 0,
            dst_port: 0,
            transport_start: 0,
            payload_start: 0,
            payload_len: 0,
            transport: Transported::Tcp,
            queue,
        }
    }

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

    /// A router on the way marked it instead of dropping it (RFC 3168 5: CE).
    #[inline]
    fn is_congestion_marked(&self) -> bool {
        self.tos & 3 == 3
    }

    /// Index of the port that an answer leaves by.
    pub(crate) fn way_back(&self) -> usize {
        if self.queue >= OWN_QUEUE { 0 } else { usize::from(self.queue) }
    }

    pub(crate) fn payload_len(&self) -> usize {
        self.payload_len as usize
    }

    /// The header of the TCP segment in `packet`, which this describes.
    #[inline]
    pub(crate) fn segment(&self, packet: &[u8]) -> SegmentIn {
        let header = packet.get(self.transport_start as usize..self.payload_start as usize);
        match tcp::Segment::parse(header.unwrap_or_default()) {
            Ok(segment) => SegmentIn {
                header: segment.header(),
                options: segment.options(),
                is_marked: self.is_congestion_marked(),
            },
            // Not for what the door has parsed before; a segment without flags would be dropped by every state.
            Err(_) => SegmentIn::default(),
        }
    }

    /// The payload alone: headers stay behind in the frame's headroom, padding goes.
    #[inline]
    pub(crate) fn strip(&self, mut packet: RxBuf) -> RxBuf {
        packet.advance(self.payload_start as usize);
        Payload::truncate(&mut packet, self.payload_len as usize);
        packet
    }
}

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// TCP or UDP, described: the batch path.
    Flow,
    /// For a responder, which reads the frame again: rare.
    Control(Control),
}

/// What is neither TCP nor UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Arp,
    Icmp(Scope),
}

/// Checks everything about one packet that can be checked without a socket, and describes it if it is for one.
///
/// Fills in what the caller has instead of returning it: a description that is handed up layer by layer is copied in pieces of
/// other widths than it was written, and each such copy waits for the store buffer.
#[inline(always)]
pub(crate) fn classify(bytes: &[u8], net: &Net, flow: &mut Ingress) -> Result<Arrival, DropReason> {
    let mut frame = eth::Frame::parse_untagged(bytes)?;
    if matches!(frame.ethertype(), EtherType::VLAN | EtherType::QINQ) {
        frame = parse_tagged(bytes)?;
    }
    input::check_link(net.mac(), &frame).or_else(|reason| net.admit_frame(reason, &frame, flow.queue))?;
    match frame.ethertype() {
        EtherType::IPV4 => classify_ip(bytes, &frame, net, flow),
        EtherType::ARP => Ok(Arrival::Control(Control::Arp)),
        _ => Err(DropReason::EthUnknownType),
    }
}

#[inline(always)]
fn classify_ip(
    bytes: &[u8],
    frame: &eth::Frame<'_>,
    net: &Net,
    flow: &mut Ingress,
) -> Result<Arrival, DropReason> {
    let ip = ipv4::Packet::parse(frame.payload())?;
    let checked = net.addresses().check(frame.dst(), &ip);
    let scope = checked.or_else(|reason| net.admit(reason, frame.src(), &ip))?;
    if ip.is_fragment() {
        return Err(DropReason::IpFragment);
    }
    let payload = match ip.protocol() {
        ipv4::Protocol::TCP => {
            let segment = tcp::Segment::parse(ip.payload())?;
            input::check_tcp(net.checksum_policy(), scope, &ip, &segment, sum)?;
            (flow.src_port, flow.dst_port) = (segment.src_port(), segment.dst_port());
            flow.transport = Transported::Tcp;
            segment.payload()
        }
        ipv4::Protocol::UDP => {
            let datagram = udp::Datagram::parse(ip.payload())?;
            ringwire_proto::udp::check(net.checksum_policy(), &ip, &datagram, sum)?;
            (flow.src_port, flow.dst_port) = (datagram.src_port(), datagram.dst_port());
            flow.transport = Transported::Udp;
            datagram.payload()
        }
        ipv4::Protocol::ICMP => return classify_icmp(&ip, scope),
        _ => return Err(DropReason::IpUnknownProtocol),
    };
    (flow.src_mac, flow.src, flow.dst) = (frame.src(), ip.src(), ip.dst());
    (flow.tos, flow.ttl) = (ip.tos(), ip.ttl());
    flow.transport_start = offset_in(bytes, ip.payload());
    flow.payload_start = offset_in(bytes, payload);
    // A part of an IP packet.
    flow.payload_len = payload.len() as u32;
    Ok(Arrival::Flow)
}

/// A tag without a VLAN only carries a priority. No interface of ours is in a VLAN, and an answer without the tag would leave it.
#[cold]
fn parse_tagged(bytes: &[u8]) -> Result<eth::Frame<'_>, DropReason> {
    Ok(eth::Frame::parse(bytes)?)
}

#[cold]
fn classify_icmp(ip: &ipv4::Packet<'_>, scope: Scope) -> Result<Arrival, DropReason> {
    let message = icmp::Message::parse(ip.payload())?;
    input::check_icmp(&message)?;
    Ok(Arrival::Control(Control::Icmp(scope)))
}

/// Where `inner`, a part of `outer`, begins in it.
#[inline]
fn offset_in(outer: &[u8], inner: &[u8]) -> u32 {
    // At most the length of one packet.
    inner.as_ptr().addr().wrapping_sub(outer.as_ptr().addr()).min(outer.len()) as u32
}
