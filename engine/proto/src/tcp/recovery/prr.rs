//! Proportional rate reduction (RFC 6937, RFC 9937): the window comes down with the acknowledgements, not at once.

use super::{Cold, Phase, Tcb};
use crate::tcp::tcb::Bits;

/// What is counted during one recovery, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reduction {
    /// RecoverFS: in flight when it began.
    flight: u32,
    /// prr_delivered
    delivered: u32,
    /// prr_out
    sent: u32,
    /// The queue's count of delivered bytes at the last look.
    seen: u32,
}

impl Reduction {
    /// `unreplaced_bytes` have been delivered, of those in flight, without anything being sent for them.
    pub(super) fn begin(flight: u32, unreplaced_bytes: u32, delivered_bytes: u32) -> Reduction {
        Reduction { flight, delivered: unreplaced_bytes, sent: 0, seen: delivered_bytes }
    }

    pub(super) fn on_sent(&mut self, len: u32) {
        self.sent = self.sent.saturating_add(len);
    }
}

impl Tcb {
    /// RFC 6937 3: what this ACK lets go.
    pub(super) fn reduce<P, S>(&mut self, cold: &mut Cold<P, S>, advanced_bytes: u32) {
        if cold.recovery.phase != Phase::FastRecovery || !self.flags.has(Bits::SACK) {
            return;
        }
        let pipe = self.pipe(cold);
        let reduction = &mut cold.recovery.reduction;
        let now_delivered = cold.send.delivered_bytes().wrapping_sub(reduction.seen);
        reduction.seen = cold.send.delivered_bytes();
        reduction.delivered = reduction.delivered.saturating_add(now_delivered);
        let (mss, ssthresh) = (u32::from(self.mss), self.window.ssthresh);
        let mut allowed = if pipe > ssthresh {
            let share = u64::from(reduction.delivered) * u64::from(ssthresh);
            let share = share.div_ceil(u64::from(reduction.flight.max(1)));
            u32::try_from(share).unwrap_or(u32::MAX).saturating_sub(reduction.sent)
        } else {
            // Slow start reduction bound only while the holes are being filled (RFC 9937 6, SafeACK).
            let bonus = if advanced_bytes > 0 { mss } else { 0 };
            let owed = reduction.delivered.saturating_sub(reduction.sent).max(now_delivered);
            (ssthresh - pipe).min(owed.saturating_add(bonus))
        };
        if reduction.sent == 0 {
            // The first retransmission goes in any case.
            allowed = allowed.max(mss);
        }
        self.window.cwnd = pipe.saturating_add(allowed).max(mss);
    }
}
