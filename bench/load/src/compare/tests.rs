//! The comparison over contenders whose speed is made up.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::cpu::CoreUse;
use crate::meter::{Ended, Measured};
use crate::report::{Errors, Latency, Origin};
use crate::scenario::Scenario;
use crate::stats::Verdict;

const TCP_ROW: Row = Row { work: Work::TcpRr, in_flight: 1 };
const UDP_ROW: Row = Row { work: Work::UdpRr, in_flight: 64 };

struct Fake {
    name: &'static str,
    only_udp: bool,
    /// Fails to start in these starts.
    broken: Vec<usize>,
    starts: usize,
    running: Rc<RefCell<Vec<&'static str>>>,
}

struct FakeRunning(Rc<RefCell<Vec<&'static str>>>);

impl Running for FakeRunning {
    fn target(&self) -> SocketAddr {
        ([10, 0, 0, 1], self.0.borrow().len() as u16).into()
    }
}

impl Drop for FakeRunning {
    fn drop(&mut self) {
        self.0.borrow_mut().pop();
    }
}

impl Contender for Fake {
    fn name(&self) -> &str {
        self.name
    }

    fn serves(&self, work: Work) -> bool {
        !self.only_udp || work == Work::UdpRr
    }

    fn start(&mut self, _: &Row) -> Result<Box<dyn Running>, String> {
        self.starts += 1;
        if self.broken.contains(&self.starts) {
            return Err("does not start".to_owned());
        }
        self.running.borrow_mut().push(self.name);
        Ok(Box::new(FakeRunning(Rc::clone(&self.running))))
    }
}

/// Rates by name and round; notes who ran when it was asked.
struct FakeLoad {
    rate: fn(&str, usize) -> f64,
    running: Rc<RefCell<Vec<&'static str>>>,
    order: Vec<String>,
}

impl Generator for FakeLoad {
    fn measure(&mut self, target: SocketAddr, row: &Row, _: &Plan) -> Result<Report, String> {
        assert_eq!(target.port(), 1, "exactly one contender runs");
        let contender = self.running.borrow()[0];
        let round = self.order.iter().filter(|name| **name == *contender).count();
        self.order.push(contender.to_owned());
        let requests = (self.rate)(contender, round) as u64;
        let core = |cpu, busy_ratio| CoreUse {
            cpu,
            user: 0.1,
            system: 0.1,
            softirq: 0.2,
            irq: 0.0,
            steal: 0.0,
            busy_ratio,
        };
        let measured = Measured {
            ended: Ended::Complete,
            duration_ns: 1_000_000_000,
            requests,
            latency: Latency { p50: 10_000, p99: 40_000_000_000 / requests, ..Latency::default() },
            loop_gap: Latency::default(),
            errors: Errors { corrupt: u64::from(contender == "liar"), ..Errors::default() },
            late_answers: 0,
            cores: vec![core(0, 0.5), core(1, 1.0)],
            intervals: Vec::new(),
        };
        let scenario = Scenario::new(row.work, ([10, 0, 0, 1], 9000).into());
        Ok(Report::new(&scenario, measured, Origin::default()))
    }
}

fn compare(
    contenders: &[(&'static str, bool, &[usize])],
    rate: fn(&str, usize) -> f64,
    rows: Vec<Row>,
) -> (Comparison, Vec<String>) {
    let running = Rc::default();
    let mut boxed: Vec<Box<dyn Contender>> = Vec::new();
    for (name, only_udp, broken) in contenders {
        boxed.push(Box::new(Fake {
            name,
            only_udp: *only_udp,
            broken: broken.to_vec(),
            starts: 0,
            running: Rc::clone(&running),
        }));
    }
    let mut load = FakeLoad { rate, running, order: Vec::new() };
    let plan = Plan {
        rows,
        rounds: 3,
        duration: Duration::from_secs(1),
        warmup: Duration::ZERO,
        size_bytes: 64,
        references: vec!["kernel".to_owned(), "bare".to_owned()],
        server_cpu: 0,
        client_cpu: 1,
    };
    let comparison = run(&plan, &mut boxed, &mut load, &AtomicBool::new(false), |_| {});
    (comparison, load.order)
}

/// Everything halves from round to round, as on a machine that others use too.
fn drifting(name: &str, round: usize) -> f64 {
    let base = match name {
        "bare" => 400_000.0,
        "ours" => 360_000.0,
        _ => 100_000.0,
    };
    base / f64::from(1 << round)
}

#[test]
fn turns_interleave_and_ratios_stand_though_rates_drift() {
    let contenders = [("bare", true, &[][..]), ("ours", false, &[]), ("kernel", false, &[])];
    let (comparison, order) = compare(&contenders, drifting, vec![UDP_ROW]);
    assert_eq!(order.join(" "), "bare ours kernel bare ours kernel bare ours kernel");
    let to_kernel = comparison.ratio(&UDP_ROW, "ours", "kernel").unwrap();
    assert_eq!((to_kernel.rate.q1, to_kernel.rate.median, to_kernel.rate.q3), (3.6, 3.6, 3.6));
    assert_eq!(to_kernel.verdict, Verdict::Faster);
    assert!((to_kernel.p99.median - 1.0 / 3.6).abs() < 1e-4);
    let to_bare = comparison.ratio(&UDP_ROW, "ours", "bare").unwrap();
    assert_eq!((to_bare.rate.median, to_bare.verdict), (0.9, Verdict::Slower));
    assert!(comparison.valid);
}

#[test]
fn who_cannot_do_the_work_is_left_out_of_its_row() {
    let contenders = [("bare", true, &[][..]), ("ours", false, &[]), ("kernel", false, &[])];
    let (comparison, order) = compare(&contenders, drifting, vec![TCP_ROW]);
    assert!(!order.contains(&"bare".to_owned()));
    assert_eq!(comparison.rows[0].contenders.len(), 2);
    assert!(comparison.ratio(&TCP_ROW, "ours", "bare").is_none());
}

#[test]
fn a_round_that_failed_is_left_out_of_ratios_and_named() {
    let contenders = [("ours", false, &[2][..]), ("kernel", false, &[])];
    let (comparison, _) = compare(&contenders, |name, _| drifting(name, 0), vec![TCP_ROW]);
    let cell = &comparison.rows[0].contenders[0];
    assert_eq!(cell.rounds.iter().filter(|round| round.is_some()).count(), 2);
    assert_eq!(comparison.ratio(&TCP_ROW, "ours", "kernel").unwrap().rate.median, 3.6);
    assert!(!comparison.valid);
    assert!(comparison.to_string().contains("NOT VALID: tcp-rr 1, ours: does not start"));
}

#[test]
fn wrong_answers_make_it_invalid() {
    let contenders = [("liar", false, &[][..]), ("kernel", false, &[])];
    let (comparison, _) = compare(&contenders, drifting, vec![TCP_ROW]);
    assert!(!comparison.valid);
    assert!(comparison.to_string().contains("liar: 1 answers were not the request"));
}

#[test]
fn costs_are_core_time_over_requests() {
    let contenders = [("kernel", false, &[][..])];
    let (comparison, _) = compare(&contenders, |_, _| 100_000.0, vec![TCP_ROW]);
    let cell = &comparison.rows[0].contenders[0];
    assert_eq!(cell.server_cost.unwrap().busy_us, 5.0);
    assert_eq!(cell.client_cost.unwrap().busy_us, 10.0);
    assert_eq!(cell.client_cost.unwrap().softirq_us, 2.0);
}

#[test]
fn the_table_has_a_column_each_and_fits() {
    let contenders = [("bare", true, &[][..]), ("ours", false, &[]), ("kernel", false, &[])];
    let (comparison, _) = compare(&contenders, drifting, vec![UDP_ROW, TCP_ROW]);
    let text = comparison.to_string();
    assert!(text.contains("180,000 [90.0k..360k]"), "{text}");
    assert!(text.contains("3.60 [3.60..3.60]"), "{text}");
    assert!(text.contains("0.28 [0.28..0.28]") && text.contains("faster"), "{text}");
    let width = text.lines().map(str::len).max().unwrap();
    assert!(width <= LINE_LIMIT, "{width} columns\n{text}");
}

/// Three contenders on a usual terminal.
const LINE_LIMIT: usize = 100;

#[test]
fn json_names_itself_and_leaves_out_what_is_not_known() {
    let contenders = [("ours", false, &[1, 2, 3][..])];
    let (comparison, _) = compare(&contenders, drifting, vec![TCP_ROW]);
    let value = serde_json::to_value(&comparison).unwrap();
    assert_eq!(value["schema"], "ringwire.compare/1");
    assert_eq!(value["rows"][0]["work"], "tcp-rr");
    assert!(value["rows"][0]["contenders"][0].get("rate").is_none());
}
