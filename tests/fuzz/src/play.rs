//! Any sequence of segments, time and API calls.

use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use ringwire::{
    CloseReason, CongestionControl, Conn, Ecn, Event, KeepAlive, Listener, Pacing, Recv, RxBuf, TcpOptions,
};
use ringwire_wire::ipv4::Protocol;
use ringwire_wire::tcp::{Flags, Options, SackBlocks, Timestamps};

use crate::engine::{HERE, PEER, Rig, Sent};
use crate::input::Input;
use crate::oracle::{Delivered, app_text};
use crate::peer::{PORT, Peer};

/// More steps than this teach nothing new and cost time.
const MAX_STEPS: usize = 300;
const FIRST_PORT: u16 = 40_000;
/// Offsets from here on may lie in a window that honest text does not reach.
const FAR: u32 = 1 << 17;
/// More than the timer wheel's resolution.
const WHEEL_STEP: Duration = Duration::from_millis(3);
/// RFC 9293 3.8.3 (R2): nobody is given up sooner.
const R2: Duration = Duration::from_secs(100);

/// One established connection, opened by either side.
pub fn connection(data: &[u8]) {
    let mut input = Input::new(data);
    let mut play = Play::new(1, &mut input);
    play.establish(&mut input);
    play.run(&mut input);
    play.complete();
    play.finish();
}

/// A listener with a short backlog and eight peers.
pub fn listener(data: &[u8]) {
    let mut input = Input::new(data);
    let mut play = Play::new(8, &mut input);
    play.run(&mut input);
    play.finish();
}

/// A connection that the application knows.
struct App {
    conn: Conn,
    peer: usize,
    delivered: Delivered,
    written: u32,
}

struct Play {
    rig: Rig,
    peers: Vec<Peer>,
    apps: Vec<App>,
    /// What the last application was told that lost its connection.
    ended: Option<CloseReason>,
    listener: Option<Listener>,
    held: Vec<RxBuf>,
    options: TcpOptions,
    /// Something was done after which the stream need not arrive.
    is_tainted: bool,
    /// ICMP errors have come about segments of the worker.
    has_sent_errors: bool,
    /// The end of the text that was sent ahead.
    high: u32,
    /// Both ends speak ECN (RFC 3168).
    has_ecn: bool,
    /// When the peer has last acknowledged all there was.
    heard_ms: u32,
    /// It has done so now, if the connection lives to hear it.
    is_heard: bool,
}

impl Play {
    fn new(peers: u16, input: &mut Input<'_>) -> Play {
        let mut options = TcpOptions::default();
        options.backlog = 4;
        options.time_wait = Duration::from_secs(5);
        let (choice, more) = (input.byte(), input.byte());
        options.nodelay = choice & 1 != 0;
        options.recv_buffer_bytes = if choice & 2 != 0 { 8192 } else { 65_536 };
        options.send_buffer_bytes = if choice & 4 != 0 { 8192 } else { 65_536 };
        let irs = if choice & 8 != 0 { u32::MAX - 700 } else { 1000 };
        options.congestion_control =
            CongestionControl::ALL[usize::from(choice >> 4 & 3) % CongestionControl::ALL.len()];
        let has_ecn = choice & 64 != 0;
        options.ecn = if has_ecn { Ecn::Ask } else { Ecn::Off };
        options.fast_open = choice & 128 != 0;
        let (time, interval) = (Duration::from_secs(20), Duration::from_secs(3));
        options.keepalive = (more & 1 != 0).then_some(KeepAlive { time, interval, retries: 3 });
        options.user_timeout = (more & 2 != 0).then_some(Duration::from_secs(15));
        options.pacing = if more & 4 != 0 { Pacing::On } else { Pacing::Auto };
        options.mtu_probing = more & 8 != 0;
        let peers = (0..peers).map(|index| Peer::new(FIRST_PORT + index, irs)).collect();
        let mut play = Play {
            rig: Rig::new(),
            peers,
            apps: Vec::new(),
            ended: None,
            listener: None,
            held: Vec::new(),
            options,
            is_tainted: false,
            has_sent_errors: false,
            high: irs,
            has_ecn,
            heard_ms: 0,
            is_heard: false,
        };
        play.heard_ms = play.rig.now_ms();
        play.listen();
        play
    }

    fn listen(&mut self) {
        self.listener = self.rig.worker.listen(SocketAddr::from((HERE, PORT)), &self.options).ok();
    }

    fn establish(&mut self, input: &mut Input<'_>) {
        let (offer, is_active) = (offered(input.byte(), self.rig.now_ms()), input.byte() & 1 != 0);
        if is_active {
            self.connect(0);
        } else {
            self.syn(0, offer);
        }
        self.settle();
        if is_active {
            let flags = Flags::SYN | Flags::ACK | self.said_of_ecn(Flags::ECE);
            let header = self.peers[0].header(flags, self.peers[0].irs(), self.peers[0].seen, 8192);
            self.peers[0].send_with(&mut self.rig, &header, offer, 0);
        } else {
            self.peers[0].send(&mut self.rig, self.peers[0].nxt, 0);
        }
        self.settle();
    }

    fn connect(&mut self, peer: usize) {
        let Some(Peer { port, .. }) = self.peers.get(peer) else { return };
        if let Ok(conn) = self.rig.worker.connect(SocketAddr::from((PEER, *port)), &self.options) {
            self.apps.push(App { conn, peer, delivered: Delivered::default(), written: 0 });
        }
    }

    fn syn(&mut self, peer: usize, offer: Options) {
        let flags = Flags::SYN | self.said_of_ecn(Flags::ECE | Flags::CWR);
        let header = self.peers[peer].header(flags, self.peers[peer].irs(), 0, 8192);
        self.peers[peer].send_with(&mut self.rig, &header, offer, 0);
    }

    /// These flags, where ECN is spoken.
    fn said_of_ecn(&self, flags: Flags) -> Flags {
        if self.has_ecn { flags } else { Flags::NONE }
    }

    /// The peer acknowledges all there is, without text for which there might be no room.
    fn on_heard(&mut self, index: usize) {
        let peer = &self.peers[index];
        self.is_heard |= peer.nxt == peer.acked;
    }

    fn run(&mut self, input: &mut Input<'_>) {
        for _ in 0..MAX_STEPS {
            if input.is_empty() {
                break;
            }
            let op = input.byte();
            let peer = usize::from(input.byte()) % self.peers.len();
            match op & 0x1f {
                0x00..=0x13 => self.segment(op & 0x1f, peer, input),
                0x14..=0x1d => self.call(op & 0x1f, peer, input),
                0x1f => self.rig.tos = input.byte() & 3,
                _ => self.rig.advance(Duration::from_millis(u64::from(input.byte()).pow(2))),
            }
            // The others share a batch with what follows.
            if op & 0x80 == 0 {
                self.settle();
            }
        }
        self.settle();
    }

    /// Something arrives.
    fn segment(&mut self, op: u8, index: usize, input: &mut Input<'_>) {
        let (ece, cwr) = (self.said_of_ecn(Flags::ECE), self.said_of_ecn(Flags::CWR));
        if (8..=9).contains(&op) {
            self.on_heard(index);
        }
        let peer = &mut self.peers[index];
        let (nxt, seen) = (peer.nxt, peer.seen);
        match op {
            0..=4 => {
                let len = usize::from(input.byte()) * 5;
                let flags = if op == 4 { Flags::ACK | cwr } else { Flags::ACK };
                peer.send_flagged(&mut self.rig, flags, nxt, len);
                peer.nxt = nxt.wrapping_add(len as u32);
            }
            5..=7 => {
                let (offset, len) = (input.offset(), usize::from(input.byte()) * 5);
                self.is_tainted |= (FAR..=1 << 31).contains(&offset);
                peer.send(&mut self.rig, nxt.wrapping_add(offset), len);
                let end = nxt.wrapping_add(offset).wrapping_add(len as u32);
                if offset < FAR && end.wrapping_sub(self.high).cast_signed() > 0 {
                    self.high = end;
                }
            }
            8 | 9 => {
                let flags = if op == 9 { Flags::ACK | ece } else { Flags::ACK };
                let header = peer.header(flags, nxt, seen, input.u16());
                peer.send_with(&mut self.rig, &header, Options::default(), 0);
            }
            10 | 11 => {
                let header = peer.header(Flags::ACK, nxt, seen.wrapping_add(input.offset()), input.u16());
                peer.send_with(&mut self.rig, &header, Options::default(), 0);
            }
            12 | 13 => {
                let mut sack = SackBlocks::NONE;
                for _ in 0..1 + input.byte() % 4 {
                    let left = seen.wrapping_add(input.offset());
                    sack.push(left, left.wrapping_add(input.offset()));
                }
                let ack = seen.wrapping_add(input.offset());
                let header = peer.header(Flags::ACK, nxt, ack, u16::MAX);
                peer.send_with(&mut self.rig, &header, Options { sack, ..Options::default() }, 0);
            }
            _ => self.disturb(op, index, input),
        }
    }

    /// Something arrives after which the connection need not go on.
    fn disturb(&mut self, op: u8, index: usize, input: &mut Input<'_>) {
        self.is_tainted = true;
        let now_ms = self.rig.now_ms();
        let peer = &mut self.peers[index];
        match op {
            14 => {
                let header = peer.header(Flags::RST, peer.acked.wrapping_add(input.offset()), peer.seen, 0);
                peer.send_with(&mut self.rig, &header, Options::default(), 0);
            }
            15 => {
                let irs = peer.irs().wrapping_add(u32::from(input.byte() % 8) << 20);
                peer.begin(irs);
                let offer = offered(input.byte(), now_ms);
                self.syn(index, offer);
            }
            16 => {
                let len = usize::from(input.byte()) * 5;
                let header = peer.header(Flags::FIN | Flags::ACK, peer.nxt, peer.seen, u16::MAX);
                peer.send_with(&mut self.rig, &header, Options::default(), len);
            }
            17 => self.icmp(index, input),
            _ => {
                let flags = Flags(input.byte());
                let seq = peer.acked.wrapping_add(input.offset());
                let header = peer.header(flags, seq, peer.seen.wrapping_add(input.offset()), input.u16());
                let options_len = usize::from(input.byte() % 44);
                let options = input.bytes(options_len);
                let len = usize::from(input.byte());
                if flags.contains(Flags::SYN) && !peer.irss.contains(&seq) {
                    peer.irss.push(seq);
                }
                // An acknowledgement that opens by a cookie says where its stream began.
                if flags.contains(Flags::ACK) && !peer.irss.contains(&seq.wrapping_sub(1)) {
                    peer.irss.push(seq.wrapping_sub(1));
                }
                peer.send_raw(&mut self.rig, &header, options, len);
            }
        }
    }

    /// An error that quotes a segment of the worker's.
    fn icmp(&mut self, index: usize, input: &mut Input<'_>) {
        let peer = &self.peers[index];
        let [high, low] = input.u16().to_be_bytes();
        let seq = peer.seen.wrapping_add(input.offset());
        let mut bytes = vec![3, input.byte() % 16, 0, 0, 0, 0, high, low];
        bytes.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
        bytes.extend(HERE.octets());
        bytes.extend(PEER.octets());
        bytes.extend(peer.worker_port.to_be_bytes());
        bytes.extend(peer.port.to_be_bytes());
        bytes.extend(seq.to_be_bytes());
        let checksum = ringwire_wire::checksum::Sum::of(&bytes).finish();
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        self.rig.inject_ip(Protocol::ICMP, &bytes);
        self.has_sent_errors = true;
    }

    /// The application does something.
    fn call(&mut self, op: u8, peer: usize, input: &mut Input<'_>) {
        let choice = input.byte();
        let which = usize::from(choice) % self.apps.len().max(1);
        match op {
            0x14..=0x16 => self.send(which, usize::from(choice) * 16),
            0x17 | 0x18 => self.recv(which, usize::MAX, choice & 1 != 0),
            0x19 => self.recv(which, 1, true),
            0x1a => self.held.truncate(usize::from(choice) % 8),
            0x1b => self.end(which, choice),
            0x1c if self.listener.is_some() && choice & 1 != 0 => {
                self.is_tainted = true;
                if let Some(listener) = self.listener.take() {
                    self.rig.worker.close_listener(listener);
                }
            }
            0x1c => self.listen(),
            _ if self.peers.len() > 1 => self.connect(peer),
            _ => {}
        }
    }

    fn send(&mut self, which: usize, len: usize) {
        let Some(app) = self.apps.get_mut(which) else { return };
        if let Ok(taken) = self.rig.worker.send(app.conn, &app_text(app.written, len)) {
            app.written += taken as u32;
        }
    }

    fn recv(&mut self, which: usize, pieces: usize, is_kept: bool) {
        let Some(app) = self.apps.get_mut(which) else { return };
        for _ in 0..pieces {
            let Ok(Recv::Data(piece)) = self.rig.worker.recv(app.conn) else { return };
            app.delivered.take(&self.peers[app.peer].irss, &piece);
            if is_kept {
                self.held.push(piece);
            }
        }
    }

    fn end(&mut self, which: usize, choice: u8) {
        self.is_tainted = true;
        let Some(app) = self.apps.get(which) else { return };
        let conn = app.conn;
        match choice >> 5 {
            0 => drop(self.rig.worker.shutdown(conn, Shutdown::Read)),
            1..=3 => drop(self.rig.worker.shutdown(conn, Shutdown::Write)),
            4 | 5 => {
                self.rig.worker.close(conn);
                self.apps.remove(which);
            }
            _ => {
                self.rig.worker.abort(conn);
                self.apps.remove(which);
            }
        }
    }

    fn settle(&mut self) {
        self.turn();
        // What came before the end is read before the application hears of that.
        let is_unread = !self.is_tainted && self.peers.len() == 1 && self.peers[0].is_reset;
        if is_unread && self.ended.is_none() {
            self.check_patience();
            self.recv(0, usize::MAX, false);
            // The event comes by the timer wheel.
            self.rig.advance(WHEEL_STEP);
            self.turn();
        }
        self.check_alive();
        if std::mem::take(&mut self.is_heard) {
            self.heard_ms = self.rig.now_ms();
        }
    }

    fn turn(&mut self) {
        let (events, sent) = self.rig.settle();
        for segment in &sent {
            self.on_sent(segment);
        }
        for event in events {
            match event {
                Event::Accepted { conn, .. } => self.on_accepted(conn),
                Event::Closed { conn, reason } => self.on_closed(conn, reason),
                _ => {}
            }
        }
    }

    fn on_closed(&mut self, conn: Conn, reason: CloseReason) {
        let before = self.apps.len();
        self.apps.retain(|app| app.conn != conn);
        if self.apps.len() < before {
            self.ended = Some(reason);
            if reason == CloseReason::TimedOut {
                self.check_patience();
            }
        }
    }

    /// Nobody is given up before its time.
    fn check_patience(&self) {
        if self.is_tainted || self.peers.len() > 1 {
            return;
        }
        let probed = |keepalive: KeepAlive| keepalive.time + keepalive.interval * keepalive.retries.into();
        let limits = [Some(R2), self.options.user_timeout, self.options.keepalive.map(probed)];
        let patience = limits.into_iter().flatten().min().unwrap_or(R2);
        let waited = Duration::from_millis(self.rig.now_ms().wrapping_sub(self.heard_ms).into());
        assert!(waited >= patience, "given up after {waited:?}");
    }

    /// One connection whose peer says nothing but what it may say ends in one way only: nothing was acknowledged for too long.
    fn check_alive(&self) {
        if self.is_tainted || self.peers.len() > 1 || self.has_given_up() {
            return;
        }
        assert_eq!(self.ended, None, "a connection ended, and its peer has said nothing wrong");
        assert!(!self.peers[0].is_reset, "a connection was reset, and its peer has said nothing wrong");
    }

    /// Whether the connection ended for want of an answer: then the reason told is what ICMP had said of it, if it had.
    fn has_given_up(&self) -> bool {
        match self.ended {
            Some(CloseReason::TimedOut) => true,
            Some(CloseReason::Unreachable(_) | CloseReason::Refused) => self.has_sent_errors,
            _ => false,
        }
    }

    fn on_sent(&mut self, segment: &Sent) {
        let index = usize::from(segment.header.dst_port.wrapping_sub(FIRST_PORT));
        self.peers.get_mut(index).expect("nobody else has been spoken to").on_sent(segment);
    }

    fn on_accepted(&mut self, conn: Conn) {
        // It may have ended in the same turn.
        let Ok((_, peer)) = self.rig.worker.addrs(conn) else { return };
        let peer = usize::from(peer.port() - FIRST_PORT);
        self.apps.push(App { conn, peer, delivered: Delivered::default(), written: 0 });
    }

    /// The peer becomes honest: everything arrives, both ways.
    fn complete(&mut self) {
        self.held.clear();
        if self.is_tainted {
            return;
        }
        let goal = self.high.wrapping_add(5000);
        // Three minutes: a round trip of a minute, which pauses make, is forgotten by an eighth with each acknowledgement, and a paced window
        // leaves no faster.
        for _ in 0..600 {
            self.on_heard(0);
            let Some(app) = self.apps.first() else {
                assert!(self.has_given_up(), "the handshake has made no connection: {:?}", self.ended);
                return;
            };
            let peer = &self.peers[0];
            let left = goal.wrapping_sub(peer.acked).cast_signed();
            if left <= 0
                && self
                    .rig
                    .worker
                    .tcp_info(app.conn)
                    .is_ok_and(|info| info.unacked_bytes + info.unsent_bytes == 0)
            {
                let start = peer.irs().wrapping_add(1);
                self.recv(0, usize::MAX, false);
                let len = self.apps[0].delivered.len();
                assert!(len >= goal.wrapping_sub(start), "{len} bytes delivered of what was acknowledged");
                return;
            }
            for piece in 0..3 {
                peer.send(
                    &mut self.rig,
                    peer.acked.wrapping_add(piece * 1000),
                    1000.min(left.max(0) as usize),
                );
            }
            self.settle();
            self.recv(0, usize::MAX, false);
            self.rig.advance(Duration::from_millis(300));
            self.settle();
        }
        let left = goal.wrapping_sub(self.peers[0].acked).cast_signed();
        let info = self.apps.first().map(|app| self.rig.worker.tcp_info(app.conn));
        panic!("an honest peer cannot finish: {left} bytes are not acknowledged; {info:?}");
    }

    /// Everything ends, and nothing is kept.
    fn finish(mut self) {
        self.is_tainted = true;
        self.held.clear();
        for which in 0..self.apps.len() {
            self.recv(which, usize::MAX, false);
        }
        for app in core::mem::take(&mut self.apps) {
            self.rig.worker.abort(app.conn);
        }
        if let Some(listener) = self.listener.take() {
            self.rig.worker.close_listener(listener);
        }
        for _ in 0..1000 {
            self.rig.advance(Duration::from_secs(2));
            self.settle();
            if self.rig.worker.counters().connections == 0 {
                break;
            }
            for app in core::mem::take(&mut self.apps) {
                self.rig.worker.abort(app.conn);
            }
        }
        self.rig.check_end();
    }
}

/// What a SYN offers.
fn offered(choice: u8, now_ms: u32) -> Options {
    Options {
        mss: [None, Some(1460), Some(88), Some(536)][usize::from(choice & 3)],
        window_scale: (choice & 4 != 0).then_some(choice >> 4),
        sack_permitted: choice & 8 != 0,
        timestamps: (choice & 16 != 0).then_some(Timestamps { value: now_ms, echo: 0 }),
        ..Options::default()
    }
}
