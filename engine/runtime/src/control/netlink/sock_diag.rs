//! Who holds a port: the sockets of this network namespace (sock_diag(7)), and the process that has one open.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::socket::{Answers, Socket};

/// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const ALL_STATES: u32 = u32::MAX;
const TCP_LISTEN: u8 = 10;

/// Offsets in `struct inet_diag_msg` (linux/inet_diag.h).
const STATE_AT: usize = 1;
const SOURCE_PORT_AT: usize = 4;
const SOURCE_AT: usize = 8;
const INODE_AT: usize = 68;
const INET_DIAG_MSG_LEN: usize = 72;

/// A process that has a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its command name, at most 15 bytes.
    pub(crate) name: String,
    pub(crate) pid: u32,
}

/// The process whose socket stands in the way of binding `addr`; none if it cannot be told (another PID namespace, no
/// permission, or a socket without a process).
pub(crate) fn holder(addr: SocketAddr, protocol: u8) -> Option<Holder> {
    let mut socket = Socket::open(NETLINK_SOCK_DIAG).ok()?;
    let mut found: Vec<Found> = [AF_INET, AF_INET6]
        .into_iter()
        .flat_map(|family| sockets(&mut socket, family, protocol, addr.port()).unwrap_or_default())
        .filter(|found| collides(found.ip, addr.ip()))
        .collect();
    // A listener is a better answer than the connections that it accepted.
    found.sort_by_key(|found| found.state != TCP_LISTEN);
    found.iter().find_map(|found| process_with(found.inode))
}

struct Found {
    state: u8,
    ip: IpAddr,
    inode: u32,
}

/// Whether both cannot be bound: equal, or either stands for all.
fn collides(held: IpAddr, wanted: IpAddr) -> bool {
    let held = held.to_canonical();
    held == wanted || held.is_unspecified() || wanted.is_unspecified()
}

fn sockets(socket: &mut Socket, family: u8, protocol: u8, port: u16) -> io::Result<Vec<Found>> {
    let mut body = vec![family, protocol, 0, 0];
    body.extend(ALL_STATES.to_ne_bytes());
    body.extend(port.to_be_bytes());
    body.resize(56, 0); // struct inet_diag_req_v2; the rest of the socket's id is no filter
    socket.request(SOCK_DIAG_BY_FAMILY, Answers::Dump, &body, |_, body| {
        let Some(message) = body.first_chunk::<INET_DIAG_MSG_LEN>() else { return Ok(None) };
        if message[SOURCE_PORT_AT..][..2] != port.to_be_bytes() {
            return Ok(None);
        }
        let source = &message[SOURCE_AT..SOURCE_AT + 16];
        let ip = match (message[0], source.first_chunk::<4>(), source.first_chunk::<16>()) {
            (AF_INET, Some(octets), _) => IpAddr::V4(Ipv4Addr::from_octets(*octets)),
            (_, _, Some(octets)) => IpAddr::V6(Ipv6Addr::from_octets(*octets)),
            (..) => return Ok(None),
        };
        let inode = &message[INODE_AT..];
        let inode = u32::from_ne_bytes([inode[0], inode[1], inode[2], inode[3]]);
        Ok(Some(Found { state: message[STATE_AT], ip, inode }))
    })
}

/// Looks through the descriptors of every process that we may look at.
fn process_with(inode: u32) -> Option<Holder> {
    if inode == 0 {
        return None; // TIME-WAIT, or closed and not yet gone
    }
    let link = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let has_it = descriptors
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == link.as_str()));
        let name = fs::read_to_string(process.path().join("comm")).ok().filter(|_| has_it)?;
        Some(Holder { name: name.trim_end().to_owned(), pid })
    })
}
