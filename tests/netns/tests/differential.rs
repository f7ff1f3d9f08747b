//! The same odd packets to the Linux kernel and to Ringwire, on one link: their replies are compared.
//!
//! Both ends are in one node: the kernel under its own address, the engine under one of its own; the peer is played by hand. What each
//! row of `differences.txt` explains may differ; every other difference fails, and so does a row that explains nothing any more.

use std::net::{IpAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use ringwire::{Event, Worker};
use ringwire_lab::{Dissected, Field, Macs, RawPort, Segment, Value, tcp_options as options};
use ringwire_netns::{Addressing, App, Scene, Service, kernel, within};

const LIMIT: Duration = Duration::from_secs(120);
const DIFFERENCES: &str = include_str!("differences.txt");
/// Longer than a delayed ACK, shorter than any retransmission.
const PATIENCE: Duration = Duration::from_millis(100);
/// A core may be taken away for longer than that.
const ATTEMPTS: usize = 3;
/// What the engine listens on; the kernel chooses for itself.
const PORT: u16 = 9000;
const CLOSED_PORT: u16 = 9;
const ISS: u32 = 100_000;

/// What stands before the odd packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nobody listens.
    Nothing,
    Listener,
    /// A SYN, and the answer to it.
    HalfOpen,
    /// A connection on which nothing was sent.
    Connection,
}

/// An odd packet: numbers are relative to those that would be right.
#[derive(Debug, Clone)]
struct Odd {
    before: Before,
    name: &'static str,
    flags: &'static str,
    seq: i64,
    ack: i64,
    options: Vec<u8>,
    payload: Vec<u8>,
    /// Done to the frame at last; checksums are not mended.
    spoil: fn(&mut Vec<u8>),
}

fn odd(before: Before, name: &'static str, flags: &'static str) -> Odd {
    let (options, payload) = (Vec::new(), Vec::new());
    Odd { before, name, flags, seq: 0, ack: 0, options, payload, spoil: |_| {} }
}

impl Odd {
    fn at(self, seq: i64, ack: i64) -> Odd {
        Odd { seq, ack, ..self }
    }

    fn options(self, options: &[u8]) -> Odd {
        Odd { options: options.to_vec(), ..self }
    }

    fn text(self, len: usize) -> Odd {
        Odd { payload: vec![0x55; len], ..self }
    }

    fn spoilt(self, spoil: fn(&mut Vec<u8>)) -> Odd {
        Odd { spoil, ..self }
    }
}

/// Section by section of the project's list of malformed input and attacks, as far as one packet can show it.
fn odd_packets() -> Vec<Odd> {
    let everywhere = [Before::Nothing, Before::Listener, Before::Connection].into_iter().flat_map(to_anybody);
    everywhere.chain(to_nobody_or_a_listener()).chain(to_a_half_open_one()).chain(to_a_connection()).collect()
}

fn to_anybody(before: Before) -> Vec<Odd> {
    vec![
        odd(before, "no flags", ""),
        odd(before, "all of FIN PSH URG", "FPU"),
        odd(before, "SYN FIN", "SF"),
        odd(before, "SYN RST", "SR"),
        odd(before, "a lone FIN", "F"),
        odd(before, "a lone RST", "R"),
        odd(before, "RST ACK", "RA"),
        odd(before, "every flag", "FSRPAU"),
        odd(before, "a wrong TCP checksum", "A").text(4).spoilt(|frame| frame[14 + 20 + 16] ^= 0x40),
        odd(before, "a data offset of four", "A").spoilt(|frame| frame[14 + 20 + 12] = 0x40),
        odd(before, "a data offset behind the end", "A").spoilt(|frame| frame[14 + 20 + 12] = 0xf0),
        odd(before, "an IP header of four words", "A").spoilt(|frame| frame[14] = 0x44),
        odd(before, "a total length behind the end", "A").spoilt(|frame| frame[16] = 4),
        odd(before, "a wrong IP checksum", "A").spoilt(|frame| frame[24] ^= 0x40),
        odd(before, "IP version 5", "A").spoilt(|frame| frame[14] = 0x55),
    ]
}

fn to_nobody_or_a_listener() -> Vec<Odd> {
    use Before::{Listener, Nothing};
    vec![
        odd(Nothing, "SYN", "S"),
        odd(Nothing, "ACK", "A"),
        odd(Nothing, "FIN ACK with text", "FA").text(10),
        odd(Listener, "ACK", "A"),
        odd(Listener, "SYN ACK", "SA"),
        odd(Listener, "SYN with text", "S").text(10),
        odd(Listener, "SYN with an option of length 0", "S").options(&[2, 0, 5, 180]),
        odd(Listener, "SYN with an option of length 1", "S").options(&[2, 1, 5, 180]),
        odd(Listener, "SYN with an option behind the end", "S").options(&[1, 1, 2, 40]),
        odd(Listener, "SYN with MSS 0", "S").options(&options::mss(0)),
        odd(Listener, "SYN with a scale of 200", "S").options(&options::window_scale(200)),
        odd(Listener, "SYN PSH URG", "SPU"),
    ]
}

fn to_a_half_open_one() -> Vec<Odd> {
    use Before::HalfOpen;
    vec![
        odd(HalfOpen, "RST in order", "R"),
        odd(HalfOpen, "RST in the window", "R").at(10, 0),
        odd(HalfOpen, "RST outside the window", "R").at(-10, 0),
        odd(HalfOpen, "the SYN again", "S").at(-1, 0),
        odd(HalfOpen, "another SYN", "S").at(5_000, 0),
        odd(HalfOpen, "ACK of nothing", "A").at(0, -1),
        odd(HalfOpen, "ACK of the future", "A").at(0, 10),
        odd(HalfOpen, "ACK with text", "A").text(10),
        odd(HalfOpen, "FIN ACK", "FA"),
        odd(HalfOpen, "no flags", ""),
    ]
}

fn to_a_connection() -> Vec<Odd> {
    use Before::Connection;
    vec![
        odd(Connection, "RST in the window", "R").at(10, 0),
        odd(Connection, "RST before the window", "R").at(-10, 0),
        odd(Connection, "RST far away", "R").at(1 << 30, 0),
        odd(Connection, "SYN in the window", "S").at(10, 0),
        odd(Connection, "SYN before the window", "S").at(-1, 0),
        odd(Connection, "SYN far away", "S").at(1 << 30, 0),
        odd(Connection, "SYN ACK", "SA").at(-1, 0),
        odd(Connection, "ACK of the future", "A").at(0, 1000),
        odd(Connection, "text with an ACK of the future", "A").at(0, 1000).text(10),
        odd(Connection, "text with an old ACK", "A").at(0, -(1 << 30)).text(10),
        odd(Connection, "text without ACK", "").text(10),
        odd(Connection, "text behind the window", "A").at(1 << 28, 0).text(10),
        odd(Connection, "old text", "A").at(-10, 0).text(10),
        odd(Connection, "text half old", "A").at(-5, 0).text(10),
        odd(Connection, "text ahead of a gap", "A").at(100, 0).text(10),
        odd(Connection, "a keepalive without text", "A").at(-1, 0),
        odd(Connection, "a keepalive with a byte", "A").at(-1, 0).text(1),
        odd(Connection, "URG without text", "UA"),
        odd(Connection, "URG with text", "UA").text(10),
        odd(Connection, "FIN", "FA"),
        odd(Connection, "FIN with text", "FA").text(10),
        odd(Connection, "FIN ahead of a gap", "FA").at(100, 0),
        odd(Connection, "FIN behind the window", "FA").at(1 << 28, 0),
        odd(Connection, "an option of length 0", "A").options(&[8, 0, 0, 0]).text(10),
        odd(Connection, "an option behind the end", "A").options(&[1, 1, 5, 34]).text(10),
        odd(Connection, "SACK of nothing", "A").options(&options::sack(&[(7, 7)])),
        odd(Connection, "SACK backwards", "A").options(&options::sack(&[(900, 7)])),
        odd(Connection, "options of a SYN", "A").options(&options::mss(100)).text(10),
    ]
}

/// Who is asked.
struct Target {
    macs: Macs,
    local: std::net::Ipv4Addr,
    listener: SocketAddrV4,
}

/// A connection played by hand.
struct Play {
    macs: Macs,
    src: SocketAddrV4,
    dst: SocketAddrV4,
    snd_nxt: u32,
    rcv_nxt: u32,
    /// What came back, in words.
    said: Vec<String>,
}

impl Play {
    fn new(target: &Target, before: Before, local_port: u16) -> Play {
        let mut dst = target.listener;
        if before == Before::Nothing {
            dst.set_port(CLOSED_PORT);
        }
        let src = SocketAddrV4::new(target.local, local_port);
        Play { macs: target.macs, src, dst, snd_nxt: ISS, rcv_nxt: 0, said: Vec::new() }
    }

    fn segment(&self, flags: &str) -> Segment {
        Segment { seq: self.snd_nxt, ack: self.rcv_nxt, ..Segment::new(self.src, self.dst, flags) }
    }

    /// SYN and its answer.
    fn open(&mut self, port: &mut RawPort) {
        let syn = Segment { options: options::mss(1460), ..self.segment("S") };
        port.send(syn.frame(self.macs));
        self.snd_nxt = self.snd_nxt.wrapping_add(1);
        let deadline = Instant::now() + Duration::from_secs(2);
        while let Some(packet) = port.recv(deadline.saturating_duration_since(Instant::now())) {
            if self.is_mine(&packet) && packet.number(Field::TcpAck) == u64::from(self.snd_nxt) {
                self.rcv_nxt = (packet.number(Field::TcpSeq) as u32).wrapping_add(1);
                return;
            }
        }
        self.said.push("no connection".to_owned());
    }

    fn send_odd(&mut self, port: &mut RawPort, odd: &Odd) {
        let mut segment = self.segment(odd.flags);
        segment.seq = segment.seq.wrapping_add(odd.seq as u32);
        segment.ack = segment.ack.wrapping_add(odd.ack as u32);
        (segment.options, segment.payload) = (odd.options.clone(), odd.payload.clone());
        let mut frame = segment.frame(self.macs);
        (odd.spoil)(&mut frame);
        port.send(frame);
    }

    fn is_mine(&self, packet: &Dissected) -> bool {
        let is_from = packet.get(Field::IpSrc) == Some(&Value::Ip(IpAddr::V4(*self.dst.ip())));
        let is_tcp = packet.get(Field::TcpSeq).is_some();
        let is_of_ports = packet.number(Field::DstPort) == u64::from(self.src.port());
        is_from && (!is_tcp || is_of_ports)
    }

    /// Numbers are relative to those that would be right.
    fn words(&self, packet: &Dissected) -> Option<String> {
        let flags = match packet.get(Field::TcpFlags) {
            Some(flags) => flags.to_string(),
            None if packet.get(Field::IcmpType).is_some() => {
                return Some(format!("ICMP {}", packet.number(Field::IcmpType)));
            }
            None => return None,
        };
        let (seq, ack) = (packet.number(Field::TcpSeq) as u32, packet.number(Field::TcpAck) as u32);
        let relative = |number: u32, base: u32| number.wrapping_sub(base).cast_signed();
        let seq = match seq {
            _ if flags.contains('S') => String::new(),
            // RFC 9293 3.10.7.1: of a reset for a segment without ACK.
            0 => " seq zero".to_owned(),
            seq => format!(" seq {}", relative(seq, self.rcv_nxt)),
        };
        let ack =
            if flags.contains('A') { format!(" ack {}", relative(ack, self.snd_nxt)) } else { String::new() };
        Some(format!("{flags}{seq}{ack}"))
    }
}

/// What comes back to each, for a while.
fn listen(port: &mut RawPort, plays: &mut [Play; 2]) {
    let before = plays.each_ref().map(|play| play.said.len());
    let deadline = Instant::now() + PATIENCE;
    while let Some(packet) = port.recv(deadline.saturating_duration_since(Instant::now())) {
        for play in plays.iter_mut().filter(|play| play.is_mine(&packet)) {
            let words = play.words(&packet);
            play.said.extend(words);
        }
    }
    for (play, before) in plays.iter_mut().zip(before) {
        if play.said.len() == before {
            play.said.push("silence".to_owned());
        }
    }
}

/// The replies of both to one odd packet, and to ten bytes in order after it where there is a connection.
fn ask(port: &mut RawPort, targets: &[Target; 2], odd: &Odd, local_port: u16) -> (String, String) {
    let mut plays = targets.each_ref().map(|target| Play::new(target, odd.before, local_port));
    for play in &mut plays {
        if matches!(odd.before, Before::HalfOpen | Before::Connection) {
            play.open(port);
        }
        if odd.before == Before::Connection {
            port.send(play.segment("A").frame(play.macs));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    plays.iter_mut().for_each(|play| play.send_odd(port, odd));
    listen(port, &mut plays);
    if odd.before == Before::Connection {
        for play in &mut plays {
            play.said.push("then".to_owned());
            let text = Segment { payload: vec![0x66; 10], ..play.segment("A") };
            port.send(text.frame(play.macs));
        }
        listen(port, &mut plays);
    }
    plays.iter().for_each(|play| port.send(play.segment("R").frame(play.macs)));
    let [linux, ringwire] = plays.map(|play| play.said.join(", "));
    (linux, ringwire)
}

/// Accepts, and leaves it at that, as a kernel's listener that nobody asks does.
struct Idle;

impl App for Idle {
    fn on_event(&mut self, _worker: &mut Worker, _event: Event) {}
}

/// A row of the table: what differs, and why it may.
#[derive(Debug, PartialEq, Eq)]
struct Difference<'a> {
    name: &'a str,
    linux: &'a str,
    ringwire: &'a str,
}

fn known() -> Vec<Difference<'static>> {
    let rows = DIFFERENCES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let columns = rows.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    columns
        .map(|columns| match columns[..] {
            [name, linux, ringwire, reason] if !reason.is_empty() => Difference { name, linux, ringwire },
            _ => panic!("not a row of four columns: {columns:?}"),
        })
        .collect()
}

#[test]
fn linux_and_ringwire_answer_odd_packets_alike() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Dedicated)
            .may_repeat("odd packets are answered by duplicates, and what they ask for comes again");
        let addr = scene.at(PORT);
        let service = Service::start(scene.engine(), move |worker| {
            worker.listen(addr, &ringwire::TcpOptions::default()).expect("a listener");
            Idle
        });
        let (_listener, kernel_addr) = kernel::listen(&scene.host, scene.link.addr(&scene.host));
        let mut port = scene.peer.raw(&scene.link).expect("a raw port");
        let local = port.spare_addr();
        port.answer_arp(local);
        let targets = [kernel_addr, addr].map(|addr| {
            let std::net::SocketAddr::V4(listener) = addr else { panic!("the lab's addresses are IPv4") };
            let dst = port.resolve(local, *listener.ip()).expect("a neighbour");
            Target { macs: Macs { src: port.mac(), dst }, local, listener }
        });
        let known = known();
        let (mut next_port, mut wrong, mut met, mut answered) = (20_000, Vec::new(), Vec::new(), 0);
        for odd in odd_packets() {
            let name = format!("{:?}: {}", odd.before, odd.name);
            let mut said = (String::new(), String::new());
            for _ in 0..ATTEMPTS {
                next_port += 1;
                said = ask(&mut port, &targets, &odd, next_port);
                let row = known.iter().find(|row| row.name == name);
                let as_known = row.is_some_and(|row| (row.linux, row.ringwire) == (&*said.0, &*said.1));
                if as_known || (row.is_none() && said.0 == said.1) {
                    break;
                }
            }
            let (linux, ringwire) = (&*said.0, &*said.1);
            println!("{name}: {linux}");
            answered += usize::from(!linux.starts_with("silence"));
            match known.iter().find(|row| row.name == name) {
                Some(row) if (row.linux, row.ringwire) == (linux, ringwire) => met.push(name),
                None if linux == ringwire => {}
                _ => wrong.push(format!("{name} | {linux} | {ringwire} | ")),
            }
        }
        let stale = known.iter().filter(|row| !met.iter().any(|name| name == row.name));
        wrong.extend(stale.map(|row| format!("the table has, and it did not come: {row:?}")));
        assert!(answered >= 30, "{answered} answers: the packets do not arrive");
        assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
        drop(port);
        service.finish();
    });
}
