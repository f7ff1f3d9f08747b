//! The two network cards of the guest, and who has which.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::{self, Command};
use std::time::Duration;

use ringwire::{BindMode, Engine, EngineBuilder, Interface};
use ringwire_lab::{Lab, Node};
use ringwire_netns::eventually;

/// The engine's card, in the guest's own namespace.
pub(crate) const OURS: &str = "eth0";
/// The other end of its cable.
pub(crate) const PEERS: &str = "eth1";

const OUR_IP: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const PEER_IP: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);

/// A cable with the engine at one end and the kernel, or another engine, at the other.
pub(crate) struct Scene {
    /// Where the other card is.
    pub(crate) peer: Node,
    peers_device: String,
    _lab: Lab,
}

impl Scene {
    /// Both cards up, with addresses; checksums are computed and segments cut, as a wire wants them.
    pub(crate) fn new() -> Scene {
        let lab = Lab::new().expect("a lab");
        let peer = lab.node("peer").expect("a node");
        // It comes back here some time after the last test's namespace has gone.
        let are_here = eventually(Duration::from_secs(10), || has_card(OURS) && has_card(PEERS));
        assert!(are_here, "no two cards: {}", run(&["ip", "link"]));
        let scene = Scene { peer, peers_device: device_of(PEERS), _lab: lab };
        scene.move_peers_card();
        scene.set_up_our_card();
        scene
    }

    /// Gives the engine's card its address, as it is after a start of its driver.
    pub(crate) fn set_up_our_card(&self) {
        assert!(eventually(Duration::from_secs(5), || has_card(OURS)), "no card");
        run(&["ip", "address", "flush", "dev", OURS]);
        run(&["ip", "address", "add", &format!("{OUR_IP}/24"), "dev", OURS]);
        run(&["ip", "link", "set", OURS, "up"]);
    }

    /// Gives the peer its card, as it is after a start of its driver.
    pub(crate) fn move_peers_card(&self) {
        assert!(eventually(Duration::from_secs(5), || has_card(PEERS)), "no card");
        let namespace = format!("/proc/{}/fd/{}", process::id(), self.peer.netns().as_raw_fd());
        run(&["ip", "link", "set", PEERS, "netns", &namespace]);
        self.at_peer(&["ip", "address", "add", &format!("{PEER_IP}/24"), "dev", PEERS]);
        self.at_peer(&["ethtool", "-K", PEERS, "gro", "off"]);
        self.at_peer(&["ip", "link", "set", PEERS, "up"]);
    }

    /// The virtio device under the peer's card.
    pub(crate) fn peers_device(&self) -> &str {
        &self.peers_device
    }

    /// Runs a program at the peer; what it said.
    pub(crate) fn at_peer(&self, words: &[&str]) -> String {
        let output = self.peer.command(words[0]).args(&words[1..]).output().expect("the program is here");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The engine's card, zero-copy or not at all.
    pub(crate) fn interface(&self) -> Interface {
        Interface::new(OURS).bind_mode(BindMode::ZeroCopy)
    }

    /// An engine on the engine's card, to be refined.
    pub(crate) fn builder(&self) -> EngineBuilder {
        Engine::builder().interface(self.interface())
    }

    /// An engine on the peer's card, to be refined.
    pub(crate) fn peers_builder(&self) -> EngineBuilder {
        let netns = self.peer.netns().try_clone_to_owned().expect("a descriptor");
        Engine::builder().netns(netns).interface(Interface::new(PEERS).bind_mode(BindMode::ZeroCopy))
    }

    /// A port of the engine's address.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        (OUR_IP, port).into()
    }

    /// The peer's address.
    pub(crate) fn peer_ip(&self) -> IpAddr {
        PEER_IP.into()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // The namespace lives on as long as some connection in it tries to end, and the card with it. It may be gone already.
        let _ = self.peer.command("ip").args(["link", "set", PEERS, "netns", "1"]).status();
    }
}

/// Runs a program in the guest's own namespace; what it said.
pub(crate) fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().expect("the program is here");
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn has_card(name: &str) -> bool {
    std::fs::exists(format!("/sys/class/net/{name}")).expect("sysfs is mounted")
}

/// The virtio device under a card in the guest's own namespace.
pub(crate) fn device_of(card: &str) -> String {
    let device = std::fs::read_link(format!("/sys/class/net/{card}/device")).expect("a device");
    device.file_name().and_then(|name| name.to_str()).expect("a name").to_owned()
}

/// A device without its driver; dropping it brings the driver back, which makes the card anew.
pub(crate) struct Unbound {
    device: String,
}

impl Unbound {
    pub(crate) fn new(device: &str) -> Unbound {
        std::fs::write("/sys/bus/virtio/drivers/virtio_net/unbind", device).expect("it unbinds");
        Unbound { device: device.to_owned() }
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        std::fs::write("/sys/bus/virtio/drivers/virtio_net/bind", &self.device).expect("it binds");
    }
}

/// Processor time that a process has used so far (proc_pid_stat(5), fields 14 and 15).
pub(crate) fn cpu_time(pid: u32) -> Duration {
    const TICKS_PER_S: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after_name = stat.rsplit(')').next().expect("a name");
    let times = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_S)
}
