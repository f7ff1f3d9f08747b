//! Packets, time, and what does not exist here.

use std::ffi::{c_int, c_uint, c_void};
use std::time::Duration;

use libc::{loff_t, size_t, timeval};
use ringwire::posix::Errno;

use super::{done, from_userdata, memory};

const FAULT: Errno = Errno::from_raw(libc::EFAULT);
const MICROS_PER_S: i64 = 1_000_000;

/// packetdrill injects a packet into the stack.
pub(in crate::abi) unsafe extern "C" fn netdev_send(
    userdata: *mut c_void,
    packet: *const c_void,
    len: size_t,
) -> c_int {
    // SAFETY: packetdrill's contract (`crate::abi`).
    let user = unsafe { from_userdata(userdata) };
    // SAFETY: packetdrill.h: `len` bytes of a packet.
    let packet = unsafe { memory::bytes(packet, len) };
    done(packet.and_then(|packet| user.library()?.inject(packet)))
}

/// The next packet that leaves the stack. When none comes its length is 0, which fails the test: an error would make packetdrill ask
/// again for ever.
pub(in crate::abi) unsafe extern "C" fn netdev_receive(
    userdata: *mut c_void,
    packet: *mut c_void,
    len: *mut size_t,
    at_us: *mut i64,
) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    if len.is_null() || at_us.is_null() {
        return done(Err(FAULT));
    }
    // SAFETY: packetdrill.h: not null, the room for the packet.
    let room = unsafe { len.read() };
    let left = user.library().and_then(|library| Ok((library.receive()?, library.now_us())));
    let (bytes, time_us) = match left {
        Ok((Some(left), _)) => (left.packet, left.at_us),
        Ok((None, now_us)) => (Vec::new(), now_us),
        // Without a stack nothing ever leaves it: the test must fail, not wait.
        Err(_) => (Vec::new(), 0),
    };
    let bytes = bytes.get(..room).unwrap_or(&bytes);
    // SAFETY: at most `room` bytes.
    if let Err(errno) = unsafe { memory::put(packet, bytes) } {
        return done(Err(errno));
    }
    // SAFETY: packetdrill.h: not null.
    unsafe { len.write(bytes.len()) };
    // SAFETY: the same.
    unsafe { at_us.write(time_us) };
    0
}

pub(in crate::abi) unsafe extern "C" fn usleep(userdata: *mut c_void, time_us: c_uint) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    done(user.library().and_then(|library| library.sleep(Duration::from_micros(u64::from(time_us)))))
}

pub(in crate::abi) unsafe extern "C" fn gettimeofday(
    userdata: *mut c_void,
    time: *mut timeval,
    _zone: *mut c_void,
) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    if time.is_null() {
        return done(Err(FAULT));
    }
    done(user.library().map(|library| {
        let now_us = library.now_us();
        // SAFETY: gettimeofday(2)'s contract; not null.
        unsafe { time.write(timeval { tv_sec: now_us / MICROS_PER_S, tv_usec: now_us % MICROS_PER_S }) };
    }))
}

/// Pipes do not exist here.
pub(in crate::abi) unsafe extern "C" fn pipe(_userdata: *mut c_void, _fds: *mut c_int) -> c_int {
    done(Err(Errno::NOSYS))
}

/// And nothing is spliced.
#[allow(clippy::too_many_arguments, reason = "splice(2) has them")]
pub(in crate::abi) unsafe extern "C" fn splice(
    _userdata: *mut c_void,
    _from: c_int,
    _from_offset: *mut loff_t,
    _to: c_int,
    _to_offset: *mut loff_t,
    _len: size_t,
    _flags: c_uint,
) -> c_int {
    done(Err(Errno::NOSYS))
}
