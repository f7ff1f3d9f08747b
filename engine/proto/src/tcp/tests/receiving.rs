//! Acknowledgement policy and receive window (RFC 9293 3.8.6.2.2, 3.8.6.3; RFC 5681 4.2).

use core::time::Duration;
use std::vec::Vec;

use ringwire_wire::tcp::Flags;

use super::host::{Host, Wire};
use super::script::*;
use crate::DropReason;
use crate::tcp::{Config, Payload, Pressure, Recv, Signals, State, TransmitKind};

#[test]
fn every_second_full_segment_is_acknowledged_at_once() {
    let mut host = established(&plain());
    for round in 0..10 {
        expect_none(host.exchange(&peer(ACK, round * 2000, 0).text(&[1; 1000])));
        expect_ack(host.exchange(&peer(ACK, round * 2000 + 1000, 0).text(&[1; 1000])), 0, (round + 1) * 2000);
        host.read();
    }
    assert_eq!(host.tcb.next_timer(), None);
}

#[test]
fn a_lone_segment_is_acknowledged_after_40_ms() {
    let mut host = established(&plain());
    expect_none(host.exchange(&peer(ACK, 0, 0).text(b"lone")));
    let start = host.now;
    // The delay counts from the first segment.
    host.now += Duration::from_millis(30);
    expect_none(host.exchange(&peer(ACK, 4, 0).text(b"more")));
    expect_ack(host.run_timer(), 0, 8);
    assert_eq!(host.now.saturating_since(start), Duration::from_millis(40));
}

#[test]
fn an_acknowledgement_rides_on_data() {
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).text(b"request"));
    expect(&one(host.write(b"response")), ACK | PSH, 0, 7, 8);
    host.exchange(&peer(ACK, 7, 8));
    assert_eq!(host.tcb.next_timer(), None, "nothing is left to acknowledge");
    // Two full segments ask for an ACK at once; data takes it along all the same.
    let _ = host.deliver(&peer(ACK, 7, 8).text(&[1; 1000]));
    let _ = host.deliver(&peer(ACK, 1007, 8).text(&[1; 1000]));
    host.read();
    expect(&one(host.write(b"response")), ACK | PSH, 8, 2007, 8);
}

#[test]
fn quick_ack_answers_what_waits_and_the_next_segments_at_once() {
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).text(b"a"));
    host.tcb.quick_ack();
    expect_ack(host.transmit(), 0, 1);
    for n in 1..=16 {
        expect_ack(host.exchange(&peer(ACK, n, 0).text(b"a")), 0, n + 1);
    }
    expect_none(host.exchange(&peer(ACK, 17, 0).text(b"a")));
}

#[test]
fn every_segment_out_of_order_gets_a_bare_duplicate_with_the_same_window() {
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 0, 0).text(&[1; 1000]));
    let window = one(host.exchange(&peer(ACK, 1000, 0).text(&[1; 1000]))).header.window;
    // Three in one batch, while the application reads and has data to send.
    for n in 3..6 {
        let _ = host.deliver(&peer(ACK, n * 1000, 0).text(&[1; 1000]));
    }
    assert_eq!(host.read().len(), 2000);
    host.send(b"data");
    let sent = host.transmit();
    assert_eq!(sent.len(), 4);
    for duplicate in &sent[..3] {
        expect(duplicate, ACK, 0, 2000, 0);
        assert_eq!(duplicate.header.window, window, "or the peer would not count it");
        assert_eq!(duplicate.kind, TransmitKind::Ack);
    }
    expect(&sent[3], ACK | PSH, 0, 2000, 4);
}

#[test]
fn filling_a_gap_is_acknowledged_at_once() {
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 20, 0).text(b"c"));
    host.exchange(&peer(ACK, 10, 0).text(b"0123456789"));
    expect_ack(host.exchange(&peer(ACK, 0, 0).text(b"abcdefghij")), 0, 21);
    assert_eq!(host.read(), b"abcdefghij0123456789c");
    assert!(!host.tcb.flags.has(crate::tcp::tcb::Bits::HOLES));
    // In part only
    host.exchange(&peer(ACK, 25, 0).text(b"f"));
    expect_ack(host.exchange(&peer(ACK, 21, 0).text(b"d")), 0, 22);
}

#[test]
fn out_of_order_data_is_bounded_and_prefers_what_comes_first() {
    let mut host = established(&Config { reassembly_segs: 3, ..plain() });
    for seq in [50, 30, 40] {
        assert_eq!(host.deliver(&peer(ACK, seq, 0).text(b"x")).drop, None);
    }
    assert_eq!(host.deliver(&peer(ACK, 60, 0).text(b"x")).drop, Some(DropReason::TcpReassemblyFull));
    assert_eq!(host.deliver(&peer(ACK, 40, 0).text(b"y")).drop, Some(DropReason::TcpDuplicate));
    // Nearer data displaces the farthest.
    assert_eq!(host.deliver(&peer(ACK, 20, 0).text(b"x")).drop, None);
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!(info.out_of_order_segs, 3);
    host.transmit();
    host.exchange(&peer(ACK, 0, 0).text(&[7; 50]));
    assert_eq!(host.read(), [&[7; 20][..], b"x"].concat());
    // A piece is not cut in two: what lies behind the first gap is left to be sent again.
    host.exchange(&peer(ACK, 21, 0).text(&[7; 29]));
    assert_eq!(host.read(), [&[7; 9][..], b"x"].concat());
}

#[test]
fn the_window_counts_what_the_application_holds_until_it_gives_it_back() {
    let mut host = established(&Config { recv_buffer_bytes: 4000, ..plain() });
    host.exchange(&peer(ACK, 0, 0).text(&[1; 1000]));
    let ack = one(host.exchange(&peer(ACK, 1000, 0).text(&[1; 1000])));
    assert_eq!(ack.header.window, 2000);
    let Ok(Recv::Data(first)) = host.call(|tcb, cx| tcb.recv(cx)) else { panic!("readable") };
    let Ok(Recv::Data(second)) = host.call(|tcb, cx| tcb.recv(cx)) else { panic!("readable") };
    expect_none(host.transmit());
    assert_eq!((host.tcb.rcv_wnd(), host.cold.in_use()), (2000, 0), "lent, not given back");
    host.tcb.release(first.len() as u32);
    host.tcb.release(second.len() as u32);
    assert_eq!(one(host.transmit()).header.window, 4000);
}

#[test]
fn what_is_given_back_and_cannot_move_the_window_asks_for_no_turn() {
    let mut host = established(&Config { recv_buffer_bytes: 4000, ..plain() });
    host.exchange(&peer(ACK, 0, 0).text(&[1; 1000]));
    host.exchange(&peer(ACK, 1000, 0).text(&[1; 1000]));
    while let Ok(Recv::Data(_)) = host.call(|tcb, cx| tcb.recv(cx)) {}
    host.tcb.release_within(999, 4000);
    assert!(!host.tcb.wants_transmit());
    host.tcb.release_within(1, 4000);
    assert_eq!(one(host.transmit()).header.window, 3000);
    assert_eq!((host.tcb.rcv_wnd(), host.tcb.rcv.held_bytes), (3000, 1000));
}

#[test]
fn a_closed_window_reopens_by_a_segment_or_half_the_buffer() {
    // RFC 9293 3.8.6.2.2: SWS avoidance
    for (buffer, step) in [(4000, 1000), (1200, 600)] {
        let mut host = established(&Config { recv_buffer_bytes: buffer, ..plain() });
        let mut seq = 0;
        while host.tcb.rcv_wnd() > 0 {
            let len = host.tcb.rcv_wnd().min(1000);
            host.exchange(&peer(ACK, seq, 0).text(&std::vec![1; len as usize]));
            seq += len;
        }
        if host.tcb.next_timer().is_some() {
            host.run_timer();
        }
        while let Ok(Recv::Data(_)) = host.call(|tcb, cx| tcb.recv(cx)) {}
        host.tcb.release(step - 1);
        expect_none(host.transmit());
        host.tcb.release(1);
        let update = one(host.transmit());
        assert_eq!(u32::from(update.header.window), step);
    }
}

#[test]
fn a_comfortable_window_is_not_updated_for_every_read() {
    let mut host = established(&Config { recv_buffer_bytes: 60_000, ..plain() });
    for n in 0..8 {
        expect_none(host.exchange(&peer(ACK, n * 2000, 0).text(&[1; 1000])));
        host.read();
        assert!(host.transmit().is_empty(), "the ACK of the next segment tells");
        host.exchange(&peer(ACK, n * 2000 + 1000, 0).text(&[1; 1000]));
        host.read();
        assert!(host.transmit().is_empty());
    }
}

#[test]
fn a_window_below_two_segments_is_updated_for_each_segment_read() {
    for (pieces, recv_buffer_bytes, updates) in
        [(6, 10_000, 0), (8, 10_000, 0), (8, 9_500, 1), (9, 10_000, 1)]
    {
        let mut host = established(&Config { recv_buffer_bytes, ..plain() });
        for n in 0..pieces {
            host.exchange(&peer(ACK, n * 1000, 0).text(&[1; 1000]));
        }
        if pieces % 2 == 1 {
            host.run_timer();
        }
        assert!(matches!(host.call(|tcb, cx| tcb.recv(cx)), Ok(Recv::Data(_))));
        host.call(|tcb, _| tcb.release(1000));
        assert_eq!(host.transmit().len(), updates, "{pieces} pieces");
    }
}

#[test]
fn without_scaling_the_update_is_measured_by_the_largest_window_there_is() {
    let mut host = established(&Config { recv_buffer_bytes: 1 << 20, ..plain() });
    for n in 0..40 {
        host.exchange(&peer(ACK, n * 1000, 0).text(&[1; 1000]));
    }
    assert_eq!(host.tcb.rcv_wnd(), 0xffff, "each ACK opened it again");
    host.config.recv_buffer_bytes = 70_000;
    for n in 40..80 {
        host.exchange(&peer(ACK, n * 1000, 0).text(&[1; 1000]));
    }
    let before = host.tcb.rcv_wnd();
    assert!(before < 40_000);
    host.read();
    assert_eq!(one(host.transmit()).header.window, 0xffff);
}

#[test]
fn nearly_full_is_when_no_segment_fits_or_memory_is_short() {
    let mut host = established(&Config { recv_buffer_bytes: 8_000, ..plain() });
    let is_nearly_full = |host: &Host| host.tcb.is_nearly_full(&host.cold, &host.config, &host.tune);
    for n in 0..8 {
        assert!(!is_nearly_full(&host), "{n}");
        host.exchange(&peer(ACK, n * 1000, 0).text(&[1; 1000]));
    }
    assert!(is_nearly_full(&host));
    host.config.recv_buffer_bytes = 16_000;
    assert!(!is_nearly_full(&host), "room again, though the peer has not heard of it");
    host.tune.pressure = Pressure::Growth;
    assert!(is_nearly_full(&host));
}

#[test]
fn pieces_are_bounded_beside_bytes() {
    let mut host = established(&Config { recv_buffer_segs: 4, ..plain() });
    let is_nearly_full = |host: &Host| host.tcb.is_nearly_full(&host.cold, &host.config, &host.tune);
    for n in 0..4 {
        assert!(!is_nearly_full(&host));
        assert_eq!(host.deliver(&peer(ACK, n, 0).text(b"x")).drop, None);
    }
    assert!(is_nearly_full(&host));
    let refused = host.deliver(&peer(ACK, 4, 0).text(b"y"));
    assert_eq!(refused.drop, Some(DropReason::TcpReceiveFull));
    assert!(
        refused.signals.contains(Signals::READABLE),
        "whatever it waits for, it reads or nothing goes on"
    );
    expect_ack(host.transmit(), 0, 4);
    // The FIN behind refused text is refused with it.
    assert_eq!(host.deliver(&peer(ACK | FIN, 4, 0).text(b"y")).drop, Some(DropReason::TcpReceiveFull));
    assert_eq!(host.state(), State::Established);
    assert_eq!(host.read(), b"xxxx");
    assert_eq!(host.deliver(&peer(ACK | FIN, 4, 0).text(b"y")).drop, None);
    assert_eq!((host.read(), host.state()), (b"y".to_vec(), State::CloseWait));
}

#[test]
fn a_changed_option_is_no_reason_for_a_segment_but_to_a_peer_that_waits() {
    let mut host = established(&Config { recv_buffer_bytes: 8000, ..plain() });
    host.config.recv_buffer_bytes = 60_000;
    host.call(|tcb, cx| tcb.on_config_change(cx));
    assert!(host.transmit().is_empty());
    let mut host = established(&Config { recv_buffer_bytes: 2000, ..plain() });
    host.exchange(&peer(ACK, 0, 0).text(&[1; 2000]));
    host.config.recv_buffer_bytes = 60_000;
    host.call(|tcb, cx| tcb.on_config_change(cx));
    expect_ack(host.transmit(), 0, 2000);
    assert_eq!(host.tcb.rcv_wnd(), 58_000);
}

#[test]
fn a_smaller_buffer_never_takes_back_what_was_announced() {
    let mut host = established(&Config { recv_buffer_bytes: 8000, ..plain() });
    assert_eq!(host.tcb.rcv_wnd(), 8000);
    host.config.recv_buffer_bytes = 2000;
    host.call(|tcb, cx| tcb.on_config_change(cx));
    let mut got = 0;
    // `transmit` checks that the announced edge stays.
    for n in 0..8 {
        assert_eq!(host.deliver(&peer(ACK, n * 1000, 0).text(&[1; 1000])).drop, None);
        host.transmit();
        got += host.read().len();
    }
    assert_eq!(got, 8000);
    assert!(host.tcb.rcv_wnd() <= 2000);
}

#[test]
fn text_after_the_fin_is_ignored() {
    let mut host = in_state(State::CloseWait, &plain());
    host.exchange(&peer(ACK, 1, 0).text(b"ghost"));
    assert!(host.at_eof());
    assert_eq!(host.tcb.rcv.nxt, IRS + 2);
}

#[test]
fn the_first_byte_stored_wins() {
    let mut host = established(&plain());
    host.exchange(&peer(ACK, 3, 0).text(b"DEF"));
    host.exchange(&peer(ACK, 0, 0).text(b"abcdef"));
    assert_eq!(host.read(), b"abcDEF");
    host.exchange(&peer(ACK, 9, 0).text(b"J"));
    host.exchange(&peer(ACK, 8, 0).text(b"ijk"));
    host.exchange(&peer(ACK, 6, 0).text(b"gh"));
    assert_eq!(host.read(), b"ghiJ");
}

/// Rounds of 10 ms in which the peer fills the window; returns the limit after each.
fn rounds(host: &mut Host, count: u32, reads: bool) -> Vec<u32> {
    let mut seq = host.tcb.rcv.nxt.distance(IRS + 1);
    let mut limits = Vec::new();
    for _ in 0..count {
        for _ in 0..host.tcb.rcv_wnd() / 1000 {
            let _ = host.deliver(&peer(ACK, seq, 0).text(&[1; 1000]));
            seq += 1000;
            if reads {
                host.read();
            }
            host.transmit();
        }
        host.now += Duration::from_millis(10);
        limits.push(host.tune.limit_bytes(&host.config));
    }
    limits
}

#[test]
fn the_buffer_doubles_each_round_trip_while_the_peer_fills_it_and_the_application_reads() {
    let config = Config {
        window_scale: Some(7),
        recv_buffer_bytes: 50_000,
        recv_buffer_max_bytes: 300_000,
        ..plain()
    };
    let mut host = Host::connect(&config, ISS.0);
    host.transmit();
    host.now += Duration::from_millis(10);
    host.exchange(&peer_syn_ack().scale(7));
    let limits = rounds(&mut host, 8, true);
    assert!(limits.windows(2).all(|pair| pair[0] <= pair[1]), "{limits:?}");
    assert!(limits[2] > 90_000 && limits[7] == 300_000, "{limits:?}");
    // Memory is short: what had grown counts no more, and comes back when there is room.
    host.tune.pressure = Pressure::Growth;
    assert_eq!(host.tune.limit_bytes(&host.config), 50_000);
    host.tune.pressure = Pressure::None;
    assert_eq!(host.tune.limit_bytes(&host.config), 300_000);
}

/// While a hole is filled, which takes more than a round trip, the peer's window is full of what lies behind it.
#[test]
fn the_buffer_grows_for_a_peer_whose_segments_are_lost() {
    let config = Config { window_scale: Some(7), recv_buffer_max_bytes: 1 << 20, ..plain() };
    let mut host = Host::connect(&config, ISS.0);
    host.transmit();
    host.now += Duration::from_millis(10);
    host.exchange(&peer_syn_ack().scale(7));
    let mut seq = 0;
    for _ in 0..8 {
        let end = seq + host.tcb.rcv_wnd() / 1000 * 1000;
        // The first and the middle one are lost; each goes again, one after the other.
        let middle = (seq + end) / 2000 * 1000;
        for at in (seq + 1000..end).step_by(1000).filter(|at| *at != middle) {
            let _ = host.deliver(&peer(ACK, at, 0).text(&[1; 1000]));
            host.transmit();
        }
        for hole in [seq, middle] {
            host.now += Duration::from_millis(40);
            let _ = host.deliver(&peer(ACK, hole, 0).text(&[1; 1000]));
            host.read();
            host.transmit();
        }
        seq = end;
    }
    let grown = host.tune.limit_bytes(&host.config);
    assert!(grown > 2 * config.recv_buffer_bytes, "{grown}");
}

#[test]
fn the_buffer_of_who_does_not_read_does_not_grow() {
    let config = Config { window_scale: Some(7), recv_buffer_max_bytes: 1 << 20, ..plain() };
    let mut host = Host::connect(&config, ISS.0);
    host.transmit();
    host.now += Duration::from_millis(10);
    host.exchange(&peer_syn_ack().scale(7));
    assert_eq!(rounds(&mut host, 8, false), [config.recv_buffer_bytes; 8]);
}

/// The steps of memory pressure: few pieces ahead of a gap, then one, and no more than a modest share in order.
#[test]
fn under_pressure_little_is_kept_ahead_of_a_gap_and_in_order() {
    let mut host = established(&Config { recv_buffer_segs: 1024, ..plain() });
    let early = |n: u32| peer(ACK, 10 + 20 * n, 0).text(&[1; 10]);
    for n in 0..40 {
        host.exchange(&early(n));
    }
    host.tune.pressure = Pressure::Early;
    let shed = |host: &mut Host| host.call(|tcb, cx| tcb.shed_early(cx));
    assert_eq!((shed(&mut host), shed(&mut host)), (24, 0));
    host.refuse(&early(39), DropReason::TcpReassemblyFull);
    host.tune.pressure = Pressure::Stalled;
    assert_eq!(shed(&mut host), 15);
    // The one next to the gap counts, and so does what fills it.
    host.exchange(&peer(ACK, 0, 0).text(&[2; 10]));
    assert_eq!(host.read().len(), 20);
    for n in 0..48 {
        host.exchange(&peer(ACK, 20 + 10 * n, 0).text(&[3; 10]));
    }
    host.refuse(&peer(ACK, 500, 0).text(&[3; 10]), DropReason::TcpReceiveFull);
    assert_eq!(host.read().len(), 480);
    host.exchange(&peer(ACK, 500, 0).text(&[3; 10]));
    assert_eq!(host.read().len(), 10);
}

#[test]
fn under_pressure_a_connection_queues_no_more_than_a_modest_share() {
    let mut host = established(&plain());
    host.tune.pressure = Pressure::Stalled;
    assert_eq!(host.send(&[1; 100_000]), 64 << 10);
    host.tune.pressure = Pressure::None;
    assert_eq!(host.send(&[1; 100_000]), 100_000);
}

/// What there is no memory for still acknowledges: else two full sides would wait for each other.
#[test]
fn text_that_cannot_be_kept_still_acknowledges() {
    let mut host = established(&plain());
    host.write(&[1; 3000]);
    let refuse = |host: &mut Host, wire: &Wire| {
        let outcome = host.call(|tcb, cx| tcb.on_segment_without_text(cx, &wire.seg()));
        assert_eq!(outcome.drop, Some(DropReason::NoMemory));
        host.transmit()
    };
    let mut last = peer(ACK, 0, 2000).text(&[2; 100]);
    last.header.flags |= Flags::FIN;
    for _ in 0..5 {
        // No duplicates, however often: nothing is sent again, and nothing acknowledged.
        assert_eq!(refuse(&mut host, &last), []);
        let unacked_bytes = host.call(|tcb, cx| tcb.info(cx)).unacked_bytes;
        assert_eq!((unacked_bytes, host.state()), (1000, State::Established));
    }
    host.exchange(&last);
    assert_eq!((host.read().len(), host.state()), (100, State::CloseWait));
}

#[test]
fn the_window_closes_though_it_is_never_taken_back() {
    const LIMIT: u32 = 64_000;
    // Lengths that a unit of 128 does not divide; each is acknowledged on its own.
    for len in [513, 777, 1000] {
        let config = Config {
            window_scale: Some(7),
            recv_buffer_bytes: LIMIT,
            recv_buffer_segs: LIMIT / 512,
            quick_acks: u8::MAX,
            ..plain()
        };
        let mut host = established_by(&config, &peer_syn_ack().scale(0));
        let (mut sent, mut window) = (0, LIMIT - LIMIT % 128);
        while len <= window {
            let answer = one(host.exchange(&peer(ACK, sent, 0).text(&std::vec![1; len as usize])));
            sent += len;
            window = u32::from(answer.header.window) << 7;
            assert_eq!(answer.ack(), IRS + 1 + sent, "all that fits the window is taken");
        }
        assert!(sent <= LIMIT / 3 * 4, "{sent} with segments of {len}");
        assert_eq!(host.read().len() as u32, sent);
    }
}

#[test]
fn a_larger_buffer_is_announced_to_a_peer_that_waits_for_window() {
    // Less than two segments are left, or two.
    for (unread, is_told) in [(1500, true), (1001, true), (1000, false)] {
        let mut host = established(&Config { recv_buffer_bytes: 3000, ..plain() });
        host.exchange(&peer(ACK, 0, 0).text(&std::vec![1; unread / 2]));
        host.exchange(&peer(ACK, unread as u32 / 2, 0).text(&std::vec![1; unread - unread / 2]));
        host.config.recv_buffer_bytes = 50_000;
        host.call(|tcb, cx| tcb.on_config_change(cx));
        let told = host.transmit();
        assert_eq!(told.len(), usize::from(is_told), "{unread}: {told:?}");
        assert!(told.iter().all(|wire| wire.header.window > 40_000), "{told:?}");
    }
}

/// Nothing was asked before, so that what is sent first is no answer.
#[test]
fn who_speaks_first_still_acknowledges_the_first_segments_at_once() {
    let mut host = established(&Config { quick_acks: 4, ..plain() });
    host.write(b"ask");
    expect_ack(host.exchange(&peer(ACK, 0, 3).text(b"answer")), 3, 6);
}

#[test]
fn a_peer_that_begins_again_after_a_silence_is_acknowledged_at_once() {
    let mut host = established(&Config { quick_acks: 4, ..plain() });
    host.exchange(&peer(ACK, 0, 0).text(b"ask"));
    // The answer ends it.
    host.write(b"answer");
    assert_eq!(host.exchange(&peer(ACK, 3, 6).text(b"ask")), []);
    assert_eq!(host.run_timer().len(), 1);
    // The acknowledgement was delayed by 40 ms of the silence.
    let rest = host.tcb.rto() - Duration::from_millis(40);
    host.now += rest;
    assert_eq!(host.exchange(&peer(ACK, 6, 6).text(b"ask")), [], "an RTO is not longer than an RTO");
    assert_eq!(host.run_timer().len(), 1);
    host.now += rest + Duration::from_millis(1);
    expect_ack(host.exchange(&peer(ACK, 9, 6).text(b"ask")), 6, 12);
}

/// What was ahead of a hole comes at once when that is filled, and says little about a round trip.
#[test]
fn of_what_a_hole_held_back_a_round_trips_share_makes_the_buffer_grow() {
    let config = Config {
        window_scale: Some(7),
        recv_buffer_bytes: 20_000,
        recv_buffer_max_bytes: 1 << 20,
        ..plain()
    };
    let grown = |took: Duration| {
        let mut host = Host::connect(&config, ISS.0);
        host.transmit();
        host.now += Duration::from_millis(10);
        host.exchange(&peer_syn_ack().scale(7));
        // The first look only begins to count.
        host.exchange(&peer(ACK, 0, 0).text(&[1; 1000]));
        host.read();
        for seq in 2..9 {
            host.exchange(&peer(ACK, seq * 1000, 0).text(&[1; 1000]));
        }
        host.now += took;
        host.exchange(&peer(ACK, 1000, 0).text(&[1; 1000]));
        host.tune.limit_bytes(&host.config)
    };
    // Twice eight segments, and room for sixteen more.
    assert_eq!(grown(Duration::from_millis(28)), 32_000);
    // Of twice the time that is looked at, two round trips and 8 ms, a half.
    assert_eq!(grown(Duration::from_millis(56)), 24_000);
    assert_eq!(grown(Duration::from_secs(1)), 20_000);
}
