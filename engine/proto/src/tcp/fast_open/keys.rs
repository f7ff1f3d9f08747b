//! Keys that a farm of servers shares, and the cookies that Linux makes from them.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use ringwire_wire::tcp::FastOpen;
use siphasher::sip::SipHasher24;

/// Bytes of one key.
pub const KEY_LEN: usize = 16;

/// One key that cookies are made from, and perhaps a second one whose cookies are still taken (Linux's `tcp_fastopen_key` and
/// `TCP_FASTOPEN_KEY`). To change keys in a farm, give every server the next one as its second key, then as its first with the old one
/// behind it, then alone.
///
/// ```
/// use ringwire_proto::tcp::fast_open::Keys;
///
/// let keys: Keys = "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4".parse()?;
/// assert_eq!(keys.to_bytes()[..5], [0xa1, 0xa1, 0xa1, 0xa1, 0xb2]);
/// assert_eq!(Keys::from_bytes(keys.to_bytes()), Some(keys));
/// # Ok::<(), ringwire_proto::tcp::fast_open::InvalidKeys>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keys {
    /// Zeros behind what there is.
    bytes: [u8; 2 * KEY_LEN],
    len: u8,
}

/// What is not one key or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidKeys;

/// By which key a cookie was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MadeBy {
    First,
    Second,
    Nobody,
}

impl Keys {
    /// 16 bytes for one key, 32 for two; none for another length.
    pub fn from_bytes(keys: &[u8]) -> Option<Keys> {
        let mut bytes = [0; 2 * KEY_LEN];
        bytes
            .get_mut(..keys.len())
            .filter(|_| keys.len().is_multiple_of(KEY_LEN) && !keys.is_empty())?
            .copy_from_slice(keys);
        Some(Keys { bytes, len: keys.len() as u8 })
    }

    /// What [`Keys::from_bytes`] takes.
    pub fn to_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }

    /// The cookie for a client at `remote`.
    pub(super) fn cookie(&self, local: IpAddr, remote: IpAddr) -> FastOpen {
        cookie(self.bytes.first_chunk().unwrap_or(&[0; KEY_LEN]), local, remote)
    }

    pub(super) fn maker(&self, theirs: FastOpen, local: IpAddr, remote: IpAddr) -> MadeBy {
        let (keys, _) = self.to_bytes().as_chunks();
        match keys.iter().position(|key| cookie(key, local, remote) == theirs) {
            Some(0) => MadeBy::First,
            Some(_) => MadeBy::Second,
            None => MadeBy::Nobody,
        }
    }
}

/// As Linux since 5.3: SipHash-2-4 over the addresses of the SYN as they stand in its header, the result's low byte first.
fn cookie(key: &[u8; KEY_LEN], local: IpAddr, remote: IpAddr) -> FastOpen {
    let keyed = SipHasher24::new_with_key(key);
    let hash = match (remote, local) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            keyed.hash([source.octets(), destination.octets()].as_flattened())
        }
        (source, destination) => {
            let octets = [source, destination].map(|addr| crate::prf::mapped(addr).octets());
            keyed.hash(octets.as_flattened())
        }
    };
    // Eight is a legal length.
    FastOpen::cookie(&hash.to_le_bytes()).unwrap_or(FastOpen::REQUEST)
}

/// Linux's notation: four groups of hexadecimal digits with `-` between them, least significant byte first, and `,` before a second key.
impl FromStr for Keys {
    type Err = InvalidKeys;

    fn from_str(text: &str) -> Result<Keys, InvalidKeys> {
        let (mut bytes, mut len) = ([0; 2 * KEY_LEN], 0);
        for key in text.split(',') {
            let place = bytes.get_mut(len..len + KEY_LEN).ok_or(InvalidKeys)?;
            let mut groups = key.trim().split('-');
            for place in place.chunks_mut(4) {
                let group =
                    groups.next().filter(|group| group.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let group = u32::from_str_radix(group.ok_or(InvalidKeys)?, 16).map_err(|_| InvalidKeys)?;
                place.copy_from_slice(&group.to_le_bytes());
            }
            if groups.next().is_some() {
                return Err(InvalidKeys);
            }
            len += KEY_LEN;
        }
        bytes.get(..len).and_then(Keys::from_bytes).ok_or(InvalidKeys)
    }
}

/// The keys stay out of logs.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl fmt::Display for InvalidKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a Fast Open key such as a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4, or two with a comma between them")
    }
}

impl core::error::Error for InvalidKeys {}
