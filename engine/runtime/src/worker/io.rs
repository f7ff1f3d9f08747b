//! What every protocol stage of a turn works with.

use std::collections::VecDeque;

use ringwire_proto::Instant;
use ringwire_proto::prf::Prf;
use ringwire_proto::tcp::Pressure;
use ringwire_table::Writer;

use super::handover::HandOver;
use super::link::Link;
use super::net::Net;
use crate::buffer::RxBuf;
use crate::heap::Heap;
use crate::metrics::Counters;

/// The turn's time, memory, ways out and books.
#[derive(Debug)]
pub(crate) struct Io {
    pub(crate) now: Instant,
    pub(crate) link: Link,
    pub(crate) net: Net,
    pub(crate) table: Writer,
    /// The ways to other workers' sockets.
    pub(crate) handover: HandOver,
    pub(crate) counters: Counters,
    /// Who has events to report.
    pub(crate) ready: VecDeque<Ready>,
    pub(crate) prf: Prf,
    pub(crate) heap: Heap,
    /// How short memory is: of the heap as of the beginning of the turn, of frames at any time since.
    pub(crate) pressure: Pressure,
}

/// Whether a received piece can be kept, and how short memory is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shortage {
    /// Frames are short: a piece that is kept leaves its frame.
    is_of_frames: bool,
    pub(crate) pressure: Pressure,
}

impl Io {
    #[inline]
    pub(crate) fn shortage(&mut self) -> Shortage {
        let is_of_frames = self.link.is_memory_short();
        if is_of_frames {
            self.pressure = self.pressure.max(Pressure::Growth);
        }
        Shortage { is_of_frames, pressure: self.pressure }
    }

    /// A received payload as a socket keeps it: in its frame, or copied out when frames are short, so that slow readers can starve
    /// neither the ring nor the senders. `None`: there is no room for a copy.
    #[inline]
    pub(crate) fn hold(&mut self, shortage: Shortage, payload: RxBuf) -> Option<RxBuf> {
        if payload.holds_frame() && !shortage.is_of_frames { Some(payload) } else { self.copy_out(payload) }
    }

    /// [`Io::hold`] for a datagram, which is not worth the last of the heap.
    #[inline]
    pub(crate) fn hold_datagram(&mut self, payload: RxBuf) -> Option<RxBuf> {
        let shortage = self.shortage();
        if shortage.pressure >= Pressure::Early && (shortage.is_of_frames || !payload.holds_frame()) {
            return None;
        }
        self.hold(shortage, payload)
    }

    #[cold]
    fn copy_out(&mut self, payload: RxBuf) -> Option<RxBuf> {
        let copied = if payload.holds_frame() { payload.len() as u64 } else { 0 };
        let payload = payload.onto_heap(&self.heap)?;
        self.counters.now.copied_bytes += copied;
        Some(payload)
    }
}

/// Something with events to report; each stands here at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    Flow(u32),
    Udp(u32),
}

/// What a table entry points to: two bits of kind, thirty of slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    Flow(u32),
    Listener(u32),
    Udp(u32),
    TimeWait(u32),
}

const SLOT_BITS: u32 = 30;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;

impl Socket {
    pub(crate) const MAX_SLOTS: usize = SLOT_MASK as usize;

    pub(crate) fn pack(self) -> u32 {
        match self {
            Socket::Flow(slot) => slot,
            Socket::Listener(slot) => 1 << SLOT_BITS | slot,
            Socket::Udp(slot) => 2 << SLOT_BITS | slot,
            Socket::TimeWait(slot) => 3 << SLOT_BITS | slot,
        }
    }

    pub(crate) fn unpack(value: u32) -> Socket {
        let slot = value & SLOT_MASK;
        match value >> SLOT_BITS {
            0 => Socket::Flow(slot),
            1 => Socket::Listener(slot),
            2 => Socket::Udp(slot),
            _ => Socket::TimeWait(slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_survive_packing() {
        for socket in [Socket::Flow(0), Socket::Listener(7), Socket::Udp(SLOT_MASK), Socket::TimeWait(9)] {
            assert_eq!(Socket::unpack(socket.pack()), socket);
        }
    }
}
