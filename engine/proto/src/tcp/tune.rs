//! How much a peer may send ahead, and how much may wait to be sent: both grow with what the path carries.
//!
//! The receive buffer is twice what the application takes in a round trip, so that the peer's window can double while it opens its
//! congestion window (Linux's dynamic right-sizing). The send buffer is twice the congestion window: one part in flight, one part to
//! follow it. Both are limits, not memory.

use super::options::now_ms;
use super::{Config, Cx, SendPool, Tcb};
use crate::SeqNum;

/// The receive buffer of one connection; kept by the connection's owner, lent with [`Cx`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecvTune {
    /// What it has grown to; 0: it has not.
    grown_bytes: u32,
    /// rcv.nxt and the time, in milliseconds, when the round trip under way began; 0: none has.
    mark: SeqNum,
    mark_ms: u32,
    /// Memory is short: what had grown counts as not grown, and nothing grows.
    pub is_memory_short: bool,
}

impl RecvTune {
    /// Bytes that the connection may hold, and announce.
    #[inline]
    pub fn limit_bytes(&self, config: &Config) -> u32 {
        if self.is_memory_short {
            config.recv_buffer_bytes
        } else {
            config.recv_buffer_bytes.max(self.grown_bytes)
        }
    }
}

impl<P, A: SendPool> Cx<'_, P, A> {
    #[inline]
    pub(super) fn recv_limit_bytes(&self) -> u32 {
        self.tune.limit_bytes(self.config)
    }

    /// Out-of-order pieces that a buffer of this size may be cut into.
    pub(super) fn reassembly_segs(&self) -> usize {
        // A full window of ordinary segments, none of which may be refused for its number.
        self.config.reassembly_segs.max(self.tune.grown_bytes / 512) as usize
    }

    /// Unread pieces, likewise.
    #[inline]
    pub(super) fn recv_segs(&self) -> usize {
        self.config.recv_buffer_segs.max(self.tune.grown_bytes / 512) as usize
    }
}

impl Tcb {
    /// In-order data arrived: once in a round trip, looks whether the buffer holds the peer back.
    #[inline]
    pub(super) fn tune_receive<P, A: SendPool>(&self, cx: &mut Cx<'_, P, A>) {
        let now_ms = now_ms(cx.now);
        let elapsed_ms = now_ms.wrapping_sub(cx.tune.mark_ms);
        if elapsed_ms.saturating_mul(1_000) < self.rtt.srtt_us().max(1_000) {
            return;
        }
        let is_first = cx.tune.mark_ms == 0;
        let taken = self.rcv.nxt.distance(core::mem::replace(&mut cx.tune.mark, self.rcv.nxt));
        cx.tune.mark_ms = now_ms.max(1);
        // Much later than a round trip says nothing about one.
        let is_one_round = u64::from(elapsed_ms) * 1_000 <= 2 * u64::from(self.rtt.srtt_us()) + 8_000;
        if !is_first && is_one_round {
            self.grow_receive(cx, taken);
        }
    }

    fn grow_receive<P, A: SendPool>(&self, cx: &mut Cx<'_, P, A>, taken_bytes: u32) {
        let limit = cx.recv_limit_bytes();
        let is_read = self.rcv.held_bytes <= limit / 2;
        let wanted = taken_bytes.saturating_mul(2).saturating_add(16 * u32::from(self.mss));
        if is_read && wanted > limit && !cx.tune.is_memory_short {
            cx.tune.grown_bytes = wanted.min(cx.config.recv_buffer_max_bytes);
        }
    }

    /// Bytes that may be queued for sending.
    #[inline]
    pub(super) fn send_limit_bytes(&self, config: &Config) -> u32 {
        let grown = self.window.cwnd.saturating_mul(2).min(config.send_buffer_max_bytes);
        config.send_buffer_bytes.max(grown)
    }
}
