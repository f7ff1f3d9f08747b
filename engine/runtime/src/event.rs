//! Ids and events: what a worker tells its application.

use crate::error::CloseReason;

/// A connection of one worker: generational, 8 bytes. A stale or foreign one is [`ConnError::Closed`](crate::ConnError::Closed),
/// never another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conn(pub(crate) u64);

impl Conn {
    /// A small dense number, reused after the connection is gone: index your own `Vec` by it.
    pub fn slot(self) -> usize {
        // The low 32 bits are the slot (see `slab::Key::pack`); usize is at least 32 bits on every target of this crate.
        (self.0 & 0xffff_ffff) as usize
    }
}

/// A listening stream socket of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listener(pub(crate) u64);

/// A datagram socket of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Udp(pub(crate) u64);

/// What happened. Edge-triggered; one of a kind per turn and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A handshake completed on a listener.
    Accepted {
        /// The listener.
        listener: Listener,
        /// The new connection.
        conn: Conn,
    },
    /// An active open completed.
    Connected(Conn),
    /// Data or the end of the stream arrived: call `recv` until it says `Empty`.
    Readable(Conn),
    /// After a short `send`: there is room again, or never will be.
    Writable(Conn),
    /// The connection ended without the application's `close`; always the last event of that id. What had come is read first: as long as
    /// any of it is unread, there is only a [`Event::Readable`], and `send` says [`ConnError::NotConnected`](crate::ConnError::NotConnected).
    Closed {
        /// The connection; its id is stale from now on.
        conn: Conn,
        /// Why it ended.
        reason: CloseReason,
    },
    /// Datagrams arrived: call `recv_batch` until it returns 0.
    Datagrams(Udp),
    /// Somebody called [`Waker::wake`](crate::Waker::wake).
    Woken,
}

/// The events of one turn; made once, filled by [`Worker::poll`](crate::Worker::poll).
#[derive(Debug)]
pub struct Events {
    list: Vec<Event>,
    capacity: usize,
}

impl Events {
    /// Room for `capacity` events a turn, at least 8; what does not fit comes in the next turn.
    pub fn with_capacity(capacity: usize) -> Events {
        let capacity = capacity.max(8);
        Events { list: Vec::with_capacity(capacity), capacity }
    }

    /// The events of the last turn.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.list.iter().copied()
    }

    /// Takes the events out, so that the worker can be used while they are walked.
    pub fn drain(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.list.drain(..)
    }

    /// Whether the last turn brought nothing.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many events the last turn brought.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.list.push(event);
    }

    /// Places left; one id brings at most 4 events a turn.
    pub(crate) fn room(&self) -> usize {
        self.capacity - self.list.len().min(self.capacity)
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = Event;
    type IntoIter = std::iter::Copied<std::slice::Iter<'a, Event>>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter().copied()
    }
}

/// What the application's loop does after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Go on.
    Run,
    /// The engine is shutting down: finish what is open, start nothing.
    Drain,
    /// Leave the loop.
    Stop,
}

/// What `recv` found.
#[derive(Debug)]
pub enum Recv<B> {
    /// The next piece of the stream, in order.
    Data(B),
    /// Nothing now; an [`Event::Readable`] will follow.
    Empty,
    /// The peer finished its direction.
    Eof,
}
