//! HTTP/1.1 for `ringwire serve http`: a directory, its listings, and `/bytes/N`.
//!
//! [`Session`] is one connection without the connection: bytes go in, bytes come out through
//! [`Outgoing`], which may take less than it is given. So one machine serves any stack, holds back for
//! slow readers, and is tested without a network. RFC 9112 is the syntax, RFC 9110 the meaning.

mod date;
mod request;
mod response;
mod session;
mod site;

pub(crate) use session::{Next, Session};
pub(crate) use site::Site;

/// Where a session's bytes go.
pub(crate) trait Outgoing {
    /// Takes a prefix of `bytes`; a short count means "later", and the session is driven again then.
    fn send(&mut self, bytes: &[u8]) -> Result<usize, Gone>;
}

/// The connection can take nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;
