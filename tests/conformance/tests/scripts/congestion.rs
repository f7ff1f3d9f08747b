//! The congestion window: RFC 5681, RFC 6928, RFC 3465, RFC 9438, RFC 9406.

use std::time::Duration;

use ringwire_conformance::{Script, ack, data, script, syn_ack};

const MSS: u32 = 1460;

fn at(n: u32) -> u32 {
    1 + n * MSS
}

/// Keeps the pipe full for so many rounds of `rtt_ms`, acknowledging every second segment; what was sent in each round.
fn rounds(s: &mut Script, rtt_ms: u64, rounds: usize) -> Vec<usize> {
    let mut counts = Vec::new();
    for _ in 0..rounds {
        while s.info().unsent_bytes < 400_000 && s.try_send(&[1; 1460]) == Ok(1460) {}
        let sent = s.take_sent();
        counts.push(sent.len());
        s.wait(rtt_ms);
        for (n, segment) in sent.iter().enumerate() {
            if n % 2 == 1 || n + 1 == sent.len() {
                s.inject(ack().ack(segment.end()));
            }
        }
    }
    counts
}

fn wide(s: &mut Script) {
    s.offer_everything();
    s.offer.timestamps = None;
    s.offer.window_scale = Some(9);
    s.options.send_buffer_bytes = 4 << 20;
    s.establish_in(100);
}

/// RFC 6928 2: ten segments go before the first ACK.
#[test]
fn rfc6928_2_initial_window_is_ten_segments() {
    script(|s| {
        s.establish_in(100);
        s.send(vec![1; 30 * 1460]);
        assert_eq!(s.take_sent().len(), 10);
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 6928 2: and not more bytes than 14600 or two segments.
#[test]
fn rfc6928_2_initial_window_in_bytes() {
    script(|s| {
        s.offer.mss = Some(536);
        s.establish_in(100);
        s.send(vec![1; 30 * 1460]);
        let bytes: usize = s.take_sent().iter().map(|segment| segment.len()).sum();
        assert_eq!(bytes, 5360);
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 6928 2: one lost SYN or SYN-ACK takes nothing from the initial window, as in Linux.
#[test]
fn rfc6928_2_one_lost_syn_ack_leaves_ten_segments() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn());
        s.expect_only(syn_ack());
        s.expect_after(900..=1100, syn_ack());
        s.inject(ack());
        s.accept();
        s.send(vec![1; 30 * 1460]);
        assert_eq!(s.take_sent().len(), 10);
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 6928 2, RFC 5681 3.1: after several the window is one segment.
#[test]
fn rfc5681_3_1_several_lost_syn_acks_leave_one_segment() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn());
        s.expect_only(syn_ack());
        s.expect_after(900..=1100, syn_ack());
        s.expect_after(1900..=2200, syn_ack());
        s.inject(ack());
        s.accept();
        s.send(vec![1; 5000]);
        s.expect_only(data(vec![1; 1460]));
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 5681 3.1: in slow start the window grows by what is acknowledged: it doubles each round trip.
#[test]
fn rfc5681_3_1_slow_start_doubles() {
    script(|s| {
        wide(s);
        assert_eq!(rounds(s, 100, 4), [10, 20, 40, 80]);
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 3465, ACK division: ten ACKs for the bytes of one segment are worth one segment.
#[test]
fn rfc3465_2_2_ack_division_gains_nothing() {
    script(|s| {
        s.establish_in(100);
        s.send(vec![1; 30 * 1460]);
        s.ignore_sent();
        for n in 1..=10 {
            s.inject(ack().ack(1 + n * 146));
        }
        let cwnd_bytes = s.info().cwnd_bytes;
        assert!(cwnd_bytes <= 11 * MSS, "{cwnd_bytes}");
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 3465 2.3: one ACK for many segments opens the window by two at most.
#[test]
fn rfc3465_2_3_stretch_ack_is_worth_two_segments() {
    script(|s| {
        s.establish_in(100);
        s.send(vec![1; 10 * 1460]);
        s.ignore_sent();
        s.inject(ack().ack(at(10)));
        let cwnd_bytes = s.info().cwnd_bytes;
        assert!(cwnd_bytes <= 12 * MSS, "the window is {cwnd_bytes}");
    });
}

/// RFC 5681 3.1, RFC 9438 5.8: a window that the application does not use does not grow.
#[test]
fn rfc5681_3_1_unused_window_does_not_grow() {
    script(|s| {
        s.establish_in(100);
        for _ in 0..30 {
            s.send("request");
            s.ignore_sent();
            s.wait(100);
            s.inject(ack());
        }
        let cwnd_bytes = s.info().cwnd_bytes;
        assert!(cwnd_bytes <= 11 * MSS, "{cwnd_bytes}");
    });
}

/// RFC 5681 4.1: after a long silence the window is the initial one again.
#[test]
fn rfc5681_4_1_idle_restart() {
    script(|s| {
        wide(s);
        rounds(s, 100, 4);
        while !s.take_sent().is_empty() || s.info().unsent_bytes > 0 {
            s.inject(ack());
        }
        s.inject(ack());
        s.wait(10_000);
        s.ignore_sent();
        s.send(vec![1; 100 * 1460]);
        let sent = s.take_sent().len();
        assert!(sent <= 10, "{sent}");
        s.abort();
        s.ignore_sent();
    });
}

/// Loses the first of a window of so many segments and recovers; returns the window before and after.
fn one_loss(s: &mut Script, segs: u32) -> (u32, u32) {
    wide(s);
    let mut from = 0;
    for _ in 0..20 {
        let sent: usize = rounds(s, 100, 1)[0];
        from += sent as u32;
        if s.info().cwnd_bytes >= segs * MSS {
            break;
        }
    }
    while s.info().unsent_bytes < 400_000 && s.try_send(&[1; 1460]) == Ok(1460) {}
    let sent = s.take_sent();
    let (before, first) = (s.info().cwnd_bytes, at(from));
    let last = sent.last().map_or(first, |segment| segment.end());
    s.wait(100);
    s.inject(ack().ack(first).sack(&[(first + MSS, last)]));
    s.ignore_sent();
    s.wait(100);
    s.inject(ack().ack(last));
    for segment in s.take_sent() {
        s.inject(ack().ack(segment.end()));
    }
    (before, s.info().ssthresh_bytes)
}

/// RFC 9438 4.6: one loss takes the window to 0.7 of what it was.
#[test]
fn rfc9438_4_6_multiplicative_decrease() {
    script(|s| {
        let (before, ssthresh) = one_loss(s, 80);
        let ratio = f64::from(ssthresh) / f64::from(before);
        assert!((0.66..=0.72).contains(&ratio), "{ratio}");
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 5681 3.2 (2): with NewReno, chosen for the socket, it is half.
#[test]
fn rfc5681_3_2_newreno_halves_the_window() {
    script(|s| {
        s.options.congestion_control = ringwire::CongestionControl::NewReno;
        let (before, ssthresh) = one_loss(s, 80);
        let ratio = f64::from(ssthresh) / f64::from(before);
        assert!((0.45..=0.55).contains(&ratio), "{ratio}");
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 9438 4.2, 4.3: the cube root of the distance in seconds brings it back to where it was: concave, slow at the end.
#[test]
fn rfc9438_4_2_window_returns_after_k() {
    script(|s| {
        let (before, ssthresh) = one_loss(s, 80);
        let distance = f64::from(before - ssthresh) / f64::from(MSS);
        let k_ms = (distance / 0.4).cbrt() * 1000.0;
        // Half-way in time, seven eighths of the distance are covered; a straight line would have covered half.
        rounds(s, 100, (k_ms / 200.0) as usize);
        let half = f64::from(s.info().cwnd_bytes.saturating_sub(ssthresh)) / f64::from(before - ssthresh);
        assert!((0.68..=1.0).contains(&half), "{half} of the distance after {} ms", k_ms / 2.0);
        rounds(s, 100, (k_ms / 200.0) as usize);
        let ratio = f64::from(s.info().cwnd_bytes) / f64::from(before);
        assert!((0.92..=1.1).contains(&ratio), "{ratio} after {k_ms} ms");
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 9438 4.10: CUBIC leaves slow start by ssthresh as Reno does: no jump right after a loss.
#[test]
fn rfc5681_3_1_congestion_avoidance_is_slow() {
    script(|s| {
        let (_, ssthresh) = one_loss(s, 80);
        rounds(s, 100, 2);
        let cwnd_bytes = s.info().cwnd_bytes;
        assert!(cwnd_bytes <= ssthresh + ssthresh / 4, "{cwnd_bytes} from {ssthresh}");
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 9406 4.2: a round trip that grows by more than an eighth ends doubling: growth is a quarter in conservative slow start.
#[test]
fn rfc9406_4_2_growing_delay_ends_doubling() {
    script(|s| {
        wide(s);
        let counts = rounds(s, 100, 3);
        let delayed = rounds(s, 140, 4);
        let last = f64::from(delayed[3] as u32) / f64::from(delayed[2] as u32);
        assert!((1.15..=1.35).contains(&last), "{counts:?} {delayed:?}");
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 9406 4.2: while the delay stays, slow start goes on as before.
#[test]
fn rfc9406_4_2_constant_delay_keeps_doubling() {
    script(|s| {
        wide(s);
        let counts = rounds(s, 100, 5);
        assert_eq!(counts, [10, 20, 40, 80, 160]);
        s.abort();
        s.ignore_sent();
    });
}

/// RFC 5681 3.1: nothing in flight, nothing lost: the window never falls below one segment and the connection goes on.
#[test]
fn rfc5681_3_1_window_is_never_below_one_segment() {
    script(|s| {
        s.options.mtu_probing = false;
        s.establish_in(100);
        s.send(vec![1; 1460]);
        s.wait(20_000);
        s.ignore_sent();
        assert!(s.info().cwnd_bytes >= MSS);
        s.inject(ack().ack(at(1)));
        s.wait_long(Duration::from_secs(60));
        s.send(vec![1; 1460]);
        s.expect_only(data(vec![1; 1460]));
        s.inject(ack());
    });
}
