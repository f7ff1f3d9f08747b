//! udp-rr.

use std::time::Duration;

use crate::meter::{Fault, Measured, Meter, Watch};
use crate::payload::{Payload, Tag};
use crate::scenario::Scenario;

use super::{Datagrams, LoadError, TIMEOUT_SCAN_NS, Turned};

/// Without any answer for so long, in timeouts, the opening has failed: ARP alone may cost the first one.
const OPENING_TIMEOUTS: u64 = 15;

#[derive(Clone, Copy)]
struct Asker {
    seq: u32,
    started_ns: u64,
    answered: bool,
}

struct DatagramLoop<'a> {
    meter: Meter<'a>,
    payload: Payload,
    scratch: Vec<u8>,
    askers: Vec<Asker>,
    /// Whose next request has no place in the send queue yet.
    held: Vec<usize>,
    answered_count: usize,
    last_fault: Option<Fault>,
    timeout_ns: u64,
    opening_until_ns: u64,
    scan_at_ns: u64,
    now_ns: u64,
}

/// Runs udp-rr over `socket` to its end.
pub(crate) fn run<D: Datagrams>(
    scenario: &Scenario,
    mut socket: D,
    watch: Watch<'_>,
    wait: Duration,
) -> Result<Measured, LoadError> {
    let timeout_ns = scenario.timeout.as_nanos() as u64;
    let mut this = DatagramLoop {
        meter: Meter::new(scenario, watch),
        payload: Payload::new(scenario.size_bytes),
        scratch: vec![0; scenario.size_bytes],
        askers: vec![Asker { seq: 0, started_ns: 0, answered: false }; scenario.in_flight],
        held: Vec::with_capacity(scenario.in_flight),
        answered_count: 0,
        last_fault: None,
        timeout_ns,
        opening_until_ns: OPENING_TIMEOUTS * timeout_ns,
        scan_at_ns: TIMEOUT_SCAN_NS,
        now_ns: 0,
    };
    for slot in 0..scenario.in_flight {
        this.ask(slot, &mut socket)?;
    }
    socket.flush()?;
    this.run(&mut socket, wait)?;
    Ok(this.meter.finish())
}

impl DatagramLoop<'_> {
    fn run<D: Datagrams>(&mut self, socket: &mut D, wait: Duration) -> Result<(), LoadError> {
        // Whose answer came in this turn, right or wrong: they ask again.
        let mut ready = Vec::with_capacity(self.askers.len());
        loop {
            let mut stamped = false;
            let turned = socket.turn(wait, &mut |datagram| {
                if !stamped {
                    // One reading for the whole batch, at the moment it is seen.
                    self.now_ns = self.meter.now_ns();
                    stamped = true;
                }
                ready.extend(self.on_datagram(datagram));
            })?;
            if !stamped {
                self.now_ns = self.meter.now_ns();
            }
            if !self.meter.turn(self.now_ns) {
                return Ok(());
            }
            if turned == Turned::Refused {
                self.refused()?;
            }
            ready.append(&mut self.held);
            for slot in ready.drain(..) {
                self.ask(slot, socket)?;
            }
            if self.now_ns >= self.scan_at_ns {
                self.scan(socket)?;
            }
            socket.flush()?;
        }
    }

    /// Judges an answer; the asker is to ask again.
    fn on_datagram(&mut self, datagram: &[u8]) -> Option<usize> {
        let Some(tag) = Tag::decode(datagram) else {
            self.fault(Fault::Short);
            return None;
        };
        let slot = tag.slot as usize;
        let Some(asker) = self.askers.get_mut(slot) else {
            self.fault(Fault::Corrupt);
            return None;
        };
        if asker.seq != tag.seq {
            self.meter.late_answer();
            return None;
        }
        asker.seq = asker.seq.wrapping_add(1);
        let latency_ns = self.now_ns - asker.started_ns;
        if datagram.len() < self.payload.size_bytes() {
            self.fault(Fault::Short);
        } else if !self.payload.matches(tag, 0, datagram) {
            self.fault(Fault::Corrupt);
        } else {
            self.meter.complete(latency_ns);
            self.note_first_answer(slot);
        }
        Some(slot)
    }

    fn note_first_answer(&mut self, slot: usize) {
        if self.askers[slot].answered {
            return;
        }
        self.askers[slot].answered = true;
        self.answered_count += 1;
        self.opening_until_ns = self.now_ns + OPENING_TIMEOUTS * self.timeout_ns;
        if self.answered_count == self.askers.len() {
            self.meter.opened(self.now_ns);
        }
    }

    fn ask<D: Datagrams>(&mut self, slot: usize, socket: &mut D) -> Result<(), LoadError> {
        let asker = &mut self.askers[slot];
        asker.started_ns = self.now_ns;
        self.payload.emit(Tag { slot: slot as u32, seq: asker.seq }, &mut self.scratch);
        if socket.push(&self.scratch) {
            return Ok(());
        }
        socket.flush()?;
        if !socket.push(&self.scratch) {
            self.held.push(slot);
        }
        Ok(())
    }

    fn fault(&mut self, fault: Fault) {
        self.meter.fault(fault);
        self.last_fault = Some(fault);
    }

    #[cold]
    fn refused(&mut self) -> Result<(), LoadError> {
        self.fault(Fault::Refused);
        if self.meter.is_opening() { Err(self.unanswered()) } else { Ok(()) }
    }

    #[cold]
    fn scan<D: Datagrams>(&mut self, socket: &mut D) -> Result<(), LoadError> {
        for slot in 0..self.askers.len() {
            let held = self.held.contains(&slot);
            if !held && self.now_ns.saturating_sub(self.askers[slot].started_ns) >= self.timeout_ns {
                self.fault(Fault::Timeout);
                self.askers[slot].seq = self.askers[slot].seq.wrapping_add(1);
                self.ask(slot, socket)?;
            }
        }
        self.scan_at_ns = self.now_ns + TIMEOUT_SCAN_NS;
        if self.meter.is_opening() && self.now_ns > self.opening_until_ns {
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
