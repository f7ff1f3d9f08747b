//! Datagram sockets.

use std::io::{IoSlice, IoSliceMut};

use ringwire::DropReason;
use ringwire::posix::{EpollEvent, PollFd};

use super::*;

fn datagram(sockets: &mut Sockets) -> Fd {
    sockets.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap()
}

fn send_to(sockets: &mut Sockets, fd: Fd, bytes: &[u8], to: (Ipv4Addr, u16)) -> Result<usize, Errno> {
    sockets.send(fd, &[IoSlice::new(bytes)], 0, Some(SocketAddrV4::new(to.0, to.1)))
}

/// A socket on `b`, port 53, and one on `a`.
fn pair(net: &mut Net) -> (Fd, Fd) {
    let there = datagram(&mut net.b.sockets);
    net.b.sockets.bind(there, at(B, 53)).unwrap();
    (datagram(&mut net.a), there)
}

#[test]
fn a_question_and_its_answer() {
    let mut net = Net::new();
    let (here, there) = pair(&mut net);
    assert_eq!(read(&mut net.a, here), Err(Errno::AGAIN));
    assert_eq!(send_to(&mut net.a, here, b"question", (B, 53)), Ok(8));
    let port = net.a.local_addr(here).unwrap().port();
    assert!(port >= 32_768);
    net.settle();
    let mut buf = [0; 64];
    let found = net.b.sockets.recv(there, &mut [IoSliceMut::new(&mut buf)], 0).unwrap();
    assert_eq!((&buf[..found.len], found.from), (&b"question"[..], Some(SocketAddrV4::new(A, port))));
    send_to(&mut net.b.sockets, there, b"answer", (A, port)).unwrap();
    let (found, _) = net.wait(call::recv(here, &mut buf, 0)).unwrap();
    assert_eq!(&buf[..found.len], b"answer");
}

#[test]
fn a_datagram_is_one_piece() {
    let mut net = Net::new();
    let (here, there) = pair(&mut net);
    send_to(&mut net.a, here, b"first, long", (B, 53)).unwrap();
    let parts = [IoSlice::new(b"sec"), IoSlice::new(b"ond")];
    net.a.send(here, &parts, 0, Some(SocketAddrV4::new(B, 53))).unwrap();
    send_to(&mut net.a, here, b"", (B, 53)).unwrap();
    net.settle();
    let b = &mut net.b.sockets;
    assert_eq!(b.ioctl(there, libc::FIONREAD), Ok(ringwire::posix::Ioctl::Get(11)));
    let (mut two, mut three) = ([0; 2], [0; 3]);
    let mut bufs = [IoSliceMut::new(&mut two), IoSliceMut::new(&mut three)];
    let found = b.recv(there, &mut bufs, libc::MSG_PEEK | libc::MSG_TRUNC).unwrap();
    assert_eq!((found.len, found.flags), (11, libc::MSG_TRUNC), "its real length");
    let found = b.recv(there, &mut bufs, 0).unwrap();
    assert_eq!((found.len, found.flags), (5, libc::MSG_TRUNC));
    assert_eq!((&two, &three), (b"fi", b"rst"));
    assert_eq!(read(b, there), Ok(b"second".to_vec()), "the rest of the first is gone");
    assert_eq!(read(b, there), Ok(vec![]), "an empty one is one too");
    assert_eq!(read(b, there), Err(Errno::AGAIN));
}

#[test]
fn connected_it_has_a_peer_and_hears_nobody_else() {
    let mut net = Net::new();
    let (here, there) = pair(&mut net);
    assert_eq!(write(&mut net.a, here, b"x"), Err(Errno::DESTADDRREQ));
    assert_eq!(net.a.peer_addr(here), Err(Errno::NOTCONN));
    assert_eq!(net.a.shutdown(here, libc::SHUT_RD), Err(Errno::NOTCONN));
    net.a.connect(here, at(B, 53)).unwrap();
    assert_eq!(net.a.peer_addr(here), Ok(SocketAddrV4::new(B, 53)));
    let local = net.a.local_addr(here).unwrap();
    assert_eq!(*local.ip(), A);
    assert_eq!(write(&mut net.a, here, b"x"), Ok(1));
    let stranger = datagram(&mut net.b.sockets);
    send_to(&mut net.b.sockets, stranger, b"not for you", (A, local.port())).unwrap();
    send_to(&mut net.b.sockets, there, b"for you", (A, local.port())).unwrap();
    net.settle();
    assert_eq!(read(&mut net.a, here), Ok(b"for you".to_vec()));
    assert_eq!(read(&mut net.a, here), Err(Errno::AGAIN));
    net.a.connect(here, Named::Unspecified).unwrap();
    assert_eq!(net.a.peer_addr(here), Err(Errno::NOTCONN));
    assert_eq!(net.a.local_addr(here).map(|local| local.port()), Ok(0), "the port was nobody's wish");
    net.a.bind(here, at(A, 77)).unwrap();
    net.a.connect(here, at(B, 53)).unwrap();
    net.a.connect(here, Named::Unspecified).unwrap();
    send_to(&mut net.b.sockets, stranger, b"now", (A, 77)).unwrap();
    net.settle();
    assert_eq!(read(&mut net.a, here), Ok(b"now".to_vec()), "this one was");
}

#[test]
fn refused_is_said_once_to_a_connected_socket() {
    let mut net = Net::new();
    let here = datagram(&mut net.a);
    net.a.connect(here, at(B, 54)).unwrap();
    write(&mut net.a, here, b"anybody?").unwrap();
    net.settle();
    let mut fds = [PollFd { fd: here, events: libc::POLLIN, revents: 0 }];
    assert_eq!(net.a.poll(&mut fds), 1);
    assert_eq!(fds[0].revents, libc::POLLERR);
    assert_eq!(read(&mut net.a, here), Err(Errno::CONNREFUSED));
    assert_eq!(read(&mut net.a, here), Err(Errno::AGAIN));
    write(&mut net.a, here, b"anybody?").unwrap();
    net.settle();
    assert_eq!(so_error(&mut net.a, here), libc::ECONNREFUSED);
    assert_eq!(so_error(&mut net.a, here), 0);
}

#[test]
fn what_cannot_be_done() {
    let mut net = Net::new();
    let (here, there) = pair(&mut net);
    assert_eq!(send_to(&mut net.a, here, &[0; 1473], (B, 53)), Err(Errno::MSGSIZE));
    assert_eq!(send_to(&mut net.a, here, b"x", (B, 0)), Err(Errno::INVAL));
    assert_eq!(send_to(&mut net.a, here, b"x", (Ipv4Addr::new(192, 0, 2, 1), 1)), Err(Errno::NETUNREACH));
    assert_eq!(net.a.connect(here, at(Ipv4Addr::new(192, 0, 2, 1), 1)), Err(Errno::NETUNREACH));
    assert_eq!(net.a.listen(here, 1), Err(Errno::OPNOTSUPP));
    assert_eq!(net.a.accept(here, Mode::Blocking), Err(Errno::OPNOTSUPP));
    assert_eq!(net.b.sockets.bind(there, at(B, 55)), Err(Errno::INVAL));
    let other = datagram(&mut net.b.sockets);
    assert_eq!(net.b.sockets.bind(other, at(B, 53)), Err(Errno::ADDRINUSE));
    assert_eq!(set_int(&mut net.a, here, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1), Err(Errno::NOPROTOOPT));
    assert_eq!(int_option(&mut net.a, here, libc::SOL_SOCKET, libc::SO_TYPE), libc::SOCK_DGRAM);
    net.b.sockets.close(there).unwrap();
    assert_eq!(net.b.sockets.bind(other, at(B, 53)), Ok(()), "free again");
}

#[test]
fn the_time_for_a_read_is_over() {
    let mut net = Net::new();
    let (here, _) = pair(&mut net);
    set_timeout(&mut net.a, here, libc::SO_RCVTIMEO, (1, 0));
    let start = net.now_ns();
    assert_eq!(net.wait(call::recv(here, [0; 8], 0)), Err(Errno::AGAIN));
    assert!(net.now_ns() - start >= SECOND_NS);
}

/// Linux: first what ICMP has said, then what came before. As much as a queue in the worker takes outlives it, and the rest counts as lost.
#[test]
fn what_is_unread_and_an_error_outlive_a_new_peer() {
    const COUNT: u16 = 1024;
    let mut net = Net::new();
    let (here, there) = pair(&mut net);
    net.a.connect(here, at(B, 53)).unwrap();
    let local = net.a.local_addr(here).unwrap();
    for nth in 0..COUNT + 6 {
        if nth == 10 {
            net.settle();
            net.a.connect(here, at(B, 53)).unwrap();
        }
        send_to(&mut net.b.sockets, there, &nth.to_be_bytes(), (A, local.port())).unwrap();
        if nth % 32 == 0 {
            net.settle();
        }
    }
    net.settle();
    net.b.sockets.close(there).unwrap();
    write(&mut net.a, here, b"anybody?").unwrap();
    net.settle();
    net.a.connect(here, at(B, 54)).unwrap();
    assert_eq!(read(&mut net.a, here), Err(Errno::CONNREFUSED));
    for nth in 0..COUNT {
        assert_eq!(read(&mut net.a, here), Ok(nth.to_be_bytes().to_vec()));
    }
    assert_eq!(read(&mut net.a, here), Err(Errno::AGAIN));
    net.settle();
    let drops = net.engine.metrics().drops;
    let lost = drops.iter().find(|(reason, _)| *reason == DropReason::UdpQueueFull);
    assert_eq!(lost.map(|(_, count)| *count), Some(6));
}

/// A new peer between the arrival and its announcement.
#[test]
fn an_edge_tells_of_what_came_before_a_new_peer() {
    for then in [at(B, 53), Named::Unspecified] {
        let mut net = Net::new();
        let (here, there) = pair(&mut net);
        net.a.connect(here, at(B, 53)).unwrap();
        let local = net.a.local_addr(here).unwrap();
        let epoll = net.a.epoll_create(0).unwrap();
        let event = EpollEvent { events: (libc::EPOLLIN | libc::EPOLLET) as u32, data: 7 };
        net.a.epoll_ctl(epoll, libc::EPOLL_CTL_ADD, here, Some(event)).unwrap();
        for word in [b"one", b"two"] {
            send_to(&mut net.b.sockets, there, word, (A, local.port())).unwrap();
        }
        net.settle();
        assert_eq!(net.a.epoll_wait(epoll, 8).unwrap().len(), 1);
        net.a.connect(here, then).unwrap();
        assert_eq!(net.a.epoll_wait(epoll, 8).unwrap().len(), 1, "an edge of its own");
        assert_eq!(read(&mut net.a, here), Ok(b"one".to_vec()));
        assert_eq!(read(&mut net.a, here), Ok(b"two".to_vec()));
    }
}
