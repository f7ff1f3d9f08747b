//! ProbeRTT: now and then the queue is drained, to see the round trip without it (draft-ietf-ccwg-bbr 5.3.4).

use super::{AckPhase, Bbr, RateSample, SECOND_NS, State, Window};
use crate::Instant;

/// BBR.ProbeRTTInterval
const INTERVAL_NS: u64 = 5 * SECOND_NS;
/// BBR.MinRTTFilterLen
const FILTER_NS: u64 = 10 * SECOND_NS;
/// BBR.ProbeRTTDuration
const DURATION_NS: u64 = SECOND_NS / 5;

/// The shortest round trip, and when to look for it again.
#[derive(Debug, Clone, Copy)]
pub(super) struct MinRtt {
    /// BBR.min_rtt; `u64::MAX` before the first measurement.
    min_ns: u64,
    min_at: Instant,
    /// BBR.probe_rtt_min_delay
    recent_ns: u64,
    recent_at: Instant,
    /// BBR.probe_rtt_expired
    is_expired: bool,
    /// BBR.probe_rtt_done_stamp
    done_at: Option<Instant>,
    is_round_done: bool,
    /// The connection's count of delivered bytes at the last sample.
    total_delivered: u64,
}

impl MinRtt {
    pub(super) fn new(now: Instant, srtt_us: u32) -> Self {
        let min_ns = if srtt_us == 0 { u64::MAX } else { u64::from(srtt_us) * 1_000 };
        Self {
            min_ns,
            min_at: now,
            recent_ns: u64::MAX,
            recent_at: now,
            is_expired: false,
            done_at: None,
            is_round_done: false,
            total_delivered: 0,
        }
    }

    pub(super) fn min_ns(&self) -> Option<u64> {
        (self.min_ns != u64::MAX).then_some(self.min_ns)
    }

    /// UpdateMinRTT
    pub(super) fn update(&mut self, rs: &RateSample) {
        self.total_delivered = rs.total_delivered;
        self.is_expired = rs.now > self.recent_at.add_nanos(INTERVAL_NS);
        if let Some(rtt_ns) = rs.rtt_ns
            && (rtt_ns < self.recent_ns || self.is_expired)
        {
            (self.recent_ns, self.recent_at) = (rtt_ns, rs.now);
        }
        if self.recent_ns < self.min_ns || rs.now > self.min_at.add_nanos(FILTER_NS) {
            (self.min_ns, self.min_at) = (self.recent_ns, self.recent_at);
        }
    }
}

impl Bbr {
    /// CheckProbeRTT
    pub(super) fn check_probe_rtt(&mut self, window: &mut Window, rs: &RateSample) {
        if self.state != State::ProbeRtt && self.rtt.is_expired && !self.is_idle_restart {
            self.save_cwnd(window);
            self.state = State::ProbeRtt;
            self.rtt.done_at = None;
            self.ack_phase = AckPhase::ProbeStopping;
            self.start_round(rs);
        }
        if self.state == State::ProbeRtt {
            self.probe_rtt(window, rs);
        }
        if rs.delivered > 0 {
            self.is_idle_restart = false;
        }
    }

    /// HandleProbeRTT
    fn probe_rtt(&mut self, window: &mut Window, rs: &RateSample) {
        if self.rtt.done_at.is_none() {
            if rs.in_flight <= self.probe_rtt_cwnd(window) {
                self.rtt.done_at = Some(rs.now.add_nanos(DURATION_NS));
                self.rtt.is_round_done = false;
                self.start_round(rs);
            }
            return;
        }
        self.rtt.is_round_done |= self.round.is_start;
        if self.rtt.is_round_done {
            self.check_probe_rtt_done(window, rs.now);
        }
    }

    /// CheckProbeRTTDone, ExitProbeRTT
    pub(super) fn check_probe_rtt_done(&mut self, window: &mut Window, now: Instant) {
        if self.rtt.done_at.is_none_or(|done_at| now <= done_at) {
            return;
        }
        self.rtt.recent_at = now;
        self.restore_cwnd(window);
        self.short.reset_bounds();
        if self.is_full_bw_reached {
            self.begin_down(now, self.rtt.total_delivered);
            self.state = State::Cruise;
        } else {
            self.state = State::Startup;
        }
    }

    /// ProbeRTTCwnd
    pub(super) fn probe_rtt_cwnd(&self, window: &Window) -> u32 {
        self.bdp(State::ProbeRtt.gains().1, window).max(self.min_pipe())
    }
}
