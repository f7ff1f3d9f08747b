//! The other calls, and misuse of all.

use ringwire_wire::checksum::Sum;
use ringwire_wire::ipv4::{self, Protocol};
use ringwire_wire::tcp::{Flags, Options};
use ringwire_wire::udp;

use crate::library::Drill;
use crate::packets::{HERE, PEER_PORT, PORT, THERE, ip, segment};
use crate::peer::{ACK, Peer};

const FIONREAD: libc::c_ulong = 0x541b;

#[test]
fn all_pointers_are_set() {
    let drill = Drill::new("");
    let library = &drill.interface;
    let set = [
        library.free.is_some(),
        library.socket.is_some(),
        library.bind.is_some(),
        library.listen.is_some(),
        library.accept.is_some(),
        library.connect.is_some(),
        library.read.is_some(),
        library.readv.is_some(),
        library.recv.is_some(),
        library.recvfrom.is_some(),
        library.recvmsg.is_some(),
        library.write.is_some(),
        library.writev.is_some(),
        library.send.is_some(),
        library.sendto.is_some(),
        library.sendmsg.is_some(),
        library.fcntl.is_some(),
        library.ioctl.is_some(),
        library.close.is_some(),
        library.shutdown.is_some(),
        library.getsockopt.is_some(),
        library.setsockopt.is_some(),
        library.poll.is_some(),
        library.netdev_send.is_some(),
        library.netdev_receive.is_some(),
        library.usleep.is_some(),
        library.gettimeofday.is_some(),
        library.epoll_create.is_some(),
        library.epoll_ctl.is_some(),
        library.epoll_wait.is_some(),
        library.pipe.is_some(),
        library.splice.is_some(),
    ];
    assert_eq!(set, [true; 32]);
    assert_eq!((drill.pipe(), drill.splice()), (Err(libc::ENOSYS), Err(libc::ENOSYS)));
}

#[test]
fn wrong_flags_make_every_call_fail_and_none_hang() {
    let drill = Drill::new("speed=11");
    assert_eq!(drill.socket(libc::SOCK_STREAM), Err(libc::EINVAL));
    assert_eq!(drill.poll(3, libc::POLLIN, -1), Err(libc::EINVAL));
    assert!(drill.receive().0.is_empty());
    let drill = Drill::new("mtu=9000");
    assert_eq!(drill.socket(libc::SOCK_STREAM), Err(libc::EINVAL), "longer than the wire takes");
}

#[test]
fn descriptors_are_real_ones_of_the_process() {
    let drill = Drill::new("");
    let fds = [drill.stream(), drill.stream(), drill.epoll_create().unwrap()];
    for fd in fds {
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).expect("an open file");
        assert!(target.to_string_lossy().contains("eventfd"), "{target:?}");
    }
    drill.close(fds[0]).unwrap();
    assert_eq!(drill.close(fds[0]), Err(libc::EBADF));
}

#[test]
fn every_way_to_read_and_to_write() {
    let peer = Peer::accepted("");
    let (drill, fd) = (&peer.drill, peer.fd);
    assert_eq!(drill.send(fd, b"ab", libc::MSG_NOSIGNAL), Ok(2));
    peer.expect(ACK | Flags::PSH, (1, 1), b"ab");
    peer.inject(ACK, (1, 3), b"");
    assert_eq!(drill.sendmsg(fd, &[b"cd", b"ef"]), Ok(4));
    peer.expect(ACK | Flags::PSH, (3, 1), b"cdef");
    peer.inject(ACK, (1, 7), b"abcdefghijkl");
    assert_eq!(drill.ioctl(fd, FIONREAD), Ok(12));
    assert_eq!(drill.recv(fd, 3, libc::MSG_PEEK), Ok(b"abc".to_vec()));
    assert_eq!(drill.readv(fd, 2), Ok((4, b"abcd".to_vec())));
    assert_eq!(drill.recvmsg(fd, 2), Ok((4, b"efgh".to_vec(), 0)));
    assert_eq!(drill.recv_from(fd), Ok((b"ijkl".to_vec(), 0)));
    assert_eq!(drill.recv(fd, 9, libc::MSG_DONTWAIT), Err(libc::EAGAIN));
    drill.make_nonblocking(fd);
    assert_eq!(drill.fcntl(fd, libc::F_GETFL, 0), Ok(libc::O_RDWR | libc::O_NONBLOCK));
    assert_eq!(drill.read(fd), Err(libc::EAGAIN));
}

#[test]
fn epoll() {
    let peer = Peer::accepted("");
    let epoll = peer.drill.epoll_create().unwrap();
    let wanted = (libc::EPOLLIN | libc::EPOLLET) as u32;
    assert_eq!(peer.drill.epoll_add(epoll, peer.fd, wanted, u64::MAX - 1), Ok(0));
    assert_eq!(peer.drill.epoll_add(epoll, peer.fd, wanted, 0), Err(libc::EEXIST));
    assert_eq!(peer.drill.epoll_wait(epoll, 10), Ok(vec![]));
    peer.inject(ACK, (1, 1), b"x");
    let found = vec![(libc::EPOLLIN as u32, u64::MAX - 1)];
    assert_eq!(peer.drill.epoll_wait(epoll, -1), Ok(found));
    assert_eq!(peer.drill.epoll_wait(epoll, 0), Ok(vec![]), "by edge");
    assert_eq!(peer.drill.epoll_wait(peer.fd, 0), Err(libc::EINVAL));
}

#[test]
fn misuse() {
    let nobody = Drill::new("");
    assert_eq!(nobody.send_fast_to_nobody(nobody.stream()), Err(libc::EOPNOTSUPP));
    let drill = Drill::new("");
    let fd = drill.stream();
    assert_eq!(drill.socket(libc::SOCK_RAW), Err(libc::ESOCKTNOSUPPORT));
    assert_eq!(drill.bind(fd, (THERE, PORT)), Err(libc::EADDRNOTAVAIL));
    assert_eq!(drill.bind(fd, (HERE, PORT)), Ok(0));
    assert_eq!(drill.bind(fd, (HERE, PORT)), Err(libc::EINVAL));
    let other = drill.stream();
    assert_eq!(drill.bind(other, (HERE, PORT)), Err(libc::EADDRINUSE));
    assert_eq!(drill.read(fd), Err(libc::ENOTCONN));
    assert_eq!(drill.write(fd, b"x"), Err(libc::EPIPE));
    assert_eq!(drill.accept(fd), Err(libc::EINVAL));
    assert_eq!(drill.shutdown(fd, 7), Err(libc::EINVAL));
    assert_eq!(drill.ioctl(fd, 0x1234), Err(libc::ENOTTY));
    assert_eq!(drill.option(fd, (libc::SOL_SOCKET, 9999), 4), Err(libc::ENOPROTOOPT));
    assert_eq!(drill.set_option(fd, (libc::IPPROTO_TCP, libc::TCP_NODELAY), &[1]), Err(libc::EINVAL));
    assert_eq!(drill.inject(&[0x99, 1, 2]), Err(libc::EINVAL), "no packet");
    let padded = [segment(ACK, (1, 1), &Options::default(), b""), vec![0; 2_000]].concat();
    assert_eq!(drill.inject(&padded), Err(libc::EINVAL), "longer than a packet may be, and no text to cut");
    assert_eq!(drill.listen(9_999, 1), Err(libc::EBADF));
}

#[test]
fn a_null_buffer_is_a_fault_and_takes_nothing() {
    let peer = Peer::accepted("");
    peer.inject(ACK, (1, 1), b"kept");
    assert_eq!(peer.drill.with_null(peer.fd, 100), [Err(libc::EFAULT); 4]);
    assert_eq!(peer.drill.read(peer.fd), Ok(b"kept".to_vec()));
}

/// As on Linux: only bytes that are to be copied need a place.
#[test]
fn a_null_buffer_is_no_fault_while_nothing_is_copied() {
    let peer = Peer::accepted("");
    let (drill, fd) = (&peer.drill, peer.fd);
    assert_eq!(drill.recv_nowhere(9_999, 10, 0), Err(libc::EBADF));
    assert_eq!(drill.recv_nowhere(drill.stream(), 10, 0), Err(libc::ENOTCONN));
    assert_eq!(drill.recv_nowhere(fd, 10, libc::MSG_DONTWAIT), Err(libc::EAGAIN));
    peer.inject(ACK, (1, 1), b"thrown away, kept");
    assert_eq!(drill.recv_nowhere(fd, 13, libc::MSG_TRUNC), Ok(13));
    assert_eq!(drill.recv_nowhere(fd, 9, libc::MSG_DONTWAIT), Err(libc::EFAULT));
    assert_eq!(drill.read(fd), Ok(b"kept".to_vec()));
    peer.inject(ACK | Flags::FIN, (18, 1), b"");
    assert_eq!(drill.recv_nowhere(fd, 10, 0), Ok(0), "the end");
}

#[test]
fn datagrams() {
    let drill = Drill::new("");
    let fd = drill.socket(libc::SOCK_DGRAM).unwrap();
    drill.bind(fd, (HERE, PORT)).unwrap();
    let text = b"question";
    let header = udp::Header { src_port: PEER_PORT, dst_port: PORT, len: text.len() as u16 };
    let len = (udp::HEADER_LEN + text.len()) as u16;
    let mut bytes = [0; udp::HEADER_LEN];
    let pseudo = Sum::pseudo_v4(THERE.into(), HERE.into(), Protocol::UDP, len);
    header.emit(&mut bytes, pseudo + Sum::of(text));
    drill.inject(&ip(Protocol::UDP, &[&bytes[..], text].concat())).unwrap();
    assert_eq!(drill.recv_from(fd), Ok((text.to_vec(), PEER_PORT)));
    assert_eq!(drill.send_to(fd, b"answer", (THERE, PEER_PORT)), Ok(6));
    let (packet, _) = drill.receive();
    let packet = ipv4::Packet::parse(&packet).unwrap();
    let answer = udp::Datagram::parse(packet.payload()).unwrap();
    assert_eq!((answer.src_port(), answer.dst_port()), (PORT, PEER_PORT));
    assert_eq!(answer.payload(), b"answer");
}
