//! What a worker sees of a NIC queue, real or in memory.

use crate::{Frame, Pool, SendFrame};

/// One received packet: almost always one frame; packets longer than a frame are a chain.
#[derive(Debug)]
pub struct Packet {
    /// First frame, with the headers.
    pub head: Frame,
    /// What did not fit the first; an empty `Vec` allocates nothing.
    pub rest: Vec<Frame>,
}

impl Packet {
    /// Length of the whole packet.
    pub fn len(&self) -> usize {
        self.head.len() + self.rest.iter().map(Frame::len).sum::<usize>()
    }

    /// Whether the packet has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Frame> for Packet {
    fn from(head: Frame) -> Packet {
        Packet { head, rest: Vec::new() }
    }
}

/// The transmit ring has no room for the frame, or for the whole chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxFull;

impl std::fmt::Display for TxFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("transmit ring full")
    }
}

impl std::error::Error for TxFull {}

/// What a kick left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Kick {
    /// The transmit ring is empty: the worker may sleep.
    Idle,
    /// Submitted frames are still waiting: kick again next turn, do not sleep.
    Pending,
    /// Submitted frames are still waiting and the device takes none: its link is down, or it is gone. Kick again, but
    /// not at once.
    Refused,
}

/// Counters of one port since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets handed to the worker.
    pub rx_packets: u64,
    /// Bytes of those.
    pub rx_bytes: u64,
    /// Packets lost for want of a frame or of room in the receive ring.
    pub rx_dropped: u64,
    /// Times the device found the fill ring empty.
    pub rx_fill_empty: u64,
    /// Descriptors with an address or length the pool refused.
    pub rx_invalid: u64,
    /// Packets accepted for transmission.
    pub tx_packets: u64,
    /// Bytes of those.
    pub tx_bytes: u64,
    /// Accepted packets that nobody took, such as after the peer of a [`MemPort`](crate::MemPort) went away.
    pub tx_lost: u64,
    /// Submissions refused because a frame was of another pool, already in a ring, or too long a chain.
    pub tx_refused: u64,
    /// Descriptors the device found invalid.
    pub tx_invalid: u64,
    /// Kicks that went out: syscalls, or wake-ups of a peer.
    pub kicks: u64,
    /// Kicks the kernel answered with an error other than "try again".
    pub kick_errors: u64,
}

/// One queue pair of a NIC.
///
/// A turn of the worker calls, in this order: `reap`, `receive`, then `submit` as needed, `refill`, `kick`. All with
/// the same pool, on the thread that owns it. Nothing here blocks.
pub trait Port {
    /// Takes completions: frames sent become writable again, orphans free. Returns how many.
    fn reap(&mut self, pool: &mut Pool) -> usize;

    /// Appends up to `max` received packets to `out`, returns how many.
    fn receive(&mut self, pool: &mut Pool, out: &mut Vec<Packet>, max: usize) -> usize;

    /// Frames that can be submitted now.
    fn tx_room(&mut self) -> usize;

    /// Submits a packet of one frame, which the caller keeps. It leaves with the next [`kick`](Port::kick).
    fn submit(&mut self, pool: &mut Pool, frame: &SendFrame) -> Result<(), TxFull>;

    /// Submits a packet of several frames, whole or not at all.
    fn submit_chain(&mut self, pool: &mut Pool, frames: &[SendFrame]) -> Result<(), TxFull>;

    /// Gives the device frames to receive into; returns how many.
    fn refill(&mut self, pool: &mut Pool) -> usize;

    /// Makes the device look at what was submitted.
    fn kick(&mut self) -> Kick;

    /// Longest packet that arrives in one frame.
    fn max_frame_bytes(&self) -> usize;

    /// Counters since the port was opened.
    fn stats(&self) -> PortStats;
}
