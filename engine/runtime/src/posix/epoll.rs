//! Readiness: `poll`, and `epoll` by level, by edge and once.
//!
//! ```text
//! event of the worker, a call --> wake(file, what) --> each epoll that watches for it: the file goes onto its list
//! epoll_wait: looks at what is listed and at nothing else; what is ready by level goes back to the list's end
//! ```
//! As in Linux, what is listed may have something; only a look tells.

use std::collections::{BTreeMap, HashMap};

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

/// A number, and the file that it named when it was added.
type Watched = (Fd, FileId);

/// The descriptors that one epoll watches.
#[derive(Debug, Default)]
pub(super) struct Epoll {
    interests: HashMap<Watched, Interest>,
    /// Those that may have something, in the order in which they are looked at.
    listed: BTreeMap<u64, Watched>,
    next_place: u64,
}

#[derive(Debug)]
struct Interest {
    wanted: u32,
    data: u64,
    /// Where it is listed.
    place: Option<u64>,
    /// `EPOLLONESHOT`, and reported.
    is_spent: bool,
}

/// Who hears of a file's news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watcher {
    epoll: FileId,
    fd: Fd,
    /// `EPOLLEXCLUSIVE`
    is_exclusive: bool,
}

/// Always reported (epoll_ctl(2)).
const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
const EDGE: u32 = libc::EPOLLET as u32;
const ONE_SHOT: u32 = libc::EPOLLONESHOT as u32;
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
/// What may stand beside `EPOLLEXCLUSIVE`.
const WITH_EXCLUSIVE: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLWAKEUP) as u32 | ALWAYS | EDGE | EXCLUSIVE;
/// Linux's EP_MAX_NESTS: epolls that watch each other, beginning with one that watches a socket, are one more than this.
const MAX_NESTS: usize = 4;

impl Epoll {
    /// Something has happened that `what` says, at a file that is watched. False: nobody asked for that.
    fn list(&mut self, watched: Watched, what: Ready) -> bool {
        let Some(interest) = self.interests.get_mut(&watched) else { return false };
        if interest.is_spent || what & interest.wanted == 0 {
            return false;
        }
        if interest.place.is_none() {
            interest.place = Some(self.next_place);
            self.listed.insert(self.next_place, watched);
            self.next_place += 1;
        }
        true
    }

    /// Takes the first one from the list, if it stands before `end`.
    fn unlist_first(&mut self, end: u64) -> Option<Watched> {
        let first = self.listed.first_entry().filter(|first| *first.key() < end)?;
        let watched = first.remove();
        if let Some(interest) = self.interests.get_mut(&watched) {
            interest.place = None;
        }
        Some(watched)
    }

    fn remove(&mut self, watched: Watched) -> Option<Interest> {
        let interest = self.interests.remove(&watched)?;
        if let Some(place) = interest.place {
            self.listed.remove(&place);
        }
        Some(interest)
    }

    fn on_reported(&mut self, watched: Watched) {
        let Some(interest) = self.interests.get_mut(&watched) else { return };
        interest.is_spent = interest.wanted & ONE_SHOT != 0;
        if interest.wanted & EDGE == 0 {
            self.list(watched, Ready::ANYTHING);
        }
    }
}

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
                Some(ready) => (ready & (u32::from(entry.events.cast_unsigned()) | ALWAYS)) as i16,
                None => libc::POLLNVAL,
            };
            count += usize::from(entry.revents != 0);
        }
        count
    }

    /// What there is at a file.
    fn ready(&mut self, file: FileId) -> Option<Ready> {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        match &self.files.get(file).ok()?.kind {
            Kind::Stream(id) => self.streams.get(id).map(|stream| stream.ready(&self.worker)),
            Kind::Datagram(_) => Some(self.datagram_ready(file)),
            Kind::Epoll(_) => Some(if self.is_any_ready(file) { Ready::IN } else { Ready::NONE }),
        }
    }

    /// Whether `epoll_wait` would find anything.
    fn is_any_ready(&mut self, epoll: FileId) -> bool {
        while let Some(first) = self.epoll_mut(epoll).and_then(|epoll| epoll.listed.first_entry()) {
            let watched = *first.get();
            if self.found(epoll, watched).is_some() {
                return true;
            }
            if let Some(epoll) = self.epoll_mut(epoll) {
                epoll.unlist_first(u64::MAX);
            }
        }
        false
    }

    fn epoll_mut(&mut self, file: FileId) -> Option<&mut Epoll> {
        match &mut self.files.get_mut(file).ok()?.kind {
            Kind::Epoll(epoll) => Some(epoll),
            Kind::Stream(_) | Kind::Datagram(_) => None,
        }
    }

    /// Something has happened at a file: who watches or polls for any of `what` looks at it.
    pub(super) fn wake(&mut self, file: FileId, what: Ready) {
        let Ok(woken) = self.files.get_mut(file) else { return };
        woken.pulse += 1;
        if woken.watchers.is_empty() {
            return;
        }
        let watchers = std::mem::take(&mut woken.watchers);
        let mut is_one_served = false;
        for watcher in &watchers {
            if watcher.is_exclusive && is_one_served {
                continue;
            }
            let is_listed = self.list(watcher.epoll, (watcher.fd, file), what);
            // One of those that wish it is enough, if somebody waits there.
            is_one_served |= watcher.is_exclusive && is_listed && self.files.is_held(watcher.epoll);
        }
        if let Ok(woken) = self.files.get_mut(file) {
            woken.watchers = watchers;
        }
    }

    fn list(&mut self, epoll: FileId, watched: Watched, what: Ready) -> bool {
        let is_listed = self.epoll_mut(epoll).is_some_and(|epoll| epoll.list(watched, what));
        if is_listed {
            self.wake(epoll, Ready::IN);
        }
        is_listed
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

    /// `epoll_ctl(2)`. `EPOLLWAKEUP` means nothing, as on Linux without the right to it.
    ///
    /// # Errors
    /// [`Errno::EXIST`], [`Errno::NOENT`], [`Errno::BADF`], [`Errno::LOOP`] for epolls that would watch each other or are nested too
    /// deep, [`Errno::INVAL`] for anything that is no epoll, for an epoll that would watch itself and for what cannot stand beside
    /// `EPOLLEXCLUSIVE`, [`Errno::FAULT`] without an event.
    pub fn epoll_ctl(
        &mut self,
        watcher: Fd,
        operation: i32,
        fd: Fd,
        event: Option<EpollEvent>,
    ) -> Result<(), Errno> {
        let event = match event {
            // Not looked at.
            None if operation == libc::EPOLL_CTL_DEL => EpollEvent { events: 0, data: 0 },
            event => event.ok_or(Errno::FAULT)?,
        };
        let (watcher, file) = (self.files.id(watcher)?, self.files.id(fd)?);
        let is_nested = matches!(self.files.get(file)?.kind, Kind::Epoll(_));
        let is_exclusive = event.events & EXCLUSIVE != 0 && operation != libc::EPOLL_CTL_DEL;
        let is_fit = operation == libc::EPOLL_CTL_ADD && !is_nested && event.events & !WITH_EXCLUSIVE == 0;
        if watcher == file || self.epoll_mut(watcher).is_none() || (is_exclusive && !is_fit) {
            return Err(Errno::INVAL);
        }
        let watched = (fd, file);
        match operation {
            libc::EPOLL_CTL_ADD => self.watch(Watcher { epoll: watcher, fd, is_exclusive }, file, event),
            libc::EPOLL_CTL_MOD => {
                let epoll = self.epoll_mut(watcher).ok_or(Errno::INVAL)?;
                let interest = epoll.interests.get_mut(&watched).ok_or(Errno::NOENT)?;
                if interest.wanted & EXCLUSIVE != 0 {
                    return Err(Errno::INVAL);
                }
                (interest.wanted, interest.data) = (event.events | ALWAYS, event.data);
                interest.is_spent = false;
                self.list_if_ready(watcher, watched);
                Ok(())
            }
            libc::EPOLL_CTL_DEL => {
                let epoll = self.epoll_mut(watcher).ok_or(Errno::INVAL)?;
                epoll.remove(watched).ok_or(Errno::NOENT)?;
                self.forget_watcher(watched, watcher);
                Ok(())
            }
            _ => Err(Errno::INVAL),
        }
    }

    fn watch(&mut self, watcher: Watcher, file: FileId, event: EpollEvent) -> Result<(), Errno> {
        // As Linux, before it looks whether it is there already.
        if self.epoll_mut(file).is_some() {
            let below = self.nests_below(file, watcher.epoll).ok_or(Errno::LOOP)?;
            if below + 1 + self.nests_above(watcher.epoll) > MAX_NESTS {
                return Err(Errno::LOOP);
            }
        }
        let epoll = self.epoll_mut(watcher.epoll).ok_or(Errno::INVAL)?;
        let watched = (watcher.fd, file);
        if epoll.interests.contains_key(&watched) {
            return Err(Errno::EXIST);
        }
        let interest =
            Interest { wanted: event.events | ALWAYS, data: event.data, place: None, is_spent: false };
        epoll.interests.insert(watched, interest);
        self.files.get_mut(file)?.watchers.push(watcher);
        self.list_if_ready(watcher.epoll, watched);
        Ok(())
    }

    fn list_if_ready(&mut self, epoll: FileId, watched: Watched) {
        let is_listed =
            |epoll: &mut Epoll| epoll.interests.get(&watched).is_some_and(|one| one.place.is_some());
        // Linux: no news for those above when it is listed already.
        if self.found(epoll, watched).is_some() && !self.epoll_mut(epoll).is_some_and(is_listed) {
            self.list(epoll, watched, Ready::ANYTHING);
        }
    }

    /// How deep epolls are nested below a file; none: `watcher` is among them.
    fn nests_below(&self, file: FileId, watcher: FileId) -> Option<usize> {
        let Kind::Epoll(epoll) = &self.files.get(file).ok()?.kind else { return Some(0) };
        let is_epoll =
            |id: &FileId| self.files.get(*id).is_ok_and(|file| matches!(file.kind, Kind::Epoll(_)));
        let mut deepest = 0;
        for nested in epoll.interests.keys().map(|(_, id)| *id).filter(is_epoll) {
            if nested == watcher {
                return None;
            }
            deepest = deepest.max(self.nests_below(nested, watcher)? + 1);
        }
        Some(deepest)
    }

    fn nests_above(&self, epoll: FileId) -> usize {
        let watchers = self.files.get(epoll).map(|file| file.watchers.as_slice()).unwrap_or_default();
        watchers.iter().map(|watcher| self.nests_above(watcher.epoll) + 1).max().unwrap_or(0)
    }

    /// `epoll_wait(2)` without the wait; at most `max` events. [`super::call::epoll_wait`] waits.
    ///
    /// # Errors
    /// [`Errno::INVAL`] for anything that is no epoll or no room, [`Errno::BADF`].
    pub fn epoll_wait(&mut self, epoll: Fd, max: usize) -> Result<Vec<EpollEvent>, Errno> {
        self.take_ready(self.files.id(epoll)?, max)
    }

    pub(super) fn take_ready(&mut self, epoll: FileId, max: usize) -> Result<Vec<EpollEvent>, Errno> {
        if max == 0 {
            return Err(Errno::INVAL);
        }
        // What is listed again is for the next call.
        let end = self.epoll_mut(epoll).ok_or(Errno::INVAL)?.next_place;
        let mut found = Vec::new();
        while found.len() < max
            && let Some(watched) = self.epoll_mut(epoll).and_then(|epoll| epoll.unlist_first(end))
        {
            let Some(event) = self.found(epoll, watched) else { continue };
            found.push(event);
            if let Some(epoll) = self.epoll_mut(epoll) {
                epoll.on_reported(watched);
            }
        }
        Ok(found)
    }

    /// What an epoll would report of a descriptor now, if it is listed.
    fn found(&mut self, epoll: FileId, watched: Watched) -> Option<EpollEvent> {
        let ready = self.ready(watched.1)?;
        let interest = self.epoll_mut(epoll)?.interests.get(&watched)?;
        let events = ready & interest.wanted;
        (events != 0 && !interest.is_spent).then_some(EpollEvent { events, data: interest.data })
    }

    /// A closed file is watched by nobody, and watches nobody.
    pub(super) fn unwatch(&mut self, id: FileId, closed: &File) {
        for watcher in &closed.watchers {
            if let Some(epoll) = self.epoll_mut(watcher.epoll) {
                epoll.remove((watcher.fd, id));
            }
        }
        if let Kind::Epoll(epoll) = &closed.kind {
            for watched in epoll.interests.keys() {
                self.forget_watcher(*watched, id);
            }
        }
    }

    fn forget_watcher(&mut self, (fd, file): Watched, epoll: FileId) {
        if let Ok(file) = self.files.get_mut(file) {
            file.watchers.retain(|watcher| (watcher.epoll, watcher.fd) != (epoll, fd));
        }
    }
}

#[cfg(test)]
mod tests;
