//! Several queues, on one worker and on several.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use ringwire::DropReason;
use ringwire_netns::{Addressing, Books, Echo, Pattern, Scene, Service, eventually, kernel, options, within};
use ringwire_wire::checksum::Sum;
use ringwire_wire::ipv4;
use ringwire_wire::tcp::{self, Flags};
use socket2::{Domain, Protocol, Socket, Type};

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

/// All workers have a listener on the port, so each would gladly leave the segment to another.
#[test]
fn a_segment_that_nobody_knows_is_refused_once_and_does_not_go_to_and_fro() {
    within(LIMIT, || {
        let scene = Scene::shaped(Addressing::Shared, |link| link.queues(QUEUES));
        let addr = scene.at(7);
        let engine = scene.builder().workers(2).start().expect("the engine starts");
        let service = Service::start(engine, move |worker| Echo::tcp(worker, addr, &options()));
        let socket = scene.peer.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)));
        let socket = socket.expect("the test is root");
        for port in 0..8 {
            let segment = stray_ack(scene.peer_ip(), addr, 20_000 + port);
            socket.send_to(&segment, &addr.into()).expect("a send");
        }
        let refused = || service.handle().metrics().dropped(DropReason::TcpNoSocket);
        let all = eventually(Duration::from_secs(5), || refused() == 8);
        assert!(all, "{}", service.handle().metrics());
        thread::sleep(Duration::from_millis(50));
        let books = service.finish();
        assert_eq!(books.metrics.sum(|worker| worker.resets_sent), 8, "{}", books.metrics);
        assert!(books.metrics.sum(|worker| worker.handed_over) <= 8, "{}", books.metrics);
    });
}

fn stray_ack(from: IpAddr, to: SocketAddr, src_port: u16) -> Vec<u8> {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (from, to.ip()) else { unreachable!("the lab is IPv4") };
    let header = tcp::Header {
        src_port,
        dst_port: to.port(),
        seq: 1,
        ack: 1,
        flags: Flags::ACK,
        window: 1000,
        urgent: 0,
    };
    let mut segment = vec![0; tcp::HEADER_LEN];
    let pseudo = Sum::pseudo_v4(src, dst, ipv4::Protocol::TCP, 20);
    header.emit(&tcp::Options::default(), pseudo, &mut segment);
    segment
}
