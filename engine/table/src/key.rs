//! Keys of the socket table, and the keyed hash that spreads them.

use core::net::Ipv4Addr;

/// `::ffff:0.0.0.0`: an IPv4 address is looked up as its IPv4-mapped IPv6 address.
const V4_MAPPED: u128 = 0xffff_0000_0000;
const V4_MASK: u128 = 0xffff_ffff;

/// An IP protocol number.
pub type Protocol = u8;

/// What a socket is found by: a flow, or with remote address and port zero a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Our address; IPv4 mapped.
    pub local: u128,
    /// The peer's address; IPv4 mapped; zero for a listener.
    pub remote: u128,
    /// Our port.
    pub local_port: u16,
    /// The peer's port; zero for a listener.
    pub remote_port: u16,
    /// IP protocol number: 6 is TCP, 17 is UDP.
    pub protocol: Protocol,
}

impl FlowKey {
    /// The key of a flow between IPv4 addresses.
    #[inline]
    pub const fn v4(protocol: Protocol, local: (Ipv4Addr, u16), remote: (Ipv4Addr, u16)) -> Self {
        Self {
            local: mapped(local.0),
            remote: mapped(remote.0),
            local_port: local.1,
            remote_port: remote.1,
            protocol,
        }
    }

    /// The key of a listener on an IPv4 address, or on all of them with [`Ipv4Addr::UNSPECIFIED`].
    #[inline]
    pub const fn v4_listener(protocol: Protocol, local: Ipv4Addr, port: u16) -> Self {
        Self { local: mapped(local), remote: 0, local_port: port, remote_port: 0, protocol }
    }

    /// The listener on exactly this flow's local address and port.
    #[inline]
    #[must_use]
    pub const fn listener(&self) -> Self {
        Self { remote: 0, remote_port: 0, ..*self }
    }

    /// The listener on this flow's local port and on every local address of its family.
    #[inline]
    #[must_use]
    pub const fn any_listener(&self) -> Self {
        let is_v4 = self.local & !V4_MASK == V4_MAPPED;
        Self { local: if is_v4 { V4_MAPPED } else { 0 }, remote: 0, remote_port: 0, ..*self }
    }

    /// The key as words: both addresses high half first, then ports and protocol.
    #[inline]
    pub(crate) const fn words(&self) -> [u64; WORD_COUNT] {
        let ports = (self.local_port as u64) << 24 | (self.remote_port as u64) << 8 | self.protocol as u64;
        // The casts keep the low halves.
        [(self.local >> 64) as u64, self.local as u64, (self.remote >> 64) as u64, self.remote as u64, ports]
    }
}

/// Words in [`FlowKey::words`].
pub(crate) const WORD_COUNT: usize = 5;

#[inline]
const fn mapped(addr: Ipv4Addr) -> u128 {
    V4_MAPPED | addr.to_bits() as u128
}

/// A hash of keys under a secret, so that nobody without it can choose keys that collide.
///
/// UMAC's NH (RFC 4418 5.2) over 64-bit words: two different keys collide before the last step with probability 2^-64 over the choice of the
/// secret. Three independent multiplications, because the hash of a packet is on the path of every packet.
#[derive(Clone)]
pub struct FlowHash {
    secret: [u64; WORD_COUNT + 2],
}

impl FlowHash {
    /// Expands 128 random bits into the secret.
    pub fn new(hash_key: [u64; 2]) -> Self {
        let mut state = hash_key;
        let secret = core::array::from_fn(|_| {
            state = [split_mix(&mut state[0]), split_mix(&mut state[1])];
            state[0] ^ state[1].rotate_left(32)
        });
        Self { secret }
    }

    /// 64 well mixed bits.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        let [local_high, local_low, remote_high, remote_low, ports] = key.words();
        let [s0, s1, s2, s3, s4, s5, s6] = self.secret;
        let addresses = wide(local_high.wrapping_add(s0), remote_low.wrapping_add(s1))
            .wrapping_add(wide(remote_high.wrapping_add(s2), local_low.wrapping_add(s3)));
        let sum = addresses.wrapping_add(wide(ports.wrapping_add(s4), s5));
        // The casts keep the low and the high half.
        let folded = wide(sum as u64 ^ s6, (sum >> 64) as u64 ^ s5);
        folded as u64 ^ (folded >> 64) as u64
    }
}

/// The secret stays out of logs.
impl core::fmt::Debug for FlowHash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FlowHash").finish_non_exhaustive()
    }
}

#[inline]
const fn wide(a: u64, b: u64) -> u128 {
    a as u128 * b as u128
}

/// Steele, Lea, Flood: Fast splittable pseudorandom number generators (SplitMix64).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
