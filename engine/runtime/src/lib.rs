//! Ringwire: a user-space TCP/UDP engine over AF_XDP.
//!
//! An [`Engine`] takes over packets of a network interface (or an in-memory wire) and hands out [`Worker`]s, one per core. A worker
//! is polled like `mio::Poll`; received data is an owned [`RxBuf`] in the frame it arrived in.
//!
//! ```
//! use std::time::Duration;
//! use ringwire::{Engine, Event, Events, Interface, Recv, TcpOptions};
//!
//! let side = |address: &str| Engine::builder().interface(Interface::new("memory").address(address.parse().unwrap()));
//! let (server, client) = Engine::memory_pair(side("10.0.0.1/24"), side("10.0.0.2/24"))?;
//! let mut server = server.into_workers().remove(0).start();
//! let mut client = client.into_workers().remove(0).start();
//!
//! server.listen("10.0.0.1:7".parse()?, &TcpOptions::default())?;
//! let conn = client.connect("10.0.0.1:7".parse()?, &TcpOptions::default())?;
//! let (mut events, mut answer) = (Events::with_capacity(64), Vec::new());
//! while answer != b"hello" {
//!     server.poll(&mut events, Some(Duration::ZERO))?;
//!     for event in events.drain() {
//!         if let Event::Readable(conn) = event {
//!             while let Recv::Data(piece) = server.recv(conn)? {
//!                 server.send_buf(conn, piece.into_tx()).map_err(|unsent| format!("{unsent:?}"))?;
//!             }
//!         }
//!     }
//!     client.poll(&mut events, Some(Duration::ZERO))?;
//!     for event in events.drain() {
//!         match event {
//!             Event::Connected(conn) => assert_eq!(client.send(conn, b"hello")?, 5),
//!             Event::Readable(conn) => {
//!                 while let Recv::Data(piece) = client.recv(conn)? {
//!                     answer.extend_from_slice(&piece);
//!                 }
//!             }
//!             _ => {}
//!         }
//!     }
//! }
//! client.close(conn);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(any(feature = "xdp", feature = "packet"))]
mod backend;
mod buffer;
pub mod clock;
mod config;
#[cfg(feature = "xdp")]
mod control;
/// What the packet backend uses of it: it has no shared addresses, so there is no thread.
#[cfg(all(feature = "packet", not(feature = "xdp")))]
mod control {
    #[allow(dead_code, unused_imports, reason = "the control thread has uses for all of it")]
    pub(crate) mod netlink;
    pub(crate) mod netns;
}
#[cfg_attr(not(feature = "xdp"), allow(dead_code))]
mod control_link;
mod engine;
mod error;
mod event;
mod heap;
#[cfg(any(feature = "xdp", feature = "packet"))]
mod interface;
mod memory;
mod metrics;
#[cfg(feature = "packet")]
mod packet;
pub mod posix;
#[cfg(feature = "config")]
mod settings;
mod slab;
mod wake;
mod worker;
#[cfg(feature = "xdp")]
mod xdp;

#[cfg(any(feature = "xdp", feature = "packet"))]
pub use backend::{Backend, InvalidBackend};
pub use buffer::{Batch, Datagram, RxBuf, TxBuf};
pub use config::{
    AttachMode, BindMode, BusyPoll, Cidr, Cork, Interface, InvalidCidr, KeepAlive, NeedWakeup, PollMode,
    TcpOptions, UdpOptions, VerifyChecksum,
};
pub use engine::{Drained, Engine, EngineBuilder, Handle, QueueMode};
pub use error::{
    BindError, CloseReason, ConnError, ConnectError, SetupError, SetupErrorKind, Unsent, WorkerError,
};
pub use event::{Conn, Event, Events, Listener, Recv, Turn, Udp};
pub use metrics::{Metrics, SteeringCounters, WorkerCounters};
/// Frames and in-memory ports, for those who hold the other end of a wire.
pub use ringwire_frame as frame;
pub use ringwire_proto::DropReason;
pub use ringwire_proto::icmp::Unreachable;
pub use ringwire_proto::tcp::fast_open::{InvalidKeys as InvalidFastOpenKeys, Keys as FastOpenKeys};
pub use ringwire_proto::tcp::{
    Algorithm as CongestionControl, Ecn, Info as TcpInfo, Pacing, State as TcpState,
};
#[cfg(feature = "config")]
pub use settings::{Settings, units};
pub use wake::Waker;
pub use worker::{Worker, WorkerSeed};

/// Compiles the README's example.
#[cfg(all(doctest, feature = "xdp"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
