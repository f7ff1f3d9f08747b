//! TIME-WAIT and the end of a connection.

use ringwire_wire::tcp::Flags;

use super::arrival::{Arrival, Step};
use super::config::after;
use super::tcb::{Bits, NEVER, State, Tcb, Timer};
use super::{CloseReason, ColdStore, Cx, Outcome, Payload, SendPool, Signals};
use crate::{DropReason, Instant, SeqNum};

impl Tcb {
    /// What may arrive in TIME-WAIT apart from the ordinary: the peer's FIN again, or a SYN for a new connection.
    pub(super) fn check_time_wait<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &mut Arrival<P>,
    ) -> Step {
        if self.state != State::TimeWait {
            return Step::Next;
        }
        if arrival.has(Flags::SYN) && !arrival.flags.intersects(Flags::ACK | Flags::RST | Flags::FIN) {
            return self.on_time_wait_syn(arrival, cx);
        }
        let fin = arrival.seq + arrival.text_len();
        if arrival.has(Flags::FIN) && fin + 1 == self.rcv.nxt {
            // RFC 9293 3.10.7.4, fifth: acknowledge the repeated FIN and wait another 2 MSL.
            self.flags.set(Bits::TX_ACK);
            self.timer_at = after(cx.now, cx.config.time_wait);
            return Step::Drop(DropReason::TcpTimeWait);
        }
        Step::Next
    }

    /// RFC 9293 3.10.7.4 and RFC 6191 2: a SYN that cannot be an old duplicate opens a new connection.
    fn on_time_wait_syn<P: Payload, A: SendPool>(
        &mut self,
        arrival: &mut Arrival<P>,
        cx: &Cx<'_, P, A>,
    ) -> Step {
        let newer_seq = arrival.seq.after(self.rcv.nxt);
        let newer = match (self.flags.has(Bits::TIMESTAMPS), arrival.timestamps) {
            (true, Some(timestamps)) if timestamps.value == self.ts_recent => newer_seq,
            (true, Some(timestamps)) => timestamps.value.wrapping_sub(self.ts_recent).cast_signed() > 0,
            // A peer that now offers timestamps and did not before has restarted.
            (false, Some(_)) => true,
            (true | false, None) => newer_seq,
        };
        if newer {
            arrival.outcome.signals |= Signals::NEW_SYN;
            return Step::Done;
        }
        self.challenge(cx.now);
        Step::Drop(DropReason::TcpTimeWait)
    }

    /// After [`Signals::NEW_SYN`]: the SYN has a listener, and TIME-WAIT ends. The new connection's numbers come after the one returned.
    pub fn give_way<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> (Outcome, SeqNum) {
        let mut outcome = Outcome::default();
        self.close_with(cx, CloseReason::Finished, &mut outcome);
        (outcome, self.snd.nxt)
    }

    /// After [`Signals::NEW_SYN`]: nobody listens. What nothing new follows is not ended either (RFC 5961 4.2).
    pub fn refuse_new_syn(&mut self, now: Instant) -> Outcome {
        self.challenge(now);
        Outcome { drop: Some(DropReason::TcpTimeWait), ..Outcome::default() }
    }

    /// Nothing long is sent any more.
    fn forget_path<P, S>(&self, store: &mut ColdStore<P, S>) {
        if let Some(cold) = store.get_mut(self.cold) {
            cold.path = None;
        }
    }

    pub(super) fn enter_time_wait<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        self.transition(State::TimeWait);
        self.cancel_timers();
        self.forget_path(cx.cold);
        self.arm(Timer::TimeWait, after(cx.now, cx.config.time_wait));
    }

    /// Ends the connection. What is unread stays readable unless the application gave the connection up, and [`Signals::CLOSED`] waits
    /// until it was read.
    pub(super) fn close_with<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        reason: CloseReason,
        outcome: &mut Outcome,
    ) {
        if self.is_busy(cx.cold.get(self.cold)) {
            self.progress_at = cx.now;
        }
        cx.totals.end_repair(cx.now);
        self.transition(State::Closed);
        self.cancel_timers();
        self.flags.clear(Bits::TX_BUT_RST);
        let unread = cx.cold.get(self.cold).is_some_and(|cold| !cold.unread.is_empty());
        let report = if reason == self.given_up() { Some(Timer::TimedOut) } else { report_of(reason) };
        let report = report.filter(|_| unread && !self.flags.has(Bits::ORPHAN));
        if let Some(cold) = cx.cold.get_mut(self.cold) {
            cx.totals.add(cold.send.tally());
            cold.release(cx.totals, cx.now);
            if report.is_some() {
                cold.send.clear();
                cold.reassembly.clear();
                cold.path = None;
            }
        }
        if let Some(report) = report {
            self.arm(report, NEVER);
            // Whoever waits for room, or for more to read, shall look again.
            outcome.signals |= Signals::ENDED | Signals::READABLE | Signals::WRITABLE;
            return;
        }
        cx.cold.free(self.cold);
        self.cold = super::cold::ColdId::NONE;
        outcome.closed = Some(reason);
        outcome.signals |= Signals::CLOSED;
    }

    /// Why a connection ends whose retries, probes or time ran out: what the network had said of it, if anything.
    pub(super) fn given_up(&self) -> CloseReason {
        self.soft_error.map_or(CloseReason::TimedOut, CloseReason::told)
    }

    /// Whether the connection has ended and what was unread has been taken: [`Tcb::on_timer`] says so, now as well as later.
    #[inline]
    pub fn is_end_due(&self) -> bool {
        self.state == State::Closed && self.timer_at != NEVER
    }

    /// How the connection has ended, as long as something of it is unread.
    pub fn ended(&self) -> Option<CloseReason> {
        match self.timer {
            Timer::Finished => Some(CloseReason::Finished),
            Timer::Reset => Some(CloseReason::Reset),
            Timer::TimedOut => Some(self.given_up()),
            Timer::Idle
            | Timer::Retransmit
            | Timer::TailProbe
            | Timer::Reorder
            | Timer::ProbeVerdict
            | Timer::Persist
            | Timer::FinWait2
            | Timer::TimeWait => None,
        }
    }
}

/// How a connection that was established says later that it has ended; none: there can be nothing to read.
fn report_of(reason: CloseReason) -> Option<Timer> {
    match reason {
        CloseReason::Finished => Some(Timer::Finished),
        CloseReason::Reset => Some(Timer::Reset),
        CloseReason::TimedOut => Some(Timer::TimedOut),
        CloseReason::Refused | CloseReason::Unreachable(_) | CloseReason::NoPorts | CloseReason::Aborted => {
            None
        }
    }
}
