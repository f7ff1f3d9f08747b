//! Fast Open with the Linux kernel, both ways (RFC 7413): whose text goes with the SYN, and who takes it, as the kernel counts it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ringwire::{Conn, DropReason, Event, Recv, TcpOptions, Worker};
use ringwire_lab::Node;
use ringwire_netns::{Addressing, App, Echo, Scene, Service, eventually, kernel, options, within};
use socket2::{Domain, Socket, Type};

const LIMIT: Duration = Duration::from_secs(60);
const TEXT: &[u8] = b"text that may go with the SYN";
const MSG_FASTOPEN: i32 = 0x2000_0000;

fn fast_options() -> TcpOptions {
    let mut options = options();
    options.fast_open = true;
    options
}

/// The peer's kernel takes part as a client (1), as a server (2), with all listeners (0x400). The namespace is the test's own.
fn allow_fast_open(peer: &Node) {
    set(peer, "net.ipv4.tcp_fastopen=1027");
}

fn set(node: &Node, assignment: &str) {
    let status = node.command("sysctl").args(["-qw", assignment]).status();
    assert!(status.expect("sysctl is installed").success(), "{assignment}");
}

fn fast_opens(peer: &Node) -> [u64; 4] {
    ["Active", "ActiveFail", "Passive", "PassiveFail"]
        .map(|name| kernel::counter(peer, &format!("TcpExtTCPFastOpen{name}")))
}

/// The kernel's client: its first write connects. What comes back to it.
fn ask_from_kernel(scene: &Scene, port: u16) -> Vec<u8> {
    let to = scene.at(port);
    let mut stream: TcpStream = scene.peer.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let sent = socket.send_to_with_flags(TEXT, &to.into(), MSG_FASTOPEN);
        assert_eq!(sent.expect("a connection"), TEXT.len());
        socket.into()
    });
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    let mut back = vec![0; TEXT.len()];
    stream.read_exact(&mut back).expect("an echo");
    back
}

fn fast_echo(scene: &Scene) -> Service {
    let addr = scene.at(7);
    // The kernel takes its time with the program of an engine that has just ended.
    let mut engine = None;
    let has_started = eventually(Duration::from_secs(5), || {
        engine = scene.builder().start().ok();
        engine.is_some()
    });
    assert!(has_started, "{:?}", scene.builder().start().err());
    Service::start(engine.expect("it has started"), move |worker| Echo::tcp(worker, addr, &fast_options()))
}

#[test]
fn the_kernel_s_text_is_taken_with_its_syn() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            allow_fast_open(&scene.peer);
            let service = fast_echo(&scene);
            // The first one fetches the cookie.
            for _ in 0..3 {
                assert_eq!(ask_from_kernel(&scene, 7), TEXT, "{addressing:?}");
            }
            assert_eq!(fast_opens(&scene.peer), [2, 0, 0, 0], "{addressing:?}");
            let books = service.finish();
            books.assert_balanced(&[]);
            assert_eq!(books.metrics.sum(|worker| worker.fast_opened), 2, "{}", books.metrics);
        }
    });
}

/// Another engine has another key: the kernel's cookie is wrong, and its text comes after the handshake.
#[test]
fn the_kernel_s_text_comes_again_under_a_wrong_cookie() {
    within(LIMIT, || {
        let scene =
            Scene::new(Addressing::Dedicated).may_repeat("what a refused SYN took along is sent again");
        allow_fast_open(&scene.peer);
        let first = fast_echo(&scene);
        assert_eq!(ask_from_kernel(&scene, 7), TEXT);
        first.finish();
        let second = fast_echo(&scene);
        assert_eq!(ask_from_kernel(&scene, 7), TEXT);
        assert_eq!(fast_opens(&scene.peer), [0, 1, 0, 0]);
        // The answer brought the right one.
        assert_eq!(ask_from_kernel(&scene, 7), TEXT);
        assert_eq!(fast_opens(&scene.peer), [1, 1, 0, 0]);
        let books = second.finish();
        books.assert_balanced(&[DropReason::TcpNoSocket]);
        let counted = |count: fn(&ringwire::WorkerCounters) -> u64| books.metrics.sum(count);
        assert_eq!((counted(|w| w.fast_opened), counted(|w| w.fast_open_refused)), (1, 1));
    });
}

/// What the engine's client saw of one connection.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    back: Vec<u8>,
    is_syn_text_taken: bool,
}

/// The engine's client: one connection after the other, each written to before its SYN leaves.
struct Asking {
    to: SocketAddr,
    left: u32,
    conn: Option<Conn>,
    has_written: bool,
    back: Vec<u8>,
    asked: Sender<Asked>,
}

impl Asking {
    fn begin(worker: &mut Worker, to: SocketAddr, count: u32, asked: Sender<Asked>) -> Asking {
        let mut asking = Asking { to, left: count, conn: None, has_written: false, back: Vec::new(), asked };
        asking.next(worker);
        asking
    }

    fn next(&mut self, worker: &mut Worker) {
        self.left -= 1;
        let conn = worker.connect(self.to, &fast_options()).expect("a connection");
        self.conn = Some(conn);
        // Before ports are granted there is no place for it.
        self.has_written = worker.send(conn, TEXT) == Ok(TEXT.len());
    }

    fn read(&mut self, worker: &mut Worker, conn: Conn) {
        while let Ok(Recv::Data(piece)) = worker.recv(conn) {
            self.back.extend_from_slice(&piece);
        }
        if self.back.len() < TEXT.len() {
            return;
        }
        let is_syn_text_taken = worker.tcp_info(conn).expect("it is open").syn_text;
        let back = std::mem::take(&mut self.back);
        self.asked.send(Asked { back, is_syn_text_taken }).expect("the test listens");
        worker.close(conn);
        if self.left > 0 {
            self.next(worker);
        }
    }
}

impl App for Asking {
    fn on_event(&mut self, worker: &mut Worker, event: Event) {
        match event {
            Event::Connected(conn) if !self.has_written => {
                assert_eq!(worker.send(conn, TEXT), Ok(TEXT.len()));
                self.has_written = true;
            }
            Event::Readable(conn) if self.conn == Some(conn) => self.read(worker, conn),
            _ => {}
        }
    }
}

/// A service that asks the kernel's echo so many times.
fn asking(scene: &Scene, to: SocketAddr, count: u32) -> (Service, Receiver<Asked>) {
    let (asked, answers) = channel();
    let start = move |worker: &mut Worker| Asking::begin(worker, to, count, asked.clone());
    (Service::start(scene.engine(), start), answers)
}

/// The kernel's server, for so many connections; `before` each of them something may happen.
fn answer(listener: &std::net::TcpListener, count: u32, before: impl Fn(u32)) {
    for index in 0..count {
        let mut stream = kernel::accept(listener).expect("a connection");
        let mut text = vec![0; TEXT.len()];
        stream.read_exact(&mut text).expect("the text");
        before(index + 1);
        stream.write_all(&text).expect("an answer");
    }
}

fn expect(answers: &Receiver<Asked>, service: &Service, is_syn_text_taken: bool) {
    let asked = answers
        .recv_timeout(Duration::from_secs(20))
        .unwrap_or_else(|_| panic!("no answer\n{}", service.handle().metrics()));
    assert_eq!(asked, Asked { back: TEXT.to_vec(), is_syn_text_taken });
}

#[test]
fn the_kernel_takes_the_text_of_the_engine_s_syn() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            allow_fast_open(&scene.peer);
            let (listener, to) = kernel::listen(&scene.peer, scene.peer_ip());
            let (service, answers) = asking(&scene, to, 3);
            answer(&listener, 3, |_| {});
            for is_syn_text_taken in [false, true, true] {
                expect(&answers, &service, is_syn_text_taken);
            }
            assert_eq!(fast_opens(&scene.peer), [0, 0, 2, 0], "{addressing:?}");
            let books = service.finish();
            books.assert_balanced(&[]);
            assert_eq!(books.metrics.sum(|worker| worker.fast_connected), 2, "{}", books.metrics);
        }
    });
}

/// The kernel has another key in between: it acknowledges the SYN alone, and the text goes again.
#[test]
fn the_engine_s_text_goes_again_under_a_wrong_cookie() {
    within(LIMIT, || {
        let scene =
            Scene::new(Addressing::Dedicated).may_repeat("what a refused SYN took along is sent again");
        allow_fast_open(&scene.peer);
        let (listener, to) = kernel::listen(&scene.peer, scene.peer_ip());
        let (service, answers) = asking(&scene, to, 3);
        answer(&listener, 3, |index| {
            if index == 1 {
                set(&scene.peer, "net.ipv4.tcp_fastopen_key=00000001-00000002-00000003-00000004");
            }
        });
        for is_syn_text_taken in [false, false, true] {
            expect(&answers, &service, is_syn_text_taken);
        }
        assert_eq!(fast_opens(&scene.peer), [0, 0, 1, 1]);
        service.finish().assert_balanced(&[]);
    });
}
