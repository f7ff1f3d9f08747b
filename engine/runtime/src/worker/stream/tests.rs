//! Both ends of a wire, with little memory, driven at random: after every turn and call the books say what is held, and in the end
//! nothing is.

use core::cell::Cell;
use core::time::Duration;

use ringwire_frame::FrameState;
use ringwire_proto::tcp::Held;

use super::*;
use crate::buffer::TxBuf;
use crate::clock::{Clock, ManualClock};
use crate::event::Recv;
use crate::{Engine, EngineBuilder, Interface, TcpOptions, Worker};

const FRAMES: u32 = 128;
const HEAP_BYTES: u64 = 1 << 20;
const FRAME_BYTES: u64 = 2048;
const SERVER: &str = "10.0.0.1:7";

/// SplitMix64
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as usize % bound
    }
}

/// One end and what its application holds.
struct End {
    worker: Worker,
    conns: Vec<Conn>,
    read: Vec<(Conn, RxBuf)>,
    refused: Vec<(Conn, TxBuf)>,
}

impl End {
    fn new(engine: Engine) -> End {
        let worker = engine.into_workers().remove(0).start();
        End { worker, conns: Vec::new(), read: Vec::new(), refused: Vec::new() }
    }

    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        self.worker.poll(&mut events, Some(Duration::ZERO)).unwrap();
        for event in events.drain() {
            match event {
                Event::Accepted { conn, .. } | Event::Connected(conn) => self.conns.push(conn),
                Event::Closed { conn, .. } => self.conns.retain(|other| *other != conn),
                _ => {}
            }
        }
        self.audit();
    }

    /// What is booked against what the pieces that sockets hold stand for.
    fn audit(&mut self) {
        let core = self.worker.core_mut();
        let (streams, io) = (&mut core.streams, &mut core.io);
        let held = Cell::new(0);
        for slot in 0..streams.flows.slots() {
            with_machine!(streams, io, slot, |flow, cx| flow.tcb.holds(&cx, |piece| {
                held.set(
                    held.get()
                        + match piece {
                            Held::Received(piece) => piece.heap_bytes(),
                            Held::ToSend(piece) => piece.heap_bytes(),
                        },
                );
                false
            }));
        }
        assert_eq!(io.heap.used_bytes(), held.get());
        assert!(held.get() <= HEAP_BYTES);
        assert!(io.link.pool.counts().check());
    }

    fn any(&self, rng: &mut Rng) -> Option<Conn> {
        let index = rng.below(self.conns.len().max(1));
        self.conns.get(index).copied()
    }

    /// The application does something with a connection.
    fn act(&mut self, rng: &mut Rng) {
        let Some(conn) = self.any(rng) else { return };
        match rng.below(60) {
            0..=30 => {
                let most = 1 << rng.below(19);
                let len = 1 + rng.below(most);
                let _ = self.worker.send(conn, &vec![7; len]);
            }
            31..=38 => self.read(conn, rng),
            39..=42 => {
                for _ in 0..rng.below(self.read.len() + 1) {
                    let (conn, piece) = self.read.swap_remove(rng.below(self.read.len()));
                    self.give(conn, piece.into_tx());
                }
            }
            43 | 44 => self.read.truncate(self.read.len() / 2),
            45..=47 => {
                if let Some((conn, buf)) = self.refused.pop() {
                    self.give(conn, buf);
                }
            }
            // In a frame, or on the heap with room that is not written to.
            48..=53 => {
                let len = if rng.below(2) == 0 { 100 } else { 9000 };
                if let Some(mut buf) = self.worker.tx_buf_for(len) {
                    buf.put(&vec![7; 1 + rng.below(len)]);
                    self.give(conn, buf);
                }
            }
            54 | 55 => {
                let user_timeout = Some(Duration::from_millis(10_000 + rng.below(4) as u64));
                let options =
                    TcpOptions { nodelay: rng.below(2) == 0, user_timeout, ..TcpOptions::default() };
                self.worker.set_options(conn, &options).unwrap();
            }
            56 => drop(self.worker.shutdown(conn, std::net::Shutdown::Write)),
            57 | 58 => self.close(conn),
            _ => {
                self.worker.abort(conn);
                self.conns.retain(|other| *other != conn);
            }
        }
        self.audit();
    }

    /// As much as is taken.
    fn write_to_all(&mut self) {
        for conn in self.conns.clone() {
            while self.worker.send(conn, &[7; 1 << 16]).is_ok_and(|len| len > 0) {}
        }
        self.audit();
    }

    fn read(&mut self, conn: Conn, rng: &mut Rng) {
        for _ in 0..rng.below(64) {
            let Ok(Recv::Data(piece)) = self.worker.recv(conn) else { return };
            if rng.below(3) == 0 {
                self.read.push((conn, piece));
            }
        }
    }

    fn give(&mut self, conn: Conn, buf: TxBuf) {
        if let Err(unsent) = self.worker.send_buf(conn, buf)
            && unsent.error.is_none()
            && self.refused.len() < 16
        {
            self.refused.push((conn, unsent.buf));
        }
    }

    fn close(&mut self, conn: Conn) {
        self.worker.close(conn);
        self.conns.retain(|other| *other != conn);
    }

    /// The application gives back what it holds.
    fn end(&mut self) {
        while let Some(conn) = self.conns.pop() {
            self.worker.close(conn);
        }
        (self.read, self.refused) = (Vec::new(), Vec::new());
    }

    fn is_empty(&mut self) -> bool {
        let core = self.worker.core_mut();
        let counts = core.io.link.pool.counts();
        let at_rest = counts.of(FrameState::Free) + counts.of(FrameState::Fill);
        core.streams.flows.len() == 0 && core.io.heap.used_bytes() == 0 && at_rest == counts.total()
    }
}

fn pair() -> (End, End, ManualClock) {
    let (clock, hand) = Clock::manual();
    let side = |address: &str, key: u8| -> EngineBuilder {
        Engine::builder()
            .interface(Interface::new("memory").address(address.parse().unwrap()))
            .clock(clock.clone())
            .secret([key; 16])
            .frames_per_worker(FRAMES)
            .max_orphans(3)
            .memory_ceiling_bytes(u64::from(FRAMES) * FRAME_BYTES + HEAP_BYTES)
    };
    let (server, client) = Engine::memory_pair(side("10.0.0.1/24", 1), side("10.0.0.2/24", 2)).unwrap();
    (End::new(server), End::new(client), hand)
}

/// What has been reached, of what is to be reached by some seed.
#[derive(Debug, Default)]
struct Reached {
    refused: u64,
    stalled: u64,
    orphans: u64,
    early: u64,
    copied: u64,
}

impl Reached {
    fn add(&mut self, worker: &Worker) {
        let counters = worker.counters();
        self.refused += counters.writes_refused;
        self.stalled += counters.stalled_cut;
        self.orphans += counters.orphans_cut;
        self.early += counters.early_shed;
        self.copied += counters.copied_bytes;
    }
}

fn run(seed: u64, reached: &mut Reached) {
    let (mut server, mut client, hand) = pair();
    let mut rng = Rng(seed);
    server.worker.listen(SERVER.parse().unwrap(), &TcpOptions::default()).unwrap();
    for _ in 0..1500 {
        match rng.below(24) {
            0 if client.conns.len() < 16 => {
                let _ = client.worker.connect(SERVER.parse().unwrap(), &TcpOptions::default());
            }
            0..=5 => server.act(&mut rng),
            6..=9 => client.act(&mut rng),
            10..=14 => server.turn(),
            15..=19 => client.turn(),
            // One end is away: for a moment, or for longer than anybody waits.
            20 => {
                let long = rng.below(24) == 0;
                for _ in 0..if long { 40 } else { 4 } {
                    hand.advance(Duration::from_secs(1));
                    server.turn();
                    (0..8).for_each(|_| server.act(&mut rng));
                }
            }
            21 if rng.below(4) == 0 => {
                server.write_to_all();
                client.write_to_all();
            }
            _ => hand.advance(Duration::from_micros(1 << rng.below(20))),
        }
    }
    reached.add(&server.worker);
    reached.add(&client.worker);
    for _ in 0..4000 {
        for end in [&mut server, &mut client] {
            end.turn();
            end.end();
        }
        hand.advance(Duration::from_millis(250));
        if server.is_empty() && client.is_empty() {
            break;
        }
    }
    for (end, sets) in [(&mut server, 1), (&mut client, 0)] {
        assert!(end.is_empty(), "{:?}", end.worker.frame_counts());
        assert_eq!(end.worker.core_mut().streams.options.in_use(), sets);
    }
}

#[test]
fn the_books_say_what_is_held() {
    let mut reached = Reached::default();
    for seed in 0..24 {
        println!("seed {seed}");
        run(seed, &mut reached);
    }
    let Reached { refused, stalled, orphans, early, copied } = reached;
    assert!([refused, stalled, orphans, early, copied].iter().all(|count| *count > 0), "{reached:?}");
}
