//! `recv` and `send` in all their forms: one function each way, which the others come down to.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddrV4;

use super::stream::{Phase, Reading, StreamId};
use super::{Control, Errno, Fd, FileId, Kind, Ready, Sockets};
use crate::config::Cork;
use crate::error::ConnError;
use crate::event::Conn;

/// What `recv` has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes: written to the buffers or, with `MSG_TRUNC`, as long as it was.
    pub len: usize,
    /// Who a datagram is from.
    pub from: Option<SocketAddrV4>,
    /// For `msghdr`: `MSG_TRUNC` for a datagram that was longer than the buffers, `MSG_ERRQUEUE` for what came out of that.
    pub flags: i32,
    /// For `recvmsg` alone.
    pub control: Option<Control>,
}

const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE | STREAM_FLAGS;
/// What concerns connections, bytes in a row, and memory.
const STREAM_FLAGS: i32 = libc::MSG_FASTOPEN | libc::MSG_EOR | libc::MSG_ZEROCOPY;

impl Sockets {
    /// `recvmsg(2)`; `read`, `readv`, `recv` and `recvfrom` are this too. `MSG_WAITALL` waits in
    /// [`super::call::recv`].
    ///
    /// # Errors
    /// [`Errno::AGAIN`], [`Errno::NOTCONN`], what the connection died of (once), [`Errno::INVAL`] for `MSG_OOB` (there is no urgent
    /// data), [`Errno::BADF`], [`Errno::NOTSOCK`]. Other flags mean nothing, as on Linux.
    pub fn recv(&mut self, fd: Fd, bufs: &mut [IoSliceMut<'_>], flags: i32) -> Result<Received, Errno> {
        self.recv_file(self.files.id(fd)?, bufs, flags)
    }

    pub(super) fn recv_file(
        &mut self,
        file: FileId,
        bufs: &mut [IoSliceMut<'_>],
        flags: i32,
    ) -> Result<Received, Errno> {
        if flags & libc::MSG_OOB != 0 {
            return Err(Errno::INVAL);
        }
        let is_of_errors = flags & libc::MSG_ERRQUEUE != 0;
        let id = match &self.files.get(file)?.kind {
            Kind::Stream(id) => *id,
            // Its error queue is always empty.
            Kind::Datagram(_) if is_of_errors => return Err(Errno::AGAIN),
            Kind::Datagram(_) => return self.recv_datagram(file, bufs, flags),
            Kind::Epoll(_) => return Err(Errno::NOTSOCK),
        };
        let Sockets { worker, streams, .. } = self;
        let stream = streams.get_mut(&id).ok_or(Errno::BADF)?;
        if is_of_errors {
            let control = stream.copied_sends.take().ok_or(Errno::AGAIN)?;
            return Ok(Received { len: 0, from: None, flags: libc::MSG_ERRQUEUE, control: Some(control) });
        }
        let reading = match flags & (libc::MSG_PEEK | libc::MSG_TRUNC) {
            0 => Reading::Take,
            libc::MSG_TRUNC => Reading::Discard,
            _ => Reading::Peek,
        };
        let len = stream.recv(worker, bufs, reading)?;
        let control = stream.choices.tells_unread.then(|| stream.unread_notice(worker));
        Ok(Received { len, from: None, flags: 0, control })
    }

    /// `sendmsg(2)` without control data; `write`, `writev`, `send` and `sendto` are this too. A short count is all that there was room
    /// for; [`super::call::send`] waits for the rest. An address is ignored by a connected stream, as on Linux.
    ///
    /// # Errors
    /// [`Errno::AGAIN`], [`Errno::PIPE`], what the connection died of (once), [`Errno::DESTADDRREQ`], [`Errno::MSGSIZE`];
    /// [`Errno::INPROGRESS`] when it has begun to connect (`MSG_FASTOPEN`, `TCP_FASTOPEN_CONNECT`) and nothing could go along with the
    /// SYN, and what `connect` says;
    /// [`Errno::OPNOTSUPP`] for flags that are not offered here, [`Errno::BADF`], [`Errno::NOTSOCK`].
    pub fn send(
        &mut self,
        fd: Fd,
        bufs: &[IoSlice<'_>],
        flags: i32,
        to: Option<SocketAddrV4>,
    ) -> Result<usize, Errno> {
        let file = self.files.id(fd)?;
        let sent = self.send_file(file, bufs, flags, to);
        self.tell_copied(file, flags, &sent);
        sent
    }

    /// After a whole `send`: with `MSG_ZEROCOPY` the program is told through the error queue that it may use its memory again, which is so
    /// at once, for it was copied. Nobody who has not set `SO_ZEROCOPY` is told, as on Linux.
    pub(super) fn tell_copied(&mut self, file: FileId, flags: i32, sent: &Result<usize, Errno>) {
        if flags & libc::MSG_ZEROCOPY == 0 || !matches!(sent, Ok(1..)) {
            return;
        }
        let stream = self.stream_id(file).ok().and_then(|id| self.streams.get_mut(&id));
        if let Some(stream) = stream.filter(|stream| stream.choices.is_told_of_copies) {
            stream.copied_sends.add();
            self.wake(file, Ready::ERR);
        }
    }

    pub(super) fn send_file(
        &mut self,
        file: FileId,
        bufs: &[IoSlice<'_>],
        flags: i32,
        to: Option<SocketAddrV4>,
    ) -> Result<usize, Errno> {
        if flags & !SEND_FLAGS != 0 {
            return Err(Errno::OPNOTSUPP);
        }
        let has_more = flags & libc::MSG_MORE != 0;
        let id = match &self.files.get(file)?.kind {
            Kind::Stream(id) => *id,
            // Neither joining datagrams, nor opening anything with one, nor telling of their memory is offered.
            Kind::Datagram(_) if has_more || flags & STREAM_FLAGS != 0 => {
                return Err(Errno::OPNOTSUPP);
            }
            Kind::Datagram(_) => return self.send_datagram(file, bufs, to),
            Kind::Epoll(_) => return Err(Errno::NOTSOCK),
        };
        let (conn, room) = self.conn_to_send(id, flags, to)?;
        let stream = self.streams.get_mut(&id).ok_or(Errno::BADF)?;
        let is_held_back = std::mem::replace(&mut stream.choices.is_more_to_come, has_more);
        let is_corked = stream.choices.is_corked;
        if has_more && !is_corked {
            self.worker.set_cork(conn, Cork::In)?;
        }
        let sent = self.write(conn, bufs, room);
        if is_held_back && !has_more && !is_corked {
            self.worker.set_cork(conn, Cork::Out)?;
        }
        if room.is_some() && !matches!(sent, Ok(1..)) {
            return Err(Errno::INPROGRESS);
        }
        let (sent, wanted) = (sent?, bufs.iter().map(|buf| buf.len()).sum());
        if sent == wanted && sent > 0 && flags & libc::MSG_EOR != 0 {
            self.worker.end_record(conn)?;
        }
        if (sent < wanted || !self.has_room_after(id, conn)?)
            && let Some(stream) = self.streams.get_mut(&id)
        {
            stream.is_writable = false;
        }
        if sent == 0 && wanted > 0 { Err(Errno::AGAIN) } else { Ok(sent) }
    }

    /// Whether there is room for another write; always, without `TCP_NOTSENT_LOWAT`, after one that was taken whole.
    fn has_room_after(&mut self, id: StreamId, conn: Conn) -> Result<bool, Errno> {
        let stream = self.streams.get(&id).ok_or(Errno::BADF)?;
        Ok(stream.options.unsent_low_water_bytes.is_none() || self.worker.poll_send_room(conn)?)
    }

    /// The connection that a write is for and, if this write has begun it, how many bytes its SYN takes.
    fn conn_to_send(
        &mut self,
        id: StreamId,
        flags: i32,
        to: Option<SocketAddrV4>,
    ) -> Result<(Conn, Option<usize>), Errno> {
        let stream = self.streams.get_mut(&id).ok_or(Errno::BADF)?;
        let is_fast = flags & libc::MSG_FASTOPEN != 0;
        let to = match &stream.phase {
            Phase::Deferred(to) => *to,
            Phase::Idle if is_fast => to.ok_or(Errno::INVAL)?,
            Phase::Connecting(_) if is_fast => return Err(Errno::ALREADY),
            // It has succeeded meanwhile, and this is how the program hears of it.
            Phase::Connected { conn, is_told: false } if is_fast => {
                let conn = *conn;
                stream.phase = Phase::Connected { conn, is_told: true };
                return stream.may_send().map(|conn| (conn, None));
            }
            Phase::Connected { .. } | Phase::Listening(_) if is_fast => return Err(Errno::ISCONN),
            Phase::Idle
            | Phase::Listening(_)
            | Phase::Connecting(_)
            | Phase::Connected { .. }
            | Phase::Failed
            | Phase::Ended => return stream.may_send().map(|conn| (conn, None)),
        };
        stream.phase = Phase::Idle;
        self.connect_to_send(id, to).map(|(conn, room_bytes)| (conn, Some(room_bytes)))
    }

    /// One write, whatever it was gathered from: only its last segment is pushed. One that connects takes what the SYN takes, as on Linux.
    fn write(&mut self, conn: Conn, bufs: &[IoSlice<'_>], room: Option<usize>) -> Result<usize, Errno> {
        let fitting = |bytes: &'_ [u8]| bytes.len().min(room.unwrap_or(usize::MAX));
        let sent = match bufs {
            [] => Ok(0),
            [one] => self.worker.send(conn, one.get(..fitting(one)).unwrap_or(one)),
            several => {
                let gathered: Vec<u8> = several.iter().flat_map(|buf| buf.iter().copied()).collect();
                self.worker.send(conn, gathered.get(..fitting(&gathered)).unwrap_or(&gathered))
            }
        };
        match sent {
            // It has ended, and the event that says how is on its way.
            Err(ConnError::NotConnected) => Ok(0),
            sent => sent.map_err(Errno::from),
        }
    }
}
