//! What AMNESIA:33, Ripple20, URGENT/11 and others sent to parsers.

use super::*;

fn tcp_with_options(options: &[u8]) -> Vec<u8> {
    let mut bytes = std::vec![0; tcp::HEADER_LEN];
    bytes[12] = ((tcp::HEADER_LEN + options.len()) << 2) as u8;
    bytes.extend_from_slice(options);
    bytes
}

fn parse_options(options: &[u8]) -> Options {
    tcp::Segment::parse(&tcp_with_options(options)).unwrap().options()
}

fn ipv4(edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let header = ipv4::Header {
        src: [10, 0, 0, 1].into(),
        dst: [10, 0, 0, 2].into(),
        protocol: Protocol::UDP,
        tos: 0,
        ttl: 64,
        id: 0,
        dont_fragment: false,
        payload_len: 0,
    };
    let mut bytes = ip_bytes(header, Protocol::UDP, &[0x55; 40]);
    edit(&mut bytes);
    bytes
}

fn ipv4_error(edit: impl FnOnce(&mut Vec<u8>)) -> Malformed {
    ipv4::Packet::parse(&ipv4(edit)).unwrap_err()
}

#[test]
fn ipv4_lengths_that_do_not_agree() {
    assert_eq!(ipv4_error(|bytes| bytes.truncate(19)), Malformed::Truncated);
    assert_eq!(ipv4_error(|bytes| bytes[0] = 0x65), Malformed::BadVersion);
    assert_eq!(ipv4_error(|bytes| bytes[0] = 0x44), Malformed::BadHeaderLen);
    assert_eq!(ipv4_error(|bytes| bytes[3] = 61), Malformed::BadTotalLen);
    assert_eq!(ipv4_error(|bytes| bytes[2] = 0xff), Malformed::BadTotalLen);
    // CVE-2021-31401: total length below the header must not underflow the payload's.
    for total_len in 0..20 {
        assert_eq!(ipv4_error(|bytes| bytes[3] = total_len), Malformed::BadHeaderLen);
    }
    assert_eq!(
        ipv4_error(|bytes| {
            bytes[0] = 0x4f;
            bytes[3] = 59;
        }),
        Malformed::BadHeaderLen
    );
}

#[test]
fn ipv4_padding_is_never_payload() {
    let bytes = ipv4(|bytes| bytes[3] = 21);
    assert_eq!(ipv4::Packet::parse(&bytes).unwrap().payload(), &[0x55]);
    let bytes = ipv4(|bytes| bytes[3] = 20);
    assert_eq!(ipv4::Packet::parse(&bytes).unwrap().payload(), &[0u8; 0]);
}

#[test]
fn ipv4_source_routes_are_seen_and_bad_options_end_the_walk() {
    let routed = |options: [u8; 8]| {
        let bytes = ipv4(|bytes| {
            bytes[0] = 0x47;
            bytes[3] += 8;
            bytes.splice(20..20, options);
        });
        let packet = ipv4::Packet::parse(&bytes).unwrap();
        assert_eq!((packet.options(), packet.payload()), (&options[..], &[0x55; 40][..]));
        (packet.source_routed(), packet.bad_option_at())
    };
    assert_eq!(routed([1, 1, 1, 1, 1, 1, 1, 1]), (Ok(false), None));
    assert_eq!(routed([1, 131, 7, 4, 10, 0, 0, 9]), (Ok(true), None));
    assert_eq!(routed([7, 3, 4, 137, 3, 4, 0, 0]), (Ok(true), None));
    assert_eq!(routed([7, 8, 131, 137, 131, 137, 0, 0]), (Ok(false), None));
    assert_eq!(routed([0, 131, 3, 4, 0, 0, 0, 0]), (Ok(false), None));
    for (bad, at) in [
        ([7, 0, 0, 0, 0, 0, 0, 0], 20),
        ([7, 1, 0, 0, 0, 0, 0, 0], 20),
        ([7, 9, 0, 0, 0, 0, 0, 0], 20),
        ([7, 4, 0, 0, 1, 7, 4, 0], 25),
        ([1, 1, 1, 1, 1, 1, 1, 7], 27),
    ] {
        assert_eq!(routed(bad), (Err(Malformed::BadOption), Some(at)));
    }
}

#[test]
fn fragments_are_not_looked_into() {
    // A first fragment too small for its UDP header (RFC 1858), and a later one.
    for (flags, offset) in [(0x20, 0), (0x00, 1), (0x1f, 0xff)] {
        let net = ipv4(|bytes| {
            bytes[6..8].copy_from_slice(&[flags, offset]);
            bytes[3] = 24;
            rewrite_ip_checksum(bytes);
        });
        let bytes = eth_bytes(EtherType::IPV4, 0, &net);
        let packet = packet::parse(&bytes).unwrap();
        assert!(matches!(packet.net, Net::Ipv4(_, Transport::Fragment)));
        assert_eq!(packet.verify(), Ok(()));
    }
    let bytes = ipv4(|bytes| bytes[6..8].copy_from_slice(&[0x1f, 0xff]));
    assert_eq!(ipv4::Packet::parse(&bytes).unwrap().fragment_offset(), 65_528);
    let bytes = ipv4(|bytes| bytes[6..8].copy_from_slice(&[0xc0, 0]));
    let packet = ipv4::Packet::parse(&bytes).unwrap();
    assert!(packet.dont_fragment() && !packet.is_fragment());
}

#[test]
fn tcp_data_offset_below_five_or_beyond_the_segment() {
    let mut bytes = tcp_with_options(&[]);
    for offset in [0u8, 1, 4, 6, 15] {
        bytes[12] = offset << 4;
        assert_eq!(tcp::Segment::parse(&bytes).unwrap_err(), Malformed::BadHeaderLen);
    }
    assert_eq!(tcp::Segment::parse(&bytes[..19]).unwrap_err(), Malformed::Truncated);
}

#[test]
fn tcp_option_lengths_zero_one_and_too_long_stop_the_walk() {
    for len in [0, 1, 200] {
        let options = parse_options(&[2, 4, 5, 180, 8, len, 0, 0, 4, 2, 0, 0]);
        assert_eq!(options, Options { mss: Some(1460), ..Options::default() }, "length {len}");
    }
    // Cut off at the very end: kind without length, and a body one byte short.
    assert_eq!(parse_options(&[1, 1, 1, 8]), Options::default());
    assert_eq!(parse_options(&[1, 2, 4, 5]), Options::default());
    assert_eq!(parse_options(&[0, 2, 4, 5, 180, 0, 0, 0]), Options::default());
}

#[test]
fn tcp_options_with_another_options_length_are_absent() {
    assert_eq!(
        parse_options(&[2, 3, 5, 1, 4, 2, 1, 1]),
        Options { sack_permitted: true, ..Options::default() }
    );
    assert_eq!(parse_options(&[3, 2, 3, 4, 7, 9, 4, 3, 0, 1, 1, 1]), Options::default());
    assert_eq!(parse_options(&[8, 9, 1, 2, 3, 4, 5, 6, 7, 1, 1, 1]), Options::default());
    // SACK not 8n + 2.
    assert_eq!(parse_options(&[5, 12, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0]), Options::default());
    // Unknown kinds are stepped over.
    assert_eq!(parse_options(&[254, 6, 1, 2, 3, 4, 2, 4, 0, 48, 1, 1]).mss, Some(48));
}

#[test]
fn tcp_option_values_that_must_not_be_used_as_they_are() {
    assert_eq!(parse_options(&[2, 4, 0, 0]).mss, None);
    assert_eq!(parse_options(&[2, 4, 0, 1]).mss, Some(1));
    assert_eq!(parse_options(&[1, 3, 3, 15]).window_scale, Some(14));
    assert_eq!(parse_options(&[1, 3, 3, 255]).window_scale, Some(14));
    assert_eq!(parse_options(&[1, 3, 3, 14]).window_scale, Some(14));
}

/// RFC 7413 4.1.1: 4 to 16 bytes, an even number; none is a request. Others are ignored.
#[test]
fn fast_open_cookies_of_other_lengths_are_ignored() {
    let cookie = |len: u8| {
        let mut options = std::vec![34, len + 2];
        options.extend(1..=len);
        options.resize(options.len().next_multiple_of(4), 1);
        parse_options(&options).fast_open
    };
    assert_eq!(cookie(0), Some(FastOpen::REQUEST));
    for len in 1..=24 {
        let is_legal = matches!(len, 4 | 6 | 8 | 10 | 12 | 14 | 16);
        let expected: Option<Vec<u8>> = is_legal.then(|| (1..=len).collect());
        assert_eq!(cookie(len).map(|cookie| cookie.as_slice().to_vec()), expected, "{len}");
    }
    // Cut off, and another kind's length.
    assert_eq!(parse_options(&[34, 10, 1, 2, 3, 4, 5, 6]).fast_open, None);
    assert_eq!(parse_options(&[34, 1, 1, 1]).fast_open, None);
}

#[test]
fn sack_blocks_beside_the_longest_cookie_have_no_room() {
    let mut options = Options {
        mss: Some(1460),
        window_scale: Some(7),
        timestamps: Some(Timestamps::default()),
        fast_open: FastOpen::cookie(&[7; 16]),
        ..Options::default()
    };
    assert_eq!(options.encoded_len(), 40);
    options.sack.push(1, 2);
    let mut bytes = [0; 40];
    assert_eq!((options.emit(&mut bytes), options.encoded_len()), (40, 40));
    assert!(parse_options(&bytes).sack.is_empty());
}

#[test]
fn sack_blocks_that_are_empty_or_backwards_are_ignored() {
    let block = |left: u32, right: u32| {
        let mut options = std::vec![1, 1, 5, 10];
        options.extend(left.to_be_bytes());
        options.extend(right.to_be_bytes());
        parse_options(&options).sack.as_slice().to_vec()
    };
    assert_eq!(block(5, 5), []);
    assert_eq!(block(6, 5), []);
    assert_eq!(block(0, 0x8000_0000), []);
    assert_eq!(block(0, 0x7fff_ffff), [(0, 0x7fff_ffff)]);
    assert_eq!(block(u32::MAX, 3), [(u32::MAX, 3)]);
}

#[test]
fn sack_that_does_not_fit_loses_its_last_blocks() {
    let mut options = Options { timestamps: Some(Timestamps::default()), ..Options::default() };
    for block in 0..6 {
        options.sack.push(block * 10, block * 10 + 5);
    }
    assert_eq!((options.sack.len(), options.encoded_len()), (4, 40));
    let mut bytes = [0; 40];
    assert_eq!(options.emit(&mut bytes), 40);
    assert_eq!(parse_options(&bytes).sack.as_slice(), [(0, 5), (10, 15), (20, 25)]);
}

#[test]
fn options_leave_in_linux_order() {
    let encode = |options: Options| {
        let mut bytes = [0xee; 40];
        let len = options.emit(&mut bytes);
        assert_eq!(len, options.encoded_len());
        bytes[..len].to_vec()
    };
    let syn = Options { mss: Some(1460), window_scale: Some(7), sack_permitted: true, ..Options::default() };
    let timestamps = Some(Timestamps { value: 0x01020304, echo: 0x05060708 });
    assert_eq!(
        encode(Options { timestamps, ..syn }),
        [2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7]
    );
    assert_eq!(encode(syn), [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7]);
    assert_eq!(encode(Options { timestamps, ..Options::default() }), [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(encode(Options::default()), []);
    let cookie = FastOpen::cookie(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(
        encode(Options { fast_open: cookie, ..syn }),
        [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7, 34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]
    );
    let request = Some(FastOpen::REQUEST);
    assert_eq!(encode(Options { fast_open: request, ..Options::default() }), [34, 2, 1, 1]);
    // The experimental ones.
    let experiment = |fast_open: FastOpen| Options {
        fast_open: Some(fast_open.in_form(FastOpenForm::Experimental)),
        ..Options::default()
    };
    let request = experiment(FastOpen::REQUEST);
    assert_eq!(encode(request), [254, 4, 0xf9, 0x89]);
    assert_eq!(parse_options(&[254, 4, 0xf9, 0x89]), request);
    let six = experiment(FastOpen::cookie(&[1, 2, 3, 4, 5, 6]).expect("a legal length"));
    assert_eq!(encode(six), [254, 10, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 1, 1]);
    assert_eq!(parse_options(&encode(six)), six);
    for other in [&[254, 4, 0xf9, 0x88][..], &[254, 3, 0xf9], &[254, 7, 0xf9, 0x89, 1, 2, 3]] {
        assert_eq!(parse_options(other).fast_open, None, "{other:?}");
    }
    let mut sack = Options { timestamps, ..Options::default() };
    sack.sack.push(1, 2);
    assert_eq!(encode(sack)[12..], [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
}

#[test]
fn udp_lengths_and_checksum_zero() {
    let parse = |len: u16| {
        let bytes = [[0, 7, 0, 9], [len.to_be_bytes()[0], len.to_be_bytes()[1], 0, 0], *b"data"].concat();
        udp::Datagram::parse(&bytes).map(|datagram| datagram.payload().to_vec())
    };
    for len in [0, 1, 7, 13, 0xffff] {
        assert_eq!(parse(len), Err(Malformed::BadLength));
    }
    assert_eq!(parse(8), Ok(Vec::new()));
    assert_eq!(parse(10), Ok(b"da".to_vec()));
    assert_eq!(udp::Datagram::parse(&[0; 7]).unwrap_err(), Malformed::Truncated);

    let pseudo = Sum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Protocol::UDP, 8);
    let mut bytes = [0, 7, 0, 9, 0, 8, 0, 0];
    assert!(udp::Datagram::parse(&bytes).unwrap().verify_checksum(pseudo), "absent");
    bytes[7] = 1;
    assert!(!udp::Datagram::parse(&bytes).unwrap().verify_checksum(pseudo), "wrong");
}

#[test]
fn udp_checksum_computed_as_zero_is_sent_as_ones() {
    let header = udp::Header { src_port: 0x1000, dst_port: 0x2000, len: 2 };
    let pseudo = Sum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Protocol::UDP, 10);
    // The payload that makes everything sum up to 0xffff.
    let rest = pseudo.add_u16(0x1000).add_u16(0x2000).add_u16(10);
    let payload = rest.finish().to_be_bytes();
    let mut bytes = [0; 10];
    bytes[8..].copy_from_slice(&payload);
    header.emit(bytes.first_chunk_mut().unwrap(), pseudo + Sum::of(&payload));
    assert_eq!(bytes[6..8], [0xff, 0xff]);
    assert!(udp::Datagram::parse(&bytes).unwrap().verify_checksum(pseudo));
}

#[test]
fn partial_checksums_are_recognised() {
    let pseudo = Sum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Protocol::TCP, 24);
    let mut bytes = tcp_with_options(&[1, 1, 1, 1]);
    bytes[16..18].copy_from_slice(&pseudo.folded().to_be_bytes());
    let segment = tcp::Segment::parse(&bytes).unwrap();
    assert!(segment.has_partial_checksum(pseudo) && !segment.verify_checksum(pseudo));
}

#[test]
fn icmp_shorter_than_its_header_and_quotes_without_ports() {
    assert_eq!(icmp::Message::parse(&[8, 0, 0, 0, 0, 0, 0]).unwrap_err(), Malformed::Truncated);
    let quote = ipv4(|bytes| bytes.truncate(28));
    assert_eq!(icmp::Quoted::parse(&quote).map(|quoted| quoted.src_port), Ok(0x5555));
    assert_eq!(icmp::Quoted::parse(&quote[..27]), Err(Malformed::Truncated));
    let with_options = ipv4(|bytes| {
        bytes[0] = 0x46;
        bytes.splice(20..20, [1; 4]);
        bytes.truncate(31);
    });
    assert_eq!(icmp::Quoted::parse(&with_options), Err(Malformed::Truncated));
    assert_eq!(icmp::Quoted::parse(&ipv4(|bytes| bytes[7] = 1)), Err(Malformed::BadQuote));
    assert_eq!(icmp::Quoted::parse(&ipv4(|bytes| bytes[0] = 0x44)), Err(Malformed::BadHeaderLen));
    assert_eq!(icmp::Quoted::parse(&ipv4(|bytes| bytes[0] = 0x65)), Err(Malformed::BadVersion));
}

#[test]
fn icmp_types_that_hosts_ignore() {
    for icmp_type in [4, 5, 9, 13, 17, 255] {
        let message = [icmp_type, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(icmp::Message::parse(&message).unwrap().kind(), icmp::Kind::Other);
    }
    let problem = [12, 0, 0, 0, 20, 0, 0, 0];
    let icmp::Kind::Error(error) = icmp::Message::parse(&problem).unwrap().kind() else { panic!() };
    assert_eq!(error.reason, icmp::Reason::ParameterProblem { code: 0, pointer: 20 });
}

#[test]
fn arp_for_anything_else_is_refused() {
    let good = arp_bytes(&ipv4::Header {
        src: [10, 0, 0, 1].into(),
        dst: [10, 0, 0, 2].into(),
        protocol: Protocol::UDP,
        tos: 0,
        ttl: 0,
        id: 0,
        dont_fragment: false,
        payload_len: 0,
    });
    let edited = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        arp::Packet::parse(&bytes).unwrap_err()
    };
    for at in 0..6 {
        assert_eq!(edited(at, 0x77), Malformed::BadAddressFormat, "byte {at}");
    }
    for op in [0, 3, 8, 255] {
        assert_eq!(edited(7, op), Malformed::BadOperation);
    }
    assert_eq!(edited(6, 1), Malformed::BadOperation);
    assert_eq!(arp::Packet::parse(&good[..27]).unwrap_err(), Malformed::Truncated);
    let padded = [&good[..], &[0; 18]].concat();
    assert_eq!(arp::Packet::parse(&padded), arp::Packet::parse(&good));
}

#[test]
fn vlan_tags_are_walked_and_bounded() {
    let net = ipv4(|_| {});
    for (tags, vlan) in [(0, None), (1, Some(100)), (2, Some(101))] {
        let bytes = eth_bytes(EtherType::IPV4, tags, &net);
        let frame = eth::Frame::parse(&bytes).unwrap();
        assert_eq!((frame.vlan(), frame.ethertype(), frame.payload()), (vlan, EtherType::IPV4, &net[..]));
        for len in 0..14 + tags * 4 {
            assert_eq!(eth::Frame::parse(&bytes[..len]).unwrap_err(), Malformed::Truncated);
        }
    }
    let bytes = eth_bytes(EtherType::IPV4, 3, &net);
    assert!(matches!(packet::parse(&bytes).unwrap().net, Net::Other));
}

#[test]
fn mac_kinds_and_names() {
    assert!(Mac::BROADCAST.is_broadcast() && Mac::BROADCAST.is_multicast());
    assert!(Mac([1, 0, 0x5e, 0, 0, 1]).is_multicast() && !Mac([1, 0, 0x5e, 0, 0, 1]).is_broadcast());
    assert!(!Mac([2, 0, 0, 0, 0, 1]).is_multicast());
    assert_eq!(std::format!("{}", Flags::NONE), "none");
    assert_eq!(std::format!("{:?}", Flags(0xff)), "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR");
}
