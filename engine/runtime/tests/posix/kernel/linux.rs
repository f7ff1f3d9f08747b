//! The kernel's sockets: both hosts are one, with both addresses on its loopback, which delivers within the call.

use std::io;
use std::net::SocketAddrV4;
use std::process::{Command, ExitStatus};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use ringwire::posix::Errno;
use ringwire::posix::addr::{self, Named, SOCKADDR_LEN};

use super::calls::{Calls, Sock};
use super::script::{Script, run};
use crate::{A, B};

pub(super) struct Linux {
    open: Vec<i32>,
}

impl Linux {
    /// Runs each script in a thread with a network namespace of its own, which goes with the thread and the sockets made there. None
    /// begins before all namespaces are made: a process that starts has everybody's descriptors for a moment, and what is closed then is
    /// not closed yet.
    pub(super) fn run_all(scripts: &[Script]) -> Vec<Vec<String>> {
        let are_made = Barrier::new(scripts.len());
        let are_made = &are_made;
        thread::scope(|scope| {
            let body = |script| {
                let is_made = namespace();
                are_made.wait();
                is_made.unwrap();
                run(script, &mut Linux { open: Vec::new() })
            };
            let running: Vec<_> = scripts.iter().map(|script| scope.spawn(move || body(script))).collect();
            let outcomes = running.into_iter().map(|thread| thread.join());
            outcomes.map(|outcome| outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }

    fn opened(&mut self, host: usize, fd: i32) -> Result<Sock, Errno> {
        let fd = result(fd)?;
        self.open.push(fd);
        Ok(Sock { host, fd })
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        for fd in self.open.drain(..) {
            // SAFETY: nobody else knows the number.
            unsafe { libc::close(fd) };
        }
    }
}

/// Moves this thread to a new namespace with both hosts' addresses.
fn namespace() -> Result<(), String> {
    // SAFETY: only moves the calling thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(format!("needs root (CAP_SYS_ADMIN): {}", io::Error::last_os_error()));
    }
    for command in
        [format!("addr add {A}/32 dev lo"), format!("addr add {B}/32 dev lo"), "link set lo up".into()]
    {
        let done = Command::new("ip").args(command.split_whitespace()).status();
        done.ok().filter(ExitStatus::success).ok_or(format!("ip {command}"))?;
    }
    Ok(())
}

fn result(value: i32) -> Result<i32, Errno> {
    if value >= 0 {
        return Ok(value);
    }
    Err(Errno::from_raw(io::Error::last_os_error().raw_os_error().unwrap_or(0)))
}

fn length(value: isize) -> Result<usize, Errno> {
    usize::try_from(value)
        .map_err(|_| Errno::from_raw(io::Error::last_os_error().raw_os_error().unwrap_or(0)))
}

/// The C interface has lengths of 32 bits.
const ADDR_LEN: libc::socklen_t = SOCKADDR_LEN as libc::socklen_t;

fn named(
    sock: Sock,
    call: unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> i32,
) -> Result<SocketAddrV4, Errno> {
    let (mut bytes, mut len) = ([0_u8; SOCKADDR_LEN], ADDR_LEN);
    // SAFETY: `call` is getsockname or getpeername; there is room for `len` bytes, which has the alignment of bytes.
    result(unsafe { call(sock.fd, bytes.as_mut_ptr().cast(), &raw mut len) })?;
    match addr::decode(&bytes)? {
        Named::Inet(addr) => Ok(addr),
        Named::Unspecified => Err(Errno::AFNOSUPPORT),
    }
}

impl Calls for Linux {
    fn socket(&mut self, host: usize, kind: i32) -> Result<Sock, Errno> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
        self.opened(host, fd)
    }

    fn bind(&mut self, sock: Sock, addr: SocketAddrV4) -> Result<(), Errno> {
        let bytes = addr::encode(addr);
        // SAFETY: an address of that length.
        result(unsafe { libc::bind(sock.fd, bytes.as_ptr().cast(), ADDR_LEN) }).map(|_| ())
    }

    fn listen(&mut self, sock: Sock, backlog: i32) -> Result<(), Errno> {
        // SAFETY: takes no pointers.
        result(unsafe { libc::listen(sock.fd, backlog) }).map(|_| ())
    }

    fn accept(&mut self, sock: Sock) -> Result<Sock, Errno> {
        // SAFETY: no address is asked for.
        let fd = unsafe {
            libc::accept4(
                sock.fd,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            )
        };
        self.opened(sock.host, fd)
    }

    fn connect(&mut self, sock: Sock, to: Named) -> Result<(), Errno> {
        let bytes = match to {
            Named::Inet(to) => addr::encode(to),
            // AF_UNSPEC is 0.
            Named::Unspecified => [0; SOCKADDR_LEN],
        };
        // SAFETY: an address of that length.
        result(unsafe { libc::connect(sock.fd, bytes.as_ptr().cast(), ADDR_LEN) }).map(|_| ())
    }

    fn send(
        &mut self,
        sock: Sock,
        bytes: &[u8],
        flags: i32,
        to: Option<SocketAddrV4>,
    ) -> Result<usize, Errno> {
        let flags = flags | libc::MSG_NOSIGNAL;
        let to = to.map(addr::encode);
        let (name, len) = to.as_ref().map_or((std::ptr::null(), 0), |to| (to.as_ptr(), ADDR_LEN));
        // SAFETY: bytes and an address, or none, of those lengths.
        length(unsafe { libc::sendto(sock.fd, bytes.as_ptr().cast(), bytes.len(), flags, name.cast(), len) })
    }

    fn recv(&mut self, sock: Sock, len: usize, flags: i32) -> Result<Vec<u8>, Errno> {
        let mut buf = vec![b'_'; len];
        // SAFETY: there is room for `len` bytes.
        let found = length(unsafe { libc::recv(sock.fd, buf.as_mut_ptr().cast(), len, flags) })?;
        buf.resize(found, b'_');
        Ok(buf)
    }

    fn shutdown(&mut self, sock: Sock, how: i32) -> Result<(), Errno> {
        // SAFETY: takes no pointers.
        result(unsafe { libc::shutdown(sock.fd, how) }).map(|_| ())
    }

    fn close(&mut self, sock: Sock) -> Result<(), Errno> {
        self.open.retain(|fd| *fd != sock.fd);
        // SAFETY: it was opened here, and nobody else knows the number.
        result(unsafe { libc::close(sock.fd) }).map(|_| ())
    }

    fn poll(&mut self, sock: Sock, events: i16) -> i16 {
        let mut entry = libc::pollfd { fd: sock.fd, events, revents: 0 };
        // SAFETY: one entry.
        unsafe { libc::poll(&raw mut entry, 1, 0) };
        entry.revents
    }

    fn set(&mut self, sock: Sock, (level, name): (i32, i32), value: &[u8]) -> Result<(), Errno> {
        let len = value.len() as libc::socklen_t;
        // SAFETY: a value of that length.
        result(unsafe { libc::setsockopt(sock.fd, level, name, value.as_ptr().cast(), len) }).map(|_| ())
    }

    fn get(&mut self, sock: Sock, (level, name): (i32, i32)) -> Result<Vec<u8>, Errno> {
        let mut value = vec![0_u8; 512];
        let mut len = value.len() as libc::socklen_t;
        // SAFETY: there is room for `len` bytes.
        result(unsafe { libc::getsockopt(sock.fd, level, name, value.as_mut_ptr().cast(), &raw mut len) })?;
        value.truncate(len as usize);
        Ok(value)
    }

    fn ioctl(&mut self, sock: Sock, request: u64) -> Result<i32, Errno> {
        let mut value = 0_i32;
        // SAFETY: the requests of the scripts write one int.
        result(unsafe { libc::ioctl(sock.fd, request as _, &raw mut value) })?;
        Ok(value)
    }

    fn local(&mut self, sock: Sock) -> Result<SocketAddrV4, Errno> {
        named(sock, libc::getsockname)
    }

    fn peer(&mut self, sock: Sock) -> Result<SocketAddrV4, Errno> {
        named(sock, libc::getpeername)
    }

    fn epoll(&mut self, host: usize) -> Result<Sock, Errno> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        self.opened(host, fd)
    }

    fn epoll_ctl(&mut self, epoll: Sock, operation: i32, sock: Sock, events: u32) -> Result<(), Errno> {
        let mut event = libc::epoll_event { events, u64: u64::from(sock.fd.unsigned_abs()) };
        // SAFETY: an event.
        result(unsafe { libc::epoll_ctl(epoll.fd, operation, sock.fd, &raw mut event) }).map(|_| ())
    }

    fn epoll_wait(&mut self, epoll: Sock, max: usize) -> Result<Vec<(i32, u32)>, Errno> {
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; max];
        // SAFETY: there is room for `max` events.
        let found = result(unsafe { libc::epoll_wait(epoll.fd, events.as_mut_ptr(), max as i32, 0) })?;
        Ok(events.iter().take(found as usize).map(|event| (event.u64 as i32, event.events)).collect())
    }

    fn pass(&mut self, ms: u64) {
        thread::sleep(Duration::from_millis(ms));
    }
}
