//! Buffers that the application holds: received pieces, pieces to send, datagrams, batches.
//!
//! ```text
//! rx ring -> Frame -> RxBuf (window over the payload; headers lie in its headroom) -> drop: frame back to its pool
//!                       `-- into_tx() -> TxBuf (same frame, same bytes) -> send_buf / send_batch -> tx ring
//! ```
//! A buffer is a frame of the worker's packet memory or, when the pool ran low, a copy on the heap; nobody but
//! `Metrics::copied_bytes` can tell.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

use bytes::Bytes;
use ringwire_frame::Frame;
use ringwire_proto::tcp;

use crate::heap::{Heap, Share};

/// A received piece in its frame (or a copy, when the pool is low). Move-only; dropping it gives the frame back.
#[derive(Debug)]
pub struct RxBuf(Inner);

#[derive(Debug)]
enum Inner {
    Frame(Frame),
    /// Boxed: rare, and every packet moves a few of these.
    Heap(Box<HeapPiece>),
}

#[derive(Debug)]
struct HeapPiece {
    bytes: Vec<u8>,
    start: usize,
    /// While a socket holds it.
    share: Option<Share>,
}

const _: () = assert!(size_of::<RxBuf>() == 16);

impl RxBuf {
    pub(crate) fn from_frame(frame: Frame) -> RxBuf {
        RxBuf(Inner::Frame(frame))
    }

    pub(crate) fn from_vec(bytes: Vec<u8>) -> RxBuf {
        RxBuf(Inner::Heap(Box::new(HeapPiece { bytes, start: 0, share: None })))
    }

    /// Copied out of its frame, or as it is where it lies on the heap already; counted there from now on. `None`: it would be too much.
    #[cold]
    pub(crate) fn onto_heap(self, heap: &Heap) -> Option<RxBuf> {
        let piece = match self.0 {
            Inner::Frame(frame) => {
                let share = heap.take(frame.len())?;
                Box::new(HeapPiece { bytes: frame.bytes().to_vec(), start: 0, share: Some(share) })
            }
            Inner::Heap(mut piece) => {
                piece.share = Some(heap.take(piece.bytes.capacity())?);
                piece
            }
        };
        Some(RxBuf(Inner::Heap(piece)))
    }

    /// What has to be booked for it while a socket holds it.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> u64 {
        match &self.0 {
            Inner::Frame(_) => 0,
            Inner::Heap(piece) => piece.bytes.capacity() as u64 + crate::heap::PIECE_BYTES,
        }
    }

    /// Whether dropping it gives a frame back.
    pub(crate) fn holds_frame(&self) -> bool {
        matches!(self.0, Inner::Frame(_))
    }

    /// Forgets the first `len` bytes (at most all of them).
    pub fn advance(&mut self, len: usize) {
        match &mut self.0 {
            Inner::Frame(frame) => frame.advance(len.min(frame.len())),
            Inner::Heap(piece) => piece.start = (piece.start + len).min(piece.bytes.len()),
        }
    }

    /// The same frame out again: echo, proxy. No byte is copied.
    pub fn into_tx(self) -> TxBuf {
        match self.0 {
            Inner::Frame(frame) => TxBuf::from_frame(frame),
            Inner::Heap(piece) => {
                let HeapPiece { mut bytes, start, .. } = *piece;
                bytes.drain(..start);
                TxBuf { limit: bytes.len(), inner: TxInner::Heap(bytes) }
            }
        }
    }

    /// Shared, cloneable and sendable to other threads; one small allocation, no copy.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// On its way to another worker, which copies it.
    pub(crate) fn hand_off(self) -> RxBuf {
        match self.0 {
            Inner::Frame(frame) => RxBuf(Inner::Frame(frame.hand_off())),
            heap @ Inner::Heap(_) => RxBuf(heap),
        }
    }

    /// The application has it now: when it is dropped, the window of `tag` reopens by its length.
    #[inline]
    pub(crate) fn lend(self, tag: u64) -> Lent {
        let charge_bytes = self.len();
        match self.0 {
            Inner::Frame(frame) => {
                // A frame is at most 4,096 bytes (`Geometry`).
                let charge = u32::try_from(charge_bytes).unwrap_or(u32::MAX);
                Lent { buf: RxBuf(Inner::Frame(frame.lend(tag, charge))), released_bytes: 0 }
            }
            Inner::Heap(mut piece) => {
                // What the application holds is no longer the engine's to account for.
                piece.share = None;
                Lent { buf: RxBuf(Inner::Heap(piece)), released_bytes: charge_bytes }
            }
        }
    }
}

/// A buffer on its way to the application, and the bytes whose window reopens at once (a heap copy holds no frame).
pub(crate) struct Lent {
    pub(crate) buf: RxBuf,
    pub(crate) released_bytes: usize,
}

impl Deref for RxBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Frame(frame) => frame.bytes(),
            Inner::Heap(piece) => piece.bytes.get(piece.start..).unwrap_or_default(),
        }
    }
}

impl AsRef<[u8]> for RxBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl tcp::Payload for RxBuf {
    fn len(&self) -> usize {
        self.deref().len()
    }

    fn bytes(&self) -> &[u8] {
        self
    }

    fn advance(&mut self, len: usize) {
        RxBuf::advance(self, len);
    }

    fn truncate(&mut self, len: usize) {
        match &mut self.0 {
            Inner::Frame(frame) => frame.truncate(len.min(frame.len())),
            Inner::Heap(piece) => piece.bytes.truncate(piece.start + len),
        }
    }
}

/// A piece to send, written in place.
#[derive(Debug)]
pub struct TxBuf {
    inner: TxInner,
    limit: usize,
}

#[derive(Debug)]
enum TxInner {
    Frame(Frame),
    /// Full: what was received.
    Heap(Vec<u8>),
    Long(Box<Long>),
}

/// Room for a datagram that takes several frames; its first `len` bytes are written.
#[derive(Debug)]
struct Long {
    bytes: Vec<u8>,
    len: usize,
}

impl TxBuf {
    /// Holds what the frame holds, and no more can be added than its tailroom.
    pub(crate) fn from_frame(frame: Frame) -> TxBuf {
        let limit = frame.len() + frame.tailroom();
        TxBuf { inner: TxInner::Frame(frame), limit }
    }

    /// Empty, with room for `limit_bytes`.
    pub(crate) fn with_limit(frame: Frame, limit_bytes: usize) -> TxBuf {
        let limit = limit_bytes.min(frame.len() + frame.tailroom());
        TxBuf { inner: TxInner::Frame(frame), limit }
    }

    /// Empty, on the heap: for what no frame holds.
    pub(crate) fn long(limit_bytes: usize) -> TxBuf {
        let long = Long { bytes: vec![0; limit_bytes], len: 0 };
        TxBuf { inner: TxInner::Long(Box::new(long)), limit: limit_bytes }
    }

    /// Copies as much of `bytes` behind what is there as fits; returns how much.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let len = bytes.len().min(spare.len());
        let (Some(to), Some(from)) = (spare.get_mut(..len), bytes.get(..len)) else { return 0 };
        to.copy_from_slice(from);
        self.advance(len);
        len
    }

    /// The unwritten rest: write here, then [`TxBuf::advance`]. Its content is arbitrary.
    pub fn spare(&mut self) -> &mut [u8] {
        let room = self.limit - self.len().min(self.limit);
        match &mut self.inner {
            TxInner::Frame(frame) => {
                let room = room.min(frame.tailroom());
                frame.spare_mut().get_mut(..room).unwrap_or_default()
            }
            TxInner::Heap(_) => &mut [],
            TxInner::Long(long) => long.bytes.get_mut(long.len..).unwrap_or_default(),
        }
    }

    /// Counts `len` bytes of [`TxBuf::spare`] as written (at most all of it).
    pub fn advance(&mut self, len: usize) {
        let len = len.min(self.limit - self.len().min(self.limit));
        match &mut self.inner {
            TxInner::Frame(frame) => {
                frame.append(len.min(frame.tailroom()));
            }
            TxInner::Heap(_) => {}
            TxInner::Long(long) => long.len += len,
        }
    }

    pub(crate) fn into_parts(self) -> TxParts {
        match self.inner {
            TxInner::Frame(frame) => TxParts::Frame(frame),
            TxInner::Heap(bytes) => TxParts::Heap(bytes),
            TxInner::Long(long) => {
                let Long { mut bytes, len } = *long;
                bytes.truncate(len);
                TxParts::Heap(bytes)
            }
        }
    }
}

/// What a [`TxBuf`] is made of.
pub(crate) enum TxParts {
    Frame(Frame),
    Heap(Vec<u8>),
}

impl TxParts {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            TxParts::Frame(frame) => frame.bytes(),
            TxParts::Heap(bytes) => bytes,
        }
    }
}

impl From<TxParts> for TxBuf {
    fn from(parts: TxParts) -> TxBuf {
        match parts {
            TxParts::Frame(frame) => TxBuf::from_frame(frame),
            TxParts::Heap(bytes) => TxBuf { limit: bytes.len(), inner: TxInner::Heap(bytes) },
        }
    }
}

impl Deref for TxBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.inner {
            TxInner::Frame(frame) => frame.bytes(),
            TxInner::Heap(bytes) => bytes,
            TxInner::Long(long) => long.bytes.get(..long.len).unwrap_or_default(),
        }
    }
}

/// One datagram and where it came from, or goes to.
#[derive(Debug)]
pub struct Datagram<B> {
    /// The other side.
    pub peer: SocketAddr,
    /// The local address; on sending `None` leaves the choice to the socket and the route.
    pub local: Option<IpAddr>,
    /// Type of service: DSCP and ECN bits.
    pub tos: u8,
    /// Time to live; on sending 0 means the socket's.
    pub ttl: u8,
    /// The content, always in one piece.
    pub payload: B,
}

impl Datagram<RxBuf> {
    /// The same frame back to where it came from, from where it arrived.
    pub fn into_reply(self) -> Datagram<TxBuf> {
        Datagram { peer: self.peer, local: self.local, tos: 0, ttl: 0, payload: self.payload.into_tx() }
    }
}

/// Places for up to `capacity` items: what `recv_batch` fills and `send_batch` empties from the front.
#[derive(Debug)]
pub struct Batch<T> {
    items: std::collections::VecDeque<T>,
    capacity: usize,
}

impl<T> Batch<T> {
    /// An empty batch; allocates once, here.
    pub fn with_capacity(capacity: usize) -> Batch<T> {
        Batch { items: std::collections::VecDeque::with_capacity(capacity), capacity }
    }

    /// Adds behind the others; gives the item back when the batch is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.is_full() {
            return Err(item);
        }
        self.items.push_back(item);
        Ok(())
    }

    /// Takes the first item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// Puts an item back in front.
    pub(crate) fn unpop(&mut self, item: T) {
        self.items.push_front(item);
    }

    /// Takes all items, first to last.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.items.drain(..)
    }

    /// The items, first to last.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    /// Items held.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether no item is held.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether no place is free.
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.capacity
    }
}
