//! Where the cores' time went, from the per-core lines of /proc/stat.
//!
//! A process's own times would leave out softirq work, which is most of what a kernel stack costs and on
//! veth runs on whichever core sent. So whole cores are read, and a comparison owns the cores it uses.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

/// Ticks of one core since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    user: u64,
    system: u64,
    idle: u64,
    irq: u64,
    softirq: u64,
    steal: u64,
}

/// A reading of all cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    cores: Vec<(usize, Ticks)>,
}

/// Shares of one core's time between two readings; they and the idle rest add up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoreUse {
    pub cpu: usize,
    pub user: f64,
    pub system: f64,
    pub softirq: f64,
    pub irq: f64,
    /// Time the hypervisor gave to others.
    pub steal: f64,
    /// Everything but idle.
    pub busy_ratio: f64,
}

impl Snapshot {
    /// Reads /proc/stat, which does not depend on the network namespace.
    pub fn read() -> io::Result<Snapshot> {
        Ok(Snapshot::parse(&fs::read_to_string("/proc/stat")?))
    }

    fn parse(text: &str) -> Snapshot {
        Snapshot { cores: text.lines().filter_map(parse_core).collect() }
    }

    /// How each core spent the time from `self` to `later`.
    pub fn until(&self, later: &Snapshot) -> Vec<CoreUse> {
        let pairs = self.cores.iter().zip(&later.cores).filter(|(from, to)| from.0 == to.0);
        pairs.map(|((cpu, from), (_, to))| CoreUse::between(*cpu, from, to)).collect()
    }
}

impl CoreUse {
    fn between(cpu: usize, from: &Ticks, to: &Ticks) -> CoreUse {
        let spent = |read: fn(&Ticks) -> u64| read(to).saturating_sub(read(from)) as f64;
        let [user, system, idle, irq, softirq, steal] = [
            spent(|ticks| ticks.user),
            spent(|ticks| ticks.system),
            spent(|ticks| ticks.idle),
            spent(|ticks| ticks.irq),
            spent(|ticks| ticks.softirq),
            spent(|ticks| ticks.steal),
        ];
        let busy = user + system + irq + softirq + steal;
        // Shorter than one tick: nothing is known, and 0 of 1 says so.
        let total = (busy + idle).max(1.0);
        CoreUse {
            cpu,
            user: user / total,
            system: system / total,
            softirq: softirq / total,
            irq: irq / total,
            steal: steal / total,
            busy_ratio: busy / total,
        }
    }
}

/// `cpuN user nice system idle iowait irq softirq steal ..` (proc_stat(5)); the sum line `cpu` is skipped.
fn parse_core(line: &str) -> Option<(usize, Ticks)> {
    let mut words = line.split_ascii_whitespace();
    let cpu = words.next()?.strip_prefix("cpu")?.parse().ok()?;
    let mut next = || words.next()?.parse::<u64>().ok();
    let (user, nice, system, idle, iowait) = (next()?, next()?, next()?, next()?, next()?);
    let (irq, softirq) = (next()?, next()?);
    let steal = next().unwrap_or(0);
    Some((cpu, Ticks { user: user + nice, system, idle: idle + iowait, irq, softirq, steal }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str =
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 10 50 800 20 1 9 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\n";
    const AFTER: &str =
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 140 20 70 805 25 1 29 0 0 0\ncpu1 0 0 0 50 0 0 0 50 0 0\nintr 7\n";

    #[test]
    fn shares_add_up_and_softirq_is_kept_apart() {
        let used = Snapshot::parse(BEFORE).until(&Snapshot::parse(AFTER));
        assert_eq!(used.len(), 2);
        assert_eq!((used[0].user, used[0].system, used[0].softirq), (0.5, 0.2, 0.2));
        assert_eq!(used[0].busy_ratio, 0.9);
        assert_eq!((used[1].cpu, used[1].steal, used[1].busy_ratio), (1, 0.5, 0.5));
    }

    #[test]
    fn this_machine_can_be_read() {
        let now = Snapshot::read().unwrap();
        assert!(!now.cores.is_empty());
        assert!(now.until(&now).iter().all(|core| core.busy_ratio == 0.0));
    }
}
