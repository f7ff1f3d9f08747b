//! A connection played by hand, and what comes back in words.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use ringwire_lab::{Dissected, Field, Macs, RawPort, Segment, UdpPacket, Value, tcp_options as options};

use crate::frames;
use crate::odd::{Before, Clock, IcmpError, Odd, Packet, Quote, Then};
use crate::target::Target;

const ISS: u32 = 100_000;
/// Our clock of timestamps when the connection begins.
const TSVAL: u32 = 1_000_000;
const ICMP: u8 = 1;
/// Instead of an answer: the way to the odd packet did not lead there.
pub(crate) const NOT_THERE: &str = "did not get there";

/// Where a host may stand in its handshake and its end, as far as the other side sees it.
#[derive(Debug, Default)]
struct Seen {
    has_syn: bool,
    has_fin: bool,
    has_text: bool,
}

/// One odd packet to one target.
pub(crate) struct Play {
    pub(crate) src: SocketAddrV4,
    macs: Macs,
    dst: SocketAddrV4,
    snd_nxt: u32,
    rcv_nxt: u32,
    /// SEG.ACK of what came last, for the reset that ends it all.
    last_ack: u32,
    has_clock: bool,
    tsval: u32,
    tsecr: u32,
    seen: Seen,
    /// Number, length and FIN of what has come.
    heard: Vec<(u64, usize, bool)>,
    /// What came back, in words.
    said: Vec<String>,
    /// Length of `said` when this step began.
    mark: usize,
}

impl Play {
    pub(crate) fn new(target: &Target, odd: &Odd, src: SocketAddrV4, mac: [u8; 6]) -> Play {
        Play {
            src,
            macs: Macs { src: mac, dst: target.mac },
            dst: target.listener(odd.before),
            snd_nxt: ISS,
            rcv_nxt: 0,
            last_ack: ISS,
            has_clock: odd.clock != Clock::Never,
            tsval: TSVAL,
            tsecr: 0,
            seen: Seen::default(),
            heard: Vec::new(),
            said: Vec::new(),
            mark: 0,
        }
    }

    fn segment(&self, flags: &str) -> Segment {
        let mut segment =
            Segment { seq: self.snd_nxt, ack: self.rcv_nxt, ..Segment::new(self.src, self.dst, flags) };
        if self.has_clock {
            segment.options = options::timestamps(self.tsval, self.tsecr);
        }
        segment
    }

    fn send(&self, port: &mut RawPort, flags: &str) {
        port.send(self.segment(flags).frame(self.macs));
    }

    /// The handshake's beginning.
    pub(crate) fn open(&mut self, port: &mut RawPort) {
        self.send_syn(port);
        self.snd_nxt = ISS.wrapping_add(1);
    }

    fn send_syn(&self, port: &mut RawPort) {
        let mut syn = self.segment("S");
        syn.seq = ISS;
        syn.options = [options::mss(1460), syn.options].concat();
        port.send(syn.frame(self.macs));
    }

    /// The handshake's end, if there is to be one.
    pub(crate) fn complete(&mut self, port: &mut RawPort, before: Before) {
        if before.is_synchronised() {
            self.send(port, "A");
        }
    }

    /// Whether what the target has to say before the odd packet has come.
    pub(crate) fn is_ready(&self, before: Before) -> bool {
        use Before::{Closing, FinWait1, FinWait2, LastAck, Orphan, Sending, TimeWait};
        match before {
            Closing | FinWait1 | FinWait2 | LastAck | Orphan | TimeWait => self.seen.has_fin,
            Sending => self.seen.has_text,
            _ => self.seen.has_syn || !before.is_after_a_syn(),
        }
    }

    pub(crate) fn has_answer_to_syn(&self) -> bool {
        self.seen.has_syn
    }

    /// Sends what leads from the handshake's end to the target's FIN, where that is ours to do.
    pub(crate) fn send_first_fin(&mut self, port: &mut RawPort, before: Before) {
        if matches!(before, Before::CloseWait | Before::LastAck) {
            self.send_fin(port);
        }
    }

    /// The same from the target's FIN on.
    pub(crate) fn answer_fin(&mut self, port: &mut RawPort, before: Before) {
        if matches!(before, Before::FinWait2 | Before::Orphan | Before::TimeWait) {
            self.rcv_nxt = self.rcv_nxt.wrapping_add(1);
            self.send(port, "A");
        }
        if matches!(before, Before::Closing | Before::TimeWait) {
            self.send_fin(port);
        }
    }

    fn send_fin(&mut self, port: &mut RawPort) {
        self.send(port, "FA");
        self.snd_nxt = self.snd_nxt.wrapping_add(1);
    }

    /// From now on what comes is an answer.
    pub(crate) fn forget_answers(&mut self, before: Before) {
        self.said.clear();
        if !self.is_ready(before) {
            self.said.push(NOT_THERE.to_owned());
        }
    }

    pub(crate) fn begin_step(&mut self) {
        if !self.said.is_empty() {
            self.said.push("then".to_owned());
        }
        self.mark = self.said.len();
    }

    pub(crate) fn end_step(&mut self) {
        if self.said.len() == self.mark {
            self.said.push("silence".to_owned());
        }
    }

    pub(crate) fn send_odd(&mut self, port: &mut RawPort, odd: &Odd) {
        let frame = match &odd.packet {
            Packet::Segment { flags, seq, ack, options: bytes, payload } => {
                let mut segment = self.segment(flags);
                segment.seq = segment.seq.wrapping_add(*seq as u32);
                segment.ack = segment.ack.wrapping_add(*ack as u32);
                segment.options = match odd.clock {
                    Clock::Later(by) => options::timestamps(self.tsval.wrapping_add(by as u32), self.tsecr),
                    Clock::Never | Clock::Missing => bytes.clone(),
                };
                segment.payload.clone_from(payload);
                segment.frame(self.macs)
            }
            Packet::Error(error) => self.error(error),
            Packet::Message { kind, code, len } => {
                let [high, low] = self.src.port().to_be_bytes();
                let mut message = vec![*kind, *code, 0, 0, high, low, 0, 1];
                message.resize(8 + len, 0x55);
                self.packet(ICMP, &message)
            }
            Packet::Datagram { len } => {
                UdpPacket { src: self.src, dst: self.dst, payload: vec![0x55; *len] }.frame(self.macs)
            }
        };
        odd.frames(frame).into_iter().for_each(|frame| port.send(frame));
    }

    fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        frames::packet(&self.segment("").frame(self.macs), protocol, payload)
    }

    fn error(&self, error: &IcmpError) -> Vec<u8> {
        let mut sent = Segment::new(self.dst, self.src, "A");
        sent.seq = self.rcv_nxt.wrapping_add(error.seq as u32);
        if !self.seen.has_text && !self.seen.has_fin {
            // All that is in flight is the SYN.
            sent.seq = sent.seq.wrapping_sub(1);
        }
        match error.quote {
            Quote::OtherFlow => sent.src.set_port(1),
            Quote::OtherHost => sent.src.set_ip(Ipv4Addr::new(192, 0, 2, 1)),
            Quote::Usual | Quote::Short | Quote::Stump | Quote::OtherProtocol => {}
        }
        let quoted = sent.frame(self.macs);
        let mut quoted = quoted[frames::IP..frames::IP + 28].to_vec();
        match error.quote {
            Quote::Short => quoted.truncate(24),
            Quote::Stump => quoted.truncate(12),
            Quote::OtherProtocol => quoted[9] = 17,
            Quote::Usual | Quote::OtherFlow | Quote::OtherHost => {}
        }
        let [high, low] = error.mtu.to_be_bytes();
        let message = [&[error.kind, error.code, 0, 0, 0, 0, high, low], &quoted[..]].concat();
        self.packet(ICMP, &message)
    }

    /// What shows which connection there is now.
    pub(crate) fn send_probe(&mut self, port: &mut RawPort, odd: &Odd) {
        if odd.then == Then::Syn {
            return self.send_syn(port);
        }
        if odd.before == Before::Offer {
            self.snd_nxt = self.snd_nxt.wrapping_add(1);
            return self.send(port, "A");
        }
        self.tsval = self.tsval.wrapping_add(1);
        let mut text = Segment { payload: vec![0x66; 10], ..self.segment("A") };
        if !odd.before.takes_text() {
            text.seq = text.seq.wrapping_sub(1);
            text.payload.truncate(1);
        }
        port.send(text.frame(self.macs));
    }

    /// Nothing of it shall come later.
    pub(crate) fn reset(&self, port: &mut RawPort) {
        let reset = Segment { seq: self.last_ack, ..self.segment("R") };
        port.send(reset.frame(self.macs));
    }

    /// Whether a packet is about this play.
    pub(crate) fn is_mine(&self, packet: &Dissected) -> bool {
        let is_from = packet.get(Field::IpSrc) == Some(&Value::Ip(IpAddr::V4(*self.dst.ip())));
        let port = port_of(packet);
        // To port 0 only this play's host is answered.
        let is_to = port == 0 && packet.get(Field::IpDst) == Some(&Value::Ip(IpAddr::V4(*self.src.ip())));
        is_from && (port == self.src.port() || is_to)
    }

    /// Notes what came.
    pub(crate) fn on_packet(&mut self, packet: &Dissected) {
        let is_of_the_connection = port_of(packet) == self.src.port()
            && packet.get(Field::IpDst) == Some(&Value::Ip(IpAddr::V4(*self.src.ip())));
        if let (true, Some(flags)) = (is_of_the_connection, packet.get(Field::TcpFlags)) {
            self.follow(packet, &flags.to_string());
        }
        let Some(words) = self.words(packet) else { return };
        if !self.is_repeated(packet) {
            self.said.push(words);
        }
    }

    /// Where the target stands.
    fn follow(&mut self, packet: &Dissected, flags: &str) {
        if flags.contains('S') {
            self.rcv_nxt = (packet.number(Field::TcpSeq) as u32).wrapping_add(1);
            self.seen.has_syn = true;
            self.tsecr = packet.number(Field::TcpTimestamp) as u32;
        }
        if flags.contains('S') && packet.get(Field::TcpTimestamp).is_some() {
            // The offer may have had a clock of its own.
            self.has_clock = true;
            self.tsval = self.tsval.max(packet.number(Field::TcpTimestampEcho) as u32);
        }
        self.seen.has_fin |= flags.contains('F');
        self.seen.has_text |= !packet.payload().is_empty();
        if flags.contains('A') && !flags.contains('R') {
            self.last_ack = packet.number(Field::TcpAck) as u32;
        }
    }

    /// Whether it is text or a FIN that has come before: a loss probe or a timer may say it once more.
    fn is_repeated(&mut self, packet: &Dissected) -> bool {
        let has_fin = packet.get(Field::TcpFlags).is_some_and(|flags| flags.to_string().contains('F'));
        let what = (packet.number(Field::TcpSeq), packet.payload().len(), has_fin);
        let is_of_the_stream = packet.get(Field::TcpFlags).is_some() && (what.1 > 0 || has_fin);
        let is_new = !self.heard.contains(&what);
        self.heard.extend(is_new.then_some(what));
        is_of_the_stream && !is_new
    }

    /// Numbers are relative to those that would be right.
    fn words(&self, packet: &Dissected) -> Option<String> {
        let mut words = match (packet.get(Field::TcpFlags), packet.get(Field::IcmpType)) {
            (Some(flags), _) => self.segment_words(packet, &flags.to_string()),
            (None, Some(kind)) => {
                let words = format!("ICMP {kind}.{}", packet.number(Field::IcmpCode));
                // Which byte is wrong.
                let pointer = packet.number(Field::IcmpRest) >> 24;
                if *kind == Value::Number(12) { format!("{words} at {pointer}") } else { words }
            }
            (None, None) => format!("protocol {}", packet.get(Field::IpProtocol)?),
        };
        if packet.get(Field::ChecksumOk) == Some(&Value::Flag(false)) {
            words.push_str(" with a wrong checksum");
        }
        if packet.bytes()[frames::IP] & 0xf > 5 {
            words.push_str(" with IP options");
        }
        if let Some(Value::Ip(IpAddr::V4(dst))) = packet.get(Field::IpDst)
            && dst != self.src.ip()
        {
            // The subnet's number is the lab's choice.
            let is_subnet = dst.octets()[..3] == self.src.ip().octets()[..3];
            let to = if is_subnet { "the subnet".to_owned() } else { dst.to_string() };
            words.push_str(&format!(" to {to}"));
        }
        Some(words)
    }

    fn segment_words(&self, packet: &Dissected, flags: &str) -> String {
        let (seq, ack) = (packet.number(Field::TcpSeq) as u32, packet.number(Field::TcpAck) as u32);
        let relative = |number: u32, base: u32| number.wrapping_sub(base).cast_signed();
        // Who pushes when is not what is compared.
        let mut words = flags.replace('P', "");
        match seq {
            _ if flags.contains('S') => {}
            // RFC 9293 3.10.7.1: of a reset for a segment without ACK.
            0 => words.push_str(" seq zero"),
            seq => words.push_str(&format!(" seq {}", relative(seq, self.rcv_nxt))),
        }
        if flags.contains('A') {
            words.push_str(&format!(" ack {}", relative(ack, self.snd_nxt)));
        }
        if !packet.payload().is_empty() {
            words.push_str(&format!(" text {}", packet.payload().len()));
        }
        if flags.contains('S') {
            let offers = [
                (Field::TcpMss, "mss"),
                (Field::TcpWindowScale, "scale"),
                (Field::TcpSackPermitted, "sack"),
                (Field::TcpTimestamp, "clock"),
            ];
            let made = offers.iter().filter(|(field, _)| packet.get(*field).is_some());
            made.for_each(|(_, name)| words.push_str(&format!(" {name}")));
        }
        words
    }

    pub(crate) fn said(&self) -> String {
        self.said.join(", ")
    }
}

/// The port, here, that a packet is about: its own, that of what it quotes, or that which an echo has for an identifier; else 0.
fn port_of(packet: &Dissected) -> u16 {
    const ERRORS: [u64; 4] = [3, 5, 11, 12];
    let number = match packet.get(Field::IcmpType) {
        None => packet.number(Field::DstPort),
        Some(Value::Number(kind)) if ERRORS.contains(kind) => u64::from(quoted_port(packet.payload())),
        Some(_) => packet.number(Field::IcmpRest) >> 16,
    };
    u16::try_from(number).unwrap_or_default()
}

/// The source port in the beginning of an IP packet, if that has any.
fn quoted_port(quoted: &[u8]) -> u16 {
    let has_ports = quoted.get(9).is_some_and(|protocol| matches!(protocol, 6 | 17));
    let at = quoted.first().map_or(0, |byte| usize::from(byte & 0xf) * 4);
    let port = quoted.get(at..at + 2).and_then(|port| port.try_into().ok());
    port.filter(|_| has_ports).map_or(0, u16::from_be_bytes)
}
