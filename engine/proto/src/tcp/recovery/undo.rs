//! Taking back what was spurious: by echoed timestamps (RFC 3522, Eifel) or by the peer's reports of duplicates (RFC 3708).
//!
//! A retransmission was needless if the acknowledgement that moves SND.UNA echoes a timestamp from before it, or if everything that
//! was sent again has been reported as arrived twice. Then nothing was lost: the window is given back, and what was presumed lost is
//! in flight as before. That works for fast retransmissions too; for timeouts without timestamps see `frto`.
//!
//! The last report comes a round trip after the last retransmission, when what was in flight before it has been acknowledged: then the
//! episode is over, and only the window is left to be given back.

use super::{Cold, Phase, Tcb};
use crate::SeqNum;
use crate::tcp::tcb::Bits;
use crate::tcp::{Cubic, Window};

/// What an episode would give back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Undo {
    window: Window,
    congestion: Cubic,
    /// Our clock at the first retransmission, on the ring of milliseconds.
    resent_at_ms: Option<u32>,
    /// Retransmissions not reported as duplicates.
    unreported: u32,
    /// snd.una when the episode began: reports from before it are of others.
    from: SeqNum,
    /// snd.nxt when the episode ended: once that is acknowledged, no report is expected any more.
    pub(super) until: SeqNum,
}

impl Undo {
    /// The episode is over; whether a report may still come.
    pub(super) fn outlives(&mut self, nxt: SeqNum) -> bool {
        self.until = nxt;
        self.unreported > 0
    }

    pub(super) fn on_retransmit(&mut self, now_ms: u32) {
        self.resent_at_ms.get_or_insert(now_ms);
        self.unreported = self.unreported.saturating_add(1);
    }
}

impl Tcb {
    /// An episode begins: the window as it was, unless another episode is being repaired.
    ///
    /// What the last episode sent again already is not known to have been sent again in this one: then nothing is undone.
    pub(super) fn remember_for_undo<P, S>(&self, cold: &mut Cold<P, S>) {
        if cold.recovery.phase == Phase::Open {
            let is_resent = cold.send.lost_bytes() > cold.send.missing_bytes();
            let congestion = cold.congestion.memory();
            let undo = Undo {
                window: self.window,
                congestion,
                resent_at_ms: None,
                unreported: 0,
                from: self.snd.una,
                until: self.snd.nxt,
            };
            cold.recovery.undo = (!is_resent).then_some(undo);
        }
    }

    /// SND.UNA moved by an acknowledgement that echoes `echo_ms` (our clock, without the connection's offset). Ends the episode if it
    /// was spurious.
    pub(in crate::tcp) fn undo_on_echo<P, S>(&mut self, cold: &mut Cold<P, S>, echo_ms: Option<u32>) {
        let is_spurious = match (cold.recovery.undo, echo_ms) {
            // All that was presumed lost has arrived before it could go again.
            (Some(Undo { resent_at_ms: None, .. }), _) => cold.send.lost_bytes() == 0,
            (Some(Undo { resent_at_ms: Some(resent_ms), .. }), Some(echo_ms)) => {
                echo_ms.wrapping_sub(resent_ms).cast_signed() < 0
            }
            _ => false,
        };
        if is_spurious {
            self.wait_longer(cold);
            self.undo(cold);
        }
    }

    /// The peer reported one duplicate, which ends at `end`.
    pub(super) fn undo_on_duplicate<P, S>(&mut self, cold: &mut Cold<P, S>, end: SeqNum) {
        let is_over = cold.recovery.phase == Phase::Open;
        let Some(undo) = &mut cold.recovery.undo else { return };
        let is_late = is_over && (self.snd.una.after(undo.until) || end.after(undo.until));
        if undo.unreported == 0 || is_late || end.before_eq(undo.from) {
            return;
        }
        undo.unreported -= 1;
        if undo.unreported == 0 {
            self.undo(cold);
        }
    }

    pub(super) fn undo<P, S>(&mut self, cold: &mut Cold<P, S>) {
        let Some(undo) = cold.recovery.undo.take() else { return };
        self.window.cwnd = self.window.cwnd.max(undo.window.cwnd);
        self.window.ssthresh = self.window.ssthresh.max(undo.window.ssthresh);
        cold.congestion.on_undo(&mut self.window, undo.congestion);
        if cold.recovery.withdraw_reduction() {
            self.flags.clear(Bits::CWR_DUE);
        }
        if cold.recovery.phase != Phase::Open {
            cold.send.forget_losses();
            cold.recovery.end(self.snd.nxt);
        }
        self.backoff = 0;
        self.flags.clear(Bits::TX_RTX.or(Bits::RTX_COPY).or(Bits::RTX_IN_RING));
        if cold.send.sacked_bytes() == 0 {
            self.flags.clear(Bits::RECOVERY);
        }
        self.flags.set(Bits::TX_DATA);
    }
}
