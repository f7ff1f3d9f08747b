//! `TCP_INFO`: what Linux's own scripts ask of it, and where its fields stand.

use ringwire_wire::tcp::{Flags, Options};

use crate::packets::segment;
use crate::peer::{ACK, Peer};

const LAST_DATA_SENT: usize = 44;
const LAST_DATA_RECV: usize = 52;
const LAST_ACK_RECV: usize = 56;
const RCV_RTT: usize = 92;
const RCV_SPACE: usize = 96;
const TOTAL_RETRANS: usize = 100;
const MIN_RTT: usize = 148;
const DATA_SEGS_IN: usize = 152;
const DELIVERY_RATE: usize = 160;
const BUSY_TIME: usize = 168;
const RWND_LIMITED: usize = 176;
const SNDBUF_LIMITED: usize = 184;
const DSACK_DUPS: usize = 216;
const REORD_SEEN: usize = 220;
const RCV_OOOPACK: usize = 224;
const RTO_COUNTS: usize = 240;
const RTO_TIME: usize = 244;

/// As its scripts have it: from as much to ten milliseconds more.
#[track_caller]
fn expect_ms(time_us: u64, ms: u64) {
    assert!((ms * 1000..ms * 1000 + 10_000).contains(&time_us), "{time_us} us, {ms} ms expected");
}

/// tcp-info-last_data_recv.pkt
#[test]
fn the_last_text_is_as_old_as_the_connection_until_there_is_some() {
    let peer = Peer::connected("");
    peer.drill.usleep(1_000_000);
    assert!((990..=1010).contains(&peer.info_word(LAST_DATA_RECV)));
    assert!((990..=1010).contains(&peer.info_word(LAST_DATA_SENT)));
    peer.inject(ACK, (1, 1), &[7; 1000]);
    peer.expect(ACK, (1, 1001), b"");
    assert!(peer.info_word(LAST_DATA_RECV) <= 10);
    assert_eq!((peer.info_word(DATA_SEGS_IN), peer.info_word(RCV_OOOPACK)), (1, 0));
    peer.drill.usleep(300_000);
    peer.drill.write(peer.fd, b"text").unwrap();
    peer.receive();
    peer.drill.usleep(100_000);
    peer.acknowledge((1001, 5), 100);
    assert!((100..=110).contains(&peer.info_word(LAST_DATA_SENT)));
    assert!((400..=410).contains(&peer.info_word(LAST_DATA_RECV)));
    assert!(peer.info_word(LAST_ACK_RECV) <= 1);
}

/// tcp-info-rwnd-limited.pkt
#[test]
fn the_time_in_which_the_peer_takes_nothing_is_rwnd_limited() {
    let peer = Peer::connected("");
    peer.acknowledge((1, 1), 0);
    assert_eq!(peer.info_double(RWND_LIMITED), 0);
    assert_eq!(peer.drill.write(peer.fd, &[1; 1000]), Ok(1000));
    peer.drill.usleep(100_000);
    expect_ms(peer.info_double(RWND_LIMITED), 100);
    peer.drill.usleep(100_000);
    peer.acknowledge((1, 1), 16);
    expect_ms(peer.info_double(RWND_LIMITED), 200);
    peer.expect(ACK | Flags::PSH, (1, 1), &[1; 1000]);
    // Almost none.
    peer.drill.usleep(30_000);
    peer.acknowledge((1, 1001), 1);
    assert_eq!(peer.drill.write(peer.fd, &[2; 1000]), Ok(1000));
    peer.drill.usleep(100_000);
    peer.acknowledge((1, 1001), 16);
    expect_ms(peer.info_double(RWND_LIMITED), 300);
    expect_ms(peer.info_double(BUSY_TIME), 330);
    peer.expect(ACK | Flags::PSH, (1001, 1), &[2; 1000]);
    peer.drill.usleep(20_000);
    peer.acknowledge((1, 2001), 16);
    expect_ms(peer.info_double(BUSY_TIME), 350);
    assert_eq!(peer.info_double(SNDBUF_LIMITED), 0);
}

/// tcp-info-sndbuf-limited.pkt, with a buffer that counts payload and takes no more than it has room for.
#[test]
fn the_time_in_which_the_buffer_is_too_small_is_sndbuf_limited() {
    let peer = Peer::connected("");
    let room = 10_000_i32;
    peer.drill.set_option(peer.fd, (libc::SOL_SOCKET, libc::SO_SNDBUF), &room.to_ne_bytes()).unwrap();
    let full = peer.drill.write(peer.fd, &[1; 150_000]).unwrap();
    assert!(full < 14_600, "the congestion window has room for more than {full}");
    let mut sent = 0;
    while sent < full {
        sent += peer.receive().text.len();
    }
    peer.drill.usleep(20_000);
    expect_ms(peer.info_double(SNDBUF_LIMITED), 20);
    expect_ms(peer.info_double(BUSY_TIME), 20);
    peer.acknowledge((1, 1 + full as u32), 1000);
    peer.drill.usleep(20_000);
    expect_ms(peer.info_double(SNDBUF_LIMITED), 20);
    expect_ms(peer.info_double(BUSY_TIME), 20);
    assert_eq!(peer.info_double(RWND_LIMITED), 0);
}

#[test]
fn what_happens_now_and_then_stands_where_linux_has_it() {
    let peer = Peer::accepted("timestamps=off");
    let app_limited = |peer: &Peer| peer.info_word(4).to_ne_bytes()[3];
    assert_eq!((peer.info_double(DELIVERY_RATE), app_limited(&peer)), (0, 1));
    assert_eq!(peer.info_word(RCV_RTT), 0);
    // Ahead of a gap.
    peer.inject(ACK, (1001, 1), &[7; 100]);
    peer.receive();
    assert_eq!((peer.info_word(RCV_OOOPACK), peer.info_word(DATA_SEGS_IN)), (1, 1));
    peer.inject(ACK, (1, 1), &[7; 1000]);
    peer.receive();
    assert_ne!(peer.info_word(RCV_RTT), 0);
    assert!(peer.info_word(RCV_SPACE) > 100_000);
    // Ten segments fill the congestion window, and are measured; the others have room.
    assert_eq!(peer.drill.write(peer.fd, &[7; 40_000]), Ok(40_000));
    let mut sent = 0;
    while sent < 14_600 {
        sent += peer.receive().text.len();
    }
    peer.drill.usleep(50_000);
    peer.acknowledge((1101, 14_601), 1000);
    while sent < 40_000 {
        sent += peer.receive().text.len();
    }
    peer.drill.usleep(50_000);
    // The third segment of these comes before the others.
    let sacked = |from: u32, to: u32| {
        let mut options = Options::default();
        options.sack.push(peer.iss.wrapping_add(from), peer.iss.wrapping_add(to));
        peer.drill.inject(&segment(ACK, (1101, peer.iss.wrapping_add(14_601)), &options, b"")).unwrap();
    };
    sacked(14_601 + 2 * 1460, 14_601 + 3 * 1460);
    assert_eq!(peer.info_word(REORD_SEEN), 0);
    sacked(14_601 + 1460, 14_601 + 3 * 1460);
    assert_eq!(peer.info_word(REORD_SEEN), 1);
    // It came twice.
    assert_eq!(peer.info_word(DSACK_DUPS), 0);
    sacked(14_601 - 1460, 14_601);
    assert_eq!(peer.info_word(DSACK_DUPS), 1);
    peer.acknowledge((1101, 40_001), 1000);
    let rate = peer.info_double(DELIVERY_RATE);
    // 14,600 bytes in 50 ms.
    assert!((285_000..=292_000).contains(&rate), "{rate}");
    assert_eq!(app_limited(&peer), 0);
    let min_rtt_us = peer.info_word(MIN_RTT);
    assert!(min_rtt_us < 1_000, "of the handshake: {min_rtt_us} us");
}

#[test]
fn timeouts_and_their_repair_stand_where_linux_has_them() {
    let peer = Peer::accepted("");
    let counts = |peer: &Peer| peer.info_word(RTO_COUNTS);
    peer.drill.write(peer.fd, b"text").unwrap();
    peer.receive();
    // The probe of the tail, and two timeouts.
    let mut left_us = 0;
    while peer.info_word(TOTAL_RETRANS) < 3 {
        left_us = peer.receive().at_us;
    }
    let both = u32::from_ne_bytes([2, 0, 1, 0]);
    assert_eq!(counts(&peer), both, "two timeouts, one repair");
    let repairing_ms = peer.info_word(RTO_TIME);
    assert!((390..=450).contains(&repairing_ms), "the second timeout is twice as long: {repairing_ms} ms");
    peer.drill.usleep(100_000);
    peer.acknowledge((1, 5), 100);
    let took_ms = peer.info_word(RTO_TIME) - repairing_ms;
    assert!((99..=103).contains(&took_ms), "{took_ms} ms, {left_us}");
    peer.drill.usleep(100_000);
    assert_eq!((peer.info_word(RTO_TIME) - repairing_ms, counts(&peer)), (took_ms, both));
}
