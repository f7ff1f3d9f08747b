//! One direction of a [`MemPort`](crate::MemPort) pair: an SPSC ring of frame descriptors.
//!
//! ```text
//!        reaped         head            published      tail
//! slots ...|.. read by ..|.. waiting for ..|.. written ..|... free ...
//!          |  the peer   |    the peer     |  not kicked |
//! ```
//! Only `head` and `published` are shared. A slot is not overwritten before its frame is reaped, so the sender finds
//! the addresses to complete in its own ring and no second ring is needed. `tests/loom.rs` explores the orderings.

use crate::padded::Padded;
use crate::sync::{Arc, AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

struct Lane<T> {
    slots: Box<[AtomicU64]>,
    mask: u32,
    /// What both ends need to reach, until the later of them is gone.
    shared: T,
    /// Written by the sender.
    published: Padded<AtomicU32>,
    /// Written by the receiver: it is done with all before.
    head: Padded<AtomicU32>,
    sender_gone: AtomicBool,
    receiver_gone: AtomicBool,
}

/// A frame in the ring: address, length, and whether the packet ends with it, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) end_of_packet: bool,
}

const LEN_SHIFT: u32 = 48;
const END_OF_PACKET: u64 = 1 << 63;

impl Descriptor {
    /// Addresses are below 2^36 (`Geometry::MAX_FRAMES` frames of 4 KiB), lengths at most 4096.
    fn pack(self) -> u64 {
        let end = if self.end_of_packet { END_OF_PACKET } else { 0 };
        self.addr | u64::from(self.len) << LEN_SHIFT | end
    }

    fn unpack(word: u64) -> Descriptor {
        Descriptor {
            addr: word & ((1 << LEN_SHIFT) - 1),
            len: (word >> LEN_SHIFT) as u32 & 0x7fff,
            end_of_packet: word & END_OF_PACKET != 0,
        }
    }
}

/// Makes a lane of `capacity` slots, a power of two.
pub(crate) fn lane<T>(capacity: u32, shared: T) -> (Sender<T>, Receiver<T>) {
    assert!(capacity.is_power_of_two() && capacity <= 1 << 30, "ring size must be a power of two");
    let lane = Arc::new(Lane {
        slots: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
        mask: capacity - 1,
        shared,
        published: Padded(AtomicU32::new(0)),
        head: Padded(AtomicU32::new(0)),
        sender_gone: AtomicBool::new(false),
        receiver_gone: AtomicBool::new(false),
    });
    (Sender { lane: Arc::clone(&lane), tail: 0, reaped: 0 }, Receiver { lane, head: 0, published: 0 })
}

/// The sending end.
pub(crate) struct Sender<T> {
    lane: Arc<Lane<T>>,
    tail: u32,
    reaped: u32,
}

/// A frame that came out of the ring.
pub(crate) struct Reaped {
    pub(crate) addr: u64,
    /// The packet ended with it and nobody read it.
    pub(crate) lost_packet: bool,
}

impl<T> Sender<T> {
    pub(crate) fn capacity(&self) -> u32 {
        self.lane.mask + 1
    }

    /// Free slots.
    pub(crate) fn room(&self) -> u32 {
        self.capacity() - self.tail.wrapping_sub(self.reaped)
    }

    pub(crate) fn shared(&self) -> &T {
        &self.lane.shared
    }

    /// Writes the next slot; the caller has checked `room`.
    pub(crate) fn push(&mut self, descriptor: Descriptor) {
        debug_assert!(self.room() > 0);
        let slot = &self.lane.slots[(self.tail & self.lane.mask) as usize];
        slot.store(descriptor.pack(), Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows everything pushed to the receiver; true if there was something new, and the receiver may need waking.
    pub(crate) fn publish(&mut self) -> bool {
        let published = &self.lane.published.0;
        if published.load(Ordering::Relaxed) == self.tail {
            return false;
        }
        // Release, pairs with the Acquire in `Receiver::peek`: slots and bytes are written.
        published.store(self.tail, Ordering::Release);
        // SeqCst, pairs with the fence of a receiver that has set its "asleep" flag and looks once more: either it
        // sees these packets or the caller sees the flag.
        fence(Ordering::SeqCst);
        true
    }

    /// Whether the receiver has yet to read something.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.receiver_is_gone() && self.lane.head.0.load(Ordering::Relaxed) != self.tail
    }

    pub(crate) fn receiver_is_gone(&self) -> bool {
        // Acquire, pairs with the Release in `Receiver::drop`: it has read its last byte.
        self.lane.receiver_gone.load(Ordering::Acquire)
    }

    /// The next frame that the receiver has read, or will never read.
    pub(crate) fn reap(&mut self) -> Option<Reaped> {
        if self.reaped == self.tail {
            return None;
        }
        let gone = self.receiver_is_gone();
        // Acquire, pairs with the Release in `Receiver::release`: the receiver has read the bytes.
        let head = self.lane.head.0.load(Ordering::Acquire);
        let unread = self.tail.wrapping_sub(self.reaped) <= self.tail.wrapping_sub(head);
        if unread && !gone {
            return None;
        }
        let slot = &self.lane.slots[(self.reaped & self.lane.mask) as usize];
        let descriptor = Descriptor::unpack(slot.load(Ordering::Relaxed));
        self.reaped = self.reaped.wrapping_add(1);
        Some(Reaped { addr: descriptor.addr, lost_packet: unread && descriptor.end_of_packet })
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release, pairs with the Acquire in `Receiver::sender_is_gone`: all it published is visible.
        self.lane.sender_gone.store(true, Ordering::Release);
    }
}

/// The receiving end.
pub(crate) struct Receiver<T> {
    lane: Arc<Lane<T>>,
    head: u32,
    /// What `lane.published` was when last looked at.
    published: u32,
}

impl<T> Receiver<T> {
    /// The descriptor `ahead` places behind the oldest, if published.
    pub(crate) fn peek(&mut self, ahead: u32) -> Option<Descriptor> {
        if self.published.wrapping_sub(self.head) <= ahead {
            // Acquire, pairs with the Release in `Sender::publish`.
            self.published = self.lane.published.0.load(Ordering::Acquire);
            if self.published.wrapping_sub(self.head) <= ahead {
                return None;
            }
        }
        let slot = &self.lane.slots[(self.head.wrapping_add(ahead) & self.lane.mask) as usize];
        Some(Descriptor::unpack(slot.load(Ordering::Relaxed)))
    }

    pub(crate) fn shared(&self) -> &T {
        &self.lane.shared
    }

    /// Is done with the oldest `count` descriptors; the sender learns it with the next `flush`.
    pub(crate) fn release(&mut self, count: u32) {
        self.head = self.head.wrapping_add(count);
    }

    /// Lets the sender complete what was released.
    pub(crate) fn flush(&mut self) {
        // Release, pairs with the Acquire in `Sender::reap`: the bytes have been read.
        self.lane.head.0.store(self.head, Ordering::Release);
    }

    pub(crate) fn sender_is_gone(&self) -> bool {
        // Acquire, pairs with the Release in `Sender::drop`.
        self.lane.sender_gone.load(Ordering::Acquire)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Release, pairs with the Acquire in `Sender::receiver_is_gone`: the last byte has been read.
        self.lane.receiver_gone.store(true, Ordering::Release);
    }
}
