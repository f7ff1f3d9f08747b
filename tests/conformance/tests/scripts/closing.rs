//! Closing, resetting and TIME-WAIT: RFC 9293 3.6, 3.10.4, 3.10.5.

use std::time::Duration;

use ringwire::{CloseReason, TcpState};
use ringwire_conformance::{ack, data, fin, rst, rst_ack, script, syn, syn_ack};
use ringwire_wire::tcp::Flags;

#[test]
fn rfc9293_3_6_normal_close_by_us() {
    script(|s| {
        s.establish();
        s.shutdown_write();
        s.expect_only(fin().seq(1).ack(1));
        s.expect_state(TcpState::FinWait1);
        s.inject(ack().ack(2));
        s.expect_state(TcpState::FinWait2);
        s.inject(fin());
        s.expect_only(ack().seq(2).ack(2));
        s.expect_state(TcpState::TimeWait);
    });
}

#[test]
fn rfc9293_3_6_normal_close_by_the_peer() {
    script(|s| {
        s.establish();
        s.inject(fin());
        s.expect_only(ack().ack(2));
        s.expect_eof();
        s.close();
        s.expect_only(fin().seq(1).ack(2));
        s.inject(ack());
        assert_eq!(s.connections(), 0);
    });
}

/// Figure 13: FINs cross.
#[test]
fn rfc9293_3_6_simultaneous_close() {
    script(|s| {
        s.establish();
        s.shutdown_write();
        s.expect_only(fin().seq(1).ack(1));
        s.inject(fin().seq(1).ack(1));
        s.expect_only(ack().seq(2).ack(2));
        s.expect_state(TcpState::Closing);
        s.inject(ack().seq(2).ack(2));
        s.expect_state(TcpState::TimeWait);
    });
}

/// MAY-1 and its opposite: after our FIN we still receive.
#[test]
fn rfc9293_3_6_half_close_keeps_receiving() {
    script(|s| {
        s.reach(TcpState::FinWait2);
        for _ in 0..3 {
            s.inject(data("more"));
            s.expect_read("more");
        }
        s.wait(100);
        s.ignore_sent();
        s.inject(fin());
        s.expect_only(ack().ack(14));
        s.expect_eof();
    });
}

/// FIN goes behind everything that was written.
#[test]
fn rfc9293_3_10_4_close_sends_what_was_written() {
    script(|s| {
        s.win = 1000;
        s.establish();
        s.send(vec![1; 1500]);
        s.close();
        s.expect_only(data(vec![1; 1000]).seq(1));
        s.inject(ack());
        let sent = s.take_sent();
        assert_eq!(sent.iter().map(|segment| segment.len()).sum::<usize>(), 500);
        assert!(sent.last().is_some_and(|segment| segment.header.flags.contains(Flags::FIN)), "{sent:?}");
        s.inject(fin());
        s.expect_only(ack().seq(1502).ack(2));
    });
}

/// RFC 2525 2.17: close with unread data resets, so that the peer does not believe that it was read.
#[test]
fn rfc2525_2_17_close_with_unread_data_resets() {
    script(|s| {
        s.establish();
        s.inject(data("unread"));
        s.close();
        s.expect_only(rst_ack().seq(1));
        assert_eq!(s.connections(), 0);
    });
}

/// RFC 9293 3.10.7.4, second: a RST ends the connection, and what came before it was received. Its sender may come again from there.
#[test]
fn rfc9293_3_10_7_4_text_before_a_reset_is_delivered() {
    script(|s| {
        s.establish();
        s.inject_all([data("last words"), rst().seq(11)]);
        s.expect_readable();
        s.expect_open();
        assert_eq!(s.try_send(b"x"), Err(ringwire::ConnError::NotConnected));
        s.inject(s.peer_syn());
        let sent = s.take_sent();
        assert!(sent.iter().any(|segment| segment.header.flags == Flags::SYN | Flags::ACK), "{sent:?}");
        s.expect_read("last words");
        s.wait(2);
        s.expect_closed(CloseReason::Reset);
        assert_eq!(s.connections(), 1, "the new one");
    });
}

/// SHLD-3: text that arrives after close is answered with a RST.
#[test]
fn rfc9293_3_6_1_data_after_close_is_reset() {
    script(|s| {
        s.establish();
        s.close();
        s.expect_only(fin().seq(1));
        s.inject(data("late").ack(2));
        let sent = s.take_sent();
        assert!(sent.iter().any(|segment| segment.header.flags.contains(Flags::RST)), "{sent:?}");
        assert_eq!(s.connections(), 0);
    });
}

/// ABORT sends a RST where the peer may still care (RFC 9293 3.10.5).
fn abort_resets(s: &mut ringwire_conformance::Script, _state: TcpState) {
    s.abort();
    s.expect_only(rst_ack());
    assert_eq!(s.connections(), 0);
}
in_states! { abort_resets:
    rfc9293_3_10_5_abort_in_established in Established,
    rfc9293_3_10_5_abort_in_fin_wait_1 in FinWait1,
    rfc9293_3_10_5_abort_in_fin_wait_2 in FinWait2,
    rfc9293_3_10_5_abort_in_close_wait in CloseWait,
}

/// Nothing is said where the peer has nothing left to lose (RFC 9293 3.10.5).
fn abort_is_silent(s: &mut ringwire_conformance::Script, _state: TcpState) {
    s.abort();
    s.expect_nothing();
    assert_eq!(s.connections(), 0);
}
in_states! { abort_is_silent:
    rfc9293_3_10_5_abort_in_syn_sent in SynSent,
    rfc9293_3_10_5_abort_in_closing in Closing,
    rfc9293_3_10_5_abort_in_last_ack in LastAck,
    rfc9293_3_10_5_abort_in_time_wait in TimeWait,
}

/// Close in SYN-SENT forgets the connection (RFC 9293 3.10.4).
#[test]
fn rfc9293_3_10_4_close_in_syn_sent() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.close();
        s.expect_nothing();
        assert_eq!(s.connections(), 0);
    });
}

/// SO_LINGER 0: close is ABORT.
#[test]
fn rfc9293_3_10_5_linger_zero_resets() {
    script(|s| {
        s.options.linger = Some(Duration::ZERO);
        s.establish();
        s.send("x");
        s.expect_only(data("x"));
        s.close();
        s.expect_only(rst_ack());
    });
}

/// MUST-12: the application learns of a reset, with what had arrived before still counted as lost or read.
#[test]
fn rfc9293_3_6_application_learns_of_a_reset() {
    script(|s| {
        s.establish();
        s.send("x");
        s.expect_only(data("x"));
        s.inject(rst());
        s.expect_closed(CloseReason::Reset);
        assert!(s.try_send(b"y").is_err());
    });
}

/// SHLD-2: a RST may carry text; it is a RST all the same.
#[test]
fn rfc9293_3_5_3_rst_with_text() {
    script(|s| {
        s.establish();
        s.inject(rst().text("because"));
        s.expect_nothing();
        s.expect_closed(CloseReason::Reset);
    });
}

/// MUST-13: TIME-WAIT lasts as configured; nothing leaves at its end and the block is gone.
#[test]
fn rfc9293_3_6_1_time_wait_lasts() {
    script(|s| {
        s.reach(TcpState::TimeWait);
        s.wait(59_900);
        s.expect_state(TcpState::TimeWait);
        s.wait(200);
        s.expect_nothing();
        s.expect_closed(CloseReason::Finished);
        assert_eq!(s.connections(), 0);
    });
}

/// MUST-13: its default is twice the maximum segment lifetime, 4 minutes.
#[test]
fn rfc9293_3_6_1_time_wait_is_two_msl() {
    script(|s| {
        s.reach(TcpState::TimeWait);
        s.wait(239_000);
        s.expect_state(TcpState::TimeWait);
    });
}

/// The peer's FIN again restarts TIME-WAIT (RFC 9293 3.10.7.4, eighth).
#[test]
fn rfc9293_3_10_7_4_repeated_fin_restarts_time_wait() {
    script(|s| {
        s.reach(TcpState::TimeWait);
        s.wait(50_000);
        s.inject(fin().seq(1).ack(2));
        s.expect_only(ack().seq(2).ack(2));
        s.wait(59_000);
        s.expect_state(TcpState::TimeWait);
        s.wait(1_100);
        s.expect_closed(CloseReason::Finished);
    });
}

/// MAY-2, RFC 6191 2: a SYN with a higher number reopens from TIME-WAIT, with an initial number beyond the old one's end.
#[test]
fn rfc6191_2_syn_with_a_higher_number_reopens_time_wait() {
    script(|s| {
        s.reach(TcpState::TimeWait);
        s.close();
        let end = s.worker_iss().wrapping_add(2);
        s.wait(1000);
        s.irs = s.irs.wrapping_add(1000);
        s.inject(s.peer_syn());
        let answer = s.expect_only(syn_ack());
        assert!(answer.header.seq.wrapping_sub(end).cast_signed() > 0, "{} {end}", answer.header.seq);
        s.inject(ack());
        s.accept();
    });
}

/// The same while the application still holds the old connection: it learns that that one is over, and reads what was unread.
#[test]
fn rfc6191_2_who_holds_the_old_connection_does_not_keep_the_new_one_away() {
    script(|s| {
        s.establish();
        s.inject(data("unread").seq(1).ack(1));
        s.ignore_sent();
        s.shutdown_write();
        s.expect_only(fin().seq(1).ack(7));
        s.inject(fin().seq(7).ack(2));
        s.expect_only(ack().seq(2).ack(8));
        s.expect_state(TcpState::TimeWait);
        s.irs = s.irs.wrapping_add(1000);
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().ack(1));
        s.expect_read_to_end("unread");
        s.expect_closed(CloseReason::Finished);
        s.inject(ack());
        s.accept();
        s.expect_alive();
    });
}

/// RFC 5961 4.2: a SYN that nobody listens for does not end TIME-WAIT, it is challenged.
#[test]
fn rfc5961_4_2_a_syn_that_nobody_listens_for_does_not_end_time_wait() {
    script(|s| {
        s.reach(TcpState::TimeWait);
        s.close_listener();
        s.inject(syn().seq(1000));
        s.expect_only(ack().seq(2).ack(2));
        s.inject(syn().seq(1000));
        s.expect_nothing();
        s.expect_state(TcpState::TimeWait);
        s.expect_open();
    });
}

/// A SYN that may be old does not (RFC 6191 2): it is acknowledged.
#[test]
fn rfc6191_2_old_syn_does_not_reopen_time_wait() {
    script(|s| {
        s.reach(TcpState::TimeWait);
        s.inject(syn().seq(1));
        s.expect_only(ack().seq(2).ack(2));
        s.expect_state(TcpState::TimeWait);
    });
}

/// RFC 6191 2: with timestamps a newer one reopens even below the old number.
#[test]
fn rfc6191_2_newer_timestamp_reopens_time_wait() {
    script(|s| {
        s.offer_timestamps();
        s.reach(TcpState::TimeWait);
        s.close();
        s.wait(1000);
        s.irs = s.irs.wrapping_sub(5000);
        s.offer_timestamps();
        s.inject(s.peer_syn());
        s.expect_only(syn_ack());
        s.inject(ack().ts(s.now_ms() as u32, 0));
        s.accept();
    });
}

/// RFC 1337 3: a RST does not assassinate TIME-WAIT. RFC 9293 3.10.7.4 would let it: see the table.
#[test]
fn rfc1337_3_rst_in_time_wait_is_ignored() {
    script(|s| {
        s.reach(TcpState::TimeWait);
        s.inject(rst().seq(2));
        s.expect_nothing();
        s.expect_state(TcpState::TimeWait);
    });
}

/// RFC 1337 2: an old duplicate in TIME-WAIT draws an ACK, and the peer's answer to that is the RST of the case above.
#[test]
fn rfc1337_2_old_duplicate_in_time_wait_is_acknowledged() {
    script(|s| {
        s.reach(TcpState::TimeWait);
        s.inject(data("o").seq(0).ack(1));
        s.expect_only(ack().seq(2).ack(2));
        s.expect_state(TcpState::TimeWait);
    });
}

/// A closed connection waits for the peer's FIN only for a while; afterwards a FIN meets nobody.
#[test]
fn rfc9293_3_6_orphan_in_fin_wait_2_ends() {
    script(|s| {
        s.establish();
        s.close();
        s.expect_only(fin().seq(1));
        s.inject(ack());
        assert_eq!(s.connections(), 1);
        s.wait(61_000);
        assert_eq!(s.connections(), 0);
        s.inject(fin());
        s.expect_only(rst());
    });
}

/// Half-closed by shutdown, not by close: FIN-WAIT-2 waits for ever.
#[test]
fn rfc9293_3_6_half_closed_fin_wait_2_has_no_end() {
    script(|s| {
        s.reach(TcpState::FinWait2);
        s.wait_long(Duration::from_secs(3600));
        s.expect_state(TcpState::FinWait2);
        s.inject(data("still here"));
        s.expect_read("still here");
        s.wait(100);
        s.ignore_sent();
    });
}

/// RFC 9293 3.10.7.4, second: outstanding SENDs learn of the reset, even when both ends have closed.
#[test]
fn rfc9293_3_10_7_4_a_reset_in_last_ack_tells_of_text_that_was_not_acknowledged() {
    script(|s| {
        s.reach(TcpState::CloseWait);
        s.send("last words");
        s.expect_only(data("last words").seq(1).ack(2).psh());
        s.shutdown_write();
        s.expect_only(fin().seq(11).ack(2));
        s.expect_state(TcpState::LastAck);
        s.inject(rst().seq(2));
        s.expect_nothing();
        s.expect_closed(CloseReason::Reset);
    });
}

/// The same in CLOSING.
#[test]
fn rfc9293_3_10_7_4_a_reset_in_closing_tells_of_text_that_was_not_acknowledged() {
    script(|s| {
        s.establish();
        s.send("last words");
        s.expect_only(data("last words").seq(1).ack(1).psh());
        s.shutdown_write();
        s.expect_only(fin().seq(11).ack(1));
        s.inject(fin().ack(1));
        s.expect_only(ack().seq(12).ack(2));
        s.expect_state(TcpState::Closing);
        s.inject(rst().seq(2));
        s.expect_closed(CloseReason::Reset);
    });
}

/// LAST-ACK and FIN-WAIT-1 with a vanished peer end too.
#[test]
fn rfc9293_3_6_last_ack_does_not_stay_for_ever() {
    script(|s| {
        s.reach(TcpState::CloseWait);
        s.close();
        s.wait(1_200_000);
        s.ignore_sent();
        assert_eq!(s.connections(), 0);
    });
}

/// What the peer sent before its FIN stays readable after the connection has ended.
#[test]
fn rfc9293_3_10_3_data_before_fin_stays_readable() {
    script(|s| {
        s.establish();
        s.inject(fin().text("the end"));
        s.expect_only(ack().ack(9));
        s.shutdown_write();
        s.expect_only(fin().seq(1).ack(9));
        s.inject(ack().ack(2));
        s.expect_open();
        s.expect_read_to_end("the end");
        s.expect_closed(CloseReason::Finished);
    });
}

/// Send after the own FIN is refused (RFC 9293 3.10.2).
#[test]
fn rfc9293_3_10_2_send_after_close_is_refused() {
    script(|s| {
        s.reach(TcpState::FinWait2);
        assert_eq!(s.try_send(b"x"), Err(ringwire::ConnError::ShutDown));
        s.expect_nothing();
    });
}

/// A FIN queued in SYN-SENT follows the handshake (RFC 9293 3.10.4).
#[test]
fn rfc9293_3_10_4_close_before_established_is_queued() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.shutdown_write();
        s.expect_nothing();
        s.inject(s.peer_syn_ack());
        let sent = s.take_sent();
        assert!(sent.iter().any(|segment| segment.header.flags.contains(Flags::FIN)), "{sent:?}");
        s.inject(ack().ack(2));
        s.expect_connected();
        s.expect_state(TcpState::FinWait2);
    });
}

/// A peer that resets and begins anew at once meets the listener, although the application has not heard of the reset yet.
#[test]
fn rfc9293_3_10_7_4_a_new_syn_right_behind_a_reset_meets_the_listener() {
    script(|s| {
        s.establish();
        let syn = s.peer_syn().seq(5000);
        s.inject_all([rst().seq(1), syn]);
        s.expect_only(syn_ack().ack(5001));
        s.expect_closed(CloseReason::Reset);
        assert_eq!(s.connections(), 1);
    });
}
