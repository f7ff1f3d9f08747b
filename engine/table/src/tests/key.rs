use std::net::Ipv4Addr;

use crate::key::{FlowHash, FlowKey};

const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn flow() -> FlowKey {
    FlowKey::v4(6, (LOCAL, 80), (REMOTE, 4096))
}

#[test]
fn listeners_of_a_flow() {
    assert_eq!(flow().listener(), FlowKey::v4_listener(6, LOCAL, 80));
    assert_eq!(flow().any_listener(), FlowKey::v4_listener(6, Ipv4Addr::UNSPECIFIED, 80));
    let v6 = FlowKey { local: 1 << 96, ..flow() };
    assert_eq!(v6.any_listener(), FlowKey { local: 0, remote: 0, remote_port: 0, ..v6 });
}

#[test]
fn every_bit_of_the_key_reaches_words_and_hash() {
    let flip = |bit: u32| {
        let mut key = flow();
        match bit {
            0..128 => key.local ^= 1 << bit,
            128..256 => key.remote ^= 1 << (bit - 128),
            256..272 => key.local_port ^= 1 << (bit - 256),
            272..288 => key.remote_port ^= 1 << (bit - 272),
            _ => key.protocol ^= 1 << (bit - 288),
        }
        key
    };
    let hash = FlowHash::new([1, 2]);
    for bit in 0..296 {
        let other = flip(bit);
        assert_ne!(other.words(), flow().words(), "bit {bit}");
        let differing = (hash.hash(&other) ^ hash.hash(&flow())).count_ones();
        assert!((12..=52).contains(&differing), "bit {bit} changes {differing} bits of the hash");
    }
}

#[test]
fn the_secret_decides() {
    let hashes = [[1, 2], [1, 3], [2, 2], [2, 1]].map(|hash_key| FlowHash::new(hash_key).hash(&flow()));
    for (index, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..index].contains(hash), "{hashes:x?}");
    }
}

/// Chi-squared over 256 cells, for the high and the low bits, with keys as similar as real ones are.
#[test]
fn similar_keys_spread_evenly() {
    let hash = FlowHash::new([0x0123_4567_89ab_cdef, 42]);
    let keys: Vec<FlowKey> = (0..256u32)
        .flat_map(|host| (0..256u16).map(move |port| (host, port)))
        .map(|(host, port)| {
            FlowKey::v4(6, (LOCAL, 80), (Ipv4Addr::from_bits(0x0a00_0000 + host), 32768 + port))
        })
        .collect();
    for shift in [0, 24, 32, 56] {
        let mut cells = [0u32; 256];
        for key in &keys {
            cells[(hash.hash(key) >> shift) as usize % 256] += 1;
        }
        let expected = keys.len() as f64 / 256.0;
        let chi: f64 = cells.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        // 255 degrees of freedom: mean 255, standard deviation 22.6; six of them either way.
        assert!((120.0..390.0).contains(&chi), "bits from {shift}: chi-squared {chi}");
    }
}
