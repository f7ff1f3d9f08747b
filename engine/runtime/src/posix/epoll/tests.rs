//! What a wait costs: files looked at, not time.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::posix::LowestFree;
use crate::posix::addr::Named;
use crate::{Engine, Interface, TcpOptions};

const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const WATCHED: u16 = 200;
const EIN: u32 = libc::EPOLLIN as u32;

/// Two hosts on one wire.
fn pair() -> [Sockets; 2] {
    let (clock, hand) = Clock::manual();
    let side = |address: Ipv4Addr| {
        let interface = Interface::new("memory").address(format!("{address}/24").parse().unwrap());
        Engine::builder().interface(interface).clock(clock.clone()).secret([3; 16])
    };
    let (here, there) = Engine::memory_pair(side(HERE), side(THERE)).unwrap();
    hand.advance(Duration::from_secs(1));
    [here, there].map(|engine| {
        let worker = engine.into_workers().remove(0).start();
        Sockets::new(worker, Box::new(LowestFree::new(3, 1_000)), TcpOptions::default())
    })
}

fn exchange(pair: &mut [Sockets; 2]) {
    for _ in 0..6 {
        for side in pair.iter_mut() {
            side.turn(Some(Duration::ZERO)).unwrap();
        }
    }
}

fn datagrams(sockets: &mut Sockets, port: u16) -> Fd {
    let fd = sockets.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    sockets.bind(fd, Named::Inet(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))).unwrap();
    fd
}

fn looks_of<R>(sockets: &mut Sockets, call: impl FnOnce(&mut Sockets) -> R) -> (R, usize) {
    let before = sockets.looks;
    let result = call(sockets);
    (result, sockets.looks - before)
}

fn send(sockets: &mut Sockets, from: Fd, port: u16) {
    let to = Some(SocketAddrV4::new(HERE, port));
    sockets.send(from, &[std::io::IoSlice::new(b"x")], 0, to).unwrap();
}

#[test]
fn a_wait_looks_at_what_has_news_and_at_nothing_else() {
    let mut pair = pair();
    let epoll = pair[0].epoll_create(0).unwrap();
    for port in 0..WATCHED {
        let fd = datagrams(&mut pair[0], 5_000 + port);
        let events = if port % 2 == 0 { EIN } else { EIN | EDGE };
        let event = Some(EpollEvent { events, data: port.into() });
        pair[0].epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, event).unwrap();
    }
    let far = datagrams(&mut pair[1], 9);
    exchange(&mut pair);
    let wait = |sockets: &mut Sockets| {
        let (found, looks) = looks_of(sockets, |sockets| sockets.epoll_wait(epoll, 64).unwrap());
        (found.iter().map(|event| event.data).collect::<Vec<u64>>(), looks)
    };
    assert_eq!(wait(&mut pair[0]), (vec![], 0), "nothing has happened");
    for port in [7, 120, 121] {
        send(&mut pair[1], far, 5_000 + port);
    }
    // The first one waits for the neighbour's address.
    exchange(&mut pair);
    let (mut found, looks) = wait(&mut pair[0]);
    found.sort_unstable();
    assert_eq!((found, looks), (vec![7, 120, 121], 3));
    assert_eq!(wait(&mut pair[0]), (vec![120], 1), "by level it is looked at again, by edge it is not");
    let fd = 3 + 1 + 120;
    pair[0].recv(fd, &mut [std::io::IoSliceMut::new(&mut [0; 4])], 0).unwrap();
    assert_eq!(wait(&mut pair[0]), (vec![], 1), "nothing any more");
    assert_eq!(wait(&mut pair[0]), (vec![], 0));
}

#[test]
fn an_event_that_nobody_asked_for_lists_nothing() {
    let mut pair = pair();
    let epoll = pair[0].epoll_create(0).unwrap();
    let fd = datagrams(&mut pair[0], 5_000);
    let event = EpollEvent { events: libc::EPOLLOUT as u32 | EDGE, data: 1 };
    pair[0].epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, Some(event)).unwrap();
    assert_eq!(pair[0].epoll_wait(epoll, 8).unwrap().len(), 1);
    let far = datagrams(&mut pair[1], 9);
    send(&mut pair[1], far, 5_000);
    exchange(&mut pair);
    let (found, looks) = looks_of(&mut pair[0], |sockets| sockets.epoll_wait(epoll, 8));
    assert_eq!((found, looks), (Ok(vec![]), 0), "what comes does not make it writable anew");
}
