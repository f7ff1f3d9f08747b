//! The engine stops while calls wait, in real time.

use std::sync::mpsc::channel;

use ringwire::posix::EpollEvent;
use ringwire::posix::call::RealTime;

use super::*;

/// A listener and a datagram socket of an engine that is about to stop.
fn about_to_stop(then: fn(&mut Sockets, Fd, Fd)) {
    let (started, is_started) = channel();
    let (finished, is_finished) = channel();
    let host = std::thread::spawn(move || {
        let side = |address: Ipv4Addr| {
            let interface = Interface::new("memory").address(format!("{address}/24").parse().unwrap());
            Engine::builder().interface(interface)
        };
        let (engine, _other) = Engine::memory_pair(side(A), side(B)).unwrap();
        started.send(engine.handle()).unwrap();
        let worker = engine.into_workers().remove(0).start();
        let mut sockets = Sockets::new(worker, Box::new(LowestFree::new(3, 64)), TcpOptions::default());
        let listener = sockets.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        sockets.bind(listener, at(A, PORT)).unwrap();
        sockets.listen(listener, 1).unwrap();
        let datagrams = sockets.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        sockets.bind(datagrams, at(A, PORT)).unwrap();
        then(&mut sockets, listener, datagrams);
        finished.send(()).unwrap();
    });
    let handle = is_started.recv().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    handle.stop();
    let in_time = is_finished.recv_timeout(Duration::from_secs(10));
    assert!(in_time.is_ok(), "the call waits for ever, or its thread has failed");
    host.join().unwrap();
}

#[test]
fn accept_ends() {
    about_to_stop(|sockets, listener, _| {
        let accepted = call::wait(sockets, &mut RealTime, call::accept(listener, Mode::Blocking));
        assert_eq!(accepted.flatten(), Err(Errno::SHUTDOWN));
        assert_eq!(sockets.close(listener), Ok(()));
    });
}

#[test]
fn a_read_of_datagrams_ends() {
    about_to_stop(|sockets, _, datagrams| {
        let received = call::wait(sockets, &mut RealTime, call::recv(datagrams, [0; 4], 0));
        assert_eq!(received.flatten().unwrap_err(), Errno::SHUTDOWN);
    });
}

#[test]
fn epoll_reports_everybody_s_end() {
    about_to_stop(|sockets, listener, datagrams| {
        let epoll = sockets.epoll_create(0).unwrap();
        for fd in [listener, datagrams] {
            let event = EpollEvent { events: libc::EPOLLET as u32 | libc::EPOLLIN as u32, data: fd as u64 };
            sockets.epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, Some(event)).unwrap();
        }
        let found = call::wait(sockets, &mut RealTime, call::epoll_wait(epoll, 8, -1)).flatten().unwrap();
        let is_over = |event: &EpollEvent| event.events & libc::EPOLLERR as u32 != 0;
        assert_eq!(found.iter().filter(|event| is_over(event)).count(), 2, "{found:?}");
    });
}

#[test]
fn an_epoll_that_watches_nobody_ends() {
    about_to_stop(|sockets, _, _| {
        let epoll = sockets.epoll_create(0).unwrap();
        let found = call::wait(sockets, &mut RealTime, call::epoll_wait(epoll, 8, -1));
        assert_eq!(found.flatten(), Err(Errno::SHUTDOWN));
    });
}

#[test]
fn a_connect_after_the_end_says_so() {
    about_to_stop(|sockets, listener, _| {
        let accepted = call::wait(sockets, &mut RealTime, call::accept(listener, Mode::Blocking));
        assert_eq!(accepted.flatten(), Err(Errno::SHUTDOWN));
        let client = sockets.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        assert_eq!(sockets.connect(client, at(B, PORT)), Err(Errno::SHUTDOWN));
    });
}
