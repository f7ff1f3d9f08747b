//! Recovery by duplicate ACKs and undoing it: RFC 5681 3.2, RFC 3042, RFC 6582, RFC 5682. No SACK but where F-RTO says so.

use ringwire_conformance::{Script, ack, data, script};

const MSS: u32 = 1460;

fn at(n: u32) -> u32 {
    1 + n * MSS
}

fn segment(n: u32) -> ringwire_conformance::Segment {
    data(vec![1; MSS as usize]).seq(at(n))
}

/// So many segments written, ten in flight, a round trip of 100 ms.
fn in_flight(s: &mut Script, written: u32) {
    s.establish_in(100);
    s.send(vec![1; (written * MSS) as usize]);
    assert_eq!(s.take_sent().len(), 10);
    s.wait(100);
}

/// The same, and nothing came back: the first segment went again.
fn timed_out(s: &mut Script, written: u32) {
    in_flight(s, written);
    s.expect_after(1..=500, segment(0));
}

/// Thirty segments written with SACK agreed, then a long silence: probe and timeout have happened.
fn silent_with_sack(s: &mut Script) {
    s.offer_sack();
    s.establish_in(100);
    s.send(vec![1; MSS as usize * 30]);
    s.ignore_sent();
    s.wait(700);
    s.ignore_sent();
}

/// RFC 5681 3.2 (2): the third duplicate ACK retransmits.
#[test]
fn rfc5681_3_2_third_duplicate_ack_retransmits() {
    script(|s| {
        in_flight(s, 10);
        s.inject(ack().ack(1));
        s.inject(ack().ack(1));
        s.expect_nothing();
        s.inject(ack().ack(1));
        s.expect_only(segment(0));
        s.inject(ack().ack(at(10)));
    });
}

/// RFC 5681 2: an ACK with text, or with another window, is no duplicate.
#[test]
fn rfc5681_2_what_is_no_duplicate_ack() {
    script(|s| {
        in_flight(s, 10);
        for n in 0..4 {
            s.inject(ack().ack(1).win(60_000 - n));
            s.inject(data("x").ack(1).win(60_000 - n));
        }
        let sent = s.take_sent();
        assert!(sent.iter().all(|segment| segment.is_empty()), "{sent:?}");
        s.inject(ack().ack(at(10)));
        s.wait(100);
        s.ignore_sent();
    });
}

/// RFC 3042 2: the first two duplicate ACKs let one new segment go each.
#[test]
fn rfc3042_2_limited_transmit() {
    script(|s| {
        in_flight(s, 20);
        s.inject(ack().ack(1));
        s.expect_only(segment(10));
        s.inject(ack().ack(1));
        s.expect_only(segment(11));
        s.inject(ack().ack(1));
        s.expect(segment(0));
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 5681 3.2 (2): ssthresh is half of what was in flight, or 0.7 of the window (RFC 9438 4.6).
#[test]
fn rfc5681_3_2_fast_recovery_reduces_ssthresh() {
    script(|s| {
        in_flight(s, 10);
        for _ in 0..3 {
            s.inject(ack().ack(1));
        }
        s.expect_only(segment(0));
        let ssthresh_bytes = s.info().ssthresh_bytes;
        assert!((MSS * 5..=MSS * 7).contains(&ssthresh_bytes), "{ssthresh_bytes}");
        s.inject(ack().ack(at(10)));
        // (6): deflated when it is over.
        let cwnd_bytes = s.info().cwnd_bytes;
        assert!(cwnd_bytes <= ssthresh_bytes + MSS, "{cwnd_bytes}");
    });
}

/// RFC 5681 3.2 (4): further duplicate ACKs let new segments go, as the window allows.
#[test]
fn rfc5681_3_2_duplicate_acks_clock_new_data() {
    script(|s| {
        in_flight(s, 30);
        for _ in 0..9 {
            s.inject(ack().ack(1));
        }
        let sent = s.take_sent();
        let again = sent.iter().filter(|segment| segment.seq == 1).count();
        let new = sent.iter().filter(|segment| segment.seq >= at(10)).count();
        assert!(again == 1 && (3..=9).contains(&new), "{again} {new}");
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 6582 3.2 (3): a partial ACK retransmits the next hole at once, without three more duplicates.
#[test]
fn rfc6582_3_2_partial_ack_retransmits_the_next_hole() {
    script(|s| {
        in_flight(s, 10);
        for _ in 0..3 {
            s.inject(ack().ack(1));
        }
        s.expect_only(segment(0));
        s.inject(ack().ack(at(4)));
        s.expect_only(segment(4));
        s.inject(ack().ack(at(7)));
        s.expect_only(segment(7));
        s.inject(ack().ack(at(10)));
        s.expect_nothing_for(2000);
    });
}

/// RFC 6582 3.2 (2): duplicate ACKs for what was sent before the last recovery do not start another one.
#[test]
fn rfc6582_3_2_no_second_fast_retransmit_for_the_same_window() {
    script(|s| {
        in_flight(s, 10);
        s.wait(1000);
        let again = s.take_sent();
        assert!(!again.is_empty());
        let ssthresh_bytes = s.info().ssthresh_bytes;
        // After the timeout: old duplicates of the originals.
        s.inject(ack().ack(at(2)));
        s.ignore_sent();
        for _ in 0..3 {
            s.inject(ack().ack(at(2)));
        }
        assert_eq!(s.info().ssthresh_bytes, ssthresh_bytes);
        s.inject(ack().ack(at(10)));
        s.ignore_sent();
    });
}

/// RFC 5681 3.1: a timeout leaves a window of one segment, and ssthresh remembers half.
#[test]
fn rfc5681_3_1_timeout_collapses_the_window() {
    script(|s| {
        timed_out(s, 10);
        let info = s.info();
        assert!(info.cwnd_bytes <= MSS, "{}", info.cwnd_bytes);
        // RFC 9438 4.8: seven tenths of what was in flight.
        assert!((65 * MSS / 10..=71 * MSS / 10).contains(&info.ssthresh_bytes), "{}", info.ssthresh_bytes);
        // The same segment again: ssthresh stays (RFC 5681 3.1, (4)).
        s.expect_after(1..=1500, segment(0));
        assert_eq!(s.info().ssthresh_bytes, info.ssthresh_bytes);
        s.inject(ack().ack(at(10)));
    });
}

/// RFC 5681 3.1: after a timeout it is slow start again: two segments for each acknowledged one.
#[test]
fn rfc5681_3_1_slow_start_after_a_timeout() {
    script(|s| {
        timed_out(s, 10);
        s.inject(ack().ack(at(1)));
        s.expect(segment(1));
        s.expect_only(segment(2));
        s.inject(ack().ack(at(3)));
        let sent = s.take_sent().len();
        assert!((2..=4).contains(&sent), "{sent}");
        s.inject(ack().ack(at(10)));
        s.ignore_sent();
    });
}

/// RFC 5682 2.1: the ACK after a timeout moves on: two new segments go instead of old ones; the next ACK says that nothing was
/// lost, so nothing is sent again.
#[test]
fn rfc5682_2_1_spurious_timeout_is_found_out() {
    script(|s| {
        timed_out(s, 30);
        // The originals were only late.
        s.inject(ack().ack(at(1)));
        s.expect(segment(10));
        s.expect_only(segment(11));
        s.inject(ack().ack(at(2)));
        let sent = s.take_sent();
        assert!(sent.iter().all(|segment| segment.seq >= at(10)), "{sent:?}");
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 5682 2.1 (3): a duplicate ACK instead: the timeout was right, recovery is conventional.
#[test]
fn rfc5682_2_1_duplicate_ack_means_a_real_loss() {
    script(|s| {
        timed_out(s, 30);
        s.inject(ack().ack(at(1)));
        s.ignore_sent();
        s.inject(ack().ack(at(1)));
        s.wait(1000);
        let sent = s.take_sent();
        assert!(sent.iter().any(|segment| segment.seq == at(1)), "{sent:?}");
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 5682 3.1, with SACK: the same by what the blocks say.
#[test]
fn rfc5682_3_1_spurious_timeout_with_sack() {
    script(|s| {
        silent_with_sack(s);
        // All the originals' ACKs were late.
        for n in 1..=10 {
            s.inject(ack().ack(at(n)));
        }
        let sent = s.take_sent();
        let again = sent.iter().filter(|segment| segment.seq < at(10)).count();
        assert!(again <= 1, "{again} segments were sent again for nothing");
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 5682 3.1 (3): blocks for the new segments and nothing else: the loss was real.
#[test]
fn rfc5682_3_1_real_timeout_with_sack() {
    script(|s| {
        silent_with_sack(s);
        s.inject(ack().ack(at(1)));
        let new: Vec<u32> = s.take_sent().iter().map(|segment| segment.seq).collect();
        assert!(new.len() == 2 && new.iter().all(|seq| *seq >= at(10)), "{new:?}");
        s.inject(ack().ack(at(1)).sack(&[(new[0], new[0] + MSS)]));
        s.expect(segment(1));
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 5682 2.1 (2b): without anything new to send the timeout cannot be tested: recovery is conventional.
#[test]
fn rfc5682_2_1_no_new_data_no_test() {
    script(|s| {
        timed_out(s, 10);
        s.inject(ack().ack(at(1)));
        s.expect(segment(1));
        s.expect_only(segment(2));
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 3522 3.2, RFC 4015 3: with timestamps the echo tells the original's ACK from the retransmission's: nothing more is sent
/// again, and the window is what it was.
#[test]
fn rfc3522_3_2_spurious_timeout_by_the_echo() {
    script(|s| {
        s.offer_timestamps();
        s.establish_in(100);
        s.send(vec![1; 30 * 1448]);
        let sent = s.take_sent();
        assert_eq!(sent.len(), 10);
        let before = s.info().cwnd_bytes;
        let original = sent[0].options.timestamps.expect("agreed").value;
        s.expect_after(200..=500, data(vec![1; 1448]).seq(1));
        assert!(s.info().cwnd_bytes < before);
        s.wait(20);
        s.inject(ack().ack(1449).ts(s.now_ms() as u32, original));
        s.inject(ack().ack(1 + 2 * 1448).ts(s.now_ms() as u32, original));
        let sent = s.take_sent();
        assert!(sent.iter().all(|segment| segment.seq > 14_000), "{sent:?}");
        assert!(s.info().cwnd_bytes >= before, "{} of {before}", s.info().cwnd_bytes);
        s.abort();
        s.ignore_sent();
    });
}

/// The same when the echo is the retransmission's: the loss was real.
#[test]
fn rfc3522_3_2_real_timeout_by_the_echo() {
    script(|s| {
        s.offer_timestamps();
        s.establish_in(100);
        s.send(vec![1; 10 * 1448]);
        s.ignore_sent();
        let again = s.expect_after(200..=500, data(vec![1; 1448]).seq(1));
        s.wait(100);
        let echo = again.options.timestamps.expect("agreed").value;
        s.inject(ack().ack(1449).ts(s.now_ms() as u32, echo));
        let sent = s.take_sent();
        assert!(sent.iter().any(|segment| segment.seq == 1449), "{sent:?}");
        assert!(s.info().cwnd_bytes <= 3 * 1448);
        s.abort();
        s.ignore_sent();
    });
}

/// Duplicate ACKs that are forged in any number inflate the window by no more than what is in flight.
#[test]
fn rfc5681_3_2_forged_duplicate_acks_do_not_open_the_window() {
    script(|s| {
        in_flight(s, 170);
        for _ in 0..200 {
            s.inject(ack().ack(1));
        }
        let sent: usize = s.take_sent().iter().map(|segment| segment.len()).sum();
        assert!(sent <= MSS as usize * 12, "{sent}");
        s.abort();
        s.ignore_sent();
    });
}
