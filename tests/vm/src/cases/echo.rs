//! Echo: what came in a frame of the device leaves in the same frame.

use std::thread;
use std::time::Duration;

use ringwire::{BindMode, BusyPoll, EngineBuilder, Interface, NeedWakeup, PollMode};
use ringwire_netns::{Echo, Pattern, Service, kernel, options};

use super::AFTER_A_STALL;
use crate::napi;
use crate::nic::{DriverCounters, Watched};
use crate::scene::{OURS, Scene};

pub(crate) fn udp() {
    let scene = Scene::new();
    udp_over(&scene, scene.builder());
}

pub(crate) fn tcp() {
    let scene = Scene::new();
    tcp_over(&scene, scene.builder(), 5_000_000);
}

pub(crate) fn without_need_wakeup() {
    for poll_mode in [PollMode::Adaptive, PollMode::Busy] {
        let scene = Scene::new();
        let engine =
            || scene.builder().poll_mode(poll_mode).interface(scene.interface().need_wakeup(NeedWakeup::Off));
        assert!(!engine_mode(engine()).need_wakeup);
        udp_over(&scene, engine());
        tcp_over(&scene, engine(), 2_000_000);
    }
}

pub(crate) fn busy_polling() {
    for poll_mode in [PollMode::Adaptive, PollMode::Busy] {
        let scene = Scene::new();
        let before = napi::settings(OURS);
        assert!(!before.is_empty() && before.iter().all(|napi| napi.defer_hard_irqs == 0), "{before:?}");
        let engine = || {
            scene.builder().poll_mode(poll_mode).interface(scene.interface().busy_poll(BusyPoll::Preferred))
        };
        let running = engine().start().expect("the driver has NAPI settings");
        let during = napi::settings(OURS);
        let is_patient = |napi: &napi::Settings| napi.defer_hard_irqs > 0 && napi.gro_flush_timeout_ns > 0;
        assert!(during.iter().all(is_patient), "{during:?}");
        drop(running);
        assert_eq!(napi::settings(OURS), before);
        udp_over(&scene, engine());
        tcp_over(&scene, engine(), 2_000_000);
        assert_eq!(napi::settings(OURS), before);
    }
}

pub(crate) fn copied_where_asked() {
    let scene = Scene::new();
    let before = Watched::ours();
    let addr = scene.at(7);
    let engine = scene.builder().interface(Interface::new(OURS).bind_mode(BindMode::Copy));
    let service =
        Service::start(engine.start().expect("copying always works"), move |worker| Echo::udp(worker, addr));
    exchange_datagrams(&scene, 500);
    let books = service.finish();
    before.assert_copied(&books, &DriverCounters::ours());
    books.assert_balanced(&[]);
}

/// A driver that has what it needs leaves the worker asleep.
pub(crate) fn idle() {
    let scene = Scene::new();
    let addr = scene.at(7);
    let engine = scene.builder().start().expect("zero-copy is to be had");
    let service = Service::start(engine, move |worker| Echo::udp(worker, addr));
    exchange_datagrams(&scene, 100);
    let turns = || service.handle().metrics().sum(|worker| worker.turns);
    thread::sleep(Duration::from_millis(100));
    let before = turns();
    thread::sleep(Duration::from_secs(1));
    let (turns, metrics) = (turns() - before, service.handle().metrics());
    assert!(turns < 20, "{turns} turns in a second without work\n{metrics}");
    service.finish().assert_balanced(&[]);
}

fn engine_mode(builder: EngineBuilder) -> ringwire::QueueMode {
    builder.start().expect("the engine starts").handle().mode().remove(0)
}

fn udp_over(scene: &Scene, builder: EngineBuilder) {
    const DATAGRAMS: u64 = 2000;
    let (before, addr) = (Watched::ours(), scene.at(7));
    let engine = builder.start().expect("zero-copy is to be had");
    let service = Service::start(engine, move |worker| Echo::udp(worker, addr));
    exchange_datagrams(scene, DATAGRAMS);
    let books = service.finish();
    before.assert_zero_copy(&books, &DriverCounters::ours());
    books.assert_balanced(&[]);
    assert_eq!(books.metrics.sum(|worker| worker.tx_packets), DATAGRAMS);
    assert_eq!(books.metrics.sum(|worker| worker.copied_bytes), 0);
}

/// One after the other, of all lengths.
fn exchange_datagrams(scene: &Scene, count: u64) {
    let socket = kernel::udp(&scene.peer, scene.peer_ip(), scene.at(7));
    let mut answer = [0; 2048];
    for number in 0..count {
        let request = vec![number as u8; 1 + number as usize % 1472];
        socket.send(&request).expect("a send");
        let len = socket.recv(&mut answer).expect("an answer");
        assert!(answer[..len] == request, "datagram {number}");
    }
}

fn tcp_over(scene: &Scene, builder: EngineBuilder, bytes: u64) {
    let (before, addr) = (Watched::ours(), scene.at(7));
    let engine = builder.start().expect("zero-copy is to be had");
    let service = Service::start(engine, move |worker| Echo::tcp(worker, addr, &options()));
    let stream = kernel::connect(&scene.peer, addr).expect("a connection");
    let pattern = Pattern::new(3, bytes);
    assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
    drop(stream);
    let books = service.finish();
    before.assert_zero_copy(&books, &DriverCounters::ours());
    books.assert_balanced(&AFTER_A_STALL);
}
