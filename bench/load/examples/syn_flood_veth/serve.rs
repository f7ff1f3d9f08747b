//! The servers: they take connections and read what those bring.

use std::io::{self, Read};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringwire::{
    DropReason, Engine, Event, Events, Handle, Interface, PollMode, Recv, TcpOptions, WorkerSeed,
};

use crate::rig::{Rig, pin, v4};

const START_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    Ringwire,
    Kernel,
}

impl Stack {
    pub(crate) const ALL: [Stack; 2] = [Stack::Ringwire, Stack::Kernel];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Stack::Ringwire => "ringwire",
            Stack::Kernel => "kernel",
        }
    }
}

/// What a server and its rig say to each other; each stands for itself, so all accesses are relaxed.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// That its application has read.
    bytes: AtomicU64,
}

/// A server at work; ends when dropped.
pub(crate) struct Server {
    addr: SocketAddrV4,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Of the engine.
    handle: Option<Handle>,
}

/// Packets that an engine did not answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unanswered {
    /// SYNs of half-open connections, which answer once in half a second.
    pub(crate) repeated: u64,
    /// What found the receive ring full.
    pub(crate) lost: u64,
}

impl Server {
    /// Since it started; none of a kernel server.
    pub(crate) fn unanswered(&self) -> Option<Unanswered> {
        let metrics = self.handle.as_ref()?.metrics();
        let lost = metrics.sum(|worker| worker.port_rx_dropped);
        Some(Unanswered { repeated: metrics.dropped(DropReason::TcpDuplicate), lost })
    }

    pub(crate) fn addr(&self) -> SocketAddrV4 {
        self.addr
    }

    /// What its application has read so far, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic was printed, and its connections ended, which the round has noticed.
            let _ = thread.join();
        }
    }
}

/// It answers when this returns.
pub(crate) fn start(rig: &Rig, stack: Stack, port: u16, cpu: usize) -> Result<Server, String> {
    let shared = Arc::<Shared>::default();
    let told = Arc::clone(&shared);
    let (addr, thread, handle) = match stack {
        Stack::Ringwire => {
            let addr = SocketAddrV4::new(v4(rig.server_link.spare_addr(&rig.server)), port);
            let (seed, handle) = engine(rig, cpu).map_err(|error| error.to_string())?;
            let (listens, is_listening) = mpsc::channel();
            let thread = thread::spawn(move || serve(seed, addr, &listens, &told));
            is_listening.recv_timeout(START_LIMIT).map_err(|_| "the engine does not listen".to_owned())?;
            (addr, thread, Some(handle))
        }
        Stack::Kernel => {
            let addr = SocketAddrV4::new(v4(rig.server_link.addr(&rig.server)), port);
            let listener = rig.server.run(|| TcpListener::bind(addr)).map_err(|error| error.to_string())?;
            listener.set_nonblocking(true).map_err(|error| error.to_string())?;
            (addr, thread::spawn(move || accept(&listener, cpu, told)), None)
        }
    };
    Ok(Server { addr, shared, thread: Some(thread), handle })
}

fn engine(rig: &Rig, cpu: usize) -> io::Result<(WorkerSeed, Handle)> {
    let address = format!("{}/{}", rig.server_link.spare_addr(&rig.server), rig.server_link.prefix_len());
    let address = address.parse().map_err(|_| io::Error::other("the lab gave an address that is none"))?;
    let interface = Interface::new(rig.server_link.name(&rig.server)).address(address).gateway(rig.gateway);
    let engine = Engine::builder()
        .netns(rig.server.netns().try_clone_to_owned()?)
        .interface(interface)
        .poll_mode(PollMode::Adaptive)
        .cpus([cpu])
        .start()
        .map_err(|error| io::Error::other(error.to_string()))?;
    let handle = engine.handle();
    let seed = engine.into_workers().pop().ok_or_else(|| io::Error::other("no worker"))?;
    Ok((seed, handle))
}

fn serve(seed: WorkerSeed, addr: SocketAddrV4, listens: &mpsc::Sender<()>, shared: &Shared) {
    let mut worker = seed.start();
    worker.listen(addr.into(), &TcpOptions::default()).expect("a fresh engine has no listener");
    // Nobody waits only if it took too long.
    let _ = listens.send(());
    let mut events = Events::with_capacity(1024);
    while !shared.stop.load(Ordering::Relaxed) {
        worker.poll(&mut events, Some(Duration::from_millis(10))).expect("the interface stays");
        for event in events.drain() {
            let Event::Readable(conn) = event else { continue };
            while let Ok(Recv::Data(data)) = worker.recv(conn) {
                shared.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            if let Ok(Recv::Eof) = worker.recv(conn) {
                worker.close(conn);
            }
        }
    }
}

fn accept(listener: &TcpListener, cpu: usize, shared: Arc<Shared>) {
    pin(cpu);
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // Ends with its connection.
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                thread::spawn(move || read(stream, &shared));
            }
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn read(mut stream: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; 256 * 1024];
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    while let Ok(len) = stream.read(&mut buffer)
        && len > 0
    {
        shared.bytes.fetch_add(len as u64, Ordering::Relaxed);
    }
}
