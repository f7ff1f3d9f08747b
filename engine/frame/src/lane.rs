//! One direction of a [`MemPort`](crate::MemPort) pair: an SPSC ring of frame descriptors over the sender's region.
//!
//! ```text
//!        reaped         head            published      tail
//! slots ...|.. read by ..|.. waiting for ..|.. written ..|... free ...
//!          |  the peer   |    the peer     |  not kicked |
//! ```
//! Only `head` and `published` are shared. A slot is not overwritten before its frame is reaped, so the sender finds
//! the addresses to complete in its own ring and no second ring is needed.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::region::Region;

/// Called when the other side has published packets; see [`MemPort::set_wake`](crate::MemPort::set_wake).
pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

/// Keeps what two cores write in different cache lines, and their adjacent-line prefetchers apart.
#[repr(align(128))]
struct Padded<T>(T);

struct Lane {
    slots: Box<[AtomicU64]>,
    mask: u32,
    /// The sender's memory; kept here so that the receiver may read it whatever becomes of the sender.
    region: Region,
    /// Written by the sender.
    published: Padded<AtomicU32>,
    /// Written by the receiver: it is done with all before.
    head: Padded<AtomicU32>,
    sender_gone: AtomicBool,
    receiver_gone: AtomicBool,
    /// Set by the receiver.
    wake: OnceLock<Wake>,
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
    /// Addresses are below 2^36 (`MAX_FRAMES` frames of 4 KiB), lengths at most 4096.
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

/// Makes a lane of `capacity` slots (a power of two) over the sender's region.
pub(crate) fn lane(capacity: u32, region: Region) -> (Sender, Receiver) {
    assert!(capacity.is_power_of_two() && capacity <= 1 << 30, "ring size must be a power of two");
    let lane = Arc::new(Lane {
        slots: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
        mask: capacity - 1,
        region,
        published: Padded(AtomicU32::new(0)),
        head: Padded(AtomicU32::new(0)),
        sender_gone: AtomicBool::new(false),
        receiver_gone: AtomicBool::new(false),
        wake: OnceLock::new(),
    });
    (Sender { lane: Arc::clone(&lane), tail: 0, reaped: 0 }, Receiver { lane, head: 0, published: 0 })
}

/// The sending end.
pub(crate) struct Sender {
    lane: Arc<Lane>,
    tail: u32,
    reaped: u32,
}

/// A frame that came out of the ring.
pub(crate) struct Reaped {
    pub(crate) addr: u64,
    /// The packet ended with it and nobody read it.
    pub(crate) lost_packet: bool,
}

impl Sender {
    pub(crate) fn capacity(&self) -> u32 {
        self.lane.mask + 1
    }

    /// Free slots.
    pub(crate) fn room(&self) -> u32 {
        self.capacity() - self.tail.wrapping_sub(self.reaped)
    }

    pub(crate) fn region(&self) -> &Region {
        &self.lane.region
    }

    /// Writes the next slot; the caller has checked `room`.
    pub(crate) fn push(&mut self, descriptor: Descriptor) {
        debug_assert!(self.room() > 0);
        let slot = &self.lane.slots[(self.tail & self.lane.mask) as usize];
        slot.store(descriptor.pack(), Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows everything pushed to the receiver and wakes it; true if there was something new.
    pub(crate) fn publish(&mut self) -> bool {
        let published = &self.lane.published.0;
        if published.load(Ordering::Relaxed) == self.tail {
            return false;
        }
        // Release, pairs with the Acquire in `Receiver::peek`: slots and bytes are written.
        published.store(self.tail, Ordering::Release);
        if let Some(wake) = self.lane.wake.get() {
            wake();
        }
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

impl Drop for Sender {
    fn drop(&mut self) {
        // Release, pairs with the Acquire in `Receiver::sender_is_gone`: all it published is visible.
        self.lane.sender_gone.store(true, Ordering::Release);
    }
}

/// The receiving end.
pub(crate) struct Receiver {
    lane: Arc<Lane>,
    head: u32,
    /// What `lane.published` was when last looked at.
    published: u32,
}

impl Receiver {
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

    /// Bytes of a peeked descriptor, until it is released.
    pub(crate) fn bytes(&self, descriptor: Descriptor) -> &[u8] {
        debug_assert!(descriptor.addr + u64::from(descriptor.len) <= self.lane.region.len() as u64);
        // SAFETY: the sender's pool made address and length (`Pool::submit_addr`), so they lie in its region.
        let start = unsafe { self.lane.region.base().add(descriptor.addr as usize) };
        // SAFETY: the frame is in state SendInRing, which makes its bytes read-only until `release` lets the sender
        // complete it (`release` takes `&mut self`, so no slice outlives it); the lane keeps the region.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), descriptor.len as usize) }
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

    /// Has `wake` called whenever the sender publishes; only the first call counts.
    pub(crate) fn set_wake(&self, wake: Wake) -> bool {
        self.lane.wake.set(wake).is_ok()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Release, pairs with the Acquire in `Sender::receiver_is_gone`: the last byte has been read.
        self.lane.receiver_gone.store(true, Ordering::Release);
    }
}
