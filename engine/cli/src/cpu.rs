//! Which core a thread runs on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::refusal::{Exit, Refusal};

/// Pins the calling thread.
pub(crate) fn pin(cpu: usize) -> Result<(), Refusal> {
    let mut set = CpuSet::new();
    if cpu < CpuSet::MAX_CPU {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).map_err(|error| {
        let ours: Vec<String> = allowed().iter().map(usize::to_string).collect();
        let hint = format!("--cpus with one of {}", ours.join(","));
        Refusal::new(Exit::Refused, format_args!("cannot run on cpu {cpu}: {error}"), hint)
    })
}

/// The cores this process may use.
pub(crate) fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}
