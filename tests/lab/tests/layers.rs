//! Forwarders over AF_XDP and over AF_PACKET do the same, and flows spread over the queues of a forwarded link.

mod echo;
mod pair;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use echo::Echo;
use pair::Pair;
use ringwire_lab::{Carrier, Field, Impairment, Lab, Match, PacketLayer};

const LAYERS: [PacketLayer; 2] = [PacketLayer::Packet, PacketLayer::Xdp];
const WITHIN: Duration = Duration::from_secs(5);
const PORT: u16 = 9;

fn over(layer: PacketLayer, mtu_bytes: u32, queues: u32) -> Pair {
    let pair = Pair::shaped(|link| link.packet_layer(layer).mtu(mtu_bytes).queues(queues));
    let refusal = pair.link.packet_layer_refusal().map(ToString::to_string);
    assert_eq!((pair.link.packet_layer(), refusal), (layer, None));
    pair
}

/// A socket in each node, the first connected to the second.
fn sockets(pair: &Pair) -> (UdpSocket, UdpSocket) {
    let Pair { a, b, link, .. } = pair;
    let receiver = b.run(|| UdpSocket::bind((link.addr(b), PORT))).unwrap();
    receiver.set_read_timeout(Some(WITHIN)).unwrap();
    let sender = a.run(|| UdpSocket::bind((link.addr(a), 0))).unwrap();
    sender.connect((link.addr(b), PORT)).unwrap();
    (sender, receiver)
}

#[test]
fn packets_of_every_size_cross_unharmed() {
    for layer in LAYERS {
        for mtu_bytes in [576, 1500, 3000, 9000, 65_535] {
            let pair = over(layer, mtu_bytes, 1);
            let (sender, receiver) = sockets(&pair);
            let longest = mtu_bytes as usize - 28;
            let mut room = vec![0; 65_536];
            for len in [0, 1, 17, longest / 2, longest - 1, longest] {
                let sent: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
                sender.send(&sent).unwrap();
                let got = receiver.recv(&mut room).unwrap_or_else(|_| panic!("{layer:?} {mtu_bytes} {len}"));
                assert!(room[..got] == sent, "{layer:?}: {len} bytes of MTU {mtu_bytes}, {got} came");
            }
        }
    }
}

#[test]
fn nothing_is_lost_that_was_not_asked_to_be() {
    const COUNT: u32 = 20_000;
    for layer in LAYERS {
        let pair = over(layer, 1500, 1);
        let (sender, receiver) = sockets(&pair);
        let delay = Duration::from_millis(50);
        sender.send(&[0; 4]).unwrap();
        receiver.recv(&mut [0; 4]).unwrap();
        pair.link
            .impair(&pair.b, Impairment::default().delay(delay, Duration::ZERO).loss(0.02).seed(5))
            .unwrap();
        let start = Instant::now();
        for number in 0..COUNT {
            sender.send(&number.to_be_bytes()).unwrap();
            // The forwarder's ring takes any burst; this is for the receiving socket's buffer.
            if number % 64 == 0 {
                std::thread::sleep(Duration::from_micros(500));
            }
        }
        let settled =
            |counters: ringwire_lab::Counters| counters.received == u64::from(COUNT) && counters.waiting == 0;
        while !settled(pair.link.counters(&pair.b).unwrap()) && start.elapsed() < WITHIN * 4 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let counters = pair.link.counters(&pair.b).unwrap();
        let unasked = [counters.overrun, counters.uncarried, counters.unsendable];
        assert_eq!((counters.received, unasked), (u64::from(COUNT), [0; 3]), "{layer:?}: {counters:?}");
        let expected =
            (0..u64::from(COUNT)).filter(|&number| Impairment::default().loss(0.02).seed(5).loses(number));
        assert_eq!(counters.lost, expected.count() as u64, "{layer:?}");
        assert_eq!(counters.passed + counters.lost, u64::from(COUNT), "{layer:?}");
    }
}

#[test]
fn a_delay_counts_from_arrival_also_when_the_forwarder_was_away() {
    for layer in LAYERS {
        let pair = over(layer, 1500, 1);
        let (sender, receiver) = sockets(&pair);
        let delay = Duration::from_millis(40);
        pair.link.impair(&pair.b, Impairment::default().delay(delay, Duration::ZERO)).unwrap();
        let start = Instant::now();
        sender.send(&[1; 4]).unwrap();
        receiver.recv(&mut [0; 4]).unwrap();
        assert!(start.elapsed() >= delay, "{layer:?}: {:?}", start.elapsed());
        let late = pair.link.lateness(&pair.b).unwrap();
        // ARP went the same way.
        assert!(late.count >= 1 && late.max < Duration::from_millis(100), "{layer:?}: {late:?}");
    }
}

#[test]
fn a_carrier_comes_back_and_tags_survive() {
    for layer in LAYERS {
        let pair = over(layer, 1500, 1);
        let Pair { a, b, link, .. } = &pair;
        for carrier in [Carrier::Down, Carrier::Up] {
            link.set_carrier(b, carrier).unwrap();
        }
        // A tag (802.1Q, VLAN 7) and an experimental type.
        let (mut from, mut to) = (a.raw(link).unwrap(), b.raw(link).unwrap());
        let macs = [link.mac(b), link.mac(a)].concat();
        let tagged = [
            &macs[..],
            &[0x81, 0x00, 0x00, 0x07, 0x88, 0xb5],
            b"tagged, and long enough for Ethernet",
            &[0; 10],
        ];
        from.send(tagged.concat());
        let seen = to.expect(Match::any().with(Field::VlanTag, 7_u16), WITHIN);
        assert_eq!(seen.bytes(), tagged.concat(), "{layer:?}");
    }
}

/// Flows of a kernel with four queues reach an engine on all of its four, and their answers come back.
#[test]
fn flows_spread_over_the_queues_of_a_forwarded_link() {
    const QUEUES: u32 = 4;
    const FLOWS: usize = 96;
    for layer in LAYERS {
        let pair = over(layer, 1500, QUEUES);
        let Pair { a, b, link, .. } = &pair;
        let engine = b.engine(link).workers(QUEUES as usize).start().unwrap();
        let addr = SocketAddr::new(link.spare_addr(b), PORT);
        let echo = Echo::start(engine, addr);
        let sockets: Vec<UdpSocket> =
            (0..FLOWS).map(|_| a.run(|| UdpSocket::bind((link.addr(a), 0))).unwrap()).collect();
        for (flow, socket) in sockets.iter().enumerate() {
            socket.set_read_timeout(Some(WITHIN)).unwrap();
            let (sent, mut got) = (flow.to_be_bytes(), [0; 8]);
            socket.send_to(&sent, addr).unwrap();
            let (_, from) = socket.recv_from(&mut got).unwrap_or_else(|_| panic!("{layer:?}: flow {flow}"));
            assert_eq!((got, from), (sent, addr));
        }
        let received: Vec<u64> =
            echo.handle.metrics().workers.iter().map(|worker| worker.rx_packets).collect();
        // Of 96 flows 24 each; that one queue of four gets fewer than 4 has a chance of 1 in 10^6.
        assert!(
            received.len() == 4 && received.iter().all(|&packets| packets >= 4),
            "{layer:?}: {received:?}"
        );
    }
}

#[test]
fn a_layer_that_cannot_be_had_is_replaced_and_named() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
    // More queues than the AF_XDP forwarder has rings for.
    let link = lab.link(&a, &b).queues(128).packet_layer(PacketLayer::Xdp).up().unwrap();
    assert_eq!(link.packet_layer(), PacketLayer::Packet);
    let why = link.packet_layer_refusal().unwrap().to_string();
    assert!(why.starts_with("128 queues would have rings"), "{why}");
    let addrs: BTreeSet<IpAddr> = [link.addr(&a), link.addr(&b)].into();
    assert_eq!(addrs.len(), 2);
    for (builder, says) in [
        (lab.link(&a, &b).direct().packet_layer(PacketLayer::Xdp), "is direct and wants Xdp"),
        (lab.link(&a, &b).packet_layer(PacketLayer::Memory), "wants layer Memory"),
    ] {
        let error = builder.up().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
