//! Options and header fields of outgoing segments, and what the handshake's options agree on.

use ringwire_wire::tcp::{Flags, Header, MAX_WINDOW_SCALE, Options, SackBlocks, Timestamps};

use super::cold::Cold;
use super::tcb::{Bits, Shifts, Tcb};
use super::{Config, Payload};
use crate::{Instant, SeqNum};

/// Bytes of the timestamps option in a segment, with its padding (RFC 7323 appendix A).
const TIMESTAMPS_LEN: u16 = 12;

/// Bytes of the longest SACK option, with its padding (RFC 2018 3).
pub(super) const MAX_SACK_LEN: u32 = 36;

/// RFC 9293 3.7.1 (MUST-15): the peer's MSS if it does not say.
const DEFAULT_MSS: u16 = 536;

impl Tcb {
    /// Takes over what the peer's SYN offers and we do too.
    pub(super) fn adopt_options(&mut self, config: &Config, options: &Options) {
        // RFC 7323 2.2: scaling is in force only if both SYNs carry the option.
        if let (Some(ours), Some(peers)) = (config.window_scale, options.window_scale) {
            self.shifts = Shifts::new(peers.min(MAX_WINDOW_SCALE), ours.min(MAX_WINDOW_SCALE));
            self.flags.set(Bits::SCALED);
        }
        if let (true, Some(timestamps)) = (config.timestamps, options.timestamps) {
            self.flags.set(Bits::TIMESTAMPS);
            self.ts_recent = timestamps.value;
        }
        if config.sack && options.sack_permitted {
            self.flags.set(Bits::SACK);
        }
        let peers = options.mss.unwrap_or(DEFAULT_MSS);
        self.mss = effective_mss(peers, config, self.flags.has(Bits::TIMESTAMPS));
    }

    /// Options of our SYN or, once the peer's is known, SYN-ACK.
    pub(super) fn syn_options(&self, config: &Config, now: Instant, answer: bool) -> Options {
        let scaled = !answer || self.flags.has(Bits::SCALED);
        let stamped = if answer { self.flags.has(Bits::TIMESTAMPS) } else { config.timestamps };
        Options {
            mss: Some(config.mss),
            window_scale: config.window_scale.filter(|_| scaled).map(|shift| shift.min(MAX_WINDOW_SCALE)),
            sack_permitted: if answer { self.flags.has(Bits::SACK) } else { config.sack },
            timestamps: stamped.then(|| self.timestamps(now)),
            ..Options::default()
        }
    }

    /// Options of a segment after the handshake.
    #[inline]
    pub(super) fn segment_options(&self, now: Instant) -> Options {
        // RFC 7323 3.2: once agreed, in every segment.
        let timestamps = self.flags.has(Bits::TIMESTAMPS).then(|| self.timestamps(now));
        Options { timestamps, ..Options::default() }
    }

    /// The SACK blocks for a segment with `room` bytes to spare beside its text (RFC 2018 4).
    #[inline]
    pub(super) fn sack_blocks<P: Payload, S>(&self, cold: Option<&mut Cold<P, S>>, room: u32) -> SackBlocks {
        if !self.flags.has(Bits::HOLES.or(Bits::DSACK)) || !self.flags.has(Bits::SACK) || room < MAX_SACK_LEN
        {
            return SackBlocks::NONE;
        }
        cold.map_or(SackBlocks::NONE, |cold| cold.reassembly.blocks(self.rcv.nxt))
    }

    /// A header that acknowledges everything received; what was delayed rides along.
    #[inline]
    pub(super) fn ack_header(&mut self, seq: SeqNum, flags: Flags) -> Header {
        self.rcv.ack_sent = self.rcv.nxt;
        self.flags.clear(Bits::TX_ACK);
        self.delack_at = super::tcb::NEVER;
        let window = self.announce(self.rcv.nxt, flags);
        Header {
            src_port: 0,
            dst_port: 0,
            seq: seq.0,
            ack: self.rcv.nxt.0,
            flags: flags | Flags::ACK | self.ecn_ack_flags(),
            window,
            urgent: 0,
        }
    }

    /// The window field beside an acknowledgement of what is before `ack`. What is below the scale's unit cannot be said: it is rounded
    /// up and so given, as to round it down would take back what was announced (RFC 9293 SHLD-14, RFC 7323 2.4); Linux does the same.
    #[inline]
    pub(super) fn announce(&mut self, ack: SeqNum, flags: Flags) -> u16 {
        // RFC 7323 2.2: that of a SYN is not scaled.
        let shift = if flags.contains(Flags::SYN) { 0 } else { self.shifts.rcv() };
        let units = (self.rcv.adv.distance(ack) + ((1 << shift) - 1)) >> shift;
        // Adoption limited it to 16 bits.
        let window = u16::try_from(units).unwrap_or(u16::MAX);
        self.rcv.adv = self.rcv.adv.later(ack + (u32::from(window) << shift));
        window
    }

    /// Our timestamp clock: milliseconds plus the connection's secret offset (RFC 7323 5.4, 7.1).
    #[inline]
    pub(super) fn ts_now(&self, now: Instant) -> u32 {
        now_ms(now).wrapping_add(self.ts_offset)
    }

    /// The round trip an echoed timestamp measures, in microseconds (RFC 7323 4.1); none if it cannot be ours.
    pub(super) fn echo_rtt_us(&self, now: Instant, timestamps: Option<Timestamps>) -> Option<u32> {
        let echo = timestamps.filter(|_| self.flags.has(Bits::TIMESTAMPS))?.echo;
        let elapsed_ms = self.ts_now(now).wrapping_sub(echo);
        (elapsed_ms <= super::rtt::MAX_RTT_US / 1_000).then(|| elapsed_ms.max(1) * 1_000)
    }

    fn timestamps(&self, now: Instant) -> Timestamps {
        Timestamps { value: self.ts_now(now), echo: self.ts_recent }
    }
}

/// Payload bytes of a full segment to a peer that takes `peers` (RFC 9293 3.7.1: options come off).
pub(super) fn effective_mss(peers: u16, config: &Config, timestamps: bool) -> u16 {
    let options_len = if timestamps { TIMESTAMPS_LEN } else { 0 };
    peers.min(config.mss).max(config.min_mss).saturating_sub(options_len).max(1)
}

/// Milliseconds of `now` on a 32-bit ring (49 days).
#[inline]
pub(super) fn now_ms(now: Instant) -> u32 {
    // Truncation is the ring.
    now.as_millis() as u32
}
