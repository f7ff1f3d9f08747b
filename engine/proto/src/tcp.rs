//! The TCP connection machine (RFC 9293), without input or output.
//!
//! A [`Tcb`] is one connection. It is told what arrived ([`Tcb::on_segment`], [`Tcb::on_timer`]), is asked what has to leave
//! ([`Tcb::poll_transmit`]) and when it wants to be called again ([`Tcb::next_timer`]). It owns sequence space, windows, timers
//! and the queues of unacknowledged, out-of-order and unread data. It does not own addresses, ports, frames, rings, listeners
//! or the clock: segments come and go as headers without ports, payload as the caller's [`Payload`] and [`SendBuf`].
//!
//! ```text
//!            on_segment: fast_path | handshake | arrival (RFC 9293 3.10.7.4, one function per step)
//!  segment -> Tcb (128 bytes, hot) --- while data is in flight, out of order or unread ---> Cold (slab)
//!            user calls: send recv release shutdown close abort      timer: one deadline
//!            poll_transmit: rst | syn | retransmission | duplicate ack | data | fin | ack | probe
//! ```
//!
//! LISTEN has no block of its own: [`on_listen`] judges a segment for a listener, [`Tcb::accept`] makes the connection. What Fast Open
//! adds to both kinds of open is in [`fast_open`].

mod ack;
mod arrival;
mod brake;
mod cold;
mod config;
mod congestion;
pub mod cookie;
mod delivery;
mod ecn;
pub mod fast_open;
mod fast_path;
mod handshake;
mod icmp;
mod info;
mod low_water;
mod model;
mod options;
mod outcome;
mod pacing;
mod path_mtu;
mod poll_transmit;
mod reassembly;
mod recovery;
mod remembered;
mod rtt;
mod send_queue;
mod tcb;
mod text;
mod time_wait;
mod timers;
mod totals;
mod tune;
mod user;

#[cfg(test)]
mod tests;

pub use cold::ColdStore;
pub use config::{Config, Ecn, Keepalive, Pacing};
pub use congestion::{
    Acked, Algorithm, Bbr, CongestionControl, Cubic, Dctcp, LossEvidence, NewReno, RateSample, Window,
};
pub use ecn::Codepoint;
pub use handshake::{ListenVerdict, on_listen, reset_for};
pub use info::{CongestionPhase, Info};
pub use outcome::{CloseReason, Outcome, Signals};
pub use poll_transmit::{Body, Transmit, TransmitKind};
pub use remembered::{Held, Reaction, TimeWait};
pub use tcb::{State, Tcb};
pub use totals::Totals;
pub use tune::{Pressure, RecvTune};
pub use user::{Recv, RecvError, SendError};

use crate::{Instant, SeqNum};
use ringwire_wire::tcp::{Header, Options};

/// Received bytes the machine holds until the application takes them.
pub trait Payload {
    /// Bytes left.
    fn len(&self) -> usize;
    /// The bytes left.
    fn bytes(&self) -> &[u8];
    /// Drops `count` bytes at the front; never called with more than [`Payload::len`].
    fn advance(&mut self, count: usize);
    /// Keeps the first `len` bytes; never called with more than [`Payload::len`].
    fn truncate(&mut self, len: usize);
    /// Whether nothing is left.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One buffer of outgoing payload. It is one segment, unless it is longer than the effective MSS.
pub trait SendBuf {
    /// Bytes of payload in it.
    fn len(&self) -> usize;
    /// Bytes that [`SendBuf::append`] can still take.
    fn spare(&self) -> usize;
    /// Copies as much of `bytes` as fits to the end and adds it to the payload checksum; returns how much.
    fn append(&mut self, bytes: &[u8]) -> usize;
    /// The payload.
    fn bytes(&self) -> &[u8];
    /// Whether the device may still read it; it is immutable then.
    fn in_ring(&self) -> bool;
    /// Whether there is no payload in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where empty send buffers come from.
pub trait SendPool {
    /// The buffer it gives.
    type Buf: SendBuf;
    /// An empty buffer whose spare room is at least the largest effective MSS, or none while memory is short.
    fn alloc(&mut self) -> Option<Self::Buf>;
}

/// What makes a connection's numbers hard to guess; computed by the caller from a key (RFC 6528, RFC 7323 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    /// Initial send sequence number.
    pub iss: SeqNum,
    /// Added to the millisecond clock in every TSval.
    pub timestamp_offset: u32,
}

/// The header of one received segment; its payload goes beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SegmentIn {
    /// The fixed fields.
    pub header: Header,
    /// The options.
    pub options: Options,
    /// Whether a router on the way marked its packet instead of dropping it (RFC 3168 5: CE).
    pub is_marked: bool,
}

/// What every call on a [`Tcb`] works with: the turn's clock and the worker's memory.
pub struct Cx<'a, P, A: SendPool> {
    /// The time of this turn.
    pub now: Instant,
    /// The connection's settings; the caller may change them between calls, except those of the handshake.
    pub config: &'a Config,
    /// Cold state of the worker's connections.
    pub cold: &'a mut ColdStore<P, A::Buf>,
    /// Where send buffers come from.
    pub pool: &'a mut A,
    /// The connection's receive buffer.
    pub tune: &'a mut RecvTune,
    /// What the connection has counted.
    pub totals: &'a mut Totals,
}
