//! Control messages and the error queue, as Linux gives them.

use ringwire_wire::tcp::{Flags, Options};

use crate::library::Drill;
use crate::packets::segment;
use crate::peer::{ACK, Peer, listening, offer, receive};

const INQ: (i32, i32) = (libc::IPPROTO_TCP, libc::TCP_INQ);
const ZEROCOPY: (i32, i32) = (libc::SOL_SOCKET, libc::SO_ZEROCOPY);
const ROOM: usize = 256;

/// A control message: level, type, and the words of its data.
fn control(bytes: &[u8]) -> (i32, i32, Vec<u32>) {
    let int = |at: usize| i32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    let len = usize::from_ne_bytes(bytes[..8].try_into().unwrap());
    assert!(len <= bytes.len());
    let words = bytes[16..len].chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
    (int(8), int(12), words.collect())
}

fn set(drill: &Drill, fd: i32, option: (i32, i32)) {
    assert_eq!(drill.set_option(fd, option, &1_i32.to_ne_bytes()), Ok(0));
    assert_eq!(drill.option(fd, option, 4), Ok(1_i32.to_ne_bytes().to_vec()));
}

#[test]
fn tcp_inq_says_what_is_left_and_the_end_is_one_more() {
    let peer = Peer::accepted("");
    let left = |len: usize| {
        let (read, bytes, flags) = peer.drill.recv_control(peer.fd, (len, ROOM), 0).unwrap();
        assert_eq!((read, flags), (len, 0));
        let (level, kind, words) = control(&bytes);
        assert_eq!((level, kind, words.len()), (6, 36, 1));
        words[0]
    };
    peer.inject(ACK, (1, 1), &[1; 1000]);
    let (_, none, _) = peer.drill.recv_control(peer.fd, (100, ROOM), 0).unwrap();
    assert!(none.is_empty(), "nobody has asked");
    set(&peer.drill, peer.fd, INQ);
    assert_eq!((left(300), left(600)), (600, 0));
    peer.inject(ACK | Flags::FIN, (1001, 1), &[1; 500]);
    assert_eq!((left(400), left(100), left(0)), (101, 1, 1));
    for wrong in [2, -1_i32] {
        assert_eq!(peer.drill.set_option(peer.fd, INQ, &wrong.to_ne_bytes()), Err(libc::EINVAL));
    }
    // A header fits, and not all of it; then not even that.
    let (_, cut, flags) = peer.drill.recv_control(peer.fd, (1, 18), 0).unwrap();
    assert_eq!((cut.len(), &cut[..8], flags), (18, &18_u64.to_ne_bytes()[..], libc::MSG_CTRUNC));
    let (_, cut, flags) = peer.drill.recv_control(peer.fd, (1, 15), 0).unwrap();
    assert_eq!((cut.len(), flags), (0, libc::MSG_CTRUNC));
}

/// What the error queue tells: the first and the last call that is through.
fn copied(drill: &Drill, fd: i32) -> Result<(u32, u32), i32> {
    let (len, bytes, flags) = drill.recv_control(fd, (0, ROOM), libc::MSG_ERRQUEUE)?;
    assert_eq!((len, flags), (0, libc::MSG_ERRQUEUE));
    let (level, kind, words) = control(&bytes);
    assert_eq!((level, kind, words.len()), (0, 11, 8), "IP_RECVERR, and an offender");
    assert_eq!(words[0], 0, "no error");
    assert_eq!(words[1].to_ne_bytes(), [5, 0, 1, 0], "SO_EE_ORIGIN_ZEROCOPY, SO_EE_CODE_ZEROCOPY_COPIED");
    assert_eq!(words[4..], [0; 4]);
    Ok((words[2], words[3]))
}

#[test]
fn msg_zerocopy_is_told_of_through_the_error_queue() {
    let peer = Peer::accepted("");
    let (drill, fd) = (&peer.drill, peer.fd);
    let send = |len: usize| drill.send(fd, &vec![1; len], libc::MSG_ZEROCOPY);
    assert_eq!(send(10), Ok(10), "without SO_ZEROCOPY the flag says nothing");
    assert_eq!(copied(drill, fd), Err(libc::EAGAIN));
    set(drill, fd, ZEROCOPY);
    assert_eq!(drill.set_option(fd, ZEROCOPY, &2_i32.to_ne_bytes()), Err(libc::EINVAL));
    assert_eq!((send(4000), drill.write(fd, b"1")), (Ok(4000), Ok(1)));
    assert_eq!(send(0), Ok(0), "nothing needs no memory");
    assert_eq!(copied(drill, fd), Ok((0, 0)));
    assert_eq!(copied(drill, fd), Err(libc::EAGAIN), "told once");
    assert_eq!((send(1), send(1)), (Ok(1), Ok(1)));
    assert_eq!(drill.poll(fd, libc::POLLIN, 0), Ok(libc::POLLERR));
    assert_eq!(drill.so_error(fd), 0, "which is no error of the socket");
    assert_eq!(copied(drill, fd), Ok((1, 2)), "one notice for calls in a row");
    assert_eq!(drill.poll(fd, libc::POLLIN, 0), Ok(0));
}

#[test]
fn an_edge_tells_of_each_notice() {
    let peer = Peer::accepted("");
    let (drill, fd) = (&peer.drill, peer.fd);
    set(drill, fd, ZEROCOPY);
    let epoll = drill.epoll_create().unwrap();
    drill.epoll_add(epoll, fd, (libc::EPOLLOUT | libc::EPOLLET) as u32, 7).unwrap();
    assert_eq!(drill.epoll_wait(epoll, 0), Ok(vec![(libc::EPOLLOUT as u32, 7)]));
    for _ in 0..2 {
        assert_eq!(drill.send(fd, b"12", libc::MSG_ZEROCOPY), Ok(2));
        assert_eq!(drill.epoll_wait(epoll, 0), Ok(vec![((libc::EPOLLOUT | libc::EPOLLERR) as u32, 7)]));
        assert_eq!(drill.epoll_wait(epoll, 0), Ok(Vec::new()));
    }
}

#[test]
fn a_call_that_failed_is_not_told_of() {
    let drill = Drill::new("");
    let fd = drill.stream();
    set(&drill, fd, ZEROCOPY);
    assert_eq!(drill.send(fd, b"123", libc::MSG_ZEROCOPY), Err(libc::EPIPE));
    assert_eq!(copied(&drill, fd), Err(libc::EAGAIN));
    assert_eq!(drill.set_option(drill.epoll_create().unwrap(), ZEROCOPY, &[0; 4]), Err(libc::ENOTSOCK));
}

#[test]
fn a_connection_that_was_reset_shows_what_it_was() {
    let peer = Peer::accepted("");
    peer.inject(ACK, (1, 1), b"unread");
    peer.expect(ACK, (1, 7), b"");
    peer.inject(Flags::RST, (7, 0), b"");
    let info = peer.drill.option(peer.fd, (libc::IPPROTO_TCP, libc::TCP_INFO), 300).unwrap();
    assert_eq!((info[0], info[5]), (7, 2 | 4), "closed; SACK and scaling had been agreed on");
    assert_eq!(peer.drill.read(peer.fd), Ok(b"unread".to_vec()));
    assert_eq!(peer.drill.read(peer.fd), Err(libc::ECONNRESET));
}

#[test]
fn a_listener_s_choice_is_its_connections_too() {
    let drill = Drill::new("");
    let listener = listening(&drill);
    set(&drill, listener, ZEROCOPY);
    drill.inject(&segment(Flags::SYN, (0, 0), &offer(), b"")).unwrap();
    let answer = receive(&drill);
    drill.inject(&segment(ACK, (1, answer.header.seq.wrapping_add(1)), &Options::default(), b"")).unwrap();
    let (fd, ..) = drill.accept(listener).unwrap();
    assert_eq!(drill.option(fd, ZEROCOPY, 4), Ok(1_i32.to_ne_bytes().to_vec()));
}
