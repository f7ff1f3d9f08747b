//! Getting the program and its maps into the kernel.

use std::cell::RefCell;
use std::sync::Mutex;

use libbpf_rs::libbpf_sys::xdp_md;
use libbpf_rs::{
    ErrorKind, Map, MapCore, MapHandle, Object, ObjectBuilder, OpenObject, PrintLevel, set_print,
};
use rustix::thread::CapabilitySet;

use super::AttachConfig;
use crate::abi::{self, header};
use crate::error::SteerError;

/// 4 GiB of port map at the most, and no index beyond 32 bits.
const MAX_ADDRESSES: u32 = (u32::MAX / abi::PORTS_PER_ADDRESS as u32).saturating_add(1);
/// More than any NIC has; bounds the socket map.
const MAX_QUEUES: u32 = 4096;

/// Descriptors of the maps, under their names in `steer.bpf.c`.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) config: MapHandle,
    pub(super) addresses: MapHandle,
    pub(super) ports: MapHandle,
    pub(super) sockets: MapHandle,
    pub(super) counters: MapHandle,
}

impl Maps {
    pub(super) fn of(object: &Object) -> Result<Maps, SteerError> {
        Ok(Maps {
            config: map(object, "steer_config")?,
            addresses: map(object, "steer_addresses")?,
            ports: map(object, "steer_ports")?,
            sockets: map(object, "steer_sockets")?,
            counters: map(object, "steer_counters")?,
        })
    }
}

fn map(object: &Object, name: &str) -> Result<MapHandle, SteerError> {
    let found: Option<Map<'_>> = object.maps().find(|map| map.name() == name);
    let map = found.ok_or_else(|| SteerError::unexpected("find a map", name))?;
    MapHandle::try_from(&map).map_err(|error| SteerError::unexpected("keep a map", &error))
}

pub(super) fn check_limits(config: &AttachConfig) -> Result<(), SteerError> {
    let limit = |name: &str, value: u32, most: u32| {
        if (1..=most).contains(&value) {
            return Ok(());
        }
        Err(SteerError::refused(format!("{name} is {value}"), format!("give 1 to {most}")))
    };
    limit("max_queues", config.max_queues, MAX_QUEUES)?;
    limit("max_addresses", config.max_addresses, MAX_ADDRESSES)?;
    limit("engine_slot + 1", u32::from(config.engine_slot) + 1, header::STEER_ENGINE_SLOTS)
}

pub(super) fn first_config(config: &AttachConfig) -> abi::Config {
    let frags = if config.frags { header::STEER_FEATURE_FRAGS } else { 0 };
    abi::Config {
        features: header::STEER_FEATURE_IPV4
            | header::STEER_FEATURE_VLAN
            | header::STEER_FEATURE_ICMP_QUOTE
            | frags,
        generation: 0,
        ifindex: config.ifindex,
        max_queues: config.max_queues,
        max_addresses: config.max_addresses,
        mac: config.mac,
    }
}

/// Reads what the kernel received of ours; see `steer.bpf.c`.
pub(super) const KERNEL_FILTER: &str = "steer_kernel";

/// Loads one of the two steering programs and the kernel path's filter, with the maps sized for `config`.
pub(super) fn object(config: &AttachConfig) -> Result<Object, SteerError> {
    let (loaded, log) = with_log(|| {
        let mut open = ObjectBuilder::default().name("ringwire")?.open_memory(abi::OBJECT)?;
        choose_program(&mut open, config);
        size_maps(&mut open, config)?;
        open.load()
    });
    loaded.map_err(|error| load_error(&error, &log))
}

fn choose_program(open: &mut OpenObject, config: &AttachConfig) {
    let wanted = if config.frags { "steer_frags" } else { "steer" };
    for mut program in open.progs_mut() {
        let chosen = program.name() == wanted || program.name() == KERNEL_FILTER;
        program.set_autoload(chosen);
    }
}

fn size_maps(open: &mut OpenObject, config: &AttachConfig) -> libbpf_rs::Result<()> {
    let elements_per_address = (abi::PORTS_PER_ADDRESS / abi::PORTS_PER_ELEMENT) as u32;
    for mut map in open.maps_mut() {
        match map.name().to_str() {
            Some("steer_addresses") => map.set_max_entries(config.max_addresses)?,
            Some("steer_ports") => map.set_max_entries(config.max_addresses * elements_per_address)?,
            Some("steer_sockets") => map.set_max_entries(header::STEER_ENGINE_SLOTS * config.max_queues)?,
            _ => {}
        }
    }
    Ok(())
}

fn load_error(error: &libbpf_rs::Error, log: &str) -> SteerError {
    const WHAT: &str = "cannot load the steering program";
    if log.contains("BEGIN PROG LOAD LOG") {
        return verifier_error(log);
    }
    match error.kind() {
        ErrorKind::PermissionDenied => missing_capability(WHAT, libc::EPERM),
        ErrorKind::OutOfMemory => SteerError::kernel(
            format!("{WHAT}: no memory for its maps"),
            libc::ENOMEM,
            "lower max_addresses: each address takes 128 KiB",
        ),
        ErrorKind::Unsupported => SteerError::kernel(
            format!("{WHAT}: this kernel has no bpf()"),
            libc::ENOSYS,
            "use a kernel with CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS, or allow bpf() in the seccomp profile",
        ),
        _ => SteerError::refused(
            format!("{WHAT}: {error:#}"),
            format!("libbpf says: {}", log.lines().next_back().unwrap_or("nothing")),
        ),
    }
}

/// Keeps the last lines, where the verifier says what it minds.
fn verifier_error(log: &str) -> SteerError {
    let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with("processed")).collect();
    let end = lines.iter().position(|line| line.contains("END PROG LOAD LOG")).unwrap_or(lines.len());
    let reason = end.checked_sub(1).map_or("no reason given", |last| lines[last]);
    SteerError::refused(
        format!("cannot load the steering program: the kernel's verifier refuses it: {reason}"),
        "Linux 6.1 or newer is needed; if it is, please report it with the output of `uname -r`",
    )
}

/// `what` failed with EPERM: says which capability it is that the thread has not.
pub(super) fn missing_capability(what: &str, errno: i32) -> SteerError {
    let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let needed = [("CAP_BPF", CapabilitySet::BPF), ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN)];
    let root = effective.contains(CapabilitySet::SYS_ADMIN);
    match needed.iter().find(|(_, capability)| !root && !effective.contains(*capability)) {
        Some((name, _)) => SteerError::kernel(format!("{what}: {name} is missing"), errno, grant_hint()),
        None => SteerError::kernel(
            format!("{what}: the kernel forbids it although CAP_BPF and CAP_NET_ADMIN are there (EPERM)"),
            errno,
            "capabilities of a user namespace do not count, and a seccomp profile may forbid bpf(): run outside",
        ),
    }
}

fn grant_hint() -> String {
    let program = std::env::current_exe().map_or("./ringwire".into(), |path| path.display().to_string());
    format!("sudo, or: sudo setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep {program}")
}

/// `struct xdp_md` as BPF_PROG_TEST_RUN wants it: offsets for pointers.
pub(super) fn test_context(frame_len: usize, ifindex: u32, rx_queue: u32) -> [u8; size_of::<xdp_md>()] {
    // Longer frames than a page are refused anyway.
    let frame_len = u32::try_from(frame_len).unwrap_or(u32::MAX);
    let mut bytes = [0; size_of::<xdp_md>()];
    let fields = [0, frame_len, 0, ifindex, rx_queue, 0];
    for (to, field) in bytes.chunks_exact_mut(4).zip(fields) {
        to.copy_from_slice(&field.to_ne_bytes());
    }
    bytes
}

thread_local! {
    static LOG: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f` with libbpf's messages of this thread caught instead of printed: the caller makes one message of them.
fn with_log<T>(f: impl FnOnce() -> T) -> (T, String) {
    // libbpf has one print function per process.
    static PRINTING: Mutex<()> = Mutex::new(());
    let _alone = PRINTING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let before = set_print(Some((PrintLevel::Warn, catch)));
    LOG.set(Some(String::new()));
    let result = f();
    set_print(before);
    (result, LOG.take().unwrap_or_default())
}

fn catch(_: PrintLevel, message: String) {
    LOG.with_borrow_mut(|log| match log {
        Some(log) => log.push_str(&message),
        None => eprint!("{message}"),
    });
}
