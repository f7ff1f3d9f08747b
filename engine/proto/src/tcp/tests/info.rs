//! Every field of TCP_INFO, against connections whose numbers are known. A new field does not compile until it is here.

use core::time::Duration;

use super::host::{Buf, Bytes, Host, Wire};
use super::script::*;
use crate::icmp::ErrorKind;
use crate::tcp::{Algorithm, Config, CongestionPhase, Ecn, Held, Info, Pacing, Payload, SendBuf, State};

pub(super) const ROUND_TRIP: Duration = Duration::from_millis(80);
/// With a shift of 2.
const PEER_WINDOW: u32 = 0xffff << 2;

/// But for what time changes, which has tests of its own (`info_times`).
fn info(host: &mut Host) -> Info {
    let zero = Duration::ZERO;
    let all = host.call(|tcb, cx| tcb.info(cx));
    Info { heard: zero, last_sent: zero, last_received: zero, busy: zero, repairing: zero, ..all }
}

/// All options but timestamps, so that a segment holds 1000 bytes.
pub(super) fn config() -> Config {
    Config {
        sack: true,
        window_scale: Some(3),
        recv_buffer_bytes: 80_000,
        ecn: Ecn::Ask,
        rto_min: Duration::from_millis(200),
        ..plain()
    }
}

/// What every connection of `config` shows when its handshake of one round trip is over.
fn fresh() -> Info {
    Info {
        state: State::Established,
        congestion: CongestionPhase::Open,
        mss: 1000,
        advertised_mss: 1000,
        last_sent: Duration::ZERO,
        last_received: Duration::ZERO,
        heard: Duration::ZERO,
        srtt: ROUND_TRIP,
        min_rtt: Some(ROUND_TRIP),
        rcv_rtt: None,
        // Half of what 16 segments leave.
        rcv_space_bytes: 32_000,
        rttvar: ROUND_TRIP / 2,
        rto: ROUND_TRIP + Duration::from_millis(200),
        backoff: 0,
        cwnd_bytes: 10_000,
        ssthresh_bytes: u32::MAX,
        pacing_rate: None,
        delivery_rate: None,
        busy: Duration::ZERO,
        rwnd_limited: Duration::ZERO,
        sndbuf_limited: Duration::ZERO,
        // The SYN-ACK's is not scaled.
        snd_wnd_bytes: 0xffff,
        rcv_wnd_bytes: 80_000,
        unacked_bytes: 0,
        pipe_bytes: 0,
        sacked_bytes: 0,
        reordering_segs: 3,
        reorderings: 0,
        duplicate_segs: 0,
        unsent_bytes: 0,
        held_bytes: 0,
        urgent_bytes: 0,
        out_of_order_segs: 0,
        early_segs: 0,
        timeouts: 0,
        timeout_repairs: 0,
        repairing: Duration::ZERO,
        retransmits: 0,
        bytes_sent: 0,
        bytes_retransmitted: 0,
        bytes_acked: 0,
        bytes_received: 0,
        segs_in: 1,
        data_segs_in: 0,
        segs_out: 2,
        data_segs_out: 0,
        delivered_segs: 0,
        lost_segs: 0,
        tries: 0,
        soft_error: None,
        sacked_segs: 0,
        lost_bytes: 0,
        resent_bytes: 0,
        window_scales: Some((2, 3)),
        timestamps: false,
        sack: true,
        ecn: true,
        syn_text: false,
    }
}

pub(super) fn connected(config: &Config) -> Host {
    let mut host = Host::connect(config, ISS.0);
    host.transmit();
    host.now += ROUND_TRIP;
    let syn_ack = Wire::new(SYN | ACK | ECE, IRS, ISS + 1).mss(1000).scale(2).sack_permitted();
    assert_eq!(host.exchange(&syn_ack).len(), 1);
    host
}

/// Ten segments are out, and two more are written.
pub(super) fn sending() -> (Host, Info) {
    let mut host = connected(&config());
    assert_eq!(host.write(&[1; 11_500]).len(), 10);
    let now = Info {
        unacked_bytes: 10_000,
        pipe_bytes: 10_000,
        unsent_bytes: 1_500,
        bytes_sent: 10_000,
        segs_out: 12,
        data_segs_out: 10,
        ..fresh()
    };
    assert_eq!(info(&mut host), now);
    (host, now)
}

#[test]
fn the_handshake() {
    let mut host = Host::connect(&config(), ISS.0);
    let silent = Info {
        state: State::SynSent,
        srtt: Duration::ZERO,
        min_rtt: None,
        rttvar: Duration::ZERO,
        rto: Duration::from_secs(1),
        snd_wnd_bytes: 0,
        rcv_wnd_bytes: 0,
        segs_in: 0,
        segs_out: 0,
        window_scales: None,
        sack: false,
        ecn: false,
        ..fresh()
    };
    assert_eq!(info(&mut host), silent);
    host.transmit();
    assert_eq!(info(&mut host), Info { unacked_bytes: 1, pipe_bytes: 1, segs_out: 1, ..silent });
    host.run_timer();
    let counts = Info { timeouts: 1, timeout_repairs: 1, ..silent };
    let again = Info { backoff: 1, tries: 1, retransmits: 1, segs_out: 2, ..counts };
    assert_eq!(info(&mut host), Info { unacked_bytes: 1, pipe_bytes: 1, ..again });
    assert_eq!(info(&mut connected(&config())), fresh());
    // The same of one that asks for nothing, and of a passive opener.
    let mut host = established(&Config { timestamps: true, ..plain() });
    let modest = info(&mut host);
    assert_eq!(
        (modest.window_scales, modest.timestamps, modest.sack, modest.ecn),
        (None, false, false, false)
    );
    let mut host = Host::accept(&Config { timestamps: true, ..plain() }, ISS.0, &peer_syn().stamp(7, 0));
    host.transmit();
    host.exchange(&peer(ACK, 0, 0).stamp(8, 1));
    let stamped = info(&mut host);
    assert_eq!((stamped.state, stamped.timestamps, stamped.mss), (State::Established, true, 988));
    assert_eq!((stamped.segs_in, stamped.segs_out, stamped.bytes_acked), (1, 1, 0));
}

/// A round trip later two of them have arrived.
fn acknowledged() -> (Host, Info) {
    let (mut host, before) = sending();
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 2_000));
    let now = Info {
        // RFC 6298: the error is 0.
        rttvar: Duration::from_millis(30),
        // Slow start.
        cwnd_bytes: 12_000,
        snd_wnd_bytes: PEER_WINDOW,
        unacked_bytes: 9_500,
        pipe_bytes: 9_500,
        unsent_bytes: 0,
        bytes_sent: 11_500,
        bytes_acked: 2_000,
        segs_in: 2,
        segs_out: 14,
        data_segs_out: 12,
        delivered_segs: 2,
        ..before
    };
    assert_eq!(info(&mut host), now);
    (host, now)
}

#[test]
fn what_is_out_what_has_arrived_and_what_is_lost() {
    // Of those left, the first and the third are missing.
    let (mut host, now) = acknowledged();
    host.exchange(&peer(ACK, 0, 2_000).sack(ISS + 3_001, ISS + 4_001));
    let now = Info {
        congestion: CongestionPhase::Disorder,
        // Not yet certain: RACK waits.
        pipe_bytes: 8_500,
        sacked_bytes: 1_000,
        sacked_segs: 1,
        segs_in: 3,
        delivered_segs: 3,
        ..now
    };
    assert_eq!(info(&mut host), now);
    let block = peer(ACK, 0, 2_000).sack(ISS + 5_001, ISS + 7_001).sack(ISS + 3_001, ISS + 4_001);
    assert_eq!(host.exchange(&block).len(), 1, "one for one");
    let now = Info {
        congestion: CongestionPhase::Recovery,
        // Half of the window, and one more for what is sent again.
        cwnd_bytes: 6_000,
        ssthresh_bytes: 6_000,
        // One of the two that are lost has left again.
        pipe_bytes: 5_500,
        sacked_bytes: 3_000,
        sacked_segs: 3,
        lost_bytes: 2_000,
        resent_bytes: 1_000,
        retransmits: 1,
        bytes_sent: 12_500,
        bytes_retransmitted: 1_000,
        segs_in: 4,
        segs_out: 15,
        data_segs_out: 13,
        delivered_segs: 5,
        lost_segs: 2,
        ..now
    };
    assert_eq!(info(&mut host), now);
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 11_500));
    let end = info(&mut host);
    assert_eq!(host.cold.in_use(), 0, "what is counted outlives the queue");
    let now = Info {
        congestion: CongestionPhase::Open,
        srtt: end.srtt,
        rttvar: end.rttvar,
        rto: end.rto,
        cwnd_bytes: 6_000,
        unacked_bytes: 0,
        pipe_bytes: 0,
        sacked_bytes: 0,
        sacked_segs: 0,
        lost_bytes: 0,
        resent_bytes: 0,
        bytes_acked: 11_500,
        // All of it, for the window was full when the first had left; the repair took a second round trip.
        delivery_rate: Some(71_875),
        // The second had not been sent again: it was late.
        reorderings: 1,
        segs_in: 5,
        delivered_segs: 12,
        ..now
    };
    assert_eq!(end, now);
}

#[test]
fn a_timeout() {
    let (mut host, _) = sending();
    host.exchange(&peer(ACK, 0, 0).sack(ISS + 9_001, ISS + 10_001));
    host.config.mtu_probing = false;
    while info(&mut host).congestion != CongestionPhase::Loss {
        host.run_timer();
    }
    let now = Info {
        congestion: CongestionPhase::Loss,
        backoff: 1,
        tries: 1,
        cwnd_bytes: 1_000,
        ssthresh_bytes: 5_500,
        snd_wnd_bytes: PEER_WINDOW,
        // What was SACKed let one more go; RFC 2018 8: it binds nobody now, and yet it has arrived.
        unacked_bytes: 11_000,
        delivered_segs: 1,
        pipe_bytes: 1_000,
        unsent_bytes: 500,
        lost_bytes: 11_000,
        resent_bytes: 1_000,
        timeouts: 1,
        timeout_repairs: 1,
        // RACK had found nine lost and sent four of them again; they are lost once more with all the others.
        lost_segs: 15,
        retransmits: 5,
        bytes_retransmitted: 5_000,
        bytes_sent: 16_000,
        data_segs_out: 16,
        segs_in: 2,
        segs_out: 18,
        ..fresh()
    };
    assert_eq!(info(&mut host), now);
    // Said again, it is not counted again.
    host.exchange(&peer(ACK, 0, 0).sack(ISS + 9_001, ISS + 10_001));
    assert_eq!(info(&mut host).delivered_segs, 1);
    let all = now.unacked_bytes;
    host.exchange(&peer(ACK, 0, all));
    let end = info(&mut host);
    assert_eq!((end.delivered_segs, end.bytes_acked), (all.div_ceil(1_000), all.into()));
}

#[test]
fn a_probe_of_the_window() {
    let mut host = connected(&config());
    host.exchange(&peer(ACK, 0, 0).window(0));
    host.write(&[1; 300]);
    host.run_timer();
    let now = Info { backoff: 1, tries: 1, snd_wnd_bytes: 0, unsent_bytes: 300, ..fresh() };
    let rwnd_limited = ROUND_TRIP + Duration::from_millis(200);
    assert_eq!(info(&mut host), Info { segs_in: 2, segs_out: 3, rwnd_limited, ..now });
}

#[test]
fn what_is_received_read_and_held() {
    let mut host = connected(&config());
    let _ = host.deliver(&peer(ACK, 0, 0).text(&[1; 400]));
    let now = Info {
        snd_wnd_bytes: PEER_WINDOW,
        rcv_wnd_bytes: 79_600,
        held_bytes: 400,
        bytes_received: 400,
        segs_in: 2,
        data_segs_in: 1,
        rcv_rtt: Some(ROUND_TRIP),
        ..fresh()
    };
    assert_eq!(info(&mut host), now);
    // Ahead of a gap, with a pointer at what is to come.
    let mut urgent = peer(ACK | URG, 600, 0).text(&[1; 100]);
    urgent.header.urgent = 150;
    let _ = host.deliver(&urgent);
    let now =
        Info { out_of_order_segs: 1, early_segs: 1, urgent_bytes: 750, segs_in: 3, data_segs_in: 2, ..now };
    assert_eq!(info(&mut host), now);
    assert_eq!(host.transmit().len(), 1, "a duplicate acknowledgement");
    let _ = host.deliver(&peer(ACK, 400, 0).text(&[1; 200]));
    let now = Info {
        rcv_wnd_bytes: 79_300,
        held_bytes: 700,
        urgent_bytes: 750,
        out_of_order_segs: 0,
        bytes_received: 700,
        segs_in: 4,
        data_segs_in: 3,
        segs_out: 3,
        ..now
    };
    assert_eq!(info(&mut host), now);
    // Twice the same is received once.
    let _ = host.deliver(&peer(ACK, 400, 0).text(&[1; 200]));
    assert_eq!(host.read().len(), 700);
    let end = info(&mut host);
    assert_eq!((end.held_bytes, end.bytes_received, end.segs_in, end.data_segs_in), (0, 700, 5, 4));
    assert_eq!(host.totals.bytes_received(), 700);
    assert_eq!(end.urgent_bytes, 50, "they are to come");
}

#[test]
fn what_comes_without_its_text_has_come() {
    let mut host = connected(&config());
    host.write(&[1; 100]);
    let text = peer(ACK, 0, 0).text(&[1; 400]).seg();
    let _ = host.call(|tcb, cx| tcb.on_segment_without_text(cx, &text));
    assert_eq!((info(&mut host).segs_in, info(&mut host).bytes_received), (2, 0));
    assert_eq!(info(&mut host).data_segs_in, 1);
    let acks = peer(ACK, 0, 100).text(&[1; 400]).seg();
    let _ = host.call(|tcb, cx| tcb.on_segment_without_text(cx, &acks));
    assert_eq!((info(&mut host).segs_in, info(&mut host).bytes_acked), (3, 100));
    assert_eq!(info(&mut host).data_segs_in, 2);
}

#[test]
fn reordering_and_the_rate() {
    let (mut host, _) = sending();
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 0).sack(ISS + 1_001, ISS + 2_001));
    assert_eq!(info(&mut host).reorderings, 0);
    host.exchange(&peer(ACK, 0, 2_000));
    assert_eq!(info(&mut host).reorderings, 1, "the first came after the second");
    host.exchange(&peer(ACK, 0, 3_000));
    assert_eq!(info(&mut host).reorderings, 1, "each is told of once");
    host.exchange(&peer(ACK, 0, 11_500));
    assert_eq!(host.cold.in_use(), 0);
    assert_eq!(info(&mut host).reorderings, 1, "it is not forgotten in a pause");
    // Linux's twice the window in a round trip, while it is in slow start.
    let mut host = connected(&Config { pacing: Pacing::On, ..config() });
    host.write(&[1; 3_000]);
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 1_000));
    let now = info(&mut host);
    assert_eq!((now.cwnd_bytes, now.srtt, now.pacing_rate), (10_000, ROUND_TRIP, Some(250_000)));
    let mut host = connected(&Config { congestion: Algorithm::Bbr, ..config() });
    host.write(&[1; 3_000]);
    assert_eq!(info(&mut host).pacing_rate, Some(346_250), "2.77 windows in 80 ms");
}

#[test]
fn the_ends_are_no_payload() {
    let (mut host, _) = sending();
    host.exchange(&peer(ACK, 0, 10_000));
    host.close();
    let now = info(&mut host);
    assert_eq!((now.state, now.unacked_bytes, now.bytes_sent), (State::FinWait1, 1_501, 11_500));
    host.exchange(&peer(ACK, 0, 11_501));
    let now = info(&mut host);
    assert_eq!((now.state, now.bytes_acked, now.bytes_sent), (State::FinWait2, 11_500, 11_500));
    host.exchange(&peer(FIN | ACK, 0, 11_501));
    let now = info(&mut host);
    assert_eq!((now.state, now.bytes_received, now.bytes_acked), (State::TimeWait, 0, 11_500));
    // A lost FIN is sent again, and is no payload either.
    let mut host = connected(&config());
    host.shutdown_write();
    while info(&mut host).retransmits == 0 {
        host.run_timer();
    }
    let now = info(&mut host);
    assert_eq!((now.bytes_sent, now.bytes_retransmitted, now.retransmits), (0, 0, 1));
    // What was sent and will never be acknowledged was sent all the same.
    let (mut host, _) = sending();
    host.exchange(&peer(RST, 0, 0));
    let now = info(&mut host);
    assert_eq!((now.state, now.bytes_sent, now.bytes_acked), (State::Closed, 10_000, 0));
}

#[test]
fn bytes_are_counted_beyond_four_gibibytes() {
    const BEFORE: u64 = u32::MAX as u64 - 500;
    let mut host = connected(&config());
    (host.totals.seqs_acked, host.totals.bytes_received) = (BEFORE, BEFORE);
    host.totals.incidents_mut().bytes_retransmitted = BEFORE;
    (host.totals.segs_in, host.totals.segs_out, host.totals.data_segs_in) = (u32::MAX, u32::MAX, u32::MAX);
    host.write(&[1; 1_000]);
    let _ = host.deliver(&peer(ACK, 0, 1_000).text(&[1; 1_000]));
    let now = info(&mut host);
    assert_eq!((now.bytes_acked, now.bytes_received), (BEFORE + 1_000, BEFORE + 1_000));
    assert_eq!(now.bytes_sent, 2 * BEFORE + 1_000);
    assert_eq!((now.segs_in, now.segs_out, now.data_segs_in), (0, 0, 0), "Linux's wrap too");
}

#[test]
fn a_smaller_path_shows_in_the_segment() {
    let (mut host, _) = sending();
    let seq = host.tcb.snd.una;
    let _ = host.call(|tcb, cx| tcb.on_icmp_error(cx, ErrorKind::FragmentationNeeded { mtu: 640 }, seq));
    assert_eq!(info(&mut host).mss, 600);
}

#[test]
fn what_a_connection_holds_can_be_looked_for() {
    let mut host = connected(&config());
    let holds = |host: &mut Host, wanted: &[u8]| {
        let is_such = |held: Held<'_, Bytes, Buf>| match held {
            Held::ToSend(buf) => buf.bytes() == wanted,
            Held::Received(piece) => piece.bytes() == wanted,
        };
        host.call(|tcb, cx| tcb.holds(cx, is_such))
    };
    assert!(!holds(&mut host, b"sent"));
    host.write(b"sent");
    let _ = host.deliver(&peer(ACK, 0, 0).text(b"read"));
    let _ = host.deliver(&peer(ACK, 10, 0).text(b"ahead"));
    let found = [&b"sent"[..], b"read", b"ahead", b"other"].map(|wanted| holds(&mut host, wanted));
    assert_eq!(found, [true, true, true, false]);
}
