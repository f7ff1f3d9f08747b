//! What a connection has sent and received in its life, for TCP_INFO.
//!
//! Kept by the connection's owner beside the [`super::Tcb`], whose two cache lines are full, and lent with [`super::Cx`]. A segment costs an
//! addition or two; what sequence numbers, the send queue and the other counters tell is worked out when somebody asks.

use super::send_queue::Tally;

/// Counters of one connection. Those of bytes never wrap; those of segments do after 2^32, as Linux's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// How far SND.UNA has moved since the SYN: payload, and our FIN.
    pub(super) seqs_acked: u64,
    /// In order.
    pub(super) bytes_received: u64,
    pub(super) bytes_retransmitted: u64,
    pub(super) segs_in: u32,
    pub(super) segs_out: u32,
    pub(super) data_segs_out: u32,
    pub(super) retransmits: u32,
    /// Without what the send queue in use has counted.
    pub(super) delivered_segs: u32,
    pub(super) lost_segs: u32,
}

impl Totals {
    /// Payload that has come in order.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Something that takes sequence numbers left again, with `len` bytes of payload.
    pub(super) fn on_retransmit(&mut self, len: u32) {
        self.retransmits = self.retransmits.wrapping_add(1);
        self.bytes_retransmitted += u64::from(len);
    }

    /// A send queue comes to its end.
    #[inline]
    pub(super) fn add(&mut self, tally: Tally) {
        self.delivered_segs = self.delivered_segs.wrapping_add(tally.delivered_segs);
        self.lost_segs = self.lost_segs.wrapping_add(tally.lost_segs);
    }
}
