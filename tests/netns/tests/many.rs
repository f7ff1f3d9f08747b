//! Two thousand connections opened at once, each with a pattern of its own, in both directions.

use std::io;
use std::sync::Barrier;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::DropReason;
use ringwire_netns::{
    Addressing, Closing, Digest, Echo, Pattern, Scene, Script, Service, Transfers, kernel, options, within,
};

const LIMIT: Duration = Duration::from_secs(120);
const CONNECTIONS: usize = 2000;
const BYTES_EACH: u64 = 100_000;
/// What overflowing rings and the repeats they cause are counted as.
const CROWDED: [DropReason; 5] = [
    // Answers to what was repeated and had arrived after all, when TIME-WAIT is over too.
    DropReason::TcpNoSocket,
    DropReason::TcpOutOfWindow,
    DropReason::TcpReassemblyFull,
    DropReason::TcpReceiveFull,
    DropReason::NoFrame,
];

/// Runs `work` for every number below [`CONNECTIONS`], each on a thread of its own, all released at once.
fn all_at_once<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (barrier, work) = (Barrier::new(CONNECTIONS), &work);
    let barrier = &barrier;
    thread::scope(|scope| {
        let start = |number| {
            let body = move || {
                barrier.wait();
                work(number)
            };
            let builder = thread::Builder::new().stack_size(256 << 10);
            builder.spawn_scoped(scope, body).expect("a thread can be had")
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic in a connection")).collect()
    })
}

fn pattern(number: usize) -> Pattern {
    Pattern::new(number as u64, BYTES_EACH)
}

fn assert_all_whole(received: &[io::Result<Digest>], service: &Service) {
    let wrong: Vec<_> = received
        .iter()
        .enumerate()
        .filter(|(number, received)| !matches!(received, Ok(digest) if *digest == pattern(*number).digest()))
        .take(5)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{}", service.handle().metrics());
}

#[test]
fn two_thousand_kernel_clients_of_an_engine() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared).may_repeat("so many at once are more than the rings hold");
        let addr = scene.at(7);
        let service = Service::start(scene.engine(), move |worker| Echo::tcp(worker, addr, &options()));
        let started = Instant::now();
        let received = scene.peer.run(|| {
            all_at_once(|number| {
                let stream = kernel::connect_here(addr)?;
                let digest = kernel::exchange_in_turns(&stream, &pattern(number))?;
                Ok(digest)
            })
        });
        println!("{CONNECTIONS} clients in {:?}\n{}", started.elapsed(), service.handle().metrics());
        assert_all_whole(&received, &service);
        let books = service.finish();
        books.assert_balanced(&CROWDED);
        assert_eq!(books.metrics.sum(|worker| worker.accepted), CONNECTIONS as u64);
    });
}

#[test]
fn two_thousand_engine_clients_of_a_kernel() {
    within(LIMIT, || {
        let scene =
            Scene::new(Addressing::Dedicated).may_repeat("so many at once are more than the rings hold");
        let (listener, addr) = kernel::listen(&scene.peer, scene.peer_ip());
        let (ended, ends) = channel();
        let scripts = (0..CONNECTIONS).map(|number| Script::new(pattern(number), Closing::First));
        let scripts: Vec<_> = scripts.collect();
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                // Accepts and echoes; each thread takes whichever comes next.
                let echo = || kernel::accept(&listener).and_then(|stream| kernel::echo(&stream));
                let builder = thread::Builder::new().stack_size(256 << 10);
                builder.spawn_scoped(scope, echo).expect("a thread can be had");
            }
            let service = Service::start(scene.engine(), move |worker| {
                Transfers::opening(worker, addr, &options(), scripts.clone(), ended.clone())
            });
            for _ in 0..CONNECTIONS {
                let ended = ends
                    .recv_timeout(Duration::from_secs(60))
                    .unwrap_or_else(|_| panic!("a connection does not end\n{}", service.handle().metrics()));
                assert_eq!((ended.fault, ended.unsent), (None, 0));
                assert_eq!(ended.received, ended.sent.digest());
            }
            println!("{CONNECTIONS} opened in {:?}\n{}", started.elapsed(), service.handle().metrics());
            let books = service.finish();
            books.assert_balanced(&CROWDED);
            assert_eq!(books.metrics.sum(|worker| worker.connected), CONNECTIONS as u64);
        });
    });
}
