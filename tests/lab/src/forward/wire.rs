//! One end of the forwarder: an interface, another thread of this process, or nothing yet.

use std::os::fd::AsFd;
use std::sync::Arc;

use ringwire_frame::{Floors, Geometry, Kick, MemPort, Packet, Pool, Port, Region, SendFrame, TxFull};
use ringwire_packet::{PacketConfig, PacketPort};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::fd::OwnedFd;
use rustix::time::{ClockId, clock_gettime};

#[cfg(feature = "xdp")]
use super::xdp::XdpWire;
use crate::error::LabError;
use crate::link::End;

/// Memory is touched as it is used, and used again first: an idle cable costs address space and the frames' books.
const FRAMES: u32 = 32_768;
const SMALL_FRAME_BYTES: u32 = 2048;
const LARGE_FRAME_BYTES: u32 = 4096;
/// Packets with headers and headroom that fit a small frame.
const SMALL_MTU_BYTES: u32 = 1700;

/// Of a forwarder's receive ring: what comes within 100 ms at 1 Gbit/s and MTU 1500 waits there for a thread that others keep
/// from running. The kernel's memory, and not swappable.
const RING_BYTES: u32 = 16 << 20;
const LEAST_SLOT_BYTES: u32 = 2048;

/// Packets that an interface may keep for a forwarder that does not come.
pub(crate) fn ring_slots(mtu_bytes: u32) -> u32 {
    RING_BYTES / mtu_bytes.next_power_of_two().max(LEAST_SLOT_BYTES)
}

/// How packet memory for a link is cut.
pub(super) fn geometry(mtu_bytes: u32, frame_count: u32) -> Geometry {
    let frame_bytes = if mtu_bytes <= SMALL_MTU_BYTES { SMALL_FRAME_BYTES } else { LARGE_FRAME_BYTES };
    Geometry { frame_bytes, frame_count: frame_count.min(FRAMES) }
}

/// Frames of a forwarder or a raw port; it belongs to the thread that adopts it.
pub(crate) fn new_pool(mtu_bytes: u32, frame_count: u32) -> Pool {
    let geometry = geometry(mtu_bytes, frame_count);
    // Half of it to receive into: two ports in memory fill their rings from the same pool.
    Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(geometry.frame_count))
}

/// When a packet came, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) at_ns: u64,
    /// Of the interface; 0 where the way it came does not tell.
    pub(crate) queue: u32,
}

/// Where packets come from and go to.
#[derive(Debug)]
pub(crate) enum Wire {
    Packet(Box<PacketPort>),
    #[cfg(feature = "xdp")]
    Xdp(Box<XdpWire>),
    /// The eventfd wakes this end when the other has sent.
    Mem(Box<MemPort>, Arc<OwnedFd>),
    /// Nobody has come yet: what goes there is lost.
    Open,
}

impl Wire {
    /// This end of an in-memory wire.
    pub(crate) fn memory(mut port: MemPort) -> rustix::io::Result<Wire> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let ring = Arc::clone(&wake);
        port.set_wake(move || super::wake(&ring));
        Ok(Wire::Mem(Box::new(port), wake))
    }

    /// The interface of `end`, over AF_PACKET.
    pub(crate) fn packet(
        end: &End,
        mtu_bytes: u32,
        bypass_qdisc: bool,
        slots: Option<u32>,
        pool: &Pool,
    ) -> Result<Wire, LabError> {
        let config = PacketConfig {
            mtu_bytes,
            promiscuous: true,
            bypass_qdisc,
            slots,
            ..PacketConfig::new(end.ifindex, &end.ifname)
        };
        let port = end.node.run(|| PacketPort::open(&config, pool));
        port.map(|port| Wire::Packet(Box::new(port))).map_err(|error| LabError {
            what: format!("{end}: {}", error.what),
            errno: error.errno,
            hint: error.hint,
            lacks_level: false,
        })
    }

    fn port(&mut self) -> Option<&mut dyn Port> {
        match self {
            Wire::Packet(port) => Some(&mut **port),
            #[cfg(feature = "xdp")]
            Wire::Xdp(_) => None,
            Wire::Mem(port, _) => Some(&mut **port),
            Wire::Open => None,
        }
    }

    /// Completions and fresh frames.
    pub(crate) fn tend(&mut self, pool: &mut Pool) {
        #[cfg(feature = "xdp")]
        if let Wire::Xdp(wire) = self {
            return wire.tend(pool);
        }
        if let Some(port) = self.port() {
            port.reap(pool);
            port.refill(pool);
        }
    }

    /// Appends up to `max` packets and, to `arrivals`, when and where each came.
    pub(crate) fn receive(
        &mut self,
        pool: &mut Pool,
        out: &mut Vec<Packet>,
        arrivals: &mut Vec<Arrival>,
        max: usize,
    ) -> usize {
        #[cfg(feature = "xdp")]
        if let Wire::Xdp(wire) = self {
            return wire.receive(pool, out, arrivals, max);
        }
        let received = self.port().map_or(0, |port| port.receive(pool, out, max));
        if received == 0 {
            return 0;
        }
        let now_ns = now_ns();
        let arrival = |at_ns| Arrival { at_ns, queue: 0 };
        if let Wire::Packet(port) = self {
            // A stamp from a clock that was set meanwhile is worth no more than the time of the look.
            let real_ns = read_ns(ClockId::Realtime);
            let at_ns = |stamp_ns| match real_ns.checked_sub(stamp_ns) {
                Some(age_ns) if age_ns < OLDEST_STAMP_NS => now_ns - age_ns,
                _ => now_ns,
            };
            arrivals.extend(port.stamps_ns().iter().map(|&stamp_ns| arrival(at_ns(stamp_ns))));
        } else {
            arrivals.extend(std::iter::repeat_n(arrival(now_ns), received));
        }
        received
    }

    /// Frames that can be submitted to a queue now.
    #[cfg_attr(not(feature = "xdp"), allow(unused_variables, reason = "only AF_XDP can choose a queue"))]
    pub(crate) fn room(&mut self, queue: u32) -> usize {
        match self {
            #[cfg(feature = "xdp")]
            Wire::Xdp(wire) => wire.room(queue),
            wire => wire.port().map_or(usize::MAX, Port::tx_room),
        }
    }

    /// Whether anybody is there.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Wire::Open)
    }

    /// Sends a packet by a queue, if that can be chosen here.
    #[cfg_attr(not(feature = "xdp"), allow(unused_variables, reason = "only AF_XDP can choose a queue"))]
    pub(crate) fn submit(&mut self, pool: &mut Pool, frames: &[SendFrame], queue: u32) -> Result<(), TxFull> {
        match self {
            #[cfg(feature = "xdp")]
            Wire::Xdp(wire) => wire.submit(pool, frames, queue),
            wire => wire.port().map_or(Ok(()), |port| port.submit_chain(pool, frames)),
        }
    }

    pub(crate) fn kick(&mut self) -> Kick {
        match self {
            #[cfg(feature = "xdp")]
            Wire::Xdp(wire) => wire.kick(),
            wire => wire.port().map_or(Kick::Idle, Port::kick),
        }
    }

    /// Packets lost on their way in, and those that could not go out, since it was opened.
    pub(crate) fn losses(&mut self) -> (u64, u64) {
        match self {
            #[cfg(feature = "xdp")]
            Wire::Xdp(wire) => wire.losses(),
            wire => wire.port().map_or((0, 0), |port| {
                let stats = port.stats();
                (stats.rx_dropped, stats.tx_invalid + stats.tx_refused)
            }),
        }
    }

    /// Adds what a sleeper watches.
    pub(crate) fn watch<'w>(&'w self, fds: &mut Vec<PollFd<'w>>) {
        let watched = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        match self {
            Wire::Packet(port) => fds.push(watched(port.as_fd())),
            #[cfg(feature = "xdp")]
            Wire::Xdp(wire) => fds.extend(wire.fds().map(watched)),
            Wire::Mem(_, wake) => fds.push(watched(wake.as_fd())),
            Wire::Open => {}
        }
    }

    /// After a sleep: what woke it has been heard.
    pub(crate) fn heard(&self) {
        match self {
            Wire::Mem(_, wake) => drop(rustix::io::read(wake, &mut [0; 8])),
            Wire::Packet(port) => port.clear_error(),
            #[cfg(feature = "xdp")]
            Wire::Xdp(_) => {}
            Wire::Open => {}
        }
    }

    /// Whether a packet waits that no descriptor tells of.
    pub(crate) fn has_packets(&mut self) -> bool {
        match self {
            Wire::Mem(port, _) => port.has_packets(),
            #[cfg(feature = "xdp")]
            Wire::Xdp(_) => false,
            Wire::Packet(_) | Wire::Open => false,
        }
    }
}

/// Older stamps than this are a clock's mistake: no ring holds packets for so long.
const OLDEST_STAMP_NS: u64 = 1_000_000_000;

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    read_ns(ClockId::Monotonic)
}

/// What `CLOCK_REALTIME` is ahead of `CLOCK_MONOTONIC`, in nanoseconds.
pub(super) fn wall_offset_ns() -> u64 {
    read_ns(ClockId::Realtime).wrapping_sub(now_ns())
}

fn read_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    // Neither clock is negative on a machine that has booted after 1970.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
