//! What comes by way of the kernel: local clients, and packets in fragments, of shared addresses. The control thread reads it.

use super::*;

impl Core {
    /// The same way as what comes by a queue, but for the frames: these packets lie on the heap.
    pub(super) fn take_kernel_packets(&mut self) {
        let before = self.io.counters.now.kernel_packets;
        for _ in 0..RX_BATCH {
            let Some(bytes) = self.io.net.next_kernel_packet() else { break };
            let counters = &mut self.io.counters;
            counters.now.kernel_packets += 1;
            counters.now.rx_packets += 1;
            counters.now.rx_bytes += bytes.len() as u64;
            let packet = RxBuf::from_vec(bytes);
            let mut ingress = Ingress::EMPTY;
            match classify(&packet, &self.io.net, &mut ingress) {
                Ok(Arrival::Flow) => {
                    self.batch.keys.push(ingress.key());
                    self.batch.flows.push(ingress);
                    self.batch.bytes.push(packet);
                }
                // The kernel answers it, and the filter lets none through.
                Ok(Arrival::Arp) => counters.drop_packet(DropReason::ArpNotForUs),
                Ok(Arrival::Icmp(scope)) => {
                    control_packets::on_icmp(&mut self.io, scope, &packet, &mut self.streams)
                }
                Err(reason) => counters.drop_packet(reason),
            }
        }
        if self.io.counters.now.kernel_packets != before {
            self.idle_since = None;
            self.dispatch_batch();
        }
    }
}
