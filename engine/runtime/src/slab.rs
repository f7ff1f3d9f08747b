//! Slots with generations: an id of something that is gone never names its successor.

use std::collections::VecDeque;

/// A dense index and the generation of its occupant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// On a cache line of its own, so that what is made up of lines can count on them.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Slot<T> {
    value: Option<T>,
    generation: u32,
}

/// Grows up to `limit` slots and reuses the one that was freed longest ago: so each takes its share of the generations.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: VecDeque<u32>,
    limit: usize,
}

impl<T> Slab<T> {
    pub(crate) fn new(limit: usize) -> Slab<T> {
        Slab { slots: Vec::new(), free: VecDeque::new(), limit }
    }

    /// Slots ever used, free ones included; all are below this.
    pub(crate) fn slots(&self) -> u32 {
        // `MAX_SLOTS` fits.
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.limit
    }

    /// `None` when `limit` values are held; the value is lost, so look at [`Slab::is_full`] first if it matters.
    pub(crate) fn insert(&mut self, value: T) -> Option<Key> {
        if let Some(slot) = self.free.pop_front() {
            let entry = self.slots.get_mut(slot as usize)?;
            entry.value = Some(value);
            return Some(Key { slot, generation: entry.generation });
        }
        if self.slots.len() >= self.limit {
            return None;
        }
        let slot = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Some(Key { slot, generation: 0 })
    }

    /// By id: `None` when the id is stale.
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.slots.get(key.slot as usize)?;
        entry.value.as_ref().filter(|_| entry.generation == key.generation)
    }

    /// By id: `None` when the id is stale.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.slots.get_mut(key.slot as usize)?;
        entry.value.as_mut().filter(|_| entry.generation == key.generation)
    }

    /// By slot, whoever lives there: for tables and timers that are cleared when an occupant leaves.
    pub(crate) fn at(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.value.as_ref()
    }

    /// See [`Slab::at`].
    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.value.as_mut()
    }

    /// The id of the occupant of `slot`.
    pub(crate) fn key_at(&self, slot: u32) -> Option<Key> {
        let entry = self.slots.get(slot as usize)?;
        entry.value.as_ref().map(|_| Key { slot, generation: entry.generation })
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let entry = self.slots.get_mut(slot as usize)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1) & Key::GENERATION_MASK;
        self.free.push_back(slot);
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(&self.slots).filter_map(|(slot, entry)| Some((slot, entry.value.as_ref()?)))
    }
}

impl Key {
    /// Generations keep to 24 bits, so that a worker's number fits beside them in a public id.
    pub(crate) const GENERATION_MASK: u32 = 0x00ff_ffff;

    /// Worker in the top 8 bits, generation in the next 24, slot in the low 32.
    pub(crate) fn pack(self, worker: u8) -> u64 {
        u64::from(worker) << 56 | u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The inverse of [`Key::pack`]; `None` for another worker's id.
    pub(crate) fn unpack(id: u64, worker: u8) -> Option<Key> {
        let [owner, ..] = id.to_be_bytes();
        let slot = u32::try_from(id & u64::from(u32::MAX)).ok()?;
        let generation = u32::try_from(id >> 32 & u64::from(Key::GENERATION_MASK)).ok()?;
        (owner == worker).then_some(Key { slot, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_names_nobody() {
        let mut slab = Slab::new(2);
        let first = slab.insert('a').unwrap();
        assert_eq!(slab.remove(first.slot), Some('a'));
        let second = slab.insert('b').unwrap();
        assert_eq!(first.slot, second.slot);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get(second), Some(&'b'));
    }

    #[test]
    fn slots_take_turns() {
        let mut slab = Slab::new(3);
        let keys: Vec<Key> = (0..3).filter_map(|value| slab.insert(value)).collect();
        for key in &keys {
            slab.remove(key.slot);
        }
        for turn in 0..6 {
            let key = slab.insert(turn).unwrap();
            assert_eq!((key.slot, key.generation), (turn % 3, 1 + turn / 3));
            slab.remove(key.slot);
        }
    }

    #[test]
    fn the_limit_holds() {
        let mut slab = Slab::new(1);
        let only = slab.insert(1).unwrap();
        assert!(slab.is_full());
        assert_eq!(slab.insert(2), None);
        slab.remove(only.slot);
        assert!(slab.insert(3).is_some());
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn packing_keeps_worker_generation_and_slot_apart() {
        let key = Key { slot: 0xffff_fffe, generation: Key::GENERATION_MASK };
        assert_eq!(Key::unpack(key.pack(7), 7), Some(key));
        assert_eq!(Key::unpack(key.pack(7), 8), None);
    }
}
