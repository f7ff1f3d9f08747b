//! RFC 4821, RFC 8899: paths that swallow long packets without a word.

use ringwire_conformance::{Script, ack, script};

const FULL: usize = 1460;
const BASE: usize = 1024;

/// A connection whose segments above the base do not get through, noticed.
fn suspicious(s: &mut Script) {
    s.offer_sack();
    s.establish_in(20);
    s.send(vec![1; 4 * FULL]);
    assert!(s.take_sent().iter().all(|sent| sent.len() == FULL));
    s.wait(1_700);
    assert!(s.take_sent().iter().all(|sent| sent.len() == FULL), "three timeouts say nothing");
    s.wait(4_000);
    assert!(s.take_sent().iter().any(|sent| sent.len() == BASE && sent.seq == 1));
    assert_eq!(usize::from(s.info().mss), BASE);
}

/// All that leaves from `next` on is acknowledged, but what is longer than the path takes; the lengths of what was.
fn carry(s: &mut Script, most: usize, (mut next, until): (u32, u32)) -> Vec<usize> {
    let mut lens = Vec::new();
    let mut held: Vec<(u32, u32)> = Vec::new();
    for _ in 0..400 {
        for sent in s.take_sent() {
            if sent.is_empty() || sent.len() > most {
                continue;
            }
            lens.push(sent.len());
            held.push((sent.seq, sent.end()));
            while let Some(at) = held.iter().position(|(seq, _)| *seq <= next) {
                next = next.max(held.remove(at).1);
            }
            match held.last() {
                Some(block) => s.inject(ack().ack(next).sack(&[*block])),
                None => s.inject(ack().ack(next)),
            }
        }
        if next >= until {
            return lens;
        }
        s.wait(10);
    }
    s.fail("not everything has arrived")
}

/// RFC 4821 7.7, RFC 8899 3 (10): after repeated timeouts the base size, in which the same data arrives.
#[test]
fn rfc8899_4_3_black_hole_is_found_and_passed() {
    script(|s| {
        suspicious(s);
        s.inject(ack().ack(1 + BASE as u32));
        s.ignore_sent();
        s.wait(300);
        let lens = carry(s, 1100, (1 + BASE as u32, 1 + 4 * FULL as u32));
        assert!(lens.iter().all(|len| *len <= BASE), "{lens:?}");
    });
}

/// RFC 4821 7.6.1, 7.6.2: probes between what passes and what did; the lost one costs no window, and what got through is the new size.
#[test]
fn rfc4821_7_6_probes_find_what_passes() {
    script(|s| {
        suspicious(s);
        s.inject(ack().ack(1 + 4 * FULL as u32));
        s.ignore_sent();
        let (mut end, mut sizes) = (1 + 4 * FULL as u32, Vec::new());
        for _ in 0..10 {
            s.wait(1_100);
            let before = s.info().cwnd_bytes;
            s.send(vec![1; 40_000]);
            let lens = carry(s, 1300, (end, end + 40_000));
            end += 40_000;
            sizes.extend(lens.into_iter().max());
            assert!(s.info().cwnd_bytes >= before, "{} after {before}", s.info().cwnd_bytes);
        }
        let mss = usize::from(s.info().mss);
        assert!((1236..=1300).contains(&mss) && sizes.is_sorted(), "{mss}, {sizes:?}");
    });
}

/// RFC 4821 7.6: probes are put together from what waits, whoever's buffers it waits in.
#[test]
fn rfc4821_7_6_probes_of_what_waits() {
    // In frames, and on the heap.
    for most in [700, 1024, 4000] {
        script(|s| {
            suspicious(s);
            s.inject(ack().ack(1 + 4 * FULL as u32));
            s.ignore_sent();
            let mut end = 1 + 4 * FULL as u32;
            for _ in 0..10 {
                s.wait(1_100);
                s.send_bufs(&vec![1; 40_000], most);
                carry(s, 1300, (end, end + 40_000));
                end += 40_000;
            }
            let mss = s.info().mss;
            assert!((1236..=1300).contains(&mss), "{mss} with buffers of {most}");
        });
    }
}

/// RFC 4821 7: it can be turned off, as Linux has it by default.
#[test]
fn rfc4821_7_can_be_turned_off() {
    script(|s| {
        s.options.mtu_probing = false;
        s.establish_in(20);
        s.send(vec![1; FULL]);
        s.wait(20_000);
        assert!(s.take_sent().iter().all(|sent| sent.len() == FULL));
        s.inject(ack());
    });
}
