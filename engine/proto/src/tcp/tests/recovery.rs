//! Congestion control and loss recovery (RFC 5681, RFC 6582, RFC 3042, RFC 5827, RFC 6928).

use std::vec::Vec;

use super::host::{Host, Wire};
use super::script::*;
use crate::tcp::{Acked, Config, CongestionControl, CongestionPhase, NewReno, TransmitKind, Window};
use crate::{Instant, SeqNum};

/// An established host with this many full segments in flight and more queued.
fn in_flight(segs: u32, queued: u32) -> Host {
    let mut host = established_by(&Config { window_scale: Some(7), ..plain() }, &peer_syn_ack().scale(7));
    host.tcb.window.cwnd = segs * 1000;
    host.tcb.window.ssthresh = segs * 1000;
    host.exchange(&peer(ACK, 0, 0).window(0x7000));
    let sent = host.write(&std::vec![1; (segs + queued) as usize * 1000]);
    assert_eq!(sent.len(), segs as usize);
    host
}

fn ack(host: &mut Host, segs: u32) -> Vec<Wire> {
    host.exchange(&peer(ACK, 0, segs * 1000).window(0x7000))
}

/// Numbers of the segments sent, and whether each is a retransmission.
fn numbers(sent: &[Wire]) -> Vec<(u32, bool)> {
    let number = |seq: SeqNum| seq.distance(ISS + 1) / 1000;
    sent.iter().map(|wire| (number(wire.seq()), wire.kind == TransmitKind::Retransmission)).collect()
}

fn phase(host: &mut Host) -> CongestionPhase {
    host.call(|tcb, cx| tcb.info(cx)).congestion
}

/// A whole window of `bytes` is acknowledged at once.
fn acked(bytes: u32, after_timeout: bool) -> Acked {
    Acked {
        bytes,
        flight_bytes: bytes,
        mss: 1000,
        rtt_us: None,
        srtt_us: 0,
        now: Instant::ZERO,
        una: SeqNum(bytes),
        nxt: SeqNum(bytes),
        after_timeout,
        is_echoed: false,
        is_limited: true,
    }
}

#[test]
fn the_initial_window_is_ten_segments() {
    // RFC 6928 2
    for (mss, cwnd) in [(1000, 10_000), (1460, 14_600), (1448, 14_480), (9000, 18_000), (100, 1000)] {
        assert_eq!(Window::initial(mss, 10).cwnd, cwnd);
    }
    assert_eq!(Window::initial(1000, 0).cwnd, 1000);
    let mut host = established(&plain());
    assert_eq!(host.write(&[1; 20_000]).len(), 10);
}

#[test]
fn slow_start_doubles_per_round_trip_and_avoidance_adds_a_segment() {
    let mut host = established_by(&Config { window_scale: Some(7), ..plain() }, &peer_syn_ack().scale(7));
    host.exchange(&peer(ACK, 0, 0).window(0x7000));
    host.write(&[1; 200_000]);
    for segs in 1..=10 {
        ack(&mut host, segs);
    }
    assert_eq!(host.tcb.window.cwnd, 20_000);
    host.tcb.window.ssthresh = 20_000;
    for segs in 11..=30 {
        ack(&mut host, segs);
    }
    assert_eq!(host.tcb.window.cwnd, 21_000);
}

#[test]
fn acknowledging_byte_by_byte_gains_nothing() {
    // Savage 1999: ACK division
    let mut host = established(&plain());
    host.write(&[1; 20_000]);
    for byte in 1..=1000 {
        host.exchange(&peer(ACK, 0, byte));
    }
    assert_eq!(host.tcb.window.cwnd, 11_000);
}

#[test]
fn a_window_that_is_not_used_does_not_grow() {
    // RFC 7661
    let mut host = established(&Config { nodelay: true, ..plain() });
    for n in 0..100 {
        host.write(b"x");
        host.exchange(&peer(ACK, 0, n + 1));
    }
    assert_eq!(host.tcb.window.cwnd, 10_000);
    let mut reno = NewReno::default();
    let mut window = Window { cwnd: 10_000, ssthresh: 5_000 };
    let acked = Acked { is_limited: false, ..acked(5_000, false) };
    for _ in 0..10 {
        reno.on_ack(&mut window, &acked);
    }
    assert_eq!(window.cwnd, 10_000);
}

#[test]
fn one_acknowledgement_opens_slow_start_by_what_it_covers_and_after_a_timeout_by_one_segment() {
    for (after_timeout, cwnd) in [(false, 40_000), (true, 21_000)] {
        let mut window = Window { cwnd: 20_000, ssthresh: u32::MAX };
        let acked = acked(20_000, after_timeout);
        NewReno::default().on_ack(&mut window, &acked);
        assert_eq!(window.cwnd, cwnd);
    }
}

#[test]
fn slow_start_ends_at_its_threshold() {
    // RFC 5681 3.1: whatever one acknowledgement covers.
    let mut window = Window { cwnd: 40_000, ssthresh: 50_000 };
    NewReno::default().on_ack(&mut window, &acked(40_000, false));
    assert_eq!(window.cwnd, 50_000);
}

#[test]
fn the_third_duplicate_retransmits_and_halves_the_window() {
    // RFC 5681 3.2
    let mut host = in_flight(8, 0);
    assert_eq!(ack(&mut host, 0), []);
    assert_eq!(ack(&mut host, 0), []);
    assert_eq!(phase(&mut host), CongestionPhase::Disorder);
    assert_eq!(numbers(&ack(&mut host, 0)), [(0, true)]);
    assert_eq!(phase(&mut host), CongestionPhase::Recovery);
    assert_eq!((host.tcb.window.cwnd, host.tcb.window.ssthresh), (4000, 4000));
    assert_eq!(ack(&mut host, 8), []);
    assert_eq!(phase(&mut host), CongestionPhase::Open);
    assert_eq!(host.tcb.window.cwnd, 2000, "RFC 6582: min(ssthresh, max(flight, SMSS) + SMSS)");
    assert_eq!(host.totals.incidents().retransmits, 1);
}

#[test]
fn limited_transmit_sends_new_data_on_the_first_two_duplicates() {
    // RFC 3042
    let mut host = in_flight(4, 10);
    assert_eq!(numbers(&ack(&mut host, 0)), [(4, false)]);
    assert_eq!(numbers(&ack(&mut host, 0)), [(5, false)]);
    assert_eq!(numbers(&ack(&mut host, 0)), [(0, true)]);
}

#[test]
fn further_duplicates_let_new_data_go() {
    let mut host = in_flight(8, 10);
    let mut sent = Vec::new();
    for _ in 0..7 {
        sent.extend(ack(&mut host, 0));
    }
    // Two by limited transmit; ssthresh is half of ten; then inflation passes it with the sixth duplicate.
    assert_eq!(numbers(&sent), [(8, false), (9, false), (0, true), (10, false), (11, false)]);
}

#[test]
fn a_partial_acknowledgement_retransmits_the_next_hole_at_once() {
    // RFC 6582 3.2 (3)
    let mut host = in_flight(10, 0);
    for _ in 0..3 {
        ack(&mut host, 0);
    }
    assert_eq!(numbers(&ack(&mut host, 3)), [(3, true)]);
    assert_eq!(numbers(&ack(&mut host, 6)), [(6, true)]);
    assert_eq!(phase(&mut host), CongestionPhase::Recovery);
    assert_eq!(ack(&mut host, 10), []);
    assert_eq!(phase(&mut host), CongestionPhase::Open);
    assert_eq!(
        (host.totals.incidents().retransmits, host.tcb.window.ssthresh),
        (3, 5000),
        "one reduction for the whole episode"
    );
}

#[test]
fn with_few_segments_out_fewer_duplicates_suffice() {
    // RFC 5827 3.1
    for (segs, duplicates) in [(2, 1), (3, 2), (4, 3)] {
        let mut host = in_flight(segs, 0);
        for _ in 1..duplicates {
            assert_eq!(ack(&mut host, 0), [], "{segs}");
        }
        assert_eq!(numbers(&ack(&mut host, 0)), [(0, true)], "{segs}");
    }
    // One segment alone never: nothing can overtake it.
    let mut host = in_flight(1, 0);
    for _ in 0..10 {
        assert_eq!(ack(&mut host, 0), []);
    }
}

#[test]
fn a_lost_retransmission_is_sent_again_without_a_timeout() {
    let mut host = in_flight(6, 20);
    let mut sent = Vec::new();
    let mut again = None;
    for n in 0..40 {
        sent = ack(&mut host, 0);
        if n > 3 && numbers(&sent).contains(&(0, true)) {
            again = Some(n);
            break;
        }
    }
    // Five originals and two by limited transmit were ahead of it, and three more for certainty.
    let again = again.expect("noticed");
    assert!((7..=12).contains(&again), "{again}: {sent:?}");
    assert_eq!(phase(&mut host), CongestionPhase::Recovery);
    assert_eq!(host.tcb.window.ssthresh, 4000, "not reduced a second time");
}

#[test]
fn forged_duplicates_release_no_more_than_what_is_in_flight() {
    // Savage 1999: DupACK spoofing
    let mut host = in_flight(10, 200);
    let mut new_segs = 0;
    for _ in 0..1000 {
        new_segs += ack(&mut host, 0).iter().filter(|wire| wire.kind == TransmitKind::Data).count();
    }
    // Nine of the first ten segments can have caused one each; the window is half of twelve, two having left by limited transmit.
    assert_eq!((new_segs, host.tcb.flight()), (5, 15_000));
}

#[test]
fn what_is_no_duplicate_is_not_counted() {
    // RFC 5681 2
    let mut host = in_flight(8, 0);
    for n in 0..10 {
        host.exchange(&peer(ACK, n, 0).window(0x7000).text(b"x"));
    }
    for window in [0x6fff, 0x7000, 0x7001, 0x7000, 0x6000] {
        host.exchange(&peer(ACK, 10, 0).window(window));
    }
    assert_eq!(phase(&mut host), CongestionPhase::Open);
    let mut host = established(&plain());
    for _ in 0..10 {
        host.exchange(&peer(ACK, 0, 0));
    }
    assert_eq!(phase(&mut host), CongestionPhase::Open);
}

#[test]
fn a_timeout_starts_over_with_one_segment_and_repairs_in_slow_start() {
    // RFC 5681 3.1
    let mut host = in_flight(8, 4);
    assert_eq!(numbers(&host.run_timer()), [(0, true)]);
    assert_eq!(phase(&mut host), CongestionPhase::Loss);
    assert_eq!((host.tcb.window.cwnd, host.tcb.window.ssthresh), (1000, 4000));
    // A second timeout of the same data does not lower ssthresh.
    assert_eq!(numbers(&host.run_timer()), [(0, true)]);
    assert_eq!(host.tcb.window.ssthresh, 4000);
    assert_eq!(numbers(&ack(&mut host, 1)), [(1, true), (2, true)]);
    assert_eq!(numbers(&ack(&mut host, 3)), [(3, true), (4, true), (5, true)]);
    assert_eq!(numbers(&ack(&mut host, 8)), [(8, false), (9, false), (10, false), (11, false)]);
    assert_eq!(phase(&mut host), CongestionPhase::Open);
}

#[test]
fn a_needless_go_back_causes_no_false_fast_retransmit() {
    // RFC 6582 4: the whole window had arrived, only the ACKs were lost.
    let mut host = in_flight(8, 0);
    assert_eq!(numbers(&host.run_timer()), [(0, true)]);
    // An ACK of half, then its two needless retransmissions come back as duplicates.
    let sent = ack(&mut host, 4);
    assert_eq!(numbers(&sent), [(4, true), (5, true)]);
    ack(&mut host, 8);
    assert!(!host.write(&[1; 8000]).is_empty());
    for _ in 0..2 {
        assert!(ack(&mut host, 8).iter().all(|wire| wire.kind == TransmitKind::Data));
    }
    assert_ne!(phase(&mut host), CongestionPhase::Recovery);
}

#[test]
fn a_lost_retransmission_after_a_timeout_is_found_by_duplicates() {
    let mut host = in_flight(8, 20);
    // The second one is not tested for being spurious.
    host.run_timer();
    host.run_timer();
    assert_eq!(numbers(&ack(&mut host, 2)), [(2, true), (3, true)]);
    // Segment 2 is lost again, 3 and what follows arrives.
    let mut resent = false;
    for _ in 0..12 {
        resent |= numbers(&ack(&mut host, 2)).contains(&(2, true));
    }
    assert!(resent);
}

#[test]
fn counters_of_the_queue_come_back_to_zero() {
    let mut host = in_flight(9, 0);
    for _ in 0..5 {
        ack(&mut host, 0);
    }
    ack(&mut host, 2);
    host.run_timer();
    ack(&mut host, 4);
    host.run_timer();
    ack(&mut host, 9);
    assert_eq!((host.cold.in_use(), host.tcb.flight()), (0, 0));
    // The slot is as new.
    host.tcb.window.cwnd = 10_000;
    assert_eq!(host.write(&[1; 3000]).len(), 3);
    assert_eq!(phase(&mut host), CongestionPhase::Open);
}

#[test]
fn forged_duplicates_bring_the_same_segment_again_a_few_times_at_most() {
    // Each segment that left causes one; what is beyond that proves nothing.
    let mut host = in_flight(10, 0);
    for _ in 0..1000 {
        ack(&mut host, 0);
    }
    assert!(
        (1..=3).contains(&host.totals.incidents().retransmits),
        "{}",
        host.totals.incidents().retransmits
    );
}

#[test]
fn half_of_what_is_in_flight_now_remains_not_of_what_was() {
    // RFC 5681 (4)
    let mut host = in_flight(10, 0);
    ack(&mut host, 5);
    host.now += core::time::Duration::from_millis(1);
    for _ in 0..3 {
        ack(&mut host, 5);
    }
    assert_eq!((phase(&mut host), host.tcb.window.ssthresh), (CongestionPhase::Recovery, 2500));
}

#[test]
fn duplicates_that_needless_retransmissions_cause_begin_no_recovery() {
    // RFC 6582 4.1: four segments went again, two acknowledgements tell of that many; two more may only be duplicates.
    let mut host = in_flight(8, 20);
    host.run_timer();
    host.run_timer();
    assert_eq!(numbers(&ack(&mut host, 4)), [(4, true), (5, true)]);
    assert!(ack(&mut host, 8).len() >= 3);
    for _ in 0..4 {
        assert!(ack(&mut host, 8).iter().all(|wire| wire.kind == TransmitKind::Data));
        assert_ne!(phase(&mut host), CongestionPhase::Recovery);
    }
}
