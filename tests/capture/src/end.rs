//! Whose packets are judged.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// One end of the conversations in a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its address.
    pub ip: IpAddr,
    /// Its port, where others use the same address: programs of one host that talk to each other.
    pub port: Option<u16>,
}

impl End {
    /// Whether this address and port are its own.
    pub(crate) fn is(&self, ip: Ipv4Addr, port: u16) -> bool {
        self.ip == ip && self.port.is_none_or(|own| own == port)
    }

    /// Wireshark's filter for what it sent; a router's error has a second layer, which quotes it.
    pub(crate) fn sent(&self) -> String {
        let Some(port) = self.port else { return format!("ip.src#1 == {}", self.ip) };
        format!("ip.src#1 == {} && (tcp.srcport == {port} || udp.srcport == {port})", self.ip)
    }
}

impl From<IpAddr> for End {
    fn from(ip: IpAddr) -> End {
        End { ip, port: None }
    }
}

impl From<Ipv4Addr> for End {
    fn from(ip: Ipv4Addr) -> End {
        End { ip: ip.into(), port: None }
    }
}

impl From<SocketAddr> for End {
    fn from(addr: SocketAddr) -> End {
        End { ip: addr.ip(), port: Some(addr.port()) }
    }
}
