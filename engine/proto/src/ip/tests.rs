use std::vec::Vec;

use ringwire_wire::checksum::Sum;
use ringwire_wire::ipv4::{Header, Protocol};

use super::*;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn addresses() -> Addresses {
    let mut addresses = Addresses::default();
    addresses.insert(OURS, 24);
    addresses
}

fn header(src: Ipv4Addr, dst: Ipv4Addr) -> Header {
    Header { src, dst, protocol: Protocol::UDP, tos: 0, ttl: 64, id: 1, dont_fragment: true, payload_len: 0 }
}

/// A packet with these options (a multiple of four bytes) and a right checksum.
fn packet(header: Header, options: &[u8]) -> Vec<u8> {
    let mut fixed = [0; 20];
    header.emit(&mut fixed);
    fixed[0] = 0x45 + (options.len() / 4) as u8;
    fixed[3] += options.len() as u8;
    fixed[10..12].copy_from_slice(&[0, 0]);
    let checksum = (Sum::of(&fixed) + Sum::of(options)).finish();
    fixed[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&fixed[..], options].concat()
}

fn verdict(eth_dst: Mac, bytes: &[u8]) -> Result<Scope, DropReason> {
    addresses().check(eth_dst, &Packet::parse(bytes).expect("well formed"))
}

#[test]
fn sources_no_host_may_send_from_are_dropped() {
    let table = [
        ([0, 0, 0, 0], Err(DropReason::IpMartianSource)),
        ([0, 1, 2, 3], Err(DropReason::IpMartianSource)),
        ([127, 0, 0, 1], Err(DropReason::IpMartianSource)),
        ([127, 255, 0, 9], Err(DropReason::IpMartianSource)),
        ([224, 0, 0, 1], Err(DropReason::IpMartianSource)),
        ([239, 255, 255, 255], Err(DropReason::IpMartianSource)),
        ([255, 255, 255, 255], Err(DropReason::IpMartianSource)),
        ([10, 0, 0, 255], Err(DropReason::IpMartianSource)),
        ([10, 0, 0, 1], Err(DropReason::IpOwnSource)),
        ([10, 0, 0, 2], Ok(Scope::Unicast)),
        ([10, 0, 1, 255], Ok(Scope::Unicast)),
        ([128, 0, 0, 1], Ok(Scope::Unicast)),
        ([223, 255, 255, 1], Ok(Scope::Unicast)),
    ];
    for (src, expected) in table {
        assert_eq!(verdict(MAC, &packet(header(src.into(), OURS), &[])), expected, "source {src:?}");
    }
}

#[test]
fn destinations_are_matched_exactly() {
    let table = [
        ([10, 0, 0, 1], Ok(Scope::Unicast)),
        ([10, 0, 0, 3], Err(DropReason::IpNotForUs)),
        ([127, 0, 0, 1], Err(DropReason::IpNotForUs)),
        ([0, 0, 0, 0], Err(DropReason::IpNotForUs)),
        ([10, 0, 1, 255], Err(DropReason::IpNotForUs)),
        ([10, 0, 0, 255], Ok(Scope::Group)),
        ([255, 255, 255, 255], Ok(Scope::Group)),
        ([224, 0, 0, 251], Ok(Scope::Group)),
    ];
    for (dst, expected) in table {
        assert_eq!(verdict(MAC, &packet(header(PEER, dst.into()), &[])), expected, "destination {dst:?}");
    }
}

#[test]
fn a_group_frame_may_only_carry_group_packets() {
    let unicast = packet(header(PEER, OURS), &[]);
    let group = packet(header(PEER, Ipv4Addr::BROADCAST), &[]);
    for eth_dst in [Mac::BROADCAST, Mac([0x01, 0, 0x5e, 0, 0, 1])] {
        assert_eq!(verdict(eth_dst, &unicast), Err(DropReason::IpLinkGroup));
        assert_eq!(verdict(eth_dst, &group), Ok(Scope::Group));
    }
}

#[test]
fn what_has_come_is_for_us_whatever_is_left_of_its_ttl() {
    for ttl in [0, 1] {
        let packet = packet(Header { ttl, ..header(PEER, OURS) }, &[]);
        assert_eq!(verdict(MAC, &packet), Ok(Scope::Unicast), "TTL {ttl}");
    }
}

#[test]
fn any_flipped_header_bit_is_caught_by_the_checksum() {
    let good = packet(header(PEER, OURS), &[]);
    for bit in 8..20 * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(parsed) = Packet::parse(&bad) {
            assert_eq!(addresses().check(MAC, &parsed), Err(DropReason::IpChecksum), "bit {bit}");
        }
    }
}

#[test]
fn options_are_ignored_unless_they_route_or_lie() {
    let table: [(&[u8], _); 11] = [
        (&[1, 1, 1, 0], Ok(Scope::Unicast)),
        (&[148, 4, 0, 0], Ok(Scope::Unicast)),
        (&[7, 7, 4, 0, 0, 0, 0, 0], Ok(Scope::Unicast)),
        (&[131, 7, 4, 1, 2, 3, 4, 0], Err(DropReason::IpSourceRoute)),
        (&[137, 7, 4, 1, 2, 3, 4, 0], Err(DropReason::IpSourceRoute)),
        (&[1, 1, 1, 131], Err(DropReason::IpSourceRoute)),
        (&[7, 0, 0, 0], Err(DropReason::IpBadOptions)),
        (&[7, 1, 0, 0], Err(DropReason::IpBadOptions)),
        (&[7, 5, 0, 0], Err(DropReason::IpBadOptions)),
        (&[7, 255, 0, 0], Err(DropReason::IpBadOptions)),
        (&[1, 1, 1, 7], Err(DropReason::IpBadOptions)),
    ];
    for (options, expected) in table {
        assert_eq!(verdict(MAC, &packet(header(PEER, OURS), options)), expected, "options {options:?}");
    }
}

#[test]
fn broadcast_addresses_follow_the_subnets() {
    let mut addresses = addresses();
    let directed = Ipv4Addr::new(10, 0, 0, 255);
    addresses.insert(Ipv4Addr::new(10, 0, 0, 9), 24);
    addresses.remove(OURS);
    assert!(!addresses.is_ours(OURS) && addresses.is_broadcast(directed), "another address keeps the subnet");
    addresses.insert(Ipv4Addr::new(10, 0, 0, 9), 30);
    assert!(!addresses.is_broadcast(directed) && addresses.is_broadcast(Ipv4Addr::new(10, 0, 0, 11)));
    for prefix_len in [31, 32, 255] {
        addresses.insert(Ipv4Addr::new(10, 0, 0, 9), prefix_len);
        assert!(addresses.broadcasts.is_empty(), "/{prefix_len} has no broadcast address");
    }
    addresses.insert(Ipv4Addr::new(10, 0, 0, 9), 0);
    assert_eq!(addresses.broadcasts, [Ipv4Addr::BROADCAST]);
}

#[test]
fn identifications_count_up_and_wrap() {
    let mut ident = Ident::new(u16::MAX - 1);
    assert_eq!([ident.next_id(), ident.next_id(), ident.next_id()], [u16::MAX - 1, u16::MAX, 0]);
}
