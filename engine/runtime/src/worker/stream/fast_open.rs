//! Fast Open (RFC 7413) on one worker: connections that the application has before the end of their handshake, and the cookies of
//! peers.
//!
//! ```text
//! SYN with a valid cookie -> room among the unconfirmed? -> accept queue with the SYN's text -- ACK --> confirmed
//!                                                                                           -- RST --> counts for a minute more
//! connect -> cookie of the peer, or the request for one -> SYN -> answer: new cookie, text taken or not; none: it rests for a while
//! ```
//! The protocol itself is `ringwire_proto::tcp::fast_open`.

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use ringwire_proto::icmp::{ErrorKind, Unreachable};
use ringwire_proto::tcp::fast_open::{Answer, CookieUse, Cookies, Offer, Path};

use super::listen::Syn;
use super::*;

/// RFC 7413 5.1: how long a connection counts that was reset before the end of its handshake, as one made by a forged SYN is.
const RESET_COUNTS: Duration = Duration::from_secs(60);

/// What one worker keeps for Fast Open.
#[derive(Debug, Default)]
pub(super) struct FastOpens {
    cookies: Cookies,
    /// The application has these and their handshake is not over; with the listener of each.
    unconfirmed: HashMap<u32, Key>,
}

/// RFC 7413 5.1, PendingFastOpenRequests of one listener.
#[derive(Debug, Default)]
pub(super) struct Pending {
    unconfirmed: u32,
    /// When each of those that were reset ceases to count; never more than the limit was.
    resets: VecDeque<Instant>,
}

impl Pending {
    fn has_room(&mut self, limit: u32, now: Instant) -> bool {
        while self.resets.pop_front_if(|until| *until <= now).is_some() {}
        self.unconfirmed as usize + self.resets.len() < limit as usize
    }
}

impl Streams {
    /// Does what the SYN's option asks for, before its SYN-ACK leaves (RFC 7413 4.2.2).
    #[cold]
    pub(super) fn answer_fast_open(
        &mut self,
        io: &mut Io,
        slot: u32,
        (listener, offer): (u32, Offer),
        syn: Syn<'_>,
    ) {
        let is_request = syn.at.seg.options.fast_open.is_some_and(|option| option.is_request());
        let (cookie, taken) = match offer {
            Offer::None => (None, None),
            Offer::Cookie(cookie) => (Some(cookie), None),
            Offer::Take(renewed) => match self.take_syn(io, listener, syn) {
                Some(text) => (renewed, Some(text)),
                // RFC 7413 4.2.2 (2): an ordinary handshake.
                None => (None, None),
            },
        };
        io.counters.now.fast_open_refused += u64::from(taken.is_none() && !is_request);
        if let Some(cookie) = cookie {
            with_machine!(self, io, slot, |flow, cx| flow.tcb.give_cookie(cx.cold, cookie));
        }
        let Some(text) = taken else { return self.reschedule(slot) };
        let Some(key) = self.listeners.key_at(listener) else { return };
        self.fast_opens.unconfirmed.insert(slot, key);
        if let Some(listening) = self.listeners.at_mut(listener) {
            listening.pending.unconfirmed += 1;
        }
        io.counters.now.fast_opened += 1;
        let outcome = with_machine!(self, io, slot, |flow, cx| flow.tcb.open_fast(&mut cx, text));
        self.settle(io, slot, outcome.unwrap_or_default());
    }

    /// The text of a SYN with a valid cookie, if there is any, or nothing if there is no place or no memory for it.
    fn take_syn(&mut self, io: &mut Io, listener: u32, syn: Syn<'_>) -> Option<Option<RxBuf>> {
        let listening = self.listeners.at_mut(listener)?;
        let limit = self.options.get(usize::from(listening.options))?.fast_open_backlog;
        if !listening.pending.has_room(limit, io.now) {
            return None;
        }
        if syn.at.ingress.payload_len() == 0 {
            return Some(None);
        }
        let shortage = io.shortage();
        io.hold(shortage, syn.at.ingress.strip(syn.packet?)).map(Some)
    }

    /// The handshake of a connection that the application has had since its SYN is over.
    #[cold]
    pub(super) fn on_confirmed(&mut self, slot: u32) {
        let Some(listener) = self.fast_opens.unconfirmed.remove(&slot) else { return };
        if let Some(listening) = self.listeners.get_mut(listener) {
            listening.pending.unconfirmed = listening.pending.unconfirmed.saturating_sub(1);
        }
    }

    /// A connection is gone; if it was not confirmed, it does not count any more, or not for long.
    #[inline]
    pub(super) fn leave_pending(&mut self, slot: u32, reason: Option<tcp::CloseReason>, now: Instant) {
        if self.fast_opens.unconfirmed.is_empty() {
            return;
        }
        let Some(&listener) = self.fast_opens.unconfirmed.get(&slot) else { return };
        self.on_confirmed(slot);
        if reason == Some(tcp::CloseReason::Reset)
            && let Some(listening) = self.listeners.get_mut(listener)
        {
            listening.pending.resets.push_back(now + RESET_COUNTS);
        }
    }

    /// The path of an active open that takes part.
    fn fast_open_path(&self, slot: u32) -> Option<Path> {
        let flow = self.flows.at(slot)?;
        let set = self.options.get(usize::from(flow.options))?;
        set.fast_open.then(|| path_of(flow.tuple.local, flow.tuple.remote))
    }

    fn cookie_use(&self, slot: u32) -> CookieUse {
        let set = self.flows.at(slot).and_then(|flow| self.options.get(usize::from(flow.options)));
        set.map(|set| set.fast_open_rules.cookies).unwrap_or_default()
    }

    /// An active open has its place, and its SYN has not left.
    pub(super) fn begin_fast_open(&mut self, io: &mut Io, slot: u32) {
        let Some(path) = self.fast_open_path(slot) else { return };
        let cookies = self.cookie_use(slot);
        if let Some(offer) = self.fast_opens.cookies.offer(path, cookies, io.now) {
            with_machine!(self, io, slot, |flow, cx| flow.tcb.begin_fast_open(cx.cold, offer));
        }
    }

    /// Bytes of what is written to a new connection with this peer at once that leave with its SYN; none if nothing does.
    pub(crate) fn syn_text_room_bytes(&self, io: &Io, peer: Ipv4Addr, options: &crate::TcpOptions) -> usize {
        let local = match options.local {
            Some((std::net::IpAddr::V4(local), _)) if !local.is_unspecified() => Some(local),
            _ => io.net.source_for(peer),
        };
        let Some(local) = local.filter(|_| options.fast_open) else { return 0 };
        let cookies = options.fast_open_rules().cookies;
        let offer = self.fast_opens.cookies.expected_offer(path_of(local, peer), cookies, io.now);
        let mss = OptionSet::new(options, io.link.mss_bytes()).config.mss;
        offer.map_or(0, |offer| offer.text_room_bytes(mss))
    }

    /// The first SYN of an active open was not answered.
    #[cold]
    pub(super) fn on_syn_lost(&mut self, io: &Io, slot: u32) {
        if let Some(path) = self.fast_open_path(slot) {
            self.fast_opens.cookies.on_lost(path, io.now);
        }
    }

    /// RFC 7413 4.1.3.1: an ICMP error about a SYN is a negative response too.
    #[cold]
    pub(super) fn note_syn_error(&mut self, io: &Io, slot: u32, error: ErrorKind) {
        let is_of_the_way = match error {
            ErrorKind::Unreachable(why) => {
                why.is_lasting() && !matches!(why, Unreachable::Port | Unreachable::Protocol)
            }
            ErrorKind::FragmentationNeeded { .. } => true,
        };
        if is_of_the_way {
            self.on_syn_lost(io, slot);
        }
    }

    /// An active open has succeeded: the SYN-ACK may have brought a cookie.
    #[cold]
    pub(super) fn learn_cookie(&mut self, io: &mut Io, slot: u32, at: Arrived<'_>, signals: Signals) {
        let Some(path) = self.fast_open_path(slot) else { return };
        let Some(flow) = self.flows.at(slot) else { return };
        let (was_offered, is_text_refused) =
            (flow.tcb.has_offered_fast_open(), flow.tcb.is_syn_text_refused());
        let answer = Answer {
            options: &at.seg.options,
            was_offered,
            is_first: signals.contains(Signals::CONFIRMED),
            is_text_refused,
            cookies: self.cookie_use(slot),
        };
        self.fast_opens.cookies.on_answer(path, &answer);
        let is_taken = with_machine!(self, io, slot, |flow, cx| flow.tcb.info(&cx).syn_text);
        io.counters.now.fast_connected += u64::from(is_taken == Some(true));
    }
}

fn path_of(local: Ipv4Addr, remote: Ipv4Addr) -> Path {
    (local.into(), remote.into())
}
