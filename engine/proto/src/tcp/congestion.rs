//! Congestion control: a small trait, and NewReno behind it (RFC 5681, RFC 3465, RFC 6928).
//!
//! Loss detection belongs to `recovery`; an algorithm only moves the two numbers of [`Window`].

/// The two numbers every algorithm works on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Window {
    /// Congestion window.
    pub cwnd: u32,
    /// Slow-start threshold.
    pub ssthresh: u32,
}

impl Window {
    /// The window of a new connection (RFC 6928 2): `segs` segments, but not more than the larger of 14600 bytes and two of them.
    pub fn initial(mss: u16, segs: u8) -> Self {
        let mss = u32::from(mss);
        let cwnd = (u32::from(segs) * mss).min((2 * mss).max(14_600)).max(mss);
        Self { cwnd, ssthresh: u32::MAX }
    }

    /// Whether the window still grows exponentially.
    pub fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }
}

/// An acknowledgement of new data.
#[derive(Debug, Clone, Copy)]
pub struct Acked {
    /// Bytes it acknowledged.
    pub bytes: u32,
    /// Bytes that were in flight before it.
    pub flight_bytes: u32,
    /// Sender maximum segment size.
    pub mss: u16,
    /// The latest round-trip measurement in microseconds, if there was one.
    pub rtt_us: Option<u32>,
    /// Whether a retransmission timeout is being repaired.
    pub after_timeout: bool,
}

/// A congestion control algorithm with its own state.
pub trait CongestionControl: Default {
    /// New data was acknowledged outside of fast recovery.
    fn on_ack(&mut self, window: &mut Window, acked: &Acked);
    /// Loss was inferred from duplicate acknowledgements while `flight_bytes` were out.
    fn on_loss(&mut self, window: &mut Window, flight_bytes: u32, mss: u16);
    /// The retransmission timer fired for the first time for this data.
    fn on_timeout(&mut self, window: &mut Window, flight_bytes: u32, mss: u16);
}

/// RFC 5681 with appropriate byte counting.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewReno {
    /// Bytes acknowledged since the window last grew in congestion avoidance.
    acked_bytes: u32,
}

/// Most segments one acknowledgement may add in slow start. RFC 9406 4.3: 8 without pacing; a receiver that handles batches sends
/// one acknowledgement for many segments, and the limit of 2 in RFC 3465 would take the exponent out of slow start.
const SLOW_START_SEGS: u32 = 8;

/// Far above any send buffer, so that no arithmetic on it overflows.
const MAX_CWND: u32 = 1 << 30;

impl CongestionControl for NewReno {
    fn on_ack(&mut self, window: &mut Window, acked: &Acked) {
        let mss = u32::from(acked.mss);
        if window.in_slow_start() {
            // RFC 7661: growth needs evidence; a window that was not half used is not probed any further.
            if acked.flight_bytes.saturating_mul(2) < window.cwnd {
                return;
            }
            // RFC 3465 2.3: after a timeout one segment per acknowledgement.
            let limit = if acked.after_timeout { mss } else { SLOW_START_SEGS * mss };
            window.cwnd = window.cwnd.saturating_add(acked.bytes.min(limit)).min(MAX_CWND);
            return;
        }
        if acked.flight_bytes.saturating_add(mss) < window.cwnd {
            return;
        }
        // RFC 5681 3.1 with RFC 3465 2.1: one segment per window's worth of acknowledged bytes.
        self.acked_bytes = self.acked_bytes.saturating_add(acked.bytes);
        if self.acked_bytes >= window.cwnd {
            self.acked_bytes -= window.cwnd;
            window.cwnd = window.cwnd.saturating_add(mss).min(MAX_CWND);
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
