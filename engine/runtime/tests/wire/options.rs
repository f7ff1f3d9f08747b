//! Sockets that differ in their options: each has its own, however many have been before.

use std::time::Duration;

use ringwire::{Batch, BindError, ConnError, ConnectError, Datagram, UdpOptions};

use super::flood::CLIENT;
use super::*;

/// As many sets as there may be at a time.
const MOST: u64 = 1 << 16;

/// The nth of many different ones.
fn nth(nth: u64) -> TcpOptions {
    let mut options = TcpOptions::default();
    options.user_timeout = Some(Duration::from_millis(1000 + nth));
    options
}

/// A program that gives each request a time of its own.
#[test]
fn options_that_no_socket_has_any_more_take_no_place() {
    let mut wire = Wire::new();
    let worker = wire.worker.as_mut().unwrap();
    let listener = worker.listen((HERE, PORT).into(), &nth(0)).unwrap();
    let conn = worker.connect((CLIENT, 9).into(), &nth(0)).unwrap();
    for round in 0..MOST + 100 {
        worker.set_options(conn, &nth(3 * round)).unwrap();
        worker.set_listener_options(listener, &nth(3 * round + 1)).unwrap();
        let brief = worker.connect((CLIENT, 9).into(), &nth(3 * round + 2)).unwrap();
        worker.close(brief);
    }
    worker.close_listener(listener);
    assert_eq!(worker.set_listener_options(listener, &nth(1)), Err(ConnError::Closed));
}

/// There are no more places than sockets may share: who comes too late is told so, and has nobody else's.
#[test]
fn one_set_of_options_too_many_is_refused() {
    let (_, engine) = Wire::to_engine_of(64, |builder| builder.max_connections(1 << 17));
    let mut worker = engine.into_workers().remove(0).start();
    let peer = |nth: u64| (CLIENT, u16::try_from(1 + nth / 16_384).unwrap()).into();
    let conns: Vec<_> = (0..MOST).map(|index| worker.connect(peer(index), &nth(index)).unwrap()).collect();
    let one_more = nth(MOST);
    assert_eq!(worker.connect(peer(0), &one_more), Err(ConnectError::TooManyOptions));
    assert_eq!(worker.set_options(conns[0], &one_more), Err(ConnError::TooManyOptions));
    assert_eq!(worker.listen((HERE, PORT).into(), &one_more), Err(BindError::TooManyOptions));
    worker.close(conns[7]);
    let listener = worker.listen((HERE, PORT).into(), &one_more).unwrap();
    assert_eq!(worker.set_listener_options(listener, &nth(7)), Err(ConnError::TooManyOptions));
    worker.close_listener(listener);
    worker.connect(peer(0), &nth(7)).unwrap();
}

/// RFC 1122 4.1.4: a datagram's own TTL, else the socket's, is what is on the wire.
#[test]
fn a_datagram_leaves_with_the_ttl_that_the_application_set() {
    let mut wire = Wire::new();
    wire.send(&packets::arp());
    wire.received();
    let worker = wire.worker.as_mut().unwrap();
    let mut options = UdpOptions::default();
    let mut sockets = vec![worker.bind_udp((HERE, 100).into(), &options).unwrap()];
    options.ttl = 3;
    sockets.push(worker.bind_udp((HERE, 101).into(), &options).unwrap());
    options.ttl = 0;
    sockets.push(worker.bind_udp((HERE, 102).into(), &options).unwrap());
    for (socket, ttl, on_the_wire) in
        [(0, 0, 64), (0, 1, 1), (0, 255, 255), (0, 0, 64), (1, 0, 3), (1, 7, 7), (1, 0, 3), (2, 0, 1)]
    {
        let worker = wire.worker.as_mut().unwrap();
        let mut payload = worker.tx_buf().unwrap();
        payload.put(b"text");
        let mut batch = Batch::with_capacity(1);
        let datagram = Datagram { peer: (CLIENT, 9).into(), local: None, tos: 0, ttl, payload };
        assert!(batch.push(datagram).is_ok());
        assert_eq!(worker.send_batch(sockets[socket], &mut batch), Ok(1));
        wire.turn();
        let sent: Vec<u8> = wire.received().iter().map(|frame| packets::ttl(frame)).collect();
        assert_eq!(sent, [on_the_wire], "socket {socket}, {ttl}");
    }
}
