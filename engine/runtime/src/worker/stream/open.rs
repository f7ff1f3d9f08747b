//! Opening: listeners, active opens, local ports, options.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU32;

use ringwire_proto::tcp::Keepalive;
use ringwire_table::PortAllocator;

use super::*;
use crate::config::TcpOptions;
use crate::error::{BindError, ConnError, ConnectError};
use crate::worker::link::IpMark;
use crate::worker::net::{Net, PortGrant};

/// Who stands on each local port, so that a shared port is given back when the last user is gone; and where free ones are found.
#[derive(Debug)]
pub(crate) struct PortUse {
    allocator: PortAllocator,
    users: HashMap<u16, Users>,
    /// Ports that sockets of the application are bound to, and how many are: an active open without a port is given another.
    held: HashMap<u16, u32>,
    /// See [`Streams::free_port`].
    searches: u32,
}

/// Who stands on one local port.
#[derive(Debug, Default)]
struct Users {
    /// Flows and listeners.
    sockets: u32,
    /// Reservations that go back when the last socket has gone, with the address that each was made for.
    reserved_for: Vec<Ipv4Addr>,
}

impl PortUse {
    pub(crate) fn new(allocator: PortAllocator) -> PortUse {
        PortUse { allocator, users: HashMap::new(), held: HashMap::new(), searches: 0 }
    }

    fn users(&self, port: u16) -> u32 {
        self.users.get(&port).map_or(0, |users| users.sockets)
    }

    fn release(&mut self, port: u16) {
        if let Some(count) = self.held.get_mut(&port) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.held.remove(&port);
            }
        }
    }

    pub(super) fn on_flow_made(&mut self, port: u16) {
        self.users.entry(port).or_default().sockets += 1;
    }

    /// One more reservation stands behind the port.
    fn on_reserved(&mut self, addr: SocketAddrV4) {
        self.users.entry(addr.port()).or_default().reserved_for.push(*addr.ip());
    }

    /// A closed listener's port stays ours until its last flow and TIME-WAIT entry ended (design 4).
    pub(super) fn on_flow_gone(&mut self, net: &mut Net, port: u16) {
        let Some(users) = self.users.get_mut(&port) else { return };
        users.sockets = users.sockets.saturating_sub(1);
        if users.sockets == 0 {
            let mut reserved_for = core::mem::take(&mut users.reserved_for);
            self.users.remove(&port);
            if reserved_for.is_empty() {
                // The control thread granted it, on every address.
                reserved_for.push(Ipv4Addr::UNSPECIFIED);
            }
            for ip in reserved_for {
                net.release_port(Protocol::TCP, SocketAddrV4::new(ip, port));
            }
        }
    }
}

impl Streams {
    /// Opens a listener on `addr`; the port is ours before this returns.
    pub(crate) fn listen(
        &mut self,
        io: &mut Io,
        addr: SocketAddr,
        options: &TcpOptions,
    ) -> Result<Listener, BindError> {
        let local = io.net.bindable(addr)?;
        let is_free = |port| io.table.reader().lookup(&listen_key(*local.ip(), port)).is_none();
        if local.port() != 0 && !is_free(local.port()) {
            return Err(BindError::AddressInUse(format!(
                "{addr}/tcp is held by another listener of this worker"
            )));
        }
        let options = self.intern(io, options).ok_or(BindError::TooManyOptions)?;
        let bound = self.bind(io, local, options);
        if bound.is_err() {
            self.options.release(options);
        }
        bound
    }

    /// A listener whose set of options is interned for it.
    fn bind(&mut self, io: &mut Io, local: SocketAddrV4, options: u16) -> Result<Listener, BindError> {
        let is_free = |port| io.table.reader().lookup(&listen_key(*local.ip(), port)).is_none();
        let port = io.net.reserve_port(Protocol::TCP, local, is_free)?;
        let local = SocketAddrV4::new(*local.ip(), port);
        let listening = Listening::new(local, options);
        let Some(key) = self.listeners.insert(listening) else {
            io.net.release_port(Protocol::TCP, local);
            return Err(BindError::TableFull);
        };
        if io.table.insert(&listen_key(*local.ip(), local.port()), Socket::Listener(key.slot).pack()).is_err()
        {
            self.listeners.remove(key.slot);
            io.net.release_port(Protocol::TCP, local);
            return Err(BindError::TableFull);
        }
        self.ports.on_reserved(local);
        self.ports.on_flow_made(local.port());
        Ok(Listener(key.pack(self.worker)))
    }

    /// Stops accepting; handshakes under way are reset, accepted connections go on.
    pub(crate) fn close_listener(&mut self, io: &mut Io, listener: Listener) {
        let Some(key) = Key::unpack(listener.0, self.worker) else { return };
        if self.listeners.get(key).is_none() {
            return;
        }
        let waiting: Vec<u32> = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.owner == Owner::Listener(key))
            .map(|(slot, _)| slot)
            .collect();
        for slot in waiting {
            self.abort_flow(io, slot);
        }
        let Some(listening) = self.listeners.remove(key.slot) else { return };
        self.options.release(listening.options);
        io.table.remove(&listen_key(listening.addr, listening.port));
        self.ports.on_flow_gone(&mut io.net, listening.port);
    }

    pub(crate) fn listener_keys(&self) -> Vec<Listener> {
        let keys = self.listeners.iter().filter_map(|(slot, _)| self.listeners.key_at(slot));
        keys.map(|key| Listener(key.pack(self.worker))).collect()
    }

    pub(crate) fn listener_addr(&self, listener: Listener) -> Option<SocketAddr> {
        let listening = self.listeners.get(Key::unpack(listener.0, self.worker)?)?;
        Some((listening.addr, listening.port).into())
    }

    /// Begins an active open; the SYN leaves with this or a later turn, the rest arrives as events.
    pub(crate) fn connect(
        &mut self,
        io: &mut Io,
        peer: SocketAddr,
        options: &TcpOptions,
    ) -> Result<Conn, ConnectError> {
        let SocketAddr::V4(peer) = peer else { return Err(ConnectError::InvalidAddress) };
        let is_group = peer.ip().is_multicast() || peer.ip().is_broadcast() || peer.ip().is_unspecified();
        if is_group || peer.port() == 0 {
            return Err(ConnectError::InvalidAddress);
        }
        if io.net.is_draining() {
            return Err(ConnectError::ShuttingDown);
        }
        if self.flows.is_full() {
            return Err(ConnectError::TooManyConnections);
        }
        let (local, local_port) = match options.local {
            Some((IpAddr::V4(local), port)) if io.net.is_ours(local) => (local, port),
            Some((IpAddr::V4(local), port)) if local.is_unspecified() => {
                (io.net.source_for(*peer.ip()).ok_or(ConnectError::NoRoute)?, port)
            }
            Some(_) => return Err(ConnectError::InvalidAddress),
            None => (io.net.source_for(*peer.ip()).ok_or(ConnectError::NoRoute)?, 0),
        };
        let tuple = Tuple { local, remote: *peer.ip(), local_port, remote_port: peer.port() };
        let options = self.intern(io, options).ok_or(ConnectError::TooManyOptions)?;
        let opened = self.open(io, tuple, options);
        if opened.is_err() {
            self.options.release(options);
        }
        opened
    }

    /// A connection whose set of options is interned for it; its local port may still have to be found.
    fn open(&mut self, io: &mut Io, tuple: Tuple, options: u16) -> Result<Conn, ConnectError> {
        let Some(set) = self.options.get(usize::from(options)) else {
            return Err(ConnectError::TooManyOptions);
        };
        // Placed below, where the port and with it the sequence number are known.
        let tcb = Tcb::connect(&set.config, seed(io, &tuple));
        let flow = Flow::new(tcb, tuple, options, Owner::Application);
        if tuple.local_port != 0 {
            if io.table.reader().lookup(&tuple.key()).is_some() {
                return Err(ConnectError::NoPorts);
            }
            let addr = SocketAddrV4::new(tuple.local, tuple.local_port);
            io.net.reserve_port(Protocol::TCP, addr, |_| true).map_err(|_| ConnectError::NoPorts)?;
            let Some(slot) = self.insert(io, flow) else {
                io.net.release_port(Protocol::TCP, addr);
                return Err(ConnectError::TooManyConnections);
            };
            self.ports.on_reserved(addr);
            self.begin_fast_open(io, slot);
            self.reschedule(slot);
            return self.conn(slot).ok_or(ConnectError::TooManyConnections);
        }
        let key = self.flows.insert(flow).ok_or(ConnectError::TooManyConnections)?;
        if !self.place(io, key.slot) {
            self.flows.remove(key.slot);
            return Err(ConnectError::NoPorts);
        }
        Ok(Conn(key.pack(self.worker)))
    }

    /// Gives an active open its port and its place in the table, or parks it until the control thread has reserved more ports.
    /// False when there is no port to be had.
    pub(super) fn place(&mut self, io: &mut Io, slot: u32) -> bool {
        let Some(flow) = self.flows.at_mut(slot) else { return false };
        let mut tuple = flow.tuple;
        let offset = io.prf.port_offset(tuple.local.into(), tuple.remote.into(), tuple.remote_port);
        let PortUse { allocator, held, .. } = &mut self.ports;
        let is_free = |port: u16| {
            tuple.local_port = port;
            !held.contains_key(&port)
                && io.table.reader().lookup(&tuple.key()).is_none()
                && io.table.reader().lookup(&listen_key(tuple.local, port)).is_none()
        };
        let granted = match io.net.granted_ports() {
            PortGrant::All => allocator.allocate(offset, is_free).ok(),
            PortGrant::Only(ports) => ports.iter().copied().find(|port| {
                tuple.local_port = *port;
                !held.contains_key(port) && io.table.reader().lookup(&tuple.key()).is_none()
            }),
        };
        let Some(port) = granted else {
            if !io.net.ask_for_ports() {
                return false;
            }
            flow.is_parked = true;
            self.parked.push(slot);
            return true;
        };
        tuple.local_port = port;
        let Some(set) = self.options.get(usize::from(flow.options)) else { return false };
        flow.tuple = tuple;
        flow.tcb = Tcb::connect(&set.config, seed(io, &tuple));
        if io.table.insert(&tuple.key(), Socket::Flow(slot).pack()).is_err() {
            flow.tuple.local_port = 0;
            return false;
        }
        self.ports.on_flow_made(port);
        self.begin_fast_open(io, slot);
        self.reschedule(slot);
        true
    }

    pub(super) fn conn(&self, slot: u32) -> Option<Conn> {
        Some(Conn(self.flows.key_at(slot)?.pack(self.worker)))
    }

    /// The index of these options for one socket more, unless they are one set too many.
    fn intern(&mut self, io: &Io, options: &TcpOptions) -> Option<u16> {
        self.options.intern(OptionSet::new(options, io.link.mss_bytes()))
    }

    pub(crate) fn set_listener_options(
        &mut self,
        io: &Io,
        listener: Listener,
        options: &TcpOptions,
    ) -> Result<(), ConnError> {
        let key = Key::unpack(listener.0, self.worker).ok_or(ConnError::Closed)?;
        if self.listeners.get(key).is_none() {
            return Err(ConnError::Closed);
        }
        let index = self.intern(io, options).ok_or(ConnError::TooManyOptions)?;
        if let Some(listening) = self.listeners.get_mut(key) {
            let before = core::mem::replace(&mut listening.options, index);
            self.options.release(before);
        }
        Ok(())
    }

    pub(crate) fn set_options(
        &mut self,
        io: &mut Io,
        conn: Conn,
        options: &TcpOptions,
    ) -> Result<(), ConnError> {
        let slot = self.slot(conn)?;
        let index = self.intern(io, options).ok_or(ConnError::TooManyOptions)?;
        if let Some(flow) = self.flows.at_mut(slot) {
            let before = core::mem::replace(&mut flow.options, index);
            self.options.release(before);
        }
        with_machine!(self, io, slot, |flow, cx| flow.tcb.on_config_change(&mut cx));
        self.reschedule(slot);
        Ok(())
    }

    /// A port for a socket whose peer is not known yet. RFC 6056 3.3.1: each search begins somewhere else, here at a keyed hash of how
    /// many there were.
    pub(crate) fn free_port(&mut self, io: &Io, is_free: impl Fn(u16) -> bool) -> Option<u16> {
        let PortUse { allocator, users, searches, .. } = &mut self.ports;
        *searches = searches.wrapping_add(1);
        let [a, b, c, d] = searches.to_be_bytes();
        let nobody = Ipv4Addr::UNSPECIFIED.into();
        let offset = io.prf.port_offset(nobody, Ipv4Addr::new(a, b, c, d).into(), 0);
        allocator.allocate(offset, |port| !users.contains_key(&port) && is_free(port)).ok()
    }

    #[cfg(test)]
    pub(crate) fn use_up_options(&mut self, io: &Io) {
        let timeouts = (1..).map(core::time::Duration::from_nanos);
        let mut sets =
            timeouts.map(|timeout| TcpOptions { user_timeout: Some(timeout), ..TcpOptions::default() });
        while sets.next().is_some_and(|options| self.intern(io, &options).is_some()) {}
    }

    /// See [`PortUse::held`].
    pub(crate) fn hold_port(&mut self, port: u16) {
        *self.ports.held.entry(port).or_default() += 1;
    }

    pub(crate) fn release_port(&mut self, port: u16) {
        self.ports.release(port);
    }

    /// Listeners, connections and memories of connections on a local port.
    pub(crate) fn port_users(&self, port: u16) -> u32 {
        self.ports.users(port)
    }
}

fn listen_key(addr: Ipv4Addr, port: u16) -> FlowKey {
    FlowKey::v4_listener(Protocol::TCP.0, addr, port)
}

/// Of the type of service; they belong to congestion notification (RFC 3168 5).
const ECN_BITS: u8 = 3;

impl OptionSet {
    pub(super) fn new(options: &TcpOptions, link_mss_bytes: usize) -> OptionSet {
        let link_mss = u16::try_from(link_mss_bytes).unwrap_or(u16::MAX);
        let keepalive = options.keepalive.map(|keepalive| Keepalive {
            time: keepalive.time,
            interval: keepalive.interval,
            retries: keepalive.retries,
        });
        let usual = tcp::Config::default();
        // A window's worth of ordinary segments, none of which may be refused for its number.
        let window_segs = options.recv_buffer_bytes / 512;
        let config = tcp::Config {
            recv_buffer_segs: usual.recv_buffer_segs.max(window_segs),
            reassembly_segs: usual.reassembly_segs.max(window_segs),
            mss: options.max_segment_bytes.unwrap_or(link_mss).min(link_mss),
            window_scale: options.window_scaling.then(|| {
                tcp::Config::window_scale_for(options.recv_buffer_bytes.max(options.recv_buffer_max_bytes))
            }),
            nodelay: options.nodelay,
            congestion: options.congestion_control,
            pacing: options.pacing,
            ecn: options.ecn,
            timestamps: options.timestamps,
            sack: options.sack,
            quick_acks: options.quick_acks,
            mtu_probing: options.mtu_probing,
            recv_buffer_bytes: options.recv_buffer_bytes,
            recv_buffer_max_bytes: options.recv_buffer_max_bytes,
            send_buffer_bytes: options.send_buffer_bytes,
            send_buffer_max_bytes: options.send_buffer_max_bytes,
            unsent_low_water_bytes: options.unsent_low_water_bytes.and_then(NonZeroU32::new),
            keepalive,
            user_timeout: options.user_timeout,
            linger: options.linger,
            syn_retries: options.syn_retries,
            fin_wait2: options.fin_wait2,
            time_wait: options.time_wait,
            ..usual
        };
        let mark = IpMark { tos: options.tos & !ECN_BITS, ttl: options.ttl.max(1) };
        OptionSet {
            config,
            backlog: options.backlog,
            mark,
            fast_open: options.fast_open,
            fast_open_rules: options.fast_open_rules(),
            fast_open_backlog: options.fast_open_backlog,
        }
    }
}

impl Flow {
    pub(super) fn new(tcb: Tcb, tuple: Tuple, options: u16, owner: Owner) -> Flow {
        Flow {
            tcb,
            tuple,
            hop: None,
            tune: tcp::RecvTune::default(),
            totals: tcp::Totals::default(),
            armed_at: Instant::MAX,
            port: 0,
            options,
            owner,
            signals: Signals::NONE,
            close_reason: None,
            is_queued: false,
            is_ready: false,
            is_parked: false,
            wanted: None,
            orphaned_ms: None,
            is_unlisted: false,
        }
    }
}

#[cfg(test)]
mod tests;
