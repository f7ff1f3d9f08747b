//! What the peer hands on without waiting for more: the end of a write (RFC 9293 3.9.1.2), and runs that leave in a row.

use core::time::Duration;
use std::vec::Vec;

use super::host::{Host, Wire};
use super::script::*;
use crate::tcp::{Config, Pacing};

/// Which of the segments sent are pushed, counted from 1.
fn pushed(sent: &[Wire]) -> Vec<usize> {
    (1..).zip(sent).filter(|(_, wire)| wire.has(PSH)).map(|(n, _)| n).collect()
}

/// A window of so many segments, all of it in congestion avoidance, over a path with this round trip; the peer's window is larger.
fn over(round_trip: Duration, segs: u32) -> Host {
    let config = Config { window_scale: Some(7), nodelay: true, pacing: Pacing::Off, ..plain() };
    let mut host = Host::connect(&config, ISS.0);
    host.transmit();
    host.now += round_trip;
    host.exchange(&peer_syn_ack().scale(7));
    host.exchange(&peer(ACK, 0, 0).window(0x7000));
    (host.tcb.window.cwnd, host.tcb.window.ssthresh) = (segs * 1000, segs * 1000);
    host
}

#[test]
fn a_run_is_what_leaves_in_a_millisecond_at_two_windows_a_round_trip() {
    // 40,000 bytes in 10 ms: 7,812 in half of 1,953 us. The window holds the rest up.
    let mut host = over(Duration::from_millis(10), 40);
    let sent = host.write(&[1; 60_000]);
    assert_eq!((sent.len(), pushed(&sent)), (40, std::vec![7, 14, 21, 28, 35, 40]));
    // One that leaves alone is no run.
    host.now += Duration::from_millis(1);
    let sent = host.exchange(&peer(ACK, 0, 1000).window(0x7000));
    assert_eq!((sent.len(), pushed(&sent)), (1, std::vec![]));
    host.now += Duration::from_millis(1);
    let sent = host.exchange(&peer(ACK, 0, 3000).window(0x7000));
    assert_eq!((sent.len(), pushed(&sent)), (2, std::vec![2]));
}

/// The round trip is too short for a millisecond's worth to count.
#[test]
fn a_run_ends_where_the_congestion_window_does() {
    let sent = over(Duration::ZERO, 3).write(&[1; 10_000]);
    assert_eq!((sent.len(), pushed(&sent)), (3, std::vec![3]));
}

#[test]
fn the_end_of_a_record_is_the_end_of_a_segment() {
    let mut host = established(&Config { nodelay: true, ..plain() });
    for (is_ended, lens) in [(false, std::vec![200]), (true, std::vec![100, 100])] {
        host.send(&[1; 100]);
        if is_ended {
            host.call(|tcb, cx| tcb.end_record(cx.cold));
        }
        host.send(&[2; 100]);
        let sent: Vec<usize> = host.transmit().iter().map(|wire| wire.payload.len()).collect();
        assert_eq!(sent, lens);
    }
}

#[test]
fn a_run_is_64_kb_long_at_most() {
    let mut host = over(Duration::ZERO, 200);
    let sent = host.write(&[1; 250_000]);
    assert_eq!((sent.len(), pushed(&sent)), (200, std::vec![65, 130, 195, 200]));
}

#[test]
fn a_write_that_joins_what_waits_moves_the_push_to_its_end() {
    // RFC 9293 3.9.1.2 (MUST-61)
    let mut host = established(&plain());
    host.send(&[1; 400]);
    host.send(&[2; 1600]);
    let sent = host.transmit();
    assert_eq!((sent.len(), pushed(&sent)), (2, std::vec![2]));
    // One that finds no room leaves it where it was.
    host.send(&[3; 1000]);
    host.send(&[4; 1000]);
    let sent = host.transmit();
    assert_eq!((sent.len(), pushed(&sent)), (2, std::vec![1, 2]));
}
