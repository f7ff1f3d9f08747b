//! Attaching by bpf_link with an explicit mode flag.
//!
//! The link's descriptor is the attachment: the kernel detaches when the last copy is closed, also by kill -9. It is
//! close-on-exec, so a child program does not keep it. Not libbpf-rs's `attach_xdp`, which falls silently to generic
//! mode, nor its netlink `Xdp`, which outlives the process.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::Program;
use libbpf_rs::libbpf_sys::{
    BPF_XDP, XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, bpf_link_create, bpf_link_create_opts,
};

use super::incumbent::{self, Attached};
use super::{AttachConfig, load, nic};
use crate::error::{SteerError, errno_text};

/// How the program shall sit in the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AttachMode {
    /// Native, and generic only where the driver has no native XDP; [`Mode`] says what it came to.
    #[default]
    Auto,
    /// In the driver, before the kernel allocates anything.
    Native,
    /// In the kernel's receive path: works with every driver, slowly.
    Generic,
}

/// How the program sits in the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the kernel's receive path.
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Native => "native",
            Mode::Generic => "generic",
        })
    }
}

/// The attachment, and how the kernel says it came about.
#[derive(Debug)]
pub(super) struct Link {
    _fd: OwnedFd,
    mode: Mode,
}

impl Link {
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }
}

/// Attaches as `config` asks, and never in place of another program.
pub(super) fn attach(program: BorrowedFd<'_>, config: &AttachConfig) -> Result<Link, SteerError> {
    let fd = match config.attach_mode {
        AttachMode::Native => create_link(program, config.ifindex, Mode::Native),
        AttachMode::Generic => create_link(program, config.ifindex, Mode::Generic),
        AttachMode::Auto => match create_link(program, config.ifindex, Mode::Native) {
            Err(libc::EOPNOTSUPP) => create_link(program, config.ifindex, Mode::Generic),
            other => other,
        },
    };
    let fd = fd.map_err(|errno| attach_error(config, errno))?;
    Ok(Link { _fd: fd, mode: read_mode(program, config)? })
}

fn create_link(program: BorrowedFd<'_>, ifindex: u32, mode: Mode) -> Result<OwnedFd, i32> {
    let flags = match mode {
        Mode::Native => XDP_FLAGS_DRV_MODE,
        Mode::Generic => XDP_FLAGS_SKB_MODE,
    };
    // An index beyond i32 names no interface.
    let target = i32::try_from(ifindex).map_err(|_| libc::ENODEV)?;
    let opts =
        bpf_link_create_opts { sz: size_of::<bpf_link_create_opts>() as _, flags, ..Default::default() };
    // SAFETY: `program` is an open descriptor, and `opts` is valid for the call, which keeps no pointer to it.
    let fd = unsafe { bpf_link_create(program.as_raw_fd(), target, BPF_XDP, &raw const opts) };
    if fd < 0 {
        return Err(-fd);
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a socket filter program in front of a socket.
pub(super) fn filter(program: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
    let fd: libc::c_int = program.as_raw_fd();
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_BPF);
    // SAFETY: both descriptors are open, and the kernel reads `len` bytes of `fd` during the call.
    let status = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const fd).cast(), len) };
    if status == 0 {
        return Ok(());
    }
    Err(SteerError::unexpected("attach a socket filter", &std::io::Error::last_os_error()))
}

/// Which of the two modes the kernel lists our program under.
fn read_mode(program: BorrowedFd<'_>, config: &AttachConfig) -> Result<Mode, SteerError> {
    let ours = Program::id_from_fd(program)
        .map_err(|error| SteerError::unexpected("read our program's id", &error))?;
    match incumbent::attached(config.ifindex)? {
        Some(Attached { id, mode }) if id == ours => Ok(mode),
        _ => Err(SteerError::refused(
            format!("{}: the steering program is attached, but the kernel does not list it", config.ifname),
            "has the interface been removed meanwhile? try again",
        )),
    }
}

fn attach_error(config: &AttachConfig, errno: i32) -> SteerError {
    let name = &config.ifname;
    let what = format!("cannot attach the steering program to {name}");
    let kernel = |reason: &str, hint: String| SteerError::kernel(format!("{what}: {reason}"), errno, hint);
    match errno {
        libc::EPERM => load::missing_capability(&what, errno),
        libc::EBUSY | libc::EEXIST => occupied(config, errno),
        libc::EINVAL | libc::ENODEV if !nic::exists(config.ifindex) => kernel(
            &format!("no interface has index {}", config.ifindex),
            format!("is {name} in this network namespace? see: ip link"),
        ),
        libc::EOPNOTSUPP => kernel(
            &format!("{} has no native XDP, or not with its present offloads", nic::driver(name)),
            format!(
                "use --attach-mode generic (slower), or first: ethtool -K {name} lro off rx-gro-hw off"
            ),
        ),
        libc::ENOSPC => kernel(
            "fewer RX queues here than TX queues on the other end of the veth pair",
            "make the pair with as many: ip link add .. numrxqueues N numtxqueues N".into(),
        ),
        libc::ENOMEM => kernel(
            "the driver has no memory or no free queues for it",
            format!("use fewer channels: ethtool -L {name} combined N"),
        ),
        libc::ERANGE | libc::EINVAL => mtu_too_large(config, errno).unwrap_or_else(|| {
            kernel(
                &format!("{} refuses it ({})", nic::driver(name), errno_text(errno)),
                format!("see dmesg; most often: ethtool -L {name} combined N with a smaller N, or ethtool -K {name} lro off"),
            )
        }),
        _ => kernel(&errno_text(errno), "see dmesg for the driver's reason".into()),
    }
}

fn occupied(config: &AttachConfig, errno: i32) -> SteerError {
    let name = &config.ifname;
    match incumbent::incumbent(config.ifindex) {
        Ok(Some(found)) => {
            let hint = match &found.holder {
                Some(holder) => {
                    format!("use another interface, or stop {holder} or its use of XDP on this one")
                }
                None => format!("use another interface, or detach it: ip link set dev {name} xdp off"),
            };
            SteerError::kernel(format!("{name} already runs XDP program {found}"), errno, hint)
        }
        _ => SteerError::kernel(
            format!("{name} is taken: an XDP program sits on it or on the bond or team above it"),
            errno,
            "see: ip -details link",
        ),
    }
}

fn mtu_too_large(config: &AttachConfig, errno: i32) -> Option<SteerError> {
    let driver = nic::driver(&config.ifname);
    let mtu = nic::mtu(&config.ifname)?;
    let most = nic::largest_mtu(&driver).filter(|most| mtu > *most && !config.frags)?;
    let what = format!("{}: MTU {mtu} > {most}, the most {driver} takes with XDP", config.ifname);
    Some(SteerError::kernel(what, errno, format!("ip link set {} mtu {most}", config.ifname)))
}
