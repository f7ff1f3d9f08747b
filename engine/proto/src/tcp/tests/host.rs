//! One connection with its memory, driven by hand.

use core::fmt;
use std::cell::Cell;
use std::rc::Rc;
use std::vec::Vec;

use ringwire_wire::tcp::{Flags, Header, Options, Timestamps};

use crate::tcp::{
    Body, CloseReason, Codepoint, ColdStore, Config, Cx, Outcome, Payload, Recv, RecvTune, Seed, SegmentIn,
    SendBuf, SendPool, Signals, State, Tcb, Totals, Transmit, TransmitKind, reset_for,
};
use crate::{DropReason, Instant, SeqNum};

/// Received bytes in a plain vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes {
    bytes: Vec<u8>,
    start: usize,
}

impl Bytes {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), start: 0 }
    }
}

impl Payload for Bytes {
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }
    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
    fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advance beyond the end");
        self.start += count;
    }
    fn truncate(&mut self, len: usize) {
        assert!(len <= self.len(), "truncate to more than there is");
        self.bytes.truncate(self.start + len);
    }
}

/// A send buffer whose device the test plays.
#[derive(Debug, Clone, Default)]
pub(super) struct Buf {
    bytes: Vec<u8>,
    capacity: usize,
    in_ring: Rc<Cell<bool>>,
}

impl Buf {
    pub(super) fn filled(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), capacity: bytes.len(), in_ring: Rc::default() }
    }
}

impl SendBuf for Buf {
    fn len(&self) -> usize {
        self.bytes.len()
    }
    fn spare(&self) -> usize {
        self.capacity - self.bytes.len()
    }
    fn append(&mut self, bytes: &[u8]) -> usize {
        assert!(!self.in_ring.get(), "append while the device reads");
        let taken = bytes.len().min(self.spare());
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    fn in_ring(&self) -> bool {
        self.in_ring.get()
    }
}

/// A pool that can run dry.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) left: usize,
}

impl SendPool for Pool {
    type Buf = Buf;
    fn alloc(&mut self) -> Option<Buf> {
        self.left = self.left.checked_sub(1)?;
        Some(Buf { capacity: 2048, ..Buf::default() })
    }
}

/// A segment on the wire.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) header: Header,
    pub(super) options: Options,
    pub(super) payload: Vec<u8>,
    pub(super) kind: TransmitKind,
    /// Whether the payload left as a copy.
    pub(super) copied: bool,
    pub(super) ecn: Codepoint,
    /// Whether a router has marked it.
    pub(super) is_marked: bool,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Header { seq, ack, flags, window, .. } = self.header;
        write!(f, "<{flags} seq {seq} ack {ack} win {window} len {} {:?}>", self.payload.len(), self.kind)
    }
}

impl Wire {
    pub(super) fn new(flags: Flags, seq: SeqNum, ack: SeqNum) -> Self {
        let header = Header { seq: seq.0, ack: ack.0, flags, window: 0xffff, ..Header::default() };
        Self {
            header,
            options: Options::default(),
            payload: Vec::new(),
            kind: TransmitKind::Data,
            copied: false,
            ecn: Codepoint::NotEct,
            is_marked: false,
        }
    }

    /// A router on the way marked it.
    pub(super) fn marked(mut self) -> Self {
        self.is_marked = true;
        self
    }

    pub(super) fn text(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    pub(super) fn window(mut self, window: u16) -> Self {
        self.header.window = window;
        self
    }

    pub(super) fn stamp(mut self, value: u32, echo: u32) -> Self {
        self.options.timestamps = Some(Timestamps { value, echo });
        self
    }

    pub(super) fn mss(mut self, mss: u16) -> Self {
        self.options.mss = Some(mss);
        self
    }

    pub(super) fn scale(mut self, shift: u8) -> Self {
        self.options.window_scale = Some(shift);
        self
    }

    /// Offers SACK, in a SYN.
    pub(super) fn sack_permitted(mut self) -> Self {
        self.options.sack_permitted = true;
        self
    }

    pub(super) fn sack(mut self, left: SeqNum, right: SeqNum) -> Self {
        self.options.sack.push(left.0, right.0);
        self
    }

    pub(super) fn has(&self, flags: Flags) -> bool {
        self.header.flags.contains(flags)
    }

    pub(super) fn seq(&self) -> SeqNum {
        SeqNum(self.header.seq)
    }

    pub(super) fn ack(&self) -> SeqNum {
        SeqNum(self.header.ack)
    }

    pub(super) fn seg(&self) -> SegmentIn {
        SegmentIn { header: self.header, options: self.options, is_marked: self.is_marked }
    }
}

/// When transmitted buffers come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completion {
    AtOnce,
    /// When the test calls `complete`.
    Later,
}

/// One connection, its memory and what came of it.
pub(super) struct Host {
    pub(super) tcb: Tcb,
    pub(super) config: Config,
    pub(super) cold: ColdStore<Bytes, Buf>,
    pub(super) pool: Pool,
    pub(super) tune: RecvTune,
    pub(super) totals: Totals,
    pub(super) now: Instant,
    pub(super) signals: Signals,
    pub(super) closed: Option<CloseReason>,
    pub(super) completion: Completion,
    in_ring: Vec<Rc<Cell<bool>>>,
    /// Right edge of the window as announced, to see that it never moves back.
    pub(super) edge: Option<SeqNum>,
}

impl Host {
    pub(super) fn new(tcb: Tcb, config: Config) -> Self {
        Self {
            tcb,
            config,
            cold: ColdStore::new(),
            pool: Pool { left: 1 << 20 },
            tune: RecvTune::default(),
            totals: Totals::default(),
            now: Instant::from_secs(1000),
            signals: Signals::NONE,
            closed: None,
            completion: Completion::AtOnce,
            in_ring: Vec::new(),
            edge: None,
        }
    }

    pub(super) fn connect(config: &Config, iss: u32) -> Self {
        Self::new(Tcb::connect(config, seed(iss)), config.clone())
    }

    pub(super) fn accept(config: &Config, iss: u32, syn: &Wire) -> Self {
        let tcb = Tcb::accept(config, seed(iss), &syn.seg(), Instant::from_secs(1000));
        Self::new(tcb, config.clone())
    }

    pub(super) fn state(&self) -> State {
        self.tcb.state()
    }

    /// Runs one call on the connection.
    pub(super) fn call<R>(&mut self, call: impl FnOnce(&mut Tcb, &mut Cx<'_, Bytes, Pool>) -> R) -> R {
        let Self { tcb, config, cold, pool, tune, totals, now, .. } = self;
        call(tcb, &mut Cx { now: *now, config, cold, pool, tune, totals })
    }

    pub(super) fn deliver(&mut self, wire: &Wire) -> Outcome {
        let payload = (!wire.payload.is_empty()).then(|| Bytes::new(&wire.payload));
        let outcome = self.call(|tcb, cx| tcb.on_segment(cx, &wire.seg(), payload));
        self.note(outcome)
    }

    /// Delivers and returns what is sent in answer.
    pub(super) fn exchange(&mut self, wire: &Wire) -> Vec<Wire> {
        let outcome = self.deliver(wire);
        let mut sent = self.transmit();
        if outcome.signals.contains(Signals::SEND_RESET)
            && let Some((header, options)) = reset_for(&wire.seg(), wire.payload.len())
        {
            let kind = TransmitKind::Reset;
            sent.push(Wire {
                header,
                options,
                payload: Vec::new(),
                kind,
                copied: false,
                ecn: Codepoint::NotEct,
                is_marked: false,
            });
        }
        sent
    }

    /// Delivers what must be dropped, for which reason, and returns the answer.
    pub(super) fn refuse(&mut self, wire: &Wire, reason: DropReason) -> Vec<Wire> {
        let state = self.state();
        let outcome = self.deliver(wire);
        assert_eq!(outcome.drop, Some(reason), "{wire:?} in {state:?}");
        assert_eq!(self.state(), state, "{wire:?} changed the state");
        self.transmit()
    }

    pub(super) fn tick(&mut self) -> Outcome {
        let outcome = self.call(|tcb, cx| tcb.on_timer(cx));
        self.note(outcome)
    }

    /// Moves time to the next deadline, runs it and returns what is sent.
    pub(super) fn run_timer(&mut self) -> Vec<Wire> {
        self.now = self.now.max(self.tcb.next_timer().expect("a timer is armed"));
        let _ = self.tick();
        self.transmit()
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> usize {
        self.call(|tcb, cx| tcb.send(cx, bytes)).expect("may send")
    }

    /// Writes and transmits.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Vec<Wire> {
        assert_eq!(self.send(bytes), bytes.len());
        self.transmit()
    }

    /// Takes everything readable and gives it back.
    pub(super) fn read(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Ok(Recv::Data(piece)) = self.call(|tcb, cx| tcb.recv(cx)) {
            all.extend_from_slice(piece.bytes());
            self.tcb.release(piece.len() as u32);
        }
        all
    }

    pub(super) fn at_eof(&mut self) -> bool {
        self.call(|tcb, cx| tcb.recv(cx)) == Ok(Recv::Eof)
    }

    pub(super) fn close(&mut self) -> Vec<Wire> {
        let outcome = self.call(|tcb, cx| tcb.close(cx));
        let _ = self.note(outcome);
        self.transmit()
    }

    /// Recomputes what the send queue counts along the way.
    pub(super) fn check_queue(&self) {
        if let Some(cold) = self.cold.get(self.tcb.cold) {
            cold.send.check();
        }
    }

    pub(super) fn shutdown_write(&mut self) -> Vec<Wire> {
        self.call(|tcb, cx| tcb.shutdown_write(cx));
        self.transmit()
    }

    /// Everything that wants to leave now.
    pub(super) fn transmit(&mut self) -> Vec<Wire> {
        let mut sent = Vec::new();
        while let Some(wire) = self.transmit_one() {
            self.check_window(&wire);
            sent.push(wire);
            assert!(sent.len() < 100_000, "poll_transmit never ends");
        }
        sent
    }

    /// The device gives all buffers back.
    pub(super) fn complete(&mut self) {
        self.in_ring.drain(..).for_each(|flag| flag.set(false));
    }

    fn transmit_one(&mut self) -> Option<Wire> {
        let Self { tcb, config, cold, pool, tune, totals, now, completion, in_ring, .. } = self;
        let mut cx = Cx { now: *now, config, cold, pool, tune, totals };
        let Transmit { header, options, body, kind, ecn } = tcb.poll_transmit(&mut cx)?;
        let (payload, copied) = match body {
            Body::None => (Vec::new(), false),
            Body::Whole(buf) => {
                assert!(!buf.in_ring.get(), "a buffer was submitted twice");
                if *completion == Completion::Later {
                    buf.in_ring.set(true);
                    in_ring.push(Rc::clone(&buf.in_ring));
                }
                (buf.bytes.clone(), false)
            }
            Body::Copy(bytes) => (bytes.to_vec(), true),
        };
        Some(Wire { header, options, payload, kind, copied, ecn, is_marked: false })
    }

    /// RFC 9293 3.8.6 (SHLD-14): the right edge does not move back, not even by what scaling cannot say.
    fn check_window(&mut self, wire: &Wire) {
        if wire.has(Flags::RST) || !wire.has(Flags::ACK) {
            return;
        }
        // That of a SYN is not scaled; one that is sent again cannot say all that has been announced since.
        if wire.has(Flags::SYN) && wire.header.window == u16::MAX {
            return;
        }
        let shift = if wire.has(Flags::SYN) { 0 } else { self.tcb.shifts.rcv() };
        let edge = wire.ack() + (u32::from(wire.header.window) << shift);
        let last = *self.edge.get_or_insert(edge);
        assert!(edge.after_eq(last), "window shrank by {}", last.offset_from(edge));
        assert_eq!(edge, self.tcb.rcv.adv, "what is announced is what is taken");
        self.edge = Some(edge);
    }

    fn note(&mut self, outcome: Outcome) -> Outcome {
        self.signals |= outcome.signals;
        assert_eq!(outcome.closed.is_some(), outcome.signals.contains(Signals::CLOSED));
        self.closed = self.closed.or(outcome.closed);
        outcome
    }
}

pub(super) fn seed(iss: u32) -> Seed {
    Seed { iss: SeqNum(iss), timestamp_offset: iss.wrapping_mul(0x9e37_79b9) }
}
