//! Ports of shared addresses, kept from everybody else by kernel sockets.
//!
//! The kernel and the engine have the same address, so a port must be ours in the kernel too: nobody else may bind it,
//! no active open may be given it, and a packet that slips past the steering program must not be answered. A reservation
//! comes before steering and goes after it. It belongs to the network namespace of the thread that makes it, costs a
//! descriptor and 4.1 KB of kernel memory, and nothing is ever read from it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, SockFilter, Socket, Type};

use super::netlink::sock_diag::{self, Holder};

#[cfg(test)]
mod tests;

/// What a datagram that slipped past XDP may occupy until the socket is closed.
const UDP_RECEIVE_BUFFER_BYTES: usize = 4096;

/// A TCP port that is ours. Dropping it gives the port back.
#[derive(Debug)]
pub(crate) struct TcpReservation {
    socket: Socket,
    port: u16,
}

impl TcpReservation {
    /// Reserves a port; 0 lets the kernel choose one.
    ///
    /// # Errors
    /// [`ReserveError`].
    pub(crate) fn reserve(ip: IpAddr, port: u16) -> Result<TcpReservation, ReserveError> {
        let refused = Refused { addr: SocketAddr::new(ip, port), protocol: Protocol::Tcp };
        let socket = open(&refused)?;
        // Gets us past the TIME-WAIT entries of the last run. It must stay set: clearing it after bind() would let
        // connect()'s automatic choice share the port with us.
        socket.set_reuse_address(true).map_err(|error| refused.by("SO_REUSEADDR", error))?;
        bind(&socket, &refused)?;
        // Before listen(), or a SYN could be answered in between. Behind the filter it is neither answered nor reset.
        socket.attach_filter(&[DROP_ALL]).map_err(|error| refused.by("SO_ATTACH_FILTER", error))?;
        // A port that is only bound is answered with RST; one that listens belongs to its filter.
        socket.listen(0).map_err(|error| refused.by("listen", error))?;
        let port = bound_port(&socket, &refused)?;
        Ok(TcpReservation { socket, port })
    }

    /// The port, also when the kernel chose it.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for TcpReservation {
    fn drop(&mut self) {
        // A child that the application forked holds the descriptor until it execs. Without this the port would be taken
        // for us too until then. It cannot fail on a socket that listens.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// A UDP port that is ours. Dropping it gives the port back.
#[derive(Debug)]
pub(crate) struct UdpReservation {
    _socket: Socket,
    port: u16,
}

impl UdpReservation {
    /// Reserves a port; 0 lets the kernel choose one.
    ///
    /// # Errors
    /// [`ReserveError`].
    pub(crate) fn reserve(ip: IpAddr, port: u16) -> Result<UdpReservation, ReserveError> {
        let refused = Refused { addr: SocketAddr::new(ip, port), protocol: Protocol::Udp };
        // No SO_REUSEADDR: for UDP it would let others share the port.
        let socket = open(&refused)?;
        socket
            .set_recv_buffer_size(UDP_RECEIVE_BUFFER_BYTES)
            .map_err(|error| refused.by("SO_RCVBUF", error))?;
        bind(&socket, &refused)?;
        let port = bound_port(&socket, &refused)?;
        Ok(UdpReservation { _socket: socket, port })
    }

    /// The port, also when the kernel chose it.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Why a port could not be reserved.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum ReserveError {
    /// Another socket holds it.
    InUse { addr: SocketAddr, protocol: &'static str, holder: Option<Holder> },
    /// The address is not the kernel's.
    NotOnInterface { addr: SocketAddr, protocol: &'static str },
    /// The kernel refused a step for another reason: descriptors, memory, permission for low ports.
    Refused { addr: SocketAddr, protocol: &'static str, step: &'static str, error: io::Error },
}

impl ReserveError {
    /// What bind(2) would set.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            ReserveError::InUse { .. } => Some(Errno::ADDRINUSE.raw_os_error()),
            ReserveError::NotOnInterface { .. } => Some(Errno::ADDRNOTAVAIL.raw_os_error()),
            ReserveError::Refused { error, .. } => error.raw_os_error(),
        }
    }
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReserveError::InUse { addr, protocol, holder: Some(Holder { name, pid }) } => {
                write!(f, "{addr}/{protocol} is held by {name} (pid {pid})")
            }
            ReserveError::InUse { addr, protocol, holder: None } => {
                write!(f, "{addr}/{protocol} is held by another socket")
            }
            ReserveError::NotOnInterface { addr, protocol } => {
                write!(f, "{addr}/{protocol}: address not on the interface")
            }
            ReserveError::Refused { addr, protocol, step, error } => {
                write!(f, "cannot reserve {addr}/{protocol}: {step}: {error}")
            }
        }
    }
}

impl std::error::Error for ReserveError {}

/// Classic BPF `ret 0`: the packet is dropped in silence.
const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);

#[derive(Clone, Copy)]
enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    fn socket_type(self) -> Type {
        match self {
            Protocol::Tcp => Type::STREAM,
            Protocol::Udp => Type::DGRAM,
        }
    }

    fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

/// What was asked for, to say it in the error.
struct Refused {
    addr: SocketAddr,
    protocol: Protocol,
}

impl Refused {
    fn by(&self, step: &'static str, error: io::Error) -> ReserveError {
        let (addr, protocol) = (self.addr, self.protocol.name());
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // Without a port the kernel had none left to choose: nobody in particular holds it.
            Some(Errno::ADDRINUSE) if addr.port() != 0 => {
                let holder = sock_diag::holder(addr, self.protocol.number());
                ReserveError::InUse { addr, protocol, holder }
            }
            Some(Errno::ADDRNOTAVAIL) => ReserveError::NotOnInterface { addr, protocol },
            _ => ReserveError::Refused { addr, protocol, step, error },
        }
    }
}

fn open(refused: &Refused) -> Result<Socket, ReserveError> {
    let (domain, kind) = (Domain::for_address(refused.addr), refused.protocol.socket_type());
    let socket = Socket::new(domain, kind, None).map_err(|error| refused.by("socket", error))?;
    if refused.addr.is_ipv6() {
        socket.set_only_v6(true).map_err(|error| refused.by("IPV6_V6ONLY", error))?;
    }
    Ok(socket)
}

fn bind(socket: &Socket, refused: &Refused) -> Result<(), ReserveError> {
    socket.bind(&refused.addr.into()).map_err(|error| refused.by("bind", error))
}

fn bound_port(socket: &Socket, refused: &Refused) -> Result<u16, ReserveError> {
    let bound = socket.local_addr().map_err(|error| refused.by("getsockname", error))?;
    Ok(bound.as_socket().map_or(0, |addr| addr.port()))
}
