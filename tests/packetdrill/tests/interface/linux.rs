//! Where the RFCs leave a choice: what Linux does, and scripts compare.

use ringwire_wire::tcp::{FastOpen, Flags, Options};

use crate::library::Drill;
use crate::packets::segment;
use crate::peer::{ACK, Peer, listening, offer, offer_with_timestamps, receive};

const MSS: u8 = 2;
const NOP: u8 = 1;
const SCALE: u8 = 3;
const SACK_OK: u8 = 4;
const TIMESTAMPS: u8 = 8;

fn syn_ack_to(flags: &str, options: &Options) -> crate::packets::Out {
    let drill = Drill::new(flags);
    listening(&drill);
    drill.inject(&segment(Flags::SYN, (0, 0), options, b"")).unwrap();
    receive(&drill)
}

fn syn_of(flags: &str) -> crate::packets::Out {
    let drill = Drill::new(flags);
    let fd = drill.stream();
    drill.make_nonblocking(fd);
    assert_eq!(drill.connect(fd, (crate::packets::THERE, 80)), Err(libc::EINPROGRESS));
    receive(&drill)
}

#[test]
fn options_of_syn_and_syn_ack_stand_in_linux_s_order() {
    let with = [MSS, SACK_OK, TIMESTAMPS, NOP, SCALE];
    let without = [MSS, NOP, NOP, SACK_OK, NOP, SCALE];
    for out in [syn_of(""), syn_ack_to("", &offer_with_timestamps())] {
        assert_eq!(out.option_kinds(), with, "{out:?}");
        assert_eq!((out.options.mss, out.options.window_scale), (Some(1460), Some(8)));
    }
    for out in [syn_of("timestamps=off"), syn_ack_to("", &offer())] {
        assert_eq!(out.option_kinds(), without, "{out:?}");
    }
    assert_eq!(syn_of("sack=off,timestamps=off").option_kinds(), [MSS, NOP, SCALE]);
    assert_eq!(syn_of("sack=off").option_kinds(), [MSS, NOP, NOP, TIMESTAMPS, NOP, SCALE]);
    assert_eq!(syn_of("sack=off,timestamps=off,wscale=off").option_kinds(), [MSS]);
    assert_eq!(syn_ack_to("", &Options::default()).option_kinds(), [MSS], "nothing that was not offered");
}

#[test]
fn the_mtu_is_the_segment_s_size() {
    assert_eq!(syn_of("mtu=1280").options.mss, Some(1240));
}

#[test]
fn ecn_is_asked_for_when_it_shall_be() {
    assert_eq!(syn_of("ecn=ask").header.flags, Flags::SYN | Flags::ECE | Flags::CWR);
    assert_eq!(syn_of("").header.flags, Flags::SYN);
}

#[test]
fn push_stands_on_the_last_segment_of_each_write() {
    let peer = Peer::accepted("");
    assert_eq!(peer.drill.write(peer.fd, &[7; 3000]), Ok(3000));
    peer.expect(ACK, (1, 1), &[7; 1460]);
    peer.expect(ACK, (1461, 1), &[7; 1460]);
    peer.expect(ACK | Flags::PSH, (2921, 1), &[7; 80]);
    peer.inject(ACK, (1, 3001), b"");
    // Gathered from several buffers it is one write.
    assert_eq!(peer.drill.writev(peer.fd, &[&[1; 1460], &[2; 10]]), Ok(1470));
    peer.expect(ACK, (3001, 1), &[1; 1460]);
    peer.expect(ACK | Flags::PSH, (4461, 1), &[2; 10]);
}

#[test]
fn the_first_segments_are_acknowledged_at_once_and_then_every_second_one() {
    let peer = Peer::accepted("");
    let mut at = 1;
    for _ in 0..16 {
        peer.inject(ACK, (at, 1), &[1; 1000]);
        at += 1000;
        peer.expect_at_once(ACK, (1, at), b"");
        peer.drill.read(peer.fd).unwrap();
    }
    let start_us = peer.drill.now_us();
    peer.inject(ACK, (at, 1), &[1; 1000]);
    let ack = peer.expect(ACK, (1, at + 1000), b"");
    let delay_ms = (ack.at_us - start_us) / 1000;
    assert!((40..=42).contains(&delay_ms), "a delayed one, as late as Linux's: {delay_ms} ms");
    at += 1000;
    for _ in 0..3 {
        peer.drill.read(peer.fd).unwrap();
        peer.inject(ACK, (at, 1), &[1; 1460]);
        peer.inject(ACK, (at + 1460, 1), &[1; 1460]);
        at += 2920;
        peer.expect_at_once(ACK, (1, at), b"");
    }
}

/// The lengths and flags of the next segments.
fn train(peer: &Peer, count: usize) -> Vec<(usize, Flags)> {
    let next = |_| peer.receive();
    (0..count).map(next).map(|out| (out.text.len(), out.header.flags)).collect()
}

#[test]
fn segments_in_a_row_are_pushed_as_linux_s_super_segments() {
    let peer = Peer::accepted("timestamps=off");
    let pushed = ACK | Flags::PSH;
    // The round trip is short: the window ends the run.
    assert_eq!(peer.drill.write(peer.fd, &[7; 20_000]), Ok(20_000));
    let first = train(&peer, 10);
    assert_eq!((first[..9].to_vec(), first[9]), (vec![(1460, ACK); 9], (1460, pushed)));
    // It is long: two at a time, and one alone is not pushed.
    let peer = Peer::accepted("timestamps=off");
    peer.drill.write(peer.fd, &[7; 100]).unwrap();
    peer.receive();
    peer.drill.usleep(80_000);
    peer.inject(ACK, (1, 101), b"");
    assert_eq!(peer.drill.write(peer.fd, &[7; 15_000]), Ok(15_000));
    let pair = [(1460, ACK), (1460, pushed)];
    assert_eq!(train(&peer, 10), pair.repeat(5));
    peer.inject(ACK, (1, 101 + 1460), b"");
    assert_eq!(train(&peer, 1), [(400, pushed)], "the end of the write");
}

#[test]
fn a_record_shares_no_segment_with_what_follows() {
    let peer = Peer::accepted("timestamps=off");
    let pushed = ACK | Flags::PSH;
    // More than the first window, so that what follows has to wait.
    assert_eq!(peer.drill.write(peer.fd, &[7; 14_700]), Ok(14_700));
    assert_eq!(peer.drill.send(peer.fd, &[7; 100], libc::MSG_EOR), Ok(100));
    assert_eq!(peer.drill.write(peer.fd, &[7; 300]), Ok(300));
    assert_eq!(peer.drill.write(peer.fd, &[7; 200]), Ok(200));
    train(&peer, 10);
    peer.inject(ACK, (1, 14_601), b"");
    assert_eq!(train(&peer, 1), [(200, pushed)], "100 were left of the first write");
    peer.inject(ACK, (1, 14_801), b"");
    assert_eq!(train(&peer, 1), [(500, pushed)]);
}

#[test]
fn tcp_info_tells_of_disorder_and_how_far_it_went() {
    const CA_STATE: u32 = 0xff00;
    let peer = Peer::accepted("timestamps=off");
    assert_eq!(peer.drill.write(peer.fd, &[7; 14_600]), Ok(14_600));
    train(&peer, 10);
    peer.drill.usleep(50_000);
    let sacked = |from: u32, to: u32| {
        let mut options = Options::default();
        options.sack.push(peer.iss.wrapping_add(from), peer.iss.wrapping_add(to));
        peer.drill.inject(&segment(ACK, (1, peer.iss.wrapping_add(1)), &options, b"")).unwrap();
    };
    assert_eq!((peer.info_word(0) & CA_STATE, peer.info_word(88)), (0, 3));
    sacked(1 + 5 * 1460, 1 + 6 * 1460);
    assert_eq!(peer.info_word(0) & CA_STATE, 1 << 8, "TCP_CA_Disorder");
    assert_eq!(peer.info_word(88), 3);
    sacked(1 + 1460, 1 + 2 * 1460);
    assert_eq!(peer.info_word(88), 5, "tcpi_reordering: from the second to the sixth");
}

#[test]
fn a_segment_beyond_the_mtu_arrives_in_pieces_and_is_acknowledged_once() {
    let peer = Peer::accepted("");
    let text: Vec<u8> = (0..60_000_u32).map(|at| at as u8).collect();
    peer.inject(ACK | Flags::PSH | Flags::FIN, (1, 1), &text);
    peer.expect_at_once(ACK, (1, 60_002), b"");
    let mut read = Vec::new();
    while read.len() < text.len() {
        read.extend(peer.drill.read(peer.fd).unwrap());
    }
    assert!(read == text, "the pieces stand in order");
    assert_eq!(peer.drill.read(peer.fd), Ok(Vec::new()), "the FIN belongs to the last one");
    // What no device cuts is refused.
    let syn = segment(Flags::SYN, (0, 0), &offer(), &[0; 2000]);
    assert_eq!(peer.drill.inject(&syn), Err(libc::EINVAL));
}

#[test]
fn without_quick_acks_the_first_one_is_delayed() {
    let peer = Peer::accepted("quickack=0");
    let start_us = peer.drill.now_us();
    peer.inject(ACK, (1, 1), &[1; 1000]);
    let ack = peer.expect(ACK, (1, 1001), b"");
    assert!(ack.at_us - start_us >= 40_000);
}

#[test]
fn resets_have_linux_s_forms() {
    // To a port that nobody has: a SYN, and an acknowledgement.
    let drill = Drill::new("");
    drill.inject(&segment(Flags::SYN, (0, 0), &offer(), b"")).unwrap();
    let out = receive(&drill);
    assert_eq!((out.header.flags, out.header.seq, out.header.window), (Flags::RST | ACK, 0, 0));
    assert_eq!(out.header.ack, crate::packets::IRS + 1);
    drill.inject(&segment(ACK, (9, 77), &Options::default(), b"abc")).unwrap();
    let out = receive(&drill);
    assert_eq!((out.header.flags, out.header.seq, out.header.ack), (Flags::RST, 77, 0));
    drop(drill);
    // Closed with something unread.
    let peer = Peer::accepted("");
    peer.inject(ACK, (1, 1), b"unread");
    peer.expect(ACK, (1, 7), b"");
    peer.drill.close(peer.fd).unwrap();
    peer.expect(Flags::RST | ACK, (1, 7), b"");
    drop(peer);
    // Text after the close.
    let peer = Peer::accepted("");
    peer.drill.close(peer.fd).unwrap();
    peer.expect(Flags::FIN | ACK, (1, 1), b"");
    peer.inject(ACK, (1, 2), b"late");
    let out = peer.receive();
    assert_eq!((out.header.flags, peer.seq(&out)), (Flags::RST, 2));
}

#[test]
fn tcp_info_is_linux_s() {
    let peer = Peer::accepted("");
    let info = peer.drill.option(peer.fd, (libc::IPPROTO_TCP, libc::TCP_INFO), 300).unwrap();
    assert_eq!((info.len(), info[0], info[1]), (248, 1, 0));
    assert_eq!((info[5], info[6]), (2 | 4, 0x87), "SACK and scaling; the peer's shift and ours");
    assert_eq!(u32::from_ne_bytes(info[80..84].try_into().unwrap()), 10, "tcpi_snd_cwnd");
    let cut = peer.drill.option(peer.fd, (libc::IPPROTO_TCP, libc::TCP_INFO), 104).unwrap();
    assert_eq!(cut.len(), 104, "an older, shorter structure");
    peer.inject(ACK, (1, 1), b"12345");
    peer.expect(ACK, (1, 6), b"");
    peer.drill.write(peer.fd, b"123").unwrap();
    peer.expect(Flags::PSH | ACK, (1, 6), b"123");
    peer.inject(ACK, (6, 4), b"");
    let info = peer.drill.option(peer.fd, (libc::IPPROTO_TCP, libc::TCP_INFO), 300).unwrap();
    let double = |at: usize| u64::from_ne_bytes(info[at..at + 8].try_into().unwrap());
    assert_eq!([120, 128, 200, 208].map(double), [3, 5, 3, 0], "acknowledged, received, sent, sent again");
    let word = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().unwrap());
    assert_eq!([136, 140, 156].map(word), [3, 3, 1], "segments out, in, out with data");
    assert_eq!([84, 192].map(word), [1460, 2], "our MSS; delivered, the SYN counted");
    let name = peer.drill.option(peer.fd, (libc::IPPROTO_TCP, libc::TCP_CONGESTION), 16).unwrap();
    assert_eq!(name[..6], *b"cubic\0");
    drop(peer);
    for (flags, expected) in [("cc=reno", &b"reno\0"[..]), ("cc=dctcp", b"dctcp\0")] {
        let peer = Peer::accepted(flags);
        let name = peer.drill.option(peer.fd, (libc::IPPROTO_TCP, libc::TCP_CONGESTION), 16).unwrap();
        assert_eq!(name[..expected.len()], *expected);
    }
}

#[test]
fn a_connection_s_own_reset_has_timestamps() {
    let drill = Drill::new("");
    let listener = listening(&drill);
    drill.inject(&segment(Flags::SYN, (0, 0), &offer_with_timestamps(), b"")).unwrap();
    let syn_ack = receive(&drill);
    let stamp = offer_with_timestamps().timestamps.map(|stamp| ringwire_wire::tcp::Timestamps {
        value: stamp.value + 1,
        echo: syn_ack.options.timestamps.unwrap().value,
    });
    let options = Options { timestamps: stamp, ..Options::default() };
    let ack = syn_ack.header.seq.wrapping_add(1);
    drill.inject(&segment(ACK, (1, ack), &options, b"")).unwrap();
    let (fd, ..) = drill.accept(listener).unwrap();
    let linger = [1_i32.to_ne_bytes(), 0_i32.to_ne_bytes()].concat();
    drill.set_option(fd, (libc::SOL_SOCKET, libc::SO_LINGER), &linger).unwrap();
    drill.close(fd).unwrap();
    let reset = receive(&drill);
    assert_eq!(reset.header.flags, Flags::RST | ACK, "an option that was set is no reason for a segment");
    assert_eq!(reset.option_kinds(), [NOP, NOP, TIMESTAMPS]);
}

#[test]
fn the_cookie_of_the_usual_addresses_is_the_one_that_readers_are_told() {
    let drill = Drill::new("");
    let listener = listening(&drill);
    let fast_open = (libc::IPPROTO_TCP, libc::TCP_FASTOPEN);
    assert_eq!(drill.set_option(listener, fast_open, &1_i32.to_ne_bytes()), Ok(0));
    let asking = Options { fast_open: Some(FastOpen::REQUEST), ..offer() };
    drill.inject(&segment(Flags::SYN, (0, 0), &asking, b"")).unwrap();
    let cookie = receive(&drill).options.fast_open.unwrap();
    let digits: String = cookie.as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(include_str!("../../README.md").contains(&format!("-D TFO_COOKIE={digits}")), "{digits}");
}
