//! Opening a queue: bind within the contract, patiently, and read back what was given.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringwire_frame::Region;
use rustix::io::Errno;

use crate::config::{BindMode, Mode, XskConfig};
use crate::error::{BindFault, XskError};
use crate::socket::{Access, Rings, read_back};
use crate::sys;
use crate::tx_ring::TxRing;
use crate::umem::{Ledger, Umem};

/// First pause before the next attempt on a busy queue; doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(256);

/// An open queue in parts, dropped in this order: our mapping of the transmit ring, then what is bound.
pub(crate) struct Parts {
    pub(crate) tx: TxRing,
    pub(crate) bound: Bound,
    pub(crate) mode: Mode,
}

/// A bound queue, dropped in this order: the socket, then the queue's entry in the ledger.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) rings: Rings,
    _binding: Binding,
}

pub(crate) fn open(umem: &Umem, config: &XskConfig) -> Result<Parts, XskError> {
    check_rings(umem, config)?;
    let mut entries = umem.ledger().entries();
    let is_first = entries.admit(config)?;
    if is_first {
        entries.rings = Some((config.rx_ring, config.tx_ring));
    }
    let (rings, zero_copy_refusal) =
        bind(umem, config, is_first).map_err(|fault| XskError::bind(&fault, config))?;
    entries.open.push((config.interface.clone(), config.queue_id));
    let binding = Binding {
        first_fd: is_first.then(|| rings.as_fd().as_raw_fd()),
        queue: (config.interface.clone(), config.queue_id),
        ledger: Arc::clone(umem.ledger()),
        _region: umem.region().clone(),
    };
    let bound = Bound { rings, _binding: binding };
    let configured = configure(&bound.rings, config, entries.first);
    if is_first {
        entries.first = configured.as_ref().ok().map(|(_, mode)| *mode);
        entries.first_has_gone = configured.is_err();
    }
    // Dropping what is bound, as an error does now, takes the lock.
    drop(entries);
    let (tx, mut mode) = configured?;
    mode.zero_copy_refusal = zero_copy_refusal.map(Errno::raw_os_error);
    Ok(Parts { tx, bound, mode })
}

fn check_rings(umem: &Umem, config: &XskConfig) -> Result<(), XskError> {
    let XskConfig { rx_ring, tx_ring, .. } = *config;
    if !rx_ring.is_power_of_two() || !tx_ring.is_power_of_two() {
        let what = format!("a receive ring of {rx_ring} and a transmit ring of {tx_ring} slots");
        return Err(XskError::request(what, "rings are powers of two"));
    }
    let completion_ring = umem.options().completion_ring;
    if completion_ring < tx_ring {
        let what = format!("a completion ring of {completion_ring} for a transmit ring of {tx_ring} slots");
        return Err(XskError::request(what, "make the completion ring as large as the transmit ring"));
    }
    Ok(())
}

fn configure(rings: &Rings, config: &XskConfig, first: Option<Mode>) -> Result<(TxRing, Mode), XskError> {
    let failed = |step: &'static str| move |errno| XskError::socket(errno, step, config);
    let fd = rings.as_fd();
    let mut mode = read_back(fd, config, first).map_err(failed("reading XDP_OPTIONS"))?;
    match config.bind_mode {
        BindMode::ZeroCopy if !mode.zero_copy => return Err(XskError::zero_copy_refused(None, config)),
        BindMode::Copy if mode.zero_copy => {
            let what = format!("{} shares packet memory with a zero-copy queue", config.interface);
            return Err(XskError::request(what, "--bind-mode auto, or packet memory of its own"));
        }
        BindMode::Auto | BindMode::ZeroCopy | BindMode::Copy => {}
    }
    mode.kick_budget_packets = sys::raise_kick_budget(fd, config.tx_ring);
    if let Some(busy) = config.busy_poll {
        sys::prefer_busy_poll(fd, busy).map_err(failed("turning on busy polling"))?;
    }
    let tx = TxRing::map(fd, config.tx_ring).map_err(failed("mapping the transmit ring"))?;
    Ok((tx, mode))
}

/// Binds as the mode demands; with `Auto`, also says why it is not zero-copy.
fn bind(umem: &Umem, config: &XskConfig, is_first: bool) -> Result<(Rings, Option<Errno>), BindFault> {
    // Later queues of a registration inherit the mode whatever is asked; `configure` looks at what came out.
    let zero_copy_wanted = is_first && config.bind_mode != BindMode::Copy;
    let mut refusal = None;
    if zero_copy_wanted {
        match bind_patiently(umem, config, Access::ZeroCopy) {
            Ok(rings) => return Ok((rings, None)),
            Err(fault) if config.bind_mode == BindMode::Auto && is_refusal(fault.errno) => {
                refusal = Some(fault.errno);
            }
            Err(fault) => return Err(fault),
        }
    }
    let rings = bind_patiently(umem, config, Access::Copy)?;
    Ok((rings, refusal))
}

/// Whether copy mode may succeed where zero-copy met this error.
fn is_refusal(errno: Errno) -> bool {
    !matches!(errno, Errno::BUSY | Errno::NODEV | Errno::PERM | Errno::ACCESS | Errno::AFNOSUPPORT)
}

/// Tries again while the queue is busy: its last socket lets go asynchronously. A failed bind leaves the
/// registration as it was, so each attempt is on the same one.
fn bind_patiently(umem: &Umem, config: &XskConfig, access: Access) -> Result<Rings, BindFault> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let errno = match Rings::bind(umem, config, access) {
            Ok(rings) => return Ok(rings),
            Err(errno) => errno,
        };
        let waited = start.elapsed();
        if errno != Errno::BUSY || waited >= config.busy_wait {
            return Err(BindFault { errno, waited });
        }
        std::thread::sleep(pause.min(config.busy_wait - waited));
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// A queue's entry in the ledger of its memory.
struct Binding {
    /// Number of the registration's descriptor, if this queue was bound on it.
    first_fd: Option<RawFd>,
    queue: (String, u32),
    ledger: Arc<Ledger>,
    /// Keeps the registration, and so its descriptor number, until after `drop` has retired it.
    _region: Region,
}

impl Drop for Binding {
    fn drop(&mut self) {
        if let Some(number) = self.first_fd {
            // libxdp closes this descriptor with the registration, not with the socket: without this, any frame held
            // somewhere would keep the queue bound.
            // SAFETY: `_region` keeps the registration, which has the descriptor open; the socket on it was deleted
            // before this, so all that libxdp still does with the number is to ask for its ring offsets, which may
            // fail, and to close it.
            let retired = unsafe { sys::retire_fd(number) };
            debug_assert!(retired.is_ok(), "releasing a queue: {retired:?}");
        }
        let mut entries = self.ledger.entries();
        entries.first_has_gone |= self.first_fd.is_some();
        entries.open.retain(|queue| *queue != self.queue);
    }
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding").field("queue", &self.queue).field("first_fd", &self.first_fd).finish()
    }
}
