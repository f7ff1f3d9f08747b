//! Streams whose every byte depends on a seed and its place, so that a lost, doubled or moved byte shows; and their digests.

use sha2::{Digest as _, Sha256};

/// A finite pseudo-random stream (SplitMix64).
#[derive(Clone, Debug)]
pub struct Pattern {
    state: u64,
    /// Bytes of the current word not yet given out, lowest first.
    word: u64,
    word_bytes: usize,
    left: u64,
}

impl Pattern {
    /// `len` bytes under `seed`.
    pub fn new(seed: u64, len: u64) -> Pattern {
        Pattern { state: seed.wrapping_mul(0xd134_2543_de82_ef95), word: 0, word_bytes: 0, left: len }
    }

    /// Bytes not yet given out.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes, at most what is left; how many.
    pub fn fill(&mut self, out: &mut [u8]) -> usize {
        let len = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let (head, rest) = out[..len].split_at_mut(self.word_bytes.min(len));
        self.take(head);
        let mut words = rest.chunks_exact_mut(8);
        for chunk in &mut words {
            chunk.copy_from_slice(&self.next_word().to_le_bytes());
        }
        let tail = words.into_remainder();
        if !tail.is_empty() {
            (self.word, self.word_bytes) = (self.next_word(), 8);
            self.take(tail);
        }
        self.left -= len as u64;
        len
    }

    /// What the rest of the stream will have been.
    pub fn digest(&self) -> Digest {
        let (mut pattern, mut digester, mut bytes) = (self.clone(), Digester::default(), vec![0; 1 << 16]);
        while pattern.left > 0 {
            let len = pattern.fill(&mut bytes);
            digester.add(&bytes[..len]);
        }
        digester.finish()
    }

    /// From the current word, which has enough.
    fn take(&mut self, out: &mut [u8]) {
        for byte in out {
            *byte = self.word as u8;
            self.word >>= 8;
            self.word_bytes -= 1;
        }
    }

    fn next_word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Length and SHA-256 of a stream.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest {
    /// Bytes.
    pub len: u64,
    sha256: [u8; 32],
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = self.sha256[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        write!(f, "{} bytes, sha256 {head}..", self.len)
    }
}

/// Works out a [`Digest`] piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Digester {
    sha256: Sha256,
    len: u64,
}

impl Digester {
    /// The next piece of the stream.
    pub fn add(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// At the end of the stream.
    pub fn finish(self) -> Digest {
        Digest { len: self.len, sha256: self.sha256.finalize().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_does_not_depend_on_how_it_is_cut() {
        let mut whole = vec![0; 1000];
        assert_eq!(Pattern::new(7, 1000).fill(&mut whole), 1000);
        let mut cut = Pattern::new(7, 1000);
        let mut pieces = Vec::new();
        for len in (1..).take_while(|len| len * (len - 1) / 2 < 1000) {
            let mut piece = vec![0; len];
            let filled = cut.fill(&mut piece);
            pieces.extend_from_slice(&piece[..filled]);
        }
        assert_eq!((pieces, cut.left()), (whole, 0));
    }

    #[test]
    fn digests_tell_streams_apart() {
        let digest = Pattern::new(1, 100).digest();
        assert_eq!(digest, Pattern::new(1, 100).digest());
        assert_ne!(digest, Pattern::new(2, 100).digest());
        assert_ne!(digest, Pattern::new(1, 99).digest());
        let mut swapped = vec![0; 100];
        Pattern::new(1, 100).fill(&mut swapped);
        swapped.swap(10, 50);
        let mut digester = Digester::default();
        digester.add(&swapped);
        assert_ne!(digest, digester.finish());
    }
}
