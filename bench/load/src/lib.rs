//! Ringwire's load generator and the comparison built on it.
//!
//! A [`Scenario`] is driven in a closed loop over a stack: kernel sockets ([`drive::kernel`]) or
//! Ringwire itself (`drive::ringwire`, feature `xdp`). Every byte of every answer is checked.
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//! use ringwire_load::{Origin, Report, Scenario, Waiting, Watch, Work, drive};
//!
//! let scenario = Scenario::new(Work::TcpRr, "10.0.0.1:9000".parse()?);
//! let watch = Watch { stop: &AtomicBool::new(false), on_interval: &mut |_| {} };
//! let measured = drive::kernel::run(&scenario, Waiting::Busy, watch)?;
//! println!("{}", Report::new(&scenario, measured, Origin::default()).to_text());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod closed_loop;
pub mod compare;
pub mod cpu;
pub mod drive;
mod meter;
mod payload;
pub mod recovery;
pub mod report;
pub mod scenario;
pub mod stats;

pub use closed_loop::{LoadError, Waiting};
pub use meter::{Ended, Fault, Measured, Watch};
pub use report::{Origin, Report};
pub use scenario::{Scenario, ScenarioError, Work};
