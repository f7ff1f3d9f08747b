//! Segmentation: scripts inject TCP segments of up to 64 KB, which a device would have put together from what came over the wire.

use ringwire_wire::checksum::Sum;
use ringwire_wire::ipv4::{self, Protocol};
use ringwire_wire::tcp::{self, Flags};

/// The packet in pieces of at most `mtu` bytes; none if it is not TCP over IPv4, cannot be cut, or is malformed.
pub(super) fn segments(ip_packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    cut(ip_packet, mtu).unwrap_or_default()
}

fn cut(ip_packet: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
    let ip = ipv4::Packet::parse(ip_packet).ok()?;
    let segment = tcp::Segment::parse(ip.payload()).ok()?;
    if ip.protocol() != Protocol::TCP || ip.is_fragment() || segment.flags().contains(Flags::SYN) {
        return None;
    }
    let heads = ip.header_len() + segment.header_len();
    let (head, text) = ip_packet.get(..ip.header_len() + ip.payload().len())?.split_at_checked(heads)?;
    let piece_len = mtu.checked_sub(heads).filter(|len| *len > 0)?;
    let last = text.len().div_ceil(piece_len).saturating_sub(1);
    let pieces = text.chunks(piece_len).enumerate().map(|(index, piece)| {
        let mut flags = segment.flags();
        if index < last {
            flags = flags.without(Flags::FIN | Flags::PSH);
        }
        if index > 0 {
            flags = flags.without(Flags::CWR);
        }
        // At most 64 KB in all.
        let seq = segment.header().seq.wrapping_add((index * piece_len) as u32);
        put_together(&ip, head, (seq, flags), piece)
    });
    pieces.collect()
}

/// Both headers of `head`, with other numbers and flags, and `text`.
fn put_together(
    ip: &ipv4::Packet<'_>,
    head: &[u8],
    (seq, flags): (u32, Flags),
    text: &[u8],
) -> Option<Vec<u8>> {
    let mut bytes = [head, text].concat();
    let total_len = u16::try_from(bytes.len()).ok()?;
    let (network, transport) = bytes.split_at_mut_checked(ip.header_len())?;
    network.get_mut(2..4)?.copy_from_slice(&total_len.to_be_bytes());
    network.get_mut(10..12)?.fill(0);
    let checksum = Sum::of(network).finish();
    network.get_mut(10..12)?.copy_from_slice(&checksum.to_be_bytes());
    let len = u16::try_from(transport.len()).ok()?;
    transport.get_mut(4..8)?.copy_from_slice(&seq.to_be_bytes());
    *transport.get_mut(13)? = flags.0;
    transport.get_mut(16..18)?.fill(0);
    let pseudo = Sum::pseudo_v4(ip.src(), ip.dst(), Protocol::TCP, len);
    let checksum = (pseudo + Sum::of(transport)).finish();
    transport.get_mut(16..18)?.copy_from_slice(&checksum.to_be_bytes());
    Some(bytes)
}
