//! One end of the forwarder: an interface, another thread of this process, or nothing yet.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ringwire_frame::{Floors, Geometry, Kick, MemPort, Packet, Pool, Port, Region, SendFrame, TxFull};
use ringwire_packet::{PacketConfig, PacketPort};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustix::time::{ClockId, clock_gettime};

use crate::error::LabError;
use crate::link::End;

/// Memory is touched as it is used, and used again first: an idle cable costs address space and the frames' books.
const FRAMES: u32 = 32_768;
const SMALL_FRAME_BYTES: u32 = 2048;
const LARGE_FRAME_BYTES: u32 = 4096;
/// Packets with headers and headroom that fit a small frame.
const SMALL_MTU_BYTES: u32 = 1700;

/// Frames of a forwarder or a raw port; it belongs to the thread that adopts it.
pub(crate) fn new_pool(mtu_bytes: u32, frame_count: u32) -> Pool {
    let frame_bytes = if mtu_bytes <= SMALL_MTU_BYTES { SMALL_FRAME_BYTES } else { LARGE_FRAME_BYTES };
    let geometry = Geometry { frame_bytes, frame_count: frame_count.min(FRAMES) };
    // Half of it to receive into: two ports in memory fill their rings from the same pool.
    Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(geometry.frame_count))
}

/// Where packets come from and go to.
#[derive(Debug)]
pub(crate) enum Wire {
    Packet(Box<PacketPort>),
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

    /// The interface of `end`.
    pub(crate) fn packet(
        end: &End,
        mtu_bytes: u32,
        bypass_qdisc: bool,
        pool: &Pool,
    ) -> Result<Wire, LabError> {
        let config = PacketConfig {
            mtu_bytes,
            promiscuous: true,
            bypass_qdisc,
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
            Wire::Mem(port, _) => Some(&mut **port),
            Wire::Open => None,
        }
    }

    /// Completions and fresh frames.
    pub(crate) fn tend(&mut self, pool: &mut Pool) {
        if let Some(port) = self.port() {
            port.reap(pool);
            port.refill(pool);
        }
    }

    /// Appends up to `max` packets and, to `arrived_ns`, when each came: nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) fn receive(
        &mut self,
        pool: &mut Pool,
        out: &mut Vec<Packet>,
        arrived_ns: &mut Vec<u64>,
        max: usize,
    ) -> usize {
        let received = self.port().map_or(0, |port| port.receive(pool, out, max));
        if received == 0 {
            return 0;
        }
        let now_ns = now_ns();
        match self {
            // A stamp from a clock that was set meanwhile is worth no more than the time of the look.
            Wire::Packet(port) => {
                let real_ns = read_ns(ClockId::Realtime);
                arrived_ns.extend(port.stamps_ns().iter().map(
                    |&stamp_ns| match real_ns.checked_sub(stamp_ns) {
                        Some(age_ns) if age_ns < OLDEST_STAMP_NS => now_ns - age_ns,
                        _ => now_ns,
                    },
                ));
            }
            Wire::Mem(..) | Wire::Open => arrived_ns.extend(std::iter::repeat_n(now_ns, received)),
        }
        received
    }

    /// Frames that can be submitted now.
    pub(crate) fn room(&mut self) -> usize {
        self.port().map_or(usize::MAX, Port::tx_room)
    }

    /// Whether anybody is there.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Wire::Open)
    }

    pub(crate) fn submit(&mut self, pool: &mut Pool, frames: &[SendFrame]) -> Result<(), TxFull> {
        self.port().map_or(Ok(()), |port| port.submit_chain(pool, frames))
    }

    pub(crate) fn kick(&mut self) -> Kick {
        self.port().map_or(Kick::Idle, Port::kick)
    }

    /// Packets lost on their way in, and those that could not go out, since it was opened.
    pub(crate) fn losses(&mut self) -> (u64, u64) {
        self.port().map_or((0, 0), |port| {
            let stats = port.stats();
            (stats.rx_dropped, stats.tx_invalid + stats.tx_refused)
        })
    }

    /// What a sleeper watches.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Wire::Packet(port) => Some(port.as_fd()),
            Wire::Mem(_, wake) => Some(wake.as_fd()),
            Wire::Open => None,
        }
    }

    /// After a sleep: what woke it has been heard.
    pub(crate) fn heard(&self) {
        match self {
            Wire::Mem(_, wake) => drop(rustix::io::read(wake, &mut [0; 8])),
            Wire::Packet(port) => port.clear_error(),
            Wire::Open => {}
        }
    }

    /// Whether a packet waits that no descriptor tells of.
    pub(crate) fn has_packets(&mut self) -> bool {
        match self {
            Wire::Mem(port, _) => port.has_packets(),
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
