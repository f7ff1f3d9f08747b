//! Which packets of an interface are the engine's: the XDP steering program and its loader.
//!
//! The program passes everything that is not provably ours to the kernel. What is ours goes to the AF_XDP socket of
//! the queue it came in on:
//!
//! ```text
//! frame -> our MAC? -> address map -> dedicated: all of it, ARP included
//!                                  -> shared: port map [address][protocol][port] -> XSKMAP [slot * max_queues + queue]
//! ```
//!
//! [`Steering`] owns the loaded program, its maps and the attachment. The attachment is a bpf_link whose only
//! descriptor is in here, so the interface is free again when the value is dropped or the process dies, however it
//! dies. The port map is memory both sides see: steering a port is one store.
//!
//! Not in here: sockets (the caller hands in descriptors), which addresses and ports to steer, reservation in the
//! kernel. The agreement between both sides is `steer_abi.h`.

mod abi;
mod error;
mod loader;
mod verdict;

pub use error::SteerError;
pub use loader::{
    AddrIndex, AttachConfig, AttachMode, Incumbent, Mode, Ownership, Protocol, Steering, incumbent,
};
pub use verdict::{Action, Counters, Verdict};
