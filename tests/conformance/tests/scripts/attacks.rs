//! Malformed input and attacks: the bullets of the conformance notes' fifth section that concern TCP and what carries it. Under each
//! of them a second connection must go on.

use std::net::Ipv4Addr;

use ringwire::frame::FrameState;
use ringwire::{CloseReason, TcpState};
use ringwire_conformance::{PEER, Script, WORKER, ack, bare, data, fin, rst, script, syn, syn_ack};
use ringwire_wire::tcp::Flags;

/// A connection that must survive; the attacker uses other ports of the peer.
#[track_caller]
fn with_bystander(s: &mut Script, attack: impl FnOnce(&mut Script)) {
    s.establish();
    let (bystander, port) = (s.conn(), s.peer_port);
    s.peer_port = 50_000;
    attack(s);
    s.ignore_sent();
    s.use_conn(bystander);
    s.peer_port = port;
    s.expect_alive();
}

/// IHL below five, IHL beyond the packet, total length beyond the frame or below the header, another version: dropped.
#[test]
fn section5_parsing_broken_ip_headers() {
    script(|s| {
        with_bystander(s, |s| {
            type Change = fn(&mut Vec<u8>);
            let changes: [Change; 7] = [
                |ip| ip[0] = 0x44,
                |ip| ip[0] = 0x4f,
                |ip| ip[2..4].copy_from_slice(&9000_u16.to_be_bytes()),
                |ip| ip[2..4].copy_from_slice(&19_u16.to_be_bytes()),
                |ip| ip[0] = 0x65,
                |ip| ip.truncate(19),
                |ip| ip.truncate(30),
            ];
            for change in changes {
                s.inject_changed(&syn(), |ip| {
                    change(ip);
                    fix_ip_checksum(ip);
                });
            }
            s.expect_nothing();
        });
    });
}

fn fix_ip_checksum(ip: &mut [u8]) {
    let header_len = (usize::from(ip[0] & 15) * 4).min(ip.len());
    if header_len < 20 {
        return;
    }
    ip[10..12].copy_from_slice(&[0, 0]);
    let checksum = ringwire_wire::checksum::Sum::of(&ip[..header_len]).finish();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Padding behind the IP packet is never text (CVE-2021-31401).
#[test]
fn section5_parsing_padding_is_not_text() {
    script(|s| {
        s.establish();
        s.inject_changed(&data("abc"), |ip| ip.extend([0xee; 6]));
        s.inject_changed(&ack(), |ip| ip.extend([0xee; 6]));
        s.expect_read("abc");
        s.expect_after(0..=499, ack().ack(4));
    });
}

/// A wrong IP header checksum: dropped (RFC 1122 3.2.1.2).
#[test]
fn section5_parsing_wrong_ip_checksum() {
    script(|s| {
        s.listen();
        s.inject_changed(&syn(), |ip| ip[10] ^= 1);
        s.expect_nothing();
    });
}

/// TTL 0 is not forwarded and not answered; TTL 1 is for us (RFC 1122 3.2.1.7).
#[test]
fn section5_parsing_ttl() {
    script(|s| {
        s.listen();
        s.inject_changed(&syn(), |ip| {
            ip[8] = 1;
            fix_ip_checksum(ip);
        });
        s.expect_only(syn_ack());
    });
}

/// Sources that nobody can have: no reply, no state (MUST-63).
#[test]
fn section5_parsing_impossible_sources() {
    script(|s| {
        with_bystander(s, |s| {
            let sources = ["255.255.255.255", "224.0.0.1", "0.0.0.0", "127.0.0.1", "10.0.0.255", "10.0.0.1"];
            for source in sources {
                let source: Ipv4Addr = source.parse().expect("an address");
                s.inject_between((source, WORKER), &syn());
                s.inject_between((source, WORKER), &ack());
            }
            s.expect_nothing_for(10);
            assert_eq!(s.connections(), 1);
        });
    });
}

/// MUST-57: TCP to a broadcast or multicast address, or to a stranger's, is discarded.
#[test]
fn section5_parsing_impossible_destinations() {
    script(|s| {
        s.listen();
        for target in ["255.255.255.255", "224.0.0.1", "10.0.0.255", "0.0.0.0", "10.0.0.77", "127.0.0.1"] {
            let target: Ipv4Addr = target.parse().expect("an address");
            s.inject_between((PEER, target), &syn());
            s.inject_between((PEER, target), &ack());
        }
        s.expect_nothing_for(10);
        assert_eq!(s.connections(), 0);
    });
}

/// LAND: source and destination are the same: dropped.
#[test]
fn section5_state_land() {
    script(|s| {
        with_bystander(s, |s| {
            s.inject_between((WORKER, WORKER), &syn().port(80));
            s.expect_nothing_for(1500);
            assert_eq!(s.connections(), 1);
        });
    });
}

/// Port 0: dropped.
#[test]
fn section5_parsing_port_zero() {
    script(|s| {
        s.listen();
        s.inject(syn().port(0));
        s.expect_nothing_for(10);
    });
}

/// Source routes are not followed back (RFC 1122 3.2.1.8).
#[test]
fn section5_parsing_source_routes() {
    script(|s| {
        s.listen();
        for kind in [131_u8, 137] {
            s.inject_changed(&syn(), |ip| {
                ip[0] = 0x47;
                ip.splice(20..20, [kind, 7, 4, 10, 0, 0, 9, 0]);
                let len = ip.len() as u16;
                ip[2..4].copy_from_slice(&len.to_be_bytes());
                fix_ip_checksum(ip);
            });
        }
        s.expect_nothing();
    });
}

/// MUST-50: IP options that mean nothing to TCP are ignored, and the segment is taken.
#[test]
fn section5_parsing_unknown_ip_options_are_ignored() {
    script(|s| {
        s.listen();
        s.inject_changed(&syn(), |ip| {
            ip[0] = 0x46;
            ip.splice(20..20, [148, 4, 0, 0]);
            let len = ip.len() as u16;
            ip[2..4].copy_from_slice(&len.to_be_bytes());
            fix_ip_checksum(ip);
        });
        s.expect_only(syn_ack());
    });
}

/// IP in IP is not unpacked (CVE-2020-11896).
#[test]
fn section5_parsing_ip_in_ip() {
    script(|s| {
        s.listen();
        let mut inner = Vec::new();
        s.inject_changed(&syn(), |ip| inner = ip.clone());
        s.expect_only(syn_ack());
        s.inject_ip((PEER, WORKER), 4, &inner);
        s.expect_nothing();
    });
}

/// Fragments, first or later, tiny or overlapping: never half a segment.
#[test]
fn section5_fragments_are_never_half_a_segment() {
    script(|s| {
        with_bystander(s, |s| {
            for (flags, offset) in [(0x20_u8, 0_u8), (0x20, 1), (0x00, 2), (0x3f, 0xff)] {
                s.inject_changed(&syn(), |ip| {
                    (ip[6], ip[7]) = (flags, offset);
                    fix_ip_checksum(ip);
                });
            }
            s.expect_nothing();
            assert_eq!(s.connections(), 1);
        });
    });
}

/// NULL, Xmas, FIN, SYN+FIN, SYN+RST and every other combination of flags to a listener: no state but for SYNs, no panic.
#[test]
fn section5_odd_every_combination_of_flags_to_a_listener() {
    script(|s| {
        with_bystander(s, |s| {
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
        s.establish();
        for flags in 0..=255_u8 {
            s.inject(bare(Flags(flags)).seq(30_000).ack(1));
            s.inject(bare(Flags(flags)).seq(90_000).ack(1));
            s.ignore_sent();
        }
        s.expect_open();
        s.expect_state(TcpState::Established);
    });
}

/// A SYN flood: the queue is bounded, established connections go on.
#[test]
fn section5_state_syn_flood_is_bounded() {
    script(|s| {
        s.options.backlog = 16;
        with_bystander(s, |s| {
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
        s.listen();
        s.inject(s.peer_syn());
        s.expect_only(syn_ack());
        s.inject_all([ack().seq(1).ack(1), rst().seq(1)]);
        s.ignore_sent();
        s.expect_closed_or_never_accepted();
        assert_eq!(s.connections(), 0);
    });
}

/// Out-of-order text in single bytes with gaps (CVE-2018-5390): bounded pieces, and the stream goes on.
#[test]
fn section5_state_out_of_order_flood_is_bounded() {
    script(|s| {
        with_bystander(s, |s| {
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
        with_bystander(s, |s| {
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
}

/// Two stacks that answer each other's ACKs: the exchange dies down.
#[test]
fn section5_odd_challenge_acks_do_not_ping_pong() {
    script(|s| {
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
}

/// A peer that never reads: memory of the connection is capped, and others go on.
#[test]
fn section5_state_slow_reader_is_capped() {
    script(|s| {
        with_bystander(s, |s| {
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
        s.listen();
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
        assert_eq!(s.connections(), 1);
    });
}

/// A tiny first segment and a lying length: text behind FIN is never delivered.
#[test]
fn section5_odd_text_behind_fin() {
    script(|s| {
        s.establish();
        s.inject(fin().text("end").seq(1));
        s.inject(data("more").seq(5));
        s.inject(data("more").seq(4));
        s.expect_read("end");
        s.expect_eof();
        s.ignore_sent();
    });
}

/// Text held behind a FIN that is still ahead of a gap is a lie: FIN wins, or the text; never both.
#[test]
fn section5_odd_fin_in_the_middle_of_held_text() {
    script(|s| {
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
}

/// A replayed old ACK neither shrinks nor opens the window, nor moves SND.UNA back.
#[test]
fn section5_blind_replayed_acks() {
    script(|s| {
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
}

/// A segment from another address or port of the peer is another connection's.
#[test]
fn section5_blind_other_tuples_do_not_touch_the_connection() {
    script(|s| {
        s.establish();
        s.inject(rst().seq(1).port(40_001));
        s.inject_between((Ipv4Addr::new(10, 0, 0, 9), WORKER), &rst().seq(1));
        s.expect_nothing();
        s.expect_open();
        s.expect_alive();
    });
}

/// ICMP errors with fewer than eight quoted bytes are ignored.
#[test]
fn section5_parsing_short_icmp_quote() {
    script(|s| {
        s.connect();
        let mut sent = s.expect_only(syn());
        sent.ip.truncate(24);
        s.inject_icmp_error((3, 1), 0, &sent);
        s.expect_open();
        s.expect_state(TcpState::SynSent);
    });
}

/// A connection that is reset while text is unread: the application reads it, then is told, and no frame is lost.
#[test]
fn section5_state_reset_with_unread_text_frees_everything() {
    script(|s| {
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
}

/// After everything, the pool's books add up.
#[test]
fn section5_state_every_frame_comes_home() {
    script(|s| {
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
}
