//! A pair of ports in memory: a cable between two workers, or between two stacks in one thread.
//!
//! One copy per packet: the receiver copies out of the sender's frame, which is in state SendInRing meanwhile, into a
//! frame of its own fill stock. It behaves like a NIC queue where that can be observed: nothing leaves before the
//! kick, a packet that finds too few fill frames is dropped and counted at the receiver while the sender's frames
//! complete all the same, received packets have [`RX_HEADROOM`] bytes before them.

mod far_end;

use std::fmt;
use std::sync::OnceLock;

use crate::lane::{Descriptor, Receiver, Sender, lane};
use crate::pool::{Device, Pool};
use crate::port::{Kick, Packet, Port, PortStats, TxFull};
use crate::region::Region;
use crate::{Frame, SendFrame};

pub use far_end::{FarEnd, PutError};

/// Headroom of received packets; the same as XDP leaves.
pub const RX_HEADROOM: usize = 256;

/// One end of an in-memory link.
///
/// Ends may live on different threads or in one. Frames that are in its rings when it is dropped stay accounted as
/// such until their pool goes.
///
/// ```
/// use ringwire_frame::{Class, Floors, Geometry, Kick, MemPort, Pool, Port, Region};
///
/// let geometry = Geometry { frame_bytes: 2048, frame_count: 64 };
/// let pool = || Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(64));
/// let (mut pool_a, mut pool_b) = (pool(), pool());
/// let (mut a, mut b) = MemPort::pair(16, &pool_a, &pool_b);
/// pool_a.adopt();
/// pool_b.adopt();
/// b.refill(&mut pool_b);
///
/// let mut frame = pool_a.alloc(Class::Send).expect("a fresh pool has frames");
/// frame.append(5).copy_from_slice(b"hello");
/// let frame = frame.into_send();
/// a.submit(&mut pool_a, &frame).expect("the ring is empty");
/// assert_eq!(a.kick(), Kick::Pending);
///
/// let mut packets = Vec::new();
/// b.receive(&mut pool_b, &mut packets, 64);
/// assert_eq!(packets[0].head.bytes(), b"hello");
/// assert_eq!(a.reap(&mut pool_a), 1);
/// assert!(!frame.in_ring());
/// ```
pub struct MemPort {
    tx: Sender<Cable>,
    rx: Receiver<Cable>,
    device: Device,
    /// Addresses of frames in state Fill; the last given is the first used, as its lines are the warmest.
    fill: Vec<u64>,
    ring_frames: usize,
    /// Payload of one received frame.
    room_bytes: usize,
    stats: PortStats,
}

/// What a [`MemPort`] must know of its pool; good for one port.
#[derive(Debug)]
pub struct Plug {
    region: Region,
    frame_bytes: usize,
    device: Device,
}

impl Plug {
    /// For a port over `pool`.
    pub fn new(pool: &Pool) -> Plug {
        Plug { region: pool.region().clone(), frame_bytes: pool.frame_bytes(), device: pool.attach() }
    }
}

/// What both ends of one direction reach.
struct Cable {
    /// The sender's memory; kept here so that the receiver may read it whatever becomes of the sender.
    region: Region,
    /// Set by the receiver, called by the sender.
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Cable {
    fn new(region: &Region) -> Cable {
        Cable { region: region.clone(), wake: OnceLock::new() }
    }

    /// # Safety
    /// The descriptor was peeked from this cable's lane and is not released while the slice lives.
    unsafe fn bytes(&self, descriptor: Descriptor) -> &[u8] {
        debug_assert!(descriptor.addr + u64::from(descriptor.len) <= self.region.len() as u64);
        // SAFETY: the sender's pool made address and length (`Pool::submit_addr`), so they lie in its region.
        let start = unsafe { self.region.base().add(descriptor.addr as usize) };
        // SAFETY: the frame is in state SendInRing, so its bytes are read-only until the descriptor is released
        // (invariant owned by `Pool::submit_addr`); the region is initialised and `self` keeps it.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), descriptor.len as usize) }
    }
}

impl MemPort {
    /// Links a port over pool `a` with one over pool `b`; each then works with its own pool only.
    ///
    /// Both directions hold `ring_frames` frames, which must be a power of two.
    ///
    /// # Panics
    /// If `ring_frames` is not a power of two.
    pub fn pair(ring_frames: u32, a: &Pool, b: &Pool) -> (MemPort, MemPort) {
        MemPort::join(ring_frames, Plug::new(a), Plug::new(b))
    }

    /// [`pair`](MemPort::pair) for pools that are not at hand: on other threads, perhaps in use.
    ///
    /// # Panics
    /// If `ring_frames` is not a power of two.
    pub fn join(ring_frames: u32, a: Plug, b: Plug) -> (MemPort, MemPort) {
        let (a_tx, b_rx) = lane(ring_frames, Cable::new(&a.region));
        let (b_tx, a_rx) = lane(ring_frames, Cable::new(&b.region));
        (MemPort::build(&a, a_tx, a_rx), MemPort::build(&b, b_tx, b_rx))
    }

    fn build(plug: &Plug, tx: Sender<Cable>, rx: Receiver<Cable>) -> MemPort {
        let ring_frames = tx.capacity() as usize;
        MemPort {
            tx,
            rx,
            device: plug.device,
            fill: Vec::with_capacity(ring_frames),
            ring_frames,
            room_bytes: plug.frame_bytes - RX_HEADROOM,
            stats: PortStats::default(),
        }
    }

    /// Has `wake` called, on the peer's thread, whenever the peer's kick has published packets for this port.
    ///
    /// Only the first call counts; returns whether this was it. A worker that goes to sleep sets its "asleep" flag,
    /// issues a `SeqCst` fence and looks at the port once more; `wake` is called after such a fence and may then read
    /// the flag with a relaxed load.
    pub fn set_wake(&mut self, wake: impl Fn() + Send + Sync + 'static) -> bool {
        self.rx.shared().wake.set(Box::new(wake)).is_ok()
    }

    /// Whether a packet is waiting to be received.
    pub fn has_packets(&mut self) -> bool {
        self.rx.peek(0).is_some()
    }

    /// Whether the other end was dropped. What it published before can still be received.
    pub fn peer_is_gone(&self) -> bool {
        self.rx.sender_is_gone()
    }

    /// Number of frames and bytes of the oldest packet. Chains are published whole.
    fn peek_packet(&mut self) -> Option<(u32, usize)> {
        let mut len = 0;
        let mut count = 0;
        loop {
            let descriptor = self.rx.peek(count)?;
            len += descriptor.len as usize;
            count += 1;
            if descriptor.end_of_packet {
                return Some((count, len));
            }
        }
    }

    /// A fill frame becomes a received one with `len` bytes to be written; the caller has checked the stock.
    fn take_fill(&mut self, pool: &mut Pool, len: usize) -> Option<Frame> {
        let addr = self.fill.pop()? + RX_HEADROOM as u64;
        // SAFETY: this port is the device, and it has just forgotten the address.
        let frame = unsafe { pool.received(self.device, addr, u32::try_from(len).ok()?) };
        self.stats.rx_invalid += u64::from(frame.is_none());
        frame
    }

    /// Copies the oldest packet, one frame of `len` bytes, into a fill frame; `None` if there is none.
    #[inline]
    fn copy_frame(&mut self, pool: &mut Pool, len: usize) -> Option<Frame> {
        let descriptor = self.rx.peek(0)?;
        let mut frame = self.take_fill(pool, len)?;
        // SAFETY: `receive` releases the descriptor after this copy.
        let source = unsafe { self.rx.shared().bytes(descriptor) };
        frame.bytes_mut().copy_from_slice(source);
        Some(frame)
    }

    /// Copies the oldest packet, `count` frames and `len` bytes, into fill frames; false if there are too few.
    #[inline]
    fn copy_packet(&mut self, pool: &mut Pool, (count, len): (u32, usize), out: &mut Vec<Packet>) -> bool {
        if len > self.room_bytes || count > 1 {
            let Some(packet) = self.copy_chain(pool, count, len) else { return false };
            out.push(packet);
            return true;
        }
        let Some(head) = self.copy_frame(pool, len) else { return false };
        out.push(Packet { head, rest: Vec::new() });
        true
    }

    #[cold]
    fn copy_chain(&mut self, pool: &mut Pool, count: u32, len: usize) -> Option<Packet> {
        let frames = len.div_ceil(self.room_bytes).max(1);
        if frames > self.fill.len() {
            return None;
        }
        let mut packet = Packet::from(self.take_fill(pool, len.min(self.room_bytes))?);
        let mut left = len - packet.head.len();
        while left > 0 {
            let frame = self.take_fill(pool, left.min(self.room_bytes))?;
            left -= frame.len();
            packet.rest.push(frame);
        }
        let mut targets = std::iter::once(&mut packet.head).chain(&mut packet.rest);
        let mut target: &mut [u8] = targets.next()?.bytes_mut();
        for ahead in 0..count {
            let descriptor = self.rx.peek(ahead)?;
            // SAFETY: `receive` releases the descriptors after this copy.
            let mut source = unsafe { self.rx.shared().bytes(descriptor) };
            while !source.is_empty() {
                if target.is_empty() {
                    target = targets.next()?.bytes_mut();
                }
                let (now, later) = source.split_at(source.len().min(target.len()));
                let (written, rest) = target.split_at_mut(now.len());
                written.copy_from_slice(now);
                (source, target) = (later, rest);
            }
        }
        Some(packet)
    }

    /// Whether the frames can enter the ring at all; counts a refusal.
    fn accepts(&mut self, pool: &Pool, frames: &[SendFrame]) -> bool {
        let accepted = frames.len() <= self.ring_frames
            && pool.region().same(&self.tx.shared().region)
            && frames.iter().all(|frame| pool.can_submit(frame));
        self.stats.tx_refused += u64::from(!accepted);
        accepted
    }
}

impl Port for MemPort {
    fn reap(&mut self, pool: &mut Pool) -> usize {
        let mut count = 0;
        while let Some(reaped) = self.tx.reap() {
            // SAFETY: the peer has read the frame, or is gone and never will.
            unsafe { pool.complete(self.device, reaped.addr) };
            self.stats.tx_lost += u64::from(reaped.lost_packet);
            count += 1;
        }
        count
    }

    fn receive(&mut self, pool: &mut Pool, out: &mut Vec<Packet>, max: usize) -> usize {
        let mut received = 0;
        let mut taken = 0;
        while received < max {
            let Some((count, len)) = self.peek_packet() else { break };
            if self.copy_packet(pool, (count, len), out) {
                received += 1;
                self.stats.rx_packets += 1;
                self.stats.rx_bytes += len as u64;
            } else {
                self.stats.rx_dropped += 1;
                self.stats.rx_fill_empty += u64::from(self.fill.is_empty());
            }
            self.rx.release(count);
            taken += count;
        }
        if taken > 0 {
            self.rx.flush();
        }
        received
    }

    fn tx_room(&mut self) -> usize {
        self.tx.room() as usize
    }

    /// [`Port::submit_chain`] for a chain of one, which is what nearly every packet is.
    fn submit(&mut self, pool: &mut Pool, frame: &SendFrame) -> Result<(), TxFull> {
        if self.tx.room() == 0 || self.tx.receiver_is_gone() || !pool.region().same(&self.tx.shared().region)
        {
            return self.submit_chain(pool, std::slice::from_ref(frame));
        }
        let Some((addr, len)) = pool.try_submit_addr(self.device, frame) else {
            self.stats.tx_refused += 1;
            return Ok(());
        };
        self.stats.tx_packets += 1;
        self.stats.tx_bytes += frame.len() as u64;
        self.tx.push(Descriptor { addr, len, end_of_packet: true });
        Ok(())
    }

    /// A chain longer than the ring, a frame of another pool or one already in a ring is counted in `tx_refused` and
    /// otherwise ignored: no later attempt could succeed.
    fn submit_chain(&mut self, pool: &mut Pool, frames: &[SendFrame]) -> Result<(), TxFull> {
        let Some((last, before)) = frames.split_last() else { return Ok(()) };
        if !self.accepts(pool, frames) {
            return Ok(());
        }
        if self.tx.room() as usize <= before.len() {
            return Err(TxFull);
        }
        self.stats.tx_packets += 1;
        self.stats.tx_bytes += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
        if self.tx.receiver_is_gone() {
            self.stats.tx_lost += 1;
            return Ok(());
        }
        for frame in frames {
            let Some((addr, len)) = pool.submit_addr(self.device, frame) else { continue };
            self.tx.push(Descriptor { addr, len, end_of_packet: std::ptr::eq(frame, last) });
        }
        Ok(())
    }

    fn refill(&mut self, pool: &mut Pool) -> usize {
        let before = self.fill.len();
        while self.fill.len() < self.ring_frames
            && let Some(addr) = pool.fill_addr(self.device)
        {
            self.fill.push(addr);
        }
        self.fill.len() - before
    }

    fn kick(&mut self) -> Kick {
        if self.tx.publish() {
            self.stats.kicks += 1;
            if let Some(wake) = self.tx.shared().wake.get() {
                wake();
            }
        }
        if self.tx.is_waiting() { Kick::Pending } else { Kick::Idle }
    }

    fn max_frame_bytes(&self) -> usize {
        self.room_bytes
    }

    fn stats(&self) -> PortStats {
        self.stats
    }
}

impl fmt::Debug for MemPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemPort")
            .field("device", &self.device)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
