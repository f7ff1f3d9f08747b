//! Malformed packets and fragments: the bullets on parsing of the conformance notes' fifth section. Beside each of them a second
//! connection must go on, with half of its rate at least and below the ceiling of memory.

use std::net::Ipv4Addr;

use ringwire::{DropReason, TcpState};
use ringwire_conformance::{PEER, Script, WORKER, ack, data, rst, script, syn, syn_ack};
use ringwire_wire::eth::EtherType;
use ringwire_wire::icmp::{Kind, Reason};
use ringwire_wire::packet::{self, Net, Transport};

/// IHL below five, IHL beyond the packet, total length beyond the frame or below the header, another version: dropped.
#[test]
fn section5_parsing_broken_ip_headers() {
    script(|s| {
        s.with_bystander(|s| {
            type Change = fn(&mut Vec<u8>);
            let changes: [Change; 7] = [
                |ip| ip[0] = 0x44,
                |ip| ip[0] = 0x4f,
                |ip| ip[2..4].copy_from_slice(&9000_u16.to_be_bytes()),
                |ip| ip[2..4].copy_from_slice(&19_u16.to_be_bytes()),
                |ip| ip[0] = 0x65,
                |ip| ip.truncate(19),
                |ip| ip.truncate(30),
            ];
            for change in changes {
                s.inject_changed(&syn(), |ip| {
                    change(ip);
                    fix_ip_checksum(ip);
                });
            }
            s.expect_nothing();
        });
    });
}

fn fix_ip_checksum(ip: &mut [u8]) {
    let header_len = (usize::from(ip[0] & 15) * 4).min(ip.len());
    if header_len < 20 {
        return;
    }
    ip[10..12].copy_from_slice(&[0, 0]);
    let checksum = ringwire_wire::checksum::Sum::of(&ip[..header_len]).finish();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Padding behind the IP packet is never text (CVE-2021-31401).
#[test]
fn section5_parsing_padding_is_not_text() {
    script(|s| {
        s.with_bystander(|s| {
            s.establish();
            s.inject_changed(&data("abc"), |ip| ip.extend([0xee; 6]));
            s.inject_changed(&ack(), |ip| ip.extend([0xee; 6]));
            s.expect_read("abc");
            s.expect_after(0..=499, ack().ack(4));
        });
    });
}

/// A wrong IP header checksum: dropped (RFC 1122 3.2.1.2).
#[test]
fn section5_parsing_wrong_ip_checksum() {
    script(|s| {
        s.with_bystander(|s| {
            s.inject_changed(&syn(), |ip| ip[10] ^= 1);
            s.expect_nothing();
        });
    });
}

/// What has come is for us however little is left of its TTL (RFC 1122 3.2.1.7).
#[test]
fn section5_parsing_ttl() {
    script(|s| {
        s.with_bystander(|s| {
            for ttl in [0, 1] {
                s.inject_changed(&syn(), |ip| {
                    ip[8] = ttl;
                    fix_ip_checksum(ip);
                });
                s.expect_only(syn_ack());
                s.inject(rst().seq(1));
            }
        });
    });
}

/// Sources that nobody can have: no reply, no state (MUST-63).
#[test]
fn section5_parsing_impossible_sources() {
    script(|s| {
        s.with_bystander(|s| {
            let sources = ["255.255.255.255", "224.0.0.1", "0.0.0.0", "127.0.0.1", "10.0.0.255", "10.0.0.1"];
            for source in sources {
                let source: Ipv4Addr = source.parse().expect("an address");
                s.inject_between((source, WORKER), &syn());
                s.inject_between((source, WORKER), &ack());
            }
            s.expect_nothing_for(10);
            assert_eq!(s.connections(), 1);
        });
    });
}

/// MUST-57: TCP to a broadcast or multicast address, or to a stranger's, is discarded.
#[test]
fn section5_parsing_impossible_destinations() {
    script(|s| {
        s.with_bystander(|s| {
            for target in ["255.255.255.255", "224.0.0.1", "10.0.0.255", "0.0.0.0", "10.0.0.77", "127.0.0.1"]
            {
                let target: Ipv4Addr = target.parse().expect("an address");
                s.inject_between((PEER, target), &syn());
                s.inject_between((PEER, target), &ack());
            }
            s.expect_nothing_for(10);
            assert_eq!(s.connections(), 1);
        });
    });
}

/// Port 0: dropped.
#[test]
fn section5_parsing_port_zero() {
    script(|s| {
        s.with_bystander(|s| {
            s.inject(syn().port(0));
            s.expect_nothing_for(10);
        });
    });
}

/// Source routes are not followed back (RFC 1122 3.2.1.8).
#[test]
fn section5_parsing_source_routes() {
    script(|s| {
        s.with_bystander(|s| {
            for kind in [131_u8, 137] {
                s.inject_changed(&syn(), |ip| {
                    ip[0] = 0x47;
                    ip.splice(20..20, [kind, 7, 4, 10, 0, 0, 9, 0]);
                    let len = ip.len() as u16;
                    ip[2..4].copy_from_slice(&len.to_be_bytes());
                    fix_ip_checksum(ip);
                });
            }
            s.expect_nothing();
        });
    });
}

/// MUST-50: IP options that mean nothing to TCP are ignored, and the segment is taken.
#[test]
fn section5_parsing_unknown_ip_options_are_ignored() {
    script(|s| {
        s.with_bystander(|s| {
            s.inject_changed(&syn(), |ip| insert_options(ip, [148, 4, 0, 0]));
            s.expect_only(syn_ack());
        });
    });
}

/// RFC 1122 3.2.2.5: IP options that do not chain up draw a parameter problem that points at the first that is wrong; nothing draws one
/// that went to a group or came from one.
#[test]
fn rfc1122_3_2_2_5_broken_options_are_a_parameter_problem() {
    script(|s| {
        s.with_bystander(|s| {
            for (options, pointer) in
                [([7, 0, 0, 0], 20), ([1, 1, 7, 9], 22), ([1, 148, 2, 0x44], 23), ([1, 1, 1, 7], 23)]
            {
                s.others.clear();
                s.inject_changed(&syn(), |ip| insert_options(ip, options));
                let answer = s.others.pop().expect("an answer");
                let frame = packet::parse(&answer).expect("well-formed");
                let Net::Ipv4(ip, Transport::Icmp(message)) = frame.net else { panic!("not ICMP") };
                let Kind::Error(error) = message.kind() else { panic!("no error") };
                assert_eq!((ip.src(), error.reason), (WORKER, Reason::ParameterProblem { code: 0, pointer }));
                assert_eq!(error.quoted.get(20..24), Some(&options[..]));
                for (at, address) in [(16, [10, 0, 0, 255]), (12, [10, 0, 0, 255]), (12, [224, 0, 0, 1])] {
                    s.inject_changed(&syn(), |ip| {
                        ip[at..at + 4].copy_from_slice(&address);
                        insert_options(ip, options);
                    });
                }
                assert_eq!(s.others.len(), 0);
            }
            s.expect_nothing();
        });
    });
}

fn insert_options(ip: &mut Vec<u8>, options: [u8; 4]) {
    ip[0] = 0x46;
    ip.splice(20..20, options);
    let len = ip.len() as u16;
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    fix_ip_checksum(ip);
}

/// IP in IP is not unpacked (CVE-2020-11896).
#[test]
fn section5_parsing_ip_in_ip() {
    script(|s| {
        s.with_bystander(|s| {
            let mut inner = Vec::new();
            s.inject_changed(&syn(), |ip| inner = ip.clone());
            s.expect_only(syn_ack());
            s.inject_ip((PEER, WORKER), 4, &inner);
            s.expect_nothing();
        });
    });
}

/// Fragments, first or later, tiny or overlapping: never half a segment.
#[test]
fn section5_fragments_are_never_half_a_segment() {
    script(|s| {
        s.with_bystander(|s| {
            for (flags, offset) in [(0x20_u8, 0_u8), (0x20, 1), (0x00, 2), (0x3f, 0xff)] {
                s.inject_changed(&syn(), |ip| {
                    (ip[6], ip[7]) = (flags, offset);
                    fix_ip_checksum(ip);
                });
            }
            s.expect_nothing();
            assert_eq!(s.connections(), 1);
        });
    });
}

/// A fragment of a SYN: flags and offset as in the header, these bytes of the segment.
fn inject_fragment(s: &mut Script, (flags, offset): (u8, u8), part: std::ops::Range<usize>) {
    s.inject_changed(&syn().text("0123456789abcdefghij"), |ip| {
        let text: Vec<u8> = ip.drain(20..).collect();
        ip.extend_from_slice(&text[part]);
        (ip[6], ip[7]) = (flags, offset);
        let len = ip.len() as u16;
        ip[2..4].copy_from_slice(&len.to_be_bytes());
        fix_ip_checksum(ip);
    });
}

/// Teardrop and its like (CVE-1999-0015, RFC 3128): pieces that overlap, in either order, twice, or that leave a hole, make no segment.
#[test]
fn section5_fragments_that_overlap_make_no_segment() {
    script(|s| {
        s.with_bystander(|s| {
            let (head, tail) = (((0x20, 0), 0..24), ((0, 2), 16..40));
            for pieces in [[&head, &tail], [&tail, &head], [&head, &head], [&((0, 1), 8..40), &head]] {
                for (place, part) in pieces {
                    inject_fragment(s, *place, part.clone());
                }
            }
            // Beyond 64 KB, and more to come after a length that is no multiple of eight.
            inject_fragment(s, (0x1f, 0xff), 0..40);
            inject_fragment(s, (0x20, 0), 0..21);
            s.expect_nothing_for(100);
            assert_eq!(s.connections(), 1);
        });
    });
}

/// FragmentSmack (CVE-2018-5391): ten thousand pieces of as many datagrams are dropped, counted, and hold nothing.
#[test]
fn section5_fragments_flood_holds_no_memory() {
    script(|s| {
        s.with_bystander(|s| {
            for n in 0..10_000_u16 {
                s.inject_changed(&syn(), |ip| {
                    ip[4..6].copy_from_slice(&n.to_be_bytes());
                    (ip[6], ip[7]) = (0x20, (n % 7) as u8);
                    fix_ip_checksum(ip);
                });
            }
            s.expect_nothing();
            assert!(s.frames_are_home_but_for(0));
            assert_eq!((s.connections(), s.counters().heap_bytes), (1, 0));
            s.wait(2);
            assert_eq!(s.dropped(DropReason::IpFragment), 10_000);
        });
    });
}

/// Frames that are shorter than their headers, and of a type that nobody has: dropped.
#[test]
fn section5_parsing_runts_and_unknown_ethertypes() {
    script(|s| {
        s.with_bystander(|s| {
            let unknown = [EtherType::IPV6, EtherType(0x0842), EtherType(46), EtherType(0)];
            for ethertype in unknown.into_iter().chain([EtherType::IPV4, EtherType::ARP]) {
                for len in [0, 1, 19, 27] {
                    s.inject_frame(ethertype, &vec![0x45; len]);
                }
            }
            s.expect_nothing();
            assert!(s.others.is_empty());
        });
    });
}

/// A TCP checksum field of zero or of ones is no more than a number: right or wrong like any other.
#[test]
fn section5_parsing_tcp_checksum_of_zero_or_ones() {
    script(|s| {
        s.with_bystander(|s| {
            for field in [[0, 0], [0xff, 0xff]] {
                s.inject_changed(&syn(), |ip| ip[36..38].copy_from_slice(&field));
            }
            s.expect_nothing_for(10);
            assert_eq!(s.connections(), 1);
        });
    });
}

/// ICMP errors with fewer than eight quoted bytes are ignored.
#[test]
fn section5_parsing_short_icmp_quote() {
    script(|s| {
        s.with_bystander(|s| {
            s.connect();
            let mut sent = s.expect_only(syn());
            sent.ip.truncate(24);
            s.inject_icmp_error((3, 1), 0, &sent);
            s.expect_open();
            s.expect_state(TcpState::SynSent);
        });
    });
}
