//! ICMP for IPv4: answering echo requests, reporting unreachable ports, and reading errors about our own packets.
//!
//! An error is never sent about an ICMP error, a later fragment, or a packet to or from anything but one host (RFC 1122 3.2.2),
//! and only as often as a token bucket allows (RFC 1812 4.3.2.8). The bucket's level is blurred: an exact
//! shared limit tells an off-path prober which of its spoofed probes were answered (CVE-2020-25705).

use core::fmt;
use core::net::Ipv4Addr;

use ringwire_wire::icmp::{Echo, Error, HEADER_LEN, Header, Quoted, Reason, unreachable};
use ringwire_wire::ipv4::{self, Packet, Protocol};

use crate::drop_reason::DropReason;
use crate::flow::Flow;
use crate::ip::Scope;
use crate::prf::Prf;
use crate::time::Instant;

/// RFC 1812 4.3.2.3: an error holds as much of the packet as fits into 576 bytes.
const MAX_ERROR_LEN: usize = 576;
/// RFC 791 3.2: every link carries 68 bytes, so a smaller MTU is a lie.
const MIN_MTU: u16 = 68;
const NS_PER_SEC: u64 = 1_000_000_000;

/// An echo reply to send: from the request's destination, to its source, with the same data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoReply<'a> {
    /// The ICMP header to emit.
    pub header: Header,
    /// What follows it.
    pub data: &'a [u8],
}

/// Decides whether an echo request with a verified checksum is answered on a link with this MTU, in bytes.
///
/// The reply has exactly the request's length, so a request longer than we can send in one packet has no reply.
pub fn echo_reply<'a>(scope: Scope, mtu: usize, request: &Echo<'a>) -> Result<EchoReply<'a>, DropReason> {
    // RFC 1122 3.2.2.6: a request to a group address MAY be discarded; answering it is the smurf attack.
    if scope == Scope::Group {
        return Err(DropReason::IcmpToGroup);
    }
    if request.data.len() > mtu.saturating_sub(ipv4::HEADER_LEN + HEADER_LEN) {
        return Err(DropReason::IcmpTooLong);
    }
    let header = Header::EchoReply { ident: request.ident, seq: request.seq };
    Ok(EchoReply { header, data: request.data })
}

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Complaint {
    /// Nobody takes the UDP port.
    Port,
    /// Nobody takes the IP protocol.
    Protocol,
    /// An IP option is malformed.
    Option {
        /// Where it begins, in bytes from the header's beginning.
        at: u8,
    },
}

/// A packet that an error may be about.
#[derive(Debug, Clone, Copy)]
pub struct Offender<'a> {
    /// To whom it was sent.
    pub scope: Scope,
    /// Its checked view.
    pub packet: Packet<'a>,
    /// The same packet as received, from its first header byte on; what is past its total length is not quoted.
    pub bytes: &'a [u8],
}

/// An error message to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorOut<'a> {
    /// Our address: where the offending packet went.
    pub src: Ipv4Addr,
    /// The offending packet's sender.
    pub dst: Ipv4Addr,
    /// The ICMP header to emit.
    pub header: Header,
    /// What follows it: the front of the offending packet.
    pub quoted: &'a [u8],
}

/// Builds error messages at a limited rate; one per worker.
#[derive(Debug)]
pub struct ErrorSource {
    bucket: TokenBucket,
    prf: Prf,
}

impl ErrorSource {
    /// Errors per second that one worker sends in the long run; Linux's `icmp_msgs_per_sec` is 1,000 per host.
    pub const DEFAULT_RATE_PER_SEC: u32 = 1_000;
    /// Errors that one worker sends at once; Linux's `icmp_msgs_burst`.
    pub const DEFAULT_BURST: u32 = 50;

    /// At most `burst` errors at once and `rate_per_sec` in the long run.
    pub fn new(now: Instant, prf: Prf, rate_per_sec: u32, burst: u32) -> Self {
        Self { bucket: TokenBucket::new(now, rate_per_sec, burst), prf }
    }

    /// The error about a packet, unless the rules or the rate forbid one.
    pub fn complain<'a>(
        &mut self,
        now: Instant,
        what: Complaint,
        offender: &Offender<'a>,
    ) -> Option<ErrorOut<'a>> {
        let Offender { scope, packet, bytes } = offender;
        let blur = self.prf.hash(&now.as_nanos().to_be_bytes()) % 3;
        if !may_be_reported(*scope, packet) || !self.bucket.take(now, blur) {
            return None;
        }
        let header = match what {
            Complaint::Port => Header::Unreachable { code: unreachable::PORT, next_hop_mtu: 0 },
            Complaint::Protocol => Header::Unreachable { code: unreachable::PROTOCOL, next_hop_mtu: 0 },
            Complaint::Option { at } => Header::ParameterProblem { pointer: at },
        };
        let packet_len = packet.header_len() + packet.payload().len();
        let quoted_len = packet_len.min(MAX_ERROR_LEN - ipv4::HEADER_LEN - HEADER_LEN);
        Some(ErrorOut { src: packet.dst(), dst: packet.src(), header, quoted: bytes.get(..quoted_len)? })
    }
}

/// RFC 1122 3.2.2: never about an ICMP error, a group packet, a later fragment, or a source that is not one host.
///
/// No ICMP message has one at all: to tell its errors from the rest is worth nothing.
fn may_be_reported(scope: Scope, packet: &Packet<'_>) -> bool {
    let src = packet.src();
    scope == Scope::Unicast
        && packet.protocol() != Protocol::ICMP
        && packet.fragment_offset() == 0
        && !(src.is_unspecified() || src.is_loopback() || src.is_multicast() || src.octets()[0] >= 240)
}

/// Credit in nanoseconds: a token costs the time in which it is earned, so taking one needs no division.
#[derive(Debug, Clone, Copy)]
struct TokenBucket {
    credit_ns: u64,
    max_credit_ns: u64,
    token_ns: u64,
    filled_at: Instant,
}

impl TokenBucket {
    fn new(now: Instant, rate_per_sec: u32, burst: u32) -> Self {
        let token_ns = NS_PER_SEC.checked_div(u64::from(rate_per_sec)).unwrap_or(u64::MAX);
        let max_credit_ns = if rate_per_sec == 0 { 0 } else { token_ns.saturating_mul(u64::from(burst)) };
        Self { credit_ns: max_credit_ns, max_credit_ns, token_ns, filled_at: now }
    }

    /// Takes a token if there is one, and `blur` more if they are there.
    fn take(&mut self, now: Instant, blur: u64) -> bool {
        let earned_ns = now.nanos_since(self.filled_at);
        self.credit_ns = self.credit_ns.saturating_add(earned_ns).min(self.max_credit_ns);
        self.filled_at = now;
        if self.credit_ns < self.token_ns {
            return false;
        }
        self.credit_ns = self.credit_ns.saturating_sub(self.token_ns.saturating_mul(1 + blur));
        true
    }
}

/// An ICMP error about a packet that we may have sent; whether the flow exists and the sequence number is in flight (RFC 5927 4)
/// is for the flow's owner to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorIn {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The flow of the quoted packet, seen from here.
    pub flow: Flow,
    /// The quoted TCP sequence number; meaningless for UDP.
    pub seq: u32,
    /// What went wrong.
    pub kind: ErrorKind,
}

/// What an ICMP error means for a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was sent does not arrive.
    Unreachable(Unreachable),
    /// Too long for a link on the way, which takes `mtu` bytes of IP packet: at least 68, or 0 if the router did not say (RFC 1191 4).
    FragmentationNeeded {
        /// Bytes, header included.
        mtu: u16,
    },
}

/// Why a packet did not arrive, as a router or the peer's host said (RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Unreachable {
    /// No route to the network, or it is unknown or closed to us (codes 0, 6, 9, 11).
    Net,
    /// No neighbour, or none for this service (codes 1, 12).
    Host,
    /// There is no such host (code 7).
    HostUnknown,
    /// The source host is isolated (code 8).
    HostIsolated,
    /// Nobody takes the protocol (code 2).
    Protocol,
    /// Nobody takes the port (code 3).
    Port,
    /// A source route failed (code 5).
    SourceRoute,
    /// Prohibited by the host's or a router's administration (codes 10, 13 to 15).
    Prohibited,
    /// The TTL ran out, or reassembly took too long.
    TimeExceeded,
    /// A header field was refused.
    ParameterProblem,
}

impl Unreachable {
    /// Whether a packet that follows would fare no better for all that is known: loops and odd routers come and go.
    pub const fn is_lasting(self) -> bool {
        !matches!(self, Self::TimeExceeded | Self::ParameterProblem)
    }

    /// The errno that a socket reports, in Linux's numbers.
    pub const fn errno(self) -> i32 {
        match self {
            Self::Net => 101,
            Self::Host | Self::Prohibited | Self::TimeExceeded => 113,
            Self::HostUnknown => 112,
            Self::HostIsolated => 64,
            Self::Protocol => 92,
            Self::Port => 111,
            Self::SourceRoute => 95,
            Self::ParameterProblem => 71,
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Net => "network unreachable",
            Self::Host => "host unreachable",
            Self::HostUnknown => "host unknown",
            Self::HostIsolated => "source host isolated",
            Self::Protocol => "protocol unreachable",
            Self::Port => "port unreachable",
            Self::SourceRoute => "source route failed",
            Self::Prohibited => "prohibited on the way",
            Self::TimeExceeded => "time exceeded on the way",
            Self::ParameterProblem => "header refused on the way",
        })
    }
}

/// Reads an ICMP error with a verified checksum that came in `packet`.
///
/// The quoted packet must have been sent from the address that the error came to, and must be long enough to name a flow.
pub fn on_error(scope: Scope, packet: &Packet<'_>, error: &Error<'_>) -> Result<ErrorIn, DropReason> {
    if scope == Scope::Group {
        return Err(DropReason::IcmpToGroup);
    }
    let kind = kind_of(error.reason)?;
    let quoted = Quoted::parse(error.quoted).map_err(|_| DropReason::IcmpBadQuote)?;
    let is_ours = quoted.src == packet.dst() && matches!(quoted.protocol, Protocol::TCP | Protocol::UDP);
    if !is_ours {
        return Err(DropReason::IcmpBadQuote);
    }
    Ok(ErrorIn {
        protocol: quoted.protocol,
        flow: Flow::v4(quoted.src, quoted.src_port, quoted.dst, quoted.dst_port),
        seq: quoted.seq,
        kind,
    })
}

fn kind_of(reason: Reason) -> Result<ErrorKind, DropReason> {
    let why = match reason {
        Reason::Unreachable { code, next_hop_mtu } => match code {
            unreachable::NET | 6 | 9 | 11 => Unreachable::Net,
            unreachable::HOST | 12 => Unreachable::Host,
            unreachable::PROTOCOL => Unreachable::Protocol,
            unreachable::PORT => Unreachable::Port,
            unreachable::FRAGMENTATION_NEEDED if (1..MIN_MTU).contains(&next_hop_mtu) => {
                return Err(DropReason::IcmpBadMtu);
            }
            unreachable::FRAGMENTATION_NEEDED => {
                return Ok(ErrorKind::FragmentationNeeded { mtu: next_hop_mtu });
            }
            5 => Unreachable::SourceRoute,
            7 => Unreachable::HostUnknown,
            8 => Unreachable::HostIsolated,
            10 | 13..=15 => Unreachable::Prohibited,
            16.. => return Err(DropReason::IcmpUnknownType),
        },
        Reason::TimeExceeded { code: 0 | 1 } => Unreachable::TimeExceeded,
        Reason::TimeExceeded { .. } => return Err(DropReason::IcmpUnknownType),
        Reason::ParameterProblem { .. } => Unreachable::ParameterProblem,
    };
    Ok(ErrorKind::Unreachable(why))
}

#[cfg(test)]
mod tests;
