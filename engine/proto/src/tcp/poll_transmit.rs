//! What leaves next, and in which segment.

use ringwire_wire::tcp::{Flags, Header, Options};

use super::brake::Brake;
use super::cold::Cold;
use super::fast_open::Opening;
use super::options::{MAX_SACK_LEN, now_ms};
use super::send_queue::RecordFlags;
use super::tcb::{Bits, State, Tcb, Timer};
use super::{Codepoint, Config, Cx, Payload, SendPool, Window};
use crate::{Instant, SeqNum};

/// Linux's largest super-segment.
const MAX_RUN_BYTES: u32 = 65_536;
/// Two milliseconds of 1024 to the second, as Linux counts them.
const RUN_US: u64 = 1_953;

/// A segment to send.
#[derive(Debug)]
pub struct Transmit<'a, S> {
    /// The header; ports are zero and filled in by the caller.
    pub header: Header,
    /// The options.
    pub options: Options,
    /// The payload.
    pub body: Body<'a, S>,
    /// What it is, for counters.
    pub kind: TransmitKind,
    /// What the IP header says about congestion marks.
    pub ecn: Codepoint,
}

/// The payload of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Body<'a, S> {
    /// None.
    None,
    /// All of this buffer: headers go into its headroom, and it stays in the send queue.
    Whole(&'a mut S),
    /// These bytes, to be copied into a fresh frame.
    Copy(&'a [u8]),
}

/// What a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransmitKind {
    /// SYN or SYN-ACK.
    Handshake,
    /// RST.
    Reset,
    /// New data, or the FIN for the first time.
    Data,
    /// Data or FIN again.
    Retransmission,
    /// A bare ACK.
    Ack,
    /// A window or keepalive probe.
    Probe,
}

/// The decision, before anything is borrowed.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Reset,
    Syn,
    Record(usize, TransmitKind),
    Fin(TransmitKind),
    Ack,
    DuplicateAck,
    /// Of a run of segments that were all marked or all not.
    RunAck(SeqNum, bool),
    Probe,
}

impl Tcb {
    /// The next segment to send; call until there is none. The caller has room for one segment.
    #[inline]
    pub fn poll_transmit<'a, P: Payload, A: SendPool>(
        &'a mut self,
        cx: &'a mut Cx<'_, P, A>,
    ) -> Option<Transmit<'a, A::Buf>> {
        if !self.wants_transmit() {
            return None;
        }
        let plan = self.plan(cx)?;
        cx.totals.segs_out = cx.totals.segs_out.wrapping_add(1);
        match plan {
            Plan::Record(index, kind) => self.emit_record(cx, index, kind),
            Plan::Reset => Some(self.emit_reset(cx.config, cx.now)),
            Plan::Syn => Some(self.emit_syn(cx)),
            Plan::Fin(kind) => Some(self.emit_fin(cx, kind)),
            Plan::Ack => {
                self.open_window(cx.recv_limit_bytes());
                Some(self.emit_ack(cx))
            }
            Plan::DuplicateAck => Some(self.emit_ack(cx)),
            Plan::RunAck(end, is_marked) => Some(self.emit_run_ack(cx, end, is_marked)),
            Plan::Probe => Some(self.emit_probe(cx.config, cx.now)),
        }
    }

    fn plan<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Option<Plan> {
        if self.flags.has(Bits::TX_RST) {
            return Some(Plan::Reset);
        }
        if self.flags.has(Bits::TX_SYN) {
            return Some(Plan::Syn);
        }
        if self.flags.has(Bits::TX_RTX)
            && let Some(plan) = self.plan_retransmission(cx)
        {
            return Some(plan);
        }
        if self.flags.has(Bits::TX_DUP_ACK)
            && let Some(plan) = self.plan_early_ack(cx)
        {
            return Some(plan);
        }
        if self.flags.has(Bits::TX_DATA) {
            if let Some(plan) = self.plan_data(cx) {
                return Some(plan);
            }
            self.flags.clear(Bits::TX_DATA);
        }
        if self.flags.has(Bits::TX_WINDOW) {
            self.consider_window_update(cx.recv_limit_bytes());
        }
        if self.flags.has(Bits::TX_ACK) {
            return Some(Plan::Ack);
        }
        if self.flags.has(Bits::TX_PROBE) {
            return Some(Plan::Probe);
        }
        None
    }

    /// Acknowledgements that must not be taken together with others.
    #[cold]
    fn plan_early_ack<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Option<Plan> {
        if let Some((end, is_marked)) = self.next_run(cx.cold.get_mut(self.cold)) {
            return Some(Plan::RunAck(end, is_marked));
        }
        let is_due = self.dup_acks_due > 0;
        self.dup_acks_due = self.dup_acks_due.saturating_sub(1);
        if self.dup_acks_due == 0 {
            self.flags.clear(Bits::TX_DUP_ACK);
        }
        is_due.then_some(Plan::DuplicateAck)
    }

    /// The first lost record. The one at SND.UNA goes whatever the windows say; the others obey both.
    #[cold]
    fn plan_retransmission<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Option<Plan> {
        if let Some(cold) = cx.cold.get_mut(self.cold)
            && self.due_probe(cold) == Some(true)
            && let Some(last) = cold.send.sent_segs().checked_sub(1)
        {
            return Some(Plan::Record(last, TransmitKind::Retransmission));
        }
        if cx.cold.get(self.cold).is_some_and(|cold| cold.recovery.holds_back_old()) {
            self.flags.clear(Bits::TX_RTX);
            return None;
        }
        let lost = cx.cold.get_mut(self.cold).and_then(|cold| Some((cold.send.next_lost()?, cold)));
        let Some((index, cold)) = lost else {
            if self.flags.has(Bits::FIN_LOST) {
                return Some(Plan::Fin(TransmitKind::Retransmission));
            }
            self.flags.clear(Bits::TX_RTX);
            return None;
        };
        if let Some(seq) =
            cold.send.get(index).filter(|record| record.len > u32::from(self.mss)).map(|record| record.seq)
        {
            // A probe that did not get through.
            self.forget_path_probe(cold, seq);
            cold.send.split(index, u32::from(self.mss));
        }
        let fits = cold.send.get(index).is_some_and(|record| {
            self.pipe(cold) + record.len <= self.window.cwnd
                && record.end().before_eq(self.snd.una + self.snd.wnd)
        });
        if index > 0 && !fits {
            self.flags.clear(Bits::TX_RTX);
            return None;
        }
        if self.is_paced_out(cold, cx.config, cx.now) {
            self.flags.clear(Bits::TX_RTX);
            return None;
        }
        if cold.send.is_in_ring(index) && !self.flags.has(Bits::RTX_COPY) {
            // The bytes are the device's; TX_RTX stays set, so the next poll looks again.
            self.flags.set(Bits::RTX_IN_RING);
            return None;
        }
        Some(Plan::Record(index, TransmitKind::Retransmission))
    }

    /// The next new data or FIN that the windows, Nagle's, cork's and the SWS rule let go.
    fn plan_data<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Option<Plan> {
        match self.state {
            State::Established | State::FinWait1 | State::CloseWait | State::Closing | State::LastAck => {}
            State::SynReceived if self.is_fast_opened() => {}
            State::Closed | State::SynSent | State::SynReceived | State::FinWait2 | State::TimeWait => {
                return None;
            }
        }
        let usable = self.snd.wnd.saturating_sub(self.flight());
        let Some(cold) = cx.cold.get_mut(self.cold).filter(|cold| cold.send.has_unsent()) else {
            self.flags.clear(Bits::OVERRIDE);
            return self.plan_fin(cx, usable);
        };
        let (index, record) = cold.send.first_unsent()?;
        let len = record.len;
        let pipe = self.pipe(cold);
        if pipe > 0 && pipe + len > self.window.cwnd && self.due_probe(cold) != Some(false) {
            cold.recovery.limited_to = Some(self.snd.nxt);
            cold.release(cx.totals, cx.now);
            cold.begin_round(self.snd.nxt, cx.now);
            return None;
        }
        if len > usable {
            return self.plan_window_limited(cx, index, usable);
        }
        cold.release(cx.totals, cx.now);
        if self.holds_back(cold, index, len, cx.config) {
            if self.snd.una == self.snd.nxt {
                self.arm_persist(cx.now, cx.config);
            }
            return None;
        }
        if self.is_paced_out(cold, cx.config, cx.now) {
            if self.snd.una != self.snd.nxt {
                cold.begin_round(self.snd.nxt, cx.now);
            }
            return None;
        }
        Some(Plan::Record(index, TransmitKind::Data))
    }

    /// The window is smaller than the next segment. While something is in flight, its ACK brings news. Otherwise a part goes if
    /// the window is worth it (RFC 9293 3.8.6.2.1 (3)) or the override timer said so, else the timer waits or probes.
    #[cold]
    fn plan_window_limited<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        index: usize,
        usable: u32,
    ) -> Option<Plan> {
        let cold = cx.cold.get_mut(self.cold)?;
        cold.brake(Brake::ReceiveWindow, cx.totals, cx.now);
        if self.snd.una != self.snd.nxt {
            cold.begin_round(self.snd.nxt, cx.now);
            // The peer's application limits what is sent as ours might.
            if cold.send.is_sampled() {
                let in_flight = self.pipe(cold);
                cold.send.mark_app_limited(in_flight);
            }
            return None;
        }
        let worth_it = usable >= self.snd.max_wnd / 2 || self.flags.has(Bits::OVERRIDE);
        if usable > 0 && worth_it && cold.send.split(index, usable) {
            self.forget_path_probe(cold, self.snd.nxt);
            return Some(Plan::Record(index, TransmitKind::Data));
        }
        self.arm_persist(cx.now, cx.config);
        None
    }

    fn plan_fin<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>, usable: u32) -> Option<Plan> {
        // A FIN queued during the handshake waits for its end.
        let is_opening = self.state == State::SynReceived;
        if !self.flags.has(Bits::FIN_QUEUED) || self.flags.has(Bits::FIN_SENT) || is_opening {
            return None;
        }
        if usable > 0 {
            return Some(Plan::Fin(TransmitKind::Data));
        }
        if self.snd.una == self.snd.nxt {
            self.arm_persist(cx.now, cx.config);
        }
        None
    }

    /// Whether something unsent can leave now: it fits the peer's window, and no rule holds it back for company.
    pub(super) fn has_sendable<P, S>(&self, cold: &Cold<P, S>, config: &Config) -> bool {
        let usable = self.snd.wnd.saturating_sub(self.flight());
        cold.send.first_unsent().is_some_and(|(index, next)| {
            next.len <= usable && !self.holds_back(cold, index, next.len, config)
        })
    }

    /// Whether a segment below the MSS should wait for company: corked, or Nagle's rule in Minshall's variant, where only another
    /// small segment in flight makes it wait, so that the tail of a long write never does.
    fn holds_back<P, S>(&self, cold: &Cold<P, S>, index: usize, len: u32, config: &Config) -> bool {
        if len >= u32::from(self.mss)
            || !cold.send.is_last(index)
            || self.flags.has(Bits::FIN_QUEUED.or(Bits::OVERRIDE))
        {
            return false;
        }
        let small_in_flight = || cold.recovery.small_end.is_some_and(|end| end.after(self.snd.una));
        self.flags.has(Bits::CORKED) || (!config.nodelay && small_in_flight())
    }

    fn emit_record<'a, P: Payload, A: SendPool>(
        &'a mut self,
        cx: &'a mut Cx<'_, P, A>,
        index: usize,
        kind: TransmitKind,
    ) -> Option<Transmit<'a, A::Buf>> {
        self.open_window(cx.recv_limit_bytes());
        let cold = cx.cold.get_mut(self.cold)?;
        let before = self.before_record(cold, cx.config, cx.now);
        let is_again = kind == TransmitKind::Retransmission;
        let lost_again_at = if is_again { self.lost_again_at(cold) } else { 0 };
        let mut flags = if self.is_pushed(cold, index, cx.now) { Flags::PSH } else { Flags::NONE };
        let record = cold.send.mark_sent(index, cx.now, lost_again_at)?;
        let (seq, end, len) = (record.seq, record.end(), record.len);
        let mut ecn = self.ecn_of_others(cx.config);
        if is_again {
            self.recover_on_retransmit(cold, now_ms(cx.now));
            cx.totals.on_retransmit(len);
            self.flags.clear(Bits::RTX_COPY.or(Bits::RTX_IN_RING));
            // What may have been late is judged first; the RTO follows from there.
            if index == 0 && self.timer != Timer::Reorder {
                self.arm_retransmit(cx.now, cx.config);
            }
        } else {
            self.before_new_data(Some(cold), cx.now, cx.config);
            if self.quick_acks < cx.config.quick_acks {
                // An answer: the peer waits for answers, and they carry the acknowledgements.
                self.quick_acks = 0;
            }
            self.snd.nxt = end;
            let (codepoint, said) = self.ecn_of_new_data();
            ecn = codepoint;
            flags |= said;
            self.watch_new_data(cx.now, cx.config);
            self.flags.clear(Bits::OVERRIDE);
            if len < u32::from(self.mss) {
                cold.recovery.small_end = Some(end);
            }
        }
        cx.totals.data_segs_out = cx.totals.data_segs_out.wrapping_add(1);
        cx.totals.data_sent_at = cx.now;
        cold.recovery.on_sent(len);
        cold.pacer.on_sent(len, cx.now);
        if let Some(in_flight) = before {
            cold.send.sample_sent(index, cx.now, (in_flight, self.pipe(cold)));
        }
        if self.due_probe(cold).is_some() {
            self.on_probe_sent(cold);
        }
        if cold.send.is_last(index) && self.fin_may_ride(end) {
            self.note_fin_sent(end);
            flags |= Flags::FIN;
        }
        if !cold.send.has_unsent() {
            if self.flags.has(Bits::SEND_BLOCKED) {
                self.brake_on_buffer(cold, cx.totals, cx.now);
            }
            if !self.flags.has(Bits::FIN_QUEUED) {
                self.flags.clear(Bits::TX_DATA);
            }
        }
        let sack = self.sack_blocks(Some(cold), u32::from(self.mss).saturating_sub(len));
        let options = Options { sack, ..self.segment_options(cx.now) };
        let header = self.ack_header(seq, flags);
        Some(Transmit { header, options, body: cold.send.body(index)?, kind, ecn })
    }

    /// Whether the peer shall not wait for more after this record, for GRO delivers at PSH: it ends a write, or is new and ends a run of
    /// segments that Linux would hand to its device as one and push (RFC 9293 3.9.1.2 leaves it open). That is what leaves in a
    /// millisecond at two windows a round trip, two segments at least, 64 KB at most, or as much as the windows let go.
    #[inline]
    fn is_pushed<P, S>(&self, cold: &mut Cold<P, S>, index: usize, now: Instant) -> bool {
        let Some(record) = cold.send.get(index) else { return false };
        let (len, ends_write) = (record.len, record.flags.has(RecordFlags::PUSH));
        if index < cold.send.sent_segs() {
            return ends_write;
        }
        if ends_write {
            cold.recovery.run_bytes = 0;
            return true;
        }
        let before = index.checked_sub(1).and_then(|before| cold.send.get(before));
        let is_in_run = before.is_some_and(|before| before.sent_at == now);
        let run = if is_in_run { cold.recovery.run_bytes + len } else { len };
        let is_full = || {
            u64::from(run + len) * u64::from(self.rtt.srtt_us()) > RUN_US * u64::from(self.window.cwnd)
                || run + len > MAX_RUN_BYTES
        };
        let is_held_up = || {
            cold.send.get(index + 1).is_some_and(|next| {
                self.pipe(cold) + len + next.len > self.window.cwnd
                    || next.end().after(self.snd.una + self.snd.wnd)
            })
        };
        let is_end = run > u32::from(self.mss) && (is_full() || is_held_up());
        cold.recovery.run_bytes = if is_end { 0 } else { run };
        is_end
    }

    /// The first bytes into an idle pipe start the clock, and after a long silence the window is stale.
    #[inline]
    fn before_new_data<P, S>(&mut self, cold: Option<&mut Cold<P, S>>, now: Instant, config: &Config) {
        if self.snd.una == self.snd.nxt {
            let idle_ns = now.nanos_since(self.progress_at);
            if let Some(cold) = cold {
                cold.congestion.on_idle(config.congestion, idle_ns);
            }
            // RFC 5681 4.1: restart window after an RTO without traffic.
            if idle_ns / 1_000 > u64::from(self.rtt.rto_us()) && !config.congestion.is_model() {
                self.window.restart(Window::initial(self.mss, config.initial_window_segs).cwnd);
            }
            self.progress_at = now;
        }
    }

    /// New data or a FIN is out: its acknowledgement is waited for.
    #[inline(always)]
    fn watch_new_data(&mut self, now: Instant, config: &Config) {
        match self.timer {
            Timer::TailProbe => self.postpone_probe(now, config),
            Timer::Retransmit => self.probe_before_rto(now),
            Timer::Reorder => {}
            Timer::Idle
            | Timer::ProbeVerdict
            | Timer::Persist
            | Timer::FinWait2
            | Timer::TimeWait
            | Timer::Finished
            | Timer::Reset
            | Timer::TimedOut => {
                self.backoff = 0;
                self.tries = 0;
                self.arm_retransmit(now, config);
            }
        }
    }

    /// Whether our FIN stands at `seq`, is due, and the window takes it.
    fn fin_may_ride(&self, seq: SeqNum) -> bool {
        let due = self.flags.has(Bits::FIN_QUEUED)
            && (!self.flags.has(Bits::FIN_SENT) || self.flags.has(Bits::FIN_LOST));
        due && self.state != State::SynReceived && seq.before(self.snd.una + self.snd.wnd)
    }

    fn note_fin_sent(&mut self, seq: SeqNum) {
        self.flags.clear(Bits::FIN_LOST);
        if !self.flags.has(Bits::FIN_SENT) {
            self.flags.set(Bits::FIN_SENT);
            self.snd.nxt = seq + 1;
        }
    }

    fn emit_fin<'a, P, A: SendPool>(
        &'a mut self,
        cx: &'a mut Cx<'_, P, A>,
        kind: TransmitKind,
    ) -> Transmit<'a, A::Buf> {
        self.open_window(cx.recv_limit_bytes());
        let seq = if self.flags.has(Bits::FIN_SENT) { self.snd.nxt - 1 } else { self.snd.nxt };
        if kind == TransmitKind::Data {
            self.before_new_data(cx.cold.get_mut(self.cold), cx.now, cx.config);
        } else {
            cx.totals.on_retransmit(0);
        }
        self.note_fin_sent(seq);
        if kind == TransmitKind::Data {
            self.watch_new_data(cx.now, cx.config);
        }
        let options = self.segment_options(cx.now);
        Transmit {
            header: self.ack_header(seq, Flags::FIN),
            options,
            body: Body::None,
            kind,
            ecn: self.ecn_of_others(cx.config),
        }
    }

    fn emit_syn<'a, P: Payload, A: SendPool>(&'a mut self, cx: &'a mut Cx<'_, P, A>) -> Transmit<'a, A::Buf> {
        let (config, now) = (cx.config, cx.now);
        self.flags.clear(Bits::TX_SYN);
        let answer = self.state == State::SynReceived;
        let iss = self.snd.una;
        if self.snd.nxt == iss {
            self.snd.nxt = iss + 1;
            self.progress_at = now;
        } else {
            cx.totals.on_retransmit(0);
        }
        if self.timer != Timer::Retransmit {
            self.arm_retransmit(now, config);
        }
        let opening = cx.cold.get_mut(self.cold).and_then(Cold::take_opening);
        let mut options = self.syn_options(config, now, answer);
        options.fast_open = opening.and_then(Opening::option);
        if opening.is_some() {
            self.free_idle_cold(cx);
        }
        let header = if answer {
            self.ack_header(iss, Flags::SYN | self.ecn_answer_flags())
        } else {
            let window = u16::try_from(config.recv_buffer_bytes).unwrap_or(u16::MAX);
            let flags = Flags::SYN | self.ecn_syn_flags(config);
            Header { seq: iss.0, flags, window, ..Header::default() }
        };
        let ecn = Self::ecn_of_syn(config, header.flags);
        let body = match opening {
            Some(opening) => self.take_syn_text(cx, opening),
            None => Body::None,
        };
        Transmit { header, options, body, kind: TransmitKind::Handshake, ecn }
    }

    fn emit_reset<'a, S>(&mut self, config: &Config, now: Instant) -> Transmit<'a, S> {
        self.flags.clear(Bits::TX_RST);
        // RFC 7323 3.2: timestamps should be in a RST too.
        let options = self.segment_options(now);
        let header = Header { window: 0, ..self.ack_header(self.snd.nxt, Flags::RST) };
        let ecn = self.ecn_of_others(config);
        Transmit { header, options, body: Body::None, kind: TransmitKind::Reset, ecn }
    }

    fn emit_ack<'a, P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Transmit<'a, A::Buf> {
        // A peer that shrank its window would refuse an ACK from beyond it; the edge itself it takes. The last scaled unit of a
        // window cannot be told from a shrunk one (RFC 7323 2.4).
        let edge = self.snd.una + self.snd.wnd;
        let beyond = self.snd.nxt.offset_from(edge) > 1 << self.shifts.snd();
        let seq = if beyond { edge } else { self.snd.nxt };
        let sack = self.sack_blocks(cx.cold.get_mut(self.cold), MAX_SACK_LEN);
        if self.flags.has(Bits::DSACK) {
            self.flags.clear(Bits::DSACK);
            self.free_idle_cold(cx);
        }
        let options = Options { sack, ..self.segment_options(cx.now) };
        let header = self.ack_header(seq, Flags::NONE);
        let ecn = self.ecn_of_others(cx.config);
        Transmit { header, options, body: Body::None, kind: TransmitKind::Ack, ecn }
    }

    /// RFC 8257 3.2: an acknowledgement up to `end`, as it would have left before what came behind it.
    fn emit_run_ack<'a, P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        end: SeqNum,
        is_marked: bool,
    ) -> Transmit<'a, A::Buf> {
        let transmit = self.emit_ack(cx);
        let flags = transmit.header.flags.without(Flags::ECE);
        let header = Header {
            ack: end.0,
            flags: if is_marked { flags | Flags::ECE } else { flags },
            window: self.announce(end, Flags::NONE),
            ..transmit.header
        };
        // The rest is acknowledged next.
        self.rcv.ack_sent = end;
        self.flags.set(Bits::TX_ACK);
        Transmit { header, ..transmit }
    }

    /// RFC 9293 3.8.6.1, 3.8.4: an old, empty segment, which the peer must answer.
    fn emit_probe<'a, S>(&mut self, config: &Config, now: Instant) -> Transmit<'a, S> {
        self.flags.clear(Bits::TX_PROBE);
        let options = self.segment_options(now);
        Transmit {
            header: self.ack_header(self.snd.una - 1, Flags::NONE),
            options,
            body: Body::None,
            kind: TransmitKind::Probe,
            ecn: self.ecn_of_others(config),
        }
    }
}
