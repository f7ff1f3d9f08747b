//! Path MTU without ICMP (RFC 4821, RFC 8899): black holes are noticed, and larger segments are tried again behind them.
//!
//! ```text
//! 4 timeouts of a long segment -> mss 1024, then 512   -> data flows -> probe in the middle between what passes and what did
//!    ^                                                      |-- acknowledged -> mss is the probe's, next one
//!    `-- nothing is known of the path before that            `-- lost -> cut up and sent again, cwnd stays, smaller one later
//! ```
//! A probe is a segment of data that waits to be sent, put together anew from the pieces in which it waits, with enough behind it to tell
//! its loss from that of the tail. What is known of the path lives in the cold part, which such a connection keeps while it is idle.

use super::cold::Cold;
use super::recovery::Phase;
use super::tcb::Tcb;
use super::{Config, SendBuf, SendPool, Window};
use crate::{Instant, SeqNum};

/// Timeouts of one long segment before the path is suspected: three seconds at the least RTO, about Linux's tcp_retries1.
const SUSPICIOUS_TRIES: u8 = 4;

/// What nearly every path takes (Linux's tcp_base_mss; RFC 8899 5.1.2 says 1,200 with headers).
const BASE_MSS: u16 = 1024;

/// Below this, segments are not the problem: every host takes packets of 576 bytes (RFC 1122 3.3.2).
const LEAST_MSS: u16 = 512;

/// A gap that is not worth a probe in its middle, or that a lost probe ends (RFC 4821 7.3: a few per cent).
const FINE_BYTES: u16 = 32;

/// After a reduction or a lost probe (RFC 8899 5.1.1, PROBE_TIMER: at least one second).
const PROBE_WAIT_NS: u64 = 1_000_000_000;

/// When the search begins anew (RFC 8899 5.1.1, PMTU_RAISE_TIMER).
const RAISE_WAIT_NS: u64 = 600_000_000_000;

/// Segments behind a probe that tell of its loss: the duplicate threshold and one.
const SEGS_BEHIND: u32 = 4;

/// The search for the largest segment that the path takes; `Tcb::mss` is the largest that has got through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    /// What was sent before the path was suspected.
    top: u16,
    /// Nothing above this is tried for now.
    high: u16,
    /// The probe that is queued or out: its number and length.
    probe: Option<(SeqNum, u16)>,
    next_at: Instant,
    /// A probe has been lost since the last look at the clock.
    is_wait_due: bool,
    /// What the threshold was before a probe was repaired.
    ssthresh: Option<u32>,
}

impl Search {
    fn is_over(&self, mss: u16) -> bool {
        self.high <= mss
    }

    /// What to try next.
    fn target(&self, mss: u16) -> u16 {
        let gap = self.high - mss;
        if gap <= 2 * FINE_BYTES { self.high } else { mss + gap / 2 }
    }

    /// A probe of `len` was lost while `mss` gets through.
    fn on_lost(&mut self, len: u16, mss: u16) {
        let below = if len.saturating_sub(mss) <= FINE_BYTES { mss } else { len - 1 };
        self.high = self.high.min(below);
        self.is_wait_due = true;
    }
}

impl Tcb {
    /// The retransmission timer fired once more: if long segments do not get through, shorter ones may.
    #[cold]
    pub(super) fn suspect_black_hole<P, S: SendBuf>(&mut self, cold: &mut Cold<P, S>, now: Instant) {
        if self.tries < SUSPICIOUS_TRIES {
            return;
        }
        let Some(mss) = cold.send.get(0).and_then(|head| self.shorter_mss(head.len)) else { return };
        let top = cold.path.map_or(self.mss, |search| search.top);
        cold.path = Some(Search {
            top,
            high: top,
            probe: None,
            next_at: now.add_nanos(PROBE_WAIT_NS),
            is_wait_due: false,
            ssthresh: None,
        });
        self.mss = mss;
        cold.send.resegment(0, mss);
    }

    /// The next smaller size that cuts a segment of `len`: those between that and what it is say nothing new.
    fn shorter_mss(&self, len: u32) -> Option<u16> {
        [BASE_MSS, LEAST_MSS].into_iter().find(|mss| *mss < self.mss && u32::from(*mss) < len)
    }

    /// Makes a probe out of what waits to be sent, if one is due.
    #[cold]
    pub(super) fn queue_path_probe<P, A: SendPool>(
        &self,
        cold: &mut Cold<P, A::Buf>,
        pool: &mut A,
        now: Instant,
    ) {
        let Some((first, queued)) = cold.send.first_separate() else { return };
        let Some(len) = self.due_probe_len(cold, queued, now) else { return };
        if let Some(seq) = cold.send.join(first, len.into(), pool)
            && let Some(search) = &mut cold.path
        {
            search.probe = Some((seq, len));
        }
    }

    /// The length of the probe that `queued` bytes may begin with.
    fn due_probe_len<P, S>(&self, cold: &mut Cold<P, S>, queued: u32, now: Instant) -> Option<u16> {
        let search = cold.path.as_mut()?;
        if search.probe.is_some() || cold.recovery.phase != Phase::Open || self.backoff > 0 {
            return None;
        }
        if core::mem::take(&mut search.is_wait_due) {
            search.next_at = now.add_nanos(PROBE_WAIT_NS);
        }
        if now < search.next_at {
            return None;
        }
        if search.is_over(self.mss) {
            if self.mss >= search.top {
                cold.path = None;
            } else {
                search.high = search.top;
                search.next_at = now.add_nanos(RAISE_WAIT_NS);
            }
            return None;
        }
        let len = search.target(self.mss);
        let needed = u32::from(len) + SEGS_BEHIND * u32::from(self.mss);
        let is_enough = queued >= needed && self.window.cwnd >= needed && self.snd.wnd >= needed;
        is_enough.then_some(len)
    }

    /// The record at `seq` leaves in two pieces: that they get through says nothing.
    pub(super) fn forget_path_probe<P, S>(&self, cold: &mut Cold<P, S>, seq: SeqNum) {
        if let Some(search) = &mut cold.path
            && search.probe.is_some_and(|(probe, _)| probe == seq)
        {
            search.probe = None;
        }
    }

    /// SND.UNA has passed something whose round trip was ambiguous: perhaps the probe.
    #[cold]
    pub(super) fn settle_path_probe<P, S>(&mut self, cold: &mut Cold<P, S>) {
        if let Some(search) = &mut cold.path
            && let Some((seq, len)) = search.probe
            && self.snd.una.after_eq(seq + u32::from(len))
        {
            search.probe = None;
            self.mss = self.mss.max(len);
        }
    }

    /// Recovery begins. RFC 4821 7.6.2: when nothing but the probe is lost, that is no sign of congestion; true then, and the threshold
    /// is where the window is until the repair is over.
    pub(super) fn loses_only_path_probe<P, S>(&mut self, cold: &mut Cold<P, S>, is_sack: bool) -> bool {
        let Some(search) = &mut cold.path else { return false };
        search.ssthresh = None;
        let Some((seq, len)) = search.probe.take() else { return false };
        let is_lost_alone = if is_sack {
            let first_lost = cold.send.next_lost().and_then(|index| cold.send.get(index));
            first_lost.is_some_and(|record| record.seq == seq) && cold.send.lost_bytes() == u32::from(len)
        } else {
            self.snd.una == seq
        };
        if !is_lost_alone {
            search.is_wait_due = true;
            return false;
        }
        search.on_lost(len, self.mss);
        search.ssthresh = Some(self.window.ssthresh);
        self.window.ssthresh = self.window.cwnd;
        true
    }

    /// The repair of what was lost is over.
    pub(super) fn end_path_repair<P, S>(&mut self, cold: &mut Cold<P, S>) {
        if let Some(ssthresh) = cold.path.as_mut().and_then(|search| search.ssthresh.take()) {
            self.window.ssthresh = ssthresh;
        }
    }

    /// The RTO fired with a probe out: congestion or not, it does not count any more.
    pub(super) fn drop_path_probe<P, S>(&self, cold: &mut Cold<P, S>) {
        let Some(search) = &mut cold.path else { return };
        search.ssthresh = None;
        if let Some((seq, len)) = search.probe.take() {
            search.is_wait_due = true;
            if seq == self.snd.una {
                search.on_lost(len, self.mss);
            }
        }
    }

    /// ICMP says that the path takes segments of `mss`: no more than that is tried, or looked for in what is out.
    pub(super) fn bound_path_search<P, S>(&self, cold: &mut Cold<P, S>, mss: u16) {
        if let Some(search) = &mut cold.path {
            search.high = search.high.min(mss.max(self.mss));
            // What is longer is cut up.
            search.probe = search.probe.filter(|(_, len)| *len <= mss);
        }
    }

    /// More than the probe has been lost: that is congestion, and the recovery under way is for it too (RFC 4821 7.6.2).
    pub(super) fn blame_congestion<P, S>(&mut self, cold: &mut Cold<P, S>, config: &Config) {
        if let Some(ssthresh) = cold.path.as_mut().and_then(|search| search.ssthresh.take()) {
            // The threshold held the window while it was forgiven.
            self.window = Window { cwnd: self.window.ssthresh, ssthresh };
            let flight_bytes = cold.recovery.flight_when_begun();
            cold.congestion.on_loss(config.congestion, &mut self.window, flight_bytes, self.mss);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_of_two_fine_ones_is_tried_whole_and_a_larger_one_in_its_middle() {
        let target = |high: u16| {
            let (top, probe, next_at, is_wait_due, ssthresh) = (high, None, Instant::ZERO, false, None);
            Search { top, high, probe, next_at, is_wait_due, ssthresh }.target(1024)
        };
        assert_eq!([1025, 1074, 1088, 1090].map(target), [1025, 1074, 1088, 1057]);
    }
}
