//! NewReno's window (RFC 5681, RFC 6582) with appropriate byte counting (RFC 3465).

use super::{Acked, CongestionControl, MAX_CWND, Window};

/// RFC 5681 with appropriate byte counting.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewReno {
    /// Bytes acknowledged since the window last grew in congestion avoidance.
    acked_bytes: u32,
}

impl CongestionControl for NewReno {
    fn on_ack(&mut self, window: &mut Window, acked: &Acked) {
        if window.in_slow_start() {
            window.grow_slow_start(acked, 1);
            return;
        }
        if !acked.is_limited {
            return;
        }
        // RFC 5681 3.1 with RFC 3465 2.1: one segment per window's worth of acknowledged bytes.
        self.acked_bytes = self.acked_bytes.saturating_add(acked.bytes);
        if self.acked_bytes >= window.cwnd {
            self.acked_bytes -= window.cwnd;
            window.cwnd = window.cwnd.saturating_add(u32::from(acked.mss)).min(MAX_CWND);
        }
    }

    fn on_loss(&mut self, window: &mut Window, flight_bytes: u32, mss: u16) {
        // RFC 5681 (4)
        window.ssthresh = (flight_bytes / 2).max(2 * u32::from(mss));
        window.cwnd = window.ssthresh;
        self.acked_bytes = 0;
    }

    fn on_timeout(&mut self, window: &mut Window, flight_bytes: u32, mss: u16) {
        // RFC 5681 3.1: the loss window is one segment.
        window.ssthresh = (flight_bytes / 2).max(2 * u32::from(mss));
        window.cwnd = u32::from(mss);
        self.acked_bytes = 0;
    }
}
