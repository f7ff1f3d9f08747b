//! Garbage on the wire changes nothing but drop counters, and a connection beside it goes on.
//!
//! ```text
//!   client engine -- MemPort -- Wire -- MemPort -- server engine
//!                                 ^ garbage towards the server
//! ```
//! Every packet below is broken in a way that is certain: cut short, with a checksum that does not fit, or a piece of one whose rest
//! never comes.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use ringwire::frame::{Class, FarEnd, Floors, FrameState, Geometry, Pool, Port};
use ringwire::{
    Conn, DropReason, Engine, Event, Events, Interface, Metrics, Recv, TcpOptions, UdpOptions, Worker,
};
use ringwire_netns::{Addressing, Echo, Pattern, Scene, Service, kernel, options, within};
use ringwire_wire::checksum::Sum;
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::ipv4::{self, Protocol};
use ringwire_wire::tcp::{self, Flags};
use ringwire_wire::{arp, udp};
use ringwire_xsk::{Umem, UmemOptions, XskConfig, XskPort};

const LIMIT: Duration = Duration::from_secs(60);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const GARBAGE_PACKETS: usize = 30_000;
const PORT: u16 = 7;

/// Broken packets without end, a function of a seed.
struct Garbage {
    random: Pattern,
    templates: Vec<Vec<u8>>,
    number: usize,
}

/// Who the good packets are between.
struct Target {
    mac: Mac,
    peer_mac: Mac,
    ip: Ipv4Addr,
    peer: Ipv4Addr,
    /// Of the connection that goes on beside.
    peer_port: u16,
}

impl Garbage {
    fn new(seed: u64, target: &Target) -> Garbage {
        let mut templates: Vec<Vec<u8>> = [Flags::SYN, Flags::ACK, Flags::RST, Flags::FIN | Flags::ACK]
            .into_iter()
            .map(|flags| target.tcp(flags))
            .collect();
        templates.extend([target.udp(), target.icmp(), target.arp()]);
        Garbage { random: Pattern::new(seed, u64::MAX), templates, number: 0 }
    }

    fn random(&mut self) -> usize {
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes);
        u32::from_ne_bytes(bytes) as usize
    }

    /// In turn: cut at every length; one field random; all fields random behind the Ethernet header; noise.
    fn next(&mut self) -> Vec<u8> {
        let number = self.number;
        self.number += 1;
        let template = number / 4 % self.templates.len();
        let mut packet = self.templates[template].clone();
        let is_arp = packet[12..14] == [0x08, 0x06];
        match number % 4 {
            0 => packet.truncate(number / 4 / self.templates.len() % packet.len()),
            // One byte of what the checksums cover; ARP has none, there the header's fixed part is spoilt.
            1 => {
                let covered = if is_arp { 14..20 } else { 14..packet.len() };
                let at = covered.start + self.random() % covered.len();
                packet[at] ^= 1 + (self.random() % 255) as u8;
            }
            2 => {
                self.random.fill(&mut packet[14..]);
                if is_arp {
                    // No hardware type that exists.
                    packet[14] = 0xff;
                }
            }
            _ => {
                let len = self.random() % 1500;
                packet = vec![0; len];
                self.random.fill(&mut packet);
            }
        }
        packet
    }
}

impl Target {
    fn eth(&self, ethertype: EtherType) -> Vec<u8> {
        let mut header = [0; eth::HEADER_LEN];
        eth::Header { dst: self.mac, src: self.peer_mac, ethertype }.emit(&mut header);
        header.to_vec()
    }

    fn ipv4(&self, protocol: Protocol, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; ipv4::HEADER_LEN];
        let ip = ipv4::Header {
            src: self.peer,
            dst: self.ip,
            protocol,
            tos: 0,
            ttl: 64,
            id: 1,
            dont_fragment: true,
            payload_len: payload.len() as u16,
        };
        ip.emit(&mut header);
        [&self.eth(EtherType::IPV4)[..], &header, payload].concat()
    }

    fn pseudo(&self, protocol: Protocol, len: usize) -> Sum {
        Sum::pseudo_v4(self.peer, self.ip, protocol, len as u16)
    }

    /// With every option, and in the tuple of the connection beside.
    fn tcp(&self, flags: Flags) -> Vec<u8> {
        let options = tcp::Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(tcp::Timestamps { value: 1, echo: 2 }),
            ..tcp::Options::default()
        };
        let header = tcp::Header {
            src_port: self.peer_port,
            dst_port: PORT,
            seq: 12345,
            ack: 54321,
            flags,
            window: 1000,
            urgent: 0,
        };
        let text = b"garbage for a connection";
        let mut segment = [0; tcp::MAX_HEADER_LEN];
        let len = tcp::HEADER_LEN + options.encoded_len() + text.len();
        let sum = self.pseudo(Protocol::TCP, len) + Sum::of(text);
        let head_len = header.emit(&options, sum, &mut segment);
        self.ipv4(Protocol::TCP, &[&segment[..head_len], text].concat())
    }

    fn udp(&self) -> Vec<u8> {
        let text = b"garbage for a socket";
        let mut header = [0; udp::HEADER_LEN];
        let sum = self.pseudo(Protocol::UDP, udp::HEADER_LEN + text.len()) + Sum::of(text);
        let datagram = udp::Header { src_port: 9, dst_port: PORT, len: text.len() as u16 };
        datagram.emit(&mut header, sum);
        self.ipv4(Protocol::UDP, &[&header[..], text].concat())
    }

    /// An echo request.
    fn icmp(&self) -> Vec<u8> {
        let mut message = b"\x08\x00\x00\x00\x00\x01\x00\x01anybody there?".to_vec();
        let checksum = Sum::of(&message).finish();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        self.ipv4(Protocol::ICMP, &message)
    }

    fn arp(&self) -> Vec<u8> {
        let request = arp::Packet {
            op: arp::Op::Request,
            sender_mac: self.peer_mac,
            sender_ip: self.peer,
            target_mac: Mac([0; 6]),
            target_ip: self.ip,
        };
        let mut body = [0; 28];
        request.emit(&mut body);
        [&self.eth(EtherType::ARP)[..], &body].concat()
    }
}

/// What joins the two engines, and where the garbage comes in.
struct Wire {
    ends: Vec<FarEnd>,
}

impl Wire {
    fn new() -> Wire {
        Wire { ends: Vec::new() }
    }

    /// An engine at the next end.
    fn engine(&mut self, ip: Ipv4Addr) -> Worker {
        let interface = Interface::new("memory").address(format!("{ip}/24").parse().expect("an address"));
        let mut end = FarEnd::new(256, 512);
        let engine = Engine::builder().interface(interface).start_on(|pool| end.attach(pool));
        self.ends.push(end);
        engine.expect("an engine in memory").into_workers().remove(0).start()
    }

    /// From each end to the other one, which takes it in its next turn.
    fn relay(&mut self) {
        for from in 0..self.ends.len() {
            let mut frames = Vec::new();
            self.ends[from].take(|frame| frames.push(frame.to_vec()));
            for frame in frames {
                self.put(1 - from, &frame);
            }
        }
    }

    fn put(&mut self, to: usize, bytes: &[u8]) {
        self.ends[to].put(bytes).expect("the other end has taken what was put before");
    }
}

/// A client that sends a pattern, a server that sends it back.
struct Conversation {
    server: Worker,
    client: Worker,
    events: Events,
    conn: Conn,
    outgoing: Pattern,
    chunk: Vec<u8>,
    received: Vec<u8>,
}

impl Conversation {
    fn start(wire: &mut Wire) -> Conversation {
        let (mut server, mut client) = (wire.engine(SERVER), wire.engine(CLIENT));
        server.listen((SERVER, PORT).into(), &TcpOptions::default()).expect("a free port");
        server.bind_udp((SERVER, PORT).into(), &UdpOptions::default()).expect("a free port");
        let conn = client.connect((SERVER, PORT).into(), &TcpOptions::default()).expect("a route");
        let outgoing = Pattern::new(1, u64::MAX);
        let events = Events::with_capacity(64);
        Conversation { server, client, events, conn, outgoing, chunk: Vec::new(), received: Vec::new() }
    }

    /// A turn of each; no connection may end.
    fn turn(&mut self, wire: &mut Wire) {
        wire.relay();
        self.server.poll(&mut self.events, Some(Duration::ZERO)).expect("a turn");
        for event in self.events.drain() {
            match event {
                Event::Readable(conn) => {
                    while let Ok(Recv::Data(piece)) = self.server.recv(conn) {
                        self.server.send_buf(conn, piece.into_tx()).expect("room for what is under way");
                    }
                }
                Event::Closed { reason, .. } => panic!("the server's connection ended: {reason:?}"),
                Event::Datagrams(_) => panic!("garbage reached the datagram socket"),
                _ => {}
            }
        }
        wire.relay();
        self.client.poll(&mut self.events, Some(Duration::ZERO)).expect("a turn");
        let before = self.received.len();
        let mut answer_bytes = 0;
        for event in self.events.drain() {
            match event {
                Event::Connected(conn) if conn == self.conn => answer_bytes = 1000,
                Event::Readable(conn) => {
                    while let Ok(Recv::Data(piece)) = self.client.recv(conn) {
                        self.received.extend_from_slice(&piece);
                    }
                }
                Event::Closed { reason, .. } => panic!("the client's connection ended: {reason:?}"),
                _ => {}
            }
        }
        // As much again as has come back: the same amount is always under way.
        answer_bytes += self.received.len() - before;
        if answer_bytes > 0 {
            self.send(answer_bytes);
        }
    }

    /// The next bytes of the pattern.
    fn send(&mut self, len: usize) {
        self.chunk.resize(len, 0);
        self.outgoing.fill(&mut self.chunk);
        assert_eq!(self.client.send(self.conn, &self.chunk), Ok(len));
    }

    /// What came back is what was sent.
    fn check(&self) {
        let mut expected = vec![0; self.received.len()];
        Pattern::new(1, u64::MAX).fill(&mut expected);
        assert!(self.received == expected, "the stream is spoilt");
    }
}

#[test]
fn garbage_in_memory_changes_nothing_but_drop_counters() {
    within(LIMIT, || {
        let mut wire = Wire::new();
        let mut talk = Conversation::start(&mut wire);
        while talk.received.len() < 10_000 {
            talk.turn(&mut wire);
        }
        let (_, peer) = (talk.server.id(), talk.client.addrs(talk.conn).expect("it is open").0);
        let mac = |ip: Ipv4Addr| {
            let [a, b, c, d] = ip.octets();
            Mac([0x02, 0x00, a, b, c, d])
        };
        let target = Target {
            mac: mac(SERVER),
            peer_mac: mac(CLIENT),
            ip: SERVER,
            peer: CLIENT,
            peer_port: peer.port(),
        };
        let mut garbage = Garbage::new(7, &target);
        let before = (talk.server.counters().clone(), talk.received.len());
        for _ in 0..GARBAGE_PACKETS / 10 {
            for _ in 0..10 {
                wire.put(0, &garbage.next());
            }
            talk.turn(&mut wire);
        }
        let (now, received) = (talk.server.counters().clone(), talk.received.len());
        println!("{} bytes came back beside {GARBAGE_PACKETS} broken packets\n{now:?}", received - before.1);
        assert!(received - before.1 > 500_000, "the connection beside stands still");
        talk.check();
        let before = before.0;
        assert_eq!(now.connections, 1);
        assert_eq!(
            (
                now.accepted,
                now.closed,
                now.resets_sent,
                now.connected,
                now.protocol_errors,
                now.port_rx_dropped
            ),
            (before.accepted, before.closed, before.resets_sent, before.connected, 0, 0)
        );
        // What was delivered is the conversation; the rest, all the garbage, was dropped.
        let undelivered = (now.rx_packets - now.delivered) - (before.rx_packets - before.delivered);
        assert!(
            undelivered >= GARBAGE_PACKETS as u64,
            "{undelivered} of {GARBAGE_PACKETS} were not delivered"
        );
        assert_eq!(talk.server.frame_counts().of(FrameState::App), 0, "garbage is held by a socket");
        assert!(talk.server.frame_counts().check());
        // New connections are taken as before.
        let second = talk.client.connect((SERVER, PORT).into(), &TcpOptions::default()).expect("a route");
        while !talk.client.tcp_info(second).is_ok_and(|info| info.state == ringwire::TcpState::Established) {
            talk.turn(&mut wire);
        }
    });
}

#[test]
fn garbage_over_veth_changes_nothing_but_drop_counters() {
    beside_an_echo(|target| {
        let mut garbage = Garbage::new(8, target);
        move || garbage.next()
    });
}

/// FragmentSmack (CVE-2018-5391): pieces of segments of that connection and of datagrams, each of another packet, none of them complete.
#[test]
fn a_flood_of_fragments_over_veth_leaves_a_connection_alone() {
    let (before, after) = beside_an_echo(|target| {
        let whole = [target.tcp(Flags::ACK), target.udp()];
        let mut number = 0_u16;
        move || {
            number = number.wrapping_add(1);
            let mut piece = whole[usize::from(number % 2)].clone();
            let ip = &mut piece[eth::HEADER_LEN..];
            ip[4..6].copy_from_slice(&number.to_be_bytes());
            // More fragments, and anywhere in 64 KB.
            ip[6..8].copy_from_slice(&(0x2000 | (number % 0x1fff)).to_be_bytes());
            ip[10..12].fill(0);
            let checksum = Sum::of(&ip[..ipv4::HEADER_LEN]).finish();
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            piece
        }
    });
    let dropped = |metrics: &Metrics| metrics.dropped(DropReason::IpFragment);
    assert!(dropped(&after) - dropped(&before) >= 10_000, "{after}");
}

/// Packets without end towards a server whose client is the kernel: the exchange goes on, and no connection comes or goes. What the
/// counters said before and after.
fn beside_an_echo<P>(packets: impl Fn(&Target) -> P + Send + Sync + 'static) -> (Metrics, Metrics)
where
    P: FnMut() -> Vec<u8> + Send,
{
    let (counted, counts) = channel();
    within(LIMIT, move || {
        let scene = Scene::new(Addressing::Dedicated);
        let addr = scene.at(PORT);
        let service = Service::start(scene.engine(), move |worker| {
            (Echo::tcp(worker, addr, &options()), Echo::udp(worker, addr))
        });
        let stream = kernel::connect(&scene.peer, addr).expect("a connection");
        let pattern = Pattern::new(3, 2_000_000);
        let first = Pattern::new(2, 10_000);
        assert_eq!(kernel::exchange_in_turns(&stream, &first).expect("an echo"), first.digest());
        let (std::net::IpAddr::V4(ip), std::net::IpAddr::V4(peer)) = (scene.ip(), scene.peer_ip()) else {
            panic!("IPv4")
        };
        let target = Target {
            mac: Mac(scene.link.mac(&scene.host)),
            peer_mac: Mac(scene.link.mac(&scene.peer)),
            ip,
            peer,
            peer_port: stream.local_addr().expect("it is bound").port(),
        };
        let ifname = scene.link.name(&scene.peer).to_owned();
        let before = service.handle().metrics();
        let is_over = AtomicBool::new(false);
        let thrown = thread::scope(|scope| {
            let thrower = scope.spawn(|| scene.peer.run(|| throw(&ifname, packets(&target), &is_over)));
            let echoed = kernel::exchange_in_turns(&stream, &pattern).expect("an echo beside garbage");
            // Relaxed: it stands for itself.
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(echoed, pattern.digest());
            thrower.join().expect("garbage flows")
        });
        let after = service.handle().metrics();
        println!("{thrown} broken packets beside 2 MB\n{after}");
        assert!(thrown >= 20_000, "only {thrown} broken packets were thrown");
        let same = |metrics: &Metrics| {
            metrics.sum(|w| w.connections + w.accepted + w.closed + w.resets_sent + w.protocol_errors)
        };
        assert_eq!(same(&after), same(&before), "{after}");
        drop(stream);
        service.finish();
        counted.send((before, after)).expect("somebody waits for it");
    });
    counts.recv().expect("it has come to its end")
}

/// Sends from an AF_XDP socket, past the kernel's own checks, until told, and at least 20,000.
fn throw(ifname: &str, mut next: impl FnMut() -> Vec<u8>, is_over: &AtomicBool) -> usize {
    const BURST: usize = 16;
    let geometry = Geometry { frame_bytes: 2048, frame_count: 256 };
    let options = UmemOptions { fill_ring: 64, completion_ring: 256, ..UmemOptions::default() };
    let (umem, region) = Umem::register(geometry, options).expect("packet memory");
    let config = XskConfig { rx_ring: 64, tx_ring: 64, ..XskConfig::new(ifname, 0) };
    let mut port = XskPort::open(&umem, &config).expect("a free queue");
    let mut pool = Pool::new(region, geometry, Floors::for_frames(256));
    pool.adopt();
    let mut thrown = 0;
    while thrown < 20_000 || !is_over.load(Ordering::Relaxed) {
        port.reap(&mut pool);
        for _ in 0..BURST {
            let bytes = next();
            // The kernel takes no packet without an Ethernet header.
            if bytes.len() < eth::HEADER_LEN {
                continue;
            }
            let Some(mut frame) = pool.alloc(Class::Control) else { break };
            frame.append(bytes.len()).copy_from_slice(&bytes);
            thrown += usize::from(port.submit(&mut pool, &frame.into_send()).is_ok());
        }
        let _ = port.kick();
        thread::sleep(Duration::from_micros(200));
    }
    thrown
}
