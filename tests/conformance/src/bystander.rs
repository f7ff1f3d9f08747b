//! A connection that goes on beside an attack, and how much of it gets through.

use ringwire::{Conn, Recv};

use crate::host::Sent;
use crate::script::{HEAP_BYTES, Script};
use crate::segment::{ack, data};

const ASK: &[u8] = b"ask";
const ANSWER: &[u8] = b"answer";

/// The other connection: the peer asks and the application answers after each packet of the attack.
pub(crate) struct Bystander {
    conn: Conn,
    port: u16,
    /// What the worker has acknowledged of the peer's questions, relative: from there the peer goes on.
    acked: u32,
    /// Bytes of answers that have come in the exchange under way.
    answered: usize,
    is_exchanging: bool,
    /// Exchanges begun, and those in which both the question and the answer arrived.
    begun: u32,
    done: u32,
    most_heap_bytes: u64,
}

impl Bystander {
    /// Takes a segment of its own off the script's hands.
    pub(crate) fn takes(&mut self, sent: &Sent) -> bool {
        if sent.header.dst_port != self.port {
            return false;
        }
        self.answered += sent.len();
        self.acked = sent.ack;
        true
    }

    pub(crate) fn has(&self, conn: Conn) -> bool {
        self.conn == conn
    }
}

impl Script {
    /// Plays an attack beside an established connection; the attacker uses other ports of the peer. Of the questions that are asked
    /// on that connection after each packet half must be answered, and the heap must stay below its ceiling.
    #[track_caller]
    pub fn with_bystander(&mut self, attack: impl FnOnce(&mut Script)) {
        self.establish();
        let port = self.peer_port;
        let Some(conn) = self.conn.take() else { self.fail("no connection") };
        self.bystander = Some(Bystander {
            conn,
            port,
            acked: 1,
            answered: 0,
            is_exchanging: false,
            begun: 0,
            done: 0,
            most_heap_bytes: 0,
        });
        self.peer_port = 50_000;
        attack(self);
        self.exchange_beside();
        self.ignore_sent();
        let Some(bystander) = self.bystander.take() else { self.fail("no bystander") };
        let Bystander { begun, done, acked, most_heap_bytes, .. } = bystander;
        if done * 2 < begun {
            self.fail(&format!(
                "expected: half of the other connection's {begun} exchanges\ngot:      {done}"
            ));
        }
        if most_heap_bytes > HEAP_BYTES {
            self.fail(&format!(
                "expected: {HEAP_BYTES} bytes on the heap at most\ngot:      {most_heap_bytes}"
            ));
        }
        (self.conn, self.peer_port) = (Some(conn), port);
        self.peer_next(acked);
        self.expect_alive();
    }

    /// One exchange of the bystander, if there is one: no time passes.
    pub(crate) fn exchange_beside(&mut self) {
        let Some(bystander) = self.bystander.as_mut().filter(|bystander| !bystander.is_exchanging) else {
            return;
        };
        (bystander.is_exchanging, bystander.answered) = (true, 0);
        let (conn, port, seq) = (bystander.conn, bystander.port, bystander.acked);
        self.inject(data(ASK).seq(seq).port(port));
        let mut asked = 0;
        while let Ok(Recv::Data(piece)) = self.worker.recv(conn) {
            asked += piece.len();
        }
        let _ = self.worker.send(conn, ANSWER);
        self.settle();
        let heap_bytes = self.worker.counters().heap_bytes;
        let Some(bystander) = self.bystander.as_mut() else { return };
        let is_done = asked >= ASK.len() && bystander.answered >= ANSWER.len();
        bystander.begun += 1;
        bystander.done += u32::from(is_done);
        bystander.most_heap_bytes = bystander.most_heap_bytes.max(heap_bytes);
        let acked = bystander.acked;
        self.inject(ack().seq(acked).port(port));
        if let Some(bystander) = self.bystander.as_mut() {
            bystander.is_exchanging = false;
        }
    }
}
