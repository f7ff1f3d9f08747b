//! What is given up when memory is short, as far as connections are walked for it; the order stands in `heap.rs`.
//!
//! A peer that closes its window, or stops acknowledging, keeps what is queued for it for as long as the protocol's patience lasts. While
//! there is memory, that is its right (RFC 9293 3.8.6.1); when there is none, and others send from the heap, it is not.

use core::time::Duration;

use ringwire_proto::tcp::Pressure;

use super::*;

/// Without progress for so long: seven retransmissions, or half the time that TIME-WAIT would remember it.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// The same when the application has closed it: nobody waits for the outcome.
const ORPHAN_STALLED_AFTER: Duration = Duration::from_secs(3);

/// Flows looked at in one turn.
const LOOKS: u32 = 64;

/// Where the search goes on, and who waits for its end.
#[derive(Debug, Default)]
pub(super) struct Relief {
    next_slot: u32,
    /// Connections whose writes found no memory.
    waiting: Vec<Key>,
}

impl Streams {
    /// At most one connection a turn is reset.
    #[inline]
    pub(super) fn relieve(&mut self, io: &mut Io) {
        io.counters.now.short_turns += u64::from(io.pressure >= Pressure::Growth);
        if !io.link.pool.can_alloc(Class::Send) || io.pressure >= Pressure::Early {
            self.give_up(io);
        }
        if !self.relief.waiting.is_empty() {
            self.end_waiting(io);
        }
    }

    #[cold]
    fn give_up(&mut self, io: &mut Io) {
        for _ in 0..LOOKS.min(self.flows.slots()) {
            let slot = self.relief.next_slot % self.flows.slots();
            self.relief.next_slot = slot + 1;
            if io.pressure >= Pressure::Early {
                self.shed_early(io, slot);
            }
            let may_cut = io.pressure >= Pressure::Stalled || !io.link.pool.can_alloc(Class::Send);
            if may_cut && self.is_stalled(io, slot) {
                io.counters.now.stalled_cut += 1;
                return self.cut(io, slot);
            }
        }
    }

    fn shed_early(&mut self, io: &mut Io, slot: u32) {
        let pressure = io.pressure;
        let shed = with_machine!(self, io, slot, |flow, cx| {
            cx.tune.pressure = pressure;
            flow.tcb.shed_early(&mut cx)
        });
        io.counters.now.early_shed += shed.unwrap_or(0) as u64;
    }

    fn is_stalled(&self, io: &Io, slot: u32) -> bool {
        self.flows.at(slot).is_some_and(|flow| {
            let patience = if flow.is_orphan { ORPHAN_STALLED_AFTER } else { STALLED_AFTER };
            flow.tcb.waits_since().is_some_and(|since| since + patience <= io.now)
        })
    }

    /// Resets a connection, and tells the application if it holds it.
    fn cut(&mut self, io: &mut Io, slot: u32) {
        let outcome = with_machine!(self, io, slot, |flow, cx| flow.tcb.abort(&mut cx));
        if let Some(outcome) = outcome {
            let closed = Some(tcp::CloseReason::TimedOut);
            self.settle(io, slot, Outcome { closed, ..outcome });
        }
    }

    /// A write found no memory: the short count promises WRITABLE.
    #[cold]
    pub(super) fn wait_for_memory(&mut self, io: &mut Io, slot: u32) {
        io.counters.now.writes_refused += 1;
        let (Some(key), Some(flow)) = (self.flows.key_at(slot), self.flows.at_mut(slot)) else { return };
        if !core::mem::replace(&mut flow.wants_memory, true) {
            self.relief.waiting.push(key);
        }
    }

    #[cold]
    fn end_waiting(&mut self, io: &mut Io) {
        if !io.heap.has_room() && !io.link.pool.can_alloc(Class::Send) {
            return;
        }
        for key in core::mem::take(&mut self.relief.waiting) {
            let Some(flow) = self.flows.get_mut(key) else { continue };
            flow.wants_memory = false;
            flow.signals |= Signals::WRITABLE;
            flow.announce(key.slot, &mut io.ready);
        }
    }
}
