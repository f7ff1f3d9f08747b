//! The send queue and the slots it lives in, by themselves.

use super::host::{Buf, Bytes};
use crate::tcp::cold::{ColdId, ColdStore};
use crate::tcp::send_queue::{Room, SendQueue};
use crate::{Instant, SeqNum};

/// Segments of 1000 bytes, none sent.
fn fill(queue: &mut SendQueue<Buf>, segs: usize) {
    let room = Room { start: SeqNum(0), mss: 1000, max_segs: usize::MAX };
    for _ in 0..segs {
        queue.push_buf(Buf::filled(&[1; 1000]), room);
    }
}

#[test]
fn a_segment_is_not_cut_at_its_ends() {
    let mut queue = SendQueue::new();
    fill(&mut queue, 2);
    assert!(![0, 1000, 1001].into_iter().any(|at| queue.split(0, at)));
    assert!(!queue.split(2, 1), "there is none");
    assert_eq!(queue.segs(), 2);
    assert!(queue.split(0, 999) && queue.split(0, 1));
    queue.check();
    assert_eq!((queue.segs(), queue.bytes()), (4, 2000));
}

#[test]
fn what_is_sent_again_is_lost_before() {
    let mut queue = SendQueue::new();
    fill(&mut queue, 4);
    assert_eq!(queue.next_lost(), None);
    for index in 0..3 {
        queue.mark_sent(index, Instant::from_secs(1), 0);
    }
    // One that has not left cannot be.
    queue.mark_lost(3);
    assert_eq!((queue.next_lost(), queue.lost_bytes()), (None, 0));
    queue.mark_lost(1);
    queue.mark_lost(2);
    assert_eq!((queue.next_lost(), queue.missing_bytes()), (Some(1), 2000));
    queue.mark_sent(1, Instant::from_secs(2), 0);
    queue.check();
    assert_eq!((queue.next_lost(), queue.missing_bytes(), queue.lost_bytes()), (Some(2), 1000, 2000));
    queue.mark_lost(1);
    queue.check();
    assert_eq!((queue.next_lost(), queue.missing_bytes()), (Some(1), 2000), "lost once more");
}

#[test]
fn a_free_slot_keeps_the_memory_of_ordinary_use_and_no_more() {
    for (segs, is_kept) in [(2000, true), (5000, false)] {
        let mut store = ColdStore::<Bytes, Buf>::new();
        let (id, cold) = store.get_or_alloc(ColdId::NONE);
        fill(&mut cold.send, segs);
        let before = cold.send.capacity();
        assert!(before >= segs);
        store.free(id);
        let (again, cold) = store.get_or_alloc(ColdId::NONE);
        assert_eq!((again, cold.send.segs()), (id, 0));
        let expected = if is_kept { before } else { 2048 };
        assert_eq!(cold.send.capacity(), expected, "{segs}");
    }
}
