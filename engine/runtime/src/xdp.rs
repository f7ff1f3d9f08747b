//! Set-up over AF_XDP: interface, program, packet memory, queues, control thread; each refusal with what to do.
//!
//! ```text
//! look at the interface -> attach the program -> per worker: register memory, open its queues, put them in the XSKMAP
//!   -> dedicated: hand the addresses to the program | shared: start the control thread, which reserves and steers ports
//! ```

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringwire_bpf::{
    AttachConfig, AttachMode as SteerAttach, Mode as SteerMode, Ownership as Owned, SteerError, Steering,
};
use ringwire_frame::{Floors, Geometry, Pool};
use ringwire_wire::eth::Mac;
use ringwire_xsk::{
    BindMode as XskBind, BusyPoll as XskBusyPoll, Umem, UmemOptions, XskConfig, XskError, XskPort,
};

use crate::config::{AttachMode, BindMode, BusyPoll, Cidr, Config, Interface, NeedWakeup};
use crate::control::netlink::{self, Netlink, PolledNapis};
use crate::control::{self, ControlThread};
use crate::control_link;
use crate::engine::{Engine, Guard, QueueMode, Shared, SteeringStats, config_error};
use crate::error::{SetupError, SetupErrorKind};
use crate::interface;
pub(crate) use crate::interface::system;
use crate::metrics::SteeringCounters;
use crate::wake::Waker;
use crate::worker::link::{AnyPort, Link};
use crate::worker::net::{Control, NetConfig, Ownership, Route};
use crate::worker::{SeedParts, WorkerSeed, random_secret};

/// What XDP keeps free in front of a received packet (`XDP_PACKET_HEADROOM`).
const XDP_HEADROOM_BYTES: u32 = 256;
/// Ethernet header and two VLAN tags.
const LINK_HEADER_BYTES: u32 = 22;
const SMALL_FRAME_BYTES: u32 = 2048;
const LARGE_FRAME_BYTES: u32 = 4096;
/// Measured best of 512 to 2048 over veth, 32 in flight.
const FILL_FRAMES: u32 = 1024;
const FRAMES_PER_QUEUE: u32 = 4096;
const MAX_FRAMES: u32 = 65_536;
/// Without `frames_per_worker` the memory may shrink to this to fit RLIMIT_MEMLOCK.
const MIN_AUTO_FRAMES: u32 = 1024;
/// Addresses of one interface that can be steered; each takes 128 KiB of port map.
const MAX_ADDRESSES: u32 = 16;
/// What the kernel allows without privilege: a receive batch.
const BUSY_POLL_BUDGET_PACKETS: u32 = 64;
/// The port never blocks; the kernel takes anything above zero for "on".
const BUSY_POLL_SPIN_US: u32 = 20;
/// Some drivers take the link down while a program is attached (design 9.6).
const CARRIER_LIMIT: Duration = Duration::from_secs(10);

/// The steering program, shared by the guard, the control thread and the metrics; `None` once it is detached.
pub(crate) type SharedSteering = Arc<Mutex<Option<Steering>>>;

/// Starts in the calling thread's network namespace.
pub(crate) fn set_up(config: &Config) -> Result<Engine, SetupError> {
    let interface = interface::named(config)?;
    let mut netlink = Netlink::open().map_err(|error| system("cannot open a netlink socket", &error))?;
    let link = interface::find_link(&mut netlink, interface)?;
    let queues = choose_queues(interface, &link)?;
    let addresses = interface::choose_addresses(&mut netlink, interface, &link)?;
    let plan = Plan::new(config, interface, &link, queues)?;
    let mut steering = Steering::attach(&plan.attach_config()).map_err(steer_error)?;
    wait_for_carrier(&mut netlink, &link)?;
    let (links, modes) = open_workers(&plan, &steering)?;
    let napis = match interface.busy_poll {
        BusyPoll::Off => None,
        BusyPoll::Preferred => Some(tune_napis(&link)?),
    };
    let wakers: Vec<Waker> = links
        .iter()
        .map(|_| Waker::new())
        .collect::<Result<_, _>>()
        .map_err(|error| system("eventfd", &error))?;
    let is_dedicated = !interface.addresses.is_empty();
    if is_dedicated {
        for cidr in &addresses {
            steering.add_address(IpAddr::V4(cidr.address), Owned::Dedicated).map_err(steer_error)?;
        }
    }
    let steering: SharedSteering = Arc::new(Mutex::new(Some(steering)));
    let stats = Box::new(SteeringView(Arc::downgrade(&steering)));
    let shared = Arc::new(Shared::new(wakers.clone(), modes, addresses.clone(), stats));
    let kernel = KernelSide {
        link: &link,
        addresses: &addresses,
        ownership: if is_dedicated { Owned::Dedicated } else { Owned::Shared },
        steering: &steering,
        wakers: &wakers,
        shared_ports: config.shared_ports.unwrap_or(control::DEFAULT_SHARED_PORTS),
    };
    let started = kernel.start(netlink)?;
    let net = NetConfig { addresses, ..NetConfig::dedicated(interface, Mac(link.mac)) };
    let nets = started.controls.into_iter().map(|control| {
        let net = NetConfig { control: Some(control), ..net.clone() };
        if is_dedicated {
            return net;
        }
        NetConfig { ownership: Ownership::Shared, routes: started.routes.clone(), ..net }
    });
    let guard = Arc::new(Guard {
        shared: Arc::clone(&shared),
        napis,
        steering: Some(steering),
        control: Some(started.thread),
    });
    let seeds = links.into_iter().zip(nets).zip(0_u8..).map(|((link, net), id)| {
        let cpu = config.cpus.get(usize::from(id)).copied();
        WorkerSeed::new(SeedParts { id, cpu, link, net, guard: Arc::clone(&guard) }, config)
    });
    Ok(Engine::assemble(seeds.collect::<Result<_, _>>()?, shared))
}

/// Memory and queues of all workers.
fn open_workers(plan: &Plan<'_>, steering: &Steering) -> Result<(Vec<Link>, Vec<QueueMode>), SetupError> {
    let attach = match steering.mode() {
        Some(SteerMode::Native) => "native",
        Some(SteerMode::Generic) | None => "generic",
    };
    let mut modes = Vec::new();
    let links = (0..plan.workers).map(|worker| open_worker(plan, worker, attach, steering, &mut modes));
    Ok((links.collect::<Result<_, _>>()?, modes))
}

/// The queues to own. RSS spreads over all of them, and what lands elsewhere finds no socket, so all must be owned (design 3).
fn choose_queues(interface: &Interface, link: &netlink::Link) -> Result<Vec<u32>, SetupError> {
    let all = link.rx_queues.max(1);
    if link.tx_queues < all {
        return Err(SetupError::new(
            SetupErrorKind::Interface,
            format!("{} receives on {all} queues but sends on {}", link.name, link.tx_queues),
            format!("ethtool -L {} rx {} tx {}", link.name, link.tx_queues, link.tx_queues),
        ));
    }
    let Some(wanted) = &interface.queues else { return Ok((0..all).collect()) };
    if let Some(beyond) = wanted.iter().find(|queue| **queue >= all) {
        return Err(SetupError::new(
            SetupErrorKind::Interface,
            format!("{} has no queue {beyond}: it has {all}", link.name),
            format!("queues 0 to {}", all - 1),
        ));
    }
    if (0..link.rx_queues).any(|queue| !wanted.contains(&queue)) {
        return Err(SetupError::new(
            SetupErrorKind::Interface,
            format!(
                "{} of {} queues owned, but RSS spreads packets over all {}",
                wanted.len(),
                link.rx_queues,
                link.rx_queues
            ),
            format!("own all queues, or: ethtool -L {} combined {}", link.name, wanted.len()),
        ));
    }
    Ok(wanted.clone())
}

/// What is decided before anything is touched.
struct Plan<'a> {
    interface: &'a Interface,
    link: &'a netlink::Link,
    queues: Vec<u32>,
    workers: usize,
    geometry: Geometry,
    is_frame_count_fixed: bool,
    multi_buffer: bool,
}

impl<'a> Plan<'a> {
    fn new(
        config: &Config,
        interface: &'a Interface,
        link: &'a netlink::Link,
        queues: Vec<u32>,
    ) -> Result<Plan<'a>, SetupError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = config.workers.unwrap_or(queues.len().min(cores));
        if workers == 0 || workers > queues.len() || workers > usize::from(u8::MAX) {
            return Err(config_error(
                &format!("{workers} workers cannot share {} queues of {}", queues.len(), link.name),
                &format!("1 to {} workers", queues.len().min(usize::from(u8::MAX))),
            ));
        }
        let packet_bytes = link.mtu + LINK_HEADER_BYTES + XDP_HEADROOM_BYTES;
        let frame_bytes =
            if packet_bytes <= SMALL_FRAME_BYTES { SMALL_FRAME_BYTES } else { LARGE_FRAME_BYTES };
        let queues_each = u32::try_from(queues.len().div_ceil(workers)).unwrap_or(u32::MAX);
        let auto_frames = FRAMES_PER_QUEUE.saturating_mul(queues_each).next_power_of_two().min(MAX_FRAMES);
        let frame_count = config.frames_per_worker.unwrap_or(auto_frames);
        if frame_count < 64 || !frame_count.is_power_of_two() {
            return Err(config_error("frames per worker must be a power of two from 64", "--frames 4096"));
        }
        Ok(Plan {
            interface,
            link,
            queues,
            workers,
            geometry: Geometry { frame_bytes, frame_count },
            is_frame_count_fixed: config.frames_per_worker.is_some(),
            multi_buffer: packet_bytes > frame_bytes,
        })
    }

    fn attach_config(&self) -> AttachConfig {
        AttachConfig {
            ifindex: self.link.index,
            ifname: self.link.name.clone(),
            mac: self.link.mac,
            attach_mode: match self.interface.attach_mode {
                AttachMode::Auto => SteerAttach::Auto,
                AttachMode::Native => SteerAttach::Native,
                AttachMode::Generic => SteerAttach::Generic,
            },
            frags: self.multi_buffer,
            max_queues: self.link.rx_queues.max(1),
            engine_slot: 0,
            max_addresses: MAX_ADDRESSES,
        }
    }

    /// Queues of the worker that has most.
    fn queues_each(&self) -> u32 {
        u32::try_from(self.queues.len().div_ceil(self.workers)).unwrap_or(u32::MAX)
    }

    fn queues_of(&self, worker: usize) -> impl Iterator<Item = u32> + '_ {
        self.queues.iter().copied().skip(worker).step_by(self.workers)
    }

    fn xsk_config(&self, queue_id: u32, frame_count: u32) -> XskConfig {
        let bind_mode = match self.interface.bind_mode {
            BindMode::Auto => XskBind::Auto,
            BindMode::ZeroCopy => XskBind::ZeroCopy,
            BindMode::Copy => XskBind::Copy,
        };
        let ring = (frame_count / 2).clamp(64, 2048);
        XskConfig {
            bind_mode,
            rx_ring: ring,
            tx_ring: ring,
            multi_buffer: self.multi_buffer,
            need_wakeup: self.interface.need_wakeup == NeedWakeup::On,
            busy_poll: (self.interface.busy_poll == BusyPoll::Preferred).then_some(XskBusyPoll {
                budget_packets: BUSY_POLL_BUDGET_PACKETS,
                spin_us: BUSY_POLL_SPIN_US,
            }),
            // Frames are used in turn, so more of them than bursts need only fall out of the cache; a worker's queues share the
            // pool's receive floor, half of its frames.
            fill_frames: ring.min(FILL_FRAMES).min((frame_count / 2 / self.queues_each()).max(16)),
            ..XskConfig::new(self.link.name.clone(), queue_id)
        }
    }
}

/// Memory and queues of one worker, its sockets in the XSKMAP.
fn open_worker(
    plan: &Plan<'_>,
    worker: usize,
    attach: &'static str,
    steering: &Steering,
    modes: &mut Vec<QueueMode>,
) -> Result<Link, SetupError> {
    let (umem, region, geometry) = register(plan)?;
    let mut ports = Vec::new();
    for queue_id in plan.queues_of(worker) {
        let port =
            XskPort::open(&umem, &plan.xsk_config(queue_id, geometry.frame_count)).map_err(xsk_error)?;
        steering.set_socket(queue_id, port.as_fd()).map_err(steer_error)?;
        let mode = port.mode();
        modes.push(QueueMode {
            interface: plan.link.name.clone(),
            queue_id,
            attach,
            zero_copy: mode.zero_copy,
            zero_copy_refusal: mode.zero_copy_refusal,
            multi_buffer: mode.multi_buffer,
            need_wakeup: mode.need_wakeup,
            busy_poll: plan.interface.busy_poll == BusyPoll::Preferred,
        });
        ports.push(AnyPort::Xsk(Box::new(port)));
    }
    let pool = Pool::new(region, geometry, Floors::for_frames(geometry.frame_count));
    Ok(Link::new(pool, ports, plan.link.mtu as usize))
}

/// Packet memory; shrinks to fit RLIMIT_MEMLOCK unless its size was asked for.
fn register(plan: &Plan<'_>) -> Result<(Umem, ringwire_frame::Region, Geometry), SetupError> {
    let mut geometry = plan.geometry;
    loop {
        let ring = geometry.frame_count.clamp(64, 4096);
        let options = UmemOptions { fill_ring: ring, completion_ring: ring, ..UmemOptions::default() };
        match Umem::register(geometry, options) {
            Ok((umem, region)) => return Ok((umem, region, geometry)),
            Err(error)
                if is_memlock(&error)
                    && !plan.is_frame_count_fixed
                    && geometry.frame_count > MIN_AUTO_FRAMES =>
            {
                geometry.frame_count /= 2;
            }
            Err(error) => return Err(xsk_error(error)),
        }
    }
}

/// Interrupts wait for the workers, which poll.
fn tune_napis(link: &netlink::Link) -> Result<PolledNapis, SetupError> {
    PolledNapis::tune(link.index).map_err(|error| {
        SetupError::new(
            SetupErrorKind::Unsupported,
            format!("cannot defer the interrupts of {} for busy polling: {error}", link.name),
            "needs Linux 6.13 and a driver with NAPI settings per queue; leave --busy-poll off",
        )
        .with_errno(error.raw_os_error())
    })
}

fn wait_for_carrier(netlink: &mut Netlink, link: &netlink::Link) -> Result<(), SetupError> {
    const LOOK_AGAIN: Duration = Duration::from_millis(10);
    if !link.has_carrier {
        // It had none before we came: not our doing, and it may come later.
        return Ok(());
    }
    let mut waited = Duration::ZERO;
    while waited < CARRIER_LIMIT {
        if netlink.link_by_index(link.index).is_ok_and(|link| link.has_carrier) {
            return Ok(());
        }
        std::thread::sleep(LOOK_AGAIN);
        waited += LOOK_AGAIN;
    }
    Err(SetupError::new(
        SetupErrorKind::Interface,
        format!(
            "{} lost its carrier when the XDP program was attached and did not get it back in 10 s",
            link.name
        ),
        "look at the driver's messages in dmesg; another attach mode may help",
    ))
}

/// What the control thread is made from.
struct KernelSide<'a> {
    link: &'a netlink::Link,
    addresses: &'a [Cidr],
    ownership: Owned,
    steering: &'a SharedSteering,
    wakers: &'a [Waker],
    shared_ports: u32,
}

/// The running control thread, each worker's link to it, and the kernel's routes.
struct StartedControl {
    thread: ControlThread,
    controls: Vec<Control>,
    routes: Vec<Route>,
}

impl KernelSide<'_> {
    fn start(self, netlink: Netlink) -> Result<StartedControl, SetupError> {
        let waker = Waker::new().map_err(|error| system("eventfd", &error))?;
        let (links, workers): (Vec<_>, Vec<_>) =
            self.wakers.iter().map(|worker| control_link::pair(worker.clone(), waker.clone())).unzip();
        let kernel_mac = kernel_mac()?;
        let (thread, routes) = ControlThread::start(control::Parts {
            netlink,
            ifindex: self.link.index,
            mac: Mac(self.link.mac),
            kernel_mac,
            ownership: self.ownership,
            addresses: self.addresses.to_vec(),
            steering: Arc::clone(self.steering),
            workers,
            waker,
            shared_ports: self.shared_ports,
        })?;
        let controls = links.into_iter().map(|link| Control { link, kernel_mac }).collect();
        Ok(StartedControl { thread, controls, routes })
    }
}

/// Names the kernel of this host to workers: local clients may send from our own address, and nobody on the wire may pretend to be one,
/// so it is not to be guessed.
fn kernel_mac() -> Result<Mac, SetupError> {
    let [first, b, c, d, e, f, ..] = random_secret()?;
    // Locally administered, unicast.
    Ok(Mac([first & 0xfc | 0x02, b, c, d, e, f]))
}

/// Reads the program's counters while it is attached.
#[derive(Debug)]
struct SteeringView(std::sync::Weak<Mutex<Option<Steering>>>);

impl SteeringStats for SteeringView {
    fn counters(&self) -> SteeringCounters {
        let Some(steering) = self.0.upgrade() else { return SteeringCounters::new() };
        let steering = steering.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = steering.as_ref().and_then(|steering| steering.counters().ok());
        counters
            .map(|counters| counters.iter().map(|(verdict, count)| (verdict.name(), count)).collect())
            .unwrap_or_default()
    }
}

pub(crate) fn steer_error(error: SteerError) -> SetupError {
    let kind = match error.errno.map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => SetupErrorKind::Capability,
        Some(rustix::io::Errno::BUSY | rustix::io::Errno::EXIST) => SetupErrorKind::Incumbent,
        Some(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => SetupErrorKind::Unsupported,
        Some(_) => SetupErrorKind::Interface,
        None => SetupErrorKind::System,
    };
    SetupError::new(kind, error.what, error.hint).with_errno(error.errno)
}

/// Registering beyond RLIMIT_MEMLOCK is ENOBUFS (design 9.8).
fn is_memlock(error: &XskError) -> bool {
    error.errno == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

fn xsk_error(error: XskError) -> SetupError {
    let kind = match error.errno.map(rustix::io::Errno::from_raw_os_error) {
        _ if is_memlock(&error) => SetupErrorKind::Memlock,
        Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => SetupErrorKind::Capability,
        Some(rustix::io::Errno::BUSY) => SetupErrorKind::QueueBusy,
        Some(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::AFNOSUPPORT) => SetupErrorKind::Unsupported,
        Some(_) => SetupErrorKind::Interface,
        None => SetupErrorKind::System,
    };
    SetupError::new(kind, error.what, error.hint).with_errno(error.errno)
}
