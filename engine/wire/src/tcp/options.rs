//! TCP options: a bounded parser that keeps what was good, and Linux's order on output.

use super::fast_open::{EXPERIMENT, FastOpen, Form};
use crate::be32;

/// The largest shift that may be used (RFC 7323 2.3).
pub const MAX_WINDOW_SCALE: u8 = 14;

const MAX_OPTIONS_LEN: usize = 40;
const MAX_SACK_BLOCKS: usize = 4;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
const FAST_OPEN: u8 = 34;
/// Shared by experiments, which say which one they are (RFC 6994 3).
const EXPERIMENTS: u8 = 254;

/// Bytes on the wire, with the NOPs that align them.
const MSS_LEN: usize = 4;
const ALIGNED_TIMESTAMPS_LEN: usize = 12;
const ALIGNED_SACK_PERMITTED_LEN: usize = 4;
const ALIGNED_WINDOW_SCALE_LEN: usize = 4;
const ALIGNED_SACK_LEN: usize = 4;
const SACK_BLOCK_LEN: usize = 8;

/// The options we know. Fields are what the peer said; whether an option is allowed in this segment
/// is for the caller to decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Largest segment the sender takes, in bytes of payload plus options (RFC 9293 3.7.1); never zero
    /// after parsing.
    pub mss: Option<u16>,
    /// Shift of later window fields (RFC 7323 2), at most [`MAX_WINDOW_SCALE`] after parsing.
    pub window_scale: Option<u8>,
    /// The sender takes SACK options (RFC 2018 2).
    pub sack_permitted: bool,
    /// Timestamps (RFC 7323 3).
    pub timestamps: Option<Timestamps>,
    /// What the sender holds beyond the acknowledgement (RFC 2018 3).
    pub sack: SackBlocks,
    /// A Fast Open cookie, or the request for one (RFC 7413 4.1.1).
    pub fast_open: Option<FastOpen>,
}

/// The timestamps option (RFC 7323 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the receiver's clock, echoed.
    pub echo: u32,
}

/// Up to four ranges of sequence numbers, left edge included, right edge not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(u32, u32); MAX_SACK_BLOCKS],
    count: u8,
}

impl SackBlocks {
    /// No block.
    pub const NONE: SackBlocks = SackBlocks { blocks: [(0, 0); MAX_SACK_BLOCKS], count: 0 };

    /// Appends a block; the fifth is dropped, like one that did not fit the header.
    pub fn push(&mut self, left: u32, right: u32) {
        if let Some(block) = self.blocks.get_mut(usize::from(self.count)) {
            *block = (left, right);
            self.count += 1;
        }
    }

    /// The blocks in wire order, the most recent first.
    pub fn as_slice(&self) -> &[(u32, u32)] {
        self.blocks.get(..usize::from(self.count)).unwrap_or(&self.blocks)
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Options {
    /// Parses the option bytes of a header.
    ///
    /// Never fails: a length that cannot be right ends the walk and keeps what was good before it
    /// (lengths 0 and 1, or beyond the header). A known option with another option's length, an MSS of
    /// zero and a SACK block whose right edge is not after its left are as if absent. A window scale
    /// above 14 counts as 14 (RFC 7323 2.3). The last one of a kind wins.
    ///
    /// ```
    /// use ringwire_wire::tcp::Options;
    /// let options = Options::parse(&[2, 4, 5, 180, 3, 3, 200, 8, 0, 0, 0, 0]);
    /// assert_eq!((options.mss, options.window_scale, options.timestamps), (Some(1460), Some(14), None));
    /// ```
    #[inline]
    pub fn parse(bytes: &[u8]) -> Options {
        match bytes {
            [] => Options::default(),
            // What Linux and we put on every segment but the first (RFC 7323 appendix A).
            &[NOP, NOP, TIMESTAMPS, 10, a, b, c, d, e, f, g, h] => Options {
                timestamps: Some(Timestamps {
                    value: u32::from_be_bytes([a, b, c, d]),
                    echo: u32::from_be_bytes([e, f, g, h]),
                }),
                ..Options::default()
            },
            _ => Options::walk(bytes),
        }
    }

    /// Bytes [`Options::emit`] writes: a multiple of four, at most 40.
    #[inline]
    pub fn encoded_len(&self) -> usize {
        if self.sack.is_empty() { self.len_without_sack() } else { self.len_with_sack() }
    }

    #[cold]
    fn len_with_sack(&self) -> usize {
        match self.sack_that_fits() {
            [] => self.len_without_sack(),
            blocks => self.len_without_sack() + ALIGNED_SACK_LEN + blocks.len() * SACK_BLOCK_LEN,
        }
    }

    /// Writes the options in Linux's order and returns their length; SACK blocks that do not fit the 40
    /// bytes are left out, the oldest first.
    ///
    /// With timestamps `mss, sackOK, TS, nop, wscale`; without `mss, nop, nop, sackOK, nop, wscale`;
    /// then Fast Open, with NOPs behind it; after the handshake `nop, nop, TS, nop, nop, SACK`.
    ///
    /// # Panics
    /// If `out` is shorter than [`Options::encoded_len`].
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let Options {
            mss: None,
            window_scale: None,
            sack_permitted: false,
            timestamps,
            sack,
            fast_open: None,
        } = self
        else {
            return self.emit_any(out);
        };
        match timestamps {
            _ if !sack.is_empty() => self.emit_any(out),
            None => 0,
            Some(Timestamps { value, echo }) => {
                out[..4].copy_from_slice(&[NOP, NOP, TIMESTAMPS, 10]);
                out[4..8].copy_from_slice(&value.to_be_bytes());
                out[8..ALIGNED_TIMESTAMPS_LEN].copy_from_slice(&echo.to_be_bytes());
                ALIGNED_TIMESTAMPS_LEN
            }
        }
    }

    /// Of a SYN, or with SACK blocks.
    #[cold]
    fn emit_any(&self, out: &mut [u8]) -> usize {
        let mut writer = Writer { out, len: 0 };
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            writer.put([MSS, 4, high, low]);
        }
        match self.timestamps {
            Some(timestamps) => {
                writer.put(if self.sack_permitted { [SACK_PERMITTED, 2] } else { [NOP, NOP] });
                writer.put([TIMESTAMPS, 10]);
                writer.put(timestamps.value.to_be_bytes());
                writer.put(timestamps.echo.to_be_bytes());
            }
            None if self.sack_permitted => writer.put([NOP, NOP, SACK_PERMITTED, 2]),
            None => {}
        }
        if let Some(shift) = self.window_scale {
            writer.put([NOP, WINDOW_SCALE, 3, shift]);
        }
        if !self.sack.is_empty() {
            self.emit_sack(&mut writer);
        }
        if let Some(fast_open) = &self.fast_open {
            emit_fast_open(fast_open, &mut writer);
        }
        writer.len
    }

    fn emit_sack(&self, writer: &mut Writer<'_>) {
        let blocks = self.sack_that_fits();
        if blocks.is_empty() {
            return;
        }
        writer.put([NOP, NOP, SACK, (2 + blocks.len() * SACK_BLOCK_LEN) as u8]);
        for (left, right) in blocks {
            writer.put(left.to_be_bytes());
            writer.put(right.to_be_bytes());
        }
    }

    #[inline]
    fn len_without_sack(&self) -> usize {
        let sack_permitted = if self.timestamps.is_some() {
            ALIGNED_TIMESTAMPS_LEN // its two NOPs are SACK-permitted's place
        } else if self.sack_permitted {
            ALIGNED_SACK_PERMITTED_LEN
        } else {
            0
        };
        let mss = if self.mss.is_some() { MSS_LEN } else { 0 };
        let window_scale = if self.window_scale.is_some() { ALIGNED_WINDOW_SCALE_LEN } else { 0 };
        let fast_open = self.fast_open.as_ref().map_or(0, FastOpen::encoded_len);
        mss + sack_permitted + window_scale + fast_open
    }

    #[inline]
    fn sack_that_fits(&self) -> &[(u32, u32)] {
        let blocks = self.sack.as_slice();
        let used = ALIGNED_SACK_LEN + self.len_without_sack();
        let room = MAX_OPTIONS_LEN.saturating_sub(used) / SACK_BLOCK_LEN;
        blocks.get(..room).unwrap_or(blocks)
    }

    #[cold]
    fn walk(bytes: &[u8]) -> Options {
        let mut options = Options::default();
        let mut rest = bytes;
        while let [kind, tail @ ..] = rest {
            match *kind {
                END => break,
                NOP => rest = tail,
                kind => {
                    let Some((body, tail)) = split_option(rest) else { break };
                    options.set(kind, body);
                    rest = tail;
                }
            }
        }
        options
    }

    fn set(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (MSS, &[high, low]) if (high, low) != (0, 0) => self.mss = Some(u16::from_be_bytes([high, low])),
            (WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift.min(MAX_WINDOW_SCALE)),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (TIMESTAMPS, body) => {
                if let Ok(body) = <&[u8; 8]>::try_from(body) {
                    self.timestamps = Some(Timestamps { value: be32(body, 0), echo: be32(body, 4) });
                }
            }
            (SACK, body) => {
                if let (blocks, []) = body.as_chunks() {
                    self.sack = SackBlocks::parse(blocks);
                }
            }
            (FAST_OPEN, body) => {
                if let Some(fast_open) = FastOpen::parse(body) {
                    self.fast_open = Some(fast_open);
                }
            }
            (EXPERIMENTS, [a, b, cookie @ ..]) if [*a, *b] == EXPERIMENT => {
                if let Some(fast_open) = FastOpen::parse(cookie) {
                    self.fast_open = Some(fast_open.in_form(Form::Experimental));
                }
            }
            _ => {}
        }
    }
}

#[cold]
fn emit_fast_open(fast_open: &FastOpen, writer: &mut Writer<'_>) {
    let end = writer.len + fast_open.encoded_len();
    match fast_open.form() {
        Form::Standard => writer.put([FAST_OPEN, fast_open.option_len()]),
        Form::Experimental => {
            writer.put([EXPERIMENTS, fast_open.option_len()]);
            writer.put(EXPERIMENT);
        }
    }
    fast_open.as_slice().iter().for_each(|byte| writer.put([*byte]));
    while writer.len < end {
        writer.put([NOP]);
    }
}

impl SackBlocks {
    fn parse(wire: &[[u8; SACK_BLOCK_LEN]]) -> SackBlocks {
        let mut blocks = SackBlocks::NONE;
        for block in wire {
            let (left, right) = (be32(block, 0), be32(block, 4));
            // In sequence space: between 1 and 2^31 - 1 bytes.
            if right.wrapping_sub(left).wrapping_sub(1) < i32::MAX as u32 {
                blocks.push(left, right);
            }
        }
        blocks
    }
}

/// The body of the option at the front and what follows it; its length covers its own two bytes.
#[inline]
fn split_option(options: &[u8]) -> Option<(&[u8], &[u8])> {
    let [_, len, tail @ ..] = options else { return None };
    tail.split_at_checked(usize::from(*len).checked_sub(2)?)
}

struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.out[self.len..self.len + N].copy_from_slice(&bytes);
        self.len += N;
    }
}
