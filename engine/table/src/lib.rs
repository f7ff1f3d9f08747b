//! What the worker threads share about sockets: who owns which flow and which port, and a ring to hand packets over.
//!
//! | module | what | who writes | who reads |
//! |---|---|---|---|
//! | [`table`] | flow and listener -> number | the shard's one [`Writer`] | any [`Reader`], wait-free |
//! | [`ports`] | ephemeral port -> worker; free ports | its worker | [`PortMap`]: everybody, it never changes |
//! | [`spsc`] | bounded ring | the [`spsc::Producer`] | the [`spsc::Consumer`] |
//!
//! Every atomic of this crate comes from `sync`, which the model checker replaces: `tests/loom.rs` compiles the same sources over loom and
//! explores all interleavings, and runs with `cargo test -p ringwire-table` like any other test.
#![warn(missing_docs)]

pub mod key;
pub mod ports;
pub mod spsc;
pub mod table;

mod sync;

pub use key::{FlowHash, FlowKey, Protocol};
pub use ports::{Exhausted, PortAllocator, PortMap};
pub use table::{Full, Reader, Table, Writer};

// A bucket and a slot are one cache line each. Asserted here, because over loom they are larger.
const _: () = assert!(table::BUCKET_BYTES == 64 && table::SLOT_BYTES == 64);

/// Declared here and not in their modules, because `tests/loom.rs` compiles those modules again.
#[cfg(test)]
mod tests {
    mod key;
    mod spsc;
    mod table;
}
