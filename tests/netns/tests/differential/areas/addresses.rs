//! Packets from hosts that cannot be, from the target itself, and to more than one host.

use crate::frames::{IP, TCP};
use crate::odd::Before::{Connection, Listener, Nothing};
use crate::odd::{Before, Odd, Packet, Then, mended, odd};

pub(crate) fn odds() -> Vec<Odd> {
    let sources = [Nothing, Listener, Connection].into_iter().flat_map(sources);
    sources.chain([Nothing, Listener].into_iter().flat_map(destinations)).chain(link()).collect()
}

/// SYNs and ACKs; the listener is there afterwards.
fn sources(before: Before) -> Vec<Odd> {
    let then = if before == Connection { Then::Probe } else { Then::Syn };
    let rows = [
        odd(before, "SYN from 0.0.0.0", "S").spoilt(|frame| from(frame, [0, 0, 0, 0])),
        odd(before, "ACK from 0.0.0.0", "A").spoilt(|frame| from(frame, [0, 0, 0, 0])),
        odd(before, "SYN from 0.1.2.3", "S").spoilt(|frame| from(frame, [0, 1, 2, 3])),
        odd(before, "SYN from 255.255.255.255", "S").spoilt(|frame| from(frame, [255; 4])),
        odd(before, "ACK from 255.255.255.255", "A").spoilt(|frame| from(frame, [255; 4])),
        odd(before, "SYN from the subnet's broadcast address", "S").spoilt(|frame| from_subnet(frame)),
        odd(before, "ACK from the subnet's broadcast address", "A").spoilt(|frame| from_subnet(frame)),
        odd(before, "SYN from a group", "S").spoilt(|frame| from(frame, [224, 0, 0, 1])),
        odd(before, "ACK from a group", "A").spoilt(|frame| from(frame, [239, 1, 2, 3])),
        odd(before, "SYN from loopback", "S").spoilt(|frame| from(frame, [127, 0, 0, 1])),
        odd(before, "ACK from loopback", "A").spoilt(|frame| from(frame, [127, 9, 9, 9])),
        odd(before, "SYN from class E", "S").spoilt(|frame| from(frame, [240, 0, 0, 1])),
        odd(before, "SYN from the target's address", "S").spoilt(|frame| from_itself(frame)),
        odd(before, "ACK from the target's address", "A").spoilt(|frame| from_itself(frame)),
        odd(before, "RST from the target's address", "R").spoilt(|frame| from_itself(frame)),
        odd(before, "SYN from the target's address and port", "S").spoilt(|frame| land(frame)),
        odd(before, "SYN ACK from the target's address and port", "SA").spoilt(|frame| land(frame)),
        odd(before, "ACK with text from the target's address and port", "A")
            .text(10)
            .spoilt(|frame| land(frame)),
    ];
    rows.into_iter().map(|row| row.then(then)).collect()
}

fn destinations(before: Before) -> Vec<Odd> {
    let datagram = |name| Odd::of(before, name, Packet::Datagram { len: 10 });
    let rows = [
        odd(before, "SYN to 255.255.255.255", "S").spoilt(|frame| to(frame, [255; 4])),
        odd(before, "SYN to the subnet's broadcast address", "S").spoilt(|frame| to_subnet(frame)),
        odd(before, "ACK to the subnet's broadcast address", "A").spoilt(|frame| to_subnet(frame)),
        odd(before, "SYN to a group", "S").spoilt(|frame| to(frame, [224, 0, 0, 1])),
        odd(before, "SYN to loopback", "S").spoilt(|frame| to(frame, [127, 0, 0, 1])),
        odd(before, "SYN to 0.0.0.0", "S").spoilt(|frame| to(frame, [0; 4])),
        odd(before, "SYN to somebody else", "S").spoilt(|frame| to(frame, [192, 0, 2, 9])),
        datagram("a datagram to a closed port"),
        datagram("a datagram to the subnet's broadcast address").spoilt(|frame| to_subnet(frame)),
        datagram("a datagram from loopback").spoilt(|frame| from(frame, [127, 0, 0, 1])),
        datagram("a datagram from 0.0.0.0").spoilt(|frame| from(frame, [0; 4])),
        datagram("a datagram from a group").spoilt(|frame| from(frame, [224, 0, 0, 1])),
    ];
    rows.into_iter().map(|row| row.then(Then::Syn)).collect()
}

/// Right packets in wrong frames.
fn link() -> Vec<Odd> {
    let rows = [
        odd(Listener, "SYN in a frame to everybody", "S").spoilt(|frame| frame[..6].fill(0xff)),
        odd(Listener, "SYN in a frame to a group", "S")
            .spoilt(|frame| frame[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1])),
        odd(Listener, "SYN in a frame to somebody else", "S").spoilt(|frame| frame[5] ^= 1),
        odd(Listener, "SYN in a frame from itself", "S").spoilt(|frame| frame.copy_within(..6, 6)),
        odd(Listener, "SYN in a frame from a group", "S").spoilt(|frame| frame[6] |= 1),
        odd(Listener, "SYN in a VLAN", "S").spoilt(|frame| drop(frame.splice(12..12, [0x81, 0, 0, 7]))),
        odd(Listener, "SYN with a priority", "S")
            .spoilt(|frame| drop(frame.splice(12..12, [0x81, 0, 0x60, 0]))),
        odd(Listener, "SYN in a frame of another type", "S").spoilt(|frame| frame[12] = 0x09),
    ];
    rows.into_iter().map(|row| row.then(Then::Syn)).collect()
}

fn from(frame: &mut [u8], source: [u8; 4]) {
    mended(frame, |frame| frame[IP + 12..IP + 16].copy_from_slice(&source));
}

fn to(frame: &mut [u8], destination: [u8; 4]) {
    mended(frame, |frame| frame[IP + 16..IP + 20].copy_from_slice(&destination));
}

fn from_subnet(frame: &mut [u8]) {
    mended(frame, |frame| frame[IP + 15] = 255);
}

fn to_subnet(frame: &mut [u8]) {
    mended(frame, |frame| frame[IP + 19] = 255);
}

fn from_itself(frame: &mut [u8]) {
    mended(frame, |frame| frame.copy_within(IP + 16..IP + 20, IP + 12));
}

fn land(frame: &mut [u8]) {
    frame.copy_within(TCP + 2..TCP + 4, TCP);
    from_itself(frame);
}
