//! TCP echo: level-triggered epoll, one `recv` and one `send` per request.
//!
//! Choices, each worth a system call per request or more:
//! - level-triggered, one `recv` per event: no closing `recv` that only says EAGAIN;
//! - a new connection is read at once, because a client's first request usually comes with its ACK;
//! - spinning over few connections asks the sockets themselves and leaves epoll out.

use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::{STOP_LATENCY, StopCheck, Wait, is_retry};

/// Up to so many connections a spinning server asks one by one; beyond, one epoll_wait is cheaper.
const DIRECT_SPIN_LIMIT: usize = 4;
const BACKLOG: i32 = 4096;
const BUFFER_BYTES: usize = 64 * 1024;
const EVENTS_PER_WAIT: usize = 256;
const LISTENER: u64 = u64::MAX;

/// An echo server for TCP over kernel sockets.
pub struct TcpEcho {
    listener: OwnedFd,
    epoll: OwnedFd,
    wait: Wait,
    local: SocketAddr,
    /// Indexed by the epoll token.
    conns: Vec<Option<Conn>>,
    vacant: Vec<usize>,
    buffer: Box<[u8]>,
}

struct Conn {
    fd: OwnedFd,
    /// What the socket would not take; while it is not empty, nothing more is read.
    unsent: Vec<u8>,
}

enum Served {
    Open,
    Closed,
}

impl TcpEcho {
    /// Binds and listens; connections are answered once [`TcpEcho::run`] is called.
    pub fn bind(addr: SocketAddrV4, wait: Wait) -> io::Result<TcpEcho> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        let listener = OwnedFd::from(socket);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(TcpEcho { listener, epoll, wait, local, conns: Vec::new(), vacant: Vec::new(), buffer })
    }

    /// The address that was bound, with the port the kernel chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves on the calling thread until `stop` is set.
    pub fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut check = StopCheck::new(stop, self.wait);
        while !check.is_due() {
            let open_count = self.conns.len() - self.vacant.len();
            if self.wait == Wait::Spinning && open_count <= DIRECT_SPIN_LIMIT {
                self.sweep()?;
            } else {
                self.wait_and_serve()?;
            }
        }
        Ok(())
    }

    fn wait_and_serve(&mut self) -> io::Result<()> {
        let timeout = match self.wait {
            Wait::Blocking => Timespec { tv_sec: 0, tv_nsec: STOP_LATENCY.as_nanos() as i64 },
            Wait::Spinning => Timespec { tv_sec: 0, tv_nsec: 0 },
        };
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_PER_WAIT];
        let events = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((events, _)) => events,
            Err(error) if is_retry(error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events {
            match event.data.u64() {
                LISTENER => self.accept()?,
                token => self.serve(token as usize)?,
            }
        }
        Ok(())
    }

    /// Asks every socket once, without epoll.
    fn sweep(&mut self) -> io::Result<()> {
        for token in 0..self.conns.len() {
            self.serve(token)?;
        }
        self.accept()
    }

    fn accept(&mut self) -> io::Result<()> {
        let fd = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => fd,
            // A connection that was reset while it waited is the client's affair, not the server's end.
            Err(error) if is_retry(error) || error == Errno::CONNABORTED => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        sockopt::set_tcp_nodelay(&fd, true)?;
        let token = self.vacant.pop().unwrap_or(self.conns.len());
        epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(token as u64), epoll::EventFlags::IN)?;
        let conn = Some(Conn { fd, unsent: Vec::new() });
        match self.conns.get_mut(token) {
            Some(place) => *place = conn,
            None => self.conns.push(conn),
        }
        self.serve(token)
    }

    fn serve(&mut self, token: usize) -> io::Result<()> {
        let Some(Some(conn)) = self.conns.get_mut(token) else { return Ok(()) };
        let served = if conn.unsent.is_empty() { conn.echo(&mut self.buffer) } else { conn.flush() };
        let (blocked_before, blocked_now) = match served {
            Ok((Served::Open, before)) => (before, !conn.unsent.is_empty()),
            // Whatever ended the connection ended only that connection.
            Ok((Served::Closed, _)) | Err(_) => return self.close(token),
        };
        if blocked_before != blocked_now {
            let interest = if blocked_now { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
            epoll::modify(&self.epoll, &conn.fd, epoll::EventData::new_u64(token as u64), interest)?;
        }
        Ok(())
    }

    /// Closing takes the socket out of epoll.
    fn close(&mut self, token: usize) -> io::Result<()> {
        self.conns[token] = None;
        self.vacant.push(token);
        Ok(())
    }
}

impl Conn {
    /// Reads once and writes it back; says also whether the connection was blocked before.
    fn echo(&mut self, buffer: &mut [u8]) -> Result<(Served, bool), Errno> {
        let len = match recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => return Ok((Served::Closed, false)),
            Ok((len, _)) => len,
            Err(error) if is_retry(error) => return Ok((Served::Open, false)),
            Err(error) => return Err(error),
        };
        let sent = self.write(&buffer[..len])?;
        self.unsent.extend_from_slice(&buffer[sent..len]);
        Ok((Served::Open, false))
    }

    fn flush(&mut self) -> Result<(Served, bool), Errno> {
        let sent = self.write(&self.unsent)?;
        self.unsent.drain(..sent);
        Ok((Served::Open, true))
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match send(&self.fd, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => Ok(sent),
            Err(error) if is_retry(error) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Shutdown, TcpStream};
    use std::sync::atomic::Ordering;
    use std::thread;

    use super::*;

    fn with_server(wait: Wait, client: impl FnOnce(SocketAddr)) {
        let server = TcpEcho::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), wait).unwrap();
        let addr = server.local_addr();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let running = scope.spawn(|| server.run(&stop));
            client(addr);
            stop.store(true, Ordering::Relaxed);
            running.join().unwrap().unwrap();
        });
    }

    fn echo_once(stream: &mut TcpStream, byte: u8) {
        let request = [byte; 64];
        stream.write_all(&request).unwrap();
        let mut answer = [0; 64];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, request);
    }

    #[test]
    fn both_forms_echo_over_few_and_many_connections() {
        for wait in [Wait::Blocking, Wait::Spinning] {
            with_server(wait, |addr| {
                let mut streams: Vec<_> =
                    (0..DIRECT_SPIN_LIMIT + 3).map(|_| TcpStream::connect(addr).unwrap()).collect();
                for turn in 0..3 {
                    for (index, stream) in streams.iter_mut().enumerate() {
                        echo_once(stream, (turn * 16 + index) as u8);
                    }
                }
            });
        }
    }

    #[test]
    fn more_than_the_socket_buffers_hold_comes_back_whole() {
        const TOTAL_BYTES: usize = 32 << 20;
        with_server(Wait::Blocking, |addr| {
            let stream = TcpStream::connect(addr).unwrap();
            let mut writer = stream.try_clone().unwrap();
            let sender = thread::spawn(move || {
                let block: Vec<u8> = (0..=250).cycle().take(TOTAL_BYTES).collect();
                writer.write_all(&block).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            // Long enough for both directions to fill: the server must hold back and go on.
            thread::sleep(std::time::Duration::from_millis(200));
            let mut received = Vec::new();
            let mut stream = stream;
            stream.read_to_end(&mut received).unwrap();
            sender.join().unwrap();
            assert_eq!(received.len(), TOTAL_BYTES);
            assert!(received.iter().zip((0..=250).cycle()).all(|(got, want)| *got == want));
        });
    }

    #[test]
    fn a_reset_connection_does_not_end_the_server() {
        with_server(Wait::Blocking, |addr| {
            let rude = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            rude.connect(&addr.into()).unwrap();
            rude.set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(rude);
            echo_once(&mut TcpStream::connect(addr).unwrap(), 7);
        });
    }
}
