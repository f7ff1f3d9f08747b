//! System calls on a packet socket that rustix does not offer in the shape needed here.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// linux/if_packet.h; not in libc for this target.
const PACKET_ADD_MEMBERSHIP: libc::c_int = 1;
const PACKET_RX_RING: libc::c_int = 5;
const PACKET_STATISTICS: libc::c_int = 6;
const PACKET_COPY_THRESH: libc::c_int = 7;
const PACKET_VERSION: libc::c_int = 10;
const PACKET_MR_PROMISC: u16 = 1;

#[repr(C)]
struct Membership {
    ifindex: libc::c_int,
    kind: u16,
    address_len: u16,
    address: [u8; 8],
}

/// A packet socket that receives nothing yet.
pub(crate) fn socket() -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: a descriptor fresh from the kernel, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Starts to receive from one interface.
pub(crate) fn bind(socket: BorrowedFd<'_>, ifindex: u32) -> Result<(), Errno> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let (name, len) = (std::ptr::from_ref(&address).cast(), size_of_val(&address) as libc::socklen_t);
    // SAFETY: name and length are those of `address`.
    check(unsafe { libc::bind(socket.as_raw_fd(), name, len) }).map(drop)
}

pub(crate) fn set_version_2(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set(socket, PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as libc::c_int))
}

pub(crate) fn set_receive_ring(socket: BorrowedFd<'_>, ring: &libc::tpacket_req) -> Result<(), Errno> {
    set(socket, PACKET_RX_RING, ring)
}

/// Packets longer than a slot wait whole in the socket's queue.
pub(crate) fn keep_long_packets(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    /// Some sixty of the longest.
    const QUEUE_BYTES: libc::c_int = 8 << 20;
    if set_level(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &QUEUE_BYTES).is_err() {
        // Without privilege: as much as net.core.rmem_max allows.
        set_level(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &QUEUE_BYTES)?;
    }
    set(socket, PACKET_COPY_THRESH, &1i32)
}

/// What this host sends by the interface is not received.
pub(crate) fn ignore_outgoing(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set(socket, libc::PACKET_IGNORE_OUTGOING, &1i32)
}

pub(crate) fn bypass_qdisc(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set(socket, libc::PACKET_QDISC_BYPASS, &1i32)
}

pub(crate) fn be_promiscuous(socket: BorrowedFd<'_>, ifindex: u32) -> Result<(), Errno> {
    let membership = Membership {
        ifindex: ifindex.cast_signed(),
        kind: PACKET_MR_PROMISC,
        address_len: 0,
        address: [0; 8],
    };
    set(socket, PACKET_ADD_MEMBERSHIP, &membership)
}

pub(crate) fn attach_filter(socket: BorrowedFd<'_>, program: &mut [libc::sock_filter]) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    set_level(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Packets lost since the last call, because the ring was full.
pub(crate) fn take_dropped(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = size_of_val(&stats) as libc::socklen_t;
    let out = (&raw mut stats).cast();
    // SAFETY: the kernel writes at most `len` bytes, the size of `stats`.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_STATISTICS, out, &raw mut len)
    })?;
    Ok(u64::from(stats.tp_drops))
}

/// Sends packets without waiting; returns how many of them, from the front, were taken.
///
/// # Safety
/// Every address and length in `messages` is valid for reading during the call.
pub(crate) unsafe fn send_many(
    socket: BorrowedFd<'_>,
    messages: &mut [libc::mmsghdr],
) -> Result<usize, Errno> {
    let count = messages.len() as libc::c_uint;
    // SAFETY: pointer and count are the slice's; what the messages point at is the caller's promise.
    let sent =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    check(sent).map(|sent| sent.unsigned_abs() as usize)
}

fn set<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &T) -> Result<(), Errno> {
    set_level(socket, libc::SOL_PACKET, option, value)
}

fn set_level<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> Result<(), Errno> {
    let (value, len) = (std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel reads `len` bytes, the size of the value; a filter program within it outlives the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, len) }).map(drop)
}

fn check(answer: libc::c_int) -> Result<libc::c_int, Errno> {
    if answer >= 0 {
        return Ok(answer);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
