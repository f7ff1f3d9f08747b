//! `struct packetdrill_interface` (packetdrill.h): C types in, C types and `errno` out.
//!
//! Every function is called by packetdrill with the `userdata` of [`packetdrill_interface_init`] and with pointers as the system call
//! of its name takes them; what each `SAFETY` comment rests on is that contract.

mod calls;
mod memory;

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};

use libc::{epoll_event, iovec, loff_t, msghdr, pollfd, size_t, sockaddr, socklen_t, ssize_t, timeval};
use ringwire::posix::Errno;

use crate::library::Library;

/// What packetdrill calls us by; it makes the structure, with every pointer null.
#[repr(C)]
#[derive(Debug)]
pub struct PacketdrillInterface {
    userdata: *mut c_void,
    free: Option<unsafe extern "C" fn(*mut c_void)>,
    socket: Option<unsafe extern "C" fn(*mut c_void, c_int, c_int, c_int) -> c_int>,
    bind: Option<unsafe extern "C" fn(*mut c_void, c_int, *const sockaddr, socklen_t) -> c_int>,
    listen: Option<unsafe extern "C" fn(*mut c_void, c_int, c_int) -> c_int>,
    accept: Option<unsafe extern "C" fn(*mut c_void, c_int, *mut sockaddr, *mut socklen_t) -> c_int>,
    connect: Option<unsafe extern "C" fn(*mut c_void, c_int, *const sockaddr, socklen_t) -> c_int>,
    read: Option<unsafe extern "C" fn(*mut c_void, c_int, *mut c_void, size_t) -> ssize_t>,
    readv: Option<unsafe extern "C" fn(*mut c_void, c_int, *const iovec, c_int) -> ssize_t>,
    recv: Option<unsafe extern "C" fn(*mut c_void, c_int, *mut c_void, size_t, c_int) -> ssize_t>,
    recvfrom: Option<RecvFrom>,
    recvmsg: Option<unsafe extern "C" fn(*mut c_void, c_int, *mut msghdr, c_int) -> ssize_t>,
    write: Option<unsafe extern "C" fn(*mut c_void, c_int, *const c_void, size_t) -> ssize_t>,
    writev: Option<unsafe extern "C" fn(*mut c_void, c_int, *const iovec, c_int) -> ssize_t>,
    send: Option<unsafe extern "C" fn(*mut c_void, c_int, *const c_void, size_t, c_int) -> ssize_t>,
    sendto: Option<SendTo>,
    sendmsg: Option<unsafe extern "C" fn(*mut c_void, c_int, *const msghdr, c_int) -> ssize_t>,
    /// Variadic in C: one word more, which the ABIs of x86-64 and AArch64 pass as they pass a named one.
    fcntl: Option<unsafe extern "C" fn(*mut c_void, c_int, c_int, c_long) -> c_int>,
    /// Likewise.
    ioctl: Option<unsafe extern "C" fn(*mut c_void, c_int, c_ulong, *mut c_void) -> c_int>,
    close: Option<unsafe extern "C" fn(*mut c_void, c_int) -> c_int>,
    shutdown: Option<unsafe extern "C" fn(*mut c_void, c_int, c_int) -> c_int>,
    getsockopt: Option<GetSockOpt>,
    setsockopt: Option<SetSockOpt>,
    poll: Option<unsafe extern "C" fn(*mut c_void, *mut pollfd, libc::nfds_t, c_int) -> c_int>,
    netdev_send: Option<unsafe extern "C" fn(*mut c_void, *const c_void, size_t) -> c_int>,
    netdev_receive: Option<NetdevReceive>,
    usleep: Option<unsafe extern "C" fn(*mut c_void, c_uint) -> c_int>,
    gettimeofday: Option<unsafe extern "C" fn(*mut c_void, *mut timeval, *mut c_void) -> c_int>,
    epoll_create: Option<unsafe extern "C" fn(*mut c_void, c_int) -> c_int>,
    epoll_ctl: Option<unsafe extern "C" fn(*mut c_void, c_int, c_int, c_int, *mut epoll_event) -> c_int>,
    epoll_wait: Option<unsafe extern "C" fn(*mut c_void, c_int, *mut epoll_event, c_int, c_int) -> c_int>,
    pipe: Option<unsafe extern "C" fn(*mut c_void, *mut c_int) -> c_int>,
    splice: Option<Splice>,
}

type RecvFrom = unsafe extern "C" fn(
    *mut c_void,
    c_int,
    *mut c_void,
    size_t,
    c_int,
    *mut sockaddr,
    *mut socklen_t,
) -> ssize_t;
type SendTo = unsafe extern "C" fn(
    *mut c_void,
    c_int,
    *const c_void,
    size_t,
    c_int,
    *const sockaddr,
    socklen_t,
) -> ssize_t;
type GetSockOpt =
    unsafe extern "C" fn(*mut c_void, c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int;
type SetSockOpt = unsafe extern "C" fn(*mut c_void, c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;
type NetdevReceive = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut size_t, *mut i64) -> c_int;
type Splice =
    unsafe extern "C" fn(*mut c_void, c_int, *mut loff_t, c_int, *mut loff_t, size_t, c_uint) -> c_int;

/// What `userdata` points to. Without a stack, because the flags were wrong, every call says `EINVAL`.
pub(crate) struct UserData {
    library: Option<Library>,
}

impl UserData {
    fn library(&self) -> Result<&Library, Errno> {
        self.library.as_ref().ok_or(Errno::INVAL)
    }
}

/// Starts a stack and fills in `interface`. Wrong flags are told on the standard error.
///
/// # Safety
/// `flags` is null or a C string, `interface` points to a `struct packetdrill_interface`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn packetdrill_interface_init(
    flags: *const c_char,
    interface: *mut PacketdrillInterface,
) {
    let flags = if flags.is_null() {
        ""
    } else {
        // SAFETY: not null, and by the caller's promise a C string.
        unsafe { CStr::from_ptr(flags) }.to_str().unwrap_or("not UTF-8")
    };
    let library = Library::start(flags).map_err(|error| eprintln!("ringwire: {error}")).ok();
    let userdata = Box::into_raw(Box::new(UserData { library })).cast();
    // SAFETY: the caller's promise; written whole, nothing of it is read.
    unsafe { interface.write(filled_in(userdata)) };
}

fn filled_in(userdata: *mut c_void) -> PacketdrillInterface {
    PacketdrillInterface {
        userdata,
        free: Some(calls::free),
        socket: Some(calls::socket),
        bind: Some(calls::bind),
        listen: Some(calls::listen),
        accept: Some(calls::accept),
        connect: Some(calls::connect),
        read: Some(calls::message::read),
        readv: Some(calls::message::readv),
        recv: Some(calls::message::recv),
        recvfrom: Some(calls::message::recvfrom),
        recvmsg: Some(calls::message::recvmsg),
        write: Some(calls::message::write),
        writev: Some(calls::message::writev),
        send: Some(calls::message::send),
        sendto: Some(calls::message::sendto),
        sendmsg: Some(calls::message::sendmsg),
        fcntl: Some(calls::fcntl),
        ioctl: Some(calls::ioctl),
        close: Some(calls::close),
        shutdown: Some(calls::shutdown),
        getsockopt: Some(calls::getsockopt),
        setsockopt: Some(calls::setsockopt),
        poll: Some(calls::ready::poll),
        netdev_send: Some(calls::net::netdev_send),
        netdev_receive: Some(calls::net::netdev_receive),
        usleep: Some(calls::net::usleep),
        gettimeofday: Some(calls::net::gettimeofday),
        epoll_create: Some(calls::ready::epoll_create),
        epoll_ctl: Some(calls::ready::epoll_ctl),
        epoll_wait: Some(calls::ready::epoll_wait),
        pipe: Some(calls::net::pipe),
        splice: Some(calls::net::splice),
    }
}
