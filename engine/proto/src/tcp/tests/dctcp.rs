//! DCTCP (RFC 8257) in a connection: what is echoed, what is marked as ours to be marked, what a mark costs.

use ringwire_wire::tcp::Flags;
use std::vec::Vec;

use super::host::{Host, Wire};
use super::script::*;
use crate::tcp::{Algorithm, Codepoint, Config, Ecn, TransmitKind};

const ECE: Flags = Flags::ECE;
const CWR: Flags = Flags::CWR;

fn config() -> Config {
    Config { congestion: Algorithm::Dctcp, ..plain() }
}

fn with(mut wire: Wire, flags: Flags) -> Wire {
    wire.header.flags |= flags;
    wire
}

fn agreed(config: &Config) -> Host {
    established_by(config, &with(peer_syn_ack(), ECE))
}

/// Segments of 1000 bytes arrive in one batch, marked or not; the acknowledgements, in segments, and whether they tell of a mark.
fn batch(host: &mut Host, first: u32, marks: &[bool]) -> Vec<(u32, bool)> {
    for (n, is_marked) in (first..).zip(marks) {
        let segment = peer(ACK, n * 1000, 0).text(&[1; 1000]);
        let _ = host.deliver(&if *is_marked { segment.marked() } else { segment });
    }
    let acks = host.transmit();
    assert!(acks.iter().all(|wire| wire.payload.is_empty()));
    acks.iter().map(|wire| (wire.ack().distance(IRS + 1) / 1000, wire.has(ECE))).collect()
}

#[test]
fn each_run_of_marked_and_unmarked_segments_is_acknowledged_apart() {
    let mut host = agreed(&config());
    let (x, o) = (true, false);
    assert_eq!(batch(&mut host, 0, &[o, o, x, x, x, o]), [(2, o), (5, x), (6, o)]);
    assert_eq!(batch(&mut host, 6, &[x, o, x, o]), [(7, x), (8, o), (9, x), (10, o)]);
    assert_eq!(batch(&mut host, 10, &[x, x, x, x]), [(14, x)], "no change, no acknowledgement of its own");
    // A change on the first of a batch has nothing before it to be told of apart.
    assert_eq!(batch(&mut host, 14, &[o, o]), [(16, o)]);
}

#[test]
fn a_change_of_marks_ends_the_delay_of_an_acknowledgement() {
    // RFC 8257 3.2: at once, though it is only one segment; and the one that waited as it was.
    let mut host = agreed(&config());
    assert_eq!(batch(&mut host, 0, &[false]), [], "delayed");
    assert_eq!(batch(&mut host, 1, &[true]), [(1, false), (2, true)]);
    assert_eq!(batch(&mut host, 2, &[true]), [], "delayed");
    assert_eq!(batch(&mut host, 3, &[false]), [(3, true), (4, false)]);
    assert_eq!(host.tcb.next_timer(), None, "nothing is owed");
}

#[test]
fn the_window_of_an_earlier_acknowledgement_takes_nothing_back() {
    // With a scale whose unit no segment fills.
    let config = Config { window_scale: Some(7), ..config() };
    let mut host = established_by(&config, &with(peer_syn_ack().scale(7), ECE));
    let mut edge = IRS;
    for batch in 0..20 {
        for n in 0..5 {
            let segment = peer(ACK, (batch * 5 + n) * 1001, 0).text(&[1; 1001]);
            let _ = host.deliver(&if n % 2 == 1 { segment.marked() } else { segment });
        }
        let acks = host.transmit();
        assert!(acks.len() >= 5, "{acks:?}");
        for wire in acks {
            let right = wire.ack() + (u32::from(wire.header.window) << 7);
            assert!(edge.before_eq(right) || edge == IRS, "{edge:?} {right:?} {wire:?}");
            edge = right;
        }
    }
}

#[test]
fn more_changes_than_are_kept_are_told_of_with_their_neighbours() {
    let mut host = agreed(&config());
    let marks: Vec<bool> = (0..60).map(|n| n % 2 == 1).collect();
    let acks = batch(&mut host, 0, &marks);
    assert_eq!(acks.len(), 32);
    assert_eq!(acks.last(), Some(&(60, true)));
    for (n, is_marked) in &acks[..20] {
        assert_eq!(*is_marked, n % 2 == 0, "the first ones are as they were: {acks:?}");
    }
    assert_eq!(batch(&mut host, 60, &[true]), [], "and nothing is left over");
}

#[test]
fn a_mark_is_told_of_out_of_order_too_and_cwr_ends_nothing() {
    let mut host = agreed(&config());
    let early = host.exchange(&peer(ACK, 1000, 0).text(&[1; 1000]).marked());
    assert!(early.iter().all(|wire| wire.has(ECE) && wire.ack() == IRS + 1), "{early:?}");
    let filled = host.exchange(&with(peer(ACK, 0, 0).text(&[1; 1000]), CWR).marked());
    assert!(one(filled).has(ECE), "as it came, whatever the peer has heard");
}

#[test]
fn a_segment_that_is_dropped_or_has_no_text_says_nothing_of_marks() {
    let mut host = agreed(&config());
    assert_eq!(batch(&mut host, 0, &[false, false]), [(2, false)]);
    let again = host.exchange(&peer(ACK, 0, 0).text(&[1; 1000]).marked());
    assert!(again.iter().all(|wire| !wire.has(ECE)), "a duplicate");
    host.exchange(&peer(ACK, 2000, 0).marked());
    assert_eq!(batch(&mut host, 2, &[false, false]), [(4, false)], "a bare ACK");
}

#[test]
fn everything_may_be_marked() {
    // RFC 8257 3.6 and Linux: SYN, retransmissions, bare ACKs, FIN, RST.
    let mut host = Host::connect(&config(), ISS.0);
    let syn = one(host.transmit());
    assert!(syn.has(ECE | CWR) && syn.ecn == Codepoint::Ect0);
    let again = one(host.run_timer());
    assert!(!again.has(ECE) && again.ecn == Codepoint::NotEct, "asking no more, it may not be");
    let mut host = Host::accept(&config(), ISS.0, &with(peer_syn(), ECE | CWR));
    assert_eq!(one(host.transmit()).ecn, Codepoint::Ect0, "SYN-ACK");

    let mut host = agreed(&config());
    assert_eq!(one(host.write(&[1; 500])).ecn, Codepoint::Ect0);
    let again = host.run_timer();
    assert!(again.iter().any(|wire| wire.kind == TransmitKind::Retransmission));
    assert!(again.iter().all(|wire| wire.ecn == Codepoint::Ect0), "{again:?}");
    let ack = one(host.exchange(&peer(ACK, 5, 500).text(b"early")));
    assert_eq!((ack.kind, ack.ecn), (TransmitKind::Ack, Codepoint::Ect0));
    assert!(host.shutdown_write().iter().all(|wire| wire.ecn == Codepoint::Ect0));
    let _ = host.call(|tcb, cx| tcb.abort(cx));
    let reset = one(host.transmit());
    assert_eq!((reset.kind, reset.ecn), (TransmitKind::Reset, Codepoint::Ect0));
}

#[test]
fn a_mark_costs_by_how_much_was_marked_and_once_for_a_window() {
    let mut host = agreed(&config());
    host.tcb.window = crate::tcp::Window { cwnd: 10_000, ssthresh: 10_000 };
    host.write(&[1; 200_000]);
    // Eight windows without a mark: alpha is a little over a half.
    let mut acked = 0;
    for _ in 0..8 {
        let end = host.tcb.snd.nxt.distance(ISS + 1);
        while acked < end {
            acked += 1000;
            host.exchange(&peer(ACK, 0, acked));
        }
    }
    let before = host.tcb.window.cwnd;
    let sent = host.exchange(&with(peer(ACK, 0, acked + 1000), ECE));
    let after = host.tcb.window.cwnd;
    assert!((before * 67 / 100..before * 78 / 100).contains(&after), "{before} {after}");
    assert!(sent.len() <= 1 && host.totals.incidents().retransmits == 0);
    let mut told = 0;
    let end = host.tcb.snd.nxt.distance(ISS + 1);
    while acked + 1000 < end {
        acked += 1000;
        told += host.exchange(&with(peer(ACK, 0, acked), ECE)).iter().filter(|wire| wire.has(CWR)).count();
    }
    assert!(host.tcb.window.cwnd >= after, "once for each window of data");
    assert_eq!(told, 1, "RFC 3168 6.1.2: CWR, for a receiver that waits for it");
}

#[test]
fn what_was_marked_is_not_forgotten_while_nothing_is_out() {
    let mut host = agreed(&config());
    let mut acked = 0;
    for _ in 0..60 {
        acked += 500;
        host.write(&[1; 500]);
        host.exchange(&peer(ACK, 0, acked));
    }
    host.tcb.window.cwnd = 10_000;
    host.write(&[1; 10_000]);
    host.exchange(&with(peer(ACK, 0, acked + 1000), ECE));
    assert!(host.tcb.window.cwnd > 9_500, "alpha has fallen: {}", host.tcb.window.cwnd);
    host.exchange(&peer(ACK, 0, acked + 10_000));
    assert_eq!(host.cold.in_use(), 1);
    // Another algorithm has no use for it.
    host.config.congestion = Algorithm::NewReno;
    host.write(&[1; 500]);
    host.exchange(&peer(ACK, 0, acked + 10_500));
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn without_an_agreement_it_is_newreno() {
    for (config, syn_ack) in
        [(config(), peer_syn_ack()), (Config { ecn: Ecn::Off, ..config() }, with(peer_syn_ack(), ECE))]
    {
        let mut host = established_by(&config, &syn_ack);
        host.tcb.window.cwnd = 10_000;
        let sent = host.write(&[1; 20_000]);
        assert!(sent.iter().all(|wire| wire.ecn == Codepoint::NotEct));
        host.exchange(&with(peer(ACK, 0, 1000), ECE));
        assert_eq!(host.tcb.window.cwnd, 11_000, "ECE means nothing");
        host.tcb.window.cwnd = 10_000;
        host.write(&[1; 1000]);
        for _ in 0..3 {
            host.exchange(&peer(ACK, 0, 1000));
        }
        assert!(
            (4000..=6000).contains(&host.tcb.window.ssthresh),
            "a loss is a loss: {}",
            host.tcb.window.ssthresh
        );
    }
    let mut host = Host::connect(&Config { ecn: Ecn::Off, ..config() }, ISS.0);
    let syn = one(host.transmit());
    assert!(!syn.has(ECE) && syn.ecn == Codepoint::NotEct, "off means off");
}
