//! The port: frames of the pool in, descriptors of the kernel out, and back.

use std::os::fd::{AsFd, BorrowedFd};

use ringwire_frame::{Device, Geometry, Kick, Packet, Pool, Port, PortStats, Region, SendFrame, TxFull};
use rustix::io::Errno;

use crate::chain::{Assembled, Chain};
use crate::config::{Mode, XskConfig};
use crate::error::XskError;
use crate::open::{self, Bound, Parts};
use crate::socket::{BATCH_DESCS, Received};
use crate::sys;
use crate::tx_ring::TxRing;
use crate::umem::Umem;

/// Bytes XDP leaves before a received packet (`XDP_PACKET_HEADROOM`).
const RX_HEADROOM_BYTES: usize = 256;

/// Frames of one transmitted packet: its head and as many fragments as a socket buffer takes (`MAX_SKB_FRAGS`).
const MAX_CHAIN_FRAMES: usize = 18;

/// One queue of an interface, bound through AF_XDP.
///
/// ```no_run
/// use std::os::fd::AsFd;
///
/// use ringwire_frame::{Floors, Geometry, Pool, Port};
/// use ringwire_xsk::{Umem, UmemOptions, XskConfig, XskPort};
///
/// # fn main() -> Result<(), ringwire_xsk::XskError> {
/// let geometry = Geometry { frame_bytes: 2048, frame_count: 4096 };
/// let (umem, region) = Umem::register(geometry, UmemOptions::default())?;
/// let mut port = XskPort::open(&umem, &XskConfig::new("eth0", 0))?;
/// println!("zero-copy: {}", port.mode().zero_copy);
/// let _socket = port.as_fd(); // for the XSKMAP of the steering program
///
/// let mut pool = Pool::new(region, geometry, Floors::for_frames(geometry.frame_count));
/// pool.adopt();
/// port.refill(&mut pool);
/// let mut packets = Vec::new();
/// port.receive(&mut pool, &mut packets, 64);
/// # Ok(())
/// # }
/// ```
///
/// The first pool a port is used with is its pool, and must be over the region of its [`Umem`]; calls with another
/// do nothing. Dropping the port lets go of the queue; [`close`](XskPort::close) also gives its frames back.
#[derive(Debug)]
pub struct XskPort {
    // Dropped in this order, see `open::Parts`.
    tx: TxRing,
    bound: Bound,
    mode: Mode,
    region: Region,
    geometry: Geometry,
    device: Option<Device>,
    fill_frames: u32,
    /// Frames the kernel has to receive into.
    filled: u32,
    busy_poll: bool,
    chain: Chain,
    stats: PortStats,
}

/// The kernel's own counters of a socket (`XDP_STATISTICS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelStats {
    /// Packets dropped for other reasons than the following, such as being longer than a frame.
    pub rx_dropped: u64,
    /// Packets dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times a packet found the fill ring empty.
    pub rx_fill_empty: u64,
    /// Fill descriptors the kernel refused.
    pub rx_invalid: u64,
    /// Transmit descriptors the kernel refused.
    pub tx_invalid: u64,
    /// Times the kernel found the transmit ring empty.
    pub tx_ring_empty: u64,
}

impl XskPort {
    /// Binds a queue of an interface of the calling thread's network namespace to `umem`.
    ///
    /// # Errors
    /// The bind mode cannot be had, the queue does not exist or stays in use, a capability or memory is missing.
    pub fn open(umem: &Umem, config: &XskConfig) -> Result<XskPort, XskError> {
        let Parts { tx, bound, mode } = open::open(umem, config)?;
        Ok(XskPort {
            tx,
            bound,
            mode,
            region: umem.region().clone(),
            geometry: umem.geometry(),
            device: None,
            fill_frames: config.fill_frames.min(umem.options().fill_ring),
            filled: 0,
            busy_poll: config.busy_poll.is_some(),
            chain: Chain::default(),
            stats: PortStats::default(),
        })
    }

    /// What the kernel gave.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the driver still wants to be woken for the frames it was given, although it has been: it may have missed that.
    #[must_use]
    pub fn awaits_wakeup(&self) -> bool {
        self.filled > 0 && self.mode.need_wakeup && self.bound.rings.fill_needs_wakeup()
    }

    /// The kernel's counters of this socket.
    ///
    /// # Errors
    /// Those of `getsockopt`; none is expected of an open socket.
    pub fn kernel_stats(&self) -> Result<KernelStats, Errno> {
        let stats = rustix::net::sockopt::xdp_statistics(self)?;
        Ok(KernelStats {
            rx_dropped: stats.rx_dropped,
            rx_ring_full: stats.rx_ring_full.unwrap_or(0),
            rx_fill_empty: stats.rx_fill_ring_empty_descs.unwrap_or(0),
            rx_invalid: stats.rx_invalid_descs,
            tx_invalid: stats.tx_invalid_descs,
            tx_ring_empty: stats.tx_ring_empty_descs.unwrap_or(0),
        })
    }

    /// Lets go of the queue and gives the frames it held back to the pool; returns how many.
    ///
    /// None come back from a zero-copy queue: its driver lets go of them some time later and nothing says when.
    pub fn close(self, pool: &mut Pool) -> usize {
        let XskPort { tx, bound, mode, region, device, chain, .. } = self;
        drop(tx);
        drop(bound);
        drop(chain);
        match device {
            Some(device) if !mode.zero_copy && pool.region().same(&region) => {
                // SAFETY: the socket is closed, and in copy mode it was the socket that accessed frames: the kernel
                // waits for receivers that are under way before the close returns (xsk_unbind_dev).
                unsafe { pool.detach(device) }
            }
            _ => 0,
        }
    }

    /// The port's name in the pool, if it is the port's pool.
    fn device(&mut self, pool: &Pool) -> Option<Device> {
        let is_ours = pool.region().same(&self.region);
        debug_assert!(is_ours, "a port works with the pool over its own packet memory");
        match self.device {
            _ if !is_ours => None,
            None => {
                let is_cut_alike = pool.geometry() == self.geometry;
                debug_assert!(is_cut_alike, "the pool has the geometry of the registration");
                self.device = is_cut_alike.then(|| pool.attach());
                self.device
            }
            device => device,
        }
    }

    /// Whether the frames can leave as one packet at all; counts a refusal.
    fn accepts(&mut self, pool: &Pool, frames: &[SendFrame]) -> bool {
        let chain_ok = frames.len() == 1
            || (self.mode.multi_buffer && frames.len() <= MAX_CHAIN_FRAMES.min(self.tx.size() as usize));
        let accepted = chain_ok
            && pool.region().same(&self.region)
            && frames.iter().all(|frame| !frame.is_empty() && pool.can_submit(frame));
        self.stats.tx_refused += u64::from(!accepted);
        accepted
    }

    /// One system call per budget; stops when the ring is empty, or the kernel or the device has no room.
    fn kick_copy_mode(&mut self, mut waiting: u32) -> Kick {
        for _ in 0..waiting.div_ceil(self.mode.kick_budget_packets) {
            self.stats.kicks += 1;
            let kicked = sys::kick_tx(self.bound.rings.as_fd());
            waiting = self.tx.waiting();
            match kicked {
                // AGAIN is "not all": the budget is used up, or completions wait to be reaped.
                Ok(()) | Err(Errno::AGAIN) if waiting > 0 => {}
                Ok(()) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::BUSY) => break,
                Err(_) => {
                    self.stats.kick_errors += 1;
                    return refused(waiting);
                }
            }
        }
        if waiting == 0 { Kick::Idle } else { Kick::Pending }
    }

    /// The driver sends by itself; it only has to be woken when it says so.
    fn kick_driver(&mut self) -> Kick {
        if !self.mode.need_wakeup || self.tx.needs_wakeup() {
            self.stats.kicks += 1;
            if let Err(errno) = sys::kick_tx(self.bound.rings.as_fd())
                && !matches!(errno, Errno::AGAIN | Errno::NOBUFS | Errno::BUSY)
            {
                self.stats.kick_errors += 1;
                return refused(self.tx.waiting());
            }
            if self.busy_poll && self.tx.waiting() > 0 {
                self.stats.kicks += 1;
                self.stats.kick_errors += u64::from(sys::wake_driver(self.bound.rings.as_fd()).is_err());
            }
        }
        if self.tx.waiting() == 0 { Kick::Idle } else { Kick::Pending }
    }

    /// Wakes the driver's receive side; an error shows as kick error.
    #[cold]
    fn wake_receive(&mut self) {
        self.stats.kicks += 1;
        let woken = sys::kick_rx(self.bound.rings.as_fd());
        self.stats.kick_errors += u64::from(!matches!(woken, Ok(()) | Err(Errno::AGAIN)));
    }
}

/// After ENETDOWN (the link is down), ENXIO (the interface is gone) and their like.
fn refused(waiting: u32) -> Kick {
    if waiting == 0 { Kick::Idle } else { Kick::Refused }
}

impl Port for XskPort {
    fn reap(&mut self, pool: &mut Pool) -> usize {
        let Some(device) = self.device(pool) else { return 0 };
        let mut reaped = 0;
        loop {
            let count = self.bound.rings.take_completed();
            for position in 0..count {
                // A completion names the frame only: in copy mode its address may have lost the offset.
                // SAFETY: the kernel has just returned the address.
                unsafe { pool.complete(device, self.bound.rings.completed_addr(position)) };
            }
            reaped += count;
            if count < BATCH_DESCS {
                return reaped;
            }
        }
    }

    fn receive(&mut self, pool: &mut Pool, out: &mut Vec<Packet>, max: usize) -> usize {
        let Some(device) = self.device(pool) else { return 0 };
        let before = out.len();
        while out.len() - before < max {
            let count = self.bound.rings.take_received(max - (out.len() - before));
            for position in 0..count {
                let Received { addr, len, continues } = self.bound.rings.received(position);
                // SAFETY: the kernel has just returned the address.
                let frame = unsafe { pool.received(device, addr, len) };
                self.stats.rx_invalid += u64::from(frame.is_none());
                match self.chain.push(frame, continues) {
                    Assembled::Packet(packet) => {
                        self.stats.rx_bytes += packet.len() as u64;
                        out.push(packet);
                    }
                    Assembled::More => {}
                    Assembled::Lost => self.stats.rx_dropped += 1,
                }
            }
            self.filled = self.filled.saturating_sub(count as u32);
            if count < BATCH_DESCS {
                break;
            }
        }
        let received = out.len() - before;
        self.stats.rx_packets += received as u64;
        if received == 0 && self.busy_poll {
            self.wake_receive();
        }
        received
    }

    fn tx_room(&mut self) -> usize {
        self.tx.room() as usize
    }

    fn submit(&mut self, pool: &mut Pool, frame: &SendFrame) -> Result<(), TxFull> {
        self.submit_chain(pool, std::slice::from_ref(frame))
    }

    /// What no later attempt could send is counted in `tx_refused` and otherwise ignored: an empty frame, one of
    /// another pool or in a ring already, a chain without multi-buffer or of more than 18 frames.
    fn submit_chain(&mut self, pool: &mut Pool, frames: &[SendFrame]) -> Result<(), TxFull> {
        if frames.is_empty() || !self.accepts(pool, frames) {
            return Ok(());
        }
        let Some(device) = self.device(pool) else { return Ok(()) };
        if (self.tx.room() as usize) < frames.len() {
            return Err(TxFull);
        }
        self.stats.tx_packets += 1;
        for (position, frame) in frames.iter().enumerate() {
            // Always Some: `accepts` has looked at every frame.
            let Some((addr, len)) = pool.submit_addr(device, frame) else { continue };
            self.stats.tx_bytes += u64::from(len);
            self.tx.push(addr, len, position + 1 < frames.len());
        }
        Ok(())
    }

    fn refill(&mut self, pool: &mut Pool) -> usize {
        let Some(device) = self.device(pool) else { return 0 };
        let wanted = self.fill_frames.saturating_sub(self.filled);
        let filled = self.bound.rings.fill(wanted, || pool.fill_addr(device));
        self.filled += filled;
        // Looked at in every turn with frames in the ring: the driver may have set it after the last refill.
        if self.awaits_wakeup() {
            self.wake_receive();
        }
        filled as usize
    }

    fn kick(&mut self) -> Kick {
        match self.tx.publish() {
            0 => Kick::Idle,
            _ if self.mode.zero_copy => self.kick_driver(),
            waiting => self.kick_copy_mode(waiting),
        }
    }

    fn max_frame_bytes(&self) -> usize {
        self.geometry.frame_bytes as usize - RX_HEADROOM_BYTES
    }

    fn stats(&self) -> PortStats {
        let kernel = self.kernel_stats().unwrap_or_default();
        PortStats {
            rx_dropped: self.stats.rx_dropped + kernel.rx_dropped + kernel.rx_ring_full,
            rx_fill_empty: kernel.rx_fill_empty,
            rx_invalid: self.stats.rx_invalid + kernel.rx_invalid,
            tx_invalid: kernel.tx_invalid,
            ..self.stats
        }
    }
}

impl AsFd for XskPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bound.rings.as_fd()
    }
}
