//! What TCP_INFO shows.

use super::brake::Brake;
use super::cold::Cold;
use super::delivery::Delivery;
use super::options::now_ms;
use super::recovery::{DUP_THRESHOLD, Phase};
use super::send_queue::Tally;
use super::tcb::Bits;
use super::timers::R1;
use super::{Cx, SendPool, State, Tcb};
use crate::Instant;
use crate::icmp::Unreachable;
use core::time::Duration;

/// Where congestion control stands (Linux's `tcpi_ca_state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CongestionPhase {
    /// Nothing is suspected lost.
    #[default]
    Open,
    /// Something has arrived out of order, and nothing is known to be lost.
    Disorder,
    /// The window came down for a congestion mark, less than a round trip ago.
    WindowReduced,
    /// Fast recovery.
    Recovery,
    /// A retransmission timeout is being repaired.
    Loss,
}

/// A snapshot of one connection. Lengths are of payload and in bytes, times as exact as the turns of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Info {
    /// State.
    pub state: State,
    /// Where congestion control stands.
    pub congestion: CongestionPhase,
    /// Payload bytes of a full segment we send.
    pub mss: u16,
    /// What our SYN said or says: the most that the peer may send in one, without options.
    pub advertised_mss: u16,
    /// How long ago a segment with text last left, again or for the first time; before the first one, how long ago the handshake ended.
    /// Zero during the handshake.
    pub last_sent: Duration,
    /// How long ago text last came in order; likewise.
    pub last_received: Duration,
    /// How long ago the peer was last heard: the last acceptable segment, to a millisecond; zero before the first one.
    pub heard: Duration,
    /// Smoothed round-trip time; zero before the first measurement.
    pub srtt: Duration,
    /// Smallest of the connection's round trips, as far as they were measured for the RTO; none before the first. Linux forgets those
    /// that are older than five minutes.
    pub min_rtt: Option<Duration>,
    /// The round trip by which the receive buffer grows: the smoothed one, from the first text on.
    pub rcv_rtt: Option<Duration>,
    /// What may come in one before the receive buffer has to grow.
    pub rcv_space_bytes: u32,
    /// Round-trip time variation.
    pub rttvar: Duration,
    /// Retransmission timeout without back-off.
    pub rto: Duration,
    /// Doublings of the RTO or of the probe interval in force.
    pub backoff: u8,
    /// Congestion window.
    pub cwnd_bytes: u32,
    /// Slow-start threshold; `u32::MAX` before the first loss.
    pub ssthresh_bytes: u32,
    /// Bytes per second at which segments leave at most; none: they leave as the window allows.
    pub pacing_rate: Option<u64>,
    /// Bytes per second that the path delivered in the last round trip that began while more waited than might leave; none: it never did,
    /// so what arrived says what the application wrote, not what the path can do.
    pub delivery_rate: Option<u64>,
    /// How long something written, or our FIN, has waited to be sent or acknowledged.
    pub busy: Duration,
    /// Part of that in which the peer's receive window kept back what was to be sent.
    pub rwnd_limited: Duration,
    /// Part of `busy` in which all that was written was in flight, the congestion window had room, and the application had been told that
    /// the send buffer has none.
    pub sndbuf_limited: Duration,
    /// The peer's receive window.
    pub snd_wnd_bytes: u32,
    /// Our announced receive window.
    pub rcv_wnd_bytes: u32,
    /// Sent and not acknowledged, in sequence numbers.
    pub unacked_bytes: u32,
    /// Of that, what is estimated to be in the network (RFC 6675 2).
    pub pipe_bytes: u32,
    /// Of that, what the peer holds out of order (SACK).
    pub sacked_bytes: u32,
    /// By how many segments the path was seen to reorder while data was in flight without a pause; three at least, as without SACK so many
    /// duplicate ACKs tell of a loss.
    pub reordering_segs: u32,
    /// Acknowledgements that showed a segment arriving behind one that had left later (RFC 8985 6.2).
    pub reorderings: u32,
    /// Segments of ours that the peer has reported as come twice (RFC 2883).
    pub duplicate_segs: u32,
    /// Written and not sent.
    pub unsent_bytes: u32,
    /// Received in order and not given back by the application.
    pub held_bytes: u32,
    /// Up to the peer's urgent pointer, of what is held and of what is to come; 0: nothing is urgent (RFC 9293 3.8.5).
    pub urgent_bytes: u32,
    /// Pieces held out of order.
    pub out_of_order_segs: u32,
    /// Data segments that came ahead of a gap, kept or not.
    pub early_segs: u32,
    /// Times that the retransmission timer fired, for SYNs too.
    pub timeouts: u32,
    /// Repairs that a timeout began; each lasts until everything sent before it has been acknowledged, or was found not to be lost.
    pub timeout_repairs: u32,
    /// How long they took, the one under way included.
    pub repairing: Duration,
    /// SYNs, data segments and FINs sent again in the connection's life.
    pub retransmits: u32,
    /// Payload bytes sent, each time they were.
    pub bytes_sent: u64,
    /// Part of that which was sent again.
    pub bytes_retransmitted: u64,
    /// Payload bytes that the peer has acknowledged.
    pub bytes_acked: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Segments received, but for a SYN that a listener took; this and the numbers of segments below wrap.
    pub segs_in: u32,
    /// Of these, with payload, of use or not.
    pub data_segs_in: u32,
    /// Segments sent.
    pub segs_out: u32,
    /// Of these, with payload.
    pub data_segs_out: u32,
    /// Data segments that have arrived at the peer: acknowledged, or SACKed once.
    pub delivered_segs: u32,
    /// Times that a data segment was presumed lost.
    pub lost_segs: u32,
    /// Retransmissions, window probes or keepalive probes in a row without an answer that counts.
    pub tries: u8,
    /// What ICMP has said since data was last acknowledged.
    pub soft_error: Option<Unreachable>,
    /// Segments that the peer holds out of order.
    pub sacked_segs: u32,
    /// Sent, not acknowledged and presumed lost.
    pub lost_bytes: u32,
    /// Part of `lost_bytes` that was sent again.
    pub resent_bytes: u32,
    /// Shifts of the peer's and of our window fields; none: scaling was not agreed on.
    pub window_scales: Option<(u8, u8)>,
    /// Whether timestamps were agreed on.
    pub timestamps: bool,
    /// Whether SACK options were agreed on.
    pub sack: bool,
    /// Whether explicit congestion notification was agreed on.
    pub ecn: bool,
    /// Whether text of our or the peer's SYN was taken (RFC 7413).
    pub syn_text: bool,
}

impl Info {
    /// Whether R1 has passed: three tries or more had no answer, and perhaps the path or the peer is gone (RFC 9293 3.8.3, SHLD-9).
    pub const fn is_unanswered(&self) -> bool {
        self.tries >= R1
    }
}

impl Tcb {
    /// A snapshot for TCP_INFO and diagnosis.
    pub fn info<P, A: SendPool>(&self, cx: &Cx<'_, P, A>) -> Info {
        let cold = cx.cold.get(self.cold);
        let unacked_bytes = self.flight();
        let end = cold.and_then(|cold| cold.send.end());
        Info {
            state: self.state,
            congestion: cold.map_or(CongestionPhase::Open, |cold| self.congestion_phase(cold)),
            mss: self.mss,
            advertised_mss: cx.config.mss,
            heard: self.silence(cx.now),
            srtt: Duration::from_micros(self.rtt.srtt_us().into()),
            rcv_rtt: cx.tune.is_counting().then(|| Duration::from_micros(self.rtt.srtt_us().into())),
            rcv_space_bytes: cx.tune.space_bytes(cx.config, self.mss),
            rttvar: Duration::from_micros(self.rtt.rttvar_us().into()),
            rto: Duration::from_micros(self.rtt.rto_us().into()),
            backoff: self.backoff,
            cwnd_bytes: self.window.cwnd,
            ssthresh_bytes: self.window.ssthresh,
            pacing_rate: cold.and_then(|cold| self.pacing_rate(cold, cx.config)),
            snd_wnd_bytes: self.snd.wnd,
            rcv_wnd_bytes: self.rcv_wnd(),
            unacked_bytes,
            pipe_bytes: cold.map_or(unacked_bytes, |cold| self.pipe(cold)),
            sacked_bytes: cold.map_or(0, |cold| cold.send.sacked_bytes()),
            reordering_segs: cold.map_or(DUP_THRESHOLD, |cold| cold.send.reordering_segs(self.mss)),
            unsent_bytes: end.map_or(0, |end| u32::try_from(end.offset_from(self.snd.nxt)).unwrap_or(0)),
            held_bytes: self.rcv.held_bytes,
            urgent_bytes: self.urgent_bytes(cold.and_then(|cold| cold.urgent)),
            out_of_order_segs: cold.map_or(0, |cold| cold.reassembly.segs() as u32),
            tries: self.tries,
            soft_error: self.soft_error,
            sacked_segs: cold.map_or(0, |cold| cold.send.sacked_segs()),
            lost_bytes: cold.map_or(0, |cold| cold.send.lost_bytes()),
            resent_bytes: cold.map_or(0, |cold| cold.send.lost_bytes() - cold.send.missing_bytes()),
            window_scales: self.flags.has(Bits::SCALED).then(|| (self.shifts.snd(), self.shifts.rcv())),
            timestamps: self.flags.has(Bits::TIMESTAMPS),
            sack: self.flags.has(Bits::SACK),
            ecn: self.flags.has(Bits::ECN),
            syn_text: self.has_syn_text(),
            ..self.history(cx)
        }
    }

    /// What is counted in a connection's life.
    fn history<P, A: SendPool>(&self, cx: &Cx<'_, P, A>) -> Info {
        let cold = cx.cold.get(self.cold);
        let (now, totals, incidents) = (cx.now, &*cx.totals, cx.totals.incidents());
        let tally = cold.map_or(Tally::default(), |cold| cold.send.tally());
        let fin_acked = self.flags.has(Bits::FIN_SENT) && self.flight() == 0;
        let bytes_acked = totals.seqs_acked - u64::from(fin_acked);
        let since = |at: Instant| if at == Instant::ZERO { Duration::ZERO } else { now.saturating_since(at) };
        let braked = |by: Brake, sum_ns: u64| {
            Duration::from_nanos(sum_ns + cold.map_or(0, |cold| cold.braked_ns(by, now)))
        };
        let [rwnd_ns, sndbuf_ns] = incidents.braked_ns;
        let repair_ns = incidents.repair_from.map_or(0, |from| now.nanos_since(from));
        Info {
            last_sent: since(totals.data_sent_at),
            last_received: since(totals.data_received_at),
            min_rtt: (totals.min_rtt_us != u32::MAX).then(|| Duration::from_micros(totals.min_rtt_us.into())),
            delivery_rate: incidents.delivery.and_then(Delivery::rate),
            busy: totals.busy(if self.is_busy(cold) { now } else { self.progress_at }),
            rwnd_limited: braked(Brake::ReceiveWindow, rwnd_ns),
            sndbuf_limited: braked(Brake::SendBuffer, sndbuf_ns),
            reorderings: incidents.reorderings,
            duplicate_segs: incidents.duplicate_segs,
            early_segs: incidents.early_segs,
            timeouts: incidents.timeouts,
            timeout_repairs: incidents.repairs,
            repairing: Duration::from_nanos(incidents.repair_ns + repair_ns),
            retransmits: incidents.retransmits,
            bytes_sent: bytes_acked + u64::from(self.payload_in_flight()) + incidents.bytes_retransmitted,
            bytes_retransmitted: incidents.bytes_retransmitted,
            bytes_acked,
            bytes_received: totals.bytes_received,
            segs_in: totals.segs_in,
            data_segs_in: totals.data_segs_in,
            segs_out: totals.segs_out,
            data_segs_out: totals.data_segs_out,
            delivered_segs: totals.delivered_segs.wrapping_add(tally.delivered_segs),
            lost_segs: totals.lost_segs.wrapping_add(tally.lost_segs),
            ..Info::default()
        }
    }

    fn congestion_phase<P, S>(&self, cold: &Cold<P, S>) -> CongestionPhase {
        let recovery = &cold.recovery;
        match recovery.phase {
            Phase::Open if recovery.dup_acks > 0 || cold.send.sacked_bytes() > 0 => CongestionPhase::Disorder,
            // As on Linux until more is acknowledged, so that CWR has reached the peer.
            Phase::Open if recovery.is_reduced_outside_recovery(self.snd.una) => {
                CongestionPhase::WindowReduced
            }
            Phase::Open => CongestionPhase::Open,
            Phase::FastRecovery => CongestionPhase::Recovery,
            Phase::Loss => CongestionPhase::Loss,
        }
    }

    /// Since the peer was heard.
    fn silence(&self, now: Instant) -> Duration {
        let silence_ms = now_ms(now).wrapping_sub(self.heard_ms);
        if self.state == State::SynSent { Duration::ZERO } else { Duration::from_millis(silence_ms.into()) }
    }

    /// What is in flight, without SYN and FIN.
    fn payload_in_flight(&self) -> u32 {
        match self.state {
            // The SYN's text (RFC 7413), or what followed the SYN-ACK.
            State::SynSent | State::SynReceived => self.flight().saturating_sub(1),
            State::Closed
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => self.flight().saturating_sub(u32::from(self.flags.has(Bits::FIN_SENT))),
        }
    }
}
