//! `fcntl` and `ioctl`.

use super::{Errno, Fd, FileId, Kind, Sockets};

/// Linux's numbers (asm-generic/ioctls.h, linux/sockios.h), the same on x86-64 and AArch64; libc's have another type with each C library.
const FIONREAD: u64 = 0x541b;
const TIOCOUTQ: u64 = 0x5411;
const FIONBIO: u64 = 0x5421;
/// As `TIOCOUTQ`, without what has left.
const SIOCOUTQNSD: u64 = 0x894b;

/// What an `ioctl` gives or takes through its pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ioctl {
    /// A number for the caller (`FIONREAD`, `SIOCINQ`, `SIOCOUTQ`, `SIOCOUTQNSD`).
    Get(i32),
    /// `FIONBIO`: the caller's number says whether calls shall say [`Errno::AGAIN`] instead of waiting; give it to
    /// [`Sockets::set_nonblocking`].
    TakesNonblocking,
}

impl Sockets {
    /// `fcntl(2)`: `F_GETFL`, `F_SETFL` with `O_NONBLOCK`, `F_GETFD`, and `F_SETFD` with `FD_CLOEXEC`, which is what these descriptors
    /// are like anyway: the sockets live in this process.
    ///
    /// # Errors
    /// [`Errno::INVAL`] for everything else, [`Errno::BADF`].
    pub fn fcntl(&mut self, fd: Fd, command: i32, argument: i64) -> Result<i32, Errno> {
        /// Flags that `F_SETFL` can change on Linux, and nothing here.
        const OTHERS: i64 = (libc::O_APPEND | libc::O_ASYNC | libc::O_DIRECT | libc::O_NOATIME) as i64;
        let file = self.files.get_mut(self.files.id(fd)?)?;
        match command {
            libc::F_GETFL => Ok(libc::O_RDWR | if file.is_nonblocking { libc::O_NONBLOCK } else { 0 }),
            libc::F_SETFL if argument & OTHERS != 0 => Err(Errno::INVAL),
            libc::F_SETFL => {
                file.is_nonblocking = argument & i64::from(libc::O_NONBLOCK) != 0;
                Ok(0)
            }
            libc::F_GETFD => Ok(libc::FD_CLOEXEC),
            libc::F_SETFD if argument & i64::from(libc::FD_CLOEXEC) != 0 => Ok(0),
            _ => Err(Errno::INVAL),
        }
    }

    /// Sets or clears `O_NONBLOCK`.
    ///
    /// # Errors
    /// [`Errno::BADF`].
    pub fn set_nonblocking(&mut self, fd: Fd, argument: i32) -> Result<(), Errno> {
        self.files.get_mut(self.files.id(fd)?)?.is_nonblocking = argument != 0;
        Ok(())
    }

    /// Whether calls on this file wait.
    pub(super) fn waits(&self, file: FileId) -> bool {
        self.files.get(file).is_ok_and(|file| !file.is_nonblocking)
    }

    /// `ioctl(2)`.
    ///
    /// # Errors
    /// [`Errno::NOTTY`] for an unknown request, [`Errno::INVAL`] on a listening socket and on an epoll, [`Errno::BADF`].
    pub fn ioctl(&mut self, fd: Fd, request: u64) -> Result<Ioctl, Errno> {
        let file = self.files.id(fd)?;
        let bytes = match (request, &self.files.get(file)?.kind) {
            (FIONBIO, _) => return Ok(Ioctl::TakesNonblocking),
            (FIONREAD, Kind::Stream(_)) => {
                let unread = self.stream_not_listening(file)?.unread_bytes(&self.worker);
                usize::try_from(unread).unwrap_or(usize::MAX)
            }
            (FIONREAD, Kind::Datagram(_)) => self.next_datagram_len(file),
            (TIOCOUTQ | SIOCOUTQNSD, Kind::Stream(_)) => self.unsent_bytes(file, request)?,
            // What is written has left.
            (TIOCOUTQ, Kind::Datagram(_)) => 0,
            (_, Kind::Epoll(_)) => return Err(Errno::INVAL),
            _ => return Err(Errno::NOTTY),
        };
        Ok(Ioctl::Get(i32::try_from(bytes).unwrap_or(i32::MAX)))
    }

    fn stream_not_listening(&self, file: FileId) -> Result<&super::Stream, Errno> {
        let stream = self.streams.get(&self.stream_id(file)?).ok_or(Errno::BADF)?;
        if matches!(stream.phase, super::stream::Phase::Listening(_)) {
            Err(Errno::INVAL)
        } else {
            Ok(stream)
        }
    }

    fn unsent_bytes(&mut self, file: FileId, request: u64) -> Result<usize, Errno> {
        let conn = self.stream_not_listening(file)?.conn();
        let info = conn.and_then(|conn| self.worker.tcp_info(conn).ok());
        let Some(info) = info.filter(|info| info.state != crate::TcpState::SynSent) else { return Ok(0) };
        let unacked = if request == SIOCOUTQNSD { 0 } else { info.unacked_bytes };
        Ok((unacked + info.unsent_bytes) as usize)
    }
}
