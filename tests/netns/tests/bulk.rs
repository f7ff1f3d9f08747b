//! Much data: 200 MB each way compared by SHA-256, and how often a byte was copied.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ringwire_netns::{
    Addressing, Closing, Echo, Pattern, Scene, Script, Service, Transfers, kernel, options, within,
};

const LIMIT: Duration = Duration::from_secs(120);
const MANY_BYTES: u64 = 200_000_000;

#[test]
fn two_hundred_megabytes_each_way() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated);
        let (from_engine, from_kernel) = (Pattern::new(1, MANY_BYTES), Pattern::new(2, MANY_BYTES));
        let (ended, ends) = channel();
        let (addr, script) = (scene.at(80), Script::new(from_engine.clone(), Closing::First));
        let service = Service::start(scene.engine(), move |worker| {
            Transfers::accepting(worker, addr, &options(), script.clone(), ended.clone())
        });
        let stream = kernel::connect(&scene.peer, addr).expect("a connection");
        let started = Instant::now();
        let received = std::thread::scope(|scope| {
            let reader = scope.spawn(|| kernel::receive(&stream, u64::MAX).expect("the engine's stream"));
            kernel::send(&stream, from_kernel.clone()).expect("a write");
            stream.shutdown(std::net::Shutdown::Write).expect("a half-close");
            reader.join().expect("the reader ends")
        });
        let took = started.elapsed();
        println!("200 MB each way in {took:?}\n{}", service.handle().metrics());
        assert_eq!(received, from_engine.digest());
        let ended = ends.recv_timeout(Duration::from_secs(20)).expect("the engine is done too");
        assert_eq!((ended.received, ended.fault), (from_kernel.digest(), None));
        drop(stream);
        let books = service.finish();
        // On a busy machine the rings may overflow; the streams are whole all the same.
        books.assert_balanced(&OVERFLOW);
    });
}

/// What else packets that were lost in front of the rings lead to.
const OVERFLOW: [ringwire::DropReason; 3] = [
    ringwire::DropReason::TcpOutOfWindow,
    ringwire::DropReason::TcpReassemblyFull,
    ringwire::DropReason::NoFrame,
];

#[test]
fn what_is_received_is_not_copied_and_what_is_sent_is_copied_once() {
    within(LIMIT, || {
        const BYTES: u64 = 1_000_000;
        let copied = |send_bytes: u64, receive_bytes: u64| {
            let scene = Scene::new(Addressing::Dedicated);
            let (ended, ends) = channel();
            let (addr, script) = (scene.at(80), Script::new(Pattern::new(1, send_bytes), Closing::Last));
            let service = Service::start(scene.engine(), move |worker| {
                Transfers::accepting(worker, addr, &options(), script.clone(), ended.clone())
            });
            let stream = kernel::connect(&scene.peer, addr).expect("a connection");
            kernel::send(&stream, Pattern::new(2, receive_bytes)).expect("a write");
            stream.shutdown(std::net::Shutdown::Write).expect("a half-close");
            assert_eq!(kernel::receive(&stream, u64::MAX).expect("a stream").len, send_bytes);
            assert_eq!(ends.recv().expect("the engine is done too").received.len, receive_bytes);
            drop(stream);
            let books = service.finish();
            books.assert_balanced(&[]);
            books.metrics.sum(|worker| worker.copied_bytes)
        };
        assert_eq!(copied(0, BYTES), 0, "received");
        assert_eq!(copied(BYTES, 0), BYTES, "sent");
    });
}

#[test]
fn an_echo_copies_nothing() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let addr = scene.at(7);
            let service = Service::start(scene.engine(), move |worker| Echo::tcp(worker, addr, &options()));
            let stream = kernel::connect(&scene.peer, addr).expect("a connection");
            let pattern = Pattern::new(1, 5_000_000);
            assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
            drop(stream);
            let books = service.finish();
            books.assert_balanced(&[]);
            assert_eq!(
                books.metrics.sum(|worker| worker.copied_bytes),
                0,
                "{addressing:?}: {}",
                books.metrics
            );
        }
    });
}
