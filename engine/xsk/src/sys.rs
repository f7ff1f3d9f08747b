//! System calls on an AF_XDP socket that neither xsk-rs nor rustix offers in the shape needed here.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::config::BusyPoll;

/// Descriptors one sendto moves in copy mode unless told otherwise (`TX_BATCH_SIZE` of net/xdp/xsk.c).
pub(crate) const DEFAULT_KICK_BUDGET_PACKETS: u32 = 32;

/// `XDP_MAX_TX_SKB_BUDGET` of linux/if_xdp.h, since Linux 6.17; not yet in libc.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Makes the kernel look at the transmit ring. `AGAIN` says "not all": the budget or the completion ring ran out.
pub(crate) fn kick_tx(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::net::send(fd, &[], SendFlags::DONTWAIT).map(drop)
}

/// Makes the driver look at the fill ring, and polls it once if busy polling is on.
pub(crate) fn kick_rx(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let nothing: &mut [u8] = &mut [];
    rustix::net::recv(fd, nothing, RecvFlags::DONTWAIT).map(drop)
}

/// Wakes the driver for both rings, whatever it says it needs. While busy polling is preferred, sendto only runs the
/// receive side's NAPI; a driver with a NAPI of its own for sending (virtio-net) would never send.
pub(crate) fn wake_driver(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], Some(&now)).map(drop)
}

/// Lets one sendto move a whole ring of `ring_descs`; returns what one sendto moves from now on.
pub(crate) fn raise_kick_budget(fd: BorrowedFd<'_>, ring_descs: u32) -> u32 {
    // Older kernels answer ENOPROTOOPT, any kernel refuses values below its default: then the default stays.
    match set_option(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, ring_descs) {
        Ok(()) => ring_descs,
        Err(_) => DEFAULT_KICK_BUDGET_PACKETS,
    }
}

/// Turns preferred busy polling on for this socket; it ends with the socket.
pub(crate) fn prefer_busy_poll(fd: BorrowedFd<'_>, busy: BusyPoll) -> Result<(), Errno> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, 1)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, busy.spin_us)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, busy.budget_packets)
}

fn set_option(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: u32) -> Result<(), Errno> {
    let value_bytes = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the pointer is to a live u32 and the length is its size; the kernel only reads it.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), value_bytes) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Replaces what a descriptor number stands for by something inert, so that the socket behind it closes while the
/// number stays taken.
///
/// # Safety
/// `number` must be an open descriptor whose only remaining user closes it and does nothing else with it.
pub(crate) unsafe fn retire_fd(number: RawFd) -> Result<(), Errno> {
    let inert = eventfd(0, EventfdFlags::CLOEXEC)?;
    // SAFETY: dup3 touches no memory; what `number` stands for may be replaced by this function's contract.
    let result = unsafe { libc::dup3(inert.as_raw_fd(), number, libc::O_CLOEXEC) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
