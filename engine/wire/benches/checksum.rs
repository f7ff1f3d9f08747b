//! What a checksum costs: `cargo bench -p ringwire-wire`.
//!
//! `memcpy` is the floor for `copy`: both read and write the same bytes once, in L1.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringwire_wire::checksum::Sum;

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for len in [20usize, 64, 1460, 9000] {
        let src: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let mut dst = vec![0; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("sum", len), |bencher| {
            bencher.iter(|| Sum::of(black_box(&src)));
        });
        group.bench_function(BenchmarkId::new("copy", len), |bencher| {
            bencher.iter(|| Sum::copy(black_box(&mut dst), black_box(&src)));
        });
        group.bench_function(BenchmarkId::new("memcpy", len), |bencher| {
            bencher.iter(|| black_box(&mut dst).copy_from_slice(black_box(&src)));
        });
    }
    group.finish();
}

criterion_group!(benches, checksum);
criterion_main!(benches);
