//! The odd packets, by what is odd about them, after the project's list of malformed input and attacks.

pub(crate) mod addresses;
pub(crate) mod clock;
pub(crate) mod headers;
pub(crate) mod icmp;
pub(crate) mod ip;
pub(crate) mod opening;
pub(crate) mod segments;
