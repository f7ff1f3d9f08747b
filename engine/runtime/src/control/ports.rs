//! Which ports of shared addresses are ours, and whose they are: one kernel socket for each (protocol, address, port), however many
//! workers use it. Reservation before steering, and after it: at no time would the kernel see a segment of a port that is not reserved.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::PoisonError;

use ringwire_bpf::{AddrIndex, Protocol as SteerProtocol};
use ringwire_wire::ipv4::Protocol;

use super::reserve::{ReserveError, TcpReservation, UdpReservation};
use crate::error::BindError;
use crate::xdp::SharedSteering;

/// A port that the kernel chose on the first address may be taken on another: so often another one is tried.
const CHOICES: usize = 16;

/// Held, never read: closing it gives the port back.
enum Reservation {
    Tcp { _socket: TcpReservation },
    Udp { _socket: UdpReservation },
}

/// One port of one address.
struct Held {
    /// Sockets standing on it, by worker.
    users: Vec<u32>,
    _socket: Reservation,
}

/// All reserved ports.
pub(super) struct Ports {
    addresses: Vec<(Ipv4Addr, AddrIndex)>,
    steering: SharedSteering,
    limit: usize,
    workers: usize,
    held: HashMap<(Protocol, SocketAddrV4), Held>,
}

impl Ports {
    /// Without any; `limit` at the most.
    pub(super) fn new(
        addresses: Vec<(Ipv4Addr, AddrIndex)>,
        steering: SharedSteering,
        limit: usize,
        workers: usize,
    ) -> Ports {
        Ports { addresses, steering, limit, workers, held: HashMap::new() }
    }

    /// Makes a port a worker's, on one address or (unspecified) on all; port 0 lets the kernel choose. Returns the port.
    pub(super) fn reserve(
        &mut self,
        worker: usize,
        protocol: Protocol,
        addr: SocketAddrV4,
    ) -> Result<u16, BindError> {
        let ips = self.ips(*addr.ip());
        let Some((first, others)) = ips.split_first() else {
            return Err(BindError::AddressNotAvailable(addr.into()));
        };
        if addr.port() != 0 {
            return self.reserve_all(worker, protocol, &ips, addr.port());
        }
        let mut choices = CHOICES;
        loop {
            let port = self.hold(worker, protocol, SocketAddrV4::new(*first, 0))?;
            choices -= 1;
            match self.reserve_all(worker, protocol, others, port) {
                Err(BindError::AddressInUse(_)) if choices > 0 => {
                    self.let_go(worker, protocol, SocketAddrV4::new(*first, port));
                }
                Err(error) => {
                    self.let_go(worker, protocol, SocketAddrV4::new(*first, port));
                    return Err(error);
                }
                Ok(port) => return Ok(port),
            }
        }
    }

    /// One use less of a port that [`Ports::reserve`] gave for the same address.
    pub(super) fn release(&mut self, worker: usize, protocol: Protocol, addr: SocketAddrV4) {
        for ip in self.ips(*addr.ip()) {
            self.let_go(worker, protocol, SocketAddrV4::new(ip, addr.port()));
        }
    }

    /// The workers that have sockets on a port.
    pub(super) fn holders(&self, protocol: Protocol, local: SocketAddrV4) -> Vec<usize> {
        let users = self.held.get(&(protocol, local)).map(|held| held.users.as_slice()).unwrap_or_default();
        users.iter().enumerate().filter(|(_, users)| **users > 0).map(|(worker, _)| worker).collect()
    }

    fn ips(&self, ip: Ipv4Addr) -> Vec<Ipv4Addr> {
        let ours = self.addresses.iter().map(|(address, _)| *address);
        ours.filter(|address| ip.is_unspecified() || *address == ip).collect()
    }

    /// The same port on all of `ips`, or on none.
    fn reserve_all(
        &mut self,
        worker: usize,
        protocol: Protocol,
        ips: &[Ipv4Addr],
        port: u16,
    ) -> Result<u16, BindError> {
        for (count, ip) in ips.iter().enumerate() {
            if let Err(error) = self.hold(worker, protocol, SocketAddrV4::new(*ip, port)) {
                for ip in ips.iter().take(count) {
                    self.let_go(worker, protocol, SocketAddrV4::new(*ip, port));
                }
                return Err(error);
            }
        }
        Ok(port)
    }

    /// Returns the port, which is the kernel's choice when `local` has none.
    fn hold(&mut self, worker: usize, protocol: Protocol, local: SocketAddrV4) -> Result<u16, BindError> {
        if let Some(held) = self.held.get_mut(&(protocol, local)) {
            if let Some(users) = held.users.get_mut(worker) {
                *users += 1;
            }
            return Ok(local.port());
        }
        if self.held.len() >= self.limit {
            return Err(BindError::AddressInUse(format!(
                "{} ports are reserved, as many as shared_ports allows",
                self.held.len()
            )));
        }
        let (port, socket) = open(protocol, local).map_err(|error| bind_error(&error))?;
        let mut users = vec![0; self.workers];
        if let Some(users) = users.get_mut(worker) {
            *users = 1;
        }
        let local = SocketAddrV4::new(*local.ip(), port);
        self.held.insert((protocol, local), Held { users, _socket: socket });
        self.steer(protocol, local, Steer::On);
        Ok(port)
    }

    fn let_go(&mut self, worker: usize, protocol: Protocol, local: SocketAddrV4) {
        let Some(held) = self.held.get_mut(&(protocol, local)) else { return };
        if let Some(users) = held.users.get_mut(worker) {
            *users = users.saturating_sub(1);
        }
        if held.users.iter().all(|users| *users == 0) {
            self.steer(protocol, local, Steer::Off);
            self.held.remove(&(protocol, local));
        }
    }

    fn steer(&self, protocol: Protocol, local: SocketAddrV4, to: Steer) {
        let protocol = if protocol == Protocol::TCP { SteerProtocol::Tcp } else { SteerProtocol::Udp };
        let steering = self.steering.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(steering) = steering.as_ref() else { return };
        let Some((_, index)) = self.addresses.iter().find(|(address, _)| address == local.ip()) else {
            return;
        };
        match to {
            Steer::On => steering.steer(*index, protocol, local.port()),
            Steer::Off => steering.unsteer(*index, protocol, local.port()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Steer {
    On,
    Off,
}

fn open(protocol: Protocol, local: SocketAddrV4) -> Result<(u16, Reservation), ReserveError> {
    let ip = IpAddr::V4(*local.ip());
    Ok(if protocol == Protocol::TCP {
        let socket = TcpReservation::reserve(ip, local.port())?;
        (socket.port(), Reservation::Tcp { _socket: socket })
    } else {
        let socket = UdpReservation::reserve(ip, local.port())?;
        (socket.port(), Reservation::Udp { _socket: socket })
    })
}

fn bind_error(error: &ReserveError) -> BindError {
    match error.errno().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::ADDRINUSE) => BindError::AddressInUse(error.to_string()),
        Some(errno) => BindError::System { what: error.to_string(), errno: errno.raw_os_error() },
        None => BindError::AddressInUse(error.to_string()),
    }
}
