//! Data Center TCP (RFC 8257): the window comes down by how much of it was marked, not by half. Between marks, after losses and where
//! marks were not agreed on it is NewReno. The receiver's part is in `tcp/ecn.rs`.

use super::{Acked, CongestionControl, NewReno, Window};
use crate::SeqNum;

/// g = 1/16 (RFC 8257 3.3, 4): how much a window weighs in the estimate.
const WEIGHT_SHIFT: u32 = 4;

/// DCTCP.Alpha = 1.
const ONE: u32 = 1 << 20;

/// The estimate of how much of what is sent is marked.
#[derive(Debug, Clone, Copy)]
pub struct Dctcp {
    newreno: NewReno,
    /// DCTCP.Alpha in 2^-20.
    alpha: u32,
    /// DCTCP.BytesAcked, DCTCP.BytesMarked
    acked_bytes: u32,
    marked_bytes: u32,
    /// DCTCP.WindowEnd; none before the first acknowledgement.
    window_end: Option<SeqNum>,
}

impl Default for Dctcp {
    fn default() -> Self {
        // RFC 8257 3.3: one, so that a first mark is answered as RFC 3168 would.
        Self { newreno: NewReno::default(), alpha: ONE, acked_bytes: 0, marked_bytes: 0, window_end: None }
    }
}

impl CongestionControl for Dctcp {
    fn on_ack(&mut self, window: &mut Window, acked: &Acked) {
        self.estimate(acked);
        // RFC 3168 6.1.2: an echo is no reason to grow.
        if !acked.is_echoed {
            self.newreno.on_ack(window, acked);
        }
    }

    /// RFC 8257 3.5: a loss is answered as by everybody.
    fn on_loss(&mut self, window: &mut Window, flight_bytes: u32, mss: u16) {
        self.newreno.on_loss(window, flight_bytes, mss);
    }

    fn on_timeout(&mut self, window: &mut Window, flight_bytes: u32, mss: u16) {
        self.newreno.on_timeout(window, flight_bytes, mss);
    }
}

impl Dctcp {
    /// RFC 8257 3.3, steps 1 to 8; goes on while losses are repaired.
    pub(in crate::tcp) fn estimate(&mut self, acked: &Acked) {
        let before = acked.una - acked.bytes;
        self.acked_bytes = self.acked_bytes.saturating_add(acked.bytes);
        if acked.is_echoed {
            self.marked_bytes = self.marked_bytes.saturating_add(acked.bytes);
        }
        if !acked.una.after(*self.window_end.get_or_insert(before)) {
            return;
        }
        let marked = u64::from(self.marked_bytes) * u64::from(ONE) / u64::from(self.acked_bytes.max(1));
        // At most ONE.
        let marked = u32::try_from(marked).unwrap_or(ONE);
        self.alpha = self.alpha - (self.alpha >> WEIGHT_SHIFT) + (marked >> WEIGHT_SHIFT);
        self.window_end = Some(acked.nxt);
        (self.acked_bytes, self.marked_bytes) = (0, 0);
    }

    /// RFC 8257 3.3, step 9: the peer told of marks; once for each window of data.
    pub(in crate::tcp) fn on_mark(&mut self, window: &mut Window, flight_bytes: u32, mss: u16) {
        let used = flight_bytes.min(window.cwnd);
        // At most half of `used`.
        let off = (u64::from(used) * u64::from(self.alpha) / u64::from(2 * ONE)) as u32;
        window.ssthresh = (used - off).max(2 * u32::from(mss));
        window.cwnd = window.ssthresh;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;

    const MSS: u16 = 1000;

    fn acked(una: u32, bytes: u32, nxt: u32, is_echoed: bool) -> Acked {
        Acked {
            bytes,
            flight_bytes: 10_000,
            is_limited: true,
            mss: MSS,
            rtt_us: None,
            srtt_us: 100,
            now: Instant::from_secs(1),
            una: SeqNum(una),
            nxt: SeqNum(nxt),
            after_timeout: false,
            is_echoed,
        }
    }

    fn alpha(dctcp: &Dctcp) -> f64 {
        f64::from(dctcp.alpha) / f64::from(ONE)
    }

    /// Windows of ten segments, the first `marked` of each echoed.
    fn windows(dctcp: &mut Dctcp, from: u32, count: u32, marked: u32) -> u32 {
        let mut una = from;
        for _ in 0..count {
            for seg in 0..10 {
                una += 1000;
                dctcp.estimate(&acked(una, 1000, una + 10_000, seg < marked));
            }
        }
        una
    }

    #[test]
    fn alpha_begins_at_one_and_follows_the_marked_part() {
        let mut dctcp = Dctcp::default();
        assert_eq!(dctcp.alpha, ONE);
        let una = windows(&mut dctcp, 0, 200, 3);
        assert!((alpha(&dctcp) - 0.3).abs() < 0.03, "{}", alpha(&dctcp));
        let una = windows(&mut dctcp, una, 200, 10);
        assert!(alpha(&dctcp) > 0.99, "{}", alpha(&dctcp));
        windows(&mut dctcp, una, 400, 0);
        assert!(alpha(&dctcp) < 0.001, "{}", alpha(&dctcp));
    }

    #[test]
    fn one_window_moves_alpha_by_a_sixteenth_of_the_difference() {
        let mut dctcp = Dctcp::default();
        // RFC 8257 3.3: WindowEnd begins at SND.UNA, so the first acknowledgement is a window.
        dctcp.estimate(&acked(1000, 1000, 11_000, false));
        assert!((alpha(&dctcp) - 15.0 / 16.0).abs() < 1e-5);
        dctcp.estimate(&acked(6000, 5000, 11_000, true));
        dctcp.estimate(&acked(11_000, 5000, 21_000, false));
        assert!((alpha(&dctcp) - 15.0 / 16.0).abs() < 1e-5, "the window's end itself is in it");
        dctcp.estimate(&acked(12_000, 1000, 21_000, false));
        let expected = 15.0 / 16.0 * 15.0 / 16.0 + 5.0 / 11.0 / 16.0;
        assert!((alpha(&dctcp) - expected).abs() < 1e-5, "{}", alpha(&dctcp));
    }

    #[test]
    fn a_mark_costs_half_of_alpha_and_never_more_than_half() {
        let mut dctcp = Dctcp::default();
        let mut window = Window { cwnd: 100_000, ssthresh: u32::MAX };
        dctcp.on_mark(&mut window, 100_000, MSS);
        assert_eq!((window.cwnd, window.ssthresh), (50_000, 50_000));
        dctcp.alpha = ONE / 10;
        window.cwnd = 100_000;
        dctcp.on_mark(&mut window, 200_000, MSS);
        assert!((94_999..=95_001).contains(&window.cwnd), "{}", window.cwnd);
        window.cwnd = 1000;
        dctcp.on_mark(&mut window, 1000, MSS);
        assert_eq!(window.cwnd, 2000, "two segments at least");
    }

    #[test]
    fn an_echo_is_no_reason_to_grow_and_a_loss_is_a_loss() {
        let mut dctcp = Dctcp::default();
        let mut window = Window { cwnd: 10_000, ssthresh: u32::MAX };
        dctcp.on_ack(&mut window, &acked(1000, 1000, 11_000, true));
        assert_eq!(window.cwnd, 10_000);
        dctcp.on_ack(&mut window, &acked(2000, 1000, 12_000, false));
        assert_eq!(window.cwnd, 11_000);
        let before = dctcp.alpha;
        dctcp.on_loss(&mut window, 10_000, MSS);
        assert_eq!((window.cwnd, window.ssthresh, dctcp.alpha), (5000, 5000, before));
        dctcp.on_timeout(&mut window, 10_000, MSS);
        assert_eq!((window.cwnd, window.ssthresh, dctcp.alpha), (1000, 5000, before));
    }
}
