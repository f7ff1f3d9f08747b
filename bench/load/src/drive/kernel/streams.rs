//! TCP connections over kernel sockets.
//!
//! Each socket is put into epoll once, edge-triggered for both directions, and never changed: with one
//! request in flight an answer is one `recv`, a request one `send`.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with, sockopt,
};

use crate::closed_loop::{LoadError, Received, StreamEvent, Streams};
use crate::meter::Fault;
use crate::scenario::Scenario;

const BUFFER_BYTES: usize = 64 * 1024;
const EVENTS_PER_WAIT: usize = 256;

/// Errors and hang-ups show themselves to whoever reads.
const ENDED: epoll::EventFlags =
    epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);

pub(super) struct KernelStreams {
    target: SocketAddr,
    epoll: OwnedFd,
    /// Indexed by asker.
    conns: Vec<Option<Conn>>,
    buffer: Box<[u8]>,
}

struct Conn {
    fd: OwnedFd,
    connected: bool,
    /// The peer has sent its FIN or worse: read until that shows.
    ended: bool,
}

impl KernelStreams {
    pub(super) fn new(scenario: &Scenario) -> Result<KernelStreams, LoadError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(io::Error::from)
            .map_err(LoadError::stack("epoll_create"))?;
        let conns = std::iter::repeat_with(|| None).take(scenario.in_flight).collect();
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(KernelStreams { target: scenario.target, epoll, conns, buffer })
    }

    fn connect(&self, slot: usize) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        // Every end of a connection here is an abort; see `Work::resets`.
        sockopt::set_socket_linger(&fd, Some(Duration::ZERO))?;
        match connect(&fd, &self.target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | ENDED | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(slot as u64), interest)?;
        Ok(fd)
    }
}

impl Streams for KernelStreams {
    fn open(&mut self, slot: usize) -> Result<(), LoadError> {
        match self.connect(slot) {
            Ok(fd) => self.conns[slot] = Some(Conn { fd, connected: false, ended: false }),
            // No answer follows: the loop's timeout opens it again.
            Err(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ADDRNOTAVAIL) => self.conns[slot] = None,
            Err(error) => return Err(LoadError::Stack { what: "connect", error: error.into() }),
        }
        Ok(())
    }

    fn send(&mut self, slot: usize, bytes: &[u8]) -> Result<usize, Fault> {
        let Some(conn) = &self.conns[slot] else { return Err(Fault::Reset) };
        let mut sent = 0;
        while sent < bytes.len() {
            match send(&conn.fd, &bytes[sent..], SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(fault_of(error)),
            }
        }
        Ok(sent)
    }

    fn receive(&mut self, slot: usize, sink: &mut impl FnMut(&[u8])) -> Result<Received, Fault> {
        let Some(conn) = &self.conns[slot] else { return Err(Fault::Reset) };
        loop {
            let len = match recv(&conn.fd, &mut *self.buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Ok(Received::Eof),
                Ok((len, _)) => len,
                Err(Errno::AGAIN) => return Ok(Received::Open),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(fault_of(error)),
            };
            sink(&self.buffer[..len]);
            // epoll(7): a short read of a stream has emptied it, and a new edge follows new data. The end
            // of the stream may have come before this read: then its edge has passed.
            if len < self.buffer.len() && !conn.ended {
                return Ok(Received::Open);
            }
        }
    }

    fn abort(&mut self, slot: usize) {
        self.conns[slot] = None;
    }

    fn turn(&mut self, wait: Duration, out: &mut Vec<StreamEvent>) -> Result<(), LoadError> {
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_PER_WAIT];
        let events = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(LoadError::Stack { what: "epoll_wait", error: error.into() }),
        };
        for event in events {
            let slot = event.data.u64() as usize;
            let flags = event.flags;
            let Some(conn) = &mut self.conns[slot] else { continue };
            if !conn.connected {
                match sockopt::socket_error(&conn.fd) {
                    Ok(Ok(())) if flags.contains(epoll::EventFlags::OUT) => {
                        conn.connected = true;
                        out.push(StreamEvent::Opened(slot));
                    }
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) | Err(error) => {
                        out.push(StreamEvent::Failed(slot, fault_of(error)));
                        continue;
                    }
                }
            } else if flags.contains(epoll::EventFlags::OUT) {
                out.push(StreamEvent::Writable(slot));
            }
            conn.ended |= flags.intersects(ENDED);
            if conn.ended || flags.contains(epoll::EventFlags::IN) {
                out.push(StreamEvent::Readable(slot));
            }
        }
        Ok(())
    }
}

fn fault_of(error: Errno) -> Fault {
    match error {
        Errno::CONNREFUSED => Fault::Refused,
        Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH => Fault::Timeout,
        _ => Fault::Reset,
    }
}
