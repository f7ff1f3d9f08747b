//! Loss found by time, and probes for lost tails: RFC 8985. SACK and a round trip of 100 ms throughout.

use ringwire_conformance::{Script, ack, data, script};

const MSS: u32 = 1460;

fn at(n: u32) -> u32 {
    1 + n * MSS
}

fn segment(n: u32) -> ringwire_conformance::Segment {
    data(vec![1; MSS as usize]).seq(at(n))
}

fn in_flight(s: &mut Script, segs: u32) {
    s.offer_sack();
    s.establish_in(100);
    s.send(vec![1; (segs * MSS) as usize]);
    s.ignore_sent();
}

/// Six segments are in flight, from number 6 on, on a path that was seen to reorder: the first of six before them was overtaken by two
/// and arrived, never having been retransmitted.
fn reordered(s: &mut Script) {
    in_flight(s, 6);
    s.wait(100);
    s.inject(ack().ack(1).sack(&[(at(1), at(3))]));
    s.wait(5);
    s.inject(ack().ack(at(3)));
    s.inject(ack().ack(at(6)));
    s.ignore_sent();
    s.send(vec![1; (6 * MSS) as usize]);
    s.ignore_sent();
}

/// 6.2 (4): each report of a duplicate adds a quarter of a round trip to the window: what the window of before would call lost at
/// 125 ms is waited for until 150 ms.
#[test]
fn rfc8985_6_2_dsack_widens_the_window() {
    script(|s| {
        reordered(s);
        s.inject(ack().ack(at(6)).sack(&[(at(0), at(1))]));
        s.wait(100);
        s.inject(ack().ack(at(6)).sack(&[(at(7), at(10))]));
        s.expect_nothing_for(45);
        s.expect_after(1..=10, segment(6));
        s.inject(ack().ack(at(12)));
        s.ignore_sent();
    });
}

/// 6.2 (1): a retransmission that is acknowledged before it can have arrived tells RACK nothing: what left before it is not lost for
/// being older than five milliseconds.
#[test]
fn rfc8985_6_2_too_early_for_a_retransmission() {
    script(|s| {
        in_flight(s, 6);
        s.wait(100);
        s.inject(ack().ack(1).sack(&[(at(1), at(4))]));
        s.expect_only(segment(0));
        s.wait(5);
        s.inject(ack().ack(at(4)));
        s.expect_nothing_for(40);
        s.inject(ack().ack(at(6)));
    });
}

/// 6.2 (5): a segment that was sent before one that has arrived is lost when a round trip and the reordering window have passed,
/// however few arrived after it.
#[test]
fn rfc8985_6_2_one_later_segment_is_enough_in_time() {
    script(|s| {
        in_flight(s, 2);
        s.wait(100);
        s.inject(ack().ack(1).sack(&[(at(1), at(2))]));
        s.expect_nothing();
        s.expect_after(10..=60, segment(0));
        s.inject(ack().ack(at(2)));
    });
}

/// 6.2 (4): while nothing was seen reordered, three later segments are enough at once.
#[test]
fn rfc8985_6_2_three_later_segments_are_enough_at_once() {
    script(|s| {
        in_flight(s, 5);
        s.wait(100);
        s.inject(ack().ack(1).sack(&[(at(1), at(4))]));
        s.expect(segment(0));
        s.inject(ack().ack(at(5)));
        s.ignore_sent();
    });
}

/// 6.2 (4): reordering within a quarter of a round trip retransmits nothing.
#[test]
fn rfc8985_6_2_reordering_within_the_window_is_no_loss() {
    script(|s| {
        in_flight(s, 3);
        s.wait(100);
        s.inject(ack().ack(1).sack(&[(at(1), at(2))]));
        s.wait(10);
        s.inject(ack().ack(at(2)));
        s.inject(ack().ack(at(3)));
        s.expect_nothing_for(2000);
    });
}

/// 6.2 (4): once reordering was seen, three later segments are not enough at once any more.
#[test]
fn rfc8985_6_2_seen_reordering_keeps_the_window() {
    script(|s| {
        reordered(s);
        s.wait(100);
        s.inject(ack().ack(at(6)).sack(&[(at(7), at(10))]));
        s.expect_nothing();
        s.expect_after(5..=60, segment(6));
        s.inject(ack().ack(at(12)));
        s.ignore_sent();
    });
}

/// 6.2 (5): a retransmission that is lost again is found by one segment that was sent after it.
#[test]
fn rfc8985_6_2_lost_retransmission_is_found() {
    script(|s| {
        in_flight(s, 20);
        s.wait(100);
        s.inject(ack().ack(1).sack(&[(at(1), at(5))]));
        s.expect(segment(0));
        s.ignore_sent();
        s.wait(10);
        s.inject(ack().ack(1).sack(&[(at(1), at(10))]));
        let first = s.take_sent().first().map(|sent| (sent.seq, sent.end()));
        let Some((10.., end)) = first else { s.fail("expected: new data goes on") };
        s.wait(100);
        s.inject(ack().ack(1).sack(&[(at(1), end)]));
        s.expect_after(0..=60, segment(0));
        s.abort();
        s.ignore_sent();
    });
}

/// 7.2: a tail that is not acknowledged is probed after two round trips, by its last segment, before the RTO.
#[test]
fn rfc8985_7_2_tail_is_probed_after_two_round_trips() {
    script(|s| {
        in_flight(s, 3);
        s.expect_after(195..=260, segment(2));
        s.inject(ack().ack(at(3)));
        s.expect_nothing_for(2000);
    });
}

/// 7.2: with one segment in flight the probe leaves room for a delayed ACK.
#[test]
fn rfc8985_7_2_lone_segment_waits_for_a_delayed_ack() {
    script(|s| {
        s.offer_sack();
        // Two round trips, and 200 ms for the peer's delayed ACK; the timeout would come after 1,200 ms.
        s.establish_in(400);
        s.send(vec![1; MSS as usize]);
        s.ignore_sent();
        s.expect_after(1_000..=1_060, segment(0));
        s.inject(ack().ack(at(1)));
    });
}

/// 7.2: no probe later than the timeout, or beside it.
#[test]
fn rfc8985_7_2_no_probe_behind_the_timeout() {
    script(|s| {
        in_flight(s, 1);
        s.expect_after(300..=330, segment(0));
        s.inject(ack().ack(at(1)));
    });
}

/// 7.3: new data is the better probe.
#[test]
fn rfc8985_7_3_new_data_is_the_probe() {
    script(|s| {
        s.offer_sack();
        s.establish_in(100);
        s.send(vec![1; (11 * MSS) as usize]);
        assert_eq!(s.take_sent().len(), 10);
        s.expect_after(195..=260, segment(10));
        s.inject(ack().ack(at(11)));
    });
}

/// 7.3: one probe, then the timeout.
#[test]
fn rfc8985_7_3_only_one_probe_before_the_timeout() {
    script(|s| {
        in_flight(s, 3);
        s.expect_after(195..=260, segment(2));
        // The timer was started anew with the probe: the full RTO from there.
        s.expect_after(150..=700, segment(0));
        s.inject(ack().ack(at(3)));
    });
}

/// 7.3, 6.2: the probe's SACK shows what was lost before it: recovery, not a timeout.
#[test]
fn rfc8985_7_3_probe_turns_a_lost_tail_into_recovery() {
    script(|s| {
        in_flight(s, 4);
        s.expect_after(195..=260, segment(3));
        s.wait(100);
        s.inject(ack().ack(1).sack(&[(at(3), at(4))]));
        let first = s.expect_after(0..=60, segment(0));
        assert!(first.at_ns > 0);
        s.wait(100);
        s.ignore_sent();
        s.inject(ack().ack(at(4)));
        assert!(s.info().cwnd_bytes >= 2 * MSS, "{}", s.info().cwnd_bytes);
    });
}

/// 7.4.2: the probe repaired the only loss: the window is reduced as for any loss.
#[test]
fn rfc8985_7_4_repaired_loss_is_congestion() {
    script(|s| {
        in_flight(s, 10);
        s.wait(100);
        s.inject(ack().ack(at(8)));
        s.expect_after(195..=260, segment(9));
        s.wait(100);
        let before = s.info().cwnd_bytes;
        s.send(vec![1; MSS as usize]);
        s.expect_only(segment(10));
        s.inject(ack().ack(at(10)));
        // A report of a duplicate may still come; only what goes beyond the probe says that there will be none.
        assert_eq!(s.info().ssthresh_bytes, u32::MAX);
        s.wait(100);
        s.inject(ack().ack(at(11)));
        let info = s.info();
        assert!(info.ssthresh_bytes <= before / 4 * 3, "{} of {before}", info.ssthresh_bytes);
    });
}

/// 7.4.1: a D-SACK for the probe says that nothing was lost: the window stays.
#[test]
fn rfc8985_7_4_dsack_for_the_probe_is_no_congestion() {
    script(|s| {
        in_flight(s, 3);
        s.expect_after(195..=260, segment(2));
        s.inject(ack().ack(at(3)));
        s.inject(ack().ack(at(3)).sack(&[(at(2), at(3))]));
        assert_eq!(s.info().ssthresh_bytes, u32::MAX);
    });
}

/// 6.3: a timeout takes everything that was sent a round trip ago for lost.
#[test]
fn rfc8985_6_3_timeout_marks_what_is_old() {
    script(|s| {
        s.options.mtu_probing = false;
        in_flight(s, 3);
        s.wait(5_000);
        let sent = s.take_sent();
        assert!(sent.iter().any(|sent| sent.seq == at(0)), "{sent:?}");
        s.inject(ack().ack(at(1)));
        let again: Vec<u32> = s.take_sent().iter().map(|sent| sent.seq).collect();
        assert_eq!(again, [at(1), at(2)]);
        s.inject(ack().ack(at(3)));
    });
}

/// 7.1: no probe without SACK.
#[test]
fn rfc8985_7_1_no_probe_without_sack() {
    script(|s| {
        s.establish_in(100);
        s.send(vec![1; (3 * MSS) as usize]);
        s.ignore_sent();
        s.expect_after(295..=330, segment(0));
        s.inject(ack().ack(at(3)));
        s.ignore_sent();
    });
}
