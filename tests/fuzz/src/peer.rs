//! What a peer knows of one connection: enough to send honest segments and any other.

use ringwire_wire::tcp::{Flags, Header, Options, Timestamps};

use crate::engine::{Rig, Sent};
use crate::oracle::{check_sent, peer_text};

/// The worker's port that peers speak to.
pub(crate) const PORT: u16 = 80;

pub(crate) struct Peer {
    pub(crate) port: u16,
    /// Initial sequence numbers it has used, the last one in force.
    pub(crate) irss: Vec<u32>,
    /// Those that the worker has answered with.
    isses: Vec<u32>,
    /// What it sends next.
    pub(crate) nxt: u32,
    /// What the worker has acknowledged.
    pub(crate) acked: u32,
    /// The end of what the worker has sent.
    pub(crate) seen: u32,
    ts_seen: u32,
    has_timestamps: bool,
    /// The worker's port: of its listener, or of its active open.
    pub(crate) worker_port: u16,
    pub(crate) is_reset: bool,
}

impl Peer {
    pub(crate) fn new(port: u16, irs: u32) -> Peer {
        Peer {
            port,
            irss: vec![irs],
            isses: Vec::new(),
            nxt: irs.wrapping_add(1),
            acked: irs.wrapping_add(1),
            seen: 0,
            ts_seen: 0,
            has_timestamps: false,
            worker_port: PORT,
            is_reset: false,
        }
    }

    pub(crate) fn irs(&self) -> u32 {
        self.irss.last().copied().unwrap_or(0)
    }

    /// A new connection, from another sequence number.
    pub(crate) fn begin(&mut self, irs: u32) {
        if !self.irss.contains(&irs) {
            self.irss.push(irs);
        }
        self.nxt = irs.wrapping_add(1);
        self.acked = self.nxt;
    }

    /// The worker has sent this to it.
    pub(crate) fn on_sent(&mut self, sent: &Sent) {
        let Sent { header, options, text } = sent;
        self.worker_port = header.src_port;
        if header.flags.contains(Flags::RST) {
            self.is_reset = true;
            return;
        }
        if header.flags.contains(Flags::SYN) {
            self.isses.push(header.seq);
            self.seen = header.seq.wrapping_add(1);
            self.has_timestamps = options.timestamps.is_some();
        }
        let first = header.seq.wrapping_add(u32::from(header.flags.contains(Flags::SYN)));
        check_sent(&self.isses, first, text);
        let end = first.wrapping_add(text.len() as u32 + u32::from(header.flags.contains(Flags::FIN)));
        if end.wrapping_sub(self.seen).cast_signed() > 0 {
            self.seen = end;
        }
        if header.flags.contains(Flags::ACK) && header.ack.wrapping_sub(self.acked).cast_signed() > 0 {
            self.acked = header.ack;
        }
        if let Some(timestamps) = options.timestamps {
            self.ts_seen = timestamps.value;
        }
    }

    /// The header of a segment at `seq` that acknowledges `ack`.
    pub(crate) fn header(&self, flags: Flags, seq: u32, ack: u32, window: u16) -> Header {
        let (src_port, dst_port) = (self.port, self.worker_port);
        Header { src_port, dst_port, seq, ack, flags, window, urgent: 0 }
    }

    /// An honest segment of `len` bytes at `seq`.
    pub(crate) fn send(&self, rig: &mut Rig, seq: u32, len: usize) {
        self.send_flagged(rig, Flags::ACK, seq, len);
    }

    /// The same with more flags.
    pub(crate) fn send_flagged(&self, rig: &mut Rig, flags: Flags, seq: u32, len: usize) {
        let header = self.header(flags, seq, self.seen, u16::MAX);
        self.send_with(rig, &header, Options::default(), len);
    }

    /// With these options beside the timestamps.
    pub(crate) fn send_with(&self, rig: &mut Rig, header: &Header, mut options: Options, len: usize) {
        if self.has_timestamps && !header.flags.contains(Flags::SYN) {
            options.timestamps = Some(Timestamps { value: rig.now_ms(), echo: self.ts_seen });
        }
        let mut bytes = vec![0; options.encoded_len()];
        options.emit(&mut bytes);
        self.send_raw(rig, header, &bytes, len);
    }

    pub(crate) fn send_raw(&self, rig: &mut Rig, header: &Header, options: &[u8], len: usize) {
        let first = header.seq.wrapping_add(u32::from(header.flags.contains(Flags::SYN)));
        rig.inject_tcp(header, options, &peer_text(first, len.min(1400)));
    }
}
