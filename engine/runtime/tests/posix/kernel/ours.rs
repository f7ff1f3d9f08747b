//! Ringwire's sockets: two hosts in virtual time.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddrV4;
use std::time::Duration;

use ringwire::posix::addr::Named;
use ringwire::posix::{EpollEvent, Errno, Ioctl, Mode, PollFd, Sockets};

use super::calls::{Calls, Sock};
use crate::Net;

pub(super) struct Ours(Net);

impl Ours {
    pub(super) fn new() -> Ours {
        Ours(Net::new())
    }

    /// A call of one host, and what follows from it.
    fn on<R>(&mut self, sock: Sock, call: impl FnOnce(&mut Sockets, i32) -> R) -> R {
        let host = if sock.host == 0 { &mut self.0.a } else { &mut self.0.b.sockets };
        let result = call(host, sock.fd);
        self.0.settle();
        result
    }
}

impl Calls for Ours {
    fn socket(&mut self, host: usize, kind: i32) -> Result<Sock, Errno> {
        let kind = kind | libc::SOCK_NONBLOCK;
        let fd = self.on(Sock { host, fd: -1 }, |sockets, _| sockets.socket(libc::AF_INET, kind, 0))?;
        Ok(Sock { host, fd })
    }

    fn bind(&mut self, sock: Sock, addr: SocketAddrV4) -> Result<(), Errno> {
        self.on(sock, |sockets, fd| sockets.bind(fd, Named::Inet(addr)))
    }

    fn listen(&mut self, sock: Sock, backlog: i32) -> Result<(), Errno> {
        self.on(sock, |sockets, fd| sockets.listen(fd, backlog))
    }

    fn accept(&mut self, sock: Sock) -> Result<Sock, Errno> {
        let (fd, _) = self.on(sock, |sockets, fd| sockets.accept(fd, Mode::Nonblocking))?;
        Ok(Sock { host: sock.host, fd })
    }

    fn connect(&mut self, sock: Sock, to: Named) -> Result<(), Errno> {
        self.on(sock, |sockets, fd| sockets.connect(fd, to))
    }

    fn send(
        &mut self,
        sock: Sock,
        bytes: &[u8],
        flags: i32,
        to: Option<SocketAddrV4>,
    ) -> Result<usize, Errno> {
        self.on(sock, |sockets, fd| sockets.send(fd, &[IoSlice::new(bytes)], flags, to))
    }

    fn recv(&mut self, sock: Sock, len: usize, flags: i32) -> Result<Vec<u8>, Errno> {
        let mut buf = vec![b'_'; len];
        let found = self.on(sock, |sockets, fd| sockets.recv(fd, &mut [IoSliceMut::new(&mut buf)], flags))?;
        buf.resize(found.len, b'_');
        Ok(buf)
    }

    fn shutdown(&mut self, sock: Sock, how: i32) -> Result<(), Errno> {
        self.on(sock, |sockets, fd| sockets.shutdown(fd, how))
    }

    fn close(&mut self, sock: Sock) -> Result<(), Errno> {
        self.on(sock, |sockets, fd| sockets.close(fd))
    }

    fn poll(&mut self, sock: Sock, events: i16) -> i16 {
        let mut fds = [PollFd { fd: sock.fd, events, revents: 0 }];
        self.on(sock, |sockets, _| sockets.poll(&mut fds));
        fds[0].revents
    }

    fn set(&mut self, sock: Sock, (level, name): (i32, i32), value: &[u8]) -> Result<(), Errno> {
        self.on(sock, |sockets, fd| sockets.set_option(fd, level, name, value))
    }

    fn get(&mut self, sock: Sock, (level, name): (i32, i32)) -> Result<Vec<u8>, Errno> {
        self.on(sock, |sockets, fd| sockets.option(fd, level, name))
    }

    fn ioctl(&mut self, sock: Sock, request: u64) -> Result<i32, Errno> {
        match self.on(sock, |sockets, fd| sockets.ioctl(fd, request))? {
            Ioctl::Get(value) => Ok(value),
            Ioctl::TakesNonblocking => Err(Errno::NOTTY),
        }
    }

    fn local(&mut self, sock: Sock) -> Result<SocketAddrV4, Errno> {
        self.on(sock, |sockets, fd| sockets.local_addr(fd))
    }

    fn peer(&mut self, sock: Sock) -> Result<SocketAddrV4, Errno> {
        self.on(sock, |sockets, fd| sockets.peer_addr(fd))
    }

    fn epoll(&mut self, host: usize) -> Result<Sock, Errno> {
        let fd = self.on(Sock { host, fd: -1 }, |sockets, _| sockets.epoll_create(0))?;
        Ok(Sock { host, fd })
    }

    fn epoll_ctl(&mut self, epoll: Sock, operation: i32, sock: Sock, events: u32) -> Result<(), Errno> {
        let event = EpollEvent { events, data: u64::from(sock.fd.unsigned_abs()) };
        self.on(epoll, |sockets, fd| sockets.epoll_ctl(fd, operation, sock.fd, Some(event)))
    }

    fn epoll_wait(&mut self, epoll: Sock, max: usize) -> Result<Vec<(i32, u32)>, Errno> {
        let found = self.on(epoll, |sockets, fd| sockets.epoll_wait(fd, max))?;
        Ok(found.into_iter().map(|event| (event.data as i32, event.events)).collect())
    }

    fn pass(&mut self, ms: u64) {
        self.0.pass(Duration::from_millis(ms));
    }
}
