//! Two whole engines over a simulated link in virtual time: how TCP is tested first.
//!
//! ```text
//! Worker A -- MemPort -- Relay (delay, jitter, loss, duplication, corruption; seeded) -- MemPort -- Worker B
//!        one manual clock; a run is a function of its seed
//! ```

pub mod exchange;
pub mod link;
pub mod rng;

pub use exchange::{Plan, Report, run};
pub use link::{Impairment, LinkCounters, Relay};
pub use rng::Rng;
