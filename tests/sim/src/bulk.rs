//! Flows that always have something to send, from one engine to another through a bottleneck: how congestion control is judged.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use ringwire::clock::Clock;
use ringwire::{Conn, Engine, Event, Events, Interface, Recv, TcpInfo, TcpOptions, Worker};

use crate::bottleneck::{Bottleneck, BottleneckCounters};
use crate::line::Impairment;
use crate::link::Relay;

/// One flow.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The sender's options; the receiver uses those of the first flow.
    pub options: TcpOptions,
    /// When it begins.
    pub start: Duration,
    /// When its application falls silent; never, if not before the end.
    pub pause: Duration,
}

impl Flow {
    /// A flow with these options from `start` to the end.
    pub fn new(options: TcpOptions, start: Duration) -> Flow {
        Flow { options, start, pause: Duration::MAX }
    }
}

/// What one run does.
#[derive(Debug, Clone)]
pub struct Bulk {
    /// Everything random comes from it.
    pub seed: u64,
    /// The link, both ways.
    pub impairment: Impairment,
    /// On the way of the data; the receiver is end 0.
    pub bottleneck: Bottleneck,
    /// Who sends.
    pub flows: Vec<Flow>,
    /// What is delivered before this does not count.
    pub from: Duration,
    /// The end.
    pub until: Duration,
}

/// What one flow did.
#[derive(Debug, Clone)]
pub struct FlowReport {
    /// Bytes that the receiving application got in the time that counts.
    pub bytes: u64,
    /// The sender's view at the end.
    pub info: TcpInfo,
}

/// What a run showed.
#[derive(Debug, Clone)]
pub struct BulkReport {
    /// One for each flow.
    pub flows: Vec<FlowReport>,
    /// What the bottleneck did in the time that counts.
    pub link: BottleneckCounters,
    /// The time that counted.
    pub took: Duration,
    /// Turns of the sending worker.
    pub turns: u64,
}

impl BulkReport {
    /// Bits per second of payload that a flow delivered.
    pub fn goodput(&self, flow: usize) -> f64 {
        self.flows[flow].bytes as f64 * 8.0 / self.took.as_secs_f64()
    }
}

/// A flow as the sender sees it.
struct Sending {
    plan: Flow,
    conn: Option<Conn>,
    is_open: bool,
    is_paused: bool,
}

struct Receiver {
    worker: Worker,
    events: Events,
    /// By the sender's port.
    bytes: HashMap<u16, u64>,
}

struct Sender {
    worker: Worker,
    events: Events,
    flows: Vec<Sending>,
}

const SERVER: &str = "10.9.0.1:7000";
const FRAMES: u32 = 16_384;
/// A tick of the worker's wheel: time never jumps over a deadline by more.
const LONGEST_STEP_NS: u64 = 131_072;

/// Runs it.
///
/// # Errors
/// What was wrong.
pub fn run(plan: &Bulk) -> Result<BulkReport, String> {
    let (clock, hand) = Clock::manual();
    let mut relay = Relay::new(plan.impairment, plan.seed);
    relay.set_bottleneck(plan.bottleneck, !plan.seed);
    let mut receiver = Receiver {
        worker: worker(plan.seed, &clock, &mut relay, "10.9.0.1/24")?,
        events: Events::with_capacity(64),
        bytes: HashMap::new(),
    };
    let mut sender = Sender {
        worker: worker(!plan.seed, &clock, &mut relay, "10.9.0.2/24")?,
        events: Events::with_capacity(64),
        flows: plan.flows.iter().cloned().map(Sending::new).collect(),
    };
    let options = plan.flows.first().map(|flow| flow.options.clone()).unwrap_or_default();
    receiver.worker.listen(address()?, &options).map_err(|error| format!("listen: {error}"))?;
    let (from_ns, until_ns) = (nanos(plan.from), nanos(plan.until));
    let mut before = None;
    let mut turns = 0;
    while hand.now_ns() < until_ns {
        let now_ns = hand.now_ns();
        if before.is_none() && now_ns >= from_ns {
            before = Some(receiver.bytes.clone());
            relay.bottleneck_mut().ok_or("no bottleneck")?.take_counters();
        }
        relay.step(now_ns);
        sender.step(Duration::from_nanos(now_ns))?;
        receiver.step()?;
        turns += 1;
        let due_ns = relay.next_due_ns().map_or(u64::MAX, |due_ns| due_ns.saturating_sub(now_ns));
        hand.advance(Duration::from_nanos(due_ns.clamp(1_000, LONGEST_STEP_NS)));
    }
    let flows = sender.report(&receiver.bytes, &before.unwrap_or_default())?;
    let link = relay.bottleneck_mut().ok_or("no bottleneck")?.take_counters();
    Ok(BulkReport { flows, link, took: plan.until - plan.from, turns })
}

fn address() -> Result<SocketAddr, String> {
    SERVER.parse().map_err(|error| format!("{error}"))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn worker(seed: u64, clock: &Clock, relay: &mut Relay, address: &str) -> Result<Worker, String> {
    let cidr = address.parse().map_err(|error| format!("{error}"))?;
    let mut secret = [0; 16];
    secret[..8].copy_from_slice(&seed.to_le_bytes());
    let engine = Engine::builder()
        .interface(Interface::new("sim").address(cidr))
        .clock(clock.clone())
        .secret(secret)
        .frames_per_worker(FRAMES)
        .max_connections(64)
        .start_on(|pool| relay.attach(pool))
        .map_err(|error| error.to_string())?;
    Ok(engine.into_workers().pop().ok_or("no worker")?.start())
}

impl Sending {
    fn new(plan: Flow) -> Sending {
        Sending { plan, conn: None, is_open: false, is_paused: false }
    }
}

impl Sender {
    fn step(&mut self, now: Duration) -> Result<(), String> {
        for flow in &mut self.flows {
            if flow.conn.is_none() && now >= flow.plan.start {
                let conn = self.worker.connect(address()?, &flow.plan.options);
                flow.conn = Some(conn.map_err(|error| format!("connect: {error}"))?);
            }
            flow.is_paused = now >= flow.plan.pause;
        }
        self.worker.poll(&mut self.events, Some(Duration::ZERO)).map_err(|error| error.to_string())?;
        for event in self.events.drain() {
            let (Event::Connected(conn) | Event::Writable(conn)) = event else {
                if let Event::Closed { reason, .. } = event {
                    return Err(format!("a flow ended: {reason}"));
                }
                continue;
            };
            if let Some(flow) = self.flows.iter_mut().find(|flow| flow.conn == Some(conn)) {
                flow.is_open = true;
            }
        }
        for flow in self.flows.iter().filter(|flow| flow.is_open && !flow.is_paused) {
            let Some(conn) = flow.conn else { continue };
            while self.worker.send(conn, &[0x5a; 64 << 10]).map_err(|error| format!("send: {error}"))? > 0 {}
        }
        Ok(())
    }

    fn report(
        &mut self,
        bytes: &HashMap<u16, u64>,
        before: &HashMap<u16, u64>,
    ) -> Result<Vec<FlowReport>, String> {
        let mut reports = Vec::new();
        for flow in &self.flows {
            let conn = flow.conn.ok_or("a flow never began")?;
            let (local, _) = self.worker.addrs(conn).map_err(|error| error.to_string())?;
            let count = |of: &HashMap<u16, u64>| of.get(&local.port()).copied().unwrap_or(0);
            let info = self.worker.tcp_info(conn).map_err(|error| error.to_string())?;
            reports.push(FlowReport { bytes: count(bytes) - count(before), info });
        }
        Ok(reports)
    }
}

impl Receiver {
    fn step(&mut self) -> Result<(), String> {
        self.worker.poll(&mut self.events, Some(Duration::ZERO)).map_err(|error| error.to_string())?;
        for event in self.events.drain() {
            let Event::Readable(conn) = event else { continue };
            let (_, peer) = self.worker.addrs(conn).map_err(|error| error.to_string())?;
            while let Recv::Data(piece) = self.worker.recv(conn).map_err(|error| error.to_string())? {
                *self.bytes.entry(peer.port()).or_default() += piece.len() as u64;
            }
        }
        Ok(())
    }
}
