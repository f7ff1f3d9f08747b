//! The closed loop over Ringwire itself: one worker, polled by the calling thread.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ringwire::{
    Batch, CloseReason, Conn, ConnError, ConnectError, Datagram, Event, Events, Recv, RxBuf, TcpOptions,
    TxBuf, Udp, UdpOptions, Worker,
};

use crate::closed_loop::{self, Datagrams, LoadError, Received, StreamEvent, Streams, Turned, Waiting};
use crate::meter::{Fault, Measured, Watch};
use crate::scenario::{Scenario, Work};

const EVENTS_PER_TURN: usize = 1024;
const BATCH: usize = 64;

/// Runs `scenario` on the calling thread, whose worker it is; connections are opened with `options`.
pub fn run(
    scenario: &Scenario,
    worker: Worker,
    options: &TcpOptions,
    waiting: Waiting,
    watch: Watch<'_>,
) -> Result<Measured, LoadError> {
    match scenario.work {
        Work::UdpRr => {
            let socket = WorkerDatagrams::open(scenario, worker)?;
            closed_loop::datagrams::run(scenario, socket, watch, waiting.bound())
        }
        Work::TcpRr | Work::TcpCrr => {
            let streams = WorkerStreams::new(scenario, worker, options);
            closed_loop::streams::run(scenario, streams, watch, waiting.bound())
        }
    }
}

struct WorkerStreams {
    worker: Worker,
    events: Events,
    target: SocketAddr,
    options: TcpOptions,
    /// Indexed by asker.
    conns: Vec<Option<Conn>>,
    /// Indexed by the connection's own dense number: whose it is.
    askers: Vec<Option<(Conn, usize)>>,
}

impl WorkerStreams {
    fn new(scenario: &Scenario, worker: Worker, options: &TcpOptions) -> WorkerStreams {
        WorkerStreams {
            worker,
            events: Events::with_capacity(EVENTS_PER_TURN),
            target: scenario.target,
            options: options.clone(),
            conns: vec![None; scenario.in_flight],
            askers: Vec::new(),
        }
    }
}

/// Whose connection it is; `None` for one that was given up in the same turn.
fn asker_of(askers: &[Option<(Conn, usize)>], conn: Conn) -> Option<usize> {
    let (known, slot) = (*askers.get(conn.slot())?)?;
    (known == conn).then_some(slot)
}

impl Streams for WorkerStreams {
    fn open(&mut self, slot: usize) -> Result<(), LoadError> {
        let conn = match self.worker.connect(self.target, &self.options) {
            Ok(conn) => conn,
            // Ports and places come back; the loop's timeout opens it again.
            Err(ConnectError::NoPorts | ConnectError::TooManyConnections) => return Ok(()),
            Err(error) => return Err(LoadError::Stack { what: "connect", error: io::Error::other(error) }),
        };
        if self.askers.len() <= conn.slot() {
            self.askers.resize(conn.slot() + 1, None);
        }
        self.askers[conn.slot()] = Some((conn, slot));
        self.conns[slot] = Some(conn);
        Ok(())
    }

    fn send(&mut self, slot: usize, bytes: &[u8]) -> Result<usize, Fault> {
        let conn = self.conns[slot].ok_or(Fault::Reset)?;
        self.worker.send(conn, bytes).map_err(|_| Fault::Reset)
    }

    fn receive(&mut self, slot: usize, sink: &mut impl FnMut(&[u8])) -> Result<Received, Fault> {
        let conn = self.conns[slot].ok_or(Fault::Reset)?;
        loop {
            match self.worker.recv(conn) {
                Ok(Recv::Data(piece)) => sink(&piece),
                Ok(Recv::Empty) => return Ok(Received::Open),
                Ok(Recv::Eof) => return Ok(Received::Eof),
                Err(_) => return Err(Fault::Reset),
            }
        }
    }

    fn abort(&mut self, slot: usize) {
        if let Some(conn) = self.conns[slot].take() {
            self.askers[conn.slot()] = None;
            self.worker.abort(conn);
        }
    }

    fn turn(&mut self, wait: Duration, out: &mut Vec<StreamEvent>) -> Result<(), LoadError> {
        let turned = self.worker.poll(&mut self.events, Some(wait));
        turned.map_err(|error| LoadError::Stack { what: "poll", error: io::Error::other(error) })?;
        let askers = &self.askers;
        out.extend(self.events.drain().filter_map(|event| match event {
            Event::Connected(conn) => Some(StreamEvent::Opened(asker_of(askers, conn)?)),
            Event::Readable(conn) => Some(StreamEvent::Readable(asker_of(askers, conn)?)),
            Event::Writable(conn) => Some(StreamEvent::Writable(asker_of(askers, conn)?)),
            Event::Closed { conn, reason } => {
                Some(StreamEvent::Failed(asker_of(askers, conn)?, fault_of(reason)))
            }
            _ => None,
        }));
        Ok(())
    }
}

fn fault_of(reason: CloseReason) -> Fault {
    match reason {
        CloseReason::Refused => Fault::Refused,
        CloseReason::TimedOut | CloseReason::Unreachable(_) => Fault::Timeout,
        _ => Fault::Reset,
    }
}

struct WorkerDatagrams {
    worker: Worker,
    events: Events,
    socket: Udp,
    target: SocketAddr,
    incoming: Batch<Datagram<RxBuf>>,
    outgoing: Batch<Datagram<TxBuf>>,
}

impl WorkerDatagrams {
    fn open(scenario: &Scenario, mut worker: Worker) -> Result<WorkerDatagrams, LoadError> {
        if let Some(mut place) = worker.tx_buf()
            && place.spare().len() < scenario.size_bytes
        {
            let most_bytes = place.spare().len();
            return Err(LoadError::TooLarge { size_bytes: scenario.size_bytes, most_bytes });
        }
        let mut options = UdpOptions::default();
        options.recv_queue_datagrams = options.recv_queue_datagrams.max(scenario.in_flight);
        let socket = worker
            .bind_udp((Ipv4Addr::UNSPECIFIED, 0).into(), &options)
            .map_err(|error| LoadError::Stack { what: "bind", error: io::Error::other(error) })?;
        Ok(WorkerDatagrams {
            worker,
            events: Events::with_capacity(EVENTS_PER_TURN),
            socket,
            target: scenario.target,
            incoming: Batch::with_capacity(BATCH),
            outgoing: Batch::with_capacity(BATCH),
        })
    }
}

impl Datagrams for WorkerDatagrams {
    fn push(&mut self, payload: &[u8]) -> bool {
        if self.outgoing.is_full() {
            return false;
        }
        let Some(mut place) = self.worker.tx_buf() else { return false };
        place.put(payload);
        let datagram = Datagram { peer: self.target, local: None, tos: 0, ttl: 0, payload: place };
        self.outgoing.push(datagram).is_ok()
    }

    fn flush(&mut self) -> Result<(), LoadError> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        match self.worker.send_batch(self.socket, &mut self.outgoing) {
            Ok(_) => Ok(()),
            Err(error) => Err(LoadError::Stack { what: "send", error: as_io(error) }),
        }
    }

    fn turn(&mut self, wait: Duration, sink: &mut impl FnMut(&[u8])) -> Result<Turned, LoadError> {
        let turned = self.worker.poll(&mut self.events, Some(wait));
        turned.map_err(|error| LoadError::Stack { what: "poll", error: io::Error::other(error) })?;
        let has_come = self.events.drain().any(|event| matches!(event, Event::Datagrams(_)));
        if !has_come {
            return Ok(Turned::Fine);
        }
        loop {
            let received = self.worker.recv_batch(self.socket, &mut self.incoming);
            let count =
                received.map_err(|error| LoadError::Stack { what: "receive", error: as_io(error) })?;
            if count == 0 {
                return Ok(Turned::Fine);
            }
            // The socket is not connected: strangers may write to it too.
            let ours = self.incoming.drain().filter(|datagram| datagram.peer == self.target);
            ours.for_each(|datagram| sink(&datagram.payload));
        }
    }
}

fn as_io(error: ConnError) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
