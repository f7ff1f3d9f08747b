//! The ACK field (RFC 9293 3.10.7.4, fifth): what it acknowledges, what it says about the window.

use ringwire_wire::tcp::{Flags, Timestamps};

use super::arrival::{Arrival, Step};
use super::config::after;
use super::options::now_ms;
use super::recovery::{Phase, are_marks_due};
use super::send_queue::{AckedRecords, Evidence, duplicate_of};
use super::tcb::{Bits, NEVER, State, Tcb, Timer};
use super::{Acked, CloseReason, Config, Cx, Outcome, Payload, SendPool, Signals, Totals};
use crate::{DropReason, Instant, SeqNum};

/// An acknowledgement of something new, and what its segment says beside it.
pub(super) struct Advance {
    pub ack: SeqNum,
    /// It tells of a mark (RFC 3168 6.1.3).
    pub is_echoed: bool,
    /// It answers a segment that had arrived before (RFC 2883).
    pub is_about_duplicate: bool,
}

impl Advance {
    /// Of a segment that says nothing else.
    pub(super) const fn to(ack: SeqNum) -> Advance {
        Advance { ack, is_echoed: false, is_about_duplicate: false }
    }
}

impl Tcb {
    /// Fifth: ACK.
    pub(super) fn check_ack<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &mut Arrival<P>,
    ) -> Step {
        if !arrival.has(Flags::ACK) {
            return Step::Drop(DropReason::TcpNoAck);
        }
        if self.state == State::SynReceived {
            let step = self.on_syn_received_ack(cx, arrival);
            if step != Step::Next {
                return step;
            }
        }
        if arrival.ack.after(self.snd.nxt) {
            self.challenge(cx.now);
            return Step::Drop(DropReason::TcpAckUnsent);
        }
        if arrival.ack.before(self.oldest_ack(cx.totals.seqs_acked)) {
            self.challenge(cx.now);
            return Step::Drop(DropReason::TcpAckTooOld);
        }
        self.on_heard(cx.now, cx.config);
        if !arrival.is_overtaken {
            self.note_timestamp(arrival.first_seq, arrival.timestamps);
        }
        let window = arrival.window << self.shifts.snd();
        let is_duplicate = self.is_duplicate_ack(arrival, window);
        let una_before = self.snd.una;
        if arrival.ack.after(self.snd.una) {
            let is_echoed = self.flags.has(Bits::ECN) && arrival.has(Flags::ECE);
            let advance = Advance {
                ack: arrival.ack,
                is_echoed,
                is_about_duplicate: duplicate_of(arrival.sack.as_slice(), arrival.ack).is_some(),
            };
            self.on_ack_advance(cx, &advance, arrival.timestamps, &mut arrival.outcome);
        }
        let advanced_bytes = self.snd.una.distance(una_before);
        let flight_bytes = self.flight() + advanced_bytes;
        self.on_ecn_flags(cx.cold.get_mut(self.cold), arrival.flags, flight_bytes, cx.config);
        if let Some(cold) = cx.cold.get_mut(self.cold) {
            if self.flags.has(Bits::SACK) {
                let evidence = self.evidence(cx.now, arrival.ack, arrival.timestamps);
                self.recover_on_sack(cold, &arrival.sack, (advanced_bytes, &evidence), cx.config);
            } else if is_duplicate {
                self.recover_on_dup_ack(cold, cx.config, cx.now);
            }
        }
        self.note_incidents(cx, arrival);
        self.steer(cx);
        if !arrival.is_overtaken {
            arrival.outcome.signals |= self.update_window(cx, (arrival.seq, arrival.ack), window);
        }
        self.after_ack(cx)
    }

    /// What an acknowledgement out of the ordinary has told, or ended.
    fn note_incidents<P: Payload, A: SendPool>(&self, cx: &mut Cx<'_, P, A>, arrival: &Arrival<P>) {
        let mut is_repairing = self.tries > 0;
        if let Some(cold) = cx.cold.get_mut(self.cold) {
            is_repairing |= cold.recovery.phase == Phase::Loss;
            if cold.send.take_reordering_news() {
                let incidents = cx.totals.incidents_mut();
                incidents.reorderings = incidents.reorderings.wrapping_add(1);
            }
        }
        if let Some((left, right)) = duplicate_of(arrival.sack.as_slice(), arrival.ack)
            && self.flags.has(Bits::SACK)
            && right.distance(left) <= self.snd.max_wnd
        {
            let incidents = cx.totals.incidents_mut();
            let segs = right.distance(left).div_ceil(u32::from(self.mss).max(1));
            incidents.duplicate_segs = incidents.duplicate_segs.wrapping_add(segs);
        }
        if !is_repairing {
            cx.totals.end_repair(cx.now);
        }
    }

    /// RFC 5961 5.2: what acknowledges less is too old to be from this connection's recent life, or (as in Linux) from before it: else
    /// whoever guesses numbers would have a window's worth of them right. TIME-WAIT takes nothing that is worth a guess.
    fn oldest_ack(&self, seqs_acked: u64) -> SeqNum {
        let acked = u32::try_from(seqs_acked).unwrap_or(u32::MAX);
        let recent =
            if self.state == State::TimeWait { self.snd.max_wnd } else { self.snd.max_wnd.min(acked) };
        self.snd.una - recent
    }

    /// An acceptable segment arrived: the peer lives.
    #[inline]
    pub(super) fn on_heard(&mut self, now: Instant, config: &Config) {
        if config.quick_acks > 0 {
            self.quicken_after_silence(now, config);
        }
        self.heard_ms = now_ms(now);
        // What the network said of the path is out of date.
        self.soft_error = None;
        // Unanswered probes are counted in `tries`; retransmissions count until data is acknowledged, and whatever is sent for an
        // application that is gone counts always (RFC 6429).
        if !self.is_retransmit_armed() && !self.flags.has(Bits::ORPHAN) {
            self.tries = 0;
        }
    }

    /// A peer that begins again after a silence longer than the RTO is acknowledged quickly, if that is wanted.
    #[cold]
    fn quicken_after_silence(&mut self, now: Instant, config: &Config) {
        let silence_us = u64::from(now_ms(now).wrapping_sub(self.heard_ms)) * 1_000;
        if silence_us > u64::from(self.rtt.rto_us()) {
            self.quick_acks = config.quick_acks;
        }
    }

    /// RFC 7323 4.3 (2): the timestamp of the segment that begins at or spans the last acknowledgement we sent.
    #[inline]
    pub(super) fn note_timestamp(&mut self, seq: SeqNum, timestamps: Option<Timestamps>) {
        if let Some(timestamps) = timestamps
            && self.flags.has(Bits::TIMESTAMPS)
            && seq.before_eq(self.rcv.ack_sent)
        {
            self.ts_recent = timestamps.value;
        }
    }

    /// SND.UNA moves to `advance.ack`, which lies in (SND.UNA, SND.NXT].
    #[inline]
    pub(super) fn on_ack_advance<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        advance: &Advance,
        timestamps: Option<Timestamps>,
        outcome: &mut Outcome,
    ) {
        let &Advance { ack, is_echoed, is_about_duplicate } = advance;
        let flight_bytes = self.flight();
        let una_before = core::mem::replace(&mut self.snd.una, ack);
        let bytes = ack.distance(una_before);
        cx.totals.seqs_acked += u64::from(bytes);
        self.tries = 0;
        self.progress_at = cx.now;
        if self.flags.has(Bits::FIN_QUEUED) {
            self.flags.set(Bits::TX_DATA);
        }
        let Some(cold) = cx.cold.get_mut(self.cold) else {
            // Only our FIN was out.
            self.rearm_retransmit(cx.now, cx.config);
            return;
        };
        if are_marks_due(una_before, ack) {
            cold.recovery.retire_marks(ack);
        }
        let evidence = self.evidence(cx.now, ack, timestamps);
        cold.recovery.note_batch(cx.now, flight_bytes);
        let records = cold.send.on_ack(ack, &evidence);
        cold.gauge(ack, cx.totals, cx.now);
        // What has arrived twice was acknowledged before, and that was lost: the echo is as old as the first copy.
        let rtt_us = self.measure(cx.now, &records, timestamps.filter(|_| !is_about_duplicate));
        if records.retransmitted {
            self.settle_path_probe(cold);
        }
        if let Some(rtt_us) = rtt_us {
            self.on_round_trip(rtt_us, cx.totals, cx.config);
            // RFC 6298 (5.7), Karn: the back-off lasts until a measurement that is not ambiguous.
            self.backoff = 0;
        }
        if cold.recovery.phase != Phase::Open {
            self.undo_on_echo(cold, evidence.echo_ms);
        }
        let acked = Acked {
            bytes,
            flight_bytes,
            is_limited: cold.recovery.limited_to.is_some_and(|to| ack.before_eq(to)),
            mss: self.mss,
            rtt_us,
            srtt_us: self.rtt.srtt_us(),
            now: cx.now,
            una: ack,
            nxt: self.snd.nxt,
            after_timeout: cold.recovery.phase == Phase::Loss,
            is_echoed,
        };
        self.recover_on_ack(cold, &records, &acked, cx.config);
        if cold.send.has_unsent() {
            self.flags.set(Bits::TX_DATA);
            if cold.path.is_some() {
                self.queue_path_probe(cold, cx.pool, cx.now);
            }
        }
        if self.flags.has(Bits::SEND_BLOCKED) {
            let queued = cold.send.bytes();
            if self.has_send_room(cx, queued) {
                outcome.signals |= self.unblock_writer(cx);
            }
        }
        self.rearm_retransmit(cx.now, cx.config);
    }

    /// RFC 9293 3.10.7.4: only a segment newer than the last one that did so may update the window. One whose acknowledgement moved
    /// SND.UNA is, though it fill a gap behind which others came: else the old window would count from the new SND.UNA on.
    #[inline]
    pub(super) fn update_window<P, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        (seq, ack): (SeqNum, SeqNum),
        window: u32,
    ) -> Signals {
        let newer = self.snd.wl1.before(seq)
            || self.snd.wl2.before(ack)
            || (self.snd.wl1, self.snd.wl2) == (seq, ack);
        if ack.before(self.snd.una) || !newer {
            return Signals::NONE;
        }
        self.snd.wl1 = self.snd.wl1.later(seq);
        self.snd.wl2 = ack;
        if core::mem::replace(&mut self.snd.wnd, window) < window {
            // What waited may go, or has to wait under another rule.
            self.flags.set(Bits::TX_DATA);
            if self.timer == Timer::Persist {
                self.timer = Timer::Idle;
                self.timer_at = NEVER;
            }
            self.snd.max_wnd = self.snd.max_wnd.max(window);
            if self.flags.has(Bits::SEND_BLOCKED) {
                return self.look_for_room(cx);
            }
        }
        Signals::NONE
    }

    /// RFC 5681 2: data is out, the segment carries none, and neither acknowledgement nor window changed.
    fn is_duplicate_ack<P: Payload>(&self, arrival: &Arrival<P>, window: u32) -> bool {
        arrival.ack == self.snd.una
            && self.snd.nxt != self.snd.una
            && !arrival.had_text
            && !arrival.has(Flags::FIN)
            && window == self.snd.wnd
    }

    /// Per-state consequences of the ACK.
    fn after_ack<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Step {
        let fin_acked = self.flags.has(Bits::FIN_SENT) && self.snd.una == self.snd.nxt;
        match self.state {
            State::FinWait1 if fin_acked => {
                self.transition(State::FinWait2);
                self.arm_fin_wait2(cx.now, cx.config);
                Step::Next
            }
            State::Closing if fin_acked => {
                self.enter_time_wait(cx);
                Step::Done
            }
            State::LastAck if fin_acked => Step::Close(CloseReason::Finished),
            State::TimeWait => Step::Drop(DropReason::TcpTimeWait),
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => Step::Next,
            State::Closed | State::SynSent | State::SynReceived => Step::Done,
        }
    }

    /// When an acknowledgement came and which transmission of ours it answers.
    #[inline]
    fn evidence(&self, now: Instant, ack: SeqNum, timestamps: Option<Timestamps>) -> Evidence {
        let echo_ms = timestamps
            .filter(|_| self.flags.has(Bits::TIMESTAMPS))
            .map(|timestamps| timestamps.echo.wrapping_sub(self.ts_offset));
        Evidence { now, ack, echo_ms, srtt_ns: u64::from(self.rtt.srtt_us()) * 1_000 }
    }

    /// A round trip was measured.
    #[inline]
    pub(super) fn on_round_trip(&mut self, rtt_us: u32, totals: &mut Totals, config: &Config) {
        self.rtt.on_sample(rtt_us, config);
        if rtt_us < totals.min_rtt_us {
            totals.on_smallest(rtt_us);
        }
    }

    /// A round-trip time by the segment's own send time or, where that is ambiguous, by the echoed timestamp.
    fn measure(&self, now: Instant, records: &AckedRecords, timestamps: Option<Timestamps>) -> Option<u32> {
        match records.sent_at {
            Some(sent_at) => Some(u32::try_from(now.nanos_since(sent_at) / 1_000).unwrap_or(u32::MAX)),
            None if records.retransmitted => self.echo_rtt_us(now, timestamps),
            None => None,
        }
    }

    /// RFC 6298 (5.2), (5.3)
    fn rearm_retransmit(&mut self, now: Instant, config: &Config) {
        if self.snd.una != self.snd.nxt {
            self.arm_retransmit(now, config);
            return;
        }
        if self.is_retransmit_armed() {
            self.timer = Timer::Idle;
            self.timer_at = NEVER;
            self.backoff = 0;
        }
    }

    /// A connection nobody reads any more waits for the peer's FIN only for a while.
    pub(super) fn arm_fin_wait2(&mut self, now: Instant, config: &Config) {
        if self.flags.has(Bits::ORPHAN) {
            self.arm(Timer::FinWait2, after(now, config.fin_wait2));
        }
    }
}
