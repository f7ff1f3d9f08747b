//! Packets that the queues bring to a worker other than the one whose socket they are for.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use ringwire::{DropReason, Event, Worker};
use ringwire_netns::{
    Addressing, App, Books, Closing, Echo, Pattern, Scene, Script, Service, Transfers, kernel, options,
    within,
};

const LIMIT: Duration = Duration::from_secs(60);
const QUEUES: u32 = 4;
const CONNECTIONS_EACH: u64 = 16;
const BYTES_EACH: u64 = 200_000;

fn scene(addressing: Addressing) -> Scene {
    Scene::shaped(addressing, |link| link.queues(QUEUES))
}

fn start<A: App>(scene: &Scene, make: impl Fn(&mut Worker) -> A + Send + Sync + 'static) -> Service {
    Service::start(scene.builder().workers(2).start().expect("the engine starts"), make)
}

/// An application on the first worker only.
#[derive(Debug)]
struct OnFirst(Option<Echo>);

impl OnFirst {
    fn new(worker: &mut Worker, echo: impl Fn(&mut Worker) -> Echo) -> OnFirst {
        OnFirst((worker.id() == 0).then(|| echo(worker)))
    }
}

impl App for OnFirst {
    fn on_event(&mut self, worker: &mut Worker, event: Event) {
        if let Some(echo) = &mut self.0 {
            echo.on_event(worker, event);
        }
    }

    fn on_turn(&mut self, worker: &mut Worker) -> Option<Duration> {
        self.0.as_mut().and_then(|echo| echo.on_turn(worker))
    }
}

fn assert_handed_over(books: &Books) {
    // A worker that is not scheduled for a while lets its ring fill up; TCP repairs that.
    books.assert_balanced(&[DropReason::HandOffFull]);
    assert!(books.metrics.sum(|worker| worker.handed_over) > 0, "nothing was handed over\n{}", books.metrics);
}

#[test]
fn answers_to_active_opens_find_the_worker_that_asked() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = scene(addressing);
            let (listener, addr) = kernel::listen(&scene.peer, scene.peer_ip());
            let (ended, ends) = channel();
            let pattern = |number| Pattern::new(number, BYTES_EACH);
            let scripts: Vec<_> =
                (0..CONNECTIONS_EACH).map(|number| Script::new(pattern(number), Closing::First)).collect();
            thread::scope(|scope| {
                for _ in 0..2 * CONNECTIONS_EACH {
                    scope.spawn(|| kernel::accept(&listener).and_then(|stream| kernel::echo(&stream)));
                }
                let service = start(&scene, move |worker| {
                    Transfers::opening(worker, addr, &options(), scripts.clone(), ended.clone())
                });
                for _ in 0..2 * CONNECTIONS_EACH {
                    let ended = ends.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| {
                        panic!("a connection does not end\n{}", service.handle().metrics())
                    });
                    assert_eq!((ended.fault, ended.unsent), (None, 0));
                    assert_eq!(ended.received, ended.sent.digest());
                }
                assert_handed_over(&service.finish());
            });
        }
    });
}

#[test]
fn a_listener_on_one_worker_is_found_by_every_queue() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = scene(addressing);
            let addr = scene.at(7);
            let service = start(&scene, move |worker| {
                OnFirst::new(worker, |worker| Echo::tcp(worker, addr, &options()))
            });
            thread::scope(|scope| {
                for number in 0..CONNECTIONS_EACH {
                    let (scene, service) = (&scene, &service);
                    scope.spawn(move || {
                        let pattern = Pattern::new(number, BYTES_EACH);
                        let echoed = kernel::connect(&scene.peer, addr)
                            .and_then(|stream| kernel::exchange(&stream, &pattern))
                            .unwrap_or_else(|error| panic!("{error}\n{}", service.handle().metrics()));
                        assert_eq!(echoed, pattern.digest());
                    });
                }
            });
            let books = service.finish();
            assert_handed_over(&books);
            assert_eq!(
                books.metrics.workers.iter().map(|worker| worker.accepted).max(),
                Some(CONNECTIONS_EACH)
            );
        }
    });
}

#[test]
fn a_datagram_socket_on_one_worker_is_found_by_every_queue() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = scene(addressing);
            let addr = scene.at(7);
            let service = start(&scene, move |worker| OnFirst::new(worker, |worker| Echo::udp(worker, addr)));
            for number in 0..32_u8 {
                let socket = kernel::udp(&scene.peer, scene.peer_ip(), addr);
                socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
                socket.send(&[number; 100]).expect("sent");
                let mut answer = [0; 200];
                let len = socket
                    .recv(&mut answer)
                    .unwrap_or_else(|error| panic!("{error}\n{}", service.handle().metrics()));
                assert_eq!(&answer[..len], &[number; 100]);
            }
            assert_handed_over(&service.finish());
        }
    });
}

#[test]
fn strangers_are_refused_and_not_handed_over() {
    within(LIMIT, || {
        let scene = scene(Addressing::Dedicated);
        let service = start(&scene, |_| OnFirst(None));
        for port in 1000..1032 {
            let refused = kernel::connect(&scene.peer, SocketAddr::new(scene.ip(), port));
            assert_eq!(refused.expect_err("nobody listens").kind(), std::io::ErrorKind::ConnectionRefused);
        }
        let books = service.finish();
        assert_eq!(books.metrics.sum(|worker| worker.handed_over), 0, "{}", books.metrics);
    });
}
