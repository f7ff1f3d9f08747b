//! Retransmission timeout, giving up, keepalive, user timeout (RFC 6298, RFC 9293 3.8.3, 3.8.4).

use core::time::Duration;
use std::{vec, vec::Vec};

use super::host::{Host, Wire};
use super::script::*;
use crate::icmp::{ErrorKind, Unreachable};
use crate::tcp::{Algorithm, CloseReason, Config, Keepalive, Signals, State, TransmitKind, Window};
use crate::{DropReason, Instant};

const MS: Duration = Duration::from_millis(1);

/// Runs timers until the connection ends; returns what was sent and how long after the call each left.
fn run_out(host: &mut Host) -> Vec<(Duration, Wire)> {
    let start = host.now;
    let mut sent = Vec::new();
    while host.closed.is_none() {
        let wires = host.run_timer();
        sent.extend(wires.into_iter().map(|wire| (host.now.saturating_since(start), wire)));
    }
    sent
}

/// In whole milliseconds: the smallest round trip there is, a microsecond, is part of each.
fn intervals(sent: &[(Duration, Wire)]) -> Vec<Duration> {
    let mut last = Duration::ZERO;
    let since = |(at, _): &(Duration, Wire)| at.saturating_sub(core::mem::replace(&mut last, *at));
    sent.iter().map(since).map(|wait| Duration::from_millis(wait.as_millis() as u64)).collect()
}

#[test]
fn data_is_retransmitted_at_doubling_intervals_until_the_limit() {
    // RFC 6298 (5.5)
    let mut host = established(&Config { retries: 5, ..plain() });
    host.write(b"lost");
    let sent = run_out(&mut host);
    assert_eq!(intervals(&sent), [200 * MS, 400 * MS, 800 * MS, 1600 * MS, 3200 * MS]);
    for (_, again) in &sent {
        expect(again, ACK | PSH, 0, 0, 4);
        assert_eq!((again.kind, again.copied), (TransmitKind::Retransmission, false));
    }
    assert_eq!(host.closed, Some(CloseReason::TimedOut));
    assert!(host.tcb.is_closed());
    assert_eq!((host.cold.in_use(), host.totals.incidents().retransmits), (0, 5));
}

#[test]
fn the_rto_is_bounded_above() {
    let mut host = established(&Config { rto_max: Duration::from_secs(1), retries: 5, ..plain() });
    host.write(b"lost");
    let sent = run_out(&mut host);
    assert_eq!(intervals(&sent)[2..], [800 * MS, 1000 * MS, 1000 * MS]);
}

#[test]
fn the_default_limits_are_those_of_the_rfc() {
    // RFC 9293 3.8.3: R2 at least 100 s for data (SHLD-11), 3 minutes for a SYN (MUST-23).
    let mut host = established(&plain());
    host.write(b"lost");
    let start = host.now;
    run_out(&mut host);
    assert!(host.now.saturating_since(start) >= Duration::from_secs(100));
    let mut host = Host::connect(&plain(), ISS.0);
    host.transmit();
    let start = host.now;
    let sent = run_out(&mut host);
    assert_eq!(intervals(&sent), [1, 2, 4, 8, 16, 32, 64].map(Duration::from_secs));
    assert!(host.now.saturating_since(start) >= Duration::from_secs(180));
    assert!(sent.iter().all(|(_, syn)| syn.header.flags == SYN && syn.seq() == ISS));
    assert_eq!(host.closed, Some(CloseReason::TimedOut));
}

#[test]
fn a_syn_ack_is_retransmitted_and_given_up() {
    let mut host = syn_received(&plain());
    let sent = run_out(&mut host);
    assert_eq!(intervals(&sent), [1, 2, 4, 8, 16].map(Duration::from_secs));
    assert!(sent.iter().all(|(_, again)| again.header.flags == SYN | ACK));
    assert_eq!(host.closed, Some(CloseReason::TimedOut));
}

#[test]
fn a_fin_is_retransmitted_in_every_state_that_waits_for_its_acknowledgement() {
    for state in [State::FinWait1, State::Closing, State::LastAck] {
        let mut host = in_state(state, &plain());
        for _ in 0..3 {
            let again = one(host.run_timer());
            expect(&again, FIN | ACK, 0, peer_seq(state), 0);
            assert_eq!(again.kind, TransmitKind::Retransmission);
        }
        // And it rides again on the data before it.
        let mut host = established(&plain());
        host.send(b"bye");
        host.shutdown_write();
        expect(&one(host.run_timer()), FIN | ACK | PSH, 0, 0, 3);
        expect_none(host.exchange(&peer(ACK, 0, 3)));
        expect(&one(host.run_timer()), FIN | ACK, 3, 0, 0);
    }
}

#[test]
fn the_first_measurement_sets_and_later_ones_smooth() {
    // RFC 6298 (2.2), (2.3)
    let mut host = Host::connect(&plain(), ISS.0);
    host.transmit();
    host.now += 400 * MS;
    host.exchange(&peer_syn_ack());
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!((info.srtt, info.rttvar, info.rto), (400 * MS, 200 * MS, 1200 * MS));
    host.write(b"x");
    host.now += 800 * MS;
    host.exchange(&peer(ACK, 0, 1));
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!((info.srtt, info.rttvar, info.rto), (450 * MS, 250 * MS, 1450 * MS));
}

#[test]
fn a_retransmitted_segment_is_not_measured_and_keeps_the_back_off() {
    // Karn; RFC 6298 (3), (5.7)
    let mut host = established(&plain());
    let before = host.call(|tcb, cx| tcb.info(cx));
    host.write(b"lost");
    host.run_timer();
    host.run_timer();
    host.now += 5000 * MS;
    host.exchange(&peer(ACK, 0, 4));
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!((info.srtt, info.rto), (before.srtt, before.rto));
    // Everything is acknowledged, so the next data starts afresh.
    assert_eq!(info.backoff, 0);
}

#[test]
fn with_timestamps_the_echo_measures_a_retransmission() {
    let config = Config { timestamps: true, ..plain() };
    let mut host = Host::connect(&config, ISS.0);
    let syn = one(host.transmit());
    host.exchange(&peer_syn_ack().stamp(100, syn.options.timestamps.expect("on").value));
    let first = host.write(b"lost")[0].options.timestamps.expect("on").value;
    let again = one(host.run_timer()).options.timestamps.expect("on").value;
    host.now += 60 * MS;
    // The echo of the first transmission would give 260 ms.
    host.exchange(&peer(ACK, 0, 4).stamp(101, again));
    let srtt = host.call(|tcb, cx| tcb.info(cx)).srtt;
    assert_eq!(again.wrapping_sub(first), 200);
    assert!(srtt > 7 * MS && srtt < 8 * MS, "an eighth of 60 ms: {srtt:?}");
    // A forged echo from the future or the far past is no measurement.
    for forged in [0, again.wrapping_add(100_000)] {
        host.write(b"lost");
        host.run_timer();
        let una = host.tcb.snd.nxt.distance(ISS + 1);
        host.exchange(&peer(ACK, 0, una).stamp(102, forged));
        assert_eq!(host.call(|tcb, cx| tcb.info(cx)).srtt, srtt);
    }
}

#[test]
fn an_unmeasured_handshake_makes_the_rto_3_s_and_the_window_one_segment_if_more_than_one_syn_was_lost() {
    // RFC 6298 (5.7), RFC 6928 2, RFC 5681 3.1
    for (lost_syns, window_segs) in [(1, 10), (2, 1)] {
        let mut host = Host::connect(&plain(), ISS.0);
        host.transmit();
        for _ in 0..lost_syns {
            host.run_timer();
        }
        host.exchange(&peer_syn_ack());
        let info = host.call(|tcb, cx| tcb.info(cx));
        let seen = (info.rto, info.cwnd_bytes, info.backoff);
        assert_eq!(seen, (Duration::from_secs(3), window_segs * 1000, 0), "{lost_syns}");
    }
}

#[test]
fn an_echo_of_an_earlier_syn_measures_nothing() {
    // Karn: it would say how long the SYN-ACK that was lost was waited for.
    let config = Config { timestamps: true, ..plain() };
    for (echoed, after_ms, rto_ms) in [(0, 20, 3000), (0, 0, 3000), (1, 20, 200 + 20)] {
        let mut host = Host::connect(&config, ISS.0);
        let sent = [one(host.transmit()), one(host.run_timer())];
        let stamp = sent[echoed].options.timestamps.expect("offered").value;
        host.now += after_ms * MS;
        host.exchange(&peer_syn_ack().stamp(7, stamp));
        let info = host.call(|tcb, cx| tcb.info(cx));
        let srtt_ms = if echoed == 0 { 0 } else { after_ms.into() };
        assert_eq!((info.rto.as_millis(), info.srtt.as_millis()), (rto_ms, srtt_ms), "{echoed} {after_ms}");
    }
}

#[test]
fn the_answer_to_a_repeated_syn_echoes_that_one() {
    // RFC 7323 4.3 (2)
    let config = Config { timestamps: true, ..plain() };
    let mut host = Host::accept(&config, ISS.0, &peer_syn().stamp(100, 0));
    let echo = |wire: Wire| wire.options.timestamps.expect("agreed").echo;
    assert_eq!(echo(one(host.transmit())), 100);
    host.now += 900 * MS;
    assert_eq!(echo(one(host.exchange(&peer_syn().stamp(1000, 0)))), 1000);
    host.now += 900 * MS;
    let late = host.exchange(&peer_syn().stamp(99, 0));
    assert!(late.into_iter().all(|wire| echo(wire) == 1000), "an older one changes nothing");
}

#[test]
fn an_acknowledgement_of_part_restarts_the_timer() {
    // RFC 6298 (5.3)
    let mut host = established(&plain());
    host.write(&[1; 2000]);
    host.now += 150 * MS;
    host.exchange(&peer(ACK, 0, 1000));
    assert_eq!(host.tcb.next_timer(), Some(host.now + host.call(|tcb, cx| tcb.info(cx)).rto));
    host.exchange(&peer(ACK, 0, 2000));
    assert_eq!(host.tcb.next_timer(), None);
}

#[test]
fn the_user_timeout_ends_a_connection_whose_data_is_not_acknowledged() {
    let config = Config { user_timeout: Some(Duration::from_secs(5)), ..plain() };
    let mut host = established(&config);
    host.now += Duration::from_secs(100);
    host.write(b"lost");
    let start = host.now;
    run_out(&mut host);
    assert_eq!(host.now.saturating_since(start), Duration::from_secs(5));
    assert_eq!(host.closed, Some(CloseReason::TimedOut));
    // The FIN counts as data, and so does the SYN.
    for mut host in [in_state(State::FinWait1, &config), in_state(State::SynSent, &config)] {
        let start = host.now;
        run_out(&mut host);
        assert_eq!(host.now.saturating_since(start), Duration::from_secs(5));
    }
    // Progress starts it anew.
    let mut host = established(&config);
    host.write(&[1; 2000]);
    host.now += Duration::from_secs(4);
    host.exchange(&peer(ACK, 0, 1000));
    let start = host.now;
    run_out(&mut host);
    assert_eq!(host.now.saturating_since(start), Duration::from_secs(5));
}

#[test]
fn without_unacknowledged_data_the_user_timeout_does_nothing() {
    let mut host = established(&Config { user_timeout: Some(Duration::from_secs(5)), ..plain() });
    host.write(b"x");
    host.exchange(&peer(ACK, 0, 1));
    assert_eq!(host.tcb.next_timer(), None);
}

#[test]
fn keepalive_probes_an_idle_peer_and_gives_up_with_a_reset() {
    let keepalive =
        Keepalive { time: Duration::from_secs(60), interval: Duration::from_secs(10), retries: 3 };
    let mut host = established(&Config { keepalive: Some(keepalive), ..plain() });
    let sent = run_out(&mut host);
    assert_eq!(intervals(&sent), [60, 10, 10, 10].map(Duration::from_secs));
    for (_, probe) in &sent[..3] {
        // RFC 9293 3.8.4 (MUST-27): below the window, without data.
        expect(probe, ACK, 0_u32.wrapping_sub(1), 0, 0);
        assert_eq!(probe.kind, TransmitKind::Probe);
    }
    assert_eq!(sent[3].1.kind, TransmitKind::Reset);
    assert_eq!(host.closed, Some(CloseReason::TimedOut));
}

#[test]
fn an_answer_or_traffic_restarts_keepalive() {
    let keepalive =
        Keepalive { time: Duration::from_secs(60), interval: Duration::from_secs(10), retries: 2 };
    let mut host = established(&Config { keepalive: Some(keepalive), ..plain() });
    let start = host.now;
    for _ in 0..5 {
        let mut probes = 0;
        while probes < 2 {
            probes += host.run_timer().len();
        }
        expect_none(host.exchange(&peer(ACK, 0, 0)));
    }
    assert_eq!(host.state(), State::Established);
    assert_eq!(host.now.saturating_since(start), Duration::from_secs(5 * 70));
    // Traffic 30 s later puts the next probe off.
    host.now += Duration::from_secs(30);
    host.exchange(&peer(ACK, 0, 0).text(b"x"));
    let heard = host.now;
    host.tcb.quick_ack();
    expect_ack(host.transmit(), 0, 1);
    while host.run_timer().is_empty() {}
    assert_eq!(host.now.saturating_since(heard).as_secs(), 60);
}

#[test]
fn keepalive_leaves_unacknowledged_data_to_the_retransmission_timer() {
    let keepalive = Keepalive { time: Duration::from_secs(2), interval: Duration::from_secs(1), retries: 1 };
    let mut host = established(&Config { keepalive: Some(keepalive), ..plain() });
    host.write(b"lost");
    let mut calls = 0;
    let start = host.now;
    while host.now.saturating_since(start) < Duration::from_secs(60) {
        assert!(host.run_timer().iter().all(|wire| wire.kind == TransmitKind::Retransmission));
        calls += 1;
    }
    assert_eq!(host.state(), State::Established);
    assert!(calls < 80, "{calls}");
}

#[test]
fn keepalive_is_off_by_default_and_can_be_turned_on_and_off() {
    let mut host = established(&plain());
    assert_eq!(host.tcb.next_timer(), None);
    host.config.keepalive = Some(Keepalive::default());
    host.call(|tcb, cx| tcb.on_config_change(cx));
    host.transmit();
    assert_eq!(host.tcb.next_timer(), Some(host.now + Duration::from_secs(7200)));
    host.config.keepalive = None;
    expect_none(host.run_timer());
    assert_eq!((host.tcb.next_timer(), host.state()), (None, State::Established));
}

#[test]
fn early_timer_calls_do_nothing() {
    let mut host = established(&plain());
    host.write(b"x");
    let deadline = host.tcb.next_timer().expect("armed");
    host.now = deadline - Duration::from_nanos(1);
    let _ = host.tick();
    expect_none(host.transmit());
    assert_eq!(host.tcb.next_timer(), Some(deadline));
    host.now = deadline;
    let _ = host.tick();
    assert_eq!(host.transmit().len(), 1);
}

#[test]
fn icmp_errors_fail_a_connect_and_nothing_else() {
    // RFC 9293 3.9.2.2, RFC 5927
    for (error, reason) in [
        (ErrorKind::Unreachable(Unreachable::Port), CloseReason::Refused),
        (ErrorKind::Unreachable(Unreachable::Host), CloseReason::Unreachable(Unreachable::Host)),
        (ErrorKind::Unreachable(Unreachable::Net), CloseReason::Unreachable(Unreachable::Net)),
    ] {
        let mut host = in_state(State::SynSent, &plain());
        let forged = host.call(|tcb, cx| tcb.on_icmp_error(cx, error, ISS + 1));
        assert_eq!((forged.drop, forged.closed), (Some(DropReason::IcmpUnknownFlow), None));
        let soft = host
            .call(|tcb, cx| tcb.on_icmp_error(cx, ErrorKind::Unreachable(Unreachable::TimeExceeded), ISS));
        assert_eq!((soft.drop, soft.closed), (None, None));
        assert_eq!(host.call(|tcb, cx| tcb.on_icmp_error(cx, error, ISS)).closed, Some(reason));
        assert!(host.tcb.is_closed());

        let mut host = established(&plain());
        host.write(b"x");
        assert_eq!(host.call(|tcb, cx| tcb.on_icmp_error(cx, error, ISS + 1)).closed, None);
        assert_eq!(host.state(), State::Established);
    }
}

#[test]
fn a_soft_error_of_the_handshake_does_not_outlive_it() {
    let mut host = in_state(State::SynSent, &plain());
    let _ =
        host.call(|tcb, cx| tcb.on_icmp_error(cx, ErrorKind::Unreachable(Unreachable::TimeExceeded), ISS));
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!(info.soft_error, Some(Unreachable::TimeExceeded));
    host.exchange(&peer_syn_ack());
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!((info.state, info.soft_error), (State::Established, None));
}

/// What ICMP said last while nothing was acknowledged: shown, and told as the reason when time is up (MUST-47).
#[test]
fn a_soft_error_is_shown_until_the_peer_is_heard_and_names_the_end() {
    let said = |host: &mut Host| host.call(|tcb, cx| tcb.info(cx)).soft_error;
    let reasons = [
        (Unreachable::Port, CloseReason::Refused),
        (Unreachable::Host, CloseReason::Unreachable(Unreachable::Host)),
        (Unreachable::Net, CloseReason::Unreachable(Unreachable::Net)),
        (Unreachable::TimeExceeded, CloseReason::Unreachable(Unreachable::TimeExceeded)),
    ];
    for (soft, reason) in reasons {
        let error = ErrorKind::Unreachable(soft);
        for unread in [&b""[..], b"unread"] {
            let mut host = established(&plain());
            host.exchange(&peer(ACK, 0, 0).text(unread));
            host.write(b"x");
            host.signals = Signals::NONE;
            let forged = host.call(|tcb, cx| tcb.on_icmp_error(cx, error, ISS + 2));
            assert_eq!((forged.drop, said(&mut host)), (Some(DropReason::IcmpUnknownFlow), None));
            let told = host.call(|tcb, cx| tcb.on_icmp_error(cx, error, ISS + 1));
            assert_eq!((told.closed, told.signals, said(&mut host)), (None, Signals::NONE, Some(soft)));
            let seq = unread.len() as u32;
            host.exchange(&peer(ACK, seq, 1));
            assert_eq!(said(&mut host), None, "it got through");
            host.write(b"y");
            let _ = host.call(|tcb, cx| tcb.on_icmp_error(cx, error, ISS + 2));
            while host.state() != State::Closed {
                host.run_timer();
            }
            assert_eq!(host.closed, Some(reason).filter(|_| unread.is_empty()));
            assert_eq!(host.read(), unread);
            if host.closed.is_none() {
                host.run_timer();
            }
            assert_eq!(host.closed, Some(reason));
        }
    }
    let mut host = in_state(State::SynSent, &plain());
    let _ =
        host.call(|tcb, cx| tcb.on_icmp_error(cx, ErrorKind::Unreachable(Unreachable::TimeExceeded), ISS));
    run_out(&mut host);
    assert_eq!(host.closed, Some(CloseReason::Unreachable(Unreachable::TimeExceeded)));
}

/// R1, of data, a SYN and a SYN-ACK: three retransmissions, said again with each that follows, and over with an answer.
#[test]
fn the_third_retransmission_without_an_answer_is_told_of() {
    let unanswered = |host: &mut Host| {
        host.signals = Signals::NONE;
        host.run_timer();
        let info = host.call(|tcb, cx| tcb.info(cx));
        (host.signals.contains(Signals::UNANSWERED), info.is_unanswered())
    };
    for state in [State::Established, State::SynSent, State::SynReceived] {
        let mut host = in_state(state, &plain());
        if state == State::Established {
            host.write(b"x");
        }
        let told: Vec<_> = (0..4).map(|_| unanswered(&mut host)).collect();
        let (quiet, loud) = ((false, false), (true, true));
        assert_eq!(told, [quiet, quiet, loud, loud], "{state:?}");
        if state == State::Established {
            host.exchange(&peer(ACK, 0, 1));
            assert!(!host.call(|tcb, cx| tcb.info(cx)).is_unanswered());
            host.write(b"y");
            assert_eq!(unanswered(&mut host), quiet, "it is counted anew");
        }
    }
}

#[test]
fn a_smaller_path_mtu_cuts_what_is_in_flight_and_sends_it_again() {
    let mut host = established(&plain());
    let bytes: Vec<u8> = (0..3000_u32).map(|n| (n / 7) as u8).collect();
    host.write(&bytes);
    let too_big = |host: &mut Host, mtu: u16, seq: u32| {
        host.call(|tcb, cx| tcb.on_icmp_error(cx, ErrorKind::FragmentationNeeded { mtu }, ISS + seq)).drop
    };
    // Larger than now, or for something that is not in flight: ignored.
    assert_eq!(too_big(&mut host, 1500, 1), None);
    assert_eq!(too_big(&mut host, 600, 3001), Some(DropReason::IcmpUnknownFlow));
    assert_eq!((host.tcb.mss, host.transmit().len()), (1000, 0));
    assert_eq!(too_big(&mut host, 640, 1), None);
    let sent = host.transmit();
    assert!(sent.iter().all(|wire| wire.payload.len() <= 600 && wire.copied));
    let again: Vec<u8> = sent.into_iter().flat_map(|wire| wire.payload).collect();
    assert_eq!(again, bytes);
    host.exchange(&peer(ACK, 0, 3000));
    // Never below a floor, whatever is claimed.
    host.write(b"x");
    assert_eq!(too_big(&mut host, 0, 3001), None);
    assert_eq!(host.tcb.mss, 552 - 40);
}

#[test]
fn idleness_restarts_the_congestion_window() {
    // RFC 5681 4.1
    let mut host = established(&plain());
    host.tcb.window.cwnd = 50_000;
    host.write(b"x");
    host.exchange(&peer(ACK, 0, 1));
    host.now += Duration::from_secs(10);
    host.write(b"y");
    assert_eq!(host.tcb.window.cwnd, 10_000);
    assert!(host.now > Instant::ZERO);
}

#[test]
fn slow_start_after_idleness_ends_near_where_the_window_was() {
    // As Linux: ssthresh is the larger of what it was and three quarters of the window.
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno, Algorithm::Dctcp] {
        for (window, ssthresh) in
            [((50_000, 20_000), 37_500), ((50_000, 45_000), 45_000), ((8_000, 4_000), 6_000)]
        {
            let mut host = established(&Config { congestion: algorithm, ..plain() });
            host.tcb.window = Window { cwnd: window.0, ssthresh: window.1 };
            host.write(b"x");
            host.exchange(&peer(ACK, 0, 1));
            host.now += Duration::from_millis(150);
            host.write(b"y");
            host.exchange(&peer(ACK, 0, 2));
            assert_eq!(host.tcb.window.ssthresh, window.1, "not before an RTO has passed");
            host.now += Duration::from_secs(10);
            host.write(b"z");
            let expected = Window { cwnd: window.0.min(10_000), ssthresh };
            assert_eq!(host.tcb.window, expected, "{algorithm:?}");
        }
    }
    // What never had a limit has none now.
    let mut host = established(&plain());
    host.tcb.window.cwnd = 50_000;
    host.now += Duration::from_secs(10);
    host.write(b"x");
    assert_eq!(host.tcb.window, Window { cwnd: 10_000, ssthresh: u32::MAX });
}

#[test]
fn silence_does_not_age_the_window_of_a_connection_that_keeps_its_state() {
    // RFC 9438 5.8. What the peer sent and nobody read keeps it.
    let grown = |pause: Duration| {
        let mut host = established(&Config { congestion: Algorithm::Cubic, ..plain() });
        host.exchange(&peer(ACK, 0, 0).text(b"unread"));
        host.tcb.window = Window { cwnd: 20_000, ssthresh: 20_000 };
        host.write(&[1; 20_000]);
        for _ in 0..3 {
            host.exchange(&peer(ACK, 6, 0));
        }
        host.exchange(&peer(ACK, 6, 20_000));
        let mut acked = 20_000;
        let mut rounds = |host: &mut Host, count| {
            for _ in 0..count {
                let len = host.tcb.window.cwnd;
                host.write(&vec![1; len as usize + 1000]);
                let end = acked + len + 1000;
                host.now += Duration::from_millis(100);
                while acked < end {
                    acked = (acked + 1000).min(end);
                    host.exchange(&peer(ACK, 6, acked));
                }
            }
        };
        rounds(&mut host, 4);
        host.now += pause;
        rounds(&mut host, 4);
        host.tcb.window.cwnd
    };
    let (without, with) = (grown(Duration::ZERO), grown(Duration::from_secs(100)));
    assert!(without > 14_000 && with <= without + 1000, "{with} {without}");
}

#[test]
fn a_syn_is_repeated_at_bounded_intervals_however_often() {
    let mut host = Host::connect(&Config { syn_retries: 127, ..plain() }, ISS.0);
    host.transmit();
    for _ in 0..100 {
        let before = host.now;
        assert_eq!(host.run_timer().len(), 1);
        let waited = host.now.saturating_since(before);
        assert!((Duration::from_millis(900)..=Duration::from_secs(121)).contains(&waited), "{waited:?}");
    }
}

#[test]
fn that_the_first_syn_was_lost_is_told_once() {
    let mut host = Host::connect(&plain(), ISS.0);
    host.transmit();
    for is_told in [true, false] {
        host.signals = Signals::NONE;
        host.run_timer();
        assert_eq!(host.signals.contains(Signals::SYN_LOST), is_told);
    }
    let mut host = syn_received(&plain());
    host.run_timer();
    assert!(!host.signals.contains(Signals::SYN_LOST), "nobody asks about a SYN-ACK");
}

#[test]
fn data_beyond_a_window_that_shrank_is_tried_while_the_peer_answers() {
    // RFC 9293 3.8.6 (SHLD-17)
    let mut host = established(&Config { retries: 3, ..plain() });
    host.write(&[1; 3000]);
    host.exchange(&peer(ACK, 0, 0).window(0));
    for _ in 0..8 {
        assert_eq!(host.run_timer().len(), 1);
        host.exchange(&peer(ACK, 0, 0).window(0));
    }
    assert_eq!(host.closed, None);
    // Two answers short of that it ends.
    assert!(run_out(&mut host).len() <= 4);
    assert_eq!(host.closed, Some(CloseReason::TimedOut));
}

#[test]
fn the_initial_window_counts_segments_of_the_agreed_size() {
    // RFC 6928 2
    let host = established_by(&plain(), &peer_syn_ack().mss(536));
    assert_eq!(host.tcb.window, Window { cwnd: 5360, ssthresh: u32::MAX });
}

#[test]
fn options_come_off_a_smaller_path_mtu_too() {
    // RFC 1191 6.3, RFC 6691 2
    let mut host = established_by(&Config { timestamps: true, ..plain() }, &peer_syn_ack().stamp(7, 0));
    host.write(&[1; 900]);
    let error = ErrorKind::FragmentationNeeded { mtu: 640 };
    assert_eq!(host.call(|tcb, cx| tcb.on_icmp_error(cx, error, ISS + 1)).drop, None);
    assert_eq!(host.tcb.mss, 640 - 40 - 12);
}
