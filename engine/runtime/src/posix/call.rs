//! Calls that may have to wait.
//!
//! A call is an attempt that is made again whenever something may have changed, until it is done: alone by [`wait`], or beside other
//! threads' calls by whoever owns the worker's thread.
//!
//! ```
//! use ringwire::posix::{Errno, Mode, Progress, Sockets, call};
//!
//! /// Waits until somebody connects.
//! fn accept(sockets: &mut Sockets, runner: &mut impl call::Runner, fd: i32) -> Result<i32, Errno> {
//!     let (new, _peer) = call::wait(sockets, runner, call::accept(fd, Mode::Blocking))??;
//!     Ok(new)
//! }
//! ```

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddrV4;
use std::time::Duration;

use super::addr::Named;
use super::{EpollEvent, Errno, Fd, FileId, Hold, Mode, PollFd, Received, Sockets, Turned};

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<R> {
    /// It is done.
    Done(R),
    /// Make the attempt again when there is news for any socket, and in any case when the clock reaches `until_ns`.
    Wait {
        /// In the time of [`Sockets::now_ns`].
        until_ns: Option<u64>,
    },
}

/// Runs a worker for calls that wait: in real time, in virtual time, however the caller likes.
pub trait Runner {
    /// Turns of the worker until one brings news, or the clock has reached `until_ns`; none: only news end it.
    ///
    /// # Errors
    /// [`Errno::INTR`], or another one that ends the call.
    fn run_until(&mut self, sockets: &mut Sockets, until_ns: Option<u64>) -> Result<(), Errno>;
}

/// Real time: the worker sleeps in the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealTime;

impl Runner for RealTime {
    fn run_until(&mut self, sockets: &mut Sockets, until_ns: Option<u64>) -> Result<(), Errno> {
        let timeout = until_ns.map(|until| Duration::from_nanos(until.saturating_sub(sockets.now_ns())));
        match sockets.turn(timeout) {
            Ok(Turned::Quiet | Turned::News) => Ok(()),
            Ok(Turned::Stopped) | Err(_) => Err(Errno::SHUTDOWN),
        }
    }
}

/// Makes an attempt again and again until it is done. A turn comes before the first one, so that a call that does not wait sees what has
/// come too, and time is counted from now; who makes attempts without this function begins with a turn likewise.
///
/// # Errors
/// What the runner ended it with before it had done anything.
pub fn wait<R>(
    sockets: &mut Sockets,
    runner: &mut impl Runner,
    mut attempt: impl FnMut(&mut Sockets) -> Progress<R>,
) -> Result<R, Errno> {
    // What ends it ends the wait, if there is one.
    let mut turned = runner.run_until(sockets, Some(sockets.now_ns()));
    loop {
        match attempt(sockets) {
            Progress::Done(result) => return Ok(result),
            Progress::Wait { until_ns } => {
                turned = turned.and_then(|()| runner.run_until(sockets, until_ns));
                if let Err(ended) = turned {
                    return break_off(sockets, &mut attempt).ok_or(ended);
                }
            }
        }
    }
}

/// The last attempt of a call whose wait has ended before it was done: the result if there is one, which is what the call has done so
/// far, as after a signal. None: it has done nothing.
pub fn break_off<R>(
    sockets: &mut Sockets,
    attempt: &mut impl FnMut(&mut Sockets) -> Progress<R>,
) -> Option<R> {
    sockets.is_breaking_off = true;
    let progress = attempt(sockets);
    sockets.is_breaking_off = false;
    match progress {
        Progress::Done(result) => Some(result),
        Progress::Wait { .. } => None,
    }
}

/// Which of the two timeouts of a socket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Receive,
    Send,
}

/// A call for the file that the descriptor names at the first attempt, as on Linux: when another thread closes it, the call goes on with
/// that file and keeps it, and what comes to another file under its number is not for this call.
fn holding<R>(
    fd: Fd,
    mut attempt: impl FnMut(&mut Sockets, FileId) -> Progress<Result<R, Errno>>,
) -> impl FnMut(&mut Sockets) -> Progress<Result<R, Errno>> {
    let mut hold: Option<Hold> = None;
    move |sockets| {
        let file = match &hold {
            Some(hold) => hold.file,
            None => match sockets.files.hold(fd) {
                Ok(new) => hold.insert(new).file,
                Err(error) => return Progress::Done(Err(error)),
            },
        };
        let progress = attempt(sockets, file);
        if let Progress::Done(_) = progress {
            hold = None;
            sockets.release_closed();
        }
        progress
    }
}

/// The end of a wait, fixed at the first attempt.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    direction: Direction,
    until_ns: Option<Option<u64>>,
}

/// What a call waits for: the connection of its first attempt.
#[derive(Debug, Default)]
struct Connection {
    disconnects: Option<u64>,
}

impl Connection {
    /// Whether another thread's `connect` to nobody has ended it since. Linux then says EPIPE, and `SO_ERROR` keeps the rest.
    fn is_taken_away(&mut self, sockets: &Sockets, file: FileId) -> bool {
        let now = sockets.disconnects(file);
        *self.disconnects.get_or_insert(now) != now
    }
}

/// When nothing announces that there is memory or room in a ring again, somebody has to look.
const LOOK_AGAIN_NS: u64 = 1_000_000;

impl Deadline {
    fn new(direction: Direction) -> Deadline {
        Deadline { direction, until_ns: None }
    }

    /// Whether to go on waiting, and until when. A wait that ends leaves what is `done` or, when its time is over, says `over`.
    fn wait<R>(
        &mut self,
        sockets: &Sockets,
        file: FileId,
        done: Option<R>,
        over: Errno,
    ) -> Progress<Result<R, Errno>> {
        let until_ns = *self.until_ns.get_or_insert_with(|| {
            let timeouts = sockets.timeouts(file);
            let timeout = match self.direction {
                Direction::Receive => timeouts.recv,
                Direction::Send => timeouts.send,
            };
            timeout.map(|timeout| after(sockets, timeout))
        });
        let is_over = until_ns.is_some_and(|until_ns| until_ns <= sockets.now_ns());
        match done {
            Some(done) if is_over || sockets.is_breaking_off => Progress::Done(Ok(done)),
            None if is_over => Progress::Done(Err(over)),
            Some(_) | None => Progress::Wait { until_ns },
        }
    }
}

fn after(sockets: &Sockets, timeout: Duration) -> u64 {
    let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
    sockets.now_ns().saturating_add(timeout_ns)
}

/// `accept4(2)` that waits for a connection, unless the descriptor says that nothing waits.
pub fn accept(fd: Fd, mode: Mode) -> impl FnMut(&mut Sockets) -> Progress<Result<(Fd, SocketAddrV4), Errno>> {
    let mut deadline = Deadline::new(Direction::Receive);
    holding(fd, move |sockets, file| match sockets.accept_from(file, mode) {
        Err(Errno::AGAIN) if sockets.waits(file) => deadline.wait(sockets, file, None, Errno::AGAIN),
        done => Progress::Done(done),
    })
}

/// `connect(2)` that waits for the handshake; `SO_SNDTIMEO` over: [`Errno::INPROGRESS`], and it goes on.
pub fn connect(fd: Fd, to: Named) -> impl FnMut(&mut Sockets) -> Progress<Result<(), Errno>> {
    let mut deadline = Deadline::new(Direction::Send);
    let (mut has_begun, mut connection) = (false, Connection::default());
    holding(fd, move |sockets, file| {
        if connection.is_taken_away(sockets, file) {
            return Progress::Done(Err(Errno::PIPE));
        }
        if !has_begun {
            match sockets.connect_file(file, to) {
                Err(Errno::INPROGRESS | Errno::ALREADY) if sockets.waits(file) => has_begun = true,
                done => return Progress::Done(done),
            }
        }
        // From now on it only looks on: another connect would be a new one.
        match sockets.connect_outcome(file) {
            Some(outcome) => Progress::Done(outcome),
            None => deadline.wait(sockets, file, None, Errno::INPROGRESS),
        }
    })
}

/// `recv` that waits for as many bytes as `SO_RCVLOWAT` says or, with `MSG_WAITALL`, for as many as there is room for. What has come when the time is over,
/// the stream ends or fails is the result, with the buffer.
pub fn recv<B: AsMut<[u8]>>(
    fd: Fd,
    buf: B,
    flags: i32,
) -> impl FnMut(&mut Sockets) -> Progress<Result<(Received, B), Errno>> {
    let mut buf = Some(buf);
    let mut attempt = recv_into(flags);
    holding(fd, move |sockets, file| {
        let bytes = buf.as_mut().map(AsMut::as_mut).unwrap_or_default();
        match attempt(sockets, file, bytes) {
            Progress::Wait { until_ns } => Progress::Wait { until_ns },
            // Given back once: nobody attempts what is done.
            Progress::Done(found) => {
                Progress::Done(found.and_then(|found| Ok((found, buf.take().ok_or(Errno::INVAL)?))))
            }
        }
    })
}

fn recv_into(flags: i32) -> impl FnMut(&mut Sockets, FileId, &mut [u8]) -> Progress<Result<Received, Errno>> {
    let (mut deadline, mut connection) = (Deadline::new(Direction::Receive), Connection::default());
    let mut done = Received { len: 0, from: None, flags: 0, control: None };
    let is_peek = flags & libc::MSG_PEEK != 0;
    move |sockets, file, buf| {
        if connection.is_taken_away(sockets, file) {
            return Progress::Done(if done.len > 0 { Ok(done) } else { Err(Errno::PIPE) });
        }
        // A datagram is never joined to another.
        let low_water = sockets.recv_low_water(file);
        let is_all = flags & libc::MSG_WAITALL != 0 && sockets.stream_id(file).is_ok();
        let enough = if is_all { buf.len() } else { low_water.min(buf.len()) };
        // Nobody waits for the error queue.
        let waits = sockets.waits(file) && flags & (libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE) == 0;
        loop {
            if done.len > 0 && sockets.is_read_out(file) {
                // The next call is told why.
                return Progress::Done(Ok(done));
            }
            // Peeking begins anew each time.
            let taken = if is_peek { 0 } else { done.len };
            let rest = buf.get_mut(taken..).unwrap_or_default();
            match sockets.recv_file(file, &mut [IoSliceMut::new(rest)], flags) {
                Ok(found) => {
                    done = Received { len: taken + found.len, ..found };
                    let is_all_there_is = is_peek && (!waits || sockets.is_ending(file));
                    if done.len >= enough || found.len == 0 || is_all_there_is {
                        return Progress::Done(Ok(done));
                    }
                    if is_peek {
                        return deadline.wait(sockets, file, Some(done), Errno::AGAIN);
                    }
                }
                Err(Errno::AGAIN) if waits => {
                    return deadline.wait(sockets, file, (done.len > 0).then_some(done), Errno::AGAIN);
                }
                Err(_) if done.len > 0 => return Progress::Done(Ok(done)),
                Err(error) => return Progress::Done(Err(error)),
            }
        }
    }
}

/// `send` that waits until everything was taken, and for the handshake if it has begun to connect. What was taken when the time is over
/// or the stream fails is the result; if the connect fails, its error is.
pub fn send(
    fd: Fd,
    bytes: impl AsRef<[u8]>,
    flags: i32,
    to: Option<SocketAddrV4>,
) -> impl FnMut(&mut Sockets) -> Progress<Result<usize, Errno>> {
    let mut attempt = send_all(bytes, flags, to);
    holding(fd, move |sockets, file| {
        let progress = attempt(sockets, file);
        if let Progress::Done(sent) = &progress {
            sockets.tell_copied(file, flags, sent);
        }
        progress
    })
}

fn send_all(
    bytes: impl AsRef<[u8]>,
    flags: i32,
    to: Option<SocketAddrV4>,
) -> impl FnMut(&mut Sockets, FileId) -> Progress<Result<usize, Errno>> {
    let mut deadline = Deadline::new(Direction::Send);
    let (mut done, mut is_opening, mut flags) = (0, false, flags);
    move |sockets, file| {
        let bytes = bytes.as_ref();
        let waits = sockets.waits(file) && flags & libc::MSG_DONTWAIT == 0;
        if is_opening {
            if sockets.is_connecting(file) {
                return deadline.wait(sockets, file, (done > 0).then_some(done), Errno::INPROGRESS);
            }
            is_opening = false;
            match sockets.end_opening(file) {
                Ok(()) if done == bytes.len() => return Progress::Done(Ok(done)),
                Ok(()) => sockets.answer_opening(file),
                Err(error) => return Progress::Done(Err(error)),
            }
        }
        let rest = bytes.get(done..).unwrap_or_default();
        if done > 0 && sockets.has_error(file) {
            // The next call is told of it.
            return Progress::Done(Ok(done));
        }
        let was_connecting = sockets.is_connecting(file);
        let sent = sockets.send_file(file, &[IoSlice::new(rest)], flags, to);
        if waits && !was_connecting && sockets.is_connecting(file) {
            (done, is_opening) = (sent.unwrap_or(0), true);
            flags &= !libc::MSG_FASTOPEN;
            return deadline.wait(sockets, file, (done > 0).then_some(done), Errno::INPROGRESS);
        }
        match sent {
            // What has begun to connect has failed already.
            Err(Errno::INPROGRESS) if waits => {
                return Progress::Done(Err(sockets.end_opening(file).err().unwrap_or(Errno::INPROGRESS)));
            }
            Ok(sent) if sent < rest.len() && waits => done += sent,
            Ok(sent) => return Progress::Done(Ok(done + sent)),
            Err(Errno::AGAIN) if waits => {}
            Err(_) if done > 0 => return Progress::Done(Ok(done)),
            Err(error) => return Progress::Done(Err(error)),
        }
        match deadline.wait(sockets, file, (done > 0).then_some(done), Errno::AGAIN) {
            Progress::Wait { until_ns } if sockets.stream_id(file).is_err() => {
                let look = sockets.now_ns() + LOOK_AGAIN_NS;
                Progress::Wait { until_ns: Some(until_ns.map_or(look, |until| until.min(look))) }
            }
            progress => progress,
        }
    }
}

/// `close(2)` that waits as long as `SO_LINGER` says until what was written, and the end, are acknowledged. The descriptor is gone after
/// the first attempt; the others only look on.
pub fn close(fd: Fd) -> impl FnMut(&mut Sockets) -> Progress<Result<(), Errno>> {
    let mut lingering = None;
    move |sockets| {
        let (conn, until_ns) = match lingering {
            Some(lingering) => lingering,
            None => match sockets.begin_close(fd) {
                Ok(Some((conn, linger))) => *lingering.insert((conn, after(sockets, linger))),
                Ok(None) => return Progress::Done(Ok(())),
                Err(error) => return Progress::Done(Err(error)),
            },
        };
        let is_over = until_ns <= sockets.now_ns() || sockets.is_breaking_off;
        if is_over || !sockets.worker.is_delivering(conn) {
            return Progress::Done(Ok(()));
        }
        // Nothing announces that a FIN was acknowledged.
        Progress::Wait { until_ns: Some(until_ns.min(sockets.now_ns() + LOOK_AGAIN_NS)) }
    }
}

/// Milliseconds of `poll` and `epoll_wait`: negative is for ever.
fn limit_ns(sockets: &Sockets, timeout_ms: i32) -> Option<u64> {
    let ms = u64::try_from(timeout_ms).ok()?;
    Some(after(sockets, Duration::from_millis(ms)))
}

/// `poll(2)`: the descriptors with what was found, and how many of them have anything.
pub fn poll(fds: Vec<PollFd>, timeout_ms: i32) -> impl FnMut(&mut Sockets) -> Progress<(Vec<PollFd>, usize)> {
    let mut fds = fds;
    let (mut until_ns, mut held) = (None, None::<Vec<Polled>>);
    move |sockets| {
        let until_ns = *until_ns.get_or_insert_with(|| limit_ns(sockets, timeout_ms));
        let is_over = until_ns.is_some_and(|until_ns| until_ns <= sockets.now_ns());
        if !is_over && held.as_ref().is_some_and(|held| !has_news(sockets, held)) {
            return Progress::Wait { until_ns };
        }
        let count = sockets.poll(&mut fds);
        if count > 0 || is_over {
            held = None;
            sockets.release_closed();
            return Progress::Done((std::mem::take(&mut fds), count));
        }
        let held = held.get_or_insert_with(|| hold_all(sockets, &fds));
        held.iter_mut().for_each(|(hold, pulse)| *pulse = sockets.files.pulse(hold.file));
        Progress::Wait { until_ns }
    }
}

/// A file that a `poll` waits for, and its pulse at the last look. Linux's poll keeps the files of its first look and is woken by them
/// alone; what it finds then goes by number, so that a closed one is only found with news or at the end.
type Polled = (Hold, u64);

fn hold_all(sockets: &Sockets, fds: &[PollFd]) -> Vec<Polled> {
    fds.iter().filter_map(|entry| Some((sockets.files.hold(entry.fd).ok()?, 0))).collect()
}

fn has_news(sockets: &Sockets, held: &[Polled]) -> bool {
    held.iter().any(|(hold, pulse)| sockets.files.pulse(hold.file) != *pulse)
}

/// `epoll_wait(2)`; no event: the time is over.
pub fn epoll_wait(
    epoll: Fd,
    max: usize,
    timeout_ms: i32,
) -> impl FnMut(&mut Sockets) -> Progress<Result<Vec<EpollEvent>, Errno>> {
    let mut until_ns = None;
    holding(epoll, move |sockets, file| {
        let found = sockets.take_ready(file, max);
        let until_ns = *until_ns.get_or_insert_with(|| limit_ns(sockets, timeout_ms));
        match found {
            Ok(found) if found.is_empty() && until_ns.is_none_or(|until| until > sockets.now_ns()) => {
                Progress::Wait { until_ns }
            }
            done => Progress::Done(done),
        }
    })
}
