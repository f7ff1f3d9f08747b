//! Set-up errors: what failed, with which errno, and what the operator does next.

use std::fmt;

use rustix::io::Errno;

/// Why a packet port could not be opened. `Display` is two lines: `what`, then `hint: ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacketError {
    /// What failed and why, in one line.
    pub what: String,
    /// The kernel's error number.
    pub errno: Option<i32>,
    /// What to do next.
    pub hint: String,
}

impl PacketError {
    pub(crate) fn new(step: &str, interface: &str, errno: Errno) -> PacketError {
        let cause = std::io::Error::from(errno);
        let (what, hint) = match errno {
            Errno::PERM | Errno::ACCESS => (
                "cannot open a packet socket: CAP_NET_RAW is missing".to_owned(),
                "sudo, docker run --cap-add NET_RAW, or a network namespace of your own: unshare -Urn"
                    .to_owned(),
            ),
            Errno::NODEV | Errno::NXIO => (
                format!("no interface {interface} in this network namespace"),
                "ip link lists the interfaces".to_owned(),
            ),
            Errno::NETDOWN => {
                (format!("interface '{interface}' is down"), format!("ip link set {interface} up"))
            }
            Errno::NOMEM => (
                format!("no memory for the receive ring of {interface}"),
                "use fewer slots, or free memory".to_owned(),
            ),
            Errno::AFNOSUPPORT => (
                "this kernel has no packet sockets".to_owned(),
                "boot a kernel with CONFIG_PACKET=y".to_owned(),
            ),
            _ => (
                format!("packet socket of {interface}: {step} failed: {cause}"),
                "Linux 4.20 or later is needed; look at dmesg for the kernel's reason".to_owned(),
            ),
        };
        PacketError { what, errno: Some(errno.raw_os_error()), hint }
    }
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhint: {}", self.what, self.hint)
    }
}

impl std::error::Error for PacketError {}
