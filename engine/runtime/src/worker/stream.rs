//! TCP on one worker: from a matched segment to the machine, from the machine to events, timers and the transmit queue.
//!
//! ```text
//! segment -> on_segment -> Tcb -> Outcome -> settle: signals -> ready queue, deadline -> wheel, output -> transmit queue
//! transmit queue -> Tcb::poll_transmit -> headers into headroom -> tx ring
//! ```
//! Owns flows, listeners, timers, send and receive queues. The protocol itself is `ringwire_proto::tcp`.

use std::net::Ipv4Addr;

use ringwire_frame::Class;
use ringwire_proto::tcp::{self, ColdStore, Outcome, SegmentIn, Signals, Tcb};
use ringwire_proto::{DropReason, Instant, SeqNum};
use ringwire_table::FlowKey;
use ringwire_wire::checksum::Sum;
use ringwire_wire::ipv4::Protocol;
use ringwire_wire::tcp::{Flags, Header, Options};

use super::flow::{Flow, Owner, Tuple};
use super::handover::Offered;
use super::ingress::{Ingress, NO_QUEUE, OWN_QUEUE};
use super::io::{Io, Ready, Socket};
use super::link::{Hop, IpMark, TcpSegment, tcp_head_len};
use super::tcp_buf::{SendSource, TcpBuf};
use crate::buffer::RxBuf;
use crate::error::CloseReason;
use crate::event::{Conn, Event, Events, Listener};
use crate::metrics::Counters;
use crate::slab::{Key, Slab};

mod fast_open;
mod listen;
mod open;
mod option_sets;
mod orphans;
mod relief;
mod schedule;
mod time_wait;
mod transmit;
mod user;

use fast_open::FastOpens;
use listen::{Listened, Listening, Syn};
pub(crate) use open::PortUse;
use option_sets::OptionSets;
use orphans::Orphans;
use relief::Relief;
use schedule::Schedule;
use time_wait::TimeWaits;
pub(crate) use user::Outlook;

/// The options of a socket in the protocol's terms, and what is worked out from them once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct OptionSet {
    pub(crate) config: tcp::Config,
    pub(crate) backlog: u32,
    pub(crate) mark: IpMark,
    /// Whether it takes part in Fast Open.
    pub(crate) fast_open: bool,
    pub(crate) fast_open_rules: tcp::fast_open::Rules,
    pub(crate) fast_open_backlog: u32,
}

/// How many of what one worker keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) time_waits: usize,
    pub(crate) orphans: usize,
}

/// All TCP state of one worker.
#[derive(Debug)]
pub(crate) struct Streams {
    worker: u8,
    flows: Slab<Flow>,
    listeners: Slab<Listening>,
    cold: ColdStore<RxBuf, TcpBuf>,
    schedule: Schedule,
    time_waits: TimeWaits,
    orphans: Orphans,
    relief: Relief,
    /// Flows that wait for a port or a neighbour.
    parked: Vec<u32>,
    /// Flows that have ended and whose last byte was taken since the last turn: the next one tells of it, whenever that is. Until then
    /// the application reads the end of the stream.
    read_out: Vec<u32>,
    options: OptionSets,
    ports: PortUse,
    fast_opens: FastOpens,
}

/// A received segment: where it came from and what it says; its payload travels beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived<'a> {
    pub(crate) ingress: &'a Ingress,
    pub(crate) seg: &'a SegmentIn,
}

impl Arrived<'_> {
    fn tuple(&self) -> Tuple {
        Tuple {
            local: self.ingress.dst,
            remote: self.ingress.src,
            local_port: self.ingress.dst_port,
            remote_port: self.ingress.src_port,
        }
    }
}

/// A borrowed connection, by its slot or its key, with what the machine needs.
macro_rules! with_machine {
    ($self:ident, $io:ident, key $key:expr, |$flow:ident, $cx:ident, $schedule:ident| $body:expr) => {
        with_machine!(@$self, $io, get_mut($key), |$flow, $cx, $schedule| $body)
    };
    ($self:ident, $io:ident, $slot:expr, |$flow:ident, $cx:ident| $body:expr) => {
        with_machine!(@$self, $io, at_mut($slot), |$flow, $cx, _schedule| $body)
    };
    ($self:ident, $io:ident, $slot:expr, |$flow:ident, $cx:ident, $schedule:ident| $body:expr) => {
        with_machine!(@$self, $io, at_mut($slot), |$flow, $cx, $schedule| $body)
    };
    (@$self:ident, $io:ident, $find:ident($id:expr), |$flow:ident, $cx:ident, $schedule:ident| $body:expr) => {{
        let Streams { flows, cold, options, schedule: $schedule, .. } = $self;
        match flows.$find($id) {
            Some($flow) => match options.get(usize::from($flow.options)) {
                Some(set) => {
                    let limit_bytes = $io.link.mss_bytes();
                    let frames_wanted = &mut $io.counters.now.frames_wanted;
                    let (pool, heap) = (&mut $io.link.pool, &$io.heap);
                    let mut source = SendSource { pool, limit_bytes, frames_wanted, heap };
                    #[allow(unused_mut)]
                    let mut $cx = tcp::Cx {
                        now: $io.now,
                        config: &set.config,
                        cold,
                        pool: &mut source,
                        tune: &mut $flow.tune,
                        totals: &mut $flow.totals,
                    };
                    Some($body)
                }
                None => None,
            },
            None => None,
        }
    }};
}
pub(crate) use with_machine;

impl Streams {
    pub(crate) fn new(worker: u8, limits: &Limits, now: Instant, ports: PortUse) -> Streams {
        Streams {
            worker,
            flows: Slab::new(limits.connections.min(Socket::MAX_SLOTS)),
            orphans: Orphans::new(limits.orphans),
            relief: Relief::default(),
            time_waits: TimeWaits::new(limits.time_waits.min(Socket::MAX_SLOTS), now),
            listeners: Slab::new(1 << 16),
            cold: ColdStore::new(),
            schedule: Schedule::new(now),
            parked: Vec::new(),
            read_out: Vec::new(),
            options: OptionSets::default(),
            ports,
            fast_opens: FastOpens::default(),
        }
    }

    /// How many connections there are, and how many of them are only remembered.
    pub(crate) fn count(&self, counters: &mut Counters) {
        let time_waits = self.time_waits.len() as u64;
        counters.now.connections = self.flows.len() as u64 + time_waits;
        counters.now.time_waits = time_waits;
    }

    /// The first slot from `from` on whose connection is more than a memory of its tuple (TIME-WAIT).
    pub(crate) fn first_unfinished(&self, from: u32) -> Option<u32> {
        let is_unfinished = |flow: &Flow| flow.tcb.state() != tcp::State::TimeWait;
        (from..self.flows.slots()).find(|slot| self.flows.at(*slot).is_some_and(is_unfinished))
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        [self.schedule.next_deadline(), self.time_waits.next_deadline()].into_iter().flatten().min()
    }

    /// Whether flows wait for a port or a neighbour.
    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Whether the next turn has the end of a connection to tell of.
    pub(crate) fn has_read_out(&self) -> bool {
        !self.read_out.is_empty()
    }

    pub(crate) fn wants_transmit(&self) -> bool {
        self.schedule.wants_transmit()
    }

    /// One segment whose 4-tuple the table gave as `found`.
    #[inline]
    pub(crate) fn on_segment(&mut self, io: &mut Io, found: Option<u32>, ingress: &Ingress, packet: RxBuf) {
        let seg = ingress.segment(&packet);
        let at = Arrived { ingress, seg: &seg };
        match found.map(Socket::unpack) {
            Some(Socket::Flow(slot)) if self.is_of(slot, at) => self.on_flow_segment(io, slot, at, packet),
            // What the batch found may be gone: the look below tells.
            _ => self.on_missed(io, at, packet),
        }
    }

    /// Whether the flow in `slot` is this segment's: an earlier segment of the batch may have ended the one that was looked up.
    fn is_of(&self, slot: u32, at: Arrived<'_>) -> bool {
        self.flows.at(slot).is_some_and(|flow| flow.tuple == at.tuple() && !flow.is_unlisted)
    }

    /// Nothing was found for the batch; an earlier segment of it may have opened the connection since.
    #[cold]
    fn on_missed(&mut self, io: &mut Io, at: Arrived<'_>, packet: RxBuf) {
        match io.table.reader().lookup(&at.ingress.key()).map(Socket::unpack) {
            Some(Socket::Flow(slot)) => self.on_flow_segment(io, slot, at, packet),
            Some(Socket::TimeWait(slot)) => self.on_time_wait_segment(io, slot, at, packet),
            _ => self.on_unmatched(io, at, packet),
        }
    }

    fn on_flow_segment(&mut self, io: &mut Io, slot: u32, at: Arrived<'_>, packet: RxBuf) {
        if self.must_wait(slot, at) {
            return io.counters.drop_packet(DropReason::TcpAcceptQueueFull);
        }
        let shortage = io.shortage();
        let has_text = at.ingress.payload_len() > 0;
        let payload = if has_text { io.hold(shortage, at.ingress.strip(packet)) } else { None };
        let outcome = with_machine!(self, io, slot, |flow, cx, schedule| {
            cx.tune.pressure = shortage.pressure;
            let outcome = if has_text && payload.is_none() {
                flow.tcb.on_segment_without_text(&mut cx, at.seg)
            } else {
                flow.tcb.on_segment(&mut cx, at.seg, payload)
            };
            if outcome.is_news_only() {
                if at.ingress.queue < OWN_QUEUE {
                    flow.port = at.ingress.queue;
                }
                flow.signals |= outcome.signals;
                flow.announce(slot, &mut io.ready);
                schedule.follow(slot, flow);
            }
            outcome
        });
        match outcome {
            Some(outcome) if outcome.is_news_only() => io.counters.now.delivered += 1,
            Some(outcome) => self.on_flow_change(io, slot, at, outcome),
            None => {}
        }
    }

    /// The segment was dropped, or has begun or ended something.
    fn on_flow_change(&mut self, io: &mut Io, slot: u32, at: Arrived<'_>, outcome: Outcome) {
        let is_application = self.flows.at(slot).is_some_and(|flow| flow.owner == Owner::Application);
        if outcome.signals.contains(Signals::NEW_SYN) {
            return self.on_new_syn(io, slot, at);
        }
        match outcome.drop {
            Some(reason) => io.counters.drop_packet(reason),
            None => io.counters.now.delivered += 1,
        }
        if outcome.signals.contains(Signals::SEND_RESET) {
            self.send_reset(io, at);
        }
        if outcome.signals.contains(Signals::CONNECTED) && is_application {
            self.learn_cookie(io, slot, at, outcome.signals);
        }
        self.settle(io, slot, outcome);
    }

    /// RFC 9293 3.10.7.4 (MAY-2): a new SYN ends TIME-WAIT, whoever still holds the connection, and is treated as if it had met the
    /// listener. Without one, nothing ends.
    #[cold]
    fn on_new_syn(&mut self, io: &mut Io, slot: u32, at: Arrived<'_>) {
        let Some(listener) = self.listener_for(io, at.ingress) else {
            if let Some(outcome) = with_machine!(self, io, slot, |flow, cx| flow.tcb.refuse_new_syn(cx.now)) {
                io.counters.drop_packet(DropReason::TcpTimeWait);
                self.settle(io, slot, outcome);
            }
            return;
        };
        let Some((outcome, after)) = with_machine!(self, io, slot, |flow, cx| flow.tcb.give_way(&mut cx))
        else {
            return;
        };
        self.settle(io, slot, outcome);
        self.on_syn(io, listener, Syn { at, after: Some(after), packet: None });
    }

    /// An ICMP error that quoted a segment of this connection.
    pub(crate) fn on_icmp_error(
        &mut self,
        io: &mut Io,
        slot: u32,
        error: ringwire_proto::icmp::ErrorKind,
        seq: SeqNum,
    ) -> Result<(), DropReason> {
        let was_opening = self.flows.at(slot).is_some_and(|flow| flow.tcb.state() == tcp::State::SynSent);
        let outcome = with_machine!(self, io, slot, |flow, cx| flow.tcb.on_icmp_error(&mut cx, error, seq));
        let outcome = outcome.ok_or(DropReason::IcmpUnknownFlow)?;
        let handled = outcome.drop.map_or(Ok(()), Err);
        if was_opening && handled.is_ok() {
            self.note_syn_error(io, slot, error);
        }
        self.settle(io, slot, outcome);
        handled
    }

    /// After anything happened to a connection: events, deadline, output, end.
    pub(crate) fn settle(&mut self, io: &mut Io, slot: u32, outcome: Outcome) {
        if outcome.signals.contains(Signals::CONNECTED) {
            self.on_connected(io, slot);
        } else if outcome.signals.contains(Signals::CONFIRMED) {
            self.on_confirmed(slot);
        }
        if outcome.signals.contains(Signals::SYN_LOST) {
            self.on_syn_lost(io, slot);
        }
        if outcome.signals.contains(Signals::UNANSWERED)
            && let Some(flow) = self.flows.at(slot)
        {
            io.net.suspect(io.now, flow.tuple.remote);
        }
        if outcome.signals.contains(Signals::ENDED) {
            self.unlist(io, slot);
        }
        let Some(flow) = self.flows.at_mut(slot) else { return };
        flow.close_reason = flow.close_reason.or(outcome.closed);
        if outcome.signals.contains(Signals::CLOSED) {
            return self.on_closed(io, slot);
        }
        flow.signals |= outcome.signals.without(Signals::NOT_FOR_THE_APPLICATION);
        flow.announce(slot, &mut io.ready);
        self.schedule.follow(slot, flow);
        self.remember(io, slot);
    }

    /// The wheel and the transmit queue follow the machine.
    fn reschedule(&mut self, slot: u32) {
        let Some(flow) = self.flows.at_mut(slot) else { return };
        self.schedule.follow(slot, flow);
    }

    fn on_connected(&mut self, io: &mut Io, slot: u32) {
        let Some(flow) = self.flows.at_mut(slot) else { return };
        match flow.owner {
            Owner::Listener(listener) => {
                if let Some(listening) = self.listeners.get_mut(listener) {
                    listening.on_connected();
                }
                io.counters.now.accepted += 1;
            }
            Owner::Application => io.counters.now.connected += 1,
            Owner::Nobody => {}
        }
        if !flow.is_ready && flow.owner != Owner::Nobody {
            flow.is_ready = true;
            io.ready.push_back(Ready::Flow(slot));
        }
        flow.signals |= Signals::CONNECTED;
    }

    /// The machine has finished: what still has to leave leaves, then the application hears of it, if it still cares.
    fn on_closed(&mut self, io: &mut Io, slot: u32) {
        if self.flows.at(slot).is_some_and(|flow| flow.tcb.wants_transmit()) {
            self.transmit_flow(io, slot);
        }
        let Some(flow) = self.flows.at_mut(slot) else { return };
        flow.signals |= Signals::CLOSED;
        self.schedule.disarm(slot, flow);
        match flow.owner {
            Owner::Application => {
                if !core::mem::replace(&mut flow.is_ready, true) {
                    io.ready.push_back(Ready::Flow(slot));
                }
                self.give_tuple_back(io, slot);
            }
            Owner::Listener(_) | Owner::Nobody => self.let_go(io, slot),
        }
    }

    /// Nobody waits for a finished connection any more: it goes, or its RST first, for which there may have been no room.
    fn let_go(&mut self, io: &mut Io, slot: u32) {
        let Some(flow) = self.flows.at_mut(slot) else { return };
        if !flow.tcb.wants_transmit() {
            return self.remove(io, slot);
        }
        let owner = core::mem::replace(&mut flow.owner, Owner::Nobody);
        let signals = flow.signals;
        self.schedule.follow(slot, flow);
        self.leave_queue(owner, signals);
    }

    /// Takes a connection out of every index. Its id is stale from now on.
    pub(crate) fn remove(&mut self, io: &mut Io, slot: u32) {
        if let Some(flow) = self.flows.at_mut(slot) {
            flow.tcb.discard(&mut self.cold);
            self.schedule.disarm(slot, flow);
        }
        let Some(flow) = self.flows.remove(slot) else { return };
        self.options.release(flow.options);
        self.leave_queue(flow.owner, flow.signals);
        self.leave_pending(slot, flow.close_reason, io.now);
        if flow.orphaned_ms.is_some() {
            self.orphans.on_gone();
        }
        if !flow.is_unlisted {
            io.table.remove(&flow.tuple.key());
            self.ports.on_flow_gone(&mut io.net, flow.tuple.local_port);
        }
        io.counters.now.closed += 1;
    }

    /// A connection that is over and not read to its end.
    #[cold]
    fn unlist(&mut self, io: &mut Io, slot: u32) {
        self.transmit_flow(io, slot);
        if self.give_tuple_back(io, slot) {
            let reason = self.flows.at(slot).and_then(|flow| flow.tcb.ended());
            self.leave_pending(slot, reason, io.now);
        }
    }

    /// Of a connection that is over, though its owner has not heard of it or has something left to read: as Linux unhashes it, for the
    /// peer may come again from there. False if it has.
    fn give_tuple_back(&mut self, io: &mut Io, slot: u32) -> bool {
        let Some(flow) = self.flows.at_mut(slot) else { return false };
        if core::mem::replace(&mut flow.is_unlisted, true) {
            return false;
        }
        io.table.remove(&flow.tuple.key());
        self.ports.on_flow_gone(&mut io.net, flow.tuple.local_port);
        true
    }

    /// Deadlines that have passed.
    pub(crate) fn expire(&mut self, io: &mut Io) {
        self.expire_time_waits(io);
        self.relieve(io);
        while let Some(slot) = self.read_out.pop() {
            // Its slot may be another's by now.
            if self.flows.at(slot).is_some_and(|flow| flow.tcb.is_end_due()) {
                self.on_deadline(io, slot);
            }
        }
        while let Some(slot) = self.schedule.poll_expired(io.now) {
            if let Some(flow) = self.flows.at_mut(slot) {
                flow.armed_at = Instant::MAX;
            }
            self.on_deadline(io, slot);
        }
    }

    fn on_deadline(&mut self, io: &mut Io, slot: u32) {
        if let Some(outcome) = with_machine!(self, io, slot, |flow, cx| flow.tcb.on_timer(&mut cx)) {
            self.settle(io, slot, outcome);
        }
    }

    /// No connection here has this 4-tuple: a listener's, another worker's, or nobody's.
    #[cold]
    fn on_unmatched(&mut self, io: &mut Io, at: Arrived<'_>, packet: RxBuf) {
        let packet = match self.listener_for(io, at.ingress) {
            Some(listener) => match self.on_listener_segment(io, listener, at, packet) {
                Listened::Taken => return,
                Listened::Foreign(packet) => packet,
            },
            None => packet,
        };
        if at.ingress.queue == NO_QUEUE {
            // Another worker has passed it on and may have a listener there too: offered again it would go to and fro.
            return self.refuse(io, at);
        }
        match io.handover.offer(&at.ingress.key(), packet) {
            Offered::Taken => io.counters.now.handed_over += 1,
            Offered::Full => io.counters.drop_packet(DropReason::HandOffFull),
            Offered::Refused(_) => self.refuse(io, at),
        }
    }

    /// RFC 9293 3.10.7.1: no connection anywhere.
    #[cold]
    fn refuse(&mut self, io: &mut Io, at: Arrived<'_>) {
        io.counters.drop_packet(DropReason::TcpNoSocket);
        if !at.seg.header.flags.contains(Flags::RST) {
            self.send_reset(io, at);
        }
    }

    /// Into the slab and the table; a full table takes it out of the slab again.
    fn insert(&mut self, io: &mut Io, flow: Flow) -> Option<u32> {
        let tuple = flow.tuple;
        let slot = self.flows.insert(flow)?.slot;
        if io.table.insert(&tuple.key(), Socket::Flow(slot).pack()).is_err() {
            self.flows.remove(slot);
            return None;
        }
        self.ports.on_flow_made(tuple.local_port);
        Some(slot)
    }

    /// Answers a segment that met no connection (RFC 9293 3.10.7.1).
    fn send_reset(&mut self, io: &mut Io, at: Arrived<'_>) {
        if let Some((header, options)) = tcp::reset_for(at.seg, at.ingress.payload_len()) {
            io.counters.now.resets_sent += u64::from(answer(io, at, header, &options, IpMark::PLAIN));
        }
    }

    /// Turns a ready flow's signals into events; frees it after its last one.
    pub(crate) fn take_events(&mut self, io: &mut Io, slot: u32, events: &mut Events) {
        let worker = self.worker;
        let Some(key) = self.flows.key_at(slot) else { return };
        let Some(flow) = self.flows.at_mut(slot) else { return };
        flow.is_ready = false;
        let signals = core::mem::take(&mut flow.signals);
        let conn = Conn(key.pack(worker));
        if signals.contains(Signals::CONNECTED) {
            match flow.owner {
                Owner::Listener(listener) => {
                    flow.owner = Owner::Application;
                    if let Some(listening) = self.listeners.get_mut(listener) {
                        listening.on_taken();
                    }
                    events.push(Event::Accepted { listener: Listener(listener.pack(worker)), conn });
                }
                Owner::Application => events.push(Event::Connected(conn)),
                Owner::Nobody => {}
            }
        }
        if flow.owner != Owner::Application {
            return;
        }
        if signals.contains(Signals::READABLE) || signals.contains(Signals::PEER_CLOSED) {
            events.push(Event::Readable(conn));
        }
        if signals.contains(Signals::WRITABLE) {
            events.push(Event::Writable(conn));
        }
        if signals.contains(Signals::CLOSED) {
            let reason = flow.close_reason.map_or(CloseReason::Finished, CloseReason::from);
            events.push(Event::Closed { conn, reason });
            self.let_go(io, slot);
        }
    }
}

/// Sends a segment of no connection of ours back the way `at` came: no route or neighbour is looked up for a stranger. False when
/// there is no frame for it.
fn answer(io: &mut Io, at: Arrived<'_>, mut header: Header, options: &Options, mark: IpMark) -> bool {
    (header.src_port, header.dst_port) = (at.ingress.dst_port, at.ingress.src_port);
    let Some(mut frame) = io.link.alloc(Class::Control) else {
        io.counters.now.frames_wanted += 1;
        return false;
    };
    let hop = Hop {
        port: io.net.port_to(at.ingress.src_mac, at.ingress.way_back()),
        src_mac: io.net.mac(),
        dst_mac: at.ingress.src_mac,
        src: at.ingress.dst,
        dst: at.ingress.src,
    };
    let segment = TcpSegment { header: &header, options, payload_sum: Sum::default(), payload_len: 0, mark };
    let head = frame.prepend(tcp_head_len(options));
    io.link.emit_tcp(head, &hop, &segment);
    io.link.submit_or_drop(hop.port, frame, &mut io.counters);
    true
}

/// The connection's secrets, fixed by its tuple and the engine's key.
fn seed(io: &Io, tuple: &Tuple) -> tcp::Seed {
    let flow = tuple.prf_flow();
    tcp::Seed { iss: io.prf.isn(io.now, &flow), timestamp_offset: io.prf.timestamp_offset(&flow) }
}

#[cfg(test)]
mod tests;
