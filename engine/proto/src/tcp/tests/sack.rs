//! Selective acknowledgement, both sides (RFC 2018, RFC 6675).

use core::time::Duration;
use std::vec::Vec;

use ringwire_wire::tcp::SackBlocks;

use super::host::{Host, Wire};
use super::script::*;
use crate::DropReason;
use crate::SeqNum;
use crate::tcp::tcb::Timer;
use crate::tcp::{Config, CongestionPhase, TransmitKind};

const ROUND_TRIP: Duration = Duration::from_millis(10);

fn sack_config() -> Config {
    Config { sack: true, ..plain() }
}

fn sacking(config: &Config) -> Host {
    established_by(config, &peer_syn_ack().sack_permitted())
}

/// A host with this many segments in flight, and as many more as `queued` waiting.
fn in_flight(segs: u32, queued: u32) -> Host {
    let mut host = sacking(&sack_config());
    host.tcb.window.cwnd = segs * 1000;
    host.tcb.window.ssthresh = segs * 1000;
    assert_eq!(host.write(&std::vec![1; (segs + queued) as usize * 1000]).len(), segs as usize);
    // What arrives does so a round trip later.
    host.now += ROUND_TRIP;
    host
}

/// An ACK of `una` segments that has these segments, `[from, to)`, out of order.
fn ack(host: &mut Host, una: u32, blocks: &[(u32, u32)]) -> Vec<(u32, bool)> {
    let at = |seg: u32| ISS + 1 + seg.wrapping_mul(1000);
    let wire = blocks.iter().fold(peer(ACK, 0, una * 1000), |wire, &(from, to)| wire.sack(at(from), at(to)));
    let sent = host.exchange(&wire);
    sent.iter()
        .map(|wire| (wire.seq().distance(ISS + 1) / 1000, wire.kind == TransmitKind::Retransmission))
        .collect()
}

/// Lets timers fire until the RTO has.
fn time_out(host: &mut Host) {
    while phase(host) != CongestionPhase::Loss {
        host.run_timer();
    }
}

/// The blocks of the one segment sent, in bytes after the peer's SYN.
fn blocks(sent: Vec<Wire>) -> Vec<(u32, u32)> {
    let at = |seq: u32| SeqNum(seq).distance(IRS + 1);
    one(sent).options.sack.as_slice().iter().map(|&(left, right)| (at(left), at(right))).collect()
}

fn phase(host: &mut Host) -> CongestionPhase {
    host.call(|tcb, cx| tcb.info(cx)).congestion
}

#[test]
fn both_syns_must_permit_it() {
    for (ours, theirs) in [(true, true), (true, false), (false, true), (false, false)] {
        let config = Config { sack: ours, ..plain() };
        let permit = |wire: Wire| if theirs { wire.sack_permitted() } else { wire };
        let mut active = Host::connect(&config, ISS.0);
        assert_eq!(one(active.transmit()).options.sack_permitted, ours);
        active.exchange(&permit(peer_syn_ack()));
        let mut passive = Host::accept(&config, ISS.0, &permit(peer_syn()));
        assert_eq!(one(passive.transmit()).options.sack_permitted, ours && theirs);
        passive.exchange(&peer(ACK, 0, 0));
        for host in [&mut active, &mut passive] {
            assert_eq!(blocks(host.exchange(&peer(ACK, 5, 0).text(b"x"))).is_empty(), !(ours && theirs));
        }
    }
}

#[test]
fn the_block_that_changed_last_comes_first_and_blocks_that_meet_are_one() {
    // RFC 2018 4
    let mut host = sacking(&sack_config());
    let mut early = |seq, text: &[u8]| blocks(host.exchange(&peer(ACK, seq, 0).text(text)));
    assert_eq!(early(10, b"12345"), [(10, 15)]);
    assert_eq!(early(30, b"12345"), [(30, 35), (10, 15)]);
    assert_eq!(early(20, b"12345"), [(20, 25), (30, 35), (10, 15)]);
    assert_eq!(early(35, b"12345"), [(30, 40), (20, 25), (10, 15)]);
    assert_eq!(early(50, b"1"), [(50, 51), (30, 40), (20, 25), (10, 15)]);
    // A fifth pushes the oldest out.
    assert_eq!(early(60, b"1"), [(60, 61), (50, 51), (30, 40), (20, 25)]);
    assert_eq!(early(25, b"12345"), [(20, 40), (60, 61), (50, 51)]);
    // What is delivered is no block any more.
    // (10, 15) was forgotten, so it is not joined.
    assert_eq!(early(15, &[7; 5]), [(15, 40), (60, 61), (50, 51)]);
    assert_eq!(early(0, &[7; 10]), [(60, 61), (50, 51)]);
    assert_eq!(host.read().len(), 40);
    assert_eq!(blocks(host.exchange(&peer(ACK, 40, 0).text(&[7; 10]))), [(60, 61)]);
    assert_eq!(host.deliver(&peer(ACK, 51, 0).text(&[7; 9])).drop, None);
    assert_eq!(blocks(host.transmit()), []);
}

#[test]
fn what_is_given_up_is_not_claimed() {
    let mut host = sacking(&Config { reassembly_segs: 2, ..sack_config() });
    assert_eq!(blocks(host.exchange(&peer(ACK, 40, 0).text(b"12345"))), [(40, 45)]);
    assert_eq!(blocks(host.exchange(&peer(ACK, 45, 0).text(b"12345"))), [(40, 50)]);
    assert_eq!(blocks(host.exchange(&peer(ACK, 20, 0).text(b"1"))), [(20, 21), (40, 45)]);
    assert_eq!(blocks(host.exchange(&peer(ACK, 10, 0).text(b"1"))), [(10, 11), (20, 21)]);
    assert_eq!(
        blocks(host.refuse(&peer(ACK, 60, 0).text(b"1"), DropReason::TcpReassemblyFull)),
        [(10, 11), (20, 21)]
    );
    // Of a piece that overlaps one held, only the first gap is kept.
    let mut host = sacking(&sack_config());
    host.exchange(&peer(ACK, 10, 0).text(b"1"));
    assert_eq!(blocks(host.exchange(&peer(ACK, 5, 0).text(&[2; 20]))), [(5, 11)]);
}

#[test]
fn data_carries_blocks_only_where_they_fit_the_segment() {
    let mut host = sacking(&sack_config());
    host.exchange(&peer(ACK, 10, 0).text(b"1"));
    assert_eq!(blocks(host.write(&[1; 964])), [(10, 11)]);
    host.exchange(&peer(ACK, 0, 964));
    assert_eq!(blocks(host.write(&[1; 965])), []);
}

#[test]
fn three_segments_above_a_hole_retransmit_it_and_nothing_else() {
    // RFC 6675 4, IsLost
    let mut host = in_flight(10, 0);
    assert_eq!(ack(&mut host, 0, &[(1, 2)]), []);
    assert_eq!(ack(&mut host, 0, &[(1, 3)]), []);
    assert_eq!(ack(&mut host, 0, &[(1, 4)]), [(0, true)]);
    assert_eq!(phase(&mut host), CongestionPhase::Recovery);
    // RFC 6937 3: six are in the network, and one went.
    assert_eq!((host.tcb.window.cwnd, host.tcb.window.ssthresh), (7000, 5000));
    assert_eq!(ack(&mut host, 4, &[]), []);
    assert_eq!(ack(&mut host, 10, &[]), []);
    assert_eq!((phase(&mut host), host.totals.incidents().retransmits), (CongestionPhase::Open, 1));
    assert_eq!(host.tcb.window.cwnd, 5000);
}

#[test]
fn several_holes_are_repaired_in_one_round_trip_and_one_reduction() {
    let mut host = in_flight(10, 0);
    // 0, 3 and 5 are lost. Half the window still is in the network.
    assert_eq!(ack(&mut host, 0, &[(1, 3)]), []);
    assert_eq!(ack(&mut host, 0, &[(4, 5), (1, 3)]), [(0, true)]);
    assert_eq!(ack(&mut host, 0, &[(6, 8), (4, 5), (1, 3)]), [(3, true), (5, true)]);
    assert_eq!(ack(&mut host, 0, &[(6, 10), (4, 5), (1, 3)]), []);
    assert_eq!(ack(&mut host, 3, &[(6, 10), (4, 5)]), []);
    assert_eq!(ack(&mut host, 10, &[]), []);
    assert_eq!(
        (phase(&mut host), host.totals.incidents().retransmits, host.tcb.window.ssthresh),
        (CongestionPhase::Open, 3, 5000)
    );
}

#[test]
fn reordering_by_two_is_no_loss() {
    let mut host = in_flight(10, 0);
    for una in 0..5 {
        assert_eq!(ack(&mut host, una, &[(una + 1, una + 2)]), []);
        assert_eq!(ack(&mut host, una, &[(una + 1, una + 3)]), []);
    }
    assert_eq!(ack(&mut host, 10, &[]), []);
    assert_eq!((host.totals.incidents().retransmits, phase(&mut host)), (0, CongestionPhase::Open));
}

#[test]
fn each_arrival_lets_new_data_go() {
    // RFC 3042, and the pipe of RFC 6675
    let mut host = in_flight(4, 10);
    assert_eq!(ack(&mut host, 0, &[(1, 2)]), [(4, false)]);
    assert_eq!(ack(&mut host, 0, &[(1, 3)]), [(5, false)]);
    assert_eq!(ack(&mut host, 0, &[(1, 4)]), [(0, true)]);
}

#[test]
fn with_few_segments_out_less_evidence_suffices_after_a_while() {
    // RFC 8985 6.2, step 5, and 6.3: a quarter of the round trip later.
    for segs in 2..=3 {
        let mut host = in_flight(segs, 0);
        assert_eq!(ack(&mut host, 0, &[(1, segs)]), []);
        let before = host.now;
        assert_eq!(host.run_timer().len(), 1, "{segs}");
        assert!(
            (1..=2_500_000).contains(&host.now.nanos_since(before)),
            "at most a quarter of the round trip"
        );
        assert_eq!((phase(&mut host), host.totals.incidents().retransmits), (CongestionPhase::Recovery, 1));
    }
}

#[test]
fn duplicates_without_news_are_ignored() {
    // Savage 1999
    let mut host = in_flight(10, 10);
    for _ in 0..20 {
        assert_eq!(ack(&mut host, 0, &[]), []);
    }
    assert_eq!(ack(&mut host, 0, &[(5, 6)]), [(10, false)]);
    for _ in 0..20 {
        assert_eq!(ack(&mut host, 0, &[(5, 6)]), []);
    }
    assert_eq!(host.totals.incidents().retransmits, 0);
}

#[test]
fn blocks_that_cannot_be_are_ignored() {
    // CVE-2019-11477 and its kin: below SND.UNA (DSACK), beyond SND.NXT, wrapping.
    let mut host = in_flight(10, 0);
    ack(&mut host, 2, &[]);
    let flight = host.tcb.flight();
    for (left, right) in [(0, 1), (1, 3), (2, 3), (9, 11), (11, 12), (5, 3_000_000)] {
        assert_eq!(ack(&mut host, 2, &[(left, right)]), []);
    }
    let part = peer(ACK, 0, 2000).sack(ISS + 1 + 3_001, ISS + 1 + 3_999);
    assert_eq!(host.exchange(&part), [], "a record is SACKed as a whole");
    let cold = host.cold.get(host.tcb.cold).expect("in flight");
    assert_eq!((cold.send.sacked_bytes(), host.tcb.flight()), (0, flight));
}

#[test]
fn without_the_agreement_blocks_mean_nothing() {
    let mut host = established(&plain());
    host.write(&[1; 10_000]);
    for to in 2..10 {
        // No duplicate ACKs either: the window moves.
        let wire = peer(ACK, 0, 0).sack(ISS + 1001, ISS + 1 + to * 1000).window(50_000 + to as u16);
        assert_eq!(host.exchange(&wire), []);
    }
}

#[test]
fn a_lost_retransmission_is_found_by_what_left_after_it() {
    let mut host = in_flight(6, 20);
    for to in 2..6 {
        ack(&mut host, 0, &[(1, to)]);
    }
    assert_eq!(host.totals.incidents().retransmits, 1);
    // New data that left after the retransmission arrives, the hole stays.
    let mut resent = 0;
    for to in 6..16 {
        host.now += ROUND_TRIP;
        let sent = ack(&mut host, 0, &[(1, to)]);
        resent += sent.iter().filter(|&&(seg, again)| seg == 0 && again).count();
    }
    assert!((1..=4).contains(&resent), "{resent}");
    assert_eq!(phase(&mut host), CongestionPhase::Recovery);
}

#[test]
fn loss_of_data_sent_during_recovery_is_a_new_episode() {
    let mut host = in_flight(10, 40);
    ack(&mut host, 0, &[(1, 2)]);
    ack(&mut host, 0, &[(1, 3)]);
    assert_eq!(ack(&mut host, 0, &[(1, 4)]).last(), Some(&(0, true)));
    let first = host.tcb.window.ssthresh;
    // Everything of the first window arrives; of what followed, 12 is missing.
    let recover = host.tcb.flight() / 1000;
    assert_eq!(recover, 12);
    host.now += ROUND_TRIP;
    ack(&mut host, 0, &[(1, 12)]);
    let sent = ack(&mut host, 12, &[]);
    host.now += ROUND_TRIP;
    assert!(sent.iter().all(|&(seg, again)| seg >= 12 && !again));
    let sent = ack(&mut host, 12, &[(13, 16)]);
    assert!(sent.contains(&(12, true)), "{sent:?}");
    assert!(host.tcb.window.ssthresh < first);
}

#[test]
fn after_a_timeout_nothing_said_before_counts() {
    // RFC 2018 8: the receiver may have given up what it held.
    let mut host = in_flight(4, 0);
    ack(&mut host, 0, &[(2, 3)]);
    time_out(&mut host);
    assert_eq!(ack(&mut host, 1, &[]), [(1, true), (2, true)]);
    // Said again, it counts again.
    let mut host = in_flight(4, 0);
    ack(&mut host, 0, &[(2, 3)]);
    time_out(&mut host);
    assert_eq!(ack(&mut host, 1, &[(2, 3)]), [(1, true), (3, true)]);
}

/// The worst a peer can report (CVE-2019-11478): how many records each of its ACKs has looked at, all but those judged for the first time.
fn costs(reports: impl Iterator<Item = [(u32, u32); 3]>) -> (Host, usize) {
    const SEGS: u32 = 1000;
    let config = Config { window_scale: Some(7), send_buffer_bytes: 4 << 20, ..sack_config() };
    let mut host = established_by(&config, &peer_syn_ack().sack_permitted().scale(7));
    host.exchange(&peer(ACK, 0, 0));
    (host.tcb.window.cwnd, host.tcb.window.ssthresh) = (SEGS * 1000, SEGS * 1000);
    assert_eq!(host.write(&std::vec![1; SEGS as usize * 1000]).len(), SEGS as usize);
    host.now += ROUND_TRIP;
    let mut most = 0;
    let mut judged = 0;
    for blocks in reports {
        let before = visits(&host);
        ack(&mut host, 0, &blocks);
        host.cold.get(host.tcb.cold).expect("in flight").send.check();
        let farthest = blocks.iter().map(|block| block.1 as usize).max().unwrap_or(0);
        let news = farthest.saturating_sub(judged);
        judged += news;
        most = most.max((visits(&host) - before).saturating_sub(news));
    }
    (host, most)
}

fn visits(host: &Host) -> usize {
    host.cold.get(host.tcb.cold).expect("in flight").send.visits
}

/// Two for each block, the 32 at the front, and the end of each walk.
const VISITS: usize = 3 * 2 + 32 + 2;

#[test]
fn alternating_holes_cost_no_more_than_they_are() {
    let hole = |n: u32| (1 + 2 * (n % 499), 2 + 2 * (n % 499));
    let (mut host, most) = costs((0..1000).map(|n| [hole(n), hole(n + 167), hole(n + 333)]));
    assert!(most <= VISITS, "{most} records for one ACK");
    assert!(host.totals.incidents().retransmits > 0);
    ack(&mut host, 1000, &[]);
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn blocks_that_grow_cost_what_they_add() {
    let (_, most) = costs((2..300).map(|n| [(1, n), (301, 300 + n), (601, 600 + n)]));
    assert!(most <= VISITS, "{most} records for one ACK");
}

#[test]
fn a_keepalive_without_text_is_no_duplicate() {
    let config = Config { sack: true, ..plain() };
    let mut host = established_by(&config, &peer_syn_ack().sack_permitted());
    host.exchange(&peer(ACK, 0, 0).text(b"text"));
    host.run_timer();
    let answer = one(host.exchange(&peer(ACK, 3, 0)));
    assert_eq!(answer.options.sack, SackBlocks::default());
    let answer = one(host.exchange(&peer(ACK, 3, 0).text(b"t")));
    assert_ne!(answer.options.sack, SackBlocks::default(), "a byte of it is one");
}

#[test]
fn a_timeout_leaves_what_has_just_left_in_flight() {
    // RFC 8985 6.3: the first segment, and what is as old as a round trip and the reordering window.
    let mut host = in_flight(4, 0);
    host.now += Duration::from_millis(100);
    ack(&mut host, 1, &[]);
    host.tcb.window.cwnd = 20_000;
    host.now = host.tcb.next_timer().unwrap();
    while host.tcb.timer != Timer::Retransmit {
        host.run_timer();
    }
    host.now = host.tcb.next_timer().unwrap() - Duration::from_millis(1);
    let young = host.write(&[1; 3000]).len();
    assert_eq!(young, 3);
    host.run_timer();
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!((info.congestion, info.lost_bytes), (CongestionPhase::Loss, 3000));
    assert_eq!(info.unacked_bytes, 6000);
}

/// RFC 8985 6.3: so it is after a pause, for RACK.rtt is the path's.
#[test]
fn a_timeout_after_a_pause_leaves_what_has_just_left_in_flight_too() {
    let mut host = in_flight(4, 0);
    host.now += Duration::from_millis(100);
    ack(&mut host, 4, &[]);
    assert_eq!(host.cold.in_use(), 0, "idle");
    host.tcb.window.cwnd = 20_000;
    host.write(&[1; 3000]);
    while host.tcb.timer != Timer::Retransmit {
        host.run_timer();
    }
    host.now = host.tcb.next_timer().unwrap() - Duration::from_millis(1);
    assert_eq!(host.write(&[1; 2000]).len(), 2);
    host.run_timer();
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!((info.congestion, info.lost_bytes), (CongestionPhase::Loss, 3000));
    assert_eq!(info.unacked_bytes, 5000);
}

#[test]
fn marks_of_long_ago_are_dropped_before_they_would_lie_ahead() {
    let mut host = in_flight(10, 20);
    let marks = |host: &mut Host| host.call(|tcb, cx| cx.cold.get(tcb.cold).unwrap().recovery.limited_to);
    let limited_to = marks(&mut host).expect("the window kept data back");
    // Two gigabytes further on, without the work: the connection has moved, the mark has not.
    let una = limited_to + (1 << 30);
    host.call(|tcb, cx| cx.cold.get_mut(tcb.cold).unwrap().recovery.retire_marks(una));
    assert_eq!(marks(&mut host), None);
}

#[test]
fn a_mark_that_una_passes_is_dropped_once_in_a_quarter_of_the_numbers() {
    // The numbers wrap behind the first 15 bytes.
    let mut host = sacking(&Config { nodelay: true, ..sack_config() });
    let small_end = |host: &mut Host| host.call(|tcb, cx| cx.cold.get(tcb.cold).unwrap().recovery.small_end);
    host.write(&[1; 10]);
    host.write(&[1; 3000]);
    host.exchange(&peer(ACK, 0, 10));
    assert_eq!(small_end(&mut host), Some(ISS + 11), "still in its quarter");
    host.exchange(&peer(ACK, 0, 1010));
    assert_eq!(small_end(&mut host), None);
}

#[test]
fn an_acknowledgement_that_moves_on_says_what_lies_ahead_too() {
    let mut host = in_flight(6, 0);
    ack(&mut host, 1, &[(3, 4)]);
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!((info.sacked_bytes, info.unacked_bytes), (1000, 5000));
}

/// RFC 6937 3: above the threshold half of what arrives is sent; below it, RFC 9937 6, two segments for one that shows that the repair
/// gets on.
#[test]
fn recovery_sends_half_of_what_arrives_and_more_only_while_holes_are_filled() {
    let mut host = in_flight(20, 20);
    let mut sent = 0;
    for to in 2..=10 {
        sent += ack(&mut host, 0, &[(1, to)]).len();
    }
    assert_eq!(sent, 5);
    let mut host = in_flight(20, 20);
    for to in 15..=20 {
        ack(&mut host, 0, &[(14, to)]);
    }
    host.now += ROUND_TRIP;
    assert_eq!(ack(&mut host, 0, &[(20, 21), (14, 20)]).len(), 1);
    assert_eq!(ack(&mut host, 1, &[(14, 20)]).len(), 2);
}
