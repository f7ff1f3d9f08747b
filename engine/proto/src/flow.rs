//! What names a connection on both ends.

use core::net::{IpAddr, Ipv4Addr};

/// The two ends of a flow, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Our address.
    pub local: IpAddr,
    /// Our port.
    pub local_port: u16,
    /// The peer's address.
    pub remote: IpAddr,
    /// The peer's port.
    pub remote_port: u16,
}

impl Flow {
    /// A flow between IPv4 addresses.
    pub const fn v4(local: Ipv4Addr, local_port: u16, remote: Ipv4Addr, remote_port: u16) -> Self {
        Self { local: IpAddr::V4(local), local_port, remote: IpAddr::V4(remote), remote_port }
    }
}
