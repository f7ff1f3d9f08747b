//! Outgoing TCP payload: one frame of the send queue, with the checksum of its payload kept from the one copy.

use ringwire_frame::{Class, Frame, Pool, SendFrame};
use ringwire_proto::tcp;
use ringwire_wire::checksum::Sum;

use super::link::TX_HEADROOM;

/// One segment's payload. The frame's window covers the headers of the last transmission and the payload behind them.
#[derive(Debug)]
pub(crate) struct TcpBuf {
    frame: SendFrame,
    head_len: usize,
    payload_sum: Sum,
    limit_bytes: usize,
}

impl TcpBuf {
    /// `frame` holds payload already, or nothing; it takes at most `limit_bytes`.
    pub(crate) fn new(frame: Frame, limit_bytes: usize) -> TcpBuf {
        let payload_sum = Sum::of(frame.bytes());
        TcpBuf { frame: frame.into_send(), head_len: 0, payload_sum, limit_bytes }
    }

    pub(crate) fn payload_sum(&self) -> Sum {
        self.payload_sum
    }

    pub(crate) fn frame(&self) -> &SendFrame {
        &self.frame
    }

    /// Gives the frame back if the device does not hold it.
    pub(crate) fn into_frame(mut self) -> Result<Frame, TcpBuf> {
        self.frame.advance(self.head_len);
        let TcpBuf { frame, head_len: _, payload_sum, limit_bytes } = self;
        frame.into_frame().map_err(|frame| TcpBuf { frame, head_len: 0, payload_sum, limit_bytes })
    }

    /// The place for `len` bytes of headers right in front of the payload; `None` while the device may read the frame.
    pub(crate) fn head_mut(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.frame.in_ring() {
            return None;
        }
        self.frame.advance(self.head_len);
        self.head_len = len;
        self.frame.prepend(len)
    }
}

impl tcp::SendBuf for TcpBuf {
    fn len(&self) -> usize {
        self.frame.len() - self.head_len
    }

    fn spare(&self) -> usize {
        let room = self.limit_bytes.saturating_sub(self.len());
        if self.frame.in_ring() { 0 } else { room.min(self.frame.tailroom()) }
    }

    fn append(&mut self, bytes: &[u8]) -> usize {
        let offset = self.len();
        let len = bytes.len().min(self.spare());
        let (Some(to), Some(from)) = (self.frame.append(len), bytes.get(..len)) else { return 0 };
        self.payload_sum = self.payload_sum.add_at_offset(Sum::copy(to, from), offset);
        len
    }

    fn bytes(&self) -> &[u8] {
        self.frame.bytes().get(self.head_len..).unwrap_or_default()
    }

    fn in_ring(&self) -> bool {
        self.frame.in_ring()
    }
}

/// Where a connection's send buffers come from: the pool's share for sending, in pieces of one segment.
pub(crate) struct SendSource<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) limit_bytes: usize,
}

impl tcp::SendPool for SendSource<'_> {
    type Buf = TcpBuf;

    fn alloc(&mut self) -> Option<TcpBuf> {
        let mut frame = self.pool.alloc(Class::Send)?;
        frame.reset(TX_HEADROOM);
        Some(TcpBuf::new(frame, self.limit_bytes))
    }
}
