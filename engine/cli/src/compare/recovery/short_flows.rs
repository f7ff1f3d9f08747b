//! Flows of 64 KiB, one after the other or some at a time: from before the first SYN to the last byte at the receiver.
//!
//! A flow begins with its number, so that the receiver's times find the sender's. The receiver closes when it has everything, which
//! tells the sender to begin the next one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::{Conn, Event, Events, Recv, TcpOptions, Worker};
use ringwire_load::recovery::Path;
use ringwire_load::recovery::short_flows::{FlowPlan, FlowTimes};

use super::{PORT, Rig, START_LIMIT, Sender, accept, connect_cubic, join};

/// Finds the hardware addresses, before packets get lost.
const FIRST: Range<u32> = 0..1;
/// One flow of a turn may take so long: its SYN is lost some times, and its end too.
const FLOW_LIMIT: Duration = Duration::from_secs(20);
/// What a flow takes at most on average, in round trips and in time: beyond that the turn failed.
const MEAN_ROUND_TRIPS: u32 = 30;
const MEAN_TIME: Duration = Duration::from_millis(200);

/// When flows began or ended.
type Marks = Vec<(u32, Instant)>;

impl Rig {
    /// Both stacks' flows over the same losses.
    pub(super) fn short_flows(&self, plan: &FlowPlan, seed: u64) -> Result<[FlowTimes; 2], String> {
        super::in_turns(seed, |sender| {
            let times =
                self.send_flows(sender, plan, seed).map_err(|error| format!("{sender:?}: {error}"))?;
            self.check(|counters| counters.lost).map_err(|error| format!("{sender:?}: {error}"))?;
            Ok(FlowTimes::of(times))
        })
    }

    fn send_flows(&self, sender: Sender, plan: &FlowPlan, seed: u64) -> io::Result<Vec<Duration>> {
        // A handful; no cast loses anything.
        let (flows, lanes) = (plan.flows as u32, plan.at_a_time as u32);
        let target = self.target(PORT);
        let lossless = Path { loss: 0.0, ..plan.path };
        self.impair(&lossless, seed).map_err(|error| io::Error::other(error.to_string()))?;
        let listener = self.receiver.run(|| TcpListener::bind(target))?;
        let mean = plan.path.round_trip * MEAN_ROUND_TRIPS + MEAN_TIME;
        let limit = Instant::now() + START_LIMIT + FLOW_LIMIT + mean * flows / lanes;
        let lossy = || self.impair(&plan.path, seed).map_err(|error| io::Error::other(error.to_string()));
        thread::scope(|scope| {
            let receiving = scope.spawn(|| receive_flows(&listener, flows + 1, limit));
            let begun = scope.spawn(|| match sender {
                Sender::Ringwire => {
                    let mut worker = self.engine()?.start();
                    let mut options = self.options.clone();
                    options.nodelay = true;
                    let mut lanes = Lanes::new(target, &options, limit);
                    lanes.send(&mut worker, FIRST, 1)?;
                    lossy()?;
                    lanes.send(&mut worker, 1..flows + 1, plan.at_a_time)
                }
                Sender::Kernel => self.sender.run(|| {
                    send_lane(target, FIRST, 1)?;
                    lossy()?;
                    send_lanes(target, 1..flows + 1, lanes)
                }),
            });
            let begun = join(begun);
            let ended = join(receiving);
            Ok(times_of(&begun?, &ended?))
        })
    }
}

/// Of those flows that began to count.
fn times_of(begun: &Marks, ended: &Marks) -> Vec<Duration> {
    let end_of = |flow: u32| ended.iter().find(|(other, _)| *other == flow).map(|(_, at)| *at);
    begun.iter().filter_map(|(flow, at)| Some(end_of(*flow)?.duration_since(*at))).collect()
}

/// When each of so many flows ended.
fn receive_flows(listener: &TcpListener, count: u32, limit: Instant) -> io::Result<Marks> {
    thread::scope(|scope| {
        let mut flows = Vec::new();
        for _ in 0..count {
            let stream = accept(listener, limit)?;
            flows.push(scope.spawn(move || receive_flow(stream, limit)));
        }
        flows.into_iter().map(join).collect()
    })
}

fn receive_flow(mut stream: TcpStream, limit: Instant) -> io::Result<(u32, Instant)> {
    stream.set_read_timeout(Some(
        limit.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
    ))?;
    let mut bytes = vec![0; FlowPlan::FLOW_BYTES];
    stream.read_exact(&mut bytes)?;
    let ended = Instant::now();
    let number = bytes.first_chunk().map_or(u32::MAX, |number| u32::from_be_bytes(*number));
    Ok((number, ended))
}

fn flow_bytes(number: u32) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(FlowPlan::FLOW_BYTES, 0x5a);
    bytes
}

/// The kernel's flows, a thread for each that is under way at a time; when they began.
fn send_lanes(target: SocketAddr, flows: Range<u32>, lanes: u32) -> io::Result<Marks> {
    thread::scope(|scope| {
        let lane = |number| send_lane(target, flows.start + number..flows.end, lanes as usize);
        let threads: Vec<_> = (0..lanes).map(|number| scope.spawn(move || lane(number))).collect();
        let begun: io::Result<Vec<Marks>> = threads.into_iter().map(join).collect();
        Ok(begun?.concat())
    })
}

fn send_lane(target: SocketAddr, flows: Range<u32>, step: usize) -> io::Result<Marks> {
    flows.step_by(step).map(|number| Ok((number, send_flow(target, number)?))).collect()
}

fn send_flow(target: SocketAddr, number: u32) -> io::Result<Instant> {
    let begun = Instant::now();
    let mut stream = connect_cubic(target)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(FLOW_LIMIT))?;
    stream.set_read_timeout(Some(FLOW_LIMIT))?;
    stream.write_all(&flow_bytes(number))?;
    match stream.read(&mut [0])? {
        0 => {
            // A reset, as the other stack ends its flows; nothing is left that could take bandwidth from the next.
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
            Ok(begun)
        }
        _ => Err(io::Error::other("the receiver spoke")),
    }
}

/// Ringwire's flows, all on one worker.
struct Lanes<'a> {
    target: SocketAddr,
    options: &'a TcpOptions,
    limit: Instant,
    under_way: Vec<(Conn, u32)>,
    begun: Marks,
}

impl<'a> Lanes<'a> {
    fn new(target: SocketAddr, options: &'a TcpOptions, limit: Instant) -> Lanes<'a> {
        Lanes { target, options, limit, under_way: Vec::new(), begun: Vec::new() }
    }

    /// When they began.
    fn send(&mut self, worker: &mut Worker, mut flows: Range<u32>, at_a_time: usize) -> io::Result<Marks> {
        let mut events = Events::with_capacity(64);
        loop {
            while self.under_way.len() < at_a_time
                && let Some(number) = flows.next()
            {
                self.begin(worker, number)?;
            }
            if self.under_way.is_empty() {
                // One more turn for the last reset.
                worker.poll(&mut events, Some(Duration::ZERO)).map_err(other)?;
                return Ok(std::mem::take(&mut self.begun));
            }
            if Instant::now() >= self.limit {
                return Err(io::ErrorKind::TimedOut.into());
            }
            worker.poll(&mut events, Some(Duration::from_millis(10))).map_err(other)?;
            for event in events.drain() {
                self.on_event(worker, event)?;
            }
        }
    }

    fn begin(&mut self, worker: &mut Worker, number: u32) -> io::Result<()> {
        self.begun.push((number, Instant::now()));
        let conn = worker.connect(self.target, self.options).map_err(other)?;
        self.under_way.push((conn, number));
        Ok(())
    }

    fn on_event(&mut self, worker: &mut Worker, event: Event) -> io::Result<()> {
        let at = |conn: Conn| self.under_way.iter().position(|(other, _)| *other == conn);
        match event {
            Event::Connected(conn) => {
                let Some(at) = at(conn) else { return Ok(()) };
                let bytes = flow_bytes(self.under_way[at].1);
                match worker.send(conn, &bytes).map_err(other)? {
                    // The send buffer is larger.
                    FlowPlan::FLOW_BYTES => Ok(()),
                    len => Err(io::Error::other(format!("only {len} bytes found room"))),
                }
            }
            Event::Readable(conn) => {
                let Some(at) = at(conn) else { return Ok(()) };
                if let Recv::Eof = worker.recv(conn).map_err(other)? {
                    worker.abort(conn);
                    self.under_way.swap_remove(at);
                }
                Ok(())
            }
            Event::Closed { conn, reason } if at(conn).is_some() => {
                Err(io::Error::other(format!("the connection ended: {reason}")))
            }
            _ => Ok(()),
        }
    }
}

fn other(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}
