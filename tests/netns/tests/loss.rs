//! Five percent of all packets lost in each direction, SYN, SYN-ACK, FIN and pure ACKs included: streams arrive whole, and in time.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::DropReason;
use ringwire_lab::Impairment;
use ringwire_netns::{
    Addressing, Closing, Echo, Pattern, Scene, Script, Service, Transfers, kernel, options, within,
};

const LOSS: f64 = 0.05;
/// What arrives too late, or too far ahead of what was lost.
const DISORDER: [DropReason; 3] =
    [DropReason::TcpOutOfWindow, DropReason::TcpReassemblyFull, DropReason::TcpNoSocket];

fn impair(scene: &Scene, loss: f64, seed: u64) {
    for (node, seed) in [(&scene.host, seed), (&scene.peer, seed + 1)] {
        scene.link.impair(node, Impairment::default().loss(loss).seed(seed)).expect("tc and cls_bpf");
    }
}

fn assert_lost(scene: &Scene) {
    for node in [&scene.host, &scene.peer] {
        let counters = scene.link.counters(node).expect("counters");
        assert!(counters.dropped > 0, "nothing was lost towards {}: {counters:?}", node.name());
        let share = counters.dropped as f64 / (counters.dropped + counters.passed) as f64;
        println!("towards {}: {counters:?}, {:.1} %", node.name(), share * 100.0);
    }
}

#[test]
fn twenty_megabytes_each_way_survive_five_percent_loss() {
    const BYTES: u64 = 20_000_000;
    within(Duration::from_secs(90), || {
        let scene = Scene::new(Addressing::Dedicated).may_repeat("what passes is lost on purpose");
        let (from_engine, from_kernel) = (Pattern::new(1, BYTES), Pattern::new(2, BYTES));
        let (ended, ends) = channel();
        let (addr, script) = (scene.at(80), Script::new(from_engine.clone(), Closing::First));
        let service = Service::start(scene.engine(), move |worker| {
            Transfers::accepting(worker, addr, &options(), script.clone(), ended.clone())
        });
        impair(&scene, LOSS, 11);
        let started = Instant::now();
        let stream = kernel::connect(&scene.peer, addr).expect("a connection");
        let received = thread::scope(|scope| {
            let reader = scope.spawn(|| kernel::receive(&stream, u64::MAX).expect("the engine's stream"));
            kernel::send(&stream, from_kernel.clone()).expect("a write");
            stream.shutdown(std::net::Shutdown::Write).expect("a half-close");
            reader.join().expect("the reader ends")
        });
        assert_eq!(received, from_engine.digest());
        let ended = ends.recv_timeout(Duration::from_secs(60)).expect("the engine is done too");
        assert_eq!((ended.received, ended.fault), (from_kernel.digest(), None));
        let took = started.elapsed();
        println!("20 MB each way at 5 % loss in {took:?}\n{}", service.handle().metrics());
        assert_lost(&scene);
        assert!(took < Duration::from_secs(60), "{took:?}");
        drop(stream);
        impair(&scene, 0.0, 0);
        service.finish().assert_balanced(&DISORDER);
    });
}

/// Handshakes and ends are a large share of short connections, so that each kind of packet is lost somewhere among 100 of them.
#[test]
fn short_connections_survive_the_loss_of_any_of_their_packets() {
    const CONNECTIONS: u64 = 100;
    within(Duration::from_secs(60), || {
        let scene = Scene::new(Addressing::Shared).may_repeat("what passes is lost on purpose");
        let addr = scene.at(7);
        let service = Service::start(scene.engine(), move |worker| Echo::tcp(worker, addr, &options()));
        impair(&scene, LOSS, 21);
        thread::scope(|scope| {
            for number in 0..CONNECTIONS {
                let scene = &scene;
                scope.spawn(move || {
                    let pattern = Pattern::new(number, 3000);
                    let stream = kernel::connect(&scene.peer, addr).expect("a connection");
                    assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
                    stream.shutdown(std::net::Shutdown::Write).expect("a half-close");
                    assert_eq!(kernel::receive(&stream, u64::MAX).expect("the end").len, 0);
                });
            }
        });
        assert_lost(&scene);
        // Only a lost SYN or SYN-ACK is waited for this long.
        assert!(kernel::counter(&scene.peer, "TcpExtTCPSynRetrans") > 0);
        impair(&scene, 0.0, 0);
        let books = service.finish();
        books.assert_balanced(&DISORDER);
        assert_eq!(books.metrics.sum(|worker| worker.accepted), CONNECTIONS);
    });
}

#[test]
fn connections_opened_by_the_engine_survive_too() {
    const CONNECTIONS: u64 = 100;
    within(Duration::from_secs(60), || {
        let scene = Scene::new(Addressing::Shared).may_repeat("what passes is lost on purpose");
        let (listener, addr) = kernel::listen(&scene.peer, scene.peer_ip());
        let (ended, ends) = channel();
        let script = |number| Script::new(Pattern::new(number, 3000), Closing::First);
        let scripts: Vec<_> = (0..CONNECTIONS).map(script).collect();
        impair(&scene, LOSS, 31);
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| kernel::accept(&listener).and_then(|stream| kernel::echo(&stream)));
            }
            let service = Service::start(scene.engine(), move |worker| {
                Transfers::opening(worker, addr, &options(), scripts.clone(), ended.clone())
            });
            for _ in 0..CONNECTIONS {
                let ended = ends
                    .recv_timeout(Duration::from_secs(40))
                    .unwrap_or_else(|_| panic!("a connection does not end\n{}", service.handle().metrics()));
                assert_eq!((ended.fault, &ended.received), (None, &ended.sent.digest()));
            }
            assert_lost(&scene);
            impair(&scene, 0.0, 0);
            service.finish().assert_balanced(&DISORDER);
        });
    });
}
