//! The protocol machines of Ringwire: TCP, UDP, IP, ICMP and ARP without input or output.
//!
//! Nothing here owns a frame, a ring, a thread or a clock. A machine is told what arrived (`on_*`) and what time it is, is asked
//! what has to leave (`poll_*`) and when it wants to be called again (`next_*`). Random keys come in as data.
//!
//! ```text
//! wire views -> input::check_link -> ip::Addresses::check -> input::check_tcp  -> tcp::Tcb
//!               neigh::Cache::on_arp                         udp::check        -> the UDP socket
//!                                                            input::check_icmp -> icmp
//! Every path that drops names exactly one DropReason.
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod drop_reason;
pub mod flow;
pub mod icmp;
pub mod input;
pub mod ip;
pub mod neigh;
pub mod prf;
pub mod seq;
pub mod tcp;
pub mod time;
pub mod timer;
pub mod udp;

pub use drop_reason::DropReason;
pub use flow::Flow;
pub use seq::SeqNum;
pub use time::Instant;
