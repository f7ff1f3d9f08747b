//! Packets to be sent: TCP segments and UDP datagrams with whatever is to be in them, right or wrong.

use std::net::SocketAddrV4;

use ringwire_wire::checksum::Sum;

/// The letters of TCP's flags, lowest bit first.
pub(crate) const FLAG_LETTERS: [char; 8] = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C'];

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Who sends a frame to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macs {
    /// The sender.
    pub src: [u8; 6],
    /// The receiver.
    pub dst: [u8; 6],
}

/// A TCP segment over IPv4. Nothing in it is checked: that is what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sender.
    pub src: SocketAddrV4,
    /// Receiver.
    pub dst: SocketAddrV4,
    /// Sequence number of the first byte.
    pub seq: u32,
    /// Acknowledgement number; sent whether there is an `A` or not.
    pub ack: u32,
    /// Letters of `FSRPAUEC`.
    pub flags: String,
    /// Unscaled.
    pub window: u16,
    /// Options as they shall be, filled up with zeros to a multiple of four.
    pub options: Vec<u8>,
    /// What it carries.
    pub payload: Vec<u8>,
    /// Added to the right checksum.
    pub checksum_off_by: u16,
}

impl Segment {
    /// Without payload or options, and with a window of 65,535.
    pub fn new(src: SocketAddrV4, dst: SocketAddrV4, flags: &str) -> Segment {
        Segment {
            src,
            dst,
            seq: 0,
            ack: 0,
            flags: flags.to_owned(),
            window: 65_535,
            options: Vec::new(),
            payload: Vec::new(),
            checksum_off_by: 0,
        }
    }

    /// The whole frame.
    ///
    /// # Panics
    /// If a flag is none of the letters, there are more than 40 bytes of options, or more payload than IPv4 takes.
    pub fn frame(&self, macs: Macs) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        assert!(options.len() <= 40, "{} bytes of options", options.len());
        let flag = |letter: char| {
            let bit = FLAG_LETTERS.iter().position(|&known| known == letter);
            1_u8 << bit.unwrap_or_else(|| panic!("'{letter}' is no TCP flag: FSRPAUEC"))
        };
        let flags = self.flags.chars().map(flag).fold(0, |flags, flag| flags | flag);
        // At most 60, so the quotient fits four bits.
        let offset = (5 + options.len() / 4) as u8;
        let mut segment = Vec::with_capacity(20 + options.len() + self.payload.len());
        segment.extend(self.src.port().to_be_bytes());
        segment.extend(self.dst.port().to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        segment.extend([offset << 4, flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(&options);
        segment.extend(&self.payload);
        let sum = pseudo(self.src, self.dst, TCP, segment.len()) + Sum::of(&segment);
        let sum = sum.finish().wrapping_add(self.checksum_off_by);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        ipv4(macs, (self.src, self.dst), TCP, &segment)
    }
}

/// A UDP datagram over IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpPacket {
    /// Sender.
    pub src: SocketAddrV4,
    /// Receiver.
    pub dst: SocketAddrV4,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl UdpPacket {
    /// The whole frame.
    ///
    /// # Panics
    /// If there is more payload than IPv4 takes.
    pub fn frame(&self, macs: Macs) -> Vec<u8> {
        let len = 8 + self.payload.len();
        let mut datagram = Vec::with_capacity(len);
        datagram.extend(self.src.port().to_be_bytes());
        datagram.extend(self.dst.port().to_be_bytes());
        datagram.extend(narrow(len).to_be_bytes());
        datagram.extend([0; 2]);
        datagram.extend(&self.payload);
        let sum = (pseudo(self.src, self.dst, UDP, len) + Sum::of(&datagram)).finish();
        // RFC 768: zero says that there is no checksum.
        let sum = if sum == 0 { 0xffff } else { sum };
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        ipv4(macs, (self.src, self.dst), UDP, &datagram)
    }
}

/// An ARP answer: `sender` is at `macs.src`.
pub(crate) fn arp_reply(macs: Macs, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = [&macs.dst[..], &macs.src, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &macs.src].concat();
    frame.extend(sender);
    frame.extend(macs.dst);
    frame.extend(target);
    frame.resize(60, 0);
    frame
}

/// An ARP question to everybody: who has `target`?
pub(crate) fn arp_request(src: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &src, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &src].concat();
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame.resize(60, 0);
    frame
}

fn pseudo(src: SocketAddrV4, dst: SocketAddrV4, protocol: u8, len: usize) -> Sum {
    let sum = Sum::default().add_u32(src.ip().to_bits()).add_u32(dst.ip().to_bits());
    sum.add_u16(u16::from(protocol)).add_u16(narrow(len))
}

fn ipv4(macs: Macs, (src, dst): (SocketAddrV4, SocketAddrV4), protocol: u8, payload: &[u8]) -> Vec<u8> {
    const DONT_FRAGMENT: u8 = 0x40;
    const TTL: u8 = 64;
    let [len_high, len_low] = narrow(20 + payload.len()).to_be_bytes();
    let mut ip = vec![0x45, 0, len_high, len_low, 0, 0, DONT_FRAGMENT, 0, TTL, protocol, 0, 0];
    ip.extend(src.ip().octets());
    ip.extend(dst.ip().octets());
    let sum = Sum::of(&ip).finish();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&macs.dst[..], &macs.src, &[8, 0], &ip, payload].concat()
}

fn narrow(len: usize) -> u16 {
    u16::try_from(len).unwrap_or_else(|_| panic!("{len} bytes do not fit an IPv4 packet"))
}
