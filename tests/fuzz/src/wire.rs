//! The parsers: no panic, and what was understood survives being written and read again.

use ringwire_wire::checksum::Sum;
use ringwire_wire::packet::{self, Net, Transport};
use ringwire_wire::tcp::Options;
use ringwire_wire::{eth, icmp as wire_icmp, ipv4, tcp, udp};

/// A whole frame, layer by layer.
pub fn wire(data: &[u8]) {
    if let Ok(frame) = eth::Frame::parse(data) {
        let header = eth::Header { dst: frame.dst(), src: frame.src(), ethertype: frame.ethertype() };
        let mut bytes = [0; eth::HEADER_LEN];
        header.emit(&mut bytes);
        // A third tag is not looked behind.
        if !is_tag(frame.ethertype()) {
            let again = eth::Frame::parse(&bytes).expect("what was emitted parses");
            let fields = |frame: &eth::Frame<'_>| (frame.dst(), frame.src(), frame.ethertype());
            assert_eq!(fields(&again), fields(&frame));
        }
        ip(frame.payload());
    }
    if let Ok(packet) = packet::parse(data) {
        let is_good = packet.verify().is_ok();
        if let Net::Ipv4(packet, transport) = packet.net {
            check_transport(&packet, &transport, is_good);
        }
    }
    ip(data);
    if let Ok(segment) = tcp::Segment::parse(data) {
        check_segment(&segment);
    }
    if let Ok(datagram) = udp::Datagram::parse(data) {
        check_datagram(&datagram);
    }
}

/// ARP alone.
pub fn arp(data: &[u8]) {
    let Ok(packet) = ringwire_wire::arp::Packet::parse(data) else { return };
    let mut bytes = [0; ringwire_wire::arp::PACKET_LEN];
    packet.emit(&mut bytes);
    assert_eq!(ringwire_wire::arp::Packet::parse(&bytes), Ok(packet));
    assert_eq!(bytes, data[..bytes.len()], "ARP has one form only");
}

/// The options of a TCP header alone.
pub fn tcp_options(data: &[u8]) {
    let options = Options::parse(data);
    assert_ne!(options.mss, Some(0));
    assert!(options.window_scale.is_none_or(|shift| shift <= tcp::MAX_WINDOW_SCALE));
    assert!(options.sack.as_slice().iter().all(|(left, right)| right.wrapping_sub(*left).cast_signed() > 0));
    let mut bytes = [0; 40];
    let len = options.emit(&mut bytes);
    assert_eq!(len, options.encoded_len());
    assert!(len <= 40 && len.is_multiple_of(4));
    let again = Options::parse(&bytes[..len]);
    let without_sack = |options: Options| Options { sack: tcp::SackBlocks::NONE, ..options };
    assert_eq!(without_sack(again), without_sack(options));
    assert!(options.sack.as_slice().starts_with(again.sack.as_slice()), "the oldest are left out");
}

/// ICMP and what an error quotes.
pub fn icmp(data: &[u8]) {
    let _ = wire_icmp::Quoted::parse(data);
    let Ok(message) = wire_icmp::Message::parse(data) else { return };
    let header = match message.kind() {
        wire_icmp::Kind::EchoRequest(echo) => {
            wire_icmp::Header::EchoRequest { ident: echo.ident, seq: echo.seq }
        }
        wire_icmp::Kind::EchoReply(echo) => wire_icmp::Header::EchoReply { ident: echo.ident, seq: echo.seq },
        wire_icmp::Kind::Error(error) => {
            let _ = wire_icmp::Quoted::parse(error.quoted);
            return;
        }
        _ => return,
    };
    let mut bytes = [0; wire_icmp::HEADER_LEN];
    let rest = &data[wire_icmp::HEADER_LEN..];
    header.emit(&mut bytes, Sum::of(rest));
    let whole = [&bytes[..], rest].concat();
    let again = wire_icmp::Message::parse(&whole).expect("what was emitted parses");
    assert!(again.verify_checksum());
    assert_eq!((again.icmp_type(), &whole[4..]), (message.icmp_type(), &data[4..]));
}

fn is_tag(ethertype: eth::EtherType) -> bool {
    matches!(ethertype.0, 0x8100 | 0x88a8)
}

fn ip(data: &[u8]) {
    let Ok(packet) = ipv4::Packet::parse(data) else { return };
    let _ = packet.source_routed();
    assert!(packet.header_len() + packet.payload().len() <= data.len());
    assert_eq!(packet.options().len() + ipv4::HEADER_LEN, packet.header_len());
    if packet.payload_len() > ipv4::MAX_PAYLOAD_LEN {
        return;
    }
    let header = ipv4::Header {
        src: packet.src(),
        dst: packet.dst(),
        protocol: packet.protocol(),
        tos: packet.tos(),
        ttl: packet.ttl(),
        id: packet.id(),
        dont_fragment: packet.dont_fragment(),
        payload_len: packet.payload_len(),
    };
    let mut bytes = [0; ipv4::HEADER_LEN];
    header.emit(&mut bytes);
    let whole = [&bytes[..], packet.payload()].concat();
    let again = ipv4::Packet::parse(&whole).expect("what was emitted parses");
    assert!(again.verify_checksum());
    assert_eq!((again.src(), again.dst(), again.protocol()), (packet.src(), packet.dst(), packet.protocol()));
    assert_eq!((again.tos(), again.ttl(), again.id()), (packet.tos(), packet.ttl(), packet.id()));
    assert_eq!((again.payload(), again.dont_fragment()), (packet.payload(), packet.dont_fragment()));
}

fn check_transport(packet: &ipv4::Packet<'_>, transport: &Transport<'_>, is_good: bool) {
    match transport {
        Transport::Tcp(segment) => check_segment(segment),
        Transport::Udp(datagram) => check_datagram(datagram),
        Transport::Icmp(message) => assert!(!is_good || message.verify_checksum()),
        Transport::Fragment => assert!(packet.is_fragment()),
        Transport::Other => {}
    }
}

fn check_segment(segment: &tcp::Segment<'_>) {
    let (header, options) = (segment.header(), segment.options());
    let mut bytes = [0; tcp::MAX_HEADER_LEN];
    let len = header.emit(&options, Sum::of(segment.payload()), &mut bytes);
    let whole = [&bytes[..len], segment.payload()].concat();
    let again = tcp::Segment::parse(&whole).expect("what was emitted parses");
    assert!(again.verify_checksum(Sum::default()));
    assert_eq!((again.header(), again.payload()), (header, segment.payload()));
}

fn check_datagram(datagram: &udp::Datagram<'_>) {
    let len = datagram.total_len();
    assert_eq!(usize::from(len), udp::HEADER_LEN + datagram.payload().len());
    // Longer ones fit no IPv4 packet.
    let Some(len) = len.checked_sub(8).filter(|len| *len <= u16::MAX - 28) else { return };
    let header = udp::Header { src_port: datagram.src_port(), dst_port: datagram.dst_port(), len };
    let mut bytes = [0; udp::HEADER_LEN];
    header.emit(&mut bytes, Sum::of(datagram.payload()));
    let whole = [&bytes[..], datagram.payload()].concat();
    let again = udp::Datagram::parse(&whole).expect("what was emitted parses");
    assert!(again.verify_checksum(Sum::default()));
    assert_eq!((again.src_port(), again.payload()), (datagram.src_port(), datagram.payload()));
}
