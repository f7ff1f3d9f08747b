//! Every impairment on a live link, as the kernels at both ends see it.

mod pair;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use pair::Pair;
use ringwire_lab::{Carrier, Impairment};

/// Sends `count` numbered datagrams of `len` bytes and returns those that arrive, with when, for as long as some do.
fn cross(pair: &Pair, count: u32, len: usize) -> Vec<(u32, Instant)> {
    let Pair { a, b, link, .. } = pair;
    let receiver = b.run(|| UdpSocket::bind((link.addr(b), 9))).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let sender = a.run(|| UdpSocket::bind((link.addr(a), 0))).unwrap();
    sender.connect((link.addr(b), 9)).unwrap();
    let (mut bytes, mut arrived) = (vec![0; len], Vec::new());
    let mut room = vec![0; 65_536];
    for group in (0..count).collect::<Vec<_>>().chunks(64) {
        for number in group {
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            sender.send(&bytes).unwrap();
        }
        // The receiver's socket buffer must not be what loses them.
        std::thread::sleep(Duration::from_millis(1));
        receiver.set_nonblocking(true).unwrap();
        while let Ok(len) = receiver.recv(&mut room) {
            arrived.push((number(&room[..len]), Instant::now()));
        }
    }
    receiver.set_nonblocking(false).unwrap();
    while let Ok(len) = receiver.recv(&mut room) {
        arrived.push((number(&room[..len]), Instant::now()));
    }
    arrived
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// A pair that has resolved its addresses.
fn warm() -> Pair {
    let pair = Pair::new();
    assert_eq!(cross(&pair, 1, 8).len(), 1);
    pair
}

fn assert_balanced(pair: &Pair) {
    let counters = pair.link.counters(&pair.b).unwrap();
    assert_eq!(
        counters.received + counters.duplicated,
        counters.passed + counters.dropped + counters.waiting,
        "{counters:?}"
    );
    let unasked = [counters.unsendable, counters.overrun, counters.uncarried];
    assert_eq!(unasked, [0; 3], "{counters:?}");
}

#[test]
fn a_delay_is_a_delay_and_loses_nothing() {
    let pair = warm();
    let delay = Duration::from_millis(80);
    pair.link.impair(&pair.b, Impairment::default().delay(delay, Duration::ZERO)).unwrap();
    let start = Instant::now();
    let arrived = cross(&pair, 500, 100);
    let numbers: Vec<u32> = arrived.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>(), "in order, and all of them");
    assert!(arrived[0].1 - start >= delay, "{:?}", arrived[0].1 - start);
    let late = pair.link.lateness(&pair.b).unwrap();
    assert_eq!(late.count, 500);
    // The forwarder's timer is good to microseconds; what a busy machine adds is not its doing.
    assert!(late.p50 < Duration::from_millis(20), "{late:?}");
    assert_balanced(&pair);
}

#[test]
fn the_other_direction_is_untouched() {
    let pair = warm();
    pair.link.impair(&pair.a, Impairment::default().loss(1.0)).unwrap();
    assert_eq!(cross(&pair, 100, 100).len(), 100);
}

#[test]
fn copies_and_spoilt_packets() {
    let pair = warm();
    pair.link.impair(&pair.b, Impairment::default().duplicate(1.0)).unwrap();
    assert_eq!(cross(&pair, 100, 100).len(), 200);
    assert_balanced(&pair);
    pair.link.impair(&pair.b, Impairment::default().corrupt(1.0).seed(2)).unwrap();
    // A bit in a hardware address, a header or the payload: all of it fails some check, but for fields that nobody checks.
    let intact = cross(&pair, 200, 400).len();
    assert!(intact < 20, "{intact}");
    assert_eq!(pair.link.counters(&pair.b).unwrap().corrupted, 200);
}

#[test]
fn some_packets_overtake_others() {
    let pair = warm();
    let delay = Duration::from_millis(20);
    pair.link.impair(&pair.b, Impairment::default().delay(delay, Duration::ZERO).reorder(1.0, 5)).unwrap();
    let arrived = cross(&pair, 60, 100);
    assert_eq!(arrived.len(), 60);
    let first: Vec<u32> = arrived.iter().take(3).map(|(number, _)| *number).collect();
    assert_eq!(first, [4, 9, 14], "every fifth goes past the delay");
    assert_eq!(pair.link.counters(&pair.b).unwrap().reordered, 12);
}

#[test]
fn a_rate_is_kept_and_its_queue_is_bounded() {
    let pair = warm();
    // 1,042 bytes are 8,336 bits: 1 Mbit/s takes 8.3 ms for each.
    pair.link.impair(&pair.b, Impairment::default().rate(1_000_000, 10)).unwrap();
    let arrived = cross(&pair, 50, 1000);
    let counters = pair.link.counters(&pair.b).unwrap();
    assert!((10..=30).contains(&arrived.len()), "{counters:?}");
    assert_eq!(counters.over_limit, 50 - arrived.len() as u64);
    let last = arrived.len() - 1;
    let took = arrived[last].1 - arrived[0].1;
    let due = Duration::from_nanos(8_336_000) * last as u32;
    assert!(took + Duration::from_millis(10) > due, "{took:?} for {last} packets, {due:?} due");
    assert_balanced(&pair);
}

#[test]
fn long_packets_vanish_in_a_black_hole() {
    let pair = warm();
    pair.link.impair(&pair.b, Impairment::default().mtu_black_hole(1000)).unwrap();
    assert_eq!(cross(&pair, 10, 972).len(), 10, "972 bytes and 28 of headers");
    assert_eq!(cross(&pair, 10, 973).len(), 0);
    assert_eq!(pair.link.counters(&pair.b).unwrap().black_holed, 10);
}

#[test]
fn partitions_one_way_and_both_ways() {
    let pair = warm();
    pair.link.impair(&pair.b, Impairment::default().partition()).unwrap();
    assert_eq!(cross(&pair, 10, 100).len(), 0);
    assert_eq!(pair.link.counters(&pair.b).unwrap().partitioned, 10);
    pair.link.impair(&pair.b, Impairment::default()).unwrap();
    assert_eq!(cross(&pair, 10, 100).len(), 10);
    pair.link.partition().unwrap();
    assert_eq!(cross(&pair, 10, 100).len(), 0);
}

#[test]
fn an_impairment_changes_under_traffic() {
    let pair = warm();
    let long = Impairment::default().delay(Duration::from_millis(200), Duration::ZERO);
    pair.link.impair(&pair.b, long).unwrap();
    std::thread::scope(|scope| {
        let crossing = scope.spawn(|| cross(&pair, 2000, 100));
        while pair.link.counters(&pair.b).unwrap().received == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        pair.link.impair(&pair.b, Impairment::default()).unwrap();
        let arrived = crossing.join().unwrap();
        assert_eq!(arrived.len(), 2000, "what waits keeps its time, what comes later goes at once");
        assert!(arrived.last().unwrap().0 < 1999, "and so overtakes it");
    });
    assert_balanced(&pair);
}

#[test]
fn packets_of_every_size_pass() {
    let pair = Pair::shaped(|link| link.mtu(65_535));
    pair.link.impair(&pair.b, Impairment::default().duplicate(1.0)).unwrap();
    for len in [8, 1472, 9000, 30_000, 65_507] {
        // One at a time: a socket buffer holds three of the longest.
        assert_eq!(cross(&pair, 1, len).len(), 2, "{len} bytes");
    }
}

#[test]
fn a_carrier_that_went_comes_back_and_packets_with_it() {
    let pair = warm();
    pair.link.set_carrier(&pair.b, Carrier::Down).unwrap();
    assert_eq!(cross(&pair, 10, 100).len(), 0);
    pair.link.set_carrier(&pair.b, Carrier::Up).unwrap();
    assert!(cross(&pair, 100, 100).len() >= 100);
}

#[test]
fn what_a_cable_cannot_do_is_refused() {
    let pair = Pair::shaped(|link| link.direct());
    let delay = Impairment::default().delay(Duration::from_millis(1), Duration::ZERO);
    let error = pair.link.impair(&pair.b, delay).unwrap_err();
    assert!(
        error.to_string().contains("it is direct and can only lose packets\nhint: leave .direct() out"),
        "{error}"
    );
    assert!(pair.link.lateness(&pair.b).is_err() && pair.link.capture("/dev/null").is_err());
    let error = pair.link.impair(&pair.b, Impairment::default().rate(1_000_000_000, 0)).unwrap_err();
    assert!(error.to_string().starts_with("1000000000 bit/s with a queue of 0 packets"), "{error}");
}
