//! AF_XDP queues as [`Port`](ringwire_frame::Port)s: UMEM registration, the four rings, bind, kicks, statistics.
//!
//! ```text
//!  Umem --- region() ---> Pool (ringwire-frame)        frame states
//!   |                      ^  |
//!   | open                 |  | fill_addr / submit_addr
//!   v                      |  v
//!  XskPort: fill ring  ->  kernel  ->  rx ring         xsk-rs (socket.rs)
//!           tx ring    ->  kernel  ->  completion ring tx by our own mapping (tx_ring.rs), the rest xsk-rs
//! ```
//! A [`Umem`] is one worker's packet memory, registered once; a port is one queue of one interface bound to it, with
//! a fill and completion ring of its own. Several queues may share a `Umem`. Both are made in the network namespace
//! of the calling thread and work from any thread afterwards.
//!
//! Owned here: descriptors and sockets. Not owned here: frames (the pool says who has which), the XDP program and its
//! map (`ringwire-bpf`; libxdp is told to load none), threads and sleeping. `xsk_rs::` is named in `umem.rs` and
//! `socket.rs` only, and its descriptor type in no signature.

mod chain;
mod config;
mod error;
mod open;
mod port;
mod socket;
mod sys;
mod tx_ring;
mod umem;

pub use config::{BindMode, BusyPoll, HugePages, Mode, UmemOptions, XskConfig};
pub use error::XskError;
pub use port::{KernelStats, XskPort};
pub use umem::Umem;
