//! RFC 9293 3.10.7.4, first, seventh and eighth, in every state: acceptability, text and FIN.

use ringwire::{CloseReason, TcpState};
use ringwire_conformance::{Script, ack, data, fin, script};

use crate::{ours, theirs};

// Text beyond the window is answered with an ACK and dropped (RFC 9293 3.10.7.4, first).
fn text_beyond(s: &mut Script, state: TcpState) {
    s.inject(data("x").seq(theirs(state) + 70_000).ack(1));
    s.expect_only(ack().seq(ours(state)).ack(theirs(state)));
    s.expect_state(state);
}
in_states! { text_beyond:
    rfc9293_3_10_7_4_text_beyond_the_window_in_syn_received in SynReceived,
    rfc9293_3_10_7_4_text_beyond_the_window_in_established in Established,
    rfc9293_3_10_7_4_text_beyond_the_window_in_fin_wait_1 in FinWait1,
    rfc9293_3_10_7_4_text_beyond_the_window_in_fin_wait_2 in FinWait2,
    rfc9293_3_10_7_4_text_beyond_the_window_in_close_wait in CloseWait,
    rfc9293_3_10_7_4_text_beyond_the_window_in_closing in Closing,
    rfc9293_3_10_7_4_text_beyond_the_window_in_last_ack in LastAck,
    rfc9293_3_10_7_4_text_beyond_the_window_in_time_wait in TimeWait,
}

// Text from before the window likewise (RFC 9293 3.10.7.4, first).
fn old_text(s: &mut Script, state: TcpState) {
    s.inject(data("x").seq(theirs(state) - 1).ack(1));
    s.expect_only(ack().seq(ours(state)).ack(theirs(state)));
    s.expect_state(state);
}
in_states! { old_text:
    rfc9293_3_10_7_4_old_text_in_syn_received in SynReceived,
    rfc9293_3_10_7_4_old_text_in_established in Established,
    rfc9293_3_10_7_4_old_text_in_fin_wait_1 in FinWait1,
    rfc9293_3_10_7_4_old_text_in_fin_wait_2 in FinWait2,
    rfc9293_3_10_7_4_old_text_in_close_wait in CloseWait,
    rfc9293_3_10_7_4_old_text_in_closing in Closing,
    rfc9293_3_10_7_4_old_text_in_last_ack in LastAck,
    rfc9293_3_10_7_4_old_text_in_time_wait in TimeWait,
}

// Text in order is delivered where the peer may still send (RFC 9293 3.10.7.4, seventh).
fn text_in_order(s: &mut Script, state: TcpState) {
    s.inject(data("hello").seq(1).ack(1));
    if state == TcpState::SynReceived {
        s.accept();
    }
    s.expect_read("hello");
    s.expect_after(0..=500, ack().seq(ours(state)).ack(6));
    s.expect_open();
}
in_states! { text_in_order:
    rfc9293_3_10_7_4_text_with_the_handshakes_ack in SynReceived,
    rfc9293_3_10_7_4_text_in_established in Established,
    rfc9293_3_10_7_4_text_in_fin_wait_1 in FinWait1,
    rfc9293_3_10_7_4_text_in_fin_wait_2 in FinWait2,
}

// After the peer's FIN there is no text: it is ignored (RFC 9293 3.10.7.4, seventh).
fn text_after_fin(s: &mut Script, state: TcpState) {
    s.inject(data("late").seq(theirs(state)).ack(1));
    s.ignore_sent();
    s.expect_state(state);
    s.expect_eof();
}
in_states! { text_after_fin:
    rfc9293_3_10_7_4_text_after_fin_in_close_wait in CloseWait,
    rfc9293_3_10_7_4_text_after_fin_in_closing in Closing,
    rfc9293_3_10_7_4_text_after_fin_in_last_ack in LastAck,
    rfc9293_3_10_7_4_text_after_fin_in_time_wait in TimeWait,
}

// FIN in order is acknowledged at once and moves the state (RFC 9293 3.10.7.4, eighth).
fn fin_in_order(s: &mut Script, state: TcpState) {
    s.inject(fin().seq(theirs(state)).ack(1));
    if state == TcpState::SynReceived {
        s.accept();
    }
    s.expect_only(ack().seq(ours(state)).ack(theirs(state) + 1));
    s.expect_state(match state {
        TcpState::SynReceived | TcpState::Established => TcpState::CloseWait,
        TcpState::FinWait1 => TcpState::Closing,
        TcpState::FinWait2 => TcpState::TimeWait,
        TcpState::Closed
        | TcpState::SynSent
        | TcpState::CloseWait
        | TcpState::Closing
        | TcpState::LastAck
        | TcpState::TimeWait => state,
    });
    s.expect_eof();
}
in_states! { fin_in_order:
    rfc9293_3_10_7_4_fin_in_syn_received in SynReceived,
    rfc9293_3_10_7_4_fin_in_established in Established,
    rfc9293_3_10_7_4_fin_in_fin_wait_1_is_a_simultaneous_close in FinWait1,
    rfc9293_3_10_7_4_fin_in_fin_wait_2 in FinWait2,
}

// The peer's FIN again: our ACK was lost, it is acknowledged again and nothing changes (RFC 9293 3.10.7.4, eighth).
fn fin_again(s: &mut Script, state: TcpState) {
    s.inject(fin().seq(1).ack(1));
    s.expect_only(ack().seq(ours(state)).ack(2));
    s.expect_state(state);
}
in_states! { fin_again:
    rfc9293_3_10_7_4_fin_again_in_close_wait in CloseWait,
    rfc9293_3_10_7_4_fin_again_in_closing in Closing,
    rfc9293_3_10_7_4_fin_again_in_last_ack in LastAck,
    rfc9293_3_10_7_4_fin_again_in_time_wait in TimeWait,
}

/// FIN-WAIT-1, a FIN that acknowledges ours: straight to TIME-WAIT (RFC 9293 3.10.7.4, eighth).
#[test]
fn rfc9293_3_10_7_4_fin_with_the_ack_of_ours_goes_to_time_wait() {
    script(|s| {
        s.reach(TcpState::FinWait1);
        s.inject(fin().seq(1).ack(2));
        s.expect_only(ack().seq(2).ack(2));
        s.expect_state(TcpState::TimeWait);
    });
}

/// FIN in SYN-SENT is not processed (RFC 9293 3.10.7.3, 3.10.7.4, eighth).
#[test]
fn rfc9293_3_10_7_4_fin_in_syn_sent_is_dropped() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.inject(ringwire_conformance::bare(ringwire_wire::tcp::Flags::FIN).seq(0));
        s.expect_nothing();
        s.expect_state(TcpState::SynSent);
    });
}

/// Text and FIN in one segment.
#[test]
fn rfc9293_3_10_7_4_fin_with_text() {
    script(|s| {
        s.establish();
        s.inject(fin().text("bye"));
        s.expect_only(ack().ack(5));
        s.expect_read("bye");
        s.expect_eof();
        s.expect_state(TcpState::CloseWait);
    });
}

/// FIN ahead of missing text waits for it (RFC 9293 3.10.7.4 SHLD-31).
#[test]
fn rfc9293_3_10_7_4_fin_out_of_order_waits_for_the_text() {
    script(|s| {
        s.establish();
        s.inject(fin().seq(4));
        s.expect_only(ack().ack(1));
        s.expect_state(TcpState::Established);
        s.inject(data("abc").seq(1));
        s.expect_only(ack().ack(5));
        s.expect_read("abc");
        s.expect_eof();
    });
}

/// A FIN behind the window is cut off with the text before it (RFC 9293 3.10.7.4, first).
#[test]
fn rfc9293_3_10_7_4_fin_beyond_the_window_is_cut_off() {
    script(|s| {
        s.options.recv_buffer_bytes = 3000;
        s.establish();
        s.inject(data(vec![1; 1460]));
        s.inject(data(vec![2; 1460]));
        s.ignore_sent();
        s.inject(fin().seq(2921).text(vec![3; 100]));
        s.ignore_sent();
        s.expect_state(TcpState::Established);
        assert_eq!(s.read().len(), 3000);
        s.ignore_sent();
    });
}

/// Only what is new of a segment that overlaps is taken; the first byte stored wins (RFC 9293 3.10.7.4, first).
#[test]
fn rfc9293_3_10_7_4_only_new_text_of_an_overlap_is_taken() {
    script(|s| {
        s.establish();
        s.inject(data("abc").seq(1));
        s.inject(data("XYdef").seq(2));
        s.expect_read("abcdef");
        s.expect_after(0..=500, ack().ack(7));
    });
}

/// Of two versions of bytes held out of order the first stays.
#[test]
fn rfc9293_3_10_7_4_overlap_out_of_order_keeps_the_first_bytes() {
    script(|s| {
        s.establish();
        s.inject(data("cd").seq(3));
        s.inject(data("XXXX").seq(2));
        s.inject(data("a").seq(1));
        s.ignore_sent();
        s.expect_read("aXcd");
        // What lay behind the piece that was held is asked for again.
        s.inject(data("e").seq(5));
        s.expect_read("e");
        s.wait(100);
        s.ignore_sent();
    });
}

/// A segment that begins at the left of the window and ends in it is taken in part.
#[test]
fn rfc9293_3_4_segment_across_the_left_edge() {
    script(|s| {
        s.establish();
        s.inject(data("\0new").seq(0));
        s.expect_read("new");
        s.expect_after(0..=500, ack().ack(4));
    });
}

/// The last byte of the window is in it, the next is not (RFC 9293 3.4).
#[test]
fn rfc9293_3_4_right_edge_of_the_window() {
    script(|s| {
        s.establish();
        s.inject(data("x").seq(65_535));
        s.expect_only(ack().ack(1));
        assert_eq!(s.info().out_of_order_segs, 1);
        s.inject(data("x").seq(65_536));
        s.expect_only(ack().ack(1));
        assert_eq!(s.info().out_of_order_segs, 1);
    });
}

/// The peer closed, we send on and close later: every byte and both FINs arrive (RFC 9293 3.6).
#[test]
fn rfc9293_3_6_close_wait_still_sends() {
    script(|s| {
        s.reach(TcpState::CloseWait);
        s.send("more");
        s.expect_only(data("more").seq(1).ack(2));
        s.inject(ack().seq(2));
        s.shutdown_write();
        s.expect_only(fin().seq(5).ack(2));
        s.inject(ack().seq(2));
        s.expect_closed(CloseReason::Finished);
    });
}
