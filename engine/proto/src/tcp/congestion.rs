//! Congestion control: a small trait, and the algorithms behind it.
//!
//! Loss detection belongs to `recovery`; an algorithm only moves the two numbers of [`Window`]. All of them live side by side in a
//! connection's cold part, so that a socket may change its algorithm at any time.

mod bbr;
mod cubic;
mod dctcp;
mod hystart;
mod newreno;
mod sample;

use alloc::boxed::Box;

pub use bbr::Bbr;
pub(super) use bbr::Steering;
pub use cubic::Cubic;
pub use dctcp::Dctcp;
pub use newreno::NewReno;
pub use sample::{LossEvidence, RateSample};

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

    /// RFC 5681 4.1: nothing was sent for longer than an RTO, so what the path takes is found anew, from an initial window of so many
    /// bytes. Where it was remains known: slow start goes back to three quarters of it (Linux's rule).
    pub(super) fn restart(&mut self, initial_bytes: u32) {
        self.ssthresh = self.ssthresh.max(self.cwnd - self.cwnd / 4);
        self.cwnd = self.cwnd.min(initial_bytes);
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
    /// Whether it told of a congestion mark (ECE), where marks were agreed on.
    pub is_echoed: bool,
}

/// A congestion control algorithm with its own state.
pub trait CongestionControl: Default {
    /// New data was acknowledged outside of fast recovery.
    fn on_ack(&mut self, window: &mut Window, acked: &Acked);
    /// Loss was inferred from acknowledgements while `flight_bytes` were out, or the network said that it is congested.
    fn on_loss(&mut self, window: &mut Window, flight_bytes: u32, mss: u16);
    /// The retransmission timer fired for the first time for this data.
    fn on_timeout(&mut self, window: &mut Window, flight_bytes: u32, mss: u16);
    /// Data leaves again after nothing was in flight for so long.
    fn on_idle(&mut self, _idle_ns: u64) {}
    /// What was presumed lost had only been late; the window has been given back.
    fn on_undo(&mut self, _window: &mut Window) {}
}

/// Which algorithm a connection uses (TCP_CONGESTION).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// NewReno (RFC 5681, RFC 6582).
    NewReno,
    /// BBR, version 3 (draft-ietf-ccwg-bbr): a model of the path's rate and round trip; paced. Made for SACK and timestamps.
    Bbr,
    /// DCTCP (RFC 8257): the window follows how much of it was marked. For networks whose queues mark early, with both ends alike; it
    /// asks for ECN unless that is off, and without it is NewReno.
    Dctcp,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cubic, Self::NewReno, Self::Bbr, Self::Dctcp];

    /// The name that sockets and configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::NewReno => "newreno",
            Self::Bbr => "bbr",
            Self::Dctcp => "dctcp",
        }
    }

    /// Whether it models the path: it works from samples of the delivery rate, and sets window and pacing rate itself, while losses
    /// are repaired too.
    #[inline]
    pub const fn is_model(self) -> bool {
        matches!(self, Self::Bbr)
    }

    /// Whether it needs to know how much was marked, not only that something was.
    #[inline]
    pub(super) const fn counts_marks(self) -> bool {
        matches!(self, Self::Dctcp)
    }
}

/// The state of every algorithm; one of them is in use.
#[derive(Debug, Default)]
pub(super) struct Congestion {
    cubic: Cubic,
    newreno: NewReno,
    /// Large, and kept while the connection is idle, so on the heap and only for who uses it.
    bbr: Option<Box<Bbr>>,
    /// Kept too: what was marked says how the path is used, whoever is idle meanwhile.
    dctcp: Option<Box<Dctcp>>,
}

impl Congestion {
    /// Whether it holds what a connection must not forget when it falls idle.
    pub(super) fn is_kept(&self) -> bool {
        self.bbr.is_some() || self.dctcp.is_some()
    }

    /// The model, while there is one.
    pub(super) fn bbr_mut(&mut self) -> Option<&mut Bbr> {
        self.bbr.as_deref_mut()
    }

    /// What is left of the memory when the cold part comes back.
    pub(super) fn recall(&mut self, w_max: u32) {
        self.cubic.recall(w_max);
    }

    /// Begins or ends to model the path.
    pub(super) fn set_bbr(&mut self, bbr: Option<Bbr>) {
        self.bbr = bbr.map(Box::new);
    }

    /// Data leaves again after nothing was in flight for so long; what another algorithm counted is of no use any more.
    pub(super) fn on_idle(&mut self, algorithm: Algorithm, idle_ns: u64) {
        if algorithm == Algorithm::Cubic {
            self.cubic.on_idle(idle_ns);
        }
        if !algorithm.counts_marks() {
            self.dctcp = None;
        }
    }

    /// An acknowledgement while losses are repaired: no algorithm grows, but what was marked counts.
    pub(super) fn on_recovery_ack(&mut self, acked: &Acked) {
        if let Some(dctcp) = &mut self.dctcp {
            dctcp.estimate(acked);
        }
    }

    pub(super) fn on_ack(&mut self, algorithm: Algorithm, window: &mut Window, acked: &Acked) {
        match algorithm {
            Algorithm::Cubic => self.cubic.on_ack(window, acked),
            Algorithm::NewReno => self.newreno.on_ack(window, acked),
            // It waits for the sample.
            Algorithm::Bbr => {}
            Algorithm::Dctcp => self.dctcp.get_or_insert_default().on_ack(window, acked),
        }
    }

    pub(super) fn on_loss(&mut self, algorithm: Algorithm, window: &mut Window, flight_bytes: u32, mss: u16) {
        match (algorithm, &mut self.bbr) {
            (Algorithm::Cubic, _) => self.cubic.on_loss(window, flight_bytes, mss),
            (Algorithm::NewReno, _) => self.newreno.on_loss(window, flight_bytes, mss),
            (Algorithm::Bbr, Some(bbr)) => bbr.on_loss(window, flight_bytes, mss),
            (Algorithm::Bbr, None) => {}
            (Algorithm::Dctcp, _) => self.dctcp.get_or_insert_default().on_loss(window, flight_bytes, mss),
        }
    }

    pub(super) fn on_timeout(
        &mut self,
        algorithm: Algorithm,
        window: &mut Window,
        flight_bytes: u32,
        mss: u16,
    ) {
        match (algorithm, &mut self.bbr) {
            (Algorithm::Cubic, _) => self.cubic.on_timeout(window, flight_bytes, mss),
            (Algorithm::NewReno, _) => self.newreno.on_timeout(window, flight_bytes, mss),
            (Algorithm::Bbr, Some(bbr)) => bbr.on_timeout(window, flight_bytes, mss),
            // Chosen after the data had left.
            (Algorithm::Bbr, None) => self.newreno.on_timeout(window, flight_bytes, mss),
            (Algorithm::Dctcp, _) => self.dctcp.get_or_insert_default().on_timeout(window, flight_bytes, mss),
        }
    }

    /// The peer said that packets were marked: once for each window of data.
    pub(super) fn on_mark(&mut self, algorithm: Algorithm, window: &mut Window, flight_bytes: u32, mss: u16) {
        match (algorithm, &mut self.bbr) {
            (Algorithm::Bbr, Some(bbr)) => bbr.on_mark(),
            (Algorithm::Dctcp, _) => self.dctcp.get_or_insert_default().on_mark(window, flight_bytes, mss),
            _ => self.on_loss(algorithm, window, flight_bytes, mss),
        }
    }

    /// What an episode changes of the algorithms' memory beside the window: CUBIC's (RFC 9438 4.9); a model keeps its own.
    pub(super) fn memory(&self) -> Cubic {
        self.cubic
    }

    /// What was presumed lost had only been late; `memory` is from before the episode.
    pub(super) fn on_undo(&mut self, window: &mut Window, memory: Cubic) {
        self.cubic = memory;
        if let Some(bbr) = &mut self.bbr {
            bbr.on_undo(window);
        }
    }
}

/// Far above any send buffer, so that no arithmetic on it overflows.
const MAX_CWND: u32 = 1 << 30;

impl Window {
    /// RFC 7661: growth needs evidence; a window that was not half used is not probed any further.
    #[inline]
    fn is_worth_growing(&self, acked: &Acked) -> bool {
        acked.is_limited || acked.flight_bytes.saturating_mul(2) >= self.cwnd
    }

    /// Slow start (RFC 5681 3.1, RFC 3465): by what was acknowledged, however much that is. A receiver that handles batches answers
    /// dozens of segments with one acknowledgement; a limit of 8 segments for it (RFC 9406 4.3 without pacing) took the exponent out
    /// of slow start: 0.76 of the kernel's goodput at 1 Gbit/s, 100 ms and 1 % loss, where none gives 0.95 (bench/README.md).
    fn grow_slow_start(&mut self, acked: &Acked, divisor: u32) {
        if !self.is_worth_growing(acked) {
            return;
        }
        // RFC 3465 2.3: after a timeout one segment per acknowledgement.
        let bytes = if acked.after_timeout { acked.bytes.min(u32::from(acked.mss)) } else { acked.bytes };
        // Beyond ssthresh it is not slow start; little is lost by leaving the rest out.
        self.cwnd = self.cwnd.saturating_add(bytes / divisor).min(self.ssthresh).min(MAX_CWND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux has them, but for NewReno, which is "reno" there.
    #[test]
    fn algorithms_have_their_names() {
        assert_eq!(Algorithm::ALL.map(Algorithm::name), ["cubic", "newreno", "bbr", "dctcp"]);
    }

    /// RFC 8257 3.3: each window counts in the estimate, whatever it is used for.
    #[test]
    fn what_is_marked_during_a_recovery_counts() {
        let mut congestion = Congestion::default();
        let mut window = Window { cwnd: 10_000, ssthresh: 10_000 };
        let acked = |una: u32| Acked {
            bytes: 10_000,
            flight_bytes: 10_000,
            is_limited: true,
            mss: 1000,
            rtt_us: None,
            srtt_us: 100,
            now: Instant::from_secs(1),
            una: SeqNum(una),
            nxt: SeqNum(una + 10_000),
            after_timeout: false,
            is_echoed: false,
        };
        congestion.on_ack(Algorithm::Dctcp, &mut window, &acked(10_000));
        for round in 2..100 {
            congestion.on_recovery_ack(&acked(round * 10_000));
        }
        window.cwnd = 10_000;
        congestion.on_mark(Algorithm::Dctcp, &mut window, 10_000, 1000);
        assert!(window.cwnd > 9_700, "{}", window.cwnd);
    }
}
