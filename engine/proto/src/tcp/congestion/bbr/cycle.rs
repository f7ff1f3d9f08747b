//! ProbeBW: drain a little, cruise, refill, probe for more (draft-ietf-ccwg-bbr 5.3.3).

use super::path::bytes;
use super::{AckPhase, Bbr, FullBw, HEADROOM, INFINITE, RateSample, SECOND_NS, State, Window};
use crate::Instant;

/// T_reno_bound: a loss-based flow of the same window needs no more rounds to come back from a loss.
const RENO_ROUNDS: u64 = 63;

/// What the cycle remembers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cycle {
    /// BBR.cycle_stamp
    pub since: Instant,
    /// BBR.bw_probe_wait
    wait_ns: u64,
    rounds_since_up: u64,
    /// BBR.bw_probe_up_rounds
    up_rounds: u32,
    /// BBR.bw_probe_up_acked
    up_acked: u64,
    /// BBR.probe_up_acked_per_inc
    up_acked_per_segment: u64,
    /// BBR.is_bw_probe_sample
    pub is_probe_sample: bool,
    /// BBR.prev_probe_too_high
    pub is_probe_too_high: bool,
    /// BBR.prev_probe_precautionary
    is_precautionary: bool,
}

impl Cycle {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            wait_ns: 0,
            rounds_since_up: 0,
            up_rounds: 0,
            up_acked: 0,
            up_acked_per_segment: u64::MAX,
            is_probe_sample: false,
            is_probe_too_high: false,
            is_precautionary: false,
        }
    }

    pub(super) fn on_round(&mut self) {
        self.rounds_since_up += 1;
    }
}

impl Bbr {
    /// UpdateProbeBWCyclePhase
    pub(super) fn update_cycle(&mut self, window: &Window, rs: &RateSample) {
        if !self.is_full_bw_reached || self.adapt_long_term(window, rs) {
            return;
        }
        match self.state {
            State::Startup | State::Drain | State::ProbeRtt => {}
            State::Down => {
                if self.is_time_to_probe(window, rs) {
                    self.start_refill();
                    self.start_round(rs);
                } else if self.is_time_to_cruise(window, rs) {
                    self.state = State::Cruise;
                }
            }
            State::Cruise => {
                if self.is_time_to_probe(window, rs) {
                    self.start_refill();
                    self.start_round(rs);
                }
            }
            State::Refill => {
                if self.round.is_start {
                    self.cycle.is_probe_sample = true;
                    self.start_up(window, rs);
                }
            }
            State::Up => {
                if self.is_time_to_go_down(window, rs) {
                    self.cycle.is_probe_too_high = false;
                    self.start_down(rs);
                }
            }
        }
    }

    /// StartProbeBW_DOWN
    pub(super) fn start_down(&mut self, rs: &RateSample) {
        self.begin_down(rs.now, rs.total_delivered);
    }

    /// The same, without an acknowledgement to begin it.
    pub(super) fn begin_down(&mut self, now: Instant, total_delivered: u64) {
        self.short.reset_signals();
        self.cycle.up_acked_per_segment = u64::MAX;
        // PickProbeWait
        self.cycle.rounds_since_up = self.random_below(2);
        self.cycle.wait_ns = 2 * SECOND_NS + self.random_below(SECOND_NS);
        self.cycle.since = now;
        self.ack_phase = AckPhase::ProbeStopping;
        self.round.next_delivered = total_delivered;
        self.state = State::Down;
    }

    /// StartProbeBW_REFILL
    pub(super) fn start_refill(&mut self) {
        self.short.reset_bounds();
        (self.cycle.up_rounds, self.cycle.up_acked) = (0, 0);
        self.cycle.is_precautionary = false;
        self.ack_phase = AckPhase::Refilling;
        self.state = State::Refill;
    }

    /// StartProbeBW_UP
    fn start_up(&mut self, window: &Window, rs: &RateSample) {
        self.ack_phase = AckPhase::ProbeStarting;
        self.start_round(rs);
        self.full_bw = FullBw { bw: rs.delivery_rate, ..FullBw::default() };
        self.state = State::Up;
        self.raise_slope(window);
    }

    /// IsTimeToProbeBW
    fn is_time_to_probe(&self, window: &Window, rs: &RateSample) -> bool {
        let reno_rounds = u64::from(self.target_inflight(window) / self.mss.max(1)).min(RENO_ROUNDS);
        rs.now.nanos_since(self.cycle.since) > self.cycle.wait_ns || self.cycle.rounds_since_up >= reno_rounds
    }

    /// IsTimeToCruise: the queue is gone, and there is room for others.
    fn is_time_to_cruise(&self, window: &Window, rs: &RateSample) -> bool {
        rs.in_flight <= self.inflight_with_headroom() && rs.in_flight <= self.inflight(100, window)
    }

    /// IsTimeToGoDown
    fn is_time_to_go_down(&mut self, window: &Window, rs: &RateSample) -> bool {
        if self.cycle.is_probe_too_high && rs.in_flight >= self.inflight_longterm {
            self.cycle.is_precautionary = true;
            return true;
        }
        if rs.is_cwnd_limited && window.cwnd >= self.inflight_longterm {
            self.full_bw = FullBw { bw: rs.delivery_rate, ..FullBw::default() };
            return false;
        }
        self.full_bw.is_now
    }

    /// InflightWithHeadroom
    pub(super) fn inflight_with_headroom(&self) -> u32 {
        if self.inflight_longterm == INFINITE {
            return INFINITE;
        }
        let share = u64::from(self.inflight_longterm) * HEADROOM / 100;
        let headroom = u32::try_from(share).unwrap_or(INFINITE).max(self.mss);
        self.inflight_longterm.saturating_sub(headroom).max(self.min_pipe())
    }

    /// RaiseInflightLongtermSlope
    fn raise_slope(&mut self, window: &Window) {
        let growth = u64::from(window.cwnd) >> self.cycle.up_rounds;
        self.cycle.up_rounds = (self.cycle.up_rounds + 1).min(30);
        self.cycle.up_acked_per_segment = growth.max(u64::from(self.mss));
    }

    /// ProbeInflightLongtermUpward
    fn probe_upward(&mut self, window: &Window, rs: &RateSample) {
        if !rs.is_cwnd_limited || window.cwnd < self.inflight_longterm {
            return;
        }
        self.cycle.up_acked = self.cycle.up_acked.saturating_add(rs.newly_acked);
        let segs = self.cycle.up_acked / self.cycle.up_acked_per_segment;
        self.cycle.up_acked %= self.cycle.up_acked_per_segment;
        let grown = u64::from(self.inflight_longterm) + segs.saturating_mul(u64::from(self.mss));
        self.inflight_longterm = bytes(grown);
        if self.round.is_start {
            self.raise_slope(window);
        }
    }

    /// AdaptLongTermModel: true if it has decided a transition.
    fn adapt_long_term(&mut self, window: &Window, rs: &RateSample) -> bool {
        if self.ack_phase == AckPhase::ProbeStarting && self.round.is_start {
            self.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.ack_phase == AckPhase::ProbeStopping && self.round.is_start {
            self.cycle.is_probe_sample = false;
            self.ack_phase = AckPhase::Init;
            if self.state.is_probe_bw() && !rs.is_app_limited {
                self.max_bw.advance();
            }
            if self.state.is_probe_bw() && self.cycle.is_precautionary && !self.cycle.is_probe_too_high {
                self.start_refill();
                self.start_round(rs);
                return true;
            }
        }
        if rs.is_loss_too_high() || self.inflight_longterm == INFINITE {
            return false;
        }
        self.inflight_longterm = self.inflight_longterm.max(rs.sent_in_flight);
        if self.state == State::Up {
            self.probe_upward(window, rs);
        }
        false
    }
}
