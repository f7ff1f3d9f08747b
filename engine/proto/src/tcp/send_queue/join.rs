//! One segment out of several that wait: a probe of the path is longer than what the queue was cut into.

use super::{Record, RecordFlags, SendQueue};
use crate::tcp::{SendBuf, SendPool};
use crate::{Instant, SeqNum};

impl<S> SendQueue<S> {
    /// The first unsent record that shares no buffer with one before it, and the bytes from there on.
    pub(in crate::tcp) fn first_separate(&self) -> Option<(usize, u32)> {
        let last_sent = self.sent.checked_sub(1).and_then(|last| self.records.get(last));
        let first = self.sent + last_sent.map_or(0, |record| usize::from(record.buf_ahead));
        let record = self.records.get(first)?;
        Some((first, self.end()?.distance(record.seq)))
    }
}

impl<S: SendBuf> SendQueue<S> {
    /// Makes one segment of the `len` bytes that begin with the record `first`, see [`SendQueue::first_separate`]; returns where it begins.
    /// Nothing changes if there are not so many, or no buffer for them. Its round trip is never measured: it may be lost for its length
    /// alone.
    pub(in crate::tcp) fn join<A: SendPool<Buf = S>>(
        &mut self,
        first: usize,
        len: u32,
        pool: &mut A,
    ) -> Option<SeqNum> {
        let mut buf = pool.alloc()?;
        let (mut next, mut left) = (first, len);
        while left > 0 {
            let bytes = self.bytes_of(next)?;
            let piece = bytes.get(..left as usize).unwrap_or(bytes);
            if buf.append(piece) < piece.len() {
                return None;
            }
            if piece.len() < bytes.len() && !self.split(next, left) {
                return None;
            }
            // The record just read is as long as `piece` now.
            let joined = self.records.get(next)?;
            left -= joined.len;
            if left > 0 && joined.flags.has(RecordFlags::SEALED) {
                return None;
            }
            next += 1;
        }
        let seq = self.records.get(first)?.seq;
        let mut flags = RecordFlags::NONE;
        flags.set(RecordFlags::EVER_RETRANSMITTED);
        let last = self.records.get(next - 1)?.flags;
        for kept in [RecordFlags::PUSH, RecordFlags::SEALED] {
            if last.has(kept) {
                flags.set(kept);
            }
        }
        self.records.drain(first..next);
        let joined = Record {
            seq,
            len,
            offset: 0,
            buf_ahead: 0,
            flags,
            sent_at: Instant::ZERO,
            lost_again_at: 0,
            buf: Some(buf),
        };
        self.records.insert(first, joined);
        Some(seq)
    }

    /// The payload of a record.
    fn bytes_of(&self, index: usize) -> Option<&[u8]> {
        let record = self.records.get(index)?;
        let owner = self.records.get(index + usize::from(record.buf_ahead))?;
        let start = record.offset as usize;
        owner.buf.as_ref()?.bytes().get(start..start + record.len as usize)
    }
}
