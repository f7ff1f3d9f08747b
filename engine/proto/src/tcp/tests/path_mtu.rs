//! Black holes and the search behind them (RFC 4821, RFC 8899).

use core::time::Duration;
use std::vec::Vec;

use super::host::{Buf, Host, Wire};
use super::script::*;
use crate::SeqNum;
use crate::tcp::{Config, CongestionPhase};

const FULL: u32 = 1400;
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// A connection that sends long segments over a path that passes those of `passes` bytes, acknowledged as a receiver would.
struct Path {
    host: Host,
    passes: usize,
    /// What the peer holds, relative to the first byte.
    arrived: Vec<(u32, u32)>,
    acked: u32,
    longest: usize,
    swallowed: u32,
    /// The application hands its data over in buffers of so many bytes; none: it is copied.
    buf_bytes: Option<usize>,
    written: u32,
}

impl Path {
    fn new(config: &Config, passes: usize) -> Path {
        let mut host = Host::connect(config, ISS.0);
        host.transmit();
        host.now += ROUND_TRIP;
        host.exchange(&Wire::new(SYN | ACK, IRS, ISS + 1).mss(FULL as u16).sack_permitted());
        assert_eq!(u32::from(host.tcb.mss), FULL);
        Path {
            host,
            passes,
            arrived: Vec::new(),
            acked: 0,
            longest: 0,
            swallowed: 0,
            buf_bytes: None,
            written: 0,
        }
    }

    /// What leaves meets the path.
    fn carry(&mut self, sent: Vec<Wire>) {
        for wire in sent {
            let from = wire.seq().distance(ISS + 1);
            assert_eq!(wire.payload, stream(from, wire.payload.len()), "{wire:?}");
            if wire.payload.len() > self.passes {
                self.swallowed += 1;
                continue;
            }
            self.longest = self.longest.max(wire.payload.len());
            self.arrived.push((from, from + wire.payload.len() as u32));
        }
    }

    /// A round trip: what arrived is acknowledged, with SACK for what lies ahead.
    fn round(&mut self) {
        self.host.now += ROUND_TRIP;
        let _ = self.host.tick();
        let sent = self.host.transmit();
        self.carry(sent);
        let arrived = core::mem::take(&mut self.arrived);
        let mut ahead: Vec<(u32, u32)> = Vec::new();
        for (from, to) in arrived {
            if from <= self.acked {
                self.acked = self.acked.max(to);
                while let Some(next) = ahead.iter().position(|(from, _)| *from <= self.acked) {
                    self.acked = self.acked.max(ahead.remove(next).1);
                }
            } else {
                ahead.push((from, to));
            }
            let mut ack = peer(ACK, 0, self.acked);
            if let Some((from, to)) = ahead.last() {
                ack = ack.sack(at(*from), at(*to));
            }
            // One after the other: what left first is told apart by its time.
            self.host.now += Duration::from_micros(1);
            let sent = self.host.exchange(&ack);
            self.carry(sent);
        }
        self.arrived.extend(ahead);
    }

    /// Writes and waits until all has arrived.
    fn write(&mut self, len: usize) {
        let goal = self.acked + len as u32;
        let mut left = len;
        for _ in 0..5_000 {
            if left > 0 {
                left -= self.queue(left);
                let sent = self.host.transmit();
                self.carry(sent);
            }
            self.round();
            if self.acked == goal {
                // The last acknowledgement gets there too.
                self.host.exchange(&peer(ACK, 0, goal));
                return;
            }
        }
        panic!("{} of {goal} bytes have arrived", self.acked);
    }

    /// Queues the next `len` bytes of the stream, as many as there is room for; returns how many.
    fn queue(&mut self, len: usize) -> usize {
        let before = self.written;
        match self.buf_bytes {
            None => self.written += self.host.send(&stream(self.written, len)) as u32,
            Some(most) => {
                while self.written - before < len as u32 {
                    let piece = stream(self.written, most.min(len - (self.written - before) as usize));
                    if self.host.call(|tcb, cx| tcb.send_buf(cx, Buf::filled(&piece))).is_err() {
                        break;
                    }
                    self.written += piece.len() as u32;
                }
            }
        }
        self.host.check_queue();
        (self.written - before) as usize
    }

    fn mss(&self) -> usize {
        self.host.tcb.mss.into()
    }
}

/// What stands at `from` in the stream.
fn stream(from: u32, len: usize) -> Vec<u8> {
    (from..from + len as u32).map(|at| (at % 251) as u8).collect()
}

fn at(seq: u32) -> SeqNum {
    ISS + 1 + seq
}

fn config() -> Config {
    Config { mss: FULL as u16, sack: true, send_buffer_bytes: 64 << 10, ..plain() }
}

#[test]
fn a_black_hole_is_noticed_after_four_timeouts_and_passed() {
    let mut path = Path::new(&config(), 1200);
    let began = path.host.now;
    path.write(30_000);
    assert!(path.longest >= 1024, "{}", path.longest);
    assert!(path.host.now.nanos_since(began) < 10_000_000_000);
    // RFC 4821 7.4: one that is narrower still.
    let mut path = Path::new(&config(), 600);
    path.write(10_000);
    assert_eq!(path.longest, 512);
    // A segment that is below the first step anyway goes on to the next.
    let mut path = Path::new(&config(), 600);
    path.write(929);
    assert_eq!(path.longest, 512);
    // Nor is one of just that length cut by it.
    let mut path = Path::new(&config(), 600);
    path.write(1024);
    assert_eq!((path.longest, path.swallowed), (512, 5), "once, as a probe, and by three timeouts");
}

#[test]
fn short_segments_that_stay_away_say_nothing_about_the_path() {
    let mut path = Path::new(&Config { mtu_probing: false, ..config() }, 0);
    path.host.write(&[1; 5000]);
    for _ in 0..8 {
        path.host.run_timer();
    }
    assert_eq!(path.mss() as u32, FULL, "nor do long ones, if that is not wanted");
    let mut path = Path::new(&config(), 0);
    assert_eq!(path.host.write(&[1; 500]).len(), 1);
    for _ in 0..8 {
        path.host.run_timer();
    }
    assert_eq!(path.mss() as u32, FULL);
}

#[test]
fn behind_a_black_hole_the_largest_segment_that_passes_is_found() {
    let mut path = Path::new(&config(), 1300);
    path.write(200_000);
    for _ in 0..12 {
        path.host.now += Duration::from_secs(2);
        path.write(60_000);
    }
    assert!((1236..=1300).contains(&path.mss()), "{}", path.mss());
    // What is known of the path outlives silence, and the search comes to rest.
    assert_eq!(path.host.cold.in_use(), 1);
    let swallowed = path.swallowed;
    path.write(60_000);
    assert_eq!(path.swallowed, swallowed);
    // RFC 8899 5.1.1: much later it is tried again, and a path that has recovered is as before.
    path.passes = 9000;
    for _ in 0..12 {
        path.host.now += Duration::from_secs(601);
        path.write(60_000);
    }
    assert_eq!(path.mss() as u32, FULL);
    path.write(60_000);
    assert_eq!(path.host.cold.in_use(), 0, "nothing is left to be known");
}

#[test]
fn a_lost_probe_is_cut_up_and_costs_no_window() {
    for sack in [true, false] {
        let mut path = Path::new(&Config { sack, ..config() }, 1100);
        path.write(60_000);
        assert_eq!((path.mss(), path.longest <= 1100), (1024, true));
        // Out of slow start, so that a round changes little.
        path.host.tcb.window.cwnd = 12_000;
        path.host.tcb.window.ssthresh = 12_000;
        path.host.now += Duration::from_secs(2);
        let swallowed = path.swallowed;
        path.write(40_000);
        assert_eq!(path.swallowed, swallowed + 1, "one probe");
        let window = path.host.tcb.window;
        assert!(window.cwnd >= 12_000 && window.ssthresh == 12_000, "{window:?}");
        let phase = path.host.call(|tcb, cx| tcb.info(cx)).congestion;
        assert_eq!((path.mss(), phase), (1024, CongestionPhase::Open));
    }
}

#[test]
fn buffers_of_the_application_are_put_together_for_a_probe() {
    // Shorter than a segment, as long as one was before the black hole, and as long as many.
    for buf_bytes in [100, 1400, 16_000] {
        let mut path = Path::new(&config(), 1300);
        path.write(60_000);
        path.buf_bytes = Some(buf_bytes);
        for _ in 0..12 {
            path.host.now += Duration::from_secs(2);
            path.write(60_000);
        }
        assert!((1236..=1300).contains(&path.mss()), "{} with buffers of {buf_bytes}", path.mss());
    }
}

#[test]
fn what_waits_already_is_put_together_for_a_probe() {
    let mut path = Path::new(&config(), 1300);
    path.write(60_000);
    assert_eq!(path.mss(), 1024);
    // Nothing is due when it is written, and nothing is written when it is due.
    path.host.tcb.window.cwnd = 12_000;
    path.queue(60_000);
    let sent = path.host.transmit();
    path.carry(sent);
    path.host.now += Duration::from_secs(2);
    path.round();
    path.host.check_queue();
    path.round();
    assert_eq!(path.mss(), 1212);
}

#[test]
fn a_probe_waits_for_the_end_of_a_buffer_that_is_half_sent() {
    let mut path = Path::new(&config(), 1300);
    path.write(60_000);
    path.buf_bytes = Some(30_000);
    path.host.tcb.window.cwnd = 12_000;
    assert_eq!(path.queue(30_000), 30_000);
    let sent = path.host.transmit();
    path.carry(sent);
    path.host.now += Duration::from_secs(2);
    // A part of the first buffer is out, and its other parts cannot be taken out of it.
    assert_eq!(path.queue(30_000), 30_000);
    let mut began = Vec::new();
    while path.acked < 120_000 {
        path.host.now += ROUND_TRIP;
        let acked = path.acked;
        let sent = path.host.exchange(&peer(ACK, 0, path.arrived.last().map_or(acked, |last| last.1)));
        began.extend(sent.iter().filter(|wire| wire.payload.len() > 1024).map(|wire| wire.seq()));
        path.acked = path.arrived.drain(..).next_back().map_or(acked, |last| last.1);
        path.carry(sent);
        path.host.check_queue();
    }
    assert_eq!(began.first(), Some(&at(90_000)), "the second buffer");
}

#[test]
fn a_probe_that_the_window_cuts_says_nothing() {
    let mut path = Path::new(&config(), 1100);
    path.write(60_000);
    path.host.now += Duration::from_secs(2);
    path.host.tcb.window.cwnd = 12_000;
    path.queue(20_000);
    // The peer's window is half of what the probe needs.
    let una = path.acked;
    path.host.tcb.snd.max_wnd = 600;
    let sent = path.host.exchange(&peer(ACK, 0, una).window(600));
    assert_eq!(sent.iter().map(|wire| wire.payload.len()).collect::<Vec<_>>(), [600]);
    // And wider again before the next one could be due.
    let sent = path.host.exchange(&peer(ACK, 0, una + 600));
    path.acked = una + 600;
    path.carry(sent);
    path.host.exchange(&peer(ACK, 0, una + 1_800));
    assert_eq!(path.mss(), 1024, "two short segments got through");
}

#[test]
fn without_a_buffer_there_is_no_probe() {
    let mut path = Path::new(&config(), 1300);
    path.write(60_000);
    path.buf_bytes = Some(1024);
    path.host.now += Duration::from_secs(2);
    path.host.pool.left = 0;
    path.write(60_000);
    assert_eq!((path.mss(), path.longest <= 1024), (1024, true));
}

#[test]
fn icmp_bounds_the_search() {
    let mut path = Path::new(&config(), 1100);
    path.write(60_000);
    path.queue(1000);
    path.host.transmit();
    let error = crate::icmp::ErrorKind::FragmentationNeeded { mtu: 1100 + 40 };
    let seq = path.host.tcb.snd.una;
    let outcome = path.host.call(|tcb, cx| tcb.on_icmp_error(cx, error, seq));
    assert_eq!(outcome.drop, None);
    path.host.exchange(&peer(ACK, 0, 61_000));
    path.acked = 61_000;
    let swallowed = path.swallowed;
    for _ in 0..6 {
        path.host.now += Duration::from_secs(2);
        path.write(60_000);
    }
    assert_eq!((path.mss(), path.swallowed), (1100, swallowed));
}

/// A connection of which four timeouts have made the segments shorter, and whose path is whole again.
fn healed() -> Host {
    let mut host = Path::new(&config(), 1100).host;
    host.write(&std::vec![1; FULL as usize]);
    while u32::from(host.tcb.mss) == FULL {
        host.run_timer();
    }
    let sent = host.tcb.snd.nxt.distance(ISS + 1);
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, sent));
    host.now += Duration::from_secs(3);
    (host.tcb.window.cwnd, host.tcb.window.ssthresh) = (20_000, 20_000);
    host
}

#[test]
fn a_probe_that_icmp_cut_up_has_not_got_through() {
    let mut host = healed();
    let sent = host.write(&[1; 10_000]);
    assert_eq!(sent[0].payload.len(), 1212);
    let error = crate::icmp::ErrorKind::FragmentationNeeded { mtu: 988 };
    let outcome = host.call(|tcb, cx| tcb.on_icmp_error(cx, error, sent[0].seq()));
    assert_eq!((outcome.drop, host.tcb.mss), (None, 948));
    host.transmit();
    host.now += ROUND_TRIP;
    let out = host.tcb.snd.nxt.distance(ISS + 1);
    host.exchange(&peer(ACK, 0, out));
    assert_eq!(host.tcb.mss, 948);
}

/// The longest segment of each of the next two flights, two seconds apart, all that was sent before acknowledged.
fn next_longest(host: &mut Host) -> Vec<usize> {
    let mut flight = || {
        host.now += Duration::from_secs(2);
        let out = host.tcb.snd.nxt.distance(ISS + 1);
        host.exchange(&peer(ACK, 0, out));
        host.tcb.window.cwnd = 20_000;
        host.write(&[1; 10_000]).iter().map(|wire| wire.payload.len()).max()
    };
    [flight(), flight()].into_iter().flatten().collect()
}

#[test]
fn congestion_beside_a_lost_probe_counts() {
    // RFC 4821 7.6.2 forgives a probe that is lost alone.
    let mut host = healed();
    let acked = host.tcb.snd.una.distance(ISS + 1);
    let sent = host.write(&[1; 16_000]);
    let seq = |index: usize| sent[index].seq();
    let ahead = |to: usize| peer(ACK, 0, acked).sack(seq(1), seq(to));
    host.now += ROUND_TRIP;
    for to in 2..=4 {
        host.exchange(&ahead(to));
    }
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).congestion, CongestionPhase::Recovery);
    let before = host.tcb.window.ssthresh;
    for to in 7..=8 {
        host.exchange(&peer(ACK, 0, acked).sack(seq(6), seq(to)).sack(seq(1), seq(4)));
    }
    let halved = before * 4 / 10..=before * 7 / 10;
    assert!(halved.contains(&host.tcb.window.ssthresh), "two more were lost: {:?}", host.tcb.window);
    host.now += ROUND_TRIP;
    let out = host.tcb.snd.nxt.distance(ISS + 1);
    host.exchange(&peer(ACK, 0, out));
    assert!(host.tcb.window.cwnd <= before * 7 / 10, "{:?}", host.tcb.window);
}

#[test]
fn a_loss_beside_that_of_a_probe_is_congestion_at_once() {
    let mut host = healed();
    let acked = host.tcb.snd.una.distance(ISS + 1);
    let sent = host.write(&[1; 16_000]);
    host.now += ROUND_TRIP;
    // The probe and the segment behind it.
    host.exchange(&peer(ACK, 0, acked).sack(sent[2].seq(), sent[6].seq()));
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).congestion, CongestionPhase::Recovery);
    assert!(host.tcb.window.ssthresh <= 10_000, "{:?}", host.tcb.window);
}

#[test]
fn a_probe_has_enough_behind_it_to_tell_its_loss() {
    // 1212 and four segments of 1024: queued, and in both windows.
    let probed = |queued: usize, cwnd: u32, wnd: u32| {
        let mut host = healed();
        (host.tcb.window.cwnd, host.tcb.snd.wnd) = (cwnd, wnd);
        host.send(&std::vec![1; queued]);
        host.transmit()[0].payload.len() == 1212
    };
    assert!(probed(5308, 5308, 5308));
    assert!(!probed(5307, 5308, 5308) && !probed(5308, 5307, 5308) && !probed(5308, 5308, 5307));
}

#[test]
fn a_probe_has_got_through_when_its_last_byte_is_acknowledged() {
    for (acked, mss) in [(0, 1024), (1211, 1024), (1212, 1212)] {
        let mut host = healed();
        let probe = host.write(&[1; 10_000])[0].seq();
        // What was sent again before it has been acknowledged beside it.
        host.tcb.snd.una = probe + acked;
        host.call(|tcb, cx| tcb.settle_path_probe(cx.cold.get_mut(tcb.cold).expect("data is out")));
        assert_eq!(host.tcb.mss, mss, "{acked}");
    }
}

#[test]
fn the_search_ends_with_the_connection() {
    let mut host = healed();
    host.shutdown_write();
    let end = host.tcb.snd.nxt.distance(ISS + 1);
    host.exchange(&peer(FIN | ACK, 0, end));
    assert!(host.tcb.time_wait().is_some(), "nothing long is sent any more");
}

#[test]
fn what_is_as_long_as_a_lost_probe_is_not_tried_next() {
    let mut host = healed();
    let acked = host.tcb.snd.una.distance(ISS + 1);
    let sent = host.write(&[1; 16_000]);
    assert_eq!(sent[0].payload.len(), 1212);
    host.now += ROUND_TRIP;
    host.exchange(&peer(ACK, 0, acked).sack(sent[1].seq(), sent[5].seq()));
    // A second has to pass from the next look on; then what is in the middle between 1024 and 1211.
    assert_eq!(next_longest(&mut host), [1024, 1117]);
}

#[test]
fn a_probe_that_a_timeout_repairs_was_too_long() {
    let mut host = healed();
    assert_eq!(host.write(&[1; 10_000])[0].payload.len(), 1212);
    // Nothing comes back of the whole flight.
    while host.call(|tcb, cx| tcb.info(cx)).congestion != CongestionPhase::Loss {
        host.run_timer();
    }
    assert_eq!((next_longest(&mut host), host.tcb.mss), (std::vec![1024, 1117], 1024));
}
