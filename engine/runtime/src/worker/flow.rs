//! One TCP connection as the worker keeps it: the protocol's hot part, the tuple, the way to the peer.

use core::mem::offset_of;
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use ringwire_proto::Instant;
use ringwire_proto::tcp::{RecvTune, Signals, Tcb, Totals};
use ringwire_table::FlowKey;
use ringwire_wire::eth::Mac;
use ringwire_wire::ipv4::Protocol;

use super::io::Ready;
use crate::slab::{Key, Slot};

/// The 4-tuple of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tuple {
    pub(crate) local: Ipv4Addr,
    pub(crate) remote: Ipv4Addr,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
}

impl Tuple {
    pub(crate) fn key(&self) -> FlowKey {
        FlowKey::v4(Protocol::TCP.0, (self.local, self.local_port), (self.remote, self.remote_port))
    }

    pub(crate) fn prf_flow(&self) -> ringwire_proto::Flow {
        ringwire_proto::Flow::v4(self.local, self.local_port, self.remote, self.remote_port)
    }
}

/// Which side of the API still knows the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// In a listener's SYN queue: the application has not heard of it.
    Listener(Key),
    /// The application holds its id.
    Application,
    /// Closed by the application; the protocol finishes alone.
    Nobody,
}

/// Where a write that found no memory may find some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// In a frame, or on the heap.
    Any,
    /// On the heap: it is longer than a frame.
    Heap,
}

/// The next hop's MAC address and the neighbour epoch in which it was looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CachedHop {
    pub(crate) mac: Mac,
    pub(crate) epoch: u32,
}

/// Five cache lines with its generation in the slab, which begins it on one.
///
/// The machine takes the first two, what the worker knows of it the third, what it has counted the fourth and part of the fifth. An idle
/// established connection has nothing else, but for 96 bytes on the heap from the first rare thing on that [`Totals`] counts, such as a
/// retransmission or more to send than the path took, and for its part of the cold slab if its algorithm keeps a model (BBR, DCTCP).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Flow {
    pub(crate) tcb: Tcb,
    pub(crate) tuple: Tuple,
    pub(crate) hop: Option<CachedHop>,
    pub(crate) owner: Owner,
    /// When the wheel calls next; never later than the machine wants, perhaps earlier.
    pub(crate) armed_at: Instant,
    /// The queue it came in by, and leaves by.
    pub(crate) port: u16,
    /// Index of its interned options.
    pub(crate) options: u16,
    /// Not yet turned into events.
    pub(crate) signals: Signals,
    /// In the transmit queue.
    pub(crate) is_queued: bool,
    /// In the ready queue.
    pub(crate) is_ready: bool,
    /// Waits for a local port or a neighbour; looked at again when news arrive.
    pub(crate) is_parked: bool,
    /// Over, and only here for what is unread or untold: its tuple and its port are others'.
    pub(crate) is_unlisted: bool,
    /// A write found no memory: WRITABLE follows when there is some.
    pub(crate) wanted: Option<Wanted>,
    pub(crate) close_reason: Option<ringwire_proto::tcp::CloseReason>,
    /// When the application closed it, if it is counted as such: on a clock of milliseconds, which turns every 49 days.
    pub(crate) orphaned_ms: Option<NonZeroU32>,
    /// For TCP_INFO, and what it remembers while it is idle.
    pub(crate) totals: Totals,
    /// How much the peer may send ahead.
    pub(crate) tune: RecvTune,
}

impl Flow {
    /// Puts it into the ready queue if the application has something to hear.
    #[inline]
    pub(crate) fn announce(&mut self, slot: u32, ready: &mut VecDeque<Ready>) {
        if self.owner == Owner::Application && !self.signals.is_empty() && !self.is_ready {
            self.is_ready = true;
            ready.push_back(Ready::Flow(slot));
        }
    }
}

const _: () = {
    assert!(size_of::<Slot<Flow>>() == 320 && size_of::<Option<Flow>>() == size_of::<Flow>());
    assert!(offset_of!(Flow, tcb) == 0 && offset_of!(Flow, tuple) == 128 && offset_of!(Flow, totals) == 192);
};
