//! Attacks: the bullets of the conformance notes' fifth section that concern TCP. Under each of them a second connection must go on,
//! with half of its rate at least and below the ceiling of memory.

use std::net::Ipv4Addr;

use ringwire::frame::FrameState;
use ringwire::{CloseReason, TcpState};
use ringwire_conformance::{WORKER, ack, bare, data, fin, rst, script, syn, syn_ack};
use ringwire_wire::tcp::Flags;

/// LAND: source and destination are the same: dropped.
#[test]
fn section5_state_land() {
    script(|s| {
        s.with_bystander(|s| {
            s.inject_between((WORKER, WORKER), &syn().port(80));
            s.expect_nothing_for(1500);
            assert_eq!(s.connections(), 1);
        });
    });
}

/// Holes as far apart as the window allows: as many pieces as there may be, and the stream goes on.
#[test]
fn section5_state_far_apart_holes_are_bounded() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            for n in 0..2000_u32 {
                s.inject(data("x").seq(3 + (n * 7919) % 60_000));
                s.ignore_sent();
            }
            let info = s.info();
            assert!((100..=512).contains(&info.out_of_order_segs), "{}", info.out_of_order_segs);
            s.inject(data("y").seq(1));
            s.ignore_sent();
            assert!(s.read().starts_with(b"y"));
        });
    });
}

/// NULL, Xmas, FIN, SYN+FIN, SYN+RST and every other combination of flags to a listener: no state but for SYNs, no panic.
#[test]
fn section5_odd_every_combination_of_flags_to_a_listener() {
    script(|s| {
        s.with_bystander(|s| {
            for flags in 0..=255_u8 {
                s.inject(bare(Flags(flags)).seq(1).ack(7).text("x"));
                s.ignore_sent();
            }
            assert!(s.connections() <= 2);
            s.inject(rst().seq(2));
        });
    });
}

/// The same to an established connection: nothing that is out of order ends it.
#[test]
fn section5_odd_every_combination_of_flags_to_a_connection() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            for flags in 0..=255_u8 {
                s.inject(bare(Flags(flags)).seq(30_000).ack(1));
                s.inject(bare(Flags(flags)).seq(90_000).ack(1));
                s.ignore_sent();
            }
            s.expect_open();
            s.expect_state(TcpState::Established);
        });
    });
}

/// A SYN flood: the queue is bounded, established connections go on.
#[test]
fn section5_state_syn_flood_is_bounded() {
    script(|s| {
        s.options.backlog = 16;
        s.with_bystander(|s| {
            for port in 1000..3000 {
                s.inject(syn().port(port));
                s.ignore_sent();
            }
            assert!(s.connections() <= 1 + 16, "{}", s.connections());
        });
    });
}

/// A RST before the accept takes the entry out again.
#[test]
fn section5_state_rst_in_the_accept_queue() {
    script(|s| {
        s.with_bystander(|s| {
            s.inject(s.peer_syn());
            s.expect_only(syn_ack());
            s.inject_all([ack().seq(1).ack(1), rst().seq(1)]);
            s.ignore_sent();
            s.expect_closed_or_never_accepted();
            assert_eq!(s.connections(), 1);
        });
    });
}

/// Out-of-order text in single bytes with gaps (CVE-2018-5390): bounded pieces, and the stream goes on.
#[test]
fn section5_state_out_of_order_flood_is_bounded() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            for n in 0..3000 {
                s.inject(data("x").seq(3 + n * 2));
                s.ignore_sent();
            }
            let info = s.info();
            assert!(info.out_of_order_segs <= 512, "{}", info.out_of_order_segs);
            s.inject(data("in order").seq(1));
            s.ignore_sent();
            assert!(s.read().starts_with(b"in order"[..2].as_ref()));
        });
    });
}

/// SACK panic (CVE-2019-11477, -11478): alternating holes over everything in flight: bounded work, and it ends.
#[test]
fn section5_state_sack_panic_patterns() {
    script(|s| {
        s.with_bystander(|s| {
            s.offer_sack();
            s.offer.mss = Some(48);
            s.establish();
            s.send(vec![1; 20_000]);
            s.ignore_sent();
            for n in 0..2000_u32 {
                let at = 1 + (n * 96) % 400;
                s.inject(ack().ack(1).sack(&[(at + 48, at + 49), (at + 96, at + 97), (at + 150, at + 151)]));
                let sent = s.take_sent();
                assert!(sent.len() <= 64, "{} segments for one ACK", sent.len());
            }
            s.abort();
        });
        assert!(s.frames_are_home_but_for(64));
    });
}

/// Optimistic ACK (VU#102014): an ACK of what was not sent is refused, the window does not grow by it.
#[test]
fn section5_congestion_optimistic_ack() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish_in(100);
            s.send(vec![1; 30 * 1460]);
            assert_eq!(s.take_sent().len(), 10);
            let before = s.info().cwnd_bytes;
            for n in 11..20 {
                s.inject(ack().ack(1 + n * 1460));
            }
            assert_eq!(s.info().cwnd_bytes, before);
            let sent = s.take_sent();
            assert!(sent.len() <= 1 && sent.iter().all(|segment| segment.is_empty()), "{sent:?}");
            s.abort();
            s.ignore_sent();
        });
    });
}

/// Two stacks that answer each other's ACKs: the exchange dies down.
#[test]
fn section5_odd_challenge_acks_do_not_ping_pong() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            let mut answers = 0;
            s.inject(ack().seq(90_000).ack(1));
            for _ in 0..50 {
                s.wait(10);
                let sent = s.take_sent();
                answers += sent.len();
                for _ in sent {
                    // The peer finds it out of its window too.
                    s.inject(ack().seq(90_000).ack(1));
                }
            }
            assert!(answers <= 2, "{answers} answers in half a second");
        });
    });
}

/// A peer that never reads: memory of the connection is capped, and others go on.
#[test]
fn section5_state_slow_reader_is_capped() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            s.inject(ack().win(0));
            let mut taken = 0;
            while let Ok(bytes @ 1..) = s.try_send(&[1; 10_000]) {
                taken += bytes;
                assert!(taken <= 1 << 20, "{taken}");
            }
            s.ignore_sent();
        });
    });
}

/// TIME-WAIT and FIN-WAIT-2 floods: each entry has an end, and none holds a frame.
#[test]
fn section5_state_time_wait_flood() {
    script(|s| {
        s.with_bystander(|s| {
            for port in 1000..1600 {
                s.peer_port = port;
                s.establish();
                s.shutdown_write();
                s.expect_only(fin());
                s.inject(fin().ack(2));
                s.expect_only(ack());
            }
            assert!(s.frames_are_home_but_for(64));
            s.peer_port = 7000;
            s.establish();
            s.expect_alive();
            s.wait(61_000);
            assert_eq!(s.connections(), 2);
        });
    });
}

/// A tiny first segment and a lying length: text behind FIN is never delivered.
#[test]
fn section5_odd_text_behind_fin() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            s.inject(fin().text("end").seq(1));
            s.inject(data("more").seq(5));
            s.inject(data("more").seq(4));
            s.expect_read("end");
            s.expect_eof();
            s.ignore_sent();
        });
    });
}

/// Text held behind a FIN that is still ahead of a gap is a lie: FIN wins, or the text; never both.
#[test]
fn section5_odd_fin_in_the_middle_of_held_text() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            s.inject(data("cdefgh").seq(3));
            s.inject(fin().seq(5));
            s.inject(data("ab").seq(1));
            s.ignore_sent();
            let got = s.read();
            assert!(b"abcdefgh".starts_with(&got) && got.len() >= 4, "{got:?}");
            s.wait(600);
            s.ignore_sent();
        });
    });
}

/// A replayed old ACK neither shrinks nor opens the window, nor moves SND.UNA back.
#[test]
fn section5_blind_replayed_acks() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            s.send("abc");
            s.expect_only(data("abc"));
            s.inject(ack().ack(4).win(3000));
            for ack_number in [1, 2, 3] {
                s.inject(ack().ack(ack_number).win(60_000));
            }
            let info = s.info();
            assert_eq!((info.unacked_bytes, info.snd_wnd_bytes), (0, 3000));
        });
    });
}

/// An acknowledgement of what was never sent is not an old one: whoever guesses numbers must not have a window's worth of them right.
#[test]
fn section5_blind_acks_of_what_was_never_sent() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            s.inject(data("forged").seq(1).ack(0));
            s.expect_only(ack().seq(1).ack(1));
            s.expect_read("");
            s.send("abc");
            s.ignore_sent();
            s.inject(ack().ack(4));
            s.wait(500);
            s.inject(data("forged").seq(1).ack(0));
            s.expect_only(ack().seq(4).ack(1));
            s.expect_read("");
            s.inject(data("old").seq(1).ack(1));
            s.expect_read("old");
        });
    });
}

/// A segment from another address or port of the peer is another connection's.
#[test]
fn section5_blind_other_tuples_do_not_touch_the_connection() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            s.inject(rst().seq(1).port(40_001));
            s.inject_between((Ipv4Addr::new(10, 0, 0, 9), WORKER), &rst().seq(1));
            s.expect_nothing();
            s.expect_open();
            s.expect_alive();
        });
    });
}

/// A connection that is reset while text is unread: the application reads it, then is told, and no frame is lost.
#[test]
fn section5_state_reset_with_unread_text_frees_everything() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            s.send(vec![1; 10_000]);
            s.ignore_sent();
            s.inject(data(vec![2; 1460]));
            s.inject(data("x").seq(9000));
            s.ignore_sent();
            s.inject(rst().seq(1461));
            s.expect_open();
            assert!(s.frames_are_home_but_for(1), "what is unread, and nothing else");
            s.expect_read(vec![2; 1460]);
            s.wait(2);
            s.expect_closed(CloseReason::Reset);
            assert!(s.frames_are_home_but_for(0));
        });
    });
}

/// After everything, the pool's books add up.
#[test]
fn section5_state_every_frame_comes_home() {
    script(|s| {
        s.with_bystander(|s| {
            for port in 1000..1050 {
                s.peer_port = port;
                s.establish();
                s.inject(data("question"));
                s.send("answer");
                s.ignore_sent();
                s.inject(rst());
                s.expect_read("question");
                s.wait(2);
                s.expect_closed(CloseReason::Reset);
            }
            assert!(s.frames_are_home_but_for(0));
            let counts = s.frame_counts();
            assert_eq!(counts.of(FrameState::Free) + counts.of(FrameState::Fill), counts.total());
        });
    });
}
