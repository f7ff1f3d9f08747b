//! What Ringwire is measured against.
//!
//! [`kernel`] holds echo servers over kernel sockets, written as well as we know how, so that a ratio
//! against them means something. `reflector` (feature `xdp`) is the bare limit of AF_XDP itself, and
//! `testpmd` somebody else's reflector beside it. Nothing here depends on the engine.

#![deny(unsafe_code)]

pub mod kernel;
#[cfg(feature = "xdp")]
pub mod reflector;
#[cfg(feature = "xdp")]
pub mod testpmd;
