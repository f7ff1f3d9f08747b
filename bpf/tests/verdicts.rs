//! The verdict for each kind of packet, by running the real program on real bytes (BPF_PROG_TEST_RUN).

mod common;

use std::os::fd::{AsFd, OwnedFd};

use common::*;
use ringwire_bpf::{AddrIndex, AttachConfig, Ownership, Protocol, Steering, Verdict};
use ringwire_wire::arp;
use ringwire_wire::eth::{EtherType, Mac};
use ringwire_wire::ipv4::Protocol as IpProtocol;

const LOOSE_ROUTE: [u8; 8] = [131, 7, 4, 10, 0, 0, 9, 0];
const STRICT_ROUTE: [u8; 8] = [1, 137, 7, 4, 10, 0, 0, 9];
const RECORD_ROUTE: [u8; 8] = [7, 7, 4, 0, 0, 0, 0, 0];

struct Bench {
    steering: Steering,
    shared: AddrIndex,
    dedicated: AddrIndex,
    /// Closing it would take it out of the map.
    _socket: OwnedFd,
}

/// Loaded, a socket on queue 0, one address of each kind, one port of each protocol.
fn bench(config: &AttachConfig) -> Bench {
    let mut steering = Steering::load(config).unwrap();
    let socket = xsk();
    steering.set_socket(0, socket.as_fd()).unwrap();
    let shared = steering.add_address(SHARED.into(), Ownership::Shared).unwrap();
    let dedicated = steering.add_address(DEDICATED.into(), Ownership::Dedicated).unwrap();
    steering.steer(shared, Protocol::Tcp, TCP_PORT);
    steering.steer(shared, Protocol::Udp, UDP_PORT);
    Bench { steering, shared, dedicated, _socket: socket }
}

fn arp_packet(op: arp::Op, target_ip: std::net::Ipv4Addr) -> Vec<u8> {
    let mut bytes = [0; arp::PACKET_LEN];
    arp::Packet { op, sender_mac: PEER_MAC, sender_ip: PEER, target_mac: MAC, target_ip }.emit(&mut bytes);
    bytes.to_vec()
}

fn arp_frame(dst: Mac, op: arp::Op, target_ip: std::net::Ipv4Addr) -> Vec<u8> {
    frame(dst, &[], EtherType::ARP, &arp_packet(op, target_ip))
}

fn with(mut ip: Ip, change: impl FnOnce(&mut Ip)) -> Vec<u8> {
    change(&mut ip);
    ip.frame()
}

fn patched(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

fn cut(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    frame.truncate(len);
    frame
}

/// Runs a table on both programs: they must not differ.
#[track_caller]
fn expect(table: Vec<(&str, Vec<u8>, Verdict)>) {
    if !privileged() {
        return;
    }
    for frags in [false, true] {
        let bench = bench(&AttachConfig { frags, ..config(0) });
        for (name, frame, verdict) in &table {
            assert_eq!(bench.steering.test_run(frame, 0).unwrap(), *verdict, "{name} (frags: {frags})");
        }
    }
}

#[test]
fn ports_of_a_shared_address() {
    expect(vec![
        ("our tcp port", tcp(SHARED, TCP_PORT).frame(), Verdict::RedirectTcp),
        ("our udp port", udp(SHARED, UDP_PORT).frame(), Verdict::RedirectUdp),
        ("neighbouring port", tcp(SHARED, TCP_PORT + 1).frame(), Verdict::PassPort),
        ("tcp to our udp port", tcp(SHARED, UDP_PORT).frame(), Verdict::PassPort),
        ("udp to our tcp port", udp(SHARED, TCP_PORT).frame(), Verdict::PassPort),
        ("port 0", tcp(SHARED, 0).frame(), Verdict::PassPort),
        ("port 65535", tcp(SHARED, u16::MAX).frame(), Verdict::PassPort),
        ("our source port", sent(PEER, IpProtocol::TCP, TCP_PORT).frame(), Verdict::PassAddress),
        ("ping", Ip::new(SHARED, IpProtocol::ICMP, &[8, 0, 0, 0, 0, 1, 0, 1]).frame(), Verdict::PassProtocol),
        ("sctp", Ip::new(SHARED, IpProtocol(132), &ports(1, TCP_PORT, 12)).frame(), Verdict::PassProtocol),
    ]);
}

#[test]
fn other_addresses_and_protocols_stay_with_the_kernel() {
    expect(vec![
        ("transit", tcp([10, 9, 9, 9].into(), TCP_PORT).frame(), Verdict::PassAddress),
        ("limited broadcast", udp([255; 4].into(), UDP_PORT).frame(), Verdict::PassAddress),
        ("ipv6", frame(MAC, &[], EtherType::IPV6, &[0x60; 60]), Verdict::PassEtherType),
        ("lldp", frame(MAC, &[], EtherType(0x88cc), &[0; 46]), Verdict::PassEtherType),
    ]);
}

#[test]
fn only_frames_to_the_interface_are_ours() {
    let to = |mac| frame(mac, &[], EtherType::IPV4, &tcp(SHARED, TCP_PORT).bytes());
    expect(vec![
        ("another host", to(PEER_MAC), Verdict::PassMac),
        ("first byte differs", to(Mac([3, 0, 0, 0, 0, 1])), Verdict::PassMac),
        ("last byte differs", to(Mac([2, 0, 0, 0, 0, 0])), Verdict::PassMac),
        ("broadcast", to(Mac::BROADCAST), Verdict::PassMac),
        ("multicast", to(Mac([1, 0, 0x5e, 0, 0, 1])), Verdict::PassMac),
        (
            "broadcast to a dedicated address",
            frame(Mac::BROADCAST, &[], EtherType::IPV4, &udp(DEDICATED, 1).bytes()),
            Verdict::PassMac,
        ),
    ]);
}

#[test]
fn frames_of_a_vlan_are_the_kernels() {
    let tagged =
        |tags: &[(u16, u16)]| tagged_frame(MAC, tags, EtherType::IPV4, &tcp(SHARED, TCP_PORT).bytes());
    let arp = arp_packet(arp::Op::Request, DEDICATED);
    let priority = PRIORITY_ONLY;
    expect(vec![
        ("vlan", tagged(&[(0x8100, 1)]), Verdict::PassVlan),
        ("vlan with a priority", tagged(&[(0x8100, priority | 4095)]), Verdict::PassVlan),
        ("s-tag alone", tagged(&[(0x88a8, 7)]), Verdict::PassVlan),
        ("q-in-q", tagged(&[(0x88a8, 100), (0x8100, 101)]), Verdict::PassVlan),
        ("a vlan behind a priority", tagged(&[(0x8100, priority), (0x8100, 101)]), Verdict::PassVlan),
        ("a priority behind a vlan", tagged(&[(0x8100, 101), (0x8100, priority)]), Verdict::PassVlan),
        (
            "arp for a dedicated address",
            tagged_frame(Mac::BROADCAST, &[(0x8100, 100)], EtherType::ARP, &arp),
            Verdict::PassVlan,
        ),
    ]);
}

#[test]
fn tags_that_only_carry_a_priority_are_walked() {
    let tagged = |tpids: &[u16]| {
        let tags: Vec<_> = tpids.iter().map(|tpid| (*tpid, PRIORITY_ONLY)).collect();
        tagged_frame(MAC, &tags, EtherType::IPV4, &tcp(SHARED, TCP_PORT).bytes())
    };
    let arp = arp_packet(arp::Op::Request, DEDICATED);
    expect(vec![
        ("c-tag", tagged(&[0x8100]), Verdict::RedirectTcp),
        ("s-tag alone", tagged(&[0x88a8]), Verdict::RedirectTcp),
        ("q-in-q", tagged(&[0x88a8, 0x8100]), Verdict::RedirectTcp),
        ("two c-tags", tagged(&[0x8100, 0x8100]), Verdict::RedirectTcp),
        ("three tags", tagged(&[0x88a8, 0x8100, 0x8100]), Verdict::PassEtherType),
        ("ends inside the tag", cut(tagged(&[0x8100]), 17), Verdict::PassMalformed),
        ("ends inside the second tag", cut(tagged(&[0x88a8, 0x8100]), 20), Verdict::PassMalformed),
        (
            "arp",
            tagged_frame(Mac::BROADCAST, &[(0x8100, PRIORITY_ONLY)], EtherType::ARP, &arp),
            Verdict::RedirectArp,
        ),
        (
            "other port",
            tagged_frame(MAC, &[(0x8100, PRIORITY_ONLY)], EtherType::IPV4, &tcp(SHARED, 80).bytes()),
            Verdict::PassPort,
        ),
    ]);
}

#[test]
fn ipv4_options() {
    let options = |bytes: &[u8]| with(tcp(SHARED, TCP_PORT), |ip| ip.options = bytes.to_vec());
    expect(vec![
        ("nops", options(&[1, 1, 1, 1]), Verdict::RedirectTcp),
        ("record route", options(&RECORD_ROUTE), Verdict::RedirectTcp),
        (
            "timestamp, 40 bytes",
            options(&[[68, 40, 5, 0].as_slice(), &[0; 36]].concat()),
            Verdict::RedirectTcp,
        ),
        ("40 nops", options(&[1; 40]), Verdict::RedirectTcp),
        ("a source route behind the end", options(&[0, 131, 3, 4]), Verdict::RedirectTcp),
        ("a source route's number as data", options(&[7, 4, 131, 137]), Verdict::RedirectTcp),
        ("loose source route", options(&LOOSE_ROUTE), Verdict::PassOptions),
        ("strict source route behind a nop", options(&STRICT_ROUTE), Verdict::PassOptions),
        ("source route in the last byte", options(&[1, 1, 1, 131]), Verdict::PassOptions),
        ("length 0", options(&[7, 0, 0, 0]), Verdict::PassOptions),
        ("length 1", options(&[7, 1, 0, 0]), Verdict::PassOptions),
        ("length beyond the header", options(&[7, 5, 0, 0]), Verdict::PassOptions),
        ("no length byte", options(&[1, 1, 1, 7]), Verdict::PassOptions),
        ("unsteered port", with(tcp(SHARED, 80), |ip| ip.options = RECORD_ROUTE.into()), Verdict::PassPort),
        (
            "source route to a dedicated address",
            with(tcp(DEDICATED, 80), |ip| ip.options = LOOSE_ROUTE.into()),
            Verdict::RedirectDedicated,
        ),
        ("ends inside the options", cut(options(&RECORD_ROUTE), 40), Verdict::PassMalformed),
    ]);
}

#[test]
fn fragments() {
    let fragment = |ip: Ip, field: u16| with(ip, |ip| ip.flags_and_offset = field);
    expect(vec![
        ("first", fragment(udp(SHARED, UDP_PORT), 0x2000), Verdict::PassFragment),
        ("middle", fragment(udp(SHARED, UDP_PORT), 0x2001), Verdict::PassFragment),
        ("last", fragment(udp(SHARED, UDP_PORT), 0x00b9), Verdict::PassFragment),
        ("reserved bit is no fragment", fragment(udp(SHARED, UDP_PORT), 0x8000), Verdict::RedirectUdp),
        ("first, dedicated", fragment(udp(DEDICATED, 1), 0x2000), Verdict::RedirectDedicated),
        ("last, dedicated", fragment(udp(DEDICATED, 1), 0x00b9), Verdict::RedirectDedicated),
        ("of an icmp error", fragment(icmp(SHARED, 3, &sent(SHARED, IpProtocol::TCP, TCP_PORT)), 0x2000), {
            Verdict::PassFragment
        }),
    ]);
}

#[test]
fn arp_for_a_dedicated_address() {
    use arp::Op::{Reply, Request};
    let wrong = |at: usize, byte: u8| patched(arp_frame(Mac::BROADCAST, Request, DEDICATED), 14 + at, byte);
    expect(vec![
        ("who has", arp_frame(Mac::BROADCAST, Request, DEDICATED), Verdict::RedirectArp),
        ("who has, to us alone", arp_frame(MAC, Request, DEDICATED), Verdict::RedirectArp),
        ("reply to us", arp_frame(MAC, Reply, DEDICATED), Verdict::RedirectArp),
        ("shared address", arp_frame(Mac::BROADCAST, Request, SHARED), Verdict::PassArp),
        ("reply to the kernel", arp_frame(MAC, Reply, SHARED), Verdict::PassArp),
        ("somebody else", arp_frame(Mac::BROADCAST, Request, PEER), Verdict::PassAddress),
        ("to another host", arp_frame(PEER_MAC, Request, DEDICATED), Verdict::PassMac),
        ("to a group", arp_frame(Mac([1, 0x80, 0xc2, 0, 0, 0]), Request, DEDICATED), Verdict::PassMac),
        ("hardware type", wrong(1, 6), Verdict::PassMalformed),
        ("protocol type", wrong(2, 0x86), Verdict::PassMalformed),
        ("hardware length", wrong(4, 8), Verdict::PassMalformed),
        ("protocol length", wrong(5, 16), Verdict::PassMalformed),
        ("operation 3", wrong(7, 3), Verdict::PassMalformed),
        ("operation 0", wrong(7, 0), Verdict::PassMalformed),
        ("27 bytes", cut(arp_frame(Mac::BROADCAST, Request, DEDICATED), 41), Verdict::PassMalformed),
    ]);
}

#[test]
fn everything_to_a_dedicated_address() {
    expect(vec![
        ("tcp", tcp(DEDICATED, 1).frame(), Verdict::RedirectDedicated),
        ("udp", udp(DEDICATED, 1).frame(), Verdict::RedirectDedicated),
        ("ping", Ip::new(DEDICATED, IpProtocol::ICMP, &[8, 0, 0, 0, 0, 1, 0, 1]).frame(), {
            Verdict::RedirectDedicated
        }),
        (
            "icmp error",
            icmp(DEDICATED, 3, &sent(PEER, IpProtocol::TCP, 1)).frame(),
            Verdict::RedirectDedicated,
        ),
        ("unknown protocol", Ip::new(DEDICATED, IpProtocol(200), &[]).frame(), Verdict::RedirectDedicated),
        ("no transport header", Ip::new(DEDICATED, IpProtocol::TCP, &[]).frame(), Verdict::RedirectDedicated),
    ]);
}

#[test]
fn icmp_errors_about_our_flows() {
    let ours = sent(SHARED, IpProtocol::TCP, TCP_PORT);
    let quoting = |quoted: &Ip| icmp(SHARED, 3, quoted).frame();
    let changed = |change: fn(&mut Ip)| {
        let mut ip = ours.clone();
        change(&mut ip);
        ip
    };
    let too_short = Ip::new(SHARED, IpProtocol::ICMP, &icmp(SHARED, 3, &ours).payload[..35]).frame();
    expect(vec![
        ("unreachable", quoting(&ours), Verdict::RedirectIcmpError),
        ("unreachable, udp", quoting(&sent(SHARED, IpProtocol::UDP, UDP_PORT)), Verdict::RedirectIcmpError),
        ("time exceeded", icmp(SHARED, 11, &ours).frame(), Verdict::RedirectIcmpError),
        ("parameter problem", icmp(SHARED, 12, &ours).frame(), Verdict::RedirectIcmpError),
        (
            "options in the quote",
            quoting(&changed(|ip| ip.options = [1; 12].into())),
            Verdict::RedirectIcmpError,
        ),
        (
            "first fragment quoted",
            quoting(&changed(|ip| ip.flags_and_offset = 0x2000)),
            Verdict::RedirectIcmpError,
        ),
        ("redirect is the kernel's", icmp(SHARED, 5, &ours).frame(), Verdict::PassProtocol),
        ("source quench", icmp(SHARED, 4, &ours).frame(), Verdict::PassProtocol),
        (
            "later fragment quoted",
            quoting(&changed(|ip| ip.flags_and_offset = 0x0002)),
            Verdict::PassProtocol,
        ),
        ("port of the kernel", quoting(&sent(SHARED, IpProtocol::TCP, 22)), Verdict::PassPort),
        ("protocols are separate", quoting(&sent(SHARED, IpProtocol::UDP, TCP_PORT)), Verdict::PassPort),
        ("sent by another", quoting(&sent(PEER, IpProtocol::TCP, TCP_PORT)), Verdict::PassProtocol),
        ("sctp quoted", quoting(&sent(SHARED, IpProtocol(132), TCP_PORT)), Verdict::PassProtocol),
        ("seven bytes of tcp", too_short, Verdict::PassProtocol),
        (
            "no quote",
            Ip::new(SHARED, IpProtocol::ICMP, &[3, 1, 0, 0, 0, 0, 0, 0]).frame(),
            Verdict::PassProtocol,
        ),
        ("quoted version", patched(quoting(&ours), 14 + 20 + 8, 0x65), Verdict::PassProtocol),
        ("quoted header length", patched(quoting(&ours), 14 + 20 + 8, 0x44), Verdict::PassProtocol),
    ]);
}

#[test]
fn truncated_or_contradictory() {
    let whole = tcp(SHARED, TCP_PORT).frame();
    let padding_is_no_header = {
        let mut frame = Ip::new(SHARED, IpProtocol::TCP, &[]).frame();
        frame.extend(ports(1, TCP_PORT, 20));
        frame
    };
    expect(vec![
        ("ethernet header alone", cut(whole.clone(), 14), Verdict::PassMalformed),
        ("19 bytes of ip", cut(whole.clone(), 33), Verdict::PassMalformed),
        ("shorter than its total length", cut(whole.clone(), whole.len() - 1), Verdict::PassMalformed),
        ("version 5", patched(whole.clone(), 14, 0x55), Verdict::PassMalformed),
        ("header length 4", patched(whole.clone(), 14, 0x44), Verdict::PassMalformed),
        (
            "header longer than the packet",
            patched(tcp(SHARED, TCP_PORT).frame(), 17, 19),
            Verdict::PassMalformed,
        ),
        ("seven bytes of tcp", Ip::new(SHARED, IpProtocol::TCP, &ports(1, TCP_PORT, 7)).frame(), {
            Verdict::PassProtocol
        }),
        ("ports in the padding", padding_is_no_header, Verdict::PassProtocol),
    ]);
}

#[test]
fn ours_without_a_socket_is_dropped_and_counted() {
    if !privileged() {
        return;
    }
    let bench = bench(&config(0));
    bench.steering.clear_socket(0).unwrap();
    bench.steering.clear_socket(0).expect("clearing twice is fine");
    let ours = [tcp(SHARED, TCP_PORT).frame(), udp(DEDICATED, 1).frame()];
    for frame in &ours {
        assert_eq!(bench.steering.test_run(frame, 0).unwrap(), Verdict::DropNoSocket);
    }
    assert_eq!(bench.steering.counters().unwrap().get(Verdict::DropNoSocket), 2);
    assert_eq!(bench.steering.test_run(&tcp(SHARED, 80).frame(), 0).unwrap(), Verdict::PassPort);
    bench.steering.set_socket(0, xsk().as_fd()).unwrap();
    assert_eq!(bench.steering.test_run(&ours[0], 0).unwrap(), Verdict::DropNoSocket, "the socket was closed");
    let socket = xsk();
    bench.steering.set_socket(0, socket.as_fd()).unwrap();
    assert_eq!(bench.steering.test_run(&ours[0], 0).unwrap(), Verdict::RedirectTcp);
}

#[test]
fn every_port_entry_stands_alone() {
    if !privileged() {
        return;
    }
    let bench = bench(&config(0));
    let verdict = |port| bench.steering.test_run(&tcp(SHARED, port).frame(), 0).unwrap();
    for port in [0, 1, 7, 8, 4095, 4096, 32768, 65528, u16::MAX] {
        assert_eq!(verdict(port), Verdict::PassPort, "{port} before");
        bench.steering.steer(bench.shared, Protocol::Tcp, port);
        assert_eq!(verdict(port), Verdict::RedirectTcp, "{port} steered");
        assert_eq!(verdict(port ^ 1), Verdict::PassPort, "{port} neighbour");
        bench.steering.unsteer(bench.shared, Protocol::Tcp, port);
        assert_eq!(verdict(port), Verdict::PassPort, "{port} given back");
    }
}

#[test]
fn removing_an_address_gives_it_back_with_its_ports() {
    if !privileged() {
        return;
    }
    let mut bench = bench(&config(0));
    let frame = tcp(SHARED, TCP_PORT).frame();
    bench.steering.remove_address(bench.shared).unwrap();
    bench.steering.remove_address(bench.shared).expect("removing twice is fine");
    assert_eq!(bench.steering.test_run(&frame, 0).unwrap(), Verdict::PassAddress);
    let again = bench.steering.add_address(SHARED.into(), Ownership::Shared).unwrap();
    assert_eq!(again, bench.shared, "the place is reused");
    assert_eq!(bench.steering.test_run(&frame, 0).unwrap(), Verdict::PassPort, "its ports were forgotten");
    bench.steering.remove_address(bench.dedicated).unwrap();
    assert_eq!(bench.steering.test_run(&udp(DEDICATED, 1).frame(), 0).unwrap(), Verdict::PassAddress);
}

#[test]
fn addresses_have_planes_of_their_own() {
    if !privileged() {
        return;
    }
    let mut bench = bench(&config(0));
    let second = bench.steering.add_address(PEER.into(), Ownership::Shared).unwrap();
    bench.steering.steer(second, Protocol::Udp, 53);
    let verdict = |ip: Ip| bench.steering.test_run(&ip.frame(), 0).unwrap();
    assert_eq!(verdict(udp(PEER, 53)), Verdict::RedirectUdp);
    assert_eq!(verdict(udp(SHARED, 53)), Verdict::PassPort);
    assert_eq!(verdict(tcp(PEER, TCP_PORT)), Verdict::PassPort);
}

#[test]
fn a_changed_mac_is_followed() {
    if !privileged() {
        return;
    }
    let mut bench = bench(&config(0));
    bench.steering.set_mac(PEER_MAC.0).unwrap();
    let to = |mac| frame(mac, &[], EtherType::IPV4, &tcp(SHARED, TCP_PORT).bytes());
    assert_eq!(bench.steering.test_run(&to(MAC), 0).unwrap(), Verdict::PassMac);
    assert_eq!(bench.steering.test_run(&to(PEER_MAC), 0).unwrap(), Verdict::RedirectTcp);
}

#[test]
fn engine_slots_and_queues_choose_the_socket() {
    if !privileged() {
        return;
    }
    in_netns(|| {
        let ifindex = veth(3, 1500);
        let bench = bench(&AttachConfig { max_queues: 2, engine_slot: 5, ..config(ifindex) });
        let frame = tcp(SHARED, TCP_PORT).frame();
        let verdict = |queue| bench.steering.test_run(&frame, queue).unwrap();
        assert_eq!(verdict(0), Verdict::RedirectTcp);
        assert_eq!(verdict(1), Verdict::DropNoSocket, "only queue 0 has a socket");
        let second = xsk();
        bench.steering.set_socket(1, second.as_fd()).unwrap();
        assert_eq!(verdict(1), Verdict::RedirectTcp);
        bench.steering.clear_socket(0).unwrap();
        assert_eq!(verdict(0), Verdict::DropNoSocket, "only queue 1 has a socket");
        // Queue 2 of slot 5 would be queue 0 of slot 6.
        assert_eq!(verdict(2), Verdict::DropNoSocket, "beyond max_queues");
    });
}

#[test]
fn refusals_say_what_to_do() {
    if !privileged() {
        return;
    }
    let mut bench = bench(&AttachConfig { max_addresses: 2, ..config(0) });
    let full = bench.steering.add_address(PEER.into(), Ownership::Shared).unwrap_err();
    assert_eq!(full.to_string(), "cannot steer 10.0.0.2: all 2 places are taken\nhint: raise max_addresses");
    let ipv6 = bench.steering.add_address("2001:db8::1".parse().unwrap(), Ownership::Shared).unwrap_err();
    assert!(ipv6.what.contains("only IPv4"), "{ipv6}");
    let other = bench.steering.add_address(SHARED.into(), Ownership::Dedicated).unwrap_err();
    assert!(other.hint.contains("remove"), "{other}");
    assert_eq!(bench.steering.add_address(SHARED.into(), Ownership::Shared).unwrap(), bench.shared);
    let queue = bench.steering.set_socket(1, xsk().as_fd()).unwrap_err();
    assert!(queue.what.contains("queue 1 does not exist"), "{queue}");
    let file = std::fs::File::open("/proc/self/stat").unwrap();
    assert!(bench.steering.set_socket(0, file.as_fd()).unwrap_err().hint.contains("AF_XDP"));
    let slot = Steering::load(&AttachConfig { engine_slot: 16, ..config(0) }).unwrap_err();
    assert_eq!(slot.to_string(), "engine_slot + 1 is 17\nhint: give 1 to 16");
    assert!(Steering::load(&AttachConfig { max_queues: 0, ..config(0) }).is_err());
    assert!(Steering::load(&AttachConfig { max_addresses: 0, ..config(0) }).is_err());
}
