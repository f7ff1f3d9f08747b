use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use crate::key::FlowKey;
use crate::table::{Full, Reader, Table, Writer};

const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 1), 80);

fn flow(number: u32) -> FlowKey {
    FlowKey::v4(
        6,
        LOCAL,
        (Ipv4Addr::from_bits(0x0a01_0000 + number / 1_000), 1_000 + (number % 1_000) as u16),
    )
}

fn batch(reader: &Reader, keys: &[FlowKey]) -> Vec<Option<u32>> {
    let mut values = vec![Some(u32::MAX); keys.len()];
    reader.lookup_batch(keys, &mut values);
    values
}

/// Every key's overflow is counted exactly where a search for it has to go on.
fn check_overflow(writer: &Writer, keys: impl Iterator<Item = FlowKey>) {
    let table = &*writer.reader.table;
    let mut expected = vec![0; table.buckets.len()];
    for key in keys {
        let hash = table.hash.hash(&key);
        let (place, _) = table.find(&key, hash).expect("present");
        for bucket in table.buckets_from(hash).take_while(|&bucket| bucket != place.bucket) {
            expected[bucket] += 1;
        }
    }
    let counted: Vec<u64> =
        table.buckets.iter().map(|bucket| bucket.overflow.load(Ordering::Relaxed)).collect();
    assert_eq!(counted, expected);
}

#[test]
fn keys_differ_in_every_field() {
    let (mut writer, reader) = Table::new(16, [1, 2]);
    let key = flow(1);
    let others = [
        FlowKey { local: key.local ^ 1 << 127, ..key },
        FlowKey { local: key.local ^ 1, ..key },
        FlowKey { remote: key.remote ^ 1 << 64, ..key },
        FlowKey { remote: key.remote ^ 1, ..key },
        FlowKey { local_port: key.local_port ^ 1, ..key },
        FlowKey { remote_port: key.remote_port ^ 0x8000, ..key },
        FlowKey { protocol: 17, ..key },
    ];
    writer.insert(&key, 5).unwrap();
    assert_eq!(reader.lookup(&key), Some(5));
    assert_eq!(batch(&reader, &others), [None; 7]);
    for (value, other) in (10..).zip(&others) {
        writer.insert(other, value).unwrap();
    }
    assert_eq!(reader.lookup(&key), Some(5));
    assert_eq!(batch(&reader, &others), [10, 11, 12, 13, 14, 15, 16].map(Some));
}

#[test]
fn a_full_table_says_so_and_still_works() {
    for capacity in [0, 1, 7, 8, 100, 1_000] {
        let (mut writer, reader) = Table::new(capacity, [3, 4]);
        for number in 0..capacity {
            writer.insert(&flow(number), number).unwrap();
        }
        assert_eq!(writer.insert(&flow(capacity), 0), Err(Full));
        assert_eq!((writer.len(), writer.capacity()), (capacity as usize, capacity as usize));
        for number in 0..capacity {
            assert_eq!(reader.lookup(&flow(number)), Some(number));
        }
        assert_eq!(reader.lookup(&flow(capacity)), None);
        if capacity > 0 {
            writer.insert(&flow(0), 99).expect("a key that is there only changes its value");
            assert_eq!(writer.remove(&flow(0)), Some(99));
            writer.insert(&flow(capacity), 1).unwrap();
        }
    }
}

/// One bucket's worth of hash values for 1,000 keys: chains as long as they get, and they shrink again.
#[test]
fn chains_shrink_when_keys_leave() {
    let (mut writer, reader) = Table::new(1_000, [3, 4]);
    for number in 0..1_000 {
        writer.insert(&flow(number), number).unwrap();
    }
    check_overflow(&writer, (0..1_000).map(flow));
    for number in (0..1_000).filter(|number| number % 10 != 0) {
        assert_eq!(writer.remove(&flow(number)), Some(number));
    }
    check_overflow(&writer, (0..1_000).filter(|number| number % 10 == 0).map(flow));
    for number in (0..1_000).filter(|number| number % 10 == 0) {
        assert_eq!(reader.lookup(&flow(number)), Some(number));
        writer.remove(&flow(number));
    }
    assert!(writer.is_empty());
    assert!(reader.table.buckets.iter().all(|bucket| bucket.overflow.load(Ordering::Relaxed) == 0));
}

/// Ten generations of connections through one table: without tombstones a miss stays as cheap as in a new table.
#[test]
fn churn_leaves_no_trace() {
    let (mut writer, _) = Table::new(1_000, [5, 6]);
    for number in 0..100_000 {
        writer.insert(&flow(number), number).unwrap();
        if number >= 700 {
            assert_eq!(writer.remove(&flow(number - 700)), Some(number - 700));
        }
    }
    check_overflow(&writer, (100_000 - 700..100_000).map(flow));
}

#[test]
fn a_listener_on_the_address_goes_before_one_on_any() {
    let (mut writer, reader) = Table::new(16, [1, 2]);
    let to = |addr, port| FlowKey::v4(6, (addr, port), (Ipv4Addr::new(10, 9, 9, 9), 5));
    let other = Ipv4Addr::new(10, 0, 0, 2);
    writer.insert(&FlowKey::v4_listener(6, LOCAL.0, 80), 1).unwrap();
    assert_eq!(reader.lookup_listener(&to(other, 80)), None);
    writer.insert(&FlowKey::v4_listener(6, Ipv4Addr::UNSPECIFIED, 80), 2).unwrap();
    assert_eq!(reader.lookup_listener(&to(LOCAL.0, 80)), Some(1));
    assert_eq!(reader.lookup_listener(&to(other, 80)), Some(2));
    assert_eq!(reader.lookup_listener(&to(other, 81)), None);
    assert_eq!(reader.lookup_listener(&FlowKey { protocol: 17, ..to(other, 80) }), None);
    let v6 = FlowKey { local: 5, remote: 6, ..to(other, 80) };
    assert_eq!(reader.lookup_listener(&v6), None, "families do not mix");
}

#[test]
fn batches_of_any_length_answer_like_single_lookups() {
    let (mut writer, reader) = Table::new(1_000, [7, 8]);
    for number in (0..1_000).step_by(2) {
        writer.insert(&flow(number), number).unwrap();
    }
    for len in [0, 1, 63, 64, 65, 128, 1_000] {
        let keys: Vec<FlowKey> = (0..len).map(flow).collect();
        let expected: Vec<_> = keys.iter().map(|key| reader.lookup(key)).collect();
        assert_eq!(batch(&reader, &keys), expected);
    }
    let mut short = [Some(1); 3];
    reader.lookup_batch(&[flow(0), flow(1)], &mut short);
    assert_eq!(short, [Some(0), None, Some(1)]);
    reader.lookup_batch(&[flow(2), flow(4), flow(6), flow(8)], &mut short);
    assert_eq!(short, [Some(2), Some(4), Some(6)]);
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u32, u32),
    Remove(u32),
}

proptest! {
    #[test]
    fn agrees_with_a_map(
        capacity in 1u32..40, hash_key: [u64; 2],
        ops in prop::collection::vec(prop_oneof![
            3 => (0u32..60, any::<u32>()).prop_map(|(key, value)| Op::Insert(key, value)),
            2 => (0u32..60).prop_map(Op::Remove),
        ], 0..400),
    ) {
        let (mut writer, reader) = Table::new(capacity, hash_key);
        let mut model = HashMap::new();
        for op in ops {
            match op {
                Op::Insert(key, value) => {
                    let fits = model.len() < capacity as usize || model.contains_key(&key);
                    prop_assert_eq!(writer.insert(&flow(key), value), if fits { Ok(()) } else { Err(Full) });
                    if fits {
                        model.insert(key, value);
                    }
                }
                Op::Remove(key) => prop_assert_eq!(writer.remove(&flow(key)), model.remove(&key)),
            }
            prop_assert_eq!(writer.len(), model.len());
        }
        let keys: Vec<FlowKey> = (0..60).map(flow).collect();
        let expected: Vec<_> = (0..60).map(|key| model.get(&key).copied()).collect();
        prop_assert_eq!(batch(&reader, &keys), expected);
        check_overflow(&writer, model.keys().copied().map(flow));
    }
}

/// On real threads: what stays is always found, and what comes and goes is found with its own value or not at all.
#[test]
fn readers_see_no_torn_key_while_the_writer_churns() {
    const STAYING: u32 = 500;
    let (mut writer, reader) = Table::new(1_000, [9, 10]);
    for number in 0..STAYING {
        writer.insert(&flow(number), number).unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (reader, done) = (reader.clone(), done.clone());
            std::thread::spawn(move || {
                let keys: Vec<FlowKey> = (0..2_000).map(flow).collect();
                let mut rounds = 0;
                while !done.load(Ordering::Relaxed) || rounds == 0 {
                    for (number, value) in (0..).zip(batch(&reader, &keys)) {
                        assert!(value.is_none_or(|value| value == number), "{number} answered {value:?}");
                        assert!(number >= STAYING || value.is_some(), "{number} lost");
                    }
                    rounds += 1;
                }
            })
        })
        .collect();
    for round in 0..200 {
        for number in STAYING..STAYING + 400 {
            writer.insert(&flow(number + round % 3 * 400), number + round % 3 * 400).unwrap();
        }
        for number in STAYING..STAYING + 400 {
            assert!(writer.remove(&flow(number + round % 3 * 400)).is_some());
        }
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().expect("reader");
    }
}
