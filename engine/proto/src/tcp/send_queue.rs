//! The send queue: one record for each segment, sent or not, in sequence order without gaps.
//!
//! A record normally owns its buffer and leaves with it. Where one buffer holds several segments (it is longer than the MSS, or
//! the peer's window forced a cut), the last of them owns it and the others count how far ahead the owner is; they leave as
//! copies. The scoreboard of SACK is the records themselves.

mod join;
mod rack;
mod rate;
mod scoreboard;

use alloc::boxed::Box;
use alloc::collections::VecDeque;

pub(super) use self::rack::Evidence;
pub(super) use self::scoreboard::duplicate_of;

use self::rack::Rack;
use self::rate::RateSampler;
use self::scoreboard::Scoreboard;
use super::poll_transmit::Body;
use super::{SendBuf, SendPool};
use crate::{Instant, SeqNum};

/// One segment's worth of data.
pub(super) struct Record<S> {
    pub seq: SeqNum,
    pub len: u32,
    /// First byte in the buffer.
    offset: u32,
    /// How many records later the buffer is owned; 0: here.
    buf_ahead: u16,
    pub flags: RecordFlags,
    /// When it last left.
    pub sent_at: Instant,
    /// Count of ACKs at which a retransmission of it must be lost, without SACK; see [`super::recovery`].
    pub lost_again_at: u32,
    buf: Option<S>,
}

impl<S> Record<S> {
    pub(super) fn end(&self) -> SeqNum {
        self.seq + self.len
    }
}

/// What is known about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordFlags(u8);

impl RecordFlags {
    const NONE: Self = Self(0);
    /// Presumed lost; with RETRANSMITTED: sent again since.
    pub(super) const LOST: Self = Self(1);
    pub(super) const RETRANSMITTED: Self = Self(1 << 1);
    /// Was sent more than once: no round-trip sample (Karn).
    pub(super) const EVER_RETRANSMITTED: Self = Self(1 << 2);
    /// Ends a write of the application.
    pub(super) const PUSH: Self = Self(1 << 3);
    /// The receiver holds it. Never together with LOST.
    pub(super) const SACKED: Self = Self(1 << 4);
    /// Was SACKED once, and counted as delivered then.
    const EVER_SACKED: Self = Self(1 << 5);
    /// Ends a record of the application: what follows goes apart (MSG_EOR).
    const SEALED: Self = Self(1 << 6);

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    /// Lost and not sent again.
    pub(super) const fn wants_retransmission(self) -> bool {
        self.0 & (Self::LOST.0 | Self::RETRANSMITTED.0) == Self::LOST.0
    }
}

/// What became of the segments of a queue since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Arrived for all that is known: acknowledged or SACKed, each once.
    pub delivered_segs: u32,
    /// Presumed lost, each time.
    pub lost_segs: u32,
}

/// What an acknowledgement took off the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct AckedRecords {
    pub segs: u32,
    /// When the first of them left, unless any was sent more than once.
    pub sent_at: Option<Instant>,
    pub retransmitted: bool,
}

/// What `append` may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Sequence number of the next byte, if the queue is empty.
    pub start: SeqNum,
    pub mss: u16,
    pub max_segs: usize,
}

pub(super) struct SendQueue<S> {
    records: VecDeque<Record<S>>,
    /// Records that were sent; they come first.
    sent: usize,
    /// No record before this index wants retransmission.
    lost_from: usize,
    bytes: u32,
    lost_bytes: u32,
    /// Part of `lost_bytes` that is in flight again.
    resent_bytes: u32,
    sacked_bytes: u32,
    sacked_segs: u32,
    /// Bytes known to have arrived, acknowledged or SACKed; wraps.
    delivered_bytes: u32,
    tally: Tally,
    scoreboard: Scoreboard,
    rack: Rack,
    /// Only for an algorithm that asks for it.
    rate: Option<Box<RateSampler>>,
    /// Records that SACK and RACK have looked at: what an acknowledgement costs (CVE-2019-11478).
    #[cfg(test)]
    pub(super) visits: usize,
}

impl<S> SendQueue<S> {
    pub(super) fn new() -> Self {
        Self {
            records: VecDeque::new(),
            sent: 0,
            lost_from: 0,
            bytes: 0,
            lost_bytes: 0,
            resent_bytes: 0,
            sacked_bytes: 0,
            sacked_segs: 0,
            delivered_bytes: 0,
            tally: Tally::default(),
            scoreboard: Scoreboard::NEW,
            rack: Rack::NEW,
            rate: None,
            #[cfg(test)]
            visits: 0,
        }
    }

    #[inline]
    fn note_visit(&mut self) {
        #[cfg(test)]
        {
            self.visits += 1;
        }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        let Self {
            records,
            sent,
            lost_from,
            bytes,
            lost_bytes,
            resent_bytes,
            sacked_bytes,
            sacked_segs,
            delivered_bytes,
            tally,
            scoreboard,
            rack,
            rate,
            #[cfg(test)]
                visits: _,
        } = self;
        records.clear();
        (*scoreboard, *rack, *tally, *rate) = (Scoreboard::NEW, Rack::NEW, Tally::default(), None);
        (*sent, *lost_from) = (0, 0);
        (*bytes, *lost_bytes, *resent_bytes) = (0, 0, 0);
        (*sacked_bytes, *sacked_segs, *delivered_bytes) = (0, 0, 0);
    }

    /// Records that fit without another allocation.
    pub(super) fn capacity(&self) -> usize {
        self.records.capacity()
    }

    pub(super) fn shrink_to(&mut self, capacity: usize) {
        self.records.shrink_to(capacity);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes queued: unsent, or sent and not wholly acknowledged.
    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    pub(super) fn segs(&self) -> usize {
        self.records.len()
    }

    pub(super) fn sent_segs(&self) -> usize {
        self.sent
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.records.len()
    }

    /// Bytes presumed lost and not sent again.
    pub(super) fn missing_bytes(&self) -> u32 {
        self.lost_bytes - self.resent_bytes
    }

    /// Bytes presumed lost, sent again or not.
    pub(super) fn lost_bytes(&self) -> u32 {
        self.lost_bytes
    }

    /// Bytes the receiver holds out of order.
    pub(super) fn sacked_bytes(&self) -> u32 {
        self.sacked_bytes
    }

    /// Segments the receiver holds out of order.
    pub(super) fn sacked_segs(&self) -> u32 {
        self.sacked_segs
    }

    /// Bytes known to have arrived since the queue began; wraps.
    pub(super) fn delivered_bytes(&self) -> u32 {
        self.delivered_bytes
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    pub(super) fn first_unsent(&self) -> Option<(usize, &Record<S>)> {
        self.records.get(self.sent).map(|record| (self.sent, record))
    }

    pub(super) fn get(&self, index: usize) -> Option<&Record<S>> {
        self.records.get(index)
    }

    pub(super) fn is_last(&self, index: usize) -> bool {
        index + 1 == self.records.len()
    }

    pub(super) fn bufs(&self) -> impl Iterator<Item = &S> {
        self.records.iter().filter_map(|record| record.buf.as_ref())
    }

    /// The number after the last byte queued.
    pub(super) fn end(&self) -> Option<SeqNum> {
        self.records.back().map(Record::end)
    }

    /// Removes what `una` acknowledges.
    pub(super) fn on_ack(&mut self, una: SeqNum, evidence: &Evidence) -> AckedRecords {
        let mut acked = AckedRecords::default();
        while self.sent > 0 && self.records.front().is_some_and(|front| front.end().before_eq(una)) {
            let Some(record) = self.records.pop_front() else { break };
            self.sent -= 1;
            self.bytes -= record.len;
            if record.flags.has(RecordFlags::LOST) {
                self.lost_bytes -= record.len;
            }
            if record.flags.has(RecordFlags::RETRANSMITTED) {
                self.resent_bytes -= record.len;
            }
            if record.flags.has(RecordFlags::SACKED) {
                self.sacked_bytes -= record.len;
                self.sacked_segs -= 1;
            } else {
                self.delivered_bytes = self.delivered_bytes.wrapping_add(record.len);
                self.tally.delivered_segs += u32::from(!record.flags.has(RecordFlags::EVER_SACKED));
                self.rack.on_arrival(&record, evidence);
            }
            if let Some(rate) = &mut self.rate {
                rate.on_acked(&record, evidence.now);
            }
            acked.segs += 1;
            acked.retransmitted |= record.flags.has(RecordFlags::EVER_RETRANSMITTED);
            acked.sent_at.get_or_insert(record.sent_at);
        }
        if acked.retransmitted {
            acked.sent_at = None;
        }
        self.lost_from = self.lost_from.saturating_sub(acked.segs as usize);
        acked
    }

    /// Presumes a sent record lost, also if it is a retransmission.
    pub(super) fn mark_lost(&mut self, index: usize) {
        let Some(record) = self.records.get_mut(index) else { return };
        if index >= self.sent {
            return;
        }
        if !record.flags.wants_retransmission() {
            self.tally.lost_segs += 1;
            if let Some(rate) = &mut self.rate {
                rate.on_lost(index, (record.seq, record.len));
            }
        }
        if record.flags.has(RecordFlags::RETRANSMITTED) {
            record.flags.clear(RecordFlags::RETRANSMITTED);
            self.resent_bytes -= record.len;
        }
        if !record.flags.has(RecordFlags::LOST) {
            record.flags.set(RecordFlags::LOST);
            self.lost_bytes += record.len;
        }
        self.lost_from = self.lost_from.min(index);
    }

    /// Presumes everything sent lost, also what the receiver once said it had (RFC 2018 8).
    pub(super) fn mark_all_lost(&mut self) {
        self.mark_lost_older_than(0, Instant::ZERO);
    }

    /// Presumes lost the first record, and of the others those that left a round trip and the reordering window ago: `None` all.
    pub(super) fn mark_lost_by_timeout(&mut self, now: Instant, reo_wnd_ns: Option<u64>) {
        let age_ns = reo_wnd_ns.and_then(|reo_wnd_ns| self.rack.age_of_loss_ns(reo_wnd_ns)).unwrap_or(0);
        self.mark_lost_older_than(age_ns, now);
    }

    /// What the receiver said it had does not count any more (RFC 2018 8).
    fn mark_lost_older_than(&mut self, age_ns: u64, now: Instant) {
        self.scoreboard.forget();
        (self.sacked_bytes, self.sacked_segs) = (0, 0);
        for index in 0..self.sent {
            let Some(record) = self.records.get_mut(index) else { break };
            record.flags.clear(RecordFlags::SACKED);
            if index == 0 || now.nanos_since(record.sent_at) >= age_ns {
                self.mark_lost(index);
            }
        }
        // Those that are left are judged by what arrives from now on.
        self.scoreboard.judge_anew(self.records.front().map(|front| front.seq));
    }

    /// The first record that wants retransmission.
    pub(super) fn next_lost(&mut self) -> Option<usize> {
        while self.lost_from < self.sent {
            if self.records.get(self.lost_from)?.flags.wants_retransmission() {
                return Some(self.lost_from);
            }
            self.lost_from += 1;
        }
        None
    }

    /// Notes that a record left, and gives it.
    #[inline]
    pub(super) fn mark_sent(&mut self, index: usize, now: Instant, lost_again_at: u32) -> Option<&Record<S>> {
        let record = self.records.get_mut(index)?;
        record.sent_at = now;
        record.lost_again_at = lost_again_at;
        if index >= self.sent {
            self.sent = index + 1;
            return Some(record);
        }
        record.flags.set(RecordFlags::EVER_RETRANSMITTED);
        if record.flags.wants_retransmission() {
            record.flags.set(RecordFlags::RETRANSMITTED);
            self.resent_bytes += record.len;
        }
        Some(record)
    }

    /// Takes back every presumption of loss: nothing was lost, it was late.
    pub(super) fn forget_losses(&mut self) {
        for record in self.records.iter_mut().take(self.sent) {
            record.flags.clear(RecordFlags::LOST);
            record.flags.clear(RecordFlags::RETRANSMITTED);
        }
        (self.lost_bytes, self.resent_bytes) = (0, 0);
        self.lost_from = self.sent;
        self.scoreboard.judge_anew(self.records.front().map(|front| front.seq));
    }

    /// What was sent may have been sent twice, as far as an acknowledgement of it can tell.
    pub(super) fn doubt_round_trips(&mut self) {
        for record in self.records.iter_mut().take(self.sent) {
            record.flags.set(RecordFlags::EVER_RETRANSMITTED);
        }
    }

    /// Marks the end of a write.
    pub(super) fn push_last(&mut self) {
        if let Some(last) = self.records.back_mut() {
            last.flags.set(RecordFlags::PUSH);
        }
    }

    /// Nothing joins what has been written, as far as it has not left.
    pub(super) fn seal_last(&mut self) {
        if self.has_unsent()
            && let Some(last) = self.records.back_mut()
        {
            last.flags.set(RecordFlags::SEALED);
        }
    }
}

impl<S: SendBuf> SendQueue<S> {
    /// Copies as much of `bytes` as `room` and the pool allow; returns how much.
    pub(super) fn append<A: SendPool<Buf = S>>(&mut self, bytes: &[u8], room: Room, pool: &mut A) -> usize {
        let mut taken = self.fill_last(bytes, room.mss);
        while taken < bytes.len() && self.records.len() < room.max_segs {
            let rest = bytes.get(taken..).unwrap_or_default();
            let piece = rest.get(..usize::from(room.mss)).unwrap_or(rest);
            let Some(mut buf) = pool.alloc() else { break };
            let len = buf.append(piece);
            if len == 0 {
                break;
            }
            taken += len;
            self.push_record(room.start, buf);
        }
        taken
    }

    /// Queues a buffer of the application, cut into records of at most `room.mss` bytes.
    pub(super) fn push_buf(&mut self, buf: S, room: Room) {
        self.push_record(room.start, buf);
        self.resegment(self.records.len() - 1, room.mss);
    }

    /// Cuts every record from `first` on that is longer than `mss`.
    pub(super) fn resegment(&mut self, first: usize, mss: u16) {
        let mss = u32::from(mss).max(1);
        let mut index = first;
        while let Some(record) = self.records.get(index) {
            if record.len > mss && !self.split(index, mss) {
                return;
            }
            index += 1;
        }
    }

    /// Cuts a record after `at` bytes; false if it cannot be cut there.
    pub(super) fn split(&mut self, index: usize, at: u32) -> bool {
        let Some(record) = self.records.get_mut(index) else { return false };
        if at == 0 || at >= record.len || record.buf_ahead == u16::MAX {
            return false;
        }
        let mut flags = record.flags;
        flags.clear(RecordFlags::PUSH);
        flags.clear(RecordFlags::SEALED);
        let (seq, offset, buf_ahead) = (record.seq, record.offset, record.buf_ahead);
        let Record { sent_at, lost_again_at, .. } = *record;
        record.seq = seq + at;
        record.offset += at;
        record.len -= at;
        let front = Record {
            seq,
            len: at,
            offset,
            buf_ahead: buf_ahead + 1,
            flags,
            sent_at,
            lost_again_at,
            buf: None,
        };
        self.records.insert(index, front);
        if index < self.sent {
            self.sent += 1;
            self.split_sample(index);
        }
        self.sacked_segs += u32::from(flags.has(RecordFlags::SACKED));
        // Earlier parts of the same buffer now have one more record between them and its owner.
        for earlier in (0..index).rev() {
            match self.records.get_mut(earlier) {
                Some(part) if usize::from(part.buf_ahead) >= index - earlier && part.buf_ahead < u16::MAX => {
                    part.buf_ahead += 1;
                }
                Some(_) | None => break,
            }
        }
        true
    }

    /// Whether the device may still read the buffer a record would leave with.
    pub(super) fn is_in_ring(&self, index: usize) -> bool {
        self.records.get(index).and_then(|record| record.buf.as_ref()).is_some_and(S::in_ring)
    }

    /// The body a record leaves with: its buffer if that is wholly its own and free to be written to, else a view of the bytes.
    #[inline(always)]
    pub(super) fn body(&mut self, index: usize) -> Option<Body<'_, S>> {
        let record = self.records.get(index)?;
        let (start, len) = (record.offset as usize, record.len as usize);
        let owner = index + usize::from(record.buf_ahead);
        let buf = self.records.get_mut(owner)?.buf.as_mut()?;
        let whole = owner == index && start == 0 && buf.len() == len && !buf.in_ring();
        if whole { Some(Body::Whole(buf)) } else { buf.bytes().get(start..start + len).map(Body::Copy) }
    }

    /// Coalesces into the last record if it is unsent; returns how much it took.
    fn fill_last(&mut self, bytes: &[u8], mss: u16) -> usize {
        if !self.has_unsent() {
            return 0;
        }
        let Some(last) = self.records.back_mut().filter(|last| !last.flags.has(RecordFlags::SEALED)) else {
            return 0;
        };
        let Some(buf) = last.buf.as_mut() else { return 0 };
        let room = u32::from(mss).saturating_sub(last.len) as usize;
        let taken = buf.append(bytes.get(..room).unwrap_or(bytes));
        // At most `room`, which fits 16 bits.
        last.len += taken as u32;
        self.bytes += taken as u32;
        if taken > 0 {
            // RFC 9293 3.9.1.2 (MUST-61): the bit belongs on the last segment of what is written, which this may no longer be.
            last.flags.clear(RecordFlags::PUSH);
        }
        taken
    }

    fn push_record(&mut self, start: SeqNum, buf: S) {
        let seq = self.end().unwrap_or(start);
        // A buffer is at most a frame chain of 64 KB.
        let len = buf.len() as u32;
        self.bytes += len;
        self.records.push_back(Record {
            seq,
            len,
            offset: 0,
            buf_ahead: 0,
            flags: RecordFlags::NONE,
            sent_at: Instant::ZERO,
            lost_again_at: 0,
            buf: Some(buf),
        });
    }
}

#[cfg(test)]
impl<S: SendBuf> SendQueue<S> {
    /// Recomputes what is counted along the way.
    pub(super) fn check(&self) {
        let sum = |flag: fn(&RecordFlags) -> bool| -> u32 {
            self.records.iter().filter(|record| flag(&record.flags)).map(|record| record.len).sum()
        };
        assert_eq!(self.bytes, sum(|_| true));
        assert_eq!(self.lost_bytes, sum(|flags| flags.has(RecordFlags::LOST)));
        assert_eq!(self.resent_bytes, sum(|flags| flags.has(RecordFlags::RETRANSMITTED)));
        assert_eq!(self.sacked_bytes, sum(|flags| flags.has(RecordFlags::SACKED)));
        let sacked = self.records.iter().filter(|record| record.flags.has(RecordFlags::SACKED));
        assert_eq!(self.sacked_segs as usize, sacked.count());
        assert_eq!(0, sum(|flags| flags.has(RecordFlags::SACKED) && flags.has(RecordFlags::LOST)));
        assert!(self.sent <= self.records.len());
        for (index, record) in self.records.iter().enumerate() {
            assert!(record.len > 0);
            assert!(index >= self.lost_from || !record.flags.wants_retransmission());
            let unsent_flags =
                RecordFlags::PUSH.0 | RecordFlags::SEALED.0 | RecordFlags::EVER_RETRANSMITTED.0;
            assert!(index < self.sent || record.flags.0 & !unsent_flags == 0);
            let next = self.records.get(index + 1);
            assert!(next.is_none_or(|next| next.seq == record.end()));
            let owner =
                self.records.get(index + usize::from(record.buf_ahead)).and_then(|owner| owner.buf.as_ref());
            assert!(owner.is_some_and(|buf| buf.len() >= (record.offset + record.len) as usize));
            assert_eq!(record.buf.is_some(), record.buf_ahead == 0);
        }
    }
}
