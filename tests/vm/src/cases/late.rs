//! The device keeps what it was given: completions come late, and meanwhile the retransmission timer fires.
//!
//! The peer's driver is taken away, so that the cable takes nothing: the engine's device stops in the middle of its ring and goes on
//! reading frames where it stopped when the peer is back. What leaves then is what each frame holds at that moment; the record of the
//! cable is checked for it after the run ([`wire::check`]).

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::Handle;
use ringwire_netns::{Closing, Pace, Pattern, Script, Service, Transfers, eventually, kernel, options};

use super::AFTER_A_STALL;
use crate::nic::{DriverCounters, Watched};
use crate::scene::{Scene, Unbound, cpu_time};
use crate::wire::{self, PORT};

/// Linux tells processor time in these.
const TICKS: Duration = Duration::from_millis(50);
/// What the application writes at a time; a retransmission that is copied makes the count of copied bytes no multiple of it.
const BURST_BYTES: usize = 3000;

/// A few segments are in the ring when the device stops, and it stays stopped until a copy was sent.
pub(crate) fn a_few_segments() {
    assert!(stopped_peer(trickle(), 300_000, until_a_copy_is_sent) > 0);
}

/// The same with all that the window allows.
pub(crate) fn a_full_window() {
    assert!(stopped_peer(Pace::Free, 10_000_000, until_a_copy_is_sent) > 0);
}

/// The completion comes before, at and after the first timeout, and after the second, which is at three times the first: when that is
/// depends on the round-trip time. A frame whose completion has come leaves again itself, with a new header.
pub(crate) fn a_short_stop() {
    for stop_ms in [100, 300, 700, 1700] {
        stopped_peer(trickle(), 100_000, |_| thread::sleep(Duration::from_millis(stop_ms)));
    }
}

fn trickle() -> Pace {
    Pace::Slow { bytes: BURST_BYTES, every: Duration::from_millis(50) }
}

/// After the first timeout the engine waits for the completion, after the second it sends a copy.
fn until_a_copy_is_sent(handle: &Handle) {
    let copied_bytes = || handle.metrics().sum(|worker| worker.copied_bytes);
    // The application's writes come to an end when the send buffer is full, or go on in whole bursts.
    thread::sleep(Duration::from_millis(200));
    let (chunk, before) = (BURST_BYTES as u64, copied_bytes());
    let is_copied = || copied_bytes() > before && !(copied_bytes() - before).is_multiple_of(chunk);
    assert!(eventually(Duration::from_secs(20), is_copied), "no copy was sent\n{}", handle.metrics());
}

/// Sends `bytes` to a peer whose driver is taken away for as long as `stop` takes; how many of them were copied to be sent again.
fn stopped_peer(write: Pace, bytes: u64, stop: impl FnOnce(&Handle)) -> u64 {
    let scene = Scene::new();
    let (before, (ended, ends), addr) = (Watched::ours(), channel(), scene.at(PORT));
    let script = Script { write, ..Script::new(Pattern::new(4, bytes), Closing::First) };
    let engine = scene.builder().start().expect("zero-copy is to be had");
    let expected = script.send.digest();
    let service = Service::start(engine, move |worker| {
        Transfers::accepting(worker, addr, &options(), script.clone(), ended.clone())
    });
    let stream = kernel::connect(&scene.peer, addr).expect("a connection");
    let received = thread::scope(|scope| {
        let reader = scope.spawn(|| kernel::receive(&stream, u64::MAX).expect("the engine's stream"));
        thread::sleep(Duration::from_millis(300));
        let unbound = Unbound::new(scene.peers_device());
        let (used_before, stopped) = (cpu_time(std::process::id()), Instant::now());
        stop(service.handle());
        let (used, stopped) = (cpu_time(std::process::id()) - used_before, stopped.elapsed());
        println!("processor time while stopped: {used:?} of {stopped:?}");
        drop(unbound);
        scene.move_peers_card();
        let received = reader.join().expect("the reader ends");
        assert!(
            used < stopped / 4 + TICKS,
            "it spins while the device takes nothing: {used:?} of {stopped:?}"
        );
        received
    });
    assert_eq!(received, expected);
    let client_port = stream.local_addr().expect("a socket").port();
    drop(stream);
    let ended = ends.recv_timeout(Duration::from_secs(10)).map(|ended| ended.fault);
    assert_eq!(ended, Ok(None));
    let books = service.finish();
    before.assert_zero_copy(&books, &DriverCounters::ours());
    books.assert_balanced(&AFTER_A_STALL);
    // The application's send copies each byte once.
    let copied_bytes = books.metrics.sum(|worker| worker.copied_bytes) - bytes;
    println!("{}", wire::claim(client_port, copied_bytes));
    copied_bytes
}
