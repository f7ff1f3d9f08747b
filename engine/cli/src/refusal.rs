//! How a command ends, and how it says why.

use std::fmt;
use std::process::ExitCode;

use ringwire::SetupError;

/// Exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    /// The run failed.
    Failed = 1,
    Usage = 2,
    /// Set-up was refused; nothing was changed.
    Refused = 3,
    /// There is a result, and it is not valid.
    NotValid = 4,
    /// Interrupted; partial results were kept.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do its work: `what: cause`, and a line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) exit: Exit,
    what: String,
    hint: String,
}

impl Refusal {
    pub(crate) fn new(exit: Exit, what: impl fmt::Display, hint: impl Into<String>) -> Refusal {
        Refusal { exit, what: what.to_string(), hint: hint.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\nhint: {}", self.hint) }
    }
}

impl From<SetupError> for Refusal {
    fn from(error: SetupError) -> Refusal {
        // Its text already has both lines, word for word those of the crate.
        Refusal::new(Exit::Refused, error, "")
    }
}
