//! Closing, and the errors of connections.

use ringwire_wire::tcp::{Flags, Options};

use crate::library::Drill;
use crate::packets::{HERE, PEER_PORT, PORT, THERE, icmp_error, segment};
use crate::peer::{ACK, Peer, listening, receive};

const FIN: Flags = Flags::FIN;

#[test]
fn the_peer_closes_first() {
    let peer = Peer::accepted("");
    peer.inject(FIN | ACK, (1, 1), b"bye");
    peer.expect(ACK, (1, 5), b"");
    assert_eq!(peer.drill.read(peer.fd), Ok(b"bye".to_vec()));
    assert_eq!(peer.drill.read(peer.fd), Ok(vec![]));
    assert_eq!(peer.drill.close(peer.fd), Ok(0));
    peer.expect(FIN | ACK, (1, 5), b"");
    peer.inject(ACK, (5, 2), b"");
    peer.inject(ACK, (5, 2), b"");
    let reset = peer.receive();
    assert_eq!((reset.header.flags, peer.seq(&reset)), (Flags::RST, 2), "nobody is left");
}

#[test]
fn the_program_closes_first_and_its_end_is_remembered() {
    let peer = Peer::connected("");
    assert_eq!(peer.drill.shutdown(peer.fd, libc::SHUT_WR), Ok(0));
    peer.expect(FIN | ACK, (1, 1), b"");
    peer.inject(ACK, (1, 2), b"");
    peer.inject(FIN | ACK, (1, 2), b"");
    peer.expect(ACK, (2, 2), b"");
    assert_eq!(peer.drill.close(peer.fd), Ok(0));
    peer.inject(FIN | ACK, (1, 2), b"");
    peer.expect(ACK, (2, 2), b"");
}

#[test]
fn refused() {
    let drill = Drill::new("");
    let fd = drill.stream();
    drill.bind(fd, (HERE, PORT)).unwrap();
    drill.make_nonblocking(fd);
    assert_eq!(drill.connect(fd, (THERE, PEER_PORT)), Err(libc::EINPROGRESS));
    let syn = receive(&drill);
    let ack = syn.header.seq.wrapping_add(1);
    drill.inject(&segment(Flags::RST | ACK, (0, ack), &Options::default(), b"")).unwrap();
    let all = libc::POLLIN | libc::POLLOUT | libc::POLLERR | libc::POLLHUP;
    assert_eq!(drill.poll(fd, libc::POLLIN | libc::POLLOUT, 0), Ok(all));
    assert_eq!(drill.so_error(fd), libc::ECONNREFUSED);
}

/// RFC 1122 3.2.2.1, 4.2.3.9: each code of "destination unreachable" is an error of its own to who connects, and none to who is
/// connected: there it is the reason if the peer stays silent.
#[test]
fn unreachable() {
    let errors = [
        (0, libc::ENETUNREACH),
        (1, libc::EHOSTUNREACH),
        (2, libc::ENOPROTOOPT),
        (3, libc::ECONNREFUSED),
        (5, libc::EOPNOTSUPP),
        (6, libc::ENETUNREACH),
        (7, libc::EHOSTDOWN),
        (8, libc::ENONET),
        (9, libc::ENETUNREACH),
        (10, libc::EHOSTUNREACH),
        (11, libc::ENETUNREACH),
        (12, libc::EHOSTUNREACH),
        (13, libc::EHOSTUNREACH),
        (14, libc::EHOSTUNREACH),
        (15, libc::EHOSTUNREACH),
    ];
    for (code, errno) in errors {
        let drill = Drill::new("");
        let fd = drill.stream();
        drill.bind(fd, (HERE, PORT)).unwrap();
        drill.make_nonblocking(fd);
        assert_eq!(drill.connect(fd, (THERE, PEER_PORT)), Err(libc::EINPROGRESS));
        drill.inject(&icmp_error((3, code), &receive(&drill))).unwrap();
        assert_eq!(drill.so_error(fd), errno, "code {code}");

        let peer = Peer::accepted("");
        let ms = 3_000_i32.to_ne_bytes();
        peer.drill.set_option(peer.fd, (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), &ms).unwrap();
        peer.drill.make_nonblocking(peer.fd);
        peer.drill.write(peer.fd, b"x").unwrap();
        peer.drill.inject(&icmp_error((3, code), &peer.receive())).unwrap();
        assert_eq!(peer.drill.read(peer.fd), Err(libc::EAGAIN), "code {code}");
        peer.drill.usleep(10_000_000);
        assert_eq!(peer.drill.read(peer.fd), Err(errno), "code {code}");
    }
}

#[test]
fn nobody_answers() {
    let drill = Drill::new("");
    let fd = drill.stream();
    // Blocking: the SYNs and their back-off pass in virtual time, four minutes of it.
    let start_us = drill.now_us();
    assert_eq!(drill.connect(fd, (THERE, PEER_PORT)), Err(libc::ETIMEDOUT));
    let waited_s = (drill.now_us() - start_us) / 1_000_000;
    assert!((246..=248).contains(&waited_s), "{waited_s}");
    let syns = (0..8).map(|_| receive(&drill).header.flags).collect::<Vec<_>>();
    assert_eq!(syns, [Flags::SYN; 8], "one retry more than Linux's six (RFC 9293 MUST-23)");
}

#[test]
fn reset() {
    let peer = Peer::accepted("");
    peer.inject(Flags::RST | ACK, (1, 1), b"");
    assert_eq!(peer.drill.read(peer.fd), Err(libc::ECONNRESET));
    assert_eq!(peer.drill.read(peer.fd), Ok(vec![]));
    assert_eq!(peer.drill.write(peer.fd, b"x"), Err(libc::EPIPE));
    assert_eq!(peer.drill.shutdown(peer.fd, libc::SHUT_RDWR), Err(libc::ENOTCONN));
}

/// As Linux has it: EPIPE is for CLOSE-WAIT; who has closed too learns that what was written may be lost.
#[test]
fn reset_after_both_have_closed() {
    let peer = Peer::accepted("");
    peer.inject(FIN | ACK, (1, 1), b"");
    peer.expect(ACK, (1, 2), b"");
    peer.drill.write(peer.fd, b"last").unwrap();
    peer.expect(Flags::PSH | ACK, (1, 2), b"last");
    assert_eq!(peer.drill.shutdown(peer.fd, libc::SHUT_WR), Ok(0));
    peer.expect(FIN | ACK, (5, 2), b"");
    peer.inject(Flags::RST, (2, 0), b"");
    assert_eq!(peer.drill.so_error(peer.fd), libc::ECONNRESET);
    assert_eq!(peer.drill.read(peer.fd), Ok(vec![]));
}

/// A connection that the program still holds in TIME-WAIT does not keep a new one away from the listener.
#[test]
fn a_new_connection_over_one_that_is_held_in_time_wait() {
    let peer = Peer::accepted("");
    assert_eq!(peer.drill.shutdown(peer.fd, libc::SHUT_WR), Ok(0));
    peer.expect(FIN | ACK, (1, 1), b"");
    peer.inject(FIN | ACK, (1, 2), b"unread");
    peer.expect(ACK, (2, 8), b"");
    listening(&peer.drill);
    peer.inject(Flags::SYN, (100_000, 0), b"");
    let answer = peer.receive();
    assert_eq!(answer.header.flags, Flags::SYN | ACK);
    assert_eq!(peer.drill.read(peer.fd), Ok(b"unread".to_vec()));
    assert_eq!((peer.drill.read(peer.fd), peer.drill.so_error(peer.fd)), (Ok(vec![]), 0));
}

#[test]
fn the_user_timeout() {
    let peer = Peer::accepted("");
    let ms = 3_000_i32.to_ne_bytes();
    peer.drill.set_option(peer.fd, (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), &ms).unwrap();
    peer.drill.write(peer.fd, b"x").unwrap();
    peer.drill.usleep(10_000_000);
    assert_eq!(peer.drill.read(peer.fd), Err(libc::ETIMEDOUT));
}
