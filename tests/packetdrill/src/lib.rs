//! Ringwire as packetdrill loads it: `packetdrill --so_filename=libringwire_packetdrill.so script.pkt`.
//!
//! ```text
//! packetdrill, any thread -> abi.rs (C types, errno) -> library.rs -> host.rs: one thread with the stack, its wire and its clock
//! ```
//! `README.md` says how to build packetdrill and run scripts, and which flags there are.
#![deny(unsafe_code)]

// The edge of the library: raw pointers from C are read and written here and nowhere else.
#[allow(unsafe_code)]
mod abi;
pub mod flags;
mod host;
mod library;
mod wire;

pub use abi::{PacketdrillInterface, packetdrill_interface_init};
