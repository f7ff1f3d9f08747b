//! One end of a run: an engine and an application that sends a stream and checks the one it gets.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ringwire::clock::Clock;
use ringwire::frame::{FrameState, MemPort, Pool};
use ringwire::{CloseReason, Conn, Engine, Event, Events, Interface, Recv, TcpOptions, Worker};
use ringwire_proto::flow::Flow;
use ringwire_proto::prf::Prf;
use ringwire_proto::time::Instant;

use crate::plan::Plan;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// What one end sends and what it must receive.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(crate) outgoing: Vec<u8>,
    pub(crate) expected: Vec<u8>,
}

/// One end of the run.
pub(crate) struct Side {
    pub(crate) worker: Worker,
    pub(crate) role: Role,
    options: TcpOptions,
    streams: Streams,
    events: Events,
    conn: Option<Conn>,
    begun_ns: u64,
    /// When the handshake was over.
    pub(crate) connected_ns: Option<u64>,
    sent: usize,
    received: Vec<u8>,
    saw_eof: bool,
    /// All was written, and the peer's stream has ended.
    pub(crate) is_finished: bool,
    /// What the application was told instead.
    pub(crate) told: Option<Told>,
    /// The same of every connection, until it is judged.
    unjudged: Vec<Told>,
}

/// What an application was told, when, and of which connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) reason: CloseReason,
    pub(crate) at_ns: u64,
    /// When the connection began.
    pub(crate) begun_ns: u64,
    /// Whether its handshake was over.
    pub(crate) was_connected: bool,
}

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), 7000);
const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// The port of a client whose sequence numbers are to wrap: they depend on it.
const WRAPPING_PORT: u16 = 45_000;

impl Role {
    fn address(self) -> &'static str {
        match self {
            Role::Server => "10.9.0.1/24",
            Role::Client => "10.9.0.2/24",
        }
    }
}

impl Side {
    /// An engine whose port `attach` makes; `life` tells a restarted one from the one before.
    pub(crate) fn new(
        plan: &Plan,
        clock: &Clock,
        (role, life): (Role, u8),
        streams: Streams,
        attach: impl FnOnce(&Pool) -> MemPort,
    ) -> Result<Side, String> {
        let cidr = role.address().parse().map_err(|error| format!("{error}"))?;
        let secret = secret(plan, role, life);
        let engine = Engine::builder()
            .interface(Interface::new("sim").address(cidr))
            .clock(clock.clone())
            .secret(secret)
            .frames_per_worker(plan.frames)
            .max_connections(64)
            .start_on(attach)
            .map_err(|error| error.to_string())?;
        let mut side = Side {
            worker: engine.into_workers().pop().ok_or("no worker")?.start(),
            role,
            options: plan.options.clone(),
            streams,
            events: Events::with_capacity(64),
            conn: None,
            begun_ns: 0,
            connected_ns: None,
            sent: 0,
            received: Vec::new(),
            saw_eof: false,
            is_finished: false,
            told: None,
            unjudged: Vec::new(),
        };
        if role == Role::Server {
            side.worker.listen(SERVER.into(), &side.options).map_err(|error| format!("listen: {error}"))?;
        }
        Ok(side)
    }

    /// The connection that the run is about.
    pub(crate) fn connect_first(&mut self, plan: &Plan) -> Result<(), String> {
        let mut options = self.options.clone();
        if plan.wraps {
            options.local = Some((CLIENT_IP.into(), WRAPPING_PORT));
        }
        self.connect_with(&options)
    }

    /// A new connection for the same streams, from their beginning.
    pub(crate) fn connect(&mut self) -> Result<(), String> {
        self.connect_with(&self.options.clone())
    }

    fn connect_with(&mut self, options: &TcpOptions) -> Result<(), String> {
        let conn = self.worker.connect(SERVER.into(), options);
        self.begin(conn.map_err(|error| format!("connect: {error}"))?);
        // With Fast Open some of it may leave with the SYN.
        if self.options.fast_open { self.write() } else { Ok(()) }
    }

    /// Ends a connection as if it had not been.
    pub(crate) fn forget(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.worker.abort(conn);
        }
        (self.connected_ns, self.told, self.is_finished) = (None, None, false);
    }

    fn begin(&mut self, conn: Conn) {
        self.conn = Some(conn);
        self.begun_ns = self.worker.now_ns();
        self.connected_ns = None;
        self.sent = 0;
        self.received.clear();
        self.saw_eof = false;
        self.is_finished = false;
        self.told = None;
    }

    /// Whether a connection was begun and has neither finished nor was the application told.
    pub(crate) fn is_busy(&self) -> bool {
        self.conn.is_some() && !self.is_finished && self.told.is_none()
    }

    /// Connections that the engine gave up for want of frames.
    pub(crate) fn given_up(&self) -> u64 {
        self.worker.counters().stalled_cut
    }

    /// One turn; true if anything happened.
    pub(crate) fn step(&mut self) -> Result<bool, String> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(8));
        self.worker.poll(&mut events, Some(Duration::ZERO)).map_err(|error| error.to_string())?;
        let any = !events.is_empty();
        for event in events.drain() {
            self.on_event(event)?;
        }
        self.events = events;
        Ok(any)
    }

    fn on_event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Accepted { conn, .. } => {
                if self.options.fast_open && self.is_finished {
                    // RFC 7413 2.1: a late copy of the SYN.
                    self.worker.abort(conn);
                    return Ok(());
                }
                if self.is_busy() {
                    return Err("a second connection was accepted".to_owned());
                }
                self.begin(conn);
                self.connected_ns = Some(self.worker.now_ns());
                self.write()?;
            }
            Event::Connected(conn) if Some(conn) == self.conn => {
                self.connected_ns = Some(self.worker.now_ns());
                self.write()?;
            }
            Event::Writable(conn) if Some(conn) == self.conn => self.write()?,
            Event::Readable(conn) if Some(conn) == self.conn => self.read()?,
            Event::Closed { conn, reason } if Some(conn) == self.conn && self.is_busy() => {
                let (at_ns, was_connected) = (self.worker.now_ns(), self.connected_ns.is_some());
                let told = Told { reason, at_ns, begun_ns: self.begun_ns, was_connected };
                self.told = Some(told);
                self.unjudged.push(told);
            }
            _ => {}
        }
        Ok(())
    }

    /// What the application was told since the last call.
    pub(crate) fn take_unjudged(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.unjudged)
    }

    fn write(&mut self) -> Result<(), String> {
        let Some(conn) = self.conn.filter(|_| self.is_busy()) else { return Ok(()) };
        let Side { worker, streams, sent, .. } = self;
        while *sent < streams.outgoing.len() {
            let rest = streams.outgoing.get(*sent..).unwrap_or_default();
            match worker.send(conn, rest) {
                Ok(0) => return Ok(()),
                Ok(count) => *sent += count,
                // The event that says why is on its way.
                Err(_) => return Ok(()),
            }
        }
        let _ = worker.shutdown(conn, std::net::Shutdown::Write);
        self.finish();
        Ok(())
    }

    fn read(&mut self) -> Result<(), String> {
        let Some(conn) = self.conn.filter(|_| self.is_busy()) else { return Ok(()) };
        let before = self.received.len();
        loop {
            match self.worker.recv(conn) {
                Ok(Recv::Data(piece)) => self.received.extend_from_slice(&piece),
                Ok(Recv::Empty) | Err(_) => break,
                Ok(Recv::Eof) => {
                    self.saw_eof = true;
                    break;
                }
            }
        }
        let (len, expected) = (self.received.len(), &self.streams.expected);
        if self.received.get(before..) != expected.get(before..len) {
            return Err(format!("bytes {before}..{len} of the stream are not those that were sent"));
        }
        if self.saw_eof && len != expected.len() {
            return Err(format!("the stream ended after {len} bytes of {}", expected.len()));
        }
        self.finish();
        Ok(())
    }

    fn finish(&mut self) {
        let is_done = self.sent == self.streams.outgoing.len() && self.saw_eof;
        if let (true, false, Some(conn)) = (is_done, self.is_finished, self.conn) {
            self.worker.close(conn);
            self.is_finished = true;
        }
    }

    /// What is left behind by an end at rest.
    pub(crate) fn check_accounts(&self) -> Result<(), String> {
        let counts = self.worker.frame_counts();
        let home = counts.of(FrameState::Free) + counts.of(FrameState::Fill);
        if !counts.check() || home != counts.total() {
            return Err(format!("frames are missing: {counts:?}"));
        }
        if self.worker.counters().connections != 0 {
            return Err(format!("{} connections are left", self.worker.counters().connections));
        }
        if let Some(at_ns) = self.worker.next_timer_ns() {
            return Err(format!("a timer is left, due in {} ns", at_ns.saturating_sub(self.worker.now_ns())));
        }
        Ok(())
    }

    pub(crate) fn state(&mut self) -> String {
        let machine = self.conn.map(|conn| self.worker.tcp_info(conn));
        format!(
            "{:?} sent {}/{} received {}/{} eof {} told {:?} {machine:?} {:?};",
            self.role,
            self.sent,
            self.streams.outgoing.len(),
            self.received.len(),
            self.streams.expected.len(),
            self.saw_eof,
            self.told,
            self.worker.counters()
        )
    }
}

/// The key of an engine, which decides its sequence numbers: of this seed, or, where they are to wrap, the first of many whose numbers
/// between the two ends begin 8 KiB to 128 KiB before that.
fn secret(plan: &Plan, role: Role, life: u8) -> [u8; 16] {
    const LATEST: u32 = 0_u32.wrapping_sub(8 * 1024);
    const EARLIEST: u32 = 0_u32.wrapping_sub(128 * 1024);
    let key = |attempt: u32| {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&plan.seed.to_le_bytes());
        key[8..10].copy_from_slice(&[role as u8, life]);
        key[10..14].copy_from_slice(&attempt.to_le_bytes());
        key
    };
    let client = (CLIENT_IP, WRAPPING_PORT);
    let (local, remote) = match role {
        Role::Server => ((*SERVER.ip(), SERVER.port()), client),
        Role::Client => (client, (*SERVER.ip(), SERVER.port())),
    };
    let flow = Flow::v4(local.0, local.1, remote.0, remote.1);
    let wraps = |key: &[u8; 16]| (EARLIEST..LATEST).contains(&Prf::new(*key).isn(Instant::ZERO, &flow).0);
    if plan.wraps { (0..).map(key).find(wraps).unwrap_or_default() } else { key(0) }
}
