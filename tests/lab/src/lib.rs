//! Hosts and cables for integration tests: anonymous network namespaces joined by veth links.
//!
//! A [`Lab`] owns what is built in it. A [`Node`] is one network namespace, held by a file
//! descriptor and named nowhere; a [`Link`] is a veth pair between two nodes with an address on
//! either end. Threads ([`Node::run`]) and programs ([`Node::command`]) run inside a node. When the
//! test ends, also by a panic or by `kill -9`, the kernel closes the descriptors and with them the
//! programs, interfaces and namespaces go: there is nothing to clean up.
//!
//! ```text
//!        node a                                  node b
//!   10.77.0.1  eth0 ====---- forwarder ----==== eth0  10.77.0.2
//! ```
//!
//! Between the ends of a link runs a forwarder in user space, which [`Link::impair`] tells what to do to packets in either
//! direction, while they cross. [`LinkBuilder::direct`] leaves it out. [`Node::raw`] is for packets by hand, [`Link::capture`]
//! for looking at them afterwards, [`Level`] for what this process may do, and [`pitfalls`] for what else may surprise.
//!
//! ```
//! use std::net::UdpSocket;
//!
//! # fn main() -> Result<(), ringwire_lab::LabError> {
//! let lab = ringwire_lab::Lab::new()?;
//! let (client, server) = (lab.node("client")?, lab.node("server")?);
//! let link = lab.link(&client, &server).up()?;
//!
//! let echo = server.run(|| UdpSocket::bind((link.addr(&server), 7))).expect("a free port");
//! let ours = client.run(|| UdpSocket::bind((link.addr(&client), 0))).expect("a free port");
//! ours.send_to(b"hello", (link.addr(&server), 7)).expect("a route");
//! let (len, from) = echo.recv_from(&mut [0; 16]).expect("a datagram");
//! assert_eq!((len, from.ip()), (5, link.addr(&client)));
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

mod builder;
mod cable;
mod capture;
#[cfg(feature = "engine")]
mod engine;
mod error;
mod forward;
mod guard;
mod impair;
mod injector;
mod judge;
mod lab;
mod level;
mod link;
mod netlink;
mod node;
mod process;
mod program;
mod raw;
#[cfg(feature = "tokio")]
mod runtime;
mod sys;

pub use builder::LinkBuilder;
pub use cable::PacketLayer;
pub use capture::Capture;
pub use error::LabError;
pub use forward::Lateness;
pub use impair::{Counters, Distribution, Impairment};
pub use lab::Lab;
pub use level::{Level, enter_user_namespace, skip};
pub use link::{Carrier, Link, Offloads};
pub use node::Node;
pub use process::{Child, Command};
/// TCP options for [`Segment`] and [`TcpPeer`].
pub use raw::options as tcp_options;
pub use raw::{Dissected, Field, Macs, Match, Mismatch, RawPort, Segment, TcpPeer, UdpPacket, Value};

/// A lab of at least this [`Level`] for a test without a result. Where that is not allowed the test fails, or, under
/// `RINGWIRE_LAB=skip` or `RINGWIRE_LAB=LEVEL`, it returns and is counted and named as skipped.
///
/// ```
/// # fn main() {
/// let lab = ringwire_lab::lab!(ringwire_lab::Level::UserNamespace);
/// let node = lab.node("host").unwrap();
/// # }
/// ```
#[macro_export]
macro_rules! lab {
    ($level:expr) => {
        match $crate::Lab::at_least($level) {
            Ok(lab) => lab,
            Err(error) if $crate::skip(module_path!(), &error) => return,
            Err(error) => panic!("{error}"),
        }
    };
}

/// Once in a test file: lets its tests run at [`Level::UserNamespace`] without any privilege and without a wrapper such as
/// `unshare -Urn cargo test`.
///
/// A process can move into a user namespace only while it has one thread, which is before the test harness starts; so this
/// registers a function that runs before `main`. It does nothing where the process has `CAP_SYS_ADMIN`, where user namespaces
/// are forbidden, or where `RINGWIRE_LAB` names another level.
///
/// ```
/// ringwire_lab::user_namespace!();
/// ```
#[macro_export]
macro_rules! user_namespace {
    () => {
        const _: () = {
            extern "C" fn enter() {
                $crate::enter_user_namespace();
            }
            // SAFETY: the loader calls what is in this section once, before `main`, as a C function without a result.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static ENTER: extern "C" fn() = enter;
        };
    };
}

/// What surprises people who test networks on one machine.
#[doc = include_str!("../PITFALLS.md")]
pub mod pitfalls {}

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
