//! Headers that contradict themselves or their packet, to nobody, a listener and a connection.

use crate::frames::{self, IP, TCP, put};
use crate::odd::{Before, Odd, mended, odd};

pub(crate) fn odds() -> Vec<Odd> {
    let rows = |before| [of_ip(before), of_tcp(before), ports(before)].concat();
    [Before::Nothing, Before::Listener, Before::Connection].into_iter().flat_map(rows).collect()
}

/// Of an address that the engine shares with the kernel, all but ports is the kernel's.
pub(crate) fn to_a_socket() -> Vec<Odd> {
    let rows = |before| [of_ip(before), of_tcp(before)].concat();
    [Before::Listener, Before::Connection].into_iter().flat_map(rows).collect()
}

fn of_ip(before: Before) -> Vec<Odd> {
    vec![
        odd(before, "an IP header of four words", "A").spoilt(|frame| frame[IP] = 0x44),
        odd(before, "an IP header behind the end", "A").spoilt(|frame| {
            frame[IP] = 0x4f;
            put(frame, IP + 10, 0);
        }),
        odd(before, "a total length behind the end", "A").spoilt(|frame| {
            frame[IP + 2] = 4;
            frames::mend_header(frame);
        }),
        odd(before, "a total length within the IP header", "A").spoilt(|frame| {
            put(frame, IP + 2, 16);
            frames::mend_header(frame);
        }),
        odd(before, "a total length within the TCP header", "A").spoilt(|frame| {
            put(frame, IP + 2, 36);
            frames::mend_header(frame);
        }),
        odd(before, "padding behind the packet", "A").text(10).spoilt(|frame| frame.extend([0x99; 20])),
        odd(before, "a wrong IP checksum", "A").spoilt(|frame| frame[IP + 10] ^= 0x40),
        odd(before, "IP version 5", "A").spoilt(|frame| {
            frame[IP] = 0x55;
            frames::mend_header(frame);
        }),
        odd(before, "TTL 0", "A").text(10).spoilt(|frame| mended(frame, |frame| frame[IP + 8] = 0)),
        odd(before, "TTL 1", "A").text(10).spoilt(|frame| mended(frame, |frame| frame[IP + 8] = 1)),
        odd(before, "the reserved bit of IP", "A")
            .text(10)
            .spoilt(|frame| mended(frame, |frame| frame[IP + 6] |= 0x80)),
    ]
}

fn of_tcp(before: Before) -> Vec<Odd> {
    vec![
        odd(before, "a wrong TCP checksum", "A").text(4).spoilt(|frame| frame[TCP + 16] ^= 0x40),
        odd(before, "a TCP checksum of 0 that is wrong", "A").text(4).spoilt(|frame| put(frame, TCP + 16, 0)),
        odd(before, "a TCP checksum of ones that is wrong", "A")
            .text(4)
            .spoilt(|frame| put(frame, TCP + 16, 0xffff)),
        odd(before, "a TCP checksum of 0 that is right", "A")
            .text(4)
            .spoilt(|frame| frames::make_checksum_zero(frame)),
        odd(before, "a TCP checksum of ones that stands for 0", "A").text(4).spoilt(|frame| {
            frames::make_checksum_zero(frame);
            put(frame, TCP + 16, 0xffff);
        }),
        odd(before, "a data offset of 0", "A").spoilt(|frame| mended(frame, |frame| frame[TCP + 12] = 0)),
        odd(before, "a data offset of four", "A")
            .spoilt(|frame| mended(frame, |frame| frame[TCP + 12] = 0x40)),
        odd(before, "a data offset behind the end", "A")
            .spoilt(|frame| mended(frame, |frame| frame[TCP + 12] = 0xf0)),
        odd(before, "a data offset at the end", "A")
            .text(4)
            .spoilt(|frame| mended(frame, |frame| frame[TCP + 12] = 0x60)),
        odd(before, "a data offset behind the end, with RST", "R")
            .spoilt(|frame| mended(frame, |frame| frame[TCP + 12] = 0x60)),
        odd(before, "reserved bits of TCP", "A")
            .text(4)
            .spoilt(|frame| mended(frame, |frame| frame[TCP + 12] |= 0x0e)),
    ]
}

fn ports(before: Before) -> Vec<Odd> {
    vec![
        odd(before, "SYN from port 0", "S").spoilt(|frame| mended(frame, |frame| put(frame, TCP, 0))),
        odd(before, "ACK from port 0", "A").spoilt(|frame| mended(frame, |frame| put(frame, TCP, 0))),
        odd(before, "SYN to port 0", "S").spoilt(|frame| mended(frame, |frame| put(frame, TCP + 2, 0))),
        odd(before, "ACK to port 0", "A").spoilt(|frame| mended(frame, |frame| put(frame, TCP + 2, 0))),
    ]
}
