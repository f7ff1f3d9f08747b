//! The engine over AF_XDP and over AF_PACKET behind the lab's forwarder: the rig on which it is compared with Linux.

use std::time::{Duration, Instant};

use ringwire::{Backend, DropReason};
use ringwire_lab::{Counters, Impairment};
use ringwire_netns::{Addressing, Echo, Pattern, Scene, Service, kernel, options, within};

const LIMIT: Duration = Duration::from_secs(60);
/// What loss, reordering and copies make of a connection that is in order itself.
const EXPECTED: [DropReason; 5] = [
    DropReason::ArpNotForUs,
    DropReason::TcpDuplicate,
    DropReason::TcpOutOfWindow,
    // RFC 7323 5.3 (R1): a segment that was overtaken by a millisecond or more is older than what came.
    DropReason::TcpPaws,
    DropReason::TcpNoSocket,
];

/// How long an echo took, and what happened to the packets to the engine and to those to the kernel.
fn echoes(backend: Backend, impairments: [Impairment; 2]) -> (Duration, [Counters; 2]) {
    let scene = Scene::forwarded(Addressing::Dedicated);
    let addr = scene.at(7);
    let engine = scene.builder().backend(backend).start().expect("the engine starts");
    let service = Service::start(engine, move |worker| Echo::tcp(worker, addr, &options()));
    let ends = [&scene.host, &scene.peer];
    for (end, impairment) in ends.into_iter().zip(impairments) {
        scene.link.impair(end, impairment).expect("a forwarder");
    }
    let start = Instant::now();
    let stream = kernel::connect(&scene.peer, addr).expect("a connection");
    let pattern = Pattern::new(5, 1_000_000);
    assert_eq!(kernel::exchange(&stream, &pattern).expect("an exchange"), pattern.digest());
    let took = start.elapsed();
    drop(stream);
    service.finish().assert_balanced(&EXPECTED);
    let counters = ends.map(|end| scene.link.counters(end).expect("counters"));
    for counters in counters {
        assert_eq!((counters.unsendable, counters.overrun), (0, 0), "{counters:?}");
    }
    (took, counters)
}

/// Long packets of the engine vanish: a few timeouts later its stream arrives all the same.
#[test]
fn a_black_hole_on_the_path_is_passed() {
    within(LIMIT, || {
        let scene = Scene::forwarded(Addressing::Dedicated);
        let addr = scene.at(7);
        let service = Service::start(scene.engine(), move |worker| Echo::tcp(worker, addr, &options()));
        scene.link.impair(&scene.peer, Impairment::default().mtu_black_hole(1200)).expect("a forwarder");
        let stream = kernel::connect(&scene.peer, addr).expect("a connection");
        let pattern = Pattern::new(6, 300_000);
        assert_eq!(kernel::exchange(&stream, &pattern).expect("an exchange"), pattern.digest());
        drop(stream);
        service.finish().assert_balanced(&EXPECTED);
        let counters = scene.link.counters(&scene.peer).expect("counters");
        assert!(counters.black_holed >= 4, "{counters:?}");
    });
}

#[test]
fn delay() {
    within(LIMIT, || {
        for backend in [Backend::Xdp, Backend::Packet] {
            let delay = Duration::from_millis(20);
            let (took, counters) = echoes(backend, [Impairment::default().delay(delay, Duration::ZERO); 2]);
            assert!(took >= 4 * delay, "a handshake and an echo are two round trips: {took:?}");
            for Counters { lost, duplicated, reordered, .. } in counters {
                assert_eq!((lost, duplicated, reordered), (0, 0, 0), "{backend:?}");
            }
        }
    });
}

#[test]
fn loss_copies_and_reordering() {
    within(LIMIT, || {
        let (delay, jitter) = (Duration::from_millis(2), Duration::from_millis(1));
        let bad = Impairment::default().delay(delay, jitter).loss(0.01).duplicate(0.02).reorder(0.02, 1);
        for backend in [Backend::Xdp, Backend::Packet] {
            let impairments = [bad.seed(1), bad.seed(2)];
            for (impairment, counters) in impairments.iter().zip(echoes(backend, impairments).1) {
                let planned = (0..counters.received).filter(|number| impairment.loses(*number)).count();
                assert_eq!(counters.lost, planned as u64, "{backend:?} {counters:?}");
                let least = counters.lost.min(counters.duplicated).min(counters.reordered);
                assert!(least > 0, "the link was too kind: {backend:?} {counters:?}");
            }
        }
    });
}
