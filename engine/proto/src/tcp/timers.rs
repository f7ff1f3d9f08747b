//! Timers: one deadline at a time for the send side or the end of the connection, one for delayed ACKs, one for keepalive.

use core::time::Duration;

use super::config::{after, micros};
use super::options::now_ms;
use super::send_queue::Evidence;
use super::tcb::{Bits, NEVER, State, Tcb, Timer};
use super::{CloseReason, Config, Cx, Outcome, Payload, SendPool, Signals};
use crate::Instant;

/// Whether patience has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Below,
    Reached,
}

/// RFC 9293 3.8.6.2.1: the override timeout of the SWS rule, 0.1 to 1 s; Linux's ceiling for corked data.
const OVERRIDE: Duration = Duration::from_millis(200);

/// RFC 9293 3.8.3 (SHLD-10): R1, retransmissions without an answer after which the way is in doubt. Linux's tcp_retries1.
pub(super) const R1: u8 = 3;

/// An answer to what left one interval ago is that old, and the timer was late by what a turn takes.
const SLACK_MS: u64 = 50;

/// More doublings than any bound of the RTO allows; 2^32 us shifted by it still fits 64 bits.
pub(super) const MAX_BACKOFF: u8 = 31;

impl Tcb {
    /// Time passed: call at [`Tcb::next_timer`] or later. Early calls do nothing.
    pub fn on_timer<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Outcome {
        let mut outcome = Outcome::default();
        if self.delack_at <= cx.now {
            self.delack_at = NEVER;
            self.flags.set(Bits::TX_ACK);
        }
        if self.keepalive_at <= cx.now {
            self.on_pace_timer(cx);
            if self.on_keepalive_timer(cx.now, cx.config) == Limit::Reached {
                self.flags.set(Bits::TX_RST);
                self.close_with(cx, self.given_up(), &mut outcome);
            } else if let Some(deadline) = self.pace_deadline(cx) {
                self.keepalive_at = self.keepalive_at.min(deadline);
            }
        }
        if self.timer_at <= cx.now {
            self.on_main_timer(cx, &mut outcome);
        }
        outcome
    }

    fn on_main_timer<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>, outcome: &mut Outcome) {
        self.timer_at = NEVER;
        match self.timer {
            Timer::Idle => {}
            Timer::Retransmit => {
                if self.on_retransmit_timer(cx, outcome) == Limit::Reached {
                    self.close_with(cx, self.given_up(), outcome);
                }
            }
            Timer::TailProbe => {
                let cold = cx.cold.get_mut(self.cold);
                self.on_probe_timer(cold, cx.config, cx.now);
            }
            Timer::Reorder => self.on_reorder_timer(cx),
            Timer::ProbeVerdict => self.on_verdict_timer(cx),
            Timer::Persist => {
                if self.on_persist_timer(cx) == Limit::Reached {
                    self.flags.set(Bits::TX_RST);
                    self.close_with(cx, self.given_up(), outcome);
                }
            }
            Timer::FinWait2 | Timer::TimeWait => self.close_with(cx, CloseReason::Finished, outcome),
            Timer::Finished | Timer::Reset | Timer::TimedOut => {
                outcome.closed = self.ended();
                outcome.signals |= Signals::CLOSED;
                self.timer = Timer::Idle;
            }
        }
    }

    /// RFC 8985 6.3: what may have been late has had its time.
    fn on_reorder_timer<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        self.arm_rto(cx.now, cx.config);
        if let Some(cold) = cx.cold.get_mut(self.cold) {
            let evidence = Evidence { now: cx.now, ack: self.snd.una, echo_ms: None, srtt_ns: 0 };
            self.look_for_losses(cold, &evidence, cx.config);
        }
    }

    /// RFC 6298 (5.4) to (5.6)
    fn on_retransmit_timer<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        outcome: &mut Outcome,
    ) -> Limit {
        if self.user_timeout_passed(cx.now, cx.config) {
            return Limit::Reached;
        }
        match self.state {
            State::SynSent | State::SynReceived => {
                let limit = self.on_syn_timeout(cx.config, outcome);
                if limit == Limit::Below {
                    cx.totals.on_timeout(cx.now);
                }
                self.arm_retransmit(cx.now, cx.config);
                return limit;
            }
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => {}
            State::Closed | State::TimeWait => return Limit::Below,
        }
        if self.tries >= self.retry_limit(cx.config) {
            return Limit::Reached;
        }
        cx.totals.on_timeout(cx.now);
        // RFC 9293 3.8.6 (SHLD-17): data beyond a window that shrank is no reason to give up while the peer answers.
        let waited_us = u64::from(self.rtt.rto_us()) << self.backoff;
        let waited_ms = waited_us.min(u64::from(micros(cx.config.rto_max))) / 1_000;
        let answered = self.snd.wnd == 0
            && u64::from(now_ms(cx.now).wrapping_sub(self.heard_ms)) <= waited_ms + SLACK_MS;
        if !answered {
            self.on_unanswered(outcome);
        }
        self.backoff = (self.backoff + 1).min(MAX_BACKOFF);
        if self.flags.has(Bits::RTX_IN_RING) {
            self.flags.set(Bits::RTX_COPY);
        }
        if let Some(cold) = cx.cold.get_mut(self.cold) {
            if cx.config.mtu_probing {
                self.suspect_black_hole(cold, cx.now);
            }
            self.recover_on_timeout(cold, cx.config, cx.now);
        }
        if self.flags.has(Bits::FIN_SENT) {
            self.flags.set(Bits::FIN_LOST.or(Bits::TX_RTX));
        }
        self.arm_retransmit(cx.now, cx.config);
        Limit::Below
    }

    /// One retransmission more. RFC 9293 3.8.3 (MUST-20): from R1 on, IP is told.
    pub(super) fn on_unanswered(&mut self, outcome: &mut Outcome) {
        self.tries += 1;
        if self.tries >= R1 {
            outcome.signals |= Signals::UNANSWERED;
        }
    }

    /// RFC 9293 3.8.6.1: probe a closed window. If it is only small, or the data is held back for company, send what goes.
    fn on_persist_timer<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Limit {
        if self.user_timeout_passed(cx.now, cx.config) {
            return Limit::Reached;
        }
        if self.snd.wnd > self.flight() {
            self.flags.set(Bits::OVERRIDE.or(Bits::TX_DATA));
            self.timer = Timer::Idle;
            return Limit::Below;
        }
        if self.tries >= self.retry_limit(cx.config) {
            return Limit::Reached;
        }
        self.tries += 1;
        self.backoff = (self.backoff + 1).min(MAX_BACKOFF);
        self.flags.set(Bits::TX_PROBE);
        self.arm(Timer::Persist, self.retransmit_deadline(cx.now, cx.config));
        Limit::Below
    }

    /// RFC 9293 3.8.4
    fn on_keepalive_timer(&mut self, now: Instant, config: &Config) -> Limit {
        let Some(keepalive) = config.keepalive else {
            self.keepalive_at = NEVER;
            return Limit::Below;
        };
        let idle_us = u64::from(now_ms(now).wrapping_sub(self.heard_ms)) * 1_000;
        let time_us = u64::from(micros(keepalive.time));
        if idle_us < time_us {
            self.keepalive_at = now.add_nanos((time_us - idle_us) * 1_000);
            return Limit::Below;
        }
        // While data waits for an acknowledgement or for window, those timers find out whether the peer lives.
        if self.timer != Timer::Idle {
            self.keepalive_at = after(now, keepalive.interval);
            return Limit::Below;
        }
        if self.tries >= keepalive.retries {
            return Limit::Reached;
        }
        self.tries += 1;
        self.flags.set(Bits::TX_PROBE);
        self.keepalive_at = after(now, keepalive.interval);
        Limit::Below
    }

    /// Starts watching for idleness, if that is wanted.
    pub(super) fn arm_keepalive(&mut self, now: Instant, config: &Config) {
        self.keepalive_at = config.keepalive.map_or(NEVER, |keepalive| after(now, keepalive.time));
    }

    pub(super) fn arm(&mut self, timer: Timer, deadline: Instant) {
        self.timer = timer;
        self.timer_at = deadline;
    }

    /// Starts the retransmission timer anew, with a probe before it where that helps.
    #[inline]
    pub(super) fn arm_retransmit(&mut self, now: Instant, config: &Config) {
        self.arm_before(now, self.retransmit_deadline(now, config));
    }

    /// More data joins what is out: the probe waits for it too, the RTO does not (RFC 8985 7.2).
    #[inline]
    pub(super) fn postpone_probe(&mut self, now: Instant, config: &Config) {
        self.arm_before(now, self.retransmit_deadline(self.progress_at, config).max(now));
    }

    /// More data joins what is out, and makes a probe worth while before the RTO, which stays where it is (RFC 6298 (5.1)).
    #[inline]
    pub(super) fn probe_before_rto(&mut self, now: Instant) {
        if let Some(deadline) = self.probe_deadline(now, self.timer_at) {
            self.arm(Timer::TailProbe, deadline);
        }
    }

    #[inline]
    fn arm_before(&mut self, now: Instant, rto_at: Instant) {
        match self.probe_deadline(now, rto_at) {
            Some(deadline) => self.arm(Timer::TailProbe, deadline),
            None => self.arm(Timer::Retransmit, rto_at),
        }
    }

    /// Starts the retransmission timer anew, without a probe.
    pub(super) fn arm_rto(&mut self, now: Instant, config: &Config) {
        self.arm(Timer::Retransmit, self.retransmit_deadline(now, config));
    }

    /// Data waits and nothing is in flight that would bring news; does nothing if that is being watched already.
    pub(super) fn arm_persist(&mut self, now: Instant, config: &Config) {
        if self.timer == Timer::Persist {
            return;
        }
        self.progress_at = now;
        self.backoff = 0;
        let window_closed = self.snd.wnd <= self.flight();
        let deadline =
            if window_closed { self.retransmit_deadline(now, config) } else { after(now, OVERRIDE) };
        self.arm(Timer::Persist, deadline);
    }

    /// Stops everything but keepalive's memory of when the peer was heard.
    pub(super) fn cancel_timers(&mut self) {
        self.timer = Timer::Idle;
        self.timer_at = NEVER;
        self.delack_at = NEVER;
        self.keepalive_at = NEVER;
    }

    /// RFC 6298 (5.5): the RTO doubled for each time it fired, or the user timeout if that comes first.
    fn retransmit_deadline(&self, now: Instant, config: &Config) -> Instant {
        let rto_us = (u64::from(self.rtt.rto_us()) << self.backoff).min(u64::from(micros(config.rto_max)));
        let deadline = now.add_nanos(rto_us * 1_000);
        match config.user_timeout {
            Some(limit) => deadline.min(after(self.progress_at, limit).max(now)),
            None => deadline,
        }
    }

    fn user_timeout_passed(&self, now: Instant, config: &Config) -> bool {
        config.user_timeout.is_some_and(|limit| after(self.progress_at, limit) <= now)
    }

    fn retry_limit(&self, config: &Config) -> u8 {
        if self.flags.has(Bits::ORPHAN) { config.orphan_retries } else { config.retries }
    }
}
