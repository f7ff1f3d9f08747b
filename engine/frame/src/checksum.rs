//! The bulk loop of the Internet checksum (RFC 1071) with the widest vectors of this machine.
//!
//! What the baseline target offers is half as wide as what nearly every machine has, and whole segments are summed once on the way
//! in and once on the way out. The header crate cannot ask the machine, having no `std` and no `unsafe`; so the loop that may lives here.

/// The 16-bit words of `bytes` in native order, added modulo 2^64 - 1; an odd last byte counts as if followed by a zero.
///
/// ```
/// let native = |bytes: [u8; 2]| u64::from(u16::from_ne_bytes(bytes));
/// // Modulo 2^16 - 1, which is what a checksum is.
/// assert_eq!(ringwire_frame::sum_words(&[1, 2, 3]) % 0xffff, (native([1, 2]) + native([3, 0])) % 0xffff);
/// ```
#[inline]
pub fn sum_words(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has the feature.
        return unsafe { avx2::sum_words(bytes) };
    }
    sum_blocks(bytes)
}

/// Lane sums modulo 2^64 and beside them the sums of the lanes' upper halves, which give the lower halves' sums exactly, so that no
/// carry has to pass between vector lanes. Neither half can overflow below 2^32 blocks.
#[inline(always)]
fn total(sums: &[u64], highs: &[u64]) -> u64 {
    let lanes = sums.iter().zip(highs);
    lanes.map(|(sum, high)| halves(sum.wrapping_sub(high << 32)) + halves(*high)).sum()
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_setzero_si256, _mm256_srli_epi64,
        _mm256_storeu_si256,
    };

    const BLOCK_LEN: usize = 64;

    /// By hand, because the compiler vectorises the portable loop across blocks and gathers.
    #[target_feature(enable = "avx2")]
    pub(super) fn sum_words(bytes: &[u8]) -> u64 {
        let (blocks, tail) = bytes.as_chunks::<BLOCK_LEN>();
        let zero = _mm256_setzero_si256();
        let (mut sums, mut highs) = ([zero; 2], [zero; 2]);
        for block in blocks {
            let (halves, _) = block.as_chunks::<32>();
            for ((sum, high), half) in sums.iter_mut().zip(&mut highs).zip(halves) {
                // SAFETY: 32 bytes are readable, and the load needs no alignment.
                let words = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
                *sum = _mm256_add_epi64(*sum, words);
                *high = _mm256_add_epi64(*high, _mm256_srli_epi64::<32>(words));
            }
        }
        let total = super::total(&lanes(sums), &lanes(highs));
        super::add_around(total, super::sum_tail(tail))
    }

    #[target_feature(enable = "avx2")]
    fn lanes([a, b]: [__m256i; 2]) -> [u64; 4] {
        let mut lanes = [0; 4];
        // Both are sums modulo 2^64 of far fewer than 2^31 blocks, and so is their sum.
        let both = _mm256_add_epi64(a, b);
        // SAFETY: the array has the 32 bytes, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), both) };
        lanes
    }
}

const LANES: usize = 4;

fn sum_blocks(bytes: &[u8]) -> u64 {
    let (blocks, tail) = bytes.as_chunks::<{ LANES * 8 }>();
    let (mut sums, mut highs) = ([0_u64; LANES], [0_u64; LANES]);
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for ((sum, high), word) in sums.iter_mut().zip(&mut highs).zip(words) {
            let word = u64::from_ne_bytes(*word);
            *sum = sum.wrapping_add(word);
            *high = high.wrapping_add(word >> 32);
        }
    }
    add_around(total(&sums, &highs), sum_tail(tail))
}

/// Fewer bytes than a block. Only the parity of a piece's position matters, so nothing is shifted into place.
#[inline(always)]
fn sum_tail(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let total = words.iter().fold(0, |total, word| add_around(total, u64::from_ne_bytes(*word)));
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    add_around(total, u64::from_ne_bytes(last))
}

#[inline(always)]
fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// Addition modulo 2^64 - 1. The carry cannot overflow: after one the sum is at most 2^64 - 2.
#[inline(always)]
fn add_around(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 2 (B), (1): word by word in native order.
    fn reference(bytes: &[u8]) -> u64 {
        let word = |pair: &[u8]| u64::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        bytes.chunks(2).map(word).sum::<u64>() % 0xffff
    }

    #[test]
    fn every_length_and_alignment_matches_the_reference() {
        let bytes: Vec<u8> =
            (0_u32..1700).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 11) as u8 | 0x81).collect();
        for start in 0..33 {
            for len in (0..300).chain([1460, 1461, 1600]) {
                let piece = &bytes[start..start + len];
                assert_eq!(sum_words(piece) % 0xffff, reference(piece), "{len} bytes from {start}");
                assert_eq!(sum_blocks(piece) % 0xffff, reference(piece), "{len} bytes from {start}");
            }
        }
    }

    #[test]
    fn the_largest_words_carry_around() {
        for len in [8, 64, 72, 1 << 16, (1 << 16) + 5] {
            let ones = vec![0xff; len];
            assert_eq!(sum_words(&ones) % 0xffff, reference(&ones), "{len} bytes of ones");
            assert_ne!(sum_words(&ones), 0, "all ones is the other zero");
        }
    }
}
