//! TCP headers (RFC 9293 3.1) and options (RFC 9293 3.2, RFC 7323, RFC 2018, RFC 7413).

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

use crate::checksum::Sum;
use crate::{Malformed, be16, be32};

mod fast_open;
mod options;

pub use fast_open::{FastOpen, Form as FastOpenForm, MAX_COOKIE_LEN};
pub use options::{MAX_WINDOW_SCALE, Options, SackBlocks, Timestamps};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;

/// The control bits.
///
/// ```
/// use ringwire_wire::tcp::Flags;
/// let flags = Flags::SYN | Flags::ACK;
/// assert!(flags.contains(Flags::SYN) && !flags.contains(Flags::SYN | Flags::FIN));
/// assert_eq!(flags.to_string(), "SYN|ACK");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No bit set.
    pub const NONE: Flags = Flags(0);
    /// No more data from the sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Push.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgement field is meaningful.
    pub const ACK: Flags = Flags(0x10);
    /// The urgent pointer is meaningful.
    pub const URG: Flags = Flags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Flags = Flags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Flags = Flags(0x80);

    /// Whether all bits of `other` are set.
    #[inline]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[inline]
    pub const fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// These bits without those of `other`.
    #[inline]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

impl BitOr for Flags {
    type Output = Flags;

    #[inline]
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    #[inline]
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        if self.0 == 0 {
            return f.write_str("none");
        }
        let set = NAMES.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        for (nth, (_, name)) in set.enumerate() {
            f.write_str(if nth == 0 { "" } else { "|" })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A segment whose data offset agrees with the bytes given.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    fixed: &'a [u8; HEADER_LEN],
    /// `fixed` and the options behind it.
    header: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Checks the data offset; options are parsed by [`Segment::options`], the checksum is verified by
    /// [`Segment::verify_checksum`]. `bytes` is the whole IP payload.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below twenty bytes, [`Malformed::BadHeaderLen`] when the data offset is
    /// below five words or beyond the bytes.
    ///
    /// ```
    /// use ringwire_wire::{Malformed, checksum::Sum, ipv4::Protocol, tcp};
    /// let header = tcp::Header { src_port: 5000, dst_port: 80, seq: 1, flags: tcp::Flags::SYN, ..Default::default() };
    /// let options = tcp::Options { mss: Some(1460), window_scale: Some(7), ..Default::default() };
    /// let mut bytes = [0; tcp::MAX_HEADER_LEN];
    /// let header_len = options.encoded_len() + tcp::HEADER_LEN;
    /// let pseudo =
    ///     Sum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Protocol::TCP, header_len as u16);
    /// assert_eq!(header.emit(&options, pseudo, &mut bytes), header_len);
    ///
    /// let segment = tcp::Segment::parse(&bytes[..header_len])?;
    /// assert_eq!((segment.header(), segment.options()), (header, options));
    /// assert!(segment.verify_checksum(pseudo) && segment.payload().is_empty());
    /// # Ok::<(), Malformed>(())
    /// ```
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Segment<'a>, Malformed> {
        let fixed: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let header_len = usize::from(fixed[12] >> 4) * 4;
        let (header, payload) = bytes.split_at_checked(header_len).ok_or(Malformed::BadHeaderLen)?;
        if header_len < HEADER_LEN {
            return Err(Malformed::BadHeaderLen);
        }
        Ok(Segment { fixed, header, payload })
    }

    /// The fixed fields, copied out.
    #[inline]
    pub fn header(&self) -> Header {
        Header {
            src_port: self.src_port(),
            dst_port: self.dst_port(),
            seq: be32(self.fixed, 4),
            ack: be32(self.fixed, 8),
            flags: self.flags(),
            window: be16(self.fixed, 14),
            urgent: be16(self.fixed, 18),
        }
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        be16(self.fixed, 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        be16(self.fixed, 2)
    }

    /// The control bits; the reserved ones are ignored (RFC 9293 3.1).
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.fixed[13])
    }

    /// The checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.fixed, 16)
    }

    /// Header with options, in bytes: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header.len()
    }

    /// The options we know, parsed; see [`Options::parse`] for what malformed ones give.
    #[inline]
    pub fn options(&self) -> Options {
        Options::parse(self.header.get(HEADER_LEN..).unwrap_or_default())
    }

    /// The text of the segment.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the checksum is right; `pseudo` carries the length of the whole IP payload.
    #[inline]
    pub fn verify_checksum(&self, pseudo: Sum) -> bool {
        self.verify_checksum_by(pseudo, Sum::of)
    }

    /// [`Segment::verify_checksum`] with the caller's loop for the payload.
    #[inline]
    pub fn verify_checksum_by(&self, pseudo: Sum, sum: impl FnOnce(&[u8]) -> Sum) -> bool {
        (pseudo + Sum::of(self.header) + sum(self.payload)).is_valid()
    }

    /// Whether the field holds only the pseudo header's sum: a local sender left the rest to a device
    /// that does not exist (CHECKSUM_PARTIAL over veth).
    #[inline]
    pub fn has_partial_checksum(&self, pseudo: Sum) -> bool {
        self.checksum() == pseudo.folded()
    }
}

/// The fixed fields of a header, as values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first byte, or of the SYN.
    pub seq: u32,
    /// Next sequence number expected, if [`Flags::ACK`] is set.
    pub ack: u32,
    /// Control bits.
    pub flags: Flags,
    /// Receive window, unscaled as on the wire.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
}

impl Header {
    /// Writes header and options to the front of `out` and returns their length in bytes:
    /// [`HEADER_LEN`] plus [`Options::encoded_len`].
    ///
    /// The sum is that of the pseudo header, with the length of header, options and payload, and of the
    /// payload.
    ///
    /// # Panics
    /// If `out` is shorter than that; [`MAX_HEADER_LEN`] is always enough.
    #[inline]
    pub fn emit(&self, options: &Options, pseudo_and_payload: Sum, out: &mut [u8]) -> usize {
        let (fixed, rest) = out.split_at_mut(HEADER_LEN);
        let header_len = HEADER_LEN + options.emit(rest);
        let data_offset = (header_len as u8 / 4) << 4; // at most 60 bytes: fifteen words
        fixed[..2].copy_from_slice(&self.src_port.to_be_bytes());
        fixed[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.seq.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.ack.to_be_bytes());
        fixed[12..14].copy_from_slice(&[data_offset, self.flags.0]);
        fixed[14..16].copy_from_slice(&self.window.to_be_bytes());
        fixed[16..18].copy_from_slice(&[0, 0]);
        fixed[18..].copy_from_slice(&self.urgent.to_be_bytes());
        let out = &mut out[..header_len];
        let checksum = (Sum::of(out) + pseudo_and_payload).finish();
        out[16..18].copy_from_slice(&checksum.to_be_bytes());
        header_len
    }
}
