//! Whatever arrives and whatever the application does: no panic, no broken count, no reply storm.

use core::time::Duration;
use std::vec::Vec;

use ringwire_wire::tcp::Flags;

use super::host::{Buf, Completion, Host, Wire};
use super::net::Rng;
use super::script::*;
use crate::icmp::{ErrorKind, Unreachable};
use crate::tcp::tcb::Bits;
use crate::tcp::{Config, Keepalive, State};
use crate::{Instant, SeqNum};

/// A number near one that matters.
fn near(rng: &mut Rng, marks: &[SeqNum]) -> SeqNum {
    let mark = marks[rng.below(marks.len() as u64) as usize];
    match rng.below(8) {
        0..4 => mark,
        4 => mark + 1,
        5 => mark - 1,
        6 => mark + rng.below(5_000) as u32 - 2_500,
        _ => SeqNum(rng.next() as u32),
    }
}

fn any_wire(rng: &mut Rng, host: &Host) -> Wire {
    let tcb = &host.tcb;
    let seq = near(rng, &[tcb.rcv.nxt, tcb.rcv.adv, tcb.rcv.ack_sent, IRS]);
    let ack = near(rng, &[tcb.snd.una, tcb.snd.nxt, ISS]);
    let flags = match rng.below(20) {
        0 => Flags(rng.next() as u8),
        1 => RST,
        2 => SYN,
        3 => SYN | ACK,
        4 | 5 => FIN | ACK,
        6 => PSH,
        _ => ACK,
    };
    let window = [0, 1, 100, 0x1000, 0xffff][rng.below(5) as usize];
    let len = [0, 0, 1, 100, 1000, 3000][rng.below(6) as usize];
    let mut wire = Wire::new(flags, seq, ack).text(&std::vec![rng.next() as u8; len]).window(window);
    wire.header.urgent = rng.next() as u16;
    if rng.chance(700) {
        let echo = tcb.ts_now(host.now).wrapping_sub(rng.below(1_000) as u32);
        let value = tcb.ts_recent.wrapping_add(rng.below(10) as u32).wrapping_sub(2);
        wire = wire.stamp(if rng.chance(50) { rng.next() as u32 } else { value }, echo);
    }
    for _ in 0..rng.below(4) {
        let left = near(rng, &[tcb.snd.una, tcb.snd.una + 1000, tcb.snd.nxt]);
        wire = wire.sack(left, left + 1 + rng.below(3_000) as u32);
    }
    if wire.has(SYN) || rng.chance(20) {
        wire = wire.mss(rng.next() as u16).scale((rng.next() % 15) as u8);
    }
    wire
}

fn any_call(rng: &mut Rng, host: &mut Host) {
    match rng.below(40) {
        0..10 => {
            let len = 1 + rng.below(4_000) as usize;
            let _ = host.call(|tcb, cx| tcb.send(cx, &std::vec![1; len]));
        }
        10..13 => {
            let len = 1 + rng.below(5_000) as usize;
            let _ = host.call(|tcb, cx| {
                tcb.send_buf(cx, Buf::filled(&std::vec![2; len])).map_err(|(_, error)| error)
            });
        }
        13..25 => drop(host.read()),
        25 => host.tcb.cork(),
        26 => host.tcb.uncork(&host.cold),
        27 => host.tcb.quick_ack(),
        28 if rng.chance(100) => host.call(|tcb, cx| tcb.shutdown_write(cx)),
        29 if rng.chance(100) => host.call(|tcb, cx| tcb.shutdown_read(cx)),
        30 if rng.chance(100) => drop(host.close()),
        31 if rng.chance(20) => drop(host.call(|tcb, cx| tcb.abort(cx))),
        32 => host.complete(),
        33 => {
            let error = [
                ErrorKind::FragmentationNeeded { mtu: rng.next() as u16 },
                ErrorKind::Unreachable(Unreachable::Host),
                ErrorKind::Unreachable(Unreachable::TimeExceeded),
            ][rng.below(3) as usize];
            let seq = near(rng, &[host.tcb.snd.una, host.tcb.snd.nxt]);
            let _ = host.call(|tcb, cx| tcb.on_icmp_error(cx, error, seq));
        }
        34 => {
            host.config.nodelay = rng.chance(500);
            host.config.recv_buffer_bytes = [500, 5_000, 100_000][rng.below(3) as usize];
            host.call(|tcb, cx| tcb.on_config_change(cx));
        }
        35 => host.pool.left = [0, 3, 1_000][rng.below(3) as usize],
        _ => {
            host.now += Duration::from_millis(rng.below(500));
            let _ = host.tick();
        }
    }
}

fn any_host(rng: &mut Rng) -> Host {
    let keepalive = Keepalive { time: Duration::from_secs(2), interval: Duration::from_secs(1), retries: 3 };
    let config = Config {
        timestamps: rng.chance(500),
        sack: rng.chance(500),
        window_scale: rng.chance(500).then_some(rng.below(15) as u8),
        keepalive: rng.chance(300).then_some(keepalive),
        user_timeout: rng.chance(200).then_some(Duration::from_secs(20)),
        recv_buffer_bytes: [600, 20_000, 1 << 20][rng.below(3) as usize],
        reassembly_segs: [0, 2, 100][rng.below(3) as usize],
        recv_buffer_segs: [0, 2, 100][rng.below(3) as usize],
        send_buffer_bytes: [0, 3_000, 50_000][rng.below(3) as usize],
        linger: rng.chance(100).then_some(Duration::ZERO),
        ..plain()
    };
    let syn = peer_syn().scale(3).stamp(50, 0).sack_permitted();
    let mut host = match rng.below(4) {
        0 => Host::accept(&config, ISS.0, &syn),
        1 => Host::connect(&config, ISS.0),
        _ => {
            let mut host = Host::connect(&config, ISS.0);
            host.transmit();
            host.exchange(&peer_syn_ack().sack_permitted().scale(3).stamp(50, host.tcb.ts_now(host.now)));
            assert_eq!(host.state(), State::Established);
            host
        }
    };
    host.completion = if rng.chance(500) { Completion::AtOnce } else { Completion::Later };
    host
}

fn check(host: &Host, seed: u64) {
    let tcb = &host.tcb;
    let cold = host.cold.get(tcb.cold);
    assert_eq!(host.cold.in_use(), usize::from(!tcb.cold.is_none()), "seed {seed}: a lost slot");
    if let Some(cold) = cold {
        cold.send.check();
        assert!(!cold.is_idle(), "seed {seed}: an idle connection keeps its cold part");
        let held = cold.reassembly.segs() > 0;
        assert!(!held || tcb.flags.has(Bits::HOLES), "seed {seed}");
        assert!(cold.reassembly.first().is_none_or(|first| first.after(tcb.rcv.nxt)), "seed {seed}");
    }
    assert!(tcb.rcv_wnd() <= 0xffff << 14 && tcb.flight() < 1 << 30, "seed {seed}: {tcb:?}");
    assert!(tcb.state() != State::Closed || tcb.delack_at == Instant::MAX);
    // Something unacknowledged always has a timer, or it waits for ever.
    let waits = tcb.flight() > 0 && tcb.state() != State::Closed;
    assert!(!waits || tcb.next_timer().is_some(), "seed {seed}: nobody watches: {tcb:?}");
}

#[test]
fn anything_may_arrive_and_be_asked_at_any_time() {
    let mut reached: Vec<State> = Vec::new();
    for seed in 0..4000 {
        let mut rng = Rng(seed);
        let mut host = any_host(&mut rng);
        for _ in 0..150 {
            let mut answers = 0;
            if rng.chance(600) {
                let wire = any_wire(&mut rng, &host);
                let _ = host.deliver(&wire);
            } else {
                any_call(&mut rng, &mut host);
            }
            check(&host, seed);
            if rng.chance(800) {
                answers += host.transmit().len();
                check(&host, seed);
            }
            assert!(answers < 3_000, "seed {seed}: a storm");
            if !reached.contains(&host.state()) {
                reached.push(host.state());
            }
        }
        // Whatever happened, it comes to an end once the application has left.
        host.completion = Completion::AtOnce;
        host.complete();
        host.close();
        for _ in 0..5_000 {
            if host.tcb.next_timer().is_none() {
                break;
            }
            host.run_timer();
        }
        assert!(host.tcb.is_closed(), "seed {seed}: {:?}", host.tcb);
        assert_eq!(host.cold.in_use(), 0, "seed {seed}");
    }
    assert_eq!(reached.len(), STATES.len(), "{reached:?}");
}

#[test]
fn two_stacks_never_answer_each_other_for_ever() {
    // Two halves of different connections: everything each says is unacceptable to the other.
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let mut ours = established(&plain());
        let mut theirs = established(&plain());
        theirs.tcb.rcv.nxt = ISS + 1 + rng.next() as u32;
        theirs.tcb.rcv.adv = theirs.tcb.rcv.nxt + 1_000;
        theirs.edge = None;
        theirs.tcb.snd.una = SeqNum(rng.next() as u32);
        theirs.tcb.snd.nxt = theirs.tcb.snd.una;
        let mut flying = std::vec![Wire::new(ACK, SeqNum(rng.next() as u32), SeqNum(rng.next() as u32))];
        let mut turns = 0;
        while !flying.is_empty() {
            let answers: Vec<Wire> = flying.iter().flat_map(|wire| ours.exchange(wire)).collect();
            flying = answers.iter().flat_map(|wire| theirs.exchange(wire)).collect();
            turns += 1;
            assert!(turns < 4, "seed {seed}: ping-pong");
        }
    }
}
