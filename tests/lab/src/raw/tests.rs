use super::packet::arp_reply;
use super::*;

const MACS: Macs = Macs { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 2] };

fn segment(flags: &str) -> Segment {
    let (src, dst) = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
    Segment { seq: 7, ack: 9, ..Segment::new(src, dst, flags) }
}

#[test]
fn what_was_built_is_what_is_dissected() {
    let options = [options::mss(1460), options::sack_permitted(), options::window_scale(7)].concat();
    let packet = Segment { payload: b"hello".to_vec(), options, ..segment("SP") };
    let seen = Dissected::new(packet.frame(MACS));
    assert_eq!(
        seen.to_string(),
        "10.0.0.1 > 10.0.0.2 TCP 71 40000 > 80 [SP] Seq=7 Ack=9 Win=65535 Len=5 MSS=1460 WS=7 SACK_PERM"
    );
    assert_eq!(seen.payload(), b"hello");
    for field in [Field::ChecksumOk, Field::IpChecksumOk] {
        assert_eq!(seen.get(field), Some(&Value::Flag(true)), "{field:?}");
    }
    let wrong = Dissected::new(Segment { checksum_off_by: 1, ..packet }.frame(MACS));
    assert_eq!(wrong.get(Field::ChecksumOk), Some(&Value::Flag(false)));
    assert!(wrong.to_string().ends_with("[bad checksum]"), "{wrong}");
}

#[test]
fn lines_of_other_protocols() {
    let udp = UdpPacket {
        src: "10.0.0.1:5".parse().unwrap(),
        dst: "10.0.0.2:53".parse().unwrap(),
        payload: vec![1; 3],
    };
    let udp = Dissected::new(udp.frame(MACS));
    assert_eq!(udp.to_string(), "10.0.0.1 > 10.0.0.2 UDP 45 5 > 53 Len=3");
    assert_eq!(udp.get(Field::ChecksumOk), Some(&Value::Flag(true)));
    let arp = Dissected::new(arp_reply(MACS, [10, 0, 0, 1], [10, 0, 0, 2]));
    assert_eq!(arp.to_string(), "ARP 60 10.0.0.1 is at 02:00:00:00:00:01");
    let sack = Segment { options: options::sack(&[(100, 200)]), ..segment("A") };
    assert!(Dissected::new(sack.frame(MACS)).to_string().ends_with("SACK=100-200"));
}

#[test]
fn cut_packets_are_dissected_as_far_as_they_go() {
    let whole = segment("S").frame(MACS);
    for len in 0..whole.len() {
        let _ = Dissected::new(&whole[..len]).to_string();
    }
}

#[test]
fn a_mismatch_tells_expected_got_and_bytes() {
    let packet = Dissected::new(Segment { payload: b"abc".to_vec(), ..segment("A") }.frame(MACS));
    let other = Dissected::new(arp_reply(MACS, [10, 0, 0, 1], [10, 0, 0, 2]));
    let expected = Match::tcp().flags("AS").dst_port(80).with(Field::TcpMss, 1460_u16);
    assert!(!expected.matches(&packet) && Match::tcp().flags("A").payload("abc").matches(&packet));
    let mismatch = Mismatch { expected, within: Duration::from_secs(1), got: vec![other, packet] };
    let told = mismatch.to_string();
    for part in [
        "expected within 1s: IpProtocol 6, TcpFlags SA, DstPort 80, TcpMss 1460\n",
        "got: ARP 60 10.0.0.1 is at",
        "closest: 10.0.0.1 > 10.0.0.2 TCP 57 40000 > 80 [A]",
        "  TcpFlags: expected SA, got A\n",
        "  TcpMss: expected 1460, and the packet has none\n",
        "  0030  ff ff ",
        "abc\n",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
}
