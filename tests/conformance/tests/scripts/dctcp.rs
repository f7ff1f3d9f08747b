//! Data Center TCP: RFC 8257. Both ends have chosen it, as nothing in the handshake can.

use ringwire::{CongestionControl, Ecn};
use ringwire_conformance::{Script, ack, bare, data, script, syn, syn_ack};
use ringwire_wire::tcp::Flags;

use crate::ecn::{CE, ECT_0, ecn_setup, negotiated};

const MSS: u32 = 1460;
const NOT_ECT: u8 = 0;

fn chosen(s: &mut Script) {
    s.options.congestion_control = CongestionControl::Dctcp;
}

/// A connection that agreed on ECN, opened by the peer.
#[track_caller]
fn agreed(s: &mut Script) {
    chosen(s);
    negotiated(s);
}

fn plain_ack(to: u32) -> ringwire_conformance::Segment {
    ack().without(Flags::ECE).ack(to)
}

fn echo(to: u32) -> ringwire_conformance::Segment {
    bare(Flags::ACK | Flags::ECE).ack(to)
}

/// 3.2: a mark after none is told of at once, though only one segment came.
#[test]
fn rfc8257_3_2_first_mark_is_acknowledged_at_once() {
    script(|s| {
        agreed(s);
        s.inject(data("a").tos(CE));
        s.expect_only(echo(2));
    });
}

/// 3.2: and so is the first segment without one.
#[test]
fn rfc8257_3_2_first_without_a_mark_is_acknowledged_at_once() {
    script(|s| {
        agreed(s);
        s.inject(data("a").tos(CE));
        s.expect_only(echo(2));
        s.inject(data("b").tos(ECT_0));
        s.expect_only(plain_ack(3));
    });
}

/// 3.2: an acknowledgement that waited leaves first, as it was when it began to wait.
#[test]
fn rfc8257_3_2_delayed_ack_keeps_its_state() {
    script(|s| {
        agreed(s);
        s.inject(data("a").tos(ECT_0));
        s.expect_nothing();
        s.inject(data("b").tos(CE));
        s.expect(plain_ack(2));
        s.expect_only(echo(3));
        s.inject(data("c").tos(CE));
        s.expect_nothing();
        s.inject(data("d").tos(ECT_0));
        s.expect(echo(4));
        s.expect_only(plain_ack(5));
    });
}

/// 3.2: segments that come together are acknowledged run by run, so that each byte is counted as it was marked.
#[test]
fn rfc8257_3_2_runs_of_a_batch_are_told_apart() {
    script(|s| {
        agreed(s);
        let marks = [ECT_0, ECT_0, CE, CE, CE, ECT_0];
        s.inject_all(marks.map(|tos| data("x").tos(tos)));
        s.expect(plain_ack(3));
        s.expect(echo(6));
        s.expect_only(plain_ack(7));
    });
}

/// 3.2: without a change acknowledgements are delayed as ever, and CWR changes nothing.
#[test]
fn rfc8257_3_2_same_state_is_acknowledged_as_ever() {
    script(|s| {
        agreed(s);
        s.inject(data("a").tos(CE));
        s.expect_only(echo(2));
        s.inject(data("b").with(Flags::CWR).tos(CE));
        s.expect_nothing();
        s.expect_after(10..=499, echo(3));
        s.inject(data("c").with(Flags::CWR).tos(ECT_0));
        s.expect_only(plain_ack(4));
    });
}

/// 3.2: with any other congestion control the receiver is that of RFC 3168.
#[test]
fn rfc8257_3_2_others_echo_as_rfc3168_says() {
    for congestion_control in [CongestionControl::Cubic, CongestionControl::NewReno, CongestionControl::Bbr] {
        ringwire_conformance::run("rfc8257_3_2_others_echo_as_rfc3168_says", |s| {
            s.options.congestion_control = congestion_control;
            s.listen();
            s.inject(syn().mss(1460).with(ecn_setup()));
            s.expect_only(syn_ack().with(Flags::ECE).without(Flags::CWR).tos(NOT_ECT));
            s.wait(100);
            s.inject(ack());
            s.accept();
            s.inject(data("a").tos(ECT_0));
            s.inject(data("b").tos(CE));
            // Delayed as ever, and told of until CWR comes.
            s.expect_after(10..=499, echo(3).tos(NOT_ECT));
            s.inject(data("c").tos(ECT_0));
            s.expect_after(10..=499, echo(4));
            s.inject(data("d").with(Flags::CWR).tos(ECT_0));
            s.expect_after(10..=499, plain_ack(5));
        });
    }
}

/// So many windows are sent and acknowledged, segment by segment, with an echo or without.
fn windows(s: &mut Script, count: usize, is_marked: bool) {
    for _ in 0..count {
        while s.info().unsent_bytes < 200_000 && s.try_send(&[1; 1460]) == Ok(1460) {}
        let sent = s.take_sent();
        s.wait(10);
        for segment in &sent {
            let ack = ack().ack(segment.end());
            s.inject(if is_marked { ack.with(Flags::ECE) } else { ack });
        }
    }
}

/// 3.3: the first mark halves the window, as alpha begins at one; CWR is said as RFC 3168 has it.
#[test]
fn rfc8257_3_3_first_mark_halves_the_window() {
    script(|s| {
        agreed(s);
        s.send(vec![1; 40 * 1460]);
        assert_eq!(s.take_sent().len(), 10);
        s.inject(ack().with(Flags::ECE).ack(1 + 2 * MSS));
        assert_eq!(s.info().cwnd_bytes, 5 * MSS);
        s.inject(ack().with(Flags::ECE).ack(1 + 8 * MSS));
        assert_eq!(s.info().cwnd_bytes, 5 * MSS, "once for a window of data");
        let sent = s.take_sent();
        let said: Vec<bool> = sent.iter().map(|segment| segment.header.flags.contains(Flags::CWR)).collect();
        assert_eq!(said.iter().filter(|said| **said).count(), 1, "{said:?}");
        s.abort();
        s.ignore_sent();
    });
}

/// 3.3: alpha falls by a sixteenth for each window without marks; a mark then costs half of it.
#[test]
fn rfc8257_3_3_a_rare_mark_costs_little() {
    script(|s| {
        agreed(s);
        // Out of slow start, so that windows stay small.
        windows(s, 1, true);
        windows(s, 40, false);
        let before = s.info().cwnd_bytes;
        while s.info().unsent_bytes < 200_000 && s.try_send(&[1; 1460]) == Ok(1460) {}
        let sent = s.take_sent();
        s.inject(ack().with(Flags::ECE).ack(sent[0].end()));
        let left = f64::from(s.info().cwnd_bytes) / f64::from(before);
        // (15/16)^40 is 0.076.
        assert!((0.94..=0.98).contains(&left), "{left}");
        s.abort();
        s.ignore_sent();
    });
}

/// 3.3: where everything is marked, every window is halved.
#[test]
fn rfc8257_3_3_marks_all_the_time_halve_all_the_time() {
    script(|s| {
        agreed(s);
        windows(s, 2, false);
        let before = s.info().cwnd_bytes;
        windows(s, 1, true);
        let left = f64::from(s.info().cwnd_bytes) / f64::from(before);
        assert!((0.5..=0.62).contains(&left), "{left}");
        windows(s, 6, true);
        assert_eq!(s.info().cwnd_bytes, 2 * MSS, "and two segments are left");
        s.abort();
        s.ignore_sent();
    });
}

/// 3.4: between marks the window grows as everybody's: it doubles in slow start, and adds a segment for a window above ssthresh.
#[test]
fn rfc8257_3_4_growth_is_conventional() {
    script(|s| {
        agreed(s);
        windows(s, 2, false);
        assert_eq!(s.info().cwnd_bytes, 40 * MSS);
        windows(s, 1, true);
        windows(s, 1, false);
        let before = s.info().cwnd_bytes;
        windows(s, 4, false);
        let grown = s.info().cwnd_bytes - before;
        assert!((3 * MSS..=5 * MSS).contains(&grown), "{grown}");
        s.abort();
        s.ignore_sent();
    });
}

/// 3.5: a loss halves the window, however little was marked.
#[test]
fn rfc8257_3_5_loss_is_answered_as_by_everybody() {
    script(|s| {
        agreed(s);
        windows(s, 1, true);
        windows(s, 40, false);
        while s.info().unsent_bytes < 200_000 && s.try_send(&[1; 1460]) == Ok(1460) {}
        let sent = s.take_sent();
        let before = s.info().cwnd_bytes;
        for _ in 0..3 {
            s.inject(ack().ack(sent[0].end() - MSS));
        }
        let left = f64::from(s.info().ssthresh_bytes) / f64::from(before);
        assert!((0.4..=0.55).contains(&left), "{left}");
        s.abort();
        s.ignore_sent();
    });
}

/// 3.6: SYN, SYN-ACK and RST may be marked, and so may all else (as Linux has it; RFC 3168 6.1.4 to 6.1.6 is for the others).
#[test]
fn rfc8257_3_6_every_segment_is_ect() {
    script(|s| {
        chosen(s);
        s.connect();
        s.expect_only(syn().with(ecn_setup()).tos(ECT_0));
    });
    ringwire_conformance::run("rfc8257_3_6_every_segment_is_ect", |s| {
        chosen(s);
        s.listen();
        s.inject(syn().mss(1460).with(ecn_setup()).tos(ECT_0));
        s.expect_only(syn_ack().with(Flags::ECE).without(Flags::CWR).tos(ECT_0));
        s.wait(100);
        s.inject(ack());
        s.accept();
        s.inject(data("a").tos(ECT_0));
        s.expect_after(0..=499, plain_ack(2).tos(ECT_0));
        s.send("x");
        s.expect_only(data("x").tos(ECT_0));
        s.expect_after(100..=1500, data("x").tos(ECT_0));
        s.abort();
        s.expect_only(bare(Flags::RST | Flags::ACK).tos(ECT_0));
    });
}

/// 3.6: a mark on the handshake says nothing.
#[test]
fn rfc8257_3_6_mark_of_the_handshake_is_ignored() {
    script(|s| {
        chosen(s);
        s.connect();
        s.expect_only(syn().with(ecn_setup()));
        s.inject(s.peer_syn_ack().with(Flags::ECE).tos(CE));
        s.expect_only(ack().without(Flags::ECE));
        s.expect_connected();
        s.inject(data("a").tos(ECT_0));
        s.expect_after(10..=499, plain_ack(2));
    });
}

/// 4.1, RFC 3168 6.1.1: where ECN is off or the peer does not agree, nothing is marked, echoed or counted.
#[test]
fn rfc8257_3_without_ecn_it_is_reno() {
    script(|s| {
        chosen(s);
        s.options.ecn = Ecn::Off;
        s.connect();
        s.expect_only(syn().without(ecn_setup()).tos(NOT_ECT));
    });
    ringwire_conformance::run("rfc8257_3_without_ecn_it_is_reno", |s| {
        chosen(s);
        s.establish_in(100);
        s.inject(data("a").tos(CE));
        s.expect_after(0..=499, plain_ack(2).tos(NOT_ECT));
        s.send(vec![1; 10 * 1460]);
        assert!(s.take_sent().iter().all(|segment| segment.tos == NOT_ECT));
        s.inject(ack().with(Flags::ECE).ack(1 + MSS));
        assert!(s.info().cwnd_bytes >= 10 * MSS);
        for _ in 0..3 {
            s.inject(ack().ack(1 + MSS));
        }
        assert!(s.info().ssthresh_bytes <= 5 * MSS);
        s.abort();
        s.ignore_sent();
    });
}
