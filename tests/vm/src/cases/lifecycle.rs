//! Attached and detached under traffic, cables pulled, drivers taken away, processes killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringwire_lab::Node;
use ringwire_netns::{Echo, Service, eventually, kernel, options};

use crate::nic::DriverCounters;
use crate::scene::{OURS, Scene, Unbound, device_of, run};

const EXIT_FAILED: i32 = 1;

/// What clients at the peer have got back so far.
#[derive(Debug, Default)]
struct Traffic {
    echoed: AtomicU64,
    is_over: AtomicBool,
}

impl Traffic {
    /// Runs clients of both kinds around `test`, which may take the server away at any time.
    fn around<R>(peer: &Node, to: SocketAddr, test: impl FnOnce(&Traffic) -> R) -> R {
        let traffic = Traffic::default();
        thread::scope(|scope| {
            scope.spawn(|| peer.run(|| traffic.datagrams(to)));
            scope.spawn(|| peer.run(|| traffic.streams(to)));
            let _over = Over(&traffic.is_over);
            test(&traffic)
        })
    }

    /// Waits until so much more has come back.
    fn flows(&self, bytes: u64) -> bool {
        let before = self.echoed.load(Ordering::Relaxed);
        eventually(Duration::from_secs(10), || self.echoed.load(Ordering::Relaxed) >= before + bytes)
    }

    fn datagrams(&self, to: SocketAddr) {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a port");
        socket.connect(to).expect("a route");
        socket.set_read_timeout(Some(Duration::from_millis(5))).expect("a limit");
        // The cable takes nothing while the other end has no driver.
        socket.set_write_timeout(Some(Duration::from_millis(5))).expect("a limit");
        let mut answer = [0; 2048];
        while !self.is_over.load(Ordering::Relaxed) {
            for _ in 0..16 {
                // Refused while nobody is there.
                let _ = socket.send(&[9; 1000]);
            }
            while let Ok(len) = socket.recv(&mut answer) {
                self.echoed.fetch_add(len as u64, Ordering::Relaxed);
            }
        }
    }

    /// One connection after the other.
    fn streams(&self, to: SocketAddr) {
        let mut answer = [0; 4000];
        while !self.is_over.load(Ordering::Relaxed) {
            let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_millis(200)) else {
                continue;
            };
            stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a limit");
            for _ in 0..20 {
                if stream.write_all(&[7; 4000]).is_err() || stream.read_exact(&mut answer).is_err() {
                    break;
                }
                self.echoed.fetch_add(answer.len() as u64, Ordering::Relaxed);
            }
        }
    }
}

/// Ends the traffic, also when a test panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn attached_again() {
    const ROUNDS: usize = 50;
    let scene = Scene::new();
    let addr = scene.at(9000);
    let mut slowest = Duration::ZERO;
    Traffic::around(&scene.peer, addr, |traffic| {
        for round in 0..ROUNDS {
            let started = Instant::now();
            let engine = scene.builder().start().unwrap_or_else(|error| panic!("round {round}: {error}"));
            let took = started.elapsed();
            slowest = slowest.max(took);
            let service = Service::start(engine, move |worker| {
                (Echo::udp(worker, addr), Echo::tcp(worker, addr, &options()))
            });
            assert!(
                traffic.flows(20_000),
                "round {round}: {:?}\n{}\n{:?}",
                DriverCounters::ours(),
                service.handle().metrics(),
                DriverCounters::peers(&scene.peer)
            );
            service.handle().stop();
            let books = service.finish();
            assert!(books.frames.iter().all(|counts| counts.check()), "round {round}: {books:?}");
        }
    });
    println!("slowest of {ROUNDS} starts: {slowest:?}");
    assert!(!run(&["ip", "-details", "link", "show", OURS]).contains("prog/xdp"), "a program stayed behind");
}

pub(crate) fn link_down_and_up() {
    let scene = Scene::new();
    let addr = scene.at(9000);
    let engine = scene.builder().start().expect("zero-copy is to be had");
    let service =
        Service::start(engine, move |worker| (Echo::udp(worker, addr), Echo::tcp(worker, addr, &options())));
    let stream = kernel::connect(&scene.peer, addr).expect("a connection");
    Traffic::around(&scene.peer, addr, |traffic| {
        for round in 0..5 {
            assert!(traffic.flows(50_000), "round {round}:\n{}", service.handle().metrics());
            run(&["ip", "link", "set", OURS, "down"]);
            thread::sleep(Duration::from_millis(100));
            run(&["ip", "link", "set", OURS, "up"]);
        }
        assert!(traffic.flows(50_000), "{}", service.handle().metrics());
    });
    assert!(is_echoed(&stream, b"the same connection as before"));
    drop(stream);
    let books = service.finish();
    let metrics = &books.metrics;
    assert!(books.frames.iter().all(|counts| counts.check()), "{books:?}");
    assert_eq!(metrics.sum(|worker| worker.protocol_errors), 0, "{metrics}");
}

pub(crate) fn driver_unbound_and_bound() {
    let scene = Scene::new();
    let addr = scene.at(9000);
    let device = device_of(OURS);
    for round in 0..3 {
        let mut served = Served::start(&["echo", "-i", OURS, "--bind-mode", "zero-copy"]);
        let unbound = Traffic::around(&scene.peer, addr, |traffic| {
            assert!(traffic.flows(100_000), "round {round}");
            Unbound::new(&device)
        });
        // It says that its interface is gone, and ends.
        assert_eq!(served.exit_code(), Some(EXIT_FAILED), "round {round}");
        drop(unbound);
        scene.set_up_our_card();
    }
    let _served = Served::start(&["echo", "-i", OURS, "--bind-mode", "zero-copy"]);
    assert!(Traffic::around(&scene.peer, addr, |traffic| traffic.flows(100_000)), "it serves again");
}

pub(crate) fn killed_and_started_again() {
    const ROUNDS: usize = 10;
    let scene = Scene::new();
    let addr = scene.at(9000);
    let mut slowest = Duration::ZERO;
    Traffic::around(&scene.peer, addr, |traffic| {
        for round in 0..ROUNDS {
            let started = Instant::now();
            let mut served = Served::start(&["echo", "-i", OURS, "--bind-mode", "zero-copy"]);
            slowest = slowest.max(started.elapsed());
            assert!(served.banner.contains("native zero-copy"), "{}", served.banner);
            assert!(traffic.flows(100_000), "round {round}");
            served.child.kill().expect("a kill");
            served.child.wait().expect("it ends");
            let is_gone = || !run(&["ip", "-details", "link", "show", OURS]).contains("prog/xdp");
            assert!(eventually(Duration::from_secs(2), is_gone), "round {round}: a program stayed behind");
        }
    });
    println!("slowest of {ROUNDS} starts: {slowest:?}");
}

fn is_echoed(mut stream: &TcpStream, text: &[u8]) -> bool {
    let mut answer = vec![0; text.len()];
    stream.write_all(text).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == text
}

/// A `ringwire serve`, killed at the latest when it is dropped.
struct Served {
    child: Child,
    banner: String,
}

impl Served {
    /// Returns when it serves.
    fn start(args: &[&str]) -> Served {
        let mut command = Command::new("ringwire");
        let mut child =
            command.arg("serve").args(args).stdout(Stdio::piped()).spawn().expect("ringwire is here");
        let mut banner = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        lines.read_line(&mut banner).expect("a pipe can be read");
        assert!(banner.starts_with("serving "), "no service: '{banner}'");
        Served { child, banner }
    }

    /// Waits for its end.
    fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        let has_ended = eventually(Duration::from_secs(10), || {
            status = self.child.try_wait().expect("it can be asked");
            status.is_some()
        });
        assert!(has_ended, "it does not end");
        status.and_then(|status| status.code())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
