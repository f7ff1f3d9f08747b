//! What an acknowledgement proves and what it does not: probes of the tail, timeouts under test, reports of duplicates, and what is known
//! of the path afterwards (RFC 8985, RFC 5682, RFC 3708).

use core::time::Duration;
use std::vec::Vec;

use super::host::{Host, Wire};
use super::rack::{ROUND_TRIP, ack, at, in_flight, number, phase, sacking};
use super::script::*;
use crate::tcp::tcb::Timer;
use crate::tcp::{Config, CongestionPhase, TransmitKind};

fn is_new(wire: &Wire) -> bool {
    wire.kind == TransmitKind::Data
}

fn is_again(wire: &Wire) -> bool {
    wire.kind == TransmitKind::Retransmission
}

/// Eight segments are out when the timeout fires, and six wait.
fn timed_out(config: &Config) -> Host {
    let mut host = in_flight(config, 8, 6);
    while phase(&mut host) != CongestionPhase::Loss {
        host.run_timer();
    }
    host
}

/// RFC 5682 2.1 (3a), 3.1: a duplicate in answer to the new segments says that the loss was real.
#[test]
fn a_duplicate_in_answer_to_new_data_ends_the_test_of_a_timeout() {
    for config in [plain(), sacking()] {
        let mut host = timed_out(&config);
        let sent = ack(&mut host, 1);
        assert!(sent.len() == 2 && sent.iter().all(is_new), "{sent:?}");
        let repeated = peer(ACK, 0, 1000);
        let sent = host.exchange(&if config.sack { repeated.sack(at(8), at(9)) } else { repeated });
        assert!(!sent.is_empty() && sent.iter().all(is_again), "{sent:?}");
        assert_eq!(phase(&mut host), CongestionPhase::Loss);
    }
}

/// Before new data has left, a duplicate answers what was sent before the timeout: with SACK it is told apart and means nothing yet.
#[test]
fn a_duplicate_before_new_data_ends_the_test_only_without_sack() {
    let mut host = timed_out(&sacking());
    host.exchange(&peer(ACK, 0, 0).sack(at(5), at(6)));
    let sent = ack(&mut host, 1);
    assert!(!sent.is_empty() && sent.iter().all(is_new), "{sent:?}");
    let mut host = timed_out(&plain());
    ack(&mut host, 0);
    let sent = ack(&mut host, 1);
    assert!(!sent.is_empty() && sent.iter().all(is_again), "{sent:?}");
}

/// RFC 8985 7.4.2: the last segment went again as a probe, and more has left since. By how much the threshold fell.
fn after_a_probe(then: &[Wire]) -> u32 {
    let mut host = in_flight(&sacking(), 4, 0);
    let probe = one(host.run_timer());
    assert_eq!((number(&probe), probe.kind), (3, TransmitKind::Retransmission));
    host.now += ROUND_TRIP;
    host.tcb.window.cwnd = 8_000;
    assert_eq!(host.write(&[1; 2000]).len(), 2);
    ack(&mut host, 4);
    assert_eq!(host.tcb.window.ssthresh, u32::MAX, "which of the two copies has arrived?");
    for wire in then {
        host.exchange(wire);
    }
    host.tcb.window.ssthresh
}

#[test]
fn one_more_acknowledgement_tells_whether_a_probe_repaired_a_loss() {
    let of = |segs: u32| peer(ACK, 0, segs * 1000);
    // Neither copy is told of: one was lost.
    assert!(after_a_probe(&[of(5)]) < 8_000);
    // The same acknowledgement again answers the second copy.
    assert_eq!(after_a_probe(&[of(4), of(5)]), u32::MAX);
    // Not if it tells of something else, nor one from before.
    assert!(after_a_probe(&[of(4).sack(at(5), at(6)), of(6)]) < 8_000);
    assert!(after_a_probe(&[of(3), of(5)]) < 8_000);
}

/// RFC 3708: each retransmission must have been needless, not just one.
#[test]
fn a_recovery_is_taken_back_when_the_last_of_its_retransmissions_was_needless() {
    let mut host = in_flight(&sacking(), 8, 0);
    let mut resent = host.exchange(&peer(ACK, 0, 0).sack(at(2), at(5)));
    resent.extend(host.exchange(&peer(ACK, 0, 0).sack(at(2), at(6))));
    assert_eq!(resent.iter().map(number).collect::<Vec<_>>(), [0, 1]);
    let _ = host.deliver(&peer(ACK, 0, 1000).sack(at(0), at(1)).sack(at(2), at(6)));
    assert_eq!(phase(&mut host), CongestionPhase::Recovery, "the other may have been needed");
    assert!(host.tcb.window.ssthresh < 8_000);
    let _ = host.deliver(&peer(ACK, 0, 6000).sack(at(1), at(2)));
    assert_eq!((phase(&mut host), host.tcb.window.ssthresh), (CongestionPhase::Open, u32::MAX));
}

/// RFC 3708: on a path that keeps the order, what was in flight is acknowledged before the copy that was needless is reported.
#[test]
fn a_recovery_is_taken_back_by_a_report_that_comes_when_it_is_over() {
    let reduced = || {
        let mut host = in_flight(&sacking(), 8, 30);
        let before = host.tcb.window;
        let sent = host.exchange(&peer(ACK, 0, 0).sack(at(1), at(4)));
        assert_eq!(sent.iter().filter(|wire| is_again(wire)).map(number).collect::<Vec<_>>(), [0]);
        host.now += ROUND_TRIP / 10;
        ack(&mut host, 8);
        assert_eq!(phase(&mut host), CongestionPhase::Open);
        assert!(host.tcb.window.cwnd < before.cwnd);
        host
    };
    let mut host = reduced();
    let quarters = host.tcb.reordering.quarters();
    let twice = peer(ACK, 0, 8000).sack(at(0), at(1));
    let sent = host.exchange(&twice);
    assert!(host.tcb.reordering.quarters() > quarters, "what was late is waited for the next time");
    assert_eq!((host.tcb.window.cwnd, host.tcb.window.ssthresh), (8_000, u32::MAX));
    assert!(sent.iter().all(is_new) && !sent.is_empty(), "{sent:?}");
    host.exchange(&twice);
    assert_eq!(host.tcb.window.cwnd, 8_000, "once");
    // Nor is it for what was reported before, or for a report that comes when nothing is expected any more.
    let mut host = reduced();
    host.exchange(&peer(ACK, 0, 8000).sack(ISS, at(0)));
    assert!(host.tcb.window.ssthresh < 8_000);
    let until = host.tcb.snd.nxt.distance(ISS + 1);
    host.exchange(&peer(ACK, 0, until));
    host.exchange(&peer(ACK, 0, until + 1));
    host.exchange(&peer(ACK, 0, until + 1).sack(at(0), at(1)));
    assert!(host.tcb.window.ssthresh < 8_000);
}

/// A report that a tail probe arrived twice is none of the recovery before it: the loss that it repaired was one.
#[test]
fn a_report_about_a_probe_takes_no_recovery_back() {
    let mut host = in_flight(&sacking(), 8, 3);
    host.exchange(&peer(ACK, 0, 0).sack(at(1), at(4)));
    let new = host.exchange(&peer(ACK, 0, 0).sack(at(1), at(8)));
    assert_eq!(new.iter().map(number).collect::<Vec<_>>(), [8, 9, 10]);
    host.now += ROUND_TRIP;
    ack(&mut host, 8);
    assert_eq!(phase(&mut host), CongestionPhase::Open);
    let reduced = host.tcb.window;
    let probe = host.run_timer();
    assert_eq!(probe.iter().map(|wire| (number(wire), is_again(wire))).collect::<Vec<_>>(), [(10, true)]);
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 11_000).sack(at(10), at(11)));
    assert_eq!(host.tcb.window.ssthresh, reduced.ssthresh);
    assert!(host.tcb.window.cwnd < 8_000);
}

#[test]
fn reordering_is_remembered_when_everything_has_arrived() {
    let mut host = in_flight(&sacking(), 20, 0);
    host.exchange(&peer(ACK, 0, 0).sack(at(1), at(3)));
    ack(&mut host, 3);
    ack(&mut host, 20);
    assert_eq!(host.cold.in_use(), 0);
    host.tcb.window.cwnd = 20_000;
    assert_eq!(host.write(&[1; 10_000]).len(), 10);
    host.now += ROUND_TRIP;
    assert_eq!(host.exchange(&peer(ACK, 0, 20_000).sack(at(21), at(26))), [], "five above the hole");
    assert_eq!(number(&host.run_timer()[0]), 20);
}

/// RFC 8985 6.2, step 5: a retransmission is given the round trip and the reordering window from when it left.
#[test]
fn a_retransmission_is_waited_for_like_any_other_segment() {
    let mut host = in_flight(&sacking(), 10, 20);
    host.call(|tcb, cx| cx.cold.get_mut(tcb.cold).unwrap().send.recall_path(true, 0));
    host.exchange(&peer(ACK, 0, 0).sack(at(1), at(5)));
    assert_eq!(number(&host.run_timer()[0]), 0);
    let resent_at = host.now;
    host.now += Duration::from_millis(1);
    let new = host.exchange(&peer(ACK, 0, 0).sack(at(1), at(10)));
    assert!(!new.is_empty() && new.iter().all(is_new), "what arrives lets new data go: {new:?}");
    let newest = number(new.last().expect("there is one"));
    host.now += ROUND_TRIP;
    let sent = host.exchange(&peer(ACK, 0, 0).sack(at(1), at(newest + 1)));
    assert!(sent.iter().all(is_new), "{sent:?}");
    assert_eq!(host.tcb.timer, Timer::Reorder);
    let waits_ms = host.tcb.next_timer().unwrap().nanos_since(resent_at) / 1_000_000;
    assert!((62..=63).contains(&waits_ms), "50 ms and a quarter of that: {waits_ms}");
    assert_eq!(number(&host.run_timer()[0]), 0);
}

/// RFC 8985 7.2: two round trips, but 10 ms on a short path; and as long as a receiver may wait with a lone segment.
#[test]
fn a_probe_comes_after_two_round_trips_and_what_the_peer_may_wait() {
    let waits = |round_trip: Duration, len: usize| {
        let mut host = Host::connect(&Config { rto_min: Duration::from_secs(1), ..sacking() }, ISS.0);
        host.transmit();
        host.now += round_trip;
        host.exchange(&peer_syn_ack().sack_permitted());
        let left = host.now;
        host.write(&std::vec![1; len]);
        assert_eq!(host.tcb.timer, Timer::TailProbe);
        host.tcb.next_timer().unwrap().saturating_since(left)
    };
    let ms = Duration::from_millis;
    assert_eq!(waits(ms(50), 1001), ms(100));
    assert_eq!(waits(ms(50), 1000), ms(300));
    assert_eq!((waits(ms(1), 2000), waits(ms(1), 10)), (ms(10), ms(210)));
    // After a timeout there is none until a round trip has been measured anew.
    let mut host = in_flight(&sacking(), 4, 4);
    while phase(&mut host) != CongestionPhase::Loss {
        host.run_timer();
    }
    assert_eq!((host.tcb.backoff, host.tcb.timer), (1, Timer::Retransmit));
    host.run_timer();
    assert_eq!((host.tcb.backoff, host.tcb.timer), (2, Timer::Retransmit));
}

/// RFC 9438 4.2, 4.3: below the last plateau the window does not grow like one that never met a loss; nor by HyStart (RFC 9406 4.3).
#[test]
fn the_plateau_is_remembered_when_everything_has_arrived() {
    let config = Config { congestion: crate::tcp::Algorithm::Cubic, ..sacking() };
    let w_max = |host: &mut Host| {
        host.call(|tcb, cx| cx.cold.get(tcb.cold).map(|cold| cold.congestion.memory().w_max()))
    };
    let mut host = in_flight(&config, 20, 0);
    assert_eq!(w_max(&mut host), Some(0));
    host.exchange(&peer(ACK, 0, 0).sack(at(1), at(4)));
    ack(&mut host, 20);
    assert_eq!((host.cold.in_use(), host.tcb.flight()), (0, 0));
    assert!(host.tcb.window.cwnd < 15_000, "{:?}", host.tcb.window);
    host.write(&[1; 1000]);
    assert_eq!(w_max(&mut host), Some(20_000));
    // As often as it falls idle.
    ack(&mut host, 21);
    assert_eq!(host.cold.in_use(), 0);
    host.write(&[1; 1000]);
    assert_eq!(w_max(&mut host), Some(20_000));
    // Another connection that gets the same slot knows nothing of it.
    ack(&mut host, 22);
    let mut other = in_flight(&config, 1, 0);
    assert_eq!(w_max(&mut other), Some(0));
}

/// RFC 9438 4.9.2: what CUBIC remembers comes back with the window.
#[test]
fn a_loss_that_was_none_leaves_the_algorithm_as_it_was() {
    let config = Config { congestion: crate::tcp::Algorithm::Cubic, ..sacking() };
    let memory = |host: &mut Host| {
        host.call(|tcb, cx| {
            std::format!("{:?}", cx.cold.get(tcb.cold).expect("data is out").congestion.memory())
        })
    };
    let mut host = in_flight(&config, 8, 8);
    // One that was real: there is something to remember.
    host.exchange(&peer(ACK, 0, 0).sack(at(1), at(4)));
    ack(&mut host, 8);
    ack(&mut host, 9);
    assert_eq!(phase(&mut host), CongestionPhase::Open);
    let (before, window) = (memory(&mut host), host.tcb.window);
    let next = host.tcb.snd.una.distance(ISS + 1) / 1000;
    host.now += ROUND_TRIP;
    let out = host.tcb.flight() / 1000;
    assert!(out >= 4, "{out}");
    host.exchange(&peer(ACK, 0, next * 1000).sack(at(next + 1), at(next + 4)));
    assert_ne!(memory(&mut host), before);
    let _ = host.deliver(&peer(ACK, 0, (next + 4) * 1000).sack(at(next), at(next + 1)));
    assert_eq!(host.tcb.window.ssthresh, window.ssthresh, "it had only been late");
    assert_eq!(memory(&mut host), before);
}

/// RFC 5682 3.1: what the acknowledgement that begins the test has out of order left before the timeout.
#[test]
fn blocks_beside_the_first_acknowledgement_do_not_end_the_test_of_a_timeout() {
    let mut host = timed_out(&sacking());
    let sent = host.exchange(&peer(ACK, 0, 1000).sack(at(5), at(6)));
    assert!(!sent.is_empty() && sent.iter().all(is_new), "{sent:?}");
}

/// RFC 5682 2.1 (3b) is for what was not sent again.
#[test]
fn the_rest_of_what_was_sent_again_proves_nothing() {
    let mut host = timed_out(&plain());
    assert!(host.exchange(&peer(ACK, 0, 500)).iter().all(is_new));
    let sent = host.exchange(&peer(ACK, 0, 1000));
    assert!(!sent.is_empty() && sent.iter().all(is_again), "{sent:?}");
    assert_eq!(phase(&mut host), CongestionPhase::Loss);
}
