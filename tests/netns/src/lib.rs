//! The scene of the interoperability tests: an engine on one end of a veth link, the Linux kernel on the other.
//!
//! ```text
//!   node "host"                                   node "peer"
//!   Service: thread + Worker + App  -- eth0 ==== eth0 --  the kernel's sockets, ping, curl, tcpdump
//!        dedicated: 10.77.n.101                            10.77.n.2
//!        shared:    10.77.n.1 (the kernel's own)
//! ```
//! [`Scene`] makes the link, [`Service`] runs an [`App`] on every worker and hands back its [`Books`]: every frame, packet and drop
//! is accounted for. [`Wire`] captures the link and judges it. [`Echo`] and [`Transfers`] are the apps, [`kernel`] is the other side. [`within`] bounds a test in time.
#![deny(unsafe_code)]

mod books;
mod capture;
mod echo;
pub mod kernel;
mod pattern;
pub mod program;
mod scene;
mod service;
mod sink;
mod stalls;
mod transfers;
mod watchdog;
mod wire;

pub use books::Books;
pub use capture::Capture;
pub use echo::Echo;
pub use pattern::{Digest, Digester, Pattern};
pub use scene::{Addressing, Scene};
pub use service::{App, Service};
pub use sink::Sink;
pub use transfers::{Closing, Ended, Pace, Script, Transfers, options};
pub use watchdog::{eventually, within};
pub use wire::{Verdict, Wire};
