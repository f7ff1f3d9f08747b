//! What leaves, when and in which pieces: MSS, PSH, Nagle, cork, windows, probes (RFC 9293 3.7.4, 3.8.6).

use core::time::Duration;
use std::vec::Vec;

use super::host::{Buf, Completion, Host, Wire};
use super::script::*;
use crate::tcp::{CloseReason, Config, SendError, Signals, State, TransmitKind};

fn lens(sent: &[Wire]) -> Vec<usize> {
    sent.iter().map(|wire| wire.payload.len()).collect()
}

#[test]
fn a_long_write_leaves_in_full_segments_and_pushes_its_end() {
    let mut host = established(&plain());
    let sent = host.write(&[9; 2500]);
    assert_eq!(lens(&sent), [1000, 1000, 500]);
    assert_eq!(sent.iter().map(|wire| wire.has(PSH)).collect::<Vec<_>>(), [false, false, true]);
    assert!(sent.iter().all(|wire| wire.kind == TransmitKind::Data && !wire.copied));
    assert!(!host.tcb.wants_transmit());
}

#[test]
fn the_peers_mss_and_ours_bound_segments_and_options_come_off() {
    for (peers, ours, timestamps, expected) in [
        (Some(1460), 1000, false, 1000),
        (Some(536), 1000, false, 536),
        (None, 1000, false, 536),
        (Some(1460), 1000, true, 988),
        (Some(1), 1000, true, 36),
        (Some(65535), 1000, false, 1000),
    ] {
        let config = Config { mss: ours, timestamps, ..plain() };
        let mut syn_ack = if timestamps { peer_syn_ack().stamp(1, 0) } else { peer_syn_ack() };
        syn_ack.options.mss = peers;
        let mut host = established_by(&config, &syn_ack);
        assert_eq!(host.tcb.mss, expected, "{peers:?}");
        assert_eq!(host.write(&[1; 3000])[0].payload.len(), usize::from(expected));
    }
}

#[test]
fn nagle_holds_a_second_small_segment_until_the_first_is_acknowledged() {
    let mut host = established(&plain());
    assert_eq!(lens(&host.write(b"one")), [3]);
    assert_eq!(lens(&host.write(b"two")), []);
    assert_eq!(lens(&host.write(b"three")), []);
    let sent = one(host.exchange(&peer(ACK, 0, 3)));
    assert_eq!(sent.payload, b"twothree");
}

#[test]
fn nagle_lets_full_segments_and_the_tail_of_a_long_write_go() {
    let mut host = established(&plain());
    assert_eq!(lens(&host.write(&[1; 1500])), [1000, 500]);
    // Now a small segment is out: the next tail waits, full segments do not.
    assert_eq!(lens(&host.write(&[2; 1200])), [1000]);
    assert_eq!(lens(&host.exchange(&peer(ACK, 0, 1500))), [200]);
}

#[test]
fn nodelay_sends_every_write_at_once() {
    let mut host = established(&Config { nodelay: true, ..plain() });
    assert_eq!(lens(&host.write(b"one")), [3]);
    assert_eq!(lens(&host.write(b"two")), [3]);
}

#[test]
fn turning_nagle_off_lets_held_data_go() {
    let mut host = established(&plain());
    host.write(b"one");
    assert_eq!(lens(&host.write(b"two")), []);
    host.config.nodelay = true;
    host.call(|tcb, cx| tcb.on_config_change(cx));
    assert_eq!(lens(&host.transmit()), [3]);
}

#[test]
fn a_queued_fin_takes_the_last_data_with_it() {
    let mut host = established(&plain());
    host.write(b"one");
    assert_eq!(lens(&host.write(b"two")), []);
    expect(&one(host.close()), FIN | ACK | PSH, 3, 0, 3);
}

#[test]
fn cork_collects_full_segments_and_uncork_lets_the_rest_go() {
    let mut host = established(&Config { nodelay: true, ..plain() });
    host.tcb.cork();
    assert_eq!(lens(&host.write(&[1; 600])), []);
    assert_eq!(lens(&host.write(&[2; 600])), [1000]);
    host.tcb.uncork(&host.cold);
    let rest = one(host.transmit());
    assert_eq!((rest.payload.len(), rest.has(PSH)), (200, true));
    assert_eq!(lens(&host.write(b"free")), [4]);
}

#[test]
fn uncork_lets_nothing_go_that_is_written_later() {
    let mut host = established(&plain());
    host.tcb.cork();
    host.tcb.uncork(&host.cold);
    host.tcb.cork();
    assert_eq!(lens(&host.write(b"held")), []);
}

#[test]
fn cork_holds_data_for_200_ms_at_most() {
    let mut host = established(&plain());
    host.tcb.cork();
    assert_eq!(lens(&host.write(b"corked")), []);
    let start = host.now;
    assert_eq!(lens(&host.run_timer()), [6]);
    assert_eq!(host.now.saturating_since(start), Duration::from_millis(200));
    // Still corked.
    host.exchange(&peer(ACK, 0, 6));
    assert_eq!(lens(&host.write(b"again")), []);
}

#[test]
fn cork_does_not_hold_what_the_window_cuts() {
    let mut host = established_by(&plain(), &peer_syn_ack().window(300));
    host.tcb.cork();
    assert_eq!(lens(&host.write(&[1; 900])), [300]);
}

#[test]
fn small_writes_coalesce_into_one_buffer() {
    let mut host = established(&plain());
    host.write(b"x");
    let before = host.pool.left;
    for _ in 0..100 {
        host.send(b"0123456789");
    }
    assert_eq!(before - host.pool.left, 1);
    assert_eq!(lens(&host.exchange(&peer(ACK, 0, 1))), [1000]);
}

#[test]
fn data_written_before_the_handshake_leaves_room_for_the_options_and_is_not_copied() {
    let config = Config { timestamps: true, ..plain() };
    let mut host = Host::connect(&config, ISS.0);
    host.transmit();
    host.send(&[1; 2000]);
    let sent = host.exchange(&peer_syn_ack().stamp(1, 0));
    assert_eq!(lens(&sent), [988, 988, 24]);
    assert!(sent.iter().all(|wire| !wire.copied));
}

#[test]
fn the_send_buffer_ends_with_a_short_count_and_writable_follows() {
    let mut host = established(&Config { send_buffer_bytes: 3000, ..plain() });
    assert_eq!(host.send(&[1; 5000]), 3000);
    assert_eq!(host.send(&[1; 1]), 0);
    assert_eq!(lens(&host.transmit()), [1000, 1000, 1000]);
    host.signals = Signals::NONE;
    host.exchange(&peer(ACK, 0, 500));
    assert!(!host.signals.contains(Signals::WRITABLE), "a partial acknowledgement frees no buffer");
    host.exchange(&peer(ACK, 0, 1000));
    assert!(host.signals.contains(Signals::WRITABLE));
    assert_eq!(host.send(&[1; 5000]), 1000);
    host.exchange(&peer(ACK, 0, 3000));
    host.signals = Signals::NONE;
    host.exchange(&peer(ACK, 0, 4000));
    assert!(!host.signals.contains(Signals::WRITABLE), "once for each short count");
}

#[test]
fn an_empty_pool_is_an_error_of_its_own() {
    let mut host = established(&plain());
    host.pool.left = 1;
    assert_eq!(host.send(&[1; 1500]), 1000);
    assert_eq!(host.call(|tcb, cx| tcb.send(cx, b"x")), Err(SendError::NoBuffer));
    host.pool.left = 1;
    assert_eq!(host.send(&[1; 500]), 500);
    // And with nothing queued, no cold state stays behind.
    let mut host = established(&plain());
    host.pool.left = 0;
    assert_eq!(host.call(|tcb, cx| tcb.send(cx, b"x")), Err(SendError::NoBuffer));
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn small_writes_cannot_pin_more_buffers_than_the_send_buffer_allows() {
    let mut host = established(&Config { nodelay: true, send_buffer_bytes: 16 * 512, ..plain() });
    for _ in 0..16 {
        assert_eq!(lens(&host.write(b"x")), [1]);
    }
    assert_eq!(host.send(b"x"), 0);
    let buf = Buf::filled(b"x");
    assert!(matches!(host.call(|tcb, cx| tcb.send_buf(cx, buf)), Err((_, SendError::WouldBlock))));
}

#[test]
fn a_filled_buffer_leaves_as_it_is() {
    let mut host = established(&plain());
    host.call(|tcb, cx| tcb.send_buf(cx, Buf::filled(b"prepared"))).expect("queued");
    let sent = one(host.transmit());
    assert_eq!((&sent.payload[..], sent.copied, sent.has(PSH)), (&b"prepared"[..], false, true));
    host.call(|tcb, cx| tcb.send_buf(cx, Buf::filled(b""))).expect("nothing to queue");
    assert_eq!(host.transmit(), []);
}

#[test]
fn a_buffer_longer_than_the_mss_leaves_as_copies_of_its_parts() {
    let mut host = established(&plain());
    let bytes: Vec<u8> = (0..2500_u32).map(|n| n as u8).collect();
    host.call(|tcb, cx| tcb.send_buf(cx, Buf::filled(&bytes))).expect("queued");
    let sent = host.transmit();
    assert_eq!(lens(&sent), [1000, 1000, 500]);
    assert!(sent.iter().all(|wire| wire.copied));
    assert_eq!(sent.iter().flat_map(|wire| wire.payload.clone()).collect::<Vec<_>>(), bytes);
    assert_eq!(sent.iter().map(|wire| wire.has(PSH)).collect::<Vec<_>>(), [false, false, true]);
    // The buffer lives until its last part is acknowledged.
    host.exchange(&peer(ACK, 0, 2000));
    let again = one(host.run_timer());
    assert_eq!((&again.payload[..], again.kind), (&bytes[2000..], TransmitKind::Retransmission));
    host.exchange(&peer(ACK, 0, 2500));
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn a_window_smaller_than_the_segment_cuts_it_only_when_nothing_is_in_flight() {
    let mut host = established_by(&plain(), &peer_syn_ack().window(700));
    let bytes: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
    let sent = one(host.write(&bytes));
    assert_eq!((sent.payload.len(), sent.copied), (700, true));
    assert_eq!(host.exchange(&peer(ACK, 0, 0).window(900)), [], "something is in flight");
    let sent = one(host.exchange(&peer(ACK, 0, 700).window(700)));
    assert_eq!(sent.payload, &bytes[700..]);
}

#[test]
fn the_sender_waits_for_a_window_worth_a_segment_but_not_for_ever() {
    // RFC 9293 3.8.6.2.1: half of the largest window seen, or the override timeout.
    let mut host = established_by(&plain(), &peer_syn_ack().window(800));
    host.write(&[1; 800]);
    assert_eq!(host.exchange(&peer(ACK, 0, 800).window(399)), []);
    assert_eq!(lens(&host.write(&[2; 600])), []);
    let start = host.now;
    assert_eq!(lens(&host.run_timer()), [399]);
    assert_eq!(host.now.saturating_since(start), Duration::from_millis(200));
    assert_eq!(lens(&host.exchange(&peer(ACK, 0, 1199).window(400))), [201]);
}

#[test]
fn nothing_is_sent_beyond_the_window_and_the_rest_follows_it() {
    let mut host = established_by(&plain(), &peer_syn_ack().window(2500));
    assert_eq!(lens(&host.write(&[1; 5000])), [1000, 1000]);
    assert_eq!(lens(&host.exchange(&peer(ACK, 0, 1000).window(2500))), [1000]);
    // Slides by what it acknowledges, no more.
    assert_eq!(lens(&host.exchange(&peer(ACK, 0, 2000).window(1500))), []);
    assert_eq!(lens(&host.exchange(&peer(ACK, 0, 2000).window(3000))), [1000, 1000]);
}

#[test]
fn a_closed_window_is_probed_with_back_off_for_as_long_as_the_peer_answers() {
    // RFC 9293 3.8.6.1: MUST-36, MUST-37
    let mut host = established_by(&plain(), &peer_syn_ack().window(1000));
    host.write(&[1; 1000]);
    assert_eq!(host.exchange(&peer(ACK, 0, 1000).window(0)), []);
    assert_eq!(host.tcb.next_timer(), None, "no probe without data");
    assert_eq!(host.write(b"waiting"), []);
    let mut last = host.now;
    let mut intervals = Vec::new();
    for _ in 0..40 {
        let probe = one(host.run_timer());
        expect(&probe, ACK, 999, 0, 0);
        assert_eq!(probe.kind, TransmitKind::Probe);
        intervals.push(host.now.saturating_since(last));
        last = host.now;
        assert_eq!(host.exchange(&peer(ACK, 0, 1000).window(0)), []);
    }
    // And the round trip, which is the smallest there is.
    assert_eq!(intervals[0], Duration::from_micros(200_001));
    assert!(
        intervals.windows(2).all(|two| two[1] == (two[0] * 2).min(Duration::from_secs(120))),
        "{intervals:?}"
    );
    assert_eq!(host.state(), State::Established);
    assert_eq!(one(host.exchange(&peer(ACK, 0, 1000).window(1000))).payload, b"waiting");
}

#[test]
fn probes_that_nobody_answers_end_the_connection() {
    let mut host = established_by(&Config { retries: 3, ..plain() }, &peer_syn_ack().window(0));
    assert_eq!(host.write(b"waiting"), []);
    for _ in 0..3 {
        assert_eq!(one(host.run_timer()).kind, TransmitKind::Probe);
    }
    assert_eq!(one(host.run_timer()).kind, TransmitKind::Reset);
    assert_eq!(host.closed, Some(CloseReason::TimedOut));
}

#[test]
fn answered_probes_do_not_keep_a_closed_connection_for_ever() {
    // RFC 6429, CVE-2008-4609: the application is gone, the peer never reads.
    let mut host = established_by(&Config { orphan_retries: 3, ..plain() }, &peer_syn_ack().window(0));
    host.send(b"never read");
    assert_eq!(host.close(), []);
    for _ in 0..3 {
        host.run_timer();
        host.exchange(&peer(ACK, 0, 0).window(0));
    }
    host.run_timer();
    assert_eq!(host.closed, Some(CloseReason::TimedOut));
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn the_user_timeout_ends_probing_too() {
    let config = Config { user_timeout: Some(Duration::from_secs(3)), ..plain() };
    let mut host = established_by(&config, &peer_syn_ack().window(0));
    host.write(b"waiting");
    let start = host.now;
    while host.closed.is_none() {
        host.run_timer();
        host.exchange(&peer(ACK, 0, 0).window(0));
    }
    assert_eq!(host.closed, Some(CloseReason::TimedOut));
    assert_eq!(host.now.saturating_since(start), Duration::from_secs(3));
}

#[test]
fn a_fin_waits_for_window_and_is_probed_for() {
    let mut host = established_by(&plain(), &peer_syn_ack().window(0));
    assert_eq!(host.shutdown_write(), []);
    assert_eq!(one(host.run_timer()).kind, TransmitKind::Probe);
    expect(&one(host.exchange(&peer(ACK, 0, 0).window(1))), FIN | ACK, 0, 0, 0);
}

#[test]
fn a_fin_behind_a_full_window_follows_its_acknowledgement() {
    let mut host = established_by(&plain(), &peer_syn_ack().window(1000));
    host.send(&[1; 1000]);
    let data = one(host.shutdown_write());
    assert!(!data.has(FIN), "no room for it");
    expect(&one(host.exchange(&peer(ACK, 0, 1000).window(1000))), FIN | ACK, 1000, 0, 0);
}

#[test]
fn a_shrunk_window_stops_new_data_and_what_was_sent_is_retransmitted() {
    // RFC 9293 3.8.6 (MUST-34)
    let mut host = established_by(&plain(), &peer_syn_ack().window(5000));
    assert_eq!(lens(&host.write(&[1; 3000])), [1000, 1000, 1000]);
    assert_eq!(host.exchange(&peer(ACK, 0, 1000).window(500)), []);
    assert_eq!(host.write(&[2; 500]), []);
    let again = one(host.run_timer());
    assert_eq!((again.seq(), again.kind), (ISS + 1001, TransmitKind::Retransmission));
    // ACKs stay inside the window the peer has now, or it would drop them.
    host.exchange(&peer(ACK, 0, 1000).text(&[3; 1000]).window(500));
    expect_ack(host.exchange(&peer(ACK, 1000, 1000).text(b"x").window(500)), 1500, 1001);
    assert_eq!(lens(&host.exchange(&peer(ACK, 1001, 3000).window(5000))), [500]);
}

#[test]
fn window_scaling_needs_both_sides_and_stops_at_14() {
    for (ours, theirs, snd, rcv) in [
        (Some(7), Some(3), 3, 7),
        (None, Some(3), 0, 0),
        (Some(7), None, 0, 0),
        (Some(20), Some(14), 14, 14),
        (Some(0), Some(0), 0, 0),
    ] {
        let config = Config { window_scale: ours, recv_buffer_bytes: 1 << 30, ..plain() };
        let mut host = Host::connect(&config, ISS.0);
        let syn = one(host.transmit());
        assert_eq!((syn.options.window_scale, syn.header.window), (ours.map(|shift| shift.min(14)), 0xffff));
        let mut answer = peer_syn_ack().window(10);
        answer.options.window_scale = theirs;
        let ack = one(host.exchange(&answer));
        assert_eq!((host.tcb.shifts.snd(), host.tcb.shifts.rcv()), (snd, rcv));
        // The window in a SYN is never scaled, the next one is.
        assert_eq!(host.tcb.snd.wnd, 10);
        assert_eq!(ack.header.window, 0xffff);
        assert_eq!(host.tcb.rcv_wnd(), 0xffff << rcv);
        host.exchange(&peer(ACK, 0, 0).window(10));
        assert_eq!(host.tcb.snd.wnd, 10 << snd);
    }
}

/// RFC 7323 2.2: the window of a SYN is never scaled; that of the ACK which ends a passive handshake is.
#[test]
fn the_ack_that_ends_a_passive_handshake_has_a_scaled_window() {
    let mut syn = peer_syn().window(10);
    syn.options.window_scale = Some(3);
    let mut host = Host::accept(&Config { window_scale: Some(7), ..plain() }, ISS.0, &syn);
    host.transmit();
    assert_eq!(host.tcb.snd.wnd, 10);
    host.exchange(&peer(ACK, 0, 0).window(10));
    assert_eq!(host.tcb.snd.wnd, 10 << 3);
}

#[test]
fn the_passive_side_offers_only_what_the_syn_did() {
    let full = Config { timestamps: true, window_scale: Some(5), ..plain() };
    for (syn, scaled, stamped) in [
        (peer_syn(), false, false),
        (peer_syn().scale(2), true, false),
        (peer_syn().stamp(7, 0), false, true),
        (peer_syn().scale(2).stamp(7, 0), true, true),
    ] {
        let mut host = Host::accept(&full, ISS.0, &syn);
        let options = one(host.transmit()).options;
        assert_eq!(options.window_scale, scaled.then_some(5));
        assert_eq!(options.timestamps.map(|stamp| stamp.echo), stamped.then_some(7));
        assert_eq!((options.mss, options.sack_permitted), (Some(1000), false));
    }
}

#[test]
fn only_a_newer_segment_may_change_the_window() {
    // RFC 9293 3.10.7.4: SND.WL1, SND.WL2
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).text(b"abc").window(2000));
    host.exchange(&peer(ACK, 3, 0).text(b"def").window(3000));
    // An old one, replayed with text that overlaps so that it is acceptable.
    host.exchange(&peer(ACK, 2, 0).text(b"cdefg").window(1));
    assert_eq!(host.tcb.snd.wnd, 1, "trimmed to new text it counts as new");
    host.exchange(&peer(ACK, 7, 0).window(3000));
    host.write(b"xyz");
    host.exchange(&peer(ACK, 7, 3).window(4000));
    host.exchange(&peer(ACK, 7, 1).window(1));
    assert_eq!(host.tcb.snd.wnd, 4000);
    host.exchange(&peer(ACK, 7, 1).text(b"h").window(1));
    assert_eq!(host.tcb.snd.wnd, 4000, "new text with an old ACK");
    host.exchange(&peer(ACK, 100, 3).text(b"ahead").window(5000));
    assert_eq!(host.tcb.snd.wnd, 5000);
    host.exchange(&peer(ACK, 8, 3).text(b"i").window(1));
    assert_eq!(host.tcb.snd.wnd, 5000, "in order, and older than what came ahead of it");
}

#[test]
fn a_retransmission_waits_for_its_buffer_and_after_one_rto_leaves_as_a_copy() {
    let mut host = established(&plain());
    host.completion = Completion::Later;
    host.write(b"slow device");
    assert_eq!(host.run_timer(), [], "the device still reads it");
    assert!(host.tcb.wants_transmit());
    host.complete();
    let again = one(host.transmit());
    assert_eq!((again.copied, again.kind), (false, TransmitKind::Retransmission));
    // And now the device is stuck.
    assert_eq!(host.run_timer(), []);
    let copy = one(host.run_timer());
    assert_eq!((copy.copied, &copy.payload[..]), (true, &b"slow device"[..]));
    assert!(!host.tcb.wants_transmit());
}

#[test]
fn segments_carry_the_numbers_across_the_wrap() {
    let mut host = established(&plain());
    let sent = host.write(&[1; 3000]);
    assert!(sent[0].header.seq > sent[1].header.seq, "the test wraps");
    host.exchange(&peer(ACK, 0, 2000));
    assert_eq!(host.tcb.flight(), 1000);
    host.exchange(&peer(ACK, 0, 3000));
    assert_eq!((host.tcb.flight(), host.cold.in_use(), host.tcb.next_timer()), (0, 0, None));
}

#[test]
fn an_idle_connection_has_no_cold_state_and_a_busy_one_reuses_its() {
    let mut host = established(&plain());
    for round in 0..100 {
        host.exchange(&peer(ACK, round * 3, round * 5).text(b"req"));
        assert_eq!(host.read(), b"req");
        expect(&one(host.write(b"reply")), ACK | PSH, round * 5, round * 3 + 3, 5);
        assert_eq!(host.cold.in_use(), 1);
    }
    host.exchange(&peer(ACK, 300, 500));
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn before_the_handshake_is_done_nothing_but_the_syn_leaves() {
    for state in [State::SynSent, State::SynReceived] {
        let mut host = in_state(state, &plain());
        host.send(b"early");
        host.tcb.uncork(&host.cold);
        host.tcb.quick_ack();
        host.tcb.release(1);
        host.call(|tcb, cx| tcb.on_config_change(cx));
        assert_eq!(host.transmit(), [], "{state:?}");
        assert!(!host.tcb.wants_transmit());
    }
}

#[test]
fn the_window_beside_an_acknowledgement_counts_though_its_segment_fills_an_old_gap() {
    // The peer's text: the first segment is lost, what follows announces 5,000 bytes, and what fills the gap acknowledges and closes.
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).window(5_000));
    assert_eq!(host.write(&[1; 20_000]).len(), 5);
    host.exchange(&peer(ACK, 1000, 0).window(5_000).text(&[2; 1000]));
    let sent = host.exchange(&peer(ACK, 0, 5_000).window(1_000).text(&[2; 1000]));
    let texts: Vec<_> = sent.iter().filter(|wire| !wire.payload.is_empty()).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[test]
fn only_the_last_and_short_of_what_waits_is_held_back() {
    // Minshall's rule: a short segment is in flight.
    let mut host = established(&plain());
    assert_eq!(lens(&host.write(&[1; 10])), [10]);
    assert_eq!(lens(&host.write(&[1; 1000])), [1000], "a full one goes");
    assert_eq!(lens(&host.write(&[1; 100])), [0; 0]);
    // In buffers of the application what is short need not be last.
    let mut host = established(&plain());
    host.write(&[1; 10]);
    for len in [100, 200] {
        host.call(|tcb, cx| tcb.send_buf(cx, Buf::filled(&std::vec![1; len]))).expect("there is room");
    }
    assert_eq!(lens(&host.transmit()), [100]);
}

#[test]
fn a_fin_is_new_when_it_first_leaves() {
    let mut host = established(&plain());
    host.now += Duration::from_secs(5);
    host.shutdown_write();
    assert_eq!((host.totals.incidents().retransmits, host.tcb.waits_since()), (0, Some(host.now)));
    let left = host.now;
    host.run_timer();
    assert_eq!((host.totals.incidents().retransmits, host.tcb.waits_since()), (1, Some(left)));
}

#[test]
fn writable_follows_only_a_write_that_came_short() {
    let mut host = established(&Config { send_buffer_bytes: 3000, ..plain() });
    let mut acked = 0;
    for (more, is_expected) in [(None, false), (Some(&b""[..]), false), (Some(&b"x"[..]), true)] {
        assert_eq!(host.write(&[1; 3000]).len(), 3, "a write that fills the buffer is whole");
        if let Some(bytes) = more {
            assert_eq!(host.send(bytes), 0);
        }
        acked += 3000;
        host.exchange(&peer(ACK, 0, acked));
        assert_eq!(host.signals.contains(Signals::WRITABLE), is_expected, "{more:?}");
    }
}

#[test]
fn a_fin_does_not_wait_for_the_end_of_a_repair() {
    let mut host = established(&plain());
    host.write(&[1; 4000]);
    for _ in 0..3 {
        let _ = host.deliver(&peer(ACK, 0, 0));
    }
    let sent = host.shutdown_write();
    let kinds: Vec<_> = sent.iter().map(|wire| (wire.seq().distance(ISS + 1), wire.has(FIN))).collect();
    assert_eq!(kinds, [(0, false), (4000, true)]);
}

#[test]
fn what_scaling_cannot_say_is_no_window_that_shrank() {
    // RFC 7323 2.4: units of 128 bytes; 80 of 3,000 bytes are beyond, then 208.
    for (field, from) in [(15, 3000), (14, 1000 + 14 * 128)] {
        let config = Config { window_scale: Some(7), ..plain() };
        let mut host = established_by(&config, &peer_syn_ack().scale(7));
        host.write(&[1; 3000]);
        host.exchange(&peer(ACK, 0, 1000).window(field));
        expect_ack(host.exchange(&peer(ACK, 5, 1000).text(b"x").window(field)), from, 0);
    }
    // Without scaling a unit is a byte.
    for (window, from) in [(1999, 3000), (1998, 2998)] {
        let mut host = established(&plain());
        host.write(&[1; 3000]);
        host.exchange(&peer(ACK, 0, 1000).window(window));
        expect_ack(host.exchange(&peer(ACK, 5, 1000).text(b"x").window(window)), from, 0);
    }
}
