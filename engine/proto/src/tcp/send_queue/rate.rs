//! Delivery-rate samples (draft-cheng-iccrg-delivery-rate-estimation, now draft-ietf-ccwg-bbr 4.1): how fast the path delivered what
//! was sent, over the life of one segment.
//!
//! ```text
//! rate = delivered since the segment left / the longer of: time in which that was sent, time in which it was acknowledged
//! ```
//! Kept beside the records, one snapshot for each that is out, and only while the connection's algorithm wants it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::{Record, RecordFlags, SendQueue};
use crate::tcp::congestion::{LossEvidence, RateSample};
use crate::{Instant, SeqNum};

/// What was known when a segment last left.
#[derive(Debug, Clone, Copy)]
struct Snapshot {
    /// P.delivered, P.lost: bytes.
    delivered: u64,
    lost: u64,
    /// P.delivered_time
    delivered_at: Instant,
    /// P.first_send_time
    first_sent_at: Instant,
    /// P.tx_in_flight: bytes, with its own.
    in_flight: u32,
    is_app_limited: bool,
    /// Counted as delivered.
    is_delivered: bool,
}

impl Snapshot {
    /// Of what was sent before anybody asked: it says nothing of rates.
    const NONE: Self = Self {
        delivered: 0,
        lost: 0,
        delivered_at: Instant::ZERO,
        first_sent_at: Instant::ZERO,
        in_flight: u32::MAX,
        is_app_limited: true,
        is_delivered: false,
    };
}

/// The segment that left last, of those that the acknowledgement under way delivers.
#[derive(Debug, Clone, Copy)]
struct Newest {
    snapshot: Snapshot,
    sent_at: Instant,
    end: SeqNum,
}

/// The estimator's state for one connection.
#[derive(Debug)]
pub(super) struct RateSampler {
    /// One for each record that is out, in their order.
    snapshots: VecDeque<Snapshot>,
    /// C.delivered and C.lost: bytes.
    delivered: u64,
    lost: u64,
    /// C.delivered_time
    delivered_at: Instant,
    /// C.first_send_time
    first_sent_at: Instant,
    /// C.app_limited: samples are so until this much is delivered; 0: they are not.
    app_limited_to: u64,
    /// Since the last sample was taken.
    newest: Option<Newest>,
    rtt_ns: Option<u64>,
    lost_ranges: u32,
    lost_to: Option<SeqNum>,
    evidence: Option<LossEvidence>,
    seen_delivered: u64,
    seen_lost: u64,
}

impl RateSampler {
    fn new(now: Instant, sent_segs: usize) -> Self {
        Self {
            snapshots: core::iter::repeat_n(Snapshot::NONE, sent_segs).collect(),
            delivered: 0,
            lost: 0,
            delivered_at: now,
            first_sent_at: now,
            app_limited_to: 0,
            newest: None,
            rtt_ns: None,
            lost_ranges: 0,
            lost_to: None,
            evidence: None,
            seen_delivered: 0,
            seen_lost: 0,
        }
    }

    /// OnPacketSent: `in_flight` bytes were out before it and are with it.
    fn on_sent(&mut self, index: usize, now: Instant, (before, after): (u32, u32)) {
        if before == 0 {
            (self.first_sent_at, self.delivered_at) = (now, now);
        }
        let snapshot = Snapshot {
            delivered: self.delivered,
            lost: self.lost,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            in_flight: after,
            is_app_limited: self.app_limited_to != 0,
            is_delivered: false,
        };
        match self.snapshots.get_mut(index) {
            // What was SACKed and goes again after a timeout all the same is not delivered twice.
            Some(known) => *known = Snapshot { is_delivered: known.is_delivered, ..snapshot },
            None => self.snapshots.push_back(snapshot),
        }
    }

    /// UpdateRateSample, for a record that has just been acknowledged and left the queue.
    pub(super) fn on_acked<S>(&mut self, record: &Record<S>, now: Instant) {
        if let Some(snapshot) = self.snapshots.pop_front()
            && !snapshot.is_delivered
        {
            self.deliver(record, snapshot, now);
        }
    }

    /// The same for one that was SACKed and stays.
    pub(super) fn on_sacked<S>(&mut self, index: usize, record: &Record<S>, now: Instant) {
        if let Some(kept) = self.snapshots.get_mut(index)
            && !kept.is_delivered
        {
            kept.is_delivered = true;
            let snapshot = *kept;
            self.deliver(record, snapshot, now);
        }
    }

    fn deliver<S>(&mut self, record: &Record<S>, snapshot: Snapshot, now: Instant) {
        self.delivered += u64::from(record.len);
        self.delivered_at = now;
        if !record.flags.has(RecordFlags::EVER_RETRANSMITTED) {
            let rtt_ns = now.nanos_since(record.sent_at);
            self.rtt_ns = Some(self.rtt_ns.map_or(rtt_ns, |least| least.min(rtt_ns)));
        }
        let is_newest = self.newest.is_none_or(|newest| {
            record.sent_at > newest.sent_at
                || record.sent_at == newest.sent_at && record.end().after(newest.end)
        });
        if is_newest {
            self.newest = Some(Newest { snapshot, sent_at: record.sent_at, end: record.end() });
        }
    }

    /// A segment that was out is presumed lost.
    pub(super) fn on_lost(&mut self, index: usize, (seq, len): (SeqNum, u32)) {
        if self.snapshots.get(index).is_some_and(|snapshot| snapshot.is_delivered) {
            // The receiver had it; only the timeout sends it again.
            return;
        }
        self.lost += u64::from(len);
        if self.lost_to != Some(seq) {
            self.lost_ranges += 1;
        }
        self.lost_to = Some(seq + len);
        let Some(snapshot) = self.snapshots.get(index) else { return };
        let lost_since = self.lost - snapshot.lost;
        if self.evidence.is_none() && LossEvidence::is_too_much(lost_since, snapshot.in_flight) {
            self.evidence = Some(LossEvidence {
                lost_since,
                in_flight: snapshot.in_flight,
                len,
                is_app_limited: snapshot.is_app_limited,
            });
        }
    }

    /// GenerateRateSample. Samples over less than `min_rtt_ns` are of retransmissions whose first transmission arrived.
    fn take_sample(&mut self, now: Instant, min_rtt_ns: u64) -> RateSample {
        if self.delivered > self.app_limited_to {
            self.app_limited_to = 0;
        }
        let mut sample = RateSample {
            newly_acked: self.delivered - core::mem::replace(&mut self.seen_delivered, self.delivered),
            newly_lost: self.lost - core::mem::replace(&mut self.seen_lost, self.lost),
            total_delivered: self.delivered,
            rtt_ns: self.rtt_ns.take(),
            lost_ranges: core::mem::take(&mut self.lost_ranges),
            evidence: self.evidence.take(),
            ..RateSample::new(now)
        };
        self.lost_to = None;
        let Some(Newest { snapshot, sent_at, .. }) = self.newest.take() else { return sample };
        let sending_ns = sent_at.nanos_since(snapshot.first_sent_at);
        let acking_ns = self.delivered_at.nanos_since(snapshot.delivered_at);
        let interval_ns = sending_ns.max(acking_ns);
        self.first_sent_at = sent_at;
        if snapshot.in_flight == u32::MAX {
            return sample;
        }
        sample.prior_delivered = Some(snapshot.delivered);
        sample.delivered = self.delivered - snapshot.delivered;
        sample.lost = self.lost - snapshot.lost;
        sample.sent_in_flight = snapshot.in_flight;
        sample.is_app_limited = snapshot.is_app_limited;
        if interval_ns >= min_rtt_ns && interval_ns > 0 {
            let rate = u128::from(sample.delivered) * 1_000_000_000 / u128::from(interval_ns);
            sample.delivery_rate = u64::try_from(rate).unwrap_or(u64::MAX);
        }
        sample
    }
}

impl<S> SendQueue<S> {
    /// Whether samples are being taken.
    pub(in crate::tcp) fn is_sampled(&self) -> bool {
        self.rate.is_some()
    }

    /// Starts or stops taking them.
    #[cold]
    pub(in crate::tcp) fn sample_rates(&mut self, is_wanted: bool, now: Instant) {
        self.rate = is_wanted.then(|| Box::new(RateSampler::new(now, self.sent)));
    }

    /// A record has left; what was in flight before it and with it.
    pub(in crate::tcp) fn sample_sent(&mut self, index: usize, now: Instant, in_flight: (u32, u32)) {
        if let Some(rate) = &mut self.rate {
            rate.on_sent(index, now, in_flight);
        }
    }

    /// What the acknowledgement under way has shown.
    pub(in crate::tcp) fn take_sample(&mut self, now: Instant) -> Option<RateSample> {
        let min_rtt_ns = self.min_rtt_ns().unwrap_or(0);
        self.rate.as_mut().map(|rate| rate.take_sample(now, min_rtt_ns))
    }

    /// MarkConnectionAppLimited: until what is in flight now has arrived, samples say what the application sent, not what the path
    /// can do.
    pub(in crate::tcp) fn mark_app_limited(&mut self, in_flight: u32) {
        if let Some(rate) = &mut self.rate {
            rate.app_limited_to = (rate.delivered + u64::from(in_flight)).max(1);
        }
    }

    /// Whether samples say what the application sent, not what the path can do.
    pub(in crate::tcp) fn is_app_limited(&self) -> bool {
        self.rate.as_ref().is_some_and(|rate| rate.app_limited_to != 0)
    }

    /// The record at `index` was cut in two.
    pub(super) fn split_sample(&mut self, index: usize) {
        if let Some(rate) = &mut self.rate
            && let Some(snapshot) = rate.snapshots.get(index).copied()
        {
            rate.snapshots.insert(index, snapshot);
        }
    }
}
