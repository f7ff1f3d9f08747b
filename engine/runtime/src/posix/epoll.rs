//! Readiness: `poll`, and `epoll` by level, by edge and once.

use std::collections::BTreeMap;

use super::{Errno, Fd, File, FileId, Kind, Ready, Sockets};

/// One descriptor of a `poll`, in the layout of `struct pollfd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PollFd {
    /// The descriptor; negative: passed over.
    pub fd: Fd,
    /// What is asked for (`POLLIN` ..).
    pub events: i16,
    /// What there is.
    pub revents: i16,
}

/// What is watched for, or was found; the content of a `struct epoll_event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpollEvent {
    /// `EPOLLIN` .., with `EPOLLET` and `EPOLLONESHOT` on the way in.
    pub events: u32,
    /// The program's own.
    pub data: u64,
}

/// The descriptors that one epoll watches.
#[derive(Debug, Default)]
pub(super) struct Epoll {
    interests: BTreeMap<Watched, Interest>,
    /// The last one reported: the next look begins behind it, so that none starves.
    last: Watched,
}

/// A number, and the file that it named when it was added.
type Watched = (Fd, FileId);

#[derive(Debug)]
struct Interest {
    wanted: u32,
    data: u64,
    /// The socket's pulse when it was last reported; none: not yet.
    seen: Option<u64>,
    /// `EPOLLONESHOT`, and reported.
    is_spent: bool,
}

/// Always reported (epoll_ctl(2)).
const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
const EDGE: u32 = libc::EPOLLET as u32;
const ONE_SHOT: u32 = libc::EPOLLONESHOT as u32;
const CONDITIONS: u32 = (libc::EPOLLIN
    | libc::EPOLLRDNORM
    | libc::EPOLLOUT
    | libc::EPOLLWRNORM
    | libc::EPOLLPRI
    | libc::EPOLLRDHUP
    | libc::EPOLLRDBAND
    | libc::EPOLLWRBAND
    | libc::EPOLLMSG
    | libc::EPOLLERR
    | libc::EPOLLHUP) as u32;

impl Sockets {
    /// `poll(2)` without the wait: fills in `revents` and counts those that have any. [`super::call::poll`] waits.
    pub fn poll(&mut self, fds: &mut [PollFd]) -> usize {
        let mut count = 0;
        for entry in fds {
            entry.revents = 0;
            if entry.fd < 0 {
                continue;
            }
            entry.revents = match self.files.id(entry.fd).ok().and_then(|file| self.ready(file)) {
                // The bits of `poll` fit 16 bits, of which the sign is not one.
                Some((ready, _)) => (ready & (u32::from(entry.events.cast_unsigned()) | ALWAYS)) as i16,
                None => libc::POLLNVAL,
            };
            count += usize::from(entry.revents != 0);
        }
        count
    }

    /// What there is at a file, and its pulse.
    fn ready(&mut self, file: FileId) -> Option<(Ready, u64)> {
        match &self.files.get(file).ok()?.kind {
            Kind::Stream(id) => self.streams.get(id).map(|stream| (stream.ready(&self.worker), stream.pulse)),
            Kind::Datagram(socket) => {
                let pulse = socket.pulse;
                Some((self.datagram_ready(file), pulse))
            }
            Kind::Epoll(epoll) => {
                let watched: Vec<Watched> = epoll.interests.keys().copied().collect();
                let is_ready = watched.into_iter().any(|watched| self.found(file, watched).is_some());
                Some((if is_ready { Ready::IN } else { Ready::NONE }, 0))
            }
        }
    }

    /// `epoll_create1(2)`.
    ///
    /// # Errors
    /// [`Errno::INVAL`] for another flag than `EPOLL_CLOEXEC`, [`Errno::MFILE`].
    pub fn epoll_create(&mut self, flags: i32) -> Result<Fd, Errno> {
        if flags & !libc::EPOLL_CLOEXEC != 0 {
            return Err(Errno::INVAL);
        }
        self.open(Kind::Epoll(Epoll::default()), false)
    }

    /// `epoll_ctl(2)`. An epoll cannot watch another one.
    ///
    /// # Errors
    /// [`Errno::EXIST`], [`Errno::NOENT`], [`Errno::BADF`], [`Errno::INVAL`] for anything that is no epoll, for an epoll to be watched
    /// and for conditions that are not offered (`EPOLLEXCLUSIVE`, `EPOLLWAKEUP`).
    pub fn epoll_ctl(
        &mut self,
        watcher: Fd,
        operation: i32,
        fd: Fd,
        event: Option<EpollEvent>,
    ) -> Result<(), Errno> {
        let (watcher, file) = (self.files.id(watcher)?, self.files.id(fd)?);
        let is_epoll = matches!(self.files.get(file)?.kind, Kind::Epoll(_));
        let Kind::Epoll(epoll) = &mut self.files.get_mut(watcher)?.kind else { return Err(Errno::INVAL) };
        let watched = (fd, file);
        if is_epoll {
            return Err(Errno::INVAL);
        }
        let interest = || {
            let event = event.ok_or(Errno::INVAL)?;
            if event.events & !(CONDITIONS | EDGE | ONE_SHOT) != 0 {
                return Err(Errno::INVAL);
            }
            Ok(Interest { wanted: event.events | ALWAYS, data: event.data, seen: None, is_spent: false })
        };
        match operation {
            libc::EPOLL_CTL_ADD if epoll.interests.contains_key(&watched) => Err(Errno::EXIST),
            libc::EPOLL_CTL_ADD => {
                epoll.interests.insert(watched, interest()?);
                self.files.get_mut(file)?.watchers.push(watcher);
                Ok(())
            }
            libc::EPOLL_CTL_MOD => {
                *epoll.interests.get_mut(&watched).ok_or(Errno::NOENT)? = interest()?;
                Ok(())
            }
            libc::EPOLL_CTL_DEL => {
                epoll.interests.remove(&watched).ok_or(Errno::NOENT)?;
                self.forget_watcher(file, watcher);
                Ok(())
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// `epoll_wait(2)` without the wait; at most `max` events. [`super::call::epoll_wait`] waits.
    ///
    /// # Errors
    /// [`Errno::INVAL`] for anything that is no epoll or no room, [`Errno::BADF`].
    pub fn epoll_wait(&mut self, epoll: Fd, max: usize) -> Result<Vec<EpollEvent>, Errno> {
        self.take_ready(self.files.id(epoll)?, max)
    }

    pub(super) fn take_ready(&mut self, epoll: FileId, max: usize) -> Result<Vec<EpollEvent>, Errno> {
        let Kind::Epoll(watcher) = &self.files.get(epoll)?.kind else { return Err(Errno::INVAL) };
        if max == 0 {
            return Err(Errno::INVAL);
        }
        let last = watcher.last;
        let mut watched: Vec<Watched> = watcher.interests.keys().copied().collect();
        watched.sort_by_key(|watched| (*watched <= last, *watched));
        let mut found = Vec::new();
        for watched in watched {
            if found.len() == max {
                break;
            }
            let Some((event, pulse)) = self.found(epoll, watched) else { continue };
            found.push(event);
            if let Kind::Epoll(watcher) = &mut self.files.get_mut(epoll)?.kind {
                watcher.last = watched;
                if let Some(interest) = watcher.interests.get_mut(&watched) {
                    interest.seen = Some(pulse);
                    interest.is_spent = interest.wanted & ONE_SHOT != 0;
                }
            }
        }
        Ok(found)
    }

    /// What an epoll would report of a descriptor now.
    fn found(&mut self, epoll: FileId, watched: Watched) -> Option<(EpollEvent, u64)> {
        let (ready, pulse) = self.ready(watched.1)?;
        let Kind::Epoll(watcher) = &self.files.get(epoll).ok()?.kind else { return None };
        let interest = watcher.interests.get(&watched)?;
        let events = ready & (interest.wanted & CONDITIONS);
        let is_old = interest.wanted & EDGE != 0 && interest.seen == Some(pulse);
        (events != 0 && !is_old && !interest.is_spent)
            .then_some((EpollEvent { events, data: interest.data }, pulse))
    }

    /// A closed file is watched by nobody, and watches nobody.
    pub(super) fn unwatch(&mut self, id: FileId, closed: &File) {
        for watcher in &closed.watchers {
            if let Ok(File { kind: Kind::Epoll(epoll), .. }) = self.files.get_mut(*watcher) {
                epoll.interests.retain(|watched, _| watched.1 != id);
            }
        }
        if let Kind::Epoll(epoll) = &closed.kind {
            for watched in epoll.interests.keys() {
                self.forget_watcher(watched.1, id);
            }
        }
    }

    fn forget_watcher(&mut self, watched: FileId, watcher: FileId) {
        if let Ok(file) = self.files.get_mut(watched) {
            file.watchers.retain(|other| *other != watcher);
        }
    }
}
