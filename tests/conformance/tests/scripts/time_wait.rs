//! TIME-WAIT once the application has closed: the connection is only remembered, and behaves as before.

use std::time::Duration;

use ringwire::TcpState;
use ringwire_conformance::{Script, ack, data, fin, rst, script, syn, syn_ack};

/// The worker has closed first, everything is acknowledged, and nobody holds the connection any more.
fn remembered(s: &mut Script) {
    s.establish();
    s.close();
    s.expect_only(fin().seq(1).ack(1));
    s.inject(fin().seq(1).ack(2));
    s.expect_only(ack().seq(2).ack(2));
    assert_eq!((s.counters().time_waits, s.connections()), (1, 1));
}

fn gone(s: &mut Script) {
    assert_eq!((s.counters().time_waits, s.connections()), (0, 0));
}

#[test]
fn rfc9293_3_3_2_time_wait_lasts_for_two_msl() {
    script(|s| {
        remembered(s);
        s.wait_long(Duration::from_millis(59_900));
        assert_eq!(s.counters().time_waits, 1);
        s.wait(102);
        gone(s);
        assert_eq!(s.counters().closed, 1);
        s.inject(ack().seq(2).ack(2));
        s.expect_only(rst().seq(2));
    });
}

#[test]
fn rfc9293_3_10_7_4_a_repeated_fin_is_acknowledged_and_begins_the_time_anew() {
    script(|s| {
        remembered(s);
        for _ in 0..3 {
            s.wait_long(Duration::from_secs(50));
            s.inject(fin().seq(1).ack(2));
            s.expect_only(ack().seq(2).ack(2));
        }
        s.wait_long(Duration::from_secs(61));
        gone(s);
    });
}

#[test]
fn rfc1337_3_reset_does_not_end_what_is_remembered() {
    script(|s| {
        remembered(s);
        s.inject(rst().seq(1));
        s.inject(rst().seq(3));
        s.expect_only(ack().seq(2).ack(2));
        assert_eq!(s.counters().time_waits, 1);
        s.inject(rst().seq(2));
        s.expect_nothing();
        assert_eq!(s.counters().time_waits, 1);
    });
}

#[test]
fn rfc6191_2_a_newer_syn_reopens_what_is_remembered() {
    script(|s| {
        remembered(s);
        let first = s.worker_iss();
        s.irs = s.irs.wrapping_add(1000);
        let syn = s.peer_syn();
        s.inject(syn);
        s.expect_only(syn_ack().ack(1));
        assert!(s.worker_iss().wrapping_sub(first).cast_signed() > 2, "the numbers go on");
        assert_eq!((s.counters().time_waits, s.connections()), (0, 1));
        s.inject(ack());
        s.accept();
        s.expect_state(TcpState::Established);
        s.expect_alive();
    });
}

#[test]
fn rfc6191_2_by_timestamps_an_older_number_reopens_too() {
    script(|s| {
        s.offer_timestamps();
        remembered(s);
        s.wait(10);
        s.irs = s.irs.wrapping_sub(1000);
        s.offer_timestamps();
        let syn = s.peer_syn();
        s.inject(syn);
        s.expect_only(syn_ack());
        assert_eq!((s.counters().time_waits, s.connections()), (0, 1));
    });
}

#[test]
fn rfc5961_4_2_a_syn_that_nobody_listens_for_does_not_end_what_is_remembered() {
    script(|s| {
        remembered(s);
        s.close_listener();
        for _ in 0..2 {
            s.inject(syn().seq(1000));
        }
        s.expect_only(ack().seq(2).ack(2));
        assert_eq!(s.counters().time_waits, 1);
        s.wait_long(Duration::from_secs(61));
        gone(s);
    });
}

#[test]
fn rfc6191_2_an_old_syn_is_only_acknowledged() {
    script(|s| {
        remembered(s);
        s.inject(syn().seq(0));
        s.expect_only(ack().seq(2).ack(2));
        assert_eq!(s.counters().time_waits, 1);
    });
}

#[test]
fn rfc9293_3_10_7_4_old_text_in_time_wait_is_acknowledged_by_what_is_remembered() {
    script(|s| {
        s.offer_timestamps();
        s.establish();
        s.inject(data("abc").seq(1).ack(1));
        s.expect_read("abc");
        s.wait(100);
        s.ignore_sent();
        s.close();
        s.expect_only(fin().seq(1).ack(4));
        s.inject(fin().seq(4).ack(2));
        s.expect_only(ack().seq(2).ack(5).any_ts());
        s.inject(data("abc").seq(1).ack(1));
        let answer = s.expect_only(ack().seq(2).ack(5).any_ts());
        assert!(answer.options.sack.is_empty());
    });
}

/// A connection that the application has not closed keeps what there is to read.
#[test]
fn rfc9293_3_9_1_unread_text_is_kept_in_time_wait() {
    script(|s| {
        s.establish();
        s.shutdown_write();
        s.expect_only(fin().seq(1));
        s.inject(fin().seq(1).ack(2).text("late"));
        s.expect_only(ack().seq(2).ack(6));
        s.expect_state(TcpState::TimeWait);
        assert_eq!((s.counters().time_waits, s.connections()), (0, 1));
        s.expect_read("late");
        s.expect_eof();
        s.close();
        assert_eq!((s.counters().time_waits, s.connections()), (1, 1));
    });
}

/// RFC 9293 3.10.7.4: the port cannot be used for the same peer while the connection is remembered.
#[test]
fn rfc9293_3_3_2_the_tuple_is_taken_while_it_is_remembered() {
    script(|s| {
        s.establish_actively();
        s.close();
        s.expect_only(fin().seq(1));
        s.inject(fin().seq(1).ack(2));
        s.expect_only(ack().seq(2).ack(2));
        assert_eq!(s.counters().time_waits, 1);
        s.options.local = Some((ringwire_conformance::WORKER.into(), 80));
        assert!(s.connect_to("10.0.0.2:7").is_err());
        s.wait_long(Duration::from_secs(61));
        assert!(s.connect_to("10.0.0.2:7").is_ok());
        s.ignore_sent();
    });
}
