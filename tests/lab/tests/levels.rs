//! The same tests at every level of privilege: what a level cannot do is skipped, counted and named.

mod echo;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::Duration;

use echo::Echo;
use ringwire_lab::{Field, Impairment, Lab, Level, Link, Macs, Match, Node, UdpPacket};

const PORT: u16 = 7;
const WITHIN: Duration = Duration::from_secs(5);

/// Two nodes; the second has an engine that echoes.
fn scene(lab: &Lab) -> (Node, Node, Link, Echo) {
    let (kernel, host) = (lab.node("kernel").unwrap(), lab.node("host").unwrap());
    let link = lab.link(&kernel, &host).up().unwrap();
    let engine = host.engine(&link).start().unwrap();
    let echo = Echo::start(engine, (link.spare_addr(&host), PORT).into());
    (kernel, host, link, echo)
}

fn v4(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => panic!("{ip}"),
    }
}

#[test]
fn a_raw_port_and_an_engine() {
    let lab = ringwire_lab::lab!(Level::Memory);
    let (kernel, host, link, _echo) = scene(&lab);
    let mut raw = kernel.raw(&link).unwrap();
    let src = SocketAddrV4::new(raw.spare_addr(), 5);
    let dst = SocketAddrV4::new(v4(link.spare_addr(&host)), PORT);
    raw.answer_arp(*src.ip());
    let macs = Macs { src: raw.mac(), dst: raw.resolve(*src.ip(), *dst.ip()).unwrap() };
    let answer = |text: &str| Match::udp().src(*dst.ip()).src_port(PORT).dst_port(5).payload(text);
    let frame = |text: &str| UdpPacket { src, dst, payload: text.into() }.frame(macs);
    raw.send(frame("once"));
    let seen = raw.expect(answer("once"), WITHIN);
    assert_eq!(seen.get(Field::ChecksumOk), Some(&true.into()));

    link.impair(&host, Impairment::default().duplicate(1.0)).unwrap();
    raw.send(frame("twice"));
    raw.expect(answer("twice"), WITHIN);
    raw.expect(answer("twice"), WITHIN);
    link.impair(&host, Impairment::default().loss(1.0)).unwrap();
    raw.send(frame("never"));
    raw.expect_none(answer("never"), Duration::from_millis(100));
    assert_eq!(link.counters(&host).unwrap().lost, 1);
}

#[test]
fn a_kernel_and_an_engine() {
    let lab = ringwire_lab::lab!(Level::OneNamespace);
    let (kernel, host, link, _echo) = scene(&lab);
    let socket = kernel.run(|| UdpSocket::bind((link.addr(&kernel), 0))).unwrap();
    socket.set_read_timeout(Some(WITHIN)).unwrap();
    let delay = Duration::from_millis(30);
    link.impair(&host, Impairment::default().delay(delay, Duration::ZERO)).unwrap();
    let start = std::time::Instant::now();
    socket.send_to(b"hello", (link.spare_addr(&host), PORT)).unwrap();
    let mut bytes = [0; 16];
    let (len, from) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..len], from), (&b"hello"[..], SocketAddr::new(link.spare_addr(&host), PORT)));
    assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
    let greeting = kernel.command("echo").arg("hello").output().unwrap();
    assert_eq!(greeting.stdout, b"hello\n");
}

#[test]
fn two_kernels_a_runtime_and_an_adopted_namespace() {
    let lab = ringwire_lab::lab!(Level::UserNamespace);
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
    let holder = a.command("sleep").arg("1000").spawn().unwrap();
    let adopted = lab.adopt("container", format!("/proc/{}/ns/net", holder.id())).unwrap();
    let link = lab.link(&adopted, &b).up().unwrap();
    let to = (link.addr(&b), 80);
    let listener = b.run(|| std::net::TcpListener::bind(to)).unwrap();
    // Connected from a task, on whatever thread of the runtime: all are in the node.
    let local = adopted.block_on(|| async move {
        let connected = tokio::spawn(async move { tokio::net::TcpStream::connect(to).await });
        connected.await.unwrap().unwrap().local_addr().unwrap()
    });
    assert_eq!(local.ip(), link.addr(&adopted));
    drop(listener);
    let name = link.name(&adopted).to_owned();
    let shown = |name: &str| a.command("ip").args(["link", "show", name]).output().unwrap().status.success();
    assert!(name.len() <= 15 && shown(&name), "the adopted namespace is that of node a");
}

#[test]
fn loss_by_a_program() {
    let lab = ringwire_lab::lab!(Level::Namespaces);
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
    let link = lab.link(&a, &b).direct().up().unwrap();
    link.impair(&b, Impairment::default().loss(0.5)).unwrap();
}

#[test]
fn more_nodes_than_a_level_has_are_refused_by_name() {
    let lab = ringwire_lab::lab!(Level::OneNamespace);
    let nodes: Vec<_> = ["a", "b", "c"].iter().map(|name| lab.node(name)).collect();
    if lab.level() == Level::OneNamespace {
        let error = nodes.into_iter().find_map(Result::err).unwrap();
        assert_eq!(
            error.to_string(),
            "level OneNamespace: no SYS_ADMIN, so no new namespaces; this test asks for 3 nodes\n\
             hint: docker run --cap-add SYS_ADMIN --cap-add NET_ADMIN, or RINGWIRE_LAB=skip"
        );
    }
}

/// Set for the copies of this program that run with less privilege.
const INSIDE: &str = "RINGWIRE_LAB_TEST_INSIDE";

/// All tests of this file, in a process that `wrapper` deprives of something.
fn at(level: &str, wrapper: &str, skipped: &[&str]) {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let this = std::env::current_exe().unwrap();
    // A namespace of its own around it, so that nothing can reach this machine's.
    let script = wrapper.replace("THIS", &this.display().to_string());
    let output = Command::new("unshare")
        .args(["--net", "sh", "-c", &script])
        .env(INSIDE, "1")
        .env("RINGWIRE_LAB", "skip")
        .output()
        .unwrap();
    let (said, named) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{named}");
    assert_eq!(named.matches("ringwire-lab: skipped (").count(), skipped.len(), "{named}");
    for test in skipped {
        assert!(named.contains(&format!("{test}: level {level}: ")), "{test} in {named}");
    }
}

#[test]
fn all_of_it_at_level_user_namespace() {
    at("UserNamespace", "exec unshare --user --map-root-user --net THIS", &["loss_by_a_program"]);
}

#[test]
fn all_of_it_at_level_one_namespace() {
    let skipped = ["loss_by_a_program", "two_kernels_a_runtime_and_an_adopted_namespace"];
    at("OneNamespace", "ip link set lo up; exec capsh --drop=cap_sys_admin -- -c THIS", &skipped);
}

#[test]
fn all_of_it_at_level_memory() {
    let skipped = [
        "loss_by_a_program",
        "two_kernels_a_runtime_and_an_adopted_namespace",
        "a_kernel_and_an_engine",
        "more_nodes_than_a_level_has_are_refused_by_name",
    ];
    let drop = "exec capsh --drop=cap_sys_admin,cap_net_admin,cap_net_raw -- -c THIS";
    at("Memory", drop, &skipped);
}
