//! SYN cookies: RFC 4987 3.6.

use std::time::Duration;

use ringwire::TcpState;
use ringwire_conformance::{Script, Sent, ack, data, fin, rst, script, syn_ack};
use ringwire_wire::tcp::{Flags, Options, Timestamps};

/// A listener whose SYN queue is full, and whose half-open connections have been given up.
fn flooded(s: &mut Script) {
    s.options.backlog = 2;
    s.listen();
    let peer_port = s.peer_port;
    for port in [50_001, 50_002] {
        s.peer_port = port;
        let syn = s.peer_syn();
        s.inject(syn);
    }
    s.peer_port = peer_port;
    s.ignore_sent();
    assert_eq!(s.counters().cookies_sent, 0);
}

/// The SYN-ACK that says everything.
fn take_cookie(s: &mut Script) -> Sent {
    let (before, connections) = (s.counters().cookies_sent, s.connections());
    let syn = s.peer_syn();
    s.inject(syn);
    let cookie = s.expect_only(syn_ack().ack(1).len(0));
    assert_eq!((s.counters().cookies_sent, s.connections()), (before + 1, connections));
    cookie
}

fn answer_to(s: &Script, cookie: &Sent) -> ringwire_conformance::Segment {
    let answer = ack().seq(1).ack(1);
    match (s.offer.timestamps, cookie.options.timestamps) {
        (Some(ours), Some(theirs)) => answer.ts(ours.value + 1, theirs.value),
        _ => answer,
    }
}

/// Every combination of what a SYN may offer; without timestamps there is no place for the rest.
#[test]
fn rfc4987_3_6_a_cookie_keeps_what_was_agreed() {
    for bits in 0..8_u32 {
        for mss in [None, Some(40), Some(536), Some(1300), Some(1459), Some(9000)] {
            script(|s| {
                let (stamped, scaled, sack) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                s.offer = Options {
                    mss,
                    window_scale: scaled.then_some(5),
                    sack_permitted: sack,
                    timestamps: stamped.then_some(Timestamps { value: 77, echo: 0 }),
                    ..Options::default()
                };
                flooded(s);
                let cookie = take_cookie(s);
                let said = cookie.options;
                assert_eq!(said.timestamps.map(|timestamps| timestamps.echo), stamped.then_some(77));
                assert_eq!(said.window_scale.is_some(), scaled && stamped);
                assert_eq!(said.sack_permitted, sack && stamped);
                let answer = answer_to(s, &cookie);
                s.inject(answer.win(100));
                s.accept();
                s.expect_nothing();
                let info = s.info();
                assert_eq!(info.state, TcpState::Established);
                assert_eq!(info.snd_wnd_bytes, if scaled && stamped { 3200 } else { 100 });
                let class = match mss {
                    None | Some(536) => 536,
                    Some(40) => 48,
                    Some(1300) => 1300,
                    Some(1459) => 1452,
                    _ => 1460,
                };
                assert_eq!(info.mss, class - if stamped { 12 } else { 0 });
                // A hole is reported by SACK blocks only where they were agreed on.
                let early = data("late").seq(11).ack(1);
                s.inject(if stamped { early.ts(79, said.timestamps.unwrap().value) } else { early });
                let report = s.expect_only(ack().ack(1));
                assert_eq!(report.options.sack.as_slice().len(), usize::from(sack && stamped));
            });
        }
    }
}

#[test]
fn rfc4987_3_6_a_cookie_connection_moves_data() {
    script(|s| {
        flooded(s);
        let cookie = take_cookie(s);
        let answer = answer_to(s, &cookie);
        s.inject(answer);
        s.accept();
        assert_eq!((s.counters().cookies_accepted, s.counters().cookies_refused), (1, 0));
        s.inject(data("hello").seq(1).ack(1));
        s.expect_read("hello");
        s.send("there");
        let sent = s.take_sent();
        assert!(
            sent.iter().any(|segment| segment.text == b"there" && segment.header.dst_port == s.peer_port)
        );
    });
}

#[test]
fn rfc4987_3_6_text_and_fin_may_come_with_the_cookie() {
    script(|s| {
        flooded(s);
        take_cookie(s);
        s.inject(data("request").seq(1).ack(1));
        s.accept();
        s.expect_read("request");
        s.ignore_sent();
    });
    script(|s| {
        flooded(s);
        take_cookie(s);
        s.inject(fin().seq(1).ack(1).text("all"));
        s.accept();
        s.expect_read("all");
        s.expect_eof();
        s.expect_state(TcpState::CloseWait);
        s.ignore_sent();
    });
}

#[test]
fn rfc4987_3_6_a_wrong_cookie_is_reset() {
    script(|s| {
        flooded(s);
        take_cookie(s);
        // Past the classes of the MSS on both sides, and with another sequence number of the peer.
        for (seq, wrong) in [(1, 30), (1, 0_u32.wrapping_sub(30)), (2, 1), (0, 1)] {
            s.inject(ack().seq(seq).ack(wrong));
            s.expect_only(rst().seq(wrong));
        }
        assert_eq!((s.counters().cookies_accepted, s.counters().cookies_refused), (0, 4));
        s.expect_no_accept();
        assert_eq!(s.connections(), 2);
    });
}

#[test]
fn rfc4987_3_6_a_cookie_of_another_peer_is_reset() {
    script(|s| {
        flooded(s);
        let cookie = take_cookie(s);
        s.peer_port = 41_000;
        s.inject(ack().seq(1).ack(cookie.header.seq.wrapping_add(1)));
        s.expect_only(rst());
        assert_eq!(s.counters().cookies_refused, 1);
    });
}

/// While no cookie is out, nobody can guess one.
#[test]
fn rfc4987_3_6_without_a_flood_no_acknowledgement_opens() {
    script(|s| {
        s.listen();
        s.inject(ack().seq(1).ack(1));
        s.expect_only(rst().seq(1));
        assert_eq!(s.counters().cookies_refused, 0);
    });
}

#[test]
fn rfc4987_3_6_a_cookie_lives_for_a_minute_and_not_for_long_after() {
    for (age_s, is_good) in [(63, true), (129, false)] {
        for stamped in [false, true] {
            script(|s| {
                if stamped {
                    s.offer_timestamps();
                }
                flooded(s);
                let cookie = take_cookie(s);
                s.wait_long(Duration::from_secs(age_s));
                s.ignore_sent();
                let answer = answer_to(s, &cookie);
                s.inject(answer);
                if is_good {
                    s.accept();
                } else {
                    s.expect_only(rst().seq(1));
                }
            });
        }
    }
}

/// Nothing is kept, so nothing is repeated; the peer's next SYN gets the same answer.
#[test]
fn rfc4987_3_6_a_cookie_is_not_retransmitted() {
    script(|s| {
        flooded(s);
        let first = take_cookie(s);
        s.wait_long(Duration::from_secs(20));
        let repeated = s.take_sent();
        assert!(repeated.iter().all(|segment| segment.header.dst_port != s.peer_port));
        assert!(!repeated.is_empty(), "the half-open connections do repeat theirs");
        let second = take_cookie(s);
        assert_eq!(first.header.seq, second.header.seq);
    });
}

/// A cookie's timestamp is not ahead of the clock of the connection that it makes.
#[test]
fn rfc7323_5_4_the_clock_goes_on_after_a_cookie() {
    for wait_ms in [0, 1, 17, 40, 63] {
        script(|s| {
            s.wait(wait_ms);
            s.offer_everything();
            flooded(s);
            let cookie = take_cookie(s);
            let answer = answer_to(s, &cookie);
            s.inject(answer);
            s.accept();
            s.send("x");
            let sent = s.take_sent();
            let value = |segment: &Sent| segment.options.timestamps.unwrap().value;
            let since = value(&sent[0]).wrapping_sub(value(&cookie));
            assert!(since < 128, "{since}");
        });
    }
}

/// An accepted connection makes room in the queue of SYNs again.
#[test]
fn rfc9293_3_10_7_2_the_syn_queue_drains() {
    script(|s| {
        flooded(s);
        s.peer_port = 50_001;
        s.inject(ack().seq(1).ack(1));
        s.accept();
        s.peer_port = 40_000;
        let before = s.counters().cookies_sent;
        s.establish();
        assert_eq!(s.counters().cookies_sent, before);
    });
}

#[test]
fn rfc3168_6_1_1_a_cookie_keeps_the_agreement_on_ecn() {
    for stamped in [true, false] {
        script(|s| {
            if stamped {
                s.offer_timestamps();
            }
            flooded(s);
            let syn = s.peer_syn().with(Flags::ECE).with(Flags::CWR);
            s.inject(syn);
            let cookie = s.expect_only(syn_ack());
            assert_eq!(cookie.header.flags.contains(Flags::ECE), stamped);
            let answer = answer_to(s, &cookie);
            s.inject(answer);
            s.accept();
            s.send("x");
            let sent = s.take_sent();
            assert_eq!(sent[0].tos, if stamped { 2 } else { 0 });
        });
    }
}
