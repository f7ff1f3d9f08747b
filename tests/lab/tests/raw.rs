//! Raw ports and the scripted TCP peer against the kernel's stack, and captures of what went by.

mod pair;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use pair::Pair;
use pcap_file::pcapng::{Block, PcapNgReader};
use ringwire_lab::{Field, Impairment, Macs, Match, TcpPeer, UdpPacket, tcp_options};

const WITHIN: Duration = Duration::from_secs(5);

fn v4(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => panic!("{ip}"),
    }
}

#[test]
fn datagrams_both_ways() {
    let Pair { a, b, link, .. } = &Pair::new();
    let mut raw = a.raw(link).unwrap();
    let kernel = b.run(|| UdpSocket::bind((link.addr(b), 7))).unwrap();
    kernel.set_read_timeout(Some(WITHIN)).unwrap();
    let src = SocketAddrV4::new(raw.spare_addr(), 5);
    raw.answer_arp(*src.ip());
    let dst = SocketAddrV4::new(v4(link.addr(b)), 7);
    let macs = Macs { src: raw.mac(), dst: raw.resolve(*src.ip(), *dst.ip()).unwrap() };
    assert_eq!(macs.dst, link.mac(b));
    raw.send(UdpPacket { src, dst, payload: b"raw".to_vec() }.frame(macs));
    let mut bytes = [0; 16];
    let (len, from) = kernel.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..len], from), (&b"raw"[..], src.into()));

    std::thread::scope(|scope| {
        // The kernel asks for our hardware address first.
        scope.spawn(|| kernel.send_to(b"back", src).unwrap());
        let seen = raw.expect(Match::udp().src_port(7).dst_port(5).payload("back"), WITHIN);
        assert_eq!(seen.number(Field::IpTtl), 64);
    });
    let mismatch = raw.try_expect(Match::udp().dst_port(1), Duration::from_millis(50)).unwrap_err();
    assert!(
        mismatch.to_string().starts_with("expected within 50ms: IpProtocol 17, DstPort 1\n"),
        "{mismatch}"
    );
    raw.expect_none(Match::tcp(), Duration::from_millis(50));
}

#[test]
fn the_scripted_peer_answers_sack_and_sends_odd_segments() {
    let Pair { a, b, link, .. } = &Pair::new();
    let mut raw = a.raw(link).unwrap();
    let local = SocketAddrV4::new(raw.spare_addr(), 80);
    let stream = std::thread::scope(|scope| {
        let stream = scope.spawn(|| b.run(|| TcpStream::connect(local).unwrap()));
        let options = [tcp_options::mss(1000), tcp_options::sack_permitted()].concat();
        let mut peer = TcpPeer::accept(&mut raw, local, options).unwrap();
        let mut stream = stream.join().unwrap();

        // Out of order, then the hole: the kernel says what it has, then takes all.
        let mut later = peer.segment("PA", b"world");
        later.seq = later.seq.wrapping_add(6);
        peer.send_segment(&later);
        let sacked = peer.expect(peer.from_remote().with(Field::TcpSack, sack(later.seq, 5))).unwrap();
        assert_eq!(sacked.number(Field::TcpAck), u64::from(peer.snd_nxt));
        peer.send("PA", b"hello ");
        peer.snd_nxt = peer.snd_nxt.wrapping_add(5);
        peer.expect_ack(peer.snd_nxt).unwrap();
        let mut bytes = [0; 11];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello world");

        // The kernel sends what the MSS allows, and again what is not acknowledged.
        stream.write_all(&[7; 2500]).unwrap();
        let start = peer.rcv_nxt;
        let first = peer.expect_data().unwrap();
        assert!(first.len() <= 1000, "{}", first.len());
        peer.expect(peer.from_remote().seq(start).with(Field::PayloadLen, first.len() as u64)).unwrap();
        peer.rcv_nxt = start.wrapping_add(2500);
        peer.ack();
        // RFC 9293 3.10.7.4: nobody may reset blindly, but the exact number counts.
        let mut reset = peer.segment("R", &[]);
        reset.seq = peer.snd_nxt;
        peer.send_segment(&reset);
        stream
    });
    let error = (&stream).read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

fn sack(left: u32, len: u32) -> Vec<u8> {
    [left.to_be_bytes(), left.wrapping_add(len).to_be_bytes()].concat()
}

#[test]
fn the_scripted_peer_opens_and_is_refused() {
    let Pair { a, b, link, .. } = &Pair::new();
    let mut raw = a.raw(link).unwrap();
    let local = SocketAddrV4::new(raw.spare_addr(), 4000);
    let remote = SocketAddrV4::new(v4(link.addr(b)), 80);
    let refused = TcpPeer::connect(&mut raw, local, remote, Vec::new()).unwrap_err();
    assert!(refused.to_string().contains("TcpFlags: expected SA, got RA"), "{refused}");
    let listener = b.run(|| TcpListener::bind((link.addr(b), 80))).unwrap();
    let mut peer = TcpPeer::connect(&mut raw, local, remote, tcp_options::mss(536)).unwrap();
    let (mut accepted, from) = listener.accept().unwrap();
    assert_eq!(from, local.into());
    peer.send("PA", b"x");
    accepted.read_exact(&mut [0; 1]).unwrap();
    peer.send("FA", &[]);
    assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_capture_has_both_directions_and_says_what_was_lost() {
    let Pair { a, b, link, .. } = &Pair::new();
    let file = std::env::temp_dir().join(format!("ringwire-lab-capture-{}.pcapng", std::process::id()));
    let receiver = b.run(|| UdpSocket::bind((link.addr(b), 9))).unwrap();
    let sender = a.run(|| UdpSocket::bind((link.addr(a), 8))).unwrap();
    sender.connect((link.addr(b), 9)).unwrap();
    let capture = link.capture(&file).unwrap();
    sender.send(b"passes").unwrap();
    receiver.recv(&mut [0; 16]).unwrap();
    receiver.send_to(b"returns", (link.addr(a), 8)).unwrap();
    sender.recv(&mut [0; 16]).unwrap();
    link.impair(b, Impairment::default().loss(1.0).seed(42)).unwrap();
    sender.send(b"is lost").unwrap();
    assert_eq!(capture.path(), file);
    let packets = capture.finish().unwrap();
    let text = dump(&file);
    std::fs::remove_file(&file).unwrap();
    assert!(packets >= 5, "ARP both ways and three datagrams: {text}");
    for part in ["a to b", "b to a", "0 passes", "1 returns", "0 is lost (lost)"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

/// Names of the interfaces; then of each datagram its interface, payload and comment.
fn dump(file: &std::path::Path) -> String {
    let mut reader = PcapNgReader::new(std::fs::File::open(file).unwrap()).unwrap();
    let mut text = String::new();
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => text += &format!("{:?}\n", interface.options),
            Block::EnhancedPacket(packet) => {
                let seen = ringwire_lab::Dissected::new(packet.data.to_vec());
                let comment: String = packet
                    .options
                    .iter()
                    .filter_map(|option| match option {
                        pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption::Comment(
                            comment,
                        ) => Some(format!(" ({comment})")),
                        _ => None,
                    })
                    .collect();
                let payload = String::from_utf8_lossy(seen.payload()).into_owned();
                text += &format!("{} {payload}{comment}\n", packet.interface_id);
            }
            _ => {}
        }
    }
    text
}
