//! `setsockopt`, `getsockopt`, `TCP_INFO`.

use std::time::Duration;

use super::*;

const TCP: i32 = libc::IPPROTO_TCP;
const IP: i32 = libc::IPPROTO_IP;
const SOCKET: i32 = libc::SOL_SOCKET;

#[test]
fn what_is_set_is_what_is_got() {
    let mut net = Net::new();
    let fd = net.stream();
    let options = [
        (SOCKET, libc::SO_REUSEADDR, 1, 1),
        (SOCKET, libc::SO_KEEPALIVE, 7, 1),
        (SOCKET, libc::SO_RCVBUF, 50_000, 100_000),
        (SOCKET, libc::SO_SNDBUF, 60_000, 120_000),
        (TCP, libc::TCP_NODELAY, 1, 1),
        (TCP, libc::TCP_CORK, 1, 1),
        (TCP, libc::TCP_MAXSEG, 1000, 1000),
        (TCP, libc::TCP_KEEPIDLE, 11, 11),
        (TCP, libc::TCP_KEEPINTVL, 12, 12),
        (TCP, libc::TCP_KEEPCNT, 13, 13),
        (TCP, libc::TCP_USER_TIMEOUT, 1234, 1234),
        // The lower two bits are not the application's.
        (IP, libc::IP_TOS, 0xbb, 0xb8),
        (IP, libc::IP_TTL, 7, 7),
        (IP, libc::IP_TTL, -1, 64),
    ];
    for (level, name, set, got) in options {
        assert_eq!(set_int(&mut net.a, fd, level, name, set), Ok(()), "{level} {name}");
        assert_eq!(int_option(&mut net.a, fd, level, name), got, "{level} {name}");
    }
    set_linger(&mut net.a, fd, 5);
    let linger = net.a.option(fd, SOCKET, libc::SO_LINGER).unwrap();
    assert_eq!(linger, [1_i32.to_ne_bytes(), 5_i32.to_ne_bytes()].concat());
    set_timeout(&mut net.a, fd, libc::SO_RCVTIMEO, (3, 250_000));
    let timeout = net.a.option(fd, SOCKET, libc::SO_RCVTIMEO).unwrap();
    assert_eq!(timeout, [3_i64.to_ne_bytes(), 250_000_i64.to_ne_bytes()].concat());
    for (name, value) in [(libc::SO_TYPE, libc::SOCK_STREAM), (libc::SO_DOMAIN, libc::AF_INET)] {
        assert_eq!(int_option(&mut net.a, fd, SOCKET, name), value);
    }
    assert_eq!(int_option(&mut net.a, fd, SOCKET, libc::SO_PROTOCOL), libc::IPPROTO_TCP);
    assert_eq!(int_option(&mut net.a, fd, SOCKET, libc::SO_ACCEPTCONN), 0);
    net.a.listen(fd, 1).unwrap();
    assert_eq!(int_option(&mut net.a, fd, SOCKET, libc::SO_ACCEPTCONN), 1);
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let mut net = Net::new();
    let fd = net.stream();
    let a = &mut net.a;
    let wrong = [
        (TCP, libc::TCP_MAXSEG, 87),
        (TCP, libc::TCP_MAXSEG, 40_000),
        (TCP, libc::TCP_KEEPIDLE, 0),
        (TCP, libc::TCP_KEEPINTVL, 40_000),
        (TCP, libc::TCP_KEEPCNT, 128),
        (TCP, libc::TCP_USER_TIMEOUT, -1),
        (IP, libc::IP_TTL, 0),
        (IP, libc::IP_TTL, 256),
    ];
    for (level, name, value) in wrong {
        assert_eq!(set_int(a, fd, level, name, value), Err(Errno::INVAL), "{name} {value}");
    }
    assert_eq!(a.set_option(fd, TCP, libc::TCP_NODELAY, &[1]), Err(Errno::INVAL), "too short");
    assert_eq!(a.set_option(fd, SOCKET, libc::SO_LINGER, &[0; 4]), Err(Errno::INVAL));
    let time = [0_i64.to_ne_bytes(), 1_000_000_i64.to_ne_bytes()].concat();
    assert_eq!(a.set_option(fd, SOCKET, libc::SO_SNDTIMEO, &time), Err(Errno::DOM));
    for (level, name) in [(SOCKET, libc::SO_BROADCAST), (TCP, libc::TCP_DEFER_ACCEPT), (IP, libc::IP_OPTIONS)]
    {
        assert_eq!(set_int(a, fd, level, name, 1), Err(Errno::NOPROTOOPT));
        assert_eq!(a.option(fd, level, name), Err(Errno::NOPROTOOPT));
    }
    let unconnected = a.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    assert_eq!(set_int(a, unconnected, TCP, libc::TCP_QUICKACK, 0), Err(Errno::NOPROTOOPT));
}

#[test]
fn congestion_control_goes_by_linux_s_names() {
    let mut net = Net::new();
    let (fd, _) = net.connection();
    assert_eq!(net.a.option(fd, TCP, libc::TCP_CONGESTION).unwrap()[..6], *b"cubic\0");
    assert_eq!(net.a.set_option(fd, TCP, libc::TCP_CONGESTION, b"reno\0\0"), Ok(()));
    assert_eq!(net.a.option(fd, TCP, libc::TCP_CONGESTION).unwrap()[..5], *b"reno\0");
    assert_eq!(net.a.set_option(fd, TCP, libc::TCP_CONGESTION, b"vegas"), Err(Errno::NOENT));
    assert_eq!(net.a.set_option(fd, TCP, libc::TCP_CONGESTION, b""), Err(Errno::INVAL));
}

#[test]
fn options_of_a_listener_hold_for_what_it_accepts_from_then_on() {
    let mut net = Net::new();
    let server = net.server();
    set_int(&mut net.b.sockets, server, TCP, libc::TCP_MAXSEG, 500).unwrap();
    set_int(&mut net.b.sockets, server, TCP, libc::TCP_NODELAY, 1).unwrap();
    let (client, accepted) = net.connect_to(server);
    assert_eq!(int_option(&mut net.b.sockets, accepted, TCP, libc::TCP_NODELAY), 1);
    // Twelve bytes are timestamps.
    assert_eq!(int_option(&mut net.a, client, TCP, libc::TCP_MAXSEG), 488);
}

#[test]
fn nodelay_lets_small_writes_go() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    net.b.is_gone = true;
    write(&mut net.a, client, b"1").unwrap();
    net.settle();
    write(&mut net.a, client, b"2").unwrap();
    net.settle();
    assert_eq!(unsent(&mut net.a, client), 1, "Nagle's rule");
    set_int(&mut net.a, client, TCP, libc::TCP_NODELAY, 1).unwrap();
    net.settle();
    assert_eq!(unsent(&mut net.a, client), 0);
    net.b.is_gone = false;
    net.settle();
    assert_eq!(read(&mut net.b.sockets, server), Ok(b"12".to_vec()));
}

fn unsent(sockets: &mut Sockets, fd: Fd) -> i32 {
    const SIOCOUTQNSD: u64 = 0x894b;
    match sockets.ioctl(fd, SIOCOUTQNSD) {
        Ok(ringwire::posix::Ioctl::Get(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cork_chosen_before_the_connection_holds() {
    let mut net = Net::new();
    let server = net.server();
    let client = net.stream();
    set_int(&mut net.a, client, TCP, libc::TCP_CORK, 1).unwrap();
    net.wait(call::connect(client, at(B, PORT))).unwrap();
    net.settle();
    let (accepted, _) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    write(&mut net.a, client, b"held").unwrap();
    net.settle();
    assert_eq!(read(&mut net.b.sockets, accepted), Err(Errno::AGAIN));
    set_int(&mut net.a, client, TCP, libc::TCP_CORK, 0).unwrap();
    net.settle();
    assert_eq!(read(&mut net.b.sockets, accepted), Ok(b"held".to_vec()));
}

#[test]
fn switching_nagle_off_lets_go_what_is_held_back() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    set_int(&mut net.a, client, TCP, libc::TCP_CORK, 1).unwrap();
    write(&mut net.a, client, b"held").unwrap();
    net.settle();
    assert_eq!(read(&mut net.b.sockets, server), Err(Errno::AGAIN));
    set_int(&mut net.a, client, TCP, libc::TCP_NODELAY, 1).unwrap();
    net.settle();
    assert_eq!(read(&mut net.b.sockets, server), Ok(b"held".to_vec()));
    // The cork is still in, for what is written right after too, and switching Nagle's algorithm on lets nothing go.
    set_int(&mut net.a, client, TCP, libc::TCP_NODELAY, 1).unwrap();
    write(&mut net.a, client, b"again").unwrap();
    set_int(&mut net.a, client, TCP, libc::TCP_NODELAY, 0).unwrap();
    net.settle();
    assert_eq!(read(&mut net.b.sockets, server), Err(Errno::AGAIN));
    assert_eq!(int_option(&mut net.a, client, TCP, libc::TCP_NODELAY), 0);
}

#[test]
fn options_of_the_ip_level_may_be_bytes() {
    let mut net = Net::new();
    let fd = net.stream();
    assert_eq!(net.a.set_option(fd, IP, libc::IP_TTL, &[9]), Ok(()));
    assert_eq!(int_option(&mut net.a, fd, IP, libc::IP_TTL), 9);
    assert_eq!(net.a.set_option(fd, IP, libc::IP_TTL, &[]), Err(Errno::INVAL));
    assert_eq!(net.a.set_option(fd, TCP, libc::TCP_NODELAY, &[1]), Err(Errno::INVAL));
}

#[test]
fn quick_ack_acknowledges_at_once() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    write(&mut net.b.sockets, server, b"x").unwrap();
    net.settle();
    assert_eq!(info_word(&mut net.b.sockets, server, 24), 1, "the acknowledgement is delayed");
    set_int(&mut net.a, client, TCP, libc::TCP_QUICKACK, 1).unwrap();
    net.settle();
    assert_eq!(info_word(&mut net.b.sockets, server, 24), 0);
    write(&mut net.b.sockets, server, b"y").unwrap();
    net.settle();
    assert_eq!(info_word(&mut net.b.sockets, server, 24), 0, "and the next few");
    set_int(&mut net.a, client, TCP, libc::TCP_QUICKACK, 0).unwrap();
    write(&mut net.b.sockets, server, b"z").unwrap();
    net.settle();
    assert_eq!(info_word(&mut net.b.sockets, server, 24), 1, "delayed again");
}

#[test]
fn a_small_receive_buffer_stops_the_peer() {
    let mut net = Net::new();
    let server = net.server();
    let client = net.stream();
    set_int(&mut net.a, client, SOCKET, libc::SO_RCVBUF, 8_000).unwrap();
    net.wait(call::connect(client, at(B, PORT))).unwrap();
    net.settle();
    let (accepted, _) = net.b.sockets.accept(server, Mode::Blocking).unwrap();
    write(&mut net.b.sockets, accepted, &[7; 50_000]).unwrap();
    net.pass(Duration::from_secs(5));
    let waiting = match net.a.ioctl(client, libc::FIONREAD) {
        Ok(ringwire::posix::Ioctl::Get(bytes)) => bytes,
        other => panic!("{other:?}"),
    };
    assert!((6_000..=8_000).contains(&waiting), "{waiting}");
    let mut got = 0;
    while got < 50_000 {
        got += net.wait(call::recv(client, vec![0; 8_000], 0)).unwrap().0.len;
    }
    assert_eq!(got, 50_000);
}

#[test]
fn keep_alive_of_the_configuration_survives_the_first_option() {
    let (time, interval) = (Duration::from_secs(10), Duration::from_secs(2));
    let keepalive = Some(ringwire::KeepAlive { time, interval, retries: 3 });
    let mut defaults = TcpOptions::default();
    defaults.keepalive = keepalive;
    let mut net = Net::with(defaults);
    let (client, _server) = net.connection();
    set_int(&mut net.a, client, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1).unwrap();
    assert_eq!(int_option(&mut net.a, client, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);
    for (name, value) in [(libc::TCP_KEEPIDLE, 10), (libc::TCP_KEEPINTVL, 2), (libc::TCP_KEEPCNT, 3)] {
        assert_eq!(int_option(&mut net.a, client, libc::IPPROTO_TCP, name), value);
    }
    net.b.is_gone = true;
    net.pass(Duration::from_secs(30));
    assert_eq!(read(&mut net.a, client), Err(Errno::TIMEDOUT));
}

#[test]
fn window_scale_timestamps_and_sack_can_be_left_out() {
    let mut defaults = TcpOptions::default();
    (defaults.timestamps, defaults.sack, defaults.window_scaling) = (false, false, false);
    let mut net = Net::with(defaults);
    let (client, _) = net.connection();
    assert_eq!(net.a.option(client, TCP, libc::TCP_INFO).unwrap()[5], 0, "tcpi_options");
    assert_eq!(int_option(&mut net.a, client, TCP, libc::TCP_MAXSEG), 1460);
    let mut net = Net::new();
    let (client, _) = net.connection();
    assert_eq!(net.a.option(client, TCP, libc::TCP_INFO).unwrap()[5], 7);
}

#[test]
fn tcp_info_is_laid_out_as_linux_lays_it_out() {
    let mut net = Net::new();
    let fresh = net.stream();
    assert_eq!(net.a.option(fresh, TCP, libc::TCP_INFO).unwrap()[0], 7, "TCP_CLOSE");
    let server = net.server();
    assert_eq!(net.b.sockets.option(server, TCP, libc::TCP_INFO).unwrap()[0], 10, "TCP_LISTEN");
    let (client, _) = net.connect_to(server);
    let info = net.a.option(client, TCP, libc::TCP_INFO).unwrap();
    assert_eq!((info.len(), info[0], info[1]), (248, 1, 0), "established, open");
    assert_eq!(info[6], 0x77, "both shifts are 7");
    let word = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().unwrap());
    assert_eq!(word(16), 1448, "tcpi_snd_mss");
    assert_eq!(word(24), 0, "tcpi_unacked");
    assert_eq!(word(76), 0x7fff_ffff, "tcpi_snd_ssthresh");
    assert_eq!(word(80), 10, "tcpi_snd_cwnd");
    assert!((200_000..=1_000_000).contains(&word(8)), "tcpi_rto in microseconds: {}", word(8));
    net.b.is_gone = true;
    write(&mut net.a, client, &[0; 3000]).unwrap();
    net.settle();
    assert_eq!(info_word(&mut net.a, client, 24), 3, "segments in flight");
    net.pass(Duration::from_secs(2));
    let info = net.a.option(client, TCP, libc::TCP_INFO).unwrap();
    assert_eq!(info[1], 4, "TCP_CA_Loss");
    assert!(info[2] > 0 && info[4] > 0, "tcpi_retransmits and tcpi_backoff");
    assert!(info_word(&mut net.a, client, 100) > 0, "tcpi_total_retrans");
    assert!(info_word(&mut net.a, client, 32) > 0, "tcpi_lost");
}

#[test]
fn tcp_info_knows_times_segments_and_probes() {
    let mut net = Net::new();
    let server = net.server();
    set_int(&mut net.b.sockets, server, SOCKET, libc::SO_RCVBUF, 4_000).unwrap();
    let (client, accepted) = net.connect_to(server);
    let word = |net: &mut Net, at| info_word(&mut net.a, client, at);
    assert_eq!(word(&mut net, 84), 1460, "tcpi_advmss");
    write(&mut net.a, client, b"text").unwrap();
    net.settle();
    set_int(&mut net.b.sockets, accepted, TCP, libc::TCP_QUICKACK, 1).unwrap();
    net.settle();
    net.pass(Duration::from_secs(3));
    let silence_ms = word(&mut net, 56);
    assert!((2_990..=3_050).contains(&silence_ms), "tcpi_last_ack_recv: {silence_ms}");
    // Nobody reads: the window closes, and probes find it closed.
    write(&mut net.a, client, &[0; 20_000]).unwrap();
    net.pass(Duration::from_secs(1));
    net.b.is_gone = true;
    net.pass(Duration::from_secs(5));
    let info = net.a.option(client, TCP, libc::TCP_INFO).unwrap();
    assert_eq!((info[2], word(&mut net, 24)), (0, 0), "tcpi_retransmits, and nothing in flight");
    assert!(info[3] > 0 && info[4] > 0, "tcpi_probes and tcpi_backoff");
    let [busy_us, rwnd_limited_us] = [168, 176].map(|at| info_double(&mut net.a, client, at));
    assert!((5_000_000..=6_100_000).contains(&rwnd_limited_us), "tcpi_rwnd_limited: {rwnd_limited_us}");
    assert!((rwnd_limited_us..=6_100_000).contains(&busy_us), "tcpi_busy_time: {busy_us}");
}

#[test]
fn a_connect_gives_up_after_as_many_syns_as_it_was_told() {
    let mut net = Net::new();
    let server = net.server();
    net.connect_to(server);
    net.b.is_gone = true;
    let client = net.stream();
    set_int(&mut net.a, client, TCP, libc::TCP_SYNCNT, 1).unwrap();
    let start_ns = net.now_ns();
    assert_eq!(net.wait(call::connect(client, at(B, PORT))), Err(Errno::TIMEDOUT));
    let waited_s = (net.now_ns() - start_ns) / SECOND_NS;
    // One second to the second SYN, and two more.
    assert!((2..=4).contains(&waited_s), "{waited_s} s");
}

#[test]
fn a_closed_connection_waits_for_the_peer_s_end_as_long_as_it_was_told() {
    let mut net = Net::new();
    let (client, _server) = net.connection();
    set_int(&mut net.a, client, TCP, libc::TCP_LINGER2, 5).unwrap();
    net.a.close(client).unwrap();
    net.pass(Duration::from_secs(4));
    assert_eq!(net.a.worker().counters().connections, 1);
    net.pass(Duration::from_secs(2));
    assert_eq!(net.a.worker().counters().connections, 0);
}

#[test]
fn tcp_info_counts_as_linux_counts() {
    let mut net = Net::new();
    let (client, server) = net.connection();
    write(&mut net.a, client, &[0; 3000]).unwrap();
    net.settle();
    write(&mut net.b.sockets, server, &[0; 500]).unwrap();
    net.pass(Duration::from_secs(1));
    let counts = |sockets: &mut Sockets, fd| {
        let info = sockets.option(fd, TCP, libc::TCP_INFO).unwrap();
        let word = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().unwrap());
        let double = |at: usize| u64::from_ne_bytes(info[at..at + 8].try_into().unwrap());
        // Acknowledged, received, sent, sent again; segments out, with data, in, delivered, sent again.
        ([120, 128, 200, 208].map(double), [136, 156, 140, 192, 100].map(word))
    };
    let (bytes, segs) = counts(&mut net.a, client);
    assert_eq!(bytes, [3000, 500, 3000, 0]);
    // SYN, ACK, three with data, an acknowledgement; the SYN-ACK, what acknowledges the data, and the data.
    assert_eq!((segs[0], segs[1], segs[3], segs[4]), (6, 3, 4, 0), "the SYN counts as delivered");
    let data_segs_in = [(&mut net.a, client), (&mut net.b.sockets, server)].map(|(sockets, fd)| {
        let [sent_ms, received_ms] = [44, 52].map(|at| info_word(sockets, fd, at));
        assert!((1_000..=1_050).contains(&sent_ms) && (1_000..=1_050).contains(&received_ms));
        assert_eq!(info_word(sockets, fd, 4) >> 24, 1, "tcpi_delivery_rate_app_limited");
        assert!(info_word(sockets, fd, 148) < 1_000_000, "tcpi_min_rtt");
        info_word(sockets, fd, 152)
    });
    assert_eq!(data_segs_in, [1, 3]);
    let (peer_bytes, peer_segs) = counts(&mut net.b.sockets, server);
    assert_eq!(peer_bytes, [500, 3000, 500, 0]);
    assert_eq!((segs[2], peer_segs[2] + 1), (peer_segs[0], segs[0]), "the listener took the SYN");
    net.b.is_gone = true;
    write(&mut net.a, client, &[0; 100]).unwrap();
    net.pass(Duration::from_secs(5));
    let (bytes, segs) = counts(&mut net.a, client);
    let again = u64::from(segs[4]);
    assert!(again >= 2, "{segs:?}");
    assert_eq!(bytes, [3000, 500, 3100 + 100 * again, 100 * again]);
    assert_eq!((segs[1], segs[3]), (4 + segs[4], 4));
    let info = net.a.option(client, TCP, libc::TCP_INFO).unwrap();
    assert_eq!(info[104..120], [0xff; 16], "tcpi_pacing_rate and its limit: as fast as it can");
    assert_eq!((info_word(&mut net.a, client, 88), info_word(&mut net.a, client, 220)), (3, 0), "reordering");
}

#[test]
fn tcp_info_knows_the_pacing_rate() {
    let mut options = TcpOptions::default();
    options.congestion_control = ringwire::CongestionControl::Bbr;
    let mut net = Net::with(options);
    let server = net.server();
    net.connect_to(server);
    // The peer is known, and answers after 100 ms.
    let client = net.stream();
    net.b.is_gone = true;
    make_nonblocking(&mut net.a, client);
    assert_eq!(net.a.connect(client, at(B, PORT)), Err(Errno::INPROGRESS));
    net.pass(Duration::from_millis(100));
    net.b.is_gone = false;
    net.settle();
    write(&mut net.a, client, &[1; 3000]).unwrap();
    net.settle();
    let info = net.a.option(client, TCP, libc::TCP_INFO).unwrap();
    let rate = u64::from_ne_bytes(info[104..112].try_into().unwrap());
    // The draft's 2.77 windows in a round trip, of ten segments of 1448 bytes.
    assert!((399_000..=401_100).contains(&rate), "{rate}");
}

fn info_double(sockets: &mut Sockets, fd: Fd, at: usize) -> u64 {
    let info = sockets.option(fd, TCP, libc::TCP_INFO).unwrap();
    u64::from_ne_bytes(info[at..at + 8].try_into().unwrap())
}

fn info_word(sockets: &mut Sockets, fd: Fd, at: usize) -> u32 {
    let info = sockets.option(fd, TCP, libc::TCP_INFO).unwrap();
    u32::from_ne_bytes(info[at..at + 4].try_into().unwrap())
}
