//! CUBIC (RFC 9438) in integers: bytes and milliseconds.

use super::hystart::HyStart;
use super::{Acked, CongestionControl, MAX_CWND, Window};
use crate::Instant;

/// beta_cubic and, for fast convergence, (1 + beta_cubic) / 2, in hundredths (RFC 9438 4.6, 4.7).
const BETA_HUNDREDTHS: u32 = 70;
const CONVERGENCE_HUNDREDTHS: u32 = 85;

/// The window as a cubic function of the time since the last congestion event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cubic {
    hystart: HyStart,
    /// W_max: bytes; 0 before the first congestion event.
    w_max: u32,
    /// The congestion avoidance stage under way.
    epoch: Option<Epoch>,
}

/// One stage of congestion avoidance (RFC 9438 4.2).
#[derive(Debug, Clone, Copy)]
struct Epoch {
    start: Instant,
    last_ack: Instant,
    /// K: when the function comes back to its plateau, in milliseconds after `start`.
    k_ms: u64,
    /// The plateau in bytes.
    origin: u32,
    /// What Reno would have: bytes.
    w_est: u32,
    /// The window before the congestion event: from there on the estimate grows as Reno does (RFC 9438 4.3).
    cwnd_prior: u32,
    /// Fractions of a byte owed to cwnd and to the estimate, times the window.
    owed: u64,
    est_owed: u64,
}

impl Cubic {
    /// W_max in bytes; 0 before the first congestion event.
    pub(in crate::tcp) fn w_max(&self) -> u32 {
        self.w_max
    }

    /// Begins where a connection that fell idle had been: from the window that it kept, the function of a new epoch comes back to the
    /// same plateau.
    pub(in crate::tcp) fn recall(&mut self, w_max: u32) {
        self.w_max = w_max;
    }
}

impl CongestionControl for Cubic {
    fn on_ack(&mut self, window: &mut Window, acked: &Acked) {
        if window.in_slow_start() {
            if self.w_max == 0 {
                self.hystart.on_ack(window, acked);
            } else {
                // RFC 9406 4.3: only the first slow start.
                window.grow_slow_start(acked, 1);
            }
            return;
        }
        let mss = u32::from(acked.mss);
        let w_max = self.w_max;
        let epoch = self.epoch.get_or_insert_with(|| Epoch::new(acked.now, window.cwnd, w_max, mss));
        let since_last_ns = acked.now.nanos_since(core::mem::replace(&mut epoch.last_ack, acked.now));
        if !acked.is_limited {
            // RFC 9438 5.8: time in which the application sends less does not count.
            epoch.start = epoch.start.add_nanos(since_last_ns);
            return;
        }
        let estimate = epoch.grow_estimate(window.cwnd, acked.bytes, mss);
        let elapsed_ms = acked.now.nanos_since(epoch.start) / 1_000_000;
        let target = epoch.window_at(elapsed_ms + u64::from(acked.srtt_us) / 1_000, mss);
        // RFC 9438 4.3: the Reno-friendly region.
        if epoch.window_at(elapsed_ms, mss) < estimate {
            window.cwnd = window.cwnd.max(estimate).min(MAX_CWND);
            return;
        }
        // RFC 9438 4.4, 4.5: at most one and a half times the window in a round trip.
        let target = target.clamp(window.cwnd, window.cwnd.saturating_add(window.cwnd / 2));
        epoch.owed += u64::from(target - window.cwnd) * u64::from(acked.bytes);
        let grown = epoch.owed / u64::from(window.cwnd.max(1));
        epoch.owed %= u64::from(window.cwnd.max(1));
        window.cwnd = window.cwnd.saturating_add(u32::try_from(grown).unwrap_or(u32::MAX)).min(MAX_CWND);
    }

    fn on_loss(&mut self, window: &mut Window, flight_bytes: u32, mss: u16) {
        // RFC 9438 4.7: fast convergence leaves room for newcomers.
        let is_shrinking = window.cwnd < self.w_max;
        self.w_max = if is_shrinking { hundredths(window.cwnd, CONVERGENCE_HUNDREDTHS) } else { window.cwnd };
        // RFC 9438 4.6: of what was in flight, which a window that the application never filled exceeds.
        window.ssthresh = hundredths(flight_bytes.min(window.cwnd), BETA_HUNDREDTHS).max(2 * u32::from(mss));
        window.cwnd = window.ssthresh;
        self.epoch = None;
    }

    fn on_timeout(&mut self, window: &mut Window, flight_bytes: u32, mss: u16) {
        self.on_loss(window, flight_bytes, mss);
        // RFC 9438 4.8
        window.cwnd = u32::from(mss);
    }

    /// RFC 9438 5.8: the function stands still meanwhile. Where the cold part went, so did the epoch; a new one begins at the
    /// window that was kept and leads to the same W_max.
    fn on_idle(&mut self, idle_ns: u64) {
        if let Some(epoch) = &mut self.epoch {
            epoch.start = epoch.start.add_nanos(idle_ns);
            epoch.last_ack = epoch.last_ack.add_nanos(idle_ns);
        }
    }
}

fn hundredths(bytes: u32, count: u32) -> u32 {
    u32::try_from(u64::from(bytes) * u64::from(count) / 100).unwrap_or(u32::MAX)
}

impl Epoch {
    fn new(now: Instant, cwnd: u32, w_max: u32, mss: u32) -> Epoch {
        let (k_ms, origin) = if cwnd < w_max { (k_ms(w_max - cwnd, mss), w_max) } else { (0, cwnd) };
        // RFC 9438 4.3: what W_max was before fast convergence is forgotten; it errs towards growing slower.
        Epoch {
            start: now,
            last_ack: now,
            k_ms,
            origin,
            w_est: cwnd,
            cwnd_prior: w_max,
            owed: 0,
            est_owed: 0,
        }
    }

    /// W_cubic(t) = C (t - K)^3 + origin, with C = 0.4 segments per second cubed (RFC 9438 4.2).
    fn window_at(&self, at_ms: u64, mss: u32) -> u32 {
        // Beyond these 100 s the window is at any limit; below them nothing overflows.
        let distance_ms = at_ms.abs_diff(self.k_ms).min(100_000);
        let cube = u128::from(distance_ms).pow(3);
        let offset = u32::try_from(cube * 4 * u128::from(mss) / 10_000_000_000).unwrap_or(u32::MAX);
        if at_ms < self.k_ms {
            self.origin.saturating_sub(offset)
        } else {
            self.origin.saturating_add(offset)
        }
    }

    /// W_est (RFC 9438 4.3): alpha_cubic segments per round trip, one from the old window on.
    fn grow_estimate(&mut self, cwnd: u32, acked_bytes: u32, mss: u32) -> u32 {
        // 3 (1 - beta) / (1 + beta), in hundredths.
        let alpha_hundredths = if self.w_est < self.cwnd_prior { 53 } else { 100 };
        self.est_owed += u64::from(acked_bytes) * u64::from(mss) * alpha_hundredths;
        let unit = u64::from(cwnd.max(1)) * 100;
        let grown = self.est_owed / unit;
        self.est_owed %= unit;
        self.w_est = self.w_est.saturating_add(u32::try_from(grown).unwrap_or(u32::MAX)).min(MAX_CWND);
        self.w_est
    }
}

/// K = cbrt((W_max - cwnd) / C) (RFC 9438 4.2): milliseconds.
fn k_ms(missing_bytes: u32, mss: u32) -> u64 {
    // (segments / 0.4) seconds cubed, in milliseconds cubed.
    let cube = u64::from(missing_bytes) * 2_500_000_000 / u64::from(mss.max(1));
    cube_root(cube)
}

/// The largest number whose cube is not above `value`.
fn cube_root(value: u64) -> u64 {
    let mut root = 0;
    // 21 bits: the cube root of 2^63.
    for bit in (0..21).rev() {
        let next = root | 1 << bit;
        let cube: u64 = next * next * next;
        if cube <= value {
            root = next;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeqNum;

    const MSS: u16 = 1000;

    fn acked(now: Instant, bytes: u32, flight_bytes: u32) -> Acked {
        Acked {
            bytes,
            flight_bytes,
            mss: MSS,
            rtt_us: Some(100_000),
            srtt_us: 100_000,
            now,
            una: SeqNum(0),
            nxt: SeqNum(flight_bytes),
            after_timeout: false,
            is_echoed: false,
            is_limited: true,
        }
    }

    #[test]
    fn cube_roots() {
        for value in [0, 1, 7, 8, 26, 27, 1_000_000, 999_999_999_999] {
            let root = cube_root(value);
            assert!(root.pow(3) <= value && (root + 1).pow(3) > value, "{value}: {root}");
        }
    }

    /// Acknowledges whole windows, a round trip of 100 ms each, for `rounds` of them; the window after each.
    fn run(cubic: &mut Cubic, window: &mut Window, from: Instant, rounds: u64) -> std::vec::Vec<u32> {
        let round = |cubic: &mut Cubic, window: &mut Window, number: u64| {
            let now = from.add_nanos(number * 100_000_000);
            let flight = window.cwnd;
            for _ in 0..flight / u32::from(MSS) {
                cubic.on_ack(window, &acked(now, u32::from(MSS), flight));
            }
            window.cwnd
        };
        (0..rounds).map(|number| round(cubic, window, number)).collect()
    }

    #[test]
    fn after_a_loss_the_window_is_seven_tenths_and_comes_back_in_k() {
        let mut cubic = Cubic::default();
        let mut window = Window { cwnd: 1_000_000, ssthresh: 1_000_000 };
        cubic.on_loss(&mut window, 1_000_000, MSS);
        assert_eq!((window.cwnd, window.ssthresh), (700_000, 700_000));
        // K = cbrt(300 segments / 0.4) = 9.086 s: 91 rounds of 100 ms.
        let windows = run(&mut cubic, &mut window, Instant::from_secs(1), 130);
        assert!(windows[85] > 985_000 && windows[85] <= 1_001_000, "{}", windows[85]);
        assert!(windows[10] - windows[0] > windows[90] - windows[80], "concave up to the plateau");
        assert!(windows[129] - windows[119] > windows[95] - windows[85], "convex beyond it");
    }

    /// RFC 9438 4.3, 4.4: what is less than a byte is owed, however small the pieces in which a window is acknowledged.
    #[test]
    fn many_small_acknowledgements_grow_the_window_as_one_does() {
        let start = Instant::from_secs(1);
        let mut cubic = Cubic::default();
        let mut before = Window { cwnd: 1_000_000, ssthresh: 1_000_000 };
        cubic.on_loss(&mut before, 1_000_000, MSS);
        cubic.on_ack(&mut before, &acked(start, 1000, 700_000));
        // Below the plateau by 90 segments: a third of a byte for each byte.
        let at = start.add_nanos(3_000_000_000);
        let (mut whole, mut parts) = (before, before);
        cubic.clone().on_ack(&mut whole, &acked(at, 1000, 700_000));
        for _ in 0..1000 {
            cubic.on_ack(&mut parts, &acked(at, 1, 700_000));
        }
        assert!(whole.cwnd - before.cwnd > 250, "{}", whole.cwnd - before.cwnd);
        assert!(whole.cwnd.abs_diff(parts.cwnd) <= 1, "{whole:?} {parts:?}");
        let mut epoch = Epoch::new(start, 700_000, 1_000_000, MSS.into());
        for _ in 0..1000 {
            epoch.grow_estimate(700_000, 700, MSS.into());
        }
        assert_eq!(epoch.w_est, 700_530, "alpha_cubic segments in a window");
    }

    #[test]
    fn a_second_loss_below_the_plateau_lowers_it() {
        let mut cubic = Cubic::default();
        let mut window = Window { cwnd: 1_000_000, ssthresh: 1_000_000 };
        cubic.on_loss(&mut window, 1_000_000, MSS);
        cubic.on_loss(&mut window, 700_000, MSS);
        assert_eq!(cubic.w_max, 595_000, "0.85 of 700,000");
    }

    #[test]
    fn two_segments_are_the_least_threshold() {
        let mut window = Window { cwnd: 2_000, ssthresh: 2_000 };
        Cubic::default().on_loss(&mut window, 1_000, MSS);
        assert_eq!((window.cwnd, window.ssthresh), (2_000, 2_000));
    }

    /// RFC 9438 4.4: the target is where the function will be in a round trip.
    #[test]
    fn a_window_of_acknowledgements_brings_the_window_of_a_round_trip_later() {
        let mut cubic = Cubic::default();
        let mut window = Window { cwnd: 1_000_000, ssthresh: 1_000_000 };
        cubic.on_loss(&mut window, 1_000_000, MSS);
        cubic.on_ack(&mut window, &acked(Instant::from_secs(1), 1_000, 700_000));
        let epoch = cubic.epoch.expect("it has begun");
        window.cwnd = epoch.window_at(2_000, 1_000);
        let whole = acked(Instant::from_secs(3), window.cwnd, window.cwnd);
        cubic.on_ack(&mut window, &whole);
        assert_eq!(window.cwnd, epoch.window_at(2_100, 1_000));
    }

    /// RFC 9438 4.4: however far the function has got meanwhile, half as much again in a round trip.
    #[test]
    fn the_window_grows_by_half_in_a_round_trip_at_most() {
        let mut cubic = Cubic::default();
        let mut window = Window { cwnd: 100_000, ssthresh: 100_000 };
        cubic.on_loss(&mut window, 100_000, MSS);
        cubic.on_ack(&mut window, &acked(Instant::from_secs(1), 1_000, 70_000));
        window.cwnd = 70_000;
        let whole = acked(Instant::from_secs(61), 70_000, 70_000);
        cubic.on_ack(&mut window, &whole);
        assert_eq!(window.cwnd, 105_000);
    }

    /// RFC 9438 4.8: however old the last epoch, growth starts anew below what was in flight, and levels off there.
    #[test]
    fn a_timeout_begins_a_new_epoch() {
        let mut cubic = Cubic::default();
        let mut window = Window { cwnd: 1_000_000, ssthresh: 1_000_000 };
        cubic.on_loss(&mut window, 1_000_000, MSS);
        run(&mut cubic, &mut window, Instant::from_secs(1), 20);
        window.cwnd = 1_000_000;
        cubic.on_timeout(&mut window, 1_000_000, MSS);
        assert_eq!((window.cwnd, window.ssthresh), (1000, 700_000));
        window.cwnd = window.ssthresh;
        let windows = run(&mut cubic, &mut window, Instant::from_secs(1000), 100);
        assert!(windows[0] < 715_000, "{}", windows[0]);
        assert!(windows[10] - windows[0] > windows[90] - windows[80], "concave up to the plateau");
    }

    #[test]
    fn small_windows_grow_at_least_as_reno_would() {
        let mut cubic = Cubic::default();
        let mut window = Window { cwnd: 10_000, ssthresh: 10_000 };
        cubic.on_loss(&mut window, 10_000, MSS);
        let windows = run(&mut cubic, &mut window, Instant::from_secs(1), 10);
        // Half a segment per round trip from 7 segments on.
        assert!((11_000..=13_500).contains(&windows[9]), "{windows:?}");
    }

    #[test]
    fn an_application_that_sends_less_does_not_age_the_window() {
        let mut cubic = Cubic::default();
        let mut window = Window { cwnd: 100_000, ssthresh: 100_000 };
        cubic.on_loss(&mut window, 100_000, MSS);
        let before = window.cwnd;
        for second in 1..100 {
            let idle = Acked { is_limited: false, ..acked(Instant::from_secs(second), 1000, 1000) };
            cubic.on_ack(&mut window, &idle);
        }
        assert_eq!(window.cwnd, before);
        cubic.on_ack(&mut window, &acked(Instant::from_secs(100), 1000, before));
        assert!(window.cwnd < before + 1000, "a hundred seconds of silence are no growth");
    }

    /// The same rounds with and without a pause of a minute: the pause leaves no trace.
    #[test]
    fn time_in_which_nothing_is_in_flight_does_not_age_the_window() {
        let grown = |pause_ns: u64, is_told: bool| {
            let mut cubic = Cubic::default();
            let mut window = Window { cwnd: 100_000, ssthresh: 100_000 };
            cubic.on_loss(&mut window, 100_000, MSS);
            run(&mut cubic, &mut window, Instant::from_secs(1), 10);
            if is_told {
                cubic.on_idle(pause_ns);
            }
            let again = Instant::from_secs(2).add_nanos(pause_ns);
            run(&mut cubic, &mut window, again, 10);
            window.cwnd
        };
        const MINUTE_NS: u64 = 60_000_000_000;
        assert_eq!(grown(MINUTE_NS, true), grown(0, true));
        assert!(grown(MINUTE_NS, false) > 2 * grown(0, true), "else it would grow for the minute at once");
        // Told of by acknowledgements too, a pause does not count twice: time never goes back behind the last of them.
        let mut cubic = Cubic::default();
        let mut window = Window { cwnd: 100_000, ssthresh: 100_000 };
        cubic.on_loss(&mut window, 100_000, MSS);
        run(&mut cubic, &mut window, Instant::from_secs(1), 10);
        let epoch = cubic.epoch.expect("one is under way");
        cubic.on_idle(MINUTE_NS);
        let again = epoch.last_ack.add_nanos(MINUTE_NS + 1_000);
        let short = Acked { is_limited: false, ..acked(again, 1000, 1000) };
        cubic.on_ack(&mut window, &short);
        let moved = cubic.epoch.expect("the same").start.nanos_since(epoch.start);
        assert_eq!(moved, MINUTE_NS + 1_000);
    }

    #[test]
    fn a_rising_round_trip_time_ends_slow_start() {
        let mut cubic = Cubic::default();
        let mut window = Window::initial(MSS, 10);
        let (mut una, mut rtt_us, mut rounds) = (0_u32, 20_000, 0_u32);
        while window.in_slow_start() && rounds < 40 {
            rounds += 1;
            let flight = window.cwnd;
            for segment in 1..=flight / u32::from(MSS) {
                let ack = Acked {
                    rtt_us: Some(rtt_us),
                    una: SeqNum(una + segment * u32::from(MSS)),
                    nxt: SeqNum(una + 2 * flight),
                    ..acked(Instant::from_millis(u64::from(rounds) * 20), u32::from(MSS), flight)
                };
                cubic.on_ack(&mut window, &ack);
            }
            una += flight;
            // The queue builds up from 64 segments on.
            rtt_us = 20_000 + 200 * (window.cwnd / u32::from(MSS)).saturating_sub(64);
        }
        assert!(!window.in_slow_start(), "it never ended: {window:?}");
        assert!(window.cwnd < 1_000_000, "{window:?} after {rounds} rounds");
    }
}
