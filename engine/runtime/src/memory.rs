//! Engines over in-memory ports: no privilege, no kernel.

#[cfg(any(feature = "xdp", feature = "packet"))]
use std::{fmt, io};

use std::sync::Arc;

use ringwire_frame::{Floors, Geometry, MemPort, Pool, Region};
use ringwire_wire::eth::Mac;

use crate::config::{Config, Interface};
use crate::engine::{Engine, Guard, NoSteering, QueueMode, Shared, config_error};
use crate::error::SetupError;
use crate::wake::Waker;
use crate::worker::link::{AnyPort, Link};
use crate::worker::net::NetConfig;
use crate::worker::{SeedParts, WorkerSeed};

const FRAME_BYTES: u32 = 2048;
const DEFAULT_FRAMES: u32 = 4096;
const RING_PACKETS: u32 = 1024;
const MTU_BYTES: usize = 1500;
/// What every link on the Internet takes (RFC 791).
const MIN_MTU_BYTES: usize = 68;

/// Gets the worker's pool and returns its end of a wire.
#[cfg(any(feature = "xdp", feature = "packet"))]
pub(crate) type Connect = Box<dyn FnOnce(&Pool) -> io::Result<MemPort> + Send + Sync>;

/// A wire whose other end somebody else holds.
#[cfg(any(feature = "xdp", feature = "packet"))]
#[derive(Default)]
pub(crate) struct Socket(pub(crate) Option<Connect>);

#[cfg(any(feature = "xdp", feature = "packet"))]
impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Socket" } else { "None" })
    }
}

/// One engine on the wire that its configuration holds.
#[cfg(any(feature = "xdp", feature = "packet"))]
pub(crate) fn start(config: Config, connect: Connect) -> Result<Engine, SetupError> {
    let pool = pool(&config)?;
    let port = connect(&pool).map_err(|error| {
        config_error(&format!("cannot join the in-memory wire: {error}"), "one engine per end")
    })?;
    assemble(config, pool, port)
}

/// Two engines on one wire.
pub(crate) fn pair(a: Config, b: Config) -> Result<(Engine, Engine), SetupError> {
    let (pool_a, pool_b) = (pool(&a)?, pool(&b)?);
    let (port_a, port_b) = MemPort::pair(RING_PACKETS, &pool_a, &pool_b);
    Ok((assemble(a, pool_a, port_a)?, assemble(b, pool_b, port_b)?))
}

/// One engine on a wire whose other end the caller holds.
pub(crate) fn start_on(config: Config, connect: impl FnOnce(&Pool) -> MemPort) -> Result<Engine, SetupError> {
    let pool = pool(&config)?;
    let port = connect(&pool);
    assemble(config, pool, port)
}

fn pool(config: &Config) -> Result<Pool, SetupError> {
    let frame_count = config.frames_per_worker.unwrap_or(DEFAULT_FRAMES);
    if frame_count < 64 || !frame_count.is_power_of_two() {
        return Err(config_error(
            "frames per worker must be a power of two from 64",
            "use 64, 128, .. 65536",
        ));
    }
    let geometry = Geometry { frame_bytes: FRAME_BYTES, frame_count };
    let region = Region::anonymous(geometry.region_bytes());
    Ok(Pool::new(region, geometry, Floors::for_frames(frame_count)))
}

fn assemble(config: Config, pool: Pool, port: MemPort) -> Result<Engine, SetupError> {
    let interface = config.interface.clone().unwrap_or_else(|| Interface::new("memory"));
    let Some(first) = interface.addresses.first() else {
        return Err(config_error("an in-memory engine has no address", "give its Interface an address(..)"));
    };
    if config.workers.is_some_and(|workers| workers != 1) {
        return Err(config_error("an in-memory port serves one worker", "use workers(1)"));
    }
    if config.netns.is_some() {
        return Err(config_error("an in-memory engine is in no network namespace", "leave netns(..) out"));
    }
    if interface.asks_for_driver() {
        return Err(config_error(
            "an in-memory port has no driver to attach to, to bind, to wake or to poll",
            "leave attach mode, bind mode, need-wakeup and busy polling as they are",
        ));
    }
    if config.shared_ports.is_some() {
        return Err(config_error(
            "an in-memory engine reserves no ports in the kernel",
            "leave shared_ports(..) out",
        ));
    }
    if interface.queues.as_ref().is_some_and(|queues| queues != &[0]) {
        return Err(config_error("an in-memory port has one queue", "leave the queues out"));
    }
    let mtu_bytes = config.mtu_bytes.map_or(MTU_BYTES, usize::from);
    if !(MIN_MTU_BYTES..=MTU_BYTES).contains(&mtu_bytes) {
        return Err(config_error(
            &format!("an in-memory wire has no MTU of {mtu_bytes}"),
            &format!("use {MIN_MTU_BYTES} to {MTU_BYTES}"),
        ));
    }
    // Locally administered, and as unique as the address.
    let [b0, b1, b2, b3] = first.address.octets();
    let mac = Mac([0x02, 0x00, b0, b1, b2, b3]);
    let waker =
        Waker::new().map_err(|error| config_error(&format!("eventfd: {error}"), "raise RLIMIT_NOFILE"))?;
    let mode = QueueMode {
        interface: interface.name.clone(),
        queue_id: 0,
        attach: "memory",
        zero_copy: false,
        zero_copy_refusal: None,
        multi_buffer: false,
        need_wakeup: false,
        busy_poll: false,
    };
    let shared =
        Arc::new(Shared::new(vec![waker], vec![mode], interface.addresses.clone(), Box::new(NoSteering)));
    let guard = Arc::new(Guard::without_kernel_side(Arc::clone(&shared)));
    let net = NetConfig::dedicated(&interface, mac);
    let link = Link::new(pool, vec![AnyPort::Mem(port)], mtu_bytes);
    let seed =
        WorkerSeed::new(SeedParts { id: 0, cpu: config.cpus.first().copied(), link, net, guard }, &config)?;
    Ok(Engine::assemble(vec![seed], shared))
}
