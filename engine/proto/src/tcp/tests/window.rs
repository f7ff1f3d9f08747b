//! When the peer hears of bytes that arrived and of room that came back (RFC 9293 3.8.6.2.2, 3.8.6.3).

use super::host::Host;
use super::script::*;
use crate::DropReason;
use crate::tcp::Config;

#[test]
fn more_than_a_segment_is_acknowledged_at_once() {
    for (second, is_told) in [(500, false), (501, true)] {
        let mut host = established(&plain());
        expect_none(host.exchange(&peer(ACK, 0, 0).text(&[1; 500])));
        let sent = host.exchange(&peer(ACK, 500, 0).text(&std::vec![1; second]));
        assert_eq!(sent.len(), usize::from(is_told), "{second}");
    }
}

/// Half of the buffer is unread; so much of it is given back.
fn told_after(host: &mut Host, buffer: u32, given: u32) -> bool {
    let segs = buffer / 2000;
    for seg in 0..segs {
        let _ = host.deliver(&peer(ACK, seg * 1000, 0).text(&[1; 1000]));
        host.transmit();
    }
    host.tcb.release(given);
    !host.transmit().is_empty()
}

#[test]
fn room_is_worth_telling_of_when_it_is_a_quarter_of_the_window() {
    for (given, is_told) in [(9_999, false), (10_000, true)] {
        let mut host = established(&Config { recv_buffer_bytes: 40_000, ..plain() });
        assert_eq!(told_after(&mut host, 40_000, given), is_told, "{given}");
    }
    // A window that is scaled is told in units of 8.
    for (given, is_told) in [(74_000, false), (76_000, true)] {
        let config =
            Config { recv_buffer_bytes: 300_000, recv_buffer_segs: 1_000, window_scale: Some(3), ..plain() };
        let mut host = established_by(&config, &peer_syn_ack().scale(0));
        assert_eq!(told_after(&mut host, 300_000, given), is_told, "{given}");
    }
}

#[test]
fn a_small_buffer_opens_by_half_of_it() {
    // Below two segments each half of the buffer is news, and nothing less.
    for (given, is_told) in [(749, false), (750, true)] {
        let mut host = established(&Config { recv_buffer_bytes: 1500, ..plain() });
        host.exchange(&peer(ACK, 0, 0).text(&[1; 1000]));
        host.exchange(&peer(ACK, 1000, 0).text(&[1; 500]));
        host.transmit();
        host.tcb.release(given);
        assert_eq!(!host.transmit().is_empty(), is_told, "{given}");
    }
}

/// A window full of ordinary segments is not refused for their number once the buffer has grown.
#[test]
fn the_pieces_that_are_held_grow_with_the_buffer() {
    let config = Config {
        window_scale: Some(7),
        recv_buffer_bytes: 20_000,
        recv_buffer_max_bytes: 1 << 20,
        recv_buffer_segs: 20,
        reassembly_segs: 20,
        ..plain()
    };
    let mut host = Host::connect(&config, ISS.0);
    host.transmit();
    host.now += core::time::Duration::from_millis(10);
    host.exchange(&peer_syn_ack().scale(7));
    let count = |host: &mut Host, from: u32, reason| {
        (0..1000)
            .take_while(|n| host.deliver(&peer(ACK, from + 10 * n, 0).text(&[1; 10])).drop != Some(reason))
            .count()
    };
    // All that fits into 20 ms: the buffer grows to 20,000 and twice 9,000.
    host.exchange(&peer(ACK, 0, 0).text(&[1; 1000]));
    host.read();
    for seg in 2..10 {
        host.exchange(&peer(ACK, seg * 1000, 0).text(&[1; 1000]));
    }
    host.now += core::time::Duration::from_millis(20);
    host.exchange(&peer(ACK, 1000, 0).text(&[1; 1000]));
    host.read();
    let grown = host.tune.limit_bytes(&host.config);
    assert!((30_000..40_000).contains(&grown), "{grown}");
    host.transmit();
    assert_eq!(count(&mut host, 11_000, DropReason::TcpReassemblyFull) as u32, grown / 512);
    host.exchange(&peer(ACK, 10_000, 0).text(&std::vec![1; 1000]));
    host.read();
    let next = host.tcb.rcv.nxt.distance(IRS + 1);
    assert_eq!(count(&mut host, next, DropReason::TcpReceiveFull) as u32, grown / 512);
}

/// What nobody will read any more makes room at once.
#[test]
fn text_that_is_thrown_away_gives_its_room_back() {
    let mut host = established(&Config { recv_buffer_bytes: 3000, ..plain() });
    host.exchange(&peer(ACK, 0, 0).text(&[1; 1000]));
    host.exchange(&peer(ACK, 1000, 0).text(&[1; 1000]));
    assert_eq!(host.tcb.rcv_wnd(), 1000);
    host.call(|tcb, cx| tcb.shutdown_read(cx));
    assert_eq!(one(host.transmit()).header.window, 3000);
    // With nothing to throw away there is nothing to tell.
    host.call(|tcb, cx| tcb.shutdown_read(cx));
    expect_none(host.transmit());
    assert!(host.at_eof());
}

#[test]
fn a_congestion_window_below_a_segment_lets_one_go_when_nothing_is_out() {
    let mut host = established(&plain());
    host.tcb.window.cwnd = 500;
    assert_eq!(host.write(&[1; 3000]).len(), 1);
    assert_eq!(host.exchange(&peer(ACK, 0, 500)).len(), 0);
    host.tcb.window.cwnd = 500;
    assert_eq!(host.exchange(&peer(ACK, 0, 1000)).len(), 1);
}
