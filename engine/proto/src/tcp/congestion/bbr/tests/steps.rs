//! The state machine, acknowledgement by acknowledgement.

use super::super::super::LossEvidence;
use super::*;

/// 10 MB/s and 50 ms.
const BDP: u32 = 500_000;
const MS: u64 = 1_000_000;

/// A model that knows its path, put into a state.
struct Machine {
    bbr: Bbr,
    window: Window,
    now_ns: u64,
    total: u64,
}

impl Machine {
    fn in_startup() -> Self {
        let window = Window { cwnd: 10_000, ssthresh: u32::MAX };
        let bbr = Bbr::new(Instant::from_nanos(SECOND_NS), 7, (window.cwnd, 50_000));
        let mut machine = Self { bbr, window, now_ns: SECOND_NS, total: 0 };
        machine.round(|_| {});
        assert_eq!((machine.bbr.bw, machine.bbr.bdp(100, &machine.window)), (RATE, BDP));
        machine
    }

    /// Startup is over, and the window is what the states of ProbeBW want, but for this.
    fn new(state: State, cwnd: u32) -> Self {
        let mut machine = Self::in_startup();
        machine.bbr.is_full_bw_reached = true;
        machine.bbr.begin_down(Instant::from_nanos(machine.now_ns), machine.total);
        machine.bbr.ack_phase = AckPhase::Init;
        machine.bbr.state = state;
        machine.window.cwnd = cwnd;
        machine
    }

    fn sample(&mut self, prior: u64, change: impl FnOnce(&mut RateSample)) -> Steering {
        self.now_ns += MS;
        let mut rs = RateSample {
            delivery_rate: RATE,
            delivered: u64::from(BDP),
            prior_delivered: Some(prior),
            newly_acked: 1_000,
            sent_in_flight: BDP,
            in_flight: BDP,
            // Not the shortest.
            rtt_ns: Some(60 * MS),
            mss: MSS,
            ..RateSample::new(Instant::from_nanos(self.now_ns))
        };
        change(&mut rs);
        self.total += rs.newly_acked;
        rs.total_delivered = self.total;
        self.bbr.on_sample(&mut self.window, &rs)
    }

    /// An acknowledgement within a round.
    fn ack(&mut self, change: impl FnOnce(&mut RateSample)) -> Steering {
        self.sample(0, change)
    }

    /// One that begins a round.
    fn round(&mut self, change: impl FnOnce(&mut RateSample)) -> Steering {
        self.sample(self.total, change)
    }

    fn wait(&mut self, ns: u64) {
        self.now_ns += ns;
    }

    fn bounds(&self) -> (u64, u32) {
        (self.bbr.short.bw, self.bbr.short.inflight)
    }
}

const NO_BOUNDS: (u64, u32) = (u64::MAX, INFINITE);

fn slow(rs: &mut RateSample) {
    (rs.delivery_rate, rs.delivered) = (6_000_000, 300_000);
}

#[test]
fn a_round_with_losses_bounds_rate_and_window_to_seven_tenths_or_what_arrived() {
    for state in [State::Cruise, State::Down] {
        let mut machine = Machine::new(state, 899_000);
        let too_much = 2 * BDP;
        machine.ack(|rs| (rs.newly_lost, rs.in_flight) = (1_000, too_much));
        machine.ack(|rs| (rs.newly_lost, rs.in_flight) = (1_000, too_much));
        assert_eq!(machine.bounds(), NO_BOUNDS, "when the round is over");
        machine.round(|rs| rs.in_flight = too_much);
        assert_eq!(machine.bounds(), (RATE, BDP.max(901_000 * 7 / 10)), "what arrived is more");
        for expected in [(7_000_000, 441_490), (6_000_000, 309_043), (6_000_000, 300_000)] {
            machine.ack(|rs| (rs.newly_lost, rs.delivery_rate, rs.delivered) = (1_000, 1, 1));
            machine.bbr.short.reset_signals();
            machine.bbr.short.is_loss_in_round = true;
            machine.round(slow);
            assert_eq!(machine.bounds(), expected);
        }
        assert_eq!(machine.bbr.bw, 6_000_000);
        // A round without one leaves them.
        machine.round(slow);
        assert_eq!(machine.bounds(), (6_000_000, 300_000));
    }
}

#[test]
fn losses_while_the_rate_is_sought_bound_nothing() {
    for state in [State::Startup, State::Refill, State::Up] {
        let mut machine = Machine::new(state, 900_000);
        machine.bbr.is_full_bw_reached = state != State::Startup;
        for _ in 0..2 {
            machine.ack(|rs| rs.newly_lost = 1_000);
            machine.round(|_| {});
        }
        assert_eq!(machine.bounds(), NO_BOUNDS, "{state:?}");
    }
}

#[test]
fn drain_ends_after_three_rounds_at_the_latest() {
    let mut machine = Machine::in_startup();
    machine.bbr.is_full_bw_reached = true;
    let full = |rs: &mut RateSample| rs.in_flight = 3 * BDP;
    machine.ack(full);
    for _ in 0..3 {
        assert_eq!(machine.bbr.state, State::Drain);
        machine.round(full);
    }
    assert_eq!(machine.bbr.state, State::Drain);
    machine.round(full);
    assert_eq!(machine.bbr.state, State::Down);
}

#[test]
fn bandwidth_is_probed_after_as_many_rounds_as_reno_would_need() {
    for (cwnd, at_most) in [(BDP, 63), (20_000, 20)] {
        let mut machine = Machine::new(State::Cruise, cwnd);
        let mut rounds = 0;
        while machine.bbr.state == State::Cruise {
            machine.window.cwnd = cwnd;
            machine.round(|_| {});
            rounds += 1;
            assert!(rounds < 100);
        }
        assert_eq!(machine.bbr.state, State::Refill);
        assert!((at_most - 1..=at_most).contains(&rounds), "{rounds}");
    }
    // Within one round nothing counts.
    let mut machine = Machine::new(State::Cruise, 20_000);
    for _ in 0..100 {
        machine.ack(|_| {});
    }
    assert_eq!(machine.bbr.state, State::Cruise);
}

#[test]
fn a_probe_that_would_repeat_a_loss_ends_before_it_and_is_made_up_for() {
    let mut machine = Machine::new(State::Up, 800_000);
    machine.bbr.inflight_longterm = 600_000;
    machine.bbr.cycle.is_probe_too_high = true;
    machine.ack(|rs| rs.in_flight = 599_999);
    assert_eq!(machine.bbr.state, State::Up);
    machine.ack(|rs| rs.in_flight = 600_000);
    assert_eq!((machine.bbr.state, machine.bbr.cycle.is_probe_too_high), (State::Down, false));
    assert_eq!(machine.bbr.ack_phase, AckPhase::ProbeStopping);
    // What was sent in the probe has arrived: nothing was lost, so it goes on.
    machine.round(|_| {});
    assert_eq!(machine.bbr.state, State::Refill);
    // After a probe that found the limit it does not.
    let mut machine = Machine::new(State::Up, 800_000);
    machine.bbr.full_bw.is_now = true;
    machine.ack(|rs| rs.in_flight = 2 * BDP);
    assert_eq!(machine.bbr.state, State::Down);
    machine.round(|rs| rs.in_flight = 2 * BDP);
    assert_eq!((machine.bbr.state, machine.bbr.ack_phase), (State::Down, AckPhase::Init));
}

#[test]
fn a_probe_that_its_own_bound_holds_is_not_over() {
    for (is_cwnd_limited, cwnd, stays) in
        [(true, 600_000, true), (true, 599_999, false), (false, 600_000, false)]
    {
        let mut machine = Machine::new(State::Up, cwnd);
        machine.bbr.inflight_longterm = 600_000;
        machine.bbr.full_bw.is_now = true;
        machine.ack(|rs| (rs.is_cwnd_limited, rs.in_flight) = (is_cwnd_limited, 2 * BDP));
        assert_eq!(machine.bbr.state == State::Up, stays, "{is_cwnd_limited} {cwnd}");
        assert_eq!(machine.bbr.full_bw.bw, if stays { RATE } else { machine.bbr.full_bw.bw });
    }
}

#[test]
fn what_got_through_without_loss_raises_the_bound() {
    let mut machine = Machine::new(State::Cruise, 900_000);
    machine.ack(|rs| rs.sent_in_flight = 650_000);
    assert_eq!(machine.bbr.inflight_longterm, INFINITE, "there is none");
    machine.bbr.inflight_longterm = 600_000;
    machine.ack(|rs| (rs.sent_in_flight, rs.lost) = (650_000, 13_001));
    assert_eq!(machine.bbr.inflight_longterm, 600_000, "with more than a fiftieth lost");
    machine.ack(|rs| (rs.sent_in_flight, rs.lost) = (650_000, 13_000));
    assert_eq!(machine.bbr.inflight_longterm, 650_000);
    machine.window.cwnd = 900_000;
    machine.ack(|rs| rs.sent_in_flight = 640_000);
    assert_eq!(machine.bbr.inflight_longterm, 650_000);
    // 15 per cent are left to others while it cruises, a segment at least; four stay.
    assert_eq!(machine.window.cwnd, 552_500);
    let with_headroom = [6_000, 4_500].map(|bound| {
        machine.bbr.inflight_longterm = bound;
        machine.bbr.inflight_with_headroom()
    });
    assert_eq!(with_headroom, [5_000, 4_000]);
}

#[test]
fn a_probe_begins_without_the_bounds_of_the_losses_before_it() {
    let mut machine = Machine::new(State::Cruise, 600_000);
    (machine.bbr.short.bw, machine.bbr.short.inflight) = (1, 1);
    machine.bbr.start_refill();
    assert_eq!(machine.bounds(), NO_BOUNDS);
}

#[test]
fn in_a_probe_the_bound_rises_by_twice_as_many_segments_each_round() {
    let mut machine = Machine::new(State::Refill, 600_000);
    machine.bbr.inflight_longterm = 600_000;
    machine.round(|_| {});
    assert_eq!((machine.bbr.state, machine.window.cwnd), (State::Up, 600_000));
    assert_eq!(machine.bbr.ack_phase, AckPhase::ProbeStarting);
    assert_eq!(machine.bbr.full_bw.bw, RATE, "what the probe must exceed");
    let acked = |machine: &mut Machine, bytes: u64| {
        machine.ack(|rs| (rs.newly_acked, rs.is_cwnd_limited) = (bytes, true));
        machine.bbr.inflight_longterm
    };
    assert_eq!(acked(&mut machine, 600_000), 601_000, "a segment for a window");
    assert_eq!(acked(&mut machine, 599_999), 601_000);
    assert_eq!(acked(&mut machine, 1), 602_000);
    // The window follows.
    machine.ack(|_| {});
    machine.round(|rs| (rs.newly_acked, rs.is_cwnd_limited) = (1, true));
    assert_eq!(machine.bbr.ack_phase, AckPhase::ProbeFeedback);
    assert_eq!(acked(&mut machine, 300_998), 602_000);
    assert_eq!(acked(&mut machine, 1), 603_000, "two for the next");
    machine.ack(|_| {});
    machine.round(|rs| (rs.newly_acked, rs.is_cwnd_limited) = (750, true));
    assert_eq!(acked(&mut machine, 1_506_750), 613_000, "four for that");
    // Only where the bound held it back.
    machine.ack(|rs| rs.newly_acked = 2_000_000);
    assert_eq!(machine.bbr.inflight_longterm, 613_000);
    machine.window.cwnd = 612_999;
    assert_eq!(acked(&mut machine, 2_000_000), 613_000);
    // Never by more than doubling it would be.
    for _ in 0..40 {
        machine.round(|rs| (rs.newly_acked, rs.is_cwnd_limited) = (0, true));
        machine.round(|rs| (rs.newly_acked, rs.is_cwnd_limited) = (1, true));
    }
    let before = machine.bbr.inflight_longterm;
    assert_eq!(acked(&mut machine, 10_000), before + 10_000, "a segment for a segment");
}

#[test]
fn the_best_rate_is_of_this_probe_and_the_one_before() {
    for (is_app_limited, expected) in [(false, RATE / 2), (true, RATE)] {
        let mut machine = Machine::new(State::Cruise, 900_000);
        for _ in 0..2 {
            assert_eq!(machine.bbr.max_bw.get(), RATE);
            machine.bbr.begin_down(Instant::from_nanos(machine.now_ns), machine.total);
            machine.round(|rs| (rs.delivery_rate, rs.is_app_limited) = (RATE / 2, is_app_limited));
            machine.ack(|rs| rs.delivery_rate = RATE / 2);
        }
        assert_eq!(machine.bbr.max_bw.get(), expected);
    }
}

#[test]
fn what_the_application_held_back_raises_the_rate_and_does_not_lower_it() {
    let mut machine = Machine::new(State::Cruise, 900_000);
    machine.ack(|rs| (rs.delivery_rate, rs.is_app_limited) = (RATE + 1, true));
    assert_eq!(machine.bbr.max_bw.get(), RATE + 1);
    assert_eq!(machine.bbr.bw, RATE + 1);
    // Nothing was acknowledged: nothing is learned but the losses.
    machine.ack(|rs| (rs.delivery_rate, rs.newly_acked, rs.newly_lost) = (3 * RATE, 0, 1));
    assert_eq!((machine.bbr.max_bw.get(), machine.bbr.short.is_loss_in_round), (RATE + 1, true));
}

fn evidence(in_flight: u32, is_app_limited: bool) -> LossEvidence {
    LossEvidence { lost_since: 50_000, in_flight, len: 1_000, is_app_limited }
}

#[test]
fn too_much_loss_of_a_probe_bounds_the_window_but_not_below_seven_tenths_of_the_path() {
    let bound_by = |in_flight: u32, is_app_limited: bool, cwnd: u32| {
        let mut machine = Machine::new(State::Refill, cwnd);
        machine.bbr.cycle.is_probe_sample = true;
        let lost = evidence(in_flight, is_app_limited);
        machine.ack(|rs| (rs.newly_lost, rs.lost, rs.evidence) = (1_000, 50_000, Some(lost)));
        assert!(machine.bbr.cycle.is_probe_too_high && !machine.bbr.cycle.is_probe_sample);
        machine.bbr.inflight_longterm
    };
    assert_eq!(bound_by(701_000, false, 900_000), 700_000);
    assert_eq!(bound_by(101_000, false, 900_000), BDP / 10 * 7);
    assert_eq!(bound_by(101_000, false, 300_000), 210_000, "or of the window");
    assert_eq!(bound_by(701_000, true, 900_000), INFINITE, "it says nothing of the path");
    // Without a probe it is not looked at.
    let mut machine = Machine::new(State::Cruise, 900_000);
    machine.ack(|rs| (rs.newly_lost, rs.evidence) = (1_000, Some(evidence(701_000, false))));
    assert_eq!(machine.bbr.inflight_longterm, INFINITE);
}

#[test]
fn a_mark_ends_a_probe_as_too_much_loss_does_and_is_a_loss_otherwise() {
    let mut machine = Machine::new(State::Up, 900_000);
    machine.bbr.cycle.is_probe_sample = true;
    machine.bbr.on_mark();
    machine.ack(|rs| (rs.sent_in_flight, rs.in_flight) = (450_000, 2 * BDP));
    assert_eq!((machine.bbr.state, machine.bbr.inflight_longterm), (State::Down, 450_000));
    let mut machine = Machine::new(State::Cruise, 900_000);
    machine.bbr.on_mark();
    machine.ack(|_| {});
    machine.round(slow);
    assert_ne!(machine.bounds(), NO_BOUNDS);
}

#[test]
fn a_round_that_was_not_lossy_after_all_gives_back_what_it_took() {
    // The first loss of the round is what is gone back to, not the one that bounded the window.
    let mut machine = Machine::new(State::Refill, 900_000);
    machine.bbr.cycle.is_probe_sample = true;
    machine.ack(|rs| rs.newly_lost = 1_000);
    machine.ack(|rs| (rs.newly_lost, rs.evidence) = (1_000, Some(evidence(701_000, false))));
    assert_eq!(machine.bbr.inflight_longterm, 700_000);
    machine.ack(|rs| rs.newly_lost = 1_000);
    machine.bbr.on_undo(&mut machine.window);
    assert_eq!((machine.bbr.inflight_longterm, machine.bbr.state), (INFINITE, State::Refill));
    assert!(!machine.bbr.short.is_loss_in_round);
    // Bounds of an earlier round stay.
    let mut machine = Machine::new(State::Cruise, 900_000);
    machine.ack(|rs| rs.newly_lost = 1_000);
    machine.bbr.short.reset_signals();
    machine.bbr.short.is_loss_in_round = true;
    machine.round(slow);
    let earlier = machine.bounds();
    machine.ack(|rs| rs.newly_lost = 1_000);
    machine.bbr.short.bw = 1;
    machine.bbr.on_undo(&mut machine.window);
    assert_eq!(machine.bounds(), earlier);
}

#[test]
fn a_spurious_loss_that_ended_startup_begins_it_again() {
    for (state, back) in [(State::Drain, State::Startup), (State::ProbeRtt, State::ProbeRtt)] {
        let mut machine = Machine::in_startup();
        machine.bbr.on_loss(&mut machine.window, 10_000, MSS);
        machine.bbr.leave_startup(&machine.window);
        machine.bbr.state = state;
        machine.bbr.on_undo(&mut machine.window);
        assert_eq!((machine.bbr.state, machine.bbr.is_full_bw_reached), (back, false));
        assert_eq!(machine.bbr.inflight_longterm, INFINITE);
    }
    // A probe that goes on, or a search for the round trip, is not disturbed.
    for state in [State::Up, State::ProbeRtt] {
        let mut machine = Machine::new(State::Up, 900_000);
        machine.bbr.cycle.is_probe_sample = true;
        machine.ack(|rs| (rs.newly_lost, rs.evidence) = (1_000, Some(evidence(701_000, false))));
        machine.bbr.state = state;
        machine.bbr.on_undo(&mut machine.window);
        assert_eq!(machine.bbr.state, state);
    }
}

#[test]
fn startup_ends_by_losses_of_one_round_that_are_being_repaired() {
    let ends = |rounds: &[(u32, bool, u64)]| {
        let mut machine = Machine::in_startup();
        for &(ranges, is_recovering, lost) in rounds {
            machine.ack(|rs| (rs.newly_lost, rs.lost_ranges) = (1_000, ranges));
            machine.round(|rs| (rs.is_recovering, rs.lost) = (is_recovering, lost));
        }
        let is_over = machine.bbr.state != State::Startup;
        assert_eq!(is_over, machine.bbr.is_full_bw_reached);
        assert_eq!(is_over, machine.bbr.inflight_longterm == BDP, "{:?}", machine.bbr.inflight_longterm);
        is_over
    };
    assert!(ends(&[(6, true, 50_000)]));
    assert!(!ends(&[(6, false, 50_000)]), "nothing is repaired");
    assert!(!ends(&[(6, true, 1_000)]), "not too much");
    assert!(!ends(&[(5, true, 50_000), (5, true, 50_000)]), "each round by itself");
}

#[test]
fn the_round_trip_is_not_sought_when_silence_has_shown_it() {
    let mut machine = Machine::new(State::Cruise, 900_000);
    machine.ack(|_| {});
    machine.wait(6 * SECOND_NS);
    machine.bbr.on_restart(&mut machine.window, Instant::from_nanos(machine.now_ns));
    machine.ack(|rs| rs.delivered = 0);
    assert!(machine.bbr.is_idle_restart, "until something that left since has arrived");
    machine.ack(|_| {});
    assert!(machine.bbr.state != State::ProbeRtt && !machine.bbr.is_idle_restart);
    machine.wait(6 * SECOND_NS);
    let steering = machine.ack(|_| {});
    assert_eq!((machine.bbr.state, steering.is_app_limited), (State::ProbeRtt, true));
}

#[test]
fn the_search_for_the_round_trip_lasts_a_fifth_of_a_second_and_a_round() {
    let mut machine = Machine::new(State::Cruise, 900_000);
    machine.ack(|_| {});
    machine.wait(6 * SECOND_NS);
    let half = BDP / 2;
    machine.ack(|rs| rs.in_flight = half + 1);
    assert_eq!((machine.bbr.state, machine.window.cwnd), (State::ProbeRtt, half));
    machine.wait(SECOND_NS);
    machine.round(|rs| rs.in_flight = half + 1);
    assert_eq!(machine.bbr.state, State::ProbeRtt, "the pipe has not drained");
    machine.ack(|rs| rs.in_flight = half);
    let drained_ns = machine.now_ns;
    machine.wait(SECOND_NS);
    machine.ack(|rs| rs.in_flight = half);
    assert_eq!(machine.bbr.state, State::ProbeRtt, "no round is over");
    // Back in time, to the very end of the fifth of a second.
    machine.now_ns = drained_ns + SECOND_NS / 5 - MS;
    machine.round(|rs| rs.in_flight = half);
    assert_eq!(machine.bbr.state, State::ProbeRtt);
    machine.ack(|rs| rs.in_flight = half);
    assert_eq!(machine.bbr.state, State::Cruise);
    assert!(machine.window.cwnd >= 900_000, "{:?}", machine.window);
}

/// HandleRestartFromIdle: silence has kept the pipe empty, and nothing else would end the search.
#[test]
fn new_data_ends_a_search_for_the_round_trip_that_has_lasted_long_enough() {
    let mut machine = Machine::new(State::Cruise, 900_000);
    machine.ack(|_| {});
    machine.wait(6 * SECOND_NS);
    machine.ack(|rs| rs.in_flight = 1_000);
    machine.ack(|rs| rs.in_flight = 1_000);
    assert_eq!(machine.bbr.state, State::ProbeRtt);
    machine.wait(SECOND_NS);
    machine.bbr.on_restart(&mut machine.window, Instant::from_nanos(machine.now_ns));
    assert_eq!(machine.bbr.state, State::Cruise);
}

#[test]
fn startup_goes_on_after_a_search_for_the_round_trip() {
    let mut machine = Machine::in_startup();
    machine.wait(6 * SECOND_NS);
    machine.ack(|rs| rs.in_flight = 1_000);
    assert_eq!(machine.bbr.state, State::ProbeRtt);
    machine.ack(|rs| rs.in_flight = 1_000);
    machine.wait(SECOND_NS);
    machine.round(|rs| rs.in_flight = 1_000);
    assert_eq!(machine.bbr.state, State::Startup);
}

#[test]
fn the_window_grows_by_what_arrives_up_to_what_the_path_holds() {
    // Until the path is full it may overshoot, but is not driven further; a first flight is let grow in any case.
    for (cwnd, total, expected) in
        [(999_999, 1 << 20, 1_000_999), (1_001_000, 1 << 20, 1_001_000), (1_001_000, 0, 1_002_000)]
    {
        let mut machine = Machine::in_startup();
        (machine.window.cwnd, machine.total) = (cwnd, total);
        machine.bbr.initial_cwnd = 10_000;
        machine.ack(|_| {});
        assert_eq!(machine.window.cwnd, expected, "{cwnd} {total}");
    }
    for (state, most) in [(State::Cruise, 1_001_000), (State::Up, 1_128_000)] {
        let mut machine = Machine::new(state, 5_000_000);
        machine.ack(|rs| rs.in_flight = 2 * BDP);
        assert_eq!(machine.window.cwnd, most, "{state:?}: what acknowledgements are bunched by comes on top");
        machine.window.cwnd = 700_000;
        machine.ack(|rs| rs.in_flight = 2 * BDP);
        assert_eq!(machine.window.cwnd, 701_000);
    }
}

#[test]
fn the_window_of_before_a_repair_comes_back_when_it_is_over() {
    let mut machine = Machine::new(State::Cruise, 900_000);
    machine.bbr.on_loss(&mut machine.window, 900_000, MSS);
    machine.window.cwnd = 100_000;
    // A timeout within the repair does not forget it.
    machine.bbr.on_timeout(&mut machine.window, 100_000, MSS);
    assert_eq!(machine.window.cwnd, u32::from(MSS));
    machine.ack(|rs| rs.is_recovering = true);
    assert!(machine.window.cwnd <= 5_000, "{:?}", machine.window);
    machine.ack(|_| {});
    assert_eq!(machine.window.cwnd, 901_000);
    // The next one has nothing to do with it.
    machine.window.cwnd = 300_000;
    machine.ack(|_| {});
    assert_eq!(machine.window.cwnd, 301_000);
    machine.bbr.on_loss(&mut machine.window, 300_000, MSS);
    machine.window.cwnd = 50_000;
    machine.ack(|_| {});
    assert_eq!(machine.window.cwnd, 302_000);
}

#[test]
fn in_startup_the_rate_only_grows() {
    let mut machine = Machine::in_startup();
    assert_eq!(machine.bbr.pacing_rate, RATE * 277 / 100 * 99 / 100);
    let before = machine.bbr.pacing_rate;
    machine.bbr.bw = RATE / 2;
    machine.bbr.set_pacing_rate(277);
    assert_eq!(machine.bbr.pacing_rate, before);
    machine.bbr.is_full_bw_reached = true;
    machine.bbr.set_pacing_rate(100);
    assert_eq!(machine.bbr.pacing_rate, RATE / 200 * 99);
    machine.bbr.bw = 0;
    machine.bbr.set_pacing_rate(100);
    assert_eq!(machine.bbr.pacing_rate, RATE / 200 * 99, "no rate is known");
}

/// What MinPipeCwnd allows to be in flight: four segments in 50 ms.
#[test]
fn the_rate_is_never_below_what_is_always_allowed_in_flight() {
    let mut machine = Machine::new(State::Cruise, BDP);
    for (bw, rate) in [(10, 80_000), (80_000, 80_000), (100_000, 99_000)] {
        machine.bbr.bw = bw;
        machine.bbr.set_pacing_rate(100);
        assert_eq!(machine.bbr.pacing_rate, rate, "{bw}");
    }
    // All was sent twice, so that no round trip has been measured.
    machine.bbr.rtt = probe_rtt::MinRtt::new(Instant::from_nanos(machine.now_ns), 0);
    machine.bbr.bw = 10;
    machine.bbr.set_pacing_rate(100);
    assert_eq!(machine.bbr.pacing_rate, 4_000_000);
}
