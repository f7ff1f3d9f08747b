//! Tests of the connection machine, in virtual time.
//!
//! `host` is one machine with its memory, driven segment by segment; `script` puts it into a state and plays the peer; `net`
//! joins two hosts by an impaired link.

mod host;
mod net;
mod pacing;
mod path_mtu;
mod script;

mod arrival;
mod bulk;
mod cookie;
mod dctcp;
mod ecn;
mod fast_open;
mod fast_open_cookies;
mod fuzz;
mod info;
mod info_times;
mod low_water;
mod push;
mod queue;
mod rack;
mod rate;
mod reassembly;
mod receiving;
mod recovery;
mod repair;
mod sack;
mod sending;
mod states;
mod time_wait;
mod timers;
mod window;
