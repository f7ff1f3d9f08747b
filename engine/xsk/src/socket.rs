//! The socket and three of its rings, by xsk-rs.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::{Errno, FdFlags};
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::umem::frame::FrameDesc;
use xsk_rs::{CompQueue, FillQueue, RxQueue, Socket, TxQueue};

use crate::config::{Mode, XskConfig};
use crate::umem::{Umem, errno_of};

/// Descriptors moved between ring and engine at a time.
pub(crate) const BATCH_DESCS: usize = 64;

/// A received descriptor: one packet, or one frame of a chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    /// The packet goes on in the next descriptor.
    pub(crate) continues: bool,
}

/// A bound socket: fill, completion and receive ring. Its transmit ring is mapped by `TxRing`.
pub(crate) struct Rings {
    fill: FillQueue,
    completion: CompQueue,
    rx: RxQueue,
    /// Keeps libxdp's own mapping; never used.
    _tx: TxQueue,
    /// One descriptor per frame: the only way to tell xsk-rs which frame to give to the fill ring.
    frames: Arc<[FrameDesc]>,
    frame_shift: u32,
    batch: Box<[FrameDesc]>,
}

/// How to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ZeroCopy,
    Copy,
}

impl Rings {
    /// One attempt to bind.
    pub(crate) fn bind(umem: &Umem, config: &XskConfig, access: Access) -> Result<Rings, Errno> {
        let ring = |slots| QueueSize::new(slots).map_err(|_| Errno::INVAL);
        let mut flags = match access {
            Access::ZeroCopy => BindFlags::XDP_ZEROCOPY,
            Access::Copy => BindFlags::XDP_COPY,
        };
        flags.set(BindFlags::XDP_USE_NEED_WAKEUP, config.need_wakeup);
        flags.set(BindFlags::XDP_USE_SG, config.multi_buffer);
        let mut socket = SocketConfig::builder();
        socket.rx_queue_size(ring(config.rx_ring)?).tx_queue_size(ring(config.tx_ring)?);
        socket.libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD).bind_flags(flags);
        let interface: Interface = config.interface.parse().map_err(|_| Errno::NODEV)?;
        // SAFETY: libxdp loads no program, which is the function's one condition.
        let bound = unsafe { Socket::new(socket.build(), umem.registered(), &interface, config.queue_id) };
        let (tx, rx, fill_and_completion) = bound.map_err(|error| errno_of(&error))?;
        // None: libxdp found the queue bound on this memory already; the ledger refuses that before.
        let (fill, completion) = fill_and_completion.ok_or(Errno::BUSY)?;
        let rings = Rings {
            fill,
            completion,
            rx,
            _tx: tx,
            frames: umem.frames(),
            frame_shift: umem.geometry().frame_bytes.ilog2(),
            batch: vec![FrameDesc::default(); BATCH_DESCS].into(),
        };
        // libxdp opens the socket without it, and a child process would hold on to the queue.
        rustix::io::fcntl_setfd(&rings, FdFlags::CLOEXEC)?;
        Ok(rings)
    }

    /// Gives up to `max` frames to the kernel, those whose addresses `next` names; returns how many.
    pub(crate) fn fill(&mut self, max: u32, mut next: impl FnMut() -> Option<u64>) -> u32 {
        let mut filled = 0;
        while filled < max {
            let room =
                self.fill.nb_free(BATCH_DESCS as u32).min(BATCH_DESCS as u32).min(max - filled) as usize;
            let mut count = 0;
            while count < room
                && let Some(addr) = next()
            {
                // The pool has the geometry of the registration: its addresses are those of registered frames.
                self.batch[count] = self.frames[(addr >> self.frame_shift) as usize];
                count += 1;
            }
            if count == 0 {
                break;
            }
            // SAFETY: the frames are of this registration, and the pool holds them as the kernel's from now on.
            let taken = unsafe { self.fill.produce(&self.batch[..count]) };
            debug_assert_eq!(taken, count, "the fill ring had room");
            filled += count as u32;
        }
        filled
    }

    /// Whether the driver wants to be told that the fill ring has something for it.
    pub(crate) fn fill_needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    /// Takes completions, at most a batch; returns how many [`completed_addr`](Rings::completed_addr) then tells.
    pub(crate) fn take_completed(&mut self) -> usize {
        // SAFETY: the completion ring is of this registration.
        unsafe { self.completion.consume(&mut self.batch) }
    }

    /// Address of a completion of the last batch; anywhere within its frame.
    pub(crate) fn completed_addr(&self, position: usize) -> u64 {
        self.batch[position].addr() as u64
    }

    /// Takes received descriptors, up to `max` and at most a batch; returns how many [`received`](Rings::received)
    /// then tells.
    pub(crate) fn take_received(&mut self, max: usize) -> usize {
        let max = max.min(BATCH_DESCS);
        // SAFETY: the receive ring is of this registration.
        unsafe { self.rx.consume(&mut self.batch[..max]) }
    }

    /// A descriptor of the last batch.
    pub(crate) fn received(&self, position: usize) -> Received {
        let desc = &self.batch[position];
        // The kernel's descriptor has 32 bits for the length.
        Received {
            addr: desc.addr() as u64,
            len: desc.lengths().data() as u32,
            continues: desc.has_more_frames(),
        }
    }
}

impl AsFd for Rings {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let number = self.rx.fd().as_raw_fd();
        // SAFETY: the receive queue keeps the socket open as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(number) }
    }
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rings").field("fd", &self.rx.fd()).finish_non_exhaustive()
    }
}

/// Fails if the kernel's answer is not what was asked for; `Ok` is what it gave.
pub(crate) fn read_back(fd: BorrowedFd<'_>, config: &XskConfig, first: Option<Mode>) -> Result<Mode, Errno> {
    let options = rustix::net::sockopt::xdp_options(fd)?;
    let zero_copy = options.contains(rustix::net::xdp::XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY);
    Ok(Mode {
        zero_copy,
        // Bind refuses the flags it does not know; later queues of a registration inherit the first one's.
        multi_buffer: first.map_or(config.multi_buffer, |first| first.multi_buffer),
        need_wakeup: first.map_or(config.need_wakeup, |first| first.need_wakeup),
        kick_budget_packets: crate::sys::DEFAULT_KICK_BUDGET_PACKETS,
        zero_copy_refusal: None,
    })
}
