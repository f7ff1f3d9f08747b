//! Who pays when memory is short: those that hold it and have stood still for long, and nobody else.

use std::time::Duration;

use ringwire::{CloseReason, Conn, ConnError, Event, Recv, TxBuf};

use super::flood::{CLIENT, Server, is_syn_ack, syn};
use super::hoard::{FRAMES, HONEST_PORT, Scene, TEXT, accepted, fill};
use super::*;

/// A server without a frame left to write into: its application holds them.
struct Dry {
    server: Server,
    held: Vec<TxBuf>,
}

impl Dry {
    fn new() -> Dry {
        let server = Server::of(64, |builder| builder.frames_per_worker(FRAMES));
        Dry { server, held: Vec::new() }
    }

    /// A connection, and the next number of ours there.
    fn accept(&mut self, port: u16) -> (Conn, u32) {
        let seq = self.server.connect(port).unwrap();
        (accepted(&mut self.server).unwrap(), seq)
    }

    fn worker(&mut self) -> &mut Worker {
        self.server.wire.worker.as_mut().unwrap()
    }

    fn take_frames(&mut self) {
        while let Some(buf) = self.worker().tx_buf() {
            self.held.push(buf);
        }
    }

    /// So much time without a frame to write into; what has left.
    fn pass(&mut self, seconds: u64) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for _ in 0..seconds * 4 {
            self.take_frames();
            self.server.hand.advance(Duration::from_millis(250));
            sent.extend(self.server.exchange(&[packets::arp_reply()]));
        }
        sent
    }
}

/// What waits on the heap would give no frame back.
#[test]
fn a_connection_without_frames_is_not_reset_for_want_of_frames() {
    let mut dry = Dry::new();
    let (silent, _) = dry.accept(2000);
    dry.take_frames();
    assert_eq!(dry.worker().send(silent, &TEXT), Ok(TEXT.len()));
    dry.pass(40);
    let counters = dry.server.counters();
    assert_eq!(counters.stalled_cut, 0);
    assert!(counters.heap_bytes > 0, "there it waits");
    assert_eq!(dry.worker().send(silent, &TEXT), Ok(TEXT.len()));
}

/// One that keeps frames and takes nothing is: but not within the time that a path may be out.
#[test]
fn a_response_survives_an_outage_of_some_seconds_while_frames_are_short() {
    let mut dry = Dry::new();
    let responses = [dry.accept(2000), dry.accept(2001)];
    for (response, _) in responses {
        assert_eq!(dry.worker().send(response, &TEXT), Ok(TEXT.len()));
        dry.worker().close(response);
    }
    dry.pass(20);
    assert_eq!(dry.server.counters().stalled_cut, 0);
    // The text and the FIN.
    let end = responses[0].1.wrapping_add(1001);
    dry.server.exchange(&[packets::tcp((CLIENT, 2000), PORT, Flags::ACK, (1001, end))]);
    dry.pass(12);
    let counters = dry.server.counters();
    assert_eq!((counters.stalled_cut, counters.connections), (1, 1), "frames are not for ever");
    dry.server.exchange(&[packets::tcp((CLIENT, 2000), PORT, Flags::FIN | Flags::ACK, (1001, end))]);
    assert_eq!(dry.server.counters().time_waits, 1, "finished in order");
}

/// RFC 9293 3.8.6.1 (MUST-37): a window may stay closed, and the frames be kept, while nobody goes without one.
#[test]
fn a_peer_that_answers_probes_keeps_all_frames_while_nobody_wants_one() {
    let mut dry = Dry::new();
    let (paused, seq) = dry.accept(2000);
    fill(&mut dry.server, paused).unwrap();
    let sent = dry.server.exchange(&[]);
    let end =
        sent.iter().map(|frame| packets::tcp_seq(frame).wrapping_add(packets::tcp_text_len(frame) as u32));
    let end = end.max().unwrap();
    assert_ne!(end, seq);
    dry.server.exchange(&[packets::closed_window((CLIENT, 2000), PORT, (1001, end))]);
    // Into the frames that this has freed.
    fill(&mut dry.server, paused).unwrap();
    let (mut answer, mut probes) = (Vec::new(), 0);
    for _ in 0..60 {
        dry.server.hand.advance(Duration::from_secs(1));
        answer.push(packets::arp_reply());
        let is_probe = |frame: &&Vec<u8>| frame[12..14] == [8, 0] && packets::tcp_dst_port(frame) == 2000;
        let seen = dry.server.exchange(&answer).iter().filter(is_probe).count();
        let probe = packets::closed_window((CLIENT, 2000), PORT, (1001, end));
        answer = vec![probe; seen];
        probes += seen;
    }
    assert!(probes > 3, "{probes} probes");
    assert_eq!(dry.server.counters().stalled_cut, 0);
    assert!(dry.worker().tx_buf().is_none(), "there is not one left");
    dry.server.exchange(&[]);
    dry.server.exchange(&[]);
    assert_eq!(dry.server.counters().stalled_cut, 1, "now somebody does");
    assert!(dry.worker().tx_buf().is_some());
}

/// The heap takes their place, which harms nobody while most of it is free.
#[test]
fn who_sends_from_the_heap_is_no_reason_until_it_fills() {
    let mut scene = Scene::new(8 << 20);
    let conns: Vec<Conn> =
        (2000..2020).filter_map(|port| scene.attacker(port).map(|(conn, _)| conn)).collect();
    let (first, others) = conns.split_at(3);
    let rates = |scene: &mut Scene| {
        for _ in 0..33 {
            pass(scene, 1);
            assert!((scene.rate(1) - 1.0).abs() < 1e-9);
        }
        scene.server.counters()
    };
    for conn in first {
        fill(&mut scene.server, *conn).unwrap();
    }
    let before = scene.server.counters();
    let counters = rates(&mut scene);
    assert!(counters.frames_wanted > before.frames_wanted + 300, "the heap stands in");
    assert!(counters.heap_bytes < scene.heap_bytes / 2);
    assert_eq!(counters.stalled_cut, 0);
    for conn in others {
        fill(&mut scene.server, *conn).unwrap();
    }
    scene.server.exchange(&[]);
    assert!(scene.server.counters().heap_bytes > scene.heap_bytes / 2);
    let counters = rates(&mut scene);
    assert!(counters.heap_bytes < scene.heap_bytes / 8 * 7, "that would be a reason of its own");
    assert!((1..=3).contains(&counters.stalled_cut), "{counters:?}");
}

/// The search for data ahead of gaps, which goes round all the time, does not put off the other one.
#[test]
fn who_keeps_the_frames_is_found_while_the_heap_is_short() {
    let mut scene = Scene::new(8 << 20);
    let conns: Vec<Conn> =
        (2000..2040).filter_map(|port| scene.attacker(port).map(|(conn, _)| conn)).collect();
    for conn in conns {
        if scene.server.counters().heap_bytes < scene.heap_bytes / 32 * 25 {
            fill(&mut scene.server, conn).unwrap();
            scene.server.exchange(&[]);
        }
    }
    let heap_bytes = scene.server.counters().heap_bytes;
    assert!((scene.heap_bytes / 8 * 6..scene.heap_bytes / 8 * 7).contains(&heap_bytes), "{heap_bytes}");
    let heard = packets::arp_reply();
    for nth in 0..33 * 20 {
        scene.server.hand.advance(Duration::from_millis(50));
        let is_wanted = worker(&mut scene).tx_buf().is_none();
        scene.server.exchange(if nth % 20 == 0 { std::slice::from_ref(&heard) } else { &[] });
        if scene.server.counters().stalled_cut > 0 {
            assert!(is_wanted && nth > 29 * 20, "not before its time");
            return;
        }
    }
    panic!("nobody was found: {:?}", scene.server.counters());
}

/// What the peer believes to be read is: only what was to be sent is given up.
#[test]
fn what_was_acknowledged_is_read_after_a_reset_for_want_of_memory() {
    let mut dry = Dry::new();
    let (silent, seq) = dry.accept(2000);
    let mut sent = dry.server.exchange(&[packets::data((CLIENT, 2000), PORT, (1001, seq), &TEXT)]);
    assert_eq!(dry.worker().send(silent, &TEXT), Ok(TEXT.len()));
    sent.extend(dry.pass(40));
    assert_eq!(dry.server.counters().stalled_cut, 1);
    let to_it: Vec<&Vec<u8>> = sent.iter().filter(|frame| frame[12..14] == [8, 0]).collect();
    assert_eq!(to_it.iter().map(|frame| packets::tcp_ack(frame)).max(), Some(2001), "acknowledged");
    assert_eq!(to_it.iter().filter(|frame| is_reset(frame)).count(), 1);
    let Ok(Recv::Data(piece)) = dry.worker().recv(silent) else { panic!("it is not there") };
    assert_eq!(piece[..], TEXT);
    assert!(matches!(dry.worker().recv(silent), Err(ConnError::NotConnected)));
    dry.pass(1);
    let is_end = |event: &Event| *event == Event::Closed { conn: silent, reason: CloseReason::TimedOut };
    assert_eq!(dry.server.events.iter().filter(|event| is_end(event)).count(), 1);
    assert_eq!(dry.server.counters().connections, 0);
}

/// Pieces that lie unread in their frames make memory short before the heap holds anything.
#[test]
fn turns_without_frames_to_spare_are_counted() {
    let mut scene = Scene::new(8 << 20);
    let (_, seq) = scene.attacker(2000).unwrap();
    for nth in 0..100 {
        let before = scene.server.counters();
        if before.short_turns > 0 {
            assert!(before.heap_bytes < scene.heap_bytes / 8, "{} bytes", before.heap_bytes);
            return;
        }
        let numbers = (1001 + nth * 1000, seq);
        scene.server.exchange(&[packets::data((CLIENT, 2000), PORT, numbers, &TEXT)]);
    }
    panic!("no turn was short: {:?}", scene.server.counters());
}

/// Nobody waits for what was closed, but its peer has its time from then on, and more of it the longer its round trips are.
#[test]
fn what_was_closed_has_its_time_from_then_on() {
    let mut scene = Scene::new(8 << 20);
    let far = slow_handshake(&mut scene, 2000);
    let (near, _) = scene.attacker(2001).unwrap();
    let others: Vec<Conn> =
        (2002..2060).filter_map(|port| scene.attacker(port).map(|(conn, _)| conn)).collect();
    for conn in [near, far] {
        assert_eq!(worker(&mut scene).send(conn, &TEXT).unwrap(), TEXT.len());
    }
    for conn in others {
        fill(&mut scene.server, conn).unwrap();
    }
    scene.server.exchange(&[]);
    assert!(scene.server.counters().heap_bytes > scene.heap_bytes / 8 * 7);
    pass(&mut scene, 12);
    for conn in [near, far] {
        worker(&mut scene).close(conn);
    }
    pass(&mut scene, 2);
    assert_eq!(scene.server.counters().stalled_cut, 0, "twelve seconds without progress, two since then");
    pass(&mut scene, 2);
    assert_eq!(scene.server.counters().stalled_cut, 1, "the near one");
    pass(&mut scene, 8);
    assert_eq!(scene.server.counters().stalled_cut, 2);
}

fn worker(scene: &mut Scene) -> &mut Worker {
    scene.server.wire.worker.as_mut().unwrap()
}

fn pass(scene: &mut Scene, seconds: u64) {
    for _ in 0..seconds {
        scene.server.hand.advance(Duration::from_secs(1));
        scene.server.exchange(&[packets::arp_reply()]);
    }
}

/// A connection to where a round trip takes 0.8 s.
fn slow_handshake(scene: &mut Scene, port: u16) -> Conn {
    let answers = scene.server.exchange(&[syn(CLIENT, port)]);
    let seq = answers.iter().find(|frame| is_syn_ack(frame)).map(|frame| packets::tcp_seq(frame)).unwrap();
    scene.server.hand.advance(Duration::from_millis(800));
    let ack = packets::tcp((CLIENT, port), PORT, Flags::ACK, (1001, seq.wrapping_add(1)));
    scene.server.exchange(&[ack]);
    accepted(&mut scene.server).unwrap()
}

/// A piece on the heap that the heap cannot keep leaves in a frame while there are some.
#[test]
fn a_piece_finds_a_frame_when_the_heap_is_full() {
    let mut scene = Scene::new(1 << 20);
    let mut unread: Vec<(u16, u32, u32)> =
        (2001..2040).filter_map(|port| scene.attacker(port).map(|(_, seq)| (port, seq, 0))).collect();
    let honest = scene.honest;
    let mut piece = worker(&mut scene).tx_buf_for(9000).expect("it is on the heap");
    assert_eq!(piece.put(&TEXT), TEXT.len());
    for _ in 0..100 {
        for (port, seq, sent) in &mut unread {
            let text = packets::data((CLIENT, *port), PORT, (1001 + *sent, *seq), &TEXT);
            let answers = scene.server.exchange(&[text]);
            let to_it = answers.iter().filter(|frame| packets::tcp_dst_port(frame) == *port);
            *sent = to_it.map(|frame| packets::tcp_ack(frame)).max().map_or(*sent, |acked| acked - 1001);
        }
    }
    assert!(scene.heap_bytes - scene.server.counters().heap_bytes < 1000, "the heap is full");
    assert!(worker(&mut scene).tx_buf().is_some(), "there are frames to write into");
    let sent = worker(&mut scene).send_buf(honest, piece).map_err(|unsent| unsent.error);
    assert_eq!(sent, Ok(()), "there is a frame for it");
    let answers = scene.server.exchange(&[]);
    let ours = answers.iter().filter(|frame| packets::tcp_dst_port(frame) == HONEST_PORT);
    assert_eq!(ours.map(|frame| packets::tcp_text_len(frame)).sum::<usize>(), TEXT.len());
    assert_eq!(scene.server.counters().writes_refused, 0);
}
