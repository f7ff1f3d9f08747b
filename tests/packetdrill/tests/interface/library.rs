//! The library as packetdrill holds it: loaded by its path, called through the structure of C pointers.

use std::ffi::{CString, c_char, c_int, c_long, c_longlong, c_uint, c_ulong, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};

use libc::{
    epoll_event, iovec, loff_t, msghdr, nfds_t, pollfd, size_t, sockaddr, sockaddr_in, socklen_t, ssize_t,
    timeval,
};
use libloading::os::unix::Library as Loaded;

type Any = *mut c_void;

/// `struct packetdrill_interface` as its header declares it, variadic functions included.
#[repr(C)]
pub(crate) struct Interface {
    pub(crate) userdata: Any,
    pub(crate) free: Option<unsafe extern "C" fn(Any)>,
    pub(crate) socket: Option<unsafe extern "C" fn(Any, c_int, c_int, c_int) -> c_int>,
    pub(crate) bind: Option<unsafe extern "C" fn(Any, c_int, *const sockaddr, socklen_t) -> c_int>,
    pub(crate) listen: Option<unsafe extern "C" fn(Any, c_int, c_int) -> c_int>,
    pub(crate) accept: Option<unsafe extern "C" fn(Any, c_int, *mut sockaddr, *mut socklen_t) -> c_int>,
    pub(crate) connect: Option<unsafe extern "C" fn(Any, c_int, *const sockaddr, socklen_t) -> c_int>,
    pub(crate) read: Option<unsafe extern "C" fn(Any, c_int, Any, size_t) -> ssize_t>,
    pub(crate) readv: Option<unsafe extern "C" fn(Any, c_int, *const iovec, c_int) -> ssize_t>,
    pub(crate) recv: Option<unsafe extern "C" fn(Any, c_int, Any, size_t, c_int) -> ssize_t>,
    pub(crate) recvfrom: Option<
        unsafe extern "C" fn(Any, c_int, Any, size_t, c_int, *mut sockaddr, *mut socklen_t) -> ssize_t,
    >,
    pub(crate) recvmsg: Option<unsafe extern "C" fn(Any, c_int, *mut msghdr, c_int) -> ssize_t>,
    pub(crate) write: Option<unsafe extern "C" fn(Any, c_int, *const c_void, size_t) -> ssize_t>,
    pub(crate) writev: Option<unsafe extern "C" fn(Any, c_int, *const iovec, c_int) -> ssize_t>,
    pub(crate) send: Option<unsafe extern "C" fn(Any, c_int, *const c_void, size_t, c_int) -> ssize_t>,
    pub(crate) sendto: Option<
        unsafe extern "C" fn(Any, c_int, *const c_void, size_t, c_int, *const sockaddr, socklen_t) -> ssize_t,
    >,
    pub(crate) sendmsg: Option<unsafe extern "C" fn(Any, c_int, *const msghdr, c_int) -> ssize_t>,
    pub(crate) fcntl: Option<unsafe extern "C" fn(Any, c_int, c_int, ...) -> c_int>,
    pub(crate) ioctl: Option<unsafe extern "C" fn(Any, c_int, c_ulong, ...) -> c_int>,
    pub(crate) close: Option<unsafe extern "C" fn(Any, c_int) -> c_int>,
    pub(crate) shutdown: Option<unsafe extern "C" fn(Any, c_int, c_int) -> c_int>,
    pub(crate) getsockopt:
        Option<unsafe extern "C" fn(Any, c_int, c_int, c_int, Any, *mut socklen_t) -> c_int>,
    pub(crate) setsockopt:
        Option<unsafe extern "C" fn(Any, c_int, c_int, c_int, *const c_void, socklen_t) -> c_int>,
    pub(crate) poll: Option<unsafe extern "C" fn(Any, *mut pollfd, nfds_t, c_int) -> c_int>,
    pub(crate) netdev_send: Option<unsafe extern "C" fn(Any, *const c_void, size_t) -> c_int>,
    pub(crate) netdev_receive: Option<unsafe extern "C" fn(Any, Any, *mut size_t, *mut c_longlong) -> c_int>,
    pub(crate) usleep: Option<unsafe extern "C" fn(Any, c_uint) -> c_int>,
    pub(crate) gettimeofday: Option<unsafe extern "C" fn(Any, *mut timeval, Any) -> c_int>,
    pub(crate) epoll_create: Option<unsafe extern "C" fn(Any, c_int) -> c_int>,
    pub(crate) epoll_ctl: Option<unsafe extern "C" fn(Any, c_int, c_int, c_int, *mut epoll_event) -> c_int>,
    pub(crate) epoll_wait: Option<unsafe extern "C" fn(Any, c_int, *mut epoll_event, c_int, c_int) -> c_int>,
    pub(crate) pipe: Option<unsafe extern "C" fn(Any, *mut c_int) -> c_int>,
    pub(crate) splice:
        Option<unsafe extern "C" fn(Any, c_int, *mut loff_t, c_int, *mut loff_t, size_t, c_uint) -> c_int>,
}

const POINTERS: usize = 32;
const _: () = assert!(size_of::<Interface>() == (POINTERS + 1) * size_of::<Any>());

/// A loaded and initialised library.
pub(crate) struct Drill {
    pub(crate) interface: Interface,
    _loaded: Loaded,
}

// SAFETY: packetdrill calls the functions from two threads, and the library promises to take that.
unsafe impl Sync for Drill {}

/// What C gives: a value, or `errno`.
pub(crate) type Answer<T> = Result<T, i32>;

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn check(result: c_int) -> Answer<c_int> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn check_len(result: ssize_t) -> Answer<usize> {
    usize::try_from(result).map_err(|_| errno())
}

/// Calls a function of the interface, which must be there.
macro_rules! call {
    ($drill:expr, $name:ident $(, $argument:expr)*) => {{
        let function = $drill.interface.$name.expect(concat!("a null pointer: ", stringify!($name)));
        // SAFETY: the library's function of this name, with arguments that live until it returns.
        unsafe { function($drill.interface.userdata $(, $argument)*) }
    }};
}

/// The library that Cargo built for this test, which stands beside it or one folder above.
fn path() -> PathBuf {
    const NAME: &str = "libringwire_packetdrill.so";
    let test = std::env::current_exe().expect("a path");
    let folders = test.ancestors().skip(1).take(2).map(|folder| folder.join(NAME));
    let newest = folders.filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path))).max();
    newest.expect("the library is built with its tests").1
}

pub(crate) fn address((ip, port): ([u8; 4], u16)) -> sockaddr_in {
    sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip) },
        sin_zero: [0; 8],
    }
}

const ADDRESS_LEN: socklen_t = size_of::<sockaddr_in>() as socklen_t;

impl Drill {
    pub(crate) fn new(flags: &str) -> Drill {
        // As so_testing.c does it, but for RTLD_DEEPBIND, which sanitizers do not take.
        let how = libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE;
        // SAFETY: our own library, whose initialisers do nothing.
        let loaded = unsafe { Loaded::open(Some(path()), how) }.expect("the library loads");
        type Init = unsafe extern "C" fn(*const c_char, *mut Interface);
        // SAFETY: the symbol's type is that of packetdrill.h.
        let init: libloading::os::unix::Symbol<Init> =
            unsafe { loaded.get(b"packetdrill_interface_init\0") }.expect("the symbol is there");
        let flags = CString::new(flags).expect("no zero in it");
        let flags = if flags.is_empty() { null() } else { flags.as_ptr() };
        let mut interface = std::mem::MaybeUninit::<Interface>::zeroed();
        // SAFETY: null or a C string, and a structure of nulls as calloc makes it.
        unsafe { init(flags, interface.as_mut_ptr()) };
        // SAFETY: every field may be null.
        let interface = unsafe { interface.assume_init() };
        Drill { interface, _loaded: loaded }
    }

    pub(crate) fn socket(&self, kind: c_int) -> Answer<c_int> {
        check(call!(self, socket, libc::AF_INET, kind, 0))
    }

    pub(crate) fn stream(&self) -> c_int {
        self.socket(libc::SOCK_STREAM).expect("a stream socket")
    }

    pub(crate) fn bind(&self, fd: c_int, to: ([u8; 4], u16)) -> Answer<c_int> {
        let to = address(to);
        check(call!(self, bind, fd, (&raw const to).cast(), ADDRESS_LEN))
    }

    pub(crate) fn listen(&self, fd: c_int, backlog: c_int) -> Answer<c_int> {
        check(call!(self, listen, fd, backlog))
    }

    /// The new descriptor, and the peer's address and port.
    pub(crate) fn accept(&self, fd: c_int) -> Answer<(c_int, [u8; 4], u16)> {
        let mut peer = address(([0; 4], 0));
        let mut len = ADDRESS_LEN;
        let new = check(call!(self, accept, fd, (&raw mut peer).cast(), &raw mut len))?;
        assert_eq!((len, peer.sin_family), (ADDRESS_LEN, libc::AF_INET as u16));
        Ok((new, peer.sin_addr.s_addr.to_ne_bytes(), u16::from_be(peer.sin_port)))
    }

    pub(crate) fn connect(&self, fd: c_int, to: ([u8; 4], u16)) -> Answer<c_int> {
        let to = address(to);
        check(call!(self, connect, fd, (&raw const to).cast(), ADDRESS_LEN))
    }

    pub(crate) fn read(&self, fd: c_int) -> Answer<Vec<u8>> {
        let mut buf = vec![0; 4096];
        let len = check_len(call!(self, read, fd, buf.as_mut_ptr().cast(), buf.len()))?;
        buf.truncate(len);
        Ok(buf)
    }

    pub(crate) fn recv(&self, fd: c_int, len: usize, flags: c_int) -> Answer<Vec<u8>> {
        let mut buf = vec![0; len];
        let len = check_len(call!(self, recv, fd, buf.as_mut_ptr().cast(), buf.len(), flags))?;
        buf.truncate(len);
        Ok(buf)
    }

    /// `read`, `readv`, `recvmsg` and `write` with a buffer of this length that does not exist.
    pub(crate) fn with_null(&self, fd: c_int, len: usize) -> [Answer<usize>; 4] {
        let mut nowhere = [iovec { iov_base: null_mut(), iov_len: len }];
        let mut message = message(&mut nowhere);
        [
            check_len(call!(self, read, fd, null_mut(), len)),
            check_len(call!(self, readv, fd, nowhere.as_ptr(), 1)),
            check_len(call!(self, recvmsg, fd, &raw mut message, 0)),
            check_len(call!(self, write, fd, null(), len)),
        ]
    }

    /// `recv` with a buffer of this length that does not exist.
    pub(crate) fn recv_nowhere(&self, fd: c_int, len: usize, flags: c_int) -> Answer<usize> {
        check_len(call!(self, recv, fd, null_mut(), len, flags))
    }

    pub(crate) fn write(&self, fd: c_int, bytes: &[u8]) -> Answer<usize> {
        check_len(call!(self, write, fd, bytes.as_ptr().cast(), bytes.len()))
    }

    pub(crate) fn send(&self, fd: c_int, bytes: &[u8], flags: c_int) -> Answer<usize> {
        check_len(call!(self, send, fd, bytes.as_ptr().cast(), bytes.len(), flags))
    }

    pub(crate) fn send_to(&self, fd: c_int, bytes: &[u8], to: ([u8; 4], u16)) -> Answer<usize> {
        let to = address(to);
        let (from, len) = (bytes.as_ptr().cast(), bytes.len());
        check_len(call!(self, sendto, fd, from, len, 0, (&raw const to).cast(), ADDRESS_LEN))
    }

    /// A write that connects, to an address of family 0.
    pub(crate) fn send_fast_to_nobody(&self, fd: c_int) -> Answer<usize> {
        let nobody = [0_u8; ADDRESS_LEN as usize];
        let (from, to) = (b"x".as_ptr().cast(), nobody.as_ptr().cast());
        check_len(call!(self, sendto, fd, from, 1, libc::MSG_FASTOPEN, to, ADDRESS_LEN))
    }

    pub(crate) fn recv_from(&self, fd: c_int) -> Answer<(Vec<u8>, u16)> {
        let mut buf = vec![0; 2048];
        let mut peer = address(([0; 4], 0));
        let mut len = ADDRESS_LEN;
        let (to, room) = (buf.as_mut_ptr().cast(), buf.len());
        let peer_at = (&raw mut peer).cast();
        let received = check_len(call!(self, recvfrom, fd, to, room, 0, peer_at, &raw mut len))?;
        buf.truncate(received);
        Ok((buf, u16::from_be(peer.sin_port)))
    }

    pub(crate) fn fcntl(&self, fd: c_int, command: c_int, argument: c_int) -> Answer<c_int> {
        check(call!(self, fcntl, fd, command, argument))
    }

    pub(crate) fn make_nonblocking(&self, fd: c_int) {
        assert_eq!(self.fcntl(fd, libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK), Ok(0));
    }

    pub(crate) fn ioctl(&self, fd: c_int, request: c_ulong) -> Answer<c_int> {
        let mut value: c_int = -1;
        check(call!(self, ioctl, fd, request, &raw mut value)).map(|_| value)
    }

    pub(crate) fn close(&self, fd: c_int) -> Answer<c_int> {
        check(call!(self, close, fd))
    }

    pub(crate) fn shutdown(&self, fd: c_int, how: c_int) -> Answer<c_int> {
        check(call!(self, shutdown, fd, how))
    }

    pub(crate) fn option(&self, fd: c_int, (level, name): (c_int, c_int), room: usize) -> Answer<Vec<u8>> {
        let mut value = vec![0xff; room];
        let mut len = socklen_t::try_from(room).expect("a small option");
        check(call!(self, getsockopt, fd, level, name, value.as_mut_ptr().cast(), &raw mut len))?;
        value.truncate(len as usize);
        Ok(value)
    }

    pub(crate) fn so_error(&self, fd: c_int) -> i32 {
        let value = self.option(fd, (libc::SOL_SOCKET, libc::SO_ERROR), 4).expect("SO_ERROR");
        i32::from_ne_bytes(value.try_into().expect("four bytes"))
    }

    pub(crate) fn set_option(&self, fd: c_int, (level, name): (c_int, c_int), value: &[u8]) -> Answer<c_int> {
        let len = socklen_t::try_from(value.len()).expect("a small option");
        check(call!(self, setsockopt, fd, level, name, value.as_ptr().cast(), len))
    }

    pub(crate) fn poll(&self, fd: c_int, events: i16, timeout_ms: c_int) -> Answer<i16> {
        let mut fds = [pollfd { fd, events, revents: 0 }];
        check(call!(self, poll, fds.as_mut_ptr(), 1, timeout_ms)).map(|_| fds[0].revents)
    }

    pub(crate) fn inject(&self, packet: &[u8]) -> Answer<c_int> {
        check(call!(self, netdev_send, packet.as_ptr().cast(), packet.len()))
    }

    /// The next packet that leaves, and when in microseconds; empty when none does.
    pub(crate) fn receive(&self) -> (Vec<u8>, i64) {
        let mut packet = vec![0; 2048];
        let (mut len, mut at_us) = (packet.len(), 0);
        let to = packet.as_mut_ptr().cast();
        assert_eq!(call!(self, netdev_receive, to, &raw mut len, &raw mut at_us), 0);
        packet.truncate(len);
        (packet, at_us)
    }

    pub(crate) fn usleep(&self, time_us: u32) {
        assert_eq!(call!(self, usleep, time_us), 0);
    }

    pub(crate) fn now_us(&self) -> i64 {
        let mut now = timeval { tv_sec: 0, tv_usec: 0 };
        assert_eq!(call!(self, gettimeofday, &raw mut now, null_mut()), 0);
        now.tv_sec * 1_000_000 + now.tv_usec
    }

    pub(crate) fn pipe(&self) -> Answer<c_int> {
        let mut fds = [0; 2];
        check(call!(self, pipe, fds.as_mut_ptr()))
    }

    pub(crate) fn splice(&self) -> Answer<c_int> {
        check(call!(self, splice, 0, null_mut(), 1, null_mut(), 1, 0))
    }

    pub(crate) fn epoll_create(&self) -> Answer<c_int> {
        check(call!(self, epoll_create, 1))
    }

    pub(crate) fn epoll_add(&self, epoll: c_int, fd: c_int, events: u32, data: u64) -> Answer<c_int> {
        let mut event = epoll_event { events, u64: data };
        check(call!(self, epoll_ctl, epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event))
    }

    pub(crate) fn epoll_wait(&self, epoll: c_int, timeout_ms: c_int) -> Answer<Vec<(u32, u64)>> {
        let mut events = [epoll_event { events: 0, u64: 0 }; 4];
        let count = check(call!(self, epoll_wait, epoll, events.as_mut_ptr(), 4, timeout_ms))?;
        let count = usize::try_from(count).expect("not negative");
        Ok(events[..count].iter().map(|event| (event.events, event.u64)).collect())
    }

    pub(crate) fn writev(&self, fd: c_int, parts: &[&[u8]]) -> Answer<usize> {
        let parts = iovecs(parts);
        check_len(call!(self, writev, fd, parts.as_ptr(), parts.len() as c_int))
    }

    pub(crate) fn sendmsg(&self, fd: c_int, parts: &[&[u8]]) -> Answer<usize> {
        let mut parts = iovecs(parts);
        let message = message(&mut parts);
        check_len(call!(self, sendmsg, fd, &raw const message, 0))
    }

    /// `recvmsg` into a buffer of this length: how much was read, the control data that fit this much room, and `msg_flags`.
    pub(crate) fn recv_control(
        &self,
        fd: c_int,
        (len, room): (usize, usize),
        flags: c_int,
    ) -> Answer<(usize, Vec<u8>, c_int)> {
        let (mut bytes, mut control) = (vec![0; len], vec![0xff; room]);
        let mut parts = [iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len }];
        let mut message = message(&mut parts);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), room);
        let len = check_len(call!(self, recvmsg, fd, &raw mut message, flags))?;
        control.truncate(message.msg_controllen);
        Ok((len, control, message.msg_flags))
    }

    /// Into two buffers of this many bytes.
    pub(crate) fn readv(&self, fd: c_int, len: usize) -> Answer<(usize, Vec<u8>)> {
        let mut bytes = vec![0; 2 * len];
        let parts = halves(&mut bytes);
        check_len(call!(self, readv, fd, parts.as_ptr(), 2)).map(|len| (len, bytes))
    }

    pub(crate) fn recvmsg(&self, fd: c_int, len: usize) -> Answer<(usize, Vec<u8>, c_int)> {
        let mut bytes = vec![0; 2 * len];
        let mut parts = halves(&mut bytes);
        let mut message = message(&mut parts);
        let len = check_len(call!(self, recvmsg, fd, &raw mut message, 0))?;
        Ok((len, bytes, message.msg_flags))
    }
}

fn iovecs(parts: &[&[u8]]) -> Vec<iovec> {
    let one = |part: &&[u8]| iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
    parts.iter().map(one).collect()
}

fn halves(bytes: &mut [u8]) -> Vec<iovec> {
    let half = bytes.len() / 2;
    let one = |part: &mut [u8]| iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() };
    bytes.chunks_mut(half).map(one).collect()
}

fn message(parts: &mut [iovec]) -> msghdr {
    // SAFETY: a structure of pointers and numbers, for all of which zero is nothing.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len();
    message
}

impl Drop for Drill {
    fn drop(&mut self) {
        call!(self, free);
    }
}

/// Keeps the variadic signatures honest: a `long` is what the library reads.
const _: () = assert!(size_of::<c_long>() == size_of::<Any>());
