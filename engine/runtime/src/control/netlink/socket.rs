//! Requests and their answers on a netlink socket, whatever the protocol on top.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer};
use netlink_sys::SocketAddr;

/// Bytes of `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Message types below this belong to netlink itself.
const NLMSG_MIN_TYPE: u16 = 16;

/// Times that a dump is repeated because the table changed under it.
const DUMP_TRIES: usize = 8;

/// How many messages answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// One object.
    One,
    /// A whole table.
    Dump,
    /// Nothing but success or an error; further request flags.
    Acknowledgement(u16),
}

#[derive(Debug)]
pub(super) struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
}

impl Socket {
    pub(super) fn open(protocol: isize) -> io::Result<Socket> {
        let mut inner = netlink_sys::Socket::new(protocol)?;
        inner.bind_auto()?;
        inner.connect(&SocketAddr::new(0, 0))?;
        Ok(Socket { inner, sequence: 0 })
    }

    /// Sends a request and collects what `take` makes of each answer, until the kernel says that it was the last.
    pub(super) fn request<T>(
        &mut self,
        kind: u16,
        answers: Answers,
        body: &[u8],
        take: impl Fn(u16, &[u8]) -> io::Result<Option<T>>,
    ) -> io::Result<Vec<T>> {
        let flags = match answers {
            Answers::One => NLM_F_ACK,
            Answers::Dump => NLM_F_DUMP,
            Answers::Acknowledgement(flags) => NLM_F_ACK | flags,
        };
        for _ in 0..DUMP_TRIES {
            self.send(kind, flags | NLM_F_REQUEST, body)?;
            if let Some(taken) = self.collect(&take)? {
                return Ok(taken);
            }
        }
        Err(io::Error::from(io::ErrorKind::Interrupted))
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let len = HEADER_LEN + body.len();
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&(len as u32).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(body);
        self.inner.send(&bytes, 0).map(drop)
    }

    /// None if the answers do not belong together, because the table changed between them.
    fn collect<T>(&self, take: impl Fn(u16, &[u8]) -> io::Result<Option<T>>) -> io::Result<Option<Vec<T>>> {
        let (mut taken, mut fault, mut is_consistent) = (Vec::new(), None, true);
        loop {
            let (bytes, _) = self.inner.recv_from_full()?;
            for message in messages(&bytes) {
                if message.sequence_number() != self.sequence {
                    continue; // what is left of a request that ended in an error
                }
                is_consistent &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_ERROR | NLMSG_DONE => {
                        status(message.payload())?;
                        return fault.map_or(Ok(is_consistent.then_some(taken)), Err);
                    }
                    ..NLMSG_MIN_TYPE => {}
                    // Reads on after a fault: a dump that is not read to its end keeps the socket busy.
                    kind => match take(kind, message.payload()) {
                        Ok(found) => taken.extend(found),
                        Err(error) => fault = fault.or(Some(error)),
                    },
                }
            }
        }
    }
}

/// The result code in front of NLMSG_ERROR and NLMSG_DONE: zero or a negative errno; NLMSG_DONE may come without one.
fn status(payload: &[u8]) -> io::Result<()> {
    match payload.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(code) if code < 0 => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Ok(()),
    }
}

/// The messages of one datagram; a broken one ends it.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        let aligned = (message.length() as usize).next_multiple_of(4);
        bytes = bytes.get(aligned..).unwrap_or_default();
        Some(message)
    })
}
