//! An echo server over streams and datagrams that copies nothing: the received frame goes out again.

use std::collections::HashMap;
use std::net::SocketAddr;

use ringwire::{
    Batch, Conn, Datagram, Event, Listener, Recv, RxBuf, TcpOptions, TxBuf, Udp, UdpOptions, Worker,
};

use crate::service::App;

/// Sends back what it gets; closes when the peer has.
#[derive(Debug)]
pub struct Echo {
    listener: Option<Listener>,
    /// Its connections, each with the piece that did not fit the send buffer: nothing more is read until it has gone.
    conns: HashMap<Conn, Option<TxBuf>>,
    received: Batch<Datagram<RxBuf>>,
    replies: Batch<Datagram<TxBuf>>,
    socket: Option<Udp>,
}

impl Echo {
    /// Echoes TCP on `addr`.
    ///
    /// # Panics
    /// When the port cannot be had.
    pub fn tcp(worker: &mut Worker, addr: SocketAddr, options: &TcpOptions) -> Echo {
        let listener = worker.listen(addr, options).expect("the port is free");
        Echo { listener: Some(listener), ..Echo::idle() }
    }

    /// Echoes UDP on `addr`.
    ///
    /// # Panics
    /// When the port cannot be had.
    pub fn udp(worker: &mut Worker, addr: SocketAddr) -> Echo {
        let socket = worker.bind_udp(addr, &UdpOptions::default()).expect("the port is free");
        Echo { socket: Some(socket), ..Echo::idle() }
    }

    fn idle() -> Echo {
        Echo {
            listener: None,
            conns: HashMap::new(),
            received: Batch::with_capacity(64),
            replies: Batch::with_capacity(64),
            socket: None,
        }
    }

    /// Until there is nothing more to read, or no more room to write.
    fn pump(&mut self, worker: &mut Worker, conn: Conn) {
        let Some(unsent) = self.conns.get_mut(&conn) else { return };
        if let Some(buf) = unsent.take()
            && !self.send(worker, conn, buf)
        {
            return;
        }
        loop {
            match worker.recv(conn) {
                Ok(Recv::Data(piece)) => {
                    if !self.send(worker, conn, piece.into_tx()) {
                        return;
                    }
                }
                // An error is the end of the connection, which its event reports.
                Ok(Recv::Empty) | Err(_) => return,
                Ok(Recv::Eof) => {
                    self.conns.remove(&conn);
                    return worker.close(conn);
                }
            }
        }
    }

    /// False when the piece has to wait.
    fn send(&mut self, worker: &mut Worker, conn: Conn, buf: TxBuf) -> bool {
        match worker.send_buf(conn, buf) {
            Ok(()) => true,
            Err(unsent) => {
                if unsent.error.is_none() {
                    self.conns.insert(conn, Some(unsent.buf));
                }
                false
            }
        }
    }

    /// What has no room in the ring waits for the next turn.
    fn echo_datagrams(&mut self, worker: &mut Worker, socket: Udp) {
        loop {
            let received = worker.recv_batch(socket, &mut self.received).expect("the socket is open");
            for datagram in self.received.drain() {
                self.replies.push(datagram.into_reply()).expect("as many replies as datagrams");
            }
            self.send_replies(worker, socket);
            if received == 0 || !self.replies.is_empty() {
                return;
            }
        }
    }

    fn send_replies(&mut self, worker: &mut Worker, socket: Udp) {
        worker.send_batch(socket, &mut self.replies).expect("a reply is as long as its request");
    }
}

impl App for Echo {
    fn on_event(&mut self, worker: &mut Worker, event: Event) {
        match event {
            Event::Readable(conn) | Event::Writable(conn) => self.pump(worker, conn),
            Event::Accepted { listener, conn } if self.listener == Some(listener) => {
                self.conns.insert(conn, None);
            }
            Event::Closed { conn, .. } => drop(self.conns.remove(&conn)),
            Event::Datagrams(socket) => self.echo_datagrams(worker, socket),
            _ => {}
        }
    }

    fn on_turn(&mut self, worker: &mut Worker) -> Option<std::time::Duration> {
        let socket = self.socket.filter(|_| !self.replies.is_empty())?;
        self.send_replies(worker, socket);
        self.echo_datagrams(worker, socket);
        (!self.replies.is_empty()).then_some(std::time::Duration::ZERO)
    }
}
