//! TIME-WAIT without a connection: what the rules need to know of one that is over, in 24 bytes.
//!
//! The same steps as [`Tcb`]'s own in that state (a test plays both), for a connection that nobody reads or writes any more. Owns
//! neither tuple nor deadline.

use core::mem::size_of;
use core::time::Duration;

use ringwire_wire::tcp::{Flags, Header, Options, Timestamps};

use super::options::now_ms;
use super::tcb::{Bits, State, Tcb, Timer};
use super::{Cx, SegmentIn, SendPool, arrival::CHALLENGE_INTERVAL_MS};
use crate::{DropReason, Instant, SeqNum};

/// A connection in TIME-WAIT.
#[derive(Debug, Clone, Copy)]
pub struct TimeWait {
    snd_nxt: SeqNum,
    rcv_nxt: SeqNum,
    ts_recent: u32,
    /// Milliseconds of the last rate-limited ACK, if `was_challenged`.
    challenge_ms: u32,
    /// As it stands in the header.
    window: u16,
    /// MAX.SND.WND in units of 2^14, rounded up.
    max_wnd: u16,
    rcv_shift: u8,
    has_timestamps: bool,
    was_challenged: bool,
}

const _: () = assert!(size_of::<TimeWait>() == 24);

/// What a segment asks of the owner of a [`TimeWait`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing but counting the drop.
    Drop(DropReason),
    /// Send [`TimeWait::ack`], and count the drop.
    Answer(DropReason),
    /// The same, and the time begins anew.
    AnswerAndRestart(DropReason),
    /// A SYN for a new connection: if there is a listener, forget this one and give it the SYN (RFC 6191 2), else
    /// [`TimeWait::refuse_new_syn`].
    NewSyn,
}

/// A piece in a connection's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held<'a, P, S> {
    /// In order and unread, or ahead of a gap.
    Received(&'a P),
    /// Waits to be sent or acknowledged.
    ToSend(&'a S),
}

impl Tcb {
    /// Since when the peer has acknowledged nothing of what waits for it; none if nothing waits.
    pub fn waits_since(&self) -> Option<Instant> {
        let is_waiting = self.state != State::Closed && (self.flight() > 0 || self.timer == Timer::Persist);
        is_waiting.then_some(self.progress_at)
    }

    /// The retransmission timeout without back-off.
    pub fn rto(&self) -> Duration {
        Duration::from_micros(self.rtt.rto_us().into())
    }

    /// Whether one of the pieces that it holds is such a one.
    pub fn holds<P, A: SendPool>(
        &self,
        cx: &Cx<'_, P, A>,
        is_such: impl Fn(Held<'_, P, A::Buf>) -> bool,
    ) -> bool {
        cx.cold.get(self.cold).is_some_and(|cold| {
            cold.send.bufs().any(|buf| is_such(Held::ToSend(buf)))
                || cold.unread.iter().any(|piece| is_such(Held::Received(piece)))
                || cold.reassembly.payloads().any(|piece| is_such(Held::Received(piece)))
        })
    }

    /// What has to be remembered of a connection in TIME-WAIT that has said everything; none in any other state.
    pub fn time_wait(&self) -> Option<TimeWait> {
        if self.state != State::TimeWait || self.wants_transmit() || !self.cold.is_none() {
            return None;
        }
        Some(TimeWait {
            snd_nxt: self.snd.nxt,
            rcv_nxt: self.rcv.nxt,
            ts_recent: self.ts_recent,
            challenge_ms: self.challenge_ms,
            window: u16::try_from(self.rcv_wnd() >> self.shifts.rcv()).unwrap_or(u16::MAX),
            max_wnd: u16::try_from(self.snd.max_wnd.div_ceil(1 << 14)).unwrap_or(u16::MAX),
            rcv_shift: self.shifts.rcv(),
            has_timestamps: self.flags.has(Bits::TIMESTAMPS),
            was_challenged: self.flags.has(Bits::CHALLENGED),
        })
    }
}

impl TimeWait {
    /// A segment arrived, with so much text.
    pub fn on_segment(&mut self, seg: &SegmentIn, text_len: u32, now: Instant) -> Reaction {
        let flags = seg.header.flags;
        let seq = SeqNum(seg.header.seq);
        if flags.contains(Flags::SYN) && !flags.intersects(Flags::ACK | Flags::RST | Flags::FIN) {
            return self.on_syn(seg, now);
        }
        if flags.contains(Flags::FIN) && seq + text_len + 1 == self.rcv_nxt {
            // RFC 9293 3.10.7.4, fifth: acknowledge the repeated FIN and wait another 2 MSL.
            return Reaction::AnswerAndRestart(DropReason::TcpTimeWait);
        }
        match self.check_timestamps(seg).and_then(|()| self.check_sequence(seg, text_len)) {
            Ok(()) => match self.on_acceptable(seg, now) {
                // It did not fit into the window.
                Reaction::Drop(reason) if text_len > 0 && seq == self.edge() => Reaction::Answer(reason),
                reaction => reaction,
            },
            Err(reason) if flags.contains(Flags::RST) || reason == DropReason::TcpMissingTimestamp => {
                Reaction::Drop(reason)
            }
            // One with text is no part of an ACK loop; the others are rate-limited.
            Err(reason) if text_len > 0 && !flags.contains(Flags::SYN) => Reaction::Answer(reason),
            Err(reason) => self.challenge(reason, now),
        }
    }

    /// After [`Reaction::NewSyn`]: nobody listens. What nothing new follows is not ended either (RFC 5961 4.2).
    pub fn refuse_new_syn(&mut self, now: Instant) -> Reaction {
        self.challenge(DropReason::TcpTimeWait, now)
    }

    /// The numbers of the connection's successor come after this one (RFC 6191 2).
    pub fn snd_nxt(&self) -> SeqNum {
        self.snd_nxt
    }

    /// The acknowledgement that answers.
    pub fn ack(&self, now: Instant, timestamp_offset: u32) -> (Header, Options) {
        let header = Header {
            seq: self.snd_nxt.0,
            ack: self.rcv_nxt.0,
            flags: Flags::ACK,
            window: self.window,
            ..Header::default()
        };
        let value = now_ms(now).wrapping_add(timestamp_offset);
        let timestamps = self.has_timestamps.then_some(Timestamps { value, echo: self.ts_recent });
        (header, Options { timestamps, ..Options::default() })
    }

    /// RFC 9293 3.10.7.4 and RFC 6191 2: a SYN that cannot be an old duplicate opens a new connection.
    fn on_syn(&mut self, seg: &SegmentIn, now: Instant) -> Reaction {
        let newer_seq = SeqNum(seg.header.seq).after(self.rcv_nxt);
        let newer = match (self.has_timestamps, seg.options.timestamps) {
            (true, Some(timestamps)) if timestamps.value == self.ts_recent => newer_seq,
            (true, Some(timestamps)) => timestamps.value.wrapping_sub(self.ts_recent).cast_signed() > 0,
            // A peer that now offers timestamps and did not before has restarted.
            (false, Some(_)) => true,
            (true | false, None) => newer_seq,
        };
        if newer { Reaction::NewSyn } else { self.challenge(DropReason::TcpTimeWait, now) }
    }

    /// RFC 7323 5.3 (R1). TS.Recent does not grow old here: TIME-WAIT is shorter than 24 days.
    fn check_timestamps(&self, seg: &SegmentIn) -> Result<(), DropReason> {
        let flags = seg.header.flags;
        if !self.has_timestamps || flags.contains(Flags::RST) {
            return Ok(());
        }
        let Some(timestamps) = seg.options.timestamps else {
            return if flags.contains(Flags::SYN) { Ok(()) } else { Err(DropReason::TcpMissingTimestamp) };
        };
        let older = timestamps.value.wrapping_sub(self.ts_recent).cast_signed() < 0;
        if older { Err(DropReason::TcpPaws) } else { Ok(()) }
    }

    /// First: sequence number.
    fn check_sequence(&self, seg: &SegmentIn, text_len: u32) -> Result<(), DropReason> {
        let flags = seg.header.flags;
        let (seq, nxt, edge) = (SeqNum(seg.header.seq), self.rcv_nxt, self.edge());
        let controls = u32::from(flags.contains(Flags::SYN)) + u32::from(flags.contains(Flags::FIN));
        let len = text_len + controls;
        let last = if flags.contains(Flags::RST) && edge != nxt { edge - 1 } else { edge };
        if seq.distance(nxt) <= last.distance(nxt) || nxt.distance(seq) < len {
            return Ok(());
        }
        let is_old = !flags.contains(Flags::RST) && (seq + len).before_eq(nxt);
        Err(if is_old { DropReason::TcpDuplicate } else { DropReason::TcpOutOfWindow })
    }

    /// Second, fourth and fifth: RST, SYN, ACK.
    fn on_acceptable(&mut self, seg: &SegmentIn, now: Instant) -> Reaction {
        let flags = seg.header.flags;
        let (seq, ack) = (SeqNum(seg.header.seq), SeqNum(seg.header.ack));
        if flags.contains(Flags::RST) {
            // RFC 5961 3.2, RFC 1337 3 (F1).
            let is_exact = seq == self.rcv_nxt;
            return if is_exact {
                Reaction::Drop(DropReason::TcpTimeWait)
            } else {
                self.challenge(DropReason::TcpRstChallenged, now)
            };
        }
        let challenge = if flags.contains(Flags::SYN) {
            Some(DropReason::TcpSynChallenged)
        } else if !flags.contains(Flags::ACK) {
            return Reaction::Drop(DropReason::TcpNoAck);
        } else if ack.after(self.snd_nxt) {
            Some(DropReason::TcpAckUnsent)
        } else if ack.before(self.snd_nxt - (u32::from(self.max_wnd) << 14)) {
            Some(DropReason::TcpAckTooOld)
        } else {
            None
        };
        if let Some(reason) = challenge {
            return self.challenge(reason, now);
        }
        if let Some(timestamps) = seg.options.timestamps
            && seq.before_eq(self.rcv_nxt)
        {
            self.ts_recent = timestamps.value;
        }
        Reaction::Drop(DropReason::TcpTimeWait)
    }

    /// RFC 5961 7
    fn challenge(&mut self, reason: DropReason, now: Instant) -> Reaction {
        let now_ms = now_ms(now);
        if self.was_challenged && now_ms.wrapping_sub(self.challenge_ms) < CHALLENGE_INTERVAL_MS {
            return Reaction::Drop(reason);
        }
        self.was_challenged = true;
        self.challenge_ms = now_ms;
        Reaction::Answer(reason)
    }

    fn edge(&self) -> SeqNum {
        self.rcv_nxt + (u32::from(self.window) << self.rcv_shift)
    }
}
