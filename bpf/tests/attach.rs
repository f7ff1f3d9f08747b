//! Attaching to a real interface: modes, incumbents, errors, and what detaches. Each test has a namespace of its own.

mod common;

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::*;
use ringwire_bpf::{
    Action, AttachConfig, AttachMode, Counters, Mode, Ownership, Protocol, Steering, Verdict, incumbent,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// Runs `test` with the index of a fresh `rw0`.
fn with_veth(queues: u32, mtu: u32, test: impl FnOnce(u32) + Send) {
    if privileged() {
        in_netns(|| test(veth(queues, mtu)));
    }
}

/// What the kernel's own tools say about `rw0`.
fn link_line() -> String {
    run("ip -details link show dev rw0")
}

/// Nothing is attached any more. A program that another test starts at that moment holds the descriptor until it has become that
/// program, so this may take a little.
fn expect_detached(ifindex: u32) {
    let limit = Instant::now() + Duration::from_secs(5);
    while let Some(left) = incumbent(ifindex).unwrap() {
        assert!(Instant::now() < limit, "still attached: {left:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn native_is_read_back_and_vanishes_on_drop() {
    with_veth(1, 1500, |ifindex| {
        assert_eq!(incumbent(ifindex).unwrap(), None);
        let steering = Steering::attach(&config(ifindex)).unwrap();
        assert_eq!(steering.mode(), Some(Mode::Native));
        assert!(link_line().contains(" xdp qdisc "), "{}", link_line());
        let found = incumbent(ifindex).unwrap().expect("ours");
        assert_eq!(found.name.as_deref(), Some("steer"));
        drop(steering);
        expect_detached(ifindex);
    });
}

#[test]
fn generic_is_generic() {
    with_veth(1, 1500, |ifindex| {
        let steering =
            Steering::attach(&AttachConfig { attach_mode: AttachMode::Generic, ..config(ifindex) }).unwrap();
        assert_eq!(steering.mode(), Some(Mode::Generic));
        assert!(link_line().contains(" xdpgeneric qdisc "), "{}", link_line());
    });
}

#[test]
fn auto_prefers_native_and_says_when_it_is_not() {
    with_veth(1, 1500, |ifindex| {
        let auto = AttachConfig { attach_mode: AttachMode::Auto, ..config(ifindex) };
        assert_eq!(Steering::attach(&auto).unwrap().mode(), Some(Mode::Native));
        // The loopback interface has no native XDP.
        let loopback = AttachConfig { ifindex: 1, ifname: "lo".into(), ..auto };
        assert_eq!(Steering::attach(&loopback).unwrap().mode(), Some(Mode::Generic));
        let native = AttachConfig { attach_mode: AttachMode::Native, ..loopback };
        let refused = Steering::attach(&native).unwrap_err();
        assert_eq!(refused.errno, Some(libc::EOPNOTSUPP));
        assert!(refused.what.contains("no native XDP"), "{refused}");
        assert!(refused.hint.contains("--attach-mode generic"), "{refused}");
    });
}

#[test]
fn a_loaded_program_is_attached_to_nothing() {
    with_veth(1, 1500, |ifindex| {
        let steering = Steering::load(&config(ifindex)).unwrap();
        assert_eq!(steering.mode(), None);
        assert_eq!(incumbent(ifindex).unwrap(), None);
    });
}

#[test]
fn an_incumbent_is_named_and_left_alone() {
    with_veth(1, 1500, |ifindex| {
        let first = Steering::attach(&AttachConfig { frags: true, ..config(ifindex) }).unwrap();
        let id = incumbent(ifindex).unwrap().unwrap().id;
        let me = std::fs::read_to_string("/proc/self/comm").unwrap();
        let holder = format!("{} pid {}", me.trim_end(), std::process::id());
        for attach_mode in [AttachMode::Native, AttachMode::Auto, AttachMode::Generic] {
            let refused = Steering::attach(&AttachConfig { attach_mode, ..config(ifindex) }).unwrap_err();
            let what = format!("rw0 already runs XDP program 'steer_frags' (id {id}, {holder})");
            assert_eq!(refused.what, what, "{attach_mode:?}");
            assert!(refused.hint.contains(&holder), "{refused}");
        }
        assert_eq!(incumbent(ifindex).unwrap().unwrap().id, id, "the first one stays");
        assert_eq!(first.mode(), Some(Mode::Native));
    });
}

#[test]
fn an_incumbent_without_a_process_can_be_detached_as_the_hint_says() {
    with_veth(1, 1500, |ifindex| {
        let object = concat!(env!("OUT_DIR"), "/key.bpf.o");
        run(&format!("ip link set dev rw0 xdpdrv object {object} section xdp"));
        let refused = Steering::attach(&config(ifindex)).unwrap_err();
        assert!(refused.what.contains("already runs XDP program 'key' (id "), "{refused}");
        let command = refused.hint.split("detach it: ").nth(1).expect("a command");
        run(command);
        assert_eq!(Steering::attach(&config(ifindex)).unwrap().mode(), Some(Mode::Native));
    });
}

#[test]
fn a_large_mtu_needs_frags() {
    with_veth(1, 9000, |ifindex| {
        let refused = Steering::attach(&config(ifindex)).unwrap_err();
        assert_eq!(refused.what, "rw0: MTU 9000 > 3506, the most veth takes with XDP");
        assert_eq!(refused.hint, "ip link set rw0 mtu 3506");
        let with_frags = Steering::attach(&AttachConfig { frags: true, ..config(ifindex) }).unwrap();
        assert_eq!(with_frags.mode(), Some(Mode::Native));
    });
}

#[test]
fn the_largest_mtu_of_the_message_is_accepted() {
    with_veth(1, 3506, |ifindex| drop(Steering::attach(&config(ifindex)).unwrap()));
    with_veth(1, 3507, |ifindex| {
        assert!(Steering::attach(&config(ifindex)).unwrap_err().what.contains("3507 > 3506"));
    });
}

#[test]
fn an_interface_that_is_not_there() {
    with_veth(1, 1500, |_| {
        let refused = Steering::attach(&config(4711)).unwrap_err();
        assert!(refused.what.contains("no interface has index 4711"), "{refused}");
        assert!(incumbent(4711).is_err());
    });
}

/// Waits until `wanted` packets have this verdict.
fn wait_for(steering: &Steering, verdict: Verdict, wanted: u64) -> Counters {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let counters = steering.counters().unwrap();
        if counters.get(verdict) >= wanted || Instant::now() > until {
            return counters;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_store_into_the_port_map_takes_effect_on_the_next_packet() {
    with_veth(1, 1500, |ifindex| {
        // Both ends are in one namespace, so the packet is sent by name and to a neighbour that is written down.
        run("ip addr add 10.0.0.2/24 dev rw1");
        run(&format!("ip neigh add {SHARED} lladdr {MAC} dev rw1 nud permanent"));
        let mut steering = Steering::attach(&config(ifindex)).unwrap();
        let address = steering.add_address(SHARED.into(), Ownership::Shared).unwrap();
        let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
        let send = || socket.send_to(b"ringwire", (SHARED, UDP_PORT)).unwrap();
        for round in 1..=100 {
            send();
            assert_eq!(wait_for(&steering, Verdict::PassPort, round).get(Verdict::PassPort), round);
            steering.steer(address, Protocol::Udp, UDP_PORT);
            send();
            let counters = wait_for(&steering, Verdict::DropNoSocket, round);
            assert_eq!(counters.get(Verdict::DropNoSocket), round, "round {round}: {counters:?}");
            steering.unsteer(address, Protocol::Udp, UDP_PORT);
        }
        assert_eq!(steering.counters().unwrap().get(Verdict::PassPort), 100);
    });
}

#[test]
fn every_packet_is_counted_once() {
    with_veth(1, 1500, |ifindex| {
        run("ip addr add 10.0.0.2/24 dev rw1");
        run(&format!("ip neigh add {SHARED} lladdr {MAC} dev rw1 nud permanent"));
        let mut steering = Steering::attach(&config(ifindex)).unwrap();
        let address = steering.add_address(SHARED.into(), Ownership::Shared).unwrap();
        steering.steer(address, Protocol::Udp, UDP_PORT);
        let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
        for port in [UDP_PORT, 1, UDP_PORT, 2, 3] {
            socket.send_to(b"ringwire", (SHARED, port)).unwrap();
        }
        let counters = wait_for(&steering, Verdict::PassPort, 3);
        assert_eq!((counters.by_action(Action::Drop), counters.get(Verdict::PassPort)), (2, 3));
        let sum: u64 = counters.iter().map(|(_, packets)| packets).sum();
        assert_eq!(sum, counters.total());
    });
}

#[test]
fn a_packet_of_several_buffers_is_steered_by_its_first() {
    with_veth(1, 9000, |ifindex| {
        run("ip addr add 10.0.0.2/24 dev rw1");
        run(&format!("ip neigh add {SHARED} lladdr {MAC} dev rw1 nud permanent"));
        let mut steering = Steering::attach(&AttachConfig { frags: true, ..config(ifindex) }).unwrap();
        let address = steering.add_address(SHARED.into(), Ownership::Shared).unwrap();
        steering.steer(address, Protocol::Udp, UDP_PORT);
        let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
        for len in [64, 3000, 8900] {
            socket.send_to(&vec![7; len], (SHARED, UDP_PORT)).unwrap();
        }
        let counters = wait_for(&steering, Verdict::DropNoSocket, 3);
        assert_eq!(counters.get(Verdict::DropNoSocket), 3, "{counters:?}");
    });
}

#[test]
fn it_works_from_any_thread_and_namespace_once_attached() {
    with_veth(1, 1500, |ifindex| {
        let mut steering = Steering::attach(&config(ifindex)).unwrap();
        let socket = xsk();
        in_netns(|| {
            let address = steering.add_address(SHARED.into(), Ownership::Shared).unwrap();
            steering.steer(address, Protocol::Tcp, TCP_PORT);
            steering.set_socket(0, socket.as_fd()).unwrap();
            steering.counters().unwrap();
        });
        assert_eq!(steering.test_run(&tcp(SHARED, TCP_PORT).frame(), 0).unwrap(), Verdict::RedirectTcp);
        in_netns(move || drop(steering));
        expect_detached(ifindex);
    });
}

/// Runs `f` on a thread whose capabilities are cut to these.
fn with_capabilities<R: Send>(kept: CapabilitySet, f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let sets =
                CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
            set_capabilities(None, sets).unwrap();
            f()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_missing_capability_is_named() {
    with_veth(1, 1500, |ifindex| {
        let none =
            with_capabilities(CapabilitySet::empty(), || Steering::load(&config(ifindex)).unwrap_err());
        assert_eq!(none.what, "cannot load the steering program: CAP_BPF is missing");
        assert!(none.hint.starts_with("sudo, or: sudo setcap cap_net_admin,"), "{none}");
        let net = CapabilitySet::NET_ADMIN;
        let no_bpf = with_capabilities(net, || Steering::attach(&config(ifindex)).unwrap_err());
        assert_eq!(no_bpf.what, "cannot load the steering program: CAP_BPF is missing");
        let bpf = CapabilitySet::BPF;
        let no_net_admin = with_capabilities(bpf, || Steering::attach(&config(ifindex)).unwrap_err());
        assert_eq!(no_net_admin.what, "cannot load the steering program: CAP_NET_ADMIN is missing");
        assert_eq!(no_net_admin.errno, Some(libc::EPERM));
    });
}

#[test]
fn the_least_capabilities_are_enough() {
    with_veth(1, 1500, |ifindex| {
        let least = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
        with_capabilities(least, || {
            let steering = Steering::attach(&config(ifindex)).unwrap();
            assert_eq!(steering.mode(), Some(Mode::Native));
            // Without CAP_SYS_ADMIN the kernel does not tell the incumbent's name, only its id.
            let refused = Steering::attach(&config(ifindex)).unwrap_err();
            assert!(refused.what.starts_with("rw0 already runs XDP program (id "), "{refused}");
        });
    });
}
