//! Request heads: from bytes to what is asked for, or to the status that refuses it.

use percent_encoding::percent_decode_str;

use super::response::Status;

/// Longest request line; beyond, 414 (RFC 9112 3: at least 8000 octets are to be taken).
const MAX_LINE_BYTES: usize = 8 * 1024;
/// Longest head; beyond, 431 (RFC 6585 5).
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;

/// A request that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// HEAD: the same answer without its body.
    pub(super) is_head: bool,
    /// Decoded, without the query, with its first slash.
    pub(super) path: String,
    pub(super) keep_alive: bool,
    /// Bytes behind the head that belong to this request and mean nothing to us.
    pub(super) body_bytes: u64,
}

/// What the first bytes of the input are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Whole { request: Request, head_bytes: usize },
    Partial,
    Refused(Status),
}

/// Reads one head from the front of `input`.
pub(super) fn parse(input: &[u8]) -> Parsed {
    // RFC 9112 2.2: at least one empty line before a request is to be ignored; httparse skips them.
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(input) {
        Ok(httparse::Status::Complete(head_bytes)) if head_bytes > MAX_HEAD_BYTES => {
            Parsed::Refused(Status::FieldsTooLarge)
        }
        Ok(httparse::Status::Complete(head_bytes)) => match request_of(&head) {
            Ok(request) => Parsed::Whole { request, head_bytes },
            Err(status) => Parsed::Refused(status),
        },
        Ok(httparse::Status::Partial) => match too_long(input) {
            Some(status) => Parsed::Refused(status),
            None => Parsed::Partial,
        },
        Err(httparse::Error::TooManyHeaders) => Parsed::Refused(Status::FieldsTooLarge),
        Err(httparse::Error::Version) => Parsed::Refused(Status::VersionNotSupported),
        Err(_) => Parsed::Refused(Status::BadRequest),
    }
}

fn too_long(input: &[u8]) -> Option<Status> {
    let line_bytes = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    if line_bytes > MAX_LINE_BYTES {
        Some(Status::UriTooLong)
    } else if input.len() > MAX_HEAD_BYTES {
        Some(Status::FieldsTooLarge)
    } else {
        None
    }
}

fn request_of(head: &httparse::Request<'_, '_>) -> Result<Request, Status> {
    let (Some(method), Some(target), Some(minor_version)) = (head.method, head.path, head.version) else {
        return Err(Status::BadRequest);
    };
    if target.len() > MAX_LINE_BYTES {
        return Err(Status::UriTooLong);
    }
    // RFC 9112 3.2: a 1.1 request without exactly one Host is refused.
    let host_count = values(head, "host").count();
    if host_count > 1 || (host_count == 0 && minor_version == 1) {
        return Err(Status::BadRequest);
    }
    let body_bytes = body_bytes(head)?;
    let is_head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Status::MethodNotAllowed),
    };
    Ok(Request { is_head, path: path_of(target)?, keep_alive: keep_alive(head, minor_version), body_bytes })
}

fn values<'h>(head: &'h httparse::Request<'_, '_>, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    head.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// RFC 9112 6.3: what length the body has. Codings are refused: no answer here depends on a body.
fn body_bytes(head: &httparse::Request<'_, '_>) -> Result<u64, Status> {
    if values(head, "transfer-encoding").next().is_some() {
        return Err(Status::NotImplemented);
    }
    let mut lengths = values(head, "content-length");
    let Some(length) = lengths.next() else { return Ok(0) };
    let digits = std::str::from_utf8(length).map_err(|_| Status::BadRequest)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || lengths.any(|other| other != length) {
        return Err(Status::BadRequest);
    }
    digits.parse().map_err(|_| Status::BadRequest)
}

/// RFC 9112 9.3: 1.1 persists unless told otherwise, 1.0 only when asked to.
fn keep_alive(head: &httparse::Request<'_, '_>, minor_version: u8) -> bool {
    let mut keep_alive = minor_version >= 1;
    for value in values(head, "connection") {
        for option in value.split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keep_alive
}

/// The decoded path of an origin-form or absolute-form target (RFC 9112 3.2).
fn path_of(target: &str) -> Result<String, Status> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if !path.starts_with('/') {
        return Err(Status::BadRequest);
    }
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| Status::BadRequest)?;
    let climbs = decoded.split('/').any(|segment| segment == "..");
    if climbs || decoded.contains('\0') {
        return Err(Status::BadRequest);
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(input: &str) -> Option<Status> {
        match parse(input.as_bytes()) {
            Parsed::Refused(status) => Some(status),
            Parsed::Whole { .. } | Parsed::Partial => None,
        }
    }

    fn request(input: &str) -> Request {
        match parse(input.as_bytes()) {
            Parsed::Whole { request, head_bytes } => {
                assert_eq!(head_bytes, input.len());
                request
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn heads_in_any_pieces() {
        let whole = "GET /a%20b?q=1 HTTP/1.1\r\nHost: x\r\n\r\n";
        for len in 0..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..len]), Parsed::Partial, "{len}");
        }
        let expected = Request { is_head: false, path: "/a b".to_owned(), keep_alive: true, body_bytes: 0 };
        assert_eq!(request(whole), expected);
    }

    #[test]
    fn connections_persist_by_version_and_wish() {
        let keeps = |head: &str| request(&format!("GET / HTTP/1.{head}\r\n\r\n")).keep_alive;
        assert!(keeps("1\r\nHost: x"));
        assert!(!keeps("1\r\nHost: x\r\nConnection: close"));
        assert!(!keeps("1\r\nHost: x\r\nconnection: Upgrade, CLOSE"));
        assert!(!keeps("0"));
        assert!(keeps("0\r\nConnection: Keep-Alive"));
    }

    #[test]
    fn targets_in_both_forms() {
        assert_eq!(request("HEAD http://h:80/x/y HTTP/1.1\r\nHost: h\r\n\r\n").path, "/x/y");
        assert_eq!(request("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n").path, "/");
        assert!(request("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").is_head);
    }

    #[test]
    fn every_refusal_has_its_status() {
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        for (input, status) in [
            (get("/../etc/passwd"), Status::BadRequest),
            (get("/a/%2e%2e/b"), Status::BadRequest),
            (get("/%00"), Status::BadRequest),
            (get("/%ff"), Status::BadRequest),
            (get("no-slash"), Status::BadRequest),
            (get(&format!("/{}", "a".repeat(MAX_LINE_BYTES))), Status::UriTooLong),
            (format!("GET /{}", "a".repeat(MAX_LINE_BYTES)), Status::UriTooLong),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), Status::MethodNotAllowed),
            ("GET / HTTP/2.0\r\nHost: x\r\n\r\n".to_owned(), Status::VersionNotSupported),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n".to_owned(), Status::BadRequest),
            ("\u{1}\u{2}\r\n\r\n".to_owned(), Status::BadRequest),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                Status::NotImplemented,
            ),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_owned(), Status::BadRequest),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
                Status::BadRequest,
            ),
            (
                format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(MAX_HEAD_BYTES)),
                Status::FieldsTooLarge,
            ),
            (format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(MAX_HEAD_BYTES)), Status::FieldsTooLarge),
            (
                format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS)),
                Status::FieldsTooLarge,
            ),
        ] {
            assert_eq!(refused(&input), Some(status), "{:.60}", input);
        }
    }
}
