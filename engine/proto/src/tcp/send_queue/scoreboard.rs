//! What SACK tells about the records (RFC 2018, RFC 2883, RFC 6675 4).

use ringwire_wire::tcp::SackBlocks;

use super::rack::Evidence;
use super::{RecordFlags, SendQueue};
use crate::SeqNum;

/// Blocks of the last ACK, so that the next one costs only what it adds (CVE-2019-11478).
#[derive(Debug, Clone, Copy)]
pub(in crate::tcp) struct Scoreboard {
    known: SackBlocks,
    /// Everything before this was judged.
    judged_to: SeqNum,
}

/// What the blocks of one ACK said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::tcp) struct SackNews {
    /// Bytes that are newly known to have arrived.
    pub bytes: u32,
    /// The range that arrived twice (RFC 2883 4).
    pub duplicate: Option<(SeqNum, SeqNum)>,
}

impl Scoreboard {
    pub(super) const NEW: Self = Self { known: SackBlocks::NONE, judged_to: SeqNum(0) };

    pub(super) fn judged_to(&self) -> SeqNum {
        self.judged_to
    }

    pub(super) fn judge_to(&mut self, seq: SeqNum) {
        self.judged_to = seq;
    }

    /// RFC 2018 8: after a timeout nothing the receiver said binds it any more.
    pub(super) fn forget(&mut self) {
        self.known = SackBlocks::NONE;
    }

    /// Everything from `front` on is judged again.
    pub(super) fn judge_anew(&mut self, front: Option<SeqNum>) {
        self.judged_to = front.unwrap_or(self.judged_to);
    }
}

impl<S> SendQueue<S> {
    /// Takes in the blocks of one ACK. Blocks outside (`una`, `nxt`] are ignored, but for a duplicate's.
    pub(in crate::tcp) fn on_sack(
        &mut self,
        blocks: &SackBlocks,
        (una, nxt): (SeqNum, SeqNum),
        evidence: &Evidence,
    ) -> SackNews {
        if self.sacked_bytes == 0 && self.lost_bytes == 0 {
            self.scoreboard.judge_to(una);
        }
        let before = self.delivered_bytes;
        let duplicate = duplicate_of(blocks.as_slice(), evidence.ack);
        for (left, right) in in_order(blocks, usize::from(duplicate.is_some()), una) {
            if left.after(una) && right.after(left) && right.before_eq(nxt) {
                self.mark_sacked(left, right, evidence);
            }
        }
        self.scoreboard.known = *blocks;
        SackNews { bytes: self.delivered_bytes.wrapping_sub(before), duplicate }
    }

    fn mark_sacked(&mut self, left: SeqNum, right: SeqNum, evidence: &Evidence) {
        let mut from = left;
        for &(known_left, known_right) in self.scoreboard.known.as_slice() {
            if left.after_eq(SeqNum(known_left)) && left.before_eq(SeqNum(known_right)) {
                from = from.later(SeqNum(known_right));
            }
        }
        let mut index = self.first_ending_after(from);
        while index < self.sent {
            self.note_visit();
            let Some(record) = self.records.get_mut(index) else { return };
            if record.end().after(right) {
                return;
            }
            index += 1;
            if record.flags.has(RecordFlags::SACKED) || record.seq.before(left) {
                continue;
            }
            if record.flags.has(RecordFlags::LOST) {
                self.lost_bytes -= record.len;
            }
            if record.flags.has(RecordFlags::RETRANSMITTED) {
                self.resent_bytes -= record.len;
            }
            record.flags.clear(RecordFlags::LOST);
            record.flags.clear(RecordFlags::RETRANSMITTED);
            self.tally.delivered_segs += u32::from(!record.flags.has(RecordFlags::EVER_SACKED));
            record.flags.set(RecordFlags::SACKED);
            record.flags.set(RecordFlags::EVER_SACKED);
            self.sacked_bytes += record.len;
            self.sacked_segs += 1;
            self.delivered_bytes = self.delivered_bytes.wrapping_add(record.len);
            self.rack.on_arrival(record, evidence);
            if let Some(rate) = &mut self.rate {
                rate.on_sacked(index - 1, record, evidence.now);
            }
        }
    }

    pub(super) fn first_ending_after(&self, seq: SeqNum) -> usize {
        self.records.partition_point(|record| record.end().before_eq(seq))
    }
}

/// A header has room for no more.
const MAX_SACK_BLOCKS: usize = 4;

/// The blocks but the first `skipped`, lowest first: RFC 8985 6.2, step 3, else a report that was lost and comes again beside a newer
/// one looks like reordering.
fn in_order(blocks: &SackBlocks, skipped: usize, una: SeqNum) -> impl Iterator<Item = (SeqNum, SeqNum)> {
    let mut sorted = [(SeqNum(0), SeqNum(0)); MAX_SACK_BLOCKS];
    let given = blocks.as_slice().get(skipped..).unwrap_or_default();
    for (place, &(left, right)) in sorted.iter_mut().zip(given) {
        *place = (SeqNum(left), SeqNum(right));
    }
    let count = given.len();
    if let Some(sorted) = sorted.get_mut(..count) {
        sorted.sort_unstable_by_key(|(left, _)| left.distance(una));
    }
    sorted.into_iter().take(count)
}

/// RFC 2883 4: the first block reports a duplicate if it lies below the acknowledgement of the same segment, or within the second block.
pub(in crate::tcp) fn duplicate_of(blocks: &[(u32, u32)], ack: SeqNum) -> Option<(SeqNum, SeqNum)> {
    let &(left, right) = blocks.first()?;
    let (left, right) = (SeqNum(left), SeqNum(right));
    let is_within = blocks.get(1).is_some_and(|&(outer_left, outer_right)| {
        left.after_eq(SeqNum(outer_left)) && right.before_eq(SeqNum(outer_right))
    });
    (right.after(left) && (right.before_eq(ack) || is_within)).then_some((left, right))
}
