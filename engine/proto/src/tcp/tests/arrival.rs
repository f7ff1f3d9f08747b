//! The checks of segment arrival in every state (RFC 9293 3.10.7, RFC 5961, RFC 7323 5).

use core::time::Duration;

use super::host::{Host, Wire};
use super::script::*;
use crate::DropReason;
use crate::SeqNum;
use crate::tcp::{CloseReason, Config, Recv, Signals, State, reset_for};

/// Long enough for the challenge limit to pass.
const SECOND: Duration = Duration::from_secs(1);

const SYNCHRONISED: [State; 8] = [
    State::SynReceived,
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
];

#[test]
fn segments_outside_the_window_are_acknowledged_and_change_nothing() {
    for state in SYNCHRONISED {
        let mut host = in_state(state, &plain());
        let (seq, ours) = (peer_seq(state), our_seq(state));
        let edge = host.tcb.rcv_wnd() + seq;
        let cases = [
            (peer(ACK, edge + 1, ours).text(b"x"), DropReason::TcpOutOfWindow),
            (peer(ACK, edge + 1, ours), DropReason::TcpOutOfWindow),
            (peer(ACK, seq.wrapping_sub(2), ours).text(b"x"), DropReason::TcpDuplicate),
            (peer(ACK, seq.wrapping_sub(2), ours), DropReason::TcpDuplicate),
            (peer(FIN | ACK, edge + 2, ours), DropReason::TcpOutOfWindow),
            (peer(ACK, seq + 0x7fff_ffff, ours), DropReason::TcpOutOfWindow),
        ];
        for (wire, reason) in cases {
            host.now += SECOND;
            let outcome = host.deliver(&wire);
            assert_eq!(outcome.drop, Some(reason), "{state:?} {wire:?}");
            let acks = host.transmit();
            expect_ack(acks, ours, seq);
            assert_eq!((host.state(), outcome.signals), (state, Signals::NONE), "{wire:?}");
        }
        assert_eq!(
            host.call(|tcb, cx| tcb.recv(cx)).unwrap_or(Recv::Empty) == Recv::Eof,
            seq > 0,
            "{state:?}"
        );
    }
}

#[test]
fn answers_without_text_are_limited_to_one_in_half_a_second() {
    let mut host = established(&plain());
    let old = peer(ACK, 0_u32.wrapping_sub(2), 0);
    expect_ack(host.exchange(&old), 0, 0);
    for _ in 0..10 {
        host.now += Duration::from_millis(49);
        expect_none(host.exchange(&old));
    }
    host.now += Duration::from_millis(10);
    expect_ack(host.exchange(&old), 0, 0);
    // A retransmission is never left without an answer: our ACK was lost.
    host.exchange(&peer(ACK, 0, 0).text(b"data"));
    for _ in 0..3 {
        expect_ack(host.exchange(&peer(ACK, 0, 0).text(b"data")), 0, 4);
    }
}

#[test]
fn a_reset_at_rcv_nxt_ends_every_synchronised_state_but_time_wait() {
    let mut host = in_state(State::TimeWait, &plain());
    expect_none(host.refuse(&peer(RST, peer_seq(State::TimeWait), 0), DropReason::TcpTimeWait));
    for state in SYNCHRONISED.into_iter().filter(|state| *state != State::TimeWait) {
        let mut host = in_state(state, &plain());
        expect_none(host.exchange(&peer(RST, peer_seq(state), 0)));
        let reason = match state {
            State::Closing | State::LastAck => CloseReason::Finished,
            State::Closed
            | State::SynSent
            | State::TimeWait
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait => CloseReason::Reset,
        };
        assert_eq!((host.state(), host.closed), (State::Closed, Some(reason)), "{state:?}");
        assert!(host.tcb.is_closed());
    }
}

#[test]
fn a_reset_elsewhere_in_the_window_is_challenged_and_outside_ignored() {
    // RFC 5961 3.2
    for state in SYNCHRONISED {
        let mut host = in_state(state, &plain());
        let (seq, ours) = (peer_seq(state), our_seq(state));
        expect_ack(host.refuse(&peer(RST, seq + 1, ours), DropReason::TcpRstChallenged), ours, seq);
        expect_none(host.refuse(&peer(RST, seq + 2, ours), DropReason::TcpRstChallenged));
        let edge = seq + host.tcb.rcv_wnd();
        expect_none(host.refuse(&peer(RST, edge, ours), DropReason::TcpOutOfWindow));
        expect_none(host.refuse(&peer(RST, seq.wrapping_sub(1), ours), DropReason::TcpOutOfWindow));
    }
}

#[test]
fn a_syn_in_a_synchronised_state_is_challenged() {
    // RFC 5961 4.2; TIME-WAIT has rules of its own.
    for state in
        SYNCHRONISED.into_iter().filter(|state| !matches!(state, State::SynReceived | State::TimeWait))
    {
        for flags in [SYN, SYN | ACK] {
            let mut host = in_state(state, &plain());
            let (seq, ours) = (peer_seq(state), our_seq(state));
            expect_ack(host.refuse(&peer(flags, seq + 5, ours), DropReason::TcpSynChallenged), ours, seq);
            expect_none(host.refuse(&peer(flags, seq + 5, ours), DropReason::TcpSynChallenged));
        }
    }
}

#[test]
fn a_new_syn_in_syn_received_returns_the_passive_side_to_listen() {
    let mut host = in_state(State::SynReceived, &plain());
    expect_none(host.exchange(&peer(SYN, 100, 0)));
    assert_eq!((host.state(), host.closed), (State::Closed, Some(CloseReason::Reset)));
}

#[test]
fn the_same_syn_again_gets_the_syn_ack_again() {
    let mut host = in_state(State::SynReceived, &plain());
    for _ in 0..2 {
        let syn_ack = one(host.refuse(&peer_syn(), DropReason::TcpDuplicate));
        assert_eq!((syn_ack.header.flags, syn_ack.seq()), (SYN | ACK, ISS));
        expect_none(host.refuse(&peer_syn(), DropReason::TcpDuplicate));
        host.now += SECOND / 2;
    }
}

#[test]
fn a_segment_without_ack_is_dropped() {
    for state in SYNCHRONISED {
        let mut host = in_state(state, &plain());
        expect_none(host.refuse(&peer(PSH, peer_seq(state), 0).text(b"x"), DropReason::TcpNoAck));
        expect_none(
            host.refuse(&peer(ringwire_wire::tcp::Flags::NONE, peer_seq(state), 0), DropReason::TcpNoAck),
        );
    }
}

#[test]
fn an_ack_of_the_future_or_the_far_past_is_answered_and_dropped() {
    // RFC 9293 3.10.7.4, RFC 5961 5.2
    for state in SYNCHRONISED.into_iter().filter(|&state| state != State::SynReceived) {
        let (seq, ours) = (peer_seq(state), our_seq(state));
        let mut host = in_state(state, &plain());
        expect_ack(host.refuse(&peer(ACK, seq, ours + 1).text(b"x"), DropReason::TcpAckUnsent), ours, seq);
        expect_none(host.refuse(&peer(ACK, seq, ours + 1000), DropReason::TcpAckUnsent));
        let mut host = in_state(state, &plain());
        let una = host.tcb.snd.una;
        let mut old = peer(ACK, seq, 0).text(b"x");
        old.header.ack = (una - 0x1_0001).0;
        expect_ack(host.refuse(&old, DropReason::TcpAckTooOld), ours, seq);
    }
}

#[test]
fn an_unacceptable_ack_in_syn_received_is_reset() {
    for ack in [ISS, ISS + 2] {
        let mut host = in_state(State::SynReceived, &plain());
        let reset = one(host.exchange(&Wire::new(ACK, IRS + 1, ack)));
        assert_eq!((reset.header.flags, reset.seq()), (RST, ack));
        assert_eq!(host.state(), State::SynReceived);
    }
}

#[test]
fn syn_sent_takes_only_what_answers_the_syn() {
    // RFC 9293 3.10.7.3: a wrong ACK is reset, unless it is a RST.
    for (flags, answered) in [(ACK, true), (SYN | ACK, true), (FIN | ACK, true), (RST | ACK, false)] {
        for ack in [ISS, ISS + 2, ISS - 5] {
            let mut host = in_state(State::SynSent, &plain());
            let sent = host.exchange(&Wire::new(flags, IRS, ack));
            assert_eq!(sent.len(), usize::from(answered), "{flags} {ack:?}");
            assert!(sent.iter().all(|reset| reset.header.flags == RST && reset.seq() == ack));
            assert_eq!(host.state(), State::SynSent);
        }
    }
    let mut host = in_state(State::SynSent, &plain());
    expect_none(host.refuse(&Wire::new(RST, IRS, SeqNum(0)), DropReason::TcpSynSentBadAck));
    expect_none(host.refuse(&Wire::new(FIN, IRS, SeqNum(0)), DropReason::TcpBadFlags));
    expect_none(host.refuse(&Wire::new(ACK, IRS, ISS + 1), DropReason::TcpBadFlags));
    expect_none(host.exchange(&Wire::new(RST | ACK, IRS, ISS + 1)));
    assert_eq!((host.state(), host.closed), (State::Closed, Some(CloseReason::Refused)));
}

#[test]
fn a_reset_after_a_simultaneous_open_is_a_refusal() {
    let mut host = in_state(State::SynSent, &plain());
    host.exchange(&peer_syn());
    expect_none(host.exchange(&peer(RST | ACK, 0, 0)));
    assert_eq!(host.closed, Some(CloseReason::Refused));
}

#[test]
fn a_syn_ack_may_carry_data_and_fin() {
    let mut host = in_state(State::SynSent, &plain());
    let sent = host.exchange(&Wire::new(SYN | ACK | FIN, IRS, ISS + 1).text(b"hi"));
    expect_ack(sent, 0, 3);
    assert_eq!(host.state(), State::CloseWait);
    assert_eq!(host.read(), b"hi");
    // The same again: its ACK was lost.
    host.now += SECOND;
    expect_ack(host.exchange(&Wire::new(SYN | ACK | FIN, IRS, ISS + 1).text(b"hi")), 0, 3);
}

#[test]
fn overlapping_text_is_trimmed_on_both_sides() {
    let mut host = established(&Config { recv_buffer_bytes: 2000, ..plain() });
    host.exchange(&peer(ACK, 0, 0).text(b"abc"));
    host.exchange(&peer(ACK, 1, 0).text(b"XXdef"));
    assert_eq!(host.read(), b"abcdef");
    // The window began as 2000 bytes: what lies behind it, and the FIN there, is cut off.
    host.exchange(&peer(FIN | ACK, 6, 0).text(&[1; 2100]));
    assert_eq!(host.state(), State::Established);
    assert_eq!(host.read().len(), 1994);
}

#[test]
fn a_keepalive_probe_is_acknowledged_and_its_byte_not_delivered() {
    for text in [&b""[..], b"\0"] {
        let mut host = established(&plain());
        expect_ack(
            host.refuse(&peer(ACK, 0_u32.wrapping_sub(1), 0).text(text), DropReason::TcpDuplicate),
            0,
            0,
        );
        assert_eq!(host.read(), b"");
    }
}

/// RFC 9293 A.2: else a peer whose acknowledgements were lost, and that only probes from now on, is not understood until we give up.
#[test]
fn the_ack_of_a_probe_counts_and_only_if_it_is_for_something_new() {
    let before = |count: u32| 0_u32.wrapping_sub(count);
    for text in [&b""[..], b"\0"] {
        let mut host = established(&plain());
        host.write(b"unacked");
        expect_ack(host.exchange(&peer(ACK, before(1), 7).text(text)), 7, 0);
        assert_eq!((host.tcb.flight(), host.tcb.next_timer()), (0, None));
        assert_eq!(host.read(), b"");
    }
    let mut host = established(&plain());
    host.write(b"unacked");
    let others = [
        (peer(ACK, before(1), 0), "of nothing new"),
        (peer(ACK, before(1), 8), "of what was not sent"),
        (peer(ACK, before(2), 7), "older than a probe"),
        (peer(ACK, before(2), 7).text(b"ab"), "text that came before"),
        (peer(FIN | ACK, before(2), 7), "older than a FIN"),
        (peer(PSH, before(1), 7), "no acknowledgement"),
    ];
    for (probe, said) in others {
        host.refuse(&probe, DropReason::TcpDuplicate);
        assert_eq!(host.tcb.flight(), 7, "{said}");
    }
}

/// The same where both close at once: the peer's FIN, whose acknowledgement was lost, acknowledges ours when it comes again.
#[test]
fn a_fin_that_comes_again_acknowledges_ours() {
    let mut host = in_state(State::Closing, &plain());
    expect_ack(host.exchange(&peer(FIN | ACK, 0, 1)), 1, 1);
    assert_eq!(host.state(), State::TimeWait);
}

#[test]
fn a_full_window_still_takes_acks_and_fins_at_its_edge() {
    let mut host = established(&Config { recv_buffer_bytes: 1000, ..plain() });
    host.write(b"unacked");
    host.exchange(&peer(ACK, 0, 0).text(&[1; 1000]));
    expect_ack(host.run_timer(), 7, 1000);
    assert_eq!(host.tcb.rcv_wnd(), 0);
    // A probe of the window: the byte is refused, its ACK counts.
    expect_ack(host.exchange(&peer(ACK, 1000, 7).text(b"x")), 7, 1000);
    assert_eq!(host.tcb.flight(), 0);
    expect_ack(host.exchange(&peer(FIN | ACK, 1000, 7)), 7, 1001);
    assert_eq!(host.state(), State::CloseWait);
}

#[test]
fn text_that_just_fits_the_window_keeps_its_fin() {
    let mut host = established(&Config { recv_buffer_bytes: 1000, ..plain() });
    expect_ack(host.exchange(&peer(FIN | ACK, 0, 0).text(&[1; 1000])), 0, 1001);
    assert_eq!((host.state(), host.read().len()), (State::CloseWait, 1000));
}

#[test]
fn an_ack_from_the_edge_of_the_window_counts() {
    // The peer filled the window, and the text was lost.
    let mut host = established(&plain());
    host.write(b"unacked");
    let edge = host.tcb.rcv_wnd();
    host.exchange(&peer(ACK, edge, 7));
    assert_eq!(host.tcb.flight(), 0);
}

#[test]
fn closed_answers_everything_but_resets_with_a_reset() {
    // RFC 9293 3.10.7.1
    let reset = reset_for(&peer(ACK, 5, 9).seg(), 3).expect("answered").0;
    assert_eq!((reset.flags, SeqNum(reset.seq), reset.ack), (RST, ISS + 10, 0));
    let reset = reset_for(&Wire::new(SYN | FIN, IRS, SeqNum(0)).seg(), 3).expect("answered").0;
    assert_eq!((reset.flags, reset.seq, SeqNum(reset.ack)), (RST | ACK, 0, IRS + 5));
    assert_eq!(reset_for(&peer(RST | ACK, 0, 0).seg(), 0), None);
    let mut host = in_state(State::Closed, &plain());
    assert!(host.deliver(&peer(ACK, 0, 0)).signals.contains(Signals::SEND_RESET));
    assert!(!host.deliver(&peer(RST, 0, 0)).signals.contains(Signals::SEND_RESET));
}

/// With timestamps: the peer's clock started at 100.
fn stamped() -> Host {
    let config = Config { timestamps: true, ..plain() };
    let mut host = Host::connect(&config, ISS.0);
    let syn = one(host.transmit());
    let stamp = syn.options.timestamps.expect("offered");
    assert_eq!(stamp.echo, 0);
    let ack = one(host.exchange(&peer_syn_ack().stamp(100, stamp.value)));
    assert_eq!(ack.options.timestamps.map(|stamp| stamp.echo), Some(100));
    host
}

#[test]
fn an_old_timestamp_is_acknowledged_and_dropped() {
    // RFC 7323 5.3
    let mut host = stamped();
    expect_ack(host.refuse(&peer(ACK, 0, 0).stamp(99, 0).text(b"old"), DropReason::TcpPaws), 0, 0);
    let old_edge = 100_u32.wrapping_sub(0x7fff_ffff);
    expect_ack(host.refuse(&peer(ACK, 0, 0).stamp(old_edge, 0).text(b"old"), DropReason::TcpPaws), 0, 0);
    host.exchange(&peer(ACK, 0, 0).stamp(100, 0).text(b"new"));
    assert_eq!(host.read(), b"new");
}

#[test]
fn a_segment_without_its_timestamp_is_dropped_unless_it_is_a_reset() {
    let mut host = stamped();
    expect_none(host.refuse(&peer(ACK, 0, 0).text(b"x"), DropReason::TcpMissingTimestamp));
    host.exchange(&peer(RST, 0, 0));
    assert_eq!(host.closed, Some(CloseReason::Reset));
    let mut host = stamped();
    host.exchange(&peer(RST, 0, 0).stamp(1, 0));
    assert_eq!(host.closed, Some(CloseReason::Reset));
}

#[test]
fn only_a_segment_at_the_last_ack_moves_the_echoed_timestamp() {
    // RFC 7323 4.3: not one ahead of a gap, not one whose ACK is refused (CVE-2005-0356).
    let mut host = stamped();
    let echo = |sent: std::vec::Vec<Wire>| one(sent).options.timestamps.expect("always").echo;
    assert_eq!(echo(host.exchange(&peer(ACK, 10, 0).stamp(150, 0).text(b"ahead"))), 100);
    assert_eq!(
        echo(host.refuse(&peer(ACK, 0, 77).stamp(0x7000_0000, 0).text(b"x"), DropReason::TcpAckUnsent)),
        100
    );
    assert_eq!(echo(host.exchange(&peer(ACK, 0, 0).stamp(160, 0).text(b"0123456789"))), 160);
    // Two segments under one delayed ACK: the echo is the first one's, so that the peer measures the delay too.
    host.exchange(&peer(ACK, 15, 0).stamp(170, 0).text(b"a"));
    host.exchange(&peer(ACK, 16, 0).stamp(180, 0).text(b"b"));
    assert_eq!(echo(host.run_timer()), 170);
}

#[test]
fn after_24_days_of_silence_any_timestamp_goes() {
    let mut host = stamped();
    host.now += Duration::from_secs(25 * 24 * 3600);
    host.exchange(&peer(ACK, 0, 0).stamp(50, 0).text(b"back"));
    assert_eq!(host.read(), b"back");
    assert_eq!(host.tcb.ts_recent, 50);
}

#[test]
fn a_bare_ack_that_is_late_by_less_than_an_rto_is_no_victim_of_paws() {
    let mut host = stamped();
    let rto_ms = host.tcb.rtt.rto_us() / 1_000;
    for late_ms in [1, rto_ms] {
        assert_eq!(host.deliver(&peer(ACK, 0, 0).stamp(100_u32.wrapping_sub(late_ms), 0)).drop, None);
    }
    let too_late = 100_u32.wrapping_sub(rto_ms + 1);
    host.refuse(&peer(ACK, 0, 0).stamp(too_late, 0), DropReason::TcpPaws);
    // Elsewhere in the window it is no ACK that was overtaken.
    host.refuse(&peer(ACK, 1, 0).stamp(99, 0), DropReason::TcpPaws);
}

#[test]
fn before_24_days_of_silence_an_old_timestamp_is_old() {
    let mut host = stamped();
    host.now += Duration::from_secs(23 * 24 * 3600);
    expect_ack(host.refuse(&peer(ACK, 0, 0).stamp(50, 0).text(b"old"), DropReason::TcpPaws), 0, 0);
}

#[test]
fn a_time_wait_block_reopens_for_a_syn_that_cannot_be_old() {
    // RFC 6191 2: without timestamps by sequence number, and a peer that offers timestamps anew always.
    let fin = 1;
    for (syn, reopens) in [
        (peer(SYN, fin + 1, 0), true),
        (peer(SYN, fin, 0), false),
        (peer(SYN, 0, 0), false),
        (peer(SYN, 0, 0).stamp(1, 0), true),
        (peer(SYN | ACK, fin + 1, 0), false),
        (peer(SYN | RST, fin + 1, 0), false),
    ] {
        let mut host = in_state(State::TimeWait, &plain());
        let outcome = host.deliver(&syn);
        assert_eq!(outcome.signals.contains(Signals::NEW_SYN), reopens, "{syn:?}");
        assert_eq!((host.state(), outcome.closed), (State::TimeWait, None));
        assert_eq!(host.transmit().len(), usize::from(!reopens));
    }
}

#[test]
fn a_time_wait_block_with_timestamps_reopens_by_the_clock() {
    for (value, seq, reopens) in [(101, 0, true), (100, 2, true), (100, 0, false), (99, 2, false)] {
        let mut host = stamped();
        host.close();
        host.exchange(&peer(FIN | ACK, 0, 1).stamp(100, 0));
        assert_eq!(host.state(), State::TimeWait);
        let outcome = host.deliver(&peer(SYN, seq, 0).stamp(value, 0));
        assert_eq!(outcome.signals.contains(Signals::NEW_SYN), reopens, "{value} {seq}");
    }
}

#[test]
fn a_repeated_fin_restarts_time_wait() {
    let mut host = in_state(State::TimeWait, &plain());
    host.now += Duration::from_secs(59);
    expect_ack(host.refuse(&peer(FIN | ACK, 0, 1), DropReason::TcpTimeWait), 1, 1);
    let restarted = host.now;
    host.run_timer();
    assert_eq!(host.now.saturating_since(restarted), Duration::from_secs(60));
    assert!(host.tcb.is_closed());
}

#[test]
fn odd_flags_do_no_harm() {
    // Xmas, URG beyond the payload, reserved bits.
    let urg = URG;
    let mut host = established(&plain());
    let mut urgent = peer(ACK | urg, 0, 0).text(b"in-band");
    urgent.header.urgent = 0xffff;
    host.exchange(&urgent);
    assert_eq!(host.read(), b"in-band");
    let mut bare = peer(ACK | urg, 7, 0);
    bare.header.urgent = 1;
    host.exchange(&bare);
    host.exchange(&peer(FIN | PSH | urg, 7, 0));
    assert_eq!(host.state(), State::Established);
    expect_ack(host.exchange(&peer(ringwire_wire::tcp::Flags(0xf9), 7, 0).text(b"x")), 0, 9);
    assert_eq!((host.read(), host.state()), (b"x".to_vec(), State::CloseWait));
}

#[test]
fn urgent_data_that_arrives_ahead_of_a_gap_is_told_of_with_its_text() {
    let urg = ringwire_wire::tcp::Flags::URG;
    let mut host = established(&plain());
    let mut ahead = peer(ACK | urg, 4, 0).text(b"!");
    ahead.header.urgent = 1;
    let outcome = host.deliver(&ahead);
    assert!(!outcome.signals.contains(Signals::READABLE));
    let outcome = host.deliver(&peer(ACK, 0, 0).text(b"gap."));
    assert!(outcome.signals.contains(Signals::READABLE));
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).urgent_bytes, 5);
    host.read();
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).urgent_bytes, 0);
}

/// RFC 7323 5.5: then TS.Recent says nothing any more.
#[test]
fn after_twenty_four_days_of_silence_an_older_timestamp_is_believed() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for (silence, is_believed) in [(24 * DAY, false), (24 * DAY + Duration::from_millis(1), true)] {
        let mut host =
            established_by(&Config { timestamps: true, ..plain() }, &peer_syn_ack().stamp(1000, 0));
        host.now += silence;
        let outcome = host.deliver(&peer(ACK, 0, 0).text(b"x").stamp(999, 0));
        assert_eq!(outcome.drop.is_none(), is_believed, "{silence:?}");
    }
}

/// A bare ACK that was overtaken may be the only one with its SACK: it is taken for as long as an RTO, where no number can have wrapped.
#[test]
fn an_acknowledgement_that_was_overtaken_is_late_by_an_rto_at_most() {
    let taken = |change: &dyn Fn(&mut Host) -> Wire| {
        let config = Config { timestamps: true, sack: true, ..plain() };
        let mut host = established_by(&config, &peer_syn_ack().stamp(10_000, 0).sack_permitted());
        host.write(&[1; 5_000]);
        let wire = change(&mut host);
        host.deliver(&wire).drop.is_none()
    };
    let rto_ms = |host: &Host| host.tcb.rto().as_millis() as u32;
    assert!(taken(&|host| peer(ACK, 0, 0).stamp(10_000 - rto_ms(host), 0)));
    assert!(!taken(&|host| peer(ACK, 0, 0).stamp(10_000 - rto_ms(host) - 1, 0)));
    let late = |wire: Wire| wire.stamp(9_999, 0);
    assert!(!taken(&|_| late(peer(ACK, 0, 0).text(b"x"))), "text");
    assert!(!taken(&|_| late(peer(ACK, 1, 0))), "out of its place");
    assert!(!taken(&|_| late(peer(ACK, 0, 988))), "it acknowledges something new");
    assert!(!taken(&|_| late(peer(PSH, 0, 0))), "no ACK");
}

#[test]
fn a_long_segment_beyond_a_small_window_is_no_duplicate() {
    let mut host = established(&Config { recv_buffer_bytes: 100, ..plain() });
    host.refuse(&peer(ACK, 101, 0).text(&[1; 1000]), DropReason::TcpOutOfWindow);
}

#[test]
fn what_comes_before_the_handshake_is_answered_is_echoed() {
    // RFC 7323 4.3 (2)
    let mut host = Host::connect(&Config { timestamps: true, ..plain() }, ISS.0);
    let offered = one(host.transmit()).options.timestamps.expect("offered").value;
    let _ = host.deliver(&peer_syn_ack().stamp(100, offered));
    let _ = host.deliver(&peer(ACK, 0, 0).text(b"hello").stamp(101, offered));
    assert!(host.transmit().iter().all(|wire| wire.options.timestamps.expect("agreed").echo == 101));
}
