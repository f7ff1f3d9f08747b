//! Address resolution for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use crate::eth::{EtherType, Mac};
use crate::{Malformed, be16};

/// Bytes of a packet.
pub const PACKET_LEN: usize = 28;

/// Hardware type Ethernet.
const HARDWARE_ETHERNET: u16 = 1;

/// What the sender wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Who has `target_ip`?
    Request,
    /// `sender_ip` is at `sender_mac`.
    Reply,
}

/// A whole ARP packet, as values.
///
/// ```
/// use ringwire_wire::{arp, eth::Mac};
/// let request = arp::Packet {
///     op: arp::Op::Request,
///     sender_mac: Mac([2, 0, 0, 0, 0, 1]),
///     sender_ip: [10, 0, 0, 1].into(),
///     target_mac: Mac::default(),
///     target_ip: [10, 0, 0, 2].into(),
/// };
/// let mut bytes = [0; arp::PACKET_LEN];
/// request.emit(&mut bytes);
/// assert_eq!(arp::Packet::parse(&bytes), Ok(request));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Request or reply.
    pub op: Op,
    /// Who sends.
    pub sender_mac: Mac,
    /// Whose mapping this announces; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Meaningless in a request.
    pub target_mac: Mac,
    /// Who is asked, or told.
    pub target_ip: Ipv4Addr,
}

impl Packet {
    /// Reads the first 28 bytes; padding behind them is ignored.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::BadAddressFormat`] for anything but IPv4 over
    /// Ethernet, [`Malformed::BadOperation`].
    pub fn parse(bytes: &[u8]) -> Result<Packet, Malformed> {
        let fixed: &[u8; PACKET_LEN] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let formats = (be16(fixed, 0), EtherType(be16(fixed, 2)), fixed[4], fixed[5]);
        if formats != (HARDWARE_ETHERNET, EtherType::IPV4, 6, 4) {
            return Err(Malformed::BadAddressFormat);
        }
        let op = match be16(fixed, 6) {
            1 => Op::Request,
            2 => Op::Reply,
            _ => return Err(Malformed::BadOperation),
        };
        Ok(Packet {
            op,
            sender_mac: mac_at(fixed, 8),
            sender_ip: ip_at(fixed, 14),
            target_mac: mac_at(fixed, 18),
            target_ip: ip_at(fixed, 24),
        })
    }

    /// Writes all 28 bytes.
    pub fn emit(&self, out: &mut [u8; PACKET_LEN]) {
        let op: u16 = match self.op {
            Op::Request => 1,
            Op::Reply => 2,
        };
        out[..2].copy_from_slice(&HARDWARE_ETHERNET.to_be_bytes());
        out[2..4].copy_from_slice(&EtherType::IPV4.0.to_be_bytes());
        out[4..6].copy_from_slice(&[6, 4]);
        out[6..8].copy_from_slice(&op.to_be_bytes());
        out[8..14].copy_from_slice(&self.sender_mac.0);
        out[14..18].copy_from_slice(&self.sender_ip.octets());
        out[18..24].copy_from_slice(&self.target_mac.0);
        out[24..].copy_from_slice(&self.target_ip.octets());
    }
}

fn mac_at(fixed: &[u8; PACKET_LEN], at: usize) -> Mac {
    Mac([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3], fixed[at + 4], fixed[at + 5]])
}

fn ip_at(fixed: &[u8; PACKET_LEN], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3])
}
