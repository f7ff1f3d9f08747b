//! Sockets as Linux programs know them, over one worker: descriptors, options, `poll`, `epoll` and error numbers.
//!
//! ```text
//! C interface, preload, packetdrill: numbers, byte slices, errno
//!   |  call::read(fd, ..)            may wait            Runner: turns of the worker until there is news, or a deadline;
//!   v                                                    in real or in virtual time, alone or beside other threads' calls
//! Sockets::recv(fd, ..)              never waits: Errno::AGAIN
//!   |  fd -> File -> Stream | DatagramSocket | Epoll
//!   |                                     ^ connected, received, room, errors
//!   v                                     | Sockets::turn: Worker::poll, then each event to its socket
//! Worker: connect, send, recv, close      |
//! ```
//! Owns descriptors and what Linux's sockets have beyond the worker's: options kept while there is no connection, the accept queue,
//! `SO_ERROR`, half-read pieces, readiness as a level. Does not own what is unread, which stays in the worker's books, protocols, waiting,
//! threads, signals or C types. Nothing moves but in [`Sockets::turn`]. What is not supported is refused with Linux's error number, never
//! taken and ignored.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::ops::{BitAnd, BitOr, BitOrAssign};
use std::time::Duration;

use crate::config::TcpOptions;
use crate::error::{CloseReason, WorkerError};
use crate::event::{Conn, Event, Events, Listener, Turn, Udp};
use crate::worker::Worker;

pub mod addr;
mod ancillary;
pub mod call;
mod control;
mod datagram;
mod epoll;
mod errno;
mod files;
mod info;
mod message;
mod numbers;
mod options;
mod ports;
mod stream;
mod stream_calls;

pub use ancillary::Control;
pub use call::{Progress, Runner};
pub use control::Ioctl;
pub use epoll::{EpollEvent, PollFd};
pub use errno::Errno;
pub use message::Received;
pub use numbers::{LowestFree, Numbers, Reserved};

use datagram::DatagramSocket;
use epoll::Epoll;
use files::{File, FileId, Files, Hold};
use options::StreamChoices;
use ports::Ports;
use stream::{Stream, StreamId};

/// The number of a descriptor.
pub type Fd = i32;

/// Everything behind the descriptors of one worker.
pub struct Sockets {
    worker: Worker,
    /// Always there, but in a turn.
    events: Option<Events>,
    files: Files,
    streams: HashMap<StreamId, Stream>,
    next_stream: StreamId,
    by_conn: HashMap<Conn, StreamId>,
    by_listener: HashMap<Listener, StreamId>,
    by_udp: HashMap<Udp, FileId>,
    /// What a new stream socket begins with.
    defaults: TcpOptions,
    ports: Ports,
    /// See [`call::break_off`].
    is_breaking_off: bool,
    /// The engine has stopped: nothing will happen any more.
    is_stopped: bool,
    /// Files looked at for `poll` and `epoll`.
    #[cfg(test)]
    looks: usize,
}

/// What a file is.
#[derive(Debug)]
enum Kind {
    Stream(StreamId),
    Datagram(Box<DatagramSocket>),
    Epoll(Epoll),
}

/// What a new descriptor is like (`SOCK_NONBLOCK`, `accept4`'s flags).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Calls wait.
    Blocking,
    /// Calls say [`Errno::AGAIN`] instead.
    Nonblocking,
}

/// What a turn has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// Nothing for any socket.
    Quiet,
    /// News for a socket: whoever waits looks again.
    News,
    /// The engine's stop, now or before: nothing will come any more, and who waits is told so ([`Errno::SHUTDOWN`]).
    Stopped,
}

/// Readiness, in the bits of `poll` and `epoll`, which agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready(u32);

impl Ready {
    const NONE: Ready = Ready(0);
    const IN: Ready = Ready((libc::EPOLLIN | libc::EPOLLRDNORM) as u32);
    const OUT: Ready = Ready((libc::EPOLLOUT | libc::EPOLLWRNORM) as u32);
    const ERR: Ready = Ready(libc::EPOLLERR as u32);
    const HUP: Ready = Ready(libc::EPOLLHUP as u32);
    const RDHUP: Ready = Ready(libc::EPOLLRDHUP as u32);
    /// For [`Sockets::wake`]: whatever is waited for may be there.
    const ANYTHING: Ready = Ready(u32::MAX);
}

impl BitOr for Ready {
    type Output = Ready;
    fn bitor(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }
}

impl BitOrAssign for Ready {
    fn bitor_assign(&mut self, other: Ready) {
        self.0 |= other.0;
    }
}

impl BitAnd<u32> for Ready {
    type Output = u32;
    fn bitand(self, mask: u32) -> u32 {
        self.0 & mask
    }
}

/// Events taken from the worker in one turn.
const EVENTS: usize = 256;

impl Sockets {
    /// Sockets over `worker`, which serves nobody else. New stream sockets begin with `defaults`.
    pub fn new(worker: Worker, numbers: Box<dyn Numbers>, defaults: TcpOptions) -> Sockets {
        Sockets {
            worker,
            events: Some(Events::with_capacity(EVENTS)),
            files: Files::new(numbers),
            streams: HashMap::new(),
            next_stream: 0,
            by_conn: HashMap::new(),
            by_listener: HashMap::new(),
            by_udp: HashMap::new(),
            defaults,
            ports: Ports::default(),
            is_breaking_off: false,
            is_stopped: false,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// The worker below, for its counters, its waker and its clock.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// The worker's clock, in nanoseconds, as of the last turn.
    pub fn now_ns(&self) -> u64 {
        self.worker.now_ns()
    }

    /// One turn of the worker, which waits for packets at most `timeout`.
    ///
    /// # Errors
    /// The engine is no longer usable.
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<Turned, WorkerError> {
        self.release_closed();
        let mut events = self.events.take().unwrap_or_else(|| Events::with_capacity(EVENTS));
        let turn = self.worker.poll(&mut events, timeout);
        let mut is_news = false;
        for event in events.drain() {
            is_news |= event != Event::Woken;
            self.on_event(event);
        }
        self.events = Some(events);
        let is_last = !matches!(turn, Ok(Turn::Run | Turn::Drain));
        if is_last && !std::mem::replace(&mut self.is_stopped, true) {
            self.end_all();
        }
        Ok(match turn? {
            Turn::Stop => Turned::Stopped,
            Turn::Run | Turn::Drain if is_news => Turned::News,
            Turn::Run | Turn::Drain => Turned::Quiet,
        })
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Accepted { listener, conn } => self.on_accepted(listener, conn),
            Event::Connected(conn) => {
                self.change(conn, Ready::ANYTHING, Stream::on_connected);
                // Only now, if it had to wait for a port.
                self.stand_of(conn);
                self.cork_again(conn);
            }
            Event::Readable(conn) => self.on_readable(conn),
            Event::Writable(conn) => self.change(conn, Ready::OUT, |stream| stream.is_writable = true),
            Event::Closed { conn, reason } => self.on_closed(conn, reason),
            Event::Datagrams(udp) => {
                if let Some(file) = self.by_udp.get(&udp).copied() {
                    let what = self.datagram_news(file);
                    self.wake(file, what);
                }
            }
            Event::Woken => {}
        }
    }

    /// Something has happened to a connection: changes its stream socket, and wakes those who wait for `what`.
    fn change(&mut self, conn: Conn, what: Ready, change: impl FnOnce(&mut Stream)) {
        let Some(stream) = self.by_conn.get(&conn).and_then(|id| self.streams.get_mut(id)) else { return };
        change(stream);
        if let Some(file) = stream.file {
            self.wake(file, what);
        }
    }

    fn on_readable(&mut self, conn: Conn) {
        let outlook = self.worker.outlook(conn).unwrap_or_default();
        // Linux wakes everybody for an end, and those who read for as much as they ask for.
        let what = match self.by_conn.get(&conn).and_then(|id| self.streams.get(id)) {
            _ if outlook.is_finished || outlook.ended.is_some() => Ready::ANYTHING,
            Some(stream) if stream.has_enough(&self.worker) => Ready::IN,
            Some(_) | None => Ready::NONE,
        };
        self.change(conn, what, |stream| {
            stream.is_eof |= outlook.is_finished;
            // Polls and writes hear of it now, reads when they have come so far.
            if let Some(reason) = outlook.ended.filter(|_| stream.leftover.is_none()) {
                stream.on_closed(reason);
            }
        });
        if outlook.ended.is_some() {
            self.stand_of(conn);
        }
        self.reset_if_shut(conn);
    }

    fn on_closed(&mut self, conn: Conn, reason: CloseReason) {
        let id = self.by_conn.get(&conn);
        let is_known = id.and_then(|id| self.streams.get(id)).is_some_and(|stream| stream.leftover.is_some());
        self.change(conn, if is_known { Ready::NONE } else { Ready::ANYTHING }, |stream| {
            if !is_known {
                stream.on_closed(reason);
            }
            stream.leftover = None;
        });
        self.stand_of(conn);
        self.by_conn.remove(&conn);
    }

    fn on_accepted(&mut self, listener: Listener, conn: Conn) {
        let Some((id, stream)) =
            self.by_listener.get(&listener).and_then(|id| Some((*id, self.streams.get(id)?)))
        else {
            return self.worker.abort(conn);
        };
        let child = stream.accepted(conn, &self.worker);
        let child = self.add_stream(child);
        self.by_conn.insert(conn, child);
        self.cork_again(conn);
        self.stand(child);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let file = stream.file;
        if let Some(queue) = stream.queue() {
            queue.waiting.push_back(child);
            // A queue is at most a backlog and one, which is 32 bits.
            self.worker.set_queued(listener, queue.waiting.len() as u32);
        }
        if let Some(file) = file {
            self.wake(file, Ready::IN);
        }
    }

    fn add_stream(&mut self, stream: Stream) -> StreamId {
        let id = self.next_stream;
        self.next_stream += 1;
        self.streams.insert(id, stream);
        id
    }

    /// `socket(2)`: `AF_INET`, and `SOCK_STREAM` or `SOCK_DGRAM` with `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
    ///
    /// # Errors
    /// As Linux's, for what is not offered here.
    pub fn socket(&mut self, domain: i32, kind: i32, protocol: i32) -> Result<Fd, Errno> {
        const FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        if domain != libc::AF_INET {
            return Err(Errno::AFNOSUPPORT);
        }
        let is_nonblocking = kind & libc::SOCK_NONBLOCK != 0;
        let kind = match (kind & !FLAGS, protocol) {
            (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => {
                let choices = StreamChoices::from_options(&self.defaults);
                let stream = Stream::new(self.defaults.clone(), choices);
                Kind::Stream(self.add_stream(stream))
            }
            (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => Kind::Datagram(Box::default()),
            (libc::SOCK_STREAM | libc::SOCK_DGRAM, _) => return Err(Errno::PROTONOSUPPORT),
            (libc::SOCK_RAW | libc::SOCK_SEQPACKET | libc::SOCK_RDM, _) => {
                return Err(Errno::SOCKTNOSUPPORT);
            }
            _ => return Err(Errno::INVAL),
        };
        self.open(kind, is_nonblocking)
    }

    fn open(&mut self, kind: Kind, is_nonblocking: bool) -> Result<Fd, Errno> {
        let stream = if let Kind::Stream(id) = kind { Some(id) } else { None };
        let opened = self.files.insert(kind, is_nonblocking);
        let Some(id) = stream else { return opened };
        match (opened, self.streams.get_mut(&id)) {
            (Ok(fd), Some(stream)) => stream.file = self.files.id(fd).ok(),
            (Ok(_), None) | (Err(_), _) => drop(self.streams.remove(&id)),
        }
        opened
    }

    /// Whether the descriptor is one of these.
    pub fn is_open(&self, fd: Fd) -> bool {
        self.files.id(fd).is_ok()
    }

    /// `close(2)`. Never waits: `SO_LINGER` with a time is the business of [`call::close`]. A call that waits for the file keeps it: it is
    /// over when that call is.
    ///
    /// # Errors
    /// [`Errno::BADF`].
    pub fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        self.files.close(fd)?;
        self.release_closed();
        Ok(())
    }

    /// Ends the files that were closed and that no call holds any more.
    fn release_closed(&mut self) {
        while let Some((id, file)) = self.files.take_released() {
            self.release(id, file);
        }
    }

    fn release(&mut self, id: FileId, file: File) {
        self.unwatch(id, &file);
        match file.kind {
            Kind::Stream(id) => self.close_stream(id),
            Kind::Datagram(socket) => {
                if let Some(udp) = socket.id() {
                    self.by_udp.remove(&udp);
                    self.worker.close_udp(udp);
                }
            }
            Kind::Epoll(_) => {}
        }
    }

    /// The file that a descriptor names now.
    fn file(&self, fd: Fd) -> Result<&File, Errno> {
        self.files.get(self.files.id(fd)?)
    }

    /// A local TCP port that nobody stands on.
    fn free_port(&mut self) -> Result<u16, Errno> {
        let Sockets { worker, ports, .. } = self;
        worker.free_tcp_port(|port| !ports.is_used(port)).ok_or(Errno::ADDRINUSE)
    }

    /// `getsockname(2)`.
    ///
    /// # Errors
    /// [`Errno::BADF`], [`Errno::NOTSOCK`].
    pub fn local_addr(&self, fd: Fd) -> Result<SocketAddrV4, Errno> {
        let unbound = SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0);
        let local = match &self.file(fd)?.kind {
            Kind::Stream(id) => self.streams.get(id).and_then(|stream| stream.local(&self.worker)),
            Kind::Datagram(socket) => socket.local(&self.worker),
            Kind::Epoll(_) => return Err(Errno::NOTSOCK),
        };
        Ok(local.unwrap_or(unbound))
    }

    /// `getpeername(2)`.
    ///
    /// # Errors
    /// [`Errno::NOTCONN`], [`Errno::BADF`], [`Errno::NOTSOCK`].
    pub fn peer_addr(&self, fd: Fd) -> Result<SocketAddrV4, Errno> {
        let peer = match &self.file(fd)?.kind {
            Kind::Stream(id) => self.streams.get(id).and_then(|stream| self.peer_of(stream)),
            Kind::Datagram(socket) => socket.peer(),
            Kind::Epoll(_) => return Err(Errno::NOTSOCK),
        };
        peer.ok_or(Errno::NOTCONN)
    }
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets").field("files", &self.files).finish_non_exhaustive()
    }
}
