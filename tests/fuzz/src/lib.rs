//! Fuzz targets: functions from bytes to nothing that panic when something is wrong.
//!
//! ```text
//! bytes -> wire, arp, tcp_options, icmp      what parses is emitted and parsed again: the same
//!       -> connection, listener              bytes choose segments, time and API calls of one engine on a MemPort with a manual clock;
//!                                            oracle: text is a function of its sequence number, so whatever is delivered is checked
//!                                            against what an in-order peer would have sent; frames and connections are accounted for
//! ```
//! Run by libFuzzer (`deploy/fuzz.sh`), or by the plain loop of this package's program, which has no coverage feedback.

mod engine;
mod input;
mod oracle;
mod peer;
mod play;
mod seeds;
mod wire;

pub use play::{connection, listener};
pub use seeds::seeds;
pub use wire::{arp, icmp, tcp_options, wire};

/// A target by name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] = [
    ("wire", wire),
    ("arp", arp),
    ("tcp_options", tcp_options),
    ("icmp", icmp),
    ("connection", connection),
    ("listener", listener),
];
