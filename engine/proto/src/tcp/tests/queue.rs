//! The send queue and the slots it lives in, by themselves.

use ringwire_wire::tcp::SackBlocks;

use super::host::{Buf, Bytes, Pool};
use crate::tcp::cold::{ColdId, ColdStore};
use crate::tcp::send_queue::{Evidence, RecordFlags, Room, SendQueue, duplicate_of};
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
fn joined_records_end_a_write_if_the_last_of_them_does() {
    let room = Room { start: SeqNum(0), mss: 1000, max_segs: usize::MAX };
    let mut pool = Pool { left: 9 };
    for (len, ends_write) in [(600, true), (500, false)] {
        let mut queue = SendQueue::new();
        queue.push_buf(Buf::filled(&[1; 300]), room);
        queue.push_buf(Buf::filled(&[2; 300]), room);
        queue.push_last();
        queue.push_buf(Buf::filled(&[3; 300]), room);
        assert_eq!(queue.join(0, len, &mut pool), Some(SeqNum(0)));
        let joined = queue.get(0).map(|record| (record.len, record.flags.has(RecordFlags::PUSH)));
        assert_eq!(joined, Some((len, ends_write)));
        queue.check();
    }
}

#[test]
fn nothing_joins_a_record_that_has_ended() {
    let room = Room { start: SeqNum(0), mss: 1000, max_segs: usize::MAX };
    let mut pool = Pool { left: 9 };
    let mut queue = SendQueue::new();
    for (len, segs) in [(300, 1), (300, 1), (100, 2)] {
        assert_eq!(queue.append(&[1; 300][..len], room, &mut pool), len);
        assert_eq!(queue.segs(), segs);
        if len == 300 && queue.bytes() == 600 {
            queue.seal_last();
        }
    }
    // Nor does a probe of the path hide where it ends.
    assert_eq!(queue.join(0, 650, &mut pool), None);
    assert_eq!(queue.join(0, 600, &mut pool), Some(SeqNum(0)));
    assert_eq!(queue.join(0, 650, &mut pool), None);
    // The part in front does not end there.
    assert!(queue.split(0, 200));
    assert_eq!(queue.join(0, 500, &mut pool), Some(SeqNum(0)));
    queue.check();
    // What has left cannot be joined anyway.
    queue.mark_sent(0, at(0), 0);
    queue.mark_sent(1, at(0), 0);
    queue.mark_sent(2, at(0), 0);
    queue.seal_last();
    queue.check();
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

#[test]
fn what_one_connection_had_out_of_order_does_not_pin_memory_either() {
    let mut store = ColdStore::<Bytes, Buf>::new();
    let (id, cold) = store.get_or_alloc(ColdId::NONE);
    for n in 0..5000 {
        cold.reassembly.store(SeqNum(n * 2), Bytes::new(b"x"), usize::MAX);
    }
    store.free(id);
    let (_, cold) = store.get_or_alloc(ColdId::NONE);
    assert_eq!(cold.reassembly.capacity(), 2048);
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(5_000 + ms)
}

/// Three segments left at 0 ms.
fn three_out() -> SendQueue<Buf> {
    let mut queue = SendQueue::new();
    fill(&mut queue, 3);
    for index in 0..3 {
        queue.mark_sent(index, at(0), 0);
    }
    queue
}

#[test]
fn the_shortest_round_trip_is_of_a_segment_or_what_was_known_before() {
    for (known_ms, least_ms) in [(0, 50), (30, 30), (80, 50)] {
        let mut queue = three_out();
        assert_eq!(queue.min_rtt_ns(), None);
        let evidence =
            Evidence { now: at(50), ack: SeqNum(1000), echo_ms: None, srtt_ns: known_ms * 1_000_000 };
        queue.on_ack(SeqNum(1000), &evidence);
        assert_eq!(queue.min_rtt_ns(), Some(least_ms * 1_000_000), "{known_ms}");
    }
}

/// RFC 8985 6.2, step 2: the first of its transmissions may be what arrived, and that says nothing of what left in between.
#[test]
fn an_arrival_counts_for_a_retransmission_only_if_it_can_be_one() {
    let resent_ms = 5_100;
    for (rtt_ms, echo_ms, counts) in [
        (50, None, true),
        (40, None, true),
        (39, None, false),
        (50, Some(resent_ms), true),
        (50, Some(resent_ms + 1), true),
        (50, Some(resent_ms - 1), false),
    ] {
        let mut queue = three_out();
        queue.mark_lost(2);
        queue.mark_sent(2, at(100), 0);
        let mut blocks = SackBlocks::NONE;
        blocks.push(2000, 3000);
        // Round trips have been of 40 ms.
        let evidence = Evidence { now: at(100 + rtt_ms), ack: SeqNum(0), echo_ms, srtt_ns: 40_000_000 };
        queue.on_sack(&blocks, (SeqNum(0), SeqNum(3000)), &evidence);
        let verdict = queue.detect_losses(at(100 + rtt_ms), 0);
        assert_eq!((verdict.is_lost, queue.lost_bytes() > 0), (counts, counts), "{rtt_ms} {echo_ms:?}");
    }
}

#[test]
fn of_what_left_in_one_turn_the_higher_number_is_later() {
    let lost_by = |left: u32| {
        let mut queue = three_out();
        let mut blocks = SackBlocks::NONE;
        blocks.push(left, left + 1000);
        let evidence = Evidence { now: at(50), ack: SeqNum(0), echo_ms: None, srtt_ns: 0 };
        queue.on_sack(&blocks, (SeqNum(0), SeqNum(3000)), &evidence);
        queue.detect_losses(at(50), 0);
        queue.lost_bytes()
    };
    assert_eq!((lost_by(2000), lost_by(1000)), (2000, 1000));
}

/// RFC 2883 4
#[test]
fn a_first_block_below_the_acknowledgement_or_within_the_second_is_a_duplicate() {
    let is_duplicate = |blocks: &[(u32, u32)]| duplicate_of(blocks, SeqNum(1000)).is_some();
    assert!(is_duplicate(&[(0, 1000)]) && is_duplicate(&[(0, 500), (2000, 3000)]));
    assert!(!is_duplicate(&[(0, 1001)]) && !is_duplicate(&[(2000, 3000)]) && !is_duplicate(&[]));
    assert!(is_duplicate(&[(2000, 3000), (2000, 3000)]) && is_duplicate(&[(2100, 2900), (2000, 3000)]));
    assert!(!is_duplicate(&[(1999, 3000), (2000, 3000)]) && !is_duplicate(&[(2000, 3001), (2000, 3000)]));
    assert!(!is_duplicate(&[(500, 500)]) && !is_duplicate(&[(600, 500)]), "it is none at all");
}

/// An acknowledgement of nothing, at so many milliseconds, that has [`left`, `right`) out of order.
fn sacked(queue: &mut SendQueue<Buf>, ms: u64, (left, right): (u32, u32)) {
    let mut blocks = SackBlocks::NONE;
    blocks.push(left, right);
    let evidence = Evidence { now: at(ms), ack: SeqNum(0), echo_ms: None, srtt_ns: 0 };
    queue.on_sack(&blocks, (SeqNum(0), SeqNum(queue.segs() as u32 * 1000)), &evidence);
}

#[test]
fn a_segment_that_is_short_enough_does_not_keep_the_others_long() {
    let mut queue = SendQueue::new();
    let room = Room { start: SeqNum(0), mss: 1000, max_segs: usize::MAX };
    queue.push_buf(Buf::filled(&[1; 500]), room);
    fill(&mut queue, 2);
    queue.resegment(0, 500);
    queue.check();
    assert_eq!((queue.segs(), queue.bytes()), (5, 2500));
}

#[test]
fn both_parts_of_what_has_arrived_have() {
    let mut queue = three_out();
    sacked(&mut queue, 50, (2000, 3000));
    queue.resegment(0, 500);
    queue.check();
    assert_eq!((queue.segs(), queue.sacked_segs(), queue.sacked_bytes()), (6, 2, 1000));
}

/// RFC 8985 6.2, step 2: RACK.xmit_ts only goes forward.
#[test]
fn a_late_arrival_does_not_hide_that_something_newer_had_arrived() {
    let mut queue = SendQueue::new();
    fill(&mut queue, 3);
    for index in 0..3 {
        queue.mark_sent(index, at(index as u64), 0);
    }
    sacked(&mut queue, 50, (2000, 3000));
    let evidence = Evidence { now: at(51), ack: SeqNum(1000), echo_ms: None, srtt_ns: 0 };
    queue.on_ack(SeqNum(1000), &evidence);
    assert!(queue.detect_losses(at(51), 0).is_lost);
    assert_eq!(queue.lost_bytes(), 1000);
}

/// RFC 8985 6.3: how old is too old is known from what has arrived, in this queue or in an earlier one.
#[test]
fn a_timeout_before_anything_has_arrived_loses_what_is_too_old_for_the_path() {
    for (rack_rtt_ms, lost_bytes) in [(0, 3000), (80, 3000), (81, 1000)] {
        let mut queue = three_out();
        queue.recall_path(false, rack_rtt_ms * 1_000_000);
        queue.mark_lost_by_timeout(at(100), Some(20_000_000));
        assert_eq!(queue.lost_bytes(), lost_bytes, "{rack_rtt_ms} ms");
    }
    // What arrives says how long it takes now.
    let mut queue = three_out();
    queue.recall_path(false, 80_000_000);
    assert!(!queue.detect_losses(at(90), 0).is_lost, "nothing that left later has arrived");
    let evidence = Evidence { now: at(100), ack: SeqNum(1000), echo_ms: None, srtt_ns: 0 };
    queue.on_ack(SeqNum(1000), &evidence);
    assert_eq!(queue.rack_rtt_ns(), 100_000_000);
}

/// RFC 2018 8: what had arrived may have been given up since, and was looked at before.
#[test]
fn what_a_timeout_leaves_in_flight_is_judged_by_what_arrives_after_it() {
    let mut queue = SendQueue::new();
    fill(&mut queue, 4);
    for index in 0..4 {
        queue.mark_sent(index, at(if index < 3 { 0 } else { 90 }), 0);
    }
    sacked(&mut queue, 100, (3000, 4000));
    assert!(queue.detect_losses(at(100), 0).is_lost);
    queue.mark_lost_by_timeout(at(105), Some(10_000_000));
    assert_eq!((queue.lost_bytes(), queue.sacked_bytes()), (3000, 0), "the last has just left");
    queue.mark_sent(0, at(106), 0);
    let evidence = Evidence { now: at(150), ack: SeqNum(1000), echo_ms: None, srtt_ns: 0 };
    queue.on_ack(SeqNum(1000), &evidence);
    assert!(queue.detect_losses(at(150), 0).is_lost);
    queue.check();
    assert_eq!(queue.lost_bytes(), 3000, "the last too");
}
