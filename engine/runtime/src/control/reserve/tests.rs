use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::super::netns::testbed::{Testbed, sysctl};
use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 1));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 2));
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// Long enough for a SYN, its answer and a busy machine; below the first retransmission.
const ANSWER_TIME: Duration = Duration::from_millis(500);

fn tcp(bed: &Testbed, ip: IpAddr, port: u16) -> TcpReservation {
    bed.here(|| TcpReservation::reserve(ip, port)).unwrap()
}

/// What a kernel client at the other end sees of a port here that does not accept.
fn connect_from_peer(bed: &Testbed, port: u16) -> io::Result<TcpStream> {
    bed.peer(|| TcpStream::connect_timeout(&(HERE, port).into(), ANSWER_TIME))
}

fn bind_with_every_permission(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

#[test]
fn nobody_else_can_bind_a_reserved_port() {
    let bed = Testbed::new();
    for reserved in [HERE, ANY] {
        let reservation = tcp(&bed, reserved, 8080);
        for wanted in [HERE, ANY] {
            let plain = bed.here(|| TcpListener::bind((wanted, 8080))).unwrap_err();
            assert_eq!(plain.kind(), ErrorKind::AddrInUse, "{wanted} beside {reserved}");
            let greedy = bed.here(|| bind_with_every_permission((wanted, 8080).into())).unwrap_err();
            assert_eq!(greedy.kind(), ErrorKind::AddrInUse, "{wanted} beside {reserved}, reusing");
        }
        drop(reservation);
        bed.here(|| TcpListener::bind((HERE, 8080))).expect("free again");
    }
}

#[test]
fn connect_is_never_given_a_reserved_port() {
    let bed = Testbed::new();
    let listener = bed.peer(|| TcpListener::bind((PEER, 7))).unwrap();
    bed.here(|| sysctl("net.ipv4.ip_local_port_range", "40000 40007"));
    let mut reservations: Vec<TcpReservation> = (40_000..40_007).map(|port| tcp(&bed, HERE, port)).collect();

    for _ in 0..20 {
        let stream = bed.here(|| TcpStream::connect((PEER, 7))).expect("one port is left");
        assert_eq!(stream.local_addr().unwrap().port(), 40_007);
        // The peer closes first, so that TIME-WAIT stays there.
        drop(listener.accept().unwrap());
        wait_until_closed(&stream);
    }
    reservations.push(tcp(&bed, HERE, 40_007));
    let none_left = bed.here(|| TcpStream::connect((PEER, 7))).unwrap_err();
    assert_eq!(none_left.kind(), ErrorKind::AddrNotAvailable);
}

fn wait_until_closed(mut stream: &TcpStream) {
    assert_eq!(io::Read::read(&mut stream, &mut [0]).unwrap(), 0);
}

#[test]
fn a_syn_to_a_reserved_port_is_answered_by_nobody() {
    let bed = Testbed::new();
    let refused = connect_from_peer(&bed, 8080).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "a free port answers RST");

    let reservation = tcp(&bed, HERE, 8080);
    let silent = connect_from_peer(&bed, 8080).unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::TimedOut, "neither RST nor SYN-ACK");

    drop(reservation);
    let refused = connect_from_peer(&bed, 8080).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_restart_right_after_close_reserves_again() {
    let bed = Testbed::new();
    for _ in 0..50 {
        drop(tcp(&bed, HERE, 8080));
    }
    // A client gave up on us in between, as it does when a service restarts.
    let reservation = tcp(&bed, HERE, 8080);
    connect_from_peer(&bed, 8080).unwrap_err();
    drop(reservation);
    drop(tcp(&bed, HERE, 8080));
}

#[test]
fn a_descriptor_left_in_a_child_does_not_keep_the_port() {
    let bed = Testbed::new();
    let reservation = tcp(&bed, HERE, 8080);
    let in_child = reservation.socket.try_clone().unwrap();
    drop(reservation);
    tcp(&bed, HERE, 8080);
    drop(in_child);
}

#[test]
fn a_restart_gets_past_time_wait_of_the_kernel() {
    let bed = Testbed::new();
    let listener = bed.here(|| TcpListener::bind((HERE, 8080))).unwrap();
    let client = bed.peer(|| TcpStream::connect((HERE, 8080))).unwrap();
    // We close first, so that TIME-WAIT is ours.
    drop(listener.accept().unwrap());
    wait_until_closed(&client);
    drop(client);
    drop(listener);
    let in_time_wait = bed.here(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while socket.bind(&SocketAddr::from((HERE, 8080)).into()).is_ok() && Instant::now() < deadline {}
        socket.bind(&SocketAddr::from((HERE, 8080)).into()).is_err()
    });
    assert!(in_time_wait, "the test must have something to get past");
    tcp(&bed, HERE, 8080);
}

#[test]
fn the_kernel_chooses_a_port_that_is_then_ours() {
    let bed = Testbed::new();
    let (a, b) = (tcp(&bed, ANY, 0), tcp(&bed, ANY, 0));
    assert!(a.port() != 0 && b.port() != 0 && a.port() != b.port());
    let taken = bed.here(|| TcpListener::bind((HERE, a.port()))).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    let udp = bed.here(|| UdpReservation::reserve(ANY, 0)).unwrap();
    let taken = bed.here(|| UdpSocket::bind((HERE, udp.port()))).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
}

#[test]
fn errors_say_who_and_what() {
    let bed = Testbed::new();
    let reservation = tcp(&bed, ANY, 8080);
    let error = bed.here(|| TcpReservation::reserve(HERE, 8080)).unwrap_err();
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let expected = format!("10.77.1.1:8080/tcp is held by {} (pid {})", name.trim_end(), std::process::id());
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.errno(), Some(Errno::ADDRINUSE.raw_os_error()));
    drop(reservation);

    let v6 = bed.here(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 8080))).unwrap();
    let error = bed.here(|| TcpReservation::reserve(HERE, 8080)).unwrap_err();
    assert_eq!(error.to_string(), expected, "a dual-stack listener holds it too");
    drop(v6);

    let error = bed.here(|| UdpReservation::reserve([10, 77, 1, 200].into(), 53)).unwrap_err();
    assert_eq!(error.to_string(), "10.77.1.200:53/udp: address not on the interface");
    assert_eq!(error.errno(), Some(Errno::ADDRNOTAVAIL.raw_os_error()));

    let nobody = ReserveError::InUse { addr: (HERE, 80).into(), protocol: "tcp", holder: None };
    assert_eq!(nobody.to_string(), "10.77.1.1:80/tcp is held by another socket");
}

#[test]
fn a_reserved_udp_port_is_taken_and_swallows_what_slips_past() {
    let bed = Testbed::new();
    let reservation = bed.here(|| UdpReservation::reserve(HERE, 5353)).unwrap();
    for wanted in [HERE, ANY] {
        let taken = bed.here(|| UdpSocket::bind((wanted, 5353))).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    }
    let error = bed.here(|| UdpReservation::reserve(ANY, 5353)).unwrap_err();
    assert!(error.to_string().starts_with("0.0.0.0:5353/udp is held by "), "{error}");

    let client = bed.peer(|| UdpSocket::bind((PEER, 0))).unwrap();
    client.connect((HERE, 5353)).unwrap();
    client.set_read_timeout(Some(ANSWER_TIME)).unwrap();
    for _ in 0..100 {
        client.send(&[0; 1400]).expect("no port unreachable came back");
    }
    assert_eq!(client.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(reservation);
    client.send(b"?").unwrap();
    assert_eq!(client.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
