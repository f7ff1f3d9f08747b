//! A client whose SYNs with Fast Open get lost (RFC 7413 4.1.3.1).

use std::time::Duration;

use super::flood::{CLIENT as PEER, Server};
use super::*;

impl Server {
    /// Begins to connect: whether the SYN asks for a cookie. The peer answers it, or a second passes and it goes again.
    fn asks_for_cookie(&mut self, is_answered: bool) -> bool {
        // The time of a turn is that of what follows.
        self.exchange(&[]);
        let mut options = TcpOptions::default();
        options.fast_open = true;
        let worker = self.wire.worker.as_mut().unwrap();
        let conn = worker.connect((PEER, 9).into(), &options).unwrap();
        // Where the peer is may have been forgotten.
        let sent = [self.exchange(&[]), self.exchange(&[packets::arp_reply()])].concat();
        let syn = sent.iter().find(|frame| flags(frame) == Some(Flags::SYN)).expect("a SYN leaves");
        if is_answered {
            let numbers = (5000, packets::tcp_seq(syn).wrapping_add(1));
            let port = packets::tcp_src_port(syn);
            self.exchange(&[packets::tcp((PEER, 9), port, Flags::SYN | Flags::ACK, numbers)]);
            assert!(self.events.contains(&Event::Connected(conn)));
        } else {
            self.hand.advance(Duration::from_millis(1100));
            self.exchange(&[]);
        }
        self.wire.worker.as_mut().unwrap().abort(conn);
        self.exchange(&[]);
        self.events.clear();
        has_fast_open(syn)
    }
}

fn has_fast_open(frame: &[u8]) -> bool {
    match packet::parse(frame).unwrap().net {
        packet::Net::Ipv4(_, Transport::Tcp(segment)) => segment.options().fast_open.is_some(),
        _ => false,
    }
}

/// That a SYN without anything of Fast Open gets through says nothing of those with it.
#[test]
fn what_answers_a_plain_syn_does_not_shorten_the_rests() {
    let mut client = Server::of(8, |builder| builder);
    assert!(client.asks_for_cookie(true));
    for is_asking in [true, true, false] {
        assert_eq!(client.asks_for_cookie(false), is_asking);
    }
    for rest_s in [60, 120] {
        assert!(!client.asks_for_cookie(true), "it rests");
        client.hand.advance(Duration::from_secs(rest_s - 10));
        assert!(!client.asks_for_cookie(true), "{rest_s}");
        client.hand.advance(Duration::from_secs(10));
        assert!(client.asks_for_cookie(false), "{rest_s}");
    }
}
