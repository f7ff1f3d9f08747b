//! SYN cookies by themselves: what one says, and how long.

use super::host::{Host, Wire};
use super::script::{ACK, ECE, IRS, SYN, plain};
use crate::prf::Prf;
use crate::tcp::tcb::Bits;
use crate::tcp::{Config, SegmentIn, State, Tcb, cookie};
use crate::{Flow, Instant, SeqNum};
use core::net::Ipv4Addr;
use core::time::Duration;
use ringwire_wire::tcp::Flags;
use std::vec::Vec;

const START: Instant = Instant::from_secs(6400);

fn flow(port: u16) -> Flow {
    Flow::v4(Ipv4Addr::new(192, 0, 2, 1), 80, Ipv4Addr::new(192, 0, 2, 2), port)
}

fn syn() -> SegmentIn {
    Wire::new(SYN, IRS, SeqNum(0)).mss(1400).seg()
}

fn opened(
    config: &Config,
    syn: &SegmentIn,
    after: Duration,
    change: impl FnOnce(&mut SegmentIn),
) -> Option<Tcb> {
    let prf = Prf::new([3; 16]);
    let (header, options) = cookie::answer(&prf, &flow(4000), config, syn, START).unwrap();
    let mut ack = Wire::new(ACK, IRS + 1, SeqNum(header.seq) + 1);
    if let Some(timestamps) = options.timestamps {
        ack = ack.stamp(8, timestamps.value);
    }
    let mut ack = ack.seg();
    change(&mut ack);
    cookie::open(&prf, &flow(4000), config, &ack, START + after)
}

#[test]
fn it_lives_for_one_to_two_periods() {
    assert_eq!(cookie::LIFE, Duration::from_secs(128));
    let stamped = Config { timestamps: true, ..plain() };
    for (config, syn) in [(plain(), syn()), (stamped, Wire::new(SYN, IRS, SeqNum(0)).stamp(7, 0).seg())] {
        for (after_s, is_good) in [(0, true), (63, true), (127, true), (128, false), (1000, false)] {
            let tcb = opened(&config, &syn, Duration::from_secs(after_s), |_| {});
            assert_eq!(tcb.map(|tcb| tcb.state()), is_good.then_some(State::SynReceived), "{after_s} s");
        }
    }
}

#[test]
fn every_number_of_the_acknowledgement_matters() {
    let try_with = |change: fn(&mut SegmentIn)| opened(&plain(), &syn(), Duration::ZERO, change).is_some();
    assert!(try_with(|_| {}));
    assert!(!try_with(|ack| ack.header.seq ^= 1));
    assert!(!try_with(|ack| ack.header.ack ^= 0x100));
    assert!(!try_with(|ack| ack.header.ack ^= 0x8000_0000));
    let other = Prf::new([4; 16]);
    let (header, _) = cookie::answer(&Prf::new([3; 16]), &flow(4000), &plain(), &syn(), START).unwrap();
    let ack = Wire::new(ACK, IRS + 1, SeqNum(header.seq) + 1).seg();
    assert!(cookie::open(&other, &flow(4000), &plain(), &ack, START).is_none());
    assert!(cookie::open(&Prf::new([3; 16]), &flow(4001), &plain(), &ack, START).is_none());
}

/// What comes late for a connection that has ended acknowledges more than its SYN-ACK, and opens none: neither of this class of MSS nor of
/// another.
#[test]
fn numbers_near_a_right_one_are_wrong() {
    for mss in [None, Some(48), Some(536), Some(1460), Some(9000)] {
        let syn = Wire::new(SYN, IRS, SeqNum(0));
        let syn = mss.map_or(syn, |mss| Wire::new(SYN, IRS, SeqNum(0)).mss(mss)).seg();
        for distance in (-40_i32..40).filter(|distance| *distance != 0) {
            let change = |ack: &mut SegmentIn| ack.header.ack = ack.header.ack.wrapping_add_signed(distance);
            assert!(opened(&plain(), &syn, Duration::ZERO, change).is_none(), "{mss:?} {distance}");
        }
    }
}

/// An echo from the future or from long ago says nothing that could be believed.
#[test]
fn a_timestamp_of_another_time_is_refused() {
    let config = Config { timestamps: true, ..plain() };
    let syn = Wire::new(SYN, IRS, SeqNum(0)).stamp(7, 0).seg();
    // What the clock says with the offer in it is 49 ms behind; two periods are believed.
    for (moved_ms, is_good) in [(0_i32, true), (10_000, false), (-127_951, true), (-127_952, false)] {
        let tcb = opened(&config, &syn, Duration::ZERO, |ack| {
            if let Some(timestamps) = &mut ack.options.timestamps {
                timestamps.echo = timestamps.echo.wrapping_add_signed(moved_ms);
            }
        });
        assert_eq!(tcb.is_some(), is_good, "{moved_ms} ms");
    }
}

/// The connection that a cookie makes has sent its SYN-ACK, and nothing waits for a timer.
#[test]
fn it_makes_a_connection_that_only_waits_for_the_acknowledgement() {
    let tcb = opened(&plain(), &syn(), Duration::ZERO, |_| {}).unwrap();
    assert_eq!((tcb.next_timer(), tcb.wants_transmit()), (None, false));
    assert_eq!(tcb.snd.nxt, tcb.snd.una + 1);
    assert_eq!((tcb.rcv.nxt, tcb.mss), (IRS + 1, plain().mss));
}

/// Nobody remembers when its SYN-ACK left.
#[test]
fn its_handshake_measures_no_round_trip() {
    let mut acked = None;
    let tcb = opened(&plain(), &syn(), Duration::ZERO, |ack| acked = Some(*ack)).unwrap();
    let mut host = Host::new(tcb, plain());
    let outcome = host.call(|tcb, cx| tcb.on_segment(cx, &acked.unwrap(), None));
    assert_eq!((outcome.drop, host.state()), (None, State::Established));
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!((info.srtt, info.rto), (Duration::ZERO, plain().rto_initial));
}

/// What the SYN offered comes back with the echo of a clock that is not ahead of its time.
#[test]
fn the_timestamp_carries_scale_sack_and_ecn() {
    let config = Config { timestamps: true, sack: true, window_scale: Some(5), ..plain() };
    let prf = Prf::new([3; 16]);
    let (flow, offset) = (flow(4000), prf.timestamp_offset(&flow(4000)));
    for (case, scale) in [None, Some(0), Some(7), Some(14)].into_iter().cycle().take(64).enumerate() {
        let (wants_sack, wants_ecn) = (case & 4 != 0, case & 8 != 0);
        let mut syn =
            Wire::new(if wants_ecn { SYN | ECE | Flags::CWR } else { SYN }, IRS, SeqNum(0)).stamp(7, 0);
        syn.options.window_scale = scale;
        syn.options.sack_permitted = wants_sack;
        let now = START.add_nanos(case as u64 * 1_000_000);
        let (header, options) = cookie::answer(&prf, &flow, &config, &syn.seg(), now).unwrap();
        let value = options.timestamps.unwrap().value;
        let behind_ms = (now.as_millis() as u32).wrapping_sub(value.wrapping_sub(offset));
        assert!(behind_ms < 64, "{case}: {behind_ms} ms");
        let ack = Wire::new(ACK, IRS + 1, SeqNum(header.seq) + 1).stamp(8, value).seg();
        let tcb = cookie::open(&prf, &flow, &config, &ack, now).unwrap();
        assert_eq!((tcb.shifts.snd(), tcb.shifts.rcv()), scale.map_or((0, 0), |scale| (scale, 5)));
        let agreed = [Bits::SCALED, Bits::SACK, Bits::ECN, Bits::TIMESTAMPS].map(|bit| tcb.flags.has(bit));
        assert_eq!(agreed, [scale.is_some(), wants_sack, wants_ecn, true], "{case}");
    }
}

/// Only a timestamp brings the offer back.
#[test]
fn without_timestamps_on_both_sides_nothing_is_agreed_on() {
    let config = |timestamps| Config { timestamps, sack: true, window_scale: Some(5), ..plain() };
    let offer = Wire::new(SYN | ECE | Flags::CWR, IRS, SeqNum(0)).mss(1400).sack_permitted().scale(7);
    for (config, syn) in [(config(true), offer.clone()), (config(false), offer.stamp(7, 0))] {
        let (header, options) =
            cookie::answer(&Prf::new([3; 16]), &flow(4000), &config, &syn.seg(), START).unwrap();
        assert_eq!(header.flags, SYN | ACK);
        let agreed = (options.sack_permitted, options.window_scale, options.timestamps);
        assert_eq!(agreed, (false, None, None));
    }
}

/// What its low bits say may be what the clock has there by itself.
#[test]
fn the_timestamp_is_less_than_its_low_bits_behind_the_clock() {
    let config = Config { timestamps: true, ..plain() };
    let (prf, syn) = (Prf::new([3; 16]), Wire::new(SYN, IRS, SeqNum(0)).stamp(7, 0).seg());
    let behind_ms = |ms: u64| {
        let now = START.add_nanos(ms * 1_000_000);
        let (_, options) = cookie::answer(&prf, &flow(4000), &config, &syn, now).unwrap();
        let value = options.timestamps.unwrap().value.wrapping_sub(prf.timestamp_offset(&flow(4000)));
        (now.as_millis() as u32).wrapping_sub(value)
    };
    let mut all: Vec<u32> = (0..64).map(behind_ms).collect();
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(0..64));
}
