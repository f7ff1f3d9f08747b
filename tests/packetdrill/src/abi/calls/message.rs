//! `read`, `recv`, `write`, `send` and their kin: two ways through the library, whatever the name.

use std::ffi::{c_int, c_void};

use libc::{iovec, msghdr, size_t, sockaddr, socklen_t, ssize_t};
use ringwire::posix::addr::Named;
use ringwire::posix::{Errno, Received, call};

use super::{UserData, answer, from_userdata, memory};

/// Receives into memory of ours, for the caller's belongs to another thread. Linux says `EFAULT` only when there are bytes to copy to where
/// there is no memory, and takes none then: those who have such buffers look first.
fn receive(user: &UserData, fd: c_int, iovecs: &[iovec], flags: c_int) -> Result<(Received, Vec<u8>), Errno> {
    let len = memory::room(iovecs)?;
    let attempt = |flags| user.library()?.call(call::recv(fd, vec![0; len], flags));
    if iovecs.iter().any(memory::is_nowhere) {
        let (found, bytes) = attempt(flags & !libc::MSG_WAITALL | libc::MSG_PEEK)?;
        memory::check(iovecs, written(&found, &bytes, flags).len())?;
    }
    attempt(flags)
}

/// What was really written to the buffer: with `MSG_TRUNC` a datagram may be longer, and a stream's bytes are only counted.
fn written<'a>(found: &Received, bytes: &'a [u8], flags: c_int) -> &'a [u8] {
    if found.from.is_none() && flags & libc::MSG_TRUNC != 0 {
        return &[];
    }
    bytes.get(..found.len).unwrap_or(bytes)
}

fn transmit(
    user: &UserData,
    fd: c_int,
    bytes: Vec<u8>,
    flags: c_int,
    to: Option<Named>,
) -> Result<ssize_t, Errno> {
    let to = match to {
        Some(Named::Inet(to)) => Some(to),
        // Linux: a connection to nobody is none.
        Some(Named::Unspecified) if flags & libc::MSG_FASTOPEN != 0 => return Err(Errno::OPNOTSUPP),
        Some(Named::Unspecified) => return Err(Errno::AFNOSUPPORT),
        None => None,
    };
    let sent = user.library()?.call(call::send(fd, bytes, flags, to))?;
    // No longer than a slice.
    Ok(sent as ssize_t)
}

pub(in crate::abi) unsafe extern "C" fn read(
    userdata: *mut c_void,
    fd: c_int,
    to: *mut c_void,
    len: size_t,
) -> ssize_t {
    // SAFETY: read(2) is recv(2) without flags.
    unsafe { recv(userdata, fd, to, len, 0) }
}

pub(in crate::abi) unsafe extern "C" fn recv(
    userdata: *mut c_void,
    fd: c_int,
    to: *mut c_void,
    len: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: recv(2) is recvfrom(2) that does not ask for the address.
    unsafe { recvfrom(userdata, fd, to, len, flags, std::ptr::null_mut(), std::ptr::null_mut()) }
}

#[allow(clippy::too_many_arguments, reason = "recvfrom(2) has them")]
pub(in crate::abi) unsafe extern "C" fn recvfrom(
    userdata: *mut c_void,
    fd: c_int,
    to: *mut c_void,
    len: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_len: *mut socklen_t,
) -> ssize_t {
    // SAFETY: packetdrill's contract (`crate::abi`).
    let user = unsafe { from_userdata(userdata) };
    let iovecs = [iovec { iov_base: to, iov_len: len.min(memory::MAX_BYTES) }];
    answer(receive(user, fd, &iovecs, flags).and_then(|(found, bytes)| {
        // SAFETY: recvfrom(2)'s contract.
        unsafe { memory::put(to, written(&found, &bytes, flags))? };
        // SAFETY: the same.
        unsafe { memory::put_address(address, address_len, found.from)? };
        Ok(found.len as ssize_t)
    }))
}

pub(in crate::abi) unsafe extern "C" fn readv(
    userdata: *mut c_void,
    fd: c_int,
    to: *const iovec,
    count: c_int,
) -> ssize_t {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    let count = usize::try_from(count).map_err(|_| Errno::INVAL);
    // SAFETY: readv(2)'s contract.
    let iovecs = count.and_then(|count| unsafe { memory::iovecs(to, count) });
    answer(iovecs.and_then(|iovecs| {
        let (found, bytes) = receive(user, fd, &iovecs, 0)?;
        // SAFETY: the same.
        unsafe { memory::scatter(&iovecs, written(&found, &bytes, 0))? };
        Ok(found.len as ssize_t)
    }))
}

pub(in crate::abi) unsafe extern "C" fn recvmsg(
    userdata: *mut c_void,
    fd: c_int,
    message: *mut msghdr,
    flags: c_int,
) -> ssize_t {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    // SAFETY: recvmsg(2)'s contract: null or a message header that nobody else uses.
    let Some(message) = (unsafe { message.as_mut() }) else {
        return answer(Err(Errno::from_raw(libc::EFAULT)));
    };
    // SAFETY: the same. The count's type differs between C libraries.
    #[allow(clippy::unnecessary_cast)]
    let iovecs = unsafe { memory::iovecs(message.msg_iov, message.msg_iovlen as usize) };
    answer(iovecs.and_then(|iovecs| {
        let (found, bytes) = receive(user, fd, &iovecs, flags)?;
        // SAFETY: the same.
        unsafe { memory::scatter(&iovecs, written(&found, &bytes, flags))? };
        // SAFETY: the same.
        unsafe { memory::put_address(message.msg_name.cast(), &raw mut message.msg_namelen, found.from)? };
        message.msg_flags = found.flags;
        let control = found.control.map_or(Vec::new(), |control| control.encode());
        // SAFETY: the same.
        unsafe { memory::put_control(message, &control)? };
        Ok(found.len as ssize_t)
    }))
}

pub(in crate::abi) unsafe extern "C" fn write(
    userdata: *mut c_void,
    fd: c_int,
    from: *const c_void,
    len: size_t,
) -> ssize_t {
    // SAFETY: write(2) is send(2) without flags.
    unsafe { send(userdata, fd, from, len, 0) }
}

pub(in crate::abi) unsafe extern "C" fn send(
    userdata: *mut c_void,
    fd: c_int,
    from: *const c_void,
    len: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: send(2) is sendto(2) without an address.
    unsafe { sendto(userdata, fd, from, len, flags, std::ptr::null(), 0) }
}

#[allow(clippy::too_many_arguments, reason = "sendto(2) has them")]
pub(in crate::abi) unsafe extern "C" fn sendto(
    userdata: *mut c_void,
    fd: c_int,
    from: *const c_void,
    len: size_t,
    flags: c_int,
    address: *const sockaddr,
    address_len: socklen_t,
) -> ssize_t {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    // SAFETY: sendto(2)'s contract.
    let bytes = unsafe { memory::bytes(from, len.min(memory::MAX_BYTES)) };
    answer(bytes.and_then(|bytes| {
        // SAFETY: the same.
        let to = unsafe { destination(address, address_len) }?;
        transmit(user, fd, bytes, flags, to)
    }))
}

/// # Safety
/// As sendto(2)'s.
unsafe fn destination(address: *const sockaddr, len: socklen_t) -> Result<Option<Named>, Errno> {
    if address.is_null() || len == 0 {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { memory::address(address, len) }.map(Some)
}

pub(in crate::abi) unsafe extern "C" fn writev(
    userdata: *mut c_void,
    fd: c_int,
    from: *const iovec,
    count: c_int,
) -> ssize_t {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    let count = usize::try_from(count).map_err(|_| Errno::INVAL);
    // SAFETY: writev(2)'s contract.
    let iovecs = count.and_then(|count| unsafe { memory::iovecs(from, count) });
    // SAFETY: the same.
    let bytes = iovecs.and_then(|iovecs| unsafe { memory::gather(&iovecs) });
    answer(bytes.and_then(|bytes| transmit(user, fd, bytes, 0, None)))
}

pub(in crate::abi) unsafe extern "C" fn sendmsg(
    userdata: *mut c_void,
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
) -> ssize_t {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    // SAFETY: sendmsg(2)'s contract: null or a message header.
    let Some(message) = (unsafe { message.as_ref() }) else {
        return answer(Err(Errno::from_raw(libc::EFAULT)));
    };
    if message.msg_controllen > 0 {
        return answer(Err(Errno::OPNOTSUPP));
    }
    // SAFETY: the same. The count's type differs between C libraries.
    #[allow(clippy::unnecessary_cast)]
    let iovecs = unsafe { memory::iovecs(message.msg_iov, message.msg_iovlen as usize) };
    // SAFETY: the same.
    let bytes = iovecs.and_then(|iovecs| unsafe { memory::gather(&iovecs) });
    answer(bytes.and_then(|bytes| {
        // SAFETY: the same.
        let to = unsafe { destination(message.msg_name.cast(), message.msg_namelen) }?;
        transmit(user, fd, bytes, flags, to)
    }))
}
