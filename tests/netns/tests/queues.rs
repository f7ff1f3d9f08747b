//! Several queues, on one worker and on several.

use std::thread;
use std::time::Duration;

use ringwire_netns::{Addressing, Books, Echo, Pattern, Scene, Service, kernel, options, within};

const LIMIT: Duration = Duration::from_secs(60);
const QUEUES: u32 = 4;

/// Connections over four queues; every one must move its bytes.
fn echoes(addressing: Addressing, workers: usize) -> Books {
    let scene = Scene::shaped(addressing, |link| link.queues(QUEUES));
    let addr = scene.at(7);
    let engine = scene.builder().workers(workers).start().expect("the engine starts");
    assert_eq!(engine.handle().mode().len(), QUEUES as usize);
    let service = Service::start(engine, move |worker| Echo::tcp(worker, addr, &options()));
    thread::scope(|scope| {
        for number in 0..32 {
            let (scene, service) = (&scene, &service);
            scope.spawn(move || {
                let pattern = Pattern::new(number, 200_000);
                let echoed = kernel::connect(&scene.peer, addr)
                    .and_then(|stream| kernel::exchange(&stream, &pattern))
                    .unwrap_or_else(|error| panic!("{error}\n{}", service.handle().metrics()));
                assert_eq!(echoed, pattern.digest());
            });
        }
    });
    let books = service.finish();
    books.assert_balanced(&[]);
    assert_eq!(books.metrics.sum(|worker| worker.accepted), 32);
    books
}

#[test]
fn one_worker_serves_four_queues() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            echoes(addressing, 1);
        }
    });
}

#[test]
fn two_workers_share_four_queues() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let books = echoes(addressing, 2);
            // Flows are spread by their hash: with 32 of them neither worker stays without.
            assert!(books.metrics.workers.iter().all(|worker| worker.accepted > 0), "{}", books.metrics);
        }
    });
}
