//! Bytes as decisions: past the end everything is zero.

/// Reads an input from front to back.
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Input<'a> {
        Input { rest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// Small numbers of either sign, and now and then any number at all.
    pub(crate) fn offset(&mut self) -> u32 {
        match self.byte() {
            0xff => self.u32(),
            0xfe => u32::from(self.u16()),
            0xfd => 0_u32.wrapping_sub(u32::from(self.u16())),
            byte => u32::from(byte).wrapping_sub(64).wrapping_mul(16),
        }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}
