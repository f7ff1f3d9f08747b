//! The parts of the model by themselves.

use super::super::super::LossEvidence;
use super::super::path::{Aggregation, MaxBw};
use super::super::probe_rtt::MinRtt;
use super::*;

const BEGAN: Instant = Instant::from_nanos(100 * SECOND_NS);
const MS: u64 = 1_000_000;

fn after(ns: u64) -> Instant {
    BEGAN.add_nanos(ns)
}

/// A round trip of so many milliseconds, so long after the beginning; none: only time goes by.
fn measured(rtt: &mut MinRtt, after_ns: u64, rtt_ms: Option<u64>) -> Option<u64> {
    rtt.update(&RateSample { rtt_ns: rtt_ms.map(|ms| ms * MS), ..RateSample::new(after(after_ns)) });
    rtt.min_ns().map(|ns| ns / MS)
}

#[test]
fn the_round_trip_of_the_last_five_seconds_takes_the_place_of_one_older_than_ten() {
    let mut rtt = MinRtt::new(BEGAN, 0);
    assert_eq!(rtt.min_ns(), None);
    assert_eq!(measured(&mut rtt, 0, Some(50)), Some(50));
    // Five seconds are not over with the fifth.
    assert_eq!(measured(&mut rtt, 5 * SECOND_NS, Some(80)), Some(50));
    assert_eq!(measured(&mut rtt, 10 * SECOND_NS + 1, None), Some(50), "none was looked for since");
    let mut rtt = MinRtt::new(BEGAN, 0);
    measured(&mut rtt, 0, Some(50));
    assert_eq!(measured(&mut rtt, 5 * SECOND_NS + 1, Some(80)), Some(50));
    assert_eq!(measured(&mut rtt, 6 * SECOND_NS, Some(90)), Some(50), "longer than the one just found");
    assert_eq!(measured(&mut rtt, 10 * SECOND_NS, Some(70)), Some(50), "nor are ten with the tenth");
    assert_eq!(measured(&mut rtt, 10 * SECOND_NS + 1, Some(90)), Some(70));
    assert_eq!(measured(&mut rtt, 10 * SECOND_NS + 2, Some(60)), Some(60), "a shorter one at once");
}

/// BBR.MinRTTFilterLen is counted from the first of the round trips that were as short as any.
#[test]
fn the_shortest_round_trip_expires_though_it_was_seen_again() {
    let mut rtt = MinRtt::new(BEGAN, 0);
    measured(&mut rtt, 0, Some(10));
    assert_eq!(measured(&mut rtt, 5 * SECOND_NS + 1, Some(10)), Some(10), "the same once more");
    assert_eq!(measured(&mut rtt, 10 * SECOND_NS, Some(20)), Some(10));
    assert_eq!(measured(&mut rtt, 10 * SECOND_NS + 2, Some(20)), Some(20), "ten seconds after the first");
}

/// AdvanceMaxBwFilter
#[test]
fn a_cycle_without_samples_leaves_the_best_rate_of_the_one_before() {
    let mut best = MaxBw::default();
    best.update(1000);
    for rate in [1000, 1000] {
        best.advance();
        assert_eq!(best.get(), rate);
    }
    best.update(400);
    best.advance();
    assert_eq!(best.get(), 400);
}

#[test]
fn an_equal_round_trip_does_not_put_off_the_search() {
    let mut rtt = MinRtt::new(BEGAN, 50_000);
    measured(&mut rtt, 0, Some(50));
    measured(&mut rtt, 4 * SECOND_NS, Some(50));
    measured(&mut rtt, 6 * SECOND_NS, Some(80));
    assert_eq!(measured(&mut rtt, 10 * SECOND_NS + 1, None), Some(80));
}

/// What `acked` bytes bring at that time, at a rate of 1 MB/s.
fn bunched(state: &mut Aggregation, after_ms: u64, acked: u64, (is_full, round): (bool, u64)) -> u32 {
    let rs = RateSample { newly_acked: acked, ..RateSample::new(after(after_ms * MS)) };
    state.update(&rs, 1_000_000, (50_000, is_full, round));
    state.extra()
}

#[test]
fn what_comes_above_the_rate_is_bunched() {
    let mut state = Aggregation::new(BEGAN);
    // 10 ms carry 10,000 bytes.
    assert_eq!(bunched(&mut state, 10, 8_000, (true, 1)), 8_000);
    assert_eq!(bunched(&mut state, 12, 9_000, (true, 1)), 15_000, "17,000 in the time of 2,000");
    assert_eq!(bunched(&mut state, 20, 1_000, (true, 1)), 15_000, "18,000 in that of 10,000 is less");
    // The rate has caught up: it begins anew.
    assert_eq!(bunched(&mut state, 40, 16_000, (true, 1)), 16_000);
    assert_eq!(bunched(&mut state, 56, 1_000, (true, 1)), 16_000, "exactly caught up");
    assert_eq!(bunched(&mut state, 56, 15_500, (true, 1)), 16_500);
    state.begin(after(57 * MS));
    assert_eq!(bunched(&mut state, 57, 17_000, (true, 1)), 17_000, "after silence too");
    assert_eq!(bunched(&mut state, 57, 80_000, (true, 1)), 50_000, "no more than the window");
}

#[test]
fn bunches_are_remembered_for_five_to_ten_rounds_and_in_startup_for_one() {
    let mut state = Aggregation::new(BEGAN);
    bunched(&mut state, 0, 9_000, (true, 0));
    let mut at_round = |round: u64| bunched(&mut state, 1_000 * (round + 1), 1_000, (true, round));
    assert_eq!([4, 5, 9, 10].map(&mut at_round), [9_000, 9_000, 9_000, 1_000]);
    let mut state = Aggregation::new(BEGAN);
    bunched(&mut state, 0, 9_000, (false, 0));
    assert_eq!(bunched(&mut state, 1_000, 1_000, (false, 1)), 1_000);
}

#[test]
fn what_fits_before_the_loss_became_too_much() {
    let fits = |lost_since: u64, in_flight: u32| {
        LossEvidence { lost_since, in_flight, len: 1_000, is_app_limited: false }.in_flight_at_loss()
    };
    // 99,000 bear 1,980; 1,500 of those were lost before, so that (1,980 - 1,500) * 50 / 49 more fit.
    assert_eq!(fits(2_500, 100_000), 99_489);
    assert_eq!(fits(20_000, 100_000), 99_000);
}

#[test]
fn the_window_has_room_for_what_is_handed_over_in_one_go() {
    let mut bbr = Bbr::new(BEGAN, 7, (10_000, 50_000));
    bbr.mss = 1_000;
    let budget = |bbr: &mut Bbr, rate: u64, state: State| {
        (bbr.pacing_rate, bbr.state) = (rate, state);
        (bbr.with_budget(0), bbr.with_budget(900_000))
    };
    // Three times what leaves in a millisecond: two segments at least, 64 KB at most.
    assert_eq!(budget(&mut bbr, 10_000_000, State::Cruise), (30_000, 900_000));
    assert_eq!(budget(&mut bbr, 1_000, State::Cruise), (6_000, 900_000));
    assert_eq!(budget(&mut bbr, 1_000_000_000, State::Cruise), (3 << 16, 900_000));
    assert_eq!(budget(&mut bbr, 10_000_000, State::Up), (32_000, 902_000), "and what probes");
}

#[test]
fn before_anything_is_measured_the_window_is_the_estimate() {
    let bbr = Bbr::new(BEGAN, 7, (10_000, 0));
    let of = |cwnd: u32| bbr.bdp(100, &Window { cwnd, ssthresh: u32::MAX });
    assert_eq!((of(4_000), of(12_000)), (10_000, 12_000));
    assert_eq!(bbr.pacing_rate, 10_000 * 1_000 * 277 / 100, "of a millisecond");
}

/// The first numbers of SplitMix64 from zero, as published with it.
#[test]
fn the_random_numbers_are_those_of_the_generator() {
    let mut bbr = Bbr::new(BEGAN, 0, (10_000, 0));
    let drawn = [(); 3].map(|()| bbr.random_below(u64::MAX));
    assert_eq!(drawn, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    assert!((0..100).all(|_| bbr.random_below(10) < 10));
}
