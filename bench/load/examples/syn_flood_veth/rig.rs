//! The nodes, the flooder and the client.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringwire::frame::{Class, Floors, Geometry, Pool, Port, Region};
use ringwire_lab::{Lab, LabError, Link, Macs, Node, Offloads, Segment, tcp_options};
use ringwire_packet::{PacketConfig, PacketPort};
use rustix::net::sockopt;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::serve::{self, Server, Stack, Unanswered};

/// Behind the flooder, as the router sees it.
const FORGED_NET: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// Behind the sink.
const SINK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const PORT: u16 = 80;
pub(crate) const ESTABLISHED: usize = 2;
const CHUNK_BYTES: usize = 32 * 1024;
const CONNECT_EVERY: Duration = Duration::from_millis(5);
/// One that takes longer has failed and counts as this long.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Between two phases, so that neither sees the other's packets.
const SETTLE: Duration = Duration::from_millis(300);
/// SYNs that are sent between two looks at the clock.
const BURST: u64 = 64;
const SERVER_CPU: usize = 0;
/// The client's and the flooder's.
const OTHER_CPU: usize = 1;

/// What the flooder does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Quiet = 0,
    Elsewhere = 1,
    Flood = 2,
}

impl Phase {
    pub(crate) const ALL: [Phase; 3] = [Phase::Quiet, Phase::Elsewhere, Phase::Flood];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Quiet => "no flood",
            Phase::Elsewhere => "flood elsewhere",
            Phase::Flood => "flood",
        }
    }
}

/// What the server is put under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) syn_per_s: u32,
    /// What each established connection is offered; more than it carries is not made up for.
    pub(crate) rate_bits: f64,
}

/// Why the engine did not answer, as shares of the SYNs that were sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnansweredShares {
    /// Of half-open connections, which answer once in half a second.
    pub(crate) repeated: f64,
    /// Found the receive ring full.
    pub(crate) lost: f64,
}

/// What a phase showed.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) syns_per_s: f64,
    /// Packets towards the flooder for each SYN.
    pub(crate) answered: f64,
    /// None of a kernel server.
    pub(crate) unanswered: Option<UnansweredShares>,
    /// Of the established connections, as the server's application reads.
    pub(crate) bits_per_s: f64,
    pub(crate) connects: Vec<Duration>,
}

pub(crate) struct Rig {
    pub(crate) server: Node,
    pub(crate) server_link: Link,
    /// The router's address there.
    pub(crate) gateway: Ipv4Addr,
    client: Node,
    flooder: Node,
    flooder_link: Link,
    router: Node,
    load: Load,
    _links: [Link; 2],
    // Last: it ends what runs in the nodes.
    _lab: Lab,
}

/// What the threads of a round share.
struct Shared {
    phase: AtomicU8,
    stop: AtomicBool,
    syns: AtomicU64,
}

impl Rig {
    pub(crate) fn new(load: Load) -> Result<Rig, LabError> {
        let lab = Lab::new()?;
        let router = lab.node("router")?;
        let [server, client, flooder, sink] =
            [lab.node("server")?, lab.node("client")?, lab.node("flooder")?, lab.node("sink")?];
        let link = |node| lab.link(node, &router).direct().offloads(Offloads::Off).up();
        let (server_link, client_link) = (link(&server)?, link(&client)?);
        let (flooder_link, sink_link) = (link(&flooder)?, link(&sink)?);
        router.forward()?;
        let everywhere = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        server.add_route(everywhere, server_link.addr(&router))?;
        client.add_route(everywhere, client_link.addr(&router))?;
        router.add_route((FORGED_NET.into(), 16), flooder_link.addr(&flooder))?;
        router.add_route((SINK.into(), 32), sink_link.addr(&sink))?;
        let gateway = v4(server_link.addr(&router));
        let _links = [client_link, sink_link];
        Ok(Rig {
            server,
            server_link,
            gateway,
            client,
            flooder,
            flooder_link,
            router,
            load,
            _links,
            _lab: lab,
        })
    }

    /// The three phases with one server.
    pub(crate) fn round(&self, stack: Stack, lasts: Duration) -> Result<[Seen; 3], String> {
        let server = serve::start(self, stack, PORT, SERVER_CPU)?;
        let shared = Shared {
            phase: AtomicU8::new(Phase::Quiet as u8),
            stop: AtomicBool::new(false),
            syns: AtomicU64::new(0),
        };
        thread::scope(|scope| {
            let flooding = scope.spawn(|| self.flooder.run(|| self.flood(server.addr(), &shared)));
            let sending: Vec<_> = (0..ESTABLISHED)
                .map(|_| {
                    scope.spawn(|| {
                        self.client.run(|| send(server.addr().into(), self.load.rate_bits, &shared))
                    })
                })
                .collect();
            let phases =
                Phase::ALL.map(|phase| self.client.run(|| self.phase(phase, lasts, &server, &shared)));
            // Relaxed: it stands for itself.
            shared.stop.store(true, Ordering::Relaxed);
            join(flooding)?;
            for sent in sending {
                join(sent).map_err(|error| format!("an established connection: {error}"))?;
            }
            let [quiet, elsewhere, flood] = phases;
            Ok([quiet?, elsewhere?, flood?])
        })
    }

    fn phase(&self, phase: Phase, lasts: Duration, server: &Server, shared: &Shared) -> Result<Seen, String> {
        pin(OTHER_CPU);
        // Relaxed, here and below: each stands for itself.
        shared.phase.store(phase as u8, Ordering::Relaxed);
        thread::sleep(SETTLE);
        let before = (shared.syns.load(Ordering::Relaxed), server.bytes(), self.answers()?);
        let unanswered_before = server.unanswered().unwrap_or_default();
        let began = Instant::now();
        let mut connects = Vec::new();
        while began.elapsed() < lasts {
            let begun = Instant::now();
            connects.push(connect(server.addr().into()));
            thread::sleep(CONNECT_EVERY.saturating_sub(begun.elapsed()));
        }
        let took_s = began.elapsed().as_secs_f64();
        let syns = shared.syns.load(Ordering::Relaxed) - before.0;
        let bytes = server.bytes() - before.1;
        let answers = self.answers()? - before.2;
        let share = |count: u64| count as f64 / syns.max(1) as f64;
        let unanswered = server.unanswered().map(|Unanswered { repeated, lost }| UnansweredShares {
            repeated: share(repeated - unanswered_before.repeated),
            lost: share(lost - unanswered_before.lost),
        });
        shared.phase.store(Phase::Quiet as u8, Ordering::Relaxed);
        thread::sleep(SETTLE);
        Ok(Seen {
            syns_per_s: syns as f64 / took_s,
            answered: share(answers),
            unanswered,
            bits_per_s: bytes as f64 * 8.0 / took_s,
            connects,
        })
    }

    /// Packets that the router has sent to the flooder.
    fn answers(&self) -> Result<u64, String> {
        let name = self.flooder_link.name(&self.router);
        let table = self.router.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
        let table = table.map_err(|error| format!("the router's counters: {error}"))?;
        let row = table.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
        // Eight of reception, then bytes and packets of transmission.
        let packets =
            row.and_then(|row| row.split_whitespace().nth(9)).and_then(|packets| packets.parse().ok());
        packets.ok_or_else(|| format!("the router's counters have no {name}"))
    }

    fn flood(&self, target: SocketAddrV4, shared: &Shared) -> Result<(), String> {
        pin(OTHER_CPU);
        let mut flooder = Flooder::open(self)?;
        let macs =
            Macs { src: self.flooder_link.mac(&self.flooder), dst: self.flooder_link.mac(&self.router) };
        let at = |target| (0..16_384).map(|index| forged_syn(index, target).frame(macs)).collect::<Vec<_>>();
        let (to_server, to_sink) = (at(target), at(SocketAddrV4::new(SINK, PORT)));
        while !shared.stop.load(Ordering::Relaxed) {
            let phase = shared.phase.load(Ordering::Relaxed);
            let Some(frames) = [None, Some(&to_sink), Some(&to_server)][usize::from(phase)] else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            let (began, mut offered) = (Instant::now(), 0);
            while shared.phase.load(Ordering::Relaxed) == phase {
                let due = began.elapsed().as_nanos() as u64 * u64::from(self.load.syn_per_s) / 1_000_000_000;
                let burst = due.saturating_sub(offered).min(BURST);
                offered += burst;
                shared.syns.fetch_add(flooder.send(frames, burst), Ordering::Relaxed);
                if burst < BURST {
                    thread::sleep(Duration::from_micros(200));
                }
            }
        }
        Ok(())
    }
}

/// A packet socket that only sends, a batch for each system call.
struct Flooder {
    pool: Pool,
    port: PacketPort,
    next: usize,
}

impl Flooder {
    fn open(rig: &Rig) -> Result<Flooder, String> {
        let geometry = Geometry { frame_bytes: 2048, frame_count: 1024 };
        let region = Region::anonymous(geometry.region_bytes());
        let mut pool = Pool::new(region, geometry, Floors::for_frames(geometry.frame_count));
        pool.adopt();
        let config = PacketConfig {
            // What is answered to forged addresses is the kernel's to drop.
            only_for: Some(Vec::new()),
            bypass_qdisc: true,
            ..PacketConfig::new(rig.flooder_link.ifindex(&rig.flooder), rig.flooder_link.name(&rig.flooder))
        };
        let port = PacketPort::open(&config, &pool).map_err(|error| error.to_string())?;
        Ok(Flooder { pool, port, next: 0 })
    }

    /// So many of these, the one after the last next; how many could be sent.
    fn send(&mut self, frames: &[Vec<u8>], count: u64) -> u64 {
        let mut sent = 0;
        self.port.reap(&mut self.pool);
        while sent < count
            && let Some(mut frame) = self.pool.alloc(Class::Control)
        {
            let bytes = &frames[self.next % frames.len()];
            frame.append(bytes.len()).copy_from_slice(bytes);
            if self.port.submit(&mut self.pool, &frame.into_send()).is_err() {
                break;
            }
            self.next += 1;
            sent += 1;
        }
        // What it could not take now goes with the next.
        let _ = self.port.kick();
        sent
    }
}

/// An established connection: at its rate, or what is left of it.
fn send(target: SocketAddr, rate_bits: f64, shared: &Shared) -> std::io::Result<()> {
    pin(OTHER_CPU);
    let mut stream = TcpStream::connect_timeout(&target, CONNECT_LIMIT)?;
    stream.set_write_timeout(Some(CONNECT_LIMIT))?;
    let chunk = [0x5a; CHUNK_BYTES];
    let every = Duration::from_secs_f64(CHUNK_BYTES as f64 * 8.0 / rate_bits);
    while !shared.stop.load(Ordering::Relaxed) {
        // What could not be sent in time is not made up for.
        thread::sleep(every);
        match stream.write(&chunk) {
            Ok(_) => {}
            // A second without room shows in the rate.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How long a new connection takes; it is reset then, so that the server keeps nothing.
fn connect(target: SocketAddr) -> Duration {
    let begun = Instant::now();
    let Ok(stream) = TcpStream::connect_timeout(&target, CONNECT_LIMIT) else { return CONNECT_LIMIT };
    let took = begun.elapsed();
    // Refused by no kernel; without it the connection would end in order.
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    took
}

/// A SYN from one of many addresses, with the options that everybody sends.
fn forged_syn(index: u16, target: SocketAddrV4) -> Segment {
    let [high, low] = index.to_be_bytes();
    let [a, b, ..] = FORGED_NET.octets();
    let from = SocketAddrV4::new(Ipv4Addr::new(a, b, high, low), 1024 + index);
    let options =
        [tcp_options::mss(1460), tcp_options::sack_permitted(), tcp_options::window_scale(7)].concat();
    Segment { seq: u32::from(index) * 77_777, options, ..Segment::new(from, target, "S") }
}

/// Threads that are started here stay there, too. Where there is no such core, anywhere.
pub(crate) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    let _ = sched_setaffinity(None, &set);
}

pub(crate) fn v4(addr: IpAddr) -> Ipv4Addr {
    match addr {
        IpAddr::V4(addr) => addr,
        IpAddr::V6(_) => unreachable!("this link has IPv4 addresses"),
    }
}

pub(crate) fn join<R>(thread: thread::ScopedJoinHandle<'_, R>) -> R {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
