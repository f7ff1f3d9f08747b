//! The stacks that can carry the closed loop.

pub mod kernel;
