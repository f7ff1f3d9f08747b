//! Connections opened and closed, by the kernel and by the engine, many at a time.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ringwire_netns::{Closing, Echo, Pattern, Script, Service, Transfers, eventually, kernel, options};

use super::AFTER_A_STALL;
use crate::nic::{DriverCounters, Watched};
use crate::scene::Scene;

const AT_ONCE: u64 = 10;

pub(crate) fn kernel_clients() {
    const EACH: u64 = 60;
    let scene = Scene::new();
    let (before, addr) = (Watched::ours(), scene.at(7));
    let engine = scene.builder().start().expect("zero-copy is to be had");
    let service = Service::start(engine, move |worker| Echo::tcp(worker, addr, &options()));
    let started = Instant::now();
    thread::scope(|scope| {
        for client in 0..AT_ONCE {
            let scene = &scene;
            scope.spawn(move || {
                for round in 0..EACH {
                    let stream = kernel::connect(&scene.peer, addr).expect("a connection");
                    let pattern = Pattern::new(client * EACH + round, 3000);
                    let digest = kernel::exchange_in_turns(&stream, &pattern).expect("an echo");
                    assert_eq!(digest, pattern.digest(), "client {client}, round {round}");
                }
            });
        }
    });
    println!("{} connections in {:?}", AT_ONCE * EACH, started.elapsed());
    let books = service.finish();
    before.assert_zero_copy(&books, &DriverCounters::ours());
    books.assert_balanced(&AFTER_A_STALL);
    assert_eq!(books.metrics.sum(|worker| worker.accepted), AT_ONCE * EACH);
}

pub(crate) fn engine_clients() {
    const CONNECTIONS: u64 = 200;
    let scene = Scene::new();
    let (listener, addr) = kernel::listen(&scene.peer, scene.peer_ip());
    let (before, (ended, ends)) = (Watched::ours(), channel());
    thread::spawn(move || {
        while let Ok(stream) = kernel::accept(&listener) {
            thread::spawn(move || kernel::echo(&stream));
        }
    });
    let scripts: Vec<_> =
        (0..CONNECTIONS).map(|number| Script::new(Pattern::new(number, 10_000), Closing::First)).collect();
    let engine = scene.builder().start().expect("zero-copy is to be had");
    let service = Service::start(engine, move |worker| {
        Transfers::opening(worker, addr, &options(), scripts.clone(), ended.clone())
    });
    for _ in 0..CONNECTIONS {
        let ended = ends
            .recv_timeout(Duration::from_secs(20))
            .unwrap_or_else(|_| panic!("a connection does not end\n{}", service.handle().metrics()));
        assert_eq!((ended.received, ended.fault), (ended.sent.digest(), None));
    }
    let handle = service.handle().clone();
    let is_quiet = || handle.metrics().sum(|worker| worker.connections) == 0;
    assert!(eventually(Duration::from_secs(5), is_quiet), "{}", handle.metrics());
    let books = service.finish();
    before.assert_zero_copy(&books, &DriverCounters::ours());
    books.assert_balanced(&AFTER_A_STALL);
}
