//! One run: connect, move a stream each way, close, and account for every byte and every frame.

use std::net::SocketAddr;
use std::time::Duration;

use ringwire::clock::{Clock, ManualClock};
use ringwire::frame::FrameState;
use ringwire::{CloseReason, Conn, Engine, Event, Events, Interface, Recv, TcpOptions, Worker};

use crate::link::{Impairment, LinkCounters, Relay};
use crate::rng::Rng;

/// What one run does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything random in the run comes from it.
    pub seed: u64,
    /// The link.
    pub impairment: Impairment,
    /// Bytes from the client to the server.
    pub upload_bytes: usize,
    /// Bytes from the server to the client.
    pub download_bytes: usize,
    /// Frames of each engine's pool.
    pub frames: u32,
    /// Virtual time after which the run has failed.
    pub limit: Duration,
}

impl Plan {
    /// A plan drawn from a seed: sizes from nothing to a few hundred kilobytes, links from clean to wretched.
    pub fn from_seed(seed: u64) -> Plan {
        let mut rng = Rng::new(seed);
        let sizes = [0, 1, 500, 1460, 20_000, 150_000];
        let size = |rng: &mut Rng| {
            let largest = sizes.get(usize::try_from(rng.below(6)).unwrap_or(0)).copied().unwrap_or(0);
            usize::try_from(rng.below(largest + 1)).unwrap_or(0)
        };
        let percent = |rng: &mut Rng, most: u64| rng.below(most + 1) as f64 / 100.0;
        Plan {
            seed,
            upload_bytes: size(&mut rng),
            download_bytes: size(&mut rng),
            impairment: Impairment {
                delay: Duration::from_micros(10 + rng.below(20_000)),
                jitter: Duration::from_micros(rng.below(3_000)),
                loss: percent(&mut rng, 8),
                duplicate: percent(&mut rng, 5),
                corrupt: percent(&mut rng, 4),
            },
            frames: if rng.chance(0.2) { 64 } else { 512 },
            limit: Duration::from_secs(600),
        }
    }
}

/// What one run showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Virtual time until both streams had arrived.
    pub took: Duration,
    /// What the link did.
    pub link: LinkCounters,
    /// Segments and datagrams that the two engines delivered.
    pub delivered: u64,
}

/// What one end sends and what it must receive.
struct Streams {
    outgoing: Vec<u8>,
    expected: Vec<u8>,
}

/// One end of the run.
struct Side {
    worker: Worker,
    events: Events,
    conn: Option<Conn>,
    /// What it sends.
    outgoing: Vec<u8>,
    sent: usize,
    /// What it expects.
    expected: Vec<u8>,
    received: Vec<u8>,
    saw_eof: bool,
    is_finished: bool,
    is_client: bool,
}

const SERVER: &str = "10.9.0.1:7000";

/// Runs a plan to its end.
///
/// # Errors
/// What was wrong, in a sentence that names the seed.
pub fn run(plan: &Plan) -> Result<Report, String> {
    let (clock, hand) = Clock::manual();
    let mut relay = Relay::new(plan.impairment, plan.seed ^ 0x5eed);
    let server_addr: SocketAddr = SERVER.parse().map_err(|error| format!("{error}"))?;
    let upload = pattern(plan.seed, plan.upload_bytes);
    let download = pattern(!plan.seed, plan.download_bytes);
    let theirs = Streams { outgoing: download.clone(), expected: upload.clone() };
    let mut server = Side::new(plan, &clock, &mut relay, "10.9.0.1/24", theirs)?;
    let ours = Streams { outgoing: upload, expected: download };
    let mut client = Side::new(plan, &clock, &mut relay, "10.9.0.2/24", ours)?;
    let options = TcpOptions::default();
    server.worker.listen(server_addr, &options).map_err(|error| format!("listen: {error}"))?;
    client.is_client = true;
    client.connect()?;
    let mut pace = Pace::new(&hand);
    let limit_ns = u64::try_from(plan.limit.as_nanos()).unwrap_or(u64::MAX);
    while !(client.is_finished && server.is_finished) {
        if hand.now_ns() > limit_ns {
            return Err(format!("seed {}: not finished: {} {}", plan.seed, client.state(), server.state()));
        }
        let mut moved = relay.step(hand.now_ns());
        moved |= server.step().map_err(|error| format!("seed {}: server: {error}", plan.seed))?;
        moved |= client.step().map_err(|error| format!("seed {}: client: {error}", plan.seed))?;
        pace.advance(moved, relay.next_due_ns());
    }
    let took = Duration::from_nanos(hand.now_ns());
    settle(&mut relay, &mut server, &mut client, &hand);
    for (name, side) in [("server", &server), ("client", &client)] {
        side.check_accounts().map_err(|error| format!("seed {}: {name}: {error}", plan.seed))?;
    }
    let delivered = [&server, &client].iter().map(|side| side.delivered()).sum();
    Ok(Report { took, link: relay.counters(), delivered })
}

/// Lets every retransmission, FIN and TIME-WAIT run out on a clean link.
fn settle(relay: &mut Relay, server: &mut Side, client: &mut Side, hand: &ManualClock) {
    let clean = Impairment {
        loss: 0.0,
        duplicate: 0.0,
        corrupt: 0.0,
        jitter: Duration::ZERO,
        delay: Duration::from_micros(10),
    };
    relay.set_impairment(clean);
    for _ in 0..4_000 {
        relay.step(hand.now_ns());
        // Errors of closed ids no longer matter here; the accounts are checked afterwards.
        let _ = server.step();
        let _ = client.step();
        hand.advance(Duration::from_millis(100));
    }
}

impl Side {
    fn new(
        plan: &Plan,
        clock: &Clock,
        relay: &mut Relay,
        address: &str,
        streams: Streams,
    ) -> Result<Side, String> {
        let cidr = address.parse().map_err(|error| format!("{error}"))?;
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&plan.seed.to_le_bytes());
        secret[8..].copy_from_slice(&(address.len() as u64 + u64::from(address.as_bytes()[7])).to_le_bytes());
        let engine = Engine::builder()
            .interface(Interface::new("sim").address(cidr))
            .clock(clock.clone())
            .secret(secret)
            .frames_per_worker(plan.frames)
            .max_connections(64)
            .start_on(|pool| relay.attach(pool))
            .map_err(|error| error.to_string())?;
        let worker = engine.into_workers().pop().ok_or("no worker")?.start();
        Ok(Side {
            worker,
            events: Events::with_capacity(64),
            conn: None,
            outgoing: streams.outgoing,
            sent: 0,
            expected: streams.expected,
            received: Vec::new(),
            saw_eof: false,
            is_finished: false,
            is_client: false,
        })
    }

    /// One turn; true if anything happened.
    fn step(&mut self) -> Result<bool, String> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(8));
        self.worker.poll(&mut events, Some(Duration::ZERO)).map_err(|error| error.to_string())?;
        let any = !events.is_empty();
        for event in events.drain() {
            match event {
                Event::Accepted { conn, .. } => {
                    self.conn = Some(conn);
                    self.write()?;
                }
                Event::Connected(_) | Event::Writable(_) => self.write()?,
                Event::Readable(_) => self.read()?,
                // Three lost ARP requests in a row: the application is told, and tries again.
                Event::Closed { reason: CloseReason::Unreachable, .. } if self.is_client => self.connect()?,
                Event::Closed { reason, .. } if !self.is_finished => return Err(format!("closed: {reason}")),
                _ => {}
            }
        }
        self.events = events;
        Ok(any)
    }

    fn connect(&mut self) -> Result<(), String> {
        let server_addr: SocketAddr = SERVER.parse().map_err(|error| format!("{error}"))?;
        let conn = self.worker.connect(server_addr, &TcpOptions::default());
        self.conn = Some(conn.map_err(|error| format!("connect: {error}"))?);
        Ok(())
    }

    fn write(&mut self) -> Result<(), String> {
        let Some(conn) = self.conn.filter(|_| !self.is_finished) else { return Ok(()) };
        while self.sent < self.outgoing.len() {
            let rest = self.outgoing.get(self.sent..).unwrap_or_default();
            let sent = self.worker.send(conn, rest).map_err(|error| format!("send: {error}"))?;
            if sent == 0 {
                return Ok(());
            }
            self.sent += sent;
        }
        let finished = self.worker.shutdown(conn, std::net::Shutdown::Write);
        finished.map_err(|error| format!("shutdown: {error}"))?;
        self.finish();
        Ok(())
    }

    fn read(&mut self) -> Result<(), String> {
        let Some(conn) = self.conn.filter(|_| !self.is_finished) else { return Ok(()) };
        loop {
            match self.worker.recv(conn).map_err(|error| format!("recv: {error}"))? {
                Recv::Data(piece) => self.received.extend_from_slice(&piece),
                Recv::Empty => break,
                Recv::Eof => {
                    self.saw_eof = true;
                    break;
                }
            }
        }
        if !self.expected.starts_with(&self.received) {
            return Err(format!("byte {} of the stream is wrong", self.received.len()));
        }
        self.finish();
        Ok(())
    }

    /// Done when all was written and the peer's stream has ended.
    fn finish(&mut self) {
        let is_done = self.sent == self.outgoing.len() && self.saw_eof;
        if let (true, false, Some(conn)) = (is_done, self.is_finished, self.conn) {
            self.worker.close(conn);
            self.is_finished = true;
        }
    }

    fn check_accounts(&self) -> Result<(), String> {
        if self.received != self.expected {
            return Err(format!("{} bytes arrived of {}", self.received.len(), self.expected.len()));
        }
        let counts = self.worker.frame_counts();
        let home = counts.of(FrameState::Free) + counts.of(FrameState::Fill);
        if !counts.check() || home != counts.total() {
            return Err(format!("frames are missing: {counts:?}"));
        }
        if self.worker.counters().connections != 0 {
            return Err(format!("{} connections are left", self.worker.counters().connections));
        }
        Ok(())
    }

    fn delivered(&self) -> u64 {
        self.worker.counters().delivered
    }

    fn state(&mut self) -> String {
        let machine = self.conn.map(|conn| self.worker.tcp_info(conn));
        format!(
            "sent {}/{} received {}/{} eof {} {machine:?} {:?};",
            self.sent,
            self.outgoing.len(),
            self.received.len(),
            self.expected.len(),
            self.saw_eof,
            self.worker.counters()
        )
    }
}

/// How virtual time moves on: to the next packet while packets move, in growing steps while only timers are left.
struct Pace<'a> {
    hand: &'a ManualClock,
    quiet_turns: u32,
}

impl<'a> Pace<'a> {
    fn new(hand: &'a ManualClock) -> Pace<'a> {
        Pace { hand, quiet_turns: 0 }
    }

    fn advance(&mut self, moved: bool, next_due_ns: Option<u64>) {
        const STEP_NS: u64 = 20_000;
        const LONGEST_STEP_NS: u64 = 5_000_000;
        self.quiet_turns = if moved { 0 } else { self.quiet_turns + 1 };
        let mut step_ns = STEP_NS << self.quiet_turns.min(8);
        if let Some(due_ns) = next_due_ns {
            step_ns = step_ns.min(due_ns.saturating_sub(self.hand.now_ns()).max(STEP_NS));
        }
        self.hand.advance(Duration::from_nanos(step_ns.min(LONGEST_STEP_NS)));
    }
}

/// Bytes that depend on the seed and on their place, so that a lost, doubled or moved byte shows.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
