//! What is given up when memory is short, as far as connections are walked for it; the order stands in `heap.rs`.
//!
//! A peer that closes its window, or stops acknowledging, keeps what is queued for it for as long as the protocol's patience lasts. While
//! nobody goes short for it, that is its right (RFC 9293 3.8.6.1). Frames alone are no shortage to who can send from the heap, until
//! that fills.

use core::time::Duration;

use ringwire_proto::tcp::{Held, Pressure};

use super::*;
use crate::worker::flow::Wanted;

/// Without progress for so long: seven retransmissions, or half the time that TIME-WAIT would remember it.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// The same from when the application closed it on, while the heap is almost full: nobody waits for the outcome.
const ORPHAN_STALLED_AFTER: Duration = Duration::from_secs(3);

/// But no less than these: two retransmissions, and the time of an answer to the second.
const ORPHAN_STALLED_RTOS: u32 = 4;

/// Flows looked at in one turn.
const LOOKS: u32 = 64;

/// All flows have been looked at for frames: patience counts seconds, and a sender that is busy leaves none for as long as it is.
const REST: Duration = Duration::from_millis(100);

/// Where the search goes on, and who waits for its end.
#[derive(Debug, Default)]
pub(super) struct Relief {
    next_slot: u32,
    /// Flows that have been looked at for frames, of those in this round.
    looked_for_frames: u32,
    /// Until then nobody is looked for who keeps frames.
    rests_until: Instant,
    /// What was wanted in vain before a round ended or somebody was found.
    settled: Wants,
    /// Connections whose writes found no memory.
    waiting: Vec<Key>,
}

/// How often a frame was wanted for sending and none was left.
#[derive(Debug, Clone, Copy, Default)]
struct Wants {
    /// By anybody: what is written to connections went onto the heap instead.
    all: u64,
    /// By those for whom nothing takes its place.
    unmet: u64,
}

/// What a search is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sought {
    /// Data ahead of gaps, which is enough: nobody is reset.
    Early,
    /// Who keeps frames while there is none to write into.
    Frames,
    /// Whoever stands still.
    Stalled,
}

impl Streams {
    /// At most one connection a turn is reset.
    #[inline]
    pub(super) fn relieve(&mut self, io: &mut Io) {
        io.counters.now.short_turns += u64::from(io.pressure >= Pressure::Growth);
        if io.pressure >= Pressure::Stalled {
            self.give_up(io, Sought::Stalled);
        } else if self.relief.rests_until <= io.now && self.are_frames_missed(io) {
            self.give_up(io, Sought::Frames);
        } else if io.pressure >= Pressure::Early {
            self.give_up(io, Sought::Early);
        }
        if !self.relief.waiting.is_empty() {
            self.end_waiting(io);
        }
    }

    /// Whether somebody has wanted a frame to write into since that was looked into last, and there was none. The pool itself cannot tell:
    /// in the middle of a turn it has what the rings are refilled with.
    #[inline]
    fn are_frames_missed(&self, io: &Io) -> bool {
        let (wants, settled) = (Wants::until_now(io), self.relief.settled);
        wants.unmet != settled.unmet || (io.pressure >= Pressure::Growth && wants.all != settled.all)
    }

    #[cold]
    fn give_up(&mut self, io: &mut Io, sought: Sought) {
        for _ in 0..LOOKS.min(self.flows.slots()) {
            let slot = self.relief.next_slot % self.flows.slots();
            self.relief.next_slot = slot + 1;
            if io.pressure >= Pressure::Early {
                self.shed_early(io, slot);
            }
            if self.is_stalled(io, slot, sought) {
                io.counters.now.stalled_cut += 1;
                self.relief.settled = Wants::until_now(io);
                return self.cut(io, slot);
            }
            if sought == Sought::Frames {
                self.relief.on_looked_for_frames(io, self.flows.slots());
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

    /// Whether it has stood still for so long that it is reset for what is sought.
    fn is_stalled(&mut self, io: &mut Io, slot: u32, sought: Sought) -> bool {
        let Some(flow) = self.flows.at(slot) else { return false };
        let Some(since) = flow.tcb.waits_since() else { return false };
        match sought {
            Sought::Early => false,
            Sought::Frames => since + STALLED_AFTER <= io.now && self.keeps_frames(io, slot),
            Sought::Stalled => since + STALLED_AFTER <= io.now || has_outstayed(flow, since, io.now),
        }
    }

    /// Whether resetting it would give frames back.
    fn keeps_frames(&mut self, io: &mut Io, slot: u32) -> bool {
        let is_frame = |held: Held<'_, RxBuf, TcpBuf>| match held {
            Held::ToSend(buf) => buf.frame().is_some(),
            Held::Received(_) => false,
        };
        with_machine!(self, io, slot, |flow, cx| flow.tcb.holds(&cx, is_frame)).unwrap_or(false)
    }

    /// Resets a connection, and tells the application if it holds it, once it has read what had come.
    fn cut(&mut self, io: &mut Io, slot: u32) {
        let outcome = with_machine!(self, io, slot, |flow, cx| flow.tcb.give_up(&mut cx));
        if let Some(outcome) = outcome {
            self.settle(io, slot, outcome);
        }
    }

    /// A write found no memory: the short count promises WRITABLE.
    #[cold]
    pub(super) fn wait_for_memory(&mut self, io: &mut Io, slot: u32, wanted: Wanted) {
        io.counters.now.writes_refused += 1;
        let (Some(key), Some(flow)) = (self.flows.key_at(slot), self.flows.at_mut(slot)) else { return };
        if flow.wanted.is_none() {
            self.relief.waiting.push(key);
        }
        flow.wanted = Some(flow.wanted.map_or(wanted, |before| before.min(wanted)));
    }

    /// Only those hear of it who would be served.
    #[cold]
    fn end_waiting(&mut self, io: &mut Io) {
        let (has_room, has_frames) = (io.heap.has_room(), io.link.pool.can_alloc(Class::Send));
        if !has_room && !has_frames {
            return;
        }
        let Streams { flows, relief, .. } = self;
        relief.waiting.retain(|key| {
            let Some(flow) = flows.get_mut(*key) else { return false };
            if flow.wanted == Some(Wanted::Heap) && !has_room {
                return true;
            }
            flow.wanted = None;
            flow.signals |= Signals::WRITABLE;
            flow.announce(key.slot, &mut io.ready);
            false
        });
    }
}

impl Relief {
    /// One more; after all of them it rests.
    fn on_looked_for_frames(&mut self, io: &Io, slots: u32) {
        self.looked_for_frames += 1;
        if self.looked_for_frames >= slots {
            self.looked_for_frames = 0;
            self.rests_until = io.now + REST;
            self.settled = Wants::until_now(io);
        }
    }
}

impl Wants {
    fn until_now(io: &Io) -> Wants {
        Wants { all: io.counters.now.frames_wanted, unmet: io.link.refused_frames() }
    }
}

/// Whether the application closed it long enough ago for a peer that has taken nothing since.
fn has_outstayed(flow: &Flow, waits_since: Instant, now: Instant) -> bool {
    let Some(orphaned_ms) = flow.orphaned_ms else { return false };
    let patience = ORPHAN_STALLED_AFTER.max(flow.tcb.rto() * ORPHAN_STALLED_RTOS);
    let closed_for = Duration::from_millis(time_wait::millis(now).wrapping_sub(orphaned_ms.get()).into());
    closed_for >= patience && waits_since + patience <= now
}

#[cfg(test)]
mod tests;
