//! A line of limited rate, and the queue in front of it.

use std::collections::VecDeque;

use crate::impair::{Impairment, Rate};

/// When each packet that was admitted has been sent in full.
#[derive(Debug, Default)]
pub(super) struct Bottleneck {
    rate: Option<Rate>,
    mark_at: Option<u32>,
    /// Of packets that wait or are being sent, oldest first.
    finish_ns: VecDeque<u64>,
    /// What a nanosecond's rounding has left over, in bits times 10^9.
    remainder: u64,
}

/// A packet's place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// When it will have been sent.
    pub(super) sent_ns: u64,
    /// The queue is longer than it should be.
    pub(super) is_to_be_marked: bool,
}

impl Bottleneck {
    pub(super) fn set(&mut self, impairment: &Impairment) {
        // What has been admitted keeps its place.
        (self.rate, self.mark_at) = (impairment.rate, impairment.mark_at);
    }

    /// For a packet that comes now; `None` if the queue is full.
    pub(super) fn admit(&mut self, now_ns: u64, len_bytes: usize) -> Option<Place> {
        let Some(rate) = self.rate else { return Some(Place { sent_ns: now_ns, is_to_be_marked: false }) };
        while self.finish_ns.front().is_some_and(|&finish_ns| finish_ns <= now_ns) {
            self.finish_ns.pop_front();
        }
        if self.finish_ns.len() >= rate.limit_packets as usize {
            return None;
        }
        let start_ns = match self.finish_ns.back() {
            Some(&finish_ns) => finish_ns,
            None => {
                self.remainder = 0;
                now_ns
            }
        };
        let work = len_bytes as u64 * 8 * 1_000_000_000 + self.remainder;
        self.remainder = work % rate.bits_per_s;
        let finish_ns = start_ns + work / rate.bits_per_s;
        let is_to_be_marked = self.mark_at.is_some_and(|at| self.finish_ns.len() >= at as usize);
        self.finish_ns.push_back(finish_ns);
        Some(Place { sent_ns: finish_ns, is_to_be_marked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(line: &mut Bottleneck, now_ns: u64, len_bytes: usize) -> Option<u64> {
        line.admit(now_ns, len_bytes).map(|place| place.sent_ns)
    }

    fn bottleneck(bits_per_s: u64, limit_packets: u32) -> Bottleneck {
        Bottleneck { rate: Some(Rate { bits_per_s, limit_packets }), ..Bottleneck::default() }
    }

    #[test]
    fn a_burst_leaves_at_the_rate() {
        let mut line = bottleneck(8_000_000, 10);
        assert_eq!(admit(&mut line, 500, 1000), Some(1_000_500));
        assert_eq!(admit(&mut line, 600, 500), Some(1_500_500));
        // The line has been idle: nothing is owed.
        assert_eq!(admit(&mut line, 9_000_000, 1000), Some(10_000_000));
    }

    #[test]
    fn rounding_does_not_add_up() {
        let mut line = bottleneck(3_000_000_000, u32::MAX);
        let last = (0..3_000_000).map(|_| admit(&mut line, 0, 100).unwrap()).last().unwrap();
        assert_eq!(last, 3_000_000 * 800 / 3);
    }

    #[test]
    fn the_queue_has_an_end_and_empties() {
        let mut line = bottleneck(8_000_000, 2);
        assert!(admit(&mut line, 0, 1000).is_some() && admit(&mut line, 0, 1000).is_some());
        assert_eq!(admit(&mut line, 999_999, 1000), None);
        assert_eq!(admit(&mut line, 1_000_000, 1000), Some(3_000_000));
    }

    #[test]
    fn what_finds_too_many_waiting_is_to_be_marked() {
        let mut line = Bottleneck { mark_at: Some(2), ..bottleneck(8_000_000, 4) };
        let marks: Vec<_> = (0..5).map(|_| line.admit(0, 1000).map(|place| place.is_to_be_marked)).collect();
        assert_eq!(marks, [Some(false), Some(false), Some(true), Some(true), None]);
        assert!(!line.admit(3_000_000, 1000).expect("one waits").is_to_be_marked);
    }
}
