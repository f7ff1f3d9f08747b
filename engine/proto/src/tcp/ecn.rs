//! Explicit congestion notification (RFC 3168): routers mark packets instead of dropping them.
//!
//! ```text
//! sender: data as ECT(0) -> router: CE -> receiver: ECE in every ACK -> sender: window down, CWR in the next new data -> receiver: no ECE
//! ```

use ringwire_wire::tcp::{Flags, Header};

use super::cold::Cold;
use super::recovery::Phase;
use super::tcb::{Bits, Tcb};
use super::{Config, Ecn};

/// The two low bits of the IP header's type of service that a segment leaves with (RFC 3168 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codepoint {
    /// The path drops it when it is congested.
    NotEct = 0,
    /// ECT(0): the path may mark it.
    Ect0 = 2,
}

const BOTH: Flags = Flags(Flags::ECE.0 | Flags::CWR.0);

impl Tcb {
    /// What our SYN asks for: nothing any more once it had to be repeated (RFC 3168 6.1.1.1).
    pub(super) fn ecn_syn_flags(&self, config: &Config) -> Flags {
        if config.ecn == Ecn::Ask && self.backoff == 0 { BOTH } else { Flags::NONE }
    }

    /// What our SYN-ACK answers.
    pub(super) fn ecn_answer_flags(&self) -> Flags {
        if self.flags.has(Bits::ECN) { Flags::ECE } else { Flags::NONE }
    }

    /// RFC 3168 6.1.1: the peer's SYN asks with both bits; its SYN-ACK agrees with ECE alone.
    pub(super) fn adopt_ecn(&mut self, config: &Config, header: &Header) {
        let bits = Flags(header.flags.0 & BOTH.0);
        let agreed = if header.flags.contains(Flags::ACK) {
            config.ecn == Ecn::Ask && self.backoff == 0 && bits == Flags::ECE
        } else {
            config.ecn != Ecn::Off && bits == BOTH
        };
        if agreed {
            self.flags.set(Bits::ECN);
        }
    }

    /// A segment that was accepted had been marked on its way (RFC 3168 6.1.3): call after [`Tcb::on_segment`].
    pub fn on_congestion_mark(&mut self) {
        if self.flags.has(Bits::ECN) {
            self.flags.set(Bits::ECE_DUE);
        }
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
        if flags.contains(Flags::CWR) {
            self.flags.clear(Bits::ECE_DUE);
        }
        let Some(cold) = cold.filter(|_| flags.contains(Flags::ECE)) else { return };
        // RFC 3168 6.1.2: once for each window of data, and not beside a loss in it.
        let is_answered = cold.recovery.cwr_end.is_some_and(|end| self.snd.una.before_eq(end));
        if is_answered || cold.recovery.phase != Phase::Open {
            return;
        }
        cold.congestion.on_mark(config.congestion, &mut self.window, flight_bytes, self.mss);
        cold.recovery.cwr_end = Some(self.snd.nxt);
        self.flags.set(Bits::CWR_DUE);
    }

    /// What a segment that carries an ACK says beside it.
    #[inline]
    pub(super) fn ecn_ack_flags(&self) -> Flags {
        if self.flags.has(Bits::ECE_DUE) { Flags::ECE } else { Flags::NONE }
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
