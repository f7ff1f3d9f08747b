//! Pacing: what waits asks for nothing but its deadline.

use core::time::Duration;

use super::host::Host;
use super::script::*;
use crate::tcp::{Algorithm, Config, Keepalive, Pacing, TransmitKind};

const ROUND_TRIP: Duration = Duration::from_millis(100);

/// An established host whose handshake took a round trip.
fn measured(config: &Config) -> Host {
    let mut host = Host::connect(config, ISS.0);
    host.transmit();
    host.now += ROUND_TRIP;
    host.exchange(&peer_syn_ack().sack_permitted());
    host
}

fn bbr() -> Config {
    Config { congestion: Algorithm::Bbr, sack: true, ..plain() }
}

#[test]
fn the_first_window_leaves_at_the_rate_and_the_timer_brings_it() {
    let mut host = measured(&bbr());
    // Ten segments in a round trip of 100 ms, times 2.77: one each 3.6 ms.
    let first = host.write(&[1; 10_000]);
    assert_eq!(first.len(), 1);
    let start = host.now;
    for _ in 1..10 {
        assert!(!host.tcb.wants_transmit(), "it would be asked again and again");
        let rate = host.call(|tcb, cx| tcb.info(cx)).pacing_rate;
        assert_eq!(rate, Some(277_000));
        let next = host.run_timer();
        assert_eq!(next.len(), 1);
        assert_eq!(next[0].kind, TransmitKind::Data);
    }
    let took = host.now.saturating_since(start);
    assert!((Duration::from_millis(31)..Duration::from_millis(33)).contains(&took), "{took:?}");
    assert!(host.tcb.next_timer().is_some_and(|at| at > host.now + ROUND_TRIP), "the RTO or a probe");
}

#[test]
fn acknowledgements_do_not_wait_for_the_pacer() {
    let mut host = measured(&bbr());
    host.write(&[1; 10_000]);
    let _ = host.deliver(&peer(ACK, 0, 0).text(&[2; 1000]));
    let sent = host.exchange(&peer(ACK, 1000, 0).text(&[2; 1000]));
    assert_eq!((sent.len(), sent[0].kind, sent[0].ack()), (1, TransmitKind::Ack, IRS + 2001));
}

#[test]
fn keepalive_comes_in_its_time_beside_the_pacer() {
    let keepalive = Keepalive { time: Duration::from_secs(2), interval: Duration::from_secs(1), retries: 3 };
    let mut host = measured(&Config { keepalive: Some(keepalive), ..bbr() });
    host.write(&[1; 3_000]);
    while host.run_timer()[0].seq() != ISS + 2001 {}
    host.exchange(&peer(ACK, 0, 3_000));
    let start = host.now;
    let mut sent = host.run_timer();
    while sent.is_empty() {
        sent = host.run_timer();
    }
    assert_eq!(sent[0].kind, TransmitKind::Probe);
    assert_eq!(host.now.saturating_since(start).as_secs(), 2);
}

#[test]
fn a_window_is_spread_only_where_it_is_asked_for() {
    let config = Config { sack: true, pacing: Pacing::Off, ..plain() };
    let mut host = measured(&config);
    host.write(&[1; 30_000]);
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).pacing_rate, None);
    let mut host = measured(&Config { pacing: Pacing::On, ..config });
    host.write(&[1; 30_000]);
    host.now += ROUND_TRIP;
    // Two windows in a round trip of slow start.
    host.exchange(&peer(ACK, 0, 10_000));
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!(info.pacing_rate, Some(u64::from(info.cwnd_bytes) * 20));
    assert!(!host.tcb.wants_transmit());
    assert_eq!(host.run_timer().len(), 1);
}

/// Karn's rule: the SYN was sent twice, and its answer measures nothing.
#[test]
fn without_a_round_trip_there_is_nothing_to_spread_over() {
    let mut host = Host::connect(&Config { sack: true, pacing: Pacing::On, ..plain() }, ISS.0);
    host.transmit();
    host.run_timer();
    host.exchange(&peer_syn_ack().sack_permitted());
    host.tcb.window.cwnd = 4_000;
    assert_eq!(host.write(&[1; 10_000]).len(), 4);
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).pacing_rate, None);
}

/// The rate of a connection whose whole window of `segs` is on its way and was acknowledged in part, over a path of `round_trip`.
fn rate_by_default(segs: u32, round_trip: Duration) -> Option<u64> {
    let mut host = Host::connect(&Config { sack: true, ..plain() }, ISS.0);
    host.transmit();
    host.now += round_trip;
    host.exchange(&peer_syn_ack().sack_permitted());
    host.tcb.window.cwnd = segs * 1000;
    host.write(&[1; 40_000]);
    host.now += round_trip;
    host.exchange(&peer(ACK, 0, 1_000));
    host.call(|tcb, cx| tcb.info(cx)).pacing_rate
}

#[test]
fn large_windows_over_long_paths_are_spread_by_default() {
    // The ACK adds a segment.
    assert_eq!(rate_by_default(31, ROUND_TRIP), None);
    assert_eq!(rate_by_default(32, ROUND_TRIP), Some(33_000 * 2 * 10));
    assert_eq!(rate_by_default(32, Duration::from_micros(4_999)), None);
    assert_eq!(rate_by_default(32, Duration::from_millis(5)), Some(33_000 * 2 * 200));
}

#[test]
fn a_window_that_has_become_small_waits_no_longer() {
    let mut host = measured(&Config { sack: true, ..plain() });
    host.tcb.window.cwnd = 40_000;
    assert_eq!(host.write(&[1; 60_000]).len(), 1, "the first takes its time");
    host.tcb.window.cwnd = 10_000;
    host.now += Duration::from_millis(1);
    assert_eq!(host.write(&[1; 1_000]).len(), 9, "what the window lets go");
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).pacing_rate, None);
}

#[test]
fn the_model_outlives_silence_and_ends_with_the_algorithm() {
    let mut host = measured(&bbr());
    host.write(&[1; 1_000]);
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 1_000));
    assert_eq!(host.cold.in_use(), 1, "what is known of the path is kept");
    host.config.congestion = Algorithm::Cubic;
    host.now += 10 * ROUND_TRIP;
    assert_eq!(host.write(&[1; 1_000]).len(), 1);
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 2_000));
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn a_window_after_a_pause_is_spread_too() {
    let mut host = measured(&Config { pacing: Pacing::On, sack: true, ..plain() });
    host.write(&[1; 10_000]);
    while host.tcb.snd.nxt != ISS + 10_001 {
        host.run_timer();
    }
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 10_000));
    assert_eq!(host.cold.in_use(), 0, "the pacer is forgotten");
    host.now += ROUND_TRIP / 2;
    assert_eq!(host.write(&[1; 20_000]).len(), 1);
}

#[test]
fn a_retransmission_that_waits_for_its_pace_outlives_a_change_of_options() {
    let mut host = measured(&bbr());
    host.send(&[1; 8_000]);
    let mut sent = host.transmit().len();
    while sent < 8 {
        sent += host.run_timer().len();
    }
    // Less than a segment takes.
    host.now += Duration::from_millis(1);
    for arrived in 2..=7 {
        let _ = host.deliver(&peer(ACK, 0, 0).sack(ISS + 1001, ISS + 1 + arrived * 1000));
    }
    assert_eq!(host.transmit(), [], "it waits");
    host.config.keepalive = None;
    host.call(|tcb, cx| tcb.on_config_change(cx));
    assert_eq!(host.transmit(), []);
    let next = host.tcb.next_timer().unwrap();
    assert!(next <= host.now + Duration::from_millis(20), "the pacer's deadline, not the RTO");
    assert_eq!(host.run_timer()[0].kind, TransmitKind::Retransmission);
}

#[test]
fn leaving_the_model_in_recovery_leaves_a_threshold() {
    let mut host = measured(&bbr());
    host.send(&[1; 20_000]);
    let mut sent = host.transmit().len();
    while sent < 8 {
        sent += host.run_timer().len();
    }
    host.now += ROUND_TRIP;
    for arrived in 2..=7 {
        host.exchange(&peer(ACK, 0, 0).sack(ISS + 1001, ISS + 1 + arrived * 1000));
    }
    let cwnd = host.tcb.window.cwnd;
    host.config.congestion = Algorithm::Cubic;
    host.call(|tcb, cx| tcb.on_config_change(cx));
    assert_eq!(host.tcb.window.ssthresh, cwnd);
    let mut out = host.transmit();
    while !out.iter().any(|wire| wire.kind == TransmitKind::Retransmission) {
        out = host.run_timer();
    }
    host.now += ROUND_TRIP;
    let sent = host.tcb.snd.nxt.distance(ISS + 1);
    host.exchange(&peer(ACK, 0, sent));
    assert!(host.tcb.window.cwnd <= cwnd, "{:?}", host.tcb.window);
}

/// Leaves as the pacer lets it, until so many segments have.
fn leave(host: &mut Host, segs: usize) {
    let mut sent = host.transmit().len();
    while sent < segs {
        sent += host.run_timer().len();
    }
}

#[test]
fn an_acknowledgement_steers_window_and_rate() {
    let mut host = measured(&bbr());
    host.send(&[1; 30_000]);
    leave(&mut host, 10);
    host.now += ROUND_TRIP;
    let before = host.call(|tcb, cx| tcb.info(cx));
    let _ = host.deliver(&peer(ACK, 0, 10_000));
    let after = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!(after.cwnd_bytes, before.cwnd_bytes + 10_000, "Startup grows by what arrives");
    // Ten segments arrived in the 132 ms since the first left, which is no more than the first guess.
    assert_eq!(after.pacing_rate, before.pacing_rate);
    leave(&mut host, 20);
    host.now += ROUND_TRIP;
    let _ = host.deliver(&peer(ACK, 0, 30_000));
    assert!(host.call(|tcb, cx| tcb.info(cx)).pacing_rate > before.pacing_rate);
}

#[test]
fn a_sample_tells_what_the_connection_knows() {
    let mut host = measured(&bbr());
    host.send(&[1; 12_000]);
    leave(&mut host, 10);
    let take = |host: &mut Host| {
        host.call(|tcb, cx| tcb.take_sample(cx.cold.get_mut(tcb.cold).expect("data is out"), cx.now)).unwrap()
    };
    let sample = take(&mut host);
    assert_eq!((sample.in_flight, sample.mss), (10_000, 1000));
    assert_eq!((sample.is_cwnd_limited, sample.is_recovering), (true, false));
    // Three behind a hole.
    host.now += ROUND_TRIP;
    let _ = host.deliver(&peer(ACK, 0, 0).sack(ISS + 1001, ISS + 4001));
    let sample = take(&mut host);
    assert_eq!((sample.in_flight, sample.is_recovering), (6_000, true));
    let mut host = measured(&bbr());
    host.send(&[1; 4_000]);
    leave(&mut host, 4);
    assert!(!take(&mut host).is_cwnd_limited, "nothing was held back");
}

#[test]
fn what_is_in_flight_before_a_segment_leaves_is_asked_for_a_model_only() {
    let before = |host: &mut Host| {
        host.call(|tcb, cx| {
            let cold = cx.cold.get_mut(tcb.cold).expect("data waits");
            tcb.before_record(cold, cx.config, cx.now)
        })
    };
    let mut host = measured(&bbr());
    host.send(&[1; 4_000]);
    assert_eq!(before(&mut host), Some(0));
    leave(&mut host, 3);
    assert_eq!(before(&mut host), Some(3_000));
    let mut host = measured(&Config { sack: true, ..plain() });
    host.send(&[1; 1_000]);
    assert_eq!(before(&mut host), None);
}

/// CheckIfApplicationLimited (draft-ietf-ccwg-bbr 4.1.2.4): nothing waits, nothing is lost, and the window has room.
#[test]
fn the_application_is_the_limit_when_more_could_be_sent_and_nothing_waits() {
    let noted = |host: &mut Host| {
        host.call(|tcb, cx| {
            let cold = cx.cold.get_mut(tcb.cold).expect("data is out");
            tcb.note_app_limited(cold);
            cold.send.is_app_limited()
        })
    };
    let sent = |waiting: usize| {
        let mut host = measured(&bbr());
        host.send(&std::vec![1; 4_000 + waiting]);
        leave(&mut host, 4);
        host
    };
    assert!(noted(&mut sent(0)));
    assert!(!noted(&mut sent(1_000)), "something waits");
    for (cwnd, is_limit) in [(4_000, false), (4_001, true)] {
        let mut host = sent(0);
        host.tcb.window.cwnd = cwnd;
        assert_eq!(noted(&mut host), is_limit, "{cwnd}");
    }
    let mut host = sent(0);
    host.call(|tcb, cx| cx.cold.get_mut(tcb.cold).unwrap().send.mark_lost(0));
    assert!(!noted(&mut host), "something goes again");
}

#[test]
fn a_keepalive_that_is_due_first_does_not_forget_what_waits_for_its_pace() {
    let keepalive = Keepalive { time: Duration::from_secs(2), interval: Duration::from_secs(1), retries: 3 };
    let mut host = Host::connect(&Config { keepalive: Some(keepalive), ..bbr() }, ISS.0);
    host.transmit();
    // One segment in 3.6 s.
    host.now += 1000 * ROUND_TRIP;
    host.exchange(&peer_syn_ack().sack_permitted());
    assert_eq!(host.write(&[1; 3_000]).len(), 1);
    let start = host.now;
    while host.run_timer().is_empty() {}
    let waited = host.now.saturating_since(start);
    assert!((Duration::from_millis(3_500)..Duration::from_millis(3_700)).contains(&waited), "{waited:?}");
}
