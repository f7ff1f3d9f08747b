//! BBR, version 3 (draft-ietf-ccwg-bbr): a model of the path, and a state machine that probes what the model lacks.
//!
//! ```text
//! Startup -> Drain -> Down -> Cruise -> Refill -> Up -> Down ..      every 5 s at most: ProbeRtt -> Cruise, or Startup
//!   rate = gain * bw;   cwnd = gain * bw * min_rtt + what ACKs are bunched by;   bounded by what losses have shown
//! ```
//! `path` holds the model: rates, losses, round trips. `cycle` is the ProbeBW cycle, `probe_rtt` the search for the round trip without
//! a queue. Names are the draft's; where it has none, comments cite its function.
//!
//! A congestion mark (RFC 3168) is no loss of chance, so it needs no threshold: it ends Startup, it ends a probe as too much loss
//! does, and otherwise the round counts as one with a loss.

mod cycle;
mod path;
mod probe_rtt;

use super::{Acked, CongestionControl, MAX_CWND, RateSample, Window};
use crate::Instant;
use path::{Aggregation, MaxBw, ShortTerm};

/// Where the state machine stands (5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

impl State {
    /// Pacing gain and cwnd gain in hundredths (5.6.1).
    const fn gains(self) -> (u64, u64) {
        match self {
            Self::Startup => (277, 200),
            Self::Drain => (50, 200),
            Self::Down => (90, 200),
            Self::Cruise | Self::Refill => (100, 200),
            Self::Up => (125, 225),
            Self::ProbeRtt => (100, 50),
        }
    }

    /// IsInAProbeBWState
    const fn is_probe_bw(self) -> bool {
        matches!(self, Self::Down | Self::Cruise | Self::Refill | Self::Up)
    }

    /// IsProbingBW
    const fn is_accelerating(self) -> bool {
        matches!(self, Self::Startup | Self::Refill | Self::Up)
    }
}

/// BBR.ack_phase: what the acknowledgements that come now were sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AckPhase {
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// No bound.
const INFINITE: u32 = u32::MAX;
/// BBR.Beta, in hundredths.
const BETA: u64 = 70;
/// BBR.Headroom, in hundredths.
const HEADROOM: u64 = 15;
/// BBR.MinPipeCwnd, in segments.
const MIN_PIPE_SEGS: u32 = 4;
/// BBRStartupFullLossCnt
const STARTUP_LOST_RANGES: u32 = 6;
const SECOND_NS: u64 = 1_000_000_000;

/// What the algorithm wants of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tcp) struct Steering {
    /// C.pacing_rate: bytes per second.
    pub rate: u64,
    /// MarkConnectionAppLimited: what is sent now says nothing of the path's rate.
    pub is_app_limited: bool,
}

/// Packet-timed round trips (5.5.1).
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    count: u64,
    next_delivered: u64,
    is_start: bool,
}

/// Whether the rate still grows (5.3.1.2).
#[derive(Debug, Clone, Copy, Default)]
struct FullBw {
    bw: u64,
    count: u8,
    is_now: bool,
}

/// What a spurious recovery gives back (5.5.11).
#[derive(Debug, Clone, Copy)]
struct Saved {
    short: ShortTerm,
    inflight_longterm: u32,
    /// BBR.undo_state
    left: Option<State>,
}

/// BBR version 3.
#[derive(Debug, Clone, Copy)]
pub struct Bbr {
    state: State,
    ack_phase: AckPhase,
    round: Round,
    full_bw: FullBw,
    is_full_bw_reached: bool,
    max_bw: MaxBw,
    short: ShortTerm,
    aggregation: Aggregation,
    /// BBR.bw: bytes per second.
    bw: u64,
    pacing_rate: u64,
    /// BBR.inflight_longterm
    inflight_longterm: u32,
    /// BBR.max_inflight without its bounds needs them: C.send_quantum and C.SMSS.
    mss: u32,
    initial_cwnd: u32,
    prior_cwnd: u32,
    is_recovering: bool,
    saved: Option<Saved>,
    drain_start_round: u64,
    cycle: cycle::Cycle,
    rtt: probe_rtt::MinRtt,
    is_idle_restart: bool,
    /// The peer has told of marks since the last sample.
    is_marked: bool,
    /// Of the round by [`ShortTerm`]'s count.
    lost_ranges: u32,
    random: u64,
}

impl Default for Bbr {
    fn default() -> Self {
        Self::new(Instant::ZERO, 0, (0, 0))
    }
}

impl CongestionControl for Bbr {
    /// It waits for the sample.
    fn on_ack(&mut self, _window: &mut Window, _acked: &Acked) {}

    /// OnEnterFastRecovery
    fn on_loss(&mut self, window: &mut Window, _flight_bytes: u32, _mss: u16) {
        self.save_cwnd(window);
        self.is_recovering = true;
        self.save_state();
    }

    /// OnEnterRTO
    fn on_timeout(&mut self, window: &mut Window, flight_bytes: u32, mss: u16) {
        self.on_loss(window, flight_bytes, mss);
        // Nothing is in flight any more, as far as is known.
        window.cwnd = u32::from(mss);
    }

    /// HandleSpuriousLossDetection
    fn on_undo(&mut self, window: &mut Window) {
        self.restore_cwnd(window);
        self.short.is_loss_in_round = false;
        self.lost_ranges = 0;
        self.full_bw = FullBw::default();
        let Some(saved) = self.saved.take() else { return };
        self.short.bw = self.short.bw.max(saved.short.bw);
        self.short.inflight = self.short.inflight.max(saved.short.inflight);
        self.inflight_longterm = self.inflight_longterm.max(saved.inflight_longterm);
        match saved.left {
            Some(State::Startup) => {
                self.is_full_bw_reached = false;
                if self.state != State::ProbeRtt {
                    self.state = State::Startup;
                }
            }
            Some(State::Up) if !matches!(self.state, State::Up | State::ProbeRtt) => self.start_refill(),
            _ => {}
        }
    }
}

impl Bbr {
    /// OnInit, with the initial window and the smoothed round trip in microseconds, 0 if none was measured. `seed` makes connections
    /// probe at different times.
    pub(in crate::tcp) fn new(now: Instant, seed: u32, (initial_cwnd, srtt_us): (u32, u32)) -> Self {
        // InitPacingRate
        let nominal = u64::from(initial_cwnd) * 1_000_000 / u64::from(srtt_us.max(1_000));
        Self {
            state: State::Startup,
            ack_phase: AckPhase::Init,
            round: Round::default(),
            full_bw: FullBw::default(),
            is_full_bw_reached: false,
            max_bw: MaxBw::default(),
            short: ShortTerm::NEW,
            aggregation: Aggregation::new(now),
            bw: 0,
            pacing_rate: (nominal * State::Startup.gains().0 / 100).max(1),
            inflight_longterm: INFINITE,
            mss: 1,
            initial_cwnd,
            prior_cwnd: 0,
            is_recovering: false,
            saved: None,
            drain_start_round: 0,
            cycle: cycle::Cycle::new(now),
            rtt: probe_rtt::MinRtt::new(now, srtt_us),
            is_idle_restart: false,
            is_marked: false,
            lost_ranges: 0,
            random: u64::from(seed),
        }
    }

    pub(in crate::tcp) fn pacing_rate(&self) -> u64 {
        self.pacing_rate
    }

    /// UpdateOnACK
    pub(in crate::tcp) fn on_sample(&mut self, window: &mut Window, rs: &RateSample) -> Steering {
        self.mss = u32::from(rs.mss);
        if self.is_recovering && !rs.is_recovering {
            self.is_recovering = false;
            self.restore_cwnd(window);
        }
        self.take_losses(window, rs);
        if rs.newly_acked > 0 {
            self.update_model(window, rs);
            self.set_pacing_rate(self.state.gains().0);
            self.set_cwnd(window, rs);
        }
        Steering { rate: self.pacing_rate, is_app_limited: self.state == State::ProbeRtt }
    }

    /// The peer told of a mark: once for each window of data.
    pub(in crate::tcp) fn on_mark(&mut self) {
        self.is_marked = true;
    }

    /// HandleRestartFromIdle: the application had nothing to send, and has now. The rate to send with.
    pub(in crate::tcp) fn on_restart(&mut self, window: &mut Window, now: Instant) -> u64 {
        self.is_idle_restart = true;
        self.aggregation.begin(now);
        if self.state.is_probe_bw() {
            self.set_pacing_rate(100);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(window, now);
        }
        self.pacing_rate
    }

    /// UpdateModelAndState
    fn update_model(&mut self, window: &mut Window, rs: &RateSample) {
        self.short.update_latest(rs);
        self.update_congestion_signals(window, rs);
        self.aggregation.update(rs, self.bw, (window.cwnd, self.is_full_bw_reached, self.round.count));
        self.check_full_bw(rs);
        self.check_startup_done(window, rs);
        self.check_drain_done(window, rs);
        self.update_cycle(window, rs);
        self.rtt.update(rs);
        self.check_probe_rtt(window, rs);
        self.short.advance_latest(rs);
        self.bw = self.max_bw.get().min(self.short.bw);
    }

    /// CheckFullBWReached
    fn check_full_bw(&mut self, rs: &RateSample) {
        if self.full_bw.is_now || !self.round.is_start || rs.is_app_limited {
            return;
        }
        if rs.delivery_rate.saturating_mul(100) >= self.full_bw.bw.saturating_mul(125) {
            self.full_bw = FullBw { bw: rs.delivery_rate, ..FullBw::default() };
            return;
        }
        self.full_bw.count += 1;
        self.full_bw.is_now = self.full_bw.count >= 3;
        self.is_full_bw_reached |= self.full_bw.is_now;
    }

    /// CheckStartupDone
    fn check_startup_done(&mut self, window: &Window, rs: &RateSample) {
        if self.state != State::Startup {
            return;
        }
        // CheckStartupHighLoss: a round of recovery in which too much was lost, in too many places.
        let is_lossy = self.short.is_round_start
            && rs.is_recovering
            && self.lost_ranges >= STARTUP_LOST_RANGES
            && rs.is_loss_too_high();
        if self.short.is_round_start {
            self.lost_ranges = 0;
        }
        if is_lossy {
            self.leave_startup(window);
        }
        if self.is_full_bw_reached {
            self.state = State::Drain;
            self.drain_start_round = self.round.count;
        }
    }

    /// The path is full, and what it holds is known.
    fn leave_startup(&mut self, window: &Window) {
        if let Some(saved) = &mut self.saved {
            saved.left = Some(State::Startup);
        }
        self.is_full_bw_reached = true;
        self.inflight_longterm = self.bdp(100, window).max(self.short.inflight_latest);
    }

    /// CheckDrainDone
    fn check_drain_done(&mut self, window: &Window, rs: &RateSample) {
        if self.state == State::Drain
            && (rs.in_flight <= self.inflight(100, window) || self.round.count > self.drain_start_round + 3)
        {
            self.start_down(rs);
        }
    }

    /// BDPMultiple, with a gain in hundredths.
    fn bdp(&self, gain: u64, window: &Window) -> u32 {
        let Some(min_rtt_ns) = self.rtt.min_ns() else { return self.initial_cwnd.max(window.cwnd) };
        let bytes = u128::from(self.bw) * u128::from(min_rtt_ns) * u128::from(gain);
        u32::try_from(bytes / u128::from(100 * SECOND_NS)).unwrap_or(MAX_CWND).min(MAX_CWND)
    }

    /// Inflight: with room for what the sender and the receiver do in one go.
    fn inflight(&self, gain: u64, window: &Window) -> u32 {
        self.with_budget(self.bdp(gain, window))
    }

    /// QuantizationBudget
    fn with_budget(&self, inflight: u32) -> u32 {
        // SetSendQuantum: what the pacer lets go in one millisecond.
        let quantum = u32::try_from(self.pacing_rate / 1_000).unwrap_or(u32::MAX);
        let budget = 3 * quantum.min(64 << 10).max(2 * self.mss);
        let probe = if self.state == State::Up { 2 * self.mss } else { 0 };
        inflight.max(budget).max(self.min_pipe()) + probe
    }

    fn min_pipe(&self) -> u32 {
        MIN_PIPE_SEGS * self.mss
    }

    /// SetPacingRateWithGain: one per cent below the estimate, so that queues do not grow by its errors. What may be in flight whatever the
    /// estimate says may also leave within a round trip: an estimate that a pause has spoilt would else be confirmed by its own pace.
    fn set_pacing_rate(&mut self, gain: u64) {
        let rate = u64::try_from(u128::from(self.bw) * u128::from(gain) * 99 / 10_000).unwrap_or(u64::MAX);
        let rate = if rate > 0 { self.least_rate_above(rate).unwrap_or(rate) } else { 0 };
        if rate > 0 && (self.is_full_bw_reached || rate > self.pacing_rate) {
            self.pacing_rate = rate;
        }
    }

    /// MinPipeCwnd in a round trip, if `rate` is below it. One that was never measured is a millisecond, as in InitPacingRate.
    fn least_rate_above(&self, rate: u64) -> Option<u64> {
        let min_ns = self.rtt.min_ns().unwrap_or(SECOND_NS / 1_000).max(1);
        let min_pipe_ns = u64::from(self.min_pipe()) * SECOND_NS;
        (u128::from(rate) * u128::from(min_ns) < u128::from(min_pipe_ns)).then(|| min_pipe_ns / min_ns)
    }

    /// SetCwnd
    fn set_cwnd(&mut self, window: &mut Window, rs: &RateSample) {
        let wanted = self.bdp(self.state.gains().1, window).saturating_add(self.aggregation.extra());
        let max_inflight = self.with_budget(wanted.min(MAX_CWND));
        let newly_acked = u32::try_from(rs.newly_acked).unwrap_or(u32::MAX);
        let grown = window.cwnd.saturating_add(newly_acked);
        if self.is_full_bw_reached {
            window.cwnd = grown.min(max_inflight);
        } else if window.cwnd < max_inflight || rs.total_delivered < u64::from(self.initial_cwnd) {
            window.cwnd = grown;
        }
        window.cwnd = window.cwnd.max(self.min_pipe()).min(MAX_CWND);
        if self.state == State::ProbeRtt {
            window.cwnd = window.cwnd.min(self.probe_rtt_cwnd(window));
        }
        self.bound_cwnd(window);
    }

    /// BoundCwndForModel
    fn bound_cwnd(&self, window: &mut Window) {
        let bound = match self.state {
            State::Startup | State::Drain => INFINITE,
            State::Down | State::Refill | State::Up => self.inflight_longterm,
            State::Cruise | State::ProbeRtt => self.inflight_with_headroom(),
        };
        window.cwnd = window.cwnd.min(bound.min(self.short.inflight).max(self.min_pipe()));
    }

    /// SaveCwnd
    fn save_cwnd(&mut self, window: &Window) {
        let is_modulated = self.is_recovering || self.state == State::ProbeRtt;
        self.prior_cwnd = if is_modulated { self.prior_cwnd.max(window.cwnd) } else { window.cwnd };
    }

    fn restore_cwnd(&self, window: &mut Window) {
        window.cwnd = window.cwnd.max(self.prior_cwnd);
    }

    /// SaveStateUponLoss
    fn save_state(&mut self) {
        self.saved = Some(Saved { short: self.short, inflight_longterm: self.inflight_longterm, left: None });
    }

    /// A number below `bound`, other for each connection (SplitMix64).
    fn random_below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests;
