use std::vec::Vec;

use proptest::prelude::*;
use ringwire_wire::arp::Op;

use super::*;

const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const EVIL_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xee]);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const T0: Instant = Instant::from_secs(1_000);

fn secs(secs: u64) -> Instant {
    T0 + Duration::from_secs(secs)
}

/// A cache that has announced its address and is quiet.
fn cache_with(limits: Limits) -> Cache<u32> {
    let mut cache = Cache::new(OUR_MAC, limits);
    cache.add_address(Instant::ZERO, OURS);
    for at in [Instant::ZERO, Instant::from_secs(10)] {
        assert_eq!(drain(&mut cache, at).len(), 1);
    }
    assert_eq!(cache.next_deadline(), None);
    cache
}

fn cache() -> Cache<u32> {
    cache_with(Limits { entries: 8, pending: 6, pending_per_entry: 4 })
}

fn drain(cache: &mut Cache<u32>, now: Instant) -> Vec<Transmit> {
    core::iter::from_fn(|| cache.poll_transmit(now)).collect()
}

fn released(cache: &mut Cache<u32>) -> Vec<Released<u32>> {
    core::iter::from_fn(|| cache.poll_released()).collect()
}

fn request(sender_mac: Mac, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Packet {
    Packet { op: Op::Request, sender_mac, sender_ip, target_mac: Mac::default(), target_ip }
}

fn reply(sender_mac: Mac, sender_ip: Ipv4Addr) -> Packet {
    Packet { op: Op::Reply, sender_mac, sender_ip, target_mac: OUR_MAC, target_ip: OURS }
}

/// A cache that knows the peer since `T0`.
fn cache_that_knows_peer() -> Cache<u32> {
    let mut cache = cache();
    assert_eq!(cache.lookup(T0, PEER), Lookup::Pending);
    assert_eq!(drain(&mut cache, T0).len(), 1);
    assert_eq!(cache.on_arp(T0, &reply(PEER_MAC, PEER)), Verdict::Learned);
    cache
}

fn broadcast_request() -> Transmit {
    Transmit { dst: Mac::BROADCAST, packet: request(OUR_MAC, OURS, PEER) }
}

fn unicast_request() -> Transmit {
    Transmit { dst: PEER_MAC, packet: request(OUR_MAC, OURS, PEER) }
}

#[test]
fn requests_for_our_addresses_are_answered() {
    let mut cache = cache();
    let expected =
        Packet { op: Op::Reply, sender_mac: OUR_MAC, sender_ip: OURS, target_mac: PEER_MAC, target_ip: PEER };
    assert_eq!(cache.on_arp(T0, &request(PEER_MAC, PEER, OURS)), Verdict::Reply(expected));
    assert_eq!(cache.on_arp(T0, &request(PEER_MAC, PEER, OTHER)), Verdict::Drop(DropReason::ArpNotForUs));
    cache.remove_address(OURS);
    assert_eq!(cache.on_arp(T0, &request(PEER_MAC, PEER, OURS)), Verdict::Drop(DropReason::ArpNotForUs));
}

#[test]
fn a_probe_for_our_address_is_answered_but_teaches_nothing() {
    let mut cache = cache();
    let probe = request(PEER_MAC, Ipv4Addr::UNSPECIFIED, OURS);
    assert!(matches!(cache.on_arp(T0, &probe), Verdict::Reply(_)));
    assert!(cache.entries.is_empty());
}

#[test]
fn impossible_senders_are_dropped() {
    let mut cache = cache();
    let table = [
        (OUR_MAC, PEER),
        (Mac::BROADCAST, PEER),
        (Mac([1, 0, 0x5e, 0, 0, 1]), PEER),
        (Mac::default(), PEER),
        (PEER_MAC, Ipv4Addr::LOCALHOST),
        (PEER_MAC, Ipv4Addr::BROADCAST),
        (PEER_MAC, Ipv4Addr::new(224, 0, 0, 1)),
    ];
    for (mac, ip) in table {
        for packet in [request(mac, ip, OURS), reply(mac, ip)] {
            assert_eq!(cache.on_arp(T0, &packet), Verdict::Drop(DropReason::ArpBadSender), "{mac} {ip}");
        }
    }
    let nobody = reply(PEER_MAC, Ipv4Addr::UNSPECIFIED);
    assert_eq!(cache.on_arp(T0, &nobody), Verdict::Drop(DropReason::ArpBadSender));
    assert!(cache.entries.is_empty());
}

#[test]
fn packets_wait_and_leave_in_order() {
    let mut cache = cache();
    for packet in 0..3 {
        assert_eq!(cache.lookup(T0, PEER), Lookup::Pending);
        assert_eq!(cache.enqueue(PEER, packet), Ok(()));
    }
    assert_eq!(cache.lookup(T0, OTHER), Lookup::Pending);
    assert_eq!(cache.enqueue(OTHER, 9), Ok(()));
    assert_eq!(drain(&mut cache, T0).len(), 2);
    assert_eq!(cache.on_arp(T0, &reply(PEER_MAC, PEER)), Verdict::Learned);
    let expected = [0, 1, 2].map(|packet| Released::Resolved { ip: PEER, mac: PEER_MAC, packet });
    assert_eq!(released(&mut cache), expected);
    assert_eq!(cache.lookup(T0, PEER), Lookup::Resolved(PEER_MAC));
    assert_eq!(cache.lookup(T0, OTHER), Lookup::Pending, "the other still waits");
}

#[test]
fn three_requests_a_second_apart_then_failure_then_another_try() {
    let mut cache = cache();
    cache.lookup(T0, PEER);
    cache.enqueue(PEER, 7).expect("room");
    for second in 0..3 {
        assert_eq!(cache.next_deadline(), Some(secs(second)));
        assert_eq!(drain(&mut cache, secs(second)), [broadcast_request()]);
        assert!(drain(&mut cache, secs(second) + Duration::from_millis(999)).is_empty());
        assert_eq!(cache.lookup(secs(second), PEER), Lookup::Pending);
    }
    assert!(drain(&mut cache, secs(3)).is_empty());
    assert_eq!(released(&mut cache), [Released::Failed { ip: PEER, packet: 7 }]);
    assert_eq!(cache.lookup(secs(3), PEER), Lookup::Failed);
    let refused = cache.enqueue(PEER, 8).expect_err("failed");
    assert_eq!(refused, Refused { packet: 8, reason: DropReason::NeighUnreachable });
    assert_eq!(cache.lookup(secs(6), PEER), Lookup::Pending);
    assert_eq!(drain(&mut cache, secs(6)), [broadcast_request()]);
}

#[test]
fn replies_count_only_while_asked_for() {
    let mut cache = cache();
    let unsolicited = Verdict::Drop(DropReason::ArpUnsolicited);
    assert_eq!(cache.on_arp(T0, &reply(EVIL_MAC, PEER)), unsolicited);
    assert!(cache.entries.is_empty(), "never creates");
    cache.lookup(T0, PEER);
    assert_eq!(cache.on_arp(T0, &reply(EVIL_MAC, PEER)), unsolicited, "before the request left");
    drain(&mut cache, T0);
    let for_another = Packet { target_mac: EVIL_MAC, ..reply(EVIL_MAC, PEER) };
    assert_eq!(cache.on_arp(T0, &for_another), Verdict::Drop(DropReason::ArpNotForUs));
    let to_another = Packet { target_ip: OTHER, ..reply(EVIL_MAC, PEER) };
    assert_eq!(cache.on_arp(T0, &to_another), Verdict::Drop(DropReason::ArpNotForUs));
    assert_eq!(cache.on_arp(T0, &reply(PEER_MAC, PEER)), Verdict::Learned);
    assert_eq!(cache.on_arp(T0, &reply(EVIL_MAC, PEER)), unsolicited);
    assert_eq!(cache.lookup(T0, PEER), Lookup::Resolved(PEER_MAC), "never overwrites");
}

#[test]
fn a_contradiction_only_makes_us_ask_the_known_owner() {
    let contradictions = [
        reply(EVIL_MAC, PEER),
        Packet { target_mac: Mac::BROADCAST, target_ip: PEER, ..reply(EVIL_MAC, PEER) },
        request(EVIL_MAC, PEER, PEER),
        request(EVIL_MAC, PEER, OURS),
        request(EVIL_MAC, PEER, OTHER),
    ];
    for packet in contradictions {
        let mut cache = cache_that_knows_peer();
        cache.on_arp(secs(5), &packet);
        assert_eq!(cache.lookup(secs(5), PEER), Lookup::Resolved(PEER_MAC));
        assert_eq!(drain(&mut cache, secs(5)), [unicast_request()], "{packet:?}");
        let forged = cache.on_arp(secs(5), &reply(EVIL_MAC, PEER));
        assert_eq!(forged, Verdict::Drop(DropReason::ArpUnsolicited), "the probe is not an invitation");
        assert_eq!(cache.on_arp(secs(5), &reply(PEER_MAC, PEER)), Verdict::Learned);
        cache.on_arp(secs(5), &packet);
        assert!(drain(&mut cache, secs(5)).is_empty(), "one probe per second");
    }
}

#[test]
fn a_neighbour_that_moved_is_found_again() {
    let mut cache = cache_that_knows_peer();
    cache.on_arp(secs(5), &request(EVIL_MAC, PEER, PEER));
    for second in 5..8 {
        assert_eq!(drain(&mut cache, secs(second)), [unicast_request()]);
    }
    assert_eq!(drain(&mut cache, secs(8)), [broadcast_request()]);
    assert_eq!(cache.lookup(secs(8), PEER), Lookup::Pending);
    assert_eq!(cache.on_arp(secs(8), &reply(EVIL_MAC, PEER)), Verdict::Learned);
    assert_eq!(cache.lookup(secs(8), PEER), Lookup::Resolved(EVIL_MAC));
}

#[test]
fn a_stale_neighbour_is_probed_only_if_used_and_without_forward_progress() {
    let mut cache = cache_that_knows_peer();
    assert!(drain(&mut cache, secs(1)).is_empty());
    assert_eq!(cache.next_deadline(), None);
    assert_eq!(cache.lookup(secs(29), PEER), Lookup::Resolved(PEER_MAC));
    assert_eq!(cache.next_deadline(), None, "believed for 30 s");
    assert_eq!(cache.lookup(secs(40), PEER), Lookup::Resolved(PEER_MAC));
    assert_eq!(cache.next_deadline(), Some(secs(45)), "delayed");
    cache.confirm(secs(44), PEER);
    assert!(drain(&mut cache, secs(45)).is_empty(), "confirmed");
    assert_eq!(cache.lookup(secs(80), PEER), Lookup::Resolved(PEER_MAC));
    assert_eq!(drain(&mut cache, secs(85)), [unicast_request()]);
    assert_eq!(cache.lookup(secs(85), PEER), Lookup::Resolved(PEER_MAC), "usable while probed");
    assert_eq!(cache.on_arp(secs(85), &reply(PEER_MAC, PEER)), Verdict::Learned);
    assert!(drain(&mut cache, secs(100)).is_empty());
}

/// RFC 1122 2.3.2.1 (4): retransmissions without an answer.
#[test]
fn a_neighbour_that_is_suspected_is_asked_at_once_and_once_a_second() {
    let mut cache = cache_that_knows_peer();
    cache.suspect(T0, PEER);
    assert!(drain(&mut cache, T0).is_empty(), "it has just answered");
    cache.suspect(secs(1), PEER);
    assert_eq!(cache.next_deadline(), Some(secs(1)));
    assert_eq!(drain(&mut cache, secs(1)), [unicast_request()]);
    cache.suspect(secs(1), PEER);
    assert!(drain(&mut cache, secs(1)).is_empty(), "it is being asked");
    assert_eq!(cache.on_arp(secs(1), &reply(PEER_MAC, PEER)), Verdict::Learned);
    // Stale and in use: no need to wait for the delay.
    assert_eq!(cache.lookup(secs(40), PEER), Lookup::Resolved(PEER_MAC));
    cache.suspect(secs(41), PEER);
    assert_eq!(drain(&mut cache, secs(41)), [unicast_request()]);
    // Who is not known, or is somebody else's to look after, is left alone.
    cache.suspect(secs(41), OTHER);
    cache.insert_static(secs(41), OTHER, EVIL_MAC).expect("room");
    cache.suspect(secs(60), OTHER);
    assert_eq!(cache.lookup(secs(60), OTHER), Lookup::Resolved(EVIL_MAC));
    assert!(drain(&mut cache, secs(60)).iter().all(|sent| sent.packet.target_ip == PEER));
}

#[test]
fn who_asks_for_us_is_noted_as_stale() {
    let mut cache = cache();
    cache.on_arp(T0, &request(PEER_MAC, PEER, OURS));
    assert_eq!(cache.lookup(T0, PEER), Lookup::Resolved(PEER_MAC));
    assert_eq!(drain(&mut cache, secs(5)), [unicast_request()], "and verified soon");
}

#[test]
fn a_request_from_a_neighbour_we_wait_for_releases_its_packets() {
    let mut cache = cache();
    cache.lookup(T0, PEER);
    cache.enqueue(PEER, 1).expect("room");
    assert!(matches!(cache.on_arp(T0, &request(PEER_MAC, PEER, OURS)), Verdict::Reply(_)));
    assert_eq!(released(&mut cache), [Released::Resolved { ip: PEER, mac: PEER_MAC, packet: 1 }]);
}

#[test]
fn a_flood_of_requests_neither_grows_the_cache_nor_evicts() {
    let mut cache = cache_that_knows_peer();
    for host in 10..250 {
        cache.on_arp(T0, &request(EVIL_MAC, Ipv4Addr::new(10, 0, 0, host), OURS));
    }
    assert_eq!(cache.entries.len(), 8);
    assert_eq!(cache.lookup(secs(1), PEER), Lookup::Resolved(PEER_MAC));
    assert_eq!(cache.lookup(secs(1), OTHER), Lookup::Pending, "our own wish evicts an unused stranger");
    assert_eq!(cache.entries.len(), 8);
    assert_eq!(cache.lookup(secs(1), PEER), Lookup::Resolved(PEER_MAC));
}

#[test]
fn a_cache_full_of_open_requests_refuses_another() {
    let mut cache = cache();
    for host in 10..18 {
        assert_eq!(cache.lookup(T0, Ipv4Addr::new(10, 0, 0, host)), Lookup::Pending);
    }
    assert_eq!(cache.lookup(T0, PEER), Lookup::Failed);
    assert_eq!(cache.insert_static(T0, PEER, PEER_MAC), Err(Full));
    assert_eq!(drain(&mut cache, T0).len(), 8);
}

#[test]
fn the_latest_packets_wait_when_there_are_too_many() {
    let mut cache = cache();
    cache.lookup(T0, PEER);
    cache.lookup(T0, OTHER);
    for packet in 0..4 {
        cache.enqueue(PEER, packet).expect("room");
    }
    let displaced = Err(Refused { packet: 0, reason: DropReason::NeighFull });
    assert_eq!(cache.enqueue(PEER, 4), displaced, "four per neighbour");
    cache.enqueue(OTHER, 10).expect("room");
    cache.enqueue(OTHER, 11).expect("room");
    let displaced = Err(Refused { packet: 10, reason: DropReason::NeighFull });
    assert_eq!(cache.enqueue(OTHER, 12), displaced, "six in all");
    let third = Ipv4Addr::new(10, 0, 0, 4);
    cache.lookup(T0, third);
    assert_eq!(cache.enqueue(third, 20), Err(Refused { packet: 20, reason: DropReason::NeighFull }));
}

#[test]
fn static_entries_serve_shared_mode() {
    let mut cache: Cache<u32> = Cache::new(OUR_MAC, Limits::default());
    assert_eq!(cache.lookup(T0, PEER), Lookup::Pending);
    cache.enqueue(PEER, 1).expect("room");
    let wish = cache.poll_transmit(T0).expect("a wish for the kernel");
    assert_eq!(wish.packet.target_ip, PEER);
    cache.insert_static(T0, PEER, PEER_MAC).expect("room");
    assert_eq!(released(&mut cache), [Released::Resolved { ip: PEER, mac: PEER_MAC, packet: 1 }]);
    assert_eq!(cache.lookup(secs(100_000), PEER), Lookup::Resolved(PEER_MAC), "does not expire");
    cache.on_arp(T0, &reply(EVIL_MAC, PEER));
    cache.confirm(T0, PEER);
    assert_eq!(cache.lookup(T0, PEER), Lookup::Resolved(PEER_MAC));
    cache.insert_static(T0, PEER, EVIL_MAC).expect("room");
    assert_eq!(cache.lookup(T0, PEER), Lookup::Resolved(EVIL_MAC), "the mirror may change it");
    cache.fail(T0, PEER);
    assert_eq!(cache.lookup(T0, PEER), Lookup::Failed);
    cache.remove(PEER);
    assert_eq!(cache.lookup(T0, PEER), Lookup::Pending);
    cache.enqueue(PEER, 2).expect("room");
    cache.remove(PEER);
    assert_eq!(released(&mut cache), [Released::Failed { ip: PEER, packet: 2 }]);
}

#[test]
fn addresses_are_announced_twice_and_defended_once_in_ten_seconds() {
    let mut cache: Cache<u32> = Cache::new(OUR_MAC, Limits::default());
    cache.add_address(T0, OURS);
    cache.add_address(T0, OURS);
    let announcement = Transmit { dst: Mac::BROADCAST, packet: request(OUR_MAC, OURS, OURS) };
    assert_eq!(drain(&mut cache, T0), [announcement]);
    assert_eq!(cache.next_deadline(), Some(secs(2)));
    assert_eq!(drain(&mut cache, secs(2)), [announcement]);
    assert_eq!(cache.next_deadline(), None);
    for packet in [request(EVIL_MAC, OURS, PEER), reply(EVIL_MAC, OURS), request(EVIL_MAC, OURS, OURS)] {
        assert_eq!(cache.on_arp(secs(3), &packet), Verdict::Drop(DropReason::ArpBadSender));
    }
    assert_eq!(drain(&mut cache, secs(3)), [announcement], "one defence");
    assert_eq!(cache.take_conflict(), Some(Conflict { addr: OURS, mac: EVIL_MAC }));
    assert_eq!(cache.take_conflict(), None);
    cache.on_arp(secs(12), &reply(EVIL_MAC, OURS));
    assert!(drain(&mut cache, secs(12)).is_empty());
    cache.on_arp(secs(13), &reply(EVIL_MAC, OURS));
    assert_eq!(drain(&mut cache, secs(13)), [announcement]);
}

#[test]
fn requests_come_from_the_closest_of_our_addresses() {
    let mut cache = cache();
    let second = Ipv4Addr::new(192, 168, 7, 1);
    cache.add_address(T0, second);
    drain(&mut cache, T0);
    drain(&mut cache, secs(2));
    cache.lookup(secs(3), Ipv4Addr::new(192, 168, 7, 99));
    cache.lookup(secs(3), PEER);
    let senders: Vec<_> = drain(&mut cache, secs(3)).iter().map(|sent| sent.packet.sender_ip).collect();
    assert_eq!(senders, [OURS, second]);
}

#[test]
fn some_addresses_have_no_neighbour() {
    let mut cache = cache();
    for ip in
        [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::LOCALHOST, OURS]
    {
        assert_eq!(cache.lookup(T0, ip), Lookup::Failed, "{ip}");
    }
    assert!(cache.entries.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Send { host: u8 },
    Arp { reply: bool, mac: u8, host: u8, target: u8 },
    Confirm { host: u8 },
    Static { host: u8, mac: u8 },
    Remove { host: u8 },
    Sleep { ms: u64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    let host = 0u8..12;
    prop_oneof![
        4 => host.clone().prop_map(|host| Step::Send { host }),
        4 => (any::<bool>(), 0u8..4, host.clone(), host.clone())
            .prop_map(|(reply, mac, host, target)| Step::Arp { reply, mac, host, target }),
        1 => host.clone().prop_map(|host| Step::Confirm { host }),
        1 => (host.clone(), 2u8..4).prop_map(|(host, mac)| Step::Static { host, mac }),
        1 => host.prop_map(|host| Step::Remove { host }),
        4 => (0u64..40_000).prop_map(|ms| Step::Sleep { ms }),
    ]
}

proptest! {
    /// Whatever happens: limits hold, no packet is lost or seen twice, packets of one neighbour keep their order, every wait ends.
    #[test]
    fn every_packet_comes_out_once(steps in prop::collection::vec(any_step(), 1..200)) {
        let ip = |host: u8| Ipv4Addr::new(10, 0, 0, host);
        let mut cache = cache();
        let mut now = T0;
        let (mut next_packet, mut in_cache) = (0u32, std::collections::BTreeMap::new());
        for step in steps {
            match step {
                Step::Send { host } => {
                    if cache.lookup(now, ip(host)) == Lookup::Pending {
                        in_cache.insert(next_packet, ip(host));
                        if let Err(refused) = cache.enqueue(ip(host), next_packet) {
                            prop_assert!(in_cache.remove(&refused.packet).is_some());
                        }
                        next_packet += 1;
                    }
                }
                Step::Arp { reply: is_reply, mac, host, target } => {
                    let mac = Mac([2, 0, 0, 0, 0, mac]);
                    let packet = if is_reply { reply(mac, ip(host)) } else { request(mac, ip(host), ip(target)) };
                    cache.on_arp(now, &packet);
                }
                Step::Confirm { host } => cache.confirm(now, ip(host)),
                Step::Static { host, mac } => {
                    let _ = cache.insert_static(now, ip(host), Mac([2, 0, 0, 0, 0, mac]));
                }
                Step::Remove { host } => cache.remove(ip(host)),
                Step::Sleep { ms } => now += Duration::from_millis(ms),
            }
            drain(&mut cache, now);
            let mut last = std::collections::BTreeMap::new();
            for wait in released(&mut cache) {
                let (Released::Resolved { ip, packet, .. } | Released::Failed { ip, packet }) = wait;
                prop_assert_eq!(in_cache.remove(&packet), Some(ip));
                prop_assert!(last.insert(ip, packet).is_none_or(|before| before < packet), "order");
            }
            prop_assert!(cache.entries.len() <= 8 && in_cache.len() <= 6);
            prop_assert!(cache.entries.is_sorted_by_key(|entry| entry.ip));
            prop_assert!(cache.next_deadline().is_none_or(|next| next > now), "no busy loop");
        }
        for _ in 0..10 {
            now += Duration::from_secs(1);
            drain(&mut cache, now);
        }
        for wait in released(&mut cache) {
            let (Released::Resolved { packet, .. } | Released::Failed { packet, .. }) = wait;
            prop_assert!(in_cache.remove(&packet).is_some());
        }
        prop_assert!(in_cache.is_empty(), "a packet waits for ever");
    }
}
