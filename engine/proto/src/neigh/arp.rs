//! The ARP side of the cache: answering for our addresses, announcing and defending them, believing answers.

use core::net::Ipv4Addr;
use core::time::Duration;

use ringwire_wire::arp::{Op, Packet};
use ringwire_wire::eth::Mac;

use super::entry::{Entry, State};
use super::{Cache, Conflict, REACHABLE, Transmit, Verdict};
use crate::drop_reason::DropReason;
use crate::time::Instant;

/// RFC 5227 1.1 ANNOUNCE_NUM and ANNOUNCE_INTERVAL.
const ANNOUNCE_COUNT: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// RFC 5227 1.1 DEFEND_INTERVAL.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// An address this machine answers for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    ip: Ipv4Addr,
    announcements_left: u8,
    announce_at: Instant,
    /// No second defence before this.
    defend_at: Instant,
}

impl Address {
    pub(super) fn timer(&self) -> Instant {
        if self.announcements_left > 0 { self.announce_at } else { Instant::MAX }
    }
}

impl<T> Cache<T> {
    /// Answers for `ip` from now on, and announces it (RFC 5227 2.3).
    pub fn add_address(&mut self, now: Instant, ip: Ipv4Addr) {
        if self.answers_for(ip) {
            return;
        }
        self.addresses.push(Address {
            ip,
            announcements_left: ANNOUNCE_COUNT,
            announce_at: now,
            defend_at: now,
        });
        self.wake_at(now);
    }

    /// The station has another hardware address from now on, and says so for every address it answers for.
    pub fn set_mac(&mut self, now: Instant, mac: Mac) {
        self.mac = mac;
        for address in &mut self.addresses {
            (address.announcements_left, address.announce_at) = (ANNOUNCE_COUNT, now);
        }
        self.wake_at(now);
    }

    /// Stops answering for `ip`.
    pub fn remove_address(&mut self, ip: Ipv4Addr) {
        self.addresses.retain(|address| address.ip != ip);
    }

    /// Takes a received ARP packet.
    pub fn on_arp(&mut self, now: Instant, packet: &Packet) -> Verdict {
        if let Err(reason) = self.check_sender(now, packet) {
            return Verdict::Drop(reason);
        }
        match packet.op {
            Op::Request => self.on_request(now, packet),
            Op::Reply => self.on_reply(now, packet),
        }
    }

    /// The latest address conflict since the last call, for the operator's log.
    pub fn take_conflict(&mut self) -> Option<Conflict> {
        self.conflict.take()
    }

    pub(super) fn answers_for(&self, ip: Ipv4Addr) -> bool {
        self.addresses.iter().any(|address| address.ip == ip)
    }

    /// A request for `ip`, from that address of ours which is closest to it.
    pub(super) fn request(&self, dst: Mac, ip: Ipv4Addr) -> Transmit {
        let common_bits = |address: &&Address| (address.ip.to_bits() ^ ip.to_bits()).leading_zeros();
        let sender_ip =
            self.addresses.iter().max_by_key(common_bits).map_or(Ipv4Addr::UNSPECIFIED, |address| address.ip);
        let packet = Packet {
            op: Op::Request,
            sender_mac: self.mac,
            sender_ip,
            target_mac: Mac::default(),
            target_ip: ip,
        };
        Transmit { dst, packet }
    }

    pub(super) fn poll_announcement(&mut self, now: Instant) -> Option<Transmit> {
        let address = self.addresses.iter_mut().find(|address| now >= address.timer())?;
        address.announcements_left -= 1; // find() saw a timer, so at least one is left
        address.announce_at = now + ANNOUNCE_INTERVAL;
        let ip = address.ip;
        let packet = Packet {
            op: Op::Request,
            sender_mac: self.mac,
            sender_ip: ip,
            target_mac: Mac::default(),
            target_ip: ip,
        };
        Some(Transmit { dst: Mac::BROADCAST, packet })
    }

    fn check_sender(&mut self, now: Instant, packet: &Packet) -> Result<(), DropReason> {
        let (mac, ip) = (packet.sender_mac, packet.sender_ip);
        // RFC 5227 2.1.1: only a probe, which is a request, may come from the unspecified address.
        let has_no_host = ip.is_loopback()
            || ip.is_multicast()
            || ip.is_broadcast()
            || ip.is_unspecified() && packet.op == Op::Reply;
        if mac == self.mac || mac == Mac::default() || mac.is_multicast() || has_no_host {
            return Err(DropReason::ArpBadSender);
        }
        if self.answers_for(ip) {
            self.on_conflict(now, Conflict { addr: ip, mac });
            return Err(DropReason::ArpBadSender);
        }
        Ok(())
    }

    /// RFC 5227 2.4 (b): the address is kept and defended, by one announcement in ten seconds.
    fn on_conflict(&mut self, now: Instant, conflict: Conflict) {
        self.conflict = Some(conflict);
        let Some(address) = self.addresses.iter_mut().find(|address| address.ip == conflict.addr) else {
            return;
        };
        if now >= address.defend_at {
            address.defend_at = now + DEFEND_INTERVAL;
            address.announcements_left = address.announcements_left.max(1);
            address.announce_at = now;
            self.wake_at(now);
        }
    }

    fn on_request(&mut self, now: Instant, packet: &Packet) -> Verdict {
        if !self.answers_for(packet.target_ip) {
            // RFC 826 would merge the sender of any request into the table; from a stranger it is at most a doubt.
            self.doubt(now, packet);
            return Verdict::Drop(DropReason::ArpNotForUs);
        }
        if !packet.sender_ip.is_unspecified() {
            self.learn_asker(now, packet);
        }
        Verdict::Reply(Packet {
            op: Op::Reply,
            sender_mac: self.mac,
            sender_ip: packet.target_ip,
            target_mac: packet.sender_mac,
            target_ip: packet.sender_ip,
        })
    }

    /// Who asks for us is about to talk to us: its address is noted as stale, so that it is probed when used.
    fn learn_asker(&mut self, now: Instant, packet: &Packet) {
        let found = match self.find(packet.sender_ip) {
            Ok(found) => found,
            Err(_) if self.entries.len() >= self.limits.entries => return,
            Err(place) => {
                self.entries.insert(place, Entry::incomplete(packet.sender_ip, now));
                place
            }
        };
        match self.entries[found].state {
            State::Incomplete | State::Failed => {
                self.entries[found].resolve(packet.sender_mac, State::Reachable, now);
                self.pending.resolve(packet.sender_ip, packet.sender_mac);
            }
            State::Reachable | State::Delay | State::Probe | State::Static => self.doubt(now, packet),
        }
    }

    fn on_reply(&mut self, now: Instant, packet: &Packet) -> Verdict {
        if packet.target_mac != self.mac || !self.answers_for(packet.target_ip) {
            self.doubt(now, packet);
            return Verdict::Drop(DropReason::ArpNotForUs);
        }
        let Ok(found) = self.find(packet.sender_ip) else { return Verdict::Drop(DropReason::ArpUnsolicited) };
        let entry = &mut self.entries[found];
        // While a known address is probed only its owner is believed, or a forger need only provoke a probe.
        let is_confirmation = entry.state == State::Probe && entry.mac == packet.sender_mac;
        if !entry.is_asked_for() && !is_confirmation {
            self.doubt(now, packet);
            return Verdict::Drop(DropReason::ArpUnsolicited);
        }
        entry.resolve(packet.sender_mac, State::Reachable, now + REACHABLE);
        self.pending.resolve(packet.sender_ip, packet.sender_mac);
        Verdict::Learned
    }

    /// A packet that contradicts an entry changes nothing but makes us ask the known owner.
    fn doubt(&mut self, now: Instant, packet: &Packet) {
        let Ok(found) = self.find(packet.sender_ip) else { return };
        let entry = &mut self.entries[found];
        if entry.mac != packet.sender_mac {
            entry.doubt(now);
            let due_at = entry.timer();
            self.wake_at(due_at);
        }
    }
}
