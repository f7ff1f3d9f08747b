//! Options that cannot be had.

use std::net::SocketAddrV4;

use crate::posix::addr::Named;
use crate::posix::{Errno, LowestFree, Sockets};
use crate::{Engine, Interface, TcpOptions};

#[test]
fn what_is_refused_is_as_it_was() {
    let side = |address: &str| {
        Engine::builder().interface(Interface::new("memory").address(address.parse().unwrap()))
    };
    let (engine, _other) = Engine::memory_pair(side("10.0.0.1/24"), side("10.0.0.2/24")).unwrap();
    let worker = engine.into_workers().remove(0).start();
    let mut sockets = Sockets::new(worker, Box::new(LowestFree::new(3, 64)), TcpOptions::default());
    let fd = sockets.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let port = SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 80);
    sockets.bind(fd, Named::Inet(port)).unwrap();
    sockets.listen(fd, 7).unwrap();
    sockets.worker.use_up_options();
    let options = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
        (libc::IPPROTO_IP, libc::IP_TTL),
    ];
    for (level, name) in options {
        let before = sockets.option(fd, level, name);
        assert_eq!(sockets.set_option(fd, level, name, &1_i32.to_ne_bytes()), Err(Errno::NOBUFS));
        assert_eq!(sockets.option(fd, level, name), before);
    }
    assert_eq!(sockets.listen(fd, 9), Err(Errno::NOBUFS));
    let stream = sockets.streams.values().next().unwrap();
    assert_eq!(stream.options.backlog, 7);
}
