//! What an algorithm that models the path learns from one acknowledgement.

use crate::Instant;

/// One acknowledgement, as a sample of the path (draft-ietf-ccwg-bbr 4.1). Bytes, and bytes per second.
#[derive(Debug, Clone, Copy)]
pub struct RateSample {
    /// When it arrived.
    pub now: Instant,
    /// RS.delivery_rate; 0: none could be measured.
    pub delivery_rate: u64,
    /// RS.delivered: over the interval of the sample.
    pub delivered: u64,
    /// RS.prior_delivered: the connection's count when the newest segment delivered had left; none: nothing was delivered.
    pub prior_delivered: Option<u64>,
    /// C.delivered: in the connection's life.
    pub total_delivered: u64,
    /// RS.newly_acked, by this acknowledgement.
    pub newly_acked: u64,
    /// Newly presumed lost.
    pub newly_lost: u64,
    /// RS.lost: since the newest segment delivered had left.
    pub lost: u64,
    /// How many ranges of sequence numbers that was.
    pub lost_ranges: u32,
    /// RS.tx_in_flight: when the newest segment delivered had left, with it.
    pub sent_in_flight: u32,
    /// RS.is_app_limited: the application sent less than the path could take.
    pub is_app_limited: bool,
    /// RS.rtt: the shortest, of segments sent once.
    pub rtt_ns: Option<u64>,
    /// The first lost segment whose loss was too much for what was in flight when it left.
    pub evidence: Option<LossEvidence>,
    /// C.inflight after it.
    pub in_flight: u32,
    /// Whether the congestion window held data back.
    pub is_cwnd_limited: bool,
    /// Whether a loss is being repaired.
    pub is_recovering: bool,
    /// Sender maximum segment size.
    pub mss: u16,
}

impl RateSample {
    pub(in crate::tcp) fn new(now: Instant) -> Self {
        Self {
            now,
            delivery_rate: 0,
            delivered: 0,
            prior_delivered: None,
            total_delivered: 0,
            newly_acked: 0,
            newly_lost: 0,
            lost: 0,
            lost_ranges: 0,
            sent_in_flight: 0,
            is_app_limited: false,
            rtt_ns: None,
            evidence: None,
            in_flight: 0,
            is_cwnd_limited: false,
            is_recovering: false,
            mss: 1,
        }
    }

    /// IsInflightTooHigh
    pub(super) fn is_loss_too_high(&self) -> bool {
        LossEvidence::is_too_much(self.lost, self.sent_in_flight)
    }
}

/// A lost segment, and what was lost with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossEvidence {
    /// Lost since it left, with it.
    pub lost_since: u64,
    /// P.tx_in_flight
    pub in_flight: u32,
    /// Its length.
    pub len: u32,
    /// P.is_app_limited
    pub is_app_limited: bool,
}

/// BBR.LossThresh: a loss of one in so many is too much.
const LOSS_THRESHOLD: u64 = 50;

impl LossEvidence {
    pub(in crate::tcp) fn is_too_much(lost: u64, in_flight: u32) -> bool {
        lost * LOSS_THRESHOLD > u64::from(in_flight)
    }

    /// InflightAtLoss: what could be in flight before the loss became too much.
    pub(super) fn in_flight_at_loss(&self) -> u32 {
        let flight_before = u64::from(self.in_flight.saturating_sub(self.len));
        let lost_before = self.lost_since.saturating_sub(u64::from(self.len));
        let prefix = (flight_before / LOSS_THRESHOLD).saturating_sub(lost_before) * LOSS_THRESHOLD
            / (LOSS_THRESHOLD - 1);
        u32::try_from(flight_before + prefix).unwrap_or(u32::MAX)
    }
}
