//! `serve http` towards kernel clients.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::rig::{Rig, Serving};

/// A directory to serve, removed at the end.
struct Pages(PathBuf);

impl Pages {
    fn new(name: &str) -> Pages {
        let path = std::env::temp_dir().join(format!("ringwire-pages-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("index.html"), "<h1>hello</h1>").unwrap();
        fs::write(path.join("big.bin"), pattern(1 << 20)).unwrap();
        Pages(path)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

fn serve(rig: &Rig, pages: &Pages) -> Serving {
    rig.serve(&format!("http --dir {} -a {}", pages.0.display(), rig.own_address(&rig.server)))
}

fn connect(rig: &Rig) -> TcpStream {
    rig.connect(rig.link.spare_addr(&rig.server))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: ringwire\r\n\r\n")
}

/// One response with a Content-Length: its head and its body.
fn response(stream: &mut impl Read) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.split("Content-Length: ").nth(1).unwrap().split('\r').next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

#[test]
fn pages_bytes_and_errors_over_one_connection() {
    let (rig, pages) = (Rig::new(), Pages::new("one"));
    let serving = serve(&rig, &pages);
    let mut stream = connect(&rig);
    for (path, status, body) in [
        ("/", 200, b"<h1>hello</h1>".to_vec()),
        ("/bytes/100000", 200, pattern(100_000)),
        ("/none", 404, b"404 Not Found\n".to_vec()),
        ("/big.bin", 200, pattern(1 << 20)),
        ("/bytes/0", 200, Vec::new()),
    ] {
        stream.write_all(get(path).as_bytes()).unwrap();
        let (head, received) = response(&mut stream);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert!(received == body, "{path}: {} bytes", received.len());
    }
    drop(stream);
    serving.end();
}

#[test]
fn pipelined_requests_of_a_half_closed_client_are_all_answered() {
    let (rig, pages) = (Rig::new(), Pages::new("half"));
    let serving = serve(&rig, &pages);
    let mut stream = connect(&rig);
    stream.write_all([get("/bytes/70000"), get("/"), get("/bytes/5")].concat().as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(response(&mut stream).1, pattern(70_000));
    assert_eq!(response(&mut stream).1, b"<h1>hello</h1>");
    assert_eq!(response(&mut stream).1, pattern(5));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    serving.end();
}

#[test]
fn close_is_honoured_and_a_refused_request_is_answered_before_the_end() {
    let (rig, pages) = (Rig::new(), Pages::new("close"));
    let serving = serve(&rig, &pages);
    let mut stream = connect(&rig);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(all.contains("Connection: close\r\n") && all.ends_with("<h1>hello</h1>"), "{all}");

    // The body is never read by anybody; the answer must come through all the same.
    let mut stream = connect(&rig);
    let body = vec![b'x'; 100_000];
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").unwrap();
    stream.write_all(&body).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(all.starts_with("HTTP/1.1 405 "), "{all}");
    serving.end();
}

#[test]
fn a_slow_reader_gets_all_of_a_large_answer_while_others_are_served() {
    const LEN: usize = 8 << 20;
    let (rig, pages) = (Rig::new(), Pages::new("slow"));
    let serving = serve(&rig, &pages);
    let mut slow = connect(&rig);
    slow.write_all(get(&format!("/bytes/{LEN}")).as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(300));
    let mut other = connect(&rig);
    other.write_all(get("/").as_bytes()).unwrap();
    assert_eq!(response(&mut other).1, b"<h1>hello</h1>");
    let (_, body) = response(&mut slow);
    assert!(body == pattern(LEN));
    serving.end();
}

#[test]
fn clients_that_vanish_do_no_harm() {
    let (rig, pages) = (Rig::new(), Pages::new("vanish"));
    let serving = serve(&rig, &pages);
    for _ in 0..20 {
        let mut stream = connect(&rig);
        stream.write_all(get("/bytes/1000000").as_bytes()).unwrap();
        // Unread answers make the client's kernel reset the connection.
        stream.read_exact(&mut [0; 100]).unwrap();
    }
    let mut stream = connect(&rig);
    stream.write_all(get("/").as_bytes()).unwrap();
    assert_eq!(response(&mut stream).1, b"<h1>hello</h1>");
    drop(stream);
    serving.end();
}

#[test]
fn a_directory_that_is_not_there_is_refused() {
    let rig = Rig::new();
    let ifname = rig.link.name(&rig.server);
    let output = rig.output(&rig.server, &format!("serve http --dir /nonexistent -i {ifname}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("'/nonexistent'") && stderr.contains("\nhint: "), "{stderr}");
}
