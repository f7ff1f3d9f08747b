//! A listener under a flood of SYNs, in one process:
//! `cargo run --release -p ringwire-micro --example syn_flood [SYN_PER_S] [SECONDS] [ROUNDS]`.
//!
//! ```text
//! core 0: server worker <--- MemPort ---> core 1: relay <--- MemPort ---> client worker (same core)
//!                                          ^ forged SYNs
//! ```
//! The relay drops what a full ring has no room for, the client's packets too, as a NIC would. Three phases: without a flood; with one
//! that the relay throws away itself, so that core 1 is as busy as in the third; with one that reaches the server. Printed for each: what
//! one established connection carries, and how long a new one takes; in the end, whether the goals are met (exit status 0 if the figures
//! mean anything, met or missed; else 4).

use std::fmt;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringwire::frame::{Class, Floors, Geometry, MemPort, Packet, Pool, Port, Region};
use ringwire::{Conn, Engine, Event, Events, Interface, PollMode, Recv, TcpOptions, Worker};
use ringwire_wire::checksum::Sum;
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::ipv4::{self, Protocol};
use ringwire_wire::tcp::{self, Flags, Options, Timestamps};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const CLIENT: &str = "10.9.0.2/16";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// An engine in memory takes its hardware address from its first address.
const SERVER_MAC: Mac = Mac([2, 0, 10, 9, 0, 1]);
const CLIENT_MAC: Mac = Mac([2, 0, 10, 9, 0, 2]);
const PORT: u16 = 80;
/// Behind the client, as seen from the server.
const FORGED_NET: [u8; 2] = [198, 18];
const RING_PACKETS: u32 = 8192;
const CONNECT_EVERY: Duration = Duration::from_millis(5);
/// SYNs that are offered between two looks at the client.
const BURST: u64 = 128;

/// A new connection takes less at p99.
const GOAL_P99: Duration = Duration::from_millis(100);
/// The established connection keeps more of its rate.
const GOAL_KEPT: f64 = 0.5;
/// A flood that was slower than this part of what was asked for shows nothing.
const LEAST_FLOOD: f64 = 0.95;
/// More would not be a load that ends by itself within its time.
const MOST_SYN_PER_S: u64 = 20_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flood {
    Off,
    ThrownAway,
    Offered,
}

impl Flood {
    const ALL: [Flood; 3] = [Flood::Off, Flood::ThrownAway, Flood::Offered];

    fn name(self) -> &'static str {
        match self {
            Flood::Off => "no flood",
            Flood::ThrownAway => "thrown away",
            Flood::Offered => "flood",
        }
    }
}

fn main() -> ExitCode {
    let arg = |index| std::env::args().nth(index).and_then(|arg| arg.parse::<u64>().ok());
    let syn_per_s = arg(1).unwrap_or(1_000_000).clamp(1, MOST_SYN_PER_S);
    let lasts = Duration::from_secs(arg(2).unwrap_or(3).clamp(1, 60));
    let rounds = arg(3).unwrap_or(3).clamp(1, 20);
    let (mut relay, server, client) = Relay::new();
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let counters = scope.spawn(|| serve(server, &stop));
        let mut bench = Bench::new(client.into_workers().remove(0).start());
        bench.open(&mut relay);
        let seen: Vec<[Seen; 3]> = (1..=rounds)
            .map(|round| {
                Flood::ALL.map(|flood| {
                    let seen = bench.phase(&mut relay, flood, syn_per_s, lasts);
                    println!("{round} of {rounds}, {:>11}: {seen}", flood.name());
                    seen
                })
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        println!("server: {}", counters.join().expect("the server does not panic"));
        seen
    });
    if verdict(&seen, syn_per_s) { ExitCode::SUCCESS } else { ExitCode::from(4) }
}

/// What a phase showed.
struct Seen {
    syn_per_s: f64,
    /// SYNs that found the server's ring full.
    lost: f64,
    bits_per_s: f64,
    /// Shortest first.
    connect_times: Vec<Duration>,
    /// Packets of the client or the server that found a ring full.
    dropped: u64,
}

impl Seen {
    fn connect_time(&self, share: f64) -> Duration {
        let index = (self.connect_times.len() as f64 * share) as usize;
        self.connect_times[index.min(self.connect_times.len() - 1)]
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |share| self.connect_time(share).as_secs_f64() * 1e3;
        write!(
            f,
            "{:.2} M SYN/s ({:.1} % lost), bulk {:.2} Gbit/s, {} connects: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms; {} packets dropped",
            self.syn_per_s / 1e6,
            self.lost * 100.0,
            self.bits_per_s / 1e9,
            self.connect_times.len(),
            ms(0.5),
            ms(0.99),
            ms(1.0),
            self.dropped,
        )
    }
}

/// Prints how the goals were met; whether the figures mean anything.
fn verdict(rounds: &[[Seen; 3]], syn_per_s: u64) -> bool {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let kept =
        |than: usize| median(rounds.iter().map(|seen| seen[2].bits_per_s / seen[than].bits_per_s).collect());
    let p99 = rounds.iter().map(|[.., flood]| flood.connect_time(0.99)).max().unwrap_or(Duration::MAX);
    let mark = |is_met| if is_met { "met" } else { "MISSED" };
    println!(
        "keeps {:.2} of its rate, and {:.2} of that with the flood thrown away: goal of more than {GOAL_KEPT} {}",
        kept(0),
        kept(1),
        mark(kept(0) > GOAL_KEPT)
    );
    println!(
        "connects in {p99:.1?} at p99 in the worst round: goal of less than {GOAL_P99:?} {}",
        mark(p99 < GOAL_P99)
    );
    let slowest = rounds.iter().map(|[.., flood]| flood.syn_per_s).fold(f64::INFINITY, f64::min);
    let is_valid = slowest >= LEAST_FLOOD * syn_per_s as f64;
    if !is_valid {
        println!("NOT VALID: the flood reached {:.2} M SYN/s only", slowest / 1e6);
    }
    is_valid
}

/// Takes connections and reads what they bring.
fn serve(engine: Engine, stop: &AtomicBool) -> String {
    let mut worker = engine.into_workers().remove(0).start();
    worker.listen((SERVER, PORT).into(), &TcpOptions::default()).expect("a fresh engine has no listener");
    let mut events = Events::with_capacity(1024);
    while !stop.load(Ordering::Relaxed) {
        worker.poll(&mut events, Some(Duration::ZERO)).expect("memory does not fail");
        for event in events.drain() {
            if let Event::Readable(conn) = event {
                while let Ok(Recv::Data(_)) = worker.recv(conn) {}
                if let Ok(Recv::Eof) = worker.recv(conn) {
                    worker.close(conn);
                }
            }
        }
    }
    let counters = worker.counters();
    format!(
        "{} connections held, {} accepted, {} cookies sent, {} accepted, longest turn {:.1} ms",
        counters.connections,
        counters.accepted,
        counters.cookies_sent,
        counters.cookies_accepted,
        counters.longest_turn_ns as f64 / 1e6
    )
}

/// The wire between the two engines.
struct Relay {
    pool: Pool,
    server: MemPort,
    client: MemPort,
    packets: Vec<Packet>,
    dropped: u64,
}

impl Relay {
    fn new() -> (Relay, Engine, Engine) {
        let geometry = Geometry { frame_bytes: 2048, frame_count: 32_768 };
        let mut pool =
            Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(32_768));
        pool.adopt();
        let start = |address: &str, core: usize, pool: &Pool| {
            let mut near = None;
            let engine = Engine::builder()
                .interface(
                    Interface::new("memory")
                        .address(address.parse().expect("a constant address"))
                        .gateway(GATEWAY),
                )
                .poll_mode(PollMode::Busy)
                .cpus([core])
                .frames_per_worker(32_768)
                .start_on(|theirs| {
                    let (far, ours) = MemPort::pair(RING_PACKETS, theirs, pool);
                    near = Some(ours);
                    far
                })
                .expect("an in-memory engine needs nothing");
            (engine, near.expect("the engine has asked for its port"))
        };
        let (server_engine, mut server) = start("10.9.0.1/16", 0, &pool);
        let (client_engine, mut client) = start(CLIENT, 1, &pool);
        server.refill(&mut pool);
        client.refill(&mut pool);
        let relay = Relay { pool, server, client, packets: Vec::new(), dropped: 0 };
        (relay, server_engine, client_engine)
    }

    fn turn(&mut self) {
        let Relay { pool, server, client, packets, dropped } = self;
        *dropped += carry(pool, client, server, packets);
        *dropped += carry(pool, server, client, packets);
    }

    /// One forged SYN; false when it was lost.
    fn forge(&mut self, bytes: &[u8], flood: Flood) -> bool {
        let Some(mut frame) = self.pool.alloc(Class::Control) else { return false };
        frame.append(bytes.len()).copy_from_slice(bytes);
        flood == Flood::ThrownAway || self.server.submit(&mut self.pool, &frame.into_send()).is_ok()
    }
}

/// Everything from one to the other; how much was lost.
fn carry(pool: &mut Pool, from: &mut MemPort, to: &mut MemPort, packets: &mut Vec<Packet>) -> u64 {
    let mut dropped = 0;
    from.reap(pool);
    to.reap(pool);
    from.receive(pool, packets, 256);
    for packet in packets.drain(..) {
        // What answers forged SYNs ends here.
        let is_stray = packet.head.bytes().get(30..34).is_some_and(|dst| dst.starts_with(&FORGED_NET));
        dropped += u64::from(!is_stray && to.submit(pool, &packet.head.into_send()).is_err());
    }
    from.refill(pool);
    let _ = to.kick();
    let _ = from.kick();
    dropped
}

/// The client's side.
struct Bench {
    worker: Worker,
    events: Events,
    bulk: Option<Conn>,
    probe: Option<(Conn, Instant)>,
    connect_times: Vec<Duration>,
    syns: Vec<Vec<u8>>,
}

impl Bench {
    fn new(worker: Worker) -> Bench {
        let syns = (0..16_384).map(forged_syn).collect();
        let events = Events::with_capacity(1024);
        Bench { worker, events, bulk: None, probe: None, connect_times: Vec::new(), syns }
    }

    fn open(&mut self, relay: &mut Relay) {
        let began = Instant::now();
        self.bulk = self.connect();
        while self.connect_times.is_empty() {
            assert!(began.elapsed() < Duration::from_secs(5), "no connection");
            self.turn(relay);
        }
    }

    fn connect(&mut self) -> Option<Conn> {
        let conn = self.worker.connect((SERVER, PORT).into(), &TcpOptions::default()).ok()?;
        self.probe = Some((conn, Instant::now()));
        Some(conn)
    }

    fn turn(&mut self, relay: &mut Relay) {
        self.worker.poll(&mut self.events, Some(Duration::ZERO)).expect("memory does not fail");
        for event in self.events.drain() {
            if let (Event::Connected(conn), Some((probe, began))) = (event, self.probe)
                && conn == probe
            {
                self.connect_times.push(began.elapsed());
                self.probe = None;
                if Some(conn) != self.bulk {
                    self.worker.abort(conn);
                }
            }
        }
        relay.turn();
    }

    fn phase(&mut self, relay: &mut Relay, flood: Flood, syn_per_s: u64, lasts: Duration) -> Seen {
        const CHUNK: [u8; 16 * 1024] = [7; 16 * 1024];
        let began = Instant::now();
        let (mut sent, mut lost, mut bytes) = (0_u64, 0_u64, 0_u64);
        let mut next_connect = began;
        let dropped = relay.dropped;
        self.connect_times.clear();
        while began.elapsed() < lasts {
            let due = began.elapsed().as_nanos() as u64 * syn_per_s / 1_000_000_000;
            for _ in 0..due.saturating_sub(sent).min(BURST) {
                if flood != Flood::Off {
                    let syn = &self.syns[sent as usize % self.syns.len()];
                    lost += u64::from(!relay.forge(syn, flood));
                }
                sent += 1;
            }
            if let Some(conn) = self.bulk {
                bytes += self.worker.send(conn, &CHUNK).unwrap_or(0) as u64;
            }
            if self.probe.is_none() && Instant::now() >= next_connect {
                next_connect = Instant::now() + CONNECT_EVERY;
                self.connect();
            }
            self.turn(relay);
        }
        let took = began.elapsed().as_secs_f64();
        // One that is still under way counts with what it has waited.
        self.connect_times.extend(self.probe.map(|(_, began)| began.elapsed()));
        self.connect_times.sort();
        Seen {
            syn_per_s: if flood == Flood::Off { 0.0 } else { sent as f64 / took },
            lost: lost as f64 / sent.max(1) as f64,
            bits_per_s: bytes as f64 * 8.0 / took,
            connect_times: std::mem::take(&mut self.connect_times),
            dropped: relay.dropped - dropped,
        }
    }
}

/// A SYN from one of many addresses, with all options.
fn forged_syn(index: u16) -> Vec<u8> {
    let [high, low] = index.to_be_bytes();
    let src = Ipv4Addr::new(FORGED_NET[0], FORGED_NET[1], high, low);
    let options = Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 1, echo: 0 }),
        ..Options::default()
    };
    let len = tcp::HEADER_LEN + options.encoded_len();
    let header = tcp::Header {
        src_port: 1024 + index,
        dst_port: PORT,
        seq: u32::from(index) * 77_777,
        flags: Flags::SYN,
        window: 64_240,
        ..tcp::Header::default()
    };
    let mut bytes = vec![0; eth::HEADER_LEN + ipv4::HEADER_LEN + len];
    let (link, rest) = bytes.split_at_mut(eth::HEADER_LEN);
    let (ip, transport) = rest.split_at_mut(ipv4::HEADER_LEN);
    let link_header = eth::Header { dst: SERVER_MAC, src: CLIENT_MAC, ethertype: EtherType::IPV4 };
    link_header.emit(link.try_into().expect("as long as the header"));
    let (dst, protocol, payload_len) = (SERVER, Protocol::TCP, len as u16);
    ipv4::Header { src, dst, protocol, tos: 0, ttl: 64, id: 0, dont_fragment: true, payload_len }
        .emit(ip.try_into().expect("as long as the header"));
    header.emit(&options, Sum::pseudo_v4(src, dst, Protocol::TCP, payload_len), transport);
    bytes
}
