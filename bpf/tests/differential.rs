//! The steering program against the `wire` parser: both must see the same key in the same bytes, and the program's
//! verdict must follow from that key. Packets are generated, each one is also truncated and bit-flipped.
//!
//! A run uses a fresh seed and prints it when it fails; `RINGWIRE_SEED=n` repeats it.

mod common;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use common::*;
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput};
use ringwire_bpf::{AttachConfig, Ownership, Protocol, Steering, Verdict};
use ringwire_wire::eth::{EtherType, Frame, Mac};
use ringwire_wire::ipv4::{self, Protocol as IpProtocol};
use ringwire_wire::{arp, icmp, packet};

const PACKETS: u32 = 20_000;
const STEERED_TCP: [u16; 2] = [TCP_PORT, 80];
const STEERED_UDP: [u16; 2] = [UDP_PORT, 53];

/// What steering is decided on, as the model finds it and as the program finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Malformed,
    EtherType,
    Mac,
    Arp { local: Ipv4Addr },
    Fragment { local: Ipv4Addr, protocol: u8 },
    Options { local: Ipv4Addr, protocol: u8 },
    Protocol { local: Ipv4Addr, protocol: u8 },
    Flow { local: Ipv4Addr, protocol: u8, port: u16 },
    IcmpError { local: Ipv4Addr, protocol: u8, port: u16 },
    Vlan,
}

// -- the model: the `wire` parser ------------------------------------------------------------------

fn model_key(bytes: &[u8]) -> Key {
    let Ok(eth) = Frame::parse(bytes) else { return Key::Malformed };
    match eth.ethertype() {
        _ if eth.vlan().is_some_and(|id| id != 0) => Key::Vlan,
        EtherType::ARP if eth.dst() != MAC && !eth.dst().is_broadcast() => Key::Mac,
        EtherType::ARP => match arp::Packet::parse(eth.payload()) {
            Ok(arp) => Key::Arp { local: arp.target_ip },
            Err(_) => Key::Malformed,
        },
        EtherType::IPV4 if eth.dst() != MAC => Key::Mac,
        EtherType::IPV4 => ipv4::Packet::parse(eth.payload()).map_or(Key::Malformed, |ip| model_ipv4(&ip)),
        _ => Key::EtherType,
    }
}

fn model_ipv4(ip: &ipv4::Packet<'_>) -> Key {
    let (local, protocol) = (ip.dst(), ip.protocol().0);
    if ip.is_fragment() {
        return Key::Fragment { local, protocol };
    }
    if ip.source_routed() != Ok(false) {
        return Key::Options { local, protocol };
    }
    // Eight bytes decide; whether the rest of the transport header is sound is the engine's to judge and to count.
    let found = match (ip.protocol(), ip.payload()) {
        (IpProtocol::TCP | IpProtocol::UDP, [_, _, high, low, _, _, _, _, ..]) => {
            Some(Key::Flow { local, protocol, port: u16::from_be_bytes([*high, *low]) })
        }
        (IpProtocol::ICMP, payload) => model_icmp(local, payload),
        _ => None,
    };
    found.unwrap_or(Key::Protocol { local, protocol })
}

fn model_icmp(local: Ipv4Addr, payload: &[u8]) -> Option<Key> {
    let icmp::Kind::Error(error) = icmp::Message::parse(payload).ok()?.kind() else { return None };
    let quoted = icmp::Quoted::parse(error.quoted).ok()?;
    let ours = quoted.src == local && matches!(quoted.protocol, IpProtocol::TCP | IpProtocol::UDP);
    ours.then_some(Key::IcmpError { local, protocol: quoted.protocol.0, port: quoted.src_port })
}

fn model_verdict(key: Key) -> Verdict {
    let (local, verdict) = match key {
        Key::Malformed => return Verdict::PassMalformed,
        Key::EtherType => return Verdict::PassEtherType,
        Key::Mac => return Verdict::PassMac,
        Key::Vlan => return Verdict::PassVlan,
        Key::Arp { local } => (local, Verdict::PassArp),
        Key::Fragment { local, .. } => (local, Verdict::PassFragment),
        Key::Options { local, .. } => (local, Verdict::PassOptions),
        Key::Protocol { local, .. } => (local, Verdict::PassProtocol),
        Key::Flow { local, protocol: 6, port } if STEERED_TCP.contains(&port) => {
            (local, Verdict::RedirectTcp)
        }
        Key::Flow { local, protocol: 17, port } if STEERED_UDP.contains(&port) => {
            (local, Verdict::RedirectUdp)
        }
        Key::IcmpError { local, protocol: 6, port } if STEERED_TCP.contains(&port) => {
            (local, Verdict::RedirectIcmpError)
        }
        Key::IcmpError { local, protocol: 17, port } if STEERED_UDP.contains(&port) => {
            (local, Verdict::RedirectIcmpError)
        }
        Key::Flow { local, .. } | Key::IcmpError { local, .. } => (local, Verdict::PassPort),
    };
    match (local, key) {
        (SHARED, _) => verdict,
        (DEDICATED, Key::Arp { .. }) => Verdict::RedirectArp,
        (DEDICATED, _) => Verdict::RedirectDedicated,
        _ => Verdict::PassAddress,
    }
}

/// What the worker would parse must be what steering saw.
fn check_whole_parse(bytes: &[u8], key: Key) -> Result<(), String> {
    let Ok(packet) = packet::parse(bytes) else { return Ok(()) };
    let seen = match packet.net {
        packet::Net::Ipv4(_, packet::Transport::Tcp(segment)) => (6, segment.dst_port()),
        packet::Net::Ipv4(_, packet::Transport::Udp(datagram)) => (17, datagram.dst_port()),
        _ => return Ok(()),
    };
    match key {
        Key::Flow { protocol, port, .. } if (protocol, port) == seen => Ok(()),
        Key::Options { .. } | Key::Mac | Key::Vlan => Ok(()),
        _ => Err(format!("the whole parse sees {seen:?}, the model {key:?}")),
    }
}

// -- the program's key -----------------------------------------------------------------------------

/// `key.bpf.c`: the same extraction, with the key written to a map.
struct KeyProgram {
    object: Object,
    found: MapHandle,
}

impl KeyProgram {
    fn load() -> KeyProgram {
        let object = ObjectBuilder::default()
            .open_file(concat!(env!("OUT_DIR"), "/key.bpf.o"))
            .and_then(|open| open.load())
            .expect("key.bpf.o loads");
        let map = |name| MapHandle::try_from(&object.maps().find(|map| map.name() == name).unwrap()).unwrap();
        let config = map("key_config");
        let mut value = vec![0; config.value_size() as usize];
        value[40..46].copy_from_slice(&MAC.0);
        config.update(&[0; 4], &value, MapFlags::ANY).unwrap();
        let found = map("key_found");
        KeyProgram { object, found }
    }

    /// `struct steer_key`: address (16), port, protocol, kind (enum key_kind).
    fn run(&self, frame: &[u8]) -> Key {
        let input = ProgramInput { data_in: Some(frame), ..ProgramInput::default() };
        self.object.progs_mut().next().unwrap().test_run(input).expect("test run");
        let bytes = self.found.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
        let octets: [u8; 16] = bytes[..16].try_into().unwrap();
        let IpAddr::V4(local) = IpAddr::V6(Ipv6Addr::from(octets)).to_canonical() else {
            return early_key(bytes[19]);
        };
        let port = u16::from_ne_bytes([bytes[16], bytes[17]]);
        let protocol = bytes[18];
        match bytes[19] {
            3 => Key::Arp { local },
            4 => Key::Fragment { local, protocol },
            5 => Key::Options { local, protocol },
            6 => Key::Protocol { local, protocol },
            7 => Key::Flow { local, protocol, port },
            8 => Key::IcmpError { local, protocol, port },
            kind => early_key(kind),
        }
    }
}

fn early_key(kind: u8) -> Key {
    match kind {
        0 => Key::Malformed,
        1 => Key::EtherType,
        2 => Key::Mac,
        9 => Key::Vlan,
        _ => panic!("kind {kind} without a mapped IPv4 address"),
    }
}

// -- generated packets -----------------------------------------------------------------------------

/// SplitMix64: a few lines, and the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn generate(random: &mut Random) -> Vec<u8> {
    let dst = match random.below(20) {
        0 => Mac::BROADCAST,
        1 => Mac([1, 0, 0x5e, 0, 0, 1]),
        2 => PEER_MAC,
        _ => MAC,
    };
    let tag_count = random.pick(&[0, 0, 0, 1, 2, 3]);
    let tag = |random: &mut Random| (random.pick(&[0x8100, 0x88a8]), random.pick(&[0, PRIORITY_ONLY, 100]));
    let tags: Vec<(u16, u16)> = (0..tag_count).map(|_| tag(random)).collect();
    let mut bytes = match random.below(20) {
        0 => tagged_frame(dst, &tags, EtherType(random.next() as u16), &random.bytes(60)),
        1 => tagged_frame(dst, &tags, EtherType::IPV6, &random.bytes(60)),
        2..=4 => {
            let dst = if random.percent(50) { Mac::BROADCAST } else { dst };
            tagged_frame(dst, &tags, EtherType::ARP, &generate_arp(random))
        }
        _ => tagged_frame(dst, &tags, EtherType::IPV4, &generate_ip(random)),
    };
    if random.percent(50) {
        let padding_len = random.below(30);
        bytes.extend(random.bytes(padding_len));
    }
    bytes
}

fn generate_arp(random: &mut Random) -> Vec<u8> {
    let mut bytes = [0; arp::PACKET_LEN];
    let op = random.pick(&[arp::Op::Request, arp::Op::Reply]);
    let target_ip = random.pick(&[SHARED, DEDICATED, DEDICATED, PEER]);
    arp::Packet { op, sender_mac: PEER_MAC, sender_ip: PEER, target_mac: MAC, target_ip }.emit(&mut bytes);
    bytes.to_vec()
}

fn generate_ip(random: &mut Random) -> Vec<u8> {
    let dst = random.pick(&[SHARED, SHARED, SHARED, SHARED, DEDICATED, PEER]);
    let mut ip = match random.below(10) {
        0..=3 => generate_transport(random, dst, IpProtocol::TCP),
        4..=6 => generate_transport(random, dst, IpProtocol::UDP),
        7 | 8 => generate_icmp(random, dst),
        _ => Ip::new(dst, IpProtocol(random.next() as u8), &random.bytes(20)),
    };
    decorate(random, &mut ip);
    let mut bytes = ip.bytes();
    match random.below(40) {
        0 => bytes[0] = random.next() as u8,
        1 => bytes[3] = random.next() as u8,
        2 => bytes[2..4].copy_from_slice(&random.next().to_be_bytes()[..2]),
        _ => {}
    }
    bytes
}

/// Options and fragment fields, on a received packet as on a quoted one.
fn decorate(random: &mut Random, ip: &mut Ip) {
    if random.percent(30) {
        ip.options = generate_options(random);
    }
    if random.percent(15) {
        ip.flags_and_offset = random.pick(&[0x2000, 0x0001, 0x2001, 0x1fff, 0x8000, 0x0000, 0xffff]);
    }
}

fn generate_options(random: &mut Random) -> Vec<u8> {
    let len = (1 + random.below(10)) * 4;
    let mut options = vec![];
    while options.len() < len {
        match random.below(12) {
            0 => options.push(0),
            1..=4 => options.push(1),
            5 => options.extend([random.pick(&[131, 137]), 7, 4, 10, 0, 0, 9]),
            6 => options.push(random.next() as u8),
            _ => {
                let data_len = random.below(10);
                options.extend([random.pick(&[7, 68, 148, 130]), 2 + data_len as u8]);
                options.extend(random.bytes(data_len));
            }
        }
    }
    options.truncate(len);
    options
}

fn generate_port(random: &mut Random) -> u16 {
    let near = random.pick(&[TCP_PORT, 80, UDP_PORT, 53, TCP_PORT, UDP_PORT]);
    if random.percent(20) { near.wrapping_add(random.next() as u16) } else { near }
}

fn generate_transport(random: &mut Random, dst: Ipv4Addr, protocol: IpProtocol) -> Ip {
    let len = random.pick(&[0, 4, 7, 8, 12, 20, 20, 20, 20, 32, 60, 500]);
    Ip::new(dst, protocol, &ports(generate_port(random), generate_port(random), len))
}

fn generate_icmp(random: &mut Random, dst: Ipv4Addr) -> Ip {
    let icmp_type = random.pick(&[3, 3, 3, 11, 12, 0, 4, 5, 8, 13]);
    let protocol =
        random.pick(&[IpProtocol::TCP, IpProtocol::TCP, IpProtocol::UDP, IpProtocol::UDP, IpProtocol::ICMP]);
    let mut quoted = sent(random.pick(&[dst, dst, dst, dst, PEER]), protocol, generate_port(random));
    decorate(random, &mut quoted);
    let mut ip = icmp(dst, icmp_type, &quoted);
    if random.percent(20) {
        ip.payload.truncate(random.below(40));
    }
    ip
}

fn flipped(random: &mut Random, frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for _ in 0..=random.below(3) {
        // Headers are at the front.
        let at = random.below(bytes.len().min(100));
        bytes[at] ^= 1 << random.below(8);
    }
    bytes
}

// -- the comparison --------------------------------------------------------------------------------

struct Programs {
    key: KeyProgram,
    with_socket: [Steering; 2],
    without_socket: Steering,
    _socket: std::os::fd::OwnedFd,
}

impl Programs {
    fn load() -> Programs {
        let socket = xsk();
        let with_socket = [false, true].map(|frags| steering(&AttachConfig { frags, ..config(0) }));
        for steering in &with_socket {
            steering.set_socket(0, socket.as_fd()).unwrap();
        }
        Programs {
            key: KeyProgram::load(),
            with_socket,
            without_socket: steering(&config(0)),
            _socket: socket,
        }
    }

    fn compare(&self, bytes: &[u8], seen: &mut HashMap<Verdict, u32>) -> Result<(), String> {
        // BPF_PROG_TEST_RUN takes nothing shorter; nor does a link.
        if bytes.len() < 14 {
            return Ok(());
        }
        let key = model_key(bytes);
        check_whole_parse(bytes, key)?;
        equal("key", self.key.run(bytes), key)?;
        let verdict = model_verdict(key);
        for steering in &self.with_socket {
            equal("verdict", steering.test_run(bytes, 0).map_err(|e| e.to_string())?, verdict)?;
        }
        *seen.entry(verdict).or_default() += 1;
        Ok(())
    }

    /// The same packet where no socket waits.
    fn compare_without_socket(&self, bytes: &[u8]) -> Result<(), String> {
        let expected = match model_verdict(model_key(bytes)) {
            verdict if verdict.action() == ringwire_bpf::Action::Redirect => Verdict::DropNoSocket,
            verdict => verdict,
        };
        let found = self.without_socket.test_run(bytes, 0).map_err(|e| e.to_string())?;
        equal("verdict without a socket", found, expected)
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, program: T, model: T) -> Result<(), String> {
    if program == model { Ok(()) } else { Err(format!("{what}: program {program:?}, model {model:?}")) }
}

fn steering(config: &AttachConfig) -> Steering {
    let mut steering = Steering::load(config).unwrap();
    let shared = steering.add_address(SHARED.into(), Ownership::Shared).unwrap();
    steering.add_address(DEDICATED.into(), Ownership::Dedicated).unwrap();
    STEERED_TCP.iter().for_each(|port| steering.steer(shared, Protocol::Tcp, *port));
    STEERED_UDP.iter().for_each(|port| steering.steer(shared, Protocol::Udp, *port));
    steering
}

#[test]
fn program_and_parser_agree() {
    if !privileged() {
        return;
    }
    let seed = std::env::var("RINGWIRE_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| RandomState::new().hash_one("differential"));
    let programs = Programs::load();
    let mut seen = HashMap::new();
    for number in 0..u64::from(PACKETS) {
        let mut random = Random(seed ^ (number << 32));
        let whole = generate(&mut random);
        let truncated = &whole[..14 + random.below(whole.len() - 13)];
        let flipped = flipped(&mut random, &whole);
        for (kind, bytes) in [("whole", &whole[..]), ("truncated", truncated), ("bit-flipped", &flipped)] {
            let result = programs.compare(bytes, &mut seen);
            let result = result.and_then(|()| programs.compare_without_socket(bytes));
            assert!(
                result.is_ok(),
                "RINGWIRE_SEED={seed}, packet {number}, {kind}: {result:?}\n{bytes:02x?}"
            );
        }
    }
    // The generator reaches every verdict, so none is compared by luck alone.
    for verdict in Verdict::ALL.iter().filter(|verdict| **verdict != Verdict::DropNoSocket) {
        let packets = seen.get(verdict).copied().unwrap_or_default();
        assert!(packets >= PACKETS / 500, "RINGWIRE_SEED={seed}: {verdict} came up {packets} times only");
    }
}
