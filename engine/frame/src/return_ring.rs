//! The way home for frames dropped on other threads: many producers, one consumer, never full.
//!
//! A slot holds `index + 1`, or zero when empty. A producer takes a ticket and then writes the slot of that ticket;
//! the consumer takes slots in ticket order and stops at the first empty one. A frame index is in the ring at most
//! once, and there are at least as many slots as frames, so the slot of a new ticket has always been emptied.

use crate::sync::{AtomicU32, Ordering};

const EMPTY: u32 = 0;

/// Bounded MPSC ring of frame indices.
pub(crate) struct ReturnRing {
    slots: Box<[AtomicU32]>,
    mask: u32,
    tickets: AtomicU32,
}

impl ReturnRing {
    /// A ring for the indices `0..frame_count`.
    pub(crate) fn new(frame_count: u32) -> ReturnRing {
        let slots = frame_count.next_power_of_two();
        ReturnRing {
            slots: (0..slots).map(|_| AtomicU32::new(EMPTY)).collect(),
            mask: slots - 1,
            tickets: AtomicU32::new(0),
        }
    }

    /// Puts `index` in; the caller gives up the frame. Any thread.
    pub(crate) fn push(&self, index: u32) {
        // AcqRel, pairs with itself in other producers: when the ring wraps, some frame among the tickets since then
        // has been in the ring before, so its producer saw the consumer empty everything up to there. The chain of
        // tickets carries that knowledge to this producer, whose store below therefore comes after the emptying.
        let ticket = self.tickets.fetch_add(1, Ordering::AcqRel);
        // Release, pairs with the Acquire in `pop`: what this thread did to the frame's bytes is done.
        self.slots[(ticket & self.mask) as usize].store(index + 1, Ordering::Release);
    }

    /// Takes the oldest index. `taken` counts what has been taken so far and belongs to the only consumer.
    #[inline]
    pub(crate) fn pop(&self, taken: u64) -> Option<u32> {
        let slot = &self.slots[(taken & u64::from(self.mask)) as usize];
        // Acquire, pairs with the Release in `push`.
        let value = slot.load(Ordering::Acquire);
        if value == EMPTY {
            return None;
        }
        // Relaxed: published to the next producer of this slot by whatever hands it the frame (see `push`).
        slot.store(EMPTY, Ordering::Relaxed);
        Some(value - 1)
    }
}
