//! Outgoing TCP payload: one piece of the send queue, with the checksum of its payload kept from the one copy.
//!
//! A piece is a frame, which leaves as it is. When the send side has no frame left it is heap memory, which is copied into a frame
//! each time it leaves: peers that do not read can keep all frames of the send side, and nobody else may wait for them.

use ringwire_frame::{Class, Pool, SendFrame};
use ringwire_proto::tcp;
use ringwire_wire::checksum::Sum;

use super::link::{TX_HEADROOM, sum, sum_copied};
use crate::buffer::TxParts;
use crate::heap::{Heap, Share};

/// One segment's payload.
#[derive(Debug)]
pub(crate) struct TcpBuf {
    store: Store,
    payload_sum: Sum,
    /// Headers of the last transmission, which the frame's window covers in front of the payload.
    head_len: u32,
    limit_bytes: u32,
}

#[derive(Debug)]
enum Store {
    Frame(SendFrame),
    /// Boxed, as each segment moves one of these.
    Heap(Box<HeapPiece>),
}

#[derive(Debug)]
struct HeapPiece {
    bytes: Vec<u8>,
    /// Given back with it.
    _share: Share,
}

const _: () = assert!(size_of::<TcpBuf>() == 32);

impl TcpBuf {
    /// Holds what the parts hold, or nothing; it takes at most `limit_bytes`. Gives the parts back when the heap has no room for them.
    pub(crate) fn new(parts: TxParts, limit_bytes: usize, heap: &Heap) -> Result<TcpBuf, TxParts> {
        let payload_sum = sum(parts.bytes());
        let store = match parts {
            TxParts::Frame(frame) => Store::Frame(frame.into_send()),
            TxParts::Heap(bytes) => match heap.take(bytes.capacity()) {
                Some(share) => Store::Heap(Box::new(HeapPiece { bytes, _share: share })),
                None => return Err(TxParts::Heap(bytes)),
            },
        };
        let limit_bytes = u32::try_from(limit_bytes).unwrap_or(u32::MAX);
        Ok(TcpBuf { store, payload_sum, head_len: 0, limit_bytes })
    }

    /// What has to be booked for it.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> u64 {
        match &self.store {
            Store::Frame(_) => 0,
            Store::Heap(piece) => piece.bytes.capacity() as u64 + crate::heap::PIECE_BYTES,
        }
    }

    pub(crate) fn payload_sum(&self) -> Sum {
        self.payload_sum
    }

    /// The frame that leaves; `None`: its bytes have to be copied into one.
    pub(crate) fn frame(&self) -> Option<&SendFrame> {
        match &self.store {
            Store::Frame(frame) => Some(frame),
            Store::Heap(_) => None,
        }
    }

    /// What it was made of; a copy, were the device to hold the frame.
    pub(crate) fn into_parts(self) -> TxParts {
        match self.store {
            Store::Frame(mut frame) => {
                frame.advance(self.head_len as usize);
                frame.into_frame().map_or_else(|frame| TxParts::Heap(frame.bytes().to_vec()), TxParts::Frame)
            }
            Store::Heap(piece) => TxParts::Heap(piece.bytes),
        }
    }

    /// The place for `len` bytes of headers right in front of the payload; `None` while the device may read the frame, and without
    /// a frame.
    pub(crate) fn head_mut(&mut self, len: usize) -> Option<&mut [u8]> {
        match &mut self.store {
            Store::Frame(frame) => {
                let head = frame.replace_front(self.head_len as usize, len)?;
                // At most `TX_HEADROOM`.
                self.head_len = len as u32;
                Some(head)
            }
            Store::Heap(_) => None,
        }
    }
}

impl tcp::SendBuf for TcpBuf {
    fn len(&self) -> usize {
        match &self.store {
            Store::Frame(frame) => frame.len() - self.head_len as usize,
            Store::Heap(piece) => piece.bytes.len(),
        }
    }

    fn spare(&self) -> usize {
        let room = (self.limit_bytes as usize).saturating_sub(self.len());
        match &self.store {
            Store::Frame(frame) if frame.in_ring() => 0,
            Store::Frame(frame) => room.min(frame.tailroom()),
            // No further than what was booked.
            Store::Heap(piece) => room.min(piece.bytes.capacity() - piece.bytes.len()),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> usize {
        let offset = self.len();
        let room = (self.limit_bytes as usize).saturating_sub(offset).min(bytes.len());
        let (added, len) = match &mut self.store {
            Store::Frame(frame) => {
                let len = room.min(frame.tailroom());
                match (frame.append(len), bytes.get(..len)) {
                    (Some(to), Some(from)) => (sum_copied(to, from), len),
                    _ => return 0,
                }
            }
            Store::Heap(piece) => {
                // No further than what was booked.
                let len = room.min(piece.bytes.capacity() - piece.bytes.len());
                let Some(from) = bytes.get(..len) else { return 0 };
                piece.bytes.extend_from_slice(from);
                (sum(from), len)
            }
        };
        self.payload_sum = self.payload_sum.add_at_offset(added, offset);
        len
    }

    fn bytes(&self) -> &[u8] {
        match &self.store {
            Store::Frame(frame) => frame.bytes().get(self.head_len as usize..).unwrap_or_default(),
            Store::Heap(piece) => &piece.bytes,
        }
    }

    fn in_ring(&self) -> bool {
        self.frame().is_some_and(SendFrame::in_ring)
    }
}

/// Where a connection's send buffers come from: the pool's share for sending, in pieces of one segment, else the heap.
pub(crate) struct SendSource<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) limit_bytes: usize,
    pub(crate) frames_wanted: &'a mut u64,
    pub(crate) heap: &'a Heap,
}

impl tcp::SendPool for SendSource<'_> {
    type Buf = TcpBuf;

    #[inline]
    fn alloc(&mut self) -> Option<TcpBuf> {
        match self.pool.alloc(Class::Send) {
            Some(mut frame) => {
                frame.reset(TX_HEADROOM);
                let limit_bytes = u32::try_from(self.limit_bytes).unwrap_or(u32::MAX);
                let store = Store::Frame(frame.into_send());
                Some(TcpBuf { store, payload_sum: Sum::default(), head_len: 0, limit_bytes })
            }
            None => self.alloc_on_heap(),
        }
    }
}

impl SendSource<'_> {
    #[cold]
    fn alloc_on_heap(&mut self) -> Option<TcpBuf> {
        *self.frames_wanted += 1;
        let parts = TxParts::Heap(Vec::with_capacity(self.limit_bytes));
        TcpBuf::new(parts, self.limit_bytes, self.heap).ok()
    }
}

#[cfg(test)]
mod tests {
    use ringwire_frame::{Floors, Geometry, Region};
    use ringwire_proto::tcp::{SendBuf, SendPool};

    use super::*;

    #[test]
    fn frames_and_heap_hold_the_same_and_sum_it_alike() {
        let geometry = Geometry { frame_bytes: 2048, frame_count: 64 };
        let region = Region::anonymous(geometry.region_bytes());
        let mut pool = Pool::new(region, geometry, Floors::for_frames(64));
        pool.adopt();
        let mut frames_wanted = 0;
        let heap = Heap::new(1000);
        let mut source =
            SendSource { pool: &mut pool, limit_bytes: 100, frames_wanted: &mut frames_wanted, heap: &heap };
        let mut taken: Vec<TcpBuf> = Vec::new();
        while taken.last().is_none_or(|buf| buf.frame().is_some()) {
            taken.push(source.alloc().expect("the heap has room for five"));
        }
        assert_eq!(frames_wanted, 1);
        let (mut heap, mut frame) = (taken.pop().expect("the last"), taken.pop().expect("one before"));
        for buf in [&mut heap, &mut frame] {
            // An odd length in front, so that the sums have to be shifted.
            assert_eq!((buf.append(&[1, 2, 3]), buf.append(&[7; 200]), buf.spare()), (3, 97, 0));
        }
        assert_eq!(heap.bytes(), frame.bytes());
        assert_eq!(heap.payload_sum().finish(), frame.payload_sum().finish());
        assert_eq!(heap.payload_sum().finish(), Sum::of(heap.bytes()).finish());
        assert!(heap.head_mut(54).is_none() && !heap.in_ring());
        assert_eq!(frame.head_mut(54).map(|head| head.len()), Some(54));
        assert_eq!((heap.len(), frame.len()), (100, 100), "headers are not payload");
        assert!(matches!(heap.into_parts(), TxParts::Heap(bytes) if bytes.len() == 100));
        assert!(matches!(frame.into_parts(), TxParts::Frame(frame) if frame.len() == 100));
    }

    #[test]
    fn a_piece_on_the_heap_grows_no_further_than_what_was_booked_for_it() {
        let heap = Heap::new(10_000);
        let mut bytes = Vec::with_capacity(40);
        bytes.extend_from_slice(&[1; 10]);
        let Ok(mut piece) = TcpBuf::new(TxParts::Heap(bytes), 1460, &heap) else { panic!("there is room") };
        let booked_bytes = heap.used_bytes();
        assert_eq!((piece.spare(), piece.append(&[2; 1460]), piece.spare()), (30, 30, 0));
        assert_eq!(piece.append(&[3]), 0, "the next byte begins a piece of its own");
        assert_eq!(heap.used_bytes(), booked_bytes);
        assert!(matches!(piece.into_parts(), TxParts::Heap(bytes) if bytes.capacity() == 40));
    }
}
