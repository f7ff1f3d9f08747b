//! Set-up errors: what failed, with which errno, and what the operator does next.

use std::fmt;
use std::time::Duration;

use rustix::io::Errno;

use crate::config::{BindMode, XskConfig};

/// Why packet memory or a queue could not be set up.
///
/// `Display` is two lines: `what`, then `hint: ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct XskError {
    /// What failed and why, in one line.
    pub what: String,
    /// The kernel's error number, if it was the kernel that refused.
    pub errno: Option<i32>,
    /// What to do next.
    pub hint: String,
}

impl fmt::Display for XskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhint: {}", self.what, self.hint)
    }
}

impl std::error::Error for XskError {}

/// Fewer frames than this make no packet memory that an engine could work with.
const FEWEST_FRAMES: u64 = 64;

fn capability_hint() -> String {
    let program = std::env::current_exe().map_or("./ringwire".into(), |path| path.display().to_string());
    format!("sudo, or: sudo setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep {program}")
}

/// A queue that the kernel did not give.
pub(crate) struct BindFault {
    pub(crate) errno: Errno,
    /// How long the queue stayed busy, if it did.
    pub(crate) waited: Duration,
}

impl XskError {
    /// The caller's own request makes no sense.
    pub(crate) fn request(what: impl Into<String>, hint: impl Into<String>) -> XskError {
        XskError { what: what.into(), errno: None, hint: hint.into() }
    }

    fn kernel(errno: Errno, what: impl fmt::Display, hint: impl Into<String>) -> XskError {
        XskError {
            what: format!("{what} ({})", errno_name(errno)),
            errno: Some(errno.raw_os_error()),
            hint: hint.into(),
        }
    }

    /// Packet memory of `len_bytes` in frames of `frame_bytes` was not registered.
    pub(crate) fn register(errno: Errno, len_bytes: usize, frame_bytes: u32, huge_pages: bool) -> XskError {
        let size = size(len_bytes as u64);
        match errno {
            Errno::NOBUFS => XskError::memlock(len_bytes, frame_bytes),
            Errno::NOMEM if huge_pages => XskError::kernel(
                errno,
                format_args!("cannot map {size} of packet memory in 2 MiB pages: too few are reserved"),
                format!("sysctl vm.nr_hugepages={}, or hugepages = \"auto\"", len_bytes.div_ceil(2 << 20)),
            ),
            Errno::NOMEM => XskError::kernel(
                errno,
                format_args!("cannot map {size} of packet memory: out of memory"),
                "use fewer frames, or free memory",
            ),
            Errno::PERM | Errno::ACCESS => XskError::kernel(
                errno,
                "cannot open an AF_XDP socket: CAP_NET_RAW is missing",
                capability_hint(),
            ),
            Errno::AFNOSUPPORT => XskError::no_af_xdp(errno),
            other => XskError::kernel(
                other,
                format_args!("cannot register {size} of packet memory"),
                "run ringwire doctor; it checks kernel, capabilities and limits",
            ),
        }
    }

    fn memlock(len_bytes: usize, frame_bytes: u32) -> XskError {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        let Some(limit) = limit else {
            return XskError::kernel(
                Errno::NOBUFS,
                format_args!("cannot register {} of packet memory", size(len_bytes as u64)),
                "use fewer frames",
            );
        };
        // Half of the limit: other locked memory of the same user counts too.
        let fitting_frames = (limit / 2 / u64::from(frame_bytes)).max(1);
        let fitting_frames = 1 << fitting_frames.ilog2();
        let hint = if fitting_frames < FEWEST_FRAMES {
            "grant CAP_IPC_LOCK, or raise memlock".to_owned()
        } else {
            format!(
                "grant CAP_IPC_LOCK, raise memlock, or --frames {fitting_frames} ({})",
                size(fitting_frames * u64::from(frame_bytes))
            )
        };
        XskError::kernel(
            Errno::NOBUFS,
            format_args!(
                "cannot register {} of packet memory: RLIMIT_MEMLOCK is {}",
                size(len_bytes as u64),
                size(limit)
            ),
            hint,
        )
    }

    fn no_af_xdp(errno: Errno) -> XskError {
        XskError::kernel(
            errno,
            "this kernel has no AF_XDP sockets",
            "boot a kernel with CONFIG_XDP_SOCKETS=y, or use --stack kernel",
        )
    }

    /// Queue `config.queue_id` was not bound.
    pub(crate) fn bind(fault: &BindFault, config: &XskConfig) -> XskError {
        let (queue, interface) = (config.queue_id, config.interface.as_str());
        let errno = fault.errno;
        match errno {
            Errno::BUSY => XskError::kernel(
                errno,
                format_args!(
                    "queue {queue} of {interface} is in use by another AF_XDP socket, still after {:.1} s",
                    fault.waited.as_secs_f64()
                ),
                "ss --xdp -p names the owner: stop it, or choose other queues with --queues",
            ),
            Errno::NODEV | Errno::NXIO => XskError::kernel(
                errno,
                format_args!("no interface {interface} in this network namespace"),
                "ip link lists the interfaces",
            ),
            Errno::INVAL => XskError::kernel(
                errno,
                format_args!("{interface} has no queue {queue}{}", multi_buffer_doubt(config)),
                format!(
                    "ethtool -l {interface} shows the queues, ethtool -L {interface} combined N changes them"
                ),
            ),
            Errno::OPNOTSUPP | Errno::NOTSUP if config.bind_mode == BindMode::ZeroCopy => {
                XskError::zero_copy_refused(Some(errno), config)
            }
            Errno::OPNOTSUPP => XskError::kernel(
                errno,
                format_args!("{interface} cannot be bound{}", multi_buffer_doubt(config)),
                format!("ethtool -i {interface} names the driver; use another interface or --stack kernel"),
            ),
            Errno::PERM | Errno::ACCESS => XskError::kernel(
                errno,
                "cannot bind an AF_XDP socket: CAP_NET_RAW is missing",
                capability_hint(),
            ),
            Errno::NOBUFS | Errno::NOMEM => XskError::kernel(
                errno,
                format_args!("no memory for the rings of queue {queue} of {interface}"),
                "use smaller rings, or free memory",
            ),
            Errno::AFNOSUPPORT => XskError::no_af_xdp(errno),
            other => XskError::kernel(
                other,
                format_args!("cannot bind queue {queue} of {interface}"),
                format!("run ringwire doctor -i {interface}"),
            ),
        }
    }

    /// Zero-copy was demanded and is not to be had.
    pub(crate) fn zero_copy_refused(errno: Option<Errno>, config: &XskConfig) -> XskError {
        let what = format!(
            "queue {} of {} cannot be bound zero-copy: its driver does not support it",
            config.queue_id, config.interface
        );
        let hint = "--bind-mode copy, or auto";
        match errno {
            Some(errno) => XskError::kernel(errno, what, hint),
            None => XskError::request(what, hint),
        }
    }

    /// A later step on an open socket failed.
    pub(crate) fn socket(errno: Errno, step: &str, config: &XskConfig) -> XskError {
        XskError::kernel(
            errno,
            format_args!("queue {} of {}: {step} failed", config.queue_id, config.interface),
            format!("run ringwire doctor -i {}", config.interface),
        )
    }
}

fn multi_buffer_doubt(config: &XskConfig) -> &'static str {
    if config.multi_buffer { ", or kernel or driver have no multi-buffer support" } else { "" }
}

fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b >= 1 << 20 => format!("{:.1} MiB", b as f64 / f64::from(1 << 20)),
        b => format!("{} KiB", b >> 10),
    }
}

/// The names of the errors set-up can meet; other numbers are printed as such.
fn errno_name(errno: Errno) -> String {
    let name = match errno {
        Errno::ACCESS => "EACCES",
        Errno::AFNOSUPPORT => "EAFNOSUPPORT",
        Errno::BUSY => "EBUSY",
        Errno::INVAL => "EINVAL",
        Errno::MFILE => "EMFILE",
        Errno::NETDOWN => "ENETDOWN",
        Errno::NFILE => "ENFILE",
        Errno::NOBUFS => "ENOBUFS",
        Errno::NODEV => "ENODEV",
        Errno::NOMEM => "ENOMEM",
        Errno::NXIO => "ENXIO",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::PERM => "EPERM",
        other => return format!("errno {}", other.raw_os_error()),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(errno: Errno) -> BindFault {
        BindFault { errno, waited: Duration::from_millis(2040) }
    }

    #[test]
    fn memlock_row_names_the_limit_and_frames_that_fit() {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
        let eight = rustix::process::Rlimit { current: Some(8 << 20), maximum: limit.maximum };
        rustix::process::setrlimit(rustix::process::Resource::Memlock, eight).unwrap();
        let error = XskError::register(Errno::NOBUFS, 64 << 20, 4096, false);
        rustix::process::setrlimit(rustix::process::Resource::Memlock, limit).unwrap();
        assert_eq!(
            error.to_string(),
            "cannot register 64 MiB of packet memory: RLIMIT_MEMLOCK is 8 MiB (ENOBUFS)\n\
             hint: grant CAP_IPC_LOCK, raise memlock, or --frames 1024 (4 MiB)"
        );
        assert_eq!(error.errno, Some(libc::ENOBUFS));
    }

    #[test]
    fn every_expected_errno_has_its_own_words() {
        let config = XskConfig::new("eth0", 7);
        let said = |errno| XskError::bind(&fault(errno), &config).what;
        assert_eq!(
            said(Errno::BUSY),
            "queue 7 of eth0 is in use by another AF_XDP socket, still after 2.0 s (EBUSY)"
        );
        assert_eq!(said(Errno::INVAL), "eth0 has no queue 7 (EINVAL)");
        assert_eq!(said(Errno::NODEV), "no interface eth0 in this network namespace (ENODEV)");
        assert_eq!(said(Errno::PERM), "cannot bind an AF_XDP socket: CAP_NET_RAW is missing (EPERM)");
        assert_eq!(said(Errno::AFNOSUPPORT), "this kernel has no AF_XDP sockets (EAFNOSUPPORT)");
        assert_eq!(said(Errno::NETDOWN), "cannot bind queue 7 of eth0 (ENETDOWN)");
        let demanding = XskConfig { bind_mode: BindMode::ZeroCopy, ..config.clone() };
        assert_eq!(
            XskError::bind(&fault(Errno::OPNOTSUPP), &demanding).to_string(),
            "queue 7 of eth0 cannot be bound zero-copy: its driver does not support it (EOPNOTSUPP)\n\
             hint: --bind-mode copy, or auto"
        );
    }

    #[test]
    fn a_kernel_without_af_xdp_is_told_apart_from_a_missing_capability() {
        let refused = |errno| XskError::register(errno, 1 << 20, 2048, false);
        let error = refused(Errno::AFNOSUPPORT);
        assert_eq!(
            error.to_string(),
            "this kernel has no AF_XDP sockets (EAFNOSUPPORT)\n\
             hint: boot a kernel with CONFIG_XDP_SOCKETS=y, or use --stack kernel"
        );
        assert_eq!(error.errno, Some(libc::EAFNOSUPPORT));
        let what = refused(Errno::PERM).what;
        assert_eq!(what, "cannot open an AF_XDP socket: CAP_NET_RAW is missing (EPERM)");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(512 << 10), "512 KiB");
        assert_eq!(size(3 << 19), "1.5 MiB");
        assert_eq!(size(64 << 20), "64 MiB");
    }
}
