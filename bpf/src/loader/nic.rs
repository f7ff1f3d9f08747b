//! What error messages say about an interface: its driver and its MTU. Off the normal path.

use std::ffi::{CStr, c_char};
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd};

use rustix::net::{AddressFamily, SocketType, netdevice, socket};

/// The largest MTU each driver takes with XDP and packets of one buffer (ebpf-docs, kernel 6.19, 4 KiB pages; veth
/// measured on 6.18).
const LARGEST_MTU: [(&str, u32); 10] = [
    ("bnxt_en", 3502),
    ("ena", 3498),
    ("gve", 2032),
    ("i40e", 3046),
    ("ice", 3046),
    ("igc", 1500),
    ("ixgbe", 3050),
    ("mlx5_core", 3498),
    ("veth", 3506),
    ("virtio_net", 3506),
];

pub(super) fn largest_mtu(driver: &str) -> Option<u32> {
    LARGEST_MTU.iter().find(|(name, _)| *name == driver).map(|(_, mtu)| *mtu)
}

/// `struct ethtool_drvinfo` (linux/ethtool.h), which libc lacks.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

const ETHTOOL_GDRVINFO: u32 = 3;

/// The driver's name, or "its driver" when the kernel does not tell.
pub(super) fn driver(ifname: &str) -> String {
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    let mut request = request(ifname);
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    let told = ioctl(libc::SIOCETHTOOL, &mut request);
    let name = CStr::from_bytes_until_nul(&info.driver).ok().and_then(|name| name.to_str().ok());
    match name {
        Some(name) if told.is_some() && !name.is_empty() => name.to_owned(),
        _ => "its driver".into(),
    }
}

/// Whether this thread's network namespace has such an interface.
pub(super) fn exists(ifindex: u32) -> bool {
    socket(AddressFamily::INET, SocketType::DGRAM, None)
        .is_ok_and(|socket| netdevice::index_to_name(socket, ifindex).is_ok())
}

pub(super) fn mtu(ifname: &str) -> Option<u32> {
    let mut request = request(ifname);
    ioctl(libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU has succeeded, and it fills in this member.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).ok()
}

fn request(ifname: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid value of this plain C struct.
    let mut request: libc::ifreq = unsafe { zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(ifname.bytes()) {
        *to = from as c_char;
    }
    request
}

fn ioctl(number: libc::Ioctl, request: &mut libc::ifreq) -> Option<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    // SAFETY: both requests read and write `ifreq`, and SIOCETHTOOL the struct it points to, which outlives the call.
    let status = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), number, request) };
    (status == 0).then_some(())
}
