//! What a steady state allocates: nothing, whatever the path loses (conventions, 16).
//!
//! Two engines in one thread and in virtual time; the frames go from one to the other through the test's hands. Counted is what the
//! engines' own calls allocate, not what the test does between them.

use std::time::Duration;

use ringwire::clock::{Clock, ManualClock};
use ringwire::frame::FarEnd;
use ringwire::{Conn, Engine, Event, Events, Interface, Recv, TcpOptions, Worker};

/// Segments to get into the steady state, and those that are counted in it.
const WARM_UP_SEGS: u64 = 30_000;
const COUNTED_SEGS: u64 = 10_000;

/// Frames longer than this carry text.
const HEADERS_BYTES: usize = 14 + 20 + 60;

/// One engine, and the other end of its wire.
struct Side {
    worker: Worker,
    events: Events,
    far: FarEnd,
    conn: Option<Conn>,
    /// Allocations of its calls.
    allocations: u64,
}

impl Side {
    fn new(address: &str, clock: &Clock) -> Side {
        let interface = Interface::new("memory").address(address.parse().unwrap());
        let mut far = FarEnd::new(256, 2048);
        let builder = Engine::builder().interface(interface).clock(clock.clone()).frames_per_worker(8192);
        let engine = builder.start_on(|pool| far.attach(pool)).unwrap();
        let worker = engine.into_workers().remove(0).start();
        Side { worker, events: Events::with_capacity(64), far, conn: None, allocations: 0 }
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Worker, &mut Events) -> T) -> T {
        let mut result = None;
        let Side { worker, events, .. } = self;
        let info = allocation_counter::measure(|| result = Some(call(worker, events)));
        self.allocations += info.count_total;
        result.expect("it was called")
    }

    fn turn(&mut self) {
        self.call(|worker, events| worker.poll(events, Some(Duration::ZERO)).unwrap());
        for event in self.events.drain() {
            if let Event::Accepted { conn, .. } | Event::Connected(conn) = event {
                self.conn = Some(conn);
            }
        }
    }

    /// Reads all there is; how many bytes.
    fn read(&mut self) -> usize {
        let Some(conn) = self.conn else { return 0 };
        self.call(|worker, _| {
            let mut bytes = 0;
            while let Ok(Recv::Data(piece)) = worker.recv(conn) {
                bytes += piece.len();
            }
            bytes
        })
    }

    /// Writes as much of it as is taken; how many bytes.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let Some(conn) = self.conn else { return 0 };
        self.call(|worker, _| worker.send(conn, bytes).unwrap())
    }
}

/// A connection between two engines.
struct Link {
    client: Side,
    server: Side,
    hand: ManualClock,
    /// Segments with text that have been on the wire.
    segs: u64,
    /// One in so many of them is lost.
    lost_of: Option<u64>,
}

impl Link {
    fn new(lost_of: Option<u64>) -> Link {
        let (clock, hand) = Clock::manual();
        hand.advance(Duration::from_secs(1));
        let (mut client, mut server) = (Side::new("10.0.0.2/24", &clock), Side::new("10.0.0.1/24", &clock));
        server.worker.listen("10.0.0.1:7".parse().unwrap(), &TcpOptions::default()).unwrap();
        client.worker.connect("10.0.0.1:7".parse().unwrap(), &TcpOptions::default()).unwrap();
        let mut link = Link { client, server, hand, segs: 0, lost_of: None };
        while link.client.conn.is_none() || link.server.conn.is_none() {
            link.round();
        }
        link.lost_of = lost_of;
        link
    }

    /// Half a millisecond, and everything that was on the wire arrives.
    fn round(&mut self) {
        self.hand.advance(Duration::from_micros(500));
        self.client.turn();
        self.server.turn();
        self.carry(true);
        self.carry(false);
    }

    fn carry(&mut self, is_to_server: bool) {
        let Link { client, server, segs, lost_of, .. } = self;
        let (from, to) = if is_to_server { (client, server) } else { (server, client) };
        let mut frames = Vec::new();
        from.far.take(|frame| frames.push(frame.to_vec()));
        for frame in frames {
            *segs += u64::from(frame.len() > HEADERS_BYTES);
            let is_lost = frame.len() > HEADERS_BYTES && lost_of.is_some_and(|of| *segs % of == 0);
            if !is_lost {
                to.far.put(&frame).unwrap();
            }
        }
    }

    /// Plays `step` until the connection is warm, then for the segments that count; what the engines have allocated for those.
    fn allocations(&mut self, mut step: impl FnMut(&mut Link)) -> (u64, u64) {
        while self.segs < WARM_UP_SEGS {
            step(self);
        }
        (self.client.allocations, self.server.allocations) = (0, 0);
        while self.segs < WARM_UP_SEGS + COUNTED_SEGS {
            step(self);
        }
        (self.client.allocations, self.server.allocations)
    }
}

/// The client writes what is taken, the server reads what there is.
fn bulk(link: &mut Link) {
    link.client.write(&[7; 64 << 10]);
    link.round();
    link.server.read();
}

#[test]
fn bulk_allocates_nothing() {
    let mut link = Link::new(None);
    assert_eq!(link.allocations(bulk), (0, 0));
}

#[test]
fn losses_and_their_repair_allocate_nothing() {
    let mut link = Link::new(Some(173));
    assert_eq!(link.allocations(bulk), (0, 0));
    let info = link.client.worker.tcp_info(link.client.conn.unwrap()).unwrap();
    assert!(info.sack && u64::from(info.retransmits) >= COUNTED_SEGS / 173, "{info:?}");
}

#[test]
fn round_trips_allocate_nothing() {
    let mut link = Link::new(None);
    let mut bytes = 0;
    let allocations = link.allocations(|link| {
        link.client.write(&[1; 64]);
        link.round();
        if link.server.read() > 0 {
            link.server.write(&[2; 64]);
        }
        link.round();
        bytes += link.client.read();
    });
    assert_eq!(allocations, (0, 0));
    assert!(bytes as u64 >= COUNTED_SEGS / 2 * 64, "{bytes} came back");
}

#[test]
fn the_counter_counts() {
    let (clock, _hand) = Clock::manual();
    let mut side = Side::new("10.0.0.1/24", &clock);
    side.call(|_, _| std::hint::black_box(Vec::<u8>::with_capacity(100)));
    assert_eq!(side.allocations, 1);
}
