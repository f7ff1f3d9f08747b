//! Routers, several links per node, IPv6, addresses by hand.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ringwire_lab::{Impairment, Lab, Node};

/// A byte from `from` to a listener at `to` on `node`.
fn reaches(from: &Node, node: &Node, to: IpAddr) {
    let listener = node.run(|| TcpListener::bind((to, 0))).unwrap();
    let to = SocketAddr::new(to, listener.local_addr().unwrap().port());
    let mut stream = from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(10))).unwrap();
    stream.write_all(b"x").unwrap();
    listener.accept().unwrap().0.read_exact(&mut [0; 1]).unwrap();
}

#[test]
fn a_chain_of_routers_carries_both_versions() {
    let lab = Lab::new().unwrap();
    let nodes: Vec<Node> = (0..5).map(|number| lab.node(&format!("n{number}")).unwrap()).collect();
    let links: Vec<_> =
        nodes.windows(2).map(|pair| lab.link(&pair[0], &pair[1]).ipv6().up().unwrap()).collect();
    let everything: [(IpAddr, u8); 2] = [([0; 4].into(), 0), ([0_u16; 8].into(), 0)];
    for (at, node) in nodes.iter().enumerate() {
        if (1..4).contains(&at) {
            node.forward().unwrap();
        }
        // Everything beyond the neighbours: to the right by default, and to the left network by network.
        if let (Some(link), Some(next)) = (links.get(at), nodes.get(at + 1)) {
            node.add_route(everything[0], link.addr(next)).unwrap();
            node.add_route(everything[1], link.addr6(next).unwrap().into()).unwrap();
        }
        for (far, link) in links.iter().enumerate().take(at.saturating_sub(1)) {
            let (near, previous) = (&links[at - 1], &nodes[at - 1]);
            node.add_route((link.addr(&nodes[far]), 32), near.addr(previous)).unwrap();
            let far = link.addr6(&nodes[far]).unwrap();
            node.add_route((far.into(), 128), near.addr6(previous).unwrap().into()).unwrap();
        }
    }
    // The left end's default is the right neighbour; the right end knows the left end's address.
    links[3]
        .impair(&nodes[4], Impairment::default().delay(Duration::from_millis(20), Duration::ZERO))
        .unwrap();
    let start = Instant::now();
    reaches(&nodes[0], &nodes[4], links[3].addr(&nodes[4]));
    reaches(&nodes[0], &nodes[4], links[3].addr6(&nodes[4]).unwrap().into());
    assert!(start.elapsed() >= Duration::from_millis(40));
}

#[test]
fn several_links_between_the_same_nodes() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
    let links: Vec<_> = (0..3).map(|_| lab.link(&a, &b).up().unwrap()).collect();
    for link in &links {
        reaches(&a, &b, link.addr(&b));
    }
    links[1].partition().unwrap();
    let to = SocketAddr::new(links[1].addr(&b), 80);
    assert!(a.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(200))).is_err());
    reaches(&a, &b, links[2].addr(&b));
}

#[test]
fn addresses_by_hand() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
    let (first, second) = (Ipv4Addr::new(192, 168, 7, 9), Ipv4Addr::new(192, 168, 7, 10));
    let link = lab.link(&a, &b).addrs(first, second, 30).up().unwrap();
    assert_eq!((link.addr(&a), link.addr(&b), link.prefix_len()), (first.into(), second.into(), 30));
    reaches(&a, &b, second.into());
    let bare = lab.link(&a, &b).addrs(Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, 24).up().unwrap();
    let shown = a.command("ip").args(["-o", "addr", "show", "dev", bare.name(&a)]).output().unwrap();
    assert!(!String::from_utf8_lossy(&shown.stdout).contains("inet"));
}

#[test]
fn ipv6_addresses_by_hand() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
    // The same last number, so that nothing else may be made of it.
    let [ip_a, ip_b] = ["2001:db8:7:a::1", "2001:db8:7:b::1"].map(|ip| ip.parse().unwrap());
    let link = lab.link(&a, &b).addrs6(ip_a, ip_b, 48).up().unwrap();
    assert_eq!((link.addr6(&a), link.addr6(&b)), (Some(ip_a), Some(ip_b)));
    reaches(&a, &b, ip_b.into());
    reaches(&b, &a, ip_a.into());
    let half = lab.link(&a, &b).addrs6(std::net::Ipv6Addr::UNSPECIFIED, "2001:db8:8::1".parse().unwrap(), 64);
    let half = half.up().unwrap();
    assert!(half.addr6(&a).is_none() && half.addr6(&b).is_some());
}
