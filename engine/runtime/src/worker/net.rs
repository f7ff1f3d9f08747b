//! Who we are and how a packet finds its next hop: addresses, routes, neighbours, and the kernel's part in them.
//!
//! Dedicated addresses: the ARP machine in `ringwire_proto::neigh` asks and answers on the wire. Shared addresses: the kernel answers for
//! us; the control thread mirrors its neighbours into the same cache, and what the machine would ask on the wire becomes a wish to it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use ringwire_frame::Class;
use ringwire_proto::icmp::ErrorSource;
use ringwire_proto::input::ChecksumPolicy;
use ringwire_proto::ip::{Addresses, Scope};
use ringwire_proto::neigh::{Cache, Limits, Lookup, Released};
use ringwire_proto::prf::Prf;
use ringwire_proto::{DropReason, Instant};
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::{arp, ipv4};

use super::datagrams::Waiting;
use super::ingress::{NO_QUEUE, OWN_QUEUE};
use super::link::{HOST_PORT, Link};
use crate::config::{Cidr, Interface, VerifyChecksum};
use crate::control_link::{ControlLink, News, Release, Request};
use crate::error::BindError;
use crate::metrics::Counters;

/// Flows look their neighbour up again this often, so that its state machine sees that it is used.
const EPOCH: Duration = Duration::from_secs(1);
/// Local ports of active opens and of sockets that do not name one: the dynamic range (RFC 6335 6).
pub(crate) const DYNAMIC_PORTS: core::ops::RangeInclusive<u16> = 49152..=65535;

/// One way to a network, longest prefix first in a table of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) net: Cidr,
    /// `None`: the peers are on the link.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// The source address of what we open over it.
    pub(crate) source: Ipv4Addr,
}

/// Where the addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Ours alone: ARP and ICMP are ours too, and every port.
    Dedicated,
    /// The kernel's: it answers for them, and ports are reserved from it.
    #[cfg_attr(not(feature = "xdp"), allow(dead_code))]
    Shared,
}

/// The control thread, as a worker knows it.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) link: ControlLink,
    /// Where packets come from that the kernel received, and go that it shall deliver.
    pub(crate) kernel_mac: Mac,
}

/// What a worker's [`Net`] starts from.
#[derive(Debug, Clone)]
pub(crate) struct NetConfig {
    pub(crate) mac: Mac,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) routes: Vec<Route>,
    pub(crate) verify_checksum: VerifyChecksum,
    pub(crate) ownership: Ownership,
    /// None for in-memory ports.
    pub(crate) control: Option<Control>,
}

impl NetConfig {
    /// The interface's dedicated addresses, their networks on the link, everything else through its gateway.
    pub(crate) fn dedicated(interface: &Interface, mac: Mac) -> NetConfig {
        let on_link =
            interface.addresses.iter().map(|net| Route { net: *net, gateway: None, source: net.address });
        let source = interface.addresses.first().map_or(Ipv4Addr::UNSPECIFIED, |first| first.address);
        let everything = Cidr { address: Ipv4Addr::UNSPECIFIED, prefix_len: 0 };
        let default =
            interface.gateway.map(|gateway| Route { net: everything, gateway: Some(gateway), source });
        NetConfig {
            mac,
            addresses: interface.addresses.clone(),
            routes: on_link.chain(default).collect(),
            verify_checksum: interface.verify_checksum,
            ownership: Ownership::Dedicated,
            control: None,
        }
    }
}

/// What is known about the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    Known(Mac),
    Pending,
    Unreachable,
}

/// Which local ports an active open may use.
#[derive(Debug)]
pub(crate) enum PortGrant<'a> {
    All,
    Only(&'a [u16]),
}

/// Addresses, routes and neighbours of one worker.
#[derive(Debug)]
pub(crate) struct Net {
    mac: Mac,
    /// Who stands for this host: its kernel, or with dedicated addresses ourselves.
    host_mac: Mac,
    addresses: Addresses,
    routes: Vec<Route>,
    checksum_policy: ChecksumPolicy,
    ownership: Ownership,
    control: Option<Control>,
    is_interface_gone: bool,
    neighbours: Cache<Waiting>,
    /// Whom the kernel was last asked for because nothing came back, and until when it is not asked for again.
    suspected: Option<(Ipv4Addr, Instant)>,
    pub(super) errors: ErrorSource,
    /// Ports the control thread has reserved for active opens; empty for dedicated addresses.
    granted_ports: Vec<u16>,
    is_asking_for_ports: bool,
    /// The control thread's last answer: none to be had.
    has_no_ports: bool,
    epoch: u32,
    epoch_ends: Instant,
    is_draining: bool,
}

impl Net {
    pub(crate) fn new(config: NetConfig, now: Instant, prf: &Prf) -> Net {
        let mut addresses = Addresses::default();
        let mut neighbours = Cache::new(config.mac, Limits::default());
        for cidr in &config.addresses {
            addresses.insert(cidr.address, cidr.prefix_len);
            if matches!(config.ownership, Ownership::Dedicated) {
                neighbours.add_address(now, cidr.address);
                // A place is free: the cache holds a thousand, and an interface has a handful of addresses.
                let _ = neighbours.insert_static(now, cidr.address, config.mac);
            }
        }
        if let Some(control) = &config.control {
            // The kernel's own addresses lie behind it; one of the first of a thousand places is free.
            let _ = neighbours.insert_static(now, Ipv4Addr::LOCALHOST, control.kernel_mac);
        }
        let kernel_mac = config.control.as_ref().map(|control| control.kernel_mac);
        let is_shared = config.ownership == Ownership::Shared;
        let errors =
            ErrorSource::new(now, prf.clone(), ErrorSource::DEFAULT_RATE_PER_SEC, ErrorSource::DEFAULT_BURST);
        let mut net = Net {
            mac: config.mac,
            host_mac: kernel_mac.filter(|_| is_shared).unwrap_or(config.mac),
            addresses,
            routes: Vec::new(),
            checksum_policy: match config.verify_checksum {
                VerifyChecksum::Always => ChecksumPolicy::Verify,
                VerifyChecksum::PartialOk => ChecksumPolicy::PartialOk,
            },
            ownership: config.ownership,
            control: config.control,
            is_interface_gone: false,
            neighbours,
            suspected: None,
            errors,
            granted_ports: Vec::new(),
            is_asking_for_ports: false,
            has_no_ports: false,
            epoch: 0,
            epoch_ends: now + EPOCH,
            is_draining: false,
        };
        net.set_routes(config.routes);
        net
    }

    fn set_routes(&mut self, mut routes: Vec<Route>) {
        routes.sort_by_key(|route| core::cmp::Reverse(route.net.prefix_len));
        self.routes = routes;
        self.epoch = self.epoch.wrapping_add(1);
    }

    fn set_mac(&mut self, now: Instant, mac: Mac) {
        if self.host_mac == self.mac {
            self.host_mac = mac;
            for address in self.addresses.iter() {
                // It has its place already.
                let _ = self.neighbours.insert_static(now, address, mac);
            }
        }
        self.mac = mac;
        self.neighbours.set_mac(now, mac);
    }

    pub(crate) fn mac(&self) -> Mac {
        self.mac
    }

    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    pub(crate) fn checksum_policy(&self) -> ChecksumPolicy {
        self.checksum_policy
    }

    pub(crate) fn is_ours(&self, address: Ipv4Addr) -> bool {
        self.addresses.is_ours(address)
    }

    /// Whether ARP and ICMP for our addresses are ours to answer.
    pub(crate) fn is_dedicated(&self) -> bool {
        self.ownership == Ownership::Dedicated
    }

    /// Whether there is nothing left to send and receive by.
    pub(crate) fn is_interface_gone(&self) -> bool {
        self.is_interface_gone
    }

    /// The control thread, where it owns the ports.
    fn shared(&self) -> Option<&ControlLink> {
        self.control.as_ref().map(|control| &control.link).filter(|_| self.ownership == Ownership::Shared)
    }

    /// The port that leads to `mac`: this host, or `port`.
    pub(crate) fn port_to(&self, mac: Mac, port: usize) -> usize {
        if mac == self.host_mac { HOST_PORT } else { port }
    }

    /// A second look at a frame with an impossible source: what we have sent to ourselves, or another worker to itself.
    #[cold]
    pub(crate) fn admit_frame(
        &self,
        reason: DropReason,
        frame: &eth::Frame<'_>,
        queue: u16,
    ) -> Result<(), DropReason> {
        let is_off_the_wire = matches!(queue, OWN_QUEUE | NO_QUEUE) && self.is_dedicated();
        let is_own = frame.src() == self.mac && frame.dst() == self.mac;
        if is_off_the_wire && is_own { Ok(()) } else { Err(reason) }
    }

    /// A second look at a packet with an impossible source: a local client sends from an address of this host, which is ours too.
    #[cold]
    pub(crate) fn admit(
        &self,
        reason: DropReason,
        src_mac: Mac,
        packet: &ipv4::Packet<'_>,
    ) -> Result<Scope, DropReason> {
        let is_source = matches!(reason, DropReason::IpOwnSource | DropReason::IpMartianSource);
        let is_hosts = self.port_to(src_mac, 0) == HOST_PORT;
        // The kernel has looked at everything else, and what is our own was right.
        if is_source && is_hosts && self.is_ours(packet.dst()) { Ok(Scope::Unicast) } else { Err(reason) }
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// When those who wait for a neighbour or a port look again.
    pub(crate) fn epoch_ends(&self) -> Instant {
        self.epoch_ends
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining
    }

    pub(crate) fn begin_drain(&mut self) {
        self.is_draining = true;
    }

    fn route(&self, remote: Ipv4Addr) -> Option<&Route> {
        self.routes.iter().find(|route| route.net.contains(remote))
    }

    /// The source address of what we open towards `remote`.
    pub(crate) fn source_for(&self, remote: Ipv4Addr) -> Option<Ipv4Addr> {
        self.route(remote).map(|route| route.source)
    }

    /// The next hop's MAC address; asks for it if need be.
    #[inline]
    pub(crate) fn resolve(&mut self, now: Instant, remote: Ipv4Addr) -> Resolution {
        let Some(route) = self.route(remote) else { return Resolution::Unreachable };
        let next_hop = route.gateway.unwrap_or(remote);
        match self.neighbours.lookup(now, next_hop) {
            Lookup::Resolved(mac) => Resolution::Known(mac),
            Lookup::Pending => Resolution::Pending,
            Lookup::Failed => Resolution::Unreachable,
        }
    }

    /// Retransmissions to `remote` are not answered: is its next hop still there? The kernel asks for shared addresses.
    #[cold]
    pub(crate) fn suspect(&mut self, now: Instant, remote: Ipv4Addr) {
        let Some(route) = self.route(remote) else { return };
        let next_hop = route.gateway.unwrap_or(remote);
        if next_hop.is_loopback() || self.is_ours(next_hop) {
            return;
        }
        if self.shared().is_none() {
            return self.neighbours.suspect(now, next_hop);
        }
        // All connections of a router that is gone say so at about the same time.
        let is_asked = self.suspected.is_some_and(|(ip, until)| ip == next_hop && now < until);
        if !is_asked && let Some(control) = self.shared() {
            control.ask(Request::Resolve { ip: next_hop });
            self.suspected = Some((next_hop, now + EPOCH));
        }
    }

    /// Keeps a datagram until its next hop is known, within the cache's limits.
    pub(crate) fn hold_until_resolved(&mut self, waiting: Waiting) -> Result<(), DropReason> {
        let Some(route) = self.route(waiting.dst()) else { return Err(DropReason::NoRoute) };
        let next_hop = route.gateway.unwrap_or(waiting.dst());
        self.neighbours.enqueue(next_hop, waiting).map_err(|refused| refused.reason)
    }

    pub(crate) fn on_arp(&mut self, now: Instant, packet: &arp::Packet) -> ringwire_proto::neigh::Verdict {
        self.neighbours.on_arp(now, packet)
    }

    /// Flows look up their neighbours again.
    pub(crate) fn on_neighbour_change(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Datagrams whose wait is over, one way or the other.
    pub(crate) fn poll_released(&mut self) -> Option<Released<Waiting>> {
        self.neighbours.poll_released()
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.neighbours.next_deadline()
    }

    /// Requests that are due: on the wire, or to the kernel. True when a new epoch began: who waits looks again.
    pub(crate) fn expire(&mut self, link: &mut Link, counters: &mut Counters, now: Instant) -> bool {
        let is_new_epoch = now >= self.epoch_ends;
        if is_new_epoch {
            self.epoch_ends = now + EPOCH;
            // An answer that was lost to a full ring is asked for again.
            self.is_asking_for_ports = false;
            self.on_neighbour_change();
        }
        while let Some(transmit) = self.neighbours.poll_transmit(now) {
            match self.shared() {
                None => send_arp(link, counters, self.mac, transmit.dst, &transmit.packet),
                Some(control) => control.ask(Request::Resolve { ip: transmit.packet.target_ip }),
            }
        }
        is_new_epoch
    }

    /// A local address that a socket may be bound to.
    pub(crate) fn bindable(&self, addr: SocketAddr) -> Result<SocketAddrV4, BindError> {
        match addr {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() || self.is_ours(*v4.ip()) => Ok(v4),
            other => Err(BindError::AddressNotAvailable(other)),
        }
    }

    /// Makes a port ours, in the kernel too where the address is shared; port 0 lets the owner choose. Returns the port.
    pub(crate) fn reserve_port(
        &mut self,
        protocol: ipv4::Protocol,
        addr: SocketAddrV4,
        is_free: impl Fn(u16) -> bool,
    ) -> Result<u16, BindError> {
        match self.shared() {
            Some(control) => control.reserve(protocol, addr),
            None if addr.port() != 0 => Ok(addr.port()),
            None => DYNAMIC_PORTS
                .into_iter()
                .find(|port| is_free(*port))
                .ok_or_else(|| BindError::AddressInUse("every dynamic port is in use".to_owned())),
        }
    }

    /// Gives back what [`Net::reserve_port`] or the control thread gave: `addr` is as it was then.
    pub(crate) fn release_port(&mut self, protocol: ipv4::Protocol, addr: SocketAddrV4) {
        if protocol == ipv4::Protocol::TCP && addr.ip().is_unspecified() {
            self.granted_ports.retain(|granted| *granted != addr.port());
        }
        if let Some(control) = self.shared() {
            control.release(Release { protocol, addr });
        }
    }

    pub(crate) fn granted_ports(&self) -> PortGrant<'_> {
        match self.ownership {
            Ownership::Dedicated => PortGrant::All,
            Ownership::Shared => PortGrant::Only(&self.granted_ports),
        }
    }

    /// Asks the control thread for more ports; false when there are none to be had.
    pub(crate) fn ask_for_ports(&mut self) -> bool {
        if core::mem::take(&mut self.has_no_ports) {
            return false;
        }
        let Some(control) = self.shared() else { return false };
        if !self.is_asking_for_ports {
            control.ask(Request::Ports);
            self.is_asking_for_ports = true;
        }
        true
    }

    pub(crate) fn has_news(&self) -> bool {
        let link = self.control.as_ref().map(|control| &control.link);
        link.is_some_and(|link| link.has_news() || link.has_kernel_packets())
    }

    /// The next packet that the kernel received for us.
    pub(crate) fn next_kernel_packet(&self) -> Option<Vec<u8>> {
        let link = &self.control.as_ref()?.link;
        if link.has_kernel_packets() { link.next_kernel_packet() } else { None }
    }

    /// Takes what the control thread has found out; true if anything changed.
    pub(crate) fn take_news(&mut self, now: Instant) -> bool {
        let mut changed = false;
        while let Some(news) = self.next_news() {
            changed = true;
            match news {
                News::Neighbour { ip, mac: Some(mac) } => {
                    // A full cache has a thousand neighbours in use; this one is asked for again when it is needed.
                    let _ = self.neighbours.insert_static(now, ip, mac);
                }
                News::Neighbour { ip, mac: None } => self.neighbours.fail(now, ip),
                News::Forget { ip } => self.neighbours.remove(ip),
                News::Ports(ports) => {
                    self.is_asking_for_ports = false;
                    self.has_no_ports = ports.is_empty();
                    self.granted_ports.extend(ports);
                }
                News::Routes(routes) => self.set_routes(routes),
                News::Mac(mac) => self.set_mac(now, mac),
                News::InterfaceGone => self.is_interface_gone = true,
            }
            self.on_neighbour_change();
        }
        changed
    }

    fn next_news(&self) -> Option<News> {
        let link = &self.control.as_ref()?.link;
        if link.has_news() { link.next_news() } else { None }
    }
}

/// An ARP packet in a frame of its own.
pub(super) fn send_arp(link: &mut Link, counters: &mut Counters, src: Mac, dst: Mac, packet: &arp::Packet) {
    let Some(mut frame) = link.alloc(Class::Control) else {
        counters.now.frames_wanted += 1;
        return;
    };
    let bytes = frame.append(eth::HEADER_LEN + arp::PACKET_LEN);
    let Some((head, rest)) = bytes.split_first_chunk_mut::<{ eth::HEADER_LEN }>() else { return };
    eth::Header { dst, src, ethertype: EtherType::ARP }.emit(head);
    if let Some(body) = rest.first_chunk_mut::<{ arp::PACKET_LEN }>() {
        packet.emit(body);
    }
    link.submit_or_drop(0, frame, counters);
}
