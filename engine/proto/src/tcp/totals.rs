//! What a connection has sent and received in its life, for TCP_INFO, and what it remembers of its path while it is idle.
//!
//! Kept by the connection's owner beside the [`super::Tcb`], whose two cache lines are full, and lent with [`super::Cx`]. A segment costs an
//! addition or two; what sequence numbers, the send queue and the other counters tell is worked out when somebody asks. What happens now
//! and then lies on the heap, from the first time on for the rest of the connection's life.

use alloc::boxed::Box;
use core::mem::size_of;
use core::time::Duration;

use super::brake::Brake;
use super::delivery::Delivery;
use super::send_queue::Tally;
use crate::Instant;

/// Counters of one connection. Those of bytes never wrap; those of segments do after 2^32, as Linux's. Ordinary segments change all but
/// the last.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct Totals {
    /// How far SND.UNA has moved since the SYN: payload, and our FIN.
    pub(super) seqs_acked: u64,
    /// In order.
    pub(super) bytes_received: u64,
    /// When a segment with text last left; the end of the handshake before the first.
    pub(super) data_sent_at: Instant,
    /// When text last came in order; likewise.
    pub(super) data_received_at: Instant,
    /// How long something has waited to be sent or acknowledged, up to the last time that it began to.
    busy_ns: u64,
    /// When it last began to.
    busy_from: Instant,
    pub(super) segs_in: u32,
    pub(super) data_segs_in: u32,
    pub(super) segs_out: u32,
    pub(super) data_segs_out: u32,
    /// Without what the send queue in use has counted.
    pub(super) delivered_segs: u32,
    /// Likewise.
    pub(super) lost_segs: u32,
    /// Of the measurements that the RTO is made of; `u32::MAX` before the first.
    pub(super) min_rtt_us: u32,
    /// CUBIC's W_max when the connection was last idle: bytes; 0 before the first congestion event.
    pub(super) w_max: u32,
    /// Likewise RACK.rtt (RFC 8985 6.2); 0: nothing has arrived.
    pub(super) rack_rtt_ns: u64,
    incidents: Option<Box<Incidents>>,
}

/// What happens now and then, and to many connections never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Incidents {
    pub bytes_retransmitted: u64,
    pub retransmits: u32,
    /// Of ours that the peer has reported as come twice.
    pub duplicate_segs: u32,
    /// Acknowledgements that showed reordering.
    pub reorderings: u32,
    /// Data segments that came ahead of a gap.
    pub early_segs: u32,
    pub timeouts: u32,
    /// Repairs that a timeout began.
    pub repairs: u32,
    /// How long those took that are over.
    pub repair_ns: u64,
    /// When the one under way began.
    pub repair_from: Option<Instant>,
    /// How long each [`Brake`] was on.
    pub braked_ns: [u64; Brake::COUNT],
    pub delivery: Option<Delivery>,
}

const _: () = assert!(size_of::<Totals>() == 96);
// What the runtime's ceiling for its heap leaves out for each connection.
const _: () = assert!(size_of::<Incidents>() == 96);

impl Default for Totals {
    fn default() -> Self {
        Self {
            seqs_acked: 0,
            bytes_received: 0,
            data_sent_at: Instant::ZERO,
            data_received_at: Instant::ZERO,
            busy_ns: 0,
            // It has not begun.
            busy_from: Instant::MAX,
            segs_in: 0,
            data_segs_in: 0,
            segs_out: 0,
            data_segs_out: 0,
            delivered_segs: 0,
            lost_segs: 0,
            min_rtt_us: u32::MAX,
            w_max: 0,
            rack_rtt_ns: 0,
            incidents: None,
        }
    }
}

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
        self.lost_segs = self.lost_segs.wrapping_add(tally.lost_segs);
    }

    /// Nothing has been sent or received yet by a connection that may do both.
    pub(super) fn on_open(&mut self, now: Instant) {
        (self.data_sent_at, self.data_received_at) = (now, now);
    }

    /// Something is to wait where nothing did; what waited before was through at `last_end`. Where nothing comes of it, that is earlier
    /// than the beginning, and counts for nothing.
    #[inline]
    pub(super) fn begin_busy(&mut self, last_end: Instant, now: Instant) {
        self.busy_ns += last_end.nanos_since(self.busy_from);
        self.busy_from = now;
    }

    /// How long something has waited; `end` is now or, if nothing waits, when it was through.
    pub(super) fn busy(&self, end: Instant) -> Duration {
        Duration::from_nanos(self.busy_ns + end.nanos_since(self.busy_from))
    }

    /// The smallest round trip so far was measured, which happens less and less often.
    #[cold]
    #[inline(never)]
    pub(super) fn on_smallest(&mut self, rtt_us: u32) {
        self.min_rtt_us = rtt_us;
    }

    /// The retransmission timer fired.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        let incidents = self.incidents_mut();
        incidents.timeouts = incidents.timeouts.wrapping_add(1);
        if incidents.repair_from.is_none() {
            incidents.repairs = incidents.repairs.wrapping_add(1);
            incidents.repair_from = Some(now);
        }
    }

    /// Everything that was sent before the timeout has arrived, or will not.
    pub(super) fn end_repair(&mut self, now: Instant) {
        if let Some(incidents) = &mut self.incidents
            && let Some(from) = incidents.repair_from.take()
        {
            incidents.repair_ns += now.nanos_since(from);
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
