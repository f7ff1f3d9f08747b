//! A queue without a socket: what is the engine's is dropped in silence and counted, never answered by the kernel's RST, and flows
//! go on when the socket is back. The only test of its file, because it looks for the AF_XDP sockets of its process.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use ringwire::DropReason;
use ringwire_netns::{Addressing, Capture, Echo, Scene, Service, eventually, kernel, options, within};
use rustix::net::AddressFamily;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

const FLOWS: usize = 16;
/// Engine slot 0, queue 0.
const KEY: [u8; 4] = [0; 4];
/// A flow that found no socket for a while comes back with its peer's next retransmission.
const RECOVERY_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_queue_without_a_socket_resets_nobody() {
    within(Duration::from_secs(90), || Addressing::BOTH.into_iter().for_each(flows_outlive_their_socket));
}

fn flows_outlive_their_socket(addressing: Addressing) {
    let scene = Scene::shaped(addressing, |link| link.queues(2))
        .may_repeat("a queue without a socket loses what comes to it");
    let addr = scene.at(7);
    let engine = scene.builder().workers(1).start().expect("the engine starts");
    let service = Service::start(engine, move |worker| Echo::tcp(worker, addr, &options()));
    let sockets = socket_map(&scene);
    let capture = Capture::start(&scene, "tcp[tcpflags] & tcp-rst != 0");
    let load = Load::default();
    thread::scope(|scope| {
        for number in 0..FLOWS {
            let (scene, load) = (&scene, &load);
            scope.spawn(move || load.run(scene, addr, number));
        }
        let dropped = || {
            let metrics = service.handle().metrics();
            metrics.steering.iter().find(|(name, _)| *name == "drop_no_socket").map_or(0, |(_, count)| *count)
        };
        load.assert_all_move("before", &service);
        assert_eq!(dropped(), 0);

        sockets.delete(&KEY).expect("the entry is there");
        assert!(eventually(Duration::from_secs(5), || dropped() > 0), "{}", service.handle().metrics());
        let late = scope.spawn(|| kernel::connect(&scene.peer, addr));
        // What was dropped may have been a bare ACK, whose flow still has an answer on the way.
        thread::sleep(Duration::from_millis(100));
        assert!(!load.all_move(Duration::from_millis(700)), "no flow needed that socket");

        restore(&sockets, || load.all_move(Duration::from_secs(3)));
        load.assert_all_move("after", &service);
        late.join().expect("no panic").expect("a connection begun meanwhile");
        load.stop.store(true, Ordering::Relaxed);
    });
    // The capture does see a reset when there is one.
    kernel::connect(&scene.peer, scene.at(9)).expect_err("nobody listens there");
    let books = service.finish();
    let resets = capture.finish();
    assert_eq!(resets.len(), 1, "{addressing:?}: {resets:#?}");
    assert!(resets[0].contains(".9 >"), "{resets:?}");
    books.assert_balanced(&[DropReason::TcpNoSocket]);
}

/// Connections that talk without a pause.
#[derive(Default)]
struct Load {
    answers: [AtomicU64; FLOWS],
    stop: AtomicBool,
}

impl Load {
    fn run(&self, scene: &Scene, addr: SocketAddr, number: usize) {
        let mut stream: TcpStream = kernel::connect(&scene.peer, addr).expect("a connection");
        while !self.stop.load(Ordering::Relaxed) {
            let said = [number as u8; 64];
            let mut heard = [0; 64];
            stream.write_all(&said).expect("no reset");
            stream.read_exact(&mut heard).expect("no reset");
            assert_eq!(said, heard);
            self.answers[number].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether every flow gets another answer.
    fn all_move(&self, limit: Duration) -> bool {
        let before = self.answers.each_ref().map(|count| count.load(Ordering::Relaxed));
        let moves = |(now, before): (&AtomicU64, &u64)| now.load(Ordering::Relaxed) > *before;
        eventually(limit, || self.answers.iter().zip(&before).all(moves))
    }

    #[track_caller]
    fn assert_all_move(&self, when: &str, service: &Service) {
        assert!(self.all_move(RECOVERY_LIMIT), "{when}: {:?}\n{}", self.answers, service.handle().metrics());
    }
}

/// The XSKMAP of the program on the host's interface.
fn socket_map(scene: &Scene) -> MapHandle {
    let mut command = scene.host.command("ip");
    let shown = command.args(["-d", "link", "show", scene.link.name(&scene.host)]).output().expect("ip");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let id = shown.split("prog/xdp id ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let id: u32 = id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no program in {shown}"));
    let options = ProgInfoQueryOptions::default().include_map_ids(true);
    let program = ProgInfoIter::with_query_opts(options).find(|program| program.id == id);
    let ids = program.expect("the program is loaded").map_ids;
    let maps = ids.into_iter().map(|id| MapHandle::from_map_id(id).expect("the map is there"));
    maps.into_iter().find(|map| map.name() == "steer_sockets").expect("the program has an XSKMAP")
}

/// Puts the socket of queue 0 back: the kernel delivers only to that one, so the others are tried and do nothing.
fn restore(sockets: &MapHandle, works: impl Fn() -> bool) {
    for socket in xdp_sockets() {
        sockets.update(&KEY, &socket.as_raw_fd().to_ne_bytes(), MapFlags::ANY).expect("an AF_XDP socket");
        if works() {
            return;
        }
    }
}

/// Second descriptors of this process's AF_XDP sockets.
fn xdp_sockets() -> Vec<OwnedFd> {
    let process = pidfd_open(getpid(), PidfdFlags::empty()).expect("a descriptor of this process");
    let numbers = fs::read_dir("/proc/self/fd")
        .expect("procfs")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let numbers: Vec<i32> = numbers.collect();
    // Some numbers are closed by now, most are no sockets.
    let duplicates =
        numbers.into_iter().filter_map(|fd| pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()).ok());
    let is_xdp = |fd: &OwnedFd| rustix::net::sockopt::socket_domain(fd) == Ok(AddressFamily::XDP);
    duplicates.filter(is_xdp).collect()
}
