//! The transmit ring, mapped a second time beside xsk-rs, which cannot start a packet at an address of our choice.
//!
//! ```text
//!   consumer (kernel writes)      published          head (ours)
//!        |  waiting in the ring       |  written, not yet shown |
//!   -----+----------------------------+-------------------------+---- room -->
//! ```
//! Descriptors become visible to the kernel all at once in [`TxRing::publish`]: one shared-line write per batch.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::net::sockopt::xdp_mmap_offsets;

/// Producer side of a socket's transmit ring.
pub(crate) struct TxRing {
    map: RingMap,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    descs: NonNull<libc::xdp_desc>,
    size: u32,
    head: u32,
    /// The kernel's consumer index as last read.
    tail: u32,
    published: u32,
}

// SAFETY: the pointers are into `map`, which moves along; nothing else in this process uses the transmit ring.
unsafe impl Send for TxRing {}

impl TxRing {
    /// Maps the transmit ring of `size` descriptors of a bound socket nobody has transmitted on.
    pub(crate) fn map(fd: BorrowedFd<'_>, size: u32) -> Result<TxRing, Errno> {
        let offsets = xdp_mmap_offsets(fd)?.tx;
        let flags_offset = offsets.flags.ok_or(Errno::NOSYS)?;
        let len_bytes = to_usize(offsets.desc)? + size as usize * size_of::<libc::xdp_desc>();
        let map = RingMap::new(fd, len_bytes)?;
        let producer = map.at(offsets.producer)?;
        let consumer: NonNull<AtomicU32> = map.at(offsets.consumer)?;
        // SAFETY: `at` checked that the index lies within the mapping, which is readable and lives as long as `map`.
        let head = unsafe { consumer.as_ref() }.load(Ordering::Relaxed);
        let (flags, descs) = (map.at(flags_offset)?, map.at(offsets.desc)?);
        Ok(TxRing { map, producer, consumer, flags, descs, size, head, tail: head, published: head })
    }

    /// Number of slots.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Free slots; looks at the kernel's index only when the last look left fewer than half.
    pub(crate) fn room(&mut self) -> u32 {
        let room = self.size - self.head.wrapping_sub(self.tail);
        if room >= self.size / 2 {
            return room;
        }
        self.reload_tail();
        self.size - self.head.wrapping_sub(self.tail)
    }

    /// Writes a descriptor; the caller has seen room for it.
    pub(crate) fn push(&mut self, addr: u64, len: u32, more_frames_follow: bool) {
        debug_assert!(self.head.wrapping_sub(self.tail) < self.size, "transmit ring overrun");
        let options = if more_frames_follow { libc::XDP_PKT_CONTD } else { 0 };
        let slot = (self.head & (self.size - 1)) as usize;
        // SAFETY: the slot is below `size`, and `map` spans that many descriptors.
        let desc = unsafe { self.descs.add(slot) };
        // SAFETY: the slot lies between head and tail + size: the kernel does not read it before it is published.
        unsafe { desc.write(libc::xdp_desc { addr, len, options }) };
        self.head = self.head.wrapping_add(1);
    }

    /// Shows the kernel what was pushed; returns how many descriptors it has not taken yet.
    pub(crate) fn publish(&mut self) -> u32 {
        if self.published != self.head {
            // SAFETY: points into `map`, which is alive.
            let producer = unsafe { self.producer.as_ref() };
            // Release: pairs with the kernel's load-acquire of the producer index (xskq_cons_get_entries), so that
            // it sees the descriptors, and the frames they name, as written before.
            producer.store(self.head, Ordering::Release);
            self.published = self.head;
        }
        self.waiting()
    }

    /// Published descriptors the kernel has not taken.
    pub(crate) fn waiting(&mut self) -> u32 {
        self.reload_tail();
        self.published.wrapping_sub(self.tail)
    }

    /// Whether the driver asks for a system call to go on.
    pub(crate) fn needs_wakeup(&self) -> bool {
        // SAFETY: points into `map`, which is alive.
        let flags = unsafe { self.flags.as_ref() };
        // Relaxed: a hint; the producer store above it is ordered by the system call that follows.
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn reload_tail(&mut self) {
        // SAFETY: points into `map`, which is alive.
        let consumer = unsafe { self.consumer.as_ref() };
        // Acquire: pairs with the kernel's store-release of the consumer index (__xskq_cons_release): it has read
        // the slots we are about to write again.
        self.tail = consumer.load(Ordering::Acquire);
    }
}

impl std::fmt::Debug for TxRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TxRing { map, size, head, tail, published, .. } = self;
        let mut debug = f.debug_struct("TxRing");
        debug.field("map_bytes", &map.len_bytes).field("size", size).field("head", head);
        debug.field("tail", tail).field("published", published).finish()
    }
}

/// The mapped pages of a ring; unmapped on drop.
struct RingMap {
    base: NonNull<u8>,
    len_bytes: usize,
}

impl RingMap {
    fn new(fd: BorrowedFd<'_>, len_bytes: usize) -> Result<RingMap, Errno> {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        let offset = u64::try_from(libc::XDP_PGOFF_TX_RING).map_err(|_| Errno::INVAL)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len_bytes, prot, flags, fd, offset) }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::FAULT)?;
        Ok(RingMap { base, len_bytes })
    }

    /// Pointer to a `T` at `offset`, if it lies within the mapping and is aligned.
    fn at<T>(&self, offset: u64) -> Result<NonNull<T>, Errno> {
        let offset = to_usize(offset)?;
        if offset + size_of::<T>() > self.len_bytes || !offset.is_multiple_of(align_of::<T>()) {
            return Err(Errno::INVAL);
        }
        // SAFETY: the offset lies within the mapping, checked above.
        Ok(unsafe { self.base.add(offset) }.cast())
    }
}

impl Drop for RingMap {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; the pointers made by `at` live in the `TxRing` that owns this.
        let result = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len_bytes) };
        debug_assert!(result.is_ok(), "munmap of a ring: {result:?}");
    }
}

fn to_usize(offset: u64) -> Result<usize, Errno> {
    usize::try_from(offset).map_err(|_| Errno::INVAL)
}
