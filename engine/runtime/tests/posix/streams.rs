//! Connections that go well.

use std::io::{IoSlice, IoSliceMut};
use std::time::Duration;

use super::*;

#[test]
fn a_connection_carries_bytes_both_ways_and_ends_in_order() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    assert_eq!(write(&mut net.a, client, b"question"), Ok(8));
    net.settle();
    assert_eq!(read(&mut net.b.sockets, server), Ok(b"question".to_vec()));
    assert_eq!(read(&mut net.b.sockets, server), Err(Errno::AGAIN));
    assert_eq!(write(&mut net.b.sockets, server, b"answer"), Ok(6));
    assert_eq!(net.wait(call::recv(client, [0; 6], 0)).unwrap().0.len, 6);
    net.b.sockets.close(server).unwrap();
    net.settle();
    assert_eq!(read(&mut net.a, client), Ok(vec![]));
    assert_eq!(read(&mut net.a, client), Ok(vec![]), "the end stays the end");
    assert_eq!(net.a.close(client), Ok(()));
    net.pass(Duration::from_secs(61));
    assert_eq!(net.a.worker().counters().connections, 0);
    assert_eq!(net.b.sockets.worker().counters().connections, 0);
}

#[test]
fn both_ends_know_their_addresses() {
    let mut net = Net::new();
    let server = net.server();
    let client = net.stream();
    assert_eq!(net.a.local_addr(client).unwrap().port(), 0);
    assert_eq!(net.a.peer_addr(client), Err(Errno::NOTCONN));
    net.wait(call::connect(client, at(B, PORT))).unwrap();
    let here = net.a.local_addr(client).unwrap();
    assert_eq!((*here.ip(), net.a.peer_addr(client)), (A, Ok(SocketAddrV4::new(B, PORT))));
    net.settle();
    let (accepted, peer) = net.b.sockets.accept(server, Mode::Nonblocking).unwrap();
    assert_eq!((peer, net.b.sockets.peer_addr(accepted)), (here, Ok(here)));
    assert_eq!(net.b.sockets.local_addr(accepted), Ok(SocketAddrV4::new(B, PORT)));
    assert_eq!(net.b.sockets.local_addr(server).unwrap().port(), PORT);
    assert_eq!(net.b.sockets.fcntl(accepted, libc::F_GETFL, 0), Ok(libc::O_RDWR | libc::O_NONBLOCK));
}

#[test]
fn connect_without_waiting_says_so_and_then_how_it_went() {
    let mut net = Net::new();
    net.server();
    let client = net.stream();
    make_nonblocking(&mut net.a, client);
    assert_eq!(net.a.connect(client, at(B, PORT)), Err(Errno::INPROGRESS));
    assert_eq!(net.a.connect(client, at(B, PORT)), Err(Errno::ALREADY));
    assert_eq!(read(&mut net.a, client), Err(Errno::AGAIN));
    assert_eq!(write(&mut net.a, client, b"early"), Err(Errno::AGAIN));
    net.settle();
    assert_eq!(so_error(&mut net.a, client), 0);
    assert_eq!(net.a.connect(client, at(B, PORT)), Ok(()), "the one that tells");
    assert_eq!(net.a.connect(client, at(B, PORT)), Err(Errno::ISCONN));
}

#[test]
fn a_bound_socket_connects_from_there() {
    let mut net = Net::new();
    let server = net.server();
    let client = net.stream();
    net.a.bind(client, at(Ipv4Addr::UNSPECIFIED, 4000)).unwrap();
    net.wait(call::connect(client, at(B, PORT))).unwrap();
    net.settle();
    let (_, peer) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    assert_eq!(peer, SocketAddrV4::new(A, 4000));
}

#[test]
fn accept_waits_for_a_connection_and_no_longer_than_it_is_told() {
    let mut net = Net::new();
    let here = net.stream();
    net.a.bind(here, at(A, PORT)).unwrap();
    net.a.listen(here, 1).unwrap();
    assert_eq!(net.a.accept(here, Mode::Blocking), Err(Errno::AGAIN));
    set_timeout(&mut net.a, here, libc::SO_RCVTIMEO, (2, 500_000));
    let start = net.now_ns();
    assert_eq!(net.wait(call::accept(here, Mode::Blocking)), Err(Errno::AGAIN));
    let waited_ms = (net.now_ns() - start) / 1_000_000;
    assert!((2_500..2_510).contains(&waited_ms), "{waited_ms}");
    let there = net.b.sockets.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    assert_eq!(net.b.sockets.connect(there, at(A, PORT)), Err(Errno::INPROGRESS));
    let (_, peer) = net.wait(call::accept(here, Mode::Blocking)).unwrap();
    assert_eq!(*peer.ip(), B);
}

#[test]
fn gathered_and_scattered_bytes_are_one_stream() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let parts = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cdef")];
    assert_eq!(net.a.send(client, &parts, 0, None), Ok(6));
    net.settle();
    let (mut first, mut second) = ([0; 1], [0; 9]);
    let mut bufs = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(net.b.sockets.recv(server, &mut bufs, 0).unwrap().len, 6);
    assert_eq!((&first, &second[..5]), (b"a", &b"bcdef"[..]));
}

#[test]
fn a_read_that_waits_waits_for_as_much_as_it_was_told() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    set_int(&mut net.a, client, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 5).unwrap();
    let mut reading = call::recv(client, [0; 8], 0);
    assert!(matches!(reading(&mut net.a), Progress::Wait { .. }));
    write(&mut net.b.sockets, server, b"123").unwrap();
    net.pass(Duration::from_millis(100));
    assert!(matches!(reading(&mut net.a), Progress::Wait { .. }));
    write(&mut net.b.sockets, server, b"456").unwrap();
    net.pass(Duration::from_millis(100));
    let Progress::Done(Ok((found, buf))) = reading(&mut net.a) else { panic!("that is enough") };
    assert_eq!(buf[..found.len], *b"123456");
    // A smaller buffer is enough when it is full, and the end of the stream is always enough.
    write(&mut net.b.sockets, server, b"789").unwrap();
    net.pass(Duration::from_millis(100));
    assert_eq!(net.wait(call::recv(client, [0; 2], 0)).map(|(found, _)| found.len), Ok(2));
    net.b.sockets.close(server).unwrap();
    assert_eq!(net.wait(call::recv(client, [0; 8], 0)).map(|(found, _)| found.len), Ok(1));
}

#[test]
fn peeking_and_discarding() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    write(&mut net.a, client, b"one").unwrap();
    net.settle();
    write(&mut net.a, client, b"two").unwrap();
    net.pass(Duration::from_millis(100));
    let b = &mut net.b.sockets;
    assert_eq!(read_with(b, server, libc::MSG_PEEK), Ok(b"onetwo".to_vec()));
    assert_eq!(b.ioctl(server, libc::FIONREAD), Ok(ringwire::posix::Ioctl::Get(6)));
    let mut four = [9; 4];
    let found = b.recv(server, &mut [IoSliceMut::new(&mut four)], libc::MSG_TRUNC).unwrap();
    assert_eq!((found.len, four), (4, [9; 4]), "counted, not copied");
    assert_eq!(read(b, server), Ok(b"wo".to_vec()));
    assert_eq!(b.ioctl(server, libc::FIONREAD), Ok(ringwire::posix::Ioctl::Get(0)));
}

#[test]
fn a_read_for_all_waits_for_all() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    write(&mut net.b.sockets, server, b"abc").unwrap();
    set_timeout(&mut net.a, client, libc::SO_RCVTIMEO, (1, 0));
    let (found, _) = net.wait(call::recv(client, [0; 4], libc::MSG_WAITALL)).unwrap();
    assert_eq!(found.len, 3, "what has come when the time is over");
    write(&mut net.b.sockets, server, b"abcdef").unwrap();
    let (found, buf) = net.wait(call::recv(client, [0; 4], libc::MSG_WAITALL)).unwrap();
    assert_eq!((found.len, &buf), (4, b"abcd"));
}

#[test]
fn a_look_at_all_waits_for_all_and_takes_nothing() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let all = libc::MSG_PEEK | libc::MSG_WAITALL;
    let mut looking = call::recv(client, [0; 4], all);
    write(&mut net.b.sockets, server, b"abc").unwrap();
    net.settle();
    assert!(matches!(looking(&mut net.a), Progress::Wait { .. }));
    write(&mut net.b.sockets, server, b"de").unwrap();
    net.pass(Duration::from_millis(100));
    let Progress::Done(Ok((found, buf))) = looking(&mut net.a) else { panic!("all has come") };
    assert_eq!((found.len, &buf), (4, b"abcd"));
    let mut looking = call::recv(client, [0; 8], all);
    assert!(matches!(looking(&mut net.a), Progress::Wait { .. }));
    net.b.sockets.close(server).unwrap();
    net.settle();
    let Progress::Done(Ok((found, _))) = looking(&mut net.a) else { panic!("no more will come") };
    assert_eq!(found.len, 5);
    let (found, _) = net.wait(call::recv(client, [0; 8], all | libc::MSG_DONTWAIT)).unwrap();
    assert_eq!(found.len, 5);
    assert_eq!(read(&mut net.a, client), Ok(b"abcde".to_vec()));
}

#[test]
fn a_write_that_waits_writes_all_while_the_peer_reads() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let text: Vec<u8> = (0..1_500_000_u32).map(|at| (at % 251) as u8).collect();
    let mut sending = call::send(server, text.clone(), 0, None);
    let mut got = Vec::new();
    let mut sent = None;
    while got.len() < text.len() {
        if sent.is_none()
            && let Progress::Done(done) = sending(&mut net.b.sockets)
        {
            sent = Some(done);
        }
        net.pass(Duration::from_millis(10));
        loop {
            let mut buf = [0; 10_000];
            match net.a.recv(client, &mut [IoSliceMut::new(&mut buf)], 0) {
                Ok(found) => got.extend_from_slice(&buf[..found.len]),
                Err(error) => break assert_eq!(error, Errno::AGAIN),
            }
        }
    }
    assert_eq!(sent, Some(Ok(text.len())));
    assert!(got == text);
}

#[test]
fn a_full_send_buffer_is_a_short_count_then_again() {
    let mut net = Net::new();
    let (client, _server) = net.connection();
    set_int(&mut net.a, client, libc::SOL_SOCKET, libc::SO_SNDBUF, 10_000).unwrap();
    let sent = write(&mut net.a, client, &[0; 40_000]).unwrap();
    assert!((10_000..40_000).contains(&sent), "{sent}");
    assert_eq!(write(&mut net.a, client, &[0; 10]), Err(Errno::AGAIN));
    let queued = net.a.ioctl(client, libc::TIOCOUTQ).unwrap();
    assert_eq!(queued, ringwire::posix::Ioctl::Get(i32::try_from(sent).unwrap()));
    net.pass(Duration::from_secs(1));
    assert_eq!(net.a.ioctl(client, libc::TIOCOUTQ), Ok(ringwire::posix::Ioctl::Get(0)));
    assert_eq!(write(&mut net.a, client, &[0; 10]), Ok(10));
}

/// The worker's heap is full long before the receive buffer is: what nobody reads counts against its ceiling and closes the window.
#[test]
fn what_is_unread_stays_in_the_worker_s_books() {
    const CEILING_BYTES: u64 = 2 << 20;
    let mut net = Net::built(TcpOptions::default(), |side| {
        side.frames_per_worker(256).memory_ceiling_bytes(CEILING_BYTES)
    });
    let listener = net.server();
    let pairs: Vec<(Fd, Fd)> = (0..8).map(|_| net.connect_to(listener)).collect();
    for _ in 0..200 {
        for (client, _) in &pairs {
            let _ = write(&mut net.a, *client, &[1; 16_000]);
        }
        net.pass(Duration::from_millis(5));
    }
    let unread = |net: &mut Net, fd: Fd| match net.b.sockets.ioctl(fd, libc::FIONREAD) {
        Ok(ringwire::posix::Ioctl::Get(bytes)) => u64::try_from(bytes).unwrap(),
        other => panic!("{other:?}"),
    };
    let all: u64 = pairs.iter().map(|(_, server)| unread(&mut net, *server)).sum();
    assert!(all <= CEILING_BYTES, "{all} bytes for a ceiling of {CEILING_BYTES}");
    let heap_bytes = net.b.sockets.worker().counters().heap_bytes;
    assert!((1..=CEILING_BYTES).contains(&heap_bytes), "{heap_bytes}");
}

#[test]
fn half_closed_still_carries_the_other_way() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    assert_eq!(net.a.shutdown(client, libc::SHUT_WR), Ok(()));
    assert_eq!(net.a.shutdown(client, libc::SHUT_WR), Ok(()), "twice is no error");
    assert_eq!(write(&mut net.a, client, b"x"), Err(Errno::PIPE));
    net.settle();
    assert_eq!(read(&mut net.b.sockets, server), Ok(vec![]));
    write(&mut net.b.sockets, server, b"still").unwrap();
    net.settle();
    assert_eq!(read(&mut net.a, client), Ok(b"still".to_vec()));
}

#[test]
fn a_socket_shut_for_reading_does_not_wait_and_still_receives() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    net.a.shutdown(client, libc::SHUT_RD).unwrap();
    assert_eq!(read(&mut net.a, client), Ok(vec![]));
    assert_eq!(write(&mut net.b.sockets, server, b"late"), Ok(4));
    net.settle();
    assert_eq!(read(&mut net.a, client), Ok(b"late".to_vec()));
    assert_eq!(read(&mut net.a, client), Ok(vec![]));
}

#[test]
fn more_to_come_is_held_back() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let first = [IoSlice::new(b"first ")];
    assert_eq!(net.a.send(client, &first, libc::MSG_MORE, None), Ok(6));
    net.settle();
    assert_eq!(read(&mut net.b.sockets, server), Err(Errno::AGAIN));
    write(&mut net.a, client, b"second").unwrap();
    net.settle();
    assert_eq!(read(&mut net.b.sockets, server), Ok(b"first second".to_vec()));
}

#[test]
fn a_listener_keeps_one_more_than_its_backlog() {
    let mut net = Net::new();
    let here = net.stream();
    net.a.bind(here, at(A, PORT)).unwrap();
    net.a.listen(here, 1).unwrap();
    for _ in 0..4 {
        let there = net.b.sockets.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let _ = net.b.sockets.connect(there, at(A, PORT));
        net.settle();
    }
    net.pass(Duration::from_millis(100));
    let mut accepted = 0;
    while net.a.accept(here, Mode::Blocking).is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 2);
    // With places free again, those that had to wait come in.
    net.pass(Duration::from_secs(10));
    assert!(net.a.accept(here, Mode::Blocking).is_ok());
}

/// A longer queue counts at once, also for handshakes that began before.
#[test]
fn who_waited_for_a_place_gets_in_when_listen_makes_the_queue_longer() {
    let mut net = Net::new();
    let server = net.server();
    net.b.sockets.listen(server, 2).unwrap();
    let turn = |sockets: &mut Sockets| assert!(sockets.turn(Some(Duration::ZERO)).is_ok());
    let dial = |net: &mut Net| {
        for _ in 0..2 {
            let client = net.stream();
            assert_eq!(net.a.connect(client, at(B, PORT)), Err(Errno::INPROGRESS));
        }
        turn(&mut net.a);
    };
    dial(&mut net);
    turn(&mut net.b.sockets);
    // Two have connected before the next two have begun.
    turn(&mut net.a);
    dial(&mut net);
    net.settle();
    net.pass(Duration::from_secs(5));
    net.b.sockets.listen(server, 128).unwrap();
    net.pass(Duration::from_secs(20));
    for _ in 0..4 {
        net.b.sockets.accept(server, Mode::Blocking).unwrap();
    }
}
