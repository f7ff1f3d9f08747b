//! Two hosts and a link that loses, delays, reorders and duplicates, under a seed.

use std::collections::BTreeMap;
use std::vec::Vec;

use core::time::Duration;

use super::host::{Completion, Host, Wire};
use crate::Instant;
use crate::tcp::{Config, Signals};

/// SplitMix64
#[derive(Debug, Clone)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True in `per_mille` of 1000 cases.
    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// What the link does to segments, both ways.
#[derive(Debug, Clone, Copy)]
pub(super) struct Impairment {
    pub(super) delay: Duration,
    pub(super) loss_per_mille: u64,
    pub(super) reorder_per_mille: u64,
    pub(super) duplicate_per_mille: u64,
}

impl Impairment {
    pub(super) const NONE: Self = Self {
        delay: Duration::from_micros(50),
        loss_per_mille: 0,
        reorder_per_mille: 0,
        duplicate_per_mille: 0,
    };
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

/// Two hosts in virtual time.
pub(super) struct Net {
    pub(super) a: Host,
    pub(super) b: Option<Host>,
    pub(super) now: Instant,
    pub(super) impairment: Impairment,
    pub(super) rng: Rng,
    pub(super) lost: u64,
    pub(super) sent: u64,
    b_config: Config,
    b_iss: u32,
    b_completion: Completion,
    /// By arrival time and, within it, order of departure.
    flying: BTreeMap<(Instant, u64), (Side, Wire)>,
    departures: u64,
}

impl Net {
    /// A connects to B, which accepts when the SYN arrives.
    pub(super) fn new(a: (Config, u32), b: (Config, u32), impairment: Impairment, seed: u64) -> Self {
        Self {
            a: Host::connect(&a.0, a.1),
            b: None,
            now: Instant::from_secs(1000),
            impairment,
            rng: Rng(seed),
            lost: 0,
            sent: 0,
            b_config: b.0,
            b_iss: b.1,
            b_completion: Completion::AtOnce,
            flying: BTreeMap::new(),
            departures: 0,
        }
    }

    /// Buffers come back one turn after they were sent.
    pub(super) fn complete_later(&mut self) {
        self.a.completion = Completion::Later;
        self.b_completion = Completion::Later;
    }

    /// One event: what wants to leave leaves, then the next arrival or timer. False if nothing will ever happen again.
    pub(super) fn step(&mut self) -> bool {
        self.transmit();
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let timers = [self.a.tcb.next_timer(), self.b.as_ref().and_then(|b| b.tcb.next_timer())];
        let timer = timers.into_iter().flatten().min();
        let Some(next) = arrival.into_iter().chain(timer).min() else { return false };
        self.now = self.now.max(next);
        self.a.now = self.now;
        if let Some(b) = self.b.as_mut() {
            b.now = self.now;
        }
        if arrival.is_some_and(|at| at <= self.now) {
            self.arrive();
        }
        let _ = self.a.tick();
        if let Some(b) = self.b.as_mut() {
            let _ = b.tick();
        }
        true
    }

    fn arrive(&mut self) {
        let Some((_, (to, wire))) = self.flying.pop_first() else { return };
        let host = match (to, self.b.as_mut()) {
            (Side::A, _) => &mut self.a,
            (Side::B, Some(b)) => b,
            (Side::B, None) => {
                let mut b = Host::accept(&self.b_config, self.b_iss, &wire);
                b.now = self.now;
                b.completion = self.b_completion;
                self.b = Some(b);
                return;
            }
        };
        if host.tcb.is_closed() {
            // A straggler; the RST for it would only cut the other side's TIME-WAIT short.
            return;
        }
        let answer = host.deliver(&wire);
        assert!(!answer.signals.contains(Signals::SEND_RESET), "unexpected reset for {wire:?}");
    }

    fn transmit(&mut self) {
        self.a.complete();
        let from_a = self.a.transmit();
        let mut from_b = Vec::new();
        if let Some(b) = self.b.as_mut() {
            b.complete();
            from_b = b.transmit();
        }
        from_a.into_iter().for_each(|wire| self.launch(Side::B, wire));
        from_b.into_iter().for_each(|wire| self.launch(Side::A, wire));
    }

    fn launch(&mut self, to: Side, wire: Wire) {
        self.sent += 1;
        if self.rng.chance(self.impairment.loss_per_mille) {
            self.lost += 1;
            return;
        }
        let copies = if self.rng.chance(self.impairment.duplicate_per_mille) { 2 } else { 1 };
        for _ in 0..copies {
            let mut at = self.now + self.impairment.delay;
            if self.rng.chance(self.impairment.reorder_per_mille) {
                at += Duration::from_micros(self.rng.below(300));
            }
            self.departures += 1;
            self.flying.insert((at, self.departures), (to, wire.clone()));
        }
    }
}

/// A transfer both ways.
pub(super) struct Transfer {
    a: Stream,
    b: Stream,
}

/// One side of it: what it has to write, what it must read.
struct Stream {
    out: Vec<u8>,
    expected: Vec<u8>,
    written: usize,
    read: usize,
    shut: bool,
}

impl Transfer {
    pub(super) fn new(to_b: Vec<u8>, to_a: Vec<u8>) -> Self {
        let stream = |out: &Vec<u8>, expected: &Vec<u8>| Stream {
            out: out.clone(),
            expected: expected.clone(),
            written: 0,
            read: 0,
            shut: false,
        };
        Self { a: stream(&to_b, &to_a), b: stream(&to_a, &to_b) }
    }

    /// Runs until both sides got everything and closed; returns when everything had arrived, at most `limit` later.
    pub(super) fn run(&mut self, net: &mut Net, limit: Duration) -> Duration {
        let start = net.now;
        let mut arrived = None;
        loop {
            let alive = net.step();
            self.a.pump(&mut net.a);
            if let Some(b) = net.b.as_mut() {
                self.b.pump(b);
            }
            let elapsed = net.now.saturating_since(start);
            if arrived.is_none() && self.a.is_complete() && self.b.is_complete() {
                arrived = Some(elapsed);
            }
            let done = net.a.tcb.is_closed() && net.b.as_ref().is_some_and(|b| b.tcb.is_closed());
            if done || !alive {
                return arrived.expect("not all was delivered");
            }
            let b = net.b.as_ref().map(|b| &b.tcb);
            assert!(
                arrived.is_some() || elapsed < limit,
                "stuck at {} and {}: {:?} {b:?}",
                self.a.read,
                self.b.read,
                net.a.tcb
            );
        }
    }
}

impl Stream {
    fn is_complete(&self) -> bool {
        self.read == self.expected.len()
    }

    /// Reads and compares what there is, writes what fits, closes behind it.
    fn pump(&mut self, host: &mut Host) {
        let got = host.read();
        assert_eq!(got, self.expected[self.read..self.read + got.len()], "bytes differ after {}", self.read);
        self.read += got.len();
        if self.written < self.out.len() {
            if let Ok(count) = host.call(|tcb, cx| tcb.send(cx, &self.out[self.written..])) {
                self.written += count;
            }
        } else if !self.shut {
            host.call(|tcb, cx| tcb.shutdown_write(cx));
            self.shut = true;
        }
    }
}

pub(super) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
