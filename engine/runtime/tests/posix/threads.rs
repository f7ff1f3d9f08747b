//! Calls that wait while another thread does something to their descriptor.

use super::*;

fn is_waiting<R>(progress: &Progress<R>) -> bool {
    matches!(progress, Progress::Wait { .. })
}

#[test]
fn a_connect_that_another_thread_gives_up_does_not_begin_anew() {
    type GiveUp = fn(&mut Sockets, Fd) -> Result<(), Errno>;
    let give_up: [GiveUp; 2] = [
        |sockets, fd| sockets.shutdown(fd, libc::SHUT_RDWR),
        |sockets, fd| sockets.connect(fd, Named::Unspecified),
    ];
    for give_up in give_up {
        let mut net = Net::new();
        let server = net.server();
        let client = net.stream();
        let mut connecting = call::connect(client, at(B, PORT));
        assert!(is_waiting(&connecting(&mut net.a)));
        give_up(&mut net.a, client).unwrap();
        assert_eq!(connecting(&mut net.a), Progress::Done(Err(Errno::CONNRESET)));
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
fn a_read_whose_descriptor_is_closed_takes_nothing_of_the_next_one_s() {
    let mut net = Net::new();
    let server = net.server();
    let (client, _) = net.connect_to(server);
    let mut reading = call::recv(client, [0; 8], 0);
    assert!(is_waiting(&reading(&mut net.a)));
    net.a.close(client).unwrap();
    let (again, accepted) = net.connect_to(server);
    assert_eq!(again, client, "the same number");
    write(&mut net.b.sockets, accepted, b"for you").unwrap();
    net.settle();
    assert_eq!(reading(&mut net.a), Progress::Done(Err(Errno::BADF)));
    assert_eq!(read(&mut net.a, again), Ok(b"for you".to_vec()));
}

#[test]
fn so_do_accept_epoll_and_reads_of_datagrams() {
    let mut net = Net::new();
    let listener = net.stream();
    net.a.bind(listener, at(A, PORT)).unwrap();
    net.a.listen(listener, 1).unwrap();
    let epoll = net.a.epoll_create(0).unwrap();
    let datagrams = net.a.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    net.a.bind(datagrams, at(A, PORT)).unwrap();
    let mut accepting = call::accept(listener, Mode::Blocking);
    let mut watching = call::epoll_wait(epoll, 8, -1);
    let mut reading = call::recv(datagrams, [0; 8], 0);
    assert!(is_waiting(&accepting(&mut net.a)));
    assert!(is_waiting(&watching(&mut net.a)));
    assert!(is_waiting(&reading(&mut net.a)));
    for fd in [listener, epoll, datagrams] {
        net.a.close(fd).unwrap();
    }
    let again = [net.stream(), net.a.epoll_create(0).unwrap()];
    assert_eq!(again, [listener, epoll]);
    assert_eq!(net.a.socket(libc::AF_INET, libc::SOCK_DGRAM, 0), Ok(datagrams));
    assert_eq!(accepting(&mut net.a), Progress::Done(Err(Errno::BADF)));
    assert_eq!(watching(&mut net.a), Progress::Done(Err(Errno::BADF)));
    assert_eq!(reading(&mut net.a), Progress::Done(Err(Errno::BADF)));
}
