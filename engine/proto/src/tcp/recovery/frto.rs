//! F-RTO (RFC 5682): whether a timeout was spurious, where no timestamps tell.
//!
//! After the first retransmission nothing old goes again until two acknowledgements have come. The first one that moves SND.UNA lets two
//! new segments go; if the second moves it too, it acknowledges what was never sent again: that was late, not lost. A duplicate instead
//! says that the new segments met a gap: the loss was real.

use super::{Cold, Recovery, Tcb};
use crate::tcp::Config;
use crate::tcp::tcb::Bits;

/// How far the test has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::tcp) enum Frto {
    /// There is none, or the timeout was not spurious.
    #[default]
    Off,
    /// The first lost segment goes again, or has gone.
    Retransmitted,
    /// An acknowledgement moved on: new segments go, and nothing old.
    Probing,
}

impl Recovery {
    /// While it is being found out whether the timeout was spurious, one retransmission is enough.
    pub(in crate::tcp) fn holds_back_old(&self) -> bool {
        match self.frto {
            Frto::Off => false,
            Frto::Retransmitted => self.resent_segs > 0,
            Frto::Probing => true,
        }
    }
}

impl Tcb {
    /// RFC 5682 2.1 (1): the first timeout of an episode, with nothing sent again before. Echoed timestamps know at the first
    /// acknowledgement (RFC 3522).
    pub(super) fn begin_frto<P, S>(&self, cold: &mut Cold<P, S>, is_first: bool) {
        let is_blind = !self.flags.has(Bits::TIMESTAMPS);
        cold.recovery.frto = if is_first && is_blind { Frto::Retransmitted } else { Frto::Off };
    }

    /// RFC 5682 2.1 (2), (3): SND.UNA has moved, and not behind the episode's end. The rest is retransmitted, or not yet, or not at all.
    pub(super) fn advance_frto<P, S>(&mut self, cold: &mut Cold<P, S>, was_resent: bool, config: &Config) {
        match cold.recovery.frto {
            Frto::Off => self.flags.set(Bits::TX_RTX),
            Frto::Retransmitted if self.has_sendable(cold, config) => {
                cold.recovery.frto = Frto::Probing;
                self.flags.set(Bits::TX_DATA);
            }
            // (2b): nothing new that could find out.
            Frto::Retransmitted => self.end_frto(cold),
            // A part of what was sent again.
            Frto::Probing if was_resent => self.end_frto(cold),
            Frto::Probing => self.undo(cold),
        }
    }

    /// RFC 5682 2.1 (3a): a duplicate in answer to new segments. Before those, with SACK (3.1), it means nothing yet.
    pub(super) fn refuse_frto<P, S>(&mut self, cold: &mut Cold<P, S>) {
        if cold.recovery.frto == Frto::Probing || !self.flags.has(Bits::SACK) {
            self.end_frto(cold);
        }
    }

    fn end_frto<P, S>(&mut self, cold: &mut Cold<P, S>) {
        cold.recovery.frto = Frto::Off;
        self.flags.set(Bits::TX_RTX);
    }
}
