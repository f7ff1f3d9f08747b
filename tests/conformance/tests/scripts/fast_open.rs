//! Fast Open, both sides: RFC 7413.

use std::time::Duration;

use ringwire::{CloseReason, TcpState};
use ringwire_conformance::{Script, Segment, ack, data, fin, rst, script, syn, syn_ack};
use ringwire_wire::tcp::FastOpen;

/// A listener that takes part.
fn listening(s: &mut Script) {
    s.options.fast_open = true;
    s.listen();
}

/// The cookie that the listener gives, through a connection from another port that is over again.
fn ask(s: &mut Script) -> FastOpen {
    let port = s.peer_port;
    s.peer_port = 33_000 + s.counters().accepted as u16;
    let request = s.peer_syn().fast_open(FastOpen::REQUEST);
    s.inject(request);
    let cookie = s.expect_only(syn_ack().ack(1)).options.fast_open.expect("a cookie");
    assert!(!cookie.is_request());
    s.inject(rst().seq(1));
    s.peer_port = port;
    cookie
}

fn opener(s: &Script, cookie: FastOpen, text: &str) -> Segment {
    s.peer_syn().fast_open(cookie).text(text)
}

/// A connection in SYN-RECEIVED that has read `GET` already.
fn opened(s: &mut Script) -> FastOpen {
    listening(s);
    let cookie = ask(s);
    let syn = opener(s, cookie, "GET");
    s.inject(syn);
    s.expect_only(syn_ack().seq(0).ack(4));
    s.accept();
    s.expect_read("GET");
    s.expect_state(TcpState::SynReceived);
    cookie
}

/// The text that the SYN brought in vain comes once more.
fn text_after_the_handshake(s: &mut Script) {
    s.inject(data("GET").seq(1).ack(1));
    s.accept();
    s.expect_read("GET");
    s.ignore_sent();
    s.wait(100);
    s.ignore_sent();
}

/// A client whose next SYN has the cookie 1 to 8.
fn client(s: &mut Script) -> FastOpen {
    let cookie = FastOpen::cookie(&[1, 2, 3, 4, 5, 6, 7, 8]).expect("a legal length");
    s.options.fast_open = true;
    s.connect();
    s.expect_only(syn().fast_open(FastOpen::REQUEST).len(0));
    let answer = s.peer_syn_ack().fast_open(cookie);
    s.inject(answer);
    s.expect_only(ack().ack(1));
    s.expect_connected();
    s.abort();
    s.expect_only(ringwire_conformance::rst_ack());
    cookie
}

/// The client's SYN with cookie and text has left.
fn sent(s: &mut Script, text: &str) -> FastOpen {
    let cookie = client(s);
    s.connect_with(text);
    s.expect_only(syn().seq(0).fast_open(cookie).text(text));
    cookie
}

#[test]
fn rfc7413_4_1_1_nobody_takes_part_unasked() {
    script(|s| {
        s.listen();
        let request = s.peer_syn().fast_open(FastOpen::REQUEST).text("GET");
        s.inject(request);
        s.expect_only(syn_ack().ack(1).no_fast_open());
        s.expect_no_accept();
    });
    script(|s| {
        s.connect_with("GET");
        s.expect_only(syn().no_fast_open().len(0));
    });
}

#[test]
fn rfc7413_4_1_2_a_cookie_is_given_on_request() {
    script(|s| {
        listening(s);
        let first = ask(s);
        // The same address: the same cookie, for whatever port.
        assert_eq!(ask(s), first);
        assert_eq!(first.as_slice().len(), 8);
        assert_eq!(s.counters().fast_open_refused, 0);
    });
}

#[test]
fn rfc7413_4_1_2_a_cookie_is_for_one_address() {
    script(|s| {
        listening(s);
        let cookie = ask(s);
        let other = [10, 0, 0, 3].into();
        let syn = opener(s, cookie, "GET");
        s.inject_between((other, ringwire_conformance::WORKER), &syn);
        s.wait(10);
        s.ignore_sent();
        s.expect_no_accept();
        assert_eq!((s.counters().fast_opened, s.counters().fast_open_refused), (0, 1));
    });
}

#[test]
fn rfc7413_4_1_2_a_cookie_expires_and_is_renewed_before() {
    script(|s| {
        listening(s);
        let cookie = ask(s);
        s.wait_long(Duration::from_secs(3600));
        s.ignore_sent();
        let syn = opener(s, cookie, "GET");
        s.inject(syn);
        let renewed = s.expect_only(syn_ack().ack(4)).options.fast_open.expect("another cookie");
        assert_ne!(renewed, cookie);
        s.accept();
        s.expect_read("GET");
        s.inject(ack().seq(4).ack(1));
        s.close();
        s.wait_long(Duration::from_secs(7200));
        s.ignore_sent();
        s.peer_port += 1;
        let late = opener(s, cookie, "GET");
        s.inject(late);
        s.expect_only(syn_ack().ack(1));
        s.expect_no_accept();
    });
}

#[test]
fn rfc7413_4_2_2_the_text_of_a_syn_is_read_before_the_handshake_ends() {
    script(|s| {
        opened(s);
        assert!(s.info().syn_text);
        assert_eq!(s.counters().fast_opened, 1);
        s.inject(ack().seq(4).ack(1));
        s.expect_state(TcpState::Established);
        s.expect_no_accept();
        s.expect_alive();
    });
}

#[test]
fn rfc7413_4_2_2_the_server_may_answer_before_the_handshake_ends() {
    script(|s| {
        opened(s);
        s.send("answer");
        s.expect_only(data("answer").psh().seq(1).ack(4));
        s.inject(ack().seq(4).ack(7));
        s.expect_state(TcpState::Established);
        assert_eq!(s.info().unacked_bytes, 0);
        s.expect_alive();
    });
}

#[test]
fn rfc7413_4_2_2_the_answer_is_bounded_by_the_initial_window() {
    script(|s| {
        opened(s);
        let _ = s.try_send(&[7; 60_000]);
        let sent: usize = s.take_sent().iter().map(|segment| segment.text.len()).sum();
        assert_eq!(sent, 10 * 1460);
        s.inject(ack().seq(4).ack(1 + 14_600));
        s.ignore_sent();
        s.abort();
        s.ignore_sent();
    });
}

#[test]
fn rfc7413_4_2_2_a_wrong_cookie_falls_back_and_brings_the_right_one() {
    for wrong in [&[9; 8][..], &[9; 4], &[9; 16]] {
        script(|s| {
            listening(s);
            let right = ask(s);
            let cookie = FastOpen::cookie(wrong).expect("a legal length");
            let syn = opener(s, cookie, "GET");
            s.inject(syn);
            s.expect_only(syn_ack().ack(1).fast_open(right));
            s.expect_no_accept();
            assert_eq!((s.counters().fast_opened, s.counters().fast_open_refused), (0, 1));
            text_after_the_handshake(s);
        });
    }
}

/// RFC 7413 4.1.1: it MUST be ignored.
#[test]
fn rfc7413_4_1_1_options_of_illegal_length_are_ignored() {
    for option in [&[34, 3, 1, 1][..], &[34, 5, 1, 2, 3, 1, 1, 1], &[34, 7, 1, 2, 3, 4, 5, 1]] {
        script(|s| {
            listening(s);
            s.inject(syn().raw_options(option).text("GET"));
            s.expect_only(syn_ack().ack(1).no_fast_open());
            s.expect_no_accept();
        });
    }
}

/// RFC 7413 4.1.1: so it MUST be without a SYN.
#[test]
fn rfc7413_4_1_1_the_option_is_ignored_elsewhere() {
    script(|s| {
        s.options.fast_open = true;
        s.establish();
        s.inject(data("text").fast_open(FastOpen::REQUEST));
        s.expect_read("text");
        s.ignore_sent();
        s.expect_alive();
    });
}

#[test]
fn rfc7413_4_2_2_a_valid_cookie_without_text_opens_too() {
    script(|s| {
        listening(s);
        let cookie = ask(s);
        let syn = s.peer_syn().fast_open(cookie);
        s.inject(syn);
        s.expect_only(syn_ack().ack(1));
        s.accept();
        s.send("banner");
        s.expect_only(data("banner").seq(1).ack(1));
        s.inject(ack().seq(1).ack(7));
        assert!(!s.info().syn_text);
        s.expect_alive();
    });
}

/// RFC 7413 4.2.2: to one connection it is delivered once.
#[test]
fn rfc7413_4_2_2_a_repeated_syn_is_answered_and_not_delivered_again() {
    script(|s| {
        let cookie = opened(s);
        for repeated in [opener(s, cookie, "GET").seq(0), s.peer_syn().seq(0)] {
            s.wait(600);
            s.inject(repeated);
            s.expect(syn_ack().seq(0).ack(4));
            s.ignore_sent();
        }
        s.expect_read("");
        s.expect_no_accept();
        assert_eq!(s.counters().fast_opened, 1);
        s.inject(ack().seq(4).ack(1));
        s.expect_alive();
    });
}

/// RFC 7413 2.1, 6.1: the idempotence that Fast Open asks of applications. A copy of a SYN that comes when the connection is over
/// opens another one, with the same text.
#[test]
fn rfc7413_2_1_a_late_copy_of_a_syn_opens_another_connection() {
    script(|s| {
        let cookie = opened(s);
        s.inject(ack().seq(4).ack(1));
        s.inject(rst().seq(4));
        s.expect_closed(CloseReason::Reset);
        let copy = opener(s, cookie, "GET").seq(0);
        s.inject(copy);
        s.expect_only(syn_ack().seq(0).ack(4));
        s.accept();
        s.expect_read("GET");
        assert_eq!(s.counters().fast_opened, 2);
    });
}

#[test]
fn rfc7413_4_2_2_the_syn_ack_is_resent_and_what_followed_it_after_the_handshake() {
    script(|s| {
        opened(s);
        s.send("answer");
        s.expect_only(data("answer").seq(1));
        s.expect_after(900..=1100, syn_ack().seq(0).ack(4).len(0));
        s.inject(ack().seq(4).ack(1));
        s.expect_only(data("answer").seq(1).ack(4));
        s.inject(ack().seq(4).ack(7));
        s.expect_state(TcpState::Established);
    });
}

#[test]
fn rfc7413_4_2_2_an_end_before_the_handshake_waits_for_it() {
    script(|s| {
        opened(s);
        s.send("answer");
        s.shutdown_write();
        s.expect_only(data("answer").seq(1).ack(4));
        s.inject(ack().seq(4).ack(7));
        s.expect_only(fin().seq(7).ack(4));
        s.expect_state(TcpState::FinWait1);
    });
}

/// RFC 7413 4.2.2: what nobody acknowledges is given up like any half-open connection.
#[test]
fn rfc7413_4_2_2_a_handshake_that_never_ends_is_given_up() {
    script(|s| {
        opened(s);
        s.wait_long(Duration::from_secs(200));
        s.ignore_sent();
        s.expect_closed(CloseReason::TimedOut);
        assert_eq!(s.connections(), 0);
    });
}

/// RFC 7413 5.1: PendingFastOpenRequests.
#[test]
fn rfc7413_5_1_beyond_the_limit_syns_open_in_the_ordinary_way() {
    script(|s| {
        s.options.fast_open_backlog = 2;
        let cookie = opened(s);
        for port in [41_001, 41_002] {
            s.peer_port = port;
            let syn = opener(s, cookie, "GET");
            s.inject(syn);
            let is_fast = port == 41_001;
            s.expect_only(syn_ack().ack(if is_fast { 4 } else { 1 }).no_fast_open());
            if is_fast {
                s.accept();
                s.expect_read("GET");
            }
        }
        s.expect_no_accept();
        assert_eq!((s.counters().fast_opened, s.counters().fast_open_refused), (2, 1));
        // The end of a handshake makes room.
        s.peer_port = 41_001;
        s.inject(ack().seq(4).ack(1));
        s.peer_port = 41_003;
        let syn = opener(s, cookie, "GET");
        s.inject(syn);
        s.expect_only(syn_ack().ack(4));
    });
}

/// RFC 7413 5.1: a reset before the end of the handshake is what a forged SYN brings; it counts for a while.
#[test]
fn rfc7413_5_1_a_reset_counts_for_a_minute() {
    script(|s| {
        s.options.fast_open_backlog = 1;
        let cookie = opened(s);
        s.inject(rst().seq(4));
        s.expect_closed(CloseReason::Reset);
        s.wait_long(Duration::from_secs(59));
        s.peer_port = 41_001;
        let early = opener(s, cookie, "GET");
        s.inject(early);
        s.expect_only(syn_ack().ack(1));
        s.expect_no_accept();
        s.inject(rst().seq(1));
        s.wait_long(Duration::from_secs(2));
        s.peer_port = 41_002;
        let late = opener(s, cookie, "GET");
        s.inject(late);
        s.expect_only(syn_ack().ack(4));
        s.accept();
        s.expect_read("GET");
    });
}

#[test]
fn rfc7413_5_1_a_limit_of_none_only_gives_cookies() {
    script(|s| {
        s.options.fast_open_backlog = 0;
        listening(s);
        let cookie = ask(s);
        let syn = opener(s, cookie, "GET");
        s.inject(syn);
        s.expect_only(syn_ack().ack(1));
        s.expect_no_accept();
    });
}

/// While SYN cookies take the place of the SYN queue, nothing is remembered, so no text is taken (as on Linux).
#[test]
fn rfc7413_5_1_syn_cookies_take_no_text() {
    script(|s| {
        s.options.backlog = 1;
        listening(s);
        let cookie = ask(s);
        s.peer_port = 41_001;
        let half_open = s.peer_syn();
        s.inject(half_open);
        s.expect_only(syn_ack().ack(1));
        s.peer_port = 41_002;
        let syn = opener(s, cookie, "GET");
        s.inject(syn);
        s.expect_only(syn_ack().ack(1).no_fast_open());
        assert_eq!(s.counters().cookies_sent, 1);
        text_after_the_handshake(s);
    });
}

/// The accept queue holds what the application has not taken, however it came there; a full one takes no SYN.
#[test]
fn rfc7413_4_2_2_the_accept_queue_bounds_fast_opens_too() {
    script(|s| {
        opened(s);
        s.send("x");
        s.ignore_sent();
        // Its place is its own: the end of the handshake is not held up by others.
        s.inject(ack().seq(4).ack(2));
        s.expect_state(TcpState::Established);
    });
}

#[test]
fn rfc7413_4_2_1_without_a_cookie_the_client_asks_for_one() {
    script(|s| {
        s.options.fast_open = true;
        s.connect_with("GET");
        s.expect_only(syn().fast_open(FastOpen::REQUEST).len(0));
        let answer = s.peer_syn_ack();
        s.inject(answer);
        s.expect_only(data("GET").seq(1).ack(1));
        s.expect_connected();
    });
}

#[test]
fn rfc7413_4_2_1_with_a_cookie_the_syn_takes_text_along() {
    script(|s| {
        sent(s, "GET");
        let answer = s.peer_syn_ack();
        s.inject(answer.ack(4));
        s.expect_only(ack().seq(4).ack(1));
        s.expect_connected();
        assert!(s.info().syn_text);
        assert_eq!(s.counters().fast_connected, 1);
        s.expect_alive();
    });
}

#[test]
fn rfc7413_4_2_1_a_syn_is_no_longer_than_the_mss_that_came_with_the_cookie() {
    script(|s| {
        s.offer.mss = Some(700);
        let cookie = client(s);
        s.connect_with([7; 2000]);
        let first = s.expect_only(syn().fast_open(cookie));
        assert_eq!(first.text.len(), 700 - 40, "with room for all options that there can be");
        let answer = s.peer_syn_ack();
        s.inject(answer);
        let len = |s: &mut Script| s.take_sent().iter().map(|segment| segment.text.len()).sum::<usize>();
        let soon = len(s);
        s.expect_connected();
        // Nagle's rule keeps the last of it.
        s.inject(ack());
        assert_eq!(first.text.len() + soon + len(s), 2000);
        s.inject(ack());
    });
}

#[test]
fn rfc7413_4_2_1_text_that_is_not_acknowledged_goes_again_at_once() {
    script(|s| {
        sent(s, "GET");
        let answer = s.peer_syn_ack();
        s.inject(answer.ack(1));
        s.expect_only(data("GET").psh().seq(1).ack(1));
        s.expect_connected();
        assert!(!s.info().syn_text);
        s.inject(ack().ack(4));
        s.expect_alive();
    });
}

#[test]
fn rfc7413_4_2_1_text_that_is_acknowledged_in_part_goes_again_in_part_at_least() {
    script(|s| {
        sent(s, "GET");
        let answer = s.peer_syn_ack();
        s.inject(answer.ack(2));
        let rest = s.take_sent();
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].seq + rest[0].text.len() as u32, 4);
        s.inject(ack().ack(4));
        s.expect_connected();
        s.expect_alive();
    });
}

#[test]
fn rfc7413_4_2_1_an_acknowledgement_beyond_the_text_is_reset() {
    script(|s| {
        sent(s, "GET");
        let answer = s.peer_syn_ack();
        s.inject(answer.ack(5));
        s.expect_only(rst().seq(5));
        s.expect_state(TcpState::SynSent);
    });
}

#[test]
fn rfc7413_4_2_1_a_server_may_answer_before_it_is_acknowledged() {
    script(|s| {
        sent(s, "GET");
        let answer = s.peer_syn_ack();
        s.inject_all([answer.ack(4), data("answer").ack(4)]);
        s.expect_connected();
        s.expect_read("answer");
        s.ignore_sent();
        s.expect_alive();
    });
}

#[test]
fn rfc7413_4_1_3_1_a_syn_is_repeated_without_text_and_cookie() {
    script(|s| {
        sent(s, "GET");
        s.expect_after(900..=1100, syn().seq(0).len(0).no_fast_open());
        let answer = s.peer_syn_ack();
        s.inject(answer.ack(1));
        s.expect_only(data("GET").seq(1).ack(1));
        s.expect_connected();
    });
}

/// RFC 7413 4.1.3.1: SYNs with text that vanish twice in a row are not tried again for a minute.
#[test]
fn rfc7413_4_1_3_1_after_two_losses_fast_open_rests() {
    script(|s| {
        let cookie = client(s);
        for _ in 0..2 {
            s.connect_with("GET");
            s.expect_only(syn().fast_open(cookie).text("GET"));
            s.expect_after(900..=1100, syn().len(0).no_fast_open());
            s.abort();
        }
        s.connect_with("GET");
        s.expect_only(syn().len(0).no_fast_open());
        s.abort();
        s.wait_long(Duration::from_secs(61));
        s.connect_with("GET");
        s.expect_only(syn().fast_open(cookie).text("GET"));
    });
}

#[test]
fn rfc7413_4_1_3_1_text_refused_without_a_new_cookie_asks_again() {
    script(|s| {
        sent(s, "GET");
        let answer = s.peer_syn_ack();
        s.inject(answer.ack(1));
        s.expect_only(data("GET").seq(1));
        s.abort();
        s.ignore_sent();
        s.connect_with("GET");
        s.expect_only(syn().fast_open(FastOpen::REQUEST).len(0));
    });
}

#[test]
fn rfc7413_4_2_1_the_newest_cookie_counts() {
    script(|s| {
        sent(s, "GET");
        let next = FastOpen::cookie(&[9; 16]).expect("a legal length");
        let answer = s.peer_syn_ack().fast_open(next);
        s.inject(answer.ack(1));
        s.expect_only(data("GET").seq(1));
        s.abort();
        s.ignore_sent();
        s.connect_with("GET");
        let again = s.expect_only(syn().fast_open(next).text("GET"));
        assert_eq!(again.options.encoded_len(), 40);
    });
}

#[test]
fn rfc7413_4_1_3_1_icmp_about_a_syn_with_text_is_a_negative_response() {
    script(|s| {
        let cookie = client(s);
        for _ in 0..2 {
            s.connect_with([7; 1000]);
            let first = s.expect_only(syn().fast_open(cookie).len(1000));
            s.inject_icmp_error((3, 4), 800, &first);
            s.expect_only(syn().seq(0).len(0).no_fast_open());
            s.abort();
        }
        s.connect_with("GET");
        s.expect_only(syn().len(0).no_fast_open());
    });
}
