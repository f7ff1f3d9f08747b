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
    /// What the slow-start bound let go beyond it, a segment for each acknowledgement; summed up, since several of them may come before
    /// anything can be sent.
    bonus: u32,
    /// prr_out
    sent: u32,
    /// The queue's count of delivered bytes at the last look.
    seen: u32,
}

impl Reduction {
    /// `unreplaced_bytes` have been delivered, of those in flight, without anything being sent for them.
    pub(super) fn begin(flight: u32, unreplaced_bytes: u32, delivered_bytes: u32) -> Reduction {
        Reduction { flight, delivered: unreplaced_bytes, bonus: 0, sent: 0, seen: delivered_bytes }
    }

    /// RFC 9937 6: the ACK that begins a recovery counts with what it delivers.
    pub(super) fn begins_with(&mut self, delivered_bytes: u32) {
        self.seen = self.seen.wrapping_sub(delivered_bytes);
    }

    pub(super) fn flight(&self) -> u32 {
        self.flight
    }

    pub(super) fn on_sent(&mut self, len: u32) {
        self.sent = self.sent.saturating_add(len);
    }
}

impl Tcb {
    /// RFC 6937 3: what this ACK lets go. It is safe (SafeACK of RFC 9937 6) if it moved SND.UNA and told of no further loss.
    pub(super) fn reduce<P, S>(&mut self, cold: &mut Cold<P, S>, is_safe: bool) {
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
            // The slow start reduction bound only while the holes are being filled, else the conservative one.
            reduction.bonus = reduction.bonus.saturating_add(if is_safe { mss } else { 0 });
            let granted = reduction.delivered.saturating_add(reduction.bonus);
            (ssthresh - pipe).min(granted.saturating_sub(reduction.sent).max(now_delivered))
        };
        if reduction.sent == 0 {
            // The first retransmission goes in any case.
            allowed = allowed.max(mss);
        }
        self.window.cwnd = pipe.saturating_add(allowed).max(mss);
    }
}
