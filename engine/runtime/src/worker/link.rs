//! The worker's packet memory and ports, and how a packet leaves: headers into headroom, descriptor onto the ring.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use ringwire_frame::{Class, Frame, Kick, Packet, Pool, Port, SendFrame, TxFull};
use ringwire_proto::DropReason;
use ringwire_wire::checksum::Sum;
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::{icmp, ipv4, tcp, udp};

use crate::control_link::ControlLink;
use crate::metrics::Counters;
use crate::wake::Waker;

/// Room in front of outgoing payload: Ethernet (14) + IPv4 (20) + the longest TCP header (60), rounded up to a cache line.
pub(crate) const TX_HEADROOM: usize = 128;
/// In place of a queue's index: this host. Its kernel delivers to its own programs; with dedicated addresses it is this worker alone.
pub(crate) const HOST_PORT: usize = usize::MAX;
/// Packets that a worker may have on the way to itself; what finds no place is lost, as on a wire.
const LOOPED_PACKETS: usize = 128;
/// The length field of IPv4.
const MAX_IP_BYTES: usize = 65_535;
const ETH_IP_LEN: usize = eth::HEADER_LEN + ipv4::HEADER_LEN;

/// The ports a worker can have; dispatched once per batch.
#[derive(Debug)]
pub(crate) enum AnyPort {
    Mem(ringwire_frame::MemPort),
    #[cfg(feature = "xdp")]
    /// Boxed: it is several times larger, and a batch follows the pointer once.
    Xsk(Box<ringwire_xsk::XskPort>),
    #[cfg(feature = "packet")]
    Packet(Box<ringwire_packet::PacketPort>),
}

macro_rules! on_port {
    ($any:expr, $port:ident => $call:expr) => {
        match $any {
            AnyPort::Mem($port) => $call,
            #[cfg(feature = "xdp")]
            AnyPort::Xsk($port) => $call,
            #[cfg(feature = "packet")]
            AnyPort::Packet($port) => $call,
        }
    };
}

impl AnyPort {
    fn watch(&mut self, waker: &Waker) {
        match self {
            AnyPort::Mem(port) => {
                let waker = waker.clone();
                port.set_wake(move || waker.nudge());
            }
            #[cfg(feature = "xdp")]
            AnyPort::Xsk(_) => {}
            #[cfg(feature = "packet")]
            AnyPort::Packet(_) => {}
        }
    }

    /// Whether a packet may leave as a chain of frames.
    fn sends_chains(&self) -> bool {
        match self {
            AnyPort::Mem(_) => true,
            #[cfg(feature = "xdp")]
            AnyPort::Xsk(port) => port.mode().multi_buffer,
            #[cfg(feature = "packet")]
            AnyPort::Packet(_) => true,
        }
    }

    fn awaits_wakeup(&self) -> bool {
        match self {
            #[cfg(feature = "xdp")]
            AnyPort::Xsk(port) => port.awaits_wakeup(),
            _ => false,
        }
    }

    fn has_packets(&mut self) -> bool {
        match self {
            AnyPort::Mem(port) => port.has_packets(),
            #[cfg(feature = "xdp")]
            AnyPort::Xsk(_) => false,
            #[cfg(feature = "packet")]
            AnyPort::Packet(_) => false,
        }
    }

    pub(crate) fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        #[cfg(any(feature = "xdp", feature = "packet"))]
        use std::os::fd::AsFd;
        match self {
            AnyPort::Mem(_) => None,
            #[cfg(feature = "xdp")]
            AnyPort::Xsk(port) => Some(port.as_fd()),
            #[cfg(feature = "packet")]
            AnyPort::Packet(port) => Some(port.as_fd()),
        }
    }
}

/// Who talks to whom on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hop {
    /// Index of the port (queue) that the packet leaves by.
    pub(crate) port: usize,
    pub(crate) src_mac: Mac,
    pub(crate) dst_mac: Mac,
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
}

/// What delivers to the addresses of this host.
#[derive(Debug)]
enum Host {
    Kernel(ControlLink),
    /// Nobody else has an address here: they come back in the next turn.
    Loop(VecDeque<Vec<u8>>),
}

/// Frames and ports of one worker.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) pool: Pool,
    ports: Vec<AnyPort>,
    mtu_bytes: usize,
    /// What one packet in one frame carries above IP.
    ip_payload_bytes: usize,
    /// What one packet in a chain of frames carries above UDP.
    longest_datagram_bytes: usize,
    ip_ident: u16,
    is_refused: bool,
    /// Behind [`HOST_PORT`].
    host: Host,
    /// Frames that came back from the devices and packets handed to them.
    moved: u64,
    refused_frames: u64,
}

impl Link {
    pub(crate) fn new(pool: Pool, ports: Vec<AnyPort>, mtu_bytes: usize) -> Link {
        let frame_bytes = ports.iter().map(|port| on_port!(port, p => p.max_frame_bytes())).min();
        let room = frame_bytes.unwrap_or(0).saturating_sub(TX_HEADROOM);
        let ip_payload_bytes = mtu_bytes.min(room).saturating_sub(ipv4::HEADER_LEN);
        let is_chained = ports.iter().all(AnyPort::sends_chains);
        let longest =
            if is_chained { mtu_bytes.min(MAX_IP_BYTES) - ipv4::HEADER_LEN } else { ip_payload_bytes };
        Link {
            pool,
            ports,
            mtu_bytes,
            ip_payload_bytes,
            longest_datagram_bytes: longest.max(ip_payload_bytes) - udp::HEADER_LEN,
            ip_ident: 0,
            is_refused: false,
            host: Host::Loop(VecDeque::new()),
            moved: 0,
            refused_frames: 0,
        }
    }

    pub(crate) fn ports(&self) -> &[AnyPort] {
        &self.ports
    }

    /// Payload of one TCP segment without options, in one frame: bytes.
    pub(crate) fn mss_bytes(&self) -> usize {
        self.ip_payload_bytes - tcp::HEADER_LEN
    }

    /// Payload of one UDP datagram, in one frame: bytes.
    pub(crate) fn datagram_bytes(&self) -> usize {
        self.ip_payload_bytes - udp::HEADER_LEN
    }

    /// Payload of one UDP datagram in as many frames as it takes: bytes.
    pub(crate) fn longest_datagram_bytes(&self) -> usize {
        self.longest_datagram_bytes
    }

    /// Has in-memory peers wake this worker; a NIC's descriptors are watched by the sleep itself.
    pub(crate) fn watch(&mut self, waker: &Waker) {
        for port in &mut self.ports {
            port.watch(waker);
        }
    }

    /// Whether an in-memory port has something to receive.
    pub(crate) fn has_packets(&mut self) -> bool {
        self.ports.iter_mut().any(AnyPort::has_packets)
    }

    /// Largest IP packet of the link: bytes.
    pub(crate) fn mtu_bytes(&self) -> usize {
        self.mtu_bytes
    }

    /// Completions back into the pool, frames from other threads too.
    pub(crate) fn reap(&mut self) {
        for port in &mut self.ports {
            self.moved += on_port!(port, p => p.reap(&mut self.pool)) as u64;
        }
        self.pool.reclaim();
    }

    pub(crate) fn receive(&mut self, port: usize, out: &mut Vec<Packet>, max: usize) -> usize {
        let Some(port) = self.ports.get_mut(port) else { return 0 };
        on_port!(port, p => p.receive(&mut self.pool, out, max))
    }

    pub(crate) fn refill(&mut self) {
        for port in &mut self.ports {
            on_port!(port, p => p.refill(&mut self.pool));
        }
    }

    /// True while some ring still holds packets that the kernel has not taken and may take at once: the worker must not sleep.
    pub(crate) fn kick(&mut self) -> bool {
        let mut pending = false;
        self.is_refused = false;
        for port in &mut self.ports {
            match on_port!(port, p => p.kick()) {
                Kick::Idle => {}
                Kick::Pending => pending = true,
                Kick::Refused => self.is_refused = true,
            }
        }
        pending
    }

    /// Whether some device took nothing at the last kick and will not at once: its link is down, or it is gone.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Gives the link a way to the programs of this host.
    pub(crate) fn set_kernel(&mut self, kernel: ControlLink) {
        self.host = Host::Kernel(kernel);
    }

    /// The next packet that this worker has sent to itself.
    pub(crate) fn next_looped(&mut self) -> Option<Vec<u8>> {
        match &mut self.host {
            Host::Loop(packets) => packets.pop_front(),
            Host::Kernel(_) => None,
        }
    }

    pub(crate) fn has_looped(&self) -> bool {
        matches!(&self.host, Host::Loop(packets) if !packets.is_empty())
    }

    /// Whether some driver still wants to be woken to receive, although it has been.
    pub(crate) fn awaits_wakeup(&self) -> bool {
        self.ports.iter().any(AnyPort::awaits_wakeup)
    }

    /// Grows as long as sending gets on: while it stands still, the devices hold what they have.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Descriptors free on the TX ring of `port`.
    pub(crate) fn tx_room(&mut self, port: usize) -> usize {
        let Some(port) = self.ports.get_mut(port) else {
            return match &self.host {
                Host::Kernel(kernel) => kernel.kernel_room(),
                Host::Loop(packets) => LOOPED_PACKETS.saturating_sub(packets.len()),
            };
        };
        on_port!(port, p => p.tx_room())
    }

    /// Packets lost before the rings, on all ports.
    pub(crate) fn rx_dropped(&self) -> u64 {
        self.ports.iter().map(|port| on_port!(port, p => p.stats()).rx_dropped).sum()
    }

    /// An empty frame for an outgoing packet, its window at [`TX_HEADROOM`].
    pub(crate) fn alloc(&mut self, class: Class) -> Option<Frame> {
        let Some(mut frame) = self.pool.alloc(class) else {
            self.refused_frames += 1;
            return None;
        };
        frame.reset(TX_HEADROOM);
        Some(frame)
    }

    /// How often [`Link::alloc`] had none; for who asks there, nothing takes its place.
    pub(crate) fn refused_frames(&self) -> u64 {
        self.refused_frames
    }

    /// Whether frames that are held begin to starve the ring or the senders: time to copy out what is held.
    #[inline]
    pub(crate) fn is_memory_short(&self) -> bool {
        self.pool.is_low() || self.pool.is_crowded()
    }

    /// Whether [`Link::alloc`] has a frame of class control.
    #[inline]
    pub(crate) fn has_control_frame(&mut self) -> bool {
        self.pool.can_alloc(Class::Control)
    }

    /// All headers of an ICMP message, whose content `frame` holds, in front of it.
    pub(crate) fn emit_icmp(&mut self, frame: &mut Frame, hop: &Hop, header: icmp::Header, content_sum: Sum) {
        let ip = self.ip_header(hop, ipv4::Protocol::ICMP, icmp::HEADER_LEN + frame.len());
        let head = frame.prepend(ETH_IP_LEN + icmp::HEADER_LEN);
        emit_ip(head, hop, ip);
        if let Some(icmp_head) = head.last_chunk_mut::<{ icmp::HEADER_LEN }>() {
            header.emit(icmp_head, content_sum);
        }
    }

    fn next_ident(&mut self) -> u16 {
        self.ip_ident = self.ip_ident.wrapping_add(1);
        self.ip_ident
    }

    /// Hands a complete packet to the ring; the frame comes home with its completion.
    pub(crate) fn submit(
        &mut self,
        port: usize,
        frame: &SendFrame,
        counters: &mut Counters,
    ) -> Result<(), TxFull> {
        match self.ports.get_mut(port) {
            Some(port) => on_port!(port, p => p.submit(&mut self.pool, frame))?,
            None => self.submit_to_host(core::slice::from_ref(frame))?,
        }
        self.moved += 1;
        counters.now.tx_packets += 1;
        counters.now.tx_bytes += frame.len() as u64;
        Ok(())
    }

    /// A copy, so the frame is free at once.
    #[cold]
    fn submit_to_host(&mut self, chain: &[SendFrame]) -> Result<(), TxFull> {
        let bytes = chain.iter().flat_map(SendFrame::bytes).copied().collect();
        let is_taken = match &mut self.host {
            Host::Kernel(kernel) => kernel.send_to_kernel(bytes),
            Host::Loop(packets) if packets.len() < LOOPED_PACKETS => {
                packets.push_back(bytes);
                true
            }
            Host::Loop(_) => false,
        };
        if is_taken { Ok(()) } else { Err(TxFull) }
    }

    /// [`Link::submit`] for packets that cannot wait: a full ring is a drop.
    pub(crate) fn submit_or_drop(&mut self, port: usize, frame: Frame, counters: &mut Counters) {
        if self.submit(port, &frame.into_send(), counters).is_err() {
            counters.drop_packet(DropReason::TxFull);
        }
    }

    /// [`Link::submit_or_drop`] for a packet in several frames, which leaves whole or not at all.
    #[cold]
    pub(crate) fn submit_chain_or_drop(
        &mut self,
        port: usize,
        (head, rest): (Frame, Vec<Frame>),
        counters: &mut Counters,
    ) {
        let chain: Vec<SendFrame> =
            core::iter::once(head).chain(rest).map(|frame| frame.into_send()).collect();
        let submitted = match self.ports.get_mut(port) {
            Some(port) => on_port!(port, p => p.submit_chain(&mut self.pool, &chain)),
            None => self.submit_to_host(&chain),
        };
        if submitted.is_err() {
            return counters.drop_packet(DropReason::TxFull);
        }
        self.moved += 1;
        counters.now.tx_packets += 1;
        counters.now.tx_bytes += chain.iter().map(|frame| frame.len() as u64).sum::<u64>();
    }

    fn ip_header(&mut self, hop: &Hop, protocol: ipv4::Protocol, payload_len: usize) -> ipv4::Header {
        ipv4::Header {
            src: hop.src,
            dst: hop.dst,
            protocol,
            tos: IpMark::PLAIN.tos,
            ttl: IpMark::PLAIN.ttl,
            id: self.next_ident(),
            dont_fragment: true,
            // At most the MTU, which `ip_payload_bytes` keeps below 65,536.
            payload_len: u16::try_from(payload_len).unwrap_or(u16::MAX),
        }
    }

    /// All headers of a TCP segment into `head`, which has exactly [`tcp_head_len`] bytes.
    pub(crate) fn emit_tcp(&mut self, head: &mut [u8], hop: &Hop, segment: &TcpSegment<'_>) {
        let transport_len = head.len() - ETH_IP_LEN.min(head.len()) + segment.payload_len;
        let mut ip = self.ip_header(hop, ipv4::Protocol::TCP, transport_len);
        (ip.tos, ip.ttl) = (segment.mark.tos, segment.mark.ttl);
        emit_ip(head, hop, ip);
        let pseudo = Sum::pseudo_v4(hop.src, hop.dst, ipv4::Protocol::TCP, ip.payload_len);
        if let Some(tcp_head) = head.get_mut(ETH_IP_LEN..) {
            segment.header.emit(segment.options, pseudo + segment.payload_sum, tcp_head);
        }
    }

    /// All headers of a UDP datagram in front of its payload: what `frame` holds, then `rest`, of even lengths but for the last.
    pub(crate) fn emit_udp(&mut self, frame: &mut Frame, rest: &[Frame], hop: &Hop, datagram: &UdpHead) {
        let payload_len = frame.len() + rest.iter().map(Frame::len).sum::<usize>();
        let payload_sum = rest.iter().fold(sum(frame.bytes()), |before, frame| before + sum(frame.bytes()));
        let mut ip = self.ip_header(hop, ipv4::Protocol::UDP, udp::HEADER_LEN + payload_len);
        ip.ttl = datagram.ttl;
        ip.tos = datagram.tos;
        let pseudo = Sum::pseudo_v4(hop.src, hop.dst, ipv4::Protocol::UDP, ip.payload_len);
        let header = udp::Header {
            src_port: datagram.src_port,
            dst_port: datagram.dst_port,
            // Callers refuse payloads above `longest_datagram_bytes`.
            len: u16::try_from(payload_len).unwrap_or(u16::MAX),
        };
        let head = frame.prepend(ETH_IP_LEN + udp::HEADER_LEN);
        emit_ip(head, hop, ip);
        if let Some(udp_head) = head.last_chunk_mut::<{ udp::HEADER_LEN }>() {
            header.emit(udp_head, pseudo + payload_sum);
        }
    }
}

/// The sum of a payload; short ones are not worth the call.
#[inline]
pub(crate) fn sum(bytes: &[u8]) -> Sum {
    const BULK_LEN: usize = 256;
    if bytes.len() < BULK_LEN { Sum::of(bytes) } else { sum_bulk(bytes) }
}

fn sum_bulk(bytes: &[u8]) -> Sum {
    ringwire_frame::sum_words_wide(bytes).map_or_else(|| Sum::of(bytes), Sum::from_native)
}

/// [`sum`] of what is copied. Copied first: the platform's copy uses the widest vectors, and then the bytes are in the cache.
#[inline]
pub(crate) fn sum_copied(to: &mut [u8], from: &[u8]) -> Sum {
    to.copy_from_slice(from);
    sum(from)
}

/// Writes Ethernet and IPv4 headers at the front of `head`.
fn emit_ip(head: &mut [u8], hop: &Hop, ip: ipv4::Header) {
    let Some((eth_head, ip_head)) = head.split_first_chunk_mut::<{ eth::HEADER_LEN }>() else { return };
    eth::Header { dst: hop.dst_mac, src: hop.src_mac, ethertype: EtherType::IPV4 }.emit(eth_head);
    if let Some(ip_head) = ip_head.first_chunk_mut::<{ ipv4::HEADER_LEN }>() {
        ip.emit(ip_head);
    }
}

/// What [`Link::emit_tcp`] writes.
#[derive(Debug)]
pub(crate) struct TcpSegment<'a> {
    pub(crate) header: &'a tcp::Header,
    pub(crate) options: &'a tcp::Options,
    pub(crate) payload_sum: Sum,
    pub(crate) payload_len: usize,
    pub(crate) mark: IpMark,
}

/// What a socket chooses of the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct IpMark {
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
}

impl IpMark {
    /// Of what belongs to no socket.
    pub(crate) const PLAIN: IpMark = IpMark { tos: 0, ttl: 64 };
}

/// What [`Link::emit_udp`] writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UdpHead {
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
}

/// Bytes of Ethernet, IPv4 and TCP headers with these options.
pub(crate) fn tcp_head_len(options: &tcp::Options) -> usize {
    ETH_IP_LEN + tcp::HEADER_LEN + options.encoded_len()
}
