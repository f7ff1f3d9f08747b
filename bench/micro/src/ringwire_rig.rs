//! Ringwire's side of the comparison: two engines of one worker over a `MemPort` pair.

use std::net::SocketAddr;
use std::time::Duration;

use ringwire::{Conn, Engine, Event, Events, Interface, PollMode, Recv, TcpOptions, Worker};

use crate::{BUFFER_BYTES, REQUEST_BYTES, Rig};

/// Two workers on one thread.
#[derive(Debug)]
pub struct RingwireRig {
    client: Worker,
    server: Worker,
    conns: Vec<Conn>,
    events: Events,
    /// Bytes of the response that have arrived, by connection slot.
    answered: Vec<usize>,
}

const SERVER: &str = "10.8.0.1:80";

impl Rig for RingwireRig {
    fn connect(connections: usize) -> RingwireRig {
        let side = |address: &str| {
            let address = address.parse().expect("a constant address");
            Engine::builder().interface(Interface::new("memory").address(address)).poll_mode(PollMode::Busy)
        };
        let (server, client) = Engine::memory_pair(
            side("10.8.0.1/24").frames_per_worker(16_384),
            side("10.8.0.2/24").frames_per_worker(16_384),
        )
        .expect("an in-memory engine needs nothing");
        let mut rig = RingwireRig {
            server: server.into_workers().remove(0).start(),
            client: client.into_workers().remove(0).start(),
            conns: Vec::new(),
            events: Events::with_capacity(4096),
            answered: vec![0; connections + 1],
        };
        let mut options = TcpOptions::default();
        options.nodelay = true;
        options.recv_buffer_bytes = BUFFER_BYTES as u32;
        options.recv_buffer_max_bytes = BUFFER_BYTES as u32;
        options.send_buffer_bytes = BUFFER_BYTES as u32;
        options.send_buffer_max_bytes = BUFFER_BYTES as u32;
        let addr: SocketAddr = SERVER.parse().expect("a constant address");
        rig.server.listen(addr, &options).expect("a fresh engine has no listener");
        for _ in 0..connections {
            rig.client.connect(addr, &options).expect("the table is larger than this");
            rig.settle();
        }
        while rig.conns.len() < connections {
            rig.settle();
        }
        rig
    }

    fn round(&mut self) {
        for conn in &self.conns {
            let sent = self.client.send(*conn, &[0x55; REQUEST_BYTES]).expect("the connection is open");
            assert_eq!(sent, REQUEST_BYTES);
        }
        let mut open = self.conns.len();
        while open > 0 {
            self.poll_client(&mut open);
            // Takes requests and echoes; the next turn sends.
            self.poll_server();
            self.poll_server();
            self.poll_client(&mut open);
        }
    }

    fn bulk(&mut self, len: usize) {
        let chunk = [0x77; 16 * 1024];
        let conn = self.conns[0];
        let (mut sent, mut received) = (0, 0);
        while received < len {
            while sent < len {
                let wish = chunk.len().min(len - sent);
                let count = self.client.send(conn, &chunk[..wish]).expect("the connection is open");
                sent += count;
                if count < wish {
                    break;
                }
            }
            let mut open = usize::MAX;
            self.poll_client(&mut open);
            self.server.poll(&mut self.events, Some(Duration::ZERO)).expect("memory does not fail");
            for event in self.events.drain() {
                if let Event::Readable(conn) = event {
                    while let Recv::Data(piece) = self.server.recv(conn).expect("the connection is open") {
                        received += piece.len();
                    }
                }
            }
        }
    }
}

impl RingwireRig {
    fn poll_client(&mut self, open: &mut usize) {
        self.client.poll(&mut self.events, Some(Duration::ZERO)).expect("memory does not fail");
        for event in self.events.drain() {
            if let Event::Readable(conn) = event {
                while let Recv::Data(piece) = self.client.recv(conn).expect("the connection is open") {
                    let answered = &mut self.answered[conn.slot()];
                    *answered += piece.len();
                    if *answered == REQUEST_BYTES {
                        *answered = 0;
                        *open -= 1;
                    }
                }
            }
        }
    }

    fn poll_server(&mut self) {
        self.server.poll(&mut self.events, Some(Duration::ZERO)).expect("memory does not fail");
        for event in self.events.drain() {
            if let Event::Readable(conn) = event {
                while let Recv::Data(piece) = self.server.recv(conn).expect("the connection is open") {
                    let sent = self.server.send(conn, &piece).expect("the connection is open");
                    assert_eq!(sent, piece.len());
                }
            }
        }
    }

    /// Packets that both hosts have sent so far, and turns taken.
    pub fn packets_and_turns(&self) -> (u64, u64) {
        let both = [self.client.counters(), self.server.counters()];
        (both.iter().map(|c| c.tx_packets).sum(), both.iter().map(|c| c.turns).sum())
    }

    /// A few turns of both, for the handshake.
    fn settle(&mut self) {
        for _ in 0..2 {
            self.client.poll(&mut self.events, Some(Duration::ZERO)).expect("memory does not fail");
            for event in self.events.drain() {
                if let Event::Connected(conn) = event {
                    self.conns.push(conn);
                }
            }
            self.poll_server();
        }
    }
}
