//! When acknowledgements leave: RFC 9293 3.8.6.3, RFC 5681 4.2.

use ringwire_conformance::{ack, bare, data, fin, script};
use ringwire_wire::tcp::Flags;

/// MUST-40, SHLD-18: a lone segment is acknowledged within half a second, not at once.
#[test]
fn rfc9293_3_8_6_3_ack_is_delayed_at_most_half_a_second() {
    script(|s| {
        s.establish();
        s.inject(data("x"));
        s.expect_nothing();
        s.expect_after(1..=499, ack().seq(1).ack(2));
        s.expect_nothing_for(500);
    });
}

/// SHLD-19: at least every second full-sized segment is acknowledged.
#[test]
fn rfc9293_3_8_6_3_every_second_full_segment_is_acknowledged() {
    script(|s| {
        s.establish();
        for pair in 1..=4 {
            s.inject(data(vec![0; 1460]));
            s.expect_nothing();
            s.inject(data(vec![0; 1460]));
            s.expect_only(ack().ack(1 + pair * 2920));
        }
    });
}

/// MUST-58, MUST-59: segments that arrive together are all processed before one ACK for them leaves.
#[test]
fn rfc9293_3_10_7_4_queued_segments_share_one_ack() {
    script(|s| {
        s.establish();
        s.inject_all((0..6).map(|_| data(vec![0; 1460])));
        s.expect_only(ack().ack(1 + 6 * 1460));
    });
}

/// What is sent meanwhile carries the acknowledgement; no bare ACK follows.
#[test]
fn rfc9293_3_8_6_3_data_carries_the_delayed_ack() {
    script(|s| {
        s.establish();
        s.inject(data("question"));
        s.send("answer");
        s.expect_only(data("answer").ack(9));
        s.inject(ack());
        s.expect_nothing_for(600);
    });
}

/// MAY-13, RFC 5681 4.2: each segment ahead of a gap is answered at once with a duplicate ACK.
#[test]
fn rfc5681_4_2_out_of_order_segments_draw_duplicate_acks() {
    script(|s| {
        s.establish();
        for piece in 1..=3 {
            s.inject(data("abcd").seq(1 + piece * 4));
            s.expect_only(ack().seq(1).ack(1).win(65_535));
        }
    });
}

/// RFC 5681 4.2: the segment that fills a gap, wholly or in part, is acknowledged at once.
#[test]
fn rfc5681_4_2_filling_a_gap_is_acknowledged_at_once() {
    script(|s| {
        s.establish();
        s.inject(data("cd").seq(3));
        s.inject(data("gh").seq(7));
        s.ignore_sent();
        s.inject(data("ab").seq(1));
        s.expect_only(ack().ack(5));
        s.inject(data("ef").seq(5));
        s.expect_only(ack().ack(9));
        s.expect_read("abcdefgh");
    });
}

/// A segment received before is acknowledged at once: our ACK was lost.
#[test]
fn rfc9293_3_10_7_4_duplicate_text_is_acknowledged_at_once() {
    script(|s| {
        s.establish();
        s.inject(data("abc"));
        s.expect_after(1..=499, ack().ack(4));
        for _ in 0..3 {
            s.inject(data("abc").seq(1));
            s.expect_only(ack().ack(4));
        }
        s.expect_read("abc");
    });
}

/// An ACK that says nothing new is not answered, else two stacks would talk for ever.
#[test]
fn rfc9293_3_4_acks_are_not_acknowledged() {
    script(|s| {
        s.establish();
        for _ in 0..5 {
            s.inject(ack());
        }
        s.expect_nothing_for(600);
    });
}

/// FIN is acknowledged at once, together with the text before it.
#[test]
fn rfc9293_3_10_7_4_fin_is_acknowledged_at_once() {
    script(|s| {
        s.establish();
        s.inject(data("abc"));
        s.inject(fin());
        s.expect_only(ack().ack(5));
        s.expect_nothing_for(600);
    });
}

/// The ACK of our data is taken as far as it goes.
#[test]
fn rfc9293_3_4_partial_acknowledgement() {
    script(|s| {
        s.establish();
        s.send("abcdef");
        s.expect_only(data("abcdef"));
        s.inject(ack().ack(4));
        assert_eq!(s.info().unacked_bytes, 3);
        // What is missing is sent again; the rest of its segment may come along.
        let again = s.expect_after(100..=1200, bare(Flags::ACK));
        assert!(again.seq <= 4 && again.end() == 7, "{again:?}");
        s.inject(ack().ack(7));
        assert_eq!(s.info().unacked_bytes, 0);
        s.expect_nothing_for(1500);
    });
}

/// SHLD-7: while a small segment is unacknowledged, another waits; one ACK lets all of it go in one segment.
#[test]
fn rfc9293_3_7_4_nagle_collects_small_writes() {
    script(|s| {
        s.establish();
        s.send("a");
        s.expect_only(data("a"));
        s.send("b");
        s.send("c");
        s.expect_nothing_for(50);
        s.inject(ack());
        s.expect_only(data("bc"));
        s.inject(ack());
    });
}

/// SHLD-7: full segments do not wait.
#[test]
fn rfc9293_3_7_4_nagle_lets_full_segments_go() {
    script(|s| {
        s.establish();
        s.send("a");
        s.expect_only(data("a"));
        s.send(vec![7; 1460 * 2]);
        let sent = s.take_sent();
        assert!(sent.iter().map(|segment| segment.len()).sum::<usize>() >= 1460, "{sent:?}");
        s.inject(ack());
        s.take_sent();
        s.inject(ack());
    });
}

/// MUST-17: the application can do without.
#[test]
fn rfc9293_3_7_4_nagle_can_be_turned_off() {
    script(|s| {
        s.options.nodelay = true;
        s.establish();
        for text in ["a", "b", "c"] {
            s.send(text);
            s.expect_only(data(text));
        }
        s.inject(ack());
    });
}

/// MUST-61, SHLD-28: a long write leaves in full segments, PSH on the last.
#[test]
fn rfc9293_3_9_1_2_push_is_on_the_last_segment_of_a_write() {
    script(|s| {
        s.establish();
        s.send(vec![7; 3000]);
        s.expect(data(vec![7; 1460]).without(Flags::PSH));
        s.expect(data(vec![7; 1460]).without(Flags::PSH));
        s.expect_only(data(vec![7; 80]).psh());
        s.inject(ack());
    });
}

/// SHLD-27: the bit of a write that another one was joined to moves on to the end of that.
#[test]
fn rfc9293_3_9_1_2_push_moves_on_when_writes_are_joined() {
    script(|s| {
        s.establish();
        s.send("x");
        s.expect_only(data("x").psh());
        s.send(vec![7; 1000]);
        s.expect_nothing();
        s.send(vec![7; 1000]);
        s.expect_only(data(vec![7; 1460]).without(Flags::PSH));
        s.inject(ack());
        s.expect_only(data(vec![7; 540]).psh());
        s.inject(ack());
    });
}

/// RFC 5681 4.2 leaves it open: with quick ACKs, as on Linux, a peer that begins to send is acknowledged segment by segment.
#[test]
fn rfc5681_4_2_quick_acks_at_the_beginning() {
    script(|s| {
        s.options.quick_acks = 3;
        s.establish();
        for at in 2..=4 {
            s.inject(data("x"));
            s.expect_only(ack().ack(at));
        }
        s.inject(data("x"));
        s.expect_nothing();
        s.expect_after(1..=499, ack().ack(5));
    });
}

/// The same after a silence longer than the RTO.
#[test]
fn rfc5681_4_2_quick_acks_after_a_silence() {
    script(|s| {
        s.options.quick_acks = 1;
        s.establish();
        for at in 0..3 {
            s.inject(data("x"));
            s.expect_only(ack().ack(2 * at + 2));
            s.inject(data("y"));
            s.expect_nothing();
            s.expect_after(1..=499, ack().ack(2 * at + 3));
            s.wait(1_500);
        }
    });
}

/// An application that answers needs no bare ACKs.
#[test]
fn rfc5681_4_2_quick_acks_end_with_an_answer() {
    script(|s| {
        s.options.quick_acks = 16;
        s.establish();
        s.inject(data("question"));
        s.expect_only(ack().ack(9));
        s.send("answer");
        s.expect_only(data("answer").ack(9));
        s.inject(data("question").ack(7));
        s.expect_nothing();
        s.send("answer");
        s.expect_only(data("answer").ack(17));
        s.inject(ack());
    });
}

/// MAY-17: PSH means nothing to the receiver: what arrived can be read at once, with it or without.
#[test]
fn rfc9293_3_9_1_3_text_is_readable_without_push() {
    script(|s| {
        s.establish();
        s.inject(data("no push"));
        s.expect_read("no push");
        s.inject(data(" push").psh());
        s.expect_read(" push");
        s.expect_after(0..=499, ack().ack(13));
    });
}

/// MUST-60: nothing that was written waits for ever, whatever the write's size.
#[test]
fn rfc9293_3_9_1_2_written_data_does_not_wait_for_more() {
    script(|s| {
        s.establish();
        s.send("x");
        s.expect_only(data("x").psh());
        // Nagle's algorithm holds the next one back until the first is acknowledged, and no longer than that or a fifth of a second.
        s.send("y");
        s.expect_nothing();
        s.inject(ack());
        s.expect_only(data("y").psh());
        s.inject(ack());
        // Cork holds back what is no full segment for as long.
        s.cork();
        s.send("z");
        s.expect_nothing_for(150);
        s.expect_after(1..=100, data("z"));
        s.inject(ack());
    });
}
