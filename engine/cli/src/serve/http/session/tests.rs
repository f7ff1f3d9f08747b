//! Sessions over an imagined connection.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A directory with `a.txt`, `sub/` and `sub/b.html`, removed at the end.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Tree {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("ringwire-http-{}-{number}", process::id()));
        fs::create_dir_all(root.join("www/sub")).unwrap();
        fs::write(root.join("www/a.txt"), b"hello").unwrap();
        fs::write(root.join("www/sub/b.html"), vec![b'b'; 200_000]).unwrap();
        fs::write(root.join("secret"), b"secret").unwrap();
        symlink("../secret", root.join("www/out")).unwrap();
        symlink("a.txt", root.join("www/in")).unwrap();
        Tree(root)
    }

    fn site(&self) -> Site {
        Site::open(&self.0.join("www")).unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Takes `room` bytes a drive, in pieces of `piece`.
struct Wire {
    bytes: Vec<u8>,
    room: usize,
    piece: usize,
}

impl Wire {
    fn wide() -> Wire {
        Wire { bytes: Vec::new(), room: usize::MAX, piece: usize::MAX }
    }
}

impl Outgoing for Wire {
    fn send(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        let count = bytes.len().min(self.room).min(self.piece);
        self.room -= count;
        self.bytes.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

fn talk(requests: &str) -> (String, Next) {
    let tree = Tree::new();
    let mut session = Session::default();
    let mut wire = Wire::wide();
    session.receive(requests.as_bytes());
    let next = session.drive(&mut tree.site(), &mut wire).unwrap();
    (String::from_utf8_lossy(&wire.bytes).into_owned(), next)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn a_file_with_length_and_type() {
    let (response, next) = talk(&get("/a.txt"));
    assert!(response.starts_with("HTTP/1.1 200 OK\r\nDate: "), "{response}");
    assert!(response.contains("Content-Length: 5\r\nContent-Type: text/plain"), "{response}");
    assert!(response.contains("Connection: keep-alive"));
    assert_eq!((body(&response), next), ("hello", Next::Input));
}

#[test]
fn head_has_the_length_and_no_body() {
    let (response, next) = talk("HEAD /sub/b.html HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(response.contains("Content-Length: 200000\r\n"), "{response}");
    assert_eq!((body(&response), next), ("", Next::Input));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let requests = [get("/a.txt"), get("/bytes/3"), get("/none"), get("/bytes/0"), get("/a.txt")].concat();
    let (responses, next) = talk(&requests);
    let lengths: Vec<&str> =
        responses.split("Content-Length: ").skip(1).map(|rest| rest.split_once("\r").unwrap().0).collect();
    assert_eq!(lengths, ["5", "3", "14", "0", "5"]);
    assert!(responses.ends_with("hello"));
    assert_eq!(next, Next::Input);
}

#[test]
fn close_is_honoured_and_ends_pipelining() {
    let requests = format!("GET /a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n{}", get("/a.txt"));
    let (response, next) = talk(&requests);
    assert_eq!(response.matches("HTTP/1.1").count(), 1);
    assert!(response.contains("Connection: close"));
    assert_eq!(next, Next::Close);
}

#[test]
fn what_is_outside_stays_outside() {
    for path in ["/out", "/../secret", "/sub/../../secret", "/%2e%2e/secret", "//etc/passwd", "/none"] {
        let (response, _) = talk(&get(path));
        assert!(response.starts_with("HTTP/1.1 40"), "{path}: {response}");
        assert!(!response.contains("root:") && !body(&response).contains("secret"), "{path}");
    }
    assert_eq!(body(&talk(&get("/in")).0), "hello");
}

#[test]
fn directories_list_redirect_and_show_their_index() {
    let (response, _) = talk(&get("/"));
    assert!(body(&response).contains("<a href=\"./sub/\">sub/</a>"), "{response}");
    let (response, _) = talk(&get("/sub"));
    assert!(response.contains("301") && response.contains("Location: /sub/\r\n"), "{response}");
    let (response, _) = talk(&get("//sub"));
    assert!(response.contains("Location: /sub/\r\n"), "{response}");

    let tree = Tree::new();
    fs::write(tree.0.join("www/sub/index.html"), "<p>index</p>").unwrap();
    let mut session = Session::default();
    let mut wire = Wire::wide();
    session.receive(get("/sub/").as_bytes());
    session.drive(&mut tree.site(), &mut wire).unwrap();
    assert!(String::from_utf8_lossy(&wire.bytes).ends_with("<p>index</p>"));
}

#[test]
fn names_in_listings_are_escaped() {
    let tree = Tree::new();
    fs::write(tree.0.join("www/<b>&\"#"), "").unwrap();
    let mut session = Session::default();
    let mut wire = Wire::wide();
    session.receive(get("/").as_bytes());
    session.drive(&mut tree.site(), &mut wire).unwrap();
    let response = String::from_utf8_lossy(&wire.bytes).into_owned();
    assert!(response.contains("<a href=\"./%3Cb%3E%26%22%23\">&lt;b&gt;&amp;&quot;#</a>"), "{response}");
}

#[test]
fn slow_readers_get_every_byte_once() {
    const LEN: usize = 300_000;
    let tree = Tree::new();
    let mut site = tree.site();
    for (path, expected) in [
        (format!("/bytes/{LEN}"), (0..LEN).map(|n| (n % 251) as u8).collect::<Vec<u8>>()),
        ("/sub/b.html".to_owned(), vec![b'b'; 200_000]),
    ] {
        let mut session = Session::default();
        let mut wire = Wire { bytes: Vec::new(), room: 0, piece: 1448 };
        session.receive(get(&path).as_bytes());
        let mut waits = 0;
        while session.drive(&mut site, &mut wire).unwrap() == Next::Output {
            assert!(!session.is_idle());
            wire.room = 4001;
            waits += 1;
        }
        assert!(waits > 40);
        let head_len = wire.bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert!(wire.bytes[head_len..] == expected, "{path}");
    }
}

#[test]
fn requests_arrive_byte_by_byte_with_bodies_between() {
    let requests =
        format!("GET /bytes/2 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nGET / HT?{}", get("/a.txt"));
    let tree = Tree::new();
    let mut site = tree.site();
    for step in [1, 2, 7, 1000] {
        let mut session = Session::default();
        let mut wire = Wire::wide();
        for piece in requests.as_bytes().chunks(step) {
            session.receive(piece);
            assert_eq!(session.drive(&mut site, &mut wire).unwrap(), Next::Input);
        }
        let responses = String::from_utf8_lossy(&wire.bytes);
        assert_eq!(responses.matches("HTTP/1.1 200 OK").count(), 2, "{step}: {responses}");
        assert!(responses.ends_with("hello"));
    }
}

#[test]
fn a_half_closed_client_is_answered_and_then_left() {
    let tree = Tree::new();
    let mut session = Session::default();
    let mut wire = Wire { bytes: Vec::new(), room: 10, piece: 10 };
    session.receive(get("/a.txt").repeat(2).as_bytes());
    session.receive_eof();
    assert_eq!(session.drive(&mut tree.site(), &mut wire).unwrap(), Next::Output);
    wire.room = usize::MAX;
    assert_eq!(session.drive(&mut tree.site(), &mut wire).unwrap(), Next::Close);
    assert_eq!(String::from_utf8_lossy(&wire.bytes).matches("hello").count(), 2);
}

#[test]
fn refusals_are_answered_once_and_end_the_connection() {
    for (requests, line) in [
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".to_owned(), "405 Method Not Allowed"),
        ("nonsense\r\n\r\n".repeat(3), "400 Bad Request"),
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000)), "414 URI Too Long"),
    ] {
        let (response, next) = talk(&requests);
        assert!(response.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{response}");
        assert_eq!((response.matches("HTTP/1.1").count(), next), (1, Next::Close));
    }
    assert!(talk("PUT / HTTP/1.1\r\nHost: x\r\n\r\n").0.contains("Allow: GET, HEAD\r\n"));
}
