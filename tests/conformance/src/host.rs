//! The wire of a script: raw Ethernet frames in and out of one worker, on the other end of its in-memory port.

use std::net::Ipv4Addr;

use ringwire::frame::{FarEnd, MemPort, Pool};
use ringwire_wire::checksum::Sum;
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::ipv4::{self, Protocol};
use ringwire_wire::tcp::{self, Header, Options};
use ringwire_wire::{arp, packet};

use crate::script::{PEER, WORKER};
use crate::segment::show_options;

const FRAMES: u32 = 2048;
const RING_PACKETS: u32 = 1024;
pub(crate) const PEER_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x99]);

/// A segment that left the worker.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The fixed fields; the numbers are absolute.
    pub header: Header,
    /// The options.
    pub options: Options,
    /// The text.
    pub text: Vec<u8>,
    /// When it left, in virtual nanoseconds.
    pub at_ns: u64,
    /// Sequence number relative to the worker's SYN.
    pub seq: u32,
    /// Acknowledgement number relative to the peer's SYN; 0 without ACK.
    pub ack: u32,
    /// DSCP and ECN.
    pub tos: u8,
    /// The IP packet.
    pub ip: Vec<u8>,
}

impl Sent {
    /// Bytes of text.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The sequence number behind the text.
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.text.len() as u32)
    }

    pub(crate) fn show(&self) -> String {
        let Sent { header, options, .. } = self;
        let mut text = format!("{} seq {}", header.flags, self.seq);
        if header.flags.contains(tcp::Flags::ACK) {
            text += &format!(" ack {}", self.ack);
        }
        text += &format!(" win {} len {}{}", header.window, self.text.len(), show_options(options));
        text
    }
}

/// What came out of the worker.
pub(crate) enum Out {
    /// A segment, numbered absolutely.
    Tcp(Sent),
    /// An ARP request for the peer's address.
    ArpRequest(arp::Packet),
    /// Anything else, as a frame.
    Other(Vec<u8>),
}

/// The other end of the worker's port.
pub(crate) struct Wire {
    far: FarEnd,
    pub(crate) worker_mac: Mac,
}

impl Wire {
    pub(crate) fn new() -> Wire {
        Wire { far: FarEnd::new(RING_PACKETS, FRAMES), worker_mac: Mac::BROADCAST }
    }

    pub(crate) fn attach(&mut self, engine: &Pool) -> MemPort {
        self.far.attach(engine)
    }

    /// Puts a frame on the wire.
    pub(crate) fn inject(&mut self, frame_bytes: &[u8]) {
        self.far.put(frame_bytes).expect("a script waits between injections");
    }

    /// What the worker has sent since.
    pub(crate) fn take(&mut self, at_ns: u64) -> Vec<Out> {
        let mut out = Vec::new();
        self.far.take(|frame| out.push(sort(frame.to_vec(), at_ns)));
        out
    }

    /// An Ethernet frame from the peer.
    pub(crate) fn frame(&self, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; eth::HEADER_LEN];
        eth::Header { dst: self.worker_mac, src: PEER_MAC, ethertype }.emit(&mut header);
        [&header[..], payload].concat()
    }

    pub(crate) fn arp(&self, op: arp::Op, target: Mac) -> Vec<u8> {
        let packet =
            arp::Packet { op, sender_mac: PEER_MAC, sender_ip: PEER, target_mac: target, target_ip: WORKER };
        let mut bytes = [0; arp::PACKET_LEN];
        packet.emit(&mut bytes);
        self.frame(EtherType::ARP, &bytes)
    }
}

/// An IPv4 packet between any two hosts.
pub(crate) fn ipv4_packet(
    (src, dst): (Ipv4Addr, Ipv4Addr),
    protocol: Protocol,
    tos: u8,
    payload: &[u8],
) -> Vec<u8> {
    let header = ipv4::Header {
        src,
        dst,
        protocol,
        tos,
        ttl: 64,
        id: 1,
        dont_fragment: true,
        payload_len: payload.len() as u16,
    };
    let mut bytes = [0; ipv4::HEADER_LEN];
    header.emit(&mut bytes);
    [&bytes[..], payload].concat()
}

/// Everything that leaves must be well-formed, with right checksums.
fn sort(frame: Vec<u8>, at_ns: u64) -> Out {
    let parsed = packet::parse(&frame).expect("what leaves is well-formed");
    parsed.verify().expect("what leaves has right checksums");
    match parsed.net {
        packet::Net::Arp(arp) if arp.op == arp::Op::Request => Out::ArpRequest(arp),
        packet::Net::Ipv4(ip, packet::Transport::Tcp(segment)) => {
            let header = segment.header();
            let ip_len = ip.header_len() + ip.payload().len();
            let ip_bytes = frame.get(eth::HEADER_LEN..eth::HEADER_LEN + ip_len).unwrap_or_default().to_vec();
            Out::Tcp(Sent {
                header,
                options: segment.options(),
                text: segment.payload().to_vec(),
                at_ns,
                seq: header.seq,
                ack: header.ack,
                tos: ip.tos(),
                ip: ip_bytes,
            })
        }
        _ => Out::Other(frame),
    }
}

/// The bytes of a segment, checksum included.
pub(crate) fn tcp_bytes(
    addresses: (Ipv4Addr, Ipv4Addr),
    header: &Header,
    options: &[u8],
    text: &[u8],
) -> Vec<u8> {
    assert!(
        options.len().is_multiple_of(4) && options.len() <= 40,
        "options are whole words, 40 bytes at most"
    );
    let mut bytes = vec![0; tcp::HEADER_LEN];
    header.emit(&Options::default(), Sum::default(), &mut bytes);
    bytes.extend_from_slice(options);
    bytes.extend_from_slice(text);
    bytes[12] = ((tcp::HEADER_LEN + options.len()) as u8 / 4) << 4;
    fix_checksum(addresses, &mut bytes);
    bytes
}

/// Computes the checksum anew.
pub(crate) fn fix_checksum((src, dst): (Ipv4Addr, Ipv4Addr), bytes: &mut [u8]) {
    bytes[16..18].copy_from_slice(&[0, 0]);
    let pseudo = Sum::pseudo_v4(src, dst, Protocol::TCP, bytes.len() as u16);
    let checksum = (pseudo + Sum::of(bytes)).finish();
    bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
}
