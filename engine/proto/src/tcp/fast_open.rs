//! TCP Fast Open (RFC 7413): text in the SYN, on the word of a cookie that the peer was given before.
//!
//! ```text
//! server: SYN -> judge -> Offer -> give_cookie (SYN-ACK carries one) | open_fast (the application has the connection and the text)
//! client: Cookies::offer -> begin_fast_open -> SYN with cookie and text -> SYN-ACK: Cookies::on_answer; no answer: Cookies::on_lost
//! ```
//! A cookie is a keyed function of both addresses, the same on all workers of an engine. What the text of a SYN asks for may happen
//! twice: a repeated SYN may outlive the memory of the connection that the first one made (RFC 7413 2.1).

mod keys;

use alloc::collections::BTreeMap;
use core::net::IpAddr;
use core::time::Duration;

use ringwire_wire::tcp::{FastOpen, FastOpenForm, Options};

use keys::MadeBy;
pub use keys::{InvalidKeys, KEY_LEN, Keys};

use super::ack::Advance;
use super::cold::{Cold, ColdStore};
use super::tcb::{Bits, FastOpenStage, Tcb};
use super::{Body, Cx, Outcome, Payload, SegmentIn, SendBuf, SendPool, Signals, Totals, Window};
use crate::prf::Prf;
use crate::{Flow, Instant};

/// How long one function of the cookies is in use; the last one is accepted as long again (RFC 7413 4.1.2).
const PERIOD_NS: u64 = 3_600_000_000_000;

/// Peers whose cookies a client keeps.
pub const MAX_PEERS: usize = 1024;

/// Lost SYNs in a row after which Fast Open rests (RFC 7413 4.1.3.1); one may be lost for any reason.
const SUSPICIOUS_LOSSES: u8 = 2;

/// For how long: doubled with each loss in a row, six times at most.
const REST: Duration = Duration::from_secs(60);

/// RFC 9293 3.7.1 (MUST-15): what a peer takes that does not say.
const DEFAULT_MSS: u16 = 536;

/// Bytes of options that a header has room for.
const MAX_OPTIONS_LEN: u16 = 40;

/// What a listener that offers Fast Open makes of a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// The SYN does not mention it.
    None,
    /// It asks for a cookie, or has a wrong one: the SYN-ACK carries this, and the text waits for the handshake.
    Cookie(FastOpen),
    /// The cookie is right: the text may be taken. The SYN-ACK carries a new one if the old one is about to expire.
    Take(Option<FastOpen>),
}

/// What a socket's Fast Open rests on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    /// What a listener's cookies are made from; none: from the engine's secret, in another way each hour.
    pub keys: Option<Keys>,
    /// Whether there have to be cookies.
    pub cookies: CookieUse,
}

/// Whether text in SYNs goes with cookies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CookieUse {
    /// As RFC 7413 has it.
    #[default]
    Needed,
    /// A listener takes anybody's text, and a client sends it to anybody (Linux's `TCP_FASTOPEN_NO_COOKIE`). Whoever can send a SYN from
    /// somebody else's address then makes the application work, and its answer go there: only for networks that let no such SYN in.
    Waived,
}

/// A SYN for a listener that offers Fast Open.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Its connection.
    pub flow: &'a Flow,
    /// The SYN.
    pub syn: &'a SegmentIn,
    /// Bytes of its text.
    pub text_len: usize,
}

/// Judges the Fast Open option of a SYN (RFC 7413 4.2.2).
pub fn judge(prf: &Prf, rules: &Rules, asking: &Asking<'_>, now: Instant) -> Offer {
    let Asking { flow, syn, text_len } = asking;
    let theirs = syn.options.fast_open;
    if rules.cookies == CookieUse::Waived && (theirs.is_some() || *text_len > 0) {
        return Offer::Take(None);
    }
    let Some(theirs) = theirs else { return Offer::None };
    // A cookie is good in either form, and the answer has the one of the question.
    let (form, theirs) = (theirs.form(), theirs.in_form(FastOpenForm::Standard));
    match judge_cookie(prf, rules, (flow, theirs), now) {
        Offer::Cookie(ours) => Offer::Cookie(ours.in_form(form)),
        Offer::Take(renewed) => Offer::Take(renewed.map(|ours| ours.in_form(form))),
        Offer::None => Offer::None,
    }
}

fn judge_cookie(prf: &Prf, rules: &Rules, (flow, theirs): (&Flow, FastOpen), now: Instant) -> Offer {
    if let Some(keys) = &rules.keys {
        let ours = keys.cookie(flow.local, flow.remote);
        return match keys.maker(theirs, flow.local, flow.remote) {
            MadeBy::First => Offer::Take(None),
            MadeBy::Second => Offer::Take(Some(ours)),
            MadeBy::Nobody => Offer::Cookie(ours),
        };
    }
    // 2^32 periods are longer than any host is up.
    let period = (now.as_nanos() / PERIOD_NS) as u32;
    let ours = cookie(prf, flow, period);
    if theirs == ours {
        return Offer::Take(None);
    }
    if period > 0 && theirs == cookie(prf, flow, period - 1) {
        return Offer::Take(Some(ours));
    }
    Offer::Cookie(ours)
}

fn cookie(prf: &Prf, flow: &Flow, period: u32) -> FastOpen {
    let bytes = prf.fast_open_cookie(flow.local, flow.remote, period).to_be_bytes();
    // Eight is a legal length.
    FastOpen::cookie(&bytes).unwrap_or(FastOpen::REQUEST)
}

/// What the first SYN or SYN-ACK carries; later ones do not, for it may be what does not get through (RFC 7413 4.1.3.1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    /// None: text without a cookie.
    option: Option<FastOpen>,
    /// The peer's MSS, if the cookie allows text.
    text_mss: Option<u16>,
}

impl<P, S> Cold<P, S> {
    /// The option of the SYN or SYN-ACK that leaves now.
    pub(super) fn take_opening(&mut self) -> Option<Opening> {
        self.opening.take()
    }
}

impl Opening {
    pub(super) fn option(self) -> Option<FastOpen> {
        self.option
    }
}

impl Tcb {
    /// After [`Tcb::accept`]: the SYN-ACK carries this cookie.
    pub fn give_cookie<P, S>(&mut self, cold: &mut ColdStore<P, S>, cookie: FastOpen) {
        self.cold_mut(cold, &Totals::default()).opening =
            Some(Opening { option: Some(cookie), text_mss: None });
    }

    /// After [`Tcb::accept`] of a SYN with a valid cookie: the connection is the application's at once, which reads the SYN's text and
    /// may write. [`Signals::CONFIRMED`] follows when the handshake is over.
    pub fn open_fast<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>, text: Option<P>) -> Outcome {
        let mut outcome = Outcome::default();
        cx.totals.on_open(cx.now);
        self.fast_open = FastOpenStage::Unconfirmed;
        self.window = Window::initial(self.mss, cx.config.initial_window_segs);
        // What is in flight counts our SYN.
        self.window.cwnd += 1;
        if let Some(mut text) = text.filter(|text| !text.is_empty()) {
            text.truncate(text.len().min(self.rcv_wnd() as usize));
            // The SYN-ACK acknowledges it.
            let _ = self.take_in_order(cx, text, &mut outcome);
            // Its window begins behind the text, and is as wide as the buffer and an unscaled field allow.
            let free = cx.recv_limit_bytes().saturating_sub(self.rcv.held_bytes);
            self.rcv.adv = self.rcv.adv.later(self.rcv.nxt + free.min(u16::MAX.into()));
        }
        outcome.signals |= Signals::CONNECTED | Signals::WRITABLE;
        outcome
    }

    /// Whether the application has a connection whose handshake is not over (RFC 7413 4.2.2).
    pub fn is_fast_opened(&self) -> bool {
        self.fast_open == FastOpenStage::Unconfirmed
    }

    /// Whether the text of our or the peer's SYN was taken.
    pub(super) fn has_syn_text(&self) -> bool {
        match self.fast_open {
            FastOpenStage::None | FastOpenStage::Offered => false,
            // SND.WL1 is the peer's initial number until the handshake is over.
            FastOpenStage::Unconfirmed => self.rcv.nxt != self.snd.wl1 + 1,
            FastOpenStage::TextTaken => true,
            // As on Linux that does not count.
            FastOpenStage::TextTakenInPart => false,
        }
    }

    /// After [`Tcb::connect`]: the SYN asks for a cookie or, with one, takes along what is written until it leaves.
    pub fn begin_fast_open<P, S>(&mut self, cold: &mut ColdStore<P, S>, offer: ClientOffer) {
        let text_mss = offer.allows_text().then_some(offer.mss);
        self.fast_open = FastOpenStage::Offered;
        self.cold_mut(cold, &Totals::default()).opening = Some(Opening { option: offer.option, text_mss });
    }

    /// Whether an active open began by [`Tcb::begin_fast_open`]; else the answer to its SYN says nothing of Fast Open.
    pub fn has_offered_fast_open(&self) -> bool {
        self.fast_open != FastOpenStage::None && self.flags.has(Bits::ACTIVE)
    }

    /// Together with [`Signals::CONNECTED`] of an active open: whether the SYN had text and the peer has taken none of it.
    pub fn is_syn_text_refused(&self) -> bool {
        self.snd.nxt != self.snd.una && self.fast_open != FastOpenStage::TextTakenInPart
    }

    /// The text that the SYN takes along (RFC 7413 4.2.1); it counts as sent.
    pub(super) fn take_syn_text<'c, P: Payload, A: SendPool>(
        &mut self,
        cx: &'c mut Cx<'_, P, A>,
        opening: Opening,
    ) -> Body<'c, A::Buf> {
        let Some(peers) = opening.text_mss else { return Body::None };
        let Some(cold) = cx.cold.get_mut(self.cold) else { return Body::None };
        // Less than 2^16.
        let room = text_room_bytes(peers, cx.config.mss) as u32;
        let Some((index, record)) = cold.send.first_unsent() else { return Body::None };
        let (is_long, len) = (record.len > room, record.len.min(room));
        if len == 0 || (is_long && !cold.send.split(index, room)) {
            return Body::None;
        }
        cold.send.mark_sent(index, cx.now, 0);
        self.snd.nxt += len;
        cold.recovery.on_sent(len);
        cx.totals.data_segs_out = cx.totals.data_segs_out.wrapping_add(1);
        cx.totals.data_sent_at = cx.now;
        cold.send.body(index).unwrap_or(Body::None)
    }

    /// The peer's SYN-ACK may acknowledge a part of the text in our SYN: that is done with, and the rest is cut up anew.
    #[cold]
    pub(super) fn cut_syn_text<P, S: SendBuf>(&self, cold: &mut ColdStore<P, S>, ack: crate::SeqNum) {
        if let Some(cold) = cold.get_mut(self.cold).filter(|_| ack.after(self.snd.una)) {
            cold.send.split(0, ack.distance(self.snd.una));
        }
    }

    /// The peer's SYN-ACK acknowledges all, some or nothing of the text in our SYN: what is left goes again at once (RFC 7413 4.2.1).
    #[cold]
    pub(super) fn settle_syn_text<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        seg: &SegmentIn,
        outcome: &mut Outcome,
    ) {
        let ack = crate::SeqNum(seg.header.ack);
        if ack.after(self.snd.una) {
            let is_whole = ack == self.snd.nxt;
            self.fast_open = if is_whole { FastOpenStage::TextTaken } else { FastOpenStage::TextTakenInPart };
            self.on_ack_advance(cx, &Advance::to(ack), seg.options.timestamps, outcome);
        }
        if self.snd.nxt != self.snd.una
            && let Some(cold) = cx.cold.get_mut(self.cold)
        {
            self.resend_all(cold);
            self.arm_rto(cx.now, cx.config);
        }
    }

    /// The handshake is over, and something besides the SYN has left: it is watched from now on, or goes again.
    pub(super) fn confirm<P, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>, has_resent: bool) {
        if self.snd.nxt == self.snd.una {
            return;
        }
        if let Some(cold) = cx.cold.get_mut(self.cold).filter(|_| has_resent) {
            // Whoever had not seen our SYN-ACK has dropped what followed it.
            self.resend_all(cold);
        }
        self.arm_rto(cx.now, cx.config);
    }
}

/// What a client's SYN carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOffer {
    /// The peer's cookie, or the request for one; none: it goes without.
    pub option: Option<FastOpen>,
    /// The peer's MSS when it answered last.
    pub mss: u16,
}

impl ClientOffer {
    /// Whether text goes along.
    fn allows_text(&self) -> bool {
        self.option.is_none_or(|option| !option.is_request())
    }

    /// Bytes of text that go along at most, as long as segments of ours have `mss` bytes.
    pub fn text_room_bytes(&self, mss: u16) -> usize {
        if self.allows_text() { text_room_bytes(self.mss, mss) } else { 0 }
    }
}

/// As on Linux there is room left for all options that a box on the way might add.
fn text_room_bytes(theirs: u16, ours: u16) -> usize {
    usize::from(theirs.min(ours).saturating_sub(MAX_OPTIONS_LEN))
}

/// Our address and the peer's: a cookie is for both (RFC 7413 4.1.3).
pub type Path = (IpAddr, IpAddr);

/// What a peer's SYN-ACK says of Fast Open.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The options of the SYN-ACK.
    pub options: &'a Options,
    /// See [`Tcb::has_offered_fast_open`].
    pub was_offered: bool,
    /// It answers the first SYN, with what that carried, for all that is known.
    pub is_first: bool,
    /// See [`Tcb::is_syn_text_refused`].
    pub is_text_refused: bool,
    /// Whether the SYN was of a socket that has no part in cookies: then nobody has asked for the one that comes.
    pub cookies: CookieUse,
}

/// A client's cookies, and where Fast Open does not get through: [`MAX_PEERS`] paths at most, the ones used last.
#[derive(Debug, Default)]
pub struct Cookies {
    peers: BTreeMap<Path, Peer>,
    /// Uses so far.
    clock: u64,
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    option: FastOpen,
    mss: u16,
    /// SYNs in a row that got no answer.
    losses: u8,
    /// Nothing is tried before.
    rests_until: Instant,
    used_at: u64,
}

impl Cookies {
    /// What a SYN to this peer is to carry; none while Fast Open rests.
    pub fn offer(&mut self, path: Path, cookies: CookieUse, now: Instant) -> Option<ClientOffer> {
        let used_at = self.tick();
        if let Some(peer) = self.peers.get_mut(&path) {
            peer.used_at = used_at;
        }
        self.expected_offer(path, cookies, now)
    }

    /// What [`Cookies::offer`] would say.
    pub fn expected_offer(&self, path: Path, cookies: CookieUse, now: Instant) -> Option<ClientOffer> {
        let known = self.peers.get(&path);
        if known.is_some_and(|peer| peer.rests_until > now) {
            return None;
        }
        Some(match (cookies, known) {
            (CookieUse::Needed, None) => ClientOffer { option: Some(FastOpen::REQUEST), mss: DEFAULT_MSS },
            (CookieUse::Needed, Some(peer)) => ClientOffer { option: Some(peer.option), mss: peer.mss },
            // Nobody has said what this peer takes: as Linux, as much as we do.
            (CookieUse::Waived, None) => ClientOffer { option: None, mss: u16::MAX },
            (CookieUse::Waived, Some(peer)) => ClientOffer { option: None, mss: peer.mss },
        })
    }

    /// A SYN with the option was not answered, or ICMP said that it did not get through (RFC 7413 4.1.3.1).
    pub fn on_lost(&mut self, path: Path, now: Instant) {
        let peer = self.peer(path);
        if peer.rests_until > now {
            // That one did not carry it.
            return;
        }
        peer.losses = peer.losses.saturating_add(1);
        if peer.losses >= SUSPICIOUS_LOSSES {
            let doublings = u32::from(peer.losses - SUSPICIOUS_LOSSES).min(6);
            peer.rests_until = now + REST * 2_u32.pow(doublings);
        }
    }

    /// A peer has answered. If it was sent neither the option nor text without it, as while Fast Open rests, that proves nothing (RFC 7413
    /// 4.1.3.1), and a cookie that came is not wanted.
    pub fn on_answer(&mut self, path: Path, answer: &Answer<'_>) {
        if !answer.was_offered {
            return;
        }
        let mss = answer.options.mss.unwrap_or(DEFAULT_MSS);
        if answer.cookies == CookieUse::Waived {
            if answer.is_first {
                let peer = self.peer(path);
                (peer.mss, peer.losses) = (mss, 0);
            }
            return;
        }
        if let Some(option) = answer.options.fast_open.filter(|option| !option.is_request()) {
            let peer = self.peer(path);
            (peer.option, peer.mss) = (option, mss);
            (peer.losses, peer.rests_until) = (0, Instant::ZERO);
            return;
        }
        let Some(peer) = self.peers.get_mut(&path).filter(|_| answer.is_first) else { return };
        peer.losses = 0;
        peer.mss = mss;
        if answer.is_text_refused {
            // It does not take it any more; perhaps it gives another cookie.
            peer.option = FastOpen::REQUEST;
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn peer(&mut self, path: Path) -> &mut Peer {
        let used_at = self.tick();
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&path) {
            let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.used_at).map(|(path, _)| *path);
            oldest.map(|path| self.peers.remove(&path));
        }
        let peer = self.peers.entry(path).or_insert(Peer {
            option: FastOpen::REQUEST,
            mss: DEFAULT_MSS,
            losses: 0,
            rests_until: Instant::ZERO,
            used_at,
        });
        peer.used_at = used_at;
        peer
    }
}
