//! ICMP: errors about what is and what is not in flight, and questions.

use crate::frames::{IP, insert_ip_options};
use crate::odd::Before::{Closing, FinWait1, HalfOpen, LastAck, Listener, Nothing, Sending};
use crate::odd::{Before, Odd, Packet, Quote, error, mended};

const UNREACHABLE: u8 = 3;
const TOO_BIG: (u8, u8) = (UNREACHABLE, 4);
const PORT: (u8, u8) = (UNREACHABLE, 3);

pub(crate) fn odds() -> Vec<Odd> {
    let states = [HalfOpen, Sending, FinWait1, Closing, LastAck];
    states
        .into_iter()
        .flat_map(unreachable)
        .chain(about_others())
        .chain(too_big())
        .chain(questions())
        .collect()
}

fn unreachable(before: Before) -> Vec<Odd> {
    vec![
        error(before, "net unreachable", (UNREACHABLE, 0)),
        error(before, "host unreachable", (UNREACHABLE, 1)),
        error(before, "protocol unreachable", (UNREACHABLE, 2)),
        error(before, "port unreachable", PORT),
        error(before, "source route failed", (UNREACHABLE, 5)),
        error(before, "net unknown", (UNREACHABLE, 6)),
        error(before, "host unknown", (UNREACHABLE, 7)),
        error(before, "host isolated", (UNREACHABLE, 8)),
        error(before, "net prohibited", (UNREACHABLE, 9)),
        error(before, "host prohibited", (UNREACHABLE, 10)),
        error(before, "prohibited", (UNREACHABLE, 13)),
        error(before, "precedence cutoff", (UNREACHABLE, 15)),
        error(before, "unreachable of an unknown code", (UNREACHABLE, 16)),
        error(before, "source quench", (4, 0)),
        error(before, "redirect", (5, 1)),
        error(before, "time exceeded", (11, 0)),
        error(before, "reassembly time exceeded", (11, 1)),
        error(before, "parameter problem", (12, 0)),
        error(before, "port unreachable of what is not sent", PORT).quoting(100_000, Quote::Usual),
        error(before, "port unreachable of what is long acknowledged", PORT).quoting(-100_000, Quote::Usual),
    ]
}

fn about_others() -> Vec<Odd> {
    vec![
        error(Sending, "port unreachable, a quote cut short", PORT).quoting(0, Quote::Short),
        error(Sending, "port unreachable, a quote of half an IP header", PORT).quoting(0, Quote::Stump),
        error(Sending, "port unreachable of another flow", PORT).quoting(0, Quote::OtherFlow),
        error(Sending, "port unreachable of another host", PORT).quoting(0, Quote::OtherHost),
        error(Sending, "port unreachable of another protocol", PORT).quoting(0, Quote::OtherProtocol),
        error(HalfOpen, "port unreachable, a quote cut short", PORT).quoting(0, Quote::Short),
        error(HalfOpen, "port unreachable of another flow", PORT).quoting(0, Quote::OtherFlow),
        error(HalfOpen, "port unreachable, with a wrong checksum", PORT)
            .spoilt(|frame| frame[IP + 22] ^= 0x40),
        error(Sending, "too big, with a wrong checksum", TOO_BIG)
            .mtu(600)
            .spoilt(|frame| frame[IP + 22] ^= 0x40),
        error(Sending, "too big, to everybody", TOO_BIG)
            .mtu(600)
            .spoilt(|frame| mended(frame, |frame| frame[IP + 16..IP + 20].fill(255))),
    ]
}

fn too_big() -> Vec<Odd> {
    vec![
        error(Sending, "too big for 0", TOO_BIG).mtu(0),
        error(Sending, "too big for 1", TOO_BIG).mtu(1),
        error(Sending, "too big for 67", TOO_BIG).mtu(67),
        error(Sending, "too big for 68", TOO_BIG).mtu(68),
        error(Sending, "too big for 300", TOO_BIG).mtu(300),
        error(Sending, "too big for 552", TOO_BIG).mtu(552),
        error(Sending, "too big for 600", TOO_BIG).mtu(600),
        error(Sending, "too big for 1400, which it is not", TOO_BIG).mtu(1400),
        error(Sending, "too big for 1500", TOO_BIG).mtu(1500),
        error(Sending, "too big for 9000", TOO_BIG).mtu(9000),
        error(Sending, "too big for 600, not sent", TOO_BIG).mtu(600).quoting(100_000, Quote::Usual),
        error(Sending, "too big for 600, long acknowledged", TOO_BIG)
            .mtu(600)
            .quoting(-100_000, Quote::Usual),
        error(Sending, "too big for 600, in the middle", TOO_BIG).mtu(600).quoting(500, Quote::Usual),
        error(HalfOpen, "too big for 600", TOO_BIG).mtu(600),
        error(HalfOpen, "too big for 0", TOO_BIG).mtu(0),
        error(FinWait1, "too big for 600", TOO_BIG).mtu(600),
        error(LastAck, "too big for 600", TOO_BIG).mtu(600),
    ]
}

fn questions() -> Vec<Odd> {
    let message = |name, (kind, code), len| Odd::of(Nothing, name, Packet::Message { kind, code, len });
    vec![
        message("echo", (8, 0), 56),
        message("echo without data", (8, 0), 0),
        message("echo as long as the link takes", (8, 0), 1472),
        message("echo of another code", (8, 1), 56),
        message("echo with a wrong checksum", (8, 0), 56).spoilt(|frame| frame[IP + 22] ^= 0x40),
        message("echo cut within its header", (8, 0), 0).spoilt(|frame| {
            frame.truncate(IP + 26);
            crate::frames::mend(frame);
        }),
        message("echo to everybody", (8, 0), 56)
            .spoilt(|frame| mended(frame, |frame| frame[IP + 16..IP + 20].fill(255))),
        message("echo to the subnet", (8, 0), 56).spoilt(|frame| mended(frame, |frame| frame[IP + 19] = 255)),
        message("echo from the subnet", (8, 0), 56)
            .spoilt(|frame| mended(frame, |frame| frame[IP + 15] = 255)),
        message("echo with no operation", (8, 0), 56).spoilt(|frame| insert_ip_options(frame, &[1, 1, 1, 1])),
        message("echo with record route", (8, 0), 56)
            .spoilt(|frame| insert_ip_options(frame, &[7, 7, 4, 0, 0, 0, 0])),
        message("echo with a source route", (8, 0), 56)
            .spoilt(|frame| insert_ip_options(frame, &[0x83, 7, 8, 10, 9, 9, 9])),
        message("an answer to no echo", (0, 0), 56),
        message("timestamp", (13, 0), 12),
        message("timestamp cut short", (13, 0), 4),
        message("information request", (15, 0), 0),
        message("address mask request", (17, 0), 4),
        message("a type that nobody has", (200, 0), 8),
        error(Listener, "port unreachable of a listener", PORT),
    ]
}
