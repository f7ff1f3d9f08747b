//! Reaching the engine at all: ARP, ping, datagrams of every size, and what stays the kernel's.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use ringwire::{DropReason, VerifyChecksum};
use ringwire_lab::Offloads;
use ringwire_netns::{Addressing, Echo, Pattern, Scene, Service, kernel, options, within};

const LIMIT: Duration = Duration::from_secs(60);
/// An Ethernet payload without IPv4 and UDP headers.
const LONGEST_DATAGRAM: usize = 1500 - 28;

fn udp_echo(scene: &Scene) -> Service {
    let addr = scene.at(7);
    Service::start(scene.engine(), move |worker| Echo::udp(worker, addr))
}

#[test]
fn a_dedicated_address_is_pinged_and_the_engine_answers() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated);
        let service = udp_echo(&scene);
        for payload_bytes in [0, 56, 1472] {
            let said = scene.ping(20, payload_bytes);
            assert!(said.contains("20 received"), "{said}\n{}", service.handle().metrics());
        }
        let books = service.finish();
        books.assert_balanced(&[]);
        assert_eq!(books.steered("redirect_dedicated"), 60, "{}", books.metrics);
    });
}

#[test]
fn a_shared_address_is_pinged_and_the_kernel_answers() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared);
        let service = udp_echo(&scene);
        let said = scene.ping(20, 56);
        assert!(said.contains("20 received"), "{said}\n{}", service.handle().metrics());
        let books = service.finish();
        books.assert_balanced(&[]);
        assert_eq!(books.steered("pass_protocol"), 20, "{}", books.metrics);
        assert_eq!(books.metrics.sum(|worker| worker.rx_packets), 0, "{}", books.metrics);
    });
}

#[test]
fn what_is_not_the_engines_stays_the_kernels() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared);
        let service = udp_echo(&scene);
        let kernel_port = (scene.ip(), 80);
        let listener = scene.host.run(|| TcpListener::bind(kernel_port)).expect("a free port");
        let mut stream = kernel::connect(&scene.peer, scene.at(80)).expect("the kernel accepts");
        let mut accepted = kernel::accept(&listener).expect("a connection");
        stream.write_all(b"past the engine").expect("a write");
        drop(stream);
        let mut said = String::new();
        accepted.read_to_string(&mut said).expect("a read");
        assert_eq!(said, "past the engine");
        // The engine's port is taken for the kernel too.
        let taken = scene.host.run(|| std::net::UdpSocket::bind(scene.at(7)));
        assert_eq!(taken.map(drop).unwrap_err().kind(), ErrorKind::AddrInUse);
        let books = service.finish();
        books.assert_balanced(&[]);
        assert!(books.steered("pass_port") > 0, "{}", books.metrics);
    });
}

#[test]
fn datagrams_of_every_size_come_back_uncopied() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let service = udp_echo(&scene);
            let socket = kernel::udp(&scene.peer, scene.peer_ip(), scene.at(7));
            let mut sent = vec![0; LONGEST_DATAGRAM];
            let mut received = vec![0; LONGEST_DATAGRAM + 1];
            for len in 0..=LONGEST_DATAGRAM {
                Pattern::new(len as u64, len as u64).fill(&mut sent);
                socket.send(&sent[..len]).expect("a send");
                let back = socket.recv(&mut received);
                let back = back.unwrap_or_else(|error| {
                    panic!("{addressing:?}, {len} bytes: {error}\n{}", service.handle().metrics())
                });
                assert!(received[..back] == sent[..len], "{addressing:?}, {len} bytes: {back} came back");
            }
            let books = service.finish();
            books.assert_balanced(&[]);
            assert_eq!(books.metrics.sum(|worker| worker.copied_bytes), 0, "{}", books.metrics);
            assert_eq!(books.metrics.sum(|worker| worker.delivered), LONGEST_DATAGRAM as u64 + 1);
        }
    });
}

#[test]
fn datagrams_longer_than_the_mtu_are_counted_and_harm_nobody() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated);
        let service = udp_echo(&scene);
        let socket = kernel::udp(&scene.peer, scene.peer_ip(), scene.at(7));
        socket.send(&[1; LONGEST_DATAGRAM + 1]).expect("the kernel cuts it into fragments");
        socket.send(b"short").expect("a send");
        let mut received = [0; 16];
        assert_eq!(socket.recv(&mut received).expect("an echo"), 5);
        let books = service.finish();
        books.assert_balanced(&[DropReason::IpFragment]);
        assert_eq!(books.metrics.dropped(DropReason::IpFragment), 2, "{}", books.metrics);
    });
}

#[test]
fn a_closed_datagram_port_is_refused() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let service = udp_echo(&scene);
            let socket = kernel::udp(&scene.peer, scene.peer_ip(), scene.at(9));
            socket.send(b"anybody?").expect("a send");
            let refused = socket.recv(&mut [0; 16]).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{addressing:?}: {refused}");
            let books = service.finish();
            books.assert_balanced(&[DropReason::UdpNoSocket]);
        }
    });
}

#[test]
fn unfinished_checksums_of_a_veth_peer_are_accepted_when_asked_for() {
    within(LIMIT, || {
        let scene = Scene::shaped(Addressing::Dedicated, |link| link.offloads(Offloads::On));
        let interface = scene.interface().verify_checksum(VerifyChecksum::PartialOk);
        let engine = scene.builder().interface(interface).start().expect("the engine starts");
        let addr = scene.at(7);
        let service = Service::start(engine, move |worker| Echo::tcp(worker, addr, &options()));
        let stream = kernel::connect(&scene.peer, addr).expect("a connection");
        let pattern = Pattern::new(1, 100_000);
        assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
        drop(stream);
        service.finish().assert_balanced(&[]);
    });
}

#[test]
fn long_frames_carry_long_datagrams() {
    const MTU: u32 = 3400;
    within(LIMIT, || {
        let scene = Scene::shaped(Addressing::Dedicated, |link| link.mtu(MTU));
        let service = udp_echo(&scene);
        let socket = kernel::udp(&scene.peer, scene.peer_ip(), scene.at(7));
        let mut sent = vec![0; MTU as usize - 28];
        let mut received = vec![0; MTU as usize];
        for len in [0, 1473, 2048, sent.len()] {
            Pattern::new(len as u64, len as u64).fill(&mut sent);
            socket.send(&sent[..len]).expect("a send");
            let back = socket.recv(&mut received).expect("an echo");
            assert!(received[..back] == sent[..len], "{len} bytes: {back} came back");
        }
        let books = service.finish();
        books.assert_balanced(&[]);
        assert_eq!(books.metrics.sum(|worker| worker.copied_bytes), 0, "{}", books.metrics);
    });
}
