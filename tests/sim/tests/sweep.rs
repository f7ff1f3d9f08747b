//! The sweep over seeds. `SIM_SEED=N` replays one; `SIM_SEEDS=N` runs more than the default, as `SIM_SEEDS=FROM..TO` others.

use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use ringwire::KeepAlive;
use ringwire_capture::Recorder;
use ringwire_sim::{Impairment, Incident, LinkCounters, Loss, Plan, Report, run, run_recorded};

const DEFAULT_SEEDS: u64 = 2_000;

fn asked_for() -> Range<u64> {
    let Ok(text) = std::env::var("SIM_SEEDS") else { return 0..DEFAULT_SEEDS };
    let number = |text: &str| text.parse().expect("SIM_SEEDS is N or FROM..TO");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

/// A panic of an engine is a failure of its seed.
fn guarded<T>(seed: u64, run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("seed {seed}: panicked: {}", said.unwrap_or("without words")))
    })
}

/// Runs a seed again and writes its packets.
fn replay(plan: &Plan) -> (Result<Report, String>, PathBuf) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-seed-{}.pcapng", plan.seed));
    let file = BufWriter::new(File::create(&path).expect("the target directory can be written"));
    let names = ["server".to_owned(), "client".to_owned()];
    let application = concat!("ringwire-sim ", env!("CARGO_PKG_VERSION"));
    let recorder = Recorder::new(Box::new(file), application, &names, &format!("{plan:?}")).expect("a file");
    let result = guarded(plan.seed, || {
        let (result, recorder) = run_recorded(plan, Some(recorder));
        recorder.expect("it is handed back").finish().expect("the file can be written");
        result
    });
    (result, path)
}

fn complain(seed: u64, error: &str) -> String {
    let (_, path) = replay(&Plan::from_seed(seed));
    format!(
        "{error}\n  packets: {}\n  replay: SIM_SEED={seed} cargo test -p ringwire-sim --test sweep seeds -- --nocapture",
        path.display()
    )
}

#[derive(Default)]
struct Sums {
    link: LinkCounters,
    /// In how many runs each of those happened at all. A few runs make most of the packets, so that only this grows with their number.
    runs: LinkCounters,
    /// Runs in which an application was told of an end.
    told: u64,
    /// Connections that were given up for want of frames.
    given_up: u64,
    /// Connections that nobody answered.
    unanswered: u64,
    /// Connections that a server did not know any more.
    forgotten: u64,
    /// Connections that began with the text of a SYN.
    fast_opened: u64,
    /// Transfers that took longer than usual.
    unusual: u64,
    /// Of the time that was allowed, the largest part that was taken.
    slowest: (f64, u64),
}

impl Sums {
    fn add(&mut self, seed: u64, report: &Report) {
        let (sum, runs, one) = (&mut self.link, &mut self.runs, &report.link);
        for (sum, runs, one) in [
            (&mut sum.packets, &mut runs.packets, one.packets),
            (&mut sum.lost, &mut runs.lost, one.lost),
            (&mut sum.overflowed, &mut runs.overflowed, one.overflowed),
            (&mut sum.reordered, &mut runs.reordered, one.reordered),
            (&mut sum.duplicated, &mut runs.duplicated, one.duplicated),
            (&mut sum.corrupted, &mut runs.corrupted, one.corrupted),
            (&mut sum.marked, &mut runs.marked, one.marked),
            (&mut sum.too_big, &mut runs.too_big, one.too_big),
            (&mut sum.swallowed, &mut runs.swallowed, one.swallowed),
            (&mut sum.unplugged, &mut runs.unplugged, one.unplugged),
            (&mut sum.wrapped, &mut runs.wrapped, one.wrapped),
        ] {
            *sum += one;
            *runs += u64::from(one > 0);
        }
        self.fast_opened += u64::from(report.fast_opened > 0);
        self.told += u64::from(report.told.iter().any(Option::is_some));
        self.given_up += report.given_up;
        self.unanswered += report.unanswered;
        self.forgotten += report.forgotten;
        self.unusual += u64::from(report.took > report.allowed.usual);
        let part = report.took.as_secs_f64() / report.allowed.longest.as_secs_f64();
        if part > self.slowest.0 {
            self.slowest = (part, seed);
        }
    }

    /// Every part of the link has done its worst, and yet nearly all transfers were as fast as is usual. The shares of runs are those of
    /// 20,000 seeds; fewer runs may be as far from them as chance alone takes them.
    fn check(&self, runs: u64) {
        let of = &self.runs;
        let shares = [
            ("lost", of.lost, 0.56),
            ("overflowed", of.overflowed, 0.017),
            ("reordered", of.reordered, 0.29),
            ("duplicated", of.duplicated, 0.29),
            ("corrupted", of.corrupted, 0.25),
            ("marked", of.marked, 0.07),
            ("too big", of.too_big, 0.048),
            ("swallowed", of.swallowed, 0.07),
            ("unplugged", of.unplugged, 0.079),
            ("wrapped", of.wrapped, 0.05),
            ("told", self.told, 0.075),
            ("forgotten", self.forgotten, 0.038),
        ];
        for (name, count, share) in shares {
            let expected = share * runs as f64;
            // Five standard deviations of a rare event.
            let least = expected - 5.0 * expected.sqrt();
            assert!(count as f64 > least, "the link was too kind: {name} in {count} of {runs} runs, {of:?}");
        }
        // Nobody is told but where an end vanished or a connection was given up, of a hundred runs in one at most.
        assert!(self.told <= of.unplugged + self.given_up, "{} told in {of:?}", self.told);
        assert!(self.given_up <= runs / 100, "{} connections were given up", self.given_up);
        assert!(self.unanswered <= runs / 200, "{} connections were not answered", self.unanswered);
        assert!(self.fast_opened > runs / 10, "{} of {runs} began with the text of a SYN", self.fast_opened);
        assert!(
            self.unusual <= runs * 3 / 100,
            "{} of {runs} transfers were slower than usual",
            self.unusual
        );
    }
}

#[test]
fn streams_arrive_intact_over_thousands_of_seeds() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let plan = Plan::from_seed(seed.parse().expect("SIM_SEED is a number"));
        let (result, path) = replay(&plan);
        println!("{plan:#?}\n{result:#?}\n{}", path.display());
        result.expect("the seed passes");
        return;
    }
    // RFC 9293's figure of states is asserted where the engine changes state, and only so.
    let states_are_checked = cfg!(debug_assertions);
    assert!(
        states_are_checked,
        "the states are not looked at: add --config profile.release.debug-assertions=true"
    );
    let seeds = asked_for();
    let runs = seeds.end - seeds.start;
    let mut sums = Sums::default();
    let mut failures = Vec::new();
    for seed in seeds {
        match guarded(seed, || run(&Plan::from_seed(seed))) {
            Ok(report) => sums.add(seed, &report),
            Err(error) => failures.push((seed, error)),
        }
    }
    println!(
        "{runs} seeds: {:?} in {:?}, told {}, given up {}, unanswered {}, forgotten {}, unusual {}, slowest {:?}",
        sums.link,
        sums.runs,
        sums.told,
        sums.given_up,
        sums.unanswered,
        sums.forgotten,
        sums.unusual,
        sums.slowest
    );
    let said: Vec<String> = failures.iter().take(10).map(|(seed, error)| complain(*seed, error)).collect();
    let numbers: Vec<u64> = failures.iter().map(|(seed, _)| *seed).collect();
    assert!(failures.is_empty(), "{} of {runs} failed: {numbers:?}\n{}", failures.len(), said.join("\n"));
    if runs >= 1_000 {
        sums.check(runs);
    }
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for seed in 77..87 {
        let plan = Plan::from_seed(seed);
        assert_eq!(run(&plan), run(&plan));
    }
}

#[test]
fn sixty_four_frames_move_ten_megabytes_each_way() {
    let link = Impairment { delay: Duration::from_micros(50), ..Impairment::CLEAN };
    let plan = Plan { frames: 64, ..Plan::new(64, link, 10_000_000, 10_000_000) };
    run(&plan).unwrap();
}

/// A path of 100 ms: what limits is how fast the windows and the buffers open.
#[test]
fn a_long_path_is_filled() {
    let link = Impairment { delay: Duration::from_millis(50), ..Impairment::CLEAN };
    let plan = Plan { frames: 8192, ..Plan::new(100, link, 30_000_000, 0) };
    let report = run(&plan).unwrap();
    // With the first buffers of 256 KiB it would be twelve seconds.
    assert!(report.took < Duration::from_secs(6), "{report:?}");
}

/// The floor can be missed: the same transfer over a link that is worse than the plan says.
#[test]
fn a_transfer_that_is_slower_than_its_link_fails() {
    let honest = Impairment { delay: Duration::from_millis(10), rate_bps: 100_000_000, ..Impairment::CLEAN };
    run(&Plan::new(1, honest, 3_000_000, 0)).unwrap();
    let lossy = Impairment { loss: Loss::Random(0.05), ..honest };
    let took = run(&Plan::new(1, lossy, 3_000_000, 0)).unwrap().took;
    let allowed =
        ringwire_sim::floor::limits(&honest, 1500, 3_000_000, Plan::new(1, honest, 0, 0).window_bytes());
    assert!(took > allowed.longest, "{took:?} of {allowed:?}");
}

/// Everything had gone again when the MTU fell, and without timestamps nothing of it measured a round trip (Karn): the RTO was that of a
/// handshake that was repeated, and three acknowledgements in a row were lost. It is held to what every plan is held to.
#[test]
fn an_rto_that_nothing_measured_is_no_excuse() {
    let plan = Plan::from_seed(1_020_070);
    assert!(matches!(plan.incident, Incident::MtuFalls { .. }) && !plan.options.timestamps);
    let report = run(&plan).unwrap();
    assert!(report.took < report.allowed.longest && report.allowed.longest < Duration::from_secs(90));
}

#[test]
fn a_failing_seed_leaves_its_packets() {
    let link = Impairment { loss: Loss::Random(1.0), ..Impairment::CLEAN };
    let plan = Plan { incident: Incident::None, ..Plan::new(u64::MAX, link, 10, 10) };
    let (result, path) = replay(&plan);
    assert!(result.unwrap_err().starts_with("seed 18446744073709551615: "));
    assert!(std::fs::metadata(&path).unwrap().len() > 500);
    std::fs::remove_file(path).unwrap();
}

/// A path that swallows long packets without a word, both ways and at any size: a few timeouts later all of it arrives.
#[test]
fn a_black_hole_is_passed_both_ways() {
    for (seed, mtu) in [(1, 1300), (2, 1100), (3, 600)] {
        let delay = Duration::from_millis(5);
        let link = Impairment { delay, mtu, refuses_by_icmp: false, ..Impairment::CLEAN };
        let report = run(&Plan::new(seed, link, 500_000, 500_000)).unwrap();
        assert!(report.link.swallowed >= 4 && report.took < Duration::from_secs(15), "{report:?}");
    }
}

#[test]
fn sequence_numbers_wrap_in_both_directions_where_the_plan_says_so() {
    for seed in 1..=3 {
        let plan = Plan::new(seed, Impairment::CLEAN, 300_000, 300_000);
        assert_eq!(run(&plan).unwrap().link.wrapped, 0);
        let report = run(&Plan { wraps: true, ..plan }).unwrap();
        assert_eq!(report.link.wrapped, 2, "{report:?}");
    }
}

/// An end that the plan does not excuse: the client's patience is shorter than a fade of the link.
#[test]
fn a_connection_that_ends_without_excuse_fails() {
    let fades = Loss::Bursts { interval: Duration::from_millis(20), length: Duration::from_secs(60) };
    let link = Impairment { loss: fades, rate_bps: 10_000_000, ..Impairment::CLEAN };
    let mut plan = Plan::new(1, link, 1_000_000, 0);
    plan.options.user_timeout = Some(Duration::from_secs(1));
    let (time, interval) = (Duration::from_secs(5), Duration::from_secs(1));
    plan.options.keepalive = Some(KeepAlive { time, interval, retries: 3 });
    let error = run(&plan).unwrap_err();
    assert!(error.contains("cut off for no reason") && error.contains("TimedOut"), "{error}");
    // The same before the time at which the other end vanishes.
    plan.incident = Incident::Vanishes { at: Duration::from_secs(1_000) };
    let error = run(&plan).unwrap_err();
    assert!(error.contains("cut off for no reason") && error.contains("TimedOut"), "{error}");
    // A server that starts again has to say so; that the next connection may be luckier excuses nothing.
    plan.incident = Incident::Restarts { at: Duration::from_millis(100) };
    let error = run(&plan).unwrap_err();
    assert!(error.contains("cut off for no reason") && error.contains("TimedOut"), "{error}");
}
