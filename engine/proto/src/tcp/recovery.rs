//! Loss detection and recovery: NewReno (RFC 6582) or, agreed with the peer, SACK (RFC 6675); limited transmit (RFC 3042), early
//! retransmit (RFC 5827).
//!
//! Recovery is a matter of two estimates. *Missing* is what is presumed lost and not sent again. *Pipe* is what is still in the
//! network: what is in flight, less what is missing, less what SACK says arrived or, without SACK, one segment for each duplicate
//! ACK, since each says that one segment left the network. Sending is allowed while pipe is below cwnd; that one rule gives RFC 5681's window inflation, RFC 6582's
//! deflation and RFC 3042's limited transmit.
//!
//! Without SACK a lost retransmission normally costs an RTO. Not here: at most `pipe` segments can arrive ahead of it, each causes
//! at most one ACK, so once more ACKs than that (plus the duplicate threshold) came back and the hole is still there, it was lost.

use ringwire_wire::tcp::SackBlocks;

use super::cold::Cold;
use super::congestion::CongestionControl;
use super::send_queue::RecordFlags;
use super::tcb::{Bits, Tcb};
use super::{Acked, SendBuf};
use crate::SeqNum;

/// RFC 5681 3.2
const DUP_THRESHOLD: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    #[default]
    Open,
    /// Entered by duplicate ACKs; lasts until `recover` is acknowledged.
    FastRecovery,
    /// Entered by the RTO; lasts until `recover` is acknowledged.
    Loss,
}

/// What recovery remembers while data is in flight.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Recovery {
    pub phase: Phase,
    /// Duplicate ACKs for snd.una, less those that later ACKs explained.
    pub dup_acks: u32,
    /// snd.nxt when the episode began.
    recover: SeqNum,
    /// ACK segments seen; wraps.
    acks: u32,
    /// `acks` when the episode began.
    episode_acks: u32,
    /// Retransmissions in this episode.
    resent_segs: u32,
    /// Duplicate ACKs that needless retransmissions of the last episode may still cause.
    stale_dup_acks: u32,
    /// End of the last segment below the MSS that was sent (Minshall's variant of Nagle's algorithm).
    pub small_end: Option<SeqNum>,
}

impl Recovery {
    /// Starts an episode; the caller has changed the window.
    fn begin(&mut self, phase: Phase, recover: SeqNum) {
        self.phase = phase;
        self.recover = recover;
        self.episode_acks = self.acks;
        self.resent_segs = 0;
        self.stale_dup_acks = 0;
    }

    fn end(&mut self) {
        // Every ACK since the beginning accounts for at least one retransmission that arrived.
        let acks = self.acks.wrapping_sub(self.episode_acks);
        self.stale_dup_acks = self.resent_segs.saturating_sub(acks);
        self.phase = Phase::Open;
        self.dup_acks = 0;
    }
}

impl Tcb {
    /// Bytes estimated to be in the network.
    pub(super) fn pipe<P, S>(&self, cold: &Cold<P, S>) -> u32 {
        let flight = self.flight();
        if !self.flags.has(Bits::RECOVERY) {
            return flight;
        }
        let left = cold.recovery.dup_acks.saturating_mul(u32::from(self.mss));
        let arrived = cold.send.sacked_bytes().saturating_add(left);
        flight.saturating_sub(cold.send.missing_bytes()).saturating_sub(arrived)
    }

    /// The count of ACKs after which a segment that leaves now must have been lost.
    pub(super) fn lost_again_at<P, S>(&self, cold: &Cold<P, S>) -> u32 {
        let sent = cold.send.sent_segs() as u64;
        let ahead = u64::from(self.pipe(cold)) * sent / u64::from(self.flight().max(1));
        // At most the number of records, which the send buffer bounds far below 2^31.
        cold.recovery.acks.wrapping_add(ahead as u32 + 1 + DUP_THRESHOLD)
    }

    /// New data was acknowledged.
    pub(super) fn recover_on_ack<P, S>(&mut self, cold: &mut Cold<P, S>, segs: u32, acked: &Acked) {
        let recovery = &mut cold.recovery;
        recovery.acks = recovery.acks.wrapping_add(1);
        match recovery.phase {
            Phase::Open => {
                recovery.dup_acks = 0;
                recovery.stale_dup_acks = 0;
                self.leave_recovery(cold);
                cold.congestion.on_ack(&mut self.window, acked);
            }
            Phase::FastRecovery if self.snd.una.after_eq(recovery.recover) => {
                recovery.end();
                // RFC 6582 3.2 (3), full acknowledgement, first option: no burst.
                let mss = u32::from(self.mss);
                self.window.cwnd = self.window.ssthresh.min(self.flight().max(mss) + mss);
                self.leave_recovery(cold);
            }
            Phase::FastRecovery => {
                // RFC 6582 3.2 (3), partial acknowledgement: the next hole is the new snd.una. One segment of the acknowledged
                // ones was that hole, the others had caused duplicate ACKs.
                recovery.dup_acks = recovery.dup_acks.saturating_sub(segs.saturating_sub(1));
                let resent = cold.send.get(0).is_none_or(|head| head.flags.has(RecordFlags::RETRANSMITTED));
                if !resent && !self.flags.has(Bits::SACK) {
                    cold.send.mark_lost(0);
                }
                self.flags.set(Bits::TX_RTX);
            }
            Phase::Loss => {
                recovery.dup_acks = recovery.dup_acks.saturating_sub(segs.saturating_sub(1));
                if self.snd.una.after_eq(recovery.recover) {
                    recovery.end();
                    self.leave_recovery(cold);
                } else {
                    self.flags.set(Bits::TX_RTX);
                }
                cold.congestion.on_ack(&mut self.window, acked);
            }
        }
    }

    /// A duplicate ACK arrived (RFC 5681 2).
    pub(super) fn recover_on_dup_ack<P, S: SendBuf>(&mut self, cold: &mut Cold<P, S>) {
        let sent = u32::try_from(cold.send.sent_segs()).unwrap_or(u32::MAX);
        if sent == 0 {
            return;
        }
        let threshold = self.dup_threshold(cold, sent);
        let recovery = &mut cold.recovery;
        recovery.acks = recovery.acks.wrapping_add(1);
        // A forger gains nothing: each segment but the missing one can cause one (Savage 1999).
        recovery.dup_acks =
            (recovery.dup_acks + 1).min(sent.saturating_sub(1).max(1) + recovery.stale_dup_acks);
        self.flags.set(Bits::RECOVERY.or(Bits::TX_DATA));
        match recovery.phase {
            Phase::Open if recovery.dup_acks >= threshold => self.enter_fast_recovery(cold),
            Phase::Open => {}
            Phase::FastRecovery | Phase::Loss => {
                self.flags.set(Bits::TX_RTX);
                self.detect_lost_retransmission(cold);
            }
        }
    }

    /// An ACK of a SACK connection, after what it acknowledges was taken off the queue (RFC 6675 5).
    pub(super) fn recover_on_sack<P, S: SendBuf>(&mut self, cold: &mut Cold<P, S>, blocks: &SackBlocks) {
        let news = !blocks.is_empty() && cold.send.on_sack(blocks, self.snd.una, self.snd.nxt);
        if cold.send.sacked_bytes() == 0 {
            return;
        }
        self.flags.set(Bits::RECOVERY);
        if news {
            self.flags.set(Bits::TX_DATA);
        }
        let sent = u32::try_from(cold.send.sent_segs()).unwrap_or(u32::MAX);
        let threshold = self.dup_threshold(cold, sent);
        let lost = cold.send.mark_lost_by_sack(threshold);
        match cold.recovery.phase {
            Phase::Open if lost => self.enter_fast_recovery(cold),
            Phase::Open => {}
            Phase::FastRecovery | Phase::Loss => self.flags.set(Bits::TX_RTX),
        }
    }

    /// The RTO fired with data in flight.
    pub(super) fn recover_on_timeout<P, S>(&mut self, cold: &mut Cold<P, S>) {
        // RFC 5681 3.1: ssthresh is set once per loss, not by each timeout of the same segment.
        if cold.recovery.phase != Phase::Loss {
            let flight_bytes = self.flight();
            cold.congestion.on_timeout(&mut self.window, flight_bytes, self.mss);
        } else {
            self.window.cwnd = u32::from(self.mss);
        }
        self.resend_all(cold);
    }

    /// Everything in flight is lost and goes again as the window allows; nothing is said about the window.
    pub(super) fn resend_all<P, S>(&mut self, cold: &mut Cold<P, S>) {
        cold.recovery.begin(Phase::Loss, self.snd.nxt);
        cold.recovery.dup_acks = 0;
        cold.send.mark_all_lost();
        self.flags.set(Bits::RECOVERY.or(Bits::TX_RTX).or(Bits::TX_DATA));
    }

    /// A record was sent again.
    pub(super) fn recover_on_retransmit<P, S>(&mut self, cold: &mut Cold<P, S>) {
        cold.recovery.resent_segs += 1;
        self.retransmits = self.retransmits.saturating_add(1);
    }

    fn enter_fast_recovery<P, S>(&mut self, cold: &mut Cold<P, S>) {
        let flight_bytes = self.flight();
        cold.congestion.on_loss(&mut self.window, flight_bytes, self.mss);
        cold.recovery.begin(Phase::FastRecovery, self.snd.nxt);
        if !self.flags.has(Bits::SACK) {
            cold.send.mark_lost(0);
        }
        self.flags.set(Bits::TX_RTX.or(Bits::RECOVERY));
    }

    /// The episode is over. What SACK found lost of the data sent during it is the next one.
    fn leave_recovery<P, S>(&mut self, cold: &mut Cold<P, S>) {
        if cold.send.lost_bytes() > 0 {
            self.enter_fast_recovery(cold);
        } else if cold.send.sacked_bytes() == 0 {
            self.flags.clear(Bits::RECOVERY);
        }
    }

    fn detect_lost_retransmission<P, S>(&mut self, cold: &mut Cold<P, S>) {
        let acks = cold.recovery.acks;
        let lost = cold.send.get(0).is_some_and(|head| {
            head.flags.has(RecordFlags::RETRANSMITTED)
                && acks.wrapping_sub(head.lost_again_at).cast_signed() >= 0
        });
        if lost {
            cold.send.mark_lost(0);
        }
    }

    fn dup_threshold<P, S: SendBuf>(&self, cold: &Cold<P, S>, sent: u32) -> u32 {
        let usable = self.snd.wnd.saturating_sub(self.flight());
        let more = cold.send.first_unsent().is_some_and(|(_, next)| {
            next.len <= usable
                && (next.len >= u32::from(self.mss) || cold.send.segs() > cold.send.sent_segs() + 1)
        });
        // RFC 5827 3.1: with few segments out and nothing to send, fewer duplicates than three can ever come.
        let threshold = if (2..=DUP_THRESHOLD).contains(&sent) && !more { sent - 1 } else { DUP_THRESHOLD };
        threshold + cold.recovery.stale_dup_acks
    }
}
