//! What a packet is expected to look like, and how it differs.

use std::fmt;
use std::time::Duration;

use super::dissect::{Dissected, Field, Value, hexdump};

/// A description of packets: every field that is named must have the value given.
///
/// ```
/// use ringwire_lab::{Field, Match};
/// let syn_ack = Match::tcp().flags("SA").src_port(80).with(Field::TcpMss, 1460_u16);
/// assert_eq!(syn_ack.to_string(), "IpProtocol 6, TcpFlags SA, SrcPort 80, TcpMss 1460");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    wanted: Vec<(Field, Value)>,
}

impl Match {
    /// Any packet.
    pub fn any() -> Match {
        Match::default()
    }

    /// Any ARP packet.
    pub fn arp() -> Match {
        Match::any().with(Field::EthType, 0x0806_u16)
    }

    /// Any TCP segment.
    pub fn tcp() -> Match {
        Match::any().with(Field::IpProtocol, 6_u8)
    }

    /// Any UDP datagram.
    pub fn udp() -> Match {
        Match::any().with(Field::IpProtocol, 17_u8)
    }

    /// Any ICMP message over IPv4.
    pub fn icmp() -> Match {
        Match::any().with(Field::IpProtocol, 1_u8)
    }

    /// With this value in a field.
    #[must_use]
    pub fn with(mut self, field: Field, value: impl Into<Value>) -> Match {
        self.wanted.push((field, value.into()));
        self
    }

    /// From this address.
    #[must_use]
    pub fn src(self, ip: impl Into<std::net::IpAddr>) -> Match {
        self.with(Field::IpSrc, ip.into())
    }

    /// To this address.
    #[must_use]
    pub fn dst(self, ip: impl Into<std::net::IpAddr>) -> Match {
        self.with(Field::IpDst, ip.into())
    }

    /// From this port.
    #[must_use]
    pub fn src_port(self, port: u16) -> Match {
        self.with(Field::SrcPort, port)
    }

    /// To this port.
    #[must_use]
    pub fn dst_port(self, port: u16) -> Match {
        self.with(Field::DstPort, port)
    }

    /// With just these flags of `FSRPAUEC`, in any order.
    #[must_use]
    pub fn flags(self, letters: &str) -> Match {
        let sorted: String =
            super::packet::FLAG_LETTERS.iter().filter(|letter| letters.contains(**letter)).collect();
        self.with(Field::TcpFlags, &*sorted)
    }

    /// With this sequence number.
    #[must_use]
    pub fn seq(self, number: u32) -> Match {
        self.with(Field::TcpSeq, number)
    }

    /// With this acknowledgement number.
    #[must_use]
    pub fn ack(self, number: u32) -> Match {
        self.with(Field::TcpAck, number)
    }

    /// With this payload and no more.
    #[must_use]
    pub fn payload(self, bytes: impl AsRef<[u8]>) -> Match {
        self.with(Field::Payload, bytes.as_ref())
    }

    /// Whether a packet is as described.
    pub fn matches(&self, packet: &Dissected) -> bool {
        self.differences(packet).next().is_none()
    }

    /// The fields that differ: their name, what is wanted, what is there.
    fn differences<'m>(
        &'m self,
        packet: &'m Dissected,
    ) -> impl Iterator<Item = (Field, &'m Value, Option<&'m Value>)> {
        let look = |(field, wanted): &'m (Field, Value)| (*field, wanted, packet.get(*field));
        self.wanted.iter().map(look).filter(|(_, wanted, got)| *got != Some(*wanted))
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wanted.is_empty() {
            return f.write_str("any packet");
        }
        for (index, (field, value)) in self.wanted.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{field:?} {value}")?;
        }
        Ok(())
    }
}

/// What came instead of the packet that was expected. `Display` tells all of it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// What was expected.
    pub expected: Match,
    /// For how long.
    pub within: Duration,
    /// What came, in this order.
    pub got: Vec<Dissected>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "expected within {:?}: {}", self.within, self.expected)?;
        let closest =
            self.got.iter().enumerate().min_by_key(|(_, packet)| self.expected.differences(packet).count());
        let Some((at, packet)) = closest else { return f.write_str("got: nothing\n") };
        for (index, other) in self.got.iter().enumerate() {
            let mark = if index == at { "closest" } else { "got" };
            writeln!(f, "{mark}: {other}")?;
        }
        for (field, wanted, got) in self.expected.differences(packet) {
            match got {
                Some(got) => writeln!(f, "  {field:?}: expected {wanted}, got {got}")?,
                None => writeln!(f, "  {field:?}: expected {wanted}, and the packet has none")?,
            }
        }
        f.write_str(&hexdump(packet.bytes()))
    }
}

impl fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Mismatch {}
