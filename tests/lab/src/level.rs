//! What a process may do, and so what a lab can be.

use std::fmt;
use std::fs;
use std::io::Write;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::LabError;
use crate::sys;

/// What the lab is made of, by what this process may do; the lab takes the best and says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// A network namespace per node; BPF, so AF_XDP too (`CAP_SYS_ADMIN`, `CAP_NET_ADMIN`).
    Namespaces,
    /// A network namespace per node, within a user namespace: no privilege is needed, and no BPF to be had.
    UserNamespace,
    /// Two nodes in the namespace that is there: the first is its kernel, the second an engine or a raw port
    /// (`CAP_NET_ADMIN`, `CAP_NET_RAW`).
    OneNamespace,
    /// No kernel at all: engines and raw ports, joined by memory.
    Memory,
}

impl Level {
    const ALL: [Level; 4] = [Level::Namespaces, Level::UserNamespace, Level::OneNamespace, Level::Memory];

    /// The best that this process may have.
    pub fn best() -> Level {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(probe)
    }

    /// Whether a lab of this level can be used where one of `wanted` is asked for.
    pub fn is_enough_for(self, wanted: Level) -> bool {
        match self {
            Level::Namespaces => true,
            Level::UserNamespace => wanted != Level::Namespaces,
            Level::OneNamespace => matches!(wanted, Level::OneNamespace | Level::Memory),
            Level::Memory => wanted == Level::Memory,
        }
    }

    /// Whether each node is a namespace of its own.
    pub(crate) fn has_namespaces(self) -> bool {
        matches!(self, Level::Namespaces | Level::UserNamespace)
    }

    fn name(self) -> &'static str {
        match self {
            Level::Namespaces => "Namespaces",
            Level::UserNamespace => "UserNamespace",
            Level::OneNamespace => "OneNamespace",
            Level::Memory => "Memory",
        }
    }

    /// What is missing for more.
    fn lack(self) -> &'static str {
        match self {
            Level::Namespaces => "nothing is missing",
            Level::UserNamespace => "in a user namespace no BPF program may be loaded",
            Level::OneNamespace => "no SYS_ADMIN, so no new namespaces",
            Level::Memory => {
                "neither SYS_ADMIN nor NET_ADMIN and NET_RAW, so no namespaces and no interfaces"
            }
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = LabError;

    /// Case and hyphens do not matter.
    fn from_str(text: &str) -> Result<Level, LabError> {
        let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
        Level::ALL.into_iter().find(|level| plain(level.name()) == plain(text)).ok_or_else(|| {
            let hint = "require, skip, namespaces, user-namespace, one-namespace or memory";
            LabError::misuse(format!("RINGWIRE_LAB={text} means nothing"), hint)
        })
    }
}

/// `RINGWIRE_LAB`: what to do with a test that this process is not allowed to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// It fails. The default: a test that silently does not run is worse than none.
    Require,
    /// It is skipped, counted and named.
    Skip,
    /// Every lab has this level; what asks for more is skipped.
    Exactly(Level),
}

impl Policy {
    fn of(setting: Option<&str>) -> Result<Policy, LabError> {
        match setting {
            None | Some("" | "require") => Ok(Policy::Require),
            Some("skip") => Ok(Policy::Skip),
            Some(level) => level.parse().map(Policy::Exactly),
        }
    }

    fn from_env() -> Result<Policy, LabError> {
        let setting = std::env::var("RINGWIRE_LAB").ok();
        Policy::of(setting.as_deref())
    }

    fn choose(self, best: Level, wanted: Level) -> Result<Level, LabError> {
        let level = match self {
            Policy::Exactly(level) if !best.is_enough_for(level) => {
                let what = format!(
                    "RINGWIRE_LAB asks for level {level}, but the best here is {best}: {}",
                    best.lack()
                );
                return Err(LabError::misuse(what, HINT));
            }
            Policy::Exactly(level) => level,
            Policy::Require | Policy::Skip => best,
        };
        if level.is_enough_for(wanted) { Ok(level) } else { Err(too_low(level, &format!("level {wanted}"))) }
    }
}

const HINT: &str = "docker run --cap-add SYS_ADMIN --cap-add NET_ADMIN, or RINGWIRE_LAB=skip";

/// A lab of this level cannot do what the test `asks` for.
pub(crate) fn too_low(level: Level, asks: &str) -> LabError {
    let what = format!("level {level}: {}; this test asks for {asks}", level.lack());
    LabError { lacks_level: true, ..LabError::misuse(what, HINT) }
}

/// The level of a lab for a test that needs `wanted`.
pub(crate) fn choose(wanted: Level) -> Result<Level, LabError> {
    Policy::from_env()?.choose(Level::best(), wanted)
}

/// Whether the test `name`, which failed to get its lab with `error`, is to be skipped; if so, it is counted and named on
/// the standard error output, past the harness's capture. For [`lab!`](crate::lab!).
pub fn skip(name: &str, error: &LabError) -> bool {
    static SKIPPED: AtomicU32 = AtomicU32::new(0);
    let is_skipped = error.lacks_level && !matches!(Policy::from_env(), Ok(Policy::Require) | Err(_));
    if is_skipped {
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        let thread = std::thread::current();
        let test = thread.name().unwrap_or(name);
        let _ = writeln!(std::io::stderr(), "ringwire-lab: skipped ({count}) {test}: {}", error.what);
    }
    is_skipped
}

fn probe() -> Level {
    const NET_ADMIN: u32 = 12;
    const NET_RAW: u32 = 13;
    let may_unshare =
        std::thread::scope(|scope| scope.spawn(|| sys::unshare_network().is_ok()).join().unwrap_or(false));
    match may_unshare {
        true if is_initial_user_namespace() => Level::Namespaces,
        true => Level::UserNamespace,
        false if has_capability(NET_ADMIN) && has_capability(NET_RAW) => Level::OneNamespace,
        false => Level::Memory,
    }
}

/// Whether this process may load BPF programs.
#[cfg(feature = "xdp")]
pub(crate) fn has_bpf() -> bool {
    const SYS_ADMIN: u32 = 21;
    const BPF: u32 = 39;
    is_initial_user_namespace() && (has_capability(BPF) || has_capability(SYS_ADMIN))
}

/// Only there do all ids map to themselves.
fn is_initial_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|capabilities| capabilities >> number & 1 == 1)
}

/// Moves this process into a user and a network namespace of its own, if it has no better; for
/// [`user_namespace!`](crate::user_namespace!), as it must happen while there is one thread.
///
/// Nothing changes where that is forbidden: `Lab::new` names the level that is left.
pub fn enter_user_namespace() {
    const SYS_ADMIN: u32 = 21;
    let wanted = match Policy::from_env() {
        Ok(Policy::Exactly(level)) => level == Level::UserNamespace,
        Ok(Policy::Require | Policy::Skip) => !has_capability(SYS_ADMIN),
        // `Lab::new` says it.
        Err(_) => false,
    };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    if wanted && sys::unshare_user_and_network().is_ok() {
        // Refused only where the kernel knows no better; then the ids stay unmapped, and the level shows.
        let _ = fs::write("/proc/self/setgroups", "deny");
        let _ = fs::write("/proc/self/uid_map", format!("0 {uid} 1"));
        let _ = fs::write("/proc/self/gid_map", format!("0 {gid} 1"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_with_and_without_hyphens() {
        for (text, level) in [
            ("namespaces", Level::Namespaces),
            ("OneNamespace", Level::OneNamespace),
            ("one-namespace", Level::OneNamespace),
            ("user_namespace", Level::UserNamespace),
            ("MEMORY", Level::Memory),
        ] {
            assert_eq!(text.parse::<Level>().unwrap(), level);
        }
        let error = Policy::of(Some("maybe")).unwrap_err();
        assert!(
            error.to_string().starts_with("RINGWIRE_LAB=maybe means nothing\nhint: require, skip"),
            "{error}"
        );
    }

    #[test]
    fn a_level_is_chosen_or_refused_by_name() {
        use Level::{Memory, Namespaces, OneNamespace, UserNamespace};
        assert_eq!(Policy::Require.choose(Namespaces, Memory).unwrap(), Namespaces);
        assert_eq!(Policy::Exactly(Memory).choose(Namespaces, Memory).unwrap(), Memory);
        let error = Policy::Skip.choose(OneNamespace, Namespaces).unwrap_err();
        assert_eq!(
            error.to_string(),
            "level OneNamespace: no SYS_ADMIN, so no new namespaces; this test asks for level Namespaces\n\
             hint: docker run --cap-add SYS_ADMIN --cap-add NET_ADMIN, or RINGWIRE_LAB=skip"
        );
        assert!(error.lacks_level);
        // Asking for what is not allowed is a mistake of the set-up, never a reason to skip.
        assert!(!Policy::Exactly(Namespaces).choose(Memory, Memory).unwrap_err().lacks_level);
        assert!(!UserNamespace.is_enough_for(Namespaces) && UserNamespace.is_enough_for(OneNamespace));
    }
}
