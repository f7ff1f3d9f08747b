//! What went wrong while building a lab, and what to do about it.

use std::fmt;
use std::io;

/// A step of building a lab that the kernel refused.
///
/// `Display` prints `what: cause`, then a second line `hint: ..`. `Debug` prints the same, because in a
/// test it is `unwrap` that shows it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabError {
    /// The step, naming the node, link or interface.
    pub what: String,
    /// The kernel's answer, if it was the kernel that refused.
    pub errno: Option<i32>,
    /// What the person running the test does next.
    pub hint: String,
    /// This process may not have such a lab; a test may be skipped for that.
    pub(crate) lacks_level: bool,
}

impl LabError {
    pub(crate) fn new(what: impl Into<String>, cause: &io::Error) -> LabError {
        let errno = cause.raw_os_error();
        LabError { what: what.into(), errno, hint: hint(errno).into(), lacks_level: false }
    }

    /// A request that no kernel was asked about, because it cannot be meant.
    pub(crate) fn misuse(what: impl Into<String>, hint: impl Into<String>) -> LabError {
        LabError { what: what.into(), errno: None, hint: hint.into(), lacks_level: false }
    }
}

fn hint(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EPERM | libc::EACCES) => {
            "a lab needs CAP_SYS_ADMIN, CAP_NET_ADMIN and, for impairments, CAP_BPF: run as root, \
             or docker run --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add BPF"
        }
        Some(libc::EOPNOTSUPP | libc::ENOENT | libc::EAFNOSUPPORT) => {
            "the kernel lacks a part: links need veth (modprobe veth), impairments need \
             CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF and Linux 5.12"
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            "too many open files: raise ulimit -n, or run fewer labs at once"
        }
        Some(libc::ENOSPC | libc::EUSERS) => {
            "too many namespaces: raise /proc/sys/user/max_net_namespaces and max_pid_namespaces"
        }
        _ => "an ip, tc or unshare command that does the same may tell more; then report it",
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(errno) = self.errno {
            write!(f, ": {}", io::Error::from_raw_os_error(errno))?;
        }
        write!(f, "\nhint: {}", self.hint)
    }
}

impl fmt::Debug for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for LabError {}

/// Names the step that an [`io::Error`] came from.
pub(crate) trait Step<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, LabError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, LabError> {
        self.map_err(|cause| LabError::new(what(), &cause.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_step_cause_and_next_action() {
        let error = LabError::new("cannot make node 'a'", &io::Error::from_raw_os_error(libc::EPERM));
        let text = error.to_string();
        assert!(text.starts_with("cannot make node 'a': Operation not permitted"), "{text}");
        assert!(text.contains("\nhint: a lab needs CAP_SYS_ADMIN"), "{text}");
        assert_eq!(error.errno, Some(libc::EPERM));
    }
}
