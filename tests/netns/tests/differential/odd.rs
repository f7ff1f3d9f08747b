//! An odd packet, said in words: what stands before it, and in what it differs from the one that would be right.

use crate::frames;

/// What stands before the odd packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nobody listens.
    Nothing,
    Listener,
    /// The odd packet is a SYN to one who writes at once; the handshake is completed after it.
    Offer,
    /// A SYN, and the answer to it.
    HalfOpen,
    /// A connection on which nothing was sent.
    Connection,
    /// A connection on which a kilobyte of theirs is not acknowledged.
    Sending,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    /// FIN-WAIT-2, and the application has closed.
    Orphan,
}

impl Before {
    /// Everything from the first handshake's end on.
    pub(crate) const SYNCHRONISED: [Before; 8] = [
        Before::Connection,
        Before::FinWait1,
        Before::FinWait2,
        Before::CloseWait,
        Before::Closing,
        Before::LastAck,
        Before::TimeWait,
        Before::Orphan,
    ];

    /// Whether the peer may still send text.
    pub(crate) fn takes_text(self) -> bool {
        use Before::{Connection, FinWait1, FinWait2, HalfOpen, Sending};
        matches!(self, HalfOpen | Connection | Sending | FinWait1 | FinWait2)
    }

    pub(crate) fn is_after_a_syn(self) -> bool {
        !matches!(self, Before::Nothing | Before::Listener | Before::Offer)
    }

    pub(crate) fn is_synchronised(self) -> bool {
        self.is_after_a_syn() && self != Before::HalfOpen
    }
}

/// What is said of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// No timestamps were agreed on.
    Never,
    /// Later than the last by so much.
    Later(i32),
    /// They were agreed on, and this segment has none.
    Missing,
}

/// What is quoted by an ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quote {
    /// IP header and eight bytes of what they sent.
    Usual,
    /// IP header and four bytes.
    Short,
    /// A part of an IP header.
    Stump,
    /// Ports of nobody.
    OtherFlow,
    /// Sent by somebody else.
    OtherHost,
    /// A UDP datagram with the same ports.
    OtherProtocol,
}

/// An ICMP error about what they sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IcmpError {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) mtu: u16,
    /// Of the quoted segment, relative to the first that we do not acknowledge.
    pub(crate) seq: i64,
    pub(crate) quote: Quote,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    /// A TCP segment; numbers are relative to those that would be right.
    Segment {
        flags: &'static str,
        seq: i64,
        ack: i64,
        options: Vec<u8>,
        payload: Vec<u8>,
    },
    Error(IcmpError),
    /// An ICMP message that is no error: type, code, and bytes behind the identifier and the number.
    Message {
        kind: u8,
        code: u8,
        len: usize,
    },
    /// A UDP datagram to the closed port.
    Datagram {
        len: usize,
    },
}

/// What follows, to see what the odd packet has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Ten bytes in order where the peer may send them, else one old byte; nothing without a connection.
    Probe,
    /// A SYN of the same connection, as it should be.
    Syn,
}

/// An odd packet.
#[derive(Debug, Clone)]
pub(crate) struct Odd {
    pub(crate) before: Before,
    pub(crate) name: &'static str,
    pub(crate) packet: Packet,
    pub(crate) clock: Clock,
    pub(crate) then: Then,
    /// Done to the frame; checksums are mended where the row says so.
    pub(crate) spoil: fn(&mut Vec<u8>),
    /// The frames that it is sent as.
    pub(crate) cut: fn(Vec<u8>) -> Vec<Vec<u8>>,
}

/// A segment with these flags, otherwise as it should be.
pub(crate) fn odd(before: Before, name: &'static str, flags: &'static str) -> Odd {
    let packet = Packet::Segment { flags, seq: 0, ack: 0, options: Vec::new(), payload: Vec::new() };
    Odd::of(before, name, packet)
}

/// An ICMP error of this type and code about the first byte that is in flight.
pub(crate) fn error(before: Before, name: &'static str, (kind, code): (u8, u8)) -> Odd {
    Odd::of(before, name, Packet::Error(IcmpError { kind, code, mtu: 0, seq: 0, quote: Quote::Usual }))
}

impl Odd {
    pub(crate) fn of(before: Before, name: &'static str, packet: Packet) -> Odd {
        Odd {
            before,
            name,
            packet,
            clock: Clock::Never,
            then: Then::Probe,
            spoil: |_| {},
            cut: |frame| vec![frame],
        }
    }

    /// Its name in the tables.
    pub(crate) fn title(&self) -> String {
        format!("{:?}: {}", self.before, self.name)
    }

    pub(crate) fn at(mut self, by_seq: i64, by_ack: i64) -> Odd {
        if let Packet::Segment { seq, ack, .. } = &mut self.packet {
            (*seq, *ack) = (by_seq, by_ack);
        }
        self
    }

    pub(crate) fn options(mut self, bytes: &[u8]) -> Odd {
        if let Packet::Segment { options, .. } = &mut self.packet {
            *options = bytes.to_vec();
        }
        self
    }

    pub(crate) fn text(mut self, len: usize) -> Odd {
        if let Packet::Segment { payload, .. } = &mut self.packet {
            *payload = vec![0x55; len];
        }
        self
    }

    /// Of an ICMP error.
    pub(crate) fn quoting(mut self, by_seq: i64, what: Quote) -> Odd {
        if let Packet::Error(IcmpError { seq, quote, .. }) = &mut self.packet {
            (*seq, *quote) = (by_seq, what);
        }
        self
    }

    /// Of an ICMP error.
    pub(crate) fn mtu(mut self, bytes: u16) -> Odd {
        if let Packet::Error(IcmpError { mtu, .. }) = &mut self.packet {
            *mtu = bytes;
        }
        self
    }

    /// On a connection with timestamps.
    pub(crate) fn clock(self, clock: Clock) -> Odd {
        Odd { clock, ..self }
    }

    pub(crate) fn then(self, then: Then) -> Odd {
        Odd { then, ..self }
    }

    /// Checksums stay as they were.
    pub(crate) fn spoilt(self, spoil: fn(&mut Vec<u8>)) -> Odd {
        Odd { spoil, ..self }
    }

    pub(crate) fn cut(self, cut: fn(Vec<u8>) -> Vec<Vec<u8>>) -> Odd {
        Odd { cut, ..self }
    }

    /// Whether something follows.
    pub(crate) fn has_probe(&self) -> bool {
        self.before.is_after_a_syn() || self.before == Before::Offer || self.then == Then::Syn
    }

    /// As it is sent.
    pub(crate) fn frames(&self, mut frame: Vec<u8>) -> Vec<Vec<u8>> {
        (self.spoil)(&mut frame);
        (self.cut)(frame)
    }
}

/// With both checksums right again.
pub(crate) fn mended(frame: &mut [u8], change: impl FnOnce(&mut [u8])) {
    change(frame);
    frames::mend(frame);
}
