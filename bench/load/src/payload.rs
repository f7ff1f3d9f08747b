//! The bytes of requests, and the proof that an answer is the request.
//!
//! A message starts with its tag (who asked, and which of his requests it is) and goes on with a stretch
//! of noise whose start depends on the tag: an answer to another request, shifted by a byte or with one
//! bit turned never passes.

/// Length of the tag at the start of each message.
pub(crate) const TAG_BYTES: usize = 8;

/// Different starts in the noise; a power of two.
const STARTS: usize = 256;

/// Names one request: the asker and his count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) slot: u32,
    pub(crate) seq: u32,
}

impl Tag {
    fn encode(self) -> [u8; TAG_BYTES] {
        // The count comes first, so that requests shorter than a tag still differ from one to the next.
        (u64::from(self.slot) << 32 | u64::from(self.seq)).to_le_bytes()
    }

    /// Reads the tag of a whole datagram; `None` if it is too short to have one.
    pub(crate) fn decode(message: &[u8]) -> Option<Tag> {
        let word = u64::from_le_bytes(*message.first_chunk()?);
        Some(Tag { slot: (word >> 32) as u32, seq: word as u32 })
    }

    fn start(self) -> usize {
        // An odd factor: consecutive counts begin far apart, and all starts are used.
        (self.seq.wrapping_mul(97) ^ self.slot) as usize % STARTS
    }
}

/// Writes and checks messages of one length.
pub(crate) struct Payload {
    noise: Vec<u8>,
    size_bytes: usize,
}

impl Payload {
    pub(crate) fn new(size_bytes: usize) -> Payload {
        // xorshift64: any fixed noise without short periods does.
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        let noise = std::iter::repeat_with(|| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            (word >> 32) as u8
        });
        Payload { noise: noise.take(size_bytes + STARTS).collect(), size_bytes }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Writes the whole message `tag`; `out` is `size_bytes` long.
    pub(crate) fn emit(&self, tag: Tag, out: &mut [u8]) {
        let tag_len = TAG_BYTES.min(out.len());
        let (head, body) = out.split_at_mut(tag_len);
        head.copy_from_slice(&tag.encode()[..tag_len]);
        body.copy_from_slice(&self.noise[tag.start()..][..body.len()]);
    }

    /// Whether `piece` is what message `tag` has from byte `offset` on.
    pub(crate) fn matches(&self, tag: Tag, offset: usize, piece: &[u8]) -> bool {
        if offset + piece.len() > self.size_bytes {
            return false;
        }
        let head = TAG_BYTES.saturating_sub(offset).min(piece.len());
        let (in_tag, in_body) = piece.split_at(head);
        let tag_bytes = tag.encode();
        let body_offset = (offset + head).saturating_sub(TAG_BYTES);
        let body = &self.noise[tag.start() + body_offset..][..in_body.len()];
        (in_tag.is_empty() || *in_tag == tag_bytes[offset..offset + head]) && in_body == body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: Tag = Tag { slot: 3, seq: 0x0102_0304 };

    fn message(payload: &Payload, tag: Tag) -> Vec<u8> {
        let mut bytes = vec![0; payload.size_bytes()];
        payload.emit(tag, &mut bytes);
        bytes
    }

    #[test]
    fn a_message_matches_itself_in_any_pieces() {
        for size in [1, 7, 8, 9, 64, 5000] {
            let payload = Payload::new(size);
            let bytes = message(&payload, TAG);
            for step in [1, 3, 8, 11, 4096] {
                for (index, piece) in bytes.chunks(step).enumerate() {
                    assert!(payload.matches(TAG, index * step, piece), "size {size} step {step}");
                }
            }
        }
    }

    #[test]
    fn every_single_bit_counts() {
        let payload = Payload::new(64);
        let mut bytes = message(&payload, TAG);
        for bit in 0..64 * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!payload.matches(TAG, 0, &bytes), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn other_requests_and_surplus_bytes_do_not_match() {
        let payload = Payload::new(64);
        let bytes = message(&payload, TAG);
        for other in [Tag { slot: 4, ..TAG }, Tag { seq: TAG.seq + 1, ..TAG }] {
            assert!(!payload.matches(other, 0, &bytes));
            // Not even the part behind the tag, where pieces of a stream could begin.
            assert!(!payload.matches(other, TAG_BYTES, &bytes[TAG_BYTES..]));
        }
        let long = [&bytes[..], &[0]].concat();
        assert!(!payload.matches(TAG, 0, &long));
        assert!(!payload.matches(TAG, 64, &[0]));
    }

    #[test]
    fn a_tag_survives_the_way() {
        let payload = Payload::new(8);
        assert_eq!(Tag::decode(&message(&payload, TAG)), Some(TAG));
        assert_eq!(Tag::decode(&[0; 7]), None);
    }
}
