//! One engine in memory with the other end of its wire, in virtual time.

use std::net::Ipv4Addr;
use std::time::Duration;

use ringwire::clock::{Clock, ManualClock};
use ringwire::frame::{FarEnd, FrameState, PutError};
use ringwire::{Engine, Event, Events, Interface, Worker};
use ringwire_wire::checksum::Sum;
use ringwire_wire::eth::{self, EtherType, Mac};
use ringwire_wire::ipv4::{self, Protocol};
use ringwire_wire::tcp::{self, Header};
use ringwire_wire::{arp, packet};

pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x99]);
const FRAMES: u32 = 512;
const RING_PACKETS: u32 = 256;
/// Turns within which a worker comes to rest when nothing arrives and the clock stands still.
const REST_TURNS: usize = 200;

/// A segment that left the worker.
pub(crate) struct Sent {
    pub(crate) header: Header,
    pub(crate) options: tcp::Options,
    pub(crate) text: Vec<u8>,
}

pub(crate) struct Rig {
    pub(crate) worker: Worker,
    hand: ManualClock,
    far: FarEnd,
    worker_mac: Mac,
    events: Events,
    frames_total: u32,
    /// Of what is injected: the last two bits may say that it was marked on the way (RFC 3168 5).
    pub(crate) tos: u8,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        let (clock, hand) = Clock::manual();
        let mut far = FarEnd::new(RING_PACKETS, FRAMES);
        let engine = Engine::builder()
            .interface(Interface::new("fuzz").address("10.0.0.1/24".parse().expect("an address")))
            .clock(clock)
            .secret([7; 16])
            .frames_per_worker(512)
            .max_connections(64)
            .start_on(|pool| far.attach(pool))
            .expect("in memory nothing can be refused");
        let worker = engine.into_workers().remove(0).start();
        let frames_total = worker.frame_counts().total();
        let mut rig = Rig {
            worker,
            hand,
            far,
            worker_mac: Mac([2, 0, 10, 0, 0, 1]),
            events: Events::with_capacity(32),
            frames_total,
            tos: 0,
        };
        rig.advance(Duration::from_secs(1));
        rig.inject_arp(arp::Op::Request, Mac([0; 6]));
        rig.settle();
        rig
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.hand.advance(by);
    }

    pub(crate) fn now_ms(&self) -> u32 {
        (self.hand.now_ns() / 1_000_000) as u32
    }

    /// Turns until nothing moves; what happened and what left.
    pub(crate) fn settle(&mut self) -> (Vec<Event>, Vec<Sent>) {
        let (mut events, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..REST_TURNS {
            self.worker.poll(&mut self.events, Some(Duration::ZERO)).expect("memory does not fail");
            let before = events.len();
            events.extend(self.events.drain());
            let frames = self.take();
            if frames.is_empty() && events.len() == before {
                assert_eq!(
                    self.worker.frame_counts().total(),
                    self.frames_total,
                    "a frame is lost or invented"
                );
                return (events, sent);
            }
            for frame in frames {
                sent.extend(self.on_frame(&frame));
            }
        }
        panic!("the worker does not come to rest: {} segments", sent.len());
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        self.far.take(|frame| frames.push(frame.to_vec()));
        frames
    }

    /// Everything that leaves is well-formed, with right checksums.
    fn on_frame(&mut self, frame: &[u8]) -> Option<Sent> {
        let parsed = packet::parse(frame).expect("what leaves is well-formed");
        parsed.verify().expect("what leaves has right checksums");
        match parsed.net {
            packet::Net::Arp(request) if request.op == arp::Op::Request => {
                self.inject_arp(arp::Op::Reply, request.sender_mac);
                None
            }
            packet::Net::Ipv4(_, packet::Transport::Tcp(segment)) => Some(Sent {
                header: segment.header(),
                options: segment.options(),
                text: segment.payload().to_vec(),
            }),
            _ => None,
        }
    }

    fn inject_arp(&mut self, op: arp::Op, target: Mac) {
        let packet =
            arp::Packet { op, sender_mac: PEER_MAC, sender_ip: PEER, target_mac: target, target_ip: HERE };
        let mut bytes = [0; arp::PACKET_LEN];
        packet.emit(&mut bytes);
        self.inject(EtherType::ARP, &bytes);
    }

    /// A segment from the peer, with these option bytes.
    pub(crate) fn inject_tcp(&mut self, header: &Header, options: &[u8], text: &[u8]) {
        let mut bytes = vec![0; tcp::HEADER_LEN];
        header.emit(&tcp::Options::default(), Sum::default(), &mut bytes);
        let options = options.get(..options.len().min(40) & !3).unwrap_or_default();
        bytes.extend_from_slice(options);
        bytes.extend_from_slice(text);
        bytes[12] = ((tcp::HEADER_LEN + options.len()) as u8 / 4) << 4;
        bytes[16..18].copy_from_slice(&[0, 0]);
        let pseudo = Sum::pseudo_v4(PEER, HERE, Protocol::TCP, bytes.len() as u16);
        let checksum = (pseudo + Sum::of(&bytes)).finish();
        bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
        self.inject_ip(Protocol::TCP, &bytes);
    }

    pub(crate) fn inject_ip(&mut self, protocol: Protocol, payload: &[u8]) {
        let payload_len = payload.len() as u16;
        let (src, dst, tos) = (PEER, HERE, self.tos);
        let header =
            ipv4::Header { src, dst, protocol, tos, ttl: 64, id: 1, dont_fragment: true, payload_len };
        let mut bytes = [0; ipv4::HEADER_LEN];
        header.emit(&mut bytes);
        self.inject(EtherType::IPV4, &[&bytes[..], payload].concat());
    }

    fn inject(&mut self, ethertype: EtherType, payload: &[u8]) {
        let mut head = [0; eth::HEADER_LEN];
        eth::Header { dst: self.worker_mac, src: PEER_MAC, ethertype }.emit(&mut head);
        let put = self.far.put(&[&head[..], payload].concat());
        // A full ring loses the packet, as a wire may.
        assert!(matches!(put, Ok(()) | Err(PutError::Full)), "{put:?}");
    }

    /// After the end of every connection: nothing is held for any.
    pub(crate) fn check_end(&self) {
        let counts = self.worker.frame_counts();
        assert_eq!(self.worker.counters().connections, 0, "a connection does not end");
        for state in [FrameState::App, FrameState::Send, FrameState::SendInRing] {
            assert_eq!(counts.of(state), 0, "frames are kept in {state:?}");
        }
    }
}
