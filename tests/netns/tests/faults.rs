//! Faults under an engine at work: hardly any memory, panics in the application, the end in the middle, no interface any more.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::frame::FrameState;
use ringwire::{Conn, Event, Events, Recv, Turn, Worker, WorkerError};
use ringwire_lab::Node;
use ringwire_netns::{
    Addressing, Closing, Pattern, Scene, Script, Service, Transfers, eventually, kernel, options, program,
    within,
};

const LIMIT: Duration = Duration::from_secs(60);
/// What a client sends to make the application panic.
const PANIC: &[u8] = b"panic, please";

#[test]
fn sixty_four_frames_move_ten_megabytes_each_way() {
    within(LIMIT, || {
        const BYTES: u64 = 10_000_000;
        const FRAMES: u32 = 64;
        let scene = Scene::new(Addressing::Dedicated)
            .may_repeat("64 frames do not hold what the kernel sends at once");
        let (from_engine, from_kernel) = (Pattern::new(1, BYTES), Pattern::new(2, BYTES));
        let (ended, ends) = channel();
        let (addr, script) = (scene.at(80), Script::new(from_engine.clone(), Closing::First));
        let engine = scene.builder().frames_per_worker(FRAMES).start().expect("the engine starts");
        let service = Service::start(engine, move |worker| {
            Transfers::accepting(worker, addr, &options(), script.clone(), ended.clone())
        });
        let stream = kernel::connect(&scene.peer, addr).expect("a connection");
        let started = Instant::now();
        let received = thread::scope(|scope| {
            let reader = scope.spawn(|| kernel::receive(&stream, u64::MAX).expect("the engine's stream"));
            kernel::send(&stream, from_kernel.clone()).expect("a write");
            stream.shutdown(Shutdown::Write).expect("a half-close");
            reader.join().expect("the reader ends")
        });
        println!("10 MB each way through {FRAMES} frames in {:?}", started.elapsed());
        assert_eq!(received, from_engine.digest());
        let ended = ends.recv_timeout(Duration::from_secs(20)).expect("the engine is done too");
        assert_eq!((ended.received, ended.fault), (from_kernel.digest(), None));
        drop(stream);
        let books = service.finish();
        let [frames] = &books.frames[..] else { panic!("one worker") };
        let home = frames.of(FrameState::Free) + frames.of(FrameState::Fill);
        assert_eq!((frames.total(), home), (FRAMES, FRAMES), "frames are missing: {frames:?}");
    });
}

/// Echoes; panics at [`PANIC`], either guarded or not.
fn panicky(mut worker: Worker, addr: std::net::SocketAddr, is_guarded: bool) -> Result<(), WorkerError> {
    worker.listen(addr, &options()).expect("the port is free, also after a panic");
    let mut events = Events::with_capacity(64);
    while worker.poll(&mut events, None)? != Turn::Stop {
        for event in events.drain() {
            let Event::Readable(conn) = event else { continue };
            if is_guarded {
                // None: it panicked, and its connection is gone.
                let _ = worker.guard(conn, |worker| echo_or_panic(worker, conn));
            } else {
                echo_or_panic(&mut worker, conn);
            }
        }
    }
    Ok(())
}

fn echo_or_panic(worker: &mut Worker, conn: Conn) {
    loop {
        match worker.recv(conn) {
            Ok(Recv::Data(piece)) => {
                assert!(!piece.starts_with(PANIC), "the client asked for it");
                worker.send(conn, &piece).expect("room for a short answer");
            }
            Ok(Recv::Eof) => return worker.close(conn),
            Ok(Recv::Empty) | Err(_) => return,
        }
    }
}

fn is_echoed(mut stream: &TcpStream, text: &[u8]) -> bool {
    let mut answer = vec![0; text.len()];
    stream.write_all(text).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == text
}

/// Whether the other end has reset the connection.
fn is_reset(mut stream: &TcpStream) -> bool {
    stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[test]
fn a_panic_restarts_the_service_on_the_same_worker() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let (addr, engine) = (scene.at(7), scene.engine());
            let (handle, starts) = (engine.handle(), Arc::new(AtomicU64::new(0)));
            thread::scope(|scope| {
                let counted = Arc::clone(&starts);
                let running = scope.spawn(move || {
                    engine.run(|worker| {
                        counted.fetch_add(1, Ordering::Relaxed);
                        panicky(worker, addr, false)
                    })
                });
                for round in 1..=3 {
                    let connect = || kernel::connect(&scene.peer, addr).expect("the service is there");
                    // The first connection may come before the listener: it is refused then, or reset.
                    assert!(eventually(Duration::from_secs(5), || starts.load(Ordering::Relaxed) == round));
                    assert!(eventually(Duration::from_secs(5), || is_served(&scene, addr)));
                    let (bystander, victim) = (connect(), connect());
                    assert!(is_echoed(&bystander, b"hello") && is_echoed(&victim, b"hello"));
                    (&victim).write_all(PANIC).expect("a write");
                    assert!(
                        is_reset(&victim) && is_reset(&bystander),
                        "the worker's connections end with its service"
                    );
                }
                assert!(eventually(Duration::from_secs(5), || is_served(&scene, addr)), "and serves on");
                handle.stop();
                running.join().expect("the engine does not panic").expect("the service ends in order");
            });
            assert_eq!(starts.load(Ordering::Relaxed), 4, "{addressing:?}");
        }
    });
}

fn is_served(scene: &Scene, addr: std::net::SocketAddr) -> bool {
    kernel::connect(&scene.peer, addr).is_ok_and(|stream| is_echoed(&stream, b"are you there"))
}

#[test]
fn a_guarded_panic_resets_one_connection() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared);
        let (addr, engine) = (scene.at(7), scene.engine());
        let (handle, starts) = (engine.handle(), Arc::new(AtomicU64::new(0)));
        thread::scope(|scope| {
            let counted = Arc::clone(&starts);
            let running = scope.spawn(move || {
                engine.run(|worker| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    panicky(worker, addr, true)
                })
            });
            assert!(eventually(Duration::from_secs(5), || is_served(&scene, addr)));
            let bystander = kernel::connect(&scene.peer, addr).expect("a connection");
            for round in 0..5 {
                let victim = kernel::connect(&scene.peer, addr).expect("a connection");
                assert!(is_echoed(&victim, b"hello"));
                (&victim).write_all(PANIC).expect("a write");
                assert!(is_reset(&victim), "round {round}");
                assert!(is_echoed(&bystander, b"still here"), "round {round}");
            }
            handle.stop();
            running.join().expect("the engine does not panic").expect("the service ends in order");
        });
        assert_eq!(starts.load(Ordering::Relaxed), 1, "the service was never started again");
    });
}

#[test]
fn a_shutdown_under_load_delivers_what_was_written() {
    within(LIMIT, || {
        const STREAMS: usize = 8;
        let scene = Scene::new(Addressing::Shared);
        let (addr, engine) = (scene.at(19), scene.engine());
        let (handle, written) = (engine.handle(), AtomicU64::new(0));
        thread::scope(|scope| {
            let written = &written;
            let running =
                scope.spawn(move || engine.run(|worker| write_until_drained(worker, addr, written)));
            let connect = || kernel::connect(&scene.peer, addr);
            let streams: Vec<_> = (0..STREAMS)
                .map(|_| {
                    assert!(eventually(Duration::from_secs(5), || connect().is_ok()));
                    connect().expect("a connection")
                })
                .collect();
            let readers: Vec<_> =
                streams.into_iter().map(|stream| scope.spawn(move || read_slowly(&stream))).collect();
            thread::sleep(Duration::from_millis(300));
            let drained = handle.shutdown(Duration::from_secs(10));
            let read: u64 = readers.into_iter().map(|reader| reader.join().expect("an orderly end")).sum();
            running.join().expect("the engine does not panic").expect("the service ends in order");
            let written = written.load(Ordering::Relaxed);
            assert!(written > 1_000_000, "{written} bytes are no load");
            assert_eq!((drained.reset, read), (0, written));
        });
    });
}

/// Writes without end to every connection; at the drain says how much that was, and closes.
fn write_until_drained(
    mut worker: Worker,
    addr: std::net::SocketAddr,
    written: &AtomicU64,
) -> Result<(), WorkerError> {
    let listener = worker.listen(addr, &options()).expect("the port is free");
    let mut conns = std::collections::HashMap::new();
    let mut events = Events::with_capacity(64);
    let bytes = [5; 8 << 10];
    loop {
        match worker.poll(&mut events, None)? {
            Turn::Stop => return Ok(()),
            Turn::Drain => {
                worker.close_listener(listener);
                for (conn, total) in conns.drain() {
                    written.fetch_add(total, Ordering::Relaxed);
                    worker.close(conn);
                }
                events.drain().for_each(drop);
            }
            Turn::Run => {}
        }
        for event in events.drain() {
            let conn = match event {
                Event::Accepted { conn, .. } => {
                    conns.insert(conn, 0);
                    conn
                }
                Event::Writable(conn) => conn,
                // A test connection that only knocked.
                Event::Readable(conn) if matches!(worker.recv(conn), Ok(Recv::Eof) | Err(_)) => {
                    conns.remove(&conn);
                    worker.abort(conn);
                    continue;
                }
                Event::Closed { conn, .. } => {
                    conns.remove(&conn);
                    continue;
                }
                _ => continue,
            };
            while let (Some(total), Ok(sent)) = (conns.get_mut(&conn), worker.send(conn, &bytes)) {
                *total += sent as u64;
                if sent < bytes.len() {
                    break;
                }
            }
        }
    }
}

/// Reads to the end with pauses, so that much is under way at any time; how much it was.
fn read_slowly(mut stream: &TcpStream) -> u64 {
    let (mut bytes, mut total) = (vec![0; 64 << 10], 0);
    loop {
        match stream.read(&mut bytes).expect("no reset") {
            0 => return total,
            len => total += len as u64,
        }
        thread::sleep(Duration::from_micros(500));
    }
}

#[test]
fn sigterm_in_the_middle_of_an_answer_lets_it_end() {
    program::ringwire();
    within(LIMIT, || {
        const BYTES: usize = 30_000_000;
        let scene = Scene::new(Addressing::Shared);
        let mut served = program::serve(&scene.host, &["http", "-i", "eth0"], Duration::from_secs(5));
        let mut stream = kernel::connect(&scene.peer, scene.at(9000)).expect("a connection");
        write!(stream, "GET /bytes/{BYTES} HTTP/1.1\r\nHost: test\r\n\r\n").expect("a request");
        let mut answer = vec![0; 500_000];
        stream.read_exact(&mut answer).expect("the beginning of an answer");
        let signalled = Instant::now();
        served.child.signal(rustix::process::Signal::TERM.as_raw()).expect("a signal");
        stream.read_to_end(&mut answer).expect("the end of the answer, and no reset");
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        assert_eq!(answer.len() - head, BYTES);
        drop(stream);
        let (status, took) = (served.child.wait().expect("it ends"), signalled.elapsed());
        assert!(status.success(), "{status}");
        // Both sides have ended: TIME-WAIT holds nobody up.
        assert!(took < Duration::from_millis(1500), "it took {took:?} to end");
    });
}

#[test]
fn an_interface_that_is_removed_ends_the_program_with_that_news() {
    program::ringwire();
    within(LIMIT, || {
        for own in [None, Some("--address=10.77.0.101/24")] {
            let addressing = if own.is_some() { Addressing::Dedicated } else { Addressing::Shared };
            let scene = Scene::unjudged(addressing);
            let args: Vec<&str> = ["echo", "-i", "eth0"].into_iter().chain(own).collect();
            let mut served = program::serve(&scene.host, &args, Duration::from_secs(5));
            let stream = kernel::connect(&scene.peer, scene.at(9000)).expect("a connection");
            assert!(is_echoed(&stream, b"hello"));
            // Segments are under way when the interface goes.
            stream.set_nonblocking(true).expect("a socket");
            let _ = (&stream).write(&[1; 1 << 16]);
            let removed = Instant::now();
            remove(&scene.host);
            let status = served.child.wait().expect("it ends");
            assert_eq!(status.code(), Some(1), "{own:?}: {status}");
            assert!(removed.elapsed() < Duration::from_secs(4), "{own:?}: {:?}", removed.elapsed());
        }
    });
}

#[test]
fn an_interface_that_is_down_for_a_while_idles_a_worker_and_loses_nothing() {
    program::ringwire();
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared);
        let served = program::serve(&scene.host, &["echo", "-i", "eth0"], Duration::from_secs(5));
        let stream = kernel::connect(&scene.peer, scene.at(9000)).expect("a connection");
        assert!(is_echoed(&stream, b"hello"));
        let ip = |args: &[&str]| scene.host.command("ip").args(args).status().expect("iproute2").success();
        assert!(ip(&["link", "set", "eth0", "down"]));
        thread::sleep(Duration::from_millis(500));
        let before = cpu_time(served.child.id());
        thread::sleep(Duration::from_secs(1));
        let used = cpu_time(served.child.id()) - before;
        assert!(used < Duration::from_millis(200), "it spins: {used:?} of a second");
        assert!(ip(&["link", "set", "eth0", "up"]));
        assert!(is_echoed(&stream, b"up again"));
    });
}

fn remove(host: &Node) {
    let status = host.command("ip").args(["link", "delete", "eth0"]).status();
    assert!(status.expect("iproute2 is installed").success());
}

/// User and system time of a process.
fn cpu_time(pid: u32) -> Duration {
    /// The kernel's USER_HZ, the same on all its architectures.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // After the name, which is in parentheses: state is field 3, utime 14, stime 15.
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<u32>().expect("a number");
    TICK * (ticks(14) + ticks(15))
}
