//! A veth pair in an anonymous network namespace, an XDP program that sends every packet of a queue to its socket,
//! and a peer that sends and receives raw Ethernet frames.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::libbpf_sys as sys;
use ringwire_frame::{Class, Floors, FrameState, Geometry, Packet, Pool, Port, SendFrame};
use ringwire_xsk::{Umem, UmemOptions, XskConfig, XskPort};

/// Local experimental EtherType: no stack of either side answers.
pub const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
pub const HEADER: usize = 14;
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `test` in a thread with a network namespace of its own, which goes with the thread and the sockets made there.
pub fn in_namespace(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let body = || {
            // SAFETY: only moves the calling thread to a new network namespace.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "needs root (CAP_SYS_ADMIN): {}", io::Error::last_os_error());
            test();
        };
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

pub fn run(command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The pair: `ours`, where AF_XDP is, and `theirs`, where the raw peer is.
pub fn veth(queues: u32, mtu: u32) {
    let q = format!("numrxqueues {queues} numtxqueues {queues}");
    run(&format!("ip link add ours {q} type veth peer name theirs {q}"));
    for name in ["ours", "theirs"] {
        run(&format!("ip link set {name} mtu {mtu} addrgenmode none"));
        run(&format!("ip link set {name} up"));
    }
}

pub fn index_of(interface: &str) -> u32 {
    let name = std::ffi::CString::new(interface).unwrap();
    // SAFETY: the name is a C string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert!(index > 0, "{interface}: {}", io::Error::last_os_error());
    index
}

/// `return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS)`, attached in native mode for as long as it lives.
pub struct Redirect {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Redirect {
    pub fn attach(interface: &str) -> Redirect {
        // SAFETY: an all-zero options struct asks for the defaults.
        let map_fd = unsafe {
            sys::bpf_map_create(sys::BPF_MAP_TYPE_XSKMAP, c"sockets".as_ptr(), 4, 4, 16, std::ptr::null())
        };
        let map = owned(map_fd, "xskmap");
        let insn = |code: u8, regs: u8, off: i16, imm: i32| sys::bpf_insn {
            code,
            off,
            imm,
            _bitfield_align_1: [],
            _bitfield_1: sys::__BindgenBitfieldUnit::new([regs]),
        };
        let program = [
            insn(0x61, 0x12, 16, 0),              // r2 = *(u32 *)(r1 + offsetof(rx_queue_index))
            insn(0x18, 0x11, 0, map.as_raw_fd()), // r1 = map
            insn(0, 0, 0, 0),
            insn(0xb7, 0x03, 0, 2), // r3 = XDP_PASS
            insn(0x85, 0, 0, 51),   // call bpf_redirect_map
            insn(0x95, 0, 0, 0),    // exit
        ];
        // SAFETY: all-zero is a valid options struct.
        let mut options: sys::bpf_prog_load_opts = unsafe { std::mem::zeroed() };
        options.sz = size_of_val(&options) as _;
        options.expected_attach_type = sys::BPF_XDP;
        options.prog_flags = sys::BPF_F_XDP_HAS_FRAGS;
        // SAFETY: name, licence, program and options live during the call.
        let program_fd = unsafe {
            sys::bpf_prog_load(
                sys::BPF_PROG_TYPE_XDP,
                c"redirect".as_ptr(),
                c"GPL".as_ptr(),
                program.as_ptr(),
                program.len() as _,
                &raw mut options,
            )
        };
        let program = owned(program_fd, "program");
        // SAFETY: all-zero is a valid options struct.
        let mut options: sys::bpf_link_create_opts = unsafe { std::mem::zeroed() };
        options.sz = size_of_val(&options) as _;
        options.flags = sys::XDP_FLAGS_DRV_MODE;
        let index = i32::try_from(index_of(interface)).unwrap();
        // SAFETY: the options live during the call.
        let link =
            unsafe { sys::bpf_link_create(program.as_raw_fd(), index, sys::BPF_XDP, &raw const options) };
        Redirect { map, _link: owned(link, "link") }
    }

    pub fn set(&self, queue: u32, socket: BorrowedFd<'_>) {
        let number = socket.as_raw_fd();
        // SAFETY: key and value are 4 bytes each, as the map was made.
        let result = unsafe {
            sys::bpf_map_update_elem(
                self.map.as_raw_fd(),
                (&raw const queue).cast(),
                (&raw const number).cast(),
                0,
            )
        };
        assert_eq!(result, 0, "xskmap update: {}", io::Error::last_os_error());
    }
}

fn owned(fd: i32, what: &str) -> OwnedFd {
    assert!(fd >= 0, "{what}: {}", io::Error::from_raw_os_error(-fd));
    // SAFETY: freshly made and owned by nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Raw Ethernet on one interface; sees the test's EtherType only.
pub struct RawPeer(OwnedFd);

impl RawPeer {
    pub fn open(interface: &str) -> RawPeer {
        let protocol = i32::from(u16::from_ne_bytes(ETHERTYPE));
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        let fd = owned(fd, "AF_PACKET");
        let buffer: i32 = 64 << 20;
        // SAFETY: the value is a live i32 of the length given.
        unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const buffer).cast(),
                4,
            )
        };
        // SAFETY: all-zero is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = u16::from_ne_bytes(ETHERTYPE);
        address.sll_ifindex = index_of(interface) as i32;
        // SAFETY: the address lives during the call and has the length given.
        let result = unsafe {
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
        };
        assert_eq!(result, 0, "bind: {}", io::Error::last_os_error());
        RawPeer(fd)
    }

    pub fn send(&self, frame: &[u8]) {
        let sent = rustix_send(self.0.as_fd(), frame);
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    pub fn try_recv(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 66_000];
        // SAFETY: the buffer is writable for the length given.
        let len = unsafe {
            libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        };
        let len = usize::try_from(len).ok()?;
        buffer.truncate(len);
        Some(buffer)
    }

    /// The next frame, waiting for it within reason.
    pub fn recv(&self) -> Vec<u8> {
        until("a frame at the peer", || self.try_recv())
    }
}

fn rustix_send(fd: BorrowedFd<'_>, frame: &[u8]) -> isize {
    // SAFETY: the frame is readable for its length.
    unsafe { libc::send(fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) }
}

/// Polls `attempt` until it gives something.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        thread::yield_now();
    }
}

/// An Ethernet frame of the test's type, broadcast, with a recognisable payload.
pub fn ethernet(number: u32, payload_len: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(ETHERTYPE);
    frame.extend(number.to_be_bytes());
    frame.extend((4..payload_len.max(4)).map(|at| (at as u32).wrapping_mul(31).wrapping_add(number) as u8));
    frame
}

pub fn geometry(frame_count: u32) -> Geometry {
    Geometry { frame_bytes: 2048, frame_count }
}

/// Registered memory and its pool, adopted.
pub fn memory(frame_count: u32) -> (Umem, Pool) {
    let (umem, region) = Umem::register(geometry(frame_count), UmemOptions::default()).unwrap();
    let mut pool = Pool::new(region, geometry(frame_count), Floors::for_frames(frame_count));
    pool.adopt();
    (umem, pool)
}

/// One port on queue 0 of `ours`, wired up and with frames to receive into.
pub struct Rig {
    pub port: XskPort,
    pub umem: Umem,
    pub pool: Pool,
    pub redirect: Redirect,
    pub peer: RawPeer,
    pub frame_count: u32,
}

impl Rig {
    pub fn new(adapt: impl FnOnce(&mut XskConfig)) -> Rig {
        let frame_count = 1024;
        let (umem, mut pool) = memory(frame_count);
        let mut config = XskConfig::new("ours", 0);
        adapt(&mut config);
        let mut port = XskPort::open(&umem, &config).unwrap();
        let redirect = Redirect::attach("ours");
        redirect.set(config.queue_id, port.as_fd());
        port.refill(&mut pool);
        Rig { port, umem, pool, redirect, peer: RawPeer::open("theirs"), frame_count }
    }

    /// The next packets of the test's type, `count` of them.
    pub fn receive(&mut self, count: usize) -> Vec<Packet> {
        let mut packets = Vec::new();
        let Rig { port, pool, .. } = self;
        until("packets", || {
            port.receive(pool, &mut packets, 64);
            packets.retain(|packet| packet.head.bytes()[12..14] == ETHERTYPE);
            port.refill(pool);
            (packets.len() >= count).then_some(())
        });
        packets
    }

    /// A frame to be sent that starts `headroom` bytes into its memory.
    pub fn send_frame(&mut self, headroom: usize, bytes: &[u8]) -> SendFrame {
        send_frame(&mut self.pool, headroom, bytes)
    }

    /// Kicks and reaps until nothing is in the ring any more.
    pub fn drain(&mut self) {
        let Rig { port, pool, .. } = self;
        until("completions", || {
            let kick = port.kick();
            port.reap(pool);
            let counts = pool.counts();
            let waiting = counts.of(FrameState::SendInRing) + counts.of(FrameState::Orphan);
            (kick == ringwire_frame::Kick::Idle && waiting == 0).then_some(())
        });
    }

    /// Closes the port: every frame is free again and nothing was miscounted.
    pub fn finish(self) {
        let Rig { port, mut pool, frame_count, .. } = self;
        let stats = port.stats();
        assert_eq!((stats.rx_invalid, stats.tx_invalid, stats.kick_errors), (0, 0, 0), "{stats:?}");
        port.close(&mut pool);
        let counts = pool.counts();
        assert!(counts.check() && counts.of(FrameState::Free) == frame_count, "{counts:?}");
        assert_eq!(pool.protocol_errors(), 0);
    }
}

pub fn send_frame(pool: &mut Pool, headroom: usize, bytes: &[u8]) -> SendFrame {
    let mut frame = pool.alloc(Class::Control).expect("a frame to send");
    frame.reset(headroom);
    frame.append(bytes.len()).copy_from_slice(bytes);
    frame.into_send()
}

/// The bytes of a packet, frame after frame.
pub fn bytes_of(packet: &Packet) -> Vec<u8> {
    let rest = packet.rest.iter().flat_map(|frame| frame.bytes());
    packet.head.bytes().iter().chain(rest).copied().collect()
}
