//! `poll` and `epoll`.

use std::ffi::{c_int, c_void};

use libc::{epoll_event, nfds_t, pollfd};
use ringwire::posix::{EpollEvent, Errno, PollFd, Progress, call};

use super::{answer, done, from_userdata};

const FAULT: Errno = Errno::from_raw(libc::EFAULT);

pub(in crate::abi) unsafe extern "C" fn poll(
    userdata: *mut c_void,
    fds: *mut pollfd,
    count: nfds_t,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: packetdrill's contract (`crate::abi`).
    let user = unsafe { from_userdata(userdata) };
    let entries: &mut [pollfd] = match (fds.is_null(), usize::try_from(count)) {
        (_, Ok(0)) => &mut [],
        // SAFETY: poll(2)'s contract.
        (false, Ok(count)) => unsafe { std::slice::from_raw_parts_mut(fds, count) },
        _ => return done(Err(FAULT)),
    };
    let asked = entries.iter().map(|entry| PollFd { fd: entry.fd, events: entry.events, revents: 0 });
    let mut attempt = call::poll(asked.collect(), timeout_ms);
    let found = user.library().and_then(|library| {
        library.call(move |sockets| match attempt(sockets) {
            Progress::Done(found) => Progress::Done(Ok(found)),
            Progress::Wait { until_ns } => Progress::Wait { until_ns },
        })
    });
    answer(found.map(|(found, ready)| {
        for (entry, found) in entries.iter_mut().zip(found) {
            entry.revents = found.revents;
        }
        // At most as many as there are descriptors.
        ready as c_int
    }))
}

pub(in crate::abi) unsafe extern "C" fn epoll_create(userdata: *mut c_void, size: c_int) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    if size <= 0 {
        return done(Err(Errno::INVAL));
    }
    answer(user.library().and_then(|library| library.at_once(|sockets| sockets.epoll_create(0))))
}

pub(in crate::abi) unsafe extern "C" fn epoll_ctl(
    userdata: *mut c_void,
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut epoll_event,
) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    // SAFETY: epoll_ctl(2)'s contract: null or an event; read unaligned, for the structure is packed on x86-64.
    let event = (!event.is_null()).then(|| unsafe { event.read_unaligned() });
    let event = event.map(|event| EpollEvent { events: event.events, data: event.u64 });
    if event.is_none() && operation != libc::EPOLL_CTL_DEL {
        return done(Err(FAULT));
    }
    done(
        user.library().and_then(|library| {
            library.at_once(move |sockets| sockets.epoll_ctl(epoll, operation, fd, event))
        }),
    )
}

pub(in crate::abi) unsafe extern "C" fn epoll_wait(
    userdata: *mut c_void,
    epoll: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: packetdrill's contract.
    let user = unsafe { from_userdata(userdata) };
    let max = match usize::try_from(max) {
        Ok(max) if max > 0 => max,
        _ => return done(Err(Errno::INVAL)),
    };
    if events.is_null() {
        return done(Err(FAULT));
    }
    let found = user.library().and_then(|library| library.call(call::epoll_wait(epoll, max, timeout_ms)));
    answer(found.map(|found| {
        for (index, event) in found.iter().enumerate() {
            // SAFETY: epoll_wait(2)'s contract: room for `max`, and there are no more.
            let place = unsafe { events.add(index) };
            let event = epoll_event { events: event.events, u64: event.data };
            // SAFETY: the same.
            unsafe { place.write_unaligned(event) };
        }
        // At most `max`, which is an int.
        found.len() as c_int
    }))
}
