//! Readers and writers that cannot keep up, or have nothing to say: windows close and open again, nothing is lost, nobody starves.

use std::io::{ErrorKind, Write};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use ringwire::DropReason;
use ringwire_netns::{
    Addressing, Closing, Echo, Ended, Pace, Pattern, Scene, Script, Service, Transfers, kernel, options,
    within,
};

const LIMIT: Duration = Duration::from_secs(60);

fn serving(scene: &Scene, script: Script) -> (Service, Receiver<Ended>) {
    let (ended, ends) = channel();
    let addr = scene.at(80);
    let service = Service::start(scene.engine(), move |worker| {
        Transfers::accepting(worker, addr, &options(), script.clone(), ended.clone())
    });
    (service, ends)
}

fn end(ends: &Receiver<Ended>, service: &Service) -> Ended {
    ends.recv_timeout(Duration::from_secs(30))
        .unwrap_or_else(|_| panic!("the connection does not end\n{}", service.handle().metrics()))
}

/// What a clean link may still bring: probes of a closed window are answered, and count as what they are.
const PROBES: [DropReason; 1] = [DropReason::TcpOutOfWindow];

#[test]
fn a_slow_engine_reader_closes_the_window_and_gets_everything() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated);
        let script = Script {
            // Twice a window is read at 64 KiB each 50 ms.
            read: Pace::Slow { bytes: 64 << 10, every: Duration::from_millis(50) },
            ..Script::new(Pattern::new(0, 0), Closing::Last)
        };
        let (service, ends) = serving(&scene, script);
        let pattern = Pattern::new(1, 3 << 20);
        let mut stream = kernel::connect(&scene.peer, scene.at(80)).expect("a connection");
        stream.set_nonblocking(true).expect("a socket option");
        let (was_blocked, started) = (write_all(&mut stream, pattern.clone()), Instant::now());
        drop(stream);
        let ended = end(&ends, &service);
        assert_eq!((ended.received, ended.fault), (pattern.digest(), None), "{:?}", started.elapsed());
        assert!(was_blocked, "3 MiB fit into the buffers of both kernels and the engine");
        service.finish().assert_balanced(&PROBES);
    });
}

/// Writes all; whether there was a time without room.
fn write_all(stream: &mut std::net::TcpStream, mut pattern: Pattern) -> bool {
    let (mut bytes, mut was_blocked) = (vec![0; 1 << 16], false);
    while pattern.left() > 0 {
        let len = pattern.fill(&mut bytes);
        let mut rest = &bytes[..len];
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(len) => rest = &rest[len..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    was_blocked = true;
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    was_blocked
}

#[test]
fn a_slow_kernel_reader_holds_the_engine_back_and_gets_everything() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated);
        let pattern = Pattern::new(2, 20 << 20);
        let (service, ends) = serving(&scene, Script::new(pattern.clone(), Closing::First));
        let stream = kernel::connect(&scene.peer, scene.at(80)).expect("a connection");
        // Long enough for the window to close and to be probed.
        thread::sleep(Duration::from_millis(1500));
        let sent = service.handle().metrics().sum(|worker| worker.tx_bytes);
        assert!(sent < 20 << 20, "nothing held the engine back: {sent} bytes were sent");
        assert_eq!(kernel::receive(&stream, u64::MAX).expect("a stream"), pattern.digest());
        drop(stream);
        let ended = end(&ends, &service);
        assert_eq!((ended.unsent, ended.fault), (0, None));
        service.finish().assert_balanced(&PROBES);
    });
}

#[test]
fn a_reader_that_stalls_does_not_starve_its_neighbours() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated);
        let script = Script {
            // What they hold unread stays theirs after the reset, until they read again.
            read: Pace::Slow { bytes: 256 << 10, every: Duration::from_secs(3) },
            ..Script::new(Pattern::new(0, 0), Closing::Last)
        };
        let (addr, echo) = (scene.at(80), scene.at(7));
        let (ended, ends) = channel();
        // Few frames: the stalled readers could pin every one of them.
        let engine = scene.builder().frames_per_worker(512).start().expect("the engine starts");
        let service = Service::start(engine, move |worker| {
            let stalled = Transfers::accepting(worker, addr, &options(), script.clone(), ended.clone());
            (stalled, Echo::tcp(worker, echo, &options()))
        });
        let stalled: Vec<_> = (0..8)
            .map(|_| {
                let mut stream = kernel::connect(&scene.peer, addr).expect("a connection");
                stream.set_nonblocking(true).expect("a socket option");
                // Fills the window, and the kernel's own buffer behind it.
                while stream.write(&[7; 1 << 16]).is_ok() {}
                stream
            })
            .collect();
        thread::sleep(Duration::from_millis(300));
        let stream = kernel::connect(&scene.peer, echo).expect("a connection beside them");
        let pattern = Pattern::new(3, 2 << 20);
        let started = Instant::now();
        assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
        println!("2 MiB echoed beside 8 stalled readers in {:?}", started.elapsed());
        drop(stream);
        for stream in stalled {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
        }
        for _ in 0..8 {
            end(&ends, &service);
        }
        let books = service.finish();
        let low = [DropReason::NoFrame, DropReason::TcpReceiveFull, DropReason::TcpReassemblyFull];
        books.assert_balanced(&[&PROBES[..], &low].concat());
    });
}

#[test]
fn peers_that_do_not_read_do_not_starve_others() {
    const DEAF: usize = 40;
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated);
        let (deaf_addr, addr) = (scene.at(80), scene.at(81));
        let (ended, ends) = channel();
        let pattern = Pattern::new(2, 2 << 20);
        let script = Script::new(pattern.clone(), Closing::First);
        let service = Service::start(scene.engine(), move |worker| {
            let endless = Script::new(Pattern::new(1, 10 << 20), Closing::Last);
            (
                Transfers::accepting(worker, deaf_addr, &options(), endless, ended.clone()),
                Transfers::accepting(worker, addr, &options(), script.clone(), ended.clone()),
            )
        });
        let connect = |_| kernel::connect(&scene.peer, deaf_addr).expect("a connection");
        let deaf: Vec<_> = (0..DEAF).map(connect).collect();
        thread::sleep(Duration::from_millis(500));
        let started = Instant::now();
        let stream = kernel::connect(&scene.peer, addr).expect("a connection beside them");
        let received = kernel::receive(&stream, u64::MAX);
        let metrics = service.handle().metrics();
        assert_eq!(received.unwrap_or_else(|error| panic!("{error}\n{metrics}")), pattern.digest());
        println!("2 MiB sent beside {DEAF} deaf peers in {:?}", started.elapsed());
        drop(stream);
        // Unread data makes it a reset.
        drop(deaf);
        for _ in 0..=DEAF {
            end(&ends, &service);
        }
        // The kernel resets a connection for each segment that comes after its end.
        service.finish().assert_balanced(&[&PROBES[..], &[DropReason::TcpNoSocket]].concat());
    });
}

#[test]
fn slow_writers_are_heard_at_once() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated);
        // 200 writes of 100 bytes, one each 2 ms.
        let script = Script {
            write: Pace::Slow { bytes: 100, every: Duration::from_millis(2) },
            ..Script::new(Pattern::new(4, 20_000), Closing::Last)
        };
        let expected = script.send.digest();
        let (service, ends) = serving(&scene, script);
        let stream = kernel::connect(&scene.peer, scene.at(80)).expect("a connection");
        let pattern = Pattern::new(5, 20_000);
        let received = thread::scope(|scope| {
            let reader = scope.spawn(|| kernel::receive(&stream, 20_000).expect("the engine's words"));
            let (mut pattern, mut bytes) = (pattern.clone(), [0; 100]);
            while pattern.left() > 0 {
                let len = pattern.fill(&mut bytes);
                (&stream).write_all(&bytes[..len]).expect("a write");
                thread::sleep(Duration::from_millis(2));
            }
            reader.join().expect("the reader ends")
        });
        assert_eq!(received, expected);
        drop(stream);
        let ended = end(&ends, &service);
        assert_eq!((ended.received, ended.fault), (pattern.digest(), None));
        service.finish().assert_balanced(&[]);
    });
}
