//! Which XDP program an interface runs, and who holds it.

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::Program;
use libbpf_rs::libbpf_sys::{bpf_prog_get_info_by_fd, bpf_prog_info, bpf_xdp_query, bpf_xdp_query_opts};

use super::{Mode, nic};
use crate::error::{SteerError, errno_text};

/// An XDP program that an interface runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incumbent {
    /// The kernel's id of it, as `bpftool prog` shows it.
    pub id: u32,
    /// Its name, at most 15 characters; None without the right to look (CAP_SYS_ADMIN).
    pub name: Option<String>,
    /// The process that holds it; None when none does, or it cannot be seen.
    pub holder: Option<String>,
}

impl fmt::Display for Incumbent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "'{name}' ")?;
        }
        write!(f, "(id {}", self.id)?;
        if let Some(holder) = &self.holder {
            write!(f, ", {holder}")?;
        }
        f.write_str(")")
    }
}

/// What runs on an interface, by netlink.
pub(super) struct Attached {
    pub(super) id: u32,
    pub(super) mode: Mode,
}

/// The XDP program on an interface of this thread's network namespace, ours included.
///
/// # Errors
/// No interface has this index.
pub fn incumbent(ifindex: u32) -> Result<Option<Incumbent>, SteerError> {
    let attached = attached(ifindex)?;
    Ok(attached.map(|Attached { id, .. }| Incumbent { id, name: program_name(id), holder: holder(id) }))
}

pub(super) fn attached(ifindex: u32) -> Result<Option<Attached>, SteerError> {
    let mut opts = bpf_xdp_query_opts { sz: size_of::<bpf_xdp_query_opts>() as _, ..Default::default() };
    // An index beyond i32 names no interface.
    let target = i32::try_from(ifindex).unwrap_or(i32::MAX);
    // SAFETY: `opts` is valid for the call, which writes within `sz` bytes and keeps no pointer.
    let mut status = unsafe { bpf_xdp_query(target, 0, &raw mut opts) };
    // Before Linux 6.3 the answer for no interface is no program.
    if status == 0 && !nic::exists(ifindex) {
        status = -libc::ENODEV;
    }
    if status < 0 {
        let what =
            format!("cannot ask which XDP program runs on interface {ifindex}: {}", errno_text(-status));
        return Err(SteerError::kernel(what, -status, "is it in this network namespace? see: ip link"));
    }
    Ok(match (opts.drv_prog_id, opts.hw_prog_id, opts.skb_prog_id) {
        (0, 0, 0) => None,
        (0, 0, id) => Some(Attached { id, mode: Mode::Generic }),
        (0, id, _) | (id, _, _) => Some(Attached { id, mode: Mode::Native }),
    })
}

fn program_name(id: u32) -> Option<String> {
    let fd = Program::fd_from_id(id).ok()?;
    let mut info = bpf_prog_info::default();
    let mut len = size_of::<bpf_prog_info>() as u32;
    // SAFETY: `info` and `len` are valid for the call, which writes at most `len` bytes and keeps no pointer; the
    // zeroed info asks for no arrays.
    let status = unsafe { bpf_prog_get_info_by_fd(fd.as_fd().as_raw_fd(), &raw mut info, &raw mut len) };
    let name: Vec<u8> = info.name.iter().map(|&c| c as u8).collect();
    (status == 0).then(|| CStr::from_bytes_until_nul(&name).ok()?.to_str().ok().map(str::to_owned))?
}

/// The first process with a descriptor of the program or of a link to it, as "name, pid N" would find it in `ps`.
fn holder(id: u32) -> Option<String> {
    let wanted = format!("prog_id:\t{id}");
    let processes = fs::read_dir("/proc").ok()?;
    processes.filter_map(Result::ok).find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(process.path().join("fdinfo")).ok()?.filter_map(Result::ok).any(|fd| {
            fs::read_to_string(fd.path()).is_ok_and(|info| info.lines().any(|line| line == wanted))
        });
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        holds.then(|| format!("{} pid {pid}", name.trim_end()))
    })
}
