//! What comes by way of this host. Of shared addresses: local clients, and packets in fragments, which the control thread reads. Of
//! dedicated ones: what this worker has sent to itself.

use super::*;

impl Core {
    /// The same way as what comes by a queue, but for the frames: these packets lie on the heap.
    pub(super) fn take_host_packets(&mut self) {
        let mut is_any = false;
        for _ in 0..RX_BATCH {
            let counters = &mut self.io.counters.now;
            let (bytes, queue) = match self.io.net.next_kernel_packet() {
                Some(bytes) => {
                    counters.kernel_packets += 1;
                    (bytes, ingress::NO_QUEUE)
                }
                None => match self.io.link.next_looped() {
                    Some(bytes) => {
                        counters.looped_packets += 1;
                        (bytes, ingress::OWN_QUEUE)
                    }
                    None => break,
                },
            };
            is_any = true;
            counters.rx_packets += 1;
            counters.rx_bytes += bytes.len() as u64;
            self.add_without_queue(RxBuf::from_vec(bytes), queue);
        }
        if is_any {
            self.dispatch_rest();
        }
    }
}
