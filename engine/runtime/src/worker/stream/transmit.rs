//! The transmit queue: machine by machine, as long as the rings and the pool have room.

use ringwire_frame::Class;
use ringwire_proto::tcp::{Body, SendBuf, SendPool, Transmit};
use ringwire_wire::checksum::Sum;

use super::*;
use crate::worker::flow::CachedHop;
use crate::worker::net::Resolution;

/// What became of one flow's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is left to send.
    Done,
    /// A ring or the pool is full: the flow keeps its place.
    Blocked,
}

impl Streams {
    /// Lets every queued flow send, in the order in which they asked.
    pub(crate) fn transmit(&mut self, io: &mut Io<'_>) {
        for _ in 0..self.queue.len() {
            let Some(slot) = self.queue.pop_front() else { return };
            if let Some(flow) = self.flows.at_mut(slot) {
                flow.is_queued = false;
            }
            if self.transmit_flow(io, slot) == Progress::Blocked {
                if let Some(flow) = self.flows.at_mut(slot) {
                    flow.is_queued = true;
                    self.queue.push_front(slot);
                }
                return;
            }
            self.settle_sent(io, slot);
        }
    }

    /// A flow that has sent: its deadline may have moved, and an aborted one has now said so.
    fn settle_sent(&mut self, io: &mut Io<'_>, slot: u32) {
        let Some(flow) = self.flows.at(slot) else { return };
        if flow.tcb.is_closed() && flow.owner != Owner::Application && !flow.tcb.wants_transmit() {
            return self.remove(io, slot);
        }
        self.reschedule(slot);
    }

    pub(super) fn transmit_flow(&mut self, io: &mut Io<'_>, slot: u32) -> Progress {
        let Some(hop) = self.hop(io, slot) else { return Progress::Done };
        let mut room = io.link.tx_room(hop.port);
        loop {
            if room == 0 {
                return Progress::Blocked;
            }
            // A control frame is taken before the machine is asked: what it says must leave.
            let Some(spare) = io.link.alloc(Class::Control) else {
                io.counters.now.frames_wanted += 1;
                return Progress::Blocked;
            };
            match self.transmit_one(io, slot, &hop, spare) {
                Progress::Done => return Progress::Done,
                Progress::Blocked => room -= 1,
            }
        }
    }

    /// Asks the machine for one segment and puts it on the ring; `Done` when it has none.
    fn transmit_one(&mut self, io: &mut Io<'_>, slot: u32, hop: &Hop, spare: Frame) -> Progress {
        let Streams { flows, cold, options, .. } = self;
        let Some(flow) = flows.at_mut(slot) else { return Progress::Done };
        let Some(set) = options.get(usize::from(flow.options)) else { return Progress::Done };
        let tuple = flow.tuple;
        let mut cx = tcp::Cx { now: io.now, config: &set.config, cold, pool: &mut NoBuffers };
        let Some(transmit) = flow.tcb.poll_transmit(&mut cx) else { return Progress::Done };
        emit(io, hop, &tuple, transmit, spare);
        Progress::Blocked
    }

    /// Where the flow's packets go; `None` parks it until the neighbour is known.
    #[inline]
    fn hop(&mut self, io: &mut Io<'_>, slot: u32) -> Option<Hop> {
        let flow = self.flows.at_mut(slot)?;
        let Tuple { local, remote, .. } = flow.tuple;
        let port = usize::from(flow.port);
        let hop = |mac, net: &crate::worker::net::Net| Hop {
            port,
            src_mac: net.mac(),
            dst_mac: mac,
            src: local,
            dst: remote,
        };
        if let Some(cached) = flow.hop.filter(|cached| cached.epoch == io.net.epoch()) {
            return Some(hop(cached.mac, io.net));
        }
        match io.net.resolve(io.now, remote) {
            Resolution::Known(mac) => {
                flow.hop = Some(CachedHop { mac, epoch: io.net.epoch() });
                Some(hop(mac, io.net))
            }
            Resolution::Pending | Resolution::Unreachable => {
                // An unreachable neighbour is asked again by the retransmission; the connection's own limits end it.
                flow.is_parked = true;
                self.parked.push(slot);
                None
            }
        }
    }

    /// News of neighbours or ports arrived: everything that waited looks again.
    pub(crate) fn unpark(&mut self, io: &mut Io<'_>) {
        for slot in core::mem::take(&mut self.parked) {
            let Some(flow) = self.flows.at_mut(slot) else { continue };
            if !core::mem::take(&mut flow.is_parked) {
                continue;
            }
            if flow.tuple.local_port == 0 {
                self.place(io, slot);
            } else {
                self.reschedule(slot);
            }
        }
    }
}

/// Transmitting takes no new send buffer; the pool is lent to the ring meanwhile.
struct NoBuffers;

impl SendPool for NoBuffers {
    type Buf = TcpBuf;

    fn alloc(&mut self) -> Option<TcpBuf> {
        None
    }
}

/// One segment from the machine onto the ring. The caller made sure of a free descriptor.
fn emit(io: &mut Io<'_>, hop: &Hop, tuple: &Tuple, transmit: Transmit<'_, TcpBuf>, spare: Frame) {
    let Transmit { mut header, options, body, .. } = transmit;
    header.src_port = tuple.local_port;
    header.dst_port = tuple.remote_port;
    let head_len = tcp_head_len(&options);
    match body {
        Body::Whole(buf) => {
            let payload_sum = buf.payload_sum();
            let payload_len = SendBuf::len(buf);
            let segment = TcpSegment { header: &header, options: &options, payload_sum, payload_len };
            // The machine gives a buffer out only while the device does not hold it (`SendBuf::in_ring`).
            let Some(head) = buf.head_mut(head_len) else { return };
            io.link.emit_tcp(head, hop, &segment);
            submit(io, hop, buf.frame());
        }
        Body::None => send_copy(io, hop, &header, &options, &[], spare),
        Body::Copy(bytes) => send_copy(io, hop, &header, &options, bytes, spare),
    }
}

/// A segment whose payload, if any, is copied into a frame of its own.
fn send_copy(
    io: &mut Io<'_>,
    hop: &Hop,
    header: &ringwire_wire::tcp::Header,
    options: &ringwire_wire::tcp::Options,
    bytes: &[u8],
    mut frame: Frame,
) {
    let payload_len = bytes.len().min(frame.tailroom());
    let Some(bytes) = bytes.get(..payload_len) else { return };
    let payload_sum = Sum::copy(frame.append(payload_len), bytes);
    io.counters.now.copied_bytes += payload_len as u64;
    let segment = TcpSegment { header, options, payload_sum, payload_len };
    let head = frame.prepend(tcp_head_len(options));
    io.link.emit_tcp(head, hop, &segment);
    submit(io, hop, &frame.into_send());
}

fn submit(io: &mut Io<'_>, hop: &Hop, frame: &ringwire_frame::SendFrame) {
    if io.link.submit(hop.port, frame, io.counters).is_err() {
        // Room was counted before; a ring that lies loses a packet, which TCP repairs.
        io.counters.drop_packet(DropReason::TxFull);
    }
}
