//! IP options, fragments, and protocols that nobody has.

use ringwire_wire::checksum::Sum;

use crate::frames::{self, IP, fragment, fragments, insert_ip_options, put};
use crate::odd::Before::{Connection, Listener, Nothing};
use crate::odd::{Before, Odd, Packet, mended, odd};

pub(crate) fn odds() -> Vec<Odd> {
    to(&[Nothing, Listener, Connection]).into_iter().chain(protocols()).collect()
}

/// Of an address that the engine shares with the kernel, all but ports is the kernel's.
pub(crate) fn to_a_socket() -> Vec<Odd> {
    to(&[Listener, Connection])
}

fn to(states: &[Before]) -> Vec<Odd> {
    let rows = |before: &Before| [options(*before), broken_options(*before), pieces(*before)].concat();
    states.iter().flat_map(rows).collect()
}

/// To a listener a SYN, else an ACK with text.
fn usual(before: Before, name: &'static str) -> Odd {
    if before == Listener { odd(before, name, "S") } else { odd(before, name, "A").text(44) }
}

fn options(before: Before) -> Vec<Odd> {
    vec![
        usual(before, "no operation").spoilt(|frame| insert_ip_options(frame, &[1, 1, 1, 1])),
        usual(before, "the end of options at once").spoilt(|frame| insert_ip_options(frame, &[0, 7, 7, 7])),
        usual(before, "an unknown option").spoilt(|frame| insert_ip_options(frame, &[0x5e, 4, 7, 7])),
        usual(before, "router alert").spoilt(|frame| insert_ip_options(frame, &[0x94, 4, 0, 0])),
        usual(before, "record route").spoilt(|frame| insert_ip_options(frame, &[7, 7, 4, 0, 0, 0, 0])),
        usual(before, "record route that is full")
            .spoilt(|frame| insert_ip_options(frame, &[7, 7, 8, 9, 9, 9, 9])),
        usual(before, "timestamps of IP")
            .spoilt(|frame| insert_ip_options(frame, &[0x44, 8, 5, 0, 0, 0, 0, 0])),
        usual(before, "a loose source route")
            .spoilt(|frame| insert_ip_options(frame, &[0x83, 7, 4, 10, 9, 9, 9])),
        usual(before, "a loose source route at its end")
            .spoilt(|frame| insert_ip_options(frame, &[0x83, 7, 8, 10, 9, 9, 9])),
        usual(before, "a strict source route")
            .spoilt(|frame| insert_ip_options(frame, &[0x89, 7, 4, 10, 9, 9, 9])),
        usual(before, "a strict source route at its end")
            .spoilt(|frame| insert_ip_options(frame, &[0x89, 7, 8, 10, 9, 9, 9])),
        usual(before, "forty bytes of no operation").spoilt(|frame| insert_ip_options(frame, &[1; 40])),
        usual(before, "security")
            .spoilt(|frame| insert_ip_options(frame, &[0x82, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
    ]
}

fn broken_options(before: Before) -> Vec<Odd> {
    vec![
        usual(before, "an IP option of length 0").spoilt(|frame| insert_ip_options(frame, &[0x5e, 0, 0, 0])),
        usual(before, "an IP option of length 1").spoilt(|frame| insert_ip_options(frame, &[0x5e, 1, 0, 0])),
        usual(before, "an IP option behind the end")
            .spoilt(|frame| insert_ip_options(frame, &[0x5e, 40, 0, 0])),
        usual(before, "an IP option without a length")
            .spoilt(|frame| insert_ip_options(frame, &[1, 1, 1, 0x5e])),
        usual(before, "a record route of length 2").spoilt(|frame| insert_ip_options(frame, &[7, 2, 0, 0])),
        usual(before, "a record route that points before itself")
            .spoilt(|frame| insert_ip_options(frame, &[7, 7, 3, 0, 0, 0, 0])),
        usual(before, "a source route twice").spoilt(|frame| {
            insert_ip_options(frame, &[0x83, 7, 8, 10, 9, 9, 9, 0x89, 7, 8, 10, 9, 9, 9]);
        }),
        usual(before, "a source route behind the end")
            .spoilt(|frame| insert_ip_options(frame, &[0x83, 39, 4, 10])),
    ]
}

/// A SYN has 24 bytes of TCP, the text to others makes 64; pieces are multiples of eight but for the last.
fn pieces(before: Before) -> Vec<Odd> {
    vec![
        usual(before, "in order").cut(|frame| fragments(&frame, &[(0, 8), (8, end(&frame))])),
        usual(before, "in reverse").cut(|frame| fragments(&frame, &[(8, end(&frame)), (0, 8)])),
        usual(before, "in three").cut(|frame| fragments(&frame, &[(0, 8), (8, 16), (16, end(&frame))])),
        usual(before, "one of them twice")
            .cut(|frame| fragments(&frame, &[(0, 16), (0, 16), (16, end(&frame))])),
        usual(before, "that overlap").cut(|frame| fragments(&frame, &[(0, 16), (8, end(&frame))])),
        usual(before, "of which one lies in the other").cut(|frame| {
            let mut pieces = fragments(&frame, &[(0, 16)]);
            pieces.extend([fragment(&frame, (8, 16), true), fragment(&frame, (16, end(&frame)), false)]);
            pieces
        }),
        usual(before, "a tiny first one alone").cut(|frame| fragments(&frame, &[(0, 8)])),
        usual(before, "the last one alone").cut(|frame| fragments(&frame, &[(16, end(&frame))])),
        usual(before, "two ends").cut(|frame| {
            vec![
                fragment(&frame, (0, 8), true),
                fragment(&frame, (8, 16), false),
                fragment(&frame, (8, end(&frame)), false),
            ]
        }),
        usual(before, "a middle that is no multiple of eight").cut(|frame| {
            let mut pieces = fragments(&frame, &[(0, 8), (16, end(&frame))]);
            pieces.insert(1, fragment(&frame, (8, 15), true));
            pieces
        }),
        usual(before, "beyond 64 kilobytes").cut(|frame| {
            let mut far = fragment(&frame, (8, end(&frame)), false);
            put(&mut far, IP + 6, 0x1fff);
            frames::mend_header(&mut far);
            vec![fragment(&frame, (0, 8), true), far]
        }),
        usual(before, "one that is all, with more to come")
            .cut(|frame| vec![fragment(&frame, (0, end(&frame)), true)]),
    ]
}

fn end(frame: &[u8]) -> usize {
    frame.len() - IP - 20
}

fn protocols() -> Vec<Odd> {
    let datagram = |name| Odd::of(Nothing, name, Packet::Datagram { len: 10 });
    vec![
        odd(Listener, "a SYN in IP in IP", "S").cut(|frame| vec![frames::packet(&frame, 4, &frame[IP..])]),
        odd(Listener, "a SYN in GRE", "S")
            .cut(|frame| vec![frames::packet(&frame, 47, &[&[0, 0, 8, 0], &frame[IP..]].concat())]),
        odd(Listener, "a SYN in IPv6 in IP", "S")
            .cut(|frame| vec![frames::packet(&frame, 41, &in_ipv6(&frame))]),
        odd(Nothing, "protocol 61", "A").spoilt(|frame| mended(frame, |frame| frame[IP + 9] = 61)),
        odd(Nothing, "protocol 132", "A").spoilt(|frame| mended(frame, |frame| frame[IP + 9] = 132)),
        odd(Nothing, "protocol 253", "A").spoilt(|frame| mended(frame, |frame| frame[IP + 9] = 253)),
        odd(Nothing, "protocol 255", "A").spoilt(|frame| mended(frame, |frame| frame[IP + 9] = 255)),
        odd(Nothing, "protocol 253 in fragments", "A")
            .text(44)
            .spoilt(|frame| mended(frame, |frame| frame[IP + 9] = 253))
            .cut(|frame| fragments(&frame, &[(0, 8), (8, end(&frame))])),
        datagram("a datagram in fragments").cut(|frame| fragments(&frame, &[(0, 8), (8, end(&frame))])),
        datagram("a datagram without checksum").spoilt(|frame| put(frame, IP + 26, 0)),
        datagram("a datagram with a wrong checksum").spoilt(|frame| frame[IP + 26] ^= 0x40),
        datagram("a datagram of length 7").spoilt(|frame| mended(frame, |frame| put(frame, IP + 24, 7))),
        datagram("a datagram of length 0").spoilt(|frame| mended(frame, |frame| put(frame, IP + 24, 0))),
        datagram("a datagram longer than its packet")
            .spoilt(|frame| mended(frame, |frame| put(frame, IP + 24, 60))),
        datagram("a datagram to port 0").spoilt(|frame| mended(frame, |frame| put(frame, IP + 22, 0))),
        datagram("a datagram from port 0").spoilt(|frame| mended(frame, |frame| put(frame, IP + 20, 0))),
    ]
}

/// The segment of a frame in an IPv6 packet from and to addresses for documentation.
fn in_ipv6(frame: &[u8]) -> Vec<u8> {
    const TCP_PROTOCOL: u8 = 6;
    const CHECKSUM: usize = 16;
    let mut segment = frame[IP + 20..].to_vec();
    let len = segment.len() as u16;
    let address = |last| [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let addresses = [address(1), address(2)].concat();
    put(&mut segment, CHECKSUM, 0);
    let pseudo = Sum::of(&addresses).add_u16(len).add_u16(TCP_PROTOCOL.into());
    let sum = (pseudo + Sum::of(&segment)).finish();
    put(&mut segment, CHECKSUM, sum);
    let [high, low] = len.to_be_bytes();
    [&[0x60, 0, 0, 0, high, low, TCP_PROTOCOL, 64], &addresses[..], &segment].concat()
}
