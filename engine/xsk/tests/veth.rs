//! The port against the kernel over veth: traffic both ways, kicks, completions, chains, frame conservation.

mod common;

use std::os::fd::AsFd;

use common::{HEADER, Rig, bytes_of, ethernet, in_namespace, memory, run, send_frame, until, veth};
use ringwire_frame::{FrameState, Kick, Packet, Port, TxFull};
use ringwire_xsk::{XskConfig, XskPort};

#[test]
fn receives_what_the_peer_sends() {
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|_| {});
        let sent: Vec<_> = (0..200).map(|n| ethernet(n, 46 + n as usize * 7)).collect();
        for chunk in sent.chunks(50) {
            chunk.iter().for_each(|frame| rig.peer.send(frame));
            let packets = rig.receive(chunk.len());
            for (packet, frame) in packets.iter().zip(chunk) {
                assert!(packet.rest.is_empty());
                assert_eq!(packet.head.bytes(), frame);
                assert_eq!(packet.head.headroom(), 256);
            }
        }
        let stats = rig.port.stats();
        assert_eq!(stats.rx_packets, 200, "{stats:?}");
        assert_eq!(stats.rx_bytes, sent.iter().map(|frame| frame.len() as u64).sum::<u64>());
        rig.finish();
    });
}

#[test]
fn sends_from_any_offset_and_completions_name_the_frame() {
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|_| {});
        for (number, headroom) in [0, 1, 3, 63, 128, 255, 500].into_iter().enumerate() {
            let bytes = ethernet(number as u32, 1000 + number);
            let frame = rig.send_frame(headroom, &bytes);
            rig.port.submit(&mut rig.pool, &frame).unwrap();
            assert!(frame.in_ring());
            rig.drain();
            assert!(!frame.in_ring(), "the completion named this frame, not another");
            assert_eq!(rig.peer.recv(), bytes);
        }
        assert_eq!(rig.port.stats().tx_packets, 7);
        rig.finish();
    });
}

#[test]
fn nothing_leaves_before_the_kick() {
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|_| {});
        let frame = rig.send_frame(0, &ethernet(1, 100));
        rig.port.submit(&mut rig.pool, &frame).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(rig.peer.try_recv(), None);
        assert_eq!(rig.port.kick(), Kick::Idle);
        rig.peer.recv();
        rig.drain();
        drop(frame);
        rig.finish();
    });
}

#[test]
fn one_kick_sends_more_than_32_and_the_ring_fills_and_empties() {
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|config| config.tx_ring = 64);
        let budget = rig.port.mode().kick_budget_packets;
        let frames: Vec<_> = (0..200).map(|n| rig.send_frame(64, &ethernet(n, 60))).collect();
        let mut expected = 0;
        let mut rest = frames.as_slice();
        while !rest.is_empty() {
            let room = rig.port.tx_room();
            let mut taken = 0;
            while let Some(frame) = rest.first() {
                match rig.port.submit(&mut rig.pool, frame) {
                    Ok(()) => (rest, taken) = (&rest[1..], taken + 1),
                    Err(TxFull) => break,
                }
            }
            assert!(taken <= 64 && taken >= room.min(64).min(taken), "{taken} with room for {room}");
            let kicks = rig.port.stats().kicks;
            assert_eq!(rig.port.kick(), Kick::Idle, "veth takes all at once");
            let used = rig.port.stats().kicks - kicks;
            assert!(
                used <= u64::from((taken as u32).div_ceil(budget)),
                "{used} kicks for {taken}, budget {budget}"
            );
            rig.port.reap(&mut rig.pool);
            for _ in 0..taken {
                assert_eq!(rig.peer.recv(), frames[expected].bytes(), "packet {expected}, in order");
                expected += 1;
            }
        }
        assert_eq!(expected, 200);
        rig.drain();
        assert!(frames.iter().all(|frame| !frame.in_ring()));
        drop(frames);
        rig.finish();
    });
}

#[test]
fn a_full_ring_refuses_and_keeps_what_it_has() {
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|config| config.tx_ring = 32);
        let frames: Vec<_> = (0..33).map(|n| rig.send_frame(0, &ethernet(n, 60))).collect();
        for frame in &frames[..32] {
            rig.port.submit(&mut rig.pool, frame).unwrap();
        }
        assert_eq!(rig.port.tx_room(), 0);
        assert_eq!(rig.port.submit(&mut rig.pool, &frames[32]), Err(TxFull));
        assert!(!frames[32].in_ring());
        rig.drain();
        for frame in &frames[..32] {
            assert_eq!(rig.peer.recv(), frame.bytes());
        }
        drop(frames);
        rig.finish();
    });
}

#[test]
fn a_frame_dropped_in_the_ring_is_freed_by_its_completion() {
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|_| {});
        let frame = rig.send_frame(10, &ethernet(1, 60));
        rig.port.submit(&mut rig.pool, &frame).unwrap();
        drop(frame);
        assert_eq!(rig.pool.counts().of(FrameState::Orphan), 1);
        rig.drain();
        assert_eq!(rig.pool.counts().of(FrameState::Orphan), 0);
        rig.peer.recv();
        rig.finish();
    });
}

#[test]
fn what_cannot_be_sent_is_refused_and_counted() {
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|_| {});
        let empty = rig.send_frame(0, &[]);
        rig.port.submit(&mut rig.pool, &empty).unwrap();
        let chain = [rig.send_frame(0, &ethernet(1, 60)), rig.send_frame(0, &[1; 60])];
        rig.port.submit_chain(&mut rig.pool, &chain).unwrap();
        rig.port.submit(&mut rig.pool, &chain[0]).unwrap();
        rig.port.submit(&mut rig.pool, &chain[0]).unwrap();
        assert_eq!(
            rig.port.stats().tx_refused,
            3,
            "an empty frame, a chain without multi-buffer, a frame in the ring"
        );
        rig.drain();
        assert_eq!(rig.peer.recv(), chain[0].bytes());
        assert_eq!(rig.peer.try_recv(), None);
        drop((empty, chain));
        rig.finish();
    });
}

#[test]
fn long_packets_come_and_go_as_chains() {
    in_namespace(|| {
        veth(1, 9000);
        let mut rig = Rig::new(|config| config.multi_buffer = true);
        assert!(rig.port.mode().multi_buffer);
        for len in [100, 1778, 1779, 4000, 9000] {
            let bytes = ethernet(len as u32, len);
            rig.peer.send(&bytes);
            let packets = rig.receive(1);
            assert_eq!(packets[0].len(), len + HEADER);
            assert_eq!(
                packets[0].rest.len(),
                (len + HEADER).div_ceil(rig.port.max_frame_bytes()) - 1,
                "{len}"
            );
            assert_eq!(bytes_of(&packets[0]), bytes);
        }
        for pieces in [1, 2, 5, 9] {
            let bytes = ethernet(pieces, 9000);
            let piece_len = bytes.len().div_ceil(pieces as usize);
            if piece_len > 2048 {
                continue;
            }
            let frames: Vec<_> = bytes.chunks(piece_len).map(|piece| rig.send_frame(0, piece)).collect();
            rig.port.submit_chain(&mut rig.pool, &frames).unwrap();
            rig.drain();
            assert!(frames.iter().all(|frame| !frame.in_ring()), "each frame has its completion");
            assert_eq!(rig.peer.recv(), bytes);
        }
        rig.finish();
    });
}

#[test]
fn a_chain_may_end_in_a_later_batch() {
    in_namespace(|| {
        veth(1, 9000);
        let mut rig = Rig::new(|config| config.multi_buffer = true);
        let bytes = ethernet(7, 8000);
        rig.peer.send(&bytes);
        let mut packets: Vec<Packet> = Vec::new();
        let mut calls = 0;
        until("the end of the chain", || {
            let before = rig.pool.counts().of(FrameState::Rx);
            rig.port.receive(&mut rig.pool, &mut packets, 1);
            calls += u32::from(rig.pool.counts().of(FrameState::Rx) > before);
            (!packets.is_empty()).then_some(())
        });
        assert_eq!(calls, 5, "one descriptor each time");
        assert_eq!(bytes_of(&packets[0]), bytes);
        drop(packets);
        rig.finish();
    });
}

#[test]
fn an_unfinished_chain_goes_back_with_the_port() {
    in_namespace(|| {
        veth(1, 9000);
        let mut rig = Rig::new(|config| config.multi_buffer = true);
        rig.peer.send(&ethernet(7, 8000));
        let mut packets = Vec::new();
        until("the first frame", || {
            rig.port.receive(&mut rig.pool, &mut packets, 1);
            (rig.pool.counts().of(FrameState::Rx) == 1).then_some(())
        });
        assert!(packets.is_empty());
        rig.finish();
    });
}

#[test]
fn a_chain_goes_whole_or_not_at_all() {
    in_namespace(|| {
        veth(1, 9000);
        let mut rig = Rig::new(|config| {
            config.multi_buffer = true;
            config.tx_ring = 32;
        });
        let fillers: Vec<_> = (0..30).map(|n| rig.send_frame(0, &ethernet(n, 60))).collect();
        for frame in &fillers {
            rig.port.submit(&mut rig.pool, frame).unwrap();
        }
        let bytes = ethernet(99, 5000);
        let chain: Vec<_> = bytes.chunks(1700).map(|piece| rig.send_frame(0, piece)).collect();
        assert_eq!(chain.len(), 3);
        assert_eq!(rig.port.submit_chain(&mut rig.pool, &chain), Err(TxFull), "two slots left");
        assert!(chain.iter().all(|frame| !frame.in_ring()));
        rig.drain();
        rig.port.submit_chain(&mut rig.pool, &chain).unwrap();
        rig.drain();
        for frame in &fillers {
            assert_eq!(rig.peer.recv(), frame.bytes());
        }
        assert_eq!(rig.peer.recv(), bytes);
        let too_long: Vec<_> = (0..19).map(|n| rig.send_frame(0, &ethernet(n, 60))).collect();
        rig.port.submit_chain(&mut rig.pool, &too_long).unwrap();
        assert_eq!(rig.port.stats().tx_refused, 1);
        drop((fillers, chain, too_long));
        rig.finish();
    });
}

#[test]
fn the_longest_chain_reaches_the_peer() {
    in_namespace(|| {
        veth(1, 36_000);
        let mut rig = Rig::new(|config| config.multi_buffer = true);
        let bytes = ethernet(5, 18 * 1900 - HEADER);
        let chain: Vec<_> = bytes.chunks(1900).map(|piece| rig.send_frame(0, piece)).collect();
        assert_eq!(chain.len(), 18);
        rig.port.submit_chain(&mut rig.pool, &chain).unwrap();
        rig.drain();
        assert_eq!(rig.peer.recv(), bytes);
        drop(chain);
        rig.finish();
    });
}

#[test]
fn without_multi_buffer_long_packets_are_counted_as_dropped() {
    in_namespace(|| {
        veth(1, 3000);
        let mut rig = Rig::new(|_| {});
        rig.peer.send(&ethernet(1, 2900));
        until("the drop to be counted", || (rig.port.stats().rx_dropped == 1).then_some(()));
        rig.peer.send(&ethernet(2, 200));
        assert_eq!(rig.receive(1)[0].head.bytes(), ethernet(2, 200));
        rig.finish();
    });
}

#[test]
fn an_empty_fill_ring_is_counted_and_recovers() {
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|config| config.fill_frames = 4);
        for n in 0..8 {
            rig.peer.send(&ethernet(n, 60));
        }
        let packets = rig.receive(4);
        let stats = rig.port.stats();
        assert_eq!(packets.len(), 4, "as many as the fill ring had: {stats:?}");
        assert!(stats.rx_fill_empty >= 4, "{stats:?}");
        drop(packets);
        rig.peer.send(&ethernet(100, 60));
        assert_eq!(rig.receive(1)[0].head.bytes(), ethernet(100, 60));
        rig.finish();
    });
}

#[test]
fn the_descriptor_becomes_readable_when_a_packet_arrives() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|_| {});
        let wait = |rig: &Rig, ms: i64| {
            let mut fds = [PollFd::new(&rig.port, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 })).unwrap()
        };
        assert_eq!(wait(&rig, 0), 0);
        rig.peer.send(&ethernet(1, 60));
        assert_eq!(wait(&rig, 999), 1);
        rig.receive(1);
        rig.finish();
    });
}

#[test]
fn two_queues_share_one_packet_memory() {
    in_namespace(|| {
        veth(2, 1500);
        let (umem, mut pool) = memory(1024);
        let (peer_umem, mut peer_pool) = memory(1024);
        let open = |umem, interface: &str, queue| {
            let mut config = XskConfig::new(interface, queue);
            config.fill_frames = 128;
            XskPort::open(umem, &config).unwrap()
        };
        let mut ours = [open(&umem, "ours", 0), open(&umem, "ours", 1)];
        // The peer is AF_XDP too, because its sockets choose the queue.
        let mut theirs = [open(&peer_umem, "theirs", 0), open(&peer_umem, "theirs", 1)];
        let redirects = [common::Redirect::attach("ours"), common::Redirect::attach("theirs")];
        for queue in 0..2 {
            redirects[0].set(queue, ours[queue as usize].as_fd());
            redirects[1].set(queue, theirs[queue as usize].as_fd());
            ours[queue as usize].refill(&mut pool);
            theirs[queue as usize].refill(&mut peer_pool);
        }
        for queue in 0..2 {
            for n in 0..50 {
                let bytes = ethernet(n * 2 + queue as u32, 100);
                let there = send_frame(&mut peer_pool, 20, &bytes);
                theirs[queue].submit(&mut peer_pool, &there).unwrap();
                assert_eq!(theirs[queue].kick(), Kick::Idle);
                let mut packets = Vec::new();
                until("the packet on its queue", || {
                    ours[queue].receive(&mut pool, &mut packets, 64);
                    ours[queue].refill(&mut pool);
                    packets.pop()
                });
                let back = send_frame(&mut pool, 30, &bytes);
                ours[queue].submit(&mut pool, &back).unwrap();
                assert_eq!(ours[queue].kick(), Kick::Idle);
                let packet = until("the packet back on its queue", || {
                    theirs[queue].receive(&mut peer_pool, &mut packets, 64);
                    theirs[queue].refill(&mut peer_pool);
                    packets.pop()
                });
                assert_eq!(packet.head.bytes(), bytes);
                ours[queue].reap(&mut pool);
                theirs[queue].reap(&mut peer_pool);
            }
            assert_eq!(ours[queue].stats().rx_packets, 50);
            assert_eq!(ours[1 - queue].stats().rx_packets, 50 * queue as u64, "no packet on the other queue");
        }
        for (ports, pool) in [(ours, &mut pool), (theirs, &mut peer_pool)] {
            for port in ports {
                port.close(pool);
            }
            assert_eq!(pool.counts().of(FrameState::Free), 1024, "{:?}", pool.counts());
        }
    });
}

#[test]
fn a_port_works_on_another_thread_than_it_was_made_on() {
    in_namespace(|| {
        veth(1, 1500);
        let (umem, region) =
            ringwire_xsk::Umem::register(common::geometry(256), ringwire_xsk::UmemOptions::default())
                .unwrap();
        let mut port = XskPort::open(&umem, &XskConfig::new("ours", 0)).unwrap();
        let redirect = common::Redirect::attach("ours");
        redirect.set(0, port.as_fd());
        let peer = common::RawPeer::open("theirs");
        std::thread::spawn(move || {
            let floors = ringwire_frame::Floors::for_frames(256);
            let mut pool = ringwire_frame::Pool::new(region, common::geometry(256), floors);
            pool.adopt();
            port.refill(&mut pool);
            peer.send(&ethernet(3, 80));
            let mut packets = Vec::new();
            until("the packet", || {
                port.receive(&mut pool, &mut packets, 64);
                packets.pop().filter(|packet| packet.head.bytes() == ethernet(3, 80))
            });
            port.close(&mut pool);
            assert_eq!(pool.counts().of(FrameState::Free), 256);
        })
        .join()
        .unwrap();
    });
}

#[test]
fn frames_wait_while_the_link_is_down_and_leave_when_it_is_up() {
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|_| {});
        run("ip link set ours down");
        let frames: Vec<_> = (0..3).map(|n| rig.send_frame(0, &ethernet(n, 60))).collect();
        for frame in &frames {
            rig.port.submit(&mut rig.pool, frame).unwrap();
        }
        assert_eq!(rig.port.kick(), Kick::Refused, "nobody need try again at once");
        assert_eq!(rig.port.stats().kick_errors, 1, "ENETDOWN, once");
        rig.port.reap(&mut rig.pool);
        assert!(frames.iter().all(|frame| frame.in_ring()));
        run("ip link set ours up");
        until("the carrier", || (rig.port.kick() == Kick::Idle).then_some(()));
        rig.drain();
        assert!(frames.iter().all(|frame| !frame.in_ring()));
        drop(frames);
        rig.port.close(&mut rig.pool);
        assert_eq!(rig.pool.counts().of(FrameState::Free), rig.frame_count);
    });
}

#[test]
fn without_a_carrier_every_frame_completes_in_the_end() {
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|_| {});
        run("ip link set theirs down");
        let frames: Vec<_> = (0..10).map(|n| rig.send_frame(0, &ethernet(n, 60))).collect();
        for frame in &frames {
            rig.port.submit(&mut rig.pool, frame).unwrap();
        }
        let kicks = rig.port.stats().kicks;
        assert_eq!(rig.port.kick(), Kick::Pending, "the device refuses the first");
        assert_eq!(rig.port.stats().kicks, kicks + 1, "no second attempt after EBUSY in the same turn");
        rig.drain();
        assert!(frames.iter().all(|frame| !frame.in_ring()));
        drop(frames);
        rig.finish();
    });
}

#[test]
fn traffic_flows_with_preferred_busy_polling() {
    in_namespace(|| {
        veth(1, 1500);
        let mut rig = Rig::new(|config| {
            config.busy_poll = Some(ringwire_xsk::BusyPoll { budget_packets: 64, spin_us: 20 })
        });
        for n in 0..100 {
            rig.peer.send(&ethernet(n, 100));
            assert_eq!(rig.receive(1)[0].head.bytes(), ethernet(n, 100));
            let frame = rig.send_frame(0, &ethernet(n, 90));
            rig.port.submit(&mut rig.pool, &frame).unwrap();
            rig.drain();
            assert_eq!(rig.peer.recv(), frame.bytes());
        }
        rig.finish();
    });
}
