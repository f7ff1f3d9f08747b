//! The handle of a frame in a send queue: stays with the queue while a device reads the frame.

use std::fmt;
use std::ptr::NonNull;

use crate::FrameState;
use crate::core::Core;
use crate::frame::Frame;

/// A frame to be sent, being sent, or sent and kept for retransmission.
///
/// A port takes no handle: [`Port::submit`](crate::Port::submit) marks the frame as in the ring, the queue keeps the
/// `SendFrame`, and until the completion its bytes are read-only. Dropped while in the ring, the frame waits for its
/// completion as an orphan. On threads that do not own the pool every `SendFrame` counts as in the ring, because
/// nobody there can know.
pub struct SendFrame {
    frame: Frame,
}

impl SendFrame {
    pub(crate) fn new(frame: Frame) -> SendFrame {
        SendFrame { frame }
    }

    /// Whether a device may still read the bytes.
    #[inline]
    pub fn in_ring(&self) -> bool {
        match self.frame.core().owner() {
            Some(owner) => owner.state(self.frame.index()) == FrameState::SendInRing,
            None => true,
        }
    }

    /// Bytes of the window.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.frame.bytes()
    }

    /// Bytes of the window, to be written; `None` while in the ring.
    #[inline]
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        self.writable().map(Frame::bytes_mut)
    }

    /// Length of the window.
    #[inline]
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    /// Whether the window is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frame.is_empty()
    }

    /// Bytes before the window.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.frame.headroom()
    }

    /// Bytes behind the window.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.frame.tailroom()
    }

    /// Grows the window at the front, for a header; `None` while in the ring or without headroom.
    #[inline]
    pub fn prepend(&mut self, count: usize) -> Option<&mut [u8]> {
        let frame = self.writable()?;
        (count <= frame.headroom()).then(|| frame.prepend(count))
    }

    /// [`advance`](Self::advance) by `old_len`, then [`prepend`](Self::prepend): another header in the place of the last transmission's, which
    /// is still there after `None`: in the ring, or without headroom.
    #[inline]
    pub fn replace_front(&mut self, old_len: usize, new_len: usize) -> Option<&mut [u8]> {
        let frame = self.writable()?;
        if new_len > frame.headroom() + old_len {
            return None;
        }
        if old_len > 0 {
            frame.advance(old_len);
        }
        Some(frame.prepend(new_len))
    }

    /// Grows the window at the back; `None` while in the ring or without tailroom.
    #[inline]
    pub fn append(&mut self, count: usize) -> Option<&mut [u8]> {
        let frame = self.writable()?;
        (count <= frame.tailroom()).then(|| frame.append(count))
    }

    /// Drops up to `count` bytes from the front of the window, such as the last transmission's header. Changes what
    /// this handle shows, not what a device reads, so it is allowed in the ring.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        self.frame.advance(count);
    }

    /// Shortens the window to `len` bytes, if it is longer; allowed in the ring like [`advance`](Self::advance).
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.frame.truncate(len);
    }

    /// Turns it back into a plain frame, unless it is in the ring.
    #[inline]
    pub fn into_frame(self) -> Result<Frame, SendFrame> {
        if self.in_ring() { Err(self) } else { Ok(self.frame) }
    }

    #[inline]
    fn writable(&mut self) -> Option<&mut Frame> {
        if self.in_ring() { None } else { Some(&mut self.frame) }
    }

    pub(crate) fn core(&self) -> NonNull<Core> {
        self.frame.core_ptr()
    }

    pub(crate) fn index(&self) -> u32 {
        self.frame.index()
    }

    pub(crate) fn offset(&self) -> u16 {
        self.frame.offset()
    }

    pub(crate) fn window_len(&self) -> u16 {
        self.frame.window_len()
    }
}

impl fmt::Debug for SendFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFrame").field("frame", &self.frame).field("in_ring", &self.in_ring()).finish()
    }
}
