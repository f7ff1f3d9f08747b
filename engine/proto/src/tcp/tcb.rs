//! The hot state of one connection: two cache lines, both written by the connection's worker only.

use core::mem::{offset_of, size_of};

use super::cold::{Cold, ColdId, ColdStore};
use super::congestion::Window;
use super::options::effective_mss;
use super::recovery::Reordering;
use super::rtt::Rtt;
use super::{Config, Cx, Seed, SendPool, Totals};
use crate::SeqNum;
use crate::icmp::Unreachable;
use crate::time::Instant;

/// The state of a connection (RFC 9293 3.3.2). LISTEN belongs to the listener's owner, see [`super::on_listen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum State {
    /// No connection.
    #[default]
    Closed,
    /// A SYN was sent, nothing came back.
    SynSent,
    /// SYNs crossed or one was answered; ours is not acknowledged.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// We sent FIN; it is not acknowledged.
    FinWait1,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2,
    /// The peer sent FIN; we may still send.
    CloseWait,
    /// Both sent FIN; ours is not acknowledged.
    Closing,
    /// The peer closed first, then we; our FIN is not acknowledged.
    LastAck,
    /// Both FINs are acknowledged; old segments die out.
    TimeWait,
}

impl State {
    /// Whether RFC 9293's figure 5 has an arrow from this state to `to`. LISTEN is not among them, and every state may end: by the
    /// application, a reset, or a limit (3.10.5, 3.10.7, 3.10.8).
    pub fn may_become(self, to: State) -> bool {
        let arrows: &[State] = match self {
            State::Closed => &[State::SynSent, State::SynReceived],
            State::SynSent => &[State::SynReceived, State::Established],
            State::SynReceived => &[State::Established, State::FinWait1],
            State::Established => &[State::FinWait1, State::CloseWait],
            State::FinWait1 => &[State::FinWait2, State::Closing, State::TimeWait],
            State::FinWait2 | State::Closing => &[State::TimeWait],
            State::CloseWait => &[State::LastAck],
            State::LastAck | State::TimeWait => &[],
        };
        to == State::Closed || to == self || arrows.contains(&to)
    }
}

/// One TCP connection, without addresses and ports: two cache lines, if its owner begins it on one.
///
/// ```
/// use ringwire_proto::tcp::{Body, ColdStore, Config, Cx, Payload, Recv, RecvTune, Seed, SegmentIn, SendBuf, SendPool, State, Tcb, Totals};
/// use ringwire_proto::{Instant, SeqNum};
/// # #[derive(Debug, PartialEq)]
/// # struct Bytes(Vec<u8>);
/// # impl Payload for Bytes {
/// #     fn len(&self) -> usize { self.0.len() }
/// #     fn bytes(&self) -> &[u8] { &self.0 }
/// #     fn advance(&mut self, count: usize) { self.0.drain(..count); }
/// #     fn truncate(&mut self, len: usize) { self.0.truncate(len); }
/// # }
/// # impl SendBuf for Bytes {
/// #     fn len(&self) -> usize { self.0.len() }
/// #     fn spare(&self) -> usize { 2048 - self.0.len() }
/// #     fn append(&mut self, bytes: &[u8]) -> usize {
/// #         let len = bytes.len().min(self.spare());
/// #         self.0.extend_from_slice(&bytes[..len]);
/// #         len
/// #     }
/// #     fn bytes(&self) -> &[u8] { &self.0 }
/// #     fn in_ring(&self) -> bool { false }
/// # }
/// # struct Pool;
/// # impl SendPool for Pool {
/// #     type Buf = Bytes;
/// #     fn alloc(&mut self) -> Option<Bytes> { Some(Bytes(Vec::new())) }
/// # }
/// # fn transmit(from: &mut Tcb, cx: &mut Cx<Bytes, Pool>, to: &mut Tcb) {
/// #     while let Some(segment) = from.poll_transmit(cx) {
/// #         let seg = SegmentIn { header: segment.header, options: segment.options, is_marked: false };
/// #         let payload = match segment.body {
/// #             Body::None => None,
/// #             Body::Whole(buf) => Some(Bytes(SendBuf::bytes(buf).to_vec())),
/// #             Body::Copy(bytes) => Some(Bytes(bytes.to_vec())),
/// #         };
/// #         let _ = to.on_segment(cx, &seg, payload);
/// #     }
/// # }
/// let (config, seed) = (Config::default(), |iss| Seed { iss: SeqNum(iss), timestamp_offset: 0 });
/// let (mut store, mut pool) = (ColdStore::new(), Pool);
/// // Each connection has one of its own; so little data needs only one here.
/// let (tune, totals) = (&mut RecvTune::default(), &mut Totals::default());
/// let now = Instant::from_secs(1);
/// let mut cx = Cx { now, config: &config, cold: &mut store, pool: &mut pool, tune, totals };
///
/// let mut client = Tcb::connect(&config, seed(1));
/// let syn = client.poll_transmit(&mut cx).expect("a SYN");
/// let syn = SegmentIn { header: syn.header, options: syn.options, is_marked: false };
/// let mut server = Tcb::accept(&config, seed(2), &syn, cx.now);
/// transmit(&mut server, &mut cx, &mut client);
/// assert_eq!(client.state(), State::Established);
///
/// client.send(&mut cx, b"hello").expect("room");
/// transmit(&mut client, &mut cx, &mut server);
/// assert_eq!(server.recv(&mut cx), Ok(Recv::Data(Bytes(b"hello".to_vec()))));
/// server.release(5);
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct Tcb {
    pub(super) snd: SendSpace,
    pub(super) rcv: RecvSpace,
    /// TS.Recent (RFC 7323 4.3).
    pub(super) ts_recent: u32,
    pub(super) ts_offset: u32,
    pub(super) flags: Bits,
    pub(super) cold: ColdId,
    /// Effective send MSS: payload bytes of a full segment, options already subtracted.
    pub(super) mss: u16,
    pub(super) state: State,
    pub(super) shifts: Shifts,
    /// What recovery has learnt of the path, kept while the cold part is given back.
    pub(super) reordering: Reordering,
    /// Duplicate acknowledgements owed, one for each out-of-order segment (RFC 5681 4.2).
    pub(super) dup_acks_due: u8,
    /// Doublings of the RTO or the probe interval.
    pub(super) backoff: u8,
    pub(super) timer: Timer,

    /// Deadline of `timer`.
    pub(super) timer_at: Instant,
    pub(super) delack_at: Instant,
    /// Of keepalive, or of the pacer if that comes first.
    pub(super) keepalive_at: Instant,
    /// When snd.una last moved, or when what is outstanding began to wait: user timeout and idle restart count from here.
    pub(super) progress_at: Instant,
    pub(super) window: Window,
    pub(super) rtt: Rtt,
    /// Milliseconds of the last acceptable segment.
    pub(super) heard_ms: u32,
    /// Milliseconds of the last rate-limited ACK.
    pub(super) challenge_ms: u32,
    /// Retransmissions, window probes or keepalive probes in a row without an answer that counts.
    pub(super) tries: u8,
    pub(super) quick_acks: u8,
    pub(super) fast_open: FastOpenStage,
    /// What ICMP said last since data was acknowledged: shown, and the reason of the end if the retries run out (RFC 9293 3.9.1.8, MUST-47).
    pub(super) soft_error: Option<Unreachable>,
}

/// Send sequence space (RFC 9293 3.3.1, figure 3).
#[derive(Debug)]
#[repr(C)]
pub(super) struct SendSpace {
    pub una: SeqNum,
    /// Next new number; retransmissions never move it back.
    pub nxt: SeqNum,
    pub wnd: u32,
    pub wl1: SeqNum,
    pub wl2: SeqNum,
    /// MAX.SND.WND (RFC 5961 5).
    pub max_wnd: u32,
}

/// Receive sequence space (RFC 9293 3.3.1, figure 4).
#[derive(Debug)]
#[repr(C)]
pub(super) struct RecvSpace {
    pub nxt: SeqNum,
    /// Right edge that was announced, or will be with the next segment: rcv.nxt + rcv.wnd. It never moves back.
    pub adv: SeqNum,
    /// Last.ACK.sent (RFC 7323 4.3).
    pub ack_sent: SeqNum,
    /// Bytes received in order that the application has not given back.
    pub held_bytes: u32,
}

/// Snd.Wind.Shift in the lower four bits, Rcv.Wind.Shift in the upper ones (RFC 7323 2.3): at most 14 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shifts(u8);

impl Shifts {
    pub(super) fn new(snd: u8, rcv: u8) -> Self {
        Self(snd & 0xf | rcv << 4)
    }

    #[inline]
    pub(super) const fn snd(self) -> u8 {
        self.0 & 0xf
    }

    #[inline]
    pub(super) const fn rcv(self) -> u8 {
        self.0 >> 4
    }
}

/// What has become of Fast Open on this connection (RFC 7413).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FastOpenStage {
    None,
    /// Our first SYN carried the option, or text without it.
    Offered,
    /// SYN-RECEIVED, and the application has the connection already.
    Unconfirmed,
    /// The handshake is over, and text of our or the peer's SYN was taken.
    TextTaken,
    /// Of our SYN's, and not all of it.
    TextTakenInPart,
}

/// What `timer_at` stands for. They exclude each other: each needs a state of the send side that rules the others out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Timer {
    Idle,
    /// Something is unacknowledged (RFC 6298 5).
    Retransmit,
    /// The same, but a probe comes before the RTO (RFC 8985 7.2).
    TailProbe,
    /// The same, and something of it is lost unless it arrives before (RFC 8985 6.3).
    Reorder,
    /// Nothing is in flight, but a report that the last probe arrived twice may still come (RFC 8985 7.4.2).
    ProbeVerdict,
    /// Nothing is in flight, but data waits for window, or for company under Nagle's, cork's or the SWS rule.
    Persist,
    FinWait2,
    TimeWait,
    /// The connection has ended in order, and says so when the last unread byte is taken.
    Finished,
    /// Likewise, by the peer's RST.
    Reset,
    /// Likewise, because the peer was silent for too long.
    TimedOut,
}

/// A set of facts about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bits(u32);

impl Bits {
    pub(super) const NONE: Self = Self(0);
    /// Something to transmit: a SYN or SYN-ACK.
    pub(super) const TX_SYN: Self = Self(1);
    pub(super) const TX_RST: Self = Self(1 << 1);
    pub(super) const TX_ACK: Self = Self(1 << 2);
    /// There may be unsent data or a FIN that the rules let go.
    pub(super) const TX_DATA: Self = Self(1 << 3);
    /// There may be lost records or a lost FIN to retransmit.
    pub(super) const TX_RTX: Self = Self(1 << 4);
    pub(super) const TX_PROBE: Self = Self(1 << 5);
    /// The application gave bytes back: look whether a window update is due.
    pub(super) const TX_WINDOW: Self = Self(1 << 6);
    pub(super) const TX_DUP_ACK: Self = Self(1 << 7);
    const TX: Self = Self(0xff);
    pub(super) const TX_BUT_RST: Self = Self(Self::TX.0 & !Self::TX_RST.0);

    pub(super) const TIMESTAMPS: Self = Self(1 << 8);
    /// We opened actively.
    pub(super) const ACTIVE: Self = Self(1 << 9);
    pub(super) const CORKED: Self = Self(1 << 10);
    /// The application has nothing more to send.
    pub(super) const FIN_QUEUED: Self = Self(1 << 11);
    /// snd.nxt counts our FIN.
    pub(super) const FIN_SENT: Self = Self(1 << 12);
    pub(super) const FIN_LOST: Self = Self(1 << 13);
    /// rcv.nxt counts the peer's FIN.
    pub(super) const FIN_RECEIVED: Self = Self(1 << 14);
    pub(super) const READ_SHUT: Self = Self(1 << 15);
    /// The application closed: nobody will read or write any more.
    pub(super) const ORPHAN: Self = Self(1 << 16);
    /// Loss recovery is under way or duplicate ACKs are being counted.
    pub(super) const RECOVERY: Self = Self(1 << 17);
    /// Out-of-order data is held.
    pub(super) const HOLES: Self = Self(1 << 18);
    /// The override timer fired: one small segment may go.
    pub(super) const OVERRIDE: Self = Self(1 << 19);
    /// send() came up short: say WRITABLE when there is room.
    pub(super) const SEND_BLOCKED: Self = Self(1 << 20);
    /// A retransmission waited one RTO for its completion and leaves as a copy now.
    pub(super) const RTX_COPY: Self = Self(1 << 21);
    /// `challenge_ms` is meaningful.
    pub(super) const CHALLENGED: Self = Self(1 << 22);
    /// Window scaling was agreed.
    pub(super) const SCALED: Self = Self(1 << 23);
    /// Both sides take SACK options.
    pub(super) const SACK: Self = Self(1 << 25);
    /// A retransmission due waits for the device to give its buffer back.
    pub(super) const RTX_IN_RING: Self = Self(1 << 24);
    /// Both sides take part in explicit congestion notification (RFC 3168).
    pub(super) const ECN: Self = Self(1 << 29);
    /// A packet came marked: every ACK says so until the peer says that it has heard. For DCTCP: the last one came marked.
    pub(super) const ECE_DUE: Self = Self(1 << 30);
    /// Our window came down for the peer's ECE: the next new data says so.
    pub(super) const CWR_DUE: Self = Self(1 << 31);
    /// A tail loss probe is due or out, and not resolved.
    pub(super) const TAIL_PROBED: Self = Self(1 << 26);
    /// It has left.
    pub(super) const PROBE_SENT: Self = Self(1 << 27);
    /// The next ACK reports a duplicate (RFC 2883).
    pub(super) const DSACK: Self = Self(1 << 28);

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Facts about what the cold part holds.
const OF_COLD: Bits =
    Bits::RECOVERY.or(Bits::HOLES).or(Bits::TAIL_PROBED).or(Bits::PROBE_SENT).or(Bits::DSACK);

/// A deadline that never comes.
pub(super) const NEVER: Instant = Instant::MAX;

const _: () = {
    assert!(size_of::<Tcb>() == 128);
    assert!(offset_of!(Tcb, snd) == 0 && offset_of!(Tcb, rcv) == 24 && offset_of!(Tcb, flags) == 48);
    assert!(offset_of!(Tcb, timer) == 63 && offset_of!(Tcb, timer_at) == 64 && offset_of!(Tcb, window) == 96);
};

impl Tcb {
    /// A block in CLOSED; `connect` and `accept` fill in the rest.
    pub(super) fn new(config: &Config, seed: Seed) -> Self {
        let zero = SeqNum(0);
        Self {
            snd: SendSpace { una: seed.iss, nxt: seed.iss, wnd: 0, wl1: zero, wl2: seed.iss, max_wnd: 0 },
            rcv: RecvSpace { nxt: zero, adv: zero, ack_sent: zero, held_bytes: 0 },
            ts_recent: 0,
            ts_offset: seed.timestamp_offset,
            flags: Bits::NONE,
            cold: ColdId::NONE,
            mss: effective_mss(config.mss, config, config.timestamps),
            state: State::Closed,
            shifts: Shifts::default(),
            reordering: Reordering::default(),
            dup_acks_due: 0,
            backoff: 0,
            timer: Timer::Idle,
            timer_at: NEVER,
            delack_at: NEVER,
            keepalive_at: NEVER,
            progress_at: Instant::ZERO,
            window: Window::initial(config.mss, config.initial_window_segs),
            rtt: Rtt::new(config),
            heard_ms: 0,
            challenge_ms: 0,
            tries: 0,
            quick_acks: 0,
            fast_open: FastOpenStage::None,
            soft_error: None,
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the connection is over and nothing is left to transmit: the entry may be freed after [`Tcb::discard`].
    pub fn is_closed(&self) -> bool {
        match self.state {
            State::Closed => !self.wants_transmit() && self.timer == Timer::Idle && self.cold.is_none(),
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => false,
        }
    }

    /// Whether [`Tcb::poll_transmit`] may have something. It stays true while a retransmission waits for its buffer to come back.
    #[inline]
    pub fn wants_transmit(&self) -> bool {
        self.flags.has(Bits::TX)
    }

    /// When [`Tcb::on_timer`] wants to be called, if ever.
    #[inline]
    pub fn next_timer(&self) -> Option<Instant> {
        let deadline = self.timer_at.min(self.delack_at).min(self.keepalive_at);
        (deadline != NEVER).then_some(deadline)
    }

    /// Gives everything queued back to its pools; for an owner that drops the connection whatever its state.
    pub fn discard<P, S>(&mut self, cold: &mut ColdStore<P, S>) {
        cold.free(self.cold);
        self.cold = ColdId::NONE;
        self.flags = Bits::NONE;
        self.state = State::Closed;
        self.cancel_timers();
    }

    /// The one place where the state changes.
    pub(super) fn transition(&mut self, to: State) {
        debug_assert!(self.state.may_become(to), "{:?} does not become {to:?}", self.state);
        self.state = to;
    }

    /// Bytes (and SYN or FIN) sent and not acknowledged.
    pub(super) fn flight(&self) -> u32 {
        self.snd.nxt.distance(self.snd.una)
    }

    /// The receive window the peer may use.
    pub(super) fn rcv_wnd(&self) -> u32 {
        self.rcv.adv.distance(self.rcv.nxt)
    }

    /// The cold part, taken from the slab if there is none.
    #[inline]
    pub(super) fn cold_mut<'c, P, S>(
        &mut self,
        store: &'c mut ColdStore<P, S>,
        totals: &Totals,
    ) -> &'c mut Cold<P, S> {
        let before = self.cold;
        let (id, cold) = store.get_or_alloc(before);
        self.cold = id;
        if before.is_none() {
            cold.send.recall_path(self.reordering.is_seen(), totals.rack_rtt_ns);
            cold.congestion.recall(totals.w_max);
        }
        cold
    }

    /// Whether the application may write again once everything is acknowledged.
    fn may_write_more(&self) -> bool {
        match self.state {
            State::SynReceived | State::Established | State::CloseWait => !self.flags.has(Bits::FIN_QUEUED),
            State::Closed
            | State::SynSent
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait => false,
        }
    }

    /// Gives the cold part back if nothing is queued in it that is needed.
    pub(super) fn free_idle_cold<P, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        if let Some(cold) = cx.cold.get_mut(self.cold)
            && cold.is_idle()
            && !(cold.congestion.is_kept() && self.may_write_more())
        {
            if cold.send.is_reordering_seen() {
                self.reordering.note_seen();
            }
            cx.totals.add(cold.send.tally());
            (cx.totals.rack_rtt_ns, cx.totals.w_max) =
                (cold.send.rack_rtt_ns(), cold.congestion.memory().w_max());
            cx.cold.free(self.cold);
            self.cold = ColdId::NONE;
            self.flags.clear(OF_COLD);
        }
    }
}
