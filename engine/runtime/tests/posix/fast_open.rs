//! Fast Open as Linux offers it: `TCP_FASTOPEN`, `TCP_FASTOPEN_CONNECT`, `MSG_FASTOPEN`.

use std::io::IoSlice;

use super::*;

const TCP: i32 = libc::IPPROTO_TCP;
/// TCPI_OPT_SYN_DATA
const SYN_DATA: u8 = 32;

impl Net {
    /// A listener on `b` that takes text in SYNs.
    fn fast_server(&mut self) -> Fd {
        let server = self.server();
        set_int(&mut self.b.sockets, server, TCP, libc::TCP_FASTOPEN, 5).unwrap();
        server
    }

    /// One connection, which brings `a` the cookie of `b`.
    fn fetch_cookie(&mut self, server: Fd) {
        let client = self.stream();
        let sent = self.wait(call::send(client, b"first", libc::MSG_FASTOPEN, Some(server_addr())));
        assert_eq!(sent, Ok(5));
        self.settle();
        let (accepted, _) = self.b.sockets.accept(server, Mode::Blocking).unwrap();
        assert_eq!(read(&mut self.b.sockets, accepted), Ok(b"first".to_vec()));
        assert!(!self.had_syn_text(client));
        self.a.close(client).unwrap();
        self.b.sockets.close(accepted).unwrap();
        self.settle();
    }

    fn had_syn_text(&mut self, client: Fd) -> bool {
        self.a.option(client, TCP, libc::TCP_INFO).unwrap()[5] & SYN_DATA != 0
    }

    fn nonblocking(&mut self) -> Fd {
        self.a.socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0).unwrap()
    }
}

fn server_addr() -> SocketAddrV4 {
    SocketAddrV4::new(B, PORT)
}

fn send_to(sockets: &mut Sockets, fd: Fd, text: &[u8], to: Option<SocketAddrV4>) -> Result<usize, Errno> {
    sockets.send(fd, &[IoSlice::new(text)], libc::MSG_FASTOPEN, to)
}

#[test]
fn a_write_that_connects_goes_along_with_the_syn_once_there_is_a_cookie() {
    let mut net = Net::new();
    let server = net.fast_server();
    let first = net.nonblocking();
    // Linux: nothing was taken, and the connect goes on.
    assert_eq!(send_to(&mut net.a, first, b"GET", Some(server_addr())), Err(Errno::INPROGRESS));
    assert_eq!(send_to(&mut net.a, first, b"GET", Some(server_addr())), Err(Errno::ALREADY));
    assert_eq!(write(&mut net.a, first, b"GET"), Err(Errno::AGAIN));
    net.settle();
    assert_eq!(write(&mut net.a, first, b"GET"), Ok(3));
    net.settle();
    let (accepted, _) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    assert_eq!(read(&mut net.b.sockets, accepted), Ok(b"GET".to_vec()));
    assert!(!net.had_syn_text(first));
    let second = net.nonblocking();
    assert_eq!(send_to(&mut net.a, second, b"GET", Some(server_addr())), Ok(3));
    net.settle();
    let (accepted, _) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    assert_eq!(read(&mut net.b.sockets, accepted), Ok(b"GET".to_vec()));
    assert!(net.had_syn_text(second));
    assert_eq!(net.a.connect(second, at(B, PORT)), Ok(()));
    assert_eq!(send_to(&mut net.a, second, b"x", Some(server_addr())), Err(Errno::ISCONN));
}

#[test]
fn a_blocking_write_that_connects_waits_for_the_handshake() {
    let mut net = Net::new();
    let server = net.fast_server();
    net.fetch_cookie(server);
    let client = net.stream();
    let text = vec![7; 3000];
    let sent = net.wait(call::send(client, text.clone(), libc::MSG_FASTOPEN, Some(server_addr())));
    assert_eq!(sent, Ok(3000));
    assert!(net.had_syn_text(client));
    assert_eq!(net.a.connect(client, at(B, PORT)), Err(Errno::ISCONN));
    net.settle();
    let (accepted, _) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    let mut got = Vec::new();
    while let Ok(piece) = read(&mut net.b.sockets, accepted) {
        got.extend(piece);
    }
    assert_eq!(got, text);
}

#[test]
fn a_blocking_write_tells_why_the_connect_failed() {
    let mut net = Net::new();
    let server = net.fast_server();
    net.fetch_cookie(server);
    net.b.sockets.close(server).unwrap();
    net.settle();
    // With a cookie, so that text was taken.
    let client = net.stream();
    let sent = net.wait(call::send(client, b"GET", libc::MSG_FASTOPEN, Some(server_addr())));
    assert_eq!(sent, Err(Errno::CONNREFUSED));
    // Without.
    let elsewhere = SocketAddrV4::new(B, PORT + 1);
    let sent = net.wait(call::send(client, b"GET", libc::MSG_FASTOPEN, Some(elsewhere)));
    assert_eq!(sent, Err(Errno::CONNREFUSED));
    // To a port where nobody can be.
    let nowhere = SocketAddrV4::new(B, 0);
    let sent = net.wait(call::send(client, b"GET", libc::MSG_FASTOPEN, Some(nowhere)));
    assert_eq!(sent, Err(Errno::CONNREFUSED));
}

#[test]
fn a_deferred_connect_says_yes_and_leaves_with_the_first_write() {
    let mut net = Net::new();
    let server = net.fast_server();
    let first = net.nonblocking();
    set_int(&mut net.a, first, TCP, libc::TCP_FASTOPEN_CONNECT, 1).unwrap();
    assert_eq!(net.a.connect(first, at(B, PORT)), Err(Errno::INPROGRESS), "no cookie: it asks for one");
    net.settle();
    net.b.sockets.accept(server, Mode::Blocking).unwrap();
    let second = net.nonblocking();
    set_int(&mut net.a, second, TCP, libc::TCP_FASTOPEN_CONNECT, 1).unwrap();
    assert_eq!(net.a.connect(second, at(B, PORT)), Ok(()));
    net.settle();
    assert_eq!(net.b.sockets.accept(server, Mode::Blocking), Err(Errno::AGAIN), "nothing has left");
    assert_eq!(net.a.connect(second, at(B, PORT)), Err(Errno::ISCONN));
    assert_eq!(read(&mut net.a, second), Err(Errno::AGAIN));
    assert_eq!(net.a.listen(second, 1), Err(Errno::INVAL));
    assert_eq!(write(&mut net.a, second, b"GET"), Ok(3));
    net.settle();
    let (accepted, _) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    assert_eq!(read(&mut net.b.sockets, accepted), Ok(b"GET".to_vec()));
    assert!(net.had_syn_text(second));
    assert_eq!(write(&mut net.b.sockets, accepted, b"200"), Ok(3));
    net.settle();
    assert_eq!(read(&mut net.a, second), Ok(b"200".to_vec()));
}

#[test]
fn a_deferred_connect_can_be_given_up() {
    let mut net = Net::new();
    let server = net.fast_server();
    net.fetch_cookie(server);
    let client = net.nonblocking();
    set_int(&mut net.a, client, TCP, libc::TCP_FASTOPEN_CONNECT, 1).unwrap();
    assert_eq!(net.a.connect(client, at(B, PORT)), Ok(()));
    assert_eq!(net.a.shutdown(client, libc::SHUT_RDWR), Ok(()));
    assert_eq!(write(&mut net.a, client, b"GET"), Err(Errno::PIPE));
    net.settle();
    assert_eq!(net.b.sockets.accept(server, Mode::Blocking), Err(Errno::AGAIN));
}

#[test]
fn a_server_without_the_option_gives_no_cookie() {
    let mut net = Net::new();
    let server = net.server();
    for _ in 0..2 {
        let client = net.nonblocking();
        assert_eq!(send_to(&mut net.a, client, b"GET", Some(server_addr())), Err(Errno::INPROGRESS));
        net.settle();
        net.b.sockets.accept(server, Mode::Blocking).unwrap();
    }
}

#[test]
fn what_is_asked_of_the_wrong_socket_is_refused() {
    let mut net = Net::new();
    let fd = net.nonblocking();
    assert_eq!(send_to(&mut net.a, fd, b"x", None), Err(Errno::INVAL));
    for (name, value) in [(libc::TCP_FASTOPEN, -1), (libc::TCP_FASTOPEN_CONNECT, 2)] {
        assert_eq!(set_int(&mut net.a, fd, TCP, name, value), Err(Errno::INVAL));
    }
    let server = net.server();
    let b = &mut net.b.sockets;
    assert_eq!(set_int(b, server, TCP, libc::TCP_FASTOPEN_CONNECT, 1), Err(Errno::INVAL));
    assert_eq!(send_to(b, server, b"x", Some(server_addr())), Err(Errno::ISCONN));
    let (client, _) = net.connect_to(server);
    for name in [libc::TCP_FASTOPEN, libc::TCP_FASTOPEN_CONNECT] {
        assert_eq!(set_int(&mut net.a, client, TCP, name, 1), Err(Errno::INVAL));
    }
    let datagrams = net.a.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    assert_eq!(send_to(&mut net.a, datagrams, b"x", Some(server_addr())), Err(Errno::OPNOTSUPP));
}

#[test]
fn the_queue_of_a_listener_is_what_was_set_up_to_somaxconn() {
    let mut net = Net::new();
    let server = net.server();
    let b = &mut net.b.sockets;
    assert_eq!(int_option(b, server, TCP, libc::TCP_FASTOPEN), 0);
    for (set, got) in [(5, 5), (1 << 20, 4096), (0, 0)] {
        set_int(b, server, TCP, libc::TCP_FASTOPEN, set).unwrap();
        assert_eq!(int_option(b, server, TCP, libc::TCP_FASTOPEN), got);
    }
    let fd = net.stream();
    assert_eq!(int_option(&mut net.a, fd, TCP, libc::TCP_FASTOPEN_CONNECT), 0);
    set_int(&mut net.a, fd, TCP, libc::TCP_FASTOPEN_CONNECT, 1).unwrap();
    assert_eq!(int_option(&mut net.a, fd, TCP, libc::TCP_FASTOPEN_CONNECT), 1);
}

const KEYS: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";

/// The keys that a listener of a farm has.
fn set_keys(sockets: &mut Sockets, fd: Fd, keys: &[u8]) -> Result<(), Errno> {
    sockets.set_option(fd, TCP, libc::TCP_FASTOPEN_KEY, keys)
}

#[test]
fn keys_are_one_or_two_of_sixteen_bytes() {
    let mut net = Net::new();
    let fd = net.stream();
    assert_eq!(net.a.option(fd, TCP, libc::TCP_FASTOPEN_KEY), Ok(Vec::new()));
    for len in [0, 3, 4, 15, 17, 31] {
        assert_eq!(set_keys(&mut net.a, fd, &KEYS[..len]), Err(Errno::INVAL), "{len}");
    }
    assert_eq!(net.a.option(fd, TCP, libc::TCP_FASTOPEN_KEY), Ok(Vec::new()));
    for len in [16, 32] {
        set_keys(&mut net.a, fd, &KEYS[..len]).unwrap();
        assert_eq!(net.a.option(fd, TCP, libc::TCP_FASTOPEN_KEY), Ok(KEYS[..len].to_vec()));
    }
}

/// A server that takes another's place in a farm, and then the keys change.
#[test]
fn servers_with_one_key_take_each_other_s_cookies() {
    let mut net = Net::new();
    let server = net.fast_server();
    set_keys(&mut net.b.sockets, server, &KEYS[..16]).unwrap();
    net.fetch_cookie(server);
    net.b.sockets.close(server).unwrap();
    let ask = |net: &mut Net, keys: &[u8]| {
        let server = net.fast_server();
        set_keys(&mut net.b.sockets, server, keys).unwrap();
        let client = net.nonblocking();
        assert_eq!(send_to(&mut net.a, client, b"GET", Some(server_addr())), Ok(3));
        net.settle();
        let (accepted, _) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
        for fd in [server, accepted] {
            net.b.sockets.close(fd).unwrap();
        }
        net.had_syn_text(client)
    };
    assert!(ask(&mut net, &KEYS[..16]));
    let turned = [&KEYS[16..], &KEYS[..16]].concat();
    assert!(ask(&mut net, &turned), "the second key's");
    assert!(ask(&mut net, &KEYS[16..]), "it was renewed");
    assert!(!ask(&mut net, &KEYS[..16]), "of neither key");
}

#[test]
fn both_sides_may_do_without_cookies() {
    let mut net = Net::new();
    let server = net.fast_server();
    set_int(&mut net.b.sockets, server, TCP, libc::TCP_FASTOPEN_NO_COOKIE, 1).unwrap();
    let client = net.nonblocking();
    assert_eq!(int_option(&mut net.a, client, TCP, libc::TCP_FASTOPEN_NO_COOKIE), 0);
    set_int(&mut net.a, client, TCP, libc::TCP_FASTOPEN_NO_COOKIE, 1).unwrap();
    assert_eq!(int_option(&mut net.a, client, TCP, libc::TCP_FASTOPEN_NO_COOKIE), 1);
    assert_eq!(send_to(&mut net.a, client, b"GET", Some(server_addr())), Ok(3));
    net.settle();
    let (accepted, _) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    assert_eq!(read(&mut net.b.sockets, accepted), Ok(b"GET".to_vec()));
    assert!(net.had_syn_text(client));
    for fd in [client, server] {
        let sockets = if fd == client { &mut net.a } else { &mut net.b.sockets };
        assert_eq!(set_int(sockets, fd, TCP, libc::TCP_FASTOPEN_NO_COOKIE, 2), Err(Errno::INVAL));
    }
    assert_eq!(
        set_int(&mut net.a, client, TCP, libc::TCP_FASTOPEN_NO_COOKIE, 1),
        Err(Errno::INVAL),
        "connected"
    );
}

/// As Linux: the rest is for another write.
#[test]
fn a_write_that_connects_takes_what_its_syn_takes() {
    let mut net = Net::new();
    let server = net.fast_server();
    net.fetch_cookie(server);
    let client = net.nonblocking();
    let text = vec![7; 3000];
    // 1460 bytes, less the room for any options.
    assert_eq!(send_to(&mut net.a, client, &text, Some(server_addr())), Ok(1420));
    net.settle();
    assert_eq!(write(&mut net.a, client, &text[1420..]), Ok(1580));
    net.settle();
    let (accepted, _) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    let mut got = 0;
    while let Ok(piece) = read(&mut net.b.sockets, accepted) {
        got += piece.len();
    }
    assert!(net.had_syn_text(client) && got == text.len());
    // Gathered, and deferred.
    let second = net.nonblocking();
    set_int(&mut net.a, second, TCP, libc::TCP_FASTOPEN_CONNECT, 1).unwrap();
    assert_eq!(net.a.connect(second, at(B, PORT)), Ok(()));
    let pieces = [IoSlice::new(&text[..1000]), IoSlice::new(&text[1000..])];
    assert_eq!(net.a.send(second, &pieces, 0, None), Ok(1420));
}

/// On Linux `TCP_FASTOPEN` is a listener's, and `MSG_FASTOPEN` of one connect.
#[test]
fn a_plain_connect_has_no_part_in_it() {
    let mut net = Net::new();
    let server = net.fast_server();
    let client = net.stream();
    let elsewhere = SocketAddrV4::new(B, PORT + 1);
    let sent = net.wait(call::send(client, b"GET", libc::MSG_FASTOPEN, Some(elsewhere)));
    assert_eq!(sent, Err(Errno::CONNREFUSED));
    assert_eq!(int_option(&mut net.a, client, TCP, libc::TCP_FASTOPEN), 0);
    assert_eq!(net.wait(call::connect(client, at(B, PORT))), Ok(()));
    let listener_to_be = net.stream();
    set_int(&mut net.a, listener_to_be, TCP, libc::TCP_FASTOPEN, 5).unwrap();
    assert_eq!(net.wait(call::connect(listener_to_be, at(B, PORT))), Ok(()));
    assert_eq!(int_option(&mut net.a, listener_to_be, TCP, libc::TCP_FASTOPEN), 5);
    let third = net.nonblocking();
    set_int(&mut net.a, third, TCP, libc::TCP_FASTOPEN_CONNECT, 1).unwrap();
    assert_eq!(net.a.connect(third, at(B, PORT)), Err(Errno::INPROGRESS), "nobody has asked for a cookie");
    net.settle();
    let fourth = net.nonblocking();
    set_int(&mut net.a, fourth, TCP, libc::TCP_FASTOPEN_CONNECT, 1).unwrap();
    assert_eq!(net.a.connect(fourth, at(B, PORT)), Ok(()), "now somebody has");
    net.b.sockets.close(server).unwrap();
}

#[test]
fn who_has_connected_so_does_not_listen_so() {
    let mut net = Net::new();
    let fd = net.b.sockets.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let elsewhere = Some(SocketAddrV4::new(A, PORT));
    let b = &mut net.b.sockets;
    b.bind(fd, at(B, PORT)).unwrap();
    make_nonblocking(b, fd);
    assert_eq!(send_to(b, fd, b"GET", elsewhere), Err(Errno::INPROGRESS));
    net.settle();
    assert_eq!(so_error(&mut net.b.sockets, fd), libc::ECONNREFUSED);
    net.b.sockets.connect(fd, Named::Unspecified).unwrap();
    net.b.sockets.listen(fd, 16).unwrap();
    for _ in 0..2 {
        let client = net.nonblocking();
        assert_eq!(send_to(&mut net.a, client, b"GET", Some(server_addr())), Err(Errno::INPROGRESS));
        net.settle();
        net.b.sockets.accept(fd, Mode::Blocking).unwrap();
    }
}
