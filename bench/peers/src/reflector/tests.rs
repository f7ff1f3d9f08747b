use std::net::UdpSocket;
use std::thread;

use ringwire_lab::Lab;

use super::*;

/// Ethernet, IPv4 with `options` words of options, UDP with four bytes.
fn udp_frame(options: u8) -> Vec<u8> {
    let mut frame = vec![1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x08, 0x00];
    frame.extend([0x45 + options, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(std::iter::repeat_n(0xee, usize::from(options) * 4));
    frame.extend([0x23, 0x28, 0x23, 0x29, 0, 12, 0xab, 0xcd, b'r', b'i', b'n', b'g']);
    frame
}

#[test]
fn both_ends_change_places_and_nothing_else() {
    for options in [0, 1, 10] {
        let sent = udp_frame(options);
        let mut frame = sent.clone();
        assert!(reflect(&mut frame));
        let udp = 34 + usize::from(options) * 4;
        assert_eq!((&frame[..6], &frame[6..12]), (&sent[6..12], &sent[..6]));
        assert_eq!((&frame[26..30], &frame[30..34]), (&sent[30..34], &sent[26..30]));
        assert_eq!(
            (&frame[udp..udp + 2], &frame[udp + 2..udp + 4]),
            (&sent[udp + 2..udp + 4], &sent[udp..udp + 2])
        );
        assert_eq!((&frame[12..26], &frame[udp + 4..]), (&sent[12..26], &sent[udp + 4..]));
        assert!(reflect(&mut frame) && frame == sent, "twice is the identity");
    }
}

#[test]
fn what_is_not_udp_is_left_alone() {
    let good = udp_frame(0);
    let with = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    let mut wrong = vec![with(13, 0x06), with(23, 6), with(14, 0x44), with(14, 0x4f), Vec::new()];
    wrong.extend((0..42).map(|len| good[..len].to_vec()));
    for mut frame in wrong {
        let before = frame.clone();
        assert!(!reflect(&mut frame) && frame == before, "{before:02x?}");
    }
}

#[test]
fn a_kernel_client_gets_its_datagrams_back_and_other_ports_reach_the_kernel() {
    let lab = Lab::new().unwrap();
    let (client, server) = (lab.node("client").unwrap(), lab.node("server").unwrap());
    let link = lab.link(&client, &server).direct().up().unwrap();
    let std::net::IpAddr::V4(address) = link.addr(&server) else { panic!("the lab is IPv4") };
    let config =
        ReflectorConfig { interface: link.name(&server).to_owned(), queue_id: 0, address, port: 9000 };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let reflector = scope.spawn(|| server.run(|| run(&config, &stop)));
        let talk = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let socket = client.run(|| UdpSocket::bind((link.addr(&client), 0))).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut buffer = [0; 2048];
            let started = Instant::now();
            // The reflector is up when the first answer comes.
            while socket.send_to(b"up?", (address, 9000)).is_err() || socket.recv(&mut buffer).is_err() {
                assert!(started.elapsed() < Duration::from_secs(5), "the reflector does not answer");
            }
            while socket.recv(&mut buffer).is_ok() {}
            for burst in 0..50_u8 {
                let payloads: Vec<_> =
                    (0..100_u8).map(|number| [burst, number].repeat(1 + usize::from(number))).collect();
                for payload in &payloads {
                    socket.send_to(payload, (address, 9000)).unwrap();
                }
                for payload in &payloads {
                    let (len, from) = socket.recv_from(&mut buffer).unwrap();
                    assert_eq!((&buffer[..len], from), (payload.as_slice(), (address, 9000).into()));
                }
            }
            let kernel = server.run(|| UdpSocket::bind((address, 9001))).unwrap();
            socket.send_to(b"kernel", (address, 9001)).unwrap();
            kernel.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            assert_eq!(kernel.recv(&mut buffer).unwrap(), 6);
        }));
        stop.store(true, Ordering::Relaxed);
        reflector.join().unwrap().unwrap();
        talk.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_missing_interface_is_named() {
    let lab = Lab::new().unwrap();
    let node = lab.node("alone").unwrap();
    let config = ReflectorConfig {
        interface: "nowhere".to_owned(),
        queue_id: 0,
        address: Ipv4Addr::LOCALHOST,
        port: 9000,
    };
    let error = node.run(|| run(&config, &AtomicBool::new(true))).unwrap_err();
    assert_eq!(error.errno, Some(nix::Error::ENODEV as i32), "{error}");
}
