//! What Ringwire is measured against.
//!
//! [`kernel`] holds echo servers over kernel sockets, written as well as we know how, so that a ratio
//! against them means something. Nothing here depends on the engine.

#![forbid(unsafe_code)]

pub mod kernel;
