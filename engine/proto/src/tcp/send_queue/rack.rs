//! RACK (RFC 8985 6): a segment is lost when one that left later has arrived, and long enough ago.

use super::{Record, RecordFlags, SendQueue};
use crate::tcp::options::now_ms;
use crate::tcp::recovery::DUP_THRESHOLD;
use crate::{Instant, SeqNum};

/// What an acknowledgement says beside its numbers: when it came, and which of our timestamps it echoes.
#[derive(Debug, Clone, Copy)]
pub(in crate::tcp) struct Evidence {
    pub now: Instant,
    /// Its acknowledgement number; below SND.UNA if others overtook it.
    pub ack: SeqNum,
    /// TSecr on the ring of [`now_ms`]; `None` without the option.
    pub echo_ms: Option<u32>,
    /// Smoothed round-trip time before it; 0: none was measured.
    pub srtt_ns: u64,
}

/// The segment that left last, of all that have arrived, and what arrivals tell about the path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rack {
    /// RACK.xmit_ts and RACK.end_seq.
    sent_at: Instant,
    end: SeqNum,
    /// RACK.rtt, of an earlier queue until something of this one arrives; 0: nothing has arrived.
    rtt_ns: u64,
    /// Smallest round trip of a segment sent once, or what was known before; `u64::MAX` before the first.
    min_rtt_ns: u64,
    /// RACK.fack: the end of the farthest arrival.
    farthest: Option<SeqNum>,
    is_reordering_seen: bool,
    /// Some since somebody last asked.
    has_reordering_news: bool,
    /// How far behind the farthest arrival one has begun that came after it: bytes.
    reordered_by: u32,
}

/// Linux's tcp_max_reordering.
const MAX_REORDERING_SEGS: u32 = 300;

/// What became of the search for losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tcp) struct Verdict {
    /// Something was newly presumed lost.
    pub is_lost: bool,
    /// Something will be, unless it arrives before.
    pub wait_ns: Option<u64>,
}

/// How many records at the front are looked at for lost retransmissions: the first of them blocks everything.
const FRONT: usize = 32;

impl Rack {
    pub(super) const NEW: Self = Self {
        sent_at: Instant::ZERO,
        end: SeqNum(0),
        rtt_ns: 0,
        min_rtt_ns: u64::MAX,
        farthest: None,
        is_reordering_seen: false,
        has_reordering_news: false,
        reordered_by: 0,
    };

    /// RFC 8985 6.2, steps 1 to 3, for one segment that is newly acknowledged or SACKed.
    #[inline]
    pub(super) fn on_arrival<S>(&mut self, record: &Record<S>, evidence: &Evidence) {
        let rtt_ns = evidence.now.nanos_since(record.sent_at);
        if self.min_rtt_ns == u64::MAX && evidence.srtt_ns > 0 {
            self.min_rtt_ns = evidence.srtt_ns;
        }
        let was_resent = record.flags.has(RecordFlags::EVER_RETRANSMITTED);
        if was_resent {
            // Which of its transmissions arrived? Not the last, if the echo is older or the time too short.
            let is_older = |echo_ms: u32| echo_ms.wrapping_sub(now_ms(record.sent_at)).cast_signed() < 0;
            if evidence.echo_ms.is_some_and(is_older) || rtt_ns < self.min_rtt_ns {
                return;
            }
        } else {
            self.min_rtt_ns = self.min_rtt_ns.min(rtt_ns);
        }
        if is_sent_after((record.sent_at, record.end()), (self.sent_at, self.end)) || self.rtt_ns == 0 {
            (self.sent_at, self.end, self.rtt_ns) = (record.sent_at, record.end(), rtt_ns.max(1));
        }
        match self.farthest {
            Some(farthest) if record.end().before(farthest) => {
                if !was_resent {
                    (self.is_reordering_seen, self.has_reordering_news) = (true, true);
                    self.reordered_by = self.reordered_by.max(farthest.distance(record.seq));
                }
            }
            _ => self.farthest = Some(record.end()),
        }
    }

    /// What left so long ago, and before the latest arrival, is lost (RFC 8985 6.2, step 5). None before anything has ever arrived: after a
    /// pause the first arrivals are judged by how long those before it took, and that nothing of this queue has arrived yet shows in
    /// [`Self::is_newer_than`] alone.
    pub(super) fn age_of_loss_ns(&self, reo_wnd_ns: u64) -> Option<u64> {
        (self.rtt_ns > 0).then(|| self.rtt_ns.saturating_add(reo_wnd_ns))
    }

    /// Whether something that left later has arrived. Before the first arrival `sent_at` is the beginning of time, and nothing left earlier.
    fn is_newer_than<S>(&self, record: &Record<S>) -> bool {
        is_sent_after((self.sent_at, self.end), (record.sent_at, record.end()))
    }
}

/// RFC 8985 6.2, RACK_sent_after: segments that left in one turn are told apart by their numbers.
fn is_sent_after(one: (Instant, SeqNum), other: (Instant, SeqNum)) -> bool {
    one.0 > other.0 || one.0 == other.0 && one.1.after(other.1)
}

impl<S> SendQueue<S> {
    /// Whether a segment has arrived behind one that left later.
    pub(in crate::tcp) fn is_reordering_seen(&self) -> bool {
        self.rack.is_reordering_seen
    }

    /// Whether one has since the last call.
    pub(in crate::tcp) fn take_reordering_news(&mut self) -> bool {
        core::mem::take(&mut self.rack.has_reordering_news)
    }

    /// How many segments later one may arrive and not be lost (Linux's tcp_check_sack_reordering): [`DUP_THRESHOLD`] or more.
    pub(in crate::tcp) fn reordering_segs(&self, mss: u16) -> u32 {
        let segs = self.rack.reordered_by.div_ceil(u32::from(mss).max(1));
        segs.clamp(DUP_THRESHOLD, MAX_REORDERING_SEGS)
    }

    /// What was known before the queue began (RFC 8985 6.2): of the path, not of what it carries now.
    pub(in crate::tcp) fn recall_path(&mut self, is_reordering_seen: bool, rtt_ns: u64) {
        (self.rack.is_reordering_seen, self.rack.rtt_ns) = (is_reordering_seen, rtt_ns);
    }

    /// RACK.rtt; 0: nothing has ever arrived.
    pub(in crate::tcp) fn rack_rtt_ns(&self) -> u64 {
        self.rack.rtt_ns
    }

    /// Smallest round trip seen: nanoseconds.
    pub(in crate::tcp) fn min_rtt_ns(&self) -> Option<u64> {
        (self.rack.min_rtt_ns != u64::MAX).then_some(self.rack.min_rtt_ns)
    }

    /// RFC 8985 6.2, step 5, RACK_detect_loss: what left before the latest arrival is lost once RACK.rtt and the reordering window
    /// have passed since.
    ///
    /// Segments sent once left in the order of their numbers, so the walk goes on where the last one stopped and ends at the first
    /// that may still come (CVE-2019-11478). Of those sent again only the first few are looked at.
    pub(in crate::tcp) fn detect_losses(&mut self, now: Instant, reo_wnd_ns: u64) -> Verdict {
        let mut verdict = Verdict { is_lost: false, wait_ns: None };
        let Some(limit_ns) = self.rack.age_of_loss_ns(reo_wnd_ns) else { return verdict };
        let mut index = self.first_ending_after(self.judged_to());
        while index < self.sent {
            self.note_visit();
            let Some(record) = self.records.get(index) else { break };
            let (flags, end) = (record.flags, record.end());
            if !flags.has(RecordFlags::SACKED) && !flags.has(RecordFlags::LOST) {
                if !self.rack.is_newer_than(record) {
                    break;
                }
                let age_ns = now.nanos_since(record.sent_at);
                if age_ns < limit_ns {
                    verdict.wait_ns = Some(limit_ns - age_ns);
                    break;
                }
                self.mark_lost(index);
                verdict.is_lost = true;
            }
            self.scoreboard.judge_to(end);
            index += 1;
        }
        self.detect_lost_again(now, limit_ns, &mut verdict);
        verdict
    }

    /// Where the walk goes on; a mark that lies outside of what is out is from an earlier episode.
    fn judged_to(&self) -> SeqNum {
        let judged_to = self.scoreboard.judged_to();
        let (Some(front), Some(end)) = (self.records.front(), self.end()) else { return judged_to };
        if judged_to.distance(front.seq) <= end.distance(front.seq) { judged_to } else { front.seq }
    }

    fn detect_lost_again(&mut self, now: Instant, limit_ns: u64, verdict: &mut Verdict) {
        for index in 0..self.sent.min(FRONT) {
            self.note_visit();
            let Some(record) = self.records.get(index) else { return };
            if !record.flags.has(RecordFlags::RETRANSMITTED) || !self.rack.is_newer_than(record) {
                continue;
            }
            let age_ns = now.nanos_since(record.sent_at);
            if age_ns >= limit_ns {
                self.mark_lost(index);
                verdict.is_lost = true;
            } else {
                let wait_ns = limit_ns - age_ns;
                verdict.wait_ns = Some(verdict.wait_ns.map_or(wait_ns, |least| least.min(wait_ns)));
            }
        }
    }
}
