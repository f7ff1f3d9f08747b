//! The bare AF_XDP reflector: what this machine's packet I/O can do with no protocol in between.
//!
//! A loop over plain xsk-rs on one core: a burst from the receive ring, swap addresses and ports, the burst to the
//! transmit ring, one kick, completions back to the fill ring. It is a limit only if nothing is faster, so it is
//! compared with `dpdk-testpmd --forward-mode=5tswap` (see [`crate::testpmd`]). What that does well is bursts: one
//! look at each ring and one system call per burst of up to 32, never one per packet. Measured over veth in copy mode
//! (Linux 6.18, 2 cores of an AMD EPYC VM, AF_XDP client on the other core; round trips per second, upper quartile of
//! 14 interleaved rounds, whose spread is 1.5x and more):
//!
//! | loop                                              | 1 in flight        | 32 in flight |
//! |---------------------------------------------------|--------------------|--------------|
//! | this one                                          | 290 k, p50 3.34 us | 667 k        |
//! | this one, XDP program of six instructions         | 290 k, p50 3.36 us | 703 k        |
//! | testpmd (libxdp's program, about as short)        | 264 k, p50 3.67 us | 676 k        |
//! | testpmd, preferred busy polling                   | 250 k, p50 3.86 us | 683 k        |
//! | one packet per kick, six instructions             | 287 k, p50 3.36 us | 512 k        |
//!
//! So a loop with a kick per packet loses 1.3x to testpmd with 32 in flight and nothing with one; a burst loop is
//! ahead of it under the same XDP program. The steering program takes 93 ns instead of 41 ns (BPF_PROG_TEST_RUN), on
//! the core of the sender. Busy-poll options, a larger kick budget, need_wakeup off, longer bursts, pauses between
//! polls: no difference outside the spread. Few frames in the fill ring are worth 2-7 % with one in flight, because
//! they stay in the core's nearest cache.
#![expect(unsafe_code, reason = "xsk-rs leaves to its caller that a frame is in one ring only")]

use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use ringwire_bpf::{AttachConfig, AttachMode, Ownership, Protocol, SteerError, Steering};
use rustix::net::SendFlags;
use xsk_rs::config::{BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

/// Frames of the packet memory; all of them circulate between the rings.
const FRAMES: NonZeroU32 = NonZeroU32::new(512).expect("not zero");
const FRAME_BYTES: u32 = 2048;
const RING_SLOTS: u32 = 512;
/// Most packets per burst.
const BURST: usize = 64;
/// Packets one kick moves in copy mode.
const KICK_PACKETS: usize = 32;
/// A queue whose last socket was just closed is busy for some milliseconds.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// Where the reflector listens.
#[derive(Clone, Debug)]
pub struct ReflectorConfig {
    /// Interface, in the network namespace of the calling thread.
    pub interface: String,
    /// The queue its packets come in on.
    pub queue_id: u32,
    /// Address of the interface; the kernel keeps it and answers ARP for it.
    pub address: Ipv4Addr,
    /// UDP port to reflect; everything else stays with the kernel.
    pub port: u16,
}

/// Why the reflector did not start. `Display` is two lines: `what`, then `hint: ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReflectorError {
    /// What failed.
    pub what: String,
    /// The kernel's error number, if it was the kernel that refused.
    pub errno: Option<i32>,
    /// What to do next.
    pub hint: String,
}

impl fmt::Display for ReflectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhint: {}", self.what, self.hint)
    }
}

impl std::error::Error for ReflectorError {}

impl From<SteerError> for ReflectorError {
    fn from(error: SteerError) -> ReflectorError {
        ReflectorError { what: error.what, errno: error.errno, hint: error.hint }
    }
}

/// Reflects on the calling thread, which should be pinned to a core of its own, until `stop` is set.
///
/// # Errors
/// Steering or socket cannot be set up; once running it does not fail.
pub fn run(config: &ReflectorConfig, stop: &AtomicBool) -> Result<(), ReflectorError> {
    let mut rings = Rings::open(config)?;
    let mut steering = Steering::attach(&attach_config(config)?)?;
    let address = steering.add_address(config.address.into(), Ownership::Shared)?;
    steering.set_socket(config.queue_id, rings.fd())?;
    steering.steer(address, Protocol::Udp, config.port);
    // Relaxed: nothing but the flag is passed.
    while !stop.load(Ordering::Relaxed) {
        rings.turn();
    }
    Ok(())
}

fn attach_config(config: &ReflectorConfig) -> Result<AttachConfig, ReflectorError> {
    let unknown = |errno: nix::Error| ReflectorError {
        what: format!("no interface {} in this network namespace ({errno})", config.interface),
        errno: Some(errno as i32),
        hint: "ip link lists the interfaces".to_owned(),
    };
    let ifindex = if_nametoindex(config.interface.as_str()).map_err(unknown)?;
    let mut addresses =
        getifaddrs().map_err(unknown)?.filter(|entry| entry.interface_name == config.interface);
    let mac = addresses.find_map(|entry| entry.address?.as_link_addr()?.addr());
    Ok(AttachConfig {
        ifindex,
        ifname: config.interface.clone(),
        mac: mac.ok_or_else(|| unknown(nix::Error::EADDRNOTAVAIL))?,
        attach_mode: AttachMode::Auto,
        frags: false,
        max_queues: config.queue_id + 1,
        engine_slot: 0,
        max_addresses: 1,
    })
}

struct Rings {
    umem: Umem,
    fill: FillQueue,
    completion: CompQueue,
    rx: RxQueue,
    tx: TxQueue,
    burst: [FrameDesc; BURST],
}

impl Rings {
    fn open(config: &ReflectorConfig) -> Result<Rings, ReflectorError> {
        let start = Instant::now();
        loop {
            match Rings::try_open(config) {
                Err(error)
                    if error.errno == Some(nix::Error::EBUSY as i32) && start.elapsed() < BUSY_WAIT =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }

    fn try_open(config: &ReflectorConfig) -> Result<Rings, ReflectorError> {
        let ring = QueueSize::new(RING_SLOTS).map_err(|error| refused("sizing the rings", &error))?;
        let frame = FrameSize::new(FRAME_BYTES).map_err(|error| refused("sizing frames", &error))?;
        let mut layout = UmemConfig::builder();
        layout.frame_size(frame).fill_queue_size(ring).comp_queue_size(ring);
        let layout = layout.build().map_err(|error| refused("laying out packet memory", &error))?;
        let (umem, frames) =
            Umem::new(layout, FRAMES, false).map_err(|error| refused("registering packet memory", &error))?;
        let mut socket = SocketConfig::builder();
        socket.rx_queue_size(ring).tx_queue_size(ring).bind_flags(BindFlags::XDP_USE_NEED_WAKEUP);
        socket.libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD);
        let interface = config.interface.parse().map_err(|error| refused("naming the interface", &error))?;
        // SAFETY: libxdp loads no program, which is the function's one condition.
        let opened = unsafe { Socket::new(socket.build(), &umem, &interface, config.queue_id) };
        let (tx, rx, rings) = opened.map_err(|error| refused("binding the queue", &error))?;
        let (mut fill, completion) = rings.expect("the first socket of a registration has rings of its own");
        // SAFETY: fresh frames of this registration, in no ring yet.
        let filled = unsafe { fill.produce(&frames) };
        debug_assert_eq!(filled, frames.len(), "the fill ring holds all frames");
        Ok(Rings { umem, fill, completion, rx, tx, burst: [FrameDesc::default(); BURST] })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        let number = self.rx.fd().as_raw_fd();
        // SAFETY: the receive queue keeps the socket open while `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(number) }
    }

    /// One burst through, or nothing.
    fn turn(&mut self) {
        // SAFETY: the receive ring is of this registration.
        let received = unsafe { self.rx.consume(&mut self.burst) };
        if received == 0 {
            return;
        }
        let mut reflected = 0;
        for position in 0..received {
            // SAFETY: the frame is of this registration and came off the receive ring: it is in no ring.
            let mut data = unsafe { self.umem.data_mut(&mut self.burst[position]) };
            if reflect(data.contents_mut()) {
                self.burst.swap(reflected, position);
                reflected += 1;
            }
        }
        // SAFETY: not reflected, so only here; back to where they came from.
        unsafe { self.fill.produce(&self.burst[reflected..received]) };
        // SAFETY: these are in no ring but this from now on. It has a slot for every frame.
        unsafe { self.tx.produce(&self.burst[..reflected]) };
        for _ in 0..reflected.div_ceil(KICK_PACKETS) {
            // An error is "not all"; what is left goes with the next burst's kicks.
            if rustix::net::send(self.fd(), &[], SendFlags::DONTWAIT).is_ok() {
                break;
            }
        }
        // SAFETY: the completion ring is of this registration.
        let completed = unsafe { self.completion.consume(&mut self.burst) };
        // SAFETY: completed, so in no ring; the fill ring has a slot for every frame.
        unsafe { self.fill.produce(&self.burst[..completed]) };
    }
}

/// Turns a UDP packet round in place; checksums stay right, because sums do not mind the order. False if it is not
/// UDP over IPv4.
fn reflect(frame: &mut [u8]) -> bool {
    const ETHERNET: usize = 14;
    let Some((ethernet, packet)) = frame.split_at_mut_checked(ETHERNET) else { return false };
    let header_len = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    if ethernet[12..] != [0x08, 0x00] || header_len < 20 || packet.len() < header_len + 8 || packet[9] != 17 {
        return false;
    }
    swap_halves(&mut ethernet[..12]);
    swap_halves(&mut packet[12..20]);
    swap_halves(&mut packet[header_len..header_len + 4]);
    true
}

fn swap_halves(bytes: &mut [u8]) {
    let (left, right) = bytes.split_at_mut(bytes.len() / 2);
    left.swap_with_slice(right);
}

fn refused(step: &str, error: &dyn std::error::Error) -> ReflectorError {
    let cause = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    let reason = cause.map_or_else(|| error.to_string(), ToString::to_string);
    ReflectorError {
        what: format!("the reflector failed at {step}: {reason}"),
        errno: cause.and_then(std::io::Error::raw_os_error),
        hint: "ringwire doctor checks kernel, capabilities, limits and queues".to_owned(),
    }
}

#[cfg(test)]
mod tests;
