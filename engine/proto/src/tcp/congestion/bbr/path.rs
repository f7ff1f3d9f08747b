//! BBR's model of the path: its rate, what it holds, and how losses bound both (draft-ietf-ccwg-bbr 5.5).

use super::{BETA, Bbr, INFINITE, RateSample, SECOND_NS, State, Window};
use crate::Instant;

/// BBR.max_bw_filter: the best rate of this ProbeBW cycle and of the one before (5.5.3).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MaxBw {
    before: u64,
    now: u64,
}

impl MaxBw {
    pub(super) fn get(self) -> u64 {
        self.before.max(self.now)
    }

    pub(super) fn update(&mut self, rate: u64) {
        self.now = self.now.max(rate);
    }

    /// AdvanceMaxBwFilter. A cycle without samples says nothing, so it does not count.
    pub(super) fn advance(&mut self) {
        if self.now > 0 {
            (self.before, self.now) = (self.now, 0);
        }
    }
}

/// The short-term model, and what one round has shown of loss (5.5.10.3).
#[derive(Debug, Clone, Copy)]
pub(super) struct ShortTerm {
    /// BBR.bw_shortterm; `u64::MAX`: no bound.
    pub bw: u64,
    /// BBR.inflight_shortterm; [`INFINITE`]: no bound.
    pub inflight: u32,
    pub bw_latest: u64,
    pub inflight_latest: u32,
    pub is_loss_in_round: bool,
    /// BBR.loss_round_start
    pub is_round_start: bool,
    round_delivered: u64,
}

impl ShortTerm {
    pub(super) const NEW: Self = Self {
        bw: u64::MAX,
        inflight: INFINITE,
        bw_latest: 0,
        inflight_latest: 0,
        is_loss_in_round: false,
        is_round_start: false,
        round_delivered: 0,
    };

    /// ResetShortTermModel
    pub(super) fn reset_bounds(&mut self) {
        (self.bw, self.inflight) = (u64::MAX, INFINITE);
    }

    /// ResetCongestionSignals
    pub(super) fn reset_signals(&mut self) {
        self.is_loss_in_round = false;
        (self.bw_latest, self.inflight_latest) = (0, 0);
    }

    /// UpdateLatestDeliverySignals
    pub(super) fn update_latest(&mut self, rs: &RateSample) {
        self.bw_latest = self.bw_latest.max(rs.delivery_rate);
        self.inflight_latest = self.inflight_latest.max(bytes(rs.delivered));
        self.is_round_start = rs.prior_delivered.is_some_and(|prior| prior >= self.round_delivered);
        if self.is_round_start {
            self.round_delivered = rs.total_delivered;
        }
    }

    /// AdvanceLatestDeliverySignals
    pub(super) fn advance_latest(&mut self, rs: &RateSample) {
        if self.is_round_start {
            (self.bw_latest, self.inflight_latest) = (rs.delivery_rate, bytes(rs.delivered));
        }
    }

    /// InitLowerBounds and LossLowerBounds, once for a round with losses.
    fn adapt(&mut self, max_bw: u64, cwnd: u32) {
        if self.bw == u64::MAX {
            self.bw = max_bw;
        }
        if self.inflight == INFINITE {
            self.inflight = cwnd;
        }
        self.bw = self.bw_latest.max(self.bw / 100 * BETA);
        self.inflight = self.inflight_latest.max(bytes(u64::from(self.inflight) * BETA / 100));
    }
}

/// BBR.extra_acked: by how much acknowledgements come in bunches (5.5.9).
#[derive(Debug, Clone, Copy)]
pub(super) struct Aggregation {
    since: Instant,
    delivered: u64,
    /// The most of this window of rounds and of the one before.
    now: u32,
    before: u32,
    window_start: u64,
}

/// BBR.ExtraAckedFilterLen is 10 rounds: two windows of half of it.
const AGGREGATION_ROUNDS: u64 = 5;

impl Aggregation {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, delivered: 0, now: 0, before: 0, window_start: 0 }
    }

    pub(super) fn begin(&mut self, now: Instant) {
        (self.since, self.delivered) = (now, 0);
    }

    pub(super) fn extra(&self) -> u32 {
        self.now.max(self.before)
    }

    /// UpdateACKAggregation
    pub(super) fn update(&mut self, rs: &RateSample, bw: u64, (cwnd, is_full, round): (u32, bool, u64)) {
        let window_rounds = if is_full { AGGREGATION_ROUNDS } else { 1 };
        if round >= self.window_start + window_rounds {
            (self.before, self.now) = (if is_full { self.now } else { 0 }, 0);
            self.window_start = round;
        }
        let elapsed_ns = rs.now.nanos_since(self.since);
        let expected = u128::from(bw) * u128::from(elapsed_ns) / u128::from(SECOND_NS);
        let mut expected = u64::try_from(expected).unwrap_or(u64::MAX);
        if self.delivered <= expected {
            self.begin(rs.now);
            expected = 0;
        }
        self.delivered = self.delivered.saturating_add(rs.newly_acked);
        self.now = self.now.max(bytes(self.delivered.saturating_sub(expected)).min(cwnd));
    }
}

impl Bbr {
    /// UpdateCongestionSignals
    pub(super) fn update_congestion_signals(&mut self, window: &Window, rs: &RateSample) {
        self.update_round(rs);
        if rs.delivery_rate >= self.max_bw.get() || !rs.is_app_limited {
            self.max_bw.update(rs.delivery_rate);
        }
        if !self.short.is_round_start {
            return;
        }
        // AdaptLowerBoundsFromCongestion
        if self.short.is_loss_in_round && !self.state.is_accelerating() {
            self.short.adapt(self.max_bw.get(), window.cwnd);
        }
        self.short.is_loss_in_round = false;
    }

    /// UpdateRound
    fn update_round(&mut self, rs: &RateSample) {
        self.round.is_start = rs.prior_delivered.is_some_and(|prior| prior >= self.round.next_delivered);
        if self.round.is_start {
            self.start_round(rs);
            self.round.count += 1;
            self.cycle.on_round();
        }
    }

    pub(super) fn start_round(&mut self, rs: &RateSample) {
        self.round.next_delivered = rs.total_delivered;
    }

    /// HandleLostPacket, for what was lost since the last sample, and the same for marks.
    pub(super) fn take_losses(&mut self, window: &mut Window, rs: &RateSample) {
        let is_marked = core::mem::take(&mut self.is_marked);
        if rs.newly_lost == 0 && !is_marked {
            return;
        }
        self.lost_ranges = self.lost_ranges.saturating_add(rs.lost_ranges);
        if !self.short.is_loss_in_round {
            self.short.round_delivered = rs.total_delivered;
            self.save_cwnd(window);
            self.save_state();
        }
        self.short.is_loss_in_round = true;
        if is_marked && self.state == State::Startup {
            self.leave_startup(window);
        }
        if !self.cycle.is_probe_sample {
            return;
        }
        if let Some(evidence) = rs.evidence {
            self.on_inflight_too_high(window, rs, (evidence.in_flight_at_loss(), evidence.is_app_limited));
        } else if is_marked {
            self.on_inflight_too_high(window, rs, (rs.sent_in_flight, rs.is_app_limited));
        }
    }

    /// HandleInflightTooHigh: once for each probe.
    fn on_inflight_too_high(
        &mut self,
        window: &Window,
        rs: &RateSample,
        (in_flight, is_app_limited): (u32, bool),
    ) {
        self.cycle.is_probe_too_high = true;
        self.cycle.is_probe_sample = false;
        if !is_app_limited {
            let floor = bytes(u64::from(self.target_inflight(window)) * BETA / 100);
            self.inflight_longterm = in_flight.max(floor);
        }
        if self.state == State::Up {
            if let Some(saved) = &mut self.saved {
                saved.left = Some(State::Up);
            }
            self.start_down(rs);
        }
    }

    /// TargetInflight: the path's product, unless congestion cut the window.
    pub(super) fn target_inflight(&self, window: &Window) -> u32 {
        self.bdp(100, window).min(window.cwnd)
    }
}

/// What no window reaches, short of [`INFINITE`].
pub(super) fn bytes(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(INFINITE - 1)
}
