//! Packet memory and its registration.

use std::num::NonZeroU32;
use std::ptr::{NonNull, with_exposed_provenance_mut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringwire_frame::{Geometry, Region};
use rustix::io::Errno;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::umem::frame::FrameDesc;

use crate::config::{HugePages, Mode, UmemOptions, XskConfig};
use crate::error::XskError;

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Packet memory registered with the kernel: one per worker, shared by its queues.
///
/// Made in the network namespace of the calling thread, where its queues must be opened too. May be dropped at any
/// time: ports and frames keep what they need. The memory goes with the last handle of the [`Region`], the kernel's
/// hold on a queue with its port.
#[derive(Debug)]
pub struct Umem {
    registered: xsk_rs::Umem,
    frames: Arc<[FrameDesc]>,
    region: Region,
    geometry: Geometry,
    options: UmemOptions,
    huge_pages: bool,
    ledger: Arc<Ledger>,
}

impl Umem {
    /// Maps and registers memory for `geometry`; the region is for the one pool over it.
    ///
    /// # Errors
    /// No capability, no AF_XDP in the kernel, RLIMIT_MEMLOCK, memory, or sizes the kernel does not take.
    pub fn register(geometry: Geometry, options: UmemOptions) -> Result<(Umem, Region), XskError> {
        let layout = Layout::new(geometry, &options)?;
        let (registered, descs, huge_pages) = match options.huge_pages {
            HugePages::Never => layout.register(false)?,
            HugePages::Require => layout.register(true)?,
            HugePages::Prefer => match layout.register(true) {
                Err(error) if error.errno == Some(libc::ENOMEM) => layout.register(false)?,
                other => other?,
            },
        };
        let base = base_of(&registered, &descs).ok_or_else(|| layout.refused(Errno::FAULT, huge_pages))?;
        // SAFETY: the memory is mapped by xsk-rs until the last clone of `registered` is gone, is zeroed by the
        // kernel, and is reached through nothing but this region: no xsk-rs accessor of frames is called.
        let region = unsafe { Region::from_raw(base, geometry.region_bytes(), Box::new(registered.clone())) };
        let ledger = Arc::default();
        let umem = Umem {
            registered,
            frames: descs.into(),
            region: region.clone(),
            geometry,
            options,
            huge_pages,
            ledger,
        };
        Ok((umem, region))
    }

    /// How the memory is cut.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether the memory is in 2 MiB pages.
    pub fn is_huge(&self) -> bool {
        self.huge_pages
    }

    pub(crate) fn registered(&self) -> &xsk_rs::Umem {
        &self.registered
    }

    pub(crate) fn frames(&self) -> Arc<[FrameDesc]> {
        Arc::clone(&self.frames)
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn options(&self) -> &UmemOptions {
        &self.options
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}

/// What is asked of xsk-rs.
struct Layout {
    geometry: Geometry,
    config: UmemConfig,
}

impl Layout {
    fn new(geometry: Geometry, options: &UmemOptions) -> Result<Layout, XskError> {
        let invalid =
            |what: String| XskError::request(what, "rings are powers of two, frames 2048 or 4096 bytes");
        if !geometry.is_valid() {
            return Err(invalid(format!(
                "{} frames of {} bytes cannot be registered",
                geometry.frame_count, geometry.frame_bytes
            )));
        }
        let ring = |slots| QueueSize::new(slots).map_err(|error| invalid(error.to_string()));
        let frame = FrameSize::new(geometry.frame_bytes).map_err(|error| invalid(error.to_string()))?;
        let mut config = UmemConfig::builder();
        config.frame_size(frame).fill_queue_size(ring(options.fill_ring)?);
        config.comp_queue_size(ring(options.completion_ring)?);
        let config = config.build().map_err(|error| invalid(error.to_string()))?;
        Ok(Layout { geometry, config })
    }

    /// Frames to map: with huge pages whole pages, because the kernel unmaps nothing less.
    fn frame_count(&self, huge_pages: bool) -> Option<NonZeroU32> {
        let bytes = self.geometry.region_bytes();
        let bytes = if huge_pages { bytes.next_multiple_of(HUGE_PAGE_BYTES) } else { bytes };
        NonZeroU32::new(u32::try_from(bytes / self.geometry.frame_bytes as usize).ok()?)
    }

    fn register(&self, huge_pages: bool) -> Result<(xsk_rs::Umem, Vec<FrameDesc>, bool), XskError> {
        let count = self.frame_count(huge_pages).ok_or_else(|| self.refused(Errno::INVAL, huge_pages))?;
        match xsk_rs::Umem::new(self.config, count, huge_pages) {
            Ok((umem, descs)) => Ok((umem, descs, huge_pages)),
            Err(error) => Err(self.refused(errno_of(&error), huge_pages)),
        }
    }

    fn refused(&self, errno: Errno, huge_pages: bool) -> XskError {
        XskError::register(errno, self.geometry.region_bytes(), self.geometry.frame_bytes, huge_pages)
    }
}

/// First byte of the mapping, which xsk-rs shows only through its frames.
fn base_of(umem: &xsk_rs::Umem, descs: &[FrameDesc]) -> Option<NonNull<u8>> {
    let first = descs.first()?;
    // SAFETY: the descriptor is this memory's first, fresh, so its data is the empty slice, and nobody uses it yet.
    let data = unsafe { umem.data(first) };
    let base = data.contents().as_ptr().addr() - first.addr();
    // The mapping came from mmap in C, whose provenance is exposed; the slice's own covers no byte.
    NonNull::new(with_exposed_provenance_mut(base))
}

/// The errno inside an xsk-rs error, which offers it only as its source.
pub(crate) fn errno_of(error: &dyn std::error::Error) -> Errno {
    let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    source.and_then(Errno::from_io_error).unwrap_or(Errno::IO)
}

/// Which queues share the memory. libxdp binds the first queue on the registration's own descriptor and lets later
/// ones refer to it, so the first decides rings and mode, and when it has gone nothing more can join.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// Ring sizes of the first attempt: libxdp sets them once and maps by what the later call says.
    pub(crate) rings: Option<(u32, u32)>,
    /// Mode of the first queue, which later ones inherit.
    pub(crate) first: Option<Mode>,
    pub(crate) first_has_gone: bool,
    /// Queues now open.
    pub(crate) open: Vec<(String, u32)>,
}

impl Ledger {
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        // Every update is one field: a poisoned lock guards consistent entries.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Refuses what libxdp would take and get wrong; `Ok` says whether this is the first queue.
    pub(crate) fn admit(&self, config: &XskConfig) -> Result<bool, XskError> {
        let anew = "register packet memory anew for it";
        let (interface, queue) = (config.interface.as_str(), config.queue_id);
        if self.first_has_gone {
            return Err(XskError::request(
                "the first queue of this packet memory was closed: no other can join",
                anew,
            ));
        }
        if self.open.iter().any(|(name, id)| name == interface && *id == queue) {
            let what = format!("queue {queue} of {interface} is open on this packet memory already");
            return Err(XskError::request(what, "one port per queue"));
        }
        let Some(first) = self.first else {
            return match self.rings {
                Some(rings) if rings != (config.rx_ring, config.tx_ring) => Err(XskError::request(
                    format!("ring sizes differ from those first tried on this packet memory, {rings:?}"),
                    anew,
                )),
                _ => Ok(true),
            };
        };
        if config.multi_buffer && !first.multi_buffer {
            let what =
                format!("queue {queue} of {interface} cannot have multi-buffer: the first queue has none");
            return Err(XskError::request(what, "ask for it on every queue of one packet memory"));
        }
        Ok(false)
    }
}
