//! What the kernel knows of the interface that an engine is to use, and whether it can be used.

use std::net::IpAddr;

use crate::config::{Cidr, Config, Interface};
use crate::control::netlink::{self, Netlink};
use crate::engine::config_error;
use crate::error::{SetupError, SetupErrorKind};

/// The interface of the configuration.
pub(crate) fn named(config: &Config) -> Result<&Interface, SetupError> {
    config.interface.as_ref().ok_or_else(|| {
        config_error("no interface is given", "Engine::builder().interface(Interface::new(\"eth0\"))")
    })
}

impl Interface {
    /// The interface of the kernel's route to `target`, sharing its addresses.
    ///
    /// # Errors
    /// There is no route, or netlink is not to be had.
    pub fn towards(target: IpAddr) -> Result<Interface, SetupError> {
        let mut netlink = Netlink::open().map_err(|error| system("cannot open a netlink socket", &error))?;
        let found = netlink.route_to(target, None).and_then(|route| netlink.link_by_index(route.ifindex));
        let link = found.map_err(|error| {
            SetupError::new(
                SetupErrorKind::Interface,
                format!("there is no route to {target}: {error}"),
                "name the interface with -i, or add a route",
            )
            .with_errno(error.raw_os_error())
        })?;
        Ok(Interface::new(link.name))
    }

    /// The receive queues that the interface uses now, which may be fewer than it was made with.
    ///
    /// # Errors
    /// There is no such interface in the calling thread's network namespace, or netlink is not to be had.
    pub fn rx_queue_count(&self) -> Result<u32, SetupError> {
        let mut netlink = Netlink::open().map_err(|error| system("cannot open a netlink socket", &error))?;
        let link = netlink.link_by_name(&self.name);
        Ok(link.map_err(|error| system(&format!("cannot look at '{}'", self.name), &error))?.rx_queues)
    }
}

/// The interface, if it can be used at all.
pub(crate) fn find_link(netlink: &mut Netlink, interface: &Interface) -> Result<netlink::Link, SetupError> {
    let link = netlink.link_by_name(&interface.name).map_err(|error| {
        let names = netlink
            .links()
            .unwrap_or_default()
            .into_iter()
            .map(|link| link.name)
            .collect::<Vec<_>>()
            .join(", ");
        SetupError::new(
            SetupErrorKind::Interface,
            format!("there is no interface '{}' here: {error}", interface.name),
            format!("interfaces of this network namespace: {names}"),
        )
    })?;
    if !link.is_up {
        return Err(SetupError::new(
            SetupErrorKind::Interface,
            format!("interface '{}' is down", link.name),
            format!("ip link set {} up", link.name),
        ));
    }
    Ok(link)
}

/// The engine's addresses: its own, or the interface's.
pub(crate) fn choose_addresses(
    netlink: &mut Netlink,
    interface: &Interface,
    link: &netlink::Link,
) -> Result<Vec<Cidr>, SetupError> {
    let held = held_addresses(netlink, link)?;
    if !interface.addresses.is_empty() {
        // The kernel would take a peer's answers to its own address for its own, on whatever interface it has it.
        for other in netlink.links().map_err(|error| system("cannot list interfaces", &error))? {
            let taken = held_addresses(netlink, &other)?;
            let is_taken = |own: &&Cidr| taken.iter().any(|cidr| cidr.address == own.address);
            if let Some(both) = interface.addresses.iter().find(is_taken) {
                return Err(SetupError::new(
                    SetupErrorKind::Address,
                    format!(
                        "{} is already an address of {}: it cannot be dedicated to the engine too",
                        both.address, other.name
                    ),
                    "leave the address out to share it, or choose one that nobody has",
                ));
            }
        }
    }
    let chosen = if interface.addresses.is_empty() { held } else { interface.addresses.clone() };
    if chosen.is_empty() {
        return Err(SetupError::new(
            SetupErrorKind::Address,
            format!("interface '{}' has no IPv4 address to share", link.name),
            format!("ip address add ADDR/LEN dev {}, or give the engine an address of its own", link.name),
        ));
    }
    Ok(chosen)
}

/// The kernel's IPv4 addresses on one interface.
fn held_addresses(netlink: &mut Netlink, link: &netlink::Link) -> Result<Vec<Cidr>, SetupError> {
    let addresses = netlink.addresses(link.index).map_err(|error| system("cannot list addresses", &error))?;
    let ipv4 = addresses.into_iter().filter_map(|(address, prefix_len)| match address {
        IpAddr::V4(address) => Some(Cidr { address, prefix_len }),
        IpAddr::V6(_) => None,
    });
    Ok(ipv4.collect())
}

pub(crate) fn system(what: &str, error: &std::io::Error) -> SetupError {
    SetupError::new(
        SetupErrorKind::System,
        format!("{what}: {error}"),
        "look at dmesg for the kernel's reason",
    )
    .with_errno(error.raw_os_error())
}
