//! tshark finds what is planted, and nothing else. It is installed by deploy/setup.sh.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ringwire_capture::{End, Quality, Recorder, Seen, read, tshark};
use ringwire_wire::checksum::Sum;
use ringwire_wire::ipv4;
use ringwire_wire::tcp::{Flags, Header, Options};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn frame(by_us: bool, flags: Flags, (seq, ack): (u32, u32), payload: &[u8]) -> Vec<u8> {
    let (src, dst, ports) = if by_us { (OURS, PEER, (9000, 4000)) } else { (PEER, OURS, (4000, 9000)) };
    let options = Options { mss: flags.contains(Flags::SYN).then_some(1460), ..Options::default() };
    let header = Header { src_port: ports.0, dst_port: ports.1, seq, ack, flags, window: 10_000, urgent: 0 };
    let len = (20 + options.encoded_len() + payload.len()) as u16;
    let sum = Sum::pseudo_v4(src, dst, ipv4::Protocol::TCP, len) + Sum::of(payload);
    let mut tcp = [0; 60];
    let header_len = header.emit(&options, sum, &mut tcp);
    let ip = ipv4::Header {
        src,
        dst,
        protocol: ipv4::Protocol::TCP,
        tos: 0,
        ttl: 64,
        id: 0,
        dont_fragment: true,
        payload_len: len,
    };
    let mut ip_bytes = [0; ipv4::HEADER_LEN];
    ip.emit(&mut ip_bytes);
    [&[2; 12][..], &[8, 0], &ip_bytes, &tcp[..header_len], payload].concat()
}

fn conversation() -> Vec<Vec<u8>> {
    let text = [0x55; 100];
    vec![
        frame(false, Flags::SYN, (1000, 0), &[]),
        frame(true, Flags::SYN | Flags::ACK, (5000, 1001), &[]),
        frame(false, Flags::ACK, (1001, 5001), &[]),
        frame(true, Flags::ACK | Flags::PSH, (5001, 1001), &text),
        frame(false, Flags::ACK, (1001, 5101), &[]),
        frame(true, Flags::ACK | Flags::PSH, (5101, 1001), &text),
        frame(false, Flags::ACK, (1001, 5201), &[]),
    ]
}

fn written(name: &str, frames: &[Vec<u8>]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("gate-{name}.pcapng"));
    let names = ["ours".to_owned(), "peer".to_owned()];
    let file = Box::new(File::create(&path).unwrap());
    let mut recorder = Recorder::new(file, "gate", &names, "made by hand").unwrap();
    for (number, bytes) in frames.iter().enumerate() {
        let at_ns = 1_000_000 * number as u64;
        recorder.record(&Seen { from: 0, at_ns, len: bytes.len(), bytes, comment: None });
    }
    recorder.finish().unwrap();
    path
}

/// The numbers of the packets that tshark shows.
fn found(name: &str, frames: &[Vec<u8>], quality: Quality) -> Vec<usize> {
    let lines = tshark(&written(name, frames), IpAddr::V4(OURS), quality).unwrap();
    lines.iter().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_clean_capture_passes() {
    assert_eq!(found("clean", &conversation(), Quality::LossFree), []);
}

#[test]
fn what_was_written_is_read() {
    let path = written("read", &conversation());
    let read: Vec<Vec<u8>> = read(&path).unwrap().into_iter().map(|packet| packet.bytes).collect();
    assert_eq!(read, conversation());
    // A writer that was ended in the middle of a packet.
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    assert_eq!(ringwire_capture::read(&path).unwrap().len(), conversation().len() - 1);
}

#[test]
fn bad_checksums_are_found() {
    for (name, byte) in [("tcp", 14 + 20 + 16), ("ip", 14 + 10)] {
        let mut frames = conversation();
        frames[3][byte] ^= 0x10;
        assert_eq!(found(name, &frames, Quality::Any), [4], "{name}");
    }
    // The peer's own are its own affair.
    let mut frames = conversation();
    frames[4][14 + 20 + 16] ^= 0x10;
    assert_eq!(found("peer", &frames, Quality::Any), []);
    // So are another program's at the same address.
    let mut frames = conversation();
    frames[3][14 + 20 + 16] ^= 0x10;
    let lines = |port| {
        let end = End { ip: OURS.into(), port: Some(port) };
        tshark(&written("port", &frames), end, Quality::Any).unwrap().len()
    };
    assert_eq!((lines(9000), lines(9001)), (1, 0));
}

#[test]
fn a_malformed_header_is_found() {
    let mut frames = conversation();
    // A data offset of four words.
    frames[5][14 + 20 + 12] = 0x40;
    assert_eq!(found("offset", &frames, Quality::Any), [6]);
}

/// Mends the checksums of a frame that was changed by hand.
fn mend(frame: &mut [u8]) {
    let (ip, tcp) = (14..34, 34);
    let len = (frame.len() - tcp) as u16;
    for at in [24, tcp + 16] {
        frame[at..at + 2].fill(0);
    }
    let checksum = Sum::of(&frame[ip]).finish();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    let sum = Sum::pseudo_v4(OURS, PEER, ipv4::Protocol::TCP, len) + Sum::of(&frame[tcp..]);
    frame[tcp + 16..tcp + 18].copy_from_slice(&sum.finish().to_be_bytes());
}

#[test]
fn a_malformed_packet_with_text_is_found_whatever_the_text_looks_like() {
    let mut frames = conversation();
    // A total length behind the end.
    frames[3][17] += 4;
    mend(&mut frames[3]);
    assert_eq!(found("length", &frames, Quality::Any), [4]);
    // To the port of the DNS, what is none.
    let mut frames = conversation();
    for frame in [3, 5] {
        frames[frame][36..38].copy_from_slice(&53_u16.to_be_bytes());
        mend(&mut frames[frame]);
    }
    assert_eq!(found("dns", &frames, Quality::Any), []);
}

#[test]
fn repetition_is_found_on_a_loss_free_link_only() {
    let mut frames = conversation();
    frames.insert(4, frames[3].clone());
    assert_eq!(found("any", &frames, Quality::Any), []);
    assert_eq!(found("again", &frames, Quality::LossFree), [5]);
    let mut frames = conversation();
    frames.insert(5, frames[4].clone());
    frames.insert(5, frames[4].clone());
    assert!(found("dup", &frames, Quality::LossFree).contains(&6));
    let mut frames = conversation();
    frames.swap(3, 5);
    assert!(!found("swapped", &frames, Quality::LossFree).is_empty());
}
