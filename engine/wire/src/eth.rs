//! Ethernet II frames with at most two VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).

use core::fmt;

use crate::{Malformed, be16};

/// Bytes of an untagged header.
pub const HEADER_LEN: usize = 14;
/// Bytes of one VLAN tag.
pub const VLAN_TAG_LEN: usize = 4;

/// A hardware address.
///
/// ```
/// use ringwire_wire::eth::Mac;
/// assert_eq!(Mac([0x02, 0, 0, 0, 0, 0xab]).to_string(), "02:00:00:00:00:ab");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Every station on the link.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Whether this is ff:ff:ff:ff:ff:ff.
    #[inline]
    pub const fn is_broadcast(self) -> bool {
        matches!(self.0, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
    }

    /// Whether the group bit is set; the broadcast address is also a group.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4 (RFC 894).
    pub const IPV4: EtherType = EtherType(0x0800);
    /// ARP (RFC 826).
    pub const ARP: EtherType = EtherType(0x0806);
    /// A customer VLAN tag (802.1Q).
    pub const VLAN: EtherType = EtherType(0x8100);
    /// IPv6 (RFC 2464).
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// A service VLAN tag (802.1ad).
    pub const QINQ: EtherType = EtherType(0x88a8);

    #[inline]
    const fn is_tag(self) -> bool {
        matches!(self, EtherType::VLAN | EtherType::QINQ)
    }
}

/// A checked frame; the payload may still carry padding.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    fixed: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
    ethertype: EtherType,
    vlan: Option<u16>,
}

impl<'a> Frame<'a> {
    /// Walks the header and at most two tags of either kind; a third tag is left as the ethertype.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] when the header or an announced tag is cut off.
    ///
    /// ```
    /// use ringwire_wire::{Malformed, eth};
    /// let mut bytes = [0; 14];
    /// let (dst, src) = (eth::Mac::BROADCAST, eth::Mac([2; 6]));
    /// eth::Header { dst, src, ethertype: eth::EtherType::ARP }.emit(&mut bytes);
    /// let frame = eth::Frame::parse(&bytes)?;
    /// assert_eq!((frame.dst(), frame.src(), frame.ethertype()), (dst, src, eth::EtherType::ARP));
    /// assert_eq!(eth::Frame::parse(&bytes[..13]).unwrap_err(), Malformed::Truncated);
    /// # Ok::<(), Malformed>(())
    /// ```
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        let frame = Frame::parse_untagged(bytes)?;
        if frame.ethertype.is_tag() { frame.untag() } else { Ok(frame) }
    }

    /// Reads the header alone: a tag is left as the ethertype.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] when the header is cut off.
    ///
    /// ```
    /// use ringwire_wire::eth;
    /// let mut bytes = [0; 18];
    /// bytes[12..].copy_from_slice(&[0x81, 0, 0, 7, 8, 0]);
    /// assert_eq!(eth::Frame::parse_untagged(&bytes)?.ethertype(), eth::EtherType::VLAN);
    /// assert_eq!(eth::Frame::parse(&bytes)?.ethertype(), eth::EtherType::IPV4);
    /// # Ok::<(), ringwire_wire::Malformed>(())
    /// ```
    #[inline]
    pub fn parse_untagged(bytes: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        let (fixed, payload) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
        Ok(Frame { fixed, payload, ethertype: EtherType(be16(fixed, 12)), vlan: None })
    }

    /// Destination.
    #[inline]
    pub fn dst(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = *self.fixed;
        Mac([a, b, c, d, e, f])
    }

    /// Source.
    #[inline]
    pub fn src(&self) -> Mac {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *self.fixed;
        Mac([a, b, c, d, e, f])
    }

    /// The innermost type: what [`Frame::payload`] is.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        self.ethertype
    }

    /// VLAN identifier (12 bits) of the outermost tag that has one; 0 when the tags only carry a priority.
    #[inline]
    pub fn vlan(&self) -> Option<u16> {
        self.vlan
    }

    /// Bytes after the header and its tags, with whatever padding the link added.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    #[cold]
    fn untag(mut self) -> Result<Frame<'a>, Malformed> {
        for _ in 0..2 {
            if !self.ethertype.is_tag() {
                break;
            }
            let (tag, rest) = self.payload.split_first_chunk::<VLAN_TAG_LEN>().ok_or(Malformed::Truncated)?;
            self.vlan = self.vlan.filter(|id| *id != 0).or(Some(be16(tag, 0) & 0x0fff));
            self.ethertype = EtherType(be16(tag, 2));
            self.payload = rest;
        }
        Ok(self)
    }
}

/// An untagged header to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
    /// What follows.
    pub ethertype: EtherType,
}

impl Header {
    /// Writes all 14 bytes.
    #[inline]
    pub fn emit(&self, out: &mut [u8; HEADER_LEN]) {
        out[..6].copy_from_slice(&self.dst.0);
        out[6..12].copy_from_slice(&self.src.0);
        out[12..].copy_from_slice(&self.ethertype.0.to_be_bytes());
    }
}
