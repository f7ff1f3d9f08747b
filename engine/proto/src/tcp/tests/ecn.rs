//! Explicit congestion notification (RFC 3168).

use std::vec::Vec;

use ringwire_wire::tcp::Flags;

use super::host::{Host, Wire};
use super::script::*;
use crate::tcp::{Codepoint, Config, CongestionPhase, Ecn, TransmitKind};

const CWR: Flags = Flags::CWR;

fn config(ecn: Ecn) -> Config {
    Config { ecn, sack: true, ..plain() }
}

/// An active connection that agreed.
fn agreed() -> Host {
    let mut host = Host::connect(&config(Ecn::Ask), ISS.0);
    host.transmit();
    let mut answer = peer_syn_ack().sack_permitted();
    answer.header.flags |= ECE;
    host.exchange(&answer);
    host
}

fn with(mut wire: Wire, flags: Flags) -> Wire {
    wire.header.flags |= flags;
    wire
}

#[test]
fn both_sides_must_agree() {
    // RFC 3168 6.1.1
    for (ours, asks, answers) in
        [(Ecn::Ask, true, true), (Ecn::Answer, false, true), (Ecn::Off, false, false)]
    {
        let mut active = Host::connect(&config(ours), ISS.0);
        assert_eq!(one(active.transmit()).has(ECE | CWR), asks, "{ours:?}");
        let mut passive = Host::accept(&config(ours), ISS.0, &with(peer_syn(), ECE | CWR));
        let answer = one(passive.transmit());
        assert_eq!((answer.has(ECE), answer.has(CWR)), (answers, false), "{ours:?}");
        // A SYN with one of the bits asks for nothing.
        let mut passive = Host::accept(&config(ours), ISS.0, &with(peer_syn(), ECE));
        assert!(!one(passive.transmit()).has(ECE));
    }
}

#[test]
fn a_repeated_syn_asks_no_more() {
    // RFC 3168 6.1.1.1: some path drops such SYNs.
    let mut host = Host::connect(&config(Ecn::Ask), ISS.0);
    host.transmit();
    let again = one(host.run_timer());
    assert!(!again.has(ECE) && !again.has(CWR));
    host.exchange(&with(peer_syn_ack(), ECE));
    assert!(host.write(&[1; 100]).iter().all(|wire| wire.ecn == Codepoint::NotEct));
}

#[test]
fn only_new_data_may_be_marked() {
    // RFC 3168 6.1.4 to 6.1.6
    let mut host = agreed();
    let sent = host.write(&[1; 3000]);
    assert!(sent.iter().all(|wire| wire.ecn == Codepoint::Ect0));
    let again = host.run_timer();
    assert!(again.iter().all(|wire| wire.kind == TransmitKind::Retransmission));
    assert!(again.iter().all(|wire| wire.ecn == Codepoint::NotEct), "retransmissions are not");
    let ack = host.exchange(&peer(ACK, 5, 0).text(b"early"));
    assert!(ack.iter().all(|wire| wire.ecn == Codepoint::NotEct), "nor are pure ACKs");
}

#[test]
fn a_mark_is_told_until_the_peer_has_heard() {
    // RFC 3168 6.1.3
    let mut host = agreed();
    let ack = |host: &mut Host, seq, flags| {
        let _ = host.deliver(&with(peer(ACK, seq, 0).text(&[1; 1000]), flags));
        let _ = host.deliver(&peer(ACK, seq + 1000, 0).text(&[1; 1000]));
    };
    ack(&mut host, 0, Flags::NONE);
    let _ = host.transmit();
    let _ = host.deliver(&peer(ACK, 2000, 0).text(&[1; 1000]).marked());
    let _ = host.deliver(&peer(ACK, 3000, 0).text(&[1; 1000]));
    assert!(one(host.transmit()).has(ECE), "one acknowledgement for both: there is no run to be kept apart");
    ack(&mut host, 4000, Flags::NONE);
    assert!(one(host.transmit()).has(ECE), "and on");
    ack(&mut host, 6000, CWR);
    assert!(!one(host.transmit()).has(ECE), "heard");
}

#[test]
fn an_echoed_mark_reduces_the_window_once_and_nothing_is_sent_again() {
    // RFC 3168 6.1.2
    let mut host = agreed();
    host.tcb.window.cwnd = 10_000;
    host.write(&[1; 30_000]);
    let sent = host.exchange(&with(peer(ACK, 0, 1000), ECE));
    let reduced = host.tcb.window;
    assert_eq!((reduced.cwnd, reduced.ssthresh), (5000, 5000));
    assert!(sent.is_empty() && host.totals.incidents().retransmits == 0);
    let phase = |host: &mut Host| host.call(|tcb, cx| tcb.info(cx)).congestion;
    assert_eq!(phase(&mut host), CongestionPhase::WindowReduced);
    for segs in 2..=9 {
        host.exchange(&with(peer(ACK, 0, segs * 1000), ECE));
    }
    assert_eq!(phase(&mut host), CongestionPhase::WindowReduced);
    assert!(host.tcb.window.cwnd >= 5000, "once for each window");
    // The first new data says so, and only that.
    let mut host = agreed();
    host.tcb.window.cwnd = 4000;
    host.write(&[1; 30_000]);
    host.exchange(&with(peer(ACK, 0, 1000), ECE));
    let mut told = 0;
    for segs in 2..=10 {
        told += host.exchange(&peer(ACK, 0, segs * 1000)).iter().filter(|wire| wire.has(CWR)).count();
    }
    assert_eq!(told, 1);
}

#[test]
fn marks_mean_nothing_where_they_were_not_agreed_on() {
    let mut host = established(&config(Ecn::Answer));
    host.tcb.window.cwnd = 10_000;
    host.write(&[1; 10_000]);
    let before = host.tcb.window.cwnd;
    host.exchange(&with(peer(ACK, 0, 1000), ECE));
    assert!(host.tcb.window.cwnd >= before);
    assert!(!one(host.exchange(&peer(ACK, 5, 1000).text(b"early").marked())).has(ECE));
}

#[test]
fn a_handshake_may_not_be_marked() {
    // RFC 3168 6.1.1: whatever it asks for.
    let mut active = Host::connect(&config(Ecn::Ask), ISS.0);
    let syn = one(active.transmit());
    assert!(syn.has(ECE | CWR) && syn.ecn == Codepoint::NotEct);
    let mut passive = Host::accept(&config(Ecn::Ask), ISS.0, &with(peer_syn(), ECE | CWR));
    let syn_ack = one(passive.transmit());
    assert!(syn_ack.has(ECE) && syn_ack.ecn == Codepoint::NotEct);
}

#[test]
fn a_mark_beside_a_loss_costs_nothing_more() {
    // RFC 3168 6.1.2
    let mut host = agreed();
    host.tcb.window.cwnd = 10_000;
    host.write(&[1; 30_000]);
    host.now += core::time::Duration::from_millis(10);
    host.exchange(&peer(ACK, 0, 0).sack(ISS + 1001, ISS + 4001));
    let reduced = host.tcb.window.ssthresh;
    assert_eq!(reduced, 5_000);
    // The peer repeats ECE until it hears of a reduction, which is the one for the loss.
    let mut sent = host.exchange(&with(peer(ACK, 0, 0).sack(ISS + 1001, ISS + 5001), ECE));
    sent.extend(host.exchange(&with(peer(ACK, 0, 10_000), ECE)));
    sent.extend(host.exchange(&with(peer(ACK, 0, 10_000), ECE)));
    assert_eq!(host.tcb.window.ssthresh, reduced);
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).congestion, CongestionPhase::Open);
    let told: Vec<u32> = sent.iter().filter(|wire| wire.has(CWR)).map(|wire| wire.header.seq).collect();
    assert_eq!(told, [(ISS + 10_001).0], "by the first new data, and once");
}

#[test]
fn a_loss_that_was_none_is_not_told_of() {
    let mut host = agreed();
    host.tcb.window.cwnd = 5000;
    host.write(&[1; 5000]);
    host.now += core::time::Duration::from_millis(10);
    let before = host.tcb.window.cwnd;
    host.exchange(&peer(ACK, 0, 0).sack(ISS + 1001, ISS + 4001));
    assert!(host.tcb.window.cwnd < before);
    // Both copies have arrived.
    host.exchange(&peer(ACK, 0, 4000).sack(ISS + 1, ISS + 1001));
    assert!(host.tcb.window.cwnd >= before);
    assert!(!one(host.write(&[1; 1000])).has(CWR));
}
