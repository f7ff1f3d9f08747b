//! The closed loop over Ringwire, against a Ringwire echo on the same in-memory wire: no privilege needed.
#![cfg(feature = "xdp")]

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use ringwire::{
    Batch, Conn, Engine, EngineBuilder, Event, Events, Handle, Interface, PollMode, Recv, TcpOptions, Turn,
    TxBuf, UdpOptions, Worker,
};
use ringwire_load::{Fault, LoadError, Measured, Scenario, Waiting, Watch, Work, drive};

const PORT: u16 = 9000;

fn side(address: &str) -> EngineBuilder {
    let interface = Interface::new("memory").address(address.parse().unwrap());
    Engine::builder().interface(interface).poll_mode(PollMode::Adaptive)
}

/// Writes back what comes over TCP and UDP until the engine stops.
fn echo(mut worker: Worker) {
    worker.listen(([0, 0, 0, 0], PORT).into(), &TcpOptions::default()).unwrap();
    let udp = worker.bind_udp(([0, 0, 0, 0], PORT).into(), &UdpOptions::default()).unwrap();
    let mut events = Events::with_capacity(256);
    let (mut incoming, mut outgoing) = (Batch::with_capacity(64), Batch::with_capacity(64));
    let mut unsent: Vec<(Conn, TxBuf)> = Vec::new();
    while worker.poll(&mut events, Some(Duration::from_millis(1))).unwrap() != Turn::Stop {
        for event in events.drain() {
            match event {
                Event::Readable(conn) | Event::Writable(conn) => echo_stream(&mut worker, conn, &mut unsent),
                Event::Datagrams(_) => {
                    while worker.recv_batch(udp, &mut incoming).unwrap() > 0 {
                        for datagram in incoming.drain() {
                            outgoing.push(datagram.into_reply()).unwrap();
                        }
                        worker.send_batch(udp, &mut outgoing).unwrap();
                        assert!(outgoing.is_empty(), "the ring is longer than any load here");
                    }
                }
                _ => {}
            }
        }
    }
}

fn echo_stream(worker: &mut Worker, conn: Conn, unsent: &mut Vec<(Conn, TxBuf)>) {
    let held = unsent.iter().position(|(owner, _)| *owner == conn);
    let mut next = held.map(|place| unsent.remove(place).1);
    loop {
        let piece = match next.take() {
            Some(piece) => piece,
            None => match worker.recv(conn) {
                Ok(Recv::Data(piece)) => piece.into_tx(),
                Ok(Recv::Empty) => return,
                Ok(Recv::Eof) | Err(_) => return worker.close(conn),
            },
        };
        if let Err(refused) = worker.send_buf(conn, piece) {
            if refused.error.is_none() {
                unsent.push((conn, refused.buf));
            }
            return;
        }
    }
}

fn run(scenario: &Scenario) -> (Result<Measured, LoadError>, Handle) {
    let (server, client) = Engine::memory_pair(side("10.0.0.1/24"), side("10.0.0.2/24")).unwrap();
    let (server_handle, client_handle) = (server.handle(), client.handle());
    let seed = server.into_workers().remove(0);
    let measured = thread::scope(|scope| {
        scope.spawn(|| echo(seed.start()));
        let worker = client.into_workers().remove(0).start();
        let stop = AtomicBool::new(false);
        let watch = Watch { stop: &stop, on_interval: &mut |_| {} };
        let measured = {
            let mut options = TcpOptions::default();
            options.nodelay = true;
            drive::ringwire::run(scenario, worker, &options, Waiting::Busy, watch)
        };
        server_handle.stop();
        measured
    });
    (measured, client_handle)
}

/// Ends by the count: the test machine may have other things to do.
fn short(work: Work, port: u16) -> Scenario {
    Scenario {
        requests: Some(200),
        duration: Duration::from_secs(60),
        warmup: Duration::from_millis(1),
        timeout: Duration::from_secs(2),
        ..Scenario::new(work, ([10, 0, 0, 1], port).into())
    }
}

#[test]
fn all_kinds_of_work_run_clean() {
    for work in Work::ALL {
        for in_flight in [1, 32] {
            let (measured, client) = run(&Scenario { in_flight, ..short(work, PORT) });
            let measured = measured.unwrap();
            assert!(measured.requests >= 200, "{work} {in_flight}: {} requests", measured.requests);
            assert_eq!(measured.errors.total(), 0, "{work} {in_flight}: {}", measured.errors);
            let metrics = client.metrics();
            if work == Work::TcpCrr {
                let opened = metrics.sum(|worker| worker.connected);
                assert!(opened >= measured.requests, "a connection for each request: {opened}");
            }
        }
    }
}

#[test]
fn requests_of_many_segments_come_back_whole() {
    for size_bytes in [1, 1460, 1461, 300_000] {
        let scenario = Scenario { size_bytes, requests: Some(20), ..short(Work::TcpRr, PORT) };
        let measured = run(&scenario).0.unwrap();
        assert!(measured.requests >= 20 && measured.errors.total() == 0, "{size_bytes}: {}", measured.errors);
    }
}

#[test]
fn nobody_there_is_said() {
    for work in [Work::TcpRr, Work::TcpCrr] {
        let refused = run(&short(work, PORT + 1)).0.map(|measured| measured.requests);
        assert!(
            matches!(refused, Err(LoadError::Unanswered { last: Some(Fault::Refused), .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_datagram_longer_than_a_packet_is_refused() {
    let refused =
        run(&Scenario { size_bytes: 9000, ..short(Work::UdpRr, PORT) }).0.map(|measured| measured.requests);
    assert!(
        matches!(refused, Err(LoadError::TooLarge { size_bytes: 9000, most_bytes: 1472 })),
        "{refused:?}"
    );
}
