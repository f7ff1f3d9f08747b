//! Packet frames: the memory a worker and its devices share, who may touch which part of it, and the ports it
//! travels through.
//!
//! ```text
//!                 fill_addr            received                lend
//!        Free ---------------> Fill ------------> Rx --------------------> App
//!         |  ^                                    |  into_send              | into_send
//!   alloc |  | drop                               v                         v
//!         +--|--------------------------------> Send <----------------------+
//!            | complete              submit_addr |  ^ complete
//!            |                                   v  |
//!          Orphan <---------------------------- SendInRing
//!                            drop
//! ```
//! A [`Region`] is the memory, a [`Pool`] cuts it into frames for one worker thread and accounts for them, a
//! [`Frame`] is the exclusive right to one frame's bytes, a [`SendFrame`] the right to a frame that a device may be
//! reading. Handles move; a frame is never named by a number outside this crate and the port implementations.
//!
//! Owned here: frame states, their counts and the floors; the lifetime of the memory; the [`Port`] trait and its
//! in-memory implementation [`MemPort`]; the checksum loop that asks what the machine can do. Not owned here: what is in the packets, when rings are served, and any
//! system call. `core.rs` says which thread touches which field.

mod account;
mod checksum;
mod core;
mod frame;
mod lane;
mod liveness;
mod mem;
mod owner;
mod padded;
mod pool;
mod port;
mod region;
mod return_ring;
mod send;
mod sync;

pub use account::{Class, Counts, Floors, FrameState, Geometry};
pub use checksum::sum_words_wide;
pub use frame::Frame;
pub use mem::{FarEnd, MemPort, Plug, PutError, RX_HEADROOM};
pub use pool::{Device, Pool};
pub use port::{Kick, Packet, Port, PortStats, TxFull};
pub use region::Region;
pub use send::SendFrame;
