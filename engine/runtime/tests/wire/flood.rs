//! A listener under attack: what is bounded stays bounded, and those who were there before go on.

use std::time::Duration;

use ringwire::clock::{Clock, ManualClock};
use ringwire::{CloseReason, Event, KeepAlive, Recv, WorkerCounters};

use super::*;

pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The engine in virtual time, listening.
pub(super) struct Server {
    pub(super) wire: Wire,
    pub(super) hand: ManualClock,
    pub(super) events: Vec<Event>,
}

impl Server {
    fn new(backlog: u32) -> Server {
        Server::of(backlog, |builder| builder)
    }

    pub(super) fn of(backlog: u32, choose: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Server {
        let (clock, hand) = Clock::manual();
        let (mut wire, engine) =
            Wire::to_engine_of(256, |builder| choose(builder.clock(clock).max_connections(4096)));
        // Two connections' news a turn.
        wire.events = Events::with_capacity(8);
        let mut worker = engine.into_workers().remove(0).start();
        let mut options = TcpOptions::default();
        options.backlog = backlog;
        worker.listen((HERE, PORT).into(), &options).unwrap();
        wire.worker = Some(worker);
        let mut server = Server { wire, hand, events: Vec::new() };
        server.wire.offer(&packets::arp());
        server.turn();
        server.wire.received();
        server
    }

    pub(super) fn turn(&mut self) {
        self.hand.advance(Duration::from_micros(10));
        let worker = self.wire.worker.as_mut().unwrap();
        worker.poll(&mut self.wire.events, Some(Duration::ZERO)).unwrap();
        self.events.extend(self.wire.events.drain());
    }

    pub(super) fn counters(&self) -> WorkerCounters {
        self.wire.worker.as_ref().unwrap().counters().clone()
    }

    pub(super) fn dropped(&mut self, reason: DropReason) -> u64 {
        self.turn();
        self.wire.handle.metrics().dropped(reason)
    }

    /// Sends and gives back the answers.
    pub(super) fn exchange(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        for frame in frames {
            self.wire.offer(frame);
        }
        self.turn();
        self.wire.received()
    }

    /// A whole handshake, and the application closes; the number of the server's FIN.
    fn connect_and_be_closed(&mut self, port: u16) -> u32 {
        let seq = self.connect(port).unwrap();
        let Some(Event::Accepted { conn, .. }) = self.events.first().copied() else { panic!("not accepted") };
        self.events.clear();
        self.wire.worker.as_mut().unwrap().close(conn);
        seq
    }

    /// A whole handshake; the server's next number.
    pub(super) fn connect(&mut self, port: u16) -> Option<u32> {
        let answers = self.exchange(&[syn(CLIENT, port)]);
        let seq = answers.iter().find(|frame| is_syn_ack(frame)).map(|frame| packets::tcp_seq(frame))?;
        let seq = seq.wrapping_add(1);
        self.exchange(&[packets::tcp((CLIENT, port), PORT, Flags::ACK, (1001, seq))]);
        Some(seq)
    }

    fn accepted(&mut self) -> usize {
        let count = self.events.iter().filter(|event| matches!(event, Event::Accepted { .. })).count();
        self.events.clear();
        count
    }
}

pub(super) fn syn(from: Ipv4Addr, port: u16) -> Vec<u8> {
    packets::tcp((from, port), PORT, Flags::SYN, (1000, 0))
}

pub(super) fn is_syn_ack(frame: &[u8]) -> bool {
    flags(frame) == Some(Flags::SYN | Flags::ACK)
}

/// 100,000 SYNs from as many spoofed sources: nothing is kept of them, a connection goes on, and a client that means it gets in.
#[test]
fn a_syn_flood_takes_no_memory_and_keeps_nobody_out() {
    let mut server = Server::new(64);
    let ours = server.connect(2000).unwrap();
    let Some(Event::Accepted { conn, .. }) = server.events.first().copied() else { panic!("not accepted") };
    server.events.clear();
    server.exchange(&[]);
    let mut moved: u32 = 0;
    let (mut cookies, mut clients) = (0, 0);
    for round in 0..2000_u32 {
        let flood: Vec<Vec<u8>> = (0..50)
            .map(|index| {
                let [_, high, middle, low] = (round * 50 + index).to_be_bytes();
                syn(Ipv4Addr::new(10, 0, 100 + (high & 1), middle), 1024 + u16::from(low))
            })
            .collect();
        cookies += server.exchange(&flood).iter().filter(|frame| is_syn_ack(frame)).count();
        let text = packets::data((CLIENT, 2000), PORT, (1001 + moved, ours), b"0123456789");
        server.exchange(&[text]);
        let worker = server.wire.worker.as_mut().unwrap();
        while let Recv::Data(piece) = worker.recv(conn).unwrap() {
            moved += u32::try_from(piece.len()).unwrap();
        }
        if round % 100 == 99 {
            server.connect(3000 + u16::try_from(round / 100).unwrap()).unwrap();
            clients += server.accepted();
        }
    }
    assert_eq!((moved, clients), (20_000, 20));
    assert!(cookies > 99_000, "{cookies} answers");
    let counters = server.counters();
    assert!(counters.connections <= 64 + 21, "{} connections", counters.connections);
    assert_eq!(counters.cookies_accepted, 20);
    let counts = server.wire.worker.as_ref().unwrap().frame_counts();
    assert!(counts.total() > 0 && counts.of(ringwire::frame::FrameState::App) == 0);
}

/// Linux's rule: one more than the backlog may wait, the others' last step is dropped, and what they repeat counts.
#[test]
fn the_accept_queue_holds_as_many_as_the_backlog_says() {
    let mut server = Server::new(4);
    // Half-open ones first, so that all can finish in one turn.
    let syns: Vec<Vec<u8>> = (0..4).map(|port| syn(CLIENT, 2000 + port)).collect();
    let mut last_steps = last_steps(&server.exchange(&syns));
    // By cookies: their last step meets the same limit.
    let more: Vec<Vec<u8>> = (4..10).map(|port| syn(CLIENT, 2000 + port)).collect();
    last_steps.extend(self::last_steps(&server.exchange(&more)));
    assert_eq!((last_steps.len(), server.counters().cookies_sent), (10, 6));
    server.exchange(&last_steps);
    // Five fill the queue before the application sees the first two.
    assert_eq!(server.counters().accepted, 5);
    assert_eq!(server.dropped(DropReason::TcpAcceptQueueFull), 5);
    for _ in 0..4 {
        server.turn();
    }
    assert_eq!(server.accepted(), 5);
    // The peers repeat it with their first text.
    server.exchange(&last_steps[5..]);
    for _ in 0..4 {
        server.turn();
    }
    assert_eq!(server.accepted(), 5);
    assert_eq!(server.counters().connections, 10);
}

/// With a full accept queue a SYN gets no answer at all, so that its sender waits before it tries again.
#[test]
fn a_full_accept_queue_answers_no_syn() {
    let mut server = Server::new(1);
    let first = last_steps(&server.exchange(&[syn(CLIENT, 2000)]));
    let cookies = last_steps(&server.exchange(&[syn(CLIENT, 2001), syn(CLIENT, 2002)]));
    let all = [&first[..], &cookies, &[syn(CLIENT, 2003)]].concat();
    let answers = server.exchange(&all);
    assert!(!answers.iter().any(|frame| is_syn_ack(frame)));
    assert_eq!(server.dropped(DropReason::TcpAcceptQueueFull), 2);
}

/// A connection that is reset before the application heard of it leaves its place in the queue.
#[test]
fn a_reset_in_the_accept_queue_frees_its_place() {
    let mut server = Server::new(1);
    for round in 0..20 {
        let port = 2000 + round;
        let steps = last_steps(&server.exchange(&[syn(CLIENT, port)]));
        let reset = packets::tcp((CLIENT, port), PORT, Flags::RST, (1001, 0));
        server.exchange(&[steps[0].clone(), reset]);
    }
    assert_eq!(server.counters().connections, 0);
    assert_eq!(server.counters().accepted, 20);
    assert_eq!(server.accepted(), 0);
    assert!(server.connect(3000).is_some());
}

/// Peers that acknowledge our FIN and never send theirs hold as many connections as the limit says; the oldest are reset.
#[test]
fn what_the_application_has_closed_is_limited() {
    let mut server = Server::of(64, |builder| builder.max_orphans(4));
    for round in 0..40 {
        let port = 2000 + round;
        let seq = server.connect_and_be_closed(port);
        let mut answers = server.exchange(&[]);
        // FIN-WAIT-2 for every other one.
        if round % 2 == 0 {
            let ack = packets::tcp((CLIENT, port), PORT, Flags::ACK, (1001, seq + 1));
            answers.extend(server.exchange(&[ack]));
        }
        let reset: Vec<u16> = answers
            .iter()
            .filter(|frame| is_reset(frame))
            .map(|frame| packets::tcp_dst_port(frame))
            .collect();
        let oldest = if round < 4 { vec![] } else { vec![port - 4] };
        assert_eq!(reset, oldest);
    }
    let counters = server.counters();
    assert_eq!((counters.connections, counters.orphans_cut), (4, 36));
}

/// A connection that is over with its `close` counts for nothing there: nobody makes room for it.
#[test]
fn what_is_over_when_it_is_closed_cuts_nobody() {
    let mut server = Server::of(64, |builder| builder.max_orphans(2));
    for port in [2000, 2001] {
        server.connect_and_be_closed(port);
        server.exchange(&[]);
    }
    let mut at_once = TcpOptions::default();
    at_once.linger = Some(Duration::ZERO);
    server.connect(2002).unwrap();
    let Some(Event::Accepted { conn: reset, .. }) = server.events.first().copied() else {
        panic!("not accepted")
    };
    server.events.clear();
    let worker = server.wire.worker.as_mut().unwrap();
    worker.set_options(reset, &at_once).unwrap();
    worker.close(reset);
    let opening = worker.connect((CLIENT, 9).into(), &TcpOptions::default()).unwrap();
    worker.close(opening);
    server.exchange(&[]);
    let counters = server.counters();
    assert_eq!((counters.connections, counters.orphans_cut), (2, 0));
    // The next one that lives on is one too many.
    server.connect_and_be_closed(2003);
    assert_eq!(server.counters().orphans_cut, 1);
}

/// Those in TIME-WAIT too: the oldest makes room, and its tuple is free again.
#[test]
fn what_is_remembered_is_limited() {
    let mut server = Server::of(64, |builder| builder.max_time_waits(4));
    for round in 0..20 {
        let port = 2000 + round;
        let seq = server.connect_and_be_closed(port);
        server.exchange(&[]);
        server.exchange(&[packets::tcp((CLIENT, port), PORT, Flags::FIN | Flags::ACK, (1001, seq + 1))]);
    }
    let counters = server.counters();
    assert_eq!((counters.connections, counters.time_waits, counters.time_waits_cut), (4, 4, 16));
    // A segment of one that was forgotten meets nobody, of one that is remembered an answer.
    let fin = |port| packets::tcp((CLIENT, port), PORT, Flags::FIN | Flags::ACK, (1001, 7));
    assert_eq!(flags(&server.exchange(&[fin(2015)])[0]), Some(Flags::RST));
    assert_eq!(flags(&server.exchange(&[fin(2016)])[0]), Some(Flags::ACK));
}

/// Peers that acknowledge nothing any more keep every send frame; after a while they are reset, and nobody else is.
#[test]
fn frames_are_taken_from_those_who_take_nothing() {
    const GREEDY: u16 = 6;
    let mut server = Server::of(64, |builder| builder.frames_per_worker(256));
    for port in 0..GREEDY {
        server.connect(2000 + port).unwrap();
        let Some(Event::Accepted { conn, .. }) = server.events.first().copied() else {
            panic!("not accepted")
        };
        server.events.clear();
        let worker = server.wire.worker.as_mut().unwrap();
        while worker.send(conn, &[7; 4096]).unwrap() > 0 {}
        server.exchange(&[]);
    }
    let seq = server.connect(3000).unwrap();
    let Some(Event::Accepted { conn: honest, .. }) = server.events.first().copied() else {
        panic!("not accepted")
    };
    server.events.clear();
    assert_eq!(server.wire.worker.as_mut().unwrap().send(honest, b"text").unwrap(), 4);
    server.exchange(&[]);
    server.exchange(&[packets::tcp((CLIENT, 3000), PORT, Flags::ACK, (1001, seq + 4))]);
    server.hand.advance(Duration::from_secs(29));
    server.exchange(&[]);
    assert_eq!(server.counters().stalled_cut, 0);
    server.hand.advance(Duration::from_secs(2));
    assert!(server.wire.worker.as_mut().unwrap().tx_buf().is_none(), "somebody needs one");
    for _ in 0..8 {
        server.exchange(&[]);
    }
    let stalled = server.counters().stalled_cut;
    assert!((1..=u64::from(GREEDY)).contains(&stalled), "{stalled} of {GREEDY}");
    let is_closed = |event: &&Event| matches!(event, Event::Closed { reason: CloseReason::TimedOut, .. });
    assert_eq!(server.events.iter().filter(is_closed).count() as u64, stalled);
    // The one that takes what it is sent goes on.
    assert_eq!(server.counters().connections, u64::from(GREEDY) - stalled + 1);
    let worker = server.wire.worker.as_mut().unwrap();
    assert_eq!(worker.send(honest, b"more").unwrap(), 4);
    assert!(server.exchange(&[]).iter().any(|frame| frame.ends_with(b"more")));
}

/// The ACKs that finish these handshakes.
fn last_steps(answers: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let is_wanted = |frame: &&Vec<u8>| is_syn_ack(frame);
    let to_ack = |frame: &Vec<u8>| {
        let seq = packets::tcp_seq(frame).wrapping_add(1);
        packets::tcp((CLIENT, packets::tcp_dst_port(frame)), PORT, Flags::ACK, (1001, seq))
    };
    answers.iter().filter(is_wanted).map(to_ack).collect()
}

/// More ends at once than the ring has places: each peer hears of its own, whoever still holds the connection.
#[test]
fn every_connection_that_times_out_is_reset() {
    const CONNECTIONS: u16 = 600;
    let mut server = Server::new(2 * u32::from(CONNECTIONS));
    let (time, interval) = (Duration::from_secs(1), Duration::from_secs(1));
    let mut options = TcpOptions::default();
    options.keepalive = Some(KeepAlive { time, interval, retries: 1 });
    let mut conns = Vec::new();
    for port in 0..CONNECTIONS {
        server.connect(10_000 + port).unwrap();
        server.exchange(&[]);
        conns.extend(server.events.drain(..).filter_map(|event| match event {
            Event::Accepted { conn, .. } => Some(conn),
            _ => None,
        }));
    }
    assert_eq!(conns.len(), usize::from(CONNECTIONS));
    let worker = server.wire.worker.as_mut().unwrap();
    for conn in conns {
        worker.set_options(conn, &options).unwrap();
    }
    let mut resets = 0;
    for _ in 0..40 {
        server.hand.advance(Duration::from_millis(500));
        for _ in 0..4 {
            resets += server.exchange(&[packets::arp_reply()]).iter().filter(|frame| is_reset(frame)).count();
        }
    }
    let ends = server.events.iter().filter(|event| matches!(event, Event::Closed { .. })).count();
    assert_eq!((ends, resets), (usize::from(CONNECTIONS), usize::from(CONNECTIONS)));
    assert_eq!(server.counters().connections, 0);
}
