//! Virtual time, real time, threads.

use std::time::{Duration, Instant};

use ringwire_wire::tcp::{Flags, Options};

use crate::library::Drill;
use crate::packets::segment;
use crate::peer::{ACK, Peer, listening, offer, receive};

/// Microseconds by which a timer may be late: the wheel's ticks.
const TICK_US: i64 = 2_000;

#[test]
fn the_clock_gains_a_microsecond_with_each_look_and_passes_in_sleep() {
    let drill = Drill::new("");
    let first = drill.now_us();
    assert_eq!(drill.now_us(), first + 1);
    drill.usleep(5_000_000);
    assert_eq!(drill.now_us(), first + 5_000_002);
}

#[test]
fn sixty_two_seconds_of_retransmissions_take_less_than_one() {
    let start = Instant::now();
    let peer = Peer::accepted("");
    assert_eq!(peer.drill.write(peer.fd, b"anybody there?"), Ok(14));
    let first_us = peer.expect(ACK | Flags::PSH, (1, 1), b"anybody there?").at_us;
    let mut last_us = first_us;
    let mut gaps_ms = Vec::new();
    while last_us - first_us < 62_000_000 {
        let again = peer.expect(ACK | Flags::PSH, (1, 1), b"anybody there?");
        gaps_ms.push((again.at_us - last_us) / 1000);
        last_us = again.at_us;
    }
    // After the tail loss probe each wait is twice the one before.
    for pair in gaps_ms[1..].windows(2) {
        assert!((pair[0] * 2 - 8..=pair[0] * 2 + 8).contains(&pair[1]), "{gaps_ms:?}");
    }
    // A script's sleep, and what is retransmitted meanwhile keeps its own time.
    peer.drill.usleep(1_000_000);
    peer.inject(ACK, (1, 15), b"");
    peer.drill.close(peer.fd).unwrap();
    peer.expect(Flags::FIN | ACK, (15, 1), b"");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn packets_keep_the_time_at_which_they_left() {
    let peer = Peer::accepted("");
    peer.drill.write(peer.fd, b"x").unwrap();
    let start_us = peer.drill.now_us();
    peer.drill.usleep(30_000_000);
    let first = peer.receive();
    assert!((start_us - first.at_us).abs() < TICK_US);
    let second = peer.receive();
    assert!(second.at_us < start_us + 2_000_000);
}

#[test]
fn when_nothing_leaves_the_answer_is_an_empty_packet() {
    let drill = Drill::new("patience=5");
    let before_us = drill.now_us();
    let (packet, at_us) = drill.receive();
    assert!(packet.is_empty());
    assert!(at_us - before_us >= 5_000_000);
}

#[test]
fn a_call_that_waits_on_another_thread_ends_when_its_packet_comes() {
    let drill = Drill::new("");
    let listener = listening(&drill);
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let (fd, ..) = drill.accept(listener)?;
            drill.read(fd)
        });
        // Time passes, the thread waits.
        std::thread::sleep(Duration::from_millis(20));
        drill.usleep(1_000_000);
        assert!(!accepting.is_finished());
        drill.inject(&segment(Flags::SYN, (0, 0), &offer(), b"")).unwrap();
        let iss = receive(&drill).header.seq;
        drill.inject(&segment(ACK, (1, iss.wrapping_add(1)), &Options::default(), b"")).unwrap();
        drill.inject(&segment(ACK, (1, iss.wrapping_add(1)), &Options::default(), b"hello")).unwrap();
        assert_eq!(accepting.join().unwrap(), Ok(b"hello".to_vec()));
    });
}

#[test]
fn the_driving_thread_s_own_waits_move_the_clock() {
    let peer = Peer::accepted("");
    let start_us = peer.drill.now_us();
    assert_eq!(peer.drill.poll(peer.fd, libc::POLLIN, 2_500), Ok(0));
    let waited_ms = (peer.drill.now_us() - start_us) / 1000;
    assert!((2_500..2_510).contains(&waited_ms), "{waited_ms}");
    let timeout = [1_i64.to_ne_bytes(), 0_i64.to_ne_bytes()].concat();
    peer.drill.set_option(peer.fd, (libc::SOL_SOCKET, libc::SO_RCVTIMEO), &timeout).unwrap();
    assert_eq!(peer.drill.read(peer.fd), Err(libc::EAGAIN));
    let forever = Peer::accepted("");
    assert_eq!(forever.drill.read(forever.fd), Err(libc::EINTR), "nobody could ever end this");
}

#[test]
fn in_real_time_the_same_things_happen_and_take_their_time() {
    let peer = Peer::accepted("time=real,patience=2");
    peer.inject(ACK, (1, 1), b"question");
    peer.expect(ACK, (1, 9), b"");
    assert_eq!(peer.drill.read(peer.fd), Ok(b"question".to_vec()));
    let start = Instant::now();
    assert_eq!(peer.drill.write(peer.fd, b"answer"), Ok(6));
    let first = peer.expect(ACK | Flags::PSH, (1, 9), b"answer");
    let again = peer.expect(ACK | Flags::PSH, (1, 9), b"answer");
    // Not before the smallest of all timeouts, whatever else the machine does.
    assert!(again.at_us - first.at_us >= 5_000, "{}", again.at_us - first.at_us);
    assert!(start.elapsed() >= Duration::from_millis(5));
    peer.inject(ACK, (9, 7), b"");
    let timeout = [0_i64.to_ne_bytes(), 50_000_i64.to_ne_bytes()].concat();
    peer.drill.set_option(peer.fd, (libc::SOL_SOCKET, libc::SO_RCVTIMEO), &timeout).unwrap();
    let start = Instant::now();
    assert_eq!(peer.drill.read(peer.fd), Err(libc::EAGAIN));
    assert!(start.elapsed() >= Duration::from_millis(50));
    let before = peer.drill.now_us();
    peer.drill.usleep(10_000);
    assert!(peer.drill.now_us() - before >= 10_000);
    // The window's and the close's segments still leave.
    peer.drill.close(peer.fd).unwrap();
    let fin = std::iter::repeat_with(|| peer.receive()).find(|out| out.header.flags.contains(Flags::FIN));
    assert_eq!(fin.map(|fin| peer.seq(&fin)), Some(7));
}

#[test]
fn in_real_time_a_call_waits_on_another_thread_too() {
    let drill = Drill::new("time=real");
    let listener = listening(&drill);
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| drill.accept(listener));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!accepting.is_finished());
        drill.inject(&segment(Flags::SYN, (0, 0), &offer(), b"")).unwrap();
        let iss = receive(&drill).header.seq;
        drill.inject(&segment(ACK, (1, iss.wrapping_add(1)), &Options::default(), b"")).unwrap();
        assert!(accepting.join().unwrap().is_ok());
    });
}
