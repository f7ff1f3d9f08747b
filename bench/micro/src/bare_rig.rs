//! The floor under Ringwire's side of the comparison: the same packets, frames, rings and clock reads without a protocol.
//!
//! A turn is what `Worker::poll` does around its sockets: clock, completions, receive, submit, refill, kick. Payload is copied where
//! `send` copies it. No header is written or read, nothing is summed, looked up or timed.

use std::time::Instant;

use ringwire_frame::{Class, Floors, Frame, Geometry, MemPort, Packet, Pool, Port, Region, SendFrame};

use crate::{REQUEST_BYTES, Rig};

const FRAME_COUNT: u32 = 16_384;
const RING_FRAMES: u32 = 1024;
/// Headers of a segment with timestamps.
const HEADER_BYTES: usize = 66;
const SEGMENT_BYTES: usize = 1448;
const BATCH: usize = 64;

/// One end of the wire.
struct Host {
    pool: Pool,
    port: MemPort,
    received: Vec<Packet>,
    /// To be sent in the next turn.
    sending: Vec<SendFrame>,
    /// Handed to the ring; kept until the device is done with them, as a send queue keeps them.
    sent: Vec<SendFrame>,
    now: Instant,
}

/// Two hosts that exchange packets of TCP's sizes.
pub struct BareRig {
    client: Host,
    server: Host,
    connections: usize,
}

impl Host {
    fn pair() -> (Host, Host) {
        let pool = || {
            let geometry = Geometry { frame_bytes: 2048, frame_count: FRAME_COUNT };
            let region = Region::anonymous(geometry.region_bytes());
            Pool::new(region, geometry, Floors::for_frames(FRAME_COUNT))
        };
        let (a, b) = (pool(), pool());
        let (port_a, port_b) = MemPort::pair(RING_FRAMES, &a, &b);
        (Host::new(a, port_a), Host::new(b, port_b))
    }

    fn new(mut pool: Pool, mut port: MemPort) -> Host {
        pool.adopt();
        port.refill(&mut pool);
        Host { pool, port, received: Vec::new(), sending: Vec::new(), sent: Vec::new(), now: Instant::now() }
    }

    /// One packet with `payload`, to leave in the next turn.
    fn send(&mut self, payload: &[u8]) {
        let mut frame = self.pool.alloc(Class::Send).expect("a frame is free");
        frame.reset(128);
        frame.append(payload.len()).copy_from_slice(payload);
        frame.prepend(HEADER_BYTES);
        self.sending.push(frame.into_send());
    }

    /// One turn; `on_packet` gets each frame that arrived.
    fn turn(&mut self, mut on_packet: impl FnMut(&mut Host, Frame)) {
        self.now = Instant::now();
        self.port.reap(&mut self.pool);
        self.sent.retain(SendFrame::in_ring);
        while self.port.receive(&mut self.pool, &mut self.received, BATCH) > 0 {
            let mut received = std::mem::take(&mut self.received);
            received.drain(..).for_each(|packet| on_packet(self, packet.head));
            self.received = received;
        }
        let room = self.port.tx_room().min(self.sending.len());
        for frame in self.sending.drain(..room) {
            self.port.submit(&mut self.pool, &frame).expect("room was seen");
            self.sent.push(frame);
        }
        self.port.refill(&mut self.pool);
        let _ = self.port.kick();
    }
}

impl Rig for BareRig {
    fn connect(connections: usize) -> BareRig {
        let (client, server) = Host::pair();
        BareRig { client, server, connections }
    }

    fn round(&mut self) {
        for _ in 0..self.connections {
            self.client.send(&[0x55; REQUEST_BYTES]);
        }
        let mut open = self.connections;
        while open > 0 {
            self.client.turn(|_, _| open -= 1);
            self.server.turn(|server, mut frame| {
                frame.advance(HEADER_BYTES);
                server.send(frame.bytes());
            });
            self.server.turn(|_, _| {});
            self.client.turn(|_, _| open -= 1);
        }
    }

    fn bulk(&mut self, len: usize) {
        const WINDOW_SEGMENTS: usize = crate::BUFFER_BYTES / SEGMENT_BYTES;
        let (mut left, mut received) = (len, 0);
        while received < len {
            for _ in 0..WINDOW_SEGMENTS {
                let now = left.min(SEGMENT_BYTES);
                if now > 0 {
                    self.client.send(&[0x77; SEGMENT_BYTES][..now]);
                }
                left -= now;
            }
            self.client.turn(|_, _| {});
            self.server.turn(|_, frame| received += frame.len() - HEADER_BYTES);
        }
    }
}
