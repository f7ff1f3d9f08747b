//! The wire is judged by others: on a loss-free link nothing is ever said twice, and the judges find what is planted.

use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::time::Duration;

use ringwire_lab::{Macs, Segment};
use ringwire_netns::{
    Addressing, Closing, Pattern, Scene, Script, Service, Transfers, Verdict, kernel, options, within,
};

const LIMIT: Duration = Duration::from_secs(120);
/// Where a core is taken away for longer than a retransmission timer waits, either end repeats itself and is right to.
const ATTEMPTS: usize = 8;

/// A connection that moves this much each way; what the wire shows of it.
fn exchange(addressing: Addressing, closing: Closing, bytes: u64) -> Verdict {
    let mut scene = Scene::new(addressing);
    let (from_engine, from_kernel) = (Pattern::new(1, bytes), Pattern::new(2, bytes));
    let (ended, ends) = channel();
    let (addr, script) = (scene.at(9000), Script::new(from_engine.clone(), closing));
    let service = Service::start(scene.engine(), move |worker| {
        Transfers::accepting(worker, addr, &options(), script.clone(), ended.clone())
    });
    let stream = kernel::connect(&scene.peer, addr).expect("a connection");
    let received = std::thread::scope(|scope| {
        let reader = scope.spawn(|| kernel::receive(&stream, u64::MAX).expect("the engine's stream"));
        kernel::send(&stream, from_kernel.clone()).expect("a write");
        stream.shutdown(Shutdown::Write).expect("a half-close");
        reader.join().expect("the reader ends")
    });
    assert_eq!(received, from_engine.digest());
    let ended = ends.recv_timeout(Duration::from_secs(20)).expect("the engine is done too");
    assert_eq!((ended.received, ended.fault), (from_kernel.digest(), None));
    drop(stream);
    service.finish();
    scene.wire.as_mut().expect("scenes are judged").verdict()
}

#[test]
fn a_loss_free_link_shows_nothing_twice() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            for (closing, bytes) in [(Closing::First, 1_000), (Closing::AnswerAfterEof, 300_000)] {
                let is_clean = (0..ATTEMPTS).any(|_| {
                    let Verdict { faults, excused } = exchange(addressing, closing, bytes);
                    assert!(faults.is_empty(), "{addressing:?} {closing:?} {bytes}: {faults:#?}");
                    excused.is_empty()
                });
                assert!(is_clean, "{addressing:?} {closing:?} {bytes}: {ATTEMPTS} times something stalled");
            }
        }
    });
}

/// What is seen of the same SYN three times, as if the engine had sent it, with its checksums as they are to be wrong.
fn shown(mut scene: Scene, checksums_off_by: [u16; 3]) -> Verdict {
    let mut port = scene.host.raw(&scene.link).expect("a raw port");
    let addr = |ip, port| match std::net::SocketAddr::new(ip, port) {
        std::net::SocketAddr::V4(addr) => addr,
        std::net::SocketAddr::V6(_) => panic!("the lab's addresses are IPv4"),
    };
    let (src, dst) = (addr(scene.ip(), 9000), addr(scene.peer_ip(), 9001));
    let macs = Macs { src: port.mac(), dst: scene.link.mac(&scene.peer) };
    for checksum_off_by in checksums_off_by {
        port.send(Segment { checksum_off_by, ..Segment::new(src, dst, "S") }.frame(macs));
    }
    // The last one and its refusal have passed when the peer's port hears of nothing more.
    port.recv(Duration::from_millis(200));
    let wire = scene.wire.as_mut().expect("scenes are judged");
    let verdict = wire.verdict();
    // It stays when there was something to find.
    let is_kept = std::fs::remove_file(wire.path()).is_ok();
    assert_eq!(is_kept, !verdict.faults.is_empty());
    verdict
}

#[test]
fn a_wrong_checksum_is_seen() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated).may_repeat("the same SYN is sent three times");
        let faults = shown(scene, [0, 1, 0]).faults;
        // Where the file is, and the one packet.
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[1].contains("hecksum"), "{faults:?}");
    });
}

#[test]
fn what_is_repeated_without_a_reason_is_seen() {
    within(LIMIT, || {
        let Verdict { faults, excused } = shown(Scene::new(Addressing::Dedicated), [0, 0, 0]);
        // Unless a core was taken away just now.
        assert!(faults.len() + excused.len() >= 2, "{faults:?} {excused:?}");
    });
}
