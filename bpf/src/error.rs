//! Set-up errors: what failed, with which errno, and what the operator does next.

use std::fmt;
use std::io;

/// Loading, attaching or changing the steering program failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SteerError {
    /// One line: what could not be done, and why.
    pub what: String,
    /// The kernel's error number, when the kernel refused.
    pub errno: Option<i32>,
    /// One line: what to do about it.
    pub hint: String,
}

impl SteerError {
    /// A refusal of our own.
    pub(crate) fn refused(what: impl Into<String>, hint: impl Into<String>) -> SteerError {
        SteerError { what: what.into(), errno: None, hint: hint.into() }
    }

    /// A refusal by the kernel; `what` already says why.
    pub(crate) fn kernel(what: impl Into<String>, errno: i32, hint: impl Into<String>) -> SteerError {
        SteerError { what: what.into(), errno: Some(errno), hint: hint.into() }
    }

    /// A system call that has no reason of its own to fail.
    pub(crate) fn unexpected(action: &str, error: &(impl fmt::Display + ?Sized)) -> SteerError {
        SteerError::refused(
            format!("cannot {action}: {error}"),
            "unexpected; please report it with the output of `uname -r`",
        )
    }
}

impl fmt::Display for SteerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhint: {}", self.what, self.hint)
    }
}

impl std::error::Error for SteerError {}

/// The kernel's words for an errno, without the number that `io::Error` appends.
pub(crate) fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
