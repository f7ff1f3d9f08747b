use std::net::Ipv4Addr;

use ringwire_proto::tcp::{
    ColdStore, Config, Cx, Payload, RecvTune, Seed, SegmentIn, SendBuf, SendPool, Totals,
};
use ringwire_wire::tcp::Header;

use super::*;

/// A machine that needs no memory.
struct Nothing;

impl Payload for Nothing {
    fn len(&self) -> usize {
        0
    }
    fn bytes(&self) -> &[u8] {
        &[]
    }
    fn advance(&mut self, _count: usize) {}
    fn truncate(&mut self, _len: usize) {}
}

impl SendBuf for Nothing {
    fn len(&self) -> usize {
        0
    }
    fn spare(&self) -> usize {
        0
    }
    fn append(&mut self, _bytes: &[u8]) -> usize {
        0
    }
    fn bytes(&self) -> &[u8] {
        &[]
    }
    fn in_ring(&self) -> bool {
        false
    }
}

impl SendPool for Nothing {
    type Buf = Nothing;
    fn alloc(&mut self) -> Option<Nothing> {
        None
    }
}

/// What is left of a connection that was opened and closed at once.
fn state() -> TimeWait {
    let (config, mut cold) = (Config::default(), ColdStore::<Nothing, Nothing>::new());
    let (tune, totals) = (&mut RecvTune::default(), &mut Totals::default());
    let mut cx = Cx { now: at(0), config: &config, cold: &mut cold, pool: &mut Nothing, tune, totals };
    let segment = |flags, seq, ack| SegmentIn {
        header: Header { flags, seq, ack, window: 100, ..Header::default() },
        ..SegmentIn::default()
    };
    let seed = Seed { iss: SeqNum(10), timestamp_offset: 0 };
    let mut tcb = Tcb::accept(&config, seed, &segment(Flags::SYN, 5, 0), at(0));
    while tcb.poll_transmit(&mut cx).is_some() {}
    let _ = tcb.on_segment(&mut cx, &segment(Flags::ACK, 6, 11), None);
    let _ = tcb.close(&mut cx);
    while tcb.poll_transmit(&mut cx).is_some() {}
    let _ = tcb.on_segment(&mut cx, &segment(Flags::FIN | Flags::ACK, 6, 12), None);
    assert!(tcb.time_wait().is_none(), "the last ACK has not left");
    while tcb.poll_transmit(&mut cx).is_some() {}
    tcb.time_wait().expect("both FINs are acknowledged")
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(1_000_000 + ms)
}

fn tuple(port: u16) -> Tuple {
    let (local, remote) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    Tuple { local, remote, local_port: 80, remote_port: port }
}

fn expired(waits: &mut TimeWaits, ms: u64) -> Vec<u16> {
    let mut ports = Vec::new();
    while let Some(slot) = waits.poll_expired(at(ms)) {
        ports.push(waits.remove(slot).unwrap().remote_port);
    }
    ports
}

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(1000);

#[test]
fn each_ends_in_its_time_and_the_deadline_is_that_of_the_first() {
    let mut waits = TimeWaits::new(10, at(0));
    assert_eq!(waits.next_deadline(), None);
    for (ms, port, lasts) in [(0, 1, LONG), (10, 2, SHORT), (20, 3, SHORT), (30, 4, LONG)] {
        waits.insert(tuple(port), state(), lasts, at(ms));
    }
    assert_eq!(expired(&mut waits, 50), [0_u16; 0]);
    assert_eq!(waits.next_deadline(), Some(at(111)));
    assert_eq!(expired(&mut waits, 110), [0_u16; 0]);
    assert_eq!(expired(&mut waits, 115), [2]);
    assert_eq!(expired(&mut waits, 1001), [3, 1]);
    assert_eq!(expired(&mut waits, 5000), [4]);
    assert_eq!((waits.len(), waits.next_deadline()), (0, None));
}

#[test]
fn a_restart_goes_to_the_end() {
    let mut waits = TimeWaits::new(10, at(0));
    let slots: Vec<u32> = (1..=3).map(|port| waits.insert(tuple(port), state(), SHORT, at(0))).collect();
    waits.restart(slots[0], at(50));
    assert_eq!(expired(&mut waits, 101), [2, 3]);
    waits.restart(slots[0], at(101));
    assert_eq!(expired(&mut waits, 201), [0_u16; 0]);
    assert_eq!(expired(&mut waits, 202), [1]);
}

#[test]
fn places_are_used_again_and_the_middle_can_go() {
    let mut waits = TimeWaits::new(3, at(0));
    let slots: Vec<u32> = (1..=3).map(|port| waits.insert(tuple(port), state(), SHORT, at(0))).collect();
    assert!(waits.is_full());
    waits.remove(slots[1]);
    assert_eq!(waits.insert(tuple(4), state(), SHORT, at(1)), slots[1]);
    assert_eq!(waits.entries.len(), 3);
    assert_eq!(waits.oldest(), Some(slots[0]));
    assert_eq!(expired(&mut waits, 500), [1, 3, 4]);
}

/// The clock of milliseconds turns.
#[test]
fn the_turn_of_the_clock_changes_nothing() {
    let turn = Instant::from_millis((1 << 32) - 50);
    let mut waits = TimeWaits::new(3, turn);
    waits.insert(tuple(1), state(), SHORT, turn);
    assert_eq!(waits.poll_expired(turn + Duration::from_millis(99)), None);
    assert_eq!(waits.next_deadline(), Some(turn + Duration::from_millis(101)));
    assert!(waits.poll_expired(turn + Duration::from_millis(101)).is_some());
}

/// However many times to wait there are, none ends early, and the search for the next stays short.
#[test]
fn many_different_times_share_a_few_queues() {
    let mut waits = TimeWaits::new(4096, at(0));
    for nth in 0..1000_u16 {
        // Longer and longer, and some in between.
        let lasts_ms = if nth % 2 == 0 { 1000 + 10 * u64::from(nth) } else { 500 + u64::from(nth) };
        waits.insert(tuple(nth), state(), Duration::from_millis(lasts_ms), at(0));
    }
    assert!(waits.queues.len() <= 64, "{} queues", waits.queues.len());
    let mut ended = vec![None; 1000];
    for ms in (0..12_000).step_by(5) {
        for port in expired(&mut waits, ms) {
            ended[usize::from(port)] = Some(ms);
        }
    }
    for (nth, ended_ms) in ended.into_iter().enumerate() {
        let lasts_ms = if nth % 2 == 0 { 1000 + 10 * nth as u64 } else { 500 + nth as u64 };
        assert!(ended_ms.is_some_and(|ms| ms > lasts_ms), "{nth}: {ended_ms:?} of {lasts_ms}");
    }
    assert_eq!(waits.len(), 0);
}

#[test]
fn a_queue_without_entries_serves_another_time() {
    let mut waits = TimeWaits::new(16, at(0));
    for nth in 0..1000 {
        waits.insert(tuple(1), state(), Duration::from_millis(10 + nth), at(nth * 2000));
        assert_eq!(expired(&mut waits, nth * 2000 + 1100), [1]);
    }
    assert_eq!(waits.queues.len(), 1);
}
