//! What keeps a connection from sending although the path would take more: the peer's window, or our own send buffer (Linux's
//! tcpi_rwnd_limited and tcpi_sndbuf_limited).
//!
//! A brake is on from the moment at which nothing more could be sent for its sake until more is sent, or something else stands in the way;
//! the last one counts. It is only looked at where sending stops, so while it is off a segment costs one comparison.

use super::cold::Cold;
use super::tcb::{Bits, Tcb};
use super::totals::Totals;
use super::{Cx, SendPool, Signals, State};
use crate::Instant;

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Brake {
    /// The next segment does not fit the peer's receive window.
    ReceiveWindow,
    /// All that was written is in flight, and the application was told that there is no room for more.
    SendBuffer,
}

impl Brake {
    pub(super) const COUNT: usize = 2;
}

/// A brake that is on, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Braked {
    pub by: Brake,
    pub from: Instant,
}

impl<P, S> Cold<P, S> {
    /// Nothing more is sent for this reason.
    pub(super) fn brake(&mut self, by: Brake, totals: &mut Totals, now: Instant) {
        if self.braked.is_none_or(|braked| braked.by != by) {
            self.release(totals, now);
            self.braked = Some(Braked { by, from: now });
        }
    }

    /// Something is sent, or it is not for this that it is not.
    #[inline]
    pub(super) fn release(&mut self, totals: &mut Totals, now: Instant) {
        if self.braked.is_some() {
            self.count_braked(totals, now);
        }
    }

    #[cold]
    #[inline(never)]
    fn count_braked(&mut self, totals: &mut Totals, now: Instant) {
        if let Some(braked) = self.braked.take()
            && let Some(sum_ns) = totals.incidents_mut().braked_ns.get_mut(braked.by as usize)
        {
            *sum_ns += now.nanos_since(braked.from);
        }
    }

    /// How long it was on so far.
    pub(super) fn braked_ns(&self, by: Brake, now: Instant) -> u64 {
        self.braked.filter(|braked| braked.by == by).map_or(0, |braked| now.nanos_since(braked.from))
    }
}

impl Tcb {
    /// The last of what was written has left while the application wanted to write more: the buffer is what is too small, unless the
    /// congestion window is full.
    #[cold]
    #[inline(never)]
    pub(super) fn brake_on_buffer<P, S>(&self, cold: &mut Cold<P, S>, totals: &mut Totals, now: Instant) {
        let has_room = self.pipe(cold) + u32::from(self.mss) <= self.window.cwnd;
        if has_room && !self.flags.has(Bits::FIN_QUEUED) {
            cold.brake(Brake::SendBuffer, totals, now);
        }
    }

    /// There is room for what the application wanted to write.
    #[cold]
    #[inline(never)]
    pub(super) fn unblock_writer<P, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Signals {
        self.flags.clear(Bits::SEND_BLOCKED);
        // The peer's window stays as small as it is.
        if let Some(cold) = cx.cold.get_mut(self.cold)
            && cold.braked.is_some_and(|braked| braked.by == Brake::SendBuffer)
        {
            cold.release(cx.totals, cx.now);
        }
        Signals::WRITABLE
    }

    /// Whether something written, or our FIN, waits to be sent or acknowledged.
    pub(super) fn is_busy<P, S>(&self, cold: Option<&Cold<P, S>>) -> bool {
        let is_fin_acked = self.flags.has(Bits::FIN_SENT) && self.snd.una == self.snd.nxt;
        let is_closing = self.flags.has(Bits::FIN_QUEUED) && !is_fin_acked;
        self.state != State::Closed && (is_closing || cold.is_some_and(|cold| !cold.send.is_empty()))
    }
}
