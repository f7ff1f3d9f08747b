//! Giving up, keepalive, user timeout: RFC 9293 3.8.3, 3.8.4.

use std::time::Duration;

use ringwire::{CloseReason, KeepAlive, TcpState, Unreachable};
use ringwire_conformance::{Script, ack, data, fin, rst, script, syn, syn_ack};

fn keepalive(s: &mut Script) {
    s.options.keepalive =
        Some(KeepAlive { time: Duration::from_secs(10), interval: Duration::from_secs(2), retries: 3 });
    s.establish();
}

/// MUST-25: without being asked, no probes.
#[test]
fn rfc9293_3_8_4_keepalive_is_off_by_default() {
    script(|s| {
        s.establish();
        s.wait_long(Duration::from_secs(3 * 3600));
        s.expect_nothing();
        s.expect_open();
    });
}

/// MUST-24, MUST-26, MUST-27, SHLD-12: after the idle time an empty probe at SND.UNA-1; an answer begins anew.
#[test]
fn rfc9293_3_8_4_keepalive_probes_an_idle_connection() {
    script(|s| {
        keepalive(s);
        for _ in 0..3 {
            s.expect_after(9_900..=10_200, ack().seq(0).ack(1));
            s.inject(ack());
        }
        s.expect_open();
    });
}

/// MUST-26: traffic puts the probe off.
#[test]
fn rfc9293_3_8_4_keepalive_only_when_idle() {
    script(|s| {
        keepalive(s);
        for _ in 0..4 {
            s.wait(8_000);
            s.inject(data("x"));
            s.expect_after(0..=499, ack());
        }
    });
}

/// MUST-29: one lost answer is not the end; all of them are.
#[test]
fn rfc9293_3_8_4_keepalive_gives_up_after_its_retries() {
    script(|s| {
        keepalive(s);
        s.expect_after(9_900..=10_200, ack().seq(0));
        s.expect_after(1_900..=2_200, ack().seq(0));
        s.inject(ack());
        s.expect_after(9_700..=10_200, ack().seq(0));
        s.expect_after(1_900..=2_200, ack().seq(0));
        s.expect_after(1_900..=2_200, ack().seq(0));
        s.wait(2_100);
        s.ignore_sent();
        s.expect_closed(CloseReason::TimedOut);
    });
}

/// MUST-28: the default idle time, where probing is on, is two hours or more.
#[test]
fn rfc9293_3_8_4_keepalive_default_is_two_hours() {
    assert!(ringwire_conformance::default_keepalive_time() >= Duration::from_secs(7200));
}

/// The peer's probe, empty or with one byte of garbage, is answered and its byte not delivered.
#[test]
fn rfc9293_3_8_4_keepalive_probes_are_answered() {
    script(|s| {
        s.establish();
        s.inject(ack().seq(0));
        s.expect_only(ack().seq(1).ack(1));
        s.wait(600);
        s.inject(data("\0").seq(0));
        s.expect_only(ack().seq(1).ack(1));
        s.expect_read("");
    });
}

/// MUST-20, SHLD-11: data that is never acknowledged ends the connection, but not before 100 s.
#[test]
fn rfc9293_3_8_3_r2_is_at_least_100_seconds() {
    script(|s| {
        s.establish();
        s.send("x");
        s.wait(100_000);
        s.expect_open();
        s.wait(1_900_000);
        s.ignore_sent();
        s.expect_closed(CloseReason::TimedOut);
        assert_eq!(s.connections(), 0);
    });
}

/// MUST-20: retransmissions without an answer are negative advice to IP: the neighbour is asked whether it is still there.
#[test]
fn rfc9293_3_8_3_retransmissions_make_arp_ask_again() {
    script(|s| {
        s.establish();
        s.wait(60_000);
        let asked = s.arp_requests;
        s.send("x");
        let mut sent = 0;
        while s.arp_requests == asked {
            assert!(!s.info().is_unanswered(), "SHLD-9: it is told when IP is");
            s.wait(1);
            sent += s.take_sent().len();
        }
        assert_eq!(sent, 4, "SHLD-10: R1 is three retransmissions");
        assert!(s.info().is_unanswered());
        s.expect_open();
        // And again, as long as nothing comes back.
        s.wait(3_000);
        assert_eq!((s.take_sent().len(), s.arp_requests), (1, asked + 2));
        let asked = asked + 1;
        // An answer of the peer is forward progress: no more questions.
        s.inject(ack());
        assert!(!s.info().is_unanswered());
        for _ in 0..20 {
            s.wait(1_000);
            s.send("y");
            s.ignore_sent();
            s.inject(ack());
        }
        assert_eq!(s.arp_requests, asked + 1);
    });
}

/// MUST-21: the application sets R2 by the user timeout.
#[test]
fn rfc9293_3_8_3_user_timeout_ends_the_connection() {
    script(|s| {
        s.options.user_timeout = Some(Duration::from_secs(3));
        s.establish();
        s.send("x");
        s.wait(2_900);
        s.expect_open();
        s.wait(300);
        s.ignore_sent();
        s.expect_closed(CloseReason::TimedOut);
        // Nobody knows the connection any more.
        s.inject(ack().ack(2));
        s.expect_only(rst().seq(2));
    });
}

/// MUST-22, RFC 6298 (5.5): SYNs are retransmitted with back-off, then the open fails.
#[test]
fn rfc9293_3_8_3_syn_is_retransmitted_and_given_up() {
    script(|s| {
        s.connect();
        s.expect_only(syn());
        for rto_ms in [1_000, 2_000, 4_000, 8_000] {
            s.expect_after(rto_ms - 5..=rto_ms + 20, syn().seq(0));
        }
        s.wait(400_000);
        s.ignore_sent();
        s.expect_closed(CloseReason::TimedOut);
    });
}

/// MUST-23: an active open is not given up before three minutes have passed.
#[test]
fn rfc9293_3_8_3_syn_r2_is_at_least_three_minutes() {
    script(|s| {
        s.connect();
        s.wait(180_000);
        assert_eq!(s.take_sent().len(), 8, "the SYN and seven repetitions");
        s.expect_state(TcpState::SynSent);
        s.wait(100_000);
        s.expect_closed(CloseReason::TimedOut);
    });
}

/// SYN-ACKs are retransmitted, and the half-open connection is given up in the end.
#[test]
fn rfc9293_3_8_3_syn_ack_is_retransmitted_and_given_up() {
    script(|s| {
        s.reach(TcpState::SynReceived);
        for rto_ms in [1_000, 2_000, 4_000] {
            s.expect_after(rto_ms - 5..=rto_ms + 20, syn_ack().seq(0).ack(1));
        }
        s.wait(200_000);
        s.ignore_sent();
        assert_eq!(s.connections(), 0);
    });
}

/// FIN is retransmitted like data, in FIN-WAIT-1, CLOSING and LAST-ACK.
fn fin_is_retransmitted(s: &mut Script, state: TcpState) {
    let acked = u32::from(state != TcpState::FinWait1) + 1;
    s.expect_after(100..=1_200, fin().seq(1).ack(acked));
    s.expect_after(300..=2_400, fin().seq(1).ack(acked));
    s.inject(ack().seq(acked).ack(2));
    s.expect_nothing_for(5_000);
}
in_states! { fin_is_retransmitted:
    rfc9293_3_6_fin_is_retransmitted_in_fin_wait_1 in FinWait1,
    rfc9293_3_6_fin_is_retransmitted_in_closing in Closing,
    rfc9293_3_6_fin_is_retransmitted_in_last_ack in LastAck,
}

/// SHLD-25, MUST-56: "unreachable" is news for a connect and nothing for an established connection.
#[test]
fn rfc9293_3_9_2_2_unreachable_does_not_abort_an_established_connection() {
    script(|s| {
        s.establish();
        s.send("x");
        let sent = s.expect_only(data("x"));
        for (kind, code) in [(3, 0), (3, 1), (3, 5), (11, 0), (12, 0)] {
            s.inject_icmp_error((kind, code), 0, &sent);
        }
        s.expect_open();
        s.inject(ack());
        s.expect_state(TcpState::Established);
    });
}

/// MUST-47, SHLD-20: what ICMP says of a connection that goes on is there for who asks and told to nobody else; if the peer stays silent
/// it is the reason of the end.
#[test]
fn rfc9293_3_9_1_8_soft_errors_are_told() {
    script(|s| {
        s.options.user_timeout = Some(Duration::from_secs(10));
        s.establish();
        for (kind, code, soft) in [
            (3, 0, Unreachable::Net),
            (3, 1, Unreachable::Host),
            (3, 3, Unreachable::Port),
            (3, 5, Unreachable::SourceRoute),
            (11, 0, Unreachable::TimeExceeded),
            (12, 0, Unreachable::ParameterProblem),
        ] {
            s.send("x");
            let sent = s.expect_only(data("x"));
            assert_eq!(s.info().soft_error, None, "the last one got through");
            s.inject_icmp_error((kind, code), 0, &sent);
            assert_eq!(s.info().soft_error, Some(soft), "{kind} {code}");
            s.expect_open();
            s.inject(ack());
        }
        s.send("y");
        let sent = s.expect_only(data("y"));
        s.inject_icmp_error((3, 1), 0, &sent);
        s.wait(10_100);
        s.ignore_sent();
        s.expect_closed(CloseReason::Unreachable(Unreachable::Host));
    });
}

/// SHLD-26 says abort, RFC 5927 5.2 says not on an established connection.
#[test]
fn rfc5927_5_2_hard_errors_are_soft_once_established() {
    script(|s| {
        s.establish();
        s.send("x");
        let sent = s.expect_only(data("x"));
        for code in [2, 3] {
            s.inject_icmp_error((3, code), 0, &sent);
        }
        s.expect_open();
        s.inject(ack());
    });
}

/// MUST-54: a connect fails at once when the network says that there is no way.
#[test]
fn rfc9293_3_9_2_2_unreachable_fails_a_connect() {
    let reasons = [
        (0, CloseReason::Unreachable(Unreachable::Net)),
        (1, CloseReason::Unreachable(Unreachable::Host)),
        (2, CloseReason::Unreachable(Unreachable::Protocol)),
        (3, CloseReason::Refused),
        (5, CloseReason::Unreachable(Unreachable::SourceRoute)),
        (13, CloseReason::Unreachable(Unreachable::Prohibited)),
    ];
    for (code, reason) in reasons {
        ringwire_conformance::run("rfc9293_3_9_2_2_unreachable_fails_a_connect", |s| {
            s.connect();
            let sent = s.expect_only(syn());
            s.inject_icmp_error((3, code), 0, &sent);
            s.expect_closed(reason);
        });
    }
}

/// RFC 5927 5.2 excepts only what is synchronised: a half-open connection ends by an unreachable error, and no sooner by what passes.
#[test]
fn rfc9293_3_9_2_2_unreachable_ends_a_half_open_connection() {
    for (error, ends) in [((3, 3), true), ((3, 2), true), ((3, 13), true), ((11, 0), false), ((12, 0), false)]
    {
        ringwire_conformance::run("rfc9293_3_9_2_2_unreachable_ends_a_half_open_connection", |s| {
            s.listen();
            s.inject(syn());
            let sent = s.expect_only(syn_ack());
            s.inject_icmp_error(error, 0, &sent);
            s.inject(ack());
            if ends {
                s.expect_only(rst().seq(1));
            } else {
                s.expect_nothing();
            }
            assert_eq!(s.connections(), u64::from(!ends));
        });
    }
}

/// MUST-55: source quench is discarded.
#[test]
fn rfc9293_3_9_2_2_source_quench_is_ignored() {
    script(|s| {
        s.establish();
        s.send("x");
        let sent = s.expect_only(data("x"));
        let cwnd_bytes = s.info().cwnd_bytes;
        s.inject_icmp_error((4, 0), 0, &sent);
        assert_eq!(s.info().cwnd_bytes, cwnd_bytes);
        s.inject(ack());
    });
}

/// RFC 5927 4.1: an error whose quoted number is not in flight is ignored.
#[test]
fn rfc5927_4_1_error_outside_the_flight_is_ignored() {
    script(|s| {
        s.connect();
        let mut sent = s.expect_only(syn());
        sent.ip[24] ^= 0x40;
        s.inject_icmp_error((3, 1), 0, &sent);
        s.expect_open();
        s.expect_state(TcpState::SynSent);
    });
}

/// RFC 1191 6: "fragmentation needed" makes segments smaller, and what did not fit goes again at once.
#[test]
fn rfc1191_6_too_big_shrinks_segments() {
    script(|s| {
        s.establish();
        s.send(vec![1; 1460]);
        let sent = s.expect_only(data(vec![1; 1460]));
        s.inject_icmp_error((3, 4), 1000, &sent);
        s.expect(data(vec![1; 960]).seq(1));
        s.expect_only(data(vec![1; 500]).seq(961));
        s.inject(ack());
    });
}

/// RFC 1191 3, RFC 5927 7: a forged MTU neither raises the segment size nor takes it below the floor, and needs a number in flight.
#[test]
fn rfc5927_7_forged_mtu_does_no_harm() {
    script(|s| {
        s.establish();
        s.send(vec![1; 1460]);
        let mut sent = s.expect_only(data(vec![1; 1460]));
        s.inject_icmp_error((3, 4), 9000, &sent);
        assert_eq!(s.info().mss, 1460);
        let seq_byte = sent.ip[24];
        sent.ip[24] ^= 0x40;
        s.inject_icmp_error((3, 4), 600, &sent);
        assert_eq!(s.info().mss, 1460);
        sent.ip[24] = seq_byte;
        s.inject_icmp_error((3, 4), 0, &sent);
        assert!(s.info().mss >= 512, "{}", s.info().mss);
        s.ignore_sent();
        s.inject(ack());
    });
}
