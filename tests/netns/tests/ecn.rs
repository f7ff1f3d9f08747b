//! Explicit congestion notification with the Linux kernel (RFC 3168): a queue that marks, each side's sender in turn.

use std::time::Duration;

use ringwire::DropReason;
use ringwire_lab::{Counters, Impairment, Node};
use ringwire_netns::{Addressing, Echo, Pattern, Scene, Service, kernel, options, within};
use rustix::net::sockopt::set_tcp_congestion;

const LIMIT: Duration = Duration::from_secs(60);
const RATE_BITS: u64 = 20_000_000;
/// More than slow start sends in the round trip in which the first mark is told.
const QUEUE_PACKETS: u32 = 400;
const MARK_AT: u32 = 20;
/// Of each way; a round trip holds 33 packets at the rate.
const DELAY: Duration = Duration::from_millis(10);
const BYTES: u64 = 4_000_000;

/// Which way the marks fall.
#[derive(Clone, Copy, Debug)]
enum Marked {
    ToEngine,
    ToKernel,
}

/// An echo between the kernel, with or without ECN, and the engine; what the marking queue counted.
fn echo(marked: Marked, with_ecn: bool, after: impl FnOnce(&Node)) -> Counters {
    let scene = Scene::forwarded(Addressing::Dedicated);
    let addr = scene.at(7);
    let service = Service::start(scene.engine(), move |worker| Echo::tcp(worker, addr, &options()));
    let asks = if with_ecn { "1" } else { "0" };
    scene.peer.set_sysctl("net/ipv4/tcp_ecn", asks).expect("a namespace of its own");
    let delay = Impairment::default().delay(DELAY, Duration::ZERO);
    let queue = delay.rate(RATE_BITS, QUEUE_PACKETS).mark(MARK_AT);
    let (towards, back) = match marked {
        Marked::ToEngine => (&scene.host, &scene.peer),
        Marked::ToKernel => (&scene.peer, &scene.host),
    };
    scene.link.impair(towards, queue).expect("a forwarder");
    scene.link.impair(back, delay).expect("a forwarder");
    let stream = kernel::connect(&scene.peer, addr).expect("a connection");
    // The machine's default may be one that does not heed marks.
    set_tcp_congestion(&stream, "cubic").expect("every kernel has it");
    let pattern = Pattern::new(3, BYTES);
    assert_eq!(kernel::exchange(&stream, &pattern).expect("an exchange"), pattern.digest());
    drop(stream);
    after(&scene.peer);
    service.finish().assert_balanced(&[DropReason::ArpNotForUs, DropReason::TcpDuplicate]);
    scene.link.counters(towards).expect("counters")
}

/// Marks came, nothing was lost, and who was told made room: without that nearly every packet would find the queue too long.
fn assert_heeded(counters: Counters) {
    assert!(counters.marked > 0 && counters.dropped == 0, "{counters:?}");
    assert!(counters.marked * 2 < counters.passed, "{counters:?}");
}

#[test]
fn the_engine_heeds_marks_that_the_kernel_echoes() {
    within(LIMIT, || assert_heeded(echo(Marked::ToKernel, true, |_| {})));
}

#[test]
fn the_kernel_heeds_marks_that_the_engine_echoes() {
    within(LIMIT, || {
        let counters = echo(Marked::ToEngine, true, |peer| {
            assert!(kernel::counter(peer, "TcpExtTCPDeliveredCE") > 0);
        });
        assert_heeded(counters);
    });
}

#[test]
fn nothing_may_be_marked_where_ecn_was_not_agreed_on() {
    within(LIMIT, || {
        for marked in [Marked::ToEngine, Marked::ToKernel] {
            assert_eq!(echo(marked, false, |_| {}).marked, 0, "{marked:?}");
        }
    });
}
