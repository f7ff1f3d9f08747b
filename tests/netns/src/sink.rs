//! Datagrams in one direction.

use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use ringwire::{Batch, Datagram, Event, RxBuf, Udp, UdpOptions, Worker};

use crate::pattern::{Digest, Digester};
use crate::service::App;

/// Reads datagrams and says what was in them.
#[derive(Debug)]
pub struct Sink {
    socket: Udp,
    batch: Batch<Datagram<RxBuf>>,
    received: Sender<Digest>,
}

impl Sink {
    /// Reads what comes to `addr`; a digest for each goes to `received`.
    ///
    /// # Panics
    /// When the port cannot be had.
    pub fn new(worker: &mut Worker, addr: SocketAddr, received: Sender<Digest>) -> Sink {
        let socket = worker.bind_udp(addr, &UdpOptions::default()).expect("the port is free");
        Sink { socket, batch: Batch::with_capacity(16), received }
    }
}

impl App for Sink {
    fn on_event(&mut self, worker: &mut Worker, _event: Event) {
        while worker.recv_batch(self.socket, &mut self.batch).expect("the socket is open") > 0 {
            for datagram in self.batch.drain() {
                let mut digester = Digester::default();
                digester.add(&datagram.payload);
                self.received.send(digester.finish()).expect("the test listens");
            }
        }
    }
}
