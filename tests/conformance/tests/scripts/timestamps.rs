//! RFC 7323 3 to 5: timestamps, round-trip measurement, PAWS.

use std::time::Duration;

use ringwire::{CloseReason, DropReason};
use ringwire_conformance::{Script, ack, data, rst, rst_ack, script, syn, syn_ack};

fn stamped(s: &mut Script) {
    s.offer_timestamps();
    s.establish();
}

/// RFC 7323 3.2: TSecr of a SYN is zero; the answer echoes.
#[test]
fn rfc7323_3_2_syn_echoes_zero() {
    script(|s| {
        s.connect();
        s.expect_only(syn().echo(0));
        s.offer_timestamps();
        s.inject(s.peer_syn_ack().ts(777, 0));
        s.expect_only(ack().echo(777));
    });
}

#[test]
fn rfc7323_3_2_syn_ack_echoes_the_syn() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn().ts(4242, 0));
        s.expect_only(syn_ack().echo(4242));
    });
}

/// RFC 7323 3.2: not offered by the peer, not sent by us.
#[test]
fn rfc7323_3_2_no_timestamps_unless_agreed() {
    script(|s| {
        s.establish();
        s.send("x");
        s.expect_only(data("x").no_ts());
        s.inject(ack().ts(5, 5));
        assert_eq!(s.info().unacked_bytes, 0);
    });
}

/// RFC 7323 3.2: once agreed, in every segment.
#[test]
fn rfc7323_3_2_timestamps_in_every_segment() {
    script(|s| {
        stamped(s);
        s.send("x");
        s.expect_only(data("x").any_ts());
        s.expect_after(1..=3000, data("x").seq(1).any_ts());
        s.inject(ack());
        s.inject(syn().seq(0x4000_0000));
        s.expect_only(ack().any_ts());
        s.inject(data("y"));
        s.expect_after(0..=499, ack().any_ts());
        s.shutdown_write();
        s.expect_only(ringwire_conformance::fin().any_ts());
        s.inject(ack());
    });
}

/// RFC 7323 3.2: the RST that ends a connection should have them too.
#[test]
fn rfc7323_3_2_a_rst_has_timestamps() {
    script(|s| {
        stamped(s);
        s.abort();
        s.expect_only(rst_ack().seq(1).ack(1).any_ts());
    });
}

/// RFC 7323 5.4: TSval is a clock between 1 ms and 1 s a tick, and never goes back.
#[test]
fn rfc7323_5_4_tsval_is_a_clock() {
    script(|s| {
        stamped(s);
        let mut last = None;
        for _ in 0..5 {
            s.inject(data("x"));
            let sent = s.expect_after(0..=499, ack().any_ts());
            let value = sent.options.timestamps.map_or(0, |stamp| stamp.value);
            if let Some(last) = last {
                let ticks = value.wrapping_sub(last);
                assert!((1..=1100).contains(&ticks), "{ticks} ticks in about a second");
            }
            last = Some(value);
            s.wait(1000);
        }
    });
}

/// RFC 7323 5.4, 7.1: each connection's clock has an offset of its own.
#[test]
fn rfc7323_5_4_tsval_has_a_random_offset() {
    script(|s| {
        s.listen();
        let mut values = Vec::new();
        for port in 5001..5004 {
            s.offer_timestamps();
            s.inject(s.peer_syn().port(port));
            let sent = s.expect_only(syn_ack().port(port).any_ts());
            values.push(sent.options.timestamps.map_or(0, |stamp| stamp.value));
        }
        assert!(values[0].abs_diff(values[1]) > 10_000 && values[1].abs_diff(values[2]) > 10_000);
    });
}

/// RFC 7323 5.3 (R1): an older TSval is answered with an ACK and dropped.
#[test]
fn rfc7323_5_3_old_timestamp_is_dropped() {
    script(|s| {
        stamped(s);
        let now = s.now_ms() as u32;
        s.inject(data("old").seq(1).ts(now - 1, 0));
        s.expect_only(ack().ack(1).echo(now));
        s.inject(data("old").seq(1).ts(now.wrapping_sub(0x7fff_ffff), 0));
        s.expect_only(ack().ack(1).echo(now));
        s.expect_read("");
        s.inject(data("new").seq(1).ts(now, 0));
        s.expect_read("new");
        s.expect_after(0..=499, ack().ack(4));
    });
}

/// Linux's tcp_disordered_ack: a bare ACK that newer ones have overtaken counts by its SACK, without an answer.
#[test]
fn rfc7323_5_3_overtaken_ack_is_taken() {
    script(|s| {
        s.offer_everything();
        s.establish_in(20);
        s.wait(10);
        let now = s.now_ms() as u32;
        s.send(vec![1; 4 * 1448]);
        assert_eq!(s.take_sent().len(), 4);
        s.wait(20);
        // The later of two ACKs comes first; the earlier one names a block that the other has no room for.
        s.inject(ack().ack(1).win(400).sack(&[(4345, 5793)]).ts(now + 20, 0));
        let dropped = s.dropped(DropReason::TcpPaws);
        s.inject(ack().ack(1).win(500).sack(&[(2897, 4345)]).ts(now + 18, 0));
        s.expect_nothing();
        assert_eq!((s.dropped(DropReason::TcpPaws), s.info().snd_wnd_bytes), (dropped, 400 << 7));
        // Neither the clock nor the window went back, and the block counts: only the first two are missing.
        s.send("x");
        let sent = s.take_sent();
        assert!(sent.iter().any(|segment| segment.options.timestamps.is_some_and(|ts| ts.echo == now + 20)));
        s.wait(30);
        let resent: Vec<u32> = s.take_sent().iter().map(|segment| segment.seq).collect();
        assert!(!resent.is_empty() && resent.iter().all(|seq| *seq < 2897), "{resent:?}");
    });
}

/// RFC 7323 5.3 (R1): late by more than an RTO, ahead of its place, or for something new, a bare ACK is refused like everything else.
#[test]
fn rfc7323_5_3_old_ack_is_dropped() {
    script(|s| {
        stamped(s);
        s.wait(10_000);
        s.send("x");
        s.expect_only(data("x"));
        let now = s.now_ms() as u32;
        s.inject(ack().ack(1).ts(now, 0));
        for old in
            [ack().ack(2).ts(now - 1, 0), ack().ack(1).ts(now - 5_000, 0), ack().ack(1).seq(0).ts(now - 1, 0)]
        {
            let dropped = s.dropped(DropReason::TcpPaws);
            s.inject(old);
            assert_eq!(s.dropped(DropReason::TcpPaws), dropped + 1);
            assert_eq!(s.info().unacked_bytes, 1);
        }
        // One answer: they are limited in rate.
        s.expect_only(ack().echo(now));
    });
}

/// RFC 7323 5.2: the comparison wraps.
#[test]
fn rfc7323_5_2_timestamps_wrap() {
    script(|s| {
        s.offer_timestamps();
        s.listen();
        s.inject(s.peer_syn().ts(u32::MAX, 0));
        s.expect_only(syn_ack().echo(u32::MAX));
        s.inject(ack().ts(u32::MAX, 0));
        s.accept();
        s.inject(data("x").ts(3, 0));
        s.expect_read("x");
        s.expect_after(0..=499, ack().echo(3));
    });
}

/// RFC 7323 5.2: a RST is not subject to PAWS and need not carry the option.
#[test]
fn rfc7323_5_2_rst_is_exempt() {
    script(|s| {
        stamped(s);
        s.inject(rst().ts(1, 0));
        s.expect_closed(CloseReason::Reset);
        s.peer_port += 1;
        stamped(s);
        s.inject(rst().no_ts());
        s.expect_closed(CloseReason::Reset);
    });
}

/// RFC 7323 3.2: a segment that lacks the agreed option is dropped; the connection is not reset.
#[test]
fn rfc7323_3_2_missing_timestamp_is_dropped() {
    script(|s| {
        stamped(s);
        s.inject(data("x").seq(1).no_ts());
        s.expect_nothing_for(100);
        s.expect_read("");
        s.expect_open();
        s.expect_alive();
    });
}

/// RFC 5961 4.2: a SYN is challenged whatever it says of time, or a peer that began anew without timestamps would never learn that we
/// have not.
#[test]
fn rfc5961_4_2_syn_without_timestamps_is_challenged() {
    script(|s| {
        stamped(s);
        s.inject(syn().seq(0x4000_0000).no_ts());
        s.expect_only(ack().seq(1).ack(1).any_ts());
        s.expect_open();
        s.inject(rst().seq(1).no_ts());
        s.expect_closed(CloseReason::Reset);
    });
}

/// RFC 7323 4.3 (2): only a segment at or before Last.ACK.sent moves TS.Recent, not one ahead of a gap.
#[test]
fn rfc7323_4_3_segment_ahead_of_a_gap_is_not_echoed() {
    script(|s| {
        stamped(s);
        let now = s.now_ms() as u32;
        s.inject(data("ahead").seq(100).ts(now + 50, 0));
        s.expect_only(ack().ack(1).echo(now));
    });
}

/// RFC 7323 4.3: two segments under one delayed ACK: the first one's TSval is echoed.
#[test]
fn rfc7323_4_3_delayed_ack_echoes_the_first() {
    script(|s| {
        stamped(s);
        let now = s.now_ms() as u32;
        s.inject(data("a").ts(now + 10, 0));
        s.inject(data("b").ts(now + 20, 0));
        s.expect_after(0..=499, ack().ack(3).echo(now + 10));
    });
}

/// RFC 7323 4.3: the segment that fills a gap is the one that is echoed.
#[test]
fn rfc7323_4_3_gap_filler_is_echoed() {
    script(|s| {
        stamped(s);
        let now = s.now_ms() as u32;
        s.inject(data("b").seq(2).ts(now + 20, 0));
        s.ignore_sent();
        s.inject(data("a").seq(1).ts(now + 30, 0));
        s.expect_only(ack().ack(3).echo(now + 30));
    });
}

/// CVE-2005-0356: a segment that is refused for its ACK does not poison TS.Recent.
#[test]
fn rfc7323_4_3_refused_segment_does_not_poison_ts_recent() {
    script(|s| {
        stamped(s);
        let now = s.now_ms() as u32;
        s.inject(data("x").seq(1).ack(999).ts(now + 0x6000_0000, 0));
        s.expect_only(ack().echo(now));
        s.inject(data("x").seq(70_001).ts(now + 0x6000_0000, 0));
        s.expect_only(ack().echo(now));
        s.expect_alive();
    });
}

/// RFC 7323 5.5: after 24 days without a segment TS.Recent is worth nothing.
#[test]
fn rfc7323_5_5_ts_recent_expires() {
    script(|s| {
        stamped(s);
        let now = s.now_ms() as u32;
        s.wait_long(Duration::from_secs(25 * 24 * 3600));
        s.inject(data("back").ts(now - 1000, 0));
        s.expect_read("back");
        s.expect_after(0..=499, ack().ack(5));
    });
}

/// RFC 7323 4.1, RFC 6298 3: the echo measures the round trip even of what was retransmitted.
#[test]
fn rfc7323_4_1_echo_measures_retransmissions() {
    script(|s| {
        stamped(s);
        s.send("x");
        s.expect_only(data("x"));
        let again = s.expect_after(100..=1200, data("x"));
        s.wait(80);
        let stamp = again.options.timestamps.expect("agreed");
        s.inject(ack().ts(s.now_ms() as u32, stamp.value));
        let srtt_ms = s.info().srtt.as_millis();
        assert!((1..=80).contains(&srtt_ms), "{srtt_ms}");
    });
}

/// RFC 7323 4.1: an echo is a sample only beside an acknowledgement of something new.
#[test]
fn rfc7323_4_1_duplicate_acks_are_no_samples() {
    script(|s| {
        stamped(s);
        s.send("first");
        let first = s.expect_only(data("first")).options.timestamps.expect("agreed").value;
        s.wait(50);
        s.inject(ack().ack(6).ts(s.now_ms() as u32, first));
        let before = s.info().srtt;
        s.send("second");
        s.expect_only(data("second"));
        s.wait(150);
        for _ in 0..3 {
            s.inject(ack().ack(6).ts(s.now_ms() as u32, first));
        }
        assert_eq!(s.info().srtt, before);
        s.inject(ack().ack(12).ts(s.now_ms() as u32, first));
        s.ignore_sent();
    });
}

/// A forged TSecr, of the future or zero, gives no sample.
#[test]
fn rfc7323_4_1_forged_echo_is_no_sample() {
    script(|s| {
        stamped(s);
        for echo in [0, 0x7000_0000, u32::MAX] {
            s.send("x");
            s.expect_only(data("x"));
            s.expect_after(100..=70_000, data("x"));
            s.inject(ack().ts(s.now_ms() as u32, echo));
            assert!(s.info().srtt < Duration::from_secs(1), "{:?}", s.info().srtt);
            assert!(s.info().rto < Duration::from_secs(4), "{:?}", s.info().rto);
        }
    });
}

/// RFC 7323 4.2: with a sample for every ACK the estimate does not collapse: the RTO stays above the round trip.
#[test]
fn rfc7323_4_2_many_samples_keep_the_rto_above_the_round_trip() {
    script(|s| {
        stamped(s);
        for _ in 0..50 {
            s.send(vec![1; 1448]);
            s.ignore_sent();
            s.wait(100);
            s.inject(ack());
        }
        let info = s.info();
        assert!(info.srtt >= Duration::from_millis(70) && info.srtt <= Duration::from_millis(110));
        assert!(info.rto > Duration::from_millis(110), "{:?}", info.rto);
    });
}

/// RFC 7323 2.2: a SYN-ACK's option without ours would be a protocol error; a peer's SYN without it gets none.
#[test]
fn rfc7323_3_2_syn_ack_without_offer_has_none() {
    script(|s| {
        s.listen();
        s.inject(syn());
        s.expect_only(syn_ack().no_ts());
    });
}
