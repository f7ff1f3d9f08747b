//! One HTTP connection: requests in, answers out, in order.

use super::request::{MAX_HEAD_BYTES, Parsed, parse};
use super::response::{Progress, Sending};
use super::site::Site;
use super::{Gone, Outgoing};

/// A connection's state; between requests it owns two empty buffers.
#[derive(Default)]
pub(crate) struct Session {
    input: Vec<u8>,
    /// Where the next request begins in `input`.
    start: usize,
    /// What is still to come of a body that nobody wants.
    skip_bytes: u64,
    head: Vec<u8>,
    sending: Option<Sending>,
    at_eof: bool,
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// More requests.
    Input,
    /// Room to send.
    Output,
    /// Everything is said: the connection ends.
    Close,
}

impl Session {
    /// Adds received bytes. While the session waits for room to send, its owner leaves further bytes
    /// unread: at most one piece more than a head is ever held.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The client has ended its direction; what it asked before is still answered.
    pub(crate) fn receive_eof(&mut self) {
        self.at_eof = true;
    }

    /// Whether an answer is on its way or more requests may come; an idle session may be ended.
    pub(crate) fn is_idle(&self) -> bool {
        self.sending.is_none()
    }

    /// Answers as far as input and room go.
    pub(crate) fn drive(&mut self, site: &mut Site, out: &mut impl Outgoing) -> Result<Next, Gone> {
        loop {
            if let Some(sending) = &mut self.sending {
                match sending.send(&self.head, &mut site.scratch, out)? {
                    Progress::Blocked => return Ok(Next::Output),
                    Progress::Done if sending.is_last => return Ok(Next::Close),
                    Progress::Done => self.sending = None,
                }
            }
            if self.begin_next(site) == Step::Wait {
                return Ok(if self.at_eof { Next::Close } else { Next::Input });
            }
        }
    }

    /// Takes the next request from the input and begins its answer.
    fn begin_next(&mut self, site: &mut Site) -> Step {
        self.skip_body();
        let sending = match parse(self.pending()) {
            Parsed::Partial => return Step::Wait,
            Parsed::Refused(status) => site.refuse(status, &mut self.head),
            Parsed::Whole { request, head_bytes } => {
                self.start += head_bytes;
                self.skip_bytes = request.body_bytes;
                site.answer(&request, &mut self.head)
            }
        };
        self.sending = Some(sending);
        Step::Answer
    }

    fn skip_body(&mut self) {
        let skipped = self.skip_bytes.min(self.pending().len() as u64) as usize;
        self.skip_bytes -= skipped as u64;
        self.start += skipped;
        if self.start == self.input.len() {
            self.input.clear();
            self.start = 0;
        } else if self.start > MAX_HEAD_BYTES {
            self.input.drain(..self.start);
            self.start = 0;
        }
    }

    fn pending(&self) -> &[u8] {
        &self.input[self.start..]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Answer,
    Wait,
}

#[cfg(test)]
mod tests;
