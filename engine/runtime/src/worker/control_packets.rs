//! ARP, ICMP and chains: what is rare, kept off the batch path.

use ringwire_proto::icmp::{self, Complaint, Offender};
use ringwire_proto::ip::Scope;
use ringwire_proto::neigh::{Released, Verdict};
use ringwire_proto::{DropReason, SeqNum};
use ringwire_wire::checksum::Sum;
use ringwire_wire::eth::{self, Mac};
use ringwire_wire::icmp::Kind;
use ringwire_wire::packet::{self, Transport};
use ringwire_wire::{arp, ipv4};

use super::datagrams;
use super::handover::Offered;
use super::ingress::NO_QUEUE;
use super::io::{Io, Socket};
use super::link::Hop;
use super::net::send_arp;
use super::stream::Streams;
use super::*;

/// A received packet as one run of bytes: its frame, or a copy of its chain.
#[inline]
pub(super) fn in_one_piece(packet: Packet, counters: &mut Counters) -> RxBuf {
    if packet.rest.capacity() == 0 {
        // It owns nothing, and to drop it would be a call for every packet.
        core::mem::forget(packet.rest);
        return RxBuf::from_frame(packet.head);
    }
    join(&packet, counters)
}

#[cold]
fn join(packet: &Packet, counters: &mut Counters) -> RxBuf {
    let mut bytes = Vec::with_capacity(packet.len());
    for frame in core::iter::once(&packet.head).chain(&packet.rest) {
        bytes.extend_from_slice(frame.bytes());
    }
    counters.now.copied_bytes += bytes.len() as u64;
    RxBuf::from_vec(bytes)
}

/// Returns why the packet tells us nothing, if so.
#[cold]
pub(super) fn on_arp(io: &mut Io, packet: &arp::Packet, streams: &mut Streams) -> Option<DropReason> {
    match io.net.on_arp(io.now, packet) {
        Verdict::Reply(reply) => {
            let mac = io.net.mac();
            send_arp(&mut io.link, &mut io.counters, mac, reply.target_mac, &reply);
        }
        Verdict::Learned => {}
        Verdict::Drop(reason) => return Some(reason),
    }
    io.counters.now.control_packets += 1;
    on_neighbour_news(io, streams);
    None
}

/// A packet that another worker received, answered and counted.
#[cold]
pub(super) fn on_passed_arp(io: &mut Io, packet: &arp::Packet, streams: &mut Streams) {
    match io.net.on_arp(io.now, packet) {
        Verdict::Reply(_) | Verdict::Learned => on_neighbour_news(io, streams),
        Verdict::Drop(_) => {}
    }
}

/// Whoever asks for us has told us where it is, as has whoever answers.
fn on_neighbour_news(io: &mut Io, streams: &mut Streams) {
    io.net.on_neighbour_change();
    send_resolved(io);
    streams.unpark(io);
}

/// Datagrams whose neighbour has become known leave in their order; those whose neighbour failed are counted.
pub(super) fn send_resolved(io: &mut Io) {
    while let Some(released) = io.net.poll_released() {
        match released {
            Released::Resolved { packet, .. } => datagrams::transmit(io, packet),
            Released::Failed { .. } => io.counters.drop_packet(DropReason::NeighUnreachable),
        }
    }
}

/// What a packet may be about.
pub(super) struct Sockets<'a> {
    pub(super) streams: &'a mut Streams,
    pub(super) datagrams: &'a mut Datagrams,
}

/// Echo requests, and errors about what we sent.
#[cold]
pub(super) fn on_icmp(io: &mut Io, sockets: &mut Sockets<'_>, (scope, queue): (Scope, u16), packet: RxBuf) {
    // Parsed a second time: echo and errors are rare, and the batch path stays small.
    let Ok(packet::Packet { eth, net: packet::Net::Ipv4(ip, Transport::Icmp(message)) }) =
        packet::parse(&packet)
    else {
        return io.counters.drop_packet(DropReason::BadField);
    };
    let handled = match message.kind() {
        Kind::EchoRequest(echo) if io.net.is_dedicated() => {
            icmp::echo_reply(scope, io.link.mtu_bytes(), &echo).map(|reply| {
                let hop = reply_hop(io, eth.src(), &ip);
                send_icmp(io, &hop, reply.header, reply.data);
            })
        }
        Kind::Error(error) => {
            match icmp::on_error(scope, &ip, &error).and_then(|error| on_icmp_error(io, sockets, &error)) {
                Ok(None) => Ok(()),
                // What another worker has passed on stays here, or it would go to and fro.
                Ok(Some(key)) if queue != NO_QUEUE => return pass_error_on(io, &key, packet),
                Ok(Some(_)) => Err(DropReason::IcmpUnknownFlow),
                Err(reason) => Err(reason),
            }
        }
        _ => Err(DropReason::IcmpUnknownType),
    };
    match handled {
        Ok(()) => io.counters.now.control_packets += 1,
        Err(reason) => io.counters.drop_packet(reason),
    }
}

/// An error about a packet of ours: told to its connection, which checks that it was in flight (RFC 5927 4), or to its socket. Returns
/// the flow of an error that nobody here knows.
fn on_icmp_error(
    io: &mut Io,
    sockets: &mut Sockets<'_>,
    error: &icmp::ErrorIn,
) -> Result<Option<FlowKey>, DropReason> {
    let flow = &error.flow;
    let (std::net::IpAddr::V4(local), std::net::IpAddr::V4(remote)) = (flow.local, flow.remote) else {
        return Err(DropReason::IcmpUnknownFlow);
    };
    let key = FlowKey::v4(error.protocol.0, (local, flow.local_port), (remote, flow.remote_port));
    let reader = io.table.reader();
    match reader.lookup(&key).or_else(|| reader.lookup_listener(&key)).map(Socket::unpack) {
        Some(Socket::Flow(slot)) => {
            let (error, seq) = (error.kind, SeqNum(error.seq));
            sockets.streams.on_icmp_error(io, slot, error, seq).map(|()| None)
        }
        Some(Socket::Udp(slot)) => {
            sockets.datagrams.on_icmp_error(io, slot, error.kind);
            Ok(None)
        }
        // Everything of it was acknowledged: nothing that an error could be about is in flight.
        Some(Socket::TimeWait(_)) => Err(DropReason::IcmpUnknownFlow),
        Some(Socket::Listener(_)) | None => Ok(Some(key)),
    }
}

/// Perhaps another worker has sent what the error is about.
fn pass_error_on(io: &mut Io, key: &FlowKey, packet: RxBuf) {
    match io.handover.offer(key, packet) {
        Offered::Taken => io.counters.now.handed_over += 1,
        Offered::Full => io.counters.drop_packet(DropReason::HandOffFull),
        Offered::Refused(_) => io.counters.drop_packet(DropReason::IcmpUnknownFlow),
    }
}

/// No socket here takes the datagram: another worker's does, or nobody's.
#[cold]
pub(super) fn on_unmatched_datagram(io: &mut Io, key: &FlowKey, packet: RxBuf) {
    match io.handover.offer(key, packet) {
        Offered::Taken => io.counters.now.handed_over += 1,
        Offered::Full => io.counters.drop_packet(DropReason::HandOffFull),
        Offered::Refused(packet) => {
            io.counters.drop_packet(DropReason::UdpNoSocket);
            complain(io, DropReason::UdpNoSocket, &packet);
        }
    }
}

/// Tells the sender why its packet was dropped, if the rules and the rate allow it (RFC 1122 3.2.2.1, 3.2.2.5, 4.1.3.1).
#[cold]
pub(super) fn complain(io: &mut Io, reason: DropReason, bytes: &[u8]) {
    if !io.net.is_dedicated() {
        return;
    }
    let Ok(eth) = eth::Frame::parse(bytes) else { return };
    let Ok(ip) = ipv4::Packet::parse(eth.payload()) else { return };
    let what = match (reason, ip.bad_option_at()) {
        (DropReason::UdpNoSocket, _) => Complaint::Port,
        (DropReason::IpUnknownProtocol, _) => Complaint::Protocol,
        (DropReason::IpBadOptions, Some(at)) => Complaint::Option { at },
        _ => return,
    };
    let Ok(scope) = io.net.addresses().scope(eth.dst(), ip.dst()) else { return };
    let offender = Offender { scope, packet: ip, bytes: eth.payload() };
    if let Some(error) = io.net.errors.complain(io.now, what, &offender) {
        let hop = reply_hop(io, eth.src(), &ip);
        send_icmp(io, &hop, error.header, error.quoted);
    }
}

fn reply_hop(io: &Io, peer: Mac, ip: &ipv4::Packet<'_>) -> Hop {
    Hop { port: io.net.port_to(peer, 0), src_mac: io.net.mac(), dst_mac: peer, src: ip.dst(), dst: ip.src() }
}

fn send_icmp(io: &mut Io, hop: &Hop, header: ringwire_wire::icmp::Header, data: &[u8]) {
    let Some(mut frame) = io.link.alloc(Class::Control) else {
        io.counters.now.frames_wanted += 1;
        return;
    };
    let len = data.len().min(frame.tailroom());
    let Some(data) = data.get(..len) else { return };
    let sum = Sum::copy(frame.append(len), data);
    io.link.emit_icmp(&mut frame, hop, header, sum);
    io.link.submit_or_drop(hop.port, frame, &mut io.counters);
}
