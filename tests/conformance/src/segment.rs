//! A segment as a script writes it: what is named is sent or compared, the rest is filled in or ignored.

use std::fmt;

use ringwire_wire::tcp::{FastOpen, Flags, Options, SackBlocks, Timestamps};

/// A segment to inject, or what is expected of one that leaves.
///
/// Flags are always compared, except PSH, ECE and CWR where they are not named.
#[derive(Debug, Clone, Default)]
pub struct Segment {
    pub(crate) flags: Flags,
    /// Flags that must not be set, beside those that are never unnamed.
    pub(crate) without: Flags,
    pub(crate) seq: Option<u32>,
    pub(crate) ack: Option<u32>,
    pub(crate) window: Option<u16>,
    pub(crate) urgent: Option<u16>,
    pub(crate) text: Option<Vec<u8>>,
    pub(crate) len: Option<usize>,
    pub(crate) options: Options,
    pub(crate) raw_options: Option<Vec<u8>>,
    pub(crate) has_no_timestamps: bool,
    pub(crate) has_no_sack: bool,
    pub(crate) has_no_mss: bool,
    pub(crate) has_no_window_scale: bool,
    pub(crate) has_no_sack_permitted: bool,
    pub(crate) has_sack_permitted: bool,
    pub(crate) has_timestamps: bool,
    pub(crate) has_no_fast_open: bool,
    pub(crate) echo: Option<u32>,
    pub(crate) spoilt: Vec<Spoilt>,
    pub(crate) port: Option<u16>,
    pub(crate) tos: Option<u8>,
}

/// How an injected segment is broken after it was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoilt {
    Checksum,
    DataOffset(u8),
    ReservedBits,
}

/// A segment with these flags.
pub fn bare(flags: Flags) -> Segment {
    Segment { flags, ..Segment::default() }
}

/// SYN.
pub fn syn() -> Segment {
    bare(Flags::SYN)
}

/// SYN and ACK.
pub fn syn_ack() -> Segment {
    bare(Flags::SYN | Flags::ACK)
}

/// ACK without text.
pub fn ack() -> Segment {
    bare(Flags::ACK).len(0)
}

/// FIN and ACK.
pub fn fin() -> Segment {
    bare(Flags::FIN | Flags::ACK)
}

/// RST alone.
pub fn rst() -> Segment {
    bare(Flags::RST)
}

/// RST and ACK.
pub fn rst_ack() -> Segment {
    bare(Flags::RST | Flags::ACK)
}

/// ACK with this text.
pub fn data(text: impl AsRef<[u8]>) -> Segment {
    bare(Flags::ACK).text(text)
}

impl Segment {
    /// Sequence number, 0 being the sender's SYN.
    pub fn seq(mut self, seq: u32) -> Segment {
        self.seq = Some(seq);
        self
    }

    /// Acknowledgement number, 0 being the receiver's SYN.
    pub fn ack(mut self, ack: u32) -> Segment {
        self.ack = Some(ack);
        self
    }

    /// The window field as on the wire.
    pub fn win(mut self, window: u16) -> Segment {
        self.window = Some(window);
        self
    }

    /// One more flag, set.
    pub fn with(mut self, flag: Flags) -> Segment {
        self.flags |= flag;
        self
    }

    /// One more flag, expected not to be set.
    pub fn without(mut self, flag: Flags) -> Segment {
        self.without |= flag;
        self
    }

    /// PSH, set.
    pub fn psh(self) -> Segment {
        self.with(Flags::PSH)
    }

    /// The urgent pointer, with URG.
    pub fn urgent(mut self, pointer: u16) -> Segment {
        self.urgent = Some(pointer);
        self.with(Flags::URG)
    }

    /// The text.
    pub fn text(mut self, text: impl AsRef<[u8]>) -> Segment {
        let text = text.as_ref().to_vec();
        self.len = Some(text.len());
        self.text = Some(text);
        self
    }

    /// So many bytes of text, whatever they are.
    pub fn len(mut self, len: usize) -> Segment {
        self.len = Some(len);
        self
    }

    /// The MSS option.
    pub fn mss(mut self, mss: u16) -> Segment {
        self.options.mss = Some(mss);
        self
    }

    /// The window scale option.
    pub fn wscale(mut self, shift: u8) -> Segment {
        self.options.window_scale = Some(shift);
        self
    }

    /// The SACK-permitted option.
    pub fn sack_ok(mut self) -> Segment {
        self.options.sack_permitted = true;
        self.has_sack_permitted = true;
        self
    }

    /// The Fast Open option with this cookie, or the request for one.
    pub fn fast_open(mut self, option: FastOpen) -> Segment {
        self.options.fast_open = Some(option);
        self
    }

    /// Expected: no Fast Open option.
    pub fn no_fast_open(mut self) -> Segment {
        self.has_no_fast_open = true;
        self
    }

    /// The timestamps option.
    pub fn ts(mut self, value: u32, echo: u32) -> Segment {
        self.options.timestamps = Some(Timestamps { value, echo });
        self
    }

    /// Expected: timestamps with this echo.
    pub fn echo(mut self, echo: u32) -> Segment {
        self.has_timestamps = true;
        self.echo = Some(echo);
        self
    }

    /// Expected: timestamps, whatever they say.
    pub fn any_ts(mut self) -> Segment {
        self.has_timestamps = true;
        self
    }

    /// No timestamps option.
    pub fn no_ts(mut self) -> Segment {
        self.has_no_timestamps = true;
        self
    }

    /// The SACK option with these blocks, numbered like an acknowledgement.
    pub fn sack(mut self, blocks: &[(u32, u32)]) -> Segment {
        self.options.sack = SackBlocks::NONE;
        for &(left, right) in blocks {
            self.options.sack.push(left, right);
        }
        self
    }

    /// Expected: no SACK blocks.
    pub fn no_sack(mut self) -> Segment {
        self.has_no_sack = true;
        self
    }

    /// Expected: no SACK-permitted option.
    pub fn no_sack_ok(mut self) -> Segment {
        self.has_no_sack_permitted = true;
        self
    }

    /// Expected: no MSS option.
    pub fn no_mss(mut self) -> Segment {
        self.has_no_mss = true;
        self
    }

    /// Expected: no window scale option.
    pub fn no_wscale(mut self) -> Segment {
        self.has_no_window_scale = true;
        self
    }

    /// These bytes as the options, a multiple of four.
    pub fn raw_options(mut self, bytes: &[u8]) -> Segment {
        self.raw_options = Some(bytes.to_vec());
        self
    }

    /// The DSCP and ECN byte of the IP header.
    pub fn tos(mut self, tos: u8) -> Segment {
        self.tos = Some(tos);
        self
    }

    /// From, or to, this port of the peer.
    pub fn port(mut self, port: u16) -> Segment {
        self.port = Some(port);
        self
    }

    /// A checksum that does not fit.
    pub fn bad_checksum(mut self) -> Segment {
        self.spoilt.push(Spoilt::Checksum);
        self
    }

    /// A data offset of so many words.
    pub fn data_offset(mut self, words: u8) -> Segment {
        self.spoilt.push(Spoilt::DataOffset(words));
        self
    }

    /// All reserved bits set.
    pub fn reserved_bits(mut self) -> Segment {
        self.spoilt.push(Spoilt::ReservedBits);
        self
    }

    /// Sequence numbers that the segment takes up.
    pub(crate) fn seq_len(&self) -> u32 {
        let text = self.text.as_ref().map_or(0, Vec::len) as u32;
        text + u32::from(self.flags.contains(Flags::SYN)) + u32::from(self.flags.contains(Flags::FIN))
    }

    pub(crate) fn is_spoilt(&self, how: Spoilt) -> bool {
        self.spoilt.contains(&how)
    }

    /// The options part of [`fmt::Display`], for expectations that are not option values.
    fn wanted(&self) -> Vec<&'static str> {
        let named = [
            (self.has_no_timestamps, "no TS"),
            (self.has_timestamps, "TS"),
            (self.has_no_sack, "no SACK"),
            (self.has_no_mss, "no MSS"),
            (self.has_no_window_scale, "no wscale"),
            (self.has_no_sack_permitted, "no sackOK"),
            (self.has_no_fast_open, "no FO"),
        ];
        named.into_iter().filter(|(is_named, _)| *is_named).map(|(_, text)| text).collect()
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.flags)?;
        if self.without != Flags::NONE {
            write!(f, " without {}", self.without)?;
        }
        let numbers = [
            ("seq", self.seq),
            ("ack", self.ack),
            ("win", self.window.map(u32::from)),
            ("urg", self.urgent.map(u32::from)),
            ("len", self.len.map(|len| len as u32)),
            ("echo", self.echo),
            ("port", self.port.map(u32::from)),
            ("tos", self.tos.map(u32::from)),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                write!(f, " {name} {value}")?;
            }
        }
        f.write_str(&show_options(&self.options))?;
        for wanted in self.wanted() {
            write!(f, " ({wanted})")?;
        }
        match (&self.raw_options, self.spoilt.as_slice()) {
            (None, []) => Ok(()),
            (raw, spoilt) => write!(f, " raw options {raw:?} {spoilt:?}"),
        }
    }
}

/// Options in tcpdump's words.
pub(crate) fn show_options(options: &Options) -> String {
    let mut parts = Vec::new();
    parts.extend(options.mss.map(|mss| format!("mss {mss}")));
    parts.extend(options.sack_permitted.then(|| "sackOK".to_owned()));
    parts.extend(options.timestamps.map(|ts| format!("TS val {} ecr {}", ts.value, ts.echo)));
    parts.extend(options.window_scale.map(|shift| format!("wscale {shift}")));
    parts.extend(options.fast_open.map(|option| format!("FO {:02x?}", option.as_slice())));
    parts.extend((!options.sack.is_empty()).then(|| format!("sack {:?}", options.sack.as_slice())));
    if parts.is_empty() { String::new() } else { format!(" <{}>", parts.join(", ")) }
}
