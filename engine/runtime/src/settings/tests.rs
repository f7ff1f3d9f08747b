//! Every key reaches what it is called after; everything else is refused by line.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::config::{Config, KeepAlive};
use crate::{Backend, CongestionControl, Ecn, FastOpenKeys, Pacing};

fn parse(text: &str) -> Result<Settings, SetupError> {
    Settings::parse(text, "f", TcpOptions::default())
}

/// The builder's own words, as the file has said them.
fn config(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).apply(Engine::builder()).config
}

fn interface(text: &str) -> Interface {
    config(&format!("[[interface]]\nname = \"e\"\n{text}")).interface.unwrap()
}

fn tcp(text: &str) -> TcpOptions {
    config(&format!("[tcp]\n{text}")).tcp
}

#[test]
fn an_empty_file_changes_nothing() {
    let (empty, default) = (config(""), Config::default());
    assert_eq!(format!("{empty:?}"), format!("{default:?}"));
    // What was said before stays where the file is silent.
    let settings = parse("workers = 3").unwrap();
    let config = settings.apply(Engine::builder().workers(1).max_connections(7)).config;
    assert_eq!((config.workers, config.max_connections), (Some(3), Some(7)));
}

#[test]
fn every_key_at_the_top_reaches_its_setter() {
    let text = r#"
        backend = "packet"
        workers = 2
        cpus = "1,4-6"
        poll_mode = "busy"
        max_connections = 10
        max_orphans = 11
        max_time_waits = 12
        shared_ports = 13
        [memory]
        frames_per_worker = 4096
        ceiling = "8GiB"
    "#;
    let all = config(text);
    assert_eq!(all.backend, Backend::Packet);
    assert_eq!((all.workers, all.cpus, all.poll_mode), (Some(2), vec![1, 4, 5, 6], PollMode::Busy));
    let limits = [all.max_connections, all.max_orphans, all.max_time_waits, all.shared_ports];
    assert_eq!(limits, [10, 11, 12, 13].map(Some));
    assert_eq!((all.frames_per_worker, all.memory_ceiling_bytes), (Some(4096), Some(8 << 30)));
    assert_eq!(config("[memory]\nframes_per_worker = \"auto\"").frames_per_worker, None);
    assert_eq!(config("poll_mode = \"adaptive\"").poll_mode, PollMode::Adaptive);
}

#[test]
fn every_key_of_an_interface_reaches_its_setter() {
    assert_eq!(interface("").name(), "e");
    assert_eq!(interface("queues = \"all\"\ncarve = \"refuse\"").queues, None);
    assert_eq!(interface("queues = \"0-2\"").queues, Some(vec![0, 1, 2]));
    assert_eq!(interface("attach_mode = \"native\"").attach_mode, AttachMode::Native);
    assert_eq!(interface("attach_mode = \"generic\"").attach_mode, AttachMode::Generic);
    assert_eq!(interface("bind_mode = \"zero-copy\"").bind_mode, BindMode::ZeroCopy);
    assert_eq!(interface("bind_mode = \"copy\"").bind_mode, BindMode::Copy);
    assert_eq!(interface("need_wakeup = \"off\"").need_wakeup, NeedWakeup::Off);
    assert_eq!(interface("busy_poll = \"preferred\"").busy_poll, BusyPoll::Preferred);
    assert_eq!(interface("verify_checksum = \"partial-ok\"").verify_checksum, VerifyChecksum::PartialOk);
    assert_eq!(interface("gateway = \"10.0.0.1\"").gateway, Some([10, 0, 0, 1].into()));
    let addresses = |text| interface(text).addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(addresses("address = \"10.0.0.2/24\""), ["10.0.0.2/24"]);
    assert_eq!(addresses("address = [\"10.0.0.2/24\", \"10.1.0.2/16\"]"), ["10.0.0.2/24", "10.1.0.2/16"]);
}

const FIRST_KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Lines of `[tcp]`, and what each changes.
fn tcp_cases() -> Vec<(String, TcpOptions)> {
    let default = TcpOptions::default;
    let keepalive =
        KeepAlive { time: Duration::from_secs(7200), interval: Duration::from_secs(75), retries: 9 };
    let cases = [
        ("nodelay = true", TcpOptions { nodelay: true, ..default() }),
        ("recv_buffer = 70_000", TcpOptions { recv_buffer_bytes: 70_000, ..default() }),
        ("recv_buffer_max = \"8MiB\"", TcpOptions { recv_buffer_max_bytes: 8 << 20, ..default() }),
        ("send_buffer = \"64KiB\"", TcpOptions { send_buffer_bytes: 64 << 10, ..default() }),
        ("send_buffer_max = \"1M\"", TcpOptions { send_buffer_max_bytes: 1_000_000, ..default() }),
        ("unsent_low_water = 9_000", TcpOptions { unsent_low_water_bytes: Some(9_000), ..default() }),
        ("max_segment = 536", TcpOptions { max_segment_bytes: Some(536), ..default() }),
        ("user_timeout = \"30s\"", TcpOptions { user_timeout: Some(Duration::from_secs(30)), ..default() }),
        ("linger = \"0s\"", TcpOptions { linger: Some(Duration::ZERO), ..default() }),
        ("time_wait = \"1500ms\"", TcpOptions { time_wait: Duration::from_millis(1500), ..default() }),
        ("ecn = \"ask\"", TcpOptions { ecn: Ecn::Ask, ..default() }),
        ("ecn = \"off\"", TcpOptions { ecn: Ecn::Off, ..default() }),
        ("timestamps = false", TcpOptions { timestamps: false, ..default() }),
        ("sack = false", TcpOptions { sack: false, ..default() }),
        ("window_scaling = false", TcpOptions { window_scaling: false, ..default() }),
        ("quick_acks = 16", TcpOptions { quick_acks: 16, ..default() }),
        ("mtu_probing = false", TcpOptions { mtu_probing: false, ..default() }),
        ("fast_open = true", TcpOptions { fast_open: true, ..default() }),
        ("fast_open_backlog = 16", TcpOptions { fast_open_backlog: 16, ..default() }),
        ("fast_open_no_cookie = true", TcpOptions { fast_open_no_cookie: true, ..default() }),
        (
            "fast_open_key = \"3020100-7060504-b0a0908-f0e0d0c\"",
            TcpOptions { fast_open_keys: FastOpenKeys::from_bytes(&FIRST_KEY), ..default() },
        ),
        ("syn_retries = 2", TcpOptions { syn_retries: 2, ..default() }),
        ("fin_wait2 = \"5s\"", TcpOptions { fin_wait2: Duration::from_secs(5), ..default() }),
        ("tos = 0xb8", TcpOptions { tos: 0xb8, ..default() }),
        ("ttl = 5", TcpOptions { ttl: 5, ..default() }),
        ("pacing = \"on\"", TcpOptions { pacing: Pacing::On, ..default() }),
        ("pacing = \"off\"", TcpOptions { pacing: Pacing::Off, ..default() }),
        ("backlog = 0x10", TcpOptions { backlog: 16, ..default() }),
        (
            "keepalive = { time = \"2h\", interval = \"75s\", retries = 9 }",
            TcpOptions { keepalive: Some(keepalive), ..default() },
        ),
    ];
    let algorithms = CongestionControl::ALL.map(|algorithm| {
        let text = format!("congestion_control = \"{}\"", algorithm.name());
        (text, TcpOptions { congestion_control: algorithm, ..default() })
    });
    let algorithms = algorithms.into_iter().filter(|(_, expected)| *expected != default());
    cases.map(|(text, expected)| (text.to_owned(), expected)).into_iter().chain(algorithms).collect()
}

#[test]
fn every_key_of_tcp_reaches_its_option() {
    for (text, expected) in tcp_cases() {
        assert_ne!(expected, TcpOptions::default(), "{text}: a case that could not fail");
        assert_eq!(tcp(&text), expected, "{text}");
    }
    // Over what holds otherwise.
    let base = TcpOptions { nodelay: true, ..TcpOptions::default() };
    let settings = Settings::parse("[tcp]\nbacklog = 1", "f", base).unwrap();
    assert!(settings.tcp.nodelay && settings.tcp.backlog == 1);
}

/// Whoever adds an option stops here and gives it a key; `local` is a matter of one connection.
macro_rules! assert_all_changed {
    ($options:expr; $($field:ident),*) => {
        let TcpOptions { $($field,)* local: _ } = $options;
        let default = TcpOptions::default();
        $(assert_ne!($field, default.$field, "no key of tcp_cases() changes {}", stringify!($field));)*
    };
}

#[test]
fn every_option_of_tcp_has_its_key() {
    let key_of = |text: &str| text.split(" = ").next().unwrap_or_default().to_owned();
    let by_key: BTreeMap<String, String> =
        tcp_cases().into_iter().map(|(text, _)| (key_of(&text), text)).collect();
    let known: BTreeSet<String> = keys::TCP.present.iter().map(ToString::to_string).collect();
    assert_eq!(by_key.keys().cloned().collect::<BTreeSet<_>>(), known);
    let all: Vec<String> = by_key.into_values().collect();
    assert_all_changed!(
        tcp(&all.join("\n"));
        nodelay,
        recv_buffer_bytes,
        recv_buffer_max_bytes,
        send_buffer_bytes,
        send_buffer_max_bytes,
        unsent_low_water_bytes,
        max_segment_bytes,
        keepalive,
        user_timeout,
        linger,
        time_wait,
        congestion_control,
        pacing,
        ecn,
        timestamps,
        sack,
        window_scaling,
        quick_acks,
        mtu_probing,
        fast_open,
        fast_open_backlog,
        fast_open_keys,
        fast_open_no_cookie,
        syn_retries,
        fin_wait2,
        tos,
        ttl,
        backlog
    );
}

#[test]
fn an_engine_hands_the_options_to_its_application() {
    let side = |text: &str| parse(text).unwrap().apply(Engine::builder());
    let wire = "[[interface]]\nname = \"m\"\naddress = \"10.0.0.1/24\"\n[tcp]\ntime_wait = \"5s\"";
    let other = "[[interface]]\nname = \"m\"\naddress = \"10.0.0.2/24\"";
    let (a, b) = Engine::memory_pair(side(wire), side(other)).unwrap();
    assert_eq!(a.handle().tcp_options().time_wait, Duration::from_secs(5));
    assert_eq!(b.handle().tcp_options(), TcpOptions::default());
}

/// The text, the line, and how the message begins and what the hint says.
const REFUSED: &[(&str, &str, &str)] = &[
    ("workers = 1\n\nwoker = 2", "f:3: unknown key 'woker'", "did you mean 'workers'?"),
    ("zzz = 1", "f:1: unknown key 'zzz'", "known are backend, workers, cpus"),
    ("[tcp]\ntimewait = \"1s\"", "f:2: unknown key 'timewait' in [tcp]", "did you mean 'time_wait'?"),
    ("[memory]\nframes = 1", "f:2: unknown key 'frames' in [memory]", "did you mean 'frames_per_worker'?"),
    ("[[interface]]\nname = \"e\"\nadress = 1", "f:3: unknown key 'adress' in [[interface]]", "'address'"),
    ("[tcp]\nkeepalive = { tim = \"1s\" }", "f:2: unknown key 'tim' in keepalive", "'time'"),
    ("[tcpp]", "f:1: unknown key 'tcpp'", "did you mean 'tcp'?"),
    // Types.
    ("workers = \"2\"", "f:1: 'workers' must be a whole number", ""),
    ("workers = -1", "f:1: 'workers' must be a count from 0 to ", ""),
    ("max_connections = 99_999_999_999", "f:1: 'max_connections' must be a count from 0 to 4294967295", ""),
    ("[tcp]\ntos = 300", "f:2: 'tos' in [tcp] must be a count from 0 to 255", ""),
    ("cpus = 3", "f:1: 'cpus' must be a text in quotes", ""),
    ("cpus = \"3-1\"", "f:1: 'cpus' must be a list such as", ""),
    ("backend = \"dpdk\"", "f:1: 'backend' must be \"xdp\" or \"packet\", not \"dpdk\"", ""),
    ("tcp = 1", "f:1: 'tcp' must be a table", ""),
    ("[interface]\nname = \"e\"", "f:1: 'interface' must begin with [[interface]]", ""),
    ("[[interface]]\nqueues = \"all\"", "f:1: [[interface]] has no name", "name = \"eth0\""),
    ("[[interface]]\nname = \"e\"\nqueues = 3", "f:3: 'queues' in [[interface]] must be a text", ""),
    ("[[interface]]\nname = \"e\"\ngateway = \"x\"", "f:3: 'gateway' in [[interface]] must be an IPv4", ""),
    ("[[interface]]\nname = \"e\"\naddress = [\n\"10.0.0.2/24\",\n\"10.0.0.3\"]", "f:5: 'address'", ""),
    ("[tcp]\nnodelay = 1", "f:2: 'nodelay' in [tcp] must be true or false", ""),
    ("[tcp]\ntime_wait = 60", "f:2: 'time_wait' in [tcp] must be a text in quotes", ""),
    ("[tcp]\ntime_wait = \"60\"", "f:2: 'time_wait' in [tcp]: '60' is not a time such as", ""),
    ("[tcp]\nrecv_buffer = \"6mb\"", "f:2: 'recv_buffer' in [tcp]: '6mb' is not a size", ""),
    ("[tcp]\nrecv_buffer = \"8GiB\"", "f:2: 'recv_buffer' in [tcp] must be less than 4 GiB", ""),
    ("[tcp]\nttl = 5\nunsent_low_water = 0", "f:3: 'unsent_low_water' in [tcp] must be at least 1", ""),
    ("[tcp]\nunsent_low_water = \"0KiB\"", "f:2: 'unsent_low_water' in [tcp] must be at least 1", ""),
    ("[tcp]\nmax_segment = 70000", "f:2: 'max_segment' in [tcp] must be a count from 0 to 65535", ""),
    ("[tcp]\ncongestion_control = \"vegas\"", "f:2: 'congestion_control' in [tcp] must be \"cubic\" or", ""),
    ("[tcp]\nfast_open_key = \"1-2-3\"", "f:2: 'fast_open_key' in [tcp] must be a key such as", ""),
    ("[tcp]\nkeepalive = { time = \"1s\" }", "f:2: 'keepalive' in [tcp] must have time, interval and", ""),
    ("workers = ", "f:1: ", "toml.io"),
    ("workers = 1\nworkers = 2", "f:2: duplicate key", "toml.io"),
    // What does not exist.
    ("backend = \"kernel\"", "f:1: 'backend': \"kernel\": there is no engine over kernel sockets so far", ""),
    ("poll_mode = \"interrupt\"", "f:1: 'poll_mode': \"interrupt\": workers cannot wait", ""),
    (
        "[memory]\nhugepages = \"auto\"",
        "f:2: 'hugepages' in [memory]: packet memory is in ordinary",
        "leave it out",
    ),
    ("[memory]\nframes_per_queue = 1", "f:2: 'frames_per_queue' in [memory]: memory is counted by", ""),
    (
        "[[interface]]\nname = \"e\"\nvlan = [1]",
        "f:3: 'vlan' in [[interface]]: tagged packets",
        "leave it out",
    ),
    ("[[interface]]\nname = \"e\"\nallow = []", "f:3: 'allow' in [[interface]]: the engine does not", ""),
    (
        "[[interface]]\nname = \"e\"\ncarve = \"rss\"",
        "f:3: 'carve' in [[interface]]: \"rss\": queues cannot",
        "",
    ),
    ("[[interface]]\nname = \"e\"\naddress = [\"2001:db8::1/64\"]", "f:3: 'address'", "leave it out"),
    ("[[interface]]\nname = \"e\"\n[[interface]]\nname = \"f\"", "f:3: 'interface': an engine has one", ""),
    ("[tcp]\nlinger = \"3s\"", "f:2: 'linger' in [tcp]: close never waits", "leave it out"),
];

#[test]
fn what_is_wrong_is_refused_by_file_and_line() {
    for (text, message, hint) in REFUSED {
        let error = parse(text).expect_err(text);
        assert_eq!(error.kind, SetupErrorKind::Config, "{text}");
        assert!(error.to_string().starts_with(message), "{text}\n{error}\n{message}");
        assert!(error.hint.contains(hint), "{text}\n{error}");
    }
}

/// A key in the list of known ones that nobody reads would be refused as unknown with itself as the suggestion.
#[test]
fn what_is_suggested_is_read() {
    let keys = |known: keys::Known, head: &str| -> Vec<String> {
        known.present.iter().map(|key| format!("{head}{key} = []")).collect()
    };
    let texts = [
        keys(keys::TOP, ""),
        keys(keys::MEMORY, "[memory]\n"),
        keys(keys::TCP, "[tcp]\n"),
        keys(keys::INTERFACE, "[[interface]]\nname = \"e\"\n"),
    ];
    for text in texts.concat().iter().filter(|text| !text.ends_with("\nname = []")) {
        if let Err(error) = parse(text) {
            assert!(!error.to_string().contains("unknown key"), "{text}: {error}");
        }
    }
}

#[test]
fn the_example_has_every_key_and_is_read() {
    let text = include_str!("../../../../deploy/ringwire.toml");
    let settings = Settings::parse(text, "deploy/ringwire.toml", TcpOptions::default()).unwrap();
    assert_eq!(settings.interface.unwrap().name(), "eth0");
    for known in [keys::TOP, keys::INTERFACE, keys::MEMORY, keys::TCP] {
        for key in known.present {
            // One is of no use beside another that is there.
            let says = |line: &str| {
                line.trim_start_matches("# ").starts_with(&format!("{key} = "))
                    || line.trim_matches(['[', ']']) == *key
            };
            assert!(text.lines().any(says), "{key}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Settings::read(Path::new("/nonexistent/ringwire.toml"), TcpOptions::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot read the configuration /nonexistent/ringwire.toml: "),
        "{error}"
    );
    assert_eq!(error.errno, Some(2));
}
