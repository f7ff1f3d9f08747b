use std::vec::Vec;

use proptest::prelude::*;

use super::Sum;
use crate::ipv4::Protocol;

/// RFC 1071 section 4.1, word by word.
fn reference(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Not random, but no two neighbouring words are equal and many carry.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u32).wrapping_mul(0x9e37_79b9).rotate_left(9) as u8 | 0x81).collect()
}

#[test]
fn every_length_and_alignment_matches_the_reference() {
    let bytes = pattern(400);
    for start in 0..72 {
        for end in start..bytes.len() {
            let piece = &bytes[start..end];
            assert_eq!(Sum::of(piece).folded(), reference(piece), "{start}..{end}");
        }
    }
}

#[test]
fn copy_sums_and_copies_at_every_length_and_alignment() {
    let bytes = pattern(300);
    for start in 0..9 {
        for len in 0..bytes.len() - start {
            let src = &bytes[start..start + len];
            let mut dst = std::vec![0; len + 7];
            for to in [0, 1, 7] {
                let dst = &mut dst[to..to + len];
                dst.fill(0);
                assert_eq!(Sum::copy(dst, src).folded(), reference(src), "{start} + {len} -> {to}");
                assert_eq!(dst, src);
            }
        }
    }
}

#[test]
#[should_panic(expected = "length")]
fn copy_refuses_different_lengths() {
    Sum::copy(&mut [0; 3], &[0; 4]);
}

#[test]
fn pieces_at_odd_and_even_offsets_add_up() {
    let bytes = pattern(200);
    let whole = Sum::of(&bytes);
    for cut in 0..=bytes.len() {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(Sum::of(front).add_at_offset(Sum::of(back), cut), whole, "cut at {cut}");
    }
}

#[test]
fn largest_carries_do_not_get_lost() {
    for len in [1, 2, 7, 8, 20, 63, 64, 65, 1460, 9000, 65_535, 1 << 20] {
        let ones = std::vec![0xff; len];
        assert_eq!(Sum::of(&ones).folded(), reference(&ones), "{len} bytes of ones");
    }
}

#[test]
fn the_empty_sum_is_neutral_and_zero_has_two_names() {
    assert_eq!(Sum::of(&[]), Sum::default());
    assert_eq!(Sum::default().finish(), 0xffff);
    assert_eq!(Sum::default().add_u16(0xffff).finish(), 0);
    assert_eq!(Sum::default().add_u16(0xffff).add_u16(0xffff).finish(), 0);
    assert!(!Sum::default().is_valid());
}

#[test]
fn pseudo_header_is_its_bytes() {
    let bytes = [192, 168, 7, 9, 10, 250, 0, 1, 0, 6, 0x12, 0x34];
    let sum = Sum::pseudo_v4([192, 168, 7, 9].into(), [10, 250, 0, 1].into(), Protocol::TCP, 0x1234);
    assert_eq!(sum, Sum::of(&bytes));
}

proptest! {
    #[test]
    fn random_bytes_match_the_reference(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(Sum::of(&bytes).folded(), reference(&bytes));
    }

    #[test]
    fn any_cuts_add_up(bytes in prop::collection::vec(any::<u8>(), 1..600), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut sum = Sum::default();
        for piece in cuts.windows(2) {
            sum = sum.add_at_offset(Sum::of(&bytes[piece[0]..piece[1]]), piece[0]);
        }
        prop_assert_eq!(sum.folded(), reference(&bytes));
    }

    #[test]
    fn data_with_its_checksum_verifies_and_a_flipped_bit_does_not(
        mut bytes in prop::collection::vec(any::<u8>(), 2..300), bit in any::<prop::sample::Index>(),
    ) {
        bytes[..2].fill(0);
        let checksum = Sum::of(&bytes).finish();
        bytes[..2].copy_from_slice(&checksum.to_be_bytes());
        // All-zero data cannot carry a valid sum; no real packet is that.
        prop_assert!(Sum::of(&bytes).is_valid());
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!Sum::of(&bytes).is_valid());
    }
}
