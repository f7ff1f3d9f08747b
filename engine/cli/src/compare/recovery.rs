//! `ringwire compare recovery`: one sender over an impaired path, Ringwire's TCP and the kernel's in turns.
//!
//! ```text
//! sender's node: engine, or kernel socket -- forwarder: rate, queue, delay, loss, reordering -- receiver's node: kernel socket
//! ```

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringwire::{CongestionControl, Engine, Event, Events, Interface, PollMode, TcpOptions, Worker};
use ringwire_lab::{Impairment, Lab, LabError, Link, Node};
use ringwire_load::recovery::{Path, PathOutcome, Recovery};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::args::CompareArgs;
use crate::load::write_result;
use crate::refusal::{Exit, Refusal};
use crate::signals;

const PORT: u16 = 9001;
const DEFAULT_ROUNDS: usize = 3;
const DEFAULT_DURATION: Duration = Duration::from_secs(5);
/// A handshake over the worst path takes a few seconds.
const START_LIMIT: Duration = Duration::from_secs(15);
const CHUNK_BYTES: usize = 64 * 1024;

struct Rig {
    sender: Node,
    receiver: Node,
    link: Link,
    congestion_control: CongestionControl,
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
    let paths = paths_of(args)?;
    let rounds = args.rounds.unwrap_or(DEFAULT_ROUNDS);
    let duration = args.duration.unwrap_or(DEFAULT_DURATION);
    let stop = signals::stop_flag()?;
    let rig = Rig::new(args.congestion_control).map_err(|error| Refusal::new(Exit::Refused, error, ""))?;
    let mut outcomes = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        let mut outcome = PathOutcome { path: *path, rounds: Vec::new(), failures: Vec::new() };
        for round in 0..rounds {
            // Relaxed: nothing else is published with the flag.
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if !quiet {
                eprintln!("{:>3}/{}  {path}  round {} of {rounds}", number + 1, paths.len(), round + 1);
            }
            match rig.round(path, round as u64, duration) {
                Ok(goodputs) => outcome.rounds.push(goodputs),
                Err(failure) => outcome.failures.push(failure),
            }
        }
        outcomes.push(outcome);
    }
    let interrupted = stop.load(Ordering::Relaxed);
    let recovery = Recovery::new(args.congestion_control.name(), duration, outcomes, interrupted);
    write_result(&recovery, &recovery.to_string(), &args.output)?;
    Ok(match (recovery.interrupted, recovery.is_valid()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Ok,
        (false, false) => Exit::NotValid,
    })
}

/// Those that were asked for by the beginning of their name.
fn paths_of(args: &CompareArgs) -> Result<Vec<Path>, Refusal> {
    let all = Path::all();
    if args.paths.is_empty() {
        return Ok(all);
    }
    let is_wanted =
        |path: &Path| args.paths.iter().any(|wanted| path.to_string().starts_with(wanted.as_str()));
    let wanted: Vec<Path> = all.iter().copied().filter(is_wanted).collect();
    if wanted.is_empty() {
        let names: Vec<String> = all.iter().map(Path::to_string).collect();
        let what = format!("there is no path {}", args.paths.join(", "));
        return Err(Refusal::new(Exit::Usage, what, format!("one of {}", names.join(" "))));
    }
    Ok(wanted)
}

impl Rig {
    fn new(congestion_control: CongestionControl) -> Result<Rig, LabError> {
        let lab = Lab::new()?;
        let (sender, receiver) = (lab.node("sender")?, lab.node("receiver")?);
        let link = lab.link(&sender, &receiver).up()?;
        Ok(Rig { sender, receiver, link, congestion_control, _lab: lab })
    }

    /// Both stacks over the same losses; bits per second.
    fn round(&self, path: &Path, seed: u64, duration: Duration) -> Result<[f64; 2], String> {
        let turn = |sender| {
            self.impair(path, seed).map_err(|error| error.to_string())?;
            self.turn(sender, duration).map_err(|error| format!("{sender:?}: {error}"))
        };
        // Who goes first changes from round to round.
        if seed.is_multiple_of(2) {
            let ours = turn(Sender::Ringwire)?;
            return Ok([ours, turn(Sender::Kernel)?]);
        }
        let kernel = turn(Sender::Kernel)?;
        Ok([turn(Sender::Ringwire)?, kernel])
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

    /// One sender; what the receiver got, in bits per second.
    fn turn(&self, sender: Sender, duration: Duration) -> io::Result<f64> {
        let target = SocketAddr::new(self.link.addr(&self.receiver), PORT);
        let listener = self.receiver.run(|| TcpListener::bind(target))?;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let receiving = scope.spawn(|| receive(&listener, duration));
            let sending = scope.spawn(|| {
                // The receiver's clock decides; this only ends what nobody hears any more.
                let limit = Instant::now() + START_LIMIT + duration;
                match sender {
                    Sender::Ringwire => self.send_by_engine(target, limit, &is_over),
                    Sender::Kernel => self.sender.run(|| send_by_kernel(target, limit, &is_over)),
                }
            });
            let received = receiving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // Relaxed: it stands for itself.
            is_over.store(true, Ordering::Relaxed);
            let sent = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let bytes = received?;
            sent?;
            Ok(bytes as f64 * 8.0 / duration.as_secs_f64())
        })
    }

    fn send_by_engine(&self, target: SocketAddr, limit: Instant, is_over: &AtomicBool) -> io::Result<()> {
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
        let Some(seed) = engine.into_workers().pop() else { return Err(io::Error::other("no worker")) };
        let mut options = TcpOptions::default();
        options.congestion_control = self.congestion_control;
        options.time_wait = Duration::from_millis(1);
        pump(&mut seed.start(), (target, &options), limit, is_over)
    }
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

/// Bytes within `duration` from the connection's beginning.
fn receive(listener: &TcpListener, duration: Duration) -> io::Result<u64> {
    listener.set_nonblocking(true)?;
    let limit = Instant::now() + START_LIMIT;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < limit => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    };
    stream.set_nonblocking(false)?;
    let (until, mut bytes, mut buffer) = (Instant::now() + duration, 0, vec![0; 256 * 1024]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(bytes);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the sender ended before its time")),
            Ok(len) => bytes += len as u64,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
}
