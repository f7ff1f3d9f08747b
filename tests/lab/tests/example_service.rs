//! To copy: a service on a Ringwire engine, tested against the kernel's TCP over a link with loss and delay.
//!
//! Works at every level that has a kernel: over AF_XDP with feature `xdp` and the privilege, else over AF_PACKET.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringwire::{Conn, Engine, Event, Events, Recv, TcpOptions, Turn, Worker};
use ringwire_lab::{Impairment, Level};

/// The service under test: answers every byte with its upper-case letter.
fn shout(worker: &mut Worker, addr: SocketAddr) {
    worker.listen(addr, &TcpOptions::default()).unwrap();
    let mut events = Events::with_capacity(64);
    let mut unsent: Vec<(Conn, Vec<u8>)> = Vec::new();
    while worker.poll(&mut events, Some(Duration::from_millis(20))).unwrap() != Turn::Stop {
        for event in events.drain() {
            if let Event::Readable(conn) = event {
                loop {
                    match worker.recv(conn) {
                        Ok(Recv::Data(piece)) => unsent.push((conn, piece.to_ascii_uppercase())),
                        Ok(Recv::Eof) => break worker.close(conn),
                        Ok(Recv::Empty) | Err(_) => break,
                    }
                }
            }
        }
        unsent.retain_mut(|(conn, bytes)| match worker.send(*conn, bytes) {
            Ok(sent) => {
                bytes.drain(..sent);
                !bytes.is_empty()
            }
            Err(_) => false,
        });
    }
}

fn serve(engine: Engine, addr: SocketAddr) -> std::thread::JoinHandle<()> {
    let seed = engine.into_workers().remove(0);
    std::thread::spawn(move || shout(&mut seed.start(), addr))
}

#[test]
fn every_byte_is_shouted_back_over_a_bad_link() {
    let lab = ringwire_lab::lab!(Level::OneNamespace);
    let (client, host) = (lab.node("client").unwrap(), lab.node("host").unwrap());
    let link = lab.link(&client, &host).up().unwrap();
    let addr = SocketAddr::new(link.spare_addr(&host), 23);
    let engine = host.engine(&link).start().unwrap();
    let handle = engine.handle();
    let service = serve(engine, addr);

    let bad = Impairment::default().delay(Duration::from_millis(2), Duration::from_millis(1)).loss(0.01);
    link.impair(&host, bad.seed(1)).unwrap();
    link.impair(&client, bad.seed(2)).unwrap();
    let mut stream = client.run(|| TcpStream::connect(addr)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut heard = vec![0; 10_000];
    for _ in 0..20 {
        stream.write_all(&[b'a'; 10_000]).unwrap();
        stream.read_exact(&mut heard).unwrap();
        assert!(heard.iter().all(|&byte| byte == b'A'));
    }
    let lost = link.counters(&host).unwrap().lost + link.counters(&client).unwrap().lost;
    assert!(lost > 0, "the injector did its part");
    drop(stream);
    handle.stop();
    service.join().unwrap();
}
