//! Frames as bytes: what no builder of right packets makes.

use ringwire_wire::checksum::Sum;

/// Where the IPv4 header begins.
pub(crate) const IP: usize = 14;
/// Where the TCP header begins behind an IPv4 header without options.
pub(crate) const TCP: usize = IP + 20;

const ICMP_PROTOCOL: u8 = 1;
const TCP_PROTOCOL: u8 = 6;
const UDP_PROTOCOL: u8 = 17;

/// Makes the length and the checksums right again, that of the transport only where all of it is there.
pub(crate) fn mend(frame: &mut [u8]) {
    let (header_len, len) = (header_len(frame), frame.len() - IP);
    put(frame, IP + 2, len as u16);
    mend_transport(frame, IP + header_len);
    mend_header(frame);
}

/// Makes the checksum of the IP header right again.
pub(crate) fn mend_header(frame: &mut [u8]) {
    let header_len = header_len(frame);
    put(frame, IP + 10, 0);
    let sum = Sum::of(&frame[IP..IP + header_len]).finish();
    put(frame, IP + 10, sum);
}

fn mend_transport(frame: &mut [u8], start: usize) {
    let protocol = frame[IP + 9];
    let at = match protocol {
        TCP_PROTOCOL => start + 16,
        UDP_PROTOCOL => start + 6,
        ICMP_PROTOCOL => start + 2,
        _ => return,
    };
    put(frame, at, 0);
    let payload = &frame[start..];
    let pseudo = Sum::of(&frame[IP + 12..IP + 20]).add_u16(protocol.into()).add_u16(payload.len() as u16);
    let whole = if protocol == ICMP_PROTOCOL { Sum::default() } else { pseudo };
    put(frame, at, (whole + Sum::of(payload)).finish());
}

/// Sixteen bits at an offset.
pub(crate) fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn header_len(frame: &[u8]) -> usize {
    usize::from(frame[IP] & 0xf) * 4
}

/// An IPv4 packet in an Ethernet frame, with what the frame `like` says of addresses.
pub(crate) fn packet(like: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&like[..IP + 20], payload].concat();
    (frame[IP], frame[IP + 9]) = (0x45, protocol);
    mend(&mut frame);
    frame
}

/// Puts options behind the IP header, filled up with zeros to a multiple of four.
pub(crate) fn insert_ip_options(frame: &mut Vec<u8>, options: &[u8]) {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    frame[IP] += (options.len() / 4) as u8;
    frame.splice(IP + 20..IP + 20, options);
    mend(frame);
}

/// Pieces of the packet in a frame, each from one byte of its payload to another, all but those that end it with "more fragments".
pub(crate) fn fragments(frame: &[u8], pieces: &[(usize, usize)]) -> Vec<Vec<u8>> {
    let end = frame.len() - IP - 20;
    pieces.iter().map(|&(from, to)| fragment(frame, (from, to), to < end)).collect()
}

/// One piece; its beginning is a multiple of eight.
pub(crate) fn fragment(frame: &[u8], (from, to): (usize, usize), is_followed: bool) -> Vec<u8> {
    const MORE: u16 = 0x2000;
    let header = &frame[..IP + 20];
    let mut piece = [header, &frame[IP + 20 + from..IP + 20 + to]].concat();
    let len = piece.len() - IP;
    put(&mut piece, IP + 2, len as u16);
    // Who made the frame left the identification at zero; the low bytes of the port name it.
    let id = u16::from_be_bytes([frame[TCP], frame[TCP + 1]]);
    put(&mut piece, IP + 4, id);
    put(&mut piece, IP + 6, (from / 8) as u16 | if is_followed { MORE } else { 0 });
    mend_header(&mut piece);
    piece
}

/// Chooses the last two bytes of the text so that the TCP checksum is 0, which is as good as any other.
pub(crate) fn make_checksum_zero(frame: &mut [u8]) {
    mend(frame);
    let sum = u16::from_be_bytes([frame[TCP + 16], frame[TCP + 17]]);
    let at = frame.len() - 2;
    let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
    // In one's complement; what was added to the sum is taken from the checksum.
    let (new, carry) = old.overflowing_add(sum);
    put(frame, at, new + u16::from(carry));
    mend(frame);
}
