//! The Rust side of `steer_abi.h`: build.rs reads the numbers out of the header, so they are written down once.

use std::net::IpAddr;

/// The numbers of the header, under their C names.
#[allow(dead_code, reason = "the header also holds numbers that only the program uses")]
pub(crate) mod header {
    include!(concat!(env!("OUT_DIR"), "/steer_abi.rs"));
}

/// The compiled program; libelf reads it in place, so it starts at an aligned address.
pub(crate) static OBJECT: &[u8] = {
    #[repr(C, align(16))]
    struct Aligned<T: ?Sized>(T);
    static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/steer.bpf.o")));
    &ALIGNED.0
};

const CONFIG_LEN: usize = header::STEER_CONFIG_BYTES as usize;
const ADDRESS_ENTRY_LEN: usize = header::STEER_ADDRESS_ENTRY_BYTES as usize;
pub(crate) const PORTS_PER_ADDRESS: usize = (header::STEER_PROTOS * header::STEER_PORTS) as usize;
pub(crate) const PORTS_PER_ELEMENT: usize = header::STEER_PORTS_PER_ELEMENT as usize;

/// Key of the only element of a one-element array map.
pub(crate) const ONLY: [u8; 4] = [0; 4];

/// `struct steer_config`, without its constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) features: u32,
    pub(crate) generation: u64,
    pub(crate) ifindex: u32,
    pub(crate) max_queues: u32,
    pub(crate) max_addresses: u32,
    pub(crate) mac: [u8; 6],
}

impl Config {
    pub(crate) fn to_bytes(self) -> [u8; CONFIG_LEN] {
        let Config { features, generation, ifindex, max_queues, max_addresses, mac } = self;
        let mut bytes = [0; CONFIG_LEN];
        bytes[0..4].copy_from_slice(&header::STEER_MAGIC.to_ne_bytes());
        bytes[4..8].copy_from_slice(&header::STEER_ABI_VERSION.to_ne_bytes());
        bytes[8..16].copy_from_slice(&u64::from(features).to_ne_bytes());
        bytes[16..24].copy_from_slice(&generation.to_ne_bytes());
        bytes[24..28].copy_from_slice(&ifindex.to_ne_bytes());
        bytes[28..32].copy_from_slice(&max_queues.to_ne_bytes());
        bytes[32..36].copy_from_slice(&max_addresses.to_ne_bytes());
        bytes[36..40].copy_from_slice(&header::STEER_ENGINE_SLOTS.to_ne_bytes());
        bytes[40..46].copy_from_slice(&mac);
        bytes
    }
}

/// `struct steer_address`: network byte order, IPv4 mapped.
pub(crate) fn address_key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// `struct steer_address_entry`; `owner` 0 means shared with the kernel.
pub(crate) fn address_entry(index: u32, owner: u8) -> [u8; ADDRESS_ENTRY_LEN] {
    let mut bytes = [0; ADDRESS_ENTRY_LEN];
    bytes[..4].copy_from_slice(&index.to_ne_bytes());
    bytes[4] = owner;
    bytes
}
