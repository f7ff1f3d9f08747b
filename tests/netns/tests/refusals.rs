//! What an operator gets wrong: one line that says what, one that says what to do, exit code 3, and nothing left behind.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{self, Command};
use std::time::Duration;

use ringwire::frame::Geometry;
use ringwire::{BindError, TcpOptions};
use ringwire_lab::{Lab, Node};
use ringwire_netns::{Addressing, Scene, program, within};
use ringwire_xsk::{Umem, UmemOptions, XskConfig, XskPort};

const LIMIT: Duration = Duration::from_secs(30);
const GRANT: &str = "hint: sudo, or: sudo setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep ";
const SERVE: [&str; 5] = ["serve", "echo", "-i", "eth0", "--duration=100ms"];
const EXIT_REFUSED: i32 = 3;

/// How a run of the command ended.
#[derive(Debug)]
struct Ended {
    exit: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs `ringwire` under `wrapper`, a program that starts another one, inside `node`.
fn run(node: &Node, wrapper: &[&str], args: &[&str]) -> Ended {
    let program = program::ringwire().to_str().expect("a path of text");
    let words: Vec<&str> = wrapper.iter().chain(&[program]).chain(args).copied().collect();
    let output = node.command(words[0]).args(&words[1..]).output().expect("the command starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the command speaks text");
    Ended { exit: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The two lines of a refusal, after which the interface is as it was.
#[track_caller]
fn refusal(node: &Node, wrapper: &[&str], args: &[&str]) -> (String, String) {
    let ended = run(node, wrapper, args);
    assert_eq!(ended.exit, Some(EXIT_REFUSED), "{ended:?}");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let [what, hint] = lines[..] else { panic!("not two lines: {ended:?}") };
    assert!(hint.starts_with("hint: ") && hint.len() > "hint: ".len(), "{ended:?}");
    assert_eq!(ended.stdout, "", "it served all the same");
    (what.to_owned(), hint.to_owned())
}

/// Whether an XDP program sits on an interface of the node.
fn runs_xdp(node: &Node) -> bool {
    let output = node.command("ip").args(["-details", "link"]).output().expect("iproute2 is installed");
    String::from_utf8(output.stdout).expect("text").contains("prog/xdp")
}

/// A test's own scene, with the command built before the clock runs.
fn bounded(test: impl FnOnce(&Scene) + Send + 'static) {
    program::ringwire();
    within(LIMIT, || test(&Scene::new(Addressing::Shared).may_be_empty()));
}

#[test]
fn the_missing_capability_is_named() {
    bounded(|scene| {
        let cases = [
            ("-bpf,-sys_admin", "cannot load the steering program: CAP_BPF is missing"),
            ("-net_admin,-sys_admin", "cannot load the steering program: CAP_NET_ADMIN is missing"),
            ("-net_raw", "cannot open an AF_XDP socket: CAP_NET_RAW is missing (EPERM)"),
        ];
        let program = program::ringwire().display().to_string();
        for (dropped, expected) in cases {
            let wrapper = ["setpriv", "--inh-caps=-all", "--bounding-set", dropped];
            let (what, hint) = refusal(&scene.host, &wrapper, &SERVE);
            assert_eq!((what.as_str(), hint), (expected, format!("{GRANT}{program}")), "{dropped}");
            assert!(!runs_xdp(&scene.host), "{dropped}");
            let doctor = run(&scene.host, &wrapper, &["doctor", "-i", "eth0"]);
            let capability =
                expected.split_whitespace().find(|word| word.starts_with("CAP_")).expect("named");
            assert_eq!(doctor.exit, Some(EXIT_REFUSED), "{doctor:?}");
            assert!(
                doctor.stdout.contains(&format!("FAIL  capabilities  {capability} is missing")),
                "{doctor:?}"
            );
        }
    });
}

#[test]
fn an_ordinary_user_is_told_what_to_grant() {
    bounded(|scene| {
        // Somewhere that every user can reach.
        let copy = Removed(std::env::temp_dir().join(format!("ringwire-refusals-{}", process::id())));
        fs::copy(program::ringwire(), &copy.0).expect("a copy");
        let path = copy.0.to_str().expect("a path of text");
        let mut command = scene.host.command("setpriv");
        command.args(["--reuid=65534", "--clear-groups", path]).args(SERVE);
        let output = command.output().expect("setpriv is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(EXIT_REFUSED), "{said}");
        let expected = format!("cannot load the steering program: CAP_BPF is missing\n{GRANT}{path}\n");
        assert_eq!(said, expected);
    });
}

/// A file that goes when the test does.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_low_port_without_the_capability_for_it() {
    bounded(|scene| {
        let wrapper = ["setpriv", "--inh-caps=-all", "--bounding-set=-net_bind_service"];
        let args = [&SERVE[..], &["--port=80"]].concat();
        let (what, hint) = refusal(&scene.host, &wrapper, &args);
        assert_eq!(what, "cannot reserve 10.77.0.1:80/tcp: bind: Permission denied (os error 13)");
        assert_eq!(
            hint,
            "hint: ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or use a higher --port"
        );
        assert!(!runs_xdp(&scene.host));
    });
}

#[test]
fn a_wrong_interface_lists_the_right_ones() {
    bounded(|scene| {
        for command in ["serve", "doctor"] {
            let args: &[&str] =
                if command == "serve" { &["serve", "echo", "-i", "eth7"] } else { &["doctor", "-i", "eth7"] };
            let ended = run(&scene.host, &[], args);
            assert_eq!(ended.exit, Some(EXIT_REFUSED), "{ended:?}");
            let said = ended.stderr + &ended.stdout;
            assert!(said.contains("eth7") && said.contains("lo, eth0"), "{said}");
        }
        let (what, hint) = refusal(&scene.host, &[], &["serve", "echo", "-i", "eth7"]);
        assert_eq!(what, "there is no interface 'eth7' here: No such device (os error 19)");
        assert_eq!(hint, "hint: interfaces of this network namespace: lo, eth0");
        let (what, _) = refusal(&scene.host, &[], &[&SERVE[..], &["--queues=3"]].concat());
        assert_eq!(what, "eth0 has no queue 3: it has 1");
    });
}

#[test]
fn an_interface_that_is_down() {
    bounded(|scene| {
        let down = scene.host.command("ip").args(["link", "set", "eth0", "down"]).status();
        assert!(down.expect("iproute2 is installed").success());
        let (what, hint) = refusal(&scene.host, &[], &SERVE);
        assert_eq!((what.as_str(), hint.as_str()), ("interface 'eth0' is down", "hint: ip link set eth0 up"));
        let doctor = run(&scene.host, &[], &["doctor", "-i", "eth0"]);
        assert_eq!(doctor.exit, Some(EXIT_REFUSED));
        assert!(
            doctor.stdout.contains("FAIL  interface     eth0 is down   ip link set eth0 up"),
            "{doctor:?}"
        );
    });
}

#[test]
fn a_port_that_a_kernel_socket_holds_names_the_holder() {
    bounded(|scene| {
        let at = (scene.ip(), 9000);
        let holder = format!("(pid {})", process::id());
        let tcp = scene.host.run(|| TcpListener::bind(at)).expect("a free port");
        let (what, hint) = refusal(&scene.host, &[], &SERVE);
        assert!(what.starts_with("10.77.0.1:9000/tcp is held by ") && what.ends_with(&holder), "{what}");
        assert_eq!(hint, "hint: another --port, or end what holds this one: ss -ltnup");
        drop(tcp);
        let udp = scene.host.run(|| UdpSocket::bind(at)).expect("a free port");
        let (what, _) = refusal(&scene.host, &[], &SERVE);
        assert!(what.starts_with("10.77.0.1:9000/udp is held by ") && what.ends_with(&holder), "{what}");
        drop(udp);
        assert_eq!(run(&scene.host, &[], &SERVE).exit, Some(0), "the port is free again");
    });
}

#[test]
fn an_address_that_is_not_ours_to_use() {
    bounded(|scene| {
        let own = format!("--address={}/24", scene.ip());
        let (what, _) = refusal(&scene.host, &[], &[&SERVE[..], &[&own]].concat());
        assert_eq!(
            what,
            format!("{} is already an address of eth0: it cannot be dedicated to the engine too", scene.ip())
        );
        // The kernel has it elsewhere.
        let added = scene.host.command("ip").args(["address", "add", "10.99.0.1/24", "dev", "lo"]).status();
        assert!(added.expect("iproute2 is installed").success());
        let (what, _) = refusal(&scene.host, &[], &[&SERVE[..], &["--address=10.99.0.1/24"]].concat());
        assert_eq!(what, "10.99.0.1 is already an address of lo: it cannot be dedicated to the engine too");

        let mut worker = scene.engine().into_workers().remove(0).start();
        let elsewhere = "10.99.0.7:80".parse().expect("an address");
        let error = worker.listen(elsewhere, &TcpOptions::default()).expect_err("not an address of eth0");
        assert_eq!(error, BindError::AddressNotAvailable(elsewhere));
        assert_eq!(error.to_string(), "10.99.0.7:80 is not an address of this engine");
    });
}

#[test]
fn an_interface_without_an_address() {
    bounded(|scene| {
        let flushed = scene.host.command("ip").args(["address", "flush", "dev", "eth0"]).status();
        assert!(flushed.expect("iproute2 is installed").success());
        let (what, _) = refusal(&scene.host, &[], &SERVE);
        assert_eq!(what, "interface 'eth0' has no IPv4 address to share");
    });
}

#[test]
fn too_little_memory_may_be_locked() {
    bounded(|scene| {
        let limited = |limit| ["prlimit", limit, "setpriv", "--inh-caps=-all", "--bounding-set=-ipc_lock"];
        let eight = limited("--memlock=8388608:8388608");
        let (what, hint) = refusal(&scene.host, &eight, &[&SERVE[..], &["--frames=32768"]].concat());
        assert_eq!(what, "cannot register 64 MiB of packet memory: RLIMIT_MEMLOCK is 8 MiB (ENOBUFS)");
        assert_eq!(hint, "hint: grant CAP_IPC_LOCK, raise memlock, or --frames 2048 (4 MiB)");
        // What the hint says works, and so does leaving the size to the engine.
        for frames in [&["--frames=2048"][..], &[]] {
            let ended = run(&scene.host, &eight, &[&SERVE[..], frames].concat());
            assert_eq!(ended.exit, Some(0), "{ended:?}");
        }
        // Not even the smallest memory fits: no number to recommend.
        let (what, hint) = refusal(&scene.host, &limited("--memlock=65536:65536"), &SERVE);
        assert!(what.ends_with("RLIMIT_MEMLOCK is 64 KiB (ENOBUFS)"), "{what}");
        assert_eq!(hint, "hint: grant CAP_IPC_LOCK, or raise memlock");
    });
}

#[test]
fn a_second_engine_on_one_interface_names_the_first() {
    bounded(|scene| {
        let mut first = program::serve(&scene.host, &["echo", "-i", "eth0"], Duration::from_secs(5));
        let holder = format!(", ringwire pid {})", first.child.id());
        let (what, hint) = refusal(&scene.host, &[], &SERVE);
        assert!(what.starts_with("eth0 already runs XDP program 'steer' (id "), "{what}");
        assert!(what.ends_with(&holder) && hint.contains("ringwire pid"), "{what}\n{hint}");
        let doctor = run(&scene.host, &[], &["doctor", "-i", "eth0"]);
        assert_eq!(doctor.exit, Some(EXIT_REFUSED));
        assert!(
            doctor.stdout.contains("FAIL  xdp           eth0 already runs XDP program 'steer' (id "),
            "{doctor:?}"
        );
        // The first one was not disturbed.
        assert!(runs_xdp(&scene.host));
        first.child.signal(rustix::process::Signal::TERM.as_raw()).expect("a signal");
        assert!(first.child.wait().expect("it ends").success());
        assert!(!runs_xdp(&scene.host));
        assert_eq!(run(&scene.host, &[], &SERVE).exit, Some(0));
    });
}

#[test]
fn another_program_on_the_interface_is_named_and_left_alone() {
    bounded(|scene| {
        let object = Removed(std::env::temp_dir().join(format!("ringwire-foreign-{}.o", process::id())));
        compile("__attribute__((section(\"xdp\"), used)) int foreigner(void *ctx) { return 2; }", &object.0);
        let path = object.0.to_str().expect("a path of text");
        let attached = scene
            .host
            .command("ip")
            .args(["link", "set", "eth0", "xdpgeneric", "obj", path, "sec", "xdp"])
            .output();
        let attached = attached.expect("iproute2 is installed");
        assert!(attached.status.success(), "{attached:?}");
        let (what, hint) = refusal(&scene.host, &[], &SERVE);
        assert!(what.starts_with("eth0 already runs XDP program 'foreigner' (id "), "{what}");
        assert_eq!(hint, "hint: use another interface, or detach it: ip link set dev eth0 xdp off");
        let doctor = run(&scene.host, &[], &["doctor", "-i", "eth0"]);
        let fact = "FAIL  xdp           eth0 already runs XDP program 'foreigner' (id ";
        assert!(doctor.stdout.contains(fact), "{doctor:?}");
        let output = scene.host.command("ip").args(["-details", "link"]).output().expect("iproute2");
        assert!(String::from_utf8_lossy(&output.stdout).contains("foreigner"), "it was removed");
    });
}

/// Made with four, of which two are in use.
#[test]
fn the_doctor_counts_the_queues_in_use() {
    program::ringwire();
    within(LIMIT, || {
        let scene = Scene::shaped(Addressing::Shared, |link| link.queues(4)).may_be_empty();
        let set = scene.host.command("ethtool").args(["-L", "eth0", "rx", "2", "tx", "2"]).output();
        let set = set.expect("ethtool is installed");
        assert!(set.status.success(), "{set:?}");
        let doctor = run(&scene.host, &[], &["doctor", "-i", "eth0"]);
        assert!(doctor.stdout.contains(" 2 receive queues, "), "{doctor:?}");
    });
}

/// The compiler that the build of the steering program needs anyway.
fn compile(source: &str, object: &std::path::Path) {
    let source_path = Removed(object.with_extension("c"));
    fs::write(&source_path.0, source).expect("a file");
    let status = Command::new("clang")
        .args(["-O2", "-g", "-target", "bpf", "-c"])
        .arg(&source_path.0)
        .arg("-o")
        .arg(object)
        .status();
    assert!(status.expect("clang is installed").success());
}

#[test]
fn a_queue_that_another_socket_has() {
    bounded(|scene| {
        let geometry = Geometry { frame_bytes: 2048, frame_count: 64 };
        let options = UmemOptions { fill_ring: 64, completion_ring: 64, ..UmemOptions::default() };
        let config = XskConfig { rx_ring: 64, tx_ring: 64, ..XskConfig::new("eth0", 0) };
        let held = scene.host.run(|| {
            let (umem, region) = Umem::register(geometry, options).expect("packet memory");
            let port = XskPort::open(&umem, &config).expect("a free queue");
            (port, umem, region)
        });
        let (what, hint) = refusal(&scene.host, &[], &SERVE);
        let start = "queue 0 of eth0 is in use by another AF_XDP socket, still after ";
        assert!(what.starts_with(start) && what.ends_with(" s (EBUSY)"), "{what}");
        assert!(hint.starts_with("hint: ss --xdp -p names the owner"), "{hint}");
        assert!(!runs_xdp(&scene.host), "the program stayed behind");
        drop(held);
        assert_eq!(run(&scene.host, &[], &SERVE).exit, Some(0), "the queue is free again");
    });
}

#[test]
fn a_host_without_a_route_is_told_to_name_the_interface() {
    program::ringwire();
    within(LIMIT, || {
        let lab = Lab::new().expect("a lab");
        let node = lab.node("lonely").expect("a node");
        let (what, hint) = refusal(&node, &[], &["serve", "echo"]);
        assert_eq!(what, "no route to 198.51.100.1: Network is unreachable (os error 101)");
        assert!(hint.starts_with("hint: name the interface with -i"), "{hint}");
    });
}
