//! Calls that wait while another thread does something to their descriptor.

use super::*;

fn is_waiting<R>(progress: &Progress<R>) -> bool {
    matches!(progress, Progress::Wait { .. })
}

#[test]
fn a_connect_that_another_thread_gives_up_does_not_begin_anew() {
    type GiveUp = fn(&mut Sockets, Fd) -> Result<(), Errno>;
    let shutdown: GiveUp = |sockets, fd| sockets.shutdown(fd, libc::SHUT_RDWR);
    let disconnect: GiveUp = |sockets, fd| sockets.connect(fd, Named::Unspecified);
    // Linux: who disconnects says why only in SO_ERROR.
    let ways = [(shutdown, Errno::CONNRESET, 0), (disconnect, Errno::PIPE, libc::ECONNRESET)];
    for (give_up, said, left) in ways {
        let mut net = Net::new();
        let server = net.server();
        let client = net.stream();
        let mut connecting = call::connect(client, at(B, PORT));
        assert!(is_waiting(&connecting(&mut net.a)));
        give_up(&mut net.a, client).unwrap();
        assert_eq!(connecting(&mut net.a), Progress::Done(Err(said)));
        assert_eq!(so_error(&mut net.a, client), left);
        net.pass(Duration::from_secs(5));
        assert_eq!(net.b.sockets.accept(server, Mode::Blocking), Err(Errno::AGAIN));
        assert_eq!(net.a.worker().counters().connections, 0);
    }
}

#[test]
fn a_connect_whose_connection_is_reset_before_it_looks_has_failed() {
    let mut net = Net::new();
    let server = net.server();
    let client = net.stream();
    let mut connecting = call::connect(client, at(B, PORT));
    assert!(is_waiting(&connecting(&mut net.a)));
    net.settle();
    let (accepted, _) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    write(&mut net.b.sockets, accepted, b"never read").unwrap();
    net.settle();
    set_linger(&mut net.b.sockets, accepted, 0);
    net.b.sockets.close(accepted).unwrap();
    net.settle();
    assert_eq!(connecting(&mut net.a), Progress::Done(Err(Errno::CONNRESET)));
    net.settle();
    assert_eq!(net.a.worker().counters().connections, 0);
    assert_eq!(net.wait(call::connect(client, at(B, PORT))), Ok(()), "and can be tried again");
}

#[test]
fn a_read_whose_connection_is_taken_away_has_what_has_come_or_fails() {
    for text in [&b""[..], b"part"] {
        let mut net = Net::new();
        let (client, server) = net.connection();
        let mut reading = call::recv(client, [0; 8], libc::MSG_WAITALL);
        assert!(is_waiting(&reading(&mut net.a)));
        if !text.is_empty() {
            write(&mut net.b.sockets, server, text).unwrap();
            net.settle();
            assert!(is_waiting(&reading(&mut net.a)));
        }
        net.a.connect(client, Named::Unspecified).unwrap();
        match reading(&mut net.a) {
            Progress::Done(Ok((found, buf))) => assert_eq!((&buf[..found.len], found.len), (text, 4)),
            done => assert_eq!(done, Progress::Done(Err(Errno::PIPE))),
        }
        assert_eq!(so_error(&mut net.a, client), libc::ECONNRESET);
        assert_eq!(read(&mut net.a, client), Err(Errno::NOTCONN));
        net.settle();
        assert_eq!(read(&mut net.b.sockets, server), Err(Errno::CONNRESET));
    }
}

#[test]
fn a_connect_of_which_another_thread_was_told_has_succeeded() {
    let mut net = Net::new();
    net.server();
    let client = net.stream();
    let mut connecting = call::connect(client, at(B, PORT));
    assert!(is_waiting(&connecting(&mut net.a)));
    net.settle();
    assert_eq!(net.a.connect(client, at(B, PORT)), Ok(()));
    assert_eq!(connecting(&mut net.a), Progress::Done(Ok(())));
}

#[test]
fn a_read_goes_on_with_its_connection_when_the_descriptor_is_closed() {
    let mut net = Net::new();
    let server = net.server();
    let (client, kept) = net.connect_to(server);
    let mut reading = call::recv(client, [0; 8], 0);
    assert!(is_waiting(&reading(&mut net.a)));
    net.a.close(client).unwrap();
    assert_eq!(read(&mut net.a, client), Err(Errno::BADF), "the number is free at once");
    let (again, accepted) = net.connect_to(server);
    assert_eq!(again, client, "the same number");
    write(&mut net.b.sockets, accepted, b"for you").unwrap();
    net.settle();
    assert!(is_waiting(&reading(&mut net.a)), "that was another file's");
    assert_eq!(read(&mut net.a, again), Ok(b"for you".to_vec()));
    assert_eq!(read(&mut net.b.sockets, kept), Err(Errno::AGAIN), "not closed yet");
    write(&mut net.b.sockets, kept, b"and me").unwrap();
    net.settle();
    let Progress::Done(Ok((found, buf))) = reading(&mut net.a) else { panic!("there is something to read") };
    assert_eq!(buf[..found.len], *b"and me");
    net.settle();
    assert_eq!(read(&mut net.b.sockets, kept), Ok(vec![]), "closed when the call has returned");
}

#[test]
fn a_call_that_is_given_up_lets_its_closed_file_go() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let mut reading = call::recv(client, [0; 8], 0);
    assert!(is_waiting(&reading(&mut net.a)));
    set_linger(&mut net.a, client, 5);
    net.b.is_gone = true;
    write(&mut net.a, client, b"text").unwrap();
    let start_ns = net.now_ns();
    assert_eq!(net.wait(call::close(client)), Ok(()));
    assert!(net.now_ns() - start_ns < SECOND_NS, "no lingering for what is not closed yet");
    net.b.is_gone = false;
    net.pass(Duration::from_secs(2));
    assert_eq!(read(&mut net.b.sockets, server), Ok(b"text".to_vec()));
    assert_eq!(read(&mut net.b.sockets, server), Err(Errno::AGAIN), "no end yet");
    drop(reading);
    net.settle();
    assert_eq!(read(&mut net.b.sockets, server), Ok(vec![]));
}

#[test]
fn so_do_accept_writes_epoll_and_reads_of_datagrams() {
    let mut net = Net::new();
    let server = net.server();
    let (writer, taker) = net.connect_to(server);
    let listener = net.stream();
    net.a.bind(listener, at(A, PORT)).unwrap();
    net.a.listen(listener, 1).unwrap();
    let datagrams = net.a.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    net.a.bind(datagrams, at(A, PORT)).unwrap();
    let epoll = net.a.epoll_create(0).unwrap();
    let event = ringwire::posix::EpollEvent { events: libc::EPOLLIN as u32, data: 7 };
    net.a.epoll_ctl(epoll, libc::EPOLL_CTL_ADD, datagrams, Some(event)).unwrap();
    let mut accepting = call::accept(listener, Mode::Blocking);
    let mut watching = call::epoll_wait(epoll, 8, -1);
    let mut reading = call::recv(datagrams, [0; 8], 0);
    let mut writing = call::send(writer, vec![1; 1_000_000], 0, None);
    assert!(is_waiting(&accepting(&mut net.a)));
    assert!(is_waiting(&watching(&mut net.a)));
    assert!(is_waiting(&reading(&mut net.a)));
    assert!(is_waiting(&writing(&mut net.a)));
    let closed = [writer, listener, datagrams, epoll];
    closed.iter().for_each(|fd| net.a.close(*fd).unwrap());
    let again = [net.stream(), net.a.epoll_create(0).unwrap(), net.stream(), net.stream()];
    assert_eq!(again, closed, "the same numbers");
    let elsewhere = net.b.sockets.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    let to_a = Some(SocketAddrV4::new(A, PORT));
    net.b.sockets.send(elsewhere, &[std::io::IoSlice::new(b"hello")], 0, to_a).unwrap();
    let caller = net.b.sockets.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    assert_eq!(net.b.sockets.connect(caller, at(A, PORT)), Err(Errno::INPROGRESS));
    net.settle();
    assert_eq!(watching(&mut net.a), Progress::Done(Ok(vec![event])), "its file is open: a read holds it");
    let Progress::Done(Ok((found, _))) = reading(&mut net.a) else { panic!("the datagram has come") };
    assert_eq!(found.len, 5);
    let Progress::Done(Ok((accepted, _))) = accepting(&mut net.a) else { panic!("somebody connects") };
    assert!(net.a.is_open(accepted));
    let mut taken = 0;
    let written = loop {
        net.pass(Duration::from_millis(50));
        while let Ok(text @ [_, ..]) = read(&mut net.b.sockets, taker).as_deref() {
            taken += text.len();
        }
        if let Progress::Done(written) = writing(&mut net.a) {
            break written;
        }
    };
    assert_eq!(written, Ok(1_000_000));
    net.pass(Duration::from_secs(5));
    while let Ok(text @ [_, ..]) = read(&mut net.b.sockets, taker).as_deref() {
        taken += text.len();
        net.settle();
    }
    assert_eq!(taken, 1_000_000, "closed in order");
}
