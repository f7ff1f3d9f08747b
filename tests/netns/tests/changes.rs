//! The interface changes under a running engine.

use std::sync::mpsc::channel;
use std::time::Duration;

use ringwire::{DropReason, Events, PollMode, WorkerError};
use ringwire_lab::Node;
use ringwire_netns::{Addressing, Echo, Pattern, Scene, Service, eventually, kernel, options, within};

const LIMIT: Duration = Duration::from_secs(60);

fn ip(node: &Node, arguments: &str) {
    let status = node.command("ip").args(arguments.split_whitespace()).status();
    assert!(status.expect("ip is installed").success(), "ip {arguments}");
}

#[test]
fn a_removed_interface_ends_the_engine_in_every_mode() {
    within(LIMIT, || {
        for (addressing, mode) in
            Addressing::BOTH.into_iter().flat_map(|a| [(a, PollMode::Busy), (a, PollMode::Adaptive)])
        {
            let scene = Scene::new(addressing).may_be_empty();
            let engine = scene.builder().poll_mode(mode).start().expect("the engine starts");
            let (ended, end) = channel();
            let run = std::thread::spawn(move || {
                let seed = engine.into_workers().pop().expect("a worker");
                let mut worker = seed.start();
                let mut events = Events::with_capacity(16);
                let error = loop {
                    if let Err(error) = worker.poll(&mut events, None) {
                        break error;
                    }
                };
                ended.send(error).expect("the test waits");
            });
            assert!(end.recv_timeout(Duration::from_millis(100)).is_err(), "it runs");
            ip(&scene.host, &format!("link del {}", scene.link.name(&scene.host)));
            let error = end.recv_timeout(Duration::from_secs(5)).expect("the engine ends");
            assert_eq!(error, WorkerError::InterfaceGone, "{addressing:?} {mode:?}");
            run.join().expect("the worker ends in order");
        }
    });
}

/// The peer has another address all at once and does not say so: what is sent is not answered, so whoever keeps the neighbours asks.
#[test]
fn a_peer_that_moved_in_silence_is_found_again() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing).may_repeat("what goes to the old address is lost");
            let host = scene.link.name(&scene.host);
            for (knob, value) in [
                ("base_reachable_time_ms", "1000"),
                ("delay_first_probe_time", "1"),
                ("retrans_time_ms", "200"),
            ] {
                let knob = format!("net/ipv4/neigh/{host}/{knob}");
                scene.host.set_sysctl(&knob, value).expect("a sysctl");
            }
            let addr = scene.at(7);
            let service = Service::start(scene.engine(), move |worker| Echo::tcp(worker, addr, &options()));
            let stream = kernel::connect(&scene.peer, addr).expect("a connection");
            let pattern = Pattern::new(1, 10_000);
            assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
            let name = scene.link.name(&scene.peer);
            let engine = neighbour(&scene.peer, name);
            ip(&scene.peer, &format!("link set {name} address 02:00:00:77:77:78"));
            // It has forgotten us with its own address, and would ask and so tell.
            ip(
                &scene.peer,
                &format!("neigh replace {} lladdr {engine} dev {name} nud permanent", scene.ip()),
            );
            let pattern = Pattern::new(2, 10_000);
            let echoed = kernel::exchange(&stream, &pattern);
            let echoed = echoed
                .unwrap_or_else(|error| panic!("{addressing:?} {error}\n{}", service.handle().metrics()));
            assert_eq!(echoed, pattern.digest(), "{addressing:?}");
            drop(stream);
            service.finish().assert_balanced(&[DropReason::NeighUnreachable]);
        }
    });
}

/// The only one that the node knows on this interface.
fn neighbour(node: &Node, name: &str) -> String {
    let shown =
        node.command("ip").args(["-4", "neigh", "show", "dev", name]).output().expect("ip is installed");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let mac = shown.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
    mac.unwrap_or_else(|| panic!("one neighbour: {shown}")).to_owned()
}

#[test]
fn a_new_hardware_address_is_followed() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let addr = scene.at(7);
            let service = Service::start(scene.engine(), move |worker| Echo::tcp(worker, addr, &options()));
            let stream = kernel::connect(&scene.peer, addr).expect("a connection");
            let pattern = Pattern::new(1, 10_000);
            assert_eq!(kernel::exchange(&stream, &pattern).expect("an echo"), pattern.digest());
            let name = scene.link.name(&scene.host);
            ip(&scene.host, &format!("link set {name} address 02:00:00:77:77:77"));
            // The kernel says nothing about its own address, so the peer asks again.
            ip(&scene.peer, "neigh flush all");
            let pattern = Pattern::new(2, 10_000);
            let echoed = kernel::exchange(&stream, &pattern);
            let echoed = echoed
                .unwrap_or_else(|error| panic!("{addressing:?} {error}\n{}", service.handle().metrics()));
            assert_eq!(echoed, pattern.digest(), "{addressing:?}");
            drop(stream);
            let seen = || scene.peer.command("ip").arg("neigh").output().expect("ip is installed").stdout;
            let is_known = || String::from_utf8_lossy(&seen()).contains("02:00:00:77:77:77");
            assert!(eventually(Duration::from_secs(5), is_known), "{addressing:?}");
            service.finish().assert_balanced(&[DropReason::EthNotForUs]);
        }
    });
}
