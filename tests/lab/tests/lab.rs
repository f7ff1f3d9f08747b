//! Nodes, links and programs of the lab against a real kernel: needs the privilege to make namespaces.

mod pair;
mod procfs;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use pair::Pair;
use procfs::{descendants, is_running};
use ringwire_lab::{Carrier, Lab, Node, Offloads};

fn ping(from: &Node, to: IpAddr) -> bool {
    let output = from.command("ping").args(["-c", "1", "-W", "1"]).arg(to.to_string()).output().unwrap();
    output.status.success()
}

#[test]
fn ping_crosses_the_link_both_ways_and_lo_is_up() {
    let Pair { a, b, link, .. } = &Pair::new();
    assert!(ping(a, link.addr(b)));
    assert!(ping(b, link.addr(a)));
    assert!(ping(a, "127.0.0.1".parse().unwrap()));
    assert!(!ping(a, link.spare_addr(b)), "a spare address must be free");
}

#[test]
fn tcp_carries_a_megabyte() {
    let Pair { a, b, link, .. } = &Pair::new();
    let listener = b.run(|| TcpListener::bind((link.addr(b), 80))).unwrap();
    let sent: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
    let mut stream = a.run(|| TcpStream::connect((link.addr(b), 80))).unwrap();
    let (mut accepted, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), link.addr(a));
    let received = thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut bytes = Vec::new();
            accepted.read_to_end(&mut bytes).map(|_| bytes)
        });
        stream.write_all(&sent).unwrap();
        drop(stream);
        reader.join().unwrap().unwrap()
    });
    assert!(received == sent);
}

#[test]
fn link_has_the_shape_asked_for() {
    let Pair { a, b, link, .. } = &Pair::shaped(|link| link.queues(4).mtu(3000));
    for node in [a, b] {
        let name = link.name(node);
        let shown = node.command("ip").args(["-d", "link", "show", name]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("mtu 3000") && shown.contains("numtxqueues 4 numrxqueues 4"), "{shown}");
        let mac = link.mac(node).map(|byte| format!("{byte:02x}")).join(":");
        assert!(shown.contains(&mac), "{mac} not in {shown}");
        assert!(shown.starts_with(&format!("{}: ", link.ifindex(node))), "{shown}");
        let addrs = node.command("ip").args(["-o", "addr", "show", "dev", name]).output().unwrap();
        let addrs = String::from_utf8(addrs.stdout).unwrap();
        assert_eq!(addrs.lines().count(), 1, "one IPv4 address and no IPv6 address: {addrs}");
        assert!(addrs.contains(&format!("inet {}/{}", link.addr(node), link.prefix_len())), "{addrs}");
    }
}

#[test]
fn offloads_are_as_asked() {
    let features = |pair: &Pair| {
        let output = pair.a.command("ethtool").args(["-k", pair.link.name(&pair.a)]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let off = features(&Pair::new());
    for name in [
        "tx-checksumming",
        "tx-tcp-segmentation",
        "tx-tcp6-segmentation",
        "generic-segmentation-offload",
        "generic-receive-offload",
        "tx-vlan-offload",
    ] {
        assert!(off.contains(&format!("{name}: off")), "{name} in {off}");
    }
    let on = features(&Pair::shaped(|link| link.direct().offloads(Offloads::On)));
    assert!(on.contains("tx-checksumming: on") && on.contains("tx-tcp-segmentation: on"), "{on}");
}

#[test]
fn links_of_a_lab_have_their_own_networks_and_interfaces() {
    let lab = Lab::new().unwrap();
    let (client, router, server) =
        (lab.node("client").unwrap(), lab.node("router").unwrap(), lab.node("server").unwrap());
    let near = lab.link(&client, &router).up().unwrap();
    let far = lab.link(&router, &server).up().unwrap();
    assert_eq!((near.name(&router), far.name(&router)), ("eth0", "eth1"));

    router.set_sysctl("net/ipv4/ip_forward", "1").unwrap();
    let route = |node: &Node, via: IpAddr| {
        let status =
            node.command("ip").args(["route", "add", "default", "via"]).arg(via.to_string()).status();
        assert!(status.unwrap().success());
    };
    route(&client, near.addr(&router));
    route(&server, far.addr(&router));
    assert!(ping(&client, far.addr(&server)));
}

#[test]
fn carrier_goes_and_comes_back() {
    let Pair { a, b, link, .. } = &Pair::new();
    let carrier = || {
        let shown = a.command("ip").args(["link", "show", link.name(a)]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains(",UP"), "the interface itself stays up: {shown}");
        !shown.contains("NO-CARRIER")
    };
    assert!(carrier());
    link.set_carrier(a, Carrier::Down).unwrap();
    assert!(!carrier());
    link.set_carrier(a, Carrier::Up).unwrap();
    assert!(carrier());
    assert!(ping(a, link.addr(b)));
}

#[test]
fn misuse_is_refused_with_a_hint() {
    let lab = Lab::new().unwrap();
    let node = lab.node("lonely").unwrap();
    let error = lab.link(&node, &node).up().unwrap_err();
    assert!(error.to_string().contains("both ends of a link are node 'lonely'\nhint: "), "{error}");
    let other = lab.node("other").unwrap();
    for (link, said) in [
        (lab.link(&node, &other).offloads(Offloads::On), "the link from 'lonely' to 'other' wants offloads"),
        (lab.link(&node, &other).mtu(67), "wants an MTU of 67 bytes"),
        (lab.link(&node, &other).queues(0), "wants 0 queues"),
    ] {
        let error = link.up().unwrap_err();
        assert!(error.to_string().contains(said) && !error.hint.is_empty(), "{error}");
    }
    let error = node.set_sysctl("net/ipv4/no_such_thing", "1").unwrap_err();
    assert!(error.errno.is_some() && error.what.contains("no_such_thing"), "{error}");
}

#[test]
fn a_panic_inside_a_node_reaches_the_caller_and_the_lab_lives_on() {
    let Pair { a, b, link, .. } = &Pair::new();
    let caught = std::panic::catch_unwind(|| a.run(|| panic!("inside")));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"inside"));
    assert!(ping(a, link.addr(b)));
}

#[test]
fn programs_end_with_the_lab_grandchildren_too() {
    let Pair { lab, a, .. } = Pair::new();
    let mut child = a
        .command("sh")
        .args(["-c", "setsid sleep 1000 & echo ready; wait"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 5]).unwrap();
    let mut family = descendants(child.id());
    family.insert(child.id());
    assert_eq!(family.len(), 2, "sh and sleep");
    assert!(family.iter().all(|&pid| is_running(pid)));

    drop(lab);
    assert!(!family.iter().any(|&pid| is_running(pid)), "all are dead when the lab's drop returns");
    assert!(!child.wait().unwrap().success());
    let refused = a.command("true").spawn().unwrap_err();
    assert_eq!(refused.to_string(), "the lab has ended");
}

#[test]
fn programs_can_be_waited_for_signalled_and_fed() {
    let Pair { lab: _lab, a, .. } = Pair::new();
    let mut cat = a.command("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    cat.stdin.as_mut().unwrap().write_all(b"through").unwrap();
    assert_eq!(cat.wait_with_output().unwrap().stdout, b"through");

    let mut sleep = a.command("sleep").arg("1000").spawn().unwrap();
    assert_eq!(sleep.try_wait().unwrap(), None);
    sleep.signal(15).unwrap();
    assert!(!sleep.wait().unwrap().success());
    sleep.kill().unwrap();

    let asleep = a.command("sleep").arg("1000").spawn().unwrap();
    thread::scope(|scope| {
        let mut waiting = a.command("sleep").arg("0.05").spawn().unwrap();
        let waited = scope.spawn(move || waiting.wait().unwrap());
        asleep.kill().unwrap();
        assert!(waited.join().unwrap().success());
    });

    let mut sh = a.command("sh");
    sh.args(["-c", "echo $WORD; pwd; echo oops >&2; exit 3"]).env("WORD", "hi").current_dir("/");
    let output = sh.output().unwrap();
    assert_eq!(
        (output.status.code(), &output.stdout[..], &output.stderr[..]),
        (Some(3), &b"hi\n/\n"[..], &b"oops\n"[..])
    );
    assert!(a.command("no-such-program").spawn().is_err());
}

#[test]
fn labs_work_side_by_side() {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let Pair { a, b, link, lab: _lab } = &Pair::new();
                assert_eq!(link.addr(b).to_string(), "10.77.0.2", "every lab starts with the same addresses");
                assert!(ping(a, link.addr(b)));
            });
        }
    });
}

/// The aim is 100 ms for the median; the bound leaves room for a machine that is busy elsewhere.
#[test]
fn a_lab_of_two_nodes_starts_and_ends_quickly() {
    let mut took: Vec<Duration> = (0..15)
        .map(|_| {
            let start = Instant::now();
            drop(Pair::new());
            start.elapsed()
        })
        .collect();
    took.sort();
    println!("start to end: median {:?}, worst {:?}", took[7], took[14]);
    assert!(took[7] < Duration::from_millis(500), "{took:?}");
}
