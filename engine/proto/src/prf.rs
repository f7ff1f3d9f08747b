//! Unpredictable numbers from a boot-time key: initial sequence numbers, timestamp offsets, source ports.
//!
//! One keyed function, SipHash-2-4, split by a domain byte so that what one use reveals says nothing about another. The key comes from the
//! caller and must stay the same while peers may remember old connections: a restart with the same key and clock continues the
//! sequence space of every flow instead of starting it again.

use core::hash::Hasher;
use core::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::flow::Flow;
use crate::seq::SeqNum;
use crate::time::Instant;

/// Nanoseconds per step of the sequence number clock. RFC 9293 3.4.1: about every 4 microseconds.
const ISN_STEP_NS: u64 = 4_000;

/// A keyed pseudo-random function.
///
/// ```
/// use core::net::Ipv4Addr;
/// use ringwire_proto::{flow::Flow, prf::Prf, time::Instant};
///
/// let prf = Prf::new([7; 16]);
/// let flow = Flow::v4(Ipv4Addr::new(10, 0, 0, 1), 80, Ipv4Addr::new(10, 0, 0, 2), 4096);
/// let first = prf.isn(Instant::from_secs(1), &flow);
/// assert!(prf.isn(Instant::from_secs(2), &flow).after(first));
/// ```
#[derive(Clone)]
pub struct Prf {
    keyed: SipHasher24,
}

/// What a value is for; part of every hashed message.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Domain {
    Isn,
    TimestampOffset,
    PortOffset,
    Ident,
    Generic,
    Cookie,
    FastOpen,
}

impl Prf {
    /// A function keyed with 128 secret random bits.
    pub fn new(key: [u8; 16]) -> Self {
        Self { keyed: SipHasher24::new_with_key(&key) }
    }

    /// The initial sequence number for a connection that opens now.
    pub fn isn(&self, now: Instant, flow: &Flow) -> SeqNum {
        // RFC 6528 (3): ISN = M + F(localip, localport, remoteip, remoteport, secretkey). Both casts keep the low 32 bits.
        let clock = (now.as_nanos() / ISN_STEP_NS) as u32;
        SeqNum(self.flow_hash(Domain::Isn, flow) as u32) + clock
    }

    /// What a flow adds to its timestamp clock. RFC 7323 5.4: a random offset per connection.
    pub fn timestamp_offset(&self, flow: &Flow) -> u32 {
        self.flow_hash(Domain::TimestampOffset, flow) as u32
    }

    /// Where the search for a free source port towards one destination starts.
    pub fn port_offset(&self, local: IpAddr, remote: IpAddr, remote_port: u16) -> u32 {
        // RFC 6056 (3.3.3): offset = F(local_IP, remote_IP, remote_port, secret_key).
        self.flow_hash(Domain::PortOffset, &Flow { local, local_port: 0, remote, remote_port }) as u32
    }

    /// Where the IP identification of a flow starts; see [`crate::ip::Ident`].
    pub fn ident(&self, flow: &Flow) -> u16 {
        self.flow_hash(Domain::Ident, flow) as u16
    }

    /// The secret part of a SYN cookie: of this flow, for a SYN with this sequence number, in this period (RFC 4987 3.6).
    pub fn cookie(&self, flow: &Flow, irs: u32, period: u32) -> u64 {
        let mut hasher = self.hasher(Domain::Cookie);
        write_flow(&mut hasher, flow);
        hasher.write(&irs.to_be_bytes());
        hasher.write(&period.to_be_bytes());
        hasher.finish()
    }

    /// The Fast Open cookie of a peer in this period (RFC 7413 4.1.2): of the addresses alone, for every port.
    pub fn fast_open_cookie(&self, local: IpAddr, remote: IpAddr, period: u32) -> u64 {
        let mut hasher = self.hasher(Domain::FastOpen);
        write_flow(&mut hasher, &Flow { local, local_port: 0, remote, remote_port: 0 });
        hasher.write(&period.to_be_bytes());
        hasher.finish()
    }

    /// Hashes any message, apart from all uses above.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.hasher(Domain::Generic);
        hasher.write(bytes);
        hasher.finish()
    }

    fn flow_hash(&self, domain: Domain, flow: &Flow) -> u64 {
        let mut hasher = self.hasher(domain);
        write_flow(&mut hasher, flow);
        hasher.finish()
    }

    fn hasher(&self, domain: Domain) -> SipHasher24 {
        let mut hasher = self.keyed;
        hasher.write(&[domain as u8]);
        hasher
    }
}

/// The key stays out of logs.
impl core::fmt::Debug for Prf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Prf").finish_non_exhaustive()
    }
}

fn write_flow(hasher: &mut SipHasher24, flow: &Flow) {
    hasher.write(&mapped(flow.local).octets());
    hasher.write(&mapped(flow.remote).octets());
    hasher.write(&flow.local_port.to_be_bytes());
    hasher.write(&flow.remote_port.to_be_bytes());
}

/// Both families in one shape, so that a mapped address hashes like the IPv4 address it stands for.
pub(crate) fn mapped(addr: IpAddr) -> core::net::Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use core::time::Duration;
    use std::collections::HashSet;

    const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const REMOTE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn flow() -> Flow {
        Flow::v4(LOCAL, 80, REMOTE, 40_000)
    }

    /// Every flow that differs from `flow()` in one field.
    fn neighbours() -> [Flow; 4] {
        [
            Flow { local: IpAddr::V4(REMOTE), ..flow() },
            Flow { local_port: 81, ..flow() },
            Flow { remote: IpAddr::V4(LOCAL), ..flow() },
            Flow { remote_port: 40_001, ..flow() },
        ]
    }

    /// The test vector of the SipHash paper, appendix A, checks the function behind the domains.
    #[test]
    fn the_function_is_siphash_2_4() {
        let key: [u8; 16] = core::array::from_fn(|i| i as u8);
        let message: [u8; 15] = core::array::from_fn(|i| i as u8);
        let mut hasher = Prf::new(key).keyed;
        hasher.write(&message);
        assert_eq!(hasher.finish(), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn one_flow_s_isn_follows_the_four_microsecond_clock() {
        let prf = Prf::new([1; 16]);
        let start = prf.isn(Instant::from_secs(100), &flow());
        let later = prf.isn(Instant::from_secs(100) + Duration::from_micros(400), &flow());
        assert_eq!(later.distance(start), 100);
        // One turn of the ring takes 4.77 hours, longer than any segment lives.
        let turned = prf.isn(Instant::from_secs(100) + Duration::from_nanos(ISN_STEP_NS << 32), &flow());
        assert_eq!(turned, start);
    }

    #[test]
    fn every_field_and_the_key_change_every_value() {
        let prf = Prf::new([1; 16]);
        let now = Instant::from_secs(1);
        for other in neighbours() {
            assert_ne!(prf.isn(now, &other), prf.isn(now, &flow()));
            assert_ne!(prf.timestamp_offset(&other), prf.timestamp_offset(&flow()));
        }
        let rekeyed = Prf::new([2; 16]);
        assert_ne!(rekeyed.isn(now, &flow()), prf.isn(now, &flow()));
        let local = IpAddr::V4(LOCAL);
        let remote = IpAddr::V4(REMOTE);
        let offset = prf.port_offset(local, remote, 443);
        assert_ne!(offset, prf.port_offset(remote, remote, 443));
        assert_ne!(offset, prf.port_offset(local, local, 443));
        assert_ne!(offset, prf.port_offset(local, remote, 444));
    }

    #[test]
    fn a_mapped_address_is_the_address_it_stands_for() {
        let prf = Prf::new([1; 16]);
        let mapped = Flow {
            local: IpAddr::V6(LOCAL.to_ipv6_mapped()),
            remote: IpAddr::V6(REMOTE.to_ipv6_mapped()),
            ..flow()
        };
        assert_eq!(prf.timestamp_offset(&mapped), prf.timestamp_offset(&flow()));
    }

    #[test]
    fn uses_do_not_share_values() {
        let prf = Prf::new([1; 16]);
        let portless = Flow { local_port: 0, ..flow() };
        let values = [
            prf.isn(Instant::ZERO, &portless).0,
            prf.timestamp_offset(&portless),
            prf.port_offset(portless.local, portless.remote, portless.remote_port),
            prf.hash(b"") as u32,
            prf.hash(b"x") as u32,
            prf.cookie(&portless, 0, 0) as u32,
            prf.cookie(&portless, 1, 0) as u32,
            prf.cookie(&portless, 0, 1) as u32,
            prf.fast_open_cookie(portless.local, portless.remote, 0) as u32,
            prf.fast_open_cookie(portless.local, portless.remote, 1) as u32,
            prf.fast_open_cookie(portless.remote, portless.local, 0) as u32,
        ];
        assert_eq!(values.iter().collect::<HashSet<_>>().len(), values.len());
    }
}
