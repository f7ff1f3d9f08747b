//! When a flow is looked at next: by the timer wheel, or by the transmit queue.

use std::collections::VecDeque;

use ringwire_proto::Instant;
use ringwire_proto::timer::Wheel;

use crate::worker::flow::Flow;

/// Deadlines and the transmit queue of one worker's flows.
#[derive(Debug)]
pub(super) struct Schedule {
    wheel: Wheel,
    /// Flows with something to send, in the order in which they asked.
    queue: VecDeque<u32>,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Schedule {
        Schedule { wheel: Wheel::new(now), queue: VecDeque::new() }
    }

    /// Follows the machine after anything happened to it.
    ///
    /// A deadline that moved back or away is left in the wheel: it calls once for nothing, which is cheaper than telling it about
    /// every segment.
    #[inline]
    pub(super) fn follow(&mut self, slot: u32, flow: &mut Flow) {
        if let Some(deadline) = flow.tcb.next_timer()
            && deadline < flow.armed_at
        {
            flow.armed_at = deadline;
            self.wheel.arm(slot, deadline);
        }
        if flow.tcb.wants_transmit() && !flow.is_queued && !flow.is_parked {
            flow.is_queued = true;
            self.queue.push_back(slot);
        }
    }

    /// No deadline of this flow calls any more.
    pub(super) fn disarm(&mut self, slot: u32, flow: &mut Flow) {
        flow.armed_at = Instant::MAX;
        self.wheel.cancel(slot);
    }

    /// The next flow whose deadline has come, or once was to come, before `now`.
    pub(super) fn poll_expired(&mut self, now: Instant) -> Option<u32> {
        self.wheel.poll_expired(now)
    }

    /// Perhaps early, never late by more than the wheel's tick.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    pub(super) fn wants_transmit(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The flow whose turn it is.
    pub(super) fn next_queued(&mut self) -> Option<u32> {
        self.queue.pop_front()
    }

    /// A flow that could not finish keeps its turn.
    pub(super) fn put_back(&mut self, slot: u32, flow: &mut Flow) {
        flow.is_queued = true;
        self.queue.push_front(slot);
    }
}
