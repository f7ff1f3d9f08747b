//! TCP_INFO: times, rates, and what happens now and then.

use core::time::Duration;

use super::fast_open;
use super::host::{Host, Wire};
use super::info::{ROUND_TRIP, config, connected, sending};
use super::script::*;
use crate::tcp::{Config, CongestionPhase, Info, Pacing, State};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn info(host: &mut Host) -> Info {
    host.call(|tcb, cx| tcb.info(cx))
}

#[test]
fn the_time_since_the_peer_was_heard() {
    let heard = |host: &mut Host| info(host).heard;
    let (mut host, _) = sending();
    assert_eq!(heard(&mut host), Duration::ZERO);
    host.now += Duration::from_millis(700);
    assert_eq!(heard(&mut host), Duration::from_millis(700));
    host.exchange(&peer(ACK, 0, 0));
    assert_eq!(heard(&mut host), Duration::ZERO);
}

#[test]
fn the_time_since_text_was_sent_and_received() {
    let times = |host: &mut Host| (info(host).last_sent, info(host).last_received);
    let mut host = Host::connect(&config(), ISS.0);
    host.transmit();
    host.now += ms(500);
    assert_eq!(times(&mut host), (Duration::ZERO, Duration::ZERO), "it has not begun");
    // As on Linux both begin with the connection.
    let mut host = connected(&config());
    host.now += ms(1000);
    assert_eq!(times(&mut host), (ms(1000), ms(1000)));
    let _ = host.deliver(&peer(ACK, 0, 0).text(&[1; 10]));
    host.now += ms(20);
    host.write(&[1; 100]);
    host.now += ms(3);
    assert_eq!(times(&mut host), (ms(3), ms(23)));
    // Neither by what acknowledges, nor by what is out of order or came before.
    host.exchange(&peer(ACK, 10, 100));
    let _ = host.deliver(&peer(ACK, 20, 100).text(&[1; 10]));
    let _ = host.deliver(&peer(ACK, 0, 100).text(&[1; 10]));
    host.transmit();
    assert_eq!(times(&mut host), (ms(3), ms(23)));
    let _ = host.deliver(&peer(ACK, 10, 100).text(&[1; 10]));
    assert_eq!(times(&mut host), (ms(3), ms(0)));
    // What is sent again is sent.
    host.write(&[1; 100]);
    let before = host.now;
    while info(&mut host).retransmits == 0 {
        host.run_timer();
    }
    assert!(host.now > before);
    assert_eq!(info(&mut host).last_sent, Duration::ZERO);
}

#[test]
fn with_fast_open_times_begin_before_the_handshake_is_over() {
    let times = |host: &mut Host| {
        let info = info(host);
        (info.last_sent, info.last_received, info.busy)
    };
    let mut host = fast_open::server(b"GET");
    host.now += ms(30);
    assert_eq!(times(&mut host), (ms(30), ms(30), ms(0)));
    host.write(b"answer");
    host.now += ms(5);
    host.exchange(&peer(ACK, 3, 6));
    host.now += ms(1);
    assert_eq!(times(&mut host), (ms(6), ms(36), ms(5)));
    let mut host = fast_open::client(&plain());
    host.write(b"GET");
    host.now += ms(30);
    assert_eq!(times(&mut host), (ms(30), ms(0), ms(30)), "nothing can have come");
    host.exchange(&Wire::new(SYN | ACK, IRS, ISS + 4).mss(1000));
    host.now += ms(1);
    assert_eq!(times(&mut host), (ms(1), ms(1), ms(30)), "as on Linux the handshake's end counts");
}

#[test]
fn a_connection_is_busy_while_something_waits() {
    let busy = |host: &mut Host| info(host).busy;
    let mut host = connected(&config());
    host.now += ms(300);
    assert_eq!(busy(&mut host), Duration::ZERO, "the handshake is none of it");
    host.write(&[1; 1000]);
    host.now += ms(50);
    assert_eq!(busy(&mut host), ms(50));
    host.write(&[1; 1000]);
    host.now += ms(30);
    host.exchange(&peer(ACK, 0, 1000));
    host.now += ms(50);
    assert_eq!(busy(&mut host), ms(130));
    host.exchange(&peer(ACK, 0, 2000));
    host.now += ms(7_000);
    assert_eq!(busy(&mut host), ms(130));
    host.write(&[1; 1000]);
    host.now += ms(1);
    assert_eq!(busy(&mut host), ms(131));
    host.exchange(&peer(ACK, 0, 3000));
    // The FIN waits too.
    host.now += ms(100);
    host.shutdown_write();
    host.now += ms(5);
    assert_eq!(busy(&mut host), ms(136));
    host.exchange(&peer(ACK, 0, 3001));
    host.now += ms(100);
    assert_eq!((busy(&mut host), host.state()), (ms(136), State::FinWait2));
    // What was written before the handshake was over waits from then on; whoever resets ends that.
    let mut host = Host::connect(&config(), ISS.0);
    host.transmit();
    host.now += ms(10);
    host.send(&[1; 1000]);
    host.now += ms(70);
    host.exchange(&peer_syn_ack());
    assert_eq!(busy(&mut host), ms(70));
    host.now += ms(20);
    host.exchange(&peer(RST, 0, 0));
    host.now += ms(1000);
    assert_eq!((busy(&mut host), host.state()), (ms(90), State::Closed));
}

#[test]
fn a_write_for_which_there_is_no_memory_makes_nobody_busy() {
    let mut host = connected(&config());
    host.pool.left = 0;
    assert!(host.call(|tcb, cx| tcb.send(cx, &[1; 100])).is_err());
    host.now += ms(10);
    assert_eq!(info(&mut host).busy, Duration::ZERO);
    host.pool.left = 10;
    host.write(&[1; 100]);
    host.now += ms(1);
    assert_eq!(info(&mut host).busy, ms(1));
}

/// The idea of Linux's tcp-info-rwnd-limited.pkt.
#[test]
fn a_closed_window_limits_until_it_opens() {
    let limited = |host: &mut Host| (info(host).rwnd_limited, info(host).busy);
    let mut host = connected(&config());
    host.exchange(&peer(ACK, 0, 0).window(0));
    host.now += ms(50);
    assert_eq!(limited(&mut host), (ms(0), ms(0)), "nothing is to be sent");
    assert_eq!(host.write(&[1; 1000]).len(), 0);
    host.now += ms(100);
    assert_eq!(limited(&mut host), (ms(100), ms(100)));
    host.now += ms(100);
    assert_eq!(host.exchange(&peer(ACK, 0, 0).window(500)).len(), 1);
    assert_eq!(limited(&mut host), (ms(200), ms(200)));
    // Small again.
    host.now += ms(30);
    host.exchange(&peer(ACK, 0, 1000).window(10));
    assert_eq!(host.write(&[1; 1000]).len(), 0);
    host.now += ms(100);
    assert_eq!(host.exchange(&peer(ACK, 0, 1000).window(500)).len(), 1);
    assert_eq!(limited(&mut host), (ms(300), ms(330)));
    host.now += ms(20);
    host.exchange(&peer(ACK, 0, 2000).window(500));
    host.now += ms(20);
    assert_eq!(limited(&mut host), (ms(300), ms(350)));
    assert_eq!(info(&mut host).sndbuf_limited, Duration::ZERO);
}

#[test]
fn a_window_that_is_always_full_limits_throughout_and_a_full_congestion_window_does_not() {
    let mut host = connected(&config());
    // Four segments.
    host.exchange(&peer(ACK, 0, 0).window(1000));
    assert_eq!(host.write(&[1; 12_000]).len(), 4);
    for round in 1..=2 {
        host.now += ROUND_TRIP;
        assert_eq!(host.exchange(&peer(ACK, 0, 4_000 * round).window(1000)).len(), 4);
    }
    assert_eq!(info(&mut host).rwnd_limited, 2 * ROUND_TRIP, "the last four took all");
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 12_000).window(1000));
    assert_eq!((info(&mut host).rwnd_limited, info(&mut host).busy), (2 * ROUND_TRIP, 3 * ROUND_TRIP));
    // The window opens beyond what congestion control allows.
    host.tcb.window.cwnd = 6_000;
    assert_eq!(host.write(&[1; 20_000]).len(), 4);
    host.now += ms(10);
    assert_eq!(host.exchange(&peer(ACK, 0, 12_000).window(10_000)).len(), 2);
    host.now += ms(10);
    assert_eq!(info(&mut host).rwnd_limited, 2 * ROUND_TRIP + ms(10));
    // Held back for company.
    let mut host = connected(&config());
    host.exchange(&peer(ACK, 0, 0).window(0));
    host.tcb.cork();
    host.write(&[1; 100]);
    host.now += ms(10);
    assert_eq!(host.exchange(&peer(ACK, 0, 0).window(1000)).len(), 0);
    host.now += ms(10);
    assert_eq!(info(&mut host).rwnd_limited, ms(10));
    // The end of the connection is the end of that.
    let mut host = connected(&config());
    host.exchange(&peer(ACK, 0, 0).window(0));
    host.write(&[1; 100]);
    host.now += ms(10);
    host.exchange(&peer(RST, 0, 0));
    host.now += ms(10);
    assert_eq!((info(&mut host).rwnd_limited, host.state()), (ms(10), State::Closed));
}

/// The idea of Linux's tcp-info-sndbuf-limited.pkt.
#[test]
fn a_send_buffer_that_is_too_small_limits_until_it_has_room() {
    let limited = |host: &mut Host| (info(host).sndbuf_limited, info(host).busy, info(host).rwnd_limited);
    let small = Config { send_buffer_bytes: 10_000, ..config() };
    let mut host = connected(&small);
    assert_eq!(host.send(&[1; 50_000]), 10_000);
    assert_eq!(host.transmit().len(), 10);
    host.now += ms(10);
    assert_eq!(limited(&mut host), (ms(0), ms(10), ms(0)), "the congestion window is full too");
    host.exchange(&peer(ACK, 0, 10_000));
    assert_eq!(host.send(&[1; 50_000]), 10_000);
    assert_eq!(host.transmit().len(), 10);
    host.now += ms(20);
    assert_eq!(limited(&mut host), (ms(20), ms(30), ms(0)));
    // Little room: WRITABLE waits for more.
    host.exchange(&peer(ACK, 0, 12_000));
    host.now += ms(5);
    assert_eq!(limited(&mut host), (ms(25), ms(35), ms(0)));
    host.exchange(&peer(ACK, 0, 16_000));
    host.now += ms(20);
    assert_eq!(limited(&mut host), (ms(25), ms(55), ms(0)), "what is not written now is not wanted");
    // Nor is what would come behind the end.
    let mut host = connected(&small);
    host.tcb.window.cwnd = 20_000;
    assert_eq!(host.send(&[1; 50_000]), 10_000);
    host.shutdown_write();
    host.now += ms(20);
    assert_eq!(limited(&mut host), (ms(0), ms(20), ms(0)));
    // One that is large enough is no limit, however much is in flight.
    let mut host = connected(&config());
    host.write(&[1; 9_000]);
    host.now += ms(20);
    assert_eq!(limited(&mut host), (ms(0), ms(20), ms(0)));
}

#[test]
fn asking_for_room_to_write_does_not_open_the_peers_window() {
    let mut host = connected(&config());
    host.exchange(&peer(ACK, 0, 0).window(0));
    assert_eq!(host.write(&[1; 1000]).len(), 0);
    host.now += ms(100);
    assert!(host.call(|tcb, cx| tcb.poll_send_room(cx)));
    host.now += ms(100);
    assert_eq!(info(&mut host).rwnd_limited, ms(200));
    // Of a buffer that is too small it is the end.
    let mut host = connected(&Config { send_buffer_bytes: 3_000, ..config() });
    assert_eq!(host.send(&[1; 50_000]), 3_000);
    assert_eq!(host.transmit().len(), 3);
    host.now += ms(20);
    assert!(!host.call(|tcb, cx| tcb.poll_send_room(cx)));
    host.config.send_buffer_bytes = 50_000;
    assert!(host.call(|tcb, cx| tcb.poll_send_room(cx)));
    host.now += ms(20);
    assert_eq!(info(&mut host).sndbuf_limited, ms(20));
}

#[test]
fn the_rate_of_delivery_is_that_of_a_round_trip_for_which_more_was_waiting() {
    let rate = |host: &mut Host| info(host).delivery_rate;
    let mut host = connected(&config());
    // What the application writes at its leisure says nothing.
    for sent in 1..=5 {
        host.write(&[1; 1000]);
        host.now += ROUND_TRIP;
        host.exchange(&peer(ACK, 0, 1000 * sent));
    }
    assert_eq!(rate(&mut host), None);
    let mut host = connected(&Config { pacing: Pacing::Off, ..config() });
    assert_eq!(host.send(&[1; 75_000]), 75_000);
    // It begins when the window is full.
    assert_eq!(host.transmit().len(), 10);
    host.now += ROUND_TRIP;
    assert_eq!(host.exchange(&peer(ACK, 0, 10_000)).len(), 20);
    assert_eq!(rate(&mut host), Some(125_000), "10,000 in 80 ms");
    // Then a tenth of a second for 20,000, a part of it out of order.
    host.now += ms(50);
    host.exchange(&peer(ACK, 0, 10_000).sack(ISS + 1 + 12_000, ISS + 1 + 18_000));
    assert_eq!(rate(&mut host), Some(125_000), "it is under way");
    host.now += ms(50);
    host.exchange(&peer(ACK, 0, 30_000));
    let now = info(&mut host);
    assert_eq!(now.delivery_rate, Some(200_000));
    // The rest has room, and what is left when everything has left says nothing.
    host.tcb.window.cwnd = 100_000;
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 30_000 + now.unacked_bytes));
    let kept = rate(&mut host);
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 75_000));
    host.now += ms(5_000);
    assert_eq!((rate(&mut host), host.cold.in_use()), (kept, 0));
}

/// What had been SACKED before a timeout is delivered again, as far as the queue can tell.
#[test]
fn the_rate_is_not_measured_while_a_timeout_is_repaired() {
    let mut host = connected(&Config { pacing: Pacing::Off, ..config() });
    host.config.mtu_probing = false;
    host.send(&[1; 60_000]);
    host.transmit();
    host.exchange(&peer(ACK, 0, 0).sack(ISS + 4_001, ISS + 10_001));
    while info(&mut host).timeouts == 0 {
        host.run_timer();
    }
    for acked in [1_000, 2_000, 10_000] {
        host.now += ROUND_TRIP;
        host.exchange(&peer(ACK, 0, acked));
        let now = info(&mut host);
        assert!(now.unsent_bytes > 0 && now.congestion == CongestionPhase::Loss);
    }
    host.now += ROUND_TRIP;
    let all = info(&mut host).unacked_bytes;
    host.exchange(&peer(ACK, 0, 10_000 + all));
    assert_eq!(info(&mut host).delivery_rate, None);
    let next = info(&mut host).unacked_bytes;
    host.now += ms(50);
    host.exchange(&peer(ACK, 0, 10_000 + all + next));
    assert_eq!(info(&mut host).delivery_rate, Some(u64::from(next) * 1000 / 50));
    // The clock does not see every round trip.
    let mut host = connected(&Config { pacing: Pacing::Off, ..config() });
    host.send(&[1; 60_000]);
    for acked in [10_000, 20_000, 30_000] {
        host.transmit();
        host.exchange(&peer(ACK, 0, acked));
    }
    assert_eq!(info(&mut host).delivery_rate, None);
}

#[test]
fn a_window_that_is_full_has_a_rate_and_one_that_is_closed_is_no_slow_path() {
    let mut host = connected(&config());
    host.send(&[1; 20_000]);
    host.transmit();
    host.now += ROUND_TRIP;
    // Everything has arrived, and the peer takes no more for a while.
    host.exchange(&peer(ACK, 0, 10_000).window(0));
    assert_eq!(info(&mut host).delivery_rate, Some(125_000));
    host.now += ms(150);
    host.exchange(&peer(ACK, 0, 10_000).window(1000));
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 14_000).window(1000));
    assert_eq!(info(&mut host).delivery_rate, Some(50_000), "4,000 in 80 ms");
}

#[test]
fn what_waits_for_its_pace_is_measured_and_what_waits_for_company_is_not() {
    let mut host = connected(&Config { pacing: Pacing::On, ..config() });
    host.send(&[1; 20_000]);
    let sent = host.transmit().len() as u32;
    assert!((1..10).contains(&sent), "{sent}");
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 1000 * sent));
    assert_eq!(info(&mut host).delivery_rate, Some(u64::from(1000 * sent) * 1000 / 80));
    let mut host = connected(&config());
    host.tcb.cork();
    host.write(&[1; 1_100]);
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 1000));
    assert_eq!((info(&mut host).unsent_bytes, info(&mut host).delivery_rate), (100, None));
}

#[test]
fn the_smallest_round_trip_outlives_larger_ones_and_pauses() {
    let min_rtt = |host: &mut Host| info(host).min_rtt;
    let mut host = connected(&config());
    for (round_trip_ms, least_ms) in [(90, 80), (60, 60), (70, 60)] {
        let acked = info(&mut host).bytes_acked as u32;
        host.write(&[1; 1000]);
        host.now += ms(round_trip_ms);
        host.exchange(&peer(ACK, 0, acked + 1000));
        assert_eq!((host.cold.in_use(), min_rtt(&mut host)), (0, Some(ms(least_ms))));
    }
}

#[test]
fn timeouts_and_how_long_their_repair_takes() {
    let counts = |host: &mut Host| {
        let info = info(host);
        (info.timeouts, info.timeout_repairs, info.repairing)
    };
    let (mut host, _) = sending();
    host.config.mtu_probing = false;
    while info(&mut host).congestion != CongestionPhase::Loss {
        host.run_timer();
    }
    let began = host.now;
    assert_eq!(counts(&mut host), (1, 1, Duration::ZERO));
    host.run_timer();
    let took = host.now.saturating_since(began);
    assert_eq!(counts(&mut host), (2, 1, took), "again, for the same");
    // A part of it arrives.
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, 1_000));
    assert_eq!(counts(&mut host), (2, 1, took + ROUND_TRIP));
    host.now += ROUND_TRIP;
    let all = info(&mut host).unacked_bytes;
    host.exchange(&peer(ACK, 0, 1_000 + all));
    let took = took + 2 * ROUND_TRIP;
    host.now += ms(300);
    assert_eq!(counts(&mut host), (2, 1, took));
    // A FIN's, with nothing else out.
    let rest = info(&mut host).unacked_bytes;
    host.exchange(&peer(ACK, 0, 1_000 + all + rest));
    host.shutdown_write();
    while counts(&mut host).0 == 2 {
        host.run_timer();
    }
    host.now += ms(10);
    host.exchange(&peer(ACK, 0, 11_501));
    host.now += ms(10);
    assert_eq!((counts(&mut host), host.state()), ((3, 2, took + ms(10)), State::FinWait2));
    // A SYN's.
    let mut host = Host::connect(&config(), ISS.0);
    host.transmit();
    host.run_timer();
    host.now += ms(40);
    host.exchange(&peer_syn_ack());
    host.now += ms(40);
    assert_eq!(counts(&mut host), (1, 1, ms(40)));
    // The end of the connection ends it.
    let (mut host, _) = sending();
    while counts(&mut host).0 == 0 {
        host.run_timer();
    }
    host.now += ms(40);
    host.exchange(&peer(RST, 0, 0));
    host.now += ms(40);
    assert_eq!(counts(&mut host), (1, 1, ms(40)));
}

#[test]
fn what_the_peer_reports_as_come_twice_is_counted_in_segments() {
    let duplicates = |host: &mut Host| info(host).duplicate_segs;
    let (mut host, _) = sending();
    host.exchange(&peer(ACK, 0, 4_000).sack(ISS + 1, ISS + 1_001));
    assert_eq!(duplicates(&mut host), 1);
    host.exchange(&peer(ACK, 0, 4_000).sack(ISS + 1, ISS + 2_502));
    assert_eq!(duplicates(&mut host), 4, "three more, the last one not whole");
    host.exchange(&peer(ACK, 0, 4_000).sack(ISS + 6_001, ISS + 7_001));
    assert_eq!(duplicates(&mut host), 4, "that has come once");
    // More than the peer can ever have had room for.
    host.exchange(&peer(ACK, 0, 4_000).sack(ISS + 4_001 - 300_000, ISS + 4_001));
    assert_eq!(duplicates(&mut host), 4);
    // Who agreed on nothing reports nothing.
    let mut host = established(&plain());
    host.write(&[1; 2_000]);
    host.exchange(&peer(ACK, 0, 2_000).sack(ISS + 1, ISS + 1_001));
    assert_eq!(duplicates(&mut host), 0);
}

#[test]
fn what_comes_ahead_of_a_gap_is_counted_kept_or_not() {
    let mut host = connected(&config());
    for (seq, early_segs) in [(100, 1), (300, 2), (300, 3), (0, 3), (400, 4)] {
        let _ = host.deliver(&peer(ACK, seq, 0).text(&[1; 100]));
        assert_eq!(info(&mut host).early_segs, early_segs, "at {seq}");
    }
}

/// Linux's rcv_space: the buffer is twice that, and 16 segments.
#[test]
fn what_may_come_in_a_round_trip_grows_with_the_buffer() {
    let config = Config { recv_buffer_max_bytes: 1_000_000, ..config() };
    let mut host = connected(&config);
    assert_eq!((info(&mut host).rcv_space_bytes, info(&mut host).rcv_rtt), (32_000, None));
    let mut at = 0;
    for _ in 0..3 {
        for _ in 0..70 {
            let _ = host.deliver(&peer(ACK, at, 0).text(&[1; 1000]));
            at += 1000;
            host.read();
            host.transmit();
        }
        host.now += ROUND_TRIP;
    }
    assert_eq!((info(&mut host).rcv_space_bytes, info(&mut host).rcv_rtt), (70_000, Some(ROUND_TRIP)));
}
