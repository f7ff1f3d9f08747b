//! Listeners: the SYN queue, the cookies that take its place when it is full, the accept queue.
//!
//! ```text
//! SYN -> SYN queue full? -- no --> flow in SYN-RECEIVED -- ACK, accept queue not full --> accept queue -> Event::Accepted
//!                                        `-- valid Fast Open cookie: at once ------------^
//!                        -- yes -> cookie, no flow ...... ACK with the cookie .............^
//! ```
//! Both queues hold as many as the backlog says, as on Linux: with a full accept queue SYNs are dropped, and so is the last step of
//! a handshake, so that the peer tries again. The flows themselves belong to [`Streams`].

use std::net::SocketAddrV4;

use ringwire_proto::tcp::fast_open::{self, Asking, Offer};
use ringwire_proto::tcp::{ListenVerdict, cookie};

use super::fast_open::Pending;
use super::*;

#[derive(Debug)]
pub(crate) struct Listening {
    pub(super) addr: Ipv4Addr,
    pub(super) port: u16,
    /// For what is accepted from now on.
    pub(super) options: u16,
    /// Handshakes begun and not finished: the SYN queue.
    half_open: u32,
    /// Connections that the application has not heard of: the accept queue.
    waiting: u32,
    /// Connections that the application has heard of and keeps in a queue of its own.
    queued: u32,
    /// Until then an acknowledgement may answer a cookie; the past while none are out.
    cookies_until: Instant,
    /// Connections that the application has before the end of their handshake.
    pub(super) pending: Pending,
}

/// A SYN for a listener.
pub(super) struct Syn<'a> {
    pub(super) at: Arrived<'a>,
    /// Our numbers come after those of the connection that it succeeds, if there was one.
    pub(super) after: Option<SeqNum>,
    /// It, if its text may be taken.
    pub(super) packet: Option<RxBuf>,
}

/// What became of a segment that met a listener and no connection.
pub(super) enum Listened {
    Taken,
    /// Nothing for a listener: perhaps another worker knows its connection.
    Foreign(RxBuf),
}

impl Listening {
    pub(super) fn new(local: SocketAddrV4, options: u16) -> Listening {
        Listening {
            addr: *local.ip(),
            port: local.port(),
            options,
            half_open: 0,
            waiting: 0,
            queued: 0,
            cookies_until: Instant::ZERO,
            pending: Pending::default(),
        }
    }

    /// A handshake has finished.
    pub(super) fn on_connected(&mut self) {
        self.half_open = self.half_open.saturating_sub(1);
        self.waiting += 1;
    }

    /// The application has heard of a connection.
    pub(super) fn on_taken(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Linux's rule: one more than the backlog.
    fn is_accept_queue_full(&self, backlog: u32) -> bool {
        self.waiting.saturating_add(self.queued) > backlog
    }
}

impl Streams {
    pub(super) fn listener_for(&self, io: &Io, ingress: &Ingress) -> Option<u32> {
        match Socket::unpack(io.table.reader().lookup_listener(&ingress.key())?) {
            Socket::Listener(slot) => Some(slot),
            Socket::Flow(_) | Socket::Udp(_) | Socket::TimeWait(_) => None,
        }
    }

    pub(crate) fn set_queued(&mut self, listener: Listener, connections: u32) {
        let Some(key) = Key::unpack(listener.0, self.worker) else { return };
        if let Some(listening) = self.listeners.get_mut(key) {
            listening.queued = connections;
        }
    }

    /// A connection that ends before the application has heard of it leaves its queue.
    pub(super) fn leave_queue(&mut self, owner: Owner, signals: Signals) {
        let Owner::Listener(listener) = owner else { return };
        let Some(listening) = self.listeners.get_mut(listener) else { return };
        if signals.contains(Signals::CONNECTED) {
            listening.on_taken();
        } else {
            listening.half_open = listening.half_open.saturating_sub(1);
        }
    }

    /// Whether this is the last step of a handshake and the accept queue is full: the peer will repeat it.
    #[inline]
    pub(super) fn must_wait(&self, slot: u32, at: Arrived<'_>) -> bool {
        let is_opening = |flow: &&Flow| flow.tcb.state() == tcp::State::SynReceived;
        self.flows.at(slot).filter(is_opening).is_some_and(|flow| self.has_no_place_for(flow, at))
    }

    #[cold]
    fn has_no_place_for(&self, flow: &Flow, at: Arrived<'_>) -> bool {
        let Owner::Listener(listener) = flow.owner else { return false };
        if flow.tcb.is_fast_opened() {
            // It has its place.
            return false;
        }
        let flags = at.seg.header.flags;
        let is_full = |listening: &Listening| {
            // What `listen` says now, not when the handshake began.
            let set = self.options.get(usize::from(listening.options));
            set.is_some_and(|set| listening.is_accept_queue_full(set.backlog))
        };
        flags.contains(Flags::ACK)
            && !flags.contains(Flags::RST)
            && self.listeners.get(listener).is_some_and(is_full)
    }

    /// RFC 9293 3.10.7.2
    #[cold]
    pub(super) fn on_listener_segment(
        &mut self,
        io: &mut Io,
        listener: u32,
        at: Arrived<'_>,
        packet: RxBuf,
    ) -> Listened {
        let flags = at.seg.header.flags;
        if flags.contains(Flags::SYN) {
            self.on_syn(io, listener, Syn { at, after: None, packet: Some(packet) });
            return Listened::Taken;
        }
        if !flags.intersects(Flags::ACK | Flags::RST) {
            io.counters.drop_packet(DropReason::TcpListenNotSyn);
            return Listened::Taken;
        }
        if flags.contains(Flags::RST) {
            return Listened::Foreign(packet);
        }
        match self.open_cookie(io, listener, at) {
            Ok(Some(slot)) => self.finish_cookie(io, slot, at, packet),
            Ok(None) => return Listened::Foreign(packet),
            Err(reason) => Self::count_refused(io, reason),
        }
        Listened::Taken
    }

    #[cold]
    pub(super) fn on_syn(&mut self, io: &mut Io, listener: u32, syn: Syn<'_>) {
        let taken = match tcp::on_listen(syn.at.seg) {
            ListenVerdict::Accept => self.accept(io, listener, syn),
            ListenVerdict::Reset => {
                self.send_reset(io, syn.at);
                Err(DropReason::TcpListenNotSyn)
            }
            ListenVerdict::Drop(reason) => Err(reason),
        };
        match taken {
            Ok(()) => io.counters.now.delivered += 1,
            Err(reason) => Self::count_refused(io, reason),
        }
    }

    /// Begins a passive open, here or in a cookie, or says why not.
    fn accept(&mut self, io: &mut Io, listener: u32, syn: Syn<'_>) -> Result<(), DropReason> {
        let at = syn.at;
        let (set, listening) = self.place_for_one(io, listener)?;
        if listening.half_open >= set.backlog {
            return self.send_cookie(io, listener, at);
        }
        let tuple = at.tuple();
        let mut seed = seed(io, &tuple);
        if let Some(after) = syn.after.filter(|after| !seed.iss.after(*after)) {
            // A fast connection outruns the clock of initial numbers. Linux's distance: more than an unscaled window.
            seed.iss = after + 65_537;
        }
        let tcb = Tcb::accept(&set.config, seed, at.seg, io.now);
        let judge = || {
            let asking = Asking { flow: &tuple.prf_flow(), syn: at.seg, text_len: at.ingress.payload_len() };
            fast_open::judge(&io.prf, &set.fast_open_rules, &asking, io.now)
        };
        let offer = if set.fast_open { judge() } else { Offer::None };
        let slot = self.enqueue(io, listener, at, tcb)?;
        match offer {
            Offer::None => self.reschedule(slot),
            offer => self.answer_fast_open(io, slot, (listener, offer), syn),
        }
        Ok(())
    }

    /// The listener and its options, if there is place for one more connection.
    fn place_for_one(&self, io: &Io, listener: u32) -> Result<(&OptionSet, &Listening), DropReason> {
        let listening = self.listeners.at(listener).ok_or(DropReason::TcpNoSocket)?;
        let set = self.options.get(usize::from(listening.options)).ok_or(DropReason::TcpNoSocket)?;
        if listening.is_accept_queue_full(set.backlog) {
            return Err(DropReason::TcpAcceptQueueFull);
        }
        if io.link.pool.is_low() {
            return Err(DropReason::NoFrame);
        }
        if io.pressure >= tcp::Pressure::Strangers {
            return Err(DropReason::NoMemory);
        }
        if io.net.is_draining() {
            return Err(DropReason::ShuttingDown);
        }
        if self.flows.is_full() {
            return Err(DropReason::TableFull);
        }
        Ok((set, listening))
    }

    fn count_refused(io: &mut Io, reason: DropReason) {
        io.counters.now.syns_refused += u64::from(reason == DropReason::NoMemory);
        io.counters.drop_packet(reason);
    }

    /// Into the SYN queue.
    fn enqueue(&mut self, io: &mut Io, listener: u32, at: Arrived<'_>, tcb: Tcb) -> Result<u32, DropReason> {
        let key = self.listeners.key_at(listener).ok_or(DropReason::TcpNoSocket)?;
        let options = self.listeners.at(listener).ok_or(DropReason::TcpNoSocket)?.options;
        let mut flow = Flow::new(tcb, at.tuple(), options, Owner::Listener(key));
        flow.port = at.ingress.way_back() as u16;
        let slot = self.insert(io, flow).ok_or(DropReason::TableFull)?;
        self.options.share(options);
        if let Some(listening) = self.listeners.at_mut(listener) {
            listening.half_open += 1;
        }
        Ok(slot)
    }

    /// RFC 4987 3.6: answers without remembering.
    fn send_cookie(&mut self, io: &mut Io, listener: u32, at: Arrived<'_>) -> Result<(), DropReason> {
        let listening = self.listeners.at_mut(listener).ok_or(DropReason::TcpNoSocket)?;
        let set = self.options.get(usize::from(listening.options)).ok_or(DropReason::TcpNoSocket)?;
        listening.cookies_until = io.now + cookie::LIFE;
        let (header, options) = cookie::answer(&io.prf, &at.tuple().prf_flow(), &set.config, at.seg, io.now)
            .ok_or(DropReason::TcpSynQueueFull)?;
        if !answer(io, at, header, &options, set.mark) {
            return Err(DropReason::NoFrame);
        }
        io.counters.now.cookies_sent += 1;
        Ok(())
    }

    /// The connection that an acknowledgement of a cookie makes; none if it acknowledges nothing of ours.
    fn open_cookie(
        &mut self,
        io: &mut Io,
        listener: u32,
        at: Arrived<'_>,
    ) -> Result<Option<u32>, DropReason> {
        let Some(listening) = self.listeners.at(listener) else { return Ok(None) };
        let Some(set) = self.options.get(usize::from(listening.options)) else { return Ok(None) };
        if io.now > listening.cookies_until || listening.cookies_until == Instant::ZERO {
            return Ok(None);
        }
        let Some(tcb) = cookie::open(&io.prf, &at.tuple().prf_flow(), &set.config, at.seg, io.now) else {
            io.counters.now.cookies_refused += 1;
            return Ok(None);
        };
        self.place_for_one(io, listener)?;
        self.enqueue(io, listener, at, tcb).map(Some)
    }

    /// The acknowledgement, and what came with it, to the connection that it made.
    fn finish_cookie(&mut self, io: &mut Io, slot: u32, at: Arrived<'_>, packet: RxBuf) {
        io.counters.now.cookies_accepted += 1;
        self.on_flow_segment(io, slot, at, packet);
        let is_opening = |flow: &Flow| flow.tcb.state() == tcp::State::SynReceived;
        if self.flows.at(slot).is_some_and(is_opening) {
            // No timer would ever end it.
            self.remove(io, slot);
        }
    }
}
