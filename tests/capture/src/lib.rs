//! pcapng files of links, simulated or real: written while packets pass, and judged afterwards.
//!
//! ```text
//! Recorder -> file -> read -> check_tcp: what no dissector knows: windows, timestamps and acknowledgements that contradict each other
//!                  `-> tshark: malformed headers, checksums, retransmissions
//! ```
//! It knows packets, not who made them: the lab, the simulation and the interoperability tests write and read by it.
#![forbid(unsafe_code)]

mod end;
mod pcapng;
mod tcp;
mod tshark;

pub use end::End;
pub use pcapng::{Packet, Recorder, Seen, read};
pub use tcp::{Fault, Rule, check_tcp};
pub use tshark::{Quality, tshark};
