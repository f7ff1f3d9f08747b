//! Set-up over AF_PACKET: one socket, one worker, addresses of the engine's own.

use std::sync::Arc;

use ringwire_frame::{Floors, Geometry, Pool, RX_HEADROOM, Region};
use ringwire_packet::{PacketConfig, PacketError, PacketPort};
use ringwire_wire::eth::Mac;

use crate::config::{Config, Interface};
use crate::control::netlink::{self, Netlink};
use crate::engine::{Engine, Guard, NoSteering, QueueMode, Shared, config_error};
use crate::error::{SetupError, SetupErrorKind};
use crate::interface::{self, system};
use crate::wake::Waker;
use crate::worker::link::{AnyPort, Link};
use crate::worker::net::NetConfig;
use crate::worker::{SeedParts, WorkerSeed};

const SMALL_FRAME_BYTES: u32 = 2048;
const LARGE_FRAME_BYTES: u32 = 4096;
/// Ethernet header and two VLAN tags.
const LINK_HEADER_BYTES: usize = 22;
const DEFAULT_FRAMES: u32 = 4096;

/// Starts in the calling thread's network namespace.
pub(crate) fn set_up(config: &Config) -> Result<Engine, SetupError> {
    let interface = interface::named(config)?;
    check(config, interface)?;
    let mut netlink = Netlink::open().map_err(|error| system("cannot open a netlink socket", &error))?;
    let link = interface::find_link(&mut netlink, interface)?;
    let addresses = interface::choose_addresses(&mut netlink, interface, &link)?;
    let pool = pool(config, &link)?;
    let is_chained = link.mtu as usize + LINK_HEADER_BYTES + RX_HEADROOM > pool.frame_bytes();
    let port = PacketPort::open(
        &PacketConfig {
            mtu_bytes: link.mtu,
            only_for: Some(addresses.iter().map(|cidr| cidr.address).collect()),
            ..PacketConfig::new(link.index, link.name.clone())
        },
        &pool,
    )
    .map_err(packet_error)?;
    let waker = Waker::new().map_err(|error| system("eventfd", &error))?;
    let mode = QueueMode {
        interface: link.name.clone(),
        queue_id: 0,
        attach: "packet",
        zero_copy: false,
        zero_copy_refusal: None,
        multi_buffer: is_chained,
        need_wakeup: false,
        busy_poll: false,
    };
    let shared = Arc::new(Shared::new(vec![waker], vec![mode], addresses, Box::new(NoSteering)));
    let guard = Arc::new(Guard::without_kernel_side(Arc::clone(&shared)));
    let net = NetConfig::dedicated(interface, Mac(link.mac));
    let link = Link::new(pool, vec![AnyPort::Packet(Box::new(port))], link.mtu as usize);
    let cpu = config.cpus.first().copied();
    let seed = WorkerSeed::new(SeedParts { id: 0, cpu, link, net, guard }, config)?;
    Ok(Engine::assemble(vec![seed], shared))
}

fn check(config: &Config, interface: &Interface) -> Result<(), SetupError> {
    if interface.addresses.is_empty() {
        return Err(config_error(
            "the packet backend has no address: the kernel answers for the interface's own",
            "give the engine an address that the kernel does not have, such as --address 10.0.0.50/24",
        ));
    }
    if config.workers.is_some_and(|workers| workers != 1) {
        return Err(config_error("the packet backend serves one worker", "use one worker, or backend xdp"));
    }
    if interface.queues.as_ref().is_some_and(|queues| queues != &[0]) {
        return Err(config_error(
            "the packet backend owns no queues: it sees the packets of all",
            "leave the queues out, or use backend xdp",
        ));
    }
    if interface.asks_for_driver() {
        return Err(config_error(
            "the packet backend has no driver to attach to, to bind, to wake or to poll",
            "leave attach mode, bind mode, need-wakeup and busy polling as they are, or use backend xdp",
        ));
    }
    Ok(())
}

fn pool(config: &Config, link: &netlink::Link) -> Result<Pool, SetupError> {
    let frame_count = config.frames_per_worker.unwrap_or(DEFAULT_FRAMES);
    if frame_count < 64 || !frame_count.is_power_of_two() {
        return Err(config_error("frames per worker must be a power of two from 64", "--frames 4096"));
    }
    let packet_bytes = link.mtu as usize + LINK_HEADER_BYTES + RX_HEADROOM;
    let frame_bytes =
        if packet_bytes <= SMALL_FRAME_BYTES as usize { SMALL_FRAME_BYTES } else { LARGE_FRAME_BYTES };
    let geometry = Geometry { frame_bytes, frame_count };
    Ok(Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(frame_count)))
}

fn packet_error(error: PacketError) -> SetupError {
    let kind = match error.errno.map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => SetupErrorKind::Capability,
        Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::NOPROTOOPT) => SetupErrorKind::Unsupported,
        Some(rustix::io::Errno::NOMEM) | None => SetupErrorKind::System,
        Some(_) => SetupErrorKind::Interface,
    };
    SetupError::new(kind, error.what, error.hint).with_errno(error.errno)
}
