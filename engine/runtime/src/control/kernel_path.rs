//! The kernel path of shared addresses: packets of ours that XDP does not see, or cannot take.
//!
//! ```text
//! a local client (over `lo`), a packet in fragments -> kernel -> raw socket -> worker, as if it had come by a queue
//! a worker's packet to an address of this host -> raw socket -> kernel -> the local client
//! ```
//! A raw socket gets a copy of what the kernel receives for its address, reassembled, with its headers; a filter over the steering
//! program's own maps lets only packets of steered ports through. The reservation sockets drop the originals in silence. So a local
//! client meets the same listeners, and the same protocol code, as any other.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};

use ringwire_bpf::Steering;
use ringwire_wire::checksum::Sum;
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::icmp::{Kind, Quoted};
use ringwire_wire::ipv4::{self, Protocol};
use ringwire_wire::packet::{self, Transport};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Socket, Type};

use crate::error::SetupError;
use crate::xdp::{steer_error, system};

/// A packet at its longest: a local client's kernel hands over what a device would cut into segments.
const PACKET_BYTES: usize = 65_535;
/// Asked for; the kernel gives at most net.core.rmem_max. A few unsegmented packets fill the default.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// How a packet came to the kernel, which decides who may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A program on this host.
    Local,
    /// The wire, in fragments or with options.
    Wire,
    /// An ICMP error about something we sent.
    Error,
}

/// A packet of ours, and the flow that it is of, or about.
#[derive(Debug)]
pub(super) struct Received {
    /// Behind an Ethernet header of our own making.
    pub(super) frame: Vec<u8>,
    pub(super) origin: Origin,
    pub(super) protocol: Protocol,
    pub(super) local: SocketAddrV4,
    pub(super) remote: SocketAddrV4,
}

/// The raw sockets of all shared addresses.
#[derive(Debug)]
pub(super) struct KernelPath {
    sockets: Vec<Socket>,
    out: Socket,
    /// The kernel's own addresses.
    local: Vec<Ipv4Addr>,
    /// The interface's address, which workers take for theirs.
    mac: Mac,
    /// The source of what comes this way: known to workers and nobody else.
    kernel_mac: Mac,
    buffer: Vec<u8>,
}

impl KernelPath {
    /// Opens the sockets in the calling thread's network namespace.
    ///
    /// # Errors
    /// `CAP_NET_RAW` is missing, or the kernel refuses the filter.
    pub(super) fn open(
        addresses: &[Ipv4Addr],
        steering: &Steering,
        (mac, kernel_mac): (Mac, Mac),
    ) -> Result<KernelPath, SetupError> {
        let mut sockets = Vec::new();
        for address in addresses {
            for protocol in [Protocol::TCP, Protocol::UDP, Protocol::ICMP] {
                let socket = raw_socket(protocol)?;
                steering.filter_kernel_path(socket.as_fd()).map_err(steer_error)?;
                let bound = socket.bind(&SocketAddr::from((*address, 0)).into());
                bound.map_err(|error| system(&format!("cannot bind a raw socket to {address}"), &error))?;
                // Less is good enough: local clients send again.
                let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
                sockets.push(socket);
            }
        }
        Ok(KernelPath {
            sockets,
            // IPPROTO_RAW: it receives nothing, and what is sent brings its own IPv4 header.
            out: raw_socket(Protocol(255))?,
            local: Vec::new(),
            mac,
            kernel_mac,
            buffer: vec![0; PACKET_BYTES],
        })
    }

    /// The addresses that programs on this host may send from.
    pub(super) fn set_local(&mut self, local: Vec<Ipv4Addr>) {
        self.local = local;
    }

    /// Follows a change of the interface's address.
    pub(super) fn set_mac(&mut self, mac: Mac) {
        self.mac = mac;
    }

    /// Readable when [`KernelPath::receive`] has something.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }

    /// How many sockets [`KernelPath::receive`] knows.
    pub(super) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Takes one packet from a socket, if there is one. What cannot be read is nobody's.
    pub(super) fn receive(&mut self, socket: usize) -> Option<Received> {
        let socket = self.sockets.get(socket)?;
        loop {
            match recv(socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, len)) => {
                    if let Some(received) = self.frame(len).and_then(|frame| self.read(frame)) {
                        return Some(received);
                    }
                }
                Err(Errno::INTR) => {}
                // Nothing there; any other failure is the loss of a packet.
                Err(_) => return None,
            }
        }
    }

    /// Gives the kernel the packet in an Ethernet frame, to deliver on this host. A packet that it refuses is lost.
    pub(super) fn send(&self, frame: &[u8]) {
        let Some(bytes) = frame.get(eth::HEADER_LEN..) else { return };
        let Ok(ip) = ipv4::Packet::parse(bytes) else { return };
        let to = SocketAddr::from((ip.dst(), 0));
        let _ = self.out.send_to(bytes, &to.into());
    }

    /// The first `len` bytes of the buffer behind an Ethernet header.
    fn frame(&self, len: usize) -> Option<Vec<u8>> {
        let packet = self.buffer.get(..len)?;
        let mut frame = vec![0; eth::HEADER_LEN + len];
        let (head, body) = frame.split_first_chunk_mut::<{ eth::HEADER_LEN }>()?;
        eth::Header { dst: self.mac, src: self.kernel_mac, ethertype: EtherType::IPV4 }.emit(head);
        body.copy_from_slice(packet);
        Some(frame)
    }

    /// Finds out whose it is.
    fn read(&self, mut frame: Vec<u8>) -> Option<Received> {
        let packet = packet::parse(&frame).ok()?;
        let packet::Net::Ipv4(ip, transport) = packet.net else { return None };
        let (ports, checksum_at) = match &transport {
            Transport::Tcp(segment) => ((segment.dst_port(), segment.src_port()), TCP_CHECKSUM_AT),
            Transport::Udp(datagram) => ((datagram.dst_port(), datagram.src_port()), UDP_CHECKSUM_AT),
            Transport::Icmp(message) => {
                let Kind::Error(error) = message.kind() else { return None };
                let quoted = Quoted::parse(error.quoted).ok()?;
                let local = SocketAddrV4::new(quoted.src, quoted.src_port);
                let remote = SocketAddrV4::new(quoted.dst, quoted.dst_port);
                return Some(Received {
                    frame,
                    origin: Origin::Error,
                    protocol: quoted.protocol,
                    local,
                    remote,
                });
            }
            Transport::Fragment | Transport::Other => return None,
        };
        let is_local = ip.src().is_loopback() || self.local.contains(&ip.src());
        let origin = if is_local { Origin::Local } else { Origin::Wire };
        let (protocol, header_len) = (ip.protocol(), ip.header_len());
        let local = SocketAddrV4::new(ip.dst(), ports.0);
        let remote = SocketAddrV4::new(ip.src(), ports.1);
        if is_local {
            // A local sender leaves checksums to a device, and `lo` has none.
            let pseudo = Sum::pseudo_v4(ip.src(), ip.dst(), protocol, ip.payload_len());
            complete_checksum(frame.get_mut(eth::HEADER_LEN + header_len..)?, checksum_at, pseudo)?;
        }
        Some(Received { frame, origin, protocol, local, remote })
    }
}

/// RFC 9293 3.1, RFC 768.
const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;

fn complete_checksum(transport: &mut [u8], at: usize, pseudo: Sum) -> Option<()> {
    transport.get_mut(at..at + 2)?.fill(0);
    let checksum = match pseudo.add(Sum::of(transport)).finish() {
        // RFC 768: zero would mean that there is none; both are zero in ones' complement.
        0 => u16::MAX,
        checksum => checksum,
    };
    transport.get_mut(at..at + 2)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

fn raw_socket(protocol: Protocol) -> Result<Socket, SetupError> {
    let protocol = socket2::Protocol::from(i32::from(protocol.0));
    Socket::new(Domain::IPV4, Type::RAW, Some(protocol)).map_err(|error| {
        let mut refused = system("cannot open a raw socket", &error);
        if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
            "grant CAP_NET_RAW".clone_into(&mut refused.hint);
        }
        refused
    })
}
