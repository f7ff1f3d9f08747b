//! The heart of a pool: frame states, the free list, accounts; shared by the pool and all its handles.
//!
//! Who touches what:
//!
//! | data                                   | owner thread     | other threads                            |
//! |----------------------------------------|------------------|------------------------------------------|
//! | `Local`: states, free list, loans      | reads and writes | never: `owner()` answers `None`          |
//! | `counts`                               | the only writer  | may read, exact sums on the owner only   |
//! | bytes of a frame with a handle         | if it holds it   | if they hold it; read-only in a ring     |
//! | `elsewhere`: return ring, handle count | pops; closes     | push; release                            |
//! | geometry, floors, region               | read-only        | read-only                                |
//!
//! A pool has no owner until `adopt`. The owner may pop and push frames without a single atomic operation because
//! [`Owner`], the key to `Local`, can only be made on that thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::account::{Class, Counts, Floors, FrameState, Geometry};
use crate::liveness::Handles;
use crate::owner::{NOBODY, this_thread};
use crate::padded::Padded;
use crate::region::Region;
use crate::return_ring::ReturnRing;

/// End of the free list.
const NONE: u32 = u32::MAX;

/// Shared part of a pool. Lives in a `Box` that [`Core::release`] or [`Core::close`] frees.
pub(crate) struct Core {
    pub(crate) region: Region,
    pub(crate) geometry: Geometry,
    pub(crate) floors: Floors,
    frame_shift: u32,
    /// Fewer free and filling frames than this are few, more held ones than that are many: see [`Pool::is_low`](crate::Pool::is_low).
    pub(crate) low_frames: u32,
    pub(crate) crowd_frames: u32,
    /// Thread that may use `local`; see `owner.rs`.
    owner: AtomicU64,
    counts: [AtomicU32; FrameState::COUNT],
    local: OwnerOnly<Local>,
    elsewhere: Padded<Elsewhere>,
}

/// What threads that do not own the pool write, in cache lines of its own: everything else in `Core` is written by
/// the owner only.
struct Elsewhere {
    returns: ReturnRing,
    handles: Handles,
}

/// State that only the owner thread touches.
pub(crate) struct Local {
    frames: Box<[Meta]>,
    free_head: Cell<u32>,
    /// How many frames have come home through `returns`.
    reclaimed: Cell<u64>,
    released: RefCell<VecDeque<Loan>>,
    protocol_errors: Cell<u64>,
}

/// What the pool knows about one frame.
struct Meta {
    /// Meaningful in state App.
    loan: Cell<Loan>,
    /// Next free frame, in state Free.
    next: Cell<u32>,
    /// Who holds the frame in states Fill, SendInRing and Orphan.
    device: Cell<u32>,
    state: Cell<FrameState>,
}

const _: () = assert!(size_of::<Meta>() <= 32, "two frames' metadata share a cache line");

/// Something lent to the application: whose it is and what it is charged with.
#[derive(Clone, Copy, Default)]
pub(crate) struct Loan {
    pub(crate) tag: u64,
    pub(crate) charge_bytes: u32,
}

/// Data behind the owner check.
struct OwnerOnly<T>(T);

// SAFETY: the inner value is reached only through `get`, whose caller has proven to be the only thread using it.
unsafe impl<T: Send> Sync for OwnerOnly<T> {}

impl<T> OwnerOnly<T> {
    /// # Safety
    /// The calling thread is the only one that may use the value while the reference lives.
    unsafe fn get(&self) -> &T {
        &self.0
    }
}

/// Proof that the current thread owns the pool; the only way to [`Local`].
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    core: &'a Core,
    local: &'a Local,
    _stays_on_thread: PhantomData<*const ()>,
}

impl Core {
    pub(crate) fn new(region: Region, geometry: Geometry, floors: Floors) -> NonNull<Core> {
        let count = geometry.frame_count;
        let reserved = floors.control_frames.saturating_add(floors.receive_frames);
        let core = Core {
            region,
            geometry,
            floors,
            frame_shift: geometry.frame_bytes.trailing_zeros(),
            low_frames: floors.control_frames.saturating_add(floors.receive_frames / 2),
            crowd_frames: count.saturating_sub(reserved) / 2,
            owner: AtomicU64::new(NOBODY),
            counts: Default::default(),
            local: OwnerOnly(Local::new(count)),
            elsewhere: Padded(Elsewhere { returns: ReturnRing::new(count), handles: Handles::new() }),
        };
        core.counts[FrameState::Free as usize].store(count, Ordering::Relaxed);
        NonNull::from(Box::leak(Box::new(core)))
    }

    /// The key to the pool's books, on the owner thread only.
    #[inline]
    pub(crate) fn owner(&self) -> Option<Owner<'_>> {
        // Relaxed: only the owner itself can read its own id here, and it wrote it.
        if self.owner.load(Ordering::Relaxed) != this_thread() {
            return None;
        }
        // SAFETY: the id of this thread is in `owner`, ids are never reused, and `owner` changes hands only after the
        // previous thread has given up its id (`owner.rs`) or in `close`, on this thread.
        let local = unsafe { self.local.get() };
        Some(Owner { core: self, local, _stays_on_thread: PhantomData })
    }

    /// Makes the thread with this id the owner.
    ///
    /// # Safety
    /// No other thread owns the pool, or the one that did has given up its id and that is visible here.
    pub(crate) unsafe fn set_owner(&self, thread: u64) {
        self.owner.store(thread, Ordering::Relaxed);
    }

    pub(crate) fn is_adopted(&self) -> bool {
        self.owner.load(Ordering::Relaxed) != NOBODY
    }

    pub(crate) fn counts(&self) -> Counts {
        // Relaxed: exact on the owner thread, a snapshot for metrics elsewhere.
        let by_state = std::array::from_fn(|state| self.counts[state].load(Ordering::Relaxed));
        Counts::new(by_state, self.geometry.frame_count)
    }

    pub(crate) fn count(&self, state: FrameState) -> u32 {
        self.counts[state as usize].load(Ordering::Relaxed)
    }

    /// Address of a frame's first byte within the region.
    #[inline]
    pub(crate) fn frame_addr(&self, index: u32) -> u64 {
        u64::from(index) << self.frame_shift
    }

    /// Frame index and offset within it, if the address lies in the region.
    #[inline]
    pub(crate) fn locate(&self, addr: u64) -> Option<(u32, u32)> {
        let index = u32::try_from(addr >> self.frame_shift).ok()?;
        if index >= self.geometry.frame_count {
            return None;
        }
        let offset = addr & u64::from(self.geometry.frame_bytes - 1);
        u32::try_from(offset).ok().map(|offset| (index, offset))
    }

    /// First byte of a frame.
    #[inline]
    pub(crate) fn frame_base(&self, index: u32) -> NonNull<u8> {
        debug_assert!(index < self.geometry.frame_count);
        let offset = (index as usize) << self.frame_shift;
        // SAFETY: the index is below `frame_count` (handles are made for such only) and `Pool::new` checked that the
        // region is at least `frame_count` frames long.
        unsafe { self.region.base().add(offset) }
    }

    /// A handle is gone: the frame goes home, from whatever thread this is.
    ///
    /// # Safety
    /// The caller holds the handle of frame `index` of `core` and gives it up with this call.
    pub(crate) unsafe fn release(core: NonNull<Core>, index: u32) {
        // SAFETY: the caller's handle is counted in `handles`, so the core lives until `handles.release` below.
        let this = unsafe { core.as_ref() };
        if let Some(owner) = this.owner() {
            owner.take_back(index);
            return;
        }
        this.elsewhere.0.returns.push(index);
        if this.elsewhere.0.handles.release() {
            // SAFETY: `release` said that this was the last handle and that the pool is closed.
            unsafe { Core::free(core) };
        }
    }

    /// The pool is gone; the handles that remain keep the memory until they are gone, too.
    ///
    /// # Safety
    /// Called once, by a thread that no other thread can compete with for `local`: the owner, or the thread that
    /// `Custody` appointed, or the holder of a pool that was never adopted. The pool is not used afterwards.
    pub(crate) unsafe fn close(core: NonNull<Core>) {
        // SAFETY: not closed before, so the memory is still there.
        let this = unsafe { core.as_ref() };
        // SAFETY: the caller promises to be the only one using `local`.
        let local = unsafe { this.local.get() };
        // A handle is made when its frame enters one of these states, and the frame leaves them when the handle is
        // dropped here or, dropped elsewhere, reclaimed. So this is: handles made less those dropped here.
        let with_handle: u32 =
            FrameState::ALL.iter().filter(|state| state.has_handle()).map(|&of| this.count(of)).sum();
        let granted = i64::from(with_handle) + local.reclaimed.get().cast_signed();
        // Relaxed: only this thread could still take itself for the owner.
        this.owner.store(NOBODY, Ordering::Relaxed);
        if this.elsewhere.0.handles.close(granted) {
            // SAFETY: `close` said that no handle is left.
            unsafe { Core::free(core) };
        }
    }

    /// # Safety
    /// Nobody else uses the core any more.
    unsafe fn free(core: NonNull<Core>) {
        // SAFETY: made by `Box::leak` in `new`, freed once as `Handles` says so once.
        drop(unsafe { Box::from_raw(core.as_ptr()) });
    }
}

impl Local {
    fn new(frame_count: u32) -> Local {
        let meta = |index: u32| Meta {
            loan: Cell::default(),
            next: Cell::new(if index + 1 < frame_count { index + 1 } else { NONE }),
            device: Cell::new(0),
            state: Cell::new(FrameState::Free),
        };
        Local {
            frames: (0..frame_count).map(meta).collect(),
            free_head: Cell::new(0),
            reclaimed: Cell::new(0),
            released: RefCell::default(),
            protocol_errors: Cell::new(0),
        }
    }
}

impl Owner<'_> {
    #[inline]
    fn meta(&self, index: u32) -> &Meta {
        &self.local.frames[index as usize]
    }

    #[inline]
    pub(crate) fn state(&self, index: u32) -> FrameState {
        self.meta(index).state.get()
    }

    /// Moves a frame to another state. A frame that leaves the application's hands reports its loan.
    #[inline]
    pub(crate) fn set_state(&self, index: u32, to: FrameState) {
        let meta = self.meta(index);
        let from = meta.state.replace(to);
        if from != to {
            let (from_count, to_count) = (&self.core.counts[from as usize], &self.core.counts[to as usize]);
            // Relaxed load and store instead of an atomic addition: there is one writer.
            from_count.store(from_count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
            to_count.store(to_count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        if from == FrameState::App {
            self.end_loan(meta);
        }
    }

    /// Kept out of `set_state`, which is inlined in many places.
    #[inline(never)]
    fn end_loan(&self, meta: &Meta) {
        self.local.released.borrow_mut().push_back(meta.loan.take());
    }

    pub(crate) fn lend(&self, index: u32, loan: Loan) {
        self.set_state(index, FrameState::App);
        self.meta(index).loan.set(loan);
    }

    pub(crate) fn poll_released(&self) -> Option<Loan> {
        self.local.released.borrow_mut().pop_front()
    }

    /// Whether an allocation of this class may take one more frame.
    #[inline]
    pub(crate) fn permits(&self, class: Class) -> bool {
        let (free, floors) = (self.core.count(FrameState::Free), self.core.floors);
        match class {
            Class::Control => free > 0,
            Class::Receive => free > floors.control_frames,
            Class::Send => {
                let receiving = self.core.count(FrameState::Fill) + self.core.count(FrameState::Rx);
                let reserved = floors.receive_frames.saturating_sub(receiving);
                free > floors.control_frames.saturating_add(reserved)
            }
        }
    }

    /// Takes a free frame into `to`.
    #[inline]
    pub(crate) fn take_free(&self, to: FrameState) -> Option<u32> {
        let index = self.local.free_head.get();
        if index == NONE {
            return None;
        }
        self.local.free_head.set(self.meta(index).next.get());
        self.set_state(index, to);
        Some(index)
    }

    #[inline]
    pub(crate) fn put_free(&self, index: u32) {
        self.set_state(index, FrameState::Free);
        self.meta(index).next.set(self.local.free_head.replace(index));
    }

    /// A handle is gone: its frame is free, or an orphan while a device may read it.
    fn take_back(&self, index: u32) {
        match self.state(index) {
            FrameState::SendInRing => self.set_state(index, FrameState::Orphan),
            FrameState::Rx | FrameState::App | FrameState::Send | FrameState::HandOff => self.put_free(index),
            // `FrameState::has_handle`: none that could have been dropped.
            FrameState::Free | FrameState::Fill | FrameState::Orphan => debug_assert!(false, "no handle"),
        }
    }

    /// Takes in what other threads dropped.
    #[inline]
    pub(crate) fn reclaim(&self) {
        while let Some(index) = self.core.elsewhere.0.returns.pop(self.local.reclaimed.get()) {
            self.local.reclaimed.set(self.local.reclaimed.get() + 1);
            self.take_back(index);
        }
    }

    /// Whether `device` holds the frame in `state`.
    #[inline]
    pub(crate) fn is_held(&self, index: u32, device: u32, state: FrameState) -> bool {
        let meta = self.meta(index);
        meta.state.get() == state && meta.device.get() == device
    }

    pub(crate) fn set_device(&self, index: u32, device: u32) {
        self.meta(index).device.set(device);
    }

    pub(crate) fn count_protocol_error(&self) {
        self.local.protocol_errors.set(self.local.protocol_errors.get() + 1);
    }

    pub(crate) fn protocol_errors(&self) -> u64 {
        self.local.protocol_errors.get()
    }
}
