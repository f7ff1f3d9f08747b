//! Explicit congestion notification: RFC 3168.

use ringwire_conformance::{Script, ack, bare, data, fin, script, syn, syn_ack};
use ringwire_wire::tcp::Flags;

const MSS: u32 = 1460;
pub(crate) const ECT_0: u8 = 0b10;
pub(crate) const CE: u8 = 0b11;

pub(crate) fn ecn_setup() -> Flags {
    Flags::ECE | Flags::CWR
}

/// A connection that agreed on ECN, opened by the peer.
#[track_caller]
pub(crate) fn negotiated(s: &mut Script) {
    s.listen();
    s.inject(syn().mss(1460).with(ecn_setup()));
    s.expect_only(syn_ack().with(Flags::ECE).without(Flags::CWR));
    s.wait(100);
    s.inject(ack());
    s.accept();
}

/// 6.1.1: an ECN-setup SYN is answered by ECE without CWR.
#[test]
fn rfc3168_6_1_1_passive_side_agrees() {
    script(|s| {
        negotiated(s);
    });
}

/// 6.1.1: a plain SYN is answered by a plain SYN-ACK.
#[test]
fn rfc3168_6_1_1_plain_syn_gets_a_plain_answer() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().without(ecn_setup()));
        s.inject(ack());
        s.accept();
    });
}

/// 6.1.1: ECE or CWR alone is no ECN-setup SYN.
#[test]
fn rfc3168_6_1_1_half_an_offer_is_none() {
    for flag in [Flags::ECE, Flags::CWR] {
        ringwire_conformance::run("rfc3168_6_1_1_half_an_offer_is_none", |s| {
            s.listen();
            s.inject(s.peer_syn().with(flag));
            s.expect_only(syn_ack().without(Flags::CWR).without(Flags::ECE));
            s.inject(ack());
            s.accept();
            s.send("x");
            s.expect_only(data("x").tos(0));
            s.inject(ack());
        });
    }
}

/// 6.1.1: SYN and SYN-ACK are never marked ECT.
#[test]
fn rfc3168_6_1_1_syn_ack_is_not_ect() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn().with(ecn_setup()));
        s.expect_only(syn_ack().tos(0));
    });
}

#[test]
fn rfc3168_6_1_1_syn_is_not_ect() {
    script(|s| {
        s.connect();
        s.expect_only(syn().tos(0));
    });
}

/// 5, 6.1.2: data of such a connection is ECT.
#[test]
fn rfc3168_6_1_2_data_is_ect() {
    script(|s| {
        negotiated(s);
        s.send("x");
        s.expect_only(data("x").tos(ECT_0));
        s.inject(ack());
    });
}

/// 6.1.4: bare ACKs are not.
#[test]
fn rfc3168_6_1_4_bare_acks_are_not_ect() {
    script(|s| {
        negotiated(s);
        s.inject(data("x"));
        s.expect_after(0..=499, ack().tos(0));
    });
}

/// 6.1.5: nor are retransmissions.
#[test]
fn rfc3168_6_1_5_retransmissions_are_not_ect() {
    script(|s| {
        negotiated(s);
        s.send("x");
        s.expect_only(data("x").tos(ECT_0));
        s.expect_after(100..=1500, data("x").tos(0));
        s.inject(ack());
    });
}

/// 6.1.3: a CE mark is echoed on every ACK until CWR comes.
#[test]
fn rfc3168_6_1_3_ce_is_echoed_until_cwr() {
    script(|s| {
        negotiated(s);
        s.inject(data("a").tos(CE));
        s.expect_after(0..=499, bare(Flags::ACK | Flags::ECE).ack(2));
        s.inject(data("b").tos(ECT_0));
        s.expect_after(0..=499, bare(Flags::ACK | Flags::ECE).ack(3));
        s.inject(data("c").with(Flags::CWR).tos(ECT_0));
        s.expect_after(0..=499, ack().without(Flags::ECE).ack(4));
    });
}

/// 6.1.3: CWR and CE in one segment: the mark is newer.
#[test]
fn rfc3168_6_1_3_ce_with_cwr_is_echoed() {
    script(|s| {
        negotiated(s);
        s.inject(data("a").tos(CE));
        s.expect_after(0..=499, bare(Flags::ACK | Flags::ECE));
        s.inject(data("b").with(Flags::CWR).tos(CE));
        s.expect_after(0..=499, bare(Flags::ACK | Flags::ECE).ack(3));
    });
}

/// 6.1.3: the last segment of the peer may be the one that was marked.
#[test]
fn rfc3168_6_1_3_ce_on_a_fin_is_echoed() {
    script(|s| {
        negotiated(s);
        s.inject(fin().text("a").tos(CE));
        s.expect_after(0..=499, bare(Flags::ACK | Flags::ECE).ack(3));
        s.expect_read("a");
    });
}

/// 6.1.2: ECE halves the window (RFC 9438 4.6: 0.7; RFC 8511: 0.8) and the next new segment says CWR, once.
#[test]
fn rfc3168_6_1_2_ece_reduces_the_window() {
    script(|s| {
        negotiated(s);
        s.send(vec![1; 40 * 1460]);
        assert_eq!(s.take_sent().len(), 10);
        let before = s.info().cwnd_bytes;
        s.wait(100);
        s.inject(ack().with(Flags::ECE).ack(1 + 2 * MSS));
        let after = s.info().cwnd_bytes;
        // CUBIC's seven tenths, in whole segments.
        assert!((before * 7 / 10 - MSS..=before * 7 / 10 + MSS).contains(&after), "{before} {after}");
        s.inject(ack().with(Flags::ECE).ack(1 + 8 * MSS));
        // One reduction for one window.
        assert!(s.info().cwnd_bytes >= after - MSS);
        let sent = s.take_sent();
        let said: Vec<bool> = sent.iter().map(|segment| segment.header.flags.contains(Flags::CWR)).collect();
        assert_eq!(said.iter().filter(|said| **said).count(), 1, "{said:?}");
        assert_eq!(said.first(), Some(&true));
        s.abort();
        s.ignore_sent();
    });
}

/// 6.1.2: a reduction for a loss is told of as one for a mark is, by the first new data and not by what is sent again.
#[test]
fn rfc3168_6_1_2_a_reduction_for_a_loss_is_told_of() {
    script(|s| {
        negotiated(s);
        s.send(vec![1; 5 * 1460]);
        assert_eq!(s.take_sent().len(), 5);
        s.wait(100);
        for _ in 0..3 {
            s.inject(ack().ack(1));
        }
        s.expect(bare(Flags::ACK).len(1460).seq(1).without(ecn_setup()).tos(0));
        s.wait(100);
        s.inject(ack().ack(1 + 5 * MSS));
        s.ignore_sent();
        s.send("new");
        s.expect_only(data("new").with(Flags::CWR).tos(ECT_0));
        s.inject(ack());
        s.send("newer");
        s.expect_only(data("newer").without(Flags::CWR));
        s.inject(ack());
    });
}

/// The same after a timeout.
#[test]
fn rfc3168_6_1_2_a_reduction_for_a_timeout_is_told_of() {
    script(|s| {
        negotiated(s);
        s.send("lost");
        s.expect_only(data("lost"));
        s.expect_after(100..=1500, data("lost").without(Flags::CWR));
        s.expect_after(100..=3000, data("lost").without(Flags::CWR));
        s.inject(ack());
        s.send("new");
        s.expect_only(data("new").with(Flags::CWR).tos(ECT_0));
        s.inject(ack());
    });
}

/// 6.1.2: ECE without agreement means nothing.
#[test]
fn rfc3168_6_1_2_ece_without_agreement_is_ignored() {
    script(|s| {
        s.establish_in(100);
        s.send(vec![1; 10 * 1460]);
        s.ignore_sent();
        let before = s.info();
        s.inject(ack().with(Flags::ECE).ack(1 + 2 * MSS));
        let after = s.info();
        assert!(after.cwnd_bytes >= before.cwnd_bytes);
        assert_eq!(after.ssthresh_bytes, before.ssthresh_bytes);
        s.inject(ack().ack(1 + 10 * MSS));
    });
}

/// 6.1.3: a CE mark without agreement means nothing.
#[test]
fn rfc3168_6_1_3_ce_without_agreement_is_ignored() {
    script(|s| {
        s.establish();
        s.inject(data("a").tos(CE));
        s.expect_after(0..=499, ack().without(Flags::ECE).ack(2).tos(0));
        s.expect_read("a");
    });
}

/// 6.1.1: an active side that wants ECN says ECE and CWR, and takes a SYN-ACK with ECE alone for agreement.
#[test]
fn rfc3168_6_1_1_active_side_asks() {
    script(|s| {
        s.options.ecn = ringwire::Ecn::Ask;
        s.connect();
        s.expect_only(syn().with(ecn_setup()));
        s.inject(s.peer_syn_ack().with(Flags::ECE));
        s.expect_only(ack().without(ecn_setup()).tos(0));
        s.expect_connected();
        s.send("x");
        s.expect_only(data("x").tos(ECT_0));
        s.inject(ack());
    });
}

/// 6.1.1: a SYN-ACK without ECE, or one that only repeats our flags, is no agreement.
#[test]
fn rfc3168_6_1_1_answer_that_is_no_agreement() {
    for flags in [Flags::NONE, ecn_setup()] {
        ringwire_conformance::run("rfc3168_6_1_1_answer_that_is_no_agreement", |s| {
            s.options.ecn = ringwire::Ecn::Ask;
            s.connect();
            s.expect_only(syn().with(ecn_setup()));
            s.inject(s.peer_syn_ack().with(flags));
            s.expect_only(ack());
            s.expect_connected();
            s.send("x");
            s.expect_only(data("x").tos(0));
            s.inject(ack());
        });
    }
}

/// 6.1.1.1: a SYN that is not answered is tried again without.
#[test]
fn rfc3168_6_1_1_1_repeated_syn_asks_no_more() {
    script(|s| {
        s.options.ecn = ringwire::Ecn::Ask;
        s.connect();
        s.expect_only(syn().with(ecn_setup()));
        s.expect_after(900..=1100, syn().without(ecn_setup()));
    });
}

/// 6.1.6: window probes are not marked ECT.
#[test]
fn rfc3168_6_1_6_window_probes_are_not_ect() {
    script(|s| {
        negotiated(s);
        s.inject(ack().win(0));
        s.send("x");
        s.expect_after(100..=1500, ack().tos(0).seq(0));
        s.inject(ack().win(100));
        s.expect_only(data("x").tos(ECT_0));
        s.inject(ack());
    });
}

/// Without asking for it nothing is said.
#[test]
fn rfc3168_6_1_1_off_means_off() {
    script(|s| {
        s.options.ecn = ringwire::Ecn::Off;
        s.listen();
        s.inject(s.peer_syn().with(ecn_setup()));
        s.expect_only(syn_ack().without(ecn_setup()));
        s.inject(ack());
        s.accept();
        s.send("x");
        s.expect_only(data("x").tos(0));
        s.inject(ack());
    });
}
