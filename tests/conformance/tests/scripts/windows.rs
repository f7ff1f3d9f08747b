//! Windows both ways, silly windows and zero windows: RFC 9293 3.8.6.

use ringwire::{CloseReason, TcpState};
use ringwire_conformance::{Script, ack, bare, data, fin, rst, script, syn_ack};
use ringwire_wire::tcp::Flags;

/// MUST-1: the window is unsigned: 0x8000 and above are large, and the latest one counts.
#[test]
fn rfc9293_3_1_window_is_unsigned() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn().win(0));
        s.expect_only(syn_ack());
        s.inject(ack().win(0x8000));
        s.accept();
        assert_eq!(s.info().snd_wnd_bytes, 0x8000);
        s.send(vec![1; 5000]);
        assert_eq!(s.take_sent().len(), 4);
        s.inject(ack().win(0xffff));
        assert_eq!(s.info().snd_wnd_bytes, 0xffff);
    });
}

/// No more than the window is in flight; the rest follows when it moves.
#[test]
fn rfc9293_3_8_6_sender_obeys_the_window() {
    script(|s| {
        s.win = 1000;
        s.establish();
        s.send(vec![1; 2500]);
        let mut edge = 1001;
        while edge <= 2500 {
            let sent = s.take_sent();
            let end = sent.last().map_or(0, |segment| segment.end());
            assert!(!sent.is_empty() && end <= edge, "{end} {edge}");
            s.inject(ack());
            edge = end + 1000;
        }
        s.ignore_sent();
        s.inject(ack());
        assert_eq!(s.info().unacked_bytes + s.info().unsent_bytes, 0);
    });
}

/// MUST-38: a window that is small against the largest ever seen is not filled at once; the override timer sends after 0.1 to 1 s.
#[test]
fn rfc9293_3_8_6_2_1_sender_avoids_silly_windows() {
    script(|s| {
        s.establish();
        s.inject(ack().win(100));
        s.send(vec![1; 1000]);
        s.expect_nothing();
        s.expect_after(100..=1000, data(vec![1; 100]).seq(1));
        s.inject(ack());
        s.expect_only(data(vec![1; 900]).seq(101));
        s.inject(ack());
    });
}

/// A window of one byte for ever: slow, but it goes on, without a busy loop.
#[test]
fn rfc9293_3_8_6_2_1_window_of_one_byte_for_ever() {
    script(|s| {
        s.establish();
        s.win = 1;
        s.inject(ack());
        s.send("abcd");
        for (seq, text) in [(1, "a"), (2, "b"), (3, "c")] {
            s.expect_after(50..=1000, data(text).seq(seq));
            s.inject(ack());
        }
        // Nothing is left that could wait for company.
        s.expect_only(data("d").seq(4));
        s.inject(ack());
    });
}

/// MUST-36, SHLD-29, SHLD-30: a closed window is probed, first after an RTO, then at growing intervals.
#[test]
fn rfc9293_3_8_6_1_zero_window_is_probed_with_back_off() {
    script(|s| {
        s.establish();
        s.win = 0;
        s.inject(ack());
        s.send("x");
        s.expect_nothing();
        let mut last_ms = 100;
        for _ in 0..6 {
            let before_ms = s.now_ms();
            s.expect_after(last_ms..=70_000, ack().seq(0).ack(1));
            let took_ms = s.now_ms() - before_ms;
            assert!(took_ms >= last_ms, "{took_ms} after {last_ms}");
            s.inject(ack());
            last_ms = took_ms * 2 - 2;
        }
    });
}

/// A closed window without data to send is not probed.
#[test]
fn rfc9293_3_8_6_1_no_probe_without_data() {
    script(|s| {
        s.establish();
        s.inject(ack().win(0));
        s.expect_nothing_for(10_000);
    });
}

/// MUST-37: as long as the probes are answered, the connection lives; then the data flows.
#[test]
fn rfc9293_3_8_6_1_answered_probes_keep_the_connection() {
    script(|s| {
        s.establish();
        s.win = 0;
        s.inject(ack());
        s.send("at last");
        for _ in 0..30 {
            s.expect_after(1..=130_000, ack().seq(0));
            s.inject(ack());
        }
        s.expect_open();
        s.inject(ack().win(100));
        s.expect_only(data("at last").seq(1));
        s.inject(ack());
    });
}

/// A peer that answers no probe is given up in the end.
#[test]
fn rfc9293_3_8_6_1_unanswered_probes_end_the_connection() {
    script(|s| {
        s.establish();
        s.inject(ack().win(0));
        s.send("x");
        s.wait(1_800_000);
        s.ignore_sent();
        s.expect_closed(CloseReason::TimedOut);
    });
}

/// The user timeout ends probing too.
#[test]
fn rfc9293_3_8_3_user_timeout_ends_probing() {
    script(|s| {
        s.options.user_timeout = Some(std::time::Duration::from_secs(5));
        s.establish();
        s.inject(ack().win(0));
        s.send("x");
        s.wait(4_900);
        s.expect_open();
        s.wait(1_000);
        s.ignore_sent();
        s.expect_closed(CloseReason::TimedOut);
    });
}

/// MUST-34, SHLD-15, SHLD-16: a window that shrinks below what is in flight: no new data, the old is retransmitted.
#[test]
fn rfc9293_3_8_6_shrunk_window_sends_nothing_new() {
    script(|s| {
        s.win = 4380;
        s.establish();
        s.send(vec![1; 6000]);
        assert_eq!(s.take_sent().len(), 3);
        s.inject(ack().ack(1).win(1460));
        s.expect_nothing();
        s.expect_after(100..=1200, data(vec![1; 1460]).seq(1));
        s.inject(ack().ack(4381).win(0));
        s.expect_open();
        s.inject(ack().ack(4381).win(4380));
        s.expect(data(vec![1; 1460]).seq(4381));
        s.expect_only(data(vec![1; 160]).seq(5841));
        s.inject(ack());
    });
}

/// SHLD-17: data beyond a window that shrank does not end the connection while the peer answers.
#[test]
fn rfc9293_3_8_6_shrunk_window_is_no_reason_to_give_up() {
    script(|s| {
        s.establish();
        s.send(vec![1; 1460]);
        s.ignore_sent();
        s.inject(ack().ack(1).win(0));
        for _ in 0..40 {
            s.expect_after(1..=130_000, bare(Flags::ACK));
            s.inject(ack().ack(1).win(0));
        }
        s.expect_open();
    });
}

/// Only a segment that is not older than the last one may change the window (SND.WL1, SND.WL2).
#[test]
fn rfc9293_3_10_7_4_old_segments_do_not_change_the_window() {
    script(|s| {
        s.establish();
        s.send("abcd");
        s.expect_only(data("abcd"));
        s.inject(ack().ack(5).win(5000));
        s.inject(ack().ack(3).win(10));
        assert_eq!(s.info().snd_wnd_bytes, 5000);
        s.inject(data("x").seq(1).ack(5).win(6000));
        s.inject(ack().seq(2).ack(5).win(0));
        assert_eq!(s.info().snd_wnd_bytes, 0);
        s.inject(ack().seq(2).ack(5).win(7000));
        assert_eq!(s.info().snd_wnd_bytes, 7000);
        s.wait(100);
        s.ignore_sent();
    });
}

/// A segment that was overtaken tells an older window: SND.WL1 keeps it out.
#[test]
fn rfc9293_3_10_7_4_overtaken_segment_does_not_change_the_window() {
    script(|s| {
        s.establish();
        s.inject(data("later").seq(100).ack(1).win(6000));
        assert_eq!(s.info().snd_wnd_bytes, 6000);
        s.inject(data("sooner").seq(1).ack(1).win(10));
        assert_eq!(s.info().snd_wnd_bytes, 6000);
        s.inject(ack().seq(100).ack(1).win(7000));
        assert_eq!(s.info().snd_wnd_bytes, 7000);
        s.wait(600);
        s.ignore_sent();
    });
}

/// The right edge that was announced never moves left, whatever the application does not read.
#[test]
fn rfc9293_3_8_6_right_edge_never_moves_left() {
    script(|s| {
        s.options.recv_buffer_bytes = 10_000;
        s.listen();
        s.inject(s.peer_syn());
        let mut edge = u32::from(s.expect_only(syn_ack()).header.window) + 1;
        s.inject(ack());
        s.accept();
        for _ in 0..8 {
            s.inject(data(vec![1; 1000]));
            s.wait(100);
            for sent in s.take_sent() {
                let now = sent.ack + u32::from(sent.header.window);
                assert!(now >= edge, "{now} is left of {edge}");
                edge = now;
            }
        }
    });
}

fn fill(s: &mut Script) {
    s.options.recv_buffer_bytes = 2920;
    s.establish();
    s.inject(data(vec![1; 1460]));
    s.inject(data(vec![1; 1460]));
    s.expect_only(ack().ack(2921).win(0));
}

/// A full buffer announces no window; reading opens it again, and the peer is told.
#[test]
fn rfc9293_3_8_6_2_2_window_closes_and_reopens() {
    script(|s| {
        fill(s);
        assert_eq!(s.read().len(), 2920);
        s.wait(2);
        let updates = s.take_sent();
        assert!(updates.iter().all(|update| update.ack == 2921), "{updates:?}");
        assert_eq!(updates.last().map(|update| update.header.window), Some(2920));
    });
}

/// MUST-39: the window is not opened by less than a segment or half the buffer.
#[test]
fn rfc9293_3_8_6_2_2_receiver_avoids_silly_windows() {
    script(|s| {
        s.options.recv_buffer_bytes = 4000;
        s.establish();
        for _ in 0..40 {
            s.inject(data(vec![1; 100]));
        }
        s.wait(100);
        s.ignore_sent();
        s.inject(data("?").seq(4001));
        s.expect_only(ack().ack(4001).win(0));
        s.read_one();
        s.expect_nothing_for(1000);
        s.read();
        let mut announced = 0;
        for update in s.take_sent() {
            assert!(update.header.window >= announced + 1460, "{} after {announced}", update.header.window);
            announced = update.header.window;
        }
        assert!(announced >= 1460, "{announced}");
    });
}

/// MUST-66: with a closed window, RST still counts.
#[test]
fn rfc9293_3_10_7_4_rst_counts_with_a_closed_window() {
    script(|s| {
        fill(s);
        s.inject(rst().seq(2921));
        s.expect_nothing();
        assert_eq!(s.read().len(), 2920);
        s.wait(2);
        s.expect_closed(CloseReason::Reset);
    });
}

/// MUST-66: with a closed window, URG still counts, with text that is refused and without.
#[test]
fn rfc9293_3_10_7_4_urgent_counts_with_a_closed_window() {
    script(|s| {
        fill(s);
        s.inject(data("x").seq(2921).urgent(9));
        s.expect_only(ack().ack(2921).win(0));
        assert_eq!(s.info().urgent_bytes, 2920 + 9);
        s.expect_readable();
        s.inject(ack().seq(2921).urgent(12));
        assert_eq!(s.info().urgent_bytes, 2920 + 12);
        s.expect_readable();
        s.ignore_sent();
    });
}

/// With a closed window an ACK still counts, and the text beside it is refused.
#[test]
fn rfc9293_3_10_7_4_ack_counts_with_a_closed_window() {
    script(|s| {
        fill(s);
        s.send("abc");
        s.expect_only(data("abc"));
        s.inject(data("x").seq(2921).ack(4));
        s.expect_only(ack().ack(2921).win(0));
        assert_eq!(s.info().unacked_bytes, 0);
    });
}

/// A probe of our closed window, with a byte or without, is answered.
#[test]
fn rfc9293_3_8_6_1_probes_are_answered() {
    script(|s| {
        fill(s);
        s.inject(data("x").seq(2921));
        s.expect_only(ack().ack(2921).win(0));
        s.wait(600);
        s.inject(ack().seq(2920));
        s.expect_only(ack().ack(2921).win(0));
    });
}

/// FIN at the edge of a closed window takes no buffer and is taken.
#[test]
fn rfc9293_3_10_7_4_fin_at_a_closed_window() {
    script(|s| {
        fill(s);
        s.inject(fin().seq(2921));
        s.expect_only(ack().ack(2922));
        s.expect_state(TcpState::CloseWait);
    });
}

/// Text that fits the window but not the segments' limit is dropped, not half taken; nothing is lost in the end.
#[test]
fn rfc9293_3_8_6_many_small_segments_cannot_pin_the_memory() {
    script(|s| {
        s.establish();
        for _ in 0..1100 {
            s.inject(data("x"));
        }
        s.wait(100);
        s.ignore_sent();
        let taken = s.read().len();
        assert!((1000..=1100).contains(&taken), "{taken}");
        s.ignore_sent();
        s.inject(data(vec![b'x'; 1100 - taken]).seq(1 + taken as u32));
        assert_eq!(s.read().len(), 1100 - taken);
        s.wait(100);
        s.ignore_sent();
    });
}

/// MUST-2, MUST-3: a segment with a wrong checksum does not exist.
#[test]
fn rfc9293_3_1_wrong_checksum_is_dropped() {
    script(|s| {
        s.establish();
        s.inject(data("x").seq(1).bad_checksum());
        s.inject(rst().seq(1).bad_checksum());
        s.expect_nothing_for(600);
        s.expect_open();
        s.expect_read("");
    });
}

/// MUST-62 in the other direction: text with URG stays in its place in the stream, wherever the pointer points.
#[test]
fn rfc9293_3_8_5_urgent_text_stays_in_the_stream() {
    script(|s| {
        s.establish();
        for (at, pointer) in [(1, 0), (4, 2), (7, 3), (10, 0xffff)] {
            s.inject(data("abc").seq(at).urgent(pointer));
        }
        s.expect_read("abcabcabcabc");
        s.wait(100);
        s.ignore_sent();
        s.inject(ack().seq(13).urgent(5));
        s.inject(fin().seq(13).urgent(1));
        s.expect_only(ack().ack(14));
        s.expect_eof();
    });
}

/// MUST-32, MUST-33, MUST-62: with the data comes the news, and how much of it is urgent; the pointer names the byte behind it.
#[test]
fn rfc9293_3_8_5_application_is_told_of_urgent_data() {
    let urgent = |s: &mut Script| s.info().urgent_bytes;
    script(|s| {
        s.establish();
        s.inject(data("abc"));
        assert_eq!(urgent(s), 0);
        // One pointer, in several segments, beyond the first of them.
        s.inject(data("def").urgent(5));
        assert_eq!(urgent(s), 8);
        s.expect_readable();
        s.inject(data("gh").urgent(2));
        assert_eq!(urgent(s), 8, "the same pointer");
        assert_eq!(s.read_one(), b"abc");
        assert_eq!(urgent(s), 5);
        // It moves on, also without text.
        s.inject(ack().urgent(7));
        assert_eq!(urgent(s), 12);
        s.expect_readable();
        s.expect_read("defgh");
        s.inject(data("ijklmno"));
        s.expect_read("ijklmno");
        assert_eq!(urgent(s), 0);
        // An old pointer says nothing.
        s.inject(data("p").urgent(0));
        assert_eq!(urgent(s), 0);
        s.ignore_sent();
    });
}

/// URG and PSH on everything, reserved bits set: no effect on the stream.
#[test]
fn rfc9293_3_1_reserved_bits_are_ignored() {
    script(|s| {
        s.establish();
        s.inject(data("abc").with(Flags::URG | Flags::PSH).reserved_bits());
        s.expect_read("abc");
        s.expect_after(0..=499, ack().ack(4));
    });
}
