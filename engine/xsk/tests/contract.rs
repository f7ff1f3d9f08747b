//! Set-up: modes are given or refused, errors say what to do, queues are let go of.

mod common;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::{ethernet, in_namespace, memory, until, veth};
use ringwire_frame::{FrameState, Port};
use ringwire_xsk::{BindMode, HugePages, Umem, UmemOptions, XskConfig, XskPort};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

fn refused(config: &XskConfig) -> ringwire_xsk::XskError {
    let (umem, _pool) = memory(64);
    XskPort::open(&umem, config).expect_err("the port must be refused")
}

#[test]
fn zero_copy_is_given_or_refused_never_replaced() {
    in_namespace(|| {
        veth(1, 1500);
        let mut config = XskConfig::new("ours", 0);
        config.bind_mode = BindMode::ZeroCopy;
        let error = refused(&config);
        assert_eq!(error.errno, Some(libc::EOPNOTSUPP), "{error}");
        assert_eq!(
            error.to_string(),
            "queue 0 of ours cannot be bound zero-copy: its driver does not support it (EOPNOTSUPP)\n\
             hint: --bind-mode copy, or auto"
        );
    });
}

#[test]
fn auto_falls_back_to_copy_and_says_why() {
    in_namespace(|| {
        veth(1, 1500);
        let (umem, _pool) = memory(64);
        let port = XskPort::open(&umem, &XskConfig::new("ours", 0)).unwrap();
        let mode = port.mode();
        assert!(!mode.zero_copy && mode.need_wakeup && !mode.multi_buffer, "{mode:?}");
        assert_eq!(mode.zero_copy_refusal, Some(libc::EOPNOTSUPP));
        let expected = if kernel_has_kick_budget() { 2048 } else { 32 };
        assert_eq!(mode.kick_budget_packets, expected, "{mode:?}");
    });
}

/// XDP_MAX_TX_SKB_BUDGET came with Linux 6.17.
fn kernel_has_kick_budget() -> bool {
    let uname = rustix::system::uname();
    let mut numbers = uname.release().to_str().unwrap().split(['.', '-']).map(|number| number.parse::<u32>());
    let (major, minor) = (numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap());
    (major, minor) >= (6, 17)
}

#[test]
fn copy_asked_for_is_no_refusal() {
    in_namespace(|| {
        veth(1, 1500);
        let (umem, _pool) = memory(64);
        let mut config = XskConfig::new("ours", 0);
        config.bind_mode = BindMode::Copy;
        config.need_wakeup = false;
        config.multi_buffer = true;
        let mode = XskPort::open(&umem, &config).unwrap().mode();
        assert!(!mode.zero_copy && !mode.need_wakeup && mode.multi_buffer, "{mode:?}");
        assert_eq!(mode.zero_copy_refusal, None);
    });
}

#[test]
fn a_queue_in_use_is_an_error_after_a_bounded_time() {
    in_namespace(|| {
        veth(1, 1500);
        let (umem, _pool) = memory(64);
        let _holder = XskPort::open(&umem, &XskConfig::new("ours", 0)).unwrap();
        let mut config = XskConfig::new("ours", 0);
        config.busy_wait = Duration::from_millis(300);
        let start = Instant::now();
        let error = refused(&config);
        let took = start.elapsed();
        assert_eq!(error.errno, Some(libc::EBUSY), "{error}");
        assert!(error.what.starts_with("queue 0 of ours is in use by another AF_XDP socket"), "{error}");
        assert!(took >= config.busy_wait && took < config.busy_wait * 4, "{took:?}");
    });
}

#[test]
fn a_queue_becoming_free_while_waiting_is_taken() {
    in_namespace(|| {
        veth(1, 1500);
        let (umem, _pool) = memory(64);
        let holder = XskPort::open(&umem, &XskConfig::new("ours", 0)).unwrap();
        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(holder);
        });
        let (second, _second_pool) = memory(64);
        XskPort::open(&second, &XskConfig::new("ours", 0)).expect("within the two seconds");
        release.join().unwrap();
    });
}

#[test]
fn wrong_queue_and_wrong_interface_have_their_own_words() {
    in_namespace(|| {
        veth(2, 1500);
        let error = refused(&XskConfig::new("ours", 2));
        assert_eq!((error.errno, error.what.as_str()), (Some(libc::EINVAL), "ours has no queue 2 (EINVAL)"));
        let error = refused(&XskConfig::new("nowhere", 0));
        assert_eq!(error.errno, Some(libc::ENODEV));
        assert_eq!(error.what, "no interface nowhere in this network namespace (ENODEV)");
    });
}

#[test]
fn requests_that_make_no_sense_never_reach_the_kernel() {
    in_namespace(|| {
        veth(1, 1500);
        let mut config = XskConfig::new("ours", 0);
        config.tx_ring = 4096;
        assert_eq!(refused(&config).errno, None, "more than the completion ring holds");
        config.tx_ring = 100;
        assert_eq!(refused(&config).what, "a receive ring of 2048 and a transmit ring of 100 slots");
        let options = UmemOptions { fill_ring: 3000, ..UmemOptions::default() };
        let error = Umem::register(common::geometry(64), options).unwrap_err();
        assert_eq!(error.errno, None, "{error}");
        let geometry = ringwire_frame::Geometry { frame_bytes: 1024, frame_count: 64 };
        assert!(Umem::register(geometry, UmemOptions::default()).is_err());
    });
}

#[test]
fn one_packet_memory_refuses_what_libxdp_would_get_wrong() {
    in_namespace(|| {
        veth(2, 1500);
        let (umem, _pool) = memory(64);
        let first = XskPort::open(&umem, &XskConfig::new("ours", 0)).unwrap();
        let again = XskPort::open(&umem, &XskConfig::new("ours", 0)).unwrap_err();
        assert_eq!(again.what, "queue 0 of ours is open on this packet memory already");
        let mut long = XskConfig::new("ours", 1);
        long.multi_buffer = true;
        assert!(XskPort::open(&umem, &long).unwrap_err().what.contains("multi-buffer"));
        let second = XskPort::open(&umem, &XskConfig::new("ours", 1)).unwrap();
        drop(second);
        let second = XskPort::open(&umem, &XskConfig::new("ours", 1)).expect("a later queue can come and go");
        drop(first);
        let late = XskPort::open(&umem, &XskConfig::new("ours", 0)).unwrap_err();
        assert_eq!(late.what, "the first queue of this packet memory was closed: no other can join");
        drop(second);
    });
}

#[test]
fn a_failed_attempt_leaves_the_packet_memory_usable() {
    in_namespace(|| {
        veth(1, 1500);
        let (umem, _pool) = memory(64);
        XskPort::open(&umem, &XskConfig::new("ours", 5)).unwrap_err();
        let mut smaller = XskConfig::new("ours", 0);
        smaller.rx_ring = 64;
        assert!(XskPort::open(&umem, &smaller).unwrap_err().what.starts_with("ring sizes differ"));
        XskPort::open(&umem, &XskConfig::new("ours", 0)).unwrap();
    });
}

#[test]
fn missing_capability_is_named() {
    in_namespace(|| {
        veth(1, 1500);
        without(CapabilitySet::NET_RAW);
        let error = Umem::register(common::geometry(64), UmemOptions::default()).unwrap_err();
        assert_eq!(error.errno, Some(libc::EPERM), "{error}");
        assert_eq!(error.what, "cannot open an AF_XDP socket: CAP_NET_RAW is missing (EPERM)");
        assert!(error.hint.contains("setcap"), "{error}");
    });
}

#[test]
fn memlock_is_never_shown_as_a_bare_enobufs() {
    in_namespace(|| {
        veth(1, 1500);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        let Some(limit) = limit else { return };
        without(CapabilitySet::IPC_LOCK);
        let frames = u32::try_from(limit * 2 / 2048).unwrap();
        let error = Umem::register(common::geometry(frames), UmemOptions::default()).unwrap_err();
        assert_eq!(error.errno, Some(libc::ENOBUFS), "{error}");
        assert!(error.what.contains("RLIMIT_MEMLOCK is"), "{error}");
        let hinted: u32 =
            error.hint.split("--frames ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        Umem::register(common::geometry(hinted), UmemOptions::default()).expect("the hint helps");
    });
}

#[test]
fn a_queue_refused_after_the_bind_is_let_go_of() {
    in_namespace(|| {
        veth(2, 1500);
        let (umem, _pool) = memory(64);
        let mut config = XskConfig::new("ours", 0);
        config.busy_poll = Some(ringwire_xsk::BusyPoll { budget_packets: 100_000, spin_us: 20 });
        let error = XskPort::open(&umem, &config).unwrap_err();
        assert_eq!(error.what, "queue 0 of ours: turning on busy polling failed (EINVAL)");
        let (second, _second_pool) = memory(64);
        let _first =
            XskPort::open(&second, &XskConfig::new("ours", 0)).expect("free again while `umem` is there");
        let mut demanding = XskConfig::new("ours", 1);
        demanding.bind_mode = BindMode::ZeroCopy;
        let error = XskPort::open(&second, &demanding).unwrap_err();
        assert!(
            error.what.contains("cannot be bound zero-copy"),
            "inherited copy mode is not passed off: {error}"
        );
        XskPort::open(&second, &XskConfig::new("ours", 1)).expect("free again");
    });
}

/// Drops capabilities of this thread only.
fn without(dropped: CapabilitySet) {
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(dropped);
    set_capabilities(None, sets).unwrap();
}

#[test]
fn huge_pages_are_preferred_or_required() {
    in_namespace(|| {
        veth(1, 1500);
        // More than any test machine reserves.
        let geometry = ringwire_frame::Geometry { frame_bytes: 2048, frame_count: 16_384 };
        let require = UmemOptions { huge_pages: HugePages::Require, ..UmemOptions::default() };
        match Umem::register(geometry, require) {
            Ok((umem, _region)) => assert!(umem.is_huge()),
            Err(error) => {
                assert_eq!(error.errno, Some(libc::ENOMEM), "{error}");
                assert!(error.hint.starts_with("sysctl vm.nr_hugepages=16"), "{error}");
                let prefer = UmemOptions { huge_pages: HugePages::Prefer, ..UmemOptions::default() };
                let (umem, _region) = Umem::register(geometry, prefer).unwrap();
                assert!(!umem.is_huge());
            }
        }
    });
}

#[test]
fn closing_and_opening_again_twenty_times_loses_no_frame() {
    in_namespace(|| {
        veth(1, 1500);
        let redirect = common::Redirect::attach("ours");
        let peer = common::RawPeer::open("theirs");
        for round in 0..20 {
            let (umem, mut pool) = memory(128);
            let mut port = XskPort::open(&umem, &XskConfig::new("ours", 0)).unwrap();
            redirect.set(0, port.as_fd());
            port.refill(&mut pool);
            peer.send(&ethernet(round, 100));
            let mut packets = Vec::new();
            until("the packet", || {
                port.receive(&mut pool, &mut packets, 64);
                packets.pop().filter(|packet| packet.head.bytes() == ethernet(round, 100))
            });
            let left_in_ring = common::send_frame(&mut pool, 0, &ethernet(round, 60));
            port.submit(&mut pool, &left_in_ring).unwrap();
            packets.clear();
            port.close(&mut pool);
            assert!(!left_in_ring.in_ring());
            drop(left_in_ring);
            let counts = pool.counts();
            assert!(counts.check() && counts.of(FrameState::Free) == 128, "round {round}: {counts:?}");
        }
    });
}

#[test]
fn a_frame_held_by_the_application_does_not_hold_the_queue() {
    in_namespace(|| {
        veth(1, 1500);
        let redirect = common::Redirect::attach("ours");
        let peer = common::RawPeer::open("theirs");
        let (umem, mut pool) = memory(128);
        let mut port = XskPort::open(&umem, &XskConfig::new("ours", 0)).unwrap();
        redirect.set(0, port.as_fd());
        port.refill(&mut pool);
        peer.send(&ethernet(1, 100));
        let mut packets = Vec::new();
        let held = until("the packet", || {
            port.receive(&mut pool, &mut packets, 64);
            packets.pop().filter(|packet| packet.head.bytes() == ethernet(1, 100))
        });
        drop(port);
        let (second, _second_pool) = memory(128);
        XskPort::open(&second, &XskConfig::new("ours", 0))
            .expect("while the first registration is still there");
        drop(umem);
        drop(pool);
        assert_eq!(held.head.bytes(), ethernet(1, 100), "the memory lives as long as the frame");
    });
}

#[test]
fn the_descriptor_is_not_inherited_by_children() {
    in_namespace(|| {
        veth(1, 1500);
        let (umem, _pool) = memory(64);
        let port = XskPort::open(&umem, &XskConfig::new("ours", 0)).unwrap();
        let flags = rustix::io::fcntl_getfd(&port).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    });
}
