//! Tests of the connection machine, in virtual time.
//!
//! `host` is one machine with its memory, driven segment by segment; `net` joins two of them by an impaired link.

mod host;
mod net;

mod script;

mod arrival;
mod bulk;
mod states;
