//! RFC 9293 3.10.7.4, first to fifth, in every state: sequence number, RST, SYN and ACK, with RFC 5961.

use ringwire::{CloseReason, TcpState};
use ringwire_conformance::{Script, ack, bare, data, rst, syn, syn_ack};
use ringwire_wire::tcp::Flags;

use crate::{ours, theirs};

/// The announced window of a peer without window scaling.
const WINDOW: u32 = 65_535;

/// Nobody knows the connection any more.
fn expect_gone(s: &mut Script) {
    s.ignore_sent();
    s.inject(ack().seq(2).ack(2));
    s.expect_only(rst().seq(2));
}

// RST at RCV.NXT ends the connection without an answer (RFC 9293 3.10.7.4, second; RFC 5961 3.2).
fn reset_exactly(s: &mut Script, state: TcpState) {
    s.inject(rst().seq(theirs(state)));
    s.expect_nothing();
    match state {
        TcpState::Closed | TcpState::SynSent | TcpState::SynReceived => s.expect_no_accept(),
        TcpState::Established | TcpState::FinWait1 | TcpState::FinWait2 | TcpState::CloseWait => {
            s.expect_closed(CloseReason::Reset);
        }
        TcpState::Closing | TcpState::LastAck | TcpState::TimeWait => {
            s.expect_closed(CloseReason::Finished);
        }
    }
    assert_eq!(s.connections(), 0);
    expect_gone(s);
}
in_states! { reset_exactly:
    rfc9293_3_10_7_4_rst_at_rcv_nxt_in_syn_received in SynReceived,
    rfc9293_3_10_7_4_rst_at_rcv_nxt_in_established in Established,
    rfc9293_3_10_7_4_rst_at_rcv_nxt_in_fin_wait_1 in FinWait1,
    rfc9293_3_10_7_4_rst_at_rcv_nxt_in_fin_wait_2 in FinWait2,
    rfc9293_3_10_7_4_rst_at_rcv_nxt_in_close_wait in CloseWait,
    rfc9293_3_10_7_4_rst_at_rcv_nxt_in_closing in Closing,
    rfc9293_3_10_7_4_rst_at_rcv_nxt_in_last_ack in LastAck,
    rfc9293_3_10_7_4_rst_at_rcv_nxt_in_time_wait in TimeWait,
}

// RST elsewhere in the window is challenged (RFC 5961 3.2).
fn reset_in_window(s: &mut Script, state: TcpState) {
    s.inject(rst().seq(theirs(state) + 1));
    s.expect_only(ack().seq(ours(state)).ack(theirs(state)));
    s.wait(1);
    s.inject(rst().seq(theirs(state) + WINDOW - 2));
    // RFC 5961 7: not another one at once.
    s.expect_nothing();
    s.expect_state(state);
    s.expect_open();
}
in_states! { reset_in_window:
    rfc5961_3_2_rst_in_window_is_challenged_in_syn_received in SynReceived,
    rfc5961_3_2_rst_in_window_is_challenged_in_established in Established,
    rfc5961_3_2_rst_in_window_is_challenged_in_fin_wait_1 in FinWait1,
    rfc5961_3_2_rst_in_window_is_challenged_in_fin_wait_2 in FinWait2,
    rfc5961_3_2_rst_in_window_is_challenged_in_close_wait in CloseWait,
    rfc5961_3_2_rst_in_window_is_challenged_in_closing in Closing,
    rfc5961_3_2_rst_in_window_is_challenged_in_last_ack in LastAck,
    rfc5961_3_2_rst_in_window_is_challenged_in_time_wait in TimeWait,
}

// RST outside the window is dropped without a word (RFC 9293 3.10.7.4, first; RFC 5961 3.2).
fn reset_outside(s: &mut Script, state: TcpState) {
    s.inject(rst().seq(theirs(state) - 1));
    s.inject(rst().seq(theirs(state) + WINDOW));
    s.inject(rst().seq(theirs(state) + 0x7000_0000));
    s.expect_nothing();
    s.expect_state(state);
    s.expect_open();
}
in_states! { reset_outside:
    rfc9293_3_10_7_4_rst_outside_the_window_in_syn_received in SynReceived,
    rfc9293_3_10_7_4_rst_outside_the_window_in_established in Established,
    rfc9293_3_10_7_4_rst_outside_the_window_in_fin_wait_1 in FinWait1,
    rfc9293_3_10_7_4_rst_outside_the_window_in_fin_wait_2 in FinWait2,
    rfc9293_3_10_7_4_rst_outside_the_window_in_close_wait in CloseWait,
    rfc9293_3_10_7_4_rst_outside_the_window_in_closing in Closing,
    rfc9293_3_10_7_4_rst_outside_the_window_in_last_ack in LastAck,
    rfc9293_3_10_7_4_rst_outside_the_window_in_time_wait in TimeWait,
}

// SYN in the window of a synchronised state is challenged, never believed (RFC 5961 4.2, RFC 9293 3.10.7.4, fourth).
fn syn_in_window(s: &mut Script, state: TcpState) {
    s.inject(syn().seq(theirs(state) + 3));
    s.expect_only(ack().seq(ours(state)).ack(theirs(state)));
    s.expect_state(state);
    s.expect_open();
}
in_states! { syn_in_window:
    rfc5961_4_2_syn_in_window_is_challenged_in_established in Established,
    rfc5961_4_2_syn_in_window_is_challenged_in_fin_wait_1 in FinWait1,
    rfc5961_4_2_syn_in_window_is_challenged_in_fin_wait_2 in FinWait2,
    rfc5961_4_2_syn_in_window_is_challenged_in_close_wait in CloseWait,
    rfc5961_4_2_syn_in_window_is_challenged_in_closing in Closing,
    rfc5961_4_2_syn_in_window_is_challenged_in_last_ack in LastAck,
}

// The same for a SYN, or a SYN-ACK, from anywhere.
fn syn_outside(s: &mut Script, state: TcpState) {
    s.inject(syn().seq(theirs(state) + 0x4000_0000));
    s.expect_only(ack().seq(ours(state)).ack(theirs(state)));
    s.wait(100);
    s.inject(syn_ack().seq(theirs(state) - 1).ack(1));
    s.expect_nothing();
    // So much for the limit; half a second later it is answered too.
    s.wait(400);
    s.ignore_sent();
    s.inject(syn_ack().seq(theirs(state) - 1).ack(1));
    s.expect_only(ack().seq(ours(state)).ack(theirs(state)));
    s.expect_state(state);
    s.expect_open();
}
in_states! { syn_outside:
    rfc5961_4_2_syn_from_anywhere_is_challenged_in_established in Established,
    rfc5961_4_2_syn_from_anywhere_is_challenged_in_fin_wait_1 in FinWait1,
    rfc5961_4_2_syn_from_anywhere_is_challenged_in_fin_wait_2 in FinWait2,
    rfc5961_4_2_syn_from_anywhere_is_challenged_in_close_wait in CloseWait,
    rfc5961_4_2_syn_from_anywhere_is_challenged_in_closing in Closing,
    rfc5961_4_2_syn_from_anywhere_is_challenged_in_last_ack in LastAck,
}

// Without ACK the segment is dropped (RFC 9293 3.10.7.4, fifth).
fn no_ack(s: &mut Script, state: TcpState) {
    s.inject(bare(Flags::PSH).seq(theirs(state)).text("x"));
    s.inject(bare(Flags::FIN).seq(theirs(state)));
    s.inject(bare(Flags::NONE).seq(theirs(state)));
    s.expect_nothing();
    s.expect_state(state);
}
in_states! { no_ack:
    rfc9293_3_10_7_4_segment_without_ack_in_syn_received in SynReceived,
    rfc9293_3_10_7_4_segment_without_ack_in_established in Established,
    rfc9293_3_10_7_4_segment_without_ack_in_fin_wait_1 in FinWait1,
    rfc9293_3_10_7_4_segment_without_ack_in_fin_wait_2 in FinWait2,
    rfc9293_3_10_7_4_segment_without_ack_in_close_wait in CloseWait,
    rfc9293_3_10_7_4_segment_without_ack_in_closing in Closing,
    rfc9293_3_10_7_4_segment_without_ack_in_last_ack in LastAck,
}

// An ACK of what was never sent is answered and dropped with its text (RFC 9293 3.10.7.4, fifth).
fn ack_of_the_future(s: &mut Script, state: TcpState) {
    s.inject(data("x").seq(theirs(state)).ack(ours(state) + 1));
    s.expect_only(ack().seq(ours(state)).ack(theirs(state)));
    s.expect_state(state);
    s.expect_read("");
}
in_states! { ack_of_the_future:
    rfc9293_3_10_7_4_ack_of_unsent_data_in_established in Established,
    rfc9293_3_10_7_4_ack_of_unsent_data_in_fin_wait_1 in FinWait1,
    rfc9293_3_10_7_4_ack_of_unsent_data_in_fin_wait_2 in FinWait2,
    rfc9293_3_10_7_4_ack_of_unsent_data_in_close_wait in CloseWait,
    rfc9293_3_10_7_4_ack_of_unsent_data_in_closing in Closing,
    rfc9293_3_10_7_4_ack_of_unsent_data_in_last_ack in LastAck,
}

// An ACK older than the largest window the peer has offered is answered and dropped (RFC 5961 5.2).
fn ack_of_the_past(s: &mut Script, state: TcpState) {
    s.inject(data("x").seq(theirs(state)).ack(0_u32.wrapping_sub(0x1_0000)));
    s.expect_only(ack().seq(ours(state)).ack(theirs(state)));
    s.expect_state(state);
    s.expect_read("");
}
in_states! { ack_of_the_past:
    rfc5961_5_2_ack_too_old_in_established in Established,
    rfc5961_5_2_ack_too_old_in_fin_wait_1 in FinWait1,
    rfc5961_5_2_ack_too_old_in_fin_wait_2 in FinWait2,
    rfc5961_5_2_ack_too_old_in_close_wait in CloseWait,
    rfc5961_5_2_ack_too_old_in_closing in Closing,
    rfc5961_5_2_ack_too_old_in_last_ack in LastAck,
}

// An ACK of everything moves the states that wait for one (RFC 9293 3.10.7.4, fifth).
fn ack_of_everything(s: &mut Script, state: TcpState) {
    s.inject(ack().seq(theirs(state)).ack(ours(state)));
    s.expect_nothing();
    match state {
        TcpState::FinWait1 => s.expect_state(TcpState::FinWait2),
        TcpState::Closing => s.expect_state(TcpState::TimeWait),
        TcpState::LastAck => {
            s.expect_closed(CloseReason::Finished);
            assert_eq!(s.connections(), 0);
        }
        TcpState::SynReceived => {
            s.accept();
            s.expect_state(TcpState::Established);
        }
        TcpState::Closed
        | TcpState::SynSent
        | TcpState::Established
        | TcpState::FinWait2
        | TcpState::CloseWait
        | TcpState::TimeWait => s.expect_state(state),
    }
}
in_states! { ack_of_everything:
    rfc9293_3_10_7_4_ack_in_syn_received_establishes in SynReceived,
    rfc9293_3_10_7_4_ack_in_established_changes_nothing in Established,
    rfc9293_3_10_7_4_ack_of_fin_in_fin_wait_1 in FinWait1,
    rfc9293_3_10_7_4_ack_in_fin_wait_2_changes_nothing in FinWait2,
    rfc9293_3_10_7_4_ack_in_close_wait_changes_nothing in CloseWait,
    rfc9293_3_10_7_4_ack_of_fin_in_closing in Closing,
    rfc9293_3_10_7_4_ack_of_fin_in_last_ack in LastAck,
    rfc9293_3_10_7_4_ack_in_time_wait_changes_nothing in TimeWait,
}

/// An ACK in SYN-RECEIVED that does not acknowledge the SYN draws a RST with its number (RFC 9293 3.10.7.4, fifth).
#[test]
fn rfc9293_3_10_7_4_wrong_ack_in_syn_received_is_reset() {
    ringwire_conformance::script(|s| {
        s.reach(TcpState::SynReceived);
        for wrong in [0, 2] {
            s.inject(ack().seq(1).ack(wrong));
            s.expect_only(rst().seq(wrong));
        }
        s.expect_no_accept();
        s.inject(ack().seq(1).ack(1));
        s.accept();
    });
}

/// A SYN in the window of a passive SYN-RECEIVED returns the connection to LISTEN (RFC 9293 3.10.7.4, fourth).
#[test]
fn rfc9293_3_10_7_4_syn_in_window_in_syn_received_returns_to_listen() {
    ringwire_conformance::script(|s| {
        s.reach(TcpState::SynReceived);
        s.inject(syn().seq(100));
        s.expect_nothing();
        assert_eq!(s.connections(), 0);
        s.establish();
    });
}

/// RFC 5961 7: challenge ACKs of one connection are limited, those of another are not touched (CVE-2016-5696).
#[test]
fn rfc5961_7_challenge_acks_are_limited_per_connection() {
    ringwire_conformance::script(|s| {
        s.establish();
        let first = s.peer_port;
        s.peer_port = 40_001;
        s.establish();
        for _ in 0..10 {
            s.inject(rst().seq(9).port(first));
            s.wait(40);
        }
        s.expect_only(ack().port(first));
        s.inject(rst().seq(9));
        s.expect_only(ack());
        // Half a second after the first one the next may go.
        s.wait(150);
        s.inject(rst().seq(9).port(first));
        s.expect_only(ack().port(first));
    });
}

/// RFC 5961 5.2: an ACK exactly as old as the largest window is still looked at.
#[test]
fn rfc5961_5_2_ack_at_the_old_edge_is_taken() {
    ringwire_conformance::script(|s| {
        s.establish();
        let next = send_and_acknowledge(s, 70_000);
        s.inject(data("x").seq(1).ack(next - 65_535));
        s.expect_read("x");
        s.expect_after(1..=500, ack().seq(next).ack(2));
        s.inject(data("y").seq(2).ack(next - 65_536));
        s.expect_only(ack().seq(next).ack(2));
    });
}

/// Sends so much and acknowledges it; returns what is to be acknowledged next.
fn send_and_acknowledge(s: &mut Script, bytes: u32) -> u32 {
    const PIECE: u32 = 10_000;
    for sent in (0..bytes).step_by(PIECE as usize) {
        s.send(vec![7; PIECE as usize]);
        s.ignore_sent();
        s.inject(ack().ack(1 + sent + PIECE));
    }
    1 + bytes
}

/// RFC 5961 5.2: MAX.SND.WND is the largest window ever offered, with its scale, not the one of now.
#[test]
fn rfc5961_5_2_largest_window_is_remembered() {
    const LARGEST: u32 = 65_535 << 1;
    ringwire_conformance::script(|s| {
        s.offer.window_scale = Some(1);
        s.establish();
        let next = send_and_acknowledge(s, 140_000);
        s.inject(ack().ack(next).win(10));
        s.expect_nothing();
        s.inject(data("x").seq(1).ack(next - LARGEST).win(10));
        s.expect_read("x");
        s.expect_after(0..=500, ack().seq(next).ack(2));
        s.inject(data("y").seq(2).ack(next - LARGEST - 1).win(10));
        s.expect_only(ack().seq(next).ack(2));
    });
}
