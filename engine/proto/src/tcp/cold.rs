//! The cold part of a connection and the per-worker slab it comes from.
//!
//! A connection owns one only while data is in flight, out of order or unread, or a model of its path is to be kept. Slots are reused last in, first out, and their
//! queues keep their capacity, so a steady state allocates nothing and works on memory that is in the cache.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::brake::Braked;
use super::congestion::Congestion;
use super::delivery::Round;
use super::fast_open::Opening;
use super::pacing::Pacer;
use super::path_mtu::Search;
use super::reassembly::Reassembly;
use super::recovery::Recovery;
use super::send_queue::SendQueue;
use crate::SeqNum;

/// Names a slot of the slab, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ColdId(u32);

impl ColdId {
    /// A worker has fewer connections: its table and its memory end before.
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// What a connection needs beside its [`super::Tcb`] while it has data.
pub(super) struct Cold<P, S> {
    pub send: SendQueue<S>,
    /// In-order payload the application has not taken.
    pub unread: VecDeque<P>,
    pub reassembly: Reassembly<P>,
    /// RCV.UP, while something before it is unread.
    pub urgent: Option<SeqNum>,
    pub recovery: Recovery,
    pub congestion: Congestion,
    pub pacer: Pacer,
    /// Ends of runs of segments that were all marked or all not, and whose acknowledgement has not left: DCTCP only.
    pub run_ends: VecDeque<SeqNum>,
    /// On a path that swallowed long segments.
    pub path: Option<Search>,
    /// Until the first SYN or SYN-ACK has left.
    pub opening: Option<Opening>,
    /// What keeps it from sending.
    pub braked: Option<Braked>,
    /// The round trip under way, if it is measured.
    pub round: Option<Round>,
}

impl<P, S> Cold<P, S> {
    fn new() -> Self {
        Self {
            send: SendQueue::new(),
            unread: VecDeque::new(),
            reassembly: Reassembly::new(),
            urgent: None,
            recovery: Recovery::default(),
            congestion: Congestion::default(),
            pacer: Pacer::default(),
            run_ends: VecDeque::new(),
            path: None,
            opening: None,
            braked: None,
            round: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.send.is_empty()
            // RFC 8985 7.4.2: whether it repaired a loss shows within an RTO.
            && self.recovery.probe.is_none()
            && self.unread.is_empty()
            && self.reassembly.is_empty()
            && self.path.is_none()
            && self.opening.is_none()
    }

    /// Drops what is queued and keeps the memory.
    fn reset(&mut self) {
        // All by name: what is forgotten here, the next connection inherits.
        let Self {
            send,
            unread,
            reassembly,
            urgent,
            recovery,
            congestion,
            pacer,
            run_ends,
            path,
            opening,
            braked,
            round,
        } = self;
        (*urgent, *path) = (None, None);
        (*opening, *braked, *round) = (None, None, None);
        send.clear();
        unread.clear();
        reassembly.clear();
        run_ends.clear();
        *recovery = Recovery::default();
        *congestion = Congestion::default();
        *pacer = Pacer::default();
        // One connection's burst must not pin memory for ever.
        if send.capacity().max(unread.capacity()).max(reassembly.capacity()) > MAX_KEPT {
            send.shrink_to(MAX_KEPT);
            unread.shrink_to(MAX_KEPT);
            reassembly.shrink_to(MAX_KEPT);
        }
    }
}

/// Entries of capacity a free slot's queues keep.
const MAX_KEPT: usize = 2048;

/// Slab of the cold parts of one worker's connections.
pub struct ColdStore<P, S> {
    slots: Vec<Cold<P, S>>,
    free: Vec<u32>,
}

impl<P, S> Default for ColdStore<P, S> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<P, S> core::fmt::Debug for ColdStore<P, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ColdStore").field("in_use", &self.in_use()).finish_non_exhaustive()
    }
}

impl<P, S> ColdStore<P, S> {
    /// An empty slab.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connections that own a cold part now.
    pub fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[inline]
    pub(super) fn get(&self, id: ColdId) -> Option<&Cold<P, S>> {
        self.slots.get(id.0 as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ColdId) -> Option<&mut Cold<P, S>> {
        self.slots.get_mut(id.0 as usize)
    }

    #[inline]
    pub(super) fn get_or_alloc(&mut self, id: ColdId) -> (ColdId, &mut Cold<P, S>) {
        let id = if id.is_none() { self.alloc() } else { id };
        // `alloc` returns a slot that exists, and a connection's id names one until it frees it.
        (id, &mut self.slots[id.0 as usize])
    }

    #[inline]
    fn alloc(&mut self) -> ColdId {
        match self.free.pop() {
            Some(index) => ColdId(index),
            None => self.grow(),
        }
    }

    /// Out of line, or every caller would keep a place for a slot on its stack.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> ColdId {
        self.slots.push(Cold::new());
        // See `ColdId::NONE`.
        ColdId((self.slots.len() - 1) as u32)
    }

    pub(super) fn free(&mut self, id: ColdId) {
        if let Some(cold) = self.slots.get_mut(id.0 as usize) {
            cold.reset();
            self.free.push(id.0);
        }
    }
}
