//! The port: slots of the ring in, packets of the pool out.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ringwire_frame::{
    Class, Device, Frame, Kick, Packet, Pool, Port, PortStats, RX_HEADROOM, Region, SendFrame, TxFull,
};
use rustix::io::Errno;

use crate::config::PacketConfig;
use crate::error::PacketError;
use crate::filter;
use crate::long::LongPacket;
use crate::ring::RxRing;
use crate::slot::Slot;
use crate::sys;
use crate::tx_queue::{MAX_PIECES, Piece, TxQueue};

/// Frames that may be submitted and not yet reaped.
const TX_FRAMES: usize = 1024;
/// Kicks that the device may refuse in a row before it counts as gone: it answers alike for "full" and for "no carrier".
const FULL_KICKS: u32 = 64;

/// One interface, through a packet socket.
///
/// ```no_run
/// use ringwire_frame::{Floors, Geometry, Pool, Port, Region};
/// use ringwire_packet::{PacketConfig, PacketPort};
///
/// # fn main() -> Result<(), ringwire_packet::PacketError> {
/// let geometry = Geometry { frame_bytes: 2048, frame_count: 1024 };
/// let mut pool = Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(1024));
/// pool.adopt();
/// let mut port = PacketPort::open(&PacketConfig::new(2, "eth0"), &pool)?;
/// let mut packets = Vec::new();
/// port.receive(&mut pool, &mut packets, 64);
/// # Ok(())
/// # }
/// ```
///
/// The socket belongs to the network namespace of the thread that opened it and works from any thread afterwards.
#[derive(Debug)]
pub struct PacketPort {
    // Unmapped before its socket closes.
    ring: RxRing,
    socket: OwnedFd,
    long: LongPacket,
    tx: TxQueue,
    region: Region,
    device: Device,
    /// Payload of one received frame.
    room_bytes: usize,
    /// Arrival of the packets of the last `receive`.
    stamps_ns: Vec<u64>,
    full_kicks: u32,
    /// The kernel forgets its count whenever it is read.
    ring_dropped: Cell<u64>,
    stats: PortStats,
}

impl PacketPort {
    /// Opens an interface of the calling thread's network namespace for the frames of `pool`.
    ///
    /// # Errors
    /// A capability or memory is missing, or there is no such interface, or it is down.
    pub fn open(config: &PacketConfig, pool: &Pool) -> Result<PacketPort, PacketError> {
        let step = |step: &'static str| move |errno: Errno| PacketError::new(step, &config.interface, errno);
        let socket = sys::socket().map_err(step("socket"))?;
        let fd = socket.as_fd();
        sys::set_version_2(fd).map_err(step("PACKET_VERSION"))?;
        sys::ignore_outgoing(fd).map_err(step("PACKET_IGNORE_OUTGOING"))?;
        if config.bypass_qdisc {
            sys::bypass_qdisc(fd).map_err(step("PACKET_QDISC_BYPASS"))?;
        }
        sys::keep_long_packets(fd).map_err(step("PACKET_COPY_THRESH"))?;
        let program = config.only_for.as_deref().and_then(filter::dedicated);
        if let Some(mut program) = program {
            sys::attach_filter(fd, &mut program).map_err(step("SO_ATTACH_FILTER"))?;
        }
        let ring = RxRing::map(fd, config).map_err(step("PACKET_RX_RING"))?;
        // Last, so that the ring holds nothing but what the filter lets through.
        sys::bind(fd, config.ifindex).map_err(step("bind"))?;
        if config.promiscuous {
            sys::be_promiscuous(fd, config.ifindex).map_err(step("PACKET_ADD_MEMBERSHIP"))?;
        }
        Ok(PacketPort {
            ring,
            socket,
            long: LongPacket::default(),
            tx: TxQueue::new(TX_FRAMES),
            region: pool.region().clone(),
            device: pool.attach(),
            room_bytes: pool.frame_bytes() - RX_HEADROOM,
            stamps_ns: Vec::new(),
            full_kicks: 0,
            ring_dropped: Cell::new(0),
            stats: PortStats::default(),
        })
    }

    /// When the kernel took the packets that the last [`receive`](Port::receive) appended, in their order:
    /// nanoseconds of `CLOCK_REALTIME`.
    pub fn stamps_ns(&self) -> &[u64] {
        &self.stamps_ns
    }

    /// Forgets that the link was down, which poll(2) otherwise reports again and again. [`stats`](Port::stats) does that too.
    pub fn clear_error(&self) {
        // The error itself is of no use: the interface says more by taking no packets.
        let _ = rustix::net::sockopt::socket_error(&self.socket);
    }

    /// Whether the frames can leave as one packet at all; counts a refusal.
    fn accepts(&mut self, pool: &Pool, frames: &[SendFrame]) -> bool {
        let accepted = frames.len() <= MAX_PIECES.min(self.tx.capacity())
            && pool.region().same(&self.region)
            && frames.iter().all(|frame| !frame.is_empty() && pool.can_submit(frame));
        self.stats.tx_refused += u64::from(!accepted);
        accepted
    }

    /// What a refusal means: whether to offer the same packets at once, later, or never.
    fn on_refusal(&mut self, errno: Errno) -> Option<Kick> {
        match errno {
            Errno::AGAIN | Errno::INTR => Some(Kick::Pending),
            Errno::NOBUFS => {
                self.full_kicks = self.full_kicks.saturating_add(1);
                Some(if self.full_kicks < FULL_KICKS { Kick::Pending } else { Kick::Refused })
            }
            Errno::MSGSIZE | Errno::INVAL => {
                // Longer than the MTU, or shorter than a link header: it will never leave.
                self.stats.tx_invalid += 1;
                self.tx.finish(1);
                None
            }
            _ => {
                self.stats.kick_errors += 1;
                Some(Kick::Refused)
            }
        }
    }
}

/// What became of a slot.
enum Copied {
    Packet(Packet),
    /// The pool has too few frames now: the packet stays in the ring.
    Wait,
    /// The kernel could not keep it, or the pool could never hold it.
    Unusable,
}

/// Copies a packet into as many frames as it takes; the tag goes where the wire had it.
fn copy(pool: &mut Pool, room_bytes: usize, bytes: &[u8], tag: Option<[u8; 4]>) -> Copied {
    const MACS_LEN: usize = 12;
    let (macs, rest) = bytes.split_at(bytes.len().min(MACS_LEN));
    let tag = tag.as_ref().map_or(&[][..], |tag| &tag[..]);
    let len = bytes.len() + tag.len();
    let count = len.div_ceil(room_bytes).max(1);
    if count > pool.geometry().frame_count as usize / 2 {
        return Copied::Unusable;
    }
    let Some(mut head) = alloc(pool) else { return Copied::Wait };
    for piece in [macs, tag] {
        head.append(piece.len()).copy_from_slice(piece);
    }
    let (first, mut rest) = rest.split_at(rest.len().min(room_bytes - head.len()));
    head.append(first.len()).copy_from_slice(first);
    let mut packet = Packet::from(head);
    while !rest.is_empty() {
        let Some(mut frame) = alloc(pool) else { return Copied::Wait };
        let (now, later) = rest.split_at(rest.len().min(room_bytes));
        frame.append(now.len()).copy_from_slice(now);
        packet.rest.push(frame);
        rest = later;
    }
    Copied::Packet(packet)
}

fn alloc(pool: &mut Pool) -> Option<Frame> {
    let mut frame = pool.alloc(Class::Receive)?;
    frame.reset(RX_HEADROOM);
    Some(frame)
}

impl Port for PacketPort {
    fn reap(&mut self, pool: &mut Pool) -> usize {
        if !pool.region().same(&self.region) {
            return 0;
        }
        let mut count = 0;
        for addr in self.tx.drain_done() {
            // SAFETY: the system call that read the frame has returned.
            unsafe { pool.complete(self.device, addr) };
            count += 1;
        }
        count
    }

    /// Packets that the pool has no frames for wait in the ring; when that is full, the kernel drops and counts.
    fn receive(&mut self, pool: &mut Pool, out: &mut Vec<Packet>, max: usize) -> usize {
        self.stamps_ns.clear();
        let mut received = 0;
        while received < max
            && let Some(mut slot) = Slot::take(&mut self.ring)
        {
            let tag = slot.tag();
            let copied = match slot.packet(&self.socket, &mut self.long) {
                Some(bytes) => copy(pool, self.room_bytes, bytes, tag),
                None => Copied::Unusable,
            };
            match copied {
                Copied::Packet(packet) => {
                    received += 1;
                    self.stats.rx_bytes += packet.len() as u64;
                    self.stamps_ns.push(slot.stamp_ns());
                    out.push(packet);
                }
                Copied::Wait => {
                    self.stats.rx_fill_empty += 1;
                    slot.keep();
                    break;
                }
                Copied::Unusable => self.stats.rx_dropped += 1,
            }
            slot.release();
            self.long.forget();
        }
        self.stats.rx_packets += received as u64;
        received
    }

    fn tx_room(&mut self) -> usize {
        self.tx.room()
    }

    fn submit(&mut self, pool: &mut Pool, frame: &SendFrame) -> Result<(), TxFull> {
        self.submit_chain(pool, std::slice::from_ref(frame))
    }

    /// What no later attempt could send is counted in `tx_refused` and otherwise ignored: an empty frame, one of another
    /// pool or in a ring already, a chain of more than 64 frames.
    fn submit_chain(&mut self, pool: &mut Pool, frames: &[SendFrame]) -> Result<(), TxFull> {
        if frames.is_empty() || !self.accepts(pool, frames) {
            return Ok(());
        }
        if self.tx.room() < frames.len() {
            return Err(TxFull);
        }
        self.stats.tx_packets += 1;
        for (position, frame) in frames.iter().enumerate() {
            // Always Some: `accepts` has looked at every frame.
            let Some((addr, len)) = pool.submit_addr(self.device, frame) else { continue };
            self.stats.tx_bytes += u64::from(len);
            self.tx.push(Piece { addr, len, ends_packet: position + 1 == frames.len() });
        }
        Ok(())
    }

    /// Nothing to do: the kernel receives into memory of its own.
    fn refill(&mut self, _pool: &mut Pool) -> usize {
        0
    }

    fn kick(&mut self) -> Kick {
        while !self.tx.is_empty() {
            self.stats.kicks += 1;
            match self.tx.send(self.socket.as_fd(), &self.region) {
                Ok(0) => return Kick::Pending,
                Ok(_) => self.full_kicks = 0,
                Err(errno) => {
                    if let Some(kick) = self.on_refusal(errno) {
                        return kick;
                    }
                }
            }
        }
        Kick::Idle
    }

    fn max_frame_bytes(&self) -> usize {
        self.room_bytes
    }

    fn stats(&self) -> PortStats {
        self.clear_error();
        let dropped = sys::take_dropped(self.socket.as_fd()).unwrap_or(0);
        self.ring_dropped.set(self.ring_dropped.get() + dropped);
        PortStats { rx_dropped: self.stats.rx_dropped + self.ring_dropped.get(), ..self.stats }
    }
}

impl AsFd for PacketPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
