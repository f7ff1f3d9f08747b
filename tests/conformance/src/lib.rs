//! Conformance: packet scripts, and the table that says which rule of which RFC is proved by which test.
//!
//! ```text
//!   script --- inject / expect ---> Segment <-> Ethernet frames <-> MemPort --- Worker (one engine, manual clock)
//!      |                                                                          ^
//!      +---------------------- listen, connect, send, recv, close ----------------+
//! ```
//! A [`Script`] is the peer and the application of one worker at once. It owns the virtual clock: nothing moves unless the script
//! injects, calls or waits, so that a case of 62 seconds takes milliseconds and always goes the same way. Sequence numbers are
//! relative: 0 is the SYN of the side that the number belongs to.
//!
//! ```
//! use ringwire_conformance::{ack, data, script, syn_ack};
//!
//! // What a test function contains: a SYN is answered, text is acknowledged within half a second and no sooner.
//! script(|s| {
//!     s.listen();
//!     s.inject(s.peer_syn());
//!     s.expect_only(syn_ack().seq(0).ack(1).mss(1460));
//!     s.inject(ack());
//!     s.accept();
//!     s.inject(data("hello"));
//!     s.expect_nothing();
//!     s.expect_after(1..=499, ack().ack(6));
//!     s.expect_read("hello");
//! });
//! ```
//!
//! The tables beside this package's manifest are read by [`table`]; `cargo run -p ringwire-conformance` checks them.

mod app;
mod bystander;
mod expected;
mod host;
mod script;
mod segment;
mod sources;
pub mod table;

pub use app::default_keepalive_time;
pub use expected::{run, script};
pub use host::Sent;
pub use ringwire_proto::tcp::CongestionPhase;
pub use script::{PEER, Script, WORKER};
pub use segment::{Segment, ack, bare, data, fin, rst, rst_ack, syn, syn_ack};
