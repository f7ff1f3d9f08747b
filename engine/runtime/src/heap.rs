//! What one worker's sockets hold on the heap, its ceiling, and what is given up on the way there.
//!
//! Frames are fixed at start. When they run short, received pieces are copied out of them and written ones wait on the heap, so that
//! neither a slow reader nor a peer that takes nothing can starve the rings. Peers decide how much that becomes; so it has a limit, and
//! this is the order of relief, each step with what the steps before it do:
//!
//! | held, of the limit | what is given up | counted |
//! |---|---|---|
//! | no frame is left to write into | what is written waits on the heap; for those who need a frame, and from 1/2 on for those who do not: connections that keep such frames and whose peer has taken nothing for 30 s | `frames_wanted`, `stalled_cut` |
//! | received frames are short | received pieces leave their frames; no receive buffer grows, and those that had grown count as not grown | `copied_bytes`, `short_turns` |
//! | 1/2 | receive buffers as if frames were short | `short_turns` |
//! | 5/8 | SYNs are dropped, cookies that come back too; send buffers that had grown likewise | `syns_refused` |
//! | 3/4 | data ahead of a gap, but for 16 pieces; datagrams that would be copied | `early_shed`, `no_memory` |
//! | 7/8 | data ahead of a gap, but for one piece; more than 64 KiB each way of a connection; connections whose peer takes nothing for 30 s, and once the application has closed them for 3 s or 4 RTOs from then on | `early_shed`, `stalled_cut` |
//! | 1 | what would be copied is dropped and not acknowledged; writes are short | `no_memory`, `writes_refused` |
//!
//! The last eighth is for connections that hold little: those that make progress go on. Acknowledged data is never dropped: what has come
//! over a connection that is given up is read before the application hears of the end, unless it has closed it.
//!
//! Counted is what holds payload. Not counted is what the number of connections bounds, such as 96 bytes for each that has ever had more to
//! send than its path took, or met another rare thing that `ringwire_proto::tcp::Totals` counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringwire_proto::tcp::Pressure;

/// A piece's own overhead: its box, its share, the allocator's.
pub(crate) const PIECE_BYTES: u64 = 96;

/// The books of one worker's heap. Only the worker adds.
#[derive(Debug, Clone)]
pub(crate) struct Heap {
    used_bytes: Arc<AtomicU64>,
    limit_bytes: u64,
}

/// Bytes of the heap that a piece stands for; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    used_bytes: Arc<AtomicU64>,
    bytes: u64,
}

// Relaxed throughout: a sum that orders nothing.
impl Heap {
    pub(crate) fn new(limit_bytes: u64) -> Heap {
        Heap { used_bytes: Arc::default(), limit_bytes }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// For a piece of so many bytes; `None`: the limit is reached.
    pub(crate) fn take(&self, capacity_bytes: usize) -> Option<Share> {
        let bytes = capacity_bytes as u64 + PIECE_BYTES;
        if self.used_bytes().saturating_add(bytes) > self.limit_bytes {
            return None;
        }
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(Share { used_bytes: Arc::clone(&self.used_bytes), bytes })
    }

    /// Whether there is room again for those whose writes were refused.
    pub(crate) fn has_room(&self) -> bool {
        self.used_bytes() < self.limit_bytes / 16 * 15
    }

    /// The step of the order above that the heap alone asks for.
    pub(crate) fn pressure(&self) -> Pressure {
        let (used_bytes, eighth_bytes) = (self.used_bytes(), (self.limit_bytes / 8).max(1));
        // Every turn asks; a division is for those that find it held.
        if used_bytes < 4 * eighth_bytes {
            return Pressure::None;
        }
        match used_bytes / eighth_bytes {
            0..=4 => Pressure::Growth,
            5 => Pressure::Strangers,
            6 => Pressure::Early,
            _ => Pressure::Stalled,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_the_steps_follow_each_other() {
        let heap = Heap::new(8 * 1000);
        let mut shares = Vec::new();
        let mut steps = vec![heap.pressure()];
        while let Some(share) = heap.take(404) {
            shares.push(share);
            assert_eq!(heap.used_bytes(), shares.len() as u64 * 500);
            if *steps.last().unwrap() != heap.pressure() {
                steps.push(heap.pressure());
            }
        }
        assert_eq!(shares.len(), 16);
        use Pressure::{Early, Growth, None, Stalled, Strangers};
        assert_eq!(steps, [None, Growth, Strangers, Early, Stalled]);
        assert!(!heap.has_room() && steps.is_sorted());
        shares.clear();
        assert_eq!((heap.used_bytes(), heap.pressure(), heap.has_room()), (0, None, true));
    }
}
