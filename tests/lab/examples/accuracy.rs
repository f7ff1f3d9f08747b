//! How exact the impairments are: what was asked for, against what the kernels at both ends saw.
//!
//! `cargo run --release -p ringwire-lab --example accuracy [PACKETS [losses|delays|rates|layers]]` (100,000 of each unless said
//! otherwise; with feature `xdp` for the rows of AF_XDP). Times are those of
//! tcpdump, which are the kernel's, at the sender's and the receiver's interface; counts are the receiving kernel's.
//! The forwarder's own books stand beside them.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ringwire_lab::{Child, Distribution, Impairment, Lab, Link, Node, PacketLayer};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PORT: u16 = 9;
/// Between two packets, so that even a busy machine keeps up.
const SLOW: Duration = Duration::from_micros(50);
/// Ethernet, IPv4 and UDP headers; then comes the number.
const NUMBER_AT: usize = 14 + 20 + 8;

/// When each packet number was seen, nanoseconds since 1970; more than once if it came twice.
type Sightings = BTreeMap<u32, Vec<u64>>;

struct Scene {
    a: Node,
    b: Node,
    link: Link,
    dir: PathBuf,
    _lab: Lab,
}

/// What was seen of one run.
struct Run {
    sent: Sightings,
    received: Sightings,
    /// The numbers in the order of their arrival.
    order: Vec<u32>,
    payload_bytes: usize,
    /// Packets that the interfaces counted, as tcpdump may miss some.
    left: u64,
    arrived: u64,
    /// Share of what arrived that the receiving kernel found spoilt.
    corrupted: f64,
}

impl Scene {
    fn new(layer: PacketLayer) -> Result<Scene> {
        let lab = Lab::new()?;
        let (a, b) = (lab.node("a")?, lab.node("b")?);
        let link = lab.link(&a, &b).packet_layer(layer).up()?;
        let dir = std::env::temp_dir().join(format!("ringwire-accuracy-{}-{layer:?}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Scene { a, b, link, dir, _lab: lab })
    }

    fn tcpdump(&self, node: &Node, file: &Path) -> Result<Child> {
        let mut tcpdump = node.command("tcpdump");
        tcpdump.args([
            "-i",
            self.link.name(node),
            "--time-stamp-precision=nano",
            "-s",
            "2048",
            "-B",
            "65536",
        ]);
        tcpdump.args(["-n", "-w"]).arg(file).args(["udp", "port", "9"]);
        let mut child = tcpdump.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or("it was piped")?;
        // Its first line says that it listens; the rest is read so that it can say it.
        let mut lines = BufReader::new(stderr).lines();
        lines.by_ref().map_while(std::result::Result::ok).find(|line| line.contains("listening on"));
        std::thread::spawn(move || lines.for_each(drop));
        Ok(child)
    }

    /// A column of the interface's line in /proc/net/dev, counted from 1 after its name.
    fn packets(&self, node: &Node, column: usize) -> Result<u64> {
        let text = node.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?;
        let name = format!("{}:", self.link.name(node));
        let line =
            text.lines().find_map(|line| line.trim().strip_prefix(&name)).ok_or("no such interface")?;
        Ok(line.split_whitespace().nth(column - 1).ok_or("no such column")?.parse()?)
    }

    /// Packets that the receiving kernel refused for what is in them: IP headers, UDP checksums, foreign hardware addresses.
    fn bad_checksums(&self) -> Result<u64> {
        let text = self.b.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
        let value = |protocol: &str, name: &str| -> Option<u64> {
            let mut lines = text.lines().filter(|line| line.starts_with(protocol));
            let at = lines.next()?.split_whitespace().position(|word| word == name)?;
            lines.next()?.split_whitespace().nth(at)?.parse().ok()
        };
        Ok(value("Ip:", "InHdrErrors").unwrap_or(0) + value("Udp:", "InCsumErrors").unwrap_or(0))
    }

    /// Sends `count` numbered packets, `gap` apart.
    fn run(&self, impairment: Impairment, count: u32, gap: Duration, payload_bytes: usize) -> Result<Run> {
        let Scene { a, b, link, dir, .. } = self;
        let files = [dir.join("sent.pcap"), dir.join("received.pcap")];
        let sink = b.run(|| UdpSocket::bind((link.addr(b), PORT)))?;
        sink.set_read_timeout(Some(Duration::from_secs(1)))?;
        // Checksums are looked at when a packet is read.
        let sink = std::thread::spawn(move || while sink.recv(&mut [0; 16]).is_ok() {});
        let sender = a.run(|| UdpSocket::bind((link.addr(a), 0)))?;
        sender.connect((link.addr(b), PORT))?;
        link.impair(b, Impairment::default())?;
        sender.send(&[0; 8])?;
        std::thread::sleep(Duration::from_millis(50));
        link.impair(b, impairment)?;
        let before = [self.packets(a, 10)?, self.packets(b, 2)?, self.bad_checksums()?];
        let dumps = [self.tcpdump(a, &files[0])?, self.tcpdump(b, &files[1])?];
        let mut payload = vec![0; payload_bytes];
        let start = Instant::now();
        for number in 0..count {
            while start.elapsed() < gap * number {
                std::hint::spin_loop();
            }
            payload[..4].copy_from_slice(&number.to_be_bytes());
            sender.send(&payload)?;
        }
        while link.counters(b)?.waiting > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        sink.join().map_err(|_| "the reader has panicked")?;
        for mut dump in dumps {
            dump.signal(2)?;
            dump.wait()?;
        }
        let after = [self.packets(a, 10)?, self.packets(b, 2)?, self.bad_checksums()?];
        let [left, arrived, bad] = [0, 1, 2].map(|at| after[at] - before[at]);
        let corrupted = bad as f64 / arrived as f64;
        let (sent, _) = read(&files[0])?;
        let (received, order) = read(&files[1])?;
        Ok(Run { sent, received, order, payload_bytes, left, arrived, corrupted })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The file of tcpdump with times in nanoseconds, in this machine's byte order.
fn read(file: &Path) -> Result<(Sightings, Vec<u32>)> {
    const MAGIC: u32 = 0xa1b2_3c4d;
    let bytes = std::fs::read(file)?;
    let word =
        |at: usize| bytes.get(at..at + 4).and_then(|word| Some(u32::from_ne_bytes(word.try_into().ok()?)));
    if word(0) != Some(MAGIC) {
        return Err("tcpdump wrote no times in nanoseconds".into());
    }
    let (mut seen, mut order, mut at) = (Sightings::new(), Vec::new(), 24);
    while let (Some(seconds), Some(nanos), Some(len)) = (word(at), word(at + 4), word(at + 8)) {
        let packet = at + 16;
        at = packet + len as usize;
        let Some(number) = bytes.get(packet + NUMBER_AT..packet + NUMBER_AT + 4) else { continue };
        let number = u32::from_be_bytes(number.try_into()?);
        seen.entry(number).or_default().push(u64::from(seconds) * 1_000_000_000 + u64::from(nanos));
        order.push(number);
    }
    Ok((seen, order))
}

impl Run {
    /// By the interfaces' counters; copies that arrive make up for nothing.
    fn lost(&self) -> f64 {
        let copies: usize = self.received.values().map(|times| times.len() - 1).sum();
        1.0 - (self.arrived - copies as u64) as f64 / self.left as f64
    }

    fn duplicated(&self) -> f64 {
        let twice = self.received.values().filter(|times| times.len() > 1).count();
        twice as f64 / self.sent.len() as f64
    }

    /// Packets that came before one that was sent earlier, as a share of what was sent.
    fn overtaking(&self) -> f64 {
        let mut least = u32::MAX;
        let mut overtaking = 0;
        for &number in self.order.iter().rev() {
            overtaking += usize::from(number > least);
            least = least.min(number);
        }
        overtaking as f64 / self.sent.len() as f64
    }

    /// Delays in milliseconds, ascending.
    fn delays_ms(&self) -> Vec<f64> {
        let mut delays: Vec<f64> = self
            .received
            .iter()
            .filter_map(|(number, times)| {
                Some((times.first()?.checked_sub(*self.sent.get(number)?.first()?)?) as f64 / 1e6)
            })
            .collect();
        delays.sort_by(f64::total_cmp);
        delays
    }

    /// Bits a second of Ethernet frames, from the first arrival to the last.
    fn rate(&self) -> f64 {
        let times = || self.received.values().flatten();
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return 0.0 };
        let bits = (times().count() - 1) * (self.payload_bytes + NUMBER_AT) * 8;
        bits as f64 / ((last - first) as f64 / 1e9)
    }
}

impl Scene {
    /// Sends as fast as it can with nobody listening in, and returns what that cost and lost.
    fn blast(&self, count: u32, delay: Duration) -> Result<Cost> {
        let Scene { a, b, link, .. } = self;
        // Nobody reads: what its buffer has no room for is dropped there, behind the interface's counter.
        let _sink = b.run(|| UdpSocket::bind((link.addr(b), PORT)))?;
        let sender = a.run(|| UdpSocket::bind((link.addr(a), 0)))?;
        sender.connect((link.addr(b), PORT))?;
        link.impair(b, Impairment::default())?;
        sender.send(&[0; 8])?;
        std::thread::sleep(Duration::from_millis(50));
        link.impair(b, Impairment::default().delay(delay, Duration::ZERO))?;
        let before = [self.packets(a, 10)?, self.packets(b, 2)?, forwarder_ns()?];
        // A thread of its own, so that its time is the sending's only.
        let sender_ns = std::thread::spawn(move || -> std::io::Result<u64> {
            for _ in 0..count {
                sender.send(&[0; 1472])?;
            }
            on_cpu_ns("/proc/thread-self/schedstat")
        });
        let sender_ns = sender_ns.join().map_err(|_| "the sender has panicked")??;
        while link.counters(b)?.waiting > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let after = [self.packets(a, 10)?, self.packets(b, 2)?, forwarder_ns()?];
        let [left, arrived, forwarder_ns] = [0, 1, 2].map(|at| after[at] - before[at]);
        let counters = link.counters(b)?;
        Ok(Cost {
            forwarder_ns: forwarder_ns as f64 / arrived as f64,
            sender_ns: sender_ns as f64 / f64::from(count),
            unaccounted: i128::from(left) - i128::from(arrived) - i128::from(counters.overrun),
            lost: counters.overrun + counters.uncarried + counters.unsendable,
        })
    }
}

/// What a packet cost, and what became of those that did not arrive.
struct Cost {
    forwarder_ns: f64,
    sender_ns: f64,
    /// Sent, not arrived and counted nowhere.
    unaccounted: i128,
    /// Unasked, and counted.
    lost: u64,
}

/// What the two layers cost, in interleaved rounds. The sender pays for its kernel's way up to the forwarder's interface, the
/// forwarder for the way from its own memory up to the receiver's socket; with a delay it also pays for waiting awake.
fn layers(count: u32) -> Result<()> {
    const ROUNDS: usize = 5;
    let scenes = [Scene::new(PacketLayer::Packet)?, Scene::new(PacketLayer::Xdp)?];
    for delay in [Duration::ZERO, Duration::from_millis(100)] {
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (scene, costs) in scenes.iter().zip(&mut costs) {
                costs.push(scene.blast(count, delay)?);
            }
        }
        for (scene, costs) in scenes.iter().zip(&costs) {
            let measured = format!(
                "CPU ns a packet: forwarder {}, sender {}, both {}",
                spread(costs, |cost| cost.forwarder_ns),
                spread(costs, |cost| cost.sender_ns),
                spread(costs, |cost| cost.forwarder_ns + cost.sender_ns)
            );
            let lost: u64 = costs.iter().map(|cost| cost.lost).sum();
            let unaccounted: i128 = costs.iter().map(|cost| cost.unaccounted).sum();
            let why = scene.link.packet_layer_refusal().map(|error| format!(" ({})", error.what));
            println!(
                "| layer {:?}{} | all the sender can, delay {delay:?}, {ROUNDS} rounds | {measured} | lost {lost}, not counted {unaccounted} |",
                scene.link.packet_layer(),
                why.unwrap_or_default()
            );
        }
    }
    Ok(())
}

/// Median and range.
fn spread(costs: &[Cost], cost: fn(&Cost) -> f64) -> String {
    let mut sorted: Vec<f64> = costs.iter().map(cost).collect();
    sorted.sort_by(f64::total_cmp);
    format!("{:.0} [{:.0}..{:.0}]", at(&sorted, 0.5), sorted[0], at(&sorted, 1.0))
}

fn on_cpu_ns(schedstat: impl AsRef<Path>) -> std::io::Result<u64> {
    let spent = std::fs::read_to_string(schedstat)?;
    let ns = spent.split_whitespace().next().and_then(|ns| ns.parse().ok());
    ns.ok_or_else(|| std::io::Error::other("no schedstat"))
}

/// CPU time of the forwarder's thread, with what its sends cost the receiving kernel and with its own waiting awake.
fn forwarder_ns() -> Result<u64> {
    let mut total_ns = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm"))?.starts_with("ringwire-cable") {
            total_ns += on_cpu_ns(task.join("schedstat"))?;
        }
    }
    Ok(total_ns)
}

fn at(sorted: &[f64], quantile: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * quantile) as usize]
}

fn row(name: &str, asked: &str, measured: &str, scene: &Scene) -> Result<()> {
    let (counters, late) = (scene.link.counters(&scene.b)?, scene.link.lateness(&scene.b)?);
    println!(
        "| {name} | {asked} | {measured} | received {} passed {} dropped {} overrun {}; late p50 {:?} p99 {:?} |",
        counters.received, counters.passed, counters.dropped, counters.overrun, late.p50, late.p99
    );
    Ok(())
}

fn main() -> Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(100_000), |count| count.parse())?;
    let scene = Scene::new(PacketLayer::Packet)?;
    println!("| impairment | asked | measured at both ends | the forwarder's own books |\n|---|---|---|---|");
    match std::env::args().nth(2).as_deref() {
        Some("losses") => losses(&scene, count),
        Some("delays") => delays(&scene, count),
        Some("rates") => rates(&scene, count),
        Some("layers") => layers(count),
        _ => {
            losses(&scene, count)?;
            delays(&scene, count)?;
            rates(&scene, count)?;
            layers(count)
        }
    }
}

fn losses(scene: &Scene, count: u32) -> Result<()> {
    let seeded = Impairment::default().seed(7);
    for (name, asked, impairment) in [
        ("none", "nothing", seeded),
        ("loss", "5 %", seeded.loss(0.05)),
        ("loss_gemodel", "p 1 %, r 20 %: 4.762 %", seeded.loss_gemodel(0.01, 0.2)),
        ("duplicate", "2 %", seeded.duplicate(0.02)),
        ("corrupt", "2 %", seeded.corrupt(0.02)),
    ] {
        let run = scene.run(impairment, count, SLOW, 200)?;
        let [lost, copies, corrupt] =
            [run.lost(), run.duplicated(), run.corrupted].map(|share| share * 100.0);
        let measured = format!("lost {lost:.3} %, twice {copies:.3} %, bad checksum {corrupt:.3} %");
        row(name, asked, &measured, scene)?;
    }
    Ok(())
}

fn delays(scene: &Scene, count: u32) -> Result<()> {
    let (delay, jitter) = (Duration::from_millis(10), Duration::from_millis(2));
    for (name, jitter, distribution, asked) in [
        ("delay", Duration::ZERO, Distribution::Uniform, "10 ms"),
        ("delay, uniform", jitter, Distribution::Uniform, "p1 8.04, p50 10, p99 11.96 ms"),
        ("delay, normal", jitter, Distribution::Normal, "p1 5.35, p50 10, p99 14.65 ms"),
        ("delay, pareto", jitter, Distribution::Pareto, "p1 8.85, p50 9.45, p99 17.26 ms"),
    ] {
        let impairment = Impairment::default().delay(delay, jitter).distribution(distribution).seed(7);
        let run = scene.run(impairment, count, SLOW, 200)?;
        let delays = run.delays_ms();
        let [p1, p50, p99, max] = [0.01, 0.5, 0.99, 1.0].map(|quantile| at(&delays, quantile));
        let measured = format!(
            "p1 {p1:.3}, p50 {p50:.3}, p99 {p99:.3}, max {max:.3} ms; lost {:.3} %",
            run.lost() * 100.0
        );
        row(name, asked, &measured, scene)?;
    }
    let impairment = Impairment::default().delay(delay, Duration::ZERO).reorder(0.25, 1).seed(7);
    let run = scene.run(impairment, count, SLOW, 200)?;
    row(
        "reorder",
        "25 % past a delay of 10 ms",
        &format!("{:.3} % overtook", run.overtaking() * 100.0),
        scene,
    )
}

fn rates(scene: &Scene, count: u32) -> Result<()> {
    let impairment = Impairment::default().rate(100_000_000, 16_000);
    let run = scene.run(impairment, count, Duration::from_micros(75), 1000)?;
    let measured = format!("{:.3} Mbit/s, lost {:.3} %", run.rate() / 1e6, run.lost() * 100.0);
    row("rate", "100 Mbit/s", &measured, scene)?;

    let delay = Duration::from_millis(100);
    let gap = Duration::from_nanos(11_500);
    let before = forwarder_ns()?;
    let run = scene.run(Impairment::default().delay(delay, Duration::ZERO), count, gap, 1472)?;
    let cpu_us = (forwarder_ns()? - before) as f64 / 1e3 / f64::from(count);
    let delays = run.delays_ms();
    let [p50, p99] = [0.5, 0.99].map(|quantile| at(&delays, quantile));
    let measured = format!(
        "{:.3} Gbit/s, lost {:.3} %, p50 {p50:.3}, p99 {p99:.3} ms, {cpu_us:.2} us of CPU a packet",
        run.rate() / 1e9,
        run.lost() * 100.0
    );
    row("throughput", "1.05 Gbit/s, MTU 1500, delay 100 ms", &measured, scene)?;

    // As fast as the sender can, so that the forwarder never waits; CPU time, so that other programs do not count.
    let before = forwarder_ns()?;
    scene.run(Impairment::default().delay(delay, Duration::ZERO), count, Duration::ZERO, 1472)?;
    let (spent_ns, passed) = (forwarder_ns()? - before, scene.link.counters(&scene.b)?.passed);
    let bits = passed * (1472 + NUMBER_AT as u64) * 8;
    let measured = format!(
        "{:.3} Gbit in each second of its CPU, {:.2} us a packet",
        bits as f64 / spent_ns as f64,
        spent_ns as f64 / 1e3 / passed as f64
    );
    row("capacity", "all that one core can, delay 100 ms", &measured, scene)
}
