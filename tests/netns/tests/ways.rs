//! Other ways between the two ends: generic XDP, large packets, routers with a narrow link between them, a cable that is pulled.

use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::mpsc::channel;
use std::time::Duration;

use ringwire::{
    AttachMode, Batch, Datagram, DropReason, Engine, Events, Interface, PollMode, TxBuf, UdpOptions, Worker,
};
use ringwire_lab::{Carrier, Lab, Link, Node};
use ringwire_netns::{
    Addressing, Closing, Echo, Pattern, Scene, Script, Service, Sink, Transfers, Wire, kernel, options,
    within,
};

const LIMIT: Duration = Duration::from_secs(60);

fn echo_on(engine: Engine, addr: SocketAddr) -> Service {
    Service::start(engine, move |worker| (Echo::tcp(worker, addr, &options()), Echo::udp(worker, addr)))
}

#[test]
fn generic_xdp_carries_the_same() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let interface = scene.interface().attach_mode(AttachMode::Generic);
            let engine = scene.builder().interface(interface).start().expect("the engine starts");
            let service = echo_on(engine, scene.at(7));
            let socket = kernel::udp(&scene.peer, scene.peer_ip(), scene.at(7));
            for len in [0, 1, 1472] {
                socket.send(&vec![7; len]).expect("a send");
                assert_eq!(socket.recv(&mut [0; 1500]).expect("an echo"), len, "{addressing:?}");
            }
            let stream = kernel::connect(&scene.peer, scene.at(7)).expect("a connection");
            let pattern = Pattern::new(1, 5_000_000);
            assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
            drop(stream);
            let books = service.finish();
            assert_eq!(books.modes[0].attach, "generic");
            books.assert_balanced(&[DropReason::TcpOutOfWindow, DropReason::TcpReassemblyFull]);
        }
    });
}

#[test]
fn a_busy_worker_serves_too() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated);
        let engine = scene.builder().poll_mode(PollMode::Busy).start().expect("the engine starts");
        let service = echo_on(engine, scene.at(7));
        let stream = kernel::connect(&scene.peer, scene.at(7)).expect("a connection");
        let pattern = Pattern::new(1, 1_000_000);
        assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
        drop(stream);
        service.finish().assert_balanced(&[]);
    });
}

/// Packets of 9,000 bytes arrive as chains of frames, and so do those leave that are longer than a frame.
#[test]
fn large_packets_travel_in_pieces_both_ways() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::shaped(addressing, |link| link.mtu(9000));
            let service = echo_on(scene.engine(), scene.at(7));
            let socket = kernel::udp(&scene.peer, scene.peer_ip(), scene.at(7));
            let (mut sent, mut received) = ([0; 8972], [0; 9000]);
            // Every size around the ends of frames, some in between.
            let near = |len: usize| len.saturating_sub(5)..(len + 6).min(sent.len() + 1);
            let lengths: Vec<usize> =
                (0..8972).step_by(97).chain([0, 3000, 3684, 7368, 8972].into_iter().flat_map(near)).collect();
            for len in lengths {
                Pattern::new(len as u64, len as u64).fill(&mut sent);
                socket.send(&sent[..len]).expect("a send");
                let back = socket.recv(&mut received);
                let back = back.unwrap_or_else(|error| {
                    panic!("{addressing:?}, {len} bytes: {error}\n{}", service.handle().metrics())
                });
                assert!(received[..back] == sent[..len], "{addressing:?}, {len} bytes: {back} came back");
            }
            let stream = kernel::connect(&scene.peer, scene.at(7)).expect("a connection");
            let pattern = Pattern::new(1, 5_000_000);
            assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
            drop(stream);
            let books = service.finish();
            assert!(books.modes[0].multi_buffer);
            books.assert_balanced(&[]);
        }
    });
}

/// What the application writes itself: up to the MTU, and no further.
#[test]
fn a_datagram_of_the_mtus_length_is_sent_and_a_longer_one_is_refused() {
    within(LIMIT, || {
        let scene = Scene::shaped(Addressing::Dedicated, |link| link.mtu(9000));
        let socket = kernel::udp(&scene.peer, scene.peer_ip(), scene.at(7));
        let to = socket.local_addr().expect("it is bound");
        let mut worker = scene.engine().into_workers().remove(0).start();
        let own = worker.bind_udp(scene.at(7), &UdpOptions::default()).expect("the port is free");
        let mut batch: Batch<Datagram<TxBuf>> = Batch::with_capacity(1);
        let mut write = |worker: &mut Worker, wanted: usize| {
            let mut payload = worker.tx_buf_for(wanted).expect("a buffer");
            let len = payload.put(&vec![7; wanted]);
            assert!(batch.push(Datagram { peer: to, local: None, tos: 0, ttl: 0, payload }).is_ok());
            (len, worker.send_batch(own, &mut batch))
        };
        assert_eq!(write(&mut worker, 100), (100, Ok(1)));
        assert_eq!(write(&mut worker, 8972), (8972, Ok(1)));
        assert_eq!(write(&mut worker, 9001), (8972, Ok(1)), "there is no room for more");
        let mut received = [0; 9000];
        let mut events = Events::with_capacity(16);
        for len in [100, 8972, 8972] {
            // The neighbour is asked for first.
            socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a time limit");
            let back = (0..2000).find_map(|_| {
                worker.poll(&mut events, Some(Duration::ZERO)).expect("the worker polls");
                socket.recv(&mut received).ok()
            });
            assert_eq!(back, Some(len), "{}", received[0]);
            assert!(received[..len].iter().all(|byte| *byte == 7));
        }
    });
}

#[test]
fn a_datagram_in_several_frames_is_one_piece_to_the_application() {
    within(LIMIT, || {
        let scene = Scene::shaped(Addressing::Dedicated, |link| link.mtu(9000));
        let addr = scene.at(7);
        let (received, lengths) = channel();
        let service = Service::start(scene.engine(), move |worker| Sink::new(worker, addr, received.clone()));
        let socket = kernel::udp(&scene.peer, scene.peer_ip(), addr);
        let mut sent = vec![0; 8972];
        for len in [8972, 4097, 3600, 1] {
            let pattern = Pattern::new(len as u64, len as u64);
            pattern.clone().fill(&mut sent);
            socket.send(&sent[..len]).expect("a send");
            let digest = lengths.recv_timeout(Duration::from_secs(5));
            let digest = digest.unwrap_or_else(|_| panic!("{len} bytes\n{}", service.handle().metrics()));
            assert_eq!(digest, pattern.digest());
        }
        service.finish().assert_balanced(&[]);
    });
}

/// The engine's node, two routers and a far node in a row.
struct Row {
    /// What passes on the near link; first, so that it ends before its node.
    wire: Option<Wire>,
    far: Node,
    near_link: Link,
    far_link: Link,
    host: Node,
    routers: [Node; 2],
    _middle: Link,
    _lab: Lab,
}

impl Row {
    /// `middle_mtu` between the two routers, 1500 elsewhere.
    fn new(middle_mtu: u32) -> Row {
        let lab = Lab::new().expect("a lab");
        let [host, r1, r2, far] = ["host", "r1", "r2", "far"].map(|name| lab.node(name).expect("a node"));
        let near_link = lab.link(&host, &r1).direct().up().expect("a link");
        let middle = lab.link(&r1, &r2).direct().mtu(middle_mtu).up().expect("a link");
        let far_link = lab.link(&r2, &far).direct().up().expect("a link");
        for router in [&r1, &r2] {
            router.set_sysctl("net/ipv4/ip_forward", "1").expect("a sysctl");
        }
        route(&host, "default", near_link.addr(&r1));
        route(&far, "default", far_link.addr(&r2));
        route(&r1, "10.77.2.0/24", middle.addr(&r2));
        route(&r2, "10.77.0.0/24", middle.addr(&r1));
        Row { far, near_link, far_link, host, routers: [r1, r2], wire: None, _middle: middle, _lab: lab }
    }

    /// The engine, judged at the first router.
    fn engine(&mut self, addressing: Addressing) -> (Engine, IpAddr) {
        let mut interface = Interface::new(self.near_link.name(&self.host));
        let mut ip = self.near_link.addr(&self.host);
        if addressing == Addressing::Dedicated {
            ip = self.near_link.spare_addr(&self.host);
            let IpAddr::V4(gateway) = self.near_link.addr(&self.routers[0]) else { unreachable!() };
            interface = interface.address(format!("{ip}/24").parse().expect("an address")).gateway(gateway);
        }
        let wire = Wire::watch(&self.routers[0], &self.near_link, ip, self.near_link.mtu_bytes());
        self.wire = Some(wire.may_repeat("what the narrow link refuses is sent again"));
        let netns = self.host.netns().try_clone_to_owned().expect("a descriptor");
        let builder = Engine::builder().netns(netns).interface(interface).max_connections(1024);
        (builder.start().expect("the engine starts"), ip)
    }
}

fn route(node: &Node, to: &str, via: IpAddr) {
    let status = node.command("ip").args(["route", "add", to, "via", &via.to_string()]).status();
    assert!(status.expect("ip").success(), "{}: {to} via {via}", node.name());
}

/// Server and client behind routers; the narrow link in the middle is found out by ICMP (RFC 1191).
#[test]
fn routers_and_a_narrow_link_are_passed_both_ways() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let mut row = Row::new(1300);
            let (engine, ip) = row.engine(addressing);
            let (from_engine, from_kernel) = (Pattern::new(1, 1_000_000), Pattern::new(2, 1_000_000));
            let (ended, ends) = channel();
            // Not an echo, whose pieces would be as long as those that came.
            let script = Script::new(from_engine.clone(), Closing::First);
            let service = Service::start(engine, move |worker| {
                Transfers::accepting(worker, (ip, 7).into(), &options(), script.clone(), ended.clone())
            });
            let stream = kernel::connect(&row.far, (ip, 7).into()).expect("a connection");
            let received = std::thread::scope(|scope| {
                let reader = scope.spawn(|| kernel::receive(&stream, u64::MAX).expect("the engine's stream"));
                kernel::send(&stream, from_kernel.clone()).expect("a write");
                stream.shutdown(Shutdown::Write).expect("a half-close");
                reader.join().expect("the reader ends")
            });
            assert_eq!(received, from_engine.digest(), "{addressing:?}\n{}", service.handle().metrics());
            let ended = ends.recv_timeout(Duration::from_secs(20)).expect("the engine is done too");
            assert_eq!((ended.received, ended.fault), (from_kernel.digest(), None), "{addressing:?}");
            drop(stream);
            let books = service.finish();
            books.assert_balanced(&[]);
            if addressing == Addressing::Shared {
                assert!(
                    books.steered("redirect_icmp_error") > 0,
                    "no packet was too long\n{}",
                    books.metrics
                );
            }
        }
    });
}

#[test]
fn a_client_finds_a_server_behind_routers() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let mut row = Row::new(1300);
            let (listener, to) = kernel::listen(&row.far, row.far_link.addr(&row.far));
            let (ended, ends) = channel();
            let script = Script::new(Pattern::new(2, 500_000), Closing::First);
            let expected = script.send.digest();
            let (engine, _) = row.engine(addressing);
            let service = Service::start(engine, move |worker| {
                Transfers::opening(worker, to, &options(), vec![script.clone()], ended.clone())
            });
            let stream = kernel::accept(&listener).expect("a connection");
            kernel::echo(&stream).expect("the client ends");
            drop(stream);
            let ended = ends.recv_timeout(Duration::from_secs(20)).expect("the connection ends");
            assert_eq!((ended.received, ended.fault), (expected, None), "{addressing:?}");
            service.finish().assert_balanced(&[]);
        }
    });
}

#[test]
fn connections_outlive_a_pulled_cable() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing).may_repeat("what passes while the cable is out is lost");
            let service = echo_on(scene.engine(), scene.at(7));
            let stream = kernel::connect(&scene.peer, scene.at(7)).expect("a connection");
            let before = Pattern::new(1, 10_000);
            assert_eq!(kernel::exchange(&stream, &before).expect("an echo"), before.digest());
            scene.link.set_carrier(&scene.host, Carrier::Down).expect("the cable comes out");
            std::thread::sleep(Duration::from_millis(300));
            scene.link.set_carrier(&scene.host, Carrier::Up).expect("the cable goes in");
            let after = Pattern::new(2, 1_000_000);
            let echoed = kernel::exchange(&stream, &after);
            let echoed = echoed
                .unwrap_or_else(|error| panic!("{addressing:?}: {error}\n{}", service.handle().metrics()));
            assert_eq!(echoed, after.digest(), "{addressing:?}");
            drop(stream);
            service.finish().assert_balanced(&[DropReason::NeighUnreachable]);
        }
    });
}
