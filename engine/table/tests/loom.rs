//! The crate's lock-free parts over loom: every interleaving and every allowed reordering of a small scenario.
//!
//! The sources are compiled here a second time with loom's atomics behind `crate::sync`, so no cfg and no flags are needed:
//!
//! ```text
//! cargo test -p ringwire-table --test loom                             all models
//! LOOM_LOG=trace cargo test -p ringwire-table --test loom NAME         one model, every step
//! ```
#![allow(dead_code, unreachable_pub)]

#[path = "../src/key.rs"]
mod key;
#[path = "../src/spsc.rs"]
mod spsc;
#[path = "../src/table.rs"]
mod table;

mod sync {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

    pub(crate) fn prefetch<T>(_: &T) {}
}

use std::net::Ipv4Addr;

use key::FlowKey;
use loom::model::Builder;
use loom::thread;
use table::{Reader, Table, Writer};

/// Explores all schedules with at most this many preemptions; bugs of this kind need two or three.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn flow(number: u16) -> FlowKey {
    FlowKey::v4(6, (Ipv4Addr::new(10, 0, 0, 1), 80), (Ipv4Addr::new(10, 0, 0, 2), number))
}

/// A table with room for one key, so that the next key takes the slot of the last.
fn table_with(number: u16, value: u32) -> (Writer, Reader) {
    let (mut writer, reader) = Table::new(1, [1, 2]);
    writer.insert(&flow(number), value).expect("empty");
    (writer, reader)
}

fn lookup_batch_of_one(reader: &Reader, key: &FlowKey) -> Option<u32> {
    let mut value = [Some(u32::MAX)];
    reader.lookup_batch(std::slice::from_ref(key), &mut value);
    value[0]
}

#[test]
fn an_inserted_key_appears_whole() {
    explore(3, || {
        let (mut writer, reader) = Table::new(1, [1, 2]);
        let other = thread::spawn(move || (reader.lookup(&flow(1)), lookup_batch_of_one(&reader, &flow(1))));
        writer.insert(&flow(1), 7).expect("empty");
        let (first, second) = other.join().expect("reader");
        assert!(
            matches!((first, second), (None, None | Some(7)) | (Some(7), Some(7))),
            "{first:?} {second:?}"
        );
    });
}

#[test]
fn a_reused_slot_never_answers_for_its_old_key_with_the_new_value() {
    for batched in [false, true] {
        explore(3, move || {
            let (mut writer, reader) = table_with(1, 7);
            let other = thread::spawn(move || {
                if batched { lookup_batch_of_one(&reader, &flow(1)) } else { reader.lookup(&flow(1)) }
            });
            assert_eq!(writer.remove(&flow(1)), Some(7));
            writer.insert(&flow(2), 8).expect("just emptied");
            let seen = other.join().expect("reader");
            assert!(matches!(seen, None | Some(7)), "{seen:?}");
        });
    }
}

#[test]
fn a_key_that_takes_a_used_slot_never_answers_with_the_old_value() {
    explore(3, || {
        let (mut writer, reader) = table_with(1, 7);
        let other = thread::spawn(move || reader.lookup(&flow(2)));
        assert_eq!(writer.remove(&flow(1)), Some(7));
        writer.insert(&flow(2), 8).expect("just emptied");
        let seen = other.join().expect("reader");
        assert!(matches!(seen, None | Some(8)), "{seen:?}");
    });
}

#[test]
fn a_key_that_stays_is_always_found() {
    explore(2, || {
        let (mut writer, reader) = Table::new(2, [1, 2]);
        writer.insert(&flow(1), 7).expect("empty");
        writer.insert(&flow(2), 8).expect("room for two");
        let other = thread::spawn(move || reader.lookup(&flow(2)));
        writer.remove(&flow(1));
        writer.insert(&flow(3), 9).expect("just emptied");
        assert_eq!(other.join().expect("reader"), Some(8));
    });
}

#[test]
fn keys_appear_in_the_order_in_which_they_were_inserted() {
    explore(3, || {
        let (mut writer, reader) = Table::new(2, [1, 2]);
        let other = thread::spawn(move || (reader.lookup(&flow(2)), reader.lookup(&flow(1))));
        writer.insert(&flow(1), 7).expect("empty");
        writer.insert(&flow(2), 8).expect("room for two");
        let seen = other.join().expect("reader");
        assert!(matches!(seen, (None, None | Some(7)) | (Some(8), Some(7))), "{seen:?}");
    });
}

#[test]
fn a_changed_value_is_the_old_or_the_new_one() {
    explore(3, || {
        let (mut writer, reader) = table_with(1, 7);
        let other = thread::spawn(move || [reader.lookup(&flow(1)), reader.lookup(&flow(1))]);
        writer.insert(&flow(1), 8).expect("only a new value");
        let seen = other.join().expect("reader");
        assert!([[7, 7], [7, 8], [8, 8]].map(|pair| pair.map(Some)).contains(&seen), "{seen:?}");
    });
}

#[test]
fn the_ring_keeps_order_and_hands_each_item_over_once() {
    explore(4, || {
        let (mut producer, mut consumer) = spsc::ring::<Box<u32>>(2);
        let other = thread::spawn(move || {
            let mut refused = 0;
            for item in 1..=3 {
                refused += u32::from(producer.push(Box::new(item)).is_err());
            }
            refused
        });
        let mut seen: Vec<u32> = (0..2).filter_map(|_| consumer.pop()).map(|item| *item).collect();
        let refused = other.join().expect("producer");
        seen.extend(std::iter::from_fn(|| consumer.pop()).map(|item| *item));
        assert!(seen.is_sorted() && seen.len() as u32 + refused == 3, "{seen:?}, {refused} refused");
    });
}

#[test]
fn the_ring_reuses_a_cell_only_after_it_was_emptied() {
    explore(4, || {
        let (mut producer, mut consumer) = spsc::ring::<Box<u32>>(1);
        producer.push(Box::new(1)).expect("empty");
        let other = thread::spawn(move || producer.push(Box::new(2)).map_err(|item| *item));
        assert_eq!(consumer.pop().map(|item| *item), Some(1));
        let pushed = other.join().expect("producer");
        let expected = if pushed.is_ok() { Some(2) } else { None };
        assert_eq!(consumer.pop().map(|item| *item), expected);
    });
}

#[test]
fn the_ring_drops_what_is_left_whichever_side_goes_last() {
    explore(4, || {
        let item = loom::sync::Arc::new(());
        let (mut producer, consumer) = spsc::ring(2);
        let copy = item.clone();
        let other = thread::spawn(move || {
            producer.push(copy).expect("empty");
            drop(producer);
        });
        drop(consumer);
        other.join().expect("producer");
        assert_eq!(loom::sync::Arc::strong_count(&item), 1);
    });
}
