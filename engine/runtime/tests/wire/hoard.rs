//! Peers that make the engine hold things: memory stays below its ceiling, and a connection that makes progress keeps its rate.

use std::time::Duration;

use ringwire::{Conn, ConnError, Event, Recv};

use super::flood::{CLIENT, Server, is_syn_ack, syn};
use super::*;

pub(super) const FRAMES: u32 = 256;
const FRAMES_BYTES: u64 = 256 * 2048;
pub(super) const HONEST_PORT: u16 = 9000;
pub(super) const TEXT: [u8; 1000] = [b'h'; 1000];

/// A server whose memory is small, and a client that asks and is answered.
pub(super) struct Scene {
    pub(super) server: Server,
    pub(super) honest: Conn,
    /// Bytes that the honest client has sent, and been sent.
    asked: u32,
    answered: u32,
    pub(super) seq: u32,
    pub(super) heap_bytes: u64,
    most_bytes: u64,
}

impl Scene {
    /// With so much heap beside the frames.
    pub(super) fn new(heap_bytes: u64) -> Scene {
        let ceiling = FRAMES_BYTES + heap_bytes;
        let mut server =
            Server::of(4000, |builder| builder.frames_per_worker(FRAMES).memory_ceiling_bytes(ceiling));
        let seq = server.connect(HONEST_PORT).expect("nobody else is here");
        let honest = accepted(&mut server).expect("nobody else is here");
        Scene { server, honest, asked: 0, answered: 0, seq, heap_bytes, most_bytes: 0 }
    }

    /// Another connection, from the attacker's port.
    pub(super) fn attacker(&mut self, port: u16) -> Option<(Conn, u32)> {
        let seq = self.server.connect(port)?;
        let conn = accepted(&mut self.server)?;
        self.look();
        Some((conn, seq))
    }

    pub(super) fn look(&mut self) {
        let bytes = self.server.counters().heap_bytes;
        self.most_bytes = self.most_bytes.max(bytes);
        assert!(bytes <= self.heap_bytes, "{bytes} bytes on the heap");
    }

    /// Ten segments there, the same back, acknowledged; how many of the twenty arrived.
    fn round(&mut self) -> u32 {
        let numbers = |scene: &Scene, nth: u32| {
            (1001 + scene.asked + nth * 1000, scene.seq.wrapping_add(scene.answered))
        };
        let from = (CLIENT, HONEST_PORT);
        let asks: Vec<Vec<u8>> =
            (0..10).map(|nth| packets::data(from, PORT, numbers(self, nth), &TEXT)).collect();
        self.server.exchange(&asks);
        let worker = self.server.wire.worker.as_mut().unwrap();
        let mut read = 0;
        while let Ok(Recv::Data(piece)) = worker.recv(self.honest) {
            read += u32::try_from(piece.len()).unwrap();
        }
        let mut written = 0;
        for _ in 0..10 {
            written += worker.send(self.honest, &TEXT).unwrap();
        }
        let mut answers = self.server.exchange(&[]);
        self.asked += read;
        let mut got = 0;
        // As many turns as the window takes, and others' packets before ours.
        let mut idle_turns = 0;
        while idle_turns < 8 {
            let ours = answers.iter().filter(|frame| packets::tcp_dst_port(frame) == HONEST_PORT);
            let new: usize = ours.map(|frame| packets::tcp_text_len(frame)).sum();
            let new = u32::try_from(new).unwrap();
            (got, self.answered) = (got + new, self.answered + new);
            let ack = packets::tcp(from, PORT, Flags::ACK, numbers(self, 0));
            idle_turns = if new == 0 { idle_turns + 1 } else { 0 };
            answers = self.server.exchange(if new == 0 { &[] } else { std::slice::from_ref(&ack) });
        }
        assert_eq!(got as usize, written, "what was written arrives");
        self.look();
        (read + got) / 1000
    }

    /// The honest client's rate against what it would be without the attack.
    pub(super) fn rate(&mut self, rounds: u32) -> f64 {
        let moved: u32 = (0..rounds).map(|_| self.round()).sum();
        f64::from(moved) / f64::from(rounds * 20)
    }
}

pub(super) fn accepted(server: &mut Server) -> Option<Conn> {
    for _ in 0..4 {
        let conn = server.events.iter().find_map(|event| match event {
            Event::Accepted { conn, .. } => Some(*conn),
            _ => None,
        });
        server.events.clear();
        if conn.is_some() {
            return conn;
        }
        server.turn();
    }
    None
}

/// Writes until nothing more is taken.
pub(super) fn fill(server: &mut Server, conn: Conn) -> Result<(), ConnError> {
    let worker = server.wire.worker.as_mut().unwrap();
    while worker.send(conn, &[7; 4096])? > 0 {}
    Ok(())
}

/// Peers that acknowledge nothing, or close their windows and answer every probe: what is written to them has its limit, strangers are
/// refused first, and the stalled ones are reset in the end.
#[test]
fn peers_that_take_nothing_keep_no_more_than_the_ceiling() {
    let mut scene = Scene::new(8 << 20);
    assert!((scene.rate(10) - 1.0).abs() < 1e-9, "undisturbed");
    let mut attackers = 0;
    for port in 2000..2040 {
        let Some((conn, _)) = scene.attacker(port) else { continue };
        attackers += 1;
        fill(&mut scene.server, conn).unwrap();
        scene.server.exchange(&[]);
        scene.look();
    }
    assert!((5..40).contains(&attackers), "{attackers} got in");
    let refused = scene.server.counters().syns_refused;
    assert_eq!(refused, 40 - attackers);
    let rate = scene.rate(50);
    assert!(rate >= 0.5, "{rate} of the rate");
    for _ in 0..33 {
        scene.server.hand.advance(Duration::from_secs(1));
        scene.server.exchange(&[]);
        scene.server.exchange(&[packets::arp_reply()]);
        let rate = scene.rate(2);
        assert!(rate >= 0.5, "{rate} of the rate");
    }
    let counters = scene.server.counters();
    assert!(counters.stalled_cut > 0, "{counters:?}");
    assert!(counters.heap_bytes < scene.heap_bytes / 8 * 7, "{} bytes stay", counters.heap_bytes);
    assert!(scene.most_bytes > scene.heap_bytes / 2, "the attack was one");
    assert!((scene.rate(10) - 1.0).abs() < 1e-9, "as before");
}

/// Strangers are refused first, then data ahead of gaps is given up; nobody is reset for what he sends.
#[test]
fn data_ahead_of_gaps_is_given_up_before_it_reaches_the_ceiling() {
    let mut scene = Scene::new(2 << 20);
    let attackers: Vec<(u16, u32)> =
        (2000..2060).filter_map(|port| scene.attacker(port).map(|(_, seq)| (port, seq))).collect();
    assert_eq!(attackers.len(), 60);
    for (port, seq) in attackers {
        for batch in 0..6_u32 {
            let numbers = |nth: u32| (1001 + 100 + (batch * 10 + nth) * 1070, seq);
            let early: Vec<Vec<u8>> =
                (0..10).map(|nth| packets::data((CLIENT, port), PORT, numbers(nth), &TEXT)).collect();
            scene.server.exchange(&early);
            scene.look();
        }
        let before = scene.server.counters();
        assert!(before.early_shed == 0 || before.syns_refused > 0, "{before:?}");
        scene.server.connect(port + 1000);
        let rate = scene.rate(3);
        assert!(rate >= 0.5, "{rate} of the rate");
    }
    let counters = scene.server.counters();
    assert!(counters.early_shed > 0 && counters.syns_refused > 0, "{counters:?}");
    assert!(scene.most_bytes > scene.heap_bytes / 2, "the attack was one: {}", scene.most_bytes);
    assert_eq!(counters.stalled_cut, 0);
}

/// The application reads nothing: what was acknowledged is kept, what does not fit is not acknowledged, and a connection that is read
/// goes on.
#[test]
fn an_application_that_does_not_read_costs_no_more_than_the_ceiling() {
    let mut scene = Scene::new(1 << 20);
    let mut held: Vec<(Conn, u16, u32, u32)> = Vec::new();
    for port in 2000..2030 {
        let Some((conn, seq)) = scene.attacker(port) else { continue };
        held.push((conn, port, seq, 0));
    }
    for _ in 0..25 {
        for (_, port, seq, sent) in &mut held {
            let numbers = |nth: u32| (1001 + *sent + nth * 1000, *seq);
            let texts: Vec<Vec<u8>> =
                (0..10).map(|nth| packets::data((CLIENT, *port), PORT, numbers(nth), &TEXT)).collect();
            // As any peer, it goes on where the acknowledgements end.
            let answers = scene.server.exchange(&texts);
            let to_it = answers.iter().filter(|frame| packets::tcp_dst_port(frame) == *port);
            let acked = to_it.map(|frame| packets::tcp_ack(frame)).max();
            *sent = acked.map_or(*sent, |acked| acked - 1001);
        }
        scene.look();
        let rate = scene.rate(2);
        assert!(rate >= 0.5, "{rate} of the rate");
    }
    assert!(scene.most_bytes > scene.heap_bytes / 2, "{} bytes", scene.most_bytes);
    for (conn, _, _, sent) in held {
        let worker = scene.server.wire.worker.as_mut().unwrap();
        let mut read = 0;
        while let Recv::Data(piece) = worker.recv(conn).unwrap() {
            read += u32::try_from(piece.len()).unwrap();
        }
        assert!(read >= sent, "{read} of {sent} acknowledged bytes are there");
    }
    scene.server.turn();
    assert_eq!(scene.server.counters().heap_bytes, 0);
}

/// A write that found no memory is followed by WRITABLE when there is some.
#[test]
fn a_refused_write_is_told_of_room() {
    let mut scene = Scene::new(8 << 20);
    let mut conns = Vec::new();
    // All get in while there is memory.
    for port in 2000..2060 {
        conns.extend(scene.attacker(port).map(|(conn, _)| conn));
    }
    assert_eq!(conns.len(), 60);
    let refused = conns.iter().find(|conn| {
        fill(&mut scene.server, **conn).unwrap();
        scene.server.counters().writes_refused > 0
    });
    let refused = *refused.expect("less memory than windows");
    scene.look();
    scene.server.exchange(&[]);
    scene.server.events.clear();
    for conn in conns.iter().filter(|conn| **conn != refused) {
        scene.server.wire.worker.as_mut().unwrap().abort(*conn);
    }
    for _ in 0..40 {
        scene.server.exchange(&[]);
    }
    let is_told = |event: &Event| matches!(event, Event::Writable(conn) if *conn == refused);
    assert_eq!(scene.server.events.iter().filter(|event| is_told(event)).count(), 1);
    assert!(scene.server.wire.worker.as_mut().unwrap().send(refused, &TEXT).unwrap() > 0);
}

/// New connections are refused while memory is short, and taken when it is not.
#[test]
fn strangers_are_taken_again_when_there_is_memory() {
    let mut scene = Scene::new(8 << 20);
    let mut conns = Vec::new();
    for port in 2000..2040 {
        let Some((conn, _)) = scene.attacker(port) else { break };
        fill(&mut scene.server, conn).unwrap();
        scene.server.exchange(&[]);
        conns.push(conn);
    }
    let answers = scene.server.exchange(&[syn(CLIENT, 5000)]);
    assert!(!answers.iter().any(|frame| is_syn_ack(frame)));
    assert!(scene.server.dropped(DropReason::NoMemory) >= 1);
    for conn in conns {
        scene.server.wire.worker.as_mut().unwrap().abort(conn);
    }
    for _ in 0..40 {
        scene.server.exchange(&[]);
    }
    assert!(scene.server.connect(5001).is_some());
}

#[test]
fn a_ceiling_below_the_frames_is_refused() {
    let interface = Interface::new("memory").address(format!("{HERE}/24").parse().unwrap());
    let refused = Engine::builder()
        .interface(interface)
        .frames_per_worker(FRAMES)
        .memory_ceiling_bytes(FRAMES_BYTES)
        .start_on(|pool| FarEnd::new(64, 64).attach(pool));
    let error = refused.expect_err("refused").to_string();
    assert!(error.contains("ceiling") && error.contains("1572864"), "{error}");
}
