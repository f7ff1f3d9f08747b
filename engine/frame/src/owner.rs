//! Thread identity and the end of a thread: who owns a pool, and until when.
//!
//! Every thread that adopts a pool gets a number that no other thread ever gets; zero means none. When the thread
//! ends its number is taken back first, so that handles dropped still later (by other thread-locals) go through the
//! return ring, and then each pool it owned is told through its `Custody`.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::Core;
use crate::liveness::Custody;

/// Owner of a pool that no thread owns; differs from every thread's number and from "none".
pub(crate) const NOBODY: u64 = u64::MAX;

static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// This thread's number. Const and without a destructor: one plain load, usable until the very end.
    static NUMBER: Cell<u64> = const { Cell::new(0) };
    static OWNED: RefCell<Owned> = const { RefCell::new(Owned { pools: Vec::new() }) };
}

/// Number of the current thread, zero if it never adopted a pool (or is ending).
#[inline]
pub(crate) fn this_thread() -> u64 {
    NUMBER.get()
}

/// Registers a pool as owned by this thread and returns the thread's number; `None` if the thread is ending.
pub(crate) fn enlist(core: NonNull<Core>, custody: &Arc<Custody>) -> Option<u64> {
    OWNED
        .try_with(|owned| owned.borrow_mut().pools.push(Entry { core, custody: Arc::clone(custody) }))
        .ok()?;
    if NUMBER.get() == 0 {
        // Relaxed: the numbers only have to differ.
        NUMBER.set(LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1);
    }
    Some(NUMBER.get())
}

/// Forgets a pool that was closed on its owner thread.
pub(crate) fn delist(custody: &Arc<Custody>) {
    // A thread that is ending has lost its number, so it is not an owner and does not come here.
    let _ = OWNED.try_with(|owned| {
        owned.borrow_mut().pools.retain(|entry| !Arc::ptr_eq(&entry.custody, custody));
    });
}

struct Owned {
    pools: Vec<Entry>,
}

struct Entry {
    core: NonNull<Core>,
    custody: Arc<Custody>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        NUMBER.set(0);
        for entry in self.pools.drain(..) {
            if entry.custody.thread_exited() {
                // SAFETY: the pool was dropped elsewhere and left the closing to its owner thread, which is this one;
                // without a number it cannot reach the books any other way.
                unsafe { Core::close(entry.core) };
            }
        }
    }
}
