//! A mark for what waits for the window (Linux's TCP_NOTSENT_LOWAT).

use core::num::NonZeroU32;

use super::host::{Buf, Host};
use super::script::*;
use crate::tcp::{Config, SendError, Signals};

const MARK_BYTES: u32 = 4000;

/// With an initial window of ten segments of 1,000 bytes, and a buffer of 256 KiB.
fn marked() -> Host {
    established(&Config { unsent_low_water_bytes: NonZeroU32::new(MARK_BYTES), ..plain() })
}

fn has_room(host: &mut Host) -> bool {
    host.call(|tcb, cx| tcb.poll_send_room(cx))
}

#[test]
fn a_write_takes_what_leaves_at_once_and_the_mark() {
    let mut host = marked();
    assert_eq!(host.send(&[1; 50_000]), 14_000);
    assert_eq!(host.send(&[1; 1]), 0);
    assert_eq!(host.transmit().len(), 10);
    assert_eq!(host.send(&[1; 1]), 0, "as much waits as before");
}

#[test]
fn there_is_room_when_half_the_mark_is_left() {
    let mut host = marked();
    host.send(&[1; 50_000]);
    host.transmit();
    host.signals = Signals::NONE;
    // One more in flight for each acknowledged.
    for (acked, is_writable) in [(1000, false), (2000, true), (4000, false)] {
        host.signals = Signals::NONE;
        host.exchange(&peer(ACK, 0, acked));
        assert_eq!(host.signals.contains(Signals::WRITABLE), is_writable, "{acked}");
    }
    assert_eq!(host.send(&[1; 50_000]), 8000, "four segments leave at once");
}

#[test]
fn a_small_mark_lets_a_segment_in_at_a_time() {
    let mut host = established(&Config { unsent_low_water_bytes: NonZeroU32::new(1), ..plain() });
    host.send(&[1; 10_000]);
    host.transmit();
    assert_eq!(host.send(&[1; 5000]), 1000);
    assert_eq!(host.send(&[1; 5000]), 0);
}

#[test]
fn who_asks_for_room_is_told_when_there_is_some() {
    let mut host = marked();
    assert!(has_room(&mut host));
    assert_eq!(host.send(&[1; 12_000]), 12_000, "a whole write");
    assert!(!has_room(&mut host), "half the mark waits");
    host.transmit();
    host.signals = Signals::NONE;
    host.exchange(&peer(ACK, 0, 1000));
    assert!(host.signals.contains(Signals::WRITABLE));
    assert!(has_room(&mut host));
}

/// The windows say how much waits, and the peer's may open without an acknowledgement of anything, or with one.
#[test]
fn there_is_room_when_the_window_opens() {
    for acked in [0, 1000] {
        let config = Config { unsent_low_water_bytes: NonZeroU32::new(MARK_BYTES), ..plain() };
        let mut host = established_by(&config, &peer_syn_ack().window(5000));
        assert_eq!(host.send(&[1; 50_000]), 9000);
        assert_eq!(host.transmit().len(), 5);
        // Three thousand bytes wait, then nothing.
        host.exchange(&peer(ACK, 0, acked).window(6000 - acked as u16));
        assert!(!host.signals.contains(Signals::WRITABLE), "{acked}");
        host.exchange(&peer(ACK, 0, acked).window(20_000));
        assert!(host.signals.contains(Signals::WRITABLE), "{acked}");
        assert!(has_room(&mut host));
    }
    // In one segment, whose acknowledgement alone would not be enough.
    let config = Config { unsent_low_water_bytes: NonZeroU32::new(MARK_BYTES), ..plain() };
    let mut host = established_by(&config, &peer_syn_ack().window(5000));
    host.send(&[1; 50_000]);
    host.transmit();
    host.exchange(&peer(ACK, 0, 1000).window(20_000));
    assert!(host.signals.contains(Signals::WRITABLE));
    // Who does not wait is not told.
    let mut host = established_by(&config, &peer_syn_ack().window(5000));
    host.write(&[1; 6000]);
    host.exchange(&peer(ACK, 0, 1000).window(20_000));
    assert!(!host.signals.contains(Signals::WRITABLE));
}

#[test]
fn buffers_are_refused_above_the_mark() {
    let mut host = marked();
    host.send(&[1; 50_000]);
    let refused = host.call(|tcb, cx| tcb.send_buf(cx, Buf::filled(b"x")));
    assert!(matches!(refused, Err((_, SendError::WouldBlock))));
}

#[test]
fn without_a_mark_the_buffer_alone_counts() {
    let mut host = established(&plain());
    assert_eq!(host.send(&[1; 50_000]), 50_000);
    assert!(has_room(&mut host));
}
