//! An interface as a [`Port`](ringwire_frame::Port) over AF_PACKET: for places where no XDP program can be loaded.
//!
//! ```text
//!  interface --> receive ring (TPACKET_V2, mapped) --copy--> frames of the pool
//!  interface <-- sendmmsg, straight out of frames of the pool
//! ```
//! The kernel sees every packet too: the port is for addresses that the kernel does not have, or for an interface
//! between two others whose packets are to be carried across.
//!
//! Version 2 of the ring and not 3, because a slot of version 2 can be read the moment it is written, while a block of
//! version 3 waits to be full or for a timer of at least a millisecond. No transmit ring, because over veth the kernel
//! copies what it references there anyway, and a frame that leaves by `sendmmsg` is free when the call returns.
//!
//! Owned here: the socket and its ring. Not owned here: frames (the pool says who has which), threads and sleeping.

mod checksum;
mod config;
mod error;
mod filter;
mod long;
mod port;
mod ring;
mod slot;
mod sys;
mod tx_queue;

pub use config::PacketConfig;
pub use error::PacketError;
pub use port::PacketPort;
