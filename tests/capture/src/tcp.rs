//! What one end's TCP must not do, as seen from the wire.
//!
//! The packets must be in the order in which `ours` sent its own, and each of the peer's must come before ours could know it: the order of
//! the peer's interface, or of a relay before it impairs. Nothing may be missing that the capture could have seen.

use std::collections::HashMap;
use std::fmt;

use ringwire_wire::icmp::{self, Kind, Quoted, Reason, unreachable};
use ringwire_wire::packet::{Net, Transport, parse};
use ringwire_wire::tcp::{Flags, Segment};

use crate::{End, Packet};

/// Headers without options.
const IPV4_LEN: usize = 20;
const TCP_LEN: usize = 20;
/// Without an MSS option (RFC 9293 3.7.1, MUST-15).
const DEFAULT_MSS: u16 = 536;

/// A rule, and what broke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// RFC 9293 3.10.7.4: only what came is acknowledged.
    AckBeyondReceived,
    /// RFC 9293 3.8.6 (SHLD-14): the right edge of the window does not move left, not even by what scaling cannot say.
    RightEdgeMovesLeft,
    /// RFC 7323 5.4: the timestamp clock does not go back.
    TimestampGoesBack,
    /// RFC 9293 3.4: nothing beyond the peer's window.
    BeyondPeersWindow,
    /// RFC 9293 3.7.1 (MUST-16), RFC 6691: not more than the peer and the path take, options included. A path takes less after a router
    /// has said so (RFC 1191 6.3): from when what it refused is sent again.
    SegmentTooLong,
    /// RFC 9293 3.6: FIN is the last.
    DataAfterFin,
}

/// Where a rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The packet's number in its file, from 1.
    pub number: usize,
    /// What it broke.
    pub rule: Rule,
    /// The numbers that contradict each other: what is, and what may be at most or at least.
    pub found: (u32, u32),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { number, rule, found: (is, bound) } = self;
        write!(f, "packet {number}: {rule:?}: {is}, bound {bound}")
    }
}

/// What `ours` did wrong in its TCP connections, over a path that takes IP packets of `mtu` bytes. Connections whose SYNs are not among
/// the packets are left out.
pub fn check_tcp(packets: &[Packet], ours: impl Into<End>, mtu: usize) -> Vec<Fault> {
    let ours = ours.into();
    let mut flows: HashMap<_, Flow> = HashMap::new();
    let mut faults = Vec::new();
    for packet in packets {
        let Ok(parsed) = parse(&packet.bytes) else { continue };
        let (ip, segment) = match parsed.net {
            Net::Ipv4(ip, Transport::Tcp(segment)) => (ip, segment),
            Net::Ipv4(_, Transport::Icmp(message)) => {
                if let Some((quoted, refused)) = refusal(&message)
                    && ours.is(quoted.src, quoted.src_port)
                {
                    let flow = flows.entry((quoted.dst, (quoted.src_port, quoted.dst_port))).or_default();
                    flow.refused = Some(refused);
                }
                continue;
            }
            _ => continue,
        };
        let is_ours = ours.is(ip.src(), segment.src_port());
        let (peer, ports) = match (is_ours, ours.is(ip.dst(), segment.dst_port())) {
            (true, false) => (ip.dst(), (segment.src_port(), segment.dst_port())),
            (false, true) => (ip.src(), (segment.dst_port(), segment.src_port())),
            _ => continue,
        };
        let flow = flows.entry((peer, ports)).or_default();
        if is_ours {
            let mut judge = Judge { number: packet.number, faults: &mut faults };
            flow.on_ours(&segment, mtu, &mut judge);
        } else {
            flow.on_peers(&segment);
        }
    }
    faults
}

/// What a router found too long.
fn refusal(message: &icmp::Message<'_>) -> Option<(Quoted, Refused)> {
    let Kind::Error(error) = message.kind() else { return None };
    let Reason::Unreachable { code: unreachable::FRAGMENTATION_NEEDED, next_hop_mtu } = error.reason else {
        return None;
    };
    let quoted = Quoted::parse(error.quoted).ok()?;
    Some((quoted, Refused { seq: quoted.seq, mtu: next_hop_mtu.into() }))
}

struct Judge<'a> {
    number: usize,
    faults: &'a mut Vec<Fault>,
}

impl Judge<'_> {
    fn expect(&mut self, is_kept: bool, rule: Rule, found: (u32, u32)) {
        if !is_kept {
            self.faults.push(Fault { number: self.number, rule, found });
        }
    }
}

/// One connection.
#[derive(Debug, Default)]
struct Flow {
    ours: Sender,
    peer: Sender,
    /// What of ours was refused last.
    refused: Option<Refused>,
    /// What the path takes, once ours has heard of it.
    path_mtu: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    seq: u32,
    mtu: usize,
}

/// What one end has said.
#[derive(Debug, Default)]
struct Sender {
    syn: Option<Syn>,
    /// The end of what it has sent, SYN and FIN counted.
    end: u32,
    /// Where its text ends, if it has said so.
    fin_at: Option<u32>,
    /// The farthest right edge that it has announced.
    edge: Option<u32>,
    /// The last timestamp.
    tsval: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Syn {
    seq: u32,
    mss: u16,
    scale: Option<u8>,
}

impl Flow {
    fn on_peers(&mut self, segment: &Segment<'_>) {
        let header = segment.header();
        if header.flags.contains(Flags::SYN) {
            let is_new = !header.flags.contains(Flags::ACK)
                && self.peer.syn.is_some_and(|known| known.seq != header.seq);
            if is_new {
                *self = Flow::default();
            }
            self.peer.begin(segment);
        }
        if !header.flags.contains(Flags::RST) {
            self.peer.say(segment);
        }
        let shift = self.shift(&self.peer, header.flags);
        self.peer.announce(segment, shift);
    }

    fn on_ours(&mut self, segment: &Segment<'_>, mtu: usize, judge: &mut Judge<'_>) {
        let header = segment.header();
        if header.flags.contains(Flags::SYN) {
            let is_new = !header.flags.contains(Flags::ACK)
                && self.ours.syn.is_some_and(|known| known.seq != header.seq);
            if is_new {
                *self = Flow::default();
            }
            self.ours.begin(segment);
        }
        // A reset answers what may belong to no connection.
        if header.flags.contains(Flags::RST) {
            return;
        }
        let repeats = |refused: &Refused| !is_after(header.seq, refused.seq) && !segment.payload().is_empty();
        if let Some(refused) = self.refused.take_if(|refused| repeats(refused)) {
            self.path_mtu = Some(refused.mtu);
        }
        if self.peer.syn.is_some() && self.ours.syn.is_some() {
            self.judge(segment, self.path_mtu.map_or(mtu, |path_mtu| path_mtu.min(mtu)), judge);
        }
        self.ours.say(segment);
        let shift = self.shift(&self.ours, header.flags);
        self.ours.announce(segment, shift);
    }

    fn judge(&self, segment: &Segment<'_>, mtu: usize, judge: &mut Judge<'_>) {
        let header = segment.header();
        let text_end = header.seq.wrapping_add(segment.payload().len() as u32);
        if header.flags.contains(Flags::ACK) {
            let bound = self.peer.end;
            judge.expect(!is_after(header.ack, bound), Rule::AckBeyondReceived, (header.ack, bound));
            let shift = self.shift(&self.ours, header.flags);
            let edge = right_edge(segment, shift);
            // RFC 7323 2.2: a SYN that is sent again has no scale to say what has been announced since.
            let is_cramped = header.flags.contains(Flags::SYN) && header.window == u16::MAX;
            if let Some(bound) = self.ours.edge.filter(|_| !is_cramped) {
                judge.expect(!is_after(bound, edge), Rule::RightEdgeMovesLeft, (edge, bound));
            }
        }
        if let (Some(now), Some(before)) = (segment.options().timestamps, self.ours.tsval) {
            judge.expect(!is_after(before, now.value), Rule::TimestampGoesBack, (now.value, before));
        }
        if segment.payload().is_empty() {
            return;
        }
        if let Some(bound) = self.peer.edge {
            judge.expect(!is_after(text_end, bound), Rule::BeyondPeersWindow, (text_end, bound));
        }
        let mss = self.peer.syn.map_or(DEFAULT_MSS, |syn| syn.mss);
        let most = usize::from(mss).min(mtu - IPV4_LEN - TCP_LEN) + TCP_LEN;
        let len = segment.header_len() + segment.payload().len();
        judge.expect(len <= most, Rule::SegmentTooLong, (len as u32, most as u32));
        if let Some(bound) = self.ours.fin_at {
            judge.expect(!is_after(text_end, bound), Rule::DataAfterFin, (text_end, bound));
        }
    }

    /// RFC 7323 2.2: both must offer scaling, and the window of a SYN is never scaled.
    fn shift(&self, sender: &Sender, flags: Flags) -> u8 {
        let both = self.ours.syn.and_then(|syn| syn.scale).and(self.peer.syn.and_then(|syn| syn.scale));
        match (both, sender.syn.and_then(|syn| syn.scale)) {
            (Some(_), Some(shift)) if !flags.contains(Flags::SYN) => shift,
            _ => 0,
        }
    }
}

impl Sender {
    fn begin(&mut self, segment: &Segment<'_>) {
        let (seq, options) = (segment.header().seq, segment.options());
        if self.syn.is_none_or(|known| known.seq != seq) {
            let mss = options.mss.unwrap_or(DEFAULT_MSS);
            *self = Sender { syn: Some(Syn { seq, mss, scale: options.window_scale }), end: seq, ..*self };
            (self.fin_at, self.edge, self.tsval) = (None, None, None);
        }
    }

    fn say(&mut self, segment: &Segment<'_>) {
        let header = segment.header();
        let text_at = header.seq.wrapping_add(u32::from(header.flags.contains(Flags::SYN)));
        let text_end = text_at.wrapping_add(segment.payload().len() as u32);
        let has_fin = header.flags.contains(Flags::FIN);
        if has_fin {
            self.fin_at = self.fin_at.or(Some(text_end));
        }
        let end = text_end.wrapping_add(u32::from(has_fin));
        if is_after(end, self.end) {
            self.end = end;
        }
        if let Some(timestamps) = segment.options().timestamps {
            self.tsval = Some(timestamps.value);
        }
    }

    fn announce(&mut self, segment: &Segment<'_>, shift: u8) {
        if !segment.flags().contains(Flags::ACK) || segment.flags().contains(Flags::RST) {
            return;
        }
        let edge = right_edge(segment, shift);
        if self.edge.is_none_or(|known| is_after(edge, known)) {
            self.edge = Some(edge);
        }
    }
}

fn right_edge(segment: &Segment<'_>, shift: u8) -> u32 {
    let header = segment.header();
    header.ack.wrapping_add(u32::from(header.window) << shift)
}

/// Sequence numbers and timestamps wrap (RFC 9293 3.4).
fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

#[cfg(test)]
mod tests;
