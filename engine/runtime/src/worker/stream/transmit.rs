//! The transmit queue: machine by machine, as long as the rings and the pool have room.

use ringwire_frame::Class;
use ringwire_proto::icmp::Unreachable;
use ringwire_proto::tcp::{Body, SendBuf, SendPool, Transmit};

use super::*;
use crate::worker::flow::CachedHop;
use crate::worker::link::sum_copied;
use crate::worker::net::{Net, Resolution};

/// What became of one flow's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is left to send.
    Done,
    /// A ring or the pool is full: the flow keeps its place.
    Blocked,
}

/// Where a flow's packets go now.
enum Way {
    Open(Hop),
    /// The neighbour is being asked for: the flow waits.
    Unknown,
    /// There is nobody: what is sent is lost, as on any broken path, and the machine's limits decide.
    Broken,
}

impl Streams {
    /// Lets every queued flow send, in the order in which they asked.
    #[inline]
    pub(crate) fn transmit(&mut self, io: &mut Io) {
        if self.schedule.wants_transmit() {
            self.transmit_queued(io);
        }
    }

    fn transmit_queued(&mut self, io: &mut Io) {
        for _ in 0..self.schedule.queued() {
            let Some(slot) = self.schedule.next_queued() else { return };
            let Some(flow) = self.flows.at_mut(slot) else { continue };
            flow.is_queued = false;
            if self.transmit_flow(io, slot) == Progress::Blocked {
                if let Some(flow) = self.flows.at_mut(slot) {
                    self.schedule.put_back(slot, flow);
                }
                return;
            }
            self.settle_sent(io, slot);
        }
    }

    /// A flow that has sent: its deadline may have moved, and an aborted one has now said so.
    fn settle_sent(&mut self, io: &mut Io, slot: u32) {
        let Some(flow) = self.flows.at_mut(slot) else { return };
        if flow.tcb.is_closed() && flow.owner != Owner::Application && !flow.tcb.wants_transmit() {
            return self.remove(io, slot);
        }
        self.schedule.follow(slot, flow);
        if flow.tcb.state() == tcp::State::TimeWait {
            self.remember(io, slot);
        }
    }

    pub(super) fn transmit_flow(&mut self, io: &mut Io, slot: u32) -> Progress {
        let Streams { flows, cold, options, .. } = self;
        let Some(flow) = flows.at_mut(slot) else { return Progress::Done };
        let hop = match way(flow, io) {
            Way::Open(hop) => Some(hop),
            Way::Unknown => {
                self.park(slot);
                return Progress::Done;
            }
            Way::Broken if flow.tcb.state() == tcp::State::SynSent => {
                // A connect fails with that news.
                self.fail_open(io, slot, tcp::CloseReason::Unreachable(Unreachable::Host));
                return Progress::Done;
            }
            Way::Broken => None,
        };
        let mut room = hop.as_ref().map_or(0, |hop| io.link.tx_room(hop.port));
        let Some(set) = options.get(usize::from(flow.options)) else { return Progress::Done };
        let Flow { tcb, tune, totals, tuple, .. } = flow;
        let mut cx = tcp::Cx { now: io.now, config: &set.config, cold, pool: &mut NoBuffers, tune, totals };
        while tcb.wants_transmit() {
            // Descriptor and frame are certain before the machine is asked: what it says must leave.
            if hop.is_some() && (room == 0 || !io.link.has_control_frame()) {
                io.counters.now.frames_wanted += u64::from(room > 0);
                return Progress::Blocked;
            }
            // By reference: it is written field by field, and copying it at once would wait for the store buffer.
            let mut next = tcb.poll_transmit(&mut cx);
            let Some(transmit) = &mut next else { break };
            let Some(hop) = &hop else {
                // An existing connection goes on trying (RFC 9293 3.9.2.2).
                io.counters.drop_packet(DropReason::NeighUnreachable);
                continue;
            };
            emit(io, (hop, set.mark), tuple, transmit);
            room -= 1;
        }
        Progress::Done
    }

    /// An active open ends before it has begun.
    #[cold]
    fn fail_open(&mut self, io: &mut Io, slot: u32, reason: tcp::CloseReason) {
        let outcome = with_machine!(self, io, slot, |flow, cx| flow.tcb.abort(&mut cx));
        self.settle(io, slot, Outcome { closed: Some(reason), ..outcome.unwrap_or_default() });
    }

    /// Waits for news of its neighbour, or for the next epoch.
    fn park(&mut self, slot: u32) {
        if let Some(flow) = self.flows.at_mut(slot) {
            flow.is_parked = true;
            self.parked.push(slot);
        }
    }

    /// News of neighbours or ports arrived: everything that waited looks again.
    pub(crate) fn unpark(&mut self, io: &mut Io) {
        for slot in core::mem::take(&mut self.parked) {
            let Some(flow) = self.flows.at_mut(slot) else { continue };
            if !core::mem::take(&mut flow.is_parked) {
                continue;
            }
            if flow.tuple.local_port == 0 {
                if !self.place(io, slot) {
                    self.fail_open(io, slot, tcp::CloseReason::NoPorts);
                }
            } else {
                self.reschedule(slot);
            }
        }
    }
}

#[inline]
fn way(flow: &mut Flow, io: &mut Io) -> Way {
    let Tuple { local, remote, .. } = flow.tuple;
    let open = |dst_mac, net: &Net| {
        Way::Open(Hop {
            port: net.port_to(dst_mac, usize::from(flow.port)),
            src_mac: net.mac(),
            dst_mac,
            src: local,
            dst: remote,
        })
    };
    if let Some(cached) = flow.hop.filter(|cached| cached.epoch == io.net.epoch()) {
        return open(cached.mac, &io.net);
    }
    match io.net.resolve(io.now, remote) {
        Resolution::Known(mac) => {
            let way = open(mac, &io.net);
            flow.hop = Some(CachedHop { mac, epoch: io.net.epoch() });
            way
        }
        Resolution::Pending => Way::Unknown,
        Resolution::Unreachable => Way::Broken,
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
fn emit(io: &mut Io, (hop, mark): (&Hop, IpMark), tuple: &Tuple, transmit: &mut Transmit<'_, TcpBuf>) {
    let Transmit { header, options, body, ecn, .. } = transmit;
    let mark = IpMark { tos: mark.tos | *ecn as u8, ..mark };
    header.src_port = tuple.local_port;
    header.dst_port = tuple.remote_port;
    let head_len = tcp_head_len(options);
    match body {
        Body::Whole(buf) => {
            let payload_sum = buf.payload_sum();
            let payload_len = SendBuf::len(&**buf);
            let segment = TcpSegment { header, options, payload_sum, payload_len, mark };
            // The machine gives a buffer out only while the device does not hold it (`SendBuf::in_ring`).
            let Some(head) = buf.head_mut(head_len) else {
                return send_copy(io, hop, (header, options, mark), buf.bytes());
            };
            io.link.emit_tcp(head, hop, &segment);
            if let Some(frame) = buf.frame() {
                submit(io, hop, frame);
            }
        }
        Body::None => send_copy(io, hop, (header, options, mark), &[]),
        Body::Copy(bytes) => send_copy(io, hop, (header, options, mark), bytes),
    }
}

/// A segment whose payload, if any, is copied into a frame of its own.
fn send_copy(io: &mut Io, hop: &Hop, (header, options, mark): (&Header, &Options, IpMark), bytes: &[u8]) {
    // The caller made sure of it.
    let Some(mut frame) = io.link.alloc(Class::Control) else { return };
    let payload_len = bytes.len().min(frame.tailroom());
    let Some(bytes) = bytes.get(..payload_len) else { return };
    let payload_sum = sum_copied(frame.append(payload_len), bytes);
    io.counters.now.copied_bytes += payload_len as u64;
    let segment = TcpSegment { header, options, payload_sum, payload_len, mark };
    let head = frame.prepend(tcp_head_len(options));
    io.link.emit_tcp(head, hop, &segment);
    submit(io, hop, &frame.into_send());
}

fn submit(io: &mut Io, hop: &Hop, frame: &ringwire_frame::SendFrame) {
    if io.link.submit(hop.port, frame, &mut io.counters).is_err() {
        // Room was counted before; a ring that lies loses a packet, which TCP repairs.
        io.counters.drop_packet(DropReason::TxFull);
    }
}
