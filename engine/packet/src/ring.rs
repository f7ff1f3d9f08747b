//! The receive ring: slots that the kernel writes and this process reads, mapped into both.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::config::PacketConfig;
use crate::sys;

/// Blocks are what the kernel allocates at once; slots lie within them, both powers of two.
const BLOCK_BYTES: usize = 64 << 10;

/// The mapping, and where we are in it.
#[derive(Debug)]
pub(crate) struct RxRing {
    base: NonNull<u8>,
    len_bytes: usize,
    slot_bytes: usize,
    slot_count: usize,
    next: usize,
}

// SAFETY: the mapping is process-wide memory; who reads a slot is decided by its status word, and `&mut self`.
unsafe impl Send for RxRing {}

impl RxRing {
    /// Makes the ring of a socket that is not bound yet, and maps it.
    pub(crate) fn map(socket: BorrowedFd<'_>, config: &PacketConfig) -> Result<RxRing, Errno> {
        let (slot_bytes, slot_count) = (config.slot_bytes(), config.slot_count());
        let block_bytes = slot_bytes.max(BLOCK_BYTES);
        let len_bytes = slot_bytes * slot_count;
        let ring = libc::tpacket_req {
            tp_block_size: narrow(block_bytes),
            tp_block_nr: narrow(len_bytes.div_ceil(block_bytes)),
            tp_frame_size: narrow(slot_bytes),
            tp_frame_nr: narrow(slot_count),
        };
        sys::set_receive_ring(socket, &ring)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, wherever the kernel likes; its length is that of the ring just made.
        let base = unsafe { mmap(std::ptr::null_mut(), len_bytes, access, MapFlags::SHARED, socket, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::FAULT)?;
        Ok(RxRing { base, len_bytes, slot_bytes, slot_count, next: 0 })
    }

    /// The status word of the next slot, which the kernel writes too.
    pub(crate) fn status(&self) -> &AtomicU32 {
        let word = self.slot().cast::<u32>();
        // SAFETY: the first word of a slot (linux/if_packet.h), aligned as slots are and mapped while `self` lives;
        // both sides access it as one atomic word.
        unsafe { AtomicU32::from_ptr(word.as_ptr()) }
    }

    /// The header of the next slot, once its status says that it is ours.
    pub(crate) fn header(&self) -> libc::tpacket2_hdr {
        // SAFETY: a slot begins with this header, is aligned for it, and is initialised memory.
        unsafe { self.slot().cast().read() }
    }

    /// Bytes within the next slot, once its status says that it is ours; `None` if they would leave it.
    pub(crate) fn bytes(&mut self, offset: usize, len: usize) -> Option<&mut [u8]> {
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= self.slot_bytes);
        if !is_inside || offset < size_of::<libc::tpacket2_hdr>() {
            return None;
        }
        // SAFETY: inside the slot, as just checked.
        let start = unsafe { self.slot().add(offset) };
        // SAFETY: inside the mapping, initialised; the kernel does not touch a slot that is ours (the caller has seen
        // the status), and `&mut self` is the only access on this side.
        Some(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    pub(crate) fn advance(&mut self) {
        self.next = (self.next + 1) & (self.slot_count - 1);
    }

    fn slot(&self) -> NonNull<u8> {
        // SAFETY: `next` is below `slot_count`, and the mapping is `slot_bytes * slot_count` long.
        unsafe { self.base.add(self.next * self.slot_bytes) }
    }
}

/// Ring sizes are bounded by `PacketConfig`; a wish beyond u32 is refused by the kernel.
fn narrow(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Drop for RxRing {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length and unmapped once, here. An error could only leave it mapped.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len_bytes) };
    }
}
