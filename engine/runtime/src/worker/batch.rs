//! One receive batch: packets become descriptions, all of them go through the socket table at once, then each to its machine.
//!
//! ```text
//! packets -> add: what is not TCP or UDP, aside -> dispatch_batch: control packets; keys -> found -> streams | datagrams
//! ```

use super::*;

/// The arrays of one receive batch; they keep their capacity.
#[derive(Debug, Default)]
pub(super) struct RxBatch {
    pub(super) packets: Vec<Packet>,
    parsed: Parsed,
}

/// What the packets turned out to be.
#[derive(Debug, Default)]
struct Parsed {
    /// Neither TCP nor UDP.
    control: Vec<ControlPacket>,
    flows: Vec<Ingress>,
    /// What `flows` describes.
    bytes: Vec<RxBuf>,
    keys: Vec<FlowKey>,
    found: Vec<Option<u32>>,
}

#[derive(Debug)]
struct ControlPacket {
    about: Control,
    queue: u16,
    packet: RxBuf,
}

impl Parsed {
    /// Headers to a `Copy` description; what cannot be described ends here.
    #[inline]
    fn add(&mut self, io: &mut Io, packet: RxBuf, queue: u16) {
        let mut ingress = Ingress::from_queue(queue);
        match classify(&packet, &io.net, &mut ingress) {
            Ok(Arrival::Flow) => {
                self.keys.push(ingress.key());
                self.flows.push(ingress);
                self.bytes.push(packet);
            }
            Ok(Arrival::Control(about)) => self.control.push(ControlPacket { about, queue, packet }),
            Err(reason) => {
                io.counters.drop_packet(reason);
                if matches!(reason, DropReason::IpUnknownProtocol | DropReason::IpBadOptions) {
                    control_packets::complain(io, reason, &packet);
                }
            }
        }
    }
}

impl Core {
    /// Everything that came by one queue.
    pub(super) fn take_packets(&mut self, queue: usize) {
        // One worker has a few dozen queues at most.
        let queue = queue as u16;
        let Self { batch: RxBatch { packets, parsed }, io, .. } = self;
        for packet in packets.drain(..) {
            io.counters.now.rx_packets += 1;
            io.counters.now.rx_bytes += packet.len() as u64;
            let packet = control_packets::in_one_piece(packet, &mut io.counters);
            parsed.add(io, packet, queue);
        }
        self.dispatch_batch();
    }

    /// What other workers received for sockets of this one: parsed again, which is simpler than carrying what they had parsed.
    pub(super) fn take_handed_over(&mut self) {
        let mut is_any = false;
        while let Some(packet) = self.io.handover.next_taken() {
            self.io.counters.now.copied_bytes += packet.len() as u64;
            self.add_without_queue(packet, ingress::NO_QUEUE);
            is_any = true;
        }
        if is_any {
            self.dispatch_rest();
        }
    }

    /// One packet that came by no queue of a device; a whole batch of them is dispatched.
    pub(super) fn add_without_queue(&mut self, packet: RxBuf, queue: u16) {
        self.idle_since = None;
        self.batch.parsed.add(&mut self.io, packet, queue);
        if self.batch.parsed.keys.len() == RX_BATCH {
            self.dispatch_batch();
        }
    }

    /// After the last [`Core::add_without_queue`].
    #[cold]
    pub(super) fn dispatch_rest(&mut self) {
        if !self.batch.parsed.keys.is_empty() || !self.batch.parsed.control.is_empty() {
            self.dispatch_batch();
        }
    }

    /// The whole batch through the socket table, then each to its machine.
    fn dispatch_batch(&mut self) {
        if !self.batch.parsed.control.is_empty() {
            self.take_control_packets();
        }
        let Self { batch: RxBatch { parsed, .. }, io, streams, datagrams, .. } = self;
        let Parsed { flows, bytes, keys, found, .. } = parsed;
        found.clear();
        found.resize(keys.len(), None);
        io.table.reader().lookup_batch(keys, found);
        for ((ingress, packet), found) in flows.iter().zip(bytes.drain(..)).zip(&*found) {
            match ingress.transport {
                Transported::Tcp => streams.on_segment(io, *found, ingress, packet),
                Transported::Udp => {
                    if let Matched::Nobody(packet) = datagrams.on_datagram(io, *found, ingress, packet) {
                        control_packets::on_unmatched_datagram(io, &ingress.key(), packet);
                    }
                }
            }
        }
        keys.clear();
        flows.clear();
    }

    #[cold]
    fn take_control_packets(&mut self) {
        let mut control = std::mem::take(&mut self.batch.parsed.control);
        for ControlPacket { about, queue, packet } in control.drain(..) {
            match about {
                Control::Arp => self.on_arp(&packet),
                Control::Icmp(scope) => {
                    let (streams, datagrams) = (&mut self.streams, &mut self.datagrams);
                    let mut sockets = control_packets::Sockets { streams, datagrams };
                    control_packets::on_icmp(&mut self.io, &mut sockets, (scope, queue), packet);
                }
            }
        }
        self.batch.parsed.control = control;
    }

    fn on_arp(&mut self, bytes: &[u8]) {
        let packet = match packet::parse(bytes) {
            Ok(packet::Packet { net: packet::Net::Arp(packet), .. }) => packet,
            Ok(_) => return self.io.counters.drop_packet(DropReason::BadField),
            Err(malformed) => return self.io.counters.drop_packet(malformed.into()),
        };
        let is_passed_on = self.guard.shared.pass_on(self.id, &packet);
        match control_packets::on_arp(&mut self.io, &packet, &mut self.streams) {
            // Perhaps another worker has asked.
            Some(DropReason::ArpUnsolicited) if is_passed_on => self.io.counters.now.control_packets += 1,
            Some(reason) => self.io.counters.drop_packet(reason),
            None => {}
        }
    }
}
