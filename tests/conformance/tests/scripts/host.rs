//! Hosts beside TCP: ICMP, UDP and ARP of RFC 1122, as far as one worker with an address of its own answers for them.

use std::net::Ipv4Addr;

use ringwire_conformance::{PEER, Script, WORKER, script};
use ringwire_wire::checksum::Sum;
use ringwire_wire::icmp::{self, Kind};
use ringwire_wire::ipv4::Protocol;
use ringwire_wire::packet::{self, Net, Transport};

const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 255);

fn echo(len: usize) -> Vec<u8> {
    let data = vec![0x5a; len];
    let mut header = [0; icmp::HEADER_LEN];
    icmp::Header::EchoRequest { ident: 7, seq: 9 }.emit(&mut header, Sum::of(&data));
    [&header[..], &data].concat()
}

/// A datagram from port 5000 to this port of the worker; a checksum of zero is none.
fn datagram(port: u16, len_field: u16, text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [5000, port, len_field, 0] {
        bytes.extend_from_slice(&u16::to_be_bytes(field));
    }
    [&bytes[..], text].concat()
}

/// The one ICMP message that has left: source, what it says, and what it carries.
#[track_caller]
fn icmp_answer(s: &mut Script) -> (Ipv4Addr, u8, u8, Vec<u8>) {
    let frames = std::mem::take(&mut s.others);
    assert_eq!(frames.len(), 1, "one answer");
    let frame = packet::parse(&frames[0]).expect("well-formed");
    let Net::Ipv4(ip, Transport::Icmp(message)) = frame.net else { panic!("not ICMP") };
    let carried = match message.kind() {
        Kind::EchoReply(echo) => echo.data.to_vec(),
        Kind::Error(error) => error.quoted.to_vec(),
        _ => Vec::new(),
    };
    (ip.src(), message.icmp_type(), message.code(), carried)
}

/// Echo comes back with its data, from the address that was asked.
#[test]
fn rfc1122_3_2_2_6_echo_is_answered() {
    script(|s| {
        for len in [0, 1, 56, 1472] {
            s.inject_ip((PEER, WORKER), Protocol::ICMP.0, &echo(len));
            assert_eq!(icmp_answer(s), (WORKER, 0, 0, vec![0x5a; len]));
        }
    });
}

/// Echo to a broadcast address, from an impossible source, or with a wrong checksum is not.
#[test]
fn rfc1122_3_2_2_6_echo_that_is_not_answered() {
    script(|s| {
        s.inject_ip((PEER, BROADCAST), Protocol::ICMP.0, &echo(8));
        s.inject_ip((BROADCAST, WORKER), Protocol::ICMP.0, &echo(8));
        s.inject_ip((Ipv4Addr::LOCALHOST, WORKER), Protocol::ICMP.0, &echo(8));
        let mut spoilt = echo(8);
        spoilt[2] ^= 1;
        s.inject_ip((PEER, WORKER), Protocol::ICMP.0, &spoilt);
        s.inject_ip((PEER, WORKER), Protocol::ICMP.0, &echo(8)[..7]);
        assert_eq!(s.others.len(), 0);
    });
}

/// ICMP of a type that nobody knows, and an error about an error, draw nothing.
#[test]
fn rfc1122_3_2_2_unknown_types_are_dropped() {
    script(|s| {
        for kind in [1, 2, 6, 13, 15, 17, 40, 255] {
            let mut bytes = echo(4);
            bytes[0] = kind;
            bytes[2..4].copy_from_slice(&[0, 0]);
            let checksum = Sum::of(&bytes).finish();
            bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
            s.inject_ip((PEER, WORKER), Protocol::ICMP.0, &bytes);
        }
        assert_eq!(s.others.len(), 0);
    });
}

/// A datagram to a port that nobody has: port unreachable, with the header and the first bytes of what it is about.
#[test]
fn rfc1122_4_1_3_1_closed_port_is_unreachable() {
    script(|s| {
        let bytes = datagram(9, 12, b"text");
        s.inject_ip((PEER, WORKER), Protocol::UDP.0, &bytes);
        let (source, kind, code, quoted) = icmp_answer(s);
        assert_eq!((source, kind, code), (WORKER, 3, 3));
        assert_eq!(quoted.get(20..28), bytes.get(..8));
    });
}

/// Such errors are limited in rate.
#[test]
fn rfc1812_4_3_2_8_errors_are_limited() {
    script(|s| {
        for _ in 0..5_000 {
            s.inject_ip((PEER, WORKER), Protocol::UDP.0, &datagram(9, 12, b"text"));
        }
        assert!((1..2_500).contains(&s.others.len()), "{}", s.others.len());
    });
}

/// No error about what went to a broadcast address.
#[test]
fn rfc1122_3_2_2_no_error_about_a_broadcast() {
    script(|s| {
        s.inject_ip((PEER, BROADCAST), Protocol::UDP.0, &datagram(9, 12, b"text"));
        s.inject_ip((PEER, Ipv4Addr::BROADCAST), Protocol::UDP.0, &datagram(9, 12, b"text"));
        assert_eq!(s.others.len(), 0);
    });
}

/// Nor about what came from an impossible source.
#[test]
fn rfc1122_3_2_2_no_error_to_an_impossible_source() {
    script(|s| {
        for source in [Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST, BROADCAST] {
            s.inject_ip((source, WORKER), Protocol::UDP.0, &datagram(9, 12, b"text"));
        }
        assert_eq!(s.others.len(), 0);
    });
}

/// A UDP length below eight or beyond the packet, and a wrong checksum: dropped in silence.
#[test]
fn rfc768_wrong_lengths_and_checksums_are_dropped() {
    script(|s| {
        for len_field in [0, 7, 13, 0xffff] {
            s.inject_ip((PEER, WORKER), Protocol::UDP.0, &datagram(9, len_field, b"text"));
        }
        let mut spoilt = datagram(9, 12, b"text");
        spoilt[6] = 0x12;
        s.inject_ip((PEER, WORKER), Protocol::UDP.0, &spoilt);
        assert_eq!(s.others.len(), 0);
    });
}

/// A protocol that nobody has here draws protocol unreachable, and nothing else; no error goes to a group or about one.
#[test]
fn rfc1122_3_2_2_1_unknown_protocols_are_unreachable() {
    script(|s| {
        s.establish();
        for protocol in [0, 2, 4, 41, 47, 50, 132, 255] {
            s.inject_ip((PEER, WORKER), protocol, &[0x45; 40]);
            let (source, kind, code, quoted) = icmp_answer(s);
            assert_eq!((source, kind, code), (WORKER, 3, 2), "protocol {protocol}");
            assert_eq!((quoted.get(9), quoted.get(20..28)), (Some(&protocol), Some(&[0x45; 8][..])));
            s.inject_ip((PEER, BROADCAST), protocol, &[0x45; 40]);
            s.inject_ip((BROADCAST, WORKER), protocol, &[0x45; 40]);
            assert_eq!(s.others.len(), 0);
        }
        s.expect_alive();
    });
}
