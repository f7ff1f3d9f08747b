//! Finishing what a sender on this machine left to a device that does not exist (CHECKSUM_PARTIAL).
//!
//! The kernel marks such packets (`TP_STATUS_CSUMNOTREADY`); their checksum field holds the sum of the pseudo header.
//! So the sum over the whole transport, the field included, is what a wire would have carried.

use ringwire_wire::checksum::Sum;

const ETH_LEN: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Finishes the checksum of an untagged TCP or UDP packet over IPv4 or IPv6 without extension headers. Anything else
/// stays as it is, and whoever verifies it will refuse it.
pub(crate) fn finish(packet: &mut [u8]) {
    let Some((transport, protocol)) = transport(packet) else { return };
    let field = match protocol {
        TCP => 16,
        UDP => 6,
        _ => return,
    };
    let Some(segment) = packet.get_mut(transport.0..transport.1) else { return };
    let mut sum = Sum::of(segment).finish();
    if protocol == UDP && sum == 0 {
        // RFC 768: zero says that there is no checksum.
        sum = 0xffff;
    }
    if let Some(field) = segment.get_mut(field..field + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Where the transport begins and ends, without padding behind it.
fn transport(packet: &[u8]) -> Option<((usize, usize), u8)> {
    let ip = packet.get(ETH_LEN..)?;
    let read = |at: usize| Some(usize::from(u16::from_be_bytes([*ip.get(at)?, *ip.get(at + 1)?])));
    let (header_len, len, protocol) = match (read_type(packet)?, ip.first()? >> 4) {
        (0x0800, 4) => (usize::from(ip[0] & 0xf) * 4, read(2)?, *ip.get(9)?),
        (0x86dd, 6) => (40, 40 + read(4)?, *ip.get(6)?),
        _ => return None,
    };
    (header_len < len).then_some(((ETH_LEN + header_len, ETH_LEN + len), protocol))
}

fn read_type(packet: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*packet.get(12)?, *packet.get(13)?]))
}

#[cfg(test)]
mod tests {
    use ringwire_wire::ipv4::Protocol;

    use super::*;

    /// IPv4 with an unfinished transport checksum and two bytes of padding.
    fn unfinished(protocol: u8, field: usize, transport_len: usize) -> Vec<u8> {
        let mut packet = vec![0u8; 14 + 20 + transport_len + 2];
        packet[12..14].copy_from_slice(&[8, 0]);
        packet[14] = 0x45;
        packet[16..18].copy_from_slice(&(20 + transport_len as u16).to_be_bytes());
        packet[23] = protocol;
        packet[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        for (index, byte) in packet[34..].iter_mut().enumerate() {
            *byte = index as u8;
        }
        let pseudo = pseudo(protocol, transport_len as u16).folded();
        packet[34 + field..36 + field].copy_from_slice(&pseudo.to_be_bytes());
        packet
    }

    fn pseudo(protocol: u8, len: u16) -> Sum {
        Sum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Protocol(protocol), len)
    }

    #[test]
    fn finished_checksums_verify() {
        for (protocol, field, len) in [(TCP, 16, 20), (TCP, 16, 1000), (UDP, 6, 9), (UDP, 6, 1400)] {
            let mut packet = unfinished(protocol, field, len);
            finish(&mut packet);
            let sum = pseudo(protocol, len as u16) + Sum::of(&packet[34..34 + len]);
            assert!(sum.is_valid(), "protocol {protocol}, {len} bytes");
        }
    }

    #[test]
    fn what_it_does_not_know_stays() {
        let mut other = unfinished(132, 8, 40);
        let before = other.clone();
        finish(&mut other);
        assert_eq!(other, before);
        for len in 0..40 {
            let mut short = unfinished(TCP, 16, 40)[..len].to_vec();
            finish(&mut short);
        }
    }
}
