//! ICMP for IPv4 (RFC 792): echo, and the errors that quote a packet (RFC 1122 3.2.2, RFC 1191).

use core::net::Ipv4Addr;

use crate::checksum::Sum;
use crate::ipv4::{self, Protocol};
use crate::{Malformed, be16, be32};

/// Bytes before the data or the quoted packet.
pub const HEADER_LEN: usize = 8;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// Codes of destination unreachable that hosts send or act on (RFC 792, RFC 1122 3.2.2.1).
pub mod unreachable {
    /// No route.
    pub const NET: u8 = 0;
    /// No neighbour.
    pub const HOST: u8 = 1;
    /// Nobody takes this IP protocol.
    pub const PROTOCOL: u8 = 2;
    /// Nobody takes this port.
    pub const PORT: u8 = 3;
    /// Too long for the next hop, and fragmenting is forbidden (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
}

/// A message of at least eight bytes.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    fixed: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Ping.
    EchoRequest(Echo<'a>),
    /// Pong.
    EchoReply(Echo<'a>),
    /// A packet of ours did not arrive.
    Error(Error<'a>),
    /// Anything else; hosts ignore it (RFC 1122 3.2.2), source quench included (RFC 6633).
    Other,
}

/// An echo request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Chosen by the asker.
    pub ident: u16,
    /// Counted by the asker.
    pub seq: u16,
    /// Returned unchanged.
    pub data: &'a [u8],
}

/// An error about a packet that somebody sent with our address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error<'a> {
    /// What went wrong.
    pub reason: Reason,
    /// The front of the packet; unchecked, see [`Quoted::parse`].
    pub quoted: &'a [u8],
}

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Destination unreachable.
    Unreachable {
        /// See [`mod@unreachable`].
        code: u8,
        /// Only meaningful for [`unreachable::FRAGMENTATION_NEEDED`]; zero from routers older than RFC 1191.
        next_hop_mtu: u16,
    },
    /// The TTL ran out (code 0), or reassembly took too long (code 1).
    TimeExceeded {
        /// 0 or 1.
        code: u8,
    },
    /// A header field was refused.
    ParameterProblem {
        /// 0 means that `pointer` names the field.
        code: u8,
        /// Offset in the quoted packet, in bytes.
        pointer: u8,
    },
}

impl<'a> Message<'a> {
    /// Checks the length; the checksum is verified by [`Message::verify_checksum`].
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below eight bytes.
    ///
    /// ```
    /// use ringwire_wire::{Malformed, checksum::Sum, icmp};
    /// let mut bytes = *b"________data";
    /// let header = icmp::Header::EchoRequest { ident: 1, seq: 2 };
    /// header.emit(bytes.first_chunk_mut().unwrap(), Sum::of(b"data"));
    /// let message = icmp::Message::parse(&bytes)?;
    /// assert!(message.verify_checksum());
    /// assert_eq!(message.kind(), icmp::Kind::EchoRequest(icmp::Echo { ident: 1, seq: 2, data: b"data" }));
    /// # Ok::<(), Malformed>(())
    /// ```
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let (fixed, payload) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
        Ok(Message { fixed, payload })
    }

    /// The type field.
    #[inline]
    pub fn icmp_type(&self) -> u8 {
        self.fixed[0]
    }

    /// The code field.
    #[inline]
    pub fn code(&self) -> u8 {
        self.fixed[1]
    }

    /// Whether the checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        (Sum::of(self.fixed) + Sum::of(self.payload)).is_valid()
    }

    /// What the message says.
    pub fn kind(&self) -> Kind<'a> {
        let code = self.code();
        match self.icmp_type() {
            ECHO_REQUEST => Kind::EchoRequest(self.echo()),
            ECHO_REPLY => Kind::EchoReply(self.echo()),
            UNREACHABLE => self.error(Reason::Unreachable { code, next_hop_mtu: be16(self.fixed, 6) }),
            TIME_EXCEEDED => self.error(Reason::TimeExceeded { code }),
            PARAMETER_PROBLEM => self.error(Reason::ParameterProblem { code, pointer: self.fixed[4] }),
            _ => Kind::Other,
        }
    }

    fn echo(&self) -> Echo<'a> {
        Echo { ident: be16(self.fixed, 4), seq: be16(self.fixed, 6), data: self.payload }
    }

    fn error(&self, reason: Reason) -> Kind<'a> {
        Kind::Error(Error { reason, quoted: self.payload })
    }
}

/// The flow and the position that an ICMP error is about.
///
/// `src` is the sender of the quoted packet: our own side, when the error is for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Who sent the quoted packet.
    pub src: Ipv4Addr,
    /// Where it went.
    pub dst: Ipv4Addr,
    /// What it carried.
    pub protocol: Protocol,
    /// First field of TCP and UDP.
    pub src_port: u16,
    /// Second field of TCP and UDP.
    pub dst_port: u16,
    /// Third field of TCP; for UDP its length and checksum.
    pub seq: u32,
}

impl Quoted {
    /// Reads the quoted header and the eight bytes behind it, which every error carries (RFC 792).
    ///
    /// The quote is normally cut short, so its total length is not compared with the bytes.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::BadVersion`], [`Malformed::BadHeaderLen`], and
    /// [`Malformed::BadQuote`] for a later fragment.
    pub fn parse(quoted: &[u8]) -> Result<Quoted, Malformed> {
        let fixed: &[u8; ipv4::HEADER_LEN] = quoted.first_chunk().ok_or(Malformed::Truncated)?;
        if fixed[0] >> 4 != 4 {
            return Err(Malformed::BadVersion);
        }
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        if header_len < ipv4::HEADER_LEN {
            return Err(Malformed::BadHeaderLen);
        }
        if be16(fixed, 6) & 0x1fff != 0 {
            return Err(Malformed::BadQuote);
        }
        let transport: &[u8; 8] =
            quoted.get(header_len..).and_then(|rest| rest.first_chunk()).ok_or(Malformed::Truncated)?;
        Ok(Quoted {
            src: Ipv4Addr::from_bits(be32(fixed, 12)),
            dst: Ipv4Addr::from_bits(be32(fixed, 16)),
            protocol: Protocol(fixed[9]),
            src_port: be16(transport, 0),
            dst_port: be16(transport, 2),
            seq: be32(transport, 4),
        })
    }
}

/// A header to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Ping.
    EchoRequest {
        /// Chosen by the asker.
        ident: u16,
        /// Counted by the asker.
        seq: u16,
    },
    /// Pong.
    EchoReply {
        /// From the request.
        ident: u16,
        /// From the request.
        seq: u16,
    },
    /// Destination unreachable.
    Unreachable {
        /// See [`mod@unreachable`].
        code: u8,
        /// Zero unless the code is [`unreachable::FRAGMENTATION_NEEDED`].
        next_hop_mtu: u16,
    },
    /// A header field was refused.
    ParameterProblem {
        /// Its first byte, counted from the beginning of the packet.
        pointer: u8,
    },
}

impl Header {
    /// Writes all eight bytes; `payload` is the sum of the echo data or of the quoted bytes that follow.
    pub fn emit(&self, out: &mut [u8; HEADER_LEN], payload: Sum) {
        let (icmp_type, code, words) = match *self {
            Header::EchoRequest { ident, seq } => (ECHO_REQUEST, 0, [ident, seq]),
            Header::EchoReply { ident, seq } => (ECHO_REPLY, 0, [ident, seq]),
            Header::Unreachable { code, next_hop_mtu } => (UNREACHABLE, code, [0, next_hop_mtu]),
            Header::ParameterProblem { pointer } => (PARAMETER_PROBLEM, 0, [u16::from(pointer) << 8, 0]),
        };
        out[..4].copy_from_slice(&[icmp_type, code, 0, 0]);
        out[4..6].copy_from_slice(&words[0].to_be_bytes());
        out[6..].copy_from_slice(&words[1].to_be_bytes());
        let checksum = (Sum::of(out) + payload).finish();
        out[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
}
