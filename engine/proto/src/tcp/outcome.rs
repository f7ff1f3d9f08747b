//! What a call on a connection means for its owner.

use core::ops::{BitOr, BitOrAssign};

use crate::DropReason;
use crate::icmp::Unreachable;

/// What happened, for the owner of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Outcome {
    /// Which news there are.
    pub signals: Signals,
    /// Why the connection ended, together with [`Signals::CLOSED`].
    pub closed: Option<CloseReason>,
    /// Why the segment was dropped, if it was.
    pub drop: Option<DropReason>,
}

impl Outcome {
    /// Whether nothing began, ended or was dropped: at most there is something to read, or room to write.
    #[inline]
    pub const fn is_news_only(&self) -> bool {
        const NEWS: Signals = Signals(Signals::READABLE.0 | Signals::WRITABLE.0);
        self.signals.without(NEWS).is_empty() && self.closed.is_none() && self.drop.is_none()
    }
}

/// A set of news about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signals(u16);

impl Signals {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// In-order data or the end of the stream arrived.
    pub const READABLE: Self = Self(1);
    /// After a short count, there is room to send again.
    pub const WRITABLE: Self = Self(1 << 1);
    /// The handshake completed.
    pub const CONNECTED: Self = Self(1 << 2);
    /// The peer's FIN arrived: after the unread data comes the end of the stream.
    pub const PEER_CLOSED: Self = Self(1 << 3);
    /// The connection is over; the entry may be freed once [`super::Tcb::wants_transmit`] is false.
    pub const CLOSED: Self = Self(1 << 4);
    /// Answer this segment with [`super::reset_for`].
    pub const SEND_RESET: Self = Self(1 << 5);
    /// The first SYN of an active open was not answered in time: perhaps because of what it carried ([`super::fast_open`]).
    pub const SYN_LOST: Self = Self(1 << 6);
    /// The handshake of a connection that [`super::Tcb::open_fast`] reported is complete; with [`Signals::CONNECTED`]: the peer has
    /// answered our first SYN.
    pub const CONFIRMED: Self = Self(1 << 7);
    /// The connection is over, but something is unread: [`Signals::CLOSED`] follows when it was taken. Another connection may have its
    /// addresses.
    pub const ENDED: Self = Self(1 << 8);
    /// In TIME-WAIT a SYN for a new connection arrived: if there is a listener, [`super::Tcb::give_way`] and give it the SYN, else
    /// [`super::Tcb::refuse_new_syn`].
    pub const NEW_SYN: Self = Self(1 << 9);
    /// Three retransmissions or more had no answer: is the next hop still there (RFC 9293 3.8.3, R1)?
    pub const UNANSWERED: Self = Self(1 << 10);

    /// What is between the machine and its owner.
    pub const NOT_FOR_THE_APPLICATION: Self = Self(
        Self::SEND_RESET.0
            | Self::SYN_LOST.0
            | Self::CONFIRMED.0
            | Self::ENDED.0
            | Self::NEW_SYN.0
            | Self::UNANSWERED.0,
    );

    /// Whether all of `other` are in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Signals {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Signals {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both sides closed and everything was acknowledged.
    Finished,
    /// The peer reset an existing connection.
    Reset,
    /// The peer answered our SYN with a RST, or ICMP said that nobody takes the port.
    Refused,
    /// Retries, keepalive probes or the user timeout ran out, and ICMP had said nothing.
    TimedOut,
    /// ICMP said that what is sent does not arrive: during connect, or before time ran out; or no neighbour answers.
    Unreachable(Unreachable),
    /// No local port was left to connect from, as its owner says.
    NoPorts,
    /// The application aborted, or closed while data was unread.
    Aborted,
}

impl CloseReason {
    /// The end of a connection of which ICMP said this.
    pub(super) const fn told(why: Unreachable) -> Self {
        if matches!(why, Unreachable::Port) { Self::Refused } else { Self::Unreachable(why) }
    }

    /// The errno a socket would report, in Linux's numbers; none for an orderly end.
    pub const fn errno(self) -> Option<i32> {
        match self {
            Self::Finished => None,
            Self::Reset => Some(104),
            Self::Refused => Some(111),
            Self::TimedOut => Some(110),
            Self::Unreachable(why) => Some(why.errno()),
            Self::NoPorts => Some(99),
            Self::Aborted => Some(103),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_signals_are_the_same() {
        let all = [
            Signals::READABLE,
            Signals::WRITABLE,
            Signals::CONNECTED,
            Signals::PEER_CLOSED,
            Signals::CLOSED,
            Signals::SEND_RESET,
            Signals::SYN_LOST,
            Signals::CONFIRMED,
            Signals::ENDED,
            Signals::NEW_SYN,
            Signals::UNANSWERED,
        ];
        let mut set = Signals::NONE;
        for signal in all {
            assert!(!set.contains(signal), "{signal:?} in {set:?}");
            set = set | signal | signal;
            assert!(set.contains(signal));
        }
        assert!(all.into_iter().fold(set, Signals::without).is_empty());
        let between = [
            Signals::SEND_RESET,
            Signals::SYN_LOST,
            Signals::CONFIRMED,
            Signals::ENDED,
            Signals::NEW_SYN,
            Signals::UNANSWERED,
        ];
        for signal in all {
            assert_eq!(
                Signals::NOT_FOR_THE_APPLICATION.contains(signal),
                between.contains(&signal),
                "{signal:?}"
            );
        }
    }

    #[test]
    fn only_what_to_read_and_where_to_write_is_mere_news() {
        let of = |signals: Signals| Outcome { signals, ..Outcome::default() };
        assert!(of(Signals::NONE).is_news_only());
        assert!(of(Signals::READABLE | Signals::WRITABLE).is_news_only());
        assert!(!of(Signals::READABLE | Signals::PEER_CLOSED).is_news_only());
        assert!(!Outcome { drop: Some(DropReason::TcpNoAck), ..Outcome::default() }.is_news_only());
        assert!(!Outcome { closed: Some(CloseReason::Reset), ..Outcome::default() }.is_news_only());
    }

    /// As `errno -l` has them on Linux.
    #[test]
    fn the_ends_of_a_connection_have_the_numbers_of_linux() {
        let numbers = [
            (CloseReason::Finished, None),
            (CloseReason::Reset, Some(104)),
            (CloseReason::Refused, Some(111)),
            (CloseReason::TimedOut, Some(110)),
            (CloseReason::Unreachable(Unreachable::Host), Some(113)),
            (CloseReason::Unreachable(Unreachable::Net), Some(101)),
            (CloseReason::Aborted, Some(103)),
        ];
        for (reason, number) in numbers {
            assert_eq!(reason.errno(), number, "{reason:?}");
        }
    }
}
