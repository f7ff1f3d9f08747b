//! Seeded loss on a link: its rate, its repetition, its counters, and the packets it must hit.

mod pair;

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use pair::Pair;
use ringwire_lab::{Counters, Impairment, Node};

/// Sends numbered datagrams from a to b and returns the numbers that did not arrive.
fn lost_datagrams(pair: &Pair, count: u32) -> BTreeSet<u32> {
    let Pair { a, b, link, .. } = pair;
    let receiver = b.run(|| UdpSocket::bind((link.addr(b), 9))).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let sender = a.run(|| UdpSocket::bind((link.addr(a), 0))).unwrap();
    sender.connect((link.addr(b), 9)).unwrap();
    let mut lost: BTreeSet<u32> = (0..count).collect();
    // In small groups, so that the receiver's socket buffer cannot be what loses them.
    for group in (0..count).collect::<Vec<_>>().chunks(50) {
        for number in group {
            sender.send(&number.to_be_bytes()).unwrap();
        }
        let last = group[group.len() - 1];
        loop {
            let mut bytes = [0; 4];
            match receiver.recv(&mut bytes) {
                Ok(_) => {
                    let number = u32::from_be_bytes(bytes);
                    lost.remove(&number);
                    if number == last {
                        break;
                    }
                }
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => break,
                Err(cause) => panic!("{cause}"),
            }
        }
    }
    lost
}

/// Resolves the addresses first, so that ARP takes no packet number.
fn resolve(pair: &Pair) {
    let Pair { a, b, link, .. } = pair;
    let permanent = |node: &Node, other: &Node| {
        let mac = link.mac(other).map(|byte| format!("{byte:02x}")).join(":");
        let addr = link.addr(other).to_string();
        let args = ["neigh", "replace", &addr, "lladdr", &mac, "dev", link.name(node)];
        assert!(node.command("ip").args(args).status().unwrap().success());
    };
    permanent(a, b);
    permanent(b, a);
}

#[test]
fn a_seed_names_the_packets_that_are_lost() {
    Pair::both().iter().for_each(a_seed_names_the_packets);
}

fn a_seed_names_the_packets(pair: &Pair) {
    const DATAGRAMS: u32 = 2_000;
    resolve(pair);
    for seed in [7, 8] {
        let loss = Impairment::default().loss(0.05).seed(seed);
        let expected: BTreeSet<u32> = (0..DATAGRAMS).filter(|&number| loss.loses(number.into())).collect();
        for _ in 0..2 {
            pair.link.impair(&pair.b, loss).unwrap();
            assert_eq!(lost_datagrams(pair, DATAGRAMS), expected, "seed {seed}");
            let dropped = expected.len() as u64;
            let counters = pair.link.counters(&pair.b).unwrap();
            assert_eq!((counters.passed, counters.dropped), (u64::from(DATAGRAMS) - dropped, dropped));
        }
    }
    assert_eq!(pair.link.counters(&pair.a).unwrap(), Counters::default(), "the other direction is untouched");
}

/// AF_XDP sends past tc, as does a packet socket with PACKET_QDISC_BYPASS: such packets are judged
/// where they arrive, under the numbers that they would have had.
#[test]
fn packets_sent_past_tc_are_lost_alike() {
    Pair::both().iter().for_each(packets_sent_past_tc);
}

fn packets_sent_past_tc(pair: &Pair) {
    resolve(pair);
    let Pair { a, b, link, .. } = pair;
    let loss = Impairment::default().loss(0.5).seed(5);
    link.impair(b, loss).unwrap();
    let port = a.run(|| bypassing_socket(link.ifindex(a))).unwrap();
    // An experimental EtherType (IEEE 802), so that the receiver only counts and ignores.
    let frame = [&link.mac(b)[..], &link.mac(a), &[0x88, 0xb5], &[0; 50]].concat();
    for _ in 0..100 {
        assert_eq!(rustix::io::write(&port, &frame).unwrap(), frame.len());
    }
    let dropped = (0..100).filter(|&number| loss.loses(number)).count() as u64;
    let counters = link.counters(b).unwrap();
    assert_eq!((counters.passed, counters.dropped), (100 - dropped, dropped));
}

fn bypassing_socket(ifindex: u32) -> io::Result<OwnedFd> {
    let check = |answer: i32| if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) };
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a descriptor fresh from the kernel, owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let on = 1i32;
    let (value, len) = (std::ptr::from_ref(&on).cast(), size_of_val(&on) as u32);
    // SAFETY: value and length are those of `on`.
    check(unsafe { libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, value, len) })?;
    let addr = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let (name, len) = (std::ptr::from_ref(&addr).cast(), size_of_val(&addr) as u32);
    // SAFETY: name and length are those of `addr`.
    check(unsafe { libc::bind(fd, name, len) })?;
    Ok(socket)
}

#[test]
fn loss_ends_when_it_is_replaced() {
    let pair = Pair::new();
    resolve(&pair);
    pair.link.impair(&pair.b, Impairment::default().loss(1.0)).unwrap();
    assert_eq!(lost_datagrams(&pair, 100).len(), 100);
    pair.link.impair(&pair.b, Impairment::default()).unwrap();
    assert_eq!(lost_datagrams(&pair, 100).len(), 0);
    assert_eq!(pair.link.counters(&pair.b).unwrap().passed, 100);
}

/// A sender that learns of the loss from its own kernel would behave unlike any behind a wire.
#[test]
fn the_sender_is_not_told() {
    for Pair { a, b, link, .. } in &Pair::both() {
        the_sender_is_not_told_on(a, b, link);
    }
}

fn the_sender_is_not_told_on(a: &Node, b: &Node, link: &ringwire_lab::Link) {
    link.impair(b, Impairment::default().loss(1.0)).unwrap();
    let sender = a.run(|| UdpSocket::bind((link.addr(a), 0))).unwrap();
    a.command("ip")
        .args(["neigh", "replace", &link.addr(b).to_string(), "lladdr", "02:00:00:00:00:01"])
        .args(["dev", link.name(a)])
        .status()
        .unwrap();
    for _ in 0..100 {
        assert_eq!(sender.send_to(b"x", (link.addr(b), 9)).unwrap(), 1);
    }
    assert_eq!(link.counters(b).unwrap().dropped, 100);
}

#[test]
fn handshake_and_close_are_hit_and_tcp_recovers() {
    Pair::both().iter().for_each(handshake_and_close_are_hit);
}

fn handshake_and_close_are_hit(pair: &Pair) {
    resolve(pair);
    let Pair { a, b, link, .. } = pair;
    let listener = b.run(|| TcpListener::bind((link.addr(b), 80))).unwrap();
    // Packet 0 towards b is the SYN, packet 0 towards a is the SYN-ACK: seeds that lose just them.
    let only_first = |seed: &u64| {
        let loss = Impairment::default().loss(0.1).seed(*seed);
        loss.loses(0) && !(1..10).any(|number| loss.loses(number))
    };
    let seed = (0..).find(only_first).unwrap();
    let first = Impairment::default().loss(0.1).seed(seed);
    for towards in [b, a] {
        link.impair(towards, first).unwrap();
        let start = Instant::now();
        let mut stream = a.run(|| TcpStream::connect((link.addr(b), 80))).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(900), "the retransmission timer is one second");
        assert!(link.counters(towards).unwrap().dropped >= 1);
        link.impair(towards, Impairment::default()).unwrap();

        // A FIN that is lost comes again, too.
        let (mut accepted, _) = listener.accept().unwrap();
        link.impair(b, first).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(link.counters(b).unwrap().dropped, 1);
        accepted.write_all(b"bye").unwrap();
        let mut word = [0; 3];
        stream.read_exact(&mut word).unwrap();
    }
}

#[test]
fn a_transfer_survives_loss_in_both_directions() {
    Pair::both().iter().for_each(a_transfer_survives);
}

fn a_transfer_survives(Pair { a, b, link, .. }: &Pair) {
    link.impair(b, Impairment::default().loss(0.02).seed(11)).unwrap();
    // Acknowledgements are few: this seed loses one of the first that are neither ARP nor SYN-ACK.
    let early = |seed: &u64| (3..6).any(|number| Impairment::default().loss(0.05).seed(*seed).loses(number));
    let seed = (0..).find(early).unwrap();
    link.impair(a, Impairment::default().loss(0.05).seed(seed)).unwrap();
    let listener = b.run(|| TcpListener::bind((link.addr(b), 80))).unwrap();
    let sent = vec![0x5a; 512 << 10];
    let received = thread::scope(|scope| {
        scope.spawn(|| a.run(|| TcpStream::connect((link.addr(b), 80))).unwrap().write_all(&sent).unwrap());
        let mut bytes = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
        bytes
    });
    assert!(received == sent);
    let (towards_b, towards_a) = (link.counters(b).unwrap(), link.counters(a).unwrap());
    assert!(towards_b.dropped > 0 && towards_b.passed >= 512 * 1024 / 1460, "{towards_b:?}");
    assert!(towards_a.dropped > 0, "pure acknowledgements are hit: {towards_a:?}");
}
