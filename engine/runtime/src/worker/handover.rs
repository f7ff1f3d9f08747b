//! Packets for other workers' sockets: the NIC chose this queue, the socket lives elsewhere.
//!
//! ```text
//! no socket here -> the port's owner, else the other shards -> spsc ring -> wake -> copied out, parsed and matched there
//! ```
//! Happens for active opens (the hash of the answer chooses the queue) and for sockets that only some workers have. The socket table of
//! every worker can be read by all, so a packet is handed over only to where it is awaited, and strangers' packets stay where they
//! came in.
//!
//! Owns one bounded ring to and from each other worker. The packet travels in its frame; the taker copies it, so that the frame goes
//! home at once and windows, loans and floors stay matters of one pool.

use ringwire_table::spsc::{self, Consumer, Producer};
use ringwire_table::{FlowKey, PortMap, Reader};

use super::seed::WorkerSeed;
use crate::buffer::RxBuf;
use crate::engine::WorkerShared;

/// Packets on their way from one worker to one other.
const RING_PACKETS: usize = 1024;
/// Packets without a socket that are looked for in other shards, in one turn: strangers must not buy more work than that.
const SEARCHES_PER_TURN: u32 = 256;

/// What became of a packet that has no socket here.
#[derive(Debug)]
pub(crate) enum Offered {
    /// Another worker has it.
    Taken,
    /// Another worker might want it and cannot be asked now. Nobody answers; the sender repeats what matters.
    Full,
    /// Nobody has a socket for it.
    Refused(RxBuf),
}

/// One worker's ways to the others; empty with one worker.
#[derive(Debug, Default)]
pub(crate) struct HandOver {
    owners: Option<PortMap>,
    peers: Vec<Peer>,
    searches_left: u32,
}

/// Another worker.
#[derive(Debug)]
struct Peer {
    id: u8,
    sockets: Reader,
    to: Producer<RxBuf>,
    from: Consumer<RxBuf>,
    /// Something was pushed since it was last woken.
    is_wake_due: bool,
}

impl HandOver {
    /// A packet without a socket here, to whoever has one.
    #[cold]
    pub(crate) fn offer(&mut self, key: &FlowKey, packet: RxBuf) -> Offered {
        if self.peers.is_empty() {
            return Offered::Refused(packet);
        }
        let owner = self.owners.as_ref().and_then(|owners| owners.owner_of(key.local_port));
        let has_flow = |peer: &&mut Peer| peer.sockets.lookup(key).is_some();
        if let Some(peer) = self.peers.iter_mut().filter(|peer| Some(peer.id) == owner).find(has_flow) {
            return peer.give(packet);
        }
        if self.searches_left == 0 {
            return Offered::Full;
        }
        self.searches_left -= 1;
        let has_socket = |peer: &&mut Peer| has_flow(peer) || peer.sockets.lookup_listener(key).is_some();
        match self.peers.iter_mut().find(has_socket) {
            Some(peer) => peer.give(packet),
            None => Offered::Refused(packet),
        }
    }

    /// The next packet that another worker received for a socket of this one, copied out of its frame.
    #[inline]
    pub(crate) fn next_taken(&mut self) -> Option<RxBuf> {
        let packet = self.peers.iter_mut().find_map(|peer| peer.from.pop())?;
        Some(RxBuf::from_vec(packet.to_vec()))
    }

    pub(crate) fn has_packets(&mut self) -> bool {
        self.peers.iter_mut().any(|peer| !peer.from.is_empty())
    }

    /// Wakes who was given something; allows new searches.
    #[inline]
    pub(crate) fn end_turn(&mut self, workers: &[WorkerShared]) {
        self.searches_left = SEARCHES_PER_TURN;
        for peer in &mut self.peers {
            if std::mem::take(&mut peer.is_wake_due)
                && let Some(worker) = workers.get(usize::from(peer.id))
            {
                worker.waker.nudge();
            }
        }
    }
}

impl Peer {
    fn give(&mut self, packet: RxBuf) -> Offered {
        if self.to.room() == 0 {
            return Offered::Full;
        }
        self.is_wake_due = true;
        // Room was seen, and only this side pushes.
        match self.to.push(packet.hand_off()) {
            Ok(()) => Offered::Taken,
            Err(_) => Offered::Full,
        }
    }
}

/// Joins every worker with every other.
pub(super) fn introduce(seeds: &mut [WorkerSeed], owners: &PortMap) {
    let readers: Vec<(u8, Reader)> = seeds.iter().map(|seed| (seed.id(), seed.sockets())).collect();
    for first in 0..seeds.len() {
        for second in first + 1..seeds.len() {
            let (there, arrived_there) = spsc::ring(RING_PACKETS);
            let (back, arrived_here) = spsc::ring(RING_PACKETS);
            let ends = [(first, second, there, arrived_here), (second, first, back, arrived_there)];
            for (own, other, to, from) in ends {
                let (Some(seed), Some((id, sockets))) = (seeds.get_mut(own), readers.get(other)) else {
                    continue;
                };
                let peer = Peer { id: *id, sockets: sockets.clone(), to, from, is_wake_due: false };
                seed.handover_mut().add(peer, owners);
            }
        }
    }
}

impl HandOver {
    fn add(&mut self, peer: Peer, owners: &PortMap) {
        self.owners.get_or_insert_with(|| owners.clone());
        self.peers.push(peer);
        // For the first turn, which may already bring packets for others.
        self.searches_left = SEARCHES_PER_TURN;
    }
}
