//! The raw side of a link: any bytes out, expected packets in.

mod dissect;
mod matcher;
mod packet;
mod tcp_peer;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ringwire_frame::{Class, Kick, Packet, Pool};
use rustix::event::{Timespec, poll};

use crate::error::LabError;
use crate::forward::Wire;

pub use dissect::{Dissected, Field, Value};
pub use matcher::{Match, Mismatch};
pub use packet::{Macs, Segment, UdpPacket};
pub use tcp_peer::{TcpPeer, options};

/// Packets taken at once.
const BATCH: usize = 64;

/// A node's interface, packet by packet; made by [`Node::raw`](crate::Node::raw).
///
/// The node's kernel sees every packet, too, and answers what is for its own address: use
/// [`Link::spare_addr`](crate::Link::spare_addr), which no kernel has. Stays on the thread that made it.
pub struct RawPort {
    wire: Wire,
    pool: Pool,
    mac: [u8; 6],
    spare: Ipv4Addr,
    /// ARP questions for these are answered.
    answers: Vec<Ipv4Addr>,
    received: VecDeque<Dissected>,
    _stays_on_thread: PhantomData<*const ()>,
}

impl RawPort {
    pub(crate) fn new(wire: Wire, mut pool: Pool, mac: [u8; 6], spare: IpAddr) -> RawPort {
        pool.adopt();
        let spare = match spare {
            IpAddr::V4(spare) => spare,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let mut port = RawPort {
            wire,
            pool,
            mac,
            spare,
            answers: Vec::new(),
            received: VecDeque::new(),
            _stays_on_thread: PhantomData,
        };
        port.wire.tend(&mut port.pool);
        port
    }

    /// The hardware address of the interface.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The node's address on the link that no kernel has.
    pub fn spare_addr(&self) -> Ipv4Addr {
        self.spare
    }

    /// Answers ARP questions for `ip` from now on, whenever the port is looked at.
    pub fn answer_arp(&mut self, ip: Ipv4Addr) {
        if !self.answers.contains(&ip) {
            self.answers.push(ip);
        }
    }

    /// Asks who has `ip`, as `from`, up to eight times.
    ///
    /// # Errors
    /// Nobody answers within two seconds.
    pub fn resolve(&mut self, from: Ipv4Addr, ip: Ipv4Addr) -> Result<[u8; 6], Mismatch> {
        const TRIES: u32 = 8;
        const PATIENCE: Duration = Duration::from_millis(250);
        let answer = Match::arp().with(Field::ArpOperation, 2_u16).with(Field::ArpSenderIp, ip);
        let mut missed = Mismatch { expected: answer.clone(), within: PATIENCE * TRIES, got: Vec::new() };
        for _ in 0..TRIES {
            self.send(packet::arp_request(self.mac, from.octets(), ip.octets()));
            match self.try_expect(answer.clone(), PATIENCE) {
                Ok(seen) => {
                    let Some(Value::Mac(mac)) = seen.get(Field::ArpSenderMac) else {
                        unreachable!("an ARP packet with a sender has its hardware address")
                    };
                    return Ok(*mac);
                }
                Err(other) => missed.got.extend(other.got),
            }
        }
        Err(missed)
    }

    /// Sends one Ethernet frame, whatever it says.
    ///
    /// # Panics
    /// If the link takes no packet for a second: it is down, or the frame is longer than the MTU allows.
    pub fn send(&mut self, frame: impl AsRef<[u8]>) {
        self.try_send(frame.as_ref()).unwrap_or_else(|error| panic!("{error}"));
    }

    fn try_send(&mut self, bytes: &[u8]) -> Result<(), LabError> {
        const PATIENCE: Duration = Duration::from_secs(1);
        self.wire.tend(&mut self.pool);
        let refused = |what: &str| {
            LabError::misuse(
                format!("cannot send a frame of {} bytes: {what}", bytes.len()),
                "14 bytes to the MTU and 18",
            )
        };
        let before = self.wire.losses().1;
        let room = self.pool.frame_bytes() / 2;
        let frames: Option<Vec<_>> = bytes
            .chunks(room)
            .map(|piece| {
                let mut frame = self.pool.alloc(Class::Send)?;
                frame.append(piece.len()).copy_from_slice(piece);
                Some(frame.into_send())
            })
            .collect();
        let frames = frames.ok_or_else(|| refused("no memory is left"))?;
        self.wire.submit(&mut self.pool, &frames, 0).map_err(|_| refused("the ring is full"))?;
        let start = Instant::now();
        while self.wire.kick() != Kick::Idle {
            if start.elapsed() > PATIENCE {
                return Err(refused("the link takes nothing"));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        self.wire.tend(&mut self.pool);
        if self.wire.losses().1 > before { Err(refused("the interface refuses it")) } else { Ok(()) }
    }

    /// The next packet, if one comes in time.
    pub fn recv(&mut self, within: Duration) -> Option<Dissected> {
        let deadline = Instant::now() + within;
        loop {
            self.look();
            if let Some(packet) = self.received.pop_front() {
                return Some(packet);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            self.sleep(left);
        }
    }

    /// The next packet that is as described; others before it are passed over.
    ///
    /// # Panics
    /// If none comes in time, with what came instead: field by field, as a line each, and as a hexdump.
    #[track_caller]
    pub fn expect(&mut self, what: impl Into<Match>, within: Duration) -> Dissected {
        self.try_expect(what.into(), within).unwrap_or_else(|mismatch| panic!("{mismatch}"))
    }

    /// [`expect`](RawPort::expect) for those who go on without.
    ///
    /// # Errors
    /// What came instead.
    pub fn try_expect(&mut self, what: Match, within: Duration) -> Result<Dissected, Mismatch> {
        let deadline = Instant::now() + within;
        let mut got = Vec::new();
        while let Some(packet) = self.recv(deadline.saturating_duration_since(Instant::now())) {
            if what.matches(&packet) {
                return Ok(packet);
            }
            got.push(packet);
        }
        Err(Mismatch { expected: what, within, got })
    }

    /// That no packet as described comes within this time.
    ///
    /// # Panics
    /// With the packet, if one comes.
    #[track_caller]
    pub fn expect_none(&mut self, what: impl Into<Match>, within: Duration) {
        let what = what.into();
        if let Ok(packet) = self.try_expect(what.clone(), within) {
            panic!(
                "expected none within {within:?}: {what}\ngot: {packet}\n{}",
                dissect::hexdump(packet.bytes())
            );
        }
    }

    /// Takes in what has come, and answers questions.
    fn look(&mut self) {
        self.wire.tend(&mut self.pool);
        let (mut packets, mut arrivals) = (Vec::new(), Vec::new());
        self.wire.receive(&mut self.pool, &mut packets, &mut arrivals, BATCH);
        for packet in packets {
            let packet = Dissected::new(whole(&packet));
            self.answer(&packet);
            self.received.push_back(packet);
        }
    }

    fn answer(&mut self, packet: &Dissected) {
        let (Some(Value::Ip(IpAddr::V4(target))), 1) =
            (packet.get(Field::ArpTargetIp), packet.number(Field::ArpOperation))
        else {
            return;
        };
        if let (true, Some(Value::Mac(dst)), Some(Value::Ip(IpAddr::V4(asker)))) =
            (self.answers.contains(target), packet.get(Field::ArpSenderMac), packet.get(Field::ArpSenderIp))
        {
            let macs = Macs { src: self.mac, dst: *dst };
            // An answer that cannot be sent shows as a question that comes again.
            let _ = self.try_send(&packet::arp_reply(macs, target.octets(), asker.octets()));
        }
    }

    fn sleep(&mut self, at_most: Duration) {
        if self.wire.has_packets() {
            return;
        }
        let mut fds = Vec::new();
        self.wire.watch(&mut fds);
        let _ = poll(&mut fds, Timespec::try_from(at_most).ok().as_ref());
        self.wire.heard();
    }
}

impl fmt::Debug for RawPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawPort").field("mac", &self.mac).field("wire", &self.wire).finish_non_exhaustive()
    }
}

fn whole(packet: &Packet) -> Vec<u8> {
    std::iter::once(&packet.head).chain(&packet.rest).flat_map(|frame| frame.bytes()).copied().collect()
}
