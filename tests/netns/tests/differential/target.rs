//! Who is asked: the kernel and the engine, under an address each, with the same services.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};

use ringwire::{Event, Listener, Recv, TcpOptions, Worker};
use ringwire_lab::RawPort;
use ringwire_netns::{App, Scene, Service, kernel};

use crate::odd::Before;

/// The engine's ports begin here; the kernel chooses for itself.
const FIRST_PORT: u16 = 9000;
const CLOSED_PORT: u16 = 9;
/// What a [`Role::Talker`] says.
pub(crate) const TEXT_BYTES: usize = 1000;

/// What a service does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Leaves it at that.
    Idle,
    /// Writes a kilobyte at once.
    Talker,
    /// Ends its direction at once.
    Finisher,
    /// Closes at once.
    Closer,
    /// Ends its direction when the peer has.
    Follower,
}

const ROLES: [Role; 5] = [Role::Idle, Role::Talker, Role::Finisher, Role::Closer, Role::Follower];

/// One of the two.
pub(crate) struct Target {
    pub(crate) mac: [u8; 6],
    /// In the order of [`ROLES`].
    listeners: [SocketAddrV4; ROLES.len()],
}

impl Target {
    /// Where to send what has this before it.
    pub(crate) fn listener(&self, before: Before) -> SocketAddrV4 {
        let [idle, talker, finisher, closer, follower] = self.listeners;
        match before {
            Before::Nothing => SocketAddrV4::new(*idle.ip(), CLOSED_PORT),
            Before::Listener | Before::HalfOpen | Before::Connection | Before::CloseWait => idle,
            Before::Offer | Before::Sending => talker,
            Before::FinWait1 | Before::FinWait2 | Before::Closing => finisher,
            Before::TimeWait | Before::Orphan => closer,
            Before::LastAck => follower,
        }
    }
}

/// The kernel's services, attended to whenever somebody waits for them.
pub(crate) struct KernelServices {
    listeners: Vec<(Role, TcpListener)>,
    open: Vec<(Role, TcpStream)>,
}

impl KernelServices {
    fn start(scene: &Scene) -> (KernelServices, [SocketAddrV4; ROLES.len()]) {
        let opened = ROLES.map(|role| {
            let (listener, addr) = kernel::listen(&scene.host, scene.link.addr(&scene.host));
            listener.set_nonblocking(true).expect("a listener can be made so");
            ((role, listener), v4(addr))
        });
        let addrs = opened.each_ref().map(|(_, addr)| *addr);
        let listeners = opened.into_iter().map(|(listener, _)| listener).collect();
        (KernelServices { listeners, open: Vec::new() }, addrs)
    }

    /// Does for every connection what its service does.
    pub(crate) fn attend(&mut self) {
        for (role, listener) in &self.listeners {
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nonblocking(true).expect("a stream can be made so");
                match role {
                    Role::Idle | Role::Follower => {}
                    // Errors are those of connections that were reset meanwhile, and show in what they do not say.
                    Role::Talker => drop(stream.write(&[0x77; TEXT_BYTES])),
                    Role::Finisher => drop(stream.shutdown(Shutdown::Write)),
                    Role::Closer => continue,
                }
                self.open.push((*role, stream));
            }
        }
        for (role, stream) in &mut self.open {
            if *role == Role::Follower && is_at_end(stream) {
                *role = Role::Idle;
            }
        }
    }

    /// All connections are over.
    pub(crate) fn forget(&mut self) {
        self.open.clear();
    }
}

/// Ends our direction where the peer has ended its own.
fn is_at_end(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(0) => stream.shutdown(Shutdown::Write).is_ok(),
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

fn v4(addr: SocketAddr) -> SocketAddrV4 {
    match addr {
        SocketAddr::V4(addr) => addr,
        SocketAddr::V6(_) => panic!("the lab's addresses are IPv4"),
    }
}

/// The engine's services.
struct EngineServices {
    listeners: Vec<(Role, Listener)>,
    followers: HashSet<ringwire::Conn>,
}

impl App for EngineServices {
    fn on_event(&mut self, worker: &mut Worker, event: Event) {
        match event {
            Event::Accepted { listener, conn } => {
                let role = self.listeners.iter().find(|(_, mine)| *mine == listener).map(|(role, _)| *role);
                // Errors are those of connections that were reset meanwhile, and show in what they do not say.
                match role.expect("a listener of ours") {
                    Role::Idle => {}
                    Role::Talker => {
                        let _ = worker.send(conn, &[0x77; TEXT_BYTES]);
                    }
                    Role::Finisher => {
                        let _ = worker.shutdown(conn, Shutdown::Write);
                    }
                    Role::Closer => worker.close(conn),
                    Role::Follower => {
                        self.followers.insert(conn);
                    }
                }
            }
            Event::Readable(conn) if self.followers.contains(&conn) => {
                while let Ok(got) = worker.recv(conn) {
                    match got {
                        Recv::Data(_) => {}
                        Recv::Empty => return,
                        Recv::Eof => {
                            let _ = worker.shutdown(conn, Shutdown::Write);
                            return;
                        }
                    }
                }
            }
            Event::Closed { conn, .. } => drop(self.followers.remove(&conn)),
            _ => {}
        }
    }
}

/// Both on one link, and the raw port of their peer.
pub(crate) struct Both {
    pub(crate) targets: [Target; 2],
    pub(crate) kernel: KernelServices,
    pub(crate) port: RawPort,
    service: Option<Service>,
    /// Last, so that what is in it ends before it.
    scene: Scene,
}

impl Both {
    pub(crate) fn start(scene: Scene) -> Both {
        // What the kernel answers shall not depend on how much it has answered before, nor on timers.
        for (name, value) in [("tcp_rto_min_us", "3000000"), ("icmp_ratelimit", "0")] {
            scene.host.set_sysctl(&format!("net/ipv4/{name}"), value).expect("a namespace of its own");
        }
        let options = TcpOptions::default();
        let addrs: [SocketAddr; ROLES.len()] = std::array::from_fn(|at| scene.at(FIRST_PORT + at as u16));
        let service = Service::start(scene.engine(), move |worker| {
            let opened = ROLES.iter().zip(addrs);
            let listeners =
                opened.map(|(role, addr)| (*role, worker.listen(addr, &options).expect("a listener")));
            EngineServices { listeners: listeners.collect(), followers: HashSet::new() }
        });
        let (kernel, kernel_addrs) = KernelServices::start(&scene);
        let mut port = scene.peer.raw(&scene.link).expect("a raw port");
        let local = port.spare_addr();
        port.answer_arp(local);
        let targets = [kernel_addrs, addrs.map(v4)].map(|listeners| {
            let mac = port.resolve(local, *listeners[0].ip()).expect("a neighbour");
            Target { mac, listeners }
        });
        Both { targets, kernel, port, service: Some(service), scene }
    }

    /// What the kernel has learnt of the paths to the hosts here.
    pub(crate) fn forget_paths(&self) {
        let flush = self.scene.host.command("ip").args(["route", "flush", "cache"]).status();
        assert!(flush.expect("ip is installed").success(), "the kernel keeps its routes");
    }

    pub(crate) fn finish(mut self) {
        if let Some(service) = self.service.take() {
            service.finish();
        }
    }
}
