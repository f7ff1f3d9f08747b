//! A bounded ring from one thread to another, on which packets are handed over.
//!
//! Two counters that only grow: `tail` is how many items were pushed, `head` how many were popped; an item lives in cell `index & mask`. Each side
//! keeps a copy of the other's counter and reads the shared one only when the copy says full or empty, so in steady state a
//! push or pop touches the cell and its own counter's cache line.
//!
//! Owns the items from push to pop; what is left when both sides are gone is dropped. Neither side ever waits.

use crate::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};
use core::mem::MaybeUninit;

/// A ring for at least `capacity` items, rounded up to a power of two.
///
/// ```
/// let (mut producer, mut consumer) = ringwire_table::spsc::ring(2);
/// assert_eq!(producer.push("a"), Ok(()));
/// assert_eq!(producer.push("b"), Ok(()));
/// assert_eq!(producer.push("c"), Err("c"), "full: the item comes back");
/// assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some("a"), Some("b"), None));
/// ```
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.max(1).next_power_of_two();
    let shared = Arc::new(Shared {
        tail: Counter(AtomicUsize::new(0)),
        head: Counter(AtomicUsize::new(0)),
        cells: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    let consumer = Consumer { shared: Arc::clone(&shared), head: 0, seen_tail: 0 };
    (Producer { shared, tail: 0, seen_head: 0 }, consumer)
}

/// The side that pushes.
#[derive(Debug)]
pub struct Producer<T> {
    pub(crate) shared: Arc<Shared<T>>,
    /// Equal to `shared.tail`, which only this side writes.
    pub(crate) tail: usize,
    /// At most `shared.head`.
    pub(crate) seen_head: usize,
}

/// The side that pops.
#[derive(Debug)]
pub struct Consumer<T> {
    pub(crate) shared: Arc<Shared<T>>,
    /// Equal to `shared.head`, which only this side writes.
    pub(crate) head: usize,
    /// At most `shared.tail`.
    pub(crate) seen_tail: usize,
}

#[derive(Debug)]
pub(crate) struct Shared<T> {
    /// Written by the producer.
    pub(crate) tail: Counter,
    /// Written by the consumer.
    pub(crate) head: Counter,
    /// Cells from `head` up to `tail` hold items; the producer may touch only the others, the consumer only these.
    cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

/// Alone on its cache lines: 128 bytes, because x86 fetches lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Counter(pub(crate) AtomicUsize);

// SAFETY: `Shared` hands each item from one thread to one other, so `T: Send` suffices: the counters keep the sides on disjoint cells.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Producer<T> {
    /// Adds an item, or gives it back if the ring is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.room() == 0 {
            return Err(item);
        }
        self.shared.cell(self.tail).with_mut(|cell| {
            // SAFETY: room() > 0, so this cell is not among those between head and tail: the consumer is done with it and comes back
            // only after the store below. `&mut self` excludes other pushes.
            unsafe { cell.write(MaybeUninit::new(item)) }
        });
        self.tail = self.tail.wrapping_add(1);
        // Pairs with the Acquire load in `Consumer::len`: who sees the counter sees the item.
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// How many items fit now; at least that many will be accepted.
    pub fn room(&mut self) -> usize {
        let capacity = self.shared.cells.len();
        if self.tail.wrapping_sub(self.seen_head) == capacity {
            // Pairs with the Release store in `Consumer::pop`: the consumer has moved the items out of what it gave back.
            self.seen_head = self.shared.head.0.load(Ordering::Acquire);
        }
        capacity - self.tail.wrapping_sub(self.seen_head)
    }

    /// How many items fit into an empty ring.
    pub fn capacity(&self) -> usize {
        self.shared.cells.len()
    }
}

impl<T> Consumer<T> {
    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let item = self.shared.cell(self.head).with_mut(|cell| {
            // SAFETY: the ring is not empty, so this cell lies between head and tail: the producer has filled it and does not touch it until the store
            // below. `&mut self` excludes other pops.
            unsafe { cell.read() }
        });
        self.head = self.head.wrapping_add(1);
        // Pairs with the Acquire load in `Producer::room`: the cell is free once the counter says so.
        self.shared.head.0.store(self.head, Ordering::Release);
        // SAFETY: every cell between head and tail holds an item that push() wrote, and this one was just taken out of that range.
        Some(unsafe { item.assume_init() })
    }

    /// How many items can be popped at once; there may be more once these are gone.
    pub fn len(&mut self) -> usize {
        if self.head == self.seen_tail {
            // Pairs with the Release store in `Producer::push`: the items up to this counter are there.
            self.seen_tail = self.shared.tail.0.load(Ordering::Acquire);
        }
        self.seen_tail.wrapping_sub(self.head)
    }

    /// True if nothing can be popped now.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Consumer<T> {
    /// Nobody can pop any more: what is there is dropped now, and not only when the producer goes.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

impl<T> Shared<T> {
    /// The length is a power of two, so the mask keeps the index in bounds.
    fn cell(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.cells[index & (self.cells.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    /// Drops what was pushed after the consumer had gone.
    fn drop(&mut self) {
        // Both sides are gone, and the last Arc's drop made their stores visible to this thread.
        let (mut head, tail) = (self.head.0.load(Ordering::Relaxed), self.tail.0.load(Ordering::Relaxed));
        while head != tail {
            self.cell(head).with_mut(|cell| {
                // SAFETY: `&mut self`: nobody else is left.
                let item = unsafe { &mut *cell };
                // SAFETY: this cell lies between head and tail, so it holds an item, and it is visited once.
                unsafe { item.assume_init_drop() }
            });
            head = head.wrapping_add(1);
        }
    }
}
