//! A lab whose process is killed leaves no program, classifier or namespace behind.

mod procfs;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use procfs::{descendants, is_running};
use ringwire_lab::{Impairment, Lab, PacketLayer};

/// Set for the copy of this test that is to be killed.
const VICTIM: &str = "RINGWIRE_LAB_TEST_VICTIM";

/// The kernel takes namespaces down in the background, seconds late when many go at once.
const TAKEDOWN_TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn a_killed_lab_leaves_nothing() {
    leaves_nothing("a_killed_lab_leaves_nothing", |victim| victim.kill().unwrap());
}

#[test]
fn a_lab_that_panics_leaves_nothing() {
    leaves_nothing("a_lab_that_panics_leaves_nothing", |victim| drop(victim.stdin.take()));
}

/// In a namespace that outlives the lab, and where no PID namespace may be made: what was there before is there again, links,
/// addresses, routes and neighbours, and no program runs on, not even one that has left its process group and its session.
#[test]
fn a_killed_lab_of_one_namespace_leaves_nothing() {
    if std::env::var_os(VICTIM).is_some() {
        be_victim_in_one_namespace();
    }
    let container = Container::new();
    let (netns, shown) = (&container.netns, || container.shown());
    let before = shown();
    let this = std::env::current_exe().unwrap();
    let test = "exec THIS a_killed_lab_of_one_namespace_leaves_nothing --exact --nocapture";
    let mut victim = Command::new("nsenter")
        .args([
            netns,
            "capsh",
            "--drop=cap_sys_admin",
            "--",
            "-c",
            &test.replace("THIS", &this.display().to_string()),
        ])
        .env(VICTIM, "1")
        .env("RINGWIRE_LAB", "one-namespace")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
    let pids: Vec<u32> = lines
        .skip_while(|line| !line.starts_with("pids "))
        .flat_map(|line| line.split(' ').skip(1).map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .take(3)
        .collect();
    let [lab, program, daemon] = pids[..] else { panic!("{pids:?}") };
    assert!(is_running(program) && is_running(daemon));
    assert_eq!(
        shown().matches("link/ether 02:52:57:").count(),
        8,
        "four ends, each shown as a link and with addresses"
    );
    assert!(Command::new("kill").args(["-KILL", &lab.to_string()]).status().unwrap().success());
    assert!(!victim.wait().unwrap().success());
    let deadline = Instant::now() + TAKEDOWN_TIMEOUT;
    let settled = || shown() == before && !is_running(program) && !is_running(daemon);
    while !settled() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    let (after, programs) = (shown(), [program, daemon].map(is_running));
    if programs[1] {
        let _ = Command::new("kill").args(["-KILL", &daemon.to_string()]).status();
    }
    assert!(
        after == before && programs == [false; 2],
        "before\n{before}\nafter\n{after}\nprograms run: {programs:?}"
    );
}

/// Stands for one: a namespace that goes with this process.
struct Container {
    holder: Child,
    /// For nsenter(1).
    netns: String,
}

impl Container {
    fn new() -> Container {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up; echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let netns = format!("--net=/proc/{}/ns/net", holder.id());
        Container { holder, netns }
    }

    /// All that a lab could leave there.
    fn shown(&self) -> String {
        let script =
            "ip link; ip addr; ip route show table all; ip neigh; ls /proc/thread-self/net/dev_snmp6";
        let output = Command::new("nsenter").args([&self.netns, "sh", "-c", script]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn be_victim_in_one_namespace() -> ! {
    let lab = Lab::new().unwrap();
    let (kernel, far) = (lab.node("kernel").unwrap(), lab.node("far").unwrap());
    let link = lab.link(&kernel, &far).ipv6().up().unwrap();
    link.impair(&far, Impairment::default().loss(0.5)).unwrap();
    let sh = ["-c", "setsid sleep 1000 & echo $!; wait"];
    let mut child = kernel.command("sh").args(sh).stdout(Stdio::piped()).spawn().unwrap();
    let mut daemon = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut daemon).unwrap();
    // An answer from nobody, so that there is a neighbour's entry.
    let _ = kernel.command("ping").args(["-c1", "-W1", &link.addr(&far).to_string()]).output().unwrap();
    println!("\npids {} {} {}", std::process::id(), child.id(), daemon.trim());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    panic!("nobody has killed it");
}

fn leaves_nothing(test: &str, end: impl FnOnce(&mut Child)) {
    if std::env::var_os(VICTIM).is_some() {
        be_victim();
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let traces = Traces::of(&mut victim);
    let present = traces.present();
    assert_eq!(present.pids.len(), 3, "cat, sh and sleep");
    let forwarding = if cfg!(feature = "xdp") { 2 } else { 0 };
    assert_eq!(
        present.programs.len(),
        2 + forwarding,
        "the classifiers of one direction, one program at each end"
    );
    assert_eq!(present.namespaces, traces.namespaces);
    assert_eq!(host_interfaces(), [""; 0], "a lab shows nowhere in the host's own namespace");

    end(&mut victim);
    assert!(!victim.wait().unwrap().success());
    let deadline = Instant::now() + TAKEDOWN_TIMEOUT;
    while traces.present() != Traces::default() {
        assert!(Instant::now() < deadline, "left behind: {:?}", traces.present());
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(host_interfaces(), [""; 0]);
}

/// Builds a lab with all there is in it, says what to look for, and panics when its input closes.
fn be_victim() -> ! {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
    let link = lab.link(&a, &b).queues(2).direct().up().unwrap();
    let forwarded = lab.link(&a, &b).up().unwrap();
    forwarded.impair(&b, Impairment::default().loss(0.5)).unwrap();
    let _xdp = lab.link(&a, &b).packet_layer(PacketLayer::Xdp).up().unwrap();
    link.impair(&b, Impairment::default().loss(0.5)).unwrap();
    let sh = ["-c", "setsid sleep 1000 & echo $!; wait"];
    let mut child = a.command("sh").args(sh).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();

    for (node, hook) in [(&a, "egress"), (&b, "ingress")] {
        let filter =
            node.command("tc").args(["filter", "show", "dev", link.name(node), hook]).output().unwrap();
        let filter = String::from_utf8(filter.stdout).unwrap();
        let id = filter.split(" id ").nth(1).and_then(|rest| rest.split_whitespace().next());
        println!("\nprogram {}", id.unwrap_or_else(|| panic!("no program in {filter}")));
        let netns = fs::read_link(format!("/proc/self/fd/{}", node.netns().as_raw_fd())).unwrap();
        println!("namespace {}", netns.display());
    }
    println!("ready now");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    panic!("as told");
}

/// What a lab has in the kernel.
#[derive(Debug, Default, PartialEq)]
struct Traces {
    pids: BTreeSet<u32>,
    programs: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Traces {
    fn of(victim: &mut Child) -> Traces {
        let mut traces = Traces::default();
        for line in BufReader::new(victim.stdout.as_mut().unwrap()).lines() {
            match line.unwrap().split_once(' ') {
                Some(("program", id)) => drop(traces.programs.insert(id.into())),
                Some(("namespace", name)) => drop(traces.namespaces.insert(name.into())),
                Some(("ready", _)) => break,
                _ => {}
            }
        }
        traces.pids = descendants(victim.id());
        // Those that it holds by a descriptor: the forwarder's over AF_XDP.
        for fdinfo in fs::read_dir(format!("/proc/{}/fdinfo", victim.id())).unwrap().flatten() {
            let text = fs::read_to_string(fdinfo.path()).unwrap_or_default();
            let ids = text.lines().filter_map(|line| line.strip_prefix("prog_id:"));
            traces.programs.extend(ids.map(|id| id.trim().to_owned()));
        }
        traces
    }

    /// Those that still exist.
    fn present(&self) -> Traces {
        let program = |id: &&String| {
            let show = Command::new("bpftool").args(["prog", "show", "id", id]).output().unwrap();
            show.status.success()
        };
        Traces {
            pids: self.pids.iter().copied().filter(|pid| is_running(*pid)).collect(),
            programs: self.programs.iter().filter(program).cloned().collect(),
            namespaces: self.namespaces.intersection(&held_namespaces()).cloned().collect(),
        }
    }
}

/// The network namespaces that some process lives in or holds open.
fn held_namespaces() -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let fds = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let links = fds.map(|fd| fd.path()).chain([process.path().join("ns/net")]);
        held.extend(links.filter_map(|link| Some(fs::read_link(link).ok()?.display().to_string())));
    }
    held.retain(|name| name.starts_with("net:["));
    held
}

/// The interfaces of a lab that are in the host's own namespace, told by the lab's hardware addresses.
fn host_interfaces() -> Vec<String> {
    let links = Command::new("ip").args(["-o", "link", "show"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(links.contains("lo:"), "the looking itself must work: {links}");
    links.lines().filter(|link| link.contains("link/ether 02:52:57:")).map(str::to_owned).collect()
}
