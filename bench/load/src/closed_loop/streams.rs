//! tcp-rr and tcp-crr.

use std::time::Duration;

use crate::meter::{Fault, Measured, Meter, Watch};
use crate::payload::{Payload, Tag};
use crate::scenario::Scenario;

use super::{LoadError, Received, StreamEvent, Streams, TIMEOUT_SCAN_NS};

/// One asker and its connection.
#[derive(Clone, Copy)]
struct Asker {
    state: State,
    seq: u32,
    /// When the request began: with the connect in tcp-crr, else with its first byte.
    started_ns: u64,
    sent: usize,
    received: usize,
    answered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No connection; the next look for timeouts opens one. Not at once, lest a dead server be stormed.
    Closed,
    Opening,
    Asking,
}

struct StreamLoop<'s, 'w, S> {
    scenario: &'s Scenario,
    streams: S,
    meter: Meter<'w>,
    payload: Payload,
    scratch: Vec<u8>,
    askers: Vec<Asker>,
    answered_count: usize,
    last_fault: Option<Fault>,
    /// Opening fails when nobody new got an answer until then.
    opening_until_ns: u64,
    scan_at_ns: u64,
    now_ns: u64,
}

/// Runs tcp-rr or tcp-crr over `streams` to its end.
pub(crate) fn run<S: Streams>(
    scenario: &Scenario,
    streams: S,
    watch: Watch<'_>,
    wait: Duration,
) -> Result<Measured, LoadError> {
    let asker = Asker { state: State::Closed, seq: 0, started_ns: 0, sent: 0, received: 0, answered: false };
    let mut this = StreamLoop {
        scenario,
        streams,
        meter: Meter::new(scenario, watch),
        payload: Payload::new(scenario.size_bytes),
        scratch: vec![0; scenario.size_bytes],
        askers: vec![asker; scenario.in_flight],
        answered_count: 0,
        last_fault: None,
        opening_until_ns: scenario.timeout.as_nanos() as u64,
        scan_at_ns: 0,
        now_ns: 0,
    };
    this.run(wait)?;
    Ok(this.meter.finish())
}

impl<S: Streams> StreamLoop<'_, '_, S> {
    fn run(&mut self, wait: Duration) -> Result<(), LoadError> {
        let mut events = Vec::with_capacity(1024);
        loop {
            self.streams.turn(wait, &mut events)?;
            self.now_ns = self.meter.now_ns();
            if !self.meter.turn(self.now_ns) {
                break;
            }
            for event in events.drain(..) {
                self.on_event(event)?;
            }
            if self.now_ns >= self.scan_at_ns {
                self.scan()?;
            }
        }
        for slot in 0..self.askers.len() {
            self.streams.abort(slot);
        }
        // The resets leave with the next turn.
        self.streams.turn(Duration::ZERO, &mut events)
    }

    fn on_event(&mut self, event: StreamEvent) -> Result<(), LoadError> {
        match event {
            StreamEvent::Opened(slot) if self.askers[slot].state == State::Opening => {
                self.askers[slot].state = State::Asking;
                if !self.scenario.work.resets() {
                    self.askers[slot].started_ns = self.now_ns;
                }
                self.send(slot)
            }
            StreamEvent::Writable(slot) if self.askers[slot].state == State::Asking => self.send(slot),
            StreamEvent::Readable(slot) if self.askers[slot].state == State::Asking => self.receive(slot),
            StreamEvent::Failed(slot, fault) if self.askers[slot].state != State::Closed => {
                self.fail(slot, fault)
            }
            // Of a connection that was given up in the same turn.
            StreamEvent::Opened(_)
            | StreamEvent::Writable(_)
            | StreamEvent::Readable(_)
            | StreamEvent::Failed(..) => Ok(()),
        }
    }

    /// Sends what is left of the request.
    fn send(&mut self, slot: usize) -> Result<(), LoadError> {
        let asker = &mut self.askers[slot];
        if asker.sent == self.scratch.len() {
            return Ok(());
        }
        self.payload.emit(Tag { slot: slot as u32, seq: asker.seq }, &mut self.scratch);
        match self.streams.send(slot, &self.scratch[asker.sent..]) {
            Ok(count) => {
                asker.sent += count;
                Ok(())
            }
            Err(fault) => self.fail(slot, fault),
        }
    }

    fn receive(&mut self, slot: usize) -> Result<(), LoadError> {
        let asker = &mut self.askers[slot];
        let tag = Tag { slot: slot as u32, seq: asker.seq };
        let mut right = true;
        let payload = &self.payload;
        let more = self.streams.receive(slot, &mut |piece| {
            right = right && payload.matches(tag, asker.received, piece);
            asker.received += piece.len();
        });
        let received = asker.received;
        if !right {
            return self.fail(slot, Fault::Corrupt);
        }
        match more {
            Ok(_) if received == self.payload.size_bytes() => self.complete(slot, more == Ok(Received::Eof)),
            Ok(Received::Open) => Ok(()),
            Ok(Received::Eof) if received > 0 => self.fail(slot, Fault::Short),
            Ok(Received::Eof) => self.fail(slot, Fault::Reset),
            Err(fault) => self.fail(slot, fault),
        }
    }

    fn complete(&mut self, slot: usize, at_eof: bool) -> Result<(), LoadError> {
        let asker = &mut self.askers[slot];
        self.meter.complete(self.now_ns - asker.started_ns);
        asker.seq = asker.seq.wrapping_add(1);
        if !asker.answered {
            asker.answered = true;
            self.answered_count += 1;
            self.opening_until_ns = self.now_ns + self.scenario.timeout.as_nanos() as u64;
            if self.answered_count == self.askers.len() {
                self.meter.opened(self.now_ns);
            }
        }
        if self.scenario.work.resets() {
            self.streams.abort(slot);
            return self.open(slot);
        }
        if at_eof {
            return self.fail(slot, Fault::Reset);
        }
        let asker = &mut self.askers[slot];
        asker.started_ns = self.now_ns;
        asker.sent = 0;
        asker.received = 0;
        self.send(slot)
    }

    fn open(&mut self, slot: usize) -> Result<(), LoadError> {
        let asker = &mut self.askers[slot];
        asker.state = State::Opening;
        asker.started_ns = self.now_ns;
        asker.sent = 0;
        asker.received = 0;
        self.streams.open(slot)
    }

    fn fail(&mut self, slot: usize, fault: Fault) -> Result<(), LoadError> {
        self.meter.fault(fault);
        self.last_fault = Some(fault);
        self.streams.abort(slot);
        let asker = &mut self.askers[slot];
        asker.state = State::Closed;
        asker.seq = asker.seq.wrapping_add(1);
        // A closed port does not open while we wait; everything else may be the network.
        if self.meter.is_opening() && fault == Fault::Refused {
            return Err(self.unanswered());
        }
        Ok(())
    }

    #[cold]
    fn scan(&mut self) -> Result<(), LoadError> {
        let timeout_ns = self.scenario.timeout.as_nanos() as u64;
        for slot in 0..self.askers.len() {
            let asker = self.askers[slot];
            if asker.state == State::Closed {
                self.open(slot)?;
            } else if self.now_ns.saturating_sub(asker.started_ns) >= timeout_ns {
                self.fail(slot, Fault::Timeout)?;
            }
        }
        self.scan_at_ns = self.now_ns + TIMEOUT_SCAN_NS;
        if self.meter.is_opening() && self.now_ns > self.opening_until_ns + TIMEOUT_SCAN_NS {
            return Err(self.unanswered());
        }
        Ok(())
    }

    fn unanswered(&self) -> LoadError {
        LoadError::Unanswered {
            answered: self.answered_count,
            askers: self.askers.len(),
            last: self.last_fault,
        }
    }
}
