//! What every protocol stage of a turn works with.

use std::collections::VecDeque;

use ringwire_proto::Instant;
use ringwire_proto::prf::Prf;
use ringwire_table::Writer;

use super::handover::HandOver;
use super::link::Link;
use super::net::Net;
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
