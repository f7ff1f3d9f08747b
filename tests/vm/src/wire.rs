//! What was on the cable: the emulator's own record of every packet, in the order in which the cards read them out of memory.
//!
//! A packet that was torn, because its header was written while the card still had to read it, has a wrong checksum here.

use std::collections::BTreeMap;
use std::path::Path;

use ringwire_wire::packet::{self, Net, Transport};
use ringwire_wire::tcp::Segment;

/// libpcap's file and record headers (pcap-savefile(5)).
const FILE_HEADER_LEN: usize = 24;
const RECORD_HEADER_LEN: usize = 16;
/// The engine's port in the tests that look here.
pub(crate) const PORT: u16 = 80;
const SHORTEST_RTO_MS: u32 = 200;
const MANY_MS: u32 = 60_000;

/// What a test says of its connection, for [`check`] to find in its output.
pub(crate) fn claim(client_port: u16, copied_bytes: u64) -> String {
    format!("wire: {client_port} {copied_bytes}")
}

/// One transmission of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    ip_id: u16,
    ts_val: u32,
}

/// The engine's segments with payload, by client port and sequence number.
type Connections = BTreeMap<u16, BTreeMap<u32, Vec<Sent>>>;

/// Compares the record of the cable with what the tests claim in their output.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn check(record: &Path, output: &str) -> Result<String, String> {
    let bytes = std::fs::read(record).map_err(|error| format!("{}: {error}", record.display()))?;
    let mut connections = Connections::new();
    let mut packets = 0;
    for frame in frames(&bytes) {
        packets += 1;
        take(frame, &mut connections)?;
    }
    let mut copies = (0, 0);
    for (port, copied_bytes) in claims(output) {
        let segments = connections.get(&port).ok_or_else(|| format!("no connection of port {port}"))?;
        let again = sent_again(segments).map_err(|fault| format!("port {port}: {fault}"))?;
        match copied_bytes {
            0 => copies.0 += again,
            _ if again == 0 => return Err(format!("port {port}: a copy was made and never sent")),
            _ => copies.1 += again,
        }
    }
    match copies {
        (in_place, copied) if in_place > 0 && copied > 0 => Ok(format!(
            "{packets} packets, none torn; sent again: {in_place} segments after their completion, {copied} as copies or after it"
        )),
        _ => Err(format!("one way of sending again was not seen: {copies:?}")),
    }
}

fn frames(record: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = record.get(FILE_HEADER_LEN..).unwrap_or_default();
    std::iter::from_fn(move || {
        let captured = rest.get(8..12)?.try_into().ok().map(u32::from_ne_bytes)? as usize;
        let frame = rest.get(RECORD_HEADER_LEN..RECORD_HEADER_LEN + captured)?;
        rest = rest.get(RECORD_HEADER_LEN + captured..).unwrap_or_default();
        Some(frame)
    })
}

fn take(frame: &[u8], connections: &mut Connections) -> Result<(), String> {
    let Ok(packet) = packet::parse(frame) else { return Err(format!("no packet: {frame:02x?}")) };
    if let Net::Ipv4(ip, Transport::Tcp(segment)) = &packet.net
        && segment.src_port() == PORT
    {
        packet.verify().map_err(|_| format!("torn: {packet:?}"))?;
        note(ip.id(), segment, connections);
    }
    Ok(())
}

fn note(ip_id: u16, segment: &Segment<'_>, connections: &mut Connections) {
    let ts_val = segment.options().timestamps.map_or(0, |timestamps| timestamps.value);
    if !segment.payload().is_empty() {
        let segments = connections.entry(segment.dst_port()).or_default();
        segments.entry(segment.header().seq).or_default().push(Sent { ip_id, ts_val });
    }
}

/// How many segments were sent again, each time as a packet of its own: under a number of its own, and the first as it was before the
/// timer fired.
fn sent_again(segments: &BTreeMap<u32, Vec<Sent>>) -> Result<usize, String> {
    let twice: Vec<_> = segments.values().filter(|copies| copies.len() > 1).collect();
    let is_later = |pair: &[Sent]| {
        let waited_ms = pair[1].ts_val.wrapping_sub(pair[0].ts_val);
        pair[0].ip_id != pair[1].ip_id && waited_ms < MANY_MS
    };
    let is_by_timer = |copies: &[Sent]| copies[1].ts_val.wrapping_sub(copies[0].ts_val) >= SHORTEST_RTO_MS;
    match twice.iter().find(|copies| !copies.windows(2).all(is_later)) {
        Some(copies) => Err(format!("not as it was first sent: {copies:?}")),
        None => Ok(twice.iter().filter(|copies| is_by_timer(copies)).count()),
    }
}

/// The claims among the lines of a run.
fn claims(output: &str) -> impl Iterator<Item = (u16, u64)> {
    output.lines().filter_map(|line| {
        let (port, copied_bytes) = line.trim().strip_prefix("wire: ")?.split_once(' ')?;
        Some((port.parse().ok()?, copied_bytes.parse().ok()?))
    })
}
