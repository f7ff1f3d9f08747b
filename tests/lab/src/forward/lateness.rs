//! How much later than due packets left.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Lateness of one direction since its impairment was set: the time from when a packet was due (its arrival, and the delay
/// asked for) to when it was handed to the receiving interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lateness {
    /// Packets measured.
    pub count: u64,
    /// Half of them were no later than this.
    pub p50: Duration,
    /// 99 % were no later.
    pub p99: Duration,
    /// 99.9 % were no later.
    pub p999: Duration,
    /// The worst.
    pub max: Duration,
}

impl Lateness {
    pub(super) fn of(histogram: &Histogram<u64>) -> Lateness {
        let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
        Lateness {
            count: histogram.len(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_nanos(histogram.max()),
        }
    }
}

/// Up to a minute, three digits.
pub(super) fn histogram() -> Histogram<u64> {
    const MAX_NS: u64 = 60_000_000_000;
    const DIGITS: u8 = 3;
    Histogram::new_with_max(MAX_NS, DIGITS).expect("the bounds are constant and valid")
}
