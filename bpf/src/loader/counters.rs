//! Reading `steer_counters`: all verdicts of all CPUs in one system call.

use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use libbpf_rs::MapHandle;
use libbpf_rs::libbpf_sys::bpf_map_lookup_batch;

use crate::error::{SteerError, errno_text};
use crate::verdict::{Counters, VERDICTS};

pub(super) fn read(map: &MapHandle) -> Result<Counters, SteerError> {
    let failed = |why: &str| SteerError::unexpected("read the counters", why);
    let cpus = libbpf_rs::num_possible_cpus().map_err(|error| failed(&error.to_string()))?;
    let mut keys = [0u32; VERDICTS];
    let mut packets = vec![0u64; VERDICTS * cpus];
    let mut count = VERDICTS as u32;
    let mut next = 0u32;
    let fd = map.as_fd().as_raw_fd();
    // SAFETY: `keys` has room for `count` keys of 4 bytes, `packets` for `count` values of 8 bytes for each possible
    // CPU, which is what this map's values are; the call keeps no pointer.
    let status = unsafe {
        bpf_map_lookup_batch(
            fd,
            ptr::null_mut(),
            (&raw mut next).cast(),
            keys.as_mut_ptr().cast(),
            packets.as_mut_ptr().cast(),
            &raw mut count,
            ptr::null(),
        )
    };
    // ENOENT says that this was the whole map.
    if status < 0 && status != -libc::ENOENT {
        return Err(failed(&errno_text(-status)));
    }
    let mut counters = Counters::default();
    for (verdict, by_cpu) in keys.into_iter().zip(packets.chunks(cpus)).take(count as usize) {
        counters.set(verdict, by_cpu.iter().sum());
    }
    Ok(counters)
}
