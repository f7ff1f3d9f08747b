//! Segment text and FIN (RFC 9293 3.10.7.4, seventh and eighth), acknowledgement policy and receive window.

use alloc::collections::VecDeque;

use ringwire_wire::tcp::Flags;

use super::arrival::{Arrival, Step};
use super::config::after;
use super::reassembly::Stored;
use super::tcb::{Bits, NEVER, State, Tcb};
use super::{CloseReason, Config, Cx, Outcome, Payload, SendPool, Signals};
use crate::{DropReason, Instant, SeqNum};

impl Tcb {
    /// Seventh: text.
    pub(super) fn take_text<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &mut Arrival<P>,
    ) -> Step {
        let Some(payload) = arrival.payload.take() else { return Step::Next };
        match self.state {
            State::Established | State::FinWait1 | State::FinWait2 => {}
            // After the peer's FIN there is no text.
            State::CloseWait | State::Closing | State::LastAck | State::TimeWait => return Step::Next,
            State::Closed | State::SynSent | State::SynReceived => return Step::Done,
        }
        if self.flags.has(Bits::ORPHAN) {
            // RFC 9293 3.6.1 (SHLD-3), RFC 2525 2.17: nobody will read it, and the peer must know.
            arrival.outcome.signals |= Signals::SEND_RESET;
            arrival.outcome.drop = Some(DropReason::TcpAfterClose);
            return Step::Close(CloseReason::Aborted);
        }
        // Payload lengths come from IP packets, which fit 16 bits.
        let len = payload.len() as u32;
        let in_order = arrival.seq == self.rcv.nxt;
        arrival.seq += len;
        if in_order {
            self.take_in_order(cx, payload, &mut arrival.outcome)
        } else {
            self.take_early(cx, arrival, payload, len)
        }
    }

    /// Sixth: URG, after the text, which it may be about. The data stays where it is in the stream (RFC 6093 6); the application hears of
    /// it with the data, and [`super::Info::urgent_bytes`] says how far it goes.
    pub(super) fn take_urgent<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &mut Arrival<P>,
    ) -> Step {
        let Some(pointer) = arrival.urgent else { return Step::Next };
        let up = arrival.first_seq + u32::from(pointer);
        if let Some(cold) = cx.cold.get_mut(self.cold)
            && up.after(cold.urgent.unwrap_or(self.rcv.nxt - self.rcv.held_bytes))
        {
            // RFC 9293 3.8.5 (MUST-32): when there was none, and whenever it moves on; what is not in order yet will be told of with
            // its text.
            cold.urgent = Some(up);
            if !cold.unread.is_empty() {
                arrival.outcome.signals |= Signals::READABLE;
            }
        }
        Step::Next
    }

    /// Bytes up to the peer's urgent pointer that the application has not given back, arrived or not.
    pub(super) fn urgent_bytes(&self, urgent: Option<SeqNum>) -> u32 {
        let left = urgent.map_or(0, |up| up.offset_from(self.rcv.nxt - self.rcv.held_bytes));
        u32::try_from(left).unwrap_or(0)
    }

    /// Eighth: FIN. `arrival.seq` stands behind the text now.
    pub(super) fn take_fin<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &mut Arrival<P>,
    ) -> Step {
        if self.flags.has(Bits::FIN_RECEIVED) {
            return Step::Done;
        }
        let here = arrival.has(Flags::FIN) && arrival.seq.before_eq(self.rcv.nxt);
        if arrival.has(Flags::FIN) && !here {
            self.cold_mut(cx.cold, cx.totals).reassembly.set_fin(arrival.seq);
            self.flags.set(Bits::HOLES);
            self.owe_duplicate_ack();
        }
        let held = cx.cold.get_mut(self.cold).is_some_and(|cold| cold.reassembly.take_fin(self.rcv.nxt));
        if !here && !held {
            return Step::Done;
        }
        if let Some(cold) = cx.cold.get_mut(self.cold) {
            // Text behind the end of the stream is a lie.
            cold.reassembly.clear();
        }
        self.flags.clear(Bits::HOLES);
        self.rcv.nxt += 1;
        self.rcv.adv = self.rcv.adv.later(self.rcv.nxt);
        self.flags.set(Bits::FIN_RECEIVED.or(Bits::TX_ACK));
        arrival.outcome.signals |= Signals::READABLE | Signals::PEER_CLOSED;
        match self.state {
            State::SynReceived | State::Established => self.transition(State::CloseWait),
            // The ACK of our FIN would have moved us to FIN-WAIT-2 before.
            State::FinWait1 => self.transition(State::Closing),
            State::FinWait2 => self.enter_time_wait(cx),
            State::CloseWait | State::Closing | State::LastAck | State::TimeWait => {}
            State::Closed | State::SynSent => {}
        }
        Step::Done
    }

    /// The next bytes of the stream.
    #[inline]
    pub(super) fn take_in_order<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        mut payload: P,
        outcome: &mut Outcome,
    ) -> Step {
        let (config, max_segs) = (cx.config, cx.recv_segs());
        let (filled_hole, nxt_before) = (self.flags.has(Bits::HOLES), self.rcv.nxt);
        let cold = self.cold_mut(cx.cold, cx.totals);
        if cold.unread.len() >= max_segs {
            // Bytes fit, buffers do not. The peer will try again, and the application may not know how little fits by now.
            self.flags.set(Bits::TX_ACK);
            outcome.signals |= Signals::READABLE;
            return Step::Drop(DropReason::TcpReceiveFull);
        }
        if let Some(first) = cold.reassembly.first() {
            let room = first.distance(self.rcv.nxt) as usize;
            payload.truncate(room.min(payload.len()));
        }
        self.deliver(&mut cold.unread, payload, outcome);
        while filled_hole && let Some(payload) = cold.reassembly.pop_in_order(self.rcv.nxt) {
            self.deliver(&mut cold.unread, payload, outcome);
        }
        cx.totals.bytes_received += u64::from(self.rcv.nxt.distance(nxt_before));
        cx.totals.data_received_at = cx.now;
        // Only the last piece in order can end beyond the announced edge, after the buffer was made smaller.
        self.rcv.adv = self.rcv.adv.later(self.rcv.nxt);
        if filled_hole && cold.reassembly.is_empty() {
            cold.reassembly.clear();
            self.flags.clear(Bits::HOLES);
        }
        if filled_hole {
            // RFC 5681 4.2: at once when a gap is filled, wholly or in part.
            self.flags.set(Bits::TX_ACK);
        } else {
            self.schedule_ack(cx.now, config);
        }
        self.tune_receive(cx);
        Step::Next
    }

    /// One piece in order, for the application if it still reads.
    #[inline(always)]
    fn deliver<P: Payload>(&mut self, unread: &mut VecDeque<P>, payload: P, outcome: &mut Outcome) {
        // Payload lengths come from IP packets, which fit 16 bits.
        let len = payload.len() as u32;
        self.rcv.nxt += len;
        if !self.flags.has(Bits::READ_SHUT) {
            self.rcv.held_bytes += len;
            unread.push_back(payload);
            outcome.signals |= Signals::READABLE;
        }
    }

    /// Text ahead of a gap.
    fn take_early<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &Arrival<P>,
        payload: P,
        len: u32,
    ) -> Step {
        let max_segs = cx.reassembly_segs();
        let incidents = cx.totals.incidents_mut();
        incidents.early_segs = incidents.early_segs.wrapping_add(1);
        let stored = self.cold_mut(cx.cold, cx.totals).reassembly.store(arrival.seq - len, payload, max_segs);
        self.owe_duplicate_ack();
        match stored {
            Stored::Kept => {
                self.flags.set(Bits::HOLES);
                Step::Next
            }
            Stored::Duplicate => {
                self.report_duplicate(cx, arrival.seq - len, arrival.seq);
                if arrival.has(Flags::FIN) { Step::Next } else { Step::Drop(DropReason::TcpDuplicate) }
            }
            Stored::Full => Step::Drop(DropReason::TcpReassemblyFull),
        }
    }

    /// RFC 2883 4: the peer learns what it sent needlessly.
    pub(super) fn report_duplicate<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        left: SeqNum,
        right: SeqNum,
    ) {
        if self.flags.has(Bits::SACK) {
            self.cold_mut(cx.cold, cx.totals).reassembly.report_duplicate(left, right);
            self.flags.set(Bits::DSACK);
        }
    }

    /// RFC 5681 4.2: one duplicate ACK at once for each segment out of order, bare so that the peer can count it.
    fn owe_duplicate_ack(&mut self) {
        self.dup_acks_due = self.dup_acks_due.saturating_add(1);
        self.flags.set(Bits::TX_DUP_ACK);
    }

    /// RFC 9293 3.8.6.3, RFC 5681 4.2: at once when more than a segment is unacknowledged, else soon.
    #[inline]
    pub(super) fn schedule_ack(&mut self, now: Instant, config: &Config) {
        if self.quick_acks > 0 || self.rcv.nxt.distance(self.rcv.ack_sent) > u32::from(self.mss) {
            self.quick_acks = self.quick_acks.saturating_sub(1);
            self.flags.set(Bits::TX_ACK);
        } else if self.delack_at == NEVER {
            self.delack_at = after(now, config.delayed_ack);
        }
    }

    /// Bytes by which the announced right edge may move: never back, and not by less than a segment or half the buffer
    /// (RFC 9293 3.8.6.2.2).
    #[inline]
    pub(super) fn window_gain(&self, limit_bytes: u32) -> Option<u32> {
        let free = limit_bytes.saturating_sub(self.rcv.held_bytes);
        let unit = 1 << self.shifts.rcv();
        let offer = free.min(u32::from(u16::MAX) << self.shifts.rcv()) & !(unit - 1);
        let gain = offer.saturating_sub(self.rcv_wnd());
        (gain > 0 && gain >= u32::from(self.mss).min(limit_bytes / 2)).then_some(gain)
    }

    /// Moves the right edge if it may move; for a segment that leaves anyway.
    #[inline]
    pub(super) fn open_window(&mut self, limit_bytes: u32) {
        self.flags.clear(Bits::TX_WINDOW);
        if let Some(gain) = self.window_gain(limit_bytes) {
            self.rcv.adv += gain;
        }
    }

    /// The application gave bytes back: is that worth an ACK of its own? While the peer still has a comfortable window, updates are
    /// collected until they open a quarter of the largest window.
    pub(super) fn consider_window_update(&mut self, limit_bytes: u32) {
        self.flags.clear(Bits::TX_WINDOW);
        match self.state {
            State::Established | State::FinWait1 | State::FinWait2 => {}
            // The peer has not begun to send or is through.
            State::Closed
            | State::SynSent
            | State::SynReceived
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => return,
        }
        let Some(gain) = self.window_gain(limit_bytes) else { return };
        let largest = limit_bytes.min(u32::from(u16::MAX) << self.shifts.rcv());
        if self.rcv_wnd() < 2 * u32::from(self.mss) || gain >= largest / 4 {
            self.flags.set(Bits::TX_ACK);
        }
    }
}
