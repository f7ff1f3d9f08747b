//! Who is where on the link: the neighbour cache and its ARP machine (RFC 826, RFC 1122 2.3.2, RFC 5227).
//!
//! Owns: the entries, the packets that wait for one, and the addresses this machine answers for. Does not own: the link. Whoever drives it
//! passes in ARP packets, sends what [`Cache::poll_transmit`] returns, and then drains [`Cache::poll_released`].
//!
//! ```text
//!            lookup            reply             30 s           used        5 s without forward progress
//!  (absent) -------> Incomplete ----> Reachable ----> (stale) -------> Delay ---------------------------> Probe
//!              ^        | 3 requests    ^  ^                             | confirm, reply                    | reply: Reachable
//!              |        v without reply |  +-----------------------------+                                   | 3 without: Incomplete
//!              +---- Failed             +--------------------------------------------------------------------+
//! ```
//!
//! A neighbour that is suspected to be gone ([`Cache::suspect`]) is probed at once, stale or not.
//!
//! What an attacker on the link can do is bounded: replies count only while a request of ours for that address is open; a request to us may add
//! an entry, never change one; a contradiction only makes us ask again. Entries and waiting packets have fixed limits.
//!
//! In shared mode the kernel resolves: no address is added here, entries come from [`Cache::insert_static`], and the requests of
//! `poll_transmit` are translated into a wish to the kernel for `packet.target_ip`.

mod arp;
mod entry;
mod pending;

use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

use ringwire_wire::arp::Packet;
use ringwire_wire::eth::Mac;

use crate::drop_reason::DropReason;
use crate::time::Instant;
use arp::Address;
use entry::{Entry, State};
use pending::Pending;
pub use pending::{Refused, Released};

/// RFC 1122 2.3.2.1: requests for one address at most once per second.
const RETRY: Duration = Duration::from_secs(1);
/// Requests without an answer until an address counts as failed.
const MAX_REQUESTS: u8 = 3;
/// How long a failed address is not asked for again.
const FAILED_HOLD: Duration = Duration::from_secs(3);
/// How long an answer is believed without a sign of life; Linux's `base_reachable_time`.
const REACHABLE: Duration = Duration::from_secs(30);
/// How long a stale entry in use waits for forward progress before it is probed; RFC 4861 10 DELAY_FIRST_PROBE_TIME.
const DELAY: Duration = Duration::from_secs(5);

/// Limits of a [`Cache`]. The default number of entries is the kernel's own (`gc_thresh3`), so that its table can be mirrored.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Neighbours known at once.
    pub entries: usize,
    /// Packets that wait in all.
    pub pending: usize,
    /// Packets that wait for one neighbour.
    pub pending_per_entry: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 1024, pending: 256, pending_per_entry: 32 }
    }
}

/// What is known about a neighbour now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Send to this address.
    Resolved(Mac),
    /// A request is out: give the packet to [`Cache::enqueue`], or try again later.
    Pending,
    /// It did not answer lately, cannot be asked for, or the cache is full: give up on the packet.
    Failed,
}

/// What came of a received ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send this to its `target_mac`, then drain [`Cache::poll_released`].
    Reply(Packet),
    /// It answered a request of ours: drain [`Cache::poll_released`].
    Learned,
    /// Nothing to do.
    Drop(DropReason),
}

/// An ARP packet to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// The Ethernet destination.
    pub dst: Mac,
    /// The packet.
    pub packet: Packet,
}

/// Somebody else uses an address of ours (RFC 5227 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// Our address.
    pub addr: Ipv4Addr,
    /// The other user.
    pub mac: Mac,
}

/// There is no room for another neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The neighbours of one link; packets of type `T` wait in it until their neighbour is known.
///
/// ```
/// use core::net::Ipv4Addr;
/// use ringwire_proto::{Instant, neigh::{Cache, Limits, Lookup}};
/// use ringwire_wire::eth::Mac;
///
/// let mut cache: Cache<&str> = Cache::new(Mac([2, 0, 0, 0, 0, 1]), Limits::default());
/// let (now, peer) = (Instant::ZERO, Ipv4Addr::new(10, 0, 0, 2));
/// cache.add_address(now, Ipv4Addr::new(10, 0, 0, 1));
/// assert_eq!(cache.lookup(now, peer), Lookup::Pending);
/// assert!(cache.enqueue(peer, "first packet").is_ok());
/// ```
#[derive(Debug)]
pub struct Cache<T> {
    mac: Mac,
    limits: Limits,
    addresses: Vec<Address>,
    /// Sorted by address; never grows beyond its first allocation.
    entries: Vec<Entry>,
    pending: Pending<T>,
    /// Nothing is due before this.
    next_at: Instant,
    /// How far [`Cache::poll_transmit`] has come in its pass over `entries`.
    cursor: usize,
    conflict: Option<Conflict>,
}

impl<T> Cache<T> {
    /// An empty cache of the station with this hardware address.
    pub fn new(mac: Mac, limits: Limits) -> Self {
        Self {
            mac,
            limits,
            addresses: Vec::new(),
            entries: Vec::with_capacity(limits.entries),
            pending: Pending::new(limits),
            next_at: Instant::MAX,
            cursor: 0,
            conflict: None,
        }
    }

    /// Where to send packets for `ip`, which must be on this link; asks for it if it is not known.
    #[inline]
    pub fn lookup(&mut self, now: Instant, ip: Ipv4Addr) -> Lookup {
        match self.find(ip) {
            Ok(found) => {
                let entry = &mut self.entries[found];
                let lookup = entry.on_use(now);
                let due_at = entry.timer();
                self.wake_at(due_at);
                lookup
            }
            Err(_) => self.ask_for(now, ip),
        }
    }

    /// Keeps a packet until its neighbour is known; call it only right after [`Lookup::Pending`].
    ///
    /// When too many wait, the oldest for the same neighbour gives way (RFC 1122 2.3.2.2: at least the latest is kept), and if there is
    /// none, the new one.
    pub fn enqueue(&mut self, ip: Ipv4Addr, packet: T) -> Result<(), Refused<T>> {
        match self.find(ip) {
            Ok(found) if self.entries[found].state == State::Incomplete => self.pending.push(ip, packet),
            Ok(_) | Err(_) => Err(Refused { packet, reason: DropReason::NeighUnreachable }),
        }
    }

    /// The next packet that need not wait any more, in the order in which they came; call until `None` before sending to that neighbour again.
    pub fn poll_released(&mut self) -> Option<Released<T>> {
        self.pending.poll_released()
    }

    /// Forward progress: what came from `ip` proves that it receives what we send, so it need not be probed (RFC 1122 2.3.2.1 (3)).
    pub fn confirm(&mut self, now: Instant, ip: Ipv4Addr) {
        if let Ok(found) = self.find(ip) {
            self.entries[found].confirm(now);
        }
    }

    /// Negative advice: what is sent to `ip` is not answered, so that it is asked whether it is still there (RFC 1122 2.3.2.1 (4)).
    pub fn suspect(&mut self, now: Instant, ip: Ipv4Addr) {
        if let Ok(found) = self.find(ip) {
            self.entries[found].doubt(now);
            let due_at = self.entries[found].timer();
            self.wake_at(due_at);
        }
    }

    /// Sets a neighbour that somebody else keeps up to date; it neither expires nor changes through ARP.
    pub fn insert_static(&mut self, now: Instant, ip: Ipv4Addr, mac: Mac) -> Result<(), Full> {
        let found = match self.find(ip) {
            Ok(found) => found,
            Err(_) => self.create(Entry::incomplete(ip, now)).ok_or(Full)?,
        };
        self.entries[found].resolve(mac, State::Static, Instant::MAX);
        self.pending.resolve(ip, mac);
        Ok(())
    }

    /// Somebody else found out that `ip` does not answer; its waiting packets fail.
    pub fn fail(&mut self, now: Instant, ip: Ipv4Addr) {
        if let Ok(found) = self.find(ip) {
            self.entries[found].enter(State::Failed, now + FAILED_HOLD);
            self.pending.fail(ip);
        }
    }

    /// Forgets a neighbour; its waiting packets fail.
    pub fn remove(&mut self, ip: Ipv4Addr) {
        if let Ok(found) = self.find(ip) {
            self.entries.remove(found);
            self.pending.fail(ip);
        }
    }

    /// The next ARP packet to send; call until `None`, then drain [`Cache::poll_released`]: packets may have waited in vain.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if now < self.next_at {
            return None;
        }
        if let Some(announcement) = self.poll_announcement(now) {
            return Some(announcement);
        }
        while let Some(entry) = self.entries.get_mut(self.cursor) {
            self.cursor += 1;
            let (ip, due) = (entry.ip, entry.on_due(now));
            match due {
                entry::Due::Nothing => {}
                entry::Due::Ask(dst) => return Some(self.request(dst, ip)),
                entry::Due::Fail => self.pending.fail(ip),
            }
        }
        self.cursor = 0;
        let announcements = self.addresses.iter().map(Address::timer);
        self.next_at =
            self.entries.iter().map(Entry::timer).chain(announcements).min().unwrap_or(Instant::MAX);
        None
    }

    /// When [`Cache::poll_transmit`] is next worth calling; perhaps early, never late.
    pub fn next_deadline(&self) -> Option<Instant> {
        (self.next_at != Instant::MAX).then_some(self.next_at)
    }

    fn find(&self, ip: Ipv4Addr) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&ip, |entry| entry.ip)
    }

    #[cold]
    fn ask_for(&mut self, now: Instant, ip: Ipv4Addr) -> Lookup {
        let has_no_mac = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast();
        if has_no_mac || self.answers_for(ip) {
            return Lookup::Failed;
        }
        if self.create(Entry::incomplete(ip, now)).is_none() {
            return Lookup::Failed;
        }
        self.wake_at(now);
        Lookup::Pending
    }

    /// Adds an entry for an unknown address, if need be in place of the most dispensable one, and returns its index.
    fn create(&mut self, entry: Entry) -> Option<usize> {
        if self.entries.len() >= self.limits.entries {
            let by_need =
                self.entries.iter().enumerate().filter_map(|(index, entry)| Some((entry.need()?, index)));
            let (_, victim) = by_need.min()?;
            self.entries.remove(victim);
        }
        let place = self.find(entry.ip).err()?;
        self.entries.insert(place, entry);
        Some(place)
    }

    fn wake_at(&mut self, at: Instant) {
        self.next_at = self.next_at.min(at);
    }
}

#[cfg(test)]
mod tests;
