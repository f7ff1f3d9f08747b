//! A path of given rate and round trip without a stack around it: one acknowledgement for each segment.

mod parts;
mod steps;

use super::*;

const MSS: u16 = 1000;
const RTT_NS: u64 = 50_000_000;
/// 10 MB/s: 500 segments in a round trip.
const RATE: u64 = 10_000_000;

/// What is known when a segment leaves, and when its acknowledgement comes.
struct Segment {
    prior_delivered: u64,
    in_flight: u32,
    sent_at: u64,
    acked_at: u64,
}

/// A sender with always something to send, and a bottleneck with a queue.
struct Path {
    bbr: Bbr,
    window: Window,
    rate: u64,
    now_ns: u64,
    next_send_ns: u64,
    link_free_ns: u64,
    delivered: u64,
    flying: std::collections::VecDeque<Segment>,
    longest_queue_ns: u64,
    last_ack_ns: u64,
}

impl Path {
    fn new() -> Self {
        let window = Window::initial(MSS, 10);
        let now = Instant::from_nanos(SECOND_NS);
        Self {
            bbr: Bbr::new(now, 7, (window.cwnd, 50_000)),
            window,
            rate: RATE,
            now_ns: SECOND_NS,
            next_send_ns: SECOND_NS,
            link_free_ns: 0,
            delivered: 0,
            flying: std::collections::VecDeque::new(),
            longest_queue_ns: 0,
            last_ack_ns: SECOND_NS,
        }
    }

    fn in_flight(&self) -> u32 {
        self.flying.len() as u32 * u32::from(MSS)
    }

    fn send(&mut self) {
        self.next_send_ns =
            self.now_ns.max(self.next_send_ns) + u64::from(MSS) * SECOND_NS / self.bbr.pacing_rate;
        let leaves_ns = self.now_ns.max(self.link_free_ns) + u64::from(MSS) * SECOND_NS / self.rate;
        self.longest_queue_ns = self.longest_queue_ns.max(leaves_ns - self.now_ns);
        self.link_free_ns = leaves_ns;
        self.flying.push_back(Segment {
            prior_delivered: self.delivered,
            in_flight: self.in_flight() + u32::from(MSS),
            sent_at: self.now_ns,
            acked_at: leaves_ns + RTT_NS,
        });
    }

    fn acknowledge(&mut self, change: impl Fn(&mut RateSample)) {
        let Some(segment) = self.flying.pop_front() else { return };
        self.delivered += u64::from(MSS);
        let delivered = self.delivered - segment.prior_delivered;
        let interval_ns = (self.now_ns - segment.sent_at).max(1);
        let mut rs = RateSample {
            delivery_rate: delivered * SECOND_NS / interval_ns,
            delivered,
            prior_delivered: Some(segment.prior_delivered),
            total_delivered: self.delivered,
            newly_acked: u64::from(MSS),
            sent_in_flight: segment.in_flight,
            rtt_ns: Some(self.now_ns - segment.sent_at),
            in_flight: self.in_flight(),
            is_cwnd_limited: self.in_flight() + 2 * u32::from(MSS) > self.window.cwnd,
            mss: MSS,
            ..RateSample::new(Instant::from_nanos(self.now_ns))
        };
        change(&mut rs);
        self.last_ack_ns = self.now_ns;
        self.bbr.on_sample(&mut self.window, &rs);
    }

    /// So much time; which states it was in.
    fn run(&mut self, ns: u64, change: impl Fn(&mut RateSample)) -> std::vec::Vec<State> {
        let end_ns = self.now_ns + ns;
        let mut states = std::vec![self.bbr.state];
        while self.now_ns < end_ns {
            let may_send = self.in_flight() + u32::from(MSS) <= self.window.cwnd;
            let acked_at = self.flying.front().map_or(u64::MAX, |segment| segment.acked_at);
            if may_send && self.next_send_ns.max(self.now_ns) <= acked_at {
                self.now_ns = self.now_ns.max(self.next_send_ns);
                self.send();
            } else {
                self.now_ns = self.now_ns.max(acked_at);
                self.acknowledge(&change);
            }
            if states.last() != Some(&self.bbr.state) {
                states.push(self.bbr.state);
            }
        }
        states
    }
}

#[test]
fn the_states_follow_the_drafts_figure_and_the_rate_is_found() {
    let mut path = Path::new();
    let states = path.run(4 * SECOND_NS, |_| {});
    // Down is over at once where Drain has done its work.
    assert_eq!(states[..2], [State::Startup, State::Drain], "{states:?}");
    let cycle = [State::Cruise, State::Refill, State::Up, State::Down];
    assert!(states.windows(4).any(|seen| seen == cycle), "{states:?}");
    let bw = path.bbr.bw;
    assert!((RATE * 95 / 100..=RATE * 105 / 100).contains(&bw), "{bw}");
    assert_eq!(path.bbr.rtt.min_ns().map(|ns| ns / 1_000_000), Some(50));
    // Two products of rate and round trip, and what acknowledgements may be bunched by.
    assert!((1_000_000..1_300_000).contains(&path.window.cwnd), "{:?}", path.window);
}

#[test]
fn the_round_trip_is_probed_every_five_seconds_with_half_a_window() {
    let mut path = Path::new();
    // A queue that never empties hides the round trip: each sample a little longer than the last.
    let states =
        path.run(17 * SECOND_NS, |rs| rs.rtt_ns = rs.rtt_ns.map(|ns| ns + rs.now.as_nanos() / 10_000));
    let probes = states.iter().filter(|state| **state == State::ProbeRtt).count();
    assert_eq!(probes, 3, "{states:?}");
    let after = states.iter().position(|state| *state == State::ProbeRtt).and_then(|at| states.get(at + 1));
    assert_eq!(after, Some(&State::Cruise));
}

#[test]
fn a_slower_path_is_believed_after_two_cycles() {
    let mut path = Path::new();
    path.run(4 * SECOND_NS, |_| {});
    path.rate = RATE / 2;
    path.run(10 * SECOND_NS, |_| {});
    let bw = path.bbr.bw;
    assert!((RATE * 45 / 100..=RATE * 56 / 100).contains(&bw), "{bw}");
    path.rate = RATE;
    path.run(12 * SECOND_NS, |_| {});
    assert!(path.bbr.bw >= RATE * 90 / 100, "and a faster one is found: {}", path.bbr.bw);
}

#[test]
fn loss_while_cruising_bounds_rate_and_window_by_what_arrived() {
    let mut path = Path::new();
    path.run(4 * SECOND_NS, |_| {});
    while path.bbr.state != State::Cruise {
        path.run(1_000_000, |_| {});
    }
    let before = path.window.cwnd;
    path.run(3 * RTT_NS, |rs| rs.newly_lost = 10);
    assert_eq!(path.bbr.state, State::Cruise);
    assert!(path.bbr.short.bw <= path.bbr.max_bw.get() && path.bbr.short.inflight < before);
    assert!(path.bbr.short.bw >= RATE * 90 / 100, "by no more than what was lost: {}", path.bbr.short.bw);
    assert_eq!(path.bbr.inflight_longterm, INFINITE, "the long-term model is for probes");
}

#[test]
fn too_much_loss_ends_a_probe_and_is_remembered() {
    let mut path = Path::new();
    path.run(2 * SECOND_NS, |_| {});
    while !(path.bbr.state == State::Up && path.bbr.cycle.is_probe_sample) {
        path.run(1_000_000, |_| {});
    }
    let evidence = super::super::LossEvidence {
        lost_since: 20_000,
        in_flight: 600_000,
        len: 1000,
        is_app_limited: false,
    };
    assert!(super::super::LossEvidence::is_too_much(20_000, 600_000));
    path.acknowledge(|rs| (rs.newly_lost, rs.evidence) = (20_000, Some(evidence)));
    assert!(matches!(path.bbr.state, State::Down | State::Cruise), "{:?}", path.bbr.state);
    assert_eq!(path.bbr.inflight_longterm, 599_000, "before the segment that was one too many");
    path.run(SECOND_NS, |_| {});
    assert!(path.window.cwnd <= 599_000, "{:?}", path.window);
    // It was spurious: what was left is gone back to.
    path.bbr.on_undo(&mut path.window);
    assert_eq!((path.bbr.state, path.bbr.inflight_longterm), (State::Refill, INFINITE));
}

#[test]
fn loss_in_many_places_ends_startup_and_chance_does_not() {
    for (ranges, lost, ends) in [(1, 100_000, false), (6, 100, false), (6, 100_000, true)] {
        let mut path = Path::new();
        path.run(3 * RTT_NS, |_| {});
        path.run(2 * RTT_NS, |rs| {
            (rs.newly_lost, rs.lost, rs.is_recovering) = (1, lost, true);
            rs.lost_ranges = u32::from(rs.prior_delivered.is_some_and(|prior| prior % 7_000 == 0)) * ranges;
            if ranges == 1 {
                rs.lost_ranges = 0;
            }
        });
        assert_eq!(path.bbr.state != State::Startup, ends, "{ranges} {lost}");
    }
}

#[test]
fn a_mark_ends_startup() {
    let mut path = Path::new();
    path.run(3 * RTT_NS, |_| {});
    assert_eq!(path.bbr.state, State::Startup);
    path.bbr.on_mark();
    path.run(RTT_NS / 10, |_| {});
    assert_eq!(path.bbr.state, State::Drain);
}

#[test]
fn what_the_application_did_not_send_says_nothing_of_the_path() {
    let mut path = Path::new();
    path.run(4 * SECOND_NS, |_| {});
    let bw = path.bbr.bw;
    path.run(12 * SECOND_NS, |rs| {
        rs.is_app_limited = true;
        rs.delivery_rate /= 10;
    });
    assert_eq!(path.bbr.bw, bw);
    // After silence it goes on at the rate it knows, at once.
    let now = Instant::from_nanos(path.now_ns + SECOND_NS);
    assert_eq!(path.bbr.on_restart(&mut path.window, now), bw * 99 / 100);
}

#[test]
fn startup_ends_after_three_rounds_without_a_quarter_more() {
    let mut bbr = Path::new().bbr;
    let mut round = |rate: u64, is_app_limited: bool| {
        bbr.round.is_start = true;
        let now = Instant::from_nanos(SECOND_NS);
        bbr.check_full_bw(&RateSample { delivery_rate: rate, is_app_limited, ..RateSample::new(now) });
        bbr.is_full_bw_reached
    };
    let rates = [1_000, 1_249, 1_249, 1_250, 1_300, 1_562];
    assert!(rates.iter().all(|rate| !round(*rate, false)), "a quarter more begins the count anew");
    assert!(!round(1_000, true), "what the application did not send does not count");
    assert!(round(1_562, false), "the third");
}

#[test]
fn each_state_has_the_gains_of_the_draft() {
    let mut path = Path::new();
    let mut seen = std::vec::Vec::new();
    for _ in 0..4_000 {
        path.run(1_000_000, |_| {});
        let bbr = &path.bbr;
        if !bbr.is_full_bw_reached || !bbr.state.is_probe_bw() {
            continue;
        }
        let percent = bbr.pacing_rate * 100 / bbr.bw;
        let expected = match bbr.state {
            State::Up => 123..=124,
            State::Down => 89..=90,
            State::Startup | State::Drain | State::Cruise | State::Refill | State::ProbeRtt => 98..=99,
        };
        assert!(expected.contains(&percent), "a hundredth below the gain: {:?} {percent}", bbr.state);
        seen.push(bbr.state);
    }
    for state in [State::Up, State::Cruise, State::Refill] {
        assert!(seen.contains(&state), "{state:?}");
    }
    let first = Bbr::new(Instant::from_nanos(SECOND_NS), 7, (10_000, 50_000));
    assert_eq!(
        first.pacing_rate,
        10_000 * 20 * 277 / 100,
        "the first window in a round trip, times the gain"
    );
}

#[test]
fn drain_ends_when_what_startup_queued_is_gone() {
    let mut path = Path::new();
    while path.bbr.state == State::Startup {
        path.run(1_000_000, |_| {});
    }
    let bdp = (RATE * RTT_NS / SECOND_NS) as u32;
    assert!(path.in_flight() > bdp * 3 / 2, "{}", path.in_flight());
    while path.bbr.state == State::Drain {
        assert!(path.bbr.pacing_rate < path.bbr.bw * 51 / 100);
        path.run(1_000_000, |_| {});
    }
    assert!(path.in_flight() <= path.bbr.inflight(100, &path.window), "{} {bdp}", path.in_flight());
}

#[test]
fn bandwidth_is_probed_after_two_to_three_seconds() {
    let mut path = Path::new();
    let (mut waits_ms, mut was) = (std::vec::Vec::new(), path.bbr.state);
    while path.now_ns < 40 * SECOND_NS {
        path.run(1_000_000, |_| {});
        if path.bbr.state == State::Refill && was != State::Refill {
            let since = path.bbr.cycle.since;
            waits_ms.push(Instant::from_nanos(path.now_ns).nanos_since(since) / 1_000_000);
        }
        was = path.bbr.state;
    }
    assert!(waits_ms.len() >= 8, "{waits_ms:?}");
    assert!(waits_ms.iter().all(|wait_ms| (2_000..=3_010).contains(wait_ms)), "{waits_ms:?}");
    let spread_ms = waits_ms.iter().max().unwrap() - waits_ms.iter().min().unwrap();
    assert!(spread_ms > 100, "at random: {waits_ms:?}");
}

#[test]
fn probe_rtt_takes_a_fifth_of_a_second_at_half_a_window_and_gives_it_back() {
    let mut path = Path::new();
    path.run(4 * SECOND_NS, |_| {});
    let rising = |rs: &mut RateSample| rs.rtt_ns = rs.rtt_ns.map(|ns| ns + rs.now.as_nanos() / 10_000);
    while path.bbr.state != State::ProbeRtt {
        path.run(1_000_000, rising);
    }
    let (began_ns, before, mut least) = (path.now_ns, path.bbr.prior_cwnd, u32::MAX);
    while path.bbr.state == State::ProbeRtt {
        path.run(1_000_000, rising);
        least = least.min(path.in_flight());
    }
    let took_ms = (path.now_ns - began_ns) / 1_000_000;
    assert!((200..=400).contains(&took_ms), "{took_ms}");
    let half = path.bbr.bdp(50, &path.window);
    assert!(least <= half + u32::from(MSS) && least >= half / 2, "{least} of {half}");
    assert!(path.window.cwnd >= before, "{:?} {before}", path.window);
}

#[test]
fn the_shortest_round_trip_is_forgotten_after_ten_seconds() {
    let mut path = Path::new();
    path.run(2 * SECOND_NS, |_| {});
    let longer = |rs: &mut RateSample| rs.rtt_ns = rs.rtt_ns.map(|ns| ns.max(2 * RTT_NS));
    path.run(7 * SECOND_NS, longer);
    assert_eq!(path.bbr.rtt.min_ns().map(|ns| ns / 1_000_000), Some(50));
    path.run(8 * SECOND_NS, longer);
    assert_eq!(path.bbr.rtt.min_ns().map(|ns| ns / 1_000_000), Some(100));
}

#[test]
fn two_per_cent_of_loss_are_borne() {
    assert!(!super::super::LossEvidence::is_too_much(12_000, 600_000));
    assert!(super::super::LossEvidence::is_too_much(12_001, 600_000));
}

#[test]
fn the_window_has_four_segments_at_least_and_one_after_a_timeout() {
    let mut path = Path::new();
    path.rate = 20_000;
    path.run(20 * SECOND_NS, |_| {});
    assert!(path.window.cwnd >= 4 * u32::from(MSS), "{:?}", path.window);
    let before = path.window.cwnd;
    path.bbr.on_timeout(&mut path.window, before, MSS);
    assert_eq!(path.window.cwnd, u32::from(MSS));
    // The repair is over: the window of before is given back.
    path.acknowledge(|rs| rs.is_recovering = false);
    assert!(path.window.cwnd >= before.min(path.bbr.bdp(200, &path.window)), "{:?} {before}", path.window);
}
