//! How fast the path delivers, for TCP_INFO: what arrives in a round trip that begins when no more may leave of what waits, for the sake of
//! the congestion window, the pace or the peer's window.
//!
//! Linux takes a sample with each acknowledgement, from what each segment knew when it left; that is done here for algorithms that model the
//! path (`send_queue::rate`). A measurement a round trip costs an acknowledgement one comparison, and a connection that never has to wait
//! for its path is not measured: how fast it sends is no property of the path.

use super::cold::Cold;
use super::recovery::Phase;
use super::totals::Totals;
use crate::{Instant, SeqNum};

/// A round trip that is being measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// It ends when everything that was out when it began has arrived.
    nxt: SeqNum,
    from: Instant,
    /// The queue's count of delivered bytes when it began.
    delivered: u32,
}

/// What arrived in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    pub bytes: u32,
    pub interval_ns: u64,
}

impl Delivery {
    /// Bytes per second; none of an interval that the clock does not see.
    pub(super) fn rate(self) -> Option<u64> {
        let scaled = u128::from(self.bytes) * 1_000_000_000;
        scaled.checked_div(self.interval_ns.into()).map(|rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

impl<P, S> Cold<P, S> {
    /// SND.UNA is `una` now: perhaps the round trip is over with that.
    #[inline]
    pub(super) fn gauge(&mut self, una: SeqNum, totals: &mut Totals, now: Instant) {
        if self.round.is_some() {
            self.end_round(una, totals, now);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_round(&mut self, una: SeqNum, totals: &mut Totals, now: Instant) {
        if let Some(round) = self.round.filter(|round| una.after_eq(round.nxt)) {
            self.round = None;
            let bytes = self.send.delivered_bytes().wrapping_sub(round.delivered);
            let interval_ns = now.nanos_since(round.from);
            totals.incidents_mut().delivery = Some(Delivery { bytes, interval_ns });
        }
    }

    /// More waits than may leave now, and something is out: the next round trip says what the path can do. Not while a timeout is
    /// repaired, when what had arrived before counts once more.
    pub(super) fn begin_round(&mut self, nxt: SeqNum, now: Instant) {
        if self.round.is_none() && self.recovery.phase != Phase::Loss {
            self.round = Some(Round { nxt, from: now, delivered: self.send.delivered_bytes() });
        }
    }
}
