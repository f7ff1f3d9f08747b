//! Opening: active, passive and simultaneous (RFC 9293 3.5, 3.10.7.1 to 3.10.7.3).

use ringwire_wire::tcp::{Flags, Header, Options};

use super::arrival::{Arrival, Step};
use super::config::micros;
use super::options::now_ms;
use super::tcb::{Bits, FastOpenStage, State, Tcb, Timer};
use super::timers::{Limit, MAX_BACKOFF};
use super::{CloseReason, Config, Cx, Outcome, Payload, Seed, SegmentIn, SendPool, Signals, Window};
use crate::{DropReason, Instant, SeqNum};

/// What a listener does with a segment that belongs to no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenVerdict {
    /// A SYN: make a connection with [`Tcb::accept`].
    Accept,
    /// Answer with [`reset_for`] (or, with SYN cookies, look whether the ACK carries one).
    Reset,
    /// Count it and forget it.
    Drop(DropReason),
}

/// Judges a segment for a listener (RFC 9293 3.10.7.2).
pub fn on_listen(seg: &SegmentIn) -> ListenVerdict {
    let flags = seg.header.flags;
    if flags.contains(Flags::RST) {
        return ListenVerdict::Drop(DropReason::TcpListenNotSyn);
    }
    if flags.contains(Flags::ACK) {
        return ListenVerdict::Reset;
    }
    if !flags.contains(Flags::SYN) {
        return ListenVerdict::Drop(DropReason::TcpListenNotSyn);
    }
    // Nobody opens and closes in one segment; it is a scanner's.
    if flags.contains(Flags::FIN) {
        return ListenVerdict::Drop(DropReason::TcpBadFlags);
    }
    ListenVerdict::Accept
}

/// The RST for a segment that found no connection (RFC 9293 3.10.7.1); none for a RST.
pub fn reset_for(seg: &SegmentIn, payload_len: usize) -> Option<(Header, Options)> {
    let SegmentIn { header, .. } = seg;
    if header.flags.contains(Flags::RST) {
        return None;
    }
    let mut reset = Header { flags: Flags::RST, ..Header::default() };
    if header.flags.contains(Flags::ACK) {
        reset.seq = header.ack;
    } else {
        // Payload lengths come from IP packets, which fit 16 bits.
        let seg_len = payload_len as u32
            + u32::from(header.flags.contains(Flags::SYN))
            + u32::from(header.flags.contains(Flags::FIN));
        reset.ack = header.seq.wrapping_add(seg_len);
        reset.flags |= Flags::ACK;
    }
    Some((reset, Options::default()))
}

impl Tcb {
    /// Active open: SYN-SENT. The SYN leaves at the next [`Tcb::poll_transmit`].
    pub fn connect(config: &Config, seed: Seed) -> Self {
        let mut tcb = Self::new(config, seed);
        tcb.flags.set(Bits::ACTIVE.or(Bits::TX_SYN));
        tcb.transition(State::SynSent);
        tcb
    }

    /// Passive open by a SYN for which [`on_listen`] said [`ListenVerdict::Accept`]: SYN-RECEIVED. Text in the SYN is left to the
    /// peer's retransmission, unless [`Tcb::open_fast`] takes it.
    pub fn accept(config: &Config, seed: Seed, syn: &SegmentIn, now: Instant) -> Self {
        let mut tcb = Self::new(config, seed);
        tcb.adopt_syn(config, syn, now);
        tcb.flags.set(Bits::TX_SYN);
        tcb.progress_at = now;
        tcb.transition(State::SynReceived);
        tcb
    }

    /// Takes over the peer's numbers and options.
    fn adopt_syn(&mut self, config: &Config, syn: &SegmentIn, now: Instant) {
        let irs = SeqNum(syn.header.seq);
        self.rcv.nxt = irs + 1;
        self.rcv.ack_sent = irs + 1;
        // The window field of our SYN or SYN-ACK is not scaled (RFC 7323 2.2).
        self.rcv.adv = self.rcv.nxt + config.recv_buffer_bytes.min(u32::from(u16::MAX));
        self.adopt_options(config, &syn.options);
        self.adopt_ecn(config, &syn.header);
        self.snd.wnd = u32::from(syn.header.window);
        self.snd.max_wnd = self.snd.wnd;
        self.snd.wl1 = irs;
        self.heard_ms = now_ms(now);
    }

    /// RFC 9293 3.10.7.3: a segment arrived in SYN-SENT.
    pub(super) fn on_syn_sent<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        seg: &SegmentIn,
        arrival: &mut Arrival<P>,
    ) -> Step {
        let flags = seg.header.flags;
        let acks = flags.contains(Flags::ACK);
        // First: our SYN and its text are all that can be acknowledged. RFC 5961 3.2: the same holds for a RST.
        let ack = SeqNum(seg.header.ack);
        if acks && !(ack.after(self.snd.una) && ack.before_eq(self.snd.nxt)) {
            arrival.outcome.signals |=
                if flags.contains(Flags::RST) { Signals::NONE } else { Signals::SEND_RESET };
            return Step::Drop(DropReason::TcpSynSentBadAck);
        }
        // Second
        if flags.contains(Flags::RST) {
            return if acks {
                Step::Close(CloseReason::Refused)
            } else {
                Step::Drop(DropReason::TcpSynSentBadAck)
            };
        }
        // Fifth: neither SYN nor RST.
        if !flags.contains(Flags::SYN) {
            return Step::Drop(DropReason::TcpBadFlags);
        }
        // Fourth
        self.adopt_syn(cx.config, seg, cx.now);
        if !acks {
            // RFC 9293 3.5 (MUST-10): simultaneous open. Text is left to the peer's retransmission.
            self.transition(State::SynReceived);
            self.flags.set(Bits::TX_SYN);
            return Step::Done;
        }
        self.snd.wl2 = ack;
        self.snd.una += 1;
        if self.snd.nxt != self.snd.una {
            self.cut_syn_text(cx.cold, ack);
        }
        self.establish(cx, arrival);
        if self.snd.nxt != self.snd.una {
            self.settle_syn_text(cx, seg, &mut arrival.outcome);
        }
        // The third step of the handshake leaves at once; first data may carry it.
        self.flags.set(Bits::TX_ACK);
        arrival.skip_syn();
        Step::Next
    }

    /// RFC 9293 3.10.7.4, fifth, SYN-RECEIVED: the ACK of our SYN, and of what Fast Open let follow it. Everything else that
    /// acknowledges something is reset.
    pub(super) fn on_syn_received_ack<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        arrival: &mut Arrival<P>,
    ) -> Step {
        if !(arrival.ack.after(self.snd.una) && arrival.ack.before_eq(self.snd.nxt)) {
            arrival.outcome.signals |= Signals::SEND_RESET;
            return Step::Drop(DropReason::TcpAckUnsent);
        }
        let (is_fast_opened, had_syn_text) = (self.is_fast_opened(), self.has_syn_text());
        self.snd.una += 1;
        self.snd.wnd = arrival.window << self.shifts.snd();
        self.snd.max_wnd = self.snd.max_wnd.max(self.snd.wnd);
        self.snd.wl1 = arrival.seq;
        self.snd.wl2 = arrival.ack;
        self.establish(cx, arrival);
        if had_syn_text {
            self.fast_open = FastOpenStage::TextTaken;
        }
        if !is_fast_opened {
            // What a SYN took along that has crossed the peer's.
            self.confirm(cx, true);
        }
        Step::Next
    }

    /// A SYN in SYN-RECEIVED that repeats the first one: our answer was lost, or the SYNs crossed.
    pub(super) fn on_repeated_syn<P: Payload>(&mut self, arrival: &mut Arrival<P>, now: Instant) -> Step {
        if arrival.flags.contains(Flags::ACK) {
            // RFC 9293 3.5, figure 7: the peer's SYN-ACK of a simultaneous open acknowledges our SYN, and so do we its.
            self.flags.set(Bits::TX_ACK);
            arrival.skip_syn();
            return Step::Next;
        }
        // RFC 7323 4.3 (2): our answer to this one measures a round trip, not how long the peer waited before it asked again.
        self.note_timestamp(arrival.seq, arrival.timestamps);
        if self.may_challenge(now) {
            self.flags.set(Bits::TX_SYN);
        }
        Step::Drop(DropReason::TcpDuplicate)
    }

    /// Both SYNs are acknowledged.
    fn establish<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>, arrival: &mut Arrival<P>) {
        self.soft_error = None;
        let resent = self.backoff > 0;
        let elapsed_us = u32::try_from(cx.now.nanos_since(self.progress_at) / 1_000).unwrap_or(u32::MAX);
        // No timer watches the SYN-ACK of a cookie: nobody remembers when it left, and its timestamp is too coarse.
        let is_cookie = self.timer == Timer::Idle;
        // An echo that is older than the timer was for is of a SYN or SYN-ACK that was repeated meanwhile: it says how long that waited.
        let is_latest = |rtt_us: &u32| *rtt_us < micros(cx.config.rto_initial);
        let rtt_us = if resent {
            self.echo_rtt_us(cx.now, arrival.timestamps).filter(is_latest)
        } else {
            Some(elapsed_us)
        };
        match rtt_us {
            _ if is_cookie => {}
            Some(rtt_us) => self.on_round_trip(rtt_us, cx.totals, cx.config),
            None => self.rtt.on_unmeasured_handshake(cx.config),
        }
        let is_known = self.is_fast_opened();
        cx.totals.end_repair(cx.now);
        if !is_known {
            cx.totals.on_open(cx.now);
        }
        if resent || !is_known {
            // RFC 6928 2: one lost SYN or SYN-ACK says little about the path, unless data went with it; after several the initial
            // window is one segment (RFC 5681 3.1).
            let segs = if self.tries > 1 || is_known { 1 } else { cx.config.initial_window_segs };
            self.window = Window::initial(self.mss, segs);
        }
        self.backoff = 0;
        self.tries = 0;
        self.cancel_timers();
        self.progress_at = cx.now;
        self.quick_acks = cx.config.quick_acks;
        self.arm_keepalive(cx.now, cx.config);
        if let Some(cold) = cx.cold.get_mut(self.cold) {
            // What the SYN took along is one segment and stays one.
            let first = usize::from(arrival.ack.after(self.snd.una));
            cold.send.resegment(first, self.mss);
            if resent {
                cold.send.doubt_round_trips();
            }
        }
        let is_active = self.flags.has(Bits::ACTIVE);
        if self.is_fast_opened() {
            self.fast_open = FastOpenStage::None;
        }
        self.transition(State::Established);
        // A FIN queued before goes out now, so FIN-WAIT-1 begins at once.
        if self.flags.has(Bits::FIN_QUEUED) {
            self.transition(State::FinWait1);
        }
        self.flags.clear(Bits::TX_SYN);
        self.flags.set(Bits::TX_DATA);
        if is_known {
            self.confirm(cx, resent);
            arrival.outcome.signals |= Signals::CONFIRMED;
            return;
        }
        arrival.outcome.signals |= Signals::CONNECTED | Signals::WRITABLE;
        if is_active && !resent {
            arrival.outcome.signals |= Signals::CONFIRMED;
        }
    }

    /// The timer fired before our SYN was acknowledged; false when it is time to give up.
    pub(super) fn on_syn_timeout(&mut self, config: &Config, outcome: &mut Outcome) -> Limit {
        let limit = if self.flags.has(Bits::ACTIVE) { config.syn_retries } else { config.synack_retries };
        if self.tries >= limit {
            return Limit::Reached;
        }
        if self.state() == State::SynSent && self.backoff == 0 {
            outcome.signals |= Signals::SYN_LOST;
        }
        self.on_unanswered(outcome);
        self.backoff = (self.backoff + 1).min(MAX_BACKOFF);
        self.flags.set(Bits::TX_SYN);
        Limit::Below
    }
}
