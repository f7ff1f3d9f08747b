//! Congestion control: a small trait, and the algorithms behind it.
//!
//! Loss detection belongs to `recovery`; an algorithm only moves the two numbers of [`Window`]. All of them live side by side in a
//! connection's cold part, so that a socket may change its algorithm at any time.

mod cubic;
mod hystart;
mod newreno;

pub use cubic::Cubic;
pub use newreno::NewReno;

use crate::{Instant, SeqNum};

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
    /// Whether the window kept data back while what it acknowledges was in flight: growth needs that evidence (RFC 7661).
    pub is_limited: bool,
    /// Sender maximum segment size.
    pub mss: u16,
    /// The latest round-trip measurement in microseconds, if there was one.
    pub rtt_us: Option<u32>,
    /// Smoothed round-trip time in microseconds; 0 before the first measurement.
    pub srtt_us: u32,
    /// When it arrived.
    pub now: Instant,
    /// SND.UNA after it.
    pub una: SeqNum,
    /// SND.NXT.
    pub nxt: SeqNum,
    /// Whether a retransmission timeout is being repaired.
    pub after_timeout: bool,
}

/// A congestion control algorithm with its own state.
pub trait CongestionControl: Default {
    /// New data was acknowledged outside of fast recovery.
    fn on_ack(&mut self, window: &mut Window, acked: &Acked);
    /// Loss was inferred from acknowledgements while `flight_bytes` were out, or the network said that it is congested.
    fn on_loss(&mut self, window: &mut Window, flight_bytes: u32, mss: u16);
    /// The retransmission timer fired for the first time for this data.
    fn on_timeout(&mut self, window: &mut Window, flight_bytes: u32, mss: u16);
}

/// Which algorithm a connection uses (TCP_CONGESTION).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// NewReno (RFC 5681, RFC 6582).
    NewReno,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Cubic, Self::NewReno];

    /// The name that sockets and configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::NewReno => "newreno",
        }
    }
}

/// The state of every algorithm; one of them is in use.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Congestion {
    cubic: Cubic,
    newreno: NewReno,
}

impl Congestion {
    pub(super) fn on_ack(&mut self, algorithm: Algorithm, window: &mut Window, acked: &Acked) {
        match algorithm {
            Algorithm::Cubic => self.cubic.on_ack(window, acked),
            Algorithm::NewReno => self.newreno.on_ack(window, acked),
        }
    }

    pub(super) fn on_loss(&mut self, algorithm: Algorithm, window: &mut Window, flight_bytes: u32, mss: u16) {
        match algorithm {
            Algorithm::Cubic => self.cubic.on_loss(window, flight_bytes, mss),
            Algorithm::NewReno => self.newreno.on_loss(window, flight_bytes, mss),
        }
    }

    pub(super) fn on_timeout(
        &mut self,
        algorithm: Algorithm,
        window: &mut Window,
        flight_bytes: u32,
        mss: u16,
    ) {
        match algorithm {
            Algorithm::Cubic => self.cubic.on_timeout(window, flight_bytes, mss),
            Algorithm::NewReno => self.newreno.on_timeout(window, flight_bytes, mss),
        }
    }
}

/// Most segments one acknowledgement may add in slow start. RFC 9406 4.3: 8 without pacing; a receiver that handles batches sends
/// one acknowledgement for many segments, and the limit of 2 in RFC 3465 would take the exponent out of slow start.
const SLOW_START_SEGS: u32 = 8;

/// Far above any send buffer, so that no arithmetic on it overflows.
const MAX_CWND: u32 = 1 << 30;

impl Window {
    /// RFC 7661: growth needs evidence; a window that was not half used is not probed any further.
    #[inline]
    fn is_worth_growing(&self, acked: &Acked) -> bool {
        acked.is_limited || acked.flight_bytes.saturating_mul(2) >= self.cwnd
    }

    /// Slow start (RFC 5681 3.1, RFC 3465): by what was acknowledged, within the limit.
    fn grow_slow_start(&mut self, acked: &Acked, divisor: u32) {
        if !self.is_worth_growing(acked) {
            return;
        }
        let mss = u32::from(acked.mss);
        // RFC 3465 2.3: after a timeout one segment per acknowledgement.
        let limit = if acked.after_timeout { mss } else { SLOW_START_SEGS * mss };
        self.cwnd = self.cwnd.saturating_add(acked.bytes.min(limit) / divisor).min(MAX_CWND);
    }
}
