//! `ringwire compare recovery`: TCP over an impaired path, Ringwire's and the kernel's in turns or side by side.
//!
//! ```text
//! sender's node: engine, or kernel socket -- forwarder: rate, queue, delay, loss, reordering -- receiver's node: kernel socket
//! ```

mod sharing;
mod short_flows;

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringwire::{Engine, Event, Events, Interface, PollMode, TcpOptions, Worker, WorkerSeed};
use ringwire_lab::{Counters, Impairment, Lab, LabError, Link, Node};
use ringwire_load::recovery::sharing::{self as shares, SharingOutcome};
use ringwire_load::recovery::short_flows::{FlowPlan, FlowsOutcome};
use ringwire_load::recovery::{Parts, Path, PathOutcome, Recovery, Sending};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::args::{CompareArgs, Part};
use crate::load::write_result;
use crate::refusal::{Exit, Refusal};
use crate::signals;

const PORT: u16 = 9001;
const DEFAULT_ROUNDS: usize = 3;
const DEFAULT_DURATION: Duration = Duration::from_secs(5);
/// A handshake over the worst path takes a few seconds.
const START_LIMIT: Duration = Duration::from_secs(15);
const CHUNK_BYTES: usize = 64 * 1024;

/// What is to be run.
struct Plan {
    paths: Vec<Path>,
    flows: Vec<FlowPlan>,
    shared_paths: Vec<Path>,
    rounds: usize,
    duration: Option<Duration>,
}

/// The rounds as they go by.
struct Course<'a> {
    stop: &'a AtomicBool,
    rounds: usize,
    rows: usize,
    row: Cell<usize>,
    quiet: bool,
}

struct Rig {
    sender: Node,
    receiver: Node,
    link: Link,
    options: TcpOptions,
    // Last: it ends what runs in the nodes.
    _lab: Lab,
}

/// The two stacks, in the order of the table.
#[derive(Clone, Copy, Debug)]
enum Sender {
    Ringwire,
    Kernel,
}

pub(super) fn run(args: &CompareArgs, quiet: bool) -> Result<Exit, Refusal> {
    let plan = Plan::of(args)?;
    let duration = plan.duration.unwrap_or(DEFAULT_DURATION);
    let stop = signals::stop_flag()?;
    let mut options = TcpOptions::default();
    options.congestion_control = args.congestion_control;
    options.pacing = args.pacing.unwrap_or_default();
    options.time_wait = Duration::from_millis(1);
    let rig = Rig::new(options).map_err(|error| Refusal::new(Exit::Refused, error, ""))?;
    let course = Course { stop: &stop, rounds: plan.rounds, rows: plan.rows(), row: Cell::new(0), quiet };
    let goodput = |path: &Path| {
        let (rounds, failures) = course.run(path, |seed| rig.goodput(path, seed, duration));
        PathOutcome { path: *path, rounds, failures }
    };
    let short_flows = |plan: &FlowPlan| {
        let (rounds, failures) = course.run(plan, |seed| rig.short_flows(plan, seed));
        FlowsOutcome::new(*plan, rounds, failures)
    };
    let share = |path: &Path| {
        let name = format_args!("{path}, two flows").to_string();
        let (rounds, failures) = course.run(&name, |seed| rig.share(path, seed, plan.duration));
        SharingOutcome { path: *path, rounds, failures }
    };
    let parts = Parts {
        paths: plan.paths.iter().map(goodput).collect(),
        short_flows: plan.flows.iter().map(short_flows).collect(),
        sharing: plan.shared_paths.iter().map(share).collect(),
    };
    // Relaxed: nothing else is published with the flag.
    let interrupted = stop.load(Ordering::Relaxed);
    let pacing = args.pacing.unwrap_or_default().name();
    let sending = Sending { congestion_control: args.congestion_control.name(), pacing };
    let recovery = Recovery::new(sending, duration, parts, interrupted);
    write_result(&recovery, &recovery.to_string(), &args.output)?;
    Ok(match (recovery.interrupted, recovery.is_valid()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Ok,
        (false, false) => Exit::NotValid,
    })
}

impl Plan {
    fn of(args: &CompareArgs) -> Result<Plan, Refusal> {
        let rounds = args.rounds.unwrap_or(DEFAULT_ROUNDS);
        let no_time = args.duration.is_some_and(|duration| duration.is_zero());
        if rounds == 0 || no_time || args.flows == Some(0) {
            let what = "a comparison of no rounds, no time or no flows";
            return Err(Refusal::new(Exit::Usage, what, "--rounds 3 -d 5s"));
        }
        let has = |part| args.parts.is_empty() || args.parts.contains(&part);
        let mut plan = Plan {
            paths: if has(Part::Goodput) { Path::all() } else { Vec::new() },
            flows: if has(Part::ShortFlows) { FlowPlan::all() } else { Vec::new() },
            shared_paths: if has(Part::Sharing) { shares::paths() } else { Vec::new() },
            rounds,
            duration: args.duration,
        };
        let names = plan.path_names();
        let is_wanted = |path: &Path| {
            let name = path.to_string();
            args.paths.is_empty() || args.paths.iter().any(|wanted| name.starts_with(wanted.as_str()))
        };
        plan.paths.retain(is_wanted);
        plan.flows.retain(|flows| is_wanted(&flows.path));
        if let Some(count) = args.flows {
            plan.flows.iter_mut().for_each(|flows| flows.flows = count.into());
        }
        plan.shared_paths.retain(is_wanted);
        if plan.rows() == 0 {
            let what = format!("there is no path {}", args.paths.join(", "));
            return Err(Refusal::new(Exit::Usage, what, format!("one of {}", names.join(" "))));
        }
        Ok(plan)
    }

    fn rows(&self) -> usize {
        self.paths.len() + self.flows.len() + self.shared_paths.len()
    }

    fn path_names(&self) -> Vec<String> {
        let all =
            self.paths.iter().chain(self.flows.iter().map(|flows| &flows.path)).chain(&self.shared_paths);
        let mut names: Vec<String> = all.map(Path::to_string).collect();
        names.dedup();
        names
    }
}

impl Course<'_> {
    /// The rounds of one row, until it is told to stop: what they gave, and why those that gave nothing did not.
    fn run<R>(
        &self,
        row: &impl fmt::Display,
        round: impl Fn(u64) -> Result<R, String>,
    ) -> (Vec<R>, Vec<String>) {
        self.row.set(self.row.get() + 1);
        let (mut results, mut failures) = (Vec::new(), Vec::new());
        for number in 0..self.rounds {
            // Relaxed: nothing else is published with the flag.
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            if !self.quiet {
                let (at, rows, rounds) = (self.row.get(), self.rows, self.rounds);
                eprintln!("{at:>3}/{rows}  {row}  round {} of {rounds}", number + 1);
            }
            match round(number as u64) {
                Ok(result) => results.push(result),
                Err(failure) => failures.push(failure),
            }
        }
        (results, failures)
    }
}

/// Both stacks, one after the other; who goes first changes from round to round.
fn in_turns<R>(seed: u64, turn: impl Fn(Sender) -> Result<R, String>) -> Result<[R; 2], String> {
    if seed.is_multiple_of(2) {
        let ours = turn(Sender::Ringwire)?;
        return Ok([ours, turn(Sender::Kernel)?]);
    }
    let kernel = turn(Sender::Kernel)?;
    Ok([turn(Sender::Ringwire)?, kernel])
}

impl Rig {
    fn new(options: TcpOptions) -> Result<Rig, LabError> {
        let lab = Lab::new()?;
        let (sender, receiver) = (lab.node("sender")?, lab.node("receiver")?);
        let link = lab.link(&sender, &receiver).up()?;
        // No turn of the kernel's begins with what an earlier one learned of the path; Ringwire remembers nothing.
        sender.set_sysctl("net/ipv4/tcp_no_metrics_save", "1")?;
        receiver.set_sysctl("net/ipv4/tcp_no_metrics_save", "1")?;
        Ok(Rig { sender, receiver, link, options, _lab: lab })
    }

    /// Both stacks over the same losses; bits per second.
    fn goodput(&self, path: &Path, seed: u64, duration: Duration) -> Result<[f64; 2], String> {
        in_turns(seed, |sender| {
            self.impair(path, seed).map_err(|error| error.to_string())?;
            let goodput = self.turn(sender, duration).map_err(|error| format!("{sender:?}: {error}"))?;
            // By chance none may be lost.
            self.check(|counters| counters.passed).map_err(|error| format!("{sender:?}: {error}"))?;
            Ok(goodput)
        })
    }

    /// Anew for each turn, so that packets are counted from 0.
    fn impair(&self, path: &Path, seed: u64) -> Result<(), LabError> {
        let delay = Impairment::default().delay(path.round_trip / 2, Duration::ZERO);
        let mut data = delay.rate(path.rate_bits, path.queue_packets()).loss(path.loss).seed(seed);
        if path.reorder > 0.0 {
            data = data.reorder(path.reorder, 1);
        }
        self.link.impair(&self.receiver, data)?;
        self.link.impair(&self.sender, delay)
    }

    /// What the data met since the link was impaired: `asked` packets gone as they were meant to, and none otherwise.
    fn check(&self, asked: impl Fn(&Counters) -> u64) -> Result<(), String> {
        for (way, towards) in [("data", &self.receiver), ("acknowledgements", &self.sender)] {
            let counters = self.link.counters(towards).map_err(|error| error.to_string())?;
            let unasked = counters.overrun + counters.uncarried + counters.unsendable;
            if unasked > 0 {
                return Err(format!("the link lost {unasked} packets of the {way} on its own account"));
            }
            if towards == &self.receiver && asked(&counters) == 0 {
                return Err("the link lost nothing: it was not what is measured".to_owned());
            }
        }
        Ok(())
    }

    /// One sender; what the receiver got, in bits per second.
    fn turn(&self, sender: Sender, duration: Duration) -> io::Result<f64> {
        let target = self.target(PORT);
        let listener = self.receiver.run(|| TcpListener::bind(target))?;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let receiving = scope.spawn(|| receive(&listener, Duration::ZERO, duration));
            let sending = scope.spawn(|| {
                // The receiver's clock decides; this only ends what nobody hears any more.
                let limit = Instant::now() + START_LIMIT + duration;
                match sender {
                    Sender::Ringwire => self.send_by_engine(self.engine()?, target, limit, &is_over),
                    Sender::Kernel => self.sender.run(|| send_by_kernel(target, limit, &is_over)),
                }
            });
            let received = join(receiving);
            // Relaxed: it stands for itself.
            is_over.store(true, Ordering::Relaxed);
            let sent = join(sending);
            let bytes = received?;
            sent?;
            Ok(bytes as f64 * 8.0 / duration.as_secs_f64())
        })
    }

    fn target(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.link.addr(&self.receiver), port)
    }

    /// An engine in the sender's node, ready to be started on some thread.
    fn engine(&self) -> io::Result<WorkerSeed> {
        let address = format!("{}/{}", self.link.spare_addr(&self.sender), self.link.prefix_len());
        let address =
            address.parse().map_err(|_| io::Error::other("the lab gave an address that is none"))?;
        let netns = self.sender.netns().try_clone_to_owned()?;
        let engine = Engine::builder()
            .netns(netns)
            .interface(Interface::new(self.link.name(&self.sender)).address(address))
            .poll_mode(PollMode::Adaptive)
            .start()
            .map_err(|error| io::Error::other(error.to_string()))?;
        engine.into_workers().pop().ok_or_else(|| io::Error::other("no worker"))
    }

    fn send_by_engine(
        &self,
        engine: WorkerSeed,
        target: SocketAddr,
        limit: Instant,
        is_over: &AtomicBool,
    ) -> io::Result<()> {
        pump(&mut engine.start(), (target, &self.options), limit, is_over)
    }
}

fn join<R>(thread: thread::ScopedJoinHandle<'_, R>) -> R {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Writes as much as the connection takes until it is over.
fn pump(
    worker: &mut Worker,
    (target, options): (SocketAddr, &TcpOptions),
    limit: Instant,
    is_over: &AtomicBool,
) -> io::Result<()> {
    let conn = worker.connect(target, options).map_err(|error| io::Error::other(error.to_string()))?;
    let (chunk, mut events) = (vec![0x5a; CHUNK_BYTES], Events::with_capacity(16));
    // Relaxed: it stands for itself.
    while !is_over.load(Ordering::Relaxed) && Instant::now() < limit {
        let turn = worker.poll(&mut events, Some(Duration::from_millis(10)));
        turn.map_err(|error| io::Error::other(error.to_string()))?;
        for event in events.drain() {
            match event {
                Event::Connected(_) | Event::Writable(_) => {
                    while worker.send(conn, &chunk).map_err(|error| io::Error::other(error.to_string()))? > 0
                    {
                    }
                }
                Event::Closed { reason, .. } if !is_over.load(Ordering::Relaxed) => {
                    return Err(io::Error::other(format!("the connection ended: {reason}")));
                }
                _ => {}
            }
        }
    }
    worker.abort(conn);
    // One more turn for the RST.
    let last = worker.poll(&mut events, Some(Duration::ZERO));
    last.map(|_| ()).map_err(|error| io::Error::other(error.to_string()))
}

fn send_by_kernel(target: SocketAddr, limit: Instant, is_over: &AtomicBool) -> io::Result<()> {
    let mut stream = connect_cubic(target)?;
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    let chunk = vec![0x5a; CHUNK_BYTES];
    while !is_over.load(Ordering::Relaxed) && Instant::now() < limit {
        match stream.write(&chunk) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            // The receiver has seen enough and closed.
            Err(_) if is_over.load(Ordering::Relaxed) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A connection whose congestion control is CUBIC from its first segment on: one that began with BBR, which some machines have for
/// the default, would be paced for the rest of its life.
fn connect_cubic(target: SocketAddr) -> io::Result<TcpStream> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let stream = TcpStream::from(rustix::net::socket(family, SocketType::STREAM, None)?);
    sockopt::set_tcp_congestion(&stream, "cubic")?;
    // It bounds the handshake too.
    stream.set_write_timeout(Some(START_LIMIT))?;
    rustix::net::connect(&stream, &target)?;
    Ok(stream)
}

/// Bytes within `duration`, which begins `settle` after the connection did.
fn receive(listener: &TcpListener, settle: Duration, duration: Duration) -> io::Result<u64> {
    let mut stream = accept(listener, Instant::now() + START_LIMIT)?;
    let from = Instant::now() + settle;
    let (until, mut bytes, mut buffer) = (from + duration, 0, vec![0; 256 * 1024]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(bytes);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the sender ended before its time")),
            Ok(len) if Instant::now() >= from => bytes += len as u64,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The next connection, if one comes in time.
fn accept(listener: &TcpListener, limit: Instant) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < limit => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}
