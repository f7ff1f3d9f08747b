//! What a worker and the control thread say to each other: bounded rings and wakes. A worker never waits here, but for `reserve`,
//! which an application calls while it sets up.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use crossbeam::queue::{ArrayQueue, SegQueue};
use ringwire_wire::eth::Mac;
use ringwire_wire::ipv4::Protocol;

use crate::error::BindError;
use crate::wake::Waker;
use crate::worker::net::Route;

/// Requests and news that may wait; a full ring loses a wish, which its sender repeats by its own timer.
const RING_CAPACITY: usize = 1024;
/// Packets that may wait between a worker and the kernel, each way; what finds no place is lost, as on a wire.
const KERNEL_PACKETS: usize = 128;
/// A reservation is a few syscalls; a control thread that takes longer than this is gone.
const RESERVE_LIMIT: Duration = Duration::from_secs(5);

/// From a worker to the control thread.
#[derive(Debug)]
pub(crate) enum Request {
    /// Make a port ours and steer it; port 0: choose one.
    Reserve { protocol: Protocol, addr: SocketAddrV4, reply: SyncSender<Result<u16, BindError>> },
    /// Let the kernel find this neighbour.
    Resolve { ip: Ipv4Addr },
    /// More local ports for active opens.
    Ports,
}

/// A port that one user less stands on; an unspecified address means all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) protocol: Protocol,
    pub(crate) addr: SocketAddrV4,
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
    /// The interface has another address now.
    Mac(Mac),
    /// The interface is no more, or in another network namespace.
    InterfaceGone,
}

#[derive(Debug)]
struct Rings {
    requests: ArrayQueue<Request>,
    news: ArrayQueue<News>,
    /// Never full, for what is not given back is lost for good; there are at most as many as ports were reserved.
    releases: SegQueue<Release>,
    /// What the kernel received of ours.
    from_kernel: ArrayQueue<Vec<u8>>,
    /// What the kernel shall deliver on this host.
    to_kernel: ArrayQueue<Vec<u8>>,
}

/// The worker's end.
#[derive(Debug, Clone)]
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
    let rings = Arc::new(Rings {
        requests: ArrayQueue::new(RING_CAPACITY),
        news: ArrayQueue::new(RING_CAPACITY),
        releases: SegQueue::new(),
        from_kernel: ArrayQueue::new(KERNEL_PACKETS),
        to_kernel: ArrayQueue::new(KERNEL_PACKETS),
    });
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

    /// A user of a port less: never lost, never waited for.
    pub(crate) fn release(&self, release: Release) {
        self.rings.releases.push(release);
        self.control.wake();
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.rings.news.is_empty()
    }

    pub(crate) fn has_kernel_packets(&self) -> bool {
        !self.rings.from_kernel.is_empty()
    }

    /// The next packet of ours that the kernel received.
    pub(crate) fn next_kernel_packet(&self) -> Option<Vec<u8>> {
        self.rings.from_kernel.pop()
    }

    /// How many packets [`ControlLink::send_to_kernel`] takes now.
    pub(crate) fn kernel_room(&self) -> usize {
        self.rings.to_kernel.capacity() - self.rings.to_kernel.len()
    }

    /// An Ethernet frame whose IPv4 packet the kernel shall deliver on this host; false when too many wait.
    pub(crate) fn send_to_kernel(&self, frame: Vec<u8>) -> bool {
        let is_taken = self.rings.to_kernel.push(frame).is_ok();
        self.control.nudge();
        is_taken
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

    pub(crate) fn next_release(&self) -> Option<Release> {
        self.rings.releases.pop()
    }

    /// The next frame for [the kernel](ControlLink::send_to_kernel).
    pub(crate) fn next_outgoing(&self) -> Option<Vec<u8>> {
        self.rings.to_kernel.pop()
    }

    /// Hands a packet over that the kernel received; one that finds no place is lost.
    pub(crate) fn deliver(&self, frame: Vec<u8>) {
        let _ = self.rings.from_kernel.push(frame);
        self.worker.nudge();
    }

    pub(crate) fn has_requests(&self) -> bool {
        let Rings { requests, releases, to_kernel, .. } = &*self.rings;
        !requests.is_empty() || !releases.is_empty() || !to_kernel.is_empty()
    }

    /// A worker that has stopped reading loses the oldest news; neighbours are asked for again.
    pub(crate) fn tell(&self, news: News) {
        let _ = self.rings.news.force_push(news);
        self.worker.nudge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_release_is_lost_behind_a_thousand_wishes() {
        const COUNT: u16 = 5000;
        let (worker, control) = pair(Waker::new().unwrap(), Waker::new().unwrap());
        for port in 0..COUNT {
            worker.ask(Request::Ports);
            let addr = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            worker.release(Release { protocol: Protocol::TCP, addr });
        }
        let ports = std::iter::from_fn(|| control.next_release()).map(|release| release.addr.port());
        assert!(ports.eq(0..COUNT));
    }
}
