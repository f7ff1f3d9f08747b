//! A stream socket: what the program has said about it, and what has become of it.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::{IpAddr, Shutdown, SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::ancillary::{Control, CopiedSends};
use super::options::StreamChoices;
use super::ports::{Manner, Place};
use super::{Errno, FileId, Ready};
use crate::buffer::RxBuf;
use crate::config::TcpOptions;
use crate::error::CloseReason;
use crate::event::{Conn, Listener, Recv};
use crate::worker::Worker;

/// Names a stream socket, with or without a descriptor.
pub(super) type StreamId = u64;

/// One stream socket.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) options: TcpOptions,
    pub(super) choices: StreamChoices,
    /// Where `bind` or `listen` has put it.
    pub(super) bound: Option<SocketAddrV4>,
    /// Where its connection is, or was.
    was_at: Option<SocketAddrV4>,
    /// What is known of it to others who want to stand there.
    pub(super) place: Option<Place>,
    pub(super) peer: Option<SocketAddrV4>,
    pub(super) phase: Phase,
    /// The rest of a piece that was read in part. What is unread beyond it stays in the worker, within its books and the peer's window,
    /// but for what a reset here has left.
    rest: VecDeque<RxBuf>,
    /// Bytes of the connection that were read.
    read_bytes: u64,
    /// The connection has ended, and what came before is still in the worker.
    pub(super) leftover: Option<Conn>,
    /// The peer has finished.
    pub(super) is_eof: bool,
    pub(super) is_read_shut: bool,
    pub(super) is_write_shut: bool,
    /// Shut both ways: bytes received until then.
    pub(super) received_before_shut: Option<u64>,
    /// `SO_ERROR`.
    pub(super) error: Option<Errno>,
    /// `MSG_ZEROCOPY`
    pub(super) copied_sends: CopiedSends,
    /// The last write took everything, or there is room again.
    pub(super) is_writable: bool,
    /// How often a `connect` to nobody has taken its connection away: calls that wait for it are told.
    pub(super) disconnects: u64,
    /// The file behind it, unless the program has not accepted it yet.
    pub(super) file: Option<FileId>,
}

/// Where a stream socket stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// New, or disconnected again.
    Idle,
    Listening(Queue),
    /// `connect` with `TCP_FASTOPEN_CONNECT`: the first write sends the SYN, and goes along.
    Deferred(SocketAddrV4),
    Connecting(Conn),
    Connected {
        conn: Conn,
        /// The program has been told.
        is_told: bool,
    },
    /// The connect failed, and the program has not been told.
    Failed,
    /// It was connected and is over.
    Ended,
}

/// What a listener has accepted and the program has not.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) listener: Listener,
    pub(super) waiting: VecDeque<StreamId>,
}

/// What to do with what `recv` finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Take,
    /// `MSG_PEEK`
    Peek,
    /// `MSG_TRUNC`: counted and thrown away.
    Discard,
}

impl Stream {
    pub(super) fn new(options: TcpOptions, choices: StreamChoices) -> Stream {
        Stream {
            options,
            choices,
            bound: None,
            was_at: None,
            place: None,
            peer: None,
            phase: Phase::Idle,
            rest: VecDeque::new(),
            read_bytes: 0,
            leftover: None,
            is_eof: false,
            is_read_shut: false,
            is_write_shut: false,
            received_before_shut: None,
            error: None,
            copied_sends: CopiedSends::default(),
            is_writable: false,
            disconnects: 0,
            file: None,
        }
    }

    /// What a listener has accepted: it inherits what was chosen for the listener.
    pub(super) fn accepted(&self, conn: Conn, worker: &Worker) -> Stream {
        let mut stream = Stream::new(self.options.clone(), self.choices.clone());
        stream.phase = Phase::Connected { conn, is_told: true };
        stream.is_writable = true;
        if let Ok((SocketAddr::V4(local), SocketAddr::V4(peer))) = worker.addrs(conn) {
            stream.was_at = Some(local);
            stream.peer = Some(peer);
        }
        stream
    }

    /// It stands at `addr` from now on.
    pub(super) fn bind(&mut self, addr: SocketAddrV4) {
        (self.bound, self.was_at) = (Some(addr), None);
    }

    /// An active open is from where it was bound.
    pub(super) fn take_local(&mut self) {
        self.options.local = self.bound.map(|bound| (IpAddr::V4(*bound.ip()), bound.port()));
    }

    pub(super) fn conn(&self) -> Option<Conn> {
        match &self.phase {
            Phase::Connecting(conn) | Phase::Connected { conn, .. } => Some(*conn),
            Phase::Idle | Phase::Listening(_) | Phase::Deferred(_) | Phase::Failed | Phase::Ended => None,
        }
    }

    /// The connection that has, or had, something for the reader.
    pub(super) fn source(&self) -> Option<Conn> {
        self.conn().or(self.leftover)
    }

    pub(super) fn queue(&mut self) -> Option<&mut Queue> {
        match &mut self.phase {
            Phase::Listening(queue) => Some(queue),
            Phase::Idle
            | Phase::Deferred(_)
            | Phase::Connecting(_)
            | Phase::Connected { .. }
            | Phase::Failed
            | Phase::Ended => None,
        }
    }

    /// The local address, as far as there is one.
    pub(super) fn local(&self, worker: &Worker) -> Option<SocketAddrV4> {
        match self.conn().and_then(|conn| worker.addrs(conn).ok()) {
            Some((SocketAddr::V4(local), _)) => Some(local),
            _ => self.was_at.or(self.bound),
        }
    }

    /// Where it stands now: as long as it is bound, or has a connection.
    pub(super) fn standing(&mut self, worker: &Worker) -> Option<Place> {
        let at = self.conn().and_then(|conn| worker.addrs(conn).ok());
        if let Some((SocketAddr::V4(local), _)) = at.filter(|(local, _)| local.port() != 0) {
            self.was_at = Some(local);
        }
        let addr = self.bound.or_else(|| self.was_at.filter(|_| self.conn().is_some()))?;
        let is_listening = matches!(self.phase, Phase::Listening(_));
        let is_sharing = self.choices.reuse_address && !is_listening;
        Some(Place { addr, manner: if is_sharing { Manner::Sharing } else { Manner::Alone } })
    }

    /// What is unread, front to back.
    fn unread<'a>(&'a self, worker: &'a Worker) -> impl Iterator<Item = &'a RxBuf> {
        let later = self.source().into_iter().flat_map(|conn| worker.unread(conn));
        self.rest.iter().chain(later)
    }

    pub(super) fn unread_bytes(&self, worker: &Worker) -> u64 {
        match self.source().and_then(|conn| worker.outlook(conn)) {
            Some(outlook) => outlook.received_bytes.saturating_sub(self.read_bytes),
            None => self.rest.iter().map(|piece| piece.len() as u64).sum(),
        }
    }

    /// `TCP_INQ` (Linux's tcp_inq_hint): the end of the stream is something to read too.
    pub(super) fn unread_notice(&self, worker: &Worker) -> Control {
        let left = self.unread_bytes(worker) + u64::from(self.is_eof);
        Control::Unread(i32::try_from(left).unwrap_or(i32::MAX))
    }

    /// Whether as much is unread as `SO_RCVLOWAT` asks for, or there is something and more might not come (Linux's tcp_epollin_ready).
    pub(super) fn has_enough(&self, worker: &Worker) -> bool {
        let is_any = self.unread(worker).next().is_some();
        match self.choices.recv_low_water {
            0 | 1 => is_any,
            bytes => {
                let is_tight = || {
                    self.source().and_then(|conn| worker.outlook(conn)).is_some_and(|at| at.is_nearly_full)
                };
                is_any && (self.unread_bytes(worker) >= u64::from(bytes) || is_tight())
            }
        }
    }

    /// Before the connection goes: what is unread is kept, but for the last `dropped_bytes`.
    pub(super) fn keep_unread(&mut self, worker: &mut Worker, dropped_bytes: u64) {
        let unread_bytes = self.unread_bytes(worker);
        let mut kept_bytes = self.rest.iter().map(|piece| piece.len() as u64).sum::<u64>();
        while kept_bytes + dropped_bytes < unread_bytes
            && let Some(piece) = self.source().and_then(|conn| next_piece(worker, conn))
        {
            kept_bytes += piece.len() as u64;
            self.rest.push_back(piece);
        }
    }

    /// Whether the worker does not know of all that is unread.
    pub(super) fn is_read_in_part(&self) -> bool {
        !self.rest.is_empty()
    }

    /// `shutdown`, as far as it concerns calls here.
    pub(super) fn shut(&mut self, how: Shutdown) {
        self.is_read_shut |= how != Shutdown::Write;
        self.is_write_shut |= how != Shutdown::Read;
    }

    /// The connection is established.
    pub(super) fn on_connected(&mut self) {
        if let Phase::Connecting(conn) = self.phase {
            self.phase = Phase::Connected { conn, is_told: false };
            self.is_writable = true;
        }
    }

    /// How a connect has come out, for the program; none: it goes on, or the program knows. Who takes an error hangs up.
    pub(super) fn tell_outcome(&mut self) -> Option<Result<(), Errno>> {
        match &mut self.phase {
            Phase::Connected { is_told, .. } if !*is_told => {
                *is_told = true;
                Some(Ok(()))
            }
            Phase::Failed => Some(Err(self.error.take().unwrap_or(Errno::CONNABORTED))),
            Phase::Idle
            | Phase::Listening(_)
            | Phase::Deferred(_)
            | Phase::Connecting(_)
            | Phase::Connected { .. }
            | Phase::Ended => None,
        }
    }

    /// The connection has ended without `close`, perhaps before everything was read.
    pub(super) fn on_closed(&mut self, reason: CloseReason) {
        self.leftover = self.conn();
        self.error = match (super::errno::of_end(reason), &self.phase) {
            (None, Phase::Connecting(_)) => Some(Errno::CONNABORTED),
            // Linux: a reset in CLOSE-WAIT can only hit what is still to be written.
            (Some(Errno::CONNRESET), _) if self.is_eof && !self.is_write_shut => Some(Errno::PIPE),
            (errno, _) => errno,
        };
        self.phase = match self.phase {
            // For the program it has never been established.
            Phase::Connecting(_) | Phase::Connected { is_told: false, .. } => Phase::Failed,
            Phase::Idle
            | Phase::Listening(_)
            | Phase::Deferred(_)
            | Phase::Connected { .. }
            | Phase::Failed
            | Phase::Ended => Phase::Ended,
        };
    }

    /// Back to what `socket` gave, but for options and a bound address.
    pub(super) fn disconnect(&mut self) {
        let choices = self.choices.clone();
        let fresh = Stream::new(self.options.clone(), choices);
        *self = Stream {
            bound: self.bound,
            place: self.place,
            file: self.file,
            disconnects: self.disconnects,
            copied_sends: std::mem::take(&mut self.copied_sends),
            ..fresh
        };
    }

    /// Linux's order: what has come, the end of the stream, the error, what was shut, and then the wait.
    pub(super) fn recv(
        &mut self,
        worker: &mut Worker,
        bufs: &mut [IoSliceMut<'_>],
        reading: Reading,
    ) -> Result<usize, Errno> {
        if matches!(self.phase, Phase::Listening(_)) {
            return Err(Errno::NOTCONN);
        }
        if self.unread(worker).next().is_some() {
            let room = Room { bufs: bufs.iter_mut(), now: &mut [] };
            return Ok(match reading {
                Reading::Peek => self.peek(worker, room),
                Reading::Take | Reading::Discard => self.take(worker, room, reading),
            });
        }
        let end = self.after_the_bytes();
        if !self.is_eof {
            // Told once.
            self.error = None;
        }
        end.map(|()| 0)
    }

    /// What `recv` says when nothing is unread: the end, an error, or that it would have to wait.
    fn after_the_bytes(&self) -> Result<(), Errno> {
        if self.is_eof {
            return Ok(());
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        match self.phase {
            _ if self.is_read_shut => Ok(()),
            Phase::Failed | Phase::Ended => Ok(()),
            Phase::Idle | Phase::Listening(_) => Err(Errno::NOTCONN),
            Phase::Deferred(_) | Phase::Connecting(_) | Phase::Connected { .. } => Err(Errno::AGAIN),
        }
    }

    /// Whether nothing will follow what is unread.
    pub(super) fn is_ending(&self) -> bool {
        self.after_the_bytes() != Err(Errno::AGAIN)
    }

    /// Whether `recv` has something else to say than bytes.
    pub(super) fn is_read_out(&self, worker: &Worker) -> bool {
        self.is_ending() && self.unread(worker).next().is_none()
    }

    fn peek(&self, worker: &Worker, mut room: Room<'_, '_>) -> usize {
        let mut done = 0;
        for piece in self.unread(worker) {
            let mut from = &piece[..];
            while !from.is_empty() && room.is_any() {
                let len = room.put(from, Reading::Peek);
                done += len;
                from = from.get(len..).unwrap_or_default();
            }
        }
        done
    }

    fn take(&mut self, worker: &mut Worker, mut room: Room<'_, '_>, reading: Reading) -> usize {
        let mut done = 0;
        while room.is_any()
            && let Some(mut piece) = self.rest.pop_front().or_else(|| next_piece(worker, self.source()?))
        {
            let len = room.put(&piece, reading);
            done += len;
            piece.advance(len);
            self.read_bytes += len as u64;
            if !piece.is_empty() {
                self.rest.push_front(piece);
            }
        }
        done
    }

    /// What stands in the way of a write, if anything does.
    pub(super) fn may_send(&mut self) -> Result<Conn, Errno> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match self.phase {
            _ if self.is_write_shut => Err(Errno::PIPE),
            Phase::Idle | Phase::Listening(_) | Phase::Failed | Phase::Ended => Err(Errno::PIPE),
            Phase::Deferred(_) | Phase::Connecting(_) => Err(Errno::AGAIN),
            Phase::Connected { conn, .. } => Ok(conn),
        }
    }

    /// What `poll` says (Linux's tcp_poll).
    pub(super) fn ready(&self, worker: &Worker) -> Ready {
        if let Phase::Listening(queue) = &self.phase {
            return if queue.waiting.is_empty() { Ready::NONE } else { Ready::IN };
        }
        let is_over = matches!(self.phase, Phase::Failed | Phase::Ended);
        let is_in_shut = is_over || self.is_eof || self.is_read_shut;
        let is_out_shut = is_over || self.is_write_shut;
        let mut ready = Ready::NONE;
        if matches!(self.phase, Phase::Idle) || (is_in_shut && is_out_shut) {
            ready |= Ready::HUP;
        }
        if is_in_shut {
            ready |= Ready::IN | Ready::RDHUP;
        }
        if !matches!(self.phase, Phase::Connecting(_)) {
            if self.has_enough(worker) {
                ready |= Ready::IN;
            }
            if is_out_shut || self.is_writable || matches!(self.phase, Phase::Idle | Phase::Deferred(_)) {
                ready |= Ready::OUT;
            }
        }
        if self.error.is_some() || self.copied_sends.is_any() {
            ready |= Ready::ERR;
        }
        ready
    }

    /// How long `close` waits for what was written.
    pub(super) fn linger(&self) -> Option<Duration> {
        self.options.linger.filter(|linger| !linger.is_zero())
    }
}

fn next_piece(worker: &mut Worker, conn: Conn) -> Option<RxBuf> {
    match worker.recv(conn) {
        Ok(Recv::Data(piece)) => Some(piece),
        Ok(Recv::Empty | Recv::Eof) | Err(_) => None,
    }
}

/// What is left of a caller's buffers.
struct Room<'a, 'b> {
    bufs: std::slice::IterMut<'a, IoSliceMut<'b>>,
    now: &'a mut [u8],
}

impl Room<'_, '_> {
    /// Whether there is any room.
    fn is_any(&mut self) -> bool {
        while self.now.is_empty()
            && let Some(next) = self.bufs.next()
        {
            self.now = &mut next[..];
        }
        !self.now.is_empty()
    }

    /// As much as fits the buffer that is being filled.
    fn put(&mut self, from: &[u8], reading: Reading) -> usize {
        let len = from.len().min(self.now.len());
        let (to, later) = std::mem::take(&mut self.now).split_at_mut(len);
        if reading != Reading::Discard
            && let Some(from) = from.get(..len)
        {
            to.copy_from_slice(from);
        }
        self.now = later;
        len
    }
}
