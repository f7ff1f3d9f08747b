//! Tail loss probes (RFC 8985 7): when the last segments of a flight are lost, no acknowledgement tells of it.

use super::{Cold, Evidence, Phase, Tcb};
use crate::tcp::tcb::{Bits, NEVER, Timer};
use crate::tcp::{Config, Cx, SendPool};
use crate::{Instant, SeqNum};

/// A probe that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tcp) struct TailProbe {
    /// TLP.end_seq
    end: SeqNum,
    /// TLP.is_retrans
    is_retransmission: bool,
    /// What was in flight when its time came: what the path had not carried if the probe repairs a loss.
    flight_bytes: u32,
}

/// On short paths the peer's own delays are longer than round trips; about Linux's TCP_TIMEOUT_MIN.
const MIN_PROBE_US: u32 = 10_000;

/// RFC 8985 7.2, TLP.max_ack_delay: what a peer may wait before it acknowledges a lone segment.
const MAX_ACK_DELAY_US: u32 = 200_000;

impl Tcb {
    /// When a probe would be due if one is worth while: RFC 8985 7.2. Where the RTO would fire first the probe goes in its place, and
    /// the RTO after it.
    #[inline]
    pub(in crate::tcp) fn probe_deadline(&self, now: Instant, rto_at: Instant) -> Option<Instant> {
        let is_settled = self.flags.has(Bits::SACK) && !self.flags.has(Bits::RECOVERY.or(Bits::TAIL_PROBED));
        if !is_settled || self.backoff > 0 || !self.rtt.has_sample() {
            return None;
        }
        let lone_us = if self.flight() <= u32::from(self.mss) { MAX_ACK_DELAY_US } else { 0 };
        let probe_us = (2 * self.rtt.srtt_us()).max(MIN_PROBE_US) + lone_us;
        let deadline = now.add_nanos(u64::from(probe_us) * 1_000);
        Some(deadline.min(rto_at))
    }

    /// The probe timer fired: the next new segment if the peer has room for it, else the last one again. The RTO waits from now on.
    pub(in crate::tcp) fn on_probe_timer<P, S>(
        &mut self,
        cold: Option<&mut Cold<P, S>>,
        config: &Config,
        now: Instant,
    ) {
        if self.flags.has(Bits::FIN_SENT) {
            // The FIN is the last of it.
            self.flags.set(Bits::FIN_LOST.or(Bits::TX_RTX));
        } else if let Some(cold) = cold {
            self.flags.set(Bits::TAIL_PROBED);
            let is_new = self.has_sendable(cold, config);
            cold.recovery.probe = Some(TailProbe {
                end: self.snd.nxt,
                is_retransmission: !is_new,
                flight_bytes: self.flight(),
            });
            self.flags.set(if is_new { Bits::TX_DATA } else { Bits::TX_RTX });
        }
        self.arm_rto(now, config);
    }

    /// What the probe is to send, if it has not left yet: `Some(true)` the last segment again, `Some(false)` new data.
    pub(in crate::tcp) fn due_probe<P, S>(&self, cold: &Cold<P, S>) -> Option<bool> {
        if !self.flags.has(Bits::TAIL_PROBED) || self.flags.has(Bits::PROBE_SENT) {
            return None;
        }
        cold.recovery.probe.map(|probe| probe.is_retransmission)
    }

    /// The probe has left.
    pub(in crate::tcp) fn on_probe_sent<P, S>(&mut self, cold: &mut Cold<P, S>) {
        self.flags.set(Bits::PROBE_SENT);
        if let Some(probe) = &mut cold.recovery.probe {
            probe.end = self.snd.nxt;
        }
    }

    /// RFC 8985 7.4.2: whether the probe repaired a loss that nobody else will report. An acknowledgement may repeat the last one, or
    /// report a duplicate.
    pub(super) fn resolve_probe<P, S>(
        &mut self,
        cold: &mut Cold<P, S>,
        (is_repeated, duplicate): (bool, Option<(SeqNum, SeqNum)>),
        evidence: &Evidence,
        config: &Config,
    ) {
        let Some(probe) = cold.recovery.probe else { return };
        if self.snd.una.before(probe.end) {
            return;
        }
        let is_reported = duplicate.is_some_and(|(_, right)| right == probe.end);
        let is_masked = self.snd.una.after(probe.end);
        if probe.is_retransmission && !is_reported && !is_repeated && !is_masked {
            // The last segment arrived, but which copy? The next acknowledgement tells; if nothing leaves that it could answer, time.
            if self.timer == Timer::Idle {
                self.arm(Timer::ProbeVerdict, evidence.now.add_nanos(u64::from(self.rtt.rto_us()) * 1_000));
            }
            return;
        }
        self.end_probe(cold);
        if probe.is_retransmission && !is_reported && is_masked && cold.recovery.phase == Phase::Open {
            self.blame_repaired_loss(cold, probe.flight_bytes, config);
        }
    }

    /// No report of a second copy has come in time: the probe was the only one.
    pub(in crate::tcp) fn on_verdict_timer<P, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        self.timer = Timer::Idle;
        let Some(cold) = cx.cold.get_mut(self.cold) else { return };
        if let Some(probe) = cold.recovery.probe {
            self.end_probe(cold);
            self.blame_repaired_loss(cold, probe.flight_bytes, cx.config);
        }
        self.free_idle_cold(cx);
    }

    fn blame_repaired_loss<P, S>(&mut self, cold: &mut Cold<P, S>, flight_bytes: u32, config: &Config) {
        let cwnd = self.window.cwnd;
        cold.recovery.forbid_undo();
        cold.congestion.on_loss(config.congestion, &mut self.window, flight_bytes, self.mss);
        // RFC 5681 4.1: it may be the one of a restart by now, and less than half of what was in flight.
        self.window.cwnd = self.window.cwnd.min(cwnd);
        self.tell_of_reduction(cold);
    }

    pub(super) fn end_probe<P, S>(&mut self, cold: &mut Cold<P, S>) {
        cold.recovery.probe = None;
        self.flags.clear(Bits::TAIL_PROBED.or(Bits::PROBE_SENT));
        if self.timer == Timer::ProbeVerdict {
            self.timer = Timer::Idle;
            self.timer_at = NEVER;
        }
    }

    /// Whether what is armed is the probe or the timeout.
    pub(in crate::tcp) fn is_retransmit_armed(&self) -> bool {
        matches!(self.timer, Timer::Retransmit | Timer::TailProbe | Timer::Reorder)
    }
}
