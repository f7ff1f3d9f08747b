//! `poll` and `epoll`.

use ringwire::posix::{EpollEvent, PollFd};

use super::*;

const IN: i16 = libc::POLLIN;
const OUT: i16 = libc::POLLOUT;
const EIN: u32 = libc::EPOLLIN as u32;
const EOUT: u32 = libc::EPOLLOUT as u32;
const EDGE: u32 = libc::EPOLLET as u32;

fn polled(sockets: &mut Sockets, fd: Fd, events: i16) -> i16 {
    let mut fds = [PollFd { fd, events, revents: 0 }];
    let count = sockets.poll(&mut fds);
    assert_eq!(count, usize::from(fds[0].revents != 0));
    fds[0].revents
}

#[test]
fn poll_says_what_linux_says_in_every_state() {
    const ALL: i16 = IN | OUT | libc::POLLRDHUP;
    let mut net = Net::new();
    let server = net.server();
    let client = net.stream();
    assert_eq!(polled(&mut net.a, client, ALL), OUT | libc::POLLHUP);
    assert_eq!(polled(&mut net.b.sockets, server, ALL), 0);
    make_nonblocking(&mut net.a, client);
    let _ = net.a.connect(client, at(B, PORT));
    assert_eq!(polled(&mut net.a, client, ALL), 0, "connecting");
    net.settle();
    assert_eq!(polled(&mut net.a, client, ALL), OUT);
    assert_eq!(polled(&mut net.b.sockets, server, ALL), IN);
    let (accepted, _) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    assert_eq!(polled(&mut net.b.sockets, server, ALL), 0);
    write(&mut net.a, client, b"x").unwrap();
    net.settle();
    assert_eq!(polled(&mut net.b.sockets, accepted, ALL), IN | OUT);
    assert_eq!(polled(&mut net.b.sockets, accepted, IN), IN);
    read(&mut net.b.sockets, accepted).unwrap();
    assert_eq!(polled(&mut net.b.sockets, accepted, ALL), OUT, "read to the last byte");
    net.a.shutdown(client, libc::SHUT_WR).unwrap();
    net.settle();
    assert_eq!(polled(&mut net.b.sockets, accepted, ALL), IN | OUT | libc::POLLRDHUP);
    net.b.sockets.shutdown(accepted, libc::SHUT_WR).unwrap();
    net.settle();
    assert_eq!(polled(&mut net.a, client, ALL), IN | OUT | libc::POLLRDHUP | libc::POLLHUP);
}

#[test]
fn poll_says_error_and_hang_up_after_a_refusal() {
    let mut net = Net::new();
    let client = net.stream();
    let _ = net.a.connect(client, at(B, 81));
    net.settle();
    assert_eq!(polled(&mut net.a, client, IN | OUT), IN | OUT | libc::POLLERR | libc::POLLHUP);
    assert_eq!(polled(&mut net.a, client, 0), libc::POLLERR | libc::POLLHUP, "asked for or not");
    so_error(&mut net.a, client);
    assert_eq!(polled(&mut net.a, client, 0), libc::POLLHUP);
}

#[test]
fn poll_passes_over_negative_numbers_and_marks_foreign_ones() {
    let mut net = Net::new();
    let mut fds = [-1, 50].map(|fd| PollFd { fd, events: IN, revents: 99 });
    assert_eq!(net.a.poll(&mut fds), 1);
    assert_eq!((fds[0].revents, fds[1].revents), (0, libc::POLLNVAL));
}

#[test]
fn a_full_send_buffer_is_not_writable() {
    let mut net = Net::new();
    let (client, _server) = net.connection();
    set_int(&mut net.a, client, libc::SOL_SOCKET, libc::SO_SNDBUF, 4_000).unwrap();
    write(&mut net.a, client, &[0; 30_000]).unwrap();
    assert_eq!(polled(&mut net.a, client, OUT), 0);
    net.pass(Duration::from_millis(500));
    assert_eq!(polled(&mut net.a, client, OUT), OUT);
}

/// TCP_NOTSENT_LOWAT: what may leave at once, and the mark. There is room again when half of the mark is left.
#[test]
fn what_waits_for_the_window_can_be_bounded() {
    let mut net = Net::new();
    let (client, _server) = net.connection();
    let low_water = (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT);
    assert_eq!(int_option(&mut net.a, client, low_water.0, low_water.1), 0);
    set_int(&mut net.a, client, low_water.0, low_water.1, 20_000).unwrap();
    assert_eq!(int_option(&mut net.a, client, low_water.0, low_water.1), 20_000);
    let epoll = epoll_of(&mut net.a, client, EOUT | EDGE);
    assert_eq!(net.a.epoll_wait(epoll, 8).unwrap().len(), 1);
    // Ten segments with timestamps leave at once. What then waits is more than half of the mark, though the write was whole.
    assert_eq!(write(&mut net.a, client, &[0; 14_480 + 15_000]), Ok(14_480 + 15_000));
    assert_eq!((polled(&mut net.a, client, OUT), net.a.epoll_wait(epoll, 8)), (0, Ok(vec![])));
    assert_eq!(write(&mut net.a, client, &[0; 100_000]), Ok(5_000));
    assert_eq!(write(&mut net.a, client, &[0; 1]), Err(Errno::AGAIN));
    net.pass(Duration::from_millis(500));
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![EpollEvent { events: EOUT, data: 7 }]));
    assert_eq!(polled(&mut net.a, client, OUT), OUT);
    // Linux: who waits looks again after a change, and none is the default.
    set_int(&mut net.a, client, low_water.0, low_water.1, 1).unwrap();
    write(&mut net.a, client, &[0; 200_000]).unwrap();
    assert_eq!((polled(&mut net.a, client, OUT), net.a.epoll_wait(epoll, 8)), (0, Ok(vec![])));
    set_int(&mut net.a, client, low_water.0, low_water.1, 0).unwrap();
    assert_eq!(polled(&mut net.a, client, OUT), OUT);
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![EpollEvent { events: EOUT, data: 7 }]));
}

#[test]
fn a_call_that_does_not_wait_sees_what_has_come() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let epoll = net.a.epoll_create(0).unwrap();
    set_int(&mut net.b.sockets, server, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1).unwrap();
    let event = EpollEvent { events: libc::EPOLLIN as u32, data: 7 };
    net.a.epoll_ctl(epoll, libc::EPOLL_CTL_ADD, client, Some(event)).unwrap();
    write(&mut net.b.sockets, server, b"news").unwrap();
    let found = net.wait(call::epoll_wait(epoll, 8, 0)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(read(&mut net.a, client), Ok(b"news".to_vec()));
    write(&mut net.b.sockets, server, b"more").unwrap();
    let (found, _) = net.wait(call::recv(client, [0; 8], libc::MSG_DONTWAIT)).unwrap();
    assert_eq!(found.len, 4);
}

#[test]
fn a_time_to_wait_begins_with_the_call() {
    let mut net = Net::new();
    let (client, _server) = net.connection();
    set_timeout(&mut net.a, client, libc::SO_RCVTIMEO, (1, 0));
    // Nobody has turned the worker for longer than that.
    net.b.hand.advance(Duration::from_secs(10));
    let start_ns = net.now_ns();
    let nothing = net.wait(call::recv(client, [0; 8], 0));
    assert_eq!(nothing.unwrap_err(), Errno::AGAIN);
    let waited_ms = (net.now_ns() - start_ns) / 1_000_000;
    assert!((1_000..1_010).contains(&waited_ms), "{waited_ms}");
}

#[test]
fn poll_waits_as_long_as_it_is_told() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let fds = vec![PollFd { fd: client, events: IN, revents: 0 }];
    let start = net.now_ns();
    let (found, count) = net.wait(call::poll(fds.clone(), 250));
    assert_eq!((count, found[0].revents), (0, 0));
    let waited_ms = (net.now_ns() - start) / 1_000_000;
    assert!((250..260).contains(&waited_ms), "{waited_ms}");
    write(&mut net.b.sockets, server, b"x").unwrap();
    let (found, count) = net.wait(call::poll(fds, -1));
    assert_eq!((count, found[0].revents), (1, IN));
}

fn epoll_of(sockets: &mut Sockets, fd: Fd, events: u32) -> Fd {
    let epoll = sockets.epoll_create(0).unwrap();
    sockets.epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, Some(EpollEvent { events, data: 7 })).unwrap();
    epoll
}

#[test]
fn epoll_by_level_reports_until_it_is_read() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let epoll = epoll_of(&mut net.a, client, EIN);
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![]));
    write(&mut net.b.sockets, server, b"x").unwrap();
    let found = vec![EpollEvent { events: EIN, data: 7 }];
    assert_eq!(net.wait(call::epoll_wait(epoll, 8, -1)), Ok(found.clone()));
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(found));
    assert_eq!(polled(&mut net.a, epoll, IN), IN, "the epoll itself can be polled");
    read(&mut net.a, client).unwrap();
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![]));
    assert_eq!(net.wait(call::epoll_wait(epoll, 8, 100)), Ok(vec![]));
}

#[test]
fn epoll_by_edge_reports_each_arrival_once() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let epoll = epoll_of(&mut net.a, client, EIN | EOUT | EDGE);
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![EpollEvent { events: EOUT, data: 7 }]));
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![]));
    for _ in 0..2 {
        write(&mut net.b.sockets, server, b"x").unwrap();
        net.pass(Duration::from_millis(100));
        assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![EpollEvent { events: EIN | EOUT, data: 7 }]));
        assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![]));
    }
}

#[test]
fn epoll_once_reports_once_until_it_is_armed_again() {
    let mut net = Net::new();
    let (client, _) = net.connection();
    let wanted = EpollEvent { events: EOUT | libc::EPOLLONESHOT as u32, data: 1 };
    let epoll = epoll_of(&mut net.a, client, wanted.events);
    assert_eq!(net.a.epoll_wait(epoll, 8).unwrap().len(), 1);
    assert_eq!(net.a.epoll_wait(epoll, 8).unwrap().len(), 0);
    net.a.epoll_ctl(epoll, libc::EPOLL_CTL_MOD, client, Some(wanted)).unwrap();
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![EpollEvent { events: EOUT, data: 1 }]));
}

#[test]
fn epoll_starves_nobody() {
    let mut net = Net::new();
    let server = net.server();
    let clients = [net.connect_to(server).0, net.connect_to(server).0, net.connect_to(server).0];
    let epoll = net.a.epoll_create(0).unwrap();
    for (data, fd) in (0..).zip(clients) {
        let event = Some(EpollEvent { events: EOUT, data });
        net.a.epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, event).unwrap();
    }
    let order: Vec<u64> = (0..6).map(|_| net.a.epoll_wait(epoll, 1).unwrap()[0].data).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn epoll_refuses_what_makes_no_sense() {
    let mut net = Net::new();
    let (client, _) = net.connection();
    let epoll = epoll_of(&mut net.a, client, EIN);
    let event = Some(EpollEvent { events: EIN, data: 0 });
    let mut ctl = |epoll, operation, fd, event| net.a.epoll_ctl(epoll, operation, fd, event);
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_ADD, client, event), Err(Errno::EXIST));
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_ADD, 50, event), Err(Errno::BADF));
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_ADD, epoll, event), Err(Errno::INVAL));
    assert_eq!(ctl(client, libc::EPOLL_CTL_ADD, client, event), Err(Errno::INVAL));
    assert_eq!(ctl(epoll, 9, client, event), Err(Errno::INVAL));
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_MOD, client, None), Err(Errno::FAULT));
    let exclusive = Some(EpollEvent { events: EIN | libc::EPOLLEXCLUSIVE as u32, data: 0 });
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_MOD, client, exclusive), Err(Errno::INVAL));
    let strange = EpollEvent { events: EIN | 1 << 20, data: 0 };
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_MOD, client, Some(strange)), Ok(()), "Linux looks at no other bit");
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_DEL, client, None), Ok(()));
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_DEL, client, None), Err(Errno::NOENT));
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_MOD, client, event), Err(Errno::NOENT));
    assert_eq!(net.a.epoll_wait(epoll, 0), Err(Errno::INVAL));
    assert_eq!(net.a.epoll_wait(client, 1), Err(Errno::INVAL));
    assert_eq!(net.a.epoll_create(1), Err(Errno::INVAL));
    assert_eq!(read(&mut net.a, epoll), Err(Errno::NOTSOCK));
}

#[test]
fn an_epoll_that_was_closed_watches_nobody_even_under_its_number() {
    let mut net = Net::new();
    let client = net.stream();
    let epoll = net.a.epoll_create(0).unwrap();
    let event = EpollEvent { events: libc::EPOLLIN as u32, data: 1 };
    net.a.epoll_ctl(epoll, libc::EPOLL_CTL_ADD, client, Some(event)).unwrap();
    net.a.close(epoll).unwrap();
    assert_eq!(net.a.epoll_create(0), Ok(epoll));
    assert_eq!(net.a.epoll_ctl(epoll, libc::EPOLL_CTL_MOD, client, Some(event)), Err(Errno::NOENT));
    assert_eq!(net.a.epoll_ctl(epoll, libc::EPOLL_CTL_ADD, client, Some(event)), Ok(()));
    net.a.close(client).unwrap();
    assert_eq!(net.stream(), client);
    assert_eq!(net.a.epoll_ctl(epoll, libc::EPOLL_CTL_DEL, client, None), Err(Errno::NOENT));
}

#[test]
fn an_edge_is_what_was_asked_for() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let writable = epoll_of(&mut net.a, client, EOUT | EDGE);
    let hang_up = epoll_of(&mut net.a, client, libc::EPOLLRDHUP as u32 | EDGE);
    assert_eq!(net.a.epoll_wait(writable, 8).unwrap().len(), 1);
    write(&mut net.b.sockets, server, b"x").unwrap();
    net.pass(Duration::from_millis(100));
    assert_eq!(net.a.epoll_wait(writable, 8), Ok(vec![]), "text to read is no room to write");
    assert_eq!(net.a.epoll_wait(hang_up, 8), Ok(vec![]));
    net.b.sockets.shutdown(server, libc::SHUT_WR).unwrap();
    net.settle();
    assert_eq!(net.a.epoll_wait(writable, 8).unwrap().len(), 1, "an end wakes everybody");
    let found = vec![EpollEvent { events: libc::EPOLLRDHUP as u32, data: 7 }];
    assert_eq!(net.a.epoll_wait(hang_up, 8), Ok(found));
    assert_eq!(net.a.epoll_wait(hang_up, 8), Ok(vec![]));
}

#[test]
fn edges_tell_of_room_when_there_is_room_again() {
    let mut net = Net::new();
    let (client, _server) = net.connection();
    set_int(&mut net.a, client, libc::SOL_SOCKET, libc::SO_SNDBUF, 4_000).unwrap();
    let epoll = epoll_of(&mut net.a, client, EOUT | EDGE);
    assert_eq!(net.a.epoll_wait(epoll, 8).unwrap().len(), 1);
    write(&mut net.a, client, &[0; 30_000]).unwrap();
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![]));
    net.pass(Duration::from_millis(500));
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![EpollEvent { events: EOUT, data: 7 }]));
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![]));
}

#[test]
fn an_edge_tells_a_listener_of_each_connection() {
    let mut net = Net::new();
    let server = net.server();
    let epoll = epoll_of(&mut net.b.sockets, server, EIN | EDGE);
    for _ in 0..2 {
        let client = net.stream();
        net.wait(call::connect(client, at(B, PORT))).unwrap();
        net.settle();
        assert_eq!(net.b.sockets.epoll_wait(epoll, 8).unwrap().len(), 1);
        assert_eq!(net.b.sockets.epoll_wait(epoll, 8), Ok(vec![]));
    }
    net.b.sockets.shutdown(server, libc::SHUT_RD).unwrap();
    let found = vec![EpollEvent { events: libc::EPOLLHUP as u32, data: 7 }];
    assert_eq!(net.b.sockets.epoll_wait(epoll, 8), Ok(found), "asked for or not");
}

#[test]
fn an_epoll_within_an_epoll_is_ready_when_it_has_something() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let inner = epoll_of(&mut net.a, client, EIN);
    let by_level = epoll_of(&mut net.a, inner, EIN);
    let by_edge = epoll_of(&mut net.a, inner, EIN | EDGE);
    assert_eq!(net.a.epoll_wait(by_level, 8), Ok(vec![]));
    write(&mut net.b.sockets, server, b"x").unwrap();
    let found = vec![EpollEvent { events: EIN, data: 7 }];
    assert_eq!(net.wait(call::epoll_wait(by_level, 8, -1)), Ok(found.clone()));
    assert_eq!(net.a.epoll_wait(by_edge, 8), Ok(found.clone()));
    assert_eq!(net.a.epoll_wait(by_edge, 8), Ok(vec![]));
    assert_eq!(net.a.epoll_wait(inner, 8), Ok(found.clone()));
    assert_eq!(net.a.epoll_wait(by_level, 8), Ok(found), "it is still there");
    read(&mut net.a, client).unwrap();
    assert_eq!(net.a.epoll_wait(by_level, 8), Ok(vec![]));
    net.a.close(inner).unwrap();
    write(&mut net.b.sockets, server, b"y").unwrap();
    net.pass(Duration::from_millis(100));
    assert_eq!(net.a.epoll_wait(by_level, 8), Ok(vec![]), "closed");
}

#[test]
fn epolls_watch_neither_each_other_nor_too_deep() {
    let mut net = Net::new();
    let chain: Vec<Fd> = (0..6).map(|_| net.a.epoll_create(0).unwrap()).collect();
    let event = Some(EpollEvent { events: EIN, data: 0 });
    let mut add = |watcher: usize, watched: usize| {
        net.a.epoll_ctl(chain[watcher], libc::EPOLL_CTL_ADD, chain[watched], event)
    };
    for inner in 0..4 {
        assert_eq!(add(inner + 1, inner), Ok(()));
    }
    assert_eq!(add(5, 4), Err(Errno::LOOP), "one too many");
    assert_eq!(add(5, 3), Ok(()));
    assert_eq!(add(0, 4), Err(Errno::LOOP));
    assert_eq!(add(0, 1), Err(Errno::LOOP));
    assert_eq!(add(0, 0), Err(Errno::INVAL));
}

#[test]
fn one_of_those_who_wish_to_be_alone_is_woken() {
    const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
    let mut net = Net::new();
    let server = net.server();
    let b = &mut net.b.sockets;
    let alone = [0; 3].map(|_| epoll_of(b, server, EIN | EXCLUSIVE));
    let with_all = epoll_of(b, server, EIN);
    let mut waiting = alone.map(|epoll| call::epoll_wait(epoll, 8, -1));
    waiting.iter_mut().for_each(|attempt| assert!(matches!(attempt(b), Progress::Wait { .. })));
    let client = net.stream();
    net.wait(call::connect(client, at(B, PORT))).unwrap();
    net.settle();
    let b = &mut net.b.sockets;
    let woken =
        waiting.map(|mut attempt| matches!(attempt(b), Progress::Done(Ok(found)) if found.len() == 1));
    assert_eq!(woken, [true, false, false]);
    assert_eq!(b.epoll_wait(with_all, 8).unwrap().len(), 1);
    let mut ctl =
        |operation, events| b.epoll_ctl(alone[0], operation, server, Some(EpollEvent { events, data: 0 }));
    assert_eq!(ctl(libc::EPOLL_CTL_MOD, EIN), Err(Errno::INVAL), "exclusive once and for all");
    assert_eq!(ctl(libc::EPOLL_CTL_DEL, 0), Ok(()));
    let once = libc::EPOLLONESHOT as u32;
    assert_eq!(ctl(libc::EPOLL_CTL_ADD, EIN | EXCLUSIVE | once), Err(Errno::INVAL));
    assert_eq!(ctl(libc::EPOLL_CTL_ADD, EIN | EXCLUSIVE | EDGE), Ok(()));
}

#[test]
fn a_poll_keeps_its_files_and_finds_a_closed_number_with_the_next_news() {
    let mut net = Net::new();
    let server = net.server();
    let (closed, peer) = net.connect_to(server);
    let (other, other_peer) = net.connect_to(server);
    let mut polling =
        call::poll([closed, other].map(|fd| PollFd { fd, events: IN, revents: 0 }).to_vec(), 500);
    assert!(matches!(polling(&mut net.a), Progress::Wait { .. }));
    net.a.close(closed).unwrap();
    net.settle();
    assert!(matches!(polling(&mut net.a), Progress::Wait { .. }), "a close wakes nobody");
    assert_eq!(read(&mut net.b.sockets, peer), Err(Errno::AGAIN), "nor does it end what is polled");
    write(&mut net.b.sockets, other_peer, b"x").unwrap();
    net.settle();
    let Progress::Done((found, count)) = polling(&mut net.a) else { panic!("there is something to read") };
    assert_eq!((count, found[0].revents, found[1].revents), (2, libc::POLLNVAL, IN));
    net.settle();
    assert_eq!(read(&mut net.b.sockets, peer), Ok(vec![]));
}

#[test]
fn a_closed_descriptor_is_watched_no_more() {
    let mut net = Net::new();
    let (client, _) = net.connection();
    let epoll = epoll_of(&mut net.a, client, EOUT);
    net.a.close(client).unwrap();
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![]));
    let again = net.stream();
    assert_eq!(again, client, "the same number");
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![]));
}

/// Readable is what `SO_RCVLOWAT` asks for, or what there is when more might not come: a program that waits for its mark is not left waiting.
#[test]
fn a_mark_that_cannot_be_reached_is_not_waited_for() {
    const SOCKET: i32 = libc::SOL_SOCKET;
    let mut net = Net::new();
    let (client, server) = net.connection();
    let b = &mut net.b.sockets;
    set_int(b, server, SOCKET, libc::SO_RCVLOWAT, i32::MAX).unwrap();
    let mark = int_option(b, server, SOCKET, libc::SO_RCVLOWAT);
    let epoll = epoll_of(b, server, EIN | EDGE);
    set_int(&mut net.a, client, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1).unwrap();
    // Small pieces, of which no more than 1024 are taken.
    let mut written = 0;
    for nth in 0..1100 {
        written += write(&mut net.a, client, &[1; 100]).unwrap_or(0);
        net.settle();
        if nth == 500 {
            assert_eq!(net.b.sockets.epoll_wait(epoll, 8), Ok(vec![]), "far from the mark");
            assert_eq!(polled(&mut net.b.sockets, server, IN), 0);
        }
    }
    assert!(written < usize::try_from(mark).unwrap(), "{written} of {mark}");
    assert_eq!(net.b.sockets.epoll_wait(epoll, 8).unwrap().len(), 1);
    assert_eq!(polled(&mut net.b.sockets, server, IN), IN);
    // The buffer is made smaller: so is the mark, and what is there is enough.
    net.pass(Duration::from_secs(5));
    while read(&mut net.b.sockets, server).is_ok() {
        net.pass(Duration::from_secs(1));
    }
    write(&mut net.a, client, &[1; 3_000]).unwrap();
    net.settle();
    assert_eq!(net.b.sockets.epoll_wait(epoll, 8), Ok(vec![]));
    set_int(&mut net.b.sockets, server, SOCKET, libc::SO_RCVBUF, 4_000).unwrap();
    assert_eq!(int_option(&mut net.b.sockets, server, SOCKET, libc::SO_RCVLOWAT), 2_000);
    assert_eq!(net.b.sockets.epoll_wait(epoll, 8).unwrap().len(), 1, "told when it becomes so");
}

/// The same without window scaling, and with text that comes in whole segments; and the mark holds before.
#[test]
fn a_mark_is_reached_or_the_window_is_nearly_closed() {
    for window_scaling in [false, true] {
        let mut options = TcpOptions::default();
        options.window_scaling = window_scaling;
        let mut net = Net::with(options);
        let (client, server) = net.connection();
        let b = &mut net.b.sockets;
        set_int(b, server, libc::SOL_SOCKET, libc::SO_RCVLOWAT, i32::MAX).unwrap();
        let mark = int_option(b, server, libc::SOL_SOCKET, libc::SO_RCVLOWAT);
        let mut written = 0;
        while polled(&mut net.b.sockets, server, IN) == 0 {
            written += write(&mut net.a, client, &[1; 4_000]).unwrap_or(0);
            let before = net.b.sockets.ioctl(server, libc::FIONREAD);
            net.pass(Duration::from_millis(50));
            assert_ne!(net.b.sockets.ioctl(server, libc::FIONREAD), before, "it stands still at {written}");
        }
        assert!(written > 60_000 && written < usize::try_from(mark).unwrap() + 70_000, "{written}");
    }
}

#[test]
fn a_connect_that_fails_at_once_is_an_edge() {
    let mut net = Net::new();
    let client = net.stream();
    make_nonblocking(&mut net.a, client);
    let epoll = epoll_of(&mut net.a, client, EIN | EOUT | EDGE);
    assert_eq!(net.a.epoll_wait(epoll, 8).unwrap().len(), 1, "a new socket");
    assert_eq!(net.a.epoll_wait(epoll, 8), Ok(vec![]));
    assert_eq!(net.a.connect(client, at(B, 0)), Err(Errno::INPROGRESS));
    let found = net.a.epoll_wait(epoll, 8).unwrap();
    assert_ne!(found.first().map_or(0, |event| event.events & libc::EPOLLERR as u32), 0, "{found:?}");
    assert_eq!(so_error(&mut net.a, client), libc::ECONNREFUSED);
}
