use std::sync::Arc as Counted;
use std::sync::atomic::Ordering;

use crate::spsc::ring;

#[test]
fn capacity_is_a_power_of_two_and_all_of_it_is_usable() {
    for (asked, given) in [(0, 1), (1, 1), (2, 2), (3, 4), (1000, 1024)] {
        let (mut producer, mut consumer) = ring(asked);
        assert_eq!((producer.capacity(), producer.room()), (given, given));
        for item in 0..given {
            assert_eq!(producer.push(item), Ok(()));
        }
        assert_eq!(producer.push(0), Err(0));
        assert_eq!(consumer.len(), given);
        assert_eq!(consumer.pop(), Some(0));
        assert_eq!(producer.room(), 1);
    }
}

#[test]
fn counters_wrap_without_losing_anything() {
    let (mut producer, mut consumer) = ring(4);
    let start = usize::MAX - 2;
    (producer.tail, producer.seen_head, consumer.head, consumer.seen_tail) = (start, start, start, start);
    producer.shared.tail.0.store(start, Ordering::Relaxed);
    producer.shared.head.0.store(start, Ordering::Relaxed);
    for round in 0..10 {
        for item in 0..4 {
            assert_eq!(producer.push(round * 4 + item), Ok(()));
        }
        assert_eq!(producer.room(), 0);
        for item in 0..4 {
            assert_eq!(consumer.pop(), Some(round * 4 + item));
        }
        assert!(consumer.is_empty());
    }
}

#[test]
fn every_item_is_dropped_exactly_once_whoever_goes_first() {
    let item = Counted::new(());
    let (mut producer, mut consumer) = ring(4);
    for _ in 0..4 {
        producer.push(Counted::clone(&item)).expect("room");
    }
    drop(consumer.pop());
    assert_eq!(Counted::strong_count(&item), 4);
    drop(consumer);
    assert_eq!(Counted::strong_count(&item), 1, "the consumer drops what nobody can pop");
    producer.push(Counted::clone(&item)).expect("room");
    drop(producer);
    assert_eq!(Counted::strong_count(&item), 1);

    let (mut producer, consumer) = ring(4);
    producer.push(Counted::clone(&item)).expect("room");
    drop(producer);
    assert_eq!(Counted::strong_count(&item), 2, "the consumer may still want it");
    drop(consumer);
    assert_eq!(Counted::strong_count(&item), 1);
}

#[test]
fn a_million_items_cross_threads_in_order() {
    const COUNT: usize = 1_000_000;
    let (mut producer, mut consumer) = ring::<Box<usize>>(64);
    let sender = std::thread::spawn(move || {
        for item in 0..COUNT {
            let mut item = Box::new(item);
            while let Err(back) = producer.push(item) {
                item = back;
                std::thread::yield_now();
            }
        }
    });
    for expected in 0..COUNT {
        let item = loop {
            match consumer.pop() {
                Some(item) => break item,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(*item, expected);
    }
    sender.join().expect("sender");
    assert_eq!(consumer.pop(), None);
}
