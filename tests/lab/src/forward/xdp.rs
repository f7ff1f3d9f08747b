//! A wire over AF_XDP: all queues of an interface, taken by a program that redirects every packet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ringwire_frame::{Floors, Kick, Packet, Pool, Port, SendFrame, TxFull};
use ringwire_xsk::{BindMode, Umem, UmemOptions, XskConfig, XskError, XskPort};

use super::wire::{Arrival, geometry, now_ns};
use crate::error::{LabError, Step};
use crate::link::End;
use crate::program::{self, STAMP_BYTES};
use crate::sys;

/// Packets that an interface may keep for a forwarder that does not come, all queues together: 50 ms of 1 Gbit/s.
const RING_PACKETS: u32 = 4096;
const LEAST_RING_PACKETS: u32 = 64;
const TX_RING_FRAMES: u32 = 1024;
/// With fewer descriptors for each, one ring per queue and end costs more than it brings.
const MOST_QUEUES: u32 = RING_PACKETS / LEAST_RING_PACKETS;

/// An interface whose packets all come by AF_XDP.
#[derive(Debug)]
pub(crate) struct XdpWire {
    /// Before the ports: detached, the interface is the kernel's again.
    _attachment: OwnedFd,
    _sockets: OwnedFd,
    /// By queue.
    ports: Vec<XskPort>,
}

/// The interfaces of both ends, over one packet memory.
pub(crate) fn open(
    ends: [&End; 2],
    mtu_bytes: u32,
    queues: u32,
    frame_count: u32,
) -> Result<(Pool, [XdpWire; 2]), LabError> {
    if queues > MOST_QUEUES {
        let what = format!("{queues} queues would have rings of less than {LEAST_RING_PACKETS} packets");
        return Err(LabError::misuse(what, format!("at most {MOST_QUEUES} queues over AF_XDP")));
    }
    let geometry = geometry(mtu_bytes, frame_count);
    // Both ends are in one namespace, where registration and binding must be.
    ends[0].node.run(|| {
        let options = UmemOptions {
            fill_ring: RING_PACKETS,
            completion_ring: TX_RING_FRAMES,
            ..UmemOptions::default()
        };
        let (umem, region) = Umem::register(geometry, options).map_err(|error| refused(ends[0], error))?;
        let mut wires = [Vec::new(), Vec::new()];
        for (ports, end) in wires.iter_mut().zip(ends) {
            let config = |queue_id| XskConfig {
                // A veth has no other, and what another driver would do in vain costs time.
                bind_mode: BindMode::Copy,
                rx_ring: RING_PACKETS / queues.next_power_of_two(),
                tx_ring: TX_RING_FRAMES,
                fill_frames: RING_PACKETS / queues,
                multi_buffer: true,
                ..XskConfig::new(&end.ifname, queue_id)
            };
            for queue_id in 0..queues {
                ports.push(XskPort::open(&umem, &config(queue_id)).map_err(|error| refused(end, error))?);
            }
        }
        let pool = Pool::new(region, geometry, Floors::for_frames(geometry.frame_count));
        let [a, b] = wires;
        Ok((pool, [XdpWire::attach(ends[0], a)?, XdpWire::attach(ends[1], b)?]))
    })
}

fn refused(end: &End, error: XskError) -> LabError {
    LabError { what: format!("{end}: {}", error.what), errno: None, hint: error.hint, lacks_level: false }
}

impl XdpWire {
    fn attach(end: &End, ports: Vec<XskPort>) -> Result<XdpWire, LabError> {
        let attach = || -> io::Result<(OwnedFd, OwnedFd)> {
            // At most 64.
            let sockets = sys::xdp::new_socket_map(ports.len() as u32)?;
            for (queue, port) in (0..).zip(&ports) {
                sys::xdp::store_socket(&sockets, queue, port.as_fd())?;
            }
            let insns = program::take_all(std::os::fd::AsRawFd::as_raw_fd(&sockets));
            let program = sys::xdp::load_program("ringwire_cable", &insns)?;
            Ok((sys::xdp::attach(&program, end.ifindex)?, sockets))
        };
        let (attachment, sockets) = attach().step(|| format!("cannot take the packets of {end} by XDP"))?;
        Ok(XdpWire { _attachment: attachment, _sockets: sockets, ports })
    }

    pub(super) fn tend(&mut self, pool: &mut Pool) {
        for port in &mut self.ports {
            port.reap(pool);
            port.refill(pool);
        }
    }

    /// From every queue its share, so that none waits for another to run dry.
    pub(super) fn receive(
        &mut self,
        pool: &mut Pool,
        out: &mut Vec<Packet>,
        arrivals: &mut Vec<Arrival>,
        max: usize,
    ) -> usize {
        let share = max.div_ceil(self.ports.len());
        let first = out.len();
        for (queue, port) in (0..).zip(&mut self.ports) {
            let before = out.len();
            if port.receive(pool, out, share) > 0 {
                let now_ns = now_ns();
                arrivals.extend(
                    out[before..]
                        .iter_mut()
                        .map(|packet| Arrival { at_ns: take_stamp(packet).unwrap_or(now_ns), queue }),
                );
            }
        }
        out.len() - first
    }

    pub(super) fn room(&mut self, queue: u32) -> usize {
        self.port(queue).tx_room()
    }

    pub(super) fn submit(&mut self, pool: &mut Pool, frames: &[SendFrame], queue: u32) -> Result<(), TxFull> {
        self.port(queue).submit_chain(pool, frames)
    }

    pub(super) fn kick(&mut self) -> Kick {
        self.ports.iter_mut().fold(Kick::Idle, |worst, port| match (worst, port.kick()) {
            (Kick::Pending, _) | (_, Kick::Pending) => Kick::Pending,
            (Kick::Refused, _) | (_, Kick::Refused) => Kick::Refused,
            (Kick::Idle, Kick::Idle) => Kick::Idle,
        })
    }

    /// Packets lost on their way in, and those that could not go out.
    pub(super) fn losses(&self) -> (u64, u64) {
        self.ports.iter().map(XskPort::stats).fold((0, 0), |(lost, refused), stats| {
            (lost + stats.rx_dropped + stats.rx_invalid, refused + stats.tx_invalid + stats.tx_refused)
        })
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ports.iter().map(XskPort::as_fd)
    }

    /// The other end of a link has as many queues; from memory everything comes as of queue 0.
    fn port(&mut self, queue: u32) -> &mut XskPort {
        let at = queue as usize % self.ports.len();
        &mut self.ports[at]
    }
}

/// Takes away what the program has put in front of the packet.
fn take_stamp(packet: &mut Packet) -> Option<u64> {
    let stamp = u64::from_ne_bytes(*packet.head.bytes().first_chunk::<STAMP_BYTES>()?);
    packet.head.advance(STAMP_BYTES);
    Some(stamp)
}
