//! The kernel path of a shared address: programs on the same host, packets in fragments, several addresses, ICMP errors.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Barrier;
use std::sync::mpsc::channel;
use std::time::Duration;

use ringwire::{DropReason, Metrics};
use ringwire_netns::{
    Addressing, Closing, Echo, Pattern, Scene, Script, Service, Sink, Transfers, kernel, options, program,
    within,
};

const LIMIT: Duration = Duration::from_secs(60);

fn echo(scene: &Scene) -> Service {
    let addr = scene.at(7);
    Service::start(scene.engine(), move |worker| {
        (Echo::tcp(worker, addr, &options()), Echo::udp(worker, addr))
    })
}

fn by_kernel(metrics: &Metrics) -> u64 {
    metrics.sum(|worker| worker.kernel_packets)
}

#[test]
fn programs_on_the_same_host_are_served() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared)
            .with_loopback(7)
            .loopback_may_repeat("the raw sockets do not hold what the programs send at once");
        let service = echo(&scene);
        for bytes in [1, 1000, 5_000_000] {
            let stream = kernel::connect(&scene.host, scene.at(7)).expect("a connection");
            let pattern = Pattern::new(bytes, bytes);
            let echoed = kernel::exchange(&stream, &pattern);
            let echoed = echoed.unwrap_or_else(|error| panic!("{error}\n{}", service.handle().metrics()));
            assert_eq!(echoed, pattern.digest());
        }
        let socket = kernel::udp(&scene.host, scene.ip(), scene.at(7));
        for len in [0, 1, 1472] {
            socket.send(&vec![3; len]).expect("a send");
            assert_eq!(socket.recv(&mut [0; 1500]).expect("an echo"), len);
        }
        // From another address of the host: the kernel would take it for a martian on any other way.
        let socket = kernel::udp(&scene.host, [127, 0, 0, 1].into(), scene.at(7));
        socket.send(b"from lo").expect("a send");
        assert_eq!(socket.recv(&mut [0; 16]).expect("an echo"), 7);
        // Those on the wire are served beside them.
        let stream = kernel::connect(&scene.peer, scene.at(7)).expect("a connection");
        let pattern = Pattern::new(9, 10_000);
        assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
        drop(stream);
        let books = service.finish();
        assert!(by_kernel(&books.metrics) > 0, "{}", books.metrics);
        books.assert_balanced(&[DropReason::TcpOutOfWindow, DropReason::TcpReassemblyFull]);
    });
}

#[test]
fn several_workers_share_local_clients() {
    within(LIMIT, || {
        let scene = Scene::shaped(Addressing::Shared, |link| link.queues(4))
            .with_loopback(7)
            .loopback_may_repeat("the raw sockets do not hold what the programs send at once");
        let addr = scene.at(7);
        let engine = scene.builder().workers(2).start().expect("the engine starts");
        let service = Service::start(engine, move |worker| Echo::tcp(worker, addr, &options()));
        for number in 0..32 {
            let stream = kernel::connect(&scene.host, addr).expect("a connection");
            let pattern = Pattern::new(number, 20_000);
            assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
        }
        let books = service.finish();
        books.assert_balanced(&[DropReason::TcpOutOfWindow, DropReason::TcpReassemblyFull]);
        assert!(books.metrics.workers.iter().all(|worker| worker.accepted > 0), "{}", books.metrics);
    });
}

#[test]
fn a_port_of_the_engine_that_nobody_listens_on_is_refused_at_once() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared).with_loopback(7);
        let addr = scene.at(7);
        // TCP 7 is taken by an active open only, so the kernel does not refuse it: the engine has to.
        let (listener, to) = kernel::listen(&scene.peer, scene.peer_ip());
        let (ended, _ends) = channel();
        let bound = options_from(addr);
        let script = Script::new(Pattern::new(1, 10), Closing::Last);
        let service = Service::start(scene.engine(), move |worker| {
            Transfers::opening(worker, to, &bound, vec![script.clone()], ended.clone())
        });
        let stream = kernel::accept(&listener).expect("a connection");
        let refused = kernel::connect(&scene.host, addr).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
        drop(stream);
        service.finish().assert_balanced(&[DropReason::TcpNoSocket]);
    });
}

fn options_from(local: SocketAddr) -> ringwire::TcpOptions {
    let mut options = options();
    options.local = Some((local.ip(), local.port()));
    options
}

#[test]
fn the_engine_reaches_servers_on_the_same_host() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared).may_be_empty();
        let listener = scene.host.run(|| TcpListener::bind((scene.ip(), 0))).expect("a free port");
        let to = listener.local_addr().expect("it is bound");
        let (ended, ends) = channel();
        let script = Script::new(Pattern::new(2, 500_000), Closing::First);
        let expected = script.send.digest();
        let service = Service::start(scene.engine(), move |worker| {
            Transfers::opening(worker, to, &options(), vec![script.clone()], ended.clone())
        });
        let stream = kernel::accept(&listener).expect("a connection");
        kernel::echo(&stream).expect("the client ends");
        drop(stream);
        let ended = ends.recv_timeout(Duration::from_secs(20)).expect("the connection ends");
        assert_eq!((ended.received, ended.fault), (expected, None));
        service.finish().assert_balanced(&[DropReason::TcpOutOfWindow, DropReason::TcpReassemblyFull]);
    });
}

/// Each worker's clients, to the server of its own and to the other's: by the kernel where it has the address, else without anybody.
#[test]
fn an_engine_reaches_its_own_servers() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::shaped(addressing, |link| link.queues(2)).may_be_empty();
            let engine = scene.builder().workers(2).start().expect("the engine starts");
            let (servers, listening) = ([scene.at(7), scene.at(8)], Barrier::new(2));
            let (ended, ends) = channel();
            let script = Script::new(Pattern::new(3, 300_000), Closing::First);
            let expected = script.send.digest();
            let service = Service::start(engine, move |worker| {
                let echo = Echo::tcp(worker, servers[worker.id()], &options());
                listening.wait();
                let [a, b] = servers.map(|to| {
                    Transfers::opening(worker, to, &options(), vec![script.clone()], ended.clone())
                });
                (echo, (a, b))
            });
            for _ in 0..4 {
                let ended = ends.recv_timeout(Duration::from_secs(20));
                let ended =
                    ended.unwrap_or_else(|_| panic!("{addressing:?}\n{}", service.handle().metrics()));
                assert_eq!((&ended.received, ended.fault), (&expected, None), "{addressing:?}");
            }
            let books = service.finish();
            books.assert_balanced(&[DropReason::TcpOutOfWindow, DropReason::TcpReassemblyFull]);
            // The kernel's way leads to the right worker, our own to ourselves first.
            let handed_over = books.metrics.sum(|worker| worker.handed_over);
            let looped = books.metrics.sum(|worker| worker.looped_packets);
            let is_alone = addressing == Addressing::Dedicated;
            assert_eq!((handed_over > 0, looped > 0), (is_alone, is_alone), "{}", books.metrics);
        }
    });
}

/// The kernel at the other end cuts what is longer than the MTU; the kernel here puts it together.
#[test]
fn datagrams_in_fragments_arrive_whole() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared);
        let (addr, (received, digests)) = (scene.at(7), channel());
        let service = Service::start(scene.engine(), move |worker| Sink::new(worker, addr, received.clone()));
        let socket = kernel::udp(&scene.peer, scene.peer_ip(), addr);
        for len in [5000, 1473, 60_000, 1] {
            let pattern = Pattern::new(len as u64, len as u64);
            let mut sent = vec![0; len];
            pattern.clone().fill(&mut sent);
            socket.send(&sent).expect("a send");
            let digest = digests.recv_timeout(Duration::from_secs(5));
            let digest = digest.unwrap_or_else(|_| panic!("{len} bytes\n{}", service.handle().metrics()));
            assert_eq!(digest, pattern.digest());
        }
        let books = service.finish();
        books.assert_balanced(&[]);
        assert_eq!(by_kernel(&books.metrics), 3, "{}", books.metrics);
    });
}

/// It has come in fragments, and the engine sends none: its sender gets no answer, and nobody else has to wait for that.
#[test]
fn an_echo_longer_than_the_mtu_is_left_out_and_the_next_one_is_sent() {
    program::ringwire();
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared).with_loopback(9000);
        let _served = program::serve(&scene.host, &["echo", "-i", "eth0"], Duration::from_secs(5));
        let socket = kernel::udp(&scene.peer, scene.peer_ip(), scene.at(9000));
        for _ in 0..3 {
            socket.send(&[1; 5000]).expect("the kernel cuts it into fragments");
            socket.send(b"short").expect("a send");
            assert_eq!(socket.recv(&mut [0; 6000]).expect("an echo"), 5);
        }
        // From the same host it takes the same way, in one piece.
        let socket = kernel::udp(&scene.host, scene.ip(), scene.at(9000));
        socket.send(b"short").expect("a send");
        assert_eq!(socket.recv(&mut [0; 16]).expect("an echo"), 5);
    });
}

#[test]
fn one_port_serves_on_two_addresses() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared);
        let second = scene.link.spare_addr(&scene.host);
        let name = scene.link.name(&scene.host).to_owned();
        let address = format!("{second}/24");
        let added = scene.host.command("ip").args(["addr", "add", &address, "dev", &name]).status();
        assert!(added.expect("ip is installed").success());
        let (a, b) = (scene.at(7), SocketAddr::new(second, 7));
        let service = Service::start(scene.engine(), move |worker| {
            let tcp = (Echo::tcp(worker, a, &options()), Echo::tcp(worker, b, &options()));
            (tcp, (Echo::udp(worker, a), Echo::udp(worker, b)))
        });
        for to in [a, b] {
            let mut stream = kernel::connect(&scene.peer, to).expect("a connection");
            stream.write_all(b"which?").expect("a write");
            stream.read_exact(&mut [0; 6]).expect("an echo");
            drop(stream);
            let socket = kernel::udp(&scene.peer, scene.peer_ip(), to);
            socket.send(b"which?").expect("a send");
            assert_eq!(socket.recv(&mut [0; 16]).expect("an echo"), 6);
        }
        service.finish().assert_balanced(&[]);
        // Both have been given back.
        for ip in [scene.ip(), second] {
            scene.host.run(|| TcpListener::bind((ip, 7))).expect("free again");
            scene.host.run(|| UdpSocket::bind((ip, 7))).expect("free again");
        }
    });
}
