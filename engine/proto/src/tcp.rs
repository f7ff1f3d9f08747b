//! The TCP connection machine (RFC 9293).
