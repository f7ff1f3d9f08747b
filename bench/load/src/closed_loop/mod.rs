//! The closed loop: askers that each have one request in flight, over any stack.
//!
//! [`Streams`] and [`Datagrams`] are what the loop needs of a stack, [`streams`] and [`datagrams`] the
//! loop itself. The loop checks every byte of every answer; what is not exactly the request again is a
//! [`Fault`], never an answer.

pub(crate) mod datagrams;
pub(crate) mod streams;

use std::fmt;
use std::io;
use std::time::Duration;

use crate::meter::Fault;

/// Distance of two looks for requests that timed out.
const TIMEOUT_SCAN_NS: u64 = 10_000_000;

/// Ends of runs that have nothing to report.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// Not one asker, or not all of them, ever got an answer.
    Unanswered { answered: usize, askers: usize, last: Option<Fault> },
    /// The stack itself gave up.
    Stack { what: &'static str, error: io::Error },
    /// The stack has no place for a message of this size.
    TooLarge { size_bytes: usize, most_bytes: usize },
}

impl LoadError {
    pub(crate) fn stack(what: &'static str) -> impl FnOnce(io::Error) -> LoadError {
        move |error| LoadError::Stack { what, error }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Unanswered { answered, askers, last } => {
                let why = match last {
                    Some(Fault::Refused) => "refused",
                    Some(Fault::Reset) => "connection ended by the server",
                    Some(Fault::Short) => "answer too short",
                    Some(Fault::Corrupt) => "answer is not the request",
                    Some(Fault::Timeout) | None => "no answer in time",
                };
                write!(f, "{answered} of {askers} askers were answered: {why}")
            }
            LoadError::Stack { what, error } => write!(f, "{what}: {error}"),
            LoadError::TooLarge { size_bytes, most_bytes } => {
                write!(f, "{size_bytes} bytes do not fit one datagram here: {most_bytes} is the most")
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// What happened to an asker's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEvent {
    Opened(usize),
    Readable(usize),
    Writable(usize),
    Failed(usize, Fault),
}

/// Whether more can come after what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Open,
    Eof,
}

/// Stream connections of a stack, named by the number of their asker.
pub(crate) trait Streams {
    /// Starts a connection; `Opened` or `Failed` follows.
    fn open(&mut self, slot: usize) -> Result<(), LoadError>;
    /// Takes a prefix of `bytes`. A short count promises a `Writable`.
    fn send(&mut self, slot: usize, bytes: &[u8]) -> Result<usize, Fault>;
    /// Passes on what has come, in order, piece by piece.
    fn receive(&mut self, slot: usize, sink: &mut impl FnMut(&[u8])) -> Result<Received, Fault>;
    /// Ends the connection with RST; no more events of it come.
    fn abort(&mut self, slot: usize);
    /// Moves packets and says what happened; sleeps at most `wait`.
    fn turn(&mut self, wait: Duration, events: &mut Vec<StreamEvent>) -> Result<(), LoadError>;
}

/// One datagram socket of a stack, which talks to the target only.
pub(crate) trait Datagrams {
    /// Queues a datagram; `false` if there is no place now.
    fn push(&mut self, payload: &[u8]) -> bool;
    /// Sends what is queued, as far as it goes; the rest stays queued.
    fn flush(&mut self) -> Result<(), LoadError>;
    /// Moves packets and passes on what has come; sleeps at most `wait`.
    fn turn(&mut self, wait: Duration, sink: &mut impl FnMut(&[u8])) -> Result<Turned, LoadError>;
}

/// What a turn of [`Datagrams`] learned besides the datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    Fine,
    /// The target's host said that nothing listens there.
    Refused,
}

/// How a driver waits for packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// Never sleeps: the generator is not the limit.
    #[default]
    Busy,
    /// Sleeps when there is nothing to do.
    Interrupt,
}

impl Waiting {
    /// Sleeps end in time for the look for timeouts.
    pub(crate) fn bound(self) -> Duration {
        match self {
            Waiting::Busy => Duration::ZERO,
            Waiting::Interrupt => Duration::from_nanos(TIMEOUT_SCAN_NS),
        }
    }
}
