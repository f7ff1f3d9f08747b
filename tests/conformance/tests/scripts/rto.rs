//! The retransmission timer: RFC 6298. Without SACK, so that only the timer and duplicate ACKs recover.

use std::time::Duration;

use ringwire_conformance::{ack, data, script, syn, syn_ack};

fn near(ms: u64) -> std::ops::RangeInclusive<u64> {
    ms - 1..=ms + ms / 20 + 12
}

/// (2.1): before a measurement the RTO is one second.
#[test]
fn rfc6298_2_1_initial_rto_is_one_second() {
    script(|s| {
        s.connect();
        s.expect_only(syn());
        s.expect_after(near(1000), syn().seq(0));
    });
}

/// (2.2): the first measurement R gives SRTT = R, RTTVAR = R/2, RTO = SRTT + 4 RTTVAR.
#[test]
fn rfc6298_2_2_first_measurement() {
    script(|s| {
        s.establish_in(300);
        let info = s.info();
        assert_eq!((info.srtt.as_millis(), info.rttvar.as_millis()), (300, 150));
        s.send("x");
        s.expect_only(data("x"));
        s.expect_after(near(900), data("x"));
        s.inject(ack());
    });
}

/// (2.3): further ones weigh an eighth and a quarter.
#[test]
fn rfc6298_2_3_later_measurements() {
    script(|s| {
        s.establish_in(400);
        s.send("x");
        s.expect_only(data("x"));
        s.wait(800);
        s.inject(ack());
        let info = s.info();
        // RTTVAR = 3/4 200 + 1/4 |400 - 800|, SRTT = 7/8 400 + 1/8 800.
        assert_eq!((info.srtt.as_millis(), info.rttvar.as_millis()), (450, 250));
        assert_eq!(info.rto.as_millis(), 1450);
    });
}

/// (2.4): the RTO is at least one second.
#[test]
fn rfc6298_2_4_rto_is_at_least_one_second() {
    script(|s| {
        s.establish_in(1);
        s.send("x");
        s.expect_only(data("x"));
        s.expect_after(995..=1100, data("x"));
        s.inject(ack());
    });
}

/// What stands in its place: never below 200 ms.
#[test]
fn rfc6298_2_4_rto_has_a_floor_of_200_ms() {
    script(|s| {
        s.establish_in(1);
        s.send("x");
        s.expect_only(data("x"));
        s.expect_after(near(200), data("x"));
        s.inject(ack());
    });
}

/// (2.5): a bound from above is allowed, of 60 s or more.
#[test]
fn rfc6298_2_5_rto_has_a_ceiling_of_60_s_or_more() {
    script(|s| {
        s.establish_in(1);
        s.send("x");
        s.expect_only(data("x"));
        let mut waited_ms = 0;
        for _ in 0..13 {
            let before_ms = s.now_ms();
            s.expect_after(1..=200_000, data("x"));
            waited_ms = s.now_ms() - before_ms;
        }
        assert!((60_000..=125_000).contains(&waited_ms), "{waited_ms}");
        s.inject(ack());
    });
}

/// (3), Karn: what was retransmitted gives no sample without timestamps.
#[test]
fn rfc6298_3_no_sample_from_a_retransmission() {
    script(|s| {
        s.establish_in(100);
        s.send("x");
        s.expect_only(data("x"));
        s.expect_after(near(300), data("x"));
        s.wait(50);
        s.inject(ack());
        assert_eq!(s.info().srtt.as_millis(), 100);
    });
}

/// (5.1): the first segment into an idle pipe starts the timer, later ones do not restart it.
#[test]
fn rfc6298_5_1_later_segments_do_not_restart_the_timer() {
    script(|s| {
        s.options.nodelay = true;
        s.establish_in(100);
        s.send("a");
        s.expect_only(data("a"));
        s.wait(200);
        s.send("b");
        s.expect_only(data("b"));
        s.expect_after(near(100), data("a").seq(1));
        s.ignore_sent();
        s.inject(ack());
    });
}

/// (5.2): nothing outstanding, no timer.
#[test]
fn rfc6298_5_2_timer_stops_when_all_is_acknowledged() {
    script(|s| {
        s.establish_in(100);
        s.send("x");
        s.expect_only(data("x"));
        s.inject(ack());
        s.expect_nothing_for(5_000);
    });
}

/// (5.3): an ACK of new data starts it anew.
#[test]
fn rfc6298_5_3_ack_of_new_data_restarts_the_timer() {
    script(|s| {
        s.options.nodelay = true;
        s.establish_in(300);
        s.send("a");
        s.send("b");
        s.ignore_sent();
        s.wait(600);
        s.inject(ack().ack(2));
        // SRTT is 337 ms or so now, RTTVAR 187 ms: RTO 1088 ms from here.
        let rto_ms = s.info().rto.as_millis() as u64;
        s.expect_after(near(rto_ms), data("b").seq(2));
        s.inject(ack());
    });
}

/// (5.4): the earliest segment that is not acknowledged is the one that goes.
#[test]
fn rfc6298_5_4_earliest_segment_is_retransmitted() {
    script(|s| {
        s.establish_in(100);
        s.send(vec![1; 1460 * 4]);
        s.ignore_sent();
        s.expect_after(near(300), data(vec![1; 1460]).seq(1));
        // RFC 5681 3.1: with a window of one segment, the others wait for its ACK.
        s.expect_nothing();
        s.inject(ack().ack(1461));
        s.expect(data(vec![1; 1460]).seq(1461));
        s.expect_only(data(vec![1; 1460]).seq(2921));
        s.inject(ack().ack(5841));
    });
}

/// (5.5), (5.6): each time it fires the RTO doubles.
#[test]
fn rfc6298_5_5_back_off_doubles() {
    script(|s| {
        s.establish_in(100);
        s.send("x");
        s.expect_only(data("x"));
        for rto_ms in [300, 600, 1200, 2400, 4800, 9600] {
            s.expect_after(near(rto_ms), data("x").seq(1));
        }
        s.inject(ack());
    });
}

/// (5.7), Karn: the back-off holds until something that was not retransmitted is acknowledged.
#[test]
fn rfc6298_5_7_back_off_ends_with_a_measurement() {
    script(|s| {
        s.establish_in(100);
        s.send("x");
        s.expect_only(data("x"));
        s.expect_after(near(300), data("x"));
        s.expect_after(near(600), data("x"));
        s.inject(ack());
        s.send("y");
        s.expect_only(data("y"));
        s.wait(100);
        s.inject(ack());
        assert!(s.info().rto < Duration::from_millis(320), "{:?}", s.info().rto);
    });
}

/// (5.7): a retransmitted SYN leaves an RTO of three seconds for the data.
#[test]
fn rfc6298_5_7_retransmitted_syn_leaves_three_seconds() {
    script(|s| {
        s.connect();
        s.expect_only(syn());
        s.expect_after(near(1000), syn());
        s.inject(s.peer_syn_ack());
        s.expect_only(ack());
        s.expect_connected();
        s.send("x");
        s.expect_only(data("x"));
        s.expect_after(near(3000), data("x"));
        s.inject(ack());
    });
}

/// (4): granularity does not make a constant round trip's RTO equal to the round trip.
#[test]
fn rfc6298_4_rto_stays_above_a_constant_round_trip() {
    script(|s| {
        s.establish_in(400);
        for _ in 0..40 {
            s.send("x");
            s.expect_only(data("x"));
            s.wait(400);
            s.inject(ack());
        }
        let info = s.info();
        assert!(info.rto >= info.srtt + Duration::from_millis(200), "{:?} {:?}", info.rto, info.srtt);
        s.expect_nothing_for(3_000);
    });
}

/// SYN-ACKs back off like everything.
#[test]
fn rfc6298_5_5_syn_ack_backs_off() {
    script(|s| {
        s.reach(ringwire::TcpState::SynReceived);
        for rto_ms in [1000, 2000, 4000, 8000] {
            s.expect_after(near(rto_ms), syn_ack().seq(0).ack(1));
        }
    });
}
