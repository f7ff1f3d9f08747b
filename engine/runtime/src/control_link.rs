//! What a worker and the control thread say to each other: bounded rings and wakes. A worker never waits here, but for `reserve`,
//! which an application calls while it sets up.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use ringwire_wire::eth::Mac;
use ringwire_wire::ipv4::Protocol;

use crate::error::BindError;
use crate::wake::Waker;
use crate::worker::net::Route;

/// Requests and news that may wait; a full ring loses a wish, which its sender repeats by its own timer.
const RING_CAPACITY: usize = 1024;
/// A reservation is a few syscalls; a control thread that takes longer than this is gone.
const RESERVE_LIMIT: Duration = Duration::from_secs(5);

/// From a worker to the control thread.
#[derive(Debug)]
pub(crate) enum Request {
    /// Make a port ours and steer it; port 0: choose one.
    Reserve { protocol: Protocol, addr: SocketAddrV4, reply: SyncSender<Result<u16, BindError>> },
    /// One user of the port less.
    Release { protocol: Protocol, port: u16 },
    /// Let the kernel find this neighbour.
    Resolve { ip: Ipv4Addr },
    /// More local ports for active opens.
    Ports,
}

/// From the control thread to a worker.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// A neighbour's address, or that it has none any more.
    Neighbour { ip: Ipv4Addr, mac: Option<Mac> },
    /// The kernel has forgotten a neighbour, which says nothing about it: the next use asks again.
    Forget { ip: Ipv4Addr },
    /// Reserved and steered; empty: none can be had.
    Ports(Vec<u16>),
    /// The routes have changed.
    Routes(Vec<Route>),
}

#[derive(Debug)]
struct Rings {
    requests: ArrayQueue<Request>,
    news: ArrayQueue<News>,
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct ControlLink {
    rings: Arc<Rings>,
    control: Waker,
}

/// The control thread's end.
#[derive(Debug)]
pub(crate) struct WorkerLink {
    rings: Arc<Rings>,
    worker: Waker,
}

/// Both ends of one worker's link; each side wakes the other through its waker.
pub(crate) fn pair(worker: Waker, control: Waker) -> (ControlLink, WorkerLink) {
    let rings =
        Arc::new(Rings { requests: ArrayQueue::new(RING_CAPACITY), news: ArrayQueue::new(RING_CAPACITY) });
    (ControlLink { rings: Arc::clone(&rings), control }, WorkerLink { rings, worker })
}

impl ControlLink {
    pub(crate) fn ask(&self, request: Request) {
        // A full ring: the control thread is behind by a thousand wishes; ours is repeated by its timer.
        let _ = self.rings.requests.push(request);
        self.control.wake();
    }

    /// Waits for the answer: set-up, not the packet path.
    pub(crate) fn reserve(&self, protocol: Protocol, addr: SocketAddrV4) -> Result<u16, BindError> {
        let (reply, answer) = sync_channel(1);
        self.ask(Request::Reserve { protocol, addr, reply });
        let gone = BindError::System {
            what: format!("cannot reserve {addr}: the control thread does not answer"),
            errno: rustix::io::Errno::TIMEDOUT.raw_os_error(),
        };
        answer.recv_timeout(RESERVE_LIMIT).unwrap_or(Err(gone))
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.rings.news.is_empty()
    }

    pub(crate) fn next_news(&self) -> Option<News> {
        // A look at an empty queue is cheaper than taking nothing from it, which costs a fence.
        if self.has_news() { self.rings.news.pop() } else { None }
    }
}

impl WorkerLink {
    pub(crate) fn next_request(&self) -> Option<Request> {
        self.rings.requests.pop()
    }

    pub(crate) fn has_requests(&self) -> bool {
        !self.rings.requests.is_empty()
    }

    /// A worker that has stopped reading loses the oldest news; neighbours are asked for again.
    pub(crate) fn tell(&self, news: News) {
        let _ = self.rings.news.force_push(news);
        self.worker.nudge();
    }
}
