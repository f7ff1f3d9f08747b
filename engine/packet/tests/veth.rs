//! Two packet ports at the ends of a cable: what goes in comes out, and every frame comes home.

use std::time::{Duration, Instant};

use ringwire_frame::{Class, Floors, FrameState, Geometry, Kick, Packet, Pool, Port, Region, SendFrame};
use ringwire_lab::{Carrier, Lab, Link, Node};
use ringwire_packet::{PacketConfig, PacketPort};

const FRAMES: u32 = 256;

struct End {
    pool: Pool,
    port: PacketPort,
}

impl End {
    fn new(node: &Node, link: &Link, mtu_bytes: u32) -> End {
        let geometry = Geometry { frame_bytes: 2048, frame_count: FRAMES };
        let region = Region::anonymous(geometry.region_bytes());
        let mut pool = Pool::new(region, geometry, Floors { receive_frames: 64, control_frames: 8 });
        let config = PacketConfig {
            mtu_bytes,
            promiscuous: true,
            ..PacketConfig::new(link.ifindex(node), link.name(node))
        };
        let port = node.run(|| PacketPort::open(&config, &pool)).unwrap();
        pool.adopt();
        End { pool, port }
    }

    /// Frames that hold `packet`, as long pieces as the port takes.
    fn frames(&mut self, packet: &[u8]) -> Vec<SendFrame> {
        let room = self.port.max_frame_bytes();
        let pieces = packet.chunks(room).map(|piece| {
            let mut frame = self.pool.alloc(Class::Send).expect("frames come home");
            frame.append(piece.len()).copy_from_slice(piece);
            frame.into_send()
        });
        pieces.collect()
    }

    fn send(&mut self, packet: &[u8]) {
        let frames = self.frames(packet);
        self.port.submit_chain(&mut self.pool, &frames).expect("room");
        assert_eq!(self.port.kick(), Kick::Idle);
        drop(frames);
        assert!(self.port.reap(&mut self.pool) > 0);
    }

    /// The next packet with this EtherType, tags aside: kernels speak too.
    fn receive(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut packets: Vec<Packet> = Vec::new();
        while Instant::now() < deadline {
            self.port.receive(&mut self.pool, &mut packets, 1);
            assert_eq!(packets.len(), self.port.stamps_ns().len());
            for packet in packets.drain(..) {
                let whole: Vec<u8> = std::iter::once(&packet.head)
                    .chain(&packet.rest)
                    .flat_map(|frame| frame.bytes())
                    .copied()
                    .collect();
                if [12, 16].iter().any(|&at| whole.get(at..at + 2) == Some(&OURS[..])) {
                    return whole;
                }
            }
        }
        panic!("nothing came: {:?}", self.port.stats());
    }

    fn assert_home(&self) {
        let counts = self.pool.counts();
        assert!(counts.check() && counts.of(FrameState::Free) == FRAMES, "{counts:?}");
        assert_eq!(self.pool.protocol_errors(), 0);
    }
}

/// An experimental EtherType (IEEE 802).
const OURS: [u8; 2] = [0x88, 0xb5];

fn packet(len: usize, tag: &[u8]) -> Vec<u8> {
    let mut packet = [&[0x02, 9, 9, 9, 9, 9, 0x02, 8, 8, 8, 8, 8], tag, &OURS].concat();
    packet.extend((packet.len()..len).map(|index| (index * 7) as u8));
    packet
}

fn ends(mtu_bytes: u32) -> (Lab, [Node; 2], Link, [End; 2]) {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
    let link = lab.link(&a, &b).direct().mtu(mtu_bytes).up().unwrap();
    let ends = [End::new(&a, &link, mtu_bytes), End::new(&b, &link, mtu_bytes)];
    (lab, [a, b], link, ends)
}

#[test]
fn packets_of_every_length_arrive_as_they_were_sent() {
    for mtu in [1500, 9000, 65_535] {
        let (_lab, _nodes, _link, [mut a, mut b]) = ends(mtu);
        for len in [60, 61, 1514, 1792, 1793, 9014, 60_000, 65_549] {
            if len <= mtu as usize + 14 {
                a.send(&packet(len, &[]));
                assert!(b.receive() == packet(len, &[]), "{len} bytes");
            }
        }
        a.assert_home();
        b.assert_home();
    }
}

#[test]
fn tags_stand_where_the_wire_has_them() {
    let (_lab, _nodes, _link, [mut a, mut b]) = ends(1500);
    for tag in [[0x81, 0, 0x20, 5], [0x88, 0xa8, 0, 7]] {
        a.send(&packet(200, &tag));
        assert_eq!(b.receive(), packet(200, &tag));
    }
}

#[test]
fn what_the_pool_has_no_room_for_waits_in_the_ring() {
    let (_lab, _nodes, _link, [mut a, mut b]) = ends(1500);
    for _ in 0..2 * FRAMES {
        a.send(&packet(100, &[]));
    }
    let mut held = Vec::new();
    let received = b.port.receive(&mut b.pool, &mut held, usize::MAX);
    assert!(received <= FRAMES as usize, "{received}");
    held.clear();
    for _ in received..2 * FRAMES as usize {
        b.receive();
    }
    b.assert_home();
}

#[test]
fn what_can_never_leave_is_counted_and_let_go() {
    let (_lab, nodes, link, [mut a, mut b]) = ends(1500);
    a.send(&packet(4000, &[]));
    assert_eq!(a.port.stats().tx_invalid, 1);
    a.send(&packet(1000, &[]));
    assert_eq!(b.receive().len(), 1000);
    // The far end's carrier is gone: packets wait, and the worker need not spin.
    link.set_carrier(&nodes[0], Carrier::Down).unwrap();
    let frames = a.frames(&packet(100, &[]));
    a.port.submit_chain(&mut a.pool, &frames).unwrap();
    let kicks = (0..1000).map(|_| a.port.kick()).find(|kick| *kick != Kick::Pending);
    assert_eq!(kicks, Some(Kick::Refused));
    link.set_carrier(&nodes[0], Carrier::Up).unwrap();
    assert_eq!(a.port.kick(), Kick::Idle);
    drop(frames);
    a.port.reap(&mut a.pool);
    a.assert_home();
}
