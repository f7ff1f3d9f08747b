//! Frames from the peer's end, with right checksums.

use std::net::Ipv4Addr;

use ringwire_wire::checksum::Sum;
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::ipv4::{self, Protocol};
use ringwire_wire::packet::{self, Transport};
use ringwire_wire::tcp::{self, Flags};
use ringwire_wire::{arp, udp};

pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// An engine in memory takes its hardware address from its first address.
const HERE_MAC: Mac = Mac([2, 0, 10, 0, 0, 1]);
const PEER_MAC: Mac = Mac([2, 0, 10, 0, 0, 2]);
const WINDOW: u16 = 10_000;

fn ipv4((src, dst): (Ipv4Addr, Ipv4Addr), protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let mut frame = [0; eth::HEADER_LEN];
    eth::Header { dst: HERE_MAC, src: PEER_MAC, ethertype: EtherType::IPV4 }.emit(&mut frame);
    let mut header = [0; ipv4::HEADER_LEN];
    let payload_len = u16::try_from(payload.len()).unwrap();
    ipv4::Header { src, dst, protocol, tos: 0, ttl: 64, id: 1, dont_fragment: true, payload_len }
        .emit(&mut header);
    [&frame[..], &header, payload].concat()
}

/// A datagram that pretends to be from the engine, to itself.
pub(crate) fn from_ourselves((src_port, dst_port): (u16, u16)) -> Vec<u8> {
    let mut frame = udp_between((HERE, HERE), (src_port, dst_port), b"forged");
    let (dst, src) = frame.split_at_mut(6);
    src[..6].copy_from_slice(dst);
    frame
}

/// The peer asks for the engine, which tells it where the peer is.
pub(crate) fn arp() -> Vec<u8> {
    arp_packet(arp::Op::Request, Mac([0; 6]))
}

/// The peer answers the engine's question whether it is still there.
pub(crate) fn arp_reply() -> Vec<u8> {
    arp_packet(arp::Op::Reply, HERE_MAC)
}

fn arp_packet(op: arp::Op, target_mac: Mac) -> Vec<u8> {
    let mut body = [0; arp::PACKET_LEN];
    arp::Packet { op, sender_mac: PEER_MAC, sender_ip: PEER, target_mac, target_ip: HERE }.emit(&mut body);
    let mut frame = [0; eth::HEADER_LEN];
    eth::Header { dst: HERE_MAC, src: PEER_MAC, ethertype: EtherType::ARP }.emit(&mut frame);
    [&frame[..], &body].concat()
}

/// A message whose second word is zero.
pub(crate) fn icmp(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 3, 0, 0, 0, 0, 0, 0], data].concat();
    if kind != 3 {
        message[1] = 0;
    }
    let checksum = Sum::of(&message).finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ipv4((PEER, HERE), Protocol::ICMP, &message)
}

/// A datagram from `src` to the peer, or from the peer here.
pub(crate) fn udp(src: Ipv4Addr, (src_port, dst_port): (u16, u16), data: &[u8]) -> Vec<u8> {
    udp_between((src, if src == HERE { PEER } else { HERE }), (src_port, dst_port), data)
}

fn udp_between((src, dst): (Ipv4Addr, Ipv4Addr), (src_port, dst_port): (u16, u16), data: &[u8]) -> Vec<u8> {
    let mut header = [0; udp::HEADER_LEN];
    let len = u16::try_from(data.len()).unwrap();
    let pseudo = Sum::pseudo_v4(src, dst, Protocol::UDP, len + 8);
    udp::Header { src_port, dst_port, len }.emit(&mut header, pseudo + Sum::of(data));
    ipv4((src, dst), Protocol::UDP, &[&header[..], data].concat())
}

/// A segment without payload.
pub(crate) fn tcp(from: (Ipv4Addr, u16), dst_port: u16, flags: Flags, numbers: (u32, u32)) -> Vec<u8> {
    segment(from, dst_port, (flags, numbers, WINDOW), &[])
}

/// An acknowledgement that closes the window.
pub(crate) fn closed_window(from: (Ipv4Addr, u16), dst_port: u16, numbers: (u32, u32)) -> Vec<u8> {
    segment(from, dst_port, (Flags::ACK, numbers, 0), &[])
}

/// A segment with payload.
pub(crate) fn data(from: (Ipv4Addr, u16), dst_port: u16, numbers: (u32, u32), text: &[u8]) -> Vec<u8> {
    segment(from, dst_port, (Flags::ACK, numbers, WINDOW), text)
}

fn segment(
    (src, src_port): (Ipv4Addr, u16),
    dst_port: u16,
    (flags, (seq, ack), window): (Flags, (u32, u32), u16),
    text: &[u8],
) -> Vec<u8> {
    let header = tcp::Header { src_port, dst_port, seq, ack, flags, window, urgent: 0 };
    let mut bytes = [0; tcp::HEADER_LEN];
    let len = u16::try_from(tcp::HEADER_LEN + text.len()).unwrap();
    let pseudo = Sum::pseudo_v4(src, HERE, Protocol::TCP, len);
    header.emit(&tcp::Options::default(), pseudo + Sum::of(text), &mut bytes);
    ipv4((src, HERE), Protocol::TCP, &[&bytes[..], text].concat())
}

/// The sequence number of a segment.
pub(crate) fn tcp_seq(frame: &[u8]) -> u32 {
    tcp_header(frame).seq
}

/// The acknowledgement number of a segment.
pub(crate) fn tcp_ack(frame: &[u8]) -> u32 {
    tcp_header(frame).ack
}

/// Bytes of text in a segment.
pub(crate) fn tcp_text_len(frame: &[u8]) -> usize {
    match packet::parse(frame).unwrap().net {
        packet::Net::Ipv4(_, Transport::Tcp(segment)) => segment.payload().len(),
        _ => 0,
    }
}

/// The TTL of an IP packet.
pub(crate) fn ttl(frame: &[u8]) -> u8 {
    match packet::parse(frame).unwrap().net {
        packet::Net::Ipv4(ip, _) => ip.ttl(),
        _ => panic!("no IP"),
    }
}

/// The port that a segment comes from.
pub(crate) fn tcp_src_port(frame: &[u8]) -> u16 {
    tcp_header(frame).src_port
}

/// The port that a segment is for.
pub(crate) fn tcp_dst_port(frame: &[u8]) -> u16 {
    tcp_header(frame).dst_port
}

fn tcp_header(frame: &[u8]) -> tcp::Header {
    match packet::parse(frame).unwrap().net {
        packet::Net::Ipv4(_, Transport::Tcp(segment)) => segment.header(),
        _ => panic!("no TCP"),
    }
}

/// The same frame with 802.1Q tags of this control information, outermost first.
pub(crate) fn tagged(frame: &[u8], tags: &[u16]) -> Vec<u8> {
    let tags: Vec<u8> = tags.iter().flat_map(|tci| [[0x81, 0x00], tci.to_be_bytes()].concat()).collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}
