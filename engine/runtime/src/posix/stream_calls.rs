//! `bind`, `listen`, `accept`, `connect`, `shutdown` and `close` of stream sockets.

use std::net::{Shutdown, SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::addr::Named;
use super::ports::{Manner, Place};
use super::stream::{Phase, Queue, Stream, StreamId};
use super::{Errno, Fd, FileId, Kind, Mode, Ready, Sockets};
use crate::TcpState;
use crate::config::Cork;
use crate::error::CloseReason;
use crate::event::Conn;

/// Linux's somaxconn.
pub(super) const MAX_BACKLOG: i32 = 4096;

impl Sockets {
    /// `bind(2)`. A port of 0 becomes a free one at once.
    ///
    /// # Errors
    /// [`Errno::INVAL`] when it is bound or connected, [`Errno::ADDRNOTAVAIL`], [`Errno::ADDRINUSE`], [`Errno::BADF`],
    /// [`Errno::NOTSOCK`].
    pub fn bind(&mut self, fd: Fd, addr: Named) -> Result<(), Errno> {
        let addr = match addr {
            Named::Inet(addr) => addr,
            Named::Unspecified => return Err(Errno::AFNOSUPPORT),
        };
        let file = self.files.id(fd)?;
        match &self.files.get(file)?.kind {
            Kind::Stream(id) => self.bind_stream(*id, addr),
            Kind::Datagram(_) => self.bind_datagram(file, addr),
            Kind::Epoll(_) => Err(Errno::NOTSOCK),
        }
    }

    fn bind_stream(&mut self, id: StreamId, addr: SocketAddrV4) -> Result<(), Errno> {
        let stream = self.streams.get(&id).ok_or(Errno::BADF)?;
        if stream.bound.is_some() || !matches!(stream.phase, Phase::Idle | Phase::Failed | Phase::Ended) {
            return Err(Errno::INVAL);
        }
        if !addr.ip().is_unspecified() && !self.worker.is_local_address(*addr.ip()) {
            return Err(Errno::ADDRNOTAVAIL);
        }
        let port = if addr.port() == 0 { self.free_port()? } else { addr.port() };
        self.enter(id, SocketAddrV4::new(*addr.ip(), port))?;
        self.keep(id, SocketAddrV4::new(*addr.ip(), port));
        self.stand(id);
        Ok(())
    }

    /// The socket is bound to `addr` as long as it lives.
    fn keep(&mut self, id: StreamId, addr: SocketAddrV4) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.bound.is_none() {
            self.worker.hold_tcp_port(addr.port());
        }
        stream.bind(addr);
    }

    /// Whether others let the socket stand at `addr`. Connections that the worker remembers tolerate those who say `SO_REUSEADDR`.
    fn enter(&mut self, id: StreamId, addr: SocketAddrV4) -> Result<(), Errno> {
        let Some(stream) = self.streams.get_mut(&id) else { return Err(Errno::BADF) };
        let manner = if stream.choices.reuse_address { Manner::Sharing } else { Manner::Alone };
        let before = stream.place.take();
        before.into_iter().for_each(|place| self.ports.leave(place));
        let is_remembered = manner == Manner::Alone && self.worker.tcp_port_users(addr.port()) > 0;
        let is_free = !is_remembered && self.ports.may_enter(Place { addr, manner });
        self.stand(id);
        if is_free { Ok(()) } else { Err(Errno::ADDRINUSE) }
    }

    /// The index of ports follows the stream socket.
    pub(super) fn stand(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let now = stream.standing(&self.worker);
        let before = std::mem::replace(&mut stream.place, now);
        if before != now {
            before.into_iter().for_each(|place| self.ports.leave(place));
            now.into_iter().for_each(|place| self.ports.enter(place));
        }
    }

    /// See [`Sockets::stand`].
    pub(super) fn stand_of(&mut self, conn: Conn) {
        if let Some(id) = self.by_conn.get(&conn) {
            self.stand(*id);
        }
    }

    /// `listen(2)`. Again on a listening socket it changes the backlog.
    ///
    /// # Errors
    /// [`Errno::INVAL`] when it is connected, [`Errno::ADDRINUSE`], [`Errno::OPNOTSUPP`] for a datagram socket, [`Errno::BADF`],
    /// [`Errno::NOTSOCK`].
    pub fn listen(&mut self, fd: Fd, backlog: i32) -> Result<(), Errno> {
        let id = self.stream_id(self.files.id(fd)?)?;
        // Linux: a negative backlog is a very large one.
        let backlog = if backlog < 0 { MAX_BACKLOG } else { backlog.min(MAX_BACKLOG) };
        let Some(stream) = self.streams.get_mut(&id) else { return Err(Errno::BADF) };
        let before = std::mem::replace(&mut stream.options.backlog, backlog.unsigned_abs());
        match &stream.phase {
            Phase::Listening(_) => {
                let applied = self.apply_options(id);
                if applied.is_err()
                    && let Some(stream) = self.streams.get_mut(&id)
                {
                    stream.options.backlog = before;
                }
                return applied;
            }
            Phase::Idle => {}
            Phase::Deferred(_)
            | Phase::Connecting(_)
            | Phase::Connected { .. }
            | Phase::Failed
            | Phase::Ended => return Err(Errno::INVAL),
        }
        let bound = match stream.bound {
            Some(bound) => bound,
            None => SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, self.free_port()?),
        };
        // Linux asks again: others may listen there by now.
        self.enter(id, bound)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Err(Errno::BADF) };
        stream.listen_fast();
        let listener = self.worker.listen(bound.into(), &stream.options)?;
        stream.phase = Phase::Listening(Queue { listener, waiting: std::collections::VecDeque::new() });
        self.by_listener.insert(listener, id);
        self.keep(id, bound);
        self.stand(id);
        Ok(())
    }

    /// `accept4(2)`: the new descriptor and the peer.
    ///
    /// # Errors
    /// [`Errno::AGAIN`], [`Errno::INVAL`] when it does not listen, [`Errno::MFILE`] (the connection stays in the queue),
    /// [`Errno::OPNOTSUPP`] for a datagram socket, [`Errno::BADF`], [`Errno::NOTSOCK`].
    pub fn accept(&mut self, fd: Fd, mode: Mode) -> Result<(Fd, SocketAddrV4), Errno> {
        self.accept_from(self.files.id(fd)?, mode)
    }

    pub(super) fn accept_from(&mut self, file: FileId, mode: Mode) -> Result<(Fd, SocketAddrV4), Errno> {
        let id = self.stream_id(file)?;
        let otherwise = if self.is_stopped { Errno::SHUTDOWN } else { Errno::INVAL };
        let queue = self.streams.get_mut(&id).and_then(Stream::queue).ok_or(otherwise)?;
        let child = *queue.waiting.front().ok_or(Errno::AGAIN)?;
        let new = self.files.insert(Kind::Stream(child), mode == Mode::Nonblocking)?;
        queue.waiting.pop_front();
        // See `on_accepted`.
        let (listener, waiting) = (queue.listener, queue.waiting.len() as u32);
        self.worker.set_queued(listener, waiting);
        let file = self.files.id(new).ok();
        let peer = self.streams.get_mut(&child).and_then(|stream| {
            stream.file = file;
            stream.peer
        });
        // Every accepted stream knows its peer.
        Ok((new, peer.unwrap_or(SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0))))
    }

    /// `connect(2)`. For a stream socket the first call says [`Errno::INPROGRESS`]; [`super::call::connect`] waits.
    ///
    /// # Errors
    /// As Linux's: [`Errno::ALREADY`], [`Errno::ISCONN`], what `SO_ERROR` holds, and what is known at once.
    pub fn connect(&mut self, fd: Fd, to: Named) -> Result<(), Errno> {
        self.connect_file(self.files.id(fd)?, to)
    }

    pub(super) fn connect_file(&mut self, file: FileId, to: Named) -> Result<(), Errno> {
        let id = match &self.files.get(file)?.kind {
            Kind::Stream(id) => *id,
            Kind::Datagram(_) => return self.connect_datagram(file, to),
            Kind::Epoll(_) => return Err(Errno::NOTSOCK),
        };
        let to = match to {
            Named::Inet(to) => to,
            Named::Unspecified => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.disconnects += 1;
                }
                self.hang_up(id);
                return Ok(());
            }
        };
        if let Some(outcome) = self.tell_outcome(id) {
            return outcome;
        }
        let stream = self.streams.get(&id).ok_or(Errno::BADF)?;
        match &stream.phase {
            Phase::Idle if stream.choices.is_connect_deferred => self.defer_connection(id, to),
            Phase::Idle => self.open_connection(id, to, Opening::Plain),
            Phase::Connecting(_) => Err(Errno::ALREADY),
            Phase::Listening(_)
            | Phase::Deferred(_)
            | Phase::Connected { .. }
            | Phase::Failed
            | Phase::Ended => Err(Errno::ISCONN),
        }
    }

    /// `TCP_FASTOPEN_CONNECT`: the first write will connect if it can go along; else the SYN asks for a cookie now.
    fn defer_connection(&mut self, id: StreamId, to: SocketAddrV4) -> Result<(), Errno> {
        if self.prepare_fast_open(id, to) == 0 {
            return self.open_connection(id, to, Opening::Fast);
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Err(Errno::BADF) };
        stream.phase = Phase::Deferred(to);
        Ok(())
    }

    /// Bytes of what is written with a connect to this peer that can leave with its SYN.
    fn prepare_fast_open(&mut self, id: StreamId, to: SocketAddrV4) -> usize {
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        stream.options.fast_open = true;
        stream.take_local();
        self.worker.syn_text_room_bytes(to.into(), &stream.options)
    }

    /// A write that connects (`MSG_FASTOPEN`, or the first one after a deferred connect): the connection and how many bytes its SYN takes,
    /// [`Errno::INPROGRESS`] if the text has to wait for the handshake.
    pub(super) fn connect_to_send(&mut self, id: StreamId, to: SocketAddrV4) -> Result<(Conn, usize), Errno> {
        let room_bytes = self.prepare_fast_open(id, to);
        match self.open_connection(id, to, Opening::Fast) {
            Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
            Ok(()) => return Err(Errno::ISCONN),
        }
        let conn = self.streams.get(&id).and_then(Stream::conn).filter(|_| room_bytes > 0);
        Ok((conn.ok_or(Errno::INPROGRESS)?, room_bytes))
    }

    /// How a connect came out, for those who wait for it; none: it goes on.
    pub(super) fn connect_outcome(&mut self, file: FileId) -> Option<Result<(), Errno>> {
        let id = match self.stream_id(file) {
            Ok(id) => id,
            Err(error) => return Some(Err(error)),
        };
        if let Some(outcome) = self.tell_outcome(id) {
            return Some(outcome);
        }
        let stream = self.streams.get_mut(&id)?;
        match &stream.phase {
            Phase::Connecting(_) => None,
            // Another thread's call was told.
            Phase::Connected { .. } => Some(Ok(())),
            // Another thread has given it up, or it is over already.
            Phase::Idle | Phase::Listening(_) | Phase::Deferred(_) | Phase::Failed | Phase::Ended => {
                Some(Err(stream.error.take().unwrap_or(Errno::CONNABORTED)))
            }
        }
    }

    /// How the connect that a write has begun came out; for those who have waited for it.
    pub(super) fn end_opening(&mut self, file: FileId) -> Result<(), Errno> {
        let id = self.stream_id(file)?;
        self.tell_outcome(id).unwrap_or(Ok(()))
    }

    /// The rest of that write goes with the acknowledgement of the SYN-ACK. As on Linux it is an answer: the peer is not acknowledged quickly
    /// any more.
    pub(super) fn answer_opening(&mut self, file: FileId) {
        let conn = self.stream(file).and_then(Stream::conn);
        // Whether the connection is still there is the write's business.
        let _ = conn.map(|conn| self.worker.delay_acks(conn));
    }

    /// See [`Stream::tell_outcome`]. A socket whose connect has failed is as new.
    fn tell_outcome(&mut self, id: StreamId) -> Option<Result<(), Errno>> {
        let outcome = self.streams.get_mut(&id)?.tell_outcome();
        if let Some(Err(_)) = outcome {
            self.hang_up(id);
        }
        outcome
    }

    fn open_connection(&mut self, id: StreamId, to: SocketAddrV4, opening: Opening) -> Result<(), Errno> {
        let is_fast = opening == Opening::Fast || self.defaults.fast_open;
        let Some(stream) = self.streams.get_mut(&id) else { return Err(Errno::BADF) };
        if to.port() == 0 {
            // Nobody can listen there: what Linux hears from the peer is known before.
            (stream.phase, stream.error) = (Phase::Failed, Some(Errno::CONNREFUSED));
            if let Some(file) = stream.file {
                self.wake(file, Ready::ANYTHING);
            }
            return Err(Errno::INPROGRESS);
        }
        stream.options.fast_open = is_fast;
        stream.take_local();
        let conn = self.worker.connect(SocketAddr::V4(to), &stream.options)?;
        stream.phase = Phase::Connecting(conn);
        stream.peer = Some(to);
        stream.error = None;
        self.by_conn.insert(conn, id);
        self.cork_again(conn);
        self.stand(id);
        Err(Errno::INPROGRESS)
    }

    /// Whether a connect under way has come to an end; for those who wait for it.
    pub(super) fn is_connecting(&self, file: FileId) -> bool {
        let Ok(id) = self.stream_id(file) else { return false };
        self.streams.get(&id).is_some_and(|stream| matches!(stream.phase, Phase::Connecting(_)))
    }

    /// A cork that was chosen before there was a connection.
    pub(super) fn cork_again(&mut self, conn: Conn) {
        let Some(stream) = self.by_conn.get(&conn).and_then(|id| self.streams.get(id)) else { return };
        if stream.choices.is_corked {
            // The connection is there: it has just been made.
            let _ = self.worker.set_cork(conn, Cork::In);
        }
    }

    /// `shutdown(2)`.
    ///
    /// # Errors
    /// [`Errno::NOTCONN`], [`Errno::INVAL`] for another `how`, [`Errno::BADF`], [`Errno::NOTSOCK`].
    pub fn shutdown(&mut self, fd: Fd, how: i32) -> Result<(), Errno> {
        let file = self.files.id(fd)?;
        let how = match how {
            libc::SHUT_RD => Shutdown::Read,
            libc::SHUT_WR => Shutdown::Write,
            libc::SHUT_RDWR => Shutdown::Both,
            _ => return Err(Errno::INVAL),
        };
        let id = match &self.files.get(file)?.kind {
            Kind::Stream(id) => *id,
            Kind::Datagram(_) => return self.shutdown_datagram(file, how),
            Kind::Epoll(_) => return Err(Errno::NOTSOCK),
        };
        let stream = self.streams.get_mut(&id).ok_or(Errno::BADF)?;
        let conn = match &stream.phase {
            Phase::Idle | Phase::Failed | Phase::Ended => {
                // Linux says so, and does it.
                stream.shut(how);
                self.wake(file, Ready::ANYTHING);
                return Err(Errno::NOTCONN);
            }
            Phase::Listening(_) => {
                if how != Shutdown::Write {
                    self.hang_up(id);
                }
                return Ok(());
            }
            Phase::Deferred(_) | Phase::Connecting(_) => {
                self.hang_up(id);
                return Ok(());
            }
            Phase::Connected { conn, .. } => *conn,
        };
        // What is sent to a socket whose reading side is shut is still received, as on Linux: only reads stop waiting.
        let was_write_shut = stream.is_write_shut;
        stream.shut(how);
        if self.worker.tcp_state(conn) == Some(TcpState::TimeWait) {
            self.wake(file, Ready::ANYTHING);
            return Err(Errno::NOTCONN);
        }
        stream.phase = Phase::Connected { conn, is_told: true };
        let is_both_shut = stream.is_read_shut && stream.is_write_shut;
        if is_both_shut && stream.received_before_shut.is_none() {
            stream.received_before_shut = self.worker.tcp_info(conn).ok().map(|info| info.bytes_received);
        }
        if how != Shutdown::Read && !was_write_shut {
            self.worker.shutdown(conn, Shutdown::Write)?;
        }
        self.wake(file, Ready::ANYTHING);
        Ok(())
    }

    /// Linux's rule: what comes to a socket that is shut both ways, and has not heard the peer's end, resets the connection
    /// (RFC 9293 3.6.1, SHLD-3).
    pub(super) fn reset_if_shut(&mut self, conn: Conn) {
        let stream = self.by_conn.get(&conn).and_then(|id| self.streams.get(id));
        let Some(before) = stream.and_then(|stream| stream.received_before_shut) else { return };
        let news_bytes = self.worker.tcp_info(conn).map_or(0, |info| info.bytes_received - before);
        if news_bytes > 0 {
            let Sockets { worker, streams, by_conn, .. } = self;
            if let Some(stream) = by_conn.get(&conn).and_then(|id| streams.get_mut(id)) {
                stream.keep_unread(worker, news_bytes);
            }
            self.worker.abort(conn);
            self.on_closed(conn, CloseReason::Reset);
        }
    }

    /// Closes. While `close` should wait for what was written: for which connection, and how long.
    pub(super) fn begin_close(&mut self, fd: Fd) -> Result<Option<(Conn, Duration)>, Errno> {
        let file = self.files.id(fd)?;
        let lingering = self.stream(file).and_then(|stream| Some((stream.conn()?, stream.linger()?)));
        self.close(fd)?;
        // What another call holds is not closed yet, and not this one's to wait for.
        let lingering = lingering.filter(|_| self.files.get(file).is_err());
        Ok(lingering.filter(|(conn, _)| self.worker.is_delivering(*conn)))
    }

    /// Ends what the socket does and keeps the socket (Linux's disconnect).
    fn hang_up(&mut self, id: StreamId) {
        let conn = self.streams.get(&id).and_then(Stream::conn);
        let is_reset = conn.and_then(|conn| self.worker.tcp_state(conn)).is_some_and(|state| match state {
            TcpState::SynSent | TcpState::SynReceived | TcpState::Established => true,
            TcpState::FinWait1 | TcpState::FinWait2 | TcpState::CloseWait => true,
            TcpState::Closed | TcpState::Closing | TcpState::LastAck | TcpState::TimeWait => false,
        });
        self.let_go(id, Going::Reset);
        if let Some(stream) = self.streams.get_mut(&id) {
            let error = stream.error;
            stream.disconnect();
            // Linux's tcp_disconnect, for whoever waits for the connection.
            stream.error = is_reset.then_some(Errno::CONNRESET).or(error);
            if let Some(file) = stream.file {
                self.wake(file, Ready::ANYTHING);
            }
        }
        self.stand(id);
    }

    /// The descriptor is gone: what was written is still delivered, unless something was left unread (RFC 2525 2.17).
    pub(super) fn close_stream(&mut self, id: StreamId) {
        self.let_go(id, Going::Close);
        self.remove_stream(id);
    }

    fn remove_stream(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        stream.place.into_iter().for_each(|place| self.ports.leave(place));
        stream.bound.into_iter().for_each(|bound| self.worker.release_tcp_port(bound.port()));
        Some(stream)
    }

    fn let_go(&mut self, id: StreamId, going: Going) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(conn) = stream.source() {
            self.by_conn.remove(&conn);
            if going == Going::Reset || stream.is_read_in_part() {
                self.worker.abort(conn);
            } else {
                self.worker.close(conn);
            }
        }
        let Some(queue) = stream.queue() else { return };
        let (listener, waiting) = (queue.listener, std::mem::take(&mut queue.waiting));
        self.by_listener.remove(&listener);
        for child in waiting {
            if let Some(conn) = self.remove_stream(child).and_then(|child| child.source()) {
                self.by_conn.remove(&conn);
                self.worker.abort(conn);
            }
        }
        self.worker.close_listener(listener);
    }

    pub(super) fn peer_of(&self, stream: &Stream) -> Option<SocketAddrV4> {
        match stream.phase {
            // Linux: what is left of a connection in TIME-WAIT is not the socket's.
            Phase::Connected { conn, .. } if self.worker.tcp_state(conn) == Some(TcpState::TimeWait) => None,
            Phase::Connected { .. } => stream.peer,
            Phase::Idle
            | Phase::Listening(_)
            | Phase::Deferred(_)
            | Phase::Connecting(_)
            | Phase::Failed
            | Phase::Ended => None,
        }
    }

    /// `SO_RCVLOWAT`
    pub(super) fn recv_low_water(&self, file: FileId) -> usize {
        self.stream(file).map_or(1, |stream| stream.choices.recv_low_water as usize)
    }

    /// Whether a stream has nothing more to read, but an end or an error.
    pub(super) fn is_read_out(&self, file: FileId) -> bool {
        self.stream(file).is_some_and(|stream| stream.is_read_out(&self.worker))
    }

    /// Whether nothing follows what a stream has to read, but an end or an error.
    pub(super) fn is_ending(&self, file: FileId) -> bool {
        self.stream(file).is_some_and(Stream::is_ending)
    }

    /// See [`Stream::disconnects`].
    pub(super) fn disconnects(&self, file: FileId) -> u64 {
        self.stream(file).map_or(0, |stream| stream.disconnects)
    }

    /// Whether `SO_ERROR` of a stream holds anything.
    pub(super) fn has_error(&self, file: FileId) -> bool {
        self.stream(file).is_some_and(|stream| stream.error.is_some())
    }

    fn stream(&self, file: FileId) -> Option<&Stream> {
        self.streams.get(&self.stream_id(file).ok()?)
    }

    /// The stream socket behind a descriptor.
    pub(super) fn stream_id(&self, file: FileId) -> Result<StreamId, Errno> {
        match &self.files.get(file)?.kind {
            Kind::Stream(id) => Ok(*id),
            Kind::Datagram(_) => Err(Errno::OPNOTSUPP),
            Kind::Epoll(_) => Err(Errno::NOTSOCK),
        }
    }

    /// The engine resets everything: those who wait must hear of it. What has come can still be read.
    pub(super) fn end_all(&mut self) {
        let conns: Vec<Conn> = self.by_conn.keys().copied().collect();
        for conn in conns {
            self.change(conn, Ready::NONE, |stream| {
                if stream.leftover.is_none() {
                    stream.on_closed(CloseReason::ShuttingDown);
                }
            });
        }
        let listeners: Vec<StreamId> = self.by_listener.values().copied().collect();
        for id in listeners {
            self.let_go(id, Going::Reset);
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.phase = Phase::Ended;
                stream.error = Some(Errno::SHUTDOWN);
            }
        }
        for file in self.files.ids() {
            self.wake(file, Ready::ANYTHING);
        }
    }
}

/// Whether a connect takes part in Fast Open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    Plain,
    Fast,
}

/// How a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    Close,
    Reset,
}
