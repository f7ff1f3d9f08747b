//! Socket addresses as the C interface has them: `struct sockaddr_in` in bytes.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::Errno;

/// Bytes of a `struct sockaddr_in`.
pub const SOCKADDR_LEN: usize = 16;
const FAMILY_LEN: usize = 2;

/// What an address argument says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// `AF_INET`.
    Inet(SocketAddrV4),
    /// `AF_UNSPEC`: `connect` to it dissolves an association.
    Unspecified,
}

/// Reads an address argument.
///
/// # Errors
/// [`Errno::INVAL`] when it is too short, [`Errno::AFNOSUPPORT`] for another family.
pub fn decode(bytes: &[u8]) -> Result<Named, Errno> {
    let family = bytes.get(..FAMILY_LEN).ok_or(Errno::INVAL)?;
    let family = i32::from(u16::from_ne_bytes([family[0], family[1]]));
    match family {
        libc::AF_UNSPEC => Ok(Named::Unspecified),
        libc::AF_INET => match bytes {
            &[_, _, p0, p1, a, b, c, d, _, _, _, _, _, _, _, _, ..] => {
                let port = u16::from_be_bytes([p0, p1]);
                Ok(Named::Inet(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port)))
            }
            _ => Err(Errno::INVAL),
        },
        _ => Err(Errno::AFNOSUPPORT),
    }
}

/// Writes an address; the caller truncates it to the room there is and reports the whole length, as Linux does.
pub fn encode(addr: SocketAddrV4) -> [u8; SOCKADDR_LEN] {
    let mut bytes = [0; SOCKADDR_LEN];
    // AF_INET is 2 everywhere.
    bytes[..FAMILY_LEN].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&addr.ip().octets());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_its_bytes() {
        let addr = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 8080);
        let bytes = encode(addr);
        assert_eq!(bytes[..8], [2, 0, 0x1f, 0x90, 192, 0, 2, 1]);
        assert_eq!(decode(&bytes), Ok(Named::Inet(addr)));
    }

    #[test]
    fn what_is_no_address_is_refused_with_linux_s_numbers() {
        let whole = encode(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));
        assert_eq!(decode(&whole[..15]), Err(Errno::INVAL));
        assert_eq!(decode(&[2]), Err(Errno::INVAL));
        assert_eq!(decode(&[10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Errno::AFNOSUPPORT));
        assert_eq!(decode(&[0, 0]), Ok(Named::Unspecified));
    }
}
