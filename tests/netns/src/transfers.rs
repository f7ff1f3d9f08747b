//! Streams with a script: what to send, how fast, and who ends first. Works for what is accepted and for what is opened.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use ringwire::{CloseReason, Conn, Event, Listener, Recv, TcpOptions, Worker};

use crate::pattern::{Digest, Digester, Pattern};
use crate::service::App;

/// Bytes offered to one `send`.
const CHUNK_BYTES: usize = 16 << 10;

/// Who ends its direction first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// FIN as soon as all is sent; then reads on to the peer's end.
    First,
    /// Sends at once, ends when the peer has.
    Last,
    /// Sends nothing before the peer has ended its direction.
    AnswerAfterEof,
}

/// How fast one direction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it can.
    Free,
    /// So many bytes, then a pause.
    Slow {
        /// Bytes between two pauses, rounded up to a whole piece when reading.
        bytes: usize,
        /// The pause.
        every: Duration,
    },
}

/// What one connection does.
#[derive(Clone, Debug)]
pub struct Script {
    /// What it sends.
    pub send: Pattern,
    /// Who ends first.
    pub closing: Closing,
    /// Speed of reading.
    pub read: Pace,
    /// Speed of writing.
    pub write: Pace,
}

impl Script {
    /// At full speed.
    pub fn new(send: Pattern, closing: Closing) -> Script {
        Script { send, closing, read: Pace::Free, write: Pace::Free }
    }
}

/// The end of one connection as the application saw it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The other side.
    pub peer: SocketAddr,
    /// What it was to send.
    pub sent: Pattern,
    /// All that was received.
    pub received: Digest,
    /// What was never sent: bytes.
    pub unsent: u64,
    /// Why it ended before its time.
    pub fault: Option<CloseReason>,
}

/// The options of the tests: TIME-WAIT is short, so that an engine can be seen to come to rest.
pub fn options() -> TcpOptions {
    let mut options = TcpOptions::default();
    options.time_wait = Duration::from_millis(100);
    options
}

/// An application of scripted connections; each [`Ended`] goes to `ended`.
#[derive(Debug)]
pub struct Transfers {
    listener: Option<Listener>,
    running: HashMap<Conn, Transfer>,
    script: Script,
    ended: Sender<Ended>,
}

impl Transfers {
    /// Accepts on `addr`; every connection follows the script.
    ///
    /// # Panics
    /// When the port cannot be had.
    pub fn accepting(
        worker: &mut Worker,
        addr: SocketAddr,
        options: &TcpOptions,
        script: Script,
        ended: Sender<Ended>,
    ) -> Transfers {
        let listener = worker.listen(addr, options).expect("the port is free");
        Transfers { listener: Some(listener), running: HashMap::new(), script, ended }
    }

    /// Opens one connection per script, all at once.
    ///
    /// # Panics
    /// When one cannot even start.
    pub fn opening(
        worker: &mut Worker,
        to: SocketAddr,
        options: &TcpOptions,
        scripts: Vec<Script>,
        ended: Sender<Ended>,
    ) -> Transfers {
        let script = scripts.first().cloned().expect("at least one connection");
        let open = |script| (worker.connect(to, options).expect("a connection"), Transfer::new(script, to));
        Transfers { listener: None, running: scripts.into_iter().map(open).collect(), script, ended }
    }

    fn go_on(&mut self, worker: &mut Worker, conn: Conn) {
        if let Some(transfer) = self.running.get_mut(&conn)
            && transfer.go_on(worker, conn)
        {
            worker.close(conn);
            self.end(conn, None);
        }
    }

    fn end(&mut self, conn: Conn, fault: Option<CloseReason>) {
        if let Some(transfer) = self.running.remove(&conn) {
            // A test that has failed already listens no more.
            let _ = self.ended.send(transfer.into_ended(fault));
        }
    }
}

impl App for Transfers {
    fn on_event(&mut self, worker: &mut Worker, event: Event) {
        match event {
            Event::Accepted { listener, conn } if self.listener == Some(listener) => {
                let (_, peer) = worker.addrs(conn).expect("it has just been accepted");
                self.running.insert(conn, Transfer::new(self.script.clone(), peer));
                self.go_on(worker, conn);
            }
            Event::Connected(conn) => self.go_on(worker, conn),
            Event::Readable(conn) => {
                if let Some(transfer) = self.running.get_mut(&conn) {
                    transfer.is_readable = true;
                }
                self.go_on(worker, conn);
            }
            Event::Writable(conn) => {
                if let Some(transfer) = self.running.get_mut(&conn) {
                    transfer.is_writable = true;
                }
                self.go_on(worker, conn);
            }
            Event::Closed { conn, reason } => self.end(conn, Some(reason)),
            _ => {}
        }
    }

    fn on_turn(&mut self, worker: &mut Worker) -> Option<Duration> {
        if self.script.read == Pace::Free && self.script.write == Pace::Free {
            return None;
        }
        let conns: Vec<Conn> = self.running.keys().copied().collect();
        for conn in conns {
            self.go_on(worker, conn);
        }
        Some(Duration::from_millis(1))
    }
}

/// One connection at work.
#[derive(Debug)]
struct Transfer {
    script: Script,
    sent: Pattern,
    peer: SocketAddr,
    chunk: Vec<u8>,
    /// Bytes of the chunk that are sent.
    chunk_sent: usize,
    received: Digester,
    reading: Budget,
    writing: Budget,
    is_readable: bool,
    is_writable: bool,
    is_send_done: bool,
    saw_eof: bool,
}

impl Transfer {
    fn new(script: Script, peer: SocketAddr) -> Transfer {
        Transfer {
            reading: Budget::new(script.read),
            writing: Budget::new(script.write),
            sent: script.send.clone(),
            script,
            peer,
            chunk: Vec::new(),
            chunk_sent: 0,
            received: Digester::default(),
            is_readable: true,
            is_writable: true,
            is_send_done: false,
            saw_eof: false,
        }
    }

    /// As far as it goes now; true when both directions are finished.
    fn go_on(&mut self, worker: &mut Worker, conn: Conn) -> bool {
        self.read(worker, conn);
        if self.script.closing != Closing::AnswerAfterEof || self.saw_eof {
            self.write(worker, conn);
        }
        self.saw_eof && self.is_send_done
    }

    fn read(&mut self, worker: &mut Worker, conn: Conn) {
        while self.is_readable && !self.saw_eof && self.reading.allows() > 0 {
            match worker.recv(conn) {
                Ok(Recv::Data(piece)) => {
                    self.received.add(&piece);
                    self.reading.spend(piece.len());
                }
                Ok(Recv::Eof) => self.saw_eof = true,
                // An error is the end of the connection, which its event reports.
                Ok(Recv::Empty) | Err(_) => self.is_readable = false,
            }
        }
    }

    fn write(&mut self, worker: &mut Worker, conn: Conn) {
        while self.is_writable && !self.is_send_done {
            if self.chunk_sent == self.chunk.len() && !self.next_chunk(worker, conn) {
                return;
            }
            let rest = &self.chunk[self.chunk_sent..];
            let allowed = rest.len().min(self.writing.allows());
            if allowed == 0 {
                return;
            }
            let sent = worker.send(conn, &rest[..allowed]).unwrap_or(0);
            self.chunk_sent += sent;
            self.writing.spend(sent);
            self.is_writable = sent == allowed;
        }
    }

    /// False when there is none.
    fn next_chunk(&mut self, worker: &mut Worker, conn: Conn) -> bool {
        self.chunk.resize(CHUNK_BYTES, 0);
        let len = self.script.send.fill(&mut self.chunk);
        self.chunk.truncate(len);
        self.chunk_sent = 0;
        if len == 0 {
            self.finish_sending(worker, conn);
        }
        len > 0
    }

    /// The last in line ends by `close` alone.
    fn finish_sending(&mut self, worker: &mut Worker, conn: Conn) {
        if self.script.closing == Closing::First {
            // A connection that is gone has an event of its own.
            let _ = worker.shutdown(conn, Shutdown::Write);
        }
        self.is_send_done = true;
    }

    fn into_ended(self, fault: Option<CloseReason>) -> Ended {
        let unsent = self.script.send.left() + (self.chunk.len() - self.chunk_sent) as u64;
        Ended { peer: self.peer, sent: self.sent, received: self.received.finish(), unsent, fault }
    }
}

/// What a pace allows by now.
#[derive(Debug)]
struct Budget {
    pace: Pace,
    bytes: usize,
    refill_at: Instant,
}

impl Budget {
    fn new(pace: Pace) -> Budget {
        Budget { pace, bytes: 0, refill_at: Instant::now() }
    }

    fn allows(&mut self) -> usize {
        let Pace::Slow { bytes, every } = self.pace else { return usize::MAX };
        let now = Instant::now();
        if self.bytes == 0 && now >= self.refill_at {
            self.bytes = bytes;
            self.refill_at = now + every;
        }
        self.bytes
    }

    fn spend(&mut self, bytes: usize) {
        if self.pace != Pace::Free {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}
