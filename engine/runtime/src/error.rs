//! Errors of the public API: one small enum per call, each with an errno mapping (conventions, 24).

use core::fmt;

use ringwire_proto::icmp::Unreachable;

/// Why an engine could not be set up. `Display` is `what: cause`, then a line `hint: ..` that says what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetupError {
    /// The class of the fault, for programs.
    pub kind: SetupErrorKind,
    /// The kernel's answer, where there was one.
    pub errno: Option<i32>,
    /// What the operator does next.
    pub hint: String,
    what: String,
}

/// The classes of [`SetupError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupErrorKind {
    /// A capability is missing (`CAP_BPF`, `CAP_NET_ADMIN`, `CAP_NET_RAW`).
    Capability,
    /// `RLIMIT_MEMLOCK` is too low for the packet memory.
    Memlock,
    /// The interface does not exist, is down, or cannot do what was asked.
    Interface,
    /// Another XDP program is attached.
    Incumbent,
    /// A queue is already in use by another AF_XDP socket.
    QueueBusy,
    /// The kernel or the driver lacks a feature.
    Unsupported,
    /// The address is not usable on this interface.
    Address,
    /// The configuration contradicts itself.
    Config,
    /// Any other refusal by the system.
    System,
}

impl SetupError {
    pub(crate) fn new(kind: SetupErrorKind, what: impl Into<String>, hint: impl Into<String>) -> SetupError {
        SetupError { kind, errno: None, hint: hint.into(), what: what.into() }
    }

    pub(crate) fn with_errno(mut self, errno: Option<i32>) -> SetupError {
        self.errno = errno;
        self
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\nhint: {}", self.hint) }
    }
}

impl std::error::Error for SetupError {}

/// Why [`Worker::poll`](crate::Worker::poll) failed. The engine is no longer usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The wait for packets was refused by the kernel.
    #[error("waiting for packets failed (errno {0})")]
    Wait(i32),
    /// The interface was removed, or moved to another network namespace.
    #[error("the network interface is gone")]
    InterfaceGone,
}

/// Why a listener or datagram socket could not be bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody else holds the port; the text names the holder where it is known.
    #[error("{0}")]
    AddressInUse(String),
    /// The address is not one of this engine's.
    #[error("{0} is not an address of this engine")]
    AddressNotAvailable(std::net::SocketAddr),
    /// The socket table is full.
    #[error("the socket table is full")]
    TableFull,
    /// The worker's sockets have 65,536 other sets of options.
    #[error("the worker's sockets have too many different options")]
    TooManyOptions,
    /// The kernel refused the reservation.
    #[error("{what}")]
    System {
        /// The port, the step and the kernel's words.
        what: String,
        /// The kernel's error number.
        errno: i32,
    },
}

/// Why an active open could not start. What happens later arrives as [`Event::Closed`](crate::Event::Closed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No interface of the engine has a route to the peer.
    #[error("no route to the peer")]
    NoRoute,
    /// Every local port is taken for this peer.
    #[error("no local port is left for this peer")]
    NoPorts,
    /// The address family or the address itself (port 0, multicast) cannot be connected to.
    #[error("the peer's address cannot be connected to")]
    InvalidAddress,
    /// The worker's connection limit is reached.
    #[error("the worker holds as many connections as it may")]
    TooManyConnections,
    /// The engine is shutting down.
    #[error("the engine is shutting down")]
    ShuttingDown,
    /// The worker's sockets have 65,536 other sets of options.
    #[error("the worker's sockets have too many different options")]
    TooManyOptions,
}

/// Why a call on a connection or datagram socket failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnError {
    /// The id is stale, foreign, or was closed by the application.
    #[error("the connection is closed")]
    Closed,
    /// The sending side was shut down.
    #[error("the sending side is shut down")]
    ShutDown,
    /// The handshake has not completed.
    #[error("the connection is not established yet")]
    NotConnected,
    /// The datagram is longer than the path takes in one piece.
    #[error("the datagram is too long for the interface")]
    TooLong,
    /// No interface of the engine has a route to the peer.
    #[error("no route to the peer")]
    NoRoute,
    /// The connection was reset by the peer.
    #[error("the peer reset the connection")]
    Reset,
    /// Nobody has the port that a datagram was sent to (connected sockets only).
    #[error("nobody listens on the peer's port")]
    Refused,
    /// A router or the peer's host said that a datagram cannot be delivered (connected sockets only).
    #[error("the peer cannot be reached: {0}")]
    Unreachable(Unreachable),
    /// The worker's sockets have 65,536 other sets of options.
    #[error("the worker's sockets have too many different options")]
    TooManyOptions,
}

/// Why a connection ended without, or before, the application's own `close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both directions were finished in order.
    #[error("finished")]
    Finished,
    /// The peer refused the connection (RST during the handshake), or ICMP said that nobody takes the port.
    #[error("connection refused")]
    Refused,
    /// The peer reset the connection.
    #[error("connection reset")]
    Reset,
    /// Nothing was heard from the peer for too long.
    #[error("timed out")]
    TimedOut,
    /// A router or the peer's host said that what is sent does not arrive, or no neighbour answers.
    #[error("{0}")]
    Unreachable(Unreachable),
    /// Every local port is taken for this peer, which turned out after the connect had begun.
    #[error("no local port is left for this peer")]
    NoPorts,
    /// The engine is shutting down.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

/// A buffer that was not taken, with the reason.
#[derive(Debug)]
pub struct Unsent<B> {
    /// The buffer, untouched.
    pub buf: B,
    /// Why it was not taken; `None` is back-pressure: try again after `Event::Writable`.
    pub error: Option<ConnError>,
}

impl From<ringwire_proto::tcp::CloseReason> for CloseReason {
    fn from(reason: ringwire_proto::tcp::CloseReason) -> CloseReason {
        use ringwire_proto::tcp::CloseReason as Machine;
        match reason {
            Machine::Finished => CloseReason::Finished,
            Machine::Refused => CloseReason::Refused,
            Machine::TimedOut => CloseReason::TimedOut,
            Machine::Unreachable(why) => CloseReason::Unreachable(why),
            Machine::NoPorts => CloseReason::NoPorts,
            _ => CloseReason::Reset,
        }
    }
}

const EADDRINUSE: i32 = rustix::io::Errno::ADDRINUSE.raw_os_error();
const EADDRNOTAVAIL: i32 = rustix::io::Errno::ADDRNOTAVAIL.raw_os_error();

impl BindError {
    /// The errno that `bind(2)` would set.
    pub fn errno(&self) -> i32 {
        match self {
            BindError::AddressInUse(_) => EADDRINUSE,
            BindError::AddressNotAvailable(_) => EADDRNOTAVAIL,
            BindError::TableFull | BindError::TooManyOptions => rustix::io::Errno::NOBUFS.raw_os_error(),
            BindError::System { errno, .. } => *errno,
        }
    }
}

impl ConnectError {
    /// The errno that `connect(2)` would set.
    pub fn errno(self) -> i32 {
        match self {
            ConnectError::NoRoute => rustix::io::Errno::NETUNREACH.raw_os_error(),
            ConnectError::NoPorts => EADDRNOTAVAIL,
            ConnectError::InvalidAddress => rustix::io::Errno::INVAL.raw_os_error(),
            ConnectError::TooManyConnections | ConnectError::TooManyOptions => {
                rustix::io::Errno::NOBUFS.raw_os_error()
            }
            ConnectError::ShuttingDown => rustix::io::Errno::SHUTDOWN.raw_os_error(),
        }
    }
}

impl ConnError {
    /// The errno that `send(2)` or `recv(2)` would set.
    pub fn errno(self) -> i32 {
        match self {
            ConnError::Closed => rustix::io::Errno::BADF.raw_os_error(),
            ConnError::ShutDown => rustix::io::Errno::PIPE.raw_os_error(),
            ConnError::NotConnected => rustix::io::Errno::NOTCONN.raw_os_error(),
            ConnError::TooLong => rustix::io::Errno::MSGSIZE.raw_os_error(),
            ConnError::NoRoute => rustix::io::Errno::NETUNREACH.raw_os_error(),
            ConnError::Reset => rustix::io::Errno::CONNRESET.raw_os_error(),
            ConnError::Refused => rustix::io::Errno::CONNREFUSED.raw_os_error(),
            ConnError::Unreachable(why) => why.errno(),
            ConnError::TooManyOptions => rustix::io::Errno::NOBUFS.raw_os_error(),
        }
    }
}

impl CloseReason {
    /// The errno that `SO_ERROR` would show; 0 for an orderly end.
    pub fn errno(self) -> i32 {
        match self {
            CloseReason::Finished => 0,
            CloseReason::Refused => rustix::io::Errno::CONNREFUSED.raw_os_error(),
            CloseReason::Reset => rustix::io::Errno::CONNRESET.raw_os_error(),
            CloseReason::TimedOut => rustix::io::Errno::TIMEDOUT.raw_os_error(),
            CloseReason::Unreachable(why) => why.errno(),
            CloseReason::NoPorts => EADDRNOTAVAIL,
            CloseReason::ShuttingDown => rustix::io::Errno::SHUTDOWN.raw_os_error(),
        }
    }
}
