//! The end of an in-memory link where no engine is, for who plays the rest of the world packet by packet.

use std::fmt;

use super::MemPort;
use crate::Frame;
use crate::account::{Class, Floors, Geometry};
use crate::pool::Pool;
use crate::port::{Packet, Port};
use crate::region::Region;

const FRAME_BYTES: u32 = 2048;

/// The other end of an engine's wire: packets in and out as bytes.
///
/// It belongs to the thread that plugs the engine in.
///
/// ```
/// use ringwire_frame::{FarEnd, Floors, Geometry, Pool, Port, Region};
///
/// let geometry = Geometry { frame_bytes: 2048, frame_count: 64 };
/// let mut pool = Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(64));
/// pool.adopt();
/// let mut far = FarEnd::new(16, 64);
/// // An engine asks for its port in the same way: `start_on(|pool| far.attach(pool))`.
/// let mut port = far.attach(&pool);
/// port.refill(&mut pool);
///
/// far.put(b"hello").unwrap();
/// let mut packets = Vec::new();
/// port.receive(&mut pool, &mut packets, 64);
/// assert_eq!(packets[0].head.bytes(), b"hello");
///
/// port.submit(&mut pool, &packets.remove(0).head.into_send()).unwrap();
/// let _ = port.kick();
/// assert_eq!(far.take(|bytes| assert_eq!(bytes, b"hello")), 1);
/// ```
#[derive(Debug)]
pub struct FarEnd {
    ring_packets: u32,
    frame_count: u32,
    plugged: Option<Plugged>,
    received: Vec<Packet>,
}

struct Plugged {
    pool: Pool,
    port: MemPort,
}

/// Why a packet was not put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError {
    /// No engine is plugged in.
    Unplugged,
    /// It is longer than a frame.
    TooLong,
    /// The engine has not yet taken what was put before.
    Full,
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Unplugged => "no engine is plugged in",
            PutError::TooLong => "the packet is longer than a frame",
            PutError::Full => "the engine has not taken the packets before it",
        })
    }
}

impl std::error::Error for PutError {}

impl FarEnd {
    /// For an engine to be plugged in: rings of `ring_packets` each way, a power of two, and `frame_count` frames of its own, of which
    /// the larger half is for what it receives.
    pub fn new(ring_packets: u32, frame_count: u32) -> FarEnd {
        FarEnd { ring_packets, frame_count, plugged: None, received: Vec::new() }
    }

    /// Plugs in the engine that owns `engine` and returns its port. Whatever was plugged in before talks to nobody from now on.
    ///
    /// # Panics
    /// If the numbers given to [`FarEnd::new`] are not those of a ring and of a pool.
    pub fn attach(&mut self, engine: &Pool) -> MemPort {
        let geometry = Geometry { frame_bytes: FRAME_BYTES, frame_count: self.frame_count };
        let region = Region::anonymous(geometry.region_bytes());
        let mut pool = Pool::new(region, geometry, Floors::for_frames(self.frame_count));
        pool.adopt();
        let (theirs, mut port) = MemPort::pair(self.ring_packets, engine, &pool);
        port.refill(&mut pool);
        self.plugged = Some(Plugged { pool, port });
        theirs
    }

    /// Sends a packet to the engine, which finds it in its next turn.
    ///
    /// # Errors
    /// See [`PutError`]; the packet is not sent.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), PutError> {
        let Plugged { pool, port } = self.plugged.as_mut().ok_or(PutError::Unplugged)?;
        port.reap(pool);
        let mut frame = pool.alloc(Class::Control).ok_or(PutError::Full)?;
        if frame.tailroom() < bytes.len() {
            return Err(PutError::TooLong);
        }
        frame.append(bytes.len()).copy_from_slice(bytes);
        port.submit(pool, &frame.into_send()).map_err(|_| PutError::Full)?;
        let _ = port.kick();
        Ok(())
    }

    /// Gives each packet that the engine has sent since to `each`, in order; how many there were.
    pub fn take(&mut self, mut each: impl FnMut(&[u8])) -> usize {
        let FarEnd { plugged: Some(Plugged { pool, port }), received, .. } = self else { return 0 };
        port.reap(pool);
        let count = port.receive(pool, received, usize::MAX);
        for packet in received.drain(..) {
            match &packet.rest[..] {
                [] => each(packet.head.bytes()),
                rest => each(&join(&packet.head, rest)),
            }
        }
        port.refill(pool);
        let _ = port.kick();
        count
    }
}

fn join(head: &Frame, rest: &[Frame]) -> Vec<u8> {
    std::iter::once(head).chain(rest).flat_map(Frame::bytes).copied().collect()
}

impl fmt::Debug for Plugged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.port.fmt(f)
    }
}
