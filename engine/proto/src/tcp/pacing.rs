//! Pacing: segments leave at a rate instead of all at once.
//!
//! Each segment takes its time at the rate; the next one leaves when that has passed. A timer that is late, as the worker's wheel is
//! by up to a tick of 131 us and a turn, would cost rate, so time that was not used is made good up to [`CREDIT_NS`]: after a pause at
//! most that much time's worth and one segment leave in a burst. While it waits, the connection asks for nothing but its deadline.

use super::cold::Cold;
use super::tcb::{Bits, Tcb};
use super::{Config, Cx, Pacing, SendPool};
use crate::Instant;

/// The longest burst: a millisecond at the rate, which a worker in ordinary load is not late by. At low rates it is one segment.
const CREDIT_NS: u64 = 1_000_000;

/// Fractions of a nanosecond in [`Pacer::byte_ns`].
const FRACTION_BITS: u32 = 16;

/// When a connection may send next; in its cold part.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pacer {
    /// Bytes per second; 0: it does not wait.
    rate: u64,
    /// What a byte takes: nanoseconds, with a fraction. A division for each change of the rate, none for each segment.
    byte_ns: u64,
    /// Before this nothing leaves.
    next_at: Instant,
    is_waiting: bool,
}

impl Pacer {
    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    pub(super) fn set_rate(&mut self, bytes_per_second: u64, now: Instant) {
        if self.rate != bytes_per_second {
            let byte_ns = (1_000_000_000_u64 << FRACTION_BITS).checked_div(bytes_per_second).unwrap_or(0);
            if self.rate > 0 && self.next_at > now.add_nanos(CREDIT_NS) {
                self.stretch_wait(byte_ns, now);
            }
            (self.rate, self.byte_ns) = (bytes_per_second, byte_ns);
        }
    }

    /// What is left of a long wait takes its time at the new rate.
    #[cold]
    fn stretch_wait(&mut self, byte_ns: u64, now: Instant) {
        let left_ns = u128::from(self.next_at.nanos_since(now));
        let stretched_ns = left_ns * u128::from(byte_ns) / u128::from(self.byte_ns.max(1));
        self.next_at = now.add_nanos(u64::try_from(stretched_ns).unwrap_or(u64::MAX));
    }

    /// `len` bytes leave now.
    #[inline]
    pub(super) fn on_sent(&mut self, len: u32, now: Instant) {
        if self.rate > 0 {
            let earliest = Instant::from_nanos(now.as_nanos().saturating_sub(CREDIT_NS));
            let took_ns = u64::from(len).saturating_mul(self.byte_ns) >> FRACTION_BITS;
            self.next_at = self.next_at.max(earliest).add_nanos(took_ns);
        }
    }
}

/// For algorithms that only keep a window: so many hundredths of it in a round trip, so that pacing never is what limits (as Linux
/// does): more in slow start, where the window doubles meanwhile.
const SLOW_START_HUNDREDTHS: u64 = 200;
const AVOIDANCE_HUNDREDTHS: u64 = 120;

/// [`Pacing::Auto`]: what leaves at once. Three times the initial window that RFC 6928 found harmless, and what a short answer needs.
const AUTO_BURST_SEGS: u32 = 32;
/// [`Pacing::Auto`]: from here on a round trip has room for some forty ticks of the worker's wheel.
const AUTO_SRTT_US: u32 = 5_000;

impl Tcb {
    /// Whether its window, or what its model gives, is spread over the round trip.
    #[inline]
    pub(super) fn is_spread(&self, config: &Config) -> bool {
        if config.congestion.is_model() {
            return true;
        }
        let srtt_us = self.rtt.srtt_us();
        match config.pacing {
            Pacing::Off => false,
            Pacing::Auto => {
                srtt_us >= AUTO_SRTT_US && self.window.cwnd > AUTO_BURST_SEGS * u32::from(self.mss)
            }
            Pacing::On => srtt_us > 0,
        }
    }

    /// Whether the next segment has to wait for its time; then the timer brings it.
    #[inline]
    pub(super) fn is_paced_out<P, S>(
        &mut self,
        cold: &mut Cold<P, S>,
        config: &Config,
        now: Instant,
    ) -> bool {
        if cold.pacer.rate == 0 || cold.pacer.next_at <= now {
            return false;
        }
        if !self.is_spread(config) {
            cold.pacer.set_rate(0, now);
            return false;
        }
        cold.pacer.is_waiting = true;
        self.keepalive_at = self.keepalive_at.min(cold.pacer.next_at);
        true
    }

    /// The deadline that the pacer shares with keepalive has come: what waited may go.
    pub(super) fn on_pace_timer<P, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        if let Some(cold) = cx.cold.get_mut(self.cold)
            && cold.pacer.is_waiting
            && cold.pacer.next_at <= cx.now
        {
            cold.pacer.is_waiting = false;
            self.flags.set(Bits::TX_DATA.or(Bits::TX_RTX));
        }
    }

    /// Bytes per second at which segments leave, if they do.
    pub(super) fn pacing_rate<P, S>(&self, cold: &Cold<P, S>, config: &Config) -> Option<u64> {
        (self.is_spread(config) && cold.pacer.rate > 0).then_some(cold.pacer.rate)
    }

    /// When the pacer wants to be called, if it waits.
    pub(super) fn pace_deadline<P, A: SendPool>(&self, cx: &Cx<'_, P, A>) -> Option<Instant> {
        cx.cold.get(self.cold).filter(|cold| cold.pacer.is_waiting).map(|cold| cold.pacer.next_at)
    }

    /// The rate of an algorithm that only keeps a window, once the round trip has been measured.
    pub(super) fn pace_by_window<P, S>(&self, cold: &mut Cold<P, S>, now: Instant) {
        let srtt_us = u64::from(self.rtt.srtt_us().max(1));
        let hundredths =
            if self.window.in_slow_start() { SLOW_START_HUNDREDTHS } else { AVOIDANCE_HUNDREDTHS };
        let window = u64::from(self.window.cwnd.max(self.flight()));
        cold.pacer.set_rate((window * hundredths * 10_000 / srtt_us).max(1), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_us(micros: u64) -> Instant {
        Instant::from_micros(1_000_000 + micros)
    }

    #[test]
    fn segments_leave_at_the_rate_after_a_burst_of_a_millisecond() {
        let mut pacer = Pacer::default();
        // 1500 bytes take 120 us.
        pacer.set_rate(12_500_000, at_us(0));
        let mut burst = 0;
        while pacer.next_at <= at_us(0) {
            pacer.on_sent(1500, at_us(0));
            burst += 1;
        }
        assert_eq!(burst, 9, "a millisecond's worth, begun");
        let mut sent = 0_u64;
        for us in (131..1_000_000).step_by(131) {
            while pacer.next_at <= at_us(us) {
                pacer.on_sent(1500, at_us(us));
                sent += 1500;
            }
        }
        assert!((12_490_000..=12_510_000).contains(&sent), "{sent}: a late timer costs nothing");
    }

    #[test]
    fn at_a_low_rate_it_is_one_segment_at_a_time() {
        let mut pacer = Pacer::default();
        pacer.set_rate(15_000, at_us(0));
        pacer.on_sent(1500, at_us(0));
        assert!(pacer.next_at > at_us(98_000), "{:?}", pacer.next_at);
    }

    #[test]
    fn what_is_left_of_a_wait_takes_its_time_at_a_new_rate() {
        let mut pacer = Pacer::default();
        pacer.set_rate(10, at_us(0));
        pacer.on_sent(1500, at_us(1_000));
        assert_eq!(pacer.next_at, at_us(150_000_000), "with the credit of a millisecond");
        // A third of the wait is over.
        for (rate, left_us) in [(5, 200_000_000), (10, 100_000_000), (10_000, 100_000), (1_000_000, 1_000)] {
            pacer.set_rate(rate, at_us(50_000_000));
            assert_eq!(pacer.next_at, at_us(50_000_000 + left_us), "{rate}");
        }
        // That is no longer than a burst may be.
        pacer.set_rate(10, at_us(50_000_000));
        assert_eq!(pacer.next_at, at_us(50_001_000));
    }

    #[test]
    fn the_slowest_and_the_fastest_rates_neither_overflow_nor_stop() {
        for rate in [1, 1_000, u64::from(u32::MAX), u64::MAX] {
            let mut pacer = Pacer::default();
            pacer.set_rate(rate, at_us(0));
            for _ in 0..100 {
                pacer.on_sent(65_535, at_us(0));
            }
            assert!(pacer.next_at >= at_us(0) - core::time::Duration::from_millis(1));
        }
    }
}
