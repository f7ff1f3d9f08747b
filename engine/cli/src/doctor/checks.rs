//! The single checks.

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::route::{self, FAR_AWAY, Interface};

use super::Check;

/// `bpf_link_create(BPF_XDP)` came with 5.9; chains of frames to AF_XDP with 6.6.
const OLDEST_KERNEL: (u32, u32) = (5, 9);
const MULTI_BUFFER_KERNEL: (u32, u32) = (6, 6);
/// What an engine takes for each queue unless told otherwise.
const FRAMES_PER_QUEUE: u64 = 4096;
const SMALL_FRAME_BYTES: u64 = 2048;
const LARGE_FRAME_BYTES: u64 = 4096;
/// Frames that still make an engine.
const FEWEST_FRAMES: u64 = 64;
/// Around a packet of MTU length: link header with two tags, and what XDP keeps free.
const AROUND_MTU_BYTES: u64 = 22 + 256;

/// Of the kernel that runs.
pub(super) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The first two numbers of a release.
pub(super) fn version_of(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

pub(super) fn kernel_of(release: &str) -> Check {
    let version = version_of(release);
    if version < OLDEST_KERNEL {
        Check::fail("kernel", format!("{release}: XDP links need 5.9"), "boot a newer kernel")
    } else if version < MULTI_BUFFER_KERNEL {
        Check::warn(
            "kernel",
            format!("{release}: no packets beyond one frame before 6.6"),
            "keep the MTU at 1500",
        )
    } else {
        Check::ok("kernel", release)
    }
}

pub(super) fn capabilities_of(effective: CapabilitySet) -> Check {
    let needed = [
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
        (CapabilitySet::BPF, "CAP_BPF"),
    ];
    // CAP_SYS_ADMIN implies CAP_BPF (capabilities(7)).
    let has = |capability: CapabilitySet| {
        effective.contains(capability)
            || (capability == CapabilitySet::BPF && effective.contains(CapabilitySet::SYS_ADMIN))
    };
    let missing: Vec<&str> =
        needed.into_iter().filter(|(capability, _)| !has(*capability)).map(|(_, name)| name).collect();
    if missing.is_empty() {
        return Check::ok("capabilities", "all that are needed");
    }
    let verb = if missing.len() == 1 { "is" } else { "are" };
    let program = std::env::current_exe().map_or("ringwire".to_owned(), |path| path.display().to_string());
    let remedy = format!("sudo, or: sudo setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep {program}");
    Check::fail("capabilities", format!("{} {verb} missing", missing.join(", ")), remedy)
}

fn effective() -> CapabilitySet {
    // Refused nowhere; without an answer nothing is taken for granted.
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

pub(super) fn capabilities_now() -> Check {
    capabilities_of(effective())
}

/// Packet memory counts against RLIMIT_MEMLOCK unless CAP_IPC_LOCK is held (design 9.8).
pub(super) fn memory(interface: &Interface) -> Check {
    if effective().contains(CapabilitySet::IPC_LOCK) {
        return Check::ok("memlock", "CAP_IPC_LOCK: packet memory does not count");
    }
    memory_of(getrlimit(Resource::Memlock).current, interface)
}

pub(super) fn memory_of(limit_bytes: Option<u64>, interface: &Interface) -> Check {
    const MIB: u64 = 1 << 20;
    let Some(limit_bytes) = limit_bytes else { return Check::ok("memlock", "unlimited") };
    let frame_bytes = frame_bytes(interface.mtu);
    let wanted_bytes = FRAMES_PER_QUEUE * frame_bytes * u64::from(interface.rx_queues.max(1));
    let limit = format!("RLIMIT_MEMLOCK is {} MiB", limit_bytes / MIB);
    if limit_bytes >= wanted_bytes {
        Check::ok("memlock", limit)
    } else if limit_bytes >= FEWEST_FRAMES * frame_bytes {
        let fact =
            format!("{limit}, packet memory would be {} MiB: fewer frames are used", wanted_bytes / MIB);
        Check::warn("memlock", fact, "grant CAP_IPC_LOCK, or raise memlock")
    } else {
        Check::fail(
            "memlock",
            format!("{limit}: too little for any packet memory"),
            "grant CAP_IPC_LOCK, or raise memlock",
        )
    }
}

fn frame_bytes(mtu: u32) -> u64 {
    if u64::from(mtu) + AROUND_MTU_BYTES <= SMALL_FRAME_BYTES { SMALL_FRAME_BYTES } else { LARGE_FRAME_BYTES }
}

/// The interface that was named, or the one of the default route.
pub(super) fn find<'i>(interfaces: &'i [Interface], name: Option<&str>) -> Result<&'i Interface, Check> {
    let names: Vec<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
    let remedy = format!("-i with one of {}", names.join(", "));
    let Some(name) = name else {
        let default = route::towards(FAR_AWAY).ok().flatten();
        let default =
            default.and_then(|default| interfaces.iter().find(|known| known.index == default.index));
        return default.ok_or_else(|| Check::fail("interface", "no default route to choose one by", remedy));
    };
    let named = interfaces.iter().find(|interface| interface.name == name);
    named.ok_or_else(|| Check::fail("interface", format!("there is no '{name}' here"), remedy))
}

pub(super) fn of_interface(interface: &Interface) -> Vec<Check> {
    let checks = [
        Some(link(interface)),
        Some(address(interface)),
        Some(mtu(interface)),
        Some(program(interface)),
        Some(queues(interface)),
        checksums(interface),
    ];
    checks.into_iter().flatten().collect()
}

fn link(interface: &Interface) -> Check {
    let Interface { name, is_up, has_carrier, is_loopback, kind, .. } = interface;
    let kind = kind.as_deref().unwrap_or("hardware");
    if *is_loopback {
        Check::fail(
            "interface",
            format!("{name} is the loopback: its packets pass no driver"),
            "-i with a real one",
        )
    } else if !is_up {
        Check::fail("interface", format!("{name} is down"), format!("ip link set {name} up"))
    } else if !has_carrier {
        Check::warn(
            "interface",
            format!("{name} ({kind}) is up without a carrier"),
            "the cable, or the far end",
        )
    } else {
        Check::ok("interface", format!("{name} ({kind}) is up"))
    }
}

fn address(interface: &Interface) -> Check {
    let own: Vec<String> =
        interface.addresses.iter().map(|(address, prefix_len)| format!("{address}/{prefix_len}")).collect();
    if own.is_empty() {
        let remedy = format!("ip address add ADDR/LEN dev {}, or -a ADDR/LEN", interface.name);
        return Check::warn("address", "no IPv4 address to share with the kernel", remedy);
    }
    Check::ok("address", format!("{}, to be shared with the kernel", own.join(", ")))
}

fn mtu(interface: &Interface) -> Check {
    let Interface { mtu, name, .. } = interface;
    if u64::from(*mtu) + AROUND_MTU_BYTES > LARGE_FRAME_BYTES {
        let fact =
            format!("{mtu}: packets are longer than a frame, which needs multi-buffer XDP in the driver");
        return Check::warn("mtu", fact, format!("if start-up refuses: ip link set {name} mtu 3498"));
    }
    Check::ok("mtu", mtu.to_string())
}

fn program(interface: &Interface) -> Check {
    let Interface { name, xdp_program, xdp_incumbent, .. } = interface;
    match xdp_program {
        None => Check::ok("xdp", "no other program"),
        Some(id) => Check::fail(
            "xdp",
            match xdp_incumbent {
                Some(incumbent) => format!("{name} already runs XDP program {incumbent}"),
                None => format!("{name} already runs XDP program id {id}"),
            },
            format!("end its owner (bpftool prog show id {id}), or use another interface"),
        ),
    }
}

fn queues(interface: &Interface) -> Check {
    let cores = crate::cpu::allowed().len();
    let queues = interface.rx_queues.max(1) as usize;
    let fact = format!("{queues} receive queue{}, {cores} cores", if queues == 1 { "" } else { "s" });
    if queues > cores && interface.kind.as_deref() != Some("veth") {
        // Each worker then owns several queues, which works and is seldom meant.
        let remedy = format!("ethtool -L {} combined {cores}", interface.name);
        return Check::warn("queues", fact, remedy);
    }
    Check::ok("queues", fact)
}

/// Over veth a kernel leaves checksums to hardware that is not there (design 9.4).
fn checksums(interface: &Interface) -> Option<Check> {
    (interface.kind.as_deref() == Some("veth")).then(|| {
        Check::warn(
            "checksums",
            "a veth peer with offloads on sends unfinished ones, which are dropped",
            "there: ethtool -K PEER tx off tso off gso off gro off; or here: --verify-checksum partial-ok",
        )
    })
}
