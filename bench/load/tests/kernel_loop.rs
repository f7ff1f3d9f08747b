//! The closed loop over kernel sockets: against the echo servers, and against servers that do wrong.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringwire_load::{Ended, Fault, LoadError, Measured, Scenario, Waiting, Watch, Work, drive};
use ringwire_peers::kernel::{TcpEcho, UdpEcho, Wait};

const ANY_PORT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);

fn short(work: Work, target: SocketAddr) -> Scenario {
    Scenario {
        duration: Duration::from_millis(300),
        warmup: Duration::from_millis(50),
        interval: Duration::from_millis(100),
        ..Scenario::new(work, target)
    }
}

fn run(scenario: &Scenario) -> Result<Measured, LoadError> {
    let stop = AtomicBool::new(false);
    drive::kernel::run(scenario, Waiting::Interrupt, Watch { stop: &stop, on_interval: &mut |_| {} })
}

/// Runs `client` beside both echo servers, on one port each.
fn with_echo(client: impl FnOnce(SocketAddr, SocketAddr)) {
    let tcp = TcpEcho::bind(ANY_PORT, Wait::Blocking).unwrap();
    let udp = UdpEcho::bind(ANY_PORT, Wait::Blocking).unwrap();
    let (tcp_addr, udp_addr) = (tcp.local_addr(), udp.local_addr());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| tcp.run(&stop).unwrap());
        scope.spawn(|| udp.run(&stop).unwrap());
        client(tcp_addr, udp_addr);
        stop.store(true, Ordering::Relaxed);
    });
}

fn assert_clean(measured: &Measured, in_flight: u64) {
    assert!(measured.requests > 10, "{} requests", measured.requests);
    assert_eq!(measured.errors.total(), 0);
    assert_eq!(measured.latency.count, measured.requests);
    assert!(measured.duration_ns >= 300_000_000);
    // In a closed loop the latencies fill the time: in_flight askers, never idle.
    let asked_ns = measured.latency.mean * measured.requests as f64;
    let expected_ns = (in_flight * measured.duration_ns) as f64;
    assert!((0.7..1.1).contains(&(asked_ns / expected_ns)), "{asked_ns} of {expected_ns}");
}

#[test]
fn all_kinds_of_work_run_clean() {
    with_echo(|tcp, udp| {
        for in_flight in [1, 16] {
            for (work, target) in [(Work::TcpRr, tcp), (Work::TcpCrr, tcp), (Work::UdpRr, udp)] {
                let measured = run(&Scenario { in_flight, ..short(work, target) }).unwrap();
                assert_clean(&measured, in_flight as u64);
                assert_eq!(measured.ended, Ended::Complete);
                assert!(measured.intervals.len() >= 3);
            }
        }
    });
}

#[test]
fn sizes_from_least_to_more_than_the_buffers_hold() {
    with_echo(|tcp, udp| {
        for size_bytes in [1, 7, 1460, 8 << 20] {
            let scenario = Scenario { size_bytes, requests: Some(3), ..short(Work::TcpRr, tcp) };
            let scenario = Scenario { duration: Duration::from_secs(20), ..scenario };
            let measured = run(&scenario).unwrap();
            assert!(measured.requests >= 3 && measured.errors.total() == 0, "{size_bytes}");
        }
        for size_bytes in [8, 1472, 65_507] {
            let scenario = Scenario { size_bytes, requests: Some(3), ..short(Work::UdpRr, udp) };
            let measured = run(&scenario).unwrap();
            assert!(measured.requests >= 3 && measured.errors.total() == 0, "{size_bytes}");
        }
    });
}

#[test]
fn nobody_there_is_said_at_once() {
    let gone = TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap();
    for work in Work::ALL {
        let refused = run(&short(work, gone)).map(|measured| measured.requests);
        assert!(
            matches!(refused, Err(LoadError::Unanswered { answered: 0, last: Some(Fault::Refused), .. })),
            "{work}: {refused:?}"
        );
    }
}

#[test]
fn silence_is_a_timeout() {
    let udp = UdpSocket::bind(ANY_PORT).unwrap();
    let tcp = TcpListener::bind(ANY_PORT).unwrap();
    let targets = [udp.local_addr().unwrap(), tcp.local_addr().unwrap()];
    for (work, target) in [Work::UdpRr, Work::TcpRr].into_iter().zip(targets) {
        let scenario = Scenario { timeout: Duration::from_millis(30), ..short(work, target) };
        let silent = run(&scenario).map(|measured| measured.requests);
        assert!(
            matches!(silent, Err(LoadError::Unanswered { last: Some(Fault::Timeout), .. })),
            "{work}: {silent:?}"
        );
    }
}

/// Answers UDP with what `reply` makes of each request, which knows how many there were before.
fn with_udp_server(reply: impl Fn(u64, &mut Vec<u8>) + Sync, client: impl FnOnce(SocketAddr)) {
    let socket = UdpSocket::bind(ANY_PORT).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let addr = socket.local_addr().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut datagram = vec![0; 2048];
                let Ok((len, peer)) = socket.recv_from(&mut datagram) else { continue };
                datagram.truncate(len);
                reply(count, &mut datagram);
                count += 1;
                if !datagram.is_empty() {
                    socket.send_to(&datagram, peer).unwrap();
                }
            }
        });
        client(addr);
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn wrong_short_and_lost_datagrams_are_never_answers() {
    let reply = |count, datagram: &mut Vec<u8>| match count % 10 {
        3 => datagram[40] ^= 1,
        5 => datagram.truncate(63),
        7 => datagram.push(0),
        9 => datagram.clear(),
        _ => {}
    };
    with_udp_server(reply, |addr| {
        let scenario = Scenario { timeout: Duration::from_millis(5), ..short(Work::UdpRr, addr) };
        let measured = run(&scenario).unwrap();
        let errors = measured.errors;
        let tenth = measured.requests / 6;
        for (name, count, times) in [("corrupt", errors.corrupt, 2), ("short", errors.short, 1)] {
            let expected = times * tenth;
            assert!(count.abs_diff(expected) <= 2 + expected / 10, "{name}: {count} for {expected}");
        }
        assert!(errors.timeout > 0 && errors.refused + errors.reset == 0, "{errors}");
    });
}

#[test]
fn wrong_streams_are_never_answers() {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = [0; 64];
            // Each connection answers twice rightly, and then in one of three wrong ways.
            for turn in 0..3 {
                if stream.read_exact(&mut request).is_err() {
                    break;
                }
                let wrong = if turn == 2 { count % 3 + 1 } else { 0 };
                match wrong {
                    1 => request[63] ^= 0x80,
                    2 => {
                        let _ = stream.write_all(&request[..10]);
                        break;
                    }
                    3 => break,
                    _ => {}
                }
                if stream.write_all(&request).is_err() {
                    break;
                }
            }
        }
    });
    let measured = run(&short(Work::TcpRr, addr)).unwrap();
    let errors = measured.errors;
    assert!(measured.requests > 0, "{errors}");
    assert!(errors.corrupt > 0 && errors.short > 0 && errors.reset > 0, "{errors}");
    assert_eq!(errors.timeout + errors.refused, 0, "{errors}");
}

#[test]
fn a_run_can_be_ended_from_outside() {
    with_echo(|tcp, _| {
        let scenario = Scenario { duration: Duration::from_secs(60), ..short(Work::TcpRr, tcp) };
        let stop = AtomicBool::new(false);
        let mut intervals = 0;
        let mut on_interval = |_: &_| {
            intervals += 1;
            stop.store(intervals == 2, Ordering::Relaxed);
        };
        let watch = Watch { stop: &stop, on_interval: &mut on_interval };
        let measured = drive::kernel::run(&scenario, Waiting::Busy, watch).unwrap();
        assert_eq!(measured.ended, Ended::Interrupted);
        assert!(measured.requests > 0 && measured.duration_ns < 5_000_000_000);
    });
}
