//! How much a peer may send ahead, and how much may wait to be sent: both grow with what the path carries.
//!
//! The receive buffer is twice what the application takes in a round trip, so that the peer's window can double while it opens its
//! congestion window (Linux's dynamic right-sizing), and what waits behind holes beside it. The send buffer is twice the congestion window: one part in flight, one part to
//! follow it; four times for an algorithm that does not slow down for a hole. Both are limits, not memory.

use super::options::now_ms;
use super::tcb::Bits;
use super::{ColdStore, Config, Cx, Payload, SendPool, Tcb};
use crate::SeqNum;

/// The receive buffer of one connection; kept by the connection's owner, lent with [`Cx`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecvTune {
    /// What it has grown to; 0: it has not.
    grown_bytes: u32,
    /// rcv.nxt and the time, in milliseconds, when the round trip under way began; 0: none has.
    mark: SeqNum,
    mark_ms: u32,
    /// How short the worker's memory is.
    pub pressure: Pressure,
}

/// How short a worker's memory is. Each step gives up what it names and what the steps before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// Receive buffers: what had grown counts as not grown, and nothing grows.
    Growth,
    /// New connections of peers, which the owner of listeners refuses, and send buffers that had grown.
    Strangers,
    /// Data ahead of a gap, but for a few pieces; the owner calls [`Tcb::shed_early`] for what is held.
    Early,
    /// What stands still: a connection takes no more than 64 KiB each way, and the owner resets those that make no progress.
    Stalled,
}

/// Pieces ahead of a gap that a connection keeps under [`Pressure::Early`]: as many as SACK and recovery need to go on.
const EARLY_SEGS: usize = 16;

/// What a connection may hold each way under [`Pressure::Stalled`].
const MODEST_BYTES: u32 = 64 << 10;

/// The same in pieces.
const MODEST_SEGS: usize = 48;

impl RecvTune {
    /// Bytes that the connection may hold, and announce.
    #[inline]
    pub fn limit_bytes(&self, config: &Config) -> u32 {
        match self.pressure {
            Pressure::None => config.recv_buffer_bytes.max(self.grown_bytes),
            Pressure::Growth | Pressure::Strangers | Pressure::Early => config.recv_buffer_bytes,
            Pressure::Stalled => config.recv_buffer_bytes.min(MODEST_BYTES),
        }
    }

    /// Whether anything has come in order, so that the peer's round trips are counted.
    pub(super) fn is_counting(&self) -> bool {
        self.mark_ms != 0
    }

    /// What may come in a round trip before the buffer has to grow; see [`Tcb::receive_wanted`].
    pub(super) fn space_bytes(&self, config: &Config, mss: u16) -> u32 {
        self.limit_bytes(config).saturating_sub(SPARE_SEGS * u32::from(mss)) / 2
    }

    /// Unread pieces, likewise.
    #[inline]
    fn limit_segs(&self, config: &Config) -> usize {
        let most = config.recv_buffer_segs.max(self.grown_bytes / 512) as usize;
        if self.pressure == Pressure::Stalled { most.min(MODEST_SEGS) } else { most }
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
        let most = self.config.reassembly_segs.max(self.tune.grown_bytes / 512) as usize;
        match self.tune.pressure {
            Pressure::None | Pressure::Growth | Pressure::Strangers => most,
            Pressure::Early => most.min(EARLY_SEGS),
            // The one next to the gap.
            Pressure::Stalled => 1,
        }
    }

    /// Unread pieces, likewise.
    #[inline]
    pub(super) fn recv_segs(&self) -> usize {
        self.tune.limit_segs(self.config)
    }

    /// Bytes that may be queued for sending with a congestion window of `cwnd`.
    #[inline]
    pub(super) fn send_limit_bytes(&self, cwnd: u32) -> u32 {
        let windows = if self.config.congestion.is_model() { MODEL_WINDOWS } else { 2 };
        let grown = cwnd.saturating_mul(windows).min(self.config.send_buffer_max_bytes);
        match self.tune.pressure {
            Pressure::None | Pressure::Growth => self.config.send_buffer_bytes.max(grown),
            Pressure::Strangers | Pressure::Early => self.config.send_buffer_bytes,
            Pressure::Stalled => self.config.send_buffer_bytes.min(MODEST_BYTES),
        }
    }
}

/// Segments of the receive buffer beside two round trips' worth, as on Linux.
const SPARE_SEGS: u32 = 16;

/// A model goes on at its rate while holes are filled, and a hole whose filling is lost too lasts two round trips and more.
const MODEL_WINDOWS: u32 = 4;

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
        if is_first {
            return;
        }
        if self.receive_wanted(cx, taken) > cx.recv_limit_bytes() {
            self.grow_receive(cx, taken, elapsed_ms);
        }
    }

    /// The buffer for a peer that sent `taken_bytes` in the last round trip.
    #[inline]
    fn receive_wanted<P, A: SendPool>(&self, cx: &Cx<'_, P, A>, taken_bytes: u32) -> u32 {
        let mss = u32::from(self.mss);
        let has_holes = self.flags.has(Bits::HOLES);
        // What waits behind holes takes room that the stream goes on needing.
        let cold = if has_holes { cx.cold.get(self.cold) } else { None };
        let ahead = cold.map_or(0, |cold| cold.reassembly.segs() as u32 * mss);
        taken_bytes.saturating_mul(2).saturating_add(ahead).saturating_add(SPARE_SEGS * mss)
    }

    #[cold]
    fn grow_receive<P, A: SendPool>(&self, cx: &mut Cx<'_, P, A>, taken_bytes: u32, elapsed_ms: u32) {
        // While a hole is filled nothing is in order for longer than a round trip; of what comes then, one's share counts.
        let round_us = 2 * u64::from(self.rtt.srtt_us()) + 8_000;
        let share = (u64::from(taken_bytes) * round_us).checked_div(u64::from(elapsed_ms) * 1_000);
        let share = share
            .and_then(|share| u32::try_from(share).ok())
            .map_or(taken_bytes, |share| taken_bytes.min(share));
        let wanted = self.receive_wanted(cx, share);
        let limit = cx.recv_limit_bytes();
        let is_read = self.rcv.held_bytes <= limit / 2;
        if is_read && wanted > limit && cx.tune.pressure == Pressure::None {
            cx.tune.grown_bytes = wanted.min(cx.config.recv_buffer_max_bytes);
        }
    }

    /// Whether the application should read now, however little is unread: memory is short, no more pieces are taken, or the window that the
    /// next acknowledgement announces is below a segment and below half the buffer, for which peers need not wait.
    pub fn is_nearly_full<P, S>(&self, store: &ColdStore<P, S>, config: &Config, tune: &RecvTune) -> bool {
        let limit = tune.limit_bytes(config);
        let window = self.rcv_wnd() + self.window_gain(limit).unwrap_or(0);
        let pieces = store.get(self.cold).map_or(0, |cold| cold.unread.len());
        tune.pressure != Pressure::None
            || window < u32::from(self.mss.max(config.mss)).min(limit / 2)
            || pieces >= tune.limit_segs(config)
    }

    /// Gives up what is held ahead of a gap as far as the pressure says (RFC 2018 8: what was only SACKed may be dropped); returns how
    /// many pieces.
    pub fn shed_early<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> usize {
        let most = cx.reassembly_segs();
        cx.cold.get_mut(self.cold).map_or(0, |cold| cold.reassembly.shed(most))
    }
}
