//! To copy: a TCP proxy in the middle, tested for two things that proxies get wrong.
//!
//! The proxy under test may be a program ([`Node::command`]); here it is a thread of the node, once right and once with both
//! faults planted, which the test must find.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringwire_lab::{Lab, Level, Link, Node};

const WITHIN: Duration = Duration::from_secs(2);

/// client - proxy - server
struct Scene {
    client: Node,
    proxy: Node,
    server: Node,
    near: Link,
    far: Link,
    _lab: Lab,
}

impl Scene {
    fn new(lab: Lab) -> Scene {
        let [client, proxy, server] = ["client", "proxy", "server"].map(|name| lab.node(name).unwrap());
        let near = lab.link(&client, &proxy).up().unwrap();
        let far = lab.link(&proxy, &server).up().unwrap();
        Scene { client, proxy, server, near, far, _lab: lab }
    }

    /// What the test asks of any proxy.
    fn check(&self) -> Result<(), String> {
        self.answers_after_a_half_close()?;
        self.lets_go_of_a_server_whose_client_is_gone()
    }

    fn open(&self, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let to = (self.near.addr(&self.proxy), 80);
        let client = self.client.run(|| TcpStream::connect(to)).unwrap();
        let (server, _) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(WITHIN)).unwrap();
        }
        (client, server)
    }

    fn listen(&self) -> TcpListener {
        self.server.run(|| TcpListener::bind((self.far.addr(&self.server), 80))).unwrap()
    }

    /// "I have said all, now you": the server hears the end, and its answer still comes through.
    fn answers_after_a_half_close(&self) -> Result<(), String> {
        let (mut client, mut server) = self.open(&self.listen());
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut question = String::new();
        server
            .read_to_string(&mut question)
            .map_err(|error| format!("half-close is not passed on: {error}"))?;
        assert_eq!(question, "question");
        // The proxy must not have taken the half-close for the end.
        std::thread::sleep(Duration::from_millis(100));
        let _ = server.write_all(b"answer");
        drop(server);
        let mut answer = String::new();
        let read = client.read_to_string(&mut answer);
        match (read, answer.as_str()) {
            (Ok(_), "answer") => Ok(()),
            other => Err(format!("half-close is ignored: after it the client reads {other:?}")),
        }
    }

    /// A client that resets its connection must not leave the one to the server behind.
    fn lets_go_of_a_server_whose_client_is_gone(&self) -> Result<(), String> {
        let listener = self.listen();
        let (client, _server) = self.open(&listener);
        assert!(self.connections() >= 2, "one to either side");
        // Unread data makes the close a reset.
        (&_server).write_all(b"unread").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        drop(client);
        let deadline = Instant::now() + WITHIN;
        while self.connections() > 0 {
            if Instant::now() > deadline {
                return Err(format!("{} half-open sockets are leaked", self.connections()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Established connections, and those whose peer has ended, in the proxy's namespace.
    fn connections(&self) -> usize {
        const ESTABLISHED: &str = "01";
        const CLOSE_WAIT: &str = "08";
        let table = self.proxy.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp")).unwrap();
        let states = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
        states.filter(|state| [ESTABLISHED, CLOSE_WAIT].contains(state)).count()
    }
}

#[test]
fn a_good_proxy_passes() {
    let lab = ringwire_lab::lab!(Level::UserNamespace);
    let scene = Scene::new(lab);
    let _proxy = Proxy::start(&scene, Faults { half_close_is_ignored: false, leaks: false });
    scene.check().unwrap();
}

#[test]
fn planted_faults_are_found() {
    for (faults, found) in [
        (Faults { half_close_is_ignored: true, leaks: false }, "half-close is ignored"),
        (Faults { half_close_is_ignored: false, leaks: true }, "half-open sockets are leaked"),
    ] {
        let lab = ringwire_lab::lab!(Level::UserNamespace);
        let scene = Scene::new(lab);
        let _proxy = Proxy::start(&scene, faults);
        let fault = scene.check().unwrap_err();
        assert!(fault.contains(found), "{fault}");
    }
}

// What follows is the device under test: a small proxy, with faults to be planted.

#[derive(Clone, Copy)]
struct Faults {
    half_close_is_ignored: bool,
    leaks: bool,
}

struct Proxy {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Proxy {
    fn start(scene: &Scene, faults: Faults) -> Proxy {
        let stop = Arc::new(AtomicBool::new(false));
        let (node, server) = (scene.proxy.clone(), SocketAddr::new(scene.far.addr(&scene.server), 80));
        let listener = node.run(|| TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), 80))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            node.run(|| {
                while !stopped.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((client, _)) => relay(client, TcpStream::connect(server).unwrap(), faults),
                        Err(_) => std::thread::sleep(Duration::from_millis(5)),
                    }
                }
            });
        });
        Proxy { stop, thread: Some(thread) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn relay(client: TcpStream, server: TcpStream, faults: Faults) {
    client.set_nonblocking(false).unwrap();
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || {
            match std::io::copy(&mut from, &mut to) {
                // The fault: one direction's end is taken for the end of both.
                Ok(_) if faults.half_close_is_ignored => drop(to.shutdown(Shutdown::Both)),
                Ok(_) => drop(to.shutdown(Shutdown::Write)),
                // The fault: an error on one side, and the other side is forgotten.
                Err(_) if faults.leaks => std::mem::forget(to),
                Err(_) => {
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                }
            }
        });
    }
}
