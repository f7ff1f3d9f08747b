use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::super::netns::testbed::{LINK, Testbed, batch, ip, sysctl};
use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A monitor and a request socket of the namespace under test, and the link's index.
fn open(bed: &Testbed) -> (Netlink, Monitor, u32) {
    let (mut netlink, monitor) = bed.here(|| (Netlink::open().unwrap(), Monitor::open().unwrap()));
    let ifindex = netlink.link_by_name(LINK).unwrap().index;
    (netlink, monitor, ifindex)
}

fn peer_mac(bed: &Testbed) -> [u8; 6] {
    bed.peer(Netlink::open).unwrap().link_by_name(LINK).unwrap().mac
}

/// Waits for the change that `wanted` accepts, sleeping in poll(2) as the control thread does.
fn wait_for(monitor: &mut Monitor, wanted: impl Fn(&Change) -> bool) -> Change {
    let deadline = Instant::now() + PATIENCE;
    loop {
        while let Some(change) = monitor.next_change() {
            if wanted(&change) {
                return change;
            }
        }
        let left = deadline.checked_duration_since(Instant::now()).expect("the change never came");
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().max(1).into() };
        let mut fds = [rustix::event::PollFd::new(monitor, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timeout)).unwrap();
    }
}

#[test]
fn a_veth_is_described() {
    let bed = Testbed::new();
    let (mut netlink, _, ifindex) = open(&bed);
    let link = netlink.link_by_name(LINK).unwrap();
    assert_eq!(link, netlink.link_by_index(ifindex).unwrap());
    assert_eq!((link.name.as_str(), link.mtu, link.kind.as_deref()), (LINK, 1500, Some("veth")));
    assert!(link.is_up && link.has_carrier, "{link:?}");
    assert_eq!((link.rx_queues, link.tx_queues), (4, 4));
    assert_eq!((link.xdp, link.master), (None, None));
    assert!(link.mac != [0; 6] && link.mac != peer_mac(&bed));

    let names: Vec<String> = netlink.links().unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(names, ["lo", LINK]);
    let none = netlink.link_by_name("rw1").unwrap_err();
    assert_eq!(none.raw_os_error(), Some(NO_DEVICE));
    assert_eq!(netlink.link_by_index(9999).unwrap_err().raw_os_error(), Some(NO_DEVICE));
}

#[test]
fn queues_are_those_in_use_not_those_made() {
    let bed = Testbed::new();
    let (mut netlink, _, ifindex) = open(&bed);
    let switched = bed.here(|| {
        std::process::Command::new("ethtool").args(["-L", LINK, "rx", "2", "tx", "3"]).status().unwrap()
    });
    assert!(switched.success());
    let link = netlink.link_by_index(ifindex).unwrap();
    assert_eq!((link.rx_queues, link.tx_queues), (2, 3));
}

#[test]
fn a_master_and_a_link_that_is_down_are_seen() {
    let bed = Testbed::new();
    let (mut netlink, mut monitor, ifindex) = open(&bed);
    bed.here(|| {
        ip("link add br0 type bridge");
        ip(&format!("link set {LINK} master br0"));
    });
    let bridge = netlink.link_by_name("br0").unwrap();
    assert_eq!((bridge.kind.as_deref(), bridge.is_up), (Some("bridge"), false));
    assert_eq!(netlink.link_by_index(ifindex).unwrap().master, Some(bridge.index));

    bed.peer(|| ip(&format!("link set {LINK} down")));
    let lost = wait_for(
        &mut monitor,
        |change| matches!(change, Change::Link(link) if link.index == ifindex && !link.has_carrier),
    );
    assert!(matches!(lost, Change::Link(link) if link.is_up));
    bed.here(|| ip(&format!("link del {LINK}")));
    wait_for(
        &mut monitor,
        |change| matches!(change, Change::Link(link) if link.index == ifindex && !link.is_up),
    );
}

#[test]
fn addresses_are_those_of_the_link() {
    let bed = Testbed::new();
    let (mut netlink, mut monitor, ifindex) = open(&bed);
    bed.here(|| ip(&format!("addr add 10.77.9.9 peer 10.77.9.10/31 dev {LINK}")));
    wait_for(&mut monitor, |change| *change == Change::Address);
    let addresses = netlink.addresses(ifindex).unwrap();
    let v4: Vec<_> = addresses.iter().copied().filter(|(ip, _)| ip.is_ipv4()).collect();
    assert_eq!(v4, [(addr(Testbed::HERE), 24), (addr("10.77.9.9"), 31)]);
}

#[test]
fn routes_of_the_link_by_metric_and_lookups_as_the_kernel_does_them() {
    let bed = Testbed::new();
    let (mut netlink, mut monitor, ifindex) = open(&bed);
    bed.here(|| {
        ip(&format!("route add default via {} dev {LINK} metric 200", Testbed::PEER));
        ip(&format!(
            "route add 10.99.0.0/16 via {} dev {LINK} src {} mtu 1400",
            Testbed::PEER,
            Testbed::HERE
        ));
        ip("route add blackhole 10.98.0.0/16");
        ip(&format!("route add 10.97.0.0/16 dev {LINK} table 77"));
        ip("link add other type veth peer name another");
        ip("link set another up");
        ip("link set other up");
        ip("route add 10.96.0.0/16 dev other");
    });
    wait_for(&mut monitor, |change| *change == Change::Route);

    let gateway = Some(addr(Testbed::PEER));
    let far = Route {
        destination: (addr("10.99.0.0"), 16),
        ifindex,
        gateway,
        prefsrc: Some(addr(Testbed::HERE)),
        mtu: Some(1400),
        metric: 0,
    };
    let near = Route { destination: (addr("10.77.1.0"), 24), gateway: None, mtu: None, ..far.clone() };
    let default =
        Route { destination: (addr("0.0.0.0"), 0), gateway, prefsrc: None, mtu: None, metric: 200, ifindex };
    let routes = netlink.routes(ifindex).unwrap();
    assert_eq!(routes.len(), 3, "{routes:?}");
    assert!(routes.contains(&near) && routes.contains(&far), "{routes:?}");
    assert_eq!(routes[2], default);

    let found = netlink.route_to(addr("10.99.3.4"), None).unwrap();
    assert_eq!(found.destination, (addr("10.99.3.4"), 32));
    assert_eq!((found.ifindex, found.gateway, found.prefsrc), (ifindex, gateway, Some(addr(Testbed::HERE))));
    assert_eq!(found.mtu, Some(1400));
    let found = netlink.route_to(addr("192.0.2.1"), Some(ifindex)).unwrap();
    assert_eq!((found.gateway, found.mtu), (gateway, None));
    let found = netlink.route_to(addr(Testbed::PEER), None).unwrap();
    assert_eq!((found.ifindex, found.gateway), (ifindex, None));
    assert!(netlink.route_to(addr("10.98.0.1"), None).is_err(), "blackhole");
    assert_eq!(netlink.route_to(addr("10.77.1.1"), None).unwrap().ifindex, 1, "ours is local");
}

#[test]
fn multipath_routes_give_the_hop_by_this_link() {
    let bed = Testbed::new();
    let (mut netlink, _, ifindex) = open(&bed);
    bed.here(|| {
        ip("link add other type veth peer name another");
        ip("addr add 10.78.0.1/24 dev other");
        ip("link set another up");
        ip("link set other up");
        ip(&format!(
            "route add 10.95.0.0/16 nexthop via 10.78.0.2 dev other nexthop via {} dev {LINK}",
            Testbed::PEER
        ));
    });
    let found = netlink.routes(ifindex).unwrap();
    let hop = found.iter().find(|route| route.destination.1 == 16).expect("one hop is ours");
    assert_eq!((hop.ifindex, hop.gateway), (ifindex, Some(addr(Testbed::PEER))));
}

#[test]
fn ntf_use_resolves_a_neighbour_that_ages_like_any_other() {
    let bed = Testbed::new();
    let (mut netlink, mut monitor, ifindex) = open(&bed);
    assert_eq!(netlink.neighbours(ifindex).unwrap().iter().filter(|entry| entry.ip.is_ipv4()).count(), 0);

    netlink.ask_neighbour(ifindex, addr(Testbed::PEER)).unwrap();
    let change = wait_for(
        &mut monitor,
        |change| matches!(change, Change::Neighbour(entry) if entry.ip == addr(Testbed::PEER) && entry.mac.is_some()),
    );
    let Change::Neighbour(entry) = change else { unreachable!() };
    assert_eq!((entry.ifindex, entry.usable_mac()), (ifindex, Some(peer_mac(&bed))));
    assert_ne!(entry.state, NeighbourState::Permanent);
    let table = netlink.neighbours(ifindex).unwrap();
    let listed = table.iter().find(|entry| entry.ip == addr(Testbed::PEER)).expect("listed");
    assert_eq!(listed.usable_mac(), Some(peer_mac(&bed)));

    bed.here(|| ip(&format!("neigh del {} dev {LINK}", Testbed::PEER)));
    wait_for(
        &mut monitor,
        |change| matches!(change, Change::Neighbour(entry) if entry.ip == addr(Testbed::PEER) && entry.usable_mac().is_none()),
    );
}

#[test]
fn ntf_use_again_confirms_a_stale_neighbour() {
    let bed = Testbed::new();
    let (mut netlink, mut monitor, ifindex) = open(&bed);
    let [a, b, c, d, e, f] = peer_mac(&bed);
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    bed.here(|| {
        sysctl(&format!("net.ipv4.neigh.{LINK}.delay_first_probe_time"), "1");
        ip(&format!("neigh add {} lladdr {mac} nud stale dev {LINK}", Testbed::PEER));
    });
    netlink.ask_neighbour(ifindex, addr(Testbed::PEER)).unwrap();
    let confirmed = wait_for(
        &mut monitor,
        |change| matches!(change, Change::Neighbour(entry) if entry.state == NeighbourState::Reachable),
    );
    assert!(matches!(confirmed, Change::Neighbour(entry) if entry.usable_mac() == Some([a, b, c, d, e, f])));
}

#[test]
fn a_neighbour_nobody_answers_for_is_never_usable() {
    let bed = Testbed::new();
    let (mut netlink, mut monitor, ifindex) = open(&bed);
    bed.here(|| sysctl(&format!("net.ipv4.neigh.{LINK}.retrans_time_ms"), "20"));
    netlink.ask_neighbour(ifindex, addr("10.77.1.99")).unwrap();
    let failed = wait_for(
        &mut monitor,
        |change| matches!(change, Change::Neighbour(entry) if entry.state == NeighbourState::Failed),
    );
    assert!(matches!(failed, Change::Neighbour(entry) if entry.usable_mac().is_none()));
    assert!(netlink.ask_neighbour(9999, addr("10.77.1.99")).is_err(), "no such link");
    // The socket still works after an error.
    assert!(netlink.link_by_index(ifindex).is_ok());
}

#[test]
fn an_overrun_is_told_once_and_the_monitor_goes_on() {
    let bed = Testbed::new();
    let (_, mut monitor, _) = open(&bed);
    monitor.socket.set_rx_buf_sz(1i32).unwrap();
    let many: String = (1..100).map(|host| format!("addr add 10.80.0.{host}/32 dev {LINK}\n")).collect();
    bed.here(|| batch(&many));
    wait_for(&mut monitor, |change| *change == Change::Overrun);
    while monitor.next_change().is_some() {}
    bed.here(|| ip(&format!("addr del 10.80.0.1/32 dev {LINK}")));
    assert_eq!(
        wait_for(&mut monitor, |change| matches!(change, Change::Address | Change::Overrun)),
        Change::Address
    );
}

#[test]
fn a_quiet_monitor_does_not_block() {
    let bed = Testbed::new();
    let (_, mut monitor, _) = open(&bed);
    sleep(Duration::from_millis(50));
    while monitor.next_change().is_some() {}
    assert_eq!(monitor.next_change(), None);
}

#[test]
fn a_fault_in_a_dump_leaves_the_socket_usable() {
    let bed = Testbed::new();
    // More addresses than fit one datagram.
    let add = |host: u32| format!("addr add {}/32 dev {LINK}\n", Ipv4Addr::from_bits(0x0a51_0000 + host));
    bed.here(|| batch(&(0..3000).map(add).collect::<String>()));
    let mut socket = bed.here(|| Socket::open(NETLINK_ROUTE)).unwrap();
    let wanted = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let (kind, body) = (wanted.message_type(), vec![0; wanted.buffer_len()]);
    let fault = |_, _: &[u8]| Err::<Option<()>, _>(invalid("fault"));
    let error = socket.request(kind, Answers::Dump, &body, fault).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let count = socket.request(kind, Answers::Dump, &body, |_, _| Ok(Some(()))).unwrap().len();
    assert!(count > 3000, "{count} addresses");
}

#[test]
fn the_holder_of_a_port_is_this_process() {
    let bed = Testbed::new();
    let held: SocketAddr = (Ipv4Addr::UNSPECIFIED, 7777).into();
    let (holder, other_port, other_protocol) = bed.here(|| {
        let _socket = UdpSocket::bind(held).unwrap();
        let wanted = SocketAddr::new(addr(Testbed::HERE), 7777);
        let other_port = SocketAddr::new(addr(Testbed::HERE), 7778);
        (sock_diag::holder(wanted, 17), sock_diag::holder(other_port, 17), sock_diag::holder(wanted, 6))
    });
    assert_eq!(holder.map(|holder| holder.pid), Some(std::process::id()));
    assert_eq!((other_port, other_protocol), (None, None));
}
