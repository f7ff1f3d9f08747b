//! A hierarchical timer wheel: one deadline per id, armed in constant time.
//!
//! Eight levels of 64 slots. A slot of level 0 is one tick of 2^17 ns (131 us), a slot of level L is 64^L ticks. A timer is queued at the level of
//! the highest 6-bit group in which its tick differs from the wheel's, so every queued slot lies ahead of the wheel and the lowest
//! occupied level holds the earliest slot. When the wheel reaches a slot of level 1 or more, its timers move down.
//!
//! ```text
//! tick    .. | level 2 | level 1 | level 0 |      one bit per slot in `occupied`, so a jump in time
//!              6 bits    6 bits    6 bits         costs the timers it passes, not the ticks
//! ```
//!
//! Arming for later and cancelling do not touch the queue: the node only learns its new deadline and is queued again, or forgotten,
//! when its slot comes up. A connection that re-arms on every segment therefore costs one store.
//!
//! Owns: one 16-byte node per id, in a `Vec` indexed by the id, so ids must be dense (slab slots). Does not own: the clock, or what a timer means.
//! Invariants: links name nodes of `nodes`; homes are below `SLOT_COUNT` or `NOT_QUEUED`; a node is in the list of its home and in no other.

use alloc::vec::Vec;

use crate::time::Instant;

/// log2 of the nanoseconds in one tick.
const TICK_SHIFT: u32 = 17;
const TICK_NS: u64 = 1 << TICK_SHIFT;
/// The last tick whose start an [`Instant`] can name.
const LAST_TICK: u64 = u64::MAX >> TICK_SHIFT;
const LEVEL_COUNT: usize = 8;
const LEVEL_BITS: u32 = 6;
const SLOTS_PER_LEVEL: usize = 1 << LEVEL_BITS;
const SLOT_COUNT: usize = LEVEL_COUNT * SLOTS_PER_LEVEL;
/// End of a list.
const NIL: u32 = u32::MAX;
/// Home of a node that is in no list.
const NOT_QUEUED: u16 = u16::MAX;
/// Deadline tick of a cancelled node; no real tick is that large.
const NEVER: u64 = LAST_TICK + 1;

/// A timer wheel over dense `u32` ids, one deadline each.
///
/// A timer never fires early, and fires at the first [`Wheel::poll_expired`] at or after its deadline rounded up to [`Wheel::TICK`].
///
/// ```
/// use core::time::Duration;
/// use ringwire_proto::{time::Instant, timer::Wheel};
///
/// let mut wheel = Wheel::new(Instant::ZERO);
/// wheel.arm(7, Instant::from_millis(200));
/// assert_eq!(wheel.poll_expired(Instant::from_millis(199)), None);
/// assert_eq!(wheel.poll_expired(Instant::from_millis(200) + Wheel::TICK), Some(7));
/// ```
#[derive(Debug)]
pub struct Wheel {
    /// Every tick before this one has been served.
    tick: u64,
    /// Nothing is in a slot that starts before this one: until then a look costs a comparison.
    quiet_to: u64,
    /// One bit per slot: its list is not empty.
    occupied: [u64; LEVEL_COUNT],
    heads: [u32; SLOT_COUNT],
    nodes: Vec<Node>,
}

/// 16 bytes: four to a cache line.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Deadline tick above [`Node::HOME_BITS`], home below.
    deadline_and_home: u64,
    prev: u32,
    next: u32,
}

impl Wheel {
    /// The wheel's resolution.
    pub const TICK: core::time::Duration = core::time::Duration::from_nanos(TICK_NS);

    /// An empty wheel that stands at `now`.
    pub fn new(now: Instant) -> Self {
        Self::with_capacity(now, 0)
    }

    /// An empty wheel with room for the ids below `ids`, so that arming those never allocates.
    pub fn with_capacity(now: Instant, ids: usize) -> Self {
        Self {
            tick: tick_at(now),
            quiet_to: NEVER,
            occupied: [0; LEVEL_COUNT],
            heads: [NIL; SLOT_COUNT],
            nodes: Vec::with_capacity(ids),
        }
    }

    /// Sets the one deadline of `id`, in place of an earlier one. [`Instant::MAX`] means never.
    ///
    /// Allocates only if `id` is larger than every id before it and beyond the capacity.
    pub fn arm(&mut self, id: u32, deadline: Instant) {
        let deadline_tick = tick_not_before(deadline);
        if deadline_tick == NEVER {
            return self.cancel(id);
        }
        let index = id as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, Node::IDLE);
        }
        let home = self.nodes[index].home();
        self.nodes[index].set_deadline(deadline_tick);
        if home == NOT_QUEUED {
            self.link(id, deadline_tick);
        } else if deadline_tick < self.slot_start(usize::from(home)) {
            self.unlink(id);
            self.link(id, deadline_tick);
        }
    }

    /// Forgets the deadline of `id`; an id never armed is ignored.
    pub fn cancel(&mut self, id: u32) {
        if let Some(node) = self.nodes.get_mut(id as usize) {
            node.set_deadline(NEVER);
        }
    }

    /// The next id whose deadline has passed, in no particular order; call until `None`.
    ///
    /// The id is no longer armed when it is returned. `now` must not go back between calls.
    #[inline]
    pub fn poll_expired(&mut self, now: Instant) -> Option<u32> {
        let target = tick_at(now).max(self.tick);
        if target >= self.quiet_to {
            return self.pop_expired(target);
        }
        self.tick = target;
        None
    }

    fn pop_expired(&mut self, target: u64) -> Option<u32> {
        self.quiet_to = NEVER;
        while let Some((level, slot, start)) = self.earliest_slot() {
            if start > target {
                self.quiet_to = start;
                break;
            }
            self.tick = start;
            let home = level * SLOTS_PER_LEVEL + slot;
            if level > 0 {
                self.cascade(home);
            } else if let Some(id) = self.pop_due(home) {
                self.quiet_to = self.tick;
                return Some(id);
            }
        }
        self.tick = target;
        None
    }

    /// When [`Wheel::poll_expired`] is next worth calling: never late by more than a tick, perhaps early. `None`: nothing is armed.
    ///
    /// After `poll_expired(now)` returned `None` it lies after `now`.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (_, _, start) = self.earliest_slot()?;
        Some(Instant::from_nanos(start << TICK_SHIFT))
    }

    /// The earliest occupied slot as (level, slot, first tick): the lowest slot of the lowest level in use.
    fn earliest_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        Some((level, slot, self.slot_start(level * SLOTS_PER_LEVEL + slot)))
    }

    /// First tick of a queued slot. All slots of a level share the wheel's higher bits.
    fn slot_start(&self, home: usize) -> u64 {
        let shift = LEVEL_BITS * (home / SLOTS_PER_LEVEL) as u32;
        let above = self.tick >> (shift + LEVEL_BITS) << LEVEL_BITS;
        (above | (home % SLOTS_PER_LEVEL) as u64) << shift
    }

    /// Moves every timer of a slot the wheel has reached to a lower level, and forgets the cancelled ones.
    fn cascade(&mut self, home: usize) {
        while let Some((id, deadline_tick)) = self.pop(home) {
            if deadline_tick != NEVER {
                self.link(id, deadline_tick);
            }
        }
    }

    /// The next due timer of the level-0 slot at the wheel's tick; timers that were moved later are queued again.
    fn pop_due(&mut self, home: usize) -> Option<u32> {
        while let Some((id, deadline_tick)) = self.pop(home) {
            if deadline_tick <= self.tick {
                self.nodes[id as usize].set_deadline(NEVER);
                return Some(id);
            }
            if deadline_tick != NEVER {
                self.link(id, deadline_tick);
            }
        }
        None
    }

    fn pop(&mut self, home: usize) -> Option<(u32, u64)> {
        let id = self.heads[home];
        if id == NIL {
            return None;
        }
        self.unlink(id);
        Some((id, self.nodes[id as usize].deadline_tick()))
    }

    /// Queues an unqueued node; a deadline already passed goes into the slot that is served next.
    fn link(&mut self, id: u32, deadline_tick: u64) {
        let tick = deadline_tick.max(self.tick);
        let differing = (tick ^ self.tick) | (SLOTS_PER_LEVEL as u64 - 1);
        let level = (63 - differing.leading_zeros()) / LEVEL_BITS;
        let slot = (tick >> (LEVEL_BITS * level)) as usize % SLOTS_PER_LEVEL;
        let home = level as usize * SLOTS_PER_LEVEL + slot;
        self.quiet_to = self.quiet_to.min(tick >> (LEVEL_BITS * level) << (LEVEL_BITS * level));
        let next = self.heads[home];
        if next != NIL {
            self.nodes[next as usize].prev = id;
        }
        let node = &mut self.nodes[id as usize];
        node.set_home(home as u16);
        node.prev = NIL;
        node.next = next;
        self.heads[home] = id;
        self.occupied[level as usize] |= 1 << slot;
    }

    fn unlink(&mut self, id: u32) {
        let node = self.nodes[id as usize];
        let home = usize::from(node.home());
        if node.next != NIL {
            self.nodes[node.next as usize].prev = node.prev;
        }
        if node.prev != NIL {
            self.nodes[node.prev as usize].next = node.next;
        } else {
            self.heads[home] = node.next;
            if node.next == NIL {
                self.occupied[home / SLOTS_PER_LEVEL] &= !(1 << (home % SLOTS_PER_LEVEL));
            }
        }
        self.nodes[id as usize].set_home(NOT_QUEUED);
    }
}

impl Node {
    const HOME_BITS: u32 = 16;
    const IDLE: Self =
        Self { deadline_and_home: NEVER << Self::HOME_BITS | NOT_QUEUED as u64, prev: NIL, next: NIL };

    fn deadline_tick(self) -> u64 {
        self.deadline_and_home >> Self::HOME_BITS
    }

    fn home(self) -> u16 {
        // The cast keeps the low 16 bits, which are the home.
        self.deadline_and_home as u16
    }

    fn set_deadline(&mut self, tick: u64) {
        self.deadline_and_home = tick << Self::HOME_BITS | u64::from(self.home());
    }

    fn set_home(&mut self, home: u16) {
        self.deadline_and_home = self.deadline_tick() << Self::HOME_BITS | u64::from(home);
    }
}

const _: () = assert!(size_of::<Node>() == 16);
// A tick and NEVER fit above the home, and the levels cover every tick.
const _: () =
    assert!(NEVER < 1 << (64 - Node::HOME_BITS) && LAST_TICK < 1 << (LEVEL_BITS * LEVEL_COUNT as u32));

/// The tick `now` lies in.
fn tick_at(now: Instant) -> u64 {
    now.as_nanos() >> TICK_SHIFT
}

/// The first tick that starts at or after `deadline`; [`NEVER`] beyond the last.
fn tick_not_before(deadline: Instant) -> u64 {
    let nanos = deadline.as_nanos();
    (nanos >> TICK_SHIFT) + u64::from(nanos & (TICK_NS - 1) != 0)
}

#[cfg(test)]
mod tests;
