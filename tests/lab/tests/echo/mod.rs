//! An engine that sends datagrams back.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use ringwire::{Batch, Engine, Event, Events, Handle, Turn, UdpOptions, Worker};

/// All workers of an engine echo, until it is dropped.
pub(crate) struct Echo {
    pub(crate) handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    pub(crate) fn start(engine: Engine, addr: SocketAddr) -> Echo {
        let handle = engine.handle();
        let seeds = engine.into_workers().into_iter();
        let threads = seeds.map(|seed| std::thread::spawn(move || serve(&mut seed.start(), addr))).collect();
        Echo { handle, threads }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.handle.stop();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn serve(worker: &mut Worker, addr: SocketAddr) {
    let socket = worker.bind_udp(addr, &UdpOptions::default()).unwrap();
    let (mut events, mut received) = (Events::with_capacity(64), Batch::with_capacity(64));
    let mut replies = Batch::with_capacity(64);
    while worker.poll(&mut events, Some(Duration::from_millis(50))).unwrap() != Turn::Stop {
        for event in events.drain() {
            if let Event::Datagrams(socket) = event {
                worker.recv_batch(socket, &mut received).unwrap();
                for datagram in received.drain() {
                    replies.push(datagram.into_reply()).ok().unwrap();
                }
            }
        }
        worker.send_batch(socket, &mut replies).unwrap();
    }
}
