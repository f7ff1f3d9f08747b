//! IPv4 headers (RFC 791, RFC 1122 3.2.1).

use core::net::Ipv4Addr;

use crate::checksum::Sum;
use crate::{Malformed, be16, be32};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// The most a packet without options can carry.
pub const MAX_PAYLOAD_LEN: u16 = u16::MAX - 20;

/// What an IPv4 packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP (RFC 792).
    pub const ICMP: Protocol = Protocol(1);
    /// TCP (RFC 9293).
    pub const TCP: Protocol = Protocol(6);
    /// UDP (RFC 768).
    pub const UDP: Protocol = Protocol(17);
}

/// A packet whose lengths agree with each other and with the bytes given.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    fixed: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks the structure; bytes past the total length are padding and never payload.
    ///
    /// Neither the checksum nor the options are looked at: see [`Packet::verify_checksum`] and
    /// [`Packet::source_routed`].
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::BadVersion`], [`Malformed::BadHeaderLen`] (below five
    /// words or beyond the total length), [`Malformed::BadTotalLen`] (beyond the bytes).
    ///
    /// ```
    /// use ringwire_wire::{Malformed, ipv4};
    /// let header = ipv4::Header {
    ///     src: [10, 0, 0, 1].into(),
    ///     dst: [10, 0, 0, 2].into(),
    ///     protocol: ipv4::Protocol::UDP,
    ///     tos: 0,
    ///     ttl: 64,
    ///     id: 7,
    ///     dont_fragment: true,
    ///     payload_len: 3,
    /// };
    /// let mut bytes = [0xaa; 20 + 3 + 9]; // three bytes of payload, nine of padding
    /// header.emit(bytes.first_chunk_mut().unwrap());
    /// let packet = ipv4::Packet::parse(&bytes)?;
    /// assert!(packet.verify_checksum());
    /// assert_eq!((packet.src(), packet.payload()), (header.src, &[0xaa; 3][..]));
    /// assert_eq!(ipv4::Packet::parse(&bytes[..22]).unwrap_err(), Malformed::BadTotalLen);
    /// # Ok::<(), Malformed>(())
    /// ```
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Packet<'a>, Malformed> {
        let fixed: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        if fixed[0] >> 4 != 4 {
            return Err(Malformed::BadVersion);
        }
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        let packet = bytes.get(..usize::from(be16(fixed, 2))).ok_or(Malformed::BadTotalLen)?;
        let (header, payload) = packet.split_at_checked(header_len).ok_or(Malformed::BadHeaderLen)?;
        let options = header.get(HEADER_LEN..).ok_or(Malformed::BadHeaderLen)?;
        Ok(Packet { fixed, options, payload })
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(be32(self.fixed, 12))
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(be32(self.fixed, 16))
    }

    /// What the payload is.
    #[inline]
    pub fn protocol(&self) -> Protocol {
        Protocol(self.fixed[9])
    }

    /// Type of service: DSCP in the upper six bits, ECN in the lower two (RFC 2474, RFC 3168).
    #[inline]
    pub fn tos(&self) -> u8 {
        self.fixed[1]
    }

    /// Hops left.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.fixed[8]
    }

    /// Identification, meaningful only for fragments (RFC 6864).
    #[inline]
    pub fn id(&self) -> u16 {
        be16(self.fixed, 4)
    }

    /// Whether routers must not fragment it.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.fixed[6] & 0x40 != 0
    }

    /// Whether a later fragment exists.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.fixed[6] & 0x20 != 0
    }

    /// Where this piece starts in the whole payload, in bytes.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (be16(self.fixed, 6) & 0x1fff) * 8
    }

    /// Whether this is a piece of a packet and not a whole one.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        be16(self.fixed, 6) & 0x3fff != 0
    }

    /// Header with options, in bytes: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// The raw options, 0 to 40 bytes.
    #[inline]
    pub fn options(&self) -> &'a [u8] {
        self.options
    }

    /// What the packet carries, without padding.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Bytes of [`Packet::payload`]: total length minus header length.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        self.payload.len() as u16 // fits: the payload was cut out by a 16-bit total length
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        (Sum::of(self.fixed) + Sum::of(self.options)).is_valid()
    }

    /// Whether a loose or strict source route is present (RFC 791 3.1, RFC 1122 3.2.1.8).
    ///
    /// # Errors
    /// [`Malformed::BadOption`] when the options do not chain up inside the header.
    pub fn source_routed(&self) -> Result<bool, Malformed> {
        self.walk_options().map_err(|_| Malformed::BadOption)
    }

    /// Where the option begins, in bytes from the header's beginning, at which [`Packet::source_routed`] fails.
    pub fn bad_option_at(&self) -> Option<u8> {
        // A header has 60 bytes at most.
        self.walk_options().err().map(|left| (HEADER_LEN + self.options.len() - left) as u8)
    }

    /// Whether there is a source route; or how many bytes were left when the options stopped to chain up.
    fn walk_options(&self) -> Result<bool, usize> {
        const END: u8 = 0;
        const NOP: u8 = 1;
        const LOOSE_ROUTE: u8 = 131;
        const STRICT_ROUTE: u8 = 137;
        let mut rest = self.options;
        while let [kind, tail @ ..] = rest {
            match *kind {
                END => break,
                NOP => rest = tail,
                LOOSE_ROUTE | STRICT_ROUTE => return Ok(true),
                _ => rest = skip_option(rest).ok_or(rest.len())?,
            }
        }
        Ok(false)
    }
}

/// What follows the option at the front; its length covers its own two bytes.
fn skip_option(options: &[u8]) -> Option<&[u8]> {
    match options {
        [_, len, ..] if *len >= 2 => options.get(usize::from(*len)..),
        _ => None,
    }
}

/// A header without options to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// What follows.
    pub protocol: Protocol,
    /// DSCP and ECN.
    pub tos: u8,
    /// Hops left.
    pub ttl: u8,
    /// Identification; anything when `dont_fragment` is set (RFC 6864 4.1).
    pub id: u16,
    /// Forbid fragmentation on the way.
    pub dont_fragment: bool,
    /// Bytes after this header, at most [`MAX_PAYLOAD_LEN`].
    pub payload_len: u16,
}

impl Header {
    /// Writes all 20 bytes, checksum included.
    #[inline]
    pub fn emit(&self, out: &mut [u8; HEADER_LEN]) {
        debug_assert!(self.payload_len <= MAX_PAYLOAD_LEN, "payload does not fit an IPv4 packet");
        out[0] = 0x45;
        out[1] = self.tos;
        out[2..4].copy_from_slice(&self.payload_len.saturating_add(20).to_be_bytes());
        out[4..6].copy_from_slice(&self.id.to_be_bytes());
        out[6..8].copy_from_slice(&[if self.dont_fragment { 0x40 } else { 0 }, 0]);
        out[8] = self.ttl;
        out[9] = self.protocol.0;
        out[10..12].copy_from_slice(&[0, 0]);
        out[12..16].copy_from_slice(&self.src.octets());
        out[16..].copy_from_slice(&self.dst.octets());
        let checksum = Sum::of(out).finish();
        out[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Marks a packet as a router does that is congested: CE instead of ECT (RFC 3168 5), and the checksum mended (RFC 1624 3). Whether it
/// could be marked: what is no IPv4, or did not say that its ends understand marks, or is marked already, stays as it is.
///
/// ```
/// use ringwire_wire::ipv4;
/// let mut packet = [0; 20];
/// let header = ipv4::Header {
///     src: [10, 0, 0, 1].into(),
///     dst: [10, 0, 0, 2].into(),
///     protocol: ipv4::Protocol::TCP,
///     tos: 0b10,
///     ttl: 64,
///     id: 7,
///     dont_fragment: true,
///     payload_len: 0,
/// };
/// header.emit(&mut packet);
/// assert!(ipv4::mark_congestion(&mut packet));
/// let marked = ipv4::Packet::parse(&packet)?;
/// assert!(marked.verify_checksum() && marked.tos() == 0b11);
/// assert!(!ipv4::mark_congestion(&mut packet), "once is enough");
/// # Ok::<(), ringwire_wire::Malformed>(())
/// ```
pub fn mark_congestion(packet: &mut [u8]) -> bool {
    const CE: u8 = 0b11;
    let Some(header) = packet.first_chunk_mut::<HEADER_LEN>() else { return false };
    let ecn = header[1] & CE;
    if header[0] >> 4 != 4 || ecn == 0 || ecn == CE {
        return false;
    }
    let sum = u32::from(!u16::from_be_bytes([header[10], header[11]])) + u32::from(CE - ecn);
    // One carry at most, and none after it.
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(u16::MAX);
    header[1] |= CE;
    header[10..12].copy_from_slice(&(!folded).to_be_bytes());
    true
}
