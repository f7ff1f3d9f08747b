//! The caller's memory. Null with a length of zero is nothing; null with a length is `EFAULT`, as the kernel says it.

use std::ffi::c_void;
use std::net::SocketAddrV4;

use libc::{iovec, msghdr, sockaddr, socklen_t};
use ringwire::posix::Errno;
use ringwire::posix::addr::{self, Named};

const FAULT: Errno = Errno::from_raw(libc::EFAULT);
/// Linux's UIO_MAXIOV.
const MAX_IOVECS: usize = 1024;
/// Linux's MAX_RW_COUNT, in whole pages: more is a short count.
pub(super) const MAX_BYTES: usize = 0x7fff_f000;

/// A copy of what the caller points to.
///
/// # Safety
/// `from` is null or points to `len` readable bytes.
pub(super) unsafe fn bytes(from: *const c_void, len: usize) -> Result<Vec<u8>, Errno> {
    match (from.is_null(), len) {
        (_, 0) => Ok(Vec::new()),
        (true, _) => Err(FAULT),
        // SAFETY: by the caller's promise.
        (false, len) => Ok(unsafe { std::slice::from_raw_parts(from.cast::<u8>(), len) }.to_vec()),
    }
}

/// Copies to where the caller points.
///
/// # Safety
/// `to` is null or points to `from.len()` writable bytes.
pub(super) unsafe fn put(to: *mut c_void, from: &[u8]) -> Result<(), Errno> {
    match (to.is_null(), from.len()) {
        (_, 0) => Ok(()),
        (true, _) => Err(FAULT),
        (false, len) => {
            // SAFETY: by the caller's promise; our bytes are elsewhere.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.cast::<u8>(), len) };
            Ok(())
        }
    }
}

/// An address argument.
///
/// # Safety
/// As [`bytes`].
pub(super) unsafe fn address(from: *const sockaddr, len: socklen_t) -> Result<Named, Errno> {
    /// Linux's sizeof(struct sockaddr_storage).
    const LONGEST: usize = 128;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > LONGEST {
        return Err(Errno::INVAL);
    }
    // SAFETY: the same promise.
    addr::decode(&unsafe { bytes(from.cast(), len) }?)
}

/// Gives an address back as `accept` does: as much as there is room for, and its whole length.
///
/// # Safety
/// `to` is null, or `len` points to the number of bytes that it has room for.
pub(super) unsafe fn put_address(
    to: *mut sockaddr,
    len: *mut socklen_t,
    address: Option<SocketAddrV4>,
) -> Result<(), Errno> {
    if to.is_null() {
        return Ok(());
    }
    let encoded = address.map(addr::encode);
    let encoded = encoded.as_ref().map_or(&[][..], |bytes| &bytes[..]);
    // SAFETY: the same promise.
    unsafe { put_cut(to.cast(), len, encoded)? };
    if !len.is_null() {
        // An address is 16 bytes.
        // SAFETY: the same promise.
        unsafe { len.write(encoded.len() as socklen_t) };
    }
    Ok(())
}

/// Gives a value back as `getsockopt` does: as much as there is room for, and that length.
///
/// # Safety
/// As [`put_address`].
pub(super) unsafe fn put_cut(to: *mut c_void, len: *mut socklen_t, value: &[u8]) -> Result<(), Errno> {
    if len.is_null() {
        return Err(FAULT);
    }
    // SAFETY: not null; the caller's promise.
    let room = usize::try_from(unsafe { len.read() }).unwrap_or(0);
    let value = value.get(..room).unwrap_or(value);
    // SAFETY: at most `room` bytes, which is what the caller has.
    unsafe { put(to, value)? };
    // SAFETY: as above; no option and no address has more bytes than fit.
    unsafe { len.write(value.len() as socklen_t) };
    Ok(())
}

/// Gives one control message as `recvmsg` does (the kernel's put_cmsg): cut to the room there is, if a header fits, and then the caller
/// is told.
///
/// # Safety
/// `msg_control` is null or points to `msg_controllen` writable bytes.
pub(super) unsafe fn put_control(message: &mut msghdr, control: &[u8]) -> Result<(), Errno> {
    /// `struct cmsghdr`, with its length in the first word.
    const HEADER_LEN: usize = 16;
    // Its type differs between C libraries.
    #[allow(clippy::unnecessary_cast)]
    let room = if message.msg_control.is_null() { 0 } else { message.msg_controllen as usize };
    message.msg_controllen = 0;
    let mut control = control.to_vec();
    let (word, _) = control.split_at(size_of::<usize>().min(control.len()));
    let len = word.try_into().map_or(0, usize::from_ne_bytes);
    if room < len {
        message.msg_flags |= libc::MSG_CTRUNC;
    }
    if len == 0 || room < HEADER_LEN {
        return Ok(());
    }
    control.truncate(room);
    control.splice(..size_of::<usize>(), len.min(room).to_ne_bytes());
    // SAFETY: no longer than the room; the caller's promise.
    unsafe { put(message.msg_control, &control)? };
    message.msg_controllen = control.len() as _;
    Ok(())
}

/// The caller's scattered buffers.
///
/// # Safety
/// `from` is null or points to `count` buffers that the caller may read or write.
pub(super) unsafe fn iovecs(from: *const iovec, count: usize) -> Result<Vec<iovec>, Errno> {
    match (from.is_null(), count) {
        (_, 0) => Ok(Vec::new()),
        (_, count) if count > MAX_IOVECS => Err(Errno::INVAL),
        (true, _) => Err(FAULT),
        // SAFETY: by the caller's promise.
        (false, count) => Ok(unsafe { std::slice::from_raw_parts(from, count) }.to_vec()),
    }
}

/// Whether it has room that does not exist.
pub(super) fn is_nowhere(iovec: &iovec) -> bool {
    iovec.iov_base.is_null() && iovec.iov_len > 0
}

/// Whether `len` bytes, the first buffer filled first, all go where there is memory.
pub(super) fn check(iovecs: &[iovec], len: usize) -> Result<(), Errno> {
    let there = iovecs.iter().take_while(|iovec| !is_nowhere(iovec));
    let room = there.fold(0, |sum: usize, iovec| sum.saturating_add(iovec.iov_len));
    if len > room { Err(FAULT) } else { Ok(()) }
}

/// How many bytes they hold together.
pub(super) fn room(iovecs: &[iovec]) -> Result<usize, Errno> {
    let room = iovecs.iter().try_fold(0_usize, |sum, iovec| sum.checked_add(iovec.iov_len));
    match room {
        // The kernel's limit is that of a signed size.
        Some(room) if isize::try_from(room).is_ok() => Ok(room.min(MAX_BYTES)),
        _ => Err(Errno::INVAL),
    }
}

/// Everything that they hold.
///
/// # Safety
/// Each is readable.
pub(super) unsafe fn gather(iovecs: &[iovec]) -> Result<Vec<u8>, Errno> {
    room(iovecs)?;
    let mut all = Vec::new();
    for iovec in iovecs {
        // SAFETY: the same promise.
        all.extend(unsafe { bytes(iovec.iov_base, iovec.iov_len) }?);
    }
    Ok(all)
}

/// Fills them, the first one first.
///
/// # Safety
/// Each is writable.
pub(super) unsafe fn scatter(iovecs: &[iovec], mut from: &[u8]) -> Result<(), Errno> {
    for iovec in iovecs {
        let (now, later) = from.split_at(from.len().min(iovec.iov_len));
        // SAFETY: at most as long as the buffer; the same promise.
        unsafe { put(iovec.iov_base, now)? };
        from = later;
    }
    Ok(())
}
