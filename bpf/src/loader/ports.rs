//! The port map as both sides see it: memory.

use std::fmt;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

use libbpf_rs::MapHandle;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::Protocol;
use crate::abi::{self, header};
use crate::error::SteerError;

/// The mapping of `steer_ports`: one byte for each address, protocol and port.
///
/// The mapping holds a reference to the map, so the memory outlives every descriptor of it.
pub(super) struct PortMap {
    base: NonNull<AtomicU8>,
    len: usize,
}

// SAFETY: the mapping is plain shared memory with no tie to a thread.
unsafe impl Send for PortMap {}
// SAFETY: all access goes through `AtomicU8`.
unsafe impl Sync for PortMap {}

impl PortMap {
    pub(super) fn map(map: &MapHandle, max_addresses: u32) -> Result<PortMap, SteerError> {
        let len = max_addresses as usize * abi::PORTS_PER_ADDRESS;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let mapped = unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, map.as_fd(), 0) };
        let base = mapped.map_err(|errno| SteerError::unexpected("map the port map into memory", &errno))?;
        let base = NonNull::new(base.cast()).ok_or_else(|| {
            SteerError::unexpected("map the port map into memory", "the kernel chose address zero")
        })?;
        Ok(PortMap { base, len })
    }

    fn entries(&self) -> &[AtomicU8] {
        // SAFETY: `map` mapped `len` bytes at `base` for reading and writing, and they stay until `drop`. The program
        // and other engines change them concurrently, which `AtomicU8` allows.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// Stores one entry. Relaxed: an entry stands alone, no other memory is published with it.
    pub(super) fn set(&self, address_index: u32, protocol: Protocol, port: u16, owner: u8) {
        let plane = match protocol {
            Protocol::Tcp => header::STEER_PROTO_TCP,
            Protocol::Udp => header::STEER_PROTO_UDP,
        } as usize;
        let entry = address_index as usize * abi::PORTS_PER_ADDRESS
            + plane * header::STEER_PORTS as usize
            + usize::from(port);
        self.entries()[entry].store(owner, Ordering::Relaxed);
    }

    /// Forgets every port of an address.
    pub(super) fn clear_address(&self, address_index: u32) {
        let start = address_index as usize * abi::PORTS_PER_ADDRESS;
        for entry in &self.entries()[start..start + abi::PORTS_PER_ADDRESS] {
            entry.store(0, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for PortMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortMap").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for PortMap {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and no borrow of `entries` outlives `self`.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of a whole mapping cannot fail");
    }
}
