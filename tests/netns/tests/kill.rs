//! kill -9 under full load leaves nothing behind, fifty times, and the next start is quick.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringwire_lab::Node;
use ringwire_netns::{Addressing, Scene, eventually, program, within};

const ROUNDS: usize = 50;
const LIMIT: Duration = Duration::from_secs(110);
/// The next start may take so long.
const START_LIMIT: Duration = Duration::from_secs(2);
/// Bytes that must have come back before a round's kill: the engine was at work.
const BYTES_BEFORE_KILL: u64 = 200_000;
const STREAMS: usize = 6;
const SIGKILL: i32 = 9;

#[test]
fn fifty_kills_under_load_leave_nothing() {
    program::ringwire();
    within(LIMIT, || {
        let scene = Scene::shaped(Addressing::Shared, |link| link.queues(2))
            .may_repeat("who is killed leaves peers that repeat themselves");
        // The kernel's own neighbour entry, which is not ours to count.
        scene.ping(1, 8);
        let dedicated = format!("--address={}/24", scene.link.spare_addr(&scene.host));
        let before = Listing::of(&scene.host);
        let mut slowest = Duration::ZERO;
        for round in 0..ROUNDS {
            let is_shared = round % 5 != 4;
            let own = [dedicated.as_str()];
            let args = [&["echo", "-i", "eth0"][..], if is_shared { &[] } else { &own }].concat();
            let ip = if is_shared { scene.ip() } else { scene.link.spare_addr(&scene.host) };
            let mut served = program::serve(&scene.host, &args, START_LIMIT);
            slowest = slowest.max(served.took);
            assert!(served.took < START_LIMIT, "round {round} took {:?} to start", served.took);
            let used = BpfIds::of_process(served.child.id());
            assert!(!used.programs.is_empty() && !used.links.is_empty() && used.maps.len() >= 4, "{used:?}");
            load(&scene.peer, SocketAddr::new(ip, 9000), || served.child.signal(SIGKILL).expect("a kill"));
            let status = served.child.wait().expect("it ends");
            assert!(!status.success(), "it ended by itself: {status}");
            let is_gone = eventually(Duration::from_secs(2), || used.still_there().is_empty());
            assert!(is_gone, "round {round}: {:?} of {used:?} stay behind", used.still_there());
            let is_as_before = eventually(Duration::from_secs(2), || Listing::of(&scene.host) == before);
            assert!(is_as_before, "round {round}:\n{before:#?}\nbecame\n{:#?}", Listing::of(&scene.host));
        }
        println!("slowest of {ROUNDS} starts: {slowest:?}");
    });
}

/// Streams and datagrams as fast as they go, until so much has come back that `kill` is called; ends when all clients have noticed.
fn load(peer: &Node, to: SocketAddr, kill: impl FnOnce()) {
    const ROUND_LIMIT: Duration = Duration::from_secs(10);
    let (echoed, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..STREAMS {
            scope.spawn(|| peer.run(|| stream(to, &echoed, &stop)));
        }
        scope.spawn(|| peer.run(|| datagrams(to, &echoed, &stop)));
        let started = Instant::now();
        while echoed.load(Ordering::Relaxed) < BYTES_BEFORE_KILL && started.elapsed() < ROUND_LIMIT {
            thread::sleep(Duration::from_millis(1));
        }
        kill();
        // Relaxed: nothing is published with it.
        stop.store(true, Ordering::Relaxed);
    });
    let echoed = echoed.load(Ordering::Relaxed);
    assert!(echoed >= BYTES_BEFORE_KILL, "only {echoed} bytes came back within {ROUND_LIMIT:?}");
}

/// Until the other end dies or the round is over.
fn stream(to: SocketAddr, echoed: &AtomicU64, stop: &AtomicBool) {
    const CONNECT_LIMIT: Duration = Duration::from_secs(2);
    const READ_LIMIT: Duration = Duration::from_millis(50);
    let Ok(mut stream) = TcpStream::connect_timeout(&to, CONNECT_LIMIT) else { return };
    stream.set_read_timeout(Some(READ_LIMIT)).expect("a limit");
    stream.set_write_timeout(Some(READ_LIMIT)).expect("a limit");
    let (bytes, mut answer) = ([7; 16 << 10], [0; 16 << 10]);
    while !stop.load(Ordering::Relaxed) {
        // An echo that is not read stops its writer: both in turn, as much as goes.
        let written = stream.write(&bytes).unwrap_or(0);
        match stream.read(&mut answer) {
            Ok(0) | Err(_) if written == 0 => return,
            Ok(len) => {
                echoed.fetch_add(len as u64, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }
}

fn datagrams(to: SocketAddr, echoed: &AtomicU64, stop: &AtomicBool) {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a port");
    socket.connect(to).expect("a route");
    socket.set_read_timeout(Some(Duration::from_millis(2))).expect("a limit");
    let mut answer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..16 {
            // Refused once the engine is gone, which the loop's end tells too.
            let _ = socket.send(&[9; 1000]);
        }
        while let Ok(len) = socket.recv(&mut answer) {
            echoed.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
}

/// Everything of the engine's node that an engine could leave behind, as the usual tools list it.
#[derive(Debug, PartialEq, Eq)]
struct Listing {
    interfaces: String,
    addresses: String,
    routes: String,
    neighbours: BTreeSet<String>,
    xdp_sockets: String,
    sockets: String,
    files: BTreeSet<String>,
}

impl Listing {
    fn of(node: &Node) -> Listing {
        let say = |program: &str, args: &[&str]| {
            let output = node.command(program).args(args).output().expect("iproute2 is installed");
            assert!(output.status.success(), "{program} {args:?}: {output:?}");
            String::from_utf8(output.stdout).expect("text")
        };
        Listing {
            interfaces: say("ip", &["-oneline", "-details", "link"]),
            addresses: say("ip", &["-oneline", "address"]),
            routes: say("ip", &["route", "show", "table", "all"]),
            neighbours: say("ip", &["neighbour"]).lines().map(settled).collect(),
            xdp_sockets: say("ss", &["--no-header", "--xdp", "--all"]),
            sockets: say("ss", &["--no-header", "--tcp", "--udp", "--listening", "--numeric"]),
            files: ["/run/ringwire", "/sys/fs/bpf", "/dev/shm"].into_iter().flat_map(files).collect(),
        }
    }
}

/// An entry without its state, which the kernel changes as time goes by.
fn settled(neighbour: &str) -> String {
    neighbour
        .split_whitespace()
        .filter(|word| !word.chars().all(char::is_uppercase))
        .collect::<Vec<_>>()
        .join(" ")
}

/// What lies directly in a directory; nothing if there is none.
fn files(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// The kernel's ids of BPF objects.
#[derive(Debug, Default)]
struct BpfIds {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl BpfIds {
    /// What the descriptors of a process refer to.
    fn of_process(pid: u32) -> BpfIds {
        let mut ids = BpfIds::default();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs").flatten();
        for descriptor in descriptors {
            let text = fs::read_to_string(descriptor.path()).unwrap_or_default();
            for line in text.lines() {
                let Some((key, value)) = line.split_once(':') else { continue };
                let Ok(id) = value.trim().parse() else { continue };
                match key {
                    "prog_id" => ids.programs.insert(id),
                    "map_id" => ids.maps.insert(id),
                    "link_id" => ids.links.insert(id),
                    _ => false,
                };
            }
        }
        ids
    }

    /// Those that the kernel still has, as bpftool names them. Ids are never used twice.
    fn still_there(&self) -> Vec<String> {
        let kinds = [("prog", &self.programs), ("map", &self.maps), ("link", &self.links)];
        kinds
            .into_iter()
            .flat_map(|(kind, ours)| {
                let listed = listed(kind);
                ours.iter()
                    .filter(move |id| listed.contains(id))
                    .map(move |id| format!("{kind} {id}"))
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

/// All ids of one kind on this machine.
fn listed(kind: &str) -> BTreeSet<u32> {
    let output = std::process::Command::new("bpftool").args([kind, "list"]).output();
    let output = output.expect("bpftool is installed");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // `412: xdp  name steer ..`; further lines of an entry begin with blanks.
    text.lines().filter_map(|line| line.split_once(':')?.0.parse().ok()).collect()
}
