//! The control thread: the kernel's side of the engine, beside the packet path.
//!
//! ```text
//! worker -- Reserve/Release/Resolve/Ports --> control -- sockets, port map, netlink --> kernel
//! worker <-- Neighbour/Ports/Routes --------- control <-- netlink events -------------- kernel
//! worker <-- packets by way of the kernel --> control <-- raw sockets ----------------> kernel
//! ```
//! Owns reservations (kernel sockets that keep a port ours), the kernel path, and what is steered. With dedicated addresses it only
//! watches the interface.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use ringwire_bpf::{AddrIndex, Ownership as Owned, Steering};
use ringwire_wire::eth::Mac;
use ringwire_wire::ipv4::Protocol;
use rustix::event::{PollFd, PollFlags, poll};

use crate::config::Cidr;
use crate::control_link::{News, Release, Request, WorkerLink};
use crate::error::SetupError;
use crate::wake::Waker;
use crate::worker::net::Route;
use crate::xdp::{SharedSteering, steer_error, system};

mod kernel_path;
pub(crate) mod netlink;
pub(crate) mod netns;
mod ports;
mod reserve;

use kernel_path::{KernelPath, Origin, Received};
use netlink::{Change, Link, Monitor, Neighbour, Netlink};
use netlink_packet_route::neighbour::NeighbourState;
use ports::Ports;

/// Ports that shared addresses may hold at once: each costs a descriptor and 4.1 KB in the kernel.
pub(crate) const DEFAULT_SHARED_PORTS: u32 = 4096;
/// Ports reserved at a time for active opens.
const PORT_BLOCK: usize = 16;
/// Packets of the kernel path taken from one socket at a time.
const KERNEL_BATCH: usize = 64;

/// What the thread starts with.
pub(crate) struct Parts {
    pub(crate) netlink: Netlink,
    pub(crate) ifindex: u32,
    pub(crate) mac: Mac,
    /// The source of what comes by the kernel path.
    pub(crate) kernel_mac: Mac,
    pub(crate) ownership: Owned,
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
    /// Starts in the caller's network namespace; returns the kernel's routes as they are now, if its addresses are shared.
    pub(crate) fn start(mut parts: Parts) -> Result<(ControlThread, Vec<Route>), SetupError> {
        let monitor =
            Monitor::open().map_err(|error| system("cannot watch the network configuration", &error))?;
        let (shared, routes) = match parts.ownership {
            Owned::Dedicated => (None, Vec::new()),
            Owned::Shared => {
                let mut shared = Shared::start(&parts)?;
                let routes =
                    shared.routes(&mut parts).map_err(|error| system("cannot list routes", &error))?;
                (Some(shared), routes)
            }
        };
        let stop = Arc::new(AtomicBool::new(false));
        let waker = parts.waker.clone();
        let control = Control { parts, monitor, shared, stop: Arc::clone(&stop) };
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

/// What addresses that are the kernel's too need.
struct Shared {
    ports: Ports,
    kernel_path: KernelPath,
}

impl Shared {
    fn start(parts: &Parts) -> Result<Shared, SetupError> {
        let mut steering = parts.steering.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(steering) = steering.as_mut() else {
            unreachable!("the program is attached until the guard goes, and that is not there yet")
        };
        let indices = steer(steering, &parts.addresses)?;
        let addresses: Vec<Ipv4Addr> = indices.iter().map(|(address, _)| *address).collect();
        let kernel_path = KernelPath::open(&addresses, steering, (parts.mac, parts.kernel_mac))?;
        let limit = parts.shared_ports as usize;
        let ports = Ports::new(indices, Arc::clone(&parts.steering), limit, parts.workers.len());
        Ok(Shared { ports, kernel_path })
    }

    /// The kernel's routes; towards its own addresses they lead back to it.
    fn routes(&mut self, parts: &mut Parts) -> std::io::Result<Vec<Route>> {
        let mut routes = routes(&mut parts.netlink, parts.ifindex, &parts.addresses)?;
        let local = parts.netlink.local_ipv4()?;
        let fallback = parts.addresses.first().map_or(Ipv4Addr::UNSPECIFIED, |first| first.address);
        let ours = |address: &Ipv4Addr| parts.addresses.iter().any(|own| own.address == *address);
        let hosts = local.iter().map(|address| Route {
            net: Cidr { address: *address, prefix_len: if address.is_loopback() { 8 } else { 32 } },
            gateway: Some(Ipv4Addr::LOCALHOST),
            source: if ours(address) { *address } else { fallback },
        });
        routes.extend(hosts);
        self.kernel_path.set_local(local);
        Ok(routes)
    }

    /// Who shall have a packet that the kernel received.
    fn receivers(&self, received: &Received) -> Vec<usize> {
        let mut workers = self.ports.holders(received.protocol, received.local);
        match received.origin {
            Origin::Error => {}
            // Its connection is on the worker that RSS chose; any other would reset it. Lost, as it was on the way to us.
            Origin::Wire if received.protocol == Protocol::TCP && workers.len() > 1 => workers.clear(),
            Origin::Wire | Origin::Local => {
                // By the high bits of a product (Knuth's golden ratio): the kernel's choice of ports has all of one parity.
                let flow = u32::from(*received.remote.ip()).wrapping_add(received.remote.port().into());
                let spread = flow.wrapping_mul(0x9e37_79b1) >> 16;
                let chosen = workers.get(spread as usize % workers.len().max(1)).copied();
                workers = chosen.into_iter().collect();
            }
        }
        workers
    }
}

fn steer(steering: &mut Steering, addresses: &[Cidr]) -> Result<Vec<(Ipv4Addr, AddrIndex)>, SetupError> {
    let indices = addresses.iter().map(|cidr| {
        let index = steering.add_address(IpAddr::V4(cidr.address), Owned::Shared).map_err(steer_error)?;
        Ok((cidr.address, index))
    });
    indices.collect()
}

struct Control {
    parts: Parts,
    monitor: Monitor,
    shared: Option<Shared>,
    stop: Arc<AtomicBool>,
}

impl Control {
    fn run(mut self) {
        self.tell_neighbours();
        // Acquire pairs with the Release in `ControlThread::drop`.
        while !self.stop.load(Ordering::Acquire) {
            for worker in 0..self.parts.workers.len() {
                self.serve(worker);
            }
            while let Some(change) = self.monitor.next_change() {
                self.on_change(change);
            }
            self.take_kernel_packets();
            self.sleep();
        }
        // The last words of workers that have gone.
        for worker in 0..self.parts.workers.len() {
            self.serve(worker);
        }
    }

    /// All that a worker wants.
    fn serve(&mut self, worker: usize) {
        while let Some(request) = self.parts.workers.get(worker).and_then(WorkerLink::next_request) {
            self.on_request(worker, request);
        }
        let Some(link) = self.parts.workers.get(worker) else { return };
        let Some(shared) = &mut self.shared else { return };
        while let Some(Release { protocol, addr }) = link.next_release() {
            shared.ports.release(worker, protocol, addr);
        }
        while let Some(frame) = link.next_outgoing() {
            shared.kernel_path.send(&frame);
        }
    }

    fn take_kernel_packets(&mut self) {
        let Some(shared) = &mut self.shared else { return };
        for socket in 0..shared.kernel_path.sockets() {
            for _ in 0..KERNEL_BATCH {
                let Some(received) = shared.kernel_path.receive(socket) else { break };
                for worker in shared.receivers(&received) {
                    if let Some(worker) = self.parts.workers.get(worker) {
                        worker.deliver(received.frame.clone());
                    }
                }
            }
        }
    }

    fn sleep(&self) {
        let waker = &self.parts.waker;
        waker.begin_sleep();
        if !waker.is_woken() && !self.parts.workers.iter().any(WorkerLink::has_requests) {
            let mut fds = vec![
                PollFd::from_borrowed_fd(waker.eventfd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.monitor.as_fd(), PollFlags::IN),
            ];
            let raw = self.shared.iter().flat_map(|shared| shared.kernel_path.fds());
            fds.extend(raw.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            // EINTR and other failures only make the loop look again.
            let _ = poll(&mut fds, None);
        }
        waker.end_sleep();
        waker.take_woken();
    }

    fn on_request(&mut self, worker: usize, request: Request) {
        let Some(shared) = &mut self.shared else { return };
        match request {
            Request::Reserve { protocol, addr, reply } => {
                let result = shared.ports.reserve(worker, protocol, addr);
                if let (Err(_), Ok(port)) = (reply.send(result.clone()), &result) {
                    // The asker has given up waiting: nobody would release it.
                    shared.ports.release(worker, protocol, SocketAddrV4::new(*addr.ip(), *port));
                }
            }
            Request::Resolve { ip } => self.resolve(ip),
            Request::Ports => self.grant_ports(worker),
        }
    }

    /// A block of ports for active opens, on every address of ours.
    fn grant_ports(&mut self, worker: usize) {
        let Some(shared) = &mut self.shared else { return };
        let anywhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let ports = std::iter::from_fn(|| shared.ports.reserve(worker, Protocol::TCP, anywhere).ok());
        let ports = ports.take(PORT_BLOCK).collect();
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
        if self.shared.is_none() {
            return;
        }
        for neighbour in self.parts.netlink.neighbours(self.parts.ifindex).unwrap_or_default() {
            if let (IpAddr::V4(ip), Some(mac)) = (neighbour.ip, neighbour.usable_mac()) {
                self.tell_all(&News::Neighbour { ip, mac: Some(Mac(mac)) });
            }
        }
    }

    fn on_change(&mut self, change: Change) {
        match change {
            Change::Link(link) if link.index == self.parts.ifindex => self.on_link(&link),
            Change::LinkGone { ifindex } if ifindex == self.parts.ifindex => {
                self.tell_all(&News::InterfaceGone);
            }
            Change::Link(_) | Change::LinkGone { .. } => {}
            Change::Neighbour(neighbour) if neighbour.ifindex == self.parts.ifindex => {
                if let IpAddr::V4(ip) = neighbour.ip {
                    self.on_neighbour(ip, &neighbour);
                }
            }
            Change::Neighbour(_) => {}
            Change::Route | Change::Address => self.tell_routes(),
            Change::Overrun => {
                self.look_at_link();
                self.tell_neighbours();
                self.tell_routes();
            }
        }
    }

    /// Changes were lost: the interface may have gone, or have another address.
    fn look_at_link(&mut self) {
        const NO_DEVICE: i32 = rustix::io::Errno::NODEV.raw_os_error();
        match self.parts.netlink.link_by_index(self.parts.ifindex) {
            Ok(link) => self.on_link(&link),
            Err(error) if error.raw_os_error() == Some(NO_DEVICE) => self.tell_all(&News::InterfaceGone),
            Err(_) => {}
        }
    }

    /// Frames to an address that the interface has given up are no longer ours, and those to its new one are.
    fn on_link(&mut self, link: &Link) {
        let mac = Mac(link.mac);
        if mac == self.parts.mac || mac == Mac([0; 6]) {
            return;
        }
        self.parts.mac = mac;
        if let Some(shared) = &mut self.shared {
            shared.kernel_path.set_mac(mac);
        }
        let mut steering = self.parts.steering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(steering) = steering.as_mut() {
            // Fails only when the kernel is out of order, and then nothing is steered any more either.
            let _ = steering.set_mac(link.mac);
        }
        drop(steering);
        self.tell_all(&News::Mac(mac));
    }

    fn on_neighbour(&self, ip: Ipv4Addr, neighbour: &Neighbour) {
        if self.shared.is_none() {
            return;
        }
        match (neighbour.usable_mac(), neighbour.state) {
            (Some(mac), _) => self.tell_all(&News::Neighbour { ip, mac: Some(Mac(mac)) }),
            (None, NeighbourState::Failed) => self.tell_all(&News::Neighbour { ip, mac: None }),
            // Deleted: the kernel forgets neighbours that it has no traffic with itself.
            (None, NeighbourState::None) => self.tell_all(&News::Forget { ip }),
            (None, _) => {}
        }
    }

    fn tell_routes(&mut self) {
        let Some(shared) = &mut self.shared else { return };
        if let Ok(routes) = shared.routes(&mut self.parts) {
            self.tell_all(&News::Routes(routes));
        }
    }

    fn tell_all(&self, news: &News) {
        for worker in &self.parts.workers {
            worker.tell(news.clone());
        }
    }
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
