use std::vec;
use std::vec::Vec;

use core::net::IpAddr;
use core::time::Duration;
use ringwire_wire::icmp::{Kind, Message};

use super::*;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn header(payload_len: u16) -> ipv4::Header {
    ipv4::Header {
        src: PEER,
        dst: OURS,
        protocol: Protocol::UDP,
        tos: 0,
        ttl: 64,
        id: 0,
        dont_fragment: false,
        payload_len,
    }
}

fn packet(header: ipv4::Header) -> Vec<u8> {
    let mut fixed = [0; ipv4::HEADER_LEN];
    header.emit(&mut fixed);
    let mut bytes = fixed.to_vec();
    bytes.resize(ipv4::HEADER_LEN + usize::from(header.payload_len), 0x5a);
    bytes
}

fn source(rate_per_sec: u32, burst: u32) -> ErrorSource {
    ErrorSource::new(Instant::ZERO, Prf::new([3; 16]), rate_per_sec, burst)
}

fn offender(scope: Scope, bytes: &[u8]) -> Offender<'_> {
    Offender { scope, packet: Packet::parse(bytes).expect("well formed"), bytes }
}

/// The error about these bytes from a source that has never sent one.
fn error_about(scope: Scope, bytes: &[u8]) -> Option<ErrorOut<'_>> {
    source(10, 10).complain(Instant::ZERO, Complaint::Port, &offender(scope, bytes))
}

#[test]
fn an_echo_comes_back_with_its_data_if_it_fits() {
    let data = vec![7; 1473];
    let request = |len: usize| Echo { ident: 0x1234, seq: 0xfffe, data: &data[..len] };
    for len in [0, 1, 56, 1472] {
        let reply = echo_reply(Scope::Unicast, 1500, &request(len)).expect("answered");
        assert_eq!(reply.header, Header::EchoReply { ident: 0x1234, seq: 0xfffe });
        assert_eq!(reply.data, &data[..len]);
    }
    assert_eq!(echo_reply(Scope::Unicast, 1500, &request(1473)), Err(DropReason::IcmpTooLong));
    assert_eq!(echo_reply(Scope::Unicast, 20, &request(1)), Err(DropReason::IcmpTooLong));
    assert_eq!(echo_reply(Scope::Group, 1500, &request(1)), Err(DropReason::IcmpToGroup));
}

#[test]
fn a_port_unreachable_quotes_the_packet_but_not_its_padding() {
    let mut bytes = packet(header(12));
    bytes.extend_from_slice(b"padding of the link");
    let error = error_about(Scope::Unicast, &bytes).expect("sent");
    assert_eq!((error.src, error.dst), (OURS, PEER));
    assert_eq!(error.header, Header::Unreachable { code: 3, next_hop_mtu: 0 });
    assert_eq!(error.quoted, &bytes[..32]);
}

#[test]
fn an_error_never_exceeds_576_bytes() {
    let bytes = packet(header(1400));
    let error = error_about(Scope::Unicast, &bytes).expect("sent");
    assert_eq!(error.quoted.len() + ipv4::HEADER_LEN + HEADER_LEN, 576);
}

#[test]
fn what_must_not_be_reported_is_not() {
    let mut later_fragment = packet(header(16));
    later_fragment[7] = 1;
    let mut first_fragment = packet(header(16));
    first_fragment[6] = 0x20;
    let from = |src: [u8; 4]| packet(ipv4::Header { src: src.into(), ..header(16) });
    let table = [
        ("plain", Scope::Unicast, packet(header(16)), true),
        ("first fragment", Scope::Unicast, first_fragment, true),
        ("later fragment", Scope::Unicast, later_fragment, false),
        ("to a group", Scope::Group, packet(header(16)), false),
        ("icmp", Scope::Unicast, packet(ipv4::Header { protocol: Protocol::ICMP, ..header(16) }), false),
        ("from nowhere", Scope::Unicast, from([0, 0, 0, 0]), false),
        ("from loopback", Scope::Unicast, from([127, 0, 0, 1]), false),
        ("from a group", Scope::Unicast, from([224, 0, 0, 1]), false),
        ("from everybody", Scope::Unicast, from([255, 255, 255, 255]), false),
        ("from class E", Scope::Unicast, from([240, 0, 0, 1]), false),
    ];
    for (name, scope, bytes, expected) in table {
        assert_eq!(error_about(scope, &bytes).is_some(), expected, "{name}");
    }
}

/// Counts the errors sent for `probes` packets that arrive `gap` apart.
fn sent(source: &mut ErrorSource, start: Instant, gap: Duration, probes: u32) -> u32 {
    let bytes = packet(header(16));
    let offender = offender(Scope::Unicast, &bytes);
    let mut is_sent = |n| source.complain(start + gap * n, Complaint::Port, &offender).is_some();
    (0..probes).map(|n| u32::from(is_sent(n))).sum()
}

#[test]
fn the_rate_holds_in_a_burst_and_in_the_long_run() {
    let mut source = source(100, 20);
    let burst = sent(&mut source, Instant::ZERO, Duration::from_nanos(1), 10_000);
    assert!((7..=20).contains(&burst), "{burst} of a burst of 20, blurred by up to 3");
    let long = sent(&mut source, Instant::from_secs(1), Duration::from_micros(100), 100_000);
    assert!((300..=1_020).contains(&long), "{long} in ten seconds at 100 per second, blurred");
    let slow = sent(&mut source, Instant::from_secs(100), Duration::from_millis(100), 50);
    assert_eq!(slow, 50, "below the rate every packet is reported");
}

#[test]
fn the_burst_does_not_tell_exactly_how_many_probes_were_answered() {
    let burst_at =
        |secs| sent(&mut source(100, 60), Instant::from_secs(secs), Duration::from_nanos(1), 1_000);
    let first = burst_at(1);
    assert!((2..40).any(|secs| burst_at(secs) != first), "always {first}");
}

#[test]
fn a_rate_of_zero_sends_nothing_and_idleness_earns_no_more_than_a_burst() {
    assert_eq!(sent(&mut source(0, 10), Instant::from_secs(9), Duration::from_secs(9), 100), 0);
    let mut idle = source(1_000, 5);
    assert!(sent(&mut idle, Instant::from_secs(86_400), Duration::from_nanos(1), 100) <= 5);
}

/// An ICMP error message, and the packet that carries it.
fn read_error(icmp: &[u8], scope: Scope) -> Result<ErrorIn, DropReason> {
    let mut bytes = packet(ipv4::Header { protocol: Protocol::ICMP, ..header(icmp.len() as u16) });
    bytes[ipv4::HEADER_LEN..].copy_from_slice(icmp);
    let packet = Packet::parse(&bytes).expect("well formed");
    let Kind::Error(error) = Message::parse(packet.payload()).expect("8 bytes").kind() else {
        panic!("not an error")
    };
    on_error(scope, &packet, &error)
}

/// The front of a TCP packet from us to the peer: ports 4660 and 80, sequence number 0x01020304.
fn quote() -> Vec<u8> {
    let sent = ipv4::Header { src: OURS, dst: PEER, protocol: Protocol::TCP, ..header(20) };
    let mut bytes = packet(sent)[..28].to_vec();
    bytes[20..].copy_from_slice(&[0x12, 0x34, 0, 80, 1, 2, 3, 4]);
    bytes
}

fn message(icmp_type: u8, code: u8, mtu: u16, quoted: &[u8]) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    [&[icmp_type, code, 0, 0, 0, 0, high, low], quoted].concat()
}

#[test]
fn an_error_names_the_flow_as_seen_from_here() {
    let error = read_error(&message(3, 3, 0, &quote()), Scope::Unicast).expect("for us");
    assert_eq!(error.protocol, Protocol::TCP);
    assert_eq!((error.flow.local, error.flow.local_port), (IpAddr::V4(OURS), 0x1234));
    assert_eq!((error.flow.remote, error.flow.remote_port), (IpAddr::V4(PEER), 80));
    assert_eq!((error.seq, error.kind), (0x0102_0304, ErrorKind::Unreachable(Unreachable::Port)));
}

/// The errors are Linux's for a socket that hears of them.
#[test]
fn types_and_codes_map_to_kinds_and_these_to_errors() {
    const ENONET: i32 = 64;
    const EPROTO: i32 = 71;
    const ENOPROTOOPT: i32 = 92;
    const EOPNOTSUPP: i32 = 95;
    const ENETUNREACH: i32 = 101;
    const ECONNREFUSED: i32 = 111;
    const EHOSTDOWN: i32 = 112;
    const EHOSTUNREACH: i32 = 113;
    let kind = |message: &[u8]| read_error(message, Scope::Unicast).map(|error| error.kind);
    let unreachable = [
        (3, 0, Unreachable::Net, ENETUNREACH),
        (3, 1, Unreachable::Host, EHOSTUNREACH),
        (3, 2, Unreachable::Protocol, ENOPROTOOPT),
        (3, 3, Unreachable::Port, ECONNREFUSED),
        (3, 5, Unreachable::SourceRoute, EOPNOTSUPP),
        (3, 6, Unreachable::Net, ENETUNREACH),
        (3, 7, Unreachable::HostUnknown, EHOSTDOWN),
        (3, 8, Unreachable::HostIsolated, ENONET),
        (3, 9, Unreachable::Net, ENETUNREACH),
        (3, 10, Unreachable::Prohibited, EHOSTUNREACH),
        (3, 11, Unreachable::Net, ENETUNREACH),
        (3, 12, Unreachable::Host, EHOSTUNREACH),
        (3, 13, Unreachable::Prohibited, EHOSTUNREACH),
        (3, 14, Unreachable::Prohibited, EHOSTUNREACH),
        (3, 15, Unreachable::Prohibited, EHOSTUNREACH),
        (11, 0, Unreachable::TimeExceeded, EHOSTUNREACH),
        (11, 1, Unreachable::TimeExceeded, EHOSTUNREACH),
        (12, 0, Unreachable::ParameterProblem, EPROTO),
    ];
    for (icmp_type, code, why, errno) in unreachable {
        let verdict = kind(&message(icmp_type, code, 0, &quote()));
        assert_eq!(verdict, Ok(ErrorKind::Unreachable(why)), "type {icmp_type} code {code}");
        assert_eq!(why.errno(), errno, "{why}");
        assert_eq!(why.is_lasting(), icmp_type == 3, "{why}");
    }
    for (mtu, known) in [(1400, true), (68, true), (0, true), (67, false), (1, false)] {
        let expected =
            if known { Ok(ErrorKind::FragmentationNeeded { mtu }) } else { Err(DropReason::IcmpBadMtu) };
        assert_eq!(kind(&message(3, 4, mtu, &quote())), expected, "{mtu}");
    }
    for (icmp_type, code) in [(3, 16), (3, 255), (11, 2)] {
        assert_eq!(kind(&message(icmp_type, code, 0, &quote())), Err(DropReason::IcmpUnknownType));
    }
}

#[test]
fn quotes_that_prove_nothing_are_dropped() {
    let edit = |at: usize, value: u8| {
        let mut quoted = quote();
        quoted[at] = value;
        quoted
    };
    let table = [
        ("empty", Vec::new()),
        ("only an IP header", quote()[..20].to_vec()),
        ("seven bytes of TCP", quote()[..27].to_vec()),
        ("not from us", edit(15, 9)),
        ("ICMP about ICMP", edit(9, 1)),
        ("IP in IP", edit(9, 4)),
        ("later fragment", edit(7, 1)),
        ("version 6", edit(0, 0x65)),
        ("header of 16 bytes", edit(0, 0x44)),
        ("header of 60 bytes", edit(0, 0x4f)),
    ];
    for (name, quoted) in table {
        let verdict = read_error(&message(3, 3, 0, &quoted), Scope::Unicast);
        assert_eq!(verdict, Err(DropReason::IcmpBadQuote), "{name}");
    }
    let to_group = read_error(&message(3, 3, 0, &quote()), Scope::Group);
    assert_eq!(to_group, Err(DropReason::IcmpToGroup));
}
