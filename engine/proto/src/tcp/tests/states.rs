//! Every state is entered and left by every legal event (RFC 9293 3.3.2, figure 5; 3.10).

use core::time::Duration;

use super::host::Host;
use super::script::*;
use crate::DropReason;
use crate::SeqNum;
use crate::icmp::{ErrorKind, Unreachable};
use crate::tcp::{CloseReason, Config, ListenVerdict, Recv, RecvError, SendError, Signals, State, on_listen};

#[test]
fn active_open_sends_a_syn_and_completes_with_an_ack() {
    let mut host = Host::connect(&plain(), ISS.0);
    assert_eq!(host.state(), State::SynSent);
    let syn = one(host.transmit());
    assert_eq!((syn.header.flags, syn.seq(), syn.ack(), syn.options.mss), (SYN, ISS, SeqNum(0), Some(1000)));
    expect_ack(host.exchange(&peer_syn_ack()), 0, 0);
    assert_eq!(host.state(), State::Established);
    assert!(host.signals.contains(Signals::CONNECTED));
}

#[test]
fn passive_open_answers_the_syn_and_completes_by_its_ack() {
    assert_eq!(on_listen(&peer_syn().seg()), ListenVerdict::Accept);
    let mut host = Host::accept(&plain(), ISS.0, &peer_syn());
    let syn_ack = one(host.transmit());
    assert_eq!((syn_ack.header.flags, syn_ack.seq(), syn_ack.ack()), (SYN | ACK, ISS, IRS + 1));
    expect_none(host.exchange(&peer(ACK, 0, 0)));
    assert_eq!(host.state(), State::Established);
    assert!(host.signals.contains(Signals::CONNECTED | Signals::WRITABLE));
}

#[test]
fn the_ack_that_completes_the_handshake_may_carry_data_and_fin() {
    let mut host = syn_received(&plain());
    expect_ack(host.exchange(&peer(ACK | PSH | FIN, 0, 0).text(b"hello")), 0, 6);
    assert_eq!(host.state(), State::CloseWait);
    assert_eq!(host.read(), b"hello");
    assert!(host.at_eof());
}

#[test]
fn simultaneous_open_meets_in_established() {
    let mut host = Host::connect(&plain(), ISS.0);
    host.transmit();
    let syn_ack = one(host.exchange(&peer_syn()));
    assert_eq!((syn_ack.header.flags, syn_ack.seq(), syn_ack.ack()), (SYN | ACK, ISS, IRS + 1));
    assert_eq!(host.state(), State::SynReceived);
    // The peer's SYN-ACK has the number of its SYN again.
    expect_ack(host.exchange(&peer_syn_ack()), 0, 0);
    assert_eq!(host.state(), State::Established);
}

#[test]
fn simultaneous_open_also_completes_by_a_bare_ack() {
    let mut host = Host::connect(&plain(), ISS.0);
    host.transmit();
    host.exchange(&peer_syn());
    expect_none(host.exchange(&peer(ACK, 0, 0)));
    assert_eq!(host.state(), State::Established);
}

#[test]
fn closing_first_walks_through_fin_wait_1_and_2_to_time_wait_and_ends() {
    let mut host = established(&plain());
    expect(&one(host.close()), FIN | ACK, 0, 0, 0);
    assert_eq!(host.state(), State::FinWait1);
    expect_none(host.exchange(&peer(ACK, 0, 1)));
    assert_eq!(host.state(), State::FinWait2);
    expect_ack(host.exchange(&peer(FIN | ACK, 0, 1)), 1, 1);
    assert_eq!(host.state(), State::TimeWait);
    let entered = host.now;
    expect_none(host.run_timer());
    assert_eq!(host.now.saturating_since(entered), Duration::from_secs(60));
    assert_eq!((host.state(), host.closed), (State::Closed, Some(CloseReason::Finished)));
    assert!(host.tcb.is_closed());
}

#[test]
fn fin_with_the_ack_of_our_fin_goes_from_fin_wait_1_to_time_wait() {
    let mut host = in_state(State::FinWait1, &plain());
    expect_ack(host.exchange(&peer(FIN | ACK, 0, 1)), 1, 1);
    assert_eq!(host.state(), State::TimeWait);
}

#[test]
fn simultaneous_close_passes_closing() {
    let mut host = in_state(State::FinWait1, &plain());
    expect_ack(host.exchange(&peer(FIN | ACK, 0, 0)), 1, 1);
    assert_eq!(host.state(), State::Closing);
    expect_none(host.exchange(&peer(ACK, 1, 1)));
    assert_eq!(host.state(), State::TimeWait);
}

#[test]
fn closing_second_walks_through_close_wait_and_last_ack() {
    let mut host = established(&plain());
    expect_ack(host.exchange(&peer(FIN | ACK, 0, 0)), 0, 1);
    assert_eq!(host.state(), State::CloseWait);
    assert!(host.signals.contains(Signals::PEER_CLOSED | Signals::READABLE));
    expect(&one(host.close()), FIN | ACK, 0, 1, 0);
    assert_eq!(host.state(), State::LastAck);
    expect_none(host.exchange(&peer(ACK, 1, 1)));
    assert_eq!(host.closed, Some(CloseReason::Finished));
    assert!(host.tcb.is_closed());
}

#[test]
fn half_close_keeps_receiving_and_the_other_half_keeps_sending() {
    let mut host = in_state(State::FinWait2, &plain());
    host.exchange(&peer(ACK | PSH, 0, 1).text(b"late"));
    assert_eq!(host.read(), b"late");
    assert_eq!(host.call(|tcb, cx| tcb.send(cx, b"x")), Err(SendError::ShutDown));
    assert_eq!(host.call(|tcb, cx| tcb.recv(cx)), Ok(Recv::Empty));

    let mut host = in_state(State::CloseWait, &plain());
    assert!(host.at_eof());
    expect(&one(host.write(b"late")), ACK | PSH, 0, 1, 4);
    assert_eq!(host.state(), State::CloseWait);
}

#[test]
fn data_before_the_fin_goes_first_and_the_fin_rides_on_it() {
    let mut host = established(&plain());
    host.send(b"bye");
    expect(&one(host.close()), FIN | ACK | PSH, 0, 0, 3);
    assert_eq!(host.state(), State::FinWait1);
    // The data alone acknowledged is not enough.
    host.exchange(&peer(ACK, 0, 3));
    assert_eq!(host.state(), State::FinWait1);
    host.exchange(&peer(ACK, 0, 4));
    assert_eq!(host.state(), State::FinWait2);
}

#[test]
fn a_fin_ahead_of_its_data_waits_for_it() {
    let mut host = established(&plain());
    expect_ack(host.exchange(&peer(FIN | ACK, 3, 0)), 0, 0);
    assert_eq!(host.state(), State::Established);
    expect_ack(host.exchange(&peer(ACK, 0, 0).text(b"abc")), 0, 4);
    assert_eq!(host.state(), State::CloseWait);
    assert_eq!(host.read(), b"abc");
    assert!(host.at_eof());
}

#[test]
fn close_during_the_handshake() {
    let mut host = in_state(State::SynSent, &plain());
    expect_none(host.close());
    assert_eq!((host.state(), host.closed), (State::Closed, Some(CloseReason::Aborted)));
    assert!(host.tcb.is_closed());

    let mut host = in_state(State::SynReceived, &plain());
    expect_none(host.close());
    assert_eq!(host.state(), State::SynReceived);
    expect(&one(host.exchange(&peer(ACK, 0, 0))), FIN | ACK, 0, 0, 0);
    assert_eq!(host.state(), State::FinWait1);
}

#[test]
fn data_written_in_syn_sent_follows_the_handshake() {
    let mut host = in_state(State::SynSent, &plain());
    assert_eq!(host.send(b"early"), 5);
    expect_none(host.transmit());
    expect(&one(host.exchange(&peer_syn_ack())), ACK | PSH, 0, 0, 5);
}

#[test]
fn data_written_in_syn_sent_is_cut_to_the_mss_the_peer_announces() {
    let mut host = in_state(State::SynSent, &plain());
    assert_eq!(host.send(&[7; 1000]), 1000);
    let sent = host.exchange(&peer_syn_ack().mss(400));
    let lens: std::vec::Vec<_> = sent.iter().map(|wire| (wire.payload.len(), wire.copied)).collect();
    assert_eq!(lens, [(400, true), (400, true), (200, true)]);
    assert!(sent[2].has(PSH) && !sent[0].has(PSH));
}

#[test]
fn a_listener_resets_acks_and_forgets_the_rest() {
    assert_eq!(on_listen(&peer(ACK, 0, 0).seg()), ListenVerdict::Reset);
    assert_eq!(on_listen(&peer_syn_ack().seg()), ListenVerdict::Reset);
    assert_eq!(on_listen(&peer(RST, 0, 0).seg()), ListenVerdict::Drop(DropReason::TcpListenNotSyn));
    assert_eq!(on_listen(&peer(RST | ACK, 0, 0).seg()), ListenVerdict::Drop(DropReason::TcpListenNotSyn));
    assert_eq!(on_listen(&peer(FIN, 0, 0).seg()), ListenVerdict::Drop(DropReason::TcpListenNotSyn));
    assert_eq!(on_listen(&peer(SYN | FIN, 0, 0).seg()), ListenVerdict::Drop(DropReason::TcpBadFlags));
}

#[test]
fn abort_resets_where_the_peer_may_still_care() {
    for state in STATES {
        let mut host = in_state(state, &plain());
        let _ = host.call(|tcb, cx| tcb.abort(cx));
        let sent = host.transmit();
        let reset = match state {
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait => true,
            State::Closed | State::SynSent | State::Closing | State::LastAck | State::TimeWait => false,
        };
        assert_eq!(sent.len(), usize::from(reset), "{state:?}");
        if reset {
            expect(&sent[0], RST | ACK, our_seq(state), peer_seq(state), 0);
        }
        assert!(host.tcb.is_closed(), "{state:?}");
        assert_eq!(host.call(|tcb, cx| tcb.send(cx, b"x")), Err(SendError::ShutDown));
    }
}

#[test]
fn close_with_unread_data_resets() {
    // RFC 2525 2.17
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).text(b"unread"));
    expect(&one(host.close()), RST | ACK, 0, 6, 0);
    assert_eq!(host.closed, Some(CloseReason::Aborted));
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn close_with_linger_zero_resets_and_any_other_linger_does_not() {
    for (linger, flags) in [(Duration::ZERO, RST | ACK), (Duration::from_secs(1), FIN | ACK)] {
        let mut host = established(&Config { linger: Some(linger), ..plain() });
        assert_eq!(one(host.close()).header.flags, flags);
    }
    // After shutdown the FIN is out; linger zero still resets.
    let mut host = in_state(State::FinWait1, &Config { linger: Some(Duration::ZERO), ..plain() });
    assert_eq!(one(host.close()).header.flags, RST | ACK);
}

#[test]
fn data_after_close_is_answered_with_a_reset() {
    for state in [State::FinWait1, State::FinWait2] {
        let mut host = in_state(state, &plain());
        expect_none(host.close());
        let ack = u32::from(state == State::FinWait2);
        let reset = one(host.exchange(&peer(ACK, 0, ack).text(b"x")));
        assert_eq!((reset.header.flags, reset.seq()), (RST, ISS + 1 + ack));
        assert_eq!((host.state(), host.closed), (State::Closed, Some(CloseReason::Aborted)), "{state:?}");
        assert!(host.tcb.is_closed());
    }
}

#[test]
fn fin_wait_2_of_a_closed_connection_ends_by_its_timer() {
    // Half-closed only, the application waits for data: no limit.
    let mut host = in_state(State::FinWait2, &plain());
    assert_eq!(host.tcb.next_timer(), None);
    host.close();
    expect_none(host.run_timer());
    assert_eq!((host.state(), host.closed), (State::Closed, Some(CloseReason::Finished)));
    // Closed first, acknowledged later.
    let mut host = in_state(State::FinWait1, &plain());
    host.close();
    host.exchange(&peer(ACK, 0, 1));
    let entered = host.now;
    host.run_timer();
    assert_eq!(host.now.saturating_since(entered), Duration::from_secs(60));
    assert!(host.tcb.is_closed());
}

#[test]
fn unread_data_outlives_the_connection_until_it_was_read() {
    let mut host = established(&plain());
    host.exchange(&peer(FIN | ACK, 0, 0).text(b"last words"));
    host.shutdown_write();
    host.exchange(&peer(ACK, 11, 1));
    assert_eq!((host.state(), host.closed), (State::Closed, None));
    assert!(!host.tcb.is_closed());
    assert_eq!(host.read(), b"last words");
    assert!(host.at_eof());
    expect_none(host.run_timer());
    assert_eq!(host.closed, Some(CloseReason::Finished));
    assert!(host.tcb.is_closed());
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn what_came_before_a_reset_is_read_first() {
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).text(b"last words"));
    host.exchange(&peer(ACK, 15, 0).text(b"early"));
    host.signals = Signals::NONE;
    expect_none(host.exchange(&peer(RST, 10, 0)));
    assert_eq!(
        (host.state(), host.closed, host.tcb.ended()),
        (State::Closed, None, Some(CloseReason::Reset))
    );
    assert!(host.signals.contains(Signals::ENDED | Signals::READABLE | Signals::WRITABLE));
    assert_eq!(host.tcb.next_timer(), None, "it is the reader's turn");
    assert_eq!(host.call(|tcb, cx| tcb.send(cx, b"x")), Err(SendError::NotConnected));
    assert_eq!(host.read(), b"last words");
    assert_eq!(host.call(|tcb, cx| tcb.recv(cx)), Err(RecvError::NotConnected));
    expect_none(host.run_timer());
    assert_eq!((host.closed, host.tcb.ended()), (Some(CloseReason::Reset), None));
    assert!(host.tcb.is_closed());
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn what_came_before_a_silence_is_read_first() {
    let mut host = established(&Config { user_timeout: Some(Duration::from_secs(5)), ..plain() });
    host.exchange(&peer(ACK, 0, 0).text(b"last words"));
    let _ = host.call(|tcb, cx| tcb.send(cx, b"anybody?"));
    host.transmit();
    while host.state() != State::Closed {
        host.run_timer();
    }
    assert_eq!((host.closed, host.tcb.ended()), (None, Some(CloseReason::TimedOut)));
    assert_eq!(host.tcb.waits_since(), None, "nothing is waited for any more");
    assert_eq!(host.read(), b"last words");
    host.run_timer();
    assert_eq!(host.closed, Some(CloseReason::TimedOut));
    assert!(host.tcb.is_closed());
}

#[test]
fn what_came_before_it_was_given_up_is_read_first() {
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).text(b"last words"));
    assert_eq!(host.call(|tcb, cx| tcb.give_up(cx)).closed, None);
    assert!(one(host.transmit()).has(RST));
    assert_eq!((host.tcb.ended(), host.read()), (Some(CloseReason::TimedOut), b"last words".to_vec()));
    host.run_timer();
    assert_eq!(host.closed, Some(CloseReason::TimedOut));
    assert_eq!(host.call(|tcb, cx| tcb.give_up(cx)).closed, None, "once");
    assert!(host.tcb.is_closed());
}

#[test]
fn new_options_of_an_ended_connection_make_it_send_nothing() {
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).text(b"last words"));
    host.exchange(&peer(RST, 10, 0));
    host.call(|tcb, cx| tcb.on_config_change(cx));
    assert!(!host.tcb.wants_transmit());
}

#[test]
fn what_came_before_a_reset_goes_with_close() {
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).text(b"last words"));
    host.exchange(&peer(RST, 10, 0));
    expect_none(host.close());
    assert!(host.tcb.is_closed());
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn unread_data_of_an_ended_connection_goes_with_close() {
    let mut host = established(&plain());
    host.exchange(&peer(FIN | ACK, 0, 0).text(b"last words"));
    host.shutdown_write();
    host.exchange(&peer(ACK, 11, 1));
    expect_none(host.close());
    assert!(host.tcb.is_closed());
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn shutdown_read_throws_away_what_was_and_what_comes() {
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).text(b"old"));
    host.call(|tcb, cx| tcb.shutdown_read(cx));
    assert!(host.at_eof());
    host.signals = Signals::NONE;
    expect_ack(host.exchange(&peer(ACK, 3, 0).text(&[1; 1000])), 0, 1003);
    assert!(host.at_eof());
    assert!(!host.signals.contains(Signals::READABLE));
    assert_eq!(host.tcb.rcv.held_bytes, 0);
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn after_the_end_calls_say_so() {
    let mut host = in_state(State::Established, &plain());
    host.exchange(&peer(RST, 0, 0));
    assert_eq!((host.state(), host.closed), (State::Closed, Some(CloseReason::Reset)));
    assert_eq!(host.call(|tcb, cx| tcb.send(cx, b"x")), Err(SendError::NotConnected));
    assert_eq!(host.call(|tcb, cx| tcb.recv(cx)), Err(RecvError::NotConnected));
    expect_none(host.close());
    expect_none(host.shutdown_write());
    assert!(host.tcb.is_closed());
}

#[test]
fn discard_gives_everything_back_in_any_state() {
    for state in STATES {
        let mut host = in_state(state, &plain());
        let _ = host.call(|tcb, cx| tcb.send(cx, b"queued"));
        host.exchange(&peer(ACK, peer_seq(state) + 5, our_seq(state)).text(b"early"));
        let Host { tcb, cold, .. } = &mut host;
        tcb.discard(cold);
        assert_eq!((cold.in_use(), tcb.is_closed(), tcb.next_timer()), (0, true, None), "{state:?}");
    }
}

/// Seed 11276 of the simulation: an aborted LAST-ACK left the peer in FIN-WAIT-2, waiting for data.
#[test]
fn abort_resets_while_data_waits_in_front_of_the_fin() {
    for state in [State::LastAck, State::Closing] {
        let mut host = established(&plain());
        host.write(&[1; 20_000]);
        if state == State::LastAck {
            expect_ack(host.exchange(&peer(FIN | ACK, 0, 0)), 10_000, 1);
            expect_none(host.close());
        } else {
            expect_none(host.close());
            expect_ack(host.exchange(&peer(FIN | ACK, 0, 0)), 10_000, 1);
        }
        assert_eq!(host.state(), state);
        let _ = host.call(|tcb, cx| tcb.abort(cx));
        assert!(one(host.transmit()).has(RST), "{state:?}");
    }
}

/// Figure 5, arrow by arrow, without those that end a connection; whatever is not here must not happen.
#[test]
fn the_figure_has_these_arrows_and_no_others() {
    use State::*;
    let all = [
        Closed,
        SynSent,
        SynReceived,
        Established,
        FinWait1,
        FinWait2,
        CloseWait,
        Closing,
        LastAck,
        TimeWait,
    ];
    let arrows = [
        (Closed, SynSent),
        (Closed, SynReceived),
        (SynSent, SynReceived),
        (SynSent, Established),
        (SynReceived, Established),
        (SynReceived, FinWait1),
        (Established, FinWait1),
        (Established, CloseWait),
        (FinWait1, FinWait2),
        (FinWait1, Closing),
        (FinWait1, TimeWait),
        (FinWait2, TimeWait),
        (CloseWait, LastAck),
        (Closing, TimeWait),
    ];
    for from in all {
        for to in all {
            let expected = to == Closed || to == from || arrows.contains(&(from, to));
            assert_eq!(from.may_become(to), expected, "{from:?} to {to:?}");
        }
    }
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "TimeWait does not become Established")]
fn a_state_outside_the_figure_is_caught_where_it_is_entered() {
    let mut host = Host::connect(&plain(), ISS.0);
    host.call(|tcb, cx| {
        tcb.discard(cx.cold);
        tcb.transition(State::SynSent);
        tcb.transition(State::Established);
        tcb.transition(State::FinWait1);
        tcb.transition(State::TimeWait);
        tcb.transition(State::Established);
    });
}

#[test]
fn the_peers_end_is_known_before_it_is_read() {
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).text(b"text"));
    assert!(!host.tcb.is_finished_by_peer());
    host.exchange(&peer(FIN | ACK, 4, 0));
    assert!(host.tcb.is_finished_by_peer());
    assert_eq!(host.read(), b"text");
    assert!(host.tcb.is_finished_by_peer());
}

#[test]
fn only_the_acknowledgement_of_our_fin_ends_a_closing_connection() {
    for state in [State::FinWait1, State::Closing, State::LastAck] {
        let mut host = established(&plain());
        host.send(&[1; 3000]);
        if state == State::LastAck {
            host.exchange(&peer(FIN | ACK, 0, 0));
        }
        host.shutdown_write();
        if state == State::Closing {
            host.exchange(&peer(FIN | ACK, 0, 0));
        }
        let seq = u32::from(state != State::FinWait1);
        for acked in [1000, 3000] {
            host.exchange(&peer(ACK, seq, acked));
            assert_eq!((host.state(), host.closed), (state, None), "{acked}");
        }
        host.exchange(&peer(ACK, seq, 3001));
        assert_ne!(host.state(), state);
    }
}

#[test]
fn a_connection_is_not_gone_before_its_reset_has_left() {
    let mut host = established(&plain());
    let _ = host.call(|tcb, cx| tcb.abort(cx));
    assert_eq!((host.state(), host.tcb.is_closed()), (State::Closed, false));
    let reset = one(host.transmit());
    assert_eq!((reset.has(RST), reset.header.window), (true, 0));
    assert!(host.tcb.is_closed());
}

/// RFC 5461 4.1: an opening that ICMP says cannot succeed is over; one whose text the application has is its connection already.
#[test]
fn icmp_ends_a_passive_opening_and_no_fast_one() {
    let unreachable = |host: &mut Host| {
        host.call(|tcb, cx| tcb.on_icmp_error(cx, ErrorKind::Unreachable(Unreachable::Host), ISS)).closed
    };
    let mut host = syn_received(&plain());
    assert_eq!(unreachable(&mut host), Some(CloseReason::Unreachable(Unreachable::Host)));
    let mut host = Host::accept(&plain(), ISS.0, &peer_syn());
    let _ = host.call(|tcb, cx| tcb.open_fast(cx, Some(super::host::Bytes::new(b"GET"))));
    host.transmit();
    assert_eq!((unreachable(&mut host), host.state()), (None, State::SynReceived));
}
