//! Explicit congestion notification (RFC 3168): routers mark packets instead of dropping them.
//!
//! ```text
//! sender: data as ECT(0) -> router: CE -> receiver: ECE in every ACK -> sender: window down, CWR in the next new data -> receiver: no ECE
//! ```
//!
//! DCTCP (RFC 8257) counts how much was marked. Nothing in the handshake says so: both ends must have chosen it. Its receiver tells of a
//! mark in the acknowledgement of what was marked and in no other: each run of segments, all marked or all not, is acknowledged apart
//! (3.2), and CWR says nothing to it.
//!
//! ```text
//! accepted: 1 2 3* 4* 5 (* marked) -> sent: ACK 2, ACK 4 with ECE, ACK 5
//! ```
//! All its segments are ECT(0), as Linux has it: RFC 8257 3.6 wants that of SYN, SYN-ACK and RST, and a queue that marks early drops
//! what it may not mark, so that bare ACKs, retransmissions and probes, which RFC 3168 6.1.4 to 6.1.6 keeps apart, would suffer most.

use ringwire_wire::tcp::{Flags, Header};

use super::cold::Cold;
use super::recovery::Phase;
use super::tcb::{Bits, Tcb};
use super::{Config, Cx, Ecn, SendPool};
use crate::SeqNum;

/// The two low bits of the IP header's type of service that a segment leaves with (RFC 3168 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codepoint {
    /// The path drops it when it is congested.
    NotEct = 0,
    /// ECT(0): the path may mark it.
    Ect0 = 2,
}

/// Runs of marked or unmarked segments that end in one turn of the worker: half of its largest batch.
const MAX_RUNS: usize = 32;

const BOTH: Flags = Flags(Flags::ECE.0 | Flags::CWR.0);

impl Tcb {
    /// What our SYN asks for: nothing any more once it had to be repeated (RFC 3168 6.1.1.1).
    pub(super) fn ecn_syn_flags(&self, config: &Config) -> Flags {
        if config.asks_ecn() && self.backoff == 0 { BOTH } else { Flags::NONE }
    }

    /// What our SYN-ACK answers.
    pub(super) fn ecn_answer_flags(&self) -> Flags {
        if self.flags.has(Bits::ECN) { Flags::ECE } else { Flags::NONE }
    }

    /// RFC 3168 6.1.1: the peer's SYN asks with both bits; its SYN-ACK agrees with ECE alone.
    pub(super) fn adopt_ecn(&mut self, config: &Config, header: &Header) {
        let bits = Flags(header.flags.0 & BOTH.0);
        let agreed = if header.flags.contains(Flags::ACK) {
            config.asks_ecn() && self.backoff == 0 && bits == Flags::ECE
        } else {
            config.ecn != Ecn::Off && bits == BOTH
        };
        if agreed {
            self.flags.set(Bits::ECN);
        }
    }

    /// A segment was accepted, which had been marked on its way or not, and had text or not; RCV.NXT was `nxt_before`.
    pub(super) fn note_mark<P, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        (is_marked, had_text): (bool, bool),
        nxt_before: SeqNum,
    ) {
        if !cx.config.congestion.counts_marks() {
            if is_marked {
                // RFC 3168 6.1.3
                self.flags.set(Bits::ECE_DUE);
            }
            return;
        }
        // RFC 8257 3.6: a mark on a segment of the handshake says nothing.
        if !had_text || is_marked == self.flags.has(Bits::ECE_DUE) {
            return;
        }
        // RFC 8257 3.2: DCTCP.CE changes. What came before is acknowledged as it was, and this at once.
        if nxt_before.after(self.rcv.ack_sent) {
            self.end_run(cx, nxt_before);
        }
        if is_marked {
            self.flags.set(Bits::ECE_DUE);
        } else {
            self.flags.clear(Bits::ECE_DUE);
        }
        self.flags.set(Bits::TX_ACK);
    }

    /// Between two turns of the worker a run ends at each change; what is more than can be kept is told of as of the next one.
    fn end_run<P, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>, end: SeqNum) {
        let ends = &mut self.cold_mut(cx.cold, cx.totals).run_ends;
        if ends.len() < MAX_RUNS {
            ends.push_back(end);
        } else {
            ends.pop_back();
        }
        self.flags.set(Bits::TX_DUP_ACK);
    }

    /// The end of the oldest run whose acknowledgement has not left, and whether it was marked: every change turns that round.
    pub(super) fn next_run<P, S>(&mut self, cold: Option<&mut Cold<P, S>>) -> Option<(SeqNum, bool)> {
        let ends = &mut cold?.run_ends;
        while let Some(end) = ends.pop_front() {
            // A segment with text may have acknowledged more since.
            if end.after(self.rcv.ack_sent) {
                let is_odd = (ends.len() + 1) % 2 == 1;
                return Some((end, self.flags.has(Bits::ECE_DUE) != is_odd));
            }
        }
        None
    }

    /// The bits of an acceptable segment: the peer's answer to our ECE, and its own. `flight_bytes` were out before it.
    pub(super) fn on_ecn_flags<P, S>(
        &mut self,
        cold: Option<&mut Cold<P, S>>,
        flags: Flags,
        flight_bytes: u32,
        config: &Config,
    ) {
        if !self.flags.has(Bits::ECN) {
            return;
        }
        if flags.contains(Flags::CWR) && !config.congestion.counts_marks() {
            self.flags.clear(Bits::ECE_DUE);
        }
        let Some(cold) = cold.filter(|_| flags.contains(Flags::ECE)) else { return };
        // RFC 3168 6.1.2: once for each window of data, and not beside a loss in it.
        let is_answered = cold.recovery.cwr_end.is_some_and(|end| self.snd.una.before_eq(end));
        if is_answered || cold.recovery.phase != Phase::Open {
            return;
        }
        cold.recovery.forbid_undo();
        cold.congestion.on_mark(config.congestion, &mut self.window, flight_bytes, self.mss);
        self.tell_of_reduction(cold);
    }

    /// The window was reduced, for whatever reason: the next new data says so, and what else the path has to say of this window of data
    /// is answered (RFC 3168 6.1.2).
    pub(super) fn tell_of_reduction<P, S>(&mut self, cold: &mut Cold<P, S>) {
        if self.flags.has(Bits::ECN) {
            cold.recovery.cwr_end = Some(self.snd.nxt);
            self.flags.set(Bits::CWR_DUE);
        }
    }

    /// What a segment that carries an ACK says beside it.
    #[inline]
    pub(super) fn ecn_ack_flags(&self) -> Flags {
        if self.flags.has(Bits::ECE_DUE) { Flags::ECE } else { Flags::NONE }
    }

    /// Of segments that are not new data: only DCTCP lets them be marked.
    #[inline]
    pub(super) fn ecn_of_others(&self, config: &Config) -> Codepoint {
        if self.flags.has(Bits::ECN) && config.congestion.counts_marks() {
            Codepoint::Ect0
        } else {
            Codepoint::NotEct
        }
    }

    /// Of our SYN or SYN-ACK, which says `flags`.
    pub(super) fn ecn_of_syn(config: &Config, flags: Flags) -> Codepoint {
        if config.congestion.counts_marks() && flags.contains(Flags::ECE) {
            Codepoint::Ect0
        } else {
            Codepoint::NotEct
        }
    }

    /// New data, never a retransmission (RFC 3168 6.1.5), is marked as ours to be marked; the first after a reduction says so.
    #[inline]
    pub(super) fn ecn_of_new_data(&mut self) -> (Codepoint, Flags) {
        if !self.flags.has(Bits::ECN) {
            return (Codepoint::NotEct, Flags::NONE);
        }
        let flags = if self.flags.has(Bits::CWR_DUE) { Flags::CWR } else { Flags::NONE };
        self.flags.clear(Bits::CWR_DUE);
        (Codepoint::Ect0, flags)
    }
}
