//! What each byte of a stream must be: a function of its absolute sequence number for what peers send, of its position for what the
//! application sends. So any piece can be checked wherever it turns up, whatever came before it.

/// The byte that a peer sends at this sequence number.
pub(crate) fn peer_byte(seq: u32) -> u8 {
    (seq.wrapping_mul(2_654_435_761) >> 23) as u8
}

/// What a peer sends from `seq` on.
pub(crate) fn peer_text(seq: u32, len: usize) -> Vec<u8> {
    (0..len as u32).map(|index| peer_byte(seq.wrapping_add(index))).collect()
}

/// The byte that the application sends at this position of its stream.
pub(crate) fn app_byte(position: u32) -> u8 {
    (position.wrapping_mul(2_246_822_519) >> 22) as u8
}

/// What the application sends from `position` on.
pub(crate) fn app_text(position: u32, len: usize) -> Vec<u8> {
    (0..len as u32).map(|index| app_byte(position.wrapping_add(index))).collect()
}

/// What one connection has delivered: a stream that began behind one of the peer's initial sequence numbers.
#[derive(Default)]
pub(crate) struct Delivered {
    /// Where it may have begun, from the first piece on; those that do not fit any more are gone.
    starts: Vec<u32>,
    len: u32,
}

impl Delivered {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The next piece; panics if no in-order peer that began at one of `irss` would have delivered it.
    pub(crate) fn take(&mut self, irss: &[u32], piece: &[u8]) {
        if self.len == 0 {
            self.starts = irss.iter().map(|irs| irs.wrapping_add(1)).collect();
        }
        let len = self.len;
        self.starts.retain(|start| peer_text(start.wrapping_add(len), piece.len()) == piece);
        assert!(!self.starts.is_empty(), "delivered at {len}: {piece:02x?}, which no in-order peer has sent");
        self.len = len.wrapping_add(piece.len() as u32);
    }
}

/// What the worker may have sent as text: at one of its initial sequence numbers.
pub(crate) fn check_sent(isses: &[u32], seq: u32, text: &[u8]) {
    let is_right = |iss: &u32| app_text(seq.wrapping_sub(*iss).wrapping_sub(1), text.len()) == text;
    assert!(
        text.is_empty() || isses.iter().any(is_right),
        "sent at {seq}: {text:02x?}, which the application has not written"
    );
}
