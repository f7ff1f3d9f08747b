use std::collections::BTreeMap;
use std::vec::Vec;

use core::time::Duration;
use proptest::prelude::*;

use super::*;

fn drain(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
    let mut fired: Vec<u32> = core::iter::from_fn(|| wheel.poll_expired(now)).collect();
    fired.sort_unstable();
    fired
}

/// The behaviour that [`Wheel`] promises, in its most obvious form.
#[derive(Default)]
struct Model {
    deadlines: BTreeMap<u32, Instant>,
}

impl Model {
    /// Checks what fired against the promises and forgets it.
    fn expire(&mut self, now: Instant, fired: &[u32]) {
        for id in fired {
            let deadline =
                self.deadlines.remove(id).unwrap_or_else(|| panic!("{id} fired without being armed"));
            assert!(deadline <= now, "{id} fired {:?} early", deadline.saturating_since(now));
        }
        for (id, deadline) in &self.deadlines {
            assert!(*deadline + Wheel::TICK > now, "{id} is more than a tick late");
        }
    }

    fn check_next(&self, wheel: &Wheel, now: Instant) {
        let next = wheel.next_deadline();
        if let Some(earliest) = self.deadlines.values().min() {
            let next = next.expect("something is armed");
            assert!(next <= *earliest + Wheel::TICK, "sleeping past a deadline");
        }
        if let Some(next) = next {
            assert!(next > now, "a drained wheel must not ask to be polled again at once");
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Arm { id: u32, in_ns: u64 },
    Cancel { id: u32 },
    Advance { by_ns: u64 },
    SleepUntilNext,
}

/// Spans from below a tick to beyond the top level's slots.
fn span_ns() -> impl Strategy<Value = u64> {
    (0u32..60, any::<u64>()).prop_map(|(bits, random)| random & ((1u64 << bits) - 1))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u32..24, span_ns()).prop_map(|(id, in_ns)| Op::Arm { id, in_ns }),
        2 => (0u32..24).prop_map(|id| Op::Cancel { id }),
        4 => span_ns().prop_map(|by_ns| Op::Advance { by_ns }),
        3 => Just(Op::SleepUntilNext),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn agrees_with_the_model(start_ns in span_ns(), ops in prop::collection::vec(op(), 1..120)) {
        let mut now = Instant::from_nanos(start_ns);
        let mut wheel = Wheel::new(now);
        let mut model = Model::default();
        for op in ops {
            match op {
                Op::Arm { id, in_ns } => {
                    wheel.arm(id, now.add_nanos(in_ns));
                    model.deadlines.insert(id, now.add_nanos(in_ns));
                    continue;
                }
                Op::Cancel { id } => {
                    wheel.cancel(id);
                    model.deadlines.remove(&id);
                    continue;
                }
                Op::Advance { by_ns } => now = now.add_nanos(by_ns),
                Op::SleepUntilNext => now = wheel.next_deadline().unwrap_or(now).max(now),
            }
            let fired = drain(&mut wheel, now);
            model.expire(now, &fired);
            model.check_next(&wheel, now);
        }
    }

    /// Arming between two polls of one batch, as a connection does when its timer fired.
    #[test]
    fn agrees_with_the_model_when_armed_while_expiring(
        deadlines in prop::collection::vec(span_ns(), 1..40), again in prop::collection::vec(span_ns(), 40), steps in 1u64..50,
    ) {
        let mut wheel = Wheel::new(Instant::ZERO);
        let mut model = Model::default();
        let last = deadlines.iter().max().copied().unwrap_or(0);
        for (id, at_ns) in (0u32..).zip(&deadlines) {
            wheel.arm(id, Instant::from_nanos(*at_ns));
            model.deadlines.insert(id, Instant::from_nanos(*at_ns));
        }
        let mut again = again.into_iter();
        for step in 1..=steps {
            let now = Instant::from_nanos(last / steps * step);
            while let Some(id) = wheel.poll_expired(now) {
                let deadline = model.deadlines.remove(&id).expect("armed");
                prop_assert!(deadline <= now);
                if let Some(in_ns) = again.next() {
                    wheel.arm(id, now.add_nanos(in_ns));
                    model.deadlines.insert(id, now.add_nanos(in_ns));
                }
            }
            model.expire(now, &[]);
            model.check_next(&wheel, now);
        }
    }
}

#[test]
fn fires_within_one_tick_and_never_before_the_deadline() {
    for deadline_ns in [1, TICK_NS - 1, TICK_NS, TICK_NS + 1, 40 * 1_000_000, 200 * 1_000_000 + 7] {
        let deadline = Instant::from_nanos(deadline_ns);
        let mut wheel = Wheel::new(Instant::ZERO);
        wheel.arm(0, deadline);
        let mut now = Instant::ZERO;
        while wheel.poll_expired(now).is_none() {
            now = now.add_nanos(1_000);
        }
        assert!(
            now >= deadline && now <= deadline + Wheel::TICK + Duration::from_micros(1),
            "{deadline_ns}: {now:?}"
        );
    }
}

#[test]
fn a_jump_of_a_century_costs_the_timers_it_passes() {
    const YEAR_SECS: u64 = 365 * 24 * 3600;
    let mut wheel = Wheel::new(Instant::ZERO);
    for id in 0..1_000u32 {
        wheel.arm(id, Instant::from_secs(YEAR_SECS * u64::from(id) / 10));
    }
    assert_eq!(drain(&mut wheel, Instant::from_secs(101 * YEAR_SECS)).len(), 1_000);
    assert_eq!(wheel.next_deadline(), None);
}

#[test]
fn a_recycled_id_fires_only_for_its_new_owner() {
    let mut wheel = Wheel::new(Instant::ZERO);
    wheel.arm(3, Instant::from_millis(10));
    wheel.cancel(3);
    assert!(drain(&mut wheel, Instant::from_millis(5)).is_empty());
    wheel.arm(3, Instant::from_millis(30));
    assert!(drain(&mut wheel, Instant::from_millis(20)).is_empty(), "the first owner's deadline");
    assert_eq!(drain(&mut wheel, Instant::from_millis(31)), [3]);
    assert!(drain(&mut wheel, Instant::from_secs(10)).is_empty(), "fires once");
}

#[test]
fn arming_later_leaves_the_queue_alone_and_arming_earlier_moves() {
    let mut wheel = Wheel::new(Instant::ZERO);
    wheel.arm(0, Instant::from_millis(200));
    let home = wheel.nodes[0].home();
    for ms in 201..2_000 {
        wheel.arm(0, Instant::from_millis(ms));
        assert_eq!(wheel.nodes[0].home(), home);
    }
    wheel.arm(0, Instant::from_millis(1));
    assert_ne!(wheel.nodes[0].home(), home);
    assert_eq!(drain(&mut wheel, Instant::from_millis(2)), [0]);
}

#[test]
fn cancelled_timers_leave_the_queue_by_themselves() {
    let mut wheel = Wheel::new(Instant::ZERO);
    for id in 0..100 {
        wheel.arm(id, Instant::from_millis(u64::from(id)));
        wheel.cancel(id);
    }
    assert!(drain(&mut wheel, Instant::from_secs(1)).is_empty());
    assert_eq!(wheel.next_deadline(), None);
    assert_eq!(wheel.occupied, [0; LEVEL_COUNT]);
}

#[test]
fn the_steady_state_allocates_nothing() {
    let mut wheel = Wheel::with_capacity(Instant::ZERO, 64);
    let capacity = wheel.nodes.capacity();
    let mut now = Instant::ZERO;
    for round in 0..10_000u32 {
        wheel.arm(round % 64, now + Duration::from_micros(u64::from(round % 977) * 100));
        now += Duration::from_micros(50);
        while wheel.poll_expired(now).is_some() {}
    }
    assert_eq!(wheel.nodes.capacity(), capacity);
}

#[test]
fn the_end_of_time_is_never_reached() {
    let mut wheel = Wheel::new(Instant::ZERO);
    wheel.arm(0, Instant::from_millis(1));
    wheel.arm(0, Instant::MAX);
    assert!(drain(&mut wheel, Instant::MAX).is_empty());
    wheel.arm(1, Instant::from_nanos(u64::MAX - TICK_NS));
    assert_eq!(drain(&mut wheel, Instant::MAX), [1]);
}
