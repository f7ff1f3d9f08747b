//! What both sides can do.

use std::net::SocketAddrV4;

use ringwire::posix::Errno;
use ringwire::posix::addr::Named;

/// A descriptor of one of the two hosts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sock {
    pub(super) host: usize,
    pub(super) fd: i32,
}

/// Calls that never wait; after each, everything has happened that can happen at once.
pub(super) trait Calls {
    fn socket(&mut self, host: usize, kind: i32) -> Result<Sock, Errno>;
    fn bind(&mut self, sock: Sock, addr: SocketAddrV4) -> Result<(), Errno>;
    fn listen(&mut self, sock: Sock, backlog: i32) -> Result<(), Errno>;
    fn accept(&mut self, sock: Sock) -> Result<Sock, Errno>;
    fn connect(&mut self, sock: Sock, to: Named) -> Result<(), Errno>;
    fn send(
        &mut self,
        sock: Sock,
        bytes: &[u8],
        flags: i32,
        to: Option<SocketAddrV4>,
    ) -> Result<usize, Errno>;
    fn recv(&mut self, sock: Sock, len: usize, flags: i32) -> Result<Vec<u8>, Errno>;
    fn shutdown(&mut self, sock: Sock, how: i32) -> Result<(), Errno>;
    fn close(&mut self, sock: Sock) -> Result<(), Errno>;
    fn poll(&mut self, sock: Sock, events: i16) -> i16;
    fn set(&mut self, sock: Sock, option: (i32, i32), value: &[u8]) -> Result<(), Errno>;
    fn get(&mut self, sock: Sock, option: (i32, i32)) -> Result<Vec<u8>, Errno>;
    fn ioctl(&mut self, sock: Sock, request: u64) -> Result<i32, Errno>;
    fn local(&mut self, sock: Sock) -> Result<SocketAddrV4, Errno>;
    fn peer(&mut self, sock: Sock) -> Result<SocketAddrV4, Errno>;
    fn epoll(&mut self, host: usize) -> Result<Sock, Errno>;
    fn epoll_ctl(&mut self, epoll: Sock, operation: i32, sock: Sock, events: u32) -> Result<(), Errno>;
    /// The events of each descriptor that has any.
    fn epoll_wait(&mut self, epoll: Sock, max: usize) -> Result<Vec<(i32, u32)>, Errno>;
    fn pass(&mut self, ms: u64);
}
