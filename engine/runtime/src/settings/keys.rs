//! The keys and their words.

use std::time::Duration;

use toml::de::DeValue;

use super::entry::{Choice, Entry};
use crate::config::{
    AttachMode, BindMode, BusyPoll, Cidr, KeepAlive, NeedWakeup, PollMode, TcpOptions, VerifyChecksum,
};
use crate::error::SetupError;
use crate::{CongestionControl, Ecn, Pacing};
use Choice::{Absent, Is};

/// The keys of a table.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) present: &'static [&'static str],
    /// What people may expect, and why it is not there.
    pub(super) absent: &'static [(&'static str, &'static str)],
}

pub(super) const TOP: Known = Known {
    present: &[
        "backend",
        "workers",
        "cpus",
        "poll_mode",
        "max_connections",
        "max_orphans",
        "max_time_waits",
        "shared_ports",
        "interface",
        "memory",
        "tcp",
    ],
    absent: &[],
};
pub(super) const INTERFACE: Known = Known {
    present: &[
        "name",
        "queues",
        "carve",
        "attach_mode",
        "bind_mode",
        "need_wakeup",
        "busy_poll",
        "address",
        "gateway",
        "verify_checksum",
    ],
    absent: &[
        ("vlan", "tagged packets stay with the kernel so far"),
        ("allow", "the engine does not choose among peers so far"),
    ],
};
pub(super) const MEMORY: Known = Known {
    present: &["frames_per_worker", "ceiling"],
    absent: &[
        ("frames_per_queue", "memory is counted by worker: frames_per_worker"),
        ("hugepages", "packet memory is in ordinary pages so far"),
    ],
};
pub(super) const TCP: Known = Known {
    present: &[
        "nodelay",
        "recv_buffer",
        "recv_buffer_max",
        "send_buffer",
        "send_buffer_max",
        "unsent_low_water",
        "max_segment",
        "keepalive",
        "user_timeout",
        "linger",
        "time_wait",
        "congestion_control",
        "pacing",
        "ecn",
        "timestamps",
        "sack",
        "window_scaling",
        "quick_acks",
        "mtu_probing",
        "fast_open",
        "fast_open_backlog",
        "fast_open_key",
        "fast_open_no_cookie",
        "syn_retries",
        "fin_wait2",
        "tos",
        "ttl",
        "backlog",
    ],
    absent: &[],
};
const KEEPALIVE: Known = Known { present: &["time", "interval", "retries"], absent: &[] };

#[cfg(any(feature = "xdp", feature = "packet"))]
pub(super) const BACKENDS: &[(&str, Choice<crate::Backend>)] = &[
    ("xdp", Is(crate::Backend::Xdp)),
    ("packet", Is(crate::Backend::Packet)),
    ("kernel", Absent("there is no engine over kernel sockets so far")),
];
pub(super) const POLL_MODES: &[(&str, Choice<PollMode>)] = &[
    ("adaptive", Is(PollMode::Adaptive)),
    ("busy", Is(PollMode::Busy)),
    (
        "interrupt",
        Absent("workers cannot wait for interrupts only so far: \"adaptive\" sleeps after a short time"),
    ),
];
pub(super) const CARVES: &[(&str, Choice<()>)] = &[
    ("refuse", Is(())),
    ("rss", Absent("queues cannot be taken out of RSS so far")),
    ("ntuple", Absent("flows cannot be steered to queues by the NIC so far")),
];
pub(super) const ATTACH_MODES: &[(&str, Choice<AttachMode>)] = &[
    ("auto", Is(AttachMode::Auto)),
    ("native", Is(AttachMode::Native)),
    ("generic", Is(AttachMode::Generic)),
];
pub(super) const BIND_MODES: &[(&str, Choice<BindMode>)] =
    &[("auto", Is(BindMode::Auto)), ("zero-copy", Is(BindMode::ZeroCopy)), ("copy", Is(BindMode::Copy))];
pub(super) const NEED_WAKEUPS: &[(&str, Choice<NeedWakeup>)] =
    &[("on", Is(NeedWakeup::On)), ("off", Is(NeedWakeup::Off))];
pub(super) const BUSY_POLLS: &[(&str, Choice<BusyPoll>)] =
    &[("off", Is(BusyPoll::Off)), ("preferred", Is(BusyPoll::Preferred))];
pub(super) const VERIFY_CHECKSUMS: &[(&str, Choice<VerifyChecksum>)] =
    &[("always", Is(VerifyChecksum::Always)), ("partial-ok", Is(VerifyChecksum::PartialOk))];
const ECNS: &[(&str, Choice<Ecn>)] =
    &[("off", Is(Ecn::Off)), ("answer", Is(Ecn::Answer)), ("ask", Is(Ecn::Ask))];

/// One address, or a list of them.
pub(super) fn addresses(entry: &Entry<'_>) -> Result<Vec<Cidr>, SetupError> {
    match entry.value {
        DeValue::Array(items) => items.iter().map(|item| address(&entry.item(item))).collect(),
        _ => address(entry).map(|address| vec![address]),
    }
}

fn address(entry: &Entry<'_>) -> Result<Cidr, SetupError> {
    let text = entry.text()?;
    if text.contains(':') {
        return Err(entry.absent("an engine has IPv4 addresses only so far"));
    }
    text.parse().map_err(|_| entry.wrong("be an address with a prefix length, such as \"10.0.0.2/24\""))
}

/// One key of `[tcp]`.
pub(super) fn take_tcp(options: &mut TcpOptions, entry: &Entry<'_>) -> Result<(), SetupError> {
    if entry.key.starts_with("fast_open") {
        return take_fast_open(options, entry);
    }
    match entry.key {
        "nodelay" => options.nodelay = entry.flag()?,
        "recv_buffer" => options.recv_buffer_bytes = entry.bytes()?,
        "recv_buffer_max" => options.recv_buffer_max_bytes = entry.bytes()?,
        "send_buffer" => options.send_buffer_bytes = entry.bytes()?,
        "send_buffer_max" => options.send_buffer_max_bytes = entry.bytes()?,
        "unsent_low_water" => options.unsent_low_water_bytes = Some(mark(entry)?),
        "max_segment" => options.max_segment_bytes = Some(entry.count()?),
        "keepalive" => options.keepalive = Some(take_keepalive(entry)?),
        "user_timeout" => options.user_timeout = Some(entry.duration()?),
        "linger" => options.linger = Some(no_time(entry)?),
        "time_wait" => options.time_wait = entry.duration()?,
        "congestion_control" => options.congestion_control = algorithm(entry)?,
        "pacing" => options.pacing = entry.choice(&Pacing::ALL.map(|pacing| (pacing.name(), Is(pacing))))?,
        "ecn" => options.ecn = entry.choice(ECNS)?,
        "timestamps" => options.timestamps = entry.flag()?,
        "sack" => options.sack = entry.flag()?,
        "window_scaling" => options.window_scaling = entry.flag()?,
        "quick_acks" => options.quick_acks = entry.count()?,
        "mtu_probing" => options.mtu_probing = entry.flag()?,
        "syn_retries" => options.syn_retries = entry.count()?,
        "fin_wait2" => options.fin_wait2 = entry.duration()?,
        "tos" => options.tos = entry.count()?,
        "ttl" => options.ttl = entry.count()?,
        "backlog" => options.backlog = entry.count()?,
        _ => return Err(entry.unknown(TCP)),
    }
    Ok(())
}

/// Below none nothing could ever be written.
fn mark(entry: &Entry<'_>) -> Result<u32, SetupError> {
    match entry.bytes()? {
        0 => Err(entry.wrong("be at least 1; without it there is no mark")),
        bytes => Ok(bytes),
    }
}

/// The one time of `linger` that does something.
fn no_time(entry: &Entry<'_>) -> Result<Duration, SetupError> {
    match entry.duration()? {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => Err(entry.absent("close never waits, so that only \"0s\", a reset, changes anything")),
    }
}

fn algorithm(entry: &Entry<'_>) -> Result<CongestionControl, SetupError> {
    let words = CongestionControl::ALL.map(|algorithm| (algorithm.name(), Is(algorithm)));
    entry.choice(&words)
}

fn take_fast_open(options: &mut TcpOptions, entry: &Entry<'_>) -> Result<(), SetupError> {
    match entry.key {
        "fast_open" => options.fast_open = entry.flag()?,
        "fast_open_backlog" => options.fast_open_backlog = entry.count()?,
        "fast_open_key" => {
            let example =
                "a key such as \"a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4\", or two with a comma between";
            let keys = entry.text()?.parse().map_err(|_| entry.wrong(&format!("be {example}")))?;
            options.fast_open_keys = Some(keys);
        }
        "fast_open_no_cookie" => options.fast_open_no_cookie = entry.flag()?,
        _ => return Err(entry.unknown(TCP)),
    }
    Ok(())
}

/// All three, as the setter takes them.
fn take_keepalive(entry: &Entry<'_>) -> Result<KeepAlive, SetupError> {
    let (mut time, mut interval, mut retries) = (None, None, None);
    for entry in entry.table("keepalive")? {
        match entry.key {
            "time" => time = Some(entry.duration()?),
            "interval" => interval = Some(entry.duration()?),
            "retries" => retries = Some(entry.count()?),
            _ => return Err(entry.unknown(KEEPALIVE)),
        }
    }
    match (time, interval, retries) {
        (Some(time), Some(interval), Some(retries)) => Ok(KeepAlive { time, interval, retries }),
        _ => Err(entry.wrong("have time, interval and retries")),
    }
}
