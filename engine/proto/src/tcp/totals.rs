//! What a connection has sent and received in its life, for TCP_INFO, and what it remembers of its path while it is idle.
//!
//! Kept by the connection's owner beside the [`super::Tcb`], whose two cache lines are full, and lent with [`super::Cx`]. A segment costs an
//! addition or two; what sequence numbers, the send queue and the other counters tell is worked out when somebody asks. What happens now
//! and then lies on the heap, from the first time on.

use alloc::boxed::Box;
use core::mem::{offset_of, size_of};

use super::send_queue::Tally;

/// Counters of one connection. Those of bytes never wrap; those of segments do after 2^32, as Linux's. The first 64 bytes are what
/// ordinary segments change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Totals {
    /// How far SND.UNA has moved since the SYN: payload, and our FIN.
    pub(super) seqs_acked: u64,
    /// In order.
    pub(super) bytes_received: u64,
    pub(super) segs_in: u32,
    pub(super) segs_out: u32,
    pub(super) data_segs_out: u32,
    /// Without what the send queue in use has counted.
    pub(super) delivered_segs: u32,
    /// As of the last time the connection was idle.
    pub(super) path: PathMemory,
    incidents: Option<Box<Incidents>>,
}

/// What outlives the cold part of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PathMemory {
    /// RACK.rtt (RFC 8985 6.2); 0: nothing has arrived.
    pub rack_rtt_ns: u64,
    /// CUBIC's W_max: bytes; 0 before the first congestion event.
    pub w_max: u32,
}

impl PathMemory {
    /// Of a connection that begins.
    pub(super) const NONE: Self = Self { rack_rtt_ns: 0, w_max: 0 };
}

/// What happens now and then, and to many connections never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Incidents {
    pub bytes_retransmitted: u64,
    pub retransmits: u32,
    /// Without what the send queue in use has counted.
    pub lost_segs: u32,
}

const _: () = assert!(size_of::<Totals>() == 56 && offset_of!(Totals, path) <= 64);

impl Totals {
    /// Payload that has come in order.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Something that takes sequence numbers left again, with `len` bytes of payload.
    pub(super) fn on_retransmit(&mut self, len: u32) {
        let incidents = self.incidents_mut();
        incidents.retransmits = incidents.retransmits.wrapping_add(1);
        incidents.bytes_retransmitted += u64::from(len);
    }

    /// A send queue comes to its end.
    #[inline]
    pub(super) fn add(&mut self, tally: Tally) {
        self.delivered_segs = self.delivered_segs.wrapping_add(tally.delivered_segs);
        if tally.lost_segs > 0 {
            let incidents = self.incidents_mut();
            incidents.lost_segs = incidents.lost_segs.wrapping_add(tally.lost_segs);
        }
    }

    pub(super) fn incidents(&self) -> Incidents {
        self.incidents.as_deref().copied().unwrap_or_default()
    }

    #[cold]
    pub(super) fn incidents_mut(&mut self) -> &mut Incidents {
        self.incidents.get_or_insert_default()
    }
}
