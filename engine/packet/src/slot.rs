//! One received packet in the ring, ours until it is released.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::checksum;
use crate::long::LongPacket;
use crate::ring::RxRing;

/// IEEE 802.1Q; what a kernel without `TP_STATUS_VLAN_TPID_VALID` means.
const VLAN_TPID: u16 = 0x8100;

/// A slot that the kernel has filled.
pub(crate) struct Slot<'r> {
    ring: &'r mut RxRing,
    status: u32,
}

impl<'r> Slot<'r> {
    /// The oldest slot, if the kernel has filled it.
    pub(crate) fn take(ring: &'r mut RxRing) -> Option<Slot<'r>> {
        // Acquire, pairs with the kernel's store of the status after the packet (smp_wmb in __packet_set_status).
        let status = ring.status().load(Ordering::Acquire);
        (status & libc::TP_STATUS_USER != 0).then_some(Slot { ring, status })
    }

    /// The packet as it lies in the ring, or `None` if the kernel had no room for it.
    pub(crate) fn packet<'a>(
        &'a mut self,
        socket: &OwnedFd,
        long: &'a mut LongPacket,
    ) -> Option<&'a mut [u8]> {
        let header = self.ring.header();
        let bytes = match header.tp_snaplen == header.tp_len {
            true => self.ring.bytes(usize::from(header.tp_mac), header.tp_snaplen as usize)?,
            false if self.status & libc::TP_STATUS_COPY != 0 => long.read(socket)?,
            false => return None,
        };
        if self.status & libc::TP_STATUS_CSUMNOTREADY != 0 {
            checksum::finish(bytes);
            // Once only, also when the packet stays where it is for now.
            self.status &= !libc::TP_STATUS_CSUMNOTREADY;
        }
        Some(bytes)
    }

    /// The tag that the kernel took out of the packet.
    pub(crate) fn tag(&self) -> Option<[u8; 4]> {
        if self.status & libc::TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let header = self.ring.header();
        let tpid = match self.status & libc::TP_STATUS_VLAN_TPID_VALID {
            0 => VLAN_TPID,
            _ => header.tp_vlan_tpid,
        };
        let ([a, b], [c, d]) = (tpid.to_be_bytes(), header.tp_vlan_tci.to_be_bytes());
        Some([a, b, c, d])
    }

    /// When the kernel took the packet: `CLOCK_REALTIME`, in nanoseconds.
    pub(crate) fn stamp_ns(&self) -> u64 {
        let header = self.ring.header();
        u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec)
    }

    /// Leaves the packet for the next look.
    pub(crate) fn keep(self) {
        // Relaxed: the slot is ours, only what we have done to the packet changes.
        self.ring.status().store(self.status, Ordering::Relaxed);
    }

    /// Gives the slot back to the kernel.
    pub(crate) fn release(self) {
        let status: &AtomicU32 = self.ring.status();
        // Release, pairs with the kernel's read of the status: our reads of the packet come before.
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.ring.advance();
    }
}
