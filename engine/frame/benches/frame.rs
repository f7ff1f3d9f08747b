//! Cost of the frame life cycle and of the in-memory link, on one thread: `cargo bench -p ringwire-frame`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringwire_frame::{Class, Floors, Geometry, MemPort, Packet, Pool, Port, Region, SendFrame};

const FRAME_COUNT: u32 = 4096;
const BATCH: usize = 32;

fn pool() -> Pool {
    let geometry = Geometry { frame_bytes: 2048, frame_count: FRAME_COUNT };
    Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(FRAME_COUNT))
}

fn life_cycle(criterion: &mut Criterion) {
    let mut pool = pool();
    pool.adopt();
    let device = pool.attach();
    let mut group = criterion.benchmark_group("frame");
    group.bench_function("alloc_drop", |bencher| bencher.iter(|| black_box(pool.alloc(Class::Receive))));
    group.bench_function("alloc_lend_drop_poll_released", |bencher| {
        bencher.iter(|| {
            let frame = pool.alloc(Class::Receive).expect("a free frame");
            drop(black_box(frame.lend(1, 1500)));
            pool.poll_released()
        });
    });
    group.bench_function("alloc_send_submit_complete_drop", |bencher| {
        bencher.iter(|| {
            let frame = pool.alloc(Class::Send).expect("a free frame").into_send();
            let (addr, _) = pool.submit_addr(device, &frame).expect("submittable");
            // SAFETY: there is no device; nobody accesses the frame.
            assert!(unsafe { pool.complete(device, black_box(addr)) });
        });
    });
    group.bench_function("fill_received_drop", |bencher| {
        bencher.iter(|| {
            let addr = pool.fill_addr(device).expect("a free frame");
            // SAFETY: there is no device; nobody accesses the frame.
            unsafe { pool.received(device, black_box(addr) + 256, 1500) }
        });
    });
    group.finish();
}

/// A worker reduced to the calls it makes on its port in one turn.
struct End {
    pool: Pool,
    port: MemPort,
    packets: Vec<Packet>,
    sending: Vec<SendFrame>,
}

impl End {
    fn receive(&mut self) {
        self.port.reap(&mut self.pool);
        self.sending.clear();
        self.port.receive(&mut self.pool, &mut self.packets, BATCH);
    }

    fn send_back(&mut self) {
        for packet in self.packets.drain(..) {
            let frame = packet.head.into_send();
            self.port.submit(&mut self.pool, &frame).expect("room in the ring");
            self.sending.push(frame);
        }
        self.port.refill(&mut self.pool);
        let _ = self.port.kick();
    }
}

fn link(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mem_port");
    for len in [64, 1500] {
        let (mut a, mut b) = (pool(), pool());
        let (port_a, port_b) = MemPort::pair(256, &a, &b);
        a.adopt();
        b.adopt();
        let [mut a, mut b] = [(a, port_a), (b, port_b)].map(|(mut pool, mut port)| {
            port.refill(&mut pool);
            End { pool, port, packets: Vec::new(), sending: Vec::new() }
        });
        for _ in 0..BATCH {
            let mut frame = a.pool.alloc(Class::Send).expect("a free frame");
            frame.append(len).fill(0x5a);
            a.packets.push(Packet::from(frame));
        }
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(format!("round_trip_{len}_bytes"), |bencher| {
            bencher.iter(|| {
                a.send_back();
                b.receive();
                b.send_back();
                a.receive();
                assert_eq!(a.packets.len(), BATCH);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, life_cycle, link);
criterion_main!(benches);
