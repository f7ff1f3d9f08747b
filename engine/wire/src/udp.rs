//! UDP headers (RFC 768, RFC 1122 4.1).

use crate::checksum::Sum;
use crate::{Malformed, be16};

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;

/// A datagram whose length field agrees with the bytes given.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    fixed: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Checks the length field; bytes of the IP payload past it are not part of the datagram.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below eight bytes, [`Malformed::BadLength`] when the field is below
    /// eight or beyond the bytes.
    ///
    /// ```
    /// use ringwire_wire::{Malformed, checksum::Sum, ipv4::Protocol, udp};
    /// let pseudo = Sum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Protocol::UDP, 12);
    /// let mut bytes = *b"________pingXX"; // XX: past the length field
    /// let header = udp::Header { src_port: 5000, dst_port: 53, len: 4 };
    /// header.emit(bytes.first_chunk_mut().unwrap(), pseudo + Sum::of(b"ping"));
    /// let datagram = udp::Datagram::parse(&bytes)?;
    /// assert_eq!((datagram.dst_port(), datagram.payload()), (53, &b"ping"[..]));
    /// assert!(datagram.verify_checksum(pseudo));
    /// # Ok::<(), Malformed>(())
    /// ```
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Datagram<'a>, Malformed> {
        let fixed: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let payload = bytes.get(HEADER_LEN..usize::from(be16(fixed, 4))).ok_or(Malformed::BadLength)?;
        Ok(Datagram { fixed, payload })
    }

    /// Source port; zero means that no answer is wanted.
    #[inline]
    pub fn src_port(&self) -> u16 {
        be16(self.fixed, 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        be16(self.fixed, 2)
    }

    /// The length field: header and payload, what the pseudo header needs.
    #[inline]
    pub fn total_len(&self) -> u16 {
        be16(self.fixed, 4)
    }

    /// The checksum field; zero means absent.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.fixed, 6)
    }

    /// What the application sent.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the checksum is right, or absent, which IPv4 allows (RFC 768).
    ///
    /// `pseudo` carries [`Datagram::total_len`], which may be less than the IP payload.
    #[inline]
    pub fn verify_checksum(&self, pseudo: Sum) -> bool {
        self.verify_checksum_by(pseudo, Sum::of)
    }

    /// [`Datagram::verify_checksum`] with the caller's loop for the payload.
    #[inline]
    pub fn verify_checksum_by(&self, pseudo: Sum, sum: impl FnOnce(&[u8]) -> Sum) -> bool {
        self.checksum() == 0 || (pseudo + Sum::of(self.fixed) + sum(self.payload)).is_valid()
    }

    /// Whether the field holds only the pseudo header's sum: a local sender left the rest to a device
    /// that does not exist (CHECKSUM_PARTIAL over veth).
    #[inline]
    pub fn has_partial_checksum(&self, pseudo: Sum) -> bool {
        self.checksum() == pseudo.folded()
    }
}

/// A header to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Payload bytes, without this header; at most 65,507 over IPv4.
    pub len: u16,
}

impl Header {
    /// Writes all eight bytes; the sum is that of pseudo header and payload.
    #[inline]
    pub fn emit(&self, out: &mut [u8; HEADER_LEN], pseudo_and_payload: Sum) {
        debug_assert!(self.len <= u16::MAX - 28, "payload does not fit a UDP datagram");
        out[..2].copy_from_slice(&self.src_port.to_be_bytes());
        out[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        out[4..6].copy_from_slice(&self.len.saturating_add(8).to_be_bytes());
        out[6..].copy_from_slice(&[0, 0]);
        let checksum = match (Sum::of(out) + pseudo_and_payload).finish() {
            0 => 0xffff, // RFC 768: a computed zero is sent as all ones, because zero means absent
            checksum => checksum,
        };
        out[6..].copy_from_slice(&checksum.to_be_bytes());
    }
}
