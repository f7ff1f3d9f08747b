//! Samples of the delivery rate (draft-ietf-ccwg-bbr 4.1), from a queue of segments sent and acknowledged by hand.

use core::ops::RangeInclusive;
use std::vec::Vec;

use ringwire_wire::tcp::SackBlocks;

use super::host::Buf;
use crate::tcp::send_queue::{Evidence, RecordFlags, Room, SendQueue};
use crate::tcp::{LossEvidence, RateSample};
use crate::{Instant, SeqNum};

const SEG: u32 = 1000;
/// The stream wraps after one segment.
const START: SeqNum = SeqNum(u32::MAX - 999);

/// A queue whose segments are numbered from 0; times are milliseconds.
struct Sender {
    queue: SendQueue<Buf>,
    queued: u32,
    acked: u32,
}

impl Sender {
    fn new() -> Self {
        let mut queue = SendQueue::new();
        queue.sample_rates(true, at(0));
        Self { queue, queued: 0, acked: 0 }
    }

    /// In the network: what is out, less what has arrived or is presumed lost.
    fn in_flight(&self) -> u32 {
        let out: u32 = (0..self.queue.sent_segs()).map(|_| SEG).sum();
        out - self.queue.sacked_bytes() - self.queue.missing_bytes()
    }

    /// New segments leave.
    fn send(&mut self, ms: u64, count: u32) {
        for _ in 0..count {
            let room = Room { start: START + self.queued * SEG, mss: SEG as u16, max_segs: 1000 };
            self.queue.push_buf(Buf::filled(&[1; SEG as usize]), room);
            self.queued += 1;
            let before = self.in_flight();
            let index = self.queue.sent_segs();
            self.leave(ms, index, before);
        }
    }

    /// One leaves again.
    fn resend(&mut self, ms: u64, seg: u32) {
        let before = self.in_flight();
        self.leave(ms, self.index(seg), before);
    }

    fn leave(&mut self, ms: u64, index: usize, before: u32) {
        self.queue.sample_sent(index, at(ms), (before, before + SEG));
        self.queue.mark_sent(index, at(ms), 0);
    }

    fn index(&self, seg: u32) -> usize {
        (seg - self.acked) as usize
    }

    fn lose(&mut self, segs: RangeInclusive<u32>) {
        segs.for_each(|seg| self.queue.mark_lost(self.index(seg)));
    }

    /// All segments below `count` are acknowledged.
    fn ack(&mut self, ms: u64, count: u32) -> RateSample {
        self.acked = count;
        self.queue.on_ack(START + count * SEG, &evidence(ms, count));
        self.sample(ms)
    }

    /// These have arrived out of order.
    fn sack(&mut self, ms: u64, segs: RangeInclusive<u32>) -> RateSample {
        let mut blocks = SackBlocks::NONE;
        blocks.push((START + segs.start() * SEG).0, (START + (segs.end() + 1) * SEG).0);
        let (una, nxt) = (START + self.acked * SEG, START + self.queued * SEG);
        self.queue.on_sack(&blocks, (una, nxt), &evidence(ms, self.acked));
        self.sample(ms)
    }

    fn sample(&mut self, ms: u64) -> RateSample {
        self.queue.check();
        self.queue.take_sample(at(ms)).expect("samples are wanted")
    }
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(1_000_000 + ms)
}

fn evidence(ms: u64, acked: u32) -> Evidence {
    Evidence { now: at(ms), ack: START + acked * SEG, echo_ms: None, srtt_ns: 0 }
}

fn ms(sample: &RateSample) -> Option<u64> {
    sample.rtt_ns.map(|rtt_ns| rtt_ns / 1_000_000)
}

#[test]
fn the_rate_is_what_arrived_over_the_longer_of_sending_and_acknowledging() {
    let mut sender = Sender::new();
    sender.send(0, 10);
    let first = sender.ack(100, 5);
    // All left at once, and half of it came back after a round trip.
    assert_eq!((first.delivery_rate, first.delivered, first.prior_delivered), (50_000, 5_000, Some(0)));
    assert_eq!((first.newly_acked, first.total_delivered, ms(&first)), (5_000, 5_000, Some(100)));
    assert_eq!((first.sent_in_flight, first.lost, first.is_app_limited), (5_000, 0, false));
    // Five more, spread over 40 ms, and the acknowledgements of all come at once: the 140 ms since the first ten left count.
    for sent in [100, 110, 120, 130, 140] {
        sender.send(sent, 1);
    }
    let second = sender.ack(150, 15);
    assert_eq!((second.delivered, second.prior_delivered), (10_000, Some(5_000)));
    assert_eq!(second.delivery_rate, 10_000 * 1_000 / 140);
    assert_eq!((second.newly_acked, second.total_delivered), (10_000, 15_000));
    assert_eq!((second.sent_in_flight, ms(&second)), (10_000, Some(10)), "the shortest round trip");
    // Nothing is in flight: what leaves now is not measured from what left before.
    sender.send(1_150, 4);
    let third = sender.ack(1_200, 19);
    assert_eq!((third.delivery_rate, third.delivered), (4_000 * 1_000 / 50, 4_000));
    assert_eq!(third.prior_delivered, Some(15_000));
}

#[test]
fn the_next_sample_is_measured_from_the_last_segment_of_this_one() {
    let mut sender = Sender::new();
    for sent in 0..10 {
        sender.send(sent * 10, 1);
    }
    sender.ack(100, 6);
    sender.send(100, 1);
    // Segment 10 left 50 ms after segment 5, and 100 ms pass from the last acknowledgement to this one.
    let sample = sender.ack(130, 11);
    assert_eq!(sample.delivered, 5_000);
    assert_eq!(sample.delivery_rate, 5_000 * 1_000 / 50);
}

#[test]
fn what_was_sacked_is_not_delivered_again_when_it_is_acknowledged() {
    let mut sender = Sender::new();
    sender.send(0, 4);
    let sacked = sender.sack(50, 1..=3);
    assert_eq!((sacked.newly_acked, sacked.delivered, sacked.delivery_rate), (3_000, 3_000, 60_000));
    // The same block once more brings nothing.
    let again = sender.sack(60, 1..=3);
    assert_eq!((again.newly_acked, again.prior_delivered, again.rtt_ns), (0, None, None));
    sender.resend(60, 0);
    let acked = sender.ack(110, 4);
    assert_eq!((acked.newly_acked, acked.total_delivered), (1_000, 4_000));
    // Karn: which of its copies arrived is not known.
    assert_eq!((acked.rtt_ns, acked.prior_delivered), (None, Some(3_000)));
}

#[test]
fn what_was_sacked_and_goes_again_after_a_timeout_is_delivered_once() {
    let mut sender = Sender::new();
    sender.send(0, 3);
    sender.sack(50, 1..=2);
    sender.queue.mark_all_lost();
    let lost = sender.sample(300);
    assert_eq!((lost.newly_lost, lost.lost_ranges), (1_000, 1), "the receiver had the other two");
    for seg in 0..3 {
        sender.resend(300, seg);
    }
    let acked = sender.ack(350, 3);
    assert_eq!((acked.newly_acked, acked.total_delivered), (1_000, 3_000));
    // One that was not delivered before, and is SACKed after it went again.
    sender.send(400, 2);
    sender.lose(3..=3);
    sender.resend(450, 3);
    assert_eq!(sender.ack(500, 5).newly_acked, 2_000);
}

#[test]
fn of_what_left_in_one_turn_the_last_is_sampled() {
    let mut sender = Sender::new();
    sender.send(0, 1);
    sender.send(10, 4);
    // Segment 1 goes again in the turn in which 5 and 6 leave: 6 is the newest.
    sender.lose(1..=1);
    sender.resend(60, 1);
    sender.send(60, 2);
    let sample = sender.ack(120, 7);
    assert_eq!(sample.sent_in_flight, 7_000);
    // A retransmission is newer than what left before it, whatever its number.
    let mut sender = Sender::new();
    sender.send(0, 8);
    sender.sack(50, 4..=6);
    sender.lose(0..=0);
    sender.resend(50, 0);
    let sample = sender.ack(100, 7);
    assert_eq!((sample.prior_delivered, sample.delivered), (Some(3_000), 4_000));
    assert_eq!(sample.delivery_rate, 4_000 * 1_000 / 50);
}

#[test]
fn a_sample_shorter_than_any_round_trip_is_of_a_copy_that_was_not_needed() {
    let mut sender = Sender::new();
    sender.send(0, 2);
    assert_eq!(sender.ack(100, 1).delivery_rate, 10_000, "the shortest round trip itself counts");
    sender.lose(1..=1);
    assert_eq!(sender.in_flight(), 0);
    sender.resend(110, 1);
    // Its first copy arrives now.
    let sample = sender.ack(140, 2);
    assert_eq!((sample.delivery_rate, sample.newly_acked, sample.rtt_ns), (0, 1_000, None));
    assert_eq!((sample.prior_delivered, sample.delivered), (Some(1_000), 1_000));
}

#[test]
fn losses_are_counted_by_bytes_and_by_ranges() {
    let mut sender = Sender::new();
    sender.send(0, 60);
    sender.lose(2..=4);
    sender.lose(7..=7);
    // Known already.
    sender.lose(7..=7);
    let sample = sender.sack(50, 8..=9);
    assert_eq!((sample.newly_lost, sample.lost_ranges, sample.lost), (4_000, 2, 4_000));
    // One that continues a range of the last sample is another one: they are counted for each.
    sender.lose(5..=5);
    let sample = sender.sack(51, 10..=10);
    assert_eq!((sample.newly_lost, sample.lost_ranges, sample.lost), (1_000, 1, 5_000));
    assert_eq!((sample.newly_acked, sample.total_delivered), (1_000, 3_000));
    // Since the newest of them left: what was lost before is known to it.
    sender.resend(60, 2);
    sender.lose(20..=20);
    let sample = sender.sack(110, 2..=2);
    assert_eq!((sample.newly_lost, sample.lost), (1_000, 1_000));
}

#[test]
fn the_first_loss_that_is_too_much_for_what_was_in_flight_is_told_of() {
    let mut sender = Sender::new();
    sender.send(0, 100);
    sender.lose(49..=49);
    // Of 50 one may be lost.
    assert_eq!(sender.sack(50, 60..=60).evidence, None);
    sender.queue.mark_app_limited(100_000);
    sender.lose(98..=99);
    let evidence = sender.sack(51, 61..=61).evidence;
    let expected = LossEvidence { lost_since: 2_000, in_flight: 99_000, len: SEG, is_app_limited: false };
    assert_eq!(evidence, Some(expected));
    assert_eq!(sender.sack(52, 62..=62).evidence, None, "once");
    // What leaves while the application is the limit says so, and what was lost before does not count against it.
    sender.send(60, 1);
    let in_flight = sender.in_flight();
    sender.lose(100..=100);
    let evidence = sender.sack(110, 63..=63).evidence;
    assert_eq!(evidence, None, "one of {in_flight}");
    let mut sender = Sender::new();
    sender.queue.mark_app_limited(0);
    sender.send(0, 4);
    sender.lose(1..=2);
    let evidence = sender.sack(50, 3..=3).evidence;
    let expected = LossEvidence { lost_since: 1_000, in_flight: 2_000, len: SEG, is_app_limited: true };
    assert_eq!(evidence, Some(expected));
}

#[test]
fn samples_are_the_applications_until_what_was_in_flight_then_has_arrived() {
    let mut sender = Sender::new();
    assert!(!sender.queue.is_app_limited());
    sender.send(0, 2);
    sender.queue.mark_app_limited(2_000);
    assert!(sender.queue.is_app_limited());
    sender.send(10, 4);
    let limited: Vec<bool> =
        [(50, 1), (51, 2), (60, 3)].map(|(ms, count)| sender.ack(ms, count).is_app_limited).to_vec();
    assert_eq!(limited, [false, false, true], "by what was known when it left");
    assert!(!sender.queue.is_app_limited(), "more than that has arrived");
    assert!(sender.ack(61, 6).is_app_limited);
    sender.send(70, 1);
    assert!(!sender.ack(120, 7).is_app_limited);
    // Exactly what was in flight is not more.
    sender.send(200, 2);
    sender.queue.mark_app_limited(2_000);
    sender.ack(250, 9);
    assert!(sender.queue.is_app_limited());
    sender.send(260, 1);
    sender.ack(310, 10);
    assert!(!sender.queue.is_app_limited());
}

#[test]
fn what_left_before_samples_were_wanted_says_nothing_of_rates() {
    let mut sender = Sender::new();
    sender.queue.sample_rates(false, at(0));
    assert!(!sender.queue.is_sampled());
    sender.send(0, 3);
    sender.queue.sample_rates(true, at(20));
    sender.send(30, 1);
    let sample = sender.ack(50, 3);
    assert_eq!((sample.newly_acked, sample.total_delivered), (3_000, 3_000));
    assert_eq!((sample.prior_delivered, sample.delivery_rate, sample.delivered), (None, 0, 0));
    let sample = sender.ack(80, 4);
    assert_eq!((sample.prior_delivered, sample.delivered), (Some(0), 4_000));
    assert_eq!(sample.delivery_rate, 4_000 * 1_000 / 60, "since sampling began");
}

#[test]
fn both_parts_of_a_segment_that_was_cut_are_samples() {
    let mut sender = Sender::new();
    sender.send(0, 2);
    sender.lose(0..=0);
    assert!(sender.queue.split(0, 400));
    let evidence = Evidence { ack: START + 400, ..evidence(50, 0) };
    sender.queue.on_ack(START + 400, &evidence);
    let front = sender.sample(50);
    assert_eq!((front.newly_acked, front.prior_delivered, front.sent_in_flight), (400, Some(0), 1_000));
    let rest = sender.ack(60, 2);
    assert_eq!((rest.newly_acked, rest.delivered, rest.sent_in_flight), (1_600, 2_000, 2_000));
    assert!(!sender.queue.get(0).is_some_and(|record| record.flags.has(RecordFlags::SACKED)));
}

#[test]
fn what_takes_no_time_has_no_rate() {
    let mut sender = Sender::new();
    sender.send(0, 1);
    let sample = sender.ack(0, 1);
    assert_eq!((sample.delivery_rate, sample.delivered, ms(&sample)), (0, 1_000, Some(0)));
}
