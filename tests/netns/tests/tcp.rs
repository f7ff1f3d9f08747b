//! One connection at a time: opening, refusing, ending in every order.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ringwire::{CloseReason, DropReason};
use ringwire_netns::{
    Addressing, Closing, Echo, Ended, Pattern, Scene, Script, Service, Transfers, eventually, kernel,
    options, within,
};

const LIMIT: Duration = Duration::from_secs(60);

fn tcp_echo(scene: &Scene) -> Service {
    let addr = scene.at(7);
    Service::start(scene.engine(), move |worker| Echo::tcp(worker, addr, &options()))
}

/// A server that follows `script` on every connection.
fn serving(scene: &Scene, script: Script) -> (Service, Receiver<Ended>) {
    let (ended, ends) = channel();
    let addr = scene.at(80);
    let service = Service::start(scene.engine(), move |worker| {
        Transfers::accepting(worker, addr, &options(), script.clone(), ended.clone())
    });
    (service, ends)
}

/// A client that follows `script` towards `port` of the peer.
fn opening(scene: &Scene, port: u16, script: Script) -> (Service, Receiver<Ended>) {
    let (ended, ends) = channel();
    let to = scene.peer_at(port);
    let service = Service::start(scene.engine(), move |worker| {
        Transfers::opening(worker, to, &options(), vec![script.clone()], ended.clone())
    });
    (service, ends)
}

fn end(ends: &Receiver<Ended>, service: &Service) -> Ended {
    ends.recv_timeout(Duration::from_secs(20))
        .unwrap_or_else(|_| panic!("the connection does not end\n{}", service.handle().metrics()))
}

#[test]
fn one_byte_comes_back() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let service = tcp_echo(&scene);
            let mut stream = kernel::connect(&scene.peer, scene.at(7))
                .unwrap_or_else(|error| panic!("{addressing:?}: {error}\n{}", service.handle().metrics()));
            stream.write_all(b"x").expect("a write");
            let mut back = [0; 1];
            stream.read_exact(&mut back).expect("an echo");
            assert_eq!(&back, b"x");
            drop(stream);
            let books = service.finish();
            books.assert_balanced(&[]);
            assert_eq!(books.metrics.sum(|worker| worker.copied_bytes), 0, "{}", books.metrics);
            assert_eq!(books.metrics.sum(|worker| worker.accepted), 1);
        }
    });
}

#[test]
fn a_closed_port_refuses() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let service = tcp_echo(&scene);
            let refused = kernel::connect(&scene.peer, scene.at(8)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{addressing:?}");
            let books = service.finish();
            books.assert_balanced(&[DropReason::TcpNoSocket]);
            let resets = u64::from(addressing == Addressing::Dedicated);
            assert_eq!(books.metrics.sum(|worker| worker.resets_sent), resets, "{}", books.metrics);
        }
    });
}

#[test]
fn the_kernel_refuses_a_closed_port() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let script = Script::new(Pattern::new(1, 10), Closing::First);
            let (service, ends) = opening(&scene, 9, script);
            let ended = end(&ends, &service);
            assert_eq!(ended.fault, Some(CloseReason::Refused), "{addressing:?}");
            service.finish().assert_balanced(&[]);
        }
    });
}

/// The engine ends its direction first and reads on: FIN-WAIT, then TIME-WAIT on its side.
#[test]
fn the_engine_closes_first() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let (from_engine, from_kernel) = (Pattern::new(1, 50_000), Pattern::new(2, 70_000));
            let (service, ends) = serving(&scene, Script::new(from_engine.clone(), Closing::First));
            let stream = kernel::connect(&scene.peer, scene.at(80)).expect("a connection");
            let received = kernel::receive(&stream, u64::MAX).expect("the engine's stream ends");
            assert_eq!(received, from_engine.digest());
            kernel::send(&stream, from_kernel.clone()).expect("the other direction is open");
            drop(stream);
            let ended = end(&ends, &service);
            assert_eq!((ended.received, ended.fault), (from_kernel.digest(), None), "{addressing:?}");
            service.finish().assert_balanced(&[]);
        }
    });
}

/// The kernel ends its direction first and reads on: CLOSE-WAIT, then LAST-ACK on the engine's side.
#[test]
fn the_kernel_closes_first() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let (from_engine, from_kernel) = (Pattern::new(1, 50_000), Pattern::new(2, 70_000));
            let script = Script::new(from_engine.clone(), Closing::AnswerAfterEof);
            let (service, ends) = serving(&scene, script);
            let stream = kernel::connect(&scene.peer, scene.at(80)).expect("a connection");
            kernel::send(&stream, from_kernel.clone()).expect("a write");
            stream.shutdown(Shutdown::Write).expect("a half-close");
            let received = kernel::receive(&stream, u64::MAX).expect("the engine answers");
            assert_eq!(received, from_engine.digest());
            let ended = end(&ends, &service);
            assert_eq!((ended.received, ended.fault), (from_kernel.digest(), None), "{addressing:?}");
            // Whoever closed first waits: the kernel here, so the engine is rid of it long before TIME-WAIT would end.
            let is_gone = || service.handle().metrics().sum(|worker| worker.connections) == 0;
            assert!(eventually(Duration::from_secs(2), is_gone), "{}", service.handle().metrics());
            assert_eq!(time_waits(&scene), 1);
            service.finish().assert_balanced(&[]);
        }
    });
}

/// Connections in TIME-WAIT in the peer's kernel.
fn time_waits(scene: &Scene) -> usize {
    let output = scene.peer.command("ss").args(["-tanH", "state", "time-wait"]).output().expect("ss");
    String::from_utf8_lossy(&output.stdout).lines().count()
}

/// The same as a client: a Ringwire client against a kernel server, both closing orders.
#[test]
fn a_ringwire_client_against_a_kernel_server() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            for closing in [Closing::First, Closing::AnswerAfterEof] {
                let scene = Scene::new(addressing);
                let (from_engine, from_kernel) = (Pattern::new(3, 50_000), Pattern::new(4, 70_000));
                let (listener, addr) = kernel::listen(&scene.peer, scene.peer_ip());
                let script = Script::new(from_engine.clone(), closing);
                let (service, ends) = opening(&scene, addr.port(), script);
                let stream = kernel::accept(&listener).expect("a connection");
                if closing == Closing::First {
                    let received = kernel::receive(&stream, u64::MAX).expect("the engine's stream ends");
                    assert_eq!(received, from_engine.digest());
                    kernel::send(&stream, from_kernel.clone()).expect("a write");
                } else {
                    kernel::send(&stream, from_kernel.clone()).expect("a write");
                    stream.shutdown(Shutdown::Write).expect("a half-close");
                    let received = kernel::receive(&stream, u64::MAX).expect("the engine answers");
                    assert_eq!(received, from_engine.digest());
                }
                drop(stream);
                let ended = end(&ends, &service);
                assert_eq!((ended.received, ended.fault), (from_kernel.digest(), None), "{addressing:?}");
                service.finish().assert_balanced(&[]);
            }
        }
    });
}

/// Both sides send FIN at once, again and again: whatever the order on the wire, all arrives and both get rid of it.
#[test]
fn both_close_at_once() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated);
        let (from_engine, from_kernel) = (Pattern::new(5, 1000), Pattern::new(6, 1000));
        let (service, ends) = serving(&scene, Script::new(from_engine.clone(), Closing::First));
        for _ in 0..100 {
            let stream = kernel::connect(&scene.peer, scene.at(80)).expect("a connection");
            kernel::send(&stream, from_kernel.clone()).expect("a write");
            stream.shutdown(Shutdown::Write).expect("a half-close");
            let received = kernel::receive(&stream, u64::MAX).expect("the engine's stream ends");
            assert_eq!(received, from_engine.digest());
            let ended = end(&ends, &service);
            assert_eq!((ended.received, ended.fault), (from_kernel.digest(), None));
        }
        service.finish().assert_balanced(&[]);
    });
}

/// The kernel calls again from the same port while the engine still remembers the last connection (RFC 9293 3.10.7.4, MAY-2).
#[test]
fn a_port_in_time_wait_is_opened_anew() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let (ended, ends) = channel();
            let addr = scene.at(80);
            let script = Script::new(Pattern::new(1, 1000), Closing::First);
            // TIME-WAIT outlasts the first connection and ends before the engine has to be at rest.
            let mut long = options();
            long.time_wait = Duration::from_secs(2);
            let service = Service::start(scene.engine(), move |worker| {
                Transfers::accepting(worker, addr, &long, script.clone(), ended.clone())
            });
            let mut port = None;
            for _ in 0..3 {
                let stream = kernel::connect_from(&scene.peer, port, addr).expect("a connection");
                port = Some(stream.local_addr().expect("it is bound").port());
                assert_eq!(kernel::receive(&stream, u64::MAX).expect("a stream").len, 1000);
                drop(stream);
                assert_eq!(end(&ends, &service).fault, None, "{addressing:?}");
                let remembers = || service.handle().metrics().sum(|worker| worker.connections) == 1;
                assert!(eventually(Duration::from_secs(1), remembers), "{}", service.handle().metrics());
            }
            let books = service.finish();
            books.assert_balanced(&[]);
            assert_eq!(books.metrics.sum(|worker| worker.accepted), 3, "{}", books.metrics);
        }
    });
}

#[test]
fn a_reset_reaches_either_side() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated);
        let (service, ends) = serving(&scene, Script::new(Pattern::new(1, 1 << 20), Closing::Last));
        let mut stream = kernel::connect(&scene.peer, scene.at(80)).expect("a connection");
        stream.read_exact(&mut [0; 100]).expect("the engine sends");
        // Unread data on close is a reset (RFC 2525 2.17).
        drop(stream);
        assert_eq!(end(&ends, &service).fault, Some(CloseReason::Reset));
        let mut stream = kernel::connect(&scene.peer, scene.at(80)).expect("a connection");
        stream.read_exact(&mut [0; 100]).expect("the engine sends");
        // An engine that goes resets what is open (design 7).
        service.handle().stop();
        let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        service.finish();
    });
}

#[test]
fn netcat_hears_itself() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let service = tcp_echo(&scene);
            let mut nc = scene.peer.command("nc");
            nc.args(["-N", &scene.ip().to_string(), "7"]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut nc = nc.spawn().expect("netcat is installed");
            let mut stdin = nc.stdin.take().expect("it is piped");
            stdin.write_all(b"hello\n").expect("a pipe can be written");
            drop(stdin);
            let output = nc.wait_with_output().expect("netcat ends");
            assert_eq!(output.stdout, b"hello\n", "{addressing:?}");
            service.finish().assert_balanced(&[]);
        }
    });
}
