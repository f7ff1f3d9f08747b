//! Echo over TCP and UDP: every received frame becomes the answer's frame.

use std::net::Ipv4Addr;

use ringwire::{
    Batch, BindError, Conn, Datagram, Event, Listener, Recv, RxBuf, TcpOptions, TxBuf, Udp, UdpOptions,
    Worker,
};

use crate::args::Transport;

use super::worker::{Pending, Service, Sessions};

const BATCH: usize = 64;

/// An echo server on one worker.
pub(super) struct EchoService {
    port: u16,
    only: Option<Transport>,
    tcp: TcpOptions,
    listener: Option<Listener>,
    udp: Option<Udp>,
    streams: Sessions<Stream>,
    incoming: Batch<Datagram<RxBuf>>,
    /// Answers that the transmit ring had no room for; before they are out nothing more is received.
    outgoing: Batch<Datagram<TxBuf>>,
    has_datagrams: bool,
}

/// One TCP connection.
#[derive(Default)]
struct Stream {
    /// What was read and not taken for sending: while it is there, nothing more is read.
    unsent: Option<TxBuf>,
}

impl EchoService {
    pub(super) fn new(port: u16, only: Option<Transport>, tcp: TcpOptions) -> EchoService {
        EchoService {
            port,
            only,
            tcp,
            listener: None,
            udp: None,
            streams: Sessions::new(),
            incoming: Batch::with_capacity(BATCH),
            outgoing: Batch::with_capacity(BATCH),
            has_datagrams: false,
        }
    }

    /// Echoes until there is nothing to read or no room to send.
    fn echo_stream(&mut self, worker: &mut Worker, conn: Conn) {
        let Some(stream) = self.streams.get_mut(conn) else { return };
        loop {
            if let Some(buf) = stream.unsent.take()
                && let Err(unsent) = worker.send_buf(conn, buf)
            {
                if unsent.error.is_none() {
                    // A Writable follows.
                    stream.unsent = Some(unsent.buf);
                    return;
                }
                break;
            }
            match worker.recv(conn) {
                Ok(Recv::Data(piece)) => stream.unsent = Some(piece.into_tx()),
                Ok(Recv::Empty) => return,
                // The client is done, and so are we: the rest is still delivered.
                Ok(Recv::Eof) | Err(_) => break,
            }
        }
        worker.close(conn);
        self.streams.remove(conn);
    }

    fn echo_datagrams(&mut self, worker: &mut Worker) -> Pending {
        let Some(socket) = self.udp.filter(|_| self.has_datagrams) else { return Pending::Nothing };
        loop {
            if !self.outgoing.is_empty() && !self.send_datagrams(worker, socket) {
                return Pending::Work;
            }
            match worker.recv_batch(socket, &mut self.incoming) {
                Ok(count) if count > 0 => {}
                Ok(_) | Err(_) => {
                    self.has_datagrams = false;
                    return Pending::Nothing;
                }
            }
            for datagram in self.incoming.drain() {
                // Both have the same capacity, and the outgoing one is empty here.
                let _ = self.outgoing.push(datagram.into_reply());
            }
        }
    }

    /// Whether all are out.
    fn send_datagrams(&mut self, worker: &mut Worker, socket: Udp) -> bool {
        match worker.send_batch(socket, &mut self.outgoing) {
            Ok(_) => {}
            // The first one can never be sent: its asker gets no answer.
            Err(_) => drop(self.outgoing.pop()),
        }
        self.outgoing.is_empty()
    }
}

impl Service for EchoService {
    fn bind(&mut self, worker: &mut Worker) -> Result<(), BindError> {
        let addr = (Ipv4Addr::UNSPECIFIED, self.port).into();
        if self.only != Some(Transport::Udp) {
            self.listener = Some(worker.listen(addr, &self.tcp)?);
        }
        if self.only != Some(Transport::Tcp) {
            self.udp = Some(worker.bind_udp(addr, &UdpOptions::default())?);
        }
        Ok(())
    }

    fn on_event(&mut self, worker: &mut Worker, event: Event) {
        match event {
            Event::Accepted { conn, .. } => {
                self.streams.insert(conn, Stream::default());
                self.echo_stream(worker, conn);
            }
            Event::Readable(conn) | Event::Writable(conn) => self.echo_stream(worker, conn),
            Event::Closed { conn, .. } => self.streams.remove(conn),
            Event::Datagrams(_) => self.has_datagrams = true,
            _ => {}
        }
    }

    fn end_turn(&mut self, worker: &mut Worker) -> Pending {
        self.echo_datagrams(worker)
    }

    fn drain(&mut self, worker: &mut Worker) {
        if let Some(listener) = self.listener.take() {
            worker.close_listener(listener);
        }
        for (conn, _) in self.streams.iter() {
            worker.close(conn);
        }
        self.streams = Sessions::new();
    }
}
