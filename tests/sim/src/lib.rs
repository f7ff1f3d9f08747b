//! Two whole engines over a simulated link in virtual time: how TCP is tested first.
//!
//! ```text
//! Worker A -- MemPort -- Relay (rate, queue, delay, jitter, loss, reordering, duplication, corruption, MTU) -- MemPort -- Worker B
//!        one manual clock; a run is a function of its seed
//! ```
//! A [`Plan`] is drawn from a seed; [`run`] judges it: every byte once and in order or the application is told, every connection ends,
//! every frame comes home, no timer is left, and no transfer is slower than [`floor::limits`] allows. That the state machine stays in
//! the RFC's figure is asserted where it changes state (`Tcb::transition`), in builds with debug assertions; the sweep wants such a one.
//!
//! ```text
//! cargo test -p ringwire-sim                                             a slice, as CI runs it
//! SIM_SEEDS=20000 cargo test -p ringwire-sim --test sweep seeds          the full run
//! SIM_SEED=N cargo test -p ringwire-sim --test sweep seeds -- --nocapture  replays one seed and writes its packets to a file
//! ```

pub mod bottleneck;
pub mod bulk;
pub mod exchange;
pub mod floor;
pub mod line;
pub mod link;
pub mod plan;
pub mod rng;
mod side;

pub use bottleneck::{Bottleneck, BottleneckCounters};
pub use bulk::{Bulk, BulkReport, Flow, FlowReport};
pub use exchange::{Report, run, run_recorded};
pub use line::{Impairment, LinkCounters, Loss};
pub use link::Relay;
pub use plan::{Incident, Plan};
pub use rng::Rng;
