//! Round trips of every header, and the parsing part of the attack list.

use core::net::Ipv4Addr;
use std::vec::Vec;

use proptest::prelude::*;

use crate::checksum::Sum;
use crate::eth::{EtherType, Mac};
use crate::ipv4::Protocol;
use crate::packet::{self, Net, Transport};
use crate::tcp::{FastOpen, FastOpenForm, Flags, Options, SackBlocks, Timestamps};
use crate::{Malformed, arp, eth, icmp, ipv4, tcp, udp};

mod attacks;

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn ip() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from_bits)
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

prop_compose! {
    fn ip_header()(src in ip(), dst in ip(), fields in any::<(u8, u8, u8, u16, bool)>()) -> ipv4::Header {
        let (protocol, tos, ttl, id, dont_fragment) = fields;
        ipv4::Header { src, dst, protocol: Protocol(protocol), tos, ttl, id, dont_fragment, payload_len: 0 }
    }
}

prop_compose! {
    fn tcp_header()(ports in any::<(u16, u16)>(), numbers in any::<(u32, u32)>(), rest in any::<(u8, u16, u16)>()) -> tcp::Header {
        tcp::Header {
            src_port: ports.0, dst_port: ports.1, seq: numbers.0, ack: numbers.1,
            flags: Flags(rest.0), window: rest.1, urgent: rest.2,
        }
    }
}

prop_compose! {
    fn tcp_options()(
        mss in prop::option::of(1u16..), window_scale in prop::option::of(0u8..=14), sack_permitted in any::<bool>(),
        timestamps in prop::option::of(any::<(u32, u32)>()),
        blocks in prop::collection::vec((any::<u32>(), 1..i32::MAX as u32), 0..=2),
    ) -> Options {
        let mut sack = SackBlocks::NONE;
        blocks.iter().for_each(|(left, len)| sack.push(*left, left.wrapping_add(*len)));
        let timestamps = timestamps.map(|(value, echo)| Timestamps { value, echo });
        Options { mss, window_scale, sack_permitted, timestamps, sack, fast_open: None }
    }
}

/// A whole frame with valid checksums, of every kind that has a parser.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    (ip_header(), tcp_header(), tcp_options(), payload(), 0..5u8, 0..4usize, any::<bool>()).prop_map(
        |(ip, tcp, options, payload, kind, tags, fragment)| {
            let net = match kind {
                0 => arp_bytes(&ip),
                1 => ip_bytes(ip, Protocol::TCP, &tcp_bytes(&ip, &tcp, &options, &payload)),
                2 => ip_bytes(ip, Protocol::UDP, &udp_bytes(&ip, &tcp, &payload)),
                3 => ip_bytes(ip, Protocol::ICMP, &icmp_bytes(&tcp, &payload)),
                _ if fragment => {
                    let mut net = ip_bytes(ip, ip.protocol, &payload);
                    net[6] |= 0x20;
                    rewrite_ip_checksum(&mut net);
                    net
                }
                _ => ip_bytes(ip, Protocol(ip.protocol.0 | 0x40), &payload),
            };
            eth_bytes(if kind == 0 { EtherType::ARP } else { EtherType::IPV4 }, tags, &net)
        },
    )
}

fn eth_bytes(ethertype: EtherType, tags: usize, net: &[u8]) -> Vec<u8> {
    let mut bytes = std::vec![0; eth::HEADER_LEN];
    let header = eth::Header { dst: Mac([2, 0, 0, 0, 0, 1]), src: Mac([2, 0, 0, 0, 0, 2]), ethertype };
    header.emit(bytes.first_chunk_mut().unwrap());
    for tag in 0..tags {
        let tpid = if tag == 0 { EtherType::VLAN } else { EtherType::QINQ };
        let [high, low] = tpid.0.to_be_bytes();
        bytes.splice(12..12, [high, low, 0xe0, 100 + tag as u8]);
    }
    bytes.extend_from_slice(net);
    bytes
}

fn arp_bytes(ip: &ipv4::Header) -> Vec<u8> {
    let mut bytes = [0; arp::PACKET_LEN];
    let (sender_mac, target_mac) = (Mac([2; 6]), Mac::default());
    arp::Packet { op: arp::Op::Request, sender_mac, sender_ip: ip.src, target_mac, target_ip: ip.dst }
        .emit(&mut bytes);
    bytes.to_vec()
}

fn ip_bytes(header: ipv4::Header, protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let mut bytes = std::vec![0; ipv4::HEADER_LEN];
    let header = ipv4::Header { protocol, payload_len: payload.len() as u16, ..header };
    header.emit(bytes.first_chunk_mut().unwrap());
    bytes.extend_from_slice(payload);
    bytes
}

fn rewrite_ip_checksum(packet: &mut [u8]) {
    let header_len = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let checksum = Sum::of(&packet[..header_len]).finish();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn tcp_bytes(ip: &ipv4::Header, header: &tcp::Header, options: &Options, payload: &[u8]) -> Vec<u8> {
    let mut bytes = std::vec![0; tcp::HEADER_LEN + options.encoded_len()];
    let len = (bytes.len() + payload.len()) as u16;
    let pseudo = Sum::pseudo_v4(ip.src, ip.dst, Protocol::TCP, len);
    let header_len = header.emit(options, pseudo + Sum::of(payload), &mut bytes);
    assert_eq!(header_len, bytes.len());
    bytes.extend_from_slice(payload);
    bytes
}

fn udp_bytes(ip: &ipv4::Header, ports: &tcp::Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = std::vec![0; udp::HEADER_LEN];
    let pseudo = Sum::pseudo_v4(ip.src, ip.dst, Protocol::UDP, (udp::HEADER_LEN + payload.len()) as u16);
    let header =
        udp::Header { src_port: ports.src_port, dst_port: ports.dst_port, len: payload.len() as u16 };
    header.emit(bytes.first_chunk_mut().unwrap(), pseudo + Sum::of(payload));
    bytes.extend_from_slice(payload);
    bytes
}

fn icmp_bytes(fields: &tcp::Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = std::vec![0; icmp::HEADER_LEN];
    let header = icmp::Header::EchoRequest { ident: fields.src_port, seq: fields.dst_port };
    header.emit(bytes.first_chunk_mut().unwrap(), Sum::of(payload));
    bytes.extend_from_slice(payload);
    bytes
}

/// Calls every accessor there is: none may panic on what `parse` let through.
fn touch_everything(bytes: &[u8]) {
    if let Ok(packet) = packet::parse(bytes) {
        let _ =
            (packet.eth.dst(), packet.eth.src(), packet.eth.vlan(), packet.eth.payload(), packet.verify());
        if let Net::Ipv4(ip, transport) = packet.net {
            touch_ip(&ip);
            let _ = (transport.verify_checksum(&ip), transport.has_partial_checksum(&ip));
        }
    }
    let _ = arp::Packet::parse(bytes);
    if let Ok(ip) = ipv4::Packet::parse(bytes) {
        touch_ip(&ip);
    }
    if let Ok(segment) = tcp::Segment::parse(bytes) {
        let options = segment.options();
        assert!(options.encoded_len() <= 40 && options.encoded_len() % 4 == 0);
        assert_eq!(segment.header_len() + segment.payload().len(), bytes.len());
        segment.header().emit(&options, Sum::default(), &mut [0; tcp::MAX_HEADER_LEN]);
    }
    if let Ok(datagram) = udp::Datagram::parse(bytes) {
        assert_eq!(usize::from(datagram.total_len()), udp::HEADER_LEN + datagram.payload().len());
        datagram.verify_checksum(Sum::default());
    }
    if let Ok(message) = icmp::Message::parse(bytes) {
        let _ = (message.kind(), message.verify_checksum());
    }
    let _ = (icmp::Quoted::parse(bytes), Options::parse(bytes).encoded_len());
}

fn touch_ip(ip: &ipv4::Packet<'_>) {
    let _ = (ip.src(), ip.dst(), ip.protocol(), ip.tos(), ip.ttl(), ip.id(), ip.dont_fragment());
    let _ = (ip.more_fragments(), ip.fragment_offset(), ip.verify_checksum(), ip.source_routed());
    assert_eq!(ip.is_fragment(), ip.more_fragments() || ip.fragment_offset() != 0);
    assert_eq!(usize::from(ip.payload_len()), ip.payload().len());
    assert_eq!(ip.header_len(), ipv4::HEADER_LEN + ip.options().len());
}

proptest! {
    #[test]
    fn eth_round_trip(dst in mac(), src in mac(), ethertype in any::<u16>(), payload in payload()) {
        let header = eth::Header { dst, src, ethertype: EtherType(ethertype) };
        let mut bytes = std::vec![0; eth::HEADER_LEN];
        header.emit(bytes.first_chunk_mut().unwrap());
        bytes.extend_from_slice(&payload);
        prop_assume!(!matches!(header.ethertype, EtherType::VLAN | EtherType::QINQ));
        let frame = eth::Frame::parse(&bytes).unwrap();
        let parsed = eth::Header { dst: frame.dst(), src: frame.src(), ethertype: frame.ethertype() };
        prop_assert_eq!((parsed, frame.vlan(), frame.payload()), (header, None, &payload[..]));
    }

    #[test]
    fn arp_round_trip(macs in (mac(), mac()), ips in (ip(), ip()), is_reply in any::<bool>()) {
        let packet = arp::Packet {
            op: if is_reply { arp::Op::Reply } else { arp::Op::Request },
            sender_mac: macs.0, sender_ip: ips.0, target_mac: macs.1, target_ip: ips.1,
        };
        let mut bytes = [0; arp::PACKET_LEN];
        packet.emit(&mut bytes);
        prop_assert_eq!(arp::Packet::parse(&bytes), Ok(packet));
    }

    #[test]
    fn ipv4_round_trip(header in ip_header(), payload in payload(), padding in 0..50usize) {
        let header = ipv4::Header { payload_len: payload.len() as u16, ..header };
        let mut bytes = ip_bytes(header, header.protocol, &payload);
        bytes.resize(bytes.len() + padding, 0xee);
        let packet = ipv4::Packet::parse(&bytes).unwrap();
        prop_assert!(packet.verify_checksum() && !packet.is_fragment() && packet.options().is_empty());
        prop_assert_eq!(packet.payload(), &payload);
        let parsed = ipv4::Header {
            src: packet.src(), dst: packet.dst(), protocol: packet.protocol(), tos: packet.tos(), ttl: packet.ttl(),
            id: packet.id(), dont_fragment: packet.dont_fragment(), payload_len: packet.payload_len(),
        };
        prop_assert_eq!(parsed, header);
    }

    #[test]
    fn icmp_echo_round_trip(ident in any::<u16>(), seq in any::<u16>(), data in payload(), is_reply in any::<bool>()) {
        let header = if is_reply { icmp::Header::EchoReply { ident, seq } } else { icmp::Header::EchoRequest { ident, seq } };
        let mut bytes = std::vec![0xff; icmp::HEADER_LEN];
        header.emit(bytes.first_chunk_mut().unwrap(), Sum::of(&data));
        bytes.extend_from_slice(&data);
        let message = icmp::Message::parse(&bytes).unwrap();
        prop_assert!(message.verify_checksum());
        let echo = icmp::Echo { ident, seq, data: &data };
        let kind = if is_reply { icmp::Kind::EchoReply(echo) } else { icmp::Kind::EchoRequest(echo) };
        prop_assert_eq!(message.kind(), kind);
    }

    #[test]
    fn icmp_error_round_trip_names_the_flow(code in any::<u8>(), next_hop_mtu in any::<u16>(), ip in ip_header(), tcp in tcp_header()) {
        let segment = tcp_bytes(&ip, &tcp, &Options::default(), &[7; 100]);
        let original = ip_bytes(ip, Protocol::TCP, &segment);
        let quoted = &original[..ipv4::HEADER_LEN + 8];
        let mut bytes = std::vec![0; icmp::HEADER_LEN];
        icmp::Header::Unreachable { code, next_hop_mtu }.emit(bytes.first_chunk_mut().unwrap(), Sum::of(quoted));
        bytes.extend_from_slice(quoted);
        let message = icmp::Message::parse(&bytes).unwrap();
        prop_assert!(message.verify_checksum());
        let reason = icmp::Reason::Unreachable { code, next_hop_mtu };
        prop_assert_eq!(message.kind(), icmp::Kind::Error(icmp::Error { reason, quoted }));
        prop_assert_eq!(icmp::Quoted::parse(quoted), Ok(icmp::Quoted {
            src: ip.src, dst: ip.dst, protocol: Protocol::TCP, src_port: tcp.src_port, dst_port: tcp.dst_port, seq: tcp.seq,
        }));
        prop_assert_eq!(icmp::Quoted::parse(&quoted[..27]), Err(Malformed::Truncated));
    }

    #[test]
    fn udp_round_trip(ip in ip_header(), ports in tcp_header(), payload in payload()) {
        let bytes = udp_bytes(&ip, &ports, &payload);
        let datagram = udp::Datagram::parse(&bytes).unwrap();
        let pseudo = Sum::pseudo_v4(ip.src, ip.dst, Protocol::UDP, datagram.total_len());
        prop_assert!(datagram.checksum() != 0 && datagram.verify_checksum(pseudo));
        prop_assert_eq!((datagram.src_port(), datagram.dst_port()), (ports.src_port, ports.dst_port));
        prop_assert_eq!(datagram.payload(), &payload);
    }

    #[test]
    fn tcp_round_trip(ip in ip_header(), header in tcp_header(), options in tcp_options(), payload in payload()) {
        let bytes = tcp_bytes(&ip, &header, &options, &payload);
        let segment = tcp::Segment::parse(&bytes).unwrap();
        prop_assert!(segment.verify_checksum(Sum::pseudo_v4(ip.src, ip.dst, Protocol::TCP, bytes.len() as u16)));
        prop_assert_eq!((segment.header(), segment.options(), segment.payload()), (header, options, &payload[..]));
    }

    #[test]
    fn sack_blocks_round_trip_alone(blocks in prop::collection::vec((any::<u32>(), 1..i32::MAX as u32), 0..=4)) {
        let mut options = Options::default();
        blocks.iter().for_each(|(left, len)| options.sack.push(*left, left.wrapping_add(*len)));
        let mut bytes = [0; 40];
        let len = options.emit(&mut bytes);
        prop_assert_eq!(len, options.encoded_len());
        prop_assert_eq!(Options::parse(&bytes[..len]), options);
    }

    #[test]
    fn a_syn_with_a_cookie_round_trips(mut options in tcp_options(), halves in 1..=8usize, cookie in any::<[u8; 16]>()) {
        options.sack = SackBlocks::NONE;
        options.fast_open = if halves == 1 { Some(FastOpen::REQUEST) } else { FastOpen::cookie(&cookie[..halves * 2]) };
        let mut bytes = [0; 40];
        let len = options.emit(&mut bytes);
        prop_assert_eq!((len, len % 4), (options.encoded_len(), 0));
        prop_assert_eq!(Options::parse(&bytes[..len]), options);
    }

    #[test]
    fn whole_frames_parse_and_verify(bytes in frame()) {
        let packet = packet::parse(&bytes).unwrap();
        prop_assert_eq!(packet.verify(), Ok(()));
        let tags = (0..3).take_while(|tag| matches!(&bytes[12 + tag * 4..14 + tag * 4], [0x81, 0] | [0x88, 0xa8])).count();
        prop_assert_eq!(matches!(packet.net, Net::Other), tags > 2);
        prop_assert_eq!(packet.eth.vlan().is_some(), tags > 0);
    }

    #[test]
    fn no_truncation_panics(bytes in frame()) {
        for len in 0..bytes.len() {
            touch_everything(&bytes[..len]);
            touch_everything(&bytes[bytes.len() - len..]);
        }
    }

    #[test]
    fn no_flipped_bits_panic(mut bytes in frame(), flips in prop::collection::vec(any::<prop::sample::Index>(), 1..12)) {
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            for layer in [0, 14, 34] {
                touch_everything(bytes.get(layer..).unwrap_or_default());
            }
        }
    }

    #[test]
    fn no_random_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        touch_everything(&bytes);
    }

    #[test]
    fn a_flipped_bit_never_verifies(mut bytes in frame(), bit in any::<prop::sample::Index>()) {
        let Ok(packet) = packet::parse(&bytes) else { unreachable!() };
        let Net::Ipv4(ip, Transport::Tcp(_) | Transport::Icmp(_)) = packet.net else { return Ok(()) };
        let from = bytes.len() - ip.header_len() - ip.payload().len();
        let bit = from * 8 + bit.index((bytes.len() - from) * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(packet::parse(&bytes).and_then(|packet| packet.verify()), Ok(()));
    }
}
