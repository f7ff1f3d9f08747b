//! More SYNs than the backlog holds: RFC 4987 3.6.

use ringwire_conformance::{Script, ack, bare, data, rst, script, syn, syn_ack};
use ringwire_wire::tcp::Flags;

/// A listener whose queue holds the one connection that fits, half open.
#[track_caller]
fn full_queue(s: &mut Script) {
    s.options.backlog = 1;
    s.listen();
    s.inject(syn().mss(1460).port(1000));
    s.ignore_sent();
}

/// RFC 4987 3.6: beyond the queue SYNs are answered with cookies, which cost no memory and are not resent.
#[test]
fn rfc4987_3_6_full_queue_answers_with_cookies() {
    script(|s| {
        s.options.backlog = 4;
        s.listen();
        for port in 1000..1008 {
            s.inject(syn().mss(1460).port(port));
            s.expect_only(syn_ack().port(port).ack(1));
        }
        assert!(s.connections() <= 4);
    });
}

/// RFC 4987 3.6: the ACK of a cookie opens the connection, with the MSS that the SYN had said, or a smaller one.
#[test]
fn rfc4987_3_6_cookie_is_taken() {
    script(|s| {
        full_queue(s);
        s.peer_port = 1001;
        s.inject(syn().mss(1000));
        s.expect_only(syn_ack().ack(1));
        s.wait(100);
        s.inject(ack());
        s.accept();
        let mss = s.info().mss;
        assert!((400..=1000).contains(&mss), "{mss}");
        s.ignore_sent();
        s.expect_alive();
    });
}

/// RFC 4987 3.6, RFC 7323: with timestamps the cookie carries window scale and SACK too.
#[test]
fn rfc4987_3_6_cookie_keeps_the_options_by_the_timestamp() {
    script(|s| {
        full_queue(s);
        s.peer_port = 1001;
        let now = s.now_ms() as u32;
        s.inject(syn().mss(1460).wscale(7).sack_ok().ts(now, 0));
        let answer = s.expect_only(syn_ack().sack_ok().any_ts());
        let stamp = answer.options.timestamps.expect("agreed");
        s.inject(ack().win(100).ts(now, stamp.value));
        s.accept();
        assert_eq!(s.info().snd_wnd_bytes, 100 << 7);
        s.inject(data("x").seq(5).ts(now, stamp.value));
        let sent = s.take_sent();
        assert!(sent.iter().any(|segment| !segment.options.sack.is_empty()), "{sent:?}");
    });
}

/// RFC 4987 3.6: an ACK that carries no valid cookie is reset and opens nothing.
#[test]
fn rfc4987_3_6_wrong_cookie_is_reset() {
    script(|s| {
        full_queue(s);
        for port in 1001..1100 {
            s.inject(ack().seq(1).ack(0x1234_5678).port(port));
            s.expect_only(rst().port(port).seq(0x1234_5678));
        }
        s.expect_no_accept();
    });
}

/// RFC 4987 3.6: a cookie dies after a few minutes.
#[test]
fn rfc4987_3_6_old_cookie_is_reset() {
    script(|s| {
        full_queue(s);
        s.peer_port = 1001;
        s.inject(syn().mss(1460));
        s.expect_only(syn_ack().ack(1));
        s.wait_long(std::time::Duration::from_secs(900));
        s.ignore_sent();
        s.inject(ack());
        s.expect_only(rst().seq(1));
        s.expect_no_accept();
    });
}

/// RFC 4987 3.6: SYN-ACK, RST and RST+ACK instead of the ACK open nothing.
#[test]
fn rfc4987_3_6_only_an_ack_opens() {
    script(|s| {
        full_queue(s);
        s.inject(rst().seq(1).port(1001));
        s.inject(bare(Flags::RST | Flags::ACK).seq(1).ack(1).port(1001));
        s.expect_nothing();
        s.inject(syn_ack().seq(0).ack(1).port(1001));
        s.expect_only(rst().seq(1).port(1001));
        s.expect_no_accept();
    });
}
