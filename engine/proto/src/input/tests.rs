use std::vec::Vec;

use core::net::Ipv4Addr;
use proptest::prelude::*;
use ringwire_wire::checksum::Sum;
use ringwire_wire::eth::{self, EtherType};
use ringwire_wire::ipv4::Protocol;
use ringwire_wire::packet::Transport;
use ringwire_wire::{packet, tcp, udp as wire_udp};

use super::*;
use crate::icmp::{Complaint, ErrorSource, Offender, echo_reply, on_error};
use crate::ip::Addresses;
use crate::prf::Prf;
use crate::time::Instant;
use crate::udp;

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);
const SRC: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn frame(protocol: Protocol, transport: &[u8]) -> Vec<u8> {
    let mut eth = [0; eth::HEADER_LEN];
    eth::Header { dst: OURS, src: PEER, ethertype: EtherType::IPV4 }.emit(&mut eth);
    let mut ip = [0; ipv4::HEADER_LEN];
    let payload_len = transport.len() as u16;
    ipv4::Header { src: SRC, dst: DST, protocol, tos: 0, ttl: 64, id: 0, dont_fragment: true, payload_len }
        .emit(&mut ip);
    [&eth[..], &ip, transport].concat()
}

/// The doors as a worker has them, by protocol.
fn check_transport(
    policy: ChecksumPolicy,
    scope: Scope,
    ip: &ipv4::Packet<'_>,
    transport: &Transport<'_>,
) -> Result<(), DropReason> {
    match transport {
        Transport::Tcp(segment) => check_tcp(policy, scope, ip, segment, Sum::of),
        Transport::Udp(datagram) => udp::check(policy, ip, datagram, Sum::of),
        Transport::Icmp(message) => check_icmp(message),
        Transport::Fragment => Err(DropReason::IpFragment),
        Transport::Other => Err(DropReason::IpUnknownProtocol),
    }
}

fn verdict(policy: ChecksumPolicy, scope: Scope, frame: &[u8]) -> Result<(), DropReason> {
    let parsed = packet::parse(frame).expect("well formed");
    let packet::Net::Ipv4(ip, transport) = parsed.net else { panic!("not IPv4") };
    check_transport(policy, scope, &ip, &transport)
}

fn pseudo(protocol: Protocol, len: u16) -> Sum {
    Sum::pseudo_v4(SRC, DST, protocol, len)
}

fn datagram(src_port: u16, dst_port: u16) -> Vec<u8> {
    let mut bytes = *b"________ping";
    let header = wire_udp::Header { src_port, dst_port, len: 4 };
    header.emit(bytes.first_chunk_mut().expect("8"), pseudo(Protocol::UDP, 12) + Sum::of(b"ping"));
    bytes.to_vec()
}

fn segment(src_port: u16, dst_port: u16) -> Vec<u8> {
    let mut bytes = std::vec![0; 20];
    let header =
        tcp::Header { src_port, dst_port, seq: 1, ack: 0, flags: tcp::Flags::SYN, window: 9, urgent: 0 };
    header.emit(&tcp::Options::default(), pseudo(Protocol::TCP, 20), &mut bytes);
    bytes
}

fn echo() -> Vec<u8> {
    let mut bytes = *b"________data";
    icmp::Header::EchoRequest { ident: 1, seq: 1 }
        .emit(bytes.first_chunk_mut().expect("8"), Sum::of(b"data"));
    bytes.to_vec()
}

#[test]
fn link_addresses_are_checked_on_both_sides() {
    let table = [
        (OURS, PEER, Ok(())),
        (Mac::BROADCAST, PEER, Ok(())),
        (Mac([1, 0, 0x5e, 0, 0, 1]), PEER, Ok(())),
        (Mac([2, 0, 0, 0, 0, 9]), PEER, Err(DropReason::EthNotForUs)),
        (OURS, OURS, Err(DropReason::EthBadSource)),
        (OURS, Mac::BROADCAST, Err(DropReason::EthBadSource)),
        (OURS, Mac([1, 0, 0x5e, 0, 0, 1]), Err(DropReason::EthBadSource)),
    ];
    for (dst, src, expected) in table {
        let mut bytes = [0; eth::HEADER_LEN];
        eth::Header { dst, src, ethertype: EtherType::IPV4 }.emit(&mut bytes);
        let frame = Frame::parse(&bytes).expect("well formed");
        assert_eq!(check_link(OURS, &frame), expected, "{src} to {dst}");
    }
}

#[test]
fn transport_rules_in_one_table() {
    use Scope::{Group, Unicast};
    let table = [
        ("tcp", Unicast, frame(Protocol::TCP, &segment(5, 80)), Ok(())),
        ("tcp to a group", Group, frame(Protocol::TCP, &segment(5, 80)), Err(DropReason::TcpGroupAddress)),
        ("tcp from port 0", Unicast, frame(Protocol::TCP, &segment(0, 80)), Err(DropReason::TcpPortZero)),
        ("tcp to port 0", Unicast, frame(Protocol::TCP, &segment(5, 0)), Err(DropReason::TcpPortZero)),
        ("udp", Unicast, frame(Protocol::UDP, &datagram(5, 53)), Ok(())),
        ("udp to a group", Group, frame(Protocol::UDP, &datagram(5, 53)), Ok(())),
        ("udp to port 0", Unicast, frame(Protocol::UDP, &datagram(5, 0)), Err(DropReason::UdpPortZero)),
        ("udp from port 0", Unicast, frame(Protocol::UDP, &datagram(0, 53)), Ok(())),
        ("icmp", Unicast, frame(Protocol::ICMP, &echo()), Ok(())),
        ("ip in ip", Unicast, frame(Protocol(4), &datagram(5, 53)), Err(DropReason::IpUnknownProtocol)),
        ("gre", Unicast, frame(Protocol(47), &[0; 20]), Err(DropReason::IpUnknownProtocol)),
    ];
    for (name, scope, bytes, expected) in table {
        assert_eq!(verdict(ChecksumPolicy::Verify, scope, &bytes), expected, "{name}");
    }
}

#[test]
fn a_flipped_bit_is_caught_by_the_transport_checksum() {
    let protocols = [
        (frame(Protocol::TCP, &segment(5, 80)), DropReason::TcpChecksum),
        (frame(Protocol::UDP, &datagram(5, 53)), DropReason::UdpChecksum),
        (frame(Protocol::ICMP, &echo()), DropReason::IcmpChecksum),
    ];
    for (mut bytes, reason) in protocols {
        *bytes.last_mut().expect("not empty") ^= 0x10;
        assert_eq!(verdict(ChecksumPolicy::Verify, Scope::Unicast, &bytes), Err(reason));
        assert_eq!(verdict(ChecksumPolicy::PartialOk, Scope::Unicast, &bytes), Err(reason));
    }
}

#[test]
fn udp_without_checksum_is_delivered() {
    let mut bytes = datagram(5, 53);
    bytes[6..8].copy_from_slice(&[0, 0]);
    bytes[11] ^= 1;
    assert_eq!(verdict(ChecksumPolicy::Verify, Scope::Unicast, &frame(Protocol::UDP, &bytes)), Ok(()));
}

#[test]
fn a_datagram_shorter_than_its_packet_is_delivered_by_its_own_length() {
    let mut bytes = datagram(5, 53);
    bytes.extend_from_slice(b"junk");
    let bytes = frame(Protocol::UDP, &bytes);
    assert_eq!(verdict(ChecksumPolicy::Verify, Scope::Unicast, &bytes), Ok(()));
    let parsed = packet::parse(&bytes).expect("well formed");
    let packet::Net::Ipv4(_, Transport::Udp(datagram)) = parsed.net else { panic!("not UDP") };
    assert_eq!(datagram.payload(), b"ping");
}

#[test]
fn unfinished_checksums_pass_only_where_they_are_allowed() {
    let mut udp = datagram(5, 53);
    udp[6..8].copy_from_slice(&pseudo(Protocol::UDP, 12).folded().to_be_bytes());
    let mut tcp = segment(5, 80);
    tcp[16..18].copy_from_slice(&pseudo(Protocol::TCP, 20).folded().to_be_bytes());
    for (protocol, bytes, reason) in
        [(Protocol::UDP, udp, DropReason::UdpChecksum), (Protocol::TCP, tcp, DropReason::TcpChecksum)]
    {
        let bytes = frame(protocol, &bytes);
        assert_eq!(verdict(ChecksumPolicy::Verify, Scope::Unicast, &bytes), Err(reason));
        assert_eq!(verdict(ChecksumPolicy::PartialOk, Scope::Unicast, &bytes), Ok(()));
    }
}

#[test]
fn fragments_are_refused_whatever_they_carry() {
    for bits in [0x2000u16, 0x0001, 0x3fff] {
        let mut bytes = frame(Protocol::UDP, &datagram(5, 53));
        bytes[20..22].copy_from_slice(&bits.to_be_bytes());
        assert_eq!(verdict(ChecksumPolicy::Verify, Scope::Unicast, &bytes), Err(DropReason::IpFragment));
    }
}

/// The way of a received frame through every check, to the one reason why it is dropped.
fn receive(errors: &mut ErrorSource, bytes: &[u8]) -> Result<(), DropReason> {
    let mut addresses = Addresses::default();
    addresses.insert(DST, 24);
    let parsed = packet::parse(bytes)?;
    check_link(OURS, &parsed.eth)?;
    let packet::Net::Ipv4(ip, transport) = parsed.net else { return Err(DropReason::EthUnknownType) };
    let scope = addresses.check(parsed.eth.dst(), &ip)?;
    check_transport(ChecksumPolicy::Verify, scope, &ip, &transport)?;
    match transport {
        Transport::Icmp(message) => match message.kind() {
            icmp::Kind::EchoRequest(echo) => echo_reply(scope, 1500, &echo).map(|_| ()),
            icmp::Kind::Error(error) => on_error(scope, &ip, &error).map(|_| ()),
            icmp::Kind::EchoReply(_) | icmp::Kind::Other => Err(DropReason::IcmpUnknownType),
        },
        Transport::Udp(_) => {
            let offender = Offender { scope, packet: ip, bytes: parsed.eth.payload() };
            let error = errors.complain(Instant::ZERO, Complaint::Port, &offender);
            error.map(|_| ()).ok_or(DropReason::UdpNoSocket)
        }
        Transport::Tcp(_) | Transport::Fragment | Transport::Other => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    /// Valid frames, damaged: the checks neither panic nor let a damaged header through to a protocol.
    #[test]
    fn damaged_frames_are_dropped_with_a_reason(
        protocol in 0usize..3, damage in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..4),
        cut in any::<prop::sample::Index>(), is_cut: bool,
    ) {
        let mut errors = ErrorSource::new(Instant::ZERO, Prf::new([1; 16]), 1, 1);
        let whole = match protocol {
            0 => frame(Protocol::TCP, &segment(5, 80)),
            1 => frame(Protocol::UDP, &datagram(5, 53)),
            _ => frame(Protocol::ICMP, &echo()),
        };
        prop_assert_eq!(receive(&mut errors, &whole), Ok(()));
        let mut bytes = whole.clone();
        for (place, flip) in &damage {
            bytes[place.index(whole.len())] ^= flip;
        }
        if is_cut {
            bytes.truncate(cut.index(whole.len()));
        }
        let differing = bytes.iter().zip(&whole).filter(|(a, b)| a != b).count();
        let verdict = receive(&mut errors, &bytes);
        if is_cut {
            prop_assert!(verdict.is_err(), "cut to {}", bytes.len());
        } else if differing == 1 && bytes[6..12] == whole[6..12] {
            prop_assert!(verdict.is_err(), "one wrong byte outside the source MAC was let through");
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut errors = ErrorSource::new(Instant::ZERO, Prf::new([1; 16]), 1, 1);
        prop_assert!(receive(&mut errors, &bytes).is_err());
        let mut ours = frame(Protocol::ICMP, &echo());
        ours.truncate(eth::HEADER_LEN);
        ours.extend_from_slice(&bytes);
        prop_assert!(receive(&mut errors, &ours).is_err());
    }
}
