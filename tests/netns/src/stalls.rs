//! When something that could have run was not let run: the only excuse for a packet that is repeated on a loss-free link.
//!
//! A retransmission timer waits for milliseconds, and a core that others want may be away for longer. The kernel's own account of that
//! (`schedstat`: time spent waiting on a run queue) is read of every thread of this process and of those that carry packets; and this
//! watcher wakes late itself when the whole machine stands still.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the accounts are read; each reading is a few dozen files of `/proc`.
const READ_EVERY: Duration = Duration::from_millis(20);
/// Shorter than the tail probe of either end waits on a link without delay.
const WORTH: Duration = Duration::from_millis(4);
/// A stall shows in what is repeated up to this much later: a timer of 200 ms, its doubles, and what answers those.
const ECHO: Duration = Duration::from_secs(1);

/// A time in which something waited for a core, since 1970.
#[derive(Debug, Clone, Copy)]
struct Stall {
    from: Duration,
    to: Duration,
}

static STALLS: Mutex<Vec<Stall>> = Mutex::new(Vec::new());

/// Begins to watch, once in a process.
pub(crate) fn watch() {
    static WATCHER: OnceLock<()> = OnceLock::new();
    WATCHER.get_or_init(|| {
        let watcher = std::thread::Builder::new().name("stalls".to_owned());
        watcher.spawn(read_on).expect("a thread can be had");
    });
}

/// Whether a stall explains what happened at this time since 1970.
pub(crate) fn explain(at: Duration) -> bool {
    let stalls = STALLS.lock().unwrap_or_else(PoisonError::into_inner);
    stalls.iter().any(|stall| stall.from <= at && at <= stall.to + ECHO)
}

fn read_on() {
    let carriers = carriers();
    let mut waited: HashMap<PathBuf, Duration> = HashMap::new();
    let mut before = Instant::now();
    // What was waited before is not known to be recent.
    for task in threads().chain(carriers.iter().cloned()) {
        waited.extend(wait_of(&task).map(|now| (task, now)));
    }
    loop {
        std::thread::sleep(READ_EVERY);
        let late = before.elapsed().saturating_sub(READ_EVERY);
        let mut longest = late;
        for task in threads().chain(carriers.iter().cloned()) {
            let Some(now) = wait_of(&task) else { continue };
            let known = waited.insert(task, now).unwrap_or_default();
            longest = longest.max(now.saturating_sub(known));
        }
        if longest >= WORTH {
            let to = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let from = to.saturating_sub(longest + late + READ_EVERY);
            STALLS.lock().unwrap_or_else(PoisonError::into_inner).push(Stall { from, to });
        }
        before = Instant::now();
    }
}

fn threads() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The kernel's threads that carry packets when interrupts have no time for it.
fn carriers() -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_carrier = |process: &PathBuf| {
        fs::read_to_string(process.join("comm")).is_ok_and(|name| name.starts_with("ksoftirqd"))
    };
    processes.filter(is_carrier).collect()
}

/// How long a thread has waited for a core in its life.
fn wait_of(task: &Path) -> Option<Duration> {
    let account = fs::read_to_string(task.join("schedstat")).ok()?;
    account.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}
