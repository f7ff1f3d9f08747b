//! One neighbour and its state (see the diagram in the parent module).

use core::net::Ipv4Addr;

use ringwire_wire::eth::Mac;

use super::{DELAY, FAILED_HOLD, Lookup, MAX_REQUESTS, REACHABLE, RETRY};
use crate::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Asked for by broadcast; `due_at` is the next request.
    Incomplete,
    /// Believed until `due_at`, and without a doubt only until then.
    Reachable,
    /// Stale and in use; at `due_at` it is probed.
    Delay,
    /// Asked whether it is still there; `due_at` is the next request.
    Probe,
    /// Did not answer; not asked again before `due_at`.
    Failed,
    /// Kept by somebody else.
    Static,
}

/// What has to happen to an entry now.
pub(super) enum Due {
    Nothing,
    /// Send a request to this Ethernet address.
    Ask(Mac),
    /// It has just failed.
    Fail,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) ip: Ipv4Addr,
    /// Meaningless while incomplete or failed.
    pub(super) mac: Mac,
    pub(super) state: State,
    requests_sent: u8,
    due_at: Instant,
    used_at: Instant,
}

impl Entry {
    /// Nothing is known; a request is due at once.
    pub(super) fn incomplete(ip: Ipv4Addr, now: Instant) -> Self {
        Self {
            ip,
            mac: Mac::default(),
            state: State::Incomplete,
            requests_sent: 0,
            due_at: now,
            used_at: now,
        }
    }

    /// What a packet for this neighbour finds.
    pub(super) fn on_use(&mut self, now: Instant) -> Lookup {
        self.used_at = now;
        match self.state {
            State::Static | State::Delay | State::Probe => Lookup::Resolved(self.mac),
            State::Reachable => {
                if now >= self.due_at {
                    self.enter(State::Delay, now + DELAY);
                }
                Lookup::Resolved(self.mac)
            }
            State::Incomplete => Lookup::Pending,
            State::Failed if now < self.due_at => Lookup::Failed,
            State::Failed => {
                self.enter(State::Incomplete, now);
                Lookup::Pending
            }
        }
    }

    /// Takes the step that is due.
    pub(super) fn on_due(&mut self, now: Instant) -> Due {
        if now < self.timer() {
            return Due::Nothing;
        }
        match self.state {
            State::Reachable | State::Failed | State::Static => Due::Nothing,
            State::Delay => {
                self.enter(State::Probe, now);
                self.ask(now, self.mac)
            }
            State::Probe if self.requests_sent < MAX_REQUESTS => self.ask(now, self.mac),
            // RFC 1122 2.3.2.1 (2): an entry that does not answer polls is deleted; here it is at once asked for anew.
            State::Probe => {
                self.enter(State::Incomplete, now);
                self.ask(now, Mac::BROADCAST)
            }
            State::Incomplete if self.requests_sent < MAX_REQUESTS => self.ask(now, Mac::BROADCAST),
            State::Incomplete => {
                self.enter(State::Failed, now + FAILED_HOLD);
                Due::Fail
            }
        }
    }

    /// When [`Entry::on_due`] has something to do.
    pub(super) fn timer(&self) -> Instant {
        match self.state {
            State::Incomplete | State::Delay | State::Probe => self.due_at,
            State::Reachable | State::Failed | State::Static => Instant::MAX,
        }
    }

    /// Two-way reachability is proven again.
    pub(super) fn confirm(&mut self, now: Instant) {
        match self.state {
            State::Reachable | State::Delay | State::Probe => self.enter(State::Reachable, now + REACHABLE),
            State::Incomplete | State::Failed | State::Static => {}
        }
    }

    /// Somebody claims another hardware address, or nothing comes back: asks the known one whether it is still there, at most once per
    /// second.
    pub(super) fn doubt(&mut self, now: Instant) {
        let is_doubted = match self.state {
            State::Reachable => now >= self.due_at - REACHABLE + RETRY,
            State::Delay => true,
            State::Incomplete | State::Probe | State::Failed | State::Static => false,
        };
        if is_doubted {
            self.enter(State::Probe, now);
        }
    }

    /// The hardware address is known.
    pub(super) fn resolve(&mut self, mac: Mac, state: State, due_at: Instant) {
        self.mac = mac;
        self.enter(state, due_at);
    }

    pub(super) fn enter(&mut self, state: State, due_at: Instant) {
        self.state = state;
        self.requests_sent = 0;
        self.due_at = due_at;
    }

    /// True while an answer is expected from whoever has the address.
    pub(super) fn is_asked_for(&self) -> bool {
        self.state == State::Incomplete && self.requests_sent > 0
    }

    /// Order in which entries give way to new ones: failed first, then the longest unused; `None` never does.
    pub(super) fn need(&self) -> Option<(u8, Instant)> {
        match self.state {
            State::Failed => Some((0, self.used_at)),
            State::Reachable | State::Delay | State::Probe => Some((1, self.used_at)),
            State::Incomplete | State::Static => None,
        }
    }

    fn ask(&mut self, now: Instant, dst: Mac) -> Due {
        self.requests_sent += 1;
        self.due_at = now + RETRY;
        Due::Ask(dst)
    }
}
