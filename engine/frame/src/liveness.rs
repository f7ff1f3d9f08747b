//! Who frees the pool's memory: two small protocols without a counter on the owner's hot path.
//!
//! [`Handles`] decides when the last handle is gone after the pool has been closed. [`Custody`] decides who closes a
//! pool that was dropped on a thread that does not own it.

use crate::sync::{AtomicI64, AtomicU8, Ordering};

/// Counts handles that went home through the return ring.
///
/// While the pool is open the balance is minus the number of foreign returns. The owner keeps the number of handles
/// made less those it took back itself, and adds it when it closes: from then on the balance is the number of handles
/// that still exist, and whoever brings it to zero frees the memory.
pub(crate) struct Handles {
    balance: AtomicI64,
}

impl Handles {
    pub(crate) fn new() -> Handles {
        Handles { balance: AtomicI64::new(0) }
    }

    /// One handle is gone; true means that the caller frees the memory, and nobody else may touch it.
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        // AcqRel, pairs with the other `release`s and with `close`: whoever sees zero sees all that the others did.
        self.balance.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The owner goes and leaves `granted` handles that did not come back to it directly; true: the caller frees.
    #[must_use]
    pub(crate) fn close(&self, granted: i64) -> bool {
        // AcqRel, pairs with `release`.
        self.balance.fetch_add(granted, Ordering::AcqRel) + granted == 0
    }
}

const EXITED: u8 = 1;
const DROPPED: u8 = 2;

/// The meeting of "the owner thread exited" and "the pool was dropped elsewhere": the later one closes the pool.
pub(crate) struct Custody {
    bits: AtomicU8,
}

impl Custody {
    pub(crate) fn new() -> Custody {
        Custody { bits: AtomicU8::new(0) }
    }

    /// The owner thread will not touch the pool again; true: the caller closes the pool.
    #[must_use]
    pub(crate) fn thread_exited(&self) -> bool {
        // AcqRel, pairs with `pool_dropped` and `has_exited`.
        self.bits.fetch_or(EXITED, Ordering::AcqRel) & DROPPED != 0
    }

    /// The pool was dropped on another thread; true: the caller closes the pool.
    #[must_use]
    pub(crate) fn pool_dropped(&self) -> bool {
        // AcqRel, pairs with `thread_exited`.
        self.bits.fetch_or(DROPPED, Ordering::AcqRel) & EXITED != 0
    }

    /// Whether the owner thread is gone, so that another may take its place.
    pub(crate) fn has_exited(&self) -> bool {
        // Acquire, pairs with `thread_exited`.
        self.bits.load(Ordering::Acquire) & EXITED != 0
    }
}
