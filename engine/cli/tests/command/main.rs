//! The command as a user meets it: two hosts on one cable, Ringwire on one and the kernel on the other.

mod compare;
mod config;
mod doctor;
mod echo;
mod http;
mod load;
mod rig;
