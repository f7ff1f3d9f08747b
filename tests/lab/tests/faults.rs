//! What goes wrong: each ends with a clear error, and with nothing left behind.

mod pair;
mod procfs;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use pair::Pair;
use procfs::is_running;
use ringwire_lab::{Impairment, Lab};

/// Threads and descriptors of this process; the tests of this file that count them run in processes of their own.
fn own() -> (usize, usize) {
    let count = |dir: &str| fs::read_dir(dir).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

/// Set for a copy of this program that runs one test alone.
const ALONE: &str = "RINGWIRE_LAB_TEST_ALONE";

/// Runs the test `name` of this file in a process of its own, unless this is it. Whether it is.
fn is_alone(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    false
}

#[test]
fn a_lab_that_ends_leaves_neither_threads_nor_descriptors() {
    if !is_alone("a_lab_that_ends_leaves_neither_threads_nor_descriptors") {
        return;
    }
    drop(Pair::new());
    std::thread::sleep(Duration::from_millis(200));
    let before = own();
    for _ in 0..3 {
        let Pair { lab, a, b, link } = Pair::new();
        link.impair(&b, Impairment::default().loss(0.5)).unwrap();
        a.command("true").status().unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| a.run(|| panic!("inside"))));
        assert!(caught.is_err());
        drop((lab, a, b, link));
    }
    // The kernel closes rings in its own time, on the forwarder's thread.
    let deadline = Instant::now() + Duration::from_secs(5);
    while own() != before {
        assert!(Instant::now() < deadline, "{before:?} before, {:?} after", own());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_program_that_hangs_is_killed_at_its_deadline() {
    let Pair { lab: _lab, a, .. } = Pair::new();
    let start = Instant::now();
    let mut sleep = a.command("sh");
    sleep.args(["-c", "sleep 1000 & sleep 1000"]).deadline(Duration::from_millis(100));
    let error = sleep.output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "\"sh\" has not ended within 100ms");
    assert!(start.elapsed() < Duration::from_secs(10));
    let output = a.command("echo").arg("in time").deadline(Duration::from_secs(10)).output().unwrap();
    assert_eq!(output.stdout, b"in time\n");
    let status = a.command("sh").args(["-c", "kill -SEGV $$"]).status().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(11));
}

#[test]
fn an_address_in_use_is_the_kernels_own_error() {
    let Pair { a, link, .. } = &Pair::new();
    let _holder = a.run(|| TcpListener::bind((link.addr(a), 80))).unwrap();
    let error = a.run(|| TcpListener::bind((link.addr(a), 80))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

#[test]
fn names_may_be_as_long_as_they_like_and_alike() {
    let name = "n".repeat(300);
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.node(&name).unwrap(), lab.node(&name).unwrap());
    let link = lab.link(&a, &b).up().unwrap();
    assert!(link.name(&a).len() <= 15);
    assert_ne!(link.addr(&a), link.addr(&b));
}

#[test]
fn what_cannot_be_adopted_is_named() {
    let lab = Lab::new().unwrap();
    for path in ["/proc/no-such/ns/net", "/etc/passwd", "/proc/self/ns/pid"] {
        let error = lab.adopt("container", path).unwrap_err();
        assert!(error.what.starts_with(&format!("cannot adopt {path} as node 'container'")), "{error}");
        assert!(error.errno.is_some() && !error.hint.is_empty(), "{error}");
    }
}

#[test]
fn a_route_that_leads_nowhere_is_named() {
    let Pair { a, .. } = &Pair::new();
    let error = a.add_route(([10, 9, 0, 0].into(), 16), [10, 200, 0, 1].into()).unwrap_err();
    assert!(error.what.starts_with("cannot route 10.9.0.0/16 of node 'a' via 10.200.0.1"), "{error}");
}

#[test]
fn a_capture_that_cannot_be_written_is_named() {
    let Pair { link, .. } = &Pair::new();
    let error = link.capture("/no/such/directory/file.pcapng").unwrap_err();
    assert!(error.what.starts_with("cannot capture to /no/such/directory/file.pcapng"), "{error}");
}

/// As Ctrl-C does: the whole process group gets SIGINT, and the programs of the lab are not in it.
#[test]
fn a_signal_leaves_nothing() {
    if std::env::var_os(ALONE).is_some() {
        let Pair { lab, a, b, link } = Pair::new();
        let sleep = a.command("sleep").arg("1000").spawn().unwrap();
        println!("\nsleep {}", sleep.id());
        std::thread::sleep(Duration::from_secs(60));
        drop((lab, a, b, link));
        return;
    }
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["a_signal_leaves_nothing", "--exact", "--nocapture"])
        .env(ALONE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let pid = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("sleep ")?.parse::<u32>().ok());
    let pid = pid.unwrap();
    assert!(is_running(pid));
    // Not SIGINT: what a shell starts in the background ignores it.
    let signal = std::process::Command::new("kill").args(["-TERM", &victim.id().to_string()]).status();
    assert!(signal.unwrap().success());
    assert!(!victim.wait().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_running(pid) {
        assert!(Instant::now() < deadline, "the program lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// With cargo test's threads and several processes at once: nothing is shared.
#[test]
fn many_labs_at_once() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let Pair { a, b, link, lab: _lab } = &Pair::new();
                let receiver = b.run(|| UdpSocket::bind((link.addr(b), 9))).unwrap();
                receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let sender = a.run(|| UdpSocket::bind((link.addr(a), 0))).unwrap();
                sender.send_to(b"x", (link.addr(b), 9)).unwrap();
                receiver.recv(&mut [0; 4]).unwrap();
            });
        }
    });
}
