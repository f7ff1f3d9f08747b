//! kill -9 leaves nothing on the interface. This test starts itself as the process to be killed, so it has no harness.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{config, in_netns, privileged, veth};
use ringwire_bpf::{Steering, incumbent};

const CHILD: &str = "RINGWIRE_TEST_CHILD_IFINDEX";

fn main() {
    match std::env::var(CHILD) {
        Ok(ifindex) => hold(ifindex.parse().expect("an index")),
        Err(_) if privileged() => in_netns(killed_process_leaves_the_interface_free),
        Err(_) => {}
    }
}

/// The child: attaches, says so, and never detaches by itself. It ends with its parent, whose pipe it reads.
fn hold(ifindex: u32) {
    let steering = Steering::attach(&config(ifindex)).expect("attach");
    println!("attached");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("stdin");
    drop(steering);
}

fn killed_process_leaves_the_interface_free() {
    let ifindex = veth(1, 1500);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, ifindex.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "attached\n");
    let holder = incumbent(ifindex).unwrap().expect("the child's program").holder.expect("the child");
    assert!(holder.ends_with(&format!(" pid {}", child.id())), "{holder}");

    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    while incumbent(ifindex).unwrap().is_some() {
        assert!(Instant::now() < until, "still attached five seconds after kill -9");
        std::thread::sleep(Duration::from_millis(1));
    }
    Steering::attach(&config(ifindex)).expect("a new engine can take the interface");
    println!("test killed_process_leaves_the_interface_free ... ok");
}
