//! Tail loss probes, taking back what was spurious, reports of duplicates (RFC 8985, RFC 3522, RFC 3708, RFC 2883).

use core::time::Duration;
use std::vec::Vec;

use super::host::{Host, Wire};
use super::script::*;
use crate::SeqNum;
use crate::tcp::tcb::Timer;
use crate::tcp::{Config, CongestionPhase, Pacing, TransmitKind};

pub(super) const ROUND_TRIP: Duration = Duration::from_millis(50);

/// An established host whose handshake took a round trip, with `segs` segments in flight and `queued` more waiting.
pub(super) fn in_flight(config: &Config, segs: u32, queued: u32) -> Host {
    let mut host = Host::connect(config, ISS.0);
    host.transmit();
    host.now += ROUND_TRIP;
    let answer = if config.timestamps { peer_syn_ack().stamp(7, stamp(&host) - 50) } else { peer_syn_ack() };
    host.exchange(&answer.sack_permitted());
    host.tcb.mss = 1000;
    host.tcb.window.cwnd = segs * 1000;
    assert_eq!(host.write(&std::vec![1; (segs + queued) as usize * 1000]).len(), segs as usize);
    host.now += ROUND_TRIP;
    host
}

pub(super) fn sacking() -> Config {
    Config { sack: true, ..plain() }
}

pub(super) fn stamping() -> Config {
    Config { sack: true, timestamps: true, ..plain() }
}

/// Our timestamp clock now.
pub(super) fn stamp(host: &Host) -> u32 {
    host.tcb.ts_now(host.now)
}

pub(super) fn number(wire: &Wire) -> u32 {
    wire.seq().distance(ISS + 1) / 1000
}

pub(super) fn ack(host: &mut Host, segs: u32) -> Vec<Wire> {
    host.exchange(&peer(ACK, 0, segs * 1000))
}

pub(super) fn phase(host: &mut Host) -> CongestionPhase {
    host.call(|tcb, cx| tcb.info(cx)).congestion
}

pub(super) fn at(seg: u32) -> SeqNum {
    ISS + 1 + seg * 1000
}

#[test]
fn a_lost_tail_is_probed_for_after_two_round_trips() {
    // RFC 8985 7.2, 7.3
    let mut host = in_flight(&sacking(), 4, 0);
    let sent_at = host.now.nanos_since(crate::Instant::ZERO) - 50_000_000;
    let probe = one(host.run_timer());
    assert_eq!((number(&probe), probe.kind), (3, TransmitKind::Retransmission));
    let waited_ms = (host.now.as_nanos() - sent_at) / 1_000_000;
    assert!((100..=101).contains(&waited_ms), "twice the smoothed round trip: {waited_ms} ms");
    // The probe arrived, the segments before it had not: RACK repairs them now, long before the RTO.
    host.now += ROUND_TRIP;
    let repaired = host.exchange(&peer(ACK, 0, 1000).sack(at(3), at(4)));
    let repaired: Vec<u32> = repaired.iter().map(number).collect();
    assert_eq!(repaired, [1, 2], "two arrived with the ACK that tells of it (RFC 9937 6)");
    assert_eq!(phase(&mut host), CongestionPhase::Recovery);
}

#[test]
fn where_the_rto_is_shorter_the_probe_goes_in_its_place() {
    // RFC 8985 7.2: two round trips of 50 ms and 200 ms for the lone segment's delayed acknowledgement, but the RTO is shorter.
    let mut host = in_flight(&sacking(), 1, 0);
    let sent_at = host.now.as_nanos() - 50_000_000;
    let rto = host.call(|tcb, cx| tcb.info(cx)).rto;
    assert!(rto < Duration::from_millis(300), "{rto:?}");
    let probe = one(host.run_timer());
    assert_eq!((number(&probe), probe.kind), (0, TransmitKind::Retransmission));
    assert_eq!(phase(&mut host), CongestionPhase::Open, "a probe says nothing of loss");
    let waited_ms = (host.now.as_nanos() - sent_at) / 1_000_000;
    assert!(waited_ms.abs_diff(rto.as_millis().try_into().unwrap()) <= 1, "{waited_ms} ms, {rto:?}");
    // And then the RTO, from the probe on.
    let probed_at = host.now;
    assert_eq!(number(&one(host.run_timer())), 0);
    assert_eq!(phase(&mut host), CongestionPhase::Loss);
    let waited_ms = host.now.nanos_since(probed_at) / 1_000_000;
    assert!(waited_ms.abs_diff(rto.as_millis().try_into().unwrap()) <= 1, "{waited_ms} ms, {rto:?}");
}

#[test]
fn a_probe_is_new_data_where_there_is_some() {
    let mut host = in_flight(&sacking(), 4, 2);
    let probe = one(host.run_timer());
    assert_eq!((number(&probe), probe.kind), (4, TransmitKind::Data));
    // One probe, then the RTO.
    let again = host.run_timer();
    assert_eq!(number(&again[0]), 0);
    assert_eq!(phase(&mut host), CongestionPhase::Loss);
}

#[test]
fn a_loss_that_the_probe_repaired_still_brings_the_window_down() {
    // RFC 8985 7.4.2
    let repaired_by = |report: Option<(u32, u32)>| {
        let mut host = in_flight(&sacking(), 4, 0);
        host.run_timer();
        host.now += ROUND_TRIP;
        ack(&mut host, 4);
        host.write(&[1; 1000]);
        let wire = peer(ACK, 0, 5000);
        host.exchange(&match report {
            Some((from, to)) => wire.sack(at(from), at(to)),
            None => wire,
        });
        host.tcb.window.ssthresh
    };
    assert_eq!(repaired_by(Some((3, 4))), u32::MAX, "it arrived twice: nothing was lost");
    // NewReno: half of the four that were in flight, not of the one that told.
    assert_eq!(repaired_by(None), 2000);
    let mut host = in_flight(&sacking(), 4, 0);
    host.run_timer();
    host.now += ROUND_TRIP;
    host.tcb.window.cwnd = 6000;
    host.write(&[1; 2000]);
    ack(&mut host, 5);
    assert!(host.tcb.window.ssthresh < 6000, "no report: the probe had repaired a loss");
}

/// The same where nothing is sent any more: an RTO later there will be no report, and nothing is kept for it.
#[test]
fn whether_a_probe_repaired_a_loss_is_known_an_rto_later() {
    let probed = || {
        let mut host = in_flight(&sacking(), 4, 0);
        host.run_timer();
        host.now += ROUND_TRIP;
        assert_eq!(ack(&mut host, 4), []);
        assert_eq!((host.tcb.flight(), host.cold.in_use()), (0, 1));
        host
    };
    let mut host = probed();
    let from = host.now;
    assert_eq!(host.run_timer(), []);
    assert_eq!(host.now.saturating_since(from), Duration::from_micros(host.tcb.rtt.rto_us().into()));
    assert_eq!((host.tcb.window.ssthresh, host.cold.in_use()), (2000, 0));
    assert_eq!(host.tcb.next_timer(), None);
    // Once only.
    host.write(&[1; 1000]);
    ack(&mut host, 5);
    assert_eq!((host.tcb.window.ssthresh, host.cold.in_use()), (2000, 0));
    // A report, or the same acknowledgement again, says that nothing was lost.
    for told in [peer(ACK, 0, 4000).sack(at(3), at(4)), peer(ACK, 0, 4000)] {
        let mut host = probed();
        host.exchange(&told);
        assert_eq!((host.tcb.window.ssthresh, host.cold.in_use()), (u32::MAX, 0));
        assert_eq!(host.tcb.next_timer(), None);
    }
    // What is sent meanwhile is watched as ever.
    let mut host = probed();
    host.write(&[1; 1000]);
    assert_eq!(host.tcb.timer, Timer::Retransmit);
    ack(&mut host, 5);
    assert_eq!((host.tcb.window.ssthresh, host.tcb.next_timer()), (2000, None));
}

#[test]
fn a_repaired_loss_is_no_reason_to_grow_after_a_pause() {
    // RFC 5681 4.1: the window has restarted since forty segments were in flight.
    let mut host = in_flight(&Config { pacing: Pacing::Off, ..sacking() }, 40, 0);
    host.run_timer();
    host.now += ROUND_TRIP;
    ack(&mut host, 40);
    host.now += Duration::from_secs(60);
    host.write(&[1; 1000]);
    let restarted = host.tcb.window.cwnd;
    assert_eq!(restarted, 10_000);
    ack(&mut host, 41);
    assert!(host.tcb.window.cwnd <= restarted, "{} after {restarted}", host.tcb.window.cwnd);
}

#[test]
fn a_timeout_that_came_too_early_is_taken_back() {
    // RFC 3522 3.2: the acknowledgement answers what left before the retransmission.
    let mut host = in_flight(&stamping(), 8, 0);
    let before = host.tcb.window;
    let sent_stamp = stamp(&host) - 50;
    while phase(&mut host) != CongestionPhase::Loss {
        host.run_timer();
    }
    assert_eq!(host.tcb.window.cwnd, 1000);
    host.now += ROUND_TRIP;
    let late = peer(ACK, 0, 4000).stamp(8, sent_stamp);
    assert_eq!(host.exchange(&late), [], "nothing else is sent again");
    assert_eq!(phase(&mut host), CongestionPhase::Open);
    assert!(host.tcb.window.cwnd >= before.cwnd && host.tcb.window.ssthresh == before.ssthresh);
    assert_eq!(host.tcb.backoff, 0);
}

/// The acknowledgements of the first copy were lost, so the report of the second one answers neither timeout nor delay (RFC 7323 4.1).
#[test]
fn an_echo_beside_a_report_of_a_duplicate_is_no_sample() {
    let mut host = in_flight(&stamping(), 1, 0);
    let (rto_us, first_stamp) = (host.tcb.rtt.rto_us(), stamp(&host) - 50);
    for _ in 0..6 {
        host.run_timer();
    }
    let report = peer(ACK, 0, 1000).stamp(8, first_stamp).sack(at(0), at(1));
    host.exchange(&report);
    assert_eq!(host.tcb.rtt.rto_us(), rto_us);
    assert_eq!(host.tcb.snd.una, host.tcb.snd.nxt);
}

/// RFC 5682: with and without SACK, the second acknowledgement of what was never sent again gives the window back.
#[test]
fn without_timestamps_a_spurious_timeout_is_found_out_by_new_data() {
    for config in [plain(), sacking()] {
        let mut host = in_flight(&config, 8, 6);
        let before = host.tcb.window;
        while phase(&mut host) != CongestionPhase::Loss {
            host.run_timer();
        }
        let is_new = |wire: &Wire| wire.kind == TransmitKind::Data;
        let sent = host.exchange(&peer(ACK, 0, 1000));
        assert!(!sent.is_empty() && sent.iter().all(is_new), "{sent:?}");
        let sent = host.exchange(&peer(ACK, 0, 2000));
        assert!(sent.iter().all(is_new), "{sent:?}");
        assert_eq!(phase(&mut host), CongestionPhase::Open);
        assert!(host.tcb.window.cwnd >= before.cwnd && host.tcb.window.ssthresh == before.ssthresh);
        assert_eq!(host.tcb.backoff, 0);
        // All that was late arrives, and the stream goes on.
        assert!(host.exchange(&peer(ACK, 0, 8000)).iter().all(is_new));
        assert_eq!(phase(&mut host), CongestionPhase::Open);
    }
}

/// RFC 5682 2.1 (1): a second timeout of the same data is no test, and new data that stays away does not keep the old from going.
#[test]
fn a_timeout_during_the_test_ends_it() {
    let mut host = in_flight(&plain(), 8, 6);
    while phase(&mut host) != CongestionPhase::Loss {
        host.run_timer();
    }
    assert_eq!(host.exchange(&peer(ACK, 0, 1000)).len(), 2);
    let again = host.run_timer();
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [1]);
    let sent = host.exchange(&peer(ACK, 0, 2000));
    assert!(
        !sent.is_empty() && sent.iter().all(|wire| wire.kind == TransmitKind::Retransmission),
        "{sent:?}"
    );
}

#[test]
fn a_timeout_that_was_needed_stays() {
    let mut host = in_flight(&stamping(), 8, 0);
    while phase(&mut host) != CongestionPhase::Loss {
        host.run_timer();
    }
    let resent_stamp = stamp(&host);
    host.now += ROUND_TRIP;
    let sent = host.exchange(&peer(ACK, 0, 1000).stamp(8, resent_stamp));
    assert!(!sent.is_empty() && sent.iter().all(|wire| wire.kind == TransmitKind::Retransmission));
    assert_eq!(phase(&mut host), CongestionPhase::Loss);
    assert!(host.tcb.window.cwnd < 4000);
}

#[test]
fn a_recovery_whose_every_retransmission_arrived_twice_is_taken_back() {
    // RFC 3708: without timestamps.
    let mut host = in_flight(&sacking(), 8, 0);
    let before = host.tcb.window;
    let resent = host.exchange(&peer(ACK, 0, 0).sack(at(1), at(4)));
    assert_eq!(resent.iter().map(number).collect::<Vec<_>>(), [0]);
    assert!(host.tcb.window.ssthresh < before.cwnd);
    // It was only late; then the copy came too.
    host.now += ROUND_TRIP / 10;
    ack(&mut host, 4);
    host.exchange(&peer(ACK, 0, 4000).sack(at(0), at(1)));
    assert_eq!(phase(&mut host), CongestionPhase::Open);
    assert!(host.tcb.window.cwnd >= before.cwnd && host.tcb.window.ssthresh == before.ssthresh);
}

#[test]
fn what_arrives_twice_is_reported_once() {
    // RFC 2883 4
    let blocks = |wire: &Wire| -> Vec<(u32, u32)> {
        let at = |seq: u32| SeqNum(seq).distance(IRS + 1);
        wire.options.sack.as_slice().iter().map(|&(left, right)| (at(left), at(right))).collect()
    };
    let mut host = established_by(&sacking(), &peer_syn_ack().sack_permitted());
    host.exchange(&peer(ACK, 0, 0).text(&[1; 1000]));
    let wholly_old = one(host.exchange(&peer(ACK, 0, 0).text(&[1; 1000])));
    assert_eq!(blocks(&wholly_old), [(0, 1000)]);
    assert_eq!(host.exchange(&peer(ACK, 500, 0).text(&[1; 1000])), [], "half of it is new");
    assert_eq!(blocks(&one(host.run_timer())), [(500, 1000)]);
    let early = one(host.exchange(&peer(ACK, 3000, 0).text(&[1; 1000])));
    assert_eq!(blocks(&early), [(3000, 4000)]);
    let early_again = one(host.exchange(&peer(ACK, 3000, 0).text(&[1; 1000])));
    assert_eq!(blocks(&early_again), [(3000, 4000), (3000, 4000)]);
    let other = one(host.exchange(&peer(ACK, 5000, 0).text(&[1; 1000])));
    assert_eq!(blocks(&other), [(5000, 6000), (3000, 4000)]);
}

#[test]
fn reordering_widens_the_window_that_is_waited() {
    // RFC 8985 6.2, step 4: once seen, three segments above a hole are no evidence any more.
    let mut host = in_flight(&sacking(), 20, 0);
    // 0 comes behind 1 and 2.
    assert_eq!(host.exchange(&peer(ACK, 0, 0).sack(at(1), at(3))), []);
    assert_eq!(ack(&mut host, 3), []);
    assert_eq!(host.exchange(&peer(ACK, 0, 3000).sack(at(4), at(9))), [], "five above the hole");
    let resent = host.run_timer();
    assert_eq!(resent.iter().map(number).collect::<Vec<_>>(), [3]);
}

#[test]
fn what_arrives_before_it_could_go_again_was_not_lost() {
    // The window has no room for a retransmission when the segments that were late arrive.
    let mut host = in_flight(&sacking(), 12, 0);
    let before = host.tcb.window;
    host.exchange(&peer(ACK, 0, 0).sack(at(8), at(11)));
    let resent = host.totals.incidents().retransmits;
    assert!(resent >= 1 && host.tcb.window.ssthresh < before.cwnd);
    // Without a single retransmission in the episode:
    let mut host = in_flight(&sacking(), 12, 0);
    host.completion = super::host::Completion::Later;
    let _ = host.deliver(&peer(ACK, 0, 0).sack(at(8), at(11)));
    assert_eq!((phase(&mut host), host.totals.incidents().retransmits), (CongestionPhase::Recovery, 0));
    let _ = host.deliver(&peer(ACK, 0, 11_000));
    assert_eq!(phase(&mut host), CongestionPhase::Open);
    assert!(host.tcb.window.cwnd >= before.cwnd && host.tcb.window.ssthresh == before.ssthresh);
    assert_eq!(host.transmit(), []);
}

#[test]
fn a_lost_acknowledgement_is_not_taken_for_reordering() {
    // RFC 8985 6.2, step 3: what one acknowledgement reports is looked at in the order of its numbers. Here the report of segment 4
    // was lost, and the next one has it beside the newer block.
    let mut host = in_flight(&sacking(), 8, 0);
    host.exchange(&peer(ACK, 0, 1000).sack(at(2), at(4)));
    // Nothing is sent again.
    let _ = host.deliver(&peer(ACK, 0, 1000).sack(at(6), at(7)).sack(at(2), at(5)));
    assert!(!host.cold.get(host.tcb.cold).expect("data is out").send.is_reordering_seen());
    // Segment 5 was late, and is not lost.
    host.exchange(&peer(ACK, 0, 1000).sack(at(2), at(7)));
    assert!(host.cold.get(host.tcb.cold).expect("data is out").send.is_reordering_seen());
}

#[test]
fn a_loss_that_the_last_episode_repaired_already_is_not_taken_for_a_delay() {
    let mut host = in_flight(&sacking(), 10, 20);
    // Segment 0 is lost; what is sent meanwhile loses segment 10, which goes again at once.
    let mut resent = Vec::new();
    for last in 5..=10 {
        resent.extend(host.exchange(&peer(ACK, 0, 0).sack(at(1), at(last))));
    }
    host.now += ROUND_TRIP;
    for last in 12..=14 {
        resent.extend(host.exchange(&peer(ACK, 0, 0).sack(at(11), at(last)).sack(at(1), at(10))));
    }
    resent.retain(|wire| wire.kind == TransmitKind::Retransmission);
    assert_eq!(resent.last().map(number), Some(10), "{resent:?}");
    // The first episode ends; the second begins with what was lost in it.
    let more = host.exchange(&peer(ACK, 0, 10_000).sack(at(11), at(14)));
    assert!(more.iter().all(|wire| wire.kind != TransmitKind::Retransmission), "{more:?}");
    assert_eq!(phase(&mut host), CongestionPhase::Recovery);
    host.tcb.window.ssthresh = 2_000;
    ack(&mut host, 14);
    assert_eq!(host.tcb.window.ssthresh, 2_000, "nothing was spurious: the window does not come back");
}

#[test]
fn a_snapshot_shows_what_recovery_knows() {
    let mut host = in_flight(&sacking(), 8, 2);
    let info = |host: &mut Host| {
        let info = host.call(|tcb, cx| tcb.info(cx));
        (info.unacked_bytes, info.pipe_bytes, info.lost_bytes, info.sacked_bytes, info.unsent_bytes)
    };
    assert_eq!(info(&mut host), (8_000, 8_000, 0, 0, 2_000));
    let _ = host.deliver(&peer(ACK, 0, 0).sack(at(1), at(5)));
    assert_eq!(info(&mut host), (8_000, 3_000, 1_000, 4_000, 2_000), "one is lost, four have arrived");
    host.transmit();
    assert_eq!(info(&mut host), (8_000, 4_000, 1_000, 4_000, 2_000), "and goes again");
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).reorderings, 0);
    let _ = host.deliver(&peer(ACK, 0, 0).sack(at(6), at(7)).sack(at(1), at(5)));
    host.exchange(&peer(ACK, 0, 0).sack(at(1), at(7)));
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).reorderings, 1, "segment 5 came behind segment 6");
}

#[test]
fn a_batch_of_acknowledgements_does_not_shrink_what_was_in_flight() {
    // RFC 6937 3, RFC 5681 3.1 (4): twelve are in flight when one is lost. The acknowledgements come together, and nothing is sent between.
    let mut host = in_flight(&sacking(), 12, 20);
    // No slow start.
    host.tcb.window.ssthresh = 12_000;
    for next in 1..=8 {
        let _ = host.deliver(&peer(ACK, 0, 1000 * next));
    }
    for last in 10..=12 {
        let _ = host.deliver(&peer(ACK, 0, 8000).sack(at(9), at(last)));
    }
    assert_eq!(phase(&mut host), CongestionPhase::Recovery);
    // NewReno: half of the window, not of the last four segments.
    assert_eq!(host.tcb.window.ssthresh, 6_000);
    // One by one they would have let twelve go; together not more than what the reduced window holds.
    let sent = host.transmit().len();
    assert!((4..=7).contains(&sent), "{sent}");
}

/// Where the timeout stands after a retransmission, whatever new data leaves behind it.
#[test]
fn new_data_in_recovery_leaves_the_timeout_of_the_retransmission_alone() {
    // RFC 6298 (5.1): a timer that runs is not set anew by data.
    let mut host = in_flight(&sacking(), 10, 20);
    let rto = host.call(|tcb, cx| tcb.info(cx)).rto;
    host.now += rto - ROUND_TRIP - Duration::from_millis(1);
    let is_new = |wire: &Wire| wire.kind == TransmitKind::Data;
    let again = (2..=4).flat_map(|arrived| host.exchange(&peer(ACK, 0, 0).sack(at(1), at(arrived))));
    assert!(again.collect::<Vec<_>>().iter().any(|wire| wire.kind == TransmitKind::Retransmission));
    let due_at = host.tcb.next_timer();
    assert!(due_at >= Some(host.now + rto), "from the retransmission");
    host.now += Duration::from_millis(5);
    let mut sent = Vec::new();
    for arrived in 5..=10 {
        sent.extend(host.exchange(&peer(ACK, 0, 0).sack(at(1), at(arrived))));
    }
    assert!(sent.iter().any(is_new), "recovery lets new data go");
    assert_eq!((host.tcb.timer, host.tcb.next_timer()), (Timer::Retransmit, due_at));
}

#[test]
fn what_may_be_late_is_still_judged_after_a_retransmission() {
    // RFC 8985 6.2, step 5: a path that reorders; one segment is lost, those that left 2 ms later may be late.
    let mut host = in_flight(&sacking(), 1, 0);
    ack(&mut host, 1);
    host.tcb.window.cwnd = 10_000;
    host.write(&[1; 1_000]);
    host.now += Duration::from_millis(2);
    host.write(&[1; 4_000]);
    host.call(|tcb, cx| cx.cold.get_mut(tcb.cold).unwrap().send.recall_path(true, 0));
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 1000).sack(at(5), at(6)));
    let first = host.run_timer();
    assert_eq!((number(&first[0]), first.len(), host.tcb.timer), (1, 1, Timer::Reorder));
    let judged_from = host.now;
    assert_eq!(number(&host.run_timer()[0]), 2);
    assert!(host.now.nanos_since(judged_from) <= 2_000_000, "a quarter of a round trip after they were due");
}

#[test]
fn a_block_of_an_overtaken_acknowledgement_is_no_duplicate() {
    // RFC 2883 4 compares it with that segment's own acknowledgement.
    let mut host = in_flight(&sacking(), 20, 0);
    for arrived in 2..=6 {
        host.exchange(&peer(ACK, 0, 0).sack(at(1), at(arrived)));
    }
    host.now += ROUND_TRIP;
    let _ = host.deliver(&peer(ACK, 0, 6000));
    let window = host.tcb.window;
    let _ = host.deliver(&peer(ACK, 0, 0).sack(at(1), at(5)));
    assert_eq!(
        (phase(&mut host), host.tcb.window),
        (CongestionPhase::Recovery, window),
        "nothing is taken back"
    );
}

#[test]
fn small_segments_do_not_make_a_timeout_look_spurious() {
    // RFC 5682 2.1 (1): one retransmission, then the test.
    let mut host = in_flight(&Config { nodelay: true, ..sacking() }, 1, 0);
    ack(&mut host, 1);
    host.tcb.window.cwnd = 2_000;
    for _ in 0..20 {
        host.write(&[1; 100]);
    }
    host.send(&[1; 3_000]);
    while phase(&mut host) != CongestionPhase::Loss {
        host.run_timer();
    }
    host.now += ROUND_TRIP;
    assert!(host.exchange(&peer(ACK, 0, 1_100)).iter().all(|wire| wire.kind == TransmitKind::Data));
    host.exchange(&peer(ACK, 0, 1_100).sack(ISS + 1 + 3_000, ISS + 1 + 3_100));
    assert_eq!(phase(&mut host), CongestionPhase::Loss, "nineteen were lost");
}

#[test]
fn a_probe_does_not_wait_for_company() {
    // RFC 8985 7.3: what Nagle's rule holds back is not there to be sent.
    let mut host = in_flight(&sacking(), 1, 0);
    ack(&mut host, 1);
    host.tcb.window.cwnd = 10_000;
    host.write(&[1; 4_100]);
    assert_eq!(host.write(&[2; 100]), []);
    let probe = one(host.run_timer());
    assert_eq!((probe.kind, probe.payload.len()), (TransmitKind::Retransmission, 100));
}

#[test]
fn a_batch_of_acknowledgements_does_not_shrink_what_the_peer_s_window_held() {
    // Ten in flight, which is what the peer takes; the congestion window is twice that. One turn brings six acknowledgements and a loss.
    let mut host = in_flight(&sacking(), 10, 0);
    host.tcb.window.cwnd = 20_000;
    for acked in 1..=6 {
        let _ = host.deliver(&peer(ACK, 0, acked * 1000));
    }
    let _ = host.deliver(&peer(ACK, 0, 6000).sack(at(7), at(10)));
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!((info.congestion, info.ssthresh_bytes), (CongestionPhase::Recovery, 5_000));
}

/// What was in flight before it, itself, and as many duplicates as show a loss: so many acknowledgements pass a segment that leaves now.
#[test]
fn a_retransmission_is_lost_when_more_was_acknowledged_than_was_ahead_of_it() {
    let mut host = in_flight(&plain(), 8, 0);
    let (cold_id, expected) = (host.tcb.cold, 8 + 1 + 3);
    host.call(|tcb, cx| {
        let cold = cx.cold.get_mut(cold_id).expect("it has data in flight");
        assert_eq!(tcb.lost_again_at(cold), expected);
    });
}

/// RFC 6298 5: the timer counts from the retransmission of the oldest segment.
#[test]
fn the_timeout_counts_from_when_the_oldest_was_sent_again() {
    for config in [plain(), sacking()] {
        let mut host = in_flight(&config, 8, 0);
        let mut sent = Vec::new();
        for seg in 1..8 {
            host.now += Duration::from_millis(1);
            let duplicate = peer(ACK, 0, 0);
            sent = host.exchange(&if config.sack { duplicate.sack(at(1), at(seg + 1)) } else { duplicate });
            if !sent.is_empty() {
                break;
            }
        }
        assert_eq!((number(&sent[0]), sent[0].kind), (0, TransmitKind::Retransmission));
        let rto = Duration::from_micros(host.tcb.rtt.rto_us().into());
        assert_eq!(host.tcb.next_timer(), Some(host.now + rto));
    }
}
