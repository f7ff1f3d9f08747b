//! The other end of the stack's wire: IP packets in and out, and a neighbour that has every address.

use std::net::Ipv4Addr;

use ringwire::frame::{Class, Floors, Geometry, MemPort, Packet, Pool, Port, Region};
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::{arp, packet};

const FRAMES: u32 = 4096;
const RING_PACKETS: u32 = 2048;
const NEIGHBOUR: Mac = Mac([0x02, 0, 0, 0, 0, 0x99]);

/// Belongs to the thread that made it.
pub(crate) struct Wire {
    pool: Pool,
    port: Option<MemPort>,
    received: Vec<Packet>,
    /// The stack's link address, as its frames show it.
    stack: Mac,
}

impl Wire {
    pub(crate) fn new() -> Wire {
        let geometry = Geometry { frame_bytes: 2048, frame_count: FRAMES };
        let mut pool =
            Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(FRAMES));
        pool.adopt();
        Wire { pool, port: None, received: Vec::new(), stack: Mac::BROADCAST }
    }

    /// Plugs in the stack, whose end is returned.
    pub(crate) fn attach(&mut self, stack: &Pool) -> MemPort {
        let (theirs, mut ours) = MemPort::pair(RING_PACKETS, stack, &self.pool);
        ours.refill(&mut self.pool);
        self.port = Some(ours);
        theirs
    }

    /// Asks who has `address`, so that both sides know each other.
    pub(crate) fn greet(&mut self, address: Ipv4Addr, from: Ipv4Addr) {
        self.send_arp(arp::Op::Request, (from, Mac([0; 6]), address));
    }

    /// Hands an IP packet to the stack; false when it has no room, or it is no packet.
    pub(crate) fn inject(&mut self, ip_packet: &[u8]) -> bool {
        let ethertype = match ip_packet.first().map(|byte| byte >> 4) {
            Some(4) => EtherType::IPV4,
            Some(6) => EtherType::IPV6,
            _ => return false,
        };
        self.send(ethertype, ip_packet)
    }

    fn send(&mut self, ethertype: EtherType, payload: &[u8]) -> bool {
        let Wire { pool, port: Some(port), .. } = self else { return false };
        port.reap(pool);
        let Some(mut frame) = pool.alloc(Class::Control) else { return false };
        if frame.tailroom() < eth::HEADER_LEN + payload.len() {
            return false;
        }
        let mut header = [0; eth::HEADER_LEN];
        eth::Header { dst: self.stack, src: NEIGHBOUR, ethertype }.emit(&mut header);
        frame.append(header.len()).copy_from_slice(&header);
        frame.append(payload.len()).copy_from_slice(payload);
        let is_sent = port.submit(pool, &frame.into_send()).is_ok();
        let _ = port.kick();
        is_sent
    }

    fn send_arp(&mut self, op: arp::Op, (sender, target_mac, target): (Ipv4Addr, Mac, Ipv4Addr)) {
        let packet =
            arp::Packet { op, sender_mac: NEIGHBOUR, sender_ip: sender, target_mac, target_ip: target };
        let mut bytes = [0; arp::PACKET_LEN];
        packet.emit(&mut bytes);
        self.send(EtherType::ARP, &bytes);
    }

    /// The IP packets that have left the stack since; whatever it asks about its neighbours is answered. True when anything has left.
    pub(crate) fn take(&mut self, out: &mut Vec<Vec<u8>>) -> bool {
        let Wire { pool, port: Some(port), received, .. } = self else { return false };
        port.reap(pool);
        port.receive(pool, received, RING_PACKETS as usize);
        let frames: Vec<Vec<u8>> = received.drain(..).map(|packet| packet.head.bytes().to_vec()).collect();
        port.refill(pool);
        let _ = port.kick();
        for frame in &frames {
            self.on_frame(frame, out);
        }
        !frames.is_empty()
    }

    fn on_frame(&mut self, frame: &[u8], out: &mut Vec<Vec<u8>>) {
        if let Some(&[a, b, c, d, e, f]) = frame.get(6..12) {
            self.stack = Mac([a, b, c, d, e, f]);
        }
        match packet::parse(frame).map(|packet| packet.net) {
            Ok(packet::Net::Arp(question)) => {
                if question.op == arp::Op::Request {
                    let to = (question.target_ip, question.sender_mac, question.sender_ip);
                    self.send_arp(arp::Op::Reply, to);
                }
            }
            _ => out.push(frame.get(eth::HEADER_LEN..).unwrap_or_default().to_vec()),
        }
    }
}
