//! Out-of-order data: a bounded, sorted list of pieces that never overlap. The first byte stored wins.

use alloc::collections::VecDeque;

use ringwire_wire::tcp::SackBlocks;

use super::Payload;
use crate::SeqNum;

/// What came of storing a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// At least a part of it is new and kept.
    Kept,
    /// Every byte of it was held already.
    Duplicate,
    /// No room; it was farther out than everything held.
    Full,
}

struct Piece<P> {
    seq: SeqNum,
    payload: P,
}

impl<P: Payload> Piece<P> {
    /// Payload lengths come from IP packets, which fit 16 bits.
    fn end(&self) -> SeqNum {
        self.seq + self.payload.len() as u32
    }
}

pub(super) struct Reassembly<P> {
    pieces: VecDeque<Piece<P>>,
    /// Where the stream ends, once a FIN arrived ahead of data.
    fin: Option<SeqNum>,
    held: HeldBlocks,
    /// What arrived twice last, to be reported once (RFC 2883 4).
    duplicate: Option<(SeqNum, SeqNum)>,
}

/// The ranges held that changed last, the most recent first (RFC 2018 4).
#[derive(Debug, Clone, Copy)]
struct HeldBlocks {
    blocks: [(SeqNum, SeqNum); 4],
    count: usize,
}

impl HeldBlocks {
    const NONE: Self = Self { blocks: [(SeqNum(0), SeqNum(0)); 4], count: 0 };

    fn iter(&self) -> impl Iterator<Item = (SeqNum, SeqNum)> {
        self.blocks.into_iter().take(self.count)
    }

    fn push(&mut self, left: SeqNum, right: SeqNum) {
        if let Some(block) = self.blocks.get_mut(self.count) {
            *block = (left, right);
            self.count += 1;
        }
    }

    /// Puts [`left`, `right`) first, joined with the blocks it touches.
    fn add(&mut self, mut left: SeqNum, mut right: SeqNum) {
        let mut others = Self::NONE;
        for (other_left, other_right) in self.iter() {
            if other_left.before_eq(right) && left.before_eq(other_right) {
                left = left.earlier(other_left);
                right = right.later(other_right);
            } else {
                others.push(other_left, other_right);
            }
        }
        *self = Self::NONE;
        self.push(left, right);
        others.iter().for_each(|(left, right)| self.push(left, right));
    }

    /// Replaces each block by what `keep` leaves of it.
    fn retain(&mut self, keep: impl Fn(SeqNum, SeqNum) -> Option<(SeqNum, SeqNum)>) {
        let old = core::mem::replace(self, Self::NONE);
        old.iter()
            .filter_map(|(left, right)| keep(left, right))
            .for_each(|(left, right)| self.push(left, right));
    }
}

impl<P> Reassembly<P> {
    pub(super) fn new() -> Self {
        Self { pieces: VecDeque::new(), fin: None, held: HeldBlocks::NONE, duplicate: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.fin.is_none() && self.duplicate.is_none()
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.fin = None;
        self.held.count = 0;
        self.duplicate = None;
    }

    /// [`left`, `right`) arrived again.
    pub(super) fn report_duplicate(&mut self, left: SeqNum, right: SeqNum) {
        self.duplicate = Some((left, right));
    }

    /// Pieces that fit without another allocation.
    pub(super) fn capacity(&self) -> usize {
        self.pieces.capacity()
    }

    pub(super) fn shrink_to(&mut self, capacity: usize) {
        self.pieces.shrink_to(capacity);
    }

    pub(super) fn payloads(&self) -> impl Iterator<Item = &P> {
        self.pieces.iter().map(|piece| &piece.payload)
    }

    pub(super) fn segs(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn set_fin(&mut self, seq: SeqNum) {
        self.fin.get_or_insert(seq);
    }

    /// The FIN, if the stream has been delivered up to it.
    pub(super) fn take_fin(&mut self, rcv_nxt: SeqNum) -> bool {
        let due = self.fin == Some(rcv_nxt);
        if due {
            self.fin = None;
        }
        due
    }
}

impl<P: Payload> Reassembly<P> {
    /// Stores what is new of `payload` at `seq`. Only one gap of it is filled, the first: what lies behind a piece already held
    /// is left to the peer's retransmission, because a payload cannot be cut in two without a copy.
    ///
    /// A full list prefers data near rcv.nxt: it gives up its last piece, or refuses what lies behind that.
    pub(super) fn store(&mut self, mut seq: SeqNum, mut payload: P, max_segs: usize) -> Stored {
        let mut at = self.first_ending_after(seq);
        while let Some(held) = self.pieces.get(at) {
            if seq.before(held.seq) {
                let room = held.seq.distance(seq) as usize;
                if payload.len() > room {
                    payload.truncate(room);
                }
                break;
            }
            let known = held.end().distance(seq) as usize;
            if payload.len() <= known {
                return Stored::Duplicate;
            }
            payload.advance(known);
            seq = held.end();
            at += 1;
        }
        if payload.is_empty() {
            return Stored::Duplicate;
        }
        if self.pieces.len() >= max_segs.max(1) {
            if at == self.pieces.len() {
                return Stored::Full;
            }
            self.drop_last();
        }
        let piece = Piece { seq, payload };
        self.held.add(seq, piece.end());
        self.pieces.insert(at, piece);
        Stored::Kept
    }

    /// The blocks of a SACK option: a duplicate (RFC 2883 4), then the last change first (RFC 2018 4).
    pub(super) fn blocks(&mut self, rcv_nxt: SeqNum) -> SackBlocks {
        self.held.retain(|left, right| left.after(rcv_nxt).then_some((left, right)));
        let mut blocks = SackBlocks::NONE;
        if let Some((left, right)) = self.duplicate.take() {
            blocks.push(left.0, right.0);
        }
        self.held.iter().for_each(|(left, right)| blocks.push(left.0, right.0));
        blocks
    }

    /// Gives up all but the first `most` pieces; returns how many that were.
    pub(super) fn shed(&mut self, most: usize) -> usize {
        let many = self.pieces.len().saturating_sub(most);
        for _ in 0..many {
            self.drop_last();
        }
        many
    }

    /// Gives up the piece that is farthest out.
    fn drop_last(&mut self) {
        let Some(last) = self.pieces.pop_back() else { return };
        self.held.retain(|left, right| left.before(last.seq).then_some((left, right.earlier(last.seq))));
    }

    /// The seq of the first byte held.
    pub(super) fn first(&self) -> Option<SeqNum> {
        self.pieces.front().map(|piece| piece.seq)
    }

    /// The next piece that continues the stream at `rcv_nxt`.
    pub(super) fn pop_in_order(&mut self, rcv_nxt: SeqNum) -> Option<P> {
        while let Some(piece) = self.pieces.front() {
            if piece.seq.after(rcv_nxt) {
                return None;
            }
            let mut piece = self.pieces.pop_front()?;
            let known = rcv_nxt.distance(piece.seq) as usize;
            if known < piece.payload.len() {
                piece.payload.advance(known);
                return Some(piece.payload);
            }
        }
        None
    }

    /// Index of the first piece that holds or follows `seq`.
    fn first_ending_after(&self, seq: SeqNum) -> usize {
        // Most segments out of order come in order among themselves.
        if self.pieces.back().is_none_or(|last| last.end().before_eq(seq)) {
            return self.pieces.len();
        }
        self.pieces.partition_point(|piece| piece.end().before_eq(seq))
    }
}
