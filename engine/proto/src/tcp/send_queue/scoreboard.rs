//! What SACK tells about the records (RFC 2018, RFC 6675 4).

use ringwire_wire::tcp::SackBlocks;

use super::{RecordFlags, SendQueue};
use crate::SeqNum;

/// Blocks of the last ACK, so that the next one costs only what it adds (CVE-2019-11478).
#[derive(Debug, Clone, Copy)]
pub(in crate::tcp) struct Scoreboard {
    known: SackBlocks,
    /// End of the highest record that is SACKed.
    high_sacked: SeqNum,
    /// Everything before this was judged.
    judged_to: SeqNum,
    /// Transmissions so far; wraps.
    transmissions: u32,
    /// The latest transmission known to have arrived.
    arrived: u32,
}

/// How far a walk goes for its evidence. Reordering by as many segments does not happen; what lies below is lost.
const MAX_WALK: usize = 128;

/// How many records at the front are looked at for lost retransmissions: the first of them blocks everything.
const FRONT: usize = 32;

impl Scoreboard {
    pub(super) const NEW: Self = Self {
        known: SackBlocks::NONE,
        high_sacked: SeqNum(0),
        judged_to: SeqNum(0),
        transmissions: 0,
        arrived: 0,
    };

    /// Numbers a transmission.
    pub(super) fn next_transmission(&mut self) -> u32 {
        self.transmissions = self.transmissions.wrapping_add(1);
        self.transmissions
    }

    /// The transmission with this number arrived, no doubt.
    pub(super) fn note_arrival(&mut self, transmission: u32) {
        if transmission.wrapping_sub(self.arrived).cast_signed() > 0 {
            self.arrived = transmission;
        }
    }

    /// RFC 2018 8: after a timeout nothing the receiver said binds it any more.
    pub(super) fn forget(&mut self) {
        self.known = SackBlocks::NONE;
    }
}

impl<S> SendQueue<S> {
    /// Takes in the blocks of one ACK; true if they say anything new. Blocks outside (`una`, `nxt`] are ignored.
    pub(in crate::tcp) fn on_sack(&mut self, blocks: &SackBlocks, una: SeqNum, nxt: SeqNum) -> bool {
        if self.sacked_bytes == 0 {
            (self.scoreboard.high_sacked, self.scoreboard.judged_to) = (una, una);
        }
        let before = self.sacked_bytes;
        for &(left, right) in blocks.as_slice() {
            let (left, right) = (SeqNum(left), SeqNum(right));
            if left.after(una) && right.after(left) && right.before_eq(nxt) {
                self.mark_sacked(left, right);
            }
        }
        self.scoreboard.known = *blocks;
        self.sacked_bytes != before
    }

    /// RFC 6675 4, IsLost: `threshold` segments above it arrived. True if a record was newly presumed lost.
    pub(in crate::tcp) fn mark_lost_by_sack(&mut self, threshold: u32) -> bool {
        if self.sacked_bytes == 0 {
            return false;
        }
        let before = self.lost_bytes - self.resent_bytes;
        let high = self.scoreboard.high_sacked;
        let mut edge = self.first_ending_after(high).min(self.sent);
        let mut evidence = 0;
        for _ in 0..MAX_WALK {
            if evidence >= threshold || edge == 0 {
                break;
            }
            edge -= 1;
            let sacked = self.records.get(edge).is_some_and(|record| record.flags.has(RecordFlags::SACKED));
            evidence += u32::from(sacked);
        }
        let first = self.first_ending_after(self.scoreboard.judged_to);
        for index in first..edge {
            let open = |flags: RecordFlags| !flags.has(RecordFlags::SACKED) && !flags.has(RecordFlags::LOST);
            if self.records.get(index).is_some_and(|record| open(record.flags)) {
                self.mark_lost(index);
            }
        }
        if first < edge
            && let Some(record) = self.records.get(edge)
        {
            self.scoreboard.judged_to = record.seq;
        }
        self.mark_lost_again(threshold);
        self.lost_bytes - self.resent_bytes != before
    }

    /// A retransmission is lost when `threshold` transmissions after it are known to have been overtaken by an arrival.
    fn mark_lost_again(&mut self, threshold: u32) {
        let arrived = self.scoreboard.arrived;
        for index in 0..self.sent.min(FRONT) {
            let lost = self.records.get(index).is_some_and(|record| {
                let later = arrived.wrapping_sub(record.transmission).cast_signed();
                record.flags.has(RecordFlags::RETRANSMITTED) && later >= threshold.cast_signed()
            });
            if lost {
                self.mark_lost(index);
            }
        }
    }

    fn mark_sacked(&mut self, left: SeqNum, right: SeqNum) {
        let mut from = left;
        for &(known_left, known_right) in self.scoreboard.known.as_slice() {
            if left.after_eq(SeqNum(known_left)) && left.before_eq(SeqNum(known_right)) {
                from = from.later(SeqNum(known_right));
            }
        }
        let mut index = self.first_ending_after(from);
        while index < self.sent {
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
            record.flags.set(RecordFlags::SACKED);
            self.sacked_bytes += record.len;
            self.scoreboard.high_sacked = self.scoreboard.high_sacked.later(record.end());
            // Of a record sent twice nobody knows which copy it was.
            if !record.flags.has(RecordFlags::EVER_RETRANSMITTED) {
                self.scoreboard.note_arrival(record.transmission);
            }
        }
    }

    fn first_ending_after(&self, seq: SeqNum) -> usize {
        self.records.partition_point(|record| record.end().before_eq(seq))
    }
}
