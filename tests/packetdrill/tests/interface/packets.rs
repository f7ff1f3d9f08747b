//! The peer's packets, and what the stack's say.

use std::net::Ipv4Addr;

use ringwire_wire::checksum::Sum;
use ringwire_wire::ipv4::{self, Protocol};
use ringwire_wire::tcp::{self, Flags, Header, Options};

pub(crate) const HERE: [u8; 4] = [192, 168, 0, 1];
pub(crate) const THERE: [u8; 4] = [192, 0, 2, 1];
pub(crate) const PORT: u16 = 8080;
pub(crate) const PEER_PORT: u16 = 40_000;
/// The peer's initial sequence number.
pub(crate) const IRS: u32 = 5_000;

/// A TCP segment from the peer as an IP packet; `seq` counts from its SYN.
pub(crate) fn segment(flags: Flags, numbers: (u32, u32), options: &Options, text: &[u8]) -> Vec<u8> {
    let window = 32_768;
    segment_with(Header { flags, window, ..numbered(numbers) }, options, text)
}

/// A header of the peer's with these numbers; `seq` counts from its SYN.
pub(crate) fn numbered((seq, ack): (u32, u32)) -> Header {
    Header {
        src_port: PEER_PORT,
        dst_port: PORT,
        seq: IRS.wrapping_add(seq),
        ack,
        flags: Flags::ACK,
        ..Header::default()
    }
}

pub(crate) fn segment_with(header: Header, options: &Options, text: &[u8]) -> Vec<u8> {
    let (src, dst) = (Ipv4Addr::from(THERE), Ipv4Addr::from(HERE));
    let len = tcp::HEADER_LEN + options.encoded_len() + text.len();
    let pseudo = Sum::pseudo_v4(src, dst, Protocol::TCP, len as u16);
    let mut bytes = vec![0; tcp::MAX_HEADER_LEN];
    let head_len = header.emit(options, pseudo + Sum::of(text), &mut bytes);
    bytes.truncate(head_len);
    bytes.extend_from_slice(text);
    ip(Protocol::TCP, &bytes)
}

pub(crate) fn ip(protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let header = ipv4::Header {
        src: THERE.into(),
        dst: HERE.into(),
        protocol,
        tos: 0,
        ttl: 255,
        id: 0,
        dont_fragment: true,
        payload_len: payload.len() as u16,
    };
    let mut bytes = [0; ipv4::HEADER_LEN];
    header.emit(&mut bytes);
    [&bytes[..], payload].concat()
}

/// An ICMP error about a segment that left the stack: its IP header and first 8 bytes are quoted.
pub(crate) fn icmp_error((kind, code): (u8, u8), about: &Out) -> Vec<u8> {
    let quoted = about.packet.iter().take(ipv4::HEADER_LEN + 8);
    let mut bytes: Vec<u8> = [kind, code, 0, 0, 0, 0, 0, 0].into_iter().chain(quoted.copied()).collect();
    let checksum = Sum::of(&bytes).finish();
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    ip(Protocol::ICMP, &bytes)
}

/// A segment that left the stack.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) header: Header,
    pub(crate) options: Options,
    /// As they stand on the wire.
    pub(crate) option_bytes: Vec<u8>,
    pub(crate) text: Vec<u8>,
    /// The whole of it.
    packet: Vec<u8>,
    pub(crate) at_us: i64,
}

impl Out {
    /// Reads a packet, which must be whole, from here to the peer, and with right checksums.
    pub(crate) fn parse(packet: &[u8], at_us: i64) -> Out {
        let ip = ipv4::Packet::parse(packet).expect("an IP packet");
        assert!(ip.verify_checksum());
        assert_eq!((ip.src().octets(), ip.dst().octets()), (HERE, THERE));
        let bytes = ip.payload();
        let segment = tcp::Segment::parse(bytes).expect("a TCP segment");
        let pseudo = Sum::pseudo_v4(ip.src(), ip.dst(), Protocol::TCP, bytes.len() as u16);
        assert!(segment.verify_checksum(pseudo));
        Out {
            header: segment.header(),
            options: segment.options(),
            option_bytes: bytes[tcp::HEADER_LEN..segment.header_len()].to_vec(),
            text: segment.payload().to_vec(),
            packet: packet.to_vec(),
            at_us,
        }
    }

    /// The kinds of its options, in order.
    pub(crate) fn option_kinds(&self) -> Vec<u8> {
        let mut kinds = Vec::new();
        let mut rest = &self.option_bytes[..];
        while let [kind, ..] = *rest {
            kinds.push(kind);
            let len = if kind < 2 { 1 } else { usize::from(rest[1]) };
            rest = &rest[len..];
        }
        kinds
    }
}
