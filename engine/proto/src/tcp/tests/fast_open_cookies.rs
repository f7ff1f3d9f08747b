//! Fast Open's cookies (RFC 7413 4.1.2, 4.1.3): what a server gives and takes, and what a client keeps.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::format;

use ringwire_wire::tcp::{FastOpen, FastOpenForm, Options};

use super::fast_open::cookie;
use super::host::Host;
use super::script::*;
use crate::prf::Prf;
use crate::tcp::fast_open::{
    Answer, Asking, ClientOffer, CookieUse, Cookies, KEY_LEN, Keys, MAX_PEERS, Offer, Path, Rules, judge,
};
use crate::tcp::{Config, SegmentIn};
use crate::{Flow, Instant};

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
