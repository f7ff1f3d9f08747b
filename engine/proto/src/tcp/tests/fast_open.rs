//! Fast Open on both sides of a connection (RFC 7413).

use core::time::Duration;
use std::vec::Vec;

use ringwire_wire::tcp::FastOpen;

use super::host::{Bytes, Host, Wire};
use super::script::*;
use crate::icmp::{ErrorKind, Unreachable};
use crate::tcp::fast_open::ClientOffer;
use crate::tcp::{CloseReason, Config, SendError, Signals, State};
use crate::{DropReason, SeqNum};

const COOKIE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

pub(super) fn cookie() -> FastOpen {
    FastOpen::cookie(&COOKIE).expect("a legal length")
}

/// A client that has the peer's cookie.
pub(super) fn client(config: &Config) -> Host {
    let mut host = Host::connect(config, ISS.0);
    host.call(|tcb, cx| tcb.begin_fast_open(cx.cold, ClientOffer { option: Some(cookie()), mss: 1000 }));
    host
}

/// A server that has taken `text` from the SYN and sent its SYN-ACK.
pub(super) fn server(text: &[u8]) -> Host {
    let mut host = Host::accept(&plain(), ISS.0, &peer_syn());
    let payload = (!text.is_empty()).then(|| Bytes::new(text));
    let outcome = host.call(|tcb, cx| tcb.open_fast(cx, payload));
    assert!(outcome.signals.contains(Signals::CONNECTED | Signals::WRITABLE));
    assert_eq!(outcome.signals.contains(Signals::READABLE), !text.is_empty());
    let syn_ack = one(host.transmit());
    expect(&syn_ack, SYN | ACK, u32::MAX, text.len() as u32, 0);
    host
}

#[test]
fn the_text_of_a_syn_is_the_application_s_before_the_handshake_is_over() {
    let mut host = server(b"GET");
    assert_eq!((host.state(), host.read()), (State::SynReceived, b"GET".to_vec()));
    assert!(host.tcb.is_fast_opened());
    assert!(host.call(|tcb, cx| tcb.info(cx)).syn_text);
    // RFC 7413 4.2.2: the answer does not wait.
    expect(&one(host.write(b"answer")), PSH | ACK, 0, 3, 6);
    expect_none(host.exchange(&peer(ACK, 3, 6)));
    assert_eq!((host.state(), host.tcb.is_fast_opened()), (State::Established, false));
    assert!(host.signals.contains(Signals::CONFIRMED) && !host.signals.contains(Signals::CONNECTED));
    assert!(host.call(|tcb, cx| tcb.info(cx)).syn_text);
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).unacked_bytes, 0);
}

#[test]
fn the_window_of_the_syn_ack_begins_behind_the_text() {
    for (buffer, window) in [(100_000, u16::MAX), (1_000, 997)] {
        let config = Config { recv_buffer_bytes: buffer, ..plain() };
        let mut host = Host::accept(&config, ISS.0, &peer_syn());
        let _ = host.call(|tcb, cx| tcb.open_fast(cx, Some(Bytes::new(b"GET"))));
        assert_eq!(one(host.transmit()).header.window, window);
    }
}

#[test]
fn a_repeated_syn_with_its_text_is_answered_and_not_read_again() {
    let mut host = server(b"once");
    let again = peer_syn().text(b"once");
    let answer = host.refuse(&again, DropReason::TcpDuplicate);
    assert_eq!((one(answer).ack(), host.read()), (IRS + 5, b"once".to_vec()));
    // Without text, as clients repeat it.
    host.now += Duration::from_secs(1);
    let answer = host.refuse(&peer_syn(), DropReason::TcpDuplicate);
    assert_eq!((one(answer).ack(), host.read()), (IRS + 5, b"".to_vec()));
    // The client that never saw the SYN-ACK's number sends the text again after the handshake.
    host.exchange(&peer(ACK, 4, 0));
    let _ = host.deliver(&peer(ACK | PSH, 0, 0).text(b"once"));
    assert_eq!((host.state(), host.read()), (State::Established, b"".to_vec()));
}

#[test]
fn an_answer_that_nobody_acknowledges_is_watched_from_the_end_of_the_handshake_on() {
    let mut host = server(b"GET");
    host.write(b"answer");
    expect_none(host.exchange(&peer(ACK, 3, 0)));
    assert_eq!(host.state(), State::Established);
    expect(&one(host.run_timer()), PSH | ACK, 0, 3, 6);
}

#[test]
fn what_followed_a_lost_syn_ack_goes_again_with_the_end_of_the_handshake() {
    let mut host = server(b"GET");
    host.write(b"answer");
    let syn_ack = one(host.run_timer());
    assert_eq!((syn_ack.header.flags, syn_ack.ack()), (SYN | ACK, IRS + 4));
    expect(&one(host.exchange(&peer(ACK, 3, 0))), PSH | ACK, 0, 3, 6);
}

#[test]
fn a_fin_waits_for_the_handshake() {
    let mut host = server(b"GET");
    host.read();
    host.send(b"answer");
    expect(&one(host.shutdown_write()), PSH | ACK, 0, 3, 6);
    assert_eq!(host.state(), State::SynReceived);
    expect(&one(host.exchange(&peer(ACK, 3, 6))), FIN | ACK, 6, 3, 0);
    assert_eq!(host.state(), State::FinWait1);
}

/// Everything that is out goes again, and the end of the stream behind what has not left stays where it is.
#[test]
fn what_goes_again_before_the_end_of_the_handshake_is_followed_by_no_fin() {
    let mut host = server(b"GET");
    host.read();
    host.send(&[7; 12_000]);
    assert_eq!(host.shutdown_write().len(), 10);
    let _ = host.call(|tcb, cx| tcb.on_icmp_error(cx, ErrorKind::FragmentationNeeded { mtu: 600 }, ISS + 1));
    let again = host.transmit();
    assert!(!again.is_empty() && again.iter().all(|wire| !wire.has(FIN)), "{again:?}");
    assert_eq!(host.state(), State::SynReceived);
}

#[test]
fn a_connection_of_the_application_is_not_ended_by_icmp_nor_by_another_syn() {
    let mut host = server(b"GET");
    let outcome = host.call(|tcb, cx| tcb.on_icmp_error(cx, ErrorKind::Unreachable(Unreachable::Host), ISS));
    assert_eq!((outcome.closed, host.state()), (None, State::SynReceived));
    host.refuse(&Wire::new(SYN, IRS + 20, SeqNum(0)), DropReason::TcpSynChallenged);
    // A reset does, and what came before it is read first.
    let _ = host.deliver(&peer(RST, 3, 0));
    assert_eq!((host.state(), host.tcb.ended()), (State::Closed, Some(CloseReason::Reset)));
    assert_eq!(host.read(), b"GET");
    host.run_timer();
    assert_eq!(host.closed, Some(CloseReason::Reset));
}

#[test]
fn a_valid_cookie_without_text_lets_the_server_speak_first() {
    let mut host = server(b"");
    assert!(!host.call(|tcb, cx| tcb.info(cx)).syn_text);
    expect(&one(host.write(b"banner")), PSH | ACK, 0, 0, 6);
    host.exchange(&peer(ACK, 0, 6));
    assert_eq!(host.state(), State::Established);
    assert!(!host.call(|tcb, cx| tcb.info(cx)).syn_text);
}

#[test]
fn only_the_first_syn_ack_carries_the_cookie() {
    let mut host = Host::accept(&plain(), ISS.0, &peer_syn());
    host.call(|tcb, cx| tcb.give_cookie(cx.cold, cookie()));
    assert_eq!(one(host.transmit()).options.fast_open, Some(cookie()));
    assert_eq!(host.cold.in_use(), 0);
    assert_eq!(one(host.run_timer()).options.fast_open, None);
}

#[test]
fn a_client_without_a_cookie_asks_for_one_and_sends_text_after_the_handshake() {
    let mut host = Host::connect(&plain(), ISS.0);
    let ask = ClientOffer { option: Some(FastOpen::REQUEST), mss: 536 };
    host.call(|tcb, cx| tcb.begin_fast_open(cx.cold, ask));
    host.send(b"text");
    let syn = one(host.transmit());
    assert_eq!((syn.options.fast_open, syn.payload.len()), (Some(FastOpen::REQUEST), 0));
    expect(&one(host.exchange(&peer_syn_ack())), PSH | ACK, 0, 0, 4);
    assert!(host.signals.contains(Signals::CONNECTED | Signals::CONFIRMED));
}

#[test]
fn a_cookie_takes_the_text_along() {
    let mut host = client(&plain());
    host.send(b"text");
    let syn = one(host.transmit());
    assert_eq!((syn.header.flags, syn.seq(), &syn.payload[..]), (SYN, ISS, &b"text"[..]));
    assert_eq!(syn.options.fast_open, Some(cookie()));
    let mut syn_ack = peer_syn_ack();
    syn_ack.header.ack = (ISS + 5).0;
    expect_ack(host.exchange(&syn_ack), 4, 0);
    assert!(!host.tcb.is_syn_text_refused() && host.call(|tcb, cx| tcb.info(cx)).syn_text);
    assert_eq!(host.cold.in_use(), 0);
    let info = host.call(|tcb, cx| tcb.info(cx));
    assert_eq!((info.bytes_sent, info.bytes_acked, info.data_segs_out), (4, 4, 1));
    expect(&one(host.write(b"more")), PSH | ACK, 4, 0, 4);
}

#[test]
fn text_that_the_syn_ack_does_not_acknowledge_goes_again_at_once() {
    let mut host = client(&plain());
    host.send(b"text");
    host.transmit();
    let _ = host.deliver(&peer_syn_ack());
    assert!(host.tcb.is_syn_text_refused());
    expect(&one(host.transmit()), PSH | ACK, 0, 0, 4);
    assert!(!host.call(|tcb, cx| tcb.info(cx)).syn_text);
    expect_none(host.exchange(&peer(ACK, 0, 4)));
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).unacked_bytes, 0);
}

#[test]
fn what_is_left_of_text_that_was_acknowledged_in_part_goes_again() {
    let mut host = client(&plain());
    host.send(b"text");
    host.transmit();
    let mut syn_ack = peer_syn_ack();
    syn_ack.header.ack = (ISS + 3).0;
    let sent = one(host.exchange(&syn_ack));
    assert_eq!((sent.seq(), &sent.payload[..], host.state()), (ISS + 3, &b"xt"[..], State::Established));
    assert!(!host.tcb.is_syn_text_refused(), "it takes some");
    assert!(!host.call(|tcb, cx| tcb.info(cx)).syn_text, "and not all");
    expect_none(host.exchange(&peer(ACK, 0, 4)));
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).unacked_bytes, 0);
    assert_eq!(host.cold.in_use(), 0);
}

#[test]
fn what_is_left_of_long_text_is_cut_up_anew() {
    let mut host = client(&Config { nodelay: true, ..plain() });
    host.send(&[7; 900]);
    host.transmit();
    let mut syn_ack = peer_syn_ack().mss(400);
    syn_ack.header.ack = (ISS + 101).0;
    let sent = host.exchange(&syn_ack);
    assert_eq!(
        sent.iter().map(|wire| (wire.seq(), wire.payload.len())).collect::<Vec<_>>(),
        [(ISS + 101, 400), (ISS + 501, 400)]
    );
}

#[test]
fn text_that_a_syn_took_along_was_one_segment() {
    let mut host = client(&plain());
    host.send(&[7; 900]);
    host.transmit();
    let mut syn_ack = peer_syn_ack().mss(400);
    syn_ack.header.ack = (ISS + 901).0;
    expect_ack(host.exchange(&syn_ack), 900, 0);
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).delivered_segs, 1);
}

#[test]
fn a_syn_ack_beyond_the_text_is_refused() {
    let mut host = client(&plain());
    host.send(b"text");
    host.transmit();
    let mut syn_ack = peer_syn_ack();
    syn_ack.header.ack = (ISS + 6).0;
    host.refuse(&syn_ack, DropReason::TcpSynSentBadAck);
}

#[test]
fn the_second_syn_has_neither_cookie_nor_text() {
    let mut host = client(&plain());
    host.send(b"text");
    host.transmit();
    let again = one(host.run_timer());
    assert_eq!((again.header.flags, again.seq(), again.payload.len()), (SYN, ISS, 0));
    assert_eq!(again.options.fast_open, None);
    assert!(host.signals.contains(Signals::SYN_LOST));
    // The first one had arrived all the same.
    let mut late = peer_syn_ack();
    late.header.ack = (ISS + 5).0;
    expect_ack(host.exchange(&late), 4, 0);
    assert!(host.signals.contains(Signals::CONNECTED) && !host.signals.contains(Signals::CONFIRMED));
    // RFC 6298 (3): which of them was answered is not known.
    assert_eq!(host.call(|tcb, cx| tcb.info(cx)).srtt, Duration::ZERO);
}

#[test]
fn a_syn_takes_what_fits_with_its_options_and_the_rest_follows() {
    let config = Config { timestamps: true, sack: true, window_scale: Some(7), nodelay: true, ..plain() };
    let mut host = client(&config);
    host.send(&[7; 2000]);
    let syn = one(host.transmit());
    assert_eq!((syn.options.encoded_len(), syn.payload.len()), (32, 1000 - 40));
    let mut syn_ack = peer_syn_ack().stamp(1, syn.options.timestamps.expect("offered").value);
    syn_ack.header.ack = (ISS + 1 + 960).0;
    let sent = host.exchange(&syn_ack);
    let bytes: usize = sent.iter().map(|wire| wire.payload.len()).sum();
    assert_eq!((sent[0].seq(), bytes), (ISS + 1 + 960, 2000 - 960));
}

#[test]
fn a_syn_takes_text_that_fits_exactly() {
    let mut host = client(&Config { nodelay: true, ..plain() });
    host.send(&[7; 960]);
    assert_eq!(one(host.transmit()).payload.len(), 960);
}

#[test]
fn icmp_too_big_sends_a_plain_syn() {
    let mut host = client(&plain());
    host.send(&[7; 900]);
    assert_eq!(one(host.transmit()).payload.len(), 900);
    let _ = host.call(|tcb, cx| tcb.on_icmp_error(cx, ErrorKind::FragmentationNeeded { mtu: 600 }, ISS));
    let again = one(host.transmit());
    assert_eq!((again.header.flags, again.payload.len()), (SYN, 0));
    let sent = host.exchange(&peer_syn_ack());
    assert_eq!(sent.iter().map(|wire| wire.payload.len()).sum::<usize>(), 900);
}

#[test]
fn syns_with_text_that_cross_lose_nothing() {
    let mut host = client(&plain());
    host.send(b"text");
    host.transmit();
    let syn_ack = one(host.exchange(&peer_syn().text(b"theirs")));
    assert_eq!((syn_ack.header.flags, syn_ack.ack(), host.state()), (SYN | ACK, IRS + 1, State::SynReceived));
    expect(&one(host.exchange(&peer(ACK, 0, 0))), PSH | ACK, 0, 0, 4);
}

#[test]
fn a_close_before_the_answer_forgets_the_text() {
    let mut host = client(&plain());
    host.send(b"text");
    host.transmit();
    host.close();
    assert_eq!((host.state(), host.cold.in_use()), (State::Closed, 0));
    assert_eq!(host.call(|tcb, cx| tcb.send(cx, b"x")), Err(SendError::ShutDown));
}
