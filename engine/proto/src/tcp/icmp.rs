//! ICMP errors about a connection (RFC 9293 3.9.2.2, RFC 5927).

use super::tcb::{Bits, State, Tcb};
use super::{CloseReason, Cx, Outcome, Payload, SendPool};
use crate::icmp::ErrorKind;
use crate::{DropReason, SeqNum};

/// RFC 1191 3: below this, no honest router answers "fragmentation needed" (Linux's min_pmtu).
const MIN_PATH_MTU: u16 = 552;

/// IPv4 and TCP headers without options.
const HEADERS_LEN: u16 = 40;

impl Tcb {
    /// An ICMP error quoted a segment of ours that began at `seq`.
    pub fn on_icmp_error<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        error: ErrorKind,
        seq: SeqNum,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        // RFC 5927 4.1: a blind attacker does not know what is in flight.
        if seq.before(self.snd.una) || seq.after_eq(self.snd.nxt) {
            outcome.drop = Some(DropReason::IcmpUnknownFlow);
            return outcome;
        }
        let why = match error {
            ErrorKind::FragmentationNeeded { mtu } => {
                self.on_packet_too_big(cx, mtu);
                return outcome;
            }
            ErrorKind::Unreachable(why) => why,
        };
        self.soft_error = Some(why);
        let (reason, is_final) = (CloseReason::told(why), why.is_lasting());
        match self.state {
            // RFC 5461 4.1: during connect an unreachable peer is news for the application.
            State::SynSent if is_final => self.close_with(cx, reason, &mut outcome),
            State::SynReceived if is_final && !self.is_fast_opened() => {
                self.close_with(cx, reason, &mut outcome);
            }
            // RFC 9293 3.9.2.2 (MUST-56), RFC 5927 5.2: never abort an existing connection; the timers decide.
            State::Closed
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => {}
        }
        outcome
    }

    /// RFC 1191 6.3: smaller segments from now on; what was in flight did not fit and goes again, without blaming congestion.
    fn on_packet_too_big<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>, mtu: u16) {
        let options_len: u16 = if self.flags.has(Bits::TIMESTAMPS) { 12 } else { 0 };
        let mss = mtu.max(MIN_PATH_MTU) - HEADERS_LEN - options_len;
        if let Some(cold) = cx.cold.get_mut(self.cold) {
            self.bound_path_search(cold, mss);
        }
        if mss >= self.mss {
            return;
        }
        self.mss = mss;
        let Some(cold) = cx.cold.get_mut(self.cold) else { return };
        cold.send.resegment(0, mss);
        if self.state == State::SynSent {
            // It was our SYN with its text (RFC 7413 4.1.3.1): the next one has none.
            self.flags.set(Bits::TX_SYN);
            return;
        }
        self.resend_all(cold);
    }
}
