//! What is in a packet: its header fields by name, and a line that says it all.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringwire_wire::checksum::Sum;

/// A header field, or something that can be said of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the headers")]
pub enum Field {
    EthDst,
    EthSrc,
    EthType,
    VlanTag,
    ArpOperation,
    ArpSenderMac,
    ArpSenderIp,
    ArpTargetMac,
    ArpTargetIp,
    IpVersion,
    IpTos,
    IpLen,
    IpId,
    IpDontFragment,
    IpMoreFragments,
    IpFragmentOffset,
    IpTtl,
    IpProtocol,
    /// Whether the header's checksum is right; IPv4 only.
    IpChecksumOk,
    IpFlowLabel,
    IpSrc,
    IpDst,
    SrcPort,
    DstPort,
    /// Whether the checksum of TCP, UDP or ICMP is right; absent where there is none.
    ChecksumOk,
    UdpLen,
    TcpSeq,
    TcpAck,
    /// Letters of F S R P A U E C, in this order.
    TcpFlags,
    TcpWindow,
    TcpUrgent,
    TcpMss,
    TcpWindowScale,
    TcpSackPermitted,
    /// The blocks as they lie in the option: pairs of 32-bit edges.
    TcpSack,
    TcpTimestamp,
    TcpTimestampEcho,
    IcmpType,
    IcmpCode,
    /// The four bytes after the checksum.
    IcmpRest,
    /// What follows the last header.
    Payload,
    PayloadLen,
    /// Bytes of the whole frame.
    FrameLen,
}

/// The content of a [`Field`].
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the types")]
pub enum Value {
    Number(u64),
    Flag(bool),
    Ip(IpAddr),
    Mac([u8; 6]),
    Text(String),
    Bytes(Vec<u8>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number}"),
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Ip(ip) => write!(f, "{ip}"),
            Value::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
            Value::Text(text) => f.write_str(text),
            Value::Bytes(bytes) if bytes.len() > 32 => {
                write!(f, "\"{}\".. ({} bytes)", bytes[..32].escape_ascii(), bytes.len())
            }
            Value::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! value_from {
    ($($from:ty => $value:ident => $make:expr;)+) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Value {
                $make
            }
        })+
    };
}

value_from! {
    u8 => number => Value::Number(number.into());
    u16 => number => Value::Number(number.into());
    u32 => number => Value::Number(number.into());
    u64 => number => Value::Number(number);
    bool => flag => Value::Flag(flag);
    IpAddr => ip => Value::Ip(ip);
    Ipv4Addr => ip => Value::Ip(ip.into());
    Ipv6Addr => ip => Value::Ip(ip.into());
    [u8; 6] => mac => Value::Mac(mac);
    &str => text => Value::Text(text.to_owned());
    Vec<u8> => bytes => Value::Bytes(bytes);
    &[u8] => bytes => Value::Bytes(bytes.to_vec());
}

/// A packet and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dissected {
    bytes: Vec<u8>,
    fields: Vec<(Field, Value)>,
}

impl Dissected {
    /// Takes an Ethernet frame apart, as far as it can be.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Dissected {
        let bytes = bytes.into();
        let mut fields = Fields(vec![(Field::FrameLen, Value::Number(bytes.len() as u64))]);
        // Whatever is cut short ends the dissection; what was found stays.
        let _ = fields.ethernet(&bytes);
        let Fields(fields) = fields;
        Dissected { bytes, fields }
    }

    /// The whole frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A field, if the packet has it.
    pub fn get(&self, field: Field) -> Option<&Value> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, value)| value)
    }

    /// A field that is a number; 0 if the packet has none.
    pub fn number(&self, field: Field) -> u64 {
        match self.get(field) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }

    /// What follows the last header.
    pub fn payload(&self) -> &[u8] {
        match self.get(Field::Payload) {
            Some(Value::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }

    /// Every field that was found, in the order of the headers.
    pub fn fields(&self) -> &[(Field, Value)] {
        &self.fields
    }

    fn text(&self, field: Field) -> String {
        self.get(field).map_or_else(|| "?".into(), Value::to_string)
    }

    fn transport(&self) -> &'static str {
        match (self.number(Field::EthType), self.number(Field::IpProtocol)) {
            (0x0806, _) => "ARP",
            (0x0800 | 0x86dd, 6) => "TCP",
            (0x0800 | 0x86dd, 17) => "UDP",
            (0x0800, 1) => "ICMP",
            (0x86dd, 58) => "ICMPv6",
            (0x0800 | 0x86dd, _) => "IP",
            _ => "Ethernet",
        }
    }
}

/// One line, much as tshark writes it.
impl fmt::Display for Dissected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, transport) = (self.bytes.len(), self.transport());
        let text = |field| self.text(field);
        if transport == "ARP" {
            return match self.number(Field::ArpOperation) {
                1 => write!(
                    f,
                    "ARP {len} who has {}? tell {}",
                    text(Field::ArpTargetIp),
                    text(Field::ArpSenderIp)
                ),
                _ => write!(f, "ARP {len} {} is at {}", text(Field::ArpSenderIp), text(Field::ArpSenderMac)),
            };
        }
        if transport == "Ethernet" {
            let (src, dst) = (text(Field::EthSrc), text(Field::EthDst));
            return write!(f, "{src} > {dst} Ethernet {len} type {:#06x}", self.number(Field::EthType));
        }
        write!(f, "{} > {} {transport} {len}", text(Field::IpSrc), text(Field::IpDst))?;
        match transport {
            "TCP" => self.write_tcp(f),
            "UDP" => {
                let (from, to) = (text(Field::SrcPort), text(Field::DstPort));
                write!(f, " {from} > {to} Len={}", text(Field::PayloadLen))
            }
            "ICMP" | "ICMPv6" => write!(f, " type {} code {}", text(Field::IcmpType), text(Field::IcmpCode)),
            _ => write!(f, " protocol {}", text(Field::IpProtocol)),
        }
    }
}

impl Dissected {
    fn write_tcp(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |field| self.text(field);
        write!(f, " {} > {} [{}]", text(Field::SrcPort), text(Field::DstPort), text(Field::TcpFlags))?;
        write!(f, " Seq={} Ack={}", text(Field::TcpSeq), text(Field::TcpAck))?;
        write!(f, " Win={} Len={}", text(Field::TcpWindow), text(Field::PayloadLen))?;
        let options = [
            (Field::TcpMss, "MSS"),
            (Field::TcpWindowScale, "WS"),
            (Field::TcpTimestamp, "TSval"),
            (Field::TcpTimestampEcho, "TSecr"),
        ];
        for (field, name) in options {
            if let Some(value) = self.get(field) {
                write!(f, " {name}={value}")?;
            }
        }
        if self.get(Field::TcpSackPermitted).is_some() {
            f.write_str(" SACK_PERM")?;
        }
        if let Some(Value::Bytes(blocks)) = self.get(Field::TcpSack) {
            for block in blocks.chunks_exact(8) {
                write!(f, " SACK={}-{}", number(&block[..4]), number(&block[4..]))?;
            }
        }
        if self.get(Field::ChecksumOk) == Some(&Value::Flag(false)) {
            f.write_str(" [bad checksum]")?;
        }
        Ok(())
    }
}

/// Sixteen bytes a line, as text beside.
pub(crate) fn hexdump(bytes: &[u8]) -> String {
    let line = |(at, line): (usize, &[u8])| {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let graphic = |byte: &u8| if byte.is_ascii_graphic() { *byte as char } else { '.' };
        let text: String = line.iter().map(graphic).collect();
        format!("  {:04x}  {:<47}  {text}\n", at * 16, hex.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Fields being found.
struct Fields(Vec<(Field, Value)>);

impl Fields {
    fn add(&mut self, field: Field, value: impl Into<Value>) {
        self.0.push((field, value.into()));
    }

    fn numbers(&mut self, bytes: &[u8], places: &[(Field, usize, usize)]) -> Option<()> {
        for &(field, at, len) in places {
            self.add(field, number(bytes.get(at..at + len)?));
        }
        Some(())
    }

    fn ethernet(&mut self, frame: &[u8]) -> Option<()> {
        self.add(Field::EthDst, *frame.first_chunk::<6>()?);
        self.add(Field::EthSrc, *frame.get(6..)?.first_chunk::<6>()?);
        let mut at = 12;
        let mut kind = number(frame.get(12..14)?);
        while matches!(kind, 0x8100 | 0x88a8) {
            self.add(Field::VlanTag, number(frame.get(at + 2..at + 4)?));
            at += 4;
            kind = number(frame.get(at..at + 2)?);
        }
        self.add(Field::EthType, kind);
        let rest = frame.get(at + 2..)?;
        match kind {
            0x0806 => self.arp(rest),
            0x0800 => self.ipv4(rest),
            0x86dd => self.ipv6(rest),
            _ => self.payload(rest),
        }
    }

    fn payload(&mut self, bytes: &[u8]) -> Option<()> {
        self.add(Field::Payload, bytes);
        self.add(Field::PayloadLen, bytes.len() as u64);
        Some(())
    }

    fn arp(&mut self, arp: &[u8]) -> Option<()> {
        self.numbers(arp, &[(Field::ArpOperation, 6, 2)])?;
        self.add(Field::ArpSenderMac, *arp.get(8..)?.first_chunk::<6>()?);
        self.add(Field::ArpSenderIp, Ipv4Addr::from(*arp.get(14..)?.first_chunk::<4>()?));
        self.add(Field::ArpTargetMac, *arp.get(18..)?.first_chunk::<6>()?);
        self.add(Field::ArpTargetIp, Ipv4Addr::from(*arp.get(24..)?.first_chunk::<4>()?));
        Some(())
    }

    fn ipv4(&mut self, ip: &[u8]) -> Option<()> {
        let header_len = usize::from(ip.first()? & 0xf) * 4;
        self.add(Field::IpVersion, ip[0] >> 4);
        self.numbers(ip, &[(Field::IpTos, 1, 1), (Field::IpLen, 2, 2), (Field::IpId, 4, 2)])?;
        let fragment = number(ip.get(6..8)?);
        self.add(Field::IpDontFragment, fragment & 0x4000 != 0);
        self.add(Field::IpMoreFragments, fragment & 0x2000 != 0);
        self.add(Field::IpFragmentOffset, (fragment & 0x1fff) * 8);
        self.numbers(ip, &[(Field::IpTtl, 8, 1), (Field::IpProtocol, 9, 1)])?;
        let header = ip.get(..header_len).filter(|header| header.len() >= 20)?;
        self.add(Field::IpChecksumOk, Sum::of(header).is_valid());
        self.add(Field::IpSrc, Ipv4Addr::from(*ip.get(12..)?.first_chunk::<4>()?));
        self.add(Field::IpDst, Ipv4Addr::from(*ip.get(16..)?.first_chunk::<4>()?));
        // Padding behind the packet belongs to the link.
        let len = (number(&ip[2..4]) as usize).clamp(header_len, ip.len());
        let rest = ip.get(header_len..len)?;
        if fragment & 0x1fff != 0 {
            return self.payload(rest);
        }
        let pseudo = Sum::of(&ip[12..20]).add_u16(u16::from(ip[9])).add_u16(rest.len() as u16);
        self.transport(ip[9], rest, pseudo)
    }

    fn ipv6(&mut self, ip: &[u8]) -> Option<()> {
        let first = number(ip.get(..4)?);
        self.add(Field::IpVersion, first >> 28);
        self.add(Field::IpTos, first >> 20 & 0xff);
        self.add(Field::IpFlowLabel, first & 0xf_ffff);
        self.numbers(ip, &[(Field::IpLen, 4, 2), (Field::IpProtocol, 6, 1), (Field::IpTtl, 7, 1)])?;
        self.add(Field::IpSrc, Ipv6Addr::from(*ip.get(8..)?.first_chunk::<16>()?));
        self.add(Field::IpDst, Ipv6Addr::from(*ip.get(24..)?.first_chunk::<16>()?));
        let len = (40 + number(&ip[4..6]) as usize).min(ip.len());
        let rest = ip.get(40..len)?;
        let pseudo = Sum::of(&ip[8..40]).add_u16(u16::from(ip[6])).add_u16(rest.len() as u16);
        self.transport(ip[6], rest, pseudo)
    }

    fn transport(&mut self, protocol: u8, bytes: &[u8], pseudo: Sum) -> Option<()> {
        const ICMP: u8 = 1;
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        const ICMPV6: u8 = 58;
        let sum = Sum::of(bytes);
        match protocol {
            TCP => {
                self.add(Field::ChecksumOk, (pseudo + sum).is_valid());
                self.tcp(bytes)
            }
            UDP => {
                if bytes.get(6..8)? != [0, 0] {
                    self.add(Field::ChecksumOk, (pseudo + sum).is_valid());
                }
                self.numbers(
                    bytes,
                    &[(Field::SrcPort, 0, 2), (Field::DstPort, 2, 2), (Field::UdpLen, 4, 2)],
                )?;
                self.payload(bytes.get(8..)?)
            }
            ICMP | ICMPV6 => {
                let is_valid = if protocol == ICMP { sum.is_valid() } else { (pseudo + sum).is_valid() };
                self.add(Field::ChecksumOk, is_valid);
                self.numbers(
                    bytes,
                    &[(Field::IcmpType, 0, 1), (Field::IcmpCode, 1, 1), (Field::IcmpRest, 4, 4)],
                )?;
                self.payload(bytes.get(8..)?)
            }
            _ => self.payload(bytes),
        }
    }

    fn tcp(&mut self, tcp: &[u8]) -> Option<()> {
        self.numbers(tcp, &[(Field::SrcPort, 0, 2), (Field::DstPort, 2, 2)])?;
        self.numbers(tcp, &[(Field::TcpSeq, 4, 4), (Field::TcpAck, 8, 4)])?;
        let flags = *tcp.get(13)?;
        let letters = super::packet::FLAG_LETTERS.iter().enumerate();
        let text: String =
            letters.filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, letter)| letter).collect();
        self.add(Field::TcpFlags, &*text);
        self.numbers(tcp, &[(Field::TcpWindow, 14, 2), (Field::TcpUrgent, 18, 2)])?;
        let header_len = usize::from(tcp[12] >> 4) * 4;
        self.tcp_options(tcp.get(20..header_len)?);
        self.payload(tcp.get(header_len..)?)
    }

    fn tcp_options(&mut self, mut options: &[u8]) {
        while let Some(&kind) = options.first() {
            if kind == 0 {
                return;
            }
            let len = if kind == 1 { 1 } else { options.get(1).map_or(0, |&len| usize::from(len)) };
            let Some((option, rest)) = options.split_at_checked(len).filter(|_| len > 0) else { return };
            match (kind, len) {
                (2, 4) => self.add(Field::TcpMss, number(&option[2..])),
                (3, 3) => self.add(Field::TcpWindowScale, option[2]),
                (4, 2) => self.add(Field::TcpSackPermitted, true),
                (5, _) => self.add(Field::TcpSack, &option[2..]),
                (8, 10) => {
                    self.add(Field::TcpTimestamp, number(&option[2..6]));
                    self.add(Field::TcpTimestampEcho, number(&option[6..]));
                }
                _ => {}
            }
            options = rest;
        }
    }
}
