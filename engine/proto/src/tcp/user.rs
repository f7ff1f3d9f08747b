//! User calls (RFC 9293 3.10.1 to 3.10.6).

use super::cold::ColdId;
use super::send_queue::Room;
use super::tcb::{Bits, NEVER, State, Tcb};
use super::{CloseReason, ColdStore, Config, Cx, Outcome, Payload, SendBuf, SendPool};

/// What [`Tcb::recv`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recv<P> {
    /// The next in-order piece of the stream.
    Data(P),
    /// Nothing now.
    Empty,
    /// The peer closed, and everything before was taken.
    Eof,
}

/// Why nothing can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is over or was never open.
    NotConnected,
    /// The application closed its direction before.
    ShutDown,
    /// The pool has no buffer; try again when it does.
    NoBuffer,
    /// The send buffer is full ([`Tcb::send_buf`] only; [`Tcb::send`] gives a short count). WRITABLE follows.
    WouldBlock,
}

/// Why nothing can be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// The connection ended without the peer's FIN, or was never open.
    NotConnected,
}

impl SendError {
    /// The errno a socket would report, in Linux's numbers.
    pub const fn errno(self) -> i32 {
        match self {
            Self::NotConnected => 107,
            Self::ShutDown => 32,
            Self::NoBuffer => 105,
            Self::WouldBlock => 11,
        }
    }
}

impl RecvError {
    /// The errno a socket would report, in Linux's numbers.
    pub const fn errno(self) -> i32 {
        match self {
            Self::NotConnected => 107,
        }
    }
}

/// Segments acknowledged at once after [`Tcb::quick_ack`].
const QUICK_ACKS: u8 = 16;

impl Tcb {
    /// Queues a copy of `bytes`, coalesced into the last unsent buffer. A short count, down to zero, is back-pressure: WRITABLE
    /// follows when there is room.
    ///
    /// # Errors
    /// [`SendError::NoBuffer`] if nothing was taken because the pool is empty; no WRITABLE follows that.
    pub fn send<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        bytes: &[u8],
    ) -> Result<usize, SendError> {
        self.may_send()?;
        let queued = cx.cold.get(self.cold).map_or(0, |cold| cold.send.bytes());
        let limit_bytes = cx.send_limit_bytes(self.window.cwnd);
        let mut free = limit_bytes.saturating_sub(queued);
        if let Some(mark_bytes) = cx.config.unsent_low_water_bytes {
            free = free.min(self.room_below(mark_bytes, queued));
        }
        let wanted = bytes.get(..free as usize).unwrap_or(bytes);
        if wanted.is_empty() {
            if !bytes.is_empty() {
                self.flags.set(Bits::SEND_BLOCKED);
            }
            return Ok(0);
        }
        let room = self.room(limit_bytes);
        let cold = self.cold_mut(cx.cold, cx.totals);
        self.note_app_limited(cold);
        if cold.send.is_empty() {
            cx.totals.begin_busy(self.progress_at, cx.now);
        }
        let taken = cold.send.append(wanted, room, cx.pool);
        if taken > 0 {
            cold.send.push_last();
            self.flags.set(Bits::TX_DATA);
        }
        if cold.path.is_some() {
            self.queue_path_probe(cold, cx.pool, cx.now);
        }
        if taken < bytes.len() {
            self.flags.set(Bits::SEND_BLOCKED);
            if taken == 0 && cold.send.segs() < room.max_segs {
                self.free_idle_cold(cx);
                return Err(SendError::NoBuffer);
            }
        }
        Ok(taken)
    }

    /// Queues a filled buffer without copying. One longer than the effective MSS is cut up and leaves as copies.
    ///
    /// # Errors
    /// The buffer comes back with the reason.
    pub fn send_buf<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        buf: A::Buf,
    ) -> Result<(), (A::Buf, SendError)> {
        if let Err(error) = self.may_send() {
            return Err((buf, error));
        }
        if buf.is_empty() {
            return Ok(());
        }
        let limit_bytes = cx.send_limit_bytes(self.window.cwnd);
        let room = self.room(limit_bytes);
        let is_full = |queued| {
            queued >= limit_bytes
                || cx.config.unsent_low_water_bytes.is_some_and(|mark| self.room_below(mark, queued) == 0)
        };
        if let Some(cold) = cx.cold.get(self.cold)
            && (is_full(cold.send.bytes()) || cold.send.segs() >= room.max_segs)
        {
            self.flags.set(Bits::SEND_BLOCKED);
            return Err((buf, SendError::WouldBlock));
        }
        let cold = self.cold_mut(cx.cold, cx.totals);
        self.note_app_limited(cold);
        if cold.send.is_empty() {
            cx.totals.begin_busy(self.progress_at, cx.now);
        }
        cold.send.push_buf(buf, room);
        cold.send.push_last();
        if cold.path.is_some() {
            self.queue_path_probe(cold, cx.pool, cx.now);
        }
        self.flags.set(Bits::TX_DATA);
        Ok(())
    }

    /// Takes the next in-order piece. Its bytes count against the receive buffer until [`Tcb::release`].
    ///
    /// # Errors
    /// [`RecvError::NotConnected`] once the connection is over and nothing is left.
    pub fn recv<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Result<Recv<P>, RecvError> {
        if let Some(cold) = cx.cold.get_mut(self.cold)
            && let Some(payload) = cold.unread.pop_front()
        {
            if cold.unread.is_empty() {
                self.on_unread_drained(cx);
            }
            return Ok(Recv::Data(payload));
        }
        if self.flags.has(Bits::FIN_RECEIVED.or(Bits::READ_SHUT)) {
            return Ok(Recv::Eof);
        }
        match self.state {
            State::Closed => Err(RecvError::NotConnected),
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => Ok(Recv::Empty),
        }
    }

    /// What [`Tcb::recv`] would give, piece by piece.
    pub fn unread<'c, P, S>(
        &self,
        store: &'c ColdStore<P, S>,
    ) -> impl Iterator<Item = &'c P> + use<'c, P, S> {
        store.get(self.cold).into_iter().flat_map(|cold| &cold.unread)
    }

    /// Whether the peer has finished: the end of the stream follows what is unread.
    pub fn is_finished_by_peer(&self) -> bool {
        self.flags.has(Bits::FIN_RECEIVED)
    }

    /// The application gave `len_bytes` of received data back: the window reopens now, not at [`Tcb::recv`].
    #[inline]
    pub fn release(&mut self, len_bytes: u32) {
        self.rcv.held_bytes = self.rcv.held_bytes.saturating_sub(len_bytes);
        self.flags.set(Bits::TX_WINDOW);
    }

    /// [`Tcb::release`] for a caller that knows what the connection may hold ([`super::RecvTune::limit_bytes`]): while the window cannot move,
    /// there is nothing to look at.
    #[inline]
    pub fn release_within(&mut self, len_bytes: u32, limit_bytes: u32) {
        self.rcv.held_bytes = self.rcv.held_bytes.saturating_sub(len_bytes);
        if self.window_gain(limit_bytes).is_some() {
            self.flags.set(Bits::TX_WINDOW);
        }
    }

    /// Nothing will be read any more: what is unread and what still comes is acknowledged and thrown away.
    pub fn shutdown_read<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        self.flags.set(Bits::READ_SHUT);
        let Some(cold) = cx.cold.get_mut(self.cold) else { return };
        let dropped =
            cold.unread.drain(..).fold(0, |sum: u32, payload| sum.saturating_add(payload.len() as u32));
        if dropped > 0 {
            self.release(dropped);
            self.on_unread_drained(cx);
        }
    }

    /// Nothing will be written any more: a FIN follows what is queued. The peer may go on sending.
    pub fn shutdown_write<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        let next = match self.state {
            // The FIN waits for the handshake.
            State::SynSent => State::SynSent,
            State::SynReceived => State::SynReceived,
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            State::Closed
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait => return,
        };
        if !self.is_busy(cx.cold.get(self.cold)) {
            cx.totals.begin_busy(self.progress_at, cx.now);
        }
        self.transition(next);
        self.flags.set(Bits::FIN_QUEUED.or(Bits::TX_DATA));
    }

    /// The application is done (RFC 9293 3.10.4). Written data is still delivered, then a FIN follows; but with unread data, or a
    /// linger time of zero, the connection is reset (RFC 2525 2.17), so that the peer does not believe its data was read.
    pub fn close<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Outcome {
        let unread = cx.cold.get(self.cold).is_some_and(|cold| !cold.unread.is_empty());
        let reset = unread || cx.config.linger.is_some_and(|linger| linger.is_zero());
        self.flags.set(Bits::ORPHAN.or(Bits::READ_SHUT));
        match self.state {
            State::SynSent => self.abort(cx),
            State::Closed => self.forget(cx.cold),
            State::TimeWait => {
                self.forget_unread(cx);
                Outcome::default()
            }
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
                if reset =>
            {
                self.abort(cx)
            }
            State::SynReceived | State::Established | State::CloseWait => {
                self.shutdown_write(cx);
                Outcome::default()
            }
            State::FinWait2 => {
                self.arm_fin_wait2(cx.now, cx.config);
                Outcome::default()
            }
            State::FinWait1 | State::Closing | State::LastAck => Outcome::default(),
        }
    }

    /// Ends the connection at once (RFC 9293 3.10.5). Where the peer may still care, a RST leaves at the next
    /// [`Tcb::poll_transmit`].
    pub fn abort<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Outcome {
        self.flags.set(Bits::ORPHAN.or(Bits::READ_SHUT));
        if self.state == State::Closed {
            return self.forget(cx.cold);
        }
        self.end_by_reset(cx, CloseReason::Aborted)
    }

    /// Ends a connection whose peer is waited for no longer, as when retries run out: what is unread stays readable unless the
    /// application has closed it, and where the peer may still care, a RST leaves.
    pub fn give_up<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) -> Outcome {
        if self.state == State::Closed {
            return Outcome::default();
        }
        self.end_by_reset(cx, self.given_up())
    }

    fn end_by_reset<P: Payload, A: SendPool>(
        &mut self,
        cx: &mut Cx<'_, P, A>,
        reason: CloseReason,
    ) -> Outcome {
        match self.state {
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait => self.flags.set(Bits::TX_RST),
            // For the RFC all data has left in these states; while our FIN has not, the peer waits for what will not come.
            State::Closing | State::LastAck if !self.flags.has(Bits::FIN_SENT) => {
                self.flags.set(Bits::TX_RST);
            }
            State::SynSent | State::Closing | State::LastAck | State::TimeWait | State::Closed => {}
        }
        let mut outcome = Outcome::default();
        self.close_with(cx, reason, &mut outcome);
        outcome
    }

    /// Holds back segments below the MSS until [`Tcb::uncork`], but not longer than 200 ms (TCP_CORK).
    pub fn cork(&mut self) {
        self.flags.set(Bits::CORKED);
    }

    /// Lets held-back data go, and nothing that is written later.
    pub fn uncork<P, S>(&mut self, store: &ColdStore<P, S>) {
        self.flags.clear(Bits::CORKED);
        if store.get(self.cold).is_some_and(|cold| cold.send.has_unsent()) {
            self.flags.set(Bits::OVERRIDE.or(Bits::TX_DATA));
        }
    }

    /// What is written from now on shares no segment with what was written before (MSG_EOR).
    pub fn end_record<P, S>(&mut self, store: &mut ColdStore<P, S>) {
        if let Some(cold) = store.get_mut(self.cold) {
            cold.send.seal_last();
        }
    }

    /// Acknowledges what is pending, and the next few segments, without delay (TCP_QUICKACK).
    pub fn quick_ack(&mut self) {
        self.quick_acks = QUICK_ACKS;
        if self.delack_at != NEVER {
            self.flags.set(Bits::TX_ACK);
        }
    }

    /// The other way: what comes next waits for company, as far as it may (Linux's TCP_QUICKACK of 0).
    pub fn delay_acks(&mut self) {
        self.quick_acks = 0;
    }

    /// The caller changed the connection's [`super::Config`]: takes over what is not read anew each time.
    pub fn on_config_change<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        if self.state == State::Closed {
            // Nothing leaves any more, but perhaps a RST.
            return;
        }
        // What waits for the pacer says so anew: keepalive may take its deadline.
        self.flags.set(Bits::TX_DATA.or(Bits::TX_RTX));
        self.leave_model(cx);
        if self.rcv_wnd() < 2 * u32::from(self.mss) {
            // A larger buffer is news for a peer that waits for window; any other learns of it with the next acknowledgement.
            self.flags.set(Bits::TX_WINDOW);
        }
        match self.state {
            State::Closed | State::SynSent | State::SynReceived | State::TimeWait => {}
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => self.arm_keepalive(cx.now, cx.config),
        }
    }

    fn may_send(&self) -> Result<(), SendError> {
        if self.flags.has(Bits::FIN_QUEUED.or(Bits::ORPHAN)) {
            return Err(SendError::ShutDown);
        }
        match self.state {
            State::SynSent | State::SynReceived | State::Established | State::CloseWait => Ok(()),
            State::Closed => Err(SendError::NotConnected),
            // Only reached through FIN_QUEUED.
            State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck | State::TimeWait => {
                Err(SendError::ShutDown)
            }
        }
    }

    fn room(&self, limit_bytes: u32) -> Room {
        let start = match self.state {
            // The SYN comes first, whether it was sent or not.
            State::SynSent | State::SynReceived => self.snd.una + 1,
            State::Closed
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => self.snd.nxt,
        };
        Room { start, mss: self.mss, max_segs: Config::send_segs(limit_bytes) }
    }

    /// The application took the last unread piece.
    fn on_unread_drained<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        if let Some(cold) = cx.cold.get_mut(self.cold)
            && cold.urgent.is_some_and(|up| up.before_eq(self.rcv.nxt))
        {
            cold.urgent = None;
        }
        self.free_idle_cold(cx);
        if self.state == State::Closed {
            self.timer_at = cx.now;
        }
    }

    /// Drops what a closed connection still held for the application.
    fn forget<P, S>(&mut self, cold: &mut ColdStore<P, S>) -> Outcome {
        cold.free(self.cold);
        self.cold = ColdId::NONE;
        self.cancel_timers();
        Outcome::default()
    }

    fn forget_unread<P: Payload, A: SendPool>(&mut self, cx: &mut Cx<'_, P, A>) {
        cx.cold.free(self.cold);
        self.cold = ColdId::NONE;
    }
}

#[cfg(test)]
mod tests {
    use super::{RecvError, SendError};

    /// As `errno -l` has them on Linux.
    #[test]
    fn errors_have_their_numbers() {
        let numbers = [
            (SendError::NotConnected, 107),
            (SendError::ShutDown, 32),
            (SendError::NoBuffer, 105),
            (SendError::WouldBlock, 11),
        ];
        for (error, number) in numbers {
            assert_eq!(error.errno(), number, "{error:?}");
        }
        assert_eq!(RecvError::NotConnected.errno(), 107);
    }
}
