//! The stacks that can carry the closed loop.

pub mod kernel;
#[cfg(feature = "xdp")]
pub mod ringwire;
