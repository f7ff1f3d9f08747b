//! Packets on their way out: submitted, taken by the kernel, waiting to be reaped.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use ringwire_frame::Region;
use rustix::io::Errno;

use crate::sys;

/// Packets of one system call.
const BATCH_PACKETS: usize = 64;
/// Pieces of one system call; a packet of more frames is refused at the door.
pub(crate) const MAX_PIECES: usize = 64;

/// One frame of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) ends_packet: bool,
}

/// Frames in the order of their submission, in a pool's region.
#[derive(Debug)]
pub(crate) struct TxQueue {
    waiting: VecDeque<Piece>,
    done: Vec<u64>,
    capacity_frames: usize,
}

impl TxQueue {
    pub(crate) fn new(capacity_frames: usize) -> TxQueue {
        TxQueue {
            waiting: VecDeque::with_capacity(capacity_frames),
            done: Vec::with_capacity(capacity_frames),
            capacity_frames,
        }
    }

    /// Frames that were not reaped take room too, as in a ring.
    pub(crate) fn room(&self) -> usize {
        self.capacity_frames - self.waiting.len() - self.done.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity_frames
    }

    pub(crate) fn push(&mut self, piece: Piece) {
        self.waiting.push_back(piece);
    }

    /// Addresses of frames that the kernel is done with.
    pub(crate) fn drain_done(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.done.drain(..)
    }

    /// Offers the oldest packets to the kernel, in one call; how many it took.
    ///
    /// The frames are in state SendInRing since their submission, so nobody writes to them meanwhile.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, region: &Region) -> Result<usize, Errno> {
        // SAFETY: all zeros are a valid, empty message.
        let mut messages: [libc::mmsghdr; BATCH_PACKETS] = unsafe { std::mem::zeroed() };
        let mut pieces = [const { libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 } }; MAX_PIECES];
        let mut packets = 0;
        let mut starts = 0;
        for (index, piece) in self.waiting.iter().enumerate().take(MAX_PIECES) {
            debug_assert!(piece.addr + u64::from(piece.len) <= region.len() as u64);
            // SAFETY: the pool made address and length (`Pool::submit_addr`), so they lie in its region.
            let start = unsafe { region.base().add(piece.addr as usize) };
            pieces[index] = libc::iovec { iov_base: start.as_ptr().cast(), iov_len: piece.len as usize };
            if piece.ends_packet {
                let header = &mut messages[packets].msg_hdr;
                header.msg_iov = pieces[starts..].as_mut_ptr();
                header.msg_iovlen = index + 1 - starts;
                starts = index + 1;
                packets += 1;
            }
        }
        // SAFETY: the pieces outlive the call, and the frames behind them are read-only until `drain_done` names them.
        let sent = unsafe { sys::send_many(socket, &mut messages[..packets]) }?;
        self.finish(sent);
        Ok(sent)
    }

    /// Is done with the oldest `packets`, whatever became of them.
    pub(crate) fn finish(&mut self, packets: usize) {
        let mut left = packets;
        while left > 0
            && let Some(piece) = self.waiting.pop_front()
        {
            self.done.push(piece.addr);
            left -= usize::from(piece.ends_packet);
        }
    }
}
