//! What the tests of this crate share: packets as bytes, an AF_XDP socket, network namespaces of their own.

#![allow(dead_code, reason = "every test binary uses its part")]

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::Command;

use ringwire_bpf::{AttachConfig, AttachMode};
use ringwire_wire::{eth, ipv4};
use rustix::net::{AddressFamily, SocketType, socket};

pub(crate) const MAC: eth::Mac = eth::Mac([2, 0, 0, 0, 0, 1]);
pub(crate) const PEER_MAC: eth::Mac = eth::Mac([2, 0, 0, 0, 0, 2]);
pub(crate) const SHARED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const DEDICATED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const TCP_PORT: u16 = 443;
pub(crate) const UDP_PORT: u16 = 9000;

/// False, with a line that says so, when the process may not load BPF programs.
pub(crate) fn privileged() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root (CAP_BPF, CAP_NET_ADMIN)");
    }
    root
}

/// Loaded or attached to `ifindex`, one queue, small maps.
pub(crate) fn config(ifindex: u32) -> AttachConfig {
    AttachConfig {
        ifindex,
        ifname: "rw0".into(),
        mac: MAC.0,
        attach_mode: AttachMode::Native,
        frags: false,
        max_queues: 1,
        engine_slot: 0,
        max_addresses: 4,
    }
}

/// An AF_XDP socket bound to nothing: enough to stand in the socket map.
pub(crate) fn xsk() -> OwnedFd {
    let family = AddressFamily::from_raw(u16::try_from(libc::AF_XDP).unwrap());
    socket(family, SocketType::RAW, None).expect("AF_XDP socket")
}

/// A frame to `dst` with VLAN tags of the given types (outermost first), for VLANs 100 and up.
pub(crate) fn frame(dst: eth::Mac, tags: &[u16], ethertype: eth::EtherType, payload: &[u8]) -> Vec<u8> {
    let tags: Vec<(u16, u16)> = tags.iter().copied().zip(100..).collect();
    tagged_frame(dst, &tags, ethertype, payload)
}

/// A tag's control information with a priority and no VLAN.
pub(crate) const PRIORITY_ONLY: u16 = 0xa000;

/// A frame to `dst` with VLAN tags: type and control information, outermost first.
pub(crate) fn tagged_frame(
    dst: eth::Mac,
    tags: &[(u16, u16)],
    ethertype: eth::EtherType,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::from(dst.0);
    bytes.extend(PEER_MAC.0);
    for (tpid, tci) in tags {
        bytes.extend(tpid.to_be_bytes());
        bytes.extend(tci.to_be_bytes());
    }
    bytes.extend(ethertype.0.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// An IPv4 packet in the making; the fields that `wire` never emits can be set too.
#[derive(Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) protocol: ipv4::Protocol,
    pub(crate) options: Vec<u8>,
    pub(crate) flags_and_offset: u16,
    pub(crate) payload: Vec<u8>,
}

impl Ip {
    pub(crate) fn new(dst: Ipv4Addr, protocol: ipv4::Protocol, payload: &[u8]) -> Ip {
        Ip { src: PEER, dst, protocol, options: vec![], flags_and_offset: 0x4000, payload: payload.to_vec() }
    }

    /// `options` must be a multiple of four long.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let total_len = u16::try_from(header_len + self.payload.len()).unwrap();
        let mut bytes = vec![0x40 | u8::try_from(header_len / 4).unwrap(), 0];
        bytes.extend(total_len.to_be_bytes());
        bytes.extend([0, 7]);
        bytes.extend(self.flags_and_offset.to_be_bytes());
        bytes.extend([64, self.protocol.0, 0, 0]);
        bytes.extend(self.src.octets());
        bytes.extend(self.dst.octets());
        bytes.extend(&self.options);
        bytes.extend(&self.payload);
        bytes
    }

    /// In an untagged frame to us.
    pub(crate) fn frame(&self) -> Vec<u8> {
        frame(MAC, &[], eth::EtherType::IPV4, &self.bytes())
    }
}

/// The first `len` bytes of a segment (20 or more) or of a datagram, as far as steering looks at them.
pub(crate) fn ports(src: u16, dst: u16, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.max(20)];
    bytes[..2].copy_from_slice(&src.to_be_bytes());
    bytes[2..4].copy_from_slice(&dst.to_be_bytes());
    if len >= 20 {
        bytes[12] = 0x50;
    } else {
        bytes[4..6].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) fn tcp(dst: Ipv4Addr, port: u16) -> Ip {
    Ip::new(dst, ipv4::Protocol::TCP, &ports(40000, port, 20))
}

pub(crate) fn udp(dst: Ipv4Addr, port: u16) -> Ip {
    Ip::new(dst, ipv4::Protocol::UDP, &ports(40000, port, 12))
}

/// An ICMP message of this type to `dst`, which quotes `quoted` (cut to its header and eight bytes).
pub(crate) fn icmp(dst: Ipv4Addr, icmp_type: u8, quoted: &Ip) -> Ip {
    let mut bytes = vec![icmp_type, 0, 0, 0, 0, 0, 0, 0];
    let quote = quoted.bytes();
    bytes.extend(&quote[..quote.len().min(20 + quoted.options.len() + 8)]);
    Ip::new(dst, ipv4::Protocol::ICMP, &bytes)
}

/// What we would have sent from `src`:`port`.
pub(crate) fn sent(src: Ipv4Addr, protocol: ipv4::Protocol, port: u16) -> Ip {
    Ip { src, ..Ip::new(PEER, protocol, &ports(port, 50000, 20)) }
}

/// Runs `f` on a thread in a network namespace that lives as long as the thread.
pub(crate) fn in_netns<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only this new thread changes namespace, and it shares no file system state that this would undo.
            let moved = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(moved, 0, "unshare: {}", std::io::Error::last_os_error());
            f()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a program in this thread's namespace, which must succeed.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let out = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A veth pair `rw0` (ours) and `rw1` (the peer) in this thread's namespace; returns the index of `rw0`.
pub(crate) fn veth(queues: u32, mtu: u32) -> u32 {
    let q = format!("numrxqueues {queues} numtxqueues {queues} mtu {mtu}");
    run(&format!("ip link add rw0 address {MAC} {q} type veth peer name rw1 address {PEER_MAC} {q}"));
    run("ip link set rw0 up");
    run("ip link set rw1 up");
    let any_socket = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    rustix::net::netdevice::name_to_index(any_socket, "rw0").unwrap()
}
