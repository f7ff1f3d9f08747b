//! The same TCP work on two stacks in memory, Ringwire and smoltcp, and the floor that Ringwire's frames and rings set.
//!
//! Equal on both: one thread, two hosts, MTU 1500, 64 KiB socket buffers, one clock read per poll, one copy per packet on the wire,
//! checksums computed and verified. A *round* is what one call of [`Rig::round`] does, so rates compare directly.

pub mod bare_rig;
pub mod ringwire_rig;
pub mod smoltcp_rig;

/// Bytes of a request and of its response.
pub const REQUEST_BYTES: usize = 64;
/// Socket buffers of both stacks.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// Two hosts with established connections between them.
pub trait Rig {
    /// Two hosts and `connections` established connections.
    fn connect(connections: usize) -> Self;
    /// One request and one response of 64 B on each connection.
    fn round(&mut self);
    /// Moves `len` bytes from the client to the server over the first connection.
    fn bulk(&mut self, len: usize);
}
