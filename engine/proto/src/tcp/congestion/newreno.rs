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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Instant, SeqNum};

    const ACKED: Acked = Acked {
        bytes: 0,
        flight_bytes: 10_000,
        is_limited: true,
        mss: 1000,
        rtt_us: None,
        srtt_us: 0,
        now: Instant::ZERO,
        una: SeqNum(0),
        nxt: SeqNum(0),
        after_timeout: false,
        is_echoed: false,
    };

    /// RFC 5681 (4): half of what was in flight, and two segments at least.
    #[test]
    fn a_loss_halves_what_was_in_flight_and_a_timeout_leaves_one_segment() {
        for (flight_bytes, ssthresh) in [(20_000, 10_000), (5_000, 2_500), (1_000, 2_000)] {
            let mut window = Window { cwnd: 50_000, ssthresh: u32::MAX };
            NewReno::default().on_loss(&mut window, flight_bytes, 1000);
            assert_eq!((window.cwnd, window.ssthresh), (ssthresh, ssthresh));
            NewReno::default().on_timeout(&mut window, flight_bytes, 1000);
            assert_eq!((window.cwnd, window.ssthresh), (1000, ssthresh));
        }
    }
    /// RFC 3465 2.1: what is left over counts for the next segment.
    #[test]
    fn a_window_of_acknowledged_bytes_adds_one_segment() {
        let mut window = Window { cwnd: 10_000, ssthresh: 10_000 };
        let mut reno = NewReno::default();
        let grown = [(9_999, 10_000), (5_001, 11_000), (5_999, 11_000), (1, 12_000)];
        for (bytes, cwnd) in grown {
            reno.on_ack(&mut window, &Acked { bytes, ..ACKED });
            assert_eq!(window.cwnd, cwnd);
        }
    }
}
