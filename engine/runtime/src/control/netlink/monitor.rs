//! Changes of links, neighbours, addresses and routes, as they happen.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::ParseableParametrized;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{Link, Neighbour, decode, socket};

/// Multicast groups of rtnetlink (linux/rtnetlink.h).
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;

/// Room for bursts: about a thousand changes.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// Something changed in the namespace; not limited to one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A link is new, or its state changed.
    Link(Link),
    /// A link is no more, or has gone to another network namespace.
    LinkGone {
        /// The index that it had.
        ifindex: u32,
    },
    /// A neighbour entry is new, or its state changed; a deleted one has no address.
    Neighbour(Neighbour),
    /// An IPv4 address came or went.
    Address,
    /// An IPv4 route came or went.
    Route,
    /// Changes were lost: everything has to be read again.
    Overrun,
}

/// A non-blocking subscription. Readable when [`Monitor::next_change`] has something.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(super) socket: netlink_sys::Socket,
    decoded: VecDeque<Change>,
}

impl Monitor {
    /// Subscribes in the calling thread's network namespace. What happens from here on is not missed, so the tables
    /// are to be read after this.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and setsockopt(2).
    pub(crate) fn open() -> io::Result<Monitor> {
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(RECEIVE_BUFFER_BYTES as i32)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in [RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE] {
            socket.add_membership(group)?;
        }
        Ok(Monitor { socket, decoded: VecDeque::new() })
    }

    /// The next change, without waiting.
    pub(crate) fn next_change(&mut self) -> Option<Change> {
        while self.decoded.is_empty() {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => self.decoded.extend(changes(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ENOBUFS: the kernel dropped changes. Any other failure loses them just the same.
                Err(_) => return Some(Change::Overrun),
            }
        }
        self.decoded.pop_front()
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn changes(bytes: &[u8]) -> impl Iterator<Item = Change> {
    socket::messages(bytes).filter_map(|message| {
        match RouteNetlinkMessage::parse_with_param(message.payload(), message.message_type()) {
            Ok(message) => change(message),
            // Newer than our decoder: reading the tables again is always right.
            Err(_) => Some(Change::Overrun),
        }
    })
}

fn change(message: RouteNetlinkMessage) -> Option<Change> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(Change::Link(decode::link(&link))),
        // One of another family says that the link has left a bridge.
        RouteNetlinkMessage::DelLink(link) => (link.header.interface_family == AddressFamily::Unspec)
            .then_some(Change::LinkGone { ifindex: link.header.index }),
        RouteNetlinkMessage::NewNeighbour(neighbour) => decode_neighbour(&neighbour),
        RouteNetlinkMessage::DelNeighbour(mut neighbour) => {
            neighbour.header.state = Default::default();
            decode_neighbour(&neighbour)
        }
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => Some(Change::Address),
        RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => Some(Change::Route),
        _ => None,
    }
}

fn decode_neighbour(message: &NeighbourMessage) -> Option<Change> {
    decode::neighbour(message).map(Change::Neighbour)
}
