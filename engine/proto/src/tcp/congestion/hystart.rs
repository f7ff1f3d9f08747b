//! HyStart++ (RFC 9406): leaves slow start when round-trip times rise, before packets are lost.

use super::{Acked, Window};
use crate::SeqNum;

/// RFC 9406 4.2, with its recommended constants; times in microseconds.
const MIN_RTT_THRESH_US: u32 = 4_000;
const MAX_RTT_THRESH_US: u32 = 16_000;
const MIN_RTT_DIVISOR: u32 = 8;
const RTT_SAMPLES: u32 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u8 = 5;

/// The state of one slow start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HyStart {
    /// The round ends when this is acknowledged; none before the first acknowledgement.
    window_end: Option<SeqNum>,
    /// Smallest samples of the last and of this round; `None`: no sample.
    last_min_rtt_us: Option<u32>,
    min_rtt_us: Option<u32>,
    samples: u32,
    conservative: Option<Conservative>,
}

/// Conservative slow start: perhaps the exit was too early.
#[derive(Debug, Clone, Copy)]
struct Conservative {
    /// What the smallest round-trip time was when it began.
    baseline_us: u32,
    rounds_left: u8,
}

impl HyStart {
    /// One acknowledgement in slow start.
    pub(super) fn on_ack(&mut self, window: &mut Window, acked: &Acked) {
        if !window.is_worth_growing(acked) {
            // No queue is built: what its round trips say is no reason to leave slow start.
            return;
        }
        self.note_round(acked);
        if let Some(rtt_us) = acked.rtt_us {
            self.min_rtt_us = Some(self.min_rtt_us.map_or(rtt_us, |least| least.min(rtt_us)));
            self.samples = self.samples.saturating_add(1);
        }
        let enough = self.samples >= RTT_SAMPLES;
        match (self.conservative, self.min_rtt_us, self.last_min_rtt_us) {
            (None, Some(min_us), Some(last_us)) if enough => {
                let threshold_us = (last_us / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH_US, MAX_RTT_THRESH_US);
                if min_us >= last_us.saturating_add(threshold_us) {
                    self.conservative = Some(Conservative { baseline_us: min_us, rounds_left: CSS_ROUNDS });
                }
            }
            (Some(css), Some(min_us), _) if enough && min_us < css.baseline_us => self.conservative = None,
            _ => {}
        }
        window.grow_slow_start(acked, if self.conservative.is_some() { CSS_GROWTH_DIVISOR } else { 1 });
        if self.conservative.is_some_and(|css| css.rounds_left == 0) {
            window.ssthresh = window.cwnd;
        }
    }

    /// A round is what was in flight when it began.
    fn note_round(&mut self, acked: &Acked) {
        let is_over = match self.window_end {
            None => true,
            Some(end) => acked.una.after_eq(end),
        };
        if !is_over {
            return;
        }
        if self.window_end.is_some()
            && let Some(css) = &mut self.conservative
        {
            css.rounds_left = css.rounds_left.saturating_sub(1);
        }
        self.window_end = Some(acked.nxt);
        self.last_min_rtt_us = self.min_rtt_us.take();
        self.samples = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;

    const MSS: u32 = 1000;

    /// A slow start of ten segments.
    struct Rig {
        state: HyStart,
        window: Window,
        una: u32,
    }

    impl Rig {
        fn new() -> Rig {
            Rig { state: HyStart::default(), window: Window { cwnd: 10 * MSS, ssthresh: u32::MAX }, una: 0 }
        }

        /// Acknowledges a window segment by segment; by how much the window has grown.
        fn round(&mut self, rtt_us: u32) -> f64 {
            let before = self.window.cwnd;
            let segs = before / MSS;
            self.acknowledge(rtt_us, segs, segs);
            self.una += segs * MSS;
            f64::from(self.window.cwnd) / f64::from(before)
        }

        /// The first `count` of a window of `segs`.
        fn acknowledge(&mut self, rtt_us: u32, segs: u32, count: u32) {
            for seg in 1..=count {
                let acked = Acked {
                    bytes: MSS,
                    flight_bytes: segs * MSS,
                    mss: MSS as u16,
                    rtt_us: Some(rtt_us),
                    srtt_us: rtt_us,
                    now: Instant::ZERO,
                    una: SeqNum(self.una + seg * MSS),
                    // Each one lets at least one segment go.
                    nxt: SeqNum(self.una + (segs + seg - 1) * MSS),
                    after_timeout: false,
                    is_echoed: false,
                    is_limited: true,
                };
                self.state.on_ack(&mut self.window, &acked);
            }
        }

        /// Round trips that grow, until slow start becomes conservative.
        fn become_conservative(&mut self) {
            (0..2).for_each(|_| assert_eq!(self.round(20_000), 2.0));
            let rounds = (0..3).take_while(|_| {
                self.round(40_000);
                self.state.conservative.is_none()
            });
            assert!(rounds.count() < 3 && self.window.in_slow_start());
        }
    }

    #[test]
    fn an_eighth_more_is_conservative_but_four_milliseconds_at_least_and_sixteen_at_most() {
        // RFC 9406 4.2
        for (before_us, rise_us) in [(80_000, 10_000), (20_000, 4_000), (200_000, 16_000)] {
            for (rtt_us, is_conservative) in [(before_us + rise_us - 1, false), (before_us + rise_us, true)] {
                let mut rig = Rig::new();
                rig.round(before_us);
                rig.round(rtt_us);
                assert_eq!(rig.state.conservative.is_some(), is_conservative, "{before_us} {rtt_us}");
            }
        }
    }

    #[test]
    fn seven_samples_of_a_round_are_too_few() {
        // The last acknowledgement of the first window began a round, which lasts for nine.
        for (count, is_conservative) in [(8 + 7, false), (8 + 8, true)] {
            let mut rig = Rig::new();
            rig.round(20_000);
            rig.acknowledge(40_000, 20, count);
            assert_eq!(rig.state.conservative.is_some(), is_conservative, "{count}");
        }
    }

    #[test]
    fn five_conservative_rounds_end_slow_start() {
        let mut rig = Rig::new();
        rig.become_conservative();
        let mut rounds = 0;
        while rig.window.in_slow_start() {
            rounds += 1;
            let grown = rig.round(40_000);
            assert!(!rig.window.in_slow_start() || (1.2..=1.3).contains(&grown), "round {rounds}: {grown}");
        }
        // The one in which it began was not whole.
        assert!((4..=5).contains(&rounds), "{rounds}");
        assert_eq!(rig.window.ssthresh, rig.window.cwnd);
    }

    #[test]
    fn a_round_trip_time_that_falls_again_resumes_slow_start() {
        let mut rig = Rig::new();
        rig.become_conservative();
        rig.round(20_000);
        assert!(rig.state.conservative.is_none());
        for _ in 0..3 {
            assert!(rig.round(20_000) > 1.9);
        }
        assert!(rig.window.in_slow_start());
    }
}
