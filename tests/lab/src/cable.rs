//! What is between the two ends of a link: nothing but a veth pair, or a forwarder.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringwire_frame::{MemPort, Plug};

use crate::capture::{self, Capture};
use crate::error::{LabError, Step};
use crate::forward::{Forwarder, Lateness, Parts, Request, Wire, new_pool, ring_slots};
use crate::impair::{Counters, Impairment};
use crate::injector::Injector;
use crate::link::End;
use crate::node::Place;

/// Frames of a forwarder: some 0.4 s of 1 Gbit/s in packets of 1,500 bytes.
const FRAMES: u32 = 32_768;
/// Of a cable in memory.
const RING_FRAMES: u32 = 1024;

#[derive(Debug)]
pub(crate) enum Cable {
    /// The programs by the end towards which packets travel; made when first asked for.
    Direct([Mutex<Option<Injector>>; 2]),
    Forwarded(Box<Forwarded>),
}

/// What a link's packets are carried by, from the best downwards where nobody asks for one: see
/// [`LinkBuilder::packet_layer`](crate::LinkBuilder::packet_layer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketLayer {
    /// A forwarder over AF_PACKET.
    Packet,
    /// A forwarder over AF_XDP in copy mode (feature `xdp`, BPF).
    Xdp,
    /// A forwarder between ports in memory: there are no interfaces.
    Memory,
    /// Nothing: the ends are one veth pair.
    Direct,
}

/// A forwarder, and what is said about it when a test fails.
#[derive(Debug)]
pub(crate) struct Forwarded {
    forwarder: Arc<Forwarder>,
    names: [String; 2],
    layer: PacketLayer,
    /// Why it is not the layer that was asked for.
    refusal: Option<LabError>,
    impairments: Mutex<[Impairment; 2]>,
    /// What the senders' kernels had dropped when the impairments were set, by the end towards which packets travel.
    uncarried_before: Mutex<[u64; 2]>,
    /// What is free at the ends of a cable in memory.
    plugs: Option<[Mutex<Option<Plug>>; 2]>,
}

/// What the forwarder must know of its link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) mtu_bytes: u32,
    pub(crate) queues: u32,
    pub(crate) layer: PacketLayer,
}

/// A forwarder's wires, and what they are.
struct Carried {
    parts: Parts,
    layer: PacketLayer,
    refusal: Option<LabError>,
}

impl Cable {
    pub(crate) fn direct() -> Cable {
        Cable::Direct(Default::default())
    }

    /// A forwarder between `far`, the other ends of the interfaces of `near`.
    pub(crate) fn forwarded(near: [&End; 2], far: [&End; 2], shape: Shape) -> Result<Cable, LabError> {
        let names = near.map(|end| end.node.name().to_owned());
        let refusal = match shape.layer {
            PacketLayer::Xdp => match open_xdp(far, shape) {
                Ok(parts) => {
                    return Cable::with_wires(names, Carried { parts, layer: shape.layer, refusal: None });
                }
                Err(refusal) => Some(refusal),
            },
            PacketLayer::Packet | PacketLayer::Memory | PacketLayer::Direct => None,
        };
        let pool = new_pool(shape.mtu_bytes, FRAMES);
        let slots = Some(ring_slots(shape.mtu_bytes));
        // The queueing layer spreads flows over queues.
        let open = |end| Wire::packet(end, shape.mtu_bytes, shape.queues == 1, slots, &pool);
        let wires = [open(far[0])?, open(far[1])?];
        let parts = Parts { pool, wires };
        Cable::with_wires(names, Carried { parts, layer: PacketLayer::Packet, refusal })
    }

    /// A forwarder whose ends are plugged in later.
    pub(crate) fn memory(names: [String; 2], mtu_bytes: u32) -> Result<Cable, LabError> {
        let pool = new_pool(mtu_bytes, FRAMES);
        let plugs = [Plug::new(&pool), Plug::new(&pool)].map(|plug| Mutex::new(Some(plug)));
        let parts = Parts { pool, wires: [Wire::Open, Wire::Open] };
        let cable = Cable::with_wires(names, Carried { parts, layer: PacketLayer::Memory, refusal: None })?;
        if let Cable::Forwarded(mut cable) = cable {
            cable.plugs = Some(plugs);
            return Ok(Cable::Forwarded(cable));
        }
        Ok(cable)
    }

    /// One end of a cable in memory; of another it refuses every plug.
    pub(crate) fn socket(&self, node: &str, side: usize) -> MemorySocket {
        let plugged = match self {
            Cable::Forwarded(cable) => {
                let plug = cable.plugs.as_ref().and_then(|plugs| lock(&plugs[side]).take());
                plug.map(|plug| (Arc::clone(&cable.forwarder), plug))
            }
            Cable::Direct(_) => None,
        };
        MemorySocket { node: node.to_owned(), side, plugged }
    }

    fn with_wires([a, b]: [String; 2], carried: Carried) -> Result<Cable, LabError> {
        let Carried { parts, layer, refusal } = carried;
        let forwarder = Forwarder::start("ringwire-cable", parts)
            .step(|| format!("cannot start the forwarder between '{a}' and '{b}'"))?;
        let names = [format!("{a} to {b}"), format!("{b} to {a}")];
        Ok(Cable::Forwarded(Box::new(Forwarded {
            forwarder: Arc::new(forwarder),
            names,
            layer,
            refusal,
            impairments: Mutex::default(),
            uncarried_before: Mutex::default(),
            plugs: None,
        })))
    }

    pub(crate) fn layer(&self) -> PacketLayer {
        match self {
            Cable::Direct(_) => PacketLayer::Direct,
            Cable::Forwarded(cable) => cable.layer,
        }
    }

    pub(crate) fn layer_refusal(&self) -> Option<&LabError> {
        match self {
            Cable::Direct(_) => None,
            Cable::Forwarded(cable) => cable.refusal.as_ref(),
        }
    }

    pub(crate) fn impair(&self, ends: &[End; 2], to: usize, impairment: Impairment) -> Result<(), LabError> {
        let what = || format!("cannot impair the link towards node '{}'", ends[to].node.name());
        match self {
            Cable::Forwarded(cable) => {
                lock(&cable.impairments)[to] = impairment;
                lock(&cable.uncarried_before)[to] = uncarried(&ends[1 - to]).step(what)?;
                cable.forwarder.ask(|done| Request::Impair(to, impairment, done)).step(what)
            }
            Cable::Direct(_) if !impairment.is_only_loss() => Err(LabError::misuse(
                format!("{}: it is direct and can only lose packets", what()),
                "leave .direct() out when the link is made",
            )),
            Cable::Direct(injectors) => {
                let mut slot = lock(&injectors[to]);
                if let Some(injector) = &*slot {
                    return injector.set(impairment).step(what);
                }
                *slot = Some(Injector::attach(&ends[1 - to], &ends[to], impairment).step(what)?);
                Ok(())
            }
        }
    }

    pub(crate) fn counters(&self, ends: &[End; 2], to: usize) -> io::Result<Counters> {
        match self {
            Cable::Forwarded(cable) => {
                let uncarried = uncarried(&ends[1 - to])?;
                let counters = cable.forwarder.ask(|reply| Request::Count(to, reply))?;
                let before = lock(&cable.uncarried_before)[to];
                Ok(Counters { uncarried: uncarried.saturating_sub(before), ..counters })
            }
            Cable::Direct(injectors) => match &*lock(&injectors[to]) {
                Some(injector) => injector.counters(),
                None => Ok(Counters::default()),
            },
        }
    }

    pub(crate) fn lateness(&self, to: usize) -> Result<Lateness, LabError> {
        let cable = self.forwarder_for("nobody measures how late its packets are")?;
        cable.forwarder.ask(|reply| Request::Lateness(to, reply)).step(|| "cannot read the lateness".into())
    }

    pub(crate) fn capture(&self, path: &Path) -> Result<Capture, LabError> {
        let cable = self.forwarder_for("nobody sees all of its packets")?;
        Capture::start(Arc::clone(&cable.forwarder), path, &cable.names, &cable.describe())
            .step(|| format!("cannot capture to {}", path.display()))
    }

    fn forwarder_for(&self, lack: &str) -> Result<&Forwarded, LabError> {
        match self {
            Cable::Forwarded(cable) => Ok(cable),
            Cable::Direct(_) => Err(LabError::misuse(
                format!("a direct link: {lack}"),
                "leave .direct() out when the link is made",
            )),
        }
    }
}

#[cfg(feature = "xdp")]
fn open_xdp(far: [&End; 2], shape: Shape) -> Result<Parts, LabError> {
    if !crate::level::has_bpf() {
        return Err(LabError::misuse("CAP_BPF is missing", "run as root, or docker run --cap-add BPF"));
    }
    let (pool, [a, b]) = crate::forward::xdp::open(far, shape.mtu_bytes, shape.queues, FRAMES)?;
    Ok(Parts { pool, wires: [Wire::Xdp(Box::new(a)), Wire::Xdp(Box::new(b))] })
}

#[cfg(not(feature = "xdp"))]
fn open_xdp(_: [&End; 2], _: Shape) -> Result<Parts, LabError> {
    Err(LabError::misuse(
        "this build of ringwire-lab has no AF_XDP",
        "ringwire-lab = { features = [\"xdp\"] } needs clang and libelf",
    ))
}

/// What the kernel of `from` could not hand over to the forwarder's interface, ever.
fn uncarried(from: &End) -> io::Result<u64> {
    match from.node.place() {
        Place::Nowhere => Ok(0),
        _ => from.node.route(|route| route.tx_dropped(from.ifindex)),
    }
}

/// An end of a cable in memory, for one port.
pub(crate) struct MemorySocket {
    node: String,
    side: usize,
    /// What the other side of it is; none if it is in use.
    plugged: Option<(Arc<Forwarder>, Plug)>,
}

impl MemorySocket {
    /// Joins a port over the pool of `plug` to it.
    pub(crate) fn plug(self, plug: Plug) -> Result<MemPort, LabError> {
        let Some((forwarder, ours)) = self.plugged else {
            let what = format!("the end of node '{}' is in use", self.node);
            return Err(LabError::misuse(what, "in memory, a node has one engine or one raw port per link"));
        };
        let step = || format!("cannot plug node '{}' in", self.node);
        let (ours, theirs) = MemPort::join(RING_FRAMES, ours, plug);
        let wire = Wire::memory(ours).step(step)?;
        forwarder.ask(|done| Request::Plug(self.side, wire, done)).step(step)?;
        Ok(theirs)
    }
}

impl Forwarded {
    /// The topology and the seeds, as far as they concern this link.
    fn describe(&self) -> String {
        let mut text = format!("test {}, forwarded by {:?}", test_name(), self.layer);
        for (towards, impairment) in lock(&self.impairments).iter().enumerate() {
            // Into memory: cannot fail.
            let _ = write!(text, "\n{}: {impairment:?}", self.names[1 - towards]);
        }
        text
    }

    /// Writes the last packets to a file of their own.
    fn keep(&self) -> io::Result<(PathBuf, u64)> {
        let dir = std::env::var_os("RINGWIRE_LAB_DIR")
            .map_or_else(|| std::env::temp_dir().join("ringwire-lab"), PathBuf::from);
        std::fs::create_dir_all(&dir)?;
        let link = self.names[0].replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let test = test_name().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let path = dir.join(format!("{test}-{link}-{}.pcapng", std::process::id()));
        let packets = capture::keep_flight(&self.forwarder, &path, &self.names, &self.describe())?;
        Ok((path, packets))
    }
}

/// A test that fails keeps what it has seen.
impl Drop for Forwarded {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        match self.keep() {
            Ok((path, packets)) => eprintln!(
                "ringwire-lab: kept the last {packets} packets in {}\n{}",
                path.display(),
                self.describe()
            ),
            Err(error) => {
                eprintln!("ringwire-lab: cannot keep the last packets: {error}\n{}", self.describe())
            }
        }
    }
}

/// The test harness names its threads after the tests.
fn test_name() -> String {
    std::thread::current().name().unwrap_or("unnamed").to_owned()
}

/// Every critical section leaves its data whole, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
