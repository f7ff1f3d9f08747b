//! Cost per key of the socket table, beside the standard map with the same hash.
//!
//! `cargo bench -p ringwire-table --bench table`. Keys are looked up in random order and in batches of 64, as the worker does; one
//! iteration is one batch, and criterion's throughput line is keys per second.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringwire_table::{FlowHash, FlowKey, Reader, Table, Writer};

const HASH_KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const BATCH: usize = 64;
const SIZES: [u32; 3] = [1_024, 65_536, 1_048_576];
const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 1), 80);

fn flow(number: u32) -> FlowKey {
    FlowKey::v4(
        6,
        LOCAL,
        (Ipv4Addr::from_bits(0x0a01_0000 + (number >> 14)), 32_768 + (number & 0x3fff) as u16),
    )
}

/// Batches of keys in an order without pattern: a full-period step through a power of two.
fn batches(flows: u32) -> Vec<[FlowKey; BATCH]> {
    let number = |index: u32| index.wrapping_mul(2_654_435_761) & (flows - 1);
    let count = (flows / BATCH as u32).min(16_384);
    (0..count)
        .map(|batch| std::array::from_fn(|index| flow(number(batch * BATCH as u32 + index as u32))))
        .collect()
}

fn filled(flows: u32) -> (Writer, Reader) {
    let (mut writer, reader) = Table::new(flows, HASH_KEY);
    (0..flows).for_each(|number| writer.insert(&flow(number), number).expect("made for that many"));
    (writer, reader)
}

static HASH: LazyLock<FlowHash> = LazyLock::new(|| FlowHash::new(HASH_KEY));

/// A key for the standard map that hashes like ours.
#[derive(PartialEq, Eq, Clone, Copy)]
struct SameHash(FlowKey);

impl Hash for SameHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(HASH.hash(&self.0));
    }
}

/// Takes the one number it is given as the hash.
#[derive(Default)]
struct PassOn(u64);

impl Hasher for PassOn {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are written as one number")
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type StandardMap = HashMap<SameHash, u32, BuildHasherDefault<PassOn>>;

fn standard_map(flows: u32) -> StandardMap {
    (0..flows).map(|number| (SameHash(flow(number)), number)).collect()
}

fn lookups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(BATCH as u64));
    for flows in SIZES {
        let (_writer, reader) = filled(flows);
        let batches = batches(flows);
        group.bench_function(BenchmarkId::new("batch_hit", flows), |bencher| {
            let mut next = batches.iter().cycle();
            let mut values = [None; BATCH];
            bencher.iter(|| {
                reader.lookup_batch(next.next().expect("endless"), &mut values);
                black_box(&values);
            });
        });
        group.bench_function(BenchmarkId::new("batch_miss", flows), |bencher| {
            let absent: Vec<[FlowKey; BATCH]> =
                batches.iter().map(|keys| keys.map(|key| FlowKey { protocol: 17, ..key })).collect();
            let mut next = absent.iter().cycle();
            let mut values = [None; BATCH];
            bencher.iter(|| {
                reader.lookup_batch(next.next().expect("endless"), &mut values);
                black_box(&values);
            });
        });
        group.bench_function(BenchmarkId::new("single_hit", flows), |bencher| {
            let mut next = batches.iter().cycle();
            bencher.iter(|| {
                next.next()
                    .expect("endless")
                    .iter()
                    .filter_map(|key| reader.lookup(key))
                    .fold(0, u32::wrapping_add)
            });
        });
        let map = standard_map(flows);
        group.bench_function(BenchmarkId::new("std_map_hit", flows), |bencher| {
            let mut next = batches.iter().cycle();
            bencher.iter(|| {
                next.next()
                    .expect("endless")
                    .iter()
                    .filter_map(|key| map.get(&SameHash(*key)))
                    .fold(0, |a: u32, b| a.wrapping_add(*b))
            });
        });
    }
    group.finish();
}

/// One key leaves and one comes, in a table that stays full.
fn churn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("remove_and_insert");
    group.throughput(Throughput::Elements(BATCH as u64));
    for flows in SIZES {
        let batches = batches(flows);
        let (mut writer, _reader) = filled(flows);
        group.bench_function(BenchmarkId::new("table", flows), |bencher| {
            let mut next = batches.iter().cycle();
            bencher.iter(|| {
                for key in next.next().expect("endless") {
                    let value = writer.remove(key).expect("present");
                    writer.insert(key, value).expect("just made room");
                }
            });
        });
        let mut map = standard_map(flows);
        group.bench_function(BenchmarkId::new("std_map", flows), |bencher| {
            let mut next = batches.iter().cycle();
            bencher.iter(|| {
                for key in next.next().expect("endless") {
                    let value = map.remove(&SameHash(*key)).expect("present");
                    map.insert(SameHash(*key), value);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookups, churn);
criterion_main!(benches);
