//! Responses: a head, and a body that is sent piece by piece from wherever it lies.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::{Gone, Outgoing};

/// The status lines this server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    MovedPermanently,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    UriTooLong,
    FieldsTooLarge,
    InternalError,
    NotImplemented,
    VersionNotSupported,
}

impl Status {
    pub(super) fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::MovedPermanently => "301 Moved Permanently",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::UriTooLong => "414 URI Too Long",
            Status::FieldsTooLarge => "431 Request Header Fields Too Large",
            Status::InternalError => "500 Internal Server Error",
            Status::NotImplemented => "501 Not Implemented",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// What is answered, before it is written.
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) content_type: &'static str,
    /// The target of a redirect.
    pub(super) location: Option<String>,
    pub(super) body: Body,
}

impl Answer {
    /// A status that explains itself in one line of text.
    pub(super) fn plain(status: Status) -> Answer {
        let body = Body::Memory(format!("{}\n", status.line()).into_bytes());
        Answer { status, content_type: "text/plain; charset=utf-8", location: None, body }
    }
}

/// Where the bytes of a body lie.
pub(super) enum Body {
    Memory(Vec<u8>),
    File {
        file: File,
        len_bytes: u64,
    },
    /// So many bytes of [`PATTERN`], which needs no memory of its own.
    Pattern {
        len_bytes: u64,
    },
}

impl Body {
    pub(super) fn len_bytes(&self) -> u64 {
        match self {
            Body::Memory(bytes) => bytes.len() as u64,
            Body::File { len_bytes, .. } | Body::Pattern { len_bytes } => *len_bytes,
        }
    }
}

const PATTERN_PERIOD: usize = 251;
const PATTERN_BYTES: usize = PATTERN_PERIOD * 256;

/// Byte n of `/bytes/N` is n modulo 251: a prime, so that no power of two hides a shift.
static PATTERN: [u8; PATTERN_BYTES] = pattern();

const fn pattern() -> [u8; PATTERN_BYTES] {
    let mut bytes = [0; PATTERN_BYTES];
    let mut index = 0;
    while index < PATTERN_BYTES {
        bytes[index] = (index % PATTERN_PERIOD) as u8;
        index += 1;
    }
    bytes
}

/// A response on its way.
pub(super) struct Sending {
    body: Body,
    head_sent_bytes: usize,
    body_sent_bytes: u64,
    body_bytes: u64,
    /// Nothing follows on this connection.
    pub(super) is_last: bool,
}

/// Whether a response is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    Blocked,
}

impl Sending {
    /// Writes the head of `answer` into `head` (emptied first) and keeps its body; `is_head`: only the head.
    pub(super) fn begin(
        answer: Answer,
        is_head: bool,
        is_last: bool,
        date: &str,
        head: &mut Vec<u8>,
    ) -> Sending {
        let Answer { status, content_type, location, body } = answer;
        let len_bytes = body.len_bytes();
        head.clear();
        // Writing into a Vec cannot fail.
        let _ = write!(
            head,
            "HTTP/1.1 {}\r\nDate: {date}\r\nServer: ringwire\r\nContent-Length: {len_bytes}\r\nContent-Type: {content_type}\r\n",
            status.line()
        );
        if let Some(location) = location {
            let _ = write!(head, "Location: {location}\r\n");
        }
        if status == Status::MethodNotAllowed {
            head.extend_from_slice(b"Allow: GET, HEAD\r\n");
        }
        head.extend_from_slice(if is_last {
            b"Connection: close\r\n\r\n"
        } else {
            b"Connection: keep-alive\r\n\r\n"
        });
        let body_bytes = if is_head { 0 } else { len_bytes };
        Sending { body, head_sent_bytes: 0, body_sent_bytes: 0, body_bytes, is_last }
    }

    /// Sends as much as goes; `scratch` is where files pass through.
    pub(super) fn send(
        &mut self,
        head: &[u8],
        scratch: &mut [u8],
        out: &mut impl Outgoing,
    ) -> Result<Progress, Gone> {
        while self.head_sent_bytes < head.len() {
            match out.send(&head[self.head_sent_bytes..])? {
                0 => return Ok(Progress::Blocked),
                count => self.head_sent_bytes += count,
            }
        }
        while self.body_sent_bytes < self.body_bytes {
            let left = self.body_bytes - self.body_sent_bytes;
            let piece = self.body.piece(self.body_sent_bytes, left, scratch)?;
            match out.send(piece)? {
                0 => return Ok(Progress::Blocked),
                count => self.body_sent_bytes += count as u64,
            }
        }
        Ok(Progress::Done)
    }
}

impl Body {
    /// The next bytes from `offset`: at least one, at most `left`.
    fn piece<'b>(&'b self, offset: u64, left: u64, scratch: &'b mut [u8]) -> Result<&'b [u8], Gone> {
        let most = |len: usize| left.min(len as u64) as usize;
        match self {
            Body::Memory(bytes) => Ok(&bytes[offset as usize..]),
            Body::Pattern { .. } => {
                let start = (offset % PATTERN_PERIOD as u64) as usize;
                Ok(&PATTERN[start..start + most(PATTERN_BYTES - start)])
            }
            Body::File { file, .. } => {
                let room = most(scratch.len());
                // A file that shrank cannot keep its Content-Length: the connection ends instead.
                match file.read_at(&mut scratch[..room], offset) {
                    Ok(count) if count > 0 => Ok(&scratch[..count]),
                    Ok(_) | Err(_) => Err(Gone),
                }
            }
        }
    }
}
