//! How fast a transfer must be at least: one formula of rate, delay, loss and queue, for all seeds.

use std::time::Duration;

use crate::line::{Impairment, Loss};

/// TCP and IP headers with timestamps.
const HEADERS_LEN: f64 = 52.0;
/// What the engine starts with (RFC 6298 2.4 as Linux has it, RFC 6928).
const RTO_MIN_S: f64 = 0.2;
const INITIAL_WINDOW_SEGS: f64 = 10.0;
/// RFC 6298 (5.7): after a SYN or SYN-ACK was lost; before anything gets through there is no other measurement.
const RTO_UNMEASURED_S: f64 = 3.0;
/// RFC 6298 (2.5), as the engine has it.
const RTO_MAX_S: f64 = 120.0;
/// Timeouts in a black hole: four until shorter segments are tried, a fifth until still shorter ones.
const HOLE_TIMEOUTS: i32 = 5;
/// Of what the model says; it describes a mean, and Reno.
const MARGIN: f64 = 0.4;
/// A chain of tries of the same segment, each of which it or its acknowledgement does not survive, that is rarer than this does not happen.
const NEVER: f64 = 1e-6;

/// Times that a transfer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Without bad luck: nearly all transfers are faster.
    pub usual: Duration,
    /// No transfer is slower.
    pub longest: Duration,
}

/// The longest that a transfer of `bytes` in each direction may take, from the end of the handshake, over a link whose packets have
/// at most `mtu` bytes, between buffers of `window` bytes.
///
/// ```text
/// slow start      rtt * (3 + log2(1 + bytes / initial window)) + queue / rate
/// transfer        bytes / (MARGIN * min(rate', model, window / rtt))
///   rate'         rate * min(1, (queue + bdp) / (2 bdp)): what remains on a short queue after the window was halved
///   model         mss / (rtt * sqrt(4p/3) + rto * min(1, 3 sqrt(3p/4)) * p * (1 + 32 p^2))  (Padhye et al. 1998, b = 2)
/// black hole      rto * 2^5: four timeouts until shorter segments are tried, five until still shorter ones
/// bad luck        rto * 2^k with (1 - (1-p)^2)^k = NEVER: the longest chain of time-outs of one segment; in a black hole as many after
///                 those that it takes anyway, all of them of an RTO that was never measured
/// ```
/// `p` is the probability that a packet does not arrive intact, plus half of that of arriving late enough to be taken for lost; under the
/// root also that of being marked, which halves the window and costs no time-out. The round trip of bad luck includes a full queue.
pub fn limits(link: &Impairment, mtu: usize, bytes: usize, window: usize) -> Limits {
    let rate = link.rate_bps as f64 / 8.0;
    let queue = link.queue_bytes as f64;
    let mss = mtu as f64 - HEADERS_LEN;
    let (delay, jitter) = (link.delay.as_secs_f64(), link.jitter.as_secs_f64());
    // What limits by losses leaves the queue empty; slow start fills it.
    let held = if link.reorder > 0.0 { link.reorder_by.as_secs_f64() } else { 0.0 };
    let empty_rtt = 2.0 * (delay + jitter + mtu as f64 / rate) + held;
    let full_rtt = empty_rtt + queue / rate;
    let p = missing(link);

    let rounds = 3.0 + (1.0 + bytes as f64 / (INITIAL_WINDOW_SEGS * mss)).log2();
    let bdp = (rate * empty_rtt).max(mss);
    let rate_left = rate * ((queue + bdp) / (2.0 * bdp)).min(1.0) * mss / mtu as f64;
    let rto = RTO_MIN_S + empty_rtt;
    let timeouts = rto * (3.0 * (0.75 * p).sqrt()).min(1.0) * p * (1.0 + 32.0 * p * p);
    let model = mss / (empty_rtt * (4.0 * (p + link.mark) / 3.0).sqrt() + timeouts).max(f64::MIN_POSITIVE);
    let windows = window as f64 / (empty_rtt + queue.min(window as f64) / rate);
    let transfer = bytes as f64 / (MARGIN * rate_left.min(model).min(windows));
    let luck = bad_luck(link, p, RTO_MIN_S + 2.0 * full_rtt);
    let usual = rounds * empty_rtt + queue / rate + transfer;
    let (hole, worst_hole) = if link.refuses_by_icmp {
        (0.0, 0.0)
    } else {
        (
            timeouts_s(rto, HOLE_TIMEOUTS),
            timeouts_s(rto.max(RTO_UNMEASURED_S), HOLE_TIMEOUTS + longest_chain(p)),
        )
    };
    Limits {
        usual: Duration::from_secs_f64(usual + hole),
        longest: Duration::from_secs_f64(usual + worst_hole + luck),
    }
}

/// The same for a run with Fast Open: where packets overtake each other, what follows a SYN-ACK may come before it, and a client that is
/// still in SYN-SENT has no use for it. Of all segments that is one more that does not arrive.
pub fn limits_of_fast_open(link: &Impairment, mtu: usize, bytes: usize, window_bytes: usize) -> Limits {
    let overtakes = link.reorder > 0.0 || !link.jitter.is_zero();
    let one_of_all = if overtakes { mtu as f64 / bytes.max(mtu) as f64 } else { 0.0 };
    limits(&Impairment { corrupt: link.corrupt + one_of_all, ..*link }, mtu, bytes, window_bytes)
}

/// The probability that a packet does not arrive intact, or so late that it is taken for lost.
fn missing(link: &Impairment) -> f64 {
    (link.loss.probability() + link.corrupt + link.reorder / 2.0).min(0.9)
}

fn bad_luck(link: &Impairment, p: f64, rto: f64) -> f64 {
    if p <= 0.0 {
        return rto;
    }
    let fade = match link.loss {
        Loss::Random(_) => 0.0,
        // Twenty times the mean of an exponential distribution: 2e-9.
        Loss::Bursts { length, .. } => 20.0 * length.as_secs_f64(),
    };
    rto * f64::from(longest_chain(p)).exp2() + fade
}

/// How often one segment or its acknowledgement is lost in a row at most.
fn longest_chain(p: f64) -> i32 {
    let of_a_try = 1.0 - (1.0 - p) * (1.0 - p);
    if p <= 0.0 { 0 } else { (NEVER.ln() / of_a_try.ln()).ceil().clamp(1.0, 12.0) as i32 }
}

/// How long so many timeouts in a row take, the first of `rto`.
fn timeouts_s(rto: f64, count: i32) -> f64 {
    (0..count).map(|number| (rto * 2_f64.powi(number)).min(RTO_MAX_S)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes per second of a long transfer.
    fn rate(link: &Impairment) -> f64 {
        let long = |bytes| limits(link, 1500, bytes, 10_000_000).usual;
        50_000_000.0 / (long(100_000_000) - long(50_000_000)).as_secs_f64()
    }

    #[test]
    fn a_clean_link_must_be_two_fifths_full() {
        assert!((rate(&Impairment::CLEAN) * 8.0 / 1e9 - 0.386).abs() < 0.01);
    }

    #[test]
    fn a_try_fails_by_the_loss_of_its_acknowledgement_too() {
        let chains = [0.0, 0.01, 0.1, 0.3, 0.5].map(longest_chain);
        assert_eq!(chains, [0, 4, 9, 12, 12], "one in a million, and no more than a dozen");
    }

    #[test]
    fn a_black_hole_costs_some_timeouts_and_not_more_than_that() {
        let clean = Impairment { mtu: 1280, ..Impairment::CLEAN };
        let hole = Impairment { refuses_by_icmp: false, ..clean };
        let (without, with) =
            (limits(&clean, 1280, 100_000, 10_000_000), limits(&hole, 1280, 100_000, 10_000_000));
        let usual = (with.usual - without.usual).as_secs_f64();
        assert!((6.0..7.0).contains(&usual), "31 times 200 ms: {usual}");
        let longest = (with.longest - without.longest).as_secs_f64();
        assert!((93.0..94.0).contains(&longest), "31 times 3 s: {longest}");
        let lossy = Impairment { loss: Loss::Random(0.05), ..hole };
        assert!(limits(&lossy, 1280, 100_000, 10_000_000).longest > with.longest + Duration::from_secs(400));
    }

    #[test]
    fn each_part_of_the_link_counts() {
        let base =
            Impairment { delay: Duration::from_millis(10), rate_bps: 100_000_000, ..Impairment::CLEAN };
        let lossy = Impairment { loss: Loss::Random(0.01), ..base };
        let far = Impairment { delay: Duration::from_millis(40), ..lossy };
        let slow = Impairment { rate_bps: 10_000_000, ..base };
        let short = Impairment { queue_bytes: 15_000, ..base };
        for (better, worse) in [(base, lossy), (lossy, far), (base, slow), (base, short)] {
            assert!(rate(&better) > 1.2 * rate(&worse), "{better:?} {worse:?}");
        }
    }
}
