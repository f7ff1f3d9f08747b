//! UDP on one worker: sockets, their receive queues, and the way out.
//!
//! ```text
//! datagram -> table -> socket queue -> recv_batch -> application -> send_batch -> headers in front -> tx ring
//! ```
//! A datagram keeps its frame all the way; `into_reply` sends the same frame back.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use ringwire_frame::{Class, Frame};
use ringwire_proto::DropReason;
use ringwire_proto::icmp::{ErrorKind, Unreachable};
use ringwire_table::FlowKey;
use ringwire_wire::ipv4::Protocol;

use super::ingress::Ingress;
use super::io::{Io, Ready, Socket};
use super::link::{Hop, UdpHead};
use super::net::Resolution;
use crate::buffer::{Batch, Datagram, RxBuf, TxBuf, TxParts};
use crate::config::UdpOptions;
use crate::error::{BindError, ConnError};
use crate::event::{Event, Events, Udp};
use crate::slab::{Key, Slab};

#[derive(Debug)]
struct UdpSocket {
    local: SocketAddrV4,
    peer: Option<SocketAddrV4>,
    queue: VecDeque<Datagram<RxBuf>>,
    queue_limit: usize,
    ttl: u8,
    is_ready: bool,
    /// What became known about something sent; the next call says it (`SO_ERROR`).
    error: Option<ConnError>,
}

/// A datagram whose next hop is being resolved.
#[derive(Debug)]
pub(crate) struct Waiting {
    frame: Frame,
    /// Of a datagram that is longer than a frame.
    rest: Vec<Frame>,
    head: UdpHead,
    src: Ipv4Addr,
    dst: Ipv4Addr,
}

/// All UDP state of one worker.
#[derive(Debug)]
pub(crate) struct Datagrams {
    worker: u8,
    sockets: Slab<UdpSocket>,
}

impl Datagrams {
    pub(crate) fn new(worker: u8) -> Datagrams {
        Datagrams { worker, sockets: Slab::new(1 << 16) }
    }

    /// Opens a socket on `addr`; the port is ours before this returns.
    pub(crate) fn bind(
        &mut self,
        io: &mut Io,
        addr: SocketAddr,
        options: &UdpOptions,
    ) -> Result<Udp, BindError> {
        let local = io.net.bindable(addr)?;
        let peer = match options.peer {
            Some(SocketAddr::V4(peer)) => Some(peer),
            Some(other) => return Err(BindError::AddressNotAvailable(other)),
            None => None,
        };
        // Packets are looked up by their real destination, so a connected socket needs a real address too.
        let local = match peer {
            Some(peer) if local.ip().is_unspecified() => {
                let source =
                    io.net.source_for(*peer.ip()).ok_or(BindError::AddressNotAvailable(peer.into()))?;
                SocketAddrV4::new(source, local.port())
            }
            _ => local,
        };
        let is_free =
            |port| io.table.reader().lookup(&bound_key(SocketAddrV4::new(*local.ip(), port), peer)).is_none();
        if local.port() != 0 && !is_free(local.port()) {
            return Err(BindError::AddressInUse(format!(
                "{local}/udp is held by another socket of this worker"
            )));
        }
        let port = io.net.reserve_port(Protocol::UDP, local, is_free)?;
        let local = SocketAddrV4::new(*local.ip(), port);
        let key = bound_key(local, peer);
        let socket = UdpSocket {
            local,
            peer,
            queue: VecDeque::new(),
            queue_limit: options.recv_queue_datagrams,
            // RFC 1122 3.2.1.7: nothing is sent with TTL 0.
            ttl: options.ttl.max(1),
            is_ready: false,
            error: None,
        };
        let Some(id) = self.sockets.insert(socket) else {
            io.net.release_port(Protocol::UDP, local);
            return Err(BindError::TableFull);
        };
        if io.table.insert(&key, Socket::Udp(id.slot).pack()).is_err() {
            self.sockets.remove(id.slot);
            io.net.release_port(Protocol::UDP, local);
            return Err(BindError::TableFull);
        }
        Ok(Udp(id.pack(self.worker)))
    }

    pub(crate) fn close(&mut self, io: &mut Io, socket: Udp) {
        let Some(key) = Key::unpack(socket.0, self.worker) else { return };
        if self.sockets.get(key).is_none() {
            return;
        }
        let Some(closed) = self.sockets.remove(key.slot) else { return };
        io.table.remove(&bound_key(closed.local, closed.peer));
        io.net.release_port(Protocol::UDP, closed.local);
    }

    pub(crate) fn close_all(&mut self, io: &mut Io) {
        let keys: Vec<Key> = self.sockets.iter().filter_map(|(slot, _)| self.sockets.key_at(slot)).collect();
        for key in keys {
            self.close(io, Udp(key.pack(self.worker)));
        }
    }

    pub(crate) fn local_addr(&self, socket: Udp) -> Option<SocketAddr> {
        Some(self.sockets.get(Key::unpack(socket.0, self.worker)?)?.local.into())
    }

    /// One datagram whose exact 4-tuple the table gave as `found`.
    #[inline]
    pub(crate) fn on_datagram(
        &mut self,
        io: &mut Io,
        found: Option<u32>,
        ingress: &Ingress,
        packet: RxBuf,
    ) -> Matched {
        let Some(Socket::Udp(slot)) = found.or_else(|| listener_of(io, ingress)).map(Socket::unpack) else {
            return Matched::Nobody(packet);
        };
        let Some(socket) = self.sockets.at_mut(slot) else { return Matched::Nobody(packet) };
        if socket.queue.len() >= socket.queue_limit {
            io.counters.drop_packet(DropReason::UdpQueueFull);
            return Matched::Somebody;
        }
        let Some(payload) = io.hold_datagram(ingress.strip(packet)) else {
            io.counters.drop_packet(DropReason::NoMemory);
            return Matched::Somebody;
        };
        socket.queue.push_back(Datagram {
            peer: SocketAddr::from((ingress.src, ingress.src_port)),
            local: Some(IpAddr::V4(ingress.dst)),
            tos: ingress.tos,
            ttl: ingress.ttl,
            payload,
        });
        io.counters.now.delivered += 1;
        if !socket.is_ready {
            socket.is_ready = true;
            io.ready.push_back(Ready::Udp(slot));
        }
        Matched::Somebody
    }

    /// An ICMP error about a datagram of this socket. Without a peer of its own it could not say which datagram that was.
    #[cold]
    pub(crate) fn on_icmp_error(&mut self, io: &mut Io, slot: u32, kind: ErrorKind) {
        let Some(socket) = self.sockets.at_mut(slot) else { return };
        if socket.peer.is_none() {
            io.counters.now.datagram_errors += 1;
            return;
        }
        socket.error = Some(match kind {
            ErrorKind::Unreachable(Unreachable::Port) => ConnError::Refused,
            ErrorKind::Unreachable(why) => ConnError::Unreachable(why),
            ErrorKind::FragmentationNeeded { .. } => ConnError::TooLong,
        });
        if !socket.is_ready {
            socket.is_ready = true;
            io.ready.push_back(Ready::Udp(slot));
        }
    }

    pub(crate) fn take_events(&mut self, slot: u32, events: &mut Events) {
        let Some(key) = self.sockets.key_at(slot) else { return };
        let Some(socket) = self.sockets.at_mut(slot) else { return };
        socket.is_ready = false;
        if !socket.queue.is_empty() || socket.error.is_some() {
            events.push(Event::Datagrams(Udp(key.pack(self.worker))));
        }
    }

    fn socket_mut(&mut self, socket: Udp) -> Result<&mut UdpSocket, ConnError> {
        let key = Key::unpack(socket.0, self.worker).ok_or(ConnError::Closed)?;
        self.sockets.get_mut(key).ok_or(ConnError::Closed)
    }

    pub(crate) fn recv_batch(
        &mut self,
        socket: Udp,
        out: &mut Batch<Datagram<RxBuf>>,
    ) -> Result<usize, ConnError> {
        let socket = self.socket_mut(socket)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let mut count = 0;
        while !out.is_full()
            && let Some(mut datagram) = socket.queue.pop_front()
        {
            // Nothing reopens when a datagram is dropped: tag 0 names nobody.
            datagram.payload = datagram.payload.lend(0).buf;
            if out.push(datagram).is_err() {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    /// Takes from the front until the ring is full; a datagram that can never be sent stays in front and is the error.
    pub(crate) fn send_batch(
        &mut self,
        io: &mut Io,
        socket: Udp,
        batch: &mut Batch<Datagram<TxBuf>>,
    ) -> Result<usize, ConnError> {
        let socket = self.socket_mut(socket)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let mut room = io.link.tx_room(0);
        let mut count = 0;
        while room > 0
            && let Some(datagram) = batch.pop()
        {
            let sent = match socket.send(io, datagram, room) {
                Sent::Frames(frames) => frames,
                Sent::Later(datagram) => {
                    batch.unpop(datagram);
                    break;
                }
                Sent::Never(datagram, error) => {
                    batch.unpop(datagram);
                    return if count > 0 { Ok(count) } else { Err(error) };
                }
            };
            count += 1;
            room -= sent;
        }
        Ok(count)
    }
}

/// Whether a datagram found its socket; a stranger's frame may become an ICMP error.
pub(crate) enum Matched {
    Somebody,
    Nobody(RxBuf),
}

enum Sent {
    /// In so many.
    Frames(usize),
    /// No frames for a copy, or no room for all of them, now.
    Later(Datagram<TxBuf>),
    Never(Datagram<TxBuf>, ConnError),
}

impl UdpSocket {
    #[inline]
    fn send(&self, io: &mut Io, datagram: Datagram<TxBuf>, room: usize) -> Sent {
        let SocketAddr::V4(peer) = datagram.peer else { return Sent::Never(datagram, ConnError::NoRoute) };
        if datagram.payload.len() > io.link.longest_datagram_bytes() {
            return Sent::Never(datagram, ConnError::TooLong);
        }
        let bound = Some(*self.local.ip()).filter(|local| !local.is_unspecified());
        let wished = match datagram.local {
            Some(IpAddr::V4(local)) if io.net.is_ours(local) => Some(local),
            _ => None,
        };
        let Some(src) = bound.or(wished).or_else(|| io.net.source_for(*peer.ip())) else {
            return Sent::Never(datagram, ConnError::NoRoute);
        };
        let Datagram { peer: to, local, tos, ttl, payload } = datagram;
        let (frame, rest) = match payload.into_parts() {
            TxParts::Frame(frame) => (frame, Vec::new()),
            TxParts::Heap(bytes) => match copy_in(io, &bytes, room) {
                Some(frames) => frames,
                None => {
                    let payload = TxParts::Heap(bytes).into();
                    return Sent::Later(Datagram { peer: to, local, tos, ttl, payload });
                }
            },
        };
        let frames = 1 + rest.len();
        let ttl = if ttl == 0 { self.ttl } else { ttl };
        let head = UdpHead { src_port: self.local.port(), dst_port: peer.port(), ttl, tos };
        transmit(io, Waiting { frame, rest, head, src, dst: *peer.ip() });
        Sent::Frames(frames)
    }
}

/// A heap copy needs frames to leave in, at most `room`; all but the last hold an even number of bytes, so that their checksums add up.
#[cold]
fn copy_in(io: &mut Io, bytes: &[u8], room: usize) -> Option<(Frame, Vec<Frame>)> {
    let frame_bytes = io.link.datagram_bytes() & !1;
    let is_one = bytes.len() <= io.link.datagram_bytes();
    let (first, others) = if is_one { (bytes, &[][..]) } else { bytes.split_at(frame_bytes) };
    if 1 + others.len().div_ceil(frame_bytes) > room {
        return None;
    }
    let mut copy = |bytes: &[u8]| {
        let mut frame = io.link.alloc(Class::Send)?;
        frame.append(bytes.len()).copy_from_slice(bytes);
        Some(frame)
    };
    let first = copy(first)?;
    let others = others.chunks(frame_bytes).map(copy).collect::<Option<Vec<Frame>>>()?;
    io.counters.now.copied_bytes += bytes.len() as u64;
    Some((first, others))
}

/// Sends a datagram whose next hop is known, or leaves it with the neighbour machine until it is.
#[inline]
pub(crate) fn transmit(io: &mut Io, waiting: Waiting) {
    match io.net.resolve(io.now, waiting.dst) {
        Resolution::Known(mac) => {
            let port = io.net.port_to(mac, 0);
            let hop = Hop { port, src_mac: io.net.mac(), dst_mac: mac, src: waiting.src, dst: waiting.dst };
            let Waiting { mut frame, rest, .. } = waiting;
            io.link.emit_udp(&mut frame, &rest, &hop, &waiting.head);
            if rest.is_empty() {
                io.link.submit_or_drop(port, frame, &mut io.counters);
            } else {
                io.link.submit_chain_or_drop(port, (frame, rest), &mut io.counters);
            }
        }
        Resolution::Pending => {
            if let Err(reason) = io.net.hold_until_resolved(waiting) {
                io.counters.drop_packet(reason);
            }
        }
        Resolution::Unreachable => io.counters.drop_packet(DropReason::NeighUnreachable),
    }
}

impl Waiting {
    pub(crate) fn dst(&self) -> Ipv4Addr {
        self.dst
    }
}

fn bound_key(local: SocketAddrV4, peer: Option<SocketAddrV4>) -> FlowKey {
    match peer {
        Some(peer) => FlowKey::v4(Protocol::UDP.0, (*local.ip(), local.port()), (*peer.ip(), peer.port())),
        None => FlowKey::v4_listener(Protocol::UDP.0, *local.ip(), local.port()),
    }
}

/// The unconnected socket for this datagram: bound to the address, else to any.
#[inline]
fn listener_of(io: &Io, ingress: &Ingress) -> Option<u32> {
    io.table.reader().lookup_listener(&ingress.key())
}
