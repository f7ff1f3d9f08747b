//! How much waits for the window: a mark for applications that want to decide late what they send (Linux's TCP_NOTSENT_LOWAT).
//!
//! What may leave at once does not count, for it leaves with this turn. Writes fill up to the mark; WRITABLE comes at half of it.

use core::num::NonZeroU32;

use super::tcb::{Bits, Tcb};
use super::{Cx, SendPool, Signals};

impl Tcb {
    /// Bytes that may be queued besides the `queued` ones: at least a segment while fewer than `mark_bytes` wait.
    #[cold]
    pub(super) fn room_below(&self, mark_bytes: NonZeroU32, queued: u32) -> u32 {
        let (waiting, usable) = self.waiting_and_usable(queued);
        match mark_bytes.get().saturating_sub(waiting) {
            0 => 0,
            left => usable.saturating_add(left.max(self.mss.into())),
        }
    }

    /// Whether so little waits that it is worth a write.
    pub(super) fn is_below_mark(&self, mark_bytes: Option<NonZeroU32>, queued: u32) -> bool {
        mark_bytes.is_none_or(|mark_bytes| self.waiting_and_usable(queued).0 < mark_bytes.get().div_ceil(2))
    }

    /// Whether there is room to write; if not, [`Signals::WRITABLE`] follows.
    pub fn poll_send_room<P, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> bool {
        let queued = cx.cold.get(self.cold).map_or(0, |cold| cold.send.bytes());
        let has_room = self.has_send_room(cx, queued);
        if has_room {
            // Who asks need not be told.
            let _ = self.unblock_writer(cx);
        } else {
            self.flags.set(Bits::SEND_BLOCKED);
        }
        has_room
    }

    /// The application waits for room, and the peer's window has grown.
    #[cold]
    #[inline(never)]
    pub(super) fn look_for_room<P, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Signals {
        let queued = cx.cold.get(self.cold).map_or(0, |cold| cold.send.bytes());
        if self.has_send_room(cx, queued) { self.unblock_writer(cx) } else { Signals::NONE }
    }

    /// Linux's rule: when a third of the buffer is free, so that one event is worth a write.
    pub(super) fn has_send_room<P, A: SendPool>(&self, cx: &Cx<'_, P, A>, queued: u32) -> bool {
        queued <= cx.send_limit_bytes(self.window.cwnd) / 3 * 2
            && self.is_below_mark(cx.config.unsent_low_water_bytes, queued)
    }

    /// Of the queued bytes those that wait for the window, and what that leaves free.
    fn waiting_and_usable(&self, queued: u32) -> (u32, u32) {
        let flight = self.flight();
        let unsent = queued.saturating_sub(flight);
        let usable = self.window.cwnd.min(self.snd.wnd).saturating_sub(flight);
        (unsent.saturating_sub(usable), usable.saturating_sub(unsent))
    }
}
