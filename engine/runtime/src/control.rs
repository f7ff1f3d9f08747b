//! The control thread: the kernel's side of shared addresses, beside the packet path.
//!
//! ```text
//! worker -- Reserve/Release/Resolve/Ports --> control -- sockets, port map, netlink --> kernel
//! worker <-- Neighbour/Ports/Routes --------- control <-- netlink events -------------- kernel
//! ```
//! Owns reservations (kernel sockets that keep a port ours) and decides what is steered: reservation before steering, and after it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use ringwire_bpf::{AddrIndex, Ownership as Owned, Protocol as SteerProtocol};
use ringwire_wire::eth::Mac;
use ringwire_wire::ipv4::Protocol;
use rustix::event::{PollFd, PollFlags, poll};

use crate::config::Cidr;
use crate::control_link::{News, Request, WorkerLink};
use crate::error::{BindError, SetupError};
use crate::wake::Waker;
use crate::worker::net::Route;
use crate::xdp::{SharedSteering, steer_error, system};

pub(crate) mod netlink;
pub(crate) mod netns;
mod reserve;

use netlink::{Change, Monitor, Neighbour, Netlink};
use netlink_packet_route::neighbour::NeighbourState;
use reserve::{ReserveError, TcpReservation, UdpReservation};

/// Ports that shared addresses may hold at once: each costs a descriptor and 4.1 KB in the kernel.
pub(crate) const DEFAULT_SHARED_PORTS: u32 = 4096;
/// Ports reserved at a time for active opens.
const PORT_BLOCK: usize = 16;

/// What the thread starts with.
pub(crate) struct Parts {
    pub(crate) netlink: Netlink,
    pub(crate) ifindex: u32,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) steering: SharedSteering,
    pub(crate) workers: Vec<WorkerLink>,
    pub(crate) waker: Waker,
    pub(crate) shared_ports: u32,
}

/// The running thread; dropping it stops it and gives the ports back.
#[derive(Debug)]
pub(crate) struct ControlThread {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl ControlThread {
    /// Starts in the caller's network namespace; returns the routes as they are now.
    pub(crate) fn start(mut parts: Parts) -> Result<(ControlThread, Vec<Route>), SetupError> {
        let monitor =
            Monitor::open().map_err(|error| system("cannot watch the network configuration", &error))?;
        let indices = {
            let mut steering = parts.steering.lock().unwrap_or_else(PoisonError::into_inner);
            let steering = steering.as_mut().into_iter().flat_map(|steering| {
                parts
                    .addresses
                    .iter()
                    .map(|cidr| {
                        let index = steering
                            .add_address(IpAddr::V4(cidr.address), Owned::Shared)
                            .map_err(steer_error)?;
                        Ok((cidr.address, index))
                    })
                    .collect::<Vec<Result<_, SetupError>>>()
            });
            steering.collect::<Result<Vec<_>, _>>()?
        };
        let routes = routes(&mut parts.netlink, parts.ifindex, &parts.addresses)
            .map_err(|error| system("cannot list routes", &error))?;
        let stop = Arc::new(AtomicBool::new(false));
        let waker = parts.waker.clone();
        let control = Control { parts, monitor, indices, reserved: HashMap::new(), stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new()
            .name("ringwire-ctl".to_owned())
            .spawn(move || control.run())
            .map_err(|error| system("cannot start the control thread", &error))?;
        Ok((ControlThread { stop, waker, thread: Some(thread) }, routes))
    }
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `Control::run`.
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // It only panics where a lock is poisoned, and then there is nothing left to give back.
            let _ = thread.join();
        }
    }
}

/// A port that is ours in the kernel.
struct Reserved {
    users: u32,
    addr: Ipv4Addr,
    _socket: Reservation,
}

/// Held, never read: closing it gives the port back.
enum Reservation {
    Tcp { _socket: TcpReservation },
    Udp { _socket: UdpReservation },
}

struct Control {
    parts: Parts,
    monitor: Monitor,
    indices: Vec<(Ipv4Addr, AddrIndex)>,
    reserved: HashMap<(Protocol, u16), Reserved>,
    stop: Arc<AtomicBool>,
}

impl Control {
    fn run(mut self) {
        self.tell_neighbours();
        // Acquire pairs with the Release in `ControlThread::drop`.
        while !self.stop.load(Ordering::Acquire) {
            for worker in 0..self.parts.workers.len() {
                while let Some(request) = self.parts.workers.get(worker).and_then(WorkerLink::next_request) {
                    self.on_request(worker, request);
                }
            }
            while let Some(change) = self.monitor.next_change() {
                self.on_change(change);
            }
            self.sleep();
        }
    }

    fn sleep(&self) {
        let waker = &self.parts.waker;
        waker.begin_sleep();
        if !waker.is_woken() && !self.parts.workers.iter().any(WorkerLink::has_requests) {
            let mut fds = [
                PollFd::from_borrowed_fd(waker.eventfd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.monitor.as_fd(), PollFlags::IN),
            ];
            // EINTR and other failures only make the loop look again.
            let _ = poll(&mut fds, None);
        }
        waker.end_sleep();
        waker.take_woken();
    }

    fn on_request(&mut self, worker: usize, request: Request) {
        match request {
            Request::Reserve { protocol, addr, reply } => {
                let result = self.reserve(protocol, addr);
                if let (Err(_), Ok(port)) = (reply.send(result.clone()), &result) {
                    // The asker has given up waiting: nobody would release it.
                    self.release(protocol, *port);
                }
            }
            Request::Release { protocol, port } => self.release(protocol, port),
            Request::Resolve { ip } => self.resolve(ip),
            Request::Ports => self.grant_ports(worker),
        }
    }

    /// Reservation, then steering: at no time would the kernel see a segment of a port that is not reserved.
    fn reserve(&mut self, protocol: Protocol, addr: SocketAddrV4) -> Result<u16, BindError> {
        if let Some(reserved) = self.reserved.get_mut(&(protocol, addr.port())) {
            if reserved.addr != *addr.ip() && !reserved.addr.is_unspecified() {
                return Err(BindError::AddressInUse(format!(
                    "port {} is reserved on {} already; bind 0.0.0.0:{} for all addresses",
                    addr.port(),
                    reserved.addr,
                    addr.port()
                )));
            }
            reserved.users += 1;
            return Ok(addr.port());
        }
        if self.reserved.len() >= self.parts.shared_ports as usize {
            return Err(BindError::AddressInUse(format!(
                "{} ports are reserved, as many as shared_ports allows",
                self.reserved.len()
            )));
        }
        let ip = IpAddr::V4(*addr.ip());
        let (port, socket) = match protocol {
            Protocol::TCP => {
                let socket = TcpReservation::reserve(ip, addr.port()).map_err(|error| bind_error(&error))?;
                (socket.port(), Reservation::Tcp { _socket: socket })
            }
            _ => {
                let socket = UdpReservation::reserve(ip, addr.port()).map_err(|error| bind_error(&error))?;
                (socket.port(), Reservation::Udp { _socket: socket })
            }
        };
        self.reserved.insert((protocol, port), Reserved { users: 1, addr: *addr.ip(), _socket: socket });
        self.steer(protocol, *addr.ip(), port, Steer::On);
        Ok(port)
    }

    fn release(&mut self, protocol: Protocol, port: u16) {
        let Some(reserved) = self.reserved.get_mut(&(protocol, port)) else { return };
        reserved.users = reserved.users.saturating_sub(1);
        if reserved.users == 0 {
            let addr = reserved.addr;
            self.steer(protocol, addr, port, Steer::Off);
            self.reserved.remove(&(protocol, port));
        }
    }

    fn steer(&self, protocol: Protocol, addr: Ipv4Addr, port: u16, to: Steer) {
        let protocol = if protocol == Protocol::TCP { SteerProtocol::Tcp } else { SteerProtocol::Udp };
        let steering = self.parts.steering.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(steering) = steering.as_ref() else { return };
        for (address, index) in &self.indices {
            if addr.is_unspecified() || *address == addr {
                match to {
                    Steer::On => steering.steer(*index, protocol, port),
                    Steer::Off => steering.unsteer(*index, protocol, port),
                }
            }
        }
    }

    /// A block of ports for active opens, on every address of ours.
    fn grant_ports(&mut self, worker: usize) {
        let mut ports = Vec::with_capacity(PORT_BLOCK);
        for _ in 0..PORT_BLOCK {
            match self.reserve(Protocol::TCP, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)) {
                Ok(port) => ports.push(port),
                Err(_) => break,
            }
        }
        if let Some(worker) = self.parts.workers.get(worker) {
            worker.tell(News::Ports(ports));
        }
    }

    /// The kernel resolves; what it already knows is told at once, the rest arrives as a change.
    fn resolve(&mut self, ip: Ipv4Addr) {
        let asked = self.parts.netlink.ask_neighbour(self.parts.ifindex, IpAddr::V4(ip));
        if asked.is_err() {
            self.tell_all(&News::Neighbour { ip, mac: None });
        }
        self.tell_neighbours();
    }

    fn tell_neighbours(&mut self) {
        for neighbour in self.parts.netlink.neighbours(self.parts.ifindex).unwrap_or_default() {
            if let (IpAddr::V4(ip), Some(mac)) = (neighbour.ip, neighbour.usable_mac()) {
                self.tell_all(&News::Neighbour { ip, mac: Some(Mac(mac)) });
            }
        }
    }

    fn on_change(&mut self, change: Change) {
        match change {
            Change::Neighbour(neighbour) if neighbour.ifindex == self.parts.ifindex => {
                if let IpAddr::V4(ip) = neighbour.ip {
                    self.on_neighbour(ip, &neighbour);
                }
            }
            Change::Neighbour(_) | Change::Link(_) => {}
            Change::Route | Change::Address => self.tell_routes(),
            Change::Overrun => {
                self.tell_neighbours();
                self.tell_routes();
            }
        }
    }

    fn on_neighbour(&self, ip: Ipv4Addr, neighbour: &Neighbour) {
        match (neighbour.usable_mac(), neighbour.state) {
            (Some(mac), _) => self.tell_all(&News::Neighbour { ip, mac: Some(Mac(mac)) }),
            (None, NeighbourState::Failed) => self.tell_all(&News::Neighbour { ip, mac: None }),
            // Deleted: the kernel forgets neighbours that it has no traffic with itself.
            (None, NeighbourState::None) => self.tell_all(&News::Forget { ip }),
            (None, _) => {}
        }
    }

    fn tell_routes(&mut self) {
        if let Ok(routes) = routes(&mut self.parts.netlink, self.parts.ifindex, &self.parts.addresses) {
            self.tell_all(&News::Routes(routes));
        }
    }

    fn tell_all(&self, news: &News) {
        for worker in &self.parts.workers {
            worker.tell(news.clone());
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Steer {
    On,
    Off,
}

/// The IPv4 routes out of one interface.
fn routes(netlink: &mut Netlink, ifindex: u32, addresses: &[Cidr]) -> std::io::Result<Vec<Route>> {
    let fallback = addresses.first().map_or(Ipv4Addr::UNSPECIFIED, |first| first.address);
    let routes = netlink.routes(ifindex)?.into_iter().filter_map(|route| {
        let (IpAddr::V4(address), prefix_len) = route.destination else { return None };
        let gateway = route.gateway.and_then(|gateway| match gateway {
            IpAddr::V4(gateway) => Some(gateway),
            IpAddr::V6(_) => None,
        });
        let near =
            |target: Ipv4Addr| addresses.iter().find(|own| own.contains(target)).map(|own| own.address);
        let source = match route.prefsrc {
            Some(IpAddr::V4(source)) => source,
            _ => near(gateway.unwrap_or(address)).unwrap_or(fallback),
        };
        Some(Route { net: Cidr { address, prefix_len }, gateway, source })
    });
    Ok(routes.collect())
}

fn bind_error(error: &ReserveError) -> BindError {
    match error.errno().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::ADDRINUSE) => BindError::AddressInUse(error.to_string()),
        Some(errno) => BindError::System { what: error.to_string(), errno: errno.raw_os_error() },
        None => BindError::AddressInUse(error.to_string()),
    }
}
