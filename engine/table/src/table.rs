//! The socket table: one writer, any number of readers, no locks, no waiting.
//!
//! ```text
//! bucket (64 bytes)   [tag|slot] [tag|slot] .. 7 entries .. [overflow]      found by the hash's low bits
//!                          |                                                tag: the hash's high 31 bits
//!                          v
//! slot (64 bytes)     [sequence] [key: 5 words] [value]
//! ```
//!
//! A key lives in the first bucket with a free entry from its home bucket on. `overflow` counts the keys that passed a bucket because it was full, and falls
//! when such a key is removed; a search ends at the first bucket nobody passed. So there are no tombstones and nothing ever moves,
//! which is why a reader needs no retry: an entry is one word and only a hint, since the slot is compared with the whole key, and the slot's
//! sequence number tells whether it was given to another key while it was read. In that case its old key was removed during the search,
//! and "not found" was true at that moment.
//!
//! Owns: buckets, slots, the list of free slots. Does not own: what a value means. Capacity is fixed; a full table says so.

use crate::key::{FlowHash, FlowKey, WORD_COUNT};
use crate::sync::{Arc, AtomicU64, Ordering, fence, prefetch};

/// Keys that [`Reader::lookup_batch`] has in flight at once: about as many cache lines as a core can wait for. 16 is as fast up to
/// 65,536 keys and a third slower at 1,048,576; 64 is as fast there and costs a third more at 65,536 (`cargo bench -p ringwire-table`).
const BATCH: usize = 32;
const ENTRIES_PER_BUCKET: usize = 7;
/// Average load of a full table: at 5 of 7 entries about 3 % of the keys lie beyond their home bucket.
const MAX_LOAD: usize = 5;
const EMPTY: u64 = 0;

pub(crate) const BUCKET_BYTES: usize = size_of::<Bucket>();
pub(crate) const SLOT_BYTES: usize = size_of::<Slot>();

/// The table has as many keys as it was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("socket table is full")
    }
}

impl core::error::Error for Full {}

/// A fixed number of keys, hashed under a secret; reached through its [`Writer`] and its [`Reader`]s.
#[derive(Debug)]
pub struct Table {
    pub(crate) hash: FlowHash,
    bucket_mask: usize,
    pub(crate) buckets: Box<[Bucket]>,
    slots: Box<[Slot]>,
}

/// The one who changes the table; reads through [`Writer::reader`].
#[derive(Debug)]
pub struct Writer {
    pub(crate) reader: Reader,
    /// Slots without a key; the last freed is used first, while it is still in the cache.
    free: Vec<u32>,
}

/// Looks keys up, on any thread, while the writer writes.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(crate) table: Arc<Table>,
}

/// Written by the writer only; every reader's first cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Bucket {
    /// Tag in the high half, slot number in the low half; or [`EMPTY`], which has no tag.
    entries: [AtomicU64; ENTRIES_PER_BUCKET],
    /// How many keys lie beyond this bucket because it was full when they came.
    pub(crate) overflow: AtomicU64,
}

/// Written by the writer only; every reader's second cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    /// Odd while the slot is being given to another key.
    sequence: AtomicU64,
    key: [AtomicU64; WORD_COUNT],
    /// A `u32`; may change without the sequence, being a single word.
    value: AtomicU64,
}

/// What is known about a key after a look at its home bucket.
#[derive(Debug, Clone, Copy)]
enum Guess {
    /// It is not in the table.
    Absent,
    /// If it is in the table, then most probably in this slot.
    Slot(usize),
    /// If it is in the table, then not in its home bucket.
    Elsewhere,
}

/// Where an entry was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) bucket: usize,
    entry: usize,
    slot: usize,
}

impl Table {
    /// A table for at most `capacity` keys. Takes 64 bytes per key, and 13 to 26 more for the index.
    ///
    /// ```
    /// use core::net::Ipv4Addr;
    /// use ringwire_table::{FlowKey, Full, Table};
    ///
    /// let (mut writer, reader) = Table::new(1024, [1, 2]);
    /// let (local, peer) = ((Ipv4Addr::new(10, 0, 0, 1), 80), (Ipv4Addr::new(10, 0, 0, 2), 4096));
    /// writer.insert(&FlowKey::v4_listener(6, Ipv4Addr::UNSPECIFIED, 80), 7)?;
    /// assert_eq!(reader.lookup(&FlowKey::v4(6, local, peer)), None);
    /// assert_eq!(reader.lookup_listener(&FlowKey::v4(6, local, peer)), Some(7));
    /// # Ok::<(), Full>(())
    /// ```
    #[expect(clippy::new_ret_no_self, reason = "a table is only ever held by its two sides")]
    pub fn new(capacity: u32, hash_key: [u64; 2]) -> (Writer, Reader) {
        let bucket_count = (capacity as usize).div_ceil(MAX_LOAD).next_power_of_two();
        let table = Arc::new(Self {
            hash: FlowHash::new(hash_key),
            bucket_mask: bucket_count - 1,
            buckets: (0..bucket_count).map(|_| Bucket::empty()).collect(),
            slots: (0..capacity).map(|_| Slot::empty()).collect(),
        });
        let reader = Reader { table };
        (Writer { reader: reader.clone(), free: (0..capacity).rev().collect() }, reader)
    }
}

impl Writer {
    /// A reader of this table.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Adds a key, or gives a key that is there a new value.
    pub fn insert(&mut self, key: &FlowKey, value: u32) -> Result<(), Full> {
        let table = &*self.reader.table;
        let hash = table.hash.hash(key);
        if let Some((place, _)) = table.find(key, hash) {
            table.slots[place.slot].value.store(u64::from(value), Ordering::Relaxed);
            return Ok(());
        }
        let slot = self.free.pop().ok_or(Full)?;
        table.slots[slot as usize].set(key, value);
        let (bucket, entry) = table.reserve(hash);
        // Relaxed: a reader that sees the entry before the slot finds another key there, as if it had come before the insertion.
        table.buckets[bucket].entries[entry].store(entry_word(hash, slot), Ordering::Relaxed);
        Ok(())
    }

    /// Removes a key and returns its value.
    pub fn remove(&mut self, key: &FlowKey) -> Option<u32> {
        let table = &*self.reader.table;
        let hash = table.hash.hash(key);
        let (place, value) = table.find(key, hash)?;
        table.buckets[place.bucket].entries[place.entry].store(EMPTY, Ordering::Relaxed);
        table.buckets_from(hash).take_while(|&bucket| bucket != place.bucket).for_each(|bucket| {
            let overflow = &table.buckets[bucket].overflow;
            overflow.store(overflow.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        });
        self.free.push(place.slot as u32); // slots are counted by a u32
        Some(value)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.capacity() - self.free.len()
    }

    /// True without any key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of keys at most.
    pub fn capacity(&self) -> usize {
        self.reader.table.slots.len()
    }
}

impl Reader {
    /// The value of exactly this key.
    #[inline]
    pub fn lookup(&self, key: &FlowKey) -> Option<u32> {
        let hash = self.table.hash.hash(key);
        self.table.find(key, hash).map(|(_, value)| value)
    }

    /// The listener that takes a new flow: on its local address and port, else on its local port and any address.
    pub fn lookup_listener(&self, flow: &FlowKey) -> Option<u32> {
        self.lookup(&flow.listener()).or_else(|| self.lookup(&flow.any_listener()))
    }

    /// Looks up many keys, fetching the cache lines of all of them before it waits for any; `values[i]` becomes the value of `keys[i]`.
    ///
    /// Fills as many as the shorter of the two slices holds.
    pub fn lookup_batch(&self, keys: &[FlowKey], values: &mut [Option<u32>]) {
        if let ([key], [value, ..]) = (keys, &mut *values) {
            // Nothing to overlap.
            *value = self.lookup(key);
            return;
        }
        for (keys, values) in keys.chunks(BATCH).zip(values.chunks_mut(BATCH)) {
            self.table.find_batch(keys, values);
        }
    }
}

impl Table {
    /// Indices stay in bounds here and below: buckets are masked, entry words hold slot numbers that `Writer::insert` took from `free`.
    #[inline]
    pub(crate) fn find(&self, key: &FlowKey, hash: u64) -> Option<(Place, u32)> {
        let words = key.words();
        for bucket in self.buckets_from(hash) {
            let found = self.find_in(bucket, hash, &words);
            if found.is_some() {
                return found;
            }
            if self.buckets[bucket].overflow.load(Ordering::Relaxed) == 0 {
                return None;
            }
        }
        None
    }

    /// Searches one bucket.
    #[inline]
    fn find_in(&self, bucket: usize, hash: u64, words: &[u64; WORD_COUNT]) -> Option<(Place, u32)> {
        let entries = &self.buckets[bucket].entries;
        for (entry, word) in entries.iter().enumerate() {
            let word = word.load(Ordering::Relaxed);
            if tag_of(word) != tag_of(mark(hash)) {
                continue;
            }
            let slot = slot_of(word);
            if let Some(value) = self.slots[slot].value_of(words) {
                return Some((Place { bucket, entry, slot }, value));
            }
        }
        None
    }

    /// Three passes, so that the memory latencies of up to [`BATCH`] keys overlap: buckets, slots, comparison.
    fn find_batch(&self, keys: &[FlowKey], values: &mut [Option<u32>]) {
        let mut hashes = [0; BATCH];
        let mut guesses = [Guess::Absent; BATCH];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.hash.hash(key);
            prefetch(&self.buckets[self.home(*hash)]);
        }
        for (guess, (hash, _)) in guesses.iter_mut().zip(hashes.iter().zip(keys)) {
            *guess = self.guess(*hash);
        }
        for (index, (key, value)) in keys.iter().zip(values).enumerate() {
            let quick = match guesses[index] {
                Guess::Absent => {
                    *value = None;
                    continue;
                }
                Guess::Slot(slot) => self.slots[slot].value_of(&key.words()),
                Guess::Elsewhere => None,
            };
            *value = quick.or_else(|| self.find(key, hashes[index]).map(|(_, value)| value));
        }
    }

    /// What the home bucket says about a key, from its tags alone; starts to fetch the slot.
    #[inline]
    fn guess(&self, hash: u64) -> Guess {
        let bucket = &self.buckets[self.home(hash)];
        let words: [u64; ENTRIES_PER_BUCKET] =
            core::array::from_fn(|entry| bucket.entries[entry].load(Ordering::Relaxed));
        let tag = tag_of(mark(hash));
        let fits = words
            .iter()
            .enumerate()
            .fold(0u32, |fits, (at, &word)| fits | u32::from(tag_of(word) == tag) << at);
        match words.get(fits.trailing_zeros() as usize) {
            Some(&word) => {
                prefetch(&self.slots[slot_of(word)]);
                Guess::Slot(slot_of(word))
            }
            None if bucket.overflow.load(Ordering::Relaxed) == 0 => Guess::Absent,
            None => Guess::Elsewhere,
        }
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.bucket_mask
    }

    /// Every bucket once, in the order in which a key with this hash visits them.
    #[inline]
    pub(crate) fn buckets_from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let (home, mask) = (self.home(hash), self.bucket_mask);
        (0..=mask).map(move |step| (home + step) & mask)
    }

    /// The place for a new key; counts it in the buckets that it passes.
    ///
    /// A free entry exists: there are more entries than slots, and the caller holds a free slot.
    fn reserve(&self, hash: u64) -> (usize, usize) {
        let is_free = |word: &AtomicU64| word.load(Ordering::Relaxed) == EMPTY;
        for bucket in self.buckets_from(hash) {
            if let Some(entry) = self.buckets[bucket].entries.iter().position(is_free) {
                return (bucket, entry);
            }
            let overflow = &self.buckets[bucket].overflow;
            overflow.store(overflow.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        unreachable!("a table with {} slots has more entries than that", self.slots.len())
    }
}

impl Bucket {
    fn empty() -> Self {
        Self { entries: core::array::from_fn(|_| AtomicU64::new(EMPTY)), overflow: AtomicU64::new(0) }
    }
}

impl Slot {
    fn empty() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            key: core::array::from_fn(|_| AtomicU64::new(0)),
            value: AtomicU64::new(0),
        }
    }

    /// Gives the slot to another key, while readers that are late may still look at it for the old one.
    fn set(&self, key: &FlowKey, value: u32) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        // Pairs with the Acquire fence in `value_of`: who reads a new word then reads a new sequence.
        fence(Ordering::Release);
        for (place, word) in self.key.iter().zip(key.words()) {
            place.store(word, Ordering::Relaxed);
        }
        self.value.store(u64::from(value), Ordering::Relaxed);
        // Pairs with the Acquire load in `value_of`: who reads this sequence reads these words or newer ones.
        self.sequence.store(sequence + 2, Ordering::Release);
    }

    /// The value, if the slot held exactly this key during the whole call.
    #[inline]
    fn value_of(&self, words: &[u64; WORD_COUNT]) -> Option<u32> {
        // Pairs with the last store in `set`.
        let before = self.sequence.load(Ordering::Acquire);
        let differing = self
            .key
            .iter()
            .zip(words)
            .fold(0, |differing, (place, word)| differing | (place.load(Ordering::Relaxed) ^ word));
        let value = self.value.load(Ordering::Relaxed);
        // Pairs with the Release fence in `set`.
        fence(Ordering::Acquire);
        let after = self.sequence.load(Ordering::Relaxed);
        let is_stable = before == after && before.is_multiple_of(2);
        (differing == 0 && is_stable).then_some(value as u32) // stored from a u32
    }
}

#[inline]
fn entry_word(hash: u64, slot: u32) -> u64 {
    mark(hash) & !u64::from(u32::MAX) | u64::from(slot)
}

/// Sets the bit that tells a tag from [`EMPTY`].
#[inline]
const fn mark(hash: u64) -> u64 {
    hash | 1 << 63
}

#[inline]
const fn tag_of(word: u64) -> u64 {
    word >> 32
}

#[inline]
const fn slot_of(entry: u64) -> usize {
    entry as u32 as usize // the low half
}
