//! Header prediction: the next data, or the acknowledgement of new data, on an established connection in good order.

use ringwire_wire::tcp::Flags;

use super::ack::Advance;
use super::arrival::Step;
use super::tcb::{Bits, State, Tcb};
use super::{Cx, Outcome, Payload, SegmentIn, SendPool};
use crate::SeqNum;

/// Facts under which the steps of RFC 9293 3.10.7.4 must be walked one by one.
const SLOW: Bits = Bits::RECOVERY.or(Bits::HOLES).or(Bits::READ_SHUT).or(Bits::TAIL_PROBED).or(Bits::ECE_DUE);

impl Tcb {
    /// Does the whole work of an expected segment, or gives the payload back for the list of steps.
    #[inline]
    pub(super) fn fast_path<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        seg: &SegmentIn,
        payload: Option<P>,
    ) -> Result<Outcome, Option<P>> {
        let payload = payload.filter(|payload| !payload.is_empty());
        if !self.is_expected(seg, payload.as_ref()) {
            return Err(payload);
        }
        let mut outcome = Outcome::default();
        let (seq, ack) = (SeqNum(seg.header.seq), SeqNum(seg.header.ack));
        self.on_heard(cx.now, cx.config);
        self.note_timestamp(seq, seg.options.timestamps);
        if ack != self.snd.una {
            self.on_ack_advance(cx, &Advance::to(ack), seg.options.timestamps, &mut outcome);
            self.steer(cx);
        }
        let window = u32::from(seg.header.window) << self.shifts.snd();
        outcome.signals |= self.update_window(cx, (seq, ack), window);
        match payload.map(|payload| self.take_next(cx, payload, &mut outcome)) {
            Some(Step::Next | Step::Done | Step::Close(_)) => return Ok(outcome),
            Some(Step::Drop(reason)) => outcome.drop = Some(reason),
            None => {}
        }
        self.free_idle_cold(cx);
        Ok(outcome)
    }

    #[inline]
    fn take_next<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        payload: P,
        outcome: &mut Outcome,
    ) -> Step {
        cx.totals.data_segs_in = cx.totals.data_segs_in.wrapping_add(1);
        self.take_in_order(cx, payload, outcome)
    }

    #[inline]
    fn is_expected<P: Payload>(&self, seg: &SegmentIn, payload: Option<&P>) -> bool {
        let header = &seg.header;
        if self.state != State::Established
            || header.flags.without(Flags::PSH) != Flags::ACK
            || header.seq != self.rcv.nxt.0
            || self.flags.has(SLOW)
            || seg.is_marked
            || !seg.options.sack.is_empty()
        {
            return false;
        }
        let in_time = match seg.options.timestamps {
            Some(stamp) => {
                !self.flags.has(Bits::TIMESTAMPS)
                    || stamp.value.wrapping_sub(self.ts_recent).cast_signed() >= 0
            }
            None => !self.flags.has(Bits::TIMESTAMPS),
        };
        let newly_acked = SeqNum(header.ack).distance(self.snd.una);
        match payload {
            // A bare ACK that acknowledges nothing may be a duplicate.
            None => in_time && newly_acked != 0 && newly_acked <= self.flight(),
            Some(payload) => {
                in_time && newly_acked <= self.flight() && payload.len() <= self.rcv_wnd() as usize
            }
        }
    }
}
