//! Where mutation starts: well-formed packets, and plays that are worth varying.

use std::net::Ipv4Addr;

use ringwire_wire::checksum::Sum;
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::ipv4::{self, Protocol};
use ringwire_wire::tcp::{self, Flags, Options, SackBlocks, Timestamps};
use ringwire_wire::{arp, icmp, udp};

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Two minutes without an acknowledgement once left BBR with a rate of one segment in seven seconds, for ever.
const SILENCE_UNDER_BBR: [u8; 35] = [
    96, 255, 218, 0, 20, 0, 255, 30, 0, 255, 255, 0, 35, 8, 255, 30, 0, 255, 126, 255, 30, 0, 255, 0, 255,
    30, 0, 255, 30, 0, 0, 3, 20, 0, 255,
];

/// A wait that was computed at a rate of a few bytes a second once outlived that rate.
const LONG_WAIT_UNDER_BBR: [u8; 116] = [
    96, 1, 29, 0, 20, 29, 0, 20, 0, 255, 30, 29, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158,
    158, 150, 158, 69, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158,
    158, 9, 86, 4, 0, 20, 0, 0, 255, 30, 29, 158, 158, 158, 158, 158, 158, 148, 158, 158, 158, 158, 158, 158,
    158, 158, 158, 158, 217, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158, 158,
    158, 9, 86, 4, 0, 35, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 29, 9, 86, 1, 255, 8, 226, 251, 29,
];

/// The same rate, where no round trip had been measured either.
const UNMEASURED_UNDER_BBR: [u8; 96] = [
    96, 1, 29, 0, 20, 0, 9, 30, 29, 213, 41, 249, 1, 42, 42, 42, 42, 42, 216, 213, 15, 107, 30, 29, 213, 126,
    126, 126, 126, 126, 126, 126, 126, 126, 126, 126, 126, 126, 126, 126, 94, 126, 126, 126, 126, 126, 126,
    146, 126, 122, 126, 126, 126, 11, 11, 11, 11, 11, 11, 11, 11, 126, 126, 126, 146, 126, 122, 126, 126,
    126, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 42, 42, 42, 85,
    96,
];

/// The seed corpus of a target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "wire" => vec![
            frame(EtherType::ARP, &arp_packet()),
            frame(EtherType::IPV4, &ip(Protocol::TCP, &segment(&everything()))),
            frame(EtherType::IPV4, &ip(Protocol::TCP, &segment(&sack()))),
            frame(EtherType::IPV4, &ip(Protocol::UDP, &datagram())),
            frame(EtherType::IPV4, &ip(Protocol::ICMP, &echo())),
            frame(EtherType(0x8100), &[&[0, 7, 8, 0][..], &ip(Protocol::UDP, &datagram())].concat()),
            ip(Protocol::TCP, &segment(&Options::default())),
            segment(&everything()),
            datagram(),
        ],
        "arp" => vec![arp_packet()],
        "tcp_options" => [everything(), sack(), Options::default()].iter().map(option_bytes).collect(),
        "icmp" => vec![echo(), quoting()],
        "connection" => [[0, 0], [0x50, 0], [0x60, 1], [0x70, 7], [0x80, 8]]
            .iter()
            .flat_map(|[choice, more]| plays(&[*choice, *more, 0x1d, 0]))
            .chain([SILENCE_UNDER_BBR.to_vec(), LONG_WAIT_UNDER_BBR.to_vec(), UNMEASURED_UNDER_BBR.to_vec()])
            .collect(),
        _ => plays(&[0, 0]),
    }
}

/// Handshakes by hand, text in and out of order, loss, windows, time, the end.
fn plays(head: &[u8]) -> Vec<Vec<u8>> {
    let bodies: [&[u8]; 9] = [
        &[0x1f, 0, 3, 0x14, 0, 255, 4, 0, 100, 9, 0, 255, 255, 0x1f, 0, 1, 0, 0, 100, 9, 0, 255, 255],
        &[0x14, 0, 255, 0x1e, 0, 255, 0x1e, 0, 255, 8, 0, 255, 255, 0x1e, 0, 255, 0x1e, 0, 255, 0x1e, 0, 255],
        &[0, 0, 100, 0x17, 0, 0, 0x14, 0, 200, 8, 0, 255, 255],
        &[0, 0, 100, 5, 0, 80, 50, 5, 0, 64, 200, 0x17, 0, 0],
        &[0x14, 0, 255, 0x14, 0, 255, 12, 0, 2, 60, 10, 20, 30, 70, 80, 1, 40, 0x1e, 0, 30, 8, 0, 1, 0],
        &[0x14, 0, 255, 8, 0, 0, 0, 0x1e, 0, 80, 0x1e, 0, 255, 8, 0, 255, 255],
        &[16, 0, 10, 0x17, 0, 0, 0x1b, 0, 0x80, 0x1e, 0, 80, 8, 0, 0, 0],
        &[
            15, 0, 0, 0x1d, 15, 1, 0, 0x1d, 15, 2, 0, 0x1d, 15, 3, 0, 0x1d, 15, 4, 0, 0x1d, 8, 4, 1, 1, 0, 4,
            30,
        ],
        &[
            15, 0, 0, 5, 0, 0, 9, 0x1b, 0, 0x20, 16, 0, 3, 14, 0, 64, 17, 0, 2, 0, 64, 4, 18, 0, 2, 64, 64,
            0, 0, 0, 9,
        ],
    ];
    bodies.iter().map(|body| [head, body].concat()).collect()
}

fn frame(ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut head = [0; eth::HEADER_LEN];
    eth::Header { dst: Mac([2, 0, 0, 0, 0, 1]), src: Mac([2, 0, 0, 0, 0, 2]), ethertype }.emit(&mut head);
    [&head[..], payload].concat()
}

fn ip(protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let payload_len = payload.len() as u16;
    let header =
        ipv4::Header { src: A, dst: B, protocol, tos: 0, ttl: 64, id: 7, dont_fragment: true, payload_len };
    let mut head = [0; ipv4::HEADER_LEN];
    header.emit(&mut head);
    [&head[..], payload].concat()
}

fn arp_packet() -> Vec<u8> {
    let (sender_mac, target_mac) = (Mac([2, 0, 0, 0, 0, 2]), Mac([0; 6]));
    let mut bytes = [0; arp::PACKET_LEN];
    arp::Packet { op: arp::Op::Request, sender_mac, sender_ip: A, target_mac, target_ip: B }.emit(&mut bytes);
    bytes.to_vec()
}

fn everything() -> Options {
    Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 1, echo: 2 }),
        ..Options::default()
    }
}

fn sack() -> Options {
    let mut sack = SackBlocks::NONE;
    sack.push(10, 20);
    sack.push(30, 40);
    Options { sack, timestamps: Some(Timestamps { value: 3, echo: 4 }), ..Options::default() }
}

fn option_bytes(options: &Options) -> Vec<u8> {
    let mut bytes = vec![0; options.encoded_len()];
    options.emit(&mut bytes);
    bytes
}

fn segment(options: &Options) -> Vec<u8> {
    let (flags, window) = (Flags::ACK | Flags::PSH, 1000);
    let header = tcp::Header { src_port: 80, dst_port: 4000, seq: 1, ack: 2, flags, window, urgent: 0 };
    let mut head = [0; tcp::MAX_HEADER_LEN];
    let len = tcp::HEADER_LEN + options.encoded_len();
    let pseudo = Sum::pseudo_v4(A, B, Protocol::TCP, len as u16 + 5);
    header.emit(options, pseudo + Sum::of(b"hello"), &mut head);
    [&head[..len], b"hello"].concat()
}

fn datagram() -> Vec<u8> {
    let mut head = [0; udp::HEADER_LEN];
    let pseudo = Sum::pseudo_v4(A, B, Protocol::UDP, 13);
    udp::Header { src_port: 53, dst_port: 4000, len: 13 }.emit(&mut head, pseudo + Sum::of(b"hello"));
    [&head[..], b"hello"].concat()
}

fn echo() -> Vec<u8> {
    let mut head = [0; icmp::HEADER_LEN];
    icmp::Header::EchoRequest { ident: 1, seq: 2 }.emit(&mut head, Sum::of(b"ping"));
    [&head[..], b"ping"].concat()
}

fn quoting() -> Vec<u8> {
    let quoted = ip(Protocol::UDP, &datagram());
    let mut head = [0; icmp::HEADER_LEN];
    icmp::Header::Unreachable { code: 4, next_hop_mtu: 1400 }.emit(&mut head, Sum::of(&quoted));
    [&head[..], &quoted].concat()
}
