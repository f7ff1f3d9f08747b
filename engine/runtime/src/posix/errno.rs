//! Linux's error numbers.

use std::fmt;

use crate::error::{BindError, CloseReason, ConnError, ConnectError};

/// An error number as Linux gives it; the C interface puts it into `errno`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident = $value:ident, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno(libc::$value);)*

            fn name(self) -> Option<&'static str> {
                match self {
                    $(Errno::$name => Some(stringify!($value)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    ADDRINUSE = EADDRINUSE, "Somebody else has the address.";
    ADDRNOTAVAIL = EADDRNOTAVAIL, "The address is not one of ours, or no port is left.";
    AFNOSUPPORT = EAFNOSUPPORT, "Not an address of this family.";
    AGAIN = EAGAIN, "It would have to wait, or the time to wait is over.";
    ALREADY = EALREADY, "A connect is under way.";
    BADF = EBADF, "No such descriptor.";
    CONNABORTED = ECONNABORTED, "The connection ended before anybody knew of it.";
    CONNREFUSED = ECONNREFUSED, "The peer refused.";
    CONNRESET = ECONNRESET, "The peer reset the connection.";
    DESTADDRREQ = EDESTADDRREQ, "A datagram to nobody.";
    DOM = EDOM, "A time that is none.";
    EXIST = EEXIST, "It is there already.";
    FAULT = EFAULT, "A pointer to nothing.";
    HOSTUNREACH = EHOSTUNREACH, "The peer cannot be reached.";
    INPROGRESS = EINPROGRESS, "The connect goes on without the caller.";
    INTR = EINTR, "The wait was broken off.";
    INVAL = EINVAL, "An argument or a state that does not fit the call.";
    ISCONN = EISCONN, "It is connected already.";
    LOOP = ELOOP, "Epolls that would watch each other, or too many of them.";
    MFILE = EMFILE, "No descriptor is left.";
    MSGSIZE = EMSGSIZE, "The datagram is too long.";
    NETUNREACH = ENETUNREACH, "There is no route.";
    NOBUFS = ENOBUFS, "A table is full.";
    NOENT = ENOENT, "There is no such thing.";
    NOPROTOOPT = ENOPROTOOPT, "An option that does not exist here.";
    NOSYS = ENOSYS, "A call that does not exist here.";
    NOTCONN = ENOTCONN, "It is not connected.";
    NOTSOCK = ENOTSOCK, "The descriptor is no socket.";
    NOTTY = ENOTTY, "A control request that does not exist here.";
    OPNOTSUPP = EOPNOTSUPP, "This kind of socket cannot do that.";
    PERM = EPERM, "The descriptor cannot be watched.";
    PIPE = EPIPE, "Nobody takes what is written. No signal is raised: that is up to the caller.";
    PROTONOSUPPORT = EPROTONOSUPPORT, "A protocol that does not exist here.";
    SHUTDOWN = ESHUTDOWN, "The engine is shutting down.";
    SOCKTNOSUPPORT = ESOCKTNOSUPPORT, "A kind of socket that does not exist here.";
    TIMEDOUT = ETIMEDOUT, "The peer has not answered for too long.";
}

impl Errno {
    /// From the system's number.
    pub const fn from_raw(errno: i32) -> Errno {
        Errno(errno)
    }

    /// The system's number.
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> std::io::Error {
        std::io::Error::from_raw_os_error(errno.0)
    }
}

impl From<BindError> for Errno {
    fn from(error: BindError) -> Errno {
        Errno(error.errno())
    }
}

impl From<ConnectError> for Errno {
    fn from(error: ConnectError) -> Errno {
        match error {
            // What Linux says to a connect to a group or to everybody; nothing else is left of this error here.
            ConnectError::InvalidAddress => Errno::NETUNREACH,
            other => Errno(other.errno()),
        }
    }
}

impl From<ConnError> for Errno {
    fn from(error: ConnError) -> Errno {
        match error {
            // A descriptor outlives its connection.
            ConnError::Closed => Errno::PIPE,
            other => Errno(other.errno()),
        }
    }
}

/// `SO_ERROR` of a connection that has ended; none for an orderly end.
pub(super) fn of_end(reason: CloseReason) -> Option<Errno> {
    match reason.errno() {
        0 => None,
        errno => Some(Errno(errno)),
    }
}
