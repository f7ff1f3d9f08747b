//! From parts to a running worker, and back home after a panic.

use ringwire_proto::tcp::Pressure;
use ringwire_table::table::Table;
use ringwire_table::{PortMap, Reader};

use super::handover::{self, HandOver};
use super::net::{NetConfig, Ownership};
use super::stream::{Limits, PortUse};
use super::*;
use crate::config::Config;
use crate::engine::config_error;
use crate::error::{SetupError, SetupErrorKind};
use crate::heap::Heap;

/// Beside the frames, for each worker.
const DEFAULT_HEAP_BYTES: u64 = 512 << 20;
/// An eighth of it is the last part of the order of relief and must hold some connections' worth.
const LEAST_HEAP_BYTES: u64 = 1 << 20;

/// What the set-up hands to one worker.
pub(crate) struct SeedParts {
    pub(crate) id: u8,
    pub(crate) cpu: Option<usize>,
    pub(crate) link: Link,
    pub(crate) net: NetConfig,
    pub(crate) guard: Arc<Guard>,
}

/// A worker that is not running yet: `Send`, started on the thread that shall own it.
#[derive(Debug)]
pub struct WorkerSeed {
    id: u8,
    cpu: Option<usize>,
    link: Link,
    net: NetConfig,
    guard: Arc<Guard>,
    clock: Clock,
    poll_mode: PollMode,
    prf: Prf,
    table: Writer,
    handover: HandOver,
    limits: Limits,
    heap: Heap,
}

impl WorkerSeed {
    pub(crate) fn new(parts: SeedParts, config: &Config) -> Result<WorkerSeed, SetupError> {
        let secret = match config.secret {
            Some(secret) => secret,
            None => random_secret()?,
        };
        let prf = Prf::new(secret);
        let heap = heap(&parts.link, config.memory_ceiling_bytes)?;
        let limits = Limits {
            connections: config.max_connections() as usize,
            time_waits: config.max_time_waits() as usize,
            orphans: config.max_orphans() as usize,
        };
        // Listeners and datagram sockets live in the same table; half empty buckets keep lookups short.
        let (table, _reader) = Table::new(
            config.max_connections().saturating_add(config.max_time_waits()).saturating_add(4096),
            [prf.hash(b"table 0"), prf.hash(b"table 1")],
        );
        Ok(WorkerSeed {
            id: parts.id,
            cpu: parts.cpu,
            link: parts.link,
            net: parts.net,
            guard: parts.guard,
            clock: config.clock.clone(),
            poll_mode: config.poll_mode,
            prf,
            table,
            handover: HandOver::default(),
            limits,
            heap,
        })
    }

    /// Joins the workers of one engine, so that they can hand packets over.
    pub(crate) fn introduce(seeds: &mut [WorkerSeed]) {
        handover::introduce(seeds, &port_map(seeds.len()));
    }

    pub(super) fn id(&self) -> u8 {
        self.id
    }

    /// This worker's sockets, for the others to look at.
    pub(super) fn sockets(&self) -> Reader {
        self.table.reader().clone()
    }

    pub(super) fn handover_mut(&mut self) -> &mut HandOver {
        &mut self.handover
    }

    /// Makes the worker on this thread, pinned to its core if the engine was given cores.
    pub fn start(self) -> Worker {
        self.start_at(&Home::default())
    }

    pub(crate) fn start_at(mut self, home: &Home) -> Worker {
        if let Some(cpu) = self.cpu {
            // Refused only for a core that this process may not use: then the scheduler chooses, as without `cpus`.
            core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
        }
        self.link.pool.adopt();
        if let (Some(control), Ownership::Shared) = (&self.net.control, self.net.ownership) {
            self.link.set_kernel(control.link.clone());
        }
        self.link.refill();
        let now = self.clock.now();
        let waker = match self.guard.shared.workers.get(usize::from(self.id)) {
            Some(worker) => worker.waker.clone(),
            None => unreachable!("the engine makes one shared entry per seed"),
        };
        if self.poll_mode != PollMode::Busy {
            self.link.watch(&waker);
        }
        let ports = PortUse::new(port_map(self.guard.shared.workers.len()).allocator(self.id));
        let io = Io {
            now,
            link: self.link,
            net: Net::new(self.net, now, &self.prf),
            table: self.table,
            handover: self.handover,
            counters: Counters::default(),
            ready: VecDeque::new(),
            prf: self.prf,
            heap: self.heap,
            pressure: Pressure::None,
        };
        let core = Core {
            id: self.id,
            clock: self.clock,
            poll_mode: self.poll_mode,
            io,
            streams: Streams::new(self.id, &self.limits, now, ports),
            datagrams: Datagrams::new(self.id),
            batch: RxBatch::default(),
            is_kick_pending: false,
            moved: (0, now),
            port_stats_due: now,
            published_at: now,
            idle_since: None,
            last_turn: Turn::Run,
            finished_to: 0,
            waker,
            guard: self.guard,
        };
        Worker::new(Box::new(core), home)
    }
}

/// What the ceiling leaves beside the frames.
fn heap(link: &Link, ceiling_bytes: Option<u64>) -> Result<Heap, SetupError> {
    let Some(ceiling_bytes) = ceiling_bytes else { return Ok(Heap::new(DEFAULT_HEAP_BYTES)) };
    let frames_bytes = link.pool.geometry().region_bytes() as u64;
    let least_bytes = frames_bytes + LEAST_HEAP_BYTES;
    if ceiling_bytes < least_bytes {
        let what = format!(
            "a memory ceiling of {ceiling_bytes} bytes leaves too little beside the frames of a worker"
        );
        return Err(config_error(&what, &format!("{least_bytes} bytes or more, or fewer frames")));
    }
    Ok(Heap::new(ceiling_bytes - frames_bytes))
}

/// Which worker opens connections from which port.
fn port_map(workers: usize) -> PortMap {
    // Engines have at most 255 workers (`xdp::Plan`).
    PortMap::split(net::DYNAMIC_PORTS, u8::try_from(workers).unwrap_or(u8::MAX))
}

pub(crate) fn random_secret() -> Result<[u8; 16], SetupError> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| {
        let what = format!("cannot get random bytes from the kernel: {error}");
        SetupError::new(SetupErrorKind::System, what, "allow the syscall getrandom(2)")
            .with_errno(error.raw_os_error())
    })?;
    Ok(secret)
}

/// Where a worker's core goes when its handle is dropped, so that a service that panicked can start again on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Home {
    core: Rc<RefCell<Option<Box<Core>>>>,
}

impl Home {
    pub(super) fn keep(&self, core: Box<Core>) {
        if std::thread::panicking() {
            *self.core.borrow_mut() = Some(core);
        }
    }

    /// The worker whose service panicked, with all its connections reset.
    pub(crate) fn revive(home: &Home) -> Option<Worker> {
        let core = home.core.borrow_mut().take()?;
        Some(Worker::new(core, home))
    }
}
