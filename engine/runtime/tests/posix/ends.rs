//! How connections end, and what calls say then.

use std::time::Duration;

use super::*;

const ECONNREFUSED: i32 = libc::ECONNREFUSED;

#[test]
fn refused_is_said_once_and_the_socket_can_be_used_again() {
    let mut net = Net::new();
    let client = net.stream();
    assert_eq!(net.wait(call::connect(client, at(B, 81))), Err(Errno::CONNREFUSED));
    assert_eq!(so_error(&mut net.a, client), 0);
    net.server();
    assert_eq!(net.wait(call::connect(client, at(B, PORT))), Ok(()));
}

#[test]
fn refused_without_waiting_is_in_so_error() {
    let mut net = Net::new();
    let client = net.stream();
    make_nonblocking(&mut net.a, client);
    assert_eq!(net.a.connect(client, at(B, 81)), Err(Errno::INPROGRESS));
    net.settle();
    assert_eq!(so_error(&mut net.a, client), ECONNREFUSED);
    assert_eq!(so_error(&mut net.a, client), 0, "reading it clears it");
    assert_eq!(read(&mut net.a, client), Ok(vec![]));
    assert_eq!(write(&mut net.a, client, b"x"), Err(Errno::PIPE));
    assert_eq!(net.a.connect(client, at(B, 81)), Err(Errno::CONNABORTED), "the first connect's end is told");
    assert_eq!(net.a.connect(client, at(B, 81)), Err(Errno::INPROGRESS));
}

#[test]
fn reset_is_said_once_after_what_had_come() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    write(&mut net.b.sockets, server, b"last words").unwrap();
    net.settle();
    set_linger(&mut net.b.sockets, server, 0);
    net.b.sockets.close(server).unwrap();
    net.settle();
    assert_eq!(read(&mut net.a, client), Ok(b"last words".to_vec()));
    assert_eq!(read(&mut net.a, client), Err(Errno::CONNRESET));
    assert_eq!(read(&mut net.a, client), Ok(vec![]));
    assert_eq!(write(&mut net.a, client, b"x"), Err(Errno::PIPE));
    assert_eq!(net.a.peer_addr(client), Err(Errno::NOTCONN));
}

#[test]
fn a_reset_that_comes_with_the_last_words_does_not_lose_them() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    write(&mut net.b.sockets, server, b"last words").unwrap();
    net.b.sockets.turn(Some(Duration::ZERO)).unwrap();
    set_linger(&mut net.b.sockets, server, 0);
    net.b.sockets.close(server).unwrap();
    net.b.sockets.turn(Some(Duration::ZERO)).unwrap();
    net.a.turn(Some(Duration::ZERO)).unwrap();
    let all = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP | libc::POLLERR | libc::POLLHUP;
    let mut fds = [ringwire::posix::PollFd { fd: client, events: all, revents: 0 }];
    assert_eq!((net.a.poll(&mut fds), fds[0].revents), (1, all));
    assert_eq!(read_with(&mut net.a, client, libc::MSG_PEEK), Ok(b"last words".to_vec()));
    let mut two = [0; 2];
    assert_eq!(
        net.a.recv(client, &mut [std::io::IoSliceMut::new(&mut two)], 0).map(|found| found.len),
        Ok(2)
    );
    net.pass(Duration::from_secs(1));
    assert_eq!(read(&mut net.a, client), Ok(b"st words".to_vec()));
    assert_eq!(read(&mut net.a, client), Err(Errno::CONNRESET));
    net.pass(Duration::from_secs(1));
    assert_eq!(read(&mut net.a, client), Ok(vec![]));
    assert_eq!(so_error(&mut net.a, client), 0, "told once");
    assert_eq!(net.a.worker().counters().connections, 0);
}

#[test]
fn what_a_reset_left_behind_goes_with_the_descriptor() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    write(&mut net.b.sockets, server, b"never read").unwrap();
    net.settle();
    set_linger(&mut net.b.sockets, server, 0);
    net.b.sockets.close(server).unwrap();
    net.settle();
    assert_eq!(net.a.worker().counters().connections, 1);
    net.a.close(client).unwrap();
    net.settle();
    assert_eq!(net.a.worker().counters().connections, 0);
}

#[test]
fn a_write_is_told_of_the_reset_too() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    set_linger(&mut net.b.sockets, server, 0);
    net.b.sockets.close(server).unwrap();
    net.settle();
    assert_eq!(write(&mut net.a, client, b"x"), Err(Errno::CONNRESET));
    assert_eq!(write(&mut net.a, client, b"x"), Err(Errno::PIPE));
}

/// Linux keeps `sk_err` for the next call when this one has something to show.
#[test]
fn a_write_cut_short_by_a_reset_leaves_the_error_to_the_next_call() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let mut writing = call::send(client, vec![1; 1_000_000], 0, None);
    assert!(matches!(writing(&mut net.a), Progress::Wait { .. }));
    net.settle();
    net.b.sockets.close(server).unwrap();
    net.settle();
    let Progress::Done(Ok(written)) = writing(&mut net.a) else { panic!("the reset ends the write") };
    assert!((1..1_000_000).contains(&written), "{written}");
    assert_eq!(read(&mut net.a, client), Err(Errno::CONNRESET));
    assert_eq!(write(&mut net.a, client, b"x"), Err(Errno::PIPE));
}

#[test]
fn a_read_for_all_cut_short_by_a_reset_leaves_the_error_to_the_next_call() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let mut reading = call::recv(client, [0; 8], libc::MSG_WAITALL);
    write(&mut net.b.sockets, server, b"four").unwrap();
    net.settle();
    assert!(matches!(reading(&mut net.a), Progress::Wait { .. }));
    set_linger(&mut net.b.sockets, server, 0);
    net.b.sockets.close(server).unwrap();
    net.settle();
    let Progress::Done(Ok((found, _))) = reading(&mut net.a) else { panic!("the reset ends the read") };
    assert_eq!(found.len, 4);
    assert_eq!(so_error(&mut net.a, client), libc::ECONNRESET);
    assert_eq!(read(&mut net.a, client), Ok(vec![]));
}

#[test]
fn a_reset_after_the_peer_s_end_is_a_broken_pipe() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    net.b.sockets.close(server).unwrap();
    net.settle();
    assert_eq!(write(&mut net.a, client, b"nobody reads this"), Ok(17));
    net.settle();
    assert_eq!(read(&mut net.a, client), Ok(vec![]));
    assert_eq!(so_error(&mut net.a, client), libc::EPIPE);
}

#[test]
fn closing_with_unread_data_resets() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    write(&mut net.a, client, b"unread").unwrap();
    net.settle();
    net.b.sockets.close(server).unwrap();
    net.settle();
    assert_eq!(read(&mut net.a, client), Err(Errno::CONNRESET));
}

#[test]
fn nobody_answers_a_connect() {
    let mut net = Net::new();
    net.server();
    let first = net.stream();
    net.wait(call::connect(first, at(B, PORT))).unwrap();
    net.b.is_gone = true;
    let client = net.stream();
    let start = net.now_ns();
    // Without a neighbour the network says so first, with one only the retries end it.
    let error = net.wait(call::connect(client, at(B, PORT))).unwrap_err();
    assert!(matches!(error, Errno::TIMEDOUT | Errno::HOSTUNREACH), "{error:?}");
    assert!(net.now_ns() > start + SECOND_NS);
}

#[test]
fn the_time_for_a_connect_is_over() {
    let mut net = Net::new();
    net.b.is_gone = true;
    let client = net.stream();
    set_timeout(&mut net.a, client, libc::SO_SNDTIMEO, (0, 200_000));
    assert_eq!(net.wait(call::connect(client, at(B, PORT))), Err(Errno::INPROGRESS));
    assert_eq!(net.a.connect(client, at(B, PORT)), Err(Errno::ALREADY));
}

#[test]
fn a_peer_that_has_vanished_times_out() {
    let mut net = Net::new();
    let (client, _server) = net.connection();
    set_int(&mut net.a, client, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 5_000).unwrap();
    net.b.is_gone = true;
    write(&mut net.a, client, b"anybody?").unwrap();
    net.pass(Duration::from_secs(12));
    assert_eq!(read(&mut net.a, client), Err(Errno::TIMEDOUT));
    assert_eq!(read(&mut net.a, client), Ok(vec![]));
}

#[test]
fn keepalive_finds_a_dead_peer() {
    let mut net = Net::new();
    let (client, _server) = net.connection();
    for (name, value) in [(libc::TCP_KEEPIDLE, 10), (libc::TCP_KEEPINTVL, 2), (libc::TCP_KEEPCNT, 3)] {
        set_int(&mut net.a, client, libc::IPPROTO_TCP, name, value).unwrap();
    }
    set_int(&mut net.a, client, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1).unwrap();
    net.pass(Duration::from_secs(60));
    assert_eq!(read(&mut net.a, client), Err(Errno::AGAIN), "it answers");
    net.b.is_gone = true;
    net.pass(Duration::from_secs(30));
    assert_eq!(read(&mut net.a, client), Err(Errno::TIMEDOUT));
}

#[test]
fn a_closed_listener_resets_what_nobody_accepted() {
    let mut net = Net::new();
    let server = net.server();
    let client = net.stream();
    net.wait(call::connect(client, at(B, PORT))).unwrap();
    net.settle();
    net.b.sockets.close(server).unwrap();
    net.settle();
    assert_eq!(read(&mut net.a, client), Err(Errno::CONNRESET));
}

#[test]
fn what_was_reset_before_it_was_accepted_is_accepted_and_says_so() {
    let mut net = Net::new();
    let server = net.server();
    let client = net.stream();
    net.wait(call::connect(client, at(B, PORT))).unwrap();
    set_linger(&mut net.a, client, 0);
    net.a.close(client).unwrap();
    net.settle();
    let (accepted, peer) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    assert_eq!(*peer.ip(), A);
    assert_eq!(read(&mut net.b.sockets, accepted), Err(Errno::CONNRESET));
}

#[test]
fn close_lingers_until_the_peer_has_everything() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    set_linger(&mut net.a, client, 30);
    write(&mut net.a, client, b"to the end").unwrap();
    let start = net.now_ns();
    assert_eq!(net.wait(call::close(client)), Ok(()));
    assert!(net.now_ns() - start < SECOND_NS);
    assert!(!net.a.is_open(client));
    assert_eq!(read(&mut net.b.sockets, server), Ok(b"to the end".to_vec()));
}

#[test]
fn close_lingers_no_longer_than_it_is_told() {
    let mut net = Net::new();
    let (client, _server) = net.connection();
    net.b.is_gone = true;
    set_linger(&mut net.a, client, 3);
    write(&mut net.a, client, b"to nobody").unwrap();
    let start = net.now_ns();
    assert_eq!(net.wait(call::close(client)), Ok(()));
    let waited_ms = (net.now_ns() - start) / 1_000_000;
    assert!((3_000..3_010).contains(&waited_ms), "{waited_ms}");
}

/// Turns that a signal ends.
struct Interrupted<'a>(&'a mut Host);

impl Runner for Interrupted<'_> {
    fn run_until(&mut self, sockets: &mut Sockets, _until_ns: Option<u64>) -> Result<(), Errno> {
        self.0.exchange(sockets);
        Err(Errno::INTR)
    }
}

#[test]
fn a_call_whose_wait_is_broken_off_says_what_it_has_done() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    let mut interrupted = Interrupted(&mut net.b);
    let sent = call::wait(&mut net.a, &mut interrupted, call::send(client, vec![7; 500_000], 0, None));
    let sent = sent.expect("the wait is not the result").expect("something was taken");
    assert!((1..500_000).contains(&sent), "{sent}");
    write(&mut net.b.sockets, server, b"four").unwrap();
    net.settle();
    let mut interrupted = Interrupted(&mut net.b);
    let reading = call::recv(client, [0; 8], libc::MSG_WAITALL);
    let (found, buf) = call::wait(&mut net.a, &mut interrupted, reading).unwrap().unwrap();
    assert_eq!((found.len, &buf[..4]), (4, &b"four"[..]));
    let reading = call::recv(client, [0; 8], 0);
    let nothing = call::wait(&mut net.a, &mut Interrupted(&mut net.b), reading);
    assert_eq!(nothing.unwrap_err(), Errno::INTR);
    let mut got = 0;
    for _ in 0..20 {
        net.pass(Duration::from_millis(100));
        let pieces = std::iter::from_fn(|| read(&mut net.b.sockets, server).ok());
        got += pieces.map(|piece| piece.len()).sum::<usize>();
    }
    assert_eq!(got, sent, "what was counted has left, and no more");
}

#[test]
fn a_close_that_lingers_gives_its_descriptor_back_at_once() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    set_linger(&mut net.a, client, 30);
    write(&mut net.a, client, b"to the end").unwrap();
    let closed = call::wait(&mut net.a, &mut Interrupted(&mut net.b), call::close(client));
    assert_eq!(closed, Ok(Ok(())), "broken off or not, it is closed");
    assert!(!net.a.is_open(client));
    net.settle();
    assert_eq!(read(&mut net.b.sockets, server), Ok(b"to the end".to_vec()));
}

#[test]
fn a_descriptor_whose_close_lingers_is_free_for_others() {
    let mut net = Net::new();
    let (client, _server) = net.connection();
    net.b.is_gone = true;
    set_linger(&mut net.a, client, 30);
    write(&mut net.a, client, b"to nobody").unwrap();
    let mut closing = call::close(client);
    assert!(matches!(closing(&mut net.a), Progress::Wait { .. }));
    assert_eq!(net.stream(), client, "the number is somebody else's");
    net.pass(Duration::from_secs(31));
    assert_eq!(closing(&mut net.a), Progress::Done(Ok(())));
    assert!(net.a.is_open(client), "and stays so");
}

#[test]
fn a_connect_can_be_broken_off() {
    let mut net = Net::new();
    net.b.is_gone = true;
    let client = net.stream();
    assert_eq!(net.a.connect(client, at(B, PORT)), Err(Errno::INPROGRESS));
    assert_eq!(net.a.shutdown(client, libc::SHUT_RDWR), Ok(()));
    assert_eq!(net.a.shutdown(client, libc::SHUT_RDWR), Err(Errno::NOTCONN));
    assert_eq!(net.a.connect(client, at(B, PORT)), Err(Errno::INPROGRESS));
    assert_eq!(net.a.connect(client, Named::Unspecified), Ok(()));
    assert_eq!(read(&mut net.a, client), Err(Errno::CONNRESET));
    assert_eq!(read(&mut net.a, client), Err(Errno::NOTCONN));
}

#[test]
fn a_listener_shut_for_reading_listens_no_more() {
    let mut net = Net::new();
    let here = net.stream();
    net.a.bind(here, at(A, PORT)).unwrap();
    net.a.listen(here, 1).unwrap();
    assert_eq!(net.a.shutdown(here, libc::SHUT_WR), Ok(()));
    assert_eq!(net.a.accept(here, Mode::Blocking), Err(Errno::AGAIN));
    assert_eq!(net.a.shutdown(here, libc::SHUT_RD), Ok(()));
    assert_eq!(net.a.accept(here, Mode::Blocking), Err(Errno::INVAL));
    assert_eq!(net.a.listen(here, 1), Ok(()), "and again");
}
