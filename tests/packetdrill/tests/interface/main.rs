//! Drives the library as packetdrill does: through the C interface, packet by packet.
// The interface is one of raw pointers; the only module with unsafe code is the one that holds them.
#![deny(unsafe_code)]

mod ancillary;
mod calls;
mod ends;
mod info;
#[allow(unsafe_code)]
mod library;
mod linux;
mod packets;
mod peer;
mod time;
