//! The other end of the stack's wire: IP packets in and out, and a neighbour that has every address.

mod cut;

use std::net::Ipv4Addr;

use ringwire::frame::{FarEnd, MemPort, Pool};
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::{arp, packet};

const FRAMES: u32 = 4096;
const RING_PACKETS: u32 = 2048;
const NEIGHBOUR: Mac = Mac([0x02, 0, 0, 0, 0, 0x99]);

/// Belongs to the thread that attached the stack.
pub(crate) struct Wire {
    far: FarEnd,
    /// The stack's link address, as its frames show it.
    stack: Mac,
    mtu: u16,
}

impl Wire {
    pub(crate) fn new(mtu: u16) -> Wire {
        Wire { far: FarEnd::new(RING_PACKETS, FRAMES), stack: Mac::BROADCAST, mtu }
    }

    /// Plugs in the stack, whose end is returned.
    pub(crate) fn attach(&mut self, stack: &Pool) -> MemPort {
        self.far.attach(stack)
    }

    /// Asks who has `address`, so that both sides know each other.
    pub(crate) fn greet(&mut self, address: Ipv4Addr, from: Ipv4Addr) {
        self.send_arp(arp::Op::Request, (from, Mac([0; 6]), address));
    }

    /// Hands an IP packet to the stack; false when it has no room, or it is no packet. TCP beyond the MTU arrives in segments, as it
    /// would on any wire.
    pub(crate) fn inject(&mut self, ip_packet: &[u8]) -> bool {
        if ip_packet.len() > usize::from(self.mtu) {
            let segments = cut::segments(ip_packet, usize::from(self.mtu));
            return !segments.is_empty()
                && segments.iter().all(|segment| self.send(EtherType::IPV4, segment));
        }
        let ethertype = match ip_packet.first().map(|byte| byte >> 4) {
            Some(4) => EtherType::IPV4,
            Some(6) => EtherType::IPV6,
            _ => return false,
        };
        self.send(ethertype, ip_packet)
    }

    fn send(&mut self, ethertype: EtherType, payload: &[u8]) -> bool {
        let mut header = [0; eth::HEADER_LEN];
        eth::Header { dst: self.stack, src: NEIGHBOUR, ethertype }.emit(&mut header);
        self.far.put(&[&header[..], payload].concat()).is_ok()
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
        let mut frames = Vec::new();
        self.far.take(|frame| frames.push(frame.to_vec()));
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
