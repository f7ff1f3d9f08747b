//! What calls say to what makes no sense.

use super::*;

#[test]
fn a_number_that_is_no_descriptor() {
    let mut net = Net::new();
    let a = &mut net.a;
    for fd in [-1, 0, 63, 1_000] {
        assert_eq!(a.bind(fd, at(A, 1)), Err(Errno::BADF));
        assert_eq!(a.listen(fd, 1), Err(Errno::BADF));
        assert_eq!(a.accept(fd, Mode::Blocking), Err(Errno::BADF));
        assert_eq!(a.connect(fd, at(B, 1)), Err(Errno::BADF));
        assert_eq!(read(a, fd), Err(Errno::BADF));
        assert_eq!(write(a, fd, b"x"), Err(Errno::BADF));
        assert_eq!(a.shutdown(fd, libc::SHUT_RD), Err(Errno::BADF));
        assert_eq!(a.close(fd), Err(Errno::BADF));
        assert_eq!(a.fcntl(fd, libc::F_GETFL, 0), Err(Errno::BADF));
        assert_eq!(a.ioctl(fd, libc::FIONREAD), Err(Errno::BADF));
        assert_eq!(a.local_addr(fd), Err(Errno::BADF));
        assert_eq!(a.peer_addr(fd), Err(Errno::BADF));
        assert_eq!(a.option(fd, libc::SOL_SOCKET, libc::SO_ERROR), Err(Errno::BADF));
        assert_eq!(set_int(a, fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1), Err(Errno::BADF));
    }
    let fd = net.stream();
    assert_eq!(net.a.close(fd), Ok(()));
    assert_eq!(net.a.close(fd), Err(Errno::BADF), "closed twice");
    assert_eq!(net.stream(), fd, "the lowest number");
}

#[test]
fn sockets_that_are_not_offered() {
    let mut net = Net::new();
    let mut socket = |domain, kind, protocol| net.a.socket(domain, kind, protocol);
    assert_eq!(socket(libc::AF_INET6, libc::SOCK_STREAM, 0), Err(Errno::AFNOSUPPORT));
    assert_eq!(socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP), Err(Errno::SOCKTNOSUPPORT));
    assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_UDP), Err(Errno::PROTONOSUPPORT));
    assert_eq!(socket(libc::AF_INET, 77, 0), Err(Errno::INVAL));
}

#[test]
fn too_many_descriptors() {
    let mut net = Net::new();
    let server = net.server();
    let client = net.stream();
    net.wait(call::connect(client, at(B, PORT))).unwrap();
    net.settle();
    let b = &mut net.b.sockets;
    let mut last = None;
    while let Ok(fd) = b.socket(libc::AF_INET, libc::SOCK_STREAM, 0) {
        last = Some(fd);
    }
    assert_eq!(b.socket(libc::AF_INET, libc::SOCK_STREAM, 0), Err(Errno::MFILE));
    assert_eq!(b.accept(server, Mode::Blocking), Err(Errno::MFILE));
    b.close(last.unwrap()).unwrap();
    assert!(b.accept(server, Mode::Blocking).is_ok(), "the connection has waited");
}

#[test]
fn calls_in_the_wrong_state() {
    let mut net = Net::new();
    let fresh = net.stream();
    let a = &mut net.a;
    assert_eq!(read(a, fresh), Err(Errno::NOTCONN));
    assert_eq!(write(a, fresh, b"x"), Err(Errno::PIPE));
    assert_eq!(a.shutdown(fresh, libc::SHUT_WR), Err(Errno::NOTCONN));
    assert_eq!(a.shutdown(fresh, 3), Err(Errno::INVAL));
    assert_eq!(a.accept(fresh, Mode::Blocking), Err(Errno::INVAL));
    let (client, server) = net.connection();
    assert_eq!(net.a.connect(client, at(B, PORT)), Err(Errno::ISCONN));
    assert_eq!(net.a.bind(client, at(A, 99)), Err(Errno::INVAL));
    assert_eq!(net.a.listen(client, 1), Err(Errno::INVAL));
    assert_eq!(net.b.sockets.accept(server, Mode::Blocking), Err(Errno::INVAL));
    let listening = net.server();
    let b = &mut net.b.sockets;
    assert_eq!(read(b, listening), Err(Errno::NOTCONN));
    assert_eq!(write(b, listening, b"x"), Err(Errno::PIPE));
    assert_eq!(b.connect(listening, at(A, 1)), Err(Errno::ISCONN));
    assert_eq!(b.ioctl(listening, libc::FIONREAD), Err(Errno::INVAL));
    assert_eq!(b.ioctl(server, 0x1234), Err(Errno::NOTTY));
    assert_eq!(b.fcntl(server, libc::F_SETFL, libc::O_ASYNC.into()), Err(Errno::INVAL));
    assert_eq!(b.fcntl(server, libc::F_DUPFD, 0), Err(Errno::INVAL));
}

#[test]
fn addresses_that_cannot_be_used() {
    let mut net = Net::new();
    let fd = net.stream();
    let elsewhere = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(net.a.bind(fd, at(elsewhere, 80)), Err(Errno::ADDRNOTAVAIL));
    assert_eq!(net.a.connect(fd, at(elsewhere, 80)), Err(Errno::NETUNREACH));
    assert_eq!(net.a.connect(fd, at(Ipv4Addr::BROADCAST, 80)), Err(Errno::NETUNREACH));
    assert_eq!(net.wait(call::connect(fd, at(B, 0))), Err(Errno::CONNREFUSED));
    assert_eq!(net.a.bind(fd, at(A, 80)), Ok(()), "none of that has harmed the socket");
    assert_eq!(net.a.bind(fd, at(A, 81)), Err(Errno::INVAL), "bound already");
}

#[test]
fn an_address_has_one_owner() {
    let mut net = Net::new();
    let (first, second, third) = (net.stream(), net.stream(), net.stream());
    net.a.bind(first, at(Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
    assert_eq!(net.a.bind(second, at(A, PORT)), Err(Errno::ADDRINUSE));
    set_int(&mut net.a, second, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
    assert_eq!(net.a.bind(second, at(A, PORT)), Err(Errno::ADDRINUSE), "both must agree");
    set_int(&mut net.a, first, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
    assert_eq!(net.a.bind(second, at(A, PORT)), Ok(()));
    net.a.listen(first, 1).unwrap();
    set_int(&mut net.a, third, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
    assert_eq!(net.a.bind(third, at(A, PORT)), Err(Errno::ADDRINUSE), "nobody joins a listener");
}

#[test]
fn of_two_who_share_an_address_one_listens() {
    let mut net = Net::new();
    let [first, second] = [Ipv4Addr::UNSPECIFIED, A].map(|ip| {
        let fd = net.stream();
        set_int(&mut net.a, fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
        net.a.bind(fd, at(ip, PORT)).unwrap();
        fd
    });
    assert_eq!(net.a.listen(first, 1), Ok(()));
    assert_eq!(net.a.listen(second, 1), Err(Errno::ADDRINUSE));
    net.a.close(first).unwrap();
    assert_eq!(net.a.listen(second, 1), Ok(()));
}

#[test]
fn a_connection_stands_on_its_port_as_long_as_it_lives() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let local = net.a.local_addr(client).unwrap();
    let other = net.stream();
    set_int(&mut net.a, other, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
    assert_eq!(net.a.bind(other, Named::Inet(local)), Err(Errno::ADDRINUSE), "the client has not agreed");
    set_linger(&mut net.b.sockets, server, 0);
    net.b.sockets.close(server).unwrap();
    net.settle();
    assert_eq!(net.a.bind(other, Named::Inet(local)), Ok(()), "reset, though not closed yet");
    assert_eq!(net.a.local_addr(client), Ok(local), "its address is still known");
}

/// Opens to one place take ports in a row, so that the next one is known.
#[test]
fn a_connect_is_not_given_the_port_that_another_socket_is_bound_to() {
    let mut net = Net::new();
    let server = net.server();
    let next_port = |net: &mut Net| {
        let (client, _) = net.connect_to(server);
        let port = net.a.local_addr(client).unwrap().port();
        port.checked_add(1).expect("the key of the test's hosts leads elsewhere")
    };
    let expected = next_port(&mut net);
    assert_eq!(next_port(&mut net), expected + 1, "in a row");
    let [first, second] = [0; 2].map(|_| net.stream());
    for fd in [first, second] {
        set_int(&mut net.a, fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
        net.a.bind(fd, at(A, expected + 1)).unwrap();
    }
    net.a.close(first).unwrap();
    net.settle();
    assert_eq!(next_port(&mut net), expected + 3, "one is still bound");
    assert_eq!(net.a.listen(second, 1), Ok(()));
    net.a.close(second).unwrap();
    let third = net.stream();
    net.a.bind(third, at(A, expected + 3)).unwrap();
    net.a.close(third).unwrap();
    net.settle();
    assert_eq!(next_port(&mut net), expected + 4, "free again");
}

#[test]
fn bound_anew_it_stands_elsewhere() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    set_linger(&mut net.b.sockets, server, 0);
    net.b.sockets.close(server).unwrap();
    net.settle();
    net.a.bind(client, at(A, 4_000)).unwrap();
    assert_eq!(net.a.local_addr(client), Ok(SocketAddrV4::new(A, 4_000)));
}

#[test]
fn free_ports_are_found_among_thousands_and_not_in_a_row() {
    let mut net = Net::new();
    let mut last = net.stream();
    let mut ports = std::collections::HashSet::new();
    let mut in_a_row = 0;
    for _ in 0..2_000 {
        net.a.close(last).unwrap();
        last = net.stream();
        net.a.bind(last, at(A, 0)).unwrap();
        let port = net.a.local_addr(last).unwrap().port();
        assert!((32_768..=65_535).contains(&port), "{port}");
        in_a_row += u32::from(ports.contains(&(port - 1)));
        ports.insert(port);
    }
    assert!(ports.len() > 1_800 && in_a_row < 200, "{} ports, {in_a_row} in a row", ports.len());
}

#[test]
fn a_remembered_connection_keeps_its_port_unless_reuse_is_wished() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    // The side that closes first remembers.
    net.b.sockets.close(server).unwrap();
    net.settle();
    net.a.close(client).unwrap();
    net.settle();
    let b = &mut net.b.sockets;
    let again = b.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    assert_eq!(b.bind(again, at(B, PORT)), Err(Errno::ADDRINUSE));
    set_int(b, again, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
    assert_eq!(b.bind(again, at(B, PORT)), Ok(()));
    assert_eq!(b.listen(again, 1), Ok(()));
}

#[test]
fn flags_that_are_not_offered_are_refused() {
    let mut net = Net::new();
    let (client, _) = net.connection();
    let text = [std::io::IoSlice::new(b"x")];
    for flag in [libc::MSG_OOB, libc::MSG_PEEK, libc::MSG_CONFIRM] {
        assert_eq!(net.a.send(client, &text, flag, None), Err(Errno::OPNOTSUPP));
    }
    assert_eq!(read_with(&mut net.a, client, libc::MSG_OOB), Err(Errno::INVAL));
    assert_eq!(read_with(&mut net.a, client, libc::MSG_ERRQUEUE), Err(Errno::AGAIN));
    assert_eq!(read_with(&mut net.a, client, libc::MSG_CTRUNC), Err(Errno::AGAIN), "means nothing to a read");
}

/// As on Linux.
#[test]
fn a_look_into_the_error_queue_does_not_wait() {
    let mut net = Net::new();
    let (client, _) = net.connection();
    let datagrams = net.a.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    for fd in [client, datagrams] {
        let start_ns = net.now_ns();
        assert_eq!(net.wait(call::recv(fd, [0; 8], libc::MSG_ERRQUEUE)), Err(Errno::AGAIN));
        assert!(net.now_ns() - start_ns < SECOND_NS);
    }
}
