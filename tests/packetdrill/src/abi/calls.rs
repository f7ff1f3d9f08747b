//! The functions, but for those of their own modules: messages, readiness, and packets and time.

pub(super) mod message;
pub(super) mod net;
pub(super) mod ready;

use std::ffi::{c_int, c_long, c_ulong, c_void};

use libc::{sockaddr, socklen_t};
use ringwire::posix::{Errno, Ioctl, Mode, Progress, call};

use super::{UserData, memory};

/// What `userdata` points to.
///
/// # Safety
/// `userdata` came from `packetdrill_interface_init`, and [`free`] was not called.
unsafe fn from_userdata<'a>(userdata: *mut c_void) -> &'a UserData {
    // SAFETY: the caller's promise; shared, for calls come from several threads.
    unsafe { &*userdata.cast::<UserData>() }
}

/// A result as C has it: -1 and `errno`, or the value.
fn answer<T: From<i8>>(result: Result<T, Errno>) -> T {
    result.unwrap_or_else(|errno| {
        // SAFETY: the C library's own place for this thread's number.
        let place = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        unsafe { *place = errno.raw() };
        T::from(-1)
    })
}

fn done(result: Result<(), Errno>) -> c_int {
    answer(result.map(|()| 0))
}

/// Ends the stack. Descriptors that are still open stay reserved: packetdrill closes their numbers by itself, and perhaps has.
pub(super) unsafe extern "C" fn free(userdata: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `packetdrill_interface_init`; packetdrill calls this once, last.
    drop(unsafe { Box::from_raw(userdata.cast::<UserData>()) });
}

pub(super) unsafe extern "C" fn socket(
    userdata: *mut c_void,
    domain: c_int,
    kind: c_int,
    protocol: c_int,
) -> c_int {
    // SAFETY: packetdrill's contract (`super`).
    let user = unsafe { from_userdata(userdata) };
    answer(
        user.library()
            .and_then(|library| library.at_once(move |sockets| sockets.socket(domain, kind, protocol))),
    )
}

pub(super) unsafe extern "C" fn bind(
    userdata: *mut c_void,
    fd: c_int,
    address: *const sockaddr,
    len: socklen_t,
) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    // SAFETY: bind(2)'s contract.
    let address = unsafe { memory::address(address, len) };
    done(address.and_then(|address| user.library()?.at_once(move |sockets| sockets.bind(fd, address))))
}

pub(super) unsafe extern "C" fn listen(userdata: *mut c_void, fd: c_int, backlog: c_int) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    done(user.library().and_then(|library| library.at_once(move |sockets| sockets.listen(fd, backlog))))
}

pub(super) unsafe extern "C" fn accept(
    userdata: *mut c_void,
    fd: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    let accepted = user.library().and_then(|library| library.call(call::accept(fd, Mode::Blocking)));
    answer(accepted.and_then(|(new, peer)| {
        // SAFETY: accept(2)'s contract.
        unsafe { memory::put_address(address, len, Some(peer))? };
        Ok(new)
    }))
}

pub(super) unsafe extern "C" fn connect(
    userdata: *mut c_void,
    fd: c_int,
    address: *const sockaddr,
    len: socklen_t,
) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    // SAFETY: connect(2)'s contract.
    let address = unsafe { memory::address(address, len) };
    done(address.and_then(|address| user.library()?.call(call::connect(fd, address))))
}

pub(super) unsafe extern "C" fn fcntl(
    userdata: *mut c_void,
    fd: c_int,
    command: c_int,
    argument: c_long,
) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    // The callers pass an int: what is above it in the register is arbitrary.
    let argument = i64::from(argument as c_int);
    answer(
        user.library()
            .and_then(|library| library.at_once(move |sockets| sockets.fcntl(fd, command, argument))),
    )
}

pub(super) unsafe extern "C" fn ioctl(
    userdata: *mut c_void,
    fd: c_int,
    request: c_ulong,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    let library = match user.library() {
        Ok(library) => library,
        Err(errno) => return done(Err(errno)),
    };
    done(match library.at_once(move |sockets| sockets.ioctl(fd, request)) {
        // SAFETY: these requests take a pointer to an int.
        Ok(Ioctl::Get(number)) => unsafe { memory::put(argument, &number.to_ne_bytes()) },
        Ok(Ioctl::TakesNonblocking) => {
            // SAFETY: so does this one.
            match unsafe { memory::bytes(argument, size_of::<c_int>()) } {
                Ok(bytes) => {
                    let is_on = c_int::from(bytes.iter().any(|byte| *byte != 0));
                    library.at_once(move |sockets| sockets.set_nonblocking(fd, is_on))
                }
                Err(errno) => Err(errno),
            }
        }
        Err(errno) => Err(errno),
    })
}

pub(super) unsafe extern "C" fn close(userdata: *mut c_void, fd: c_int) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    done(user.library().and_then(|library| library.call(call::close(fd))))
}

pub(super) unsafe extern "C" fn shutdown(userdata: *mut c_void, fd: c_int, how: c_int) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    done(user.library().and_then(|library| library.at_once(move |sockets| sockets.shutdown(fd, how))))
}

pub(super) unsafe extern "C" fn getsockopt(
    userdata: *mut c_void,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    let option =
        user.library().and_then(|library| library.at_once(move |sockets| sockets.option(fd, level, name)));
    // SAFETY: getsockopt(2)'s contract.
    done(option.and_then(|option| unsafe { memory::put_cut(value, len, &option) }))
}

pub(super) unsafe extern "C" fn setsockopt(
    userdata: *mut c_void,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    // SAFETY: setsockopt(2)'s contract.
    let value = unsafe { memory::bytes(value, usize::try_from(len).unwrap_or(0)) };
    done(value.and_then(|value| {
        user.library()?.call(move |sockets| Progress::Done(sockets.set_option(fd, level, name, &value)))
    }))
}
