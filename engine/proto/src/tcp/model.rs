//! Between a connection and an algorithm that models its path: what it is told, and what it steers. Nothing here runs for others.

use super::cold::Cold;
use super::congestion::{Bbr, RateSample, Steering};
use super::recovery::Phase;
use super::tcb::{Bits, Tcb};
use super::{Config, Cx, Payload, SendPool, Window};
use crate::Instant;

impl Tcb {
    /// After everything an acknowledgement says has been taken in: the algorithm sets window and rate anew.
    #[inline]
    pub(super) fn steer<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        if !self.is_spread(cx.config) {
            return;
        }
        self.steer_spread(cx);
    }

    #[inline(never)]
    fn steer_spread<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        let Some(cold) = cx.cold.get_mut(self.cold) else { return };
        if cx.config.congestion.is_model() {
            self.steer_by_model(cold, cx.now);
        } else {
            self.pace_by_window(cold, cx.now);
        }
    }

    fn steer_by_model<P, S>(&mut self, cold: &mut Cold<P, S>, now: Instant) {
        self.note_app_limited(cold);
        let Some(sample) = self.take_sample(cold, now) else { return };
        let in_flight = sample.in_flight;
        let Some(bbr) = cold.congestion.bbr_mut() else { return };
        let Steering { rate, is_app_limited } = bbr.on_sample(&mut self.window, &sample);
        cold.pacer.set_rate(rate, now);
        if is_app_limited {
            cold.send.mark_app_limited(in_flight);
        }
        // The window or the rate may let more go; what is missing is asked for by every acknowledgement of a recovery.
        if cold.send.has_unsent() {
            self.flags.set(Bits::TX_DATA);
        }
    }

    /// What the acknowledgement under way says of the path, and what the connection knows beside it.
    pub(super) fn take_sample<P, S>(&self, cold: &mut Cold<P, S>, now: Instant) -> Option<RateSample> {
        let sample = cold.send.take_sample(now)?;
        Some(RateSample {
            in_flight: self.pipe(cold),
            is_cwnd_limited: cold.recovery.limited_to.is_some_and(|to| self.snd.una.before_eq(to)),
            is_recovering: cold.recovery.phase != Phase::Open,
            mss: self.mss,
            ..sample
        })
    }

    /// CheckIfApplicationLimited: everything written has been sent, and more might have been.
    #[inline]
    pub(super) fn note_app_limited<P, S>(&self, cold: &mut Cold<P, S>) {
        if cold.send.is_sampled() && !cold.send.has_unsent() && cold.send.missing_bytes() == 0 {
            let in_flight = self.pipe(cold);
            if in_flight < self.window.cwnd {
                cold.send.mark_app_limited(in_flight);
            }
        }
    }

    /// A record is about to leave: what is in flight before it, for the sample of an algorithm that wants one.
    #[inline]
    pub(super) fn before_record<P, S>(
        &mut self,
        cold: &mut Cold<P, S>,
        config: &Config,
        now: Instant,
    ) -> Option<u32> {
        if !self.is_spread(config) && !cold.send.is_sampled() {
            return None;
        }
        self.before_spread(cold, config, now)
    }

    #[inline(never)]
    fn before_spread<P, S>(&mut self, cold: &mut Cold<P, S>, config: &Config, now: Instant) -> Option<u32> {
        let is_model = config.congestion.is_model();
        if is_model != cold.send.is_sampled() {
            self.change_model(cold, config, now);
        }
        if cold.pacer.rate() == 0 && !is_model && self.is_spread(config) {
            self.pace_by_window(cold, now);
        }
        is_model.then(|| self.before_sampled(cold, now))
    }

    fn before_sampled<P, S>(&mut self, cold: &mut Cold<P, S>, now: Instant) -> u32 {
        let in_flight = self.pipe(cold);
        // OnTransmit, HandleRestartFromIdle
        if in_flight == 0
            && cold.send.is_app_limited()
            && let Some(bbr) = cold.congestion.bbr_mut()
        {
            let rate = bbr.on_restart(&mut self.window, now);
            cold.pacer.set_rate(rate, now);
        }
        in_flight
    }

    /// The socket's options have changed: an algorithm that only keeps a window begins where the model stood, which knows no threshold.
    pub(super) fn leave_model<P, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        let is_modelled = cx.cold.get_mut(self.cold).is_some_and(|cold| cold.congestion.bbr_mut().is_some());
        if is_modelled && !cx.config.congestion.is_model() {
            self.window.ssthresh = self.window.ssthresh.min(self.window.cwnd);
        }
    }

    /// The socket's algorithm has changed, or this is its first data.
    #[cold]
    fn change_model<P, S>(&mut self, cold: &mut Cold<P, S>, config: &Config, now: Instant) {
        let is_model = config.congestion.is_model();
        cold.send.sample_rates(is_model, now);
        let initial = Window::initial(self.mss, config.initial_window_segs).cwnd;
        let bbr = is_model.then(|| Bbr::new(now, self.ts_offset, (initial, self.rtt.srtt_us())));
        cold.pacer.set_rate(bbr.as_ref().map_or(0, Bbr::pacing_rate), now);
        cold.congestion.set_bbr(bbr);
    }
}
