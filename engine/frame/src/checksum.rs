//! The bulk loop of the Internet checksum (RFC 1071) with vectors that the baseline target does not have.
//!
//! What the baseline offers is half as wide as what nearly every machine has, and whole segments are summed once on the way in and
//! once on the way out. The header crate, which has the portable loop, cannot ask the machine: it has no `std` and no `unsafe`.

/// The 16-bit words of `bytes` in native order, added up to a multiple of 2^16 - 1; an odd last byte counts as if followed by a zero.
/// None where the machine has nothing wider than its baseline.
///
/// ```
/// let native = |bytes: [u8; 2]| u64::from(u16::from_ne_bytes(bytes));
/// if let Some(sum) = ringwire_frame::sum_words_wide(&[1, 2, 3]) {
///     // Modulo 2^16 - 1, which is what a checksum is.
///     assert_eq!(sum % 0xffff, (native([1, 2]) + native([3, 0])) % 0xffff);
/// }
/// ```
#[inline]
pub fn sum_words_wide(bytes: &[u8]) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has the feature.
        return Some(unsafe { avx2::sum_words(bytes) });
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
    None
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_setzero_si256, _mm256_srli_epi64,
        _mm256_storeu_si256,
    };

    const BLOCK_LEN: usize = 64;

    /// By hand, because the compiler vectorises a portable loop across blocks and gathers. Lane sums modulo 2^64 and beside them the
    /// sums of the lanes' upper halves, so that no carry has to pass between lanes; neither can overflow below 2^31 blocks.
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
        let lanes = lanes(sums).into_iter().zip(lanes(highs));
        // The upper halves' sum gives the lower halves' exactly; 2^32 of either is 1 modulo 2^32 - 1 and so modulo 2^16 - 1.
        let total = lanes.map(|(sum, high)| halves(sum.wrapping_sub(high << 32)) + halves(high)).sum::<u64>();
        total + sum_tail(tail)
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

    /// Fewer bytes than a block, with the carry put back in at each word: a sum that the compiler leaves to the ordinary registers, whose
    /// vectors would take longer to set up. Only the parity of a piece's position matters, so nothing is shifted into place.
    #[inline]
    fn sum_tail(bytes: &[u8]) -> u64 {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut total = 0;
        for word in words {
            total = add_around(total, u64::from_ne_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            total = add_around(total, u64::from_ne_bytes(last));
        }
        halves(total)
    }

    /// Addition modulo 2^64 - 1, which 2^16 - 1 divides.
    #[inline]
    fn add_around(a: u64, b: u64) -> u64 {
        let (sum, carry) = a.overflowing_add(b);
        sum + u64::from(carry)
    }

    #[inline]
    fn halves(word: u64) -> u64 {
        (word & 0xffff_ffff) + (word >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::sum_words_wide;

    /// RFC 1071 2 (B), (1): word by word in native order.
    fn reference(bytes: &[u8]) -> u64 {
        let word = |pair: &[u8]| u64::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        bytes.chunks(2).map(word).sum::<u64>() % 0xffff
    }

    fn assert_right(bytes: &[u8]) {
        if let Some(sum) = sum_words_wide(bytes) {
            assert_eq!(sum % 0xffff, reference(bytes), "{} bytes at {:p}", bytes.len(), bytes);
        }
    }

    #[test]
    fn every_length_and_alignment_matches_the_reference() {
        let bytes: Vec<u8> =
            (0_u32..1700).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 11) as u8 | 0x81).collect();
        for start in 0..33 {
            for len in (0..300).chain([1460, 1461, 1600]) {
                let piece = &bytes[start..start + len];
                assert_right(piece);
            }
        }
    }

    #[test]
    fn the_largest_words_carry_around() {
        for len in [8, 64, 72, 1 << 16, (1 << 16) + 5] {
            let ones = vec![0xff; len];
            assert_right(&ones);
            assert_ne!(sum_words_wide(&ones), Some(0), "all ones is the other zero");
        }
    }
}
