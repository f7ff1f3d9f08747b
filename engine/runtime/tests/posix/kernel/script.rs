//! The language of `scripts.txt`: one call a line, words apart by spaces.
//!
//! ```text
//! ## a name                         begins a script
//! s = tcp 1 | udp 0 | epoll 0       a socket, or an epoll, on host 0 or 1
//! c = accept s                      y = call: the result has a name from then on
//! bind s any 80                     any, h0 and h1 (the hosts), far (nobody's), unspec
//! ```

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use ringwire::posix::Errno;
use ringwire::posix::addr::Named;

use super::calls::{Calls, Sock};
use crate::{A, B};

pub(super) struct Script {
    pub(super) name: &'static str,
    pub(super) lines: Vec<&'static str>,
}

impl Script {
    pub(super) fn all(text: &'static str) -> Vec<Script> {
        let mut scripts: Vec<Script> = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("# ")) {
            match (line.strip_prefix("## "), scripts.last_mut()) {
                (Some(name), _) => scripts.push(Script { name, lines: Vec::new() }),
                (None, Some(script)) => script.lines.push(line),
                (None, None) => panic!("a line before the first script: {line}"),
            }
        }
        scripts
    }

    /// The line, and which of its like it is.
    pub(super) fn line_name(&self, at: usize) -> String {
        let before = self.lines.iter().take(at).filter(|line| **line == self.lines[at]).count();
        if before == 0 { self.lines[at].into() } else { format!("{} #{}", self.lines[at], before + 1) }
    }
}

/// What each line has given.
pub(super) fn run(script: &Script, calls: &mut dyn Calls) -> Vec<String> {
    let mut names = Names::default();
    script
        .lines
        .iter()
        .map(|line| names.call(line, calls).unwrap_or_else(|error| format!("{error:?}")))
        .collect()
}

#[derive(Default)]
struct Names(BTreeMap<&'static str, Sock>);

const OK: &str = "ok";

fn done(result: Result<(), Errno>) -> Result<String, Errno> {
    result.map(|()| OK.into())
}

impl Names {
    fn call(&mut self, line: &'static str, calls: &mut dyn Calls) -> Result<String, Errno> {
        let words: Vec<&'static str> = line.split_whitespace().collect();
        match words[..] {
            [name, "=", ref call @ ..] => {
                let sock = match call {
                    ["tcp", host] => calls.socket(number(host) as usize, libc::SOCK_STREAM),
                    ["udp", host] => calls.socket(number(host) as usize, libc::SOCK_DGRAM),
                    ["epoll", host] => calls.epoll(number(host) as usize),
                    ["accept", listener] => calls.accept(self.sock(listener)),
                    _ => panic!("{line}"),
                }?;
                self.0.insert(name, sock);
                Ok(OK.into())
            }
            ["close", sock] => {
                let closed = self.sock(sock);
                self.0.remove(sock);
                done(calls.close(closed))
            }
            ["pass", ms] => {
                calls.pass(number(ms).unsigned_abs().into());
                Ok(OK.into())
            }
            [verb, sock, ref rest @ ..] => match (verb, rest) {
                ("add" | "mod" | "del", [watched, events]) => {
                    done(calls.epoll_ctl(self.sock(sock), operation(verb), self.sock(watched), bits(events)))
                }
                ("events", [max]) => {
                    let epoll = self.sock(sock);
                    Ok(self.events(epoll.host, calls.epoll_wait(epoll, number(max) as usize)?))
                }
                _ => call_on(self.sock(sock), (verb, rest), calls),
            },
            _ => panic!("{line}"),
        }
    }

    /// A name that nothing has got is a number that nothing has.
    fn sock(&self, name: &str) -> Sock {
        self.0.get(name).copied().unwrap_or(Sock { host: 0, fd: 900_000 })
    }

    fn events(&self, host: usize, found: Vec<(i32, u32)>) -> String {
        let name = |fd: i32| {
            self.0.iter().find(|(_, sock)| sock.fd == fd && sock.host == host).map_or("?", |(name, _)| name)
        };
        let mut shown: Vec<String> =
            found.into_iter().map(|(fd, events)| format!("{}:{}", name(fd), ready_names(events))).collect();
        shown.sort();
        format!("[{}]", shown.join(" "))
    }
}

/// The calls on one socket.
fn call_on(
    sock: Sock,
    (verb, rest): (&str, &[&'static str]),
    calls: &mut dyn Calls,
) -> Result<String, Errno> {
    match (verb, rest) {
        ("bind", [ip, port]) => done(calls.bind(sock, addr(ip, port))),
        ("listen", [backlog]) => done(calls.listen(sock, number(backlog))),
        ("connect", ["unspec"]) => done(calls.connect(sock, Named::Unspecified)),
        ("connect", [ip, port]) => done(calls.connect(sock, Named::Inet(addr(ip, port)))),
        ("send", [text, flags @ ..]) => {
            let to = flags.iter().position(|word| *word == "to").map(|at| addr(flags[at + 1], flags[at + 2]));
            let flags = flags.iter().map(|word| message_flag(word)).fold(0, |all, flag| all | flag);
            let text = if *text == "-" { "" } else { text };
            calls.send(sock, text.as_bytes(), flags, to).map(|len| len.to_string())
        }
        ("fill", []) => fill(sock, calls),
        ("recv", [len, flags @ ..]) => {
            let flags = flags.iter().map(|word| message_flag(word)).fold(0, |all, flag| all | flag);
            let found = calls.recv(sock, number(len) as usize, flags)?;
            Ok(format!("\"{}\"", String::from_utf8_lossy(&found)))
        }
        ("shutdown", [how]) => done(calls.shutdown(sock, number(how))),
        ("poll", []) => Ok(ready_names(u32::from(calls.poll(sock, POLLED).cast_unsigned()))),
        ("poll", ["nothing"]) => Ok(ready_names(u32::from(calls.poll(sock, 0).cast_unsigned()))),
        ("set", [option, values @ ..]) => {
            let value: Vec<u8> = values.iter().flat_map(|value| number(value).to_ne_bytes()).collect();
            done(calls.set(sock, option_named(option), &value))
        }
        ("get", [option]) => {
            let value = calls.get(sock, option_named(option))?;
            let ints = value.chunks_exact(4).map(|int| i32::from_ne_bytes([int[0], int[1], int[2], int[3]]));
            Ok(ints.map(|int| int.to_string()).collect::<Vec<_>>().join(","))
        }
        ("state", []) => {
            let info = calls.get(sock, (libc::IPPROTO_TCP, libc::TCP_INFO))?;
            Ok(STATES.get(usize::from(info[0])).copied().unwrap_or("?").into())
        }
        ("ioctl", [request]) => calls.ioctl(sock, request_named(request)).map(|value| value.to_string()),
        ("local", []) => calls.local(sock).map(addr_name),
        ("peer", []) => calls.peer(sock).map(addr_name),
        _ => panic!("{verb} {rest:?}"),
    }
}

/// Writes until there is no room; how much that is is nobody's promise.
fn fill(sock: Sock, calls: &mut dyn Calls) -> Result<String, Errno> {
    let bytes = vec![b'f'; 1 << 16];
    for _ in 0..4_096 {
        match calls.send(sock, &bytes, 0, None) {
            Ok(_) => {}
            Err(Errno::AGAIN) => return Ok("full".into()),
            Err(error) => return Err(error),
        }
    }
    Ok("endless".into())
}

const POLLED: i16 = libc::POLLIN | libc::POLLPRI | libc::POLLOUT | libc::POLLRDHUP;
const STATES: [&str; 12] = [
    "-",
    "ESTABLISHED",
    "SYN-SENT",
    "SYN-RECEIVED",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "CLOSED",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
];
const READY: [(&str, i32); 9] = [
    ("IN", libc::EPOLLIN),
    ("PRI", libc::EPOLLPRI),
    ("OUT", libc::EPOLLOUT),
    ("RDHUP", libc::EPOLLRDHUP),
    ("ERR", libc::EPOLLERR),
    ("HUP", libc::EPOLLHUP),
    ("ET", libc::EPOLLET),
    ("ONCE", libc::EPOLLONESHOT),
    ("EXCL", libc::EPOLLEXCLUSIVE),
];

fn ready_names(bits: u32) -> String {
    if bits & u32::from(libc::POLLNVAL.cast_unsigned()) != 0 {
        return "NVAL".into();
    }
    let names: Vec<&str> =
        READY.iter().filter(|(_, bit)| bits & bit.cast_unsigned() != 0).map(|(name, _)| *name).collect();
    if names.is_empty() { "nothing".into() } else { names.join("+") }
}

fn bits(names: &str) -> u32 {
    let bit =
        |name: &str| READY.iter().find(|(known, _)| *known == name).map_or(0, |(_, bit)| bit.cast_unsigned());
    names.split('+').map(bit).fold(0, |all, bit| all | bit)
}

fn operation(verb: &str) -> i32 {
    match verb {
        "add" => libc::EPOLL_CTL_ADD,
        "mod" => libc::EPOLL_CTL_MOD,
        _ => libc::EPOLL_CTL_DEL,
    }
}

fn number(word: &str) -> i32 {
    word.parse().unwrap_or_else(|_| panic!("a number: {word}"))
}

fn addr(ip: &str, port: &str) -> SocketAddrV4 {
    let ip = match ip {
        "any" => Ipv4Addr::UNSPECIFIED,
        "h0" => A,
        "h1" => B,
        "far" => Ipv4Addr::new(192, 0, 2, 1),
        "everybody" => Ipv4Addr::BROADCAST,
        "group" => Ipv4Addr::new(224, 0, 0, 1),
        _ => panic!("an address: {ip}"),
    };
    SocketAddrV4::new(ip, port.parse().unwrap_or_else(|_| panic!("a port: {port}")))
}

/// Which of the hosts it is differs: the kernel talks to itself.
fn addr_name(addr: SocketAddrV4) -> String {
    let ip = if *addr.ip() == A || *addr.ip() == B {
        "host"
    } else if addr.ip().is_unspecified() {
        "any"
    } else {
        "?"
    };
    match addr.port() {
        32_768..=65_535 => format!("{ip} ephemeral"),
        port => format!("{ip} {port}"),
    }
}

fn message_flag(word: &str) -> i32 {
    match word {
        "peek" => libc::MSG_PEEK,
        "trunc" => libc::MSG_TRUNC,
        "all" => libc::MSG_WAITALL,
        "oob" => libc::MSG_OOB,
        "more" => libc::MSG_MORE,
        "errqueue" => libc::MSG_ERRQUEUE,
        "dontroute" => libc::MSG_DONTROUTE,
        "eor" => libc::MSG_EOR,
        "confirm" => libc::MSG_CONFIRM,
        "fastopen" => libc::MSG_FASTOPEN,
        _ => 0,
    }
}

fn request_named(name: &str) -> u64 {
    match name {
        "inq" => 0x541b,
        "outq" => 0x5411,
        "outqnsd" => 0x894b,
        "atmark" => 0x8905,
        "unknown" => 0x5499,
        _ => panic!("a request: {name}"),
    }
}

fn option_named(name: &str) -> (i32, i32) {
    let options = [
        ("SO_ERROR", libc::SOL_SOCKET, libc::SO_ERROR),
        ("SO_TYPE", libc::SOL_SOCKET, libc::SO_TYPE),
        ("SO_PROTOCOL", libc::SOL_SOCKET, libc::SO_PROTOCOL),
        ("SO_DOMAIN", libc::SOL_SOCKET, libc::SO_DOMAIN),
        ("SO_ACCEPTCONN", libc::SOL_SOCKET, libc::SO_ACCEPTCONN),
        ("SO_REUSEADDR", libc::SOL_SOCKET, libc::SO_REUSEADDR),
        ("SO_REUSEPORT", libc::SOL_SOCKET, libc::SO_REUSEPORT),
        ("SO_KEEPALIVE", libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        ("SO_LINGER", libc::SOL_SOCKET, libc::SO_LINGER),
        ("SO_RCVBUF", libc::SOL_SOCKET, libc::SO_RCVBUF),
        ("SO_SNDBUF", libc::SOL_SOCKET, libc::SO_SNDBUF),
        ("SO_RCVLOWAT", libc::SOL_SOCKET, libc::SO_RCVLOWAT),
        ("SO_SNDLOWAT", libc::SOL_SOCKET, libc::SO_SNDLOWAT),
        ("SO_BROADCAST", libc::SOL_SOCKET, libc::SO_BROADCAST),
        ("SO_OOBINLINE", libc::SOL_SOCKET, libc::SO_OOBINLINE),
        ("TCP_NODELAY", libc::IPPROTO_TCP, libc::TCP_NODELAY),
        ("TCP_CORK", libc::IPPROTO_TCP, libc::TCP_CORK),
        ("TCP_MAXSEG", libc::IPPROTO_TCP, libc::TCP_MAXSEG),
        ("TCP_KEEPIDLE", libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        ("TCP_KEEPINTVL", libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        ("TCP_KEEPCNT", libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
        ("TCP_SYNCNT", libc::IPPROTO_TCP, libc::TCP_SYNCNT),
        ("TCP_LINGER2", libc::IPPROTO_TCP, libc::TCP_LINGER2),
        ("TCP_DEFER_ACCEPT", libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
        ("TCP_WINDOW_CLAMP", libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP),
        ("TCP_QUICKACK", libc::IPPROTO_TCP, libc::TCP_QUICKACK),
        ("TCP_USER_TIMEOUT", libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
        ("TCP_NOTSENT_LOWAT", libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
        ("TCP_INQ", libc::IPPROTO_TCP, libc::TCP_INQ),
        ("TCP_FASTOPEN", libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
        ("TCP_FASTOPEN_CONNECT", libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT),
        ("TCP_FASTOPEN_NO_COOKIE", libc::IPPROTO_TCP, libc::TCP_FASTOPEN_NO_COOKIE),
        ("IP_TOS", libc::IPPROTO_IP, libc::IP_TOS),
        ("IP_TTL", libc::IPPROTO_IP, libc::IP_TTL),
        ("IP_MTU_DISCOVER", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        ("UNKNOWN", libc::IPPROTO_TCP, 999),
        ("UNKNOWN_SOCKET", libc::SOL_SOCKET, 999),
    ];
    let found = options.iter().find(|(known, ..)| *known == name);
    found.map(|(_, level, option)| (*level, *option)).unwrap_or_else(|| panic!("an option: {name}"))
}
