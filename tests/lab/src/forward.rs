//! The forwarder: a thread that carries packets between the two ends of a cable and does to them what was asked.
//!
//! ```text
//!   node a  eth0 ==== wire 0 ---- Line towards b ----> wire 1 ==== eth0  node b
//!                            <--- Line towards a -----
//! ```
//! It stands on Ringwire's own packet layer: [`Port`](ringwire_frame::Port)s over one pool, AF_XDP or AF_PACKET, so a packet is
//! copied once, on its way in, and leaves from the frame that it waited in. Owned here: the thread, its ports, what waits in it.
//! Not owned here: the interfaces that the ports are opened on.

mod bottleneck;
mod lateness;
mod line;
mod turn;
mod wire;
#[cfg(feature = "xdp")]
pub(crate) mod xdp;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;

use crate::capture::Recorder;
use crate::impair::{Counters, Impairment};

pub use lateness::Lateness;
pub(crate) use turn::Parts;
pub(crate) use wire::{Wire, new_pool, ring_slots};

/// A running forwarder; dropping it ends the thread, and what waits in it is lost.
#[derive(Debug)]
pub(crate) struct Forwarder {
    requests: Sender<Request>,
    wake: Arc<OwnedFd>,
}

/// How long a forwarder that was told to stop may take to let go of its link.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What other threads ask of it; each is answered when it is done.
#[derive(Debug)]
pub(crate) enum Request {
    /// Judge what comes from now on by this.
    Impair(usize, Impairment, Sender<()>),
    Count(usize, Sender<Counters>),
    Lateness(usize, Sender<Lateness>),
    /// A recorder to be fed from now on, by its number.
    Record(Recorder, Sender<u64>),
    /// Give a recorder back.
    StopRecording(u64, Sender<Option<Recorder>>),
    /// Play what the flight recorder holds to this one, and give it back.
    Flight(Recorder, Sender<Recorder>),
    /// Another wire at this end.
    Plug(usize, Wire, Sender<()>),
    /// Carry nothing any more, then end. The kernel takes some 25 ms to close a ring, which nobody waits for.
    Stop(Sender<()>),
}

impl Forwarder {
    /// Starts to forward between the two wires of `parts`.
    pub(crate) fn start(name: &str, parts: Parts) -> io::Result<Forwarder> {
        let (requests, receiver) = channel();
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let woken = Arc::clone(&wake);
        std::thread::Builder::new().name(name.into()).spawn(move || turn::run(parts, &receiver, &woken))?;
        Ok(Forwarder { requests, wake })
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> io::Result<T> {
        let (reply, answer) = channel();
        self.post(request(reply))?;
        answer.recv().map_err(|_| gone())
    }

    fn post(&self, request: Request) -> io::Result<()> {
        self.requests.send(request).map_err(|_| gone())?;
        wake(&self.wake);
        Ok(())
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let (reply, stopped) = channel();
        // Nobody to be told if it has ended already.
        if self.post(Request::Stop(reply)).is_ok() {
            let _ = stopped.recv_timeout(STOP_PATIENCE);
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the forwarder has ended; its thread has said why")
}

/// Ends the sleep of whoever polls this.
pub(crate) fn wake(eventfd: &OwnedFd) {
    // Full is as good as woken.
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}
