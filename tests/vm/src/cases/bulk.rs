//! Much data, compared by SHA-256: 50 MB each way to the kernel, to another zero-copy engine, and through loss.

use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::{DropReason, EngineBuilder};
use ringwire_netns::{Closing, Echo, Pattern, Script, Service, Transfers, kernel, options};

use crate::nic::{DriverCounters, Watched};
use crate::scene::{PEERS, Scene};

const BYTES: u64 = 50_000_000;
/// What packets lost on the wire lead to.
const LOSSES: [DropReason; 3] =
    [DropReason::TcpOutOfWindow, DropReason::TcpReassemblyFull, DropReason::TcpNoSocket];

pub(crate) fn to_the_kernel() {
    let scene = Scene::new();
    both_ways(&scene, scene.builder(), BYTES, &[]);
}

pub(crate) fn through_loss() {
    let scene = Scene::new();
    scene.at_peer(&["tc", "qdisc", "add", "dev", PEERS, "clsact"]);
    for direction in ["ingress", "egress"] {
        // Every twentieth packet.
        let words = "matchall action ok random determ drop 20";
        let filter = ["tc", "filter", "add", "dev", PEERS, direction];
        scene.at_peer(&[&filter[..], &words.split(' ').collect::<Vec<_>>()].concat());
    }
    both_ways(&scene, scene.builder(), 5_000_000, &LOSSES);
    for direction in ["ingress", "egress"] {
        let shown = scene.at_peer(&["tc", "-statistics", "filter", "show", "dev", PEERS, direction]);
        let dropped = shown.split("dropped ").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
        assert!(dropped.is_some_and(|dropped: u64| dropped > 50), "hardly a loss: {shown}");
    }
}

/// Both cards zero-copy, an engine behind each.
pub(crate) fn between_engines() {
    let scene = Scene::new();
    let (ours, peers) = (Watched::ours(), Watched::peers(&scene));
    let (addr, pattern, (ended, ends)) = (scene.at(7), Pattern::new(5, BYTES), channel());
    let server = scene.builder().start().expect("zero-copy is to be had");
    let server = Service::start(server, move |worker| Echo::tcp(worker, addr, &options()));
    let client = scene.peers_builder().start().expect("zero-copy is to be had there too");
    let started = Instant::now();
    let script = Script::new(pattern.clone(), Closing::First);
    let client = Service::start(client, move |worker| {
        Transfers::opening(worker, addr, &options(), vec![script.clone()], ended.clone())
    });
    let ended = ends.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| {
        let cards = [DriverCounters::ours(), DriverCounters::peers(&scene.peer)];
        panic!("it does not end: {cards:?}\n{}\n{}", server.handle().metrics(), client.handle().metrics())
    });
    println!("50 MB there and back in {:?}", started.elapsed());
    assert_eq!((ended.received, ended.fault), (pattern.digest(), None));
    let (server, client) = (server.finish(), client.finish());
    ours.assert_zero_copy(&server, &DriverCounters::ours());
    peers.assert_zero_copy(&client, &DriverCounters::peers(&scene.peer));
    server.assert_balanced(&[]);
    client.assert_balanced(&[]);
}

fn both_ways(scene: &Scene, builder: EngineBuilder, bytes: u64, drops: &[DropReason]) {
    let (from_engine, from_kernel) = (Pattern::new(1, bytes), Pattern::new(2, bytes));
    let (before, (ended, ends)) = (Watched::ours(), channel());
    let (addr, script) = (scene.at(80), Script::new(from_engine.clone(), Closing::First));
    let engine = builder.start().expect("zero-copy is to be had");
    let service = Service::start(engine, move |worker| {
        Transfers::accepting(worker, addr, &options(), script.clone(), ended.clone())
    });
    let started = Instant::now();
    let stream = kernel::connect(&scene.peer, addr).expect("a connection");
    let received = thread::scope(|scope| {
        let reader = scope.spawn(|| kernel::receive(&stream, u64::MAX).expect("the engine's stream"));
        kernel::send(&stream, from_kernel.clone()).expect("a write");
        stream.shutdown(Shutdown::Write).expect("a half-close");
        reader.join().expect("the reader ends")
    });
    println!("{} MB each way in {:?}", bytes / 1_000_000, started.elapsed());
    assert_eq!(received, from_engine.digest());
    let ended = ends.recv_timeout(Duration::from_secs(20)).expect("the engine is done too");
    assert_eq!((ended.received, ended.fault), (from_kernel.digest(), None));
    drop(stream);
    let books = service.finish();
    before.assert_zero_copy(&books, &DriverCounters::ours());
    books.assert_balanced(drops);
}
