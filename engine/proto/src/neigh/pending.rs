//! Packets that wait for a neighbour, and those whose wait is over.

use alloc::collections::VecDeque;
use core::net::Ipv4Addr;

use ringwire_wire::eth::Mac;

use super::Limits;
use crate::drop_reason::DropReason;

/// A packet whose wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released<T> {
    /// Send it.
    Resolved {
        /// The neighbour it waited for.
        ip: Ipv4Addr,
        /// Where that is.
        mac: Mac,
        /// The packet.
        packet: T,
    },
    /// Drop it ([`DropReason::NeighUnreachable`]): the neighbour does not answer.
    Failed {
        /// The neighbour it waited for.
        ip: Ipv4Addr,
        /// The packet.
        packet: T,
    },
}

/// A packet that may not wait: the one given, or an older one that had to give way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused<T> {
    /// The packet to drop.
    pub packet: T,
    /// Why.
    pub reason: DropReason,
}

/// Both queues keep their first allocation: together they never hold more packets than wait and were not yet polled.
#[derive(Debug)]
pub(super) struct Pending<T> {
    waiting: VecDeque<(Ipv4Addr, T)>,
    released: VecDeque<Released<T>>,
    limits: Limits,
}

impl<T> Pending<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            waiting: VecDeque::with_capacity(limits.pending),
            released: VecDeque::with_capacity(limits.pending),
            limits,
        }
    }

    pub(super) fn push(&mut self, ip: Ipv4Addr, packet: T) -> Result<(), Refused<T>> {
        let of_same = self.waiting.iter().filter(|(other, _)| *other == ip).count();
        let has_room = self.waiting.len() + self.released.len() < self.limits.pending;
        if has_room && of_same < self.limits.pending_per_entry {
            self.waiting.push_back((ip, packet));
            return Ok(());
        }
        let reason = DropReason::NeighFull;
        let oldest = self.waiting.iter().position(|(other, _)| *other == ip);
        match oldest.and_then(|oldest| self.waiting.remove(oldest)) {
            Some((_, displaced)) => {
                self.waiting.push_back((ip, packet));
                Err(Refused { packet: displaced, reason })
            }
            None => Err(Refused { packet, reason }),
        }
    }

    pub(super) fn resolve(&mut self, ip: Ipv4Addr, mac: Mac) {
        self.release(ip, |packet| Released::Resolved { ip, mac, packet });
    }

    pub(super) fn fail(&mut self, ip: Ipv4Addr) {
        self.release(ip, |packet| Released::Failed { ip, packet });
    }

    pub(super) fn poll_released(&mut self) -> Option<Released<T>> {
        self.released.pop_front()
    }

    /// One turn of the queue: what waited for `ip` leaves it, the rest keeps its order.
    fn release(&mut self, ip: Ipv4Addr, outcome: impl Fn(T) -> Released<T>) {
        for _ in 0..self.waiting.len() {
            match self.waiting.pop_front() {
                Some((other, packet)) if other == ip => self.released.push_back(outcome(packet)),
                Some(other) => self.waiting.push_back(other),
                None => return,
            }
        }
    }
}
