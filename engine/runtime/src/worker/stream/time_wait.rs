//! The connections that are over and not forgotten: TIME-WAIT in a table of its own.
//!
//! ```text
//! flow closed by the application enters TIME-WAIT, its last ACK has left -> remember: flow freed, entry in its place in the socket table
//! segment -> answer, restart, reopen (RFC 6191)        2 MSL later, or when the table is full: the oldest is forgotten
//! ```
//! An entry has 52 bytes. It stands in a queue of all that wait equally long, so that the next to go is always in front and no timer
//! is armed. A connection that the application has not closed stays a flow, because there may be something to read.

use core::time::Duration;

use ringwire_proto::tcp::{Reaction, TimeWait};

use super::*;

const NONE: u32 = u32::MAX;

/// Half of what 32 bits of milliseconds count: 24 days.
const LONGEST_MS: u32 = 1 << 31;

/// Each is looked at for the next deadline, and a program has a handful.
const MOST_QUEUES: usize = 64;

/// One connection in TIME-WAIT.
#[derive(Debug)]
struct Entry {
    tuple: Tuple,
    state: TimeWait,
    /// On the clock of milliseconds, which turns every 49 days.
    expires_ms: u32,
    /// Neighbours in its queue; `next` links the free entries too.
    prev: u32,
    next: u32,
    queue: u16,
}

const _: () = assert!(size_of::<Entry>() == 52);

/// All that wait for the same time, in the order in which they end.
#[derive(Debug)]
struct Queue {
    lasts_ms: u32,
    head: u32,
    tail: u32,
}

/// A bounded number of entries.
#[derive(Debug)]
pub(super) struct TimeWaits {
    entries: Vec<Entry>,
    free: u32,
    /// One for each duration in use, at most [`MOST_QUEUES`].
    queues: Vec<Queue>,
    len: usize,
    capacity: usize,
    /// Of the last look.
    now: Instant,
}

impl TimeWaits {
    pub(super) fn new(capacity: usize, now: Instant) -> TimeWaits {
        TimeWaits { entries: Vec::new(), free: NONE, queues: Vec::new(), len: 0, capacity, now }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    fn at_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)
    }

    /// The caller has made room.
    fn insert(&mut self, tuple: Tuple, state: TimeWait, lasts: Duration, now: Instant) -> u32 {
        let queue = self.queue_for(lasts);
        let entry = Entry { tuple, state, expires_ms: 0, prev: NONE, next: NONE, queue };
        let slot = match self.entries.get_mut(self.free as usize) {
            Some(free) => core::mem::replace(&mut self.free, core::mem::replace(free, entry).next),
            None => {
                self.entries.push(entry);
                // At most `Socket::MAX_SLOTS`.
                (self.entries.len() - 1) as u32
            }
        };
        self.len += 1;
        self.push_back(slot, now);
        slot
    }

    fn remove(&mut self, slot: u32) -> Option<Tuple> {
        self.unlink(slot);
        let free = self.free;
        let entry = self.at_mut(slot)?;
        entry.next = free;
        let tuple = entry.tuple;
        self.free = slot;
        self.len -= 1;
        Some(tuple)
    }

    /// Its time begins anew.
    fn restart(&mut self, slot: u32, now: Instant) {
        self.unlink(slot);
        self.push_back(slot, now);
    }

    /// The one that would be forgotten next.
    fn oldest(&self) -> Option<u32> {
        let now_ms = millis(self.now);
        let heads = self
            .queues
            .iter()
            .filter_map(|queue| self.entries.get(queue.head as usize).zip(Some(queue.head)));
        heads
            .min_by_key(|(entry, _)| entry.expires_ms.wrapping_sub(now_ms).cast_signed())
            .map(|(_, slot)| slot)
    }

    fn poll_expired(&mut self, now: Instant) -> Option<u32> {
        self.now = now;
        let slot = self.oldest()?;
        let left_ms = self.entries.get(slot as usize)?.expires_ms.wrapping_sub(millis(now)).cast_signed();
        (left_ms <= 0).then_some(slot)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let entry = self.entries.get(self.oldest()? as usize)?;
        let left_ms = entry.expires_ms.wrapping_sub(millis(self.now)).cast_signed().max(0);
        Some(self.now + Duration::from_millis(u64::from(left_ms.unsigned_abs())))
    }

    /// The queue of those that wait so long. One that is empty serves another time; when there are as many as there may be, some wait longer
    /// than they have to.
    fn queue_for(&mut self, lasts: Duration) -> u16 {
        let lasts_ms = u32::try_from(lasts.as_millis()).unwrap_or(u32::MAX).min(LONGEST_MS - 2);
        let new = Queue { lasts_ms, head: NONE, tail: NONE };
        let index = if let Some(same) = self.queues.iter().position(|queue| queue.lasts_ms == lasts_ms) {
            same
        } else if let Some(empty) = self.queues.iter().position(|queue| queue.head == NONE) {
            self.queues[empty] = new;
            empty
        } else if self.queues.len() < MOST_QUEUES {
            self.queues.push(new);
            self.queues.len() - 1
        } else {
            self.longer_queue(lasts_ms)
        };
        // Below `MOST_QUEUES`.
        index as u16
    }

    /// The next longer time; or the longest, which becomes this one: what stands there already goes first nevertheless.
    #[cold]
    fn longer_queue(&mut self, lasts_ms: u32) -> usize {
        let times = || self.queues.iter().map(|queue| queue.lasts_ms).enumerate();
        let longer = times().filter(|(_, ms)| *ms >= lasts_ms).min_by_key(|(_, ms)| *ms);
        let Some((index, ms)) = longer.or_else(|| times().max_by_key(|(_, ms)| *ms)) else { return 0 };
        self.queues[index].lasts_ms = ms.max(lasts_ms);
        index
    }

    fn push_back(&mut self, slot: u32, now: Instant) {
        let Some(queue) = self.entries.get(slot as usize).map(|entry| usize::from(entry.queue)) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(queue) else { return };
        let tail = core::mem::replace(&mut queue.tail, slot);
        if tail == NONE {
            queue.head = slot;
        }
        // Never early: the part of a millisecond that has passed is not counted.
        let expires_ms = millis(now).wrapping_add(queue.lasts_ms + 1);
        if let Some(entry) = self.entries.get_mut(tail as usize) {
            entry.next = slot;
        }
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            (entry.prev, entry.next, entry.expires_ms) = (tail, NONE, expires_ms);
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(Entry { prev, next, queue, .. }) = self.entries.get(slot as usize) else { return };
        let (prev, next, queue) = (*prev, *next, usize::from(*queue));
        match self.entries.get_mut(prev as usize) {
            Some(entry) => entry.next = next,
            None => self.queues[queue].head = next,
        }
        match self.entries.get_mut(next as usize) {
            Some(entry) => entry.prev = prev,
            None => self.queues[queue].tail = prev,
        }
    }
}

/// The clock of milliseconds.
pub(super) fn millis(now: Instant) -> u32 {
    // Truncation is the ring.
    now.as_millis() as u32
}

impl Streams {
    /// A connection that has only to be remembered makes room.
    #[inline]
    pub(super) fn remember(&mut self, io: &mut Io, slot: u32) {
        let is_over = |flow: &&Flow| flow.tcb.state() == tcp::State::TimeWait && flow.owner == Owner::Nobody;
        if self.flows.at(slot).filter(is_over).is_some() {
            self.move_to_time_wait(io, slot);
        }
    }

    #[cold]
    fn move_to_time_wait(&mut self, io: &mut Io, slot: u32) {
        let Some(flow) = self.flows.at(slot) else { return };
        let Some(state) = flow.tcb.time_wait() else { return };
        let Some(set) = self.options.get(usize::from(flow.options)) else { return };
        let (tuple, lasts) = (flow.tuple, set.config.time_wait);
        if self.time_waits.is_full()
            && let Some(oldest) = self.time_waits.oldest()
        {
            io.counters.now.time_waits_cut += 1;
            self.forget(io, oldest);
        }
        if self.time_waits.is_full() {
            // A table without any place: it stays a flow.
            return;
        }
        let entry = self.time_waits.insert(tuple, state, lasts, io.now);
        if io.table.insert(&tuple.key(), Socket::TimeWait(entry).pack()).is_err() {
            // The key is there and gets a new value.
            self.time_waits.remove(entry);
            return;
        }
        if let Some(flow) = self.flows.at_mut(slot) {
            flow.tcb.discard(&mut self.cold);
            self.schedule.disarm(slot, flow);
        }
        let Some(flow) = self.flows.remove(slot) else { return };
        self.options.release(flow.options);
        if flow.orphaned_ms.is_some() {
            self.orphans.on_gone();
        }
    }

    /// A segment of a connection in TIME-WAIT.
    #[cold]
    pub(super) fn on_time_wait_segment(&mut self, io: &mut Io, slot: u32, at: Arrived<'_>, packet: RxBuf) {
        let Some(entry) = self.time_waits.at_mut(slot).filter(|entry| entry.tuple == at.tuple()) else {
            return self.on_unmatched(io, at, packet);
        };
        // Text comes out of an IP packet, which fits 16 bits.
        let text_len = at.ingress.payload_len() as u32;
        let reaction = entry.state.on_segment(at.seg, text_len, io.now);
        match reaction {
            Reaction::NewSyn => match self.listener_for(io, at.ingress) {
                Some(listener) => self.reopen(io, slot, listener, at),
                None => self.refuse_new_syn(io, slot, at),
            },
            Reaction::Drop(_) | Reaction::Answer(_) | Reaction::AnswerAndRestart(_) => {
                self.react(io, slot, at, reaction);
            }
        }
    }

    /// The new connection's numbers come after those of the old one.
    fn reopen(&mut self, io: &mut Io, slot: u32, listener: u32, at: Arrived<'_>) {
        let after = self.time_waits.at_mut(slot).map(|entry| entry.state.snd_nxt());
        self.forget(io, slot);
        self.on_syn(io, listener, Syn { at, after, packet: None });
    }

    fn refuse_new_syn(&mut self, io: &mut Io, slot: u32, at: Arrived<'_>) {
        let Some(entry) = self.time_waits.at_mut(slot) else { return };
        let reaction = entry.state.refuse_new_syn(io.now);
        self.react(io, slot, at, reaction);
    }

    fn react(&mut self, io: &mut Io, slot: u32, at: Arrived<'_>, reaction: Reaction) {
        let (reason, restarts) = match reaction {
            Reaction::Drop(reason) => return io.counters.drop_packet(reason),
            Reaction::Answer(reason) => (reason, false),
            Reaction::AnswerAndRestart(reason) => (reason, true),
            Reaction::NewSyn => return,
        };
        io.counters.drop_packet(reason);
        let Some(entry) = self.time_waits.at_mut(slot) else { return };
        let (header, options) = entry.state.ack(io.now, io.prf.timestamp_offset(&entry.tuple.prf_flow()));
        answer(io, at, header, &options, IpMark::PLAIN);
        if restarts {
            self.time_waits.restart(slot, io.now);
        }
    }

    /// Those whose time is over.
    pub(super) fn expire_time_waits(&mut self, io: &mut Io) {
        if self.time_waits.len() == 0 {
            return;
        }
        while let Some(slot) = self.time_waits.poll_expired(io.now) {
            self.forget(io, slot);
        }
    }

    /// All of them: the worker goes.
    pub(super) fn forget_all(&mut self, io: &mut Io) {
        while let Some(slot) = self.time_waits.oldest() {
            self.forget(io, slot);
        }
    }

    fn forget(&mut self, io: &mut Io, slot: u32) {
        let Some(tuple) = self.time_waits.remove(slot) else { return };
        io.table.remove(&tuple.key());
        self.ports.on_flow_gone(&mut io.net, tuple.local_port);
        io.counters.now.closed += 1;
    }
}

#[cfg(test)]
mod tests;
