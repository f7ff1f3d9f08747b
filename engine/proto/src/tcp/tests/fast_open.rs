//! Fast Open on both sides (RFC 7413), and the client's cookies.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::format;
use std::vec::Vec;

use ringwire_wire::tcp::{FastOpen, FastOpenForm, Options};

use super::host::{Bytes, Host, Wire};
use super::script::*;
use crate::icmp::{ErrorKind, Unreachable};
use crate::prf::Prf;
use crate::tcp::fast_open::{
    Answer, Asking, ClientOffer, CookieUse, Cookies, KEY_LEN, Keys, MAX_PEERS, Offer, Path, Rules, judge,
};
use crate::tcp::{CloseReason, Config, SegmentIn, SendError, Signals, State};
use crate::{DropReason, Flow, Instant, SeqNum};

const COOKIE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn cookie() -> FastOpen {
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

fn flow(remote: u8, port: u16) -> Flow {
    Flow::v4(Ipv4Addr::new(192, 0, 2, 1), 80, Ipv4Addr::new(192, 0, 2, remote), port)
}

fn syn_with(option: Option<FastOpen>) -> SegmentIn {
    let mut syn = peer_syn();
    syn.options.fast_open = option;
    syn.seg()
}

/// Of a SYN without text, for a listener whose cookies are of the engine's secret.
fn by_secret(prf: &Prf, flow: &Flow, option: Option<FastOpen>, now: Instant) -> Offer {
    judge(prf, &Rules::default(), &Asking { flow, syn: &syn_with(option), text_len: 0 }, now)
}

/// The cookie that a server gives.
fn given(prf: &Prf, flow: &Flow, now: Instant) -> FastOpen {
    match by_secret(prf, flow, Some(FastOpen::REQUEST), now) {
        Offer::Cookie(cookie) => cookie,
        other => panic!("{other:?} for a request"),
    }
}

#[test]
fn a_cookie_is_for_one_address_any_port_and_one_to_two_hours() {
    let prf = Prf::new([3; 16]);
    let start = Instant::from_secs(3600);
    let cookie = given(&prf, &flow(2, 4000), start);
    let at = |remote, after_s| {
        let now = start + Duration::from_secs(after_s);
        by_secret(&prf, &flow(remote, 4001), Some(cookie), now)
    };
    assert_eq!(at(2, 0), Offer::Take(None));
    assert_eq!(at(2, 3599), Offer::Take(None));
    let renewed = given(&prf, &flow(2, 1), start + Duration::from_secs(3600));
    assert_eq!(at(2, 3600), Offer::Take(Some(renewed)));
    assert_eq!(at(2, 7199), Offer::Take(Some(renewed)));
    assert!(matches!(at(2, 7200), Offer::Cookie(_)));
    assert_eq!(at(3, 0), Offer::Cookie(given(&prf, &flow(3, 1), start)));
    let other_key = by_secret(&Prf::new([4; 16]), &flow(2, 4000), Some(cookie), start);
    assert!(matches!(other_key, Offer::Cookie(_)));
    assert_eq!(by_secret(&prf, &flow(2, 4000), None, start), Offer::None);
    // In the first hour of all there is no older one.
    let first = by_secret(&prf, &flow(2, 4000), Some(cookie), Instant::from_secs(1));
    assert_eq!(first, Offer::Cookie(given(&prf, &flow(2, 4000), Instant::from_secs(1))));
}

/// The cookies that Linux gives 192.0.2.1 at 192.168.0.1, as its own tests name them.
const LINUX: [(&str, [u8; 8]); 2] = [
    ("a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4", [0x30, 0x21, 0xb9, 0xd8, 0x89, 0x01, 0x7e, 0xeb]),
    ("0-0-0-0", [0xb7, 0xc1, 0x23, 0x50, 0xa9, 0x0d, 0xc8, 0xf5]),
];

fn linux_flow() -> Flow {
    Flow::v4(Ipv4Addr::new(192, 168, 0, 1), 80, Ipv4Addr::new(192, 0, 2, 1), 4000)
}

/// What a listener with these keys makes of a SYN.
fn by_keys(keys: &str, flow: &Flow, option: Option<FastOpen>) -> Offer {
    let rules = Rules { keys: Some(keys.parse().expect("keys")), cookies: CookieUse::Needed };
    judge(&Prf::new([3; 16]), &rules, &Asking { flow, syn: &syn_with(option), text_len: 10 }, NOW)
}

#[test]
fn a_key_gives_the_cookies_that_linux_gives() {
    for (key, cookie) in LINUX {
        let cookie = FastOpen::cookie(&cookie).expect("a legal length");
        assert_eq!(by_keys(key, &linux_flow(), Some(FastOpen::REQUEST)), Offer::Cookie(cookie));
        assert_eq!(by_keys(key, &linux_flow(), Some(cookie)), Offer::Take(None));
        assert_eq!(by_keys(key, &linux_flow(), None), Offer::None);
        let elsewhere = Flow { remote: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), ..linux_flow() };
        assert!(matches!(by_keys(key, &elsewhere, Some(cookie)), Offer::Cookie(other) if other != cookie));
        let short = FastOpen::cookie(&cookie.as_slice()[..4]).expect("a legal length");
        assert_eq!(by_keys(key, &linux_flow(), Some(short)), Offer::Cookie(cookie));
    }
}

#[test]
fn the_experimental_option_is_answered_in_kind() {
    let [(key, bytes), _] = LINUX;
    let cookie = FastOpen::cookie(&bytes).expect("a legal length");
    let old = |cookie: FastOpen| cookie.in_form(FastOpenForm::Experimental);
    let request = Some(old(FastOpen::REQUEST));
    assert_eq!(by_keys(key, &linux_flow(), request), Offer::Cookie(old(cookie)));
    assert_eq!(by_keys(key, &linux_flow(), Some(old(cookie))), Offer::Take(None));
    let both = format!("0-0-0-1,{key}");
    let Offer::Take(Some(renewed)) = by_keys(&both, &linux_flow(), Some(old(cookie))) else {
        panic!("taken")
    };
    assert_eq!(renewed.form(), FastOpenForm::Experimental);
}

#[test]
fn a_cookie_of_the_second_key_is_taken_and_renewed() {
    let [(old_key, old), (new_key, new)] = LINUX.map(|(key, bytes)| (key, FastOpen::cookie(&bytes)));
    let new = new.expect("a legal length");
    let both = format!("{new_key},{old_key}");
    assert_eq!(by_keys(&both, &linux_flow(), old), Offer::Take(Some(new)));
    assert_eq!(by_keys(&both, &linux_flow(), Some(new)), Offer::Take(None));
    assert_eq!(by_keys(&both, &linux_flow(), Some(FastOpen::REQUEST)), Offer::Cookie(new));
    assert_eq!(by_keys(new_key, &linux_flow(), old), Offer::Cookie(new));
}

/// SipHash-2-4 of both addresses, 32 bytes; a mapped address is the one it stands for.
#[test]
fn cookies_of_ipv6_are_of_its_addresses() {
    let at = |last: u16| IpAddr::V6(core::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
    let flow = Flow { local: at(1), local_port: 80, remote: at(2), remote_port: 4000 };
    let Offer::Cookie(cookie) = by_keys(LINUX[0].0, &flow, Some(FastOpen::REQUEST)) else {
        panic!("a cookie")
    };
    let turned = Flow { local: at(2), remote: at(1), ..flow };
    assert_ne!(by_keys(LINUX[0].0, &turned, Some(FastOpen::REQUEST)), Offer::Cookie(cookie));
    assert_eq!(by_keys(LINUX[0].0, &flow, Some(cookie)), Offer::Take(None));
}

#[test]
fn keys_are_written_as_linux_writes_them() {
    let keys: Keys = "3020100-7060504-B0A0908-f0e0d0c,0-0-0-1".parse().expect("two keys");
    let counted: [u8; KEY_LEN] = core::array::from_fn(|i| i as u8);
    assert_eq!((&keys.to_bytes()[..KEY_LEN], keys.to_bytes()[28]), (&counted[..], 1));
    assert_eq!((Keys::from_bytes(keys.to_bytes()), keys.to_bytes().len()), (Some(keys), 32));
    assert_eq!(Keys::from_bytes(&counted).expect("one key").to_bytes(), counted);
    for len in [0, 3, 15, 17, 31, 33, 48] {
        assert_eq!(Keys::from_bytes(&[1; 64][..len]), None, "{len}");
    }
    let wrong = [
        "",
        "1-2-3",
        "1-2-3-4-5",
        "1-2-3-x",
        "1-2-3-100000000",
        "1-2-3-+4",
        "1-2-3-4,",
        "1-2-3-4,1-2-3-4,1-2-3-4",
    ];
    for text in wrong {
        assert!(text.parse::<Keys>().is_err(), "{text}");
    }
    assert_eq!(format!("{keys:?}"), "Keys { .. }");
}

#[test]
fn without_cookies_anybody_s_text_is_taken() {
    let rules = Rules { cookies: CookieUse::Waived, ..Rules::default() };
    let at = |option, text_len| {
        let asking = Asking { flow: &flow(2, 4000), syn: &syn_with(option), text_len };
        judge(&Prf::new([3; 16]), &rules, &asking, NOW)
    };
    assert_eq!(at(None, 1), Offer::Take(None));
    assert_eq!(at(Some(FastOpen::REQUEST), 0), Offer::Take(None));
    assert_eq!(at(Some(cookie()), 0), Offer::Take(None));
    assert_eq!(at(None, 0), Offer::None, "an ordinary SYN");
}

#[test]
fn a_client_without_cookies_sends_text_without_the_option() {
    let mut host = Host::connect(&Config { nodelay: true, ..plain() }, ISS.0);
    let bare = ClientOffer { option: None, mss: 300 };
    host.call(|tcb, cx| tcb.begin_fast_open(cx.cold, bare));
    host.send(&[7; 400]);
    let syn = one(host.transmit());
    assert_eq!((syn.options.fast_open, syn.payload.len()), (None, bare.text_room_bytes(1000)));
    assert_eq!(syn.payload.len(), 260);
}

const NOW: Instant = Instant::from_secs(10);

fn path(last: u16) -> Path {
    let [high, low] = last.to_be_bytes();
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(10, 1, high, low)))
}

fn answered(cookies: &mut Cookies, path: Path, fast_open: Option<FastOpen>, is_text_refused: bool) {
    let options = Options { mss: Some(1400), fast_open, ..Options::default() };
    cookies.on_answer(path, &Answer { is_text_refused, ..first_answer(&options) });
}

fn first_answer(options: &Options) -> Answer<'_> {
    Answer { options, was_offered: true, is_first: true, is_text_refused: false, cookies: CookieUse::Needed }
}

fn offered(cookies: &mut Cookies, now: Instant) -> Option<ClientOffer> {
    let expected = cookies.expected_offer(path(1), CookieUse::Needed, now);
    let offer = cookies.offer(path(1), CookieUse::Needed, now);
    assert_eq!(offer, expected);
    offer
}

fn option(cookies: &mut Cookies) -> Option<FastOpen> {
    offered(cookies, NOW).and_then(|offer| offer.option)
}

fn allows_text(cookies: &Cookies, path: Path, now: Instant) -> bool {
    let offer = cookies.expected_offer(path, CookieUse::Needed, now);
    offer.is_some_and(|offer| offer.text_room_bytes(1000) > 0)
}

#[test]
fn a_client_keeps_the_last_cookie_with_the_mss() {
    let mut cookies = Cookies::default();
    assert_eq!(offered(&mut cookies, NOW), Some(ClientOffer { option: Some(FastOpen::REQUEST), mss: 536 }));
    assert!(!allows_text(&cookies, path(1), NOW));
    answered(&mut cookies, path(1), Some(cookie()), false);
    assert_eq!(offered(&mut cookies, NOW), Some(ClientOffer { option: Some(cookie()), mss: 1400 }));
    assert!(allows_text(&cookies, path(1), NOW) && !allows_text(&cookies, path(2), NOW));
    let next = FastOpen::cookie(&[9; 16]).expect("a legal length");
    answered(&mut cookies, path(1), Some(next), true);
    assert_eq!(option(&mut cookies), Some(next));
    // Not mentioned: it is still good.
    answered(&mut cookies, path(1), None, false);
    assert_eq!(option(&mut cookies), Some(next));
    // Text refused without another cookie: it is not.
    answered(&mut cookies, path(1), None, true);
    assert_eq!(option(&mut cookies), Some(FastOpen::REQUEST));
}

#[test]
fn after_two_lost_syns_in_a_row_fast_open_rests_longer_and_longer() {
    let mut cookies = Cookies::default();
    answered(&mut cookies, path(1), Some(cookie()), false);
    cookies.on_lost(path(1), NOW);
    assert!(allows_text(&cookies, path(1), NOW));
    answered(&mut cookies, path(1), None, false);
    cookies.on_lost(path(1), NOW);
    assert!(allows_text(&cookies, path(1), NOW), "not in a row");
    let mut now = NOW;
    for rest_s in [60, 120, 240, 480, 960, 1920, 3840, 3840] {
        cookies.on_lost(path(1), now);
        assert_eq!(offered(&mut cookies, now), None);
        assert!(!allows_text(&cookies, path(1), now));
        // A plain SYN that is lost says nothing, nor does one that is answered.
        cookies.on_lost(path(1), now);
        let options = Options { mss: Some(1400), fast_open: Some(cookie()), ..Options::default() };
        cookies.on_answer(path(1), &Answer { was_offered: false, ..first_answer(&options) });
        now += Duration::from_secs(rest_s - 1);
        assert_eq!(offered(&mut cookies, now), None, "{rest_s}");
        now += Duration::from_secs(1);
        assert!(allows_text(&cookies, path(1), now), "{rest_s}");
    }
    answered(&mut cookies, path(1), Some(cookie()), false);
    cookies.on_lost(path(1), now);
    assert!(allows_text(&cookies, path(1), now));
}

#[test]
fn without_cookies_text_goes_to_everybody_but_where_it_gets_lost() {
    let mut cookies = Cookies::default();
    let bare = |cookies: &mut Cookies, now| cookies.offer(path(1), CookieUse::Waived, now);
    assert_eq!(bare(&mut cookies, NOW), Some(ClientOffer { option: None, mss: u16::MAX }));
    answered(&mut cookies, path(1), Some(cookie()), false);
    let known = ClientOffer { option: None, mss: 1400 };
    assert_eq!((bare(&mut cookies, NOW), known.text_room_bytes(1000)), (Some(known), 960));
    assert_eq!(known.text_room_bytes(1460), 1360);
    cookies.on_lost(path(1), NOW);
    cookies.on_lost(path(1), NOW);
    assert_eq!(bare(&mut cookies, NOW), None);
    assert_eq!(bare(&mut cookies, NOW + Duration::from_secs(60)), Some(known));
}

#[test]
fn a_cookie_that_nobody_has_asked_for_is_not_kept() {
    let mut cookies = Cookies::default();
    let options = Options { mss: Some(940), fast_open: Some(cookie()), ..Options::default() };
    let late = Answer { is_first: false, cookies: CookieUse::Waived, ..first_answer(&options) };
    cookies.on_answer(path(1), &late);
    assert_eq!(cookies.offer(path(1), CookieUse::Waived, NOW).map(|offer| offer.mss), Some(u16::MAX));
    cookies.on_answer(path(1), &Answer { is_first: true, ..late });
    assert_eq!(cookies.offer(path(1), CookieUse::Waived, NOW).map(|offer| offer.mss), Some(940));
    assert_eq!(option(&mut cookies), Some(FastOpen::REQUEST));
}

#[test]
fn an_answer_to_a_repeated_syn_says_nothing_of_the_first() {
    let mut cookies = Cookies::default();
    answered(&mut cookies, path(1), Some(cookie()), false);
    cookies.on_lost(path(1), NOW);
    let options = Options::default();
    cookies.on_answer(path(1), &Answer { is_first: false, is_text_refused: true, ..first_answer(&options) });
    assert!(allows_text(&cookies, path(1), NOW));
    cookies.on_lost(path(1), NOW);
    assert!(!allows_text(&cookies, path(1), NOW));
}

#[test]
fn the_path_used_longest_ago_makes_room() {
    let mut cookies = Cookies::default();
    for peer in 0..MAX_PEERS as u16 {
        answered(&mut cookies, path(peer), Some(cookie()), false);
    }
    let _ = cookies.offer(path(0), CookieUse::Needed, NOW);
    answered(&mut cookies, path(5000), Some(cookie()), false);
    assert!(allows_text(&cookies, path(0), NOW) && allows_text(&cookies, path(5000), NOW));
    assert!(!allows_text(&cookies, path(1), NOW));
    assert_eq!((0..6000).filter(|peer| allows_text(&cookies, path(*peer), NOW)).count(), MAX_PEERS);
}
