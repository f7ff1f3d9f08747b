//! What comes by way of the kernel: local clients, and packets in fragments, of shared addresses. The control thread reads it.

use super::*;

impl Core {
    /// The same way as what comes by a queue, but for the frames: these packets lie on the heap.
    pub(super) fn take_kernel_packets(&mut self) {
        let mut is_any = false;
        for _ in 0..RX_BATCH {
            let Some(bytes) = self.io.net.next_kernel_packet() else { break };
            is_any = true;
            let counters = &mut self.io.counters.now;
            counters.kernel_packets += 1;
            counters.rx_packets += 1;
            counters.rx_bytes += bytes.len() as u64;
            self.add_without_queue(RxBuf::from_vec(bytes));
        }
        if is_any {
            self.dispatch_rest();
        }
    }
}
