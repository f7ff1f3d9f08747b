//! Connections that the application has closed and the protocol has not finished: FIN-WAIT, CLOSING, LAST-ACK.
//!
//! Each ends by itself, by retries and the FIN-WAIT-2 timer, but a peer can hold it for minutes at no cost. So there is a limit, and
//! beyond it the oldest is reset.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use super::*;

#[derive(Debug)]
pub(super) struct Orphans {
    /// In the order in which they were closed; those that have ended are taken out later.
    order: VecDeque<Key>,
    live: usize,
    limit: usize,
}

impl Orphans {
    pub(super) fn new(limit: usize) -> Orphans {
        Orphans { order: VecDeque::new(), live: 0, limit }
    }

    fn push(&mut self, key: Key, is_there: impl Fn(&Key) -> bool) {
        if self.order.len() > 2 * self.limit + 16 {
            // More than half of them have ended: a look at each for every one that was pushed since.
            self.order.retain(is_there);
        }
        self.order.push_back(key);
        self.live += 1;
    }

    pub(super) fn on_gone(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    fn is_over_limit(&self) -> bool {
        self.live > self.limit
    }
}

impl Streams {
    /// The application has closed a connection, which may be over with that.
    pub(super) fn on_orphaned(&mut self, io: &mut Io, slot: u32) {
        let Some(key) = self.flows.key_at(slot) else { return };
        match self.flows.at_mut(slot) {
            Some(flow) if flow.tcb.state() != tcp::State::Closed => {
                flow.orphaned_ms = NonZeroU32::new(time_wait::millis(io.now).max(1));
            }
            Some(_) | None => return,
        }
        let flows = &self.flows;
        self.orphans.push(key, |key| flows.get(*key).is_some());
        if self.orphans.is_over_limit() {
            self.cut_oldest(io);
        }
    }

    #[cold]
    fn cut_oldest(&mut self, io: &mut Io) {
        while let Some(key) = self.orphans.order.pop_front() {
            if self.flows.get(key).is_some() {
                io.counters.now.orphans_cut += 1;
                return self.abort_flow(io, key.slot);
            }
        }
    }
}
