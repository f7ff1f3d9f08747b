//! A clean conversation has no fault; each rule is broken once, by changing one packet of it.

use std::net::Ipv4Addr;

use ringwire_wire::checksum::Sum;
use ringwire_wire::ipv4;
use ringwire_wire::tcp::{Header, Options, Timestamps};

use super::*;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const MTU: usize = 1500;
const ISS: u32 = u32::MAX - 100;
const IRS: u32 = 5_000;

/// A segment: relative numbers, as Wireshark shows them.
#[derive(Clone, Copy)]
struct Said {
    by_us: bool,
    flags: Flags,
    seq: u32,
    ack: u32,
    len: usize,
    window: u16,
    tsval: u32,
}

const ACK: Flags = Flags::ACK;

fn said(by_us: bool, flags: Flags, seq: u32, ack: u32, len: usize) -> Said {
    Said { by_us, flags, seq, ack, len, window: 100, tsval: 1_000 }
}

fn conversation() -> Vec<Said> {
    let mut all = vec![
        said(false, Flags::SYN, 0, 0, 0),
        said(true, Flags::SYN | ACK, 0, 1, 0),
        said(false, ACK, 1, 1, 0),
        said(false, ACK, 1, 1, 1000),
        said(true, ACK, 1, 1001, 500),
        said(false, ACK, 1001, 501, 0),
        said(true, ACK, 501, 1001, 1448),
        said(true, ACK | Flags::FIN, 1949, 1001, 0),
        said(false, ACK | Flags::FIN, 1001, 1950, 0),
        said(true, ACK, 1950, 1002, 0),
    ];
    for (place, one) in all.iter_mut().enumerate() {
        // A window of 100 << 7 = 12,800 bytes; what comes in fills it.
        one.tsval += place as u32;
        if one.by_us && place > 3 {
            one.window = 93;
        }
    }
    all[0].window = 12_800;
    all[1].window = 12_800;
    all
}

fn frame(said: &Said) -> Vec<u8> {
    let (src, dst) = if said.by_us { (OURS, PEER) } else { (PEER, OURS) };
    let (seq_at, ack_at, ports) = if said.by_us { (ISS, IRS, (80, 4000)) } else { (IRS, ISS, (4000, 80)) };
    let is_syn = said.flags.contains(Flags::SYN);
    let options = Options {
        mss: is_syn.then_some(1460),
        window_scale: is_syn.then_some(7),
        timestamps: Some(Timestamps { value: said.tsval, echo: 0 }),
        ..Options::default()
    };
    let header = Header {
        src_port: ports.0,
        dst_port: ports.1,
        seq: seq_at.wrapping_add(said.seq),
        ack: if said.flags.contains(ACK) { ack_at.wrapping_add(said.ack) } else { 0 },
        flags: said.flags,
        window: said.window,
        urgent: 0,
    };
    let mut tcp = [0; 60];
    let header_len = header.emit(&options, Sum::default(), &mut tcp);
    let ip = ipv4::Header {
        src,
        dst,
        protocol: ipv4::Protocol::TCP,
        tos: 0,
        ttl: 64,
        id: 0,
        dont_fragment: true,
        payload_len: (header_len + said.len) as u16,
    };
    let mut ip_bytes = [0; ipv4::HEADER_LEN];
    ip.emit(&mut ip_bytes);
    let mut frame = vec![2; 12];
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(&ip_bytes);
    frame.extend_from_slice(&tcp[..header_len]);
    frame.resize(frame.len() + said.len, 0x55);
    frame
}

fn judge(all: &[Said]) -> Vec<(usize, Rule)> {
    let numbered = all.iter().enumerate();
    let packets: Vec<Packet> =
        numbered.map(|(place, said)| Packet { number: place + 1, bytes: frame(said) }).collect();
    check_tcp(&packets, OURS, MTU).iter().map(|fault| (fault.number, fault.rule)).collect()
}

/// The conversation with one packet changed.
fn with(number: usize, change: impl FnOnce(&mut Said)) -> Vec<Said> {
    let mut all = conversation();
    change(&mut all[number - 1]);
    all
}

#[test]
fn a_clean_conversation_has_no_fault() {
    assert_eq!(judge(&conversation()), []);
}

#[test]
fn programs_of_one_host_are_told_apart_by_their_ports() {
    let all = with(7, |said| said.window = 92);
    let packets: Vec<Packet> = all
        .iter()
        .enumerate()
        .map(|(place, said)| {
            let mut bytes = frame(said);
            // One address at both ends; the addresses stand behind 14 bytes of Ethernet and 12 of IP.
            bytes[26..30].copy_from_slice(&OURS.octets());
            bytes[30..34].copy_from_slice(&OURS.octets());
            Packet { number: place + 1, bytes }
        })
        .collect();
    let judged = |port| -> Vec<usize> {
        let end = End { ip: OURS.into(), port };
        check_tcp(&packets, end, MTU).iter().map(|fault| fault.number).collect()
    };
    assert_eq!((judged(Some(80)), judged(None)), (vec![7], vec![]));
}

#[test]
fn an_acknowledgement_of_what_never_came() {
    assert_eq!(judge(&with(10, |said| said.ack = 1003)), [(10, Rule::AckBeyondReceived)]);
}

#[test]
fn a_window_that_shrinks() {
    let faults = judge(&with(7, |said| said.window = 92));
    assert_eq!(faults, [(7, Rule::RightEdgeMovesLeft)]);
    // By 24 bytes, as one that rounds down what its scale cannot say.
    assert_eq!(judge(&with(5, |said| said.window = 92)), [(5, Rule::RightEdgeMovesLeft)]);
}

#[test]
fn a_syn_that_cannot_say_more() {
    let mut all = conversation();
    (all[1].window, all[4].window) = (u16::MAX, 600);
    for said in all.iter_mut().skip(5) {
        said.window = 600;
    }
    let again = Said { tsval: all[4].tsval, ..all[1] };
    all.insert(5, again);
    assert_eq!(judge(&all), []);
}

#[test]
fn a_timestamp_clock_that_goes_back() {
    assert_eq!(judge(&with(7, |said| said.tsval = 1_003)), [(7, Rule::TimestampGoesBack)]);
}

#[test]
fn more_than_the_peer_has_room_for() {
    // After packet 6 the peer takes 501 + 11 << 7 = 1,909; packet 3 had announced as much.
    let mut all = with(6, |said| said.window = 11);
    for number in [1, 3, 4] {
        all[number - 1].window = 11;
    }
    assert_eq!(judge(&all), [(7, Rule::BeyondPeersWindow)]);
}

#[test]
fn a_segment_that_is_too_long() {
    let mut all = with(7, |said| said.len = 1449);
    all[7].seq = 1950;
    assert_eq!(judge(&all), [(7, Rule::SegmentTooLong)]);
    // Options count: the path has room for 1,448 bytes beside timestamps.
    let packets: Vec<Packet> =
        conversation().iter().map(|said| Packet { number: 0, bytes: frame(said) }).collect();
    assert_eq!(check_tcp(&packets, OURS, 1_499)[0].rule, Rule::SegmentTooLong);
}

/// A router's answer to a segment of ours.
fn too_big(refused: &Said, mtu: u16) -> Vec<u8> {
    let quoted = &frame(refused)[14..14 + 28];
    let mut message = [0; icmp::HEADER_LEN];
    let code = unreachable::FRAGMENTATION_NEEDED;
    icmp::Header::Unreachable { code, next_hop_mtu: mtu }.emit(&mut message, Sum::of(quoted));
    let ip = ipv4::Header {
        src: Ipv4Addr::new(10, 0, 0, 3),
        dst: OURS,
        protocol: ipv4::Protocol::ICMP,
        tos: 0,
        ttl: 64,
        id: 0,
        dont_fragment: true,
        payload_len: (message.len() + quoted.len()) as u16,
    };
    let mut ip_bytes = [0; ipv4::HEADER_LEN];
    ip.emit(&mut ip_bytes);
    [&[2; 12][..], &[8, 0], &ip_bytes, &message, quoted].concat()
}

/// What a router refuses is sent again in pieces that the path takes; what was under way already is not held against anybody.
#[test]
fn a_segment_that_is_too_long_for_a_path_that_has_said_so() {
    let said = conversation();
    let judged = |resent: [usize; 2]| -> Vec<(usize, Rule)> {
        let mut frames: Vec<Vec<u8>> = said[..6].iter().map(frame).collect();
        let refused = Said { tsval: 1_006, window: 93, ..said[6] };
        let under_way = Said { seq: refused.seq + 1448, ..refused };
        let again = Said { len: resent[0], ..refused };
        let rest = Said { seq: refused.seq + 1248, len: resent[1], ..refused };
        frames.extend([frame(&refused), too_big(&refused, 1300), frame(&under_way)]);
        frames.extend([again, rest].iter().map(frame));
        let packets: Vec<Packet> = frames
            .into_iter()
            .enumerate()
            .map(|(place, bytes)| Packet { number: place + 1, bytes })
            .collect();
        check_tcp(&packets, OURS, MTU).iter().map(|fault| (fault.number, fault.rule)).collect()
    };
    assert_eq!(judged([1248, 1248]), []);
    assert_eq!(judged([1249, 1248]), [(10, Rule::SegmentTooLong)]);
    assert_eq!(judged([1248, 1249]), [(11, Rule::SegmentTooLong)]);
}

#[test]
fn data_behind_the_end() {
    let mut all = conversation();
    all.insert(8, Said { tsval: 1_008, window: 93, ..said(true, ACK, 1950, 1001, 10) });
    assert_eq!(judge(&all), [(9, Rule::DataAfterFin)]);
}

#[test]
fn what_began_before_the_capture_is_left_out() {
    let all = with(10, |said| said.ack = 1003);
    assert_eq!(judge(&all[2..]), []);
}

#[test]
fn a_new_connection_of_the_same_ports_begins_anew() {
    let mut all = conversation();
    let first = said(false, Flags::SYN, 100_000, 0, 0);
    let second = said(true, Flags::SYN | ACK, 0, 100_001, 0);
    all.extend([first, second]);
    assert_eq!(judge(&all), []);
}
