//! What the application calls on a connection.

use ringwire_proto::tcp::{Info, Pressure, Recv as MachineRecv, RecvError, RecvTune, SendError};

use super::*;
use crate::buffer::{TxBuf, TxParts};
use crate::config::Cork;
use crate::error::{ConnError, Unsent};
use crate::event::Recv;
use crate::worker::flow::Wanted;

/// What a reader of a connection may want to know beside the unread bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outlook {
    /// Bytes of the stream that have come in order, read and unread.
    pub(crate) received_bytes: u64,
    /// More may not come before something is read.
    pub(crate) is_nearly_full: bool,
    /// The end of the stream.
    pub(crate) is_finished: bool,
    /// The end of the connection, which has come already.
    pub(crate) ended: Option<CloseReason>,
}

impl Streams {
    /// The slot of a connection that the application may still use.
    pub(super) fn slot(&self, conn: Conn) -> Result<u32, ConnError> {
        let key = Key::unpack(conn.0, self.worker).ok_or(ConnError::Closed)?;
        let flow = self.flows.get(key).ok_or(ConnError::Closed)?;
        if flow.owner == Owner::Application { Ok(key.slot) } else { Err(ConnError::Closed) }
    }

    /// The slot of a connection that has its local port: before that there is nowhere to keep what is written.
    fn placed_slot(&self, conn: Conn) -> Result<u32, ConnError> {
        let slot = self.slot(conn)?;
        match self.flows.at(slot) {
            Some(flow) if flow.tuple.local_port != 0 => Ok(slot),
            _ => Err(ConnError::NotConnected),
        }
    }

    pub(crate) fn recv(&mut self, io: &mut Io, conn: Conn) -> Result<Recv<RxBuf>, ConnError> {
        let key = Key::unpack(conn.0, self.worker).ok_or(ConnError::Closed)?;
        with_machine!(self, io, key key, |flow, cx, schedule| {
            if flow.owner != Owner::Application {
                return Err(ConnError::Closed);
            }
            match flow.tcb.recv(&mut cx) {
                Ok(MachineRecv::Data(buf)) => {
                    schedule.follow(key.slot, flow);
                    if flow.tcb.is_end_due() {
                        self.read_out.push(key.slot);
                    }
                    Ok(Recv::Data(lend(buf, conn, flow)))
                }
                Ok(MachineRecv::Empty) => Ok(Recv::Empty),
                Ok(MachineRecv::Eof) => Ok(Recv::Eof),
                Err(RecvError::NotConnected) => Err(ConnError::NotConnected),
                Err(_) => Err(ConnError::Closed),
            }
        })
        .unwrap_or(Err(ConnError::Closed))
    }

    /// What [`Streams::recv`] would give, piece by piece.
    pub(crate) fn unread(&self, conn: Conn) -> impl Iterator<Item = &RxBuf> {
        let flow = self.slot(conn).ok().and_then(|slot| self.flows.at(slot));
        flow.into_iter().flat_map(|flow| flow.tcb.unread(&self.cold))
    }

    pub(crate) fn state(&self, conn: Conn) -> Option<tcp::State> {
        let slot = self.slot(conn).ok()?;
        self.flows.at(slot).map(|flow| flow.tcb.state())
    }

    /// None of a connection that is gone.
    pub(crate) fn outlook(&self, conn: Conn) -> Option<Outlook> {
        let flow = self.slot(conn).ok().and_then(|slot| self.flows.at(slot))?;
        let config = self.options.get(usize::from(flow.options)).map(|set| &set.config);
        Some(Outlook {
            received_bytes: flow.totals.bytes_received(),
            is_nearly_full: config
                .is_some_and(|config| flow.tcb.is_nearly_full(&self.cold, config, &flow.tune)),
            is_finished: flow.tcb.is_finished_by_peer(),
            ended: flow.tcb.ended().map(CloseReason::from),
        })
    }

    /// The application gave back bytes of the connection with this tag; the window reopens.
    pub(crate) fn on_released(&mut self, tag: u64, len_bytes: u32) {
        let Some(key) = Key::unpack(tag, self.worker) else { return };
        let Some(flow) = self.flows.get_mut(key) else { return };
        match self.options.get(usize::from(flow.options)) {
            // Its turn to send comes anyway.
            _ if flow.tcb.wants_transmit() => flow.tcb.release(len_bytes),
            Some(set) => flow.tcb.release_within(len_bytes, flow.tune.limit_bytes(&set.config)),
            None => {}
        }
        self.schedule.follow(key.slot, flow);
    }

    pub(crate) fn send(&mut self, io: &mut Io, conn: Conn, bytes: &[u8]) -> Result<usize, ConnError> {
        let key = Key::unpack(conn.0, self.worker).ok_or(ConnError::Closed)?;
        let pressure = io.pressure;
        let sent = with_machine!(self, io, key key, |flow, cx, schedule| {
            if flow.owner != Owner::Application {
                return Err(ConnError::Closed);
            }
            if flow.tuple.local_port == 0 {
                return Err(ConnError::NotConnected);
            }
            follow_pressure(cx.tune, pressure);
            let sent = flow.tcb.send(&mut cx, bytes);
            schedule.follow(key.slot, flow);
            sent
        })
        .ok_or(ConnError::Closed)?;
        let sent = match sent {
            Err(SendError::NoBuffer) => {
                self.wait_for_memory(io, key.slot, Wanted::Any);
                0
            }
            sent => sent?,
        };
        io.counters.now.copied_bytes += sent as u64;
        Ok(sent)
    }

    pub(crate) fn send_buf(&mut self, io: &mut Io, conn: Conn, buf: TxBuf) -> Result<(), Unsent<TxBuf>> {
        let slot = match self.placed_slot(conn) {
            Ok(slot) => slot,
            Err(error) => return Err(Unsent { buf, error: Some(error) }),
        };
        let parts = match buf.into_parts() {
            // What the peer does not read would keep the frames for as long as it likes.
            TxParts::Frame(frame) if io.link.pool.is_low() => {
                io.counters.now.copied_bytes += frame.len() as u64;
                TxParts::Heap(frame.bytes().to_vec())
            }
            parts => parts,
        };
        let tcp_buf = match TcpBuf::new(parts, io.link.mss_bytes(), &io.heap) {
            Ok(tcp_buf) => tcp_buf,
            Err(parts) => copy_into_frame(io, parts).map_err(|(parts, wanted)| {
                self.wait_for_memory(io, slot, wanted);
                Unsent { buf: parts.into(), error: None }
            })?,
        };
        let mut tcp_buf = Some(tcp_buf);
        let pressure = io.pressure;
        let result = with_machine!(self, io, slot, |flow, cx| match tcp_buf.take() {
            Some(buf) => {
                follow_pressure(cx.tune, pressure);
                flow.tcb.send_buf(&mut cx, buf)
            }
            None => Ok(()),
        });
        match result {
            Some(Ok(())) => {
                self.reschedule(slot);
                Ok(())
            }
            Some(Err((buf, error))) => Err(give_back(buf, error)),
            None => Ok(()),
        }
    }

    pub(crate) fn shutdown(
        &mut self,
        io: &mut Io,
        conn: Conn,
        how: std::net::Shutdown,
    ) -> Result<(), ConnError> {
        use std::net::Shutdown;
        let slot = self.placed_slot(conn)?;
        let is_read_out = with_machine!(self, io, slot, |flow, cx| {
            if matches!(how, Shutdown::Read | Shutdown::Both) {
                flow.tcb.shutdown_read(&mut cx);
            }
            if matches!(how, Shutdown::Write | Shutdown::Both) {
                flow.tcb.shutdown_write(&mut cx);
            }
            flow.tcb.is_end_due()
        });
        if is_read_out == Some(true) {
            self.read_out.push(slot);
        }
        self.reschedule(slot);
        Ok(())
    }

    /// Orderly: written data is still delivered. The id is stale from now on.
    pub(crate) fn close(&mut self, io: &mut Io, conn: Conn) {
        let Ok(slot) = self.slot(conn) else { return };
        with_machine!(self, io, slot, |flow, cx| {
            flow.owner = Owner::Nobody;
            flow.tcb.close(&mut cx)
        });
        self.finish_by_user(io, slot);
        self.on_orphaned(io, slot);
    }

    /// Whether a connection, which may be closed, has something written or its FIN that the peer has not acknowledged.
    pub(crate) fn is_delivering(&self, conn: Conn) -> bool {
        let flow = Key::unpack(conn.0, self.worker).and_then(|key| self.flows.get(key));
        flow.is_some_and(|flow| match flow.tcb.state() {
            tcp::State::FinWait1 | tcp::State::Closing | tcp::State::LastAck => true,
            tcp::State::Closed
            | tcp::State::SynSent
            | tcp::State::SynReceived
            | tcp::State::Established
            | tcp::State::FinWait2
            | tcp::State::CloseWait
            | tcp::State::TimeWait => false,
        })
    }

    /// RST. The id is stale from now on.
    pub(crate) fn abort(&mut self, io: &mut Io, conn: Conn) {
        if let Ok(slot) = self.slot(conn) {
            self.abort_flow(io, slot);
        }
    }

    pub(super) fn abort_flow(&mut self, io: &mut Io, slot: u32) {
        if let Some((owner, signals)) = self.flows.at(slot).map(|flow| (flow.owner, flow.signals)) {
            self.leave_queue(owner, signals);
        }
        with_machine!(self, io, slot, |flow, cx| {
            flow.owner = Owner::Nobody;
            flow.tcb.abort(&mut cx)
        });
        self.finish_by_user(io, slot);
    }

    /// Resets everything: the application is gone, or the engine stops.
    pub(crate) fn abort_all(&mut self, io: &mut Io) {
        for listener in self.listener_keys() {
            self.close_listener(io, listener);
        }
        let slots: Vec<u32> = self.flows.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.abort_flow(io, slot);
        }
        self.forget_all(io);
        self.transmit(io);
    }

    /// After `close` or `abort`: free it at once when nothing has to be said any more.
    fn finish_by_user(&mut self, io: &mut Io, slot: u32) {
        let Some(flow) = self.flows.at(slot) else { return };
        let is_unplaced = flow.tuple.local_port == 0;
        if is_unplaced || (flow.tcb.is_closed() && !flow.tcb.wants_transmit()) {
            return self.remove(io, slot);
        }
        self.reschedule(slot);
        self.remember(io, slot);
    }

    pub(crate) fn set_cork(&mut self, io: &mut Io, conn: Conn, cork: Cork) -> Result<(), ConnError> {
        let slot = self.slot(conn)?;
        with_machine!(self, io, slot, |flow, cx| match cork {
            Cork::In => flow.tcb.cork(),
            Cork::Out => flow.tcb.uncork(cx.cold),
        });
        self.reschedule(slot);
        Ok(())
    }

    pub(crate) fn end_record(&mut self, io: &mut Io, conn: Conn) -> Result<(), ConnError> {
        let slot = self.slot(conn)?;
        with_machine!(self, io, slot, |flow, cx| flow.tcb.end_record(cx.cold));
        Ok(())
    }

    pub(crate) fn quick_ack(&mut self, io: &mut Io, conn: Conn) -> Result<(), ConnError> {
        let slot = self.slot(conn)?;
        with_machine!(self, io, slot, |flow, _cx| flow.tcb.quick_ack());
        self.reschedule(slot);
        Ok(())
    }

    pub(crate) fn delay_acks(&mut self, conn: Conn) -> Result<(), ConnError> {
        let slot = self.slot(conn)?;
        if let Some(flow) = self.flows.at_mut(slot) {
            flow.tcb.delay_acks();
        }
        Ok(())
    }

    pub(crate) fn poll_send_room(&mut self, io: &mut Io, conn: Conn) -> Result<bool, ConnError> {
        let slot = self.slot(conn)?;
        let has_room = with_machine!(self, io, slot, |flow, cx| flow.tcb.poll_send_room(&mut cx));
        has_room.ok_or(ConnError::Closed)
    }

    pub(crate) fn info(&mut self, io: &mut Io, conn: Conn) -> Result<Info, ConnError> {
        let slot = self.slot(conn)?;
        with_machine!(self, io, slot, |flow, cx| flow.tcb.info(&cx)).ok_or(ConnError::Closed)
    }

    pub(crate) fn tuple(&self, conn: Conn) -> Result<Tuple, ConnError> {
        let slot = self.slot(conn)?;
        self.flows.at(slot).map(|flow| flow.tuple).ok_or(ConnError::Closed)
    }
}

/// A piece for which the heap has no room, in a frame; or where there may be a place for it later.
#[cold]
fn copy_into_frame(io: &mut Io, parts: TxParts) -> Result<TcpBuf, (TxParts, Wanted)> {
    let Some(mut frame) = io.link.alloc(Class::Send) else { return Err((parts, Wanted::Any)) };
    let bytes = parts.bytes();
    if frame.tailroom() < bytes.len() {
        return Err((parts, Wanted::Heap));
    }
    frame.append(bytes.len()).copy_from_slice(bytes);
    io.counters.now.copied_bytes += bytes.len() as u64;
    // Frames are not booked.
    TcpBuf::new(TxParts::Frame(frame), io.link.mss_bytes(), &io.heap).map_err(|parts| (parts, Wanted::Any))
}

/// What the last segment found may be over, or may have begun; up to [`Pressure::Growth`] nothing depends on it here.
#[inline]
fn follow_pressure(tune: &mut RecvTune, now: Pressure) {
    if tune.pressure.max(now) > Pressure::Growth {
        tune.pressure = now;
    }
}

/// A piece in the application's hands; a copy on the heap holds no frame, so its window reopens with the next turn.
#[inline]
fn lend(buf: RxBuf, conn: Conn, flow: &mut Flow) -> RxBuf {
    let lent = buf.lend(conn.0);
    if lent.released_bytes > 0 {
        flow.tcb.release(u32::try_from(lent.released_bytes).unwrap_or(u32::MAX));
    }
    lent.buf
}

fn give_back(buf: TcpBuf, error: SendError) -> Unsent<TxBuf> {
    let error = match error {
        SendError::WouldBlock | SendError::NoBuffer => None,
        other => Some(other.into()),
    };
    Unsent { buf: buf.into_parts().into(), error }
}

impl From<SendError> for ConnError {
    fn from(error: SendError) -> ConnError {
        match error {
            SendError::NotConnected => ConnError::NotConnected,
            SendError::ShutDown => ConnError::ShutDown,
            _ => ConnError::Closed,
        }
    }
}
