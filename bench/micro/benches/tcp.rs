//! TCP in memory, Ringwire beside smoltcp: `cargo bench -p ringwire-micro`.
//!
//! Ratios are what counts; criterion runs the two stacks of a group one after the other in one process.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringwire_micro::Rig;
use ringwire_micro::bare_rig::BareRig;
use ringwire_micro::ringwire_rig::RingwireRig;
use ringwire_micro::smoltcp_rig::SmoltcpRig;

const BULK_BYTES: usize = 1 << 20;

fn request_response(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tcp_rr_64B");
    for connections in [1, 1024] {
        group.throughput(Throughput::Elements(connections as u64));
        let mut ringwire = RingwireRig::connect(connections);
        group.bench_function(BenchmarkId::new("ringwire", connections), |bench| {
            bench.iter(|| ringwire.round())
        });
        let mut bare = BareRig::connect(connections);
        group.bench_function(BenchmarkId::new("bare", connections), |bench| bench.iter(|| bare.round()));
        let mut smoltcp = SmoltcpRig::connect(connections);
        group
            .bench_function(BenchmarkId::new("smoltcp", connections), |bench| bench.iter(|| smoltcp.round()));
    }
    group.finish();
}

fn bulk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tcp_bulk");
    group.throughput(Throughput::Bytes(BULK_BYTES as u64));
    let mut ringwire = RingwireRig::connect(1);
    group.bench_function("ringwire", |bench| bench.iter(|| ringwire.bulk(BULK_BYTES)));
    let mut bare = BareRig::connect(1);
    group.bench_function("bare", |bench| bench.iter(|| bare.bulk(BULK_BYTES)));
    let mut smoltcp = SmoltcpRig::connect(1);
    group.bench_function("smoltcp", |bench| bench.iter(|| smoltcp.bulk(BULK_BYTES)));
    group.finish();
}

criterion_group!(benches, request_response, bulk);
criterion_main!(benches);
