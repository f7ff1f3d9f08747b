//! Round-trip time and RTO (RFC 6298).

use super::Config;
use super::config::micros;

/// The estimator: microseconds, scaled like Van Jacobson's so that the gains are shifts.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Rtt {
    /// SRTT times 8; 0 before the first sample.
    srtt_x8_us: u32,
    /// RTTVAR times 4.
    rttvar_x4_us: u32,
    rto_us: u32,
}

/// Clock granularity G (RFC 6298 2): what a turn of the worker costs at worst in ordinary load.
const GRANULARITY_US: u32 = 1_000;

/// A sample above this is a forged or ancient timestamp; also keeps the scaled fields from overflowing.
pub(super) const MAX_RTT_US: u32 = 120_000_000;

impl Rtt {
    pub(super) fn new(config: &Config) -> Self {
        // RFC 6298 (2.1)
        Self { srtt_x8_us: 0, rttvar_x4_us: 0, rto_us: micros(config.rto_initial).max(1) }
    }

    pub(super) fn has_sample(&self) -> bool {
        self.srtt_x8_us != 0
    }

    pub(super) fn srtt_us(&self) -> u32 {
        self.srtt_x8_us / 8
    }

    pub(super) fn rttvar_us(&self) -> u32 {
        self.rttvar_x4_us / 4
    }

    pub(super) fn rto_us(&self) -> u32 {
        self.rto_us
    }

    /// Takes a measurement; the caller has applied Karn's rule.
    pub(super) fn on_sample(&mut self, rtt_us: u32, config: &Config) {
        let rtt_us = rtt_us.clamp(1, MAX_RTT_US);
        if self.has_sample() {
            // RFC 6298 (2.3): RTTVAR first, with the old SRTT.
            let error_us = self.srtt_us().abs_diff(rtt_us);
            self.rttvar_x4_us = self.rttvar_x4_us - self.rttvar_x4_us / 4 + error_us;
            self.srtt_x8_us = (self.srtt_x8_us - self.srtt_x8_us / 8 + rtt_us).max(8);
        } else {
            // RFC 6298 (2.2)
            self.srtt_x8_us = rtt_us * 8;
            self.rttvar_x4_us = rtt_us * 2;
        }
        // RFC 6298 (2.3), (2.4), (2.5). The floor is that of the variation, as Linux has it: on a long path whose round trips hardly vary
        // a floor of the sum would leave no time to fill a hole whose filling is lost.
        let variation_us = self.rttvar_x4_us.max(GRANULARITY_US).max(micros(config.rto_min));
        self.rto_us = self.srtt_us().saturating_add(variation_us).min(micros(config.rto_max)).max(1);
    }

    /// The handshake was retransmitted and gave no sample: be careful with data.
    pub(super) fn on_unmeasured_handshake(&mut self, config: &Config) {
        // RFC 6298 (5.7): at least 3 s.
        self.rto_us = self.rto_us.max(3_000_000).min(micros(config.rto_max).max(1));
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn config() -> Config {
        Config { rto_min: Duration::from_millis(200), rto_max: Duration::from_secs(60), ..Config::default() }
    }

    /// SRTT, RTTVAR and RTO after these round trips, in microseconds.
    fn after(config: &Config, samples_us: &[u32]) -> (u32, u32, u32) {
        let mut rtt = Rtt::new(config);
        assert!(!rtt.has_sample());
        samples_us.iter().for_each(|sample_us| rtt.on_sample(*sample_us, config));
        assert!(rtt.has_sample());
        (rtt.srtt_us(), rtt.rttvar_us(), rtt.rto_us())
    }

    /// RFC 6298 (2.2), (2.3), with alpha = 1/8, beta = 1/4 and K = 4.
    #[test]
    fn the_timeout_is_the_round_trip_and_four_times_what_it_varies() {
        assert_eq!(after(&config(), &[100_000]), (100_000, 50_000, 300_000));
        assert_eq!(after(&config(), &[100_000, 200_000]), (112_500, 62_500, 362_500));
        assert_eq!(after(&config(), &[100_000, 20_000]), (90_000, 57_500, 320_000));
        // The variation counts as 200 ms at least.
        assert_eq!(after(&config(), &[40_000]), (40_000, 20_000, 240_000));
        assert_eq!(after(&config(), &[40_000; 100]).2, 240_000);
    }

    #[test]
    fn no_measurement_makes_it_vanish_or_run_away() {
        assert_eq!(after(&config(), &[0]), (1, 0, 200_001));
        assert_eq!(after(&config(), &[1; 50]).0, 1);
        assert_eq!(after(&config(), &[30_000_000, 30_000_000]).2, 60_000_000);
        assert!(after(&config(), &[u32::MAX; 3]).0 <= MAX_RTT_US);
    }

    /// RFC 6298 (5.7)
    #[test]
    fn after_a_handshake_without_a_measurement_it_is_three_seconds() {
        for (initial, max, expected_us) in [(1, 60, 3_000_000), (5, 60, 5_000_000), (1, 2, 2_000_000)] {
            let config = Config {
                rto_initial: Duration::from_secs(initial),
                rto_max: Duration::from_secs(max),
                ..config()
            };
            let mut rtt = Rtt::new(&config);
            assert_eq!(rtt.rto_us(), initial as u32 * 1_000_000);
            rtt.on_unmeasured_handshake(&config);
            assert_eq!(rtt.rto_us(), expected_us);
        }
    }
}
