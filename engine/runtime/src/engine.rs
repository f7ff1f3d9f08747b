//! The engine: from a configuration to workers, and the handle that watches and stops them.
//!
//! ```text
//! EngineBuilder::start -> attach, queues, memory -> WorkerSeed (Send) -> start() on its thread -> Worker (!Send)
//! every seed and worker holds the `Guard`; when the last is gone, the control thread closes the link first, reservations last
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use ringwire_frame::{MemPort, Pool};
use ringwire_wire::arp;

use crate::config::{Cidr, Config, Interface, PollMode, TcpOptions};
use crate::error::{SetupError, SetupErrorKind};
use crate::event::Turn;
use crate::memory;
use crate::metrics::{Metrics, Published, SteeringCounters};
use crate::wake::Waker;
use crate::worker::{Home, Worker, WorkerSeed};

/// How one queue is served: what the kernel gave, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueMode {
    /// The interface's name; `memory` for in-memory ports.
    pub interface: String,
    /// The queue.
    pub queue_id: u32,
    /// `native`, `generic`, `packet`, or `memory`.
    pub attach: &'static str,
    /// Whether the NIC reads and writes the frames itself.
    pub zero_copy: bool,
    /// Why it does not, where it was left to choose: the errno that the driver refused with.
    pub zero_copy_refusal: Option<i32>,
    /// Whether packets longer than one frame arrive as chains.
    pub multi_buffer: bool,
    /// Whether the kernel says when it needs a system call.
    pub need_wakeup: bool,
    /// Whether the worker runs the driver's poll function.
    pub busy_poll: bool,
}

/// What [`Handle::shutdown`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open at the deadline and were reset.
    pub reset: u64,
}

/// What all workers, handles and the control thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    stage: AtomicU8,
    pub(crate) workers: Vec<WorkerShared>,
    pub(crate) modes: Vec<QueueMode>,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) steering: SteeringSource,
    /// Set once, before anybody has a handle.
    tcp: OnceLock<TcpOptions>,
}

/// One worker as others see it.
#[derive(Debug)]
pub(crate) struct WorkerShared {
    pub(crate) waker: Waker,
    pub(crate) published: Published,
    /// ARP packets that came by other workers' queues.
    pub(crate) heard: ArrayQueue<arp::Packet>,
    /// Set while draining, when nothing but TIME-WAIT is left.
    is_finished: AtomicBool,
}

impl WorkerShared {
    /// The next ARP packet that another worker heard.
    #[inline]
    pub(crate) fn next_heard(&self) -> Option<arp::Packet> {
        // A look at an empty queue is cheaper than taking nothing from it, which costs a fence.
        if self.heard.is_empty() { None } else { self.heard.pop() }
    }
}

/// ARP packets that may wait for a worker; what it has no time for is lost, as on a wire, and asked for again.
const HEARD_CAPACITY: usize = 64;

/// Where the XDP program's counters are read.
pub(crate) type SteeringSource = Box<dyn SteeringStats>;

/// Reads the verdict counters; empty for in-memory ports.
pub(crate) trait SteeringStats: Send + Sync + core::fmt::Debug {
    fn counters(&self) -> SteeringCounters;
}

#[derive(Debug)]
pub(crate) struct NoSteering;

impl SteeringStats for NoSteering {
    fn counters(&self) -> SteeringCounters {
        SteeringCounters::new()
    }
}

const STAGE_RUN: u8 = 0;
const STAGE_DRAIN: u8 = 1;
const STAGE_STOP: u8 = 2;

impl Shared {
    pub(crate) fn new(
        wakers: Vec<Waker>,
        modes: Vec<QueueMode>,
        addresses: Vec<Cidr>,
        steering: SteeringSource,
    ) -> Shared {
        let worker = |waker| WorkerShared {
            waker,
            published: Published::default(),
            heard: ArrayQueue::new(HEARD_CAPACITY),
            is_finished: AtomicBool::new(false),
        };
        let workers = wakers.into_iter().map(worker).collect();
        Shared { stage: AtomicU8::new(STAGE_RUN), workers, modes, addresses, steering, tcp: OnceLock::new() }
    }

    /// Passes an ARP packet on to all workers but `from`, and says whether there are any: each has a neighbour cache of its own, and
    /// the answer to its question may come by another's queue.
    pub(crate) fn pass_on(&self, from: u8, packet: &arp::Packet) -> bool {
        let others = || self.workers.iter().enumerate().filter(|(worker, _)| *worker != usize::from(from));
        for (_, worker) in others() {
            let _ = worker.heard.push(*packet);
            worker.waker.nudge();
        }
        others().next().is_some()
    }

    pub(crate) fn turn(&self) -> Turn {
        // Relaxed: the stage stands for itself; whoever sets it wakes the workers afterwards.
        match self.stage.load(Ordering::Relaxed) {
            STAGE_RUN => Turn::Run,
            STAGE_DRAIN => Turn::Drain,
            _ => Turn::Stop,
        }
    }

    fn raise_stage(&self, stage: u8) {
        self.stage.fetch_max(stage, Ordering::Relaxed);
        for worker in &self.workers {
            worker.waker.nudge();
        }
    }

    pub(crate) fn set_finished(&self, worker: u8) {
        if let Some(worker) = self.workers.get(usize::from(worker)) {
            // Relaxed: it stands for itself.
            worker.is_finished.store(true, Ordering::Relaxed);
        }
    }

    fn is_finished(&self) -> bool {
        self.workers.iter().all(|worker| worker.is_finished.load(Ordering::Relaxed))
            || self.connections() == 0
    }

    fn connections(&self) -> u64 {
        Metrics::collect(self.workers.iter().map(|worker| &worker.published), SteeringCounters::new())
            .sum(|worker| worker.connections)
    }
}

/// Owns attachment, queues and workers until they are handed out.
#[derive(Debug)]
pub struct Engine {
    seeds: Vec<WorkerSeed>,
    handle: Handle,
}

impl Engine {
    /// Starts from the defaults.
    pub fn builder() -> EngineBuilder {
        EngineBuilder { config: Config::default() }
    }

    pub(crate) fn assemble(mut seeds: Vec<WorkerSeed>, shared: Arc<Shared>) -> Engine {
        WorkerSeed::introduce(&mut seeds);
        Engine { seeds, handle: Handle { shared } }
    }

    /// Two engines of one worker each on one in-memory wire: doc tests and unit tests, no privilege.
    ///
    /// Each side needs an [`Interface`] with an [`address`](Interface::address); the interface's name is not looked up.
    ///
    /// # Errors
    /// [`SetupErrorKind::Config`] without an address, or with more than one worker.
    pub fn memory_pair(a: EngineBuilder, b: EngineBuilder) -> Result<(Engine, Engine), SetupError> {
        let tcp = [a.config.tcp.clone(), b.config.tcp.clone()];
        let (a, b) = memory::pair(a.config, b.config)?;
        let [tcp_a, tcp_b] = tcp;
        Ok((a.with_tcp(tcp_a), b.with_tcp(tcp_b)))
    }

    fn with_tcp(self, options: TcpOptions) -> Engine {
        // Nobody else could have set it.
        let _ = self.handle.shared.tcp.set(options);
        self
    }

    /// One pinned thread per worker; `service` owns its loop. Returns when all have returned, with the first error.
    ///
    /// A panic in `service` resets that worker's connections and starts `service` again on the same worker: the engine and the other
    /// workers go on.
    pub fn run<E: Send>(self, service: impl Fn(Worker) -> Result<(), E> + Send + Sync) -> Result<(), E> {
        let service = &service;
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.seeds.into_iter().map(|seed| scope.spawn(move || serve(seed, service))).collect();
            let mut first_error = Ok(());
            for thread in threads {
                // `serve` catches the service's panics, so a join error is a panic of the engine itself: pass it on.
                let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                if first_error.is_ok() {
                    first_error = result;
                }
            }
            first_error
        })
    }

    /// Own your threads: each seed is `Send` and becomes a [`Worker`] on the thread that calls
    /// [`start`](WorkerSeed::start).
    pub fn into_workers(self) -> Vec<WorkerSeed> {
        self.seeds
    }

    /// For watching and stopping, from any thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

/// Runs one worker's service to its end, again after each panic.
fn serve<E>(seed: WorkerSeed, service: &(impl Fn(Worker) -> Result<(), E> + Sync)) -> Result<(), E> {
    let home = Home::default();
    let mut worker = seed.start_at(&home);
    loop {
        // The worker goes home when it is dropped; what unwinding leaves half done is reset there, so nothing torn is seen.
        match catch_unwind(AssertUnwindSafe(|| service(worker))) {
            Ok(result) => return result,
            Err(_panic) => match Home::revive(&home) {
                Some(revived) => worker = revived,
                None => return Ok(()),
            },
        }
    }
}

/// Watches and stops an engine. `Clone + Send + Sync`.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// What the kernel gave, per queue.
    pub fn mode(&self) -> Vec<QueueMode> {
        self.shared.modes.clone()
    }

    /// The engine's addresses.
    pub fn addresses(&self) -> Vec<Cidr> {
        self.shared.addresses.clone()
    }

    /// The options given to [`EngineBuilder::tcp`], such as those of a configuration file; otherwise the defaults. For
    /// [`Worker::listen`] and [`Worker::connect`].
    pub fn tcp_options(&self) -> TcpOptions {
        self.shared.tcp.get().cloned().unwrap_or_default()
    }

    /// A snapshot of all counters.
    pub fn metrics(&self) -> Metrics {
        let published = self.shared.workers.iter().map(|worker| &worker.published);
        Metrics::collect(published, self.shared.steering.counters())
    }

    /// Tells every worker to finish ([`Turn::Drain`]), waits until all connections have ended (TIME-WAIT is not waited for) or `deadline` is over, then stops the
    /// workers ([`Turn::Stop`]); what is left is reset.
    pub fn shutdown(&self, deadline: Duration) -> Drained {
        const LOOK_AGAIN: Duration = Duration::from_millis(5);
        self.shared.raise_stage(STAGE_DRAIN);
        let mut waited = Duration::ZERO;
        while waited < deadline && !self.shared.is_finished() {
            std::thread::sleep(LOOK_AGAIN);
            waited += LOOK_AGAIN;
        }
        let reset = if self.shared.is_finished() { 0 } else { self.shared.connections() };
        self.stop();
        Drained { reset }
    }

    /// Makes every worker's next `poll` return [`Turn::Stop`]; open connections are reset when the workers go.
    pub fn stop(&self) {
        self.shared.raise_stage(STAGE_STOP);
    }
}

/// Collects what an engine is started with; setters are named like the keys of the configuration file.
#[derive(Debug)]
pub struct EngineBuilder {
    pub(crate) config: Config,
}

impl EngineBuilder {
    /// The network interface. One per engine.
    pub fn interface(mut self, interface: Interface) -> EngineBuilder {
        self.config.interface = Some(interface);
        self
    }

    /// How packets are reached. Default: AF_XDP.
    #[cfg(any(feature = "xdp", feature = "packet"))]
    pub fn backend(mut self, backend: crate::Backend) -> EngineBuilder {
        self.config.backend = backend;
        self
    }

    /// An in-memory wire instead of any interface: `connect` gets the worker's pool and returns its end of the wire. For rigs that
    /// hand out engines with or without a kernel under them.
    #[cfg(any(feature = "xdp", feature = "packet"))]
    pub fn wire(
        mut self,
        connect: impl FnOnce(&Pool) -> std::io::Result<MemPort> + Send + Sync + 'static,
    ) -> EngineBuilder {
        self.config.wire = memory::Socket(Some(Box::new(connect)));
        self
    }

    /// Workers, each with its own thread, queues and memory. Default: one per queue, at most one per core.
    pub fn workers(mut self, count: usize) -> EngineBuilder {
        self.config.workers = Some(count);
        self
    }

    /// The cores that [`Engine::run`] pins its workers to, in order; empty: not pinned.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> EngineBuilder {
        self.config.cpus = cpus.into_iter().collect();
        self
    }

    /// The options for applications that leave them to whoever runs them: [`Handle::tcp_options`]. No socket has them by itself.
    pub fn tcp(mut self, options: TcpOptions) -> EngineBuilder {
        self.config.tcp = options;
        self
    }

    /// How workers wait.
    pub fn poll_mode(mut self, mode: PollMode) -> EngineBuilder {
        self.config.poll_mode = mode;
        self
    }

    /// Frames of packet memory per worker, a power of two from 64. Default: what fits the locked-memory limit, at most 16,384.
    pub fn frames_per_worker(mut self, frames: u32) -> EngineBuilder {
        self.config.frames_per_worker = Some(frames);
        self
    }

    /// The MTU of an in-memory wire, 68 to 1500; an interface has its own.
    pub fn mtu(mut self, mtu_bytes: u16) -> EngineBuilder {
        self.config.mtu_bytes = Some(mtu_bytes);
        self
    }

    /// Connections that one worker may hold, in any state.
    pub fn max_connections(mut self, connections: u32) -> EngineBuilder {
        self.config.max_connections = Some(connections);
        self
    }

    /// Connections that the application has closed and whose peers have not, for each worker; beyond that the oldest is reset. A quarter
    /// of [`EngineBuilder::max_connections`] if not said.
    pub fn max_orphans(mut self, connections: u32) -> EngineBuilder {
        self.config.max_orphans = Some(connections);
        self
    }

    /// Closed connections that each worker remembers for the time of TIME-WAIT, 52 bytes each; the oldest make room. Half of
    /// [`EngineBuilder::max_connections`] if not said.
    pub fn max_time_waits(mut self, connections: u32) -> EngineBuilder {
        self.config.max_time_waits = Some(connections);
        self
    }

    /// Bytes that the data of each worker's sockets may take: its frames and, once those run short, the heap. 512 MiB beside the frames
    /// if not said. What is given up on the way there is counted: `heap_bytes`, `syns_refused`, `early_shed`, `stalled_cut`,
    /// `writes_refused` of [`WorkerCounters`](crate::WorkerCounters).
    pub fn memory_ceiling_bytes(mut self, bytes_per_worker: u64) -> EngineBuilder {
        self.config.memory_ceiling_bytes = Some(bytes_per_worker);
        self
    }

    /// Local ports that may be reserved in the kernel when the interface's own addresses are shared; with others it is refused at start.
    pub fn shared_ports(mut self, ports: u32) -> EngineBuilder {
        self.config.shared_ports = Some(ports);
        self
    }

    /// The network namespace to set up in; the engine works from any thread afterwards.
    pub fn netns(mut self, netns: std::os::fd::OwnedFd) -> EngineBuilder {
        self.config.netns = Some(netns);
        self
    }

    /// The clock; for tests in virtual time.
    pub fn clock(mut self, clock: crate::clock::Clock) -> EngineBuilder {
        self.config.clock = clock;
        self
    }

    /// The key of initial sequence numbers, timestamps, ports and the socket table (RFC 6528). Default: from the kernel's random
    /// source. Two engines with one key and one clock behave the same, which is what simulations want and nobody else.
    pub fn secret(mut self, key: [u8; 16]) -> EngineBuilder {
        self.config.secret = Some(key);
        self
    }

    /// Attaches, opens the queues and makes the workers.
    ///
    /// # Errors
    /// Everything that the system may refuse, with a hint: [`SetupError`].
    #[cfg(any(feature = "xdp", feature = "packet"))]
    pub fn start(self) -> Result<Engine, SetupError> {
        let tcp = self.config.tcp.clone();
        crate::backend::start(self.config).map(|engine| engine.with_tcp(tcp))
    }

    /// One worker on an in-memory port: `connect` gets the worker's pool and returns its end of the wire.
    ///
    /// # Errors
    /// [`SetupErrorKind::Config`] without an address, or with more than one worker.
    pub fn start_on(self, connect: impl FnOnce(&Pool) -> MemPort) -> Result<Engine, SetupError> {
        let tcp = self.config.tcp.clone();
        memory::start_on(self.config, connect).map(|engine| engine.with_tcp(tcp))
    }
}

/// Keeps alive what all workers stand on; dropped by the last of them: the link is closed first, reservations go last.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) shared: Arc<Shared>,
    /// Put back before anything else, while the instances are those that were changed.
    #[cfg(feature = "xdp")]
    pub(crate) napis: Option<crate::control::netlink::PolledNapis>,
    #[cfg(feature = "xdp")]
    pub(crate) steering: Option<crate::xdp::SharedSteering>,
    #[cfg(feature = "xdp")]
    pub(crate) control: Option<crate::control::ControlThread>,
}

impl Guard {
    /// For ports that need neither program nor control thread.
    pub(crate) fn without_kernel_side(shared: Arc<Shared>) -> Guard {
        Guard {
            shared,
            #[cfg(feature = "xdp")]
            napis: None,
            #[cfg(feature = "xdp")]
            steering: None,
            #[cfg(feature = "xdp")]
            control: None,
        }
    }
}

#[cfg(feature = "xdp")]
impl Drop for Guard {
    fn drop(&mut self) {
        self.napis.take();
        if let Some(steering) = &self.steering {
            // Closes the link.
            steering.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        }
        // Gives the ports back.
        self.control.take();
    }
}

/// A fault of the configuration itself.
pub(crate) fn config_error(what: &str, hint: &str) -> SetupError {
    SetupError::new(SetupErrorKind::Config, what, hint)
}
