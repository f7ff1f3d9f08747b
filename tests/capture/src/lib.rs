//! pcapng files of links, simulated or real: written while packets pass.
#![forbid(unsafe_code)]

mod pcapng;

pub use pcapng::{Recorder, Seen};
