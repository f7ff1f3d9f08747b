//! Proportional rate reduction: RFC 6937. SACK and a round trip of 100 ms throughout.

use ringwire_conformance::{Script, ack, script};

const MSS: u32 = 1460;

fn at(n: u32) -> u32 {
    1 + n * MSS
}

/// Ten segments in flight, twenty more to send.
fn thirty_written(s: &mut Script) {
    s.offer_sack();
    s.establish_in(100);
    s.send(vec![1; (30 * MSS) as usize]);
    assert_eq!(s.take_sent().len(), 10);
    s.wait(100);
}

/// 3: over the whole recovery as much is sent for what is delivered as ssthresh is of the flight.
#[test]
fn rfc6937_3_rate_is_proportional() {
    script(|s| {
        thirty_written(s);
        let mut sent = Vec::new();
        for n in 2..=10 {
            s.inject(ack().ack(1).sack(&[(at(1), at(n))]));
            sent.push(s.take_sent().len());
        }
        // Limited transmit, the retransmission, then 0.5 to 0.7 for each delivery.
        let total: usize = sent.iter().sum();
        assert!((5..=9).contains(&total), "{sent:?}");
        assert!(sent.iter().all(|count| *count <= 2), "{sent:?}");
        s.abort();
        s.ignore_sent();
    });
}

/// 3: the retransmission itself goes at once, whatever the window says.
#[test]
fn rfc6937_3_first_retransmission_is_not_held_back() {
    script(|s| {
        thirty_written(s);
        s.inject(ack().ack(1).sack(&[(at(1), at(4))]));
        let sent = s.take_sent();
        assert_eq!(sent.first().map(|segment| segment.seq), Some(at(0)));
        s.abort();
        s.ignore_sent();
    });
}

/// 3.1: after heavy loss, below ssthresh, no more is sent than was delivered and one segment more.
#[test]
fn rfc6937_3_1_reduction_bound_after_heavy_loss() {
    script(|s| {
        thirty_written(s);
        s.inject(ack().ack(1).sack(&[(at(7), at(10))]));
        // Three were delivered, seven are lost.
        let sent = s.take_sent().len();
        assert!((1..=4).contains(&sent), "{sent}");
        s.wait(100);
        s.inject(ack().ack(at(1)).sack(&[(at(7), at(10))]));
        let sent = s.take_sent().len();
        assert!((1..=2).contains(&sent), "{sent}");
        s.abort();
        s.ignore_sent();
    });
}

/// 3: when recovery ends the window is ssthresh.
#[test]
fn rfc6937_3_window_is_ssthresh_at_the_end() {
    script(|s| {
        thirty_written(s);
        s.inject(ack().ack(1).sack(&[(at(1), at(10))]));
        let high = s.take_sent().iter().map(|segment| segment.end()).max().unwrap_or(0).max(at(10));
        s.wait(100);
        s.inject(ack().ack(high));
        s.ignore_sent();
        let info = s.info();
        assert!(info.cwnd_bytes <= info.ssthresh_bytes + MSS, "{} {}", info.cwnd_bytes, info.ssthresh_bytes);
        assert!(
            info.cwnd_bytes + 2 * MSS >= info.ssthresh_bytes,
            "{} {}",
            info.cwnd_bytes,
            info.ssthresh_bytes
        );
        s.abort();
        s.ignore_sent();
    });
}
