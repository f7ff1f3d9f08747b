//! What is remembered of a connection answers as the connection itself would.

use std::vec::Vec;

use super::host::{Host, Wire};
use super::script::{
    ACK, FIN, IRS, ISS, RST, SYN, established, established_by, in_state, peer, peer_syn_ack, plain,
};
use crate::tcp::{Config, Reaction, Signals, State, TimeWait};
use crate::{DropReason, Instant};

/// xorshift
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as u32 % limit
    }
}

/// A segment near the numbers that matter.
fn any_segment(rng: &mut Rng, is_stamped: bool) -> Wire {
    let sets = [ACK, ACK, FIN | ACK, FIN, RST, RST | ACK, SYN, SYN, SYN | ACK, SYN | RST, SYN | FIN];
    let flags = sets[rng.below(sets.len() as u32) as usize];
    let near = |rng: &mut Rng| match rng.below(5) {
        0 => rng.below(4).wrapping_sub(1),
        1 => rng.below(2000).wrapping_sub(1000),
        // The right edge of the window, without and with a scale.
        2 => rng.below(4).wrapping_add(65_533),
        3 => rng.below(20).wrapping_add(262_130),
        _ => rng.below(u32::MAX),
    };
    let mut wire = Wire::new(flags, IRS + near(rng), ISS + near(rng)).text(&[7; 3][..rng.below(4) as usize]);
    if is_stamped != (rng.below(8) == 0) {
        wire = wire.stamp(1000_u32.wrapping_add(rng.below(9)).wrapping_sub(4), 0);
    }
    wire
}

/// What the machine does, in the terms of what is remembered.
fn by_machine(host: &mut Host, wire: &Wire) -> Reaction {
    let before = host.tcb.next_timer();
    let outcome = host.deliver(wire);
    let is_answered = !host.transmit().is_empty();
    if outcome.signals.contains(Signals::NEW_SYN) {
        return Reaction::NewSyn;
    }
    let reason = outcome.drop.expect("nothing is delivered in TIME-WAIT");
    match (is_answered, host.tcb.next_timer() != before) {
        (false, _) => Reaction::Drop(reason),
        (true, false) => Reaction::Answer(reason),
        (true, true) => Reaction::AnswerAndRestart(reason),
    }
}

/// With timestamps windows are scaled too.
fn in_time_wait(is_stamped: bool) -> Host {
    if !is_stamped {
        return in_state(State::TimeWait, &plain());
    }
    let config = Config { timestamps: true, window_scale: Some(3), ..plain() };
    let mut host = established_by(&config, &peer_syn_ack().stamp(1000, 0).scale(2));
    host.shutdown_write();
    host.exchange(&peer(FIN | ACK, 0, 1).stamp(1000, 0));
    host
}

fn remembered(host: &Host) -> TimeWait {
    host.tcb.time_wait().expect("it is in TIME-WAIT and has said everything")
}

#[test]
fn what_is_remembered_reacts_as_the_connection_does() {
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut seen: Vec<Reaction> = Vec::new();
    for round in 0..20_000_u64 {
        let is_stamped = round % 2 == 0;
        let mut host = in_time_wait(is_stamped);
        let mut remembered = remembered(&host);
        for _ in 0..4 {
            host.now = host.now.add_nanos(u64::from(rng.below(400)) * 1_000_000);
            let wire = any_segment(&mut rng, is_stamped);
            let expected = by_machine(&mut host, &wire);
            let text_len = wire.payload.len() as u32;
            let got = remembered.on_segment(&wire.seg(), text_len, host.now);
            assert_eq!(got, expected, "{wire:?} in round {round}");
            if !seen.contains(&got) {
                seen.push(got);
            }
            if got == Reaction::NewSyn {
                break;
            }
        }
    }
    // Every reason, with and without an answer where both occur.
    assert!(seen.len() >= 15, "{seen:?}");
}

#[test]
fn its_acknowledgement_is_the_connection_s() {
    for is_stamped in [false, true] {
        let mut host = in_time_wait(is_stamped);
        let remembered = remembered(&host);
        let mut fin = peer(FIN | ACK, 0, 1);
        if is_stamped {
            fin = fin.stamp(1000, 0);
        }
        let wire = host.exchange(&fin).remove(0);
        let offset = host.tcb.ts_offset;
        let (header, options) = remembered.ack(host.now, offset);
        assert_eq!((header, options), (wire.header, wire.options));
        assert_eq!(remembered.snd_nxt(), host.tcb.snd.nxt);
    }
}

#[test]
fn only_time_wait_is_remembered() {
    for state in super::script::STATES {
        let host = in_state(state, &plain());
        assert_eq!(host.tcb.time_wait().is_some(), state == State::TimeWait, "{state:?}");
    }
}

#[test]
fn challenges_are_limited() {
    let mut remembered = remembered(&in_time_wait(false));
    let old = Wire::new(SYN, IRS, ISS).seg();
    let at = |ms: u64| Instant::from_secs(100).add_nanos(ms * 1_000_000);
    assert_eq!(remembered.on_segment(&old, 0, at(0)), Reaction::Answer(DropReason::TcpTimeWait));
    assert_eq!(remembered.on_segment(&old, 0, at(499)), Reaction::Drop(DropReason::TcpTimeWait));
    assert_eq!(remembered.on_segment(&old, 0, at(500)), Reaction::Answer(DropReason::TcpTimeWait));
}

#[test]
fn what_has_not_said_everything_is_not_given_up_for_what_is_remembered() {
    let mut host = established(&plain());
    host.shutdown_write();
    let _ = host.deliver(&peer(FIN | ACK, 0, 1));
    assert_eq!(host.state(), State::TimeWait);
    assert!(host.tcb.time_wait().is_none(), "the FIN is not acknowledged");
    host.transmit();
    assert!(host.tcb.time_wait().is_some());
    let mut host = established(&plain());
    host.shutdown_write();
    host.exchange(&peer(FIN | ACK, 0, 1).text(b"unread"));
    assert_eq!((host.state(), host.tcb.time_wait().is_some()), (State::TimeWait, false));
    assert_eq!(host.read(), b"unread");
    host.transmit();
    assert!(host.tcb.time_wait().is_some());
}

#[test]
fn a_connection_waits_for_its_peer_while_something_is_out_or_may_not_leave() {
    let mut host = established(&plain());
    let began = host.now;
    assert_eq!(host.tcb.waits_since(), None);
    host.now = host.now.add_nanos(5_000_000_000);
    host.write(b"x");
    assert_eq!(host.tcb.waits_since(), Some(host.now));
    host.exchange(&peer(ACK, 0, 1).window(0));
    let answered = host.now;
    assert_eq!(host.tcb.waits_since(), None);
    host.write(b"y");
    assert_eq!(host.tcb.waits_since(), Some(answered), "the window is closed");
    assert!(answered > began);
}
