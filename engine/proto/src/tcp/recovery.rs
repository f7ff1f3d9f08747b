//! Loss recovery: agreed with the peer, SACK with RACK-TLP (RFC 8985) and proportional rate reduction (RFC 6937); else NewReno
//! (RFC 6582), limited transmit (RFC 3042), early retransmit (RFC 5827). Both take back what was spurious (`undo`).
//!
//! ```text
//! ACK -> records off the queue, SACK marks -> spurious? undo -> phase -> RACK: lost, or wait -> rate reduction -> cwnd
//! timer: reordering (look again) | tail loss probe | RTO
//! ```
//! Recovery is a matter of two estimates. *Missing* is what is presumed lost and not sent again. *Pipe* is what is still in the
//! network: what is in flight, less what is missing, less what SACK says arrived or, without SACK, one segment for each duplicate
//! ACK, since each says that one segment left the network. Sending is allowed while pipe is below cwnd; that one rule gives RFC
//! 5681's window inflation, RFC 6582's deflation and RFC 3042's limited transmit.
//!
//! Without SACK a lost retransmission normally costs an RTO. Not here: at most `pipe` segments can arrive ahead of it, each causes
//! at most one ACK, so once more ACKs than that (plus the duplicate threshold) came back and the hole is still there, it was lost.

mod frto;
mod prr;
mod tail;
mod undo;

use ringwire_wire::tcp::SackBlocks;

pub(super) use self::frto::Frto;
use self::prr::Reduction;
pub(super) use self::tail::TailProbe;
use self::undo::Undo;
use super::cold::Cold;
use super::send_queue::{AckedRecords, Evidence, RecordFlags};
use super::tcb::{Bits, Tcb, Timer};
use super::{Acked, Config, SendBuf};
use crate::{Instant, SeqNum};

/// RFC 5681 3.2
pub(super) const DUP_THRESHOLD: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    #[default]
    Open,
    /// Entered by RACK or duplicate ACKs; lasts until `recover` is acknowledged.
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
    /// What was sent in a row since the last PSH.
    pub run_bytes: u32,
    /// ECE is not answered before this is acknowledged, for the window was reduced when it was sent (RFC 3168 6.1.2).
    pub cwr_end: Option<SeqNum>,
    /// When the last acknowledgement of new data came, and what was in flight before those that came with it.
    batch: (Instant, u32),
    /// snd.nxt when the congestion window last kept data back.
    pub limited_to: Option<SeqNum>,
    /// Not yet answered.
    pub probe: Option<TailProbe>,
    /// The reordering window is not widened again before this is acknowledged.
    widened_to: Option<SeqNum>,
    reduction: Reduction,
    undo: Option<Undo>,
    /// Whether the timeout under repair may have been spurious.
    pub frto: Frto,
    /// Without SACK: how many duplicate ACKs what was in flight at the first of them can cause.
    dup_acks_most: u32,
}

/// What is known of reordering on the path (RFC 8985 6.2, step 4): whether any was seen, in the lowest bit; RACK.reo_wnd_mult less one
/// above it, in three bits; recoveries until that is forgotten, in four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reordering(u8);

impl Reordering {
    const SEEN: u8 = 1;
    const MOST_QUARTERS: u8 = 8;
    /// RFC 8985 says 16; four bits hold 15.
    const PERSIST: u8 = 15;

    pub(super) const fn is_seen(self) -> bool {
        self.0 & Self::SEEN != 0
    }

    pub(super) fn note_seen(&mut self) {
        self.0 |= Self::SEEN;
    }

    /// How many quarters of the smallest round trip are waited.
    pub(super) const fn quarters(self) -> u8 {
        1 + (self.0 >> 1 & 7)
    }

    /// A retransmission was needless: wait longer.
    fn widen(&mut self) {
        let quarters = (self.quarters() + 1).min(Self::MOST_QUARTERS);
        self.0 = self.0 & Self::SEEN | (quarters - 1) << 1 | Self::PERSIST << 4;
    }

    /// A recovery is over.
    fn age(&mut self) {
        let left = (self.0 >> 4).saturating_sub(1);
        self.0 = if left == 0 { self.0 & Self::SEEN } else { self.0 & 0xf | left << 4 };
    }
}

/// Whether SND.UNA turns a quarter of the number space. A mark that is two of them behind would seem to lie ahead.
#[inline]
pub(super) fn are_marks_due(una_before: SeqNum, una: SeqNum) -> bool {
    (una_before.0 ^ una.0) >> 30 != 0
}

impl Recovery {
    /// Starts an episode; the caller has changed the window.
    fn begin(&mut self, phase: Phase, recover: SeqNum) {
        self.phase = phase;
        self.recover = recover;
        self.episode_acks = self.acks;
        self.resent_segs = 0;
        self.stale_dup_acks = 0;
        self.frto = Frto::Off;
    }

    /// Drops the marks that `una` has passed; see [`are_marks_due`].
    #[cold]
    pub(super) fn retire_marks(&mut self, una: SeqNum) {
        let Self { small_end, cwr_end, limited_to, widened_to, .. } = self;
        for mark in [small_end, cwr_end, limited_to, widened_to] {
            if mark.is_some_and(|mark| mark.before(una)) {
                *mark = None;
            }
        }
        if self.phase == Phase::Open && self.undo.is_some_and(|undo| undo.until.before(una)) {
            self.undo = None;
        }
    }

    /// New data was acknowledged while `flight_bytes` were out; acknowledgements of one batch share their time.
    #[inline]
    pub(super) fn note_batch(&mut self, now: Instant, flight_bytes: u32) {
        if self.batch.0 != now {
            self.batch = (now, flight_bytes);
        }
    }

    /// Whether the window was reduced without a recovery, for a mark or a loss that a probe repaired, and `una` has not passed what was
    /// out then.
    pub(super) fn is_reduced_outside_recovery(&self, una: SeqNum) -> bool {
        self.cwr_end.is_some_and(|end| una.before_eq(end) && end != self.recover)
    }

    /// The reduction of this episode is taken back. False if it was not the last one.
    fn withdraw_reduction(&mut self) -> bool {
        let is_ours = self.cwr_end == Some(self.recover);
        if is_ours {
            self.cwr_end = None;
        }
        is_ours
    }

    /// Bytes in flight when the episode began.
    pub(super) fn flight_when_begun(&self) -> u32 {
        self.reduction.flight()
    }

    /// Data left, new or again.
    pub(super) fn on_sent(&mut self, len: u32) {
        self.reduction.on_sent(len);
    }

    fn end(&mut self, nxt: SeqNum) {
        // Every ACK since the beginning accounts for at least one retransmission that arrived.
        let acks = self.acks.wrapping_sub(self.episode_acks);
        self.stale_dup_acks = self.resent_segs.saturating_sub(acks);
        self.phase = Phase::Open;
        self.dup_acks = 0;
        self.undo = self.undo.and_then(|mut undo| undo.outlives(nxt).then_some(undo));
        self.frto = Frto::Off;
    }

    /// The window was reduced for another reason since, or reports could be of something else: what the last episode took stays taken.
    pub(super) fn forbid_undo(&mut self) {
        self.undo = None;
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
    pub(super) fn recover_on_ack<P, S>(
        &mut self,
        cold: &mut Cold<P, S>,
        records: &AckedRecords,
        acked: &Acked,
        config: &Config,
    ) {
        let recovery = &mut cold.recovery;
        recovery.acks = recovery.acks.wrapping_add(1);
        match recovery.phase {
            Phase::Open => {
                recovery.dup_acks = 0;
                recovery.stale_dup_acks = 0;
                self.leave_recovery(cold, config, acked.now);
                cold.congestion.on_ack(config.congestion, &mut self.window, acked);
            }
            Phase::FastRecovery if self.snd.una.after_eq(recovery.recover) => {
                cold.congestion.on_recovery_ack(acked);
                recovery.end(self.snd.nxt);
                self.reordering.age();
                let mss = u32::from(self.mss);
                self.window.cwnd = if config.congestion.is_model() {
                    self.window.cwnd
                } else if self.flags.has(Bits::SACK) {
                    // RFC 6937 3: the rate has been brought down on the way.
                    self.window.ssthresh
                } else {
                    // RFC 6582 3.2 (3), full acknowledgement, first option: no burst.
                    self.window.ssthresh.min(self.flight().max(mss) + mss)
                };
                self.end_path_repair(cold);
                self.leave_recovery(cold, config, acked.now);
            }
            Phase::FastRecovery => {
                cold.congestion.on_recovery_ack(acked);
                // RFC 6582 3.2 (3), partial acknowledgement: the next hole is the new snd.una. One segment of the acknowledged
                // ones was that hole, the others had caused duplicate ACKs.
                recovery.dup_acks = recovery.dup_acks.saturating_sub(records.segs.saturating_sub(1));
                let resent = cold.send.get(0).is_none_or(|head| head.flags.has(RecordFlags::RETRANSMITTED));
                if !resent && !self.flags.has(Bits::SACK) {
                    cold.send.mark_lost(0);
                }
                self.flags.set(Bits::TX_RTX);
            }
            Phase::Loss => {
                recovery.dup_acks = recovery.dup_acks.saturating_sub(records.segs.saturating_sub(1));
                if self.snd.una.after_eq(recovery.recover) {
                    recovery.end(self.snd.nxt);
                    self.leave_recovery(cold, config, acked.now);
                } else {
                    self.advance_frto(cold, records.retransmitted, config);
                }
                cold.congestion.on_ack(config.congestion, &mut self.window, acked);
            }
        }
    }

    /// A duplicate ACK arrived (RFC 5681 2).
    pub(super) fn recover_on_dup_ack<P, S: SendBuf>(
        &mut self,
        cold: &mut Cold<P, S>,
        config: &Config,
        now: Instant,
    ) {
        let sent = u32::try_from(cold.send.sent_segs()).unwrap_or(u32::MAX);
        if sent == 0 {
            return;
        }
        let threshold = self.dup_threshold(cold, sent, config);
        let recovery = &mut cold.recovery;
        if recovery.dup_acks == 0 {
            recovery.dup_acks_most = sent.saturating_sub(1).max(1);
        }
        // A forger gains nothing: each segment but the missing one can cause one (Savage 1999), and what duplicates let go does not
        // count (RFC 5681 3.2, step 4).
        recovery.dup_acks = (recovery.dup_acks + 1).min(recovery.dup_acks_most + recovery.stale_dup_acks);
        // Each segment that left causes one ACK at most; more are no evidence that a retransmission was lost.
        let acks = recovery.acks.wrapping_sub(recovery.episode_acks);
        if recovery.phase == Phase::Open || acks < sent + recovery.resent_segs {
            recovery.acks = recovery.acks.wrapping_add(1);
        }
        self.flags.set(Bits::RECOVERY.or(Bits::TX_DATA));
        match recovery.phase {
            Phase::Open if recovery.dup_acks >= threshold => self.enter_fast_recovery(cold, config, now),
            Phase::Open => {}
            Phase::FastRecovery | Phase::Loss => {
                self.refuse_frto(cold);
                self.flags.set(Bits::TX_RTX);
                self.detect_lost_retransmission(cold);
            }
        }
    }

    /// An ACK of a SACK connection, after what it acknowledges was taken off the queue; `advanced_bytes` is how far that was.
    pub(super) fn recover_on_sack<P, S: SendBuf>(
        &mut self,
        cold: &mut Cold<P, S>,
        blocks: &SackBlocks,
        (advanced_bytes, evidence): (u32, &Evidence),
        config: &Config,
    ) {
        let (mut duplicate, mut sacked_bytes) = (None, 0);
        if !blocks.is_empty() {
            let news = cold.send.on_sack(blocks, (self.snd.una, self.snd.nxt), evidence);
            (duplicate, sacked_bytes) = (news.duplicate, news.bytes);
            if news.bytes > 0 {
                self.flags.set(Bits::TX_DATA);
            }
            if news.bytes > 0 && advanced_bytes == 0 {
                self.refuse_frto(cold);
            }
            if let Some((_, end)) = duplicate {
                self.on_duplicate_reported(cold, end);
            }
        }
        let is_bare = advanced_bytes == 0 && blocks.is_empty() && evidence.ack == self.snd.una;
        self.resolve_probe(cold, (is_bare, duplicate), evidence, config);
        if cold.send.sacked_bytes() == 0 && cold.recovery.phase == Phase::Open {
            return;
        }
        self.flags.set(Bits::RECOVERY);
        let was_open = cold.recovery.phase == Phase::Open;
        let is_lost = self.look_for_losses(cold, evidence, config);
        if was_open {
            cold.recovery.reduction.begins_with(sacked_bytes);
        }
        if !config.congestion.is_model() {
            self.reduce(cold, advanced_bytes > 0 && !is_lost);
        }
    }

    /// RACK's verdict, from an ACK or when its timer fires: whether it is that something was lost.
    pub(super) fn look_for_losses<P, S>(
        &mut self,
        cold: &mut Cold<P, S>,
        evidence: &Evidence,
        config: &Config,
    ) -> bool {
        let verdict = cold.send.detect_losses(evidence.now, self.reordering_window_ns(cold));
        match cold.recovery.phase {
            Phase::Open if verdict.is_lost => self.enter_fast_recovery(cold, config, evidence.now),
            Phase::Open => {}
            Phase::FastRecovery | Phase::Loss => {
                self.flags.set(Bits::TX_RTX);
                if verdict.is_lost {
                    self.blame_congestion(cold, config);
                }
            }
        }
        if let Some(wait_ns) = verdict.wait_ns {
            let deadline = evidence.now.add_nanos(wait_ns);
            if matches!(self.timer, Timer::Idle | Timer::TailProbe) || deadline < self.timer_at {
                self.arm(Timer::Reorder, deadline);
            }
        } else if matches!(self.timer, Timer::TailProbe | Timer::Reorder) {
            // RFC 8985 7.2: what is SACKed tells more than a probe would. Nothing may be late any more.
            self.arm_rto(evidence.now, config);
        }
        verdict.is_lost
    }

    /// RFC 8985 6.2, step 4: none before any reordering was seen, when there is evidence enough.
    fn reordering_window_ns<P, S>(&self, cold: &Cold<P, S>) -> u64 {
        let is_certain = cold.recovery.phase != Phase::Open || cold.send.sacked_segs() >= DUP_THRESHOLD;
        if !cold.send.is_reordering_seen() && is_certain {
            return 0;
        }
        let quarter_ns = cold.send.min_rtt_ns().unwrap_or(0) / 4;
        let wnd_ns = quarter_ns.saturating_mul(u64::from(self.reordering.quarters()));
        wnd_ns.min(u64::from(self.rtt.srtt_us()) * 1_000)
    }

    /// The peer got something twice: what was sent again had not been lost (RFC 2883, RFC 8985 6.2, RFC 3708).
    fn on_duplicate_reported<P, S>(&mut self, cold: &mut Cold<P, S>, end: SeqNum) {
        self.wait_longer(cold);
        self.undo_on_duplicate(cold, end);
    }

    /// What was late would not have been presumed lost with a wider reordering window: once in a round trip.
    fn wait_longer<P, S>(&mut self, cold: &mut Cold<P, S>) {
        if cold.recovery.widened_to.is_none_or(|end| self.snd.una.after_eq(end)) {
            cold.recovery.widened_to = Some(self.snd.nxt);
            self.reordering.widen();
        }
    }

    /// The RTO fired with data in flight.
    pub(super) fn recover_on_timeout<P, S>(&mut self, cold: &mut Cold<P, S>, config: &Config, now: Instant) {
        self.drop_path_probe(cold);
        // RFC 5681 3.1: ssthresh is set once per loss, not by each timeout of the same segment.
        if cold.recovery.phase != Phase::Loss {
            self.remember_for_undo(cold);
            let flight_bytes = self.flight();
            cold.congestion.on_timeout(config.congestion, &mut self.window, flight_bytes, self.mss);
            self.tell_of_reduction(cold);
        } else {
            self.window.cwnd = u32::from(self.mss);
        }
        let is_first = cold.recovery.phase == Phase::Open;
        self.begin_repair(cold);
        // RFC 8985 6.3, RACK_mark_losses_on_RTO: without SACK nothing would tell later.
        let young_ns = self.flags.has(Bits::SACK).then(|| self.reordering_window_ns(cold));
        cold.send.mark_lost_by_timeout(now, young_ns);
        self.begin_frto(cold, is_first);
    }

    /// Everything in flight is lost and goes again as the window allows; nothing is said about the window.
    pub(super) fn resend_all<P, S>(&mut self, cold: &mut Cold<P, S>) {
        if cold.recovery.phase == Phase::Open {
            cold.recovery.forbid_undo();
        }
        self.begin_repair(cold);
        cold.send.mark_all_lost();
    }

    fn begin_repair<P, S>(&mut self, cold: &mut Cold<P, S>) {
        self.end_probe(cold);
        cold.round = None;
        cold.recovery.begin(Phase::Loss, self.snd.nxt);
        cold.recovery.dup_acks = 0;
        self.flags.set(Bits::RECOVERY.or(Bits::TX_RTX).or(Bits::TX_DATA));
    }

    /// A record was sent again.
    pub(super) fn recover_on_retransmit<P, S>(&mut self, cold: &mut Cold<P, S>, now_ms: u32) {
        cold.recovery.resent_segs += 1;
        if cold.recovery.phase == Phase::Open {
            // A probe of the tail: a report of it would be taken for one of the episode before it.
            cold.recovery.forbid_undo();
        } else if let Some(undo) = &mut cold.recovery.undo {
            undo.on_retransmit(now_ms);
        }
    }

    /// What was in flight before the acknowledgements that came together, none of which has let anything go yet: the window, if it had
    /// kept data back. What is left after most of them says nothing of what the path carries.
    fn flight_before_batch<P, S>(&self, cold: &Cold<P, S>, now: Instant) -> u32 {
        let was_full = cold.recovery.limited_to.is_some_and(|to| self.snd.una.before_eq(to));
        let held = match cold.recovery.batch {
            _ if was_full => self.window.cwnd,
            (came_at, flight_bytes) if came_at == now => flight_bytes,
            _ => 0,
        };
        self.flight().max(held)
    }

    fn enter_fast_recovery<P, S>(&mut self, cold: &mut Cold<P, S>, config: &Config, now: Instant) {
        self.remember_for_undo(cold);
        let flight_bytes = self.flight_before_batch(cold, now);
        let unreplaced_bytes = flight_bytes - self.flight();
        cold.recovery.reduction =
            Reduction::begin(flight_bytes, unreplaced_bytes, cold.send.delivered_bytes());
        if !self.loses_only_path_probe(cold, self.flags.has(Bits::SACK)) {
            cold.congestion.on_loss(config.congestion, &mut self.window, flight_bytes, self.mss);
            self.tell_of_reduction(cold);
        }
        self.end_probe(cold);
        cold.recovery.begin(Phase::FastRecovery, self.snd.nxt);
        if !self.flags.has(Bits::SACK) {
            cold.send.mark_lost(0);
        }
        self.flags.set(Bits::TX_RTX.or(Bits::RECOVERY));
    }

    /// The episode is over. What was found lost of the data sent during it is the next one.
    fn leave_recovery<P, S>(&mut self, cold: &mut Cold<P, S>, config: &Config, now: Instant) {
        if cold.send.lost_bytes() > 0 {
            self.enter_fast_recovery(cold, config, now);
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

    fn dup_threshold<P, S>(&self, cold: &Cold<P, S>, sent: u32, config: &Config) -> u32 {
        // RFC 5827 3.1: with few segments out and nothing to send, fewer duplicates than three can ever come.
        let threshold = if (2..=DUP_THRESHOLD).contains(&sent) && !self.has_sendable(cold, config) {
            sent - 1
        } else {
            DUP_THRESHOLD
        };
        threshold + cold.recovery.stale_dup_acks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aged(mut reordering: Reordering, recoveries: u32) -> (bool, u8) {
        (0..recoveries).for_each(|_| reordering.age());
        (reordering.is_seen(), reordering.quarters())
    }

    /// RFC 8985 6.2, step 4
    #[test]
    fn the_reordering_window_widens_to_two_round_trips_and_is_narrow_again_after_fifteen_recoveries() {
        let mut reordering = Reordering::default();
        assert_eq!(aged(reordering, 0), (false, 1));
        for quarters in [2, 3, 4, 5, 6, 7, 8, 8] {
            reordering.widen();
            assert_eq!(aged(reordering, 0), (false, quarters));
        }
        assert_eq!(
            (aged(reordering, 14), aged(reordering, 15), aged(reordering, 16)),
            ((false, 8), (false, 1), (false, 1))
        );
        // That there is reordering is not forgotten.
        let mut reordering = Reordering::default();
        reordering.note_seen();
        reordering.widen();
        assert_eq!((aged(reordering, 14), aged(reordering, 40)), ((true, 2), (true, 1)));
        // Each report begins the count anew.
        (0..10).for_each(|_| reordering.age());
        reordering.widen();
        assert_eq!((aged(reordering, 14), aged(reordering, 15)), ((true, 3), (true, 1)));
    }
}
