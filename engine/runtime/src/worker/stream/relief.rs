//! When the frames for sending run out: connections whose peers take nothing are reset, so that those that make progress can go on.
//!
//! A peer that closes its window, or stops acknowledging, keeps what is queued for it for as long as the protocol's patience lasts. While
//! there are frames, that is its right (RFC 9293 3.8.6.1); when there are none, and others send from the heap, it is not.

use core::time::Duration;

use super::*;

/// Without progress for so long: seven retransmissions, or half the time that TIME-WAIT would remember it.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Flows looked at in one turn.
const LOOKS: u32 = 64;

/// Where the search goes on.
#[derive(Debug, Default)]
pub(super) struct Relief {
    next_slot: u32,
}

impl Streams {
    /// At most one connection a turn.
    #[inline]
    pub(super) fn relieve(&mut self, io: &mut Io) {
        if !io.link.pool.can_alloc(Class::Send) {
            self.cut_stalled(io);
        }
    }

    #[cold]
    fn cut_stalled(&mut self, io: &mut Io) {
        for _ in 0..LOOKS.min(self.flows.slots()) {
            let slot = self.relief.next_slot % self.flows.slots();
            self.relief.next_slot = slot + 1;
            let since = self.flows.at(slot).and_then(|flow| flow.tcb.waits_since());
            if since.is_some_and(|since| since + STALLED_AFTER <= io.now) {
                io.counters.now.stalled_cut += 1;
                return self.cut(io, slot);
            }
        }
    }

    /// Resets a connection, and tells the application if it holds it.
    fn cut(&mut self, io: &mut Io, slot: u32) {
        let outcome = with_machine!(self, io, slot, |flow, cx| flow.tcb.abort(&mut cx));
        if let Some(outcome) = outcome {
            let closed = Some(tcp::CloseReason::TimedOut);
            self.settle(io, slot, Outcome { closed, ..outcome });
        }
    }
}
