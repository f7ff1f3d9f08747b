//! The sets of options that sockets have: equal ones share a place, which is free again when the last of its sockets has gone.
//!
//! A program has a handful, or as many as it has connections when it tells each of them something else.

use std::collections::HashMap;

use super::OptionSet;

/// The places that an index of 16 bits can name.
const MOST: usize = 1 << 16;

#[derive(Debug, Default)]
pub(super) struct OptionSets {
    places: Vec<Place>,
    free: Vec<u16>,
    by_set: HashMap<OptionSet, u16>,
    /// Found last: whoever opens many connections mostly opens them alike.
    latest: u16,
}

#[derive(Debug)]
struct Place {
    /// Of the last that had it, while it is free.
    set: OptionSet,
    /// Flows and listeners.
    sockets: u32,
}

impl OptionSets {
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&OptionSet> {
        self.places.get(index).map(|place| &place.set)
    }

    /// The index of a set for one socket more, which gives it back by [`OptionSets::release`]; `None`: there are too many others.
    pub(super) fn intern(&mut self, set: OptionSet) -> Option<u16> {
        let is_it = |place: &&Place| place.sockets > 0 && place.set == set;
        if self.places.get(usize::from(self.latest)).filter(is_it).is_some() {
            self.share(self.latest);
            return Some(self.latest);
        }
        let index = match self.by_set.get(&set) {
            Some(index) => *index,
            None => self.insert(set)?,
        };
        self.share(index);
        self.latest = index;
        Some(index)
    }

    /// One socket more has the set of another.
    #[inline]
    pub(super) fn share(&mut self, index: u16) {
        if let Some(place) = self.places.get_mut(usize::from(index)) {
            place.sockets += 1;
        }
    }

    /// A socket has gone, or has another set.
    #[inline]
    pub(super) fn release(&mut self, index: u16) {
        let Some(place) = self.places.get_mut(usize::from(index)) else { return };
        place.sockets = place.sockets.saturating_sub(1);
        if place.sockets == 0 && self.by_set.remove(&place.set).is_some() {
            self.free.push(index);
        }
    }

    /// Sets that some socket has.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.by_set.len()
    }

    fn insert(&mut self, set: OptionSet) -> Option<u16> {
        let place = Place { set: set.clone(), sockets: 0 };
        let index = match self.free.pop() {
            Some(index) => {
                *self.places.get_mut(usize::from(index))? = place;
                index
            }
            None if self.places.len() < MOST => {
                self.places.push(place);
                // Below `MOST`.
                (self.places.len() - 1) as u16
            }
            None => return None,
        };
        self.by_set.insert(set, index);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::TcpOptions;

    use super::*;

    fn set(user_timeout_ms: u64) -> OptionSet {
        let user_timeout = Some(std::time::Duration::from_millis(user_timeout_ms));
        let options = TcpOptions { user_timeout, ..TcpOptions::default() };
        OptionSet::new(&options, 1460)
    }

    #[test]
    fn equal_sets_share_a_place_until_the_last_socket_goes() {
        let mut sets = OptionSets::default();
        let (one, other) = (sets.intern(set(1)).unwrap(), sets.intern(set(2)).unwrap());
        assert_ne!(one, other);
        assert_eq!(sets.intern(set(1)), Some(one));
        sets.share(one);
        for _ in 0..2 {
            sets.release(one);
            assert_eq!(sets.intern(set(1)), Some(one), "others have it");
            sets.release(one);
        }
        sets.release(one);
        assert_eq!(sets.intern(set(3)), Some(one), "the place is free");
        assert_eq!((sets.get(one.into()), sets.get(other.into())), (Some(&set(3)), Some(&set(2))));
        assert_eq!(sets.intern(set(1)), Some(2), "forgotten");
    }

    #[test]
    fn nobody_gets_the_options_of_another_when_there_are_too_many() {
        let mut sets = OptionSets::default();
        for ms in 0..MOST as u64 {
            assert_eq!(sets.intern(set(ms)).map(u64::from), Some(ms));
        }
        assert_eq!(sets.intern(set(1 << 20)), None);
        assert_eq!(sets.intern(set(7)), Some(7), "there are places for known ones");
        sets.release(9);
        assert_eq!(sets.intern(set(1 << 20)), Some(9));
        assert_eq!(sets.get(9), Some(&set(1 << 20)));
    }
}
