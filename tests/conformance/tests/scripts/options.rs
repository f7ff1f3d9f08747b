//! Options and header fields: RFC 9293 3.1, 3.2, 3.7.1, RFC 7323 2, RFC 6691.

use ringwire::TcpState;
use ringwire_conformance::{Script, Segment, Sent, ack, bare, data, fin, rst_ack, script, syn, syn_ack};
use ringwire_wire::tcp::{Flags, Options};

/// MUST-14, SHLD-5, MAY-3: our SYN carries the MSS.
#[test]
fn rfc9293_3_7_1_syn_carries_the_mss() {
    script(|s| {
        s.connect();
        s.expect_only(syn().mss(1460));
    });
}

/// MUST-14: our SYN-ACK too.
#[test]
fn rfc9293_3_7_1_syn_ack_carries_the_mss() {
    script(|s| {
        s.listen();
        s.inject(syn());
        s.expect_only(syn_ack().mss(1460));
    });
}

/// MUST-65: no other segment does.
#[test]
fn rfc9293_3_7_1_mss_only_on_syns() {
    script(|s| {
        s.establish();
        s.send("x");
        s.expect_only(data("x").no_mss());
        s.inject(data("y"));
        s.expect_after(0..=499, ack().no_mss());
    });
}

/// RFC 7323 2.2, RFC 2018 2: what belongs into SYNs is in nothing else that we send, though all of it was agreed on.
#[test]
fn rfc7323_2_2_options_of_the_handshake_are_in_syns_only() {
    script(|s| {
        let plain = |segment: Segment| segment.no_mss().no_wscale().no_sack_ok().no_fast_open();
        s.offer_everything();
        s.establish();
        s.send("x");
        s.expect_only(plain(data("x")));
        s.inject(ack());
        s.inject(data("y"));
        s.expect_after(0..=499, plain(ack().ack(2)));
        s.inject(data("z").seq(9));
        s.expect_only(plain(ack().ack(2)));
        s.shutdown_write();
        s.expect_only(plain(fin().seq(2)));
        s.expect_after(1..=1500, plain(fin().seq(2)));
        s.abort();
        s.expect_only(plain(rst_ack()));
    });
}

fn largest_segment(s: &mut Script, bytes: usize) -> usize {
    s.send(vec![1; bytes]);
    s.take_sent().iter().map(|segment| segment.len()).max().unwrap_or(0)
}

/// MUST-15: without the option the peer takes 536 bytes.
#[test]
fn rfc9293_3_7_1_default_mss_is_536() {
    script(|s| {
        s.offer = Options::default();
        s.establish();
        assert_eq!(largest_segment(s, 2000), 536);
        s.inject(ack());
        s.ignore_sent();
        s.inject(ack());
    });
}

/// MUST-16: the peer's MSS is what we send at most.
#[test]
fn rfc9293_3_7_1_effective_mss_is_the_peers() {
    script(|s| {
        s.offer.mss = Some(1000);
        s.establish();
        assert_eq!(largest_segment(s, 3000), 1000);
        s.inject(ack());
    });
}

/// MUST-16, MUST-67: a larger MSS of the peer does not make packets that our link cannot carry.
#[test]
fn rfc9293_3_7_1_effective_mss_is_bounded_by_the_link() {
    script(|s| {
        s.offer.mss = Some(9000);
        s.establish();
        assert_eq!(largest_segment(s, 9000), 1460);
        s.inject(ack());
        s.ignore_sent();
    });
}

/// MUST-16, RFC 6691 2: options come off the payload, not off the announced MSS.
#[test]
fn rfc6691_2_options_come_off_the_payload() {
    script(|s| {
        s.offer_timestamps();
        s.establish();
        assert_eq!(largest_segment(s, 3000), 1448);
        s.inject(ack());
    });
}

/// TCP_MAXSEG: the announced MSS can be lowered, and is what we send at most too.
#[test]
fn rfc9293_3_7_1_mss_can_be_lowered() {
    script(|s| {
        s.options.max_segment_bytes = Some(600);
        s.listen();
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().mss(600));
        s.inject(ack());
        s.accept();
        assert_eq!(largest_segment(s, 2000), 600);
        s.inject(ack());
    });
}

/// An MSS of 0 or 1 (CVE-2019-11479): a floor holds, and the connection works.
#[test]
fn rfc9293_3_7_1_tiny_mss_meets_a_floor() {
    for mss in [0_u16, 1, 20] {
        ringwire_conformance::run("rfc9293_3_7_1_tiny_mss_meets_a_floor", |s| {
            s.listen();
            let [high, low] = mss.to_be_bytes();
            s.inject(syn().raw_options(&[2, 4, high, low]));
            s.expect_only(syn_ack());
            s.inject(ack());
            s.accept();
            let largest = largest_segment(s, 600);
            assert!(largest >= 36, "{largest}");
            for _ in 0..30 {
                s.inject(ack());
                s.ignore_sent();
            }
            assert_eq!(s.info().unacked_bytes + s.info().unsent_bytes, 0);
        });
    }
}

/// MUST-5: options are understood in any segment; those of a SYN are ignored elsewhere.
#[test]
fn rfc9293_3_2_syn_options_after_the_handshake_are_ignored() {
    script(|s| {
        s.establish();
        s.inject(ack().mss(100).wscale(14).sack_ok());
        let info = s.info();
        assert_eq!((info.mss, info.snd_wnd_bytes), (1460, 65_535));
    });
}

/// MUST-6, MUST-68: unknown options are skipped by their length.
#[test]
fn rfc9293_3_2_unknown_options_are_ignored() {
    script(|s| {
        s.listen();
        s.inject(syn().raw_options(&[253, 4, 0xab, 0xcd, 2, 4, 2, 0, 30, 3, 0, 1]));
        s.expect_only(syn_ack());
        s.inject(ack());
        s.accept();
        assert_eq!(s.info().mss, 512);
        s.inject(data("x").raw_options(&[99, 8, 1, 2, 3, 4, 5, 6]));
        s.expect_read("x");
        s.expect_after(0..=499, ack().ack(2));
    });
}

/// MUST-7: a length that cannot be right (0, 1, beyond the header) does no harm.
#[test]
fn rfc9293_3_1_illegal_option_lengths() {
    let cases: [&[u8]; 6] =
        [&[99, 0, 0, 0], &[99, 1, 0, 0], &[99, 200, 0, 0], &[8, 0, 0, 0], &[5, 1, 0, 0], &[1, 1, 1, 99]];
    script(|s| {
        s.establish();
        for (at, options) in cases.iter().enumerate() {
            s.inject(data("x").seq(1 + at as u32).raw_options(options));
            s.expect_read("x");
        }
        s.wait(100);
        s.ignore_sent();
        s.peer_next(7);
        s.expect_alive();
    });
}

/// MUST-7: a wrong length of an option we know makes it absent.
#[test]
fn rfc9293_3_2_wrong_length_of_a_known_option() {
    script(|s| {
        s.listen();
        s.inject(syn().raw_options(&[2, 3, 5, 1, 3, 4, 7, 7, 4, 3, 0, 0]));
        s.expect_only(syn_ack().no_wscale().no_sack_ok());
        s.inject(ack());
        s.accept();
        assert_eq!(s.info().mss, 536);
    });
}

/// MUST-4: end of list ends the list; no-operation is skipped.
#[test]
fn rfc9293_3_2_end_of_list_and_no_operation() {
    script(|s| {
        s.listen();
        s.inject(syn().raw_options(&[1, 1, 2, 4, 2, 0, 0, 3, 3, 3, 7, 0]));
        s.expect_only(syn_ack().no_wscale());
        s.inject(ack());
        s.accept();
        assert_eq!(s.info().mss, 512);
    });
}

/// MUST-64: options need not be aligned.
#[test]
fn rfc9293_3_1_options_off_any_boundary() {
    script(|s| {
        s.listen();
        s.inject(syn().raw_options(&[1, 2, 4, 2, 0, 3, 3, 2, 1, 4, 2, 0]));
        s.expect_only(syn_ack().sack_ok());
        s.inject(ack());
        s.accept();
        assert_eq!(s.info().mss, 512);
    });
}

/// MUST-69: what we send is padded with zeros or no-operations to whole words; our SYN's layout is Linux's.
#[test]
fn rfc9293_3_1_our_options_are_padded() {
    script(|s| {
        s.connect();
        let sent = s.expect_only(syn().mss(1460).sack_ok().any_ts());
        let options = &sent.ip[40..];
        assert_eq!(options.len() % 4, 0);
        assert_eq!((&options[..4], options[4], options[6]), (&[2, 4, 5, 180][..], 4, 8));
        assert_eq!(options[16..19], [1, 3, 3]);
    });
}

/// Data offset below five words or beyond the segment: dropped, no RST.
#[test]
fn rfc9293_3_1_wrong_data_offset_is_dropped() {
    script(|s| {
        s.establish();
        for words in [0, 1, 4, 15] {
            s.inject(data("x").seq(1).data_offset(words));
        }
        s.inject(data("x").seq(1).ack(1).port(9999).data_offset(3));
        s.expect_nothing_for(600);
        s.expect_read("");
    });
}

/// RFC 7323 2.2: the option is answered only if it was offered, and ours is in every SYN.
#[test]
fn rfc7323_2_2_scaling_only_if_both_offer_it() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().no_wscale());
        s.inject(ack().win(1000));
        s.accept();
        assert_eq!(s.info().snd_wnd_bytes, 1000);
    });
}

/// RFC 7323 2.2, 2.3: offered by both, the window of later segments is shifted, that of the SYN is not.
#[test]
fn rfc7323_2_3_windows_are_shifted_after_the_handshake() {
    script(|s| {
        s.offer.window_scale = Some(5);
        s.listen();
        s.inject(s.peer_syn().win(2000));
        let answer = s.expect_only(syn_ack());
        let shift = answer.options.window_scale.expect("agreed");
        s.inject(ack().win(100));
        s.accept();
        assert_eq!(s.info().snd_wnd_bytes, 3200);
        assert_eq!(answer.header.window, u16::MAX);
        s.inject(data("x"));
        let later = s.expect_after(0..=499, ack().no_wscale());
        assert!(u32::from(later.header.window) << shift >= 65_535, "{}", later.header.window);
    });
}

/// RFC 7323 2.3: a shift above 14 counts as 14.
#[test]
fn rfc7323_2_3_shift_is_at_most_14() {
    script(|s| {
        s.offer.window_scale = Some(200);
        s.listen();
        s.inject(syn().raw_options(&[2, 4, 5, 180, 3, 3, 200, 0]));
        s.expect_only(syn_ack());
        s.inject(ack().win(2));
        s.accept();
        assert_eq!(s.info().snd_wnd_bytes, 2 << 14);
    });
}

/// RFC 7323 2.4: a window that cannot be said exactly is opened by what can be said.
#[test]
fn rfc7323_2_4_opened_window_is_rounded_down() {
    script(|s| {
        s.options.recv_buffer_bytes = 300_001;
        s.offer.window_scale = Some(0);
        s.listen();
        s.inject(s.peer_syn());
        let shift = s.expect_only(syn_ack()).options.window_scale.expect("agreed");
        s.inject(ack());
        s.accept();
        s.inject(data(vec![1; 1000]));
        let sent = s.expect_after(0..=499, ack());
        assert!((u32::from(sent.header.window) << shift) + 1000 <= 300_001);
    });
}

/// RFC 7323 2.4: what is not read closes the window, of which nothing is taken back by rounding, and all that fits it is taken.
#[test]
fn rfc7323_2_4_edge_does_not_go_back_by_rounding() {
    script(|s| {
        s.options.recv_buffer_bytes = 100_000;
        s.options.quick_acks = 255;
        s.offer.window_scale = Some(0);
        s.listen();
        s.inject(s.peer_syn());
        let syn_ack = s.expect_only(syn_ack());
        let shift = syn_ack.options.window_scale.expect("agreed");
        assert!(shift >= 5, "{shift}");
        s.inject(ack());
        s.accept();
        let (mut sent, mut edge) = (1, u32::from(syn_ack.header.window) + 1);
        while sent + 999 <= edge {
            s.inject(data(vec![1; 999]).seq(sent));
            sent += 999;
            let window = u32::from(s.expect_after(0..=1, ack().ack(sent)).header.window) << shift;
            assert!(sent + window >= edge, "{} is left of {edge}", sent + window);
            edge = sent + window;
        }
        assert!((99_000..=115_000).contains(&sent), "{sent}");
        assert_eq!(s.read().len() as u32, sent - 1);
        s.ignore_sent();
    });
}

/// RFC 2018 2: SACK is agreed only if both offer it.
#[test]
fn rfc2018_2_sack_only_if_both_offer_it() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().no_sack_ok());
        s.inject(ack());
        s.accept();
        s.inject(data("x").seq(5));
        s.expect_only(ack().ack(1).no_sack());
    });
}

/// A peer that answers our offer of everything with nothing gets nothing.
#[test]
fn rfc7323_2_2_declined_options_are_not_used() {
    script(|s| {
        s.connect();
        s.expect_only(syn().any_ts().sack_ok());
        s.inject(s.peer_syn_ack().win(1000));
        s.expect_only(ack().no_ts());
        s.expect_connected();
        assert_eq!(s.info().snd_wnd_bytes, 1000);
        s.inject(data("x").seq(5));
        s.expect_only(ack().ack(1).no_sack().no_ts());
    });
}

/// RFC 9293 3.1: ECE and CWR, URG without text, PSH without text mean nothing by themselves.
#[test]
fn rfc9293_3_1_flags_without_meaning_do_no_harm() {
    script(|s| {
        s.establish();
        s.inject(bare(Flags(0xe8) | Flags::ACK).urgent(1));
        s.expect_state(TcpState::Established);
        s.ignore_sent();
        s.expect_alive();
    });
}

/// Sequence numbers wrap in the middle of everything (RFC 9293 3.4).
#[test]
fn rfc9293_3_4_sequence_numbers_wrap() {
    for irs in [u32::MAX, u32::MAX - 1, u32::MAX - 3, 0x7fff_fffe] {
        ringwire_conformance::run("rfc9293_3_4_sequence_numbers_wrap", |s| {
            s.irs = irs;
            s.offer_sack();
            s.establish();
            s.inject(data("cd").seq(3));
            s.expect_only(ack().ack(1).sack(&[(3, 5)]));
            s.inject(data("ab").seq(1));
            s.expect_only(ack().ack(5).no_sack());
            s.expect_read("abcd");
            s.peer_next(5);
            s.expect_alive();
            s.inject(fin());
            s.expect_only(ack().ack(10));
            s.expect_eof();
        });
    }
}

/// The same on our side: the initial number is just before the wrap, and data crosses it.
#[test]
fn rfc9293_3_4_our_sequence_numbers_wrap() {
    script(|s| {
        s.establish();
        // RFC 6528 3: the clock steps every so often; wait until the same tuple's number is about to wrap.
        let (first, began_ms) = (s.worker_iss(), s.now_ms());
        s.inject(ringwire_conformance::rst());
        s.wait_long(std::time::Duration::from_secs(10));
        s.establish();
        let per_ms = f64::from(s.worker_iss().wrapping_sub(first)) / (s.now_ms() - began_ms) as f64;
        s.inject(ringwire_conformance::rst());
        let ms = f64::from(u32::MAX - s.worker_iss()) / per_ms;
        s.wait_long(std::time::Duration::from_millis(ms as u64 - 1));
        s.establish();
        assert!(s.worker_iss() > u32::MAX - 4 * per_ms as u32, "{:x}", s.worker_iss());
        s.send(vec![7; 10_000]);
        let bytes: usize = s.take_sent().iter().map(|segment| segment.len()).sum();
        assert_eq!(bytes, 10_000);
        s.inject(ack());
        assert_eq!(s.info().unacked_bytes, 0);
    });
}

/// RFC 9293 3.9.1.8 (MUST-48), 3.9.2 (MUST-49): DSCP and TTL are the application's, in every segment from the first on; the ECN bits are
/// not.
#[test]
fn rfc9293_3_9_1_8_dscp_and_ttl_are_the_applications() {
    let is_marked = |sent: &Sent| (sent.tos & !3, sent.ip[8]) == (0xb8, 7);
    script(|s| {
        (s.options.tos, s.options.ttl) = (0xbb, 7);
        s.options.backlog = 1;
        s.listen();
        s.inject(s.peer_syn());
        let syn_ack_sent = s.expect_only(syn_ack());
        // Beyond the backlog, the cookie too.
        s.inject(s.peer_syn().port(5001));
        let cookie = s.expect_only(syn_ack().port(5001));
        s.inject(ack());
        s.accept();
        s.send("x");
        let first = s.expect_only(data("x"));
        let again = s.expect_after(100..=1200, data("x"));
        s.inject(data("y"));
        let answer = s.expect_after(0..=499, ack());
        assert_eq!(first.tos & 3, 0, "no ECN was agreed on");
        assert!([syn_ack_sent, cookie, first, again, answer].iter().all(is_marked));
        s.abort();
        assert!(s.take_sent().iter().all(is_marked));
    });
    script(|s| {
        (s.options.tos, s.options.ttl) = (0xb8, 7);
        s.connect();
        assert!(is_marked(&s.expect_only(syn())));
    });
    script(|s| {
        s.options.ttl = 0;
        s.connect();
        let sent = s.expect_only(syn());
        assert_eq!((sent.tos, sent.ip[8]), (0, 1), "nothing is sent with a TTL of 0");
    });
}

/// What leaves from then on, whether or not it has left before; and nothing of it is the application's but the six bits.
#[test]
fn rfc9293_3_9_1_9_dscp_can_change() {
    let marks = |sent: &[&Sent]| sent.iter().map(|sent| sent.tos).collect::<Vec<_>>();
    script(|s| {
        s.options.tos = 0x28;
        s.establish();
        s.send("x");
        let first = s.expect_only(data("x"));
        s.options.tos = 0xbb;
        s.change_options();
        let again = s.expect_after(100..=1200, data("x"));
        s.inject(ack());
        s.send("y");
        let next = s.expect_only(data("y"));
        s.inject(data("z"));
        let answer = s.expect_after(0..=499, ack());
        assert_eq!(marks(&[&first, &again, &next, &answer]), [0x28, 0xb8, 0xb8, 0xb8]);
        s.options.tos = 0;
        s.change_options();
        s.abort();
        let sent = s.take_sent();
        assert_eq!(marks(&sent.iter().collect::<Vec<_>>()), [0]);
    });
}
