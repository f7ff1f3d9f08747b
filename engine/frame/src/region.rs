//! Packet memory: one contiguous mapping that a pool cuts into frames and a device may have registered.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A page, the alignment that UMEM registration asks for.
const PAGE_BYTES: usize = 4096;

/// A shared handle to packet memory; the memory goes when the last handle goes.
///
/// The bytes themselves can only be reached through the frames of the one [`Pool`](crate::Pool) made over the
/// region. Clones merely keep the memory in place.
#[derive(Clone)]
pub struct Region {
    memory: Arc<Memory>,
}

struct Memory {
    base: NonNull<u8>,
    len: usize,
    /// Set once a pool has cut the region into frames: two pools would hand out the same bytes twice.
    claimed: AtomicBool,
    /// What unmaps the memory when dropped.
    _keep: Box<dyn Any + Send + Sync>,
}

// SAFETY: `base` is an address, not a reference. Who may read or write the bytes behind it is decided by the frame
// states of the one pool that claimed the region (invariant "one holder per frame", owned by `core::Local`).
unsafe impl Send for Memory {}
// SAFETY: as above; `Memory` itself offers no access to the bytes.
unsafe impl Sync for Memory {}

impl Region {
    /// Allocates `len` bytes of zeroed, page-aligned memory that no device knows about.
    ///
    /// # Panics
    /// If `len` is zero or no allocation can be that large.
    pub fn anonymous(len: usize) -> Region {
        assert!(len > 0, "a region cannot be empty");
        // Aligned here and not by the allocator, which zeroes by writing when asked for more alignment than its own: 45 ms
        // for 64 MiB that may never be used.
        let layout = Layout::from_size_align(len + PAGE_BYTES, size_of::<u64>())
            .expect("region length fits an allocation");
        // SAFETY: the layout has a non-zero size.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        let padding = start.align_offset(PAGE_BYTES);
        // SAFETY: the padding is below `PAGE_BYTES`, by which the allocation is longer than the region.
        let base = unsafe { start.add(padding) };
        Region::build(base, len, Box::new(Allocation { start, layout }))
    }

    /// Wraps memory that somebody else mapped, such as a registered UMEM.
    ///
    /// # Safety
    /// `base..base + len` must be mapped, readable, writable and initialised until `keep` is dropped, and nothing
    /// but the pool made over this region, and the devices that pool hands addresses to, may touch it.
    pub unsafe fn from_raw(base: NonNull<u8>, len: usize, keep: Box<dyn Any + Send + Sync>) -> Region {
        Region::build(base, len, keep)
    }

    fn build(base: NonNull<u8>, len: usize, keep: Box<dyn Any + Send + Sync>) -> Region {
        Region { memory: Arc::new(Memory { base, len, claimed: AtomicBool::new(false), _keep: keep }) }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.memory.len
    }

    /// Whether the region has no bytes.
    pub fn is_empty(&self) -> bool {
        self.memory.len == 0
    }

    /// First byte of the region, for registering it with a device.
    pub fn base(&self) -> NonNull<u8> {
        self.memory.base
    }

    /// Whether both handles name the same memory.
    pub fn same(&self, other: &Region) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }

    /// Takes the right to cut the region into frames; only the first caller gets it.
    pub(crate) fn claim(&self) -> bool {
        // Relaxed: the flag guards nothing but itself, the memory has been initialised before the region existed.
        !self.memory.claimed.swap(true, Ordering::Relaxed)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("base", &self.memory.base).field("len", &self.memory.len).finish()
    }
}

/// Memory from the global allocator.
struct Allocation {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the global allocator lets any thread free a block.
unsafe impl Send for Allocation {}
// SAFETY: a shared reference to `Allocation` offers nothing.
unsafe impl Sync for Allocation {}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this layout and is freed once, here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
