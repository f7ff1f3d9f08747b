//! Segment arrival (RFC 9293 3.10.7.4): a list of steps, one function each.

use ringwire_wire::tcp::{Flags, SackBlocks, Timestamps};

use super::options::now_ms;
use super::tcb::{Bits, State, Tcb};
use super::{CloseReason, Cx, Outcome, Payload, SegmentIn, SendPool, Signals};
use crate::{DropReason, Instant, SeqNum};

/// Where the list of steps goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Next,
    /// The segment has done its work.
    Done,
    Drop(DropReason),
    /// The connection ends.
    Close(CloseReason),
}

/// One step of the list.
type StepFn<P, A> = fn(&mut Tcb, &mut Cx<'_, P, A>, &mut Arrival<P>) -> Step;

/// The segment on its way through the steps; they trim it to what is new and in the window.
pub(super) struct Arrival<P> {
    pub flags: Flags,
    pub seq: SeqNum,
    pub ack: SeqNum,
    /// The window field, unscaled.
    pub window: u32,
    pub timestamps: Option<Timestamps>,
    pub sack: SackBlocks,
    pub payload: Option<P>,
    /// SEG.SEQ as it arrived, for Last.ACK.sent.
    pub first_seq: SeqNum,
    /// Whether it carried text when it arrived: then it is no duplicate ACK and no part of an ACK loop.
    pub had_text: bool,
    /// The urgent pointer, if the segment has one.
    pub urgent: Option<u16>,
    /// A bare ACK that a newer one has overtaken: it says nothing of window and clock.
    pub is_overtaken: bool,
    pub outcome: Outcome,
}

impl<P: Payload> Arrival<P> {
    fn new(seg: &SegmentIn, payload: Option<P>) -> Self {
        let header = &seg.header;
        let payload = payload.filter(|payload| !payload.is_empty());
        Self {
            flags: header.flags,
            seq: SeqNum(header.seq),
            ack: SeqNum(header.ack),
            window: u32::from(header.window),
            timestamps: seg.options.timestamps,
            sack: seg.options.sack,
            first_seq: SeqNum(header.seq),
            had_text: payload.is_some(),
            urgent: header.flags.contains(Flags::URG).then_some(header.urgent),
            is_overtaken: false,
            payload,
            outcome: Outcome::default(),
        }
    }

    /// Bytes of text.
    pub(super) fn text_len(&self) -> u32 {
        // Payload lengths come from IP packets, which fit 16 bits.
        self.payload.as_ref().map_or(0, |payload| payload.len() as u32)
    }

    pub(super) fn has(&self, flag: Flags) -> bool {
        self.flags.contains(flag)
    }

    /// SEG.LEN
    fn len(&self) -> u32 {
        self.text_len() + u32::from(self.has(Flags::SYN)) + u32::from(self.has(Flags::FIN))
    }

    /// Drops the SYN, which has been dealt with.
    pub(super) fn skip_syn(&mut self) {
        self.flags = self.flags.without(Flags::SYN);
        self.seq += 1;
    }

    /// Drops text before `nxt` and, with its FIN, from `edge` on.
    fn trim(&mut self, nxt: SeqNum, edge: SeqNum) {
        let old = nxt.distance(self.seq);
        let Some(payload) = self.payload.as_mut() else { return };
        if self.seq.before(nxt) {
            payload.advance(payload.len().min(old as usize));
            self.seq = nxt;
        }
        let room = edge.distance(self.seq) as usize;
        if payload.len() > room {
            payload.truncate(room);
            self.flags = self.flags.without(Flags::FIN);
        }
        if payload.is_empty() {
            self.payload = None;
        }
    }
}

impl Tcb {
    /// A segment of this connection arrived.
    #[inline]
    pub fn on_segment<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        seg: &SegmentIn,
        payload: Option<P>,
    ) -> Outcome {
        cx.totals.segs_in = cx.totals.segs_in.wrapping_add(1);
        match self.fast_path(cx, seg, payload) {
            Ok(outcome) => outcome,
            Err(payload) => self.on_any_segment(cx, seg, payload),
        }
    }

    /// A segment whose text there is no memory for: what it acknowledges counts, for that frees memory; its text and what stands behind
    /// it have not come, and the peer repeats them.
    pub fn on_segment_without_text<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        seg: &SegmentIn,
    ) -> Outcome {
        let refused = Outcome { drop: Some(DropReason::NoMemory), ..Outcome::default() };
        cx.totals.segs_in = cx.totals.segs_in.wrapping_add(1);
        cx.totals.data_segs_in = cx.totals.data_segs_in.wrapping_add(1);
        // Without its text it would look like a duplicate.
        if SeqNum(seg.header.ack) == self.snd.una {
            return refused;
        }
        let mut seg = *seg;
        seg.header.flags = seg.header.flags.without(Flags::FIN);
        seg.is_marked = false;
        let outcome = self.on_any_segment(cx, &seg, None);
        Outcome { drop: outcome.drop.or(refused.drop), ..outcome }
    }

    fn on_any_segment<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        seg: &SegmentIn,
        payload: Option<P>,
    ) -> Outcome {
        let mut arrival = Arrival::new(seg, payload);
        cx.totals.data_segs_in = cx.totals.data_segs_in.wrapping_add(arrival.had_text.into());
        let nxt_before = self.rcv.nxt;
        let step = match self.state {
            State::Closed => self.on_closed(&mut arrival),
            State::SynSent => match self.on_syn_sent(cx, seg, &mut arrival) {
                Step::Next => self.walk(cx, &mut arrival, &[Self::take_text, Self::take_fin]),
                step => step,
            },
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => self.walk(
                cx,
                &mut arrival,
                &[
                    Self::check_time_wait,
                    Self::check_timestamps,
                    Self::check_sequence,
                    Self::check_reset,
                    Self::check_syn,
                    Self::check_ack,
                    Self::take_text,
                    Self::take_urgent,
                    Self::take_fin,
                ],
            ),
        };
        match step {
            Step::Next | Step::Done => {}
            Step::Drop(reason) => arrival.outcome.drop = Some(reason),
            Step::Close(reason) => self.close_with(cx, reason, &mut arrival.outcome),
        }
        if self.flags.has(Bits::ECN) && arrival.outcome.drop.is_none() {
            self.note_mark(cx, (seg.is_marked, arrival.had_text), nxt_before);
        }
        self.free_idle_cold(cx);
        arrival.outcome
    }

    fn walk<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &mut Arrival<P>,
        steps: &[StepFn<P, A>],
    ) -> Step {
        for step in steps {
            match step(self, cx, arrival) {
                Step::Next => {}
                end @ (Step::Done | Step::Drop(_) | Step::Close(_)) => return end,
            }
        }
        Step::Done
    }

    /// RFC 9293 3.10.7.1: the block is only kept for what the application has not read or we have not sent.
    fn on_closed<P: Payload>(&mut self, arrival: &mut Arrival<P>) -> Step {
        if !arrival.has(Flags::RST) {
            arrival.outcome.signals |= Signals::SEND_RESET;
        }
        Step::Drop(DropReason::TcpNoSocket)
    }

    /// RFC 7323 5.3 (R1), PAWS.
    fn check_timestamps<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &mut Arrival<P>,
    ) -> Step {
        // RFC 7323 5.2: a RST is not subject to PAWS, and need not carry the option.
        if !self.flags.has(Bits::TIMESTAMPS) || arrival.has(Flags::RST) {
            return Step::Next;
        }
        let Some(timestamps) = arrival.timestamps else {
            // RFC 7323 3.2: such a segment should be dropped. Not a SYN: its sender began anew, and RFC 5961 4.2 lets it know that we
            // have not.
            let is_new = arrival.has(Flags::SYN);
            return if is_new { Step::Next } else { Step::Drop(DropReason::TcpMissingTimestamp) };
        };
        let older = timestamps.value.wrapping_sub(self.ts_recent).cast_signed() < 0;
        if !older || self.ts_recent_expired(cx.now) {
            return Step::Next;
        }
        if self.is_overtaken(arrival, timestamps) {
            arrival.is_overtaken = true;
            return Step::Next;
        }
        self.ack_unacceptable(arrival, cx.now);
        Step::Drop(DropReason::TcpPaws)
    }

    /// Whether it is a bare ACK for nothing new, in its place, that is late by less than an RTO: as a number cannot have wrapped in that
    /// time, PAWS has nothing to protect, and its SACK may be the only one of its kind (Linux's tcp_disordered_ack).
    fn is_overtaken<P: Payload>(&self, arrival: &Arrival<P>, timestamps: Timestamps) -> bool {
        let late_ms = self.ts_recent.wrapping_sub(timestamps.value);
        arrival.len() == 0
            && self.state != State::TimeWait
            && arrival.has(Flags::ACK)
            && arrival.seq == self.rcv.nxt
            && arrival.ack.before_eq(self.snd.una)
            && late_ms <= self.rtt.rto_us() / 1_000
    }

    /// RFC 9293 3.10.7.4, first: sequence number.
    fn check_sequence<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &mut Arrival<P>,
    ) -> Step {
        // SND.WL1 is the peer's initial number until the handshake is over; RCV.NXT may count the SYN's text.
        if self.state == State::SynReceived && arrival.has(Flags::SYN) && arrival.seq == self.snd.wl1 {
            return self.on_repeated_syn(arrival, cx.now);
        }
        let (nxt, edge) = (self.rcv.nxt, self.rcv.adv);
        let end = arrival.seq + arrival.len();
        // One segment may stand at the edge itself: a peer that filled the window acknowledges from there, and the RFC's table
        // would lose what it acknowledges. Its text is trimmed away below. A RST there is outside (RFC 5961 3.2).
        let last = if arrival.has(Flags::RST) && edge != nxt { edge - 1 } else { edge };
        let starts_inside = arrival.seq.distance(nxt) <= last.distance(nxt);
        let ends_inside = nxt.distance(arrival.seq) < arrival.len();
        if starts_inside || ends_inside {
            if arrival.seq.before(nxt) && arrival.text_len() > 0 {
                self.report_duplicate(cx, arrival.seq, nxt);
            }
            if arrival.seq == edge && arrival.text_len() > 0 {
                // RFC 9293 3.10.7.4: with a closed window, ACKs and RSTs still count. The text is answered with an ACK.
                self.flags.set(Bits::TX_ACK);
            }
            arrival.trim(nxt, edge);
            return Step::Next;
        }
        if arrival.has(Flags::RST) {
            return Step::Drop(DropReason::TcpOutOfWindow);
        }
        if end.before_eq(nxt) && arrival.text_len() > 0 {
            self.report_duplicate(cx, arrival.seq, arrival.seq + arrival.text_len());
        }
        self.ack_unacceptable(arrival, cx.now);
        if self.is_news_in_probe(arrival) {
            (arrival.seq, arrival.payload) = (nxt, None);
            arrival.flags = arrival.flags.without(Flags::FIN);
            return Step::Next;
        }
        Step::Drop(if end.before_eq(nxt) { DropReason::TcpDuplicate } else { DropReason::TcpOutOfWindow })
    }

    /// Whether a segment is one number old, as keepalive and window probes are and a FIN that comes again, and acknowledges what nothing
    /// else has acknowledged. RFC 9293 A.2: where the acknowledgement before it was lost, the peer may have nothing but this to send.
    fn is_news_in_probe<P: Payload>(&self, arrival: &Arrival<P>) -> bool {
        arrival.seq + 1 == self.rcv.nxt
            && arrival.len() <= 1
            && arrival.has(Flags::ACK)
            && !arrival.has(Flags::SYN)
            && self.state != State::SynReceived
            && arrival.ack.after(self.snd.una)
            && arrival.ack.before_eq(self.snd.nxt)
    }

    /// Second: RST (RFC 5961 3.2).
    fn check_reset<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &mut Arrival<P>,
    ) -> Step {
        if !arrival.has(Flags::RST) {
            return Step::Next;
        }
        if arrival.first_seq != self.rcv.nxt {
            self.challenge(cx.now);
            return Step::Drop(DropReason::TcpRstChallenged);
        }
        match self.state {
            State::SynReceived if self.flags.has(Bits::ACTIVE) => Step::Close(CloseReason::Refused),
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait => Step::Close(CloseReason::Reset),
            State::Closing | State::LastAck => Step::Close(self.end_of_a_closed_stream(cx)),
            // RFC 1337 3 (F1): our own answer to an old duplicate can draw it, and the next duplicate would meet a new connection.
            State::TimeWait => Step::Drop(DropReason::TcpTimeWait),
            State::Closed | State::SynSent => Step::Done,
        }
    }

    /// Both have closed. RFC 9293 3.10.7.4 has nothing to say of a reset then, for nothing more can come; but text that is not
    /// acknowledged is a SEND outstanding, and its sender learns that it may be lost.
    fn end_of_a_closed_stream<P: Payload, A: SendPool>(&self, cx: &Cx<'_, P, A>) -> CloseReason {
        let is_delivered = cx.cold.get(self.cold).is_none_or(|cold| cold.send.is_empty());
        if is_delivered { CloseReason::Finished } else { CloseReason::Reset }
    }

    /// Fourth: SYN (RFC 5961 4.2). The third step, security, does not exist here.
    fn check_syn<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &mut Arrival<P>,
    ) -> Step {
        if !arrival.has(Flags::SYN) {
            return Step::Next;
        }
        if self.state == State::SynReceived && !self.flags.has(Bits::ACTIVE) && !self.is_fast_opened() {
            // Back to LISTEN: the peer began anew, its next SYN finds the listener.
            return Step::Close(CloseReason::Reset);
        }
        self.challenge(cx.now);
        Step::Drop(DropReason::TcpSynChallenged)
    }

    /// An unacceptable segment is answered with an ACK. One with text is no part of an ACK loop; the others are rate-limited.
    pub(super) fn ack_unacceptable<P: Payload>(&mut self, arrival: &Arrival<P>, now: Instant) {
        if arrival.had_text && !arrival.has(Flags::SYN) {
            self.flags.set(Bits::TX_ACK);
        } else {
            self.challenge(now);
        }
    }

    /// RFC 5961 7: a challenge ACK, limited for each connection on its own (CVE-2016-5696).
    pub(super) fn challenge(&mut self, now: Instant) {
        if self.may_challenge(now) {
            self.flags.set(Bits::TX_ACK);
        }
    }

    pub(super) fn may_challenge(&mut self, now: Instant) -> bool {
        let now_ms = now_ms(now);
        if self.flags.has(Bits::CHALLENGED) && now_ms.wrapping_sub(self.challenge_ms) < CHALLENGE_INTERVAL_MS
        {
            return false;
        }
        self.flags.set(Bits::CHALLENGED);
        self.challenge_ms = now_ms;
        true
    }

    /// RFC 7323 5.5: after 24 days without an acceptable segment, TS.Recent says nothing.
    fn ts_recent_expired(&self, now: Instant) -> bool {
        now_ms(now).wrapping_sub(self.heard_ms) > TS_RECENT_LIFE_MS
    }
}

/// Linux's tcp_invalid_ratelimit: damps two stacks that answer each other's ACKs.
pub(super) const CHALLENGE_INTERVAL_MS: u32 = 500;

const TS_RECENT_LIFE_MS: u32 = 24 * 24 * 3600 * 1000;
