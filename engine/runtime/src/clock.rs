//! Time: the one place where the engine reads a clock, once per turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringwire_proto::time::Instant;

/// Where a worker gets the time from.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Monotonic,
    Manual(Arc<AtomicU64>),
}

impl Default for Clock {
    fn default() -> Clock {
        Clock(Source::Monotonic)
    }
}

impl Clock {
    /// A clock that stands still until [`ManualClock::advance`] moves it: simulation and tests.
    pub fn manual() -> (Clock, ManualClock) {
        let now_ns = Arc::new(AtomicU64::new(1));
        (Clock(Source::Manual(Arc::clone(&now_ns))), ManualClock { now_ns })
    }

    /// `CLOCK_MONOTONIC`, or what the test has set. One vDSO call.
    pub(crate) fn now(&self) -> Instant {
        match &self.0 {
            Source::Monotonic => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                // Monotonic time is never negative (clock_gettime(2)), and 2^64 ns are 584 years of uptime.
                Instant::from_nanos(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
            }
            // Relaxed: the value is all there is; the worker reads it once per turn.
            Source::Manual(now_ns) => Instant::from_nanos(now_ns.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }
}

/// The hand on a manual [`Clock`]. Clones move the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now_ns: Arc<AtomicU64>,
}

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by_ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX / 2);
        // Relaxed: see `Clock::now`.
        self.now_ns.fetch_add(by_ns, Ordering::Relaxed);
    }

    /// The time now, in nanoseconds since the clock was made.
    pub fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }
}
