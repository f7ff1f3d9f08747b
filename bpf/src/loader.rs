//! Loads the steering program, attaches it, and changes its maps.

mod attach;
mod counters;
mod incumbent;
mod load;
mod nic;
mod ports;

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libbpf_rs::libbpf_sys::{XDP_PASS, XDP_REDIRECT};
use libbpf_rs::{MapCore, MapFlags, Object, ProgramInput, ProgramMut};

pub use attach::{AttachMode, Mode};
pub use incumbent::{Incumbent, incumbent};

use crate::abi;
use crate::error::SteerError;
use crate::verdict::{Action, Counters, Verdict};
use attach::Link;
use load::Maps;
use ports::PortMap;

/// What to attach to, and how large to make the maps.
#[derive(Clone, Debug)]
pub struct AttachConfig {
    /// The interface, in the network namespace of the thread that attaches.
    pub ifindex: u32,
    /// Its name, for messages.
    pub ifname: String,
    /// Its address: only frames sent to it can be ours.
    pub mac: [u8; 6],
    /// How the program must sit in the driver.
    pub attach_mode: AttachMode,
    /// Load the program that accepts packets of several buffers, for an MTU above one page.
    pub frags: bool,
    /// RX queues of the interface.
    pub max_queues: u32,
    /// Which of the engines that share the maps this is; 0 when there is one.
    pub engine_slot: u8,
    /// Addresses that can be steered at once; each takes 128 KiB of port map.
    pub max_addresses: u32,
}

/// How much of an address is the engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ownership {
    /// The kernel has the address too; only steered ports are ours.
    Shared,
    /// Everything to the address is ours, ARP and ping included.
    Dedicated,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An address that [`Steering::add_address`] took; good until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddrIndex(u32);

/// The steering program, its maps and its attachment. Dropping it detaches.
///
/// Attach on a thread in the interface's network namespace; afterwards every method works from any thread.
///
/// ```no_run
/// use ringwire_bpf::{AttachConfig, AttachMode, Ownership, Protocol, Steering};
///
/// let mut steering = Steering::attach(&AttachConfig {
///     ifindex: 2,
///     ifname: "ens1f0np0".into(),
///     mac: [2, 0, 0, 0, 0, 1],
///     attach_mode: AttachMode::Auto,
///     frags: false,
///     max_queues: 8,
///     engine_slot: 0,
///     max_addresses: 16,
/// })?;
/// let address = steering.add_address("10.0.0.1".parse().unwrap(), Ownership::Shared)?;
/// steering.steer(address, Protocol::Tcp, 443);
/// println!("{} packets seen", steering.counters()?.total());
/// # Ok::<(), ringwire_bpf::SteerError>(())
/// ```
#[derive(Debug)]
pub struct Steering {
    // Declared first, so that the interface is free before the maps go.
    link: Option<Link>,
    object: Object,
    maps: Maps,
    ports: PortMap,
    config: abi::Config,
    owner: u8,
    addresses: Vec<Option<(IpAddr, Ownership)>>,
}

impl Steering {
    /// Loads the program and attaches it.
    ///
    /// # Errors
    /// What [`Steering::load`] says; a program is attached already (it is named and left alone); the driver, the MTU or
    /// a missing capability stands in the way.
    pub fn attach(config: &AttachConfig) -> Result<Steering, SteerError> {
        let mut steering = Steering::load(config)?;
        let link = attach::attach(steering.program().as_fd(), config)?;
        steering.link = Some(link);
        Ok(steering)
    }

    /// Loads the program without attaching it, for [`Steering::test_run`].
    ///
    /// # Errors
    /// A limit of `config` is zero or too large, a capability is missing, or the kernel refuses the program.
    pub fn load(config: &AttachConfig) -> Result<Steering, SteerError> {
        load::check_limits(config)?;
        let object = load::object(config)?;
        let maps = Maps::of(&object)?;
        let ports = PortMap::map(&maps.ports, config.max_addresses)?;
        let steering = Steering {
            link: None,
            object,
            maps,
            ports,
            config: load::first_config(config),
            owner: config.engine_slot + 1,
            addresses: vec![None; config.max_addresses as usize],
        };
        steering.publish_config()?;
        Ok(steering)
    }

    /// How the program sits in the driver, read back from the kernel; None when it is only loaded.
    pub fn mode(&self) -> Option<Mode> {
        self.link.as_ref().map(Link::mode)
    }

    /// Makes an address ours, entirely or by port. Adding it again with the same ownership changes nothing.
    ///
    /// # Errors
    /// The address is IPv6, is there with the other ownership, or `max_addresses` are taken.
    pub fn add_address(&mut self, address: IpAddr, ownership: Ownership) -> Result<AddrIndex, SteerError> {
        if let Some(index) = self.position(|taken| taken.is_some_and(|(known, _)| known == address)) {
            return self.same_ownership(index, address, ownership);
        }
        if address.is_ipv6() {
            return Err(SteerError::refused(
                format!("cannot steer {address}: only IPv4 is steered so far"),
                "use an IPv4 address; IPv6 stays with the kernel",
            ));
        }
        let index = self.position(|taken| taken.is_none()).ok_or_else(|| {
            SteerError::refused(
                format!("cannot steer {address}: all {} places are taken", self.addresses.len()),
                "raise max_addresses",
            )
        })?;
        let owner = if ownership == Ownership::Dedicated { self.owner } else { 0 };
        self.maps
            .addresses
            .update(&abi::address_key(address), &abi::address_entry(index.0, owner), MapFlags::ANY)
            .map_err(|error| SteerError::unexpected("add an address", &error))?;
        self.addresses[index.0 as usize] = Some((address, ownership));
        self.next_generation()?;
        Ok(index)
    }

    /// Gives an address back to the kernel, with all its ports. An address that is not there is left alone.
    ///
    /// # Errors
    /// Only when the kernel is out of order.
    pub fn remove_address(&mut self, index: AddrIndex) -> Result<(), SteerError> {
        let Some(Some((address, _))) = self.addresses.get(index.0 as usize).copied() else {
            return Ok(());
        };
        self.maps
            .addresses
            .delete(&abi::address_key(address))
            .map_err(|error| SteerError::unexpected("remove an address", &error))?;
        self.addresses[index.0 as usize] = None;
        self.ports.clear_address(index.0);
        self.next_generation()
    }

    /// Makes a port of a shared address ours: one store, which the next packet sees.
    ///
    /// # Panics
    /// When `address` came from another `Steering` with more addresses.
    pub fn steer(&self, address: AddrIndex, protocol: Protocol, port: u16) {
        self.ports.set(address.0, protocol, port, self.owner);
    }

    /// Gives a port back to the kernel: one store, which the next packet sees.
    ///
    /// # Panics
    /// As [`Steering::steer`].
    pub fn unsteer(&self, address: AddrIndex, protocol: Protocol, port: u16) {
        self.ports.set(address.0, protocol, port, 0);
    }

    /// Sends what is ours on a queue to this AF_XDP socket, which must be bound to the same queue.
    ///
    /// # Errors
    /// The queue is out of range, or the descriptor is no AF_XDP socket.
    pub fn set_socket(&self, queue_id: u32, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
        let key = self.socket_key(queue_id)?;
        let value = socket.as_raw_fd().to_ne_bytes();
        self.maps.sockets.update(&key, &value, MapFlags::ANY).map_err(|error| {
            SteerError::refused(
                format!("cannot steer queue {queue_id} to this descriptor: {error:#}"),
                "hand in an AF_XDP socket",
            )
        })
    }

    /// Drops what is ours on a queue from now on.
    ///
    /// # Errors
    /// The queue is out of range.
    pub fn clear_socket(&self, queue_id: u32) -> Result<(), SteerError> {
        let key = self.socket_key(queue_id)?;
        match self.maps.sockets.delete(&key) {
            Err(error) if error.kind() != libbpf_rs::ErrorKind::NotFound => {
                Err(SteerError::unexpected("clear a socket", &error))
            }
            _ => Ok(()),
        }
    }

    /// Lets a raw socket (TCP, UDP or ICMP over IPv4) receive only what is ours of a shared address: packets to a steered port that
    /// the kernel has received, because they came from a local client or in fragments, and ICMP errors about what such a port sent.
    ///
    /// # Errors
    /// The descriptor is no socket, or the kernel refuses the filter.
    pub fn filter_kernel_path(&self, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
        let filter = self.object.progs_mut().find(|program| program.name() == load::KERNEL_FILTER);
        let filter = filter.ok_or_else(|| SteerError::unexpected("find a filter", load::KERNEL_FILTER))?;
        attach::filter(filter.as_fd(), socket)
    }

    /// Follows a change of the interface's address.
    ///
    /// # Errors
    /// Only when the kernel is out of order.
    pub fn set_mac(&mut self, mac: [u8; 6]) -> Result<(), SteerError> {
        self.config.mac = mac;
        self.next_generation()
    }

    /// Packets by verdict so far.
    ///
    /// # Errors
    /// Only when the kernel is out of order.
    pub fn counters(&self) -> Result<Counters, SteerError> {
        counters::read(&self.maps.counters)
    }

    /// Runs the program on one frame, as if it had come in on `rx_queue` of the interface (of the loopback interface
    /// when `ifindex` is 0, which has one queue). For tests: nothing is delivered, but the frame is counted.
    ///
    /// # Errors
    /// The kernel takes 14 bytes to a page, and only queues the interface has; the verdict is unknown when other
    /// packets were counted meanwhile.
    pub fn test_run(&self, frame: &[u8], rx_queue: u32) -> Result<Verdict, SteerError> {
        let before = self.counters()?;
        let action = self.run_once(frame, rx_queue)?;
        let verdict = self.counters()?.one_since(&before);
        verdict.filter(|verdict| verdict.action() == action).ok_or_else(|| {
            SteerError::refused(
                "the counters moved for more than one packet",
                "test_run needs a quiet interface",
            )
        })
    }

    fn run_once(&self, frame: &[u8], rx_queue: u32) -> Result<Action, SteerError> {
        let mut context = load::test_context(frame.len(), self.config.ifindex, rx_queue);
        let context_in = (self.config.ifindex != 0 || rx_queue != 0).then_some(&mut context[..]);
        let input = ProgramInput { context_in, data_in: Some(frame), ..ProgramInput::default() };
        let output =
            self.program().test_run(input).map_err(|error| SteerError::unexpected("test-run", &error))?;
        Ok(match output.return_value {
            XDP_PASS => Action::Pass,
            XDP_REDIRECT => Action::Redirect,
            _ => Action::Drop,
        })
    }

    fn program(&self) -> ProgramMut<'_> {
        // `load` chose one of the two in the object, and would have failed without it.
        let is_steering =
            |program: &ProgramMut<'_>| program.autoload() && program.name() != load::KERNEL_FILTER;
        self.object.progs_mut().find(is_steering).expect("the object has the program")
    }

    fn position(&self, wanted: impl Fn(&Option<(IpAddr, Ownership)>) -> bool) -> Option<AddrIndex> {
        // At most max_addresses, a u32.
        self.addresses.iter().position(wanted).map(|index| AddrIndex(index as u32))
    }

    fn same_ownership(
        &self,
        index: AddrIndex,
        address: IpAddr,
        wanted: Ownership,
    ) -> Result<AddrIndex, SteerError> {
        if self.addresses[index.0 as usize] == Some((address, wanted)) {
            return Ok(index);
        }
        Err(SteerError::refused(
            format!("cannot steer {address} as {wanted:?}: it is steered the other way"),
            "remove the address first",
        ))
    }

    fn socket_key(&self, queue_id: u32) -> Result<[u8; 4], SteerError> {
        if queue_id >= self.config.max_queues {
            return Err(SteerError::refused(
                format!("queue {queue_id} does not exist: there are {}", self.config.max_queues),
                "raise max_queues, or own fewer queues",
            ));
        }
        let slot = u32::from(self.owner) - 1;
        Ok((slot * self.config.max_queues + queue_id).to_ne_bytes())
    }

    fn next_generation(&mut self) -> Result<(), SteerError> {
        self.config.generation += 1;
        self.publish_config()
    }

    fn publish_config(&self) -> Result<(), SteerError> {
        self.maps
            .config
            .update(&abi::ONLY, &self.config.to_bytes(), MapFlags::ANY)
            .map_err(|error| SteerError::unexpected("write the config map", &error))
    }
}
