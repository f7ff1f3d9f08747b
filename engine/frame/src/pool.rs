//! The pool: one worker's frames, their allocation within the floors, and their travels through devices.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::account::{Class, Counts, Floors, FrameState, Geometry};
use crate::core::{Core, Owner};
use crate::frame::Frame;
use crate::liveness::Custody;
use crate::owner;
use crate::region::Region;
use crate::send::SendFrame;

static LAST_DEVICE: AtomicU32 = AtomicU32::new(0);

/// Name of something that holds frames by address: one per port, see [`Pool::attach`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device(u32);

/// The frames of one worker.
///
/// A pool is made anywhere and belongs to the first thread that [adopts](Pool::adopt) it; no frame exists before.
/// On any other thread every method that hands out or takes in frames does nothing (and asserts in debug builds).
/// It may be dropped anywhere and before its frames: the memory stays until the last handle is gone. When it is
/// dropped on a thread that is not the owner, the memory stays at least until the owner thread ends.
///
/// ```
/// use ringwire_frame::{Class, Floors, FrameState, Geometry, Pool, Region};
///
/// let geometry = Geometry { frame_bytes: 2048, frame_count: 64 };
/// let mut pool = Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(64));
/// pool.adopt();
/// let mut frame = pool.alloc(Class::Send).expect("a fresh pool has frames");
/// frame.reset(64); // headroom for headers
/// frame.append(5).copy_from_slice(b"hello");
/// let frame = frame.into_send();
/// assert_eq!(pool.counts().of(FrameState::Send), 1);
/// drop(frame);
/// assert_eq!(pool.free(), 64);
/// ```
pub struct Pool {
    core: NonNull<Core>,
    custody: Arc<Custody>,
}

// SAFETY: the pool is a pointer to a `Core` that it keeps alive; what must stay on one thread is behind `Core::owner`.
unsafe impl Send for Pool {}
// SAFETY: `&Pool` offers counts (atomics), constants, and what `Core::owner` guards.
unsafe impl Sync for Pool {}

impl Pool {
    /// Cuts `region` into frames.
    ///
    /// # Panics
    /// If the geometry is invalid, the region is too short for it, or another pool has been made over the region.
    pub fn new(region: Region, geometry: Geometry, floors: Floors) -> Pool {
        assert!(geometry.is_valid(), "invalid geometry: {geometry:?}");
        assert!(region.len() >= geometry.region_bytes(), "{region:?} is too short for {geometry:?}");
        assert!(region.claim(), "the region already belongs to a pool");
        Pool { core: Core::new(region, geometry, floors), custody: Arc::new(Custody::new()) }
    }

    /// Binds the pool to the calling thread. Adopting again on the same thread does nothing.
    ///
    /// # Panics
    /// If another thread that has not ended owns the pool.
    pub fn adopt(&mut self) {
        if self.core().owner().is_some() {
            return;
        }
        assert!(!self.core().is_adopted() || self.custody.has_exited(), "another thread owns this pool");
        self.custody = Arc::new(Custody::new());
        let number =
            owner::enlist(self.core, &self.custody).expect("a thread that is ending cannot adopt a pool");
        // SAFETY: never adopted, or `has_exited` said that the last owner gave up its number.
        unsafe { self.core().set_owner(number) };
    }

    /// Whether [`Pool::alloc`] would give a frame of this class now.
    #[inline]
    pub fn can_alloc(&mut self, class: Class) -> bool {
        let Some(owner) = self.owner() else { return false };
        Self::has_frame(owner, class)
    }

    #[inline]
    fn has_frame(owner: Owner<'_>, class: Class) -> bool {
        owner.permits(class) || Self::has_frame_after_reclaiming(owner, class)
    }

    #[cold]
    fn has_frame_after_reclaiming(owner: Owner<'_>, class: Class) -> bool {
        owner.reclaim();
        owner.permits(class)
    }

    /// A frame with an empty window at its start, if the class may have one.
    ///
    /// When the pool seems exhausted, frames that came back from other threads are taken in first.
    #[inline]
    pub fn alloc(&mut self, class: Class) -> Option<Frame> {
        let owner = self.owner()?;
        if !Self::has_frame(owner, class) {
            return None;
        }
        let state = match class {
            Class::Receive => FrameState::Rx,
            Class::Control | Class::Send => FrameState::Send,
        };
        let index = owner.take_free(state)?;
        Some(Frame::new(self.core, index, 0, 0))
    }

    /// Frames by state. Exact on the owner thread; elsewhere a snapshot that may be in motion.
    pub fn counts(&self) -> Counts {
        self.core().counts()
    }

    /// Number of free frames.
    pub fn free(&self) -> u32 {
        self.core().count(FrameState::Free)
    }

    /// Takes in the frames that other threads dropped.
    #[inline]
    pub fn reclaim(&mut self) {
        if let Some(owner) = self.owner() {
            owner.reclaim();
        }
    }

    /// The next loan that ended, as `(tag, charge_bytes)` given to [`Frame::lend`].
    pub fn poll_released(&mut self) -> Option<(u64, u32)> {
        self.owner()?.poll_released().map(|loan| (loan.tag, loan.charge_bytes))
    }

    /// Whether held frames begin to starve the devices: free and filling frames together have fallen below half the
    /// receive floor above the control floor. Time to copy out what is held.
    pub fn is_low(&self) -> bool {
        let core = self.core();
        core.count(FrameState::Free) + core.count(FrameState::Fill) < core.low_frames
    }

    /// Whether received frames that are held have taken more than half of what the floors leave: time to copy out what is
    /// held, before the send side goes without. It would for as long as the holders like, because device rings refill first.
    pub fn is_crowded(&self) -> bool {
        let core = self.core();
        core.count(FrameState::Rx) + core.count(FrameState::App) > core.crowd_frames
    }

    /// How the region is cut.
    pub fn geometry(&self) -> Geometry {
        self.core().geometry
    }

    /// Size of one frame.
    pub fn frame_bytes(&self) -> usize {
        self.core().geometry.frame_bytes as usize
    }

    /// The memory of the frames.
    pub fn region(&self) -> &Region {
        &self.core().region
    }

    /// Addresses from devices that were out of range or named a frame the device did not hold; each was ignored.
    pub fn protocol_errors(&self) -> u64 {
        self.core().owner().map_or(0, |owner| owner.protocol_errors())
    }

    fn core(&self) -> &Core {
        // SAFETY: the core is freed after `close` only, and the pool closes it when it is dropped.
        unsafe { self.core.as_ref() }
    }

    fn owner(&self) -> Option<Owner<'_>> {
        let owner = self.core().owner();
        debug_assert!(owner.is_some(), "pool used before adopt(), or on a thread that does not own it");
        owner
    }
}

/// For implementors of [`Port`](crate::Port): frames by address.
impl Pool {
    /// A name for a new device, unique in the process.
    pub fn attach(&self) -> Device {
        // Relaxed: the names only have to differ.
        Device(LAST_DEVICE.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
    }

    /// Gives a free frame to a device to receive into (Free -> Fill) and returns the address of its first byte.
    ///
    /// Idle frames in fill rings stop at the receive floor, so that a large ring cannot starve the send side.
    pub fn fill_addr(&mut self, device: Device) -> Option<u64> {
        let owner = self.owner()?;
        if self.core().count(FrameState::Fill) >= self.core().floors.receive_frames
            || !owner.permits(Class::Receive)
        {
            return None;
        }
        let index = owner.take_free(FrameState::Fill)?;
        owner.set_device(index, device.0);
        Some(self.core().frame_addr(index))
    }

    /// Takes a received packet from a device (Fill -> Rx). `addr` is its first byte, wherever in the frame.
    ///
    /// `None`, counted as a protocol error, if the device does not hold a frame there or the packet leaves the frame.
    ///
    /// # Safety
    /// `device` returned this address: it no longer accesses the frame.
    #[inline]
    pub unsafe fn received(&mut self, device: Device, addr: u64, len: u32) -> Option<Frame> {
        let owner = self.owner()?;
        let Some((index, offset)) = self.held(owner, device, addr, FrameState::Fill) else {
            owner.count_protocol_error();
            return None;
        };
        let window = self.window(offset, len);
        let Some((offset, len)) = window else {
            owner.count_protocol_error();
            owner.put_free(index);
            return None;
        };
        owner.set_state(index, FrameState::Rx);
        Some(Frame::new(self.core, index, offset, len))
    }

    /// Takes back a frame the device did not use (Fill -> Free). False, counted, if the device does not hold it.
    ///
    /// # Safety
    /// `device` returned this address: it no longer accesses the frame.
    pub unsafe fn unfill(&mut self, device: Device, addr: u64) -> bool {
        let Some(owner) = self.owner() else { return false };
        let Some((index, _)) = self.held(owner, device, addr, FrameState::Fill) else {
            owner.count_protocol_error();
            return false;
        };
        owner.put_free(index);
        true
    }

    /// Whether [`submit_addr`](Pool::submit_addr) would accept the frame: it is of this pool and not in a ring.
    pub fn can_submit(&self, frame: &SendFrame) -> bool {
        frame.core() == self.core && !frame.in_ring()
    }

    /// Marks a frame as submitted (-> SendInRing) and returns address and length of its window for the device.
    ///
    /// `None`, counted as a protocol error, if it is of another pool or already in a ring.
    pub fn submit_addr(&mut self, device: Device, frame: &SendFrame) -> Option<(u64, u32)> {
        let submitted = self.try_submit_addr(device, frame);
        if submitted.is_none() {
            self.owner()?.count_protocol_error();
        }
        submitted
    }

    /// [`Pool::submit_addr`] for a port that counts refusals itself.
    #[inline]
    pub(crate) fn try_submit_addr(&mut self, device: Device, frame: &SendFrame) -> Option<(u64, u32)> {
        let owner = self.owner()?;
        if !self.can_submit(frame) {
            return None;
        }
        owner.set_state(frame.index(), FrameState::SendInRing);
        owner.set_device(frame.index(), device.0);
        let addr = self.core().frame_addr(frame.index()) + u64::from(frame.offset());
        Some((addr, u32::from(frame.window_len())))
    }

    /// Takes a completion (SendInRing -> Send, Orphan -> Free) for any address within the frame. False, counted, if
    /// the device does not hold a frame there.
    ///
    /// # Safety
    /// `device` returned this address: it no longer reads the frame.
    pub unsafe fn complete(&mut self, device: Device, addr: u64) -> bool {
        let Some(owner) = self.owner() else { return false };
        if let Some((index, _)) = self.held(owner, device, addr, FrameState::SendInRing) {
            owner.set_state(index, FrameState::Send);
        } else if let Some((index, _)) = self.held(owner, device, addr, FrameState::Orphan) {
            owner.put_free(index);
        } else {
            owner.count_protocol_error();
            return false;
        }
        true
    }

    /// Takes back everything a device still holds, when it is gone; returns how many frames that were.
    ///
    /// # Safety
    /// `device` is gone: it accesses no frame any more, whether it had returned it or not.
    pub unsafe fn detach(&mut self, device: Device) -> usize {
        let Some(owner) = self.owner() else { return 0 };
        let mut taken = 0;
        for index in 0..self.core().geometry.frame_count {
            if owner.is_held(index, device.0, FrameState::SendInRing) {
                owner.set_state(index, FrameState::Send);
            } else if owner.is_held(index, device.0, FrameState::Orphan)
                || owner.is_held(index, device.0, FrameState::Fill)
            {
                owner.put_free(index);
            } else {
                continue;
            }
            taken += 1;
        }
        taken
    }

    fn held(&self, owner: Owner<'_>, device: Device, addr: u64, state: FrameState) -> Option<(u32, u32)> {
        self.core().locate(addr).filter(|&(index, _)| owner.is_held(index, device.0, state))
    }

    fn window(&self, offset: u32, len: u32) -> Option<(u16, u16)> {
        if len > self.core().geometry.frame_bytes - offset {
            return None;
        }
        Some((u16::try_from(offset).ok()?, u16::try_from(len).ok()?))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.core().owner().is_some() {
            owner::delist(&self.custody);
        } else if self.core().is_adopted() && !self.custody.pool_dropped() {
            // The owner thread still runs and may hold handles; it closes the pool when it ends.
            return;
        }
        // SAFETY: this is the owner, or the owner thread has ended (`pool_dropped`), or there never was one and no
        // handle exists; and the pool is going away.
        unsafe { Core::close(self.core) };
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("geometry", &self.geometry()).field("counts", &self.counts()).finish()
    }
}
