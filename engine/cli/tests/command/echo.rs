//! `serve echo` towards kernel clients.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::rig::{PORT, Rig};

#[test]
fn tcp_and_udp_come_back_on_an_own_and_on_the_shared_address() {
    for (own, backend) in [(true, "xdp"), (false, "xdp"), (true, "packet")] {
        let rig = Rig::new();
        let address = if own { rig.link.spare_addr(&rig.server) } else { rig.link.addr(&rig.server) };
        let args = match own {
            true => format!("echo --backend {backend} -a {}", rig.own_address(&rig.server)),
            false => "echo".to_owned(),
        };
        let attach = if backend == "xdp" { "native" } else { "packet" };
        let serving = rig.serve(&args);
        assert!(serving.banner.contains(&format!("on {address}:{PORT}")), "{}", serving.banner);
        let mode = format!("{attach} copy, 1 queue, 1 worker, adaptive");
        assert!(serving.banner.contains(&mode), "{}", serving.banner);

        let mut stream = rig.connect(address);
        stream.write_all(b"over tcp").unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"over tcp");

        let socket = rig.client.run(|| UdpSocket::bind(("0.0.0.0", 0))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(b"over udp", (address, PORT)).unwrap();
        let (len, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..len], from), (&b"over udp"[..], SocketAddr::new(address, PORT)));
        drop(stream);
        serving.end();
    }
}

#[test]
fn a_slow_reader_and_a_half_close_get_every_byte() {
    const TOTAL_BYTES: usize = 4 << 20;
    let rig = Rig::new();
    let serving = rig.serve(&format!("echo -a {}", rig.own_address(&rig.server)));
    let mut stream = rig.connect(rig.link.spare_addr(&rig.server));
    let mut writer = stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let bytes: Vec<u8> = (0..=250).cycle().take(TOTAL_BYTES).collect();
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    // Both directions fill and stand still; then the client reads.
    thread::sleep(Duration::from_millis(300));
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    sender.join().unwrap();
    assert_eq!(received.len(), TOTAL_BYTES);
    assert!(received.iter().zip((0..=250).cycle()).all(|(got, sent)| *got == sent));
    serving.end();
}

#[test]
fn a_taken_port_is_refused_with_a_hint() {
    let rig = Rig::new();
    let holder = rig.server.run(|| std::net::TcpListener::bind(("0.0.0.0", PORT))).unwrap();
    let ifname = rig.link.name(&rig.server);
    let output = rig.output(&rig.server, &format!("serve echo -i {ifname}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.lines().nth(1).unwrap().starts_with("hint: "), "{stderr}");
    drop(holder);
}

#[test]
fn kernel_stack_serves_and_ends_like_the_other() {
    let rig = Rig::new();
    for mode in ["adaptive", "busy"] {
        let serving = rig.serve(&format!("echo --stack kernel --poll-mode {mode}"));
        let mut stream = rig.connect(rig.link.addr(&rig.server));
        stream.write_all(b"kernel").unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"kernel");
        drop(stream);
        serving.end();
    }
}

#[test]
fn the_bare_reflector_answers_udp() {
    let rig = Rig::new();
    let serving = rig.serve("echo --stack reflector --only udp");
    let socket = rig.client.run(|| UdpSocket::bind(("0.0.0.0", 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = [0; 64];
    // It attaches a moment before it steers.
    let answered = (0..25).any(|_| {
        socket.send_to(b"mirror", (rig.link.addr(&rig.server), PORT)).unwrap();
        socket.recv(&mut answer).is_ok_and(|len| &answer[..len] == b"mirror")
    });
    assert!(answered);
    serving.end();
}

#[test]
fn a_deadline_ends_it() {
    let rig = Rig::new();
    let ifname = rig.link.name(&rig.server);
    let output = rig.output(&rig.server, &format!("serve echo -i {ifname} --duration 200ms"));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
