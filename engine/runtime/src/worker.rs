//! The worker: one core's packets, sockets and timers, driven by the application's calls to [`Worker::poll`].
//!
//! ```text
//! run_once: reap -> receive -> demux -> machines -> timers -> transmit -> refill -> kick -> events
//! ```
//! Owns its queues, packet memory, socket shard, timers and neighbour cache; shares nothing on this path with other workers.
//! Does not own protocols (`ringwire_proto`), frames (`ringwire_frame`) or the kernel's side (`control`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringwire_frame::{Class, Packet};
use ringwire_proto::prf::Prf;
use ringwire_proto::{DropReason, Instant};
use ringwire_table::{FlowKey, Writer};
use ringwire_wire::packet;

use crate::buffer::{Batch, Datagram, RxBuf, TxBuf};
use crate::clock::Clock;
use crate::config::{PollMode, TcpOptions, UdpOptions};
use crate::engine::{Guard, WorkerShared};
use crate::error::{BindError, ConnError, ConnectError, Unsent, WorkerError};
use crate::event::{Conn, Event, Events, Listener, Recv, Turn, Udp};
use crate::metrics::Counters;
use crate::wake::Waker;

mod batch;
pub(crate) mod control_packets;
pub(crate) mod datagrams;
pub(crate) mod flow;
mod handover;
mod host_path;
pub(crate) mod ingress;
pub(crate) mod io;
pub(crate) mod link;
pub(crate) mod net;
mod seed;
mod settings;
pub(crate) mod stream;
pub(crate) mod tcp_buf;
mod wait;

use batch::RxBatch;
use datagrams::{Datagrams, Matched};
use ingress::{Arrival, Control, Ingress, Transported, classify};
use io::{Io, Ready};
use link::Link;
use net::Net;
use stream::Streams;

pub use seed::WorkerSeed;
#[cfg(feature = "xdp")]
pub(crate) use seed::random_secret;
pub(crate) use seed::{Home, SeedParts};

/// Packets taken from one queue per turn.
const RX_BATCH: usize = 64;
/// Publishing is some thirty stores: too many for a turn of a hundred nanoseconds.
const PUBLISH_INTERVAL_NS: u64 = 100_000;
/// The kernel's counters cost a syscall per queue.
const PORT_STATS_INTERVAL: Duration = Duration::from_secs(1);

/// A worker that goes waits no longer than this for a device that takes none of its resets, and no longer than that for all of them.
const ABANDON_PATIENCE: Duration = Duration::from_millis(100);
const ABANDON_LIMIT: Duration = Duration::from_secs(1);

/// One worker. Not `Send`: it stays on the thread that started it.
#[derive(Debug)]
pub struct Worker {
    /// Always there, but while being dropped.
    core: Option<Box<Core>>,
    home: Home,
    not_send: PhantomData<Rc<()>>,
}

/// Everything a worker owns.
#[derive(Debug)]
pub(crate) struct Core {
    id: u8,
    clock: Clock,
    poll_mode: PollMode,
    io: Io,
    streams: Streams,
    datagrams: Datagrams,
    batch: RxBatch,
    /// The kernel has not yet taken all that was submitted: no sleep.
    is_kick_pending: bool,
    /// [`Link::moved`] as last seen to change, and when.
    moved: (u64, Instant),
    /// When the kernel's counters are read next.
    port_stats_due: Instant,
    published_at: Instant,
    /// Since when the turns have brought nothing.
    idle_since: Option<Instant>,
    last_turn: Turn,
    /// While draining: the slot before which no connection has anything left to do.
    finished_to: u32,
    waker: Waker,
    guard: Arc<Guard>,
}

impl Core {
    /// One turn, stages in order; the page to read first.
    ///
    /// Not inlined: in the loop of [`Core::poll`] the addresses of a dozen parts would be kept from one turn to the next, and turns that
    /// return at once would pay for that.
    #[inline(never)]
    fn run_once(&mut self, events: &mut Events) {
        self.begin_turn();
        self.io.link.reap();
        self.take_released();
        self.take_news();
        self.take_handed_over();
        for queue in 0..self.io.link.ports().len() {
            let received = self.io.link.receive(queue, &mut self.batch.packets, RX_BATCH);
            if received > 0 {
                self.idle_since = None;
                self.take_packets(queue);
            }
        }
        let io = &mut self.io;
        self.streams.expire(io);
        if io.net.expire(&mut io.link, &mut io.counters, io.now) {
            self.streams.unpark(io);
            control_packets::send_resolved(io);
        }
        self.streams.transmit(io);
        self.io.link.refill();
        self.is_kick_pending = self.io.link.kick();
        self.report(events);
        self.end_turn();
    }

    /// The one clock read of a turn.
    fn begin_turn(&mut self) {
        let now = self.clock.now();
        let turn_ns = now.nanos_since(self.io.now);
        self.io.counters.now.longest_turn_ns = self.io.counters.now.longest_turn_ns.max(turn_ns);
        self.io.counters.now.turns += 1;
        self.io.now = now;
        self.io.pressure = self.io.heap.pressure();
        if now >= self.port_stats_due {
            self.port_stats_due = now + PORT_STATS_INTERVAL;
            self.io.counters.now.port_rx_dropped = self.io.link.rx_dropped();
            self.io.counters.now.protocol_errors = self.io.link.pool.protocol_errors();
        }
    }

    /// Windows reopen by what the application gave back.
    fn take_released(&mut self) {
        while let Some((tag, len_bytes)) = self.io.link.pool.poll_released() {
            self.streams.on_released(tag, len_bytes);
        }
    }

    /// What others have found out: the control thread about neighbours, ports and routes, other workers about neighbours.
    fn take_news(&mut self) {
        while let Some(arp) = self.shared().and_then(WorkerShared::next_heard) {
            control_packets::on_passed_arp(&mut self.io, &arp, &mut self.streams);
        }
        self.take_host_packets();
        if self.io.net.take_news(self.io.now) {
            let io = &mut self.io;
            self.streams.unpark(io);
            control_packets::send_resolved(io);
        }
    }

    /// This worker as others see it.
    fn shared(&self) -> Option<&WorkerShared> {
        self.guard.shared.workers.get(usize::from(self.id))
    }

    /// As many events as fit; the rest waits for the next turn.
    fn report(&mut self, events: &mut Events) {
        const EVENTS_PER_ID: usize = 4;
        if self.waker.take_woken() {
            events.push(Event::Woken);
        }
        let io = &mut self.io;
        while events.room() >= EVENTS_PER_ID
            && let Some(ready) = io.ready.pop_front()
        {
            match ready {
                Ready::Flow(slot) => self.streams.take_events(io, slot, events),
                Ready::Udp(slot) => self.datagrams.take_events(slot, events),
            }
        }
    }

    /// Others see the counters at most `PUBLISH_INTERVAL_NS` late, and never late of a sleeping or ended worker.
    fn end_turn(&mut self) {
        self.io.handover.end_turn(&self.guard.shared.workers);
        self.streams.count(&mut self.io.counters);
        self.io.counters.now.heap_bytes = self.io.heap.used_bytes();
        if self.io.now.nanos_since(self.published_at) >= PUBLISH_INTERVAL_NS || self.clock.is_manual() {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.published_at = self.io.now;
        if let Some(worker) = self.guard.shared.workers.get(usize::from(self.id)) {
            self.io.counters.publish(&worker.published);
        }
    }

    /// Resets what the application left behind.
    fn abandon(&mut self) {
        let io = &mut self.io;
        self.streams.abort_all(io);
        self.datagrams.close_all(io);
        self.io.ready.clear();
        self.send_the_rest();
        self.streams.count(&mut self.io.counters);
        self.publish();
    }

    /// Resets of many connections take more than one ring: until all have left, the device refuses or takes no more, or the limit is
    /// over.
    fn send_the_rest(&mut self) {
        let began = std::time::Instant::now();
        let (mut moved, mut moved_at) = (self.io.link.moved(), began);
        loop {
            self.is_kick_pending = self.io.link.kick();
            let is_sent = !self.streams.wants_transmit() && !self.is_kick_pending;
            if std::mem::replace(&mut moved, self.io.link.moved()) != moved {
                moved_at = std::time::Instant::now();
            }
            // In virtual time nothing happens while we wait.
            let is_over = self.clock.is_manual()
                || moved_at.elapsed() >= ABANDON_PATIENCE
                || began.elapsed() >= ABANDON_LIMIT;
            if is_sent || is_over || self.io.link.is_refused() {
                return;
            }
            self.io.link.reap();
            self.streams.transmit(&mut self.io);
            std::thread::yield_now();
        }
    }
}

impl Worker {
    fn new(core: Box<Core>, home: &Home) -> Worker {
        Worker { core: Some(core), home: home.clone(), not_send: PhantomData }
    }

    /// The core is only taken out by `drop`, after which nobody can call anything.
    fn core(&self) -> &Core {
        self.core.as_ref().expect("a worker that is in use has its core")
    }

    fn core_mut(&mut self) -> &mut Core {
        self.core.as_mut().expect("a worker that is in use has its core")
    }

    /// One turn, shaped like `mio::Poll::poll`: sends what is due, receives what has come, and waits for an event at most `timeout`
    /// (`None`: without limit, `ZERO`: not at all).
    ///
    /// # Errors
    /// [`WorkerError::Wait`] when the kernel refuses to wait.
    pub fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<Turn, WorkerError> {
        self.core_mut().poll(events, timeout)
    }

    /// The number of this worker, from 0.
    pub fn id(&self) -> usize {
        usize::from(self.core().id)
    }

    /// The time of the current turn in nanoseconds of `CLOCK_MONOTONIC` (or of the manual clock); no syscall.
    pub fn now_ns(&self) -> u64 {
        self.core().io.now.as_nanos()
    }

    /// When [`Worker::poll`] next has something to do without a packet or a call, on the clock of [`Worker::now_ns`]; perhaps too early,
    /// never too late. For whoever moves a manual clock: then it is the time to jump to.
    pub fn next_timer_ns(&self) -> Option<u64> {
        let next = self.core().next_look();
        (next != Instant::MAX).then(|| next.as_nanos())
    }

    /// For other threads: wakes this worker and raises [`Event::Woken`].
    pub fn waker(&self) -> Waker {
        self.core().waker.clone()
    }

    /// Frames of this worker's pool by state; their sum is constant.
    pub fn frame_counts(&self) -> ringwire_frame::Counts {
        self.core().io.link.pool.counts()
    }

    /// This worker's counters, as of the last turn.
    pub fn counters(&self) -> &crate::metrics::WorkerCounters {
        &self.core().io.counters.now
    }

    /// Accepts connections on `addr`; each is an [`Event::Accepted`].
    ///
    /// # Errors
    /// The port is taken, or the address is not the engine's.
    pub fn listen(&mut self, addr: SocketAddr, options: &TcpOptions) -> Result<Listener, BindError> {
        let core = self.core_mut();
        core.streams.listen(&mut core.io, addr, options)
    }

    /// The address that a listener is bound to.
    pub fn listener_addr(&self, listener: Listener) -> Option<SocketAddr> {
        self.core().streams.listener_addr(listener)
    }

    /// Stops accepting; accepted connections go on.
    pub fn close_listener(&mut self, listener: Listener) {
        let core = self.core_mut();
        core.streams.close_listener(&mut core.io, listener);
    }

    /// Opens a connection; [`Event::Connected`] or [`Event::Closed`] follows. With [`TcpOptions::fast_open`], what is sent before the next
    /// [`Worker::poll`] leaves with the SYN, as far as [`Worker::syn_text_room_bytes`].
    ///
    /// # Errors
    /// What is known at once: no route, no port, a bad address, too many connections.
    pub fn connect(&mut self, peer: SocketAddr, options: &TcpOptions) -> Result<Conn, ConnectError> {
        let core = self.core_mut();
        core.streams.connect(&mut core.io, peer, options)
    }

    /// Bytes of what is sent right after `connect` to this peer that leave with the SYN: none unless there is a cookie of the peer, or
    /// none is needed, and while SYNs with text have got lost on the way lately (RFC 7413 4.1.3). What is sent beyond them follows.
    pub fn syn_text_room_bytes(&self, peer: SocketAddr, options: &TcpOptions) -> usize {
        let core = self.core();
        match peer {
            SocketAddr::V4(peer) => core.streams.syn_text_room_bytes(&core.io, *peer.ip(), options),
            SocketAddr::V6(_) => 0,
        }
    }

    /// The next in-order piece. The window reopens when the [`RxBuf`] is dropped.
    ///
    /// # Errors
    /// The id is stale, or the connection is not established, or was reset.
    pub fn recv(&mut self, conn: Conn) -> Result<Recv<RxBuf>, ConnError> {
        let core = self.core_mut();
        core.streams.recv(&mut core.io, conn)
    }

    /// What [`Worker::recv`] would give, piece by piece.
    pub(crate) fn unread(&self, conn: Conn) -> impl Iterator<Item = &RxBuf> {
        self.core().streams.unread(conn)
    }

    /// What else there is to know of it; none of a connection that is gone.
    pub(crate) fn outlook(&self, conn: Conn) -> Option<stream::Outlook> {
        self.core().streams.outlook(conn)
    }

    /// Copies once. A short count is back-pressure and promises one [`Event::Writable`].
    ///
    /// # Errors
    /// The id is stale, or the sending side is shut down.
    pub fn send(&mut self, conn: Conn, bytes: &[u8]) -> Result<usize, ConnError> {
        let core = self.core_mut();
        core.streams.send(&mut core.io, conn, bytes)
    }

    /// A frame to write a piece or a datagram into; `None`: the pool is at its low-water mark, try again next turn.
    pub fn tx_buf(&mut self) -> Option<TxBuf> {
        let core = self.core_mut();
        let limit_bytes = core.io.link.datagram_bytes();
        let frame = core.io.link.alloc(Class::Send);
        if frame.is_none() {
            core.io.counters.now.frames_wanted += 1;
        }
        Some(TxBuf::with_limit(frame?, limit_bytes))
    }

    /// Room for a datagram of `len_bytes`, at most what the interface takes in one packet (on an MTU above one frame that is more than
    /// [`Worker::tx_buf`] has; such a datagram is copied once and leaves as a chain of frames).
    pub fn tx_buf_for(&mut self, len_bytes: usize) -> Option<TxBuf> {
        let link = &self.core().io.link;
        if len_bytes <= link.datagram_bytes() {
            return self.tx_buf();
        }
        Some(TxBuf::long(len_bytes.min(link.longest_datagram_bytes())))
    }

    /// Copies nothing, as long as the piece fits one segment.
    ///
    /// # Errors
    /// Hands the buffer back: without an error inside it is back-pressure and promises one [`Event::Writable`].
    pub fn send_buf(&mut self, conn: Conn, buf: TxBuf) -> Result<(), Unsent<TxBuf>> {
        let core = self.core_mut();
        core.streams.send_buf(&mut core.io, conn, buf)
    }

    /// Ends one or both directions; what was written is still delivered.
    ///
    /// # Errors
    /// The id is stale.
    pub fn shutdown(&mut self, conn: Conn, how: Shutdown) -> Result<(), ConnError> {
        let core = self.core_mut();
        core.streams.shutdown(&mut core.io, conn, how)
    }

    /// Ends the connection in order; written data is still delivered. The id is stale afterwards. Idempotent.
    pub fn close(&mut self, conn: Conn) {
        let core = self.core_mut();
        core.streams.close(&mut core.io, conn);
    }

    /// Whether the end of a closed connection is still on its way to the peer.
    pub(crate) fn is_delivering(&self, conn: Conn) -> bool {
        self.core().streams.is_delivering(conn)
    }

    /// Resets the connection. The id is stale afterwards. Idempotent.
    pub fn abort(&mut self, conn: Conn) {
        let core = self.core_mut();
        core.streams.abort(&mut core.io, conn);
    }

    /// State, times and windows of a connection.
    ///
    /// # Errors
    /// The id is stale.
    pub fn tcp_info(&mut self, conn: Conn) -> Result<ringwire_proto::tcp::Info, ConnError> {
        let core = self.core_mut();
        core.streams.info(&mut core.io, conn)
    }

    /// Both ends of a connection: local, then peer.
    ///
    /// # Errors
    /// The id is stale.
    pub fn addrs(&self, conn: Conn) -> Result<(SocketAddr, SocketAddr), ConnError> {
        let tuple = self.core().streams.tuple(conn)?;
        Ok(((tuple.local, tuple.local_port).into(), (tuple.remote, tuple.remote_port).into()))
    }

    /// Opens a datagram socket; port 0: the engine chooses.
    ///
    /// # Errors
    /// The port is taken, or the address is not the engine's.
    pub fn bind_udp(&mut self, addr: SocketAddr, options: &UdpOptions) -> Result<Udp, BindError> {
        let core = self.core_mut();
        core.datagrams.bind(&mut core.io, addr, options)
    }

    /// The address that a datagram socket is bound to.
    pub fn udp_addr(&self, socket: Udp) -> Option<SocketAddr> {
        self.core().datagrams.local_addr(socket)
    }

    /// Closes a datagram socket; unread datagrams are dropped.
    pub fn close_udp(&mut self, socket: Udp) {
        let core = self.core_mut();
        core.datagrams.close(&mut core.io, socket);
    }

    /// `recvmmsg` for frames: fills the free places of `out`, returns how many.
    ///
    /// # Errors
    /// The id is stale; or, once for a connected socket, what ICMP said about something that it sent.
    pub fn recv_batch(&mut self, socket: Udp, out: &mut Batch<Datagram<RxBuf>>) -> Result<usize, ConnError> {
        self.core_mut().datagrams.recv_batch(socket, out)
    }

    /// `sendmmsg` for frames: takes from the front; what was not sent stays in `batch`.
    ///
    /// # Errors
    /// When the first datagram can never be sent (too long, no route), which stays in front; or, once for a connected socket, what ICMP
    /// said about an earlier one.
    pub fn send_batch(
        &mut self,
        socket: Udp,
        batch: &mut Batch<Datagram<TxBuf>>,
    ) -> Result<usize, ConnError> {
        let core = self.core_mut();
        core.datagrams.send_batch(&mut core.io, socket, batch)
    }

    /// Runs application code for one connection; a panic in it resets that connection and nothing else.
    pub fn guard<R>(&mut self, conn: Conn, code: impl FnOnce(&mut Worker) -> R) -> Option<R> {
        // Engine state is only changed inside engine calls, which do not panic; what the application left half done is its own.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| code(self)));
        if result.is_err() {
            self.abort(conn);
        }
        result.ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut core) = self.core.take() {
            core.abandon();
            self.home.keep(core);
        }
    }
}
