//! The exclusive handle: a frame and the window of bytes in use.

use std::fmt;
use std::ptr::NonNull;

use crate::FrameState;
use crate::core::{Core, Loan};
use crate::send::SendFrame;

/// One frame, owned, with a window of bytes, headroom before it and tailroom behind it.
///
/// Move-only. It may be dropped on any thread: on the pool's own it returns at once, elsewhere through the pool's
/// return ring. State changes that the pool accounts for ([`lend`](Frame::lend), [`hand_off`](Frame::hand_off),
/// [`into_send`](Frame::into_send)) are recorded on the pool's thread only; elsewhere a handle is the bytes and the
/// right to give them back.
pub struct Frame {
    core: NonNull<Core>,
    window: Window,
}

/// Which frame, and which of its bytes: index in the upper half, offset, length in the lowest 16 bits.
///
/// One word, so that a handle is moved by whole registers; packets change hands a dozen times.
#[derive(Clone, Copy)]
struct Window(u64);

impl Window {
    #[inline]
    const fn new(index: u32, offset: u16, len: u16) -> Window {
        Window((index as u64) << 32 | (offset as u64) << 16 | len as u64)
    }

    #[inline]
    const fn index(self) -> u32 {
        (self.0 >> 32) as u32
    }

    // The casts keep 16 bits each.
    #[inline]
    const fn offset(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline]
    const fn len(self) -> u16 {
        self.0 as u16
    }

    #[inline]
    fn set(&mut self, offset: u16, len: u16) {
        *self = Window::new(self.index(), offset, len);
    }
}

const _: () = assert!(size_of::<Frame>() == 16 && size_of::<Option<Frame>>() == 16);

// SAFETY: a handle is the exclusive right to the bytes of one frame (invariant "one handle per frame", owned by
// `core::Local`) and keeps the core alive; whatever else must stay on the owner thread is behind `Core::owner`.
unsafe impl Send for Frame {}
// SAFETY: `&Frame` only reads bytes that nobody writes while the handle is borrowed.
unsafe impl Sync for Frame {}

impl Frame {
    /// The caller has just moved frame `index` from a state without a handle into one with.
    #[inline]
    pub(crate) fn new(core: NonNull<Core>, index: u32, offset: u16, len: u16) -> Frame {
        Frame { core, window: Window::new(index, offset, len) }
    }

    /// Bytes of the window.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the window lies within the frame (kept by every method that moves it), regions are initialised, and
        // the handle is the only way to write to them.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len()) }
    }

    /// Bytes of the window, to be written.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` is the only access, and a frame that a device may read is a `SendFrame`.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.len()) }
    }

    /// Length of the window.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.window.len())
    }

    /// Whether the window is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.window.len() == 0
    }

    /// Bytes before the window.
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.window.offset())
    }

    /// Bytes behind the window.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.core().geometry.frame_bytes as usize - self.headroom() - self.len()
    }

    /// Drops up to `count` bytes from the front of the window.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        let count = narrow(count.min(self.len()));
        self.window.set(self.window.offset() + count, self.window.len() - count);
    }

    /// Shortens the window to `len` bytes, if it is longer.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.window.set(self.window.offset(), narrow(len.min(self.len())));
    }

    /// Grows the window at the front and returns the `count` new bytes, which hold whatever was there.
    ///
    /// # Panics
    /// If there is less headroom.
    #[inline]
    pub fn prepend(&mut self, count: usize) -> &mut [u8] {
        assert!(count <= self.headroom(), "no headroom for {count} bytes");
        let count_u16 = narrow(count);
        self.window.set(self.window.offset() - count_u16, self.window.len() + count_u16);
        &mut self.bytes_mut()[..count]
    }

    /// Grows the window at the back and returns the `count` new bytes, which hold whatever was there.
    ///
    /// # Panics
    /// If there is less tailroom.
    #[inline]
    pub fn append(&mut self, count: usize) -> &mut [u8] {
        assert!(count <= self.tailroom(), "no tailroom for {count} bytes");
        let old_len = self.len();
        self.window.set(self.window.offset(), self.window.len() + narrow(count));
        &mut self.bytes_mut()[old_len..]
    }

    /// The tailroom, to be written before [`append`](Frame::append) counts it in; it holds whatever was there.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        // SAFETY: the window ends within the frame, so its end is within or one past the region.
        let start = unsafe { self.start().add(self.len()) };
        // SAFETY: `tailroom` bytes from there are the rest of the frame, initialised; `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.tailroom()) }
    }

    /// Makes the window empty, with `headroom` bytes before it (at most the frame).
    #[inline]
    pub fn reset(&mut self, headroom: usize) {
        self.window.set(narrow(headroom.min(self.core().geometry.frame_bytes as usize)), 0);
    }

    /// Lends the frame to the application: when it leaves its hands, by drop or to be sent, `tag` and `charge_bytes`
    /// appear in [`Pool::poll_released`](crate::Pool::poll_released). Recorded on the pool's thread only.
    #[inline]
    pub fn lend(self, tag: u64, charge_bytes: u32) -> Frame {
        if let Some(owner) = self.core().owner() {
            owner.lend(self.index(), Loan { tag, charge_bytes });
        }
        self
    }

    /// Accounts the frame as on its way to another worker.
    #[inline]
    pub fn hand_off(self) -> Frame {
        if let Some(owner) = self.core().owner() {
            owner.set_state(self.index(), FrameState::HandOff);
        }
        self
    }

    /// Turns the frame into one to be sent.
    #[inline]
    pub fn into_send(self) -> SendFrame {
        if let Some(owner) = self.core().owner() {
            owner.set_state(self.index(), FrameState::Send);
        }
        SendFrame::new(self)
    }

    #[inline]
    pub(crate) fn core(&self) -> &Core {
        // SAFETY: every handle is counted in `Core::handles`, which keeps the core until the handle is dropped.
        unsafe { self.core.as_ref() }
    }

    #[inline]
    pub(crate) fn core_ptr(&self) -> NonNull<Core> {
        self.core
    }

    #[inline]
    pub(crate) fn index(&self) -> u32 {
        self.window.index()
    }

    #[inline]
    pub(crate) fn offset(&self) -> u16 {
        self.window.offset()
    }

    #[inline]
    pub(crate) fn window_len(&self) -> u16 {
        self.window.len()
    }

    #[inline]
    fn start(&self) -> NonNull<u8> {
        let base = self.core().frame_base(self.index());
        // SAFETY: the offset is at most the frame's size.
        unsafe { base.add(self.headroom()) }
    }
}

/// Lengths and offsets within a frame, which is at most 4096 bytes long.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "callers bound the value by the frame size")]
fn narrow(value: usize) -> u16 {
    debug_assert!(value <= 4096);
    value as u16
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle of this frame ends here.
        unsafe { Core::release(self.core, self.index()) };
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("index", &self.index())
            .field("offset", &self.offset())
            .field("len", &self.window_len())
            .finish()
    }
}
