//! Packets longer than a slot: the kernel keeps the whole of each in the socket's queue, in the order of their slots.
//!
//! They come from a sender on this machine that left segmentation to a device (up to 64 KiB).

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::RecvFlags;

/// The longest packet of IPv4 or IPv6 without jumbograms, its link header and two tags.
const LONGEST_BYTES: usize = 65_535 + 40 + 22;

/// The oldest packet of the socket's queue.
#[derive(Debug, Default)]
pub(crate) struct LongPacket {
    bytes: Vec<u8>,
    /// Length of the packet that was read and whose slot was not released yet.
    read: Option<usize>,
}

impl LongPacket {
    /// The packet of the current slot; `None` if the kernel had no room for it after all.
    #[cold]
    pub(crate) fn read(&mut self, socket: &OwnedFd) -> Option<&mut [u8]> {
        if self.read.is_none() {
            self.bytes.resize(LONGEST_BYTES, 0);
            let (len, _) =
                rustix::net::recv(socket.as_fd(), &mut self.bytes[..], RecvFlags::DONTWAIT).ok()?;
            self.read = Some(len);
        }
        self.bytes.get_mut(..self.read?)
    }

    /// The slot is released.
    pub(crate) fn forget(&mut self) {
        self.read = None;
    }
}
