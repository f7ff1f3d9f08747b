//! Keeps the time of a run and what was counted in it.
//!
//! A run has three parts: opening (until every asker has had its first answer), warm-up, and the
//! measured window. Only the window is reported. One clock read a turn stamps everything in that turn:
//! answers at the moment the turn found them, the next requests likewise, so that the generator's own
//! work counts into the latency and never out of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::cpu::{CoreUse, Snapshot};
use crate::report::{Errors, Interval, Latency};
use crate::scenario::Scenario;

/// What went wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server's host said that nothing listens.
    Refused,
    /// No answer, or no connection, in time.
    Timeout,
    /// The connection ended before or inside the answer.
    Reset,
    /// The answer was too short.
    Short,
    /// The answer was not the request.
    Corrupt,
}

/// How the caller watches a run and ends it early.
pub struct Watch<'a> {
    /// Set from a signal's flag or another thread; what was measured until then is kept.
    pub stop: &'a AtomicBool,
    /// Called after each interval of the window.
    pub on_interval: &'a mut dyn FnMut(&Interval),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    WarmUp,
    Window,
    Over,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Complete,
    Interrupted,
}

/// What the measured window holds.
pub struct Measured {
    pub ended: Ended,
    pub duration_ns: u64,
    pub requests: u64,
    pub latency: Latency,
    pub loop_gap: Latency,
    pub errors: Errors,
    pub late_answers: u64,
    pub cores: Vec<CoreUse>,
    pub intervals: Vec<Interval>,
}

pub(crate) struct Meter<'a> {
    watch: Watch<'a>,
    clock: Instant,
    warmup_ns: u64,
    window_ns: u64,
    interval_ns: u64,
    requests_wanted: u64,
    phase: Phase,
    ended: Ended,
    /// The next moment at which a turn has more to do than to go on.
    edge_ns: u64,
    window_from_ns: u64,
    window_to_ns: u64,
    interval_from_ns: u64,
    turned_ns: u64,
    requests: u64,
    late_answers: u64,
    errors: Errors,
    interval_errors: u64,
    total: Histogram<u64>,
    interval: Histogram<u64>,
    loop_gap: Histogram<u64>,
    cpu_from: Option<Snapshot>,
    cores: Vec<CoreUse>,
    intervals: Vec<Interval>,
}

/// Latencies beyond this are recorded as this.
const LATENCY_MAX_NS: u64 = 120_000_000_000;

fn histogram() -> Histogram<u64> {
    // Constant bounds, which the crate accepts: 1 <= low, 2 * low <= high, digits <= 5.
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("constant bounds are valid")
}

impl<'a> Meter<'a> {
    pub(crate) fn new(scenario: &Scenario, watch: Watch<'a>) -> Meter<'a> {
        Meter {
            watch,
            clock: Instant::now(),
            warmup_ns: scenario.warmup.as_nanos() as u64,
            window_ns: scenario.duration.as_nanos() as u64,
            interval_ns: scenario.interval.as_nanos() as u64,
            requests_wanted: scenario.requests.unwrap_or(u64::MAX),
            phase: Phase::Opening,
            ended: Ended::Complete,
            edge_ns: u64::MAX,
            window_from_ns: 0,
            window_to_ns: 0,
            interval_from_ns: 0,
            turned_ns: 0,
            requests: 0,
            late_answers: 0,
            errors: Errors::default(),
            interval_errors: 0,
            total: histogram(),
            interval: histogram(),
            loop_gap: histogram(),
            cpu_from: None,
            cores: Vec::new(),
            intervals: Vec::new(),
        }
    }

    /// Reads the clock: nanoseconds since the run began.
    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Every asker has had an answer: the warm-up begins.
    pub(crate) fn opened(&mut self, now_ns: u64) {
        if self.phase == Phase::Opening {
            self.phase = Phase::WarmUp;
            self.edge_ns = now_ns + self.warmup_ns;
        }
    }

    pub(crate) fn is_opening(&self) -> bool {
        self.phase == Phase::Opening
    }

    /// Once a turn; `false` ends the run.
    pub(crate) fn turn(&mut self, now_ns: u64) -> bool {
        if self.phase == Phase::Window {
            self.loop_gap.saturating_record(now_ns - self.turned_ns);
        }
        self.turned_ns = now_ns;
        // Relaxed: nothing else is published with the flag.
        if self.watch.stop.load(Ordering::Relaxed) {
            self.ended = Ended::Interrupted;
            self.close(now_ns);
        } else if now_ns >= self.edge_ns || self.requests >= self.requests_wanted {
            self.cross(now_ns);
        }
        self.phase != Phase::Over
    }

    /// An answer came, whole and right.
    pub(crate) fn complete(&mut self, latency_ns: u64) {
        if self.phase == Phase::Window {
            self.requests += 1;
            self.interval.saturating_record(latency_ns);
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        if self.phase == Phase::Window {
            self.errors.count(fault);
            self.interval_errors += 1;
        }
    }

    /// An answer to a request that had been given up.
    pub(crate) fn late_answer(&mut self) {
        if self.phase == Phase::Window {
            self.late_answers += 1;
        }
    }

    pub(crate) fn finish(self) -> Measured {
        Measured {
            ended: self.ended,
            duration_ns: self.window_to_ns - self.window_from_ns,
            requests: self.requests,
            latency: Latency::of(&self.total),
            loop_gap: Latency::of(&self.loop_gap),
            errors: self.errors,
            late_answers: self.late_answers,
            cores: self.cores,
            intervals: self.intervals,
        }
    }

    #[cold]
    fn cross(&mut self, now_ns: u64) {
        match self.phase {
            Phase::Opening | Phase::Over => {}
            Phase::WarmUp => {
                self.phase = Phase::Window;
                self.cpu_from = Snapshot::read().ok();
                self.window_from_ns = now_ns;
                self.interval_from_ns = now_ns;
                self.edge_ns = now_ns + self.interval_ns.min(self.window_ns);
            }
            Phase::Window => {
                let window_end_ns = self.window_from_ns + self.window_ns;
                if now_ns >= window_end_ns || self.requests >= self.requests_wanted {
                    self.close(now_ns);
                } else {
                    self.close_interval(now_ns);
                    self.edge_ns = (now_ns + self.interval_ns).min(window_end_ns);
                }
            }
        }
    }

    #[cold]
    fn close(&mut self, now_ns: u64) {
        if self.phase == Phase::Window {
            self.window_to_ns = now_ns;
            self.close_interval(now_ns);
            if let (Some(from), Ok(to)) = (&self.cpu_from, Snapshot::read()) {
                self.cores = from.until(&to);
            }
        }
        self.phase = Phase::Over;
    }

    fn close_interval(&mut self, now_ns: u64) {
        let interval = Interval {
            t_ns: now_ns - self.window_from_ns,
            length_ns: now_ns - self.interval_from_ns,
            requests: self.interval.len(),
            p50: self.interval.value_at_quantile(0.5),
            p99: self.interval.value_at_quantile(0.99),
            max: self.interval.max(),
            errors: self.interval_errors,
        };
        // Same bounds on both sides, so nothing can fail to fit.
        self.total.add(&self.interval).expect("histograms of equal bounds");
        self.interval.reset();
        self.interval_errors = 0;
        self.interval_from_ns = now_ns;
        (self.watch.on_interval)(&interval);
        self.intervals.push(interval);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::Work;

    fn scenario() -> Scenario {
        Scenario {
            warmup: Duration::from_nanos(100),
            duration: Duration::from_nanos(1000),
            interval: Duration::from_nanos(400),
            ..Scenario::new(Work::TcpRr, ([127, 0, 0, 1], 1).into())
        }
    }

    fn measure(scenario: &Scenario, drive: impl FnOnce(&mut Meter<'_>, &AtomicBool)) -> (Measured, Vec<u64>) {
        let stop = AtomicBool::new(false);
        let mut seen = Vec::new();
        let mut on_interval = |interval: &Interval| seen.push(interval.t_ns);
        let mut meter = Meter::new(scenario, Watch { stop: &stop, on_interval: &mut on_interval });
        drive(&mut meter, &stop);
        (meter.finish(), seen)
    }

    #[test]
    fn only_the_window_counts() {
        let (measured, seen) = measure(&scenario(), |meter, _| {
            meter.complete(7);
            assert!(meter.turn(10));
            meter.opened(10);
            meter.complete(7);
            meter.fault(Fault::Reset);
            assert!(meter.turn(110));
            for now_ns in [200, 300, 520, 700, 930] {
                meter.complete(50);
                assert!(meter.turn(now_ns));
            }
            meter.fault(Fault::Timeout);
            assert!(!meter.turn(1110));
            meter.complete(50);
        });
        assert_eq!((measured.requests, measured.latency.count, measured.duration_ns), (5, 5, 1000));
        assert_eq!((measured.errors.timeout, measured.errors.reset), (1, 0));
        assert_eq!(seen, [410, 820, 1000]);
        assert_eq!(measured.intervals.iter().map(|interval| interval.requests).sum::<u64>(), 5);
        assert_eq!(measured.loop_gap.max, 230);
    }

    #[test]
    fn enough_requests_end_it_early() {
        let scenario = Scenario { requests: Some(2), ..scenario() };
        let (measured, _) = measure(&scenario, |meter, _| {
            meter.opened(0);
            assert!(meter.turn(100));
            meter.complete(5);
            assert!(meter.turn(150));
            meter.complete(5);
            assert!(!meter.turn(160));
        });
        assert_eq!((measured.requests, measured.duration_ns, measured.ended), (2, 60, Ended::Complete));
    }

    #[test]
    fn an_interrupted_window_is_kept() {
        let (measured, _) = measure(&scenario(), |meter, stop| {
            meter.opened(0);
            assert!(meter.turn(100));
            meter.complete(5);
            stop.store(true, Ordering::Relaxed);
            assert!(!meter.turn(300));
        });
        assert_eq!((measured.requests, measured.duration_ns, measured.ended), (1, 200, Ended::Interrupted));
    }
}
