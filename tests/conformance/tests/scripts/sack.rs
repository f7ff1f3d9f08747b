//! Selective acknowledgement on both sides: RFC 2018, RFC 6675, RFC 2883.

use ringwire::TcpState;
use ringwire_conformance::{Script, ack, data, fin, script};

const MSS: u32 = 1460;

fn sacking(s: &mut Script) {
    s.offer_sack();
    s.establish_in(100);
}

/// The number at which our segment `n` begins, counted from 0.
fn at(n: u32) -> u32 {
    1 + n * MSS
}

/// Ten full segments in flight.
fn ten_in_flight(s: &mut Script) {
    sacking(s);
    s.send(vec![1; MSS as usize * 10]);
    assert_eq!(s.take_sent().len(), 10);
}

fn segment(n: u32) -> ringwire_conformance::Segment {
    data(vec![1; MSS as usize]).seq(at(n))
}

/// RFC 2018 4: text ahead of a gap is reported at once.
#[test]
fn rfc2018_4_gap_is_reported() {
    script(|s| {
        sacking(s);
        s.inject(data("abc").seq(5));
        s.expect_only(ack().ack(1).sack(&[(5, 8)]));
    });
}

/// RFC 2018 4: the block with the segment that came last is first.
#[test]
fn rfc2018_4_latest_block_is_first() {
    script(|s| {
        sacking(s);
        s.inject(data("ab").seq(11));
        s.expect_only(ack().sack(&[(11, 13)]));
        s.inject(data("ab").seq(21));
        s.expect_only(ack().sack(&[(21, 23), (11, 13)]));
        s.inject(data("ab").seq(31));
        s.expect_only(ack().sack(&[(31, 33), (21, 23), (11, 13)]));
        // One of them grows: it comes to the front, the others keep their order.
        s.inject(data("cd").seq(13));
        s.expect_only(ack().sack(&[(11, 15), (31, 33), (21, 23)]));
    });
}

/// RFC 2018 3: four blocks without timestamps.
#[test]
fn rfc2018_3_four_blocks_fit() {
    script(|s| {
        sacking(s);
        for n in 1..=5 {
            s.inject(data("x").seq(n * 10));
        }
        let last = s.take_sent().pop().expect("an ACK");
        assert_eq!(last.options.sack.as_slice(), [(50, 51), (40, 41), (30, 31), (20, 21)]);
    });
}

/// RFC 2018 3: three with them.
#[test]
fn rfc2018_3_three_blocks_fit_beside_timestamps() {
    script(|s| {
        s.offer_everything();
        s.establish_in(100);
        for n in 1..=5 {
            s.inject(data("x").seq(n * 10));
        }
        let last = s.take_sent().pop().expect("an ACK");
        assert_eq!(last.options.sack.as_slice(), [(50, 51), (40, 41), (30, 31)]);
    });
}

/// RFC 2018 4: blocks that meet are one; filled gaps vanish.
#[test]
fn rfc2018_4_blocks_join_and_vanish() {
    script(|s| {
        sacking(s);
        s.inject(data("ab").seq(3));
        s.inject(data("ef").seq(7));
        s.ignore_sent();
        s.inject(data("cd").seq(5));
        s.expect_only(ack().ack(1).sack(&[(3, 9)]));
        s.inject(data("xy").seq(1));
        s.expect_only(ack().ack(9).no_sack());
        s.expect_read("xyabcdef");
    });
}

/// RFC 2018 4: a FIN ahead of a gap is held, the ACK repeats.
#[test]
fn rfc2018_4_fin_ahead_of_a_gap() {
    script(|s| {
        sacking(s);
        s.inject(fin().seq(3).text("cd"));
        s.ignore_sent();
        s.inject(data("ab").seq(1));
        s.expect_only(ack().ack(6).no_sack());
        s.expect_state(TcpState::CloseWait);
    });
}

/// RFC 2018 2: no blocks to a peer that did not agree.
#[test]
fn rfc2018_2_no_blocks_without_agreement() {
    script(|s| {
        s.establish();
        s.inject(data("x").seq(9));
        s.expect_only(ack().no_sack());
    });
}

/// RFC 2883 4: a segment received twice is reported as the first block, below the acknowledgement.
#[test]
fn rfc2883_4_1_duplicate_segment_is_reported() {
    script(|s| {
        sacking(s);
        s.inject(data("abcd").seq(1));
        s.expect_after(0..=499, ack().ack(5));
        s.inject(data("abcd").seq(1));
        s.expect_only(ack().ack(5).sack(&[(1, 5)]));
        // RFC 2883 4 (1): once only.
        s.inject(data("efgh").seq(5));
        s.expect_after(0..=499, ack().ack(9).no_sack());
    });
}

/// RFC 2883 4.1.3: duplicate inside what is held out of order: the duplicate first, then the block around it.
#[test]
fn rfc2883_4_1_3_duplicate_of_held_text_is_reported() {
    script(|s| {
        sacking(s);
        s.inject(data("cdef").seq(3));
        s.expect_only(ack().ack(1).sack(&[(3, 7)]));
        s.inject(data("cd").seq(3));
        s.expect_only(ack().ack(1).sack(&[(3, 5), (3, 7)]));
    });
}

/// RFC 2883 4.2: of a segment that is old only in part, the old part is reported.
#[test]
fn rfc2883_4_2_partial_duplicate_is_reported() {
    script(|s| {
        sacking(s);
        s.inject(data("abcd").seq(1));
        s.expect_after(0..=499, ack().ack(5));
        s.inject(data("cdef").seq(3));
        s.expect_after(0..=499, ack().ack(7).sack(&[(3, 5)]));
    });
}

/// RFC 2883 5: a D-SACK that we receive is no sign of loss.
#[test]
fn rfc2883_5_received_dsack_retransmits_nothing() {
    script(|s| {
        ten_in_flight(s);
        s.inject(ack().ack(at(2)));
        for _ in 0..4 {
            s.inject(ack().ack(at(2)).sack(&[(at(0), at(1))]));
        }
        s.expect_nothing();
        s.inject(ack().ack(at(10)));
    });
}

/// RFC 6675 5 (4): with three segments SACKed above it, the first one is lost and goes again at once.
#[test]
fn rfc6675_5_fast_retransmit_after_three_segments() {
    script(|s| {
        ten_in_flight(s);
        s.wait(100);
        for n in 2..=3 {
            s.inject(ack().ack(at(0)).sack(&[(at(1), at(n))]));
            s.expect_nothing();
        }
        s.inject(ack().ack(at(0)).sack(&[(at(1), at(4))]));
        s.expect(segment(0));
        s.inject(ack().ack(at(10)));
        s.ignore_sent();
    });
}

/// RFC 6675 4, IsLost: one ACK that SACKs as much is worth as much.
#[test]
fn rfc6675_4_is_lost_by_bytes_not_by_acks() {
    script(|s| {
        ten_in_flight(s);
        s.wait(100);
        s.inject(ack().ack(at(0)).sack(&[(at(1), at(6))]));
        s.expect(segment(0));
        s.inject(ack().ack(at(10)));
        s.ignore_sent();
    });
}

/// RFC 6675 4, NextSeg (1): every hole below the SACKed data is retransmitted, and nothing that was SACKed.
#[test]
fn rfc6675_4_next_seg_fills_the_holes_only() {
    script(|s| {
        ten_in_flight(s);
        s.wait(100);
        s.inject(ack().ack(at(0)).sack(&[(at(6), at(10)), (at(3), at(5)), (at(1), at(2))]));
        let mut again: Vec<u32> = s.take_sent().iter().map(|sent| sent.seq).collect();
        s.wait(100);
        s.inject(ack().ack(at(2)).sack(&[(at(6), at(10)), (at(3), at(5))]));
        again.extend(s.take_sent().iter().map(|sent| sent.seq));
        s.wait(20);
        s.inject(ack().ack(at(5)).sack(&[(at(6), at(10))]));
        again.extend(s.take_sent().iter().map(|sent| sent.seq));
        assert_eq!(again, [at(0), at(2), at(5)]);
        s.inject(ack().ack(at(10)));
        s.expect_nothing_for(2000);
    });
}

/// RFC 6675 4, SetPipe: what is in flight during recovery stays within the window.
#[test]
fn rfc6675_4_pipe_stays_below_cwnd() {
    script(|s| {
        sacking(s);
        s.send(vec![1; MSS as usize * 40]);
        assert_eq!(s.take_sent().len(), 10);
        s.wait(100);
        s.inject(ack().ack(at(0)).sack(&[(at(5), at(10))]));
        // Five are lost, five have arrived: whatever goes now is all there is in flight.
        let sent: usize = s.take_sent().iter().map(|sent| sent.len()).sum();
        let cwnd_bytes = s.info().cwnd_bytes as usize;
        assert!(sent >= 1460 && sent <= cwnd_bytes.max(1460), "{sent} with {cwnd_bytes}");
        assert!(cwnd_bytes <= MSS as usize * 10);
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 6675 5 (4.2): entering recovery takes the window down, once for all losses of that window.
#[test]
fn rfc6675_5_window_is_reduced_once_per_recovery() {
    script(|s| {
        ten_in_flight(s);
        s.wait(100);
        s.inject(ack().ack(at(0)).sack(&[(at(1), at(4))]));
        s.ignore_sent();
        let ssthresh_bytes = s.info().ssthresh_bytes;
        assert!((MSS * 5 - 10..=MSS * 7 + 10).contains(&ssthresh_bytes), "{ssthresh_bytes}");
        s.wait(100);
        s.inject(ack().ack(at(4)).sack(&[(at(5), at(9))]));
        s.ignore_sent();
        assert_eq!(s.info().ssthresh_bytes, ssthresh_bytes);
        s.inject(ack().ack(at(10)));
        assert!(s.info().cwnd_bytes <= ssthresh_bytes + MSS, "{}", s.info().cwnd_bytes);
    });
}

/// RFC 6675 5: recovery ends when everything that was out at its start is acknowledged.
#[test]
fn rfc6675_5_recovery_ends_at_its_recovery_point() {
    script(|s| {
        ten_in_flight(s);
        s.wait(100);
        s.inject(ack().ack(at(0)).sack(&[(at(1), at(4))]));
        s.ignore_sent();
        s.inject(ack().ack(at(4)));
        s.ignore_sent();
        assert_ne!(s.info().congestion, ringwire_conformance::CongestionPhase::Open);
        s.inject(ack().ack(at(10)));
        assert_eq!(s.info().congestion, ringwire_conformance::CongestionPhase::Open);
    });
}

/// RFC 2018 8, RFC 6675 5.1: after a timeout the receiver may have discarded what it SACKed: it is sent again.
#[test]
fn rfc2018_8_reneging_after_a_timeout() {
    script(|s| {
        ten_in_flight(s);
        s.inject(ack().ack(at(0)).sack(&[(at(1), at(3))]));
        s.ignore_sent();
        s.wait(10_000);
        s.ignore_sent();
        s.inject(ack().ack(at(1)));
        let again: Vec<u32> = s.take_sent().iter().map(|sent| sent.seq).collect();
        assert!(again.contains(&at(1)), "{again:?}");
        s.inject(ack().ack(at(10)));
        s.ignore_sent();
    });
}

/// A retransmission that is lost again is found out without a timeout when later transmissions arrive.
#[test]
fn rfc6675_4_lost_retransmission_is_sent_again() {
    script(|s| {
        sacking(s);
        s.send(vec![1; MSS as usize * 30]);
        s.ignore_sent();
        s.wait(100);
        s.inject(ack().ack(at(0)).sack(&[(at(1), at(5))]));
        s.expect(segment(0));
        let later = s.take_sent();
        s.wait(100);
        s.inject(ack().ack(at(0)).sack(&[(at(1), at(10))]));
        let mut sent = later;
        sent.extend(s.take_sent());
        assert!(sent.iter().all(|sent| sent.seq >= at(10)), "new data, and nothing else: {sent:?}");
        let high = sent.iter().map(|sent| sent.end()).max().expect("new data in recovery");
        s.wait(100);
        s.inject(ack().ack(at(0)).sack(&[(at(1), high)]));
        let again = s.take_sent();
        assert!(again.iter().any(|sent| sent.seq == at(0)), "{again:?}");
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 6675 5: SACK information is what counts: bare duplicate ACKs without new blocks start nothing.
#[test]
fn rfc6675_2_duplicate_acks_without_new_sack_are_no_loss() {
    script(|s| {
        ten_in_flight(s);
        for _ in 0..10 {
            s.inject(ack().ack(at(0)));
        }
        s.expect_nothing();
        s.inject(ack().ack(at(10)));
    });
}

/// Blocks that cannot be true are ignored: empty, reversed, beyond SND.NXT, below SND.UNA, wrapping.
#[test]
fn rfc2018_5_impossible_blocks_are_ignored() {
    script(|s| {
        ten_in_flight(s);
        let cases = [
            (at(3), at(3)),
            (at(5), at(3)),
            (at(9), at(20)),
            (0x7fff_0000, 0x7fff_1000),
            (0_u32.wrapping_sub(5000), 0_u32.wrapping_sub(3000)),
            (at(10), at(11)),
        ];
        for block in cases {
            s.inject(ack().ack(at(0)).sack(&[block, block, block]));
        }
        s.expect_nothing();
        s.inject(ack().ack(at(10)));
        assert_eq!(s.info().unacked_bytes, 0);
    });
}

/// A SACK option whose length is not 8n + 2 is ignored.
#[test]
fn rfc2018_3_wrong_length_is_ignored() {
    script(|s| {
        ten_in_flight(s);
        for _ in 0..4 {
            s.inject(ack().ack(at(0)).raw_options(&[5, 9, 0, 0, 0, 1, 0, 0, 9, 0, 0, 0]));
            s.inject(ack().ack(at(0)).raw_options(&[5, 2, 1, 1]));
            s.inject(ack().ack(at(0)).raw_options(&[1, 1, 1, 5]));
        }
        s.expect_nothing();
        s.inject(ack().ack(at(10)));
    });
}
