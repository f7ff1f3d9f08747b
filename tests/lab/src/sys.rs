//! The system calls that have no safe wrapper: unshare(2), bpf(2) and the ethtool ioctl.
//!
//! All `unsafe` of the crate is here; every function below is safe to call with any argument.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::thread::UnshareFlags;

/// Gives the calling thread a fresh network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: only the CLONE_FILES flag breaks what other threads rely on, and it is not given.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Gives the process fresh user and network namespaces; refused when it has more than one thread.
pub(crate) fn unshare_user_and_network() -> io::Result<()> {
    // SAFETY: as in `unshare_network`.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }
        .map_err(io::Error::from)
}

/// Gives the future children of the calling thread a fresh PID namespace.
pub(crate) fn unshare_children_pids() -> io::Result<()> {
    // SAFETY: as in `unshare_network`.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }.map_err(io::Error::from)
}

/// One instruction in the kernel's 8-byte layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Insn {
    pub(crate) code: u8,
    /// Destination register in the low nibble, source in the high one.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) imm: i32,
}

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_bytes: u32,
    value_bytes: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
struct MapElem {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[derive(Default)]
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kern_version: u32,
    prog_flags: u32,
    name: [u8; 16],
}

/// Calls bpf(2).
///
/// # Safety
/// `A` must be the kernel's argument layout for `command`, and every address in it must stay valid
/// for what the command reads or writes there.
unsafe fn bpf<A>(command: libc::c_int, argument: &mut A) -> io::Result<libc::c_int> {
    // SAFETY: the caller vouches for the argument; its length is given with it.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(argument), size_of::<A>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as libc::c_int) }
}

/// A one-element array map whose value is `T`, shared with loaded programs.
#[derive(Debug)]
pub(crate) struct Cell<const WORDS: usize> {
    fd: OwnedFd,
}

impl<const WORDS: usize> Cell<WORDS> {
    pub(crate) fn new() -> io::Result<Cell<WORDS>> {
        let mut argument = MapCreate {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_bytes: 4,
            value_bytes: (WORDS * 8) as u32,
            max_entries: 1,
            map_flags: 0,
        };
        // SAFETY: the layout of BPF_MAP_CREATE, without addresses.
        let fd = unsafe { bpf(BPF_MAP_CREATE, &mut argument) }?;
        // SAFETY: a descriptor fresh from the kernel, owned by nobody else.
        Ok(Cell { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    pub(crate) fn load(&self) -> io::Result<[u64; WORDS]> {
        let mut words = [0; WORDS];
        let key = 0u32;
        let mut argument = self.element(&key, words.as_mut_ptr() as u64);
        // SAFETY: `key` and `words` outlive the call and have the map's key and value sizes.
        unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut argument) }?;
        Ok(words)
    }

    pub(crate) fn store(&self, words: &[u64; WORDS]) -> io::Result<()> {
        let key = 0u32;
        let mut argument = self.element(&key, words.as_ptr() as u64);
        // SAFETY: as in `load`; the kernel only reads both.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut argument) }.map(drop)
    }

    fn element(&self, key: &u32, value: u64) -> MapElem {
        let key = std::ptr::from_ref(key) as u64;
        MapElem { map_fd: self.fd.as_raw_fd() as u32, padding: 0, key, value, flags: 0 }
    }
}

impl<const WORDS: usize> AsFd for Cell<WORDS> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Loads a traffic-control classifier; `name` shows in `bpftool prog`.
pub(crate) fn load_classifier(name: &str, insns: &[Insn]) -> io::Result<OwnedFd> {
    load(name, insns, ProgLoad { prog_type: BPF_PROG_TYPE_SCHED_CLS, ..ProgLoad::default() })
}

/// Loads a program of the type and with the flags of `kind`.
fn load(name: &str, insns: &[Insn], kind: ProgLoad) -> io::Result<OwnedFd> {
    let mut short = [0; 16];
    for (to, from) in short[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let mut argument = ProgLoad {
        insn_count: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        name: short,
        ..kind
    };
    // SAFETY: `insns` and the licence outlive the call, and the count is theirs.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut argument) }?;
    // SAFETY: a descriptor fresh from the kernel, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// XDP programs and AF_XDP sockets of interfaces.
#[cfg(feature = "xdp")]
pub(crate) mod xdp {
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

    use super::{BPF_MAP_CREATE, BPF_MAP_UPDATE_ELEM, Insn, MapCreate, MapElem, ProgLoad, bpf, load};

    const BPF_LINK_CREATE: libc::c_int = 28;
    const BPF_MAP_TYPE_XSKMAP: u32 = 17;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const BPF_XDP: u32 = 37;
    /// Packets of several buffers are welcome.
    const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
    const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

    #[repr(C)]
    struct LinkCreate {
        prog_fd: u32,
        target_ifindex: u32,
        attach_type: u32,
        flags: u32,
    }

    /// A map for one AF_XDP socket per queue.
    pub(crate) fn new_socket_map(queues: u32) -> io::Result<OwnedFd> {
        let mut argument = MapCreate {
            map_type: BPF_MAP_TYPE_XSKMAP,
            key_bytes: 4,
            value_bytes: 4,
            max_entries: queues,
            map_flags: 0,
        };
        // SAFETY: the layout of BPF_MAP_CREATE, without addresses.
        let fd = unsafe { bpf(BPF_MAP_CREATE, &mut argument) }?;
        // SAFETY: a descriptor fresh from the kernel, owned by nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    pub(crate) fn store_socket(map: &OwnedFd, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let (key, value) = (queue, socket.as_raw_fd());
        let mut argument = MapElem {
            map_fd: map.as_raw_fd() as u32,
            padding: 0,
            key: std::ptr::from_ref(&key) as u64,
            value: std::ptr::from_ref(&value) as u64,
            flags: 0,
        };
        // SAFETY: key and value outlive the call, have the map's sizes of four bytes and are only read.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut argument) }.map(drop)
    }

    /// Loads a program for the driver's hook.
    pub(crate) fn load_program(name: &str, insns: &[Insn]) -> io::Result<OwnedFd> {
        let flags = BPF_F_XDP_HAS_FRAGS;
        load(name, insns, ProgLoad { prog_type: BPF_PROG_TYPE_XDP, prog_flags: flags, ..ProgLoad::default() })
    }

    /// Puts a program into the driver of an interface of the calling thread's namespace, until the descriptor is closed.
    pub(crate) fn attach(program: &OwnedFd, ifindex: u32) -> io::Result<OwnedFd> {
        let mut argument = LinkCreate {
            prog_fd: program.as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        // SAFETY: the layout of BPF_LINK_CREATE, without addresses.
        let fd = unsafe { bpf(BPF_LINK_CREATE, &mut argument) }?;
        // SAFETY: a descriptor fresh from the kernel, owned by nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// The offloads that make a veth end hand over packets unlike those of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Offload {
    /// Checksums left to the device, which a veth never computes: ETHTOOL_STXCSUM.
    TransmitChecksum = 0x17,
    /// ETHTOOL_STSO.
    TcpSegmentation = 0x1f,
    /// ETHTOOL_SGSO.
    GenericSegmentation = 0x24,
    /// ETHTOOL_SGRO.
    GenericReceive = 0x2c,
    /// Tags beside the packet instead of in it, which XDP does not see: ETHTOOL_SFLAGS, of which a veth has no other.
    VlanTags = 0x26,
}

/// linux/sockios.h; the libc crate has it for other targets only.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches one offload of an interface in the namespace that `socket` was made in.
pub(crate) fn set_offload(
    socket: BorrowedFd<'_>,
    ifname: &str,
    offload: Offload,
    on: bool,
) -> io::Result<()> {
    let mut value = EthtoolValue { command: offload as u32, data: u32::from(on) };
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name[..libc::IFNAMSIZ - 1].iter_mut().zip(ifname.bytes()) {
        *to = from as libc::c_char;
    }
    let data = std::ptr::from_mut(&mut value).cast::<libc::c_char>();
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data } };
    // SAFETY: SIOCETHTOOL takes an ifreq whose data points at an ethtool_value; both outlive the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
